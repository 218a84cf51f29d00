/* The subcommands that only look: list, show, verify. */
#include "run/queue_inner.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int say_error(struct queue_command *c, enum queue_kind kind, const char *directory,
                     int error)
{
    return queue_failed("'%s/%s/%s': not all of it can be read: %s",
                        queue_show_name(c, c->state_dir), queue_kind_word(kind),
                        queue_show_name(c, directory), strerrordesc_np(-error));
}

/* --- list --- */

struct row {
    char *name; /* owns; escaped */
    enum queue_kind kind;
    struct queue_account account;
    uint64_t bytes;
};

struct rows {
    struct row *items; /* owns */
    size_t count;
};

static int list_json(struct queue_command *c, enum queue_kind kind, const char *directory,
                     const struct queue_account *a, uint64_t bytes)
{
    struct buf *b = &c->line;
    int r = queue_json_begin(c);

    if (r < 0 || (r = queue_json_text(b, "destination", slice_of(directory))) < 0 ||
        (r = queue_json_text(b, "kind", slice_of(queue_kind_word(kind)))) < 0 ||
        (r = queue_json_number(b, "records", a->records)) < 0 ||
        (r = queue_json_number(b, "bytes", bytes)) < 0 ||
        (r = queue_json_time(b, "oldest", a->oldest_ms)) < 0 ||
        (r = queue_json_time(b, "newest", a->newest_ms)) < 0 ||
        (r = queue_json_number(b, "damaged", a->damaged)) < 0)
        return r;
    return queue_json_end(c);
}

static int add_row(struct rows *rows, const struct row *row)
{
    struct row *more = reallocarray(rows->items, rows->count + 1, sizeof(*more));

    if (more == NULL)
        return -ENOMEM;
    rows->items = more;
    rows->items[rows->count++] = *row;
    return row->name == NULL ? -ENOMEM : 0;
}

static int list_store(struct queue_command *c, enum queue_kind kind, const char *directory,
                      struct queue_store *s, void *user)
{
    struct queue_account a;
    int r = queue_store_account(s, &a);

    a.damaged += queue_store_stats(s)->damaged;
    if (r == 0 && c->json)
        r = list_json(c, kind, directory, &a, queue_store_stats(s)->bytes);
    else if (r == 0)
        r = add_row(user, &(struct row){strdup(queue_show_name(c, directory)), kind, a,
                                        queue_store_stats(s)->bytes});
    if (r < 0)
        return queue_failed("listing: %s", strerrordesc_np(-r));
    return a.error < 0 ? say_error(c, kind, directory, a.error) : EXIT_SUCCESS;
}

/* Characters of an escaped name; each is taken to be one column wide. */
static int columns_of(const char *escaped)
{
    int n = 0;

    for (; *escaped != '\0'; escaped++)
        n += (*escaped & 0xc0) != 0x80;
    return n;
}

static void print_rows(const struct rows *rows)
{
    int width = (int)strlen("DESTINATION");

    for (size_t i = 0; i < rows->count; i++)
        width = MAX(width, columns_of(rows->items[i].name));
    if (rows->count > 0 && isatty(STDOUT_FILENO))
        printf("%-*s  KIND   %12s  %14s  %-24s  %-24s  %7s\n", width, "DESTINATION", "RECORDS",
               "BYTES", "OLDEST", "NEWEST", "DAMAGED");
    for (size_t i = 0; i < rows->count; i++) {
        const struct row *row = &rows->items[i];
        char oldest[QUEUE_TIME_SIZE], newest[QUEUE_TIME_SIZE];

        queue_format_time(row->account.oldest_ms, oldest);
        queue_format_time(row->account.newest_ms, newest);
        printf("%s%*s  %-5s  %12" PRIu64 "  %14" PRIu64 "  %-24s  %-24s  %7" PRIu64 "\n", row->name,
               width - columns_of(row->name), "", queue_kind_word(row->kind), row->account.records,
               row->bytes, oldest, newest, row->account.damaged);
    }
}

int queue_list(struct queue_command *c)
{
    struct rows rows = {0};
    int status = queue_each(c, false, list_store, &rows);

    print_rows(&rows);
    for (size_t i = 0; i < rows.count; i++)
        free(rows.items[i].name);
    free(rows.items);
    return queue_end_output(0, status);
}

/* --- show --- */

static int show_store(struct queue_command *c, enum queue_kind kind, const char *directory,
                      struct queue_store *s, void *user)
{
    struct queue_account a = {0};
    struct queue_item item;
    int r = 0;

    (void)user;
    while (c->limit > 0 && (r = queue_store_next(s, &item)) == 1) {
        queue_account_add(&a, &item);
        if (item.what != QUEUE_RECORD || item.done || !queue_means(c, &item))
            continue;
        r = queue_say_item(c, kind, directory, &item);
        if (r < 0)
            break;
        c->limit--;
    }
    if (r < 0)
        return queue_failed("writing: %s", strerrordesc_np(-r));
    if (a.damaged > 0)
        (void)queue_failed("%s of %s: %" PRIu64 " places are damaged: see kinetail queue verify",
                           queue_kind_word(kind), queue_show_name(c, directory), a.damaged);
    return a.error < 0 ? say_error(c, kind, directory, a.error) : EXIT_SUCCESS;
}

int queue_show(struct queue_command *c)
{
    return queue_end_output(0, queue_each(c, false, show_store, NULL));
}

/* --- verify --- */

static const char *state_word(enum queue_what what)
{
    return what == QUEUE_DAMAGE ? "damaged" : what == QUEUE_NEWER ? "newer" : "unreadable";
}

static int verify_item(struct queue_command *c, enum queue_kind kind, const char *directory,
                       const struct queue_item *i)
{
    struct buf *b = &c->line;
    int r;

    if (!c->json) {
        printf("%s/%s/%s/%s:%" PRIu64 ": %s%s%s\n", queue_show_name(c, c->state_dir),
               queue_kind_word(kind), queue_show_name(c, directory), i->place, i->at,
               i->what == QUEUE_DAMAGE  ? "damaged: its checksum is wrong"
               : i->what == QUEUE_NEWER ? "written by a newer kinetail, which can read it"
                                        : "cannot be read: ",
               i->what == QUEUE_ERROR ? strerrordesc_np(-i->error) : "",
               i->what == QUEUE_DAMAGE && i->at == 0 ? ", or it is not ours" : "");
        return 0;
    }
    r = queue_json_begin(c);
    if (r < 0 || (r = queue_json_text(b, "destination", slice_of(directory))) < 0 ||
        (r = queue_json_text(b, "kind", slice_of(queue_kind_word(kind)))) < 0 ||
        (r = queue_json_text(b, "segment", slice_of(i->place))) < 0 ||
        (r = queue_json_number(b, "at", i->at)) < 0 ||
        (r = queue_json_text(b, "state", slice_of(state_word(i->what)))) < 0)
        return r;
    return queue_json_end(c);
}

static int verify_store(struct queue_command *c, enum queue_kind kind, const char *directory,
                        struct queue_store *s, void *user)
{
    uint32_t aside = queue_store_stats(s)->damaged;
    struct queue_account a = {0};
    struct queue_item item;
    int r, e = 0;

    (void)user;
    while ((r = queue_store_next(s, &item)) == 1 && e == 0) {
        queue_account_add(&a, &item);
        if (item.what != QUEUE_RECORD)
            e = verify_item(c, kind, directory, &item);
    }
    a.damaged += queue_store_stats(s)->missing;
    if (r < 0 || e < 0)
        return queue_failed("verifying: %s", strerrordesc_np(r < 0 ? -r : -e));
    if (c->json) {
        e = list_json(c, kind, directory, &a, queue_store_stats(s)->bytes);
    } else {
        printf("%s of %s: %" PRIu64 " records hold, %" PRIu64 " damaged",
               kind == QUEUE_DEAD ? "dead letters" : "spool", queue_show_name(c, directory),
               a.records, a.damaged);
        if (queue_store_stats(s)->missing > 0)
            printf(", of those %" PRIu32 " files that are missing", queue_store_stats(s)->missing);
        if (aside > 0)
            printf("; beside them %" PRIu32 " files *.damaged", aside);
        putchar('\n');
    }
    if (e < 0)
        return queue_failed("writing: %s", strerrordesc_np(-e));
    return a.damaged > 0 || a.error < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int queue_verify(struct queue_command *c)
{
    return queue_end_output(0, queue_each(c, false, verify_store, NULL));
}
