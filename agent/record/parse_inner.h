/* parse_inner -- what the parsers share, and how parse.c finds them.
 *
 * Each reads an event whose last carriage return is gone; else as parse_event. */
#ifndef PARSE_INNER_H
#define PARSE_INNER_H

#include "record/fields.h"
#include "record/parse.h"

#include <errno.h>

typedef int parse_function(const struct parse_settings *s, struct slice event, struct fields *to,
                           const char **ret_why);

parse_function parse_regex;
parse_function parse_combined, parse_common, parse_apache_error;
parse_function parse_syslog, parse_rfc3164, parse_rfc5424, parse_rfc3339_syslog;
parse_function parse_json, parse_csv, parse_logfmt, parse_cri;

/* It does not match, because it "has no date". */
static inline int parse_mismatch(const char **ret_why, const char *why)
{
    *ret_why = why;
    return 0;
}

static inline bool parse_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* How many digits `s` begins with. */
static inline size_t parse_digits(struct slice s)
{
    size_t n = 0;

    while (n < s.len && parse_is_digit(s.ptr[n]))
        n++;
    return n;
}

static inline bool parse_is_dash(struct slice s)
{
    return s.len == 1 && s.ptr[0] == '-';
}

static inline bool parse_begins(struct slice s, char c)
{
    return s.len > 0 && s.ptr[0] == c;
}

/* The first place of `c`, or s.len. */
static inline size_t parse_find(struct slice s, char c)
{
    const char *p = s.len > 0 ? memchr(s.ptr, c, s.len) : NULL;

    return p == NULL ? s.len : (size_t)(p - s.ptr);
}

/* Takes what stands before the first space, or all, and the space.  False if that is nothing. */
static inline bool parse_word(struct slice *rest, struct slice *ret)
{
    size_t n = parse_find(*rest, ' ');

    *ret = slice_first(*rest, n);
    *rest = slice_from(*rest, n < rest->len ? n + 1 : n);
    return n > 0;
}

static inline struct field parse_text(struct slice name, struct slice value)
{
    return (struct field){name, value, FIELD_TEXT};
}

static inline struct field parse_null(struct slice name)
{
    return (struct field){name, SLICE(""), FIELD_NULL};
}

/* Text, or null for "-". */
static inline struct field parse_text_or_dash(struct slice name, struct slice value)
{
    return (struct field){name, value, parse_is_dash(value) ? FIELD_NULL : FIELD_TEXT};
}

/* Room in the arena.  Errors: -EMSGSIZE past its ceiling, -ENOMEM. */
static inline int parse_room(struct fields *to, size_t size, char **ret)
{
    if (size > to->arena.max - to->arena.taken)
        return -EMSGSIZE;
    *ret = arena_take(&to->arena, size);
    return *ret == NULL ? -ENOMEM : 0;
}

/* Gives back what is behind `end` in the room that was taken last; what is before it is the value. */
static inline struct slice parse_room_used(struct fields *to, const char *room, size_t size,
                                           const char *end)
{
    size_t used = (size_t)(end - room);

    arena_shrink(&to->arena, room, size, used);
    return (struct slice){room, used};
}

/* Is what is at `at` behind an odd number of backslashes? */
static inline bool parse_is_escaped(const char *start, const char *at)
{
    const char *p = at;

    while (p > start && p[-1] == '\\')
        p--;
    return (at - p) % 2 == 1;
}

/* The first quote in `s` that no backslash escapes, or s.len. */
static inline size_t parse_find_close(struct slice s)
{
    for (size_t n = 0;; n++) {
        n += parse_find(slice_from(s, n), '"');
        if (n >= s.len || !parse_is_escaped(s.ptr, s.ptr + n))
            return n;
    }
}

/* The value of a hexadecimal digit, or -1. */
static inline int parse_hex(char c)
{
    if (parse_is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

#endif
