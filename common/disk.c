#include "disk.h"

#include "buf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { DISK_READ_STEP = 64 * 1024 };

static const int64_t NS_PER_S = INT64_C(1000000000);

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

static ssize_t system_read_at(const struct disk *d, int fd, void *to, size_t len, uint64_t offset)
{
    ssize_t n = pread(fd, to, len, (off_t)offset);

    (void)d;
    return n < 0 ? -errno : n;
}

static int system_truncate(const struct disk *d, int fd, uint64_t len)
{
    (void)d;
    return ftruncate(fd, (off_t)len) < 0 ? -errno : 0;
}

static int system_size(const struct disk *d, int fd, uint64_t *ret)
{
    struct stat st;

    (void)d;
    if (fstat(fd, &st) < 0)
        return -errno;
    *ret = (uint64_t)st.st_size;
    return 0;
}

static int system_mkdir(const struct disk *d, int dir_fd, const char *name, mode_t mode)
{
    (void)d;
    return mkdirat(dir_fd, name, mode) < 0 ? -errno : 0;
}

static int system_written(const struct disk *d, int fd, int64_t *ret_ns)
{
    struct stat st;

    (void)d;
    if (fstat(fd, &st) < 0)
        return -errno;
    *ret_ns = (int64_t)st.st_mtim.tv_sec * NS_PER_S + st.st_mtim.tv_nsec;
    return 0;
}

static int system_set_written(const struct disk *d, int fd, int64_t ns)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {ns / NS_PER_S, ns % NS_PER_S}};

    (void)d;
    return futimens(fd, times) < 0 ? -errno : 0;
}

static int system_list(const struct disk *d, int dir_fd, int (*each)(void *user, const char *name),
                       void *user)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    (void)d;
    if (dir == NULL) {
        r = -errno;
        if (fd >= 0)
            close(fd);
        return r;
    }
    while (r == 0) {
        struct dirent *e;

        errno = 0;
        e = readdir(dir);
        if (e == NULL) {
            r = -errno;
            break;
        }
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            r = each(user, e->d_name);
    }
    closedir(dir);
    return r;
}

static int system_free_bytes(const struct disk *d, int fd, uint64_t *ret)
{
    struct statvfs st;

    (void)d;
    if (fstatvfs(fd, &st) < 0)
        return -errno;

    /* File systems without a fixed number of inodes say that they have 0 of 0. */
    *ret = st.f_files > 0 && st.f_favail == 0 ? 0 : (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}

static int system_allocate(const struct disk *d, int fd, uint64_t len)
{
    int r;

    (void)d;
    do
        r = fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)len) < 0 ? -errno : 0;
    while (r == -EINTR);
    return r;
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
    .read_at = system_read_at,
    .truncate = system_truncate,
    .size = system_size,
    .mkdir = system_mkdir,
    .written = system_written,
    .set_written = system_set_written,
    .list = system_list,
    .free_bytes = system_free_bytes,
    .allocate = system_allocate,
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

bool disk_is_full(int error)
{
    return error == -ENOSPC || error == -EDQUOT;
}
