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
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WARM_LINES = 20000, LINES = 200000, SHAPED_LINES = 30000, LINE_BYTES = 200 };

/* Everything that a line of an access log may go through on its way to its record.  \x24 is a
 * dollar, which would be the directory for sim_init. */
static const char shaped[] =
    "parse = { format = \"combined\"; types = { response = \"integer\"; bytes = \"integer\"; }; "
    "time = { field = \"datetime\"; format = \"httpd\"; }; }; "
    "redact = ( { pattern = \"token=\\\\w+\"; replace = \"token=***\"; } ); "
    "include = [ \"HTTP\" ]; drop = [ \"healthz\" ]; "
    "add = { at = \"\\x24{file}:\\x24{offset}\"; now = \"\\x24{now}\"; shard = 7; }; "
    "rename = { host = \"client\"; }; remove = [ \"ident\" ]; ";

static uint64_t arrived, objects;

static void record_stored(void *user, struct slice data, struct slice key)
{
    (void)user;
    (void)key;
    arrived++;
    objects += slice_starts_with(data, SLICE("{\"client\":"));
}

static void write_lines(const char *path, uint32_t count)
{
    FILE *f = fopen(path, "ae");

    assert_non_null(f);
    for (uint32_t i = 0; i < count; i++)
        fprintf(
            f,
            "203.0.113.%u - - [10/Oct/2023:13:55:%02u +0000] \"GET /item/%u?token=%x HTTP/1.1\" "
            "200 %u \"-\" \"a \\\"quoted\\\" agent %0*u\"\n",
            i % 256, i % 60, i, i, i, LINE_BYTES / 2, i);
    fclose(f);
}

static void nothing_is_allocated(const char *flow_extra, struct sim_faults faults, uint32_t lines)
{
    static struct sim_world w;
    char extra[1024];
    uint64_t before;

    (void)snprintf(extra, sizeof extra, "from = \"start\"; batch = { linger = \"20ms\"; }; %s",
                   flow_extra);
    sim_init(&w, 7, "*.log", extra);
    w.stored = record_stored;
    w.faults = faults;
    arrived = objects = 0;
    write_lines(sim_path(&w, "a.log"), WARM_LINES);
    sim_start(&w);
    sim_run(&w, 60 * 1000);
    assert_int_equal(arrived, WARM_LINES);

    write_lines(sim_path(&w, "a.log"), lines);
    before = allocations;
    sim_run(&w, 50 * 1000); /* less than a minute: the roster's glance may list a directory */
    before = allocations - before;
    assert_int_equal(arrived, WARM_LINES + lines);
    assert_int_equal(before, 0);
    sim_done(&w);
}

static void nothing_is_allocated_in_steady_state(void **state)
{
    (void)state;
    nothing_is_allocated("", (struct sim_faults){0}, LINES);
    nothing_is_allocated("key = \"file\"; newline = true;", (struct sim_faults){0}, LINES);
    nothing_is_allocated("key = \"const:k\";", (struct sim_faults){.throttle = 20}, LINES);
}

static void nothing_is_allocated_for_what_lines_become(void **state)
{
    static const char *const ways[] = {
        "key = \"hash\";",
        "key = \"field:client\"; newline = true;",
        "key = \"regex:^(\\\\S+)\";",
        "compress = \"gzip\";",
        "compress = \"zstd\";",
        "multiline = { start = \"^\\\\d\"; timeout = \"10ms\"; };",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        char extra[1024];

        (void)snprintf(extra, sizeof extra, "%s%s", shaped, ways[i]);
        nothing_is_allocated(extra, (struct sim_faults){0}, SHAPED_LINES);
        if (strstr(ways[i], "compress") == NULL)
            assert_int_equal(objects, arrived);
    }
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
        cmocka_unit_test(nothing_is_allocated_for_what_lines_become),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
