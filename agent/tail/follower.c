#include "tail/follower.h"

#include "digest.h"
#include "run/log.h"
#include "run/loop.h"
#include "tail/identity.h"
#include "tail/neighbours.h"
#include "util.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum {
    FOLLOWER_TICK_MS = 1000,          /* looks after files without a name */
    FOLLOWER_RENAMED_MS = 60 * 1000,  /* a writer may hold a renamed file for so long */
    FOLLOWER_DELETED_MS = 15 * 1000,  /* … and a deleted one, whose space we hold with it */
    FOLLOWER_BIRTH_SLACK_S = 10,      /* made so shortly before the last commit: not seen then */
    FOLLOWER_RECENT_S = 30,           /* what was born so lately may have come and gone unseen */
    FOLLOWER_FINISHED = 128,          /* how many files that we let go of are remembered */
};

static const int64_t second_ns = INT64_C(1000000000);

struct follower {
    struct loop *loop;
    struct watch *watch;
    struct digest *digest;
    struct neighbours_scope scope;
    struct descriptors *descriptors;
    struct follower_settings settings;
    struct follower_events events;
    struct follower_past *past;
    size_t past_count;
    struct map past_by_ino, by_ino;
    struct roster *roster;
    struct list named, nameless;
    struct source_id finished[FOLLOWER_FINISHED]; /* a ring */
    size_t finished_next;
    struct neighbours *strays; /* while starting */
    int64_t started_ns;
    size_t count;
    struct loop_timer tick;
    bool starting, closing;
};

static struct source *source_of(struct list *node)
{
    return CONTAINER_OF(node, struct source, all);
}

static const char *flow_of(const struct follower *f)
{
    return f->settings.roster.flow;
}

static int64_t wall_ns(void)
{
    struct timespec t;

    /* The clock that file systems take birth times from: never behind one that was given before. */
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return (int64_t)t.tv_sec * second_ns + t.tv_nsec;
}

/* --- sources --- */

static uint64_t ino_hash(const struct source_id *id)
{
    return map_hash_u64(id->ino);
}

/* The source that this file is, if we have it. */
static struct source *find_source(const struct follower *f, const struct source_id *id)
{
    struct map_node *n = map_find(&f->by_ino, ino_hash(id));

    for (; n != NULL; n = map_find_next(n)) {
        struct source *s = CONTAINER_OF(n, struct source, by_ino);
        if (s->id.dev == id->dev && source_id_is_same_object(&s->id, id))
            return s;
    }
    return NULL;
}

/* Whether this file was read to its end lately and let go. */
static bool is_finished(const struct follower *f, const struct source_id *id)
{
    for (size_t i = 0; i < ARRAY_LEN(f->finished); i++)
        if (f->finished[i].ino != 0 && f->finished[i].dev == id->dev &&
            source_id_is_same_object(&f->finished[i], id))
            return true;
    return false;
}

static void source_close(struct follower *f, struct source *s)
{
    if (s->fd < 0)
        return;
    close(s->fd);
    s->fd = -1;
    list_remove(&s->opened);
    f->descriptors->count--;
}

static void source_adopt_fd(struct follower *f, struct source *s, int fd)
{
    s->fd = fd;
    list_append(&f->descriptors->opened, &s->opened);
    f->descriptors->count++;
}

static void source_inode_event(struct watch_sub *sub, uint32_t mask, const char *name);

/* Takes `fd` if it succeeds. */
static int source_new(struct follower *f, const struct source_id *id, struct cursor at,
                      const char *path, int fd, void *slot, struct source **ret)
{
    struct source *s = calloc(1, sizeof *s);
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->id = *id;
    s->at = at;
    s->fd = -1;
    s->path = strdup(path);
    s->follower = f;
    s->sub.event = source_inode_event;
    s->quiet_since_ms = loop_now_ms(f->loop);
    list_init(&s->all);
    list_init(&s->opened);
    list_init(&s->names);
    r = s->path == NULL ? -ENOMEM : map_insert(&f->by_ino, &s->by_ino, ino_hash(id));
    if (r == 0) {
        r = f->events.met(f->events.user, s, slot);
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

static void put_after(struct source *s, struct source *predecessor)
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

/* --- other generations of a file --- */

static void find_neighbours(const struct follower *f, const char *path, uint64_t ino,
                            struct neighbours *ret)
{
    neighbours_find(&f->scope, path, ino, ret);
}

static void source_orphan(struct follower *f, struct source *s);
static struct follower_past *find_past(struct follower *f, int fd, const struct source_id *id,
                                       const char *path);

/* Reads a file from `at` on that is not called as the globs say, and that nobody has read. */
static struct source *read_stranger(struct follower *f, struct neighbour *n, struct cursor at)
{
    struct follower_past *past = find_past(f, n->fd, &n->id, n->path);
    struct source *s;

    if (source_new(f, &n->id, past != NULL ? past->at : at, n->path, n->fd,
                   past != NULL ? past->slot : NULL, &s) < 0)
        return NULL;
    n->fd = -1;
    if (past != NULL) {
        past->used = true;
        past->source = s;
    }
    log_info("flow %s: '%s': was rotated away; reading it from byte %llu", flow_of(f), s->path,
             (unsigned long long)s->at.offset);
    source_orphan(f, s);
    return s;
}

static bool is_unread(const struct follower *f, const struct neighbour *n)
{
    const char *name = strrchr(n->path, '/') + 1;
    char dir[PATH_MAX];

    (void)snprintf(dir, sizeof dir, "%.*s", (int)(name - n->path), n->path);
    return n->fd >= 0 && find_source(f, &n->id) == NULL && !is_finished(f, &n->id) &&
           !roster_means(f->roster, dir, name);
}

/* Whether a file is a copy of what a source reads, or has read before it was truncated. */
static bool is_copy_of(const struct follower *f, const struct neighbour *n, const struct source *s)
{
    return (s->at.offset > 0 || s->id.head_len > 0) &&
           identity_fits(f->digest, n->fd, &s->id, s->at);
}

/* Whether a file is a copy that was made of a source's file earlier: all that is in it was given. */
static bool is_backup_of(const struct follower *f, const struct neighbour *n, const struct source *s)
{
    struct cursor whole;

    return s->fd >= 0 && n->facts.size <= s->at.offset &&
           identity_cursor(f->digest, n->fd, n->facts.size, &whole) == 0 &&
           identity_fits(f->digest, s->fd, &n->id, whole);
}

/* Whether a source's file still is what it was. */
static bool source_holds(const struct follower *f, const struct source *s)
{
    return s->fd >= 0 && identity_fits(f->digest, s->fd, &s->id, s->at);
}

/* Reads the files that had the name between two others, oldest first: born from `from_ns` to
 * `to_ns`, not known, and not meant by the globs themselves (those are met by their own names).
 * Birth times are as coarse as the kernel's clock tick, so both ends belong to it.  `anew` (or NULL)
 * is a file that may have been truncated and written anew before it was renamed, so that it belongs
 * to them whenever it was born.  Returns the last source in the chain that begins with `first` (or
 * NULL). */
static struct source *read_between(struct follower *f, struct neighbours *all, int64_t from_ns,
                                   int64_t to_ns, const struct source_id *anew,
                                   struct source *first)
{
    const struct source *original = first;

    for (size_t i = 0; i < all->count; i++) {
        struct neighbour *n = all->items[i];
        struct cursor at = {0};
        struct source *s;

        if ((neighbour_born_ns(n) < from_ns || neighbour_born_ns(n) > to_ns) &&
            (anew == NULL || !source_id_is_same_object(&n->id, anew)))
            continue;
        if (!is_unread(f, n))
            continue;
        if (original != NULL && is_backup_of(f, n, original))
            continue;
        if (original != NULL && is_copy_of(f, n, original)) {
            if (source_holds(f, original))
                continue; /* it says nothing that the original does not */
            at = original->at;
        }
        s = read_stranger(f, n, at);
        if (s == NULL)
            continue;
        if (first != NULL)
            put_after(s, first);
        first = s;
    }
    return first;
}

/* The earliest birth of a file that may have come and gone between two looks. */
static int64_t recent_ns(const struct follower *f)
{
    return MAX(f->started_ns, wall_ns() - FOLLOWER_RECENT_S * second_ns);
}

/* Reads what was called `path` after `previous` (or lately), copies of the newest one included: it
 * may have been truncated before anybody saw it.  Returns the last of them, or `previous`. */
static struct source *read_missed(struct follower *f, const char *path, struct source *previous)
{
    int64_t from_ns = previous != NULL && previous->id.born_ns != 0
                          ? MAX(previous->id.born_ns, f->started_ns)
                          : recent_ns(f);
    struct neighbours all;

    find_neighbours(f, path, 0, &all);
    previous = read_between(f, &all, from_ns, INT64_MAX, NULL, previous);
    neighbours_done(&all);
    return previous;
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

    find_neighbours(f, s->path, s->id.ino, &all);
    for (size_t i = 0; i < all.count; i++) {
        struct neighbour *n = all.items[i];
        if (s->fd < 0 && n->id.dev == s->id.dev && source_id_is_same_object(&n->id, &s->id)) {
            source_adopt_fd(f, s, n->fd);
            n->fd = -1;
        }
    }
    neighbours_done(&all);
}

/* The last name that led to `s` does no more. */
static void source_orphan(struct follower *f, struct source *s)
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
                     flow_of(f), s->path, (unsigned long long)s->at.offset);
        s->at_end = s->ending = true; /* as far as we knew of */
        release_successor(f, s);
    }
    if (!loop_timer_is_set(&f->tick))
        loop_timer_set(f->loop, &f->tick, loop_now_ms(f->loop) + FOLLOWER_TICK_MS);
    f->events.news(f->events.user, s);
}

static uint64_t grace_ms(const struct source *s)
{
    struct stat st;

    if (s->fd >= 0 && fstat(s->fd, &st) == 0 && st.st_nlink == 0)
        return FOLLOWER_DELETED_MS;
    return FOLLOWER_RENAMED_MS;
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
    source_orphan(f, s);
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
                 flow_of(f), path);
        break;
    case -EISDIR:
    case -EINVAL:
        log_warn("flow %s: '%s': is not a regular file; left alone", flow_of(f), path);
        break;
    case -EACCES:
        log_error("flow %s: '%s': cannot be read: Permission denied; give the agent's user the "
                  "right to read it; it is followed as soon as it can be",
                  flow_of(f), path);
        break;
    case -EMFILE:
    case -ENFILE:
        log_error("flow %s: '%s': cannot be opened: %s; raise LimitNOFILE (ulimit -n); trying again "
                  "in a minute",
                  flow_of(f), path, strerrordesc_np(-error));
        break;
    default:
        log_error("flow %s: '%s': cannot be read: %s; trying again in a minute", flow_of(f), path,
                  strerrordesc_np(-error));
    }
}

/* The past of this very file at this very content, if an earlier run knew it. */
static struct follower_past *find_past(struct follower *f, int fd, const struct source_id *id,
                                       const char *path)
{
    struct map_node *n = map_find(&f->past_by_ino, ino_hash(id));

    for (; n != NULL; n = map_find_next(n)) {
        struct follower_past *p = CONTAINER_OF(n, struct follower_past, node);
        if (!p->used && source_id_is_same_object(&p->id, id) &&
            identity_fits(f->digest, fd, &p->id, p->at))
            return p;
    }

    /* The same content under the same name is the same log, if a copy took the file's place. */
    for (size_t i = 0; f->starting && i < f->past_count; i++) {
        struct follower_past *p = &f->past[i];
        if (!p->used && p->at.offset > 0 && slice_equal(p->path, slice_of(path)) &&
            identity_fits(f->digest, fd, &p->id, p->at))
            return p;
    }
    return NULL;
}

/* Whether an earlier run read this very file, or another one of this name: what is in it now and was
 * not read is new. */
static bool was_followed(const struct follower *f, const struct source_id *id, const char *path)
{
    for (size_t i = 0; i < f->past_count; i++)
        if (source_id_is_same_object(&f->past[i].id, id) ||
            slice_equal(f->past[i].path, slice_of(path)))
            return true;
    return false;
}

/* Where to begin with a file that nobody knows. */
static int first_place(struct follower *f, const struct name *n, const char *path, int fd,
                       const struct source_id *id, const struct identity_facts *facts,
                       struct cursor *ret)
{
    const struct follower_settings *s = &f->settings;
    int64_t born = id->born_ns != 0 ? id->born_ns : facts->changed_ns;
    uint64_t size = facts->size, offset;
    bool skip = f->starting && !s->from_start && !s->all_new &&
                (!s->known || (born < s->alive_ns - FOLLOWER_BIRTH_SLACK_S * second_ns &&
                               !was_followed(f, id, path))) &&
                (id->born_ns == 0 || born <= s->began_ns);
    int r;

    if (!skip && n->skip_size > 0 && n->skip_ino == id->ino) {
        skip = true;
        size = MIN(n->skip_size, size);
    }
    *ret = (struct cursor){0};
    if (!skip)
        return 0;
    r = identity_last_line(fd, size, &offset);
    return r < 0 ? r : identity_cursor(f->digest, fd, offset, ret);
}

/* A file that we do not read yet has come to be called `n`. */
static void meet(struct follower *f, struct name *n, const char *path, int fd,
                 const struct source_id *id, const struct identity_facts *facts)
{
    struct follower_past *past = find_past(f, fd, id, path);
    struct source *s = NULL, *previous = n->last;
    struct cursor at;
    int r = 0;

    if (past != NULL)
        at = past->at;
    else
        r = first_place(f, n, path, fd, id, facts, &at);
    if (r == 0)
        r = source_new(f, id, at, path, fd, past != NULL ? past->slot : NULL, &s);
    if (r < 0) {
        close(fd);
        complain(f, n, path, r);
        return;
    }
    if (past != NULL) {
        past->used = true;
        past->source = s;
    }
    n->skip_size = 0;

    if (!f->starting &&
        ((previous != NULL && !previous->truncated) || n->appearances > 1))
        previous = read_missed(f, path, previous);
    if (previous != NULL)
        put_after(s, previous);
    attach(f, n, s, path);
    if (past != NULL)
        f->events.changed(f->events.user, s);
    log_debug("flow %s: '%s': following from byte %llu", flow_of(f), path,
              (unsigned long long)at.offset);
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
    s = find_source(f, &id);
    if (s != NULL && s == n->source) {
        close(fd);
        if (n->appearances > 0 && s->at.offset == 0 && s->id.head_len == 0)
            (void)read_missed(f, path, NULL); /* its first content may be in a copy only */
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
                (int64_t)st->stx_btime.tv_sec * second_ns + st->stx_btime.tv_nsec);
}

static void follower_look(void *user, struct name *n)
{
    struct follower *f = user;
    char path[PATH_MAX];
    struct statx st;

    if (roster_path(n, path) < 0)
        return;
    if (statx(AT_FDCWD, path,
              f->settings.roster.follow_symlinks ? 0 : AT_SYMLINK_NOFOLLOW,
              STATX_BASIC_STATS | STATX_BTIME, &st) < 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            n->said = 0;
            detach(f, n);
            if (n->appearances > 0 && !f->starting) /* one came and went */
                (void)read_missed(f, path, n->last);
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
        if (find_source(f, &n->id) == NULL && !is_finished(f, &n->id) && is_copy_of(f, n, s))
            return n;
    }
    return NULL;
}

/* Gives a source another identity. */
static void identify(struct follower *f, struct source *s, const struct source_id *id)
{
    map_remove(&f->by_ino, &s->by_ino);
    s->id = *id;
    if (map_insert(&f->by_ino, &s->by_ino, ino_hash(id)) < 0)
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
    log_info("flow %s: '%s': is a copy of it; its rest is read from there", flow_of(f), s->path);
}

/* `s` has lost its content: it lets go of its file and of its name, which *ret_name is (or NULL).
 * Returns the descriptor. */
static int renounce(struct source *s, struct follower *f, struct name **ret_name)
{
    const struct source_id none = {.dev = s->id.dev, .born_ns = s->id.born_ns};
    struct source_id id = s->id;
    struct name *n = is_nameless(s) ? NULL : s->name;
    int fd = s->fd;

    assert(is_nameless(s) || n != NULL);
    watch_remove(f->watch, &s->sub);
    list_remove(&s->opened);
    f->descriptors->count--;
    s->fd = -1;
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
static struct source *begin_anew(struct follower *f, int fd, const char *path, struct name *n)
{
    struct identity_facts facts;
    struct source_id id;
    struct source *s;

    if (identity_read(f->digest, fd, &id, &facts) < 0 ||
        source_new(f, &id, (struct cursor){0}, path, fd, NULL, &s) < 0) {
        close(fd);
        s = NULL;
    } else if (n != NULL) {
        attach(f, n, s, path);
    } else {
        source_orphan(f, s);
    }
    if (n != NULL)
        roster_look(f->roster, n); /* whether it still leads there */
    return s;
}

void follower_stale(struct follower *f, struct source *s)
{
    struct source *anew, *last = s;
    struct neighbours all;
    struct neighbour *copy;
    struct name *n;
    char path[PATH_MAX];
    int fd;

    log_info("flow %s: '%s': was truncated or written anew; reading it from its start", flow_of(f),
             s->path);
    (void)snprintf(path, sizeof path, "%s", s->path);
    fd = renounce(s, f, &n);
    anew = begin_anew(f, fd, path, n);

    find_neighbours(f, path, 0, &all);
    copy = find_copy(f, s, &all);
    if (copy != NULL) {
        int64_t copied_ns = neighbour_born_ns(copy);

        go_on_in_copy(f, s, copy);
        source_orphan(f, s);
        last = read_between(f, &all, copied_ns, INT64_MAX, NULL, s); /* it may have happened twice */
    } else {
        if (!s->caught_up)
            log_warn("flow %s: '%s': it had not been read to its end, and no copy of it was found: "
                     "what it had beyond byte %llu is lost",
                     flow_of(f), path, (unsigned long long)s->at.offset);
        s->ending = s->at_end = true;
        source_orphan(f, s);
    }
    neighbours_done(&all);
    if (anew != NULL) {
        put_after(anew, last);
        f->events.news(f->events.user, anew);
    }
}

/* --- start --- */

/* The file of a past is nowhere.  Its place is forgotten, unless it may only be not mounted. */
static void give_up_past(struct follower *f, struct follower_past *p, const char *path)
{
    char dir[PATH_MAX];
    struct stat st;

    (void)snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path + 1), path);
    if (stat(dir, &st) < 0 || st.st_dev != p->id.dev) {
        log_warn("flow %s: '%s': its directory or file system is not there; its place, byte %llu, "
                 "is kept",
                 flow_of(f), path, (unsigned long long)p->at.offset);
        return;
    }
    p->used = true;
    log_warn("flow %s: '%s': the file that was read up to byte %llu was removed or written anew "
             "while the agent was stopped; if it had more, that is lost",
             flow_of(f), path, (unsigned long long)p->at.offset);
    f->events.lost(f->events.user, p->slot);
}

/* The source that is called `path` now. */
static struct source *find_named(const struct follower *f, const char *path)
{
    LIST_EACH(&f->named, node, after)
    {
        if (strcmp(source_of(node)->path, path) == 0)
            return source_of(node);
    }
    return NULL;
}

static bool past_path(const struct follower_past *p, char to[PATH_MAX])
{
    return snprintf(to, PATH_MAX, "%.*s", SLICE_ARG(p->path)) < PATH_MAX && to[0] == '/';
}

/* Looks for the file of a past in its directory: under another name, or a copy. */
static void claim_past(struct follower *f, struct follower_past *p)
{
    struct neighbours all;
    char path[PATH_MAX];

    if (p->used || !past_path(p, path))
        return;
    find_neighbours(f, path, p->id.ino, &all);
    for (size_t i = 0; i < all.count && !p->used; i++) {
        struct neighbour *n = all.items[i];
        bool same = source_id_is_same_object(&n->id, &p->id);
        struct source *s;

        if ((!same && p->id.head_len == 0) || find_source(f, &n->id) != NULL ||
            !identity_fits(f->digest, n->fd, &p->id, p->at) ||
            source_new(f, &n->id, p->at, n->path, n->fd, p->slot, &s) < 0)
            continue;
        n->fd = -1;
        p->used = true;
        p->source = s;
        f->events.changed(f->events.user, s);
        if (strcmp(path, s->path) != 0)
            log_info("flow %s: '%s': is '%s' now; its rest is read from byte %llu", flow_of(f),
                     path, s->path, (unsigned long long)p->at.offset);
        source_orphan(f, s);
    }
    neighbours_done(&all);
}

/* Whether a source goes on from a past. */
static bool is_resumed(const struct follower *f, const struct source *s)
{
    for (size_t i = 0; i < f->past_count; i++)
        if (f->past[i].source == s)
            return true;
    return false;
}

/* Reads what had the name of a past since, up to the file that has it now. */
static void read_since_past(struct follower *f, struct follower_past *p)
{
    const struct source_id *anew = NULL;
    struct source *current, *last;
    struct neighbours all;
    int64_t from_ns = f->settings.alive_ns, to_ns = INT64_MAX;
    char path[PATH_MAX];

    if (!past_path(p, path))
        return;
    current = find_named(f, path);
    last = p->source;
    if (last != NULL && last == current)
        return;
    find_neighbours(f, path, p->id.ino, &all);
    if (last == NULL && !all.incomplete)
        give_up_past(f, p, path);
    if (last != NULL && last->id.born_ns != 0)
        from_ns = MAX(last->id.born_ns, f->settings.alive_ns); /* older ones were seen, and read, or not wanted */
    if (last == NULL || !source_id_is_same_object(&last->id, &p->id))
        anew = &p->id;
    if (current != NULL && current->id.born_ns != 0 && is_resumed(f, current))
        to_ns = current->id.born_ns; /* what is younger than a file we know is a copy of it */
    last = read_between(f, &all, from_ns, to_ns, anew, last);
    if (current != NULL && last != NULL)
        put_after(current, last);
    neighbours_done(&all);
}

/* A file that looks like a rotation of one of ours: remembered until all that is known is found. */
static void follower_stray(void *user, const char *dir, const char *text)
{
    struct follower *f = user;

    if (!f->settings.known || !neighbours_add(&f->scope, f->strays, dir, text))
        return;

    /* A directory may hold a thousand old ones: only what will be read stays open. */
    if (neighbour_born_ns(f->strays->items[f->strays->count - 1]) < f->settings.alive_ns)
        neighbours_drop_last(f->strays);
}

/* Files that came and were rotated away while the agent was stopped, whatever had their name. */
static void read_strays(struct follower *f, struct neighbours *strays)
{
    neighbours_sort(strays);
    (void)read_between(f, strays, f->settings.alive_ns, INT64_MAX, NULL, NULL);
}

static void map_past(struct follower *f)
{
    for (size_t i = 0; i < f->past_count; i++)
        if (map_insert(&f->past_by_ino, &f->past[i].node, ino_hash(&f->past[i].id)) < 0)
            log_error("flow %s: out of memory; '%.*s' may be read again", flow_of(f),
                      SLICE_ARG(f->past[i].path));
}

void follower_start(struct follower *f)
{
    struct neighbours strays = {0};

    f->starting = true;
    f->started_ns = wall_ns();
    f->strays = &strays;
    roster_start(f->roster);
    f->strays = NULL;

    /* First everything finds its own file; only then can a file be said to be nobody's. */
    for (size_t i = 0; i < f->past_count; i++)
        claim_past(f, &f->past[i]);
    for (size_t i = 0; i < f->past_count; i++)
        read_since_past(f, &f->past[i]);
    read_strays(f, &strays);
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
        struct stat st;

        if (s->fd >= 0 && !s->ending && fstat(s->fd, &st) == 0 && st.st_nlink == 0)
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
                                                follower_stray, f};
    if ((r = loop_timer_init(loop, &f->tick, follower_tick)) < 0 ||
        (r = roster_new(loop, watch, &settings->roster, &roster_events, &f->roster)) < 0) {
        follower_free(f);
        return r;
    }
    map_past(f);
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
