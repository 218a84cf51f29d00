/* guess -- which setting a person may have meant by a name that is none.
 *
 * Thinks only; nothing fails. */
#ifndef GUESS_H
#define GUESS_H

#include <stddef.h>

struct config_key;

/* How many letters lie between what was written and a row's path.  The row may be meant by its
 * whole path ("batch.linger"), its last word ("linger") or its group ("batch"); the nearest counts.
 * SIZE_MAX for names that are too long to be a slip of ours. */
size_t guess_distance(const char *path, const char *written);

/* The nearest row, or NULL if none is near. */
const struct config_key *guess_key(const struct config_key *rows, size_t count, const char *path);

#endif
