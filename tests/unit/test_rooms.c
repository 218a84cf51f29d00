/* The rooms of the house and who may look into whom (design.md, section 3), read from the sources
 * in the current directory: what a compiler flag cannot say, because all of agent/ shares one. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "slice.h"
#include "util.h"

/* `run` is the corridor: it looks into every room.  What it offers to all (the loop, the log) is
 * on its own list. */
static const struct room {
    const char *dir;
    const char *allowed; /* beginnings of includes with a slash, each between blanks */
} rooms[] = {
    {"common", ""},
    {"agent/record", " record/ "},
    {"agent/tail", " tail/ run/log.h run/loop.h "},
    {"agent/ship", " ship/ run/log.h run/loop.h "},
    {"agent/keep", " keep/ "},
    {"agent/run", " run/ record/ tail/ ship/ keep/ "},
};

static bool is_allowed(const struct room *room, const char *include)
{
    const char *slash = strchr(include, '/');
    char whole[300], dir[300];

    if (strstr(include, "..") != NULL)
        return false;
    if (slash == NULL)
        return true; /* common's, or it would not compile */
    (void)snprintf(whole, sizeof whole, " %s ", include);
    (void)snprintf(dir, sizeof dir, " %.*s ", (int)(slash - include + 1), include);
    return strstr(room->allowed, whole) != NULL || strstr(room->allowed, dir) != NULL;
}

/* The file between the quotes of an #include line, or false. */
static bool included(const char *line, char ret[256])
{
    return sscanf(line, " # include \"%255[^\"]\"", ret) == 1;
}

/* Reads one file; returns how many of its includes have quotes. */
static size_t read_file(const struct room *room, const char *name)
{
    char path[600], line[1024], include[256];
    size_t count = 0;
    FILE *f;

    (void)snprintf(path, sizeof path, "%s/%s", room->dir, name);
    f = fopen(path, "re");
    if (f == NULL)
        fail_msg("%s cannot be read", path);
    while (fgets(line, sizeof line, f) != NULL) {
        if (!included(line, include))
            continue;
        count++;
        if (!is_allowed(room, include))
            fail_msg("%s looks into %s", path, include);
    }
    (void)fclose(f);
    return count;
}

static void no_room_looks_into_another(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rooms); i++) {
        DIR *d = opendir(rooms[i].dir);
        size_t files = 0, includes = 0;
        struct dirent *e;

        if (d == NULL)
            fail_msg("%s: no such room here; run this where the Makefile is", rooms[i].dir);
        while ((e = readdir(d)) != NULL) {
            struct slice name = slice_of(e->d_name);

            if (!slice_ends_with(name, SLICE(".c")) && !slice_ends_with(name, SLICE(".h")))
                continue;
            files++;
            includes += read_file(&rooms[i], e->d_name);
        }
        (void)closedir(d);
        assert_true(files > 1 && includes > 0); /* or this test reads nothing */
    }
}

/* The reader itself, lest the test above be blind. */
static void includes_are_seen(void **state)
{
    static const struct {
        const char *line, *include;
        bool in_ship;
    } lines[] = {
        {"#include \"tail/source.h\"\n", "tail/source.h", false},
        {"#include \"ship/batch.h\"\n", "ship/batch.h", true},
        {"  #  include   \"keep/ledger.h\" /* why */\n", "keep/ledger.h", false},
        {"#include \"record/key.h\"", "record/key.h", false},
        {"#include \"run/log.h\"", "run/log.h", true},
        {"#include \"run/loop.h\"", "run/loop.h", true},
        {"#include \"run/flow.h\"", "run/flow.h", false},
        {"#include \"run/log.h.h\"", "run/log.h.h", false},
        {"#include \"../tail/source.h\"", "../tail/source.h", false},
        {"#include \"ship/../tail/source.h\"", "ship/../tail/source.h", false},
        {"#include \"slice.h\"\n", "slice.h", true},
        {"#include \"hip/x.h\"\n", "hip/x.h", false},
    };
    const struct room *ship = &rooms[3];
    char include[256];

    (void)state;
    assert_string_equal(ship->dir, "agent/ship");
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        assert_true(included(lines[i].line, include));
        assert_string_equal(include, lines[i].include);
        assert_int_equal(is_allowed(ship, include), lines[i].in_ship);
        assert_int_equal(is_allowed(&rooms[0], include), strchr(include, '/') == NULL);
    }
    assert_false(included("#include <stdio.h>\n", include));
    assert_false(included("/* tail/source.h */\n", include));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_room_looks_into_another),
        cmocka_unit_test(includes_are_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
