/* Names whose files are quiet.  A file that was read to its end, is settled and was not written to
 * for a while is forgotten but for its place, which is the caller's slot: a hundred thousand quiet
 * files cost a hundred thousand names.  Its next sign of life wakes it. */
#include "run/log.h"
#include "tail/follower_inner.h"
#include "tail/identity.h"
#include "util.h"

#include <errno.h>
#include <sys/stat.h>

enum { RESTING_AFTER_MS = 60 * 1000 };

static uint32_t wall_s(void)
{
    return (uint32_t)(follower_wall_ns() / follower_second_ns);
}

struct name *resting_find(const struct follower *f, const struct source_id *id)
{
    struct map_node *node = map_find(&f->resting, follower_ino_hash(id));

    for (; node != NULL; node = map_find_next(node)) {
        struct name *n = CONTAINER_OF(node, struct name, by_ino);
        struct source_id known;
        struct cursor at;

        f->events.recall(f->events.user, n->slot, &known, &at);
        if (known.dev == id->dev && source_id_is_same_object(&known, id))
            return n;
    }
    return NULL;
}

int resting_begin(struct follower *f, struct name *n, void *slot, const struct source_id *id,
                  uint64_t size)
{
    int r = map_insert(&f->resting, &n->by_ino, follower_ino_hash(id));

    if (r < 0)
        return r;
    n->slot = slot;
    n->resting = true;
    n->rest_size = size;
    n->rested_s = wall_s();
    f->resting_count++;
    return 0;
}

void resting_leave(struct follower *f, struct name *n)
{
    map_remove(&f->resting, &n->by_ino);
    f->resting_count--;
    n->resting = false;
    n->slot = NULL;
    n->last = NULL;
    list_init(&n->same);
}

struct source *resting_wake(struct follower *f, struct name *n)
{
    void *slot = n->slot;
    struct source_id id;
    struct cursor at;
    struct source *s;
    char path[PATH_MAX];
    int r;

    f->events.recall(f->events.user, slot, &id, &at);
    r = roster_real_path(n, path);
    if (r == 0)
        r = follower_add(f, &id, at, path, -1, slot, &s);
    if (r < 0) {
        log_error("flow %s: '%s': %s; trying again in a second", follower_flow(f), n->text,
                  strerrordesc_np(-r));
        roster_look_again(f->roster);
        return NULL;
    }
    resting_leave(f, n);
    s->at_end = s->caught_up = true;
    s->seen = n->rest_size;
    if (roster_path(n, path) == 0)
        follower_attach(f, n, s, path);
    return s;
}

/* Whether nothing is open about `s` but what its slot knows. */
static bool may_rest(const struct follower *f, struct source *s, struct stat *st)
{
    const struct name *n = s->name;
    char path[PATH_MAX];

    if (s->names.next != s->names.prev || n->last != NULL || !list_is_empty(&n->looking) ||
        n->appearances > 0 || !s->at_end || s->seen != s->at.offset || s->ending ||
        s->after != NULL || s->before != NULL || !f->events.is_settled(f->events.user, s))
        return false;

    /* A link's target may change without its directory's watch hearing of it. */
    return roster_path(n, path) == 0 && lstat(path, st) == 0 && S_ISREG(st->st_mode) &&
           st->st_nlink == 1 && st->st_ino == s->id.ino;
}

/* Lets `s` rest, if it may. */
static bool rest(struct follower *f, struct source *s)
{
    struct name *n = s->name;
    struct source_id id = s->id;
    struct stat st;

    if (s->backup) {
        follower_have_news(f, s); /* its place follows its original's */
        return false;
    }
    if (!may_rest(f, s, &st))
        return false;
    if ((uint64_t)st.st_size != s->seen) {
        roster_found(f->roster, n, (int64_t)st.st_mtim.tv_sec * follower_second_ns);
        follower_have_news(f, s); /* nobody told */
        return false;
    }
    follower_settle_copies(f, s);
    list_remove(&n->same);
    n->source = NULL;
    if (resting_begin(f, n, NULL, &id, (uint64_t)st.st_size) == 0) {
        n->slot = f->events.rest(f->events.user, s);
        if (n->slot != NULL) {
            s->name = NULL;
            follower_free_source(f, s);
            return true;
        }
        resting_leave(f, n); /* not now */
    }
    n->source = s;
    n->last = NULL;
    list_init(&n->same);
    list_append(&s->names, &n->same);
    return false;
}

void resting_set_timer(struct follower *f)
{
    if (!list_is_empty(&f->named) && !loop_timer_is_set(&f->rest))
        loop_timer_set(f->loop, &f->rest,
                       source_of(f->named.next)->quiet_since_ms + RESTING_AFTER_MS);
}

void resting_tick(struct loop_timer *t)
{
    struct follower *f = CONTAINER_OF(t, struct follower, rest);
    uint64_t now_ms = loop_now_ms(f->loop);

    LIST_EACH(&f->named, node, after)
    {
        struct source *s = source_of(node);

        if (now_ms - s->quiet_since_ms < RESTING_AFTER_MS)
            break;
        if (rest(f, s))
            continue;
        s->quiet_since_ms = now_ms; /* asked again when as much time has passed */
        list_remove(&s->all);
        list_append(&f->named, &s->all);
    }
    resting_set_timer(f);
}
