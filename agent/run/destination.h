/* destination -- a stream, and all that flows who send to it share: the gate, the spool, the dead
 * letters, what it says of itself.  A value of the lane's, opened once for each destination. */
#ifndef DESTINATION_H
#define DESTINATION_H

#include "run/depot.h"

enum { DESTINATION_DRAIN = 2 }; /* requests in flight from the spool, beside those of the flows */

struct config_flow;
struct config;

struct destination {  /* owns but for what it names as borrowed */
    const char *name; /* borrowed: config_flow.destination */
    const struct service *service;
    struct client *client; /* borrowed */
    struct gate *gate;
    struct morgue *morgue;
    struct depot *depot;     /* NULL if there is to be no spool */
    struct summary *summary; /* NULL if its limits are the same for all: a delivery stream's */
};

/* Opens what belongs to the destination of `flow`; `place` is all that a depot needs but gate and
 * morgue.  What fails is logged.  Errors: gate_new's, morgue_new's, depot_new's. */
int destination_open(const struct config *config, const struct config_flow *flow,
                     const struct depot_place *place, struct destination *ret);

/* Neither a flow nor a job of the scribe may be there any more.  The zero value is fine. */
void destination_close(struct destination *d);

#endif
