/* fuzz_split -- lines are the same wherever a read stops, and any bytes make a partition key.
 *
 * The first byte says how many of the next are sizes of the reads; then come the bytes. */
#include "record/split.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "buf.h"
#include "json.h"
#include "record/key.h"
#include "utf8.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads in steps, what is left of one before the next; each line must be the next of `all`. */
static void check_split(struct slice steps, struct slice all)
{
    struct slice whole = all, line, expected;
    size_t seen = 0, used = 0, lines = 0, bytes = 0;

    for (size_t n = 0; seen < all.len; n++) {
        size_t step = steps.len > 0 ? 1 + (uint8_t)steps.ptr[n % steps.len] : all.len;
        struct slice in;
        char *copy;

        seen = MIN(seen + step, all.len);
        copy = malloc(seen - used); /* of just its size, as after a read */
        assert(copy != NULL);
        memcpy(copy, all.ptr + used, seen - used);
        in = (struct slice){copy, seen - used};
        while (split_next(&in, &line)) {
            assert(split_next(&whole, &expected));
            assert(slice_equal(line, expected));
            assert(line.ptr[line.len] == '\n');
            lines++;
            bytes += line.len + 1;
        }
        used = seen - in.len;
        free(copy);
    }
    assert(!split_next(&whole, &line));
    assert(whole.len == all.len - used);
    assert(slice_equal(whole, slice_from(all, used)));

    /* And by another way of counting: a line for each newline, and every byte in one place. */
    assert(bytes == used);
    for (size_t i = 0; i < all.len; i++)
        lines -= all.ptr[i] == '\n';
    assert(lines == 0);
}

static void check_key(struct slice text)
{
    struct key made, again;
    struct buf key;
    struct json_token t;
    struct json j;
    size_t units;

    buf_init(&key, 3 * KEY_JSON_MAX);
    key_of_text(text, &made);
    assert(made.json_len <= KEY_JSON_MAX);
    json_init(&j, key_json(&made));
    assert(json_next(&j, &t) == 0 && t.type == JSON_STRING);
    assert(json_unescape(t.text, &key) == 0);
    assert(json_next(&j, &t) == 0 && t.type == JSON_END);
    assert(key.len == made.len && utf8_valid(buf_slice(&key)));
    units = utf8_utf16_units(buf_slice(&key));
    assert(units >= 1 && units <= KEY_UNITS_MAX);

    /* A text that is fit to be a key is the key; and a key made of a key is the same. */
    if (text.len > 0 && utf8_valid(text) && utf8_utf16_units(text) <= KEY_UNITS_MAX)
        assert(slice_equal(buf_slice(&key), text));
    key_of_text(buf_slice(&key), &again);
    assert(made.len == again.len && slice_equal(key_json(&again), key_json(&made)));

    buf_done(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = {(const char *)data, size};
    size_t steps;

    if (size == 0)
        return 0;
    in = slice_from(in, 1);
    steps = MIN(data[0], in.len);
    check_split(slice_first(in, steps), slice_from(in, steps));
    check_key(slice_from(in, steps));
    return 0;
}
