#include "keep/checkpoint.h"

#include "buf.h"
#include "disk.h"
#include "keep/facts.h"
#include "list.h"
#include "map.h"
#include "util.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CHECKPOINT_READ_MAX = 1024 * 1024 * 1024, /* a generation; 100,000 files take about 30 MB */
    CHECKPOINT_COMPACT_MIN = 4 * 1024 * 1024, /* bytes of journal that are never worth compacting */
    CHECKPOINT_COMPACT_TIMES = 4,             /* … and how much it may outgrow its snapshot */
    CHECKPOINT_NAME_LEN = 32,
};

/* Ten digits; at one a second that is three hundred years.  A larger one is not ours. */
static const uint64_t CHECKPOINT_GENERATION_MAX = UINT64_C(9999999999);

struct checkpoint_flow_node {
    struct list node;
    size_t len;
    char name[];
};

struct checkpoint_slot {
    struct list all;        /* in checkpoint.slots */
    struct list dirty;      /* in checkpoint.dirty, or alone */
    struct map_node by_key; /* used only while reading back */
    uint64_t key;
    struct source_id id;
    struct cursor at;
    struct checkpoint_flow_node *flow; /* borrows */
    char *path;                        /* owns */
    uint32_t path_len;
    bool described; /* the `file` fact on disk is as we know it */
    bool touched;   /* said something since the snapshot that a job is writing */
};

enum checkpoint_job_kind { CHECKPOINT_JOB_NONE, CHECKPOINT_JOB_SYNC, CHECKPOINT_JOB_COMPACT };

struct checkpoint {
    const struct disk *disk;
    int dir_fd;
    uint64_t store, generation;
    uint64_t kept; /* the generation before, not deleted yet; 0: none */
    uint32_t seed;
    int fd; /* the journal; -1: there is none that may be written */
    uint64_t next_key;
    struct list slots, dirty, flows;
    struct list gone; /* slots that left, until that is written */
    bool flows_dirty;
    struct buf text;
    uint64_t snapshot_bytes, journal_bytes;
    bool unsynced, broken;
    int why; /* it is broken: -errno */

    /* The job's own: nobody else looks while it runs. */
    struct {
        enum checkpoint_job_kind kind;
        int fd;
        uint64_t generation, drop;
        struct buf snapshot;
        int result;
    } job;
};

static struct checkpoint_slot *slot_of(struct list *node)
{
    return CONTAINER_OF(node, struct checkpoint_slot, all);
}

static void generation_name(uint64_t generation, char to[CHECKPOINT_NAME_LEN])
{
    (void)snprintf(to, CHECKPOINT_NAME_LEN, "%010" PRIu64 ".journal", generation);
}

/* --- flows and slots --- */

static struct checkpoint_flow_node *find_flow(const struct checkpoint *c, struct slice name)
{
    LIST_EACH(&c->flows, node, after)
    {
        struct checkpoint_flow_node *f = CONTAINER_OF(node, struct checkpoint_flow_node, node);
        if (slice_equal((struct slice){f->name, f->len}, name))
            return f;
    }
    return NULL;
}

static struct checkpoint_flow_node *need_flow(struct checkpoint *c, struct slice name)
{
    struct checkpoint_flow_node *f = find_flow(c, name);

    if (f != NULL)
        return f;
    f = malloc(sizeof *f + name.len);
    if (f == NULL)
        return NULL;
    f->len = name.len;
    if (name.len > 0)
        memcpy(f->name, name.ptr, name.len);
    list_init(&f->node);
    list_append(&c->flows, &f->node);
    c->flows_dirty = true;
    return f;
}

static void slot_free(struct checkpoint_slot *s)
{
    list_remove(&s->all);
    list_remove(&s->dirty);
    free(s->path);
    free(s);
}

static int slot_new(struct checkpoint *c, const struct fact_file *file, struct cursor at,
                    struct checkpoint_slot **ret)
{
    struct checkpoint_slot *s = calloc(1, sizeof *s);

    if (s == NULL)
        return -ENOMEM;
    list_init(&s->all);
    list_init(&s->dirty);
    s->key = file->key;
    s->id = file->id;
    s->at = at;
    s->flow = need_flow(c, file->flow);
    s->path = malloc(file->path.len + 1);
    if (s->flow == NULL || s->path == NULL) {
        slot_free(s);
        return -ENOMEM;
    }
    if (file->path.len > 0)
        memcpy(s->path, file->path.ptr, file->path.len);
    s->path[file->path.len] = '\0';
    s->path_len = (uint32_t)file->path.len;
    list_append(&c->slots, &s->all);
    *ret = s;
    return 0;
}

static void slot_touch(struct checkpoint *c, struct checkpoint_slot *s)
{
    s->touched = true;
    if (list_is_empty(&s->dirty))
        list_append(&c->dirty, &s->dirty);
}

/* --- writing facts --- */

static int write_slot(struct buf *to, uint32_t seed, const struct checkpoint_slot *s, bool describe)
{
    const struct fact_file file = {
        .key = s->key,
        .flow = {s->flow->name, s->flow->len},
        .id = s->id,
        .path = {s->path, s->path_len},
    };
    int r = describe ? facts_write_file(to, seed, &file) : 0;

    return r < 0 ? r : facts_write_at(to, seed, s->key, s->at);
}

static int write_flows(const struct checkpoint *c, struct buf *to, uint32_t seed)
{
    int r = 0;

    LIST_EACH(&c->flows, node, after)
    {
        struct checkpoint_flow_node *f = CONTAINER_OF(node, struct checkpoint_flow_node, node);
        if (r == 0)
            r = facts_write_flow(to, seed, (struct slice){f->name, f->len});
    }
    return r;
}

/* A whole generation's beginning: the header and all facts as they stand. */
static int write_snapshot(struct checkpoint *c, struct buf *to, uint64_t generation)
{
    uint32_t seed = facts_seed(c->store, generation);
    int r;

    buf_reset(to);
    r = facts_write_header(to, seed, c->store, generation);
    if (r == 0)
        r = write_flows(c, to, seed);
    LIST_EACH(&c->slots, node, after)
    {
        if (r == 0)
            r = write_slot(to, seed, slot_of(node), true);
    }
    return r;
}

/* Makes a generation appear whole or not at all; gives its open descriptor. */
static int publish(const struct disk *d, int dir_fd, uint64_t generation, struct slice content)
{
    char name[CHECKPOINT_NAME_LEN], temp[CHECKPOINT_NAME_LEN + sizeof ".new"];
    int fd, r;

    generation_name(generation, name);
    (void)snprintf(temp, sizeof temp, ".%s.new", name);
    fd = d->open(d, dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    if (fd < 0)
        return fd;

    /* The name must never point at bytes that a power cut can take back: the content is durable
     * before the rename, and the rename is durable before anything older may go. */
    if ((r = disk_write_all(d, fd, content)) < 0 || (r = d->sync(d, fd)) < 0 ||
        (r = d->rename(d, dir_fd, temp, name)) < 0 || (r = d->sync_dir(d, dir_fd)) < 0) {
        (void)d->close(d, fd);
        (void)d->unlink(d, dir_fd, temp); /* a leftover is overwritten next time */
        (void)d->unlink(d, dir_fd, name); /* not sure to stay, so it must not be the newest */
        return r;
    }
    return fd;
}

static void drop_generation(const struct disk *d, int dir_fd, uint64_t generation)
{
    char name[CHECKPOINT_NAME_LEN];

    if (generation == 0)
        return;
    generation_name(generation, name);
    (void)d->unlink(d, dir_fd, name); /* a leftover is older than the newest: harmless */
}

/* --- reading back --- */

struct recovery {
    struct checkpoint *c;
    struct checkpoint_report *report;
    struct map by_key;
    uint64_t bad_in_a_row;
};

static struct checkpoint_slot *recovered_slot(struct recovery *v, uint64_t key)
{
    struct map_node *n = map_find(&v->by_key, map_hash_u64(key));

    for (; n != NULL; n = map_find_next(n)) {
        struct checkpoint_slot *s = CONTAINER_OF(n, struct checkpoint_slot, by_key);
        if (s->key == key)
            return s;
    }
    return NULL;
}

static int recover_file(struct recovery *v, const struct fact_file *file)
{
    struct checkpoint_slot *s = recovered_slot(v, file->key);
    int r;

    if (s != NULL)
        return checkpoint_describe(v->c, s, file->path, &file->id);
    r = slot_new(v->c, file, (struct cursor){0}, &s);
    if (r < 0)
        return r;
    r = map_insert(&v->by_key, &s->by_key, map_hash_u64(s->key));
    if (r < 0) {
        slot_free(s);
        return r;
    }
    v->c->next_key = MAX(v->c->next_key, file->key + 1);
    return 0;
}

/* Takes in one fact.  1: it was one; 0: it was none; or -errno. */
static int recover_fact(struct recovery *v, const struct fact *f)
{
    struct checkpoint_slot *s;

    switch (f->type) {
    case FACT_FLOW:
        return need_flow(v->c, f->file.flow) == NULL ? -ENOMEM : 1;
    case FACT_FILE: {
        int r = recover_file(v, &f->file);
        return r < 0 ? r : 1;
    }
    case FACT_AT:
    case FACT_GONE:
        s = recovered_slot(v, f->file.key);
        if (s == NULL)
            return f->type == FACT_GONE; /* said twice is not damage; a place of nothing is */
        if (f->type == FACT_AT) {
            s->at = f->at;
        } else {
            map_remove(&v->by_key, &s->by_key);
            slot_free(s);
        }
        return 1;
    case FACT_HEADER:
    case FACT_DAMAGED:
        break;
    }
    return 0;
}

/* Reads the facts of one generation.  -EBADMSG: its header is not one. */
static int recover_text(struct recovery *v, struct slice text, uint64_t generation)
{
    struct fact f;
    uint32_t seed;
    int r;

    r = facts_read_header(&text, generation, &v->c->store, &seed);
    if (r < 0)
        return r;
    facts_init(&f);
    while (facts_next(&text, seed, &f)) {
        r = recover_fact(v, &f);
        if (r < 0)
            break;
        if (r == 0) {
            v->bad_in_a_row++;
            continue;
        }
        /* A bad line with good ones behind it is damage; at the very end it is a torn write. */
        v->report->damaged += v->bad_in_a_row;
        v->bad_in_a_row = 0;
        v->report->facts++;
    }
    if (v->bad_in_a_row > 1)
        v->report->damaged += v->bad_in_a_row - 1;
    facts_done(&f);
    return r < 0 ? r : 0;
}

static void forget_all(struct checkpoint *c)
{
    LIST_EACH(&c->slots, node, after)
    {
        slot_free(slot_of(node));
    }
    for (struct list *n; (n = list_take(&c->flows)) != NULL;)
        free(CONTAINER_OF(n, struct checkpoint_flow_node, node));
}

static int recover_generation(struct checkpoint *c, uint64_t generation,
                              struct checkpoint_report *report)
{
    struct recovery v = {.c = c, .report = report};
    char name[CHECKPOINT_NAME_LEN];
    struct stat st;
    struct buf text;
    int fd, r;

    generation_name(generation, name);
    fd = c->disk->open(c->disk, c->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return fd == -ELOOP ? -EBADMSG : fd;
    buf_init(&text, CHECKPOINT_READ_MAX);
    r = disk_read_all(c->disk, fd, &text);
    if (r == 0)
        r = recover_text(&v, buf_slice(&text), generation);
    if (r == 0 && fstat(fd, &st) == 0)
        report->written_ns = (int64_t)st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec;
    if (r < 0)
        forget_all(c);
    map_done(&v.by_key);
    buf_done(&text);
    (void)c->disk->close(c->disk, fd);
    return r == -EMSGSIZE || r == -EISDIR ? -EBADMSG : r;
}

static int compare_generations(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? 1 : x > y ? -1 : 0; /* newest first */
}

/* The generations in the directory, newest first; the caller frees them. */
static int list_generations(int dir_fd, uint64_t **ret, size_t *ret_count)
{
    uint64_t *all = NULL;
    size_t count = 0;
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir;

    if (fd < 0)
        return -errno;
    dir = fdopendir(fd);
    if (dir == NULL) {
        int r = -errno;
        close(fd);
        return r;
    }
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        uint64_t generation, *more;
        char name[CHECKPOINT_NAME_LEN];

        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        generation = strtoull(e->d_name, NULL, 10);
        generation_name(generation, name);
        if (generation == 0 || generation > CHECKPOINT_GENERATION_MAX ||
            strcmp(name, e->d_name) != 0)
            continue;
        more = reallocarray(all, count + 1, sizeof(*all));
        if (more == NULL) {
            free(all);
            closedir(dir);
            return -ENOMEM;
        }
        all = more;
        all[count++] = generation;
    }
    closedir(dir);
    if (count > 0)
        qsort(all, count, sizeof(*all), compare_generations);
    *ret = all;
    *ret_count = count;
    return 0;
}

static void move_aside(struct checkpoint *c, uint64_t generation)
{
    char name[CHECKPOINT_NAME_LEN], aside[CHECKPOINT_NAME_LEN + sizeof ".damaged"];

    generation_name(generation, name);
    (void)snprintf(aside, sizeof aside, "%s.damaged", name);
    (void)c->disk->rename(c->disk, c->dir_fd, name, aside);
}

static int recover(struct checkpoint *c, struct checkpoint_report *report)
{
    uint64_t *all = NULL;
    size_t count = 0, i = 0;
    int r = list_generations(c->dir_fd, &all, &count);

    if (r < 0)
        return r;
    c->generation = count > 0 ? all[0] + 1 : 1;
    report->fresh = count == 0;
    for (; i < count; i++) {
        r = recover_generation(c, all[i], report);
        if (r != -EBADMSG)
            break;
        move_aside(c, all[i]);
        report->moved_aside++;
        r = 0;
    }
    if (r == 0 && i < count)
        c->kept = all[i];
    for (size_t old = i + 1; r == 0 && old < count; old++)
        drop_generation(c->disk, c->dir_fd, all[old]);
    free(all);
    return r;
}

/* --- life --- */

static void adopt_journal(struct checkpoint *c, int fd, uint64_t generation, uint64_t bytes)
{
    if (c->fd >= 0)
        (void)c->disk->close(c->disk, c->fd);
    c->fd = fd;
    c->generation = generation;
    c->seed = facts_seed(c->store, generation);
    c->snapshot_bytes = c->journal_bytes = bytes;
    c->unsynced = c->broken = false;
}

int checkpoint_open(const struct disk *disk, int dir_fd, struct checkpoint **ret,
                    struct checkpoint_report *ret_report)
{
    struct checkpoint *c = calloc(1, sizeof *c);
    struct checkpoint_report report = {0};
    int r;

    if (c == NULL)
        return -ENOMEM;
    c->disk = disk;
    c->dir_fd = dir_fd;
    c->fd = -1;
    c->next_key = 1;
    list_init(&c->slots);
    list_init(&c->dirty);
    list_init(&c->flows);
    list_init(&c->gone);
    buf_init(&c->text, CHECKPOINT_READ_MAX);
    buf_init(&c->job.snapshot, CHECKPOINT_READ_MAX);

    r = recover(c, &report);
    if (r < 0)
        goto out;
    while (c->store == 0)
        if (getrandom(&c->store, sizeof c->store, GRND_NONBLOCK) < 0)
            c->store = (uint64_t)(uintptr_t)c; /* early boot: any number but the last one's */
    r = write_snapshot(c, &c->text, c->generation);
    if (r < 0)
        goto out;
    r = publish(disk, dir_fd, c->generation, buf_slice(&c->text));
    if (r < 0) {
        report.error = c->why = r;
        c->broken = true; /* the next job makes the generation after this one */
    } else {
        adopt_journal(c, r, c->generation, c->text.len);
        LIST_EACH(&c->slots, node, after)
        {
            slot_of(node)->described = true;
            list_remove(&slot_of(node)->dirty);
        }
        c->flows_dirty = false;
    }
    buf_done(&c->text); /* as large as the store; a commit is small */
    *ret = c;
    *ret_report = report;
    return 0;
out:
    checkpoint_close(c);
    return r;
}

void checkpoint_close(struct checkpoint *c)
{
    if (c == NULL)
        return;
    if (c->fd >= 0)
        (void)c->disk->close(c->disk, c->fd);
    forget_all(c);
    LIST_EACH(&c->gone, node, after)
    {
        slot_free(slot_of(node));
    }
    buf_done(&c->text);
    buf_done(&c->job.snapshot);
    free(c);
}

bool checkpoint_knows_flow(const struct checkpoint *c, struct slice flow)
{
    return find_flow(c, flow) != NULL;
}

int checkpoint_add_flow(struct checkpoint *c, struct slice flow)
{
    return need_flow(c, flow) == NULL ? -ENOMEM : 0;
}

struct checkpoint_slot *checkpoint_next(struct checkpoint *c, struct checkpoint_slot *slot)
{
    struct list *next = slot == NULL ? c->slots.next : slot->all.next;

    return next == &c->slots ? NULL : slot_of(next);
}

struct slice checkpoint_flow(const struct checkpoint_slot *s)
{
    return (struct slice){s->flow->name, s->flow->len};
}

struct slice checkpoint_path(const struct checkpoint_slot *s)
{
    return (struct slice){s->path, s->path_len};
}

const struct source_id *checkpoint_id(const struct checkpoint_slot *s)
{
    return &s->id;
}

struct cursor checkpoint_cursor(const struct checkpoint_slot *s)
{
    return s->at;
}

int checkpoint_join(struct checkpoint *c, struct slice flow, struct slice path,
                    const struct source_id *id, struct cursor at, struct checkpoint_slot **ret)
{
    const struct fact_file file = {.key = c->next_key, .flow = flow, .id = *id, .path = path};
    int r = slot_new(c, &file, at, ret);

    if (r < 0)
        return r;
    c->next_key++;
    slot_touch(c, *ret);
    return 0;
}

int checkpoint_describe(struct checkpoint *c, struct checkpoint_slot *s, struct slice path,
                        const struct source_id *id)
{
    if (!slice_equal(path, checkpoint_path(s))) {
        char *copy = malloc(path.len + 1);

        if (copy == NULL)
            return -ENOMEM;
        if (path.len > 0)
            memcpy(copy, path.ptr, path.len);
        copy[path.len] = '\0';
        free(s->path);
        s->path = copy;
        s->path_len = (uint32_t)path.len;
    }
    s->id = *id;
    s->described = false;
    slot_touch(c, s);
    return 0;
}

void checkpoint_note(struct checkpoint *c, struct checkpoint_slot *s, struct cursor at)
{
    s->at = at;
    slot_touch(c, s);
}

void checkpoint_leave(struct checkpoint *c, struct checkpoint_slot *s)
{
    list_remove(&s->dirty);
    list_remove(&s->all);
    list_append(&c->gone, &s->all);
}

bool checkpoint_is_dirty(const struct checkpoint *c)
{
    return !list_is_empty(&c->dirty) || !list_is_empty(&c->gone) || c->flows_dirty;
}

/* --- writing --- */

/* All that is noted, as text for the present generation. */
static int gather_notes(struct checkpoint *c)
{
    int r = 0;

    buf_reset(&c->text);
    if (c->flows_dirty)
        r = write_flows(c, &c->text, c->seed);
    LIST_EACH(&c->dirty, node, after)
    {
        const struct checkpoint_slot *s = CONTAINER_OF(node, struct checkpoint_slot, dirty);
        if (r == 0)
            r = write_slot(&c->text, c->seed, s, !s->described);
    }
    LIST_EACH(&c->gone, node, after)
    {
        if (r == 0)
            r = facts_write_gone(&c->text, c->seed, slot_of(node)->key);
    }
    return r;
}

static void notes_written(struct checkpoint *c)
{
    LIST_EACH(&c->dirty, node, after)
    {
        struct checkpoint_slot *s = CONTAINER_OF(node, struct checkpoint_slot, dirty);
        s->described = true;
        list_remove(node);
    }

    /* While a snapshot with them in it is being written, the next generation must hear of it. */
    if (c->job.kind != CHECKPOINT_JOB_COMPACT)
        LIST_EACH(&c->gone, node, after)
        {
            slot_free(slot_of(node));
        }
    c->flows_dirty = false;
}

int checkpoint_write(struct checkpoint *c)
{
    int r;

    if (!checkpoint_is_dirty(c))
        return 0;
    if (c->broken)
        return c->why; /* the next job begins a new generation, with all of this in it */
    r = gather_notes(c);
    if (r < 0)
        return r;
    r = disk_write_all(c->disk, c->fd, buf_slice(&c->text));
    if (r < 0) {
        /* Part of it may be there; whatever came behind would be glued to the torn line. */
        c->broken = true;
        c->why = r;
        return r;
    }
    c->journal_bytes += c->text.len;
    c->unsynced = true;
    notes_written(c);
    return 0;
}

/* --- the job --- */

static bool wants_compaction(const struct checkpoint *c)
{
    return c->broken || (c->journal_bytes > CHECKPOINT_COMPACT_MIN &&
                         c->journal_bytes / CHECKPOINT_COMPACT_TIMES > c->snapshot_bytes);
}

bool checkpoint_wants_job(const struct checkpoint *c)
{
    return c->job.kind == CHECKPOINT_JOB_NONE && (c->unsynced || wants_compaction(c));
}

int checkpoint_job_begin(struct checkpoint *c)
{
    assert(c->job.kind == CHECKPOINT_JOB_NONE);
    c->job.result = 0;
    if (!wants_compaction(c)) {
        c->job.kind = CHECKPOINT_JOB_SYNC;
        c->job.fd = c->fd;
        c->unsynced = false;
        return 0;
    }

    c->job.generation = c->generation + 1;
    c->job.drop = c->kept;
    LIST_EACH(&c->slots, node, after)
    {
        slot_of(node)->touched = false;
    }
    int r = write_snapshot(c, &c->job.snapshot, c->job.generation);
    if (r < 0)
        return r;
    c->job.kind = CHECKPOINT_JOB_COMPACT;
    return 0;
}

void checkpoint_job_run(struct checkpoint *c)
{
    if (c->job.kind == CHECKPOINT_JOB_SYNC) {
        c->job.result = c->disk->sync(c->disk, c->job.fd);
        return;
    }
    c->job.fd = publish(c->disk, c->dir_fd, c->job.generation, buf_slice(&c->job.snapshot));
    c->job.result = MIN(c->job.fd, 0);
    if (c->job.result == 0)
        drop_generation(c->disk, c->dir_fd, c->job.drop);
}

/* The new generation is there: what was said meanwhile is said again, to it. */
static void adopt_compacted(struct checkpoint *c)
{
    c->kept = c->generation;
    adopt_journal(c, c->job.fd, c->job.generation, c->job.snapshot.len);
    LIST_EACH(&c->slots, node, after)
    {
        struct checkpoint_slot *s = slot_of(node);
        s->described = !s->touched;
        if (s->touched)
            slot_touch(c, s);
    }
    c->flows_dirty = true;
}

int checkpoint_job_end(struct checkpoint *c)
{
    enum checkpoint_job_kind kind = c->job.kind;
    int r = c->job.result;

    c->job.kind = CHECKPOINT_JOB_NONE;
    if (kind == CHECKPOINT_JOB_COMPACT) {
        buf_done(&c->job.snapshot);
        if (r < 0)
            return r; /* the generation is given up; its number may be used again */
        adopt_compacted(c);
        return checkpoint_write(c);
    }
    /* What a failed sync has lost it does not say, and the next one would not either: nothing more
     * goes to this file (fsync(2), and the PostgreSQL findings of 2018). */
    if (r < 0) {
        c->broken = true;
        c->why = r;
    }
    return r;
}
