/* deliver -- brings batches to one destination, however long that takes.
 *
 *   1. It owns a fixed number of batches.  No room in them: the caller waits for `room`.
 *   2. An accepted record is settled once; a record that was not accepted is still in its batch.
 *   3. Only records that were not accepted are sent again.
 *   4. When a request may go is the destination's gate's affair, which others share.
 *   5. A record that is not accepted holds back those that come after it: no more than two rounds of
 *      all batches are filled beyond it.  So a crash repeats about what the batches can hold, and
 *      not all that went by while one record was tried again and again.
 *   6. No failure lets go of a record, and none of them stops time: every wait has its deadline.
 *      When a batch's patience is over it is given up to whoever keeps it on disk; sooner, if what it
 *      holds is in the way of others, or memory is short.
 *   7. A request that is refused as a whole is sent again in ever smaller parts, until the record
 *      that is meant stands alone.  It becomes a dead letter only if the destination takes others, or
 *      has said again and again what is wrong with it: a missing stream is no reason to bury a log.
 *
 * Threads: one lane.  Blocks: never.  Reports trouble itself, one line per trouble and minute. */
#ifndef DELIVER_H
#define DELIVER_H

#include "ship/batch.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    DELIVER_SPARE_BATCHES = 2, /* one to fill and one sealed, beside in_flight_max */
};

struct budget;
struct client;
struct deliver;
struct gate;
struct loop;
struct random;

struct deliver_settings {
    const char *flow;   /* names the flow in messages */
    const char *stream; /* the stream's name or ARN, for messages; both borrowed */
    struct slice stream_name, stream_arn;
    const struct service *service;
    struct batch_limits limits;
    uint32_t linger_ms; /* from a batch's first record to its sealing */
    uint32_t in_flight_max;
    uint64_t patience_ms; /* from a batch's sealing to its being given up */
};

struct deliver_stats {
    uint64_t records_sent, bytes_sent, records_retried, requests_ok, requests_throttled,
        requests_failed, requests_refused;
    uint64_t records_spooled, records_refused; /* given up and durable; buried */
};

struct deliver_events {
    /* `count` records of `owner` are accepted by the service, or durable elsewhere. */
    void (*settled)(void *user, void *owner, uint32_t count);
    /* deliver_has_room or deliver_room said no before, and there is room now. */
    void (*room)(void *user);
    /* The record is refused for good: keep it as a dead letter, with this reason, and settle its owner
     * when that is durable.  False if that is not possible now. */
    bool (*bury)(void *user, const struct batch *b, uint32_t index, struct slice code,
                 struct slice message);
    /* The batch, LEAVING, could not be delivered: it is yours until deliver_gave_up.  False if you
     * cannot take it now.  NULL: nothing is ever given up. */
    bool (*give_up)(void *user, struct batch *b);
    void *user;
};

/* Borrows everything but the events until deliver_free; `budget` may be NULL: memory without a limit.
 * Errors: -ENOMEM; batch_init's. */
int deliver_new(struct loop *loop, struct random *random, struct client *client, struct gate *gate,
                struct budget *budget, const struct deliver_settings *settings,
                const struct deliver_events *events, struct deliver **ret);

/* Cancels what is on its way; what is not settled stays unsettled.  NULL is fine. */
void deliver_free(struct deliver *d);

/* A record may have so many bytes (data and key) from now on, and a request at least as many. */
void deliver_set_bytes_max(struct deliver *d, uint64_t bytes);

/* Whether any record at all may come in now; if not, `room` will be called. */
bool deliver_has_room(struct deliver *d);

/* A FILLING batch with room for a record of this size (within the service's record_max), or NULL:
 * then `room` will be called.  Good until the next call of anything here. */
struct batch *deliver_room(struct deliver *d, size_t data_len, struct batch_key key);

/* Adds a record to the batch that deliver_room gave. */
void deliver_add(struct deliver *d, struct batch *b, struct slice data, struct batch_key key,
                 void *owner, struct batch_origin origin);

/* Tells that records were added to that batch: its deadlines begin, a full one is sealed. */
void deliver_added(struct deliver *d);

/* Stops lingering: what is there goes out now.  For the end. */
void deliver_hurry(struct deliver *d);

/* What cannot be sent at once is given up: at once, if the service fails or just refused it, else
 * after a second; or again it waits for its patience to be over. */
void deliver_set_impatient(struct deliver *d, bool impatient);

/* The very end: takes back what flies, and gives up all there is. */
void deliver_give_up_all(struct deliver *d);

/* What became of a batch that was given up: it is durable, or comes back. */
void deliver_gave_up(struct deliver *d, struct batch *b, bool durable);

/* Whoever takes batches may be asked again: there is room on disk. */
void deliver_may_give_up(struct deliver *d);

/* Whether nothing at all waits for an answer or to be sent. */
bool deliver_is_idle(const struct deliver *d);

const struct deliver_stats *deliver_stats(const struct deliver *d);

/* Records that are in batches now. */
uint64_t deliver_pending(const struct deliver *d);

#endif
