/* arena: what was taken stays, what was given back is used again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arena.h"

static void pieces_stay_where_they_are(void **state)
{
    struct arena a;
    char *pieces[500];

    (void)state;
    arena_init(&a, 1 << 20);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 500; i++) {
            pieces[i] = arena_take(&a, i + 1);
            assert_non_null(pieces[i]);
            memset(pieces[i], (int)(i & 0xff), i + 1);
        }
        for (size_t i = 0; i < 500; i++)
            for (size_t j = 0; j <= i; j++)
                assert_int_equal((unsigned char)pieces[i][j], i & 0xff);
        arena_reset(&a);
    }
    arena_done(&a);
}

static void a_warm_arena_gives_the_same_memory(void **state)
{
    struct arena a;
    char *first, *large;

    (void)state;
    arena_init(&a, 1 << 20);
    first = arena_take(&a, 100);
    large = arena_take(&a, 100000);
    arena_reset(&a);
    assert_ptr_equal(arena_take(&a, 100), first);
    assert_ptr_equal(arena_take(&a, 100000), large);
    arena_done(&a);
}

static void the_ceiling_holds(void **state)
{
    struct arena a;
    struct slice copy = SLICE("untouched");

    (void)state;
    arena_init(&a, 10);
    assert_non_null(arena_take(&a, 4));
    assert_null(arena_take(&a, 7));
    assert_null(arena_take(&a, SIZE_MAX));
    assert_false(arena_copy(&a, SLICE("1234567"), &copy));
    assert_true(slice_equal(copy, SLICE("untouched")));
    assert_true(arena_copy(&a, SLICE("123456"), &copy));
    assert_true(slice_equal(copy, SLICE("123456")));
    assert_non_null(arena_take(&a, 0));
    arena_reset(&a);
    assert_non_null(arena_take(&a, 10));
    arena_done(&a);
}

static void the_end_of_the_last_piece_can_go_back(void **state)
{
    struct arena a;
    char *p, *q;

    (void)state;
    arena_init(&a, 100);
    p = arena_take(&a, 80);
    arena_shrink(&a, p, 80, 10);
    q = arena_take(&a, 90);
    assert_ptr_equal(q, p + 10);
    arena_done(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_stay_where_they_are),
        cmocka_unit_test(a_warm_arena_gives_the_same_memory),
        cmocka_unit_test(the_ceiling_holds),
        cmocka_unit_test(the_end_of_the_last_piece_can_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
