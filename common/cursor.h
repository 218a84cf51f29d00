/* cursor -- a place in a file: before byte `offset`, and a word for what stands before it.
 *
 * The tail anchor is a hash of the last min(offset, CURSOR_ANCHOR_MAX) bytes before the offset.  It
 * tells "more was written" from "truncated and written anew": a place is only good in a file that
 * has those bytes there.
 *
 * The rungs are the beginnings of the last lines before the place, nearest first, each with half of
 * the anchor that it would have: if a file was shortened by a few bytes, one of them still holds,
 * and reading goes on from there. */
#ifndef CURSOR_H
#define CURSOR_H

#include <stdint.h>

enum {
    CURSOR_ANCHOR_MAX = 256, /* bytes; a few lines, and one cheap hash */
    CURSOR_RUNGS = 2,        /* lines; who takes back more than two writes a new file */
};

struct cursor_rung {
    uint32_t back; /* bytes before the place; 0: there is no such rung, nor any after it */
    uint32_t hash; /* the low half of the anchor there */
};

struct cursor {
    uint64_t offset; /* bytes */
    uint64_t anchor; /* 0 at offset 0 */
    struct cursor_rung rungs[CURSOR_RUNGS];
};

/* How many bytes the anchor of a place is made from. */
static inline uint32_t cursor_anchor_len(uint64_t offset)
{
    return offset < CURSOR_ANCHOR_MAX ? (uint32_t)offset : CURSOR_ANCHOR_MAX;
}

#endif
