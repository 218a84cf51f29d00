/* fuzz_java -- any record through any chain of the Java agent's converters: what comes out is text, is
 * JSON where it should be, and is the same in every way of getting there.
 *
 * The first three bytes choose the steps; the rest is the record. */
#include "record/java.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "buf.h"
#include "ec2.h"
#include "record/java_json.h"
#include "utf8.h"
#include "util.h"

enum { BYTES_MAX = 1 << 20, STEPS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct slice names[] = {SLICE("a"), SLICE("b\""), SLICE("a"), SLICE("c")};
static const struct slice any = SLICE("(?s)(.?)(.*?)(x)?(\\s*)"), dash = SLICE("([^-]*)(-?)(.)(.)");

/* Pairs (2n, 2n+1) must give the same: a byte and a pattern of it, compact and pretty. */
static const struct java_settings steps[] = {
    {.format = JAVA_CSV, .delimiter = SLICE(","), .fields = names, .field_count = 4},
    {.format = JAVA_CSV, .delimiter = SLICE("[,]"), .fields = names, .field_count = 4},
    {.format = JAVA_CSV, .delimiter = SLICE(""), .fields = names, .field_count = 3},
    {.format = JAVA_CSV, .delimiter = SLICE("|"), .fields = names, .field_count = 3},
    {.format = JAVA_LOG, .match = &any, .fields = names, .field_count = 4},
    {.format = JAVA_LOG, .match = &any, .fields = names, .field_count = 4, .pretty = true},
    {.format = JAVA_METADATA, .metadata = SLICE("{\"a\":[1e5]}")},
    {.format = JAVA_METADATA, .metadata = SLICE("{\"a\":[100000.0]}"), .pretty = true},
    {.format = JAVA_EC2_METADATA},
    {.format = JAVA_EC2_METADATA, .pretty = true},
    {.format = JAVA_LOG, .log = JAVA_LOG_COMMON},
    {.format = JAVA_LOG, .log = JAVA_LOG_COMMON, .pretty = true},
    {.format = JAVA_LOG, .log = JAVA_LOG_SYSLOG},
    {.format = JAVA_LOG, .log = JAVA_LOG_SYSLOG, .pretty = true},
    {.format = JAVA_LOG, .log = JAVA_LOG_ERROR},
    {.format = JAVA_LOG, .log = JAVA_LOG_RFC3339},
    {.format = JAVA_LOG, .log = JAVA_LOG_COMBINED},
    {.format = JAVA_LOG, .match = &dash, .fields = names, .field_count = 4},
    {.format = JAVA_SINGLELINE},
    {.format = JAVA_SINGLELINE, .keep_space = true, .escape_newline = true},
    {.format = JAVA_BRACKETS},
};
enum { PAIRED = 14 };

static const struct ec2_tag tag = {SLICE("K"), SLICE("v\n"), SLICE("k")};
static const struct ec2 instance = {
    .text = {[EC2_REGION] = SLICE("r\"")},
    .tags = &tag,
    .tag_count = 1,
    .has_tags = true,
    .fetched = SLICE("now"),
};
static const struct java_context context = {INT64_C(1795269255016), &instance};

static int convert(const struct java_settings *set, size_t count, struct slice record,
                   struct buf *ret)
{
    struct java_chain *c;
    struct java_error why;
    struct slice got;
    int r = java_chain_new(set, count, BYTES_MAX, &c, &why);

    assert(r == 0);
    r = java_chain_convert(c, record, &context, &got);
    assert(r == JAVA_SEND || r == JAVA_DROP || r == JAVA_RAW || r == -EMSGSIZE || r == -ETIME);
    if (r == JAVA_RAW || r < 0)
        assert(got.ptr == record.ptr && got.len == record.len);
    if (r == JAVA_DROP)
        assert(got.len == 0);
    buf_init(ret, BYTES_MAX);
    if (r == JAVA_SEND)
        assert(buf_append(ret, got) == 0 && utf8_valid(got));
    java_chain_free(c);
    return r;
}

/* The JSON that `text` begins with, compact. */
static void compact(struct slice text, struct buf *ret)
{
    struct java_json *j;
    struct slice rest;

    buf_init(ret, BYTES_MAX);
    assert(java_json_new(BYTES_MAX, &j) == 0);
    assert(java_json_read(j, text, &rest) == 0 && rest.len == 0 && java_json_is_object(j));
    assert(java_json_write(j, false, 0, ret) == 0);
    assert(buf_append_char(ret, '\n') == 0);
    java_json_free(j);
}

/* Both of a pair give the same, but for how it is laid out. */
static void check_pair(size_t pair, struct slice record)
{
    struct buf one, other, flat, flat_other;
    int r = convert(&steps[2 * pair], 1, record, &one);
    int s = convert(&steps[2 * pair + 1], 1, record, &other);

    if (r >= 0 && s >= 0)
        assert(r == s);
    if (r == JAVA_SEND && s == JAVA_SEND) {
        compact(buf_slice(&one), &flat);
        compact(buf_slice(&other), &flat_other);
        assert(slice_equal(buf_slice(&flat), buf_slice(&one)));
        assert(slice_equal(buf_slice(&flat), buf_slice(&flat_other)));
        buf_done(&flat);
        buf_done(&flat_other);
    }
    buf_done(&one);
    buf_done(&other);
}

/* A chain is its steps, one after the other; but a step that throws sends the first of all. */
static void check_chain(const struct java_settings *set, struct slice record)
{
    struct buf all, step[STEPS];
    struct slice now = record;
    int r = convert(set, STEPS, record, &all), s = JAVA_SEND;
    size_t count = 0;

    while (count < STEPS && s == JAVA_SEND) {
        s = convert(&set[count], 1, now, &step[count]);
        now = buf_slice(&step[count++]);
    }
    assert(r == s);
    if (r == JAVA_SEND)
        assert(slice_equal(buf_slice(&all), now));
    buf_done(&all);
    for (size_t i = 0; i < count; i++)
        buf_done(&step[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct java_settings set[STEPS];
    struct slice record;
    char *copy;

    if (size < STEPS || size > 4096)
        return 0;
    record.len = size - STEPS;
    copy = malloc(record.len + (record.len == 0)); /* of just its size */
    assert(copy != NULL);
    memcpy(copy, data + STEPS, record.len);
    record.ptr = copy;
    check_pair(data[0] % (PAIRED / 2), record);
    for (size_t i = 0; i < STEPS; i++)
        set[i] = steps[data[i] % ARRAY_LEN(steps)];
    check_chain(set, record);
    free(copy);
    return 0;
}
