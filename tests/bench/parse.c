/* parse -- what fields cost, beside a plain PCRE2-JIT match of the same lines in the same run.
 *
 *     parse [ROUNDS]
 *
 * Prints for each format, as medians: MB/s and ns per line of memchr for the newline alone, of the
 * parser, of the parser and its JSON, and of pcre2_jit_match with a group for each field. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <err.h>
#include <pcre2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "buf.h"
#include "record/fields.h"
#include "record/parse.h"
#include "record/split.h"
#include "util.h"

enum { ROUNDS = 15, BLOCK = 1 << 20, ARENA_MAX = 1 << 20 };

static const struct format {
    const char *name;
    enum parse_format format;
    const char *line; /* `%` is a digit that changes */
    const char *pattern;
} formats[] = {
    {"combined", PARSE_COMBINED,
     "203.0.113.% - - [10/Oct/2023:13:55:3% +0000] \"GET /images/%/photo-%%%%.jpg?size=large "
     "HTTP/1.1\" "
     "200 %%%% \"https://www.example.com/albums/%%\" \"Mozilla/5.0 (X11; Linux x86_64) "
     "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.0.0 Safari/537.36\"",
     "^(\\S+) (\\S+) (\\S+) \\[([^\\]]+)\\] \"([^\"]*)\" (\\S+) (\\S+) \"([^\"]*)\" \"([^\"]*)\""},
    {"combined, escapes", PARSE_COMBINED,
     "203.0.113.% - - [10/Oct/2023:13:55:3% +0000] \"GET /images/%/photo-%%%%.jpg?q=\\\"%%\\\" "
     "HTTP/1.1\" "
     "200 %%%% \"https://www.example.com/albums/%%\" \"Mozilla/5.0 (X11; Linux x86_64) "
     "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/118.0.0.0 Safari/537.36\"",
     "^(\\S+) (\\S+) (\\S+) \\[([^\\]]+)\\] \"((?:[^\"\\\\]|\\\\.)*)\" (\\S+) (\\S+) "
     "\"((?:[^\"\\\\]|\\\\.)*)\" \"((?:[^\"\\\\]|\\\\.)*)\""},
    {"common", PARSE_COMMON,
     "203.0.113.% - - [10/Oct/2023:13:55:3% +0000] \"GET /images/%/photo-%%%%.jpg HTTP/1.1\" 200 "
     "%%%%",
     "^(\\S+) (\\S+) (\\S+) \\[([^\\]]+)\\] \"([^\"]*)\" (\\S+) (\\S+)"},
    {"apache_error", PARSE_APACHE_ERROR,
     "[Tue Oct 10 13:55:36.12345% 2023] [authz_core:error] [pid 17%:tid 14%%] [client "
     "10.0.0.%:5123%] "
     "AH01630: client denied by server configuration: /var/www/html/.git/%%%",
     "^\\[([^\\]]+)\\] \\[(\\w+):(\\w+)\\] \\[pid (\\d+):tid (\\d+)\\] \\[client ([^\\]]+)\\] "
     "(.*)"},
    {"rfc3164", PARSE_RFC3164,
     "<86>Oct 11 22:14:1% host sshd[12%%%]: Failed password for invalid user admin from "
     "203.0.113.% "
     "port 5432% ssh2",
     "^<(\\d+)>(\\w{3} [ \\d]\\d [\\d:]{8}) (\\S+) ([^\\[: ]+)\\[(\\d+)\\]: (.*)"},
    {"rfc3339_syslog", PARSE_RFC3339_SYSLOG,
     "2023-10-11T22:14:15.00%+02:00 host sshd[12%%%]: Failed password for invalid user admin from "
     "203.0.113.% port 5432% ssh2",
     "^(\\d{4}-\\d\\d-\\d\\dT[\\d:.]+\\S+) (\\S+) ([^\\[: ]+)\\[(\\d+)\\]: (.*)"},
    {"rfc5424", PARSE_RFC5424,
     "<165>1 2003-10-11T22:14:15.00%Z host.example.com evntslog %%% ID4% [exampleSDID@32473 "
     "iut=\"%\" "
     "eventSource=\"Application\" eventID=\"10%%\"] An application event log entry",
     "^<(\\d+)>(\\d+) (\\S+) (\\S+) (\\S+) (\\S+) (\\S+) (-|\\[[^\\]]*\\]) (.*)"},
    {"json", PARSE_JSON,
     "{\"time\":\"2023-10-11T22:14:15.00%Z\",\"level\":\"info\",\"logger\":\"http.server\",\"msg\":"
     "\"request "
     "done\",\"method\":\"GET\",\"path\":\"/images/photo-%%%%.jpg\",\"status\":200,\"bytes\":1%%%%,"
     "\"ms\":1%.%,\"user\":null}",
     "\"time\":\"([^\"]*)\",\"level\":\"([^\"]*)\",\"logger\":\"([^\"]*)\",\"msg\":\"([^\"]*)\","
     "\"method\":"
     "\"([^\"]*)\",\"path\":\"([^\"]*)\",\"status\":(\\d+),\"bytes\":(\\d+),\"ms\":([\\d.]+),"
     "\"user\":(\\w+)"},
    {"json, nested", PARSE_JSON,
     "{\"@timestamp\":\"2023-10-11T22:14:15.00%Z\",\"log\":{\"level\":\"info\",\"logger\":\"http\"}"
     ","
     "\"http\":{\"method\":\"GET\",\"url\":\"/images/"
     "photo-%%%%.jpg\",\"status\":200},\"tags\":[\"a\",\"b\"],"
     "\"message\":\"say \\\"hi\\\" %%\"}",
     "\"@timestamp\":\"([^\"]*)\",\"log\":(\\{[^}]*\\}),\"http\":(\\{[^}]*\\}),\"tags\":(\\[[^]]*"
     "\\]),"
     "\"message\":\"((?:[^\"\\\\]|\\\\.)*)\""},
    {"csv", PARSE_CSV,
     "2023-10-11 22:14:1%,host%,GET,/images/photo-%%%%.jpg,200,%%%%,\"Mozilla/5.0 (X11, "
     "Linux)\",%%",
     "^([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),([^,]*),\"([^\"]*)\",([^,]*)$"},
    {"logfmt", PARSE_LOGFMT,
     "at=info method=GET path=\"/images/photo-%%%%.jpg\" host=example.com fwd=\"203.0.113.%\" "
     "dyno=web.% connect=%ms service=1%ms status=200 bytes=%%%%",
     "^at=(\\S+) method=(\\S+) path=\"([^\"]*)\" host=(\\S+) fwd=\"([^\"]*)\" dyno=(\\S+) "
     "connect=(\\S+) service=(\\S+) status=(\\S+) bytes=(\\S+)"},
    {"cri", PARSE_CRI,
     "2023-10-11T22:14:15.12345678%Z stdout F 203.0.113.% requested /images/photo-%%%%.jpg and was "
     "served "
     "in %% ms",
     "^(\\S+) (\\S+) (\\S+) (.*)"},
};

enum what { SCAN, PARSE, WRITE, MATCH, WHATS };

struct job {
    const struct format *format;
    struct slice block;
    size_t lines;
    struct parse_settings settings;
    struct fields fields;
    struct buf json;
    pcre2_code *code;
    pcre2_match_data *data;
};

static uint64_t cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fill(struct job *job, char *room)
{
    size_t len = 0, line_len = strlen(job->format->line);
    uint32_t seed = 1;

    job->lines = 0;
    while (len + line_len + 1 <= BLOCK) {
        for (size_t i = 0; i < line_len; i++) {
            seed = seed * 1664525 + 1013904223;
            room[len++] = job->format->line[i] == '%' ? (char)('0' + (seed >> 16) % 10)
                                                      : job->format->line[i];
        }
        room[len++] = '\n';
        job->lines++;
    }
    job->block = (struct slice){room, len};
}

static uint64_t run(struct job *job, enum what what)
{
    struct slice in = job->block, line;
    uint64_t started = cpu_ns();
    size_t count = 0;
    const char *why = "";

    while (split_next(&in, &line)) {
        if (what == PARSE || what == WRITE) {
            fields_reset(&job->fields);
            if (parse_event(job->format->format, &job->settings, line, &job->fields, &why) != 1)
                errx(1, "%s %s", job->format->name, why);
        }
        if (what == WRITE) {
            buf_reset(&job->json);
            if (fields_append_json(&job->json, &job->fields) < 0)
                errx(1, "%s: no JSON", job->format->name);
        }
        if (what == MATCH &&
            pcre2_jit_match(job->code, (PCRE2_SPTR)line.ptr, line.len, 0, 0, job->data, NULL) <= 0)
            errx(1, "%s: the pattern does not match", job->format->name);
        count++;
    }
    if (count != job->lines)
        errx(1, "%zu of %zu lines", count, job->lines);
    return cpu_ns() - started;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void measure(const struct format *format, size_t rounds)
{
    static const struct slice names[] = {SLICE("a"), SLICE("b"), SLICE("c"), SLICE("d"),
                                         SLICE("e"), SLICE("f"), SLICE("g"), SLICE("h")};
    static char room[BLOCK];
    struct job job = {.format = format, .settings = {.names = {names, ARRAY_LEN(names)}}};
    uint64_t *times = calloc(WHATS * rounds, sizeof *times);
    int code;
    PCRE2_SIZE offset;

    fill(&job, room);
    fields_init(&job.fields, ARENA_MAX);
    buf_init(&job.json, BLOCK);
    job.code =
        pcre2_compile((PCRE2_SPTR)format->pattern, PCRE2_ZERO_TERMINATED, 0, &code, &offset, NULL);
    if (times == NULL || job.code == NULL || pcre2_jit_compile(job.code, PCRE2_JIT_COMPLETE) != 0)
        errx(1, "%s: the pattern cannot be compiled", format->name);
    job.data = pcre2_match_data_create_from_pattern(job.code, NULL);
    if (job.data == NULL)
        errx(1, "out of memory");
    for (size_t round = 0; round < rounds;
         round++) /* in turns: the machine's moods hit all alike */
        for (size_t what = 0; what < WHATS; what++)
            times[what * rounds + round] = run(&job, (enum what)what);
    printf("%-18s %5zu", format->name, job.block.len / job.lines);
    for (size_t what = 0; what < WHATS; what++) {
        double ns;

        qsort(times + what * rounds, rounds, sizeof *times, compare);
        ns = (double)times[what * rounds + rounds / 2];
        printf("  %6.1f %6.0f", ns / (double)job.lines, (double)job.block.len * 1e3 / ns);
    }
    printf("\n");
    pcre2_match_data_free(job.data);
    pcre2_code_free(job.code);
    fields_done(&job.fields);
    buf_done(&job.json);
    free(times);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? strtol(argv[1], NULL, 10) : ROUNDS;

    if (rounds < 1 || rounds > 1000)
        errx(2, "usage: parse [ROUNDS]");
    printf("%-18s %5s  %13s  %13s  %13s  %13s\n", "", "bytes", "memchr", "fields", "fields, JSON",
           "PCRE2 JIT");
    printf("%-18s %5s", "", "/line");
    for (size_t what = 0; what < WHATS; what++)
        printf("  %6s %6s", "ns", "MB/s");
    printf("\n");
    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        measure(&formats[i], (size_t)rounds);
    return 0;
}
