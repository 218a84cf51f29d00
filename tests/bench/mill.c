/* mill -- what each step between a line and its record costs, beside plain matching of the lines.
 *
 *     mill [ROUNDS [MIB [NAME]]]     NAME: only rows whose name begins so
 *
 * The steps are the agent's own code: a configuration is read, made into an outfit, and its mill
 * runs over some MiB of lines in pieces as large as the agent reads.  Beside it runs the same
 * library that our patterns stand on, called directly: pcre2_jit_match, with one group for each
 * field, on the same lines already in UTF-8; and memchr, which is what finding the lines costs.
 * They take turns, so that a moody machine is moody with all of them; medians of CPU time count.
 *
 * Columns: bytes of a line in its file; of each, ns per line and MB/s; mill / PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <err.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "buf.h"
#include "digest.h"
#include "encoding.h"
#include "random.h"
#include "record/mill.h"
#include "record/split.h"
#include "run/config.h"
#include "run/outfit.h"
#include "util.h"

enum {
    ROUNDS = 7,
    BLOCK_MIB = 4,
    PIECE = 128 * 1024, /* SOURCE_CHUNK in tail/source.c … */
    PIECE_JOINS = 8,    /* … and for records of several lines, so many of them: flow.c */
    RECORD_MAX = 1024 * 1024,
    WAYS_MAX = 6,
    CONFIG_MAX = 4096,
};

/* What lines look like, one way or another, and how one would match them.  A `%` is a digit, a `~`
 * a lower-case letter, another one in each line. */
struct kind {
    const char *lines[WAYS_MAX + 1];
    const char *pattern;
};

#define BROWSER                                                                                    \
    "\"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.0.0 "   \
    "Safari/537.36\""

static const struct kind combined = {
    {"203.0.113.% - - [10/Oct/2023:13:55:3% +0000] \"GET /images/%/photo-%%%%.jpg?size=large "
     "HTTP/1.1\" 200 %%%% \"https://www.example.com/albums/%%\" " BROWSER,
     "198.51.100.1% - ~~~~ [10/Oct/2023:13:55:3% +0000] \"POST /api/v1/~~~~/%%% HTTP/1.1\" 201 % "
     "\"-\" \"curl/7.8%.0\"",
     "2001:db8::%%% - - [10/Oct/2023:13:55:3% +0000] \"GET /~~~~~~/~~~ HTTP/2.0\" 404 1%% "
     "\"https://www.example.com/\" " BROWSER},
    "^(\\S+) (\\S+) (\\S+) \\[([^\\]]+)\\] \"([^\"]*)\" (\\S+) (\\S+) \"([^\"]*)\" \"([^\"]*)\""};
static const struct kind escaped = {
    {"203.0.113.% - - [10/Oct/2023:13:55:3% +0000] \"GET /images/%/photo-%%%%.jpg?q=\\\"%%\\\" "
     "HTTP/1.1\" 200 %%%% \"https://www.example.com/albums/%%\" " BROWSER},
    "^(\\S+) (\\S+) (\\S+) \\[([^\\]]+)\\] \"((?:[^\"\\\\]|\\\\.)*)\" (\\S+) (\\S+) "
    "\"((?:[^\"\\\\]|\\\\.)*)\" \"((?:[^\"\\\\]|\\\\.)*)\""};
static const struct kind common = {
    {"203.0.113.% - - [10/Oct/2023:13:55:3% +0000] \"GET /images/%/photo-%%%%.jpg HTTP/1.1\" 200 "
     "%%%%"},
    "^(\\S+) (\\S+) (\\S+) \\[([^\\]]+)\\] \"([^\"]*)\" (\\S+) (\\S+)"};
static const struct kind apache_error = {
    {"[Tue Oct 10 13:55:36.12345% 2023] [authz_core:error] [pid 17%:tid 14%%] [client "
     "10.0.0.%:5123%] AH01630: client denied by server configuration: /var/www/html/.git/%%%"},
    "^\\[([^\\]]+)\\] \\[(\\w+):(\\w+)\\] \\[pid (\\d+):tid (\\d+)\\] \\[client ([^\\]]+)\\] "
    "(.*)"};
static const struct kind rfc3164 = {
    {"<86>Oct 11 22:14:1% host sshd[12%%%]: Failed password for invalid user ~~~~~ from "
     "203.0.113.% port 5432% ssh2"},
    "^<(\\d+)>(\\w{3} [ \\d]\\d [\\d:]{8}) (\\S+) ([^\\[: ]+)\\[(\\d+)\\]: (.*)"};
static const struct kind rfc3339_syslog = {
    {"2023-10-11T22:14:15.00%+02:00 host sshd[12%%%]: Failed password for invalid user ~~~~~ from "
     "203.0.113.% port 5432% ssh2"},
    "^(\\d{4}-\\d\\d-\\d\\dT[\\d:.]+\\S+) (\\S+) ([^\\[: ]+)\\[(\\d+)\\]: (.*)"};
static const struct kind rfc5424 = {
    {"<165>1 2003-10-11T22:14:15.00%Z host.example.com evntslog %%% ID4% [exampleSDID@32473 "
     "iut=\"%\" eventSource=\"Application\" eventID=\"10%%\"] An application event log entry"},
    "^<(\\d+)>(\\d+) (\\S+) (\\S+) (\\S+) (\\S+) (\\S+) (-|\\[[^\\]]*\\]) (.*)"};
static const struct kind json = {
    {"{\"time\":\"2023-10-11T22:14:15.00%Z\",\"level\":\"info\",\"logger\":\"http.server\","
     "\"msg\":\"request done\",\"method\":\"GET\",\"path\":\"/images/photo-%%%%.jpg\","
     "\"status\":200,\"bytes\":1%%%%,\"ms\":1%.%,\"user\":null}"},
    "\"time\":\"([^\"]*)\",\"level\":\"([^\"]*)\",\"logger\":\"([^\"]*)\",\"msg\":\"([^\"]*)\","
    "\"method\":\"([^\"]*)\",\"path\":\"([^\"]*)\",\"status\":(\\d+),\"bytes\":(\\d+),"
    "\"ms\":([\\d.]+),\"user\":(\\w+)"};
static const struct kind json_nested = {
    {"{\"@timestamp\":\"2023-10-11T22:14:15.00%Z\",\"log\":{\"level\":\"info\",\"logger\":\"http\"}"
     ",\"http\":{\"method\":\"GET\",\"url\":\"/images/photo-%%%%.jpg\",\"status\":200},"
     "\"tags\":[\"a\",\"b\"],\"message\":\"say \\\"hi\\\" %%\"}"},
    "\"@timestamp\":\"([^\"]*)\",\"log\":(\\{[^}]*\\}),\"http\":(\\{[^}]*\\}),\"tags\":(\\[[^]]*"
    "\\]),\"message\":\"((?:[^\"\\\\]|\\\\.)*)\""};
static const struct kind csv = {
    {"2023-10-11 22:14:1%,host%,GET,/images/photo-%%%%.jpg,200,%%%%,\"Mozilla/5.0 (X11, Linux)\","
     "%%"},
    "^([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),\"([^\"]*)\",([^,]*)$"};
static const struct kind logfmt = {
    {"at=info method=GET path=\"/images/photo-%%%%.jpg\" host=example.com fwd=\"203.0.113.%\" "
     "dyno=web.% connect=%ms service=1%ms status=200 bytes=%%%%"},
    "^at=(\\S+) method=(\\S+) path=\"([^\"]*)\" host=(\\S+) fwd=\"([^\"]*)\" dyno=(\\S+) "
    "connect=(\\S+) service=(\\S+) status=(\\S+) bytes=(\\S+)"};
static const struct kind cri = {
    {"2023-10-11T22:14:15.12345678%Z stdout F 203.0.113.% requested /images/photo-%%%%.jpg and was "
     "served in %% ms"},
    "^(\\S+) (\\S+) (\\S+) (.*)"};
static const struct kind app = {
    {"2023-10-11 22:14:15,%%% INFO [worker-%] com.example.~~~~~~.Handler - request %%%%%% done in "
     "%% ms, session %%%%-%%%%-%%%%-%%%%",
     "2023-10-11 22:14:15,%%% DEBUG [worker-%] com.example.~~~~~~.Cache - looked for key "
     "~~~~~~~~:%%%% and found nothing in region ~~~~",
     "2023-10-11 22:14:15,%%% INFO [worker-%] com.example.~~~~~~.Mailer - sent to "
     "~~~~~@example.com",
     "2023-10-11 22:14:15,%%% ERROR [worker-%] com.example.~~~~~~.Store - no answer from 10.0.%.%% "
     "for %%% ms, token=~~~~%%%%~~~~%%%%; trying again"},
    "^(\\S+ \\S+) (\\w+) \\[([^\\]]+)\\] (\\S+) - (.*)"};
static const struct kind traces = {
    {"2023-10-11 22:14:15,%%% ERROR [worker-%] com.example.Store - it went wrong %%%%",
     "java.lang.IllegalStateException: no answer from 10.0.%.%%",
     "\tat com.example.~~~~~~.Store.fetch(Store.java:%%%)",
     "\tat com.example.~~~~~~.Handler.handle(Handler.java:%%)",
     "\tat "
     "java.base/java.util.concurrent.ThreadPoolExecutor.run(ThreadPoolExecutor.java:%%%%)",
     "\tat java.base/java.lang.Thread.run(Thread.java:%%%)"},
    "^(\\d{4}-\\d\\d-\\d\\d [\\d:,]+) (\\w+) \\[([^\\]]+)\\] (\\S+) - (.*)"};

#define COMBINED "parse = { format = \"combined\"; "
#define TYPES    "types = { response = \"integer\"; bytes = \"integer\"; }; "
#define TIME     "time = { field = \"datetime\"; format = \"httpd\"; }; "
#define ADD      "add = { host_name = \"${HOSTNAME}\"; at = \"${file}:${offset}\"; shard = 7; }; "

static const struct row {
    const char *name;
    const struct kind *kind;
    const char *settings; /* of the flow */
} rows[] = {
    {"plain lines", &app, ""},
    {"include", &app, "include = [ \" (?:WARN|ERROR) \" ];"},
    {"drop", &app, "drop = [ \" DEBUG \" ];"},
    {"redact", &app, "redact = ( { pattern = \"(token=)\\\\w+\"; replace = \"${1}***\"; } );"},
    {"redact, three", &app,
     "redact = ( { pattern = \"(token=)\\\\w+\"; replace = \"${1}***\"; }, "
     "{ pattern = \"[\\\\w.]+@[\\\\w.]+\"; }, "
     "{ pattern = \"\\\\b\\\\d{4}-(?:\\\\d{4}-){2}(\\\\d{4})\"; replace = \"...$1\"; } );"},
    {"multi-line", &traces, "multiline = { start = \"^\\\\d{4}-\\\\d\\\\d-\\\\d\\\\d \"; };"},
    {"multi-line, continue", &traces,
     "multiline = { start = \"^\\\\d{4}-\"; continue = \"^(?:\\\\s|java)\"; };"},
    {"UTF-16LE", &app, "encoding = \"utf-16le\";"},
    {"join lines", &app, "join = \"lines\";"},
    {"gzip", &app, "compress = \"gzip\";"},
    {"gzip, joined", &app, "compress = \"gzip\"; join = \"lines\";"},
    {"zstd", &app, "compress = \"zstd\";"},
    {"zstd, joined", &app, "compress = \"zstd\"; join = \"lines\";"},
    {"key = hash", &app, "key = \"hash\";"},
    {"key = regex", &app, "key = \"regex:\\\\[(worker-\\\\d)\";"},

    {"combined", &combined, COMBINED "};"},
    {"  + types", &combined, COMBINED TYPES "};"},
    {"  + time", &combined, COMBINED TYPES TIME "};"},
    {"  + add", &combined, COMBINED TYPES TIME "}; " ADD},
    {"  + key = field", &combined, COMBINED TYPES TIME "}; " ADD "key = \"field:host\";"},
    {"combined, escapes", &escaped, COMBINED "};"},
    {"common", &common, "parse = { format = \"common\"; };"},
    {"apache_error", &apache_error, "parse = { format = \"apache_error\"; };"},
    {"rfc3164", &rfc3164, "parse = { format = \"rfc3164\"; };"},
    {"rfc5424", &rfc5424, "parse = { format = \"rfc5424\"; };"},
    {"rfc3339_syslog", &rfc3339_syslog, "parse = { format = \"rfc3339_syslog\"; };"},
    {"json", &json, "parse = { format = \"json\"; };"},
    {"json, nested", &json_nested, "parse = { format = \"json\"; };"},
    {"csv", &csv,
     "parse = { format = \"csv\"; fields = [ \"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", "
     "\"h\" ]; };"},
    {"logfmt", &logfmt, "parse = { format = \"logfmt\"; };"},
    {"cri", &cri, "parse = { format = \"cri\"; }; output = \"json\";"},
    {"regex", &app,
     "parse = { regex = \"^(?<time>\\\\S+ \\\\S+) (?<level>\\\\w+) \\\\[(?<thread>[^\\\\]]+)\\\\] "
     "(?<class>\\\\S+) - (?<message>.*)\"; };"},
};

enum what { SCAN, GRIND, MATCH, WHATS };

struct job {
    const struct row *row;
    struct slice lines; /* in UTF-8 */
    struct buf file;    /* as it stands in its file, if that is not UTF-8 */
    size_t line_count;
    enum encoding encoding;
    size_t piece; /* what the agent reads at once */
    struct config *config;
    struct outfit *outfit;
    struct random random;
    pcre2_code *code;
    pcre2_match_data *data;
    uint64_t records, bytes; /* what came out of the last round */
};

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- lines --- */

static uint32_t any(uint32_t *seed)
{
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 16;
}

static size_t put_line(char *to, const char *line, uint32_t *seed)
{
    size_t len = 0;

    for (; line[len] != '\0'; len++)
        to[len] = line[len] == '%'   ? (char)('0' + any(seed) % 10)
                  : line[len] == '~' ? (char)('a' + any(seed) % 26)
                                     : line[len];
    to[len] = '\n';
    return len + 1;
}

/* Lines of all ways in turn, as many as fit. */
static void fill(struct job *job, char *room, size_t size)
{
    const char *const *lines = job->row->kind->lines;
    size_t len = 0, n = 0;
    uint32_t seed = 1;

    job->line_count = 0;
    while (len + strlen(lines[n]) + 1 <= size) {
        len += put_line(room + len, lines[n], &seed);
        job->line_count++;
        n = lines[n + 1] != NULL ? n + 1 : 0;
    }
    job->lines = (struct slice){room, len};
}

/* What is in the file.  Our lines are ASCII, so that two bytes of UTF-16 are one of theirs. */
static struct slice file_text(struct job *job)
{
    return job->file.len > 0 ? buf_slice(&job->file) : job->lines;
}

static void fill_file(struct job *job)
{
    buf_init(&job->file, 2 * job->lines.len);
    if (job->encoding != ENCODING_UTF16LE)
        return;
    for (size_t i = 0; i < job->lines.len; i++)
        if (buf_append_char(&job->file, job->lines.ptr[i]) < 0 ||
            buf_append_char(&job->file, '\0') < 0)
            errx(1, "out of memory");
}

/* --- the mill --- */

static bool taken(void *user, const struct mill_piece *p)
{
    struct job *job = user;

    job->records += p->verdict == RECIPE_SEND;
    job->bytes += p->record.len;
    return true;
}

static void noticed(void *user, const struct mill_notice *n)
{
    const struct job *job = user;

    errx(1, "%s: at %ju: %s", job->row->name, (uintmax_t)n->offset,
         n->mismatch != NULL ? n->mismatch : "a time, a key or a limit");
}

/* Whole lines of the file from `offset` on, `want` bytes or a little more. */
static struct slice piece_of(const struct job *job, struct slice file, size_t offset, size_t want)
{
    struct slice rest = slice_from(file, offset);
    const char *newline;

    if (rest.len <= want)
        return rest;
    newline = encoding_find_newline(job->encoding, slice_from(rest, want));
    if (newline == NULL)
        return rest;
    newline += encoding_newline_len(job->encoding);
    return slice_first(rest, (size_t)(newline - rest.ptr));
}

static void grind(struct job *job)
{
    const struct mill_events events = {taken, noticed, job};
    struct slice file = file_text(job);
    struct mill_state state = {0};
    size_t offset = 0, want = job->piece;

    job->records = job->bytes = 0;
    while (offset < file.len) {
        struct slice piece = piece_of(job, file, offset, want);
        bool last = offset + piece.len == file.len;
        struct mill_input in = {
            .text = piece,
            .offset = offset,
            .last = last,
            .flush = last,
            .flush_joined = last,
            .place = {.file = SLICE("/var/log/bench.log"), .now_ms = 1700000000000},
        };
        struct mill_report report;

        if (mill_run(outfit_mill(job->outfit), &in, &state, &events, &report) < 0)
            errx(1, "out of memory");
        /* What is not whole is seen again with more of the file, as in the agent. */
        want = report.offset > offset ? job->piece : 2 * want;
        offset = (size_t)report.offset;
    }
    if (job->records == 0)
        errx(1, "%s: no records", job->row->name);
}

static void make_outfit(struct job *job, struct digest *digest)
{
    static const char format[] =
        "region = \"us-east-1\";\nstate_dir = \"/var/lib/kinetail\";\n"
        "flows = ( { name = \"bench\"; files = [ \"/var/log/bench.log\" ]; "
        "stream = \"bench\";\n%s } );\n";
    struct config_mistakes mistakes = {0};
    struct outfit_error error;
    char text[CONFIG_MAX];
    int n = snprintf(text, sizeof text, format, job->row->settings);

    if (n < 0 || (size_t)n >= sizeof text)
        errx(1, "%s: too long", job->row->name);
    if (config_load_text((struct slice){text, (size_t)n}, job->row->name, &job->config, &mistakes) <
        0) {
        config_mistakes_print(&mistakes, stderr);
        exit(1);
    }
    job->encoding = (enum encoding)job->config->flows[0].encoding;
    job->piece = PIECE;
    if (job->config->flows[0].join != CONFIG_JOIN_NONE)
        job->piece = MAX(job->piece, PIECE_JOINS * job->config->flows[0].join_bytes);
    job->random.state = 1;
    if (outfit_new(&job->config->flows[0], RECORD_MAX, digest, &job->random, NULL, &job->outfit, &error) <
        0)
        errx(1, "%s: %s %s", job->row->name, error.key, error.text);
}

/* --- beside it --- */

static void make_pattern(struct job *job)
{
    PCRE2_SIZE offset;
    int code;

    job->code = pcre2_compile((PCRE2_SPTR)job->row->kind->pattern, PCRE2_ZERO_TERMINATED, 0, &code,
                              &offset, NULL);
    if (job->code == NULL || pcre2_jit_compile(job->code, PCRE2_JIT_COMPLETE) != 0)
        errx(1, "%s: the pattern cannot be compiled", job->row->name);
    job->data = pcre2_match_data_create_from_pattern(job->code, NULL);
    if (job->data == NULL)
        errx(1, "out of memory");
}

static void scan(struct job *job, bool match)
{
    bool every = job->row->kind != &traces; /* of those, only the first lines match */
    struct slice in = job->lines, line;
    size_t count = 0;

    while (split_next(&in, &line)) {
        if (match &&
            pcre2_jit_match(job->code, (PCRE2_SPTR)line.ptr, line.len, 0, 0, job->data, NULL) <=
                0 &&
            every)
            errx(1, "%s: the pattern does not match: %.*s", job->row->name, (int)line.len,
                 line.ptr);
        count++;
    }
    if (count != job->line_count)
        errx(1, "%zu of %zu lines", count, job->line_count);
}

/* --- rounds --- */

static uint64_t run(struct job *job, enum what what)
{
    uint64_t started = cpu_ns();

    if (what == GRIND)
        grind(job);
    else
        scan(job, what == MATCH);
    return cpu_ns() - started;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void print(const struct job *job, const double *ns)
{
    size_t len = job->file.len > 0 ? job->file.len : job->lines.len;
    double lines = (double)job->line_count;

    printf("%-21s %5.0f", job->row->name, (double)len / lines);
    for (size_t what = 0; what < WHATS; what++)
        printf("  %7.1f %6.0f", ns[what] / lines, (double)len * 1e3 / ns[what]);
    printf("  %6.2f\n", ns[GRIND] / ns[MATCH]);
}

static void measure(const struct row *row, char *room, size_t size, size_t rounds,
                    struct digest *digest)
{
    struct job job = {.row = row};
    uint64_t *times = calloc(WHATS * rounds, sizeof *times);
    double ns[WHATS];

    if (times == NULL)
        errx(1, "out of memory");
    fill(&job, room, size);
    make_outfit(&job, digest);
    make_pattern(&job);
    fill_file(&job);
    grind(&job); /* warm: a flow allocates once */
    for (size_t round = 0; round < rounds; round++)
        for (size_t what = 0; what < WHATS; what++)
            times[what * rounds + round] = run(&job, (enum what)what);
    for (size_t what = 0; what < WHATS; what++) {
        qsort(times + what * rounds, rounds, sizeof *times, compare);
        ns[what] = (double)times[what * rounds + rounds / 2];
    }
    print(&job, ns);
    pcre2_match_data_free(job.data);
    pcre2_code_free(job.code);
    outfit_free(job.outfit);
    config_free(job.config);
    buf_done(&job.file);
    free(times);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : ROUNDS;
    long mib = argc > 2 ? strtol(argv[2], NULL, 10) : BLOCK_MIB;
    const char *name = argc > 3 ? argv[3] : "";
    struct digest *digest;
    char *room;

    if (rounds < 1 || rounds > 1000 || mib < 1 || mib > 1024 || argc > 4)
        errx(2, "usage: mill [ROUNDS [MIB [NAME]]]");
    room = malloc((size_t)mib << 20);
    if (room == NULL || digest_new(&digest) < 0)
        errx(1, "out of memory");
    printf("%-21s %5s  %14s  %14s  %14s  %6s\n", "", "bytes", "memchr", "kinetail", "PCRE2 JIT",
           "ratio");
    printf("%-21s %5s", "", "/line");
    for (size_t what = 0; what < WHATS; what++)
        printf("  %7s %6s", "ns/line", "MB/s");
    printf("\n");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (strncmp(rows[i].name, name, strlen(name)) == 0)
            measure(&rows[i], room, (size_t)mib << 20, (size_t)rounds, digest);
    digest_free(digest);
    free(room);
    return 0;
}
