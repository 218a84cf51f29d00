/* dead -- records that will not be sent, kept for a person: one destination's dead letters.
 *
 *   1. A letter that is counted by dead_durable is read back later, whole; one that is not may be
 *      there or not, or, after errors, twice.
 *   2. A start is never refused because of what the files contain, nor because there is no room.
 *   3. A start reads no letters: it costs the same however many there are, but for their files'
 *      names.
 *   4. What is damaged is never deleted; the letters around the damage stay.
 *   5. After a failed write or sync nothing more goes to that file: the next attempt begins
 *      another. What was to be written is kept.
 *   6. Nothing is made on the disk before there is a letter.
 *
 * The letters lie in state_dir/dead/DESTINATION/ (0700) in segments, dead-NNNNNNNNNNNNNNNN.log
 * (0600), numbered from 1, that are only appended to; a new one is begun by each run, when one has
 * grown to DEAD_SEGMENT_BYTES, and after an error; so only the last one is ever written to.  Which
 * letters are done stands beside them (keep/dead_dir.h); keep/letters.h reads both.  A segment is
 * lines of JSON:
 *
 *     {"kinetail_dead":1,"segment":7,"seed":"5f0c1a2b","crc32c":"…"}
 *     {"time":"2026-11-21T14:08:33.120Z","flow":"web","file":"/var/log/a.log","offset":0,"end":57,
 *      "reason":"does not match","key":"a","unredacted":true,"cut":true,"record_base64":"…",
 *      "crc32c":"…"}
 *
 * (one line in the file).  1 is the format.  `time` is when the letter was put; `offset` and `end`
 * are where its event begins in the file and where the next one does.  `key`, the partition key,
 * `unredacted` and `cut` may be missing; a letter that is `unredacted` holds what was to be hidden,
 * and one that is `cut` only the beginning of its record: they must not be sent as they are.  A
 * name that is no UTF-8 has U+FFFD in it.  The crc32c, eight hexadecimal digits, always the last
 * member, is that of the line's bytes before `,"crc32c"`, begun with the seed (the header's with
 * 0), so that a stale block cannot pass for a letter.  A reader passes over members that it does
 * not know: there may be more of them in the same format.
 *
 * Threads: one lane; only dead_job_run may run elsewhere.  Blocks: dead_open and dead_job_run.
 * Errors: 0 or -errno. */
#ifndef DEAD_H
#define DEAD_H

#include "buf.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dead;
struct disk;

enum {
    DEAD_SEGMENT_BYTES =
        8 * 1024 * 1024, /* a segment that has grown to this is the last of its kind */
    DEAD_PENDING_BYTES =
        4 * 1024 * 1024, /* letters that wait in memory; a single one may be longer */
    DEAD_LETTER_BYTES = 32 * 1024 * 1024, /* one line; a record of 10 MiB is 14 MB of base64 */
    /* A segment is full when it has grown to its size, which the last write may exceed. */
    DEAD_READ_MAX = DEAD_SEGMENT_BYTES + DEAD_PENDING_BYTES + DEAD_LETTER_BYTES + 4096,
    DEAD_HEADER_MAX = 256,
    DEAD_NAME_LEN = 32,
};

struct dead_letter {
    int64_t wall_ms;         /* since 1970 */
    struct slice flow, file; /* names */
    uint64_t offset, end;    /* bytes */
    struct slice reason, record;
    struct slice key; /* the partition key; empty: none */
    bool unredacted;  /* it holds what was to be hidden */
    bool cut;         /* the record is only the beginning of what it should be */
};

/* What was found at the start. */
struct dead_report {
    uint64_t segments, bytes; /* that wait for a person */
    uint32_t removed;         /* segments that are gone now, as all of their letters were done */
    uint32_t damaged;         /* files that are called *.damaged, now or since long */
    int error; /* 0, or why some of it could not be looked at, or not be put in order */
};

/* Looks at what is there and puts it in order.  `name` is the destination's: no "/" in it.  Borrows
 * `state_dir_fd` and `disk` until dead_close.  The caller holds the store's lock.
 * Errors: -EINVAL: that is no name; -ENOMEM. */
int dead_open(int state_dir_fd, const char *name, const struct disk *disk, struct dead **ret,
              struct dead_report *ret_report);

/* What is not durable is gone.  No job may be running.  NULL is fine. */
void dead_close(struct dead *d);

/* Takes a copy of a letter, to be written by the next job.  Errors: -ENOBUFS: there are too many in
 * memory, wait for a job to end; -EMSGSIZE: it is longer than DEAD_LETTER_BYTES; -ENOMEM. */
int dead_put(struct dead *d, const struct dead_letter *letter);

/* How many letters were put since dead_open, and how many of those, the first ones, are durable. */
uint64_t dead_put_count(const struct dead *d);
uint64_t dead_durable(const struct dead *d);

/* Whether there is something to write. */
bool dead_wants_job(const struct dead *d);

/* The work that blocks, in three steps: begin and end on the lane, run on any thread: one write,
 * one fdatasync.  No second job may begin before the first has ended; letters are put meanwhile.
 * dead_job_end: the errors of the job, open(2)'s, write(2)'s, fdatasync(2)'s; what it had to write
 * is tried again by the next one. */
void dead_job_begin(struct dead *d);
void dead_job_run(struct dead *d);
int dead_job_end(struct dead *d);

/* --- reading a segment, line by line --- */

/* "dead-0000000000000001.log"; and back: 0 if it is not such a name; and the number of a name that
 * begins like one, whatever stands behind it. */
void dead_segment_name(uint64_t segment, char to[DEAD_NAME_LEN]);
uint64_t dead_segment_of_name(const char *name);
uint64_t dead_number_of_name(const char *name);

struct dead_found {
    struct dead_letter letter; /* wall_ms is 0 if `time` is not as we write it */
    struct slice time;         /* as it is written */
    struct buf text;           /* owns what the others borrow */
};

/* Reads the first line and moves `text` behind it.  Errors: -EBADMSG if it is not the header of
 * this segment; -ENOTSUP if its format is a newer one. */
int dead_read_header(struct slice *text, uint64_t segment, uint32_t *ret_seed);

enum dead_line { DEAD_LINE_LETTER, DEAD_LINE_DAMAGED, DEAD_LINE_TORN };

/* Reads the next line and moves `text` behind it; false at the end.  *ret is what it is: a letter,
 * no letter, or an unfinished last line, which is none: nobody has called it durable.  `found`
 * (NULL: do not ask) is good until the next call. */
bool dead_next(struct slice *text, uint32_t seed, enum dead_line *ret, struct dead_found *found);

void dead_found_init(struct dead_found *f);
void dead_found_done(struct dead_found *f);

#endif
