/* squeeze -- one record, compressed by itself: a whole gzip member or a whole zstd frame.
 *
 *   1. Whoever gets the record needs nothing else to read it: gzip(1), zstd(1) and every library do.
 *   2. The same record at the same level is the same bytes again, whatever came before it.  gzip's
 *      header has no name and no time (RFC 1952); a zstd frame says how long its content is, and has
 *      a checksum (RFC 8878).
 *   3. What does not get smaller grows by squeeze_bound at most.
 *   4. A warm one allocates nothing, and neither do the libraries for it.
 *
 * 4 is why zstd works in memory that is given to it (ZSTD_initStaticCCtx, of libzstd's "static" half,
 * exported by every distribution's library): a context of its own gives its memory back after 128
 * records that are much smaller than an earlier one, and takes it again for the next large one.
 *
 * Thinks: no I/O.  Threads: one at a time for each squeeze. */
#ifndef SQUEEZE_H
#define SQUEEZE_H

#include "slice.h"

#include <stddef.h>

struct buf;
struct squeeze;

enum squeeze_kind { SQUEEZE_GZIP, SQUEEZE_ZSTD };

/* Levels that a person may ask for begin at 1 and end here; 0 is the library's usual one (6; 3). */
enum { SQUEEZE_GZIP_LEVEL_MAX = 9, SQUEEZE_ZSTD_LEVEL_MAX = 19 };

/* For records of up to `max_in` bytes.  It takes 270 KiB for gzip; for zstd, with records of 1 MiB,
 * 1.3 MiB at level 3 and 18 MiB at level 19, of which short records touch little; and room for one
 * result.  Gives *ret.
 * Errors: -EINVAL: no such level; -EMSGSIZE: `max_in` is more than 1 GiB; -ENOMEM. */
int squeeze_new(enum squeeze_kind kind, int level, size_t max_in, struct squeeze **ret);
void squeeze_free(struct squeeze *s); /* NULL is fine */

/* Results are put into `result` from now on, which grows with them; borrowed until squeeze_free. */
void squeeze_lend(struct squeeze *s, struct buf *result);

/* Records of up to `max_in` bytes are taken from now on; fewer are as good as before.  Errors: as
 * squeeze_new; then it is as it was. */
int squeeze_set_max(struct squeeze *s, size_t max_in);

/* Gives back what large records took. */
void squeeze_trim(struct squeeze *s);

/* Compresses `in`.  *ret lies in the room for results and is good until the next call.
 * Errors: -EMSGSIZE: `in` is longer than it was made for; -ENOMEM; -EIO: the library would not, which it
 * has no reason for. */
int squeeze_record(struct squeeze *s, struct slice in, struct slice *ret);

/* How long the result for `len` bytes may be. */
size_t squeeze_bound(struct squeeze *s, size_t len);

#endif
