#include "keep/spool.h"

#include "digest.h"
#include "keep/spool_inner.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    ACK_STEP = 1024, /* acknowledgements read or written at once */
    /* What lies in an .ack beyond this is garbage: each frame can be acknowledged sixteen times. */
    ACK_READ_MAX = 16 * SPOOL_SEGMENT_FRAMES * SPOOL_ACK_LEN,
};

/* --- segments --- */

uint32_t spool_new_seed(const struct spool *s)
{
    uint32_t seed;

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) /* early boot */
        seed = (uint32_t)((uintptr_t)s ^ s->next_serial * 2654435761U);
    return MAX(seed, 1U);
}

bool segment_is_done(const struct segment *g)
{
    return g->kind == SEGMENT_GOOD && g->frames_done >= g->frames;
}

void spool_note_damage(struct spool *s, const struct segment *g, uint64_t at, uint64_t bytes)
{
    s->stats.damaged++;
    s->stats.damaged_bytes += bytes;
    if (s->damage != NULL)
        s->damage(s->damage_user, g->number, at);
}

static uint32_t frames_left(const struct segment *g)
{
    return g->frames - MIN(g->frames, g->frames_done);
}

static uint64_t records_left(const struct segment *g)
{
    return g->records - MIN(g->records, g->records_done);
}

void spool_count_in(struct spool *s, const struct segment *g)
{
    s->stats.frames += frames_left(g);
    s->stats.records += records_left(g);
    s->stats.bytes += g->size + g->ack_size;
}

void spool_count_out(struct spool *s, const struct segment *g)
{
    s->stats.frames -= frames_left(g);
    s->stats.records -= records_left(g);
    s->stats.bytes -= g->size + g->ack_size;
}

void spool_mark_acks(struct spool *s, struct segment *g, bool unsynced)
{
    if (g->ack_unsynced == unsynced)
        return;
    g->ack_unsynced = unsynced;
    if (unsynced)
        s->acks_unsynced++;
    else
        s->acks_unsynced--;
}

int spool_add_segment(struct spool *s, struct segment **ret)
{
    if (s->count == s->cap) {
        size_t cap = MAX(2 * s->cap, (size_t)16);
        struct segment *more = reallocarray(s->segments, cap, sizeof *more);

        if (more == NULL)
            return -ENOMEM;
        s->segments = more;
        s->cap = cap;
    }
    *ret = &s->segments[s->count++];
    **ret = (struct segment){0};
    return 0;
}

void spool_remove_segment(struct spool *s, size_t index)
{
    struct segment *g = &s->segments[index];

    if (s->read.fd >= 0 && s->read.number == g->number)
        spool_close_reader(s);
    if (s->read.index > index)
        s->read.index--;
    s->acks_pending -= g->acks_pending;
    spool_mark_acks(s, g, false);
    free(g->notes);
    s->count--;
    memmove(g, g + 1, (s->count - index) * sizeof *g);
}

int spool_open_file(const struct spool *s, uint64_t number, enum spool_file file, int flags)
{
    char name[SPOOL_NAME_LEN];

    spool_file_name(number, file, name);
    return s->disk->open(s->disk, s->dir_fd, name, flags | O_NOFOLLOW | O_NONBLOCK, 0600);
}

/* --- acknowledgements --- */

int spool_read_acks(struct spool *s, struct segment *g,
                    int (*each)(void *user, uint64_t serial, uint32_t records), void *user)
{
    char step[ACK_STEP * SPOOL_ACK_LEN];
    uint64_t size = 0;
    int fd = spool_open_file(s, g->number, SPOOL_FILE_ACK, O_RDONLY), r;

    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    r = s->disk->size(s->disk, fd, &size);
    if (r == 0)
        g->ack_size = MAX(g->ack_size, size);
    while (r == 0 && g->ack_seen + SPOOL_ACK_LEN <= MIN(size, (uint64_t)ACK_READ_MAX)) {
        ssize_t n = s->disk->read_at(s->disk, fd, step, sizeof step, g->ack_seen);
        struct slice text = {step, n > 0 ? (size_t)n : 0};
        uint32_t records;
        uint64_t serial;

        if (n == -EINTR)
            continue;
        if (n < 0)
            r = (int)n;
        if (n < SPOOL_ACK_LEN)
            break;
        while (r == 0 && spool_ack_next(&text, g->seed, g->first, &serial, &records))
            r = each(user, serial, records);
        if (r == 0)
            g->ack_seen += (uint64_t)n - text.len;
    }
    (void)s->disk->close(s->disk, fd);
    return r;
}

static struct segment *find_serial(struct spool *s, uint64_t serial)
{
    struct segment *g = NULL;

    /* Few segments have frames out at a time, and they stand in front. */
    for (size_t i = 0; i < s->count; i++) {
        if (s->segments[i].kind != SEGMENT_GOOD)
            continue;
        if (s->segments[i].first > serial)
            break;
        g = &s->segments[i];
    }
    return g != NULL && serial - g->first < g->note_count ? g : NULL;
}

/* Parts of frames that are done by now say nothing more; an .ack has many of them. */
static void sweep_parts(struct spool *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->part_count; i++) {
        const struct spool_part *p = &s->parts[i];
        const struct segment *g = find_serial(s, p->serial);
        bool gone = s->count > 0 && p->serial < s->segments[0].first;

        if (gone || (g != NULL && (g->notes[p->serial - g->first] & NOTE_DONE) != 0))
            s->parts_pending -= p->pending;
        else
            s->parts[kept++] = *p;
    }
    s->part_count = kept;
}

void spool_add_part(struct spool *s, uint64_t serial, uint32_t first, uint32_t count, bool pending)
{
    struct spool_part *p;

    if (s->part_count == SPOOL_PARTS_MAX)
        sweep_parts(s);
    if (first + count > SPOOL_PARTS_RECORDS || s->part_count == SPOOL_PARTS_MAX)
        return;
    if (s->part_count == s->part_cap) {
        size_t cap = MAX(2 * s->part_cap, (size_t)64);

        p = reallocarray(s->parts, cap, sizeof *p);
        if (p == NULL)
            return;
        s->parts = p;
        s->part_cap = cap;
    }
    s->parts[s->part_count++] = (struct spool_part){serial, first, count, pending};
    s->parts_pending += pending;
}

void spool_ack_part(struct spool *s, uint64_t serial, uint32_t first, uint32_t count)
{
    spool_add_part(s, serial, first, count, true);
}

/* All of the frame is done. */
static void drop_parts(struct spool *s, uint64_t serial)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->part_count; i++) {
        if (s->parts[i].serial != serial)
            s->parts[kept++] = s->parts[i];
        else
            s->parts_pending -= s->parts[i].pending;
    }
    s->part_count = kept;
}

void spool_ack(struct spool *s, uint64_t serial)
{
    struct segment *g = find_serial(s, serial);
    uint32_t *note = g != NULL ? &g->notes[serial - g->first] : NULL;
    uint32_t records;

    if (note == NULL || (*note & NOTE_GIVEN) == 0 || (*note & NOTE_DONE) != 0)
        return; /* of a segment that was dropped; or others were faster */
    drop_parts(s, serial);
    records = *note & NOTE_RECORDS;
    *note |= NOTE_DONE | NOTE_PENDING;
    g->acks_pending++;
    s->acks_pending++;
    if (!g->dropped)
        spool_count_out(s, g);
    g->frames_done++;
    g->records_done += records;
    g->frames_open--;
    g->records_open -= records;
    if (!g->dropped)
        spool_count_in(s, g);
}

/* Writes so many as have room; returns how many. */
static int write_some_acks(struct spool *s, struct segment *g, int fd, uint32_t *from)
{
    char text[ACK_STEP * SPOOL_ACK_LEN];
    uint32_t i = *from, count = 0;
    int r;

    for (; i < g->note_count && count < ACK_STEP; i++)
        if ((g->notes[i] & NOTE_PENDING) != 0)
            spool_ack_encode(g->first + i, g->notes[i] & NOTE_RECORDS, g->seed,
                             text + SPOOL_ACK_LEN * count++);

    /* A part of it may stay there if this fails: it is passed over, and all is written again. */
    r = disk_write_all(s->disk, fd, (struct slice){text, SPOOL_ACK_LEN * count});
    if (r < 0)
        return r;
    for (uint32_t k = *from; k < i; k++)
        g->notes[k] &= ~(uint32_t)NOTE_PENDING;
    *from = i;
    g->acks_pending -= count;
    s->acks_pending -= count;
    g->ack_size += SPOOL_ACK_LEN * count;
    s->stats.bytes += g->dropped ? 0 : SPOOL_ACK_LEN * count;
    spool_mark_acks(s, g, true);
    return 0;
}

/* Beside a running agent the segment may have left meanwhile, and its .ack with it: one that was made
 * after that would look like what is left of a segment that is missing. */
static int open_acks(const struct spool *s, const struct segment *g)
{
    int fd = spool_open_file(s, g->number, SPOOL_FILE_ACK, O_WRONLY | O_CREAT | O_APPEND), r;
    char name[SPOOL_NAME_LEN];

    if (fd < 0 || !s->read_only)
        return fd;
    r = spool_open_file(s, g->number, SPOOL_FILE_SEGMENT, O_RDONLY);
    if (r >= 0) {
        (void)s->disk->close(s->disk, r);
    } else if (r == -ENOENT) {
        spool_file_name(g->number, SPOOL_FILE_ACK, name);
        (void)s->disk->unlink(s->disk, s->dir_fd, name); /* what is written goes nowhere */
    }
    return fd;
}

/* Parts, one after the other: there are few, while the service takes some of a frame's records. */
static int write_parts(struct spool *s)
{
    int r = 0;

    for (size_t i = 0; i < s->part_count && r == 0; i++) {
        struct spool_part *p = &s->parts[i];
        struct segment *g = p->pending ? find_serial(s, p->serial) : NULL;
        char text[SPOOL_ACK_LEN];
        int fd;

        if (!p->pending)
            continue;
        if (g != NULL && !g->dropped) {
            fd = open_acks(s, g);
            if (fd < 0)
                return fd;
            spool_ack_encode(p->serial, spool_part_encode(p->first, p->count), g->seed, text);
            r = disk_write_all(s->disk, fd, (struct slice){text, sizeof text});
            (void)s->disk->close(s->disk, fd);
            if (r < 0)
                return r;
            g->ack_size += SPOOL_ACK_LEN;
            s->stats.bytes += SPOOL_ACK_LEN;
            spool_mark_acks(s, g, true);
        }
        p->pending = false;
        s->parts_pending--;
    }
    return r;
}

int spool_write_acks(struct spool *s)
{
    int r = s->parts_pending > 0 ? write_parts(s) : 0;

    for (size_t i = 0; i < s->count && s->acks_pending > 0 && r == 0; i++) {
        struct segment *g = &s->segments[i];
        uint32_t from = 0;
        int fd;

        if (g->acks_pending == 0 || g->dropped)
            continue;
        fd = open_acks(s, g);
        if (fd < 0)
            return fd;
        while (g->acks_pending > 0 && r == 0)
            r = write_some_acks(s, g, fd, &from);
        (void)s->disk->close(s->disk, fd);
    }
    return r;
}

uint64_t spool_drop_oldest(struct spool *s)
{
    for (size_t i = 0; i + 1 < s->count; i++) {
        struct segment *g = &s->segments[i];

        if (g->kind != SEGMENT_GOOD || g->dropped)
            continue;
        spool_count_out(s, g); /* now, so that the caller sees the room that there will be */
        g->dropped = g->passed = true;
        return records_left(g);
    }
    return 0;
}

/* --- room --- */

int spool_has_room(struct spool *s, uint64_t bytes)
{
    uint64_t need, free_bytes;
    int r;

    if (!s->looked && !s->job.runs && (r = spool_look(s)) < 0)
        return r;
    if (__builtin_add_overflow(bytes, (uint64_t)SPOOL_FRAME_EXTRA, &need) ||
        s->stats.bytes > s->limit_bytes || s->limit_bytes - s->stats.bytes < need)
        return -EDQUOT;
    r = s->disk->free_bytes(s->disk, s->dir_fd >= 0 ? s->dir_fd : s->state_dir_fd, &free_bytes);
    if (r < 0)
        return r;
    return free_bytes < need || free_bytes - need < s->min_free_bytes ? -ENOSPC : 0;
}

/* --- life --- */

static bool is_name(const char *name)
{
    return name[0] != '\0' && strlen(name) <= NAME_MAX && strchr(name, '/') == NULL &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int owner_of(const char *name, uint64_t *ret)
{
    uint8_t sum[DIGEST_SHA256_LEN];
    struct digest *d;
    int r = digest_new(&d);

    if (r < 0)
        return r;
    r = digest_sha256(d, slice_of(name), sum);
    digest_free(d);
    memcpy(ret, sum, sizeof *ret);
    return r;
}

int spool_open(int state_dir_fd, const struct disk *disk, const struct spool_settings *settings,
               struct spool **ret)
{
    uint64_t sixteenth = settings->limit_bytes / 16;
    struct spool *s;
    int r;

    if (!is_name(settings->name))
        return -EINVAL;
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return -ENOMEM;
    r = owner_of(settings->name, &s->owner);
    if (r < 0) {
        free(s);
        return r;
    }
    s->disk = disk;
    s->state_dir_fd = state_dir_fd;
    (void)snprintf(s->name, sizeof s->name, "%s", settings->name);
    s->limit_bytes = settings->limit_bytes;
    s->min_free_bytes = settings->min_free_bytes;
    s->segment_bytes =
        MIN(MAX(sixteenth, (uint64_t)SPOOL_SEGMENT_MIN), (uint64_t)SPOOL_SEGMENT_MAX);
    s->merged = settings->merged;
    s->read_only = settings->read_only;
    s->damage = settings->damage;
    s->damage_user = settings->user;
    s->dir_fd = s->fd = s->read.fd = s->job.dir_fd = -1;
    s->next_number = 1;
    s->origin = spool_new_seed(s);
    s->next_serial = s->merged + 1;
    buf_init(&s->out, SPOOL_FRAME_MAX);
    buf_init(&s->read.frame, SPOOL_FRAME_MAX);
    r = spool_look(s);
    if (r == -ENOMEM) {
        spool_close(s);
        return r;
    }
    *ret = s; /* anything else is in stats.error, and looked at again */
    return 0;
}

void spool_close(struct spool *s)
{
    if (s == NULL)
        return;
    assert(!s->job.runs);
    spool_close_reader(s);
    if (s->fd >= 0)
        (void)s->disk->close(s->disk, s->fd); /* what it has is durable */
    if (s->dir_fd >= 0)
        (void)s->disk->close(s->disk, s->dir_fd);
    for (size_t i = 0; i < s->count; i++)
        free(s->segments[i].notes);
    free(s->segments);
    free(s->parts);
    buf_done(&s->out);
    buf_done(&s->read.frame);
    free(s);
}

const struct spool_stats *spool_stats(const struct spool *s)
{
    return &s->stats;
}
