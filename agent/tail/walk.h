/* walk -- all files that globs mean, at this moment: listed once, not followed.
 *
 * Blocks as opendir(3) does; a directory that cannot be read is left out. */
#ifndef WALK_H
#define WALK_H

#include <stdbool.h>
#include <stdint.h>

struct glob;

/* What is told of each: its directory ("" is "/"), its name and its inode. */
typedef void walk_found(void *user, const char *dir, const char *name, uint64_t ino);

/* Calls `found` for every file; directories and, unless they may be followed, links are no files. */
void walk_files(const struct glob *g, bool follow_symlinks, walk_found *found, void *user);

#endif
