/* One flow of the Java agent as one of ours. */
#include "buf.h"
#include "record/java_regex.h"
#include "record/pattern.h"
#include "run/import_inner.h"
#include "run/units.h"
#include "util.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    PATTERN_MAX = 1024 * 1024,
    /* KinesisConstants and FirehoseConstants of the Java agent */
    AGE_MIN_MS = 1000,
    AGE_MAX_MS = 900000,
    RECORDS_MAX = 500,
    KINESIS_BYTES = 5 * 1024 * 1024,
    FIREHOSE_BYTES = 4 * 1024 * 1024,
    /* ours */
    BATCH_BYTES_MIN = 1024 * 1024,
    HEADER_LINES_MAX = 1000,
    JOIN_BYTES_MIN = 1024,
    JOIN_BYTES_MAX = 1000 * 1024, /* Firehose: a record */
    SUFFIX_MAX = 1024,
};

/* What the Java agent reads and we have no use for. */
static const struct idle {
    const char *key;
    enum { IDLE_ANY, IDLE_NUMBER, IDLE_FLAG } kind;
    const char *why;
} idle[] = {
    {"minTimeBetweenFilePollsMillis", IDLE_NUMBER,
     "files are not polled: the kernel tells of news"},
    {"maxTimeBetweenFileTrackerRefreshMillis", IDLE_NUMBER,
     "new files are found at once: the kernel tells of them"},
    {"retryInitialBackoffMillis", IDLE_NUMBER, "retries wait as the service's answers call for"},
    {"retryMaxBackoffMillis", IDLE_NUMBER, "retries wait as the service's answers call for"},
    {"publishQueueCapacity", IDLE_NUMBER, "there is no queue: the file is the queue"},
    {"waitOnFullPublishQueueMillis", IDLE_NUMBER, "there is no queue: the file is the queue"},
    {"waitOnEmptyPublishQueueMillis", IDLE_NUMBER, "there is no queue: the file is the queue"},
    {"waitOnFullRetryQueueMillis", IDLE_NUMBER, "there is no queue: the file is the queue"},
    {"log.emitInternalMetrics", IDLE_FLAG, "kinetail status tells it"},
};

static const char *const used[] = {
    "filePattern",           "kinesisStream",
    "deliveryStream",        "initialPosition",
    "maxBufferAgeMillis",    "maxBufferSizeRecords",
    "maxBufferSizeBytes",    "skipHeaderLines",
    "multiLineStartPattern", "fileFooterPattern",
    "partitionKeyOption",    "truncatedRecordTerminator",
    "dataProcessingOptions", "aggregatedRecordSizeBytes",
};

/* --- files --- */

static void put_escaped(struct buf *to, struct slice text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '\0' && strchr("*?[]{},\\", text.ptr[i]) != NULL)
            (void)buf_append_char(to, '\\');
        (void)buf_append_char(to, text.ptr[i]);
    }
}

/* Where the bracket that begins at `i` ends, past it; `i` if it does not. */
static size_t past_bracket(struct slice name, size_t i)
{
    size_t end = i + 1;

    if (end < name.len && (name.ptr[end] == '!' || name.ptr[end] == '^'))
        end++;
    if (end < name.len && name.ptr[end] == ']')
        return i; /* an empty bracket: to Java a mistake, to us a "]" */
    while (end < name.len && name.ptr[end] != ']')
        end++;
    return end < name.len ? end + 1 : i;
}

/* The Java glob of a file's name as ours.  They differ in brackets: to Java a ^ at their beginning is
 * itself, and a backslash in them too.  False: it has no equivalent, and *ret_why says so. */
static bool translate_name(struct slice name, struct buf *to, const char **ret_why)
{
    bool brace = false;

    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];

        if (c == '\\') {
            if (i + 1 == name.len) {
                *ret_why = "ends in a backslash";
                return false;
            }
            c = name.ptr[++i];
            put_escaped(to, (struct slice){&c, 1});
        } else if (c == '[') {
            size_t end = past_bracket(name, i);
            struct slice in = {name.ptr + i, end - i};

            if (end == i || memmem(in.ptr, in.len, "[:", 2) != NULL ||
                (in.len > 1 && in.ptr[1] == '^')) {
                *ret_why = end == i ? "has a [ that is not closed"
                                    : "has a bracket that means something else to kinetail";
                return false;
            }
            for (size_t n = 0; n < in.len; n++) {
                if (in.ptr[n] == '\\')
                    (void)buf_append_char(to, '\\');
                (void)buf_append_char(to, in.ptr[n]);
            }
            i = end - 1;
        } else if (c == '{' || c == '}') {
            if ((c == '{') == brace && brace) {
                *ret_why = "has braces in braces, at which the Java agent does not start";
                return false;
            }
            if (c == '}' && !brace) {
                put_escaped(to, (struct slice){&c, 1});
                continue;
            }
            brace = c == '{';
            (void)buf_append_char(to, c);
        } else if (c == ',' && !brace) {
            (void)buf_append(to, SLICE(","));
        } else if (c == '*' && i > 0 && name.ptr[i - 1] == '*') {
            continue; /* within a name, ** is no more than * */
        } else {
            (void)buf_append_char(to, c);
        }
    }
    *ret_why = "has a { that is not closed";
    return !brace;
}

/* The directory stands for itself; "//" is "/" to Java. */
static void put_directory(struct buf *to, struct slice dir)
{
    struct buf plain;

    buf_init(&plain, dir.len + 1);
    for (size_t i = 0; i < dir.len; i++)
        if (dir.ptr[i] != '/' || plain.len == 0 || plain.ptr[plain.len - 1] != '/')
            (void)buf_append_char(&plain, dir.ptr[i]);
    put_escaped(to, buf_slice(&plain));
    buf_done(&plain);
}

static void put_one_glob(struct import *im, struct slice dir, struct slice dot, struct slice name)
{
    struct buf b;

    buf_init(&b, 8 * (size_t)PATH_MAX);
    put_directory(&b, dir);
    (void)buf_append(&b, dot);
    (void)buf_append(&b, name);
    import_put_text(im, "filePattern", buf_slice(&b));
    buf_done(&b);
}

/* A wildcard at the beginning matches a dot in Java, and not with us. */
static void put_globs(struct import *im, struct slice dir, struct slice name)
{
    import_put(im, "      files = [ ");
    put_one_glob(im, dir, SLICE(""), name);
    if (name.len > 0 && (name.ptr[0] == '*' || name.ptr[0] == '?')) {
        struct slice rest = slice_from(name, 1);

        import_put(im, ", ");
        put_one_glob(im, dir, SLICE("."), name.ptr[0] == '*' ? name : rest);
        if (name.ptr[0] == '*' && rest.len > 1 && rest.ptr[0] == '.') {
            import_put(im, ", ");
            put_one_glob(im, dir, SLICE(""), rest);
        }
    }
    import_put(im, " ];\n");
}

static void put_files(struct import *im, const struct import_value *flow)
{
    struct slice pattern = {0}, dir, name;
    const char *slash, *why;
    struct buf b;

    if (!import_text(im, flow, "filePattern", &pattern)) {
        if (import_json_find(flow, "filePattern") == NULL ||
            import_json_find(flow, "filePattern")->type == IMPORT_NULL)
            import_refuse(im, "filePattern", "is missing; a flow needs it");
        return;
    }
    slash = pattern.len > 0 ? memrchr(pattern.ptr, '/', pattern.len) : NULL;
    if (slash == NULL || pattern.ptr[0] != '/') {
        import_refuse(im, "filePattern", "is '%.*s', a relative path; write the whole path, from /",
                      SLICE_ARG(pattern));
        return;
    }
    dir = slice_first(pattern, (size_t)(slash - pattern.ptr) + 1);
    name = slice_from(pattern, dir.len);
    if (name.len == 0 || pattern.len >= PATH_MAX) {
        import_refuse(im, "filePattern",
                      name.len == 0 ? "names a directory; say which files in it"
                                    : "is too long for a path");
        return;
    }
    buf_init(&b, 8 * (size_t)PATH_MAX);
    if (translate_name(name, &b, &why))
        put_globs(im, dir, buf_slice(&b));
    else
        import_refuse(im, "filePattern", "is '%.*s', which %s", SLICE_ARG(pattern), why);
    buf_done(&b);

    /* What the Java agent leaves alone, and it follows links. */
    import_put(im, "      exclude = [ \"*.[gG][zZ]\", \"*.[bB][zZ]2\", \"*.[zZ][iI][pP]\" ];\n");
    import_put(im, "      follow_symlinks = true;\n");
}

/* --- what becomes of lines --- */

static void put_multiline(struct import *im, const struct import_value *flow)
{
    struct pattern_error why;
    struct pattern_error error;
    struct pattern *p = NULL;
    struct slice text;
    struct buf b;
    int r;

    if (!import_text(im, flow, "multiLineStartPattern", &text) || text.len == 0)
        return;
    buf_init(&b, PATTERN_MAX);
    r = buf_append(&b, SLICE("(*UTF)\\A(?:"));
    if (r == 0)
        r = java_regex_translate(text, &b, &why);
    if (r == 0)
        r = buf_append_char(&b, ')');
    if (r == 0 && pattern_new(buf_slice(&b), 0, &p, &error) == -EINVAL) {
        (void)snprintf(why.text, sizeof why.text, "%s", error.text);
        r = -ENOTSUP;
    }
    pattern_free(p);
    if (r == -EINVAL)
        import_refuse(im, "multiLineStartPattern",
                      "is no regular expression, and the Java agent does not start with it: %s",
                      why.text);
    else if (r == -ENOTSUP)
        import_refuse(im, "multiLineStartPattern",
                      "is a regular expression that cannot be carried over without changing its "
                      "meaning: %s",
                      why.text);
    else if (r < 0)
        im->lost = r;
    if (r == 0) {
        import_put(im, "      multiline = {\n");
        import_put_idle(im, "        ", "multiLineStartPattern",
                        import_json_find(flow, "multiLineStartPattern"),
                        "in Java's regular expressions");
        import_put(im, "        start = ");
        import_put_text(im, "multiLineStartPattern", buf_slice(&b));
        import_put(im,
                   ";\n"
                   "        # The Java agent does not wait for an event's further lines; kinetail "
                   "waits so long:\n"
                   "        timeout = \"2s\";\n"
                   "      };\n");
    }
    buf_done(&b);
}

static void put_header_lines(struct import *im, const struct import_value *flow)
{
    int64_t n;

    if (!import_number(im, flow, "skipHeaderLines", INT32_MIN, INT32_MAX, &n) || n <= 0)
        return;
    if (n > HEADER_LINES_MAX)
        import_refuse(im, "skipHeaderLines", "is %lld; kinetail skips %d lines at most",
                      (long long)n, HEADER_LINES_MAX);
    else
        import_put(im, "      skip_header_lines = %lld;\n", (long long)n);
}

/* Lines that are joined are converted as one record by the Java agent, and one by one by us. */
static void put_join(struct import *im, const struct import_value *flow, bool firehose,
                     bool converts)
{
    const struct import_value *v = import_json_find(flow, "aggregatedRecordSizeBytes");
    char text[UNITS_TEXT_SIZE];
    struct slice multiline;
    int64_t n;

    if (v == NULL)
        return;
    if (!firehose) {
        import_put_idle(im, "      ", "aggregatedRecordSizeBytes", v,
                        "the Java agent joins lines for Firehose only");
        return;
    }
    if (!import_number(im, flow, "aggregatedRecordSizeBytes", 1, JOIN_BYTES_MAX, &n))
        return;
    if (converts) {
        import_refuse(
            im, "aggregatedRecordSizeBytes",
            "is given with dataProcessingOptions: the Java agent converts the joined lines "
            "as one record, and kinetail converts them one by one before it joins them");
        return;
    }
    if (import_text(im, flow, "multiLineStartPattern", &multiline) && multiline.len > 0)
        import_tell(im, "aggregatedRecordSizeBytes",
                    "joins whole events of several lines, which kinetail does as well");
    if (n < JOIN_BYTES_MIN)
        import_tell(im, "aggregatedRecordSizeBytes",
                    "is %lld bytes; kinetail joins up to %d at least, which is written",
                    (long long)n, JOIN_BYTES_MIN);
    units_format_bytes((uint64_t)MAX(n, (int64_t)JOIN_BYTES_MIN), text);
    import_put(im, "      join = \"lines\";\n      join_bytes = \"%s\";\n", text);
}

static void put_terminator(struct import *im, const struct import_value *flow)
{
    const struct import_value *v = import_json_find(flow, "truncatedRecordTerminator");
    struct slice text = SLICE("\n");

    if (v != NULL && v->type == IMPORT_NULL)
        import_refuse(im, "truncatedRecordTerminator",
                      "is null; the Java agent does not start with it");
    (void)import_text(im, flow, "truncatedRecordTerminator", &text);
    if (text.len > SUFFIX_MAX) {
        import_refuse(im, "truncatedRecordTerminator", "has %zu bytes; kinetail takes %d at most",
                      text.len, SUFFIX_MAX);
        return;
    }
    import_put(im, "      on_oversize = \"truncate\";\n      truncated_suffix = ");
    import_put_text(im, "truncatedRecordTerminator", text);
    import_put(im, ";\n");
}

/* --- where it goes --- */

static void put_key(struct import *im, const struct import_value *flow, bool firehose)
{
    static const char *const words[] = {"RANDOM", "DETERMINISTIC", NULL};
    const struct import_value *v = import_json_find(flow, "partitionKeyOption");
    size_t word = 0;

    if (v == NULL)
        return;
    if (firehose)
        import_put_idle(im, "      ", "partitionKeyOption", v, "Firehose has no partition keys");
    else if (import_word(im, flow, "partitionKeyOption", words, &word))
        import_put(im, "      key = \"%s\";\n", word == 0 ? "random" : "hash");
}

static void put_batch(struct import *im, const struct import_value *flow, bool firehose)
{
    char text[UNITS_TEXT_SIZE];
    size_t start = im->out.len, inner;
    int64_t n;

    import_put(im, "      batch = {\n");
    inner = im->out.len;
    if (import_number(im, flow, "maxBufferSizeRecords", 1, RECORDS_MAX, &n))
        import_put(im, "        records = %lld;\n", (long long)n);
    if (import_number(im, flow, "maxBufferSizeBytes", 1, firehose ? FIREHOSE_BYTES : KINESIS_BYTES,
                      &n)) {
        if (n < BATCH_BYTES_MIN)
            import_put_idle(im, "        ", "maxBufferSizeBytes",
                            import_json_find(flow, "maxBufferSizeBytes"),
                            "kinetail's requests may always hold one record of 1MiB");
        units_format_bytes((uint64_t)MAX(n, (int64_t)BATCH_BYTES_MIN), text);
        import_put(im, "        bytes = \"%s\";\n", text);
    }
    if (import_number(im, flow, "maxBufferAgeMillis", AGE_MIN_MS, AGE_MAX_MS, &n)) {
        units_format_time((uint64_t)n, text);
        import_put(im, "        linger = \"%s\";\n", text);
    }
    if (im->out.len == inner)
        im->out.len = start;
    else
        import_put(im, "      };\n");
}

/* --- the rest --- */

static bool is_used(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(used); i++)
        if (slice_equal(name, slice_of(used[i])))
            return true;
    return false;
}

static const struct idle *find_idle(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(idle); i++)
        if (slice_equal(name, slice_of(idle[i].key)))
            return &idle[i];
    return NULL;
}

static void put_idle(struct import *im, const struct import_value *flow)
{
    for (size_t i = 0; i < flow->count; i++) {
        const struct import_value *v = &flow->items[i];
        const struct idle *known = find_idle(v->name);
        int64_t n;
        bool flag;

        if (is_used(v->name))
            continue;
        if (known != NULL && known->kind == IDLE_NUMBER)
            (void)import_number(im, flow, known->key, INT64_MIN, INT64_MAX, &n);
        if (known != NULL && known->kind == IDLE_FLAG)
            (void)import_flag(im, flow, known->key, &flag);
        import_put_member(im, "      ", v,
                          known != NULL ? known->why : "not a key of the Java agent");
    }
}

/* Firehose wins where both are named. */
static bool put_stream(struct import *im, const struct import_value *flow, bool *ret_firehose)
{
    const struct import_value *kinesis = import_json_find(flow, "kinesisStream");
    bool firehose = import_json_find(flow, "deliveryStream") != NULL;
    const char *key = firehose ? "deliveryStream" : "kinesisStream";

    *ret_firehose = firehose;
    if (!import_text(im, flow, key, &im->stream)) {
        import_refuse(im, key, "is missing; a flow needs it, or deliveryStream");
        return false;
    }
    import_put(im, "    {\n      name = ");
    import_put_name(im, im->stream);
    if (firehose && kinesis != NULL)
        import_put_idle(im, "      ", "kinesisStream", kinesis,
                        "beside deliveryStream the Java agent passes it over");
    import_put(im, "      %s = ", firehose ? "delivery_stream" : "stream");
    import_put_text(im, key, im->stream);
    import_put(im, ";\n");
    return true;
}

/* The Java agent does not start with two flows of one stream and the same files. */
static void check_unlike(struct import *im, const struct import_value *flow, bool firehose)
{
    struct slice pattern;
    struct buf id;
    int r;

    if (!import_text(im, flow, "filePattern", &pattern))
        return;
    buf_init(&id, IMPORT_TEXT_MAX);
    r = buf_printf(&id, "\n%s:%.*s:%.*s\n", firehose ? "fh" : "kinesis", SLICE_ARG(im->stream),
                   SLICE_ARG(pattern));
    if (r == 0 && im->flows.len > 0 && memmem(im->flows.ptr, im->flows.len, id.ptr, id.len) != NULL)
        import_refuse(im, "filePattern",
                      "is that of another flow to the same stream; the Java agent does not start "
                      "with it");
    if (r == 0)
        r = buf_append(&im->flows, buf_slice(&id));
    if (r < 0)
        im->lost = r;
    buf_done(&id);
}

void import_flow(struct import *im, const struct import_value *flow)
{
    static const char *const positions[] = {"END_OF_FILE", "START_OF_FILE", NULL};
    const struct import_value *footer = import_json_find(flow, "fileFooterPattern");
    size_t word = 0;
    bool firehose, converts;

    im->stream = (struct slice){NULL, 0};
    (void)put_stream(im, flow, &firehose);
    put_files(im, flow);
    if (im->wrong_count == 0)
        check_unlike(im, flow, firehose);
    (void)import_word(im, flow, "initialPosition", positions, &word);
    import_put(im, "      from = \"%s\";\n", word == 0 ? "end" : "start");
    put_header_lines(im, flow);
    put_multiline(im, flow);
    if (footer != NULL && footer->type != IMPORT_NULL &&
        !(footer->type == IMPORT_TEXT && footer->text.len == 0))
        import_refuse(im, "fileFooterPattern",
                      "ends the reading of a file at a line, which kinetail cannot");
    converts = import_convert(im, flow);
    put_join(im, flow, firehose, converts);
    import_put(im, "      newline = true;\n");
    put_terminator(im, flow);
    put_key(im, flow, firehose);
    put_batch(im, flow, firehose);
    put_idle(im, flow);
    import_put(im, "    }");
}
