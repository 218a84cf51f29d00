/* state -- the state directory, ours alone while we run.
 *
 *   1. The lock is held by an open file description (F_OFD_SETLK): the kernel lets go of it when
 *      the process ends, however it ends.
 *   2. On a read-only file system, where only a reader's lock can be had, others that start there are
 *      kept away by a second one (flock); so no two run, whether it stays read-only or not.
 *   3. The name of every directory that is made is as durable as what is later in it.
 *
 * Errors: 0 or -errno.  Blocks: on a slow disk. */
#ifndef STATE_H
#define STATE_H

#include <limits.h>
#include <sys/types.h>

struct disk;

struct state {
    int dir_fd, lock_fd, checkpoint_fd; /* own; -1: not open */
};

/* Makes the directory, with its parents, and what lies in it, if missing, and takes the lock.  What is
 * there already may be on a read-only file system.
 * *ret_what is the path that an error is about, or NULL.  With -EBUSY *ret_owner is the other
 * process, 0 if unknown.  Errors: -EBUSY: another agent uses it; mkdir(2)'s, open(2)'s. */
int state_open(const struct disk *disk, const char *path, struct state *ret, const char **ret_what,
               pid_t *ret_owner);
void state_close(struct state *s);

/* Whether an agent uses the directory now, without writing to it or being in its way: 1 and its process,
 * 0 if that is unknown; or 0.  Errors: open(2)'s, fcntl(2)'s. */
int state_is_used(int dir_fd, pid_t *ret_owner);

/* Opens a directory in another one, made if it is missing; gives a descriptor.
 * Errors: mkdir(2)'s, open(2)'s. */
int state_room(const struct disk *disk, int dir_fd, const char *name);

/* What a destination's directory is called, below spool/ and dead/: its name, with "_" for the "/" of an
 * ARN.  Errors: -ENAMETOOLONG. */
int state_folder(const char *destination, char to[NAME_MAX + 1]);

#endif
