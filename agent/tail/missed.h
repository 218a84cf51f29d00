/* missed -- the files that had a name while nobody looked: rotated away before they were read, and
 * found beside it by what they are called.
 *
 *   1. Only a file that nobody reads, and that was not finished lately, is taken for a missed one;
 *      what the globs mean themselves is not: it is met by its own name.
 *   2. They are read in the order of their birth, each after the one before it.
 *   3. A copy of a source that still has its content is not read, nor one of which everything was
 *      given already; if the source has lost its content, its copy is read from where it was.
 *   4. One that an earlier run knew goes on from its past.
 *   5. What may not be read by its own name (a hard link to another's file) may not be read here.
 *
 * A part of the follower.  Errors: a file that cannot be had (memory, the met event) is left out.
 * Blocks as open(2) and pread(2) of regular files do. */
#ifndef MISSED_H
#define MISSED_H

#include <stdbool.h>
#include <stdint.h>

struct follower;
struct name;
struct neighbour;
struct neighbours;
struct source;
struct source_id;

/* Reads the files that had the name between two others, oldest first: born from `from_ns` to
 * `to_ns`, not known, and not meant by the globs themselves (those are met by their own names).
 * Birth times are as coarse as the kernel's clock tick, so both ends belong to it.  `anew` (or
 * NULL) is a file that may have been truncated and written anew before it was renamed, so that it
 * belongs to them whenever it was born.  Returns the last source in the chain that begins with
 * `first` (or NULL). */
struct source *missed_read_between(struct follower *f, struct neighbours *all, int64_t from_ns,
                                   int64_t to_ns, const struct source_id *anew,
                                   struct source *first);

/* Reads a file that may have been rotated away unseen, if it is so young: in a `fresh` directory,
 * younger than what an earlier run may have seen. */
void missed_read_stray(struct follower *f, const char *dir, const char *text, bool fresh);

/* Reads what was called `path` after `previous` (or lately), copies of the newest one included: it
 * may have been truncated before anybody saw it.  Returns the last of them, or `previous`. */
struct source *missed_read(struct follower *f, const char *path, struct source *previous);

/* During a look: the same for the file that left `n`, if inotify says where it went: however old it
 * is, and whatever it is called now. */
struct source *missed_read_moved(struct follower *f, const struct name *n, const char *path,
                                 struct source *previous);

#endif
