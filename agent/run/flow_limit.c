#include "run/config.h"
#include "run/destination.h"
#include "run/flow_inner.h"
#include "run/outfit.h"
#include "ship/service.h"
#include "ship/summary.h"
#include "util.h"

#include <inttypes.h>

enum {
    FLOW_HOLD_MS = 15 * 60 * 1000, /* no longer than that … */
    FLOW_HOLD_TRIES = 4, /* … and no more often, where records are taken all the while */
};

/* The stream has said something new. */
static void flow_told(void *user, const struct summary_news *n)
{
    struct flow *f = user;
    int r;

    if (n->record_max == f->record_max)
        return;
    r = outfit_set_record_max(f->outfit, (size_t)n->record_max);
    if (r < 0) {
        log_error("flow %s: records of up to %" PRIu64 " KiB: %s; they stay at %" PRIu64 " KiB",
                  f->config->name, n->record_max / 1024, strerrordesc_np(-r), f->record_max / 1024);
        return;
    }
    f->record_max = n->record_max;
    deliver_set_bytes_max(f->deliver, n->record_max);
    f->place.noted(f->place.user); /* it may take more memory now */
    LIST_EACH(&f->waiting, node, after)
    {
        struct tracked *t = CONTAINER_OF(node, struct tracked, waiting);

        if (t->held)
            flow_news(f, t->source);
    }
}

static void flow_trim(void *user)
{
    outfit_trim(((struct flow *)user)->outfit);
}

void flow_join_limits(struct flow *f)
{
    struct summary *s = f->place.destination->summary;

    f->thrift.trim = flow_trim;
    f->thrift.user = f;
    thrift_join(f->place.thrift, &f->thrift);
    if (s == NULL)
        return;
    f->summary.told = flow_told;
    f->summary.user = f;
    summary_join(s, &f->summary);
    flow_told(f, summary_get(s));
}

void flow_leave_limits(struct flow *f)
{
    thrift_leave(&f->thrift);
    summary_leave(&f->summary);
}

bool flow_limit_may_rise(const struct flow *f)
{
    const struct summary *s = f->place.destination->summary;

    if (s == NULL || f->draining || f->rescuing || summary_state(s) != SUMMARY_ASKING ||
        loop_now_ms(f->place.loop) >= summary_since_ms(s) + FLOW_HOLD_MS)
        return false;
    return summary_tries(s) < FLOW_HOLD_TRIES || deliver_stats(f->deliver)->requests_ok == 0;
}

void flow_doubt_limit(const struct flow *f, uint64_t size)
{
    if (f->place.destination->summary != NULL && size > SUMMARY_RECORD_MIN)
        summary_doubt(f->place.destination->summary);
}

size_t flow_line_max(const struct flow *f, const struct tracked *t)
{
    return t->at == t->source->at.offset ? mill_record_max(f->mill, &t->mill)
                                         : (size_t)f->record_max;
}
