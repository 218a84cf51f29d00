/* The rows: every setting there is, once.  What they mean to a reader is in config.example. */
#include "run/config.h"

#include "record/parse.h"
#include "run/config_convert.h"
#include "run/judge.h"
#include "ship/proxy.h"
#include "util.h"

#include <assert.h>
#include <stddef.h>

enum { KIB = 1024, MIB = 1024 * KIB, SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE };

enum {
    KINESIS_RECORDS_MAX = 500,    /* PutRecords, API reference: records per request */
    KINESIS_BYTES_MAX = 10 * MIB, /* same page: all data plus all partition keys */
    KINESIS_RECORD_MAX = MIB,     /* same page: a record of a stream as it is created */
    STREAM_NAME_MAX = 128,        /* CreateStream: StreamName */
    EVENT_MAX = MIB,              /* no record is longer */
    FILES_MAX = 1000,
    PATTERNS_MAX = 100, /* each is tried on every line */
    NAMES_MAX = 1000,
    PATTERN_MAX = 4095,
    LANES_MAX = 256,
    ZSTD_LEVEL_MAX = 19,
};

#define AT(member)      offsetof(struct config, member)
#define FLOW_AT(member) offsetof(struct config_flow, member)

static const char *const log_levels[] = {"error", "warning", "info", "debug", NULL};
static const char *const from_words[] = {"end", "start", NULL};
static const char *const encodings[] = {
    [CONFIG_UTF8] = "utf-8",
    [CONFIG_UTF16LE] = "utf-16le",
    [CONFIG_UTF16BE] = "utf-16be",
    [CONFIG_LATIN1] = "latin1",
    NULL,
};
static const char *const formats[] = {
    [PARSE_NONE] = "none",
    [PARSE_REGEX] = "", /* is what parse.regex makes of it */
    [PARSE_COMBINED] = "combined",
    [PARSE_COMMON] = "common",
    [PARSE_APACHE_ERROR] = "apache_error",
    [PARSE_SYSLOG] = "syslog",
    [PARSE_RFC3164] = "rfc3164",
    [PARSE_RFC5424] = "rfc5424",
    [PARSE_RFC3339_SYSLOG] = "rfc3339_syslog",
    [PARSE_JSON] = "json",
    [PARSE_CSV] = "csv",
    [PARSE_LOGFMT] = "logfmt",
    [PARSE_CRI] = "cri",
    NULL,
};
static_assert(ARRAY_LEN(formats) == PARSE_FORMATS + 1, "a format has no word");
static const char *const types[] = {"text", "integer", "number", "boolean", "null", NULL};
static const char *const time_outputs[] = {
    [CONFIG_TIME_RFC3339] = "rfc3339",
    [CONFIG_TIME_EPOCH] = "epoch",
    [CONFIG_TIME_EPOCH_MS] = "epoch_ms",
    NULL,
};
static const char *const mismatches[] = {
    [CONFIG_MISMATCH_RAW] = "raw",
    [CONFIG_MISMATCH_DROP] = "drop",
    [CONFIG_MISMATCH_TAG] = "tag",
    [CONFIG_MISMATCH_DEAD] = "dead",
    NULL,
};
static const char *const outputs[] = {
    [CONFIG_OUTPUT_AUTO] = "",
    [CONFIG_OUTPUT_RAW] = "raw",
    [CONFIG_OUTPUT_JSON] = "json",
    NULL,
};
static const char *const joins[] = {
    [CONFIG_JOIN_NONE] = "none",
    [CONFIG_JOIN_LINES] = "lines",
    NULL,
};
static const char *const compressions[] = {
    [CONFIG_COMPRESS_NONE] = "none",
    [CONFIG_COMPRESS_GZIP] = "gzip",
    [CONFIG_COMPRESS_ZSTD] = "zstd",
    NULL,
};
static const char *const oversizes[] = {
    [CONFIG_OVERSIZE_TRUNCATE] = "truncate",
    [CONFIG_OVERSIZE_SPLIT] = "split",
    [CONFIG_OVERSIZE_DEAD] = "dead",
    NULL,
};

static const char *const fulls[] = {
    [CONFIG_FULL_WAIT] = "wait",
    [CONFIG_FULL_DROP_OLDEST] = "drop_oldest",
    NULL,
};

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
    {"memory_limit", CONFIG_BYTES, AT(memory_limit), "64MiB", 36 * 1024 * KIB, UINT64_C(1) << 40,
     .meaning =
         "memory for all flows together; when it is taken, what waits goes to the spool, and "
         "reading waits"},
    {"spool.limit", CONFIG_BYTES, AT(spool.limit), "1GiB", 0, UINT64_C(1) << 50,
     .meaning = "disk for each destination, for what must not wait in its file; 0: no spool"},
    {"spool.min_free", CONFIG_BYTES, AT(spool.min_free), "256MiB", 0, UINT64_C(1) << 50,
     .meaning = "what stays free for others on state_dir's file system"},
    {"spool.when_full", CONFIG_WORD, AT(spool.when_full), "wait", 0, 0,
     .meaning = "whether reading waits then, or what was spooled first is dropped", .words = fulls},
    {"spool.patience", CONFIG_TIME, AT(spool.patience_ms), "30s", 100, 24 * 60 * MINUTE,
     .meaning = "how long a batch is tried before it is spooled"},
    {"endpoint.kinesis", CONFIG_TEXT, AT(endpoint.kinesis), NULL, 1, 1024,
     .meaning = "URL to use instead of the region's own", .judge = judge_endpoint},
    {"endpoint.firehose", CONFIG_TEXT, AT(endpoint.firehose), NULL, 1, 1024,
     .meaning = "the same for Firehose", .judge = judge_endpoint},
    {"credentials.access_key_id", CONFIG_TEXT, AT(credentials.access_key_id), NULL, 1, 128,
     .meaning = "id of the access key", .judge = judge_access_key_id},
    {"credentials.secret_access_key", CONFIG_TEXT, AT(credentials.secret_access_key), NULL, 1, 256,
     .meaning = "the access key's secret", .judge = judge_secret, .secret = true},
    {"credentials.session_token", CONFIG_TEXT, AT(credentials.session_token), NULL, 1, 16 * KIB,
     .meaning = "token of temporary credentials", .judge = judge_secret, .secret = true},
    {"tls.ca_file", CONFIG_TEXT, AT(tls.ca_file), NULL, 1, 4095,
     .meaning = "certificates to trust instead of the system's", .judge = judge_ca_file},
    {"proxy.url", CONFIG_TEXT, AT(proxy.url), NULL, 0, PROXY_URL_MAX,
     .meaning = "HTTP proxy on the way to the service", .judge = proxy_judge,
     .secret_of = proxy_secret},
    {"proxy.no_proxy", CONFIG_TEXT, AT(proxy.no_proxy), NULL, 0, 4 * KIB,
     .meaning = "hosts that are reached without the proxy", .judge = proxy_judge_list},
    {"log.level", CONFIG_WORD, AT(log_level), "info", 0, 0,
     .meaning = "what kinetail says about itself", .words = log_levels},
};

#define REDACT_AT(member) offsetof(struct config_redact, member)

static const struct config_key redact_keys[] = {
    {"pattern", CONFIG_TEXT, REDACT_AT(pattern), NULL, 1, PATTERN_MAX,
     .meaning = "what is replaced, wherever it stands", .inspect = judge_pattern, .required = true},
    {"replace", CONFIG_TEXT, REDACT_AT(replace), "***", 0, PATTERN_MAX,
     .meaning = "what takes its place; $1 and ${name} are what a group has matched",
     .judge = judge_utf8},
};

static const char *judge_redact(const void *element, const char **ret_path,
                                char why[static CONFIG_WHY_SIZE])
{
    const struct config_redact *r = element;

    *ret_path = "replace";
    return judge_replacement(r->pattern, r->replace, why);
}

static const struct config_group redact_group = {
    .rows = redact_keys,
    .count = ARRAY_LEN(redact_keys),
    .size = sizeof(struct config_redact),
    .example = "{ pattern = \"...\"; replace = \"...\"; }",
    .judge = judge_redact,
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
    {"delivery_stream", CONFIG_TEXT, FLOW_AT(delivery_stream), NULL, 1, 512,
     .meaning = "name of the Firehose delivery stream, instead of a Kinesis stream",
     .judge = judge_delivery_stream},

    {"encoding", CONFIG_WORD, FLOW_AT(encoding), "utf-8", 0, 0,
     .meaning = "what the files are written in; what leaves is UTF-8", .words = encodings},
    {"skip_header_lines", CONFIG_COUNT, FLOW_AT(skip_header_lines), "0", 0, 1000,
     .meaning = "lines at the beginning of each file that are not sent"},
    {"multiline.start", CONFIG_TEXT, FLOW_AT(multiline.start), NULL, 1, PATTERN_MAX,
     .meaning = "an event begins at a line that matches", .inspect = judge_pattern},
    {"multiline.continue", CONFIG_TEXT, FLOW_AT(multiline.proceed), NULL, 1, PATTERN_MAX,
     .meaning = "a line that matches belongs to the event before it", .inspect = judge_pattern},
    {"multiline.end", CONFIG_TEXT, FLOW_AT(multiline.end), NULL, 1, PATTERN_MAX,
     .meaning = "an event ends with a line that matches", .inspect = judge_pattern},
    {"multiline.timeout", CONFIG_TIME, FLOW_AT(multiline.timeout_ms), "2s", 10, HOUR,
     .meaning = "how long an event waits for its next line"},
    {"multiline.max_lines", CONFIG_COUNT, FLOW_AT(multiline.max_lines), "500", 2, 100000,
     .meaning = "lines in one event"},
    {"multiline.max_bytes", CONFIG_BYTES, FLOW_AT(multiline.max_bytes), "1MiB", KIB, EVENT_MAX,
     .meaning = "bytes in one event"},
    {"include", CONFIG_TEXTS, FLOW_AT(include), NULL, 0, PATTERNS_MAX,
     .meaning = "patterns; only what matches one of them is sent", .inspect = judge_pattern},
    {"drop", CONFIG_TEXTS, FLOW_AT(drop), NULL, 0, PATTERNS_MAX,
     .meaning = "patterns; what matches one of them is not sent", .inspect = judge_pattern},

    {"parse.format", CONFIG_WORD, FLOW_AT(parse.format), "none", 0, 0,
     .meaning = "how to find fields in an event", .words = formats},
    {"parse.regex", CONFIG_TEXT, FLOW_AT(parse.regex), NULL, 1, PATTERN_MAX,
     .meaning = "pattern whose named groups are the fields, instead of a format",
     .inspect = judge_pattern},
    {"parse.fields", CONFIG_TEXTS, FLOW_AT(parse.fields), NULL, 0, NAMES_MAX,
     .meaning = "names of csv's columns, or of a pattern's groups that have none",
     .judge = judge_field_name, .unique = true},
    {"parse.delimiter", CONFIG_TEXT, FLOW_AT(parse.delimiter), ",", 1, KIB,
     .meaning = "what stands between csv's columns", .judge = judge_delimiter},
    {"parse.header", CONFIG_FLAG, FLOW_AT(parse.header), "false", 0, 0,
     .meaning = "whether a file's first line has the names of csv's columns"},
    {"parse.types", CONFIG_PAIRS, FLOW_AT(parse.types), NULL, 1, NAMES_MAX,
     .meaning = "what the values of fields become in JSON", .words = types},
    {"parse.time.field", CONFIG_TEXT, FLOW_AT(parse.time.field), NULL, 1, KIB,
     .meaning = "field that has the event's time", .judge = judge_field_name},
    {"parse.time.format", CONFIG_TEXT, FLOW_AT(parse.time.format), NULL, 1, KIB,
     .meaning = "how the time is written", .inspect = judge_time_format},
    {"parse.time.zone", CONFIG_TEXT, FLOW_AT(parse.time.zone), "local", 1, 255,
     .meaning = "zone of times that have none", .inspect = judge_zone},
    {"parse.time.output", CONFIG_WORD, FLOW_AT(parse.time.output), "rfc3339", 0, 0,
     .meaning = "how the time is sent", .words = time_outputs},
    {"parse.on_mismatch", CONFIG_WORD, FLOW_AT(parse.on_mismatch), "raw", 0, 0,
     .meaning = "what becomes of an event that the format does not fit", .words = mismatches},

    {"redact", CONFIG_GROUPS, FLOW_AT(redact), NULL, 0, PATTERNS_MAX,
     .meaning = "patterns, and what is sent instead of what they match", .group = &redact_group},
    {"add", CONFIG_PAIRS, FLOW_AT(add), NULL, 0, NAMES_MAX,
     .meaning = "fields that every record gets", .inspect = judge_value, .literals = true},
    {"keep", CONFIG_TEXTS, FLOW_AT(keep), NULL, 0, NAMES_MAX,
     .meaning = "the only fields that are sent", .judge = judge_field_name, .unique = true},
    {"remove", CONFIG_TEXTS, FLOW_AT(remove), NULL, 0, NAMES_MAX,
     .meaning = "fields that are not sent", .judge = judge_field_name, .unique = true},
    {"rename", CONFIG_PAIRS, FLOW_AT(rename), NULL, 1, NAMES_MAX,
     .meaning = "what fields are called instead", .judge = judge_field_name, .renames = true},
    {"output", CONFIG_WORD, FLOW_AT(output), NULL, 0, 0,
     .meaning = "whether a record is the line or its fields in JSON", .words = outputs},
    {"convert", CONFIG_GROUPS, FLOW_AT(convert), NULL, 0, 100,
     .meaning = "conversions as the Java agent makes them, one after the other",
     .group = &config_convert_group},

    {"newline", CONFIG_MAYBE, FLOW_AT(newline), NULL, 0, 0,
     .meaning = "whether a record ends in a newline"},
    {"join", CONFIG_WORD, FLOW_AT(join), "none", 0, 0,
     .meaning = "whether several lines become one record", .words = joins, .judge = judge_join},
    {"join_bytes", CONFIG_BYTES, FLOW_AT(join_bytes), "64KiB", KIB, KINESIS_RECORD_MAX,
     .meaning = "bytes in one joined record"},
    {"compress", CONFIG_WORD, FLOW_AT(compress), "none", 0, 0,
     .meaning = "whether and how each record is compressed", .words = compressions},
    {"compress_level", CONFIG_COUNT, FLOW_AT(compress_level), "0", 0, ZSTD_LEVEL_MAX,
     .meaning = "from fast to small; 0: the usual one of the method"},
    {"on_oversize", CONFIG_WORD, FLOW_AT(on_oversize), "truncate", 0, 0,
     .meaning = "what becomes of a record that is larger than the service takes",
     .words = oversizes},
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
