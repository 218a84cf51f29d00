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

struct clock;
struct config;
struct lane;
struct loop;
struct state;

/* Builds all flows of the configuration.  Borrows everything until lane_free.  What failed is
 * logged.  Errors: 0 or -errno; -EKEYREVOKED: there are no credentials. */
int lane_new(const struct config *config, const struct state *state, const struct clock *clock,
             struct lane **ret);
void lane_free(struct lane *l);

struct loop *lane_loop(struct lane *l);

/* Runs until it is told to stop, and has drained.  Errors: -errno if the loop cannot go on or the
 * last checkpoint could not be written. */
int lane_run(struct lane *l);

/* Stops reading, drains within the configured time, and lets lane_run return; told a second time,
 * it does not wait any longer. */
void lane_stop(struct lane *l);

#endif
