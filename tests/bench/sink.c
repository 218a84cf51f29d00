/* sink -- a Kinesis that costs next to nothing: it counts records, says yes, and keeps nothing.
 *
 * For measuring the sender.  One thread, epoll, HTTP/1.1 with keep-alive on 127.0.0.1; the port is
 * the first line on standard output.  Nothing is verified: neither signature nor JSON.
 *
 *   POST / with X-Amz-Target ….PutRecords   a true answer with as many records as came
 *   POST / with other targets               DescribeStreamSummary, ListShards; else refused
 *   GET /stats                              what was counted since the last reset, as JSON
 *   POST /reset                             zero
 *   POST /down                              hangs up on all others, and nobody can connect any more
 *   POST /up                                until now
 *
 * With --stamp each line starts with the CLOCK_MONOTONIC time, in decimal ns, at which it was
 * appended to its file; then /stats also tells how long lines took until the whole request that
 * carried them had arrived.
 *
 * With --numbered each line starts with a number of its own, in decimal, from 1; then /stats also
 * tells how many different ones came ("distinct"), how many came again ("repeated"), and the first
 * that is missing between the lowest and the highest (0: none is).  With --lines BYTES they are those
 * of numbered.h, BYTES long with their newline, and each is compared: "torn" counts what is none of
 * them. */
#include "base64.h"
#include "list.h"
#include "numbered.h"
#include "util.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum {
    RECORDS_MAX = 500,           /* PutRecords, API reference: records per request */
    HEAD_MAX = 16 * 1024,        /* ours: request line and headers */
    BODY_MAX = 24 * 1024 * 1024, /* 10 MiB of data and keys, as base64 in JSON, and some room */
    ROOM_FIRST = 256 * 1024,     /* holds 500 lines of 200 bytes without growing */
    EVENTS_MAX = 64,
    OUT_PARTS = 4,
    RECORD_MAX = 128, /* one entry of an answer, as text */
    ANSWER_HEAD_MAX = 256,
    STATS_MAX = 1024,
    NUMBER_CHARS = 32, /* base64 of 24 bytes: no 64-bit number is longer */
    NUMBERS_MAX = 64 * 1024 * 1024,
    LATENCY_STEP_US = 10, /* the histogram's grain … */
    LATENCY_STEP_NS = LATENCY_STEP_US * 1000,
    LATENCY_STEPS = 1000 * 1000, /* … and reach: 10 s */
};

#define RECORD_FORMAT                                                                              \
    "{\"SequenceNumber\":\"4968040589664341205925299824173086209990511255018%07u\","               \
    "\"ShardId\":\"shardId-000000000000\"},"

static const char records_open[] = "{\"FailedRecordCount\":0,\"Records\":[";
static const char records_close[] = "],\"EncryptionType\":\"NONE\"}";
static const char data_open[] = "\"Data\":\"";

static const char stream_summary[] =
    "{\"StreamDescriptionSummary\":{\"StreamName\":\"bench\","
    "\"StreamARN\":\"arn:aws:kinesis:us-east-1:123456789012:stream/bench\","
    "\"StreamStatus\":\"ACTIVE\",\"StreamModeDetails\":{\"StreamMode\":\"PROVISIONED\"},"
    "\"RetentionPeriodHours\":24,\"StreamCreationTimestamp\":1700000000,"
    "\"EnhancedMonitoring\":[{\"ShardLevelMetrics\":[]}],\"EncryptionType\":\"NONE\","
    "\"OpenShardCount\":1,\"ConsumerCount\":0,\"MaxRecordSizeInKiB\":1024}}";

static const char shard_list[] =
    "{\"Shards\":[{\"ShardId\":\"shardId-000000000000\",\"HashKeyRange\":{"
    "\"StartingHashKey\":\"0\","
    "\"EndingHashKey\":\"340282366920938463463374607431768211455\"},"
    "\"SequenceNumberRange\":{\"StartingSequenceNumber\":"
    "\"49680405896643412059252998241730862099905112550180000000\"}}]}";

/* What a request asks for, known when its head is complete. */
enum asked {
    ASKED_PUT_RECORDS,
    ASKED_SUMMARY,
    ASKED_SHARDS,
    ASKED_STATS,
    ASKED_RESET,
    ASKED_DOWN,
    ASKED_UP,
    ASKED_UNKNOWN,
};

/* A connection reads one whole request into `room`, answers it, and only then looks at the next:
 *
 *     head_len == 0 ──head complete──▶ head_len > 0 ──body complete──▶ out_left > 0 ──sent──▶ … */
struct conn {
    struct list node; /* in conns */
    int fd;
    char *room; /* owns */
    size_t len, cap;
    size_t head_len, body_len;
    enum asked asked;
    bool close_after; /* the client asked for it, or we refused what we could not read */
    bool waits_to_write;
    bool controls; /* it asked us to go down, and stays */

    struct iovec out[OUT_PARTS]; /* points into what follows, or at what never changes */
    size_t out_at, out_count;
    char head[ANSWER_HEAD_MAX];
    char stats[STATS_MAX];
};

struct counters {
    uint64_t requests, records, body_bytes, refused;
    uint64_t first_ns, last_ns; /* arrival of the first and the last PutRecords; 0: none yet */
    uint64_t stamped, unstamped, latency_max_ns;
    uint64_t distinct, repeated, unnumbered, torn;
    uint64_t lowest, highest; /* numbers; 0: none yet */
    uint64_t gapless;         /* all from the lowest up to here came */
};

static struct counters counters;
static uint32_t latency[LATENCY_STEPS + 1]; /* the last step holds all that took longer */
static uint8_t came[NUMBERS_MAX / 8 + 1];   /* a bit for each number */
static bool stamp_mode, number_mode;
static size_t line_len; /* --lines: without its newline; else 0 */

static struct list conns = {&conns, &conns};
static bool is_down, wants_down;

static char record_list[RECORDS_MAX * RECORD_MAX]; /* each with its comma */
static size_t record_len;

static uint64_t now_ns(clockid_t which)
{
    struct timespec t;

    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void record_list_build(void)
{
    for (unsigned i = 0; i < RECORDS_MAX; i++) {
        char *at = record_list + i * record_len;
        size_t room = sizeof record_list - (size_t)(at - record_list);

        record_len = (size_t)snprintf(at, room, RECORD_FORMAT, i);
    }
}

/* --- latency ----------------------------------------------------------------------------- */

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The decimal number at the start of a record's data; 0 when there is none. */
static uint64_t number_read(const char *data, size_t len)
{
    uint64_t number = 0;
    uint32_t bits = 0;
    int have = 0;

    for (size_t i = 0; i < len && i < NUMBER_CHARS; i++) {
        int value = base64_value(data[i]);
        int byte;

        if (value < 0)
            break;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        byte = (int)(bits >> have & 0xff);
        if (byte < '0' || byte > '9')
            break;
        number = number * 10 + (uint64_t)(byte - '0');
    }
    return number;
}

static bool number_came(uint64_t number)
{
    return (came[number / 8] & 1u << number % 8) != 0;
}

static uint64_t number_missing(void)
{
    while (counters.gapless < counters.highest && number_came(counters.gapless + 1))
        counters.gapless++;
    return counters.gapless < counters.highest ? counters.gapless + 1 : 0;
}

static bool number_is_whole(uint64_t number, const char *data, size_t len)
{
    char line[NUMBERED_MAX], text[NUMBERED_MAX / 3 * 4 + 4];

    if (len != base64_size(line_len))
        return false;
    numbered_line(line, line_len, number);
    base64_encode(text, line, line_len);
    return memcmp(text, data, len) == 0;
}

static void number_note(const char *data, size_t len)
{
    uint64_t number = number_read(data, len);

    if (number == 0 || number > NUMBERS_MAX) {
        counters.unnumbered++;
    } else if (line_len > 0 && !number_is_whole(number, data, len)) {
        counters.torn++;
    } else if (number_came(number)) {
        counters.repeated++;
    } else {
        came[number / 8] |= (uint8_t)(1u << number % 8);
        counters.distinct++;
        if (counters.lowest == 0 || number < counters.lowest)
            counters.lowest = counters.gapless = number;
        counters.highest = MAX(counters.highest, number);
    }
}

static void latency_note(const char *data, size_t len, uint64_t arrival_ns)
{
    uint64_t stamp = number_read(data, len);
    uint64_t took, step;

    if (stamp == 0 || stamp > arrival_ns) {
        counters.unstamped++;
        return;
    }
    took = arrival_ns - stamp;
    step = took / LATENCY_STEP_NS;
    latency[step < LATENCY_STEPS ? step : LATENCY_STEPS]++;
    counters.stamped++;
    if (took > counters.latency_max_ns)
        counters.latency_max_ns = took;
}

static uint64_t latency_max_us(void)
{
    return (counters.latency_max_ns + 999) / 1000;
}

/* The upper end of the step in which the share `percent` of all lines is reached, in us. */
static uint64_t latency_percentile_us(unsigned percent)
{
    uint64_t wanted = (counters.stamped * percent + 99) / 100;
    uint64_t seen = 0;

    if (wanted == 0)
        return 0;
    for (uint64_t step = 0; step < LATENCY_STEPS; step++) {
        seen += latency[step];
        if (seen >= wanted)
            return MIN((step + 1) * LATENCY_STEP_US, latency_max_us());
    }
    return latency_max_us();
}

/* --- answers ----------------------------------------------------------------------------- */

/* Counts without parsing: inside a JSON string a quote is escaped, so `"Data":"` is never text,
 * and base64 has no quotes, so memchr jumps over the bulk of the body. */
static size_t records_count(const char *body, size_t len, uint64_t arrival_ns)
{
    const char *at = body, *end = body + len;
    size_t count = 0;

    while ((at = memmem(at, (size_t)(end - at), data_open, sizeof data_open - 1)) != NULL) {
        const char *data = at + sizeof data_open - 1;

        at = memchr(data, '"', (size_t)(end - data));
        if (at == NULL)
            break;
        if (stamp_mode)
            latency_note(data, (size_t)(at - data), arrival_ns);
        if (number_mode)
            number_note(data, (size_t)(at - data));
        count++;
    }
    return count;
}

/* Adds a part, borrowed until it is sent. */
static void answer_add(struct conn *c, const char *text, size_t len)
{
    c->out[c->out_count++] = (struct iovec){(char *)(uintptr_t)text, len};
}

/* Date of the answers, made once a second: real answers have one, and clients learn the clock
 * from it. */
static const char *http_date(void)
{
    static char text[40];
    static time_t made;
    time_t now = time(NULL);
    struct tm tm;

    if (now != made && gmtime_r(&now, &tm) != NULL) {
        (void)strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        made = now;
    }
    return text;
}

static void answer_begin(struct conn *c, const char *status, size_t len)
{
    int n = snprintf(c->head, sizeof c->head,
                     "HTTP/1.1 %s\r\n"
                     "x-amzn-RequestId: 00000000-0000-0000-0000-%012" PRIu64 "\r\n"
                     "Date: %s\r\n"
                     "Content-Type: application/x-amz-json-1.1\r\n"
                     "Content-Length: %zu\r\n%s\r\n",
                     status, counters.requests % 1000000000000u, http_date(), len,
                     c->close_after ? "Connection: close\r\n" : "");

    c->out_at = c->out_count = 0;
    answer_add(c, c->head, (size_t)n);
}

static void answer_text(struct conn *c, const char *status, const char *text)
{
    size_t len = strlen(text);

    answer_begin(c, status, len);
    answer_add(c, text, len);
}

static void answer_refuse(struct conn *c, const char *text)
{
    counters.refused++;
    answer_text(c, "400 Bad Request", text);
}

static void answer_put_records(struct conn *c)
{
    uint64_t arrival_ns = now_ns(CLOCK_MONOTONIC);
    size_t count = records_count(c->room + c->head_len, c->body_len, arrival_ns);
    size_t list_len = count * record_len - 1; /* without the last comma */

    if (count == 0 || count > RECORDS_MAX) {
        answer_refuse(c, "{\"__type\":\"ValidationException\","
                         "\"message\":\"Member must have length between 1 and 500\"}");
        return;
    }
    counters.requests++;
    counters.records += count;
    counters.body_bytes += c->body_len;
    counters.last_ns = arrival_ns;
    if (counters.first_ns == 0)
        counters.first_ns = arrival_ns;

    answer_begin(c, "200 OK", sizeof records_open - 1 + list_len + sizeof records_close - 1);
    answer_add(c, records_open, sizeof records_open - 1);
    answer_add(c, record_list, list_len);
    answer_add(c, records_close, sizeof records_close - 1);
}

static void answer_stats(struct conn *c)
{
    (void)snprintf(c->stats, sizeof c->stats,
                   "{\"requests\":%" PRIu64 ",\"records\":%" PRIu64 ",\"body_bytes\":%" PRIu64
                   ",\"refused\":%" PRIu64 ",\"first_ns\":%" PRIu64 ",\"last_ns\":%" PRIu64
                   ",\"cpu_ns\":%" PRIu64 ",\"stamped\":%" PRIu64 ",\"unstamped\":%" PRIu64
                   ",\"p50_us\":%" PRIu64 ",\"p99_us\":%" PRIu64 ",\"max_us\":%" PRIu64
                   ",\"distinct\":%" PRIu64 ",\"repeated\":%" PRIu64 ",\"unnumbered\":%" PRIu64
                   ",\"torn\":%" PRIu64 ",\"missing\":%" PRIu64 "}",
                   counters.requests, counters.records, counters.body_bytes, counters.refused,
                   counters.first_ns, counters.last_ns, now_ns(CLOCK_PROCESS_CPUTIME_ID),
                   counters.stamped, counters.unstamped, latency_percentile_us(50),
                   latency_percentile_us(99), latency_max_us(), counters.distinct,
                   counters.repeated, counters.unnumbered, counters.torn, number_missing());
    answer_text(c, "200 OK", c->stats);
}

static void answer_reset(struct conn *c)
{
    counters = (struct counters){0};
    memset(latency, 0, sizeof latency);
    memset(came, 0, sizeof came);
    answer_text(c, "200 OK", "{}");
}

static void answer(struct conn *c)
{
    switch (c->asked) {
    case ASKED_PUT_RECORDS:
        answer_put_records(c);
        break;
    case ASKED_SUMMARY:
        answer_text(c, "200 OK", stream_summary);
        break;
    case ASKED_SHARDS:
        answer_text(c, "200 OK", shard_list);
        break;
    case ASKED_STATS:
        answer_stats(c);
        break;
    case ASKED_RESET:
        answer_reset(c);
        break;
    case ASKED_DOWN:
    case ASKED_UP:
        wants_down = c->asked == ASKED_DOWN;
        c->controls = true;
        answer_text(c, "200 OK", "{}");
        break;
    case ASKED_UNKNOWN:
        answer_refuse(c, "{\"__type\":\"UnknownOperationException\"}");
        break;
    }
}

/* --- requests ---------------------------------------------------------------------------- */

/* The value of a header, up to the end of its line; NULL when it is not there.  The head ends in
 * a zero while we look. */
static const char *head_find(const char *head, const char *name)
{
    size_t len = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, len) == 0 && line[len] == ':')
            return line + len + 1 + strspn(line + len + 1, " \t");
    }
    return NULL;
}

static bool head_says(const char *head, const char *name, const char *value)
{
    const char *found = head_find(head, name);

    return found != NULL && strncasecmp(found, value, strlen(value)) == 0;
}

static enum asked head_asked(const char *head)
{
    static const struct {
        const char *target;
        enum asked asked;
    } targets[] = {
        {"Kinesis_20131202.PutRecords\r", ASKED_PUT_RECORDS},
        {"Kinesis_20131202.DescribeStreamSummary\r", ASKED_SUMMARY},
        {"Kinesis_20131202.ListShards\r", ASKED_SHARDS},
    };

    if (strncmp(head, "GET /stats ", 11) == 0)
        return ASKED_STATS;
    if (strncmp(head, "POST /reset ", 12) == 0)
        return ASKED_RESET;
    if (strncmp(head, "POST /down ", 11) == 0)
        return ASKED_DOWN;
    if (strncmp(head, "POST /up ", 9) == 0)
        return ASKED_UP;
    for (size_t i = 0; i < ARRAY_LEN(targets); i++)
        if (head_says(head, "X-Amz-Target", targets[i].target))
            return targets[i].asked;
    return ASKED_UNKNOWN;
}

static int conn_grow(struct conn *c, size_t needed)
{
    size_t cap = c->cap;
    char *room;

    while (cap < needed)
        cap *= 2;
    if (cap == c->cap)
        return 0;
    room = realloc(c->room, cap);
    if (room == NULL)
        return -ENOMEM;
    c->room = room;
    c->cap = cap;
    return 0;
}

/* Reads the head if all of it is there.  Errors: -EMSGSIZE, -EPROTO, -ENOMEM: hang up. */
static int conn_read_head(struct conn *c)
{
    const char *end = memmem(c->room, c->len, "\r\n\r\n", 4);
    const char *length;
    unsigned long long body_len = 0;

    if (end == NULL)
        return c->len < HEAD_MAX ? 0 : -EMSGSIZE;
    c->head_len = (size_t)(end - c->room) + 4;
    c->room[c->head_len - 1] = '\0'; /* the last \n, which nobody needs any more */

    if (head_find(c->room, "Transfer-Encoding") != NULL)
        return -EPROTO;
    length = head_find(c->room, "Content-Length");
    if (length != NULL)
        body_len = strtoull(length, NULL, 10);
    if (body_len > BODY_MAX)
        return -EMSGSIZE;
    c->body_len = (size_t)body_len;
    c->asked = head_asked(c->room);
    c->close_after = head_says(c->room, "Connection", "close");
    if (head_says(c->room, "Expect", "100-continue") && c->len < c->head_len + c->body_len) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

        if (send(c->fd, go_on, sizeof go_on - 1, MSG_NOSIGNAL) != (ssize_t)sizeof go_on - 1)
            return -EPROTO;
    }
    return conn_grow(c, c->head_len + c->body_len);
}

/* Sends what there is to send.  Returns 1 when all is gone, 0 when the socket is full. */
static int conn_write(struct conn *c)
{
    while (c->out_at < c->out_count) {
        ssize_t n = writev(c->fd, c->out + c->out_at, (int)(c->out_count - c->out_at));
        size_t left = n < 0 ? 0 : (size_t)n;

        if (n < 0)
            return errno == EAGAIN ? 0 : -errno;
        while (c->out_at < c->out_count && left >= c->out[c->out_at].iov_len)
            left -= c->out[c->out_at++].iov_len;
        if (left > 0) {
            c->out[c->out_at].iov_base = (char *)c->out[c->out_at].iov_base + left;
            c->out[c->out_at].iov_len -= left;
        }
    }
    return 1;
}

/* Forgets the request that was answered; what came after it moves to the front. */
static void conn_next(struct conn *c)
{
    size_t used = c->head_len + c->body_len;

    memmove(c->room, c->room + used, c->len - used);
    c->len -= used;
    c->head_len = c->body_len = 0;
}

/* One step as far as the socket allows.  Returns 0 to go on later, negative to hang up. */
static int conn_turn(struct conn *c)
{
    for (;;) {
        ssize_t n;
        int r;

        if (c->out_at < c->out_count) {
            r = conn_write(c);
            if (r <= 0)
                return r;
            if (c->close_after)
                return -ESHUTDOWN;
            conn_next(c);
        }
        if (c->head_len == 0 && c->len > 0) {
            r = conn_read_head(c);
            if (r < 0)
                return r;
        }
        if (c->head_len > 0 && c->len >= c->head_len + c->body_len) {
            answer(c);
            continue;
        }
        n = recv(c->fd, c->room + c->len, c->cap - c->len, 0);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            return n < 0 ? -errno : -ECONNRESET;
        c->len += (size_t)n;
    }
}

static void conn_close(struct conn *c)
{
    list_remove(&c->node);
    close(c->fd);
    free(c->room);
    free(c);
}

static void conn_ready(int epoll_fd, struct conn *c)
{
    bool waits_to_write;

    if (conn_turn(c) < 0) {
        conn_close(c);
        return;
    }
    waits_to_write = c->out_at < c->out_count;
    if (waits_to_write != c->waits_to_write) {
        struct epoll_event e = {waits_to_write ? EPOLLOUT : EPOLLIN, {.ptr = c}};

        if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e) < 0)
            err(1, "epoll_ctl");
        c->waits_to_write = waits_to_write;
    }
}

static void conn_accept(int epoll_fd, int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct epoll_event e = {EPOLLIN, {.ptr = NULL}};
    struct conn *c;
    int one = 1;

    if (fd < 0) {
        warn("accept");
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c = calloc(1, sizeof *c);
    if (c == NULL)
        err(1, "connection");
    c->fd = fd;
    list_append(&conns, &c->node);
    c->cap = ROOM_FIRST;
    c->room = malloc(c->cap);
    e.data.ptr = c;
    if (c->room == NULL || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
        err(1, "connection");
}

/* A socket with our port (0: any) that does not listen yet: whoever connects is refused. */
static int listen_bind(uint16_t port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&at, sizeof at) < 0)
        err(1, "bind");
    return fd;
}

static uint16_t listen_port(int fd)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;

    if (getsockname(fd, (struct sockaddr *)&at, &len) < 0)
        err(1, "getsockname");
    return ntohs(at.sin_port);
}

static void listen_begin(int epoll_fd, int fd)
{
    struct epoll_event e = {EPOLLIN, {.ptr = NULL}}; /* no connection: the listener */

    if (listen(fd, SOMAXCONN) < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e) < 0)
        err(1, "listen");
}

/* The port stays ours while we are down: an outage is long, and ports are handed out all the time.
 * Returns the new listener. */
static int go_down(int listen_fd)
{
    uint16_t port = listen_port(listen_fd);

    close(listen_fd);
    LIST_EACH(&conns, node, after)
    {
        struct conn *c = CONTAINER_OF(node, struct conn, node);

        if (!c->controls)
            conn_close(c);
    }
    is_down = true;
    return listen_bind(port);
}

static void usage(void)
{
    fprintf(stderr, "usage: sink [--stamp|--numbered|--lines BYTES]\n");
    exit(2);
}

static void options_read(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--lines") == 0) {
        unsigned long long len = strtoull(argv[2], NULL, 10);

        if (len <= NUMBERED_MIN || len > NUMBERED_MAX)
            usage();
        line_len = (size_t)len - 1;
        number_mode = true;
    } else if (argc == 2) {
        stamp_mode = strcmp(argv[1], "--stamp") == 0;
        number_mode = strcmp(argv[1], "--numbered") == 0;
        if (!stamp_mode && !number_mode)
            usage();
    } else if (argc != 1) {
        usage();
    }
}

int main(int argc, char **argv)
{
    int epoll_fd, listen_fd;

    options_read(argc, argv);
    (void)signal(SIGPIPE, SIG_IGN);
    record_list_build();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0)
        err(1, "epoll");
    listen_fd = listen_bind(0);
    listen_begin(epoll_fd, listen_fd);
    printf("%u\n", listen_port(listen_fd));
    if (fflush(stdout) != 0)
        err(1, "standard output");

    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);

        if (n < 0 && errno != EINTR)
            err(1, "epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                conn_accept(epoll_fd, listen_fd);
            else
                conn_ready(epoll_fd, events[i].data.ptr);
        }
        /* Not before: among the events there may be one of whom we hang up on. */
        if (wants_down && !is_down)
            listen_fd = go_down(listen_fd);
        if (!wants_down && is_down) {
            listen_begin(epoll_fd, listen_fd);
            is_down = false;
        }
    }
}
