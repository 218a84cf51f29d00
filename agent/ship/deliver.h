/* deliver -- brings a flow's batches to one destination, however long that takes.
 *
 *   1. It owns a fixed number of batches.  No room in them: the caller waits for `room`.
 *   2. An accepted record is settled once; a record that was not accepted is still in its batch.
 *   3. Only records that were not accepted are sent again.
 *   4. Throttling narrows the window; while the destination as a whole fails, one request at a
 *      time feels whether it is back.
 *   5. A record that is not accepted holds back those that come after it: no more than two rounds of
 *      all batches are filled beyond it.  So a crash repeats about what the batches can hold, and
 *      not all that went by while one record was tried again and again.
 *   6. No failure lets go of a record, and none of them stops time: every wait has its deadline.
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

struct client;
struct deliver;
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
};

struct deliver_stats {
    uint64_t records_sent, bytes_sent, records_retried, requests_ok, requests_throttled,
        requests_failed;
};

struct deliver_events {
    /* `count` records of `owner` are accepted by the service. */
    void (*settled)(void *user, void *owner, uint32_t count);
    /* deliver_has_room or deliver_room said no before, and there is room now. */
    void (*room)(void *user);
    void *user;
};

/* Borrows everything but the events until deliver_free.  Errors: -ENOMEM; batch_init's. */
int deliver_new(struct loop *loop, struct random *random, struct client *client,
                const struct deliver_settings *settings, const struct deliver_events *events,
                struct deliver **ret);

/* Cancels what is on its way; what is not settled stays unsettled.  NULL is fine. */
void deliver_free(struct deliver *d);

/* Whether any record at all may come in now; if not, `room` will be called. */
bool deliver_has_room(struct deliver *d);

/* A FILLING batch with room for a record of this size (within the service's record_max), or NULL:
 * then `room` will be called.  Good until the next call of anything here. */
struct batch *deliver_room(struct deliver *d, size_t data_len, uint32_t key_len);

/* Tells that batch_add was called on that batch: its deadlines begin, a full one is sealed. */
void deliver_added(struct deliver *d);

/* Stops lingering: what is there goes out now.  For the end. */
void deliver_hurry(struct deliver *d);

/* Whether nothing at all waits for an answer or to be sent. */
bool deliver_is_idle(const struct deliver *d);

const struct deliver_stats *deliver_stats(const struct deliver *d);

/* Records that are in batches now. */
uint64_t deliver_pending(const struct deliver *d);

#endif
