#include "record/key.h"
#include "record/split.h"

#include <errno.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "buf.h"
#include "json.h"
#include "random.h"
#include "utf8.h"
#include "util.h"

/* -- split ----------------------------------------------------------------------------------- */

static const struct story {
    const char *name;
    struct slice input, lines[4];
    size_t count;
    struct slice rest;
} stories[] = {
    {"nothing", SLICE(""), {{0}}, 0, SLICE("")},
    {"one line", SLICE("a\n"), {SLICE("a")}, 1, SLICE("")},
    {"two lines", SLICE("a\nb\n"), {SLICE("a"), SLICE("b")}, 2, SLICE("")},
    {"the last is unfinished", SLICE("a\nbc"), {SLICE("a")}, 1, SLICE("bc")},
    {"no line yet", SLICE("abc"), {{0}}, 0, SLICE("abc")},
    {"empty lines are lines", SLICE("\n\n"), {SLICE(""), SLICE("")}, 2, SLICE("")},
    {"an empty line between", SLICE("a\n\nb\n"), {SLICE("a"), SLICE(""), SLICE("b")}, 3, SLICE("")},
    {"a zero is a byte", SLICE("a\0b\n\0\n"), {SLICE("a\0b"), SLICE("\0")}, 2, SLICE("")},
    {"so is a carriage return", SLICE("a\r\n\r\n"), {SLICE("a\r"), SLICE("\r")}, 2, SLICE("")},
    {"and what is no UTF-8", SLICE("\xff\n\x8a\n"), {SLICE("\xff"), SLICE("\x8a")}, 2, SLICE("")},
    {"other ends are none",
     SLICE("a\vb\fc\xe2\x80\xa8\r"),
     {{0}},
     0,
     SLICE("a\vb\fc\xe2\x80\xa8\r")},
    {"lines longer than a word of the machine",
     SLICE("0123456789012345678901234567890123456789\n0123456789012345678901234567890123\nx"),
     {SLICE("0123456789012345678901234567890123456789"),
      SLICE("0123456789012345678901234567890123")},
     2,
     SLICE("x")},
};

/* A splitter that depends on where read(2) happened to stop is wrong in a way that no log file
 * shows, so each story is told in steps of every size. */
static void tell(const struct story *s, struct slice all, size_t step)
{
    size_t seen = 0, used = 0, count = 0;

    while (seen < all.len) {
        struct slice in, line;

        seen = MIN(seen + step, all.len);
        in = (struct slice){all.ptr + used, seen - used};
        while (split_next(&in, &line)) {
            if (count == s->count || !slice_equal(line, s->lines[count]))
                fail_msg("%s, in steps of %zu: line %zu is '%.*s'", s->name, step, count,
                         SLICE_ARG(line));
            assert_true(line.ptr[line.len] == '\n');
            assert_ptr_equal(line.ptr + line.len + 1, in.ptr);
            count++;
        }
        assert_true(in.len == 0 || memchr(in.ptr, '\n', in.len) == NULL);
        used = seen - in.len;
    }
    if (count != s->count || !slice_equal(slice_from(all, used), s->rest))
        fail_msg("%s, in steps of %zu: %zu lines, %zu bytes used", s->name, step, count, used);
}

static void lines_do_not_depend_on_where_a_read_stops(void **state)
{
    struct slice empty = {0}, line;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct slice input = stories[i].input;
        char *copy = malloc(MAX(input.len, 1U)); /* of just its size, for the sanitizer */

        assert_non_null(copy);
        memcpy(copy, input.ptr, input.len);
        for (size_t step = 1; step <= input.len + 1; step++)
            tell(&stories[i], (struct slice){copy, input.len}, step);
        free(copy);
    }
    assert_false(split_next(&empty, &line));
}

/* -- random keys ----------------------------------------------------------------------------- */

enum { SHARDS = 8, KEYS = 40000 };

/* Which of SHARDS even ranges a key belongs to: its MD5 as a number of 128 bits (PutRecords, API
 * reference). */
static unsigned shard_of(struct slice key)
{
    unsigned char hash[EVP_MAX_MD_SIZE];

    assert_int_equal(EVP_Digest(key.ptr, key.len, hash, NULL, EVP_md5(), NULL), 1);
    return hash[0] / (256U / SHARDS);
}

static void random_keys_are_of_the_alphabet_and_spread(void **state)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned by_shard[SHARDS] = {0}, by_place[KEY_RANDOM_LEN][64] = {{0}};
    static bool pairs[KEY_RANDOM_LEN][64][64];
    struct random r = {.state = 7};

    (void)state;
    assert_int_equal(KEY_RANDOM_LEN, 8);
    for (size_t i = 0; i < KEYS; i++) {
        struct key k;
        const char *key = k.json - 1;

        memset(&k, '~', sizeof k);
        key_random(&r, &k);
        assert_int_equal(k.len, KEY_RANDOM_LEN);
        assert_int_equal(k.json_len, KEY_RANDOM_LEN + 2);
        assert_true(k.json[0] == '"' && k.json[KEY_RANDOM_LEN + 1] == '"');
        assert_true(k.json[KEY_RANDOM_LEN + 2] == '~');
        for (size_t at = 0; at < KEY_RANDOM_LEN; at++) {
            const char *c = memchr(alphabet, key[at + 2], 64);

            assert_non_null(c);
            by_place[at][c - alphabet]++;
            if (at > 0)
                pairs[at][c - alphabet][strchr(alphabet, key[at + 1]) - alphabet] = true;
        }
        by_shard[shard_of((struct slice){key + 2, KEY_RANDOM_LEN})]++;
    }

    /* 5000 and 625 expected, standard deviations 66 and 25: five of them are far away. */
    for (size_t i = 0; i < SHARDS; i++)
        assert_in_range(by_shard[i], KEYS / SHARDS - 330, KEYS / SHARDS + 330);
    for (size_t at = 0; at < KEY_RANDOM_LEN; at++)
        for (size_t i = 0; i < 64; i++)
            assert_in_range(by_place[at][i], KEYS / 64 - 150, KEYS / 64 + 150);

    /* Ten keys for each pair of neighbours: 48 bits that are shared by none are 64 * 64 pairs. */
    for (size_t at = 1; at < KEY_RANDOM_LEN; at++) {
        size_t seen = 0;

        for (size_t i = 0; i < 64; i++)
            for (size_t j = 0; j < 64; j++)
                seen += pairs[at][i][j];
        assert_in_range(seen, 4080, 4096);
    }
}

static void the_same_seed_gives_the_same_keys(void **state)
{
    struct random a = {.state = 3}, b = {.state = 3};
    struct key last = {0};

    (void)state;
    for (int i = 0; i < 100; i++) {
        struct key x = {0}, y = {0};

        key_random(&a, &x);
        key_random(&b, &y);
        assert_true(slice_equal(key_json(&x), key_json(&y)));
        assert_false(slice_equal(key_json(&x), key_json(&last)));
        last = x;
    }
}

/* -- keys of text ---------------------------------------------------------------------------- */

#define FFFD "\xef\xbf\xbd"

static const struct text {
    const char *name;
    struct slice text, json;
    size_t len; /* of the key, before escaping */
} texts[] = {
    {"empty", SLICE(""), SLICE("\"-\""), 1},
    {"plain", SLICE("host-1"), SLICE("\"host-1\""), 6},
    {"a path", SLICE("/var/log/x"), SLICE("\"/var/log/x\""), 10},
    {"UTF-8", SLICE("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"),
     SLICE("\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\""), 9},
    {"quotes", SLICE("a\"b\\c"), SLICE("\"a\\\"b\\\\c\""), 5},
    {"control characters", SLICE("\0\n\x1f\x7f"), SLICE("\"\\u0000\\n\\u001f\x7f\""), 4},
    {"a lone byte", SLICE("a\xff"), SLICE("\"a" FFFD "\""), 4},
    {"a cut character", SLICE("\xe2\x82"), SLICE("\"" FFFD "\""), 3},
    {"a cut character between", SLICE("x\xf0\x9f\x98y"), SLICE("\"x" FFFD "y\""), 5},
    {"an overlong form", SLICE("\xc0\xaf"), SLICE("\"" FFFD FFFD "\""), 6},
    {"a surrogate", SLICE("\xed\xa0\x80"), SLICE("\"" FFFD FFFD FFFD "\""), 9},
    {"an escape that is none", SLICE("\\u0041"), SLICE("\"\\\\u0041\""), 6},
};

static void texts_become_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct key k;

        memset(&k, '~', sizeof k);
        key_of_text(texts[i].text, &k);
        if (!slice_equal(key_json(&k), texts[i].json) || k.len != texts[i].len)
            fail_msg("%s: %.*s, %zu bytes", texts[i].name, SLICE_ARG(key_json(&k)), k.len);
    }
}

/* One character after a beginning of some others, many times: how many stay? */
static const struct repeat {
    const char *name;
    struct slice head, unit;
    size_t units; /* UTF-16 units of one `unit` in the key */
    size_t bytes; /* its bytes there */
} repeats[] = {
    {"ASCII", SLICE(""), SLICE("a"), 1, 1},
    {"two bytes", SLICE(""), SLICE("\xc3\xa9"), 1, 2},
    {"three bytes", SLICE(""), SLICE("\xe2\x82\xac"), 1, 3},
    {"the last of one unit", SLICE(""), SLICE("\xef\xbf\xbf"), 1, 3},
    {"astral", SLICE(""), SLICE("\xf0\x9f\x98\x80"), 2, 4},
    {"the first astral", SLICE(""), SLICE("\xf0\x90\x80\x80"), 2, 4},
    {"astral after one unit", SLICE("x"), SLICE("\xf0\x9f\x98\x80"), 2, 4},
    {"astral after three", SLICE("xyz"), SLICE("\xf4\x8f\xbf\xbf"), 2, 4},
    {"control characters", SLICE(""), SLICE("\x01"), 1, 1},
    {"quotes", SLICE("x"), SLICE("\""), 1, 1},
    {"invalid", SLICE(""), SLICE("\xff"), 1, 3},
};

static void long_texts_are_cut_between_characters(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(repeats); i++) {
        const struct repeat *p = &repeats[i];

        for (size_t count = 120; count < 300; count++) {
            struct buf text, key;
            struct key k;
            size_t stay;
            struct json_token t;
            struct json j;

            buf_init(&text, 2000);
            buf_init(&key, 2000);
            assert_int_equal(buf_append(&text, p->head), 0);
            for (size_t n = 0; n < count; n++)
                assert_int_equal(buf_append(&text, p->unit), 0);
            key_of_text(buf_slice(&text), &k);

            stay = MIN(count, (KEY_UNITS_MAX - p->head.len) / p->units);
            if (k.len != p->head.len + stay * p->bytes)
                fail_msg("%s, %zu times: %zu bytes", p->name, count, k.len);
            assert_true(k.json_len <= KEY_JSON_MAX);
            json_init(&j, key_json(&k));
            assert_int_equal(json_next(&j, &t), 0);
            assert_int_equal(t.type, JSON_STRING);
            assert_int_equal(json_unescape(t.text, &key), 0);
            assert_int_equal(key.len, k.len);
            assert_true(utf8_valid(buf_slice(&key)));
            assert_int_equal(utf8_utf16_units(buf_slice(&key)), p->head.len + stay * p->units);
            assert_int_equal(json_next(&j, &t), 0);
            assert_int_equal(t.type, JSON_END);
            buf_done(&text);
            buf_done(&key);
        }
    }
}

static void the_longest_key_meets_the_bound(void **state)
{
    char text[KEY_UNITS_MAX];
    struct key k;

    (void)state;
    memset(text, 1, sizeof text);
    key_of_text((struct slice){text, sizeof text}, &k);
    assert_int_equal(k.json_len, KEY_JSON_MAX);
    assert_int_equal(k.len, KEY_UNITS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_do_not_depend_on_where_a_read_stops),
        cmocka_unit_test(random_keys_are_of_the_alphabet_and_spread),
        cmocka_unit_test(the_same_seed_gives_the_same_keys),
        cmocka_unit_test(texts_become_keys),
        cmocka_unit_test(long_texts_are_cut_between_characters),
        cmocka_unit_test(the_longest_key_meets_the_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
