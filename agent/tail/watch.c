#include "tail/watch.h"

#include "map.h"
#include "run/log.h"
#include "run/loop.h"
#include "util.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
    WATCH_READ_SIZE = 64 * 1024,
    WATCH_EVENT_MAX = sizeof(struct inotify_event) + NAME_MAX + 1, /* inotify(7) */
    WATCH_SAY_EVERY_MS = 60 * 1000,
    WATCH_CATCH_UP = 64,
};

struct watch_entry {
    struct map_node node;
    struct list all;
    int wd; /* -1: the kernel has dropped it */
    struct list subs;
};

struct watch {
    struct loop *loop;
    struct loop_fd fd;
    struct map by_wd;
    struct list entries;
    struct watch_sub *cursor; /* the next one to be told; moved on if it unsubscribes */
    const struct list *cursor_end;
    struct list
        *next_entry; /* the next one to be told that events were lost; moved on if it goes */
    uint32_t cookie; /* of the event that is being told */
    bool telling;    /* the buffer is in use */
    int64_t told_ns; /* all that happened before has been told */
    int why;         /* there is no inotify instance: -errno */
    struct log_limit said;
    _Alignas(struct inotify_event) char events[WATCH_READ_SIZE];
};

static struct watch_entry *watch_find(const struct watch *w, int wd)
{
    struct map_node *n = map_find(&w->by_wd, map_hash_u64((uint64_t)wd));

    for (; n != NULL; n = map_find_next(n)) {
        struct watch_entry *e = CONTAINER_OF(n, struct watch_entry, node);
        if (e->wd == wd)
            return e;
    }
    return NULL;
}

static void watch_forget(struct watch *w, struct watch_entry *e)
{
    if (w->next_entry == &e->all)
        w->next_entry = e->all.next;
    map_remove(&w->by_wd, &e->node);
    list_remove(&e->all);
    free(e);
}

void watch_remove(struct watch *w, struct watch_sub *s)
{
    struct watch_entry *e = s->entry;

    if (e == NULL)
        return;
    if (w->cursor == s)
        w->cursor = s->node.next == w->cursor_end
                        ? NULL
                        : CONTAINER_OF(s->node.next, struct watch_sub, node);
    list_remove(&s->node);
    s->entry = NULL;
    if (!list_is_empty(&e->subs))
        return;
    (void)inotify_rm_watch(w->fd.fd, e->wd); /* fails only if the kernel was first */
    watch_forget(w, e);
}

int watch_add(struct watch *w, struct watch_sub *s, const char *path, uint32_t mask)
{
    struct watch_entry *e;
    int wd, r;

    if (w->fd.fd < 0)
        return w->why;
    wd = inotify_add_watch(w->fd.fd, path, mask | IN_MASK_ADD);
    if (wd < 0)
        return -errno;
    e = watch_find(w, wd);
    if (e == NULL) {
        e = calloc(1, sizeof *e);
        r = e == NULL ? -ENOMEM : map_insert(&w->by_wd, &e->node, map_hash_u64((uint64_t)wd));
        if (r < 0) {
            free(e);
            (void)inotify_rm_watch(w->fd.fd, wd);
            return r;
        }
        e->wd = wd;
        list_init(&e->subs);
        list_init(&e->all);
        list_append(&w->entries, &e->all);
    }
    s->entry = e;
    list_init(&s->node);
    list_append(&e->subs, &s->node);
    return 0;
}

/* Tells each subscriber of `e`; any of them may leave meanwhile, and `e` with the last. */
static void watch_tell(struct watch *w, struct watch_entry *e, uint32_t mask, const char *name)
{
    struct list *end = &e->subs;

    w->cursor = list_is_empty(end) ? NULL : CONTAINER_OF(end->next, struct watch_sub, node);
    w->cursor_end = end;
    while (w->cursor != NULL) {
        struct watch_sub *s = w->cursor;

        w->cursor = s->node.next == end ? NULL : CONTAINER_OF(s->node.next, struct watch_sub, node);
        s->event(s, mask, name);
    }
}

/* The kernel dropped the watch: its inode is gone.  The subscribers hear of it as a last event. */
static void watch_dropped(struct watch *w, struct watch_entry *e)
{
    struct watch_sub *s;
    int wd = e->wd;

    while (!list_is_empty(&e->subs)) {
        s = CONTAINER_OF(e->subs.next, struct watch_sub, node);
        list_remove(&s->node);
        s->entry = NULL;
        s->event(s, IN_IGNORED, "");
        e = watch_find(w, wd); /* the callback may have sent the last one away, and it with them */
        if (e == NULL)
            return;
    }
    watch_forget(w, e);
}

static void watch_overflow(struct watch *w)
{
    /* Whoever is told may leave, or send others away. */
    for (w->next_entry = w->entries.next; w->next_entry != &w->entries;) {
        struct watch_entry *e = CONTAINER_OF(w->next_entry, struct watch_entry, all);

        w->next_entry = w->next_entry->next;
        watch_tell(w, e, IN_Q_OVERFLOW, "");
    }
    w->next_entry = NULL;
}

static void watch_dispatch(struct watch *w, const struct inotify_event *event)
{
    struct watch_entry *e;

    if ((event->mask & IN_Q_OVERFLOW) != 0) {
        uint64_t held;

        if (log_limit_pass(&w->said, loop_now_ms(w->loop), WATCH_SAY_EVERY_MS, &held))
            log_info("watch: the kernel's event queue overflowed; looking at all files instead");
        watch_overflow(w);
        return;
    }
    e = watch_find(w, event->wd);
    if (e == NULL)
        return;
    w->cookie = event->cookie;
    if ((event->mask & IN_IGNORED) != 0)
        watch_dropped(w, e);
    else
        watch_tell(w, e, event->mask, event->len > 0 ? event->name : "");
    w->cookie = 0;
}

uint32_t watch_cookie(const struct watch *w)
{
    return w->cookie;
}

int64_t watch_told_ns(const struct watch *w)
{
    return w->fd.fd < 0 ? INT64_MAX : w->told_ns;
}

/* Takes what there is, up to a buffer of it.  False: there was nothing. */
static bool watch_take(struct watch *w)
{
    struct timespec asked;
    ssize_t n;

    (void)clock_gettime(CLOCK_REALTIME_COARSE, &asked);
    n = read(w->fd.fd, w->events, sizeof w->events);
    w->telling = true;
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        log_warn("watch: reading inotify: %s; looking at all files instead",
                 strerrordesc_np(errno));
        watch_overflow(w);
    }
    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *event = (const struct inotify_event *)(void *)(w->events + at);

        watch_dispatch(w, event);
        at += (ssize_t)(sizeof *event + event->len);
    }
    w->telling = false;

    /* With room for another event there was none. */
    if (n >= 0 ? (size_t)n <= sizeof w->events - WATCH_EVENT_MAX : errno == EAGAIN)
        w->told_ns = (int64_t)asked.tv_sec * INT64_C(1000000000) + asked.tv_nsec;
    return n > 0;
}

static void watch_ready(struct loop_fd *f, uint32_t events)
{
    (void)events;
    (void)watch_take(CONTAINER_OF(f, struct watch, fd));
}

void watch_catch_up(struct watch *w)
{
    /* The buffer is in use while an event is being told. */
    for (int i = 0; i < WATCH_CATCH_UP && !w->telling && w->fd.fd >= 0 && watch_take(w); i++)
        ;
}

int watch_new(struct loop *loop, struct watch **ret)
{
    struct watch *w = calloc(1, sizeof *w);
    int r;

    if (w == NULL)
        return -ENOMEM;
    w->loop = loop;
    list_init(&w->entries);
    w->fd = (struct loop_fd){inotify_init1(IN_CLOEXEC | IN_NONBLOCK), watch_ready};
    if (w->fd.fd < 0) {
        w->why = -errno;
        *ret = w;
        return 0;
    }
    r = loop_add(loop, &w->fd, EPOLLIN);
    if (r < 0) {
        close(w->fd.fd);
        free(w);
        return r;
    }
    *ret = w;
    return 0;
}

void watch_free(struct watch *w)
{
    if (w == NULL)
        return;
    if (w->fd.fd >= 0) {
        loop_remove(w->loop, &w->fd);
        close(w->fd.fd);
    }
    LIST_EACH(&w->entries, node, after)
    {
        free(CONTAINER_OF(node, struct watch_entry, all));
    }
    map_done(&w->by_wd);
    free(w);
}
