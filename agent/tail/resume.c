#include "tail/resume.h"

#include "run/log.h"
#include "tail/follower_inner.h"
#include "tail/identity.h"
#include "tail/missed.h"
#include "tail/neighbours.h"
#include "util.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    RESUME_BIRTH_SLACK_S = 10, /* made so shortly before the last commit: not seen then */
};

struct follower_past *resume_find(struct follower *f, int fd, const struct source_id *id,
                                  const char *path)
{
    struct map_node *n = map_find(&f->past_by_ino, follower_ino_hash(id));

    for (; n != NULL; n = map_find_next(n)) {
        struct follower_past *p = CONTAINER_OF(n, struct follower_past, node);
        if (!p->used && source_id_is_same_object(&p->id, id) &&
            identity_fits(f->digest, fd, &p->id, p->at))
            return p;
    }

    /* The same file, shortened by a few bytes meanwhile. */
    for (n = map_find(&f->past_by_ino, follower_ino_hash(id)); n != NULL; n = map_find_next(n)) {
        struct follower_past *p = CONTAINER_OF(n, struct follower_past, node);
        if (!p->used && source_id_is_same_object(&p->id, id) &&
            identity_find_rung(f->digest, fd, &p->at, &p->at)) {
            log_info("flow %s: '%s': was shortened; reading on from byte %llu", follower_flow(f),
                     path, (unsigned long long)p->at.offset);
            return p;
        }
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

/* Whether an earlier run read this very file, or another one of this name: what is in it now and
 * was not read is new. */
static bool was_followed(const struct follower *f, const struct source_id *id, const char *path)
{
    for (size_t i = 0; i < f->past_count; i++)
        if (source_id_is_same_object(&f->past[i].id, id) ||
            slice_equal(f->past[i].path, slice_of(path)))
            return true;
    return false;
}

int resume_place(struct follower *f, const struct name *n, const char *path, int fd,
                 const struct source_id *id, const struct identity_facts *facts, struct cursor *ret)
{
    const struct follower_settings *s = &f->settings;
    int64_t born = id->born_ns != 0 ? id->born_ns : facts->changed_ns;
    uint64_t size = facts->size, offset;
    bool skip = f->starting && !s->from_start && !s->all_new &&
                (!s->known || (born < s->alive_ns - RESUME_BIRTH_SLACK_S * follower_second_ns &&
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

/* The file of a past is nowhere.  Its place is forgotten, unless it may only be not mounted. */
static void give_up_past(struct follower *f, struct follower_past *p, const char *path)
{
    char dir[PATH_MAX];
    struct stat st;

    (void)snprintf(dir, sizeof dir, "%.*s", (int)(strrchr(path, '/') - path + 1), path);
    if (stat(dir, &st) < 0 || st.st_dev != p->id.dev) {
        log_warn("flow %s: '%s': its directory or file system is not there; its place, byte %llu, "
                 "is kept",
                 follower_flow(f), path, (unsigned long long)p->at.offset);
        return;
    }
    p->used = true;
    log_warn("flow %s: '%s': the file that was read up to byte %llu was removed or written anew "
             "while the agent was stopped; if it had more, that is lost",
             follower_flow(f), path, (unsigned long long)p->at.offset);
    f->events.lost(f->events.user, p->slot);
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
    neighbours_find(&f->scope, path, p->id.ino, &all);
    for (size_t i = 0; i < all.count && !p->used; i++) {
        struct neighbour *n = all.items[i];
        bool same = source_id_is_same_object(&n->id, &p->id);
        struct source *s;

        if ((!same && p->id.head_len == 0) || follower_find(f, &n->id) != NULL ||
            !identity_fits(f->digest, n->fd, &p->id, p->at) ||
            follower_add(f, &n->id, p->at, n->path, n->fd, p, &s) < 0)
            continue;
        n->fd = -1;
        f->events.changed(f->events.user, s);
        if (strcmp(path, s->path) != 0)
            log_info("flow %s: '%s': is '%s' now; its rest is read from byte %llu",
                     follower_flow(f), path, s->path, (unsigned long long)p->at.offset);
        follower_orphan(f, s);
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
    current = follower_find_named(f, path);
    last = p->source;
    if (last != NULL && last == current)
        return;
    neighbours_find(&f->scope, path, p->id.ino, &all);
    if (last == NULL && !all.incomplete)
        give_up_past(f, p, path);
    if (last != NULL && last->id.born_ns != 0) /* older ones were seen, and read, or not wanted */
        from_ns = MAX(last->id.born_ns, f->settings.alive_ns);
    if (last == NULL || !source_id_is_same_object(&last->id, &p->id))
        anew = &p->id;
    if (current != NULL && current->id.born_ns != 0 && is_resumed(f, current))
        to_ns = current->id.born_ns; /* what is younger than a file we know is a copy of it */
    last = missed_read_between(f, &all, from_ns, to_ns, anew, last);
    if (current != NULL && last != NULL)
        follower_put_after(current, last);
    neighbours_done(&all);
}

void resume_stray(void *user, const char *dir, const char *text)
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
    (void)missed_read_between(f, strays, f->settings.alive_ns, INT64_MAX, NULL, NULL);
}

void resume_map(struct follower *f)
{
    for (size_t i = 0; i < f->past_count; i++)
        if (map_insert(&f->past_by_ino, &f->past[i].node, follower_ino_hash(&f->past[i].id)) < 0)
            log_error("flow %s: out of memory; '%.*s' may be read again", follower_flow(f),
                      SLICE_ARG(f->past[i].path));
}

void resume_all(struct follower *f, struct neighbours *strays)
{
    /* First everything finds its own file; only then can a file be said to be nobody's. */
    for (size_t i = 0; i < f->past_count; i++)
        claim_past(f, &f->past[i]);
    for (size_t i = 0; i < f->past_count; i++)
        read_since_past(f, &f->past[i]);
    read_strays(f, strays);
}
