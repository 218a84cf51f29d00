/* resume -- where the files of an earlier run went: each past finds its file again, under its name,
 * under another one, or as a copy, and reading goes on from there.
 *
 *   1. A past goes to one source at most, and only if the file has the head and the anchor that
 *      were read from it.
 *   2. First every past finds its own file; only then can a file be said to be nobody's.
 *   3. What had the name of a past since is read after it, and before what has the name now.
 *   4. A past whose file is gone for certain is reported lost; one whose directory or file system
 *      is not there is kept, and one that might be a file which could not be opened.
 *
 * A part of the follower.  Blocks as open(2) and pread(2) of regular files do. */
#ifndef RESUME_H
#define RESUME_H

#include <stdbool.h>

struct cursor;
struct follower;
struct follower_past;
struct name;
struct neighbour;
struct neighbours;
struct source;
struct source_id;
struct statx;

/* Makes the pasts findable by inode.  One that there is no memory for is logged: it may be read
 * again. */
void resume_map(struct follower *f);

/* The past of this very file at this very content, if an earlier run knew it. */
struct follower_past *resume_find(struct follower *f, const struct neighbour *file);

/* A source goes on from `p` in this file.  Takes file->fd.  Errors: follower_add's. */
int resume_past(struct follower *f, struct follower_past *p, struct neighbour *file,
                struct source **ret);

/* At the start: the file that is called `n` was read to its end by an earlier run, and neither it
 * nor its name have changed since: it need not even be opened.  False: look closer. */
bool resume_at_rest(struct follower *f, struct name *n, const char *path, const struct statx *st);

/* At the first start: a file cannot be read; what it has now will not be wanted when it can. */
void resume_note_unread(struct follower *f, const struct statx *st);

/* Where to begin with a file that nobody knows.  Errors: -ESTALE if it was cut short meanwhile;
 * pread(2)'s. */
int resume_place(struct follower *f, const char *path, const struct neighbour *file,
                 struct cursor *ret);

/* The roster's: a file that looks like a rotation of one of ours, at the start or in a directory that
 * is new to us; at the start remembered until all that is known is found.  `user` is the follower. */
void resume_stray(void *user, const char *dir, const char *text, bool fresh);

/* At the start, when all names are looked at: finds what is left of the pasts, and reads what came
 * and went while the agent was stopped, `strays` among it. */
void resume_all(struct follower *f, struct neighbours *strays);

/* Later: the youngest file that is older than this run, was rotated from `path`, and is still being read;
 * what is called so now is read after it.  NULL: there is none. */
struct source *resume_predecessor(const struct follower *f, const char *path);

/* Later: looks again for those whose directory was not there. */
void resume_again(struct follower *f);

#endif
