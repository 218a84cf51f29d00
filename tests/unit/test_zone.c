#include "record/zone.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "util.h"

/* Europe/Berlin in 2024: forward at 03-31 01:00 UTC, back at 10-27 01:00 UTC. */
#define FORWARD_S INT64_C(1711846800)
#define BACK_S    INT64_C(1729990800)

static struct zone *zone_of(const char *name)
{
    struct zone *z = NULL;
    int r = zone_new(slice_of(name), &z);

    if (r < 0)
        fail_msg("'%s': %d", name, r);
    return z;
}

static const struct {
    const char *name;
    int32_t offset_s;
} fixed[] = {
    {"UTC", 0},    {"+00:00", 0},      {"-00:00", 0},    {"+02:00", 7200},      {"-0530", -19800},
    {"+02", 7200}, {"-23:59", -86340}, {"+2359", 86340}, {"Etc/GMT+5", -18000}, {"Etc/UTC", 0},
};

static void a_plain_offset_is_always_the_same(void **state)
{
    static const int64_t seconds[] = {INT64_C(-62135596800), -1, 0, FORWARD_S, 1720000000,
                                      INT64_C(253402300799)};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++) {
        struct zone *z = zone_of(fixed[i].name);

        for (size_t n = 0; n < ARRAY_LEN(seconds); n++) {
            int32_t offset_s = 1;

            assert_int_equal(zone_offset_utc(z, seconds[n]), fixed[i].offset_s);
            assert_int_equal(zone_to_utc(z, seconds[n], &offset_s), seconds[n] - fixed[i].offset_s);
            assert_int_equal(offset_s, fixed[i].offset_s);
        }
        zone_free(z);
    }
}

static const struct {
    struct slice name;
    int error;
} refused[] = {
    {SLICE(""), -EINVAL},
    {SLICE("+"), -EINVAL},
    {SLICE("+2"), -EINVAL},
    {SLICE("+020"), -EINVAL},
    {SLICE("+02:0"), -EINVAL},
    {SLICE("+02:"), -EINVAL},
    {SLICE("+0:200"), -EINVAL},
    {SLICE("+02:000"), -EINVAL},
    {SLICE("+24:00"), -EINVAL},
    {SLICE("+02:60"), -EINVAL},
    {SLICE("+0a"), -EINVAL},
    {SLICE("+02.00"), -EINVAL},
    {SLICE("/etc/localtime"), -EINVAL},
    {SLICE("../zoneinfo/UTC"), -EINVAL},
    {SLICE("Europe/../UTC"), -EINVAL},
    {SLICE("Europe//Berlin"), -EINVAL},
    {SLICE("Europe/"), -EINVAL},
    {SLICE("Europe/Berlin\0"), -EINVAL},
    {SLICE("Europe/Berlin "), -EINVAL},
    {SLICE("EST5EDT,M3.2.0,M11.1.0"), -EINVAL},
    {SLICE(":UTC"), -EINVAL},
    {SLICE("right/Europe/Berlin"), -EINVAL},
    {SLICE("abcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcdefghijabcde"), -EINVAL},
    {SLICE("Europe"), -ENOENT}, /* a directory */
    {SLICE("Europe/Berlin/Mitte"), -ENOENT},
    {SLICE("Europe/Atlantis"), -ENOENT},
    {SLICE("iso3166"), -ENOENT},
    {SLICE("leapseconds"), -ENOENT}, /* there, but no zone */
    {SLICE("CEST"), -ENOENT},
};

/* glibc would take each of them for UTC. */
static void what_is_no_zone_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct zone *z = NULL;
        int r = zone_new(refused[i].name, &z);

        if (r != refused[i].error || z != NULL)
            fail_msg("'%.*s': %d", SLICE_ARG(refused[i].name), r);
    }
}

static void the_database_is_where_glibc_looks(void **state)
{
    struct zone *z = NULL;

    (void)state;
    assert_int_equal(setenv("TZDIR", "/usr/share/zoneinfo/Europe", 1), 0);
    assert_int_equal(zone_new(SLICE("Europe/Berlin"), &z), -ENOENT);
    z = zone_of("Berlin");
    assert_int_equal(zone_offset_utc(z, FORWARD_S), 7200);
    zone_free(z);
    assert_int_equal(unsetenv("TZDIR"), 0);
}

static void clocks_go_forward_and_back(void **state)
{
    static const struct {
        int64_t utc_s;
        int32_t offset_s;
    } moments[] = {
        {FORWARD_S - 1, 3600},
        {FORWARD_S, 7200},
        {BACK_S - 1, 7200},
        {BACK_S, 3600},
        {0, 3600},                     /* 1970: no summer time yet */
        {INT64_C(14918400), 3600},     /* and not in its summer either */
        {INT64_C(4089913200), 7200},   /* August 2099 */
        {INT64_C(-5000000000), 3600},  /* before all: as in 1970 */
        {INT64_C(253402300799), 3600}, /* and after: as on New Year's Eve 2099 */
    };
    struct zone *z = zone_of("Europe/Berlin");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(moments); i++)
        assert_int_equal(zone_offset_utc(z, moments[i].utc_s), moments[i].offset_s);
    zone_free(z);
}

static void hours_that_are_skipped_or_come_twice(void **state)
{
    static const struct {
        int64_t local_s;
        int32_t offset_s;
    } times[] = {
        {FORWARD_S + 3600 - 1, 3600}, /* 01:59:59 */
        {FORWARD_S + 3600, 3600},     /* 02:00:00, which there is not */
        {FORWARD_S + 7200 - 1, 3600}, /* 02:59:59, likewise */
        {FORWARD_S + 7200, 7200},     /* 03:00:00 */
        {BACK_S + 3600 - 1, 7200},    /* 01:59:59 */
        {BACK_S + 3600, 7200},        /* 02:00:00, for the first time */
        {BACK_S + 7200 - 1, 7200},    /* 02:59:59, likewise */
        {BACK_S + 7200, 3600},        /* 03:00:00 */
    };
    struct zone *z = zone_of("Europe/Berlin");

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        int32_t offset_s = 0;
        int64_t utc_s = zone_to_utc(z, times[i].local_s, &offset_s);

        assert_int_equal(offset_s, times[i].offset_s);
        assert_int_equal(utc_s, times[i].local_s - times[i].offset_s);
    }
    zone_free(z);
}

/* The closest pair of changes that the database knows: Recife put its clocks forward on Sunday, 8
 * October 2000, and back a week later. */
static void changes_that_undo_each_other_are_seen(void **state)
{
    struct zone *z = zone_of("America/Recife");

    (void)state;
    assert_int_equal(zone_offset_utc(z, 970974000 - 1), -3 * 3600);
    assert_int_equal(zone_offset_utc(z, 970974000), -2 * 3600);
    assert_int_equal(zone_offset_utc(z, 971571600 + 3600), -3 * 3600);
    zone_free(z);
}

static int32_t glibc_offset(int64_t utc_s)
{
    time_t t = (time_t)utc_s;
    struct tm tm;

    assert_non_null(localtime_r(&t, &tm));
    return (int32_t)tm.tm_gmtoff;
}

/* TZ means afterwards what it meant before, for us and for glibc, set or not. */
static void the_environment_is_given_back(void **state)
{
    static const char *const before[] = {"America/New_York", NULL, "", "JST-9", NULL};
    extern char **environ;

    (void)state;
    zone_free(zone_of("Asia/Tokyo")); /* the first one makes room */
    for (size_t i = 0; i < ARRAY_LEN(before); i++) {
        char **array;
        int32_t offset_s;
        const char *tz;

        if (before[i] != NULL)
            assert_int_equal(setenv("TZ", before[i], 1), 0);
        else
            assert_int_equal(unsetenv("TZ"), 0);
        tzset();
        offset_s = glibc_offset(1720000000);
        zone_free(zone_of("Asia/Kathmandu"));

        array = environ;
        for (int again = 0; again < 3; again++) {
            struct zone *z = zone_of("Asia/Kathmandu"), *local;

            assert_int_equal(zone_offset_utc(z, 1720000000), 20700);
            assert_int_equal(glibc_offset(1720000000), offset_s);
            tz = getenv("TZ");
            assert_non_null(tz);
            assert_string_equal(tz, before[i] != NULL ? before[i] : ":/etc/localtime");

            local = zone_of("local");
            assert_int_equal(zone_offset_utc(local, 1720000000), offset_s);
            zone_free(local);
            zone_free(z);
        }
        assert_ptr_equal(array, environ);
    }
}

/* Every second around every change of some odd places agrees with glibc. */
static void a_table_says_what_glibc_says(void **state)
{
    static const char *const names[] = {
        "Europe/Dublin",       /* its winter time is the daylight saving one */
        "Africa/Casablanca",   /* Ramadan */
        "Australia/Lord_Howe", /* half an hour */
        "Antarctica/Troll",    /* two hours */
        "Pacific/Apia",        /* left out a day */
        "Africa/Monrovia",     /* 44 minutes and 30 seconds */
        "America/Scoresbysund",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct zone *z = zone_of(names[i]);

        assert_int_equal(setenv("TZ", names[i], 1), 0);
        tzset();
        for (int64_t t = 0; t < INT64_C(4102444800); t += 6 * 3600)
            if (zone_offset_utc(z, t) != glibc_offset(t))
                fail_msg("%s at %lld", names[i], (long long)t);
        zone_free(z);
    }
    assert_int_equal(unsetenv("TZ"), 0);
    tzset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_offset_is_always_the_same),
        cmocka_unit_test(what_is_no_zone_is_refused),
        cmocka_unit_test(the_database_is_where_glibc_looks),
        cmocka_unit_test(clocks_go_forward_and_back),
        cmocka_unit_test(hours_that_are_skipped_or_come_twice),
        cmocka_unit_test(changes_that_undo_each_other_are_seen),
        cmocka_unit_test(the_environment_is_given_back),
        cmocka_unit_test(a_table_says_what_glibc_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
