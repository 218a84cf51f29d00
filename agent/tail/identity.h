/* identity -- looks at an open file: which one it is, and whether a place in it still holds.
 *
 * Blocks as pread(2) of a regular file does.  Errors: 0 or -errno. */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "cursor.h"
#include "encoding.h"
#include "slice.h"
#include "source_id.h"

#include <stdbool.h>
#include <stdint.h>

struct digest;

/* What a look at a file says beside its identity. */
struct identity_facts {
    uint64_t size;
    int64_t modified_ns, changed_ns; /* mtime and ctime, since 1970 */
    uint32_t links, owner;           /* how many names it has; its user */
};

/* Opens a log file for reading: never waits (a FIFO without a writer is refused later, by
 * identity_read), and follows symbolic links, wherever they stand in the path, only if told to.
 * Errors: open(2)'s; -ELOOP: one is on the way. */
int identity_open(const char *path, bool follow_symlinks);

/* The same for a directory, which is only to be worked with, not listed (O_PATH). */
int identity_open_dir(const char *path, bool follow_symlinks);

/* Reads identity and head of a regular file.  Errors: -EISDIR, -EINVAL if it is no regular file;
 * statx(2)'s, pread(2)'s. */
int identity_read(struct digest *d, int fd, struct source_id *ret,
                  struct identity_facts *ret_facts);

/* Takes more of the file's beginning into the head, if there is much more by now and it still
 * begins as it did; true if it grew. */
bool identity_grow_head(struct digest *d, int fd, struct source_id *id);

/* The head of a file that was shortened to a place within it.  Errors: -ESTALE, pread(2)'s. */
int identity_cut_head(struct digest *d, int fd, uint64_t len, struct source_id *id);

/* The place at `offset`, behind the last byte of `before`, which has the anchor's bytes at least.
 * `earlier` (or NULL) is a place that was known before it: rungs that `before` does not reach to
 * are taken from there. */
struct cursor identity_place(struct digest *d, struct slice before, uint64_t offset,
                             const struct cursor *earlier);

/* The place before `offset`, with its anchor and its rungs read from the file.
 * Errors: -ESTALE if the file is shorter; pread(2)'s. */
int identity_cursor(struct digest *d, int fd, uint64_t offset, struct cursor *ret);

/* Whether the file begins with this head and has this place. */
bool identity_fits(struct digest *d, int fd, const struct source_id *id, struct cursor at);

/* Where to go on in a file that was shortened by a few bytes, so that `at` does not hold any more, or
 * the head does not: the highest of its rungs that does (or `at` itself), if what stands before it is so much text that a file written
 * anew cannot begin with it by chance (a header can). */
bool identity_find_rung(struct digest *d, int fd, const struct cursor *at, struct cursor *ret);

/* The beginning of the last line: behind the last newline before `size`, or 0.
 * Errors: pread(2)'s. */
int identity_last_line(int fd, enum encoding e, uint64_t size, uint64_t *ret_offset);

#endif
