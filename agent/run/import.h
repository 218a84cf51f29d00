/* import -- kinetail import FILE: agent.json of the Java Kinesis Agent as our configuration.
 *
 *   1. What is written passes `kinetail check`, and means what it meant to the Java agent.
 *   2. What has no equivalent stands in a comment, with the reason.
 *   3. What cannot be carried over is refused by file, flow and key, all of it at once; then nothing is
 *      written.  So is what the Java agent itself would not start with.
 *
 * Blocks: on files. */
#ifndef IMPORT_H
#define IMPORT_H

#include "slice.h"

#include <stdio.h>

/* Runs what stands behind `import` on the command line; argv[-1] is that word.  Returns the exit status: 0 well, 1 it failed or
 * something is refused, 2 wrong usage. */
int import_command(int argc, char **argv);

/* A file of the Java agent. */
struct import_file {
    const char *name;
    struct slice text;
};

/* The same of texts: agent.json first, and what is in agent.d beside it.  Writes the configuration to `to`,
 * and sentences to `words`, each of which may be NULL.  Returns 0; -EINVAL if something is refused;
 * -ENOMEM. */
int import_files(const struct import_file *files, size_t count, FILE *to, FILE *words);

#endif
