#include "keep/letters.h"

#include "buf.h"
#include "disk.h"
#include "keep/dead_dir.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

struct letters {
    const struct disk *disk;
    int dir_fd; /* owns; it carries the lock */
    struct dead_list list;
    struct letters_stats stats;

    /* The segment being read. */
    size_t next; /* in the list */
    bool open;
    uint64_t segment;
    uint32_t seed;
    struct buf text;
    struct slice rest;
    struct dead_marks marks;
    struct dead_found found;

    struct letters_place *noted; /* owns: an array of noted_cap */
    size_t noted_count, noted_cap;
};

/* --- the segments --- */

static uint64_t size_of(struct letters *l, const char *name)
{
    uint64_t size = 0;
    int fd = l->disk->open(l->disk, l->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);

    if (fd < 0)
        return 0;
    (void)l->disk->size(l->disk, fd, &size);
    (void)l->disk->close(l->disk, fd);
    return size;
}

static void count_bytes(struct letters *l)
{
    char name[DEAD_NAME_LEN];

    l->stats.segments = l->list.count;
    l->stats.damaged = l->list.damaged;
    for (size_t i = 0; i < l->list.count; i++) {
        dead_segment_name(l->list.segments[i], name);
        l->stats.bytes += size_of(l, name);
    }
    for (size_t i = 0; i < l->list.marked_count; i++) {
        dead_marks_name(l->list.marked[i], name);
        l->stats.bytes += size_of(l, name);
    }
}

int letters_open(const struct disk *disk, int state_dir_fd, const char *name, bool mark,
                 struct letters **ret)
{
    struct letters *l;
    int r;

    if (!dead_dir_is_name(name))
        return -EINVAL;
    l = calloc(1, sizeof *l);
    if (l == NULL)
        return -ENOMEM;
    l->disk = disk;
    l->dir_fd = -1;
    buf_init(&l->text, DEAD_READ_MAX);
    dead_found_init(&l->found);
    r = dead_dir_open(disk, state_dir_fd, name, false, &l->dir_fd);

    /* Of the directory itself: it goes with the process, and needs no file of its own. */
    if (r == 0 && mark && flock(l->dir_fd, LOCK_EX | LOCK_NB) < 0)
        r = errno == EWOULDBLOCK ? -EBUSY : -errno;
    if (r == 0)
        r = dead_dir_list(disk, l->dir_fd, &l->list);
    if (r < 0) {
        letters_close(l);
        return r;
    }
    count_bytes(l);
    *ret = l;
    return 0;
}

static void leave_segment(struct letters *l)
{
    l->open = false;
    l->rest = (struct slice){0};
    dead_marks_done(&l->marks);
}

void letters_close(struct letters *l)
{
    if (l == NULL)
        return;
    leave_segment(l);
    buf_done(&l->text);
    dead_found_done(&l->found);
    dead_list_done(&l->list);
    free(l->noted);
    if (l->dir_fd >= 0)
        (void)l->disk->close(l->disk, l->dir_fd);
    free(l);
}

const struct letters_stats *letters_stats(const struct letters *l)
{
    return &l->stats;
}

void letters_rewind(struct letters *l)
{
    leave_segment(l);
    l->next = 0;
}

/* --- reading --- */

/* All of a segment, as it is now.  Errors: -EMSGSIZE: it is too large to be one of ours. */
static int load(struct letters *l, uint64_t segment)
{
    char name[DEAD_NAME_LEN];
    int fd, r;

    buf_reset(&l->text);
    dead_segment_name(segment, name);
    fd = l->disk->open(l->disk, l->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    r = disk_read_all(l->disk, fd, &l->text);
    (void)l->disk->close(l->disk, fd);
    return r;
}

/* Enters a segment: 1; 0 if there is nothing in it, or it has left meanwhile. */
static int enter(struct letters *l, uint64_t segment)
{
    int r = load(l, segment);

    if (r < 0)
        return r == -ENOENT ? 0 : r;
    l->rest = buf_slice(&l->text);
    if (l->rest.len == 0 || memchr(l->rest.ptr, '\n', l->rest.len) == NULL)
        return 0; /* whoever began it has not come far */
    r = dead_read_header(&l->rest, segment, &l->seed);
    if (r == 0)
        r = dead_marks_read(l->disk, l->dir_fd, segment, l->seed, &l->marks);
    if (r < 0)
        return r;
    l->segment = segment;
    l->open = true;
    return 1;
}

/* What a segment is that could not be entered. */
static int tell_segment(uint64_t segment, int error, struct letters_item *ret)
{
    *ret = (struct letters_item){.place.segment = segment, .error = error};
    switch (error) {
    case -ENOMEM:
        return -ENOMEM;
    case -ENOTSUP:
        ret->kind = LETTERS_NEWER;
        break;
    case -EBADMSG:
    case -EMSGSIZE:
    case -ELOOP: /* a link, a directory, a socket */
    case -EISDIR:
    case -ENXIO:
        ret->kind = LETTERS_DAMAGED;
        break;
    default:
        ret->kind = LETTERS_ERROR;
        break;
    }
    return 1;
}

/* The next line of the segment that is open: 1, or 0 at its end. */
static int next_line(struct letters *l, struct dead_found *found, struct letters_item *ret)
{
    uint64_t at = l->text.len - l->rest.len;
    enum dead_line line;

    if (!dead_next(&l->rest, l->seed, &line, found) || line == DEAD_LINE_TORN)
        return 0;
    *ret = (struct letters_item){
        .kind = line == DEAD_LINE_LETTER ? LETTERS_LETTER : LETTERS_DAMAGED,
        .place = {l->segment, l->seed, at, l->text.len - l->rest.len},
        .done = dead_marks_have(&l->marks, at),
    };
    if (line == DEAD_LINE_LETTER && found != NULL) {
        ret->time = found->time;
        ret->letter = &found->letter;
    }
    return 1;
}

int letters_next(struct letters *l, struct letters_item *ret)
{
    for (;;) {
        uint64_t segment;
        int r;

        if (l->open && next_line(l, &l->found, ret) == 1)
            return 1;
        leave_segment(l);
        if (l->next == l->list.count)
            return 0;
        segment = l->list.segments[l->next];
        r = enter(l, segment);
        if (r == -ENOMEM)
            return r;
        l->next++;
        if (r < 0)
            return tell_segment(segment, r, ret);
    }
}

/* --- marking --- */

int letters_mark(struct letters *l, const struct letters_place *p)
{
    struct letters_place *last = l->noted_count > 0 ? &l->noted[l->noted_count - 1] : NULL;

    /* One behind the other, as most often: as one, so that any number of letters costs no
     * memory. */
    if (last != NULL && last->segment == p->segment && last->end == p->at) {
        last->end = p->end;
        return 0;
    }
    if (l->noted_count == l->noted_cap) {
        size_t cap = MAX((size_t)64, 2 * l->noted_cap);
        struct letters_place *more = reallocarray(l->noted, cap, sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        l->noted = more;
        l->noted_cap = cap;
    }
    l->noted[l->noted_count++] = *p;
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct letters_place *x = a, *y = b;

    if (x->segment != y->segment)
        return x->segment < y->segment ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at ? 1 : 0;
}

/* Writes the marks of noted[0 .. count), which are all of one segment: those that touch as one. */
static int write_marks(struct letters *l, const struct letters_place *noted, size_t count)
{
    struct dead_range *ranges = calloc(count, sizeof(*ranges));
    size_t n = 0;
    int r;

    if (ranges == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (n > 0 && ranges[n - 1].to == noted[i].at)
            ranges[n - 1].to = noted[i].end;
        else
            ranges[n++] = (struct dead_range){noted[i].at, noted[i].end};
    r = dead_marks_append(l->disk, l->dir_fd, noted->segment, noted->seed, ranges, n, 0);
    free(ranges);
    return r;
}

int letters_commit(struct letters *l)
{
    size_t from = 0;
    int r = 0;

    if (l->noted_count > 0)
        qsort(l->noted, l->noted_count, sizeof(*l->noted), compare_places);
    for (size_t i = 1; i <= l->noted_count && r == 0; i++)
        if (i == l->noted_count || l->noted[i].segment != l->noted[from].segment) {
            r = write_marks(l, l->noted + from, i - from);
            from = i;
        }
    l->noted_count = 0;
    return r;
}

/* --- tidying --- */

/* Looks whether all letters of a segment are done, and notes that: so nobody has to look again. */
static int finish_segment(struct letters *l, uint64_t segment, bool is_over)
{
    struct dead_range all = {0};
    struct letters_item item;
    bool done = true, damaged = false;
    int r = enter(l, segment);

    if (r == 0)
        return 0;
    if (r < 0) {
        r = tell_segment(segment, r, &item);
        return r == 1 && item.kind == LETTERS_ERROR ? item.error : MIN(r, 0);
    }
    while (done && next_line(l, NULL, &item) == 1) {
        damaged = damaged || item.kind == LETTERS_DAMAGED;
        done = item.kind == LETTERS_DAMAGED || item.done;
        all.to = item.place.end;
    }
    if (is_over) /* nothing comes behind a torn end any more */
        all.to = l->text.len;
    if (done && l->marks.all_to < all.to)
        r = dead_marks_append(l->disk, l->dir_fd, segment, l->seed, &all, 1,
                              damaged ? DEAD_MARK_DAMAGED : 0);
    leave_segment(l);
    return MIN(r, 0);
}

/* There are new marks, and perhaps new segments. */
static int list_again(struct letters *l)
{
    int r;

    leave_segment(l);
    dead_list_done(&l->list);
    r = dead_dir_list(l->disk, l->dir_fd, &l->list);
    l->next = l->list.count; /* it has been read */
    return r;
}

int letters_finish(struct letters *l)
{
    size_t m = 0;
    int r = list_again(l);

    for (size_t i = 0; i < l->list.count && r == 0; i++) {
        while (m < l->list.marked_count && l->list.marked[m] < l->list.segments[i])
            m++;
        if (m < l->list.marked_count && l->list.marked[m] == l->list.segments[i])
            r = finish_segment(l, l->list.segments[i], i + 1 < l->list.count);
    }
    return r;
}

int letters_tidy(struct letters *l, uint32_t *ret_left)
{
    struct dead_report report = {0};
    int r = list_again(l);

    *ret_left = 0;
    if (r == 0 && l->list.count > 0 && l->list.marked_count > 0)
        r = finish_segment(l, l->list.segments[l->list.count - 1], true);
    if (r == 0)
        r = dead_dir_tidy(l->disk, l->dir_fd, &l->list, &report);
    *ret_left = report.removed;
    return r;
}
