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
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_bases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
