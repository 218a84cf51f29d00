#include "tail/resume.h"

#include "run/log.h"
#include "tail/follower_inner.h"
#include "tail/generation.h"
#include "tail/identity.h"
#include "tail/missed.h"
#include "tail/neighbours.h"
#include "tail/walk.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
    RESUME_BIRTH_SLACK_S = 10, /* made so shortly before the last commit: not seen then */
};

static uint64_t path_hash(struct slice path)
{
    return map_hash_slice(0, path);
}

static struct map_node *find_path(const struct follower *f, struct slice path)
{
    return map_find(&f->past_by_path, path_hash(path));
}

/* Whether another file has the content of a past, and so much of it that it cannot be chance: logs
 * may begin with the same lines. */
static bool is_same_content(const struct follower *f, const struct neighbour *file,
                            const struct follower_past *p)
{
    struct cursor at;

    return p->at.offset > 0 && p->id.head_len > 0 &&
           neighbour_fits(&f->scope, file, &p->id, p->at) &&
           (file->packed != UNPACK_NONE ||
            (identity_find_rung(f->digest, file->fd, &p->at, &at) && at.offset == p->at.offset));
}

static bool past_path(const struct follower_past *p, char to[PATH_MAX])
{
    return snprintf(to, PATH_MAX, "%.*s", SLICE_ARG(p->path)) < PATH_MAX && to[0] == '/';
}

static struct slice base_name(const char *path)
{
    const char *slash;

    assert(path != NULL);
    slash = strrchr(path, '/');
    return generation_strip_packing(slice_of(slash != NULL ? slash + 1 : path));
}

/* Whether a file has what was read from a past.  A new file of the log's own name may begin with the
 * same header, so there that is not enough. */
static bool is_copy(const struct follower *f, const struct neighbour *n, struct follower_past *p,
                    const char *path)
{
    struct slice name = base_name(n->path), was = base_name(path);

    if (n->packed == UNPACK_NONE && (slice_equal(name, was) || generation_is_of(was, name)))
        return is_same_content(f, n, p);
    if (p->id.head_len > 0 && neighbour_fits(&f->scope, n, &p->id, p->at))
        return true;

    /* It may have been shortened before it was copied: then the head is longer than all of it. */
    return n->packed == UNPACK_NONE && n->facts.size < p->id.head_len &&
           identity_find_rung(f->digest, n->fd, &p->at, &p->at);
}

struct follower_past *resume_find(struct follower *f, const struct neighbour *file)
{
    const struct source_id *id = &file->id;
    const char *path = file->path;
    struct map_node *n = map_find(&f->past_by_ino, follower_ino_hash(id));

    for (; n != NULL; n = map_find_next(n)) {
        struct follower_past *p = CONTAINER_OF(n, struct follower_past, by_ino);
        if (!p->used && source_id_is_same_object(&p->id, id) &&
            neighbour_fits(&f->scope, file, &p->id, p->at))
            return p;
    }

    /* The same file, shortened by a few bytes meanwhile. */
    for (n = map_find(&f->past_by_ino, follower_ino_hash(id)); n != NULL; n = map_find_next(n)) {
        struct follower_past *p = CONTAINER_OF(n, struct follower_past, by_ino);
        if (!p->used && source_id_is_same_object(&p->id, id) &&
            identity_find_rung(f->digest, file->fd, &p->at, &p->at)) {
            log_info("flow %s: '%s': was shortened; reading on from byte %llu", follower_flow(f),
                     path, (unsigned long long)p->at.offset);
            return p;
        }
    }

    /* What is left over when everything has found its own: the same content is the same log. */
    for (size_t i = 0; f->claimed && i < f->past_count; i++) {
        struct follower_past *p = &f->past[i];
        char was[PATH_MAX];
        if (!p->used && past_path(p, was) &&
            (is_same_content(f, file, p) ||
             (generation_is_of(base_name(path), base_name(was)) && is_copy(f, file, p, was))))
            return p;
    }

    /* The same content under the same name is the same log, if a copy took the file's place. */
    for (n = f->claimed && f->starting ? find_path(f, slice_of(path)) : NULL; n != NULL;
         n = map_find_next(n)) {
        struct follower_past *p = CONTAINER_OF(n, struct follower_past, by_path);
        if (!p->used && slice_equal(p->path, slice_of(path)) && is_same_content(f, file, p))
            return p;
    }
    return NULL;
}

int resume_past(struct follower *f, struct follower_past *p, struct neighbour *file,
                struct source **ret)
{
    struct source_id id = file->id;
    char was[PATH_MAX];
    int r;

    if (file->packed != UNPACK_NONE) { /* it is known by what is in it */
        id.head_len = p->id.head_len;
        id.head_hash = p->id.head_hash;
    }
    r = follower_add(f, &id, p->at, file->path, file->fd, p->slot, ret);
    if (r < 0)
        return r;
    file->fd = -1;
    (*ret)->packed = file->packed;
    (*ret)->resumed = true;
    if (past_path(p, was) && strcmp(was, file->path) != 0)
        (*ret)->was = strdup(was); /* without memory for it, what came after it may not know it */
    p->used = true;
    p->source = *ret;
    return 0;
}

bool resume_at_rest(struct follower *f, struct name *n, const char *path, const struct statx *st)
{
    const int64_t quiet_ns = f->settings.alive_ns - RESUME_BIRTH_SLACK_S * follower_second_ns;
    const struct source_id probe = {.ino = st->stx_ino};
    struct map_node *node = map_find(&f->past_by_ino, follower_ino_hash(&probe));

    /* Neither content nor name have changed since: that would have set its ctime. */
    if (st->stx_nlink > 1 ||
        (int64_t)st->stx_ctime.tv_sec * follower_second_ns + st->stx_ctime.tv_nsec >= quiet_ns)
        return false;
    for (; node != NULL; node = map_find_next(node)) {
        struct follower_past *p = CONTAINER_OF(node, struct follower_past, by_ino);

        if (p->used || p->id.ino != st->stx_ino || p->at.offset != st->stx_size ||
            p->id.dev != makedev(st->stx_dev_major, st->stx_dev_minor) || p->id.born_ns == 0 ||
            p->id.born_ns !=
                (int64_t)st->stx_btime.tv_sec * follower_second_ns + st->stx_btime.tv_nsec ||
            !slice_equal(p->path, slice_of(path)))
            continue;
        if (n->source != NULL || n->resting || n->last != NULL ||
            resting_begin(f, n, p->slot, &p->id, st->stx_size) < 0)
            return false;
        p->used = p->resting = true;
        return true;
    }
    return false;
}

void resume_note_unread(struct follower *f, const struct statx *st)
{
    struct unread *more;

    if (f->settings.from_start || f->settings.known)
        return;
    more = reallocarray(f->unread, f->unread_count + 1, sizeof(*more));
    if (more == NULL)
        return; /* then what it has now will be sent: more than was asked for */
    f->unread = more;
    f->unread[f->unread_count++] =
        (struct unread){makedev(st->stx_dev_major, st->stx_dev_minor), st->stx_ino, st->stx_size};
}

/* How much there was at the start of a file that could not be read then. */
static uint64_t take_unread(struct follower *f, const struct source_id *id)
{
    for (size_t i = 0; i < f->unread_count; i++)
        if (f->unread[i].ino == id->ino && f->unread[i].dev == id->dev) {
            uint64_t size = f->unread[i].size;
            f->unread[i] = f->unread[--f->unread_count];
            return size;
        }
    return 0;
}

/* Whether an earlier run read this very file, or another one of this name: what is in it now and
 * was not read is new. */
static bool was_followed(const struct follower *f, const struct source_id *id, const char *path)
{
    struct map_node *n;

    for (n = map_find(&f->past_by_ino, follower_ino_hash(id)); n != NULL; n = map_find_next(n))
        if (source_id_is_same_object(&CONTAINER_OF(n, struct follower_past, by_ino)->id, id))
            return true;
    for (n = find_path(f, slice_of(path)); n != NULL; n = map_find_next(n))
        if (slice_equal(CONTAINER_OF(n, struct follower_past, by_path)->path, slice_of(path)))
            return true;
    return false;
}

int resume_place(struct follower *f, const char *path, const struct neighbour *file,
                 struct cursor *ret)
{
    const struct follower_settings *s = &f->settings;
    const struct source_id *id = &file->id;
    int64_t born = id->born_ns != 0 ? id->born_ns : file->facts.changed_ns;
    uint64_t size = file->facts.size, unread = take_unread(f, id), offset;
    bool skip = f->starting && !s->from_start && !s->all_new &&
                (!s->known || (born < s->alive_ns - RESUME_BIRTH_SLACK_S * follower_second_ns &&
                               !was_followed(f, id, path))) &&
                (id->born_ns == 0 || born <= s->began_ns);
    int r;

    if (!skip && unread > 0) {
        skip = true;
        size = MIN(unread, size);
    }
    *ret = (struct cursor){0};
    if (!skip)
        return 0;
    r = identity_last_line(file->fd, s->encoding, size, &offset);
    return r < 0 ? r : identity_cursor(f->digest, file->fd, offset, ret);
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

/* The file of a past is found.  The descriptor goes with it. */
static void claim(struct follower *f, struct follower_past *p, const char *was, struct neighbour *n)
{
    struct source *s;

    if (resume_past(f, p, n, &s) < 0)
        return;
    f->events.changed(f->events.user, s);
    if (strcmp(was, s->path) != 0)
        log_info("flow %s: '%s': is '%s' now; its rest is read from byte %llu", follower_flow(f),
                 was, s->path, (unsigned long long)p->at.offset);
    follower_orphan(f, s);
}

/* The file may be anywhere on its file system. */
static void claim_by_handle(struct follower *f, struct follower_past *p, const char *was)
{
    struct neighbour n = {.fd = open_files_by_handle(&p->id, was)};

    if (n.fd < 0)
        return;
    if (identity_read(f->digest, n.fd, &n.id, &n.facts) == 0 && !follower_knows(f, &n.id) &&
        source_id_is_same_object(&n.id, &p->id) && neighbour_fits(&f->scope, &n, &p->id, p->at)) {
        if (!open_files_path(n.fd, &n.id, n.path))
            (void)snprintf(n.path, sizeof n.path, "%s", was);
        claim(f, p, was, &n);
    }
    if (n.fd >= 0)
        close(n.fd);
}

/* Whether the file of a past still has the content up to its place, or has lost a few bytes of it. */
static bool is_same_file(const struct follower *f, const struct neighbour *n,
                         struct follower_past *p)
{
    return neighbour_fits(&f->scope, n, &p->id, p->at) ||
           identity_find_rung(f->digest, n->fd, &p->at, &p->at);
}

/* Looks for the file of a past beside `path`: under another name, or a copy. */
static void claim_beside(struct follower *f, struct follower_past *p, const char *was,
                         const char *path)
{
    const struct neighbours_query query = {.path = path, .siblings = true, .ino = p->id.ino};
    struct neighbours all;

    neighbours_find(&f->scope, &query, &all);
    neighbours_sort_copies(&all, f->settings.alive_ns, p->id.born_ns);

    /* Its own file first; then a copy, a person's backup last. */
    for (int pass = 0; pass < 3; pass++)
        for (size_t i = 0; i < all.count && !p->used; i++) {
            struct neighbour *n = all.items[i];

            if (follower_knows(f, &n->id) || !neighbour_hold(&f->scope, n))
                continue;
            if (pass == 0 ? source_id_is_same_object(&n->id, &p->id) && is_same_file(f, n, p)
                          : generation_is_backup(slice_of(n->path)) == (pass == 2) &&
                                is_copy(f, n, p, path))
                claim(f, p, was, n);
            neighbour_drop(n);
        }
    neighbours_done(&all);
}

/* Looks for the file of a past wherever it may be; beside its other names as well, if it had some. */
static void claim_past(struct follower *f, struct follower_past *p)
{
    char path[PATH_MAX], other[PATH_MAX];

    if (p->used || !past_path(p, path))
        return;
    claim_beside(f, p, path, path);
    for (size_t i = 0; i < f->deferred_count && !p->used; i++)
        if (f->deferred[i].ino == p->id.ino && roster_path(f->deferred[i].name, other) == 0 &&
            strcmp(other, path) != 0)
            claim_beside(f, p, path, other);
    if (!p->used)
        claim_by_handle(f, p, path);
}

/* Reads what had the name of a past since, up to the file that has it now; if it was rotated away
 * already, what had the name that it was rotated from. */
static void read_since_past(struct follower *f, struct follower_past *p)
{
    int64_t from_ns = f->settings.alive_ns, to_ns = INT64_MAX;
    const struct source_id *anew = NULL;
    struct source *last = p->source;
    struct source_id now = {0};
    struct neighbours all;
    struct cursor at;
    struct name *n, *base;
    char path[PATH_MAX];
    const struct neighbours_query query = {.path = path, .ino = p->id.ino};

    if (p->resting || !past_path(p, path))
        return;
    base = follower_find_base(f, path);
    n = base != NULL && roster_path(base, path) == 0 ? base : roster_find(f->roster, path);
    if (last != NULL && n != NULL && last == n->source)
        return;
    neighbours_find(&f->scope, &query, &all);
    if (last == NULL && !all.incomplete)
        give_up_past(f, p, path);
    if (last != NULL && last->id.born_ns != 0) /* older ones were seen, and read, or not wanted */
        from_ns = MAX(last->id.born_ns, f->settings.alive_ns);
    if (last == NULL || !source_id_is_same_object(&last->id, &p->id))
        anew = &p->id;
    if (n != NULL && n->resting)
        f->events.recall(f->events.user, n->slot, &now, &at);
    else if (n != NULL && n->source != NULL && n->source->resumed)
        now = n->source->id;
    if (now.born_ns != 0)
        to_ns = now.born_ns; /* what is younger than a file we know is a copy of it */
    last = missed_read_between(f, &all, from_ns, to_ns, anew, last);
    neighbours_done(&all);
    if (last == NULL || n == NULL || n->resting)
        return;
    if (n->source != NULL)
        follower_put_after(n->source, last);
    else if (is_nameless(last))
        follower_set_last(n, last); /* whoever is met there is read after it */
}

void resume_stray(void *user, const char *dir, const char *text, bool fresh)
{
    struct follower *f = user;

    if (!f->starting) {
        missed_read_stray(f, dir, text, fresh);
        return;
    }
    if (!f->settings.known || !neighbours_add(&f->scope, f->strays, dir, text))
        return;

    /* A directory may hold a thousand old ones: only what will be read stays open. */
    if (neighbour_born_ns(f->strays->items[f->strays->count - 1]) < f->settings.alive_ns)
        neighbours_drop_last(f->strays);
}

/* For generation_has_base: whether a file of this name would be meant, in whatever directory. */
static bool is_meant_somewhere(void *user, struct slice base)
{
    const struct follower *f = user;
    char text[NAME_MAX + 1];

    if (base.len > NAME_MAX)
        return false;
    (void)snprintf(text, sizeof text, "%.*s", SLICE_ARG(base));
    return roster_means_somewhere(f->roster, text);
}

/* A file where rotated files go: if it is called like one of ours, it is a stray. */
static void rotated_stray(void *user, const char *dir, const char *name, uint64_t ino)
{
    struct slice plain = generation_strip_packing(slice_of(name));

    (void)ino;
    if (is_meant_somewhere(user, plain) || generation_has_base(plain, is_meant_somewhere, user))
        resume_stray(user, dir, name, true);
}

/* Files that came and were rotated away while the agent was stopped, whatever had their name. */
static void read_strays(struct follower *f, struct neighbours *strays)
{
    neighbours_sort(strays);
    (void)missed_read_between(f, strays, f->settings.alive_ns, INT64_MAX, NULL, NULL);
}

/* One of several files that had the same name, one after the other. */
struct heir {
    uint64_t name_hash;
    struct name *name; /* or NULL: nothing is called so now */
    struct source *source;
};

/* For generation_has_base: a path whose last part is replaced by each possible base in turn. */
struct meant_base {
    const struct follower *follower;
    char dir[PATH_MAX], name[NAME_MAX + 1];
};

static bool is_meant_base(void *user, struct slice base)
{
    struct meant_base *m = user;

    if (base.len > NAME_MAX)
        return false;
    (void)snprintf(m->name, sizeof m->name, "%.*s", SLICE_ARG(base));
    return roster_means(m->follower->roster, m->dir, m->name);
}

/* What a file was called before it was rotated to `path`, if not that, as a hash; whether or not there
 * is anything that is called so now. */
static bool heir_name(const struct follower *f, const char *path, struct heir *ret)
{
    struct name *n = follower_find_base(f, path);
    const char *text = strrchr(path, '/') + 1;
    struct meant_base m = {.follower = f};
    char base[PATH_MAX];

    if (n != NULL && roster_path(n, base) == 0) {
        *ret = (struct heir){.name_hash = map_hash_slice(0, slice_of(base)), .name = n};
        return true;
    }
    (void)snprintf(m.dir, sizeof m.dir, "%.*s", (int)(text - path), path);
    if (!is_meant_base(&m, slice_of(text)) &&
        !generation_has_base(slice_of(text), is_meant_base, &m))
        return false;
    if (snprintf(base, sizeof base, "%s%s", m.dir, m.name) >= (int)sizeof base)
        return false;
    *ret = (struct heir){.name_hash = map_hash_slice(0, slice_of(base)),
                         .name = roster_find(f->roster, base)};
    return true;
}

struct source *resume_predecessor(const struct follower *f, const char *path)
{
    uint64_t wanted = map_hash_slice(0, slice_of(path));
    struct source *last = NULL;
    struct heir h;

    LIST_EACH(&f->nameless, node, after)
    {
        struct source *s = source_of(node);

        if (s->id.born_ns < f->started_ns && !s->at_end && !s->truncated && s->before == NULL &&
            s->id.born_ns != 0 && (last == NULL || s->id.born_ns > last->id.born_ns) &&
            heir_name(f, s->path, &h) && h.name_hash == wanted)
            last = s;
    }
    return last;
}

static int compare_heirs(const void *a, const void *b)
{
    const struct heir *x = a, *y = b;

    if (x->name_hash != y->name_hash)
        return x->name_hash < y->name_hash ? -1 : 1;
    return x->source->id.born_ns < y->source->id.born_ns
               ? -1
               : x->source->id.born_ns > y->source->id.born_ns;
}

/* Files that had one name, one after the other, and are all not read to their ends, are read in that
 * order.  Without memory for it each is read, but perhaps before another. */
static void put_heirs_in_order(struct follower *f)
{
    struct heir *heirs = calloc(f->count + 1, sizeof *heirs);
    size_t count = 0;

    LIST_EACH(&f->nameless, node, after)
    {
        struct source *s = source_of(node);

        if (heirs != NULL && s->id.born_ns != 0 && heir_name(f, s->path, &heirs[count]))
            heirs[count++].source = s;
    }
    if (count > 1)
        qsort(heirs, count, sizeof *heirs, compare_heirs);
    for (size_t i = 0; i < count; i++) {
        struct name *n = heirs[i].name;

        if (i + 1 < count && heirs[i].name_hash == heirs[i + 1].name_hash)
            follower_put_after(heirs[i + 1].source, heirs[i].source);
        else if (n != NULL && n->source == NULL && !n->resting)
            follower_set_last(n, heirs[i].source); /* whoever is met there is read after it */
    }
    free(heirs);
}

void resume_map(struct follower *f)
{
    for (size_t i = 0; i < f->past_count; i++)
        if (map_insert(&f->past_by_ino, &f->past[i].by_ino, follower_ino_hash(&f->past[i].id)) <
                0 ||
            map_insert(&f->past_by_path, &f->past[i].by_path, path_hash(f->past[i].path)) < 0)
            log_error("flow %s: out of memory; '%.*s' may be read again", follower_flow(f),
                      SLICE_ARG(f->past[i].path));
}

void resume_all(struct follower *f, struct neighbours *strays)
{
    /* First everything finds its own file; only then can a file be said to be nobody's. */
    for (size_t i = 0; i < f->past_count; i++)
        claim_past(f, &f->past[i]);
    put_heirs_in_order(f);
    for (size_t i = 0; i < f->past_count; i++)
        read_since_past(f, &f->past[i]);
    f->claimed = true;
    f->strays = strays;
    if (f->rotated != NULL && f->settings.known)
        walk_files(f->rotated, f->scope.follow_symlinks, rotated_stray, f);
    f->strays = NULL;
    read_strays(f, strays);
    put_heirs_in_order(f); /* with what came and went meanwhile */
}

void resume_again(struct follower *f)
{
    for (size_t i = 0; i < f->past_count; i++) {
        struct follower_past *p = &f->past[i];
        char path[PATH_MAX];
        struct stat st;

        if (p->used || !past_path(p, path))
            continue;
        strrchr(path, '/')[1] = '\0';
        if (stat(path, &st) < 0 || st.st_dev != p->id.dev)
            continue;
        claim_past(f, p);
        read_since_past(f, p);
    }
}
