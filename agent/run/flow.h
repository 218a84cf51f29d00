/* flow -- one flow of the configuration at work: the only place that knows all the rooms.
 *
 *     follower ─ a source has news ─▶ ready ─ room in a batch? ─▶ read, split, key ─▶ deliver
 *     checkpoint ◀─ settled prefix ─ ledger ◀─ settled ─────────────────────────────────┘
 *
 *   1. Nothing is read while no batch has room: the file is the queue.
 *   2. Sources take turns, a quantum each; a file with much to say does not silence the others,
 *      and neither do lines that are hard for a pattern (run/patience.h).
 *   3. From read to send nothing is allocated.
 *
 * Threads: one lane. */
#ifndef FLOW_H
#define FLOW_H

#include "record/recipe.h"
#include "ship/deliver.h"
#include "tail/roster.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checkpoint;
struct checkpoint_report;
struct config_flow;
struct budget;
struct destination;
struct descriptors;
struct digest;
struct flow;
struct imds;
struct loop;
struct patience;
struct random;
struct reader;
struct thrift;
struct watch;

/* What a flow borrows from its lane until flow_free. */
struct flow_place {
    struct loop *loop;
    struct watch *watch;
    struct digest *digest;
    struct random *random;
    struct reader *reader;
    struct descriptors *descriptors;
    struct destination *destination;
    struct budget *budget; /* of the memory of batches */
    uint64_t patience_ms;
    struct checkpoint *checkpoint;
    const struct checkpoint_report *report;
    struct imds *imds; /* the instance's metadata; NULL if no flow needs them */
    struct patience *patience;
    struct thrift *thrift;
    struct roster_own own;     /* the directory of our own state */
    int64_t began_ns;          /* wall time of the program's start */
    void (*noted)(void *user); /* the checkpoint has news to write */
    void *user;
};

struct flow_stats {
    uint64_t lines_read, bytes_read, lines_cut, half_lines, zero_bytes;
    uint64_t dropped[RECIPE_DROPS]; /* events, by reason */
    uint64_t dead, mismatched, gave_up, times_unread, keys_missing;
};

/* Whether a flow needs the instance's metadata, and for how long they are good, in milliseconds. */
bool flow_wants_ec2(const struct config_flow *config, uint64_t *ret_ttl_ms);

/* Borrows `config` until flow_free.  Errors: -ENOMEM; -ECANCELED: a
 * setting is of no use, which was said; deliver_new's, follower_new's. */
int flow_new(const struct config_flow *config, const struct flow_place *place, struct flow **ret);
void flow_free(struct flow *f);

/* Finds the files; from now on news are read in turns. */
void flow_start(struct flow *f);

/* No more reading but of deleted files, which will not be there at the next start; and what is in
 * the batches goes out now.  flow_finish, at the very end: forgets what is done with. */
void flow_drain(struct flow *f);
bool flow_is_drained(const struct flow *f);

/* The time to drain is over: what is in batches goes to the spool, as far as it takes it. */
void flow_give_up_all(struct flow *f);

void flow_finish(struct flow *f);

const char *flow_name(const struct flow *f);
size_t flow_file_count(const struct flow *f);
int64_t flow_sure_ns(const struct flow *f);     /* follower_sure_ns */
uint64_t flow_pending(const struct flow *f);    /* records in batches */
uint64_t flow_record_max(const struct flow *f); /* bytes of a record, as its stream says now */
const struct flow_stats *flow_stats(const struct flow *f);
const struct deliver_stats *flow_deliver_stats(const struct flow *f);

#endif
