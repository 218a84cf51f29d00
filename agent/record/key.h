/* key -- the partition key of a record, ready to stand in a JSON body.
 *
 *   1. A key has 1 to 256 UTF-16 units and is valid UTF-8 (PutRecords, API reference).
 *   2. A random key is 8 characters of an alphabet of 64: 48 bits, which the service hashes with
 *      MD5 to pick a shard; shorter than a UUID, because keys count towards every limit.
 *
 * Thinks: no I/O, and nothing allocates. */
#ifndef KEY_H
#define KEY_H

#include "slice.h"

#include <stddef.h>

struct random;

enum {
    KEY_RANDOM_LEN = 8,
    KEY_UNITS_MAX = 256,
    KEY_BYTES_MAX = 3 * KEY_UNITS_MAX,    /* UTF-8 takes most for the characters of one unit */
    KEY_JSON_MAX = 2 + 6 * KEY_UNITS_MAX, /* every unit as \u00XX, and the quotes */
};

/* A key and its memory. */
struct key {
    size_t len;      /* in bytes, before escaping: what counts towards the limits */
    size_t json_len; /* of its JSON string, quotes included */
    char json[KEY_JSON_MAX];
};

static inline struct slice key_json(const struct key *k)
{
    return (struct slice){k->json, k->json_len};
}

void key_random(struct random *r, struct key *ret);

/* Makes a key of any text: cut to what a key may be, invalid UTF-8 replaced; "-" if it is empty. */
void key_of_text(struct slice text, struct key *ret);

#endif
