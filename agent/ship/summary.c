#include "ship/summary.h"

#include "backoff.h"
#include "buf.h"
#include "json.h"
#include "random.h"
#include "run/log.h"
#include "run/loop.h"
#include "ship/client.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUMMARY_BODY_MAX = 4096, /* an ARN, with room to spare */
    SUMMARY_QUIET_TRIES = 3, /* a network that fails so often is worth a word */
    SUMMARY_KIB_DIGITS = 9,
};

static const char target[] = "Kinesis_20131202.DescribeStreamSummary";

/* The account has 20 calls a second for all its agents: what is throttled comes back much later. */
static const struct backoff after_failure = {1000, SUMMARY_EVERY_MS};
static const struct backoff after_throttling = {15 * 1000, SUMMARY_EVERY_MS};

struct summary {
    struct loop *loop;
    struct random random; /* a copy: what others draw does not depend on what we ask */
    struct client *client;
    const char *stream;
    struct buf body;
    struct client_call call;
    struct loop_timer timer;
    struct list users;
    struct summary_news news;
    enum summary_state state;
    uint32_t tries, failures; /* ended calls; those that failed since the last good one */
    uint64_t since_ms, asked_ms;
    bool started, flying, failure_said;
};

/* --- reading --- */

/* A string or number member; null, or anything else, is as good as missing. */
static int read_text(struct json *j, struct slice *ret)
{
    struct json at = *j;
    struct json_token t;
    int r = json_next(j, &t);

    if (r < 0)
        return r;
    if (t.type == JSON_OBJECT_BEGIN || t.type == JSON_ARRAY_BEGIN) {
        *j = at;
        return json_skip(j);
    }
    if (t.type == JSON_STRING || t.type == JSON_NUMBER)
        *ret = t.text;
    return 0;
}

/* Never less than what every stream takes, whatever is said: it would be somebody's mistake, and would
 * cut lines. */
static uint64_t record_max_of(struct slice kib)
{
    uint64_t n = 0;

    for (size_t i = 0; i < kib.len; i++) {
        if (kib.ptr[i] < '0' || kib.ptr[i] > '9' || i == SUMMARY_KIB_DIGITS)
            return SUMMARY_RECORD_MIN;
        n = 10 * n + (uint64_t)(kib.ptr[i] - '0');
    }
    n *= 1024;
    return MIN(MAX(n, (uint64_t)SUMMARY_RECORD_MIN), (uint64_t)SUMMARY_RECORD_MAX);
}

static size_t find_word(const char *const *words, size_t count, struct slice s)
{
    for (size_t i = 1; i < count; i++)
        if (json_text_equal(s, slice_of(words[i])))
            return i;
    return 0; /* not known */
}

static int read_mode(struct json *j, struct summary_news *ret)
{
    static const char *const words[] = {
        [SUMMARY_PROVISIONED] = "PROVISIONED", [SUMMARY_ON_DEMAND] = "ON_DEMAND"};
    struct json at = *j;
    struct slice mode = {0};
    struct json_token t;
    int r = json_next(j, &t);

    if (r < 0)
        return r;
    if (t.type != JSON_OBJECT_BEGIN) {
        *j = at;
        return json_skip(j);
    }
    for (;;) {
        r = json_next(j, &t);
        if (r < 0 || t.type == JSON_OBJECT_END)
            break;
        r = json_text_equal(t.text, SLICE("StreamMode")) ? read_text(j, &mode) : json_skip(j);
        if (r < 0)
            break;
    }
    ret->mode = (enum summary_mode)find_word(words, ARRAY_LEN(words), mode);
    return r;
}

/* The members of the description, up to its end. */
static int read_description(struct json *j, struct summary_news *ret)
{
    static const char *const states[] = {[SUMMARY_CREATING] = "CREATING",
                                         [SUMMARY_DELETING] = "DELETING",
                                         [SUMMARY_ACTIVE] = "ACTIVE",
                                         [SUMMARY_UPDATING] = "UPDATING"};
    struct slice status = {0}, kib = {0}, placed = {0};
    struct json_token t;
    int r;

    for (;;) {
        r = json_next(j, &t);
        if (r < 0)
            return r;
        if (t.type == JSON_OBJECT_END)
            break;
        if (json_text_equal(t.text, SLICE("StreamStatus")))
            r = read_text(j, &status);
        else if (json_text_equal(t.text, SLICE("MaxRecordSizeInKiB")))
            r = read_text(j, &kib);
        else if (json_text_equal(t.text, SLICE("RecordDistributionStrategy")))
            r = read_text(j, &placed);
        else if (json_text_equal(t.text, SLICE("StreamModeDetails")))
            r = read_mode(j, ret);
        else
            r = json_skip(j);
        if (r < 0)
            return r;
    }
    ret->record_max = record_max_of(kib);
    ret->auto_placed = json_text_equal(placed, SLICE("AUTO"));
    ret->status = (enum summary_status)find_word(states, ARRAY_LEN(states), status);
    return 0;
}

int summary_read(struct slice body, struct summary_news *ret)
{
    struct summary_news news = {0};
    bool found = false;
    struct json_token t;
    struct json j;

    json_init(&j, body);
    if (json_next(&j, &t) < 0 || t.type != JSON_OBJECT_BEGIN)
        return -EBADMSG;
    while (json_next(&j, &t) == 0 && t.type == JSON_KEY) {
        if (!found && json_text_equal(t.text, SLICE("StreamDescriptionSummary"))) {
            found = true;
            if (json_next(&j, &t) < 0 || t.type != JSON_OBJECT_BEGIN ||
                read_description(&j, &news) < 0)
                return -EBADMSG;
        } else if (json_skip(&j) < 0) {
            return -EBADMSG;
        }
    }
    if (!found || t.type != JSON_OBJECT_END || json_next(&j, &t) < 0 || t.type != JSON_END)
        return -EBADMSG;
    *ret = news;
    return 0;
}

/* --- what comes of a call --- */

static void ask_in(struct summary *s, uint64_t wait_ms)
{
    loop_timer_set(s->loop, &s->timer, loop_now_ms(s->loop) + wait_ms);
}

static uint64_t some_minutes(struct summary *s)
{
    return SUMMARY_EVERY_MS + random_below(&s->random, SUMMARY_EVERY_MS);
}

/* Says what is out of the ordinary, and what is not any more. */
static void say_news(const struct summary *s, const struct summary_news *was)
{
    const struct summary_news *n = &s->news;

    if (n->record_max != was->record_max)
        log_info("stream %s: takes records of up to %" PRIu64 " KiB", s->stream,
                 n->record_max / 1024);
    if (n->auto_placed != was->auto_placed)
        log_info("stream %s: %s", s->stream,
                 n->auto_placed ? "places records itself (AUTO); partition keys are sent, but do "
                                  "not choose a shard"
                                : "places records by their partition keys again");
}

static bool same_news(const struct summary_news *a, const struct summary_news *b)
{
    return a->record_max == b->record_max && a->auto_placed == b->auto_placed &&
           a->mode == b->mode && a->status == b->status;
}

static void summary_succeed(struct summary *s, const struct summary_news *news)
{
    const struct summary_news was = s->news;

    s->news = *news;
    s->state = SUMMARY_KNOWN;
    s->failures = 0;
    s->failure_said = false;
    say_news(s, &was);
    ask_in(s, some_minutes(s));
    if (same_news(&was, &s->news))
        return;
    LIST_EACH(&s->users, node, after)
    {
        const struct summary_user *u = CONTAINER_OF(node, struct summary_user, node);

        u->told(u->user, &s->news);
    }
}

static const char *goes_on(const struct summary *s)
{
    return s->state == SUMMARY_KNOWN ? "what it said last holds"
                                     : "delivery goes on, with records of up to 1024 KiB";
}

/* They understood the question, or that it is none, and do not answer. */
static void summary_refused(struct summary *s, const struct client_answer *a)
{
    if (s->state == SUMMARY_ASKING)
        s->state = SUMMARY_SILENT;
    if (!s->failure_said && a->class == AWS_ERROR_REFUSED)
        log_info("stream %s: does not say how large its records may be: %.*s %.*s; %s", s->stream,
                 SLICE_ARG(a->code), SLICE_ARG(a->message), goes_on(s));
    else if (!s->failure_said)
        log_warn("stream %s: does not say how large its records may be: %.*s %.*s; %s; allow "
                 "kinesis:DescribeStreamSummary on the stream in the IAM policy",
                 s->stream, SLICE_ARG(a->code), SLICE_ARG(a->message), goes_on(s));
    s->failure_said = true;
    ask_in(s, some_minutes(s));
}

/* Nobody answered, or not to the question.  Whether the network works is for delivery to say. */
static void summary_failed(struct summary *s, const struct backoff *b, struct slice code,
                           struct slice message)
{
    if (!s->failure_said && s->failures >= SUMMARY_QUIET_TRIES) {
        log_info("stream %s: asking how large its records may be: %.*s %.*s; %s", s->stream,
                 SLICE_ARG(code), SLICE_ARG(message), goes_on(s));
        s->failure_said = true;
    }
    ask_in(s, s->state == SUMMARY_KNOWN
                  ? some_minutes(s)
                  : backoff_delay_ms(b, s->failures - 1, &s->random) + b->base_ms);
}

/* A policy that does not allow the call; other trouble of this kind stops records, too, and ends when
 * somebody ends it. */
static bool is_forbidden(struct slice code)
{
    return slice_starts_with(code, SLICE("AccessDenied")) ||
           slice_equal(code, SLICE("UnauthorizedOperation")) ||
           slice_equal(code, SLICE("HTTP 403"));
}

static void summary_done(struct client_call *call, const struct client_answer *a)
{
    struct summary *s = CONTAINER_OF(call, struct summary, call);
    struct summary_news news;

    s->flying = false;
    s->tries++;
    if (a->ok && summary_read(a->body, &news) == 0) {
        summary_succeed(s, &news);
        return;
    }
    s->failures++;
    if (a->ok)
        summary_failed(s, &after_failure, SLICE("the answer cannot be read"), SLICE(""));
    else if (a->class == AWS_ERROR_REFUSED || is_forbidden(a->code))
        summary_refused(s, a);
    else
        summary_failed(s, a->class == AWS_ERROR_THROTTLED ? &after_throttling : &after_failure,
                       a->code, a->message);
}

static void summary_ask(struct loop_timer *t)
{
    struct summary *s = CONTAINER_OF(t, struct summary, timer);
    int r;

    if (s->flying)
        return;
    s->asked_ms = loop_now_ms(s->loop);
    r = client_send(&s->call, target, buf_slice(&s->body), SUMMARY_TIMEOUT_MS);
    if (r == 0) {
        s->flying = true;
        return;
    }
    s->tries++;
    s->failures++;
    summary_failed(s, &after_failure, slice_of(strerrordesc_np(-r)), SLICE(""));
}

/* --- life --- */

static int write_body(struct summary *s, const struct summary_settings *settings)
{
    bool by_arn = settings->stream_arn.len > 0;
    int r = buf_append(&s->body, by_arn ? SLICE("{\"StreamARN\":") : SLICE("{\"StreamName\":"));

    if (r == 0)
        r = json_append_string(&s->body, by_arn ? settings->stream_arn : settings->stream_name);
    return r < 0 ? r : buf_append_char(&s->body, '}');
}

int summary_new(struct loop *loop, const struct random *random, struct client *client,
                const struct summary_settings *settings, struct summary **ret)
{
    struct summary *s = calloc(1, sizeof *s);
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->loop = loop;
    s->random = *random;
    s->client = client;
    s->stream = settings->stream;
    s->news.record_max = SUMMARY_RECORD_MIN;
    list_init(&s->users);
    buf_init(&s->body, SUMMARY_BODY_MAX);
    client_call_init(&s->call, client, summary_done);
    r = write_body(s, settings);
    if (r == 0)
        r = loop_timer_init(loop, &s->timer, summary_ask);
    if (r < 0)
        summary_free(s);
    else
        *ret = s;
    return r;
}

void summary_free(struct summary *s)
{
    if (s == NULL)
        return;
    if (s->flying)
        client_cancel(&s->call);
    LIST_EACH(&s->users, node, after)
    list_remove(node);
    loop_timer_done(s->loop, &s->timer);
    client_call_done(&s->call);
    buf_done(&s->body);
    free(s);
}

bool summary_is_of(const struct summary *s, const struct client *client, const char *stream)
{
    return s->client == client && strcmp(s->stream, stream) == 0;
}

void summary_join(struct summary *s, struct summary_user *u)
{
    list_append(&s->users, &u->node);
}

void summary_leave(struct summary_user *u)
{
    list_remove(&u->node);
}

void summary_start(struct summary *s)
{
    s->started = true;
    s->since_ms = loop_now_ms(s->loop);
    ask_in(s, 0);
}

void summary_doubt(struct summary *s)
{
    uint64_t now = loop_now_ms(s->loop), soonest = s->asked_ms + SUMMARY_SOON_MS;

    if (!s->started || s->flying || s->state == SUMMARY_ASKING)
        return; /* an answer is waited for as it is */
    loop_timer_set(s->loop, &s->timer, MAX(now, soonest));
}

const struct summary_news *summary_get(const struct summary *s)
{
    return &s->news;
}

enum summary_state summary_state(const struct summary *s)
{
    return s->state;
}

uint32_t summary_tries(const struct summary *s)
{
    return s->tries;
}

uint64_t summary_since_ms(const struct summary *s)
{
    return s->since_ms;
}
