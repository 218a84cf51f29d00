#include "tail/neighbours.h"

#include "digest.h"
#include "slice.h"
#include "tail/generation.h"
#include "tail/walk.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void neighbour_free(struct neighbour *n)
{
    neighbour_drop(n);
    free(n);
}

/* Compressed is what is called so and looks so. */
static enum unpack_kind packed_kind(const struct neighbour *n)
{
    enum unpack_kind kind = unpack_kind_of_name(slice_of(n->path));
    char magic[UNPACK_MAGIC_LEN];
    ssize_t len = kind != UNPACK_NONE ? pread(n->fd, magic, sizeof magic, 0) : 0;

    return len > 0 && unpack_kind_of((struct slice){magic, (size_t)len}) == kind ? kind
                                                                                 : UNPACK_NONE;
}

int neighbour_open(const struct neighbours_scope *scope, struct neighbour *n)
{
    int r;

    n->packed = UNPACK_NONE;
    n->fd = identity_open(n->path, scope->follow_symlinks);
    if (n->fd < 0)
        return n->fd;
    r = identity_read(scope->digest, n->fd, &n->id, &n->facts);
    if (r < 0) {
        close(n->fd);
        n->fd = -1;
        return r;
    }
    n->packed = packed_kind(n);
    if (n->packed != UNPACK_NONE)
        n->id.head_len = 0;
    return 0;
}

bool neighbour_hold(const struct neighbours_scope *scope, struct neighbour *n)
{
    struct identity_facts facts;
    struct source_id id;

    if (n->fd >= 0)
        return true;
    n->fd = identity_open(n->path, scope->follow_symlinks);
    if (n->fd < 0)
        return false;
    if (identity_read(scope->digest, n->fd, &id, &facts) == 0 &&
        source_id_is_same_object(&id, &n->id))
        return true;
    neighbour_drop(n);
    return false;
}

void neighbour_drop(struct neighbour *n)
{
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

/* Reads `len` bytes of what is compressed, however long that takes; fewer at its end. */
static ssize_t unpack_some(struct unpack *u, char *to, size_t len, uint64_t offset)
{
    ssize_t n;

    do
        n = unpack_pread(u, to, len, offset);
    while (n == -EAGAIN);
    return n;
}

static bool unpack_all(struct unpack *u, char *to, size_t len, uint64_t offset)
{
    return unpack_some(u, to, len, offset) == (ssize_t)len;
}

struct source_id neighbour_identity(const struct neighbours_scope *scope, const struct neighbour *n)
{
    struct source_id id = n->id;
    char head[SOURCE_HEAD_MAX];
    struct unpack *u;
    ssize_t len;

    if (n->packed == UNPACK_NONE || unpack_open(n->fd, n->packed, sizeof head, &u) < 0)
        return id;
    len = unpack_some(u, head, sizeof head, 0);
    unpack_close(u);
    if (len > 0) {
        id.head_len = (uint32_t)len;
        id.head_hash = digest_hash64(scope->digest, (struct slice){head, (size_t)len});
    }
    return id;
}

static bool packed_fits(struct digest *d, struct unpack *u, const struct source_id *id,
                        struct cursor at)
{
    char bytes[MAX((int)SOURCE_HEAD_MAX, (int)CURSOR_ANCHOR_MAX)];
    size_t len = cursor_anchor_len(at.offset);

    if (!unpack_all(u, bytes, id->head_len, 0) ||
        digest_hash64(d, (struct slice){bytes, id->head_len}) != id->head_hash)
        return false;
    return unpack_all(u, bytes, len, at.offset - len) &&
           (len == 0 || digest_hash64(d, (struct slice){bytes, len}) == at.anchor);
}

bool neighbour_fits(const struct neighbours_scope *scope, const struct neighbour *n,
                    const struct source_id *id, struct cursor at)
{
    struct unpack *u;
    bool fits;

    if (n->packed == UNPACK_NONE)
        return identity_fits(scope->digest, n->fd, id, at);
    if (id->head_len == 0 || unpack_open(n->fd, n->packed, SOURCE_HEAD_MAX, &u) < 0)
        return false;
    fits = packed_fits(scope->digest, u, id, at);
    unpack_close(u);
    return fits;
}

/* Whether an error says something of the file, and not only that it could not be looked at now. */
static bool is_answer(int error)
{
    return error == -ENOENT || error == -ELOOP || error == -EISDIR || error == -EINVAL ||
           error == -ENXIO;
}

bool neighbours_add(const struct neighbours_scope *scope, struct neighbours *all, const char *dir,
                    const char *name)
{
    struct neighbour *n = calloc(1, sizeof *n), **more = NULL;
    int r = -ENOMEM;

    if (n != NULL) {
        n->fd = -1;
        r = snprintf(n->path, sizeof n->path, "%s/%s", dir, name) < (int)sizeof n->path
                ? neighbour_open(scope, n)
                : -ENAMETOOLONG;
    }

    if (r == 0) {
        more = reallocarray(all->items, all->count + 1, sizeof(*more));
        r = more == NULL ? -ENOMEM : 0;
    }
    if (r < 0) {
        all->incomplete = all->incomplete || !is_answer(r);
        if (n != NULL)
            neighbour_free(n);
        return false;
    }
    neighbour_drop(n);
    all->items = more;
    all->items[all->count++] = n;
    return true;
}

void neighbours_drop_last(struct neighbours *all)
{
    neighbour_free(all->items[--all->count]);
}

static int compare_births(const void *a, const void *b)
{
    const struct neighbour *x = *(struct neighbour *const *)a, *y = *(struct neighbour *const *)b;
    int64_t by_birth = neighbour_born_ns(x) - neighbour_born_ns(y);
    int64_t by_write = x->facts.modified_ns - y->facts.modified_ns; /* born in one clock tick */
    int64_t by = by_birth != 0 ? by_birth : by_write;

    return by < 0 ? -1 : by > 0;
}

void neighbours_sort(struct neighbours *all)
{
    if (all->count > 1)
        qsort(all->items, all->count, sizeof(*all->items), compare_births);
}

enum { NEIGHBOURS_BASES = 4 }; /* a name with more marks than this is no log's */

struct search {
    const struct neighbours_scope *scope;
    const struct neighbours_query *query;
    struct neighbours *all;
    char bases[1 + NEIGHBOURS_BASES][NAME_MAX + 1];
    size_t base_count;
};

bool neighbours_is_older(const char *dir, const char *name, int64_t since_ns)
{
    char path[PATH_MAX];
    struct statx st;

    return since_ns > 0 && snprintf(path, sizeof path, "%s/%s", dir, name) < (int)sizeof path &&
           statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &st) == 0 &&
           (st.stx_mask & STATX_BTIME) != 0 &&
           (int64_t)st.stx_btime.tv_sec * INT64_C(1000000000) + st.stx_btime.tv_nsec < since_ns;
}

/* For generation_has_base: notes all of them. */
static bool note_base(void *user, struct slice base)
{
    struct search *s = user;

    if (s->base_count == sizeof s->bases / sizeof s->bases[0])
        return true;
    (void)snprintf(s->bases[s->base_count++], sizeof s->bases[0], "%.*s", SLICE_ARG(base));
    return false;
}

static bool is_called_so(const struct search *s, const char *text)
{
    struct slice name = generation_strip_packing(slice_of(text));

    for (size_t i = 0; i < s->base_count; i++)
        if (slice_equal(name, slice_of(s->bases[i])) ||
            generation_is_of(name, slice_of(s->bases[i])))
            return true;
    return false;
}

static void consider(void *user, const char *dir, const char *name, uint64_t ino)
{
    const struct search *s = user;

    if (ino == s->query->ino ||
        (is_called_so(s, name) && !neighbours_is_older(dir, name, s->query->since_ns)))
        (void)neighbours_add(s->scope, s->all, dir, name);
}

void neighbours_find(const struct neighbours_scope *scope, const struct neighbours_query *query,
                     struct neighbours *ret)
{
    const char *slash = strrchr(query->path, '/');
    struct search s = {.scope = scope, .query = query, .all = ret};
    char dir[PATH_MAX];
    DIR *list;

    *ret = (struct neighbours){0};
    if (snprintf(dir, sizeof dir, "%.*s", (int)(slash - query->path), query->path) >=
        (int)sizeof dir)
        return;
    (void)note_base(&s, generation_strip_packing(slice_of(slash + 1)));
    if (query->siblings)
        (void)generation_has_base(generation_strip_packing(slice_of(slash + 1)), note_base, &s);
    list = opendir(dir[0] == '\0' ? "/" : dir);
    if (list == NULL)
        ret->incomplete = errno != ENOENT && errno != ENOTDIR;
    for (struct dirent *e; list != NULL && (e = readdir(list)) != NULL;)
        if (e->d_type == DT_REG || e->d_type == DT_UNKNOWN)
            consider(&s, dir, e->d_name, e->d_ino);
    if (list != NULL)
        closedir(list);
    if (scope->rotated != NULL)
        walk_files(scope->rotated, scope->follow_symlinks, consider, &s);
    neighbours_sort(ret);
}

static void reverse(struct neighbour **items, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        struct neighbour *last = items[count - 1 - i];
        items[count - 1 - i] = items[i];
        items[i] = last;
    }
}

void neighbours_sort_copies(struct neighbours *all, int64_t since_ns, int64_t written_ns)
{
    size_t young = 0;

    /* A stable partition: those that are young enough move to the front. */
    for (size_t i = 0; i < all->count; i++) {
        struct neighbour *n = all->items[i];

        if (neighbour_born_ns(n) < (n->packed == UNPACK_NONE ? since_ns : written_ns))
            continue;
        memmove(all->items + young + 1, all->items + young, (i - young) * sizeof(*all->items));
        all->items[young++] = n;
    }
    reverse(all->items + young, all->count - young);
}

void neighbours_done(struct neighbours *all)
{
    for (size_t i = 0; i < all->count; i++)
        neighbour_free(all->items[i]);
    free(all->items);
    *all = (struct neighbours){0};
}
