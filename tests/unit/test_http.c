/* http: libcurl on our loop against a server on loopback that does what a script says, and nothing
 * that HTTP would demand. */
#include "ship/http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <curl/curl.h>

#include "clock.h"
#include "run/loop.h"
#include "ship/proxy.h"
#include "util.h"

/* --- the server --- */

enum { CONNECTIONS_MAX = 5, REQUEST_MAX = 8192, BLOCK = 64 * 1024 };

/* What a connection does, one letter after the other:
 *   <   reads a request            >   sends `text`
 *   b   sends HTTP_ANSWER_MAX bytes of nothing      +   one more
 *   h   sends headers until the other side has enough
 *   x   closes                     r   resets
 * At the end it waits for the other side to close. */
struct server {
    int listener;
    uint16_t port;
    const char *const *scripts; /* of each connection, in their order */
    const char *text;
    pthread_t thread, handlers[CONNECTIONS_MAX];
    unsigned connections;
    char requests[REQUEST_MAX]; /* all of them */
    pthread_mutex_t lock;
};

struct visit {
    struct server *server;
    int fd;
    const char *script;
};

static void send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n <= 0)
            return;
        data += n;
        len -= (size_t)n;
    }
}

/* A request without a body, or one whose body comes with its headers. */
static bool read_request(struct server *s, int fd)
{
    char request[REQUEST_MAX] = "";
    size_t len = 0;
    ssize_t n;

    while (strstr(request, "\r\n\r\n") == NULL && request[0] != 0x16) { /* a TLS handshake */
        n = recv(fd, request + len, sizeof request - 1 - len, 0);
        if (n <= 0)
            return false;
        len += (size_t)n;
        request[len] = '\0';
    }
    pthread_mutex_lock(&s->lock);
    len = strlen(s->requests);
    (void)snprintf(s->requests + len, sizeof s->requests - len, "%s", request);
    pthread_mutex_unlock(&s->lock);
    return true;
}

static void *visit_run(void *arg)
{
    static const char nothing[BLOCK];
    struct visit *v = arg;
    char byte;

    for (const char *step = v->script; *step != '\0'; step++) {
        const struct linger now = {1, 0};

        if (*step == '<' && !read_request(v->server, v->fd))
            break;
        if (*step == '>')
            send_all(v->fd, v->server->text, strlen(v->server->text));
        if (*step == 'b')
            for (size_t i = 0; i < HTTP_ANSWER_MAX / sizeof nothing; i++)
                send_all(v->fd, nothing, sizeof nothing);
        if (*step == '+')
            send_all(v->fd, "+", 1);
        if (*step == 'h')
            for (unsigned i = 0; i < HTTP_HEADERS_BYTES_MAX / 16 + 64; i++)
                send_all(v->fd, "X-Nothing: 1234\r\n", 17);
        if (*step == 'r')
            (void)setsockopt(v->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        if (*step == 'x' || *step == 'r')
            goto out;
    }
    while (recv(v->fd, &byte, 1, 0) > 0) {
    }
out:
    close(v->fd);
    free(v);
    return NULL;
}

static void *server_run(void *arg)
{
    struct server *s = arg;

    for (;;) {
        int fd = accept(s->listener, NULL, NULL);
        struct visit *v;

        if (fd < 0)
            return NULL;
        v = malloc(sizeof *v);
        assert(v != NULL && s->connections < CONNECTIONS_MAX && s->scripts[s->connections] != NULL);
        *v = (struct visit){s, fd, s->scripts[s->connections]};
        (void)pthread_create(&s->handlers[s->connections++], NULL, visit_run, v);
    }
}

static void server_start(struct server *s, const char *const *scripts, const char *text)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;

    *s = (struct server){.scripts = scripts, .text = text, .lock = PTHREAD_MUTEX_INITIALIZER};
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(s->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(s->listener, 8), 0);
    assert_int_equal(getsockname(s->listener, (struct sockaddr *)&at, &len), 0);
    s->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&s->thread, NULL, server_run, s), 0);
}

/* The other side has closed all of its connections. */
static void server_stop(struct server *s)
{
    (void)shutdown(s->listener, SHUT_RDWR);
    pthread_join(s->thread, NULL);
    for (unsigned i = 0; i < s->connections; i++)
        pthread_join(s->handlers[i], NULL);
    close(s->listener);
}

/* --- the client --- */

enum { CALLS_MAX = 4, CALL_TIMEOUT_MS = 20 * 1000 };

struct heard {
    struct http_call call;
    bool ended;
    int error;
    long status;
    size_t body;
    uint32_t retry_after_ms;
    char kind[64], why[1024], error_type[64], request_id[64];
};

static void keep(char *to, size_t size, struct slice text)
{
    (void)snprintf(to, size, "%.*s", SLICE_ARG(text));
}

static void heard(struct http_call *call, const struct http_answer *a)
{
    struct heard *h = CONTAINER_OF(call, struct heard, call);

    assert(!h->ended);
    h->ended = true;
    h->error = a->error;
    h->status = a->status;
    h->body = a->body.len;
    h->retry_after_ms = a->retry_after_ms;
    keep(h->kind, sizeof h->kind, slice_of(a->kind));
    keep(h->why, sizeof h->why, slice_of(a->why));
    keep(h->error_type, sizeof h->error_type, a->error_type);
    keep(h->request_id, sizeof h->request_id, a->request_id);
}

struct client {
    struct loop *loop;
    struct http *http;
    struct proxy proxy;
    char proxy_url[128];
};

static void client_start(struct client *c, const char *proxy, uint16_t port)
{
    const struct http_settings settings = {.user_agent = "test", .proxy = &c->proxy};
    char why[PROXY_WHY_SIZE];

    *c = (struct client){0};
    if (proxy != NULL) {
        (void)snprintf(c->proxy_url, sizeof c->proxy_url, "%s:%u", proxy, port);
        assert_int_equal(proxy_find(c->proxy_url, "", &c->proxy, why), 0);
    }
    assert_int_equal(loop_new(&clock_system, &c->loop), 0);
    assert_int_equal(http_new(c->loop, &settings, &c->http), 0);
    assert_int_equal(http_reserve(c->http, 2), 0);
}

static void client_stop(struct client *c)
{
    http_free(c->http);
    loop_free(c->loop);
}

static void client_call(struct client *c, struct heard *h, const char *url, bool direct)
{
    *h = (struct heard){.call = {.url = url,
                                 .headers = {"X-Amz-Target: hush"},
                                 .body = SLICE("{}"),
                                 .timeout_ms = CALL_TIMEOUT_MS,
                                 .direct = direct,
                                 .done = heard}};
    assert_int_equal(transport_send(http_transport(c->http), &h->call), 0);
}

static void client_wait(struct client *c, const struct heard *h)
{
    while (!h->ended)
        assert_int_equal(loop_step(c->loop, 1000), 0);
}

/* --- stories --- */

#define OK      "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define MIB     "HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n"
#define TUNNEL  "HTTP/1.1 200 Connection established\r\n\r\n"
#define ANSWERS "HTTP/1.1 "

static const struct story {
    const char *name;
    const char *text;                     /* what the server sends */
    const char *scripts[CONNECTIONS_MAX]; /* and when */
    const char *proxy;                    /* NULL: the server is no proxy */
    struct {
        int error;
        const char *kind;   /* part of it */
    } calls[CALLS_MAX + 1]; /* one after the other; kind NULL ends them */
    unsigned connections;
} stories[] = {
    {"an answer", OK, {"<>"}, NULL, {{0, ""}}, 1},
    {"a kept connection", OK, {"<><>"}, NULL, {{0, ""}, {0, ""}}, 1},
    {"exactly as long as it may be", MIB, {"<>b"}, NULL, {{0, ""}}, 1},
    {"longer", "HTTP/1.1 200 OK\r\n\r\n", {"<>b+x"}, NULL, {{-EMSGSIZE, "answer too long"}}, 1},
    {"a long answer does not harm the next",
     "HTTP/1.1 200 OK\r\n\r\n",
     {"<>b+x", "<>x"},
     NULL,
     {{-EMSGSIZE, "answer too long"}, {0, ""}},
     2},
    {"headers without end",
     "HTTP/1.1 200 OK\r\n",
     {"<>h"},
     NULL,
     {{-EMSGSIZE, "answer too long"}},
     1},
    {"interim answers without end",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n",
     {"<>h"},
     NULL,
     {{-EMSGSIZE, "answer too long"}},
     1},

    /* cut: never an answer, and never tried again in here, for what became of it is unknown */
    {"closed before the answer", OK, {"<x"}, NULL, {{-ECONNRESET, ""}}, 1},
    {"reset before the answer", OK, {"<r"}, NULL, {{-ECONNRESET, ""}}, 1},
    {"closed at once", OK, {"x"}, NULL, {{-ECONNRESET, ""}}, 1},
    {"cut in the status", "HTTP/1.1 20", {"<>x"}, NULL, {{-ECONNRESET, ""}}, 1},
    {"cut in the headers", "HTTP/1.1 200 OK\r\nConte", {"<>x"}, NULL, {{-ECONNRESET, ""}}, 1},
    {"cut in the body", MIB "{", {"<>x"}, NULL, {{-ECONNRESET, ""}}, 1},
    {"reset in the body", MIB "{", {"<>r"}, NULL, {{-ECONNRESET, ""}}, 1},
    {"a chunk that does not end",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
     {"<>x"},
     NULL,
     {{-ECONNRESET, ""}},
     1},
    {"no HTTP", "220 mail.example.com ESMTP\r\n", {"<>x"}, NULL, {{-ECONNRESET, ""}}, 1},

    /* swallowed by a kept connection: goes again at once, once */
    {"a kept connection closes", OK, {"<>x", "<>"}, NULL, {{0, ""}, {0, ""}}, 2},
    {"a kept connection closes on it", OK, {"<><x", "<>"}, NULL, {{0, ""}, {0, ""}}, 2},
    {"a kept connection resets", OK, {"<><r", "<>"}, NULL, {{0, ""}, {0, ""}}, 2},
    {"and the fresh one as well",
     OK,
     {"<><x", "<x", "<>"},
     NULL,
     {{0, ""}, {-ECONNRESET, ""}, {0, ""}},
     3},

    /* proxies */
    {"a proxy wants a password",
     ANSWERS "407 No\r\nContent-Length: 0\r\n\r\n",
     {"<>"},
     "http://127.0.0.1",
     {{-ECONNRESET, "proxy wants a password"}},
     1},
    {"a proxy takes no such password",
     ANSWERS "407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno",
     {"<>x"},
     "http://me:p%40ss@127.0.0.1",
     {{-ECONNRESET, "proxy wants a password"}},
     1},
    {"a proxy refuses",
     ANSWERS "403 No\r\n\r\n",
     {"<>x"},
     "http://me:p%40ss@127.0.0.1",
     {{-ECONNRESET, "proxy refuses"}},
     1},
    {"a proxy fails",
     ANSWERS "502 No\r\n\r\n",
     {"<>x"},
     "http://127.0.0.1",
     {{-ECONNRESET, "proxy gets no answer"}},
     1},
    {"a proxy closes", OK, {"<x"}, "http://127.0.0.1", {{-ECONNRESET, "no proxy"}}, 1},
    {"what it said before is forgotten",
     ANSWERS "403 No\r\n\r\n",
     {"<>x", "<x"},
     "http://127.0.0.1",
     {{-ECONNRESET, "proxy refuses"}, {-ECONNRESET, "no proxy"}},
     2},
    {"a service that speaks no TLS, behind a proxy",
     TUNNEL,
     {"<><>x"},
     "http://127.0.0.1",
     {{-EKEYREJECTED, "no TLS"}},
     1},
    {"a service that is gone, behind a proxy",
     TUNNEL,
     {"<><x", "<x"},
     "http://127.0.0.1",
     {{-EKEYREJECTED, ""}, {-ECONNRESET, "no proxy"}},
     2},
};

static void tell(const struct story *s)
{
    struct server server;
    struct client c;
    struct heard h;
    char url[64] = "https://service.invalid/";

    server_start(&server, s->scripts, s->text);
    client_start(&c, s->proxy, server.port);
    if (s->proxy == NULL)
        (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", server.port);
    for (size_t i = 0; s->calls[i].kind != NULL; i++) {
        client_call(&c, &h, url, false);
        client_wait(&c, &h);
        if (h.error != s->calls[i].error || strcmp(h.kind, s->calls[i].kind) != 0 ||
            (h.error == 0) != (h.status != 0) || (h.error == 0) != (h.why[0] == '\0'))
            fail_msg("%s: call %zu: %d, '%s', '%s'", s->name, i, h.error, h.kind, h.why);
        if (strstr(h.kind, "proxy") != NULL && strstr(h.why, "http://127.0.0.1:") == NULL)
            fail_msg("%s: which proxy? %s", s->name, h.why);
        if (strstr(h.why, "p@ss") != NULL || strstr(h.why, "p%40ss") != NULL)
            fail_msg("%s: the secret is told: %s", s->name, h.why);
    }
    client_stop(&c);
    server_stop(&server);
    if (server.connections != s->connections)
        fail_msg("%s: %u connections, not %u", s->name, server.connections, s->connections);
    if (s->proxy != NULL) {
        if (strncmp(server.requests, "CONNECT service.invalid:443 ", 28) != 0 ||
            strstr(server.requests, "hush") != NULL)
            fail_msg("%s: the proxy heard: %s", s->name, server.requests);
        if ((strchr(s->proxy, '@') != NULL) !=
            (strstr(server.requests, "Proxy-Authorization: Basic bWU6cEBzcw==\r\n") != NULL))
            fail_msg("%s: the proxy heard: %s", s->name, server.requests);
    }
}

static void test_stories(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(stories); i++)
        tell(&stories[i]);
}

/* Of an interim answer nothing is kept. */
static void test_headers(void **state)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\nx-amz-retry-after: 1\r\n"
                               "x-amzn-ErrorType: Nothing\r\n\r\n"
                               "HTTP/1.1 503 No\r\nX-Amzn-RequestId:  abc \t\r\n"
                               "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n"
                               "retry-AFTER: Wed, 21 Oct 2015 07:28:07 GMT\r\n"
                               "Content-Length: 0\r\n\r\n";
    static const char *const scripts[] = {"<>", NULL};
    struct server server;
    struct client c;
    struct heard h;
    char url[64];

    (void)state;
    server_start(&server, scripts, text);
    client_start(&c, NULL, 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", server.port);
    client_call(&c, &h, url, false);
    client_wait(&c, &h);
    client_stop(&c);
    server_stop(&server);
    assert_int_equal(h.status, 503);
    assert_string_equal(h.request_id, "abc");
    assert_string_equal(h.error_type, "");
    assert_int_equal(h.retry_after_ms, 7000);
}

/* Two connections are kept, one dies with a call: the other, which may be as dead, is not tried, not
 * even when all is well again.  (libcurl counts a connection's age in whole seconds.) */
static void test_doubt(void **state)
{
    static const char *const scripts[] = {"<><>r", "<><>r", "<><", "<>", NULL};
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    struct server server;
    struct client c;
    struct heard one, two;
    char url[64];

    (void)state;
    server_start(&server, scripts, text);
    client_start(&c, NULL, 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", server.port);
    client_call(&c, &one, url, false);
    client_call(&c, &two, url, false);
    client_wait(&c, &one);
    client_wait(&c, &two);
    assert_int_equal(one.error | two.error, 0);
    usleep(2100 * 1000);
    (void)loop_step(c.loop, 0);

    server.text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}";
    client_call(&c, &one, url, false);
    client_wait(&c, &one);
    assert_int_equal(one.error, -ECONNRESET);
    assert_int_equal(server.connections, 2);

    server.text = text;
    client_call(&c, &one, url, false);
    client_wait(&c, &one);
    assert_int_equal(one.error, 0);
    assert_int_equal(server.connections, 3);

    client_call(&c, &one, url, false); /* keeps the third one busy */
    client_call(&c, &two, url, false);
    client_wait(&c, &two);
    assert_int_equal(two.error, 0);
    assert_int_equal(server.connections, 4);
    transport_cancel(http_transport(c.http), &one.call);
    client_stop(&c);
    server_stop(&server);
}

/* Where nobody listens. */
static void test_nobody(void **state)
{
    static const char *const none[] = {NULL};
    struct server server;
    struct client c;
    struct heard h;
    char url[64];

    (void)state;
    server_start(&server, none, "");
    server_stop(&server);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/", server.port);

    client_start(&c, "http://me:p%40ss@127.0.0.1", server.port);
    client_call(&c, &h, "https://service.invalid/", false);
    client_wait(&c, &h);
    assert_int_equal(h.error, -ECONNREFUSED);
    assert_string_equal(h.kind, "no proxy");
    assert_non_null(strstr(h.why, "http://127.0.0.1:"));
    assert_null(strstr(h.why, "p%40ss"));

    /* Loopback is reached straight, and so is who asks for it. */
    client_call(&c, &h, url, false);
    client_wait(&c, &h);
    assert_string_equal(h.kind, "no connection");
    client_call(&c, &h, "https://service.invalid/", true);
    client_wait(&c, &h);
    assert_string_equal(h.kind, "name not found");
    client_stop(&c);

    /* A proxy whose name nobody knows. */
    client_start(&c, "http://proxy.invalid", 1);
    client_call(&c, &h, "https://service.invalid/", false);
    client_wait(&c, &h);
    assert_string_equal(h.kind, "no proxy");
    assert_non_null(strstr(h.why, "http://proxy.invalid:1"));
    client_stop(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stories),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_doubt),
        cmocka_unit_test(test_nobody),
    };

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
