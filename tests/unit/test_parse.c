/* parse: for each format what real logs contain, good and odd, and what is no line of it.
 *
 * The stories stand in tests/data/parse/, one file for each format, as they are in a log:
 *
 *     # why this line is here
 *     = names a,b,c             for what follows: names of columns ...
 *     = delimiter ;             ... and what stands between them
 *     < the line                another < : the event has another line
 *     > {"the":"fields"}        or
 *     ! has no closing quote    why it does not match
 */
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
#include "counted_malloc.h"
#include "record/fields.h"
#include "record/parse.h"
#include "record/pattern.h"
#include "record/split.h"
#include "util.h"

enum { ARENA_MAX = 1 << 20, FILE_MAX = 1 << 20, NAMES_MAX = 8, STORIES_MIN = 20 };

struct reader {
    struct parse_settings settings;
    struct slice names[NAMES_MAX];
    char names_text[200];
    struct buf event; /* the lines so far */
    bool has_event;
    struct fields fields;
};

static void read_names(struct reader *r, struct slice text)
{
    size_t count = 0;

    assert_true(text.len < sizeof r->names_text);
    memcpy(r->names_text, text.ptr, text.len);
    r->names_text[text.len] = '\0';
    for (const char *p = r->names_text; *p != '\0' && count < NAMES_MAX; count++) {
        size_t len = strcspn(p, ",");

        r->names[count] = (struct slice){p, len};
        p += p[len] == ',' ? len + 1 : len;
    }
    r->settings.names = (struct parse_names){r->names, count};
}

/* What becomes of an event: `> ` and an object, or `! ` and a sentence. */
static void parse_to(enum parse_format format, struct reader *r, struct slice event, struct buf *to)
{
    const char *why = NULL;
    char *copy = malloc(MAX(event.len, (size_t)1)); /* of just its size, for the sanitizer */
    int code;

    assert_non_null(copy);
    memcpy(copy, event.ptr, event.len);
    fields_reset(&r->fields);
    buf_reset(to);
    code = parse_event(format, &r->settings, (struct slice){copy, event.len}, &r->fields, &why);
    assert_int_equal(buf_append(to, code == 1 ? SLICE("> ") : SLICE("! ")), 0);
    if (code == 1)
        assert_int_equal(fields_append_json(to, &r->fields), 0);
    else if (code == 0)
        assert_int_equal(buf_append(to, slice_of(why)), 0);
    else
        assert_int_equal(buf_printf(to, "%d", code), 0);
    free(copy);
}

/* The event, and once more as Windows ends it. */
static void tell(enum parse_format format, struct reader *r, struct slice expected)
{
    struct buf is;

    assert_true(r->has_event);
    buf_init(&is, ARENA_MAX);
    for (int i = 0; i < 2; i++) {
        parse_to(format, r, buf_slice(&r->event), &is);
        if (!slice_equal(buf_slice(&is), expected))
            fail_msg("%.*s\n%.*s\nnot:\n%.*s", SLICE_ARG(buf_slice(&r->event)),
                     SLICE_ARG(buf_slice(&is)), SLICE_ARG(expected));
        assert_int_equal(buf_append_char(&r->event, '\r'), 0);
    }
    buf_done(&is);
    buf_reset(&r->event);
    r->has_event = false;
}

static struct slice read_file(const char *name, char *room)
{
    char path[100];
    size_t len;
    FILE *f;

    (void)snprintf(path, sizeof path, "tests/data/parse/%s", name);
    f = fopen(path, "re");
    if (f == NULL)
        fail_msg("%s: %s", path, strerror(errno));
    len = fread(room, 1, FILE_MAX, f);
    assert_true(len < FILE_MAX);
    (void)fclose(f);
    return (struct slice){room, len};
}

static void tell_file(enum parse_format format, const char *name)
{
    static char room[FILE_MAX];
    struct slice in = read_file(name, room), line;
    struct reader r = {0};
    size_t matches = 0, others = 0;

    fields_init(&r.fields, ARENA_MAX);
    buf_init(&r.event, FILE_MAX);
    while (split_next(&in, &line)) {
        struct slice text = line.len > 2 ? slice_from(line, 2) : SLICE("");

        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        if (line.ptr[0] == '<') {
            if (r.has_event)
                assert_int_equal(buf_append_char(&r.event, '\n'), 0);
            assert_int_equal(buf_append(&r.event, text), 0);
            r.has_event = true;
        } else if (slice_starts_with(line, SLICE("= names "))) {
            read_names(&r, slice_from(line, strlen("= names ")));
        } else if (slice_starts_with(line, SLICE("= delimiter "))) {
            r.settings.delimiter = line.ptr[strlen("= delimiter ")];
        } else {
            tell(format, &r, line);
            matches += line.ptr[0] == '>';
            others += line.ptr[0] == '!';
        }
    }
    assert_int_equal(in.len, 0);
    assert_false(r.has_event);
    assert_true(matches >= STORIES_MIN);
    assert_true(others > 0);
    buf_done(&r.event);
    fields_done(&r.fields);
}

#define STORIES(format, name)                                                                      \
    static void name##_is_read(void **state)                                                       \
    {                                                                                              \
        (void)state;                                                                               \
        tell_file(format, #name);                                                                  \
    }

STORIES(PARSE_COMBINED, combined)
STORIES(PARSE_COMMON, common)
STORIES(PARSE_APACHE_ERROR, apache_error)
STORIES(PARSE_SYSLOG, syslog)
STORIES(PARSE_RFC3164, rfc3164)
STORIES(PARSE_RFC5424, rfc5424)
STORIES(PARSE_RFC3339_SYSLOG, rfc3339_syslog)
STORIES(PARSE_JSON, json)
STORIES(PARSE_CSV, csv)
STORIES(PARSE_LOGFMT, logfmt)
STORIES(PARSE_CRI, cri)

/* -- what no text file can hold, and what is too large for one ---------------------------------- */

static void expect(enum parse_format format, const struct parse_settings *s, struct slice event,
                   const char *is)
{
    struct reader r = {.settings = s == NULL ? (struct parse_settings){0} : *s};
    struct buf told;

    fields_init(&r.fields, ARENA_MAX);
    buf_init(&told, 8 * ARENA_MAX);
    parse_to(format, &r, event, &told);
    if (!slice_equal(buf_slice(&told), slice_of(is)))
        fail_msg("%.*s\nnot:\n%s", SLICE_ARG(slice_first(buf_slice(&told), 1000)), is);
    buf_done(&told);
    fields_done(&r.fields);
}

static void any_byte_may_come(void **state)
{
    const struct slice names[] = {SLICE("a"), SLICE("b")};
    const struct parse_settings csv = {.names = {names, 2}};

    (void)state;
    expect(PARSE_NONE, NULL, SLICE("anything"), "> {}");
    expect(
        PARSE_COMMON, NULL, SLICE("h - \xff\0 [d] \"GET /\0\xe4\x16\" 200 1"),
        "> {\"host\":\"h\",\"ident\":null,\"authuser\":\"\xef\xbf\xbd\\u0000\",\"datetime\":\"d\","
        "\"request\":\"GET /\\u0000\xef\xbf\xbd\\u0016\",\"response\":\"200\",\"bytes\":\"1\"}");
    expect(PARSE_CSV, &csv, SLICE("\0,\"\xff\"\"\""),
           "> {\"a\":\"\\u0000\",\"b\":\"\xef\xbf\xbd\\\"\"}");
    expect(PARSE_CSV, &csv, SLICE("a\rb,\"\r\""), "> {\"a\":\"a\\rb\",\"b\":\"\\r\"}");
    expect(PARSE_JSON, NULL, SLICE("{\"a\":\"\xff\",\"b\":[\"\xff\\\\\"],\"c\":\"\xff\\\\\"}"),
           "> {\"a\":\"\xef\xbf\xbd\",\"b\":[\"\xef\xbf\xbd\\\\\"],"
           "\"c\":\"\xef\xbf\xbd\\\\\"}");
    expect(PARSE_JSON, NULL, SLICE("{\"a\":\"\0\"}"), "! is not valid JSON");
    expect(PARSE_LOGFMT, NULL, SLICE("a=\xff\0b=\"\0\""),
           "> {\"a\":\"\xef\xbf\xbd\",\"b\":\"\\u0000\"}");
    expect(PARSE_CRI, NULL, SLICE("2023-10-11T22:14:15Z stdout F \0\xff\r\r"),
           "> {\"time\":\"2023-10-11T22:14:15Z\",\"stream\":\"stdout\",\"tag\":\"F\","
           "\"message\":\"\\u0000\xef\xbf\xbd\\r\"}");
    expect(PARSE_RFC3164, NULL, SLICE("Oct 11 22:14:15 h p: \0\xff"),
           "> {\"timestamp\":\"Oct 11 22:14:15\",\"hostname\":\"h\",\"program\":\"p\","
           "\"processid\":null,\"message\":\"\\u0000\xef\xbf\xbd\"}");
    expect(PARSE_RFC5424, NULL, SLICE("<1>1 - - - - - [a b=\"\0\xff\\]\"]"),
           "> {\"priority\":1,\"version\":1,\"timestamp\":null,\"hostname\":null,\"program\":null,"
           "\"processid\":null,\"msgid\":null,\"structured_data\":{\"a\":{\"b\":"
           "\"\\u0000\xef\xbf\xbd]\"}},\"message\":null}");
}

/* A repeated piece between a beginning and an end; `%` in it is a number, counted up. */
static struct slice repeated(struct buf *to, const char *begin, const char *piece, size_t count,
                             const char *end)
{
    const char *number = strchr(piece, '%');

    buf_reset(to);
    assert_int_equal(buf_append(to, slice_of(begin)), 0);
    for (size_t i = 0; i < count; i++) {
        size_t before = number == NULL ? strlen(piece) : (size_t)(number - piece);

        assert_int_equal(buf_append(to, (struct slice){piece, before}), 0);
        if (number != NULL)
            assert_int_equal(buf_printf(to, "%zu%s", i, number + 1), 0);
    }
    assert_int_equal(buf_append(to, slice_of(end)), 0);
    return buf_slice(to);
}

static void what_is_too_large_is_refused(void **state)
{
    struct parse_settings none = {0};
    struct fields f;
    struct buf b;
    const char *why = NULL;

    (void)state;
    fields_init(&f, ARENA_MAX);
    buf_init(&b, 16 * ARENA_MAX);

    /* As many members as may be, each with a name of its own or all with two names. */
    assert_int_equal(parse_event(PARSE_JSON, &none,
                                 repeated(&b, "{\"x\":0", ",\"n%\":1", FIELDS_MAX - 1, "}"), &f,
                                 &why),
                     1);
    assert_int_equal(f.count, FIELDS_MAX);
    assert_true(slice_equal(f.items[FIELDS_MAX - 1].name, SLICE("n4094")));
    fields_reset(&f);
    assert_int_equal(parse_event(PARSE_JSON, &none,
                                 repeated(&b, "{\"x\":0", ",\"n\":%", FIELDS_MAX - 1, "}"), &f,
                                 &why),
                     1);
    assert_int_equal(f.count, 2);
    assert_true(slice_equal(f.items[1].value, SLICE("4094")));
    fields_reset(&f);
    assert_int_equal(parse_event(PARSE_JSON, &none,
                                 repeated(&b, "{\"x\":0", ",\"n%\":1", FIELDS_MAX, "}"), &f, &why),
                     -EMSGSIZE);
    fields_reset(&f);
    assert_int_equal(
        parse_event(PARSE_LOGFMT, &none, repeated(&b, "", "k%=v ", FIELDS_MAX + 1, ""), &f, &why),
        -EMSGSIZE);

    /* What must be rewritten, and is larger than the arena. */
    fields_reset(&f);
    assert_int_equal(parse_event(PARSE_JSON, &none,
                                 repeated(&b, "{\"a\":\"\\n", "x", ARENA_MAX, "\"}"), &f, &why),
                     -EMSGSIZE);
    fields_reset(&f);
    assert_int_equal(
        parse_event(PARSE_JSON, &none, repeated(&b, "{\"a\":\"", "x", ARENA_MAX, "\"}"), &f, &why),
        1);
    fields_reset(&f);
    assert_int_equal(
        parse_event(PARSE_JSON, &none, repeated(&b, "{\"a\":[0", ", 0", ARENA_MAX, "]}"), &f, &why),
        -EMSGSIZE);
    fields_reset(&f);
    assert_int_equal(parse_event(PARSE_COMMON, &none,
                                 repeated(&b, "h - - [d] \"\\n", "x", ARENA_MAX, "\" 1 1"), &f,
                                 &why),
                     -EMSGSIZE);

    /* Structured data is compared each with each; so there is an end to it. */
    fields_reset(&f);
    assert_int_equal(parse_event(PARSE_RFC5424, &none,
                                 repeated(&b, "<1>1 - - - - - [a", " p%=\"\"", 256, "]"), &f, &why),
                     1);
    fields_reset(&f);
    assert_int_equal(parse_event(PARSE_RFC5424, &none,
                                 repeated(&b, "<1>1 - - - - - ", "[a%]", 257, ""), &f, &why),
                     0);
    assert_string_equal(why, "has more than 256 parameters of structured data");
    fields_done(&f);
    buf_done(&b);
}

/* Only what must be rewritten goes to the arena. */
static void what_needs_no_change_stays_in_the_event(void **state)
{
    static const struct {
        enum parse_format format;
        struct slice event;
        bool stays;
    } cases[] = {
        {PARSE_JSON, SLICE("{\"a\":\"b\",\"c\":[1,{\"d\":\"\xc3\xa4\"},[],{}]} "), true},
        {PARSE_JSON, SLICE("{\"a\":\"b\",\"c\":[1, {\"d\":\"e\"}]}"), false},
        {PARSE_JSON, SLICE("{\"a\":\"b\",\"c\":[\"\\/\"]}"), false},
        {PARSE_JSON, SLICE("{\"a\":\"b\",\"c\":[\"\xff\"]}"), false},
        {PARSE_JSON, SLICE("{\"a\":\"\\n\",\"c\":1}"), false},
        {PARSE_COMMON, SLICE("h - - [d] \"GET /\" 200 1"), true},
        {PARSE_COMMON, SLICE("h - - [d] \"GET \\\"\" 200 1"), false},
        {PARSE_LOGFMT, SLICE("a=\"b c\" d=e"), true},
        {PARSE_CSV, SLICE("\"a,b\",c"), true},
        {PARSE_CSV, SLICE("\"a\"\"b\",c"), false},
    };
    static const struct slice names[] = {SLICE("a"), SLICE("b")};
    const struct parse_settings s = {.names = {names, 2}};
    struct fields f;

    (void)state;
    fields_init(&f, ARENA_MAX);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const char *why;

        fields_reset(&f);
        assert_int_equal(parse_event(cases[i].format, &s, cases[i].event, &f, &why), 1);
        assert_int_equal(f.arena.taken == 0, cases[i].stays);
    }
    fields_done(&f);
}

/* -- regular expressions ------------------------------------------------------------------------ */

static struct pattern *pattern_of(const char *text)
{
    struct pattern_error error;
    struct pattern *p = NULL;

    assert_int_equal(pattern_new(slice_of(text), 0, &p, &error), 0);
    return p;
}

static void groups_become_fields(void **state)
{
    static const struct slice names[] = {SLICE("one"), SLICE("two"), SLICE("three")};
    static const struct {
        const char *pattern;
        size_t name_count;
        struct slice event;
        const char *is;
    } cases[] = {
        {"^(?<a>\\S+) (\\d+) (?<b>.*)$", 3, SLICE("x 12 y z"), "> {\"a\":\"x\",\"b\":\"y z\"}"},
        {"^(?<b>\\w)(?<a>\\w)", 0, SLICE("xy"), "> {\"b\":\"x\",\"a\":\"y\"}"},
        {"^(\\S+) (\\d+)?", 3, SLICE("x "), "> {\"one\":\"x\",\"two\":null,\"three\":null}"},
        {"^(\\S+) (\\d*)", 2, SLICE("x "), "> {\"one\":\"x\",\"two\":\"\"}"},
        {"(a)|(b)", 2, SLICE("b"), "> {\"one\":null,\"two\":\"b\"}"},
        {"(a)(b)(c)(d)", 1, SLICE("abcd"), "> {\"one\":\"a\"}"},
        {"(?<a>x)|(?<b>y)", 0, SLICE("y"), "> {\"a\":null,\"b\":\"y\"}"},
        {"x", 0, SLICE("x"), "> {}"},
        {"^(.*)$", 1, SLICE("text\r"), "> {\"one\":\"text\"}"},
        {"^(.*)$", 1, SLICE("\xe4"), "> {\"one\":\"\xef\xbf\xbd\"}"},
        {"^(?<a>\\d+)$", 0, SLICE("x"), "! does not match the regex"},
        {"^(?<a>\\d+)$", 0, SLICE(""), "! does not match the regex"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct pattern *p = pattern_of(cases[i].pattern);
        struct parse_settings s = {.pattern = p, .names = {names, cases[i].name_count}};

        expect(PARSE_REGEX, &s, cases[i].event, cases[i].is);
        pattern_free(p);
    }
}

/* -- memory ------------------------------------------------------------------------------------- */

static const struct {
    enum parse_format format;
    struct slice event;
} warm[] = {
    {PARSE_REGEX, SLICE("GET /index 200")},
    {PARSE_COMBINED, SLICE("1.2.3.4 - DOM\\\\a [d] \"GET /\\\"x HTTP/1.1\" 200 1 \"\\x41\" \"y\"")},
    {PARSE_COMMON, SLICE("1.2.3.4 - a [d] \"GET / HTTP/1.1\" 200 1")},
    {PARSE_APACHE_ERROR, SLICE("[a:b] [c:error] (13)No: [client x] AH1: \\x41")},
    {PARSE_SYSLOG, SLICE("<3>1 - - - - - [a b=\"\\]\" b=\"c\"] text")},
    {PARSE_RFC3164, SLICE("<3>Oct 11 22:14:15 host su[1]: text")},
    {PARSE_RFC3339_SYSLOG, SLICE("2023-10-11T22:14:15Z host su[1]: text")},
    {PARSE_JSON, SLICE("{\"a\":\"\\u00e4\",\"b\":{ \"c\":[1, 2]},\"a\":1,\"1\":1,\"2\":1,\"3\":1,"
                       "\"4\":1,\"5\":1,\"6\":1,\"7\":1,\"8\":1,\"9\":1,\"10\":1,\"11\":1,\"12\":1,"
                       "\"13\":1,\"14\":1,\"15\":1,\"16\":1,\"17\":1,\"18\":1}")},
    {PARSE_CSV, SLICE("a,\"b\"\"c\"")},
    {PARSE_CSV, SLICE("a,b,too,many")},
    {PARSE_LOGFMT, SLICE("a=\"x\\ny\" b=2 c a=3")},
    {PARSE_CRI, SLICE("2023-10-11T22:14:15Z stdout F text")},
};

static void a_warm_parser_allocates_nothing(void **state)
{
    static const struct slice names[] = {SLICE("a"), SLICE("b"), SLICE("c")};
    struct parse_settings s = {.pattern = pattern_of("^(\\S+) (\\S+) (\\d+)$"),
                               .names = {names, 3}};
    struct fields f;
    struct buf json;
    size_t before = 0;

    (void)state;
    fields_init(&f, ARENA_MAX);
    buf_init(&json, ARENA_MAX);
    for (size_t round = 0; round < 100; round++) {
        if (round == 1)
            before = allocations;
        for (size_t i = 0; i < ARRAY_LEN(warm); i++) {
            const char *why;

            fields_reset(&f);
            buf_reset(&json);
            assert_true(parse_event(warm[i].format, &s, warm[i].event, &f, &why) >= 0);
            assert_int_equal(fields_append_json(&json, &f), 0);
        }
    }
    assert_int_equal(allocations, before);
    if (COUNTED_MALLOC)
        assert_true(before > 0); /* it does count */
    pattern_free(s.pattern);
    fields_done(&f);
    buf_done(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(combined_is_read),
        cmocka_unit_test(common_is_read),
        cmocka_unit_test(apache_error_is_read),
        cmocka_unit_test(syslog_is_read),
        cmocka_unit_test(rfc3164_is_read),
        cmocka_unit_test(rfc5424_is_read),
        cmocka_unit_test(rfc3339_syslog_is_read),
        cmocka_unit_test(json_is_read),
        cmocka_unit_test(csv_is_read),
        cmocka_unit_test(logfmt_is_read),
        cmocka_unit_test(cri_is_read),
        cmocka_unit_test(any_byte_may_come),
        cmocka_unit_test(what_is_too_large_is_refused),
        cmocka_unit_test(what_needs_no_change_stays_in_the_event),
        cmocka_unit_test(groups_become_fields),
        cmocka_unit_test(a_warm_parser_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
