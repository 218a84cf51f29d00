#include "tail/generation.h"

#include "util.h"

#include <ctype.h>
#include <stddef.h>

enum {
    BARE_DIGITS_MIN = 5,       /* WebLogic numbers with five; a time has more */
    DATE_DIGITS = 8,           /* 20261121 */
    CANDIDATES_MAX = 100,      /* a name that may be a rotation of so many is no log's */
    TAI64N_LABEL_LEN = 1 + 24, /* cr.yp.to/libtai/tai64.html: '@' and twelve bytes in hex */
};

static bool is_digit(char c)
{
    return isdigit((unsigned char)c) != 0;
}

static size_t digits_at_start(struct slice s)
{
    size_t n = 0;

    while (n < s.len && is_digit(s.ptr[n]))
        n++;
    return n;
}

/* A separator and a known word. */
static bool is_word(struct slice mark)
{
    static const struct slice words[] = {{"old", 3},  {"bak", 3},  {"orig", 4},
                                         {"save", 4}, {"prev", 4}, {"last", 4}};

    if (mark.len < 2 || strchr(".-_~", mark.ptr[0]) == NULL)
        return false;
    mark = slice_from(mark, 1);
    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_equal(mark, words[i]))
            return true;
    return false;
}

/* ".1", "-20261121", ".2026-11-21T07:00:00Z", ".old": a separator, then numbers or a known word.
 * The letters of dates (a time, a zone, a week) stand behind a number: "-T1" is a thread's. */
static bool is_mark(struct slice mark)
{
    bool digit = false;

    if (is_word(mark))
        return true;
    if (mark.len < 2 || strchr(".-_~", mark.ptr[0]) == NULL)
        return false;
    for (size_t i = 1; i < mark.len; i++) {
        char c = mark.ptr[i];

        if (is_digit(c))
            digit = true;
        else if (c == '\0' || strchr(digit ? ".-_:+TZW" : ".-_:+", c) == NULL)
            return false;
    }
    return digit;
}

bool generation_is_backup(struct slice name)
{
    name = generation_strip_packing(name);
    for (size_t from = name.len; from-- > 1;)
        if (strchr(".-_~", name.ptr[from]) != NULL)
            return is_word(slice_from(name, from));
    return false;
}

/* Without a separator only behind an extension of letters: "worker12345" is a process of its own. */
static bool is_bare_mark(struct slice base, struct slice mark)
{
    return mark.len >= BARE_DIGITS_MIN && digits_at_start(mark) == mark.len && base.len > 1 &&
           isalpha((unsigned char)base.ptr[base.len - 1]) &&
           memchr(base.ptr + 1, '.', base.len - 1) != NULL;
}

/* "20261121-0700-01-" */
static bool is_date_before(struct slice mark)
{
    if (digits_at_start(mark) < DATE_DIGITS)
        return false;
    for (size_t i = 0; i < mark.len; i++)
        if (!is_digit(mark.ptr[i]) && mark.ptr[i] != '-' && mark.ptr[i] != '_')
            return false;
    return !is_digit(mark.ptr[mark.len - 1]);
}

static bool is_of_current(struct slice name)
{
    static const struct slice metalog = {"log-", 4};
    struct slice rest;

    if (slice_starts_with(name, metalog))
        return digits_at_start(slice_from(name, metalog.len)) > 0 &&
               is_mark(slice_from(name, metalog.len - 1));
    if (name.len < TAI64N_LABEL_LEN || name.ptr[0] != '@')
        return false;
    for (size_t i = 1; i < TAI64N_LABEL_LEN; i++)
        if (strchr("0123456789abcdef", name.ptr[i]) == NULL || name.ptr[i] == '\0')
            return false;
    rest = slice_from(name, TAI64N_LABEL_LEN);
    return rest.len == 0 || slice_equal(rest, SLICE(".s")) || slice_equal(rest, SLICE(".u"));
}

bool generation_is_of(struct slice name, struct slice base)
{
    const char *dot = base.len > 0 ? memrchr(base.ptr, '.', base.len) : NULL;
    struct slice stem, extension;
    size_t longer;

    if (slice_equal(base, SLICE("current")) && is_of_current(name))
        return true;
    if (name.len <= base.len || base.len == 0)
        return false;
    longer = name.len - base.len;
    if (slice_starts_with(name, base) &&
        (is_mark(slice_from(name, base.len)) || is_bare_mark(base, slice_from(name, base.len))))
        return true;
    if (slice_ends_with(name, base) && is_date_before(slice_first(name, longer)))
        return true;
    if (dot == NULL || dot == base.ptr)
        return false;
    stem = slice_first(base, (size_t)(dot - base.ptr));
    extension = slice_from(base, stem.len);
    return slice_starts_with(name, stem) && slice_ends_with(name, extension) &&
           is_mark(slice_first(slice_from(name, stem.len), longer));
}

/* Who is asked about candidates, and how often still. */
struct candidates {
    bool (*is_base)(void *user, struct slice base);
    void *user;
    int left;
};

static bool is_base_of(struct candidates *c, struct slice base)
{
    return c->left-- > 0 && c->is_base(c->user, base);
}

bool generation_has_base(struct slice name, bool (*is_base)(void *user, struct slice base),
                         void *user)
{
    struct candidates c = {is_base, user, CANDIDATES_MAX};
    char base[256]; /* NAME_MAX and a zero */

    if (name.len >= sizeof base)
        return false;
    if (is_of_current(name) && is_base_of(&c, SLICE("current")))
        return true;
    for (size_t from = 1; from < name.len && c.left > 0; from++) {
        struct slice before = slice_first(name, from), rest = slice_from(name, from);

        if ((is_mark(rest) || is_bare_mark(before, rest)) && is_base_of(&c, before))
            return true;
        if (is_date_before(before) && is_base_of(&c, rest))
            return true;

        /* The mark before the extension: cut it out. */
        for (size_t to = from + 2; to < name.len && c.left > 0; to++) {
            if (name.ptr[to] != '.' || !is_mark((struct slice){name.ptr + from, to - from}))
                continue;
            memcpy(base, name.ptr, from);
            memcpy(base + from, name.ptr + to, name.len - to);
            if (is_base_of(&c, (struct slice){base, from + name.len - to}))
                return true;
        }
    }
    return false;
}

struct slice generation_strip_packing(struct slice name)
{
    static const struct slice suffixes[] = {{".gz", 3}, {".zst", 4}};

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (name.len > suffixes[i].len && slice_ends_with(name, suffixes[i]))
            return slice_first(name, name.len - suffixes[i].len);
    return name;
}
