#include "run/queue_store.h"

#include "disk.h"
#include "keep/dead_dir.h"
#include "keep/spool.h"
#include "keep/state.h"
#include "record/recipe.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NAME_SIZE = 32,  /* of a file, of either kind */
    READ_TRIES = 12, /* a spool calls a place damaged that it cannot read ten times */
};

static_assert(NAME_SIZE >= (int)DEAD_NAME_LEN && NAME_SIZE >= (int)SPOOL_NAME_LEN, "both fit");

struct place {
    uint64_t segment, at;
};

struct queue_store {
    enum queue_kind kind;
    struct queue_store_stats stats;
    struct letters *letters; /* of dead letters */
    char place[NAME_SIZE];

    /* Of a spool. */
    struct spool *spool;
    int dir_fd; /* owns: it carries the lock; -1: none */
    uint64_t newest_segment;
    struct spool_frame frame;
    bool has_record; /* of it, that was not told yet */
    uint32_t index;
    struct spool_record record;
    struct spool_source source;
    struct place *found; /* owns: damage that was not told yet */
    size_t found_count;
    bool no_memory; /* for one of them */
    bool over;
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

int queue_store_directory(const char *destination, char to[NAME_MAX + 1])
{
    int r = state_folder(destination, to);

    if (r < 0)
        return r;
    return dead_dir_is_name(to) ? 0 : -EINVAL;
}

/* --- the spool --- */

static void spool_damage(void *user, uint64_t segment, uint64_t at)
{
    struct queue_store *s = user;
    struct place *more = reallocarray(s->found, s->found_count + 1, sizeof(*more));

    if (more == NULL) {
        s->no_memory = true;
        return;
    }
    s->found = more;
    s->found[s->found_count++] = (struct place){segment, at};
}

static int look_at_name(void *user, const char *name)
{
    struct queue_store *s = user;

    s->stats.damaged += slice_ends_with(slice_of(name), SLICE(".damaged"));
    s->newest_segment = MAX(s->newest_segment, spool_segment_of_name(name));
    return 0;
}

static int lock_spool(struct queue_store *s, int state_dir_fd, const char *directory, bool mark)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    int outer = openat(state_dir_fd, queue_kind_word(QUEUE_SPOOL), flags), r = 0;

    if (outer < 0)
        return -errno;
    s->dir_fd = openat(outer, directory, flags);
    if (s->dir_fd < 0 || (mark && flock(s->dir_fd, LOCK_EX | LOCK_NB) < 0))
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
    close(outer);
    return r;
}

static int open_spool(struct queue_store *s, int state_dir_fd, const char *directory, bool mark)
{
    const struct spool_settings settings = {
        .name = directory,
        .limit_bytes = UINT64_MAX / 2,
        .read_only = true,
        .damage = spool_damage,
        .user = s,
    };
    int r = lock_spool(s, state_dir_fd, directory, mark);

    if (r == 0)
        r = disk_system.list(&disk_system, s->dir_fd, look_at_name, s);
    if (r == 0)
        r = spool_open(state_dir_fd, &disk_system, &settings, &s->spool);
    if (r < 0)
        return r;
    s->stats.bytes = spool_stats(s->spool)->bytes;
    s->stats.missing = spool_stats(s->spool)->missing;
    return 0;
}

static void name_place(struct queue_store *s, uint64_t segment, uint64_t at, struct queue_item *ret)
{
    spool_segment_name(segment, s->place);
    ret->place = s->place;
    ret->at = at;
}

/* What is wrong with the spool: 1, or 0 if there is nothing more to tell. */
static int next_trouble(struct queue_store *s, struct queue_item *ret)
{
    *ret = (struct queue_item){.what = QUEUE_DAMAGE};
    if (s->no_memory)
        return -ENOMEM;
    if (s->found_count == 0)
        return 0;
    s->found_count--;
    name_place(s, s->found[0].segment, s->found[0].at, ret);
    memmove(s->found, s->found + 1, s->found_count * sizeof(*s->found));
    return 1;
}

/* Goes to the next record of the frame that is not done. */
static void step(struct queue_store *s)
{
    s->has_record = spool_next(&s->frame, &s->record, &s->source);
    s->index = s->frame.next - 1;
}

/* A frame: 1; 0: that was all of them, or there is trouble to tell first. */
static int next_frame(struct queue_store *s, struct queue_item *ret)
{
    int r = 0;

    if (s->over)
        return 0;
    for (int tries = 0; tries < READ_TRIES; tries++) {
        r = spool_read_any(s->spool, &s->frame);
        if (r >= 0 || r == -ENOMEM)
            break;
    }
    if (r == 1) {
        step(s);
        return 0;
    }
    s->over = true;
    if (r == 0 && (r = spool_stats(s->spool)->error) == 0)
        return 0;
    *ret = (struct queue_item){.what = QUEUE_ERROR, .error = r, .place = "", .last = true};
    return r == -ENOMEM ? r : 1;
}

static void take_record(struct queue_store *s, struct queue_item *ret)
{
    const struct spool_frame *f = &s->frame;

    *ret = (struct queue_item){.what = QUEUE_RECORD,
                               .done = f->done,
                               .wall_ms = f->wall_ms,
                               .flow = s->source.flow,
                               .file = s->source.path,
                               .offset = s->record.offset,
                               .end = s->record.end,
                               .key = s->record.key,
                               .record = s->record.data,
                               .serial = f->serial,
                               .index = s->index};
    name_place(s, f->segment, f->at, ret);
    step(s);
    ret->last = !s->has_record;
}

static int next_of_spool(struct queue_store *s, struct queue_item *ret)
{
    int r;

    for (;;) {
        r = next_trouble(s, ret);
        if (r != 0)
            return r;
        if (s->has_record) {
            take_record(s, ret);
            return 1;
        }
        r = next_frame(s, ret);
        if (r != 0)
            return r;
        if (s->over && !s->has_record && s->found_count == 0)
            return 0;
    }
}

static int commit_spool(struct queue_store *s)
{
    uint64_t serial;
    int r = spool_write_acks(s->spool);

    while (r == 0 && spool_wants_job(s->spool)) {
        spool_job_begin(s->spool);
        spool_job_run(s->spool);
        r = spool_job_end(s->spool, &serial);
        if (r == 0)
            r = spool_stats(s->spool)->error;
    }
    return r;
}

/* When something was last written to the newest segment, which is when the last frame was. */
static int64_t newest_of_spool(struct queue_store *s)
{
    struct stat st;

    spool_segment_name(s->newest_segment, s->place);
    if (fstatat(s->dir_fd, s->place, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return 0;
    return (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
}

static int account_of_spool(struct queue_store *s, struct queue_account *ret)
{
    const struct spool_stats *stats = spool_stats(s->spool);
    struct spool_frame f;
    int r = spool_read(s->spool, &f);

    if (r == -ENOMEM)
        return r;
    if (r == 1) {
        ret->oldest_ms = f.wall_ms;
        ret->newest_ms = MAX(f.wall_ms, newest_of_spool(s));
    }
    ret->records = stats->records;
    ret->damaged = stats->damaged + stats->missing;
    ret->newer = stats->newer;
    ret->error = r < 0 ? r : stats->error;
    return 0;
}

/* --- dead letters --- */

static int next_letter(struct queue_store *s, struct queue_item *ret)
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
    ret->cut = item.letter->cut;
    /* Letters of earlier versions do not say it themselves. */
    ret->unredacted = item.letter->unredacted || recipe_reason_is_unredacted(item.letter->reason);
    return 1;
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
    s->dir_fd = -1;
    r = kind == QUEUE_DEAD ? letters_open(&disk_system, state_dir_fd, directory, mark, &s->letters)
                           : open_spool(s, state_dir_fd, directory, mark);
    if (r < 0) {
        queue_store_close(s);
        return r;
    }
    if (kind == QUEUE_DEAD) {
        s->stats.bytes = letters_stats(s->letters)->bytes;
        s->stats.damaged = letters_stats(s->letters)->damaged;
    }
    *ret = s;
    return 0;
}

void queue_store_close(struct queue_store *s)
{
    if (s == NULL)
        return;
    letters_close(s->letters);
    spool_close(s->spool);
    if (s->dir_fd >= 0)
        close(s->dir_fd);
    free(s->found);
    free(s);
}

const struct queue_store_stats *queue_store_stats(const struct queue_store *s)
{
    return &s->stats;
}

int queue_store_next(struct queue_store *s, struct queue_item *ret)
{
    return s->kind == QUEUE_DEAD ? next_letter(s, ret) : next_of_spool(s, ret);
}

void queue_account_add(struct queue_account *a, const struct queue_item *i)
{
    a->damaged += i->what == QUEUE_DAMAGE;
    a->newer += i->what == QUEUE_NEWER;
    if (i->what == QUEUE_ERROR && a->error == 0)
        a->error = i->error;
    if (i->what != QUEUE_RECORD || i->done)
        return;
    a->records++;
    if (i->wall_ms != 0) {
        a->oldest_ms = a->oldest_ms == 0 ? i->wall_ms : MIN(a->oldest_ms, i->wall_ms);
        a->newest_ms = a->newest_ms == 0 ? i->wall_ms : MAX(a->newest_ms, i->wall_ms);
    }
}

int queue_store_account(struct queue_store *s, struct queue_account *ret)
{
    struct queue_item item;
    int r;

    *ret = (struct queue_account){0};
    if (s->kind == QUEUE_SPOOL)
        return account_of_spool(s, ret);
    while ((r = next_letter(s, &item)) == 1)
        queue_account_add(ret, &item);
    return r;
}

int queue_store_mark(struct queue_store *s, const struct queue_item *item)
{
    if (s->kind == QUEUE_DEAD)
        return letters_mark(s->letters, &item->letter);
    spool_ack(s->spool, item->serial);
    return 0;
}

int queue_store_mark_one(struct queue_store *s, const struct queue_item *item)
{
    if (s->kind == QUEUE_DEAD)
        return letters_mark(s->letters, &item->letter);
    spool_ack_part(s->spool, item->serial, item->index, 1);
    return 0;
}

int queue_store_commit(struct queue_store *s)
{
    return s->kind == QUEUE_DEAD ? letters_commit(s->letters) : commit_spool(s);
}

int queue_store_finish(struct queue_store *s)
{
    return s->kind == QUEUE_DEAD ? letters_finish(s->letters) : 0;
}

int queue_store_tidy(struct queue_store *s, uint32_t *ret_left)
{
    *ret_left = 0;
    return s->kind == QUEUE_DEAD ? letters_tidy(s->letters, ret_left) : 0;
}
