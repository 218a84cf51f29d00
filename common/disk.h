/* disk -- the few calls by which our own state reaches a disk, as a seam for tests.
 *
 * Every function returns what the call of its name would, but -errno instead of -1.  `write` may be
 * short, as write(2) may.  disk_write_all and disk_read_all are made of them.
 *
 * Threads: any; a disk has no state of its own. */
#ifndef DISK_H
#define DISK_H

#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct buf;

struct disk {
    int (*open)(const struct disk *d, int dir_fd, const char *name, int flags, mode_t mode);
    ssize_t (*read)(const struct disk *d, int fd, void *to, size_t len);
    ssize_t (*write)(const struct disk *d, int fd, const void *from, size_t len);
    int (*sync)(const struct disk *d, int fd);     /* fdatasync(2) */
    int (*sync_dir)(const struct disk *d, int fd); /* fsync(2) of a directory */
    int (*rename)(const struct disk *d, int dir_fd, const char *from, const char *to);
    int (*unlink)(const struct disk *d, int dir_fd, const char *name);
    int (*close)(const struct disk *d, int fd);
    ssize_t (*read_at)(const struct disk *d, int fd, void *to, size_t len, uint64_t offset);
    int (*truncate)(const struct disk *d, int fd, uint64_t len); /* ftruncate(2) */
    int (*size)(const struct disk *d, int fd, uint64_t *ret);    /* fstat(2): bytes */
    int (*mkdir)(const struct disk *d, int dir_fd, const char *name, mode_t mode);

    /* When the content was written last, in ns since 1970; and saying so: fstat(2), futimens(2). */
    int (*written)(const struct disk *d, int fd, int64_t *ret_ns);
    int (*set_written)(const struct disk *d, int fd, int64_t ns);

    /* Tells `each` the names in a directory, in no order, without "." and "..".  `dir_fd` is only
     * borrowed and keeps its position.  Errors: readdir(3)'s, or what `each` returned, if not 0. */
    int (*list)(const struct disk *d, int dir_fd, int (*each)(void *user, const char *name),
                void *user);

    /* Sets room aside for the first `len` bytes of a file, whose size stays what it is: fallocate(2)
     * with FALLOC_FL_KEEP_SIZE.  -EOPNOTSUPP where the file system cannot. */
    int (*allocate)(const struct disk *d, int fd, uint64_t len);

    /* What we may still write to the file system of `fd`: statvfs(3), in bytes; 0 as well if it has
     * no inode left. */
    int (*free_bytes)(const struct disk *d, int fd, uint64_t *ret);
};

extern const struct disk disk_system;

/* Writes all of `s`.  On an error some of it may be there. */
int disk_write_all(const struct disk *d, int fd, struct slice s);

/* Appends what can be read to `to`.  Errors: -EMSGSIZE if it is more than the buffer may hold. */
int disk_read_all(const struct disk *d, int fd, struct buf *to);

/* Whether this error says that there is no room: no blocks or inodes left, or none for this user. */
bool disk_is_full(int error);

#endif
