/* flow_inner -- what the parts of a flow share; nobody else may include this:
 *
 *     flow.c       its life, and the way back: settled, noted
 *     flow_read.c  the way out: sources take turns, their lines become records in batches
 *     flow_say.c   what a person is told of the lines
 *     flow_leave.c records that are not delivered: refused for good, or kept on disk
 *     flow_limit.c how large records may be, and what that takes
 *     flow_open.c  what is not whole yet: how long it waits, and where it goes when its file is rotated
 */
#ifndef FLOW_INNER_H
#define FLOW_INNER_H

#include "buf.h"
#include "keep/ledger.h"
#include "list.h"
#include "record/mill.h"
#include "run/depot.h"
#include "run/flow.h"
#include "run/log.h"
#include "run/loop.h"
#include "run/morgue.h"
#include "run/thrift.h"
#include "ship/summary.h"
#include "tail/source.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checkpoint_slot;
struct extent;
struct follower_past;
struct outfit;

enum {
    FLOW_SAY_EVERY_MS = 60 * 1000,
    FLOW_CARRIES = 1024, /* events that go on in another file, or are out with some of it, and lines
                          * that are sent in parts … */
    FLOW_CARRY_BYTES = 16 * 1024 * 1024, /* … and what of them is in memory */
};

/* An event that began in a file that was rotated, while it may go on in the one after it. */
struct carry {
    struct buf text;     /* owns */
    struct extent *held; /* in the first file's ledger: waits for this carry and for each extent
                          * whose partner it is, which is of one record, or of the next carry */
};

/* A source of this flow, with its way back. */
struct tracked {
    struct flow *flow;
    struct source *source;
    struct ledger ledger;
    struct checkpoint_slot *slot;
    struct list all;   /* in flow.tracked */
    struct list ready; /* in flow.ready, or alone */

    struct mill_state mill;
    uint64_t at;         /* the place that it is of */
    size_t want;         /* bytes to read at once, so that what is not whole can be; 0: as always */
    bool parted;         /* some records of what is there are out, as it was when its end … */
    uint64_t parted_end; /* … was here: whatever has come since, it ends there */
    char *header;        /* owns: the first lines of the file, if they are needed; or NULL */
    size_t header_len;
    struct carry *carry;      /* owns; or NULL */
    struct extent *line_held; /* unsettled while a long line is sent in parts; or NULL */

    /* What begins at the place was seen and is not whole. */
    bool open, open_joined; /* there is such an event; such a record of several events */
    bool at_header;      /* the event is the carry alone: the header before the rest is not there */
    bool held;           /* its record is too large for now; record_max may still be raised */
    struct list waiting; /* in flow.waiting, by deadline, or alone */
    uint64_t deadline_ms;
    uint64_t seen;     /* up to where in the file it goes, as far as it is there … */
    uint64_t grown_ms; /* … which was seen first then */
    uint64_t since_ms; /* when it was open first */

    /* What leaves for the spool. */
    uint64_t draft;       /* the last frame that it was in … */
    uint16_t draft_index; /* … and as which of its sources */
};

struct flow {
    const struct config_flow *config;
    struct flow_place place;
    const struct service *service;
    struct deliver *deliver;
    struct follower *follower;
    struct follower_past *past; /* owns; lent to the follower */
    struct ledger_pool pool;
    size_t past_count;
    struct buf past_paths; /* what their paths are in */
    struct list tracked, ready, waiting;
    struct loop_turn turn;
    struct loop_timer timer;     /* of the first of those that wait */
    struct loop_timer ask_again; /* whether the instance's metadata are there */
    struct flow_stats stats;
    struct outfit *outfit;
    struct mill *mill;           /* the outfit's */
    size_t want;                 /* bytes to read at once; 0: as always */
    uint64_t record_max;         /* bytes of a record with its key … */
    struct summary_user summary; /* … as the stream tells us */
    struct thrift_user thrift;
    struct morgue_user dead; /* who we are in the destination's morgue … */
    struct depot_user spool; /* … and depot */
    uint64_t drafts;         /* numbers frames */
    size_t carry_count;      /* extents that are held */
    size_t carry_bytes;      /* of carries' texts */
    bool carry_refused;      /* there was one more than there may be */
    uint64_t fills;          /* numbers extents that belong to no batch, from the top down */
    struct log_limit cut_said, read_said, zeros_said, mismatch_said, gave_up_said, time_said,
        key_said;
    uint64_t stands_back_ms; /* nothing is read until then */
    bool started, draining, full, wants_ec2;
    bool rescuing; /* deleted files hold too much: they alone are read, to the spool */
};

/* --- flow_read.c --- */

void flow_turn(struct loop_turn *turn);
void flow_news(void *user, struct source *s);

/* The long line whose parts were sent is behind us, or nobody's business any more. */
void flow_release_line(struct tracked *t);

/* Forgets what was known of the lines at the place of `t`: it is another place now. */
void flow_forget_place(struct tracked *t);

/* --- flow_say.c --- */

/* Counts what the mill tells of an event, and says it, each kind once a minute. */
void flow_say_notice(const struct tracked *t, const struct mill_notice *n);
void flow_say_unreadable(struct flow *f, const struct source *s, int error);

/* --- flow_open.c --- */

/* Tells what the mill left at the place of `t`, when there was nothing more to read: from now on it
 * waits for more, but not for ever. */
void flow_wait(struct tracked *t, const struct mill_report *report, uint64_t seen);
void flow_wait_no_more(struct tracked *t);

/* Whether what is open has waited for long enough.  An event has only if the file still ends where
 * it did (`end`): else there is more of it, or another one, which has not waited yet. */
bool flow_is_due(const struct tracked *t, uint64_t end);
bool flow_joined_is_due(const struct tracked *t);

/* It cannot go on for now: again in a moment. */
void flow_try_again(struct tracked *t);
void flow_timer_fires(struct loop_timer *timer);

/* Hands the open lines of a file that was rotated over to the file that came after it, if it has: true
 * if it did, and `t` is at `end` now. */
bool flow_hand_over(struct tracked *t, struct slice open, struct cursor end);

/* The carry of `t` is in records, or dropped, and needs to be kept no longer. */
void flow_carry_done(struct tracked *t);

/* Whether the carry of `t` is all that there is of a file that is gone, so that it leaves before we do;
 * whether any is. */
bool flow_carry_must_leave(const struct tracked *t);
bool flow_has_carry_that_must(const struct flow *f);

/* There may be room for a carry that was refused. */
void flow_carry_again(struct flow *f);

/* --- flow_leave.c --- */

bool flow_bury(void *user, const struct batch *b, uint32_t index, struct slice code,
               struct slice message);
bool flow_give_up(void *user, struct batch *b);
bool flow_rescues(void *user, bool much);
int flow_join_depot(struct flow *f);

/* --- flow_limit.c --- */

/* Listens to what the stream says of itself; the flow has all its tools by now. */
void flow_join_limits(struct flow *f);
void flow_leave_limits(struct flow *f);

/* Whether a record that is too large should wait: the stream has not said what it takes, and will soon;
 * or nothing can be delivered anyway. */
bool flow_limit_may_rise(const struct flow *f);

/* A record of this size was refused: the stream may take smaller ones than it said. */
void flow_doubt_limit(const struct flow *f, uint64_t size);

/* How long a line of `t` may be that is read whole now. */
size_t flow_line_max(const struct flow *f, const struct tracked *t);

/* --- flow.c --- */

/* `count` records of `owner` (an extent) are settled. */
void flow_settled(void *user, void *owner, uint32_t count);

/* A held extent has one less to wait for; with the last of them those that it is held with go. */
void flow_let_go(struct flow *f, struct extent *held);

#endif
