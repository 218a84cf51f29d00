/* http -- the transport over libcurl's multi interface, on our loop.
 *
 *   1. Calls never block: libcurl tells which sockets and which deadline it waits for, the loop
 *      waits for them.
 *   2. Certificates and names are always verified, TLS is 1.2 or newer, redirects are not
 *      followed, and only http and https are spoken (http only to loopback: endpoint's rule; and
 *      to the instance's metadata: imds's).  Where a proxy is used, proxy.h says.
 *   3. An answer longer than HTTP_ANSWER_MAX, or with more headers than HTTP_HEADERS_BYTES_MAX, is an
 *      error.  A body that ends before its length is one too.
 *   4. Every call ends within its timeout, and long before if nothing moves: see below.
 *   5. After a call died of the network, the next ones to that host begin from nothing (name, authority
 *      file, connection) until one of them is answered; and connections from before are not used again.
 *      So a changed address, a mended file or a way that lost its state costs one call, not one for
 *      each connection that was kept.
 *   6. A call that a kept connection swallows (the server closed it while it was idle) is sent again at
 *      once, on a fresh one; libcurl does so, as long as no byte of an answer came.
 *   7. No more connections than calls on their way: a refused one is not tried again in here.
 *
 * The bounds, which all count in one call at the same time:
 *
 *     name, proxy, TCP and TLS    15 s in all.  The resolver asks the next name server after 5 s: with
 *                                 less than 10 s, one dead server at the top of resolv.conf would
 *                                 mean no connection ever; this stands two.
 *     still, or nearly            30 s below 1 kB/s, the wait for the answer included: the service
 *                                 answers within seconds, or never.  A call that moves a byte a second
 *                                 would otherwise keep its batch for the whole timeout.
 *     the whole call              the caller's timeout: with five minutes, 1 MiB needs 3.5 kB/s, and
 *                                 10 MiB 35 kB/s.
 *
 * Threads: one lane; curl_global_init must have happened.  */
#ifndef HTTP_H
#define HTTP_H

#include "ship/transport.h"

#include <stddef.h>

enum {
    HTTP_ANSWER_MAX = 1024 * 1024, /* ours; a PutRecords answer to 500 records has about 80 kB */
    HTTP_HEADERS_BYTES_MAX = 64 * 1024, /* of one answer; AWS's have 500 bytes */
    HTTP_CONNECT_TIMEOUT_MS = 15 * 1000,
    HTTP_STILL_BYTES = 1024,
    HTTP_STILL_S = 30,

    /* A kept connection is closed rather than used when it was idle so long: load balancers forget
     * theirs after 60 s, and not all of them say so. */
    HTTP_IDLE_S = 50,
    /* … and when it is so old: a name's new addresses are seen, even though the old one answers. */
    HTTP_AGE_S = 5 * 60,
};

struct http;
struct loop;
struct proxy;

struct http_settings {
    const char *ca_file; /* PEM; NULL: the system's */
    const char *user_agent;
    const struct proxy *proxy; /* NULL: none */
};

/* Borrows `loop` and all that the settings point to until http_free.  Errors: -ENOMEM. */
int http_new(struct loop *loop, const struct http_settings *settings, struct http **ret);

/* Cancels what is on its way.  NULL is fine. */
void http_free(struct http *h);

/* Announces `count` more calls at a time, and makes their memory ready.  Errors: -ENOMEM. */
int http_reserve(struct http *h, size_t count);

struct transport *http_transport(struct http *h);

#endif
