#include "keep/state.h"

#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { STATE_MODE = 0700 };

static const char lock_name[] = "lock";

/* Makes the names in a directory durable.  Not all file systems can, and not every parent may be
 * read by us: what goes wrong here is no reason not to run. */
static void keep_names(const struct disk *disk, const char *path)
{
    int fd = disk->open(disk, AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0)
        return;
    (void)disk->sync_dir(disk, fd);
    (void)disk->close(disk, fd);
}

/* Makes one directory of a path, and its name durable.  The last one's also if it was there already:
 * who made it may have been killed before that. */
static int make_part(const struct disk *disk, const char *part, bool last)
{
    const char *slash = strrchr(part, '/');
    char parent[PATH_MAX] = ".";
    int r = disk->mkdir(disk, AT_FDCWD, part, last ? STATE_MODE : 0755), fd;

    if (r < 0 && r != -EEXIST && r != -EISDIR) {
        /* On a read-only root what is there already needs no making. */
        fd = disk->open(disk, AT_FDCWD, part, O_PATH | O_DIRECTORY, 0);
        if (fd < 0)
            return r;
        (void)disk->close(disk, fd);
    }
    if (r < 0 && !last)
        return 0;
    if (slash != NULL)
        (void)snprintf(parent, sizeof parent, "%.*s", slash == part ? 1 : (int)(slash - part),
                       part);
    keep_names(disk, parent);
    return 0;
}

/* mkdir -p */
static int make_path(const struct disk *disk, const char *path)
{
    char part[PATH_MAX];
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    if (len >= sizeof part)
        return -ENAMETOOLONG;
    for (size_t i = 1; i <= len; i++) {
        int r;

        if (i < len && (path[i] != '/' || path[i - 1] == '/'))
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        r = make_part(disk, part, i == len);
        if (r < 0)
            return r;
    }
    return 0;
}

static pid_t read_owner(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);

    return n <= 0 ? 0 : (pid_t)strtol(text, NULL, 10);
}

static int take_lock(int fd, bool is_read_only, pid_t *ret_owner)
{
    struct flock lock = {.l_type = is_read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    bool is_taken = fcntl(fd, F_OFD_SETLK, &lock) < 0;
    char text[32];
    int n;

    if (!is_taken && is_read_only)
        is_taken = flock(fd, LOCK_EX | LOCK_NB) < 0;
    if (is_taken) {
        if (errno != EAGAIN && errno != EACCES)
            return -errno;
        *ret_owner = read_owner(fd);
        return -EBUSY;
    }
    if (is_read_only)
        return 0;

    /* For people and for the message above; the lock is the truth. */
    n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) < 0)
        return 0;
    return 0;
}

/* A disk that became read-only is no reason not to start: what is there can be read, files can be
 * followed and sent, and it is written again when it can be. */
static int open_lock(int dir_fd, bool *ret_is_read_only)
{
    int fd = openat(dir_fd, lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    *ret_is_read_only = fd < 0 && errno == EROFS;
    if (fd < 0 && errno == EROFS) {
        fd = openat(dir_fd, lock_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno == ENOENT)
            return -EROFS;
    }
    return fd < 0 ? -errno : fd;
}

int state_room(const struct disk *disk, int dir_fd, const char *name)
{
    int r = disk->mkdir(disk, dir_fd, name, STATE_MODE), fd;

    if (r < 0 && r != -EEXIST)
        return r;
    fd = disk->open(disk, dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd >= 0)
        (void)disk->sync_dir(disk, dir_fd); /* also if it was there: see make_part */
    return fd;
}

int state_open(const struct disk *disk, const char *path, struct state *ret, const char **ret_what,
               pid_t *ret_owner)
{
    struct state s = {-1, -1, -1};
    bool is_read_only;
    int r = make_path(disk, path);

    *ret_what = NULL;
    *ret_owner = 0;
    if (r < 0)
        return r;
    s.dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.dir_fd < 0)
        return -errno;
    *ret_what = lock_name;
    r = s.lock_fd = open_lock(s.dir_fd, &is_read_only);
    if (r >= 0)
        r = take_lock(s.lock_fd, is_read_only, ret_owner);
    if (r < 0)
        goto out;
    *ret_what = "checkpoint";
    r = s.checkpoint_fd = state_room(disk, s.dir_fd, "checkpoint");
    if (r < 0)
        goto out;
    *ret = s;
    return 0;
out:
    state_close(&s);
    return r;
}

int state_is_used(int dir_fd, pid_t *ret_owner)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = openat(dir_fd, "lock", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), r = 0;

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        r = -errno;
    else if (lock.l_type != F_UNLCK) {
        *ret_owner = read_owner(fd);
        r = 1;
    }
    close(fd);
    return r;
}

void state_close(struct state *s)
{
    if (s->checkpoint_fd >= 0)
        close(s->checkpoint_fd);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    if (s->dir_fd >= 0)
        close(s->dir_fd);
    *s = (struct state){-1, -1, -1};
}

int state_folder(const char *destination, char to[NAME_MAX + 1])
{
    size_t len = strlen(destination);

    if (len > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(to, destination, len + 1);
    for (char *slash = to; (slash = strchr(slash, '/')) != NULL;)
        *slash = '_';
    return 0;
}
