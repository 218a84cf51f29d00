/* The spool: what was called durable is given out again, once, and nothing else, whatever the files and
 * the disk went through. */
#include "keep/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "crc32c.h"
#include "disk.h"
#include "keep/spool_format.h"
#include "util.h"

/* --- a state directory of its own --- */

static char dir_path[64];
static int state_fd = -1;

static void empty(int parent, const char *name)
{
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, e->d_name, 0) == 0)
            continue;
        empty(fd, e->d_name);
        assert_int_equal(unlinkat(fd, e->d_name, AT_REMOVEDIR), 0);
    }
    closedir(d);
}

static int dir_begin(void **state)
{
    (void)state;
    (void)snprintf(dir_path, sizeof dir_path, "%s/kinetail-spool-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(dir_path) == NULL)
        return -1;
    state_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return state_fd < 0 ? -1 : 0;
}

static int dir_end(void **state)
{
    (void)state;
    empty(state_fd, ".");
    close(state_fd);
    return rmdir(dir_path);
}

static const char *path_of(uint64_t segment, enum spool_file file)
{
    static char path[100];
    char name[SPOOL_NAME_LEN];

    spool_file_name(segment, file, name);
    (void)snprintf(path, sizeof path, "spool/web/%s", name);
    return path;
}

static bool has(uint64_t segment, enum spool_file file)
{
    return faccessat(state_fd, path_of(segment, file), F_OK, 0) == 0;
}

static void file_put(uint64_t segment, enum spool_file file, struct slice text)
{
    int fd;

    (void)mkdirat(state_fd, "spool", 0700);
    (void)mkdirat(state_fd, "spool/web", 0700);
    fd = openat(state_fd, path_of(segment, file), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(disk_write_all(&disk_system, fd, text), 0);
    close(fd);
}

static void file_get(uint64_t segment, enum spool_file file, struct buf *to)
{
    int fd = openat(state_fd, path_of(segment, file), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    buf_reset(to);
    assert_int_equal(disk_read_all(&disk_system, fd, to), 0);
    close(fd);
}

static uint64_t file_size(uint64_t segment, enum spool_file file)
{
    struct stat st;

    return fstatat(state_fd, path_of(segment, file), &st, 0) == 0 ? (uint64_t)st.st_size : 0;
}

/* --- frames: all of one is made of a number --- */

static size_t data_len = 100; /* of each record */

static unsigned records_of(uint64_t n)
{
    return (unsigned)(n % 3) + 1;
}

static struct slice facts_of(uint64_t n)
{
    static char text[80];

    (void)snprintf(text, sizeof text, "at %" PRIu64 " %.*s\n", n, (int)(n % 13), "abcdefghijklm");
    return slice_of(text);
}

static const struct spool_source two_sources[] = {
    {SLICE("web"), SLICE("/var/log/a.log")},
    {SLICE("db"), SLICE("")},
};

/* The k-th record of the frame; `data` has room for data_len. */
static struct spool_record record_of(uint64_t n, unsigned k, char *data)
{
    static char key[40];

    for (size_t i = 0; i < data_len; i++)
        data[i] = (char)(n * 31 + k * 7 + i);
    (void)snprintf(key, sizeof key, "key %" PRIu64, n);
    return (struct spool_record){.source = (uint16_t)(k % 2),
                                 .offset = n * 1000 + k,
                                 .end = n * 1000 + k + 1,
                                 .key = k == 1 ? (struct slice){NULL, 0} : slice_of(key),
                                 .data = {data, k == 2 ? 0 : data_len}};
}

static struct spool_settings settings = {
    .name = "web", .limit_bytes = 16 * 1024 * 1024, .min_free_bytes = 0};

static struct spool *open_with(const struct disk *disk)
{
    struct spool *s = NULL;

    assert_int_equal(spool_open(state_fd, disk, &settings, &s), 0);
    return s;
}

static struct spool *open_it(void)
{
    return open_with(&disk_system);
}

static int job(struct spool *s, uint64_t *ret)
{
    spool_job_begin(s);
    spool_job_run(s);
    return spool_job_end(s, ret);
}

/* Puts frame `n`; its serial or what went wrong. */
static int64_t put(struct spool *s, uint64_t n)
{
    char *data = malloc(data_len + 1);
    uint64_t serial = 0;
    int r;

    assert_non_null(data);
    r = spool_frame_begin(s, (int64_t)n, two_sources, 2, facts_of(n));
    assert_int_equal(r, 0);
    spool_job_begin(s);
    for (unsigned k = 0; k < records_of(n); k++) {
        struct spool_record record = record_of(n, k, data);
        assert_int_equal(spool_add_record(s, &record), 0);
    }
    spool_job_run(s);
    r = spool_job_end(s, &serial);
    free(data);
    assert_true(r < 0 ? serial == 0 : serial > 0);
    return r < 0 ? r : (int64_t)serial;
}

/* Which frame it is; all of it must be as it was put. */
static uint64_t check_frame(const struct spool_frame *given)
{
    struct spool_frame f = *given;
    uint64_t n = (uint64_t)f.wall_ms;
    char *data = malloc(data_len + 1);
    struct spool_source source;
    struct spool_record r;

    assert_non_null(data);
    assert_int_equal(f.records, records_of(n));
    assert_int_equal(f.source_count, 2);
    assert_true(slice_equal(f.facts, facts_of(n)));
    for (unsigned k = 0; k < f.records; k++) {
        struct spool_record want = record_of(n, k, data);

        assert_true(spool_next(&f, &r, &source));
        assert_true(r.source == want.source && r.offset == want.offset && r.end == want.end);
        assert_true(slice_equal(r.key, want.key) && slice_equal(r.data, want.data));
        assert_true(slice_equal(source.flow, two_sources[r.source].flow));
        assert_true(slice_equal(source.path, two_sources[r.source].path));
    }
    assert_false(spool_next(&f, &r, &source));
    free(data);
    return n;
}

/* The next frame's number; 0 if there is none. */
static uint64_t next(struct spool *s, uint64_t *ret_serial)
{
    struct spool_frame f;
    int r = spool_read(s, &f);

    assert_true(r == 0 || r == 1);
    if (r == 0)
        return 0;
    assert_false(f.done);
    if (ret_serial != NULL)
        *ret_serial = f.serial;
    return check_frame(&f);
}

static uint64_t next_and_ack(struct spool *s)
{
    uint64_t serial = 0, n = next(s, &serial);

    if (n != 0)
        spool_ack(s, serial);
    return n;
}

/* --- stories --- */

static void test_life(void **state)
{
    struct spool *s = open_it();
    uint64_t serial, serials[4];
    struct stat st;

    (void)state;
    assert_int_equal(faccessat(state_fd, "spool", F_OK, 0), -1); /* nothing before there is one */
    assert_true(spool_stats(s)->frames == 0 && spool_stats(s)->error == 0 && !spool_wants_job(s));
    assert_int_equal(next(s, NULL), 0);
    assert_int_equal(job(s, &serial), 0);
    assert_int_equal(serial, 0);
    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(put(s, n), n);
    assert_true(spool_stats(s)->frames == 3 && spool_stats(s)->records == 2 + 3 + 1);
    assert_true(spool_stats(s)->bytes == file_size(1, SPOOL_FILE_SEGMENT));
    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(next(s, &serials[n]), n);
    assert_int_equal(next(s, NULL), 0);
    assert_int_equal(put(s, 4), 4);
    assert_int_equal(next(s, NULL), 4);
    assert_int_equal(next(s, NULL), 0);

    /* Acknowledged in any order. */
    spool_ack(s, serials[2]);
    spool_ack(s, serials[2]);
    spool_ack(s, 99);
    assert_true(spool_stats(s)->frames == 3 && spool_stats(s)->records == 5);
    assert_false(spool_wants_job(s));
    assert_int_equal(spool_write_acks(s), 0);
    assert_true(spool_wants_job(s) && file_size(1, SPOOL_FILE_ACK) == 16);
    assert_int_equal(job(s, &serial), 0);
    assert_false(spool_wants_job(s));
    spool_close(s);
    assert_int_equal(fstatat(state_fd, "spool/web", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(fstatat(state_fd, path_of(1, SPOOL_FILE_SEGMENT), &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    /* Another run: the others are there, and serials go on. */
    s = open_it();
    assert_true(spool_stats(s)->frames == 3 && spool_stats(s)->records == 5);
    assert_true(spool_stats(s)->damaged == 0 && !spool_stats(s)->torn);
    assert_int_equal(next_and_ack(s), 1);
    assert_int_equal(next_and_ack(s), 3);
    assert_int_equal(put(s, 5), 5);
    assert_true(has(2, SPOOL_FILE_SEGMENT));
    assert_int_equal(next_and_ack(s), 4);
    assert_int_equal(next_and_ack(s), 5);
    assert_int_equal(next_and_ack(s), 0);
    assert_true(spool_stats(s)->frames == 0 && spool_stats(s)->records == 0);
    assert_int_equal(spool_write_acks(s), 0);
    assert_int_equal(job(s, &serial), 0);
    assert_false(has(1, SPOOL_FILE_SEGMENT) || has(1, SPOOL_FILE_ACK));
    assert_true(spool_stats(s)->bytes ==
                file_size(2, SPOOL_FILE_SEGMENT) + file_size(2, SPOOL_FILE_ACK));
    spool_close(s);
    s = open_it();
    assert_true(spool_stats(s)->frames == 0 && spool_stats(s)->missing == 0);
    assert_int_equal(next(s, NULL), 0);
    assert_int_equal(put(s, 6), 6);
    spool_close(s);
    spool_close(NULL);
}

/* Cut off at every byte of the last frame: those before it are there, and the last one or nothing. */
static void test_torn(void **state)
{
    struct buf text;
    struct spool *s = open_it();
    uint64_t before;

    (void)state;
    buf_init(&text, 1 << 20);
    assert_int_equal(put(s, 1), 1);
    assert_int_equal(put(s, 2), 2);
    before = file_size(1, SPOOL_FILE_SEGMENT);
    assert_int_equal(put(s, 4), 3);
    spool_close(s);
    file_get(1, SPOOL_FILE_SEGMENT, &text);
    for (size_t len = before; len <= text.len; len++) {
        bool whole = len == text.len;

        empty(state_fd, "spool/web");
        file_put(1, SPOOL_FILE_SEGMENT, slice_first(buf_slice(&text), len));
        s = open_it();
        assert_true(spool_stats(s)->frames == (whole ? 3 : 2) && spool_stats(s)->damaged == 0);
        assert_int_equal(spool_stats(s)->torn, len > before && !whole);
        assert_int_equal(put(s, 5), whole ? 4 : 3);
        assert_int_equal(next_and_ack(s), 1);
        assert_int_equal(next_and_ack(s), 2);
        if (whole)
            assert_int_equal(next_and_ack(s), 4);
        assert_int_equal(next_and_ack(s), 5);
        assert_int_equal(next_and_ack(s), 0);
        assert_true(spool_stats(s)->damaged == 0 && spool_stats(s)->lost_records == 0);
        spool_close(s);
    }

    /* A first segment that was never finished. */
    for (size_t len = 0; len <= SPOOL_HEADER_LEN + 10; len++) {
        empty(state_fd, "spool/web");
        file_put(1, SPOOL_FILE_SEGMENT, slice_first(buf_slice(&text), len));
        s = open_it();
        assert_true(spool_stats(s)->frames == 0 && spool_stats(s)->damaged == 0);
        assert_true(spool_stats(s)->moved_aside == 0 && spool_stats(s)->missing == 0);
        assert_int_equal(spool_stats(s)->torn, len > 0 && len != SPOOL_HEADER_LEN);
        assert_int_equal(put(s, 5), 1);
        assert_int_equal(next_and_ack(s), 5);
        assert_int_equal(next_and_ack(s), 0);
        spool_close(s);
    }
    buf_done(&text);
}

/* Three frames of one segment and one of the next, as runs write them. */
static void make_four(struct buf *first, struct buf *second)
{
    struct spool *s = open_it();

    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(put(s, n), n);
    spool_close(s);
    s = open_it();
    assert_int_equal(put(s, 4), 4);
    spool_close(s);
    file_get(1, SPOOL_FILE_SEGMENT, first);
    file_get(2, SPOOL_FILE_SEGMENT, second);
}

/* Every bit: the others are there, the damaged segment lies aside when they are done, and the next
 * start is clean. */
static void test_flipped_bits(void **state)
{
    struct buf first, second;

    (void)state;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    make_four(&first, &second);
    for (size_t bit = 0; bit < first.len * 8; bit += bit % 8 == 7 ? 1 : 7) {
        bool header = bit / 8 < SPOOL_HEADER_LEN;
        const struct spool_stats *stats;
        uint64_t seen = 0, count = 0, n, serial;
        struct spool *s;

        empty(state_fd, "spool/web");
        first.ptr[bit / 8] = (char)(first.ptr[bit / 8] ^ 1 << bit % 8);
        file_put(1, SPOOL_FILE_SEGMENT, buf_slice(&first));
        first.ptr[bit / 8] = (char)(first.ptr[bit / 8] ^ 1 << bit % 8);
        file_put(2, SPOOL_FILE_SEGMENT, buf_slice(&second));
        s = open_it();
        stats = spool_stats(s);
        assert_int_equal(stats->error, 0);
        assert_int_equal(put(s, 5), 5);
        while ((n = next_and_ack(s)) != 0) {
            assert_true(n > seen);
            seen = n;
            count++;
        }
        assert_int_equal(seen, 5);
        assert_int_equal(count, header ? 2 : 4);
        assert_true(stats->damaged == 1 && stats->damaged_bytes > 0);
        assert_true(stats->frames == 0 && stats->records == 0);
        assert_int_equal(spool_write_acks(s), 0);
        assert_int_equal(job(s, &serial), 0);
        assert_int_equal(stats->moved_aside, 1);
        assert_true(has(1, SPOOL_FILE_DAMAGED) && !has(1, SPOOL_FILE_SEGMENT));
        assert_false(has(1, SPOOL_FILE_ACK) || has(2, SPOOL_FILE_SEGMENT));
        assert_int_equal(put(s, 6), 6);
        spool_close(s);
        s = open_it();
        stats = spool_stats(s);
        assert_true(stats->damaged == 0 && stats->missing == 0 && stats->frames == 1);
        assert_int_equal(next(s, NULL), 6);
        spool_close(s);
    }
    buf_done(&first);
    buf_done(&second);
}

/* --- a disk that fails --- */

enum fault {
    FAULT_ERROR,
    FAULT_SHORT, /* the first write is short, the next ones fail */
    FAULT_KILL,  /* from there on nothing has any effect */
};

struct faulty {
    struct disk disk;
    long until; /* so many calls succeed … */
    long times; /* … and so many fail then */
    enum fault fault;
    int error;
    const char *only;          /* if not NULL: opening this name fails, and nothing else */
    uint64_t bad_from, bad_to; /* bytes of any file that cannot be read */
    char log[64];              /* what was done, a letter for each call that changes something */
    long calls;
    bool tainted[1024]; /* descriptors that must not be written to any more */
    bool is_segment[1024], unsynced[1024];
    bool unsynced_name; /* something was made since the last sync of a directory */
};

static struct faulty *faulty_of(const struct disk *d)
{
    return CONTAINER_OF(d, struct faulty, disk);
}

static bool fails(const struct disk *d)
{
    struct faulty *f = faulty_of(d);
    long n = f->calls++;

    return f->only == NULL && n >= f->until && n - f->until < f->times;
}

static void note(const struct disk *d, char what)
{
    size_t len = strlen(faulty_of(d)->log);

    if (len + 1 < sizeof faulty_of(d)->log)
        faulty_of(d)->log[len] = what;
}

static int faulty_open(const struct disk *d, int dir, const char *name, int flags, mode_t mode)
{
    struct faulty *f = faulty_of(d);
    int fd;

    if (fails(d) || (f->only != NULL && strcmp(f->only, name) == 0))
        return -f->error;
    fd = disk_system.open(d, dir, name, flags, mode);
    if (fd >= 0 && (flags & O_CREAT) != 0)
        note(d, 'c');
    if (fd >= 0) {
        f->tainted[fd] = f->unsynced[fd] = false;
        f->is_segment[fd] = (flags & O_EXCL) != 0;
        f->unsynced_name = f->unsynced_name || (flags & O_EXCL) != 0;
    }
    return fd;
}

static ssize_t faulty_read(const struct disk *d, int fd, void *to, size_t len)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.read(d, fd, to, len);
}

static ssize_t faulty_read_at(const struct disk *d, int fd, void *to, size_t len, uint64_t offset)
{
    const struct faulty *f = faulty_of(d);

    if (fails(d) || (offset < f->bad_to && offset + len > f->bad_from))
        return -f->error;
    return disk_system.read_at(d, fd, to, len, offset);
}

static ssize_t faulty_write(const struct disk *d, int fd, const void *from, size_t len)
{
    struct faulty *f = faulty_of(d);
    long first = f->until;

    note(d, 'w');
    assert_false(f->tainted[fd]);
    f->unsynced[fd] = f->is_segment[fd];
    if (!fails(d))
        return disk_system.write(d, fd, from, len);
    if (f->fault == FAULT_SHORT && f->calls - 1 == first && len > 1)
        return disk_system.write(d, fd, from, len / 2);
    f->tainted[fd] = true;
    if (f->fault != FAULT_KILL)
        (void)disk_system.write(d, fd, from, len); /* a failure that is whole is the worst */
    return -f->error;
}

static int faulty_sync(const struct disk *d, int fd)
{
    struct faulty *f = faulty_of(d);

    note(d, 's');
    assert_false(f->tainted[fd]); /* nor is it asked again */
    f->tainted[fd] = fails(d);
    if (f->tainted[fd])
        return -f->error;
    f->unsynced[fd] = false;
    return disk_system.sync(d, fd);
}

static int faulty_sync_dir(const struct disk *d, int fd)
{
    note(d, 'd');
    if (fails(d))
        return -faulty_of(d)->error;
    faulty_of(d)->unsynced_name = false;
    return disk_system.sync_dir(d, fd);
}

static int faulty_rename(const struct disk *d, int dir, const char *from, const char *to)
{
    note(d, 'r');
    return fails(d) ? -faulty_of(d)->error : disk_system.rename(d, dir, from, to);
}

static int faulty_unlink(const struct disk *d, int dir, const char *name)
{
    note(d, 'u');
    return fails(d) ? -faulty_of(d)->error : disk_system.unlink(d, dir, name);
}

static int faulty_close(const struct disk *d, int fd)
{
    int r = disk_system.close(d, fd);

    faulty_of(d)->tainted[fd] = false;
    return fails(d) ? -faulty_of(d)->error : r;
}

static int faulty_truncate(const struct disk *d, int fd, uint64_t len)
{
    note(d, 't');
    return fails(d) ? -faulty_of(d)->error : disk_system.truncate(d, fd, len);
}

static int faulty_size(const struct disk *d, int fd, uint64_t *ret)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.size(d, fd, ret);
}

static int faulty_mkdir(const struct disk *d, int dir, const char *name, mode_t mode)
{
    note(d, 'm');
    return fails(d) ? -faulty_of(d)->error : disk_system.mkdir(d, dir, name, mode);
}

static int faulty_list(const struct disk *d, int fd, int (*each)(void *user, const char *name),
                       void *user)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.list(d, fd, each, user);
}

static int faulty_free_bytes(const struct disk *d, int fd, uint64_t *ret)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.free_bytes(d, fd, ret);
}

static const struct disk faulty_disk = {
    .open = faulty_open,
    .read = faulty_read,
    .write = faulty_write,
    .sync = faulty_sync,
    .sync_dir = faulty_sync_dir,
    .rename = faulty_rename,
    .unlink = faulty_unlink,
    .close = faulty_close,
    .read_at = faulty_read_at,
    .truncate = faulty_truncate,
    .size = faulty_size,
    .mkdir = faulty_mkdir,
    .list = faulty_list,
    .free_bytes = faulty_free_bytes,
};

enum { FRAMES = 9, TRIES = 9 };

/* What the caller was told, and what it was given. */
struct ledger {
    bool told[FRAMES + 1], acked[FRAMES + 1];
    unsigned given[FRAMES + 1]; /* in this run */
};

static bool put_it(struct spool *s, struct faulty *f, uint64_t n, struct ledger *l)
{
    for (int i = 0; i < (f->fault == FAULT_KILL ? 1 : TRIES); i++) {
        if (put(s, n) < 0)
            continue;
        for (size_t fd = 0; fd < ARRAY_LEN(f->unsynced); fd++)
            assert_false(f->unsynced[fd]);
        assert_false(f->unsynced_name);
        l->told[n] = true;
        return true;
    }
    return false;
}

static bool read_it(struct spool *s, struct faulty *f, bool ack, struct ledger *l)
{
    struct spool_frame frame;
    int r = -1;

    for (int i = 0; i < (f->fault == FAULT_KILL ? 1 : TRIES) && r < 0; i++)
        r = spool_read(s, &frame);
    if (r != 1)
        return r == 0;
    r = (int)check_frame(&frame);
    assert_true(l->told[r]);            /* nothing that failed is given out … */
    assert_int_equal(l->given[r]++, 0); /* … nor twice in a run */
    if (ack) {
        spool_ack(s, frame.serial);
        l->acked[r] = true;
    }
    return true;
}

/* A run: puts, reads, acknowledges every other, tidies up. */
static bool live(struct spool *s, struct faulty *f, struct ledger *l)
{
    uint64_t serial;

    for (uint64_t n = 1; n <= FRAMES; n++) {
        if (!put_it(s, f, n, l))
            return false;
        if (n % 3 == 0 && (!read_it(s, f, n != 6, l) || !read_it(s, f, true, l)))
            return false;
        for (int i = 0; i < 3 && spool_write_acks(s) < 0; i++)
            ;
        if (n % 4 == 0)
            for (int i = 0; i < 3 && spool_wants_job(s); i++)
                (void)job(s, &serial);
        (void)spool_has_room(s, 1000);
    }
    return true;
}

struct told_facts {
    uint64_t expected;
    struct ledger *ledger;
};

static int take_told(void *user, uint64_t serial, struct slice facts)
{
    struct told_facts *t = user;
    uint64_t n = 0;

    assert_int_equal(serial, t->expected++);
    assert_int_equal(sscanf(facts.ptr, "at %" SCNu64, &n), 1);
    assert_true(slice_equal(facts, facts_of(n)));
    return 0;
}

/* The next run, on a disk that is well: all that was called durable is there, once. */
static void look_after(const struct ledger *before, const char *what)
{
    struct ledger now = {0};
    struct told_facts facts = {.expected = 1, .ledger = &now};
    struct spool *s = open_it();
    uint64_t serial, n;

    assert_true(spool_stats(s)->error == 0 && spool_stats(s)->damaged == 0);
    assert_true(spool_stats(s)->missing == 0 && spool_stats(s)->moved_aside == 0);
    assert_int_equal(spool_facts(s, take_told, &facts), 0);
    while ((n = next_and_ack(s)) != 0)
        if (now.given[n]++ > 0)
            fail_msg("%s: frame %" PRIu64 " was given out twice", what, n);
    for (n = 1; n <= FRAMES; n++)
        if (before->told[n] && !before->acked[n] && now.given[n] == 0)
            fail_msg("%s: frame %" PRIu64 " is lost", what, n);
    assert_true(spool_stats(s)->damaged == 0 && spool_stats(s)->lost_records == 0);
    assert_true(spool_stats(s)->frames == 0 && spool_stats(s)->records == 0);
    assert_int_equal(spool_write_acks(s), 0);
    while (spool_wants_job(s))
        assert_int_equal(job(s, &serial), 0);
    spool_close(s);
    s = open_it();
    assert_int_equal(next(s, NULL), 0);
    assert_true(spool_stats(s)->missing == 0 && spool_stats(s)->moved_aside == 0);
    assert_true(spool_stats(s)->bytes <= 65 * 1024);
    spool_close(s);
}

/* The n-th call fails, for every n. */
static void sweep(enum fault fault, int error, long times)
{
    char what[100];
    long n = 0, calls = 0;

    data_len = 160 * 1000; /* so that segments fill up, too */
    do {
        struct faulty f = {
            .disk = faulty_disk, .until = n, .times = times, .fault = fault, .error = error};
        struct ledger l = {0};
        struct spool *s;

        empty(state_fd, ".");
        (void)snprintf(what, sizeof what, "fault %d, error %d, %ld times, call %ld", (int)fault,
                       error, times, n);
        s = open_with(&f.disk);
        if (!live(s, &f, &l) && fault != FAULT_KILL)
            fail_msg("%s: it did not recover", what);
        spool_close(s);
        calls = f.calls;
        look_after(&l, what);
        n++;
    } while (n < calls);
    data_len = 100;
}

static void test_every_call_fails(void **state)
{
    (void)state;
    sweep(FAULT_ERROR, EIO, 1);
    sweep(FAULT_ERROR, EIO, 4);
    sweep(FAULT_SHORT, ENOSPC, 2);
    sweep(FAULT_SHORT, EDQUOT, 5);
}

static void test_killed_at_every_call(void **state)
{
    (void)state;
    sweep(FAULT_KILL, EIO, 1000000);
}

/* --- what its files say --- */

struct facts_told {
    uint64_t serials[16];
    size_t count;
    int end_with;
};

static int take_facts(void *user, uint64_t serial, struct slice facts)
{
    struct facts_told *t = user;
    uint64_t n = 0;

    assert_true(t->count < ARRAY_LEN(t->serials));
    assert_int_equal(sscanf(facts.ptr, "at %" SCNu64, &n), 1);
    assert_true(slice_equal(facts, facts_of(n)));
    t->serials[t->count++] = serial;
    return t->end_with;
}

/* Facts are told from the frame after `merged` on, and end before the first that does not hold. */
static void test_facts(void **state)
{
    struct buf first, second;

    (void)state;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    make_four(&first, &second);
    for (uint64_t merged = 0; merged <= 5; merged++) {
        struct facts_told told = {0};
        struct spool *s;

        settings.merged = merged;
        s = open_it();
        assert_int_equal(spool_stats(s)->lost_end, merged == 5);
        assert_int_equal(spool_facts(s, take_facts, &told), 0);
        assert_int_equal(told.count, merged < 4 ? 4 - merged : 0);
        for (size_t i = 0; i < told.count; i++)
            assert_int_equal(told.serials[i], merged + 1 + i);
        assert_int_equal(put(s, 9), merged == 5 ? 6 : 5);
        spool_close(s);
        empty(state_fd, "spool/web");
        file_put(1, SPOOL_FILE_SEGMENT, buf_slice(&first));
        file_put(2, SPOOL_FILE_SEGMENT, buf_slice(&second));
    }

    /* Each byte of the first segment, and of the second: what stands before the wrong one. */
    for (int which = 0; which < 2; which++) {
        struct buf *text = which == 0 ? &first : &second;
        struct spool_head h;

        for (size_t i = 0; i < text->len; i += 3) {
            uint64_t at = SPOOL_HEADER_LEN, good = which == 0 ? 0 : 3;
            struct facts_told told = {0};
            struct spool *s;

            settings.merged = 0;
            while (at < text->len && spool_head_decode(text->ptr + at, at, &h) == 0) {
                if (i >= SPOOL_HEADER_LEN && i >= at + h.len)
                    good++;
                at += h.len;
            }
            text->ptr[i] = (char)(text->ptr[i] ^ 0x10);
            file_put(which == 0 ? 1 : 2, SPOOL_FILE_SEGMENT, buf_slice(text));
            text->ptr[i] = (char)(text->ptr[i] ^ 0x10);
            s = open_it();
            assert_int_equal(spool_facts(s, take_facts, &told), 0);
            assert_int_equal(told.count, good);
            spool_close(s);
            empty(state_fd, "spool/web");
            file_put(1, SPOOL_FILE_SEGMENT, buf_slice(&first));
            file_put(2, SPOOL_FILE_SEGMENT, buf_slice(&second));
        }
    }

    /* Whoever takes them may end it. */
    struct facts_told told = {.end_with = -ENOMEM};
    struct spool *s = open_it();
    assert_int_equal(spool_facts(s, take_facts, &told), -ENOMEM);
    assert_int_equal(told.count, 1);
    spool_close(s);

    /* The first of them is not there any more. */
    assert_int_equal(unlinkat(state_fd, path_of(1, SPOOL_FILE_SEGMENT), 0), 0);
    told = (struct facts_told){0};
    s = open_it();
    assert_int_equal(spool_facts(s, take_facts, &told), 0);
    assert_int_equal(told.count, 0);
    assert_int_equal(next(s, NULL), 4);
    spool_close(s);
    settings.merged = 3;
    s = open_it();
    assert_int_equal(spool_facts(s, take_facts, &told), 0);
    assert_true(told.count == 1 && told.serials[0] == 4);
    spool_close(s);
    settings.merged = 0;
    buf_done(&first);
    buf_done(&second);
}

/* Facts of what a killed run wrote are told only when it is durable. */
static void test_facts_are_durable(void **state)
{
    struct faulty f = {.disk = faulty_disk, .until = 1000000, .error = EIO};
    struct facts_told told = {0};
    struct spool *s = open_it();

    (void)state;
    assert_int_equal(put(s, 1), 1);
    spool_close(s);
    for (long n = 0;; n++) {
        f.calls = 0;
        f.until = 1000000;
        s = open_with(&f.disk);
        f.until = f.calls + n;
        f.times = 1;
        told.count = 0;
        memset(f.tainted, 0, sizeof f.tainted);
        if (spool_facts(s, take_facts, &told) == 0 && f.calls <= f.until)
            break;                                         /* none failed */
        assert_true(told.count == 0 || f.calls > f.until); /* but closing */
        spool_close(s);
    }
    assert_true(told.count == 1 && f.calls > 8);
    spool_close(s);
}

static void test_segments(void **state)
{
    uint64_t serial, count = 0, bytes;
    struct spool_footer footer;
    struct buf text;
    struct spool *s;

    (void)state;
    data_len = 200 * 1000;
    buf_init(&text, 1 << 23);
    s = open_it();
    while (!has(3, SPOOL_FILE_SEGMENT)) {
        assert_int_equal(put(s, count + 1), count + 1);
        count++;
    }
    for (uint64_t i = 1; i <= 2; i++) {
        file_get(i, SPOOL_FILE_SEGMENT, &text);
        assert_true(text.len >= SPOOL_SEGMENT_MIN && text.len < 2 * SPOOL_SEGMENT_MIN);
        uint32_t seed;
        memcpy(&seed, text.ptr + 12, 4);
        assert_true(spool_footer_decode(text.ptr + text.len - SPOOL_FOOTER_LEN,
                                        text.len - SPOOL_FOOTER_LEN, seed, &footer));
        assert_true(footer.frames > 1 && footer.frames < count);
    }
    assert_int_equal(spool_stats(s)->frames, count);
    spool_close(s);
    s = open_it();
    assert_int_equal(spool_stats(s)->frames, count);
    for (uint64_t n = 1; n <= count; n++)
        assert_int_equal(next_and_ack(s), n);
    assert_int_equal(spool_write_acks(s), 0);
    while (spool_wants_job(s))
        assert_int_equal(job(s, &serial), 0);

    /* Idle: nothing but a header. */
    assert_true(has(4, SPOOL_FILE_SEGMENT) && !has(3, SPOOL_FILE_SEGMENT));
    assert_int_equal(file_size(4, SPOOL_FILE_SEGMENT), SPOOL_HEADER_LEN);
    assert_int_equal(spool_stats(s)->bytes, SPOOL_HEADER_LEN);
    assert_int_equal(put(s, 7), count + 1);
    assert_false(has(5, SPOOL_FILE_SEGMENT));
    spool_close(s);

    /* The limit counts what is there and what comes; the oldest make room. */
    empty(state_fd, ".");
    settings.limit_bytes = 4 * SPOOL_SEGMENT_MIN;
    s = open_it();
    for (count = 0; spool_has_room(s, 3 * data_len) == 0; count++)
        assert_true(put(s, count + 1) > 0);
    bytes = spool_stats(s)->bytes;
    assert_true(bytes <= settings.limit_bytes && bytes > settings.limit_bytes * 3 / 4);
    assert_int_equal(spool_has_room(s, 3 * data_len), -EDQUOT);
    assert_int_equal(spool_has_room(s, UINT64_MAX), -EDQUOT);
    assert_int_equal(next(s, &serial), 1);
    assert_true(spool_stats(s)->frames == count);
    assert_true(spool_drop_oldest(s) > 1);
    assert_true(spool_stats(s)->frames < count && spool_stats(s)->bytes < bytes);
    assert_int_equal(spool_has_room(s, 3 * data_len), 0);
    spool_ack(s, serial); /* of the one that was dropped */
    assert_int_equal(spool_write_acks(s), 0);
    assert_true(spool_wants_job(s));
    assert_int_equal(job(s, &serial), 0);
    assert_true(!has(1, SPOOL_FILE_SEGMENT) && !has(1, SPOOL_FILE_ACK));
    assert_int_equal(next(s, NULL), count - spool_stats(s)->frames + 1);
    while (spool_drop_oldest(s) > 0)
        ;
    assert_true(spool_stats(s)->frames > 0 && spool_stats(s)->frames < count);
    assert_int_equal(job(s, &serial), 0);
    assert_int_equal(next(s, NULL), count - spool_stats(s)->frames + 1);
    spool_close(s);
    s = open_it();
    assert_int_equal(spool_stats(s)->missing, 0);
    spool_close(s);

    /* Room for others. */
    settings.min_free_bytes = UINT64_MAX;
    s = open_it();
    assert_int_equal(spool_has_room(s, 1), -ENOSPC);
    spool_close(s);
    settings.min_free_bytes = 0;
    settings.limit_bytes = 16 * SPOOL_SEGMENT_MIN;
    data_len = 100;
    buf_done(&text);
}

static void test_bounds(void **state)
{
    static const char zeros[70000];
    struct spool_source long_source = {{zeros, sizeof zeros}, SLICE("")};
    static const char *const bad[] = {"", ".", "..", "a/b", "/"};
    char *much = calloc(1, SPOOL_FRAME_MAX), name[SPOOL_NAME_LEN];
    struct spool_record r = {.data = {much, SPOOL_FRAME_MAX}};
    struct spool *s = open_it();
    uint64_t serial;

    (void)state;
    assert_non_null(much);
    assert_int_equal(spool_frame_begin(s, 0, &long_source, 1, SLICE("")), -EMSGSIZE);
    assert_int_equal(spool_frame_begin(s, 0, NULL, 0, (struct slice){much, SPOOL_FRAME_MAX}),
                     -EMSGSIZE);

    /* What does not fit is not written; the next one is. */
    for (int i = 0; i < 2; i++) {
        assert_int_equal(spool_frame_begin(s, 0, two_sources, 2, SLICE("")), 0);
        spool_job_begin(s);
        r.data.len = i == 0 ? SPOOL_FRAME_MAX : 1;
        r.key = (struct slice){much, i == 0 ? 0 : 70000};
        assert_int_equal(spool_add_record(s, &r), -EMSGSIZE);
        spool_job_run(s);
        assert_int_equal(spool_job_end(s, &serial), -EMSGSIZE);
        assert_int_equal(serial, 0);
    }
    assert_int_equal(spool_frame_begin(s, 0, two_sources, 2, SLICE("")), 0);
    spool_job_begin(s);
    spool_add_failed(s, -ENOMEM);
    spool_job_run(s);
    assert_int_equal(spool_job_end(s, &serial), -ENOMEM);
    assert_int_equal(serial, 0);
    assert_int_equal(put(s, 1), 1);
    data_len = 20 * 1000 * 1000;
    assert_int_equal(put(s, 3), 2); /* larger than a segment */
    spool_close(s);
    free(much);
    data_len = 100;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        settings.name = bad[i];
        assert_int_equal(spool_open(state_fd, &disk_system, &settings, &s), -EINVAL);
    }
    settings.name = "web";
    spool_segment_name(12, name);
    assert_string_equal(name, "spool-0000000000000012.seg");
    assert_int_equal(spool_segment_of_name(name), 12);
    assert_int_equal(spool_segment_of_name("spool-0000000000000000.seg"), 0);
    assert_int_equal(spool_segment_of_name("spool-0000000000000012.ack"), 0);
    assert_int_equal(spool_segment_of_name("spool-000000000000001x.seg"), 0);
    assert_int_equal(spool_segment_of_name("spool-9999999999999999.seg"), 0);
    assert_int_equal(spool_segment_of_name("spool-12.seg"), 0);
}

/* --- acknowledgements --- */

static void append_ack(uint64_t segment, struct slice bytes)
{
    int fd = openat(state_fd, path_of(segment, SPOOL_FILE_ACK),
                    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(disk_write_all(&disk_system, fd, bytes), 0);
    close(fd);
}

/* Others acknowledge, in the middle of it; what is torn or garbage is passed over. */
static void test_acks(void **state)
{
    struct spool_settings others = settings;
    char garbage[5000], ack[SPOOL_ACK_LEN];
    struct spool *s = open_it(), *other;
    struct spool_frame f;
    struct buf text;
    uint32_t seed;

    (void)state;
    for (uint64_t n = 1; n <= 8; n++)
        assert_int_equal(put(s, n), n);
    buf_init(&text, 1 << 20);
    file_get(1, SPOOL_FILE_SEGMENT, &text);
    memcpy(&seed, text.ptr + 12, 4);
    assert_int_equal(next(s, NULL), 1);

    others.read_only = true;
    assert_int_equal(spool_open(state_fd, &disk_system, &others, &other), 0);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(spool_read_any(other, &f), 1);
        assert_int_equal(check_frame(&f), i);
        assert_false(f.done);
    }
    spool_ack(other, 3);
    assert_int_equal(spool_write_acks(other), 0);
    spool_close(other);
    assert_int_equal(next(s, NULL), 2);
    assert_int_equal(next(s, NULL), 4); /* not 3 */
    assert_int_equal(spool_stats(s)->frames, 7);

    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = (char)(i * i);
    spool_ack_encode(5, records_of(5), seed, ack);
    append_ack(1, (struct slice){ack, 7});
    append_ack(1, (struct slice){ack, 16});
    assert_int_equal(next(s, NULL), 6);
    append_ack(1, (struct slice){garbage, sizeof garbage});
    spool_ack_encode(7, records_of(7), seed + 1, ack); /* another's */
    append_ack(1, (struct slice){ack, 16});
    spool_ack_encode(70, 1, seed, ack); /* there is no such frame */
    append_ack(1, (struct slice){ack, 16});
    spool_ack_encode(8, records_of(8), seed, ack);
    append_ack(1, (struct slice){ack, 16});
    append_ack(1, (struct slice){ack, 16});
    append_ack(1, (struct slice){ack, 3});
    assert_int_equal(next(s, NULL), 7);
    assert_int_equal(next(s, NULL), 0);
    assert_int_equal(spool_stats(s)->frames, 5);
    spool_ack(s, 1);
    assert_int_equal(spool_write_acks(s), 0);
    spool_close(s);
    s = open_it();
    assert_int_equal(spool_stats(s)->frames, 4);
    assert_int_equal(spool_stats(s)->records,
                     records_of(2) + records_of(4) + records_of(6) + records_of(7));
    assert_int_equal(next(s, NULL), 2);
    assert_int_equal(next(s, NULL), 4);
    assert_int_equal(next(s, NULL), 6);
    assert_int_equal(next(s, NULL), 7);
    assert_int_equal(next(s, NULL), 0);
    spool_close(s);
    buf_done(&text);
}

/* --- what is not as it should be --- */

static void test_strange(void **state)
{
    struct spool_header h = {.segment = 4, .first_serial = 5, .seed = 1};
    const struct spool_stats *stats;
    struct buf first, second;
    char header[SPOOL_HEADER_LEN];
    uint32_t crc;
    struct spool *s;

    (void)state;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    make_four(&first, &second);

    /* Another's, a newer one, garbage, a directory, a link, and names that mean nothing. */
    spool_header_encode(&h, header);
    file_put(4, SPOOL_FILE_SEGMENT, (struct slice){header, sizeof header});
    h.segment = 5;
    spool_header_encode(&h, header);
    header[8] = 2;
    crc = crc32c(0, header, sizeof header - 4);
    memcpy(header + sizeof header - 4, &crc, 4);
    file_put(5, SPOOL_FILE_SEGMENT, (struct slice){header, sizeof header});
    file_put(6, SPOOL_FILE_SEGMENT,
             SLICE("garbage, longer than a header would be, which has 64 bytes"
                   " ... and on"));
    assert_int_equal(mkdirat(state_fd, path_of(7, SPOOL_FILE_SEGMENT), 0700), 0);
    assert_int_equal(symlinkat("/etc/passwd", state_fd, path_of(8, SPOOL_FILE_SEGMENT)), 0);
    assert_int_equal(mkfifoat(state_fd, path_of(9, SPOOL_FILE_SEGMENT), 0600), 0);
    assert_int_equal(symlinkat("x", state_fd, "spool/web/spool-1.seg"), 0);
    s = open_it();
    stats = spool_stats(s);
    assert_int_equal(stats->error, 0);
    assert_true(stats->foreign == 1 && stats->newer == 1);
    assert_true(stats->moved_aside == 4 && stats->missing == 1 && stats->damaged == 4);
    assert_true(has(4, SPOOL_FILE_FOREIGN) && has(5, SPOOL_FILE_SEGMENT));
    assert_true(has(6, SPOOL_FILE_DAMAGED) && !has(6, SPOOL_FILE_SEGMENT));
    assert_true(put(s, 5) > 4);
    assert_true(has(10, SPOOL_FILE_SEGMENT));
    for (uint64_t n = 1; n <= 5; n++)
        assert_int_equal(next(s, NULL), n);
    spool_close(s);
    s = open_it();
    stats = spool_stats(s);
    assert_true(stats->newer == 1 && stats->foreign == 0 && stats->damaged == 0);
    assert_true(stats->frames == 5 && access("/etc/passwd", R_OK) == 0);
    spool_close(s);

    /* A segment in the middle that is not there. */
    empty(state_fd, ".");
    make_four(&first, &second);
    s = open_it();
    assert_int_equal(put(s, 5), 5);
    spool_close(s);
    assert_int_equal(unlinkat(state_fd, path_of(2, SPOOL_FILE_SEGMENT), 0), 0);
    s = open_it();
    assert_true(spool_stats(s)->missing == 1 && spool_stats(s)->frames == 4);
    for (uint64_t n = 1; n <= 5; n++)
        if (n != 4)
            assert_int_equal(next_and_ack(s), n);
    assert_int_equal(next(s, NULL), 0);
    spool_close(s);

    /* The last one: its acknowledgements, and the caller, know better. */
    empty(state_fd, ".");
    make_four(&first, &second);
    settings.merged = 4;
    assert_int_equal(unlinkat(state_fd, path_of(2, SPOOL_FILE_SEGMENT), 0), 0);
    file_put(2, SPOOL_FILE_ACK, SLICE("0123456789abcdef"));
    s = open_it();
    assert_true(spool_stats(s)->missing == 1 && spool_stats(s)->lost_end);
    assert_false(has(2, SPOOL_FILE_ACK));
    assert_int_equal(put(s, 5), 5);
    spool_close(s);
    settings.merged = 0;

    /* A directory that is none stops no start. */
    empty(state_fd, ".");
    assert_int_equal(symlinkat("/tmp", state_fd, "spool"), 0);
    s = open_it();
    assert_int_equal(spool_stats(s)->error, -ENOTDIR);
    assert_int_equal(put(s, 1), -ENOTDIR);
    assert_int_equal(spool_has_room(s, 1), -ENOTDIR);
    assert_int_equal(unlinkat(state_fd, "spool", 0), 0);
    assert_int_equal(put(s, 1), 1);
    assert_int_equal(next(s, NULL), 1);
    assert_int_equal(spool_stats(s)->error, 0);
    spool_close(s);
    buf_done(&first);
    buf_done(&second);
}

/* The front one is not there: its acknowledgements say whether that is well. */
static void test_orphans(void **state)
{
    static const struct {
        uint64_t acks[4];
        bool missing;
    } stories[] = {
        {{1, 2, 3}, false}, {{3, 2, 1}, false}, {{1, 3}, true},
        {{1, 2}, true},     {{1}, true},        {{3, 3, 2, 1}, false},
    };
    struct buf first, second;
    uint32_t seed;

    (void)state;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    make_four(&first, &second);
    memcpy(&seed, first.ptr + 12, 4);
    for (size_t i = 0; i < ARRAY_LEN(stories); i++) {
        struct spool *s;

        empty(state_fd, "spool/web");
        file_put(2, SPOOL_FILE_SEGMENT, buf_slice(&second));
        for (size_t k = 0; k < 4 && stories[i].acks[k] != 0; k++) {
            char ack[SPOOL_ACK_LEN];

            spool_ack_encode(stories[i].acks[k], 1, seed, ack);
            append_ack(1, (struct slice){ack, sizeof ack});
        }
        s = open_it();
        assert_int_equal(spool_stats(s)->missing, stories[i].missing);
        assert_false(has(1, SPOOL_FILE_ACK));
        assert_int_equal(next(s, NULL), 4);
        spool_close(s);
        s = open_it();
        assert_int_equal(spool_stats(s)->missing, 0);
        spool_close(s);
    }
    buf_done(&first);
    buf_done(&second);
}

/* What cannot be opened is passed over, and read when it can be. */
static void test_unreadable(void **state)
{
    struct faulty f = {.disk = faulty_disk, .error = EACCES, .only = "spool-0000000000000001.seg"};
    struct buf first, second;
    struct spool *s;

    (void)state;
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    for (int i = 1; i <= 2; i++) {
        empty(state_fd, ".");
        make_four(&first, &second);
        f.only = i == 1 ? "spool-0000000000000001.seg" : "spool-0000000000000002.seg";
        s = open_with(&f.disk);
        assert_int_equal(spool_stats(s)->error, -EACCES);
        assert_true(spool_stats(s)->missing == 0 && spool_stats(s)->damaged == 0);
        if (i == 1) {
            assert_int_equal(next(s, NULL), 4);
            assert_int_equal(put(s, 5), 5);
            assert_int_equal(next(s, NULL), 5);
        } else {
            assert_int_equal(next(s, NULL), 1);
            assert_int_equal(next(s, NULL), 2);
            assert_int_equal(next(s, NULL), 3);
            assert_true(put(s, 5) > 5); /* behind whatever may be there */
            assert_int_equal(next(s, NULL), 5);
        }
        assert_int_equal(next(s, NULL), 0);
        f.only = "nothing";
        for (uint64_t n = i == 1 ? 1 : 4; n <= (i == 1 ? 3 : 4); n++)
            assert_int_equal(next_and_ack(s), n);
        assert_int_equal(next(s, NULL), 0);
        assert_int_equal(spool_write_acks(s), 0);
        spool_close(s);
        s = open_it();
        assert_true(spool_stats(s)->missing == 0 && spool_stats(s)->damaged == 0);
        assert_int_equal(spool_stats(s)->frames, i == 1 ? 2 : 4);
        spool_close(s);
    }
    buf_done(&first);
    buf_done(&second);
}

/* Who only looks changes nothing. */
static void test_read_only(void **state)
{
    static const struct {
        uint64_t segment;
        enum spool_file file;
    } files[] = {{1, SPOOL_FILE_SEGMENT}, {2, SPOOL_FILE_SEGMENT}, {3, SPOOL_FILE_SEGMENT},
                 {4, SPOOL_FILE_SEGMENT}, {1, SPOOL_FILE_ACK},     {9, SPOOL_FILE_ACK}};
    struct buf before[ARRAY_LEN(files)], after;
    struct spool_frame f;
    uint64_t serial, n = 0;
    struct spool *s;

    (void)state;
    buf_init(&before[0], 1 << 20);
    buf_init(&before[1], 1 << 20);
    make_four(&before[0], &before[1]);
    before[0].ptr[200] ^= 1;
    file_put(1, SPOOL_FILE_SEGMENT, buf_slice(&before[0]));
    file_put(3, SPOOL_FILE_SEGMENT, SLICE("garbage"));
    file_put(4, SPOOL_FILE_SEGMENT, SLICE("\0\0"));
    file_put(1, SPOOL_FILE_ACK, SLICE("garbage"));
    file_put(9, SPOOL_FILE_ACK, SLICE("garbage"));
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        if (i >= 2)
            buf_init(&before[i], 1 << 20);
        file_get(files[i].segment, files[i].file, &before[i]);
    }
    settings.read_only = true;
    s = open_it();
    while (spool_read_any(s, &f) == 1)
        n++;
    assert_int_equal(n, 3);
    assert_false(spool_wants_job(s));
    assert_int_equal(job(s, &serial), 0);
    assert_int_equal(spool_write_acks(s), 0);
    spool_close(s);
    settings.read_only = false;
    buf_init(&after, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        file_get(files[i].segment, files[i].file, &after);
        assert_true(slice_equal(buf_slice(&before[i]), buf_slice(&after)));
        buf_done(&before[i]);
    }
    buf_done(&after);
}

/* A backlog of tens of gigabytes, most of it holes: only the ends of the files are read. */
static void test_large_backlog(void **state)
{
    enum { SEGMENTS = 1000, BYTES = 32 * 1024 * 1024 };
    struct faulty f = {.disk = faulty_disk, .until = 1000000000, .error = EIO};
    struct buf header;
    struct spool *s;
    uint64_t owner;

    (void)state;
    s = open_it();
    assert_int_equal(put(s, 1), 1);
    spool_close(s);
    buf_init(&header, 1 << 20);
    file_get(1, SPOOL_FILE_SEGMENT, &header);
    memcpy(&owner, header.ptr + 32, 8);
    empty(state_fd, "spool/web");
    for (uint64_t i = 1; i <= SEGMENTS; i++) {
        struct spool_header h = {.segment = i,
                                 .first_serial = (i - 1) * 32 + 1,
                                 .owner = owner,
                                 .before_end = i == 1 ? 0 : BYTES,
                                 .before_seed = (uint32_t)(i - 1) * 7919,
                                 .seed = (uint32_t)i * 7919};
        struct spool_footer footer = {.frames = 32, .records = 3200};
        char bytes[SPOOL_HEADER_LEN];
        int fd;

        spool_header_encode(&h, bytes);
        file_put(i, SPOOL_FILE_SEGMENT, (struct slice){bytes, SPOOL_HEADER_LEN});
        fd = openat(state_fd, path_of(i, SPOOL_FILE_SEGMENT), O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        if (i < SEGMENTS) {
            spool_footer_encode(&footer, BYTES, h.seed, bytes);
            assert_int_equal(pwrite(fd, bytes, SPOOL_FOOTER_LEN, BYTES), SPOOL_FOOTER_LEN);
        }
        close(fd);
        if (i % 2 == 0) {
            spool_ack_encode(h.first_serial, 100, h.seed, bytes);
            append_ack(i, (struct slice){bytes, SPOOL_ACK_LEN});
        }
    }
    s = open_with(&f.disk);
    assert_int_equal(spool_stats(s)->frames, (SEGMENTS - 1) * 32 - SEGMENTS / 2 + 1);
    assert_int_equal(spool_stats(s)->records, ((SEGMENTS - 1) * 32 - SEGMENTS / 2 + 1) * 100);
    assert_true(spool_stats(s)->bytes > UINT64_C(33) * 1000 * 1000 * 1000);
    assert_true(spool_stats(s)->missing == 0 && spool_stats(s)->damaged == 0);
    assert_true(f.calls < 12 * SEGMENTS);
    spool_close(s);
    buf_done(&header);
}

/* The order of what changes something: c creates, w writes, s syncs a file and d a directory, u unlinks,
 * r renames, m makes a directory, t cuts. */
static void did(struct faulty *f, const char *want)
{
    assert_string_equal(f->log, want);
    memset(f->log, 0, sizeof f->log);
}

static void test_order(void **state)
{
    struct faulty f = {.disk = faulty_disk, .until = 1000000, .error = EIO};
    struct facts_told told = {0};
    struct buf first, second;
    uint64_t serial;
    struct spool *s = open_with(&f.disk);

    (void)state;
    did(&f, "");
    assert_int_equal(put(s, 1), 1);
    did(&f, "mmddcwwsd"); /* the directories first, whoever made them; the name last */
    assert_int_equal(put(s, 2), 2);
    did(&f, "ws");
    assert_int_equal(next_and_ack(s), 1);
    assert_int_equal(spool_write_acks(s), 0);
    did(&f, "cw");
    assert_int_equal(job(s, &serial), 0);
    did(&f, "sd");
    spool_close(s);

    /* What another run may have left in memory only is durable before its facts are told. */
    s = open_with(&f.disk);
    did(&f, "");
    assert_int_equal(spool_facts(s, take_facts, &told), 0);
    assert_int_equal(told.count, 2);
    did(&f, "sdmmdd");
    assert_true(spool_wants_job(s)); /* what was acknowledged then may not be durable either */
    assert_int_equal(put(s, 3), 3);
    did(&f, "cwwsdsd");
    assert_false(spool_wants_job(s));
    assert_int_equal(next_and_ack(s), 2);
    assert_int_equal(next_and_ack(s), 3);
    assert_int_equal(spool_write_acks(s), 0);
    memset(f.log, 0, sizeof f.log);
    assert_int_equal(job(s, &serial), 0);
    did(&f, "ssdudu");
    spool_close(s);
    s = open_with(&f.disk);
    assert_int_equal(put(s, 4), 4);
    did(&f, "smmddcwwsdsd");
    spool_close(s);

    /* The damaged one is renamed in the same way. */
    empty(state_fd, ".");
    buf_init(&first, 1 << 20);
    buf_init(&second, 1 << 20);
    make_four(&first, &second);
    first.ptr[200] ^= 1;
    file_put(1, SPOOL_FILE_SEGMENT, buf_slice(&first));
    s = open_with(&f.disk);
    while (next_and_ack(s) != 0)
        ;
    assert_int_equal(spool_write_acks(s), 0);
    memset(f.log, 0, sizeof f.log);
    assert_int_equal(job(s, &serial), 0);
    did(&f, "ssdsdrdu"); /* the last one must be durable before another goes */
    spool_close(s);

    /* A frame that failed is cut off, for the case that the next start comes before the next segment. */
    empty(state_fd, ".");
    s = open_with(&f.disk);
    assert_int_equal(put(s, 1), 1);
    memset(f.log, 0, sizeof f.log);
    f.until = f.calls + 1;
    f.times = 1;
    assert_int_equal(put(s, 2), -EIO);
    did(&f, "wst");
    spool_close(s);
    s = open_it();
    assert_true(spool_stats(s)->frames == 1 && !spool_stats(s)->torn);
    assert_int_equal(put(s, 4), 2);
    spool_close(s);
    buf_done(&first);
    buf_done(&second);
}

/* After a power cut the last frame may be as long as it should be and have anything in it. */
static void test_last_payload(void **state)
{
    struct buf text;
    struct spool *s = open_it();

    (void)state;
    buf_init(&text, 1 << 20);
    assert_int_equal(put(s, 1), 1);
    assert_int_equal(put(s, 2), 2);
    spool_close(s);
    file_get(1, SPOOL_FILE_SEGMENT, &text);
    memset(text.ptr + text.len - 100, 0, 100);
    file_put(1, SPOOL_FILE_SEGMENT, buf_slice(&text));
    for (uint64_t merged = 0; merged <= 2; merged++) {
        settings.merged = merged;
        s = open_it();
        assert_true(spool_stats(s)->torn && spool_stats(s)->damaged == 0);
        assert_int_equal(spool_stats(s)->frames, 1);
        assert_int_equal(spool_stats(s)->lost_end, merged == 2);
        spool_close(s);
    }
    settings.merged = 0;
    s = open_it();
    assert_int_equal(put(s, 5), 2);
    assert_int_equal(next(s, NULL), 1);
    assert_int_equal(next(s, NULL), 5);
    assert_int_equal(next(s, NULL), 0);
    assert_int_equal(spool_stats(s)->damaged, 0);
    spool_close(s);
    buf_done(&text);
}

/* A bad sector keeps its frame, and nothing else; and its segment is kept. */
static void test_bad_sector(void **state)
{
    struct spool_frame frame;
    uint64_t serial;

    (void)state;
    data_len = 20 * 1000;
    for (int where = 0; where < 4; where++) {
        struct faulty f = {.disk = faulty_disk, .until = 1000000, .error = EIO};
        bool at_start = where >= 2;
        uint64_t from = 0;
        struct spool *s;
        int tries = 0, r;

        empty(state_fd, ".");
        s = open_with(&f.disk);
        for (uint64_t n = 1; n <= 4; n++) {
            assert_int_equal(put(s, n), n);
            if (n == 1)
                from = file_size(1, SPOOL_FILE_SEGMENT) + (where % 2 == 0 ? 0 : 30000);
        }
        spool_close(s);
        if (!at_start)
            s = open_with(&f.disk);

        /* The second frame's head, or its payload. */
        f.bad_from = from;
        f.bad_to = f.bad_from + 2000;
        if (at_start)
            s = open_with(&f.disk);
        assert_int_equal(spool_stats(s)->error, at_start && where % 2 == 0 ? -EIO : 0);
        while ((r = spool_read(s, &frame)) != 1 && ++tries < 100)
            assert_true(r == 0 || r == -EIO);
        assert_int_equal(check_frame(&frame), 1);
        spool_ack(s, frame.serial);
        for (tries = 0; (r = spool_read(s, &frame)) == -EIO; tries++)
            ;
        assert_int_equal(tries, 9);
        assert_int_equal(r, 1);
        assert_int_equal(check_frame(&frame), 3);
        spool_ack(s, frame.serial);
        assert_int_equal(next_and_ack(s), 4);
        assert_int_equal(next_and_ack(s), 0);
        f.bad_to = 0; /* it is only that file's */
        assert_true(put(s, 5) >= 5);
        assert_int_equal(next_and_ack(s), 5);
        assert_int_equal(spool_write_acks(s), 0);
        assert_int_equal(job(s, &serial), 0);
        assert_int_equal(spool_stats(s)->damaged, 1);
        spool_close(s);

        /* A disk that has recovered gives it back. */
        s = open_it();
        if (!has(1, SPOOL_FILE_DAMAGED))
            assert_int_equal(next_and_ack(s), 2);
        assert_int_equal(next_and_ack(s), 0);
        spool_close(s);
    }
    data_len = 100;
}

/* A number is never used twice, whatever became of the file. */
static void test_numbers(void **state)
{
    struct spool *s;

    (void)state;
    file_put(3, SPOOL_FILE_SEGMENT,
             SLICE("garbage, longer than a header would be, which has 64 bytes"
                   " ... and on"));
    spool_close(open_it());
    assert_true(has(3, SPOOL_FILE_DAMAGED) && !has(3, SPOOL_FILE_SEGMENT));
    s = open_it();
    assert_int_equal(spool_stats(s)->missing, 0);
    assert_int_equal(put(s, 1), 1);
    assert_true(has(4, SPOOL_FILE_SEGMENT));
    spool_close(s);
}

/* A stray file that has the last number of all does not push ours to where no start finds them, and
 * does not make everything before it missing. */
static void test_last_number(void **state)
{
    static const uint64_t strays[] = {UINT64_C(999999999999999), UINT64_C(500000000000000),
                                      UINT64_C(500000000000001)};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(strays); i++) {
        struct spool *s;

        empty(state_fd, ".");
        s = open_it();
        assert_int_equal(put(s, 1), 1);
        spool_close(s);
        file_put(strays[i], SPOOL_FILE_SEGMENT,
                 SLICE("garbage, longer than a header would be, which has 64 bytes"
                       " ... and on"));
        for (uint64_t n = 2; n <= 4; n++) {
            s = open_it();
            assert_true(spool_stats(s)->missing == 0 || strays[i] <= UINT64_C(500000000000000));
            assert_int_equal(put(s, n), n);
            spool_close(s);
        }
        s = open_it();
        assert_int_equal(spool_stats(s)->frames, 4);
        for (uint64_t n = 1; n <= 4; n++)
            assert_int_equal(next(s, NULL), n);
        spool_close(s);
    }
}

/* Reads a gigabyte in all, and then fails. */
struct bounded {
    struct disk disk;
    uint64_t left;
};

static ssize_t bounded_read_at(const struct disk *d, int fd, void *to, size_t len, uint64_t offset)
{
    struct bounded *b = CONTAINER_OF(d, struct bounded, disk);

    if (b->left < len)
        return -EIO;
    b->left -= len;
    return disk_system.read_at(d, fd, to, len, offset);
}

/* A segment that is a hole of gigabytes behind its frames is not searched to its end. */
static void test_endless(void **state)
{
    struct bounded b = {disk_system, UINT64_C(1) << 30};
    struct spool *s = open_it();
    int fd;

    (void)state;
    b.disk.read_at = bounded_read_at;
    assert_int_equal(put(s, 1), 1);
    spool_close(s);
    fd = openat(state_fd, path_of(1, SPOOL_FILE_SEGMENT), O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, INT64_C(20) << 30), 0);
    close(fd);
    s = open_with(&b.disk);
    assert_int_equal(next_and_ack(s), 1);
    assert_int_equal(next(s, NULL), 0);
    assert_true(b.left > 0 && spool_stats(s)->error == 0);
    spool_close(s);
}

/* What of a frame is done is remembered however many frames have been done in parts before it, in this run
 * or an earlier one. */
static void test_many_parts(void **state)
{
    enum { MANY = 600, TIMES = 40 };
    struct spool_record record;
    struct spool_source source;
    struct spool_frame f;
    struct spool *s = open_it();
    unsigned told = 0;

    (void)state;
    for (unsigned n = 0; n < MANY; n++) {
        struct spool_frame none;

        assert_true(put(s, 2) > 0);
        assert_int_equal(spool_read(s, &f), 1);
        for (unsigned i = 0; i < TIMES; i++)
            spool_ack_part(s, f.serial, 0, 1);
        assert_int_equal(spool_write_acks(s), 0);
        if (n == MANY / 4 * 3) {
            spool_close(s);
            s = open_it();
            assert_int_equal(spool_read(s, &f), 1);
        }
        spool_ack(s, f.serial);
        assert_int_equal(spool_write_acks(s), 0);
        assert_int_equal(spool_read(s, &none), 0); /* and sees its own */
    }
    assert_true(put(s, 2) > 0);
    assert_int_equal(spool_read(s, &f), 1);
    spool_ack_part(s, f.serial, 0, 2);
    assert_int_equal(spool_write_acks(s), 0);
    spool_close(s);
    s = open_it();
    while (spool_read(s, &f) == 1)
        while (spool_next(&f, &record, &source))
            told++;
    assert_int_equal(told, records_of(2) - 2);
    spool_close(s);
}

/* A command marks frames whose segment the agent sends off meanwhile: it leaves nothing behind that
 * looks like a segment that is missing. */
static void test_marked_when_gone(void **state)
{
    struct spool *agent, *command;
    struct spool_frame f;
    uint64_t serial;

    (void)state;
    data_len = 300000;
    agent = open_it();
    for (uint64_t n = 1; n <= 4; n++) /* two of them fill a segment */
        assert_int_equal(put(agent, 3 * n + 1), n);
    settings.read_only = true;
    command = open_it();
    settings.read_only = false;
    assert_int_equal(spool_read(command, &f), 1);
    spool_ack(command, f.serial);
    while (has(1, SPOOL_FILE_SEGMENT)) {
        assert_true(next_and_ack(agent) != 0);
        assert_int_equal(spool_write_acks(agent), 0);
        assert_int_equal(job(agent, &serial), 0);
    }
    assert_int_equal(spool_write_acks(command), 0);
    assert_false(has(1, SPOOL_FILE_ACK));
    spool_close(command);
    spool_close(agent);
    agent = open_it();
    assert_int_equal(spool_stats(agent)->missing, 0);
    spool_close(agent);
    data_len = 100;
}

/* The job runs elsewhere, while the lane reads and acknowledges. */
static void *run_job(void *user)
{
    struct spool *s = user;
    char *data = malloc(data_len + 1);

    assert_non_null(data);
    for (unsigned k = 0; k < 3; k++) {
        struct spool_record record = {.data = {data, data_len}};

        memset(data, (int)k, data_len);
        if (spool_add_record(s, &record) < 0)
            break;
    }
    free(data);
    spool_job_run(s);
    return NULL;
}

static void test_two_threads(void **state)
{
    struct spool *s = open_it();
    uint64_t seen = 0, serial;

    (void)state;
    data_len = 100 * 1000;
    for (uint64_t n = 1; n <= 60; n++) {
        struct spool_frame f;
        pthread_t thread;

        assert_int_equal(spool_frame_begin(s, 0, two_sources, 2, SLICE("")), 0);
        spool_job_begin(s);
        assert_int_equal(pthread_create(&thread, NULL, run_job, s), 0);
        while (spool_read(s, &f) == 1) {
            assert_int_equal(f.serial, ++seen);
            assert_int_equal(f.records, 3);
            spool_ack(s, f.serial);
            assert_int_equal(spool_write_acks(s), 0);
            assert_false(spool_wants_job(s));
            assert_int_equal(spool_has_room(s, 3 * data_len), 0);
        }
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(spool_job_end(s, &serial), 0);
        assert_int_equal(serial, n);
    }
    assert_int_equal(seen, 59);
    spool_close(s);
    data_len = 100;
}

/* Blocks of segments that are gone, where a power cut has taken what was written over them. */
static void test_stale_blocks(void **state)
{
    struct buf old, text;
    struct spool *s = open_it();

    (void)state;
    buf_init(&old, 1 << 20);
    buf_init(&text, 1 << 20);

    /* A frame behind another one's header. */
    assert_int_equal(put(s, 1), 1);
    spool_close(s);
    file_get(1, SPOOL_FILE_SEGMENT, &old);
    empty(state_fd, "spool/web");
    s = open_it();
    assert_int_equal(put(s, 2), 1);
    spool_close(s);
    file_get(1, SPOOL_FILE_SEGMENT, &text);
    memcpy(old.ptr, text.ptr, SPOOL_HEADER_LEN);
    file_put(1, SPOOL_FILE_SEGMENT, buf_slice(&old));
    s = open_it();
    assert_int_equal(spool_stats(s)->frames, 0);
    assert_int_equal(next_and_ack(s), 0);
    spool_close(s);

    /* A whole segment that stood behind another one, and would void what that has. */
    empty(state_fd, "spool/web");
    for (uint64_t n = 1; n <= 2; n++) {
        s = open_it();
        assert_int_equal(put(s, n), (int64_t)n);
        spool_close(s);
    }
    file_get(2, SPOOL_FILE_SEGMENT, &old);
    empty(state_fd, "spool/web");
    s = open_it();
    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(put(s, n), (int64_t)n);
    spool_close(s);
    file_put(2, SPOOL_FILE_SEGMENT, buf_slice(&old));
    s = open_it();
    assert_int_equal(spool_stats(s)->moved_aside, 1);
    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(next_and_ack(s), n);
    assert_int_equal(next_and_ack(s), 0);
    assert_int_equal(put(s, 4), 4);
    assert_int_equal(next_and_ack(s), 4);
    spool_close(s);
    buf_done(&old);
    buf_done(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_torn, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_flipped_bits, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_every_call_fails, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_killed_at_every_call, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_facts, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_facts_are_durable, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_segments, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_bounds, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_acks, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_strange, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_orphans, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_unreadable, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_read_only, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_large_backlog, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_order, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_last_payload, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_bad_sector, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_numbers, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_last_number, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_endless, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_many_parts, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_marked_when_gone, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_two_threads, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_stale_blocks, dir_begin, dir_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
