#include "run/config.h"
#include "run/flow_inner.h"
#include "tail/follower.h"
#include "util.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { FLOW_AGAIN_MS = 1000 };

/* --- waiting for more --- */

/* What comes first has a deadline: the event's end, or the record's that it is joined to. */
static uint64_t deadline_of(const struct tracked *t)
{
    const struct config_flow *c = t->flow->config;
    uint64_t event = t->open ? t->grown_ms + c->multiline.timeout_ms : UINT64_MAX;
    uint64_t joined = t->open_joined ? t->since_ms + c->batch_linger_ms : UINT64_MAX;

    return MIN(event, joined);
}

static void set_timer(struct flow *f)
{
    if (list_is_empty(&f->waiting))
        loop_timer_cancel(f->place.loop, &f->timer);
    else
        loop_timer_set(f->place.loop, &f->timer,
                       CONTAINER_OF(f->waiting.next, struct tracked, waiting)->deadline_ms);
}

/* In the order of their deadlines; most often the new one is the last. */
static void insert(struct flow *f, struct tracked *t)
{
    struct list *before = f->waiting.prev;

    while (before != &f->waiting &&
           CONTAINER_OF(before, struct tracked, waiting)->deadline_ms > t->deadline_ms)
        before = before->prev;
    list_append(before->next, &t->waiting); /* behind `before` */
}

void flow_wait(struct tracked *t, const struct mill_report *report, uint64_t seen)
{
    struct flow *f = t->flow;
    uint64_t now = loop_now_ms(f->place.loop);
    bool was_open = t->open || t->open_joined;

    t->at_header = report->end == MILL_HEADER && t->carry != NULL;
    t->open = (report->end == MILL_OPEN && report->event_open) || t->at_header;
    t->open_joined = report->end == MILL_OPEN && report->joined_open;
    if (!was_open || t->at != report->offset)
        t->since_ms = now;
    if (!was_open || t->seen != seen)
        t->grown_ms = now;
    t->seen = seen;
    t->source->open = t->open || t->open_joined;
    list_remove(&t->waiting);
    if (t->open || t->open_joined) {
        t->deadline_ms = deadline_of(t);
        insert(f, t);
    }
    set_timer(f);
}

void flow_wait_no_more(struct tracked *t)
{
    t->open = t->open_joined = t->at_header = t->source->open = false;
    if (list_is_empty(&t->waiting))
        return;
    list_remove(&t->waiting);
    set_timer(t->flow);
}

void flow_try_again(struct tracked *t)
{
    list_remove(&t->ready);
    list_remove(&t->waiting);
    t->deadline_ms = loop_now_ms(t->flow->place.loop) + FLOW_AGAIN_MS;
    insert(t->flow, t);
    set_timer(t->flow);
}

bool flow_is_due(const struct tracked *t, uint64_t end)
{
    return t->open && end == t->seen &&
           loop_now_ms(t->flow->place.loop) >= t->grown_ms + t->flow->config->multiline.timeout_ms;
}

bool flow_joined_is_due(const struct tracked *t)
{
    return t->open_joined &&
           loop_now_ms(t->flow->place.loop) >= t->since_ms + t->flow->config->batch_linger_ms;
}

void flow_timer_fires(struct loop_timer *timer)
{
    struct flow *f = CONTAINER_OF(timer, struct flow, timer);
    uint64_t now = loop_now_ms(f->place.loop);

    while (!list_is_empty(&f->waiting)) {
        struct tracked *t = CONTAINER_OF(f->waiting.next, struct tracked, waiting);

        if (t->deadline_ms > now)
            break;
        list_remove(&t->waiting);
        flow_news(f, t->source); /* it is read again, and found to be due */
    }
    set_timer(f);
}

/* --- from one file to the next --- */

static void free_carry(struct tracked *t)
{
    t->flow->carry_bytes -= t->carry->text.len;
    buf_done(&t->carry->text);
    free(t->carry);
    t->carry = NULL;
}

bool flow_hand_over(struct tracked *t, struct slice open, struct cursor end)
{
    struct flow *f = t->flow;
    struct source *s = t->source, *next = s->before;
    struct tracked *to = next != NULL ? next->user : NULL;
    struct carry *c;

    if (to == NULL || to->carry != NULL || next->at.offset > 0)
        return false;
    if (f->carry_count == FLOW_CARRIES || open.len > FLOW_CARRY_BYTES - f->carry_bytes) {
        f->carry_refused = true;
        return false;
    }
    c = calloc(1, sizeof *c);
    if (c == NULL)
        return false;
    buf_init(&c->text, open.len);
    if (buf_append(&c->text, open) < 0) {
        free(c);
        return false;
    }
    c->held = ledger_extent(&t->ledger, &f->pool, f->fills--);
    extent_out(c->held);
    f->carry_count++;
    f->carry_bytes += open.len;
    if (t->carry != NULL) {
        /* It went on here, and does again there: both files wait for it. */
        c->held->partner = t->carry->held;
        free_carry(t);
    }
    f->stats.bytes_read += end.offset - s->at.offset;
    (void)ledger_advance(&t->ledger, end);
    source_move(s, end);
    flow_forget_place(t);
    to->carry = c;
    return true;
}

void flow_carry_done(struct tracked *t)
{
    struct extent *held;

    if (t->carry == NULL)
        return;
    held = t->carry->held;
    free_carry(t);
    flow_let_go(t->flow, held);
}

/* Whether nobody can read this file again. */
static bool is_gone(const struct source *s)
{
    struct stat st;

    return s->ending && (s->fd < 0 || fstat(s->fd, &st) < 0 || st.st_nlink == 0);
}

bool flow_carry_must_leave(const struct tracked *t)
{
    const struct extent *held = t->carry != NULL ? t->carry->held : NULL;

    for (; held != NULL; held = held->partner) {
        const struct tracked *from = held->ledger->owner;

        if (is_gone(from->source))
            return true;
    }
    return false;
}

bool flow_has_carry_that_must(const struct flow *f)
{
    if (f->carry_count == 0)
        return false;
    LIST_EACH(&f->tracked, node, after)
    {
        if (flow_carry_must_leave(CONTAINER_OF(node, struct tracked, all)))
            return true;
    }
    return false;
}

void flow_carry_again(struct flow *f)
{
    /* Half of it: those that wait are gone through seldom. */
    if (!f->carry_refused || f->carry_count > FLOW_CARRIES / 2 ||
        f->carry_bytes > FLOW_CARRY_BYTES / 2)
        return;
    f->carry_refused = false;
    LIST_EACH(&f->waiting, node, after)
    {
        struct tracked *t = CONTAINER_OF(node, struct tracked, waiting);

        if (t->open && t->source->before != NULL)
            flow_news(f, t->source);
    }
}
