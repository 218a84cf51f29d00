/* client -- signed calls to one service at one endpoint.
 *
 *   1. Every call is signed anew, with the wall clock of that moment.
 *   2. A call ends exactly once, in `done`, never from within client_call.
 *   3. The secret is wiped when the client goes, and never in a text that is given out.
 *   4. A call that was prepared once (client_call_init) and sent once allocates nothing more here.
 *
 * Threads: one lane. */
#ifndef CLIENT_H
#define CLIENT_H

#include "buf.h"
#include "ship/aws_error.h"
#include "ship/endpoint.h"
#include "ship/transport.h"

#include <stdint.h>

struct client;
struct clock;

struct client_settings {
    struct endpoint endpoint;
    struct slice region, service; /* signing scope; borrowed until client_free */
    struct slice access_key_id, secret_access_key, session_token; /* copied */
};

/* How a call ended. */
struct client_answer {
    bool ok;                    /* HTTP 200: `body` is the answer */
    struct slice body;          /* borrowed until done returns */
    enum aws_error_class class; /* if not ok: what kind of trouble */
    struct slice code;          /* if not ok: the service's code, else the HTTP status or errno */
    struct slice message;       /* if not ok: in their words, or the network library's */
    struct slice request_id;
    long status;             /* HTTP status, 0 if no answer came */
    uint32_t retry_after_ms; /* they ask not to be called before; 0: they do not */
};

struct client_call {
    struct http_call http;
    struct client *client;
    struct buf target, date, token, authorization, host; /* header lines */
    char code[32];
    void (*done)(struct client_call *c, const struct client_answer *a);
};

/* Borrows transport and clock until client_free; copies the settings' texts but region and
 * service.  Errors: -ENOMEM, -ENOTSUP as sigv4_new. */
int client_new(struct transport *transport, const struct clock *clock,
               const struct client_settings *settings, struct client **ret);
void client_free(struct client *c);

/* The URL calls go to, for a message. */
const char *client_url(const struct client *c);

/* Makes a call ready to be sent again and again; client_call_done gives its memory back. */
void client_call_init(struct client_call *call, struct client *c,
                      void (*done)(struct client_call *c, const struct client_answer *a));
void client_call_done(struct client_call *call);

/* Signs and sends a POST of `body` (borrowed until done) to `target`.
 * Errors: sigv4_sign's, transport_send's; `done` does not come then. */
int client_send(struct client_call *call, const char *target, struct slice body,
                uint32_t timeout_ms);

/* Takes back a call that is on its way; one that is not is fine. */
void client_cancel(struct client_call *call);

#endif
