#include "ship/client.h"

#include "clock.h"
#include "sigv4.h"
#include "util.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CLIENT_SECRET_MAX = 20 * 1024, /* keys and a session token; STS names no limit for the token */
    CLIENT_HEADER_MAX = 20 * 1024,
    CLIENT_DETAIL_MAX = 300, /* of a message that we pass on */
};

static const char content_type[] = "application/x-amz-json-1.1";

struct client {
    struct transport *transport;
    const struct clock *clock;
    struct client_settings settings; /* its key texts point into `secrets` */
    struct buf secrets;              /* owns */
    struct sigv4 *sigv4;
    struct buf authorization; /* scratch */
};

/* Copies `s` into the (reserved) buffer and points there. */
static int keep_text(struct buf *to, struct slice *s)
{
    size_t at = to->len;
    int r = buf_append(to, *s);

    if (r == 0)
        s->ptr = to->ptr + at;
    return r;
}

int client_new(struct transport *transport, const struct clock *clock,
               const struct client_settings *settings, struct client **ret)
{
    struct client *c = calloc(1, sizeof *c);
    int r;

    if (c == NULL)
        return -ENOMEM;
    c->transport = transport;
    c->clock = clock;
    c->settings = *settings;
    buf_init(&c->secrets, CLIENT_SECRET_MAX);
    buf_init(&c->authorization, CLIENT_HEADER_MAX);

    /* Reserved at once, so that growing never leaves a copy of a secret behind. */
    r = buf_reserve(&c->secrets, settings->access_key_id.len + settings->secret_access_key.len +
                                     settings->session_token.len);
    if (r < 0 || (r = keep_text(&c->secrets, &c->settings.access_key_id)) < 0 ||
        (r = keep_text(&c->secrets, &c->settings.secret_access_key)) < 0 ||
        (r = keep_text(&c->secrets, &c->settings.session_token)) < 0)
        goto out;
    r = sigv4_new(&c->sigv4);
    if (r < 0)
        goto out;
    *ret = c;
    return 0;
out:
    client_free(c);
    return r;
}

void client_free(struct client *c)
{
    if (c == NULL)
        return;
    sigv4_free(c->sigv4);
    if (c->secrets.ptr != NULL)
        OPENSSL_cleanse(c->secrets.ptr, c->secrets.cap);
    buf_done(&c->secrets);
    buf_done(&c->authorization);
    free(c);
}

const char *client_url(const struct client *c)
{
    return c->settings.endpoint.url;
}

/* What a person wants of a message: it may go on with the whole canonical request. */
static struct slice first_sentence(struct slice message)
{
    const char *end;

    if (message.len == 0)
        return message;
    end = memmem(message.ptr, message.len, "\\n", 2); /* JSON's escape, not undone here */
    if (end == NULL)
        end = memchr(message.ptr, '\n', message.len);
    if (end != NULL)
        message = slice_first(message, (size_t)(end - message.ptr));
    return slice_first(message, CLIENT_DETAIL_MAX);
}

/* The answer of a failed call, in one shape whatever failed. */
static void client_explain(struct client_call *call, const struct http_answer *h,
                           struct client_answer *ret)
{
    if (h->error != 0) {
        ret->code = h->kind != NULL ? slice_of(h->kind) : SLICE("no answer");
        ret->class = aws_error_class_of_status(ret->code, SLICE(""), 0);
        ret->message = slice_of(h->why);
        return;
    }
    ret->code = aws_error_code(h->error_type, h->body);
    ret->message = first_sentence(aws_error_message(h->body));
    ret->class = aws_error_class_of_status(ret->code, ret->message, h->status);
    if (ret->code.len == 0) {
        (void)snprintf(call->code, sizeof call->code, "HTTP %ld", h->status);
        ret->code = slice_of(call->code);
    }
}

static void client_ended(struct http_call *http, const struct http_answer *h)
{
    struct client_call *call = CONTAINER_OF(http, struct client_call, http);
    struct client_answer a = {
        .ok = h->error == 0 && h->status == 200,
        .body = h->body,
        .request_id = h->request_id,
        .status = h->status,
        .retry_after_ms = h->retry_after_ms,
    };

    if (!a.ok)
        client_explain(call, h, &a);
    call->done(call, &a);
}

void client_call_init(struct client_call *call, struct client *c,
                      void (*done)(struct client_call *c, const struct client_answer *a))
{
    *call = (struct client_call){.client = c, .done = done};
    buf_init(&call->target, CLIENT_HEADER_MAX);
    buf_init(&call->date, CLIENT_HEADER_MAX);
    buf_init(&call->token, CLIENT_HEADER_MAX);
    buf_init(&call->authorization, CLIENT_HEADER_MAX);
    buf_init(&call->host, CLIENT_HEADER_MAX);
    call->http.url = c->settings.endpoint.url;
    call->http.done = client_ended;
}

void client_call_done(struct client_call *call)
{
    buf_done(&call->target);
    buf_done(&call->date);
    buf_done(&call->token);
    buf_done(&call->authorization);
    buf_done(&call->host);
}

/* Writes "Name: value" with a zero, as libcurl wants it. */
static int header_line(struct buf *to, const char *name, struct slice value)
{
    int r;

    buf_reset(to);
    r = buf_append(to, slice_of(name));
    if (r == 0)
        r = buf_append(to, SLICE(": "));
    if (r == 0)
        r = buf_append(to, value);
    return r < 0 ? r : buf_append_char(to, '\0');
}

int client_send(struct client_call *call, const char *target, struct slice body,
                uint32_t timeout_ms)
{
    struct client *c = call->client;
    const struct client_settings *s = &c->settings;
    const struct sigv4_header headers[] = {
        {SLICE("content-type"), slice_of(content_type)},
        {SLICE("host"), slice_of(s->endpoint.host)},
        {SLICE("x-amz-target"), slice_of(target)},
    };
    const struct sigv4_request request = {
        .method = SLICE("POST"),
        .path = SLICE("/"),
        .headers = headers,
        .header_count = ARRAY_LEN(headers),
        .body = body,
    };
    const struct sigv4_credentials credentials = {s->access_key_id, s->secret_access_key,
                                                  s->session_token};
    const struct sigv4_scope scope = {s->region, s->service};
    char date[SIGV4_DATE_LEN + 1];
    size_t n = 0;
    int r;

    r = sigv4_sign(c->sigv4, &credentials, &scope, c->clock->wall_ms(c->clock), &request,
                   &c->authorization, date);
    if (r < 0)
        return r;
    if ((r = header_line(&call->host, "Host", slice_of(s->endpoint.host))) < 0 ||
        (r = header_line(&call->target, "X-Amz-Target", slice_of(target))) < 0 ||
        (r = header_line(&call->date, "X-Amz-Date", slice_of(date))) < 0 ||
        (r = header_line(&call->token, "X-Amz-Security-Token", s->session_token)) < 0 ||
        (r = header_line(&call->authorization, "Authorization", buf_slice(&c->authorization))) < 0)
        return r;

    call->http.headers[n++] = "Content-Type: application/x-amz-json-1.1";
    call->http.headers[n++] = call->host.ptr;
    call->http.headers[n++] = call->target.ptr;
    call->http.headers[n++] = call->date.ptr;
    call->http.headers[n++] = call->authorization.ptr;
    if (s->session_token.len > 0)
        call->http.headers[n++] = call->token.ptr;
    call->http.headers[n] = NULL;
    call->http.body = body;
    call->http.timeout_ms = timeout_ms;
    return transport_send(c->transport, &call->http);
}

void client_cancel(struct client_call *call)
{
    if (call->client != NULL)
        transport_cancel(call->client->transport, &call->http);
}
