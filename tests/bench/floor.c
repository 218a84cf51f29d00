/* floor -- the least that shipping a file can cost on one core, measured here and now.
 *
 *     floor [--stages] FILE PORT
 *
 * Reads the file, splits it into lines, puts 500 lines at a time as base64 into the JSON body of a
 * PutRecords, hashes the body and posts it over loopback to the sink, one request after another.
 * No agent can do with less: it must do all this, and also watch, sign, read answers and remember.
 *
 * Prints `name value`, one per line.  Times are CPU time, user and system, unless they say wall.
 * With --stages the file is gone through five times, each time one step further; the difference
 * between two passes is the price of the step. */
#include "base64.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    READ_BYTES = 128 * 1024,
    LINE_MAX_BYTES = READ_BYTES, /* a longer line is no line of ours */
    RECORDS_MAX = 500,           /* PutRecords, API reference: records per request */
    BODY_MAX = 1024 * 1024,      /* plenty for 500 lines of 200 bytes; longer ones: fewer */
    HEAD_MAX = 512,
    ANSWER_MAX = 256 * 1024,
    SHA256_BYTES = 32,
    HEX_LEN = 2 * SHA256_BYTES,
};

/* How far a pass goes; each stage includes those before it. */
enum stage { STAGE_READ, STAGE_SPLIT, STAGE_FRAME, STAGE_HASH, STAGE_SEND, STAGE_COUNT };

static const char *const stage_names[STAGE_COUNT] = {"read", "memchr", "base64_framing", "sha256",
                                                     "send"};

static const char body_open[] = "{\"StreamName\":\"bench\",\"Records\":[";
static const char body_close[] = "]}";
static const char record_open[] = "{\"Data\":\"";
static const char record_close[] = "\",\"PartitionKey\":\"0123456789abcdef\"},";

struct pass {
    enum stage stage;
    int fd, socket_fd;

    char room[LINE_MAX_BYTES + READ_BYTES];
    size_t room_len; /* an unfinished line, waiting for its end */

    char body[BODY_MAX];
    size_t body_len;
    unsigned body_records;

    EVP_MD *sha256;      /* owns */
    EVP_MD_CTX *context; /* owns */
    unsigned char digest[SHA256_BYTES];
    char answer[ANSWER_MAX];

    uint64_t bytes, lines, requests;
    uint64_t cpu_ns, wall_ns;
};

static uint64_t now_ns(clockid_t which)
{
    struct timespec t;

    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int sink_connect(uint16_t port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
        err(1, "connect to the sink");
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void send_all(int fd, struct iovec parts[2])
{
    size_t at = 0;

    while (at < 2) {
        ssize_t n = writev(fd, parts + at, (int)(2 - at));
        size_t left = n < 0 ? 0 : (size_t)n;

        if (n < 0)
            err(1, "send");
        while (at < 2 && left >= parts[at].iov_len)
            left -= parts[at++].iov_len;
        if (at < 2) {
            parts[at].iov_base = (char *)parts[at].iov_base + left;
            parts[at].iov_len -= left;
        }
    }
}

/* Reads to the end of the answer, and looks only at its status and length. */
static void answer_read(struct pass *p)
{
    size_t len = 0, wanted = 0;

    while (wanted == 0 || len < wanted) {
        ssize_t n = recv(p->socket_fd, p->answer + len, sizeof p->answer - 1 - len, 0);
        const char *head_end, *length;

        if (n <= 0)
            errx(1, "the sink hung up");
        len += (size_t)n;
        if (wanted > 0)
            continue;
        p->answer[len] = '\0';
        head_end = strstr(p->answer, "\r\n\r\n");
        if (head_end == NULL)
            continue;
        length = strstr(p->answer, "Content-Length: ");
        if (length == NULL || strncmp(p->answer, "HTTP/1.1 200 ", 13) != 0)
            errx(1, "unexpected answer: %.200s", p->answer);
        wanted = (size_t)(head_end - p->answer) + 4 + (size_t)strtoul(length + 16, NULL, 10);
        if (wanted >= sizeof p->answer)
            errx(1, "answer too long");
    }
}

static void body_send(struct pass *p)
{
    char head[HEAD_MAX], hex[HEX_LEN + 1];
    struct iovec parts[2];
    int n;

    for (size_t i = 0; i < SHA256_BYTES; i++) {
        hex[2 * i] = "0123456789abcdef"[p->digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[p->digest[i] & 15];
    }
    hex[HEX_LEN] = '\0';
    n = snprintf(head, sizeof head,
                 "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                 "Content-Type: application/x-amz-json-1.1\r\n"
                 "X-Amz-Target: Kinesis_20131202.PutRecords\r\n"
                 "X-Amz-Content-Sha256: %s\r\nContent-Length: %zu\r\n\r\n",
                 hex, p->body_len);
    parts[0] = (struct iovec){head, (size_t)n};
    parts[1] = (struct iovec){p->body, p->body_len};
    send_all(p->socket_fd, parts);
    answer_read(p);
    p->requests++;
}

static void body_hash(struct pass *p)
{
    unsigned len = 0;

    if (EVP_DigestInit_ex2(p->context, p->sha256, NULL) != 1 ||
        EVP_DigestUpdate(p->context, p->body, p->body_len) != 1 ||
        EVP_DigestFinal_ex(p->context, p->digest, &len) != 1)
        errx(1, "SHA-256");
}

static void body_add(struct pass *p, const char *text, size_t len)
{
    memcpy(p->body + p->body_len, text, len);
    p->body_len += len;
}

static void body_flush(struct pass *p)
{
    if (p->body_records == 0)
        return;
    p->body_len--; /* the last comma */
    body_add(p, body_close, sizeof body_close - 1);
    if (p->stage >= STAGE_HASH)
        body_hash(p);
    if (p->stage >= STAGE_SEND)
        body_send(p);
    p->body_len = 0;
    p->body_records = 0;
}

static void line_take(struct pass *p, const char *line, size_t len)
{
    size_t frame = sizeof record_open + sizeof record_close + sizeof body_close;

    p->lines++;
    if (p->stage < STAGE_FRAME)
        return;
    if (p->body_records == RECORDS_MAX || base64_size(len) + frame > BODY_MAX - p->body_len)
        body_flush(p);
    if (p->body_records == 0)
        body_add(p, body_open, sizeof body_open - 1);
    body_add(p, record_open, sizeof record_open - 1);
    base64_encode(p->body + p->body_len, line, len);
    p->body_len += base64_size(len);
    body_add(p, record_close, sizeof record_close - 1);
    p->body_records++;
}

/* Takes the whole lines of the room and moves the rest to its start. */
static void room_split(struct pass *p)
{
    const char *at = p->room, *end = p->room + p->room_len, *newline;

    while ((newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        line_take(p, at, (size_t)(newline - at));
        at = newline + 1;
    }
    p->room_len = (size_t)(end - at);
    if (p->room_len > LINE_MAX_BYTES)
        errx(1, "a line is longer than %d bytes", LINE_MAX_BYTES);
    memmove(p->room, at, p->room_len);
}

static void pass_run(struct pass *p, enum stage stage)
{
    uint64_t cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID), wall_ns = now_ns(CLOCK_MONOTONIC);
    ssize_t n;

    p->stage = stage;
    p->bytes = p->lines = p->requests = 0;
    p->room_len = 0;
    while ((n = pread(p->fd, p->room + p->room_len, READ_BYTES, (off_t)p->bytes)) > 0) {
        p->bytes += (uint64_t)n;
        if (stage == STAGE_READ)
            continue;
        p->room_len += (size_t)n;
        room_split(p);
    }
    if (n < 0)
        err(1, "read");
    body_flush(p);
    p->cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
    p->wall_ns = now_ns(CLOCK_MONOTONIC) - wall_ns;
}

static void stages_print(struct pass *p)
{
    double before = 0;

    for (int stage = STAGE_READ; stage < STAGE_SEND; stage++) {
        double per_byte;

        pass_run(p, (enum stage)stage);
        per_byte = (double)p->cpu_ns / (double)p->bytes;
        printf("%s_ns_per_byte %.3f\n", stage_names[stage], per_byte - before);
        before = per_byte;
    }
    pass_run(p, STAGE_SEND);
    printf("%s_ns_per_byte %.3f\n", stage_names[STAGE_SEND],
           (double)p->cpu_ns / (double)p->bytes - before);
}

int main(int argc, char **argv)
{
    static struct pass p;
    bool stages = argc == 4 && strcmp(argv[1], "--stages") == 0;
    unsigned long port;

    if (argc != 3 && !stages) {
        fprintf(stderr, "usage: floor [--stages] FILE PORT\n");
        return 2;
    }
    port = strtoul(argv[argc - 1], NULL, 10);
    if (port == 0 || port > UINT16_MAX)
        errx(2, "%s: not a port", argv[argc - 1]);
    p.fd = open(argv[argc - 2], O_RDONLY | O_CLOEXEC);
    if (p.fd < 0)
        err(1, "%s", argv[argc - 2]);
    p.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    p.context = EVP_MD_CTX_new();
    if (p.sha256 == NULL || p.context == NULL)
        errx(1, "SHA-256");
    p.socket_fd = sink_connect((uint16_t)port);

    if (stages)
        stages_print(&p);
    else
        pass_run(&p, STAGE_SEND);
    if (p.bytes == 0)
        errx(1, "%s: empty", argv[argc - 2]);
    printf("bytes %" PRIu64 "\nlines %" PRIu64 "\nrequests %" PRIu64 "\n", p.bytes, p.lines,
           p.requests);
    printf("cpu_seconds_per_gb %.4f\n", (double)p.cpu_ns / (double)p.bytes);
    printf("wall_mb_per_s %.1f\n", (double)p.bytes * 1e3 / (double)p.wall_ns);

    EVP_MD_CTX_free(p.context);
    EVP_MD_free(p.sha256);
    close(p.socket_fd);
    close(p.fd);
    return 0;
}
