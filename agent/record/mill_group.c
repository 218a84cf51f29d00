#include "digest.h"
#include "json.h"
#include "record/mill_inner.h"
#include "record/pattern.h"
#include "record/squeeze.h"
#include "util.h"

#include <errno.h>

enum { GROUPS_MAX = 64 }; /* of a key's pattern that are looked at: the first is enough */

size_t mill_fill_max(const struct mill *m, size_t record_max, size_t key_len)
{
    size_t max = record_max - key_len;

    if (m->settings.squeeze != NULL)
        max -= squeeze_bound(m->settings.squeeze, max) - max;
    return max;
}

int mill_end_line(struct mill *m, bool has_newline, struct slice *record)
{
    int r;

    if (has_newline) {
        record->len++;
        return 0;
    }
    buf_reset(&m->scratch->ended);
    r = buf_append(&m->scratch->ended, *record);
    if (r == 0)
        r = buf_append_char(&m->scratch->ended, '\n');
    if (r == 0)
        *record = buf_slice(&m->scratch->ended);
    return r;
}

/* --- keys --- */

/* The member `path` of an object: "a.b" is b of a.  A text is made what its escapes stand for, in
 * `room`. */
static bool find_member(struct slice object, struct slice path, struct buf *room, struct slice *ret)
{
    const char *dot = memchr(path.ptr, '.', path.len);
    struct slice first = slice_first(path, dot != NULL ? (size_t)(dot - path.ptr) : path.len);
    struct json j;
    struct json_token t;

    json_init(&j, object);
    if (json_next(&j, &t) < 0 || t.type != JSON_OBJECT_BEGIN)
        return false;
    while (json_next(&j, &t) == 0 && t.type == JSON_KEY) {
        struct json before = j;

        if (!json_text_equal(t.text, first)) {
            if (json_skip(&j) < 0)
                return false;
            continue;
        }
        if (dot != NULL)
            return find_member(before.rest, slice_from(path, first.len + 1), room, ret);
        if (json_next(&j, &t) < 0 || t.type == JSON_OBJECT_BEGIN || t.type == JSON_ARRAY_BEGIN ||
            t.type == JSON_NULL)
            return false;
        *ret = t.text;
        if (t.type != JSON_STRING || memchr(t.text.ptr, '\\', t.text.len) == NULL)
            return true;
        buf_reset(room);
        if (json_unescape(t.text, room) < 0)
            return false;
        *ret = buf_slice(room);
        return true;
    }
    return false;
}

static bool field_text(const struct fields *fields, struct slice name, struct buf *room,
                       struct slice *ret)
{
    const struct field *f = fields != NULL ? fields_find(fields, name) : NULL;
    const char *dot = name.len > 0 ? memchr(name.ptr, '.', name.len) : NULL;

    if (f != NULL && f->type != FIELD_NULL) {
        *ret = f->value;
        return true;
    }
    if (f != NULL || fields == NULL || dot == NULL)
        return false;
    f = fields_find(fields, slice_first(name, (size_t)(dot - name.ptr)));
    return f != NULL && f->type == FIELD_JSON &&
           find_member(f->value, slice_from(name, (size_t)(dot - name.ptr) + 1), room, ret);
}

/* By itself: within mill_choose_key its groups would make every line's stack frame as large. */
__attribute__((noinline)) static bool match_text(struct pattern *p, struct slice text,
                                                 struct slice *ret)
{
    struct slice groups[GROUPS_MAX + 1];

    if (text.len > 0 && text.ptr[text.len - 1] == '\r')
        text.len--; /* as all patterns see a line */
    if (pattern_group_count(p) > GROUPS_MAX || pattern_match(p, text, groups) <= 0)
        return false;
    *ret = pattern_group_count(p) > 0 ? groups[1] : groups[0];
    return ret->ptr != NULL;
}

bool mill_choose_key(struct run *run, const struct recipe_result *result)
{
    struct mill *m = run->mill;
    const struct mill_settings *s = &m->settings;
    struct slice text = {0};
    bool found;

    switch (s->key) {
    case MILL_KEY_CONST:
    case MILL_KEY_FILE:
    case MILL_KEY_NONE:
        return false;
    case MILL_KEY_HASH:
    case MILL_KEY_RANDOM:
        m->key.len = s->key == MILL_KEY_HASH ? DIGEST_MD5_HEX_LEN : KEY_RANDOM_LEN;
        return false;
    case MILL_KEY_FIELD:
        found = field_text(result->fields, s->key_text, &m->scratch->fitted, &text);
        break;
    case MILL_KEY_REGEX:
    default:
        found = match_text(s->key_pattern, result->text, &text);
        break;
    }
    if (found && text.len > 0) {
        key_of_text(text, &m->key);
        return false;
    }
    m->key.json_len = 0; /* random, when the record is made */
    m->key.len = KEY_RANDOM_LEN;
    return true;
}

/* The key of a record that is whole now. */
static void finish_key(struct mill *m, struct slice record, struct key *k)
{
    const struct mill_settings *s = &m->settings;
    char hex[DIGEST_MD5_HEX_LEN];

    if (s->key == MILL_KEY_NONE)
        return;
    if (s->key == MILL_KEY_HASH && digest_md5_hex(s->digest, record, hex) == 0)
        key_of_text((struct slice){hex, sizeof hex}, k);
    else if (s->key == MILL_KEY_HASH || s->key == MILL_KEY_RANDOM || k->json_len == 0)
        key_random(s->random, k);
}

/* --- records --- */

static int take(struct run *run, const struct mill_piece *p)
{
    if (run->index < run->skip) {
        run->index++; /* it went out at an earlier call */
        return 0;
    }
    if (!run->events->take(run->events->user, p))
        return -ENOBUFS;
    run->index++;
    return 0;
}

int mill_emit(struct run *run, struct slice record, enum recipe_verdict verdict, const char *reason,
              const struct fields *fields)
{
    struct mill *m = run->mill;
    struct mill_piece p = {
        .offset = run->event.offset,
        .end = run->event.end,
        .verdict = verdict,
        .reason = reason,
        .record = record,
        .plain = record,
        .key = &m->key,
        .events = 1,
        .with_carry = run->event.with_carry,
        .cut = run->event.cut,
        .fields = fields,
        .notice = &run->event.notice,
    };

    if (verdict == RECIPE_SEND) {
        if (m->settings.squeeze != NULL) {
            int r = squeeze_record(m->settings.squeeze, record, &p.record);
            if (r < 0)
                return r;
        }
        if (p.record.len + m->key.len > run->record_max)
            return -EMSGSIZE;
        if (!run->keyed)
            finish_key(m, record, &m->key);
    }
    return take(run, &p);
}

/* --- records of several events --- */

static bool same_key(const struct key *a, const struct key *b)
{
    return slice_equal(key_json(a), key_json(b));
}

static bool has_own_key(const struct mill *m)
{
    return m->settings.key == MILL_KEY_FIELD || m->settings.key == MILL_KEY_REGEX;
}

/* Lines of one record stand on lines of their own. */
static size_t between(const struct buf *joined)
{
    return joined->len > 0 && joined->ptr[joined->len - 1] != '\n';
}

bool mill_group_takes(const struct run *run, struct slice record)
{
    const struct mill *m = run->mill;
    size_t max = m->settings.join_bytes;

    if (max == 0 || record.len > max)
        return false; /* nothing is joined, or not this */
    return !run->group.open ||
           (record.len + between(&m->scratch->joined) <= max - m->scratch->joined.len &&
            (!has_own_key(m) || same_key(&m->key, &run->group.key)));
}

int mill_group_add(struct run *run, const struct recipe_result *result)
{
    struct mill *m = run->mill;
    int r = 0;

    if (run->index < run->skip) {
        run->index++;
        return 0;
    }
    if (!run->group.open) {
        buf_reset(&m->scratch->joined);
        run->group.open = true;
        run->group.offset = run->event.offset;
        run->group.record_max = run->record_max;
        run->group.index = run->index;
        run->group.first_end = run->event.end;
        run->group.events = 0;
        run->group.with_carry = false;
        if (has_own_key(m))
            run->group.key = m->key;
    } else if (between(&m->scratch->joined)) {
        r = buf_append_char(&m->scratch->joined, '\n');
    }
    if (r == 0)
        r = buf_append(&m->scratch->joined, result->record);
    if (r < 0)
        return -ENOMEM;
    run->group.events++;
    run->group.end = run->event.end;
    run->group.with_carry = run->group.with_carry || run->event.with_carry;
    run->index++;
    return 0;
}

int mill_group_close(struct run *run)
{
    struct mill *m = run->mill;
    struct key *k = has_own_key(m) ? &run->group.key : &m->key;
    struct mill_piece p;

    if (!run->group.open)
        return 0;
    p = (struct mill_piece){
        .offset = run->group.offset,
        .end = run->group.end,
        .verdict = RECIPE_SEND,
        .record = buf_slice(&m->scratch->joined),
        .plain = buf_slice(&m->scratch->joined),
        .key = k,
        .events = run->group.events,
        .with_carry = run->group.with_carry,
    };
    finish_key(m, p.record, k);
    if (m->settings.squeeze != NULL) {
        int r = squeeze_record(m->settings.squeeze, p.record, &p.record);
        if (r < 0)
            return r;
    }
    if (!run->events->take(run->events->user, &p))
        return -ENOBUFS;
    run->group.open = false;
    run->consumed_at = run->event.at;
    run->consumed = run->event.offset; /* and of this event, those before `index` */
    run->events_out = run->events_done;
    run->lines_out = run->lines_done;
    return 0;
}
