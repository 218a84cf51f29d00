#include "disk.h"

#include "buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { DISK_READ_STEP = 64 * 1024 };

static int system_open(const struct disk *d, int dir_fd, const char *name, int flags, mode_t mode)
{
    int fd = openat(dir_fd, name, flags | O_CLOEXEC, mode);

    (void)d;
    return fd < 0 ? -errno : fd;
}

static ssize_t system_read(const struct disk *d, int fd, void *to, size_t len)
{
    ssize_t n = read(fd, to, len);

    (void)d;
    return n < 0 ? -errno : n;
}

static ssize_t system_write(const struct disk *d, int fd, const void *from, size_t len)
{
    ssize_t n = write(fd, from, len);

    (void)d;
    return n < 0 ? -errno : n;
}

static int system_sync(const struct disk *d, int fd)
{
    (void)d;
    return fdatasync(fd) < 0 ? -errno : 0;
}

static int system_sync_dir(const struct disk *d, int fd)
{
    (void)d;
    return fsync(fd) < 0 ? -errno : 0;
}

static int system_rename(const struct disk *d, int dir_fd, const char *from, const char *to)
{
    (void)d;
    return renameat(dir_fd, from, dir_fd, to) < 0 ? -errno : 0;
}

static int system_unlink(const struct disk *d, int dir_fd, const char *name)
{
    (void)d;
    return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
}

static int system_close(const struct disk *d, int fd)
{
    (void)d;
    return close(fd) < 0 ? -errno : 0;
}

const struct disk disk_system = {
    .open = system_open,
    .read = system_read,
    .write = system_write,
    .sync = system_sync,
    .sync_dir = system_sync_dir,
    .rename = system_rename,
    .unlink = system_unlink,
    .close = system_close,
};

int disk_write_all(const struct disk *d, int fd, struct slice s)
{
    while (s.len > 0) {
        ssize_t n = d->write(d, fd, s.ptr, s.len);

        if (n == -EINTR)
            continue;
        if (n < 0)
            return (int)n;
        s = slice_from(s, (size_t)n);
    }
    return 0;
}

int disk_read_all(const struct disk *d, int fd, struct buf *to)
{
    char step[DISK_READ_STEP];

    for (;;) {
        ssize_t n = d->read(d, fd, step, sizeof step);
        int r;

        if (n == -EINTR)
            continue;
        if (n <= 0)
            return (int)n;
        r = buf_append(to, (struct slice){step, (size_t)n});
        if (r < 0)
            return r;
    }
}
