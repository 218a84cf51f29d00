/* map -- a hash table of nodes that live inside what they find.
 *
 *   1. A node remembers its hash; equal hashes may be different keys: the caller compares.
 *   2. Only map_insert can fail (-ENOMEM), and then nothing has changed.
 *   3. The table owns its buckets and borrows the nodes. */
#ifndef MAP_H
#define MAP_H

#include "slice.h"

#include <stddef.h>
#include <stdint.h>

struct map_node {
    struct map_node *next;
    uint64_t hash;
};

struct map {
    struct map_node **buckets; /* owns; a power of two of them, or NULL */
    size_t bucket_count, count;
};

/* Spreads a number's bits over 64. */
static inline uint64_t map_hash_u64(uint64_t x)
{
    x ^= x >> 32; /* the finaliser of splitmix64: Steele, Lea, Flood, OOPSLA 2014 */
    x *= UINT64_C(0xbf58476d1ce4e5b9);
    x ^= x >> 29;
    x *= UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 32);
}

/* Hashes text, FNV-1a then spread. */
uint64_t map_hash_slice(uint64_t seed, struct slice s);

/* Adds `node` under `hash`. */
int map_insert(struct map *m, struct map_node *node, uint64_t hash);

/* Takes out a node that is in the table. */
void map_remove(struct map *m, struct map_node *node);

/* The first node with this hash, and the next one after it; NULL at the end. */
struct map_node *map_find(const struct map *m, uint64_t hash);
struct map_node *map_find_next(const struct map_node *node);

/* Gives the buckets back; the zero value is fine. */
void map_done(struct map *m);

#endif
