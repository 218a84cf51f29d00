/* summary: what is read out of an answer, and when it is asked for again; on a clock that the test
 * turns, against a service that answers when the test says so. */
#include "ship/summary.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "clock.h"
#include "random.h"
#include "run/log.h"
#include "run/loop.h"
#include "ship/client.h"
#include "util.h"

enum { SECOND = 1000, MINUTE = 60 * SECOND, MIB = 1024 * 1024 };

/* --- what an answer says --- */

static const struct answer_story {
    const char *name, *body;
    uint64_t record_max;
    bool auto_placed;
    enum summary_mode mode;
    enum summary_status status;
    bool bad;
} answers[] = {
    {"all of it",
     "{\"StreamDescriptionSummary\":{\"StreamName\":\"s\",\"StreamStatus\":\"ACTIVE\","
     "\"StreamModeDetails\":{\"StreamMode\":\"ON_DEMAND\"},\"EnhancedMonitoring\":"
     "[{\"ShardLevelMetrics\":[]}],\"OpenShardCount\":4,\"MaxRecordSizeInKiB\":10240,"
     "\"RecordDistributionStrategy\":\"AUTO\",\"WarmThroughput\":{\"TargetMiBps\":1}}}",
     10 * MIB, true, SUMMARY_ON_DEMAND, SUMMARY_ACTIVE, false},
    {"only what is always there",
     " { \"StreamDescriptionSummary\" : { \"StreamName\" : \"s\", \"StreamStatus\":\"UPDATING\" } "
     "} ",
     MIB, false, SUMMARY_MODE_UNKNOWN, SUMMARY_UPDATING, false},
    {"null is as good as missing",
     "{\"StreamDescriptionSummary\":{\"StreamStatus\":null,\"StreamModeDetails\":null,"
     "\"MaxRecordSizeInKiB\":null,\"RecordDistributionStrategy\":null}}",
     MIB, false, SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"null within", "{\"StreamDescriptionSummary\":{\"StreamModeDetails\":{\"StreamMode\":null}}}",
     MIB, false, SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"nothing of it", "{\"StreamDescriptionSummary\":{}}", MIB, false, SUMMARY_MODE_UNKNOWN,
     SUMMARY_STATUS_UNKNOWN, false},
    {"members of another time",
     "{\"Later\":[{}],\"StreamDescriptionSummary\":{\"New\":{\"MaxRecordSizeInKiB\":2048},"
     "\"StreamModeDetails\":{\"New\":[1],\"StreamMode\":\"PROVISIONED\"}},\"More\":1}",
     MIB, false, SUMMARY_PROVISIONED, SUMMARY_STATUS_UNKNOWN, false},
    {"words of another time",
     "{\"StreamDescriptionSummary\":{\"StreamStatus\":\"RESTING\",\"StreamModeDetails\":"
     "{\"StreamMode\":\"MAGIC\"},\"RecordDistributionStrategy\":\"FAIR\"}}",
     MIB, false, SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"placed by keys",
     "{\"StreamDescriptionSummary\":{\"RecordDistributionStrategy\":\"USER_PARTITION_KEY\","
     "\"StreamStatus\":\"CREATING\"}}",
     MIB, false, SUMMARY_MODE_UNKNOWN, SUMMARY_CREATING, false},
    {"in between", "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":1500}}", 1500 * 1024,
     false, SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"a number in quotes", "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":\"2048\"}}",
     2 * MIB, false, SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"less than every stream takes", "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":1}}",
     MIB, false, SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"zero", "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":0}}", MIB, false,
     SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"more than a request takes",
     "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":20480,\"StreamStatus\":\"DELETING\"}}",
     10 * MIB, false, SUMMARY_MODE_UNKNOWN, SUMMARY_DELETING, false},
    {"more than a number takes",
     "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":18446744073709551616}}", MIB, false,
     SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"less than nothing", "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":-2048}}", MIB,
     false, SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"no whole number", "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":2e3}}", MIB, false,
     SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"no number at all", "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":{\"a\":[2048]}}}",
     MIB, false, SUMMARY_MODE_UNKNOWN, SUMMARY_STATUS_UNKNOWN, false},
    {"empty", "", 0, false, 0, 0, true},
    {"no object", "[]", 0, false, 0, 0, true},
    {"no description", "{}", 0, false, 0, 0, true},
    {"another answer", "{\"FailedRecordCount\":0,\"Records\":[]}", 0, false, 0, 0, true},
    {"no description but null", "{\"StreamDescriptionSummary\":null}", 0, false, 0, 0, true},
    {"cut", "{\"StreamDescriptionSummary\":{\"MaxRecordSizeInKiB\":2048}", 0, false, 0, 0, true},
    {"more behind it", "{\"StreamDescriptionSummary\":{}}{}", 0, false, 0, 0, true},
    {"a page", "<html>502</html>", 0, false, 0, 0, true},
};

static void answers_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        const struct answer_story *a = &answers[i];
        struct summary_news n = {.record_max = 1};
        int r = summary_read(slice_of(a->body), &n);

        if (r != (a->bad ? -EBADMSG : 0))
            fail_msg("%s: %d", a->name, r);
        if (a->bad) {
            assert_int_equal(n.record_max, 1);
            continue;
        }
        if (n.record_max != a->record_max || n.auto_placed != a->auto_placed || n.mode != a->mode ||
            n.status != a->status)
            fail_msg("%s: %llu %d %d %d", a->name, (unsigned long long)n.record_max, n.auto_placed,
                     n.mode, n.status);
    }
}

/* Wherever it ends, the beginning of an answer is none. */
static void a_cut_answer_is_none(void **state)
{
    size_t len = strlen(answers[0].body);

    (void)state;
    for (size_t n = 0; n < len; n++) {
        struct summary_news news;
        char *copy = malloc(n + 1); /* of this size, so that a sanitizer sees what is beyond */

        memcpy(copy, answers[0].body, n);
        assert_int_equal(summary_read((struct slice){copy, n}, &news), -EBADMSG);
        free(copy);
    }
}

/* --- when it is asked for --- */

static struct world {
    struct clock clock;
    uint64_t mono_ms;
    struct transport transport;
    struct http_call *call; /* on its way */
    size_t sent, cancelled;
    int send_error;
    struct random random;
    struct loop *loop;
    struct client *client;
    struct summary *summary;
    struct summary_user users[2];
    size_t told[2];
    struct summary_news last;
} w;

static uint64_t fake_mono(const struct clock *c)
{
    return CONTAINER_OF(c, struct world, clock)->mono_ms;
}

static int64_t fake_wall(const struct clock *c)
{
    (void)c;
    return INT64_C(1795269255016);
}

static int fake_send(struct transport *t, struct http_call *call)
{
    (void)t;
    assert_null(w.call);
    if (w.send_error < 0)
        return w.send_error;
    w.call = call;
    w.sent++;
    return 0;
}

static void fake_cancel(struct transport *t, struct http_call *call)
{
    (void)t;
    assert_ptr_equal(w.call, call);
    w.call = NULL;
    w.cancelled++;
}

static void hear(void *user, const struct summary_news *n)
{
    ++*(size_t *)user;
    w.last = *n;
}

static void begin(const char *name, const char *arn)
{
    const struct summary_settings settings = {arn != NULL ? arn : name, slice_of(name),
                                              slice_of(arn)};
    struct client_settings client = {
        .region = SLICE("eu-west-1"),
        .service = SLICE("kinesis"),
        .access_key_id = SLICE("a"),
        .secret_access_key = SLICE("s"),
    };

    w = (struct world){.clock = {fake_mono, fake_wall},
                       .mono_ms = 5000,
                       .transport = {fake_send, fake_cancel},
                       .random = {7}};
    assert_int_equal(endpoint_from_url(SLICE("http://127.0.0.1:1"), &client.endpoint), 0);
    assert_int_equal(loop_new(&w.clock, &w.loop), 0);
    assert_int_equal(client_new(&w.transport, &w.clock, &client, &w.client), 0);
    assert_int_equal(summary_new(w.loop, &w.random, w.client, &settings, &w.summary), 0);
    for (size_t i = 0; i < ARRAY_LEN(w.users); i++) {
        w.users[i] = (struct summary_user){.told = hear, .user = &w.told[i]};
        list_init(&w.users[i].node);
        summary_join(w.summary, &w.users[i]);
    }
}

static void end(void)
{
    for (size_t i = 0; i < ARRAY_LEN(w.users); i++)
        summary_leave(&w.users[i]);
    summary_free(w.summary);
    assert_null(w.call);
    client_free(w.client);
    loop_free(w.loop);
}

/* Lets `ms` pass. */
static void pass(uint64_t ms)
{
    uint64_t until = w.mono_ms + ms;

    while (w.mono_ms < until) {
        w.mono_ms = MIN(loop_next_ms(w.loop), until);
        assert_int_equal(loop_step(w.loop, 0), 0);
    }
    assert_int_equal(loop_step(w.loop, 0), 0);
}

/* Lets time pass until it is asked; how long that was. */
static uint64_t until_asked(uint64_t at_most)
{
    uint64_t from = w.mono_ms;

    assert_int_equal(loop_step(w.loop, 0), 0);
    while (w.call == NULL) {
        uint64_t next = loop_next_ms(w.loop);

        assert_true(next <= from + at_most);
        w.mono_ms = MAX(next, w.mono_ms);
        assert_int_equal(loop_step(w.loop, 0), 0);
    }
    return w.mono_ms - from;
}

static void answer(long status, const char *body)
{
    const struct http_answer a = {.why = "", .status = status, .body = slice_of(body)};
    struct http_call *call = w.call;

    assert_non_null(call);
    w.call = NULL;
    call->done(call, &a);
}

static void fail_call(void)
{
    const struct http_answer a = {.error = -ECONNREFUSED, .why = "nobody there"};
    struct http_call *call = w.call;

    assert_non_null(call);
    w.call = NULL;
    call->done(call, &a);
}

#define SAYS(members) "{\"StreamDescriptionSummary\":{" members "}}"
#define LARGE         SAYS("\"MaxRecordSizeInKiB\":2048")

static bool has_header(const char *header)
{
    for (size_t i = 0; w.call->headers[i] != NULL; i++)
        if (strcmp(w.call->headers[i], header) == 0)
            return true;
    return false;
}

static void it_is_asked_at_once_and_every_few_minutes(void **state)
{
    uint64_t shortest = UINT64_MAX, longest = 0;

    (void)state;
    begin("s\"1", NULL);
    pass(MINUTE);
    assert_int_equal(w.sent, 0); /* not started */
    assert_int_equal(summary_get(w.summary)->record_max, MIB);
    summary_start(w.summary);
    assert_int_equal(until_asked(0), 0);
    assert_true(has_header("X-Amz-Target: Kinesis_20131202.DescribeStreamSummary"));
    assert_true(slice_equal(w.call->body, SLICE("{\"StreamName\":\"s\\\"1\"}")));
    assert_int_equal(w.call->timeout_ms, SUMMARY_TIMEOUT_MS);
    assert_int_equal(summary_state(w.summary), SUMMARY_ASKING);
    for (int i = 0; i < 200; i++) {
        uint64_t waited;

        answer(200, SAYS("\"StreamStatus\":\"ACTIVE\""));
        assert_int_equal(summary_state(w.summary), SUMMARY_KNOWN);
        waited = until_asked(2 * SUMMARY_EVERY_MS);
        shortest = MIN(shortest, waited);
        longest = MAX(longest, waited);
    }
    assert_true(shortest >= SUMMARY_EVERY_MS && shortest < SUMMARY_EVERY_MS + MINUTE);
    assert_true(longest > 2 * SUMMARY_EVERY_MS - MINUTE);
    answer(200, SAYS("\"StreamStatus\":\"ACTIVE\""));
    assert_int_equal(w.told[0], 1); /* what did not change is no news */
    assert_int_equal(summary_tries(w.summary), 201);
    end();
}

static void an_arn_is_asked_for_by_its_arn(void **state)
{
    (void)state;
    begin(NULL, "arn:aws:kinesis:eu-west-1:123456789012:stream/s");
    assert_true(
        summary_is_of(w.summary, w.client, "arn:aws:kinesis:eu-west-1:123456789012:stream/s"));
    assert_false(summary_is_of(w.summary, w.client, "s"));
    assert_false(summary_is_of(w.summary, NULL, "arn:aws:kinesis:eu-west-1:123456789012:stream/s"));
    summary_start(w.summary);
    (void)until_asked(0);
    assert_true(
        slice_equal(w.call->body,
                    SLICE("{\"StreamARN\":\"arn:aws:kinesis:eu-west-1:123456789012:stream/s\"}")));
    end();
    assert_int_equal(w.cancelled, 1);
}

static void everybody_hears_what_is_new(void **state)
{
    (void)state;
    begin("s", NULL);
    summary_start(w.summary);
    (void)until_asked(0);
    answer(200, LARGE);
    assert_int_equal(w.told[0], 1);
    assert_int_equal(w.told[1], 1);
    assert_int_equal(w.last.record_max, 2 * MIB);
    summary_leave(&w.users[1]);
    (void)until_asked(2 * SUMMARY_EVERY_MS);
    answer(200, SAYS("\"RecordDistributionStrategy\":\"AUTO\",\"StreamModeDetails\":"
                     "{\"StreamMode\":\"ON_DEMAND\"}"));
    assert_int_equal(w.told[0], 2);
    assert_int_equal(w.told[1], 1);
    assert_int_equal(w.last.record_max, MIB); /* lowered */
    assert_true(w.last.auto_placed);
    assert_int_equal(w.last.mode, SUMMARY_ON_DEMAND);
    end();
}

/* Once known, a failure changes nothing. */
static void what_was_said_last_holds(void **state)
{
    static const char *const bodies[] = {"", "{}", "{\"__type\":\"AccessDeniedException\"}"};
    static const long statuses[] = {200, 400, 403, 500};

    (void)state;
    begin("s", NULL);
    summary_start(w.summary);
    (void)until_asked(0);
    answer(200, LARGE);
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
        for (size_t n = 0; n < ARRAY_LEN(statuses); n++) {
            assert_true(until_asked(2 * SUMMARY_EVERY_MS) >= SUMMARY_EVERY_MS);
            answer(statuses[n], bodies[i]);
            assert_int_equal(summary_state(w.summary), SUMMARY_KNOWN);
        }
    (void)until_asked(2 * SUMMARY_EVERY_MS);
    fail_call();
    assert_int_equal(w.told[0], 1);
    assert_int_equal(summary_get(w.summary)->record_max, 2 * MIB);
    end();
}

/* Somebody answered, and it is no "not now": nobody waits for it any more.  It may be allowed later. */
static void a_refusal_is_final_for_now(void **state)
{
    static const struct {
        long status;
        const char *body;
    } refusals[] = {
        {400, "{\"__type\":\"AccessDeniedException\",\"Message\":\"not authorized\"}"},
        {400, "{\"__type\":\"UnknownOperationException\"}"},
        {403, "<Error><Code>AccessDenied</Code></Error>"},
        {403, ""},
        {404, ""},
        {400, "{\"__type\":\"InvalidArgumentException\"}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        begin("s", NULL);
        summary_start(w.summary);
        (void)until_asked(0);
        answer(refusals[i].status, refusals[i].body);
        if (summary_state(w.summary) != SUMMARY_SILENT)
            fail_msg("%ld %s", refusals[i].status, refusals[i].body);
        assert_int_equal(w.told[0], 0);
        assert_int_equal(summary_get(w.summary)->record_max, MIB);
        assert_true(until_asked(2 * SUMMARY_EVERY_MS) >= SUMMARY_EVERY_MS);
        answer(200, LARGE);
        assert_int_equal(summary_state(w.summary), SUMMARY_KNOWN);
        assert_int_equal(w.told[0], 1);
        end();
    }
}

/* Nobody there, not now, or trouble that stops records, too: it is asked again, ever more slowly. */
static void what_passes_is_asked_again(void **state)
{
    static const struct {
        long status; /* 0: no answer */
        const char *body;
        uint64_t at_least; /* waited before the second try */
    } failures[] = {
        {0, "", SECOND},
        {500, "", SECOND},
        {503, "{\"__type\":\"ServiceUnavailable\"}", SECOND},
        {200, "<html>", SECOND},
        {400, "{\"__type\":\"LimitExceededException\"}", 15 * SECOND},
        {429, "", 15 * SECOND},
        {400, "{\"__type\":\"ExpiredTokenException\"}", SECOND},
        {400, "{\"__type\":\"ResourceNotFoundException\"}", SECOND},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(failures); i++) {
        uint64_t hour = 0;
        size_t tries = 0;

        begin("s", NULL);
        summary_start(w.summary);
        (void)until_asked(0);
        while (hour < 60 * MINUTE) {
            uint64_t waited;

            if (failures[i].status == 0)
                fail_call();
            else
                answer(failures[i].status, failures[i].body);
            assert_int_equal(summary_state(w.summary), SUMMARY_ASKING);
            waited = until_asked(SUMMARY_EVERY_MS + MINUTE);
            assert_true(waited >= failures[i].at_least);
            hour += waited;
            tries++;
        }
        assert_in_range(tries, 8, 120);
        answer(200, LARGE);
        assert_int_equal(w.told[0], 1);
        end();
    }
}

static void what_cannot_be_sent_is_sent_later(void **state)
{
    (void)state;
    begin("s", NULL);
    w.send_error = -EAGAIN;
    summary_start(w.summary);
    pass(10 * MINUTE);
    assert_int_equal(w.sent, 0);
    assert_true(summary_tries(w.summary) > 2);
    w.send_error = 0;
    (void)until_asked(SUMMARY_EVERY_MS + MINUTE);
    answer(200, LARGE);
    assert_int_equal(w.told[0], 1);
    end();
}

static void a_doubt_asks_soon_but_not_often(void **state)
{
    (void)state;
    begin("s", NULL);
    summary_doubt(w.summary);
    pass(MINUTE);
    assert_int_equal(w.sent, 0); /* not started: there is no doubting yet */
    summary_start(w.summary);
    (void)until_asked(0);
    summary_doubt(w.summary);
    answer(200, LARGE);
    pass(10 * SECOND);
    assert_int_equal(w.sent, 1);
    summary_doubt(w.summary);
    assert_int_equal(until_asked(MINUTE), 50 * SECOND);
    answer(200, LARGE);
    pass(2 * MINUTE);
    for (int i = 0; i < 1000; i++)
        summary_doubt(w.summary);
    assert_int_equal(until_asked(0), 0);
    answer(200, LARGE);
    for (int i = 0; i < 300; i++) {
        summary_doubt(w.summary);
        pass(SECOND);
        if (w.call != NULL)
            answer(200, LARGE);
    }
    assert_in_range(w.sent, 7, 9);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(a_cut_answer_is_none),
        cmocka_unit_test(it_is_asked_at_once_and_every_few_minutes),
        cmocka_unit_test(an_arn_is_asked_for_by_its_arn),
        cmocka_unit_test(everybody_hears_what_is_new),
        cmocka_unit_test(what_was_said_last_holds),
        cmocka_unit_test(a_refusal_is_final_for_now),
        cmocka_unit_test(what_passes_is_asked_again),
        cmocka_unit_test(what_cannot_be_sent_is_sent_later),
        cmocka_unit_test(a_doubt_asks_soon_but_not_often),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
