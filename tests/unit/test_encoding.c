/* What is written in other encodings: where its lines end, and what it is as UTF-8. */
#include "encoding.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "buf.h"
#include "utf8.h"
#include "util.h"

/* --- the same text as Python's codecs have it --- */

static const struct story {
    const char *name;
    enum encoding encoding;
    struct slice raw, text;
} stories[] = {
    {"nothing", ENCODING_UTF16LE, SLICE(""), SLICE("")},
    {"nothing", ENCODING_LATIN1, SLICE(""), SLICE("")},
    {"valid or not", ENCODING_UTF8, SLICE("a\xc3\xbc\xff\0b"), SLICE("a\xc3\xbc\xff\0b")},
    {"ASCII", ENCODING_UTF16LE, SLICE("a\0b\0\0\0~\0\x7f\0\n\0"), SLICE("ab\0~\x7f\n")},
    {"ASCII", ENCODING_UTF16BE, SLICE("\0a\0b\0\0\0~\0\x7f\0\n"), SLICE("ab\0~\x7f\n")},
    {"two bytes", ENCODING_UTF16LE, SLICE("\x80\0\xfc\0\xff\x07"),
     SLICE("\xc2\x80\xc3\xbc\xdf\xbf")},
    {"two bytes", ENCODING_UTF16BE, SLICE("\0\x80\0\xfc\x07\xff"),
     SLICE("\xc2\x80\xc3\xbc\xdf\xbf")},
    {"three bytes", ENCODING_UTF16LE, SLICE("\0\x08\xac\x20\xff\xd7\0\xe0\xff\xff"),
     SLICE("\xe0\xa0\x80\xe2\x82\xac\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf")},
    {"three bytes", ENCODING_UTF16BE, SLICE("\x08\0\x20\xac\xd7\xff\xe0\0\xff\xff"),
     SLICE("\xe0\xa0\x80\xe2\x82\xac\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf")},
    {"a pair", ENCODING_UTF16LE, SLICE("\x3d\xd8\0\xde"), SLICE("\xf0\x9f\x98\x80")},
    {"a pair", ENCODING_UTF16BE, SLICE("\xd8\x3d\xde\0"), SLICE("\xf0\x9f\x98\x80")},
    {"the first pair, and the last", ENCODING_UTF16BE, SLICE("\xd8\0\xdc\0\xdb\xff\xdf\xff"),
     SLICE("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf")},
    {"a high one alone", ENCODING_UTF16LE,
     SLICE("a\0\x3d\xd8"
           "b\0"),
     SLICE("a\xef\xbf\xbd"
           "b")},
    {"a low one alone", ENCODING_UTF16LE,
     SLICE("\0\xde"
           "b\0"),
     SLICE("\xef\xbf\xbd"
           "b")},
    {"a high one at the end", ENCODING_UTF16BE, SLICE("\0a\xd8\x3d"), SLICE("a\xef\xbf\xbd")},
    {"the wrong way round", ENCODING_UTF16BE, SLICE("\xde\0\xd8\x3d"),
     SLICE("\xef\xbf\xbd\xef\xbf\xbd")},
    {"two high ones, then a low one", ENCODING_UTF16BE, SLICE("\xd8\x3d\xd8\x3d\xde\0"),
     SLICE("\xef\xbf\xbd\xf0\x9f\x98\x80")},
    {"half a unit", ENCODING_UTF16LE, SLICE("a\0b"), SLICE("a\xef\xbf\xbd")},
    {"half a unit alone", ENCODING_UTF16BE, SLICE("\0"), SLICE("\xef\xbf\xbd")},
    {"half a pair and a half of its half", ENCODING_UTF16BE, SLICE("\xd8\x3d\xde"),
     SLICE("\xef\xbf\xbd\xef\xbf\xbd")},
    {"a mark is a character", ENCODING_UTF16LE, SLICE("\xff\xfe"), SLICE("\xef\xbb\xbf")},
    {"the other way's mark", ENCODING_UTF16LE, SLICE("\xfe\xff"), SLICE("\xef\xbf\xbe")},
    {"Latin-1", ENCODING_LATIN1, SLICE("a\x7f\x80\x9f\xa0\xe9\xff\0"),
     SLICE("a\x7f\xc2\x80\xc2\x9f\xc2\xa0\xc3\xa9\xc3\xbf\0")},
};

/* Between so much ASCII before and behind, as what is looked at eight bytes at a time must not
 * depend on where that begins. */
static void a_text_is_what_it_is(void **state)
{
    struct buf raw, want, got;

    (void)state;
    buf_init(&raw, 1000);
    buf_init(&want, 1000);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        size_t unit = encoding_newline_len(s->encoding), behind_max = s->raw.len % unit > 0 ? 0 : 9;

        for (size_t before = 0; before <= 9; before++)
            for (size_t behind = 0; behind <= behind_max; behind++) {
                buf_reset(&raw);
                buf_reset(&want);
                for (size_t n = 0; n < before + behind; n++) {
                    if (n == before) {
                        assert_int_equal(buf_append(&raw, s->raw), 0);
                        assert_int_equal(buf_append(&want, s->text), 0);
                    }
                    if (s->encoding == ENCODING_UTF16BE)
                        assert_int_equal(buf_append_char(&raw, '\0'), 0);
                    assert_int_equal(buf_append_char(&raw, (char)('a' + n)), 0);
                    if (s->encoding == ENCODING_UTF16LE)
                        assert_int_equal(buf_append_char(&raw, '\0'), 0);
                    assert_int_equal(buf_append_char(&want, (char)('a' + n)), 0);
                }
                if (behind == 0) {
                    assert_int_equal(buf_append(&raw, s->raw), 0);
                    assert_int_equal(buf_append(&want, s->text), 0);
                }
                /* In a buffer that may hold just that, behind something; and in a smaller one. */
                buf_init(&got, want.len + 1);
                assert_int_equal(buf_append_char(&got, '#'), 0);
                assert_int_equal(encoding_to_utf8(s->encoding, buf_slice(&raw), &got), 0);
                if (!slice_equal(slice_from(buf_slice(&got), 1), buf_slice(&want)))
                    fail_msg("'%s' behind %zu", s->name, before);
                buf_done(&got);
                if (want.len == 0)
                    continue;
                buf_init(&got, want.len);
                assert_int_equal(buf_append_char(&got, '#'), 0);
                assert_int_equal(encoding_to_utf8(s->encoding, buf_slice(&raw), &got), -EMSGSIZE);
                assert_int_equal(got.len, 1);
                buf_done(&got);
            }
    }
    buf_done(&raw);
    buf_done(&want);
}

/* Every character there is. */
static void every_character_is_itself(void **state)
{
    struct buf got;

    (void)state;
    buf_init(&got, 64);
    for (uint32_t code = 0; code <= 0x10ffff; code++) {
        char want[UTF8_LEN_MAX], le[4], be[4];
        uint32_t units[2] = {code, 0};
        size_t len = utf8_encode(code >= 0xd800 && code <= 0xdfff ? 0xfffd : code, want), count = 1;

        if (code > 0xffff) {
            units[0] = 0xd800 | (code - 0x10000) >> 10;
            units[1] = 0xdc00 | ((code - 0x10000) & 0x3ff);
            count = 2;
        }
        for (size_t i = 0; i < count; i++) {
            le[2 * i] = be[2 * i + 1] = (char)(units[i] & 0xff);
            le[2 * i + 1] = be[2 * i] = (char)(units[i] >> 8);
        }
        buf_reset(&got);
        assert_int_equal(encoding_to_utf8(ENCODING_UTF16LE, (struct slice){le, 2 * count}, &got),
                         0);
        assert_true(slice_equal(buf_slice(&got), (struct slice){want, len}));
        buf_reset(&got);
        assert_int_equal(encoding_to_utf8(ENCODING_UTF16BE, (struct slice){be, 2 * count}, &got),
                         0);
        assert_true(slice_equal(buf_slice(&got), (struct slice){want, len}));
        if (code > 0xff)
            continue;
        buf_reset(&got);
        assert_int_equal(encoding_to_utf8(ENCODING_LATIN1, (struct slice){le, 1}, &got), 0);
        assert_true(slice_equal(buf_slice(&got), (struct slice){want, len}));
    }
    buf_done(&got);
}

/* Room is found by doubling, and what is there is used again. */
static void a_warm_buffer_stays(void **state)
{
    struct buf got;
    size_t cap, changes = 0;

    (void)state;
    buf_init(&got, 1 << 20);
    for (size_t i = 0; i < 20000; i++) {
        cap = got.cap;
        assert_int_equal(encoding_to_utf8(ENCODING_UTF16LE, SLICE("h\0i\0\n\0"), &got), 0);
        changes += got.cap != cap;
    }
    assert_true(changes < 20 && got.len == 60000);
    buf_reset(&got);
    cap = got.cap;
    for (size_t i = 0; i < 10000; i++)
        assert_int_equal(encoding_to_utf8(ENCODING_LATIN1, SLICE("h\xefi\n"), &got), 0);
    assert_true(got.len == 50000 && got.cap == cap);
    buf_done(&got);
}

/* --- newlines --- */

enum { NONE = -1 };

static const struct place {
    enum encoding encoding;
    struct slice text;
    int first, last;
} places[] = {
    {ENCODING_UTF8, SLICE(""), NONE, NONE},
    {ENCODING_UTF8, SLICE("ab"), NONE, NONE},
    {ENCODING_UTF8, SLICE("\n"), 0, 0},
    {ENCODING_UTF8, SLICE("a\nb\n\nc"), 1, 4},
    {ENCODING_LATIN1, SLICE("\xff\n\xff\n"), 1, 3},
    {ENCODING_UTF16LE, SLICE(""), NONE, NONE},
    {ENCODING_UTF16LE, SLICE("\n"), NONE, NONE}, /* its other half is still to come */
    {ENCODING_UTF16LE, SLICE("\n\0"), 0, 0},
    {ENCODING_UTF16LE, SLICE("a\0\n\0b\0\n\0c\0"), 2, 6},
    {ENCODING_UTF16LE, SLICE("\x0a\x0a\x0a\x0a"), NONE, NONE},   /* U+0A0A, twice */
    {ENCODING_UTF16LE, SLICE("\x0a\x0a\x0a\x0a\x0a\0"), 4, 4},   /* … and a newline */
    {ENCODING_UTF16LE, SLICE("\x0a\0\x0a\x0a\x0a\x0a"), 0, 0},   /* the other way round */
    {ENCODING_UTF16LE, SLICE("\0\x0a\0\x0a"), NONE, NONE},       /* U+0A00: not at its border */
    {ENCODING_UTF16LE, SLICE("\x0a\x01\x0a\x20\x0a\0\n"), 4, 4}, /* U+010A, U+200A */
    {ENCODING_UTF16LE, SLICE("\x0a\x01\x0a\x20\0\x0a\0\0"), NONE, NONE},
    {ENCODING_UTF16BE, SLICE("\0"), NONE, NONE},
    {ENCODING_UTF16BE, SLICE("\0\n"), 0, 0},
    {ENCODING_UTF16BE, SLICE("\n\0"), NONE, NONE}, /* U+0A00 */
    {ENCODING_UTF16BE, SLICE("\n"), NONE, NONE},
    {ENCODING_UTF16BE, SLICE("\0a\0\n\0b\0\n\0c"), 2, 6},
    {ENCODING_UTF16BE, SLICE("\x0a\x0a\x0a\x0a\0\x0a"), 4, 4},
    {ENCODING_UTF16BE, SLICE("\0\x0a\x0a\x0a\x0a\x0a\0"), 0, 0},
    {ENCODING_UTF16BE, SLICE("\x01\x0a\x20\x0a\x0a\0"), NONE, NONE},
};

static void a_newline_is_a_character(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        const struct place *p = &places[i];
        const char *first = encoding_find_newline(p->encoding, p->text);
        const char *last = encoding_find_last_newline(p->encoding, p->text);

        if ((first == NULL ? NONE : (int)(first - p->text.ptr)) != p->first)
            fail_msg("the first of text %zu", i);
        if ((last == NULL ? NONE : (int)(last - p->text.ptr)) != p->last)
            fail_msg("the last of text %zu", i);
    }
    assert_null(encoding_find_newline(ENCODING_UTF16LE, (struct slice){NULL, 0}));
    assert_null(encoding_find_last_newline(ENCODING_UTF16LE, (struct slice){NULL, 0}));
    assert_int_equal(encoding_newline_len(ENCODING_UTF8), 1);
    assert_int_equal(encoding_newline_len(ENCODING_LATIN1), 1);
    assert_int_equal(encoding_newline_len(ENCODING_UTF16LE), 2);
    assert_int_equal(encoding_newline_len(ENCODING_UTF16BE), 2);
}

static void a_mark_is_its_encodings(void **state)
{
    static const struct slice begins[] = {SLICE("\xef\xbb\xbf"), SLICE("\xff\xfe"),
                                          SLICE("\xfe\xff"), SLICE("")};

    (void)state;
    for (enum encoding e = ENCODING_UTF8; e <= ENCODING_LATIN1; e++)
        for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
            char text[8];

            memset(text, 'x', sizeof text);
            memcpy(text, begins[i].ptr, begins[i].len);
            for (size_t len = 0; len <= sizeof text; len++)
                assert_int_equal(encoding_mark_len(e, (struct slice){text, len}),
                                 (size_t)e == i && len >= begins[i].len ? begins[i].len : 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_what_it_is),    cmocka_unit_test(every_character_is_itself),
        cmocka_unit_test(a_warm_buffer_stays),     cmocka_unit_test(a_newline_is_a_character),
        cmocka_unit_test(a_mark_is_its_encodings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
