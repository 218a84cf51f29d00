/* lane -- one thread's worth of the agent: a loop, its flows, and their way to disk.
 *
 *   1. Everything a flow needs belongs to its lane; two lanes would share nothing but the
 *      configuration.
 *   2. What is settled is written to the checkpoint's journal in the same wake-up, and synced by
 *      the scribe within a second.
 *
 * Threads: the one that calls lane_run; the scribe beside it. */
#ifndef LANE_H
#define LANE_H

#include <stdbool.h>
#include <stdint.h>

struct clock;
struct config;
struct disk;
struct lane;
struct loop;
struct state;
struct transport;

/* What a lane stands on; a simulation hands in its own. */
struct world {
    const struct clock *clock;
    const struct disk *disk;
    struct transport *transport; /* NULL: real sockets */
    int64_t began_ns;            /* when the program was started: nanoseconds since 1970 */
    uint64_t seed;               /* of jitter and random keys; 0: from the kernel */
    bool inline_jobs;            /* no thread: jobs that block are done at once, on the lane */
};

/* Builds all flows of the configuration.  Borrows everything until lane_free.  What failed is
 * logged.  Errors: 0 or -errno; -EKEYREVOKED: there are no credentials. */
int lane_new(const struct config *config, const struct state *state, const struct world *world,
             struct lane **ret);

/* Without a last word to the checkpoint, if lane_run has not said it: as a crash would. */
void lane_free(struct lane *l);

struct loop *lane_loop(struct lane *l);

/* lane_run in pieces, for a simulation: finds the files; false once it has stopped and drained; says
 * the last word. */
void lane_start(struct lane *l);
bool lane_is_running(const struct lane *l);
int lane_finish(struct lane *l);

/* Runs until it is told to stop, and has drained.  Errors: -errno if the loop cannot go on or the
 * last checkpoint could not be written. */
int lane_run(struct lane *l);

/* Stops reading, drains within the configured time, and lets lane_run return; told a second time,
 * it does not wait any longer. */
void lane_stop(struct lane *l);

#endif
