/* glob -- which paths a flow means: a set of patterns, walked one directory at a time.
 *
 * In every component of a path `*`, `?` and `[…]` match as in glob(7), `{a,b}` is either, and a
 * component `**` is any number of directories, none included.  A leading dot must be written.
 *
 *   1. Patterns are absolute; braces are expanded once, at birth.
 *   2. A directory is known by its states: how far each pattern has been matched by its path.
 *
 * Thinks: no I/O.  Errors: 0 or -errno. */
#ifndef GLOB_H
#define GLOB_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GLOB_PATTERNS_MAX = 4096 }; /* after the expansion of braces */

struct glob;

struct glob_state {
    uint16_t pattern, part; /* parts before this one are matched */
};

struct glob_states {
    size_t count;
    struct glob_state at[];
};

/* Errors: -EINVAL if a brace is not closed or a pattern is not absolute; -E2BIG; -ENOMEM. */
int glob_new(char *const *patterns, size_t count, struct glob **ret);
void glob_free(struct glob *g);

/* The states of "/", and of a directory `name` in a directory with `states`.  Gives *ret, to be
 * freed; glob_enter gives NULL if no pattern goes there.  Errors: -ENOMEM. */
int glob_root(const struct glob *g, struct glob_states **ret);
int glob_enter(const struct glob *g, const struct glob_states *states, const char *name,
               struct glob_states **ret);

/* Whether a file `name` in such a directory is meant. */
bool glob_matches(const struct glob *g, const struct glob_states *states, const char *name);

/* Whether any file at all can be meant in such a directory. */
bool glob_has_files(const struct glob *g, const struct glob_states *states);

/* Whether the directory must be listed to know its matching subdirectories or files. */
bool glob_needs_list(const struct glob *g, const struct glob_states *states);

/* The next component that stands in the patterns literally, for i = 0 … count-1; NULL if that
 * state's is not literal.  *ret_is_last: it names files, not a directory. */
const char *glob_literal(const struct glob *g, const struct glob_states *states, size_t i,
                         bool *ret_is_last);

/* For `exclude`: a pattern without a slash is matched with a file's name, others with its path. */
struct glob_excludes;
int glob_excludes_new(char *const *patterns, size_t count, struct glob_excludes **ret);
void glob_excludes_free(struct glob_excludes *x);
bool glob_excludes_match(const struct glob_excludes *x, const char *path, const char *name);

#endif
