#include "ship/deliver.h"

#include "backoff.h"
#include "random.h"
#include "run/log.h"
#include "run/loop.h"
#include "ship/client.h"
#include "ship/window.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
    DELIVER_TIMEOUT_MS = 300 * 1000, /* a request on a slow line; http ends a still one */
    DELIVER_SAY_EVERY_MS = 60 * 1000,
};

/* Records throttled or failed inside an answer: the shard is busy, not gone.  A batch that makes
 * progress starts at the base again. */
static const struct backoff backoff_records = {.base_ms = 100, .cap_ms = 30 * 1000};

/* The destination as a whole, by what is wrong.  Credentials and operator's matters are nothing
 * that a quick retry mends; but a person who mended them should not wait long either. */
static const struct backoff backoff_by_class[] = {
    [AWS_ERROR_THROTTLED] = {.base_ms = 1000, .cap_ms = 30 * 1000},
    [AWS_ERROR_TRANSIENT] = {.base_ms = 200, .cap_ms = 30 * 1000},
    [AWS_ERROR_CREDENTIALS] = {.base_ms = 10 * 1000, .cap_ms = 30 * 1000},
    [AWS_ERROR_OPERATOR] = {.base_ms = 10 * 1000, .cap_ms = 30 * 1000},
    [AWS_ERROR_REFUSED] = {.base_ms = 10 * 1000, .cap_ms = 30 * 1000},
};

/* A batch and its request. */
struct parcel {
    struct batch batch;
    struct client_call call;
    struct deliver *deliver;
};

struct deliver {
    struct loop *loop;
    struct random *random;
    struct client *client;
    struct deliver_settings settings;
    struct deliver_events events;
    struct deliver_stats stats;

    struct parcel *parcels; /* owns */
    uint32_t parcel_count;
    struct list idle, sealed, flying; /* of batches */
    struct batch *filling;            /* or NULL */
    uint64_t fills;
    uint32_t records; /* that went into batches, wrapping; without those of the one being filled */
    bool room_wanted, hurry;

    struct window window;
    uint32_t tries;         /* requests in a row that failed as a whole; 0: all is well */
    uint64_t not_before_ms; /* while tries > 0: no request before */
    uint64_t failing_mark;  /* requests up to here were sent before the last failure counted */
    uint64_t failing_since_ms;
    struct log_limit trouble[ARRAY_LEN(backoff_by_class)], records_trouble;
    bool trouble_said; /* and not taken back yet */

    struct loop_turn turn;
    struct loop_timer linger, retry;
    enum outcome *outcomes; /* owns: scratch for one answer */
};

static struct parcel *parcel_of(struct batch *b)
{
    return CONTAINER_OF(b, struct parcel, batch);
}

static struct batch *batch_of(struct list *node)
{
    return CONTAINER_OF(node, struct batch, node);
}

static void deliver_move(struct batch *b, struct list *to)
{
    list_remove(&b->node);
    list_append(to, &b->node);
}

/* --- filling --- */

static void deliver_seal(struct deliver *d)
{
    struct batch *b = d->filling;

    d->filling = NULL;
    d->records = b->number;
    loop_timer_cancel(d->loop, &d->linger);
    batch_seal(b);
    deliver_move(b, &d->sealed);
    loop_want_turn(d->loop, &d->turn);
}

/* A batch that waits for its retry and has room.  Its records do not wait longer for company, and
 * fresh records ride along: so a stream that throttles a third of everything is still fed by full
 * requests, and not by ever smaller remainders. */
static struct batch *deliver_waiting_with_room(struct deliver *d, size_t data_len, uint32_t key_len)
{
    LIST_EACH(&d->sealed, node, after)
    {
        struct batch *b = batch_of(node);
        if (b->not_before_ms > loop_now_ms(d->loop) && batch_fits(b, data_len, key_len))
            return b;
    }
    return NULL;
}

/* Whether a record still waits that is two whole rounds of all batches older than the next one, so
 * that no other filling may begin.  One round alone would make every batch wait for the slowest. */
static bool deliver_is_ahead(const struct deliver *d)
{
    uint32_t next = d->filling != NULL ? d->filling->number : d->records;
    uint32_t limit = 2 * d->parcel_count * d->settings.limits.records;

    for (uint32_t i = 0; i < d->parcel_count; i++) {
        const struct batch *b = &d->parcels[i].batch;

        /* Entries stand in the order in which they came: the first one is the oldest. */
        if (b->count > 0 && !b->refused && next - b->entries[0].number >= limit)
            return true;
    }
    return false;
}

static struct batch *deliver_take(struct deliver *d, size_t data_len, uint32_t key_len)
{
    struct batch *b;

    if (deliver_is_ahead(d))
        return NULL;
    if (!list_is_empty(&d->idle)) {
        /* The one used last: its memory is warm, and what was never used stays untouched. */
        b = batch_of(d->idle.prev);
        b->state = BATCH_FILLING;
        b->not_before_ms = 0;
        b->tries = 0;
    } else {
        b = deliver_waiting_with_room(d, data_len, key_len);
        if (b == NULL)
            return NULL;
        batch_reopen(b);
    }
    list_remove(&b->node);
    b->fill = ++d->fills;
    b->number = d->records;
    b->opened_ms = loop_now_ms(d->loop);
    return b;
}

/* Sets the deadline of the batch being filled.  Records that ride again are not kept waiting by
 * those that joined them. */
static void deliver_arm_linger(struct deliver *d)
{
    const struct batch *b = d->filling;
    uint64_t at = b->opened_ms + d->settings.linger_ms;

    if (b->not_before_ms > 0)
        at = MIN(at, b->not_before_ms);
    loop_timer_set(d->loop, &d->linger, at);
}

bool deliver_has_room(struct deliver *d)
{
    if ((d->filling != NULL && d->filling->count < d->settings.limits.records) ||
        (!deliver_is_ahead(d) &&
         (!list_is_empty(&d->idle) || deliver_waiting_with_room(d, 0, 0) != NULL)))
        return true;
    d->room_wanted = true;
    return false;
}

struct batch *deliver_room(struct deliver *d, size_t data_len, uint32_t key_len)
{
    assert(data_len + key_len <= d->settings.limits.bytes);
    if (d->filling != NULL) {
        if (batch_fits(d->filling, data_len, key_len))
            return d->filling;
        deliver_seal(d);
    }
    d->filling = deliver_take(d, data_len, key_len);
    if (d->filling == NULL)
        d->room_wanted = true;
    else if (d->filling->count > 0)
        deliver_arm_linger(d);
    return d->filling;
}

void deliver_added(struct deliver *d)
{
    struct batch *b = d->filling;

    if (b == NULL || b->count == 0)
        return;
    if (b->count == d->settings.limits.records || b->bytes == d->settings.limits.bytes ||
        d->settings.linger_ms == 0 || d->hurry)
        deliver_seal(d);
    else if (!loop_timer_is_set(&d->linger)) {
        b->opened_ms = loop_now_ms(d->loop);
        deliver_arm_linger(d);
    }
}

static void deliver_lingered(struct loop_timer *t)
{
    struct deliver *d = CONTAINER_OF(t, struct deliver, linger);

    if (d->filling != NULL && d->filling->count > 0)
        deliver_seal(d);
}

/* --- trouble, told --- */

static bool deliver_is_failing(const struct deliver *d)
{
    return d->tries > 0;
}

/* A request failed as a whole: say it at once, and then once a minute for each kind of trouble. */
static void deliver_say_trouble(struct deliver *d, const struct client_answer *a, uint64_t wait_ms)
{
    uint64_t held;
    bool loud = a->class != AWS_ERROR_THROTTLED && a->class != AWS_ERROR_TRANSIENT;

    if (!log_limit_pass(&d->trouble[a->class], loop_now_ms(d->loop), DELIVER_SAY_EVERY_MS, &held))
        return;
    d->trouble_said = true;
    log_line(loud ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
             "flow %s: stream '%s' at %s: %.*s: %.*s; %s; nothing is lost, reading waits, next "
             "try in %.1f s; %" PRIu64 " more in the last minute%s%.*s",
             d->settings.flow, d->settings.stream, client_url(d->client), SLICE_ARG(a->code),
             SLICE_ARG(a->message), aws_error_advice(a->code, a->message, a->class),
             (double)wait_ms / 1000, held, a->request_id.len > 0 ? "; request id " : "",
             SLICE_ARG(a->request_id));
}

static void deliver_say_records(struct deliver *d, const struct service_complaint *c,
                                uint32_t count, bool refused)
{
    uint64_t held;

    if (!log_limit_pass(&d->records_trouble, loop_now_ms(d->loop), DELIVER_SAY_EVERY_MS, &held))
        return;
    log_line(refused ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
             "flow %s: stream '%s': %u records not taken: %.*s: %.*s; %s; they are sent again; "
             "%" PRIu64 " more such answers in the last minute",
             d->settings.flow, d->settings.stream, count,
             SLICE_ARG(c->code.len > 0 ? c->code : SLICE("no sequence number")),
             SLICE_ARG(slice_first(c->message, 200)),
             aws_error_advice(c->code, c->message, aws_error_class(c->code)), held);
}

/* The destination answered well: whatever was wrong with it as a whole is over. */
static void deliver_recovered(struct deliver *d)
{
    if (!deliver_is_failing(d))
        return;
    d->tries = 0;
    d->not_before_ms = 0;

    /* The last word was that it fails: take that back. */
    if (d->trouble_said)
        log_info("flow %s: stream '%s': delivering again after %.1f s", d->settings.flow,
                 d->settings.stream, (double)(loop_now_ms(d->loop) - d->failing_since_ms) / 1000);
    d->trouble_said = false;
}

/* --- judging --- */

/* Puts a batch whose flight ended where it belongs now. */
static void deliver_landed(struct deliver *d, struct batch *b)
{
    bool room = d->room_wanted;

    deliver_move(b, b->state == BATCH_IDLE ? &d->idle : &d->sealed);
    loop_want_turn(d->loop, &d->turn);

    /* A batch that waits and is not full has room as well as an idle one. */
    if (room && !deliver_is_ahead(d) &&
        (b->state == BATCH_IDLE ||
         (b->not_before_ms > loop_now_ms(d->loop) && batch_fits(b, 0, 0)))) {
        d->room_wanted = false;
        d->events.room(d->events.user);
    }
}

/* The request failed as a whole, or nobody knows: all of its records stay. */
static void deliver_failed(struct deliver *d, struct batch *b, const struct client_answer *a)
{
    uint64_t now = loop_now_ms(d->loop);
    const struct backoff *backoff = &backoff_by_class[a->class];

    d->stats.records_retried += b->count;
    b->state = BATCH_SEALED;
    if (a->class == AWS_ERROR_THROTTLED) {
        d->stats.requests_throttled++;
        window_throttled(&d->window, b->flight);
    } else {
        d->stats.requests_failed++;
        window_ended(&d->window);
    }
    if (a->class == AWS_ERROR_REFUSED) {
        /* Something in this batch: the others need not wait for it. */
        b->refused = true;
        b->not_before_ms = now + backoff_delay_ms(backoff, b->tries++, d->random);
        deliver_say_trouble(d, a, b->not_before_ms - now);
        return;
    }
    /* Those that flew together tell the same news: counting each would end a short trouble with a
     * long wait. */
    if (deliver_is_failing(d) && b->flight <= d->failing_mark)
        return;
    d->failing_mark = d->window.sent;
    if (!deliver_is_failing(d))
        d->failing_since_ms = now;
    d->not_before_ms = now + backoff_delay_ms(backoff, d->tries, d->random);
    d->tries++;
    deliver_say_trouble(d, a, d->not_before_ms - now);
}

static void deliver_settle(void *user, void *owner, uint32_t count)
{
    struct deliver *d = user;

    d->events.settled(d->events.user, owner, count);
}

static uint32_t count_outcomes(const enum outcome *outcomes, uint32_t count, enum outcome which)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < count; i++)
        n += outcomes[i] == which;
    return n;
}

/* Judge the whole answer before moving a byte of the body: answers match records by position, and
 * a half-edited body would make position lie. */
static void deliver_judge(struct deliver *d, struct batch *b, struct service_complaint *c)
{
    uint32_t sent = b->count, throttled, refused, accepted;
    uint64_t bytes = b->bytes;

    throttled = count_outcomes(d->outcomes, sent, OUTCOME_THROTTLED);
    refused = count_outcomes(d->outcomes, sent, OUTCOME_REFUSED);
    accepted = batch_judge(b, d->outcomes, deliver_settle, d);

    d->stats.records_sent += accepted;
    d->stats.bytes_sent += bytes - b->bytes;
    d->stats.records_retried += sent - accepted;
    if (throttled > 0) {
        d->stats.requests_throttled++;
        window_throttled(&d->window, b->flight);
    } else {
        d->stats.requests_ok++;
        window_clean(&d->window);
    }
    b->refused = b->count > 0 && refused == b->count;
    if (accepted == sent)
        return;

    b->tries = accepted > 0 ? 0 : b->tries + 1;
    b->not_before_ms =
        loop_now_ms(d->loop) +
        backoff_delay_ms(b->refused ? &backoff_by_class[AWS_ERROR_REFUSED] : &backoff_records,
                         b->tries, d->random);
    deliver_say_records(d, c, sent - accepted, refused > 0);
}

static void deliver_answered(struct client_call *call, const struct client_answer *a)
{
    struct parcel *p = CONTAINER_OF(call, struct parcel, call);
    struct deliver *d = p->deliver;
    struct batch *b = &p->batch;
    struct service_complaint complaint = {0};

    if (!a->ok) {
        deliver_failed(d, b, a);
    } else if (d->settings.service->read(a->body, b->count, d->outcomes, &complaint) < 0) {
        const struct client_answer unknown = {
            .class = AWS_ERROR_TRANSIENT,
            .code = SLICE("unreadable answer"),
            .message = SLICE("what was stored is unknown, so all of it is sent again"),
            .request_id = a->request_id,
            .status = a->status,
        };
        deliver_failed(d, b, &unknown);
    } else {
        deliver_recovered(d);
        deliver_judge(d, b, &complaint);
    }
    deliver_landed(d, b);
}

/* --- sending --- */

static int deliver_launch(struct deliver *d, struct batch *b)
{
    struct parcel *p = parcel_of(b);
    int r;

    r = client_send(&p->call, d->settings.service->put_target, batch_body(b), DELIVER_TIMEOUT_MS);
    if (r < 0)
        return r;
    b->state = BATCH_FLYING;
    b->flight = window_send(&d->window);
    deliver_move(b, &d->flying);
    return 0;
}

static bool deliver_may_send(const struct deliver *d)
{
    /* While it fails, one request at a time feels whether it is back: a hundred would be no
     * better informed, and be a storm when it is. */
    if (deliver_is_failing(d))
        return d->window.in_flight == 0 && d->not_before_ms <= loop_now_ms(d->loop);
    return window_may_send(&d->window);
}

/* Sends whatever may go now, oldest first, and sets the clock for the rest. */
static void deliver_turn(struct loop_turn *t)
{
    struct deliver *d = CONTAINER_OF(t, struct deliver, turn);
    uint64_t now = loop_now_ms(d->loop), next = UINT64_MAX;

    LIST_EACH(&d->sealed, node, after)
    {
        struct batch *b = batch_of(node);

        if (b->not_before_ms > now) {
            next = MIN(next, b->not_before_ms);
            continue;
        }
        if (!deliver_may_send(d)) {
            if (deliver_is_failing(d) && d->not_before_ms > now)
                next = MIN(next, d->not_before_ms);
            continue;
        }
        if (deliver_launch(d, b) < 0)
            next = MIN(next, now + backoff_records.base_ms); /* out of memory: it may pass */
    }
    if (next == UINT64_MAX)
        loop_timer_cancel(d->loop, &d->retry);
    else
        loop_timer_set(d->loop, &d->retry, next);
}

static void deliver_retry(struct loop_timer *t)
{
    struct deliver *d = CONTAINER_OF(t, struct deliver, retry);

    loop_want_turn(d->loop, &d->turn);
}

/* --- life --- */

static int deliver_add_parcel(struct deliver *d)
{
    struct parcel *p = &d->parcels[d->parcel_count];
    int r = batch_init(&p->batch, d->settings.service, &d->settings.limits, d->settings.stream_name,
                       d->settings.stream_arn);

    if (r < 0)
        return r;
    p->deliver = d;
    client_call_init(&p->call, d->client, deliver_answered);
    list_append(&d->idle, &p->batch.node);
    d->parcel_count++;
    return 0;
}

int deliver_new(struct loop *loop, struct random *random, struct client *client,
                const struct deliver_settings *settings, const struct deliver_events *events,
                struct deliver **ret)
{
    uint32_t count = settings->in_flight_max + DELIVER_SPARE_BATCHES;
    struct deliver *d = calloc(1, sizeof *d);
    int r = -ENOMEM;

    if (d == NULL)
        return -ENOMEM;
    d->loop = loop;
    d->random = random;
    d->client = client;
    d->settings = *settings;
    d->events = *events;
    list_init(&d->idle);
    list_init(&d->sealed);
    list_init(&d->flying);
    window_init(&d->window, settings->in_flight_max);
    loop_turn_init(&d->turn, deliver_turn);
    d->parcels = calloc(count, sizeof(*d->parcels));
    d->outcomes = calloc(settings->limits.records, sizeof(*d->outcomes));
    if (d->parcels == NULL || d->outcomes == NULL ||
        loop_timer_init(loop, &d->linger, deliver_lingered) < 0 ||
        loop_timer_init(loop, &d->retry, deliver_retry) < 0)
        goto out;
    while (d->parcel_count < count) {
        r = deliver_add_parcel(d);
        if (r < 0)
            goto out;
    }
    *ret = d;
    return 0;
out:
    deliver_free(d);
    return r;
}

void deliver_free(struct deliver *d)
{
    if (d == NULL)
        return;
    for (uint32_t i = 0; i < d->parcel_count; i++) {
        client_cancel(&d->parcels[i].call);
        client_call_done(&d->parcels[i].call);
        batch_done(&d->parcels[i].batch);
    }
    loop_turn_cancel(&d->turn);
    loop_timer_done(d->loop, &d->linger);
    loop_timer_done(d->loop, &d->retry);
    free(d->parcels);
    free(d->outcomes);
    free(d);
}

void deliver_hurry(struct deliver *d)
{
    d->hurry = true;
    if (d->filling != NULL && d->filling->count > 0)
        deliver_seal(d);
}

uint64_t deliver_pending(const struct deliver *d)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < d->parcel_count; i++)
        n += d->parcels[i].batch.count;
    return n;
}

bool deliver_is_idle(const struct deliver *d)
{
    return deliver_pending(d) == 0;
}

const struct deliver_stats *deliver_stats(const struct deliver *d)
{
    return &d->stats;
}
