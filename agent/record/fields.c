#include "record/fields.h"

#include "buf.h"
#include "json.h"
#include "map.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIELDS_FIRST = 32,
    MERGE_SIMPLE = 16,              /* as few are compared with each other */
    MERGE_SLOTS = 2 * FIELDS_MAX,   /* a power of two */
    JSON_UNCHECKED_MAX = 64 * 1024, /* bytes of room taken for what may be needed, and is not */
};

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

void fields_trim(struct fields *f, size_t keep)
{
    f->count = 0;
    arena_trim(&f->arena, keep);
    if (f->cap * sizeof *f->items > keep) {
        free(f->items);
        f->items = NULL;
        f->cap = 0;
    }
}

size_t fields_excess(const struct fields *f, size_t keep)
{
    size_t items = f->cap * sizeof *f->items, arena = arena_size(&f->arena);

    return (items > keep ? items : 0) + (arena > keep ? arena : 0);
}

/* Makes room for `n` more. */
static int grow(struct fields *f, size_t n)
{
    size_t cap = MAX(MAX(2 * f->cap, f->count + n), (size_t)FIELDS_FIRST);
    struct field *items;

    if (n > FIELDS_MAX - f->count)
        return -EMSGSIZE;
    cap = MIN(cap, (size_t)FIELDS_MAX);
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
        int r = grow(f, 1);
        if (r < 0)
            return r;
    }
    f->items[f->count++] = (struct field){name, value, type};
    return 0;
}

int fields_extend(struct fields *f, size_t n, struct field **ret)
{
    if (n > f->cap - f->count) {
        int r = grow(f, n);
        if (r < 0)
            return r;
    }
    *ret = f->items + f->count;
    f->count += n;
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

/* Looks at the first bytes before it calls anybody: most names differ there. */
static bool same_name(const struct field *a, const struct field *b)
{
    return a->name.len == b->name.len && (a->name.len == 0 || (a->name.ptr[0] == b->name.ptr[0] &&
                                                               slice_equal(a->name, b->name)));
}

static void merge_few(struct fields *f)
{
    size_t kept = 0;

    for (size_t i = 0; i < f->count; i++) {
        size_t at = 0;

        while (at < kept && !same_name(&f->items[at], &f->items[i]))
            at++;
        if (at < i)
            f->items[at] = f->items[i];
        kept += at == kept;
    }
    f->count = kept;
}

/* Through a table of places + 1.  Its hash begins with where this process was loaded, so that nobody
 * can write a line whose names all fall into one slot. */
static void merge_many(struct fields *f)
{
    static const char somewhere;
    uint16_t slots[MERGE_SLOTS];
    uint64_t seed = map_hash_u64((uintptr_t)&somewhere);
    size_t kept = 0, mask = MERGE_SIMPLE;

    while (mask < 2 * f->count)
        mask *= 2;
    memset(slots, 0, mask * sizeof *slots);
    mask--;
    for (size_t i = 0; i < f->count; i++) {
        struct slice name = f->items[i].name;
        size_t slot = map_hash_slice(seed, name) & mask;

        while (slots[slot] != 0 && !slice_equal(f->items[slots[slot] - 1].name, name))
            slot = (slot + 1) & mask;
        if (slots[slot] == 0)
            slots[slot] = (uint16_t)++kept;
        f->items[slots[slot] - 1] = f->items[i];
    }
    f->count = kept;
}

void fields_merge(struct fields *f)
{
    if (f->count <= MERGE_SIMPLE)
        merge_few(f);
    else
        merge_many(f);
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

/* What fields_append_json writes at most; SIZE_MAX if that is past JSON_UNCHECKED_MAX. */
static size_t json_size_max(const struct fields *f)
{
    size_t size = 2;

    for (size_t i = 0; i < f->count && size <= JSON_UNCHECKED_MAX; i++) {
        const struct field *field = &f->items[i];

        if (field->name.len > JSON_UNCHECKED_MAX || field->value.len > JSON_UNCHECKED_MAX)
            return SIZE_MAX;
        size += json_string_size_max(field->name.len) + 2; /* a colon, a comma */
        size += field->type == FIELD_TEXT ? json_string_size_max(field->value.len)
                                          : MAX(field->value.len, SLICE("false").len);
    }
    return size <= JSON_UNCHECKED_MAX ? size : SIZE_MAX;
}

static char *put(char *to, struct slice s)
{
    memcpy(to, s.ptr, s.len);
    return to + s.len;
}

static char *put_value(char *to, const struct field *field)
{
    switch (field->type) {
    case FIELD_TEXT:
        return json_put_string(to, field->value);
    case FIELD_NUMBER:
    case FIELD_JSON:
        return put(to, field->value);
    case FIELD_TRUE:
        return put(to, SLICE("true"));
    case FIELD_FALSE:
        return put(to, SLICE("false"));
    case FIELD_NULL:
        break;
    }
    return put(to, SLICE("null"));
}

/* There is room for whatever it may become. */
static char *put_json(char *to, const struct fields *f)
{
    *to++ = '{';
    for (size_t i = 0; i < f->count; i++) {
        if (i > 0)
            *to++ = ',';
        to = json_put_string(to, f->items[i].name);
        *to++ = ':';
        to = put_value(to, &f->items[i]);
    }
    *to++ = '}';
    return to;
}

/* Piece by piece: near the buffer's ceiling, or for what is large. */
static int append_json(struct buf *to, const struct fields *f)
{
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
    return r == 0 ? buf_append_char(to, '}') : r;
}

/* Room for `more` bytes; twice what there was, so that n records in one buffer cost O(n). */
static bool has_room(struct buf *b, size_t more)
{
    if (more <= b->cap - b->len)
        return true;
    if (more > b->max - b->len)
        return false;
    return buf_reserve(b, MAX(b->len + more, MIN(2 * b->cap, b->max))) == 0;
}

int fields_append_json(struct buf *to, const struct fields *f)
{
    size_t start = to->len, most = json_size_max(f);
    int r;

    /* Room for the worst, taken once: a warm buffer has it. */
    if (has_room(to, most)) {
        to->len = (size_t)(put_json(to->ptr + to->len, f) - to->ptr);
        return 0;
    }
    r = append_json(to, f);
    if (r < 0)
        to->len = start;
    return r;
}
