#include "tail/generation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "util.h"

static const struct story {
    const char *name, *base;
    bool is;
} stories[] = {
    {"app.log.1", "app.log", true},
    {"app.log.10", "app.log", true},
    {"app.log-20261121", "app.log", true},
    {"app.log-20261121-1795246642", "app.log", true},
    {"app.log.2026-11-21_07", "app.log", true},
    {"app.log.2026-11-21T07:00:00Z", "app.log", true},
    {"app.log.2026-11-21T07:00:00+01:00", "app.log", true},
    {"app.log.old", "app.log", true},
    {"app.log.bak", "app.log", true},
    {"app.log~1", "app.log", true},
    {"app.log_1", "app.log", true},
    {"app.1.log", "app.log", true},
    {"app-20261121.log", "app.log", true},
    {"app.2026-11-21.log", "app.log", true},
    {"app.old.log", "app.log", true},
    {"syslog.1", "syslog", true},
    {"syslog-1", "syslog", true},
    {"a.b.1.log", "a.b.log", true},

    /* logrotate: dateext, dateformats, start 0, extension */
    {"app.log.0", "app.log", true},
    {"app.log.2026-11-21", "app.log", true},
    {"app.log_20261121070000", "app.log", true},
    {"app.log-20261121-07+0100", "app.log", true},
    {"app.log-2026W47", "app.log", true},
    {"app.log1795246642", "app.log", true},
    {"app-20261121-1795246642.log", "app.log", true},
    /* log4j, logback */
    {"app-2026-11-21-1.log", "app.log", true},
    {"app.2026-11-21.0.log", "app.log", true},
    {"app.log.2026-11-21.0", "app.log", true},
    {"app-2026-11-21_07-00.1.log", "app.log", true},
    {"app.2026-W47.log", "app.log", true},
    /* Python's handlers, loguru */
    {"app.log.2026-11-21_07-00", "app.log", true},
    {"app.log.2026-11-21_07-00-00", "app.log", true},
    {"app.2026-11-21_07-00-00_123456.log", "app.log", true},
    /* lumberjack of Go, mongod, rotating-file-stream of Node */
    {"app-2026-11-21T07-00-00.000.log", "app.log", true},
    {"mongod.log.2026-11-21T07-00-00", "mongod.log", true},
    {"20261121-0700-01-app.log", "app.log", true},
    {"app-out__2026-11-21_07-00-00.log", "app-out.log", true}, /* pm2 */
    /* rotatelogs, cronolog, newsyslog -t, BIND, WebLogic, WebSphere, GlassFish */
    {"access.log.1700000000", "access.log", true},
    {"access.log.2026-11-21-07_00_00", "access.log", true},
    {"access_20261121.log", "access.log", true},
    {"messages.20261121T070000", "messages", true},
    {"query.log.20261121070000123", "query.log", true},
    {"server.log00001", "server.log", true},
    {"SystemOut_26.11.21_07.00.00.log", "SystemOut.log", true},
    {"server.log_2026-11-21T07-00-00", "server.log", true},
    /* kubelet, docker */
    {"0.log.20261121-070000", "0.log", true},
    {"ab12-json.log.1", "ab12-json.log", true},
    /* multilog, s6-log, svlogd; metalog */
    {"@4000000065a1b2c3d4e5f607.s", "current", true},
    {"@4000000065a1b2c3d4e5f607.u", "current", true},
    {"@4000000065a1b2c3d4e5f607", "current", true},
    {"log-2026-11-21-07:00:00", "current", true},
    {"current.1", "current", true},

    {"@4000000065a1b2c3d4e5f607.s", "app.log", false},
    {"@4000000065a1b2c3d4e5f607.t", "current", false},
    {"@4000000065a1b2c3d4e5f607.s.1", "current", false},
    {"@4000000065a1b2c3d4e5f60.s", "current", false},
    {"@4000000065a1b2c3d4e5f6071.s", "current", false},
    {"@4000000065A1B2C3D4E5F607.s", "current", false},
    {"x4000000065a1b2c3d4e5f607.s", "current", false},
    {"lock", "current", false},
    {"log-old", "current", false},
    {"log-", "current", false},
    {"log--1", "current", false},
    {"current", "current", false},
    {"app.log0001", "app.log", false},
    {"app.log00001x", "app.log", false},
    {"app12345", "app", false}, /* a process of that number */
    {".log12345", ".log", false},
    {"app.123456", "app.1", false},
    {"20261121app.log", "app.log", false},
    {"2026112-app.log", "app.log", false},
    {"20261121-x-app.log", "app.log", false},
    {"20261121.log", ".log", false},
    {"20261121-", "", false},
    {"app-T1.log", "app.log", false},
    {"app.log.Z", "app.log", false}, /* compress(1) */
    {"app-W1.log", "app.log", false},
    {"1.log", "0.log", false}, /* the container's next life */
    {"app-web.log", "app.log", false},
    {"app.log.lck", "app.log", false},
    {"app.log.1.zst", "app.log", false},
    {"app.log.swp", "app.log", false},
    {".app.log.1", "app.log", false},
    {"app.log.1~", "app.log", false},
    {"app.log.1.gz.tmp", "app.log", false},

    {"app.log", "app.log", false},
    {"app.log.", "app.log", false},
    {"app.log-", "app.log", false},
    {"app.log.-", "app.log", false},
    {"app.log.-.", "app.log", false},
    {"app.log1", "app.log", false},
    {"app.log.gz", "app.log", false},
    {"app.log.1.gz", "app.log", false}, /* not to be read as lines */
    {"app.log.1.tmp", "app.log", false},
    {"app.log.error", "app.log", false},
    {"app.log.older", "app.log", false},
    {"app.error.log", "app.log", false},
    {"app-error.log", "app.log", false},
    {"app1.log", "app.log", false},
    {"app..log", "app.log", false},
    {"apple.log.1", "app.log", false},
    {"app.1", "app.log", false},
    {"app", "app.log", false},
    {"", "app.log", false},
    {"app.txt.1", "app.log", false},
    {"xapp.log.1", "app.log", false},
    {"app.1.txt", "app.log", false},
    {".1.log", ".log", false}, /* a hidden name has no extension */
    {".log.1", ".log", true},
    {"syslog1", "syslog", false},
    {"a.log", "app.log", false},
};

static void test_stories(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++)
        if (generation_is_of(slice_of(stories[i].name), slice_of(stories[i].base)) != stories[i].is)
            fail_msg("'%s' of '%s'", stories[i].name, stories[i].base);
}

static bool is_this(void *user, struct slice base)
{
    return slice_equal(base, slice_of(user));
}

static bool is_none(void *user, struct slice base)
{
    (void)base;
    ++*(size_t *)user;
    return false;
}

/* The other way round: whatever is a rotation of a name leads back to it. */
static void test_bases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        char base[32];
        size_t asked = 0;
        bool has;

        strcpy(base, stories[i].base);
        has = generation_has_base(slice_of(stories[i].name), is_this, base);
        if (has != stories[i].is)
            fail_msg("'%s' from '%s'", stories[i].name, base);
        assert_false(generation_has_base(slice_of(stories[i].name), is_none, &asked));
        assert_true(asked > 0 || !has);
        assert_true(asked <= 30); /* far from where it gives up */
    }
}

/* Made to be a rotation of thousands of names. */
static void test_many_marks(void **state)
{
    char name[256] = "a";
    size_t asked = 0;

    (void)state;
    for (size_t i = 1; i < sizeof name - 1; i++)
        name[i] = i % 2 == 1 ? '.' : '1';
    assert_false(generation_has_base(slice_of(name), is_none, &asked));
    assert_int_equal(asked, 100);
}

static const struct packed_story {
    const char *name, *stripped, *base;
    bool is;
} packed_stories[] = {
    {"app.log.1.gz", "app.log.1", "app.log", true},
    {"app.log.2.zst", "app.log.2", "app.log", true},
    {"app.log.0.gz", "app.log.0", "app.log", true},
    {"app.log-20261121.gz", "app.log-20261121", "app.log", true},
    {"app-20261121.log.zst", "app-20261121.log", "app.log", true},
    {"app.1.log.gz", "app.1.log", "app.log", true},
    {"app.log.gz", "app.log", "app.log", true},
    {"app.log.zst", "app.log", "app.log", true},
    {"0.log.20261121-070000.gz", "0.log.20261121-070000", "0.log", true},
    {"@4000000065a1b2c3d4e5f607.s.zst", "@4000000065a1b2c3d4e5f607.s", "current", true},
    {"a.gz.1.gz", "a.gz.1", "a.gz", true},

    {"app.log.1", "app.log.1", "app.log", false}, /* not packed */
    {"app.log", "app.log", "app.log", false},
    {"app.log.gz.gz", "app.log.gz", "app.log", false},
    {"app.log.1.gz.zst", "app.log.1.gz", "app.log", false},
    {"app.log.error.gz", "app.log.error", "app.log", false},
    {"app.log.1.gz.1", "app.log.1.gz.1", "app.log", false},
    {"app.log.1.GZ", "app.log.1.GZ", "app.log", false},
    {"app.log.1.z", "app.log.1.z", "app.log", false},
    {"app.log.1.tgz", "app.log.1.tgz", "app.log", false},
    {"app.log.1.bz2", "app.log.1.bz2", "app.log", false},
    {"app.log.1gz", "app.log.1gz", "app.log", false},
    {"other.log.gz", "other.log", "app.log", false},
    {".gz", ".gz", "", false},
    {".zst", ".zst", "", false},
    {"", "", "", false},
};

/* As the neighbours of a file are found. */
static bool is_packed_of(struct slice name, struct slice base)
{
    struct slice was = generation_strip_packing(name);

    return was.len < name.len && (slice_equal(was, base) || generation_is_of(was, base));
}

static void test_packed(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(packed_stories); i++) {
        const struct packed_story *s = &packed_stories[i];

        if (!slice_equal(generation_strip_packing(slice_of(s->name)), slice_of(s->stripped)))
            fail_msg("'%s' without its packing", s->name);
        if (is_packed_of(slice_of(s->name), slice_of(s->base)) != s->is)
            fail_msg("'%s' of '%s'", s->name, s->base);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_bases),
        cmocka_unit_test(test_many_marks),
        cmocka_unit_test(test_packed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
