#include "keep/state.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STATE_MODE = 0700 };

/* mkdir -p */
static int make_path(const char *path)
{
    char part[PATH_MAX];
    size_t len = strlen(path);

    if (len >= sizeof part)
        return -ENAMETOOLONG;
    for (size_t i = 1; i <= len; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, path[i] == '\0' ? STATE_MODE : 0755) < 0 && errno != EEXIST &&
            errno != EISDIR) {
            struct stat st;
            int e = errno;

            /* On a read-only root what is there already needs no making. */
            if (stat(part, &st) < 0 || !S_ISDIR(st.st_mode))
                return -e;
        }
    }
    return 0;
}

static pid_t read_owner(int fd)
{
    char text[32] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);

    return n <= 0 ? 0 : (pid_t)strtol(text, NULL, 10);
}

static int take_lock(int fd, pid_t *ret_owner)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char text[32];
    int n;

    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        if (errno != EAGAIN && errno != EACCES)
            return -errno;
        *ret_owner = read_owner(fd);
        return -EBUSY;
    }
    /* For people and for the message above; the lock is the truth. */
    n = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) < 0)
        return 0;
    return 0;
}

int state_open(const char *path, struct state *ret, const char **ret_what, pid_t *ret_owner)
{
    struct state s = {-1, -1, -1};
    int r = make_path(path);

    *ret_what = NULL;
    *ret_owner = 0;
    if (r < 0)
        return r;
    s.dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.dir_fd < 0)
        return -errno;
    *ret_what = "lock";
    s.lock_fd = openat(s.dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    r = s.lock_fd < 0 ? -errno : take_lock(s.lock_fd, ret_owner);
    if (r < 0)
        goto out;
    *ret_what = "checkpoint";
    if (mkdirat(s.dir_fd, "checkpoint", STATE_MODE) < 0 && errno != EEXIST) {
        r = -errno;
        goto out;
    }
    s.checkpoint_fd = openat(s.dir_fd, "checkpoint", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.checkpoint_fd < 0) {
        r = -errno;
        goto out;
    }
    (void)fsync(s.dir_fd); /* the name "checkpoint" must survive a power cut with what is in it */
    *ret = s;
    return 0;
out:
    state_close(&s);
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
