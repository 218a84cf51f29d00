#include "run/import_json.h"

#include "buf.h"
#include "json.h"
#include "util.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ITEMS_FIRST = 8 };

void import_json_done(struct import_value *v)
{
    for (size_t i = 0; i < v->count; i++)
        import_json_done(&v->items[i]);
    free(v->items);
    free((char *)(uintptr_t)v->name.ptr);
    if (v->text.len > 0)
        explicit_bzero((char *)(uintptr_t)v->text.ptr, v->text.len); /* it may be a secret */
    free((char *)(uintptr_t)v->text.ptr);
    *v = (struct import_value){0};
}

/* --- comments --- */

/* Past the string that begins at `i`. */
static size_t past_string(struct slice s, size_t i)
{
    for (i++; i < s.len && s.ptr[i] != '"'; i++)
        if (s.ptr[i] == '\\')
            i++;
    return MIN(i + 1, s.len);
}

/* Past the comment that begins at `i`; `i` itself if none does, or if it does not end. */
static size_t past_comment(struct slice s, size_t i)
{
    const char *end;

    if (s.len - i < 2 || s.ptr[i] != '/')
        return i;
    if (s.ptr[i + 1] == '/') {
        end = memchr(s.ptr + i, '\n', s.len - i);
        return end != NULL ? (size_t)(end - s.ptr) : s.len;
    }
    if (s.ptr[i + 1] != '*')
        return i;
    end = memmem(s.ptr + i + 2, s.len - i - 2, "*/", 2);
    return end != NULL ? (size_t)(end - s.ptr) + 2 : i;
}

/* Comments become blanks, newlines stay: so that a line is still the line it was. */
static void blank_comments(struct slice s, char *to)
{
    for (size_t i = 0, end; i < s.len; i = end) {
        end = s.ptr[i] == '"' ? past_string(s, i) : past_comment(s, i);
        if (end == i) {
            end = i + 1;
        } else if (s.ptr[i] == '/') {
            for (size_t n = i; n < end; n++)
                to[n] = s.ptr[n] == '\n' ? '\n' : ' ';
            continue;
        }
        memcpy(to + i, s.ptr + i, end - i);
    }
}

/* --- the tree --- */

static int unescape(struct slice raw, struct slice *ret)
{
    struct buf b;
    int r;

    buf_init(&b, 3 * raw.len + 1);
    r = buf_append_char(&b, '\0'); /* so that an empty text is not nothing */
    b.len = 0;
    if (r == 0)
        r = json_unescape(raw, &b);
    if (r < 0)
        buf_done(&b);
    else
        *ret = buf_slice(&b);
    return r;
}

static struct import_value *add_item(struct import_value *v)
{
    if (v->count == v->cap) {
        size_t cap = v->cap == 0 ? ITEMS_FIRST : 2 * v->cap;
        struct import_value *items = realloc(v->items, cap * sizeof *items);

        if (items == NULL)
            return NULL;
        v->items = items;
        v->cap = cap;
    }
    v->items[v->count] = (struct import_value){0};
    return &v->items[v->count++];
}

static int read_value(struct json *j, struct json_token t, struct import_value *ret);

/* What follows the beginning of an object or a list, its end included.  No deeper than json.h allows. */
static int read_items(struct json *j, struct import_value *ret)
{
    struct json_token t;

    for (;;) {
        struct import_value *item;
        int r = json_next(j, &t);

        if (r < 0 || t.type == JSON_OBJECT_END || t.type == JSON_ARRAY_END)
            return r;
        item = add_item(ret);
        if (item == NULL)
            return -ENOMEM;
        if (t.type == JSON_KEY) {
            r = unescape(t.text, &item->name);
            if (r == 0)
                r = json_next(j, &t);
        }
        if (r == 0)
            r = read_value(j, t, item);
        if (r < 0)
            return r;
    }
}

static int read_value(struct json *j, struct json_token t, struct import_value *ret)
{
    switch (t.type) {
    case JSON_OBJECT_BEGIN:
        ret->type = IMPORT_OBJECT;
        return read_items(j, ret);
    case JSON_ARRAY_BEGIN:
        ret->type = IMPORT_LIST;
        return read_items(j, ret);
    case JSON_STRING:
        ret->type = IMPORT_TEXT;
        return unescape(t.text, &ret->text);
    case JSON_NUMBER:
        ret->type = IMPORT_NUMBER;
        return unescape(t.text, &ret->text);
    case JSON_TRUE:
        ret->type = IMPORT_TRUE;
        return 0;
    case JSON_FALSE:
        ret->type = IMPORT_FALSE;
        return 0;
    case JSON_NULL:
        ret->type = IMPORT_NULL;
        return 0;
    default:
        return -EBADMSG;
    }
}

static size_t line_of(struct slice text, size_t at)
{
    size_t line = 1;

    for (size_t i = 0; i < at && i < text.len; i++)
        line += text.ptr[i] == '\n';
    return line;
}

int import_json_read(struct slice text, struct import_value *ret, size_t *ret_line)
{
    struct import_value v = {0};
    struct json_token t;
    struct json j;
    char *blanked;
    int r;

    if (slice_starts_with(text, SLICE("\xef\xbb\xbf")))
        text = slice_from(text, 3);
    blanked = malloc(MAX(text.len, (size_t)1));
    if (blanked == NULL)
        return -ENOMEM;
    blank_comments(text, blanked);
    json_init(&j, (struct slice){blanked, text.len});
    r = json_next(&j, &t);
    if (r == 0)
        r = read_value(&j, t, &v);
    *ret_line = line_of(text, text.len - j.rest.len);
    explicit_bzero(blanked, text.len);
    free(blanked);
    if (r < 0)
        import_json_done(&v);
    else
        *ret = v;
    return r;
}

const struct import_value *import_json_find(const struct import_value *v, const char *name)
{
    if (v != NULL && v->type == IMPORT_OBJECT)
        for (size_t i = v->count; i-- > 0;)
            if (slice_equal(v->items[i].name, slice_of(name)))
                return &v->items[i];
    return NULL;
}

int import_json_append(struct buf *to, const struct import_value *v)
{
    static const char *const words[] = {
        [IMPORT_NULL] = "null", [IMPORT_FALSE] = "false", [IMPORT_TRUE] = "true"};
    bool object = v->type == IMPORT_OBJECT;
    int r;

    if (v->type == IMPORT_TEXT)
        return json_append_string(to, v->text);
    if (v->type == IMPORT_NUMBER)
        return buf_append(to, v->text);
    if (v->type != IMPORT_LIST && !object)
        return buf_append(to, slice_of(words[v->type]));
    r = buf_append_char(to, object ? '{' : '[');
    for (size_t i = 0; i < v->count && r == 0; i++) {
        if (i > 0)
            r = buf_append_char(to, ',');
        if (r == 0 && object)
            r = json_append_string(to, v->items[i].name);
        if (r == 0 && object)
            r = buf_append_char(to, ':');
        if (r == 0)
            r = import_json_append(to, &v->items[i]);
    }
    return r < 0 ? r : buf_append_char(to, object ? '}' : ']');
}
