#include "run/loop.h"

#include "clock.h"
#include "util.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { LOOP_EVENTS_MAX = 64 };

struct loop {
    const struct clock *clock;
    int epoll;
    uint64_t now_ms;
    struct heap timers;
    size_t timer_count; /* known, set or not */
    struct list turns;
    struct loop_fd wake;
    struct epoll_event events[LOOP_EVENTS_MAX];
    int event_count;
};

static void loop_woken(struct loop_fd *f, uint32_t events)
{
    uint64_t count;

    (void)events;
    /* Its only message is that we are awake. */
    if (read(f->fd, &count, sizeof count) < 0)
        return;
}

int loop_new(const struct clock *clock, struct loop **ret)
{
    struct loop *l = calloc(1, sizeof *l);
    int r;

    if (l == NULL)
        return -ENOMEM;
    l->clock = clock;
    l->now_ms = clock->mono_ms(clock);
    l->wake = (struct loop_fd){-1, loop_woken};
    list_init(&l->turns);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0) {
        r = -errno;
        goto out;
    }
    l->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake.fd < 0) {
        r = -errno;
        goto out;
    }
    r = loop_add(l, &l->wake, EPOLLIN);
    if (r < 0)
        goto out;
    *ret = l;
    return 0;
out:
    loop_free(l);
    return r;
}

void loop_free(struct loop *l)
{
    if (l == NULL)
        return;
    if (l->wake.fd >= 0)
        close(l->wake.fd);
    if (l->epoll >= 0)
        close(l->epoll);
    heap_done(&l->timers);
    free(l);
}

uint64_t loop_now_ms(const struct loop *l)
{
    return l->now_ms;
}

const struct clock *loop_clock(const struct loop *l)
{
    return l->clock;
}

static int loop_control(struct loop *l, int op, struct loop_fd *f, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = f};

    return epoll_ctl(l->epoll, op, f->fd, &e) < 0 ? -errno : 0;
}

int loop_add(struct loop *l, struct loop_fd *f, uint32_t events)
{
    return loop_control(l, EPOLL_CTL_ADD, f, events);
}

int loop_change(struct loop *l, struct loop_fd *f, uint32_t events)
{
    return loop_control(l, EPOLL_CTL_MOD, f, events);
}

void loop_remove(struct loop *l, struct loop_fd *f)
{
    (void)loop_control(l, EPOLL_CTL_DEL, f, 0);
    for (int i = 0; i < l->event_count; i++)
        if (l->events[i].data.ptr == f)
            l->events[i].data.ptr = NULL;
}

int loop_timer_init(struct loop *l, struct loop_timer *t, void (*fire)(struct loop_timer *t))
{
    int r = heap_reserve(&l->timers, l->timer_count + 1);

    if (r < 0)
        return r;
    l->timer_count++;
    *t = (struct loop_timer){.fire = fire};
    return 0;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at_ms)
{
    heap_remove(&l->timers, &t->node);
    heap_insert(&l->timers, &t->node, at_ms);
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    heap_remove(&l->timers, &t->node);
}

bool loop_timer_is_set(const struct loop_timer *t)
{
    return heap_has(&t->node);
}

void loop_timer_done(struct loop *l, struct loop_timer *t)
{
    if (t->fire == NULL)
        return;
    heap_remove(&l->timers, &t->node);
    l->timer_count--;
    t->fire = NULL;
}

void loop_turn_init(struct loop_turn *t, void (*run)(struct loop_turn *t))
{
    list_init(&t->node);
    t->run = run;
}

void loop_want_turn(struct loop *l, struct loop_turn *t)
{
    if (list_is_empty(&t->node))
        list_append(&l->turns, &t->node);
}

void loop_turn_cancel(struct loop_turn *t)
{
    if (t->run != NULL)
        list_remove(&t->node);
}

/* How long we may sleep, for epoll_wait: -1 is for ever. */
static int loop_sleep_ms(const struct loop *l, int64_t wait_ms)
{
    const struct heap_node *first = heap_first(&l->timers);
    uint64_t until;

    if (!list_is_empty(&l->turns))
        return 0;
    if (first == NULL)
        return wait_ms < 0 ? -1 : (int)MIN(wait_ms, (int64_t)INT_MAX);
    until = first->key > l->now_ms ? first->key - l->now_ms : 0;
    if (wait_ms >= 0)
        until = MIN(until, (uint64_t)wait_ms);
    return (int)MIN(until, (uint64_t)INT_MAX);
}

/* A timer may set itself to now again: it has its turn, but not all of ours. */
static void loop_fire_timers(struct loop *l)
{
    for (size_t left = l->timers.count; left > 0; left--) {
        struct heap_node *n = heap_first(&l->timers);
        struct loop_timer *t;

        if (n == NULL || n->key > l->now_ms)
            return;
        t = CONTAINER_OF(n, struct loop_timer, node);
        heap_remove(&l->timers, n);
        t->fire(t);
    }
}

/* Runs the turns that were asked for up to now; what they ask for is for the next wake-up, so
 * that descriptors and deadlines are never starved by work. */
static void loop_run_turns(struct loop *l)
{
    struct list now;

    list_init(&now);
    for (struct list *n; (n = list_take(&l->turns)) != NULL;)
        list_append(&now, n);
    for (struct list *n; (n = list_take(&now)) != NULL;) {
        struct loop_turn *t = CONTAINER_OF(n, struct loop_turn, node);
        t->run(t);
    }
}

int loop_step(struct loop *l, int64_t wait_ms)
{
    int n;

    /* Between two steps the owner may have worked: measure the sleep from now. */
    l->now_ms = l->clock->mono_ms(l->clock);
    n = epoll_wait(l->epoll, l->events, LOOP_EVENTS_MAX, loop_sleep_ms(l, wait_ms));
    if (n < 0 && errno != EINTR)
        return -errno;
    l->now_ms = l->clock->mono_ms(l->clock);
    l->event_count = MAX(n, 0);
    for (int i = 0; i < l->event_count; i++) {
        struct loop_fd *f = l->events[i].data.ptr;
        if (f != NULL)
            f->ready(f, l->events[i].events);
    }
    l->event_count = 0;
    loop_fire_timers(l);
    loop_run_turns(l);
    return 0;
}

uint64_t loop_next_ms(const struct loop *l)
{
    const struct heap_node *first = heap_first(&l->timers);

    if (!list_is_empty(&l->turns))
        return l->now_ms;
    return first == NULL ? UINT64_MAX : first->key;
}

void loop_wake(struct loop *l)
{
    uint64_t one = 1;

    /* Full means that it is already awake. */
    if (write(l->wake.fd, &one, sizeof one) < 0)
        return;
}
