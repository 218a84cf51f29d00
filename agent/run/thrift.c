#include "run/thrift.h"

#include "record/scratch.h"
#include "run/loop.h"
#include "tail/source.h"
#include "util.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>

enum {
    /* Bytes; left alone, glibc goes up to 32 MiB.  Twice the largest block that comes with each
     * request (libcurl's, HTTP_SEND_BUFFER): mapping and touching that anew each time costs half of
     * what all else on a line's way does. */
    THRIFT_MAPPED = 1024 * 1024,
    /* What stays at the heap's end; at glibc's 128 KiB the same block would come and go there. */
    THRIFT_KEPT = 1024 * 1024,
};

struct thrift {
    struct loop *loop;
    struct reader *reader;
    struct scratch scratch;
    struct list users;
    struct loop_timer timer;
    size_t excess; /* of both, when it was last looked at */
    bool needed;   /* since the timer fired */
};

static size_t thrift_excess(struct thrift *t)
{
    return scratch_excess(&t->scratch) + reader_excess(t->reader);
}

static void thrift_arm(struct thrift *t)
{
    loop_timer_set(t->loop, &t->timer, loop_now_ms(t->loop) + THRIFT_MS);
}

static void thrift_fires(struct loop_timer *timer)
{
    struct thrift *t = CONTAINER_OF(timer, struct thrift, timer);

    if (t->needed) {
        t->needed = false;
        thrift_arm(t);
        return;
    }
    scratch_trim(&t->scratch);
    reader_trim(t->reader);
    LIST_EACH(&t->users, node, after)
    {
        const struct thrift_user *u = CONTAINER_OF(node, struct thrift_user, node);

        u->trim(u->user);
    }
    t->excess = 0;
}

int thrift_new(struct loop *loop, struct reader *reader, struct thrift **ret)
{
    struct thrift *t = calloc(1, sizeof *t);
    int r;

    if (t == NULL)
        return -ENOMEM;
    t->loop = loop;
    t->reader = reader;
    list_init(&t->users);
    scratch_init(&t->scratch);
    (void)mallopt(M_MMAP_THRESHOLD, THRIFT_MAPPED);
    (void)mallopt(M_TRIM_THRESHOLD, THRIFT_KEPT);
    r = loop_timer_init(loop, &t->timer, thrift_fires);
    if (r < 0)
        thrift_free(t);
    else
        *ret = t;
    return r;
}

void thrift_free(struct thrift *t)
{
    if (t == NULL)
        return;
    loop_timer_done(t->loop, &t->timer);
    scratch_done(&t->scratch);
    free(t);
}

struct scratch *thrift_scratch(struct thrift *t)
{
    return &t->scratch;
}

void thrift_join(struct thrift *t, struct thrift_user *u)
{
    list_append(&t->users, &u->node);
}

void thrift_leave(struct thrift_user *u)
{
    list_remove(&u->node);
}

void thrift_saw(struct thrift *t, size_t bytes)
{
    size_t excess = thrift_excess(t);

    if (excess == 0)
        return;
    t->needed = t->needed || bytes > THRIFT_ORDINARY || excess > t->excess;
    t->excess = excess;
    if (!loop_timer_is_set(&t->timer))
        thrift_arm(t);
}
