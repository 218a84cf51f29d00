/* bad_disk -- a disk that goes bad while a program runs: what no file system here can be made to do.
 *
 * Preloaded (LD_PRELOAD).  The file that BAD_DISK names says what is wrong, at each call anew; if it
 * is empty, nothing is:
 *
 *     HOW ERRNO FOLDER
 *
 *     write     writes below the folder are short once, then fail
 *     sync      fdatasync and fsync fail
 *     full      the same as write, and no blocks can be set aside; what is set aside can be written
 *     readonly  whatever would change something fails */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILES_MAX = 4096 };

struct rule {
    char how[16], folder[PATH_MAX];
    int error;
};

/* Asked of the kernel, past our own functions.  False: nothing is wrong. */
static bool read_rule(struct rule *r)
{
    const char *name = getenv("BAD_DISK");
    char text[PATH_MAX + 64];
    long fd = name != NULL ? syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC, 0) : -1;
    long n;

    if (fd < 0)
        return false;
    n = syscall(SYS_read, (int)fd, text, sizeof text - 1);
    syscall(SYS_close, (int)fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return sscanf(text, "%15s %d %4095s", r->how, &r->error, r->folder) == 3;
}

static bool is_below(const struct rule *r, const char *path)
{
    size_t len = strlen(r->folder);

    return strncmp(path, r->folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool is_fd_below(const struct rule *r, int fd)
{
    char link[64], path[PATH_MAX];
    ssize_t n;

    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return false;
    path[n] = '\0';
    return is_below(r, path);
}

static bool is_name_below(const struct rule *r, int dir_fd, const char *name)
{
    char link[64], path[2 * PATH_MAX];
    ssize_t n = 0;

    if (name[0] == '/')
        return is_below(r, name);
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", dir_fd);
    n = dir_fd == AT_FDCWD ? -1 : readlink(link, path, PATH_MAX);
    if (n < 0)
        return false;
    (void)snprintf(path + n, sizeof path - (size_t)n, "/%s", name);
    return is_below(r, path);
}

static bool is(const struct rule *r, const char *how)
{
    return strcmp(r->how, how) == 0;
}

static int fail(const struct rule *r)
{
    errno = r->error;
    return -1;
}

/* What is set aside for a file behind its end. */
static bool has_own_room(int fd, size_t len)
{
    struct stat st;

    return fstat(fd, &st) == 0 &&
           (long long)st.st_blocks * 512 - (long long)st.st_size >= (long long)len;
}

ssize_t write(int fd, const void *from, size_t len)
{
    static bool was_short[FILES_MAX];
    struct rule r;

    if (read_rule(&r) && (is(&r, "write") || is(&r, "full") || is(&r, "readonly")) &&
        is_fd_below(&r, fd) && !(is(&r, "full") && has_own_room(fd, len))) {
        if (is(&r, "readonly") || len < 2 || fd >= FILES_MAX || was_short[fd])
            return fail(&r);
        was_short[fd] = true;
        len /= 2;
    } else if (fd < FILES_MAX) {
        was_short[fd] = false;
    }
    return syscall(SYS_write, fd, from, len);
}

static int maybe_sync(int fd, long call)
{
    struct rule r;

    if (read_rule(&r) && is(&r, "sync") && is_fd_below(&r, fd))
        return fail(&r);
    return (int)syscall(call, fd);
}

int fdatasync(int fd)
{
    return maybe_sync(fd, SYS_fdatasync);
}

int fsync(int fd)
{
    return maybe_sync(fd, SYS_fsync);
}

static bool is_refused(int dir_fd, const char *name, struct rule *r)
{
    return read_rule(r) && is(r, "readonly") && is_name_below(r, dir_fd, name);
}

int openat(int dir_fd, const char *name, int flags, ...)
{
    struct rule r;
    mode_t mode = 0;
    va_list more;

    va_start(more, flags);
    if ((flags & (O_CREAT | O_TMPFILE)) != 0)
        mode = va_arg(more, mode_t);
    va_end(more);
    if ((flags & O_ACCMODE) != O_RDONLY && is_refused(dir_fd, name, &r))
        return fail(&r);
    return (int)syscall(SYS_openat, dir_fd, name, flags, mode);
}

int mkdirat(int dir_fd, const char *name, mode_t mode)
{
    struct rule r;

    if (is_refused(dir_fd, name, &r) && faccessat(dir_fd, name, F_OK, 0) < 0)
        return fail(&r);
    return (int)syscall(SYS_mkdirat, dir_fd, name, mode);
}

int unlinkat(int dir_fd, const char *name, int flags)
{
    struct rule r;

    if (is_refused(dir_fd, name, &r))
        return fail(&r);
    return (int)syscall(SYS_unlinkat, dir_fd, name, flags);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    struct rule r;

    if (is_refused(from_fd, from, &r))
        return fail(&r);
    return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int ftruncate(int fd, off_t len)
{
    struct rule r;

    if (read_rule(&r) && is(&r, "readonly") && is_fd_below(&r, fd))
        return fail(&r);
    return (int)syscall(SYS_ftruncate, fd, len);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    struct rule r;

    if (read_rule(&r) && (is(&r, "readonly") || is(&r, "full")) && is_fd_below(&r, fd))
        return fail(&r);
    return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}
