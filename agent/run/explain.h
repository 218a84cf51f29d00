/* explain -- kinetail explain: what would become of these lines, without sending anything.
 *
 *   1. It runs the code of the agent: the same outfit, the same mill, the same reading.
 *   2. Nothing is written but to standard output, and nothing is remembered.
 *   3. What lines hold is escaped: the output is safe for a terminal.  Colour only there.
 *   4. With --json every record is an object on a line of its own, whose member names stay.
 *
 * Says what is wrong on standard error, in a sentence. */
#ifndef EXPLAIN_H
#define EXPLAIN_H

/* Runs what stands behind `explain` on the command line; `config` is what stood before it.  Returns
 * the exit status: 0 well, 1 it failed, 2 wrong usage or configuration. */
int explain_command(int argc, char **argv, const char *config);

#endif
