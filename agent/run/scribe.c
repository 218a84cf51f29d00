#include "run/scribe.h"

#include "run/loop.h"
#include "util.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct scribe {
    struct loop *loop;
    struct loop_fd told; /* an eventfd: something is in `finished` */
    pthread_t thread;
    bool running;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;
    struct list waiting, finished;
    bool stop;
};

/* A job has run: the loop is told. */
static void scribe_finished(struct scribe *s, struct scribe_job *j)
{
    uint64_t one = 1;

    list_append(&s->finished, &j->node);
    if (write(s->told.fd, &one, sizeof one) < 0)
        return; /* full: the loop knows already */
}

static void *scribe_thread(void *arg)
{
    struct scribe *s = arg;

    pthread_mutex_lock(&s->lock);
    for (;;) {
        struct list *node = list_take(&s->waiting);
        struct scribe_job *j;

        if (node == NULL) {
            if (s->stop)
                break;
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        j = CONTAINER_OF(node, struct scribe_job, node);
        pthread_mutex_unlock(&s->lock);
        j->run(j);
        pthread_mutex_lock(&s->lock);
        scribe_finished(s, j);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void scribe_told(struct loop_fd *f, uint32_t events)
{
    struct scribe *s = CONTAINER_OF(f, struct scribe, told);
    uint64_t count;

    (void)events;
    if (read(f->fd, &count, sizeof count) < 0)
        return;
    for (;;) {
        struct list *node;

        pthread_mutex_lock(&s->lock);
        node = list_take(&s->finished);
        pthread_mutex_unlock(&s->lock);
        if (node == NULL)
            return;
        struct scribe_job *j = CONTAINER_OF(node, struct scribe_job, node);
        j->done(j);
    }
}

/* The scribe takes no signals: they are the loop's. */
static int scribe_start(struct scribe *s)
{
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    r = -pthread_create(&s->thread, NULL, scribe_thread, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    s->running = r == 0;
    return r;
}

int scribe_new(struct loop *loop, bool threaded, struct scribe **ret)
{
    struct scribe *s = calloc(1, sizeof *s);
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->loop = loop;
    list_init(&s->waiting);
    list_init(&s->finished);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    s->told = (struct loop_fd){eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), scribe_told};
    if (s->told.fd < 0)
        r = -errno;
    else
        r = loop_add(loop, &s->told, EPOLLIN);
    if (r == 0 && threaded)
        r = scribe_start(s);
    if (r < 0) {
        scribe_free(s);
        return r;
    }
    *ret = s;
    return 0;
}

void scribe_free(struct scribe *s)
{
    if (s == NULL)
        return;
    if (s->running) {
        pthread_mutex_lock(&s->lock);
        s->stop = true;
        pthread_cond_signal(&s->work);
        pthread_mutex_unlock(&s->lock);
        pthread_join(s->thread, NULL);
    }
    if (s->told.fd >= 0) {
        loop_remove(s->loop, &s->told);
        close(s->told.fd);
    }
    pthread_cond_destroy(&s->work);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

void scribe_give(struct scribe *s, struct scribe_job *j)
{
    list_init(&j->node);
    if (!s->running) {
        j->run(j);
        scribe_finished(s, j);
        return;
    }
    pthread_mutex_lock(&s->lock);
    list_append(&s->waiting, &j->node);
    pthread_cond_signal(&s->work);
    pthread_mutex_unlock(&s->lock);
}
