#include "ship/window.h"

#include "util.h"

#include <assert.h>

void window_init(struct window *w, uint32_t max)
{
    *w = (struct window){.max = max, .limit = max};
}

void window_set_max(struct window *w, uint32_t max)
{
    bool open = w->limit == w->max;

    w->max = MAX(max, 1U);
    w->limit = open ? w->max : MIN(w->limit, w->max);
}

void window_restart(struct window *w)
{
    w->limit = 1;
    w->clean = 0;
    w->slow = true;
    w->mark = w->sent; /* what is in the air knows only how it was before */
}

bool window_may_send(const struct window *w)
{
    return w->in_flight < w->limit;
}

uint64_t window_send(struct window *w)
{
    w->in_flight++;
    return ++w->sent;
}

void window_ended(struct window *w)
{
    assert(w->in_flight > 0);
    w->in_flight--;
}

void window_clean(struct window *w)
{
    window_ended(w);
    if (++w->clean < w->limit)
        return;
    w->clean = 0;
    w->limit = MIN(w->slow ? 2 * w->limit : w->limit + 1, w->max);
}

void window_throttled(struct window *w, uint64_t number)
{
    window_ended(w);
    w->clean = 0;
    w->slow = false;

    /* Several answers of one burst tell the same news; halving for each would close the window
     * because of a single hiccup. */
    if (number <= w->mark)
        return;
    w->mark = w->sent;
    w->limit = MAX(w->limit / 2, 1U);
}
