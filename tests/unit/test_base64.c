#include "base64.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util.h"

enum { LEN_MAX = 300, OFFSETS = 33 };

/* RFC 4648, section 10, and the whole alphabet. */
static const struct story {
    struct slice bytes, text;
} stories[] = {
    {SLICE(""), SLICE("")},
    {SLICE("f"), SLICE("Zg==")},
    {SLICE("fo"), SLICE("Zm8=")},
    {SLICE("foo"), SLICE("Zm9v")},
    {SLICE("foob"), SLICE("Zm9vYg==")},
    {SLICE("fooba"), SLICE("Zm9vYmE=")},
    {SLICE("foobar"), SLICE("Zm9vYmFy")},
    {SLICE("\xff\xff\xff\x00\x00\x00\xfb\xef\xbe"), SLICE("////AAAA++++")},
    {SLICE("\x00\x10\x83\x10\x51\x87\x20\x92\x8b\x30\xd3\x8f\x41\x14\x93\x51\x55\x97\x61\x96\x9b"
           "\x71\xd7\x9f\x82\x18\xa3\x92\x59\xa7\xa2\x9a\xab\xb2\xdb\xaf\xc3\x1c\xb3\xd3\x5d\xb7"
           "\xe3\x9e\xbb\xf3\xdf\xbf"),
     SLICE("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")},
};

static void the_stories_are_told_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        char text[100], bytes[100];
        size_t len;

        assert_int_equal(base64_size(s->bytes.len), s->text.len);
        base64_encode(text, s->bytes.ptr, s->bytes.len);
        assert_memory_equal(text, s->text.ptr, s->text.len);
        base64_encode_portable(text, s->bytes.ptr, s->bytes.len);
        assert_memory_equal(text, s->text.ptr, s->text.len);
        assert_int_equal(base64_decode(s->text, bytes, &len), 0);
        assert_int_equal(len, s->bytes.len);
        assert_memory_equal(bytes, s->bytes.ptr, len);
    }
}

/* Both paths, every length, every alignment of both sides; each time the bytes sit in memory of
 * just their size, so that the sanitizer sees a step too far, and the text between two guards. */
static void vectors_write_what_plain_c_writes(void **state)
{
    uint32_t seed = 1;

    (void)state;
    for (size_t n = 0; n <= LEN_MAX; n++) {
        for (size_t offset = 0; offset < OFFSETS; offset++) {
            size_t size = base64_size(n), len;
            char *bytes = malloc(offset + n + 1), *back = malloc(size / 4 * 3 + 1);
            char *fast = malloc(offset + size + 1), *plain = malloc(size + 1);

            assert_non_null(bytes);
            assert_non_null(back);
            assert_non_null(fast);
            assert_non_null(plain);
            bytes = realloc(bytes, offset + n > 0 ? offset + n : 1);
            assert_non_null(bytes);
            for (size_t i = 0; i < offset + n; i++) {
                seed = seed * 1664525 + 1013904223;
                bytes[i] = (char)(uint8_t)(seed >> 24);
            }
            memset(fast, '#', offset + size + 1);
            plain[size] = '#';
            base64_encode(fast + offset, bytes + offset, n);
            base64_encode_portable(plain, bytes + offset, n);
            assert_memory_equal(fast + offset, plain, size);
            assert_int_equal(fast[offset + size], '#');
            assert_int_equal(plain[size], '#');
            for (size_t i = 0; i < offset; i++)
                assert_int_equal(fast[i], '#');

            back[size / 4 * 3] = '#';
            assert_int_equal(base64_decode((struct slice){plain, size}, back, &len), 0);
            assert_int_equal(len, n);
            assert_memory_equal(back, bytes + offset, n);
            assert_int_equal(back[size / 4 * 3], '#');
            free(bytes);
            free(back);
            free(fast);
            free(plain);
        }
    }
}

/* All pairs of bytes at all places of a step: each of the 64 letters is met by each lane. */
static void every_letter_in_every_lane(void **state)
{
    (void)state;
    for (unsigned value = 0; value < 65536; value++) {
        uint8_t bytes[26];
        char fast[36], plain[36];

        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(i % 2 > 0 ? value >> 8 : value);
        base64_encode(fast, bytes, sizeof bytes);
        base64_encode_portable(plain, bytes, sizeof bytes);
        assert_memory_equal(fast, plain, sizeof plain);
    }
}

/* Every byte at every place of texts that are read in vectors, and in none. */
static void every_stray_byte_is_found(void **state)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const size_t sizes[] = {4, 40, 44, 48, 76, 140};

    (void)state;
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        for (size_t at = 0; at < sizes[k]; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                bool letter = byte != 0 && strchr(alphabet, (int)byte) != NULL;
                char text[140], bytes[105], again[140];
                size_t len = 0;

                for (size_t i = 0; i < sizes[k]; i++)
                    text[i] = alphabet[(i * 7 + at) % 64];
                text[at] = (char)(uint8_t)byte;
                if (byte == '=' && at + 1 == sizes[k])
                    continue; /* padding: told elsewhere */
                assert_int_equal(base64_decode((struct slice){text, sizes[k]}, bytes, &len),
                                 letter ? 0 : -EBADMSG);
                assert_int_equal(len, letter ? sizes[k] / 4 * 3 : 0);
                base64_encode_portable(again, bytes, len);
                assert_memory_equal(again, text, letter ? sizes[k] : 0);
            }
        }
    }
}

static void only_the_canonical_text_is_read(void **state)
{
    static const struct slice wrong[] = {
        SLICE("A"),        SLICE("AA"),       SLICE("AAA"),     SLICE("AAAAA"),   SLICE("="),
        SLICE("===="),     SLICE("A==="),     SLICE("AA=A"),    SLICE("AB=="),    SLICE("AAB="),
        SLICE("Zg==Zg=="), SLICE("Zm8=Zm8="), SLICE("Zm9v\n"),  SLICE("Zm 9v"),   SLICE("Zm9-"),
        SLICE("Zm9_"),     SLICE("Zm9v Zm9"), SLICE("Zm9\x80"), SLICE("Zm9\xff"), SLICE("Zm9\0"),
        SLICE("@AAA"),     SLICE("[AAA"),     SLICE("`AAA"),    SLICE("{AAA"),    SLICE(":AAA"),
    };
    char bytes[16];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        size_t len = 77;

        assert_int_equal(base64_decode(wrong[i], bytes, &len), -EBADMSG);
        assert_int_equal(len, 77);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stories_are_told_both_ways),
        cmocka_unit_test(vectors_write_what_plain_c_writes),
        cmocka_unit_test(every_letter_in_every_lane),
        cmocka_unit_test(every_stray_byte_is_found),
        cmocka_unit_test(only_the_canonical_text_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
