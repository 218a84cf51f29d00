/* Files that lost their names: renamed, deleted, or copied and truncated.  A writer may still hold
 * them, so they are read on until they have been quiet for a grace time; then what is left without a
 * newline leaves as a last record. */
#include "run/log.h"
#include "tail/copies.h"
#include "tail/follower_inner.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NAMELESS_TICK_MS = 1000,
    NAMELESS_RENAMED_MS = 60 * 1000, /* a writer may hold a renamed file for so long */
    NAMELESS_DELETED_MS = 15 * 1000, /* … and a deleted one, whose space we hold with it */
};

/* A directory's watch does not tell of a file that was moved elsewhere; its own does.  Without one
 * the tick looks once a second. */
void nameless_watch(struct follower *f, struct source *s)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", s->fd);
    s->poll = s->sub.entry == NULL &&
              watch_add(f->watch, &s->sub, path,
                        IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF) < 0;
}

/* What it is called now, for the log, and to find it again by. */
static void note_path(struct follower *f, struct source *s)
{
    char path[PATH_MAX];

    if (s->fd >= 0 && open_files_path(s->fd, &s->id, path))
        follower_say_path(f, s, path);
}

void nameless_event(struct watch_sub *sub, uint32_t mask, const char *name)
{
    struct source *s = CONTAINER_OF(sub, struct source, sub);

    (void)name;
    if ((mask & ~(uint32_t)IN_MODIFY) != 0 && !is_nameless(s))
        roster_look(s->follower->roster, s->name); /* what a link led to was moved or removed */
    else if ((mask & IN_MOVE_SELF) != 0)
        note_path(s->follower, s);
    if (!s->truncated)
        follower_have_news(s->follower, s);
}

/* Whether nobody can open the file again: our descriptor is all that holds it. */
static bool is_deleted(const struct source *s, struct stat *ret)
{
    return s->fd >= 0 && fstat(s->fd, ret) == 0 && ret->st_nlink == 0;
}

static void want_tick(struct follower *f)
{
    if (!loop_timer_is_set(&f->tick))
        loop_timer_set(f->loop, &f->tick, loop_now_ms(f->loop) + NAMELESS_TICK_MS);
}

void follower_orphan(struct follower *f, struct source *s)
{
    char path[PATH_MAX];
    int fd = -ENOENT, why;

    list_remove(&s->all);
    list_append(&f->nameless, &s->all);
    s->quiet_since_ms = loop_now_ms(f->loop);
    if (s->fd < 0 && !s->truncated) {
        if (s->name != NULL && roster_went(f->roster, s->name, path))
            fd = open_files_same(f, path, &s->id, &why);
        if (fd < 0)
            fd = open_files_search(f, &s->id, s->path);
        if (fd >= 0)
            open_files_adopt(f, s, fd);
        else if (!s->at_end)
            (void)rewritten_find_copy(f, s);
    }
    if (s->fd >= 0) {
        s->at_end = false; /* once more, before what took over its name */
        nameless_watch(f, s);
        note_path(f, s);
    } else {
        if ((!s->at_end || s->open) && !s->truncated)
            log_warn("flow %s: '%s': was removed before it was read to its end, and was not open; "
                     "what it had beyond byte %llu is lost",
                     follower_flow(f), s->path, (unsigned long long)s->at.offset);
        s->at_end = s->ending = true; /* as far as we knew of */
        follower_release(f, s);
    }
    want_tick(f);
    f->events.news(f->events.user, s);
}

bool nameless_let_go(struct follower *f, struct source *s)
{
    if (!s->at_end || !s->ending || !f->events.is_settled(f->events.user, s))
        return false;
    follower_settle_copies(f, s);
    f->events.left(f->events.user, s);
    f->finished[f->finished_next++ % FOLLOWER_FINISHED] = (struct finished){
        s->id, s->at, map_hash_slice(0, slice_of(s->path)), copies_is_telling(f, s)};
    follower_free_source(f, s);
    return true;
}

void nameless_end(struct follower *f, struct source *s)
{
    s->ending = true;
    follower_have_news(f, s);
}

/* What a deleted file has that was not delivered is bytes on a disk that nobody else can free. */
static void hold(struct follower *f, struct source *s, const struct stat *st)
{
    uint64_t bytes =
        (uint64_t)st->st_size > s->at.offset ? (uint64_t)st->st_size - s->at.offset : 0;
    uint64_t limit = f->settings.held_limit;

    f->held_bytes += bytes;
    if (bytes > 0 && !f->said_held) {
        f->said_held = true;
        log_warn("flow %s: '%s': was deleted with %llu bytes that are not delivered yet; kept open "
                 "until they are (held_limit bounds what is held so)",
                 follower_flow(f), s->path, (unsigned long long)bytes);
    }
    if (limit == 0 || f->held_bytes <= limit)
        return;
    if (f->events.rescue(f->events.user, true)) {
        if (!f->rescuing)
            log_warn("flow %s: deleted files hold more than held_limit (%llu bytes) undelivered; "
                     "they are read into the spool now, and others wait",
                     follower_flow(f), (unsigned long long)limit);
        f->rescuing = true;
        return;
    }
    log_error("flow %s: '%s': deleted files hold more than held_limit (%llu bytes) undelivered; "
              "this one is given up, its %llu bytes beyond byte %llu are lost",
              follower_flow(f), s->path, (unsigned long long)limit, (unsigned long long)bytes,
              (unsigned long long)s->at.offset);
    f->held_bytes -= bytes;
    s->given_up = s->at_end = s->ending = true;
    open_files_close(f, s);
    follower_release(f, s);
    f->events.news(f->events.user, s); /* what it was to go on with leaves */
}

/* Looks after one nameless source; it may be freed. */
static void look_after(struct follower *f, struct source *s)
{
    uint64_t quiet_ms = loop_now_ms(f->loop) - s->quiet_since_ms;
    struct stat st;
    bool deleted = false;

    if (s->ending && s->at_end) {
        (void)nameless_let_go(f, s);
        return;
    }
    if (!s->at_end || quiet_ms >= NAMELESS_DELETED_MS)
        deleted = is_deleted(s, &st);
    if (deleted && !s->at_end) {
        hold(f, s, &st);
        if (s->given_up)
            return;
    }
    if (s->at_end && !s->ending &&
        quiet_ms >= (deleted ? NAMELESS_DELETED_MS : NAMELESS_RENAMED_MS))
        nameless_end(f, s);
    else if (s->poll || (!s->at_end && s->fd < 0)) /* it may have been no time to open it */
        follower_have_news(f, s);
}

void nameless_tick(struct loop_timer *t)
{
    struct follower *f = CONTAINER_OF(t, struct follower, tick);
    bool held = f->held_bytes > 0;

    /* The youngest first: if held_limit is exceeded, it is the oldest that goes. */
    f->held_bytes = 0;
    for (struct list *node = f->nameless.prev, *before = node->prev; node != &f->nameless;
         node = before, before = node->prev)
        look_after(f, source_of(node));
    if (f->rescuing && f->held_bytes == 0) {
        f->rescuing = false;
        (void)f->events.rescue(f->events.user, false);
    }
    if (f->held_bytes == 0 && held && f->said_held) {
        f->said_held = false;
        log_info("flow %s: all deleted files are delivered", follower_flow(f));
    }
    if (!list_is_empty(&f->nameless))
        want_tick(f);
}

void follower_hurry(struct follower *f)
{
    LIST_EACH(&f->nameless, node, after)
    {
        struct source *s = source_of(node);
        struct stat st;

        if (!s->ending && is_deleted(s, &st))
            nameless_end(f, s);
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
        (void)nameless_let_go(f, source_of(node));
    }

    /* What nothing was read of is known by its beginning alone; and copies by how far their
     * originals are delivered. */
    LIST_EACH(&f->named, node, after)
    {
        follower_settle_copies(f, source_of(node));
        if (source_of(node)->at.offset == 0 && source_of(node)->fd >= 0)
            follower_grow_head(f, source_of(node));
    }
}

uint64_t follower_held_bytes(const struct follower *f)
{
    return f->held_bytes;
}
