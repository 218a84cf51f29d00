/* fuzz_parse -- whatever may stand in a log: each parser ends, its fields are whole, and an event is
 * read the same way wherever it lies and however it ends.
 *
 * The first byte of the input is the format, 'A' the first; the rest is the event. */
#include "record/parse.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "buf.h"
#include "json.h"
#include "record/fields.h"
#include "record/pattern.h"
#include "util.h"

enum { ARENA_MAX = 1 << 20, JSON_MAX = 1 << 24 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct parse_settings settings(enum parse_format format)
{
    static const struct slice names[] = {SLICE("a"), SLICE("b"), SLICE("c\""), SLICE("d")};
    static struct pattern *pattern;
    struct pattern_error error;

    if (pattern == NULL) {
        int r = pattern_new(SLICE("^(\\S*) (?:(\\d+)|(\\w+))(.*)$"), 0, &pattern, &error);

        assert(r == 0);
    }
    return (struct parse_settings){
        .pattern = format == PARSE_REGEX ? pattern : NULL,
        .names = {names, ARRAY_LEN(names)},
        .delimiter = ',',
    };
}

/* What a field says it is, it is. */
static void check_field(const struct field *f)
{
    struct json_token t;
    struct json j;
    char *again;
    size_t len;

    if (f->type != FIELD_NUMBER && f->type != FIELD_JSON)
        return;
    json_init(&j, f->value);
    assert(json_next(&j, &t) == 0);
    if (f->type == FIELD_NUMBER) {
        assert(t.type == JSON_NUMBER);
        assert(slice_equal(t.text, f->value));
        return;
    }
    assert(t.type == JSON_OBJECT_BEGIN || t.type == JSON_ARRAY_BEGIN);
    json_init(&j, f->value);
    assert(json_skip(&j) == 0);
    assert(j.rest.len == 0);
    again = malloc(json_compact_size_max(f->value));
    assert(again != NULL);
    len = (size_t)(json_put_compact(again, f->value) - again);
    assert(slice_equal(f->value, (struct slice){again, len})); /* it was compact */
    free(again);
}

/* Parses a copy of just its size; `to` gets the fields as JSON, or why it has none. */
static int parse(enum parse_format format, struct slice event, struct buf *to)
{
    struct parse_settings s = settings(format);
    char *copy = malloc(MAX(event.len, (size_t)1));
    const char *why = NULL;
    struct fields f;
    struct json j;
    int r;

    assert(copy != NULL);
    if (event.len > 0)
        memcpy(copy, event.ptr, event.len);
    fields_init(&f, ARENA_MAX);
    buf_reset(to);
    r = parse_event(format, &s, (struct slice){copy, event.len}, &f, &why);
    if (r == 1) {
        assert(f.count <= FIELDS_MAX);
        for (size_t i = 0; i < f.count; i++)
            check_field(&f.items[i]);
        if (fields_append_json(to, &f) < 0)
            abort();
        json_init(&j, buf_slice(to));
        assert(json_skip(&j) == 0);
        assert(j.rest.len == 0);
    } else if (r == 0) {
        assert(why != NULL && why[0] != '\0');
        assert(buf_append(to, slice_of(why)) == 0);
    } else {
        assert(r == -EMSGSIZE || r == -ETIME);
    }
    fields_done(&f);
    free(copy);
    return r;
}

/* One whole JSON object and nothing else. */
static bool is_object(struct slice text)
{
    struct json_token t;
    struct json j;

    json_init(&j, text);
    return json_next(&j, &t) == 0 && t.type == JSON_OBJECT_BEGIN && json_leave(&j) == 0 &&
           json_next(&j, &t) == 0 && t.type == JSON_END;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice event = {(const char *)data, size};
    enum parse_format format;
    struct buf first, second, longer;
    int r;

    if (size == 0)
        return 0;
    format = (enum parse_format)((uint8_t)(data[0] - 'A') % PARSE_FORMATS);
    event = slice_from(event, 1);
    buf_init(&first, JSON_MAX);
    buf_init(&second, JSON_MAX);
    buf_init(&longer, JSON_MAX);

    r = parse(format, event, &first);
    assert(parse(format, event, &second) == r);
    assert(slice_equal(buf_slice(&first), buf_slice(&second)));
    if (!slice_ends_with(event, SLICE("\r"))) {
        assert(buf_append(&longer, event) == 0 && buf_append_char(&longer, '\r') == 0);
        assert(parse(format, buf_slice(&longer), &second) == r);
        assert(slice_equal(buf_slice(&first), buf_slice(&second)));
    }
    if (format == PARSE_JSON && r >= 0)
        assert((r == 1) == is_object(event));
    buf_done(&first);
    buf_done(&second);
    buf_done(&longer);
    return 0;
}
