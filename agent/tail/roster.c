#include "tail/roster.h"

#include "run/log.h"
#include "run/loop.h"
#include "tail/generation.h"
#include "tail/glob.h"
#include "tail/watch.h"
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
    ROSTER_POLL_MS = 1000,        /* where inotify is blind */
    ROSTER_GLANCE_MS = 60 * 1000, /* everywhere, for what nobody thought of */
    ROSTER_DEPTH_MAX = 64,        /* directories below "/": a loop of links ends here */
    ROSTER_SELF_MASK = IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR,
    ROSTER_DIR_MASK =
        ROSTER_SELF_MASK | IN_ATTRIB | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE,
};

/* What is to be done in a directory in the next turn; more includes less. */
enum roster_work { ROSTER_NOTHING, ROSTER_SUBDIRS, ROSTER_ALL };

struct roster_dir {
    struct roster *roster;
    struct roster_dir *parent;
    struct list in_parent, children, names;
    struct list waiting; /* in roster.dirs_waiting, or alone */
    enum roster_work work;
    struct glob_states *states; /* owns */
    struct watch_sub sub;
    uint32_t mask; /* of the events that we are subscribed to */
    uint64_t dev, ino;
    uint32_t depth;
    bool literal; /* its name is written in a pattern */
    bool blind;   /* inotify says nothing of it */
    char *path;   /* owns; "/" is "" */
};

struct roster {
    struct loop *loop;
    struct watch *watch;
    struct roster_settings settings;
    struct roster_events events;
    struct glob *glob;
    struct glob_excludes *excludes;
    struct roster_dir *root;
    struct map names;
    struct list dirs_waiting, names_waiting;
    struct loop_turn turn;
    struct loop_timer timer;
    size_t blind_count;
    uint64_t next_glance_ms;
    bool said_blind, starting;
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

/* --- names --- */

static uint64_t name_hash(const struct roster_dir *d, const char *text)
{
    return map_hash_slice((uint64_t)(uintptr_t)d, slice_of(text));
}

static struct name *name_find(const struct roster_dir *d, const char *text)
{
    struct map_node *node = map_find(&d->roster->names, name_hash(d, text));

    for (; node != NULL; node = map_find_next(node)) {
        struct name *n = CONTAINER_OF(node, struct name, node);
        if (n->dir == d && strcmp(n->text, text) == 0)
            return n;
    }
    return NULL;
}

static struct name *name_need(struct roster_dir *d, const char *text)
{
    struct name *n = name_find(d, text);
    size_t size = strlen(text) + 1;

    if (n != NULL)
        return n;
    n = calloc(1, sizeof *n + size);
    if (n == NULL)
        return NULL;
    list_init(&n->in_dir);
    list_init(&n->looking);
    list_init(&n->same);
    n->dir = d;
    memcpy(n->text, text, size);
    if (map_insert(&d->roster->names, &n->node, name_hash(d, text)) < 0) {
        free(n);
        return NULL;
    }
    list_append(&d->names, &n->in_dir);
    return n;
}

void roster_forget(struct roster *r, struct name *n)
{
    map_remove(&r->names, &n->node);
    list_remove(&n->in_dir);
    list_remove(&n->looking);
    free(n);
}

int roster_path(const struct name *n, char to[PATH_MAX])
{
    int len = snprintf(to, PATH_MAX, "%s/%s", n->dir->path, n->text);

    return len < 0 || len >= PATH_MAX ? -ENAMETOOLONG : 0;
}

void roster_look(struct roster *r, struct name *n)
{
    if (list_is_empty(&n->looking))
        list_append(&r->names_waiting, &n->looking);
    loop_want_turn(r->loop, &r->turn);
}

static bool name_is_meant(const struct roster_dir *d, const char *text)
{
    char path[PATH_MAX];

    if (!glob_matches(d->roster->glob, d->states, text))
        return false;
    if (snprintf(path, sizeof path, "%s/%s", d->path, text) >= (int)sizeof path)
        return false;
    return !glob_excludes_match(d->roster->excludes, path, text);
}

/* For generation_has_base: whether a base is a name of this directory that is meant. */
struct base_search {
    struct roster_dir *dir;
    char found[NAME_MAX + 1];
};

static bool is_meant_base(void *user, struct slice base)
{
    struct base_search *s = user;

    (void)snprintf(s->found, sizeof s->found, "%.*s", SLICE_ARG(base));
    return name_is_meant(s->dir, s->found);
}

/* Whether `text` is called like a rotation of a name that is meant; then s->found is that name. */
static bool is_rotation(struct roster_dir *d, const char *text, struct base_search *s)
{
    s->dir = d;
    return generation_has_base(slice_of(text), is_meant_base, s);
}

static void name_look_now(struct roster_dir *d, const char *text)
{
    struct name *n;

    if (!name_is_meant(d, text)) {
        struct base_search search;

        if (d->roster->starting && is_rotation(d, text, &search))
            d->roster->events.stray(d->roster->events.user, d->path, text);
        return;
    }
    n = name_need(d, text);
    if (n == NULL) {
        log_error("flow %s: '%s/%s': out of memory; trying again in a minute",
                  d->roster->settings.flow, d->path, text);
        return;
    }
    d->roster->events.look(d->roster->events.user, n);
}

/* --- directories --- */

static void dir_want(struct roster_dir *d, enum roster_work work)
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
    struct base_search search;
    struct name *n;

    if (!is_rotation(d, text, &search))
        return;
    n = name_find(d, search.found);
    if (n == NULL)
        return;
    n->appearances++;
    roster_look(d->roster, n);
}

static void dir_event(struct watch_sub *s, uint32_t mask, const char *text)
{
    struct roster_dir *d = CONTAINER_OF(s, struct roster_dir, sub);
    struct roster *r = d->roster;
    struct name *n;

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
    n = name_find(d, text);
    if (n == NULL) {
        /* Another file's business, as most in /var/log are. */
        if (!name_is_meant(d, text)) {
            if ((mask & IN_CREATE) != 0)
                dir_copy_event(d, text);
            return;
        }
        n = name_need(d, text);
        if (n == NULL) {
            dir_want(d, ROSTER_ALL);
            return;
        }
    }
    if ((mask & (IN_CREATE | IN_MOVED_TO)) != 0)
        n->appearances++;
    n->modified = n->modified || (mask & IN_MODIFY) != 0;
    if (n->source != NULL && (mask & ~(uint32_t)IN_MODIFY) == 0 && list_is_empty(&n->looking))
        r->events.modified(r->events.user, n);
    else
        roster_look(r, n);
}

static void dir_drop(struct roster_dir *d)
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
    list_remove(&d->in_parent);
    list_remove(&d->waiting);
    free(d->states);
    free(d->path);
    free(d);
}

/* Takes `states` if it succeeds. */
static int dir_new(struct roster *r, struct roster_dir *parent, const char *text,
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
    if (parent != NULL)
        list_append(&parent->children, &d->in_parent);
    *ret = d;
    return 0;
}

static void dir_say_blind(struct roster_dir *d, const char *why)
{
    if (!d->blind)
        d->roster->blind_count++;
    d->blind = true;
    if (d->roster->said_blind)
        return;
    d->roster->said_blind = true;
    log_warn("flow %s: '%s' cannot be watched (%s); looking there once a second instead%s",
             d->roster->settings.flow, d->path[0] == '\0' ? "/" : d->path, why,
             strcmp(why, strerrordesc_np(ENOSPC)) == 0 ? "; raise fs.inotify.max_user_watches"
                                                       : "");
}

static struct roster_dir *dir_child(struct roster_dir *d, const char *text)
{
    LIST_EACH(&d->children, node, after)
    {
        struct roster_dir *c = CONTAINER_OF(node, struct roster_dir, in_parent);
        if (strcmp(c->path + strlen(d->path) + 1, text) == 0)
            return c;
    }
    return NULL;
}

/* Whether all that matters in a directory are subdirectories that are there and watched themselves:
 * then what else happens in it (in a busy /tmp, say) need not wake us.  A symbolic link may lead
 * elsewhere without the directory behind it noticing, so that one is not enough. */
static bool dir_is_passage(struct roster_dir *d, int fd)
{
    for (size_t i = 0; i < d->states->count; i++) {
        bool last;
        const char *text = glob_literal(d->roster->glob, d->states, i, &last);
        const struct roster_dir *child = text == NULL || last ? NULL : dir_child(d, text);
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
    if ((mask & IN_MODIFY) != 0 && fstatfs(fd, &fs) == 0 && is_blind_type((long)fs.f_type))
        dir_say_blind(d, "a network or user-space file system");
    else if (d->blind) {
        d->roster->blind_count--;
        d->blind = false;
    }
}

static void dir_scan(struct roster_dir *d, enum roster_work work);

/* Sees whether the subdirectory `text` is there and meant, and what became of it. */
static void dir_visit_child(struct roster_dir *d, int fd, const char *text, bool literal)
{
    struct roster *r = d->roster;
    struct roster_dir *child = dir_child(d, text);
    bool follow = literal || r->settings.follow_symlinks;
    struct glob_states *states;
    struct stat st;

    if (fstatat(fd, text, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode)) {
        if (child != NULL)
            dir_drop(child);
        return;
    }
    if (child != NULL && child->ino == st.st_ino && child->dev == st.st_dev) {
        /* Without its watch it was removed and made anew meanwhile: ext4 gives the inode number to
         * the next one at once. */
        if (child->sub.entry == NULL && !child->blind)
            dir_scan(child, ROSTER_ALL);
        return;
    }
    if (child != NULL)
        dir_drop(child); /* another one is called so now */
    if (d->depth >= ROSTER_DEPTH_MAX || glob_enter(r->glob, d->states, text, &states) < 0 ||
        states == NULL)
        return;
    if (dir_new(r, d, text, states, &child) < 0) {
        free(states);
        return;
    }
    child->dev = st.st_dev;
    child->ino = st.st_ino;
    child->literal = literal;
    dir_scan(child, ROSTER_ALL);
}

/* Whether a component is written in the patterns as it is. */
static bool dir_is_literal(const struct roster_dir *d, const char *text)
{
    for (size_t i = 0; i < d->states->count; i++) {
        bool last;
        const char *literal = glob_literal(d->roster->glob, d->states, i, &last);
        if (literal != NULL && !last && strcmp(literal, text) == 0)
            return true;
    }
    return false;
}

static void dir_list(struct roster_dir *d, int fd, enum roster_work work)
{
    int list_fd = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = list_fd < 0 ? NULL : fdopendir(list_fd);

    if (list == NULL) {
        if (list_fd >= 0)
            close(list_fd);
        log_warn("flow %s: '%s': cannot be listed: %s; its files are not followed",
                 d->roster->settings.flow, d->path, strerrordesc_np(errno));
        return;
    }
    for (struct dirent *e; (e = readdir(list)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (e->d_type == DT_DIR || e->d_type == DT_LNK || e->d_type == DT_UNKNOWN)
            dir_visit_child(d, fd, e->d_name, dir_is_literal(d, e->d_name));
        if (e->d_type != DT_DIR && work == ROSTER_ALL)
            name_look_now(d, e->d_name);
    }
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
            dir_visit_child(d, fd, text, true);
        else if (work == ROSTER_ALL && faccessat(fd, text, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            name_look_now(d, text);
    }
}

static void dir_scan(struct roster_dir *d, enum roster_work work)
{
    bool follow = d->literal || d->parent == NULL || d->roster->settings.follow_symlinks;
    int fd = open(d->path[0] == '\0' ? "/" : d->path,
                  O_PATH | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
    bool passage;

    if (fd < 0)
        return; /* it is gone; its parent will say so */
    /* Watched before it is listed; a passage only once it is known to be one. */
    passage =
        !glob_has_files(d->roster->glob, d->states) && !glob_needs_list(d->roster->glob, d->states);
    if (passage)
        dir_try_literals(d, fd, work);
    if (passage && dir_is_passage(d, fd))
        dir_watch(d, fd, ROSTER_SELF_MASK);
    else
        dir_watch(d, fd,
                  glob_has_files(d->roster->glob, d->states) ? ROSTER_DIR_MASK | IN_MODIFY
                                                             : ROSTER_DIR_MASK);
    LIST_EACH(&d->children, node, after)
    {
        struct roster_dir *c = CONTAINER_OF(node, struct roster_dir, in_parent);
        char text[NAME_MAX + 1]; /* the child may be dropped while its name is still wanted */

        (void)snprintf(text, sizeof text, "%s", c->path + strlen(d->path) + 1);
        dir_visit_child(d, fd, text, c->literal);
    }
    if (work == ROSTER_ALL)
        LIST_EACH(&d->names, node, after)
        {
            /* What is listed below is looked at there; this is for what no longer is. */
            struct name *n = CONTAINER_OF(node, struct name, in_dir);
            if (faccessat(fd, n->text, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
                d->roster->events.look(d->roster->events.user, n);
        }
    if (glob_needs_list(d->roster->glob, d->states))
        dir_list(d, fd, work);
    else
        dir_try_literals(d, fd, work);
    close(fd);
}

/* --- the roster --- */

static void roster_turn(struct loop_turn *t)
{
    struct roster *r = CONTAINER_OF(t, struct roster, turn);
    struct list names, *node;

    /* Directories may go while they are worked on, so always the first one. */
    while (!list_is_empty(&r->dirs_waiting)) {
        struct roster_dir *d =
            CONTAINER_OF(list_take(&r->dirs_waiting), struct roster_dir, waiting);
        enum roster_work work = d->work;

        d->work = ROSTER_NOTHING;
        dir_scan(d, work);
    }

    /* What a look asks to be looked at again has its turn next time, so that a name that keeps
     * changing (or a file system that contradicts itself) does not keep everything else waiting. */
    list_init(&names);
    while ((node = list_take(&r->names_waiting)) != NULL)
        list_append(&names, node);
    while ((node = list_take(&names)) != NULL)
        r->events.look(r->events.user, CONTAINER_OF(node, struct name, looking));
}

static void roster_scan_all(struct roster_dir *d, bool only_blind)
{
    if (!only_blind || d->blind)
        dir_want(d, ROSTER_ALL);
    LIST_EACH(&d->children, node, after)
    {
        roster_scan_all(CONTAINER_OF(node, struct roster_dir, in_parent), only_blind);
    }
}

static void roster_set_timer(struct roster *r)
{
    uint64_t poll_ms = loop_now_ms(r->loop) + ROSTER_POLL_MS;

    loop_timer_set(r->loop, &r->timer,
                   r->blind_count > 0 ? MIN(poll_ms, r->next_glance_ms) : r->next_glance_ms);
}

static void roster_tick(struct loop_timer *t)
{
    struct roster *r = CONTAINER_OF(t, struct roster, timer);

    bool glance = loop_now_ms(r->loop) >= r->next_glance_ms;

    roster_scan_all(r->root, !glance);
    if (glance)
        r->next_glance_ms = loop_now_ms(r->loop) + ROSTER_GLANCE_MS;
    roster_set_timer(r);
}

bool roster_means(const struct roster *r, const char *dir, const char *name)
{
    const struct roster_dir *d = r->root;
    size_t len;

    for (; d != NULL && *(dir += strspn(dir, "/")) != '\0'; dir += len) {
        const struct roster_dir *next = NULL;

        len = strcspn(dir, "/");
        LIST_EACH(&d->children, node, after)
        {
            const struct roster_dir *c = CONTAINER_OF(node, struct roster_dir, in_parent);
            const char *text = c->path + strlen(d->path) + 1;
            if (strlen(text) == len && memcmp(text, dir, len) == 0)
                next = c;
        }
        d = next;
    }
    return d != NULL && name_is_meant(d, name);
}

int roster_new(struct loop *loop, struct watch *watch, const struct roster_settings *settings,
               const struct roster_events *events, struct roster **ret)
{
    struct roster *r = calloc(1, sizeof *r);
    struct glob_states *states = NULL;
    int e;

    if (r == NULL)
        return -ENOMEM;
    r->loop = loop;
    r->watch = watch;
    r->settings = *settings;
    r->events = *events;
    list_init(&r->dirs_waiting);
    list_init(&r->names_waiting);
    loop_turn_init(&r->turn, roster_turn);
    if ((e = glob_new(settings->files, settings->file_count, &r->glob)) < 0 ||
        (e = glob_excludes_new(settings->exclude, settings->exclude_count, &r->excludes)) < 0 ||
        (e = loop_timer_init(loop, &r->timer, roster_tick)) < 0 ||
        (e = glob_root(r->glob, &states)) < 0 || (e = dir_new(r, NULL, "", states, &r->root)) < 0)
        goto out;
    r->root->literal = true;
    *ret = r;
    return 0;
out:
    if (r->root == NULL)
        free(states);
    roster_free(r);
    return e;
}

void roster_free(struct roster *r)
{
    if (r == NULL)
        return;
    if (r->root != NULL)
        dir_drop(r->root);
    loop_turn_cancel(&r->turn);
    loop_timer_done(r->loop, &r->timer);
    map_done(&r->names);
    glob_free(r->glob);
    glob_excludes_free(r->excludes);
    free(r);
}

void roster_start(struct roster *r)
{
    r->starting = true;
    dir_scan(r->root, ROSTER_ALL);
    r->starting = false;
    r->next_glance_ms = loop_now_ms(r->loop) + ROSTER_GLANCE_MS;
    roster_set_timer(r);
}
