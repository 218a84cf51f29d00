/* java_json -- JSON read and written again as Jackson does it, for the Java agent's converters.
 *
 *   1. What Jackson refuses is refused, and what it lets pass passes: anything may follow the value.
 *   2. Of equal keys the first gives the place and the last the value.
 *   3. Whole numbers stay as they are (-0 becomes 0), the others become doubles: 1e5 is written
 *      100000.0.  Escapes that are not needed are gone, and half of a pair of surrogates is "?".
 *
 * The text is copied where it has to change; otherwise nodes lie in the text that was read, which is
 * borrowed until the next java_json_read.  A warm one no longer allocates.
 *
 * Thinks: no I/O.  Threads: one for each. */
#ifndef JAVA_JSON_H
#define JAVA_JSON_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct java_json;

enum {
    JAVA_JSON_DEPTH_MAX = 1000,    /* Jackson's StreamReadConstraints */
    JAVA_JSON_VALUES_MAX = 131072, /* ours: in one text; a record with more is no log line */
};

/* `text_max`: bytes that rewritten texts may take.  Errors: -ENOMEM. */
int java_json_new(size_t text_max, struct java_json **ret);
void java_json_free(struct java_json *j);

/* The ceiling of java_json_new, anew; memory of more than `keep` bytes is given back.  Both forget what
 * was read. */
void java_json_set_max(struct java_json *j, size_t text_max);
void java_json_trim(struct java_json *j, size_t keep);

/* Reads the value that `text`, which is valid UTF-8, begins with.  What follows it is not looked at, and
 * given in *ret_rest, without the white space before it.
 * Errors: -EBADMSG if Jackson would throw; -EMSGSIZE past a ceiling of ours; -ENOMEM. */
int java_json_read(struct java_json *j, struct slice text, struct slice *ret_rest);

/* After java_json_read.  The value is an object. */
bool java_json_is_object(const struct java_json *j);

/* Sets a member of the object, and gives another value to the one that is there.  The key, and a
 * value that is no object, are texts as JSON has them ("\"a\"", "null"), borrowed as the text is.
 * `ret_object`, if not NULL, makes the value an empty object, to which the other calls add.
 * Errors: -EMSGSIZE, -ENOMEM. */
enum { JAVA_JSON_ROOT = 0 };
int java_json_set(struct java_json *j, uint32_t object, struct slice key, struct slice value,
                  uint32_t *ret_object);

/* The JSON of a text, in j's memory.  Errors: -EMSGSIZE, -ENOMEM. */
int java_json_string(struct java_json *j, struct slice text, struct slice *ret);

/* Appends all of it, compact, or as Jackson's DefaultPrettyPrinter does it; `depth` is how deep in
 * another object it will stand.  Errors: to's. */
int java_json_write(const struct java_json *j, bool pretty, unsigned depth, struct buf *to);

#endif
