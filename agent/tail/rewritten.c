/* Files that do not have the content any more that was read from them: truncated, shortened, written
 * anew.  The new content is another source; the old one goes on in a copy, if there is one. */
#include "run/log.h"
#include "tail/copies.h"
#include "tail/follower_inner.h"
#include "tail/generation.h"
#include "tail/identity.h"
#include "tail/missed.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A file that was taken for a settled copy of `s`, and has the rest of it now: it is not a source of
 * its own any more. */
static bool dissolve_backup(struct follower *f, const struct neighbour *n)
{
    struct source *known = follower_find(f, &n->id);
    struct name *name = known == NULL ? resting_find(f, &n->id) : NULL;

    if (name != NULL)
        known = resting_wake(f, name);
    if (known == NULL || (known->at.offset != n->facts.size && !known->backup) ||
        is_nameless(known) || known->names.next != known->names.prev ||
        !f->events.is_settled(f->events.user, known))
        return false;
    name = known->name;
    list_remove(&name->same);
    name->source = NULL;
    f->events.left(f->events.user, known);
    known->name = NULL;
    follower_free_source(f, known);
    return true;
}

/* Looks for a copy of what `s` was, made before it was truncated, and holds it.  Even one without anything more is
 * worth to be known: or it would be taken for a file that nobody has read. */
static struct neighbour *find_copy(struct follower *f, const struct source *s,
                                   struct neighbours *all)
{
    /* A rotation's copy is what is looked for; a person's backup will do. */
    neighbours_sort_copies(all, s->looked_ns, s->looked_ns);
    for (int backup = 0; backup <= 1; backup++)
        for (size_t i = 0; i < all->count; i++) {
            struct neighbour *n = all->items[i];

            if (generation_is_backup(slice_of(n->path)) != (backup == 1) ||
                follower_find_finished(f, &n->id) != NULL || !neighbour_hold(&f->scope, n))
                continue;
            if (copies_fits(f, n, s) && (!follower_knows(f, &n->id) || dissolve_backup(f, n)))
                return n;
            neighbour_drop(n);
        }
    return NULL;
}

/* `s` goes on in the copy; if that is called as the globs say, the next look finds it there. */
static void go_on_in_copy(struct follower *f, struct source *s, struct neighbour *copy)
{
    struct name *n = roster_find(f->roster, copy->path);
    struct source_id id = copy->id;

    if (copy->packed != UNPACK_NONE) { /* it is known by what is in it */
        id.head_len = s->id.head_len;
        id.head_hash = s->id.head_hash;
    }
    follower_identify(f, s, &id);
    open_files_adopt(f, s, copy->fd);
    copy->fd = -1;
    s->packed = copy->packed;
    s->at_end = false;
    s->truncated = false;
    follower_say_path(f, s, copy->path);
    f->events.changed(f->events.user, s);
    log_info("flow %s: '%s': is a copy of it; its rest is read from there", follower_flow(f),
             s->path);
    if (n != NULL)
        roster_look(f->roster, n);
}

/* `s` has lost its content: it lets go of its file and of its name, which *ret_name is (or NULL).
 * Returns the descriptor. */
static int renounce(struct source *s, struct follower *f, struct name **ret_name)
{
    const struct source_id none = {.dev = s->id.dev, .born_ns = s->id.born_ns};
    struct source_id id = s->id;
    struct name *n = is_nameless(s) ? NULL : s->name;
    int fd = open_files_take(f, s);

    assert(is_nameless(s) || n != NULL);
    watch_remove(f->watch, &s->sub);
    s->truncated = true;
    follower_identify(f, s, &none);
    s->id.head_len = id.head_len; /* what a copy of it is known by */
    s->id.head_hash = id.head_hash;
    if (n != NULL) {
        n->source = NULL;
        list_remove(&n->same);
        follower_set_last(n, s);
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
        follower_add(f, &id, (struct cursor){0}, path, fd, NULL, &s) < 0) {
        close(fd);
        s = NULL;
    } else if (n != NULL) {
        follower_attach(f, n, s, path);
    } else {
        follower_orphan(f, s);
    }
    if (n != NULL)
        roster_look(f->roster, n); /* whether it still leads there */
    return s;
}

/* What a file is or was called: the copies and generations of it are called by that. */
static size_t list_paths(const struct source *s, char (*paths)[PATH_MAX], size_t max)
{
    size_t count = 0;

    (void)snprintf(paths[count++], PATH_MAX, "%s", s->path);
    if (s->was != NULL)
        (void)snprintf(paths[count++], PATH_MAX, "%s", s->was);
    LIST_EACH(&s->names, node, after)
    {
        if (count < max && roster_path(CONTAINER_OF(node, struct name, same), paths[count]) == 0)
            count++;
    }
    return count;
}

/* Looks beside every name that `s` has for a copy of it; `all` are the neighbours of the last one. */
static struct neighbour *find_copy_anywhere(struct follower *f, const struct source *s,
                                            char (*paths)[PATH_MAX], size_t count,
                                            struct neighbours *all)
{
    struct neighbour *copy = NULL;

    for (size_t i = 0; i < count && copy == NULL; i++) {
        const struct neighbours_query query = {
            .path = paths[i], .siblings = true, .since_ns = s->id.born_ns};

        neighbours_done(all);
        neighbours_find(&f->scope, &query, all);
        copy = find_copy(f, s, all);
    }
    return copy;
}

/* Reads what came to be since then and is gone from its name again. */
static struct source *read_missed(struct follower *f, char (*paths)[PATH_MAX], size_t count,
                                  int64_t since_ns, struct source *last)
{
    for (size_t i = 0; i < count; i++) {
        const struct neighbours_query query = {.path = paths[i], .since_ns = since_ns};
        struct neighbours all;

        neighbours_find(&f->scope, &query, &all);
        last = missed_read_between(f, &all, since_ns, INT64_MAX, NULL, last);
        neighbours_done(&all);
    }
    return last;
}

/* What `s` had beyond its place before its file was truncated is read from the copy, if there is
 * one.  Returns the source that the new content is read after. */
static struct source *go_on_elsewhere(struct follower *f, struct source *s, char (*paths)[PATH_MAX],
                                      size_t count, struct neighbour *copy)
{
    struct source *last;
    int64_t since_ns;

    if (copy != NULL) {
        since_ns = neighbour_born_ns(copy);
        go_on_in_copy(f, s, copy);
        follower_orphan(f, s);
        return read_missed(f, paths, count, since_ns, s); /* it may have happened twice */
    }

    /* What took its place may have been copied and truncated itself before it was seen. */
    last = read_missed(f, paths, count, s->looked_ns, NULL);
    if (!s->caught_up || s->open)
        log_warn("flow %s: '%s': it had not been sent to its end, and no copy of it was found: "
                 "what it had beyond byte %llu is lost",
                 follower_flow(f), s->path, (unsigned long long)s->at.offset);
    s->ending = s->at_end = true;
    follower_orphan(f, s);
    return last != NULL ? last : s;
}

/* A file that was shortened by a few bytes goes on as it is: what is still on its way belongs to it,
 * and if all of that is lost in a crash, its rungs lead to the same place again. */
static bool go_on_shortened(struct follower *f, struct source *s)
{
    struct cursor at;

    if (!identity_find_rung(f->digest, s->fd, &s->at, &at) ||
        identity_cut_head(f->digest, s->fd, at.offset, &s->id) < 0)
        return false;
    log_info("flow %s: '%s': was shortened; reading on from byte %llu", follower_flow(f), s->path,
             (unsigned long long)at.offset);
    source_move(s, at);
    f->events.moved(f->events.user, s);
    f->events.changed(f->events.user, s);
    follower_have_news(f, s);
    return true;
}

bool rewritten_find_copy(struct follower *f, struct source *s)
{
    enum { PATHS = 6 };
    char paths[PATHS][PATH_MAX];
    struct neighbours all = {0};
    size_t count = list_paths(s, paths, PATHS);
    struct neighbour *copy = find_copy_anywhere(f, s, paths, count, &all);

    if (copy != NULL)
        go_on_in_copy(f, s, copy);
    neighbours_done(&all);
    return copy != NULL;
}

void follower_damaged(struct follower *f, struct source *s)
{
    log_error("flow %s: '%s': is damaged; what it has beyond byte %llu (uncompressed) is lost",
              follower_flow(f), s->path, (unsigned long long)s->at.offset);
    open_files_close(f, s);
    s->at_end = s->ending = s->given_up = true;
    follower_release(f, s);
    f->events.news(f->events.user, s); /* what it was to go on with leaves */
}

void follower_stale(struct follower *f, struct source *s)
{
    enum { PATHS = 6 };
    char paths[PATHS][PATH_MAX];
    size_t count;
    struct source *anew, *last;
    struct neighbour *copy;
    struct neighbours all = {0};
    struct name *n;
    int fd;

    if (s->packed != UNPACK_NONE) {
        follower_damaged(f, s);
        return;
    }
    if (go_on_shortened(f, s))
        return;
    log_info("flow %s: '%s': was truncated or written anew; reading it from its start",
             follower_flow(f), s->path);
    count = list_paths(s, paths, PATHS);
    copy = find_copy_anywhere(f, s, paths, count, &all);
    fd = renounce(s, f, &n);
    anew = begin_anew(f, fd, paths[0], n);
    last = go_on_elsewhere(f, s, paths, count, copy);
    neighbours_done(&all);
    if (anew != NULL) {
        follower_put_after(anew, last);
        f->events.news(f->events.user, anew);
    }
}
