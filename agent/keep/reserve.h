/* reserve -- room kept on a disk for the one file that must still be written when it is full.
 *
 *   1. It is a file with nothing in it but blocks behind its end (fallocate(2), FALLOC_FL_KEEP_SIZE),
 *      so what is written to it needs neither a block nor an inode of the file system, and counts to
 *      no quota that it has not counted to before.
 *   2. It is not given back to be taken again: what others write to a full disk, and they go on
 *      trying, would have it first.  It becomes the file that is written.
 *   3. Where the file system cannot set blocks aside it is full of zeros, and rule 2 is a hope.
 *
 * Errors: 0 or -errno.  Threads: any, one at a time for each directory.  Blocks: on a slow disk. */
#ifndef RESERVE_H
#define RESERVE_H

#include <stdint.h>

struct disk;

extern const char reserve_name[];

/* Makes it so large, if it is not there or smaller.  Of a disk that has not got all of it a new one
 * takes nothing, and one that grows what it can get.  Errors: -ENOSPC, -EDQUOT; open(2)'s,
 * fallocate(2)'s. */
int reserve_make(const struct disk *disk, int dir_fd, uint64_t bytes);

/* Opens it for appending from its beginning; gives a descriptor.  The caller renames `reserve_name`
 * to what it has made of it.  Errors: -ENOENT if there is none; open(2)'s, ftruncate(2)'s. */
int reserve_open(const struct disk *disk, int dir_fd);

#endif
