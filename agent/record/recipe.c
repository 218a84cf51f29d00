#include "record/recipe.h"

#include "buf.h"
#include "json.h"
#include "record/java.h"
#include "record/pattern.h"
#include "record/scratch.h"
#include "record/split.h"
#include "record/typed.h"
#include "record/when.h"
#include "utf8.h"
#include "util.h"

#include <errno.h>
#include <stdlib.h>

struct recipe {
    struct recipe_settings settings;
    struct scratch *scratch; /* borrows; or its own */
    struct scratch own;
};

static const char *const too_hard = "was too hard for a pattern, which gave up";
static const char *const too_large = "has more fields, or longer ones, than a record may have";

const char *recipe_drop_name(enum recipe_drop d)
{
    static const char *const names[RECIPE_DROPS] = {
        [RECIPE_NOT_DROPPED] = "",      [RECIPE_NOT_INCLUDED] = "include",
        [RECIPE_DROPPED] = "drop",      [RECIPE_MISMATCHED] = "mismatch",
        [RECIPE_CONVERTED] = "convert",
    };

    return names[d];
}

int recipe_new(const struct recipe_settings *s, struct recipe **ret)
{
    struct recipe *r = calloc(1, sizeof *r);

    if (r == NULL)
        return -ENOMEM;
    r->settings = *s;
    scratch_init(&r->own);
    r->scratch = s->scratch;
    if (r->scratch == NULL) {
        r->scratch = &r->own;
        scratch_limit(r->scratch, s->record_max, s->record_max);
    }
    *ret = r;
    return 0;
}

void recipe_free(struct recipe *r)
{
    if (r == NULL)
        return;
    scratch_done(&r->own);
    free(r);
}

/* --- before it is taken apart --- */

/* Whether any of the patterns matches.  One that gives up does not, and ends the asking: a line that is
 * too hard for one pattern is not to cost as much again for each of the others. */
static bool any_matches(struct pattern *const *patterns, size_t count, struct slice text,
                        struct recipe_result *ret)
{
    for (size_t i = 0; i < count && !ret->gave_up; i++) {
        int m = pattern_match(patterns[i], text, NULL);

        if (m > 0)
            return true;
        ret->gave_up = m < 0;
    }
    return false;
}

static bool is_wanted(const struct recipe_settings *s, struct slice text, struct recipe_result *ret)
{
    text = split_without_return(text);
    if (s->include_count > 0 && !any_matches(s->include, s->include_count, text, ret) &&
        !ret->gave_up) {
        ret->drop = RECIPE_NOT_INCLUDED;
        ret->reason = "matches no pattern of include";
        return false;
    }
    if (any_matches(s->drop, s->drop_count, text, ret)) {
        ret->drop = RECIPE_DROPPED;
        ret->reason = "matches a pattern of drop";
        return false;
    }
    return true;
}

/* Gives the text with everything replaced that is to be.  -ETIME, -EMSGSIZE: it must not be sent.
 * Patterns see no carriage return at its end: "\\d+$" finds the same in a file of Windows. */
static int redact(const struct recipe *r, struct buf bufs[2], struct slice whole, struct slice *ret)
{
    const struct recipe_settings *s = &r->settings;
    struct slice text = split_without_return(whole);
    bool has_return = text.len < whole.len;
    size_t now = 0;
    int e = 0;

    for (size_t i = 0; i < s->redact_count; i++) {
        struct buf *to = &bufs[now];
        long n;

        buf_reset(to);
        n = pattern_replace(s->redact[i].pattern, text, s->redact[i].with, to);
        if (n < 0)
            return (int)n;
        if (n == 0)
            continue;
        text = buf_slice(to);
        now = 1 - now;
    }
    if (text.ptr == whole.ptr) {
        *ret = whole;
        return 0;
    }
    if (has_return)
        e = buf_append_char(&bufs[1 - now], '\r');
    *ret = buf_slice(&bufs[1 - now]);
    return e;
}

/* These stay as they are: by them letters of earlier versions are known. */
static const char reason_gave_up[] =
    "was too hard for a pattern of redact, which gave up: it must not be sent as it is";
static const char reason_too_long[] = "became too long when it was redacted";

/* What must not be sent, as it might hold what is to be hidden. */
static void set_aside(struct recipe_result *ret, int why)
{
    ret->verdict = RECIPE_DEAD;
    ret->gave_up = why == -ETIME;
    ret->reason = why == -ETIME ? reason_gave_up : reason_too_long;
}

bool recipe_reason_is_unredacted(struct slice reason)
{
    return slice_equal(reason, slice_of(reason_gave_up)) ||
           slice_equal(reason, slice_of(reason_too_long));
}

/* Values that were written otherwise in the text (with escapes) may show only now what is to be
 * hidden.  What was an object or an array is its text then. */
static int redact_values(struct recipe *r, struct slice text)
{
    for (size_t i = 0; i < r->scratch->fields.count && r->settings.redact_count > 0; i++) {
        struct field *f = &r->scratch->fields.items[i];
        bool in_text = f->value.ptr >= text.ptr && f->value.ptr <= text.ptr + text.len;
        struct slice now;
        int e;

        if (in_text || (f->type != FIELD_TEXT && f->type != FIELD_JSON))
            continue;
        e = redact(r, r->scratch->values, f->value, &now);
        if (e < 0)
            return e;
        if (now.ptr == f->value.ptr)
            continue;
        if (!arena_copy(&r->scratch->fields.arena, now, &f->value))
            return -EMSGSIZE;
        f->type = FIELD_TEXT;
    }
    return 0;
}

/* --- shaping what was found --- */

static int set_types(struct recipe *r)
{
    const struct recipe_settings *s = &r->settings;

    for (size_t i = 0; i < s->type_count; i++) {
        struct field *f = fields_find(&r->scratch->fields, s->types[i].name);
        int e = f == NULL ? 0 : typed_set(f, s->types[i].type, &r->scratch->fields.arena);

        if (e < 0)
            return e;
    }
    return 0;
}

static int set_time(struct recipe *r, const struct recipe_event *e, struct recipe_result *ret)
{
    const struct recipe_settings *s = &r->settings;
    struct field *f =
        s->time.field.len > 0 ? fields_find(&r->scratch->fields, s->time.field) : NULL;
    char text[WHEN_TEXT_MAX];
    struct slice written = {text, 0};
    struct when w;

    if (f == NULL || f->type == FIELD_NULL)
        return 0;
    if ((f->type != FIELD_TEXT && f->type != FIELD_NUMBER) ||
        when_read(s->time.format, f->value, e->place.now_ms * 1000000, &w) < 0) {
        ret->time_mismatch = true;
        return 0;
    }
    switch (s->time.output) {
    case RECIPE_TIME_RFC3339:
        written.len = when_write_rfc3339(&w, NULL, text);
        break;
    case RECIPE_TIME_EPOCH:
        written.len = when_write_epoch(&w, text);
        break;
    case RECIPE_TIME_EPOCH_MS:
        written.len = when_write_epoch_ms(&w, text);
        break;
    }
    f->type = s->time.output == RECIPE_TIME_RFC3339 ? FIELD_TEXT : FIELD_NUMBER;
    return arena_copy(&r->scratch->fields.arena, written, &f->value) ? 0 : -EMSGSIZE;
}

static bool is_among(struct slice name, const struct slice *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal(names[i], name))
            return true;
    return false;
}

/* All at once, so that two fields can change their names.  A field that has such a name already, and
 * keeps it, gives way: the one that was renamed is meant. */
static void rename_all(struct recipe *r)
{
    const struct recipe_settings *s = &r->settings;
    struct fields *f = &r->scratch->fields;

    for (size_t i = 0; i < f->count; i++)
        for (size_t n = 0; n < s->rename_count; n++)
            if (slice_equal(f->items[i].name, s->rename[n].from)) {
                f->items[i].name = s->rename[n].to;
                break;
            }
    for (size_t n = 0; n < s->rename_count; n++) {
        struct slice to = s->rename[n].to;
        bool given = false;

        for (size_t i = 0; i < f->count; i++)
            given = given || f->items[i].name.ptr == to.ptr;
        for (size_t i = f->count; given && i-- > 0;)
            if (f->items[i].name.ptr != to.ptr && slice_equal(f->items[i].name, to))
                fields_remove(f, &f->items[i]);
    }
}

static void rename_and_remove(struct recipe *r)
{
    const struct recipe_settings *s = &r->settings;
    struct fields *f = &r->scratch->fields;

    rename_all(r);
    if (s->remove_count == 0 && s->keep_count == 0)
        return;
    for (size_t i = 0; i < f->count;) {
        if (is_among(f->items[i].name, s->remove, s->remove_count) ||
            (s->keep_count > 0 && !is_among(f->items[i].name, s->keep, s->keep_count)))
            fields_remove(f, &f->items[i]);
        else
            i++;
    }
}

static int add_one(struct recipe *r, const struct recipe_addition *a,
                   const struct template_place *place)
{
    struct slice value;
    int e;

    if (a->text == NULL) {
        enum field_type type = slice_equal(a->literal, SLICE("true"))    ? FIELD_TRUE
                               : slice_equal(a->literal, SLICE("false")) ? FIELD_FALSE
                                                                         : FIELD_NUMBER;
        return fields_set(&r->scratch->fields, a->name, a->literal, type);
    }
    if (!template_is_constant(a->text, &value)) {
        buf_reset(&r->scratch->out); /* is not in use yet */
        e = template_append(a->text, place, &r->scratch->out);
        if (e < 0)
            return e;
        if (!arena_copy(&r->scratch->fields.arena, buf_slice(&r->scratch->out), &value))
            return -EMSGSIZE;
    }
    return fields_set(&r->scratch->fields, a->name, value, FIELD_TEXT);
}

static int add_all(struct recipe *r, const struct template_place *place)
{
    int e = 0;

    for (size_t i = 0; i < r->settings.add_count && e == 0; i++)
        e = add_one(r, &r->settings.add[i], place);
    return e;
}

/* --- writing it out --- */

static int write_json(struct recipe *r, struct recipe_result *ret)
{
    int e;

    buf_reset(&r->scratch->out);
    e = fields_append_json(&r->scratch->out, &r->scratch->fields);
    if (e == 0 && r->settings.newline)
        e = buf_append_char(&r->scratch->out, '\n');
    ret->record = buf_slice(&r->scratch->out);
    ret->json = e == 0;
    return e;
}

/* The text itself is the record. */
static int write_text(struct recipe *r, struct slice text, bool has_newline,
                      struct recipe_result *ret)
{
    int e;

    ret->record = text;
    if (!r->settings.newline)
        return 0;
    if (has_newline) {
        ret->record.len++;
        return 0;
    }
    buf_reset(&r->scratch->out);
    e = buf_append(&r->scratch->out, text);
    if (e == 0)
        e = buf_append_char(&r->scratch->out, '\n');
    ret->record = buf_slice(&r->scratch->out);
    return e;
}

static int write_tagged(struct recipe *r, const struct recipe_event *e, struct recipe_result *ret)
{
    int x;

    r->scratch->fields.count = 0; /* the reason may lie in the arena */
    x = fields_add(&r->scratch->fields, SLICE("message"), split_without_return(ret->text),
                   FIELD_TEXT);
    if (x == 0)
        x = fields_add(&r->scratch->fields, SLICE("parse_error"), slice_of(ret->mismatch),
                       FIELD_TEXT);
    if (x == 0)
        x = add_all(r, &e->place);
    return x < 0 ? x : write_json(r, ret);
}

static int mismatch(struct recipe *r, const struct recipe_event *e, bool has_newline,
                    struct recipe_result *ret)
{
    switch (r->settings.on_mismatch) {
    case RECIPE_MISMATCH_RAW:
        break;
    case RECIPE_MISMATCH_TAG:
        return write_tagged(r, e, ret);
    case RECIPE_MISMATCH_DROP:
        ret->verdict = RECIPE_DROP;
        ret->drop = RECIPE_MISMATCHED;
        ret->reason = ret->mismatch;
        break;
    case RECIPE_MISMATCH_DEAD:
        ret->verdict = RECIPE_DEAD;
        ret->reason = ret->mismatch;
        break;
    }
    return write_text(r, ret->text, has_newline, ret);
}

/* Takes the text apart and shapes what is found.  1; 0: it does not match; -errno. */
static int find_fields(struct recipe *r, const struct recipe_event *e, struct recipe_result *ret)
{
    const struct recipe_settings *s = &r->settings;
    struct parse_settings parse = s->parse;
    int x = 1;

    fields_reset(&r->scratch->fields);
    if (parse.names.count == 0)
        parse.names = e->header;
    if (s->format != PARSE_NONE)
        x = parse_event(s->format, &parse, ret->text, &r->scratch->fields, &ret->mismatch);
    else if (s->json)
        x = fields_add(&r->scratch->fields, SLICE("message"), split_without_return(ret->text),
                       FIELD_TEXT) < 0
                ? -ENOMEM
                : 1;
    if (x <= 0)
        return x;
    x = redact_values(r, ret->text);
    if (x == -ETIME || x == -EMSGSIZE) {
        set_aside(ret, x);
        return 0;
    }
    if (x == 0)
        x = set_types(r);
    if (x == 0)
        x = set_time(r, e, ret);
    if (x == 0) {
        rename_and_remove(r);
        x = add_all(r, &e->place);
    }
    return x < 0 ? x : 1;
}

/* What a container printed, without what the kubelet has written before it. */
static int write_message(struct recipe *r, struct recipe_result *ret)
{
    const struct field *message = fields_find(&r->scratch->fields, SLICE("message"));

    return write_text(r, message != NULL ? message->value : ret->text, false, ret);
}

static int shape(struct recipe *r, const struct recipe_event *e, bool has_newline,
                 struct recipe_result *ret)
{
    const struct recipe_settings *s = &r->settings;
    int x = find_fields(r, e, ret);

    if (ret->verdict == RECIPE_DEAD)
        return 0;
    if (x > 0) {
        ret->fields = s->format != PARSE_NONE || s->json ? &r->scratch->fields : NULL;
        x = s->json                  ? write_json(r, ret)
            : s->format == PARSE_CRI ? write_message(r, ret)
                                     : write_text(r, ret->text, has_newline, ret);
        if (x == 0)
            return 0;
    }
    if (x == -ENOMEM)
        return x;
    ret->gave_up = ret->gave_up || x == -ETIME;
    if (x < 0)
        ret->mismatch = x == -ETIME ? too_hard : too_large;
    ret->fields = NULL;
    x = mismatch(r, e, has_newline, ret);
    if (x == -EMSGSIZE)
        x = write_text(r, ret->text, has_newline, ret);
    return x;
}

/* The chain sees the record as it stands in the file, newline and all. */
static int convert(struct recipe *r, const struct recipe_event *e, bool has_newline,
                   struct recipe_result *ret)
{
    struct slice record = ret->text;
    int x;

    if (has_newline) {
        record.len++;
    } else if (e->keep_newline) {
        buf_reset(&r->scratch->out);
        x = buf_append(&r->scratch->out, record);
        if (x == 0)
            x = buf_append_char(&r->scratch->out, '\n');
        if (x < 0)
            return x;
        record = buf_slice(&r->scratch->out);
    }
    x = java_chain_convert(r->settings.convert, record, e->java, &ret->record);
    if (x == -ETIME || x == -EMSGSIZE) {
        ret->record = record;
        ret->gave_up = x == -ETIME;
        ret->mismatch = x == -ETIME ? too_hard : too_large;
        return 0;
    }
    if (x < 0)
        return x;
    if (x == JAVA_DROP) {
        ret->verdict = RECIPE_DROP;
        ret->drop = RECIPE_CONVERTED;
        ret->reason = "was given no result by a conversion";
    } else if (x == JAVA_RAW) {
        ret->record = record;
        ret->mismatch = "could not be converted and goes as it is";
    }
    return 0;
}

int recipe_make(struct recipe *r, const struct recipe_event *e, struct recipe_result *ret)
{
    bool has_newline = e->has_newline;
    int x;

    *ret = (struct recipe_result){.verdict = RECIPE_SEND, .text = e->text, .record = e->text};
    if (!is_wanted(&r->settings, e->text, ret)) {
        ret->verdict = RECIPE_DROP;
        return 0;
    }
    x = redact(r, r->scratch->redacted, e->text, &ret->text);
    if (x == -ETIME || x == -EMSGSIZE) {
        set_aside(ret, x);
        return 0;
    }
    if (x < 0)
        return x;
    has_newline = has_newline && ret->text.ptr == e->text.ptr;
    return r->settings.convert != NULL ? convert(r, e, has_newline, ret)
                                       : shape(r, e, has_newline, ret);
}

bool recipe_rewrites(const struct recipe *r)
{
    return r->settings.redact_count > 0 || r->settings.convert != NULL;
}

/* The longest beginning of `text` whose JSON string has at most `max` bytes, quotes included. */
static size_t cut_for_json(struct slice text, size_t max)
{
    size_t low = 0, high = text.len;

    while (low < high) {
        size_t middle = high - (high - low) / 2;

        if (json_string_size(slice_first(text, utf8_cut(text, middle))) <= max)
            low = middle;
        else
            high = middle - 1;
    }
    return utf8_cut(text, low);
}

int recipe_shorten(struct recipe *r, size_t excess, struct slice suffix, struct slice *ret)
{
    struct recipe_result result;
    struct field *longest = NULL;
    size_t max, shown;
    char *p;

    for (size_t i = 0; i < r->scratch->fields.count; i++) {
        struct field *f = &r->scratch->fields.items[i];

        if (f->type == FIELD_TEXT && (longest == NULL || f->value.len > longest->value.len))
            longest = f;
    }
    if (longest == NULL || (longest->value.len <= suffix.len && excess > 0))
        return -EMSGSIZE;
    max = json_string_size(longest->value);
    excess += json_string_size(suffix) - 2; /* without its quotes */
    shown = max > excess ? cut_for_json(longest->value, max - excess) : 0;
    p = arena_take(&r->scratch->fields.arena, shown + suffix.len);
    if (p == NULL)
        return -EMSGSIZE;
    if (shown > 0)
        memcpy(p, longest->value.ptr, shown);
    if (suffix.len > 0)
        memcpy(p + shown, suffix.ptr, suffix.len);
    longest->value = (struct slice){p, shown + suffix.len};
    if (write_json(r, &result) < 0)
        return -EMSGSIZE;
    *ret = result.record;
    return 0;
}
