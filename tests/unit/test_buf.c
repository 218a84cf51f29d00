#include "buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* Invariant 1 of buf.h. */
static void check(const struct buf *b)
{
    assert_true(b->len <= b->cap);
    assert_true(b->cap <= b->max);
    assert_true(b->ptr != NULL || b->cap == 0);
}

static void check_content(const struct buf *b, struct slice expected)
{
    check(b);
    assert_int_equal(b->len, expected.len);
    assert_true(slice_equal(buf_slice(b), expected));
}

static void an_empty_buffer_holds_no_memory(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 10);
    assert_null(b.ptr);
    assert_int_equal(buf_append(&b, (struct slice){NULL, 0}), 0);
    check_content(&b, SLICE(""));
    assert_null(b.ptr);
    buf_done(&b);

    b = (struct buf){0}; /* the zero value holds nothing and never will */
    assert_int_equal(buf_append_char(&b, 'x'), -EMSGSIZE);
    assert_int_equal(buf_append(&b, SLICE("")), 0);
    buf_done(&b);
}

/* The same text in steps of every size, under every ceiling: what fits is there, what does not is
 * not there in part. */
static void an_append_happens_whole_or_not_at_all(void **state)
{
    char text[200];

    (void)state;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(' ' + i % 90);
    for (size_t max = 0; max <= sizeof text; max++) {
        for (size_t step = 1; step <= 70; step++) {
            struct buf b;
            size_t seen = 0;

            buf_init(&b, max);
            while (seen + step <= sizeof text) {
                int r = buf_append(&b, (struct slice){text + seen, step});

                assert_int_equal(r, seen + step <= max ? 0 : -EMSGSIZE);
                if (r < 0)
                    break;
                seen += step;
            }
            check_content(&b, (struct slice){text, seen});
            buf_done(&b);
        }
    }
}

/* AddressSanitizer's malloc dies of what malloc(3) refuses, unless told otherwise. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void a_huge_append_does_not_overflow(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, SIZE_MAX);
    assert_int_equal(buf_append(&b, SLICE("abc")), 0);
    assert_int_equal(buf_append(&b, (struct slice){"", SIZE_MAX - 2}), -EMSGSIZE);
    assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOMEM);
    check_content(&b, SLICE("abc"));
    buf_done(&b);
}

static void reserving_is_a_promise(void **state)
{
    struct buf b;
    const char *before;

    (void)state;
    buf_init(&b, 1000);
    assert_int_equal(buf_reserve(&b, 1001), -EMSGSIZE);
    assert_null(b.ptr);
    assert_int_equal(buf_reserve(&b, 1000), 0);
    before = b.ptr;
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(buf_append_char(&b, 'x'), 0);
    assert_ptr_equal(b.ptr, before);
    assert_int_equal(buf_append_char(&b, 'x'), -EMSGSIZE);
    check(&b);

    buf_reset(&b);
    check_content(&b, SLICE(""));
    assert_ptr_equal(b.ptr, before);
    buf_done(&b);
    check(&b);
    assert_null(b.ptr);
    assert_int_equal(b.max, 1000);
    assert_int_equal(buf_append(&b, SLICE("again")), 0); /* done is as good as new */
    check_content(&b, SLICE("again"));
    buf_done(&b);
}

static void printing_needs_one_byte_more(void **state)
{
    (void)state;
    for (size_t max = 0; max < 300; max++) {
        struct buf b;
        int r;

        buf_init(&b, max);
        r = buf_printf(&b, "%0150d", 7);
        assert_int_equal(r, max > 150 ? 0 : -EMSGSIZE);
        check(&b);
        assert_int_equal(b.len, r == 0 ? 150 : 0);
        if (r == 0) {
            assert_int_equal(b.ptr[149], '7');
            r = buf_printf(&b, "-%s", "abc");
            assert_int_equal(r, max > 154 ? 0 : -EMSGSIZE);
            assert_int_equal(b.len, r == 0 ? 154 : 150);
        }
        if (r == 0 && b.len == 154)
            assert_memory_equal(b.ptr + 150, "-abc", 4);
        buf_done(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_buffer_holds_no_memory),
        cmocka_unit_test(an_append_happens_whole_or_not_at_all),
        cmocka_unit_test(a_huge_append_does_not_overflow),
        cmocka_unit_test(reserving_is_a_promise),
        cmocka_unit_test(printing_needs_one_byte_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
