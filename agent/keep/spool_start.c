/* What is there at a start.  Segments are looked at from the last to the first, as each header says
 * where the segment before it ends. */
#include "keep/spool_inner.h"

#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum {
    DIR_MODE = 0700,
    ACKS_MAX = 2 * SPOOL_SEGMENT_FRAMES * SPOOL_ACK_LEN,
    ACK_TRIES = 16, /* acknowledgements from which the seed of a segment that is gone is guessed */
};

static const char spool_dir_name[] = "spool";

/* Serials stay below this, so that sums of them do not overflow. */
static const uint64_t serial_max = UINT64_MAX / 4;

/* No frame of ours ends behind it: a file may be much longer, and be a hole for the rest. */
static const uint64_t segment_end_max = (uint64_t)SPOOL_SEGMENT_MAX + SPOOL_FRAME_MAX;

int spool_enter(struct spool *s, bool make, int *ret_fd)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
    int outer, r = 0;

    if (make)
        r = s->disk->mkdir(s->disk, s->state_dir_fd, spool_dir_name, DIR_MODE);
    if (r < 0 && r != -EEXIST)
        return r;
    outer = s->disk->open(s->disk, s->state_dir_fd, spool_dir_name, flags, 0);
    if (outer < 0)
        return outer;
    r = make ? s->disk->mkdir(s->disk, outer, s->name, DIR_MODE) : 0;
    if (r == -EEXIST)
        r = 0;

    /* Also if they were there: whoever made them may have been killed before this. */
    if (r == 0 && make && (r = s->disk->sync_dir(s->disk, outer)) == 0)
        r = s->disk->sync_dir(s->disk, s->state_dir_fd);
    if (r == 0)
        r = s->disk->open(s->disk, outer, s->name, flags, 0);
    (void)s->disk->close(s->disk, outer);
    if (r < 0)
        return r;
    *ret_fd = r;
    return 0;
}

int spool_sync_tail(struct spool *s, int dir_fd, uint64_t number)
{
    char name[SPOOL_NAME_LEN];
    int fd, r;

    spool_segment_name(number, name);
    fd = s->disk->open(s->disk, dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd; /* then there is nothing to lose */
    r = s->disk->sync(s->disk, fd);
    (void)s->disk->close(s->disk, fd);
    return r;
}

/* --- one segment --- */

/* What could not be read so often is counted without the places that cannot be: one bad sector must not
 * keep the rest of its segment. */
static bool is_hopeless(const struct segment *g)
{
    return g->tries >= SPOOL_READ_TRIES;
}

/* Counts the frames up to `end` by their heads.  Gives where the last good one ends.  The very last
 * frame of all may be torn, however good its head is, and is then as if it were not there. */
static int count_frames(struct spool *s, int fd, struct segment *g, uint64_t end, uint64_t limit,
                        bool is_last, uint64_t *ret_end)
{
    uint64_t at = SPOOL_HEADER_LEN, serial = g->first - 1, serial_before = serial;
    struct spool_head h, found = {0};
    bool blind = is_hopeless(g);
    int r;

    g->records = 0;
    while ((r = spool_seek(s, fd, g, at, end, serial, limit, blind, &h)) == 1) {
        g->records += h.records;
        serial_before = serial;
        serial = h.serial;
        at = h.at + h.len;
        found = h;
    }
    if (r == 0 && is_last && serial >= g->first) {
        r = spool_check_payload(s, fd, g, &found);
        if (r < 0 && blind)
            r = 1; /* the reader will see */
        if (r == 0) {
            g->records -= found.records;
            serial = serial_before;
            at = found.at;
        }
    }
    if (r < 0)
        return r;
    *ret_end = at;
    g->last = serial;

    /* Those that are damaged count, too, until the reader has passed by: they may be acknowledged, and
     * must not stand for others then. */
    g->frames = (uint32_t)(serial + 1 - g->first);
    return 0;
}

/* What a sealed segment says of itself: 1, 0 or -errno. */
static int read_footer(const struct spool *s, int fd, struct segment *g, uint64_t end)
{
    char bytes[SPOOL_FOOTER_LEN];
    struct spool_footer footer;
    uint64_t at = g->size - SPOOL_FOOTER_LEN;
    int r;

    if (g->size < SPOOL_HEADER_LEN + SPOOL_FOOTER_LEN || (end != 0 && at != end))
        return 0;
    r = spool_pread(s, fd, bytes, sizeof bytes, at);
    if (r < 0 && is_hopeless(g))
        return 0;
    if (r <= 0 || !spool_footer_decode(bytes, at, g->seed, &footer))
        return MIN(r, 0);
    g->frames = (uint32_t)footer.frames;
    g->records = footer.records;
    g->end = at;
    g->last = g->first + footer.frames - 1;
    return 1;
}

/* The segment behind it, if its header tells of this one. */
static const struct segment *next_good(const struct spool *s, size_t index)
{
    for (size_t i = index + 1; i < s->count; i++)
        if (s->segments[i].kind == SEGMENT_GOOD)
            return &s->segments[i];
    return NULL;
}

/* Where the frames of a segment end, and how many there are. */
static int measure(struct spool *s, int fd, size_t index)
{
    struct segment *g = &s->segments[index];
    const struct segment *next = next_good(s, index);
    bool is_last = next == NULL;
    uint64_t limit = next != NULL ? next->first : UINT64_MAX, known = 0, end;
    int r;

    if (next != NULL && next->number == g->number + 1)
        known = next->before_end;
    if (known > g->size) {
        spool_note_damage(s, g, g->size, known - g->size);
        g->damaged = true;
        known = g->size;
    }
    r = is_last ? 0 : read_footer(s, fd, g, known);
    if (r != 0)
        return MIN(r, 0);
    end = known != 0 ? known : MIN(g->size, segment_end_max);
    r = count_frames(s, fd, g, end, limit, is_last, &end);
    if (r < 0)
        return r;
    g->end = known != 0 ? known : end;
    if (known != 0) {
        /* However its end is damaged: serials have no gaps where the next one knew of this one. */
        g->last = MIN(MAX(g->last, next->first - 1), g->first + SPOOL_SEGMENT_FRAMES - 1);
        g->frames = (uint32_t)(g->last + 1 - g->first);
    }
    if (is_last && g->size > end) {
        r = read_footer(s, fd, g, end);
        s->stats.torn = s->stats.torn || r == 0;
    }
    return MIN(r, 0);
}

enum verdict {
    VERDICT_GOOD,
    VERDICT_NEWER,
    VERDICT_NEVER_FINISHED,
    VERDICT_DAMAGED,
    VERDICT_FOREIGN
};

static enum verdict judge_header(const struct spool *s, const char bytes[SPOOL_HEADER_LEN],
                                 size_t index, struct segment *g)
{
    const struct segment *next = next_good(s, index);
    struct spool_header h;
    int r = spool_header_decode(bytes, &h);

    if (r == -ENOTSUP)
        return VERDICT_NEWER;
    if (r < 0) {
        /* What a crash leaves of a segment that was just begun: the checksum comes last. */
        static const char zeros[4];
        bool torn = g->size < SPOOL_HEADER_LEN ||
                    memcmp(bytes + SPOOL_HEADER_LEN - sizeof zeros, zeros, sizeof zeros) == 0;

        return torn && index + 1 == s->count ? VERDICT_NEVER_FINISHED : VERDICT_DAMAGED;
    }
    if (h.owner != s->owner)
        return VERDICT_FOREIGN;
    if (h.segment != g->number || h.first_serial == 0 || h.first_serial > serial_max ||
        (next != NULL && h.first_serial > next->first))
        return VERDICT_DAMAGED;
    g->first = h.first_serial;
    g->before_end = h.before_end;
    g->seed = h.seed;
    g->before_seed = h.before_seed;
    return VERDICT_GOOD;
}

/* Reads the header.  Errors: those of a disk; what is no file at all is damaged. */
static int look_at_header(struct spool *s, int fd, size_t index, enum verdict *ret)
{
    struct segment *g = &s->segments[index];
    char bytes[SPOOL_HEADER_LEN] = {0};
    uint64_t at = 0;
    int r = s->disk->size(s->disk, fd, &g->size);

    while (r == 0 && at < sizeof bytes) {
        ssize_t n = s->disk->read_at(s->disk, fd, bytes + at, sizeof bytes - at, at);

        if (n == -EISDIR || n == -ESPIPE) {
            *ret = VERDICT_DAMAGED;
            return 0;
        }
        if (n == 0)
            break;
        if (n < 0 && n != -EINTR)
            return (int)n;
        at += n > 0 ? (uint64_t)n : 0;
    }
    if (r < 0)
        return r;
    *ret = judge_header(s, bytes, index, g);
    return 0;
}

static void note_error(struct spool *s, int r)
{
    s->look_error = r;
    s->stats.error = r;
}

/* The segment gets another name, and is none any more. */
static void move_aside(struct spool *s, uint64_t number, enum spool_file file)
{
    char from[SPOOL_NAME_LEN], to[SPOOL_NAME_LEN];
    int r;

    if (s->read_only)
        return;
    spool_file_name(number, SPOOL_FILE_SEGMENT, from);
    spool_file_name(number, file, to);
    r = s->disk->rename(s->disk, s->dir_fd, from, to);
    if (r < 0)
        note_error(s, r);
    else if (file == SPOOL_FILE_DAMAGED)
        s->stats.moved_aside++;
    spool_file_name(number, SPOOL_FILE_ACK, from);
    if (r == 0)
        (void)s->disk->unlink(s->disk, s->dir_fd, from); /* or the next start does */
}

/* A header that a power cut took may have another one's bytes in its place: one with this number that is
 * gone, whose checksum holds.  But it stood behind another segment, and says so; or behind the same one
 * as the one before it, which then had failed and kept its number.  Only the last one can be of that
 * kind; what is in it was never durable. */
static void drop_stale(struct spool *s, size_t index)
{
    const struct segment *g = &s->segments[index], *next = g + 1;

    if (index + 2 != s->count || next->kind != SEGMENT_GOOD || next->number != g->number + 1 ||
        next->before_seed == 0 || next->before_seed == g->seed ||
        next->before_seed == g->before_seed)
        return;
    spool_count_out(s, next);
    spool_note_damage(s, &s->segments[index + 1], 0, next->size);
    move_aside(s, next->number, SPOOL_FILE_DAMAGED);
    spool_remove_segment(s, index + 1);
}

static void unlink_unfinished(struct spool *s, const struct segment *g)
{
    char name[SPOOL_NAME_LEN];
    int r;

    s->stats.torn = s->stats.torn || g->size > 0;
    if (s->read_only)
        return;
    spool_file_name(g->number, SPOOL_FILE_SEGMENT, name);
    r = s->disk->unlink(s->disk, s->dir_fd, name);
    if (r < 0)
        note_error(s, r);
    else if (g->number + 1 == s->next_number)
        s->next_number = g->number; /* or the next start would find a hole in the numbers */
}

struct seen {
    struct segment *segment;
    uint8_t bits[SPOOL_SEGMENT_FRAMES / 8];
};

static int count_ack(void *user, uint64_t serial, uint32_t records)
{
    struct seen *seen = user;
    struct segment *g = seen->segment;
    uint64_t i = serial - g->first;
    uint32_t first, count;

    if (spool_part_decode(records, &first, &count) || i >= g->frames ||
        (seen->bits[i / 8] & 1 << i % 8) != 0)
        return 0;
    seen->bits[i / 8] = (uint8_t)(seen->bits[i / 8] | 1 << i % 8);
    g->frames_done++;
    g->records_done += records;
    return 0;
}

/* What was found out about an open segment, and what comes of it: true if it stays in the list. */
static bool settle(struct spool *s, size_t index, int fd, enum verdict verdict)
{
    struct segment *g = &s->segments[index];
    int r;

    switch (verdict) {
    case VERDICT_NEVER_FINISHED:
        unlink_unfinished(s, g);
        return false;
    case VERDICT_FOREIGN:
        s->stats.foreign++;
        move_aside(s, g->number, SPOOL_FILE_FOREIGN);
        return false;
    case VERDICT_DAMAGED:
        spool_note_damage(s, g, 0, g->size);
        move_aside(s, g->number, SPOOL_FILE_DAMAGED);
        return false;
    case VERDICT_NEWER:
        s->stats.newer++;
        g->kind = SEGMENT_NEWER;
        s->stats.bytes += g->size;
        return true;
    case VERDICT_GOOD:
        break;
    }
    drop_stale(s, index);
    r = measure(s, fd, index);
    if (r < 0) {
        note_error(s, r);
        return true;
    }
    g->kind = SEGMENT_GOOD;
    s->next_number = MAX(s->next_number, g->number + 1);
    g->read_at = SPOOL_HEADER_LEN;
    g->read_serial = g->first - 1;
    return true;
}

/* Looks at a segment in the list: false if it is none any more. */
static bool look_at(struct spool *s, size_t index)
{
    struct segment *g = &s->segments[index];
    enum verdict verdict = VERDICT_DAMAGED;
    int fd = spool_open_file(s, g->number, SPOOL_FILE_SEGMENT, O_RDONLY), r = 0;
    bool stays;

    g->kind = SEGMENT_UNREAD;
    if (fd == -ENOENT)
        return false; /* gone since it was listed */
    if (fd < 0 && fd != -ELOOP && fd != -ENXIO) {
        note_error(s, fd);
        return true;
    }
    if (fd >= 0)
        r = look_at_header(s, fd, index, &verdict);
    if (r < 0) {
        note_error(s, r);
        stays = true;
    } else {
        stays = settle(s, index, fd, verdict);
    }
    if (fd >= 0)
        (void)s->disk->close(s->disk, fd);
    g = &s->segments[index];
    if (stays && g->kind == SEGMENT_GOOD) {
        struct seen seen = {.segment = g};

        r = spool_read_acks(s, g, count_ack, &seen);
        if (r < 0)
            note_error(s, r); /* costs duplicates */

        /* A run that was killed may have written them and not more. */
        spool_mark_acks(s, g, g->ack_size > 0 && !s->read_only);
        spool_count_in(s, g);
        g->ack_seen = 0; /* read again for the notes */
    }
    return stays;
}

int spool_look_again(struct spool *s, size_t index)
{
    if (s->segments[index].kind != SEGMENT_UNREAD)
        return 0;
    if (!is_hopeless(&s->segments[index]))
        s->segments[index].tries++;
    if (!look_at(s, index)) {
        spool_remove_segment(s, index);
        return 1;
    }
    return s->segments[index].kind == SEGMENT_GOOD;
}

/* --- the directory --- */

struct name {
    uint64_t number;
    enum spool_file file;
};

struct names {
    struct name *all; /* owns */
    size_t count, cap;
};

static int add_name(void *user, const char *name)
{
    struct names *names = user;
    struct name found;

    if (!spool_file_of_name(name, &found.number, &found.file))
        return 0;
    if (names->count == names->cap) {
        size_t cap = MAX(2 * names->cap, (size_t)64);
        struct name *more = reallocarray(names->all, cap, sizeof *more);

        if (more == NULL)
            return -ENOMEM;
        names->all = more;
        names->cap = cap;
    }
    names->all[names->count++] = found;
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    const struct name *x = a, *y = b;

    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return (int)x->file - (int)y->file;
}

/* Whether there may be one at this place: of a frame before `next`.  Gives how far before. */
static bool ack_begins(const char *at, uint64_t next, uint64_t *ret_back, uint32_t *ret_records,
                       uint32_t *ret_part)
{
    uint64_t serial;

    spool_ack_peek(at, &serial, ret_records, ret_part);
    *ret_back = next - 1 - serial;
    return serial < next && *ret_back < SPOOL_SEGMENT_FRAMES;
}

/* Whether acknowledgements with this part of a seed go back without a gap from the last frame before
 * `next`.  A torn one puts all behind it out of step. */
static bool acks_cover(struct slice text, uint32_t part, uint64_t next)
{
    uint8_t bits[SPOOL_SEGMENT_FRAMES / 8] = {0};
    uint32_t records, other, first, count;
    uint64_t farthest = 0, back;

    while (text.len >= SPOOL_ACK_LEN) {
        if (!ack_begins(text.ptr, next, &back, &records, &other) || other != part) {
            text = slice_from(text, 1);
            continue;
        }
        text = slice_from(text, SPOOL_ACK_LEN);
        if (spool_part_decode(records, &first, &count))
            continue;
        bits[back / 8] = (uint8_t)(bits[back / 8] | 1 << back % 8);
        farthest = MAX(farthest, back);
    }
    for (uint64_t i = 0; i <= farthest; i++)
        if ((bits[i / 8] & 1 << i % 8) == 0)
            return false;
    return true;
}

/* Whether the acknowledgements that a segment left behind say that all of it was done.  The first ones
 * may be what a crash made of them, so that the seed is not theirs. */
static bool covers_its_segment(const struct spool *s, uint64_t number, uint64_t next)
{
    int fd = spool_open_file(s, number, SPOOL_FILE_ACK, O_RDONLY), tries = 0;
    bool covers = false;
    struct slice all;
    struct buf text;

    if (fd < 0)
        return true;
    buf_init(&text, ACKS_MAX);
    covers = disk_read_all(s->disk, fd, &text) < 0; /* nobody knows */
    all = buf_slice(&text);
    for (size_t at = 0; at + SPOOL_ACK_LEN <= all.len && tries < ACK_TRIES && !covers; at++) {
        uint32_t records, part;
        uint64_t back;

        if (!ack_begins(all.ptr + at, next, &back, &records, &part))
            continue;
        covers = acks_cover(all, part, next);
        tries++;
    }
    buf_done(&text);
    (void)s->disk->close(s->disk, fd);
    return covers;
}

static void add_missing(struct spool *s, uint64_t count)
{
    uint64_t room = UINT32_MAX - s->stats.missing;

    s->stats.missing += (uint32_t)MIN(room, count);
}

/* An .ack without its segment: what a crash left between the two when the segment was sent off, or
 * all that is left of one that is missing.  Those in a hole are counted there. */
static void tidy_orphan(struct spool *s, uint64_t number)
{
    const struct segment *front = s->count > 0 ? &s->segments[0] : NULL;
    char name[SPOOL_NAME_LEN];
    int r;

    if (front == NULL || number > s->segments[s->count - 1].number)
        add_missing(s, 1); /* the last one never leaves */
    else if (front->kind == SEGMENT_GOOD && number + 1 == front->number &&
             !covers_its_segment(s, number, front->first))
        add_missing(s, 1);
    if (s->read_only)
        return;

    /* Who sent the segment off may have been killed before its name was durably gone; if it comes back
     * it must find these. */
    spool_file_name(number, SPOOL_FILE_ACK, name);
    r = s->disk->sync_dir(s->disk, s->dir_fd);
    if (r == 0)
        r = s->disk->unlink(s->disk, s->dir_fd, name);
    if (r < 0 && r != -ENOENT)
        note_error(s, r);
}

static uint64_t first_good_number(const struct spool *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->segments[i].kind == SEGMENT_GOOD)
            return s->segments[i].number;
    return UINT64_MAX;
}

/* Goes through the names again, now that it is known which segments there are.  Before the first one
 * there are no holes, only what was kept aside. */
static void look_for_holes(struct spool *s, const struct names *names)
{
    uint64_t first = first_good_number(s), last = 0; /* that is accounted for */

    for (size_t i = 0; i < names->count; i++) {
        const struct name *n = &names->all[i];
        bool same_before = i > 0 && n[-1].number == n->number;
        bool same_behind = i + 1 < names->count && n[1].number == n->number;

        if (n->file == SPOOL_FILE_ACK) {
            if (!same_before && !same_behind)
                tidy_orphan(s, n->number);
        } else if (n->number >= first && n->number < s->next_number) {
            if (last != 0 && n->number > last + 1)
                add_missing(s, n->number - last - 1);
            last = n->number;
        }
    }
}

static int list_segments(struct spool *s, struct names *names)
{
    int r = s->disk->list(s->disk, s->dir_fd, add_name, names);

    if (r == 0 && names->count > 0)
        qsort(names->all, names->count, sizeof *names->all, compare_names);
    for (size_t i = 0; i < names->count && r == 0; i++) {
        struct segment *g;

        if (names->all[i].number <= SPOOL_NUMBER_STRAY)
            s->next_number = MAX(s->next_number, names->all[i].number + 1);
        if (names->all[i].file != SPOOL_FILE_SEGMENT)
            continue;
        r = spool_add_segment(s, &g);
        if (r == 0)
            g->number = names->all[i].number;
    }
    return r;
}

/* Serials go on behind the last frame.  What cannot be read at the end may have frames, too: theirs are
 * passed over, so that none is ever given to two. */
static void find_next_serial(struct spool *s)
{
    uint64_t last = 0;
    size_t i = s->count, unknown;

    while (i > 0 && s->segments[i - 1].kind != SEGMENT_GOOD)
        i--;
    unknown = s->count - i;
    if (i > 0)
        last = s->segments[i - 1].last;
    s->stats.lost_end = unknown == 0 && last < s->merged;
    s->next_serial = MAX(s->next_serial, last + 1) + unknown * SPOOL_SEGMENT_FRAMES;
}

int spool_look(struct spool *s)
{
    struct names names = {0};
    int r = s->dir_fd < 0 ? spool_enter(s, false, &s->dir_fd) : 0;

    s->stats.error = s->look_error = 0;
    if (r == -ENOENT) {
        s->stats.lost_end = s->merged > 0;
        s->looked = true;
        return 0;
    }
    if (r == 0)
        r = list_segments(s, &names);
    if (r < 0) {
        free(names.all);
        s->count = 0;
        note_error(s, r);
        return r;
    }
    s->looked = true;
    for (size_t i = s->count; i > 0; i--)
        if (!look_at(s, i - 1))
            spool_remove_segment(s, i - 1);
    find_next_serial(s);
    look_for_holes(s, &names);
    free(names.all);
    return 0;
}
