/* buf -- bytes we own, with a ceiling.
 *
 *   1. 0 <= len <= max, and len <= cap; `max` is given at birth, or by buf_limit.
 *   2. An append happens whole or not at all.
 *   3. buf_reset keeps the memory, so that a warm buffer no longer allocates; buf_trim gives it back.
 *
 * Errors: 0, -EMSGSIZE past the ceiling, -ENOMEM. */
#ifndef BUF_H
#define BUF_H

#include "slice.h"

#include <stddef.h>

struct buf {
    char *ptr; /* owns; NULL until the first byte */
    size_t len, cap, max;
};

/* An empty buffer that will never hold more than `max` bytes.  Allocates nothing yet. */
void buf_init(struct buf *b, size_t max);

/* Makes room for `cap` bytes in all, so that appends up to there cannot fail. */
int buf_reserve(struct buf *b, size_t cap);

/* Appends all of `s` or nothing.  `s` must not lie inside the buffer. */
int buf_append(struct buf *b, struct slice s);

int buf_append_char(struct buf *b, char c);

/* Appends what printf would print. */
__attribute__((format(printf, 2, 3))) int buf_printf(struct buf *b, const char *format, ...);

/* Forgets the content, keeps the memory. */
void buf_reset(struct buf *b);

/* Gives it another ceiling, and forgets the content. */
void buf_limit(struct buf *b, size_t max);

/* Forgets the content; gives the memory back if it is more than `keep` bytes. */
void buf_trim(struct buf *b, size_t keep);

/* Gives the memory back; the zero value is fine. */
void buf_done(struct buf *b);

/* The content, borrowed until the next change of the buffer. */
static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->ptr, b->len};
}

#endif
