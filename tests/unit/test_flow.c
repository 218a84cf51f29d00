/* Events of several lines on their way through a whole lane: one record each, however they came and
 * wherever their file went; and what is not whole is neither lost nor sent twice.
 *
 * The lane is what is shipped, on a simulated clock and service (tests/sim/world.h). */

#include "world.h"

#include "buf.h"
#include "util.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define START  "from = \"start\"; batch = { linger = \"20ms\"; }; "
#define MULTI  "multiline = { start = \"^\\\\S\"; }; "
#define EVENTS START MULTI
#define NARROW(records)                                                                            \
    "from = \"start\"; max_in_flight = 1; batch = { records = " #records "; linger = \"20ms\"; "   \
    "}; "

enum { TIMEOUT_MS = 2000, SOON_MS = 300, LONG_MS = 130 * 1000 };

static struct sim_world w;
static struct buf arrived; /* records, a "|" behind each */
static uint64_t count, torn, line_count;

/* An event of these tests begins with its head, all else of it is indented. */
static void record_stored(void *user, struct slice data, struct slice key)
{
    (void)user;
    (void)key;
    count++;
    line_count += data.len > 0 && data.ptr[data.len - 1] != '\n';
    for (size_t i = 0; i < data.len; i++)
        line_count += data.ptr[i] == '\n';
    torn += data.len == 0 || data.ptr[0] == ' ';
    assert_int_equal(buf_append(&arrived, data), 0);
    assert_int_equal(buf_append_char(&arrived, '|'), 0);
}

static void begin(const char *extra)
{
    buf_reset(&arrived);
    buf_init(&arrived, 256 << 20);
    count = torn = line_count = 0;
    sim_init(&w, 7, "*.log", extra);
    w.stored = record_stored;
    sim_tick();
    sim_start(&w);
    sim_run(&w, 10);
}

static void end(void)
{
    sim_done(&w);
    buf_done(&arrived);
}

static void add(const char *name, const char *text)
{
    int fd = open(sim_path(&w, name), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void rotate(const char *from, const char *to)
{
    assert_int_equal(rename(sim_path(&w, from), sim_path(&w, to)), 0);
    sim_tick();
}

static void have_arrived(const char *text)
{
    assert_int_equal(buf_append_char(&arrived, '\0'), 0);
    assert_string_equal(arrived.ptr, text);
    arrived.len--;
}

/* --- from one file to the next --- */

static void an_event_goes_on_in_the_next_file(void **state)
{
    (void)state;
    begin(EVENTS);
    add("a.log", "one\n 1\n");
    sim_run(&w, SOON_MS);
    rotate("a.log", "a.log.1");
    add("a.log", " 2\ntwo\n");
    sim_run(&w, SOON_MS);
    have_arrived("one\n 1\n 2|");
    sim_run(&w, TIMEOUT_MS);
    have_arrived("one\n 1\n 2|two|");
    end();
}

/* All that holds the first file back is settled once, and not before the record is. */
static void an_event_goes_on_in_the_third_file(void **state)
{
    (void)state;
    for (int killed = 0; killed <= 1; killed++) {
        begin(EVENTS);
        add("a.log", "one\n");
        sim_run(&w, SOON_MS);
        rotate("a.log", "a.log.1");
        add("a.log", " 1\n");
        sim_run(&w, SOON_MS);
        rotate("a.log.1", "a.log.2");
        rotate("a.log", "a.log.1");
        w.faults.down = killed == 1;
        add("a.log", " 2\ntwo\n");
        sim_run(&w, SOON_MS);
        if (killed == 1) {
            sim_run(&w, 10 * 1000);
            sim_kill(&w);
            w.faults.down = false;
            sim_start(&w);
        }
        sim_run(&w, TIMEOUT_MS + SOON_MS);
        have_arrived("one\n 1\n 2|two|");
        sim_run(&w, LONG_MS);
        sim_stop(&w);
        sim_start(&w);
        sim_run(&w, LONG_MS);
        have_arrived("one\n 1\n 2|two|");
        end();
    }
}

/* The next file may have a header, or nothing at all for hours. */
static void an_event_does_not_wait_for_the_next_header(void **state)
{
    (void)state;
    begin(EVENTS "skip_header_lines = 1; ");
    add("a.log", "header\none\n 1\n");
    sim_run(&w, SOON_MS);
    rotate("a.log", "a.log.1");
    add("a.log", "");
    sim_run(&w, 2 * TIMEOUT_MS);
    have_arrived("one\n 1|");
    add("a.log", "header\ntwo\n");
    sim_run(&w, 2 * TIMEOUT_MS);
    have_arrived("one\n 1|two|");
    end();
}

/* Its first file is gone: what it was is in memory only. */
static void an_event_of_a_deleted_file_leaves_at_the_end(void **state)
{
    (void)state;
    begin(EVENTS);
    add("a.log", "one\n 1\n");
    sim_run(&w, SOON_MS);
    assert_int_equal(unlink(sim_path(&w, "a.log")), 0);
    sim_tick();
    add("a.log", " 2\n");
    sim_run(&w, SOON_MS);
    have_arrived("");
    sim_stop(&w);
    have_arrived("one\n 1\n 2|");
    sim_start(&w);
    sim_run(&w, LONG_MS);
    have_arrived("one\n 1\n 2|");
    end();
}

/* All rotated at once, twice, while the service is down. */
static void rotate_at_once(int files)
{
    begin(NARROW(50) MULTI);
    w.faults.down = true;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < files; i++) {
            char name[32], to[32];

            (void)snprintf(name, sizeof name, "%d.log", i);
            (void)snprintf(to, sizeof to, "%d.log.%d", i, round);
            if (round > 0)
                assert_int_equal(rename(sim_path(&w, name), sim_path(&w, to)), 0);
            if (i == 0)
                sim_tick();
            add(name, round == 0 ? "one\n" : " more\n");
        }
        sim_tick();
        sim_run(&w, SOON_MS);
    }
    w.faults.down = false;
    sim_run(&w, 2 * LONG_MS);
    assert_int_equal(line_count, 3 * files);
}

static void many_files_are_rotated_at_once(void **state)
{
    (void)state;
    rotate_at_once(300);
    assert_int_equal(torn, 0);
    assert_int_equal(count, 300);
    end();
    rotate_at_once(1500); /* more than can be carried over; but nothing is lost */
    end();
}

/* --- in one file --- */

static void write_events(const char *name, size_t events, size_t lines)
{
    FILE *f = fopen(sim_path(&w, name), "ae");

    assert_non_null(f);
    for (size_t i = 0; i < events; i++) {
        fprintf(f, "event %zu\n", i);
        for (size_t n = 1; n < lines; n++)
            fprintf(f, "    line %zu of event %zu, and it is as long as lines are\n", n, i);
    }
    fclose(f);
}

/* However much there is to be read at once, no event ends where a read does. */
static void a_backlog_is_not_torn(void **state)
{
    static const char *const joins[] = {EVENTS, EVENTS "join = \"lines\"; ",
                                        EVENTS "compress = \"gzip\"; "};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(joins); i++) {
        begin(joins[i]);
        write_events("a.log", 20 * 1000, 17);
        sim_run(&w, LONG_MS);
        assert_int_equal(i == 2 ? 0 : torn, 0);
        if (i != 1)
            assert_int_equal(count, 20 * 1000);
        end();
    }
}

/* One that is large is waited for as any other. */
static void a_large_event_is_not_torn(void **state)
{
    (void)state;
    begin(START "multiline = { start = \"^\\\\S\"; max_lines = 100000; }; ");
    write_events("a.log", 1, 11 * 1000);
    sim_run(&w, SOON_MS);
    assert_int_equal(count, 0);
    add("a.log", " more\n");
    sim_run(&w, TIMEOUT_MS + SOON_MS);
    assert_int_equal(count, 1);
    assert_int_equal(torn, 0);
    end();
}

/* What is due when there is room again is not what stood there when it was not. */
static void an_event_is_not_torn_when_the_service_was_down(void **state)
{
    (void)state;
    begin(NARROW(500) MULTI);
    write_events("b.log", 1, 1);
    sim_run(&w, SOON_MS);
    w.faults.down = true;
    write_events("a.log", 5000, 1);
    sim_run(&w, 5 * TIMEOUT_MS);
    assert_int_equal(count, 0);
    write_events("b.log", 10 * 1000, 17);
    sim_run(&w, 5 * TIMEOUT_MS);
    w.faults.down = false;
    sim_run(&w, LONG_MS);
    assert_int_equal(torn, 0);
    assert_int_equal(count, 5000 + 1 + 10 * 1000);
    end();
}

/* Of two events that are due together the first one found room, and then their file grew. */
static void what_is_out_is_not_sent_again(void **state)
{
    static const char out[] = "2026-11-21T14:00:00.1Z stdout F ",
                      err[] = "2026-11-21T14:00:00.2Z stderr F ";
    char text[256];

    (void)state;
    begin(NARROW(1) MULTI "parse = { format = \"cri\"; }; remove = [ \"time\", \"stream\", \"tag\" "
                          "]; output = \"json\"; ");
    w.faults.down = true;
    (void)snprintf(text, sizeof text, "%sa\n%sb\n", out, out);
    add("a.log", text);
    sim_run(&w, SOON_MS);
    (void)snprintf(text, sizeof text, "%sd\n%se\n", out, err);
    add("b.log", text);
    sim_run(&w, TIMEOUT_MS + SOON_MS);
    (void)snprintf(text, sizeof text, "%s more\n", out);
    add("b.log", text);
    sim_run(&w, TIMEOUT_MS);
    assert_int_equal(count, 0);
    w.faults.down = false;
    sim_run(&w, LONG_MS);
    /* In any order: some have been in the spool, for so long was it down. */
    for (const char *const *one = (const char *const[]){"a", "b", "d", "e", " more", NULL};
         *one != NULL; one++) {
        (void)snprintf(text, sizeof text, "{\"message\":\"%s\"}|", *one);
        assert_non_null(memmem(arrived.ptr, arrived.len, text, strlen(text)));
    }
    assert_int_equal(count, 5);
    end();
}

/* A file's columns are those of its first lines, wherever in it reading goes on. */
static void columns_are_known_after_a_restart(void **state)
{
    (void)state;
    begin(START "skip_header_lines = 1; parse = { format = \"csv\"; header = true; }; "
                "output = \"json\"; ");
    add("a.log", "made by us\nx,y\n1,2\n");
    sim_run(&w, SOON_MS);
    sim_stop(&w);
    add("a.log", "3,4\n");
    sim_start(&w);
    sim_run(&w, SOON_MS);
    have_arrived("{\"x\":\"1\",\"y\":\"2\"}|{\"x\":\"3\",\"y\":\"4\"}|");
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_goes_on_in_the_next_file),
        cmocka_unit_test(an_event_goes_on_in_the_third_file),
        cmocka_unit_test(an_event_does_not_wait_for_the_next_header),
        cmocka_unit_test(an_event_of_a_deleted_file_leaves_at_the_end),
        cmocka_unit_test(many_files_are_rotated_at_once),
        cmocka_unit_test(a_backlog_is_not_torn),
        cmocka_unit_test(a_large_event_is_not_torn),
        cmocka_unit_test(an_event_is_not_torn_when_the_service_was_down),
        cmocka_unit_test(what_is_out_is_not_sent_again),
        cmocka_unit_test(columns_are_known_after_a_restart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
