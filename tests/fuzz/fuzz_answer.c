/* fuzz_answer -- whatever a service, or something between it and us, may answer: it is an answer to
 * just our request or it is refused; what is told of it lies inside; and an answer that ends early
 * is never taken for a whole one. */
#include "ship/kinesis.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "json.h"
#include "ship/aws_error.h"
#include "ship/firehose.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { COUNT_MAX = 512, UNTOUCHED = 77 };

static void check_inside(struct slice part, struct slice whole)
{
    assert(part.len == 0 ||
           (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len));
}

static int read_answer(const struct service *s, struct slice body, size_t count)
{
    struct service_complaint complaint = {SLICE("untouched"), SLICE("")};
    enum outcome *outcomes = malloc(MAX(count, 1U) * sizeof *outcomes); /* of just its size */
    bool failed = false;
    int r;

    assert(outcomes != NULL);
    for (size_t i = 0; i < count; i++)
        outcomes[i] = (enum outcome)UNTOUCHED;
    r = s->read(body, count, outcomes, &complaint);
    assert(r == 0 || r == -EBADMSG);
    if (r < 0) {
        assert(slice_equal(complaint.code, SLICE("untouched")));
    } else {
        for (size_t i = 0; i < count; i++) {
            assert(outcomes[i] <= OUTCOME_REFUSED);
            failed |= outcomes[i] != OUTCOME_ACCEPTED;
        }
        assert(failed || (complaint.code.len == 0 && complaint.message.len == 0));
        check_inside(complaint.code, body);
        check_inside(complaint.message, body);
    }
    free(outcomes);
    return r;
}

static void check_answer(const struct service *s, struct slice body, size_t count)
{
    struct json j;

    if (read_answer(s, body, count) < 0)
        return;

    /* It is JSON, answers no request of another size, and none of its beginnings is whole. */
    json_init(&j, body);
    assert(json_skip(&j) == 0);
    assert(read_answer(s, body, count + 1) == -EBADMSG);
    assert(count == 0 || read_answer(s, body, count - 1) == -EBADMSG);
    while (body.len > 0 && body.ptr[body.len - 1] != '}')
        body.len--; /* the white space behind */
    for (size_t len = 1; len < body.len; len += 1 + body.len / 16)
        assert(read_answer(s, slice_first(body, len), count) == -EBADMSG);
    assert(read_answer(s, slice_first(body, body.len - 1), count) == -EBADMSG);
}

static void check_error(struct slice header, struct slice body)
{
    struct slice code = aws_error_code(header, body);

    if (code.len > 0 && header.len > 0 && code.ptr >= header.ptr &&
        code.ptr < header.ptr + header.len)
        check_inside(code, header);
    else
        check_inside(code, body);
    assert(code.len == 0 || memchr(code.ptr, ':', code.len) == NULL);
    check_inside(aws_error_message(body), body);
    for (long status = 0; status < 600; status += 100) {
        enum aws_error_class c = aws_error_class_of_status(code, aws_error_message(body), status);

        assert(c <= AWS_ERROR_REFUSED);
        assert(aws_error_advice(&kinesis_service, code, aws_error_message(body), c) != NULL);
        assert(aws_error_advice(&firehose_service, code, aws_error_message(body), c) != NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = {(const char *)data, size}, body;
    size_t count, header_len;

    if (size < 2)
        return 0;
    count = (data[0] * 256U + data[1]) % COUNT_MAX;
    body = slice_from(in, 2);
    check_answer(&kinesis_service, body, count);
    check_answer(&firehose_service, body, count);

    header_len = MIN(data[1], body.len);
    check_error((struct slice){0}, body);
    check_error(slice_first(body, header_len), slice_from(body, header_len));
    return 0;
}
