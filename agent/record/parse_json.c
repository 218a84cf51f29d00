/* An object for each event. */
#include "record/parse_inner.h"

#include "json.h"

/* A name or a value; it stays where it is unless it has escapes. */
static int undo(struct fields *to, struct slice raw, struct slice *ret)
{
    char *room;
    int r;

    *ret = raw;
    if (parse_find(raw, '\\') == raw.len)
        return 0;
    r = parse_room(to, raw.len, &room);
    if (r < 0)
        return r;
    *ret = parse_room_used(to, room, raw.len, json_put_unescaped(room, raw));
    return 0;
}

/* The object or array whose beginning was just read, compact. */
static int take_container(struct json *j, struct slice begin, struct fields *to, struct slice *ret)
{
    struct slice whole;
    size_t size;
    char *room;
    int r = json_leave(j);

    if (r < 0)
        return r;
    whole = (struct slice){begin.ptr, (size_t)(j->rest.ptr - begin.ptr)};
    size = json_compact_size_max(whole);
    r = parse_room(to, size, &room);
    if (r < 0)
        return r;
    *ret = parse_room_used(to, room, size, json_put_compact(room, whole));
    return 0;
}

static int take_value(struct json *j, struct slice name, struct fields *to)
{
    struct json_token t;
    enum field_type type = FIELD_NULL;
    int r = json_next(j, &t);

    if (r < 0)
        return r;
    switch (t.type) {
    case JSON_STRING:
        type = FIELD_TEXT;
        r = undo(to, t.text, &t.text);
        break;
    case JSON_OBJECT_BEGIN:
    case JSON_ARRAY_BEGIN:
        type = FIELD_JSON;
        r = take_container(j, t.text, to, &t.text);
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
    return r < 0 ? r : fields_add(to, name, t.text, type);
}

/* All members, and that nothing follows the object. */
static int take_members(struct json *j, struct fields *to)
{
    struct json_token t;
    struct slice name;
    int r;

    while ((r = json_next(j, &t)) == 0 && t.type == JSON_KEY) {
        r = undo(to, t.text, &name);
        if (r == 0)
            r = take_value(j, name, to);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : json_next(j, &t);
}

int parse_json(const struct parse_settings *s, struct slice event, struct fields *to,
               const char **ret_why)
{
    struct json_token t;
    struct json j;
    int r;

    (void)s;
    json_init(&j, event);
    if (json_next(&j, &t) < 0 || t.type != JSON_OBJECT_BEGIN)
        return parse_mismatch(ret_why, "is no JSON object");
    r = take_members(&j, to);
    if (r == -EBADMSG)
        return parse_mismatch(ret_why, json_is_too_deep(&j) ? "is JSON nested deeper than 64 levels"
                                                            : "is not valid JSON");
    if (r < 0)
        return r;
    fields_merge(to);
    return 1;
}

_Static_assert(JSON_DEPTH_MAX == 64, "a sentence above says it");
