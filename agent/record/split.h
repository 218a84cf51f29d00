/* split -- lines out of bytes.
 *
 * A line ends at its newline; what stands behind the last one is not a line yet.  Thinks: no I/O. */
#ifndef SPLIT_H
#define SPLIT_H

#include "slice.h"

#include <stdbool.h>

/* Takes the next whole line off `in`.  The line is given without its newline, which follows it in
 * memory.  False, and nothing is taken, if there is none. */
static inline bool split_next(struct slice *in, struct slice *ret_line)
{
    const char *end = in->len > 0 ? memchr(in->ptr, '\n', in->len) : NULL;

    if (end == NULL)
        return false;
    *ret_line = slice_first(*in, (size_t)(end - in->ptr));
    *in = slice_from(*in, ret_line->len + 1);
    return true;
}

/* A line as patterns and parsers see it: without the carriage return that a file of Windows has. */
static inline struct slice split_without_return(struct slice line)
{
    return line.len > 0 && line.ptr[line.len - 1] == '\r' ? slice_first(line, line.len - 1) : line;
}

/* How many zeros a line begins with: a hole in the file, no text. */
static inline size_t split_zeros(struct slice line)
{
    size_t n = 0;

    while (n < line.len && line.ptr[n] == '\0')
        n++;
    return n;
}

#endif
