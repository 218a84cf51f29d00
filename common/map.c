#include "map.h"

#include <errno.h>
#include <stdlib.h>

enum { MAP_FIRST_BUCKETS = 16 };

uint64_t map_hash_slice(uint64_t seed, struct slice s)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325) ^ seed;

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ (unsigned char)s.ptr[i]) * UINT64_C(0x100000001b3);
    return map_hash_u64(h);
}

static struct map_node **map_bucket(const struct map *m, uint64_t hash)
{
    return &m->buckets[hash & (m->bucket_count - 1)];
}

static int map_grow(struct map *m)
{
    struct map bigger = {.bucket_count =
                             m->bucket_count > 0 ? m->bucket_count * 2 : MAP_FIRST_BUCKETS};

    bigger.buckets = calloc(bigger.bucket_count, sizeof(*bigger.buckets));
    if (bigger.buckets == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < m->bucket_count; i++) {
        struct map_node *next;

        for (struct map_node *n = m->buckets[i]; n != NULL; n = next) {
            struct map_node **bucket = map_bucket(&bigger, n->hash);

            next = n->next;
            n->next = *bucket;
            *bucket = n;
        }
    }
    bigger.count = m->count;
    free(m->buckets);
    *m = bigger;
    return 0;
}

int map_insert(struct map *m, struct map_node *node, uint64_t hash)
{
    struct map_node **bucket;

    if (m->count >= m->bucket_count) {
        int r = map_grow(m);
        if (r < 0)
            return r;
    }
    bucket = map_bucket(m, hash);
    node->hash = hash;
    node->next = *bucket;
    *bucket = node;
    m->count++;
    return 0;
}

void map_remove(struct map *m, struct map_node *node)
{
    struct map_node **link = map_bucket(m, node->hash);

    while (*link != node)
        link = &(*link)->next;
    *link = node->next;
    node->next = NULL;
    m->count--;
}

static struct map_node *map_with_hash(struct map_node *n, uint64_t hash)
{
    while (n != NULL && n->hash != hash)
        n = n->next;
    return n;
}

struct map_node *map_find(const struct map *m, uint64_t hash)
{
    return m->count == 0 ? NULL : map_with_hash(*map_bucket(m, hash), hash);
}

struct map_node *map_find_next(const struct map_node *node)
{
    return map_with_hash(node->next, node->hash);
}

void map_done(struct map *m)
{
    free(m->buckets);
    *m = (struct map){0};
}
