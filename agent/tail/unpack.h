/* unpack -- a compressed log file, read as if it were not: gzip or zstd, told by its content.
 *
 *   1. Offsets are of the uncompressed content.  Several gzip members or zstd frames in a row are
 *      one content; zeros behind the last gzip member are padding, as gzip(1) says too.
 *   2. A file that is cut short, or being written at this moment, has what can be decompressed of
 *      it so far for its content; when it has grown, so has the content.
 *   3. What was good before a damage can be read.  What is handed out is not checked yet: the
 *      checksum of a member or frame stands at its end.  zstd mostly notices in the damaged block;
 *      gzip may take wrong bytes for right ones up to there.
 *   4. Going on is cheap, also when each read begins up to UNPACK_BACK bytes, or a window, before
 *      the end of the last one.  Going back further is correct and slow: from the beginning again.
 *   5. No call takes long, whatever the file says: none decompresses more than UNPACK_STEP bytes
 *      beyond what it returns, and what costs more than that says "again" and has come nearer.
 *   6. Memory is fixed: twice the window, the input buffer, and what the libraries need, which for
 *      gzip is about 50 KiB.  For zstd it is what the writer of the file chose, up to a limit: it
 *      is 8 MiB for the usual levels (-1 to -19) and 128 MiB at most (--long, --ultra -22).  No
 *      file makes it grow once its largest frame has begun.
 *
 * The descriptor is borrowed and only ever used with pread(2), so its position does not matter.  A
 * file that is replaced by another content in place is not noticed here; it looks like damage.
 *
 * Threads: one.  Blocks as pread(2) of a regular file does.  Errors: -errno. */
#ifndef UNPACK_H
#define UNPACK_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    UNPACK_MAGIC_LEN = 4,          /* of a file's first bytes, what unpack_kind_of looks at */
    UNPACK_STEP = 4 * 1024 * 1024, /* 5 to 20 ms of a core */
    UNPACK_BACK = 512 * 1024,
};

enum unpack_kind { UNPACK_NONE, UNPACK_GZIP, UNPACK_ZSTD };

/* What a file that begins with these bytes is.  (A compressed file is never taken for text, nor text
 * for compressed: no text begins with these bytes.) */
enum unpack_kind unpack_kind_of(struct slice magic);

/* What a file of this name should be: ".gz", ".zst". */
enum unpack_kind unpack_kind_of_name(struct slice name);

struct unpack;

/* Borrows `fd` until unpack_close.  `window` (> 0): the most that one read asks for.  Looks at
 * nothing yet.  Gives *ret.  Errors: -ENOMEM. */
int unpack_open(int fd, enum unpack_kind kind, size_t window, struct unpack **ret);

/* The most that one read may ask for. */
size_t unpack_window(const struct unpack *u);

/* Comes nearer to `offset`.  1: it is there, and a read from there on is cheap.  0: not yet, call
 * again.  Errors: -ENODATA if the content ends before it; else those of unpack_pread. */
int unpack_seek(struct unpack *u, uint64_t offset);

/* As pread(2), of the content: gives fewer bytes than asked for only at its end.  `len` is the
 * window at most.
 *
 * Errors: -EAGAIN if the place is too far for one call: the same call again, or unpack_seek, goes on
 * (two places read in turn, far from each other, are never reached).  At a content's end that is
 * none, and so without any byte before it: -EBADMSG if it is damaged there, or is not of this kind;
 * -EOVERFLOW if a zstd frame wants more memory than the limit; -ENOTSUP if one wants a dictionary.
 * And pread(2)'s, -ENOMEM: the same call again goes on. */
ssize_t unpack_pread(struct unpack *u, void *to, size_t len, uint64_t offset);

/* After a read that came to the end: whether it is the end of a last member or frame.  If not, and
 * if there is no error, the file is cut short or still being written (one that is empty as well). */
bool unpack_is_whole(const struct unpack *u);

/* After a read that came to the end: why nothing more can be read there, as unpack_pread would say
 * at the end; or 0.  For a caller whose reads begin before the place that it is interested in. */
int unpack_error(const struct unpack *u);

void unpack_close(struct unpack *u); /* NULL is fine */

#endif
