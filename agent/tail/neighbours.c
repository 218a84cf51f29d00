#include "tail/neighbours.h"

#include "slice.h"
#include "tail/generation.h"
#include "tail/walk.h"

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
    if (n->fd >= 0)
        close(n->fd);
    free(n);
}

static int neighbour_open(const struct neighbours_scope *scope, const char *dir, const char *name,
                          struct neighbour *n)
{
    if (snprintf(n->path, sizeof n->path, "%s/%s", dir, name) >= (int)sizeof n->path)
        return -ENAMETOOLONG;
    n->fd = identity_open(n->path, scope->follow_symlinks);
    return n->fd < 0 ? n->fd : identity_read(scope->digest, n->fd, &n->id, &n->facts);
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
    int r = n == NULL ? -ENOMEM : neighbour_open(scope, dir, name, n);

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

/* Whether a file came to be before `since_ns`: a directory may hold ten thousand generations, and
 * opening them all is a thousand times this. */
static bool is_older(const char *dir, const char *name, int64_t since_ns)
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

static bool is_called_so(const struct search *s, const char *name)
{
    for (size_t i = 0; i < s->base_count; i++)
        if (strcmp(name, s->bases[i]) == 0 ||
            generation_is_of(slice_of(name), slice_of(s->bases[i])))
            return true;
    return false;
}

static void consider(void *user, const char *dir, const char *name, uint64_t ino)
{
    const struct search *s = user;

    if (ino == s->query->ino ||
        (is_called_so(s, name) && !is_older(dir, name, s->query->since_ns)))
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
    (void)note_base(&s, slice_of(slash + 1));
    if (query->siblings)
        (void)generation_has_base(slice_of(slash + 1), note_base, &s);
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

void neighbours_done(struct neighbours *all)
{
    for (size_t i = 0; i < all->count; i++)
        neighbour_free(all->items[i]);
    free(all->items);
    *all = (struct neighbours){0};
}
