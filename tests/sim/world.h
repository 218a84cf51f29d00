/* world -- a clock, a network and a service that do as a test says, around a real lane.
 *
 * The lane under test is what is shipped: flow, follower, deliver, checkpoint, on a real directory.
 * Only time and the service are ours.  The service keeps every record it stored, in order. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "clock.h"
#include "keep/state.h"
#include "list.h"
#include "random.h"
#include "run/config.h"
#include "run/lane.h"
#include "ship/transport.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

/* How often the service misbehaves, in percent of requests (or of records, for `throttle`). */
struct sim_faults {
    unsigned throttle;    /* a record: ProvisionedThroughputExceededException in a 200 answer */
    unsigned fail;        /* 500, nothing stored */
    unsigned lose_answer; /* stored, and then the connection breaks */
    unsigned garbage;     /* stored, and the answer cannot be read */
    bool down;            /* nothing gets through */
};

struct sim_call {
    struct list node;
    struct http_call *http;
    uint64_t due_ms;
};

struct sim_world {
    struct clock clock; /* must be first */
    struct transport transport;
    uint64_t now_ms;
    struct random random;
    struct sim_faults faults;
    uint32_t latency_ms; /* of an answer: up to so much */
    struct list calls;
    struct sim_call pool[64];
    struct list free_calls;
    char *answer; /* owns: scratch */

    /* A record was stored. */
    void (*stored)(void *user, struct slice data, struct slice key);
    void *user;
    bool unsure; /* while `stored` is called: the agent will not hear of it */
    uint64_t requests, records, ambiguous, throttled;

    char dir[64]; /* owns: log/ and state/ are in it */
    struct config *config;
    struct state state;
    struct lane *lane; /* NULL: the agent is not running */
    bool keep;         /* the directory stays */
    const struct disk *disk;
    bool rough; /* what the agent stands on may fail: so may a start, and its last word */
};

/* One flow: its globs below DIR/log/, a space between two; and its other settings. */
struct sim_flow {
    const char *globs, *extra;
};

/* Makes a directory and a configuration with one flow for DIR/log/ (the globs are given without
 * the directory, e.g. "*.log").  `flow_extra` is added to the flow's settings; a $ in it is DIR. */
void sim_init(struct sim_world *w, uint64_t seed, const char *globs, const char *flow_extra);
void sim_done(struct sim_world *w);

/* The same with several flows. */
void sim_init_flows(struct sim_world *w, uint64_t seed, const struct sim_flow *flows, size_t count);

/* Whether the service misbehaves at all. */
bool sim_has_faults(const struct sim_world *w);

/* Starts the agent; stops it in order; or ends it as kill -9 would, with requests on their way that
 * may still arrive. */
void sim_start(struct sim_world *w);
int sim_try_start(struct sim_world *w); /* errors: lane_new's, state_open's */
void sim_stop(struct sim_world *w);
void sim_kill(struct sim_world *w);

/* Waits for a tick of the clock that file systems take birth times from: the kernel's, not ours. */
void sim_tick(void);

/* Lets `ms` pass, with everything that happens in it. */
void sim_run(struct sim_world *w, uint64_t ms);

/* One step without time passing. */
void sim_step(struct sim_world *w);

/* "DIR/log/NAME" in static memory, one of four in turn. */
const char *sim_path(const struct sim_world *w, const char *name);

#endif
