/* recipe: what becomes of an event, as a table of settings, and of what each makes of some lines.
 *
 * Every event is a copy of just its size, so that the sanitizers see who looks behind it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "buf.h"
#include "record/fields.h"
#include "record/pattern.h"
#include "record/recipe.h"
#include "record/when.h"
#include "util.h"

enum { RECORD_MAX = 2000, LINES = 8 };

static const struct story {
    const char *name;
    const char *include[2], *drop[2], *redact[4]; /* pattern, replacement, … */
    enum parse_format format;
    const char *regex, *names[4]; /* of csv */
    enum recipe_mismatch on_mismatch;
    struct {
        const char *name;
        enum recipe_type type;
    } types[3];
    const char *time_field, *time_format;
    enum recipe_time time_output;
    const char *rename[6], *remove[3], *keep[3]; /* from, to, … */
    const char *add[6];                          /* name, text, … */
    const char *literal[2];
    bool json, newline;
    const char
        *lines[LINES][2]; /* a line with its newline, if it has one, and what becomes of it */
} stories[] = {
    {.name = "nothing",
     .lines = {{"a\n", "a"}, {"a", "a"}, {"a\r\n", "a\r"}, {"\n", ""}, {"", ""}}},
    {.name = "newline",
     .newline = true,
     .lines = {{"a\n", "a\n"}, {"a", "a\n"}, {"a\r\n", "a\r\n"}, {"\n", "\n"}, {"", "\n"}}},
    {.name = "a text as JSON",
     .json = true,
     .newline = true,
     .lines = {{"a \"b\"\r\n", "{\"message\":\"a \\\"b\\\"\"}\n"},
               {"", "{\"message\":\"\"}\n"},
               {"\xff\n", "{\"message\":\"\xef\xbf\xbd\"}\n"}}},

    {.name = "include",
     .include = {"b$", "^c"},
     .lines = {{"ab\n", "ab"},
               {"ab\r\n", "ab\r"},
               {"cd\n", "cd"},
               {"d\n", "drop include"},
               {"", "drop include"}}},
    {.name = "drop",
     .drop = {"b$", "^c"},
     .lines = {{"ab\r\n", "drop drop"}, {"c", "drop drop"}, {"d\n", "d"}}},
    {.name = "both",
     .include = {"a"},
     .drop = {"b"},
     .lines = {{"a\n", "a"}, {"ab\n", "drop drop"}, {"b\n", "drop include"}}},
    {.name = "filters see what is not redacted",
     .drop = {"secret"},
     .redact = {"secret", "x"},
     .lines = {{"a secret\n", "drop drop"}}},

    {.name = "redact",
     .redact = {"(\\d)\\d+", "$1*", "\\*$", "!"},
     .newline = true,
     .lines = {{"a 123 456\n", "a 1* 4!\n"},
               {"a 123 456\r\n", "a 1* 4!\r\n"},
               {"a\r\n", "a\r\n"},
               {"123", "1!\n"}}},
    {.name = "all is redacted",
     .redact = {".+", ""},
     .lines = {{"abc\n", ""}, {"\n", ""}, {"abc\r\n", "\r"}}},
    {.name = "all is redacted, JSON",
     .redact = {".+", ""},
     .json = true,
     .lines = {{"abc\r\n", "{\"message\":\"\"}"}}},
    {.name = "what is parsed is redacted",
     .redact = {"\"p\":\"[^\"]*\"", "\"p\":\"*\""},
     .format = PARSE_JSON,
     .json = true,
     .lines = {{"{\"p\":\"secret\",\"q\":1}\n", "{\"p\":\"*\",\"q\":1}"}}},

    {.name = "what does not match goes as it is",
     .format = PARSE_JSON,
     .json = true,
     .newline = true,
     .lines =
         {{"{\"a\": 1}\n", "{\"a\":1}\n"}, {"a\n", "a\n"}, {"a\r\n", "a\r\n"}, {"{\n", "{\n"}}},
    {.name = "… is dropped",
     .format = PARSE_JSON,
     .json = true,
     .on_mismatch = RECIPE_MISMATCH_DROP,
     .lines = {{"{}\n", "{}"}, {"a\n", "drop mismatch"}}},
    {.name = "… is dead",
     .format = PARSE_JSON,
     .json = true,
     .on_mismatch = RECIPE_MISMATCH_DEAD,
     .lines = {{"{}\n", "{}"}, {"a\r\n", "dead a\r"}}},
    {.name = "… is tagged",
     .format = PARSE_LOGFMT,
     .json = true,
     .newline = true,
     .on_mismatch = RECIPE_MISMATCH_TAG,
     .add = {"file", "${file}"},
     .lines = {{"a=1\n", "{\"a\":\"1\",\"file\":\"/a.log\"}\n"},
               {"a=\"\r\n", "{\"message\":\"a=\\\"\",\"parse_error\":\"has no closing quote\","
                            "\"file\":\"/a.log\"}\n"}}},
    {.name = "parsed, but raw",
     .format = PARSE_JSON,
     .newline = true,
     .lines = {{"{\"a\": 1}\n", "{\"a\": 1}\n"}, {"{\"a\": 1}", "{\"a\": 1}\n"}}},

    {.name = "a pattern's groups",
     .format = PARSE_REGEX,
     .regex = "^(?<who>\\w+) (?<n>\\d+)$",
     .json = true,
     .types = {{"n", RECIPE_INTEGER}, {"none", RECIPE_INTEGER}},
     .lines = {{"bob 007\r\n", "{\"who\":\"bob\",\"n\":7}"}, {"bob\n", "bob"}}},
    {.name = "csv by its settings, or by the header",
     .format = PARSE_CSV,
     .names = {"a", "b"},
     .json = true,
     .lines = {{"1,\"2\n3\"\n", "{\"a\":\"1\",\"b\":\"2\\n3\"}"}}},
    {.name = "csv by its header",
     .format = PARSE_CSV,
     .json = true,
     .lines = {{"1,2\n", "{\"h1\":\"1\",\"h2\":\"2\"}"}}},
    {.name = "containers: the message",
     .format = PARSE_CRI,
     .newline = true,
     .lines = {{"2016-10-06T00:17:09.6Z stdout F a\n", "a\n"},
               {"a\n", "a\n"},
               {"2016-10-06T00:17:09.6Z stdout F \n", "\n"}}},

    {.name = "time",
     .format = PARSE_JSON,
     .json = true,
     .time_field = "t",
     .time_format = "%Y-%m-%d %H:%M:%S",
     .lines = {{"{\"t\":\"2023-11-14 22:13:20\"}\n", "{\"t\":\"2023-11-14T22:13:20Z\"}"},
               {"{\"t\":\"now\"}\n", "{\"t\":\"now\"} time"},
               {"{\"t\":null}\n", "{\"t\":null}"},
               {"{\"t\":true}\n", "{\"t\":true} time"},
               {"{}\n", "{}"}}},
    {.name = "time, in seconds",
     .format = PARSE_JSON,
     .json = true,
     .time_field = "t",
     .time_format = "%Y-%m-%d %H:%M:%S",
     .time_output = RECIPE_TIME_EPOCH,
     .lines = {{"{\"t\":\"2023-11-14 22:13:20\"}\n", "{\"t\":1700000000}"}}},
    {.name = "time, in milliseconds",
     .format = PARSE_JSON,
     .json = true,
     .time_field = "t",
     .time_format = "%Y-%m-%d %H:%M:%S",
     .time_output = RECIPE_TIME_EPOCH_MS,
     .lines = {{"{\"t\":\"2023-11-14 22:13:20\"}\n", "{\"t\":1700000000000}"}}},

    {.name = "rename, remove",
     .format = PARSE_JSON,
     .json = true,
     .rename = {"a", "x", "b", "c"},
     .remove = {"d"},
     .lines = {{"{\"a\":1,\"b\":2,\"c\":3,\"d\":4}\n", "{\"x\":1,\"c\":2}"},
               {"{\"c\":3,\"b\":2}\n", "{\"c\":2}"},
               {"{\"c\":3}\n", "{\"c\":3}"}}},
    {.name = "what escapes had hidden is redacted, too",
     .format = PARSE_JSON,
     .json = true,
     .redact = {"pass=\\w+", "***"},
     .lines = {{"{\"m\":\"a pass\\u003dx b\",\"n\":1}\n", "{\"m\":\"a *** b\",\"n\":1}"},
               {"{\"o\":{\"m\":\"pass\\u003dx\"}}\n",
                "{\"o\":\"{\\\"m\\\":\\\"***\\\"}\"}"},
               {"{\"m\":\"pass=x\"}\n", "{\"m\":\"***\"}"}}},
    {.name = "two fields change their names",
     .format = PARSE_JSON,
     .json = true,
     .rename = {"a", "b", "b", "a"},
     .lines = {{"{\"a\":1,\"b\":2}\n", "{\"b\":1,\"a\":2}"},
               {"{\"b\":2,\"c\":3}\n", "{\"a\":2,\"c\":3}"}}},
    {.name = "a field renamed to itself",
     .format = PARSE_JSON,
     .json = true,
     .rename = {"a", "a"},
     .lines = {{"{\"a\":1}\n", "{\"a\":1}"}}},
    {.name = "keep, by the new name",
     .format = PARSE_JSON,
     .json = true,
     .rename = {"a", "x"},
     .keep = {"x", "c"},
     .lines = {{"{\"a\":1,\"b\":2,\"c\":3}\n", "{\"x\":1,\"c\":3}"}, {"{\"b\":1}\n", "{}"}}},
    {.name = "add",
     .format = PARSE_JSON,
     .json = true,
     .add = {"b", "x", "at", "${file}:${offset}"},
     .literal = {"n", "1.5"},
     .lines = {{"{\"a\":1,\"b\":2}\n", "{\"a\":1,\"b\":\"x\",\"at\":\"/a.log:7\",\"n\":1.5}"},
               {"x\n", "x"}}},
    {.name = "add to a text",
     .json = true,
     .add = {"host", "${HOSTNAME}"},
     .literal = {"ok", "true"},
     .lines = {{"a\n", "{\"message\":\"a\",\"host\":\"web1\",\"ok\":true}"}}},
};

static struct pattern *pattern_of(const char *text)
{
    struct pattern_error e;
    struct pattern *p;

    assert_int_equal(pattern_new(slice_of(text), 0, &p, &e), 0);
    return p;
}

/* Everything that a story's settings are made of. */
struct kitchen {
    struct recipe_settings settings;
    struct pattern *include[2], *drop[2];
    struct recipe_redact redact[2];
    struct recipe_typed types[3];
    struct recipe_rename rename[3];
    struct slice names[4], keep[3], remove[3];
    struct recipe_addition add[4];
    struct when_format *when;
    struct recipe *recipe;
};

static size_t slices(const char *const *texts, size_t max, struct slice *ret)
{
    size_t n = 0;

    for (; n < max && texts[n] != NULL; n++)
        ret[n] = slice_of(texts[n]);
    return n;
}

static void open_kitchen(struct kitchen *k, const struct story *s)
{
    static const struct template_world world = {SLICE("web1"), SLICE("flow"), NULL};
    struct recipe_settings *r = &k->settings;
    struct pattern_error pe;
    struct when_error we;
    char why[TEMPLATE_WHY_SIZE];

    *k = (struct kitchen){0};
    for (; r->include_count < 2 && s->include[r->include_count] != NULL; r->include_count++)
        k->include[r->include_count] = pattern_of(s->include[r->include_count]);
    for (; r->drop_count < 2 && s->drop[r->drop_count] != NULL; r->drop_count++)
        k->drop[r->drop_count] = pattern_of(s->drop[r->drop_count]);
    for (size_t *n = &r->redact_count; *n < 2 && s->redact[2 * *n] != NULL; ++*n) {
        k->redact[*n].pattern = pattern_of(s->redact[2 * *n]);
        assert_int_equal(replacement_new(k->redact[*n].pattern, slice_of(s->redact[2 * *n + 1]),
                                         &k->redact[*n].with, &pe),
                         0);
    }
    for (size_t *n = &r->type_count; *n < 3 && s->types[*n].name != NULL; ++*n)
        k->types[*n] = (struct recipe_typed){slice_of(s->types[*n].name), s->types[*n].type};
    for (size_t *n = &r->rename_count; *n < 3 && s->rename[2 * *n] != NULL; ++*n)
        k->rename[*n] =
            (struct recipe_rename){slice_of(s->rename[2 * *n]), slice_of(s->rename[2 * *n + 1])};
    for (size_t *n = &r->add_count; *n < 3 && s->add[2 * *n] != NULL; ++*n) {
        k->add[*n].name = slice_of(s->add[2 * *n]);
        assert_int_equal(template_new(slice_of(s->add[2 * *n + 1]), &world, &k->add[*n].text, why),
                         0);
    }
    if (s->literal[0] != NULL)
        k->add[r->add_count++] = (struct recipe_addition){.name = slice_of(s->literal[0]),
                                                          .literal = slice_of(s->literal[1])};
    r->keep_count = slices(s->keep, 3, k->keep);
    r->remove_count = slices(s->remove, 3, k->remove);
    r->parse.names = (struct parse_names){k->names, slices(s->names, 4, k->names)};
    r->parse.delimiter = ',';
    r->parse.pattern = s->regex != NULL ? pattern_of(s->regex) : NULL;
    if (s->time_field != NULL) {
        assert_int_equal(when_format_new(slice_of(s->time_format), NULL, &k->when, &we), 0);
        r->time.field = slice_of(s->time_field);
        r->time.format = k->when;
        r->time.output = s->time_output;
    }
    r->include = k->include;
    r->drop = k->drop;
    r->redact = k->redact;
    r->format = s->format;
    r->on_mismatch = s->on_mismatch;
    r->types = k->types;
    r->rename = k->rename;
    r->keep = k->keep;
    r->remove = k->remove;
    r->add = k->add;
    r->json = s->json;
    r->newline = s->newline;
    r->record_max = RECORD_MAX;
    assert_int_equal(recipe_new(r, &k->recipe), 0);
}

static void close_kitchen(struct kitchen *k)
{
    recipe_free(k->recipe);
    for (size_t i = 0; i < 2; i++) {
        pattern_free(k->include[i]);
        pattern_free(k->drop[i]);
        pattern_free(k->redact[i].pattern);
        replacement_free(k->redact[i].with);
    }
    for (size_t i = 0; i < 4; i++)
        template_free(k->add[i].text);
    pattern_free(k->settings.parse.pattern);
    when_format_free(k->when);
}

/* What becomes of a line, in words. */
static void make(struct kitchen *k, struct slice line, struct buf *to)
{
    static const struct slice header[] = {SLICE("h1"), SLICE("h2")};
    char *copy = malloc(MAX(line.len, (size_t)1));
    bool has_newline = slice_ends_with(line, SLICE("\n"));
    struct recipe_event e = {.text = {copy, line.len - has_newline},
                             .has_newline = has_newline,
                             .keep_newline = has_newline,
                             .place = {.file = SLICE("/a.log"), .offset = 7},
                             .header = {header, ARRAY_LEN(header)}};
    struct recipe_result r;

    assert_non_null(copy);
    if (line.len > 0)
        memcpy(copy, line.ptr, line.len);
    buf_reset(to);
    assert_int_equal(recipe_make(k->recipe, &e, &r), 0);
    assert_true((r.verdict == RECIPE_SEND) == (r.reason == NULL));
    assert_true((r.verdict == RECIPE_DROP) == (r.drop != RECIPE_NOT_DROPPED));
    if (r.verdict == RECIPE_DROP) {
        assert_int_equal(buf_printf(to, "drop %s", recipe_drop_name(r.drop)), 0);
    } else {
        if (r.verdict == RECIPE_DEAD)
            assert_int_equal(buf_append(to, SLICE("dead ")), 0);
        assert_int_equal(buf_append(to, r.record), 0);
        if (r.time_mismatch)
            assert_int_equal(buf_append(to, SLICE(" time")), 0);
    }
    free(copy);
}

static void stories_are_told(void **state)
{
    struct buf is;

    (void)state;
    buf_init(&is, 100 * RECORD_MAX);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        struct kitchen k;

        open_kitchen(&k, s);
        for (int round = 0; round < 2; round++) /* nothing is left over from the lines before */
            for (size_t n = 0; n < LINES && s->lines[n][0] != NULL; n++) {
                make(&k, slice_of(s->lines[n][0]), &is);
                if (!slice_equal(buf_slice(&is), slice_of(s->lines[n][1])))
                    fail_msg("%s: '%s' becomes '%.*s', not '%s'", s->name, s->lines[n][0],
                             SLICE_ARG(buf_slice(&is)), s->lines[n][1]);
            }
        close_kitchen(&k);
    }
    buf_done(&is);
}

/* What a pattern gives up on (OWASP: Java class names). */
#define EVIL "(([a-z])+.)+[A-Z]([a-z])+$"
#define HARD "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void what_is_too_hard(void **state)
{
    static const struct story filters = {.include = {EVIL}, .drop = {EVIL}};
    static const struct story redacts = {.redact = {EVIL, "x"}, .format = PARSE_JSON, .json = true};
    static const struct story parses = {
        .format = PARSE_REGEX, .regex = "^(?<all>" EVIL ")", .json = true};
    struct recipe_event e = {.text = SLICE(HARD)};
    struct recipe_result r;
    struct kitchen k;

    (void)state;
    open_kitchen(&k, &filters); /* a filter does not filter */
    assert_int_equal(recipe_make(k.recipe, &e, &r), 0);
    assert_true(r.verdict == RECIPE_SEND && r.gave_up && slice_equal(r.record, SLICE(HARD)));
    close_kitchen(&k);

    open_kitchen(&k, &redacts); /* what should be hidden is not sent */
    assert_int_equal(recipe_make(k.recipe, &e, &r), 0);
    assert_true(r.verdict == RECIPE_DEAD && r.gave_up && r.reason != NULL);
    assert_true(recipe_rewrites(k.recipe));
    close_kitchen(&k);

    open_kitchen(&k, &parses);
    assert_int_equal(recipe_make(k.recipe, &e, &r), 0);
    assert_true(r.verdict == RECIPE_SEND && r.gave_up && r.mismatch != NULL && r.fields == NULL);
    assert_true(slice_equal(r.record, SLICE(HARD)));
    assert_false(recipe_rewrites(k.recipe));
    close_kitchen(&k);
}

static void a_record_is_shortened(void **state)
{
    static const struct story s = {.format = PARSE_JSON, .json = true, .newline = true};
    struct recipe_event e = {
        .text = SLICE("{\"a\":\"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4\",\"b\":\"12345\","
                      "\"c\":1}")};
    struct recipe_result r;
    struct slice record;
    struct kitchen k;

    (void)state;
    open_kitchen(&k, &s);
    assert_int_equal(recipe_make(k.recipe, &e, &r), 0);
    assert_int_equal(recipe_shorten(k.recipe, 3, SLICE("."), &record), 0);
    assert_true(slice_equal(
        record, SLICE("{\"a\":\"\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4.\",\"b\":\"12345\",\"c\":1}\n")));
    assert_int_equal(recipe_shorten(k.recipe, 99, SLICE("\n"), &record), 0);
    assert_true(slice_equal(record, SLICE("{\"a\":\"\\n\",\"b\":\"12345\",\"c\":1}\n")));
    assert_int_equal(recipe_shorten(k.recipe, 1, SLICE(""), &record), 0);
    assert_true(slice_equal(record, SLICE("{\"a\":\"\\n\",\"b\":\"1234\",\"c\":1}\n")));
    assert_int_equal(recipe_shorten(k.recipe, 99, SLICE(""), &record), 0);
    assert_int_equal(recipe_shorten(k.recipe, 99, SLICE(""), &record), 0);
    assert_true(slice_equal(record, SLICE("{\"a\":\"\",\"b\":\"\",\"c\":1}\n")));
    assert_int_equal(recipe_shorten(k.recipe, 1, SLICE(""), &record), -EMSGSIZE);
    close_kitchen(&k);
}

/* More fields than there may be, or more memory: the line goes as one that does not match. */
static void what_is_too_large(void **state)
{
    static const struct story tag = {
        .format = PARSE_LOGFMT, .json = true, .on_mismatch = RECIPE_MISMATCH_TAG};
    static const struct story redact = {.redact = {".", "0123456789"}};
    static char text[8 * (FIELDS_MAX + 1)];
    struct recipe_event e = {.text = {text, 0}};
    struct recipe_result r;
    struct kitchen k;

    (void)state;
    open_kitchen(&k, &redact);
    memset(text, 'x', RECORD_MAX);
    e.text.len = RECORD_MAX;
    assert_int_equal(recipe_make(k.recipe, &e, &r), 0);
    assert_true(r.verdict == RECIPE_DEAD && r.reason != NULL);
    close_kitchen(&k);

    open_kitchen(&k, &tag);
    e.text.len = 0; /* "k=1 k=1 ...": one column more than there may be */
    for (size_t i = 0; i <= FIELDS_MAX; i++)
        e.text.len += (size_t)snprintf(text + e.text.len, 8, "%zx=1 ", i);
    assert_int_equal(recipe_make(k.recipe, &e, &r), 0);
    assert_true(r.verdict == RECIPE_SEND && r.mismatch != NULL && r.json);
    close_kitchen(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories_are_told),
        cmocka_unit_test(what_is_too_hard),
        cmocka_unit_test(a_record_is_shortened),
        cmocka_unit_test(what_is_too_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
