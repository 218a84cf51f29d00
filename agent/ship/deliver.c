#include "ship/deliver.h"

#include "backoff.h"
#include "budget.h"
#include "random.h"
#include "run/log.h"
#include "run/loop.h"
#include "ship/client.h"
#include "ship/gate.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    DELIVER_TIMEOUT_MS = 300 * 1000, /* a request on a slow line; http ends a still one */
    DELIVER_SAY_EVERY_MS = 60 * 1000,
    DELIVER_IN_THE_WAY_MS = 1000,  /* patience with what is in the way of others */
    DELIVER_CHARGE = 64 * 1024,    /* memory is taken from the budget in these steps */
    DELIVER_REFUSALS_KNOWN = 3,    /* before a record is buried without a witness … */
    DELIVER_REFUSALS_UNKNOWN = 10, /* … and with one, for a reason that nobody knows */
};

/* Records throttled or failed inside an answer: the shard is busy, not gone. */
static const struct backoff backoff_records = {.base_ms = 100, .cap_ms = 30 * 1000};
/* Records that a person must see to. */
static const struct backoff backoff_refused = {.base_ms = 10 * 1000, .cap_ms = 30 * 1000};

/* A batch and its request. */
struct parcel {
    struct batch batch;
    struct client_call call;
    struct deliver *deliver;
    uint64_t charged;   /* bytes of its memory that the budget knows of */
    uint64_t wanted_ms; /* monotonic: when it was sealed first, since it was idle */
};

struct deliver {
    struct loop *loop;
    struct random *random;
    struct client *client;
    struct gate *gate;
    struct budget *budget; /* or NULL */
    struct deliver_settings settings;
    struct deliver_events events;
    struct deliver_stats stats;
    struct gate_user user;
    struct budget_user memory;

    struct parcel *parcels; /* owns */
    uint32_t parcel_count;
    struct list idle, sealed, flying, leaving; /* of batches */
    struct batch *filling;                     /* or NULL */
    uint64_t fills;
    uint32_t records; /* that went into batches, wrapping; without those of the one being filled */
    uint32_t in_flight;
    uint64_t keep_bytes; /* of the memory of an idle batch: a rare large record gives it back */
    bool room_wanted, hurry, impatient, joined;
    uint64_t pressed_ms; /* monotonic: others needed memory; what was sealed by then goes soon */
    uint64_t give_up_again_ms; /* monotonic: nobody takes a batch before */

    struct log_limit records_trouble;
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

static void deliver_settle(void *user, void *owner, uint32_t count)
{
    struct deliver *d = user;

    d->events.settled(d->events.user, owner, count);
}

static void deliver_tell_room(struct deliver *d)
{
    if (!d->room_wanted)
        return;
    d->room_wanted = false;
    d->events.room(d->events.user);
}

/* --- memory --- */

static void deliver_rest(struct deliver *d, struct batch *b)
{
    struct parcel *p = parcel_of(b);
    uint64_t charged = p->charged;

    if (d->budget == NULL || charged == 0)
        return;
    batch_rest(b);
    p->charged = 0;
    budget_give(d->budget, &d->memory, charged);
}

/* Somebody needs memory: what is idle goes at once, and what waits goes to disk soon. */
static void deliver_squeeze(struct budget_user *u)
{
    struct deliver *d = CONTAINER_OF(u, struct deliver, memory);

    LIST_EACH(&d->idle, node, after)
    {
        deliver_rest(d, batch_of(node));
    }
    d->pressed_ms = loop_now_ms(d->loop);
    loop_want_turn(d->loop, &d->turn);
}

static void deliver_has_memory(struct budget_user *u)
{
    deliver_tell_room(CONTAINER_OF(u, struct deliver, memory));
}

/* Makes sure that the budget knows of what such a record takes. */
static bool deliver_charge(struct deliver *d, struct batch *b, size_t data_len, size_t key_json_len)
{
    struct parcel *p = parcel_of(b);
    uint64_t want = batch_touches(b, data_len, key_json_len);

    if (d->budget == NULL || want <= p->charged)
        return true;
    want = (want + DELIVER_CHARGE - 1) / DELIVER_CHARGE * DELIVER_CHARGE;
    if (!budget_take(d->budget, &d->memory, want - p->charged))
        return false;
    p->charged = want;
    return true;
}

/* --- filling --- */

static void deliver_seal(struct deliver *d)
{
    struct batch *b = d->filling;

    d->filling = NULL;
    d->records = b->number;
    loop_timer_cancel(d->loop, &d->linger);
    batch_seal(b);
    if (parcel_of(b)->wanted_ms == 0)
        parcel_of(b)->wanted_ms = loop_now_ms(d->loop);
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
        if (b->not_before_ms > loop_now_ms(d->loop) && b->part == 0 &&
            batch_fits(b, data_len, key_len))
            return b;
    }
    return NULL;
}

/* Whether a batch has a record that is two whole rounds of all batches older than the next one, so
 * that no other filling may begin.  One round alone would make every batch wait for the slowest. */
static bool deliver_is_behind(const struct deliver *d, const struct batch *b)
{
    uint32_t next = d->filling != NULL ? d->filling->number : d->records;
    uint32_t limit = 2 * d->parcel_count * d->settings.limits.records;

    /* Entries stand in the order in which they came: the first one is the oldest. */
    return b->count > 0 && !b->refused && b->state != BATCH_LEAVING &&
           next - b->entries[0].number >= limit;
}

static bool deliver_is_ahead(const struct deliver *d)
{
    for (uint32_t i = 0; i < d->parcel_count; i++)
        if (deliver_is_behind(d, &d->parcels[i].batch))
            return true;
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
        if (b->limits.bytes != d->settings.limits.bytes &&
            batch_set_bytes_max(b, d->settings.limits.bytes) < 0)
            return NULL;
        b->state = BATCH_FILLING;
        b->not_before_ms = 0;
        b->tries = b->part = 0;
        b->refused = false;
        parcel_of(b)->wanted_ms = 0;
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

/* What was taken to be filled is not, for now. */
static void deliver_unfill(struct deliver *d)
{
    struct batch *b = d->filling;

    d->filling = NULL;
    b->state = BATCH_IDLE;
    list_append(&d->idle, &b->node);
}

bool deliver_has_room(struct deliver *d)
{
    if ((d->filling != NULL && d->filling->count < d->settings.limits.records) ||
        (!deliver_is_ahead(d) &&
         (!list_is_empty(&d->idle) || deliver_waiting_with_room(d, 0, 0) != NULL)))
        return true;
    d->room_wanted = true;
    loop_want_turn(d->loop, &d->turn); /* what is in the way may be given up now */
    return false;
}

struct batch *deliver_room(struct deliver *d, size_t data_len, struct batch_key key)
{
    assert(data_len + key.len <= d->settings.service->bytes_max);
    if (d->filling != NULL && !batch_fits(d->filling, data_len, key.len)) {
        if (d->filling->count == 0) /* made for less, before a record could be so large */
            deliver_unfill(d);
        else
            deliver_seal(d);
    }
    if (d->filling == NULL) {
        d->filling = deliver_take(d, data_len, key.len);
        if (d->filling != NULL && d->filling->count > 0)
            deliver_arm_linger(d);
    }
    if (d->filling == NULL || !batch_fits(d->filling, data_len, key.len) ||
        !deliver_charge(d, d->filling, data_len, key.json.len)) {
        /* An empty one waits among the idle: what memory it has is there for who needs it more. */
        if (d->filling != NULL && d->filling->count == 0)
            deliver_unfill(d);
        d->room_wanted = true;
        loop_want_turn(d->loop, &d->turn);
        return NULL;
    }
    return d->filling;
}

void deliver_add(struct deliver *d, struct batch *b, struct slice data, struct batch_key key,
                 void *owner, struct batch_origin origin)
{
    batch_add(b, data, key, owner, origin, loop_now_ms(d->loop));
}

void deliver_added(struct deliver *d)
{
    struct batch *b = d->filling;

    if (b == NULL || b->count == 0)
        return;
    if (b->count == d->settings.limits.records || b->bytes >= b->limits.bytes ||
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

/* --- giving up --- */

static bool deliver_is_ready(const struct deliver *d, const struct batch *b)
{
    return b->not_before_ms <= loop_now_ms(d->loop);
}

/* How long it is tried to deliver the batch.  What others want to be gone has a second, as long as
 * it may be taken: with six batches that second makes 3,000 lines a second, and whoever deletes files
 * writes more.  So what was refused just now, or would only wait for a service that fails, has
 * none.  `since`: when it began to wait, monotonic. */
static uint64_t deliver_patience(const struct deliver *d, const struct batch *b, uint64_t since)
{
    if (d->impatient && (gate_is_failing(d->gate) || !deliver_is_ready(d, b)))
        return 0;
    if (d->impatient || d->memory.waits || since <= d->pressed_ms ||
        (d->room_wanted && deliver_is_behind(d, b)))
        return MIN(d->settings.patience_ms, (uint64_t)DELIVER_IN_THE_WAY_MS);

    /* Whoever only waits for his turn, at a destination that is well, is sent sooner from here. */
    if ((!gate_is_failing(d->gate) && b->tries == 0) || gate_waits_for_person(d->gate))
        return UINT64_MAX;
    return d->settings.patience_ms;
}

/* When the batch is to be given up, if it is not delivered until then. */
static uint64_t deliver_give_up_at(const struct deliver *d, const struct batch *b)
{
    uint64_t now = loop_now_ms(d->loop), since, patience;

    if (d->events.give_up == NULL)
        return UINT64_MAX;

    /* Lingering is not waiting; and of a batch that gets on, only what is left counts. */
    since = now - (uint32_t)((uint32_t)now - b->entries[0].since_ms);
    since = MAX(since, CONTAINER_OF(b, struct parcel, batch)->wanted_ms);
    patience = deliver_patience(d, b, since);
    return patience == UINT64_MAX ? patience : MAX(since + patience, d->give_up_again_ms);
}

/* A batch that nobody takes keeps its place in the row: the oldest goes first, and whoever walks along
 * the row comes to an end. */
static bool deliver_give_up(struct deliver *d, struct batch *b)
{
    batch_leave(b);
    if (d->events.give_up(d->events.user, b)) {
        deliver_move(b, &d->leaving);
        return true;
    }
    batch_come_back(b);
    d->give_up_again_ms = loop_now_ms(d->loop) + DELIVER_IN_THE_WAY_MS;
    return false;
}

/* Puts a batch whose flight ended, or that comes back, where it belongs now. */
static void deliver_landed(struct deliver *d, struct batch *b)
{
    deliver_move(b, b->state == BATCH_IDLE ? &d->idle : &d->sealed);
    if (b->state == BATCH_IDLE && d->budget != NULL &&
        (budget_is_tight(d->budget) || b->touched > d->keep_bytes))
        deliver_rest(d, b);
    loop_want_turn(d->loop, &d->turn);

    /* A batch that waits and is not full has room as well as an idle one. */
    if (!deliver_is_ahead(d) &&
        (b->state == BATCH_IDLE ||
         (b->not_before_ms > loop_now_ms(d->loop) && b->part == 0 && batch_fits(b, 0, 0))))
        deliver_tell_room(d);
}

void deliver_gave_up(struct deliver *d, struct batch *b, bool durable)
{
    assert(b->state == BATCH_LEAVING);
    if (durable) {
        d->stats.records_spooled += b->count;
        batch_settle(b, deliver_settle, d);
    } else {
        batch_come_back(b);
        d->give_up_again_ms = loop_now_ms(d->loop) + DELIVER_IN_THE_WAY_MS;
    }
    deliver_landed(d, b);
}

void deliver_may_give_up(struct deliver *d)
{
    d->give_up_again_ms = 0;
    loop_want_turn(d->loop, &d->turn);
}

void deliver_set_impatient(struct deliver *d, bool impatient)
{
    if (d->impatient == impatient)
        return;
    d->impatient = impatient;
    loop_want_turn(d->loop, &d->turn);
}

void deliver_give_up_all(struct deliver *d)
{
    if (d->filling != NULL && d->filling->count > 0)
        deliver_seal(d);
    LIST_EACH(&d->flying, node, after)
    {
        struct batch *b = batch_of(node);

        client_cancel(&parcel_of(b)->call);
        d->in_flight--;
        gate_ended(d->gate);
        batch_land(b);
        deliver_move(b, &d->sealed);
    }
    if (d->events.give_up == NULL || (gate_waits_for_person(d->gate) && !d->impatient))
        return;
    LIST_EACH(&d->sealed, node, after)
    {
        (void)deliver_give_up(d, batch_of(node));
    }
}

/* --- judging --- */

/* What follows a flight that settled nothing. */
static void deliver_wait(struct deliver *d, struct batch *b, const struct backoff *backoff)
{
    b->not_before_ms = loop_now_ms(d->loop) + backoff_delay_ms(backoff, b->tries, d->random);
}

static void deliver_refusal(struct entry *e)
{
    if (e->refusals < UINT8_MAX)
        e->refusals++;
}

/* Whether nobody will ever take this record as it stands. */
static bool deliver_is_condemned(const struct deliver *d, const struct entry *e, bool known)
{
    if (gate_has_witness(d->gate))
        return known || e->refusals >= DELIVER_REFUSALS_UNKNOWN;
    return known && e->refusals >= DELIVER_REFUSALS_KNOWN;
}

/* The request was refused for what is in it.  Half of it is tried alone, then half of that; what is
 * taken doubles the next part.  So one record among n is found in about 2 log n requests, and if all
 * of them are refused, each costs one. */
static void deliver_refused(struct deliver *d, struct batch *b, const struct client_answer *a)
{
    bool large = a->status == 413, known = large || aws_error_is_verdict(a->code);
    uint32_t flown = b->flown;
    struct entry *first = &b->entries[0];

    d->stats.requests_refused++;
    d->stats.records_retried += flown;
    gate_ended(d->gate);
    if (flown > 1) {
        if (large)
            gate_too_large(d->gate, batch_body(b).len);
        batch_land(b);
        b->part = flown / 2;
        deliver_wait(d, b, &backoff_records);
        gate_say_refused(d->gate, &d->user, a, "sent in smaller parts, to find the record meant");
        return;
    }
    deliver_refusal(first);
    b->part = 1;
    if (deliver_is_condemned(d, first, known || gate_has_witness(d->gate)) &&
        d->events.bury(d->events.user, b, 0, a->code, a->message)) {
        gate_say_buried(d->gate, &d->user, a);
        d->stats.records_refused++;
        d->outcomes[0] = OUTCOME_BURIED;
        (void)batch_judge(b, d->outcomes, deliver_settle, d);
        b->not_before_ms = 0;
        return;
    }

    /* Nobody was accepted lately: it may be the stream, or what stands between.  The others get
     * their chance to tell. */
    batch_land(b);
    b->refused = true;
    (void)batch_rotate(b);
    deliver_wait(d, b, &backoff_refused);
    b->tries++;
    gate_say_refused(d->gate, &d->user, a, "nothing is lost, it is tried again slowly");
}

/* The request failed as a whole, or nobody knows: all of its records stay. */
static void deliver_failed(struct deliver *d, struct batch *b, const struct client_answer *a)
{
    d->stats.records_retried += b->flown;
    if (a->class == AWS_ERROR_THROTTLED)
        d->stats.requests_throttled++;
    else
        d->stats.requests_failed++;
    gate_failed(d->gate, &d->user, b->flight, a);
    batch_land(b);
}

static void deliver_say_records(struct deliver *d, const struct service_complaint *c,
                                uint32_t count, bool loud, uint32_t buried)
{
    uint64_t held;
    char fate[64] = "they are sent again";

    if (!log_limit_pass(&d->records_trouble, loop_now_ms(d->loop), DELIVER_SAY_EVERY_MS, &held))
        return;
    if (buried > 0)
        (void)snprintf(fate, sizeof fate, "%u of them kept as dead letters, others sent again",
                       buried);
    log_line(loud ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
             "flow %s: stream '%s': %u records not taken: %.*s: %.*s; %s; %s; "
             "%" PRIu64 " more such answers in the last minute",
             d->settings.flow, d->settings.stream, count,
             SLICE_ARG(c->code.len > 0 ? c->code : SLICE("no reason")),
             SLICE_ARG(slice_first(c->message, 200)),
             aws_error_advice(d->settings.service, c->code, c->message, aws_error_class(c->code)),
             fate, held);
}

/* Of each record that was not taken: is it time to let it go? */
static uint32_t deliver_bury(struct deliver *d, struct batch *b, const struct service_complaint *c)
{
    uint32_t buried = 0;

    for (uint32_t i = 0; i < b->flown; i++) {
        enum outcome o = d->outcomes[i];

        if (o != OUTCOME_REFUSED && o != OUTCOME_UNKNOWN)
            continue;
        deliver_refusal(&b->entries[i]);
        if (!deliver_is_condemned(d, &b->entries[i], o == OUTCOME_REFUSED) ||
            !d->events.bury(d->events.user, b, i, c->code, c->message))
            continue;
        d->outcomes[i] = OUTCOME_BURIED;
        buried++;
    }
    d->stats.records_refused += buried;
    return buried;
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
    uint32_t sent = b->flown, throttled, held, buried, accepted, left;
    uint64_t bytes = b->bytes;

    throttled = count_outcomes(d->outcomes, sent, OUTCOME_THROTTLED);
    accepted = count_outcomes(d->outcomes, sent, OUTCOME_ACCEPTED);
    gate_answered(d->gate, b->flight, accepted > 0, throttled > 0);
    buried = deliver_bury(d, b, c);
    held = count_outcomes(d->outcomes, sent, OUTCOME_HELD) +
           count_outcomes(d->outcomes, sent, OUTCOME_UNKNOWN) +
           count_outcomes(d->outcomes, sent, OUTCOME_REFUSED);
    (void)batch_judge(b, d->outcomes, deliver_settle, d);
    left = sent - accepted - buried;

    d->stats.records_sent += accepted;
    d->stats.bytes_sent += bytes - b->bytes;
    d->stats.records_retried += left;
    if (throttled > 0)
        d->stats.requests_throttled++;
    else
        d->stats.requests_ok++;
    if (b->part > 0 && accepted == sent)
        b->part = 2 * b->part < b->count ? 2 * b->part : 0;
    b->refused = left > 0 && held == left && b->count == left;
    if (accepted == sent) {
        b->tries = 0;
        b->not_before_ms = 0;
        return;
    }

    /* A batch of which most was taken gets on; one that has gathered what a busy shard does not take
     * comes less and less often. */
    b->tries = 2 * accepted >= sent ? b->tries / 2 : b->tries + 1;
    deliver_wait(d, b, b->refused ? &backoff_refused : &backoff_records);
    deliver_say_records(d, c, sent - accepted, held + buried > 0, buried);
}

static void deliver_answered(struct client_call *call, const struct client_answer *a)
{
    struct parcel *p = CONTAINER_OF(call, struct parcel, call);
    struct deliver *d = p->deliver;
    struct batch *b = &p->batch;
    struct service_complaint complaint = {0};

    d->in_flight--;
    if (!a->ok && a->class == AWS_ERROR_REFUSED) {
        deliver_refused(d, b, a);
    } else if (!a->ok) {
        deliver_failed(d, b, a);
    } else if (d->settings.service->read(a->body, b->flown, d->outcomes, &complaint) < 0) {
        const struct client_answer unknown = {
            .class = AWS_ERROR_TRANSIENT,
            .code = SLICE("unreadable answer"),
            .message = SLICE("what was stored is unknown, so all of it is sent again"),
            .request_id = a->request_id,
            .status = a->status,
        };
        deliver_failed(d, b, &unknown);
    } else {
        deliver_judge(d, b, &complaint);
    }
    deliver_landed(d, b);
}

/* --- sending --- */

static int deliver_launch(struct deliver *d, struct batch *b)
{
    struct parcel *p = parcel_of(b);
    uint32_t count = b->part > 0 ? MIN(b->part, b->count) : b->count;
    uint32_t within = batch_count_within(b, gate_body_max(d->gate));
    int r;

    batch_fly(b, MIN(count, within));
    r = client_send(&p->call, d->settings.service->put_target, batch_body(b), DELIVER_TIMEOUT_MS);
    if (r < 0) {
        batch_land(b);
        return r;
    }
    b->flight = gate_sent(d->gate);
    d->in_flight++;
    deliver_move(b, &d->flying);
    return 0;
}

/* The gate's word: one request, the oldest that is ready. */
static void deliver_send(struct gate_user *u)
{
    struct deliver *d = CONTAINER_OF(u, struct deliver, user);
    bool sent = false;

    LIST_EACH(&d->sealed, node, after)
    {
        struct batch *b = batch_of(node);

        if (!deliver_is_ready(d, b))
            continue;
        if (sent) {
            if (d->in_flight < d->settings.in_flight_max)
                gate_want(d->gate, &d->user);
            return;
        }
        if (deliver_launch(d, b) < 0) {
            /* Out of memory: it may pass. */
            loop_timer_set(d->loop, &d->retry, loop_now_ms(d->loop) + backoff_records.base_ms);
            return;
        }
        sent = true;
    }
}

/* Asks for whatever may go now, gives up what has waited for too long, and sets the clock for the
 * rest. */
static void deliver_turn(struct loop_turn *t)
{
    struct deliver *d = CONTAINER_OF(t, struct deliver, turn);
    uint64_t now = loop_now_ms(d->loop), next = UINT64_MAX;
    bool ready = false;

    LIST_EACH(&d->sealed, node, after)
    {
        struct batch *b = batch_of(node);
        uint64_t give_up_at = deliver_give_up_at(d, b);

        if (give_up_at <= now && deliver_give_up(d, b))
            continue;
        give_up_at = deliver_give_up_at(d, b); /* later, if nobody took it */
        next = MIN(next, give_up_at);
        if (deliver_is_ready(d, b))
            ready = true;
        else
            next = MIN(next, b->not_before_ms);
    }
    if (ready && d->in_flight < d->settings.in_flight_max)
        gate_want(d->gate, &d->user);
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

int deliver_new(struct loop *loop, struct random *random, struct client *client, struct gate *gate,
                struct budget *budget, const struct deliver_settings *settings,
                const struct deliver_events *events, struct deliver **ret)
{
    uint32_t count = settings->in_flight_max + DELIVER_SPARE_BATCHES;
    struct deliver *d = calloc(1, sizeof *d);
    int r = -ENOMEM;

    if (d == NULL)
        return -ENOMEM;
    d->loop = loop;
    d->random = random;
    d->client = client;
    d->gate = gate;
    d->budget = budget;
    d->settings = *settings;
    d->events = *events;
    d->keep_bytes = 2 * settings->limits.bytes;
    d->user = (struct gate_user){
        .flow = settings->flow, .in_flight_max = settings->in_flight_max, .send = deliver_send};
    d->memory = (struct budget_user){.squeeze = deliver_squeeze, .room = deliver_has_memory};
    list_init(&d->user.node);
    list_init(&d->idle);
    list_init(&d->sealed);
    list_init(&d->flying);
    list_init(&d->leaving);
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
    gate_join(gate, &d->user);
    if (budget != NULL)
        budget_join(budget, &d->memory);
    d->joined = true;
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
        if (d->parcels[i].batch.state == BATCH_FLYING)
            gate_ended(d->gate);
        client_cancel(&d->parcels[i].call);
        client_call_done(&d->parcels[i].call);
        batch_done(&d->parcels[i].batch);
    }
    if (d->joined) {
        gate_leave(d->gate, &d->user);
        if (d->budget != NULL)
            budget_leave(d->budget, &d->memory);
    }
    loop_turn_cancel(&d->turn);
    loop_timer_done(d->loop, &d->linger);
    loop_timer_done(d->loop, &d->retry);
    free(d->parcels);
    free(d->outcomes);
    free(d);
}

void deliver_set_bytes_max(struct deliver *d, uint64_t bytes)
{
    d->settings.limits.bytes =
        MIN(MAX(d->settings.limits.bytes, bytes), d->settings.service->bytes_max);
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
