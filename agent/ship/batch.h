/* batch -- a request's body being filled, sent, judged, and partly sent again.
 *
 *      take           add            seal          launch
 *   IDLE ──▶ FILLING ──▶ FILLING ──▶ SEALED ──▶ FLYING ──▶ judged: all settled ──▶ IDLE
 *               ▲                     ▲  │                 some failed
 *               │       reopen        │  │                     │
 *               └─────────────────────│──┘◀── not_before ──────┘
 *
 *   1. The body always is the service's beginning followed by whole entries, each with a comma
 *      behind it; sealing turns the last comma into the body's end, reopening turns it back.
 *   2. Entries stand in the body in the order of `entries`; answers match them by position.
 *   3. The limits are checked before an entry is added (batch_fits) and hold always.
 *   4. All memory is taken at birth; from then on nothing allocates.
 *
 * Thinks: no I/O.  A FLYING batch must not be touched but by batch_judge. */
#ifndef BATCH_H
#define BATCH_H

#include "list.h"
#include "ship/service.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

enum batch_state { BATCH_IDLE, BATCH_FILLING, BATCH_SEALED, BATCH_FLYING };

struct batch_limits {
    uint32_t records;      /* 1 .. service's */
    uint64_t bytes;        /* data and keys, before base64 */
    uint32_t key_json_max; /* longest key as a JSON string, in bytes */
};

/* A record after it moved into the body. */
struct entry {
    void *owner;     /* whoever waits for it; not looked into */
    uint32_t at;     /* where it begins in the body */
    uint32_t len;    /* its length there, with the comma */
    uint32_t size;   /* data and key, before base64 */
    uint32_t number; /* counts the records of the owner of the batches; wraps */
};

struct batch {
    struct list node; /* in the owner's queue of its state */
    enum batch_state state;
    const struct service *service;
    struct batch_limits limits;

    char *body; /* owns; mapped */
    size_t body_cap, body_len, begin_len;
    struct entry *entries; /* owns */
    uint32_t count;
    uint64_t bytes;

    uint64_t fill;          /* numbers the fillings, so that a filling can be recognised */
    uint32_t number;        /* that the next record will have */
    uint64_t opened_ms;     /* monotonic: when the oldest fresh record came in */
    uint64_t not_before_ms; /* monotonic: the batch must not fly before */
    uint32_t tries;         /* flights in a row that settled nothing */
    uint64_t flight;        /* its number in the window */
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

/* Whether a record of this size may still come in. */
static inline bool batch_fits(const struct batch *b, size_t data_len, uint32_t key_len)
{
    return b->count < b->limits.records && data_len + key_len <= b->limits.bytes - b->bytes;
}

/* Adds a record that fits to a FILLING batch.  Copies `data`. */
void batch_add(struct batch *b, struct slice data, struct batch_key key, void *owner);

/* FILLING, not empty → SEALED; and back. */
void batch_seal(struct batch *b);
void batch_reopen(struct batch *b);

/* The whole request body of a SEALED or FLYING batch. */
struct slice batch_body(const struct batch *b);

/* Judges a FLYING batch whole: tells `settled` of each run of accepted entries with one owner, and
 * slides the others together.  Then it is IDLE if nothing is left, else SEALED.
 * Returns how many entries were accepted. */
uint32_t batch_judge(struct batch *b, const enum outcome *outcomes,
                     void (*settled)(void *user, void *owner, uint32_t count), void *user);

#endif
