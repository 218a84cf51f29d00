#include "buf.h"

#include "util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUF_FIRST_CAP = 64 };

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

int buf_reserve(struct buf *b, size_t cap)
{
    char *ptr;

    if (cap > b->max)
        return -EMSGSIZE;
    if (cap <= b->cap)
        return 0;
    ptr = realloc(b->ptr, cap);
    if (ptr == NULL)
        return -ENOMEM;
    b->ptr = ptr;
    b->cap = cap;
    return 0;
}

/* Doubles, so that n appends cost O(n), but never past the ceiling. */
static int buf_grow(struct buf *b, size_t needed)
{
    size_t cap = MAX(b->cap, (size_t)BUF_FIRST_CAP);

    while (cap < needed)
        cap = cap > b->max / 2 ? b->max : cap * 2;
    return buf_reserve(b, MIN(cap, b->max));
}

int buf_append(struct buf *b, struct slice s)
{
    if (s.len > b->max - b->len) /* compared by what is left: cannot overflow */
        return -EMSGSIZE;
    if (s.len > b->cap - b->len) {
        int r = buf_grow(b, b->len + s.len);
        if (r < 0)
            return r;
    }
    if (s.len > 0)
        memcpy(b->ptr + b->len, s.ptr, s.len);
    b->len += s.len;
    return 0;
}

int buf_append_char(struct buf *b, char c)
{
    return buf_append(b, (struct slice){&c, 1});
}

int buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;
    size_t room = MIN(b->cap, b->max) - b->len;
    int n, r;

    va_start(args, format);
    n = vsnprintf(room > 0 ? b->ptr + b->len : NULL, room, format, args);
    va_end(args);
    if (n < 0)
        return -EINVAL;
    if ((size_t)n < room) {
        b->len += (size_t)n;
        return 0;
    }

    /* One byte more than the text, for vsnprintf's zero, which never counts. */
    if ((size_t)n >= b->max - b->len)
        return -EMSGSIZE;
    r = buf_grow(b, b->len + (size_t)n + 1);
    if (r < 0)
        return r;
    va_start(args, format);
    (void)vsnprintf(b->ptr + b->len, b->cap - b->len, format, args);
    va_end(args);
    b->len += (size_t)n;
    return 0;
}

void buf_reset(struct buf *b)
{
    b->len = 0;
}

void buf_limit(struct buf *b, size_t max)
{
    b->max = max;
    b->len = 0;
}

void buf_trim(struct buf *b, size_t keep)
{
    b->len = 0;
    if (b->cap > keep)
        buf_done(b);
}

void buf_done(struct buf *b)
{
    free(b->ptr);
    *b = (struct buf){.max = b->max};
}
