/* import_json -- agent.json as the Java agent reads it: JSON with comments, as a tree.
 *
 *   1. Comments are those of C and C++; what follows the value is not looked at.
 *   2. Of equal names the last one counts.
 *
 * Errors: 0 or -errno.  Threads: any. */
#ifndef IMPORT_JSON_H
#define IMPORT_JSON_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>

struct buf;

enum import_type {
    IMPORT_NULL,
    IMPORT_FALSE,
    IMPORT_TRUE,
    IMPORT_NUMBER,
    IMPORT_TEXT,
    IMPORT_LIST,
    IMPORT_OBJECT,
};

struct import_value {
    enum import_type type;
    struct slice name; /* of a member; owns, as the next two */
    struct slice text; /* IMPORT_TEXT; IMPORT_NUMBER: as it is written */
    struct import_value *items;
    size_t count, cap;
};

/* Reads a text into *ret, for import_json_done.  Errors: -EBADMSG, and *ret_line is where; -ENOMEM. */
int import_json_read(struct slice text, struct import_value *ret, size_t *ret_line);
void import_json_done(struct import_value *v);

/* The member of that name that counts, or NULL; `v` may be NULL, or no object. */
const struct import_value *import_json_find(const struct import_value *v, const char *name);

/* Appends the value as compact JSON: numbers as they are written.  Errors: as buf. */
int import_json_append(struct buf *to, const struct import_value *v);

#endif
