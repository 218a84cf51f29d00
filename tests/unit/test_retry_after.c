#include "ship/retry_after.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "util.h"

/* RFC 9110's example, Sun, 06 Nov 1994 08:49:37 GMT, is our wall clock. */
static const int64_t wall_ms = INT64_C(784111777000);

static const struct story {
    const char *name, *amz, *http, *date;
    uint32_t ms;
} stories[] = {
    {"nothing", "", "", "", 0},
    {"only a date", "", "", "Sun, 06 Nov 1994 08:49:37 GMT", 0},

    /* AWS's own, in milliseconds */
    {"a moment", "250", "", "", 250},
    {"none at all", "0", "", "", 0},
    {"the longest", "300000", "", "", RETRY_AFTER_MAX_MS},
    {"longer", "300001", "", "", RETRY_AFTER_MAX_MS},
    {"longer than any number", "99999999999999999999999999", "", "", RETRY_AFTER_MAX_MS},
    {"negative", "-1", "", "", 0},
    {"with a sign", "+1", "", "", 0},
    {"a fraction", "1.5", "", "", 0},
    {"a unit", "100ms", "", "", 0},
    {"hexadecimal", "0x10", "", "", 0},
    {"a word", "soon", "", "", 0},
    {"a date is none there", "Sun, 06 Nov 1994 08:49:39 GMT", "", "", 0},
    {"leading zeros", "000020", "", "", 20},

    /* the standard's, in seconds */
    {"seconds", "", "2", "", 2000},
    {"zero seconds", "", "0", "", 0},
    {"five minutes", "", "300", "", RETRY_AFTER_MAX_MS},
    {"an hour", "", "3600", "", RETRY_AFTER_MAX_MS},
    {"2^32 ms", "", "4294968", "", RETRY_AFTER_MAX_MS},
    {"2^64 seconds", "", "18446744073709551616", "", RETRY_AFTER_MAX_MS},
    {"negative seconds", "", "-5", "", 0},
    {"seconds with a fraction", "", "0.5", "", 0},
    {"seconds in words", "", "two seconds", "", 0},

    /* both */
    {"theirs first", "700", "5", "", 700},
    {"theirs is garbage", "soon", "5", "", 5000},
    {"theirs is now", "0", "5", "", 0},

    /* dates */
    {"of today", "", "Sun, 06 Nov 1994 08:49:39 GMT", "", 2000},
    {"of RFC 850", "", "Sunday, 06-Nov-94 08:49:39 GMT", "", 2000},
    {"of asctime", "", "Sun Nov  6 08:49:39 1994", "", 2000},
    {"now", "", "Sun, 06 Nov 1994 08:49:37 GMT", "", 0},
    {"past", "", "Sun, 06 Nov 1994 08:49:36 GMT", "", 0},
    {"long past", "", "Thu, 01 Jan 1970 00:00:00 GMT", "", 0},
    {"tomorrow", "", "Mon, 07 Nov 1994 08:49:37 GMT", "", RETRY_AFTER_MAX_MS},
    {"far", "", "Fri, 31 Dec 9999 23:59:59 GMT", "", RETRY_AFTER_MAX_MS},
    {"by their clock", "", "Wed, 21 Oct 2015 07:28:10 GMT", "Wed, 21 Oct 2015 07:28:00 GMT", 10000},
    {"past by their clock", "", "Sun, 06 Nov 1994 08:49:39 GMT", "Wed, 21 Oct 2015 07:28:00 GMT",
     0},
    {"their clock is garbage", "", "Sun, 06 Nov 1994 08:49:39 GMT", "today", 2000},
    {"no day's name", "", "06 Nov 1994 08:49:39 GMT", "", 0},
    {"a date to libcurl only", "", "19941106 08:49:39", "", 0},
    {"no year", "", "Sun, 06 Nov", "", 0},
    {"no such day", "", "Sun, 45 Nov 1994 08:49:39 GMT", "", 0},
    {"a day", "", "Sunday", "", 0},
    {"a long text", "",
     "Sunday, the sixth of November of the year nineteen hundred and ninety-four, in the morning",
     "", 0},
};

static void test_stories(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        const struct retry_after from = {slice_of(s->amz), slice_of(s->http), slice_of(s->date)};
        uint32_t ms = retry_after_ms(&from, wall_ms);

        if (ms != s->ms)
            fail_msg("%s: %u ms, not %u", s->name, ms, s->ms);
    }
}

/* A header may hold a zero, and what is missing is NULL. */
static void test_odd_slices(void **state)
{
    const struct retry_after none = {{NULL, 0}, {NULL, 0}, {NULL, 0}};
    const struct retry_after zeros = {
        {"1\0", 2}, {"Sun, 06 Nov 1994 08:49:39 GMT\0", 30}, {"\0", 1}};

    (void)state;
    assert_int_equal(retry_after_ms(&none, wall_ms), 0);
    assert_int_equal(retry_after_ms(&zeros, wall_ms), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_odd_slices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
