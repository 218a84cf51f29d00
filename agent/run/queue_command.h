/* queue_command -- kinetail queue list|show|verify|drop|retry: the spool and the dead letters, for
 * a person.
 *
 *   1. Nothing is dropped or sent without --apply.
 *   2. It works beside a running agent, and rewrites nothing that the agent writes.
 *   3. What records and names hold is escaped: but for --raw, the output is safe for a terminal.
 *   4. With --json every line is an object on its own, whose member names stay.
 *
 * Says what is wrong on standard error, in a sentence. */
#ifndef QUEUE_COMMAND_H
#define QUEUE_COMMAND_H

/* Runs what stands behind `queue` on the command line; `config` and `state_dir` (or NULL) are what
 * stood before it.  Returns the exit status: 0 well, 1 it failed or something is damaged, 2 wrong
 * usage. */
int queue_command(int argc, char **argv, const char *config, const char *state_dir);

#endif
