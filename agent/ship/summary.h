/* summary -- what a stream says of itself: how large its records may be, and who places them.
 *
 *     start ─▶ ASKING ──────────────▶ KNOWN ─▶ asked again every few minutes
 *               │  ▲ no answer,         ▲
 *               │  │ throttled:         │
 *               │  └ again, backing off │
 *               └──────▶ SILENT ────────┘
 *                 "you may not", "what is that?": asked again, but nobody should wait for it
 *
 *   1. Delivery never waits for it: until the stream has spoken it is taken for one like all others
 *      (records of 1 MiB, placed by their keys), and after that what it said last holds.
 *   2. What was said is asked for again every 5 to 10 minutes: a fleet of 6,000 agents stays within
 *      the 20 calls a second that an account has.
 *   3. Why the stream is silent is said once, until it speaks.
 *
 * One for each destination, however many flows lead there.
 *
 * DescribeStreamSummary needs the permission kinesis:DescribeStreamSummary.  Its members, and that
 * all but five of them may be missing or null: API reference of Kinesis Data Streams; 10 MiB records:
 * October 2025; AUTO: September 2026.
 *
 * Threads: one lane.  Blocks: never. */
#ifndef SUMMARY_H
#define SUMMARY_H

#include "list.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

struct client;
struct loop;
struct random;
struct summary;

enum {
    SUMMARY_RECORD_MIN = 1024 * 1024,      /* what every stream takes */
    SUMMARY_RECORD_MAX = 10 * 1024 * 1024, /* MaxRecordSizeInKiB: 1,024 to 10,240 */
    SUMMARY_TIMEOUT_MS = 10 * 1000,        /* for one call */
    SUMMARY_EVERY_MS = 5 * 60 * 1000,      /* at least; at most twice that */
    SUMMARY_SOON_MS = 60 * 1000,           /* summary_doubt asks no more often */
};

enum summary_state { SUMMARY_ASKING, SUMMARY_KNOWN, SUMMARY_SILENT };
enum summary_mode { SUMMARY_MODE_UNKNOWN, SUMMARY_PROVISIONED, SUMMARY_ON_DEMAND };
enum summary_status {
    SUMMARY_STATUS_UNKNOWN,
    SUMMARY_CREATING,
    SUMMARY_DELETING,
    SUMMARY_ACTIVE,
    SUMMARY_UPDATING,
};

struct summary_news {
    uint64_t record_max; /* bytes of a record with its key */
    bool auto_placed;    /* the service places records itself, and looks at no key */
    enum summary_mode mode;
    enum summary_status status;
};

/* Who wants to know. */
struct summary_user {
    struct list node; /* the summary's; begins alone (list_init) */

    /* The stream said something new: from the loop, never from within a call of these. */
    void (*told)(void *user, const struct summary_news *n);
    void *user;
};

/* The stream: by its name, or by its ARN if that is not empty; borrowed until summary_free. */
struct summary_settings {
    const char *stream; /* one of them, for messages */
    struct slice stream_name, stream_arn;
};

/* Borrows everything until summary_free.  Asks nothing yet.  Errors: -ENOMEM. */
int summary_new(struct loop *loop, const struct random *random, struct client *client,
                const struct summary_settings *settings, struct summary **ret);
void summary_free(struct summary *s); /* NULL is fine */

/* Whether it is the summary of this stream, asked for by this client. */
bool summary_is_of(const struct summary *s, const struct client *client, const char *stream);

/* `u` is told from now on, and no more. */
void summary_join(struct summary *s, struct summary_user *u);
void summary_leave(struct summary_user *u);

/* Asks, and asks again for as long as it lives. */
void summary_start(struct summary *s);

/* What we go by looks wrong: ask soon.  For whoever was refused a record for its size. */
void summary_doubt(struct summary *s);

const struct summary_news *summary_get(const struct summary *s);
enum summary_state summary_state(const struct summary *s);

/* How many calls have ended; when summary_start was. */
uint32_t summary_tries(const struct summary *s);
uint64_t summary_since_ms(const struct summary *s);

/* Reads an answer into *ret.  Errors: -EBADMSG: it is none. */
int summary_read(struct slice body, struct summary_news *ret);

#endif
