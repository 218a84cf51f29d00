#include "ship/kinesis.h"

#include "buf.h"
#include "json.h"
#include "ship/aws_error.h"

#include <errno.h>

static int kinesis_begin(struct buf *to, struct slice stream, struct slice stream_arn)
{
    bool by_arn = stream_arn.len > 0;
    int r;

    (void)((r = buf_append(to, by_arn ? SLICE("{\"StreamARN\":") : SLICE("{\"StreamName\":"))) <
               0 ||
           (r = json_append_string(to, by_arn ? stream_arn : stream)) < 0 ||
           (r = buf_append(to, SLICE(",\"Records\":["))) < 0);
    return r;
}

/* What one entry of the answer said so far. */
struct kinesis_entry {
    bool has_sequence;
    struct service_complaint complaint;
};

/* Reads a string member; null is as good as missing. */
static int kinesis_read_text(struct json *j, struct slice *ret)
{
    struct json_token t;
    int r = json_next(j, &t);

    if (r < 0)
        return r;
    if (t.type != JSON_STRING && t.type != JSON_NULL)
        return -EBADMSG;
    *ret = t.type == JSON_STRING ? t.text : (struct slice){0};
    return 0;
}

static int kinesis_read_entry(struct json *j, struct kinesis_entry *ret)
{
    struct slice sequence = {0};
    struct json_token key;
    int r;

    *ret = (struct kinesis_entry){0};
    for (;;) {
        r = json_next(j, &key);
        if (r < 0)
            return r;
        if (key.type == JSON_OBJECT_END)
            break;
        if (json_text_equal(key.text, SLICE("SequenceNumber")))
            r = kinesis_read_text(j, &sequence);
        else if (json_text_equal(key.text, SLICE("ErrorCode")))
            r = kinesis_read_text(j, &ret->complaint.code);
        else if (json_text_equal(key.text, SLICE("ErrorMessage")))
            r = kinesis_read_text(j, &ret->complaint.message);
        else
            r = json_skip(j);
        if (r < 0)
            return r;
    }
    ret->has_sequence = sequence.len > 0;
    return 0;
}

static enum outcome kinesis_judge(const struct kinesis_entry *e)
{
    if (e->complaint.code.len == 0)
        return e->has_sequence ? OUTCOME_ACCEPTED : OUTCOME_TRANSIENT;
    switch (aws_error_class(e->complaint.code)) {
    case AWS_ERROR_THROTTLED:
        return OUTCOME_THROTTLED;
    case AWS_ERROR_TRANSIENT:
        return OUTCOME_TRANSIENT;
    default:
        return OUTCOME_REFUSED;
    }
}

static int kinesis_read_records(struct json *j, size_t count, enum outcome *outcomes,
                                struct service_complaint *complaint)
{
    struct json_token t;
    size_t n = 0;
    int r;

    r = json_next(j, &t);
    if (r < 0 || t.type != JSON_ARRAY_BEGIN)
        return -EBADMSG;
    for (;; n++) {
        struct kinesis_entry e;

        r = json_next(j, &t);
        if (r < 0)
            return r;
        if (t.type == JSON_ARRAY_END)
            return n == count ? 0 : -EBADMSG;
        if (t.type != JSON_OBJECT_BEGIN || n == count)
            return -EBADMSG;
        r = kinesis_read_entry(j, &e);
        if (r < 0)
            return r;
        outcomes[n] = kinesis_judge(&e);
        if (outcomes[n] != OUTCOME_ACCEPTED && complaint->code.len == 0)
            *complaint = e.complaint;
    }
}

static int kinesis_read(struct slice body, size_t count, enum outcome *outcomes,
                        struct service_complaint *ret_complaint)
{
    struct service_complaint complaint = {0};
    bool seen = false;
    struct json_token t;
    struct json j;
    int r;

    json_init(&j, body);
    r = json_next(&j, &t);
    if (r < 0 || t.type != JSON_OBJECT_BEGIN)
        return -EBADMSG;
    for (;;) {
        r = json_next(&j, &t);
        if (r < 0)
            return -EBADMSG;
        if (t.type == JSON_OBJECT_END)
            break;
        if (json_text_equal(t.text, SLICE("Records"))) {
            if (seen)
                return -EBADMSG;
            seen = true;
            r = kinesis_read_records(&j, count, outcomes, &complaint);
        } else {
            r = json_skip(&j);
        }
        if (r < 0)
            return -EBADMSG;
    }

    /* Cut answers end inside the object; what follows a whole one must be nothing. */
    if (!seen || json_next(&j, &t) < 0 || t.type != JSON_END)
        return -EBADMSG;
    *ret_complaint = complaint;
    return 0;
}

const struct service kinesis_service = {
    .signing_name = "kinesis",
    .put_target = "Kinesis_20131202.PutRecords",
    .records_max = 500,
    .bytes_max = 10 * 1024 * 1024,
    .record_max = 1024 * 1024,
    .key_units_max = 256,
    .record_head = {"{\"Data\":\"", 9},
    .record_key = {"\",\"PartitionKey\":", 17},
    .record_tail = {"}", 1},
    .body_tail = {"]}", 2},
    .begin = kinesis_begin,
    .read = kinesis_read,
};
