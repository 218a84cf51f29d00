#include "keep/dead_dir.h"

#include "buf.h"
#include "crc32c.h"
#include "disk.h"
#include "keep/dead.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DIR_MODE = 0700,
    MARK_SIZE = 24,
    MARK_CRC_AT = 20,
    /* A letter has more than a hundred bytes: no segment has more marks than this, but for those
     * that were written twice. */
    MARKS_BYTES_MAX = DEAD_READ_MAX,
    EMPTY_MAX = 4096, /* what is longer has something in it */
};

/* Half of what sixteen digits can say.  A stray file beyond it must not take the numbers that are left:
 * what is numbered with more digits nobody would find. */
static const uint64_t number_stray = UINT64_C(5000000000000000);

static const char outer_name[] = "dead", damaged_suffix[] = ".damaged";

/* --- the directory --- */

bool dead_dir_is_name(const char *name)
{
    return name[0] != '\0' && strlen(name) <= NAME_MAX && strchr(name, '/') == NULL &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int make_dir(const struct disk *disk, int dir_fd, const char *name)
{
    int r = disk->mkdir(disk, dir_fd, name, DIR_MODE);

    return r == -EEXIST ? 0 : r;
}

int dead_dir_open(const struct disk *disk, int state_dir_fd, const char *name, bool make,
                  int *ret_fd)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
    int outer, r = make ? make_dir(disk, state_dir_fd, outer_name) : 0;

    if (r < 0)
        return r;
    outer = disk->open(disk, state_dir_fd, outer_name, flags, 0);
    if (outer < 0)
        return outer;
    if (make && (r = make_dir(disk, outer, name)) == 0 && (r = disk->sync_dir(disk, outer)) == 0)
        r = disk->sync_dir(disk, state_dir_fd);
    if (r == 0)
        r = disk->open(disk, outer, name, flags, 0);
    (void)disk->close(disk, outer);
    if (r < 0)
        return r;
    *ret_fd = r;
    return 0;
}

void dead_marks_name(uint64_t segment, char to[DEAD_NAME_LEN])
{
    (void)snprintf(to, DEAD_NAME_LEN, "dead-%016" PRIu64 ".done", segment);
}

static int add_number(uint64_t **numbers, size_t *count, uint64_t n)
{
    uint64_t *more;

    if ((*count & (*count - 1)) == 0) { /* full at every power of two */
        more = reallocarray(*numbers, *count > 0 ? 2 * *count : 1, sizeof(**numbers));
        if (more == NULL)
            return -ENOMEM;
        *numbers = more;
    }
    (*numbers)[(*count)++] = n;
    return 0;
}

static int list_name(void *user, const char *name)
{
    struct dead_list *l = user;
    uint64_t number = dead_number_of_name(name);
    char marks[DEAD_NAME_LEN];
    int r = 0;

    if (number == 0)
        return 0;
    /* Those moved aside count as well, so that none of them is ever replaced. */
    if (number <= number_stray)
        l->next = MAX(l->next, number + 1);
    l->damaged += slice_ends_with(slice_of(name), slice_of(damaged_suffix));
    dead_marks_name(number, marks);
    if (dead_segment_of_name(name) > 0)
        r = add_number(&l->segments, &l->count, number);
    else if (strcmp(name, marks) == 0)
        r = add_number(&l->marked, &l->marked_count, number);
    return r;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y ? 1 : 0;
}

int dead_dir_list(const struct disk *disk, int dir_fd, struct dead_list *ret)
{
    struct dead_list l = {.next = 1};
    int r = disk->list(disk, dir_fd, list_name, &l);

    if (r < 0) {
        dead_list_done(&l);
        return r;
    }
    if (l.count > 0)
        qsort(l.segments, l.count, sizeof(*l.segments), compare_numbers);
    if (l.marked_count > 0)
        qsort(l.marked, l.marked_count, sizeof(*l.marked), compare_numbers);
    *ret = l;
    return 0;
}

void dead_list_done(struct dead_list *l)
{
    free(l->segments);
    free(l->marked);
    *l = (struct dead_list){0};
}

/* --- marks --- */

struct mark {
    struct dead_range range;
    uint32_t flags;
};

static void put_le(char *to, uint64_t n, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (char)(n >> 8 * i & 0xff);
}

static uint64_t get_le(const char *from, size_t bytes)
{
    uint64_t n = 0;

    for (size_t i = 0; i < bytes; i++)
        n |= (uint64_t)(unsigned char)from[i] << 8 * i;
    return n;
}

static void write_mark(char to[MARK_SIZE], const struct mark *m, uint32_t seed)
{
    put_le(to, m->range.from, 8);
    put_le(to + 8, m->range.to, 8);
    put_le(to + 16, m->flags, 4);
    put_le(to + MARK_CRC_AT, crc32c(seed, to, MARK_CRC_AT), 4);
}

static bool read_mark(const char from[MARK_SIZE], uint32_t seed, struct mark *ret)
{
    *ret = (struct mark){{get_le(from, 8), get_le(from + 8, 8)}, (uint32_t)get_le(from + 16, 4)};
    return get_le(from + MARK_CRC_AT, 4) == crc32c(seed, from, MARK_CRC_AT);
}

static int compare_ranges(const void *a, const void *b)
{
    const struct dead_range *x = a, *y = b;

    return x->from < y->from ? -1 : x->from > y->from ? 1 : 0;
}

/* Ascending and apart; returns how many they are now. */
static size_t join_ranges(struct dead_range *ranges, size_t count)
{
    size_t kept = 0;

    if (count == 0)
        return 0;
    qsort(ranges, count, sizeof(*ranges), compare_ranges);
    for (size_t i = 1; i < count; i++)
        if (ranges[i].from <= ranges[kept].to)
            ranges[kept].to = MAX(ranges[kept].to, ranges[i].to);
        else
            ranges[++kept] = ranges[i];
    return kept + 1;
}

static int take_marks(struct slice text, uint32_t seed, struct dead_marks *ret)
{
    struct dead_marks m = {0};

    if (text.len < MARK_SIZE)
        return 0;
    m.ranges = calloc(text.len / MARK_SIZE, sizeof(*m.ranges));
    if (m.ranges == NULL)
        return -ENOMEM;
    for (; text.len >= MARK_SIZE; text = slice_from(text, MARK_SIZE)) {
        struct mark mark;
        bool holds = read_mark(text.ptr, seed, &mark);

        if (holds)
            m.ranges[m.count++] = mark.range;
        m.all_to = holds && mark.range.from == 0 ? mark.range.to : 0;
    }
    m.count = join_ranges(m.ranges, m.count);
    *ret = m;
    return 0;
}

int dead_marks_read(const struct disk *disk, int dir_fd, uint64_t segment, uint32_t seed,
                    struct dead_marks *ret)
{
    char name[DEAD_NAME_LEN];
    struct buf text;
    int fd, r;

    *ret = (struct dead_marks){0};
    dead_marks_name(segment, name);
    fd = disk->open(disk, dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    buf_init(&text, MARKS_BYTES_MAX);
    r = disk_read_all(disk, fd, &text);
    if (r == 0)
        r = take_marks(buf_slice(&text), seed, ret);
    buf_done(&text);
    (void)disk->close(disk, fd);
    return r;
}

void dead_marks_done(struct dead_marks *m)
{
    free(m->ranges);
    *m = (struct dead_marks){0};
}

bool dead_marks_have(const struct dead_marks *m, uint64_t at)
{
    size_t low = 0, high = m->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (at < m->ranges[middle].from)
            high = middle;
        else if (at >= m->ranges[middle].to)
            low = middle + 1;
        else
            return true;
    }
    return false;
}

/* All or none: what could only be written in part is taken back, and if that cannot be, then what
 * is there holds all the same, mark by mark. */
static int append_durably(const struct disk *disk, int dir_fd, int fd, struct slice text)
{
    uint64_t size;
    int r = disk->size(disk, fd, &size);

    if (r < 0)
        return r;
    if (size % MARK_SIZE != 0) { /* somebody was interrupted */
        size -= size % MARK_SIZE;
        r = disk->truncate(disk, fd, size);
        if (r < 0)
            return r;
    }
    r = disk_write_all(disk, fd, text);
    if (r < 0) {
        (void)disk->truncate(disk, fd, size);
        return r;
    }
    r = disk->sync(disk, fd);
    if (r == 0 && size == 0)
        r = disk->sync_dir(disk, dir_fd);
    return r;
}

int dead_marks_append(const struct disk *disk, int dir_fd, uint64_t segment, uint32_t seed,
                      const struct dead_range *ranges, size_t count, uint32_t flags)
{
    char name[DEAD_NAME_LEN], mark[MARK_SIZE];
    struct buf text;
    int fd, r = 0;

    if (count == 0)
        return 0;
    buf_init(&text, SIZE_MAX);
    for (size_t i = 0; i < count && r == 0; i++) {
        write_mark(mark, &(struct mark){ranges[i], flags}, seed);
        r = buf_append(&text, (struct slice){mark, sizeof mark});
    }
    dead_marks_name(segment, name);
    fd = r < 0 ? r
               : disk->open(disk, dir_fd, name,
                            O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd >= 0) {
        r = append_durably(disk, dir_fd, fd, buf_slice(&text));
        (void)disk->close(disk, fd);
    } else {
        r = fd;
    }
    buf_done(&text);
    return r;
}

/* --- tidying --- */

/* Reads up to `len` bytes from `at`: how many there were. */
static ssize_t read_at(const struct disk *disk, int fd, char *to, size_t len, uint64_t at)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = disk->read_at(disk, fd, to + done, len - done, at + done);

        if (n == -EINTR)
            continue;
        if (n < 0)
            return n;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* Reads the header: 1 and its seed; 0 if there is none that we understand. */
static int read_seed(const struct disk *disk, int fd, uint64_t segment, uint32_t *ret_seed)
{
    char text[DEAD_HEADER_MAX];
    ssize_t n = read_at(disk, fd, text, sizeof text, 0);
    struct slice rest = {text, n > 0 ? (size_t)n : 0};

    return n < 0 ? (int)n : dead_read_header(&rest, segment, ret_seed) == 0;
}

/* Whether the last mark says that all of the segment is done: 1 or 0. */
static int is_all_done(const struct disk *disk, int dir_fd, int segment_fd, uint64_t segment,
                       uint64_t size, uint32_t *ret_flags)
{
    char name[DEAD_NAME_LEN], text[MARK_SIZE];
    struct mark mark;
    uint64_t marks = 0;
    uint32_t seed;
    ssize_t n;
    int fd, r = read_seed(disk, segment_fd, segment, &seed);

    if (r <= 0)
        return r;
    dead_marks_name(segment, name);
    fd = disk->open(disk, dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return fd;
    r = disk->size(disk, fd, &marks);
    n = 0;
    if (r == 0 && marks >= MARK_SIZE)
        n = read_at(disk, fd, text, sizeof text, marks - marks % MARK_SIZE - MARK_SIZE);
    (void)disk->close(disk, fd);
    if (r < 0 || n < 0)
        return r < 0 ? r : (int)n;
    if (n != MARK_SIZE || !read_mark(text, seed, &mark))
        return 0;
    *ret_flags = mark.flags;
    return mark.range.from == 0 && mark.range.to >= size;
}

/* Whether nothing was ever in it: a run has ended as it began this segment.  1 or 0. */
static int is_empty(const struct disk *disk, int fd, uint64_t segment, uint64_t size)
{
    char text[EMPTY_MAX];
    struct slice rest;
    uint32_t seed;
    ssize_t n;

    if (size > sizeof text)
        return 0;
    n = read_at(disk, fd, text, sizeof text, 0);
    if (n < 0)
        return (int)n;
    rest = (struct slice){text, (size_t)n};
    return memchr(text, '\n', rest.len) == NULL ||
           (dead_read_header(&rest, segment, &seed) == 0 && rest.len == 0);
}

static bool has_number(const uint64_t *numbers, size_t count, uint64_t n)
{
    return count > 0 && bsearch(&n, numbers, count, sizeof n, compare_numbers) != NULL;
}

/* All of it is done. */
static int send_off(const struct disk *disk, int dir_fd, const char *name, uint32_t flags,
                    struct dead_report *report)
{
    char aside[DEAD_NAME_LEN + sizeof damaged_suffix];
    int r;

    if ((flags & DEAD_MARK_DAMAGED) != 0) {
        (void)snprintf(aside, sizeof aside, "%s%s", name, damaged_suffix);
        r = disk->rename(disk, dir_fd, name, aside);
        report->damaged += r == 0;
    } else {
        r = disk->unlink(disk, dir_fd, name);
    }
    report->removed += r == 0;
    return r < 0 ? r : 1;
}

/* A link, a socket, a directory, a pipe: it stays as it is. */
static bool is_not_ours(int error)
{
    return error == -ELOOP || error == -ENXIO || error == -EISDIR || error == -ESPIPE;
}

/* 1 if the segment has left. */
static int tidy_segment(const struct disk *disk, int dir_fd, const struct dead_list *l,
                        uint64_t segment, struct dead_report *report)
{
    char name[DEAD_NAME_LEN];
    uint32_t flags = 0;
    uint64_t size = 0;
    int fd, r;

    dead_segment_name(segment, name);
    fd = disk->open(disk, dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
    if (fd < 0)
        return is_not_ours(fd) ? 0 : fd;
    r = disk->size(disk, fd, &size);
    if (r == 0 && (r = is_empty(disk, fd, segment, size)) == 1)
        r = send_off(disk, dir_fd, name, 0, report);
    if (r == 0 && has_number(l->marked, l->marked_count, segment)) {
        r = is_all_done(disk, dir_fd, fd, segment, size, &flags);
        if (r == 1)
            r = send_off(disk, dir_fd, name, flags, report);
    }
    (void)disk->close(disk, fd);
    if (is_not_ours(r))
        return 0;
    if (r <= 0) {
        report->segments++;
        report->bytes += size;
    }
    return r;
}

int dead_dir_tidy(const struct disk *disk, int dir_fd, const struct dead_list *l,
                  struct dead_report *report)
{
    uint64_t *gone = l->count > 0 ? calloc(l->count, sizeof(*gone)) : NULL;
    size_t gone_count = 0, orphans = 0;
    int r = 0, e;

    if (l->count > 0 && gone == NULL)
        return -ENOMEM;
    report->damaged += l->damaged;
    for (size_t i = 0; i < l->count; i++) {
        e = tidy_segment(disk, dir_fd, l, l->segments[i], report);
        if (e == 1)
            gone[gone_count++] = l->segments[i];
        else if (e < 0)
            r = e; /* and on: the others may be well */
    }
    for (size_t i = 0; i < l->marked_count; i++)
        orphans += !has_number(l->segments, l->count, l->marked[i]) ||
                   has_number(gone, gone_count, l->marked[i]);
    if (orphans > 0 && (e = disk->sync_dir(disk, dir_fd)) < 0)
        r = e;
    else
        for (size_t i = 0; i < l->marked_count; i++) {
            char name[DEAD_NAME_LEN];

            if (has_number(l->segments, l->count, l->marked[i]) &&
                !has_number(gone, gone_count, l->marked[i]))
                continue;
            dead_marks_name(l->marked[i], name);
            e = disk->unlink(disk, dir_fd, name);
            r = e < 0 ? e : r;
        }
    free(gone);
    return r;
}
