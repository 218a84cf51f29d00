#include "run/queue_store.h"

#include "disk.h"
#include "keep/dead_dir.h"
#include "record/recipe.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct queue_store {
    enum queue_kind kind;
    struct queue_store_stats stats;
    struct letters *letters;
    char place[DEAD_NAME_LEN];
};

const char *queue_kind_word(enum queue_kind kind)
{
    return kind == QUEUE_SPOOL ? "spool" : "dead";
}

/* --- destinations --- */

struct names {
    char **items; /* own */
    size_t count;
};

static int add_name(void *user, const char *name)
{
    struct names *n = user;
    char **more = reallocarray(n->items, n->count + 1, sizeof(*more));

    if (more == NULL)
        return -ENOMEM;
    n->items = more;
    n->items[n->count] = strdup(name);
    return n->items[n->count++] == NULL ? -ENOMEM : 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether it is one: a stray file is nobody's. */
static bool is_dir(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int queue_store_each(int state_dir_fd, enum queue_kind kind,
                     int (*each)(void *user, const char *directory), void *user)
{
    struct names names = {0};
    int r, fd = openat(state_dir_fd, queue_kind_word(kind),
                       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    r = disk_system.list(&disk_system, fd, add_name, &names);
    if (r == 0 && names.count > 0)
        qsort(names.items, names.count, sizeof(*names.items), compare_names);
    for (size_t i = 0; i < names.count && r == 0; i++)
        if (is_dir(fd, names.items[i]))
            r = each(user, names.items[i]);
    for (size_t i = 0; i < names.count; i++)
        free(names.items[i]);
    free(names.items);
    close(fd);
    return r;
}

int queue_store_directory(const char *destination, char *to, size_t size)
{
    size_t len = strlen(destination);

    if (len >= size)
        return -ENAMETOOLONG;
    for (size_t i = 0; i <= len; i++)
        to[i] = destination[i] == '/' ? '_' : destination[i];
    return dead_dir_is_name(to) ? 0 : -EINVAL;
}

/* --- one of them --- */

int queue_store_open(int state_dir_fd, enum queue_kind kind, const char *directory, bool mark,
                     struct queue_store **ret)
{
    struct queue_store *s = calloc(1, sizeof *s);
    int r;

    if (s == NULL)
        return -ENOMEM;
    s->kind = kind;
    r = kind == QUEUE_DEAD ? letters_open(&disk_system, state_dir_fd, directory, mark, &s->letters)
                           : -ENOENT;
    if (r < 0) {
        queue_store_close(s);
        return r;
    }
    s->stats = (struct queue_store_stats){letters_stats(s->letters)->bytes,
                                          letters_stats(s->letters)->damaged};
    *ret = s;
    return 0;
}

void queue_store_close(struct queue_store *s)
{
    if (s == NULL)
        return;
    letters_close(s->letters);
    free(s);
}

const struct queue_store_stats *queue_store_stats(const struct queue_store *s)
{
    return &s->stats;
}

int queue_store_next(struct queue_store *s, struct queue_item *ret)
{
    static const enum queue_what whats[] = {
        [LETTERS_LETTER] = QUEUE_RECORD,
        [LETTERS_DAMAGED] = QUEUE_DAMAGE,
        [LETTERS_NEWER] = QUEUE_NEWER,
        [LETTERS_ERROR] = QUEUE_ERROR,
    };
    struct letters_item item;
    int r = letters_next(s->letters, &item);

    if (r <= 0)
        return r;
    dead_segment_name(item.place.segment, s->place);
    *ret = (struct queue_item){.what = whats[item.kind],
                               .error = item.error,
                               .place = s->place,
                               .at = item.place.at,
                               .done = item.done,
                               .last = true,
                               .letter = item.place};
    if (item.kind != LETTERS_LETTER)
        return 1;
    ret->wall_ms = item.letter->wall_ms;
    ret->flow = item.letter->flow;
    ret->file = item.letter->file;
    ret->offset = item.letter->offset;
    ret->end = item.letter->end;
    ret->reason = item.letter->reason;
    ret->key = item.letter->key;
    ret->record = item.letter->record;
    /* Letters of earlier versions do not say it themselves. */
    ret->unredacted = item.letter->unredacted || recipe_reason_is_unredacted(item.letter->reason);
    return 1;
}

int queue_store_mark(struct queue_store *s, const struct queue_item *item)
{
    return letters_mark(s->letters, &item->letter);
}

int queue_store_commit(struct queue_store *s)
{
    return letters_commit(s->letters);
}

int queue_store_tidy(struct queue_store *s, bool alone, uint32_t *ret_left)
{
    return letters_tidy(s->letters, alone, ret_left);
}
