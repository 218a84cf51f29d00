#include "ship/firehose.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "answers.h"
#include "base64.h"
#include "buf.h"
#include "ship/aws_error.h"
#include "ship/batch.h"
#include "ship/kinesis.h"
#include "util.h"

/* -- answers ----------------------------------------------------------------------------------- */

#define OK(n)              "{\"RecordId\":\"Xn/+4954==" n "\"}"
#define BAD(code, message) "{\"ErrorCode\":\"" code "\",\"ErrorMessage\":\"" message "\"}"
#define SLOW               BAD("ServiceUnavailableException", "Slow down.")
#define INTERNAL           BAD("InternalFailure", "Internal failure.")

static const struct answer good[] = {
    {"all stored",
     "{\"FailedPutCount\":0,\"Encrypted\":false,\"RequestResponses\":[" OK("1") "," OK("2") "]}",
     "aa", "|"},
    {"encrypted", "{\"Encrypted\":true,\"FailedPutCount\":0,\"RequestResponses\":[" OK("1") "]}",
     "a", "|"},
    {"none at all", "{\"FailedPutCount\":0,\"RequestResponses\":[]}", "", "|"},
    {"some throttled",
     "{\"FailedPutCount\":2,\"RequestResponses\":[" OK("1") "," SLOW "," OK("2") "," SLOW "]}",
     "atat", "ServiceUnavailableException|Slow down."},
    {"all throttled, as is common",
     "{\"FailedPutCount\":3,\"RequestResponses\":[" SLOW "," SLOW "," SLOW "]}", "ttt",
     "ServiceUnavailableException|Slow down."},
    {"one failed there", "{\"FailedPutCount\":1,\"RequestResponses\":[" INTERNAL "," OK("1") "]}",
     "fa", "InternalFailure|Internal failure."},
    {"the first complaint is told", "{\"RequestResponses\":[" OK("1") "," INTERNAL "," SLOW "]}",
     "aft", "InternalFailure|Internal failure."},
    {"a code that is a person's business",
     "{\"RequestResponses\":[" OK("1") "," BAD("InvalidKMSResourceException", "no") "]}", "ah",
     "InvalidKMSResourceException|no"},
    {"a code that condemns",
     "{\"RequestResponses\":[" OK("1") "," BAD("InvalidArgumentException", "no") "]}", "ar",
     "InvalidArgumentException|no"},
    {"a code nobody knows", "{\"RequestResponses\":[" BAD("SomethingNew", "who knows") "]}", "u",
     "SomethingNew|who knows"},
    {"null is missing",
     "{\"FailedPutCount\":null,\"Encrypted\":null,\"RequestResponses\":[{\"RecordId\":\"1\","
     "\"ErrorCode\":null,\"ErrorMessage\":null},{\"RecordId\":null,\"ErrorCode\":"
     "\"InternalFailure\",\"ErrorMessage\":null}]}",
     "af", "InternalFailure|"},
    {"no FailedPutCount", "{\"RequestResponses\":[" OK("1") "]}", "a", "|"},
    {"a FailedPutCount that lies",
     "{\"FailedPutCount\":0,\"RequestResponses\":[" OK("1") "," SLOW "]}", "at",
     "ServiceUnavailableException|Slow down."},
    {"a FailedPutCount that lies the other way",
     "{\"FailedPutCount\":2,\"RequestResponses\":[" OK("1") "," OK("2") "]}", "aa", "|"},
    {"an empty id is none", "{\"RequestResponses\":[{\"RecordId\":\"\"},{}]}", "ff", "|"},
    {"a code weighs more than an id",
     "{\"RequestResponses\":[{\"RecordId\":\"1\",\"ErrorCode\":\"InternalFailure\"}]}", "f",
     "InternalFailure|"},
    {"the words of Kinesis say nothing here",
     "{\"Records\":[{\"SequenceNumber\":\"1\"}],\"RequestResponses\":[{\"SequenceNumber\":\"1\"},"
     "{\"RecordId\":\"1\"}]}",
     "fa", "|"},
};

/* To a request of two records. */
static const struct answer bad[] = {
    {"nothing", "", NULL, NULL},
    {"no JSON", "<html>503 Slow down</html>", NULL, NULL},
    {"no RequestResponses", "{\"FailedPutCount\":0,\"Encrypted\":false}", NULL, NULL},
    {"what Kinesis answers",
     "{\"FailedRecordCount\":0,\"Records\":[{\"SequenceNumber\":\"1\"},{\"SequenceNumber\":\"2\"}]"
     "}",
     NULL, NULL},
    {"RequestResponses is null", "{\"FailedPutCount\":0,\"RequestResponses\":null}", NULL, NULL},
    {"one too few", "{\"FailedPutCount\":0,\"RequestResponses\":[" OK("1") "]}", NULL, NULL},
    {"one too many", "{\"RequestResponses\":[" OK("1") "," OK("2") "," OK("3") "]}", NULL, NULL},
    {"an id that is a number", "{\"RequestResponses\":[" OK("1") ",{\"RecordId\":1}]}", NULL, NULL},
    {"twice",
     "{\"RequestResponses\":[" OK("1") "," OK("2") "],\"RequestResponses\":[" OK("1") "," OK(
         "2") "]}",
     NULL, NULL},
};

static void answers_are_read(void **state)
{
    (void)state;
    answers_must_be_read(&firehose_service, good, ARRAY_LEN(good));
}

static void what_is_no_answer_is_refused(void **state)
{
    (void)state;
    answers_must_be_refused(&firehose_service, bad, ARRAY_LEN(bad));
}

static void an_answer_is_whole_or_none(void **state)
{
    (void)state;
    answers_must_be_whole(&firehose_service, good, ARRAY_LEN(good));
}

/* The services do not take each other's answers. */
static void no_answer_is_the_other_services(void **state)
{
    char letters[ANSWER_RECORDS_MAX + 1], complaint[200];

    (void)state;
    for (size_t i = 0; i + 1 < ARRAY_LEN(good); i++)
        assert_int_equal(answer_read(&kinesis_service, slice_of(good[i].body),
                                     strlen(good[i].outcomes), letters, complaint),
                         -EBADMSG);
}

/* -- requests ---------------------------------------------------------------------------------- */

static void settled(void *user, void *owner, uint32_t count)
{
    (void)owner;
    *(uint32_t *)user += count;
}

/* A record is its data: no key, and nothing between the quote that ends it and the bracket. */
static void a_request_is_what_firehose_reads(void **state)
{
    static const enum outcome outcomes[] = {OUTCOME_ACCEPTED, OUTCOME_THROTTLED, OUTCOME_ACCEPTED};
    const struct batch_limits limits = {.records = 3, .bytes = 1000};
    const struct batch_key none = {SLICE(""), 0};
    const struct batch_origin nowhere = {0};
    uint32_t count = 0;
    struct batch b;

    (void)state;
    assert_int_equal(batch_init(&b, &firehose_service, &limits, SLICE("d-1"), SLICE("")), 0);
    b.state = BATCH_FILLING;
    batch_add(&b, SLICE("hello\n"), none, NULL, nowhere, 0);
    batch_add(&b, SLICE(""), none, NULL, nowhere, 0);
    batch_add(&b, SLICE("x"), none, NULL, nowhere, 0);
    assert_int_equal(b.bytes, 7);
    batch_seal(&b);
    batch_fly(&b, 3);
    assert_true(slice_equal(
        batch_body(&b), SLICE("{\"DeliveryStreamName\":\"d-1\",\"Records\":[{\"Data\":\"aGVsbG8K"
                              "\"},{\"Data\":\"\"},{\"Data\":\"eA==\"}]}")));
    assert_int_equal(batch_judge(&b, outcomes, settled, &count), 2);
    assert_int_equal(count, 2);
    batch_fly(&b, 1);
    assert_true(slice_equal(
        batch_body(&b), SLICE("{\"DeliveryStreamName\":\"d-1\",\"Records\":[{\"Data\":\"\"}]}")));
    batch_done(&b);
}

/* What fits by the numbers fits into the body, to the last byte. */
static void the_largest_request_fits(void **state)
{
    const struct batch_limits limits = {firehose_service.records_max, firehose_service.bytes_max,
                                        0};
    char *data = calloc(1, firehose_service.record_max);
    const struct batch_key none = {SLICE(""), 0};
    const struct batch_origin nowhere = {0};
    uint64_t left = firehose_service.bytes_max;
    struct batch b;

    (void)state;
    assert_non_null(data);
    assert_int_equal(batch_init(&b, &firehose_service, &limits, SLICE("d"), SLICE("")), 0);
    b.state = BATCH_FILLING;
    for (uint32_t i = 0; i < limits.records; i++) { /* 1, 2, 3 or 0 characters short of a group */
        size_t len = i + 1 < limits.records ? left / (limits.records - i) - i % 3 : left;

        assert_true(batch_fits(&b, len, 0));
        batch_add(&b, (struct slice){data, len}, none, NULL, nowhere, 0);
        left -= len;
    }
    assert_false(batch_fits(&b, 0, 0));
    assert_int_equal(b.bytes, firehose_service.bytes_max);
    batch_seal(&b);
    batch_fly(&b, b.count);
    assert_true(batch_body(&b).len <= b.body_cap);
    batch_done(&b);
    free(data);
}

static const struct beginning {
    struct slice stream, arn, body;
} beginnings[] = {
    {SLICE("d"), SLICE(""), SLICE("{\"DeliveryStreamName\":\"d\",\"Records\":[")},
    {SLICE("a_b.c-9"), SLICE(""), SLICE("{\"DeliveryStreamName\":\"a_b.c-9\",\"Records\":[")},
    /* there is no form with an ARN */
    {SLICE("d"), SLICE("arn:aws:firehose:eu-west-1:1:deliverystream/d"),
     SLICE("{\"DeliveryStreamName\":\"d\",\"Records\":[")},
};

static void requests_begin_with_their_stream(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(beginnings); i++) {
        const struct beginning *g = &beginnings[i];
        struct buf b;

        for (size_t max = 0; max <= g->body.len; max++) {
            int r;

            buf_init(&b, max);
            r = firehose_service.begin(&b, g->stream, g->arn);
            assert_int_equal(r, max < g->body.len ? -EMSGSIZE : 0);
            if (r == 0)
                assert_true(slice_equal(buf_slice(&b), g->body));
            buf_done(&b);
        }
    }
}

/* PutRecordBatch, API reference. */
static void the_numbers_are_the_services(void **state)
{
    (void)state;
    assert_string_equal(firehose_service.put_target, "Firehose_20150804.PutRecordBatch");
    assert_string_equal(firehose_service.signing_name, "firehose");
    assert_int_equal(firehose_service.records_max, 500);
    assert_int_equal(firehose_service.bytes_max, 4194304);
    assert_int_equal(firehose_service.record_max, 1024000);
    assert_int_equal(firehose_service.key_units_max, 0);
}

/* -- errors of whole requests ------------------------------------------------------------------ */

#define FROM_KINESIS                                                                               \
    "This operation is not permitted on KinesisStreamAsSource delivery stream type."

/* The errors of PutRecordBatch, API reference, and what a person is told. */
static const struct error {
    const char *code, *message;
    long status;
    enum aws_error_class class;
    const char *word;
} errors[] = {
    {"ServiceUnavailableException", "Slow down.", 503, AWS_ERROR_THROTTLED, "quota"},
    {"ServiceUnavailableException", "", 500, AWS_ERROR_THROTTLED, "delivery stream"},
    {"ServiceUnavailable", "", 503, AWS_ERROR_TRANSIENT, "wait"},
    {"LimitExceededException", "", 400, AWS_ERROR_THROTTLED, "quota"},
    {"InternalFailure", "", 500, AWS_ERROR_TRANSIENT, "wait"},
    {"ResourceNotFoundException", "Firehose d under account 1 not found.", 400, AWS_ERROR_OPERATOR,
     "delivery stream's name"},
    {"AccessDeniedException", "", 400, AWS_ERROR_OPERATOR, "firehose:PutRecordBatch"},
    {"InvalidKMSResourceException", "", 400, AWS_ERROR_OPERATOR, "KMS key"},
    {"InvalidSourceException", "Only requests from CloudWatch Logs are supported.", 400,
     AWS_ERROR_OPERATOR, "Direct PUT"},
    {"InvalidArgumentException", FROM_KINESIS, 400, AWS_ERROR_OPERATOR, "Kinesis stream"},
    {"InvalidArgumentException", "Records size exceeds 4 MB limit", 400, AWS_ERROR_REFUSED,
     "which one"},
    {"ValidationException", "", 400, AWS_ERROR_REFUSED, "which one"},
    {"SomethingNew", "", 400, AWS_ERROR_REFUSED, "report"},
    {"HTTP 404", "", 404, AWS_ERROR_REFUSED, "endpoint.firehose"},
};

static void errors_have_their_class_and_advice(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        const struct error *e = &errors[i];
        struct slice code = slice_of(e->code), message = slice_of(e->message);
        enum aws_error_class c = aws_error_class_of_status(code, message, e->status);
        const char *advice = aws_error_advice(&firehose_service, code, message, c);

        if (c != e->class || strstr(advice, e->word) == NULL)
            fail_msg("%s, %s: %d, %s", e->code, e->message, (int)c, advice);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(an_answer_is_whole_or_none),
        cmocka_unit_test(no_answer_is_the_other_services),
        cmocka_unit_test(a_request_is_what_firehose_reads),
        cmocka_unit_test(the_largest_request_fits),
        cmocka_unit_test(requests_begin_with_their_stream),
        cmocka_unit_test(the_numbers_are_the_services),
        cmocka_unit_test(errors_have_their_class_and_advice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
