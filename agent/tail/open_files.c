#include "run/log.h"
#include "tail/follower_inner.h"
#include "tail/identity.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int open_files_take(struct follower *f, struct source *s)
{
    int fd = s->fd;

    s->fd = -1;
    list_remove(&s->opened);
    f->descriptors->count--;
    return fd;
}

void open_files_close(struct follower *f, struct source *s)
{
    source_close_packed(s);
    if (s->fd >= 0)
        close(open_files_take(f, s));
}

void open_files_adopt(struct follower *f, struct source *s, int fd)
{
    s->fd = fd;
    list_append(&f->descriptors->opened, &s->opened);
    f->descriptors->count++;
}

bool open_files_path(int fd, const struct source_id *id, char to[PATH_MAX])
{
    char self[64];
    struct stat st;
    ssize_t n;

    /* The kernel knows what an open file is called now, and adds " (deleted)" if it is nothing. */
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    n = readlink(self, to, PATH_MAX - 1);
    if (n <= 0 || to[0] != '/')
        return false;
    to[n] = '\0';
    return lstat(to, &st) == 0 && st.st_ino == id->ino && st.st_dev == id->dev;
}

/* Whether `s` can be closed and opened again by its name; sees to it that it has the right one. */
static bool can_reopen(struct follower *f, struct source *s)
{
    char path[PATH_MAX];

    if (!is_nameless(s))
        return true;
    if (!open_files_path(s->fd, &s->id, path))
        return false;
    follower_say_path(f, s, path);
    return true;
}

void open_files_trim(const struct descriptors *d, const struct source *keep)
{
    /* First those that are read to their end; then, as at a start with more files than descriptors,
     * any that can be opened again; in the end even deleted ones, which is to read them out and to
     * wait no longer for what might still be written to them.  The lane's flows share the limit, so
     * a source may be another follower's. */
    enum { AT_END, REOPENABLE, DELETED, PASSES, AT_END_LOOKS = 32 };

    for (int pass = AT_END; pass < PASSES; pass++) {
        int looks = 0;

        LIST_EACH(&d->opened, node, after)
        {
            struct source *s = CONTAINER_OF(node, struct source, opened);

            if (d->count <= d->limit)
                return;
            if (pass == AT_END && looks++ == AT_END_LOOKS)
                break; /* at a start all wait to be read: then the oldest will do */
            if (s == keep || (pass == AT_END && !s->at_end))
                continue;
            if (pass != DELETED) {
                if (can_reopen(s->follower, s))
                    open_files_close(s->follower, s);
            } else if (!is_nameless(s) || can_reopen(s->follower, s)) {
                continue;
            } else if (!s->ending) {
                nameless_end(s->follower, s);
            } else if (s->at_end && s->follower->events.is_settled(s->follower->events.user, s)) {
                open_files_close(s->follower, s); /* who asked may hold it: the tick lets it go */
            }
        }
    }
}

int open_files_same(struct follower *f, const char *path, const struct source_id *id, int *ret_why)
{
    struct identity_facts facts;
    struct source_id now;
    int fd = identity_open(path, f->scope.follow_symlinks), r;

    r = fd < 0 ? fd : identity_read(f->digest, fd, &now, &facts);
    *ret_why = r;
    if (r == 0 && now.dev == id->dev && source_id_is_same_object(&now, id))
        return fd;
    if (fd >= 0)
        close(fd);
    return -ENOENT;
}

int open_files_by_handle(const struct source_id *id, const char *path)
{
    struct {
        struct file_handle handle;
        unsigned char bytes[SOURCE_HANDLE_MAX];
    } h = {.handle = {.handle_bytes = id->handle_len, .handle_type = id->handle_type}};
    char dir[PATH_MAX];
    int mount_fd, fd;

    if (id->handle_len == 0)
        return -ENOENT;
    memcpy(h.handle.f_handle, id->handle, id->handle_len);
    /* Any directory of that file system will do, if the nearest one is gone. */
    (void)snprintf(dir, sizeof dir, "%s", path);
    do {
        *strrchr(dir, '/') = '\0';
        mount_fd = open(dir[0] == '\0' ? "/" : dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    } while (mount_fd < 0 && dir[0] != '\0');
    if (mount_fd < 0)
        return -ENOENT;
    fd = open_by_handle_at(mount_fd, &h.handle, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    close(mount_fd);
    return fd < 0 ? -ENOENT : fd;
}

int open_files_search(struct follower *f, const struct source_id *id, const char *path)
{
    const struct neighbours_query query = {.path = path, .since_ns = INT64_MAX, .ino = id->ino};
    struct neighbours all;
    struct identity_facts facts;
    struct source_id now;
    int fd = -ENOENT;

    neighbours_find(&f->scope, &query, &all);
    for (size_t i = 0; i < all.count && fd < 0; i++) {
        struct neighbour *n = all.items[i];
        if (n->id.dev == id->dev && source_id_is_same_object(&n->id, id) &&
            neighbour_hold(&f->scope, n)) {
            fd = n->fd;
            n->fd = -1;
        }
    }
    neighbours_done(&all);
    if (fd >= 0)
        return fd;
    fd = open_files_by_handle(id, path);
    if (fd >= 0 && identity_read(f->digest, fd, &now, &facts) == 0 && now.ino == id->ino)
        return fd;
    if (fd >= 0)
        close(fd);
    return -ENOENT;
}

/* A nameless file that cannot be opened again: it is gone, and what it had with it. */
static void give_up(struct follower *f, struct source *s)
{
    if (!s->at_end || s->open)
        log_warn("flow %s: '%s': was removed before it was read to its end, and was not open; what "
                 "it had beyond byte %llu is lost",
                 follower_flow(f), s->path, (unsigned long long)s->at.offset);
    s->at_end = s->ending = s->given_up = true;
    follower_release(f, s);
}

int follower_open(struct follower *f, struct source *s)
{
    int fd, why;

    if (s->fd >= 0) {
        list_remove(&s->opened); /* the most recently read is the last one */
        list_append(&f->descriptors->opened, &s->opened);
        return 0;
    }
    if (s->truncated || s->given_up)
        return -ENOENT;
    fd = open_files_same(f, s->path, &s->id, &why);
    if (fd < 0 && is_nameless(s) && (why == 0 || why == -ENOENT || why == -ENOTDIR)) {
        fd = open_files_search(f, &s->id, s->path);
        if (fd < 0 && rewritten_find_copy(f, s))
            return 0;
        if (fd < 0)
            give_up(f, s);
    } else if (fd < 0 && s->name != NULL && (why == 0 || why == -ENOENT)) {
        /* Another file is called so now.  But one that may not be opened for now (EACCES, EMFILE)
         * would be looked at for ever: the event of its attributes or the next glance will do. */
        roster_look(f->roster, s->name);
    }
    if (fd < 0)
        return -ENOENT;
    open_files_adopt(f, s, fd);
    open_files_trim(f->descriptors, s);
    return 0;
}
