/* The rows: every setting there is, once.  What they mean to a reader is in config.example. */
#include "run/config.h"

#include "run/judge.h"
#include "util.h"

#include <stddef.h>

enum { KIB = 1024, MIB = 1024 * KIB, SECOND = 1000, MINUTE = 60 * SECOND };

enum {
    KINESIS_RECORDS_MAX = 500,    /* PutRecords, API reference: records per request */
    KINESIS_BYTES_MAX = 10 * MIB, /* same page: all data plus all partition keys */
    KINESIS_RECORD_MAX = MIB,     /* same page: a record of a stream as it is created */
    STREAM_NAME_MAX = 128,        /* CreateStream: StreamName */
    FILES_MAX = 1000,
    LANES_MAX = 256,
};

#define AT(member)      offsetof(struct config, member)
#define FLOW_AT(member) offsetof(struct config_flow, member)

static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const from_words[] = {"end", "start", NULL};

static const struct config_key global_keys[] = {
    /* path, type, where, default, min, max, meaning */
    {"region", CONFIG_TEXT, AT(region), NULL, 1, 64,
     .meaning = "AWS region of the streams, as in \"eu-west-1\"", .judge = judge_region,
     .required = true},
    {"state_dir", CONFIG_TEXT, AT(state_dir), "/var/lib/kinetail", 1, 4095,
     .meaning = "directory that remembers what was delivered", .judge = judge_absolute},
    {"lanes", CONFIG_COUNT, AT(lanes), "1", 1, LANES_MAX, .meaning = "threads that ship logs"},
    {"drain_timeout", CONFIG_TIME, AT(drain_timeout_ms), "10s", 0, 60 * MINUTE,
     .meaning = "how long a stop may wait for answers that are still out"},
    {"endpoint.kinesis", CONFIG_TEXT, AT(endpoint.kinesis), NULL, 1, 1024,
     .meaning = "URL to use instead of the region's own", .judge = judge_endpoint},
    {"credentials.access_key_id", CONFIG_TEXT, AT(credentials.access_key_id), NULL, 1, 128,
     .meaning = "id of the access key", .judge = judge_access_key_id},
    {"credentials.secret_access_key", CONFIG_TEXT, AT(credentials.secret_access_key), NULL, 1, 256,
     .meaning = "the access key's secret", .judge = judge_secret, .secret = true},
    {"credentials.session_token", CONFIG_TEXT, AT(credentials.session_token), NULL, 1, 16 * KIB,
     .meaning = "token of temporary credentials", .judge = judge_secret, .secret = true},
    {"tls.ca_file", CONFIG_TEXT, AT(tls.ca_file), NULL, 1, 4095,
     .meaning = "certificates to trust instead of the system's", .judge = judge_ca_file},
    {"log.level", CONFIG_WORD, AT(log_level), "info", 0, 0,
     .meaning = "what kinetail says about itself", .words = log_levels},
};

static const struct config_key flow_keys[] = {
    {"name", CONFIG_TEXT, FLOW_AT(name), NULL, 1, 128,
     .meaning = "what logs and status call the flow", .judge = judge_name, .required = true},
    {"files", CONFIG_TEXTS, FLOW_AT(files), NULL, 1, FILES_MAX,
     .meaning = "globs of the files to follow", .judge = judge_files_glob, .required = true},
    {"exclude", CONFIG_TEXTS, FLOW_AT(exclude), NULL, 0, FILES_MAX,
     .meaning = "globs of files to leave out", .judge = judge_glob},
    {"rotated", CONFIG_TEXTS, FLOW_AT(rotated), NULL, 0, FILES_MAX,
     .meaning = "globs of where files go when they are rotated, if not beside where they were",
     .judge = judge_files_glob},
    {"from", CONFIG_FLAG, FLOW_AT(from_start), "end", 0, 0,
     .meaning = "where to begin in files never seen before", .words = from_words},
    {"follow_symlinks", CONFIG_FLAG, FLOW_AT(follow_symlinks), "false", 0, 0,
     .meaning = "whether symbolic links are followed, to files and on the way to them"},
    {"follow_hard_links", CONFIG_FLAG, FLOW_AT(follow_hard_links), "false", 0, 0,
     .meaning = "whether a file with several names may belong to another user than its directory"},
    {"held_limit", CONFIG_BYTES, FLOW_AT(held_limit), "4GiB", 0, UINT64_C(1) << 50,
     .meaning = "bytes of deleted files that are held open until they are delivered; 0: no limit"},
    {"stream", CONFIG_TEXT, FLOW_AT(stream), NULL, 1, STREAM_NAME_MAX,
     .meaning = "name of the Kinesis stream", .judge = judge_stream},
    {"stream_arn", CONFIG_TEXT, FLOW_AT(stream_arn), NULL, 1, 512,
     .meaning = "ARN of the Kinesis stream, instead of its name", .judge = judge_stream_arn},
    {"newline", CONFIG_FLAG, FLOW_AT(newline), "false", 0, 0,
     .meaning = "whether a record keeps its line's newline"},
    {"key", CONFIG_PARTITION, FLOW_AT(key_kind), "random", 0, 0,
     .meaning = "partition key of the records"},
    {"batch.records", CONFIG_COUNT, FLOW_AT(batch_records), "500", 1, KINESIS_RECORDS_MAX,
     .meaning = "records in one request"},
    {"batch.bytes", CONFIG_BYTES, FLOW_AT(batch_bytes), "1MiB", KINESIS_RECORD_MAX,
     KINESIS_BYTES_MAX, .meaning = "data and keys in one request"},
    {"batch.linger", CONFIG_TIME, FLOW_AT(batch_linger_ms), "1s", 0, 15 * MINUTE,
     .meaning = "how long a request waits to become full"},
    {"max_in_flight", CONFIG_COUNT, FLOW_AT(max_in_flight), "4", 1, 64,
     .meaning = "requests out at once"},
    {"truncated_suffix", CONFIG_TEXT, FLOW_AT(truncated_suffix), "...(truncated)", 0, KIB,
     .meaning = "end of a record that was cut because it was too large", .judge = judge_utf8},
};

const struct config_key *config_global_keys(size_t *ret_count)
{
    *ret_count = ARRAY_LEN(global_keys);
    return global_keys;
}

const struct config_key *config_flow_keys(size_t *ret_count)
{
    *ret_count = ARRAY_LEN(flow_keys);
    return flow_keys;
}
