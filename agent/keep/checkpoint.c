#include "keep/checkpoint.h"

#include "buf.h"
#include "disk.h"
#include "keep/facts.h"
#include "keep/folders.h"
#include "keep/reserve.h"
#include "list.h"
#include "map.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    CHECKPOINT_READ_MAX = 1024 * 1024 * 1024, /* a generation; 100,000 files take about 30 MB */
    CHECKPOINT_COMPACT_MIN = 4 * 1024 * 1024, /* bytes of journal that are never worth compacting */
    CHECKPOINT_COMPACT_TIMES = 4,             /* … and how much it may outgrow its snapshot */
    CHECKPOINT_TEXT_KEEP = 1024 * 1024,       /* what a commit's buffer may keep */
    CHECKPOINT_READ_TRIES = 100,

    /* The reserve: the snapshot and half as much again for what comes behind it, and never less than a
     * quarter of an hour of 1 kB a second, so that a full disk does not mean a new generation each
     * moment. */
    CHECKPOINT_RESERVE_STEP = 1024 * 1024,
    CHECKPOINT_SLOT_BYTES = 320, /* in a snapshot, in most cases */
    CHECKPOINT_NAME_LEN = 32,
    RECOVERED_FIRST = 64,
};

/* Ten digits; at one a second that is three hundred years.  A larger one is not ours. */
static const uint64_t CHECKPOINT_GENERATION_MAX = UINT64_C(9999999999);

/* From here on only one that can be read counts: behind a stray file that has the last number no start
 * would find ours. */
static const uint64_t CHECKPOINT_GENERATION_STRAY = UINT64_C(5000000000);

struct checkpoint_flow_node {
    struct list node;
    size_t len;
    char name[];
};

/* A destination's spool. */
struct checkpoint_spool {
    struct list node;
    uint64_t serial; /* up to this one its frames' facts are noted here */
    bool dirty;
    size_t len;
    char name[];
};

/* One of 100,000 that are quiet: its size is counted in a test.  What a slot needs only while it is
 * read back, or what it shares with others, is kept elsewhere. */
struct checkpoint_slot {
    struct list all;               /* in checkpoint.slots; alone when it left */
    struct checkpoint_slot *after; /* in checkpoint.notes */
    uint64_t key;
    struct source_id id;
    struct cursor at;
    struct folder *folder; /* holds; whose flow it is says the folder */
    char *name;            /* owns; the path behind the folder */
    bool described;        /* the `file` fact on disk is as we know it */
    bool touched;          /* said something since the snapshot that a job is writing */
    bool noted;            /* is in checkpoint.notes */
    bool gone;             /* left: in checkpoint.notes until that is written, then nowhere */
};

/* A slot among those of the same inode. */
struct checkpoint_sighting {
    struct map_node node;
    struct checkpoint_slot *slot;
};

/* Slots with news, in the order in which they had it. */
struct checkpoint_notes {
    struct checkpoint_slot *first, *last;
};

enum checkpoint_job_kind { CHECKPOINT_JOB_NONE, CHECKPOINT_JOB_SYNC, CHECKPOINT_JOB_COMPACT };

struct checkpoint {
    const struct disk *disk;
    int dir_fd;
    uint64_t store, generation; /* of the journal; `store` is another number for each */
    uint64_t kept;              /* the generation before, not deleted yet; 0: none */
    uint64_t kept_bytes;        /* at the start: of it, if it is whole to its end; else 0 */
    uint32_t seed;
    int fd; /* the journal; -1: there is none that may be written */
    uint64_t next_key;
    int64_t sure_ns; /* see checkpoint_sure */
    struct list slots, flows, spools;
    struct folders folders;
    struct map
        sightings; /* all slots by their inodes, from the first fact that is learnt until the next
                             write: a start after an outage learns thousands */
    struct checkpoint_flow_node *recent_flow; /* most facts are about the same as the last one */
    struct checkpoint_notes notes;
    bool flows_dirty, spools_dirty;
    bool partial;   /* damage was found, and not all files were looked at since */
    bool whole_due; /* they were, and the journal does not say so yet */
    struct buf text;
    uint64_t snapshot_bytes, journal_bytes;
    bool unsynced, broken;
    int why; /* it is broken: -errno */
    size_t slot_count;
    uint64_t reserve_uses;
    uint64_t reserved; /* what the reserve was made for, in bytes; 0: it is not there, or smaller */

    /* The job's own: nobody else looks while it runs. */
    struct {
        enum checkpoint_job_kind kind;
        int fd;
        uint64_t store, generation, drop;
        bool partial; /* the snapshot says so */
        bool full;    /* begun because the disk is */
        bool on_reserve;
        uint64_t reserve, reserved; /* bytes that there should be, and are */
        uint64_t kept;              /* may go for it; 0: none, or it went */
        struct buf snapshot;
        int result;
    } job;
};

static struct checkpoint_slot *slot_of(struct list *node)
{
    return CONTAINER_OF(node, struct checkpoint_slot, all);
}

/* Gives back what held a whole generation.  After a first large one malloc takes the next from the
 * heap, whose end it would keep (M_MMAP_THRESHOLD is dynamic, mallopt(3)). */
static void done_with_text(struct buf *text)
{
    bool large = text->cap > CHECKPOINT_TEXT_KEEP;

    buf_done(text);
    if (large)
        (void)malloc_trim(0);
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
    struct checkpoint_flow_node *f = c->recent_flow;

    if (f != NULL && slice_equal((struct slice){f->name, f->len}, name))
        return f;
    f = c->recent_flow = find_flow(c, name);
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
    c->recent_flow = f;
    return f;
}

static struct checkpoint_spool *spool_of(struct list *node)
{
    return CONTAINER_OF(node, struct checkpoint_spool, node);
}

static struct checkpoint_spool *find_spool(const struct checkpoint *c, struct slice name)
{
    LIST_EACH(&c->spools, node, after)
    {
        struct checkpoint_spool *s = spool_of(node);
        if (slice_equal((struct slice){s->name, s->len}, name))
            return s;
    }
    return NULL;
}

static void slot_free(struct checkpoint *c, struct checkpoint_slot *s)
{
    c->slot_count--;
    list_remove(&s->all);
    folders_drop(&c->folders, s->folder);
    free(s->name);
    free(s);
}

static bool slot_is_called(const struct checkpoint_slot *s, struct slice path)
{
    struct slice folder = folder_text(s->folder);

    return slice_starts_with(path, folder) &&
           slice_equal(slice_from(path, folder.len), slice_of(s->name));
}

static int slot_call(struct checkpoint *c, struct checkpoint_slot *s, const void *flow,
                     struct slice path)
{
    size_t split = folders_split(path);
    struct folder *folder;
    char *name;
    int r;

    if (path.len >= PATH_MAX)
        return -ENAMETOOLONG;
    name = path.len > split ? strndup(path.ptr + split, path.len - split) : strdup("");
    if (name == NULL)
        return -ENOMEM;
    r = folders_hold(&c->folders, flow, slice_first(path, split), &folder);
    if (r < 0) {
        free(name);
        return r;
    }
    folders_drop(&c->folders, s->folder);
    free(s->name);
    s->folder = folder;
    s->name = name;
    return 0;
}

static int slot_new(struct checkpoint *c, const struct fact_file *file, struct cursor at,
                    struct checkpoint_slot **ret)
{
    struct checkpoint_flow_node *flow = need_flow(c, file->flow);
    struct checkpoint_slot *s = calloc(1, sizeof *s);
    int r = -ENOMEM;

    if (s == NULL)
        return -ENOMEM;
    c->slot_count++;
    list_init(&s->all);
    s->key = file->key;
    s->id = file->id;
    s->at = at;
    if (flow != NULL)
        r = slot_call(c, s, flow, file->path);
    if (r < 0) {
        slot_free(c, s);
        return r;
    }
    list_append(&c->slots, &s->all);
    *ret = s;
    return 0;
}

static int slot_describe(struct checkpoint *c, struct checkpoint_slot *s, struct slice path,
                         const struct source_id *id)
{
    int r = slot_is_called(s, path) ? 0 : slot_call(c, s, s->folder->flow, path);

    if (r < 0)
        return r;
    s->id = *id;
    s->described = false;
    return 0;
}

/* --- slots by their inodes --- */

static int sight_slot(struct checkpoint *c, struct checkpoint_slot *s)
{
    struct checkpoint_sighting *seen = malloc(sizeof *seen);
    int r;

    if (seen == NULL)
        return -ENOMEM;
    seen->slot = s;
    r = map_insert(&c->sightings, &seen->node, map_hash_u64(s->id.ino));
    if (r < 0)
        free(seen);
    return r;
}

/* What is found by them must not have changed since. */
static void forget_sightings(struct checkpoint *c)
{
    for (size_t i = 0; i < c->sightings.bucket_count; i++)
        for (struct map_node *n = c->sightings.buckets[i], *next; n != NULL; n = next) {
            next = n->next;
            free(CONTAINER_OF(n, struct checkpoint_sighting, node));
        }
    map_done(&c->sightings);
}

static int sight_all(struct checkpoint *c)
{
    int r = 0;

    LIST_EACH(&c->slots, node, after)
    {
        if (r == 0)
            r = sight_slot(c, slot_of(node));
    }
    if (r < 0)
        forget_sightings(c); /* all or none */
    return r;
}

/* --- notes --- */

static void slot_note(struct checkpoint *c, struct checkpoint_slot *s)
{
    s->touched = true;
    if (s->noted)
        return;
    s->noted = true;
    s->after = NULL;
    if (c->notes.first == NULL)
        c->notes.first = s;
    else
        c->notes.last->after = s;
    c->notes.last = s;
}

/* All is written: the notes are taken down.  What is gone is gone, unless it must be said again. */
static void take_notes_down(struct checkpoint *c, bool keep_gone)
{
    struct checkpoint_slot *after;
    struct checkpoint_slot *s = c->notes.first;

    c->notes = (struct checkpoint_notes){0};
    for (; s != NULL; s = after) {
        after = s->after;
        s->described = true;
        s->noted = false;
        if (s->gone && keep_gone)
            slot_note(c, s);
        else if (s->gone)
            slot_free(c, s);
    }
}

/* --- writing facts --- */

static int write_slot(struct buf *to, uint32_t seed, const struct checkpoint_slot *s, bool describe)
{
    char path[PATH_MAX];
    int r = 0;

    if (s->gone)
        return facts_write_gone(to, seed, s->key);
    if (describe) {
        const struct fact_file file = {
            .key = s->key,
            .flow = checkpoint_flow(s),
            .id = s->id,
            .path = checkpoint_path(s, path),
        };
        r = facts_write_file(to, seed, &file);
    }

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

static int write_spools(const struct checkpoint *c, struct buf *to, uint32_t seed, bool all)
{
    int r = 0;

    LIST_EACH(&c->spools, node, after)
    {
        struct checkpoint_spool *s = spool_of(node);
        if (r == 0 && (all || s->dirty))
            r = facts_write_spool(to, seed, (struct slice){s->name, s->len}, s->serial);
    }
    return r;
}

/* Generations of one number may be begun more than once, when one could not be made durable or a
 * crash took its name.  Its blocks may come back in the next one's file: their facts must not hold
 * there.  So each has a number that no other had. */
static uint64_t new_store(uint64_t last)
{
    uint64_t store;
    struct timespec now;

    if (getrandom(&store, sizeof store, GRND_NONBLOCK) == (ssize_t)sizeof store && store != 0)
        return store;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* early boot */
    return last + (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* The next start takes for new what is younger than the last word.  The file's own time would not do:
 * a power cut may leave it with the time of a write whose bytes it has taken back.  So the word stands
 * behind the facts that it is about, and goes where they go. */
static int write_seen(struct buf *to, uint32_t seed, int64_t ns)
{
    return ns > 0 ? facts_write_seen(to, seed, (uint64_t)ns) : 0;
}

static int64_t seen_now(const struct checkpoint *c)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME_COARSE, &t); /* that file systems take birth times from */
    return MIN(c->sure_ns, (int64_t)t.tv_sec * INT64_C(1000000000) + t.tv_nsec);
}

/* A whole generation's beginning: the header and all facts as they stand, or stood at `seen_ns`. */
static int write_snapshot(struct checkpoint *c, struct buf *to, uint64_t store, uint64_t generation,
                          int64_t seen_ns)
{
    uint32_t seed = facts_seed(store, generation);
    int r;

    buf_reset(to);
    r = facts_write_header(to, seed, store, generation);
    if (r == 0 && c->partial)
        r = facts_write_partial(to, seed);
    if (r == 0)
        r = write_flows(c, to, seed);
    if (r == 0)
        r = write_spools(c, to, seed, true);
    LIST_EACH(&c->slots, node, after)
    {
        if (r == 0)
            r = write_slot(to, seed, slot_of(node), true);
    }
    return r < 0 ? r : write_seen(to, seed, seen_ns);
}

static int set_written(const struct disk *d, int fd, int64_t written_ns)
{
    return written_ns > 0 ? d->set_written(d, fd, written_ns) : 0;
}

/* A generation that is to be. */
struct edition {
    uint64_t generation;
    struct slice content;
    uint64_t room;      /* with what is to come behind the content, in bytes */
    int64_t written_ns; /* when what it says was so; 0: now */
};

/* Makes a generation appear whole or not at all, in the reserve's place or in a new file's; gives its
 * open descriptor. */
static int publish_in(const struct disk *d, int dir_fd, const struct edition *e, bool from_reserve)
{
    char name[CHECKPOINT_NAME_LEN], temp[CHECKPOINT_NAME_LEN + sizeof ".new"];
    const char *begun = from_reserve ? reserve_name : temp;
    int fd, r;

    generation_name(e->generation, name);
    (void)snprintf(temp, sizeof temp, ".%s.new", name);

    /* A pipe or a link there would keep us waiting or lead us away: the next number is tried then. */
    fd = from_reserve
             ? reserve_open(d, dir_fd)
             : d->open(d, dir_fd, temp,
                       O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return fd;

    /* As much as the reserve: what this one gives back some day is enough for the next reserve, also
     * if the disk is full by then.  Whether it can be had now says the write. */
    if (!from_reserve)
        (void)d->allocate(d, fd, e->room);

    /* The name must never point at bytes that a power cut can take back: the content is durable
     * before the rename, and the rename is durable before anything older may go. */
    r = disk_write_all(d, fd, e->content);
    if (r == 0)
        r = set_written(d, fd, e->written_ns);
    if (r == 0)
        r = d->sync(d, fd);
    if (r == 0)
        r = d->rename(d, dir_fd, begun, name);
    if (r == 0)
        r = d->sync_dir(d, dir_fd);
    if (r < 0) {
        (void)d->close(d, fd);
        (void)d->unlink(d, dir_fd, begun); /* a leftover is overwritten next time */
        (void)d->unlink(d, dir_fd, name);  /* not sure to stay, so it must not be the newest */
        return r;
    }
    return fd;
}

/* The same, where there is room, and in the reserve where there is none.  A disk that is known to be
 * full has too little room for what comes behind the snapshot, even if this finds enough. */
static int publish(const struct disk *d, int dir_fd, const struct edition *e, bool is_full,
                   bool *ret_on_reserve)
{
    int r = is_full ? -ENOSPC : publish_in(d, dir_fd, e, false), fd;

    *ret_on_reserve = false;
    if (!disk_is_full(r))
        return r;
    fd = publish_in(d, dir_fd, e, true);
    *ret_on_reserve = fd >= 0;
    if (fd >= 0 || (fd == -ENOENT && !is_full))
        return fd >= 0 ? fd : r;

    /* Where the file system's own books have no room (btrfs, over a limit) what is set aside is of no
     * use; but it was given back just now. */
    return publish_in(d, dir_fd, e, false);
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

struct recovered {
    uint64_t key;
    struct checkpoint_slot *slot; /* NULL: it is gone */
    bool placed;
};

/* The slots by their keys, which ascend as long as nobody but us wrote the file: so a sorted array
 * is a search tree that costs one allocation, and leaves no holes in memory when it is done with. */
struct recovery {
    struct checkpoint *c;
    struct checkpoint_report *report;
    struct recovered *all; /* owns */
    size_t count, room;
    uint64_t bad_in_a_row;
    int64_t seen_ns; /* 0: not said */
    bool is_whole;   /* to its end */
};

/* Where this key is, or would be. */
static size_t recovered_place(const struct recovery *v, uint64_t key)
{
    size_t from = 0, to = v->count;

    if (to > 0 && v->all[to - 1].key <= key) /* a place follows its file */
        return v->all[to - 1].key == key ? to - 1 : to;
    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (v->all[middle].key < key)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static struct recovered *recovered_find(const struct recovery *v, uint64_t key)
{
    size_t i = recovered_place(v, key);

    return i < v->count && v->all[i].key == key ? &v->all[i] : NULL;
}

static int recovered_add(struct recovery *v, uint64_t key, struct recovered **ret)
{
    size_t i = recovered_place(v, key);

    if (v->count == v->room) {
        size_t room = MAX(2 * v->room, (size_t)RECOVERED_FIRST);
        struct recovered *more = reallocarray(v->all, room, sizeof(*more));
        if (more == NULL)
            return -ENOMEM;
        v->all = more;
        v->room = room;
    }
    memmove(&v->all[i + 1], &v->all[i], (v->count - i) * sizeof(*v->all));
    v->count++;
    v->all[i] = (struct recovered){.key = key};
    *ret = &v->all[i];
    return 0;
}

static int recover_file(struct recovery *v, const struct fact_file *file)
{
    struct recovered *found = recovered_find(v, file->key);
    int r;

    if (found != NULL && found->slot != NULL)
        return slot_describe(v->c, found->slot, file->path, &file->id);
    r = found != NULL ? 0 : recovered_add(v, file->key, &found);
    if (r < 0)
        return r;
    r = slot_new(v->c, file, (struct cursor){0}, &found->slot);
    if (r < 0)
        return r;
    v->c->next_key = MAX(v->c->next_key, file->key + 1);
    return 0;
}

/* Takes in one fact.  1: it was one; 0: it was none; or -errno. */
static int recover_fact(struct recovery *v, const struct fact *f)
{
    struct recovered *found;

    switch (f->type) {
    case FACT_FLOW:
        return need_flow(v->c, f->file.flow) == NULL ? -ENOMEM : 1;
    case FACT_FILE: {
        int r = recover_file(v, &f->file);
        return r < 0 ? r : 1;
    }
    case FACT_AT:
    case FACT_GONE:
        found = recovered_find(v, f->file.key);
        if (found == NULL || found->slot == NULL)
            return f->type == FACT_GONE; /* said twice is not damage; a place of nothing is */
        if (f->type == FACT_AT) {
            found->slot->at = f->at;
            found->placed = true;
        } else {
            slot_free(v->c, found->slot);
            found->slot = NULL;
        }
        return 1;
    case FACT_SPOOL: {
        /* It says that what stands before it makes its frames' facts good; where something is not
         * there any more, they are told again, which is harmless. */
        bool whole = v->bad_in_a_row == 0 && v->report->damaged == 0;
        int r = whole ? checkpoint_note_spool(v->c, f->file.flow, f->file.key) : 0;
        return r < 0 ? r : 1;
    }
    case FACT_SEEN:
        v->seen_ns = (int64_t)f->file.key;
        return 1;
    case FACT_PARTIAL:
    case FACT_WHOLE:
        v->report->partial = f->type == FACT_PARTIAL;
        return 1;
    case FACT_HEADER:
    case FACT_DAMAGED:
        break;
    }
    return 0;
}

/* What a crash left of a source is not its place: nobody knows that, and it is not the beginning. */
static void forget_unplaced(struct recovery *v)
{
    for (size_t i = 0; i < v->count; i++)
        if (v->all[i].slot != NULL && !v->all[i].placed) {
            slot_free(v->c, v->all[i].slot);
            v->all[i].slot = NULL;
        }
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
    v->is_whole = v->report->damaged + v->bad_in_a_row == 0;
    facts_done(&f);
    if (r >= 0)
        forget_unplaced(v);
    return r < 0 ? r : 0;
}

static void forget_all(struct checkpoint *c)
{
    forget_sightings(c);
    take_notes_down(c, false);
    LIST_EACH(&c->slots, node, after)
    {
        slot_free(c, slot_of(node));
    }
    folders_done(&c->folders);
    for (struct list *n; (n = list_take(&c->flows)) != NULL;)
        free(CONTAINER_OF(n, struct checkpoint_flow_node, node));
    for (struct list *n; (n = list_take(&c->spools)) != NULL;)
        free(spool_of(n));
    c->recent_flow = NULL;
}

static int recover_generation(struct checkpoint *c, uint64_t generation,
                              struct checkpoint_report *report)
{
    struct recovery v = {.c = c, .report = report};
    char name[CHECKPOINT_NAME_LEN];
    struct buf text;
    uint64_t size;
    int fd, r;

    generation_name(generation, name);
    fd = c->disk->open(c->disk, c->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return fd == -ELOOP || fd == -ENXIO ? -EBADMSG : fd; /* a link, a socket */
    buf_init(&text, CHECKPOINT_READ_MAX);
    r = c->disk->size(c->disk, fd, &size);
    if (r == 0 && size > CHECKPOINT_READ_MAX)
        r = -EMSGSIZE; /* before it has taken all that memory */
    if (r == 0)
        r = disk_read_all(c->disk, fd, &text);
    if (r == 0)
        r = recover_text(&v, buf_slice(&text), generation);
    if (r == 0)
        (void)c->disk->written(c->disk, fd, &report->written_ns);
    if (r == 0 && v.seen_ns != 0) /* the earlier one: see checkpoint_backdate */
        report->written_ns = MIN(report->written_ns, v.seen_ns);
    c->kept_bytes = r == 0 && v.is_whole ? text.len : 0;
    if (r < 0)
        forget_all(c);
    free(v.all);
    buf_done(&text);
    (void)c->disk->close(c->disk, fd);
    return r == -EMSGSIZE || r == -EISDIR ? -EBADMSG : r;
}

static int compare_generations(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? 1 : x > y ? -1 : 0; /* newest first */
}

struct generations {
    uint64_t *all; /* owns */
    size_t count;
};

static int add_generation(void *user, const char *entry)
{
    struct generations *g = user;
    char name[CHECKPOINT_NAME_LEN];
    uint64_t generation, *more;

    if (entry[0] < '0' || entry[0] > '9')
        return 0;
    generation = strtoull(entry, NULL, 10);
    generation_name(generation, name);
    if (generation == 0 || generation > CHECKPOINT_GENERATION_MAX || strcmp(name, entry) != 0)
        return 0;
    more = reallocarray(g->all, g->count + 1, sizeof(*more));
    if (more == NULL)
        return -ENOMEM;
    g->all = more;
    g->all[g->count++] = generation;
    return 0;
}

int checkpoint_generations(const struct disk *disk, int dir_fd, uint64_t **ret, size_t *ret_count)
{
    struct generations g = {0};
    int r = disk->list(disk, dir_fd, add_generation, &g);

    if (r < 0) {
        free(g.all);
        return r;
    }
    if (g.count > 0)
        qsort(g.all, g.count, sizeof(*g.all), compare_generations);
    *ret = g.all;
    *ret_count = g.count;
    return 0;
}

static void move_aside(struct checkpoint *c, uint64_t generation)
{
    char name[CHECKPOINT_NAME_LEN], aside[CHECKPOINT_NAME_LEN + sizeof ".damaged"];

    generation_name(generation, name);
    (void)snprintf(aside, sizeof aside, "%s.damaged", name);
    (void)c->disk->rename(c->disk, c->dir_fd, name, aside);
}

static bool is_partial(const struct checkpoint_report *report)
{
    return report->partial || report->damaged > 0 || report->moved_aside > 0;
}

/* Reads the newest that can be read; gives the list of all that were found. */
static int recover(struct checkpoint *c, struct checkpoint_report *report, struct generations *ret)
{
    struct generations g = {0};
    int r = checkpoint_generations(c->disk, c->dir_fd, &g.all, &g.count);

    if (r < 0)
        return r;
    report->fresh = g.count == 0;
    for (size_t i = 0; i < g.count && c->kept == 0 && r == 0; i++) {
        r = recover_generation(c, g.all[i], report);
        if (r == 0)
            c->kept = g.all[i];
        if (r != -EBADMSG)
            continue;
        move_aside(c, g.all[i]);
        report->moved_aside++;
        r = 0;
    }
    c->generation = c->kept + 1;
    for (size_t i = 0; i < g.count; i++)
        if (g.all[i] <= CHECKPOINT_GENERATION_STRAY)
            c->generation = MAX(c->generation, g.all[i] + 1);
    if (r < 0)
        free(g.all);
    else
        *ret = g;
    return r;
}

/* Deletes what is older than the generation that was read.  Not before the next one is durable, and
 * with it the name of that one: whoever gave it may have been killed before it was. */
static void drop_older(struct checkpoint *c, const struct generations *g)
{
    for (size_t i = 0; i < g->count; i++)
        if (g->all[i] < c->kept)
            drop_generation(c->disk, c->dir_fd, g->all[i]);
}

/* --- life --- */

/* How large the reserve should be. */
static uint64_t reserve_wanted(const struct checkpoint *c)
{
    uint64_t snapshot = MAX(c->snapshot_bytes, (uint64_t)c->slot_count * CHECKPOINT_SLOT_BYTES);
    uint64_t steps = (snapshot + snapshot / 2) / CHECKPOINT_RESERVE_STEP + 1;

    return steps * CHECKPOINT_RESERVE_STEP;
}

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

static void all_is_said(struct checkpoint *c)
{
    LIST_EACH(&c->slots, node, after)
    {
        slot_of(node)->described = true;
    }
    c->flows_dirty = c->spools_dirty = false;
}

/* There is no room for another generation, but there may be some left in the newest one: what was read
 * is continued.  0, or why not. */
static int go_on_in_kept(struct checkpoint *c, uint64_t store)
{
    char name[CHECKPOINT_NAME_LEN];
    int fd, r;

    if (c->kept == 0 || c->kept_bytes == 0 || c->kept + 1 != c->generation)
        return -ENOENT;
    generation_name(c->kept, name);
    fd = c->disk->open(c->disk, c->dir_fd, name, O_WRONLY | O_APPEND | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;

    /* Who wrote it may have been killed before any of it was durable, its name included. */
    r = c->disk->sync(c->disk, fd);
    if (r == 0)
        r = c->disk->sync_dir(c->disk, c->dir_fd);
    if (r < 0) {
        (void)c->disk->close(c->disk, fd);
        return r;
    }
    c->store = store;
    adopt_journal(c, fd, c->kept, c->kept_bytes);
    c->kept = 0;
    all_is_said(c);
    return 0;
}

static struct checkpoint *checkpoint_new(const struct disk *disk, int dir_fd)
{
    struct checkpoint *c = calloc(1, sizeof *c);

    if (c == NULL)
        return NULL;
    c->disk = disk;
    c->dir_fd = dir_fd;
    c->fd = -1;
    c->next_key = 1;
    c->sure_ns = INT64_MAX;
    list_init(&c->slots);
    list_init(&c->flows);
    list_init(&c->spools);
    buf_init(&c->text, CHECKPOINT_READ_MAX);
    buf_init(&c->job.snapshot, CHECKPOINT_READ_MAX);
    return c;
}

int checkpoint_open(const struct disk *disk, int dir_fd, struct checkpoint **ret,
                    struct checkpoint_report *ret_report)
{
    struct checkpoint *c = checkpoint_new(disk, dir_fd);
    struct checkpoint_report report = {0};
    struct generations found = {0};
    bool on_reserve;
    uint64_t store;
    int r;

    if (c == NULL)
        return -ENOMEM;
    r = recover(c, &report, &found);
    if (r < 0)
        goto out;
    c->partial = report.partial = is_partial(&report);
    store = c->store;
    c->store = new_store(store);

    /* The first one of all knows nothing that is older than itself; without a word the file's time would
     * count, which may come from a write that a power cut has taken back. */
    r = write_snapshot(c, &c->text, c->store, c->generation,
                       report.written_ns > 0 ? report.written_ns : seen_now(c));
    if (r < 0)
        goto out;

    /* It says nothing newer than the one before: if we end before we have looked at the files, the
     * next start must still take for new what came since. */
    r = publish(
        disk, dir_fd,
        &(struct edition){c->generation, buf_slice(&c->text), reserve_wanted(c), report.written_ns},
        false, &on_reserve);
    if (r < 0 && !(disk_is_full(r) && go_on_in_kept(c, store) == 0)) {
        report.error = c->why = r;
        c->broken = true; /* the next job makes the generation after this one */
    } else if (r >= 0) {
        adopt_journal(c, r, c->generation, c->text.len);
        c->reserve_uses += on_reserve;
        drop_older(c, &found);
        if (reserve_make(disk, dir_fd, reserve_wanted(c)) == 0) /* or a job will */
            c->reserved = reserve_wanted(c);
        all_is_said(c);
    }
    done_with_text(&c->text); /* as large as the store; a commit is small */
    free(found.all);
    *ret = c;
    *ret_report = report;
    return 0;
out:
    free(found.all);
    checkpoint_close(c);
    return r;
}

int checkpoint_read_generation(const struct disk *disk, int dir_fd, uint64_t generation,
                               struct checkpoint **ret, struct checkpoint_report *ret_report)
{
    struct checkpoint *c = checkpoint_new(disk, dir_fd);
    struct checkpoint_report report = {0};
    int r;

    if (c == NULL)
        return -ENOMEM;
    r = recover_generation(c, generation, &report);
    if (r < 0) {
        checkpoint_close(c);
        return r;
    }
    report.partial = is_partial(&report);
    *ret = c;
    *ret_report = report;
    return 0;
}

/* The newest that can be read.  -ENOENT: one was gone before it was opened. */
static int read_newest(const struct disk *disk, int dir_fd, struct checkpoint **ret,
                       struct checkpoint_report *ret_report)
{
    uint64_t *all = NULL;
    size_t count = 0, bad = 0;
    int r = checkpoint_generations(disk, dir_fd, &all, &count);

    if (r < 0)
        return r;
    r = -EBADMSG;
    while (bad < count && r == -EBADMSG) {
        r = checkpoint_read_generation(disk, dir_fd, all[bad], ret, ret_report);
        bad += r == -EBADMSG;
    }
    free(all);
    if (r == -EBADMSG) { /* there is none: then nothing is known */
        *ret = checkpoint_new(disk, dir_fd);
        *ret_report = (struct checkpoint_report){.fresh = count == 0};
        r = *ret == NULL ? -ENOMEM : 0;
    }
    if (r == 0) {
        ret_report->moved_aside = (uint32_t)bad;
        ret_report->partial = is_partial(ret_report);
    }
    return r;
}

int checkpoint_read(const struct disk *disk, int dir_fd, struct checkpoint **ret,
                    struct checkpoint_report *ret_report)
{
    int r = -ENOENT;

    /* An agent that begins a new generation deletes an old one: then there is a newer. */
    for (int tries = 0; tries < CHECKPOINT_READ_TRIES && r == -ENOENT; tries++)
        r = read_newest(disk, dir_fd, ret, ret_report);
    return r;
}

int checkpoint_backdate(struct checkpoint *c, int64_t written_ns)
{
    int r = c->broken ? c->why : c->fd < 0 ? -EBADF : 0;

    if (r < 0)
        return r;
    buf_reset(&c->text);
    r = write_seen(&c->text, c->seed, written_ns);
    if (r == 0)
        r = disk_write_all(c->disk, c->fd, buf_slice(&c->text));
    if (r == 0)
        r = set_written(c->disk, c->fd, written_ns); /* for versions that know no better */
    if (r == 0)
        r = c->disk->sync(c->disk, c->fd);
    if (r < 0) {
        c->broken = true;
        c->why = r;
    }
    return r;
}

void checkpoint_close(struct checkpoint *c)
{
    if (c == NULL)
        return;
    if (c->fd >= 0)
        (void)c->disk->close(c->disk, c->fd);
    forget_all(c);
    buf_done(&c->text);
    buf_done(&c->job.snapshot);
    free(c);
}

void checkpoint_complete(struct checkpoint *c)
{
    c->whole_due = c->whole_due || c->partial;
    c->partial = false;
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
    const struct checkpoint_flow_node *f = s->folder->flow;

    return (struct slice){f->name, f->len};
}

struct slice checkpoint_path(const struct checkpoint_slot *s, char to[PATH_MAX])
{
    size_t folder_len = s->folder->len, name_len = strlen(s->name);

    assert(folder_len + name_len < PATH_MAX);
    memcpy(to, s->folder->text, folder_len);
    memcpy(to + folder_len, s->name, name_len + 1);
    return (struct slice){to, folder_len + name_len};
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
    if (c->sightings.count > 0 && sight_slot(c, *ret) < 0)
        forget_sightings(c);
    c->next_key++;
    slot_note(c, *ret);
    return 0;
}

int checkpoint_describe(struct checkpoint *c, struct checkpoint_slot *s, struct slice path,
                        const struct source_id *id)
{
    int r = slot_describe(c, s, path, id);

    forget_sightings(c);
    if (r == 0)
        slot_note(c, s);
    return r;
}

void checkpoint_note(struct checkpoint *c, struct checkpoint_slot *s, struct cursor at)
{
    s->at = at;
    slot_note(c, s);
}

void checkpoint_leave(struct checkpoint *c, struct checkpoint_slot *s)
{
    forget_sightings(c);
    list_remove(&s->all);
    s->gone = true;
    slot_note(c, s);
}

/* --- facts that travel --- */

int checkpoint_tell(const struct checkpoint_slot *s, struct cursor at, struct buf *to)
{
    char path[PATH_MAX];
    const struct fact_file file = {
        .key = s->key, .flow = checkpoint_flow(s), .id = s->id, .path = checkpoint_path(s, path)};
    int r = facts_write_file(to, 0, &file);

    return r < 0 ? r : facts_write_at(to, 0, s->key, at);
}

/* The slot that a travelling fact is about: by its key, if that still means the same file; else by the
 * file alone, as it has another key in another store. */
static struct checkpoint_slot *find_slot(const struct checkpoint *c, const struct fact_file *file)
{
    struct map_node *n = map_find(&c->sightings, map_hash_u64(file->id.ino));
    struct checkpoint_slot *found = NULL;

    for (; n != NULL; n = map_find_next(n)) {
        struct checkpoint_slot *s = CONTAINER_OF(n, struct checkpoint_sighting, node)->slot;

        if (!slice_equal(checkpoint_flow(s), file->flow) ||
            !source_id_is_same_object(&s->id, &file->id))
            continue;
        if (s->key == file->key)
            return s;
        if (s->id.head_len <= file->id.head_len && (found == NULL || s->key < found->key))
            found = s;
    }
    return found;
}

static int learn_place(struct checkpoint *c, const struct fact_file *file, struct cursor at)
{
    struct checkpoint_slot *s;
    int r = c->sightings.count == 0 ? sight_all(c) : 0;

    if (r < 0)
        return r;
    s = find_slot(c, file);
    if (s == NULL)
        return checkpoint_join(c, file->flow, file->path, &file->id, at, &s);
    if (at.offset <= s->at.offset)
        return 0;
    checkpoint_note(c, s, at);
    if (file->id.head_len <= s->id.head_len)
        return 0;
    return slot_describe(c, s, file->path, &file->id); /* which is noted, and keeps its inode */
}

int checkpoint_learn(struct checkpoint *c, struct slice facts)
{
    struct fact file, at;
    int r = 0;

    facts_init(&file);
    facts_init(&at);
    while (r == 0 && facts_next(&facts, 0, &file)) {
        r = -EBADMSG;
        if (file.type == FACT_FILE && facts_next(&facts, 0, &at) && at.type == FACT_AT &&
            at.file.key == file.file.key)
            r = learn_place(c, &file.file, at.at);
    }
    facts_done(&file);
    facts_done(&at);
    return r;
}

uint64_t checkpoint_spool(const struct checkpoint *c, struct slice name)
{
    const struct checkpoint_spool *s = find_spool(c, name);

    return s != NULL ? s->serial : 0;
}

int checkpoint_note_spool(struct checkpoint *c, struct slice name, uint64_t serial)
{
    struct checkpoint_spool *s = find_spool(c, name);

    if (s == NULL) {
        s = calloc(1, sizeof *s + name.len);
        if (s == NULL)
            return -ENOMEM;
        s->len = name.len;
        if (name.len > 0)
            memcpy(s->name, name.ptr, name.len);
        list_init(&s->node);
        list_append(&c->spools, &s->node);
    }
    s->serial = serial;
    s->dirty = c->spools_dirty = true;
    return 0;
}

void checkpoint_sure(struct checkpoint *c, int64_t ns)
{
    c->sure_ns = ns;
}

bool checkpoint_is_dirty(const struct checkpoint *c)
{
    return c->notes.first != NULL || c->flows_dirty || c->spools_dirty || c->whole_due;
}

/* --- writing --- */

/* All that is noted, as text for the present generation. */
static int gather_notes(struct checkpoint *c)
{
    int r = 0;

    buf_reset(&c->text);
    if (c->flows_dirty)
        r = write_flows(c, &c->text, c->seed);
    for (const struct checkpoint_slot *s = c->notes.first; s != NULL && r == 0; s = s->after)
        r = write_slot(&c->text, c->seed, s, !s->described);

    /* After what they speak of: see recover_fact. */
    if (r == 0 && c->spools_dirty)
        r = write_spools(c, &c->text, c->seed, false);
    if (r == 0 && c->whole_due)
        r = facts_write_whole(&c->text, c->seed);
    return r < 0 ? r : write_seen(&c->text, c->seed, seen_now(c));
}

int checkpoint_write(struct checkpoint *c)
{
    int r;

    forget_sightings(c);
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
    c->flows_dirty = c->spools_dirty = c->whole_due = false;
    LIST_EACH(&c->spools, node, after)
    {
        spool_of(node)->dirty = false;
    }

    /* While a snapshot is being written in which it is not gone, the next generation must hear of
     * it. */
    take_notes_down(c, c->job.kind == CHECKPOINT_JOB_COMPACT);
    if (c->text.cap > CHECKPOINT_TEXT_KEEP)
        done_with_text(&c->text);
    return 0;
}

/* --- the job --- */

static bool wants_compaction(const struct checkpoint *c)
{
    return c->broken || (c->journal_bytes > CHECKPOINT_COMPACT_MIN &&
                         c->journal_bytes / CHECKPOINT_COMPACT_TIMES > c->snapshot_bytes);
}

uint64_t checkpoint_reserve_uses(const struct checkpoint *c)
{
    return c->reserve_uses;
}

bool checkpoint_wants_job(const struct checkpoint *c)
{
    return c->job.kind == CHECKPOINT_JOB_NONE && (c->unsynced || wants_compaction(c));
}

int checkpoint_job_begin(struct checkpoint *c)
{
    assert(c->job.kind == CHECKPOINT_JOB_NONE);
    c->job.result = 0;
    c->job.reserve = reserve_wanted(c);
    c->job.reserved = c->reserved;
    c->job.kept = c->kept;
    if (!wants_compaction(c)) {
        c->job.kind = CHECKPOINT_JOB_SYNC;
        c->job.fd = c->fd;
        c->unsynced = false;
        return 0;
    }

    c->job.store = new_store(c->store);
    c->job.generation = c->generation + 1;
    c->job.drop = c->kept;
    c->job.partial = c->partial;
    c->job.full = c->broken && disk_is_full(c->why);
    LIST_EACH(&c->slots, node, after)
    {
        slot_of(node)->touched = false;
    }
    int r = write_snapshot(c, &c->job.snapshot, c->job.store, c->job.generation, seen_now(c));
    if (r < 0)
        return r;
    c->job.kind = CHECKPOINT_JOB_COMPACT;
    return 0;
}

/* Makes the reserve, or makes it larger.  The generation before is worth less than that: it is there
 * for the day on which the present one cannot be read. */
static void job_reserve(struct checkpoint *c)
{
    int r;

    if (c->job.reserved >= c->job.reserve)
        return;
    r = reserve_make(c->disk, c->dir_fd, c->job.reserve);
    if (disk_is_full(r) && c->job.kept != 0) {
        drop_generation(c->disk, c->dir_fd, c->job.kept);
        c->job.kept = 0;
        r = reserve_make(c->disk, c->dir_fd, c->job.reserve);
    }
    if (r < 0)
        return;
    c->job.reserved = c->job.reserve;
    (void)c->disk->allocate(c->disk, c->job.fd, c->job.reserve); /* see publish_in */
}

void checkpoint_job_run(struct checkpoint *c)
{
    if (c->job.kind == CHECKPOINT_JOB_SYNC) {
        c->job.result = c->disk->sync(c->disk, c->job.fd);
        if (c->job.result == 0)
            job_reserve(c);
        return;
    }
    c->job.fd = publish(
        c->disk, c->dir_fd,
        &(struct edition){c->job.generation, buf_slice(&c->job.snapshot), c->job.reserve, 0},
        c->job.full, &c->job.on_reserve);
    c->job.result = MIN(c->job.fd, 0);
    if (c->job.on_reserve || disk_is_full(c->job.result))
        c->job.reserved = 0;
    if (c->job.result < 0)
        return;
    drop_generation(c->disk, c->dir_fd, c->job.drop);
    c->job.kept = 0; /* the one before is still open, and would give nothing back */
    job_reserve(c);
}

/* The new generation is there: what was said meanwhile is said again, to it. */
static void adopt_compacted(struct checkpoint *c, size_t snapshot_bytes)
{
    c->kept = c->generation;
    c->reserve_uses += c->job.on_reserve;
    c->store = c->job.store;
    adopt_journal(c, c->job.fd, c->job.generation, snapshot_bytes);
    LIST_EACH(&c->slots, node, after)
    {
        struct checkpoint_slot *s = slot_of(node);
        s->described = !s->touched;
        if (s->touched)
            slot_note(c, s);
    }
    c->flows_dirty = true;
    LIST_EACH(&c->spools, node, after)
    {
        spool_of(node)->dirty = c->spools_dirty = true;
    }
    c->whole_due = c->job.partial && !c->partial;
}

int checkpoint_job_end(struct checkpoint *c)
{
    enum checkpoint_job_kind kind = c->job.kind;
    size_t snapshot_bytes = c->job.snapshot.len;
    int r = c->job.result;

    c->job.kind = CHECKPOINT_JOB_NONE;
    c->reserved = c->job.reserved;
    if (kind == CHECKPOINT_JOB_COMPACT) {
        done_with_text(&c->job.snapshot);
        if (r < 0)
            return r; /* the generation is given up; its number may be used again */
        adopt_compacted(c, snapshot_bytes);
        return checkpoint_write(c);
    }
    c->kept = c->job.kept;

    /* What a failed sync has lost it does not say, and the next one would not either: nothing more
     * goes to this file (fsync(2), and the PostgreSQL findings of 2018). */
    if (r < 0) {
        c->broken = true;
        c->why = r;
    }
    return r;
}
