/* http -- the transport over libcurl's multi interface, on our loop.
 *
 *   1. Calls never block: libcurl tells which sockets and which deadline it waits for, the loop
 *      waits for them.
 *   2. Certificates and names are always verified, TLS is 1.2 or newer, redirects are not
 *      followed, and only http and https are spoken (http only to loopback: endpoint's rule; and
 *      to the instance's metadata: imds's).  No proxy is used.
 *   3. An answer longer than HTTP_ANSWER_MAX is an error; every call ends within its timeout.
 *
 * Threads: one lane; curl_global_init must have happened.  */
#ifndef HTTP_H
#define HTTP_H

#include "ship/transport.h"

#include <stddef.h>

enum {
    HTTP_ANSWER_MAX = 1024 * 1024, /* ours; a PutRecords answer to 500 records has about 80 kB */
    HTTP_CONNECT_TIMEOUT_MS = 5000,
    HTTP_STILL_BYTES = 1024, /* a call that moves fewer bytes a second … */
    HTTP_STILL_S = 30,       /* … for so long is given up; waiting for the answer counts */
};

struct http;
struct loop;

struct http_settings {
    const char *ca_file;    /* PEM; NULL: the system's */
    const char *user_agent; /* borrowed until http_free */
};

/* Borrows `loop` and the texts until http_free.  Errors: -ENOMEM. */
int http_new(struct loop *loop, const struct http_settings *settings, struct http **ret);

/* Cancels what is on its way.  NULL is fine. */
void http_free(struct http *h);

/* Announces `count` more calls at a time, and makes their memory ready.  Errors: -ENOMEM. */
int http_reserve(struct http *h, size_t count);

struct transport *http_transport(struct http *h);

#endif
