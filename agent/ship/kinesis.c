#include "ship/kinesis.h"

#include "ship/put.h"

static const struct put_words kinesis_words = {
    .stream_name = {"StreamName", 10},
    .stream_arn = {"StreamARN", 9},
    .entries = {"Records", 7},
    .id = {"SequenceNumber", 14},
};

static int kinesis_begin(struct buf *to, struct slice stream, struct slice stream_arn)
{
    return put_begin(&kinesis_words, to, stream, stream_arn);
}

static int kinesis_read(struct slice body, size_t count, enum outcome *outcomes,
                        struct service_complaint *ret_complaint)
{
    return put_read(&kinesis_words, body, count, outcomes, ret_complaint);
}

const struct service kinesis_service = {
    .signing_name = "kinesis",
    .put_target = "Kinesis_20131202.PutRecords",
    .records_max = 500,
    .bytes_max = 10 * 1024 * 1024,
    .record_max = 1024 * 1024,
    .key_units_max = 256,
    .advice =
        {
            .endpoint =
                "check endpoint.kinesis and what stands between: this does not look like the "
                "service",
            .name = "check the stream's name, the region and the account",
            .rights = "allow kinesis:PutRecords on the stream in the IAM policy",
            .busy = "the stream takes no more just now; add shards if this lasts",
        },
    .record_head = {"{\"Data\":\"", 9},
    .record_key = {"\",\"PartitionKey\":", 17},
    .record_tail = {"}", 1},
    .body_tail = {"]}", 2},
    .begin = kinesis_begin,
    .read = kinesis_read,
};
