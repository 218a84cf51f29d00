/* Frames written, and segments begun and sent off.  A frame is durable when its file is, and its name
 * in the directory if it is new; before that no second one is written behind it. */
#include "keep/spool_inner.h"

#include "util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { NUMBER_TRIES = 8 };

/* --- a frame in memory --- */

static int append_source(struct buf *to, const struct spool_source *source)
{
    char flow_len[2], path_len[2];
    int r;

    if (source->flow.len > UINT16_MAX || source->path.len > UINT16_MAX)
        return -EMSGSIZE;
    spool_source_encode((uint16_t)source->flow.len, (uint16_t)source->path.len, flow_len, path_len);
    if ((r = buf_append(to, (struct slice){flow_len, 2})) < 0 ||
        (r = buf_append(to, source->flow)) < 0 ||
        (r = buf_append(to, (struct slice){path_len, 2})) < 0)
        return r;
    return buf_append(to, source->path);
}

static void forget_frame(struct spool *s)
{
    buf_reset(&s->out);
    if (s->out.cap > SPOOL_KEEP_BYTES)
        buf_done(&s->out);
    s->begun = false;
}

int spool_frame_begin(struct spool *s, int64_t wall_ms, const struct spool_source *sources,
                      size_t source_count, struct slice facts)
{
    static const char head[SPOOL_HEAD_LEN];
    int r;

    assert(!s->begun && !s->read_only);
    if (source_count > (size_t)UINT16_MAX + 1 || facts.len > SPOOL_FRAME_MAX)
        return -EMSGSIZE;
    r = buf_append(&s->out, (struct slice){head, sizeof head});
    if (r == 0)
        r = buf_append(&s->out, facts);
    for (size_t i = 0; i < source_count && r == 0; i++)
        r = append_source(&s->out, &sources[i]);
    if (r < 0) {
        forget_frame(s);
        return r;
    }
    s->begun = true;
    s->out_head = (struct spool_head){
        .wall_ms = wall_ms, .sources = (uint32_t)source_count, .facts_len = (uint32_t)facts.len};
    return 0;
}

void spool_add_failed(struct spool *s, int error)
{
    assert(s->job.has_frame && error < 0);
    s->job.add_result = error;
}

int spool_add_record(struct spool *s, const struct spool_record *r)
{
    char head[SPOOL_RECORD_HEAD_LEN];
    struct spool_job *j = &s->job;
    struct buf *b = &s->out;
    size_t need = sizeof head + r->key.len + r->data.len, room = b->cap - b->len;
    int e = 0;

    assert(j->has_frame && r->source < j->head.sources);
    if (r->key.len > UINT16_MAX || r->data.len > SPOOL_FRAME_MAX ||
        need + SPOOL_ALIGN > b->max - b->len)
        e = -EMSGSIZE;
    else if (need > room) /* by doubling, so that many small ones stay cheap */
        e = buf_reserve(b, MIN(b->max, MAX(b->len + need, 2 * b->cap)));
    if (e < 0) {
        j->add_result = e;
        return e;
    }
    spool_record_encode(r, head);
    (void)buf_append(b, (struct slice){head, sizeof head}); /* there is room */
    (void)buf_append(b, r->key);
    (void)buf_append(b, r->data);
    j->head.records++;
    return 0;
}

/* --- begin: what is to be done --- */

static struct segment *last_segment(const struct spool *s)
{
    return s->count > 0 ? &s->segments[s->count - 1] : NULL;
}

/* Whether a segment may go: all of it is done, and it is not the last one. */
static bool may_leave(const struct spool *s, size_t index)
{
    const struct segment *g = &s->segments[index];

    return index + 1 < s->count && (g->dropped || segment_is_done(g));
}

/* Segments leave from the front only; those that nobody can judge stand aside. */
static void gather_leaves(struct spool *s)
{
    struct spool_job *j = &s->job;

    for (size_t i = 0; i < s->count && j->leave_count < SPOOL_LEAVES_MAX; i++) {
        const struct segment *g = &s->segments[i];

        if (g->kind != SEGMENT_GOOD)
            continue;
        if (!may_leave(s, i))
            return;
        j->leaves[j->leave_count].number = g->number;
        j->leaves[j->leave_count++].aside = g->damaged && !g->dropped;
        j->stays = s->tail_known ? 0 : last_segment(s)->number;
    }
}

/* Those of segments that are about to leave, too: if the name goes and they do not get there, they do
 * not say that all of it was done, and the segment is taken for one that is missing. */
static void gather_syncs(struct spool *s)
{
    struct spool_job *j = &s->job;

    for (size_t i = 0; i < s->count && j->sync_count < SPOOL_SYNCS_MAX; i++) {
        struct segment *g = &s->segments[i];

        if (!g->ack_unsynced)
            continue;
        spool_mark_acks(s, g, false);
        j->syncs[j->sync_count++] = g->number;
    }
}

/* An idle host holds no garbage: an empty segment takes the place of one that is done. */
static bool last_is_garbage(const struct spool *s)
{
    const struct segment *g = last_segment(s);

    return g != NULL && segment_is_done(g) && g->size > SPOOL_IDLE_BYTES;
}

bool spool_wants_job(const struct spool *s)
{
    size_t i = 0;

    if (s->job.runs)
        return false;
    if (s->acks_unsynced > 0 || s->read_only)
        return s->acks_unsynced > 0;
    while (i < s->count && s->segments[i].kind != SEGMENT_GOOD)
        i++;
    return (i < s->count && may_leave(s, i)) || last_is_garbage(s);
}

static void plan_segment(struct spool *s)
{
    const struct segment *last = last_segment(s);
    struct spool_job *j = &s->job;

    j->begins = true;
    j->header = (struct spool_header){.segment = s->next_number,
                                      .first_serial = s->next_serial,
                                      .owner = s->owner,
                                      .wall_ms = j->wall_ms,
                                      .seed = spool_new_seed(s),
                                      .before_seed = s->origin};
    if (last != NULL && last->kind == SEGMENT_GOOD && !s->tail_known)
        j->tail = last->number;
    if (last != NULL)
        j->header.before_seed = last->kind == SEGMENT_GOOD ? last->seed : 0;
    if (last != NULL && last->kind == SEGMENT_GOOD && last->number + 1 == s->next_number)
        j->header.before_end = last->end;
    j->segment_size = SPOOL_HEADER_LEN;
    j->footer = (struct spool_footer){0};
}

static void plan_frame(struct spool *s)
{
    const struct segment *last = last_segment(s);
    struct spool_job *j = &s->job;

    j->has_frame = true;
    j->head = s->out_head;
    j->wall_ms = j->head.wall_ms;
    if (s->fd < 0) {
        plan_segment(s);
    } else {
        j->header = (struct spool_header){.segment = last->number, .seed = last->seed};
        j->segment_size = last->size;
        j->footer = (struct spool_footer){last->frames, last->records};
    }
    j->head.serial = s->next_serial;
    j->head.at = j->segment_size;
}

void spool_job_begin(struct spool *s)
{
    struct spool_job *j = &s->job;
    struct segment *room;

    assert(!j->runs);
    *j = (struct spool_job){.runs = true, .dir_fd = s->dir_fd};
    if (!s->looked)
        j->result = spool_look(s);
    j->dir_fd = s->dir_fd;
    if (s->begun)
        plan_frame(s);
    else if (j->result == 0 && !s->read_only && last_is_garbage(s))
        plan_segment(s);
    if (j->result == 0 && j->begins && (j->result = spool_add_segment(s, &room)) == 0)
        s->count--; /* so that there is room for it at the end */
    gather_syncs(s);
    if (!s->read_only)
        gather_leaves(s);
}

/* --- run --- */

/* Opens the new segment's file.  Its number may be taken, by one that failed and could not be unlinked:
 * then the next one, which knows nothing of the end of the one before. */
static int create_segment(struct spool *s)
{
    struct spool_job *j = &s->job;
    int fd = -EEXIST;

    s->fd = -1;
    for (int i = 0; i < NUMBER_TRIES && fd == -EEXIST; i++) {
        char name[SPOOL_NAME_LEN];

        if (i > 0) {
            j->header.segment++;
            j->header.before_end = 0;
        }
        spool_segment_name(j->header.segment, name);
        fd = s->disk->open(s->disk, j->dir_fd, name,
                           O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, 0600);
    }
    if (fd < 0)
        return fd;
    s->fd = fd;
    return 0;
}

static int begin_segment(struct spool *s)
{
    char header[SPOOL_HEADER_LEN];
    struct spool_job *j = &s->job;
    int fd, r = 0;

    /* That there is a segment says that all before it is durable: later starts count on that. */
    if (j->tail != 0 && (r = spool_sync_tail(s, j->dir_fd, j->tail)) < 0)
        return r;
    s->tail_known = true;
    if (!s->dirs_known || j->dir_fd < 0) {
        r = spool_enter(s, true, &fd);
        if (r < 0)
            return r;
        if (j->dir_fd < 0)
            j->dir_fd = fd;
        else
            (void)s->disk->close(s->disk, fd);
        s->dirs_known = true;
    }
    if (s->fd >= 0)
        (void)s->disk->close(s->disk, s->fd);
    r = create_segment(s);
    if (r < 0)
        return r;
    spool_header_encode(&j->header, header);
    return disk_write_all(s->disk, s->fd, (struct slice){header, sizeof header});
}

/* The frame, and a footer if the segment is full with it: what is torn of them is torn together. */
static int write_frame(struct spool *s)
{
    static const char zeros[SPOOL_ALIGN];
    char footer[SPOOL_FOOTER_LEN];
    struct spool_job *j = &s->job;
    struct buf *b = &s->out;
    int r =
        buf_append(b, (struct slice){zeros, (SPOOL_ALIGN - b->len % SPOOL_ALIGN) % SPOOL_ALIGN});
    uint64_t end;

    if (r < 0)
        return r;
    spool_head_encode(&j->head, j->header.seed, b->ptr, b->len);
    r = disk_write_all(s->disk, s->fd, buf_slice(b));
    if (r < 0)
        return r;
    end = j->head.at + b->len;
    j->segment_size = end;
    j->footer.frames++;
    j->footer.records += j->head.records;
    j->seals = end >= s->segment_bytes || j->footer.frames >= SPOOL_SEGMENT_FRAMES;
    if (!j->seals)
        return 0;
    spool_footer_encode(&j->footer, end, j->header.seed, footer);
    j->segment_size += sizeof footer;
    return disk_write_all(s->disk, s->fd, (struct slice){footer, sizeof footer});
}

/* What failed is never added to: what a failed sync has lost, no later one would say (fsync(2), and the
 * PostgreSQL findings of 2018).  That the bytes go as well is for the next start: until the next segment
 * tells where this one ends, a frame that is whole by chance would be given out again. */
static void abandon(struct spool *s)
{
    struct spool_job *j = &s->job;
    char name[SPOOL_NAME_LEN];

    if (s->fd < 0)
        return;
    if (j->begins) {
        spool_segment_name(j->header.segment, name);
        (void)s->disk->close(s->disk, s->fd);
        (void)s->disk->unlink(s->disk, j->dir_fd, name);
    } else {
        if (s->disk->truncate(s->disk, s->fd, j->head.at) == 0)
            j->segment_size = j->head.at;
        (void)s->disk->close(s->disk, s->fd);
    }
    s->fd = -1;
}

static int put(struct spool *s)
{
    struct spool_job *j = &s->job;
    int r = j->begins ? begin_segment(s) : 0;

    if (r == 0 && j->has_frame)
        r = write_frame(s);
    if (r == 0)
        r = s->disk->sync(s->disk, s->fd);
    if (r == 0 && j->begins)
        r = s->disk->sync_dir(s->disk, j->dir_fd);
    if (r < 0) {
        abandon(s);
    } else if (j->seals) {
        (void)s->disk->close(s->disk, s->fd);
        s->fd = -1;
    }
    return r;
}

static int sync_acks(struct spool *s)
{
    struct spool_job *j = &s->job;

    for (; j->synced < j->sync_count; j->synced++) {
        char name[SPOOL_NAME_LEN];
        int fd, r;

        spool_file_name(j->syncs[j->synced], SPOOL_FILE_ACK, name);
        fd = s->disk->open(s->disk, j->dir_fd, name, O_WRONLY | O_NOFOLLOW | O_NONBLOCK, 0);
        if (fd == -ENOENT)
            continue;
        if (fd < 0)
            return fd;
        r = s->disk->sync(s->disk, fd);
        (void)s->disk->close(s->disk, fd);
        if (r < 0)
            return r;
    }
    return j->sync_count > 0 ? s->disk->sync_dir(s->disk, j->dir_fd) : 0;
}

/* Without a last segment that holds, those that have left would be missing. */
static int sync_last_segment(struct spool *s)
{
    struct spool_job *j = &s->job;
    int r;

    if (j->stays == 0)
        return 0;
    r = spool_sync_tail(s, j->dir_fd, j->stays);
    return r == 0 ? s->disk->sync_dir(s->disk, j->dir_fd) : r;
}

/* One after the other, each name durably gone before the next goes and before its acknowledgements do:
 * otherwise a power cut makes a hole in the numbers, or frames that nobody knows to be done. */
static int send_off(struct spool *s)
{
    struct spool_job *j = &s->job;

    for (; j->left < j->leave_count; j->left++) {
        char name[SPOOL_NAME_LEN], aside[SPOOL_NAME_LEN];
        uint64_t number = j->leaves[j->left].number;
        int r;

        spool_segment_name(number, name);
        spool_file_name(number, SPOOL_FILE_DAMAGED, aside);
        r = j->leaves[j->left].aside ? s->disk->rename(s->disk, j->dir_fd, name, aside)
                                     : s->disk->unlink(s->disk, j->dir_fd, name);
        if (r == 0 || r == -ENOENT)
            r = s->disk->sync_dir(s->disk, j->dir_fd);
        if (r < 0)
            return r;
        spool_file_name(number, SPOOL_FILE_ACK, name);
        (void)s->disk->unlink(s->disk, j->dir_fd, name); /* or the next start does */
    }
    return 0;
}

void spool_job_run(struct spool *s)
{
    struct spool_job *j = &s->job;
    int r;

    if (j->result == 0)
        j->result = j->add_result;
    if (j->result == 0 && (j->has_frame || j->begins))
        j->result = put(s);

    /* Also after a failure: on a full disk this is what makes room. */
    j->error = sync_acks(s);
    r = sync_last_segment(s);
    if (r == 0)
        r = send_off(s);
    if (r < 0)
        j->error = r;
}

/* --- end: what came of it --- */

static struct segment *find_number(struct spool *s, uint64_t number)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->segments[i].number == number)
            return &s->segments[i];
    return NULL;
}

static void adopt_segment(struct spool *s)
{
    const struct spool_job *j = &s->job;
    struct segment *g = NULL;
    int r = spool_add_segment(s, &g);

    assert(r == 0); /* job_begin made room */
    g->number = j->header.segment;
    g->first = g->last = j->header.first_serial;
    g->last--;
    g->seed = j->header.seed;
    g->before_end = j->header.before_end;
    g->before_seed = j->header.before_seed;
    g->size = g->end = g->read_at = SPOOL_HEADER_LEN;
    g->read_serial = g->last;
    spool_count_in(s, g);
    s->next_number = g->number + 1;
    s->tail_known = true;
}

static void adopt_frame(struct spool *s)
{
    const struct spool_job *j = &s->job;
    struct segment *g = last_segment(s);

    spool_count_out(s, g);
    g->frames++;
    g->records += j->head.records;
    g->size = j->segment_size;
    g->end = j->head.at + j->head.len;
    g->last = j->head.serial;
    spool_count_in(s, g);
    s->next_serial = j->head.serial + 1;
}

/* The segment that failed in the middle ends where it did; what could not be cut off takes room. */
static void note_failure(struct spool *s)
{
    struct spool_job *j = &s->job;
    struct segment *g = last_segment(s);

    if (j->begins || s->fd >= 0 || g == NULL || g->number != j->header.segment)
        return;
    spool_count_out(s, g);
    g->size = MAX(j->segment_size, j->head.at);
    spool_count_in(s, g);
}

static void note_tidied(struct spool *s)
{
    struct spool_job *j = &s->job;

    for (size_t i = j->synced; i < j->sync_count; i++) {
        struct segment *g = find_number(s, j->syncs[i]);

        if (g != NULL)
            spool_mark_acks(s, g, true);
    }
    s->tail_known = s->tail_known || j->left > 0;
    for (size_t i = 0; i < j->left; i++) {
        struct segment *g = find_number(s, j->leaves[i].number);

        if (!g->dropped)
            spool_count_out(s, g);
        s->stats.moved_aside += j->leaves[i].aside;
        spool_remove_segment(s, (size_t)(g - s->segments));
    }
}

int spool_job_end(struct spool *s, uint64_t *ret_serial)
{
    struct spool_job *j = &s->job;
    int r = j->result;

    assert(j->runs);
    j->runs = false;
    s->dir_fd = j->dir_fd;
    if (r == 0 && j->begins)
        adopt_segment(s);
    if (r == 0 && j->has_frame)
        adopt_frame(s);
    if (r < 0 && j->has_frame)
        note_failure(s);
    if (j->has_frame)
        forget_frame(s);
    note_tidied(s);
    if (!j->has_frame && r < 0) {
        j->error = r; /* only an empty segment, or a look */
        r = 0;
    }
    s->stats.error = s->look_error != 0 ? s->look_error : j->error;
    *ret_serial = r == 0 && j->has_frame ? j->head.serial : 0;
    return r;
}
