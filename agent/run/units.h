/* units -- sizes and times as people write them: "64KiB", "1.5s".
 *
 * A number, with a fraction if need be, and a unit.  What does not come out whole (half a byte) is
 * refused, as is what does not fit 64 bits.
 *
 * Errors: -EINVAL if it is no number with a unit we know; -ERANGE if it is not whole or too large.
 * Thinks only. */
#ifndef UNITS_H
#define UNITS_H

#include "slice.h"

#include <stddef.h>
#include <stdint.h>

enum { UNITS_TEXT_SIZE = 32 }; /* room for what units_format_… write, with the zero */

/* B, KB, MB, GB (powers of 1000), KiB, MiB, GiB (of 1024); without a unit, bytes. */
int units_parse_bytes(struct slice text, uint64_t *ret_bytes);

/* ms, s, m or min, h, d.  There is no time without a unit. */
int units_parse_time(struct slice text, uint64_t *ret_ms);

/* Writes the shortest exact form that the functions above read back. */
void units_format_bytes(uint64_t bytes, char text[static UNITS_TEXT_SIZE]);
void units_format_time(uint64_t ms, char text[static UNITS_TEXT_SIZE]);

#endif
