#include "tail/generation.h"

#include "util.h"

#include <ctype.h>
#include <stddef.h>

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

/* ".1", "-20261121", ".2026-11-21T07:00:00Z", ".old": a separator, then numbers or a known word. */
static bool is_mark(struct slice mark)
{
    bool digit = false;

    if (is_word(mark))
        return true;
    if (mark.len < 2 || strchr(".-_~", mark.ptr[0]) == NULL)
        return false;
    for (size_t i = 1; i < mark.len; i++) {
        char c = mark.ptr[i];
        if (!isdigit((unsigned char)c) && strchr(".-_:+TZ", c) == NULL)
            return false;
        digit = digit || isdigit((unsigned char)c);
    }
    return digit;
}

struct slice generation_unpacked(struct slice name)
{
    static const struct slice suffixes[] = {{".gz", 3}, {".zst", 4}};

    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (name.len > suffixes[i].len && slice_ends_with(name, suffixes[i]))
            return slice_first(name, name.len - suffixes[i].len);
    return name;
}

bool generation_is_backup(struct slice name)
{
    name = generation_unpacked(name);
    for (size_t from = name.len; from-- > 1;)
        if (strchr(".-_~", name.ptr[from]) != NULL)
            return is_word(slice_from(name, from));
    return false;
}

bool generation_is_of(struct slice name, struct slice base)
{
    const char *dot = base.len > 0 ? memrchr(base.ptr, '.', base.len) : NULL;
    struct slice stem, extension;

    if (slice_starts_with(name, base) && is_mark(slice_from(name, base.len)))
        return true;
    if (dot == NULL || dot == base.ptr)
        return false;
    stem = slice_first(base, (size_t)(dot - base.ptr));
    extension = slice_from(base, stem.len);
    return name.len > base.len && slice_starts_with(name, stem) &&
           slice_ends_with(name, extension) &&
           is_mark(slice_first(slice_from(name, stem.len), name.len - base.len));
}

bool generation_has_base(struct slice name, bool (*is_base)(void *user, struct slice base),
                         void *user)
{
    char base[256]; /* NAME_MAX and a zero */

    if (name.len >= sizeof base)
        return false;
    for (size_t from = 1; from + 1 < name.len; from++) {
        if (is_mark(slice_from(name, from)) && is_base(user, slice_first(name, from)))
            return true;

        /* The mark before the extension: cut it out. */
        for (size_t to = from + 2; to < name.len; to++) {
            if (name.ptr[to] != '.' || !is_mark((struct slice){name.ptr + from, to - from}))
                continue;
            memcpy(base, name.ptr, from);
            memcpy(base + from, name.ptr + to, name.len - to);
            if (is_base(user, (struct slice){base, from + name.len - to}))
                return true;
        }
    }
    return false;
}
