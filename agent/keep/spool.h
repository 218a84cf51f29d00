/* spool -- what must not wait in its file, kept on disk until it is delivered: one destination's.
 *
 * What one batch held is a *frame*: its records, where each came from, and *facts*: how far the
 * sources are settled once the frame is durable (lines that only the caller understands).
 *
 *   1. A frame that spool_job_end called durable is given out whole by this run or a later one, until
 *      it is acknowledged, or dropped by spool_drop_oldest.
 *   2. What is given out is what was put: nothing that is torn, flipped, stale or another's.
 *   3. A start is never refused because of what the files contain, nor because there is no room.
 *      Damage is skipped up to the next good frame, kept aside (*.damaged) and counted.
 *   4. Frames are given out in the order in which they were put, and acknowledged in any order.
 *   5. After a failed write or sync nothing more goes to that file.  What failed is put again by the
 *      caller, and is never given out from there, not even by a later run: the next segment says
 *      where the one before it ends.
 *   6. Memory: one frame to write, one to read, and some bytes for each segment.  A start reads a few
 *      hundred bytes of each segment, and the frames that are not merged yet.
 *
 * The spool lies in state_dir/spool/DESTINATION/ (0700) in segments (0600), numbered from 1:
 *
 *     spool-NNNNNNNNNNNNNNNN.seg      header, frames, and a footer once it is sealed
 *     spool-NNNNNNNNNNNNNNNN.ack      the frames of it that are done, in any order
 *     spool-NNNNNNNNNNNNNNNN.damaged  a segment that had damage, when all else of it was done
 *
 * Segments leave from the front only, so that a hole in the numbers is a segment that is missing; the
 * last one stays even if all of it is done, so that the numbers go on.  A segment is unlinked, the
 * directory synced, and then its .ack unlinked.  All integers are little-endian; a frame begins at a
 * multiple of 8.  Each checksum is a CRC32C, begun with the segment's seed, and the header's with 0.
 *
 *     segment  "KTSPOOL1"  u32 format = 1  u32 seed (random)  u64 segment  u64 first serial
 *              u64 owner: the first 8 bytes of the SHA-256 of the destination's name
 *              u64 where the segment before it ends (0: unknown)  i64 wall ms
 *              u32 the seed of that one (0: unknown; none: any number, the same in one run)  u32 crc
 *     frame    "KTFR"  u32 length of all of it  u64 serial  u64 offset in the file  i64 wall ms
 *              u32 records  u32 sources  u32 length of the facts  u32 crc of the payload
 *              u32 0  u32 crc of this header up to here and of the facts
 *              facts, then the payload: the sources { u16 len, flow, u16 len, path }, the records
 *              { u16 source, u16 key len, u32 data len, u64 offset, u64 end, key, data }; zeros up
 *              to a multiple of 8
 *     footer   "KTEND\0\0\0"  u64 frames  u64 records  u64 offset in the file  u32 0  u32 crc
 *     .ack     { u64 serial  u32 records  u32 crc, begun with the segment's seed }
 *              of a part of a frame: records = 2^31 + first * 2^16 + how many
 *
 * A serial numbers the destination's frames from 1, without a gap; spool_job_end never tells one twice.
 * A frame whose serial is not before the first one of the next segment had failed, and is void.  Others
 * may append to an .ack (the queue command, beside a running agent): it is looked at again before each
 * frame.
 *
 * Threads: one lane; only spool_add_*, spool_job_run may run elsewhere, between
 * spool_job_begin and spool_job_end.  Blocks: spool_open, spool_facts and spool_job_run; spool_read
 * as long as a read from disk does.  Errors: 0 or -errno. */
#ifndef SPOOL_H
#define SPOOL_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;
struct spool;

enum {
    SPOOL_SEGMENT_MIN = 1024 * 1024,
    SPOOL_SEGMENT_MAX = 32 * 1024 * 1024, /* the last frame may exceed it */
    SPOOL_SEGMENT_FRAMES = 65536,
    SPOOL_FRAME_MAX = 64 * 1024 * 1024, /* bytes; what is longer is damage */
    SPOOL_NAME_LEN = 32,
    SPOOL_PARTS_RECORDS = 1024, /* records of a frame that can be acknowledged one by one */
};

struct spool_settings {
    const char *name;        /* the destination's directory: no "/" in it */
    uint64_t limit_bytes;    /* of all segments; a sixteenth is a segment, within its bounds */
    uint64_t min_free_bytes; /* that stay free for others on the file system */
    uint64_t merged;         /* serial of the last frame whose facts the caller knows; 0: of none */
    bool read_only;          /* for the queue command: nothing but .acks is ever written */
    /* Told of each place where something stands that is no frame, as it is found; or NULL. */
    void (*damage)(void *user, uint64_t segment, uint64_t at);
    void *user;
};

/* What waits now, and what was found amiss since spool_open. */
struct spool_stats {
    uint64_t frames, records; /* that are not done */
    uint64_t bytes;           /* on disk: all segments and their acks */
    uint64_t damaged;         /* places in which something stands that is no frame */
    uint64_t damaged_bytes;
    uint64_t lost_records; /* of frames that are damaged or missing, as far as a footer tells */
    uint32_t missing;      /* segments that should be there */
    uint32_t foreign;      /* that another destination's spool wrote: called *.foreign now */
    uint32_t newer;        /* in a format that this version does not know: left alone */
    uint32_t moved_aside;  /* segments that are called *.damaged now */
    bool lost_end;         /* `merged` was durable, but frames up to there are not here */
    bool torn;             /* the last frame was never finished: passed over */
    int error;             /* 0, or why some of it could not be looked at or put in order */
};

/* Looks at what is there and puts it in order.  Borrows `state_dir_fd` and `disk` until spool_close.
 * The caller holds the store's lock, unless it is only reading.  Nothing is made on the disk before
 * there is a frame.  Errors: -EINVAL: that is no name; -ENOMEM. */
int spool_open(int state_dir_fd, const struct disk *disk, const struct spool_settings *settings,
               struct spool **ret);

/* What is not durable is gone.  No job may be running.  NULL is fine. */
void spool_close(struct spool *s);

const struct spool_stats *spool_stats(const struct spool *s);

/* Tells `take` the facts of each whole frame after `merged`, payload checked, in their order, as they
 * are in the file; ends before the first that is damaged or missing, as facts build on one another.
 * Before the first read and job.  Errors: what `take` returned; read(2)'s. */
int spool_facts(struct spool *s, int (*take)(void *user, uint64_t serial, struct slice facts),
                void *user);

/* --- writing: one frame a job --- */

struct spool_source {
    struct slice flow, path;
};

struct spool_record {
    uint16_t source;      /* index of the frame's sources */
    uint32_t index;       /* given by spool_next: its place in the frame */
    uint64_t offset, end; /* bytes of its file that it was made of */
    struct slice key;     /* the partition key, UTF-8; empty: none */
    struct slice data;
};

/* Whether a frame with so many bytes of data and keys may be put: 0; -EDQUOT: the limit is reached;
 * -ENOSPC: the file system would have too little left; statvfs(3)'s. */
int spool_has_room(struct spool *s, uint64_t bytes);

/* Begins a frame: copies all of it.  The next job writes it; only when that has ended another one may
 * begin.  Errors: -EMSGSIZE; -ENOMEM. */
int spool_frame_begin(struct spool *s, int64_t wall_ms, const struct spool_source *sources,
                      size_t source_count, struct slice facts);

/* Acknowledges a frame that was given out in this run: it is done.  Written by spool_write_acks, made
 * durable by the next job.  Any other serial is passed over. */
void spool_ack(struct spool *s, uint64_t serial);

/* Acknowledges `count` records of a frame that is not done, from its `first` one on: a later run does
 * not give them out again.  May be forgotten, which costs duplicates. */
void spool_ack_part(struct spool *s, uint64_t serial, uint32_t first, uint32_t count);

/* Hands all acknowledgements to the kernel.  On failure they are kept.  Errors: write(2)'s. */
int spool_write_acks(struct spool *s);

/* Gives up the segment at the front; returns how many records that were not done it had, 0 if there
 * is only the last one.  They are not given out any more; what was given out may still be
 * acknowledged. */
uint64_t spool_drop_oldest(struct spool *s);

/* Whether acknowledgements are to be synced, or segments to be unlinked. */
bool spool_wants_job(const struct spool *s);

/* The work that blocks: begin and end on the lane, the rest on any thread in between.  A job writes
 * and syncs the frame that was begun, if there is one, syncs acknowledgements, and unlinks what is
 * done.  spool_add_record: -EMSGSIZE, -ENOMEM; the frame is then not written, and job_end says so, as
 * after spool_add_failed: the caller has no record to add.
 * spool_job_end: *ret_serial is the durable frame's, 0 if there was none or it failed: then the
 * errors of open(2), write(2), fdatasync(2) in writing it.  What failed in tidying up is tried again
 * by the next job, and seen in stats.error. */
void spool_job_begin(struct spool *s);
int spool_add_record(struct spool *s, const struct spool_record *r);
void spool_add_failed(struct spool *s, int error);
void spool_job_run(struct spool *s);
int spool_job_end(struct spool *s, uint64_t *ret_serial);

/* --- reading --- */

struct spool_frame {
    uint64_t serial;
    uint64_t segment, at; /* where it is, in bytes */
    int64_t wall_ms;      /* when it was put, since 1970 */
    uint32_t records;
    bool done;            /* acknowledged; only with spool_read_any */
    struct slice facts;   /* borrowed like the rest until the next call */
    struct slice rest;    /* the records that spool_next has not told yet */
    struct slice sources; /* all of them, as they are in the file */
    uint32_t source_count;
    uint32_t next;                           /* index of the first record in `rest` */
    uint64_t skip[SPOOL_PARTS_RECORDS / 64]; /* records that are done */
};

/* The next frame that is durable and not done: 1; 0: there is none now.  Damage on the way is skipped
 * and counted.  Errors: read(2)'s, -ENOMEM: the same again the next time; but what cannot be read ten
 * times is damage, as one bad sector must not keep all behind it. */
int spool_read(struct spool *s, struct spool_frame *ret);

/* The same for a command that looks at everything: those that are done, too; once through. */
int spool_read_any(struct spool *s, struct spool_frame *ret);

/* The next record of the frame that is not done, and where it came from; false at the end.  Borrowed from the frame. */
bool spool_next(struct spool_frame *f, struct spool_record *ret, struct spool_source *ret_source);

/* The frame's source of this index; empty texts if there is none. */
struct spool_source spool_source_at(const struct spool_frame *f, uint16_t index);

/* Gives back the memory for reading; the next read takes it again. */
void spool_rest(struct spool *s);

/* "spool-0000000000000001.seg"; and back: 0 if it is not such a name. */
void spool_segment_name(uint64_t segment, char to[SPOOL_NAME_LEN]);
uint64_t spool_segment_of_name(const char *name);

#endif
