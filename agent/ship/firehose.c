#include "ship/firehose.h"

#include "ship/put.h"

static const struct put_words firehose_words = {
    .stream_name = {"DeliveryStreamName", 18},
    .entries = {"RequestResponses", 16},
    .id = {"RecordId", 8},
};

static int firehose_begin(struct buf *to, struct slice stream, struct slice stream_arn)
{
    return put_begin(&firehose_words, to, stream, stream_arn);
}

static int firehose_read(struct slice body, size_t count, enum outcome *outcomes,
                         struct service_complaint *ret_complaint)
{
    return put_read(&firehose_words, body, count, outcomes, ret_complaint);
}

const struct service firehose_service = {
    .signing_name = "firehose",
    .put_target = "Firehose_20150804.PutRecordBatch",
    .records_max = 500,
    .bytes_max = 4 * 1024 * 1024,
    .record_max = 1000 * 1024,
    .key_units_max = 0,
    .advice =
        {
            .endpoint =
                "check endpoint.firehose and what stands between: this does not look like the "
                "service",
            .name = "check the delivery stream's name, the region and the account",
            .rights = "allow firehose:PutRecordBatch on the delivery stream in the IAM policy",
            .busy =
                "the delivery stream takes no more just now; ask AWS for a higher quota if this "
                "lasts",
        },
    .record_head = {"{\"Data\":\"", 9},
    .record_key = {"\"", 1}, /* the data's closing quote: nothing follows it */
    .record_tail = {"}", 1},
    .body_tail = {"]}", 2},
    .begin = firehose_begin,
    .read = firehose_read,
};
