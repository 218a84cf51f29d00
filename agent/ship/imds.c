#include "ship/imds.h"

#include "arena.h"
#include "buf.h"
#include "clock.h"
#include "ec2.h"
#include "json.h"
#include "run/log.h"
#include "run/loop.h"
#include "ship/http.h"
#include "ship/transport.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum {
    IMDS_URL_MAX = 2048,
    IMDS_TOKEN_MAX = 1024,
    IMDS_WHY_MAX = 300,
    IMDS_FETCHED_MAX = 40,
    IMDS_KEY_MAX = 128, /* EC2: characters of a tag's key */
};

/* The drawing in imds.h. */
enum imds_state { IMDS_RESTING, IMDS_TOKEN, IMDS_DOCUMENT, IMDS_TEXT, IMDS_TAGS, IMDS_TAG };

/* One round's values; the texts are in the arena. */
struct imds_round {
    struct ec2 ec2;
    struct ec2_tag tags[IMDS_TAGS_MAX];
    struct arena arena;
    char fetched[IMDS_FETCHED_MAX];
};

struct imds {
    struct loop *loop; /* NULL once a round on a loop of its own is over */
    struct transport *transport;
    const struct clock *clock;
    uint64_t ttl_ms;
    char endpoint[IMDS_URL_MAX / 2]; /* without a slash at its end; "": none */
    enum imds_state state;
    struct imds_round rounds[2];
    struct imds_round *good, *next; /* good: NULL until one went well */
    size_t at;                      /* which text, which tag */
    bool tried, asked_again;
    bool is_bad; /* the last round failed, and that was said */
    char url[IMDS_URL_MAX];
    char token[IMDS_TOKEN_MAX + 64]; /* the header */
    struct http_call call;
    struct loop_timer timer;
};

/* --- settings --- */

void imds_settings_from_env(struct imds_settings *ret, const char **ret_why)
{
    const char *disabled = getenv("AWS_EC2_METADATA_DISABLED");
    const char *endpoint = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *mode = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");

    *ret = (struct imds_settings){.ttl_ms = IMDS_TTL_MS};
    if (ret_why != NULL)
        *ret_why = NULL;
    if (disabled != NULL && strcasecmp(disabled, "true") == 0) {
        if (ret_why != NULL)
            *ret_why = "AWS_EC2_METADATA_DISABLED is true";
        return;
    }
    if (endpoint != NULL && endpoint[0] != '\0')
        ret->endpoint = endpoint;
    else if (mode != NULL && strcasecmp(mode, "IPv6") == 0)
        ret->endpoint = "http://[fd00:ec2::254]";
    else
        ret->endpoint = "http://169.254.169.254";
}

/* --- what is asked for --- */

/* Members of the instance identity document, and where the same is if there is none. */
static const struct imds_source {
    struct slice member;
    const char *path;
} sources[EC2_TEXTS] = {
    [EC2_PRIVATE_IP] = {SLICE("privateIp"), "/latest/meta-data/local-ipv4"},
    [EC2_AVAILABILITY_ZONE] = {SLICE("availabilityZone"),
                               "/latest/meta-data/placement/availability-zone"},
    [EC2_INSTANCE_ID] = {SLICE("instanceId"), "/latest/meta-data/instance-id"},
    [EC2_INSTANCE_TYPE] = {SLICE("instanceType"), "/latest/meta-data/instance-type"},
    [EC2_ACCOUNT_ID] = {SLICE("accountId"), "/latest/meta-data/identity-credentials/ec2/info"},
    [EC2_AMI_ID] = {SLICE("imageId"), "/latest/meta-data/ami-id"},
    [EC2_REGION] = {SLICE("region"), "/latest/meta-data/placement/region"},
};

static const char document_path[] = "/latest/dynamic/instance-identity/document";
static const char tags_path[] = "/latest/meta-data/tags/instance/";

static void imds_step(struct imds *i);

/* --- the end of a round --- */

static void imds_rest(struct imds *i, uint64_t wait_ms)
{
    i->state = IMDS_RESTING;
    i->tried = true;
    loop_timer_set(i->loop, &i->timer, loop_now_ms(i->loop) + wait_ms);
}

__attribute__((format(printf, 2, 3))) static void imds_fail(struct imds *i, const char *format, ...)
{
    char why[IMDS_WHY_MAX];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (!i->is_bad)
        log_warn("ec2 metadata: %s: %s; %s, trying again in %d s", i->endpoint, why,
                 i->good != NULL ? "what is known is kept" : "records go without it",
                 (int)(MIN(i->ttl_ms, (uint64_t)IMDS_RETRY_MS) / 1000));
    i->is_bad = true;
    imds_rest(i, MIN(i->ttl_ms, (uint64_t)IMDS_RETRY_MS));
}

/* Says once what the instance does not tell of itself. */
static void imds_tell_missing(const struct imds *i, const struct ec2 *e)
{
    char list[256] = "";
    size_t len = 0;

    for (size_t n = 0; n < EC2_TEXTS; n++)
        if (e->text[n].ptr == NULL)
            len += (size_t)snprintf(list + len, sizeof list - len, "%s%.*s", len > 0 ? ", " : "",
                                    SLICE_ARG(sources[n].member));
    if (!e->has_tags)
        (void)snprintf(list + len, sizeof list - len, "%stags", len > 0 ? ", " : "");
    if (list[0] != '\0')
        log_warn("ec2 metadata: %s does not tell: %s%s; records go without", i->endpoint, list,
                 e->has_tags ? "" : " (allow tags in the instance's metadata options)");
}

static bool knows_anything(const struct ec2 *e)
{
    for (size_t n = 0; n < EC2_TEXTS; n++)
        if (e->text[n].ptr != NULL)
            return true;
    return false;
}

static void imds_succeed(struct imds *i)
{
    struct imds_round *r = i->next;
    time_t seconds;
    struct tm tm;

    if (!knows_anything(&r->ec2)) {
        imds_fail(i, "it knows nothing of an instance");
        return;
    }
    r->ec2.fetched_wall_ms = i->clock->wall_ms(i->clock);
    seconds = (time_t)(r->ec2.fetched_wall_ms / 1000);
    if (localtime_r(&seconds, &tm) != NULL)
        r->ec2.fetched = (struct slice){
            r->fetched, strftime(r->fetched, sizeof r->fetched, "%Y-%m-%dT%H:%M:%S%z", &tm)};
    r->ec2.tags = r->tags;
    if (i->good == NULL)
        imds_tell_missing(i, &r->ec2);
    else if (i->is_bad)
        log_info("ec2 metadata: %s answers again", i->endpoint);
    i->is_bad = false;
    i->next = i->good != NULL ? i->good : &i->rounds[1];
    i->good = r;
    imds_rest(i, i->ttl_ms);
}

/* --- asking --- */

static void imds_ask(struct imds *i, const char *path, struct slice more)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t len = (size_t)snprintf(i->url, sizeof i->url, "%s%s", i->endpoint, path);
    int r;

    for (size_t n = 0; n < more.len && len + 4 < sizeof i->url; n++) {
        unsigned char c = (unsigned char)more.ptr[n];
        bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     strchr("-_.~", c) != NULL;

        if (!plain) {
            i->url[len++] = '%';
            i->url[len++] = digits[c >> 4];
            c = (unsigned char)digits[c & 15];
        }
        i->url[len++] = (char)c;
    }
    i->url[len] = '\0';
    i->call.url = i->url;
    i->call.method = i->state == IMDS_TOKEN ? "PUT" : "GET";
    i->call.headers[0] =
        i->state == IMDS_TOKEN ? "X-aws-ec2-metadata-token-ttl-seconds: 21600" : i->token;
    r = transport_send(i->transport, &i->call);
    if (r < 0)
        imds_fail(i, "asking: %s", strerrordesc_np(-r));
}

static void imds_begin(struct imds *i)
{
    struct imds_round *r = i->next;

    arena_reset(&r->arena);
    r->ec2 = (struct ec2){0};
    i->at = 0;
    i->state = IMDS_TOKEN;
    imds_ask(i, "/latest/api/token", (struct slice){NULL, 0});
}

/* Asks for what the state calls for; what is known already is passed over. */
static void imds_step(struct imds *i)
{
    struct ec2 *e = &i->next->ec2;

    if (i->state == IMDS_TEXT) {
        while (i->at < EC2_TEXTS && e->text[i->at].ptr != NULL)
            i->at++;
        if (i->at < EC2_TEXTS) {
            imds_ask(i, sources[i->at].path, (struct slice){NULL, 0});
            return;
        }
        i->state = IMDS_TAGS;
    }
    if (i->state == IMDS_DOCUMENT)
        imds_ask(i, document_path, (struct slice){NULL, 0});
    else if (i->state == IMDS_TAGS)
        imds_ask(i, tags_path, (struct slice){NULL, 0});
    else if (i->state == IMDS_TAG && i->at < e->tag_count)
        imds_ask(i, tags_path, i->next->tags[i->at].key);
    else
        imds_succeed(i);
}

/* --- answers --- */

static struct slice trimmed(struct slice s)
{
    while (s.len > 0 && (unsigned char)s.ptr[s.len - 1] <= ' ')
        s.len--;
    return s;
}

static bool is_token(struct slice s)
{
    for (size_t n = 0; n < s.len; n++)
        if (s.ptr[n] <= ' ' || s.ptr[n] > '~')
            return false;
    return s.len > 0 && s.len <= IMDS_TOKEN_MAX;
}

static void keep(struct imds *i, struct slice text, struct slice *ret)
{
    if (!arena_copy(&i->next->arena, text, ret))
        *ret = (struct slice){NULL, 0};
}

/* A member's text without its escapes. */
static void keep_json(struct imds *i, struct slice raw, struct slice *ret)
{
    struct buf b;

    buf_init(&b, 3 * raw.len + 1);
    if (json_unescape(raw, &b) == 0)
        keep(i, buf_slice(&b), ret);
    buf_done(&b);
}

/* Keeps the member of an object that is a text, if there is one. */
static void keep_member(struct imds *i, struct slice body, struct slice name, struct slice *ret)
{
    struct json_token t;
    struct json j;

    json_init(&j, body);
    if (json_next(&j, &t) < 0 || t.type != JSON_OBJECT_BEGIN)
        return;
    while (json_next(&j, &t) == 0 && t.type == JSON_KEY) {
        struct json value = j;
        struct json_token v;

        if (json_text_equal(t.text, name) && json_next(&value, &v) == 0 && v.type == JSON_STRING)
            keep_json(i, v.text, ret);
        if (json_skip(&j) < 0)
            return;
    }
}

/* The keys of all tags, one a line. */
static void read_tag_list(struct imds *i, struct slice body)
{
    struct ec2 *e = &i->next->ec2;

    e->has_tags = true;
    while (body.len > 0 && e->tag_count < IMDS_TAGS_MAX) {
        const char *end = memchr(body.ptr, '\n', body.len);
        struct slice line = slice_first(body, end != NULL ? (size_t)(end - body.ptr) : body.len);
        struct ec2_tag tag = {0};

        body = slice_from(body, MIN(line.len + 1, body.len));
        line = trimmed(line);
        if (line.len == 0 || line.len > IMDS_KEY_MAX * 4)
            continue;
        keep(i, line, &tag.key);
        keep(i, line, &tag.lower);
        /* ASCII only: other letters are not allowed in keys that the metadata tells. */
        for (size_t n = 0; n < tag.lower.len; n++) {
            char *c = (char *)(uintptr_t)tag.lower.ptr + n;
            *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 0x20) : *c;
        }
        if (tag.key.ptr != NULL && tag.lower.ptr != NULL)
            i->next->tags[e->tag_count++] = tag;
    }
}

static void imds_read(struct imds *i, struct slice body)
{
    struct ec2 *e = &i->next->ec2;

    switch (i->state) {
    case IMDS_TOKEN:
        body = trimmed(body);
        if (!is_token(body)) {
            imds_fail(i, "its token is none");
            return;
        }
        (void)snprintf(i->token, sizeof i->token, "X-aws-ec2-metadata-token: %.*s",
                       SLICE_ARG(body));
        i->state = IMDS_DOCUMENT;
        break;
    case IMDS_DOCUMENT:
        for (size_t n = 0; n < EC2_TEXTS; n++)
            keep_member(i, body, sources[n].member, &e->text[n]);
        i->state = IMDS_TEXT;
        break;
    case IMDS_TEXT:
        if (i->at == EC2_ACCOUNT_ID)
            keep_member(i, body, SLICE("AccountId"), &e->text[i->at]);
        else if (trimmed(body).len > 0)
            keep(i, trimmed(body), &e->text[i->at]);
        i->at++;
        break;
    case IMDS_TAGS:
        read_tag_list(i, body);
        i->state = IMDS_TAG;
        i->at = 0;
        break;
    case IMDS_TAG:
        keep(i, body, &i->next->tags[i->at].value);
        i->at++;
        break;
    case IMDS_RESTING:
        break;
    }
    imds_step(i);
}

/* There is no such thing on this instance; a tag that is gone again is left out. */
static void imds_absent(struct imds *i)
{
    struct ec2 *e = &i->next->ec2;

    if (i->state == IMDS_DOCUMENT) {
        i->state = IMDS_TEXT;
    } else if (i->state == IMDS_TEXT) {
        i->at++;
    } else if (i->state == IMDS_TAG) {
        e->tag_count--;
        memmove(&i->next->tags[i->at], &i->next->tags[i->at + 1],
                (e->tag_count - i->at) * sizeof *i->next->tags);
    } else {
        imds_succeed(i); /* no tags */
        return;
    }
    imds_step(i);
}

static void imds_done(struct http_call *call, const struct http_answer *answer)
{
    struct imds *i = CONTAINER_OF(call, struct imds, call);

    if (answer->error < 0)
        imds_fail(i,
                  i->state == IMDS_TOKEN && answer->error == -ETIMEDOUT
                      ? "%s (in a container, raise HttpPutResponseHopLimit to 2)"
                      : "%s",
                  answer->why);
    else if (answer->status == 200)
        imds_read(i, answer->body);
    else if (answer->status == 401 && i->state != IMDS_TOKEN && !i->asked_again) {
        i->asked_again = true;
        imds_begin(i);
    } else if (answer->status == 404 && i->state != IMDS_TOKEN)
        imds_absent(i);
    else
        imds_fail(i, "HTTP status %ld", answer->status);
}

/* --- birth and death --- */

static void imds_fired(struct loop_timer *t)
{
    struct imds *i = CONTAINER_OF(t, struct imds, timer);

    if (i->state != IMDS_RESTING)
        return;
    i->asked_again = false;
    imds_begin(i);
}

static int keep_endpoint(struct imds *i, const char *endpoint)
{
    size_t len = endpoint != NULL ? strlen(endpoint) : 0;

    while (len > 0 && endpoint[len - 1] == '/')
        len--;
    if (len >= sizeof i->endpoint)
        return -EINVAL;
    if (len > 0 && strncmp(endpoint, "http://", 7) != 0 && strncmp(endpoint, "https://", 8) != 0)
        return -EINVAL;
    memcpy(i->endpoint, endpoint != NULL ? endpoint : "", len);
    return 0;
}

int imds_new(struct loop *loop, struct transport *transport, const struct imds_settings *settings,
             struct imds **ret)
{
    struct imds *i = calloc(1, sizeof *i);
    int r;

    if (i == NULL)
        return -ENOMEM;
    i->loop = loop;
    i->transport = transport;
    i->clock = loop_clock(loop);
    i->ttl_ms = settings->ttl_ms;
    i->next = &i->rounds[0];
    i->call.timeout_ms = IMDS_TIMEOUT_MS;
    i->call.direct = true;
    i->call.done = imds_done;
    arena_init(&i->rounds[0].arena, IMDS_TEXT_MAX);
    arena_init(&i->rounds[1].arena, IMDS_TEXT_MAX);
    r = keep_endpoint(i, settings->endpoint);
    if (r == 0)
        r = loop_timer_init(loop, &i->timer, imds_fired);
    if (r < 0)
        imds_free(i);
    else
        *ret = i;
    return r;
}

/* Lets go of loop and transport; the values stay. */
static void imds_leave(struct imds *i)
{
    if (i->loop == NULL)
        return;
    if (i->state != IMDS_RESTING)
        transport_cancel(i->transport, &i->call);
    i->state = IMDS_RESTING;
    loop_timer_done(i->loop, &i->timer);
    i->loop = NULL;
}

void imds_free(struct imds *i)
{
    if (i == NULL)
        return;
    imds_leave(i);
    arena_done(&i->rounds[0].arena);
    arena_done(&i->rounds[1].arena);
    explicit_bzero(i->token, sizeof i->token);
    free(i);
}

void imds_start(struct imds *i)
{
    if (i->endpoint[0] == '\0') {
        i->tried = true;
        return;
    }
    loop_timer_set(i->loop, &i->timer, loop_now_ms(i->loop));
}

const struct ec2 *imds_get(const struct imds *i)
{
    return i->good != NULL ? &i->good->ec2 : NULL;
}

bool imds_has_tried(const struct imds *i)
{
    return i->tried;
}

int imds_once(const struct clock *clock, const struct imds_settings *settings,
              const char *user_agent, struct imds **ret)
{
    const struct http_settings http_settings = {.user_agent = user_agent};
    struct loop *loop = NULL;
    struct http *http = NULL;
    struct imds *i = NULL;
    int r = loop_new(clock, &loop);

    if (r == 0)
        r = http_new(loop, &http_settings, &http);
    if (r == 0)
        r = http_reserve(http, 1);
    if (r == 0)
        r = imds_new(loop, http_transport(http), settings, &i);
    if (r == 0) {
        imds_start(i);
        while (r == 0 && !imds_has_tried(i))
            r = loop_step(loop, -1);
        imds_leave(i);
    }
    http_free(http);
    loop_free(loop);
    if (r < 0)
        imds_free(i);
    else
        *ret = i;
    return r;
}
