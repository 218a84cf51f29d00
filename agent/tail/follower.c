#include "tail/follower.h"

#include "digest.h"
#include "run/log.h"
#include "run/loop.h"
#include "tail/follower_inner.h"
#include "tail/identity.h"
#include "tail/missed.h"
#include "tail/neighbours.h"
#include "tail/resume.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum {
    FOLLOWER_TICK_MS = 1000,         /* looks after files without a name */
    FOLLOWER_RENAMED_MS = 60 * 1000, /* a writer may hold a renamed file for so long */
    FOLLOWER_DELETED_MS = 15 * 1000, /* … and a deleted one, whose space we hold with it */
};

static struct source *source_of(struct list *node)
{
    return CONTAINER_OF(node, struct source, all);
}

int64_t follower_wall_ns(void)
{
    struct timespec t;

    /* The clock that file systems take birth times from.  Since kernel 6.13 some take a finer one:
     * a birth may be up to a clock tick after what this says. */
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return (int64_t)t.tv_sec * follower_second_ns + t.tv_nsec;
}

/* --- sources --- */

struct source *follower_find(const struct follower *f, const struct source_id *id)
{
    struct map_node *n = map_find(&f->by_ino, follower_ino_hash(id));

    for (; n != NULL; n = map_find_next(n)) {
        struct source *s = CONTAINER_OF(n, struct source, by_ino);
        if (s->id.dev == id->dev && source_id_is_same_object(&s->id, id))
            return s;
    }
    return NULL;
}

struct source *follower_find_named(const struct follower *f, const char *path)
{
    LIST_EACH(&f->named, node, after)
    {
        if (strcmp(source_of(node)->path, path) == 0)
            return source_of(node);
    }
    return NULL;
}

bool follower_has_finished(const struct follower *f, const struct source_id *id)
{
    for (size_t i = 0; i < ARRAY_LEN(f->finished); i++)
        if (f->finished[i].ino != 0 && f->finished[i].dev == id->dev &&
            source_id_is_same_object(&f->finished[i], id))
            return true;
    return false;
}

/* Takes the open descriptor away from `s`; the caller owns it now. */
static int source_yield_fd(struct follower *f, struct source *s)
{
    int fd = s->fd;

    s->fd = -1;
    list_remove(&s->opened);
    f->descriptors->count--;
    return fd;
}

static void source_close(struct follower *f, struct source *s)
{
    if (s->fd >= 0)
        close(source_yield_fd(f, s));
}

static void source_adopt_fd(struct follower *f, struct source *s, int fd)
{
    s->fd = fd;
    list_append(&f->descriptors->opened, &s->opened);
    f->descriptors->count++;
}

static void source_inode_event(struct watch_sub *sub, uint32_t mask, const char *name);

int follower_add(struct follower *f, const struct source_id *id, struct cursor at, const char *path,
                 int fd, struct follower_past *past, struct source **ret)
{
    struct source *s = calloc(1, sizeof *s);
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->id = *id;
    s->at = past != NULL ? past->at : at;
    s->fd = -1;
    s->path = strdup(path);
    s->follower = f;
    s->sub.event = source_inode_event;
    s->quiet_since_ms = loop_now_ms(f->loop);
    list_init(&s->all);
    list_init(&s->opened);
    list_init(&s->names);
    r = s->path == NULL ? -ENOMEM : map_insert(&f->by_ino, &s->by_ino, follower_ino_hash(id));
    if (r == 0) {
        r = f->events.met(f->events.user, s, past != NULL ? past->slot : NULL);
        if (r < 0)
            map_remove(&f->by_ino, &s->by_ino);
    }
    if (r < 0) {
        free(s->path);
        free(s);
        return r;
    }
    list_append(&f->named, &s->all);
    f->count++;
    source_adopt_fd(f, s, fd);
    if (past != NULL) {
        past->used = true;
        past->source = s;
    }
    *ret = s;
    return 0;
}

/* Nobody has to wait for this source any more. */
static void release_successor(struct follower *f, struct source *s)
{
    struct source *next = s->before;

    if (next == NULL)
        return;
    s->before = NULL;
    next->after = NULL;
    f->events.news(f->events.user, next);
}

void follower_put_after(struct source *s, struct source *predecessor)
{
    if (s == predecessor || predecessor->at_end || predecessor->before != NULL || s->after != NULL)
        return;
    for (const struct source *p = predecessor; p != NULL; p = p->after)
        if (p == s)
            return; /* two that changed names would wait for each other */
    s->after = predecessor;
    predecessor->before = s;
}

static void source_free(struct follower *f, struct source *s)
{
    struct name *ghost = s->name;

    assert(list_is_empty(&s->names));
    release_successor(f, s);
    if (s->after != NULL)
        s->after->before = NULL;
    watch_remove(f->watch, &s->sub);
    source_close(f, s);
    map_remove(&f->by_ino, &s->by_ino);
    list_remove(&s->all);
    f->count--;

    /* The name that it had last waits for nothing more; the next look forgets it.  Not here: the
     * roster may be walking its names. */
    if (ghost != NULL && ghost->last == s) {
        ghost->last = NULL;
        roster_look(f->roster, ghost);
    }
    free(s->path);
    free(s);
}

static bool is_nameless(const struct source *s)
{
    return list_is_empty(&s->names);
}

static int set_path(struct source *s, const char *path)
{
    char *copy;

    if (strcmp(s->path, path) == 0)
        return 0;
    copy = strdup(path);
    if (copy == NULL)
        return -ENOMEM;
    free(s->path);
    s->path = copy;
    return 1;
}

static void say_path(struct follower *f, struct source *s, const char *path)
{
    if (set_path(s, path) > 0)
        f->events.changed(f->events.user, s);
}

/* --- descriptors --- */

/* Lets go of a nameless source that is read to its very end and settled. */
static bool let_go(struct follower *f, struct source *s)
{
    if (!s->at_end || !s->ending || !f->events.is_settled(f->events.user, s))
        return false;
    f->events.left(f->events.user, s);
    f->finished[f->finished_next++ % ARRAY_LEN(f->finished)] = s->id;
    source_free(f, s);
    return true;
}

/* The grace time is over: what it has left leaves, with or without a newline. */
static void begin_ending(struct follower *f, struct source *s)
{
    s->ending = true;
    s->at_end = false;
    f->events.news(f->events.user, s);
}

/* Closes what was not read for longest, until the limit holds or nothing more can be closed.  The
 * lane's flows share the limit, so a source may be another follower's. */
static void close_beyond_limit(const struct descriptors *d, const struct source *keep)
{
    /* First those that are read to their end; then, as at a start with more files than descriptors,
     * any that can be opened again by its name. */
    for (int pass = 0; pass < 2; pass++)
        LIST_EACH(&d->opened, node, after)
        {
            struct source *s = CONTAINER_OF(node, struct source, opened);

            if (d->count <= d->limit)
                return;
            if (s == keep || (pass == 0 ? !s->at_end : is_nameless(s)))
                continue;
            if (!is_nameless(s))
                source_close(s->follower, s);
            else if (!s->ending)
                begin_ending(s->follower, s);
            else
                (void)let_go(s->follower, s);
        }
}

int follower_open(struct follower *f, struct source *s)
{
    struct identity_facts facts;
    struct source_id id;
    int fd, r;

    if (s->fd >= 0) {
        list_remove(&s->opened); /* the most recently read is the last one */
        list_append(&f->descriptors->opened, &s->opened);
        return 0;
    }
    if (is_nameless(s))
        return -ENOENT;
    fd = identity_open(s->path, f->scope.follow_symlinks);
    r = fd < 0 ? fd : identity_read(f->digest, fd, &id, &facts);
    if (r < 0 || id.dev != s->id.dev || !source_id_is_same_object(&id, &s->id)) {
        if (fd >= 0)
            close(fd);
        /* Another file is called so now.  But one that may not be opened for now (EACCES, EMFILE)
         * would be looked at for ever: the event of its attributes or the next glance will do. */
        if (s->name != NULL && (r == 0 || r == -ENOENT))
            roster_look(f->roster, s->name);
        return -ENOENT;
    }
    source_adopt_fd(f, s, fd);
    close_beyond_limit(f->descriptors, s);
    return 0;
}

/* --- files that lost their name --- */

/* There is more than was read, or may be. */
static void have_news(struct follower *f, struct source *s)
{
    s->at_end = false;
    f->events.news(f->events.user, s);
}

static void source_inode_event(struct watch_sub *sub, uint32_t mask, const char *name)
{
    struct source *s = CONTAINER_OF(sub, struct source, sub);

    (void)name;
    if ((mask & ~(uint32_t)IN_MODIFY) != 0 && !is_nameless(s))
        roster_look(s->follower->roster, s->name); /* what a link led to was moved or removed */
    if (!s->truncated)
        have_news(s->follower, s);
}

/* A directory's watch does not tell of a file that was moved elsewhere; its own does.  Without one
 * the tick still looks once a second. */
static void watch_inode(struct follower *f, struct source *s)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", s->fd);
    if (s->sub.entry == NULL)
        (void)watch_add(f->watch, &s->sub, path, IN_MODIFY | IN_MOVE_SELF | IN_DELETE_SELF);
}

/* Finds the file under its new name in the same directory, for want of a descriptor. */
static void find_renamed(struct follower *f, struct source *s)
{
    struct neighbours all;

    neighbours_find(&f->scope, s->path, s->id.ino, &all);
    for (size_t i = 0; i < all.count; i++) {
        struct neighbour *n = all.items[i];
        if (s->fd < 0 && n->id.dev == s->id.dev && source_id_is_same_object(&n->id, &s->id)) {
            source_adopt_fd(f, s, n->fd);
            n->fd = -1;
        }
    }
    neighbours_done(&all);
}

void follower_orphan(struct follower *f, struct source *s)
{
    list_remove(&s->all);
    list_append(&f->nameless, &s->all);
    s->quiet_since_ms = loop_now_ms(f->loop);
    if (s->fd < 0 && !s->truncated)
        find_renamed(f, s);
    if (s->fd >= 0) {
        s->at_end = false; /* once more, before what took over its name */
        watch_inode(f, s);
    } else {
        if (!s->at_end && !s->truncated)
            log_warn("flow %s: '%s': was removed before it was read to its end, and was not open; "
                     "what it had beyond byte %llu is lost",
                     follower_flow(f), s->path, (unsigned long long)s->at.offset);
        s->at_end = s->ending = true; /* as far as we knew of */
        release_successor(f, s);
    }
    if (!loop_timer_is_set(&f->tick))
        loop_timer_set(f->loop, &f->tick, loop_now_ms(f->loop) + FOLLOWER_TICK_MS);
    f->events.news(f->events.user, s);
}

/* Whether nobody can open the file again: our descriptor is all that holds it. */
static bool is_deleted(const struct source *s)
{
    struct stat st;

    return s->fd >= 0 && fstat(s->fd, &st) == 0 && st.st_nlink == 0;
}

static uint64_t grace_ms(const struct source *s)
{
    return is_deleted(s) ? FOLLOWER_DELETED_MS : FOLLOWER_RENAMED_MS;
}

/* Looks after one nameless source; it may be freed. */
static void look_after(struct follower *f, struct source *s)
{
    if (s->ending) {
        (void)let_go(f, s);
        return;
    }
    if (s->at_end && loop_now_ms(f->loop) - s->quiet_since_ms >= grace_ms(s))
        begin_ending(f, s);
    else
        f->events.news(f->events.user, s); /* once more: it may not be watched */
}

static void follower_tick(struct loop_timer *t)
{
    struct follower *f = CONTAINER_OF(t, struct follower, tick);

    LIST_EACH(&f->nameless, node, after)
    {
        look_after(f, source_of(node));
    }
    if (!list_is_empty(&f->nameless))
        loop_timer_set(f->loop, &f->tick, loop_now_ms(f->loop) + FOLLOWER_TICK_MS);
}

static void grow_head(struct follower *f, struct source *s)
{
    if (s->id.head_len < SOURCE_HEAD_MAX && identity_grow_head(f->digest, s->fd, &s->id))
        f->events.changed(f->events.user, s);
}

void follower_at_end(struct follower *f, struct source *s)
{
    s->at_end = s->caught_up = true;
    if (s->at.offset == 0)
        grow_head(f, s); /* by the half line that is there: else nothing tells if it goes */
    release_successor(f, s);
    close_beyond_limit(f->descriptors, NULL);
}

void follower_unreadable(struct follower *f, struct source *s)
{
    release_successor(f, s);
}

void follower_was_read(struct follower *f, struct source *s)
{
    s->at_end = s->caught_up = false;
    s->quiet_since_ms = loop_now_ms(f->loop);
    grow_head(f, s);
}

/* --- names and files --- */

/* `s` is what was called `n` before; what was so before it is forgotten. */
static void set_last(struct name *n, struct source *s)
{
    if (n->last != NULL && n->last != s && n->last->name == n)
        n->last->name = NULL;
    n->last = s;
    s->name = n;
}

/* `n` leads to `s`, and says what it is called. */
static void attach(struct follower *f, struct name *n, struct source *s, const char *path)
{
    struct stat st;

    n->source = s;
    n->said = 0;
    list_append(&s->names, &n->same);
    if (s->names.next != &n->same)
        return; /* a hard link: read once, under its first name */
    /* It may have been known by another name that is a ghost now. */
    if (s->name != NULL && s->name->last == s) {
        s->name->last = NULL;
        if (s->name != n)
            roster_look(f->roster, s->name);
    }
    s->name = n;
    list_remove(&s->all);
    list_append(&f->named, &s->all);
    watch_remove(f->watch, &s->sub);
    if (s->fd >= 0 && lstat(path, &st) == 0 && (S_ISLNK(st.st_mode) || st.st_nlink > 1))
        watch_inode(f, s); /* its directory's watch hears only of what goes by its own names */
    s->ending = false;
    say_path(f, s, path);
}

/* The name leads to its source no more; another name may. */
static void detach(struct follower *f, struct name *n)
{
    struct source *s = n->source;
    char path[PATH_MAX];

    n->source = NULL;
    if (s == NULL)
        return;
    list_remove(&n->same);
    if (!is_nameless(s)) {
        s->name = CONTAINER_OF(s->names.next, struct name, same);
        if (roster_path(s->name, path) == 0)
            say_path(f, s, path);
        return;
    }
    set_last(n, s);
    follower_orphan(f, s);
}

static void complain(struct follower *f, struct name *n, const char *path, int error)
{
    if (n->said == error)
        return;
    n->said = error;
    switch (error) {
    case -ELOOP:
        log_warn("flow %s: '%s': is a symbolic link; not followed, set follow_symlinks = true if "
                 "it should be",
                 follower_flow(f), path);
        break;
    case -EISDIR:
    case -EINVAL:
        log_warn("flow %s: '%s': is not a regular file; left alone", follower_flow(f), path);
        break;
    case -EACCES:
        log_error("flow %s: '%s': cannot be read: Permission denied; give the agent's user the "
                  "right to read it; it is followed as soon as it can be",
                  follower_flow(f), path);
        break;
    case -EMFILE:
    case -ENFILE:
        log_error(
            "flow %s: '%s': cannot be opened: %s; raise LimitNOFILE (ulimit -n); trying again "
            "in a minute",
            follower_flow(f), path, strerrordesc_np(-error));
        break;
    default:
        log_error("flow %s: '%s': cannot be read: %s; trying again in a minute", follower_flow(f),
                  path, strerrordesc_np(-error));
    }
}

/* A file that we do not read yet has come to be called `n`. */
static void meet(struct follower *f, struct name *n, const char *path, int fd,
                 const struct source_id *id, const struct identity_facts *facts)
{
    struct follower_past *past = resume_find(f, fd, id, path);
    struct source *s = NULL, *previous = n->last;
    struct cursor at = {0};
    int r = 0;

    if (past == NULL)
        r = resume_place(f, n, path, fd, id, facts, &at);
    if (r == 0)
        r = follower_add(f, id, at, path, fd, past, &s);
    if (r < 0) {
        close(fd);
        complain(f, n, path, r);
        return;
    }
    n->skip_size = 0;

    if (!f->starting && ((previous != NULL && !previous->truncated) || n->appearances > 1))
        previous = missed_read(f, path, previous);
    if (previous != NULL)
        follower_put_after(s, previous);
    attach(f, n, s, path);
    if (past != NULL)
        f->events.changed(f->events.user, s);
    log_debug("flow %s: '%s': following from byte %llu", follower_flow(f), path,
              (unsigned long long)s->at.offset);
    f->events.news(f->events.user, s);
    close_beyond_limit(f->descriptors, s);
}

/* The file behind `n`, opened and identified. */
static void look_closely(struct follower *f, struct name *n, const char *path,
                         const struct statx *st)
{
    struct identity_facts facts;
    struct source_id id;
    struct source *s;
    int fd = identity_open(path, f->scope.follow_symlinks), r;

    r = fd < 0 ? fd : identity_read(f->digest, fd, &id, &facts);
    if (r < 0) {
        if (fd >= 0)
            close(fd);
        if (r != -ENOENT) /* it went between two looks: an event will say so */
            complain(f, n, path, r);
        if (r == -EACCES && f->starting && !f->settings.from_start && !f->settings.known) {
            n->skip_ino = st->stx_ino;
            n->skip_size = st->stx_size;
        }
        return;
    }
    s = follower_find(f, &id);
    if (s != NULL && s == n->source) {
        close(fd);
        if (n->appearances > 0 && s->at.offset == 0 && s->id.head_len == 0)
            (void)missed_read(f, path, NULL); /* its first content may be in a copy only */
        f->events.news(f->events.user, s);
        return;
    }
    detach(f, n);
    if (s == NULL) {
        meet(f, n, path, fd, &id, &facts);
    } else {
        close(fd);
        attach(f, n, s, path);
        f->events.news(f->events.user, s);
    }
}

static bool is_unchanged(const struct source *s, const struct statx *st)
{
    return s->id.ino == st->stx_ino && s->id.dev == makedev(st->stx_dev_major, st->stx_dev_minor) &&
           ((st->stx_mask & STATX_BTIME) == 0 || s->id.born_ns == 0 ||
            s->id.born_ns ==
                (int64_t)st->stx_btime.tv_sec * follower_second_ns + st->stx_btime.tv_nsec);
}

static void follower_look(void *user, struct name *n)
{
    struct follower *f = user;
    char path[PATH_MAX];
    struct statx st;

    if (roster_path(n, path) < 0)
        return;
    if (statx(AT_FDCWD, path, f->settings.roster.follow_symlinks ? 0 : AT_SYMLINK_NOFOLLOW,
              STATX_BASIC_STATS | STATX_BTIME, &st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            n->said = 0;
            detach(f, n);
            if (n->appearances > 0 && !f->starting) /* one came and went */
                (void)missed_read(f, path, n->last);
            n->appearances = 0;
            if (n->last == NULL)
                roster_forget(f->roster, n);
        } else {
            complain(f, n, path, -errno);
            if (n->source != NULL)
                f->events.news(f->events.user, n->source); /* it was kept waiting for this */
        }
        return;
    }
    if (!S_ISREG(st.stx_mode)) {
        detach(f, n);
        complain(f, n, path, S_ISLNK(st.stx_mode) ? -ELOOP : -EINVAL);
    } else if (n->source != NULL && n->appearances == 0 && is_unchanged(n->source, &st)) {
        if (n->modified || st.stx_size != n->source->at.offset)
            have_news(f, n->source);
    } else {
        look_closely(f, n, path, &st);
    }
    n->appearances = 0;
    n->modified = false;
}

static void follower_modified(void *user, struct name *n)
{
    struct follower *f = user;

    have_news(f, n->source);
}

static void follower_drop(void *user, struct name *n)
{
    struct follower *f = user;

    if (f->closing)
        return;
    detach(f, n);
    if (n->last != NULL) {
        n->last->name = NULL;
        n->last = NULL;
    }
}

/* --- truncation --- */

/* Looks for a copy of what `s` was, made before it was truncated.  Even one without anything more is
 * worth to be known: or it would be taken for a file that nobody has read. */
static struct neighbour *find_copy(struct follower *f, const struct source *s,
                                   struct neighbours *all)
{
    for (size_t i = 0; i < all->count; i++) {
        struct neighbour *n = all->items[i];
        if (follower_find(f, &n->id) == NULL && !follower_has_finished(f, &n->id) &&
            missed_is_copy(f, n, s))
            return n;
    }
    return NULL;
}

/* Gives a source another identity. */
static void identify(struct follower *f, struct source *s, const struct source_id *id)
{
    map_remove(&f->by_ino, &s->by_ino);
    s->id = *id;
    if (map_insert(&f->by_ino, &s->by_ino, follower_ino_hash(id)) < 0)
        abort(); /* cannot be: removing made the room */
}

/* `s` goes on in the copy, as a file without a name of ours. */
static void go_on_in_copy(struct follower *f, struct source *s, struct neighbour *copy)
{
    identify(f, s, &copy->id);
    source_adopt_fd(f, s, copy->fd);
    copy->fd = -1;
    s->at_end = false;
    (void)set_path(s, copy->path);
    f->events.changed(f->events.user, s);
    log_info("flow %s: '%s': is a copy of it; its rest is read from there", follower_flow(f),
             s->path);
}

/* `s` has lost its content: it lets go of its file and of its name, which *ret_name is (or NULL).
 * Returns the descriptor. */
static int renounce(struct source *s, struct follower *f, struct name **ret_name)
{
    const struct source_id none = {.dev = s->id.dev, .born_ns = s->id.born_ns};
    struct source_id id = s->id;
    struct name *n = is_nameless(s) ? NULL : s->name;
    int fd = source_yield_fd(f, s);

    assert(is_nameless(s) || n != NULL);
    watch_remove(f->watch, &s->sub);
    s->truncated = true;
    identify(f, s, &none);
    s->id.head_len = id.head_len; /* what a copy of it is known by */
    s->id.head_hash = id.head_hash;
    if (n != NULL) {
        n->source = NULL;
        set_last(n, s);
        list_remove(&n->same);
        for (struct list *node; (node = list_take(&s->names)) != NULL;) {
            /* Other links are met anew, with the file. */
            struct name *other = CONTAINER_OF(node, struct name, same);

            other->source = NULL;
            roster_look(f->roster, other);
        }
    }
    *ret_name = n;
    return fd;
}

/* The content that took the place of another one is a source of its own.  Takes `fd`. */
static struct source *begin_anew(struct follower *f, int fd, const char *path, struct name *n,
                                 struct cursor at)
{
    struct identity_facts facts;
    struct source_id id;
    struct source *s;

    if (identity_read(f->digest, fd, &id, &facts) < 0 ||
        follower_add(f, &id, at, path, fd, NULL, &s) < 0) {
        close(fd);
        s = NULL;
    } else if (n != NULL) {
        attach(f, n, s, path);
    } else {
        follower_orphan(f, s);
    }
    if (n != NULL)
        roster_look(f->roster, n); /* whether it still leads there */
    return s;
}

/* Looks for what `s` had beyond its place before its file was truncated.  Returns the source that
 * the new content is read after. */
static struct source *go_on_elsewhere(struct follower *f, struct source *s, const char *path)
{
    struct source *last = s;
    struct neighbours all;
    struct neighbour *copy;

    neighbours_find(&f->scope, path, 0, &all);
    copy = find_copy(f, s, &all);
    if (copy != NULL) {
        int64_t copied_ns = neighbour_born_ns(copy);

        go_on_in_copy(f, s, copy);
        follower_orphan(f, s);
        /* it may have happened twice */
        last = missed_read_between(f, &all, copied_ns, INT64_MAX, NULL, s);
    } else {
        if (!s->caught_up)
            log_warn("flow %s: '%s': it had not been read to its end, and no copy of it was found: "
                     "what it had beyond byte %llu is lost",
                     follower_flow(f), path, (unsigned long long)s->at.offset);
        s->ending = s->at_end = true;
        follower_orphan(f, s);
    }
    neighbours_done(&all);
    return last;
}

void follower_stale(struct follower *f, struct source *s)
{
    struct cursor at = {0};
    bool shortened = identity_find_rung(f->digest, s->fd, &s->at, &at);
    struct source *anew, *last = s;
    struct name *n;
    char path[PATH_MAX];
    int fd;

    if (shortened)
        log_info("flow %s: '%s': was shortened; reading on from byte %llu", follower_flow(f),
                 s->path, (unsigned long long)at.offset);
    else
        log_info("flow %s: '%s': was truncated or written anew; reading it from its start",
                 follower_flow(f), s->path);
    (void)snprintf(path, sizeof path, "%s", s->path);
    fd = renounce(s, f, &n);
    anew = begin_anew(f, fd, path, n, at);
    if (shortened) {
        s->ending = s->at_end = true;
        follower_orphan(f, s);
    } else {
        last = go_on_elsewhere(f, s, path);
    }
    if (anew != NULL) {
        follower_put_after(anew, last);
        f->events.news(f->events.user, anew);
    }
}

/* --- life --- */

void follower_start(struct follower *f)
{
    struct neighbours strays = {0};

    f->starting = true;
    f->started_ns = follower_wall_ns();
    f->strays = &strays;
    roster_start(f->roster);
    f->strays = NULL;
    resume_all(f, &strays);
    neighbours_done(&strays);
    f->starting = false;
}

bool follower_must_wait(const struct source *s)
{
    return s->after != NULL ||
           (!is_nameless(s) && s->name != NULL && !list_is_empty(&s->name->looking));
}

void follower_hurry(struct follower *f)
{
    LIST_EACH(&f->nameless, node, after)
    {
        struct source *s = source_of(node);

        if (!s->ending && is_deleted(s))
            begin_ending(f, s);
    }
}

bool follower_is_hurried(const struct follower *f)
{
    LIST_EACH(&f->nameless, node, after)
    {
        if (source_of(node)->ending && !source_of(node)->at_end)
            return false;
    }
    return true;
}

void follower_finish(struct follower *f)
{
    LIST_EACH(&f->nameless, node, after)
    {
        (void)let_go(f, source_of(node));
    }
}

size_t follower_count(const struct follower *f)
{
    return f->count;
}

int follower_new(struct loop *loop, struct watch *watch, struct digest *digest,
                 struct descriptors *descriptors, const struct follower_settings *settings,
                 const struct follower_events *events, struct follower_past *past,
                 size_t past_count, struct follower **ret)
{
    struct follower *f = calloc(1, sizeof *f);
    int r;

    if (f == NULL)
        return -ENOMEM;
    f->loop = loop;
    f->watch = watch;
    f->digest = digest;
    f->scope = (struct neighbours_scope){digest, settings->roster.follow_symlinks};
    f->descriptors = descriptors;
    f->settings = *settings;
    f->events = *events;
    f->past = past;
    f->past_count = past_count;
    list_init(&f->named);
    list_init(&f->nameless);
    const struct roster_events roster_events = {follower_look, follower_modified, follower_drop,
                                                resume_stray, f};
    if ((r = loop_timer_init(loop, &f->tick, follower_tick)) < 0 ||
        (r = roster_new(loop, watch, &settings->roster, &roster_events, &f->roster)) < 0) {
        follower_free(f);
        return r;
    }
    resume_map(f);
    *ret = f;
    return 0;
}

static void free_sources(struct follower *f, struct list *sources)
{
    LIST_EACH(sources, node, after)
    {
        struct source *s = source_of(node);

        watch_remove(f->watch, &s->sub);
        source_close(f, s);
        free(s->path);
        free(s);
    }
}

void follower_free(struct follower *f)
{
    if (f == NULL)
        return;
    f->closing = true; /* no farewell to anybody: their places are kept for the next start */
    roster_free(f->roster);
    free_sources(f, &f->named);
    free_sources(f, &f->nameless);
    map_done(&f->by_ino);
    map_done(&f->past_by_ino);
    loop_timer_done(f->loop, &f->tick);
    free(f);
}
