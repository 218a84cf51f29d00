#include "heap.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int heap_reserve(struct heap *h, size_t cap)
{
    struct heap_node **nodes;

    if (cap <= h->cap)
        return 0;
    if (cap < h->cap * 2)
        cap = h->cap * 2;
    nodes = reallocarray(h->nodes, cap, sizeof(*nodes));
    if (nodes == NULL)
        return -ENOMEM;
    h->nodes = nodes;
    h->cap = cap;
    return 0;
}

static void heap_put(struct heap *h, size_t place, struct heap_node *n)
{
    h->nodes[place - 1] = n;
    n->place = place;
}

/* Moves `n` from the hole at `place` towards the root until its parent is not greater. */
static void heap_rise(struct heap *h, size_t place, struct heap_node *n)
{
    while (place > 1 && h->nodes[place / 2 - 1]->key > n->key) {
        heap_put(h, place, h->nodes[place / 2 - 1]);
        place /= 2;
    }
    heap_put(h, place, n);
}

/* Moves `n` from the hole at `place` towards the leaves until no child is smaller. */
static void heap_sink(struct heap *h, size_t place, struct heap_node *n)
{
    for (size_t child; (child = place * 2) <= h->count; place = child) {
        if (child < h->count && h->nodes[child]->key < h->nodes[child - 1]->key)
            child++;
        if (h->nodes[child - 1]->key >= n->key)
            break;
        heap_put(h, place, h->nodes[child - 1]);
    }
    heap_put(h, place, n);
}

void heap_insert(struct heap *h, struct heap_node *n, uint64_t key)
{
    assert(!heap_has(n));
    assert(h->count < h->cap);
    n->key = key;
    h->count++;
    heap_rise(h, h->count, n);
}

void heap_remove(struct heap *h, struct heap_node *n)
{
    struct heap_node *last;
    size_t place = n->place;

    if (place == 0)
        return;
    last = h->nodes[h->count - 1];
    h->count--;
    n->place = 0;
    if (last == n)
        return;
    if (place > 1 && h->nodes[place / 2 - 1]->key > last->key)
        heap_rise(h, place, last);
    else
        heap_sink(h, place, last);
}

struct heap_node *heap_first(const struct heap *h)
{
    return h->count > 0 ? h->nodes[0] : NULL;
}

void heap_done(struct heap *h)
{
    free(h->nodes);
    *h = (struct heap){0};
}
