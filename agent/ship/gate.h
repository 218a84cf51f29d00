/* gate -- who may send to one destination now, of all who share it.
 *
 *   1. Requests in flight follow a window (ship/window.h), for all users together.
 *   2. Who waits is served in turn, one request each: a flow with much to say does not silence the
 *      others, nor does what is drained from the spool starve what is fresh.
 *   3. While the destination as a whole fails, one request at a time feels whether it is back: a
 *      hundred would be no better informed, and be a storm when it is.  Then the window opens from
 *      one, doubling: many agents that waited together do not come back at once.
 *   4. What the service says about when to come again holds, within reason.
 *
 * Threads: one lane.  Logs trouble, one line per kind of trouble and minute. */
#ifndef GATE_H
#define GATE_H

#include "list.h"

#include <stdbool.h>
#include <stdint.h>

struct client_answer;
struct gate;
struct loop;
struct random;
struct service;

/* Who sends; begins all zero but for `send`, and list_init'ed. */
struct gate_user {
    struct list node; /* the gate's, while it waits */
    const char *flow; /* names it in messages; borrowed */
    uint32_t in_flight_max;

    /* Your turn: launches one request (gate_sent), if one is ready.  Who has more asks again. */
    void (*send)(struct gate_user *u);
};

/* `service`, `stream` and `url` name the destination in messages; everything is borrowed until gate_free.
 * Errors: -ENOMEM. */
int gate_new(struct loop *loop, struct random *random, const struct service *service,
             const char *stream, const char *url, struct gate **ret);
void gate_free(struct gate *g);

/* The window grows by what the user may have in flight; and shrinks again. */
void gate_join(struct gate *g, struct gate_user *u);
void gate_leave(struct gate *g, struct gate_user *u);

/* The user has a request ready: `send` comes in a turn, once, when it may go. */
void gate_want(struct gate *g, struct gate_user *u);

/* A request was launched; gives its number.  Each ends in exactly one of the others. */
uint64_t gate_sent(struct gate *g);

/* An answer came that says of each record what became of it: whether some were accepted, and some
 * throttled. */
void gate_answered(struct gate *g, uint64_t number, bool accepted, bool throttled);

/* The request was refused for what is in it, or taken back: no news of the destination. */
void gate_ended(struct gate *g);

/* The request failed as a whole, or what became of it is unknown. */
void gate_failed(struct gate *g, const struct gate_user *u, uint64_t number,
                 const struct client_answer *a);

/* Whether it fails as a whole; and for a reason that only a person can mend: the stream is missing, or may
 * not be written to.  Who knows whether it is the right one?  Files are the queue then. */
bool gate_is_failing(const struct gate *g);
bool gate_waits_for_person(const struct gate *g);

/* Whether a record was accepted within the last minute: then who is refused alone is refused for
 * what it is, and not because of the stream, the credentials or what stands between. */
bool gate_has_witness(const struct gate *g);

/* The largest body that may be sent, in bytes.  gate_too_large: one of so many bytes was refused for
 * its size (HTTP 413), though the service's limits were kept: somebody on the way has lower ones. */
uint64_t gate_body_max(const struct gate *g);
void gate_too_large(struct gate *g, uint64_t body_len);

/* Says that a request or its records were refused, once a minute; `fate` is what becomes of it. */
void gate_say_refused(struct gate *g, const struct gate_user *u, const struct client_answer *a,
                      const char *fate);

/* Says that a record was refused for good and is a dead letter now, once a minute. */
void gate_say_buried(struct gate *g, const struct gate_user *u, const struct client_answer *a);

/* For status: requests in flight that are allowed now, and since when it fails (0: it does not). */
uint32_t gate_window(const struct gate *g);
uint64_t gate_failing_since_ms(const struct gate *g);

#endif
