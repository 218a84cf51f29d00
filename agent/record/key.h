/* key -- the partition key of a record, ready to stand in a JSON body.
 *
 *   1. A key has 1 to 256 UTF-16 units and is valid UTF-8 (PutRecords, API reference).
 *   2. A random key is 8 characters of an alphabet of 64: 48 bits, which the service hashes with
 *      MD5 to pick a shard; shorter than a UUID, because keys count towards every limit.
 *
 * Thinks: no I/O. */
#ifndef KEY_H
#define KEY_H

#include "buf.h"
#include "slice.h"

struct random;

enum {
    KEY_RANDOM_LEN = 8,
    KEY_UNITS_MAX = 256,
    KEY_JSON_MAX = 2 + 6 * KEY_UNITS_MAX, /* every unit as \u00XX, and the quotes */
};

/* Writes a random key as a JSON string, quotes included. */
void key_random(struct random *r, char to[KEY_RANDOM_LEN + 2]);

/* Makes a key of any text: cut to what a key may be, invalid UTF-8 replaced; "-" if it is empty.
 * Appends its JSON string to `to` (empty), and gives its length in bytes before escaping.
 * Errors: buf's. */
int key_of_text(struct slice text, struct buf *to, size_t *ret_len);

#endif
