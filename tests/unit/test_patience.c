/* Flows whose lines are too hard stand back, and only as long as somebody else has lines. */

#include "run/patience.h"

#include "util.h"
#include "world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum {
    WORK_PER_MS = 40000,
    EVIL_LINES = 2000,
    STEPS = 50,  /* of 100 ms each */
    LINES = 200, /* in each */
};

static void test_row(void **state)
{
    struct patience p = {0};
    const int a = 0, b = 0, c = 0;

    (void)state;
    /* Nobody else is there, or only ourselves. */
    assert_int_equal(patience_hard(&p, &a, WORK_PER_MS, 5000), 0);
    patience_ordinary(&p, &a, 5000);
    assert_int_equal(patience_hard(&p, &a, WORK_PER_MS, 5000), 0);

    /* Somebody is: one stands behind the other, nine times as long as each has worked. */
    patience_ordinary(&p, &c, 5000);
    assert_int_equal(patience_hard(&p, &a, 2 * WORK_PER_MS, 5000), 5018);
    assert_int_equal(patience_hard(&p, &b, 2 * WORK_PER_MS, 5002), 5036);
    assert_int_equal(patience_hard(&p, &a, 2 * WORK_PER_MS, 5100), 5118);

    /* Our own ordinary lines do not hide the other's. */
    patience_ordinary(&p, &a, 5200);
    patience_ordinary(&p, &a, 5300);
    assert_int_equal(patience_hard(&p, &a, WORK_PER_MS, 5300), 5309);

    /* Nor are parts of a millisecond lost. */
    for (int i = 0; i < 9; i++)
        assert_int_equal(patience_hard(&p, &a, WORK_PER_MS / 9 + 1, 5400), 5401 + i);

    /* The others were quiet for a second. */
    assert_int_not_equal(patience_hard(&p, &a, WORK_PER_MS, 5999), 0);
    assert_int_equal(patience_hard(&p, &a, WORK_PER_MS, 6000), 0);
}

static uint64_t evil_count, ordinary_count;

static void record_stored(void *user, struct slice data, struct slice key)
{
    (void)user;
    (void)key;
    if (slice_starts_with(data, SLICE("aaaa")))
        evil_count++;
    else
        ordinary_count++;
}

static void append(const char *path, const char *line, uint32_t count)
{
    FILE *f = fopen(path, "ae");

    assert_non_null(f);
    for (uint32_t i = 0; i < count; i++)
        fprintf(f, "%s\n", line);
    fclose(f);
}

static void neighbours(const char *extra)
{
    static struct sim_world w;
    char evil[256];
    struct sim_flow flows[] = {
        {"o.log", "from = \"start\"; batch = { linger = \"20ms\"; }; drop = [ \"noise\" ];"},
        {"e.log", evil}};

    (void)snprintf(evil, sizeof evil, "from = \"start\"; batch = { linger = \"20ms\"; }; %s",
                   extra);
    sim_init_flows(&w, 7, flows, ARRAY_LEN(flows));
    w.stored = record_stored;
    evil_count = ordinary_count = 0;
    append(sim_path(&w, "e.log"),
           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
           EVIL_LINES);
    append(sim_path(&w, "o.log"), "ordinary", LINES);
    sim_start(&w);
    for (uint32_t i = 1; i <= STEPS; i++) {
        sim_run(&w, 100);
        append(sim_path(&w, "o.log"), "ordinary", LINES);
        append(sim_path(&w, "o.log"), "noise", 1);
    }

    /* Each of the evil lines is worth more than a millisecond, so that nine and more are waited. */
    assert_in_range(evil_count, STEPS, STEPS * 100 / 9);
    sim_run(&w, 500);
    assert_int_equal(ordinary_count, (STEPS + 1) * LINES);

    sim_run(&w, 60 * 1000);
    assert_int_equal(evil_count, EVIL_LINES);
    sim_stop(&w);
    sim_done(&w);
}

static void test_neighbours(void **state)
{
    (void)state;
    neighbours("include = [ \"^(a|aa)+[xy]\" ];");
    neighbours("parse = { regex = \"^(?<x>(a|aa)+)[xy]\"; };");
    neighbours("key = \"regex:^((?:a|aa)+)[xy]\";");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row),
        cmocka_unit_test(test_neighbours),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
