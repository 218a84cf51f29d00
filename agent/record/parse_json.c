/* An object for each event. */
#include "record/parse_inner.h"

#include "json.h"
#include "utf8.h"

struct event {
    struct json json;
    struct fields *to;
    bool escapes; /* there is a backslash in it, somewhere; asked once for all strings */
};

/* A name or a value; it stays where it is unless it has escapes. */
static int undo(const struct event *e, struct slice raw, struct slice *ret)
{
    char *room;
    int r;

    *ret = raw;
    if (!e->escapes || parse_find(raw, '\\') == raw.len)
        return 0;
    r = parse_room(e->to, raw.len, &room);
    if (r < 0)
        return r;
    *ret = parse_room_used(e->to, room, raw.len, json_put_unescaped(room, raw));
    return 0;
}

/* Reads to the end of the innermost container, whose beginning was just read.  Gives how long it is
 * without blanks. */
static int leave(struct json *j, size_t *ret_len)
{
    unsigned depth = j->depth;
    bool comma = false;
    size_t len = 1;

    while (j->depth >= depth) {
        struct json_token t;
        int r = json_next(j, &t);
        bool ends = r == 0 && (t.type == JSON_OBJECT_END || t.type == JSON_ARRAY_END);

        if (r < 0)
            return r;
        len += t.text.len + (comma && !ends ? 1 : 0);
        if (t.type == JSON_KEY || t.type == JSON_STRING)
            len += 2;
        if (t.type == JSON_KEY)
            len++;
        comma = t.type != JSON_KEY && t.type != JSON_OBJECT_BEGIN && t.type != JSON_ARRAY_BEGIN;
    }
    *ret_len = len;
    return 0;
}

/* The object or array whose beginning was just read, compact; as it stands, if that is so already. */
static int take_container(struct event *e, struct slice begin, struct slice *ret)
{
    size_t size, len;
    char *room;
    int r = leave(&e->json, &len);

    if (r < 0)
        return r;
    *ret = (struct slice){begin.ptr, (size_t)(e->json.rest.ptr - begin.ptr)};
    if (len == ret->len && utf8_valid(*ret) && (!e->escapes || parse_find(*ret, '\\') == ret->len))
        return 0;
    size = json_compact_size_max(*ret);
    r = parse_room(e->to, size, &room);
    if (r < 0)
        return r;
    *ret = parse_room_used(e->to, room, size, json_put_compact(room, *ret));
    return 0;
}

static int take_value(struct event *e, struct slice name)
{
    struct json_token t;
    enum field_type type = FIELD_NULL;
    int r = json_next(&e->json, &t);

    if (r < 0)
        return r;
    switch (t.type) {
    case JSON_STRING:
        type = FIELD_TEXT;
        r = undo(e, t.text, &t.text);
        break;
    case JSON_OBJECT_BEGIN:
    case JSON_ARRAY_BEGIN:
        type = FIELD_JSON;
        r = take_container(e, t.text, &t.text);
        break;
    case JSON_NUMBER:
        type = FIELD_NUMBER;
        break;
    case JSON_TRUE:
        type = FIELD_TRUE;
        break;
    case JSON_FALSE:
        type = FIELD_FALSE;
        break;
    default: /* null: what follows a key is a value */
        break;
    }
    return r < 0 ? r : fields_add(e->to, name, t.text, type);
}

/* All members, and that nothing follows the object. */
static int take_members(struct event *e)
{
    struct json_token t;
    struct slice name;
    int r;

    while ((r = json_next(&e->json, &t)) == 0 && t.type == JSON_KEY) {
        r = undo(e, t.text, &name);
        if (r == 0)
            r = take_value(e, name);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : json_next(&e->json, &t);
}

int parse_json(const struct parse_settings *s, struct slice event, struct fields *to,
               const char **ret_why)
{
    struct event e = {.to = to, .escapes = parse_find(event, '\\') < event.len};
    struct json_token t;
    int r;

    (void)s;
    json_init(&e.json, event);
    if (json_next(&e.json, &t) < 0 || t.type != JSON_OBJECT_BEGIN)
        return parse_mismatch(ret_why, "is no JSON object");
    r = take_members(&e);
    if (r == -EBADMSG)
        return parse_mismatch(ret_why, json_is_too_deep(&e.json)
                                           ? "is JSON nested deeper than 64 levels"
                                           : "is not valid JSON");
    if (r < 0)
        return r;
    fields_merge(to);
    return 1;
}

_Static_assert(JSON_DEPTH_MAX == 64, "a sentence above says it");
