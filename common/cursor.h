/* cursor -- a place in a file: before byte `offset`, and a word for what stands before it.
 *
 * The tail anchor is a hash of the last min(offset, CURSOR_ANCHOR_MAX) bytes before the offset.  It
 * tells "more was written" from "truncated and written anew": a place is only good in a file that
 * has those bytes there. */
#ifndef CURSOR_H
#define CURSOR_H

#include <stdint.h>

enum { CURSOR_ANCHOR_MAX = 256 }; /* bytes; a few lines, and one cheap hash */

struct cursor {
    uint64_t offset; /* bytes */
    uint64_t anchor; /* 0 at offset 0 */
};

/* How many bytes the anchor of a place is made from. */
static inline uint32_t cursor_anchor_len(uint64_t offset)
{
    return offset < CURSOR_ANCHOR_MAX ? (uint32_t)offset : CURSOR_ANCHOR_MAX;
}

#endif
