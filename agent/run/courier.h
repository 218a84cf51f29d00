/* courier -- takes records to one destination once, for a command: no files, no flows, no agent.
 *
 *   1. A parcel is called sent only if the service has called it stored.
 *   2. Each call ends: after COURIER_TRIES requests in a row that settled nothing, or at once where
 *      only a person can help, it gives up, and says why.
 *   3. A request that is refused as a whole is halved until the culprit stands alone.
 *
 * Threads: one; curl_global_init must have happened.  Blocks: in courier_send.  Says on standard
 * error only what keeps it from being made. */
#ifndef COURIER_H
#define COURIER_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    COURIER_TRIES = 6,
    COURIER_WHY_SIZE = 400,
};

struct config;
struct config_flow;
struct courier;

enum courier_state { COURIER_WAITING, COURIER_SENT, COURIER_REFUSED };

struct parcel {
    struct slice key; /* empty: a random one is made; not looked at where there are no keys */
    struct slice record;
    enum courier_state state;
    char why[COURIER_WHY_SIZE]; /* REFUSED: in a sentence's rest */
};

/* Borrows both until courier_free.  What is wrong is said.  Errors: -ENOKEY: there are no
 * credentials; -ENOMEM; endpoint's, client's. */
int courier_new(const struct config *config, const struct config_flow *flow, struct courier **ret);
void courier_free(struct courier *c); /* NULL is fine */

/* The URL that requests go to. */
const char *courier_url(const struct courier *c);

/* Why a record will not be taken, and so is not sent at all; NULL if it may be sent. */
const char *courier_refuses(const struct courier *c, size_t key_len, size_t record_len);

/* Sends all that are WAITING, in their order, in as many requests as it takes.  0: each is SENT or
 * REFUSED now.  -EAGAIN: some are still WAITING, and *ret_why says why they were given up; borrowed
 * until the next call.  Other errors: -ENOMEM. */
int courier_send(struct courier *c, struct parcel *parcels, size_t count, const char **ret_why);

#endif
