/* when -- the time that a line tells, read by a format and written again.
 *
 *   1. A format is compiled once and does not change; any number of threads may read with it.
 *   2. The whole text must match, but for blanks around it; what does not is refused, not guessed.
 *   3. The calendar is the Gregorian one, for the years 1 to 9999, also after conversion to UTC; 31
 *      February and 24:00 are no times.  A second 60 is the first of the next minute: UTC's leap
 *      seconds have no number of their own, neither in struct when nor at our readers.
 *   4. A date without a year is of the latest year that has this date and puts the time not more
 *      than 7 days after `now`: lines of December that are read in January are last year's, and
 *      clocks may be wrong by a week.
 *   5. As many digits of the fraction as were read are written; past nine they are dropped.
 *
 * Formats are one of these words
 *
 *     rfc3339       2024-10-11T22:14:15.123+02:00; also with a blank or "t" for the T, a comma for
 *                   the point, +0200, +02, z, or no zone at all
 *     epoch         1728677655.123; also epoch_ms, epoch_us, epoch_ns, which have no fraction; may
 *                   be negative
 *     httpd         10/Oct/2000:13:55:36 -0700
 *     apache_error  Fri Sep 09 10:42:29.902022 2011; the fraction may be missing
 *     syslog        Oct  1 22:14:15; also "Oct 1", "Oct 01", "Oct 1 2024", and a fraction
 *
 * or, as for strptime(3), a text with
 *
 *     %Y  year, 4 digits        %y  year, 2 digits: 1969 to 2068 (POSIX)
 *     %m  month, 1-2 digits     %b %B %h  month's name, Oct or October
 *     %d %e  day, 1-2 digits, a blank may come first
 *     %j  day of the year, 1-3 digits; stands for month and day
 *     %H  hour, 1-2 digits      %I  the same of a 12 hour clock, which needs %p: AM or PM
 *     %M  minute, 1-2 digits    %S  second, 1-2 digits     %f  fraction, 1-9 digits, no point
 *     %z  +02:00, +0200, +02 or Z                          %Z  UTC, GMT or Z
 *     %a %A  weekday, Fri or Friday: any, it is not compared with the date
 *     %s  seconds since 1970, may be negative; instead of date and time of day
 *     %T  %H:%M:%S    %R  %H:%M    %D  %m/%d/%y    %F  %Y-%m-%d    %%  a percent sign
 *     %n %t and white space: blanks or tabs, at least one.
 *
 * Names are English, in any case.  Numbers take as many digits as there are, up to their most; so
 * %H%M reads 0930 but not 930.  In the words they have two, as programs write them, but for the day
 * where a name of the month is before it.  Minutes and seconds that are not said are 0.
 *
 * Errors: 0 or -errno.  Reading and writing allocate nothing.  Thinks: no I/O. */
#ifndef WHEN_H
#define WHEN_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct when_format;
struct zone;

enum { WHEN_TEXT_MAX = 40 }; /* bytes that any of the writers needs, with a zero at the end */

struct when {
    int64_t utc_s;    /* since 1970-01-01T00:00:00Z, rounded down */
    uint32_t ns;      /* and after that: 0 to 999999999 */
    uint8_t digits;   /* of the fraction, as it was written: 0 to 9; ns has no more */
    bool had_zone;    /* the text said which, or needs none (epoch); else it is the format's */
    int32_t offset_s; /* what was added to UTC to get what was written */
};

struct when_error { /* for a person */
    size_t place;   /* in the format, in bytes from its beginning */
    char text[160]; /* what is wrong there */
};

/* Compiles a format.  `zone` is for texts that do not say theirs, and is borrowed until
 * when_format_free; NULL is UTC.  Gives *ret.  Errors: -EINVAL, with *ret_error filled in: an
 * unknown conversion, one too many, or a format that cannot tell a time; -ENOMEM. */
int when_format_new(struct slice format, const struct zone *zone, struct when_format **ret,
                    struct when_error *ret_error);

/* Reads a text.  `now_ns`, since 1970, is for formats without a year.  Errors: -EINVAL: it is no
 * such time. */
int when_read(const struct when_format *f, struct slice text, int64_t now_ns, struct when *ret);

void when_format_free(struct when_format *f); /* NULL is fine */

/* Writes 2024-10-11T22:14:15.123+02:00, as of RFC 3339, as the clocks of `zone` show it; NULL: with
 * the offset it had.  It is written in UTC, with a Z, where the offset is 0, where it has seconds
 * (Liberia, until 1972), and where it would lead out of the years 1 to 9999.
 * Returns the length; a zero follows. */
size_t when_write_rfc3339(const struct when *w, const struct zone *zone, char to[WHEN_TEXT_MAX]);

/* Writes the seconds since 1970, with the fraction if there was one: 1728677655.123. */
size_t when_write_epoch(const struct when *w, char to[WHEN_TEXT_MAX]);

/* Writes the milliseconds since 1970, rounded down: 1728677655123. */
size_t when_write_epoch_ms(const struct when *w, char to[WHEN_TEXT_MAX]);

#endif
