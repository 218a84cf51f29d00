/* utf8 -- where one character ends and the next begins.
 *
 * Valid is what RFC 3629 allows: shortest forms only, no surrogates, nothing past U+10FFFF.
 *
 * Threads: any; there is no state.  Nothing here fails or allocates. */
#ifndef UTF8_H
#define UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

/* U+FFFD, what stands where something could not be read. */
#define UTF8_REPLACEMENT SLICE("\xef\xbf\xbd")

enum { UTF8_LEN_MAX = 4 }; /* bytes of the longest character, RFC 3629 */

/* Looks at the first character of `text`, which is not empty.  True: it is valid, *ret_len bytes
 * long (1..4), and its number is *ret_code.  False: it is not, and the first *ret_len bytes (1..3)
 * are its maximal subpart, which one U+FFFD replaces (Unicode 15, section 3.9, "U+FFFD
 * Substitution of Maximal Subparts"); *ret_code is then 0xFFFD. */
bool utf8_first(struct slice text, size_t *ret_len, uint32_t *ret_code);

/* Writes the 1..4 bytes of a character and returns how many.  `code` is valid: at most 0x10FFFF
 * and no surrogate. */
size_t utf8_encode(uint32_t code, char ret[UTF8_LEN_MAX]);

/* The largest n <= max such that text[0..n) does not end inside a valid character; where the
 * bytes around `max` are no UTF-8 there is nothing to save, and n is `max` (or text.len, if that
 * is less).  May be 0, when the first character is longer than `max`. */
size_t utf8_cut(struct slice text, size_t max);

bool utf8_valid(struct slice text);

/* The length of a valid text in UTF-16 code units, as Java counts. */
size_t utf8_utf16_units(struct slice valid);

#endif
