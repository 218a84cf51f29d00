/* The spool: what was called durable is given out again, once, and nothing else, whatever the files and
 * the disk went through. */
#include "keep/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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
    const char *only; /* if not NULL: opening this name fails, and nothing else */
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

static int faulty_open(const struct disk *d, int dir, const char *name, int flags, mode_t mode)
{
    struct faulty *f = faulty_of(d);
    int fd;

    if (fails(d) || (f->only != NULL && strcmp(f->only, name) == 0))
        return -f->error;
    fd = disk_system.open(d, dir, name, flags, mode);
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
    return fails(d) ? -faulty_of(d)->error : disk_system.read_at(d, fd, to, len, offset);
}

static ssize_t faulty_write(const struct disk *d, int fd, const void *from, size_t len)
{
    struct faulty *f = faulty_of(d);
    long first = f->until;

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

    assert_false(f->tainted[fd]); /* nor is it asked again */
    f->tainted[fd] = fails(d);
    if (f->tainted[fd])
        return -f->error;
    f->unsynced[fd] = false;
    return disk_system.sync(d, fd);
}

static int faulty_sync_dir(const struct disk *d, int fd)
{
    if (fails(d))
        return -faulty_of(d)->error;
    faulty_of(d)->unsynced_name = false;
    return disk_system.sync_dir(d, fd);
}

static int faulty_rename(const struct disk *d, int dir, const char *from, const char *to)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.rename(d, dir, from, to);
}

static int faulty_unlink(const struct disk *d, int dir, const char *name)
{
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
    return fails(d) ? -faulty_of(d)->error : disk_system.truncate(d, fd, len);
}

static int faulty_size(const struct disk *d, int fd, uint64_t *ret)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.size(d, fd, ret);
}

static int faulty_mkdir(const struct disk *d, int dir, const char *name, mode_t mode)
{
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_torn, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_flipped_bits, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_every_call_fails, dir_begin, dir_end),
        cmocka_unit_test_setup_teardown(test_killed_at_every_call, dir_begin, dir_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
