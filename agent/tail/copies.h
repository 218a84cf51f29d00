/* copies -- which file is a copy of which: copytruncate's, to be read on where the original was, and
 * backups, not to be read at all.
 *
 *   1. A file is a copy only by its content: what was read from the original is at its beginning, or
 *      it is a beginning of what the original has.
 *   2. Nothing is concluded from a file that is empty.
 *
 * A part of the follower.  Blocks as pread(2) of regular files does. */
#ifndef COPIES_H
#define COPIES_H

#include "tail/neighbours.h"

#include <stdbool.h>

struct follower;
struct source;

/* Whether a file has what `s` reads, or has read before it was truncated, up to its place. */
bool copies_fits(const struct follower *f, const struct neighbour *n, const struct source *s);

/* Whether all that is in a file is in the file of `s` as well. */
bool copies_is_backup(const struct follower *f, const struct neighbour *n, const struct source *s);

/* Whether what was read from `s` is so much that another file does not begin with it by chance, as
 * with a header. */
bool copies_is_telling(const struct follower *f, const struct source *s);

/* Whether the file of `s` still is what it was. */
bool copies_source_holds(const struct follower *f, const struct source *s);

enum copies_verdict {
    COPIES_NONE,   /* a file of its own, as far as can be told */
    COPIES_WAIT,   /* it may become a copy: not to be read now */
    COPIES_BACKUP, /* a copy of what is in another file: it has nothing new */
};

/* What a file at `path` is that nobody knows and that the globs mean: it may be called like a
 * rotation of another file that they mean.  *ret_of, if it is a copy: of which source. */
enum copies_verdict copies_judge(struct follower *f, const char *path, const struct neighbour *n,
                                 struct source **ret_of);

#endif
