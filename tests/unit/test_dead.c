/* The dead letters: what was called durable is there again, and nothing else, whatever the files
 * and the disk went through. */
#include "keep/dead.h"

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
#include <unistd.h>

#include <cmocka.h>

#include "crc32c.h"
#include "disk.h"
#include "keep/dead_dir.h"
#include "keep/letters.h"
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
    (void)snprintf(dir_path, sizeof dir_path, "%s/kinetail-dead-XXXXXX",
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

static const char *path_of(uint64_t segment)
{
    static char path[100];
    char name[DEAD_NAME_LEN];

    dead_segment_name(segment, name);
    (void)snprintf(path, sizeof path, "dead/web/%s", name);
    return path;
}

static bool has(uint64_t segment)
{
    return faccessat(state_fd, path_of(segment), F_OK, 0) == 0;
}

static bool has_aside(uint64_t segment)
{
    char path[150];

    (void)snprintf(path, sizeof path, "%s.damaged", path_of(segment));
    return faccessat(state_fd, path, F_OK, 0) == 0;
}

static void file_put(uint64_t segment, struct slice text)
{
    int fd;

    (void)mkdirat(state_fd, "dead", 0700);
    (void)mkdirat(state_fd, "dead/web", 0700);
    fd = openat(state_fd, path_of(segment), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(disk_write_all(&disk_system, fd, text), 0);
    close(fd);
}

static void file_get(uint64_t segment, struct buf *to)
{
    int fd = openat(state_fd, path_of(segment), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    buf_reset(to);
    assert_int_equal(disk_read_all(&disk_system, fd, to), 0);
    close(fd);
}

/* --- letters --- */

static struct dead_letter letter(uint64_t n)
{
    static char record[40];

    (void)snprintf(record, sizeof record, "record %" PRIu64 "\n", n);
    return (struct dead_letter){.wall_ms = 1000 * (int64_t)n,
                                .flow = SLICE("web"),
                                .file = SLICE("/var/log/a.log"),
                                .offset = n,
                                .end = n + 1,
                                .reason = SLICE("does not match"),
                                .record = slice_of(record)};
}

static int put(struct dead *d, uint64_t n)
{
    struct dead_letter l = letter(n);

    return dead_put(d, &l);
}

static int job(struct dead *d)
{
    dead_job_begin(d);
    dead_job_run(d);
    return dead_job_end(d);
}

static struct dead *open_it(struct dead_report *report)
{
    struct dead_report other;
    struct dead *d = NULL;

    assert_int_equal(dead_open(state_fd, "web", &disk_system, &d, report ? report : &other), 0);
    return d;
}

static struct dead_report look(void)
{
    struct dead_report report;

    dead_close(open_it(&report));
    return report;
}

/* --- what a command reads --- */

enum { NUMBERS = 4096 };

struct reading {
    unsigned times[NUMBERS]; /* of each letter that is not done, by its offset */
    unsigned letters, done, damaged, newer;
};

static struct letters *letters(bool mark)
{
    struct letters *l = NULL;

    assert_int_equal(letters_open(&disk_system, state_fd, "web", mark, &l), 0);
    return l;
}

/* All that is read must be as it was put. */
static struct reading read_all(void)
{
    struct reading ret = {0};
    struct letters_item item;
    struct letters *l = NULL;
    int r = letters_open(&disk_system, state_fd, "web", false, &l);

    assert_true(r == 0 || r == -ENOENT);
    while (l != NULL && (r = letters_next(l, &item)) == 1) {
        ret.damaged += item.kind == LETTERS_DAMAGED;
        ret.newer += item.kind == LETTERS_NEWER;
        assert_int_not_equal(item.kind, LETTERS_ERROR);
        if (item.kind != LETTERS_LETTER)
            continue;
        struct dead_letter want = letter(item.letter->offset);
        assert_true(item.letter->offset < NUMBERS && item.letter->end == want.end);
        assert_true(slice_equal(item.letter->record, want.record));
        assert_true(slice_equal(item.letter->file, want.file));
        assert_int_equal(item.letter->wall_ms, want.wall_ms);
        ret.done += item.done;
        ret.letters += !item.done;
        ret.times[item.letter->offset] += !item.done;
    }
    assert_true(l == NULL || r == 0);
    letters_close(l);
    return ret;
}

static void count_letters(unsigned times[NUMBERS])
{
    struct reading all = read_all();

    memcpy(times, all.times, sizeof all.times);
}

static bool is_there(uint64_t n)
{
    unsigned times[NUMBERS];

    count_letters(times);
    return times[n] == 1;
}

/* --- stories --- */

static void test_life(void **state)
{
    struct dead_report report;
    struct dead *d = open_it(&report);
    struct stat st;

    (void)state;
    assert_true(report.segments == 0 && report.damaged == 0 && report.error == 0);
    assert_false(dead_wants_job(d));
    assert_int_equal(faccessat(state_fd, "dead", F_OK, 0), -1); /* nothing before there is one */
    assert_int_equal(put(d, 1), 0);
    assert_int_equal(put(d, 2), 0);
    assert_true(dead_put_count(d) == 2 && dead_durable(d) == 0 && dead_wants_job(d));

    /* Meanwhile more comes: it is for the next job. */
    dead_job_begin(d);
    assert_false(dead_wants_job(d));
    assert_int_equal(put(d, 3), 0);
    dead_job_run(d);
    assert_int_equal(put(d, 4), 0);
    assert_int_equal(dead_durable(d), 0);
    assert_int_equal(dead_job_end(d), 0);
    assert_true(dead_durable(d) == 2 && dead_put_count(d) == 4 && dead_wants_job(d));
    assert_true(is_there(1) && is_there(2) && !is_there(3));
    assert_int_equal(job(d), 0);
    assert_true(dead_durable(d) == 4 && !dead_wants_job(d));
    assert_true(has(1) && !has(2));
    dead_close(d);
    assert_int_equal(fstatat(state_fd, "dead", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(fstatat(state_fd, "dead/web", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
    assert_int_equal(fstatat(state_fd, path_of(1), &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    /* Another run: another segment. */
    d = open_it(&report);
    assert_true(report.segments == 1 && report.bytes > 600 && report.error == 0);
    assert_int_equal(read_all().letters, 4);
    assert_int_equal(put(d, 5), 0);
    assert_int_equal(job(d), 0);
    assert_int_equal(dead_durable(d), 1);
    dead_close(d);
    assert_true(has(1) && has(2) && is_there(1) && is_there(5));
    dead_close(NULL);
}

/* What stands in the file, to the letter. */
static void test_format(void **state)
{
    static const char want[] =
        "{\"time\":\"2026-11-21T14:08:33.120Z\",\"flow\":\"w\\\"b\",\"file\":\"/l\xef\xbf\xbd\\n\","
        "\"offset\":0,\"end\":18446744073709551615,\"reason\":\"why\",\"key\":\"k\\\"\","
        "\"unredacted\":true,\"cut\":true,"
        "\"record_base64\":\"AP8K\"";
    struct dead_letter l = {.wall_ms = INT64_C(1795270113120),
                            .flow = SLICE("w\"b"),
                            .file = SLICE("/l\xff\n"),
                            .end = UINT64_MAX,
                            .reason = SLICE("why"),
                            .key = SLICE("k\""),
                            .unredacted = true,
                            .cut = true,
                            .record = SLICE("\0\xff\n")};
    struct dead_found found;
    enum dead_line line;
    struct slice rest;
    struct buf text;
    struct dead *d = open_it(NULL);
    char crc[40];
    uint32_t seed;

    (void)state;
    buf_init(&text, 1 << 20);
    dead_found_init(&found);
    assert_int_equal(dead_put(d, &l), 0);
    l.wall_ms = -1;
    l.record = SLICE("");
    l.flow = l.key = (struct slice){NULL, 0};
    l.unredacted = l.cut = false;
    assert_int_equal(dead_put(d, &l), 0);
    assert_int_equal(job(d), 0);
    dead_close(d);
    file_get(1, &text);
    rest = buf_slice(&text);
    assert_true(slice_starts_with(rest, SLICE("{\"kinetail_dead\":1,\"segment\":1,\"seed\":\"")));
    assert_int_equal(dead_read_header(&rest, 2, &seed), -EBADMSG);
    rest = buf_slice(&text);
    assert_int_equal(dead_read_header(&rest, 1, &seed), 0);
    assert_true(slice_starts_with(rest, slice_of(want)));
    (void)snprintf(crc, sizeof crc, ",\"crc32c\":\"%08x\"}\n", crc32c(seed, want, strlen(want)));
    assert_true(slice_starts_with(slice_from(rest, strlen(want)), slice_of(crc)));
    assert_true(dead_next(&rest, seed, &line, &found) && line == DEAD_LINE_LETTER);
    assert_true(slice_equal(found.time, SLICE("2026-11-21T14:08:33.120Z")));
    assert_true(slice_equal(found.letter.flow, SLICE("w\"b")));
    assert_true(slice_equal(found.letter.file, SLICE("/l\xef\xbf\xbd\n")));
    assert_true(slice_equal(found.letter.reason, SLICE("why")));
    assert_true(slice_equal(found.letter.record, SLICE("\0\xff\n")));
    assert_true(found.letter.offset == 0 && found.letter.end == UINT64_MAX);
    assert_true(slice_equal(found.letter.key, SLICE("k\"")) && found.letter.unredacted &&
                found.letter.cut);
    assert_true(found.letter.wall_ms == INT64_C(1795270113120));
    assert_true(dead_next(&rest, seed, &line, &found) && line == DEAD_LINE_LETTER);
    assert_true(slice_equal(found.time, SLICE("1969-12-31T23:59:59.999Z")));
    assert_true(found.letter.record.len == 0 && found.letter.flow.len == 0);
    assert_true(found.letter.key.len == 0 && !found.letter.unredacted && !found.letter.cut);
    assert_int_equal(found.letter.wall_ms, -1);
    assert_false(dead_next(&rest, seed, &line, &found));

    /* A member that is not known is passed over; one that is missing is missed, and said twice
     * too. */
    for (int k = 0; k < 3; k++) {
        static const char *const members[] = {"\"more\":[1,{\"time\":2}],\"time\":\"t\"", "\"x\":1",
                                              "\"time\":\"t\",\"time\":\"t\""};
        size_t from = 0;

        buf_reset(&text);
        assert_int_equal(buf_printf(&text,
                                    "{%s,\"flow\":\"\",\"file\":\"\",\"offset\":1,\"end\":2,"
                                    "\"reason\":\"\",\"record_base64\":\"\"",
                                    members[k]),
                         0);
        assert_int_equal(buf_printf(&text, ",\"crc32c\":\"%08x\"}\n",
                                    crc32c(7, text.ptr + from, text.len - from)),
                         0);
        rest = buf_slice(&text);
        assert_true(dead_next(&rest, 7, &line, &found));
        assert_int_equal(line, k == 0 ? DEAD_LINE_LETTER : DEAD_LINE_DAMAGED);
    }
    dead_found_done(&found);
    buf_done(&text);
}

static void test_names(void **state)
{
    static const char *const bad[] = {"", ".", "..", "a/b", "/"};
    struct dead_report report;
    struct dead *d = NULL;
    char name[DEAD_NAME_LEN], longest[300];

    (void)state;
    memset(longest, 'a', sizeof longest);
    longest[256] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_int_equal(dead_open(state_fd, bad[i], &disk_system, &d, &report), -EINVAL);
    assert_int_equal(dead_open(state_fd, longest, &disk_system, &d, &report), -EINVAL);
    dead_segment_name(12, name);
    assert_string_equal(name, "dead-0000000000000012.log");
    assert_int_equal(dead_segment_of_name(name), 12);
    assert_int_equal(dead_segment_of_name("dead-0000000000000000.log"), 0);
    assert_int_equal(dead_segment_of_name("dead-0000000000000012.log.damaged"), 0);
    assert_int_equal(dead_segment_of_name("dead-000000000000001x.log"), 0);
    assert_int_equal(dead_segment_of_name("dead-12.log"), 0);
    assert_int_equal(dead_segment_of_name("ead-0000000000000012.log"), 0);
}

/* A stray file that has the last number of all does not push ours to where nobody finds them. */
static void test_last_number(void **state)
{
    struct dead *d = open_it(NULL);
    struct dead_list list;
    int fd;

    (void)state;
    dead_close(d);
    assert_int_equal(mkdirat(state_fd, "dead", 0700), 0);
    assert_int_equal(mkdirat(state_fd, "dead/web", 0700), 0);
    fd = openat(state_fd, "dead/web/dead-9999999999999999.log", O_WRONLY | O_CREAT | O_CLOEXEC,
                0600);
    assert_int_equal(write(fd, "garbage\n", 8), 8);
    close(fd);
    fd = openat(state_fd, "dead/web", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(dead_dir_list(&disk_system, fd, &list), 0);
    assert_true(list.count == 1 && list.next == 1);
    dead_list_done(&list);
    close(fd);
}

/* Memory is bounded; a large one goes alone; segments end. */
static void test_bounds(void **state)
{
    enum { LARGE = 12 * 1024 * 1024, SMALL = 100 * 1000 };
    char *record = calloc(1, DEAD_LETTER_BYTES);
    struct dead_letter l = {.flow = SLICE("web"), .file = SLICE("/a")};
    struct dead *d = open_it(NULL);
    uint64_t before;

    (void)state;
    assert_non_null(record);
    l.record = (struct slice){record, DEAD_LETTER_BYTES};
    assert_int_equal(dead_put(d, &l), -EMSGSIZE);
    l.record.len = LARGE;
    assert_int_equal(dead_put(d, &l), 0);
    assert_int_equal(dead_put(d, &l), -ENOBUFS);
    l.record.len = 1;
    assert_int_equal(dead_put(d, &l), -ENOBUFS);
    assert_int_equal(dead_put_count(d), 1);
    assert_int_equal(job(d), 0);
    l.record.len = SMALL;
    for (int round = 0; round < 4; round++) {
        int r;

        before = dead_put_count(d);
        while ((r = dead_put(d, &l)) == 0)
            ;
        assert_int_equal(r, -ENOBUFS);
        assert_true((dead_put_count(d) - before) * SMALL * 4 / 3 <= DEAD_PENDING_BYTES);
        assert_true((dead_put_count(d) - before + 2) * SMALL * 4 / 3 > DEAD_PENDING_BYTES);
        assert_int_equal(job(d), 0);
    }
    assert_true(dead_durable(d) == dead_put_count(d));
    before = dead_put_count(d);
    dead_close(d);
    assert_true(has(2) && has(3) && !has(4)); /* the large one; then two times two rounds */
    assert_int_equal(look().segments, 3);
    free(record);
}

/* Three letters, as a run writes them. */
static void make_three(struct buf *text)
{
    struct dead *d = open_it(NULL);

    for (uint64_t n = 1; n <= 3; n++)
        assert_int_equal(put(d, n), 0);
    assert_int_equal(job(d), 0);
    dead_close(d);
    file_get(1, text);
}

/* Cut off at every byte: what is whole stays, what is torn is no damage, and what nothing was in
 * leaves. */
static void test_torn(void **state)
{
    struct dead_report report;
    struct reading all;
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 20);
    make_three(&text);
    for (size_t len = 0; len <= text.len; len++) {
        struct slice rest = slice_first(buf_slice(&text), len);
        size_t lines = 0,
               header = 1 + (size_t)((char *)memchr(text.ptr, '\n', text.len) - text.ptr);

        for (size_t i = 0; i < len; i++)
            lines += text.ptr[i] == '\n';
        file_put(1, rest);
        report = look();
        assert_int_equal(report.error, 0);
        assert_int_equal(has(1), len > header);
        assert_int_equal(report.segments, len > header);
        assert_int_equal(report.removed, len <= header);
        all = read_all();
        assert_int_equal(all.letters, lines > 0 ? lines - 1 : 0);
        assert_int_equal(all.damaged, 0);
    }
    buf_done(&text);
}

/* Every bit: the others are there, the damage is found, and no start changes a byte of it. */
static void test_flipped_bits(void **state)
{
    struct dead_report report;
    struct buf text, now;

    (void)state;
    buf_init(&text, 1 << 20);
    buf_init(&now, 1 << 20);
    make_three(&text);
    for (size_t i = 0; i<text.len * 8; i += i> 2000 ? 7 : 1) {
        size_t header = (size_t)((char *)memchr(text.ptr, '\n', text.len) - text.ptr) + 1;
        bool glued = text.ptr[i / 8] == '\n', last = i / 8 == text.len - 1;
        struct reading all;

        text.ptr[i / 8] = (char)(text.ptr[i / 8] ^ 1 << i % 8);
        file_put(1, buf_slice(&text));
        report = look();
        assert_true(report.error == 0 && report.segments == 1);
        file_get(1, &now);
        assert_true(slice_equal(buf_slice(&now), buf_slice(&text)));
        text.ptr[i / 8] = (char)(text.ptr[i / 8] ^ 1 << i % 8);
        all = read_all();
        assert_int_equal(all.damaged > 0, !last);
        if (i / 8 < header)
            assert_int_equal(all.letters, 0);
        else if (last)
            assert_int_equal(all.letters, 3);
        else /* a newline gone takes two lines with it */
            assert_int_equal(all.letters, glued ? 1 : 2);
        assert_true(all.times[1] <= 1 && all.times[2] <= 1 && all.times[3] <= 1);
    }
    buf_done(&text);
    buf_done(&now);
}

/* What is not ours, in the places where ours would be. */
static void test_strange(void **state)
{
    static const char newer[] = "{\"kinetail_dead\":2,\"segment\":3,\"seed\":\"00000000\"";
    struct dead_report report;
    struct reading all;
    struct dead *d;
    char line[200];

    (void)state;
    file_put(1, SLICE("x"));
    assert_int_equal(unlinkat(state_fd, path_of(1), 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", state_fd, path_of(1)), 0);
    assert_int_equal(mkdirat(state_fd, path_of(2), 0700), 0);
    (void)snprintf(line, sizeof line, "%s,\"crc32c\":\"%08x\"}\nwhatever\n", newer,
                   crc32c(0, newer, strlen(newer)));
    file_put(3, slice_of(line));
    file_put(4, SLICE("garbage\n"));
    file_put(5, SLICE("\0\0\0\0")); /* a power cut's */
    file_put(6, SLICE(""));
    assert_int_equal(mkfifoat(state_fd, path_of(7), 0600), 0);
    d = open_it(&report);
    assert_true(report.removed == 2 && report.error == 0);
    assert_true(has(2) && has(3) && has(4) && !has(5) && !has(6) && has(7));
    assert_int_equal(put(d, 9), 0);
    assert_int_equal(job(d), 0);
    dead_close(d);
    assert_true(has(8) && access("/etc/passwd", R_OK) == 0);
    all = read_all();
    assert_true(all.letters == 1 && all.damaged == 3 && all.newer == 1);

    /* What lies aside is never replaced: its number is not used again. */
    empty(state_fd, "dead/web");
    file_put(7, SLICE("x"));
    (void)snprintf(line, sizeof line, "%s.damaged", path_of(7));
    assert_int_equal(renameat(state_fd, path_of(7), state_fd, line), 0);
    d = open_it(&report);
    assert_int_equal(report.damaged, 1);
    assert_int_equal(put(d, 1), 0);
    assert_int_equal(job(d), 0);
    dead_close(d);
    assert_true(has_aside(7) && !has(7) && has(8));

    /* A directory that is none stops no start, and what is put waits. */
    empty(state_fd, ".");
    assert_int_equal(symlinkat("/tmp", state_fd, "dead"), 0);
    d = open_it(&report);
    assert_int_equal(report.error, -ENOTDIR);
    assert_int_equal(put(d, 9), 0);
    assert_int_equal(job(d), -ENOTDIR);
    assert_true(dead_durable(d) == 0 && dead_wants_job(d));
    assert_int_equal(unlinkat(state_fd, "dead", 0), 0);
    assert_int_equal(job(d), 0);
    assert_true(dead_durable(d) == 1 && is_there(9));
    dead_close(d);
}

/* --- a disk that fails --- */

enum fault { FAULT_ERROR, FAULT_SHORT };

struct faulty {
    struct disk disk;
    long until; /* so many calls succeed … */
    long times; /* … and so many fail then */
    enum fault fault;
    int error;
    long calls;
    bool tainted[1024];   /* descriptors that must not be written to any more */
    bool unsynced;        /* something was written since the last sync, or … */
    bool unsynced_name;   /* … made since the last one of a directory … */
    bool unsynced_unlink; /* … or removed */
    size_t dir_syncs;
};

static struct faulty *faulty_of(const struct disk *d)
{
    return CONTAINER_OF(d, struct faulty, disk);
}

static bool fails(const struct disk *d)
{
    struct faulty *f = faulty_of(d);
    long n = f->calls++;

    return n >= f->until && n - f->until < f->times;
}

static int faulty_open(const struct disk *d, int dir, const char *name, int flags, mode_t mode)
{
    int fd = fails(d) ? -faulty_of(d)->error : disk_system.open(d, dir, name, flags, mode);

    if (fd >= 0)
        faulty_of(d)->tainted[fd] = false;
    if (fd >= 0 && (flags & O_CREAT) != 0)
        faulty_of(d)->unsynced_name = true;
    return fd;
}

static ssize_t faulty_read(const struct disk *d, int fd, void *to, size_t len)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.read(d, fd, to, len);
}

/* A write that fails may have written some; what comes behind would be glued to it. */
static ssize_t faulty_write(const struct disk *d, int fd, const void *from, size_t len)
{
    struct faulty *f = faulty_of(d);

    assert_false(f->tainted[fd]);
    f->unsynced = true;
    if (!fails(d))
        return disk_system.write(d, fd, from, len);
    if (f->fault == FAULT_SHORT && len > 1)
        return disk_system.write(d, fd, from, len / 2);
    f->tainted[fd] = true;
    (void)disk_system.write(d, fd, from, len / 3);
    return -f->error;
}

static int faulty_sync(const struct disk *d, int fd)
{
    assert_false(faulty_of(d)->tainted[fd]); /* nor is it asked again */
    if (!fails(d)) {
        faulty_of(d)->unsynced = false;
        return disk_system.sync(d, fd);
    }
    faulty_of(d)->tainted[fd] = true;
    return -faulty_of(d)->error;
}

static int faulty_sync_dir(const struct disk *d, int fd)
{
    if (fails(d))
        return -faulty_of(d)->error;
    faulty_of(d)->unsynced_name = faulty_of(d)->unsynced_unlink = false;
    faulty_of(d)->dir_syncs++;
    return disk_system.sync_dir(d, fd);
}

static ssize_t faulty_read_at(const struct disk *d, int fd, void *to, size_t len, uint64_t offset)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.read_at(d, fd, to, len, offset);
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
    faulty_of(d)->unsynced_name = true;
    return fails(d) ? -faulty_of(d)->error : disk_system.mkdir(d, dir, name, mode);
}

static int faulty_list(const struct disk *d, int dir, int (*each)(void *user, const char *name),
                       void *user)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.list(d, dir, each, user);
}

static int faulty_rename(const struct disk *d, int dir, const char *from, const char *to)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.rename(d, dir, from, to);
}

/* A segment leaves durably before its marks do, or what is done would come back. */
static int faulty_unlink(const struct disk *d, int dir, const char *name)
{
    if (slice_ends_with(slice_of(name), SLICE(".done")))
        assert_false(faulty_of(d)->unsynced_unlink);
    else
        faulty_of(d)->unsynced_unlink = true;
    return fails(d) ? -faulty_of(d)->error : disk_system.unlink(d, dir, name);
}

static int faulty_close(const struct disk *d, int fd)
{
    int r = disk_system.close(d, fd);

    faulty_of(d)->tainted[fd] = false;
    return fails(d) ? -faulty_of(d)->error : r;
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
};

/* All that was called durable is there; without a fault, once. */
static void check_durable(uint64_t first, uint64_t count, bool once)
{
    unsigned times[NUMBERS];

    (void)look(); /* cuts what is torn */
    count_letters(times);
    for (uint64_t n = first; n < first + count; n++) {
        assert_true(times[n] > 0);
        if (once)
            assert_int_equal(times[n], 1);
    }
}

/* The n-th call fails, and maybe some after it, for every n. */
static bool tell_fault(long until, long times, enum fault fault, int error)
{
    struct faulty f = {faulty_disk, until, times, fault, error, .calls = 0};
    struct dead_report report;
    struct dead *d = NULL;
    bool over, once = times == 1; /* or what was to be taken back could not be */
    uint64_t first = 1, next = 1, before, durable[3] = {0};

    empty(state_fd, ".");
    for (int run = 0; run < 3; run++) {
        assert_int_equal(dead_open(state_fd, "web", &f.disk, &d, &report), 0);
        assert_int_equal(report.damaged, 0);
        assert_true(report.error == 0 || report.error == -error);
        first = next;
        for (int round = 0; round < 3; round++) {
            int r;

            assert_int_equal(put(d, next++), 0);
            assert_int_equal(put(d, next++), 0);
            before = dead_durable(d);
            r = job(d);
            assert_true(r == 0 ? dead_durable(d) > before : dead_durable(d) == before);
            assert_true(r == 0 || r == -error);
            assert_true(r < 0 || (!f.unsynced && !f.unsynced_name));
            assert_true(run > 0 || r < 0 || f.dir_syncs >= 3); /* the directories' names as well */
            assert_int_equal(dead_wants_job(d), dead_durable(d) < dead_put_count(d));
            check_durable(first, dead_durable(d), once);
        }
        over = f.calls <= until;
        /* In the last run the fault ends, and soon all is durable. */
        if (run == 2)
            f.times = 0;
        for (int tries = 0; tries < 2 && dead_wants_job(d); tries++)
            (void)job(d);
        if (run == 2)
            assert_true(dead_durable(d) == next - first);
        durable[run] = dead_durable(d);
        dead_close(d);
        for (int i = 0; i <= run; i++) /* six letters are put in each run */
            check_durable(1 + 6 * (uint64_t)i, durable[i], once);
    }
    return over;
}

static void test_faults(void **state)
{
    static const struct {
        enum fault fault;
        int error;
    } faults[] = {{FAULT_ERROR, EIO}, {FAULT_ERROR, ENOSPC}, {FAULT_SHORT, ENOSPC}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(faults); i++)
        for (long times = 1; times <= 12; times = times < 4 ? times + 1 : times * 2) {
            long until = 0;

            while (!tell_fault(until, times, faults[i].fault, faults[i].error))
                until++;
            assert_true(until > 20); /* or the story tells nothing */
        }
}

/* --- what is done --- */

static bool has_marks(uint64_t segment)
{
    char path[150], name[DEAD_NAME_LEN];

    dead_marks_name(segment, name);
    (void)snprintf(path, sizeof path, "dead/web/%s", name);
    return faccessat(state_fd, path, F_OK, 0) == 0;
}

/* Marks the letters whose numbers have their bit set. */
static int mark(struct letters *l, unsigned which)
{
    struct letters_item item;
    int r = 0;

    letters_rewind(l);
    while (r == 0 && letters_next(l, &item) == 1)
        if (item.kind == LETTERS_ERROR)
            r = item.error;
        else if (item.kind == LETTERS_LETTER && (which >> item.letter->offset & 1) != 0)
            r = letters_mark(l, &item.place);
    return r < 0 ? r : letters_commit(l);
}

static void write_run(uint64_t first, uint64_t last)
{
    struct dead *d = open_it(NULL);

    for (uint64_t n = first; n <= last; n++)
        assert_int_equal(put(d, n), 0);
    assert_int_equal(job(d), 0);
    dead_close(d);
}

/* What is done is not read again; a segment that is all done leaves with the next start, or, with
 * no agent, at once. */
static void test_done(void **state)
{
    struct letters *l, *other = NULL;
    struct dead *d;
    uint32_t left;

    (void)state;
    write_run(1, 3);
    d = open_it(NULL);
    assert_int_equal(put(d, 4), 0);
    assert_int_equal(job(d), 0); /* and goes on running */
    l = letters(true);
    assert_int_equal(letters_open(&disk_system, state_fd, "web", true, &other), -EBUSY);
    assert_int_equal(mark(l, 1 << 1 | 1 << 3), 0);
    letters_close(l);
    assert_true(read_all().letters == 2 && read_all().done == 2);
    assert_true(read_all().times[2] == 1 && read_all().times[4] == 1);

    /* All of it, beside an agent: nothing is touched that it might write to. */
    l = letters(true);
    assert_int_equal(mark(l, 1 << 2 | 1 << 4), 0);
    assert_int_equal(letters_finish(l), 0);
    letters_close(l);
    assert_true(has(1) && has(2) && read_all().letters == 0);
    assert_int_equal(put(d, 5), 0);
    assert_int_equal(job(d), 0);
    dead_close(d);
    assert_true(read_all().letters == 1 && read_all().times[5] == 1);

    /* The start: what is all done is gone, what got another letter is not. */
    assert_int_equal(look().removed, 1);
    assert_true(!has(1) && !has_marks(1) && has(2) && has_marks(2));
    assert_true(read_all().letters == 1 && read_all().times[5] == 1 && read_all().done == 1);
    l = letters(true);
    assert_int_equal(mark(l, 1 << 5), 0);
    assert_int_equal(letters_finish(l), 0);
    assert_int_equal(letters_tidy(l, &left), 0);
    letters_close(l);
    assert_true(left == 1 && !has(2) && !has_marks(2));

    /* A segment with damage is kept when all else of it is done. */
    struct buf text;
    buf_init(&text, 1 << 20);
    write_run(1, 3);
    file_get(1, &text);
    text.ptr[text.len - 50] ^= 1;
    file_put(1, buf_slice(&text));
    l = letters(true);
    assert_int_equal(mark(l, 1 << 1 | 1 << 2), 0);
    assert_int_equal(letters_finish(l), 0);
    assert_int_equal(letters_tidy(l, &left), 0);
    letters_close(l);
    assert_true(left == 1 && !has(1) && has_aside(1) && !has_marks(1));
    buf_done(&text);
}

/* An agent that runs for long gives back the room of what is done, too: when it begins a
 * segment. */
static void test_done_meanwhile(void **state)
{
    enum { LARGE = 7 * 1024 * 1024 };
    char *record = calloc(1, LARGE);
    struct dead_letter l = letter(1);
    struct dead *d = open_it(NULL);
    struct letters_item item;
    struct letters *reading;

    (void)state;
    assert_non_null(record);
    l.record = (struct slice){record, LARGE}; /* larger than a segment, as base64 */
    assert_int_equal(dead_put(d, &l), 0);
    assert_int_equal(job(d), 0);
    reading = letters(true);
    assert_int_equal(letters_next(reading, &item), 1);
    assert_int_equal(letters_mark(reading, &item.place), 0);
    assert_int_equal(letters_commit(reading), 0);
    assert_int_equal(put(d, 2), 0);
    assert_int_equal(job(d), 0);
    assert_int_equal(letters_finish(reading), 0);
    letters_close(reading);
    assert_true(has(1) && has_marks(1) && has(2)); /* it had begun before that was known */
    assert_int_equal(dead_put(d, &l), 0);
    assert_int_equal(job(d), 0);
    assert_true(has(1) && has(2));
    assert_int_equal(put(d, 3), 0);
    assert_int_equal(job(d), 0);
    assert_true(!has(1) && !has_marks(1) && has(2) && has(3));
    dead_close(d);
    free(record);
}

/* Marks of another segment with the same number, torn ones, flipped ones: none of them counts. */
static void test_marks_that_are_none(void **state)
{
    struct letters *l;
    struct buf text;
    char name[DEAD_NAME_LEN];
    int fd;

    (void)state;
    buf_init(&text, 1 << 20);
    write_run(1, 3);
    l = letters(true);
    assert_int_equal(mark(l, 1 << 2), 0);
    assert_int_equal(mark(l, 1 << 1 | 1 << 2 | 1 << 3), 0);
    assert_int_equal(letters_finish(l), 0);
    letters_close(l);
    fd = openat(state_fd, "dead/web", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    dead_marks_name(1, name);
    int marks = openat(fd, name, O_RDWR | O_CLOEXEC);
    assert_int_equal(disk_read_all(&disk_system, marks, &text), 0);
    assert_true(text.len == 3 * 24 || text.len == 4 * 24);
    for (size_t i = 0; i < text.len * 8; i++) {
        text.ptr[i / 8] = (char)(text.ptr[i / 8] ^ 1 << i % 8);
        assert_int_equal(pwrite(marks, text.ptr, text.len, 0), (ssize_t)text.len);
        text.ptr[i / 8] = (char)(text.ptr[i / 8] ^ 1 << i % 8);
        if (i / 8 >= text.len - 24) /* the last one: all of it */
            assert_int_equal(look().removed, 0);
        assert_int_equal(read_all().letters, 0); /* they overlap */
    }
    for (size_t len = 0; len < text.len; len++) {
        assert_int_equal(ftruncate(marks, 0), 0);
        assert_int_equal(pwrite(marks, text.ptr, len, 0), (ssize_t)len);
        assert_int_equal(look().removed, 0);
        assert_int_equal(read_all().letters, len < 24 ? 3 : len < 48 ? 2 : read_all().letters);
        /* What comes behind a torn one holds. */
        l = letters(true);
        assert_int_equal(mark(l, 1 << 3), 0);
        letters_close(l);
        assert_int_equal(read_all().times[3], 0);
    }
    close(marks);
    close(fd);

    /* Another segment with its number. */
    empty(state_fd, ".");
    write_run(1, 3);
    dead_marks_name(1, name);
    fd = openat(state_fd, "dead/web", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    marks = openat(fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(marks, text.ptr, text.len), (ssize_t)text.len);
    assert_true(read_all().letters == 3 && look().removed == 0);
    close(marks);
    close(fd);
    buf_done(&text);
}

/* The n-th call fails, for every n: what could not be marked is still there, what was marked is
 * done, and what is done stays so. */
static void test_faults_in_marking(void **state)
{
    static const int errors[] = {EIO, ENOSPC};

    (void)state;
    for (size_t e = 0; e < ARRAY_LEN(errors); e++)
        for (int fault = FAULT_ERROR; fault <= FAULT_SHORT; fault++)
            for (long until = 0;; until++) {
                struct faulty f = {faulty_disk, until, 1, (enum fault)fault, errors[e], .calls = 0};
                struct letters *l = NULL;
                struct dead_report report;
                struct reading all;
                struct dead *d;
                uint32_t left;
                int r, tidied = -EIO;

                empty(state_fd, ".");
                write_run(1, 3);
                write_run(4, 6);
                r = letters_open(&f.disk, state_fd, "web", true, &l);
                if (r == 0)
                    r = mark(l, 1 << 1 | 1 << 2 | 1 << 3 | 1 << 5);
                all = read_all();
                assert_true(r < 0 || (all.done == 4 && all.letters == 2));
                assert_true(r < 0 || (!f.unsynced && !f.unsynced_name));
                assert_int_equal(all.done + all.letters, 6);
                if (r == 0)
                    tidied = letters_finish(l);
                if (tidied == 0)
                    tidied = letters_tidy(l, &left);
                letters_close(l);
                if (tidied == 0)
                    assert_true(!has(1) && !has_marks(1) && has(2));
                for (int i = 0; i < 2; i++) {
                    assert_int_equal(dead_open(state_fd, "web", &f.disk, &d, &report), 0);
                    dead_close(d);
                    all = read_all();
                    assert_true(all.times[4] == 1 && all.times[6] == 1);
                    assert_true(r < 0 || all.letters == 2);
                    f.times = i == 0 && tidied == 0 ? f.times : 0;
                }
                if (f.calls <= until)
                    break;
            }
}

/* A disk that is full for long leaves no heap of files behind: no write succeeds. */
static ssize_t full_write(const struct disk *d, int fd, const void *from, size_t len)
{
    struct faulty *f = faulty_of(d);

    return f->times > 0 ? -ENOSPC : disk_system.write(d, fd, from, len);
}

static void test_full_for_long(void **state)
{
    struct faulty f = {disk_system, 0, 0, FAULT_ERROR, ENOSPC, .calls = 0};
    struct dead_report report;
    struct dead *d;

    (void)state;
    f.disk.write = full_write;
    assert_int_equal(dead_open(state_fd, "web", &f.disk, &d, &report), 0);
    for (uint64_t n = 1; n <= 100; n++) {
        assert_int_equal(put(d, n), 0);
        f.times = n > 10 && n < 90; /* full for so long */
        assert_int_equal(job(d), n > 10 && n < 90 ? -ENOSPC : 0);
    }
    while (dead_wants_job(d))
        assert_int_equal(job(d), 0);
    dead_close(d);
    for (uint64_t n = 2; n <= 79; n++)
        assert_false(has(n));
    assert_true(has(1) && has(80));
    check_durable(1, 100, true);
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, dir_begin, dir_end)
    const struct CMUnitTest tests[] = {
        IN_DIR(test_life),
        IN_DIR(test_format),
        IN_DIR(test_names),
        IN_DIR(test_last_number),
        IN_DIR(test_bounds),
        IN_DIR(test_torn),
        IN_DIR(test_flipped_bits),
        IN_DIR(test_strange),
        IN_DIR(test_faults),
        IN_DIR(test_full_for_long),
        IN_DIR(test_done),
        IN_DIR(test_done_meanwhile),
        IN_DIR(test_marks_that_are_none),
        IN_DIR(test_faults_in_marking),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
