/* transport -- the seam between requests and the network: real sockets, or a test's.
 *
 *   1. A call that was sent ends exactly once, in `done`, from the loop and never from within
 *      transport_send; or it is cancelled, and then `done` does not come.
 *   2. The call, its texts and its body are borrowed from send to done or cancel. */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

enum { HTTP_HEADERS_MAX = 8 };

struct http_answer {
    int error;         /* 0: an answer came, whole; else -errno */
    const char *why;   /* with an error: what happened, in words; else "" */
    const char *kind;  /* with an error: one of http_trouble's kinds, or NULL */
    long status;       /* HTTP status; 0 with an error */
    struct slice body; /* at most HTTP_ANSWER_MAX; borrowed like the rest until done returns */
    struct slice error_type; /* x-amzn-errortype, may be empty */
    struct slice request_id; /* x-amzn-requestid, may be empty */
    uint32_t retry_after_ms; /* they ask not to be called before; 0: they do not, see retry_after */
};

struct http_call {
    const char *url;
    const char *method;                    /* "GET", "PUT", or NULL for POST; a GET has no body */
    const char *headers[HTTP_HEADERS_MAX]; /* "Name: value"; NULL ends them */
    struct slice body;
    uint32_t timeout_ms; /* for the whole call */
    bool direct;         /* whatever the settings say, through no proxy */
    void (*done)(struct http_call *call, const struct http_answer *answer);
    void *slot; /* the transport's own */
};

struct transport {
    /* Errors: -EAGAIN if as many calls as were announced are on their way; -ENOMEM. */
    int (*send)(struct transport *t, struct http_call *call);
    void (*cancel)(struct transport *t, struct http_call *call);
};

static inline int transport_send(struct transport *t, struct http_call *call)
{
    return t->send(t, call);
}

static inline void transport_cancel(struct transport *t, struct http_call *call)
{
    t->cancel(t, call);
}

#endif
