#include "ship/kinesis.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "answers.h"
#include "buf.h"
#include "ship/aws_error.h"
#include "util.h"

/* -- answers ----------------------------------------------------------------------------------- */

#define OK(n)              "{\"SequenceNumber\":\"4954" n "\",\"ShardId\":\"shardId-0000" n "\"}"
#define BAD(code, message) "{\"ErrorCode\":\"" code "\",\"ErrorMessage\":\"" message "\"}"

static const struct answer good[] = {
    {"all stored", "{\"FailedRecordCount\":0,\"Records\":[" OK("1") "," OK("2") "]}", "aa", "|"},
    {"with the encryption's type",
     "{\"EncryptionType\":\"KMS\",\"FailedRecordCount\":0,\"Records\":[" OK("1") "]}", "a", "|"},
    {"none at all", "{\"FailedRecordCount\":0,\"Records\":[]}", "", "|"},
    {"some throttled",
     "{\"FailedRecordCount\":2,\"Records\":[" OK("1") "," BAD(
         "ProvisionedThroughputExceededException",
         "Rate exceeded for shard") "," OK("2") "," BAD("ProvisionedThroughputExceededException",
                                                        "another") "]}",
     "atat", "ProvisionedThroughputExceededException|Rate exceeded for shard"},
    {"one failed there",
     "{\"FailedRecordCount\":1,\"Records\":[" BAD("InternalFailure",
                                                  "Internal Service Failure") "," OK("1") "]}",
     "fa", "InternalFailure|Internal Service Failure"},
    {"the first complaint is told",
     "{\"Records\":[" OK("1") "," BAD("InternalFailure", "first") "," BAD("KMSDisabledException",
                                                                          "second") "]}",
     "afh", "InternalFailure|first"},
    {"a code nobody knows", "{\"Records\":[" BAD("SomethingNew", "who knows") "]}", "u",
     "SomethingNew|who knows"},
    {"a code that is an operator's", "{\"Records\":[" BAD("KMSAccessDeniedException", "no") "]}",
     "h", "KMSAccessDeniedException|no"},
    {"a code without a message", "{\"Records\":[{\"ErrorCode\":\"InternalFailure\"}]}", "f",
     "InternalFailure|"},
    {"null is missing",
     "{\"FailedRecordCount\":null,\"EncryptionType\":null,\"Records\":[{\"SequenceNumber\":\"1\","
     "\"ShardId\":null,\"ErrorCode\":null,\"ErrorMessage\":null},{\"SequenceNumber\":null,"
     "\"ShardId\":null,\"ErrorCode\":\"InternalFailure\",\"ErrorMessage\":null}]}",
     "af", "InternalFailure|"},
    {"no FailedRecordCount", "{\"Records\":[" OK("1") "]}", "a", "|"},
    {"a FailedRecordCount that lies",
     "{\"FailedRecordCount\":7,\"Records\":[" OK("1") "," BAD("InternalFailure", "") "]}", "af",
     "InternalFailure|"},
    {"an empty sequence number is none",
     "{\"Records\":[{\"SequenceNumber\":\"\",\"ShardId\":\"shardId-1\"},{}]}", "ff", "|"},
    {"a code weighs more than a sequence number",
     "{\"Records\":[{\"SequenceNumber\":\"1\",\"ErrorCode\":\"InternalFailure\"}]}", "f",
     "InternalFailure|"},
    {"an empty code is none", "{\"Records\":[{\"SequenceNumber\":\"1\",\"ErrorCode\":\"\"}]}", "a",
     "|"},
    {"members nobody knows",
     "{\"New\":{\"Records\":[1,{\"ErrorCode\":\"x\"}],\"x\":[[],{}]},\"Records\":[{\"A\":[{\"B\":"
     "null}],\"SequenceNumber\":\"1\",\"ErrorDetail\":{\"ErrorCode\":\"x\"},\"Z\":1.5e3}],\"Z\":"
     "[]}",
     "a", "|"},
    {"white space and another order",
     " {\n\"Records\" : [ {\"ShardId\":\"s\" , \"SequenceNumber\":\"1\"} ] ,\t\"FailedRecordCount\""
     " : 0 } \r\n",
     "a", "|"},
    {"escaped names", "{\"\\u0052ecords\":[{\"Sequence\\u004eumber\":\"1\"}]}", "a", "|"},
    {"names in another case are other names",
     "{\"records\":1,\"Records\":[{\"sequenceNumber\":\"1\"}]}", "f", "|"},
};

/* Answers to a request of two records that say nothing we could rely on. */
static const struct answer bad[] = {
    {"nothing", "", NULL, NULL},
    {"blank", "  ", NULL, NULL},
    {"no JSON", "<html>502 Bad Gateway</html>", NULL, NULL},
    {"no object", "[]", NULL, NULL},
    {"a string", "\"Records\"", NULL, NULL},
    {"no Records", "{\"FailedRecordCount\":0}", NULL, NULL},
    {"Records below another member", "{\"x\":{\"Records\":[" OK("1") "," OK("2") "]}}", NULL, NULL},
    {"Records is null", "{\"Records\":null}", NULL, NULL},
    {"Records is an object", "{\"Records\":{}}", NULL, NULL},
    {"Records is text", "{\"Records\":\"aa\"}", NULL, NULL},
    {"one too few", "{\"Records\":[" OK("1") "]}", NULL, NULL},
    {"none", "{\"Records\":[]}", NULL, NULL},
    {"one too many", "{\"Records\":[" OK("1") "," OK("2") "," OK("3") "]}", NULL, NULL},
    {"an entry is null", "{\"Records\":[" OK("1") ",null]}", NULL, NULL},
    {"an entry is a list", "{\"Records\":[" OK("1") ",[]]}", NULL, NULL},
    {"an entry is text", "{\"Records\":[\"1\",\"2\"]}", NULL, NULL},
    {"a sequence number that is a number", "{\"Records\":[" OK("1") ",{\"SequenceNumber\":4954}]}",
     NULL, NULL},
    {"a code that is an object", "{\"Records\":[" OK("1") ",{\"ErrorCode\":{}}]}", NULL, NULL},
    {"a message that is a list", "{\"Records\":[" OK("1") ",{\"ErrorMessage\":[]}]}", NULL, NULL},
    {"Records twice",
     "{\"Records\":[" OK("1") "," OK("2") "],\"Records\":[" OK("1") "," OK("2") "]}", NULL, NULL},
    {"garbage behind", "{\"Records\":[" OK("1") "," OK("2") "]}x", NULL, NULL},
    {"a bracket behind", "{\"Records\":[" OK("1") "," OK("2") "]}}", NULL, NULL},
    {"another answer behind", "{\"Records\":[" OK("1") "," OK("2") "]}{}", NULL, NULL},
    {"a broken member behind", "{\"Records\":[" OK("1") "," OK("2") "],\"x\":}", NULL, NULL},
    {"no comma", "{\"Records\":[" OK("1") OK("2") "]}", NULL, NULL},
    {"wrong brackets", "{\"Records\":[" OK("1") "," OK("2") "}]", NULL, NULL},
};

static void answers_are_read(void **state)
{
    (void)state;
    answers_must_be_read(&kinesis_service, good, ARRAY_LEN(good));
}

static void what_is_no_answer_is_refused(void **state)
{
    (void)state;
    answers_must_be_refused(&kinesis_service, bad, ARRAY_LEN(bad));
}

static void an_answer_is_whole_or_none(void **state)
{
    (void)state;
    answers_must_be_whole(&kinesis_service, good, ARRAY_LEN(good));
}

/* -- requests ---------------------------------------------------------------------------------- */

static const struct beginning {
    struct slice stream, arn, body;
} beginnings[] = {
    {SLICE("logs"), SLICE(""), SLICE("{\"StreamName\":\"logs\",\"Records\":[")},
    {SLICE("a_b.c-9"), SLICE(""), SLICE("{\"StreamName\":\"a_b.c-9\",\"Records\":[")},
    {SLICE(""), SLICE("arn:aws:kinesis:eu-west-1:123456789012:stream/logs"),
     SLICE("{\"StreamARN\":\"arn:aws:kinesis:eu-west-1:123456789012:stream/logs\",\"Records\":[")},
    {SLICE("logs"), SLICE("arn:aws-cn:kinesis:cn-north-1:1:stream/logs"),
     SLICE("{\"StreamARN\":\"arn:aws-cn:kinesis:cn-north-1:1:stream/logs\",\"Records\":[")},
    {SLICE("\"\n"), SLICE(""), SLICE("{\"StreamName\":\"\\\"\\n\",\"Records\":[")},
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
            r = kinesis_service.begin(&b, g->stream, g->arn);
            assert_int_equal(r, max < g->body.len ? -EMSGSIZE : 0);
            if (r == 0)
                assert_true(slice_equal(buf_slice(&b), g->body));
            buf_done(&b);
        }
    }
}

/* PutRecords, API reference. */
static void the_numbers_are_the_services(void **state)
{
    (void)state;
    assert_string_equal(kinesis_service.put_target, "Kinesis_20131202.PutRecords");
    assert_string_equal(kinesis_service.signing_name, "kinesis");
    assert_int_equal(kinesis_service.records_max, 500);
    assert_int_equal(kinesis_service.bytes_max, 10485760);
    assert_int_equal(kinesis_service.record_max, 1048576);
    assert_int_equal(kinesis_service.key_units_max, 256);
}

/* -- errors of whole requests ------------------------------------------------------------------ */

static const struct error {
    const char *name;
    struct slice header, body, code, message;
} errors[] = {
    {"nothing", {0}, {0}, SLICE(""), SLICE("")},
    {"JSON",
     {0},
     SLICE("{\"__type\":\"ResourceNotFoundException\",\"message\":\"Stream x not found\"}"),
     SLICE("ResourceNotFoundException"),
     SLICE("Stream x not found")},
    {"Message with a capital",
     {0},
     SLICE("{\"__type\":\"ExpiredTokenException\",\"Message\":\"expired\"}"),
     SLICE("ExpiredTokenException"),
     SLICE("expired")},
    {"with a namespace",
     {0},
     SLICE("{\"__type\":\"com.amazonaws.kinesis#LimitExceededException\"}"),
     SLICE("LimitExceededException"),
     SLICE("")},
    {"with a namespace and an address",
     {0},
     SLICE("{\"__type\":\"com.amazonaws.kinesis#LimitExceededException:http://x/#y\"}"),
     SLICE("LimitExceededException"),
     SLICE("")},
    {"code",
     {0},
     SLICE("{\"code\":\"SlowDown\",\"message\":\"m\"}"),
     SLICE("SlowDown"),
     SLICE("m")},
    {"members nobody knows",
     {0},
     SLICE("{\"a\":{\"__type\":\"Wrong\"},\"b\":[{\"message\":\"wrong\"}],\"message\":\"m\","
           "\"__type\":\"Right\"}"),
     SLICE("Right"),
     SLICE("m")},
    {"null is missing", {0}, SLICE("{\"__type\":null,\"message\":null}"), SLICE(""), SLICE("")},
    {"the header", SLICE("ThrottlingException"), {0}, SLICE("ThrottlingException"), SLICE("")},
    {"the header goes before the body", SLICE("ThrottlingException"),
     SLICE("{\"__type\":\"Other\",\"message\":\"m\"}"), SLICE("ThrottlingException"), SLICE("m")},
    {"the header with an address",
     SLICE("LimitExceededException:http://internal.amazon.com/coral/"),
     {0},
     SLICE("LimitExceededException"),
     SLICE("")},
    {"the header with all",
     SLICE("com.amazonaws.kinesis#LimitExceededException:http://internal/"),
     {0},
     SLICE("LimitExceededException"),
     SLICE("")},
    {"a header that says nothing", SLICE(":http://x/"), SLICE("{\"__type\":\"Right\"}"),
     SLICE("Right"), SLICE("")},
    {"a header of a namespace only", SLICE("ns#"), SLICE("{\"__type\":\"Right\"}"), SLICE("Right"),
     SLICE("")},
    {"XML",
     {0},
     SLICE("<?xml version=\"1.0\"?><ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied"
           "</Code><Message>not you</Message></Error></ErrorResponse>"),
     SLICE("AccessDenied"),
     SLICE("not you")},
    {"XML that ends early",
     {0},
     SLICE("<Error><Code>AccessDenied</Code><Message>not y"),
     SLICE("AccessDenied"),
     SLICE("")},
    {"XML that ends earlier", {0}, SLICE("<Error><Code>Access"), SLICE(""), SLICE("")},
    {"the type goes before the code",
     {0},
     SLICE("{\"code\":\"Wrong\",\"__type\":\"Right\"}"),
     SLICE("Right"),
     SLICE("")},
    {"what is no text is missing",
     {0},
     SLICE("{\"__type\":null,\"code\":\"Right\",\"message\":1,\"Message\":\"m\"}"),
     SLICE("Right"),
     SLICE("m")},
    {"HTML",
     {0},
     SLICE("<html><head><title>503 Service Temporarily Unavailable</title>"),
     SLICE(""),
     SLICE("")},
    {"JSON that ends early",
     {0},
     SLICE("{\"__type\":\"LimitExceededException\",\"mess"),
     SLICE("LimitExceededException"),
     SLICE("")},
    {"text", {0}, SLICE("upstream connect error"), SLICE(""), SLICE("")},
    {"a list", {0}, SLICE("[\"__type\",\"x\"]"), SLICE(""), SLICE("")},
    {"zeros", {0}, SLICE("\0\0\0"), SLICE(""), SLICE("")},
};

static void errors_are_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        const struct error *e = &errors[i];
        char *copy = malloc(MAX(e->body.len, 1U));
        struct slice body = {copy, e->body.len};

        assert_non_null(copy);
        if (e->body.len > 0)
            memcpy(copy, e->body.ptr, e->body.len);
        if (!slice_equal(aws_error_code(e->header, body), e->code))
            fail_msg("%s: %.*s", e->name, SLICE_ARG(aws_error_code(e->header, body)));
        if (!slice_equal(aws_error_message(body), e->message))
            fail_msg("%s: %.*s", e->name, SLICE_ARG(aws_error_message(body)));
        for (size_t len = 0; len < body.len; len++) { /* wherever it is cut: no harm */
            (void)aws_error_code(e->header, slice_first(body, len));
            (void)aws_error_message(slice_first(body, len));
        }
        free(copy);
    }
}

/* What the AWS documentation tells to do with each (Common Errors of the API reference). */
static const struct class_of {
    const char *code;
    long status;
    enum aws_error_class class;
} classes[] = {
    {"ProvisionedThroughputExceededException", 400, AWS_ERROR_THROTTLED},
    {"LimitExceededException", 400, AWS_ERROR_THROTTLED},
    {"ThrottlingException", 400, AWS_ERROR_THROTTLED},
    {"KMSThrottlingException", 400, AWS_ERROR_THROTTLED},
    {"SlowDown", 503, AWS_ERROR_THROTTLED},
    {"InternalFailureException", 500, AWS_ERROR_TRANSIENT},
    {"InternalFailure", 500, AWS_ERROR_TRANSIENT},
    {"ServiceUnavailable", 503, AWS_ERROR_TRANSIENT},
    {"RequestTimeout", 408, AWS_ERROR_TRANSIENT},
    {"RequestTimeoutException", 400, AWS_ERROR_TRANSIENT},
    {"PriorRequestNotComplete", 400, AWS_ERROR_TRANSIENT},
    {"ResourceNotFoundException", 400, AWS_ERROR_OPERATOR},
    {"KMSAccessDeniedException", 400, AWS_ERROR_OPERATOR},
    {"KMSDisabledException", 400, AWS_ERROR_OPERATOR},
    {"KMSInvalidStateException", 400, AWS_ERROR_OPERATOR},
    {"KMSNotFoundException", 400, AWS_ERROR_OPERATOR},
    {"KMSOptInRequired", 400, AWS_ERROR_OPERATOR},
    {"AccessDeniedException", 400, AWS_ERROR_OPERATOR},
    {"UnrecognizedClientException", 400, AWS_ERROR_CREDENTIALS},
    {"InvalidClientTokenId", 403, AWS_ERROR_CREDENTIALS},
    {"MissingAuthenticationTokenException", 400, AWS_ERROR_CREDENTIALS},
    {"IncompleteSignatureException", 400, AWS_ERROR_CREDENTIALS},
    {"ExpiredTokenException", 400, AWS_ERROR_CREDENTIALS},
    {"ExpiredToken", 403, AWS_ERROR_CREDENTIALS},
    {"RequestExpired", 400, AWS_ERROR_CREDENTIALS},
    {"InvalidSignatureException", 400, AWS_ERROR_CREDENTIALS},
    {"SignatureDoesNotMatch", 403, AWS_ERROR_CREDENTIALS},
    {"InvalidArgumentException", 400, AWS_ERROR_REFUSED},
    {"ValidationException", 400, AWS_ERROR_REFUSED},
    {"SerializationException", 400, AWS_ERROR_REFUSED},
    {"UnknownOperationException", 400, AWS_ERROR_REFUSED},

    /* the code says more than the status */
    {"ThrottlingException", 500, AWS_ERROR_THROTTLED},
    {"ResourceNotFoundException", 503, AWS_ERROR_OPERATOR},
    {"InternalFailure", 400, AWS_ERROR_TRANSIENT},

    /* without a code that we know, the status decides */
    {"", 500, AWS_ERROR_TRANSIENT},
    {"", 502, AWS_ERROR_TRANSIENT},
    {"", 503, AWS_ERROR_TRANSIENT},
    {"", 504, AWS_ERROR_TRANSIENT},
    {"SomethingNew", 500, AWS_ERROR_TRANSIENT},
    {"", 408, AWS_ERROR_TRANSIENT},
    {"", 429, AWS_ERROR_THROTTLED},
    {"SomethingNew", 429, AWS_ERROR_THROTTLED},
    {"", 401, AWS_ERROR_CREDENTIALS},
    {"", 403, AWS_ERROR_CREDENTIALS},
    {"", 413, AWS_ERROR_REFUSED},
    {"", 400, AWS_ERROR_REFUSED},
    {"", 404, AWS_ERROR_REFUSED},
    {"SomethingNew", 400, AWS_ERROR_REFUSED},
    {"", 301, AWS_ERROR_TRANSIENT}, /* a proxy's, not the service's */
    {"", 204, AWS_ERROR_TRANSIENT},
};

static void errors_have_their_class(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(classes); i++) {
        struct slice code = slice_of(classes[i].code);
        enum aws_error_class c = aws_error_class_of_status(code, SLICE(""), classes[i].status);

        if (c != classes[i].class)
            fail_msg("%s, %ld: %d", classes[i].code, classes[i].status, (int)c);
        if (code.len > 0 && strcmp(classes[i].code, "SomethingNew") != 0)
            assert_int_equal(aws_error_class(code), c);
    }
    assert_int_equal(aws_error_class(SLICE("")), AWS_ERROR_REFUSED);
    assert_int_equal(aws_error_class(SLICE("SomethingNew")), AWS_ERROR_REFUSED);
    assert_int_equal(aws_error_class(SLICE("throttlingexception")), AWS_ERROR_REFUSED);
    assert_int_equal(aws_error_class(SLICE("SlowDow")), AWS_ERROR_REFUSED);
    assert_int_equal(aws_error_class(SLICE("SlowDown2")), AWS_ERROR_REFUSED);
}

/* The advice is for whoever has to act, so it names what to act on. */
static const struct advice {
    const char *code, *word;
    enum aws_error_class class;
    const char *message;
} advices[] = {
    {"ResourceNotFoundException", "name", AWS_ERROR_OPERATOR, NULL},
    {"AccessDeniedException", "PutRecords", AWS_ERROR_OPERATOR, NULL},
    {"KMSDisabledException", "KMS", AWS_ERROR_OPERATOR, NULL},
    {"ExpiredTokenException", "renew", AWS_ERROR_CREDENTIALS, NULL},
    {"InvalidSignatureException", "secret_access_key", AWS_ERROR_CREDENTIALS, NULL},
    {"RequestTimeTooSkewed", "clock", AWS_ERROR_CREDENTIALS, NULL},
    {"InvalidSignatureException", "clock", AWS_ERROR_CREDENTIALS, "Signature expired: 2026"},
    {"InvalidSignatureException", "clock", AWS_ERROR_CREDENTIALS, "Signature not yet current: 2"},
    {"ProvisionedThroughputExceededException", "shards", AWS_ERROR_THROTTLED, NULL},
    {"InternalFailure", "wait", AWS_ERROR_TRANSIENT, NULL},
    {"SomethingNew", "report", AWS_ERROR_REFUSED, NULL},
    {"", "secret_access_key", AWS_ERROR_CREDENTIALS, NULL},
};

static void advice_names_what_to_do(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(advices); i++) {
        const char *text = aws_error_advice(&kinesis_service, slice_of(advices[i].code),
                                            slice_of(advices[i].message), advices[i].class);

        assert_non_null(text);
        if (strstr(text, advices[i].word) == NULL)
            fail_msg("%s: %s", advices[i].code, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(what_is_no_answer_is_refused),
        cmocka_unit_test(an_answer_is_whole_or_none),
        cmocka_unit_test(requests_begin_with_their_stream),
        cmocka_unit_test(the_numbers_are_the_services),
        cmocka_unit_test(errors_are_found),
        cmocka_unit_test(errors_have_their_class),
        cmocka_unit_test(advice_names_what_to_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
