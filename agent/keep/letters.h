/* letters -- the dead letters of one destination as a command sees them: read, and marked as done.
 *
 *   1. It works beside a running agent: what that writes meanwhile is read or not, whole or not at
 *      all; its unfinished last line is no damage, and nothing that it holds is written to.
 *   2. What is read is what was put: every checksum is looked at.
 *   3. What letters_commit called done is not read again as undone, by anybody.
 *   4. Memory: one segment, and one letter.
 *
 * Threads: one.  Blocks: always.  Errors: 0 or -errno. */
#ifndef LETTERS_H
#define LETTERS_H

#include "keep/dead.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct letters;

enum letters_kind {
    LETTERS_LETTER,
    LETTERS_DAMAGED, /* a line that is none, or a segment that is not ours */
    LETTERS_NEWER,   /* a segment in a format that this version does not know */
    LETTERS_ERROR,   /* a segment that cannot be read: `error` */
};

/* Where a letter stands; good as long as the segment is there. */
struct letters_place {
    uint64_t segment;
    uint32_t seed;
    uint64_t at, end; /* bytes of the segment, its newline included */
};

struct letters_item {
    enum letters_kind kind;
    struct letters_place place; /* at and end are 0 if it is the whole segment */
    bool done;
    int error;
    struct slice time;                /* of a letter, as it is written */
    const struct dead_letter *letter; /* … borrowed until the next call */
};

struct letters_stats {
    uint64_t segments, bytes; /* on disk, with their marks, when they were listed */
    uint32_t damaged;         /* files that are called *.damaged */
};

/* Lists the segments that are there now.  `name` is the destination's directory.  With `mark` no
 * other command can mark until letters_close: -EBUSY if one does.  Borrows `disk`; `state_dir_fd`
 * is used by this call only.  Gives *ret.  Errors: -ENOENT: there is no such destination; -EINVAL:
 * that is no name; open(2)'s. */
int letters_open(const struct disk *disk, int state_dir_fd, const char *name, bool mark,
                 struct letters **ret);
void letters_close(struct letters *l); /* NULL is fine */

const struct letters_stats *letters_stats(const struct letters *l);

/* The next line that is not the end of what is being written: 1; 0: that was all.  letters_rewind
 * begins again, with the same segments.  Errors: -ENOMEM. */
int letters_next(struct letters *l, struct letters_item *ret);
void letters_rewind(struct letters *l);

/* Notes that a letter is done; letters_commit makes all notes durable.  After an error of it, what
 * was noted may be done or not, and is forgotten.  Errors: -ENOMEM; open(2)'s, write(2)'s,
 * fdatasync(2)'s. */
int letters_mark(struct letters *l, const struct letters_place *p);
int letters_commit(struct letters *l);

/* Notes which segments are all done, so that the agent sends them off: when it begins another one,
 * or when it starts.  Reads what was marked. */
int letters_finish(struct letters *l);

/* After that, where no agent runs and none can start: they leave now.  *ret_left is how many
 * did. */
int letters_tidy(struct letters *l, uint32_t *ret_left);

#endif
