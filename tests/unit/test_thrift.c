/* thrift: what large lines took is given back when none has come for a while, and what ordinary ones
 * need is not. */
#include "run/thrift.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "record/scratch.h"
#include "run/loop.h"
#include "tail/source.h"
#include "util.h"

enum { MIB = 1024 * 1024, LARGE = 5 * MIB };

static uint64_t now_ms;

static uint64_t fake_mono(const struct clock *c)
{
    (void)c;
    return now_ms;
}

static int64_t fake_wall(const struct clock *c)
{
    (void)c;
    return 0;
}

static const struct clock fake_clock = {fake_mono, fake_wall};

static struct world {
    struct loop *loop;
    struct reader reader;
    struct thrift *thrift;
    struct scratch *scratch;
    struct thrift_user user;
    size_t trims;
} w;

static void trim(void *user)
{
    ++*(size_t *)user;
}

static int begin(void **state)
{
    (void)state;
    w = (struct world){.user = {.trim = trim, .user = &w.trims}};
    now_ms = 1000;
    assert_int_equal(loop_new(&fake_clock, &w.loop), 0);
    assert_int_equal(reader_init(&w.reader, NULL, 10 * MIB), 0);
    assert_int_equal(thrift_new(w.loop, &w.reader, &w.thrift), 0);
    w.scratch = thrift_scratch(w.thrift);
    list_init(&w.user.node);
    thrift_join(w.thrift, &w.user);
    return 0;
}

static int end(void **state)
{
    (void)state;
    thrift_leave(&w.user);
    thrift_free(w.thrift);
    reader_done(&w.reader);
    loop_free(w.loop);
    return 0;
}

static void pass(uint64_t ms)
{
    uint64_t until = now_ms + ms;

    while (now_ms < until) {
        now_ms = MIN(loop_next_ms(w.loop), until);
        assert_int_equal(loop_step(w.loop, 0), 0);
    }
}

/* A line of this length is worked on: `parts` of all pieces of the scratch are used. */
static void work(size_t len)
{
    scratch_limit(w.scratch, 10 * MIB, MIB);
    assert_int_equal(scratch_reserve(&w.scratch->joined, len), 0);
    assert_int_equal(scratch_reserve(&w.scratch->out, len + 1), 0);
    assert_int_equal(scratch_reserve(&w.scratch->redacted[1], len), 0);
    assert_non_null(arena_take(&w.scratch->fields.arena, len));
    memset(w.reader.memory, 1, len);
    w.reader.touched = MAX(w.reader.touched, len);
    thrift_saw(w.thrift, len);
}

static void what_is_large_is_given_back(void **state)
{
    (void)state;
    work(1000);
    work(LARGE);
    assert_true(scratch_excess(w.scratch) >= 4 * (size_t)LARGE);
    assert_true(reader_excess(&w.reader) > LARGE - MIB);
    pass(5 * THRIFT_MS);
    assert_int_equal(scratch_excess(w.scratch), 0);
    assert_int_equal(reader_excess(&w.reader), 0);
    assert_int_equal(w.trims, 1);
    assert_int_equal(w.reader.memory[LARGE - 1], 0); /* the kernel's again */
    assert_int_equal(w.reader.memory[1000], 1);      /* but not what each read needs */
    work(LARGE);                                     /* and there is more where it came from */
    pass(5 * THRIFT_MS);
    assert_int_equal(w.trims, 2);
    assert_int_equal(scratch_excess(w.scratch), 0);
}

static void nothing_is_given_back_while_it_is_needed(void **state)
{
    size_t size;

    (void)state;
    work(LARGE);
    size = scratch_excess(w.scratch);
    for (int i = 0; i < 20; i++) {
        pass(THRIFT_MS / 2);
        work(LARGE);
        assert_int_equal(scratch_excess(w.scratch), size);
    }
    assert_int_equal(w.trims, 0);

    /* Ordinary lines do not need it. */
    for (int i = 0; i < 20; i++) {
        pass(THRIFT_MS / 4);
        work(1000);
    }
    assert_int_equal(w.trims, 1);
    assert_int_equal(scratch_excess(w.scratch), 0);
}

static void ordinary_lines_wake_nobody(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        work(1000 + (size_t)i);
        assert_int_equal(scratch_excess(w.scratch), 0);
        assert_true(loop_next_ms(w.loop) == UINT64_MAX);
        pass(THRIFT_MS);
    }
    assert_int_equal(w.trims, 0);
}

/* Joined records of a megabyte are nothing out of the ordinary where a flow is to have them. */
static void what_is_expected_is_kept(void **state)
{
    (void)state;
    scratch_expect(w.scratch, MIB);
    scratch_expect(w.scratch, 1000); /* another flow's */
    scratch_limit(w.scratch, 10 * MIB, MIB);
    assert_int_equal(scratch_reserve(&w.scratch->joined, MIB), 0);
    assert_int_equal(scratch_reserve(&w.scratch->out, 2 * MIB), 0);
    assert_int_equal(scratch_excess(w.scratch), 2 * MIB);
    thrift_saw(w.thrift, LARGE);
    pass(5 * THRIFT_MS);
    assert_int_equal(scratch_excess(w.scratch), 0);
    assert_int_equal(w.scratch->joined.cap, MIB);
}

/* Two flows, one with larger records: each has its own ceilings, in the same memory. */
static void ceilings_are_whose_turn_it_is(void **state)
{
    static const char text[3000];
    struct buf *b = &w.scratch->joined;

    (void)state;
    scratch_limit(w.scratch, 1000, 1000);
    assert_int_equal(buf_append(b, (struct slice){text, sizeof text}), 0);
    scratch_limit(w.scratch, 100, 100);
    assert_int_equal(b->len, 0);
    assert_int_equal(buf_append(b, (struct slice){text, 401}), -EMSGSIZE);
    assert_int_equal(buf_append(b, (struct slice){text, 399}), 0);
    assert_int_equal(buf_printf(b, "%s", "12"), -EMSGSIZE);
    assert_int_equal(buf_append(b, SLICE("1")), 0);
    assert_int_equal(b->len, 400);
    assert_null(arena_take(&w.scratch->fields.arena, SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_large_is_given_back, begin, end),
        cmocka_unit_test_setup_teardown(nothing_is_given_back_while_it_is_needed, begin, end),
        cmocka_unit_test_setup_teardown(ordinary_lines_wake_nobody, begin, end),
        cmocka_unit_test_setup_teardown(what_is_expected_is_kept, begin, end),
        cmocka_unit_test_setup_teardown(ceilings_are_whose_turn_it_is, begin, end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
