/* encoding -- in which bytes a log is written: where its lines end, and the same text as UTF-8.
 *
 *   1. Text begins at a unit's border: a slice of UTF-16 handed in here begins at an even offset of
 *      its file.  Half a unit at the end of a slice is not looked at for a newline.
 *   2. A newline is U+000A, not the byte 0x0A, which UTF-16 has in other characters too (U+0A0A).
 *   3. What encoding_to_utf8 appends from UTF-16 and Latin-1 is valid UTF-8.  UTF-8 itself is
 *      appended as it is, valid or not: who replaces what is wrong in it decides so elsewhere.
 *
 * Threads: any; there is no state.  Nothing but encoding_to_utf8 fails or allocates. */
#ifndef ENCODING_H
#define ENCODING_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>

struct buf;

enum encoding {
    ENCODING_UTF8, /* and everything else whose newline is one byte: nothing is done to it */
    ENCODING_UTF16LE,
    ENCODING_UTF16BE,
    ENCODING_LATIN1, /* ISO 8859-1: the byte's number is the character's */
};

static inline bool encoding_is_utf16(enum encoding e)
{
    return e == ENCODING_UTF16LE || e == ENCODING_UTF16BE;
}

/* How many bytes one unit has, and so one newline: 1 or 2. */
static inline size_t encoding_newline_len(enum encoding e)
{
    return encoding_is_utf16(e) ? 2 : 1;
}

/* The first byte of the first (of the last) newline in `text`, or NULL. */
const char *encoding_find_newline(enum encoding e, struct slice text);
const char *encoding_find_last_newline(enum encoding e, struct slice text);

/* The length of the byte order mark that the beginning of a file is, or 0. */
size_t encoding_mark_len(enum encoding e, struct slice beginning);

/* Appends `raw` as UTF-8, whole or not at all.  A surrogate that has no other half, and half a unit
 * at the end, become U+FFFD.  A mark is a character like any other: take it off before.  At most
 * twice as long as `raw`, or 3 bytes.  `raw` must not lie inside the buffer.  Errors: as buf. */
int encoding_to_utf8(enum encoding e, struct slice raw, struct buf *to);

#endif
