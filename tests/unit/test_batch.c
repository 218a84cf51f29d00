#include "ship/batch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base64.h"
#include "buf.h"
#include "json.h"
#include "random.h"
#include "record/key.h"
#include "ship/kinesis.h"
#include "util.h"

enum { MODEL_MAX = 64, DATA_MAX = 60 };

/* -- a simple model: what should be in the batch ---------------------------------------------- */

struct model_record {
    char data[DATA_MAX], key[KEY_RANDOM_LEN + 2];
    size_t len;
    void *owner;
};

struct model {
    struct model_record records[MODEL_MAX];
    size_t count;
};

static const struct batch_origin nowhere;
static const char *const owners[] = {"first", "second", "third"};

static struct batch_key key_of(const char json[KEY_RANDOM_LEN + 2])
{
    return (struct batch_key){{json, KEY_RANDOM_LEN + 2}, KEY_RANDOM_LEN};
}

static void add_random(struct batch *b, struct model *m, struct random *r)
{
    struct model_record *record = &m->records[m->count++];
    struct key k;

    record->len = random_below(r, DATA_MAX + 1);
    for (size_t i = 0; i < record->len; i++)
        record->data[i] = (char)(unsigned char)random_below(r, 256);
    key_random(r, &k);
    memcpy(record->key, k.json, k.json_len);
    record->owner = (void *)(uintptr_t)owners[random_below(r, ARRAY_LEN(owners))];
    batch_add(b, (struct slice){record->data, record->len}, key_of(record->key), record->owner,
              (struct batch_origin){0}, 0);
}

/* The request as it should stand on the wire, told by printf. */
static void write_model(const struct model *m, struct buf *to)
{
    char base64[2 * DATA_MAX];

    buf_reset(to);
    assert_int_equal(buf_append(to, SLICE("{\"StreamName\":\"s\",\"Records\":[")), 0);
    for (size_t i = 0; i < m->count; i++) {
        const struct model_record *r = &m->records[i];

        base64_encode_portable(base64, r->data, r->len);
        assert_int_equal(buf_printf(to, "%s{\"Data\":\"%.*s\",\"PartitionKey\":%.*s}",
                                    i > 0 ? "," : "", (int)base64_size(r->len), base64,
                                    (int)sizeof r->key, r->key),
                         0);
    }
    assert_int_equal(buf_append(to, SLICE("]}")), 0);
}

/* -- what any reader would see ----------------------------------------------------------------- */

static struct slice next_text(struct json *j, enum json_type type)
{
    struct json_token t;

    assert_int_equal(json_next(j, &t), 0);
    assert_int_equal(t.type, type);
    return t.text;
}

/* The body is valid JSON of the service's shape; returns how many records it has. */
static size_t read_body(struct slice body)
{
    struct json_token t;
    size_t count = 0;
    struct json j;

    json_init(&j, body);
    (void)next_text(&j, JSON_OBJECT_BEGIN);
    assert_true(json_text_equal(next_text(&j, JSON_KEY), SLICE("StreamName")));
    assert_true(json_text_equal(next_text(&j, JSON_STRING), SLICE("s")));
    assert_true(json_text_equal(next_text(&j, JSON_KEY), SLICE("Records")));
    (void)next_text(&j, JSON_ARRAY_BEGIN);
    for (;; count++) {
        assert_int_equal(json_next(&j, &t), 0);
        if (t.type == JSON_ARRAY_END)
            break;
        assert_int_equal(t.type, JSON_OBJECT_BEGIN);
        assert_true(json_text_equal(next_text(&j, JSON_KEY), SLICE("Data")));
        (void)next_text(&j, JSON_STRING);
        assert_true(json_text_equal(next_text(&j, JSON_KEY), SLICE("PartitionKey")));
        (void)next_text(&j, JSON_STRING);
        (void)next_text(&j, JSON_OBJECT_END);
    }
    (void)next_text(&j, JSON_OBJECT_END);
    (void)next_text(&j, JSON_END);
    return count;
}

static void check(const struct batch *b, const struct model *m)
{
    uint64_t bytes = 0;
    struct buf body;

    assert_int_equal(b->count, m->count);
    for (size_t i = 0; i < m->count; i++)
        bytes += m->records[i].len + KEY_RANDOM_LEN;
    assert_true(b->bytes == bytes);
    assert_true(b->body_len <= b->body_cap);
    if (b->state != BATCH_FLYING)
        return;
    buf_init(&body, 1024 * 1024);
    write_model(m, &body);
    assert_int_equal(batch_body(b).len, body.len);
    assert_memory_equal(batch_body(b).ptr, body.ptr, body.len);
    assert_int_equal(read_body(batch_body(b)), m->count);
    buf_done(&body);
}

/* -- judging ----------------------------------------------------------------------------------- */

struct run {
    void *owner;
    uint32_t count;
};

struct runs {
    struct run runs[MODEL_MAX];
    size_t count;
};

static void note_run(void *user, void *owner, uint32_t count)
{
    struct runs *r = user;

    assert_true(r->count < MODEL_MAX);
    r->runs[r->count++] = (struct run){owner, count};
}

/* Runs of accepted neighbours with one owner, and what stays. */
static uint32_t judge_model(struct model *m, const enum outcome *outcomes, struct runs *ret)
{
    struct model kept = {.count = 0};
    uint32_t accepted = 0;

    ret->count = 0;
    for (size_t i = 0; i < m->count; i++) {
        void *owner = m->records[i].owner;

        if (outcomes[i] != OUTCOME_ACCEPTED) {
            kept.records[kept.count++] = m->records[i];
            continue;
        }
        accepted++;
        if (i == 0 || outcomes[i - 1] != OUTCOME_ACCEPTED || m->records[i - 1].owner != owner)
            ret->runs[ret->count++] = (struct run){owner, 0};
        ret->runs[ret->count - 1].count++;
    }
    *m = kept;
    return accepted;
}

static void judge(struct batch *b, struct model *m, const enum outcome *outcomes)
{
    struct runs expected = {.count = 0}, got = {.count = 0};
    uint32_t accepted = judge_model(m, outcomes, &expected);

    assert_int_equal(batch_judge(b, outcomes, note_run, &got), accepted);
    assert_int_equal(got.count, expected.count);
    for (size_t i = 0; i < got.count; i++) {
        assert_ptr_equal(got.runs[i].owner, expected.runs[i].owner);
        assert_int_equal(got.runs[i].count, expected.runs[i].count);
    }
    assert_int_equal(b->state, m->count > 0 ? BATCH_SEALED : BATCH_IDLE);
    check(b, m);
}

static const struct batch_limits small_limits = {MODEL_MAX, 100000, KEY_JSON_MAX};

static void start(struct batch *b, const struct batch_limits *limits)
{
    assert_int_equal(batch_init(b, &kinesis_service, limits, SLICE("s"), SLICE("")), 0);
    assert_int_equal(b->state, BATCH_IDLE);
    b->state = BATCH_FILLING;
}

/* a, t, f, r: accepted, throttled, failed there, refused; the letters of the owners are theirs. */
static const struct verdict {
    const char *outcomes, *owners, *runs; /* runs: owner and count, in order */
} verdicts[] = {
    {"a", "1", "1:1 "},
    {"t", "1", ""},
    {"aaaa", "1111", "1:4 "},
    {"aaaa", "1122", "1:2 2:2 "},
    {"aaaa", "1212", "1:1 2:1 1:1 2:1 "},
    {"taaa", "1111", "1:3 "},
    {"aaat", "1111", "1:3 "},
    {"ataa", "1111", "1:1 1:2 "},
    {"atfr", "1222", "1:1 "},
    {"rfta", "1222", "2:1 "},
    {"tfrt", "1122", ""},
    {"atatat", "121212", "1:1 1:1 1:1 "},
    {"aattaa", "112211", "1:2 1:2 "},
    {"aaataa", "122223", "1:1 2:2 2:1 3:1 "},
};

static enum outcome outcome_of(char c)
{
    return c == 'a'   ? OUTCOME_ACCEPTED
           : c == 't' ? OUTCOME_THROTTLED
           : c == 'f' ? OUTCOME_TRANSIENT
                      : OUTCOME_REFUSED;
}

static void verdicts_settle_runs(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(verdicts); i++) {
        const struct verdict *v = &verdicts[i];
        struct model m = {.count = 0};
        enum outcome outcomes[MODEL_MAX];
        struct runs got = {.count = 0};
        struct random r = {.state = i};
        struct batch b;
        struct buf told;

        start(&b, &small_limits);
        for (size_t n = 0; v->outcomes[n] != '\0'; n++) {
            add_random(&b, &m, &r);
            b.entries[n].owner = (char *)(uintptr_t)v->owners + (v->owners[n] - '1');
            outcomes[n] = outcome_of(v->outcomes[n]);
        }
        batch_seal(&b);
        batch_fly(&b, b.count);
        (void)batch_judge(&b, outcomes, note_run, &got);
        buf_init(&told, 200);
        for (size_t n = 0; n < got.count; n++)
            assert_int_equal(buf_printf(&told, "%d:%u ",
                                        (int)((const char *)got.runs[n].owner - v->owners) + 1,
                                        got.runs[n].count),
                             0);
        if (!slice_equal(buf_slice(&told), slice_of(v->runs)))
            fail_msg("%s of %s: %.*s", v->outcomes, v->owners, SLICE_ARG(buf_slice(&told)));
        buf_done(&told);
        batch_done(&b);
    }
}

/* Filled, sealed, reopened, judged and filled again, many times over, a batch is what the model
 * says. */
static void lives_are_as_the_model_says(void **state)
{
    struct random r = {.state = 5};

    (void)state;
    for (int life = 0; life < 200; life++) {
        struct model m = {.count = 0};
        enum outcome outcomes[MODEL_MAX];
        uint64_t accept = random_below(&r, 5);
        struct batch b;

        start(&b, &small_limits);
        for (int round = 0; round < 30; round++) {
            size_t more = random_below(&r, MODEL_MAX - m.count + 1);

            if (b.state == BATCH_SEALED && random_below(&r, 2) == 0)
                batch_reopen(&b);
            if (b.state == BATCH_IDLE)
                b.state = BATCH_FILLING;
            for (size_t i = 0; i < more && b.state == BATCH_FILLING; i++) {
                assert_true(batch_fits(&b, DATA_MAX, KEY_RANDOM_LEN));
                add_random(&b, &m, &r);
                check(&b, &m);
            }
            if (m.count == 0)
                continue;
            if (b.state == BATCH_FILLING)
                batch_seal(&b);
            check(&b, &m);
            if (random_below(&r, 3) == 0)
                continue;
            batch_fly(&b, b.count);
            check(&b, &m);
            if (random_below(&r, 5) == 0) { /* nobody knows: all of it stays */
                batch_land(&b);
                continue;
            }
            for (size_t i = 0; i < m.count; i++)
                outcomes[i] = random_below(&r, 4) < accept
                                  ? OUTCOME_ACCEPTED
                                  : (enum outcome)(1 + random_below(&r, 3));
            judge(&b, &m, outcomes);
        }
        batch_done(&b);
    }
}

/* -- limits ------------------------------------------------------------------------------------ */

static void limits_are_met_exactly(void **state)
{
    const struct batch_limits limits = {3, 100, KEY_JSON_MAX};
    static const char data[100] = {0};
    char key[KEY_RANDOM_LEN + 2] = "\"12345678\"";
    struct batch b;

    (void)state;
    start(&b, &limits);
    assert_true(batch_fits(&b, 100, 0));
    assert_true(batch_fits(&b, 92, 8));
    assert_false(batch_fits(&b, 93, 8));
    assert_false(batch_fits(&b, 101, 0));
    batch_add(&b, (struct slice){data, 42}, key_of(key), NULL, nowhere, 0);
    assert_true(batch_fits(&b, 42, 8));
    assert_false(batch_fits(&b, 43, 8));
    batch_add(&b, (struct slice){data, 42}, key_of(key), NULL, nowhere, 0);
    assert_true(b.bytes == limits.bytes);
    assert_true(batch_fits(&b, 0, 0)); /* one record of nothing at all */
    assert_false(batch_fits(&b, 1, 0));
    assert_false(batch_fits(&b, 0, 1));
    batch_done(&b);

    start(&b, &limits);
    for (int i = 0; i < 3; i++) {
        assert_true(batch_fits(&b, 0, KEY_RANDOM_LEN));
        batch_add(&b, SLICE(""), key_of(key), NULL, nowhere, 0);
    }
    assert_false(batch_fits(&b, 0, 0));
    batch_seal(&b);
    batch_fly(&b, 3);
    assert_int_equal(read_body(batch_body(&b)), 3);
    batch_done(&b);
}

/* What a full batch of the worst records needs: the body has that much and the last byte of it is
 * ours, else the sanitizer or the page behind it would say so. */
static const struct worst {
    const char *name;
    struct batch_limits limits;
    uint32_t data_len, key_len; /* a key of 256 is of control characters, a shorter one plain */
} worsts[] = {
    {"empty records, long keys", {500, 10 * 1024 * 1024, KEY_JSON_MAX}, 0, 256},
    {"one byte, long keys", {500, 10 * 1024 * 1024, KEY_JSON_MAX}, 1, 256},
    {"bytes exactly used up by keys", {500, 500 * 256, KEY_JSON_MAX}, 0, 256},
    {"bytes exactly used up, base64 padded twice", {500, 500 * 257, KEY_JSON_MAX}, 1, 256},
    {"and once", {500, 500 * 258, KEY_JSON_MAX}, 2, 256},
    {"one record", {1, 257, KEY_JSON_MAX}, 1, 256},
    {"short keys", {500, 500 * 9, KEY_JSON_MAX}, 1, 8},
    {"keys bounded by what they are", {500, 500 * 9, KEY_RANDOM_LEN + 2}, 1, 8},
    {"the shortest of all", {500, 500 * 2, 3}, 1, 1},
    {"two bytes and a key of one", {500, 500 * 3, 3}, 2, 1},
    {"a record of 1 MiB", {500, 1024 * 1024, KEY_JSON_MAX}, 1024 * 1024 - 256, 256},
    {"ten of them", {500, 10 * 1024 * 1024, KEY_JSON_MAX}, 1024 * 1024 - 256, 256},
    {"of 1 MiB, short keys", {500, 10 * 1024 * 1024, KEY_JSON_MAX}, 1024 * 1024 - 8, 8},
};

static void the_body_is_never_overrun(void **state)
{
    char *data = calloc(1, 1024 * 1024);
    char control[KEY_UNITS_MAX], name[4096 - sizeof "{'StreamName':'','Records':[" + 1];
    struct key long_key;

    (void)state;
    assert_non_null(data);
    memset(control, 1, sizeof control);
    memset(name, 'x', sizeof name); /* the longest that fits */
    key_of_text((struct slice){control, sizeof control}, &long_key);
    for (size_t i = 0; i < ARRAY_LEN(worsts); i++) {
        const struct worst *w = &worsts[i];
        struct batch_key key = {SLICE("\"12345678\""), 8};
        enum outcome *outcomes = calloc(w->limits.records, sizeof *outcomes);
        struct runs runs = {.count = 0};
        struct batch b;
        uint32_t count = 0;

        assert_non_null(outcomes);
        if (w->key_len == 256)
            key = (struct batch_key){key_json(&long_key), (uint32_t)long_key.len};
        else if (w->key_len == 1)
            key = (struct batch_key){SLICE("\"1\""), 1};
        assert_int_equal(batch_init(&b, &kinesis_service, &w->limits,
                                    (struct slice){name, sizeof name}, SLICE("")),
                         0);
        b.state = BATCH_FILLING;
        for (; batch_fits(&b, w->data_len, key.len); count++)
            batch_add(&b, (struct slice){data, w->data_len}, key, NULL, nowhere, 0);
        assert_true(count == w->limits.records || b.bytes + w->data_len + key.len > b.limits.bytes);
        batch_seal(&b);
        batch_fly(&b, b.count);
        if (batch_body(&b).len > b.body_cap)
            fail_msg("%s: %zu of %zu bytes", w->name, batch_body(&b).len, b.body_cap);
        assert_int_equal(batch_judge(&b, outcomes, note_run, &runs), count);
        assert_true(runs.count == 1 && runs.runs[0].count == count);
        batch_done(&b);
        free(outcomes);
    }
    free(data);
}

static void an_arn_goes_before_a_name(void **state)
{
    struct batch b;

    (void)state;
    assert_int_equal(batch_init(&b, &kinesis_service, &small_limits, SLICE("s"),
                                SLICE("arn:aws:kinesis:eu-west-1:123456789012:stream/s")),
                     0);
    assert_true(slice_starts_with((struct slice){b.body, b.body_len},
                                  SLICE("{\"StreamARN\":\"arn:aws:kinesis:eu-west-1:123456789012:"
                                        "stream/s\",\"Records\":[")));
    batch_done(&b);
}

static void a_name_that_does_not_fit_is_refused(void **state)
{
    char name[8192];
    struct batch b;

    (void)state;
    memset(name, 'x', sizeof name);
    for (size_t len = 4000; len < sizeof name; len += 7) {
        int r =
            batch_init(&b, &kinesis_service, &small_limits, (struct slice){name, len}, SLICE(""));

        assert_true(r == 0 ? len < 4096 : len > 4000);
        if (r == 0)
            batch_done(&b);
    }
}

static void a_zero_batch_is_done_in_peace(void **state)
{
    struct batch b = {0};

    (void)state;
    batch_done(&b);
    batch_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_settle_runs),
        cmocka_unit_test(lives_are_as_the_model_says),
        cmocka_unit_test(limits_are_met_exactly),
        cmocka_unit_test(the_body_is_never_overrun),
        cmocka_unit_test(an_arn_goes_before_a_name),
        cmocka_unit_test(a_name_that_does_not_fit_is_refused),
        cmocka_unit_test(a_zero_batch_is_done_in_peace),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
