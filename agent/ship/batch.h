/* batch -- a request's body being filled, sent, judged, and partly sent again.
 *
 *      take           add            seal          fly
 *   IDLE ──▶ FILLING ──▶ FILLING ──▶ SEALED ──▶ FLYING ──▶ judged: nothing left ──▶ IDLE
 *               ▲                     ▲  │                 some are left
 *               │       reopen        │  │                     │
 *               └─────────────────────│──┘◀── not_before ──────┘
 *                                     │
 *                               leave ▼ ▲ come_back
 *                                  LEAVING: being written to disk
 *
 *   1. The body always is the service's beginning followed by whole entries, each with a comma
 *      behind it; only in flight the body's end stands behind those that fly.
 *   2. Entries stand in the body in the order of `entries`; answers match them by position.  Those
 *      that fly are the first ones: all of them, or fewer, to find out which one is refused.
 *   3. The limits are checked before an entry is added (batch_fits) and hold always.
 *   4. Memory is mapped at birth, and taken by writing to it: `touched` says how much.  Nothing
 *      allocates but batch_record.
 *
 * Thinks: no I/O.  A FLYING or LEAVING batch must not be changed by others. */
#ifndef BATCH_H
#define BATCH_H

#include "list.h"
#include "ship/service.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

struct buf;

enum batch_state { BATCH_IDLE, BATCH_FILLING, BATCH_SEALED, BATCH_FLYING, BATCH_LEAVING };

struct batch_limits {
    uint32_t records;      /* 1 .. service's */
    uint64_t bytes;        /* data and keys, before base64 */
    uint32_t key_json_max; /* longest key as a JSON string, in bytes */
};

/* Which bytes a record was made of. */
struct batch_origin {
    uint64_t offset, end; /* in its file */
    uint16_t source;      /* whatever the owner of the batches tells its sources apart by */
};

/* A record after it moved into the body. */
struct entry {
    void *owner; /* whoever waits for it; not looked into */
    struct batch_origin origin;
    uint32_t at;       /* where it begins in the body */
    uint32_t len;      /* its length there, with the comma */
    uint32_t size;     /* data and key, before base64 */
    uint32_t number;   /* counts the records of the owner of the batches; wraps */
    uint32_t since_ms; /* monotonic, when it was added; wraps */
    uint8_t refusals;  /* how often it was refused; stays at 255 */
};

struct batch {
    struct list node; /* in the owner's queue of its state */
    enum batch_state state;
    const struct service *service;
    struct batch_limits limits;

    char *body; /* owns; mapped */
    size_t body_cap, body_len, begin_len;
    size_t touched;        /* bytes of the body that were ever written, since batch_rest */
    struct entry *entries; /* owns */
    uint32_t count;
    uint32_t flown; /* FLYING: how many of them fly */
    uint32_t part;  /* how many are to fly at most; 0: all */
    uint64_t bytes;

    uint64_t fill;          /* numbers the fillings, so that a filling can be recognised */
    uint32_t number;        /* that the next record will have */
    uint64_t opened_ms;     /* monotonic: when the oldest fresh record came in */
    uint64_t not_before_ms; /* monotonic: the batch must not fly before */
    uint32_t tries;         /* flights in a row that settled nothing */
    uint64_t flight;        /* its number at the gate */
    bool refused;           /* nothing in it will be taken as it stands: it holds nobody back */
};

/* A partition key: as a JSON string with its quotes, and its length in bytes before escaping. */
struct batch_key {
    struct slice json;
    uint32_t len;
};

/* Errors: -ENOMEM, -EMSGSIZE if the names do not fit. */
int batch_init(struct batch *b, const struct service *service, const struct batch_limits *limits,
               struct slice stream, struct slice stream_arn);
void batch_done(struct batch *b);

/* Changes how many bytes there may be; what is there already stays.  Not while it flies or leaves.
 * Errors: -ENOMEM, and then nothing has changed. */
int batch_set_bytes_max(struct batch *b, uint64_t bytes);

/* Whether a record of this size may still come in. */
static inline bool batch_fits(const struct batch *b, size_t data_len, uint32_t key_len)
{
    return b->count < b->limits.records && b->bytes <= b->limits.bytes &&
           data_len + key_len <= b->limits.bytes - b->bytes;
}

/* How many bytes of memory the batch will have touched when such a record has come in. */
size_t batch_touches(const struct batch *b, size_t data_len, size_t key_json_len);

/* Adds a record that fits to a FILLING batch.  Copies `data`. */
void batch_add(struct batch *b, struct slice data, struct batch_key key, void *owner,
               struct batch_origin origin, uint64_t now_ms);

/* FILLING, not empty → SEALED; and back. */
void batch_seal(struct batch *b);
void batch_reopen(struct batch *b);

/* How many of the first entries make a body of at most so many bytes: at least 1. */
uint32_t batch_count_within(const struct batch *b, uint64_t body_max);

/* SEALED → FLYING with the first `count` entries; and back, if it could not be sent or nobody knows what
 * became of it. */
void batch_fly(struct batch *b, uint32_t count);
void batch_land(struct batch *b);

/* The whole request body of a FLYING batch. */
struct slice batch_body(const struct batch *b);

/* Judges a FLYING batch: tells `settled` of each run of accepted entries with one owner, and slides the
 * others together; those that are BURIED leave without a word.  outcomes[flown].  Then it is IDLE if
 * nothing is left, else SEALED.  Returns how many entries were accepted. */
uint32_t batch_judge(struct batch *b, const enum outcome *outcomes,
                     void (*settled)(void *user, void *owner, uint32_t count), void *user);

/* Moves the first entry of a SEALED batch behind the others.  Errors: -ENOMEM. */
int batch_rotate(struct batch *b);

/* SEALED → LEAVING, while somebody writes it down; and back. */
void batch_leave(struct batch *b);
void batch_come_back(struct batch *b);

/* LEAVING or SEALED → IDLE: all entries are settled, and told so. */
void batch_settle(struct batch *b, void (*settled)(void *user, void *owner, uint32_t count),
                  void *user);

/* A record as it was before it came in: its data and its key (empty if the service has none), in
 * `to`, which is emptied first.  Errors: -ENOMEM, -EMSGSIZE. */
int batch_record(const struct batch *b, uint32_t index, struct buf *to, struct slice *ret_data,
                 struct slice *ret_key);

/* Gives the body's memory back.  An IDLE batch. */
void batch_rest(struct batch *b);

#endif
