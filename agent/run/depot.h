/* depot -- where batches go that could not be delivered: a destination's spool, and the way out again.
 *
 *     deliver ─ patience is over ─▶ depot ─ scribe ─▶ spool ─ frames ─▶ the drain's deliver ─▶ gate
 *       ▲                             │ durable          ▲                      │
 *       └──────────── settled ◀───────┘                  └──── acknowledged ◀───┘
 *
 *   1. A batch is settled when its frame is durable, and not before; one that cannot be written comes
 *      back.
 *   2. With the frame goes how far its sources are settled then; at a start that is made good in the
 *      checkpoint, so that a crash between the two repeats nothing.
 *   3. What is drained shares the gate with what is fresh, in turn.
 *   4. While the disk fails, or is full, nothing is taken; it is tried again every two seconds.
 *   5. Records that a hot shard does not take go back to the end of the spool when frames behind them
 *      cannot leave, as long as others get through by that; else ever more seldom.
 *
 * Threads: one lane; the writing is done by the scribe.  Logs what fails. */
#ifndef DEPOT_H
#define DEPOT_H

#include "buf.h"
#include "list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct batch;
struct budget;
struct checkpoint;
struct client;
struct depot;
struct disk;
struct gate;
struct loop;
struct morgue;
struct random;
struct scribe;
struct service;
struct spool_source;
struct spool_stats;

/* What a frame is to say beside the batch's records; the depot's, filled in by its user. */
struct depot_draft {
    struct spool_source *sources; /* room for one per record */
    size_t source_count;
    uint16_t *source_of; /* per record of the batch */
    struct buf facts;
};

/* Who gives batches. */
struct depot_user {
    struct list node; /* the depot's; begins alone (list_init) */
    /* The batch is going to be written: where its records are from, and how far that settles their
     * sources.  What it borrows to the draft may go when it returns.  Errors: -ENOMEM. */
    int (*tell)(void *user, const struct batch *b, struct depot_draft *draft);
    /* It is durable, or not: it is yours again.  Comes after each `tell` that went well, and without
     * one if there was none (`told`). */
    void (*done)(void *user, struct batch *b, bool told, bool durable);
    /* depot_take said no before, and may say yes now. */
    void (*room)(void *user);
    void *user;
};

struct depot_settings {
    const char *destination; /* its name, for messages and as the directory's, without slashes */
    const char *stream;      /* for messages */
    struct slice stream_name, stream_arn;
    uint64_t limit_bytes, min_free_bytes;
    bool drop_oldest;
    uint32_t key_json_max;
    uint32_t in_flight_max; /* of the drain */
};

/* What the depot works with; borrowed until depot_free. */
struct depot_place {
    struct loop *loop;
    struct scribe *scribe;
    struct random *random;
    struct client *client;
    struct gate *gate;
    struct budget *budget;
    struct morgue *morgue; /* what is refused on the way out */
    struct checkpoint *checkpoint;
    const struct disk *disk;
    const struct service *service;
    int state_dir_fd;
    void (*noted)(void *user); /* the checkpoint has news to write */
    void *user;
};

/* Opens the spool, says what was found, and makes the checkpoint know what its frames say.  Errors:
 * spool_open's, deliver_new's; checkpoint_learn's -ENOMEM. */
int depot_new(const struct depot_settings *settings, const struct depot_place *place,
              struct depot **ret);

/* The scribe must not have any job of it, and no user be there.  NULL is fine. */
void depot_free(struct depot *d);

/* Draining begins. */
void depot_start(struct depot *d);

/* No other frame is drained; what is given is still taken. */
void depot_stop(struct depot *d);

/* Whether nothing of a frame is on its way. */
bool depot_is_drained(const struct depot *d);

/* `batches`: how many one more user may give at a time.  Errors: -ENOMEM. */
int depot_join(struct depot *d, uint32_t batches);
void depot_leave(struct depot *d, struct depot_user *u);

/* Takes a LEAVING batch until `done`.  False if it cannot now: `room` will be called. */
bool depot_take(struct depot *d, struct depot_user *u, struct batch *b);

/* Whether no batch will be taken, for lack of room, until the spool has drained or the disk has room
 * again. */
bool depot_is_full(const struct depot *d);

/* Whether no batch waits to be written. */
bool depot_is_idle(const struct depot *d);

/* What waits in the spool. */
const struct spool_stats *depot_stats(const struct depot *d);

/* Records dropped since the start because the spool was full. */
uint64_t depot_dropped(const struct depot *d);

#endif
