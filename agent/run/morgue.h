/* morgue -- where records go that will not be sent: one destination's dead letters, on disk before
 * they count as settled.
 *
 *   1. A record that was put is settled once its letter is durable, and not before.
 *   2. While the disk fails, letters wait, and at last the flows that have more of them; no other.
 *
 * Threads: one lane; the writing is done by the scribe.  Logs what fails. */
#ifndef MORGUE_H
#define MORGUE_H

#include "list.h"

#include <stdbool.h>
#include <stdint.h>

enum { MORGUE_WAITING = 256 }; /* letters that are not durable yet, at most */

struct dead_letter;
struct disk;
struct loop;
struct morgue;
struct scribe;

/* Who puts letters. */
struct morgue_user {
    struct list node; /* the morgue's; begins alone (list_init) */
    void (*settled)(void *user, void *owner, uint32_t count);
    void (*room)(void *user); /* morgue_put said no before, and there is room now */
    void *user;
};

/* Borrows everything until morgue_free.  What is damaged is said.  Errors: dead_open's. */
int morgue_new(struct loop *loop, struct scribe *scribe, const struct disk *disk, int state_dir_fd,
               const char *destination, struct morgue **ret);

/* The scribe must not have any job of it.  NULL is fine. */
void morgue_free(struct morgue *m);

/* Whether these are the dead letters of this destination. */
bool morgue_is_of(const struct morgue *m, const char *destination);

/* Takes a copy of a letter; `owner` is settled later.  False if there is no room. */
bool morgue_put(struct morgue *m, const struct dead_letter *letter, struct morgue_user *u,
                void *owner);

/* Whether nothing waits. */
bool morgue_is_idle(const struct morgue *m);

/* `u` puts nothing any more, and is told nothing. */
void morgue_leave(struct morgue *m, struct morgue_user *u);

#endif
