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

struct cursor;
struct follower;
struct follower_past;
struct identity_facts;
struct name;
struct neighbours;
struct source_id;

/* Makes the pasts findable by inode.  One that there is no memory for is logged: it may be read
 * again. */
void resume_map(struct follower *f);

/* The past of this very file at this very content, if an earlier run knew it. */
struct follower_past *resume_find(struct follower *f, int fd, const struct source_id *id,
                                  const char *path);

/* Where to begin with a file that nobody knows.  Errors: -ESTALE if it was cut short meanwhile;
 * pread(2)'s. */
int resume_place(struct follower *f, const struct name *n, const char *path, int fd,
                 const struct source_id *id, const struct identity_facts *facts,
                 struct cursor *ret);

/* The roster's: a file that looks like a rotation of one of ours; remembered until all that is
 * known is found.  `user` is the follower. */
void resume_stray(void *user, const char *dir, const char *text);

/* At the start, when all names are looked at: finds what is left of the pasts, and reads what came
 * and went while the agent was stopped, `strays` among it. */
void resume_all(struct follower *f, struct neighbours *strays);

#endif
