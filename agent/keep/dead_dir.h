/* dead_dir -- a directory of dead letters: which segments there are, and what of them is done.
 *
 * Letters that were sent again or dropped are done.  That is not written into the segment, which is
 * the agent's, but beside it: dead-NNNNNNNNNNNNNNNN.done (0600) holds marks, to which only commands
 * append, one at a time (keep/letters.h); a running agent never looks at them.
 *
 *     mark   u64 from  u64 to  u32 flags  u32 crc       little-endian
 *
 *   1. A mark says that the letters in the bytes [from, to) of the segment are done.  Its crc is
 *      the CRC32C of what is before it, begun with the segment's seed: what is torn, flipped or of
 *      another segment with this number is no mark.
 *   2. A last mark from 0 to the segment's end says that all of it is done: such a segment leaves,
 *      or, if there was damage in it (DEAD_MARK_DAMAGED), is called *.damaged.  So nobody reads a
 *      segment to know that it may leave.
 *   3. A segment leaves before its marks do, durably: what is done never comes back.
 *
 * Threads: any, one at a time.  Blocks: always.  Errors: 0 or -errno. */
#ifndef DEAD_DIR_H
#define DEAD_DIR_H

#include "keep/dead.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct disk;

enum { DEAD_MARK_DAMAGED = 1 };

/* Whether a directory may be called so: no "/" in it. */
bool dead_dir_is_name(const char *name);

/* Opens state_dir/dead/NAME; makes it, durably, if told to.  Gives *ret_fd. */
int dead_dir_open(const struct disk *disk, int state_dir_fd, const char *name, bool make,
                  int *ret_fd);

struct dead_list {
    uint64_t *segments, *marked; /* own; numbers, ascending: of segments, of files with marks */
    size_t count, marked_count;
    uint64_t next;    /* the number after all that were ever given to what is still there */
    uint32_t damaged; /* files that are called *.damaged */
};

/* Lists what is there.  Gives *ret, for dead_list_done. */
int dead_dir_list(const struct disk *disk, int dir_fd, struct dead_list *ret);
void dead_list_done(struct dead_list *l);

/* Sends off what is all done and what nothing was ever in, and counts what stays, into *report.
 * Nobody may be writing: the caller holds the store's lock.  Goes on after an error, and returns
 * the last one. */
int dead_dir_tidy(const struct disk *disk, int dir_fd, const struct dead_list *l,
                  struct dead_report *report);

/* --- marks --- */

/* "dead-0000000000000001.done" */
void dead_marks_name(uint64_t segment, char to[DEAD_NAME_LEN]);

struct dead_range {
    uint64_t from, to;
};

struct dead_marks {
    struct dead_range *ranges; /* owns; ascending, and apart from each other */
    size_t count;
    uint64_t all_to; /* where the last mark ends, if it begins at 0; else 0 */
};

/* Reads the marks of a segment with this seed; none if there are none.  Gives *ret. */
int dead_marks_read(const struct disk *disk, int dir_fd, uint64_t segment, uint32_t seed,
                    struct dead_marks *ret);
void dead_marks_done(struct dead_marks *m);

/* Whether the letter that begins there is done. */
bool dead_marks_have(const struct dead_marks *m, uint64_t at);

/* Makes marks durable, all or none of them.  The caller keeps others from doing the same. */
int dead_marks_append(const struct disk *disk, int dir_fd, uint64_t segment, uint32_t seed,
                      const struct dead_range *ranges, size_t count, uint32_t flags);

#endif
