#include "keep/spool_inner.h"

#include "crc32c.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEP = 16 * 1024,  /* bytes looked at in one go */
    BLIND_STEP = 4096, /* what is passed over where the disk cannot read */
    MAGIC_LEN = SPOOL_HEAD_BEGIN_LEN,
};

int spool_pread(const struct spool *s, int fd, void *to, size_t len, uint64_t at)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = s->disk->read_at(s->disk, fd, (char *)to + got, len - got, at + got);

        if (n == 0)
            return 0;
        if (n < 0 && n != -EINTR)
            return (int)n;
        got += n > 0 ? (size_t)n : 0;
    }
    return 1;
}

/* --- frames found --- */

/* The sum of `len` bytes behind those that gave *crc: 1, 0 or -errno. */
static int sum_bytes(const struct spool *s, int fd, uint64_t at, uint64_t len, uint32_t *crc)
{
    char step[STEP];

    while (len > 0) {
        size_t n = (size_t)MIN(len, (uint64_t)sizeof step);
        int r = spool_pread(s, fd, step, n, at);

        if (r != 1)
            return r;
        *crc = crc32c(*crc, step, n);
        at += n;
        len -= n;
    }
    return 1;
}

/* Whether a frame's head is at that place, and holds: 1, 0 or -errno. */
static int check_head(const struct spool *s, int fd, const struct segment *g, uint64_t at,
                      uint64_t end, struct spool_head *ret)
{
    char bytes[SPOOL_HEAD_LEN];
    uint32_t crc;
    int r;

    if (end < at || end - at < sizeof bytes)
        return 0;
    r = spool_pread(s, fd, bytes, sizeof bytes, at);
    if (r != 1)
        return r;
    if (spool_head_decode(bytes, at, ret) < 0 || ret->len > end - at)
        return 0;
    crc = spool_head_crc(bytes, g->seed);
    r = sum_bytes(s, fd, at + sizeof bytes, ret->facts_len, &crc);
    return r == 1 ? crc == ret->crc : r;
}

int spool_check_payload(const struct spool *s, int fd, const struct segment *g,
                        const struct spool_head *h)
{
    uint64_t skip = SPOOL_HEAD_LEN + (uint64_t)h->facts_len;
    uint32_t crc = g->seed;
    int r = sum_bytes(s, fd, h->at + skip, h->len - skip, &crc);

    return r == 1 ? crc == h->payload_crc : r;
}

/* Reads what there is of `len` bytes; returns how many, or -errno. */
static ssize_t read_some(const struct spool *s, int fd, char *to, size_t len, uint64_t at)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = s->disk->read_at(s->disk, fd, to + got, len - got, at + got);

        if (n == 0)
            break;
        if (n < 0 && n != -EINTR)
            return n;
        got += n > 0 ? (size_t)n : 0;
    }
    return (ssize_t)got;
}

/* The next place, a multiple of 8, where a frame's head may begin: 1, 0 or -errno. */
static int find_magic(const struct spool *s, int fd, uint64_t from, uint64_t end, uint64_t *ret)
{
    char step[STEP];

    /* Windows overlap, as what is looked at may lie across. */
    for (uint64_t at = from; at < end; at += sizeof step - MAGIC_LEN) {
        size_t want = (size_t)MIN(end - at, (uint64_t)sizeof step);
        ssize_t n = read_some(s, fd, step, want, at);

        if (n < 0)
            return (int)n;
        for (size_t i = 0; i + MAGIC_LEN <= (size_t)n; i += SPOOL_ALIGN)
            if (spool_head_begins(step + i, at + i)) {
                *ret = at + i;
                return 1;
            }
        if ((size_t)n < sizeof step)
            return 0;
    }
    return 0;
}

int spool_seek(const struct spool *s, int fd, const struct segment *g, uint64_t from, uint64_t end,
               uint64_t after, uint64_t limit, bool blind, struct spool_head *ret)
{
    uint64_t at = from + (SPOOL_ALIGN - from % SPOOL_ALIGN) % SPOOL_ALIGN;

    while (at < end) {
        uint64_t stop = blind ? MIN(end, at + BLIND_STEP + MAGIC_LEN) : end;
        int r = check_head(s, fd, g, at, end, ret);

        if (r == 1 && ret->serial > after && ret->serial < limit &&
            ret->serial - g->first < SPOOL_SEGMENT_FRAMES)
            return 1;
        if (r >= 0)
            r = find_magic(s, fd, at + SPOOL_ALIGN, stop, &at);
        if (r == 1)
            continue;
        if (!blind)
            return r;
        at += BLIND_STEP;
    }
    return 0;
}

uint64_t spool_serial_limit(const struct spool *s, size_t index)
{
    for (size_t i = index + 1; i < s->count; i++)
        if (s->segments[i].kind == SEGMENT_GOOD)
            return s->segments[i].first;
    return s->next_serial;
}

/* --- one segment being read --- */

void spool_close_reader(struct spool *s)
{
    if (s->read.fd >= 0)
        (void)s->disk->close(s->disk, s->read.fd);
    s->read.fd = -1;
}

static uint32_t *note_of(struct segment *g, uint64_t serial)
{
    uint64_t i = serial - g->first;
    uint32_t count = g->note_count, *more;

    if (i < count)
        return &g->notes[i];
    count = MAX((uint32_t)i + 1, MIN(2 * count, (uint32_t)SPOOL_SEGMENT_FRAMES));
    count = MAX(count, MIN(g->frames, (uint32_t)SPOOL_SEGMENT_FRAMES));
    more = reallocarray(g->notes, count, sizeof *more);
    if (more == NULL)
        return NULL;
    memset(more + g->note_count, 0, (count - g->note_count) * sizeof *more);
    g->notes = more;
    g->note_count = count;
    return &g->notes[i];
}

struct ack_reader {
    struct spool *spool;
    struct segment *segment;
};

static int note_ack(void *user, uint64_t serial, uint32_t records)
{
    const struct ack_reader *a = user;
    struct segment *g = a->segment;
    uint32_t *note, first, count;

    if (serial > g->last)
        return 0;
    if (spool_part_decode(records, &first, &count)) {
        spool_add_part(a->spool, serial, first, count, false);
        return 0;
    }
    note = note_of(g, serial);
    if (note == NULL)
        return -ENOMEM;
    if ((*note & NOTE_DONE) != 0)
        return 0;
    if ((*note & NOTE_GIVEN) != 0) {
        g->frames_open--;
        g->records_open -= *note & NOTE_RECORDS;
    }
    *note |= NOTE_DONE;
    g->frames_done++;
    g->records_done += records;
    return 0;
}

/* Learns which frames are done, from the beginning or what came since.  Acknowledgements that cannot
 * be read cost duplicates, and keep nobody waiting. */
static int look_at_acks(struct spool *s, struct segment *g)
{
    int r;

    spool_count_out(s, g);
    if (g->notes == NULL && g->ack_seen == 0) {
        g->frames_done = 0; /* counted at the start, and now again */
        g->records_done = 0;
    }
    r = spool_read_acks(s, g, note_ack, &(struct ack_reader){s, g});
    spool_count_in(s, g);
    if (r < 0)
        s->stats.error = r;
    return r == -ENOMEM ? r : 0;
}

/* Nothing comes any more from a segment: what was never found in it is lost. */
static void pass(struct spool *s, struct segment *g)
{
    uint64_t frames = (uint64_t)g->frames_done + g->frames_open;
    uint64_t records = g->records_done + g->records_open;

    spool_count_out(s, g);
    if (g->records > records)
        s->stats.lost_records += g->records - records;
    g->records = MIN(g->records, records);
    g->frames = (uint32_t)MIN(frames, (uint64_t)g->frames);
    spool_count_in(s, g);
    g->passed = true;
}

static void note_damage(struct spool *s, struct segment *g, uint64_t from, uint64_t to)
{
    if (to <= from)
        return;
    spool_note_damage(s, g, from, to - from);
    g->damaged = true;
}

/* Whether a place that cannot be read has been tried so often that it is damage: no hole in the disk
 * may keep all behind it.  Its segment will be kept aside. */
static bool is_hopeless(struct spool *s, const struct segment *g, uint64_t at)
{
    if (s->read.tried_number != g->number || s->read.tried_at != at)
        s->read.tries = 0;
    s->read.tried_number = g->number;
    s->read.tried_at = at;
    return ++s->read.tries >= SPOOL_READ_TRIES;
}

/* The head of the next frame of this segment: 1, 0 or -errno. */
static int next_head(struct spool *s, struct segment *g, uint64_t limit, struct spool_head *ret)
{
    int r = spool_seek(s, s->read.fd, g, g->read_at, g->end, g->read_serial, limit, false, ret);

    if (r < 0 && is_hopeless(s, g, g->read_at))
        r = spool_seek(s, s->read.fd, g, g->read_at, g->end, g->read_serial, limit, true, ret);
    if (r < 0)
        return r;
    note_damage(s, g, g->read_at, r == 1 ? ret->at : g->end);
    g->read_at = r == 1 ? ret->at : g->end;
    return r;
}

/* Reads a frame and checks it: 1; 0: it does not hold; or -errno. */
static int load_frame(struct spool *s, int fd, const struct segment *g, const struct spool_head *h,
                      struct spool_frame *ret)
{
    struct buf *b = &s->read.frame;
    int r;

    buf_reset(b);
    r = buf_reserve(b, h->len);
    if (r == 0)
        r = spool_pread(s, fd, b->ptr, h->len, h->at);
    if (r != 1)
        return r;
    b->len = h->len;
    if (!spool_frame_decode(buf_slice(b), h->at, g->seed, ret) || ret->serial != h->serial)
        return 0;
    ret->segment = g->number;
    return 1;
}

/* Records that an earlier run was told are done. */
static void skip_parts(const struct spool *s, struct spool_frame *f)
{
    for (size_t i = 0; i < s->part_count; i++)
        for (uint32_t k = 0; s->parts[i].serial == f->serial && k < s->parts[i].count; k++) {
            uint32_t n = s->parts[i].first + k;
            f->skip[n / 64] |= UINT64_C(1) << n % 64;
        }
}

/* The next frame of a segment that is open: 1, 0 or -errno. */
static int next_frame(struct spool *s, size_t index, bool any, struct spool_frame *ret)
{
    struct segment *g = &s->segments[index];
    uint64_t limit = spool_serial_limit(s, index);
    struct spool_head h;
    int r;

    while (g->read_at < g->end && (r = next_head(s, g, limit, &h)) != 0) {
        uint32_t *note = r == 1 ? note_of(g, h.serial) : NULL;

        if (r < 0 || note == NULL)
            return r < 0 ? r : -ENOMEM;
        if ((*note & NOTE_DONE) != 0 && !any) {
            g->read_at = h.at + h.len;
            g->read_serial = h.serial;
            continue;
        }
        r = load_frame(s, s->read.fd, g, &h, ret);
        if (r < 0 && (r == -ENOMEM || !is_hopeless(s, g, h.at)))
            return r;
        g->read_at = h.at + h.len;
        g->read_serial = h.serial;
        if (r != 1) {
            note_damage(s, g, h.at, h.at + h.len);
            continue;
        }
        ret->done = (*note & NOTE_DONE) != 0;
        skip_parts(s, ret);
        *note |= NOTE_GIVEN | (h.records & NOTE_RECORDS);
        if (!ret->done) {
            g->frames_open++;
            g->records_open += h.records;
        }
        return 1;
    }
    return 0;
}

/* Makes a segment the one that is read: 1; 0: it is gone; or -errno. */
static int enter_segment(struct spool *s, struct segment *g)
{
    int fd;

    if (s->read.fd >= 0 && s->read.number == g->number)
        return 1;
    spool_close_reader(s);
    fd = spool_open_file(s, g->number, SPOOL_FILE_SEGMENT, O_RDONLY);
    if (fd == -ENOENT)
        return 0;
    if (fd < 0)
        return fd;
    s->read.fd = fd;
    s->read.number = g->number;
    return 1;
}

/* --- all of them --- */

/* What could not be looked at may be well now: 1 if one is, and then it is read next. */
static int look_again(struct spool *s)
{
    if (s->job.runs)
        return 0; /* which knows segments by their numbers, but reads directories' descriptors */
    for (size_t i = 0; i < s->count; i++)
        if (s->segments[i].kind == SEGMENT_UNREAD && spool_look_again(s, i) == 1) {
            s->read.index = MIN(s->read.index, i);
            return 1;
        }
    return 0;
}

static int read_next(struct spool *s, bool any, struct spool_frame *ret)
{
    int r = s->looked ? 0 : s->job.runs ? -EAGAIN : spool_look(s);

    if (r < 0)
        return r;
    for (;;) {
        struct segment *g = s->read.index < s->count ? &s->segments[s->read.index] : NULL;

        if (g == NULL) {
            if (look_again(s) == 0)
                return 0;
            continue;
        }
        if (g->kind != SEGMENT_GOOD || g->passed) {
            s->read.index++;
            continue;
        }
        r = enter_segment(s, g);
        if (r == 0) {
            s->stats.missing += !s->read_only; /* the agent itself sends them off */
            pass(s, g);
            continue;
        }
        if (r == 1)
            r = look_at_acks(s, g);
        if (r == 0)
            r = next_frame(s, s->read.index, any, ret);
        if (r != 0)
            return r;
        if (s->read.index + 1 == s->count)
            return look_again(s) == 1 ? read_next(s, any, ret) : 0;
        pass(s, g);
    }
}

int spool_read(struct spool *s, struct spool_frame *ret)
{
    return read_next(s, false, ret);
}

int spool_read_any(struct spool *s, struct spool_frame *ret)
{
    return read_next(s, true, ret);
}

void spool_rest(struct spool *s)
{
    buf_done(&s->read.frame);
}

/* --- facts --- */

/* What a killed run has written is in the kernel's memory, and a power cut may take it back: it must be
 * durable before its facts count. */
static int sync_last(struct spool *s)
{
    int fd = -1, r;

    if (s->read_only || s->tail_known)
        return 0;
    r = spool_sync_tail(s, s->dir_fd, s->segments[s->count - 1].number);
    if (r == 0)
        r = s->disk->sync_dir(s->disk, s->dir_fd);
    if (r == 0)
        r = spool_enter(s, true, &fd);
    if (r < 0)
        return r;
    (void)s->disk->close(s->disk, fd);
    s->dirs_known = s->tail_known = true;
    return 0;
}

/* The facts of one segment from *next on: 1 if all of them were told. */
static int tell_facts(struct spool *s, size_t index, uint64_t *next,
                      int (*take)(void *user, uint64_t serial, struct slice facts), void *user)
{
    const struct segment *g = &s->segments[index];
    uint64_t at = SPOOL_HEADER_LEN, serial = g->first - 1, limit = spool_serial_limit(s, index);
    int fd = spool_open_file(s, g->number, SPOOL_FILE_SEGMENT, O_RDONLY), r;
    struct spool_frame f;
    struct spool_head h;

    if (fd < 0)
        return fd;
    while ((r = spool_seek(s, fd, g, at, g->end, serial, limit, false, &h)) == 1) {
        at = h.at + h.len;
        serial = h.serial;
        if (h.serial < *next)
            continue;
        r = h.serial == *next ? load_frame(s, fd, g, &h, &f) : 0;
        if (r != 1)
            break; /* damaged or missing: facts build on one another */
        r = take(user, h.serial, f.facts);
        if (r != 0)
            break;
        ++*next;
    }
    (void)s->disk->close(s->disk, fd);
    return r < 0 ? r : serial < *next;
}

int spool_facts(struct spool *s, int (*take)(void *user, uint64_t serial, struct slice facts),
                void *user)
{
    uint64_t next = s->merged + 1;
    int r = s->looked ? 0 : spool_look(s);

    for (size_t i = 0; i < s->count && r == 0; i++) {
        const struct segment *g = &s->segments[i];
        bool is_last = i + 1 == s->count;

        if (g->kind != SEGMENT_GOOD || spool_serial_limit(s, i) <= next)
            continue;
        if (g->first > next)
            return 0;
        r = is_last ? sync_last(s) : 0;
        if (r == 0)
            r = tell_facts(s, i, &next, take, user);
        if (r == 0)
            return 0;
        r = MIN(r, 0);
    }
    spool_rest(s);
    return r;
}
