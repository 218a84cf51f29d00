/* With --answer it reads questions instead, for tests/system/test_when.py: on each line a format, a
 * zone, now in nanoseconds and a text, between tabs; and answers with what was read and how it is
 * written in UTC, in its own offset, in the zone, and as epochs; or with a dash. */
#include "record/when.h"

#include "counted_malloc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "record/zone.h"
#include "util.h"

#define NS     INT64_C(1000000000)
#define NOW_NS (INT64_C(1704448800) * NS) /* 2024-01-05T10:00:00Z */

static struct when_format *format_of(const char *text, const struct zone *zone)
{
    struct when_format *f = NULL;
    struct when_error e = {0};
    int r = when_format_new(slice_of(text), zone, &f, &e);

    if (r < 0)
        fail_msg("'%s': %d: at %zu: %s", text, r, e.place, e.text);
    return f;
}

/* A zone of two hours, so that what is taken from the zone can be told from what is written. */
static const struct story {
    const char *format, *text, *written; /* as RFC 3339; NULL: refused */
} stories[] = {
    {"rfc3339", "2024-10-11T22:14:15Z", "2024-10-11T22:14:15Z"},
    {"rfc3339", "2024-10-11t22:14:15z", "2024-10-11T22:14:15Z"},
    {"rfc3339", "2024-10-11 22:14:15+02:00", "2024-10-11T22:14:15+02:00"},
    {"rfc3339", "2024-10-11T22:14:15-0330", "2024-10-11T22:14:15-03:30"},
    {"rfc3339", "2024-10-11T22:14:15+14", "2024-10-11T22:14:15+14:00"},
    {"rfc3339", "2024-10-11T22:14:15", "2024-10-11T22:14:15+02:00"},
    {"rfc3339", "2024-10-11T22:14:15-00:00", "2024-10-11T22:14:15Z"},
    {"rfc3339", " \t2024-10-11T22:14:15Z \t ", "2024-10-11T22:14:15Z"},
    {"rfc3339", "2024-10-11T22:14:15.1Z", "2024-10-11T22:14:15.1Z"},
    {"rfc3339", "2024-10-11 22:14:15,120", "2024-10-11T22:14:15.120+02:00"},
    {"rfc3339", "2024-10-11T22:14:15.000Z", "2024-10-11T22:14:15.000Z"},
    {"rfc3339", "2024-10-11T22:14:15.123456789Z", "2024-10-11T22:14:15.123456789Z"},
    {"rfc3339", "2024-10-11T22:14:15.99999999999999999999Z", "2024-10-11T22:14:15.999999999Z"},
    {"rfc3339", "2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"},
    {"rfc3339", "2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.5Z"},
    {"rfc3339", "2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"},
    {"rfc3339", "2000-02-29T00:00:00Z", "2000-02-29T00:00:00Z"},
    {"rfc3339", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"},
    {"rfc3339", "9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"},
    {"rfc3339", "1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"},
    {"rfc3339", "", NULL},
    {"rfc3339", "2024-1-11T22:14:15Z", NULL},
    {"rfc3339", "2024-10-1T22:14:15Z", NULL},
    {"rfc3339", "2024-10- 1T22:14:15Z", NULL},
    {"rfc3339", "2024-10- 11T22:14:15Z", NULL},
    {"rfc3339", "2024-10-11T2:14:15Z", NULL},
    {"rfc3339", " ", NULL},
    {"rfc3339", "2024-10-11", NULL},
    {"rfc3339", "2024-10-11T", NULL},
    {"rfc3339", "2024-10-11T22:14", NULL},
    {"rfc3339", "2024-10-11T22:14:15.Z", NULL},
    {"rfc3339", "2024-10-11T22:14:15.", NULL},
    {"rfc3339", "2024-10-11T22:14:15 Z", NULL},
    {"rfc3339", "2024-10-11T22:14:15Zx", NULL},
    {"rfc3339", "2024-10-11T22:14:15+2", NULL},
    {"rfc3339", "2024-10-11T22:14:15+020", NULL},
    {"rfc3339", "2024-10-11T22:14:15+02:", NULL},
    {"rfc3339", "2024-10-11T22:14:15+02:0", NULL},
    {"rfc3339", "2024-10-11T22:14:15+24:00", NULL},
    {"rfc3339", "2024-10-11T22:14:15+02:60", NULL},
    {"rfc3339", "2024-10-11T24:00:00Z", NULL},
    {"rfc3339", "2024-10-11T22:60:15Z", NULL},
    {"rfc3339", "2024-10-11T22:14:61Z", NULL},
    {"rfc3339", "2024-13-11T22:14:15Z", NULL},
    {"rfc3339", "2024-00-11T22:14:15Z", NULL},
    {"rfc3339", "2024-10-00T22:14:15Z", NULL},
    {"rfc3339", "2024-04-31T22:14:15Z", NULL},
    {"rfc3339", "2023-02-29T22:14:15Z", NULL},
    {"rfc3339", "1900-02-29T22:14:15Z", NULL},
    {"rfc3339", "0000-10-11T22:14:15Z", NULL},
    {"rfc3339", "12024-10-11T22:14:15Z", NULL},
    {"rfc3339", "024-10-11T22:14:15Z", NULL},
    {"rfc3339", "-024-10-11T22:14:15Z", NULL},
    {"rfc3339", "0001-01-01T00:00:00+00:01", NULL}, /* the year 0 in UTC */
    {"rfc3339", "9999-12-31T23:59:59-00:01", NULL},
    {"rfc3339", "9999-12-31T23:59:60Z", NULL},

    {"epoch", "0", "1970-01-01T00:00:00Z"},
    {"epoch", "1728677655", "2024-10-11T20:14:15Z"},
    {"epoch", "1728677655.123", "2024-10-11T20:14:15.123Z"},
    {"epoch", "-1", "1969-12-31T23:59:59Z"},
    {"epoch", "-0.25", "1969-12-31T23:59:59.75Z"},
    {"epoch", "-1.25", "1969-12-31T23:59:58.75Z"},
    {"epoch", "-1.00", "1969-12-31T23:59:59.00Z"},
    {"epoch", "0000000000000000000000001", "1970-01-01T00:00:01Z"},
    {"epoch", "253402300799", "9999-12-31T23:59:59Z"},
    {"epoch", "-62135596800", "0001-01-01T00:00:00Z"},
    {"epoch", "253402300800", NULL},
    {"epoch", "-62135596801", NULL},
    {"epoch", "-62135596800.1", NULL},
    {"epoch", "18446744073709551616", NULL},
    {"epoch", "99999999999999999999999999999999", NULL},
    {"epoch", "", NULL},
    {"epoch", "-", NULL},
    {"epoch", "+1", NULL},
    {"epoch", ".5", NULL},
    {"epoch", "5.", NULL},
    {"epoch", "1e9", NULL},
    {"epoch", "0x10", NULL},
    {"epoch_ms", "1728677655123", "2024-10-11T20:14:15.123Z"},
    {"epoch_ms", "1", "1970-01-01T00:00:00.001Z"},
    {"epoch_ms", "-1", "1969-12-31T23:59:59.999Z"},
    {"epoch_ms", "1728677655123.5", NULL},
    {"epoch_us", "1728677655123456", "2024-10-11T20:14:15.123456Z"},
    {"epoch_ns", "1728677655123456789", "2024-10-11T20:14:15.123456789Z"},
    {"epoch_ns", "18446744073709551615", "2554-07-21T23:34:33.709551615Z"},

    {"httpd", "10/Oct/2000:13:55:36 -0700", "2000-10-10T13:55:36-07:00"},
    {"httpd", "01/jan/2000:00:00:00 +0000", "2000-01-01T00:00:00Z"},
    {"httpd", "10/Okt/2000:13:55:36 -0700", NULL},
    {"httpd", "10/Oct/2000:13:55:36", NULL},
    {"httpd", "1/Oct/2000:13:55:36 -0700", NULL},
    {"httpd", "[10/Oct/2000:13:55:36 -0700]", NULL},

    {"apache_error", "Fri Sep 09 10:42:29.902022 2011", "2011-09-09T10:42:29.902022+02:00"},
    {"apache_error", "Fri Sep  9 10:42:29 2011", "2011-09-09T10:42:29+02:00"},
    {"apache_error", "Fri Sep 09 10:42:29", NULL},
    {"apache_error", "Sep 09 10:42:29 2011", NULL},

    {"syslog", "Oct 11 22:14:15", "2023-10-11T22:14:15+02:00"},
    {"syslog", "Oct  1 22:14:15", "2023-10-01T22:14:15+02:00"},
    {"syslog", "Oct 1 22:14:15", "2023-10-01T22:14:15+02:00"},
    {"syslog", "Oct 01 22:14:15", "2023-10-01T22:14:15+02:00"},
    {"syslog", "oct 11 22:14:15.5", "2023-10-11T22:14:15.5+02:00"},
    {"syslog", "Oct 11 2024 22:14:15", "2024-10-11T22:14:15+02:00"},
    {"syslog", "Feb 29 2023 22:14:15", NULL},
    {"syslog", "Oct 11 0000 22:14:15", NULL},
    {"syslog", "Oct 32 22:14:15", NULL},
    {"syslog", "Feb 30 22:14:15", NULL},
    {"syslog", "Oct 11 22:14", NULL},

    {"%Y-%m-%d %H:%M:%S", "2024-10-11 22:14:15", "2024-10-11T22:14:15+02:00"},
    {"%Y-%m-%d %H:%M:%S", "2024-1-2 3:4:5", "2024-01-02T03:04:05+02:00"},
    {"%Y-%m-%d %H:%M:%S", "2024-10-11 \t 22:14:15", "2024-10-11T22:14:15+02:00"},
    {"%Y-%m-%d %H:%M:%S", "2024-10-1122:14:15", NULL},
    {"%Y-%m-%d %H:%M:%S", "2024-10-11 22:14:15x", NULL},
    {"%Y-%m-%d %H:%M:%S", "24-10-11 22:14:15", NULL},
    {"%Y%m%d%H%M%S%f", "20241011221415123", "2024-10-11T22:14:15.123+02:00"},
    {"%F%n%T.%f %z", "2024-10-11 22:14:15.5 +0530", "2024-10-11T22:14:15.5+05:30"},
    {"%F %T.%f", "2024-10-11 22:14:15.1234567890", NULL},
    {"%F %T.%f", "2024-10-11 22:14:15.", NULL},
    {"%D %R %Z", "10/11/24 22:14 GMT", "2024-10-11T22:14:00Z"},
    {"%D %R %Z", "10/11/24 22:14 utc", "2024-10-11T22:14:00Z"},
    {"%D %R %Z", "10/11/24 22:14 CEST", NULL},
    {"%D %R", "10/11/68 22:14", "2068-10-11T22:14:00+02:00"},
    {"%D %R", "10/11/69 22:14", "1969-10-11T22:14:00+02:00"},
    {"%D %R", "10/11/4 22:14", NULL},
    {"%A, %d. %B %Y, %I:%M %p", "FRIDAY, 1. oCTOBER 2024, 12:30 am", "2024-10-01T00:30:00+02:00"},
    {"%A, %d. %B %Y, %I:%M %p", "Fri, 1. Oct 2024, 12:30 PM", "2024-10-01T12:30:00+02:00"},
    {"%A, %d. %B %Y, %I:%M %p", "Fri, 1. Oct 2024, 1:30 PM", "2024-10-01T13:30:00+02:00"},
    {"%A, %d. %B %Y, %I:%M %p", "Fri, 1. Oct 2024, 13:30 PM", NULL},
    {"%A, %d. %B %Y, %I:%M %p", "Fri, 1. Oct 2024, 0:30 AM", NULL},
    {"%A, %d. %B %Y, %I:%M %p", "Fri, 1. Oct 2024, 1:30", NULL},
    {"%Y.%j %H", "2024.366 07", "2024-12-31T07:00:00+02:00"},
    {"%Y.%j %H", "2024.60 07", "2024-02-29T07:00:00+02:00"},
    {"%Y.%j %H", "2023.366 07", NULL},
    {"%Y.%j %H", "2023.000 07", NULL},
    {"%j %H", "366 07", "2020-12-31T07:00:00+02:00"},
    {"%s", "1728677655", "2024-10-11T20:14:15Z"},
    {"%s.%f", "-1.5", "1969-12-31T23:59:58.5Z"},
    {"%s %z", "1728677655 +0200", "2024-10-11T22:14:15+02:00"},
    {"100%% %F %T", "100% 2024-10-11 22:14:15", "2024-10-11T22:14:15+02:00"},
    {" %F %T ", "2024-10-11 22:14:15", "2024-10-11T22:14:15+02:00"},
};

static void texts_are_read(void **state)
{
    struct zone *zone;

    (void)state;
    assert_int_equal(zone_new(SLICE("+02:00"), &zone), 0);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        struct when_format *f = format_of(s->format, zone);
        size_t len = strlen(s->text);
        char *text = malloc(len), to[WHEN_TEXT_MAX];
        struct when w;
        int r;

        assert_non_null(text);
        memcpy(text, s->text, len); /* of just its size: nothing behind it may be looked at */
        r = when_read(f, (struct slice){text, len}, NOW_NS, &w);
        if (r != (s->written != NULL ? 0 : -EINVAL))
            fail_msg("%s: '%s': %d", s->format, s->text, r);
        if (r == 0 && when_write_rfc3339(&w, NULL, to) != strlen(to))
            fail_msg("%s: '%s': its length", s->format, s->text);
        if (r == 0 && strcmp(to, s->written) != 0)
            fail_msg("%s: '%s': %s", s->format, s->text, to);
        free(text);
        when_format_free(f);
    }
    zone_free(zone);
}

/* What begins or ends too early is refused, or another time: never read past its end. */
static void parts_of_texts_are_safe(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct when_format *f = format_of(stories[i].format, NULL);
        struct slice whole = slice_of(stories[i].text);

        for (size_t n = 0; n <= whole.len; n++) {
            char *text = malloc(n);
            struct when w;

            assert_true(n == 0 || text != NULL);
            if (n > 0)
                memcpy(text, whole.ptr, n);
            (void)when_read(f, (struct slice){text, n}, NOW_NS, &w);
            free(text);
        }
        when_format_free(f);
    }
}

static const struct {
    const char *format;
    size_t place;
    const char *part; /* of the sentence */
} wrongs[] = {
    {"", 0, "none of rfc3339"},
    {"RFC3339", 0, "none of rfc3339"},
    {"rfc3339 ", 0, "none of rfc3339"},
    {"yyyy-MM-dd", 0, "none of rfc3339"},
    {"%F %Q", 3, "%Q is not known"},
    {"%F %T%", 5, "at the end"},
    {"%F % T", 3, "a letter"},
    {"%F %\xc3\xa4", 3, "a letter"},
    {"%F %-d", 3, "%- is not known"},
    {"%F %T %d", 6, "%d tells what was told"},
    {"%d %D %T", 3, "%d tells what was told"},
    {"%F %T %Z %z", 9, "%z tells what was told"},
    {"%F %T %p", 6, "%p needs %I"},
    {"%F %I:%M", 3, "%I needs %p"},
    {"%F %I:%M %H", 9, "%H tells what was told"},
    {"%j %m %T", 3, "%m tells what was told"},
    {"%s %Y", 0, "all of a time"},
    {"%Y-%d %T", 8, "no month"},
    {"%Y-%m %T", 8, "no day"},
    {"%F", 2, "no hour"},
    {"%%", 2, "no month"},
    {"%F %H %S", 8, "no minutes"},
    {"%F %R.%f", 8, "no seconds"},
    {"%H:%M", 5, "no month"},
};

static void formats_that_tell_no_time_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrongs); i++) {
        struct when_format *f = NULL;
        struct when_error e = {0};
        int r = when_format_new(slice_of(wrongs[i].format), NULL, &f, &e);

        if (r != -EINVAL || f != NULL)
            fail_msg("'%s': %d", wrongs[i].format, r);
        if (e.place != wrongs[i].place || strstr(e.text, wrongs[i].part) == NULL)
            fail_msg("'%s': at %zu: %s", wrongs[i].format, e.place, e.text);
    }
}

/* Rule 4; each time is read at each `now`. */
static const struct {
    const char *now, *text, *written;
} years[] = {
    {"2024-01-05T10:00:00Z", "Dec 31 23:59:59", "2023-12-31T23:59:59Z"},
    {"2024-01-05T10:00:00Z", "Jan  1 00:00:00", "2024-01-01T00:00:00Z"},
    {"2024-01-05T10:00:00Z", "Jan 12 10:00:00", "2024-01-12T10:00:00Z"},     /* in just 7 days */
    {"2024-01-05T10:00:00Z", "Jan 12 10:00:00.1", "2023-01-12T10:00:00.1Z"}, /* in more */
    {"2024-01-05T10:00:00.2Z", "Jan 12 10:00:00.1", "2024-01-12T10:00:00.1Z"},
    {"2024-01-05T10:00:00Z", "Jan 12 10:00:01", "2023-01-12T10:00:01Z"},
    {"2023-12-28T10:00:00Z", "Jan  2 00:00:00", "2024-01-02T00:00:00Z"}, /* a clock ahead */
    {"2023-12-31T23:59:59Z", "Dec 31 23:59:60", "2024-01-01T00:00:00Z"},
    {"2024-01-05T10:00:00Z", "Feb 29 00:00:00", "2020-02-29T00:00:00Z"},
    {"2024-02-22T00:00:00Z", "Feb 29 00:00:00", "2024-02-29T00:00:00Z"},
    {"2024-02-21T23:59:59Z", "Feb 29 00:00:00", "2020-02-29T00:00:00Z"},
    {"2027-06-01T00:00:00Z", "Feb 29 00:00:00", "2024-02-29T00:00:00Z"},
    {"1903-06-01T00:00:00Z", "Feb 29 00:00:00", "1896-02-29T00:00:00Z"},
    {"2104-02-21T00:00:00Z", "Feb 29 00:00:00", "2096-02-29T00:00:00Z"},
    {"1970-01-01T00:00:00Z", "Jan  9 00:00:00", "1969-01-09T00:00:00Z"},
    {"1969-12-31T23:59:59.5Z", "Jan  7 23:59:59", "1970-01-07T23:59:59Z"},
    {"1969-12-31T23:59:59.5Z", "Jan  7 23:59:59.6", "1969-01-07T23:59:59.6Z"},
    {"1969-12-31T23:59:59.5Z", "Jan  7 00:00:00", "1970-01-07T00:00:00Z"},
};

static void the_year_that_is_missing_is_the_latest_that_fits(void **state)
{
    struct when_format *rfc3339 = format_of("rfc3339", NULL), *syslog = format_of("syslog", NULL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(years); i++) {
        char to[WHEN_TEXT_MAX];
        struct when now, w;

        assert_int_equal(when_read(rfc3339, slice_of(years[i].now), 0, &now), 0);
        assert_int_equal(when_read(syslog, slice_of(years[i].text), now.utc_s * NS + now.ns, &w),
                         0);
        (void)when_write_rfc3339(&w, NULL, to);
        if (strcmp(to, years[i].written) != 0)
            fail_msg("at %s '%s' is %s", years[i].now, years[i].text, to);
    }
    when_format_free(rfc3339);
    when_format_free(syslog);
}

static void any_now_will_do(void **state)
{
    struct when_format *f = format_of("syslog", NULL);
    struct when w;

    (void)state;
    assert_int_equal(when_read(f, SLICE("Feb 29 00:00:00"), INT64_MIN, &w), 0);
    assert_int_equal(w.utc_s, INT64_C(-9272620800)); /* 1676 */
    assert_int_equal(when_read(f, SLICE("Feb 29 00:00:00"), INT64_MAX, &w), 0);
    assert_int_equal(w.utc_s, INT64_C(9156585600)); /* 2260 */
    when_format_free(f);
}

/* Near New Year the year is that of the place, not of Greenwich. */
static void the_year_that_is_missing_is_that_of_the_zone(void **state)
{
    static const char *const zones[] = {"-12:00", "UTC", "+14:00"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(zones); i++) {
        struct zone *zone;
        struct when_format *f;
        struct when now, w;
        struct when_format *rfc3339;
        char to[WHEN_TEXT_MAX];

        assert_int_equal(zone_new(slice_of(zones[i]), &zone), 0);
        f = format_of("%b %d %H:%M:%S", zone);
        rfc3339 = format_of("rfc3339", zone);
        assert_int_equal(when_read(rfc3339, SLICE("2024-12-31 23:59:59"), 0, &now), 0);
        assert_int_equal(when_read(f, SLICE("Dec 31 23:59:59"), now.utc_s * NS, &w), 0);
        assert_int_equal(w.utc_s, now.utc_s);
        assert_int_equal(when_read(f, SLICE("Jan 1 00:00:00"), (now.utc_s + 1) * NS, &w), 0);
        assert_int_equal(w.utc_s, now.utc_s + 1);
        assert_int_equal(when_write_rfc3339(&w, zone, to) > 0, 1);
        assert_memory_equal(to, "2025-01-01T00:00:00", 19);
        when_format_free(f);
        when_format_free(rfc3339);
        zone_free(zone);
    }
}

/* A week ahead is next year already there, but not yet in UTC. */
static void the_year_may_be_the_next_in_the_zone_only(void **state)
{
    const int64_t now_ns = INT64_C(1735036200) * NS; /* 2024-12-24T10:30:00Z */
    struct when_format *f;
    struct zone *zone;
    struct when w;

    (void)state;
    assert_int_equal(zone_new(SLICE("+14:00"), &zone), 0);
    f = format_of("syslog", zone);
    assert_int_equal(when_read(f, SLICE("Jan  1 00:10:00"), now_ns, &w), 0);
    assert_int_equal(w.utc_s, INT64_C(1735639800)); /* 2024-12-31T10:10:00Z */
    when_format_free(f);
    zone_free(zone);
}

static const struct {
    const char *text, *zone, *rfc3339, *epoch, *epoch_ms; /* no zone: its own offset */
} writings[] = {
    {"1970-01-01T00:00:00Z", NULL, "1970-01-01T00:00:00Z", "0", "0"},
    {"2024-10-11T22:14:15.1200+02:00", NULL, "2024-10-11T22:14:15.1200+02:00", "1728677655.1200",
     "1728677655120"},
    {"2024-10-11T22:14:15.1239+02:00", "UTC", "2024-10-11T20:14:15.1239Z", "1728677655.1239",
     "1728677655123"},
    {"2024-10-11T22:14:15+02:00", "-03:30", "2024-10-11T16:44:15-03:30", "1728677655",
     "1728677655000"},
    {"2024-07-01T12:00:00Z", "Europe/Berlin", "2024-07-01T14:00:00+02:00", "1719835200",
     "1719835200000"},
    {"2024-01-01T12:00:00Z", "Europe/Berlin", "2024-01-01T13:00:00+01:00", "1704110400",
     "1704110400000"},
    {"1969-12-31T23:59:58.75Z", NULL, "1969-12-31T23:59:58.75Z", "-1.25", "-1250"},
    {"1969-12-31T23:59:59.9999Z", NULL, "1969-12-31T23:59:59.9999Z", "-0.0001", "-1"},
    {"1969-12-31T23:59:59Z", NULL, "1969-12-31T23:59:59Z", "-1", "-1000"},
    {"0001-01-01T00:00:00Z", "-00:01", "0001-01-01T00:00:00Z", "-62135596800", "-62135596800000"},
    {"0001-01-01T00:00:00Z", "+00:01", "0001-01-01T00:01:00+00:01", "-62135596800",
     "-62135596800000"},
    {"9999-12-31T23:59:59.999999999-00:00", "+00:01", "9999-12-31T23:59:59.999999999Z",
     "253402300799.999999999", "253402300799999"},
    {"9999-12-31T23:59:59.999999999-00:00", "-23:59", "9999-12-31T00:00:59.999999999-23:59",
     "253402300799.999999999", "253402300799999"},
    {"1971-06-01T00:00:00Z", "Africa/Monrovia", "1971-06-01T00:00:00Z", "44582400", "44582400000"},
};

static void times_are_written(void **state)
{
    struct when_format *f = format_of("rfc3339", NULL);

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(writings); i++) {
        char to[WHEN_TEXT_MAX];
        struct zone *zone = NULL;
        struct when w;

        if (writings[i].zone != NULL)
            assert_int_equal(zone_new(slice_of(writings[i].zone), &zone), 0);
        assert_int_equal(when_read(f, slice_of(writings[i].text), 0, &w), 0);
        assert_int_equal(when_write_rfc3339(&w, zone, to), strlen(writings[i].rfc3339));
        assert_string_equal(to, writings[i].rfc3339);
        assert_int_equal(when_write_epoch(&w, to), strlen(writings[i].epoch));
        assert_string_equal(to, writings[i].epoch);
        assert_int_equal(when_write_epoch_ms(&w, to), strlen(writings[i].epoch_ms));
        assert_string_equal(to, writings[i].epoch_ms);
        zone_free(zone);
    }
    when_format_free(f);
}

/* Every day of the calendar is the next one's day before, there and back. */
static void days_follow_each_other(void **state)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    struct when_format *f = format_of("%Y-%m-%d %H", NULL), *by_day = format_of("%Y %j %H", NULL);
    int64_t expected_s = INT64_C(-62135596800);

    (void)state;
    for (int year = 1; year <= 9999; year++) {
        bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        int day_of_year = 0;

        for (int month = 1; month <= 12; month++) {
            int days = lengths[month - 1] + (month == 2 && is_leap ? 1 : 0);

            for (int day = 1; day <= days + 1; day++) {
                char text[64], to[WHEN_TEXT_MAX];
                struct when w = {0}, same = {0};
                int n = snprintf(text, sizeof text, "%04d-%02d-%02d 00", year, month, day);
                int r = when_read(f, (struct slice){text, (size_t)n}, 0, &w);

                if (day > days) {
                    assert_int_equal(r, -EINVAL);
                    continue;
                }
                if (r < 0 || w.utc_s != expected_s)
                    fail_msg("%s", text);
                (void)when_write_rfc3339(&w, NULL, to);
                assert_memory_equal(to, text, 10);
                n = snprintf(text, sizeof text, "%04d %d 00", year, ++day_of_year);
                r = when_read(by_day, (struct slice){text, (size_t)n}, 0, &same);
                if (r < 0 || same.utc_s != expected_s)
                    fail_msg("%s", text);
                expected_s += 86400;
            }
        }
    }
    assert_int_equal(expected_s, INT64_C(253402300800));
    when_format_free(f);
    when_format_free(by_day);
}

static void what_was_read_says_how(void **state)
{
    struct zone *zone;
    struct when_format *f;
    struct when w;

    (void)state;
    assert_int_equal(zone_new(SLICE("Europe/Berlin"), &zone), 0);
    f = format_of("rfc3339", zone);
    assert_int_equal(when_read(f, SLICE("2024-07-01T12:00:00.50Z"), 0, &w), 0);
    assert_true(w.had_zone);
    assert_int_equal(w.offset_s, 0);
    assert_int_equal(w.ns, 500000000);
    assert_int_equal(w.digits, 2);
    assert_int_equal(when_read(f, SLICE("2024-07-01T12:00:00"), 0, &w), 0);
    assert_false(w.had_zone);
    assert_int_equal(w.offset_s, 7200);
    assert_int_equal(w.digits, 0);
    assert_int_equal(w.utc_s, 1719828000);
    when_format_free(f);
    zone_free(zone);
}

static void nothing_is_allocated(void **state)
{
    size_t before;

    (void)state;
    if (!COUNTED_MALLOC)
        skip();
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct when_format *f = format_of(stories[i].format, NULL);
        char to[WHEN_TEXT_MAX];
        struct when w;

        before = allocations;
        if (when_read(f, slice_of(stories[i].text), NOW_NS, &w) == 0) {
            (void)when_write_rfc3339(&w, NULL, to);
            (void)when_write_epoch(&w, to);
            (void)when_write_epoch_ms(&w, to);
        }
        assert_int_equal(allocations, before);
        when_format_free(f);
    }
}

/* --- answering --- */

/* The zone or format of a name, made when it is first asked for and then kept to the end. */
struct kept {
    char *name;
    struct zone *zone;
    struct when_format *format;
};

static struct kept kept[1000];

static struct kept *keep(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        if (kept[i].name == NULL)
            kept[i].name = strdup(name);
        if (kept[i].name != NULL && strcmp(kept[i].name, name) == 0)
            return &kept[i];
    }
    fprintf(stderr, "too many zones and formats\n");
    exit(2);
}

static struct zone *keep_zone(const char *name)
{
    struct kept *k = keep(name);
    int r = k->zone != NULL ? 0 : zone_new(slice_of(name), &k->zone);

    if (r < 0) {
        fprintf(stderr, "zone '%s': %s\n", name, strerror(-r));
        exit(2);
    }
    return k->zone;
}

static struct when_format *keep_format(const char *format, const char *zone)
{
    char name[512];
    struct when_error e;
    struct kept *k;

    (void)snprintf(name, sizeof name, "%s\t%s", format, zone);
    k = keep(name);
    if (k->format == NULL &&
        when_format_new(slice_of(format), keep_zone(zone), &k->format, &e) < 0) {
        fprintf(stderr, "format '%s': at %zu: %s\n", format, e.place, e.text);
        exit(2);
    }
    return k->format;
}

static int answer(void)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;

    while ((n = getline(&line, &cap, stdin)) > 0) {
        char *rest = line, *format, *zone, *now;
        char own[WHEN_TEXT_MAX], there[WHEN_TEXT_MAX], epoch[WHEN_TEXT_MAX], ms[WHEN_TEXT_MAX];
        struct when w;

        line[n - 1] = '\0';
        format = strsep(&rest, "\t");
        zone = strsep(&rest, "\t");
        now = strsep(&rest, "\t");
        if (rest == NULL) {
            fprintf(stderr, "not a question: %s\n", line);
            return 2;
        }
        if (when_read(keep_format(format, zone), slice_of(rest), strtoll(now, NULL, 10), &w) < 0) {
            puts("-");
            continue;
        }
        (void)when_write_rfc3339(&w, NULL, own);
        (void)when_write_rfc3339(&w, keep_zone(zone), there);
        (void)when_write_epoch(&w, epoch);
        (void)when_write_epoch_ms(&w, ms);
        printf("%lld %u %u %d %d %s %s %s %s\n", (long long)w.utc_s, w.ns, w.digits, w.offset_s,
               w.had_zone, own, there, epoch, ms);
    }
    free(line);
    for (size_t i = 0; i < ARRAY_LEN(kept); i++) {
        free(kept[i].name);
        when_format_free(kept[i].format);
        zone_free(kept[i].zone);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_read),
        cmocka_unit_test(parts_of_texts_are_safe),
        cmocka_unit_test(formats_that_tell_no_time_are_refused),
        cmocka_unit_test(the_year_that_is_missing_is_the_latest_that_fits),
        cmocka_unit_test(the_year_that_is_missing_is_that_of_the_zone),
        cmocka_unit_test(the_year_may_be_the_next_in_the_zone_only),
        cmocka_unit_test(any_now_will_do),
        cmocka_unit_test(times_are_written),
        cmocka_unit_test(days_follow_each_other),
        cmocka_unit_test(what_was_read_says_how),
        cmocka_unit_test(nothing_is_allocated),
    };

    if (argc == 2 && strcmp(argv[1], "--answer") == 0)
        return answer();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
