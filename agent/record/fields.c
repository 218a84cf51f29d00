#include "record/fields.h"

#include "buf.h"
#include "json.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum { FIELDS_FIRST = 32 };

void fields_init(struct fields *f, size_t arena_max)
{
    *f = (struct fields){0};
    arena_init(&f->arena, arena_max);
}

void fields_done(struct fields *f)
{
    free(f->items);
    arena_done(&f->arena);
    *f = (struct fields){0};
}

void fields_reset(struct fields *f)
{
    f->count = 0;
    arena_reset(&f->arena);
}

static int grow(struct fields *f)
{
    size_t cap = f->cap == 0 ? FIELDS_FIRST : MIN(2 * f->cap, (size_t)FIELDS_MAX);
    struct field *items;

    if (f->count == FIELDS_MAX)
        return -EMSGSIZE;
    items = realloc(f->items, cap * sizeof *items);
    if (items == NULL)
        return -ENOMEM;
    f->items = items;
    f->cap = cap;
    return 0;
}

int fields_add(struct fields *f, struct slice name, struct slice value, enum field_type type)
{
    if (f->count == f->cap) {
        int r = grow(f);
        if (r < 0)
            return r;
    }
    f->items[f->count++] = (struct field){name, value, type};
    return 0;
}

struct field *fields_find(const struct fields *f, struct slice name)
{
    for (size_t i = 0; i < f->count; i++)
        if (slice_equal(f->items[i].name, name))
            return &f->items[i];
    return NULL;
}

int fields_set(struct fields *f, struct slice name, struct slice value, enum field_type type)
{
    struct field *field = fields_find(f, name);

    if (field == NULL)
        return fields_add(f, name, value, type);
    field->value = value;
    field->type = type;
    return 0;
}

void fields_remove(struct fields *f, struct field *field)
{
    size_t at = (size_t)(field - f->items);

    assert(at < f->count);
    memmove(field, field + 1, (f->count - at - 1) * sizeof *field);
    f->count--;
}

int fields_append_value(struct buf *to, const struct field *field)
{
    switch (field->type) {
    case FIELD_TEXT:
        return json_append_string(to, field->value);
    case FIELD_NUMBER:
    case FIELD_JSON:
        return buf_append(to, field->value);
    case FIELD_TRUE:
        return buf_append(to, SLICE("true"));
    case FIELD_FALSE:
        return buf_append(to, SLICE("false"));
    case FIELD_NULL:
        break;
    }
    return buf_append(to, SLICE("null"));
}

int fields_append_json(struct buf *to, const struct fields *f)
{
    size_t start = to->len;
    int r = buf_append_char(to, '{');

    for (size_t i = 0; i < f->count && r == 0; i++) {
        if (i > 0)
            r = buf_append_char(to, ',');
        if (r == 0)
            r = json_append_string(to, f->items[i].name);
        if (r == 0)
            r = buf_append_char(to, ':');
        if (r == 0)
            r = fields_append_value(to, &f->items[i]);
    }
    if (r == 0)
        r = buf_append_char(to, '}');
    if (r < 0)
        to->len = start;
    return r;
}
