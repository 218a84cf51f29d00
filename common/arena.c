#include "arena.h"

#include "util.h"

#include <assert.h>
#include <stdlib.h>

enum { ARENA_BLOCK = 16 * 1024 }; /* bytes; a larger piece has a block of its own size */

struct arena_block {
    struct arena_block *next;
    size_t cap;
    char bytes[];
};

void arena_init(struct arena *a, size_t max)
{
    *a = (struct arena){.max = max};
}

/* Goes on to a block with room for `size`: the next one, or a new one put between. */
static bool arena_advance(struct arena *a, size_t size)
{
    struct arena_block **link = a->now != NULL ? &a->now->next : &a->first;
    struct arena_block *b = *link;

    if (b == NULL || b->cap < size) {
        size_t cap = MAX(size, (size_t)ARENA_BLOCK);

        b = malloc(sizeof *b + cap);
        if (b == NULL)
            return false;
        b->cap = cap;
        b->next = *link;
        *link = b;
    }
    a->now = b;
    a->used = 0;
    return true;
}

char *arena_take(struct arena *a, size_t size)
{
    char *p;

    if (size > a->max - a->taken)
        return NULL;
    if ((a->now == NULL || size > a->now->cap - a->used) && !arena_advance(a, size))
        return NULL;
    p = a->now->bytes + a->used;
    a->used += size;
    a->taken += size;
    return p;
}

void arena_shrink(struct arena *a, const char *last, size_t size, size_t keep)
{
    assert(keep <= size);
    assert(last + size == a->now->bytes + a->used);
    a->used -= size - keep;
    a->taken -= size - keep;
}

bool arena_copy(struct arena *a, struct slice s, struct slice *ret)
{
    char *p = arena_take(a, s.len);

    if (p == NULL)
        return false;
    if (s.len > 0)
        memcpy(p, s.ptr, s.len);
    *ret = (struct slice){p, s.len};
    return true;
}

void arena_reset(struct arena *a)
{
    a->now = NULL;
    a->used = a->taken = 0;
}

void arena_limit(struct arena *a, size_t max)
{
    assert(a->taken == 0);
    a->max = max;
}

size_t arena_size(const struct arena *a)
{
    size_t size = 0;

    for (const struct arena_block *b = a->first; b != NULL; b = b->next)
        size += b->cap;
    return size;
}

void arena_trim(struct arena *a, size_t keep)
{
    if (arena_size(a) > keep)
        arena_done(a);
    else
        arena_reset(a);
}

void arena_done(struct arena *a)
{
    for (struct arena_block *b = a->first, *next; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    *a = (struct arena){.max = a->max};
}
