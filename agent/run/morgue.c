#include "run/morgue.h"

#include "keep/dead.h"
#include "keep/state.h"
#include "run/log.h"
#include "run/loop.h"
#include "run/scribe.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    MORGUE_AGAIN_MS = 2000, /* after a failure */
    MORGUE_SAY_EVERY_MS = 60 * 1000,
    MORGUE_CUT = 1024 * 1024, /* bytes of a record that would not fit into a letter */
};

struct waiting {
    struct morgue_user *user; /* NULL: it has left */
    void *owner;
};

struct morgue {
    struct loop *loop;
    struct scribe *scribe;
    struct dead *dead;
    char *destination;                      /* owns */
    char directory[NAME_MAX + 1];           /* what its directory is called */
    struct waiting waiting[MORGUE_WAITING]; /* a ring: letter number n is at n % MORGUE_WAITING */
    uint64_t put, settled;                  /* letters */
    struct list refused;                    /* users that were told no */
    struct scribe_job job;
    struct loop_timer again;
    struct log_limit said;
    bool runs;
};

static void morgue_write(struct morgue *m)
{
    if (m->runs || loop_timer_is_set(&m->again) || !dead_wants_job(m->dead))
        return;
    m->runs = true;
    dead_job_begin(m->dead);
    scribe_give(m->scribe, &m->job);
}

static void morgue_tell_room(struct morgue *m)
{
    struct list *node;

    while ((node = list_take(&m->refused)) != NULL) {
        struct morgue_user *u = CONTAINER_OF(node, struct morgue_user, node);

        u->room(u->user);
    }
}

static void morgue_again(struct loop_timer *t)
{
    struct morgue *m = CONTAINER_OF(t, struct morgue, again);

    morgue_write(m);
    if (!m->runs)
        morgue_tell_room(m); /* there was no memory for the first letter */
}

static void morgue_job_run(struct scribe_job *j)
{
    dead_job_run(CONTAINER_OF(j, struct morgue, job)->dead);
}

/* Everything that is durable is settled, and there may be room again. */
static void morgue_settle(struct morgue *m)
{
    while (m->settled < dead_durable(m->dead)) {
        struct waiting w = m->waiting[m->settled++ % MORGUE_WAITING];

        if (w.user != NULL)
            w.user->settled(w.user->user, w.owner, 1);
    }
    morgue_tell_room(m);
}

static void morgue_job_done(struct scribe_job *j)
{
    struct morgue *m = CONTAINER_OF(j, struct morgue, job);
    int r = dead_job_end(m->dead);
    uint64_t held;

    m->runs = false;
    if (r < 0) {
        if (log_limit_pass(&m->said, loop_now_ms(m->loop), MORGUE_SAY_EVERY_MS, &held))
            log_error("dead letters of %s: cannot be written: %s; nothing is lost, what must be "
                      "set aside waits, and in the end its flow; trying again every %d s",
                      m->destination, strerrordesc_np(-r), MORGUE_AGAIN_MS / 1000);
        loop_timer_set(m->loop, &m->again, loop_now_ms(m->loop) + MORGUE_AGAIN_MS);
    } else {
        m->said = (struct log_limit){0};
    }
    morgue_settle(m);
    morgue_write(m);
}

static void morgue_say_report(const struct morgue *m, const struct dead_report *report)
{
    if (report->segments > 0)
        log_info("dead letters of %s: %" PRIu64 " files, %" PRIu64
                 " bytes wait for a person: see kinetail queue list",
                 m->destination, report->segments, report->bytes);
    if (report->damaged > 0)
        log_warn("dead letters of %s: %" PRIu32 " files are damaged, and called *.damaged",
                 m->destination, report->damaged);
    if (report->error < 0)
        log_warn("dead letters of %s: what is there could not be looked at: %s", m->destination,
                 strerrordesc_np(-report->error));
}

int morgue_new(struct loop *loop, struct scribe *scribe, const struct disk *disk, int state_dir_fd,
               const char *destination, struct morgue **ret)
{
    struct morgue *m = calloc(1, sizeof *m);
    struct dead_report report = {0};
    int r = -ENOMEM;

    if (m == NULL)
        return -ENOMEM;
    m->loop = loop;
    m->scribe = scribe;
    m->job = (struct scribe_job){.run = morgue_job_run, .done = morgue_job_done};
    list_init(&m->refused);
    m->destination = strdup(destination);
    if (m->destination == NULL || (r = state_folder(destination, m->directory)) < 0)
        goto out;
    r = loop_timer_init(loop, &m->again, morgue_again);
    if (r == 0)
        r = dead_open(state_dir_fd, m->directory, disk, &m->dead, &report);
    if (r < 0)
        goto out;
    morgue_say_report(m, &report);
    *ret = m;
    return 0;
out:
    morgue_free(m);
    return r;
}

void morgue_free(struct morgue *m)
{
    if (m == NULL)
        return;
    if (m->runs)
        (void)dead_job_end(m->dead);
    dead_close(m->dead);
    loop_timer_done(m->loop, &m->again);
    free(m->destination);
    free(m);
}

bool morgue_is_of(const struct morgue *m, const char *destination)
{
    return strcmp(m->destination, destination) == 0;
}

bool morgue_put(struct morgue *m, const struct dead_letter *letter, struct morgue_user *u,
                void *owner)
{
    struct dead_letter cut = *letter;
    int r = -ENOBUFS;

    if (m->put - m->settled < MORGUE_WAITING)
        r = dead_put(m->dead, letter);
    if (r == -EMSGSIZE) {
        cut.record.len = MIN(cut.record.len, (size_t)MORGUE_CUT);
        cut.cut = true;
        r = dead_put(m->dead, &cut);
    }
    if (r < 0) {
        if (list_is_empty(&u->node))
            list_append(&m->refused, &u->node);
        if (r == -ENOMEM && !loop_timer_is_set(&m->again) && !m->runs)
            loop_timer_set(m->loop, &m->again, loop_now_ms(m->loop) + MORGUE_AGAIN_MS);
        return false;
    }
    m->waiting[m->put++ % MORGUE_WAITING] = (struct waiting){u, owner};
    morgue_write(m);
    return true;
}

bool morgue_is_idle(const struct morgue *m)
{
    return m->put == m->settled;
}

void morgue_leave(struct morgue *m, struct morgue_user *u)
{
    if (m == NULL)
        return;
    list_remove(&u->node);
    for (size_t i = 0; i < MORGUE_WAITING; i++)
        if (m->waiting[i].user == u)
            m->waiting[i].user = NULL;
}
