/* Columns, as RFC 4180 and Python's csv module understand them: quotes count only where a column
 * begins with one, and what follows the closing quote belongs to the column. */
#include "record/parse_inner.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum { WHY_BYTES = 100 };

/* A column that begins with a quote: its value, the closing quote found, and what follows it up to
 * the delimiter.  A newline may stand only inside.  1; 0: it does not match; -errno. */
static int take_quoted(struct slice *rest, char delimiter, struct fields *to, struct slice *ret,
                       const char **ret_why)
{
    struct slice all, tail;
    size_t close, len, end;
    bool doubled = false;
    char *room, *put;
    int r;

    assert(rest->len > 0);
    all = slice_from(*rest, 1);
    close = parse_find(all, '"');
    while (close + 1 < all.len && all.ptr[close + 1] == '"') {
        doubled = true;
        close += 2;
        close += parse_find(slice_from(all, close), '"');
    }
    if (close >= all.len)
        return parse_mismatch(ret_why, "has no closing quote");
    tail = slice_from(all, close + 1);
    len = parse_find(tail, delimiter);
    end = close + 1 + len;
    *rest = slice_from(all, end);
    *ret = slice_first(all, close);
    if (!doubled && len == 0)
        return 1;

    r = parse_room(to, end, &room);
    if (r < 0)
        return r;
    put = room;
    for (size_t i = 0; i < close; i++) {
        *put++ = all.ptr[i];
        i += all.ptr[i] == '"'; /* of two, one */
    }
    if (len > 0)
        memcpy(put, tail.ptr, len);
    if (len > 0 && memchr(tail.ptr, '\n', len) != NULL)
        return parse_mismatch(ret_why, "has a newline outside of quotes");
    *ret = parse_room_used(to, room, end, put + len);
    return 1;
}

/* Takes one column and leaves the delimiter. */
static int take_column(struct slice *rest, char delimiter, struct fields *to, struct slice *ret,
                       const char **ret_why)
{
    if (parse_begins(*rest, '"'))
        return take_quoted(rest, delimiter, to, ret, ret_why);
    *ret = slice_first(*rest, parse_find(*rest, delimiter));
    *rest = slice_from(*rest, ret->len);
    return 1;
}

static int too_many(size_t columns, size_t names, struct fields *to, const char **ret_why)
{
    char *room;

    if (parse_room(to, WHY_BYTES, &room) < 0)
        return parse_mismatch(ret_why, "has more columns than there are names");
    (void)snprintf(room, WHY_BYTES, "has %zu column%s, but there %s %zu name%s", columns,
                   columns == 1 ? "" : "s", names == 1 ? "is" : "are", names,
                   names == 1 ? "" : "s");
    return parse_mismatch(ret_why, room);
}

int parse_csv(const struct parse_settings *s, struct slice event, struct fields *to,
              const char **ret_why)
{
    char delimiter = s->delimiter == '\0' ? ',' : s->delimiter;
    bool newlines = parse_find(event, '\n') < event.len; /* seldom: asked once for all */
    struct slice rest = event, value;
    size_t count = 0;

    if (event.len == 0)
        return parse_mismatch(ret_why, "is empty");
    for (;;) {
        bool quoted = parse_begins(rest, '"');
        int r = take_column(&rest, delimiter, to, &value, ret_why);

        if (r <= 0)
            return r;
        if (newlines && !quoted && parse_find(value, '\n') < value.len)
            return parse_mismatch(ret_why, "has a newline outside of quotes");
        if (count < s->names.count) {
            r = fields_add(to, s->names.items[count], value, FIELD_TEXT);
            if (r < 0)
                return r;
        }
        count++;
        if (rest.len == 0)
            break;
        rest = slice_from(rest, 1);
    }
    if (count > s->names.count)
        return too_many(count, s->names.count, to, ret_why);
    for (; count < s->names.count; count++) {
        int r = fields_add(to, s->names.items[count], SLICE(""), FIELD_NULL);
        if (r < 0)
            return r;
    }
    return 1;
}

int parse_csv_columns(struct slice line, char delimiter, struct fields *to)
{
    struct slice rest = line;
    const char *why;

    for (;;) {
        struct slice value;
        int r = take_column(&rest, delimiter, to, &value, &why);

        if (r <= 0)
            return r < 0 ? r : -EINVAL;
        r = fields_add(to, SLICE(""), value, FIELD_TEXT);
        if (r < 0)
            return r;
        if (rest.len == 0)
            return 0;
        rest = slice_from(rest, 1);
    }
}
