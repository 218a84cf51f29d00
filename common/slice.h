/* slice -- some bytes of somebody else's memory.
 *
 *   1. A slice borrows; whoever gave it says until when.
 *   2. Any byte may occur in it; there is no zero at its end.
 *   3. `ptr` may be NULL only when `len` is 0.
 *
 * Passed by value.  Nothing here fails or allocates. */
#ifndef SLICE_H
#define SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *ptr;
    size_t len;
};

/* A slice of a string literal, usable in constant initialisers. */
#define SLICE(literal) ((struct slice){"" literal, sizeof(literal) - 1})

/* For printf: "%.*s", SLICE_ARG(s). */
#define SLICE_ARG(s) (int)(s).len, (s).len > 0 ? (s).ptr : ""

/* The text of a C string, without its zero; NULL is the empty slice. */
static inline struct slice slice_of(const char *text)
{
    return (struct slice){text, text == NULL ? 0 : strlen(text)};
}

/* What is left after the first `n` bytes; `n` <= len. */
static inline struct slice slice_from(struct slice s, size_t n)
{
    return (struct slice){s.len > 0 ? s.ptr + n : s.ptr, s.len - n};
}

/* At most the first `n` bytes. */
static inline struct slice slice_first(struct slice s, size_t n)
{
    return (struct slice){s.ptr, n < s.len ? n : s.len};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && slice_equal(slice_first(s, prefix.len), prefix);
}

static inline bool slice_ends_with(struct slice s, struct slice suffix)
{
    return s.len >= suffix.len && slice_equal(slice_from(s, s.len - suffix.len), suffix);
}

#endif
