/* base64 -- bytes as text and back (RFC 4648, section 4: standard alphabet, padded).
 *
 *   1. What base64_encode writes, base64_decode reads back as the same bytes.
 *   2. Only the one canonical text of some bytes is accepted by base64_decode: no blanks, no
 *      missing padding, no stray bits under it.
 *
 * Threads: any; there is no state.  Nothing here allocates. */
#ifndef BASE64_H
#define BASE64_H

#include <stddef.h>

#include "slice.h"

/* The length of the text of `n` bytes, padding counted, no zero at its end.
 * `n` is below 3/4 of SIZE_MAX. */
static inline size_t base64_size(size_t n)
{
    return n / 3 * 4 + (n % 3 > 0 ? 4 : 0);
}

/* Writes exactly base64_size(n) bytes to `to`, which must not overlap `from`. */
void base64_encode(char *to, const void *from, size_t n);

/* The same by plain C, for machines without vectors, and for tests that compare the two. */
void base64_encode_portable(char *to, const void *from, size_t n);

/* Writes at most text.len / 4 * 3 bytes to `to`, which must not overlap `text`.  On failure `to`
 * holds nothing of use.  Errors: -EBADMSG if `text` is not what base64_encode would write. */
int base64_decode(struct slice text, char *to, size_t *ret_len);

#endif
