/* arena -- memory of many sizes that is all given back at once.
 *
 *   1. What was taken stays where it is until arena_reset: slices into it hold.
 *   2. arena_reset keeps the memory, so that a warm arena no longer allocates.
 *   3. No more than `max` bytes are handed out between two resets.
 *
 * Errors: NULL, past the ceiling or out of memory. */
#ifndef ARENA_H
#define ARENA_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *first, *now; /* owns a chain; everything behind `now` is free */
    size_t used, taken, max;         /* bytes in `now`; in all blocks */
};

/* Allocates nothing yet. */
void arena_init(struct arena *a, size_t max);

/* `size` bytes, aligned for nothing but bytes; good until arena_reset.  Not NULL for a size of 0. */
char *arena_take(struct arena *a, size_t size);

/* Gives back the end of what was taken last: all but its first `keep` bytes. */
void arena_shrink(struct arena *a, const char *last, size_t size, size_t keep);

/* A copy of `s`.  False, and *ret is untouched, where arena_take gives NULL. */
bool arena_copy(struct arena *a, struct slice s, struct slice *ret);

/* All that was taken is given back; the memory is kept. */
void arena_reset(struct arena *a);

/* Gives it another ceiling; nothing may be taken. */
void arena_limit(struct arena *a, size_t max);

/* How much memory it has. */
size_t arena_size(const struct arena *a);

/* All that was taken is given back; and the memory, if it is more than `keep` bytes. */
void arena_trim(struct arena *a, size_t keep);

/* Gives the memory back; the zero value is fine. */
void arena_done(struct arena *a);

#endif
