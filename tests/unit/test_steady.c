/* The promise of flow.h: from read to send nothing is allocated.
 *
 * A whole lane on a simulated clock and service reads a file of many lines.  Once it is warm (every
 * batch has flown once) no call of malloc, calloc or realloc may come from reading, splitting,
 * encoding, signing, judging and settling; only what the test's own service does is not counted. */

#include "world.h"

#include "counted_malloc.h"
#include "util.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { WARM_LINES = 20000, LINES = 200000 };

static uint64_t arrived;

static void record_stored(void *user, struct slice data, struct slice key)
{
    (void)user;
    (void)data;
    (void)key;
    arrived++;
}

static void write_lines(const char *path, uint32_t count)
{
    FILE *f = fopen(path, "ae");

    assert_non_null(f);
    for (uint32_t i = 0; i < count; i++)
        fprintf(f, "%0199u\n", i);
    fclose(f);
}

static void nothing_is_allocated(const char *flow_extra, struct sim_faults faults)
{
    static struct sim_world w;
    char extra[256];
    uint64_t before;

    (void)snprintf(extra, sizeof extra, "from = \"start\"; batch = { linger = \"20ms\"; }; %s",
                   flow_extra);
    sim_init(&w, 7, "*.log", extra);
    w.stored = record_stored;
    w.faults = faults;
    arrived = 0;
    write_lines(sim_path(&w, "a.log"), WARM_LINES);
    sim_start(&w);
    sim_run(&w, 60 * 1000);
    assert_int_equal(arrived, WARM_LINES);

    write_lines(sim_path(&w, "a.log"), LINES);
    before = allocations;
    sim_run(&w, 50 * 1000); /* less than a minute: the roster's glance may list a directory */
    before = allocations - before;
    assert_int_equal(arrived, WARM_LINES + LINES);
    assert_int_equal(before, 0);
    sim_done(&w);
}

static void nothing_is_allocated_in_steady_state(void **state)
{
    (void)state;
    nothing_is_allocated("", (struct sim_faults){0});
    nothing_is_allocated("key = \"file\"; newline = true;", (struct sim_faults){0});
    nothing_is_allocated("key = \"const:k\";", (struct sim_faults){.throttle = 20});
}

/* That the counter counts: else the test above says nothing. */
static void an_allocation_is_counted(void **state)
{
    uint64_t before = allocations;
    void *volatile p = malloc(10);

    (void)state;
    free(p);
    if (COUNTED_MALLOC)
        assert_int_equal(allocations, before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_allocation_is_counted),
        cmocka_unit_test(nothing_is_allocated_in_steady_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
