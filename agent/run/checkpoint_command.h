/* checkpoint_command -- kinetail checkpoint list|show|set|verify: the positions, for a person.
 *
 *   1. Nothing is changed without --apply, and never while an agent runs on the same store.
 *   2. What names hold is escaped: the output is safe for a terminal.
 *   3. With --json every line is an object on its own, whose member names stay.
 *
 * Says what is wrong on standard error, in a sentence. */
#ifndef CHECKPOINT_COMMAND_H
#define CHECKPOINT_COMMAND_H

/* Runs what stands behind `checkpoint` on the command line; `config` and `state_dir` (or NULL) are
 * what stood before it.  Returns the exit status: 0 well, 1 it failed, 2 wrong usage. */
int checkpoint_command(int argc, char **argv, const char *config, const char *state_dir);

#endif
