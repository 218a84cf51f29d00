/* drop, and what retry shares with it. */
#include "disk.h"
#include "keep/state.h"
#include "run/queue_inner.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- as whoever has the store --- */

/* What root writes the agent could not read. */
int queue_as_owner(struct queue_command *c, int (*run)(struct queue_command *c))
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    struct stat st;
    int r;

    if (uid != 0)
        return run(c);
    if (fstat(c->state_fd, &st) < 0 || setegid(st.st_gid) < 0 || seteuid(st.st_uid) < 0)
        return queue_failed("'%s': its owner cannot be taken on: %s; nothing is changed",
                            queue_show_name(c, c->state_dir), strerrordesc_np(errno));
    r = run(c);
    return seteuid(uid) < 0 || setegid(gid) < 0 ? EXIT_FAILURE : r;
}

int queue_tidy(struct queue_command *c, struct queue_store *s)
{
    struct state state;
    const char *what;
    uint32_t left;
    pid_t owner;
    int r = queue_store_finish(s);

    /* An agent that wants to start meanwhile would be told that there is another one: not for
     * long. */
    if (r == 0 && state_open(&disk_system, c->state_dir, &state, &what, &owner) == 0) {
        r = queue_store_tidy(s, &left);
        state_close(&state);
    }
    return r;
}

/* --- a sentence, or an object --- */

const char *queue_kind_name(enum queue_kind kind)
{
    return kind == QUEUE_DEAD ? "dead letters" : "spool";
}

int queue_say_sum(struct queue_command *c, enum queue_kind kind, const char *directory,
                  const struct queue_sum *sum, const char *what)
{
    char oldest[QUEUE_TIME_SIZE], newest[QUEUE_TIME_SIZE];
    struct buf *b = &c->line;
    int r = 0;

    if (!c->json) {
        queue_format_time(sum->oldest_ms, oldest);
        queue_format_time(sum->newest_ms, newest);
        printf("%s of %s: %" PRIu64 " of %" PRIu64 " records, %" PRIu64 " bytes",
               queue_kind_name(kind), queue_show_name(c, directory), sum->count, sum->total,
               sum->bytes);
        if (sum->count > 0)
            printf(", from %s to %s", oldest, newest);
        printf(": %s\n", what);
        return 0;
    }
    if ((r = queue_json_begin(c)) < 0 ||
        (r = queue_json_text(b, "destination", slice_of(directory))) < 0 ||
        (r = queue_json_text(b, "kind", slice_of(queue_kind_word(kind)))) < 0 ||
        (r = queue_json_number(b, "records", sum->count)) < 0 ||
        (r = queue_json_number(b, "of", sum->total)) < 0 ||
        (r = queue_json_number(b, "bytes", sum->bytes)) < 0 ||
        (r = queue_json_time(b, "oldest", sum->oldest_ms)) < 0 ||
        (r = queue_json_time(b, "newest", sum->newest_ms)) < 0 ||
        (r = buf_printf(b, ",\"applied\":%s", c->apply ? "true" : "false")) < 0)
        return r;
    return queue_json_end(c);
}

/* --- drop --- */

void queue_add_to_sum(struct queue_sum *sum, const struct queue_item *i)
{
    sum->count++;
    sum->bytes += i->record.len;
    if (i->wall_ms != 0) {
        sum->oldest_ms = sum->oldest_ms == 0 ? i->wall_ms : MIN(sum->oldest_ms, i->wall_ms);
        sum->newest_ms = sum->newest_ms == 0 ? i->wall_ms : MAX(sum->newest_ms, i->wall_ms);
    }
}

static int drop_items(struct queue_command *c, struct queue_store *s, struct queue_sum *sum)
{
    struct queue_item item;
    int r;

    while ((r = queue_store_next(s, &item)) == 1) {
        if (item.what != QUEUE_RECORD || item.done)
            continue;
        sum->total++;
        if (sum->count == c->limit || !queue_means(c, &item))
            continue;
        if (c->apply && (r = queue_store_mark(s, &item)) < 0)
            break;
        queue_add_to_sum(sum, &item);
    }
    return r == 0 && c->apply ? queue_store_commit(s) : r;
}

static int drop_store(struct queue_command *c, enum queue_kind kind, const char *directory,
                      struct queue_store *s, void *user)
{
    struct queue_sum sum = {0};
    int r = drop_items(c, s, &sum);

    (void)user;
    if (r < 0)
        return queue_failed("%s of %s: cannot be marked as dropped: %s; some may be dropped, and "
                            "the others are as they were",
                            queue_kind_name(kind), queue_show_name(c, directory),
                            strerrordesc_np(-r));
    r = queue_say_sum(c, kind, directory, &sum,
                      c->apply ? "dropped"
                               : "would be dropped; nothing is changed without --apply");
    if (r < 0)
        return queue_failed("writing: %s", strerrordesc_np(-r));
    if (c->apply && sum.count > 0)
        r = queue_tidy(c, s);
    if (r < 0)
        return queue_failed("%s of %s: their files could not be removed: %s; the agent's next "
                            "start does it",
                            queue_kind_name(kind), queue_show_name(c, directory),
                            strerrordesc_np(-r));
    return EXIT_SUCCESS;
}

static int drop(struct queue_command *c)
{
    return queue_end_output(0, queue_each(c, c->apply, drop_store, NULL));
}

int queue_drop(struct queue_command *c)
{
    return c->apply ? queue_as_owner(c, drop) : drop(c);
}
