/* What a name may hold reaches no terminal as it is, and can still be read. */
#include "escape.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "buf.h"
#include "utf8.h"
#include "util.h"

static const struct {
    struct slice text, shown;
} stories[] = {
    {SLICE(""), SLICE("")},
    {SLICE("/var/log/a b.log"), SLICE("/var/log/a b.log")},
    {SLICE("a\nb\tc\rd"), SLICE("a\\nb\\tc\\rd")},
    {SLICE("a\\nb"), SLICE("a\\\\nb")},
    {SLICE("\x1b[31mred"), SLICE("\\x1b[31mred")},
    {SLICE("\0\x7f"), SLICE("\\x00\\x7f")},
    {SLICE("\xc2\x9b"
           "31m"),
     SLICE("\\xc2\\x9b31m")},
    {SLICE("\xff\x9b\xc3"), SLICE("\\xff\\x9b\\xc3")},
    {SLICE("\xc3\xa9t\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
     SLICE("\xc3\xa9t\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80")},
    {SLICE("\xe2\x80\xae"
           "gol"),
     SLICE("\\xe2\\x80\\xaegol")},
    {SLICE("\xe2\x80\xa8"), SLICE("\\xe2\\x80\\xa8")},
    {SLICE("\xef\xbf\xbd"), SLICE("\xef\xbf\xbd")}, /* U+FFFD that was meant */
    {SLICE("\xf3\xa0\x81\x81"), SLICE("\\xf3\\xa0\\x81\\x81")},
};

static void test_stories(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct buf b;

        buf_init(&b, 100);
        assert_int_equal(buf_append(&b, SLICE("<")), 0);
        assert_int_equal(escape_append(&b, stories[i].text), 0);
        assert_true(slice_equal(slice_from(buf_slice(&b), 1), stories[i].shown));
        assert_true(stories[i].shown.len <= ESCAPE_TIMES * stories[i].text.len);
        buf_done(&b);

        /* Too small: nothing of it. */
        if (stories[i].shown.len > 0) {
            buf_init(&b, stories[i].shown.len);
            assert_int_equal(buf_append(&b, SLICE("<")), 0);
            assert_int_equal(escape_append(&b, stories[i].text), -EMSGSIZE);
            assert_int_equal(b.len, 1);
            buf_done(&b);
        }
    }
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Any two bytes: what is shown is harmless, and told apart. */
static void test_every_pair(void **state)
{
    enum { ROOM = 16 };
    char *all = calloc(256 * 256, ROOM);
    struct buf b;

    (void)state;
    assert_non_null(all);
    buf_init(&b, ROOM);
    for (unsigned i = 0; i < 256 * 256; i++) {
        const char pair[] = {(char)(i >> 8), (char)(i & 255)};

        buf_reset(&b);
        assert_int_equal(escape_append(&b, (struct slice){pair, 2}), 0);
        assert_true(utf8_valid(buf_slice(&b)));
        for (size_t k = 0; k < b.len; k++)
            assert_true((unsigned char)b.ptr[k] >= ' ' && b.ptr[k] != 0x7f);
        memcpy(all + (size_t)i * ROOM, b.ptr, b.len);
    }
    qsort(all, 256 * 256, ROOM, compare);
    for (unsigned i = 1; i < 256 * 256; i++)
        assert_string_not_equal(all + (size_t)(i - 1) * ROOM, all + (size_t)i * ROOM);
    buf_done(&b);
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_every_pair),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
