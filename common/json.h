/* json -- reads answers piece by piece, and writes strings; RFC 8259, nothing more and nothing
 * less.
 *
 *   1. The reader allocates nothing and copies nothing: every token lies inside the text.
 *   2. Each json_next moves on or answers JSON_END or -EBADMSG, so a loop over it terminates.
 *   3. What was wrong once stays wrong: after -EBADMSG every call says -EBADMSG.
 *   4. Tokens come in pairs that match; in an object each value comes after its JSON_KEY.
 *
 * A member that is not asked for is passed over by json_skip:
 *
 *     while (json_next(&j, &t) == 0 && t.type == JSON_KEY)
 *         if (json_text_equal(t.text, SLICE("Records")))
 *             ...
 *         else if (json_skip(&j) < 0)
 *             return -EBADMSG;
 *
 * Bytes that are no UTF-8 are let through by the reader and become U+FFFD in json_unescape.
 *
 * Threads: one for each struct json.  Blocks: never. */
#ifndef JSON_H
#define JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

struct buf;

enum { JSON_DEPTH_MAX = 64 }; /* open objects and arrays; deeper is -EBADMSG.  AWS uses four */

enum json_type {
    JSON_OBJECT_BEGIN,
    JSON_OBJECT_END,
    JSON_ARRAY_BEGIN,
    JSON_ARRAY_END,
    JSON_KEY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL,
    JSON_END, /* the one value is whole and nothing follows it; comes as often as asked */
};

/* Where in the text we are.  A value: copy it to come back to the place. */
struct json {
    struct slice rest;   /* what is not read yet; borrows */
    uint64_t is_object;  /* bit n: the n-th open container is an object */
    unsigned depth;      /* how many are open */
    unsigned char state; /* what may come next; json.c */
};

struct json_token {
    enum json_type type;
    /* KEY, STRING: the bytes between the quotes, escapes valid but not undone.  NUMBER: the
     * literal.  Others: the bytes they are made of; of JSON_END, none. */
    struct slice text;
};

/* Begins to read `text`, which is borrowed as long as the tokens are used. */
void json_init(struct json *j, struct slice text);

/* Errors: -EBADMSG if the text breaks the grammar here, ends too early, is followed by something,
 * or is too deep. */
int json_next(struct json *j, struct json_token *ret);

/* Was the last -EBADMSG because of JSON_DEPTH_MAX? */
bool json_is_too_deep(const struct json *j);

/* Passes over the value that comes next, with all that is in it.  Errors: -EBADMSG as json_next;
 * -EINVAL, and nothing has moved, if no value comes next but a key, an end, or JSON_END. */
int json_skip(struct json *j);

/* Passes over the rest of the innermost open container, its end included: for one whose BEGIN was
 * read and turned out to be of no use.  Errors: -EBADMSG as json_next; -EINVAL if none is open. */
int json_leave(struct json *j);

/* Appends the UTF-8 that `raw`, the text of a KEY or STRING, stands for, whole or not at all.
 * Lone surrogates and bytes that are no UTF-8 become U+FFFD.  The result is never longer than
 * 3 * raw.len.  Errors: -EMSGSIZE, -ENOMEM as buf; -EBADMSG if `raw` is not a token's text. */
int json_unescape(struct slice raw, struct buf *to);

/* Does `raw`, the text of a KEY or STRING, stand for `text`?  Bytes that are not escaped are
 * compared as they are. */
bool json_text_equal(struct slice raw, struct slice text);

/* Appends `text` as a JSON string in quotes, whole or not at all.  Escaped is only what must be;
 * bytes that are no UTF-8 become U+FFFD, one for each maximal subpart.  Errors: as buf. */
int json_append_string(struct buf *to, struct slice text);

/* What json_append_string appends at most for `n` bytes: a control character is six.
 * SIZE_MAX if that is no number. */
static inline size_t json_string_size_max(size_t n)
{
    return n > (SIZE_MAX - 2) / 6 ? SIZE_MAX : 2 + n * 6;
}

/* What json_append_string appends for this text. */
size_t json_string_size(struct slice text);

/* These write into memory that the caller knows to be large enough, and return where they ended. */

/* As json_append_string; json_string_size_max bytes are enough. */
char *json_put_string(char *to, struct slice text);

/* The text that `raw`, the text of a KEY or STRING, stands for; raw.len bytes are enough.  Lone
 * surrogates become U+FFFD; bytes that are no UTF-8 stay as they are, unlike in json_unescape. */
char *json_put_unescaped(char *to, struct slice raw);

/* A value that was read before and is whole: without blanks, its strings written as
 * json_append_string does, its numbers as they stand.  json_compact_size_max bytes are enough. */
char *json_put_compact(char *to, struct slice value);

/* What json_put_compact writes at most: no more than it reads, where that is UTF-8. */
size_t json_compact_size_max(struct slice value);

#endif
