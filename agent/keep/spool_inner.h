/* spool_inner -- what the parts of the spool share; nobody else may include this:
 *
 *     spool.c         life, acknowledgements, room
 *     spool_start.c   what is there: segments, holes, leftovers
 *     spool_read.c    frames found, checked and given out
 *     spool_job.c     frames written, segments begun and sent off
 *     spool_format.c  bytes */
#ifndef SPOOL_INNER_H
#define SPOOL_INNER_H

#include "buf.h"
#include "disk.h"
#include "keep/spool.h"
#include "keep/spool_format.h"

#include <limits.h>

enum {
    SPOOL_SYNCS_MAX = 16,           /* acknowledgements' files synced in one job */
    SPOOL_LEAVES_MAX = 16,          /* segments that leave in one job */
    SPOOL_IDLE_BYTES = 64 * 1024,   /* what the last segment may hold that is of no use any more */
    SPOOL_FRAME_EXTRA = 128 * 1024, /* taken for what a frame is longer than its data and keys */
    SPOOL_KEEP_BYTES = 2 * 1024 * 1024, /* what an empty buffer keeps */
    SPOOL_PARTS_MAX = 16 * 1024,        /* parts that are remembered; more cost duplicates */
    SPOOL_READ_TRIES = 10, /* so often a place that cannot be read is tried, then it is damage */
};

/* Numbers have fifteen digits.  From here on only a segment whose header holds counts, as a stray file
 * must not take those that are left: what is numbered beyond them no start would find. */
#define SPOOL_NUMBER_STRAY UINT64_C(500000000000000)

enum segment_kind {
    SEGMENT_GOOD,   /* its header holds */
    SEGMENT_UNREAD, /* it could not be opened or read: looked at again when all others are through */
    SEGMENT_NEWER,  /* not ours to judge: left alone */
};

/* Of one frame: how many records, and what became of it. */
enum {
    NOTE_RECORDS = (1 << 28) - 1,
    NOTE_PENDING = 1 << 28, /* done, and not written to the .ack yet */
    NOTE_GIVEN = 1 << 29,   /* given out in this run */
    NOTE_DONE = 1 << 30,
};

struct segment {
    uint64_t number;
    uint64_t first;      /* serial of its first frame */
    uint64_t before_end; /* where the one before it ends; 0: unknown */
    uint64_t size;       /* of the file */
    uint64_t end;        /* of the frames in it that are durable, and may be given out */
    uint64_t ack_size, ack_seen;
    uint64_t last; /* serial of the last frame that was found or put */
    uint64_t records, records_done, records_open;
    uint32_t frames, frames_done;
    uint32_t frames_open; /* given out and not done */
    uint32_t seed, before_seed;
    enum segment_kind kind;
    bool damaged;      /* moved aside instead of unlinked */
    bool dropped;      /* by spool_drop_oldest */
    bool ack_unsynced; /* something was written to its .ack */
    unsigned tries;    /* to look at it */

    /* The reader's. */
    uint64_t read_at, read_serial; /* the next place, and the last frame seen */
    bool passed;                   /* nothing comes any more */
    uint32_t *notes;               /* owns; NULL until it is read */
    uint32_t note_count, acks_pending;
};

struct spool_part {
    uint64_t serial;
    uint32_t first, count;
    bool pending;
};

/* What a job is to do, decided on the lane, and what came of it.  Nobody else looks while it runs. */
struct spool_job {
    bool runs;
    bool has_frame;
    bool begins; /* a segment: for the frame, or an empty one */
    bool seals;  /* the segment is full with it */
    int add_result, result;
    int error; /* in tidying up */
    int dir_fd;
    int64_t wall_ms;
    struct spool_header header; /* of the segment that begins */
    struct spool_head head;     /* of the frame */
    uint64_t tail;              /* segment of an earlier run to be synced before; 0: none */
    uint64_t segment_size;      /* when it has done well; of the file, after a failure too */
    struct spool_footer footer; /* before the frame */
    bool sync_dir;              /* an .ack is new */
    uint64_t syncs[SPOOL_SYNCS_MAX];
    size_t sync_count, synced;
    struct {
        uint64_t number;
        bool aside;
    } leaves[SPOOL_LEAVES_MAX];
    size_t leave_count, left;
    uint64_t stays; /* the last segment, to be synced before others leave; 0: it is durable */
};

struct spool {
    const struct disk *disk;
    int state_dir_fd;
    char name[NAME_MAX + 1];
    uint64_t owner;
    uint32_t origin; /* what a segment that has none before it says instead of its seed */
    uint64_t limit_bytes, min_free_bytes, segment_bytes, merged;
    bool read_only;
    struct spool_stats stats;
    void (*damage)(void *user, uint64_t segment, uint64_t at); /* or NULL */
    void *damage_user;
    int look_error;

    int dir_fd;  /* owns; -1: there is none yet */
    bool looked; /* at what is there; before that nothing is written */

    struct segment *segments; /* owns; by number */
    size_t count, cap;
    uint64_t next_number, next_serial;
    size_t acks_pending;
    size_t acks_unsynced; /* segments whose .ack is */

    /* Records that are done, of frames that are not: read from .acks, or to be written there. */
    struct spool_part *parts; /* owns */
    size_t part_count, part_cap, parts_pending;

    /* The writer: the last segment, while it is open. */
    int fd;          /* owns; -1: the next frame begins a segment */
    bool dirs_known; /* that both directories are durable … */
    bool tail_known; /* … and all that earlier runs have written */
    struct buf out;  /* the frame that was begun; the job's while it runs */
    bool begun;
    struct spool_head out_head;
    struct spool_job job;

    /* The reader. */
    struct {
        size_t index;    /* in segments */
        int fd;          /* owns; -1: none */
        uint64_t number; /* whose it is */
        struct buf frame;
        uint64_t tried_number, tried_at; /* where a read failed, and how often */
        unsigned tries;
    } read;
};

/* spool_start.c */
int spool_enter(struct spool *s, bool make, int *ret_fd);
/* Syncs what earlier runs have written to the last segment of theirs, and makes it known. */
int spool_sync_tail(struct spool *s, int dir_fd, uint64_t number);
int spool_look(struct spool *s);
/* Looks again at a segment that could not be read: 1 if it can be now. */
int spool_look_again(struct spool *s, size_t index);

/* spool_read.c */
/* 1: all of it; 0: the file ends before; or -errno. */
int spool_pread(const struct spool *s, int fd, void *to, size_t len, uint64_t at);
/* The next frame whose head holds, whose serial comes after `after` and before `limit`, and which lies
 * in [from, end): 1, 0 or -errno.  `blind`: what cannot be read is passed over. */
int spool_seek(const struct spool *s, int fd, const struct segment *g, uint64_t from, uint64_t end,
               uint64_t after, uint64_t limit, bool blind, struct spool_head *ret);
/* Whether the payload of a frame holds: 1, 0 or -errno. */
int spool_check_payload(const struct spool *s, int fd, const struct segment *g,
                        const struct spool_head *h);
/* The serial at which the frames of the segment have ended for sure. */
uint64_t spool_serial_limit(const struct spool *s, size_t index);
void spool_close_reader(struct spool *s);

/* spool.c */
/* Tells `each` the acknowledgements of a segment that were not read yet; `each` may end it.  The figures
 * are the caller's to mend. */
int spool_read_acks(struct spool *s, struct segment *g,
                    int (*each)(void *user, uint64_t serial, uint32_t records), void *user);
/* Notes a part; without memory it is forgotten. */
void spool_add_part(struct spool *s, uint64_t serial, uint32_t first, uint32_t count, bool pending);
bool segment_is_done(const struct segment *g);
void spool_mark_acks(struct spool *s, struct segment *g, bool unsynced);
/* Counts what is damaged, and tells of it. */
void spool_note_damage(struct spool *s, const struct segment *g, uint64_t at, uint64_t bytes);
int spool_add_segment(struct spool *s, struct segment **ret);
void spool_remove_segment(struct spool *s, size_t index);
/* Puts a segment's frames into the figures, and takes them out again. */
void spool_count_in(struct spool *s, const struct segment *g);
void spool_count_out(struct spool *s, const struct segment *g);
/* A number that no other segment has; not 0. */
uint32_t spool_new_seed(const struct spool *s);
int spool_open_file(const struct spool *s, uint64_t number, enum spool_file file, int flags);

#endif
