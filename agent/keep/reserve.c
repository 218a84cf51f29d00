#include "keep/reserve.h"

#include "disk.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>

const char reserve_name[] = "reserve";

static const int reserve_flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK; /* no pipe waits */

/* Zeros up to `bytes`. */
static int fill(const struct disk *disk, int fd, uint64_t bytes)
{
    static const char zeros[64 * 1024];
    uint64_t size;
    int r = disk->size(disk, fd, &size);

    while (r == 0 && size < bytes) {
        size_t len = (size_t)MIN(bytes - size, (uint64_t)sizeof zeros);

        r = disk_write_all(disk, fd, (struct slice){zeros, len});
        size += len;
    }
    return r < 0 ? r
                 : disk->sync(disk, fd); /* where blocks are given late, that is when one learns */
}

static int allocate(const struct disk *disk, int fd, uint64_t bytes)
{
    int r = disk->allocate(disk, fd, bytes);

    return r == -EOPNOTSUPP || r == -ENOSYS ? fill(disk, fd, bytes) : r;
}

int reserve_make(const struct disk *disk, int dir_fd, uint64_t bytes)
{
    int fd = disk->open(disk, dir_fd, reserve_name, reserve_flags, 0), r;
    bool is_new = fd == -ENOENT;
    uint64_t free_bytes;

    if (is_new) {
        /* Asked first: blocks that are given and taken back again would be missing elsewhere for a
         * moment, each time that this is tried. */
        r = disk->free_bytes(disk, dir_fd, &free_bytes);
        if (r == 0 && free_bytes < bytes)
            r = -ENOSPC;
        if (r < 0)
            return r;
        fd = disk->open(disk, dir_fd, reserve_name, reserve_flags | O_CREAT, 0600);
    }
    if (fd < 0)
        return fd;
    r = allocate(disk, fd, bytes);
    (void)disk->close(disk, fd);
    if (r < 0 && is_new)
        (void)disk->unlink(disk, dir_fd, reserve_name);
    return r;
}

int reserve_open(const struct disk *disk, int dir_fd)
{
    int fd = disk->open(disk, dir_fd, reserve_name, reserve_flags, 0), r;
    uint64_t size;

    if (fd < 0)
        return fd;

    /* Zeros, or what somebody began to write who was killed: both take the blocks with them. */
    r = disk->size(disk, fd, &size);
    if (r == 0 && size > 0)
        r = disk->truncate(disk, fd, 0);
    if (r < 0) {
        (void)disk->close(disk, fd);
        return r;
    }
    return fd;
}
