/* java_text -- texts as Java reads and writes them.
 *
 * Thinks: no I/O. */
#ifndef JAVA_TEXT_H
#define JAVA_TEXT_H

#include "slice.h"

struct buf;

enum { JAVA_NUMBER_MAX = 1000 }; /* Jackson's StreamReadConstraints; longer is not JSON to it */

/* Gives what `new String(bytes, UTF_8)` makes of any bytes, as UTF-8: *ret is `bytes` where they are
 * valid, else `scratch`, which is emptied first, holds them with U+FFFD in place of what is not.
 *
 * How many bytes one U+FFFD stands for is the JDK's own choice (sun.nio.cs.UTF_8): a surrogate in
 * three bytes is one, an overlong form or a number past U+10FFFF is one for each byte, and what is
 * cut off at the text's end is one.  Errors: scratch's. */
int java_text_decode(struct slice bytes, struct buf *scratch, struct slice *ret);

/* Appends `text`, which is valid UTF-8, as Jackson writes a string: quotes and backslashes escaped, \b
 * \t \n \f \r, the other bytes below 0x20 as \u00XX with upper-case digits, and everything else as it
 * is.  Whole or not at all.  Errors: to's. */
int java_text_append_json(struct buf *to, struct slice text);

/* The same without the quotes. */
int java_text_append_inside(struct buf *to, struct slice text);

/* Appends what java.lang.Double.toString makes of a JSON number: the shortest digits that are read
 * back as the same number, and an exponent below 1e-3 and from 1e7 on.  A number too large for a
 * double becomes the string "Infinity", in quotes, as Jackson writes it.  Has at most JAVA_NUMBER_MAX
 * bytes.  Errors: to's. */
int java_text_append_double(struct buf *to, struct slice number);

#endif
