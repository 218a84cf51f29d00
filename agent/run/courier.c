#include "run/courier.h"

#include "backoff.h"
#include "clock.h"
#include "random.h"
#include "record/key.h"
#include "run/config.h"
#include "run/log.h"
#include "run/loop.h"
#include "run/outfit.h"
#include "run/version.h"
#include "ship/batch.h"
#include "ship/client.h"
#include "ship/creds.h"
#include "ship/firehose.h"
#include "ship/http.h"
#include "ship/kinesis.h"
#include "ship/proxy.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    COURIER_TIMEOUT_MS = 60 * 1000,
    COURIER_BYTES = 1024 * 1024, /* of one request, but for a record that is larger */
    COURIER_WAIT_MAX_MS = 30 * 1000,
};

/* A person waits. */
static const struct backoff backoff = {.base_ms = 200, .cap_ms = 5000};

struct courier {
    const struct service *service;
    struct slice stream, stream_arn;
    struct random random;
    struct loop *loop;
    struct proxy proxy;
    struct http *http;
    struct client *client;

    struct client_call call;
    bool has_call;
    struct batch batch; /* of the request that is on its way */
    enum outcome *outcomes;
    struct parcel **sent; /* owns the array: whose record each entry is */

    /* What the last request came to. */
    bool answered;
    enum { ANSWER_JUDGED, ANSWER_REFUSED, ANSWER_LATER, ANSWER_NEVER } answer;
    uint32_t wait_ms; /* that they ask for */
    char why[COURIER_WHY_SIZE];
};

/* --- what a request came to --- */

static void say_why(struct courier *c, struct slice code, struct slice message, const char *more)
{
    (void)snprintf(c->why, sizeof c->why, "%.*s: %.*s%s%s", SLICE_ARG(slice_first(code, 60)),
                   SLICE_ARG(slice_first(message, 200)), more != NULL ? "; " : "",
                   more != NULL ? more : "");
}

static void judge_failure(struct courier *c, const struct client_answer *a)
{
    switch (a->class) {
    case AWS_ERROR_THROTTLED:
    case AWS_ERROR_TRANSIENT:
        c->answer = ANSWER_LATER;
        break;
    case AWS_ERROR_REFUSED:
        c->answer = ANSWER_REFUSED;
        break;
    case AWS_ERROR_CREDENTIALS:
    case AWS_ERROR_OPERATOR:
        c->answer = ANSWER_NEVER;
        break;
    }
    c->wait_ms = MIN(a->retry_after_ms, (uint32_t)COURIER_WAIT_MAX_MS);
    say_why(c, a->code, a->message,
            c->answer == ANSWER_NEVER ? aws_error_advice(c->service, a->code, a->message, a->class)
                                      : NULL);
}

static void judge_records(struct courier *c, const struct service_complaint *complaint)
{
    c->answer = ANSWER_JUDGED;
    say_why(c, complaint->code.len > 0 ? complaint->code : SLICE("no sequence number"),
            complaint->message, NULL);
    for (uint32_t i = 0; i < c->batch.count; i++) {
        struct parcel *p = c->sent[i];

        if (c->outcomes[i] == OUTCOME_ACCEPTED) {
            p->state = COURIER_SENT;
        } else if (c->outcomes[i] == OUTCOME_REFUSED) {
            p->state = COURIER_REFUSED;
            (void)snprintf(p->why, sizeof p->why, "%s", c->why);
        }
    }
}

static void answered(struct client_call *call, const struct client_answer *a)
{
    struct courier *c = CONTAINER_OF(call, struct courier, call);
    struct service_complaint complaint = {0};

    c->answered = true;
    c->wait_ms = 0;
    if (!a->ok) {
        judge_failure(c, a);
    } else if (c->service->read(a->body, c->batch.count, c->outcomes, &complaint) < 0) {
        c->answer = ANSWER_LATER;
        say_why(c, SLICE("unreadable answer"), SLICE("what was stored is unknown"), NULL);
    } else {
        judge_records(c, &complaint);
    }
}

/* --- one request --- */

static void make_key(struct courier *c, const struct parcel *p, struct key *ret)
{
    *ret = (struct key){0};
    if (c->service->key_units_max == 0)
        return;
    if (p->key.len > 0)
        key_of_text(p->key, ret);
    else
        key_random(&c->random, ret);
}

/* How large a record may be, with its key.  A stream may take up to a whole request (its
 * MaxRecordSizeInKiB): whether this one does, it says itself. */
static uint64_t record_max(const struct courier *c)
{
    return c->service == &kinesis_service ? c->service->bytes_max : c->service->record_max;
}

const char *courier_refuses(const struct courier *c, size_t key_len, size_t record_len)
{
    size_t key = c->service->key_units_max == 0 ? 0 : key_len > 0 ? key_len : KEY_RANDOM_LEN;

    return record_len > record_max(c) || key > record_max(c) - record_len
               ? "is larger than a record may be"
               : NULL;
}

/* Puts the parcels that wait into the batch: no more than it takes. */
static void fill(struct courier *c, struct parcel *parcels, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct parcel *p = &parcels[i];
        struct key key;

        if (p->state != COURIER_WAITING)
            continue;
        make_key(c, p, &key);
        if (!batch_fits(&c->batch, p->record.len, (uint32_t)key.len))
            return;
        c->sent[c->batch.count] = p;
        batch_add(&c->batch, p->record, (struct batch_key){key_json(&key), (uint32_t)key.len}, p,
                  (struct batch_origin){0}, 0);
    }
}

static int wait_for_answer(struct courier *c)
{
    int r;

    c->answered = false;
    r = client_send(&c->call, c->service->put_target, batch_body(&c->batch), COURIER_TIMEOUT_MS);
    while (r == 0 && !c->answered)
        r = loop_step(c->loop, -1);
    return r;
}

/* Sends those that wait, once. */
static int send_once(struct courier *c, struct parcel *parcels, size_t count)
{
    const struct batch_limits limits = {
        .records = c->service->records_max,
        .bytes = record_max(c),
        .key_json_max = c->service->key_units_max > 0 ? KEY_JSON_MAX : 0,
    };
    int r = batch_init(&c->batch, c->service, &limits, c->stream, c->stream_arn);

    if (r < 0)
        return r;
    c->batch.state = BATCH_FILLING;
    fill(c, parcels, count);
    assert(c->batch.count > 0);
    batch_seal(&c->batch);
    batch_fly(&c->batch, c->batch.count);
    r = wait_for_answer(c);
    batch_done(&c->batch);
    return r;
}

static void wait_until(struct courier *c, uint64_t at_ms)
{
    while (loop_now_ms(c->loop) < at_ms)
        if (loop_step(c->loop, (int64_t)(at_ms - loop_now_ms(c->loop))) < 0)
            return;
}

static size_t count_waiting(const struct parcel *parcels, size_t count)
{
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
        n += parcels[i].state == COURIER_WAITING;
    return n;
}

/* --- all of them --- */

static int send_halves(struct courier *c, struct parcel *parcels, size_t count,
                       const char **ret_why);

/* Sends parcels that go into one request, until each is judged. */
static int send_request(struct courier *c, struct parcel *parcels, size_t count,
                        const char **ret_why)
{
    size_t left = count_waiting(parcels, count);

    for (unsigned tries = 0; left > 0;) {
        size_t before = left;
        int r = send_once(c, parcels, count);

        if (r < 0)
            return r;
        if (c->answer == ANSWER_REFUSED)
            return send_halves(c, parcels, count, ret_why);
        left = count_waiting(parcels, count);
        tries = left < before ? 0 : tries + 1;
        if (left > 0 && (c->answer == ANSWER_NEVER || tries == COURIER_TRIES)) {
            *ret_why = c->why;
            return -EAGAIN;
        }
        if (left > 0)
            wait_until(c,
                       loop_now_ms(c->loop) + MAX((uint64_t)c->wait_ms,
                                                  backoff_delay_ms(&backoff, tries, &c->random)));
    }
    return 0;
}

/* One was refused as a whole: which of them is it? */
static int send_halves(struct courier *c, struct parcel *parcels, size_t count,
                       const char **ret_why)
{
    int r;

    if (count_waiting(parcels, count) == 1) {
        for (size_t i = 0; i < count; i++)
            if (parcels[i].state == COURIER_WAITING) {
                parcels[i].state = COURIER_REFUSED;
                (void)snprintf(parcels[i].why, sizeof parcels[i].why, "%s", c->why);
            }
        return 0;
    }
    r = send_request(c, parcels, count / 2, ret_why);
    return r < 0 ? r : send_request(c, parcels + count / 2, count - count / 2, ret_why);
}

/* How many of the parcels go into one request. */
static size_t measure(const struct courier *c, const struct parcel *parcels, size_t count)
{
    uint64_t bytes = 0;
    size_t records = 0, i;

    for (i = 0; i < count; i++) {
        size_t size = parcels[i].record.len;

        if (parcels[i].state != COURIER_WAITING)
            continue;
        if (c->service->key_units_max > 0)
            size += parcels[i].key.len > 0 ? MIN(parcels[i].key.len, (size_t)KEY_BYTES_MAX)
                                           : (size_t)KEY_RANDOM_LEN;
        if (records == c->service->records_max || (records > 0 && bytes + size > COURIER_BYTES))
            break;
        records++;
        bytes += size;
    }
    return i;
}

int courier_send(struct courier *c, struct parcel *parcels, size_t count, const char **ret_why)
{
    int r = 0;

    for (size_t i = 0; i < count; i++) {
        const char *why = courier_refuses(c, parcels[i].key.len, parcels[i].record.len);

        if (parcels[i].state == COURIER_WAITING && why != NULL) {
            parcels[i].state = COURIER_REFUSED;
            (void)snprintf(parcels[i].why, sizeof parcels[i].why, "%s", why);
        }
    }
    while (count > 0 && r == 0) {
        size_t n = measure(c, parcels, count);

        r = send_request(c, parcels, n, ret_why);
        parcels += n;
        count -= n;
    }
    return r;
}

/* --- life --- */

static int find_endpoint(const struct courier *c, const struct config *config, struct endpoint *ret)
{
    const char *url =
        c->service == &firehose_service ? config->endpoint.firehose : config->endpoint.kinesis;
    int r;

    if (url != NULL)
        r = endpoint_from_url(slice_of(url), ret);
    else
        r = endpoint_of_region(slice_of(c->service->signing_name), slice_of(config->region), ret);
    if (r < 0)
        log_error("%s '%s': %s", url != NULL ? "endpoint" : "region",
                  url != NULL ? url : config->region, strerrordesc_np(-r));
    return r;
}

static int make_client(struct courier *c, const struct config *config)
{
    const struct http_settings http = {
        .ca_file = config->tls.ca_file, .user_agent = KINETAIL_AGENT, .proxy = &c->proxy};
    const struct creds configured = {
        .access_key_id = slice_of(config->credentials.access_key_id),
        .secret_access_key = slice_of(config->credentials.secret_access_key),
        .session_token = slice_of(config->credentials.session_token),
    };
    struct client_settings settings = {.region = slice_of(config->region),
                                       .service = slice_of(c->service->signing_name)};
    char proxy_why[PROXY_WHY_SIZE];
    struct creds found;
    const char *why;
    int r;

    if (proxy_find(config->proxy.url, config->proxy.no_proxy, &c->proxy, proxy_why) < 0) {
        log_error("proxy: %s", proxy_why);
        return -EINVAL;
    }
    if (creds_find(&configured, &found, &why) < 0) {
        log_error("credentials: %s", why);
        return -ENOKEY;
    }
    settings.access_key_id = found.access_key_id;
    settings.secret_access_key = found.secret_access_key;
    settings.session_token = found.session_token;
    r = find_endpoint(c, config, &settings.endpoint);
    if (r < 0)
        return r;
    if ((r = loop_new(&clock_system, &c->loop)) < 0 ||
        (r = http_new(c->loop, &http, &c->http)) < 0 || (r = http_reserve(c->http, 1)) < 0 ||
        (r = client_new(http_transport(c->http), &clock_system, &settings, &c->client)) < 0)
        log_error("http: libcurl cannot be set up: %s", strerrordesc_np(-r));
    return r;
}

int courier_new(const struct config *config, const struct config_flow *flow, struct courier **ret)
{
    struct courier *c = calloc(1, sizeof *c);
    int r;

    if (c == NULL)
        return -ENOMEM;
    c->service = outfit_service(flow);
    c->stream = slice_of(flow->delivery_stream != NULL ? flow->delivery_stream : flow->stream);
    c->stream_arn = slice_of(flow->stream_arn);
    random_seed(&c->random);
    c->outcomes = calloc(c->service->records_max, sizeof(*c->outcomes));
    c->sent = calloc(c->service->records_max, sizeof(struct parcel *));
    r = c->outcomes == NULL || c->sent == NULL ? -ENOMEM : make_client(c, config);
    if (r < 0) {
        courier_free(c);
        return r;
    }
    client_call_init(&c->call, c->client, answered);
    c->has_call = true;
    *ret = c;
    return 0;
}

void courier_free(struct courier *c)
{
    if (c == NULL)
        return;
    if (c->has_call) {
        client_cancel(&c->call);
        client_call_done(&c->call);
    }
    client_free(c->client);
    http_free(c->http);
    loop_free(c->loop);
    free(c->outcomes);
    free(c->sent);
    free(c);
}

const char *courier_url(const struct courier *c)
{
    return client_url(c->client);
}
