#include "tail/follower.h"

#include "digest.h"
#include "run/log.h"
#include "run/loop.h"
#include "tail/copies.h"
#include "tail/follower_inner.h"
#include "tail/generation.h"
#include "tail/glob.h"
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

int64_t follower_wall_ns(void)
{
    struct timespec t;

    /* The clock that file systems take birth times from.  Since kernel 6.13 some take a finer one:
     * a birth may be up to a clock tick after what this says. */
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return (int64_t)t.tv_sec * follower_second_ns + t.tv_nsec;
}

enum { FOLLOWER_RETRY_MS = 60 * 1000 };

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

/* For generation_has_base: a path whose last part is replaced by each possible base in turn. */
struct base_search {
    const struct follower *follower;
    char path[PATH_MAX];
    size_t dir_len;
    struct name *found;
};

static bool is_base(void *user, struct slice base)
{
    struct base_search *s = user;

    if (base.len >= sizeof s->path - s->dir_len)
        return false;
    memcpy(s->path + s->dir_len, base.ptr, base.len);
    s->path[s->dir_len + base.len] = '\0';
    s->found = roster_find(s->follower->roster, s->path);
    return s->found != NULL;
}

struct name *follower_find_base(const struct follower *f, const char *path)
{
    const char *text = strrchr(path, '/') + 1;
    struct base_search s = {.follower = f, .dir_len = (size_t)(text - path)};

    (void)snprintf(s.path, sizeof s.path, "%s", path);
    return generation_has_base(slice_of(text), is_base, &s) ? s.found : NULL;
}

bool follower_knows(const struct follower *f, const struct source_id *id)
{
    return follower_find(f, id) != NULL || resting_find(f, id) != NULL;
}

const struct finished *follower_find_finished(const struct follower *f, const struct source_id *id)
{
    size_t count = MIN(f->finished_next, (size_t)FOLLOWER_FINISHED);

    for (size_t i = 0; i < count; i++)
        if (f->finished[i].id.dev == id->dev && f->finished[i].id.ino != 0 &&
            source_id_is_same_object(&f->finished[i].id, id))
            return &f->finished[i];
    return NULL;
}

int follower_add(struct follower *f, const struct source_id *id, struct cursor at, const char *path,
                 int fd, void *slot, struct source **ret)
{
    struct source *s = calloc(1, sizeof *s);
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->id = *id;
    s->encoding = f->settings.encoding;
    s->at = source_place(s, at);
    s->fd = -1;
    s->path = strdup(path);
    s->follower = f;
    s->sub.event = nameless_event;
    s->quiet_since_ms = loop_now_ms(f->loop);
    s->looked_ns = follower_wall_ns();
    list_init(&s->all);
    list_init(&s->opened);
    list_init(&s->names);
    list_init(&s->copies);
    list_init(&s->copy);
    r = s->path == NULL ? -ENOMEM : map_insert(&f->by_ino, &s->by_ino, follower_ino_hash(id));
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
    if (fd >= 0)
        open_files_adopt(f, s, fd);
    open_files_trim(f->descriptors, s);
    resting_set_timer(f);
    *ret = s;
    return 0;
}

void follower_release(struct follower *f, struct source *s)
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
    if (s == predecessor || (predecessor->at_end && !predecessor->open) ||
        predecessor->before != NULL || s->after != NULL)
        return;
    for (const struct source *p = predecessor; p != NULL; p = p->after)
        if (p == s)
            return; /* two that changed names would wait for each other */
    s->after = predecessor;
    predecessor->before = s;
}

void follower_settle_copies(struct follower *f, struct source *s)
{
    struct cursor settled = f->events.settled(f->events.user, s);

    LIST_EACH(&s->copies, node, after)
    {
        struct source *c = CONTAINER_OF(node, struct source, copy);
        struct cursor at;
        int fd, why;

        fd = open_files_same(f, c->path, &c->id, &why);
        if (fd < 0)
            continue;
        if (identity_cursor(f->digest, fd, MIN(settled.offset, c->seen), &at) == 0) {
            source_move(c, at);
            f->events.moved(f->events.user, c);
        }
        close(fd);
    }
}

void follower_free_source(struct follower *f, struct source *s)
{
    struct name *ghost = s->name;

    assert(list_is_empty(&s->names));
    follower_release(f, s);
    list_remove(&s->copy);
    while (!list_is_empty(&s->copies))
        list_remove(s->copies.next);
    if (s->after != NULL)
        s->after->before = NULL;
    watch_remove(f->watch, &s->sub);
    open_files_close(f, s);
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
    free(s->was);
    free(s);
}

void follower_identify(struct follower *f, struct source *s, const struct source_id *id)
{
    map_remove(&f->by_ino, &s->by_ino);
    s->id = *id;
    if (map_insert(&f->by_ino, &s->by_ino, follower_ino_hash(id)) < 0)
        abort(); /* cannot be: removing made the room */
}

void follower_say_path(struct follower *f, struct source *s, const char *path)
{
    char *copy;

    if (strcmp(s->path, path) == 0)
        return;
    copy = strdup(path);
    if (copy == NULL)
        return; /* the old one is as good as any for a log line; it is found again by its inode */
    free(s->path);
    s->path = copy;
    f->events.changed(f->events.user, s);
}

/* --- news --- */

/* Where a copy would go on if its original were lost now: what was delivered of that need not be
 * sent again. */
static int backup_place(const struct follower *f, const struct neighbour *copy, struct source *of,
                        struct cursor *ret)
{
    struct cursor settled = f->events.settled(f->events.user, of);

    return identity_cursor(f->digest, copy->fd, MIN(settled.offset, copy->facts.size), ret);
}

/* Whether a backup still has only what its original has; then its place follows that one's. */
bool follower_is_still_backup(struct follower *f, struct source *s)
{
    enum copies_verdict verdict = COPIES_NONE;
    struct neighbour now;
    struct cursor at;
    struct source *of = NULL;

    (void)snprintf(now.path, sizeof now.path, "%s", s->path);
    if (neighbour_open(&f->scope, &now) < 0)
        return false;
    if (source_id_is_same_object(&now.id, &s->id) && now.facts.size > 0)
        verdict = copies_judge(f, s->path, &now, &of);
    if (verdict == COPIES_BACKUP && backup_place(f, &now, of, &at) < 0)
        verdict = COPIES_NONE;
    close(now.fd);
    list_remove(&s->copy);
    if (verdict != COPIES_BACKUP)
        return verdict == COPIES_WAIT;
    list_append(&of->copies, &s->copy);
    if (at.offset != s->at.offset) {
        source_move(s, at);
        f->events.moved(f->events.user, s);
    }
    s->seen = now.facts.size;
    return true;
}

void follower_have_news(struct follower *f, struct source *s)
{
    if (s->backup) {
        s->backup = follower_is_still_backup(f, s);
        if (s->backup)
            return;
    }
    s->at_end = false;
    f->events.news(f->events.user, s);
}

void follower_grow_head(struct follower *f, struct source *s)
{
    if (s->packed == UNPACK_NONE && s->id.head_len < SOURCE_HEAD_MAX &&
        identity_grow_head(f->digest, s->fd, &s->id))
        f->events.changed(f->events.user, s);
}

void follower_at_end(struct follower *f, struct source *s)
{
    s->at_end = s->caught_up = true;
    s->looked_ns = follower_wall_ns();
    if (s->at.offset == 0)
        follower_grow_head(f,
                           s); /* by the half line that is there: else nothing tells if it goes */
    follower_release(f, s);
    open_files_trim(f->descriptors, NULL);
}

void follower_unreadable(struct follower *f, struct source *s)
{
    follower_release(f, s);
}

void follower_was_read(struct follower *f, struct source *s)
{
    s->at_end = s->caught_up = false;
    s->looked_ns = follower_wall_ns();
    s->quiet_since_ms = loop_now_ms(f->loop);
    if (!is_nameless(s)) {
        list_remove(&s->all);
        list_append(&f->named, &s->all);
    }
    follower_grow_head(f, s);
}

/* --- names and files --- */

void follower_set_last(struct name *n, struct source *s)
{
    if (n->last != NULL && n->last != s && n->last->name == n)
        n->last->name = NULL;
    n->last = s;
    s->name = n;
}

void follower_attach(struct follower *f, struct name *n, struct source *s, const char *path)
{
    bool again = s->name != NULL && s->name != n;
    struct stat st;

    n->source = s;
    n->said = 0;
    list_append(&s->names, &n->same);

    /* Its directory's watch hears only of what goes by its own names; and who opened it by a name
     * that is gone writes by that for ever (inotify(7)). */
    if (s->fd >= 0 && (again || s->names.next != &n->same ||
                       (lstat(path, &st) == 0 && (S_ISLNK(st.st_mode) || st.st_nlink > 1))))
        nameless_watch(f, s);
    else if (s->names.next == &n->same)
        watch_remove(f->watch, &s->sub);
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
    s->quiet_since_ms = loop_now_ms(f->loop);
    s->poll = s->ending = false;
    follower_say_path(f, s, path);
    resting_set_timer(f);
}

/* `s` was called `n`. */
static void note_was(const struct name *n, struct source *s)
{
    char path[PATH_MAX];

    if (roster_path(n, path) < 0)
        return;
    free(s->was);
    s->was = strdup(path); /* without memory for it, a copy may not be found */
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
    note_was(n, s);
    if (!is_nameless(s)) {
        s->name = CONTAINER_OF(s->names.next, struct name, same);
        if (roster_path(s->name, path) == 0)
            follower_say_path(f, s, path);
        if (s->fd >= 0)
            nameless_watch(f, s); /* what is left may be links */
        LIST_EACH(&s->names, node, after)
        {
            roster_look(f->roster, CONTAINER_OF(node, struct name, same));
        }
        return;
    }
    follower_set_last(n, s);
    follower_orphan(f, s);
}

/* --- what is not followed --- */

static void complain(struct follower *f, struct name *n, const char *path, int error)
{
    if (error == -ENOMEM)
        roster_look_again(f->roster);
    if (n->said == -error)
        return;
    n->said = (int16_t)-error;
    switch (error) {
    case -ELOOP:
        if (f->settings.roster.follow_symlinks) {
            log_warn("flow %s: '%s': is a symbolic link in a circle; left alone", follower_flow(f),
                     path);
            break;
        }
        log_warn("flow %s: '%s': is a symbolic link, or lies behind one; not followed, set "
                 "follow_symlinks = true if it should be",
                 follower_flow(f), path);
        break;
    case -EMLINK:
        log_warn("flow %s: '%s': is a hard link to a file of another owner than its directory's; "
                 "not followed, set follow_hard_links = true if it should be",
                 follower_flow(f), path);
        break;
    case -EDEADLK:
        log_warn("flow %s: '%s': is where kinetail itself writes its log; not followed",
                 follower_flow(f), path);
        break;
    case -EPROTO:
        log_debug("flow %s: '%s': is compressed; what is not delivered of its log is read from it, "
                  "but it is no log of its own",
                  follower_flow(f), path);
        break;
    case -EISDIR:
    case -EINVAL:
    case -ENXIO:
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
        log_error("flow %s: '%s': cannot be read: %s; trying again in a %s", follower_flow(f), path,
                  strerrordesc_np(-error), error == -ENOMEM ? "second" : "minute");
    }
}

int follower_may_read(const struct follower *f, const char *path, const struct source_id *id,
                      const struct identity_facts *facts)
{
    char dir[PATH_MAX];
    struct stat st;

    for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == id->ino &&
            st.st_dev == id->dev)
            return -EDEADLK;
    if (facts->links <= 1 || f->settings.follow_hard_links)
        return 0;
    (void)snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path + 1), path);
    return stat(dir, &st) == 0 && st.st_uid != facts->owner ? -EMLINK : 0;
}

/* --- meeting a file --- */

/* What was called `path` in a directory that went, or that a link does not lead to any more. */
static struct source *find_dropped(const struct follower *f, const char *path)
{
    uint64_t hash = map_hash_slice(1, slice_of(path));

    LIST_EACH(&f->nameless, node, after)
    {
        if (source_of(node)->dropped == hash)
            return source_of(node);
    }
    return NULL;
}

/* Whether a file has come and gone that nobody saw, going by what was told of the name since the last
 * look: more have come than the one that is there now (`has`), or more have left than the one that
 * was known (`had`).  The second alone is all that is told of one that came before its directory was
 * watched, and left before it was opened. */
static bool has_missed(const struct name *n, bool had, bool has)
{
    return n->copied || n->appearances > (has ? 1 : 0) || n->departures > (had ? 1 : 0);
}

/* What was called `path` before it was renamed to another name that the globs mean, if an event that
 * began in it may go on in the file that has the name now.  It had news lately: it is among the last. */
static struct source *find_renamed(const struct follower *f, const char *path,
                                   const struct source *except)
{
    size_t looked = 0;

    if (!f->settings.joins)
        return NULL;
    for (struct list *node = f->named.prev; node != &f->named && looked < FOLLOWER_RENAMED;
         node = node->prev, looked++) {
        struct source *s = source_of(node);

        if (s != except && s->was != NULL && s->before == NULL && (s->open || !s->at_end) &&
            strcmp(s->was, path) == 0 && strcmp(s->path, path) != 0)
            return s;
    }
    return NULL;
}

static void follow(struct follower *f, struct name *n, const char *path, struct source *s)
{
    struct source *previous = n->last;
    bool had = previous != NULL, missed;

    if (previous == NULL && !f->starting && f->settings.roster.follow_symlinks)
        previous = find_dropped(f, path);
    follower_attach(f, n, s, path);
    watch_catch_up(f->watch); /* what happened before it was opened is counted now */

    /* Others may have had the name between the one before and this one: unless inotify has told of
     * this one alone. */
    missed = has_missed(n, had, true);
    if (!f->starting && (missed || (previous != NULL && !previous->truncated &&
                                    (n->appearances == 0 || !roster_is_sure(f->roster, n)))))
        previous = missed_read(f, path, previous);
    if (missed)
        previous = missed_read_moved(f, n, path, previous);
    if (previous == NULL)
        previous = find_renamed(f, path, s);
    if (previous == NULL && !f->starting)
        previous = resume_predecessor(f, path);
    if (previous != NULL)
        follower_put_after(s, previous);
    log_debug("flow %s: '%s': following from byte %llu", follower_flow(f), path,
              (unsigned long long)s->at.offset);
    follower_have_news(f, s);
    open_files_trim(f->descriptors, s);
}

/* A file that nobody knows, at the start: first everything else finds its own. */
static int defer(struct follower *f, struct name *n, const struct neighbour *file)
{
    struct deferred *more;

    if (n->deferred)
        return 0;
    more = reallocarray(f->deferred, f->deferred_count + 1, sizeof(*more));
    if (more == NULL)
        return -ENOMEM;
    f->deferred = more;
    f->deferred[f->deferred_count++] = (struct deferred){n, neighbour_born_ns(file), file->id.ino};
    n->deferred = true;
    return 0;
}

/* The name goes; rare enough at a start to be searched for. */
static void undefer(struct follower *f, const struct name *n)
{
    for (size_t i = 0; n->deferred && i < f->deferred_count; i++)
        if (f->deferred[i].name == n) {
            f->deferred[i] = f->deferred[--f->deferred_count];
            return;
        }
}

/* A copy of what is read elsewhere: it is known, and not read. */
static int settle_copy(struct follower *f, struct name *n, const char *path,
                       const struct neighbour *copy, struct source *of)
{
    struct cursor at;
    struct source *s;
    int r = backup_place(f, copy, of, &at);

    if (r == 0)
        r = follower_add(f, &copy->id, at, path, -1, NULL, &s);
    if (r < 0)
        return r;
    log_info("flow %s: '%s': is a copy of '%s'; not read again", follower_flow(f), path, of->path);
    s->at_end = s->caught_up = s->backup = true;
    s->seen = copy->facts.size;
    list_append(&of->copies, &s->copy);
    follower_attach(f, n, s, path);
    return 0;
}

/* A file that nobody knows has come to be called `n`; `file` keeps its descriptor if it is -1
 * afterwards. */
static int meet_stranger(struct follower *f, struct name *n, const char *path,
                         struct neighbour *file)
{
    const struct finished *finished;
    struct source *s = NULL, *of = NULL;
    struct cursor at;
    int r;

    if (f->starting && !f->settling)
        return defer(f, n, file);
    switch (copies_judge(f, path, file, &of)) {
    case COPIES_WAIT:
        return 0; /* an event or the next glance comes back to it */
    case COPIES_BACKUP:
        return settle_copy(f, n, path, file, of);
    case COPIES_NONE:
        break;
    }
    finished = follower_find_finished(f, &file->id);
    if (finished != NULL && neighbour_fits(&f->scope, file, &finished->id, finished->at)) {
        at = finished->at; /* it was away, with its directory */
        r = 0;
    } else {
        r = resume_place(f, path, file, &at);
    }
    if (r == 0)
        r = follower_add(f, &file->id, at, path, file->fd, NULL, &s);
    if (r < 0)
        return r;
    file->fd = -1;
    follow(f, n, path, s);
    return 0;
}

/* A file that we do not read yet has come to be called `n`. */
static int meet(struct follower *f, struct name *n, const char *path, struct neighbour *file)
{
    int r = follower_may_read(f, path, &file->id, &file->facts);
    struct follower_past *past;
    struct source *s, *of;
    bool is_backup;

    if (r < 0)
        return r;
    if (file->packed != UNPACK_NONE)
        return -EPROTO;
    past = resume_find(f, file);
    if (past == NULL)
        return meet_stranger(f, n, path, file);
    /* One that an earlier run knew as a backup is one still, if its original is there. */
    is_backup = file->facts.size > 0 && copies_judge(f, path, file, &of) != COPIES_NONE;
    r = resume_past(f, past, file, &s);
    if (r < 0)
        return r;
    s->backup = s->at_end = is_backup;
    follow(f, n, path, s);
    f->events.changed(f->events.user, s);
    return 0;
}

/* Whether what is behind a name now is the file that was there before, though it says otherwise: an
 * overlay gives a file another birth, and maybe another inode, when it copies it up. */
static bool is_same_after_all(const struct follower *f, const struct source *s,
                              const struct neighbour *file)
{
    struct source_id now;
    struct identity_facts facts;

    if (s == NULL || s->id.handle_len > 0 || file->id.handle_len > 0)
        return false;
    if (s->fd >= 0)
        return identity_read(f->digest, s->fd, &now, &facts) == 0 && now.dev == file->id.dev &&
               source_id_is_same_object(&now, &file->id);
    return s->at.offset > 0 && s->id.ino == file->id.ino && s->id.dev == file->id.dev &&
           identity_fits(f->digest, file->fd, &s->id, s->at);
}

/* Whether the file of `s` has shrunk since the last event, or is not what it was. */
static bool has_lost(const struct follower *f, struct source *s)
{
    struct stat st;
    uint64_t before = s->grown;

    if (fstat(s->fd, &st) < 0)
        return false;
    s->grown = (uint64_t)st.st_size;
    return s->grown < before || !copies_source_holds(f, s);
}

/* Something has happened to the file of `s`.  While it waits to be read, what it has lost is noticed
 * all the same: a copy of it is easier to find now than later. */
static void was_written(struct follower *f, struct source *s)
{
    if (s->fd < 0)
        (void)follower_open(f, s); /* it may be deleted before its turn to be read comes */
    if (!s->at_end && s->fd >= 0 && has_lost(f, s)) {
        follower_stale(f, s);
        return;
    }
    if (s->at.offset == 0 && s->fd >= 0)
        follower_grow_head(f, s); /* all that it is known by, until it is read */
    follower_have_news(f, s);
}

/* The file behind `n`, opened and identified.  False: it went between two looks; an event will say so,
 * and what has appeared until then still counts. */
static bool look_closely(struct follower *f, struct name *n, const char *path,
                         const struct statx *st)
{
    struct neighbour file;
    struct source *s = NULL;
    struct name *resting;
    int r;

    (void)snprintf(file.path, sizeof file.path, "%s", path);
    r = neighbour_open(&f->scope, &file);
    if (r == -ENOENT)
        return false;
    if (r < 0) {
        complain(f, n, path, r);
        if (r == -EACCES && f->starting)
            resume_note_unread(f, st);
        return true;
    }
    s = follower_find(f, &file.id);
    if (s == NULL && is_same_after_all(f, n->source, &file)) {
        s = n->source;
        follower_identify(f, s, &file.id);
        open_files_close(f, s);
        open_files_adopt(f, s, file.fd);
        file.fd = -1;
        f->events.changed(f->events.user, s);
    }
    resting = s == NULL ? resting_find(f, &file.id) : NULL;
    if (resting != NULL)
        s = resting_wake(f, resting);
    if (s != NULL && s == n->source) {
        /* Its first content may be in a copy only; and if a file appeared, but this one was seen
         * before, it may have been another one that is gone again. */
        if (n->appearances > 0 || (n->copied && s->at.offset == 0))
            (void)missed_read(f, path, NULL);
        was_written(f, s);
    } else {
        detach(f, n);
        s = follower_find(f, &file.id); /* what was called so before may have gone on in it */
        if (s == NULL) {
            r = meet(f, n, path, &file);
            if (r < 0)
                complain(f, n, path, r);
        } else {
            follower_attach(f, n, s, path);
            f->events.news(f->events.user, s);
        }
    }
    if (file.fd >= 0)
        close(file.fd);
    return true;
}

static int64_t born_ns(const struct statx *st)
{
    return (st->stx_mask & STATX_BTIME) == 0
               ? 0
               : (int64_t)st->stx_btime.tv_sec * follower_second_ns + st->stx_btime.tv_nsec;
}

static bool is_unchanged(const struct source_id *id, const struct statx *st)
{
    return id->ino == st->stx_ino && id->dev == makedev(st->stx_dev_major, st->stx_dev_minor) &&
           (born_ns(st) == 0 || id->born_ns == 0 || id->born_ns == born_ns(st));
}

/* Whether a resting name can go on resting. */
static bool sleeps_on(struct follower *f, struct name *n, const struct statx *st)
{
    struct source_id id;
    struct cursor at;

    if (n->modified || n->appearances > 0 || n->copied || st->stx_size != n->rest_size ||
        st->stx_mtime.tv_sec >= (int64_t)n->rested_s || st->stx_nlink > 1)
        return false;
    f->events.recall(f->events.user, n->slot, &id, &at);
    return is_unchanged(&id, st);
}

/* There is nothing that is called `n`. */
static void look_at_nothing(struct follower *f, struct name *n, const char *path)
{
    bool had = n->source != NULL;
    struct stat st;

    n->said = n->said == ENOLINK ? n->said : 0;
    detach(f, n);
    if (f->settings.roster.follow_symlinks && lstat(path, &st) == 0) {
        roster_peek(n); /* a link that leads nowhere */
        return;
    }
    if (f->starting)
        watch_catch_up(f->watch); /* it was there when it was listed: where it begins is said now */
    if (has_missed(n, had, false))
        (void)missed_read_moved(f, n, path, f->starting ? n->last : missed_read(f, path, n->last));
    n->appearances = n->departures = 0;
    n->copied = n->modified = false;
    if (n->last == NULL && !n->deferred)
        roster_forget(f->roster, n);
}

static void follower_look(void *user, struct name *n)
{
    struct follower *f = user;
    uint16_t appeared = n->appearances, left = n->departures;
    char path[PATH_MAX];
    struct statx st;
    int r = 0;

    if (roster_path(n, path) < 0)
        return;
    if (statx(AT_FDCWD, path, f->settings.roster.follow_symlinks ? 0 : AT_SYMLINK_NOFOLLOW,
              STATX_BASIC_STATS | STATX_BTIME, &st) < 0)
        r = -errno;
    if (n->resting) {
        if (r == 0 && sleeps_on(f, n, &st))
            return;
        if (r == 0)
            roster_found(f->roster, n, (int64_t)st.stx_mtime.tv_sec * follower_second_ns);
        if (resting_wake(f, n) == NULL)
            return;
        n->source->at_end = !n->modified;
    }
    if (r == -ENOENT || r == -ENOTDIR) {
        look_at_nothing(f, n, path);
        return;
    }
    if (r < 0) {
        complain(f, n, path, r);
        if (n->source != NULL)
            f->events.news(f->events.user, n->source); /* it was kept waiting for this */
        return;
    }
    if (!S_ISREG(st.stx_mode)) {
        detach(f, n);
        complain(f, n, path, S_ISLNK(st.stx_mode) ? -ELOOP : -EINVAL);
    } else if (n->source != NULL && n->appearances == 0 && !n->copied &&
               is_unchanged(&n->source->id, &st)) {
        if (!n->modified && n->source->at_end && st.stx_size != n->source->seen)
            roster_found(f->roster, n, (int64_t)st.stx_mtime.tv_sec * follower_second_ns);
        if (n->modified || st.stx_size != n->source->seen)
            was_written(f, n->source);
    } else if (!(f->starting && resume_at_rest(f, n, path, &st)) &&
               !look_closely(f, n, path, &st)) {
        return;
    }
    n->appearances -= appeared; /* what came while we looked is for the next look */
    n->departures -= left;
    n->copied = n->modified = false;
}

static void follower_modified(void *user, struct name *n)
{
    was_written(user, n->source);
}

/* The name goes, with the directory that it is in: another one is called so, or nothing. */
static void follower_drop(void *user, struct name *n)
{
    struct follower *f = user;
    char path[PATH_MAX];
    int fd, why;

    if (n->resting && f->closing)
        resting_leave(f, n);
    if (f->closing)
        return;
    undefer(f, n);
    if (n->resting)
        (void)resting_wake(f, n);
    if (n->resting) {
        f->events.lost(f->events.user, n->slot);
        resting_leave(f, n);
    }
    if (n->source != NULL && n->source->fd < 0 && roster_real_path(n, path) == 0) {
        /* A link may lead elsewhere now, but the file is where it was. */
        fd = open_files_same(f, path, &n->source->id, &why);
        if (fd >= 0)
            open_files_adopt(f, n->source, fd);
    }
    if (n->source != NULL && roster_path(n, path) == 0)
        n->source->dropped = map_hash_slice(1, slice_of(path));
    detach(f, n);
    if (n->last != NULL) {
        n->last->name = NULL;
        n->last = NULL;
    }
}

/* --- life --- */

static int compare_deferred(const void *a, const void *b)
{
    const struct deferred *x = a, *y = b;

    return x->born_ns < y->born_ns ? -1 : x->born_ns > y->born_ns;
}

/* Everything that was known has found its file: the others are new, or copies. */
static void meet_deferred(struct follower *f)
{
    f->settling = true;
    if (f->deferred_count > 1)
        qsort(f->deferred, f->deferred_count, sizeof(*f->deferred), compare_deferred);
    for (size_t i = 0; i < f->deferred_count; i++) {
        f->deferred[i].name->deferred = false;
        follower_look(f, f->deferred[i].name);
    }
    free(f->deferred);
    f->deferred = NULL;
    f->deferred_count = 0;
    f->settling = false;
}

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
    meet_deferred(f);
    f->starting = false;
}

bool follower_forget_past(struct follower *f)
{
    for (size_t i = 0; i < f->past_count; i++)
        if (!f->past[i].used) {
            loop_timer_set(f->loop, &f->retry, loop_now_ms(f->loop) + FOLLOWER_RETRY_MS);
            return false;
        }
    map_done(&f->past_by_ino);
    map_done(&f->past_by_path);
    f->past = NULL;
    f->past_count = 0;
    return true;
}

bool follower_must_wait(const struct source *s)
{
    return s->after != NULL ||
           (!is_nameless(s) && s->name != NULL && !list_is_empty(&s->name->looking));
}

int64_t follower_sure_ns(const struct follower *f)
{
    return MAX(f->started_ns, roster_sure_ns(f->roster));
}

size_t follower_count(const struct follower *f)
{
    return f->count + f->resting_count;
}

/* A directory that was not there at the start may have come. */
static void retry_tick(struct loop_timer *t)
{
    struct follower *f = CONTAINER_OF(t, struct follower, retry);

    resume_again(f);
    loop_timer_set(f->loop, &f->retry, loop_now_ms(f->loop) + FOLLOWER_RETRY_MS);
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
    f->scope = (struct neighbours_scope){digest, settings->roster.follow_symlinks, NULL};
    f->descriptors = descriptors;
    f->settings = *settings;
    f->events = *events;
    f->past = past;
    f->past_count = past_count;
    list_init(&f->named);
    list_init(&f->nameless);
    const struct roster_events roster_events = {follower_look, follower_modified, follower_drop,
                                                resume_stray, f};
    f->finished = calloc(FOLLOWER_FINISHED, sizeof(*f->finished));
    r = f->finished == NULL ? -ENOMEM : 0;
    if (r < 0 || (r = loop_timer_init(loop, &f->tick, nameless_tick)) < 0 ||
        (r = loop_timer_init(loop, &f->rest, resting_tick)) < 0 ||
        (r = loop_timer_init(loop, &f->retry, retry_tick)) < 0 ||
        (settings->rotated_count > 0 &&
         (r = glob_new(settings->rotated, settings->rotated_count, &f->rotated)) < 0) ||
        (r = roster_new(loop, watch, &settings->roster, &roster_events, &f->roster)) < 0) {
        follower_free(f);
        return r;
    }
    f->scope.rotated = f->rotated;
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
        open_files_close(f, s);
        free(s->path);
        free(s->was);
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
    map_done(&f->past_by_path);
    map_done(&f->resting);
    loop_timer_done(f->loop, &f->tick);
    loop_timer_done(f->loop, &f->rest);
    loop_timer_done(f->loop, &f->retry);
    glob_free(f->rotated);
    free(f->finished);
    free(f->unread);
    free(f->deferred);
    free(f);
}
