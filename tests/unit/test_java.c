/* java: every recorded case of the Java agent, and the sides of each rule that no case shows. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base64.h"
#include "buf.h"
#include "counted_malloc.h"
#include "ec2.h"
#include "json.h"
#include "record/java.h"
#include "record/java_json.h"
#include "record/java_text.h"
#include "util.h"

enum { MAX_BYTES = 1 << 20, STEPS_MAX = 8, NAMES_MAX = 16 };

#define NOW_MS INT64_C(1795269255016)
#define NOW    "2026-11-21T13:54:15.016Z"

static const struct ec2_tag tags[] = {
    {SLICE("Name"), SLICE("web-1"), SLICE("name")},
    {SLICE("Env"), SLICE("Prod"), SLICE("env")},
};

static const struct ec2 instance = {
    .text =
        {
            [EC2_PRIVATE_IP] = SLICE("10.0.0.5"),
            [EC2_AVAILABILITY_ZONE] = SLICE("us-east-1a"),
            [EC2_INSTANCE_ID] = SLICE("i-0123456789abcdef0"),
            [EC2_INSTANCE_TYPE] = SLICE("t3.micro"),
            [EC2_ACCOUNT_ID] = SLICE("123456789012"),
            [EC2_AMI_ID] = SLICE("ami-0abc"),
            [EC2_REGION] = SLICE("us-east-1"),
        },
    .tags = tags,
    .tag_count = 2,
    .has_tags = true,
    .fetched = SLICE(NOW),
};

#define EC2                                                                                        \
    "\"privateIp\":\"10.0.0.5\",\"availabilityZone\":\"us-east-1a\",\"instanceId\":"               \
    "\"i-0123456789abcdef0\",\"instanceType\":\"t3.micro\",\"accountId\":\"123456789012\","        \
    "\"amiId\":\"ami-0abc\",\"region\":\"us-east-1\",\"metadataTimestamp\":\"" NOW "\","           \
    "\"tags\":{\"name\":\"web-1\",\"env\":\"Prod\"}}\n"

static const struct java_context with_ec2 = {NOW_MS, &instance}, without_ec2 = {NOW_MS, NULL};

/* --- the recorded cases --- */

/* A case, and the memory of its texts. */
struct scene {
    struct buf texts[64];
    size_t text_count;
    struct slice name, input, output, result;
    struct java_settings steps[STEPS_MAX];
    struct slice names[STEPS_MAX][NAMES_MAX], matches[STEPS_MAX];
    size_t step_count;
    bool null_name, is_mistake; /* what `import` finds, and not the chain */
};

static struct slice unescaped(struct scene *s, struct slice raw)
{
    struct buf *b = &s->texts[s->text_count++];

    assert_true(s->text_count <= ARRAY_LEN(s->texts));
    buf_init(b, 3 * raw.len + 1);
    assert_int_equal(buf_reserve(b, 1), 0);
    assert_int_equal(json_unescape(raw, b), 0);
    return buf_slice(b);
}

static struct slice whole(struct json *j)
{
    const char *begin;
    struct json_token t;
    struct json look = *j;

    assert_int_equal(json_next(&look, &t), 0);
    begin = t.text.ptr - (t.type == JSON_STRING);
    assert_int_equal(json_skip(j), 0);
    struct slice text = {begin, (size_t)(j->rest.ptr - begin)};
    return text;
}

static bool read_word(struct slice text, const char *const *words, size_t count, int *ret)
{
    for (size_t i = 0; i < count; i++)
        if (slice_equal(text, slice_of(words[i]))) {
            *ret = (int)i;
            return true;
        }
    return false;
}

static void read_names(struct scene *s, struct json *j, struct java_settings *set)
{
    struct json_token t;

    assert_int_equal(json_next(j, &t), 0);
    assert_int_equal(t.type, JSON_ARRAY_BEGIN);
    set->fields = s->names[s->step_count];
    while (json_next(j, &t) == 0 && t.type != JSON_ARRAY_END) {
        s->null_name |= t.type == JSON_NULL;
        s->names[s->step_count][set->field_count++] = unescaped(s, t.text);
    }
}

/* Reads one of the dataProcessingOptions, with no more care than the cases need. */
static void read_step(struct scene *s, struct json *j)
{
    static const char *const formats[] = {"SINGLELINE",  "CSVTOJSON",      "LOGTOJSON",
                                          "ADDMETADATA", "ADDEC2METADATA", "ADDBRACKETS"};
    static const char *const logs[] = {"COMMONAPACHELOG", "COMBINEDAPACHELOG", "APACHEERRORLOG",
                                       "SYSLOG", "RFC3339SYSLOG"};
    struct java_settings *set = &s->steps[s->step_count];
    bool known = false, log = false;
    struct json_token t, v;
    int word;

    *set = (struct java_settings){.delimiter = SLICE(","), .metadata = SLICE("null")};
    while (json_next(j, &t) == 0 && t.type == JSON_KEY) {
        struct json value = *j;
        struct slice raw = whole(j), text = {0};

        assert_int_equal(json_next(&value, &v), 0);
        if (v.type == JSON_STRING)
            text = unescaped(s, v.text);
        if (json_text_equal(t.text, SLICE("optionName"))) {
            known = read_word(text, formats, ARRAY_LEN(formats), &word);
            set->format = known ? (enum java_format)word : 0;
        } else if (json_text_equal(t.text, SLICE("customFieldNames"))) {
            json_init(&value, raw);
            read_names(s, &value, set);
        } else if (json_text_equal(t.text, SLICE("delimiter"))) {
            set->delimiter = text;
        } else if (json_text_equal(t.text, SLICE("jsonFormat"))) {
            set->pretty = slice_equal(text, SLICE("PRETTYPRINT"));
            s->is_mistake |= !set->pretty && !slice_equal(text, SLICE("COMPACT"));
        } else if (json_text_equal(t.text, SLICE("logFormat"))) {
            log = read_word(text, logs, ARRAY_LEN(logs), &word);
            set->log = log ? (enum java_log)word : 0;
        } else if (json_text_equal(t.text, SLICE("matchPattern"))) {
            s->matches[s->step_count] = text;
            set->match = &s->matches[s->step_count];
        } else if (json_text_equal(t.text, SLICE("metadata"))) {
            set->metadata = raw;
        } else if (json_text_equal(t.text, SLICE("timestamp"))) {
            set->timestamp = slice_equal(text, SLICE("true")) || slice_equal(text, SLICE("TRUE"));
            s->is_mistake |= v.type != JSON_STRING;
        } else {
            set->keep_space |= memmem(raw.ptr, raw.len, "NO_TRIM", 7) != NULL;
            set->escape_newline |= memmem(raw.ptr, raw.len, "ESCAPE_NEW_LINE", 15) != NULL;
        }
    }
    s->is_mistake |= !known;
    s->is_mistake |= (set->format == JAVA_LOG || set->format == JAVA_EC2_METADATA) && !log;
    s->is_mistake |= set->format == JAVA_CSV && set->fields == NULL;
    s->is_mistake |= set->match != NULL && set->fields == NULL;
    s->step_count++;
}

static void read_scene(struct scene *s, struct slice line)
{
    struct json_token t;
    struct json j;

    *s = (struct scene){0};
    json_init(&j, line);
    assert_int_equal(json_next(&j, &t), 0);
    while (json_next(&j, &t) == 0 && t.type == JSON_KEY) {
        struct json value = j;
        struct json_token v;

        assert_int_equal(json_skip(&j), 0);
        assert_int_equal(json_next(&value, &v), 0);
        if (json_text_equal(t.text, SLICE("name")))
            s->name = unescaped(s, v.text);
        else if (json_text_equal(t.text, SLICE("result")))
            s->result = unescaped(s, v.text);
        else if (json_text_equal(t.text, SLICE("input")) && v.type == JSON_STRING)
            s->input = unescaped(s, v.text);
        else if (json_text_equal(t.text, SLICE("output")) && v.type == JSON_STRING)
            s->output = unescaped(s, v.text);
        else if (json_text_equal(t.text, SLICE("input_base64"))) {
            char *bytes = malloc(v.text.len);
            size_t len;

            assert_non_null(bytes);
            assert_int_equal(base64_decode(v.text, bytes, &len), 0);
            s->input = unescaped(s, SLICE(""));
            assert_int_equal(buf_append(&s->texts[s->text_count - 1], SLICE("")), 0);
            buf_done(&s->texts[s->text_count - 1]);
            s->texts[s->text_count - 1] = (struct buf){bytes, len, v.text.len, v.text.len};
            s->input = (struct slice){bytes, len};
        } else if (json_text_equal(t.text, SLICE("options"))) {
            if (v.type == JSON_OBJECT_BEGIN)
                read_step(s, &value);
            else
                while (json_next(&value, &v) == 0 && v.type == JSON_OBJECT_BEGIN)
                    read_step(s, &value);
        }
    }
}

/* The recorded output has @TS@ where the time was. */
static void append_with_time(struct buf *to, struct slice output)
{
    const char *at;

    while (output.len > 0 && (at = memmem(output.ptr, output.len, "@TS@", 4)) != NULL) {
        assert_int_equal(buf_append(to, slice_first(output, (size_t)(at - output.ptr))), 0);
        assert_int_equal(buf_append(to, SLICE(NOW)), 0);
        output = slice_from(output, (size_t)(at - output.ptr) + 4);
    }
    assert_int_equal(buf_append(to, output), 0);
}

static bool is_right(const struct scene *s)
{
    struct java_chain *c = NULL;
    struct java_error why;
    struct buf expected;
    struct slice got = {0};
    bool right;
    int r;

    buf_init(&expected, MAX_BYTES);
    append_with_time(&expected, s->output);
    r = s->is_mistake ? -EINVAL : java_chain_new(s->steps, s->step_count, MAX_BYTES, &c, &why);
    if (r == 0)
        r = java_chain_convert(c, s->input, &with_ec2, &got);
    if (slice_equal(s->result, SLICE("ok")))
        right = r == JAVA_SEND && slice_equal(got, buf_slice(&expected));
    else if (slice_equal(s->result, SLICE("drop")))
        right = r == JAVA_DROP;
    else if (slice_equal(s->result, SLICE("raw_fallback")))
        right = s->null_name || r == -EINVAL || (r == JAVA_RAW && slice_equal(got, s->input));
    else
        right = slice_equal(s->result, SLICE("config_error")) && r == -EINVAL;
    if (!right)
        print_error("%.*s: %d '%.*s' instead of %.*s '%.*s'\n", SLICE_ARG(s->name), r,
                    SLICE_ARG(got), SLICE_ARG(s->result), SLICE_ARG(buf_slice(&expected)));
    java_chain_free(c);
    buf_done(&expected);
    return right;
}

static void every_recorded_case(void **state)
{
    const char *root = getenv("KT_TEST_DATA");
    size_t size = 0, count = 0, wrong = 0;
    char path[512], *line = NULL;
    FILE *f;

    (void)state;
    (void)snprintf(path, sizeof path, "%s/parity/java-agent.jsonl",
                   root != NULL ? root : "tests/data");
    f = fopen(path, "re");
    assert_non_null(f);
    for (ssize_t n; (n = getline(&line, &size, f)) > 0; count++) {
        struct scene s;

        read_scene(&s, (struct slice){line, (size_t)n});
        wrong += !is_right(&s);
        for (size_t i = 0; i < s.text_count; i++)
            buf_done(&s.texts[i]);
    }
    free(line);
    (void)fclose(f);
    assert_int_equal(count, 239);
    assert_int_equal(wrong, 0);
}

/* --- more of the same kind --- */

static const struct slice abc[] = {SLICE("a"), SLICE("b"), SLICE("c")};
static const struct slice a_and_quote[] = {SLICE("a"), SLICE("b\"")};
static const struct slice x_and_x[] = {SLICE("x"), SLICE("x")};
static const struct slice two_groups = SLICE("(a)(b)"), one_char = SLICE("(.)");
static const struct slice not_closed = SLICE("(a");

static const struct story {
    const char *name;
    struct java_settings step;
    struct slice input;
    int outcome;
    struct slice output;
} stories[] = {
#define CSV(d)                                                                                     \
    {                                                                                              \
        .format = JAVA_CSV, .delimiter = SLICE(d), .fields = abc, .field_count = 3                 \
    }
    {"an empty match at the end", CSV("x*"), SLICE("axb\n"), JAVA_SEND,
     SLICE("{\"a\":\"a\",\"b\":\"\",\"c\":\"b\"}\n")},
    {"an empty leading column is kept where the match is not empty", CSV(";"), SLICE(";1\n"),
     JAVA_SEND, SLICE("{\"a\":\"\",\"b\":\"1\",\"c\":null}\n")},
    {"and where a pattern does it", CSV("[;]"), SLICE(";1;\n"), JAVA_SEND,
     SLICE("{\"a\":\"\",\"b\":\"1\",\"c\":null}\n")},
    {"extra columns keep an inner one", CSV(","), SLICE(",,,4\n"), JAVA_SEND,
     SLICE("{\"a\":\"\",\"b\":\"\",\"c\":\"\"}\n")},
    {"extra empty columns do not", CSV(","), SLICE("1,,,,,\n"), JAVA_SEND,
     SLICE("{\"a\":\"1\",\"b\":null,\"c\":null}\n")},
    {"an empty one that is the last with a name, and something far behind it", CSV("[,]"),
     SLICE("1,2,,,,,,,x\n"), JAVA_SEND, SLICE("{\"a\":\"1\",\"b\":\"2\",\"c\":\"\"}\n")},
    {"and nothing behind it", CSV("[,]"), SLICE("1,2,,,,,,,\n"), JAVA_SEND,
     SLICE("{\"a\":\"1\",\"b\":\"2\",\"c\":null}\n")},
    {"what is behind the last that has a name is not a part of it", CSV("[,]"),
     SLICE("1,2,3,4,5\n"), JAVA_SEND, SLICE("{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\"}\n")},
    {"a carriage return stays", CSV(","), SLICE("1,2,3\r\n"), JAVA_SEND,
     SLICE("{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\\r\"}\n")},
    {"nothing at all", CSV(","), SLICE(""), JAVA_SEND,
     SLICE("{\"a\":\"\",\"b\":null,\"c\":null}\n")},
    {"nothing at all, and no delimiter", CSV(""), SLICE(""), JAVA_SEND,
     SLICE("{\"a\":\"\",\"b\":null,\"c\":null}\n")},
    {"a character beyond the first plane is two to Java", CSV(""), SLICE("\xf0\x9f\x98\x80z\n"),
     JAVA_SEND, SLICE("{\"a\":\"?\",\"b\":\"?\",\"c\":\"z\"}\n")},
    {"in the middle as well", CSV(""), SLICE("a\xf0\x9f\x98\x80\n"), JAVA_SEND,
     SLICE("{\"a\":\"a\",\"b\":\"?\",\"c\":\"?\"}\n")},
    {"but not where something must stand there", CSV(","), SLICE("\xf0\x9f\x98\x80,1\n"), JAVA_SEND,
     SLICE("{\"a\":\"\xf0\x9f\x98\x80\",\"b\":\"1\",\"c\":null}\n")},
    {"a byte behind a backslash", CSV("\\|"), SLICE("1|2\n"), JAVA_SEND,
     SLICE("{\"a\":\"1\",\"b\":\"2\",\"c\":null}\n")},
    {"a tab as it is escaped", CSV("\\t"), SLICE("1\t2\n"), JAVA_SEND,
     SLICE("{\"a\":\"1\",\"b\":\"2\",\"c\":null}\n")},
    {"a pretty object",
     {.format = JAVA_CSV,
      .delimiter = SLICE(","),
      .pretty = true,
      .fields = a_and_quote,
      .field_count = 2},
     SLICE("1\n"),
     JAVA_SEND,
     SLICE("{\n  \"a\" : \"1\",\n  \"b\\\"\" : null\n}\n")},
    {"a pretty object of nothing",
     {.format = JAVA_CSV, .delimiter = SLICE(","), .pretty = true},
     SLICE("1\n"),
     JAVA_SEND,
     SLICE("{ }\n")},
    {"control characters", CSV(","), SLICE("\x01\x1f\x7f,\b\f\v,\xc2\x85/\n"), JAVA_SEND,
     SLICE("{\"a\":\"\\u0001\\u001F\x7f\",\"b\":\"\\b\\f\\u000B\",\"c\":\"\xc2\x85/\"}\n")},

#define LOG(l)                                                                                     \
    {                                                                                              \
        .format = JAVA_LOG, .log = JAVA_LOG_##l                                                    \
    }
    {"IPv6",
     LOG(COMMON),
     SLICE("::1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 5\n"),
     JAVA_DROP,
     {0}},
    {"an escaped quote",
     LOG(COMMON),
     SLICE("a - - [10/Oct/2000:13:55:36 -0700] \"GET /\\\" HTTP/1.0\" 200 5\n"),
     JAVA_DROP,
     {0}},
    {"a comma in the second", LOG(COMMON),
     SLICE("a - - [10/Oct/2000:13:55:36,5 +1] \"x\" +2 -3z\n"), JAVA_SEND,
     SLICE(
         "{\"host\":\"a\",\"ident\":null,\"authuser\":null,\"datetime\":\"10/Oct/2000:13:55:36,5 +1"
         "\",\"request\":\"x\",\"response\":\"+2\",\"bytes\":\"-3\"}\n")},
    {"second 60", LOG(SYSLOG), SLICE("March 1 2:59:60.5 h p[9]: m\n"), JAVA_SEND,
     SLICE(
         "{\"timestamp\":\"March 1 2:59:60.5\",\"hostname\":\"h\",\"program\":\"p\",\"processid\":"
         "\"9\",\"message\":\"m\"}\n")},
    {"second 61", LOG(SYSLOG), SLICE("March 1 2:59:61 h p: m\n"), JAVA_DROP, {0}},
    {"hour 24", LOG(SYSLOG), SLICE("March 1 24:59:01 h p: m\n"), JAVA_DROP, {0}},
    {"an IPv6 host", LOG(SYSLOG), SLICE("Mar 1 2:59:01 ::1 p: m\n"), JAVA_DROP, {0}},
    {"a program with an @", LOG(SYSLOG), SLICE("Mar 1 2:59:01 h p@1: m\n"), JAVA_DROP, {0}},
    {"a program with a bracket", LOG(SYSLOG), SLICE("Mar 1 2:59:01 h p(1): m\n"), JAVA_DROP, {0}},
    {"a percent sign and a slash", LOG(SYSLOG), SLICE("Mar 1 2:59:01 h /p%1: m"), JAVA_SEND,
     SLICE("{\"timestamp\":\"Mar 1 "
           "2:59:01\",\"hostname\":\"h\",\"program\":\"/p%1\",\"processid\":null"
           ",\"message\":\"m\"}\n")},
    {"a line separator in the message",
     LOG(SYSLOG),
     SLICE("Mar 1 2:59:01 h p: a\xe2\x80\xa8z\n"),
     JAVA_DROP,
     {0}},
    {"its neighbour is no line separator", LOG(SYSLOG),
     SLICE("Mar 1 2:59:01 h p: a\xe2\x80\xa7z\n"), JAVA_SEND,
     SLICE(
         "{\"timestamp\":\"Mar 1 2:59:01\",\"hostname\":\"h\",\"program\":\"p\",\"processid\":null,"
         "\"message\":\"a\xe2\x80\xa7z\"}\n")},
    {"a byte that is no UTF-8", LOG(SYSLOG), SLICE("Mar 1 2:59:01 h p: caf\xe9\n"), JAVA_SEND,
     SLICE(
         "{\"timestamp\":\"Mar 1 2:59:01\",\"hostname\":\"h\",\"program\":\"p\",\"processid\":null,"
         "\"message\":\"caf\xef\xbf\xbd\"}\n")},
    {"a space for T", LOG(RFC3339), SLICE("2016-04-21 10:00:00Z h p: m\n"), JAVA_DROP, {0}},
    {"a client of x",
     LOG(ERROR),
     SLICE("[Fri Sep 09 10:42:29 2011] [core:error] [pid 3] [client: x] m\n"),
     JAVA_DROP,
     {0}},
    {"no module", LOG(ERROR),
     SLICE("[Friday September 9 10:42:29 2011] [error] [pid 0] [client 1.2.3.4:5] -\n"), JAVA_SEND,
     SLICE("{\"timestamp\":\"Friday September 9 10:42:29 2011\",\"module\":null,\"severity\":"
           "\"error\",\"processid\":\"0\",\"threadid\":null,\"client\":\"1.2.3.4:5\",\"message\":"
           "null}"
           "\n")},
    {"an empty agent",
     LOG(COMBINED),
     SLICE("a - - [10/Oct/2000:13:55:36 -0700] \"x\" 200 5 \"-\" \"\"\n"),
     JAVA_DROP,
     {0}},
    {"as many names as groups, but not of the format",
     {.format = JAVA_LOG,
      .log = JAVA_LOG_SYSLOG,
      .match = &two_groups,
      .fields = x_and_x,
      .field_count = 2},
     SLICE("ab\n"),
     JAVA_SEND,
     SLICE("{\"x\":\"b\"}\n")},
    {"fewer names than groups",
     {.format = JAVA_LOG,
      .log = JAVA_LOG_SYSLOG,
      .match = &two_groups,
      .fields = x_and_x,
      .field_count = 1},
     SLICE("ab\n"),
     JAVA_DROP,
     {0}},
    {"a dash in syslog is kept",
     {.format = JAVA_LOG,
      .log = JAVA_LOG_RFC3339,
      .match = &one_char,
      .fields = x_and_x,
      .field_count = 1},
     SLICE("-"),
     JAVA_SEND,
     SLICE("{\"x\":\"-\"}\n")},

#define META(m)                                                                                    \
    {                                                                                              \
        .format = JAVA_METADATA, .metadata = SLICE(m)                                              \
    }
    {"numbers of the metadata", META("{\"a\":1e5,\"b\":[-0,0.10],\"a\":[]}"), SLICE("x"), JAVA_SEND,
     SLICE("{\"metadata\":{\"a\":[],\"b\":[0,0.1]},\"data\":\"x\"}\n")},
    {"pretty metadata",
     {.format = JAVA_METADATA,
      .pretty = true,
      .timestamp = true,
      .metadata = SLICE("{\"a\":[1,{\"b\":{}},[]],\"c\":{}}")},
     SLICE("x\n"),
     JAVA_SEND,
     SLICE("{\n  \"ts\" : \"" NOW
           "\",\n  \"metadata\" : {\n    \"a\" : [ 1, {\n      \"b\" : { }\n    "
           "}, [ ] ],\n    \"c\" : { }\n  },\n  \"data\" : \"x\"\n}\n")},
    {"metadata of a number", META(" 1.50 "), SLICE("x"), JAVA_SEND,
     SLICE("{\"metadata\":1.5,\"data\":\"x\"}\n")},

#define BRACKETS                                                                                   \
    {                                                                                              \
        .format = JAVA_BRACKETS                                                                    \
    }
    {"brackets read text", BRACKETS, SLICE("\xff\n"), JAVA_SEND, SLICE("{\xef\xbf\xbd\n}")},
    {"lines that are not UTF-8",
     {.format = JAVA_SINGLELINE},
     SLICE(" \xe0\x80 \nb"),
     JAVA_SEND,
     SLICE("\xef\xbf\xbd\xef\xbf\xbd"
           "b\n")},
    {"a NUL is trimmed",
     {.format = JAVA_SINGLELINE},
     SLICE("\0a\0b\0\n"),
     JAVA_SEND,
     SLICE("a\0b\n")},

#define EC2_STEP                                                                                   \
    {                                                                                              \
        .format = JAVA_EC2_METADATA                                                                \
    }
    {"a key that is there keeps its place", EC2_STEP, SLICE("{\"region\":[1],\"x\":1}"), JAVA_SEND,
     SLICE("{\"region\":\"us-east-1\",\"x\":1,\"privateIp\":\"10.0.0.5\",\"availabilityZone\":"
           "\"us-east-1a\",\"instanceId\":\"i-0123456789abcdef0\",\"instanceType\":\"t3.micro\","
           "\"accountId\":\"123456789012\",\"amiId\":\"ami-0abc\",\"metadataTimestamp\":\"" NOW
           "\",\"tags\":{\"name\":\"web-1\",\"env\":\"Prod\"}}\n")},
    {"escapes that are not needed", EC2_STEP,
     SLICE("{\"\\u0061\\/\\u000a\\u001f\":\"\\u00e9\\ud83d\\ude00\\ud83dx\\ude00\"}"), JAVA_SEND,
     SLICE("{\"a/\\n\\u001F\":\"\xc3\xa9\xf0\x9f\x98\x80?x?\"," EC2)},
    {"half a pair is no question mark", EC2_STEP, SLICE("{\"\\ud800\":1,\"?\":2,\"\\ud800\":3}"),
     JAVA_SEND, SLICE("{\"?\":3,\"?\":2," EC2)},
    {"equal keys, escaped and not", EC2_STEP, SLICE("{\"a\":1,\"b\":2,\"\\u0061\":{}}"), JAVA_SEND,
     SLICE("{\"a\":{},\"b\":2," EC2)},
    {"numbers", EC2_STEP,
     SLICE("{\"a\":[-0.0,1e400,-1e400,1e-400,12345678.0,1234567.0,0.001,0.0001,5e-324,1e23,2e-3]}"),
     JAVA_SEND,
     SLICE(
         "{\"a\":[-0.0,\"Infinity\",\"-Infinity\",0.0,1.2345678E7,1234567.0,0.001,1.0E-4,4.9E-324,"
         "1.0E23,0.002]," EC2)},
    {"what follows is not looked at", EC2_STEP, SLICE("{}{\"a\":\n"), JAVA_SEND, SLICE("{" EC2)},
    {"a leading zero", EC2_STEP, SLICE("{\"a\":01}"), JAVA_RAW, SLICE("{\"a\":01}")},
    {"a point without digits", EC2_STEP, SLICE("{\"a\":1.}"), JAVA_RAW, SLICE("{\"a\":1.}")},
    {"a plus", EC2_STEP, SLICE("{\"a\":+1}"), JAVA_RAW, SLICE("{\"a\":+1}")},
    {"no number", EC2_STEP, SLICE("{\"a\":NaN}"), JAVA_RAW, SLICE("{\"a\":NaN}")},
    {"a tab in a string", EC2_STEP, SLICE("{\"a\":\"\t\"}"), JAVA_RAW, SLICE("{\"a\":\"\t\"}")},
    {"a comma too many", EC2_STEP, SLICE("{\"a\":1,}"), JAVA_RAW, SLICE("{\"a\":1,}")},
    {"a comment", EC2_STEP, SLICE("{/**/}"), JAVA_RAW, SLICE("{/**/}")},
    {"single quotes", EC2_STEP, SLICE("{'a':1}"), JAVA_RAW, SLICE("{'a':1}")},
    {"an escape of nothing", EC2_STEP, SLICE("{\"a\":\"\\x\"}"), JAVA_RAW,
     SLICE("{\"a\":\"\\x\"}")},
    {"four digits and no less", EC2_STEP, SLICE("{\"a\":\"\\u12\"}"), JAVA_RAW,
     SLICE("{\"a\":\"\\u12\"}")},
    {"not ended", EC2_STEP, SLICE("{\"a\":[1,{\"b\":2}"), JAVA_RAW, SLICE("{\"a\":[1,{\"b\":2}")},
    {"a string", EC2_STEP, SLICE("\"a\""), JAVA_RAW, SLICE("\"a\"")},
    {"raw means the bytes as they were", EC2_STEP, SLICE("\xff"), JAVA_RAW, SLICE("\xff")},
};

static void more_stories(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        const struct story *s = &stories[i];
        struct java_chain *c;
        struct java_error why;
        struct slice got;
        int r = java_chain_new(&s->step, 1, MAX_BYTES, &c, &why);

        if (r < 0)
            print_error("%s: %d %s\n", s->name, r, why.text);
        assert_int_equal(r, 0);
        r = java_chain_convert(c, s->input, &with_ec2, &got);
        if (r != s->outcome || !slice_equal(got, s->output))
            print_error("%s: %d '%.*s'\n", s->name, r, SLICE_ARG(got));
        assert_int_equal(r, s->outcome);
        assert_true(slice_equal(got, s->output));
        java_chain_free(c);
    }
}

static void without_metadata_a_record_passes(void **state)
{
    const struct java_settings steps[] = {
        BRACKETS, EC2_STEP, BRACKETS, {.format = JAVA_SINGLELINE, .keep_space = true}};
    struct java_chain *c;
    struct java_error why;
    struct slice got;

    (void)state;
    assert_int_equal(java_chain_new(steps, 2, MAX_BYTES, &c, &why), 0);
    assert_int_equal(java_chain_convert(c, SLICE("a"), &without_ec2, &got), JAVA_SEND);
    assert_true(slice_equal(got, SLICE("{a}")));
    java_chain_free(c);
    assert_int_equal(java_chain_new(steps + 1, 1, MAX_BYTES, &c, &why), 0);
    assert_int_equal(java_chain_convert(c, SLICE("\xff"), &without_ec2, &got), JAVA_SEND);
    assert_true(slice_equal(got, SLICE("\xff")));
    java_chain_free(c);

    /* Each step reads what the one before it wrote, whichever was left out. */
    assert_int_equal(java_chain_new(steps, 4, MAX_BYTES, &c, &why), 0);
    assert_int_equal(java_chain_convert(c, SLICE("a"), &without_ec2, &got), JAVA_SEND);
    assert_true(slice_equal(got, SLICE("{{a}}\n")));
    java_chain_free(c);
}

static void what_is_not_known_is_null(void **state)
{
    static const struct ec2 little = {.text = {[EC2_REGION] = SLICE("r")}, .fetched = SLICE("t")};
    const struct java_context context = {NOW_MS, &little};
    const struct java_settings step = EC2_STEP;
    struct java_chain *c;
    struct java_error why;
    struct slice got;

    (void)state;
    assert_int_equal(java_chain_new(&step, 1, MAX_BYTES, &c, &why), 0);
    assert_int_equal(java_chain_convert(c, SLICE("{}"), &context, &got), JAVA_SEND);
    assert_true(slice_equal(
        got, SLICE("{\"privateIp\":null,\"availabilityZone\":null,\"instanceId\":null,"
                   "\"instanceType\":null,\"accountId\":null,\"amiId\":null,\"region\":\"r\","
                   "\"metadataTimestamp\":\"t\"}\n")));
    java_chain_free(c);
}

/* Many members: the hash table gives what comparing all gives. */
static void many_equal_keys(void **state)
{
    enum { KEYS = 700, ROUNDS = 3 };
    struct buf in, out;
    struct java_json *j;
    struct slice rest;

    (void)state;
    buf_init(&in, MAX_BYTES);
    buf_init(&out, MAX_BYTES);
    assert_int_equal(java_json_new(MAX_BYTES, &j), 0);
    for (int i = 0; i < KEYS * ROUNDS; i++)
        assert_int_equal(buf_printf(&in, "%s\"%d\":%d", i == 0 ? "{" : ",", i % KEYS, i), 0);
    assert_int_equal(buf_append(&in, SLICE("} x")), 0);
    assert_int_equal(java_json_read(j, buf_slice(&in), &rest), 0);
    assert_true(slice_equal(rest, SLICE("x")));
    assert_int_equal(java_json_write(j, false, 0, &out), 0);
    buf_reset(&in);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(
            buf_printf(&in, "%s\"%d\":%d", i == 0 ? "{" : ",", i, i + KEYS * (ROUNDS - 1)), 0);
    assert_int_equal(buf_append(&in, SLICE("}")), 0);
    assert_true(slice_equal(buf_slice(&in), buf_slice(&out)));
    java_json_free(j);
    buf_done(&in);
    buf_done(&out);
}

/* As deep as Jackson goes, and no deeper. */
static void deep_json(void **state)
{
    struct buf in, out;
    struct java_json *j;
    struct slice rest;

    (void)state;
    buf_init(&in, MAX_BYTES);
    buf_init(&out, MAX_BYTES);
    assert_int_equal(java_json_new(MAX_BYTES, &j), 0);
    for (size_t i = 0; i < JAVA_JSON_DEPTH_MAX; i++)
        assert_int_equal(buf_append_char(&in, '['), 0);
    for (size_t i = 0; i < JAVA_JSON_DEPTH_MAX; i++)
        assert_int_equal(buf_append_char(&in, ']'), 0);
    assert_int_equal(java_json_read(j, buf_slice(&in), &rest), 0);
    assert_int_equal(java_json_write(j, false, 0, &out), 0);
    assert_true(slice_equal(buf_slice(&in), buf_slice(&out)));
    buf_reset(&in);
    for (size_t i = 0; i <= JAVA_JSON_DEPTH_MAX; i++)
        assert_int_equal(buf_append_char(&in, '['), 0);
    assert_int_equal(java_json_read(j, buf_slice(&in), &rest), -EBADMSG);
    java_json_free(j);
    buf_done(&in);
    buf_done(&out);
}

/* What a U+FFFD stands for is not what the Unicode standard proposes, and not one byte each. */
static void bytes_that_are_no_text(void **state)
{
    static const struct {
        struct slice in;
        size_t count;
    } rows[] = {
        {SLICE("\xc2"), 1},
        {SLICE("\x80\xbf"), 2},
        {SLICE("\xc0\xaf"), 2},
        {SLICE("\xe2\x82"), 1},
        {SLICE("\xe2\x82z"), 1},
        {SLICE("\xe0\x9f\xbf"), 3},
        {SLICE("\xed\xa0\x80"), 1},
        {SLICE("\xed\xbf\xbf"), 1},
        {SLICE("\xed\xa0"), 1},
        {SLICE("\xf0\x9f"), 1},
        {SLICE("\xf0\x9f\x98"), 1},
        {SLICE("\xf0\x9f\x98z"), 1},
        {SLICE("\xf0\x9fz"), 1},
        {SLICE("\xf0\x80\x80\x80"), 4},
        {SLICE("\xf4\x90\x80\x80"), 4},
        {SLICE("\xf5\x80"), 2},
        {SLICE("\xff\xfe"), 2},
        {SLICE("\xf0"), 1},
        {SLICE("\xe2z"), 1},
        {SLICE("\xf4\x90"), 2},
        {SLICE("\xf0\x9f\x98\xc2\xa9"), 1},
    };
    struct buf b;

    (void)state;
    buf_init(&b, 100);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t count = 0;
        struct slice text;

        assert_int_equal(java_text_decode(rows[i].in, &b, &text), 0);
        for (size_t at = 0; at + 3 <= text.len; at++)
            count += memcmp(text.ptr + at, "\xef\xbf\xbd", 3) == 0;
        if (count != rows[i].count)
            print_error("row %zu: %zu\n", i, count);
        assert_int_equal(count, rows[i].count);
    }
    buf_done(&b);
}

static void mistakes_are_told(void **state)
{
    static const struct {
        struct java_settings step;
        const char *key;
    } rows[] = {
        {META("{\"a\":"), "metadata"},
        {META("1 2"), "metadata"},
        {META(""), "metadata"},
        {{.format = JAVA_LOG, .log = JAVA_LOG_COMMON, .fields = x_and_x, .field_count = 1},
         "fields"},
        {CSV("("), "delimiter"},
        {{.format = JAVA_LOG, .match = &not_closed, .fields = x_and_x, .field_count = 1}, "match"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct java_settings steps[] = {BRACKETS, rows[i].step};
        struct java_chain *c = NULL;
        struct java_error why;

        assert_int_equal(java_chain_new(steps, 2, MAX_BYTES, &c, &why), -EINVAL);
        assert_int_equal(why.step, 1);
        assert_string_equal(why.key, rows[i].key);
        assert_true(why.text[0] != '\0');
        assert_null(c);
    }
}

/* Whatever the ceiling is: the record itself, or all of what becomes of it. */
static void ceilings_are_kept(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++)
        for (size_t max = 0; max < 600; max += 7) {
            struct java_chain *c;
            struct java_error why;
            struct slice got;
            int r = java_chain_new(&stories[i].step, 1, max, &c, &why);

            if (r < 0)
                continue;
            r = java_chain_convert(c, stories[i].input, &with_ec2, &got);
            if (r == -EMSGSIZE)
                assert_true(slice_equal(got, stories[i].input));
            else
                assert_true(r == stories[i].outcome && slice_equal(got, stories[i].output));
            java_chain_free(c);
        }
}

static void a_warm_chain_does_not_allocate(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct java_chain *c;
        struct java_error why;
        struct slice got;
        size_t before = 0;

        assert_int_equal(java_chain_new(&stories[i].step, 1, MAX_BYTES, &c, &why), 0);
        for (int round = 0; round < 20; round++) {
            if (round == 10)
                before = allocations;
            (void)java_chain_convert(c, stories[i].input, &with_ec2, &got);
        }
        if (allocations != before)
            print_error("%s\n", stories[i].name);
        assert_int_equal(allocations, before);
        java_chain_free(c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_recorded_case),
        cmocka_unit_test(more_stories),
        cmocka_unit_test(without_metadata_a_record_passes),
        cmocka_unit_test(what_is_not_known_is_null),
        cmocka_unit_test(many_equal_keys),
        cmocka_unit_test(deep_json),
        cmocka_unit_test(bytes_that_are_no_text),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(ceilings_are_kept),
        cmocka_unit_test(a_warm_chain_does_not_allocate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
