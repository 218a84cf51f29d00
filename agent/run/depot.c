#include "run/depot.h"

#include "clock.h"
#include "json.h"
#include "keep/checkpoint.h"
#include "keep/dead.h"
#include "keep/spool.h"
#include "keep/state.h"
#include "record/key.h"
#include "run/log.h"
#include "run/loop.h"
#include "run/morgue.h"
#include "run/scribe.h"
#include "ship/deliver.h"
#include "ship/gate.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEPOT_AGAIN_MS = 2000, /* after a failure, and while there is no room */
    DEPOT_TIDY_MS = 250,   /* from an acknowledgement to its sync */
    DEPOT_LINGER_MS = 50,  /* what is drained waits so long for more of it */
    DEPOT_SAY_EVERY_MS = 60 * 1000,
    DEPOT_OUT = 16, /* frames that are on their way at a time */
    DEPOT_STUCK_MIN_MS = 1000,
    DEPOT_STUCK_MAX_MS = 60 * 1000,
    DEPOT_FACTS_MAX = 16 * 1024 * 1024,
    DEPOT_RECORD_MAX = 16 * 1024 * 1024,
    DEPOT_REASON = 512,
};

/* A batch that waits to be written. */
struct arrival {
    struct depot_user *user;
    struct batch *batch;
};

struct departure;

/* A record on its way. */
struct cargo {
    struct departure *departure;
    bool settled, told; /* and its acknowledgement is noted */
};

/* A frame whose records are on their way. */
struct departure {
    struct list node;    /* among the free ones, or in depot.partly, or alone */
    struct cargo *cargo; /* owns; by the records' places in the frame */
    uint32_t cargo_room;
    struct depot *depot;
    uint64_t serial;
    uint32_t waiting;   /* records that are not settled */
    bool complete;      /* all of it is in batches */
    struct buf sources; /* owns: where its records are from, as the frame has them */
    uint32_t source_count;
};

struct depot {
    struct depot_settings settings;
    struct depot_place place;
    char directory[NAME_MAX + 1];
    struct spool *spool;
    struct list refused; /* users who were told no */

    struct arrival *arrivals; /* owns: a queue, the first one is being written while a job runs */
    size_t arrival_count, arrival_room;
    struct depot_draft draft;
    struct buf record; /* the scribe's, while a job runs */
    struct scribe_job job;
    bool runs, has_frame, refuses, full, tidy_due;
    struct loop_turn work;
    struct loop_timer again, tidy;
    struct log_limit write_said, full_said, read_said, drop_said, damage_said;
    uint64_t dropped, damaged;

    /* The way out. */
    struct deliver *drain;
    struct morgue_user dead;
    struct departure departures[DEPOT_OUT];
    struct list free_departures;
    struct list partly; /* departures of which some records were settled, and that is not noted */
    struct departure *out; /* whose frame is being put into batches; or NULL */
    struct spool_frame frame;
    struct spool_record next; /* its next record, if has_next */
    bool has_next, draining;
    bool frame_waits; /* it was read, but there was no memory for its departure */
    char key_json[KEY_JSON_MAX];
    struct loop_turn drain_turn;
    struct loop_timer drain_again;

    /* What a hot shard does not take goes back to the end, so that the rest gets past it. */
    struct depot_user self;
    bool stuck;        /* it goes back now */
    uint32_t stuck_ms; /* for so long nothing may have got on before */
    uint64_t stuck_sent;
    struct loop_timer stuck_timer;
};

static void depot_note_parts(struct depot *d);

static bool may_say(struct depot *d, struct log_limit *limit)
{
    uint64_t held;

    return log_limit_pass(limit, loop_now_ms(d->place.loop), DEPOT_SAY_EVERY_MS, &held);
}

/* --- writing: one batch after the other --- */

static void depot_want(struct depot *d)
{
    loop_want_turn(d->place.loop, &d->work);
}

static void depot_tell_room(struct depot *d)
{
    struct list *node;

    while ((node = list_take(&d->refused)) != NULL) {
        struct depot_user *u = CONTAINER_OF(node, struct depot_user, node);

        u->room(u->user);
    }
}

/* Nothing is taken for a while. */
static void depot_refuse(struct depot *d)
{
    d->refuses = true;
    if (!loop_timer_is_set(&d->again))
        loop_timer_set(d->place.loop, &d->again, loop_now_ms(d->place.loop) + DEPOT_AGAIN_MS);
}

static void depot_again(struct loop_timer *t)
{
    struct depot *d = CONTAINER_OF(t, struct depot, again);

    d->refuses = false;
    depot_tell_room(d);
    depot_want(d);
}

static void depot_say_full(struct depot *d, int error)
{
    if (!may_say(d, &d->full_said))
        return;
    if (error == -EDQUOT)
        log_warn("spool of %s: full (spool.limit, %" PRIu64 " bytes); nothing is lost, what waits "
                 "stays in memory and in the files, reading stops",
                 d->settings.destination, d->settings.limit_bytes);
    else if (error == -ENOSPC && d->settings.min_free_bytes == 0)
        log_warn(
            "spool of %s: its file system is full; nothing is lost, what waits stays in memory "
            "and in the files",
            d->settings.destination);
    else if (error == -ENOSPC)
        log_warn("spool of %s: less than spool.min_free (%" PRIu64 " bytes) would stay free on its "
                 "file system; nothing is lost, what waits stays in memory and in the files",
                 d->settings.destination, d->settings.min_free_bytes);
    else
        log_error("spool of %s: %s; nothing is lost, what waits stays in memory and in the files",
                  d->settings.destination, strerrordesc_np(-error));
}

/* Makes room as the configuration says; but all the rest does not go for what hardly fits alone,
 * and nothing for what is only on its way to the end. */
static int depot_make_room(struct depot *d, const struct depot_user *u, uint64_t bytes)
{
    int r = spool_has_room(d->spool, bytes);

    while (r == -EDQUOT && d->settings.drop_oldest && u != &d->self &&
           bytes <= d->settings.limit_bytes / 2) {
        uint64_t records = spool_drop_oldest(d->spool);

        if (records == 0)
            break;
        d->dropped += records;
        if (may_say(d, &d->drop_said))
            log_error("spool of %s: full (spool.limit): %" PRIu64 " records of the oldest are "
                      "DROPPED, as spool.when_full says; %" PRIu64 " since the start",
                      d->settings.destination, records, d->dropped);
        r = spool_has_room(d->spool, bytes);
    }
    d->full = r == -EDQUOT || r == -ENOSPC;
    if (r < 0)
        depot_say_full(d, r);
    return r;
}

static void depot_take_off(struct depot *d, bool told, bool durable)
{
    struct arrival a = d->arrivals[0];

    d->arrival_count--;
    memmove(d->arrivals, d->arrivals + 1, d->arrival_count * sizeof(*d->arrivals));
    a.user->done(a.user->user, a.batch, told, durable);
}

/* Nobody who waits is written now. */
static void depot_send_back(struct depot *d)
{
    depot_refuse(d);
    while (d->arrival_count > 0)
        depot_take_off(d, false, false);
}

/* The first of those who wait becomes a frame. */
static int depot_begin_frame(struct depot *d)
{
    const struct clock *clock = loop_clock(d->place.loop);
    const struct arrival *a = &d->arrivals[0];
    int r = depot_make_room(d, a->user, a->batch->bytes);

    if (r < 0)
        return r;
    d->draft.source_count = 0;
    buf_reset(&d->draft.facts);
    r = a->user->tell(a->user->user, a->batch, &d->draft);
    if (r < 0)
        return r;
    r = spool_frame_begin(d->spool, clock->wall_ms(clock), d->draft.sources, d->draft.source_count,
                          buf_slice(&d->draft.facts));
    if (r < 0)
        depot_take_off(d, true, false);
    return r;
}

static void depot_say_write(struct depot *d, int error)
{
    if (may_say(d, &d->write_said))
        log_error("spool of %s: cannot be written: %s; nothing is lost, what waits stays in memory "
                  "and in the files; trying again every %d s",
                  d->settings.destination, strerrordesc_np(-error), DEPOT_AGAIN_MS / 1000);
}

static void depot_work(struct loop_turn *t)
{
    struct depot *d = CONTAINER_OF(t, struct depot, work);
    int r;

    depot_note_parts(d);
    r = spool_write_acks(d->spool);
    if (r < 0)
        depot_say_write(d, r);
    if (d->runs)
        return;
    d->has_frame = false;
    if (d->arrival_count > 0) {
        r = depot_begin_frame(d);
        if (r < 0) {
            if (r == -ENOMEM)
                depot_say_write(d, r);
            depot_send_back(d);
        }
        d->has_frame = r == 0;
    }
    if (!d->has_frame && !(d->tidy_due && spool_wants_job(d->spool))) {
        if (spool_wants_job(d->spool) && !loop_timer_is_set(&d->tidy))
            loop_timer_set(d->place.loop, &d->tidy, loop_now_ms(d->place.loop) + DEPOT_TIDY_MS);
        return;
    }
    d->runs = true;
    d->tidy_due = false;
    spool_job_begin(d->spool);
    scribe_give(d->place.scribe, &d->job);
}

static void depot_tidy(struct loop_timer *t)
{
    struct depot *d = CONTAINER_OF(t, struct depot, tidy);

    d->tidy_due = true;
    depot_want(d);
}

/* On the scribe's thread: the batch is nobody else's now. */
static void depot_job_run(struct scribe_job *j)
{
    struct depot *d = CONTAINER_OF(j, struct depot, job);
    const struct batch *b = d->has_frame ? d->arrivals[0].batch : NULL;
    int r = 0;

    for (uint32_t i = 0; b != NULL && i < b->count && r == 0; i++) {
        struct spool_record record = {
            .source = d->draft.source_of[i],
            .offset = b->entries[i].origin.offset,
            .end = b->entries[i].origin.end,
        };

        r = batch_record(b, i, &d->record, &record.data, &record.key);
        if (r < 0)
            spool_add_failed(d->spool, r); /* job_end says so */
        else
            r = spool_add_record(d->spool, &record);
    }
    spool_job_run(d->spool);
}

static void depot_job_done(struct scribe_job *j)
{
    struct depot *d = CONTAINER_OF(j, struct depot, job);
    uint64_t serial = 0;
    int r = spool_job_end(d->spool, &serial);

    d->runs = false;
    if (d->has_frame && serial > 0) {
        d->write_said = d->full_said = (struct log_limit){0};
        if (checkpoint_note_spool(d->place.checkpoint, slice_of(d->settings.destination), serial) <
            0)
            log_error("spool of %s: out of memory; some lines may be sent again after a restart",
                      d->settings.destination);
        depot_take_off(d, true, true);
        d->place.noted(d->place.user);
        loop_want_turn(d->place.loop, &d->drain_turn);
    } else if (d->has_frame) {
        depot_say_write(d, r < 0 ? r : -ENOMEM);
        depot_take_off(d, true, false);
        depot_send_back(d);
    }
    d->has_frame = false;
    depot_want(d);
}

bool depot_is_full(const struct depot *d)
{
    return d->full;
}

bool depot_take(struct depot *d, struct depot_user *u, struct batch *b)
{
    if (d->refuses || d->arrival_count >= d->arrival_room) {
        list_remove(&u->node);
        list_append(&d->refused, &u->node);
        return false;
    }
    d->arrivals[d->arrival_count++] = (struct arrival){u, b};
    depot_want(d);
    return true;
}

bool depot_is_idle(const struct depot *d)
{
    return d->arrival_count == 0;
}

/* --- draining --- */

static void depot_depart(struct departure *p)
{
    struct depot *d = p->depot;

    if (!p->complete || p->waiting > 0)
        return;
    spool_ack(d->spool, p->serial);
    list_remove(&p->node);
    list_append(&d->free_departures, &p->node);
    depot_want(d);
    loop_want_turn(d->place.loop, &d->drain_turn);
}

static void depot_settled(void *user, void *owner, uint32_t count)
{
    struct depot *d = user;
    struct cargo *c = owner;
    struct departure *p = c->departure;

    assert(count == 1 && p->waiting > 0);
    c->settled = true;
    p->waiting--;
    if (list_is_empty(&p->node))
        list_append(&d->partly, &p->node);
    depot_depart(p);
    depot_want(d);
}

/* What is left of a frame waits; what is done of it must not be sent again by a later run. */
static void depot_note_parts(struct depot *d)
{
    struct list *node;

    while ((node = list_take(&d->partly)) != NULL) {
        struct departure *p = CONTAINER_OF(node, struct departure, node);

        for (uint32_t i = 0, first; i < p->cargo_room; i++) {
            for (first = i; i < p->cargo_room && p->cargo[i].settled && !p->cargo[i].told; i++)
                p->cargo[i].told = true;
            if (i > first)
                spool_ack_part(d->spool, p->serial, first, i - first);
        }
    }
}

static void depot_room(void *user)
{
    struct depot *d = user;

    loop_want_turn(d->place.loop, &d->drain_turn);
}

/* A record on its way out is refused for good. */
static bool depot_bury(void *user, const struct batch *b, uint32_t index, struct slice code,
                       struct slice message)
{
    struct depot *d = user;
    const struct entry *e = &b->entries[index];
    const struct cargo *c = e->owner;
    const struct departure *p = c->departure;
    const struct clock *clock = loop_clock(d->place.loop);
    struct spool_frame frame = {.sources = {p->sources.ptr, p->sources.len},
                                .source_count = p->source_count};
    struct spool_source source = spool_source_at(&frame, e->origin.source);
    char reason[DEPOT_REASON];
    struct dead_letter letter = {
        .wall_ms = clock->wall_ms(clock),
        .flow = source.flow,
        .file = source.path,
        .offset = e->origin.offset,
        .end = e->origin.end,
        .reason = {reason, 0},
    };
    struct slice key;
    struct buf text;
    bool put = false;

    (void)snprintf(reason, sizeof reason, "%.*s: %.*s", SLICE_ARG(code), SLICE_ARG(message));
    letter.reason.len = strlen(reason);
    buf_init(&text, DEPOT_RECORD_MAX);
    if (batch_record(b, index, &text, &letter.record, &key) == 0)
        put = morgue_put(d->place.morgue, &letter, &d->dead, e->owner);
    buf_done(&text);
    return put;
}

/* A free departure with room for so many records; NULL without memory. */
static struct departure *depot_departure(struct depot *d, uint32_t records)
{
    struct departure *p = CONTAINER_OF(d->free_departures.next, struct departure, node);

    if (records > p->cargo_room) {
        struct cargo *more = reallocarray(p->cargo, records, sizeof *more);

        if (more == NULL)
            return NULL;
        p->cargo = more;
        p->cargo_room = records;
    }
    for (uint32_t i = 0; i < p->cargo_room; i++)
        p->cargo[i] = (struct cargo){.departure = p};
    list_remove(&p->node);
    return p;
}

/* --- around what does not get on --- */

/* The index of the record's source in the draft, which gets it if it is new. */
static uint16_t draft_source(struct depot_draft *draft, const struct entry *e)
{
    const struct cargo *c = e->owner;
    const struct departure *p = c->departure;
    struct spool_frame frame = {.sources = {p->sources.ptr, p->sources.len},
                                .source_count = p->source_count};
    struct spool_source source = spool_source_at(&frame, e->origin.source);
    size_t i = 0;

    while (i < draft->source_count && !(slice_equal(draft->sources[i].flow, source.flow) &&
                                        slice_equal(draft->sources[i].path, source.path)))
        i++;
    if (i == draft->source_count)
        draft->sources[draft->source_count++] = source;
    return (uint16_t)i;
}

/* The frame settles no file: the one that the records were in has said what there is to say. */
static int depot_tell_again(void *user, const struct batch *b, struct depot_draft *draft)
{
    (void)user;
    for (uint32_t i = 0; i < b->count; i++) {
        bool same = i > 0 && b->entries[i].origin.source == b->entries[i - 1].origin.source &&
                    ((const struct cargo *)b->entries[i].owner)->departure ==
                        ((const struct cargo *)b->entries[i - 1].owner)->departure;

        draft->source_of[i] = same ? draft->source_of[i - 1] : draft_source(draft, &b->entries[i]);
    }
    return 0;
}

static void depot_took_again(void *user, struct batch *b, bool told, bool durable)
{
    struct depot *d = user;

    (void)told;
    deliver_gave_up(d->drain, b, durable);
}

static void depot_room_again(void *user)
{
    struct depot *d = user;

    deliver_may_give_up(d->drain);
}

static bool depot_give_up(void *user, struct batch *b)
{
    struct depot *d = user;

    /* Only what was tried and got nowhere, not what the service is slow with. */
    return d->stuck && b->tries > 0 && !gate_is_failing(d->place.gate) &&
           depot_take(d, &d->self, b);
}

/* Whether there are frames that are not on their way. */
static bool depot_has_more(const struct depot *d)
{
    uint64_t out = DEPOT_OUT;

    for (struct list *node = d->free_departures.next; node != &d->free_departures;
         node = node->next)
        out--;
    return spool_stats(d->spool)->frames > out;
}

/* Frames may wait that cannot leave, as what is before them does not get on. */
static void depot_may_be_stuck(struct depot *d)
{
    if (d->draining && !d->stuck && !loop_timer_is_set(&d->stuck_timer) && depot_has_more(d))
        loop_timer_set(d->place.loop, &d->stuck_timer, loop_now_ms(d->place.loop) + d->stuck_ms);
}

static void depot_gets_on(struct depot *d)
{
    loop_timer_cancel(d->place.loop, &d->stuck_timer);
    if (!d->stuck)
        return;
    d->stuck = false;
    deliver_set_impatient(d->drain, false);
}

/* To send all of a hot shard's records around again and again would be a storm, on the disk and on
 * the service: so it waits ever longer while next to nothing gets through between two times. */
static void depot_stuck(struct loop_timer *t)
{
    struct depot *d = CONTAINER_OF(t, struct depot, stuck_timer);
    uint64_t sent = deliver_stats(d->drain)->records_sent;

    if (gate_is_failing(d->place.gate) || !depot_has_more(d)) {
        depot_may_be_stuck(d); /* going around helps nobody now */
        return;
    }
    if (16 * (sent - d->stuck_sent) >= deliver_pending(d->drain))
        d->stuck_ms = DEPOT_STUCK_MIN_MS;
    else
        d->stuck_ms = MIN(2 * d->stuck_ms, (uint32_t)DEPOT_STUCK_MAX_MS);
    d->stuck_sent = sent;
    d->stuck = true;
    deliver_set_impatient(d->drain, true);
}

/* The next frame is going out, if there is one. */
static bool depot_next_frame(struct depot *d)
{
    struct departure *p;
    int r;

    if (list_is_empty(&d->free_departures))
        return false; /* depot_depart comes */
    r = d->frame_waits ? 1 : spool_read(d->spool, &d->frame);
    p = r == 1 ? depot_departure(d, d->frame.records) : NULL;
    d->frame_waits = r == 1 && p == NULL;
    if (d->frame_waits)
        r = -ENOMEM;
    if (r < 0) {
        if (may_say(d, &d->read_said))
            log_error("spool of %s: cannot be read: %s; trying again every %d s",
                      d->settings.destination, strerrordesc_np(-r), DEPOT_AGAIN_MS / 1000);
        loop_timer_set(d->place.loop, &d->drain_again, loop_now_ms(d->place.loop) + DEPOT_AGAIN_MS);
    }
    if (r <= 0)
        return false;
    p->serial = d->frame.serial;
    p->waiting = 0;
    p->complete = false;
    p->source_count = d->frame.source_count;
    buf_reset(&p->sources);
    if (buf_append(&p->sources, d->frame.sources) < 0)
        p->source_count = 0; /* a dead letter would not know where it is from */
    d->out = p;
    return true;
}

/* Puts the frame's records into batches, as far as there is room. */
static bool depot_fill(struct depot *d)
{
    struct spool_source source;

    for (;;) {
        struct batch_key key = {0};
        struct batch *b;
        struct buf json;

        if (!d->has_next && !spool_next(&d->frame, &d->next, &source))
            break;
        d->has_next = true;
        if (d->next.key.len > 0) {
            json = (struct buf){d->key_json, 0, sizeof d->key_json, sizeof d->key_json};
            if (json_append_string(&json, d->next.key) == 0)
                key = (struct batch_key){buf_slice(&json), (uint32_t)d->next.key.len};
        }
        deliver_set_bytes_max(d->drain, d->next.data.len + key.len);
        b = deliver_room(d->drain, d->next.data.len, key);
        if (b == NULL)
            return false;
        deliver_add(d->drain, b, d->next.data, key, &d->out->cargo[d->next.index],
                    (struct batch_origin){d->next.offset, d->next.end, d->next.source});
        d->out->waiting++;
        d->has_next = false;
    }
    d->out->complete = true;
    d->out = NULL;
    return true;
}

static void depot_say_damage(struct depot *d)
{
    const struct spool_stats *s = spool_stats(d->spool);

    if (s->damaged == d->damaged || !may_say(d, &d->damage_said))
        return;
    d->damaged = s->damaged;
    log_error("spool of %s: %" PRIu64 " damaged places (%" PRIu64 " bytes); what stands there is "
              "lost, the rest is sent; kept as *.damaged for a look (kinetail queue verify)",
              d->settings.destination, s->damaged, s->damaged_bytes);
}

static void depot_drain(struct loop_turn *t)
{
    struct depot *d = CONTAINER_OF(t, struct depot, drain_turn);

    /* A frame that has begun to leave goes on leaving: the next run would send all of it again. */
    while ((d->draining || d->out != NULL) && deliver_has_room(d->drain)) {
        struct departure *p;

        if (d->out == NULL && !depot_next_frame(d)) {
            if (!d->frame_waits)
                spool_rest(d->spool);
            break;
        }
        p = d->out;
        if (!depot_fill(d))
            break;
        depot_depart(p); /* it may have been done while its end was still to come */
        depot_gets_on(d);
    }
    deliver_added(d->drain);
    depot_may_be_stuck(d);
    depot_say_damage(d);
}

static void depot_drain_again(struct loop_timer *t)
{
    depot_room(CONTAINER_OF(t, struct depot, drain_again));
}

/* --- life --- */

/* What a frame says of its sources. */
static int depot_learn(void *user, uint64_t serial, struct slice facts)
{
    struct depot *d = user;
    int r = checkpoint_learn(d->place.checkpoint, facts);

    if (r == -EBADMSG) {
        /* Its checksum held, so it was written so: by a later version.  Not to know is to read again. */
        log_warn("spool of %s: frame %" PRIu64 " says of its files what this version does not "
                 "understand; some lines may be sent again",
                 d->settings.destination, serial);
        r = 0;
    }
    return r < 0 ? r
                 : checkpoint_note_spool(d->place.checkpoint, slice_of(d->settings.destination),
                                         serial);
}

static void depot_say_found(const struct depot *d)
{
    const struct spool_stats *s = spool_stats(d->spool);
    const char *name = d->settings.destination;

    if (s->records > 0)
        log_info("spool of %s: %" PRIu64 " records (%" PRIu64 " bytes) wait to be sent", name,
                 s->records, s->bytes);
    if (s->damaged > 0 || s->moved_aside > 0)
        log_error("spool of %s: %" PRIu64 " damaged places, %" PRIu32 " segments moved aside (to "
                  "*.damaged); what stands there is lost, the rest is sent",
                  name, s->damaged, s->moved_aside);
    if (s->missing > 0)
        log_error("spool of %s: %" PRIu32 " segments are missing; what they held is lost", name,
                  s->missing);
    else if (s->lost_end)
        log_error("spool of %s: its end is missing; what it held is lost", name);
    if (s->foreign > 0)
        log_warn("spool of %s: %" PRIu32 " segments are another destination's; moved aside (to "
                 "*.foreign)",
                 name, s->foreign);
    if (s->newer > 0)
        log_warn("spool of %s: %" PRIu32 " segments were written by a newer kinetail; left alone, "
                 "not sent: install that one again",
                 name, s->newer);
    if (s->error < 0)
        log_warn("spool of %s: some of it could not be looked at: %s", name,
                 strerrordesc_np(-s->error));
}

static int depot_open(struct depot *d)
{
    const struct spool_settings settings = {
        .name = d->directory,
        .limit_bytes = d->settings.limit_bytes,
        .min_free_bytes = d->settings.min_free_bytes,
        .merged = checkpoint_spool(d->place.checkpoint, slice_of(d->settings.destination)),
    };
    int r = spool_open(d->place.state_dir_fd, d->place.disk, &settings, &d->spool);

    if (r == 0)
        r = spool_facts(d->spool, depot_learn, d);
    if (r == 0)
        depot_say_found(d);
    return r;
}

static int depot_new_drain(struct depot *d)
{
    const struct service *service = d->place.service;
    const struct deliver_settings settings = {
        .flow = "(spool)",
        .stream = d->settings.stream,
        .stream_name = d->settings.stream_name,
        .stream_arn = d->settings.stream_arn,
        .service = service,
        .limits = {service->records_max, MAX(service->record_max, (uint64_t)1024 * 1024),
                   d->settings.key_json_max},
        .linger_ms = DEPOT_LINGER_MS,
        .in_flight_max = d->settings.in_flight_max,
        .patience_ms = UINT32_MAX, /* it is depot_give_up that decides */
    };
    const struct deliver_events events = {
        .settled = depot_settled,
        .room = depot_room,
        .bury = depot_bury,
        .give_up = depot_give_up,
        .user = d,
    };
    int r = deliver_new(d->place.loop, d->place.random, d->place.client, d->place.gate,
                        d->place.budget, &settings, &events, &d->drain);

    if (r < 0)
        return r;
    d->stuck_ms = DEPOT_STUCK_MIN_MS;
    d->self = (struct depot_user){
        .tell = depot_tell_again, .done = depot_took_again, .room = depot_room_again, .user = d};
    list_init(&d->self.node);
    return depot_join(d, d->settings.in_flight_max + DELIVER_SPARE_BATCHES);
}

int depot_new(const struct depot_settings *settings, const struct depot_place *place,
              struct depot **ret)
{
    uint32_t records = place->service->records_max;
    struct depot *d = calloc(1, sizeof *d);
    int r;

    if (d == NULL)
        return -ENOMEM;
    d->settings = *settings;
    d->place = *place;
    d->job = (struct scribe_job){.run = depot_job_run, .done = depot_job_done};
    d->dead = (struct morgue_user){.settled = depot_settled, .room = depot_room, .user = d};
    list_init(&d->dead.node);
    list_init(&d->refused);
    list_init(&d->free_departures);
    list_init(&d->partly);
    for (size_t i = 0; i < DEPOT_OUT; i++) {
        d->departures[i].depot = d;
        buf_init(&d->departures[i].sources, DEPOT_FACTS_MAX);
        list_init(&d->departures[i].node);
        list_append(&d->free_departures, &d->departures[i].node);
    }
    loop_turn_init(&d->work, depot_work);
    loop_turn_init(&d->drain_turn, depot_drain);
    buf_init(&d->draft.facts, DEPOT_FACTS_MAX);
    buf_init(&d->record, DEPOT_RECORD_MAX);
    d->draft.sources = calloc(records, sizeof(*d->draft.sources));
    d->draft.source_of = calloc(records, sizeof(*d->draft.source_of));
    r = d->draft.sources == NULL || d->draft.source_of == NULL ||
                loop_timer_init(place->loop, &d->again, depot_again) < 0 ||
                loop_timer_init(place->loop, &d->tidy, depot_tidy) < 0 ||
                loop_timer_init(place->loop, &d->drain_again, depot_drain_again) < 0 ||
                loop_timer_init(place->loop, &d->stuck_timer, depot_stuck) < 0
            ? -ENOMEM
            : state_folder(settings->destination, d->directory);
    if (r == 0) {
    }
    if (r == 0)
        r = depot_open(d);
    if (r == 0)
        r = depot_new_drain(d);
    if (r < 0)
        depot_free(d);
    else
        *ret = d;
    return r;
}

void depot_free(struct depot *d)
{
    uint64_t serial;

    if (d == NULL)
        return;
    if (d->runs)
        (void)spool_job_end(d->spool, &serial);
    morgue_leave(d->place.morgue, &d->dead);
    deliver_free(d->drain);
    spool_close(d->spool);
    loop_turn_cancel(&d->work);
    loop_turn_cancel(&d->drain_turn);
    loop_timer_done(d->place.loop, &d->again);
    loop_timer_done(d->place.loop, &d->tidy);
    loop_timer_done(d->place.loop, &d->drain_again);
    loop_timer_done(d->place.loop, &d->stuck_timer);
    for (size_t i = 0; i < DEPOT_OUT; i++) {
        buf_done(&d->departures[i].sources);
        free(d->departures[i].cargo);
    }
    buf_done(&d->draft.facts);
    buf_done(&d->record);
    free(d->draft.sources);
    free(d->draft.source_of);
    free(d->arrivals);
    free(d);
}

void depot_start(struct depot *d)
{
    d->draining = true;
    loop_want_turn(d->place.loop, &d->drain_turn);
    depot_want(d);
}

void depot_stop(struct depot *d)
{
    d->draining = false;
    depot_gets_on(d);
    deliver_hurry(d->drain);
}

bool depot_is_drained(const struct depot *d)
{
    return deliver_is_idle(d->drain);
}

int depot_join(struct depot *d, uint32_t batches)
{
    struct arrival *more =
        reallocarray(d->arrivals, d->arrival_room + batches, sizeof(*d->arrivals));

    if (more == NULL)
        return -ENOMEM;
    d->arrivals = more;
    d->arrival_room += batches;
    return 0;
}

void depot_leave(struct depot *d, struct depot_user *u)
{
    size_t kept = 0;

    if (d == NULL)
        return;
    list_remove(&u->node);
    for (size_t i = 0; i < d->arrival_count; i++)
        if (d->arrivals[i].user != u)
            d->arrivals[kept++] = d->arrivals[i];
    d->arrival_count = kept;
}

const struct spool_stats *depot_stats(const struct depot *d)
{
    return spool_stats(d->spool);
}

uint64_t depot_dropped(const struct depot *d)
{
    return d->dropped;
}
