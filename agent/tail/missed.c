#include "tail/missed.h"

#include "run/log.h"
#include "tail/copies.h"
#include "tail/follower_inner.h"
#include "tail/generation.h"
#include "tail/identity.h"
#include "tail/neighbours.h"
#include "tail/resume.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    MISSED_SAY_EVERY_MS = 1000,
    MISSED_RECENT_S = 30, /* what was born so lately may have come and gone unseen */
};

/* Reads a file from `at` on that is not called as the globs say, and that nobody has read. */
static struct source *read_stranger(struct follower *f, struct neighbour *n, struct cursor at)
{
    struct follower_past *past = resume_find(f, n);
    struct source_id id;
    struct source *s;
    uint64_t held;
    int r;

    if (past != NULL) {
        r = resume_past(f, past, n, &s);
    } else if ((r = follower_may_read(f, n->path, &n->id, &n->facts)) < 0) {
        if (r == -EMLINK &&
            log_limit_pass(&f->refused_said, loop_now_ms(f->loop), MISSED_SAY_EVERY_MS, &held))
            log_warn("flow %s: '%s': is a hard link to a file of another owner than its "
                     "directory's; not read, set follow_hard_links = true if it should be",
                     follower_flow(f), n->path);
    } else {
        id = neighbour_identity(&f->scope, n);
        r = follower_add(f, &id, at, n->path, n->fd, NULL, &s);
        if (r == 0) {
            s->packed = n->packed;
            n->fd = -1;
        }
    }
    if (r < 0)
        return NULL;
    if (log_limit_pass(&f->missed_said, loop_now_ms(f->loop), MISSED_SAY_EVERY_MS, &held))
        log_info("flow %s: '%s': was rotated away; reading it from byte %llu; %llu more before it",
                 follower_flow(f), s->path, (unsigned long long)s->at.offset,
                 (unsigned long long)held);
    follower_orphan(f, s);
    return s;
}

/* Whether what is compressed is something that was read before it was. */
static bool was_read(const struct follower *f, const struct neighbour *n)
{
    size_t count = MIN(f->finished_next, (size_t)FOLLOWER_FINISHED);
    struct slice was = generation_strip_packing(slice_of(n->path));

    LIST_EACH(&f->nameless, node, after)
    {
        const struct source *s = source_of(node);
        if ((slice_equal(was, slice_of(s->path)) || copies_is_telling(f, s)) &&
            copies_fits(f, n, s))
            return true;
    }
    for (size_t i = 0; i < count; i++)
        if ((f->finished[i].telling || f->finished[i].path_hash == map_hash_slice(0, was)) &&
            neighbour_fits(&f->scope, n, &f->finished[i].id, f->finished[i].at))
            return true;
    return false;
}

static bool is_unread(const struct follower *f, const struct neighbour *n)
{
    const char *name = strrchr(n->path, '/') + 1;
    char dir[PATH_MAX];

    (void)snprintf(dir, sizeof dir, "%.*s", (int)(name - n->path), n->path);
    return !follower_knows(f, &n->id) && follower_find_finished(f, &n->id) == NULL &&
           !roster_means(f->roster, dir, name);
}

/* Whether a held neighbour is to be read, and from where.  `original` (or NULL) is what had the name
 * before. */
static bool is_missed(struct follower *f, const struct neighbour *n, const struct source *original,
                      struct cursor *ret_at)
{
    struct source *of;

    /* Empty, it may be a copy that begins; but not if it was called like the log itself. */
    if (n->facts.size == 0 && roster_came(f->roster, n->path))
        return true;
    if ((n->packed != UNPACK_NONE && was_read(f, n)) ||
        copies_judge(f, n->path, n, &of) != COPIES_NONE)
        return false;
    if (original == NULL)
        return true;
    if (copies_is_backup(f, n, original))
        return false;
    if (copies_fits(f, n, original)) {
        if (copies_source_holds(f, original))
            return false; /* it says nothing that the original does not */
        *ret_at = original->at;
    }
    return true;
}

struct source *missed_read_between(struct follower *f, struct neighbours *all, int64_t from_ns,
                                   int64_t to_ns, const struct source_id *anew,
                                   struct source *first)
{
    const struct source *original = first;

    for (size_t i = 0; i < all->count; i++) {
        struct neighbour *n = all->items[i];
        bool is_anew = anew != NULL && source_id_is_same_object(&n->id, anew);
        struct source *s = NULL;
        struct cursor at = {0};

        if ((neighbour_born_ns(n) < from_ns || neighbour_born_ns(n) > to_ns) && !is_anew)
            continue;
        if (generation_is_backup(slice_of(n->path)) || !is_unread(f, n) ||
            !neighbour_hold(&f->scope, n))
            continue;
        if (is_anew || is_missed(f, n, original, &at))
            s = read_stranger(f, n, at);
        neighbour_drop(n);
        if (s == NULL)
            continue;
        if (first != NULL)
            follower_put_after(s, first);
        first = s;
    }
    return first;
}

/* The earliest birth of a file that may have come and gone between two looks; long ago, if the agent
 * was stopped or frozen since the last. */
static int64_t recent_ns(const struct follower *f)
{
    int64_t lately_ns = follower_wall_ns() - MISSED_RECENT_S * follower_second_ns;

    return MAX(f->started_ns, MIN(lately_ns, roster_sure_ns(f->roster)));
}

void missed_read_stray(struct follower *f, const char *dir, const char *text, bool fresh)
{
    struct neighbours one = {0};
    int64_t from_ns = recent_ns(f);

    if (fresh)
        from_ns = f->settings.known ? MIN(f->settings.alive_ns, f->started_ns) : f->started_ns;
    if (neighbours_is_older(dir, text, from_ns))
        return;
    if (neighbours_add(&f->scope, &one, dir, text))
        (void)missed_read_between(f, &one, from_ns, INT64_MAX, NULL, NULL);
    neighbours_done(&one);
}

struct source *missed_read(struct follower *f, const char *path, struct source *previous)
{
    int64_t from_ns = previous != NULL && previous->id.born_ns != 0
                          ? MAX(previous->id.born_ns, f->started_ns)
                          : recent_ns(f);
    const struct neighbours_query query = {.path = path, .since_ns = from_ns};
    struct neighbours all;

    neighbours_find(&f->scope, &query, &all);
    previous = missed_read_between(f, &all, from_ns, INT64_MAX, NULL, previous);
    neighbours_done(&all);
    return previous;
}

struct source *missed_read_moved(struct follower *f, const struct name *n, const char *path,
                                 struct source *previous)
{
    struct neighbour file;
    struct source *s = NULL;
    struct cursor at;

    if (!roster_went(f->roster, n, file.path) || neighbour_open(&f->scope, &file) < 0)
        return previous;
    if (is_unread(f, &file) && resume_place(f, path, &file, &at) == 0)
        s = read_stranger(f, &file, at);
    neighbour_drop(&file);
    if (s == NULL)
        return previous;
    if (previous != NULL)
        follower_put_after(s, previous);
    return s;
}
