/* fields -- what a parser has found in an event: names and values, in order.
 *
 *   1. Names and values are borrowed: from the event, from the flow's settings, or from the arena.
 *      They are good until fields_reset or until the event is.
 *   2. A FIELD_TEXT may hold any bytes; the other types hold what may stand in JSON as it is.
 *   3. Two fields may have one name only after fields_add; what JSON is written then has both.
 *   4. There are never more than FIELDS_MAX.
 *
 * Thinks: no I/O.  A warm one no longer allocates. */
#ifndef FIELDS_H
#define FIELDS_H

#include "arena.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>

struct buf;

enum { FIELDS_MAX = 4096 }; /* a record with more columns is no log line */

enum field_type {
    FIELD_TEXT,
    FIELD_NUMBER, /* the value is a JSON number */
    FIELD_TRUE,   /* the value is what was written for it, as in the two below */
    FIELD_FALSE,
    FIELD_NULL,
    FIELD_JSON, /* the value is an object or an array: whole, valid and compact JSON */
};

struct field {
    struct slice name, value;
    enum field_type type;
};

struct fields {
    struct field *items; /* owns */
    size_t count, cap;
    struct arena arena; /* for values that do not stand in the event as they are */
};

/* `arena_max`: bytes that values may take, which are not in the event as they are. */
void fields_init(struct fields *f, size_t arena_max);
void fields_done(struct fields *f);

/* Forgets all fields and what is in the arena. */
void fields_reset(struct fields *f);

/* Forgets them, and gives memory of more than `keep` bytes back; how much that would be. */
void fields_trim(struct fields *f, size_t keep);
size_t fields_excess(const struct fields *f, size_t keep);

/* Adds a field at the end, whether or not there is one of that name.
 * Errors: -EMSGSIZE past FIELDS_MAX, -ENOMEM. */
int fields_add(struct fields *f, struct slice name, struct slice value, enum field_type type);

/* Adds `n` fields at the end, which the caller fills in.  Errors: as fields_add. */
int fields_extend(struct fields *f, size_t n, struct field **ret);

/* Adds a field, or gives the first one of that name another value, at its place. */
int fields_set(struct fields *f, struct slice name, struct slice value, enum field_type type);

/* The first of that name, or NULL. */
struct field *fields_find(const struct fields *f, struct slice name);

/* Takes a field of this set out; those behind it move up. */
void fields_remove(struct fields *f, struct field *field);

/* Of fields with one name only the first stays, with the last one's value.  Cost grows with the
 * number of fields, not with its square. */
void fields_merge(struct fields *f);

/* A field's value in JSON: a text in quotes, null, true, and so on.  Errors: as buf. */
int fields_append_value(struct buf *to, const struct field *field);

/* Appends the object of all fields, compact: {"a":"1","b":2}.  Errors: as buf; then `to` is as it
 * was. */
int fields_append_json(struct buf *to, const struct fields *f);

#endif
