/* heap -- what comes first, among nodes that live inside what waits.
 *
 *   1. heap_first has the smallest key.
 *   2. A node knows its place, so it can leave from the middle in O(log n).
 *   3. Room is made beforehand (heap_reserve); inserting then cannot fail. */
#ifndef HEAP_H
#define HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    uint64_t key;
    size_t place; /* 1-based; 0: not in the heap */
};

struct heap {
    struct heap_node **nodes; /* owns the array, borrows the nodes */
    size_t count, cap;
};

/* Makes room for `cap` nodes in all.  Errors: -ENOMEM. */
int heap_reserve(struct heap *h, size_t cap);

/* Adds a node that is not in the heap; there must be room. */
void heap_insert(struct heap *h, struct heap_node *n, uint64_t key);

/* Takes a node out; one that is not in the heap is fine. */
void heap_remove(struct heap *h, struct heap_node *n);

/* The node with the smallest key, or NULL. */
struct heap_node *heap_first(const struct heap *h);

/* Gives the array back; the zero value is fine. */
void heap_done(struct heap *h);

static inline bool heap_has(const struct heap_node *n)
{
    return n->place != 0;
}

#endif
