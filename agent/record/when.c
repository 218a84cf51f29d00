#include "record/when.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "record/zone.h"
#include "util.h"

#define FIRST_S INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define LAST_S  INT64_C(253402300799) /* 9999-12-31T23:59:59Z */

#define NS_PER_S INT64_C(1000000000)

enum {
    DAY_S = 86400,
    LEAD_S = 7 * DAY_S, /* rule 4 */
    YEARS_BACK_MAX = 9, /* from one leap day to the next: 8 years, around 1900 */
};

/* One step of reading.  A format is a row of them; the words are formats too, with steps that no
 * conversion has. */
enum step {
    STEP_CHAR,
    STEP_BLANKS,
    STEP_YEAR,
    STEP_YEAR_OF_CENTURY,
    STEP_MONTH,
    STEP_MONTH_NAME,
    STEP_DAY,
    STEP_DAY_OF_YEAR,
    STEP_WEEKDAY,
    STEP_HOUR,
    STEP_HOUR_OF_HALF,
    STEP_HALF,
    STEP_MINUTE,
    STEP_SECOND,
    STEP_FRACTION,
    STEP_OFFSET,
    STEP_ZONE_NAME,
    STEP_EPOCH,
    STEP_T,              /* a T, or a blank */
    STEP_MAYBE_YEAR,     /* a year and a blank */
    STEP_MAYBE_FRACTION, /* a point and a fraction of any length */
    STEP_MAYBE_OFFSET,
};

/* What a conversion tells; nothing may be told twice. */
enum {
    TELLS_YEAR = 1 << 0,
    TELLS_MONTH = 1 << 1,
    TELLS_DAY = 1 << 2,
    TELLS_WEEKDAY = 1 << 3,
    TELLS_HOUR = 1 << 4,
    TELLS_HALF = 1 << 5,
    TELLS_MINUTE = 1 << 6,
    TELLS_SECOND = 1 << 7,
    TELLS_FRACTION = 1 << 8,
    TELLS_ZONE = 1 << 9,
    TELLS_EPOCH = 1 << 10,
};

static const struct conversion {
    char letter;
    enum step step;
    unsigned tells;
    const char *stands_for; /* other conversions, or NULL */
} conversions[] = {
    {'Y', STEP_YEAR, TELLS_YEAR, NULL},
    {'y', STEP_YEAR_OF_CENTURY, TELLS_YEAR, NULL},
    {'m', STEP_MONTH, TELLS_MONTH, NULL},
    {'b', STEP_MONTH_NAME, TELLS_MONTH, NULL},
    {'B', STEP_MONTH_NAME, TELLS_MONTH, NULL},
    {'h', STEP_MONTH_NAME, TELLS_MONTH, NULL},
    {'d', STEP_DAY, TELLS_DAY, NULL},
    {'e', STEP_DAY, TELLS_DAY, NULL},
    {'j', STEP_DAY_OF_YEAR, TELLS_MONTH | TELLS_DAY, NULL},
    {'a', STEP_WEEKDAY, TELLS_WEEKDAY, NULL},
    {'A', STEP_WEEKDAY, TELLS_WEEKDAY, NULL},
    {'H', STEP_HOUR, TELLS_HOUR, NULL},
    {'I', STEP_HOUR_OF_HALF, TELLS_HOUR, NULL},
    {'p', STEP_HALF, TELLS_HALF, NULL},
    {'M', STEP_MINUTE, TELLS_MINUTE, NULL},
    {'S', STEP_SECOND, TELLS_SECOND, NULL},
    {'f', STEP_FRACTION, TELLS_FRACTION, NULL},
    {'z', STEP_OFFSET, TELLS_ZONE, NULL},
    {'Z', STEP_ZONE_NAME, TELLS_ZONE, NULL},
    {'s', STEP_EPOCH, TELLS_EPOCH, NULL},
    {'n', STEP_BLANKS, 0, NULL},
    {'t', STEP_BLANKS, 0, NULL},
    {'%', STEP_CHAR, 0, NULL},
    {'T', STEP_CHAR, 0, "%H:%M:%S"},
    {'R', STEP_CHAR, 0, "%H:%M"},
    {'D', STEP_CHAR, 0, "%m/%d/%y"},
    {'F', STEP_CHAR, 0, "%Y-%m-%d"},
};

/* In the formats of words only, for steps that no conversion has. */
#define ANY_T          "\1"
#define MAYBE_YEAR     "\2"
#define MAYBE_FRACTION "\3"
#define MAYBE_OFFSET   "\4"

static const struct word {
    struct slice word;
    const char *format;
    uint8_t epoch_digits; /* how many digits of an epoch are behind the point */
} words[] = {
    {SLICE("rfc3339"), "%Y-%m-%d" ANY_T "%H:%M:%S" MAYBE_FRACTION MAYBE_OFFSET, 0},
    {SLICE("epoch"), "%s" MAYBE_FRACTION, 0},
    {SLICE("epoch_ms"), "%s", 3},
    {SLICE("epoch_us"), "%s", 6},
    {SLICE("epoch_ns"), "%s", 9},
    {SLICE("httpd"), "%d/%b/%Y:%H:%M:%S %z", 0},
    {SLICE("apache_error"), "%a %b %e %H:%M:%S" MAYBE_FRACTION " %Y", 0},
    {SLICE("syslog"), "%b %e " MAYBE_YEAR "%H:%M:%S" MAYBE_FRACTION, 0},
};

static const uint32_t powers_of_ten[] = {1,      10,      100,      1000,      10000,
                                         100000, 1000000, 10000000, 100000000, 1000000000};

static const char months[12][10] = {"january",   "february", "march",    "april",
                                    "may",       "june",     "july",     "august",
                                    "september", "october",  "november", "december"};
static const char weekdays[7][10] = {"monday", "tuesday",  "wednesday", "thursday",
                                     "friday", "saturday", "sunday"};

struct op {
    uint8_t step;
    char c;             /* of STEP_CHAR */
    uint8_t digits_min; /* of a number that may have one or two */
};

struct when_format {
    const struct zone *zone; /* borrows; or NULL */
    bool is_word;
    uint8_t epoch_digits;
    size_t count;
    struct op ops[];
};

/* What a text has told so far. */
struct parts {
    int32_t year; /* 0: none */
    int32_t month, day;
    int32_t day_of_year; /* 0: none */
    int32_t hour, minute, second;
    int32_t offset_s;
    int32_t digits;
    uint32_t ns;
    uint64_t epoch; /* without its sign */
    bool is_epoch, is_negative, is_afternoon, had_zone;
};

/* --- the calendar --- */

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int32_t days_in_month(int32_t year, int32_t month)
{
    static const int8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    assert(month >= 1 && month <= 12); /* a format without a month is refused at birth */
    return days[month - 1] + (month == 2 && is_leap(year) ? 1 : 0);
}

/* The days from 1970-01-01 to a date in the years 1 to 9999.  After Howard Hinnant, "chrono-
 * Compatible Low-Level Date Algorithms": years begin in March; the leap day is their last. */
static int64_t days_of_date(int32_t year, int32_t month, int32_t day)
{
    uint32_t y = (uint32_t)(month > 2 ? year : year - 1);
    uint32_t m = (uint32_t)(month > 2 ? month - 3 : month + 9); /* 0 is March */

    return (int64_t)(y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + (uint32_t)day - 1) -
           719468;
}

/* The other way round, from years 1 to 9999. */
static void date_of_days(int64_t days, uint32_t *ret_year, uint32_t *ret_month, uint32_t *ret_day)
{
    uint32_t d = (uint32_t)(days + 719468); /* since 0000-03-01 */
    uint32_t era = d / 146097, of_era = d % 146097;
    uint32_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint32_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;

    *ret_year = y + era * 400 + (m >= 10 ? 1 : 0);
    *ret_month = m < 10 ? m + 3 : m - 9;
    *ret_day = of_year - (153 * m + 2) / 5 + 1;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

/* --- compiling --- */

__attribute__((format(printf, 3, 4))) static int wrong(struct when_error *e, size_t place,
                                                       const char *format, ...)
{
    va_list args;

    e->place = place;
    va_start(args, format);
    (void)vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    return -EINVAL;
}

static const struct conversion *find_conversion(char letter)
{
    for (size_t i = 0; i < ARRAY_LEN(conversions); i++)
        if (conversions[i].letter == letter)
            return &conversions[i];
    return NULL;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* People write numbers with one digit or two.  What our words stand for is written by programs,
 * which write two, but for the day in places (%e). */
static void add(struct when_format *f, enum step step, char c)
{
    uint8_t digits_min = f->is_word && c != 'e' ? 2 : 1;

    if (step == STEP_BLANKS && f->count > 0 && f->ops[f->count - 1].step == STEP_BLANKS)
        return; /* any number of blanks is one */
    f->ops[f->count++] = (struct op){(uint8_t)step, c, digits_min};
}

static int add_conversion(struct when_format *f, const struct conversion *c, unsigned *told,
                          size_t place, struct when_error *e)
{
    if (c->stands_for != NULL) {
        for (const char *at = c->stands_for; *at != '\0'; at++) {
            int r = 0;

            if (*at == '%')
                r = add_conversion(f, find_conversion(*++at), told, place, e);
            else
                add(f, STEP_CHAR, *at);
            if (r < 0)
                return r;
        }
        return 0;
    }
    if ((*told & c->tells) != 0)
        return wrong(e, place, "%%%c tells what was told before it", c->letter);
    *told |= c->tells;
    add(f, c->step, c->letter);
    return 0;
}

/* Whether what the conversions tell is a time. */
static int judge(unsigned told, size_t end, struct when_error *e)
{
    const unsigned calendar = TELLS_YEAR | TELLS_MONTH | TELLS_DAY | TELLS_HOUR | TELLS_HALF |
                              TELLS_MINUTE | TELLS_SECOND;

    if ((told & TELLS_EPOCH) != 0)
        return (told & calendar) == 0 ? 0 : wrong(e, 0, "%%s is all of a time; no other fits it");
    if ((told & TELLS_MONTH) == 0)
        return wrong(e, end, "it has no month (%%m, %%b, or %%j for month and day)");
    if ((told & TELLS_DAY) == 0)
        return wrong(e, end, "it has no day (%%d)");
    if ((told & TELLS_HOUR) == 0)
        return wrong(e, end, "it has no hour (%%H, or %%I with %%p)");
    if ((told & TELLS_SECOND) != 0 && (told & TELLS_MINUTE) == 0)
        return wrong(e, end, "it has seconds but no minutes (%%M)");
    if ((told & TELLS_FRACTION) != 0 && (told & TELLS_SECOND) == 0)
        return wrong(e, end, "it has a fraction but no seconds (%%S)");
    return 0;
}

static int compile(struct when_format *f, struct slice format, struct when_error *e)
{
    unsigned told = 0;
    size_t half_place = 0, twelve_place = 0;
    bool has_twelve = false;
    int r;

    for (size_t i = 0; i < format.len; i++) {
        const struct conversion *c;
        char letter = format.ptr[i];

        if (letter != '%') {
            if (f->is_word && letter > 0 && letter <= 4)
                add(f, STEP_T + (enum step)(letter - 1), letter);
            else
                add(f, isspace((unsigned char)letter) ? STEP_BLANKS : STEP_CHAR, letter);
            continue;
        }
        if (i + 1 == format.len)
            return wrong(e, i, "a %% at the end; %%%% is a percent sign");
        letter = format.ptr[i + 1];
        c = find_conversion(letter);
        if (c == NULL && letter > ' ' && letter < 0x7f)
            return wrong(e, i, "%%%c is not known here", letter);
        if (c == NULL)
            return wrong(e, i, "after a %% must come a letter; %%%% is a percent sign");
        r = add_conversion(f, c, &told, i, e);
        if (r < 0)
            return r;
        if (letter == 'p')
            half_place = i;
        if (letter == 'I') {
            twelve_place = i;
            has_twelve = true;
        }
        i++;
    }
    if (has_twelve && (told & TELLS_HALF) == 0)
        return wrong(e, twelve_place, "%%I needs %%p (AM or PM); hours up to 23 are %%H");
    if (!has_twelve && (told & TELLS_HALF) != 0)
        return wrong(e, half_place, "%%p needs %%I, the hour of a 12 hour clock");
    return judge(told, format.len, e);
}

int when_format_new(struct slice format, const struct zone *zone, struct when_format **ret,
                    struct when_error *ret_error)
{
    struct when_format *f;
    uint8_t epoch_digits = 0;
    bool is_word = false;
    int r;

    for (size_t i = 0; i < ARRAY_LEN(words) && !is_word; i++)
        if (slice_equal(format, words[i].word)) {
            is_word = true;
            format = slice_of(words[i].format);
            epoch_digits = words[i].epoch_digits;
        }
    if (memchr(format.len > 0 ? format.ptr : "", '%', format.len) == NULL)
        return wrong(ret_error, 0,
                     "it is none of rfc3339, epoch, epoch_ms, epoch_us, epoch_ns, httpd, "
                     "apache_error, syslog, and has no %%");

    f = calloc(1,
               sizeof *f + 5 * format.len * sizeof f->ops[0]); /* %T has five for its two bytes */
    if (f == NULL)
        return -ENOMEM;
    f->zone = zone;
    f->is_word = is_word;
    f->epoch_digits = epoch_digits;
    r = compile(f, format, ret_error);
    if (r < 0)
        goto out;

    /* Blanks around the text are not looked at, so the format must not ask for them. */
    if (f->ops[f->count - 1].step == STEP_BLANKS)
        f->count--;
    if (f->ops[0].step == STEP_BLANKS)
        memmove(f->ops, f->ops + 1, --f->count * sizeof f->ops[0]);
    *ret = f;
    return 0;
out:
    when_format_free(f);
    return r;
}

void when_format_free(struct when_format *f)
{
    free(f);
}

/* --- reading --- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes a number of so many digits that is in a range. */
static bool take_number(struct slice *in, size_t digits_min, size_t digits_max, int32_t min,
                        int32_t max, int32_t *ret)
{
    int32_t value = 0;
    size_t n = 0;

    while (n < digits_max && n < in->len && is_digit(in->ptr[n]))
        value = value * 10 + (in->ptr[n++] - '0');
    *in = slice_from(*in, n);
    *ret = value;
    return n >= digits_min && value >= min && value <= max;
}

static bool take_char(struct slice *in, char c)
{
    if (in->len == 0 || in->ptr[0] != c)
        return false;
    *in = slice_from(*in, 1);
    return true;
}

static bool take_blanks(struct slice *in)
{
    size_t n = 0;

    while (n < in->len && is_blank(in->ptr[n]))
        n++;
    *in = slice_from(*in, n);
    return n > 0;
}

/* Whether it begins with a text of small letters, in any case.  Only a letter becomes a small one
 * by this bit. */
static bool begins_with(struct slice in, const char *small, size_t len)
{
    if (in.len < len)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((in.ptr[i] | 0x20) != small[i])
            return false;
    return true;
}

/* Takes one of some names, or its first three letters; *ret counts from 1. */
static bool take_name(struct slice *in, const char names[][10], int32_t count, int32_t *ret)
{
    for (int32_t i = 0; i < count; i++) {
        size_t len = strlen(names[i]);

        if (!begins_with(*in, names[i], 3))
            continue;
        *in = slice_from(*in, begins_with(*in, names[i], len) ? len : 3);
        *ret = i + 1;
        return true;
    }
    return false;
}

static bool take_year(struct slice *in, int32_t *ret)
{
    return take_number(in, 4, 4, 1, 9999, ret);
}

static bool take_fraction(struct slice *in, size_t digits_max, struct parts *p)
{
    size_t n = 0, kept;
    uint32_t value = 0;

    while (n < in->len && n < digits_max && is_digit(in->ptr[n])) {
        if (n < 9)
            value = value * 10 + (uint32_t)(in->ptr[n] - '0');
        n++;
    }
    *in = slice_from(*in, n);
    kept = MIN(n, 9);
    p->digits = (int32_t)kept;
    p->ns = value * powers_of_ten[9 - kept];
    return n > 0;
}

static bool take_offset(struct slice *in, struct parts *p)
{
    int32_t hour, minute = 0;
    bool is_west = in->len > 0 && in->ptr[0] == '-';

    p->had_zone = true;
    p->offset_s = 0;
    if (take_char(in, 'Z') || take_char(in, 'z'))
        return true;
    if (!is_west && (in->len == 0 || in->ptr[0] != '+'))
        return false;
    *in = slice_from(*in, 1);
    if (!take_number(in, 2, 2, 0, 23, &hour))
        return false;
    if (in->len > 0 && (in->ptr[0] == ':' || is_digit(in->ptr[0]))) {
        (void)take_char(in, ':');
        if (!take_number(in, 2, 2, 0, 59, &minute))
            return false;
    }
    p->offset_s = hour * 3600 + minute * 60;
    if (is_west)
        p->offset_s = -p->offset_s;
    return true;
}

static bool take_zone_name(struct slice *in, struct parts *p)
{
    size_t n = begins_with(*in, "utc", 3) || begins_with(*in, "gmt", 3) ? 3
               : begins_with(*in, "z", 1)                               ? 1
                                                                        : 0;

    *in = slice_from(*in, n);
    p->had_zone = true;
    p->offset_s = 0;
    return n > 0;
}

static bool take_epoch(struct slice *in, struct parts *p)
{
    size_t n = 0;

    p->is_epoch = p->had_zone = true;
    p->is_negative = take_char(in, '-');
    for (; n < in->len && is_digit(in->ptr[n]); n++)
        if (__builtin_mul_overflow(p->epoch, 10, &p->epoch) ||
            __builtin_add_overflow(p->epoch, (uint64_t)(in->ptr[n] - '0'), &p->epoch))
            return false;
    *in = slice_from(*in, n);
    return n > 0;
}

static bool take_year_of_century(struct slice *in, struct parts *p)
{
    if (!take_number(in, 2, 2, 0, 99, &p->year))
        return false;
    p->year += p->year < 69 ? 2000 : 1900; /* POSIX, strptime */
    return true;
}

static bool take_half(struct slice *in, struct parts *p)
{
    p->is_afternoon = begins_with(*in, "pm", 2);
    if (!p->is_afternoon && !begins_with(*in, "am", 2))
        return false;
    *in = slice_from(*in, 2);
    return true;
}

static bool take_maybe_year(struct slice *in, struct parts *p)
{
    if (in->len < 5 || !is_blank(in->ptr[4]) || !is_digit(in->ptr[3]))
        return true;
    return take_year(in, &p->year) && take_blanks(in);
}

static bool take(struct op op, struct slice *in, struct parts *p)
{
    int32_t any;

    switch ((enum step)op.step) {
    case STEP_CHAR:
        return take_char(in, op.c);
    case STEP_BLANKS:
        return take_blanks(in);
    case STEP_YEAR:
        return take_year(in, &p->year);
    case STEP_YEAR_OF_CENTURY:
        return take_year_of_century(in, p);
    case STEP_MONTH:
        return take_number(in, op.digits_min, 2, 1, 12, &p->month);
    case STEP_MONTH_NAME:
        return take_name(in, months, 12, &p->month);
    case STEP_DAY:
        if (op.digits_min == 1)
            (void)take_char(in, ' ');
        return take_number(in, op.digits_min, 2, 1, 31, &p->day);
    case STEP_DAY_OF_YEAR:
        return take_number(in, 1, 3, 1, 366, &p->day_of_year);
    case STEP_WEEKDAY:
        return take_name(in, weekdays, 7, &any);
    case STEP_HOUR:
        return take_number(in, op.digits_min, 2, 0, 23, &p->hour);
    case STEP_HOUR_OF_HALF:
        return take_number(in, op.digits_min, 2, 1, 12, &p->hour) && (p->hour %= 12, true);
    case STEP_HALF:
        return take_half(in, p);
    case STEP_MINUTE:
        return take_number(in, op.digits_min, 2, 0, 59, &p->minute);
    case STEP_SECOND:
        return take_number(in, op.digits_min, 2, 0, 60, &p->second);
    case STEP_FRACTION:
        return take_fraction(in, 9, p);
    case STEP_OFFSET:
        return take_offset(in, p);
    case STEP_ZONE_NAME:
        return take_zone_name(in, p);
    case STEP_EPOCH:
        return take_epoch(in, p);
    case STEP_T:
        return take_char(in, 'T') || take_char(in, ' ') || take_char(in, 't');
    case STEP_MAYBE_YEAR:
        return take_maybe_year(in, p);
    case STEP_MAYBE_FRACTION:
        if (take_char(in, '.') || take_char(in, ','))
            return take_fraction(in, SIZE_MAX, p);
        return true;
    case STEP_MAYBE_OFFSET:
        return in->len == 0 || take_offset(in, p);
    }
    return false;
}

/* The time that an epoch tells. */
static int finish_epoch(const struct when_format *f, const struct parts *p, struct when *ret)
{
    uint64_t unit = powers_of_ten[f->epoch_digits];
    uint64_t seconds = p->epoch / unit, below = p->epoch % unit;
    uint32_t ns = p->ns + (uint32_t)below * powers_of_ten[9 - f->epoch_digits];
    int64_t utc_s;

    if (seconds > (uint64_t)LAST_S)
        return -EINVAL;
    utc_s = (int64_t)seconds;
    if (p->is_negative) {
        utc_s = -utc_s - (ns > 0 ? 1 : 0);
        ns = ns > 0 ? (uint32_t)NS_PER_S - ns : 0;
    }
    if (utc_s < FIRST_S)
        return -EINVAL;
    *ret = (struct when){
        .utc_s = utc_s,
        .ns = ns,
        .digits = (uint8_t)(p->digits + f->epoch_digits),
        .had_zone = true,
        .offset_s = p->offset_s,
    };
    return 0;
}

/* The time in a year.  Errors: -EINVAL: the year does not have this date. */
static int finish(const struct when_format *f, const struct parts *p, int32_t year,
                  struct when *ret)
{
    int32_t offset_s = p->offset_s;
    int64_t days, local_s, utc_s;

    if (p->day_of_year > 0) {
        if (p->day_of_year > (is_leap(year) ? 366 : 365))
            return -EINVAL;
        days = days_of_date(year, 1, 1) + p->day_of_year - 1;
    } else {
        if (p->day > days_in_month(year, p->month))
            return -EINVAL;
        days = days_of_date(year, p->month, p->day);
    }
    local_s =
        days * DAY_S + (p->hour + (p->is_afternoon ? 12 : 0)) * 3600 + p->minute * 60 + p->second;
    if (p->had_zone || f->zone == NULL)
        utc_s = local_s - offset_s;
    else
        utc_s = zone_to_utc(f->zone, local_s, &offset_s);
    if (utc_s < FIRST_S || utc_s > LAST_S)
        return -EINVAL;
    *ret = (struct when){
        .utc_s = utc_s,
        .ns = p->ns,
        .digits = (uint8_t)p->digits,
        .had_zone = p->had_zone,
        .offset_s = offset_s,
    };
    return 0;
}

/* The time in the year that rule 4 takes. */
static int finish_without_year(const struct when_format *f, const struct parts *p, int64_t now_ns,
                               struct when *ret)
{
    int64_t limit_s = floor_div(now_ns, NS_PER_S) + LEAD_S;
    uint32_t limit_ns = (uint32_t)((now_ns % NS_PER_S + NS_PER_S) % NS_PER_S);
    uint32_t year, month, day;

    /* The clocks that wrote the line may be in the next year already. */
    date_of_days(floor_div(limit_s + DAY_S, DAY_S), &year, &month, &day);
    for (int32_t back = 0; back <= YEARS_BACK_MAX; back++) {
        struct when w;

        if (finish(f, p, (int32_t)year - back, &w) < 0)
            continue;
        if (w.utc_s > limit_s || (w.utc_s == limit_s && w.ns > limit_ns))
            continue;
        *ret = w;
        return 0;
    }
    return -EINVAL;
}

int when_read(const struct when_format *f, struct slice text, int64_t now_ns, struct when *ret)
{
    struct parts p = {0};

    while (text.len > 0 && is_blank(text.ptr[text.len - 1]))
        text.len--;
    (void)take_blanks(&text);
    for (size_t i = 0; i < f->count; i++)
        if (!take(f->ops[i], &text, &p))
            return -EINVAL;
    if (text.len > 0)
        return -EINVAL;
    if (p.is_epoch)
        return finish_epoch(f, &p, ret);
    if (p.year == 0)
        return finish_without_year(f, &p, now_ns, ret);
    return finish(f, &p, p.year, ret);
}

/* --- writing --- */

static char *put_char(char *to, char c)
{
    *to = c;
    return to + 1;
}

static char *put_digits(char *to, size_t width, uint64_t value)
{
    for (size_t i = width; i-- > 0; value /= 10)
        to[i] = (char)('0' + value % 10);
    return to + width;
}

/* As many digits as it takes. */
static char *put_number(char *to, uint64_t value)
{
    size_t width = 1;

    for (uint64_t rest = value; rest >= 10; rest /= 10)
        width++;
    return put_digits(to, width, value);
}

static char *put_fraction(char *to, uint32_t ns, uint8_t digits)
{
    if (digits == 0)
        return to;
    to = put_char(to, '.');
    return put_digits(to, digits, ns / powers_of_ten[9 - digits]);
}

static size_t end_text(const char *text, char *end)
{
    *end = '\0';
    return (size_t)(end - text);
}

size_t when_write_rfc3339(const struct when *w, const struct zone *zone, char to[WHEN_TEXT_MAX])
{
    int32_t offset_s = zone == NULL ? w->offset_s : zone_offset_utc(zone, w->utc_s);
    uint32_t year, month, day, second;
    int64_t local_s = w->utc_s + offset_s, days;
    char *at = to;

    if (offset_s % 60 != 0 || local_s < FIRST_S || local_s > LAST_S) {
        offset_s = 0;
        local_s = w->utc_s;
    }
    days = floor_div(local_s, DAY_S);
    second = (uint32_t)(local_s - days * DAY_S);
    date_of_days(days, &year, &month, &day);

    at = put_char(put_digits(at, 4, year), '-');
    at = put_char(put_digits(at, 2, month), '-');
    at = put_char(put_digits(at, 2, day), 'T');
    at = put_char(put_digits(at, 2, second / 3600), ':');
    at = put_char(put_digits(at, 2, second / 60 % 60), ':');
    at = put_digits(at, 2, second % 60);
    at = put_fraction(at, w->ns, w->digits);
    if (offset_s == 0) {
        at = put_char(at, 'Z');
    } else {
        uint32_t minutes = (uint32_t)abs(offset_s) / 60;

        at = put_char(at, offset_s < 0 ? '-' : '+');
        at = put_char(put_digits(at, 2, minutes / 60), ':');
        at = put_digits(at, 2, minutes % 60);
    }
    return end_text(to, at);
}

size_t when_write_epoch(const struct when *w, char to[WHEN_TEXT_MAX])
{
    bool is_negative = w->utc_s < 0;
    uint64_t seconds = (uint64_t)(is_negative ? -w->utc_s : w->utc_s);
    uint32_t ns = w->ns;
    char *at = to;

    if (is_negative && ns > 0) { /* -1.25 is -2 and 0.75 */
        seconds--;
        ns = (uint32_t)NS_PER_S - ns;
    }
    if (is_negative)
        at = put_char(at, '-');
    return end_text(to, put_fraction(put_number(at, seconds), ns, w->digits));
}

size_t when_write_epoch_ms(const struct when *w, char to[WHEN_TEXT_MAX])
{
    int64_t ms = w->utc_s * 1000 + w->ns / 1000000;
    char *at = to;

    if (ms < 0)
        at = put_char(at, '-');
    return end_text(to, put_number(at, (uint64_t)(ms < 0 ? -ms : ms)));
}
