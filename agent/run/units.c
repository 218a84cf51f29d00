#include "run/units.h"

#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

enum { FRACTION_DIGITS_MAX = 9 };

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first where it matters: the formatters take the first that divides. */
static const struct unit byte_units[] = {
    {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1000 * 1000 * 1000},
    {"MB", 1000000},  {"KB", 1000},     {"kB", 1000},     {"B", 1},
    {"", 1},
};

static const struct unit time_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"min", 60000}, {"s", 1000}, {"ms", 1},
};

/* A decimal number as digits: value = digits / 10^places. */
struct decimal {
    uint64_t digits, scale;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Takes the number off the front of `*text`. */
static int take_decimal(struct slice *text, struct decimal *ret)
{
    struct decimal d = {.scale = 1};
    size_t i = 0, whole, places = 0;

    for (; i < text->len && is_digit(text->ptr[i]); i++) {
        if (__builtin_mul_overflow(d.digits, 10U, &d.digits) ||
            __builtin_add_overflow(d.digits, (uint64_t)(text->ptr[i] - '0'), &d.digits))
            return -ERANGE;
    }
    whole = i;
    if (whole == 0)
        return -EINVAL;
    if (i < text->len && text->ptr[i] == '.') {
        for (i++; i < text->len && is_digit(text->ptr[i]); i++, places++) {
            if (places == FRACTION_DIGITS_MAX || __builtin_mul_overflow(d.digits, 10U, &d.digits) ||
                __builtin_add_overflow(d.digits, (uint64_t)(text->ptr[i] - '0'), &d.digits))
                return -ERANGE;
            d.scale *= 10;
        }
        if (places == 0)
            return -EINVAL;
    }
    *text = slice_from(*text, i);
    *ret = d;
    return 0;
}

static int parse(struct slice text, const struct unit *units, size_t count, uint64_t *ret)
{
    struct decimal d;
    uint64_t product;
    int r = take_decimal(&text, &d);

    if (r < 0)
        return r;
    if (text.len > 0 && text.ptr[0] == ' ')
        text = slice_from(text, 1);
    for (size_t i = 0; i < count; i++) {
        if (!slice_equal(text, slice_of(units[i].name)))
            continue;
        if (__builtin_mul_overflow(d.digits, units[i].factor, &product) || product % d.scale != 0)
            return -ERANGE;
        *ret = product / d.scale;
        return 0;
    }
    return -EINVAL;
}

int units_parse_bytes(struct slice text, uint64_t *ret_bytes)
{
    return parse(text, byte_units, ARRAY_LEN(byte_units), ret_bytes);
}

int units_parse_time(struct slice text, uint64_t *ret_ms)
{
    return parse(text, time_units, ARRAY_LEN(time_units), ret_ms);
}

void units_format_bytes(uint64_t bytes, char text[static UNITS_TEXT_SIZE])
{
    static const struct unit bare = {"", 1};
    const struct unit *u = &bare;

    for (size_t i = 0; bytes > 0 && u == &bare && i < 3; i++) {
        if (bytes % byte_units[i].factor == 0)
            u = &byte_units[i];
    }
    (void)snprintf(text, UNITS_TEXT_SIZE, "%" PRIu64 "%s", bytes / u->factor, u->name);
}

void units_format_time(uint64_t ms, char text[static UNITS_TEXT_SIZE])
{
    size_t i = 0;

    if (ms == 0) {
        (void)snprintf(text, UNITS_TEXT_SIZE, "0s");
        return;
    }
    while (ms % time_units[i].factor != 0) /* the last factor is 1 */
        i++;
    (void)snprintf(text, UNITS_TEXT_SIZE, "%" PRIu64 "%s", ms / time_units[i].factor,
                   time_units[i].name);
}
