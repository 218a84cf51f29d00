#include "ship/http.h"

#include "buf.h"
#include "clock.h"
#include "list.h"
#include "run/loop.h"
#include "ship/http_trouble.h"
#include "ship/proxy.h"
#include "ship/retry_after.h"
#include "util.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>

enum {
    HTTP_SEND_BUFFER = 512 * 1024,   /* bytes libcurl hands to send(2) at once, at most */
    HTTP_RECEIVE_BUFFER = 64 * 1024, /* … and takes from recv(2): an answer to 500 records */
    HTTP_OWN_HEADERS = 1,            /* "Expect:" */
    HTTP_KEPT_MAX = 256,             /* of a header of the answer that we keep */

    /* Bytes that the kernel takes before those it has are sent.  Without, it takes megabytes at once,
     * and a slow line that is busy with them for a minute looks still to libcurl. */
    HTTP_UNSENT_MAX = 64 * 1024,

    HTTP_NAMES_KEPT_S = 60,        /* addresses of a name; libcurl's default */
    HTTP_AUTHORITIES_KEPT_S = 600, /* what was read from the file of authorities */
};

/* Whom we speak with, by the URL: one service at one endpoint. */
struct http_peer {
    struct list node;
    uint64_t trouble_ms; /* when a call last died of the network; 0: never */
    bool in_doubt;       /* and none was answered since */
    char url[];
};

/* The headers of an answer that somebody asks for. */
enum http_kept_name {
    HTTP_ERROR_TYPE,
    HTTP_REQUEST_ID,
    HTTP_AMZ_RETRY_AFTER,
    HTTP_RETRY_AFTER,
    HTTP_DATE,
    HTTP_KEPT_COUNT
};

static const struct slice kept_names[HTTP_KEPT_COUNT] = {
    [HTTP_ERROR_TYPE] = {"x-amzn-errortype", 16},
    [HTTP_REQUEST_ID] = {"x-amzn-requestid", 16},
    [HTTP_AMZ_RETRY_AFTER] = {"x-amz-retry-after", 17},
    [HTTP_RETRY_AFTER] = {"retry-after", 11},
    [HTTP_DATE] = {"date", 4},
};

/* What one of them says. */
struct http_kept {
    char text[HTTP_KEPT_MAX];
    size_t len; /* 0: it did not come, or says nothing */
};

/* A call's place: everything it needs was made before it came. */
struct http_slot {
    struct list node; /* in `idle` or `busy` */
    struct http *http;
    CURL *easy;
    struct http_call *call;
    struct http_peer *peer; /* of the call; NULL: whoever it is, nothing is learnt from it */
    bool by_proxy;          /* as libcurl was told */
    bool opened;            /* the call has opened a socket: no kept connection was good */
    bool overflow;          /* the answer was too long */
    bool headed;            /* the headers came to their end */
    size_t header_bytes;
    /* libcurl only reads these nodes; building the list by hand spares an allocation each. */
    struct curl_slist headers[HTTP_HEADERS_MAX + HTTP_OWN_HEADERS];
    struct buf body;
    struct http_kept kept[HTTP_KEPT_COUNT];
    char words[CURL_ERROR_SIZE];                      /* libcurl's */
    char why[CURL_ERROR_SIZE + PROXY_SHOWN_MAX + 64]; /* ours */
};

/* A socket of libcurl's in our loop. */
struct http_socket {
    struct loop_fd fd;
    struct http *http;
    struct list node;
};

struct http {
    struct transport transport;
    struct loop *loop;
    struct http_settings settings;
    CURLM *multi;
    struct loop_timer timer;
    struct loop_turn turn; /* collects what is finished */
    struct list idle, busy, sockets, peers;
    size_t slot_count;
};

static size_t http_body(char *data, size_t size, size_t count, void *user)
{
    struct http_slot *s = user;

    if (buf_append(&s->body, (struct slice){data, size * count}) == 0)
        return size * count;
    s->overflow = true;
    return 0;
}

/* If `line` is the header `name`, keeps its value. */
static void http_keep_header(struct slice line, struct slice name, struct http_kept *to)
{
    struct slice value;

    if (line.len <= name.len || line.ptr[name.len] != ':' ||
        strncasecmp(line.ptr, name.ptr, name.len) != 0)
        return;
    value = slice_from(line, name.len + 1);
    while (value.len > 0 && (value.ptr[0] == ' ' || value.ptr[0] == '\t'))
        value = slice_from(value, 1);
    while (value.len > 0 && (unsigned char)value.ptr[value.len - 1] <= ' ')
        value.len--;
    to->len = MIN(value.len, (size_t)HTTP_KEPT_MAX);
    memcpy(to->text, value.ptr, to->len);
}

static void http_forget_headers(struct http_slot *s)
{
    for (size_t i = 0; i < HTTP_KEPT_COUNT; i++)
        s->kept[i].len = 0;
}

static struct slice http_kept(const struct http_slot *s, enum http_kept_name name)
{
    return (struct slice){s->kept[name].text, s->kept[name].len};
}

static size_t http_header(char *data, size_t size, size_t count, void *user)
{
    struct http_slot *s = user;
    struct slice line = {data, size * count};

    /* An endless row of headers is no body, and no interim answer begins the count again. */
    s->header_bytes += line.len;
    if (s->header_bytes > HTTP_HEADERS_BYTES_MAX) {
        s->overflow = true;
        return 0;
    }

    /* A status line: what came before it was of an interim answer, "100 Continue". */
    if (slice_starts_with(line, SLICE("HTTP/"))) {
        http_forget_headers(s);
        s->headed = false;
    }
    s->headed = s->headed || line.ptr[0] == '\r' || line.ptr[0] == '\n';
    for (size_t i = 0; i < HTTP_KEPT_COUNT; i++)
        http_keep_header(line, kept_names[i], &s->kept[i]);
    return line.len;
}

static uint32_t http_retry_after(const struct http_slot *s)
{
    const struct clock *clock = loop_clock(s->http->loop);
    const struct retry_after from = {
        .amz = http_kept(s, HTTP_AMZ_RETRY_AFTER),
        .http = http_kept(s, HTTP_RETRY_AFTER),
        .date = http_kept(s, HTTP_DATE),
    };

    return retry_after_ms(&from, clock->wall_ms(clock));
}

/* Takes the slot's call out of libcurl; the slot is idle afterwards. */
static struct http_call *http_release(struct http_slot *s)
{
    struct http_call *call = s->call;

    (void)curl_multi_remove_handle(s->http->multi, s->easy);
    s->call = NULL;
    call->slot = NULL;
    list_remove(&s->node);
    list_append(&s->http->idle, &s->node);
    return call;
}

/* Whether what went wrong is the proxy's: the call had it before it, and was not let through. */
static bool http_is_at_proxy(const struct http_slot *s, CURLcode code, long connect_status)
{
    if (!s->by_proxy)
        return false;
    if (strncmp(s->words, "Proxy CONNECT", 13) == 0) /* in the midst of its answer */
        return true;
    if (connect_status >= 200 && connect_status < 300)
        return false;
    return s->opened || connect_status != 0 || code == CURLE_COULDNT_RESOLVE_PROXY ||
           strncmp(s->words, "Resolving", 9) == 0; /* with a proxy, no other name is resolved */
}

/* What happened, in words.  Never libcurl's own about a proxy alone: they do not say which. */
static void http_say_why(struct http_slot *s, CURLcode code, const struct http_ending *e)
{
    const char *words = s->words[0] != '\0' ? s->words : curl_easy_strerror(code);

    if (s->overflow)
        (void)snprintf(s->why, sizeof s->why, "the answer is longer than %d bytes%s",
                       s->header_bytes > HTTP_HEADERS_BYTES_MAX ? HTTP_HEADERS_BYTES_MAX
                                                                : HTTP_ANSWER_MAX,
                       s->header_bytes > HTTP_HEADERS_BYTES_MAX ? " of headers" : "");
    else if (!e->at_proxy)
        (void)snprintf(s->why, sizeof s->why, "%s", words);
    else if (e->connect_status != 0)
        (void)snprintf(s->why, sizeof s->why, "%s answers CONNECT with HTTP status %ld",
                       s->http->settings.proxy->shown, e->connect_status);
    else
        (void)snprintf(s->why, sizeof s->why, "%s: %s", s->http->settings.proxy->shown, words);
}

static void http_explain(struct http_slot *s, CURLcode code, struct http_answer *ret)
{
    struct http_ending e = {.code = (int)code, .words = s->words};
    struct http_trouble t;

    (void)curl_easy_getinfo(s->easy, CURLINFO_HTTP_CONNECTCODE, &e.connect_status);
    e.at_proxy = http_is_at_proxy(s, code, e.connect_status);
    (void)curl_easy_getinfo(
        s->easy, e.at_proxy ? CURLINFO_PROXY_SSL_VERIFYRESULT : CURLINFO_SSL_VERIFYRESULT,
        &e.verify);
    t = http_trouble_of(&e);
    http_say_why(s, code, &e);
    ret->error = t.error;
    ret->kind = t.kind;
    ret->why = s->why;
    if (s->peer != NULL && t.connection) {
        s->peer->in_doubt = true;
        s->peer->trouble_ms = loop_now_ms(s->http->loop);
    }
}

static void http_finish(struct http_slot *s, CURLcode code)
{
    struct http_answer answer = {.why = ""};
    struct http_call *call;

    /* To libcurl, a connection that closes within the headers has ended them. */
    if (code == CURLE_OK && !s->headed)
        code = CURLE_PARTIAL_FILE;
    if (code == CURLE_OK) {
        (void)curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &answer.status);
        answer.retry_after_ms = http_retry_after(s);
        if (s->peer != NULL)
            s->peer->in_doubt = false;
    } else {
        http_explain(s, code, &answer);
    }

    /* The slot first: the callee may send again at once, and then takes another or this very
     * one; so what the answer borrows lives in the slot only until `done` returns. */
    call = http_release(s);
    answer.body = buf_slice(&s->body);
    answer.error_type = http_kept(s, HTTP_ERROR_TYPE);
    answer.request_id = http_kept(s, HTTP_REQUEST_ID);
    call->done(call, &answer);
}

static void http_collect(struct loop_turn *t)
{
    struct http *h = CONTAINER_OF(t, struct http, turn);
    int left;

    for (CURLMsg *m; (m = curl_multi_info_read(h->multi, &left)) != NULL;) {
        struct http_slot *s = NULL;
        CURLcode code = m->data.result;

        if (m->msg != CURLMSG_DONE)
            continue;
        (void)curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&s);
        http_finish(s, code);
    }
}

static void http_act(struct http *h, curl_socket_t fd, int events)
{
    int running;

    (void)curl_multi_socket_action(h->multi, fd, events, &running);
    loop_want_turn(h->loop, &h->turn);
}

static void http_socket_ready(struct loop_fd *f, uint32_t events)
{
    struct http_socket *s = CONTAINER_OF(f, struct http_socket, fd);

    http_act(s->http, f->fd,
             ((events & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) |
                 ((events & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
                 ((events & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0));
}

static void http_timer_fired(struct loop_timer *t)
{
    http_act(CONTAINER_OF(t, struct http, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void http_forget_socket(struct http *h, struct http_socket *s)
{
    loop_remove(h->loop, &s->fd);
    list_remove(&s->node);
    free(s);
}

/* libcurl: what to wait for on a socket. */
static int http_on_socket(CURL *easy, curl_socket_t fd, int what, void *user, void *mine)
{
    struct http *h = user;
    struct http_socket *s = mine;
    uint32_t events =
        ((what & CURL_POLL_IN) != 0 ? EPOLLIN : 0U) | ((what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0U);

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s != NULL)
            http_forget_socket(h, s);
        return 0;
    }
    if (s != NULL) {
        (void)loop_change(h->loop, &s->fd, events); /* of one that was added: cannot fail */
        return 0;
    }

    /* libcurl would not survive a no from here: its multi handle is dead then, with all calls in
     * it.  A crash costs a restart and some duplicates. */
    s = calloc(1, sizeof *s); /* once a connection, not once a request */
    if (s == NULL)
        abort();
    s->fd = (struct loop_fd){fd, http_socket_ready};
    s->http = h;
    list_init(&s->node);
    if (loop_add(h->loop, &s->fd, events) < 0)
        abort();
    list_append(&h->sockets, &s->node);
    (void)curl_multi_assign(h->multi, fd, s);
    return 0;
}

/* libcurl: when to call it at the latest.  It must not be called from here. */
static int http_on_timer(CURLM *multi, long timeout_ms, void *user)
{
    struct http *h = user;

    (void)multi;
    if (timeout_ms < 0)
        loop_timer_cancel(h->loop, &h->timer);
    else
        loop_timer_set(h->loop, &h->timer, loop_now_ms(h->loop) + (uint64_t)timeout_ms);
    return 0;
}

/* A slot is used again for another method. */
static void http_set_method(struct http_slot *s, const struct http_call *call)
{
    if (call->method != NULL && strcmp(call->method, "GET") == 0) {
        curl_easy_setopt(s->easy, CURLOPT_HTTPGET, 1L);
        curl_easy_setopt(s->easy, CURLOPT_CUSTOMREQUEST, NULL);
        return;
    }
    curl_easy_setopt(s->easy, CURLOPT_POST, 1L);
    curl_easy_setopt(s->easy, CURLOPT_CUSTOMREQUEST, call->method);
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS, call->body.len > 0 ? call->body.ptr : "");
    curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body.len);
}

/* The peer of a URL; one that is new is made.  Gives *ret, which lives as long as we.  -ENOMEM. */
static int http_peer_of(struct http *h, const char *url, struct http_peer **ret)
{
    size_t size = strlen(url) + 1;
    struct http_peer *p;

    LIST_EACH(&h->peers, n, after)
    {
        p = CONTAINER_OF(n, struct http_peer, node);
        if (strcmp(p->url, url) == 0) {
            *ret = p;
            return 0;
        }
    }
    p = calloc(1, sizeof *p + size);
    if (p == NULL)
        return -ENOMEM;
    memcpy(p->url, url, size);
    list_append(&h->peers, &p->node);
    *ret = p;
    return 0;
}

/* How far what was kept is trusted: connections, addresses, authorities. */
static void http_set_trust(struct http_slot *s)
{
    const struct http_peer *p = s->peer;
    bool doubt = p != NULL && p->in_doubt;
    uint64_t age_s = HTTP_AGE_S;

    /* Only connections that are younger than the last trouble; libcurl's seconds are whole. */
    if (p != NULL && p->trouble_ms > 0)
        age_s = MIN(age_s, (loop_now_ms(s->http->loop) - p->trouble_ms) / 1000 + 1);
    curl_easy_setopt(s->easy, CURLOPT_FRESH_CONNECT, doubt ? 1L : 0L);
    curl_easy_setopt(s->easy, CURLOPT_MAXLIFETIME_CONN, (long)age_s);
    curl_easy_setopt(s->easy, CURLOPT_DNS_CACHE_TIMEOUT, doubt ? 0L : (long)HTTP_NAMES_KEPT_S);
    /* 0 would leave the old ones in libcurl's keeping, for the next call that is not in doubt. */
    curl_easy_setopt(s->easy, CURLOPT_CA_CACHE_TIMEOUT, doubt ? 1L : (long)HTTP_AUTHORITIES_KEPT_S);
}

/* Direct calls have URLs of many kinds, and nobody waits for them. */
static int http_aim(struct http_slot *s, const struct http_call *call)
{
    const struct proxy *proxy = s->http->settings.proxy;
    bool by_proxy = proxy != NULL && !call->direct && proxy_is_for(proxy, call->url);
    int r = 0;

    s->peer = NULL;
    if (!call->direct)
        r = http_peer_of(s->http, call->url, &s->peer);
    if (r < 0)
        return r;
    if (by_proxy != s->by_proxy &&
        curl_easy_setopt(s->easy, CURLOPT_PROXY, by_proxy ? proxy->url : "") != CURLE_OK)
        return -ENOMEM;
    s->by_proxy = by_proxy;
    http_set_trust(s);
    return 0;
}

static int http_send(struct transport *t, struct http_call *call)
{
    struct http *h = CONTAINER_OF(t, struct http, transport);
    struct http_slot *s;
    size_t n = 0;
    int r;

    if (list_is_empty(&h->idle))
        return -EAGAIN;
    s = CONTAINER_OF(h->idle.next, struct http_slot, node);
    for (; n < HTTP_HEADERS_MAX && call->headers[n] != NULL; n++) {
        /* curl_slist is not const, but CURLOPT_HTTPHEADER only reads. */
        s->headers[n].data = (char *)(uintptr_t)call->headers[n];
        s->headers[n].next = &s->headers[n + 1];
    }
    /* Or a body over 1 MB waits a round trip for "100 Continue". */
    s->headers[n].data = (char *)(uintptr_t) "Expect:";
    s->headers[n].next = NULL;

    r = http_aim(s, call);
    if (r < 0)
        return r;
    buf_reset(&s->body);
    http_forget_headers(s);
    s->words[0] = '\0';
    s->opened = s->overflow = s->headed = false;
    s->header_bytes = 0;
    curl_easy_setopt(s->easy, CURLOPT_URL, call->url);
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, s->headers);
    http_set_method(s, call);
    curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, (long)call->timeout_ms);
    if (curl_multi_add_handle(h->multi, s->easy) != CURLM_OK)
        return -ENOMEM;
    s->call = call;
    call->slot = s;
    list_remove(&s->node);
    list_append(&h->busy, &s->node);
    return 0;
}

static void http_cancel(struct transport *t, struct http_call *call)
{
    (void)t;
    if (call->slot != NULL)
        (void)http_release(call->slot);
}

static void http_slot_free(struct http_slot *s)
{
    if (s->easy != NULL)
        curl_easy_cleanup(s->easy);
    list_remove(&s->node);
    buf_done(&s->body);
    free(s);
}

/* libcurl: a socket is there and not connected yet.  What the kernel does not know it does not do: the
 * bounds still hold.
 *
 * No TCP_USER_TIMEOUT, which would end a dead connection sooner: a peer that reads slowly, and whose
 * window therefore closes now and then, is dead to it although bytes move (seen at 3 kB/s with a window
 * of 4 kB); and so it would be each time. */
static int http_on_open(void *user, curl_socket_t fd, curlsocktype purpose)
{
    struct http_slot *s = user;
    int unsent = HTTP_UNSENT_MAX;

    (void)purpose;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    s->opened = true;
    return CURL_SOCKOPT_OK;
}

static int http_slot_new(struct http *h)
{
    struct http_slot *s = calloc(1, sizeof *s);
    bool ok;

    if (s == NULL)
        return -ENOMEM;
    list_init(&s->node);
    s->http = h;
    buf_init(&s->body, HTTP_ANSWER_MAX);
    s->easy = curl_easy_init();
    ok = s->easy != NULL;

#define SET(option, value) (ok = ok && curl_easy_setopt(s->easy, option, value) == CURLE_OK)
    SET(CURLOPT_PRIVATE, s);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)HTTP_CONNECT_TIMEOUT_MS);
    SET(CURLOPT_LOW_SPEED_LIMIT, (long)HTTP_STILL_BYTES);
    SET(CURLOPT_LOW_SPEED_TIME, (long)HTTP_STILL_S);
    SET(CURLOPT_QUICK_EXIT, 1L); /* or giving up a name that does not resolve waits for it */
    SET(CURLOPT_UPLOAD_BUFFERSIZE, (long)HTTP_SEND_BUFFER);
    SET(CURLOPT_BUFFERSIZE, (long)HTTP_RECEIVE_BUFFER);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_MAXAGE_CONN, (long)HTTP_IDLE_S);
    SET(CURLOPT_SOCKOPTFUNCTION, http_on_open);
    SET(CURLOPT_SOCKOPTDATA, s);
    SET(CURLOPT_PROXY, ""); /* until a call needs it; never what the environment says to libcurl */
    SET(CURLOPT_NOPROXY, ""); /* the same: proxy.h decides */
    SET(CURLOPT_HTTPPROXYTUNNEL, 1L);
    SET(CURLOPT_PROXYAUTH, (long)CURLAUTH_BASIC);
    SET(CURLOPT_HEADEROPT,
        (long)CURLHEADER_SEPARATE); /* our headers are not the proxy's business */
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_PROXY_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_PROXY_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (h->settings.ca_file != NULL) {
        SET(CURLOPT_CAINFO, h->settings.ca_file);
        SET(CURLOPT_CAPATH, NULL); /* instead of the system's, not beside them */
        SET(CURLOPT_PROXY_CAINFO, h->settings.ca_file);
        SET(CURLOPT_PROXY_CAPATH, NULL);
    }
    SET(CURLOPT_USERAGENT, h->settings.user_agent);
    SET(CURLOPT_WRITEFUNCTION, http_body);
    SET(CURLOPT_WRITEDATA, s);
    SET(CURLOPT_HEADERFUNCTION, http_header);
    SET(CURLOPT_HEADERDATA, s);
    SET(CURLOPT_ERRORBUFFER, s->words);
#undef SET
    if (!ok) {
        http_slot_free(s);
        return -ENOMEM;
    }
    list_append(&h->idle, &s->node);
    return 0;
}

int http_new(struct loop *loop, const struct http_settings *settings, struct http **ret)
{
    struct http *h = calloc(1, sizeof *h);
    int r = -ENOMEM;

    if (h == NULL)
        return -ENOMEM;
    h->transport = (struct transport){http_send, http_cancel};
    h->loop = loop;
    h->settings = *settings;
    list_init(&h->idle);
    list_init(&h->busy);
    list_init(&h->sockets);
    list_init(&h->peers);
    loop_turn_init(&h->turn, http_collect);
    h->multi = curl_multi_init();
    if (h->multi == NULL)
        goto out;
    r = loop_timer_init(loop, &h->timer, http_timer_fired);
    if (r < 0)
        goto out;
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, http_on_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, http_on_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    *ret = h;
    return 0;
out:
    http_free(h);
    return r;
}

void http_free(struct http *h)
{
    if (h == NULL)
        return;
    LIST_EACH(&h->busy, n, after)
    {
        struct http_slot *s = CONTAINER_OF(n, struct http_slot, node);
        (void)http_release(s);
    }
    LIST_EACH(&h->idle, n, after)
    {
        http_slot_free(CONTAINER_OF(n, struct http_slot, node));
    }
    if (h->multi != NULL)
        (void)curl_multi_cleanup(h->multi);
    LIST_EACH(&h->sockets, n, after)
    {
        http_forget_socket(h, CONTAINER_OF(n, struct http_socket, node));
    }
    LIST_EACH(&h->peers, n, after)
    {
        list_remove(n);
        free(CONTAINER_OF(n, struct http_peer, node));
    }
    loop_timer_done(h->loop, &h->timer);
    loop_turn_cancel(&h->turn);
    free(h);
}

int http_reserve(struct http *h, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int r = http_slot_new(h);
        if (r < 0)
            return r;
    }
    h->slot_count += count;

    /* As many idle connections kept as calls can be on their way. */
    (void)curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)h->slot_count);
    return 0;
}

struct transport *http_transport(struct http *h)
{
    return &h->transport;
}
