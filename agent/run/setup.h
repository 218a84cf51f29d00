/* setup -- the configuration as the command line has it.
 *
 * Says what is wrong with it on standard error.  Blocks: on reading files. */
#ifndef SETUP_H
#define SETUP_H

struct config;

/* Reads the configuration; `state_dir` (or NULL) takes the place of what is written there.  Gives
 * the caller what config_free frees; NULL: it is of no use, and that was said. */
struct config *setup_config(const char *path, const char *state_dir);

#endif
