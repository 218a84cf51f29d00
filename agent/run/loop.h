/* loop -- one thread's wait: descriptors, deadlines, and turns.
 *
 *   1. A callback learns something, writes it down, asks for a turn, and returns.
 *   2. Turns run after all callbacks of a wake-up, each asked-for turn once.
 *   3. loop_now_ms is read when the loop wakes and stands still until it sleeps.
 *   4. With nothing to do the loop sleeps for ever: no periodic wake-up is its own.
 *
 * Threads: one lane.  Only loop_wake may be called from elsewhere. */
#ifndef LOOP_H
#define LOOP_H

#include "heap.h"
#include "list.h"

#include <stdbool.h>
#include <stdint.h>

struct clock;
struct loop;

struct loop_fd {
    int fd;
    void (*ready)(struct loop_fd *f, uint32_t events); /* events: EPOLLIN, … */
};

struct loop_timer {
    struct heap_node node;
    void (*fire)(struct loop_timer *t);
};

struct loop_turn {
    struct list node;
    void (*run)(struct loop_turn *t);
};

/* Borrows `clock` until loop_free.  Errors: epoll_create1(2)'s, eventfd(2)'s, -ENOMEM. */
int loop_new(const struct clock *clock, struct loop **ret);
void loop_free(struct loop *l);

uint64_t loop_now_ms(const struct loop *l);
const struct clock *loop_clock(const struct loop *l);

/* Watches f->fd for `events`; borrows `f` until loop_remove.  Errors: epoll_ctl(2)'s. */
int loop_add(struct loop *l, struct loop_fd *f, uint32_t events);
int loop_change(struct loop *l, struct loop_fd *f, uint32_t events);

/* Must come before the descriptor is closed.  A pending callback of `f` no longer comes. */
void loop_remove(struct loop *l, struct loop_fd *f);

/* Makes the timer known and its place sure, so that setting it cannot fail.  -ENOMEM. */
int loop_timer_init(struct loop *l, struct loop_timer *t, void (*fire)(struct loop_timer *t));
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at_ms);
void loop_timer_cancel(struct loop *l, struct loop_timer *t);
bool loop_timer_is_set(const struct loop_timer *t);

/* Cancels, and gives the place back; a zero timer is fine. */
void loop_timer_done(struct loop *l, struct loop_timer *t);

void loop_turn_init(struct loop_turn *t, void (*run)(struct loop_turn *t));
void loop_want_turn(struct loop *l, struct loop_turn *t);
void loop_turn_cancel(struct loop_turn *t);

/* Waits for something to happen, at most `wait_ms` (-1: for ever), and lets it happen.
 * Errors: epoll_wait(2)'s. */
int loop_step(struct loop *l, int64_t wait_ms);

/* The next deadline, UINT64_MAX if there is none: a simulation turns its clock there. */
uint64_t loop_next_ms(const struct loop *l);

/* Ends the current or the next sleep of the loop; from any thread. */
void loop_wake(struct loop *l);

#endif
