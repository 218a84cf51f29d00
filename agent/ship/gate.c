#include "ship/gate.h"

#include "backoff.h"
#include "random.h"
#include "run/log.h"
#include "run/loop.h"
#include "ship/client.h"
#include "ship/window.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    GATE_SAY_EVERY_MS = 60 * 1000,
    GATE_SHORT_MS = 1000,
    GATE_WITNESS_MS = 60 * 1000,
    GATE_BODY_MIN = 64 * 1024, /* bytes: nobody refuses less for its size alone */
    GATE_BODY_TRY = 64,        /* good answers after which a larger body is tried again */
};

/* The destination as a whole, by what is wrong.  Credentials and operator's matters are nothing
 * that a quick retry mends; but a person who mended them should not wait long either. */
static const struct backoff backoff_by_class[] = {
    [AWS_ERROR_THROTTLED] = {.base_ms = 1000, .cap_ms = 30 * 1000},
    [AWS_ERROR_TRANSIENT] = {.base_ms = 200, .cap_ms = 30 * 1000},
    [AWS_ERROR_CREDENTIALS] = {.base_ms = 10 * 1000, .cap_ms = 30 * 1000},
    [AWS_ERROR_OPERATOR] = {.base_ms = 10 * 1000, .cap_ms = 30 * 1000},
    [AWS_ERROR_REFUSED] = {.base_ms = 10 * 1000, .cap_ms = 30 * 1000},
};

struct gate {
    struct loop *loop;
    struct random *random;
    const struct service *service;
    const char *stream, *url;
    struct list waiting; /* of gate_user, in turn */
    uint32_t in_flight_max;

    struct window window;
    uint32_t tries;         /* requests in a row that failed as a whole; 0: all is well */
    uint64_t not_before_ms; /* while tries > 0: no request before */
    uint64_t failing_mark;  /* requests up to here were sent before the last failure counted */
    uint64_t failing_since_ms;
    uint64_t accepted_ms; /* monotonic: when a record was accepted last; 0: never */

    uint64_t body_max;  /* bytes */
    uint32_t body_good; /* good answers since it changed */

    struct log_limit trouble[ARRAY_LEN(backoff_by_class)], refused_said, buried_said;
    enum aws_error_class why; /* while it fails: of the last failure */
    bool trouble_said;        /* and not taken back yet */

    struct loop_turn turn;
    struct loop_timer again;
};

static bool gate_may_send(const struct gate *g)
{
    if (gate_is_failing(g))
        return g->window.in_flight == 0 && g->not_before_ms <= loop_now_ms(g->loop);
    return window_may_send(&g->window);
}

/* Each of those who wait has its turn, as long as there is room. */
static void gate_turn(struct loop_turn *t)
{
    struct gate *g = CONTAINER_OF(t, struct gate, turn);

    while (!list_is_empty(&g->waiting) && gate_may_send(g)) {
        struct gate_user *u = CONTAINER_OF(list_take(&g->waiting), struct gate_user, node);

        u->send(u);
    }
    if (!list_is_empty(&g->waiting) && gate_is_failing(g) && g->window.in_flight == 0)
        loop_timer_set(g->loop, &g->again, g->not_before_ms);
    else
        loop_timer_cancel(g->loop, &g->again);
}

static void gate_again(struct loop_timer *t)
{
    struct gate *g = CONTAINER_OF(t, struct gate, again);

    loop_want_turn(g->loop, &g->turn);
}

void gate_want(struct gate *g, struct gate_user *u)
{
    if (list_is_empty(&u->node))
        list_append(&g->waiting, &u->node);
    loop_want_turn(g->loop, &g->turn);
}

uint64_t gate_sent(struct gate *g)
{
    return window_send(&g->window);
}

/* --- what comes back --- */

/* The destination answered well: whatever was wrong with it as a whole is over. */
static void gate_recovered(struct gate *g)
{
    if (!gate_is_failing(g))
        return;
    g->tries = 0;
    g->not_before_ms = 0;
    window_restart(&g->window);

    /* The last word was that it fails: take that back. */
    if (g->trouble_said)
        log_info("stream '%s': delivering again after %.1f s", g->stream,
                 (double)(loop_now_ms(g->loop) - g->failing_since_ms) / 1000);
    g->trouble_said = false;
}

void gate_answered(struct gate *g, uint64_t number, bool accepted, bool throttled)
{
    gate_recovered(g);
    if (accepted)
        g->accepted_ms = loop_now_ms(g->loop);
    if (throttled)
        window_throttled(&g->window, number);
    else
        window_clean(&g->window);
    if (g->body_max < UINT64_MAX && ++g->body_good >= GATE_BODY_TRY) {
        g->body_max += g->body_max / 8;
        g->body_good = 0;
    }
    loop_want_turn(g->loop, &g->turn);
}

void gate_ended(struct gate *g)
{
    window_ended(&g->window);
    loop_want_turn(g->loop, &g->turn);
}

/* Say it at once, and then once a minute for each kind of trouble. */
static void gate_say_trouble(struct gate *g, const struct gate_user *u,
                             const struct client_answer *a, uint64_t wait_ms)
{
    uint64_t held;
    bool loud = a->class != AWS_ERROR_THROTTLED && a->class != AWS_ERROR_TRANSIENT;

    if (!log_limit_pass(&g->trouble[a->class], loop_now_ms(g->loop), GATE_SAY_EVERY_MS, &held))
        return;
    g->trouble_said = true;
    log_line(loud ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
             "flow %s: stream '%s' at %s: %.*s: %.*s; %s; nothing is lost, reading waits, next "
             "try in %.1f s; %" PRIu64 " more in the last minute%s%.*s",
             u->flow, g->stream, g->url, SLICE_ARG(a->code), SLICE_ARG(a->message),
             aws_error_advice(g->service, a->code, a->message, a->class), (double)wait_ms / 1000,
             held, a->request_id.len > 0 ? "; request id " : "", SLICE_ARG(a->request_id));
}

void gate_failed(struct gate *g, const struct gate_user *u, uint64_t number,
                 const struct client_answer *a)
{
    uint64_t now = loop_now_ms(g->loop), wait;

    if (a->class == AWS_ERROR_THROTTLED)
        window_throttled(&g->window, number);
    else
        window_ended(&g->window);
    loop_want_turn(g->loop, &g->turn);

    /* Those that flew together tell the same news: counting each would end a short trouble with a
     * long wait. */
    if (gate_is_failing(g) && number <= g->failing_mark)
        return;
    g->why = a->class;
    g->failing_mark = g->window.sent;
    if (!gate_is_failing(g))
        g->failing_since_ms = now;

    /* No longer than the trouble has lasted, so that a short one is not answered with a long silence; not
     * before they say, and not all of those who were told the same at the same moment. */
    wait = backoff_delay_ms(&backoff_by_class[a->class], g->tries, g->random);
    if (a->class == AWS_ERROR_TRANSIENT)
        wait = MIN(wait, MAX(now - g->failing_since_ms, (uint64_t)GATE_SHORT_MS));
    if (a->retry_after_ms > wait)
        wait = a->retry_after_ms + random_below(g->random, a->retry_after_ms / 4 + 1);
    g->not_before_ms = now + wait;
    g->tries++;
    gate_say_trouble(g, u, a, wait);
}

void gate_too_large(struct gate *g, uint64_t body_len)
{
    g->body_max = MAX(body_len / 2, (uint64_t)GATE_BODY_MIN);
    g->body_good = 0;
}

void gate_say_refused(struct gate *g, const struct gate_user *u, const struct client_answer *a,
                      const char *fate)
{
    uint64_t held;

    if (log_limit_pass(&g->refused_said, loop_now_ms(g->loop), GATE_SAY_EVERY_MS, &held))
        log_error("flow %s: stream '%s' at %s: refused: %.*s: %.*s; %s; %s; %" PRIu64
                  " more in the last minute%s%.*s",
                  u->flow, g->stream, g->url, SLICE_ARG(a->code), SLICE_ARG(a->message),
                  aws_error_advice(g->service, a->code, a->message, a->class), fate, held,
                  a->request_id.len > 0 ? "; request id " : "", SLICE_ARG(a->request_id));
}

void gate_say_buried(struct gate *g, const struct gate_user *u, const struct client_answer *a)
{
    uint64_t held;

    if (log_limit_pass(&g->buried_said, loop_now_ms(g->loop), GATE_SAY_EVERY_MS, &held))
        log_error("flow %s: stream '%s': a record is refused for good: %.*s: %.*s; it is kept as a "
                  "dead letter (kinetail queue show --dead), all others are delivered; %" PRIu64
                  " more in the last minute",
                  u->flow, g->stream, SLICE_ARG(a->code), SLICE_ARG(a->message), held);
}

/* --- what is known --- */

bool gate_is_failing(const struct gate *g)
{
    return g->tries > 0;
}

bool gate_waits_for_person(const struct gate *g)
{
    return gate_is_failing(g) && g->why == AWS_ERROR_OPERATOR;
}

bool gate_has_witness(const struct gate *g)
{
    return g->accepted_ms > 0 && loop_now_ms(g->loop) - g->accepted_ms <= GATE_WITNESS_MS;
}

uint64_t gate_body_max(const struct gate *g)
{
    return g->body_max;
}

uint32_t gate_window(const struct gate *g)
{
    return gate_is_failing(g) ? 1 : g->window.limit;
}

uint64_t gate_failing_since_ms(const struct gate *g)
{
    return gate_is_failing(g) ? g->failing_since_ms : 0;
}

/* --- life --- */

int gate_new(struct loop *loop, struct random *random, const struct service *service,
             const char *stream, const char *url, struct gate **ret)
{
    struct gate *g = calloc(1, sizeof *g);

    if (g == NULL)
        return -ENOMEM;
    g->loop = loop;
    g->random = random;
    g->service = service;
    g->stream = stream;
    g->url = url;
    g->body_max = UINT64_MAX;
    list_init(&g->waiting);
    window_init(&g->window, 1);
    loop_turn_init(&g->turn, gate_turn);
    if (loop_timer_init(loop, &g->again, gate_again) < 0) {
        gate_free(g);
        return -ENOMEM;
    }
    *ret = g;
    return 0;
}

void gate_free(struct gate *g)
{
    if (g == NULL)
        return;
    loop_turn_cancel(&g->turn);
    loop_timer_done(g->loop, &g->again);
    free(g);
}

void gate_join(struct gate *g, struct gate_user *u)
{
    g->in_flight_max += u->in_flight_max;
    window_set_max(&g->window, g->in_flight_max);
}

void gate_leave(struct gate *g, struct gate_user *u)
{
    list_remove(&u->node);
    g->in_flight_max -= u->in_flight_max;
    window_set_max(&g->window, g->in_flight_max);
}
