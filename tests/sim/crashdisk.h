/* crashdisk -- a disk in memory that can lose its power: behind the seam of disk.h.
 *
 * What was not synced when the power went may be there, or not, or in part.  Of all that POSIX
 * allows and file systems do:
 *
 *   1. A file's content and size are durable by sync, a directory's entries by sync_dir of it.
 *      One does not make the other durable: a synced file may have no name, a name no content.
 *   2. Of the changes since then any subset is there after a crash; a rename is one change.
 *   3. A write may be there in part: cut at any byte, or as any set of its 512-byte sectors.
 *   4. Where a file is longer than what was written of it there are old bytes, zeros, what
 *      deleted files had in those blocks, or garbage.
 *   5. What a failed sync has lost is lost, although it can be read until the crash (Linux).
 *   6. When a file was written last is durable with its size, and otherwise maybe.
 *
 * One disk never writes to another.  Descriptors are no real ones: they begin at CRASHDISK_FD. */
#ifndef SIM_CRASHDISK_H
#define SIM_CRASHDISK_H

#include "disk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CRASHDISK_FD = 1 << 20,
    CRASHDISK_ROOT = CRASHDISK_FD, /* the root directory, always open */
};

struct crashdisk;

/* An empty disk, or a copy of another one, unsynced changes and all, without its descriptors, its
 * watcher and its fault.  Ends the program if there is no memory. */
struct crashdisk *crashdisk_new(void);
struct crashdisk *crashdisk_copy(const struct crashdisk *d);
void crashdisk_free(struct crashdisk *d); /* NULL is fine */

const struct disk *crashdisk_disk(struct crashdisk *d);

/* `before` is told the name of each call that changes or syncs something before it does. */
void crashdisk_watch(struct crashdisk *d, void (*before)(void *user, const char *call), void *user);

/* The kernel writes out all it has, as it does now and then: nothing waits for a sync. */
void crashdisk_flush(struct crashdisk *d);

/* The process is gone: its descriptors are closed, all else is as it was. */
void crashdisk_kill(struct crashdisk *d);

/* The clock by which files are written, the same for all disks: moves on by a little with each
 * call, and begins anew with crashdisk_new. */
int64_t crashdisk_now_ns(void);

/* Bytes of all files that have a name, with what is set aside for them; and how many there may
 * be (UINT64_MAX at first), beyond which a write is short, and the next -ENOSPC. */
uint64_t crashdisk_used(const struct crashdisk *d);
void crashdisk_limit(struct crashdisk *d, uint64_t bytes);

/* Blocks that are set aside have nothing in them, as ext4's and XFS' have; otherwise, what any
 * may. */
void crashdisk_clear(struct crashdisk *d);

/* After `until` more calls (of those that a watcher is told of, and reads) so many fail with
 * `error`. A write that fails writes some; a failed sync loses some. */
struct crashdisk_fault {
    uint64_t until, times;
    int error;
};
void crashdisk_fault(struct crashdisk *d, struct crashdisk_fault fault, uint64_t seed);
uint64_t crashdisk_failed(const struct crashdisk *d); /* how many calls did, ever */

/* --- the crash --- */

/* How many changes are not synced. */
size_t crashdisk_pending(const struct crashdisk *d);

/* How long the n-th of them is: bytes of a write, 0 of all else. */
size_t crashdisk_pending_len(const struct crashdisk *d, size_t n);

enum crash_mode {
    CRASH_NONE,   /* nothing that was not synced is there */
    CRASH_ALL,    /* all of it is */
    CRASH_UPTO,   /* the first `which` of them are */
    CRASH_ONLY,   /* only this one is */
    CRASH_BUT,    /* all but this one are */
    CRASH_TORN,   /* the first `which`, `at` bytes of the next; the size is the seed's choice */
    CRASH_RANDOM, /* any, in any way: the seed's choice */
};

struct crash {
    enum crash_mode mode;
    size_t which, at;
    uint64_t seed;
};

/* Gives a disk as this one may be found after a crash now, with everything on it durable. */
struct crashdisk *crashdisk_crash(const struct crashdisk *d, struct crash how);

/* What is on it, as a number: names and contents. */
uint64_t crashdisk_digest(const struct crashdisk *d);

/* Tells all names and sizes, and what is not synced, for a person. */
void crashdisk_print(const struct crashdisk *d);

#endif
