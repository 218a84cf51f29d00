/* escape -- text for a terminal or a log: what a name holds can be read, and does nothing.
 *
 *   1. The result is valid UTF-8 of one line, without anything that moves a cursor, changes colours
 *      or turns the direction of writing.
 *   2. Different texts stay different: a backslash is doubled.
 *
 * What is shown otherwise: `\` as \\; newline, tab and carriage return as \n, \t, \r; every byte of
 * another control character (C0, DEL, C1), of a character that is invisible or turns the direction
 * (Unicode's Default_Ignorable and Bidi_Control in their common blocks, line and paragraph
 * separators), and of what is no UTF-8 as \xNN.
 *
 * Errors: as buf.  Threads: any. */
#ifndef ESCAPE_H
#define ESCAPE_H

#include "slice.h"

#include <stddef.h>

struct buf;

enum { ESCAPE_TIMES = 4 }; /* bytes that one byte may become */

/* Appends `text`, whole or not at all. */
int escape_append(struct buf *to, struct slice text);

#endif
