#include "tail/roster_inner.h"

#include "run/log.h"
#include "tail/glob.h"
#include "tail/identity.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    ROSTER_DEPTH_MAX = 64, /* directories below "/": a loop of links ends here */
    ROSTER_SELF_MASK = IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR,
    /* A directory does not tell that it was removed while we have a file of it open. */
    ROSTER_PASSAGE_MASK = ROSTER_SELF_MASK | IN_DELETE,
    ROSTER_DIR_MASK =
        ROSTER_SELF_MASK | IN_ATTRIB | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE,
};

/* Where inotify sees nothing, or only what this host itself does: statfs(2)'s magic numbers. */
static bool is_blind_type(long type)
{
    static const long blind[] = {
        0x6969 /* NFS */,       0x517B /* SMB */,      0xFF534D42L /* CIFS */,
        0xFE534D42L /* SMB2 */, 0x65735546 /* FUSE */, 0x01021997 /* 9P */,
        0x00C36400 /* CEPH */,  0x47504653 /* GPFS */, 0x0BD00BD0 /* LUSTRE */,
    };

    for (size_t i = 0; i < ARRAY_LEN(blind); i++)
        if (type == blind[i])
            return true;
    return false;
}

/* --- the tree --- */

static uint64_t dir_hash(const struct roster_dir *parent, struct slice text)
{
    return map_hash_slice((uint64_t)(uintptr_t)parent, text);
}

/* A directory's own name; of the root, "". */
static const char *dir_text(const struct roster_dir *d)
{
    return d->parent != NULL ? d->path + strlen(d->parent->path) + 1 : "";
}

struct roster_dir *dir_child(const struct roster_dir *d, const char *text, size_t len)
{
    const struct slice name = {text, len};
    struct map_node *node = map_find(&d->roster->dirs, dir_hash(d, name));

    for (; node != NULL; node = map_find_next(node)) {
        struct roster_dir *c = CONTAINER_OF(node, struct roster_dir, node);
        if (c->parent == d && slice_equal(slice_of(dir_text(c)), name))
            return c;
    }
    return NULL;
}

void dir_want(struct roster_dir *d, enum roster_work work)
{
    d->work = MAX(d->work, work);
    if (list_is_empty(&d->waiting))
        list_append(&d->roster->dirs_waiting, &d->waiting);
    loop_want_turn(d->roster->loop, &d->roster->turn);
}

/* A file was created that is called like a rotation of ours: somebody copies it, to truncate it
 * next.  If nothing of it was seen before, that copy is all that will be left. */
static void dir_copy_event(struct roster_dir *d, const char *text)
{
    char base[NAME_MAX + 1];
    struct name *n;

    if (!name_is_rotation(d, text, base))
        return;
    n = name_find(d, base);
    if (n == NULL)
        return;
    n->copied = true;
    roster_look(d->roster, n);
}

static bool may_enter(const struct roster_dir *d, const char *text)
{
    struct glob_states *states;

    if (glob_enter(d->roster->glob, d->states, text, &states) < 0)
        return true;
    free(states);
    return states != NULL;
}

/* Whether something that inotify calls no directory is, or was, a link to one that is meant. */
static bool leads_below(const struct roster_dir *d, uint32_t mask, const char *text)
{
    char path[PATH_MAX];
    struct stat st;

    if (dir_child(d, text, strlen(text)) != NULL)
        return true;
    return (mask & (IN_CREATE | IN_MOVED_TO)) != 0 && may_enter(d, text) &&
           snprintf(path, sizeof path, "%s/%s", d->path, text) < (int)sizeof path &&
           lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static void dir_event(struct watch_sub *s, uint32_t mask, const char *text)
{
    struct roster_dir *d = CONTAINER_OF(s, struct roster_dir, sub);
    struct roster *r = d->roster;
    struct name *n;
    bool meant;

    r->overflowed = r->overflowed || (mask & IN_Q_OVERFLOW) != 0;
    if ((mask & IN_Q_OVERFLOW) != 0 || ((mask & IN_ATTRIB) != 0 && text[0] == '\0')) {
        dir_want(d, ROSTER_ALL);
        return;
    }
    if ((mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) != 0) {
        dir_want(d->parent != NULL ? d->parent : d, ROSTER_SUBDIRS);
        return;
    }
    if ((mask & IN_ISDIR) != 0) {
        dir_want(d, ROSTER_SUBDIRS);
        return;
    }
    /* A link to a directory is no directory for inotify. */
    if ((mask & ~(uint32_t)(IN_MODIFY | IN_ATTRIB)) != 0 && leads_below(d, mask, text)) {
        d->peeked = false;
        dir_want(d, ROSTER_SUBDIRS);
    }
    n = name_find(d, text);
    meant = n != NULL || name_is_meant(d, text);
    if (n == NULL && meant)
        n = name_need(d, text);
    if ((mask & (IN_MOVED_FROM | IN_MOVED_TO)) != 0)
        move_note(d, n, mask, text);
    if (n == NULL) {
        if (meant)
            dir_want(d, ROSTER_ALL); /* out of memory */
        else if ((mask & IN_CREATE) != 0)
            dir_copy_event(d, text);
        return; /* another file's business, as most in /var/log are */
    }
    if ((mask & (IN_CREATE | IN_MOVED_TO)) != 0 && n->appearances < UINT16_MAX)
        n->appearances++;
    if ((mask & (IN_DELETE | IN_MOVED_FROM)) != 0 && n->departures < UINT16_MAX)
        n->departures++;
    n->modified = n->modified || (mask & IN_MODIFY) != 0;
    if (n->source != NULL && (mask & ~(uint32_t)IN_MODIFY) == 0 && list_is_empty(&n->looking))
        r->events.modified(r->events.user, n);
    else
        roster_look(r, n);
}

void dir_drop(struct roster_dir *d)
{
    struct roster *r = d->roster;

    LIST_EACH(&d->children, node, after)
    {
        dir_drop(CONTAINER_OF(node, struct roster_dir, in_parent));
    }
    LIST_EACH(&d->names, node, after)
    {
        struct name *n = CONTAINER_OF(node, struct name, in_dir);
        r->events.drop(r->events.user, n);
        roster_forget(r, n);
    }
    watch_remove(r->watch, &d->sub);
    r->blind_count -= d->blind;
    r->peek_count -= d->peek_until_ms != 0;
    if (d->parent != NULL)
        map_remove(&r->dirs, &d->node);
    list_remove(&d->in_parent);
    list_remove(&d->waiting);
    free(d->states);
    free(d->path);
    free(d->real);
    free(d);
}

int dir_new(struct roster *r, struct roster_dir *parent, const char *text,
            struct glob_states *states, struct roster_dir **ret)
{
    struct roster_dir *d = calloc(1, sizeof *d);

    if (d == NULL)
        return -ENOMEM;
    if (parent == NULL)
        d->path = strdup("");
    else if (asprintf(&d->path, "%s/%s", parent->path, text) < 0)
        d->path = NULL;
    if (d->path == NULL) {
        free(d);
        return -ENOMEM;
    }
    list_init(&d->in_parent);
    list_init(&d->children);
    list_init(&d->names);
    list_init(&d->waiting);
    d->roster = r;
    d->parent = parent;
    d->depth = parent == NULL ? 0 : parent->depth + 1;
    d->states = states;
    d->sub.event = dir_event;
    if (parent != NULL) {
        if (map_insert(&r->dirs, &d->node, dir_hash(parent, slice_of(text))) < 0) {
            free(d->path);
            free(d);
            return -ENOMEM;
        }
        list_append(&parent->children, &d->in_parent);
    }
    *ret = d;
    return 0;
}

void dir_say_blind(struct roster_dir *d, const char *why)
{
    if (!d->blind)
        d->roster->blind_count++;
    d->blind = true;
    roster_set_timer(d->roster);
    if (d->roster->said_blind)
        return;
    d->roster->said_blind = true;
    log_warn("flow %s: '%s' cannot be watched (%s); looking there once a second instead%s",
             d->roster->settings.flow, d->path[0] == '\0' ? "/" : d->path, why,
             strcmp(why, strerrordesc_np(ENOSPC)) == 0   ? "; raise fs.inotify.max_user_watches"
             : strcmp(why, strerrordesc_np(EMFILE)) == 0 ? "; raise fs.inotify.max_user_instances"
                                                         : "");
}

/* Whether all that matters in a directory are subdirectories that are there and watched themselves:
 * then what else happens in it (in a busy /tmp, say) need not wake us.  A symbolic link may lead
 * elsewhere without the directory behind it noticing, so that one is not enough. */
static bool dir_is_passage(struct roster_dir *d, int fd)
{
    for (size_t i = 0; i < d->states->count; i++) {
        bool last;
        const char *text = glob_literal(d->roster->glob, d->states, i, &last);
        const struct roster_dir *child =
            text == NULL || last ? NULL : dir_child(d, text, strlen(text));
        struct stat st;

        if (child == NULL || child->sub.entry == NULL ||
            fstatat(fd, text, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
            st.st_ino != child->ino)
            return false;
    }
    return true;
}

/* Subscribes to what `mask` says, if that is more than what we are subscribed to.  What happens in
 * between is seen by the listing that follows. */
static void dir_watch(struct roster_dir *d, int fd, uint32_t mask)
{
    char path[64];
    struct statfs fs;
    int r;

    if (d->sub.entry == NULL)
        d->mask = 0;
    if ((mask & ~d->mask) == 0)
        return; /* never less: what was busy once may be again */
    watch_remove(d->roster->watch, &d->sub);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd); /* this one, whatever its name */
    r = watch_add(d->roster->watch, &d->sub, path, mask);
    if (r == -ENOENT) /* no /proc here */
        r = watch_add(d->roster->watch, &d->sub, d->path[0] == '\0' ? "/" : d->path, mask);
    if (r < 0) {
        dir_say_blind(d, strerrordesc_np(-r));
        return;
    }
    d->mask = mask;
    if (fstatfs(fd, &fs) == 0 && is_blind_type((long)fs.f_type))
        dir_say_blind(d, "a network or user-space file system");
    else if (d->blind) {
        d->roster->blind_count--;
        d->blind = false;
    }
}

/* Says once that a link to a directory is not followed. */
static void dir_say_link(struct roster_dir *d, int fd, const char *text)
{
    uint64_t hash = dir_hash(d, slice_of(text));
    struct roster *r = d->roster;
    struct stat target;

    for (size_t i = 0; i < ARRAY_LEN(r->said_links); i++)
        if (r->said_links[i] == hash)
            return;
    if (fstatat(fd, text, &target, 0) < 0 || !S_ISDIR(target.st_mode))
        return;
    r->said_links[r->said_links_next++ % ARRAY_LEN(r->said_links)] = hash;
    log_warn("flow %s: '%s/%s': is a symbolic link to a directory; not followed, set "
             "follow_symlinks = true if it should be",
             r->settings.flow, d->path, text);
}

/* Whether the entry is a directory that may be entered, or a link to one: *ret says which. */
static bool dir_may_visit(struct roster_dir *d, int fd, const char *text, struct stat *ret)
{
    const struct roster_settings *s = &d->roster->settings;

    if (fstatat(fd, text, ret, s->follow_symlinks ? 0 : AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT && s->follow_symlinks && !d->peeked && may_enter(d, text) &&
            fstatat(fd, text, ret, AT_SYMLINK_NOFOLLOW) == 0) {
            d->peeked = true; /* a link that leads nowhere, yet */
            dir_peek(d);
        }
        return false;
    }
    if (S_ISLNK(ret->st_mode) && may_enter(d, text))
        dir_say_link(d, fd, text);
    if (!S_ISDIR(ret->st_mode))
        return false;
    if (s->own.ino != 0 && ret->st_ino == s->own.ino && ret->st_dev == s->own.dev) {
        if (!d->said_own && may_enter(d, text))
            log_warn("flow %s: '%s/%s': is where kinetail keeps its own state; not followed",
                     s->flow, d->path, text);
        d->said_own = true;
        return false;
    }

    /* Links in a circle: every way around it would be another directory. */
    for (const struct roster_dir *up = d; s->follow_symlinks && up != NULL; up = up->parent)
        if (up->ino == ret->st_ino && up->dev == ret->st_dev)
            return false;
    return true;
}

/* Where a directory really is, if a link leads there. */
static char *dir_find_real(const struct roster_dir *parent, int fd, const char *text)
{
    char self[64], real[PATH_MAX], *path = NULL;
    struct stat st;
    ssize_t n;
    int child;

    if (parent->real == NULL &&
        (fstatat(fd, text, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISLNK(st.st_mode)))
        return NULL;
    child = openat(fd, text, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (child < 0)
        return NULL;
    (void)snprintf(self, sizeof self, "/proc/self/fd/%d", child);
    n = readlink(self, real, sizeof real);
    if (n > 0 && n < (ssize_t)sizeof real)
        path = strndup(real, (size_t)n);
    close(child);
    return path;
}

static void dir_say_memory(struct roster_dir *d, const char *text)
{
    log_error("flow %s: '%s/%s': out of memory; trying again in a second", d->roster->settings.flow,
              d->path, text);
    roster_look_again(d->roster);
}

/* Sees whether the subdirectory `text` is there and meant, and what became of it. */
static void dir_visit_child(struct roster_dir *d, int fd, const char *text)
{
    struct roster *r = d->roster;
    struct roster_dir *child = dir_child(d, text, strlen(text));
    struct glob_states *states;
    struct stat st;

    if (!dir_may_visit(d, fd, text, &st)) {
        if (child != NULL)
            dir_drop(child);
        return;
    }
    if (child != NULL && child->ino == st.st_ino && child->dev == st.st_dev) {
        /* Without its watch it was removed and made anew meanwhile: ext4 gives the inode number to
         * the next one at once. */
        if (child->sub.entry == NULL && !child->blind) {
            child->scanned = false;
            dir_scan(child, ROSTER_ALL);
        }
        return;
    }
    if (child != NULL)
        dir_drop(child); /* another one is called so now */
    if (d->depth >= ROSTER_DEPTH_MAX)
        return;
    if (glob_enter(r->glob, d->states, text, &states) < 0) {
        dir_say_memory(d, text);
        return;
    }
    if (states == NULL)
        return;
    if (dir_new(r, d, text, states, &child) < 0) {
        dir_say_memory(d, text);
        free(states);
        return;
    }
    child->dev = st.st_dev;
    child->ino = st.st_ino;
    if (r->settings.follow_symlinks)
        child->real = dir_find_real(d, fd, text);
    dir_scan(child, ROSTER_ALL);
}

/* A name is there that is not meant: it may be a rotation of one that is. */
static void dir_meet_stray(struct roster_dir *d, const char *text)
{
    char base[NAME_MAX + 1];

    if ((!d->scanned || d->blind || d->roster->overflowed) && name_is_rotation(d, text, base))
        d->roster->events.stray(d->roster->events.user, d->path, text, !d->scanned);
}

/* A name is there: remembers it, to be looked at when the listing is over. */
static void dir_meet_name(struct roster_dir *d, const char *text)
{
    struct name *n = name_find(d, text);

    if (n == NULL && !name_is_meant(d, text)) {
        dir_meet_stray(d, text);
        return;
    }
    if (n == NULL)
        n = name_need(d, text);
    if (n == NULL)
        dir_say_memory(d, text);
    else
        n->listed = true;
}

/* Errors: NULL, and errno. */
static DIR *open_list(int fd)
{
    int list_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;
    DIR *list = list_fd < 0 ? NULL : fdopendir(list_fd);

    if (list == NULL && list_fd >= 0) {
        error = errno;
        close(list_fd);
        errno = error;
    }
    return list;
}

static void dir_list(struct roster_dir *d, int fd, enum roster_work work)
{
    DIR *list = open_list(fd);

    if (list == NULL) {
        if (!d->said_list)
            log_warn("flow %s: '%s': cannot be listed: %s; its files are not followed",
                     d->roster->settings.flow, d->path, strerrordesc_np(errno));
        d->said_list = true;
        return;
    }
    d->said_list = false;
    for (struct dirent *e; (e = readdir(list)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (e->d_type == DT_DIR || e->d_type == DT_LNK || e->d_type == DT_UNKNOWN)
            dir_visit_child(d, fd, e->d_name);
        if (e->d_type != DT_DIR && work == ROSTER_ALL)
            dir_meet_name(d, e->d_name);
    }
    closedir(list);
}

/* Where all names are written literally, a listing is only for what they were rotated to. */
static void dir_list_strays(struct roster_dir *d, int fd)
{
    DIR *list = open_list(fd);

    for (struct dirent *e; list != NULL && (e = readdir(list)) != NULL;)
        if (e->d_type != DT_DIR && !name_is_meant(d, e->d_name))
            dir_meet_stray(d, e->d_name);
    if (list != NULL)
        closedir(list);
}

/* Names written literally need no list, and work in a directory that may not be listed. */
static void dir_try_literals(struct roster_dir *d, int fd, enum roster_work work)
{
    for (size_t i = 0; i < d->states->count; i++) {
        bool last;
        const char *text = glob_literal(d->roster->glob, d->states, i, &last);

        if (text == NULL)
            continue;
        if (!last)
            dir_visit_child(d, fd, text);
        else if (work == ROSTER_ALL && faccessat(fd, text, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            dir_meet_name(d, text);
    }
}

/* Looks at all names: first at those that are gone, so that a file that was renamed has lost its old
 * name before its new one is looked at. */
static void dir_look(struct roster_dir *d)
{
    for (int there = 0; there <= 1; there++)
        LIST_EACH(&d->names, node, after)
        {
            struct name *n = CONTAINER_OF(node, struct name, in_dir);

            if (n->listed == (there == 1))
                d->roster->events.look(d->roster->events.user, n); /* it may be forgotten by this */
        }
}

/* Opens a directory without following any link but those that may be. */
static int dir_open(const struct roster_dir *d)
{
    int fd =
        identity_open_dir(d->path[0] == '\0' ? "/" : d->path, d->roster->settings.follow_symlinks);
    struct stat st;

    if (fd >= 0 && d->parent != NULL &&
        (fstat(fd, &st) < 0 || st.st_ino != d->ino || st.st_dev != d->dev)) {
        close(fd);
        return -ESTALE; /* another one is called so now; its parent will see it */
    }
    return fd;
}

void dir_scan(struct roster_dir *d, enum roster_work work)
{
    const struct glob *glob = d->roster->glob;
    bool has_files = glob_has_files(glob, d->states);
    bool needs_list = glob_needs_list(glob, d->states);
    int fd = dir_open(d);

    if (fd < 0)
        return; /* it is gone; its parent will say so */
    if (work == ROSTER_ALL)
        LIST_EACH(&d->names, node, after)
        {
            CONTAINER_OF(node, struct name, in_dir)->listed = false;
        }

    /* Watched before it is listed; a passage only once it is known to be one. */
    if (!has_files && !needs_list)
        dir_try_literals(d, fd, work);
    if (!has_files && !needs_list && dir_is_passage(d, fd))
        dir_watch(d, fd, ROSTER_PASSAGE_MASK);
    else
        dir_watch(d, fd, has_files ? ROSTER_DIR_MASK | IN_MODIFY : ROSTER_DIR_MASK);
    LIST_EACH(&d->children, node, after)
    {
        struct roster_dir *c = CONTAINER_OF(node, struct roster_dir, in_parent);
        char text[NAME_MAX + 1]; /* the child may be dropped while its name is still wanted */

        (void)snprintf(text, sizeof text, "%s", dir_text(c));
        dir_visit_child(d, fd, text);
    }
    if (needs_list)
        dir_list(d, fd, work);
    else
        dir_try_literals(d, fd, work);
    if (!needs_list && has_files && !d->scanned)
        dir_list_strays(d, fd);
    d->scanned = true;
    if (work == ROSTER_ALL)
        dir_look(d);
    close(fd);
}
