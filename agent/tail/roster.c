#include "tail/roster.h"

#include "run/log.h"
#include "tail/generation.h"
#include "tail/glob.h"
#include "tail/roster_inner.h"
#include "util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ROSTER_POLL_MS = 1000,        /* where inotify is blind … */
    ROSTER_POLL_NAMES = 5000,     /* … for each so many names */
    ROSTER_GLANCE_MS = 60 * 1000, /* everywhere, for what nobody thought of … */
    ROSTER_AGAIN_MS = 1000,       /* … and after there was no memory */
    ROSTER_GLANCE_NAMES = 20000,  /* … for each so many names: a glance costs some 3 us a name */
    ROSTER_PEEK_MS = 60 * 1000,   /* how long a link that leads nowhere is looked at */
    ROSTER_ON_ITS_WAY_S = 2,      /* an event may be in the queue for so long */
};

/* --- names --- */

static uint64_t name_hash(const struct roster_dir *d, const char *text)
{
    return map_hash_slice((uint64_t)(uintptr_t)d, slice_of(text));
}

struct name *name_find(const struct roster_dir *d, const char *text)
{
    struct map_node *node = map_find(&d->roster->names, name_hash(d, text));

    for (; node != NULL; node = map_find_next(node)) {
        struct name *n = CONTAINER_OF(node, struct name, node);
        if (n->dir == d && strcmp(n->text, text) == 0)
            return n;
    }
    return NULL;
}

struct name *name_need(struct roster_dir *d, const char *text)
{
    struct name *n = name_find(d, text);
    size_t size = strlen(text) + 1;

    if (n != NULL)
        return n;
    n = calloc(1, sizeof *n + size);
    if (n == NULL)
        return NULL;
    list_init(&n->in_dir);
    list_init(&n->looking);
    list_init(&n->same);
    n->dir = d;
    memcpy(n->text, text, size);
    if (map_insert(&d->roster->names, &n->node, name_hash(d, text)) < 0) {
        free(n);
        return NULL;
    }
    list_append(&d->names, &n->in_dir);
    return n;
}

void roster_forget(struct roster *r, struct name *n)
{
    if (r->leaving == n)
        r->leaving = NULL;
    map_remove(&r->names, &n->node);
    list_remove(&n->in_dir);
    list_remove(&n->looking);
    free(n);
}

int roster_path(const struct name *n, char to[PATH_MAX])
{
    int len = snprintf(to, PATH_MAX, "%s/%s", n->dir->path, n->text);

    return len < 0 || len >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int roster_real_path(const struct name *n, char to[PATH_MAX])
{
    const char *dir = n->dir->real != NULL ? n->dir->real : n->dir->path;
    int len = snprintf(to, PATH_MAX, "%s/%s", dir, n->text);

    return len < 0 || len >= PATH_MAX ? -ENAMETOOLONG : 0;
}

size_t roster_count(const struct roster *r)
{
    return r->names.count;
}

void roster_look(struct roster *r, struct name *n)
{
    if (list_is_empty(&n->looking))
        list_append(&r->names_waiting, &n->looking);
    loop_want_turn(r->loop, &r->turn);
}

bool name_is_meant(const struct roster_dir *d, const char *text)
{
    char path[PATH_MAX];

    if (!glob_matches(d->roster->glob, d->states, text))
        return false;
    if (snprintf(path, sizeof path, "%s/%s", d->path, text) >= (int)sizeof path)
        return false;
    return !glob_excludes_match(d->roster->excludes, path, text);
}

/* For generation_has_base: whether a base is a name of this directory that is meant. */
struct base_search {
    struct roster_dir *dir;
    char *found;
};

static bool is_meant_base(void *user, struct slice base)
{
    struct base_search *s = user;

    (void)snprintf(s->found, NAME_MAX + 1, "%.*s", SLICE_ARG(base));
    return name_is_meant(s->dir, s->found);
}

bool name_is_rotation(struct roster_dir *d, const char *text, char base[NAME_MAX + 1])
{
    struct base_search s = {d, base};

    struct slice name = generation_strip_packing(slice_of(text));

    /* "a.log.gz" may be of "a.log" itself. */
    if (name.len < strlen(text) && is_meant_base(&s, name))
        return true;
    return generation_has_base(name, is_meant_base, &s);
}

/* --- renames --- */

static uint64_t move_hash(const struct name *n)
{
    return map_hash_u64((uint64_t)(uintptr_t)n);
}

void move_note(struct roster_dir *d, struct name *n, uint32_t mask, const char *text)
{
    struct roster *r = d->roster;
    uint32_t cookie = watch_cookie(r->watch);
    struct roster_move *m;
    size_t size;

    if ((mask & IN_MOVED_FROM) != 0) {
        r->leaving = n;
        r->leaving_cookie = cookie;
    }
    if ((mask & IN_MOVED_TO) == 0 || r->leaving == NULL || cookie != r->leaving_cookie)
        return;
    size = strlen(d->path) + 1 + strlen(text) + 1;
    m = malloc(sizeof *m + size);
    if (m == NULL)
        return; /* it will be searched for */
    m->name = r->leaving;
    (void)snprintf(m->to, size, "%s/%s", d->path, text);
    r->leaving = NULL;
    if (map_insert(&r->moves, &m->node, move_hash(m->name)) < 0) {
        free(m);
        return;
    }
    list_init(&m->all);
    list_append(&r->all_moves, &m->all);
}

static void forget_moves(struct roster *r)
{
    for (struct list *node; (node = list_take(&r->all_moves)) != NULL;) {
        struct roster_move *m = CONTAINER_OF(node, struct roster_move, all);
        map_remove(&r->moves, &m->node);
        free(m);
    }
    r->leaving = NULL;
}

bool roster_went(const struct roster *r, const struct name *n, char to[PATH_MAX])
{
    const struct map_node *node = map_find(&r->moves, move_hash(n));

    /* The last one: a name may be left more than once between two looks. */
    if (node == NULL)
        return false;
    return snprintf(to, PATH_MAX, "%s", CONTAINER_OF(node, const struct roster_move, node)->to) <
           PATH_MAX;
}

bool roster_came(const struct roster *r, const char *path)
{
    for (const struct list *node = r->all_moves.next; node != &r->all_moves; node = node->next)
        if (strcmp(CONTAINER_OF(node, const struct roster_move, all)->to, path) == 0)
            return true;
    return false;
}

/* --- the roster --- */

static void roster_turn(struct loop_turn *t)
{
    struct roster *r = CONTAINER_OF(t, struct roster, turn);
    struct list names, *node;

    /* Directories may go while they are worked on, so always the first one. */
    while (!list_is_empty(&r->dirs_waiting)) {
        struct roster_dir *d =
            CONTAINER_OF(list_take(&r->dirs_waiting), struct roster_dir, waiting);
        enum roster_work work = d->work;

        d->work = ROSTER_NOTHING;
        dir_scan(d, work);
    }

    /* What a look asks to be looked at again has its turn next time, so that a name that keeps
     * changing (or a file system that contradicts itself) does not keep everything else waiting. */
    list_init(&names);
    while ((node = list_take(&r->names_waiting)) != NULL)
        list_append(&names, node);
    while ((node = list_take(&names)) != NULL)
        r->events.look(r->events.user, CONTAINER_OF(node, struct name, looking));
    r->overflowed = false;
    forget_moves(r);
    if (list_is_empty(&r->names_waiting) && list_is_empty(&r->dirs_waiting))
        r->sure_ns = watch_told_ns(r->watch);
}

static void roster_scan_all(struct roster_dir *d, bool glance)
{
    struct roster *r = d->roster;

    if (d->peek_until_ms != 0 && loop_now_ms(r->loop) >= d->peek_until_ms) {
        d->peek_until_ms = 0;
        r->peek_count--;
    }
    if (glance || d->blind || d->peek_until_ms != 0)
        dir_want(d, ROSTER_ALL);
    LIST_EACH(&d->children, node, after)
    {
        roster_scan_all(CONTAINER_OF(node, struct roster_dir, in_parent), glance);
    }
}

/* A glance at very many files must not come so often that the host feels it. */
static uint64_t stretched_ms(const struct roster *r, uint64_t ms, size_t names)
{
    return ms * (1 + r->names.count / names);
}

void roster_set_timer(struct roster *r)
{
    bool poll = r->blind_count + r->peek_count > 0;

    if (!r->starting)
        loop_timer_set(r->loop, &r->timer,
                       poll ? MIN(r->next_poll_ms, r->next_glance_ms) : r->next_glance_ms);
}

void roster_look_again(struct roster *r)
{
    uint64_t soon_ms = loop_now_ms(r->loop) + stretched_ms(r, ROSTER_AGAIN_MS, ROSTER_GLANCE_NAMES);

    if (soon_ms >= r->next_glance_ms)
        return;
    r->next_glance_ms = soon_ms;
    roster_set_timer(r);
}

static void roster_tick(struct loop_timer *t)
{
    struct roster *r = CONTAINER_OF(t, struct roster, timer);
    uint64_t now_ms = loop_now_ms(r->loop);
    bool glance = now_ms >= r->next_glance_ms;

    watch_catch_up(r->watch); /* what has been told is not what a glance finds */
    roster_scan_all(r->root, glance);
    if (glance)
        r->next_glance_ms = now_ms + stretched_ms(r, ROSTER_GLANCE_MS, ROSTER_GLANCE_NAMES);
    r->next_poll_ms = now_ms + stretched_ms(r, ROSTER_POLL_MS, ROSTER_POLL_NAMES);
    roster_set_timer(r);
}

void roster_found(struct roster *r, struct name *n, int64_t modified_ns)
{
    struct roster_dir *d = n->dir;
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (r->overflowed || d->blind || n->modified || n->appearances > 0 ||
        now.tv_sec - modified_ns / INT64_C(1000000000) <= ROSTER_ON_ITS_WAY_S)
        return;
    dir_say_blind(d, "the kernel does not tell of what is written there");
}

int64_t roster_sure_ns(const struct roster *r)
{
    return r->sure_ns;
}

bool roster_is_sure(const struct roster *r, const struct name *n)
{
    return !n->dir->blind && !r->overflowed;
}

void dir_peek(struct roster_dir *d)
{
    struct roster *r = d->roster;

    r->peek_count += d->peek_until_ms == 0;
    d->peek_until_ms = loop_now_ms(r->loop) + ROSTER_PEEK_MS;
    r->next_poll_ms = MIN(r->next_poll_ms, loop_now_ms(r->loop) + ROSTER_POLL_MS);
    roster_set_timer(r);
}

void roster_peek(struct name *n)
{
    struct roster_dir *d = n->dir;

    if (n->said == ENOLINK || d->blind)
        return; /* it was for a minute already */
    n->said = ENOLINK;
    dir_peek(d);
}

/* The directory at the path `dir`, if it is one of ours. */
static struct roster_dir *find_dir(const struct roster *r, const char *dir, size_t len)
{
    const char *end = dir + len;
    struct roster_dir *d = r->root;

    while (d != NULL) {
        const char *slash;

        while (dir < end && *dir == '/')
            dir++;
        if (dir == end)
            return d;
        slash = memchr(dir, '/', (size_t)(end - dir));
        len = (size_t)((slash != NULL ? slash : end) - dir);
        d = dir_child(d, dir, len);
        dir += len;
    }
    return NULL;
}

bool roster_means(const struct roster *r, const char *dir, const char *name)
{
    const struct roster_dir *d = find_dir(r, dir, strlen(dir));

    return d != NULL && name_is_meant(d, name);
}

static bool means_below(const struct roster_dir *d, const char *name)
{
    if (name_is_meant(d, name))
        return true;
    LIST_EACH(&d->children, node, after)
    {
        if (means_below(CONTAINER_OF(node, struct roster_dir, in_parent), name))
            return true;
    }
    return false;
}

bool roster_means_somewhere(const struct roster *r, const char *name)
{
    return means_below(r->root, name);
}

struct name *roster_find(const struct roster *r, const char *path)
{
    const char *slash = strrchr(path, '/');
    const struct roster_dir *d = find_dir(r, path, (size_t)(slash - path));

    return d != NULL ? name_find(d, slash + 1) : NULL;
}

int roster_new(struct loop *loop, struct watch *watch, const struct roster_settings *settings,
               const struct roster_events *events, struct roster **ret)
{
    struct roster *r = calloc(1, sizeof *r);
    struct glob_states *states = NULL;
    int e;

    if (r == NULL)
        return -ENOMEM;
    r->loop = loop;
    r->watch = watch;
    r->settings = *settings;
    r->events = *events;
    list_init(&r->dirs_waiting);
    list_init(&r->names_waiting);
    list_init(&r->all_moves);
    loop_turn_init(&r->turn, roster_turn);
    if ((e = glob_new(settings->files, settings->file_count, &r->glob)) < 0 ||
        (e = glob_excludes_new(settings->exclude, settings->exclude_count, &r->excludes)) < 0 ||
        (e = loop_timer_init(loop, &r->timer, roster_tick)) < 0 ||
        (e = glob_root(r->glob, &states)) < 0 || (e = dir_new(r, NULL, "", states, &r->root)) < 0)
        goto out;
    *ret = r;
    return 0;
out:
    if (r->root == NULL)
        free(states);
    roster_free(r);
    return e;
}

void roster_free(struct roster *r)
{
    if (r == NULL)
        return;
    if (r->root != NULL)
        dir_drop(r->root);
    loop_turn_cancel(&r->turn);
    loop_timer_done(r->loop, &r->timer);
    map_done(&r->names);
    map_done(&r->dirs);
    forget_moves(r);
    map_done(&r->moves);
    glob_free(r->glob);
    glob_excludes_free(r->excludes);
    free(r);
}

void roster_start(struct roster *r)
{
    r->starting = true;
    dir_scan(r->root, ROSTER_ALL);
    r->starting = false;
    r->next_glance_ms =
        loop_now_ms(r->loop) + stretched_ms(r, ROSTER_GLANCE_MS, ROSTER_GLANCE_NAMES);
    r->next_poll_ms = loop_now_ms(r->loop) + stretched_ms(r, ROSTER_POLL_MS, ROSTER_POLL_NAMES);
    roster_set_timer(r);
}
