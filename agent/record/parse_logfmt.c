/* key=value key="a value" key, as Heroku, Go's loggers and many others write it. */
#include "record/parse_inner.h"

#include "utf8.h"

/* The number that `count` hexadecimal digits mean, or -1. */
static int32_t hex_code(struct slice s, size_t count)
{
    int32_t code = 0;

    if (s.len < count)
        return -1;
    for (size_t i = 0; i < count; i++) {
        int digit = parse_hex(s.ptr[i]);

        if (digit < 0 || code > 0x10ffff)
            return -1;
        code = code << 4 | digit;
    }
    return code <= 0x10ffff ? code : -1;
}

/* Two surrogates one behind the other, as JSON writes what is past U+FFFF; `s` is behind "\u". */
static bool is_pair(struct slice s, int32_t first, int32_t *ret)
{
    int32_t second;

    if (first < 0xd800 || first > 0xdbff || !slice_starts_with(slice_from(s, 4), SLICE("\\u")))
        return false;
    second = hex_code(slice_from(s, 6), 4);
    if (second < 0xdc00 || second > 0xdfff)
        return false;
    *ret = 0x10000 + ((first - 0xd800) << 10 | (second - 0xdc00));
    return true;
}

/* Undoes what stands behind a backslash: JSON's escapes, and those of Go's strconv.Quote.  Returns how
 * many bytes it took; 0: it is none, and the backslash stands for itself. */
static size_t put_escape(char **to, struct slice s)
{
    static const char shorts[] = "a\ab\bf\fn\nr\rt\tv\v\"\"\\\\//''";
    static const struct {
        char letter;
        size_t digits;
    } longs[] = {{'x', 2}, {'u', 4}, {'U', 8}};
    int32_t code;

    for (size_t i = 0; shorts[i] != '\0'; i += 2)
        if (s.ptr[0] == shorts[i]) {
            *(*to)++ = shorts[i + 1];
            return 1;
        }
    for (size_t i = 0; i < sizeof longs / sizeof longs[0]; i++) {
        size_t used = 1 + longs[i].digits;

        if (s.ptr[0] != longs[i].letter)
            continue;
        code = hex_code(slice_from(s, 1), longs[i].digits);
        if (code < 0)
            return 0;
        if (longs[i].letter == 'x') { /* a byte, not a character */
            *(*to)++ = (char)code;
            return used;
        }
        if (longs[i].letter == 'u' && is_pair(slice_from(s, 1), code, &code))
            used += 6;
        else if (code >= 0xd800 && code <= 0xdfff)
            code = 0xfffd;
        *to += utf8_encode((uint32_t)code, *to);
        return used;
    }
    return 0;
}

/* Takes a value that begins with a quote.  1, 0, or -errno. */
static int take_quoted(struct slice *rest, struct fields *to, struct slice *ret,
                       const char **ret_why)
{
    struct slice s = slice_from(*rest, 1);
    char *room, *put;
    size_t n = parse_find_close(s);
    int r;

    if (n >= s.len)
        return parse_mismatch(ret_why, "has no closing quote");
    *ret = slice_first(s, n);
    *rest = slice_from(s, n + 1);
    if (rest->len > 0 && (uint8_t)rest->ptr[0] > ' ')
        return parse_mismatch(ret_why, "has a closing quote with no blank behind it");
    if (parse_find(*ret, '\\') == n)
        return 1;

    r = parse_room(to, n, &room);
    if (r < 0)
        return r;
    put = room;
    for (size_t i = 0; i < n;) {
        size_t used = 0;

        if (s.ptr[i] == '\\' && i + 1 < n)
            used = put_escape(&put, slice_first(slice_from(s, i + 1), n - i - 1));
        if (used == 0)
            *put++ = s.ptr[i];
        i += used + 1;
    }
    *ret = parse_room_used(to, room, n, put);
    return 1;
}

static size_t blanks(struct slice s)
{
    size_t n = 0;

    while (n < s.len && (uint8_t)s.ptr[n] <= ' ')
        n++;
    return n;
}

/* The bytes that a key, or a value without quotes, does not have. */
enum { ENDS_KEY = 1, ENDS_VALUE = 2, ENDS = ENDS_KEY | ENDS_VALUE };
static const unsigned char ends[256] = {
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    ENDS,
    [' '] = ENDS,
    ['='] = ENDS_KEY,
    ['"'] = ENDS_KEY,
};

static struct slice take_plain(struct slice *rest, unsigned char end)
{
    struct slice plain;
    size_t n = 0;

    while (n < rest->len && (ends[(uint8_t)rest->ptr[n]] & end) == 0)
        n++;
    plain = slice_first(*rest, n);
    *rest = slice_from(*rest, n);
    return plain;
}

int parse_logfmt(const struct parse_settings *s, struct slice event, struct fields *to,
                 const char **ret_why)
{
    struct slice rest = event;
    bool has_value = false;
    int r;

    (void)s;
    while (rest = slice_from(rest, blanks(rest)), rest.len > 0) {
        struct slice key = take_plain(&rest, ENDS_KEY), value = SLICE("true");
        enum field_type type = FIELD_TRUE;

        if (parse_begins(rest, '"'))
            return parse_mismatch(ret_why, "has a quote that does not begin a value");
        if (key.len == 0)
            return parse_mismatch(ret_why, "has a = with no key before it");
        if (parse_begins(rest, '=')) {
            rest = slice_from(rest, 1);
            type = FIELD_TEXT;
            has_value = true;
            if (parse_begins(rest, '"')) {
                r = take_quoted(&rest, to, &value, ret_why);
                if (r <= 0)
                    return r;
            } else {
                value = take_plain(&rest, ENDS_VALUE);
            }
        }
        r = fields_add(to, key, value, type);
        if (r < 0)
            return r;
    }
    if (!has_value)
        return parse_mismatch(ret_why, "has no key=value");
    fields_merge(to);
    return 1;
}
