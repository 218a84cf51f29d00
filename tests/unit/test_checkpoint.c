/* The store of places: what was noted is known again, and nothing else, whatever the files went
 * through. */
#include "keep/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "crc32c.h"
#include "disk.h"
#include "keep/facts.h"
#include "util.h"

static struct cursor at(uint64_t offset)
{
    struct cursor c = {.offset = offset, .anchor = offset * 31 + 1};

    if (offset > 0)
        c.rungs[0] = (struct cursor_rung){1, (uint32_t)offset * 7};
    return c;
}

static bool same_place(struct cursor a, struct cursor b)
{
    for (size_t i = 0; i < CURSOR_RUNGS; i++)
        if (a.rungs[i].back != b.rungs[i].back || a.rungs[i].hash != b.rungs[i].hash)
            return false;
    return a.offset == b.offset && a.anchor == b.anchor;
}

/* --- a directory of its own --- */

static char dir_path[64];
static int dir_fd = -1;

static void dir_empty(void)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fdopendir(fd);

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            (void)(unlinkat(dir_fd, e->d_name, 0) == 0 ||
                   unlinkat(dir_fd, e->d_name, AT_REMOVEDIR) == 0);
    closedir(d);
}

/* Memory, if there is: nothing here asks whether a disk keeps its promises. */
static int dir_begin(void **state)
{
    (void)state;
    (void)snprintf(dir_path, sizeof dir_path, "%s/kinetail-checkpoint-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(dir_path) == NULL)
        return -1;
    dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir_fd < 0 ? -1 : 0;
}

static int dir_end(void **state)
{
    (void)state;
    dir_empty();
    close(dir_fd);
    return rmdir(dir_path);
}

static const char *name_of(uint64_t generation)
{
    static char name[32];

    (void)snprintf(name, sizeof name, "%010llu.journal", (unsigned long long)generation);
    return name;
}

static bool has(uint64_t generation)
{
    return faccessat(dir_fd, name_of(generation), F_OK, 0) == 0;
}

static size_t count_damaged(void)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fdopendir(fd);
    size_t n = 0;

    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += slice_ends_with(slice_of(e->d_name), SLICE(".damaged"));
    closedir(d);
    return n;
}

static void file_put(uint64_t generation, struct slice text)
{
    int fd = openat(dir_fd, name_of(generation), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(disk_write_all(&disk_system, fd, text), 0);
    close(fd);
}

static void file_get(uint64_t generation, struct buf *to)
{
    int fd = openat(dir_fd, name_of(generation), O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    buf_reset(to);
    assert_int_equal(disk_read_all(&disk_system, fd, to), 0);
    close(fd);
}

/* --- shorthands --- */

static struct checkpoint *reopen(struct checkpoint *c, struct checkpoint_report *report)
{
    struct checkpoint_report unused;

    checkpoint_close(c);
    assert_int_equal(checkpoint_open(&disk_system, dir_fd, &c, report != NULL ? report : &unused),
                     0);
    return c;
}

static struct checkpoint_slot *join(struct checkpoint *c, const char *path, uint64_t ino,
                                    uint64_t offset)
{
    const struct source_id id = {.dev = 1, .ino = ino, .born_ns = 5};
    struct checkpoint_slot *s;

    assert_int_equal(checkpoint_join(c, SLICE("web"), slice_of(path), &id, at(offset), &s), 0);
    return s;
}

static struct checkpoint_slot *find(struct checkpoint *c, uint64_t ino)
{
    struct checkpoint_slot *s = NULL;

    while ((s = checkpoint_next(c, s)) != NULL && checkpoint_id(s)->ino != ino)
        ;
    return s;
}

static struct slice path_of(const struct checkpoint_slot *s)
{
    static char path[PATH_MAX];

    return checkpoint_path(s, path);
}

static size_t count(struct checkpoint *c)
{
    struct checkpoint_slot *s = NULL;
    size_t n = 0;

    while ((s = checkpoint_next(c, s)) != NULL)
        n++;
    return n;
}

static int job(struct checkpoint *c)
{
    int r = checkpoint_job_begin(c);

    if (r < 0)
        return r;
    checkpoint_job_run(c);
    return checkpoint_job_end(c);
}

static bool same_id(const struct source_id *a, const struct source_id *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->born_ns == b->born_ns &&
           a->head_hash == b->head_hash && a->head_len == b->head_len &&
           a->handle_type == b->handle_type && a->handle_len == b->handle_len &&
           memcmp(a->handle, b->handle, a->handle_len) == 0;
}

/* --- round trips --- */

static void test_round_trips(void **state)
{
    static const struct slice paths[] = {
        SLICE("/var/log/a.log"),
        SLICE("/a b"),
        SLICE("/a\nb"),
        SLICE("/100%"),
        SLICE("/%41"),
        SLICE("/\xff\x80"),
        SLICE("/\xc3\xa9t"),
        SLICE("/\t\x7f\x01 "),
        SLICE(" "),
        SLICE("%"),
    };
    static const struct slice flows[] = {SLICE("web"), SLICE("a b\n%"), SLICE("\xff")};
    struct source_id ids[] = {
        {0},
        {.dev = UINT64_MAX,
         .ino = UINT64_MAX,
         .born_ns = INT64_MAX,
         .head_hash = UINT64_MAX,
         .head_len = SOURCE_HEAD_MAX,
         .handle_type = INT32_MAX,
         .handle_len = SOURCE_HANDLE_MAX},
        {.dev = 1, .ino = 2, .born_ns = -3, .head_len = 1, .handle_type = -129, .handle_len = 1},
    };
    struct cursor places[] = {
        {.offset = 0},
        {.offset = UINT64_MAX,
         .anchor = UINT64_MAX,
         .rungs = {{UINT32_MAX - 1, UINT32_MAX}, {UINT32_MAX, 0}}},
        {.offset = 5, .rungs = {{5, 1}}},
    };
    struct checkpoint *c = reopen(NULL, NULL);
    size_t n = 0;

    (void)state;
    memset(ids[1].handle, 0xfe, sizeof ids[1].handle);
    for (size_t f = 0; f < ARRAY_LEN(flows); f++)
        for (size_t i = 0; i < ARRAY_LEN(paths); i++, n++) {
            struct checkpoint_slot *s;
            assert_int_equal(
                checkpoint_join(c, flows[f], paths[i], &ids[n % 3], places[n / 3 % 3], &s), 0);
        }
    assert_int_equal(checkpoint_add_flow(c, SLICE("idle")), 0);
    assert_false(checkpoint_knows_flow(c, SLICE("other")));
    assert_int_equal(checkpoint_write(c), 0);

    /* Once from the journal, then from snapshots. */
    for (int round = 0; round < 3; round++) {
        struct checkpoint_slot *s = NULL;
        struct checkpoint_report report;

        c = reopen(c, &report);
        assert_true(!report.fresh && report.damaged == 0 && report.moved_aside == 0);
        assert_true(report.facts >= 2 * n + 4 && report.written_ns > 0);
        assert_int_equal(count(c), n);
        for (size_t k = 0; k < n; k++) {
            s = checkpoint_next(c, s);
            assert_true(slice_equal(checkpoint_flow(s), flows[k / ARRAY_LEN(paths)]));
            assert_true(slice_equal(path_of(s), paths[k % ARRAY_LEN(paths)]));
            assert_true(same_id(checkpoint_id(s), &ids[k % 3]));
            assert_true(same_place(checkpoint_cursor(s), places[k / 3 % 3]));
        }
        assert_true(checkpoint_knows_flow(c, SLICE("idle")));
        assert_true(checkpoint_knows_flow(c, SLICE("\xff")));
        assert_false(checkpoint_knows_flow(c, SLICE("other")));
        assert_false(checkpoint_is_dirty(c));
        assert_false(checkpoint_wants_job(c));
    }
    checkpoint_close(c);
    checkpoint_close(NULL);
}

static void test_life(void **state)
{
    struct source_id grown = {.dev = 1, .ino = 2, .head_len = 500, .head_hash = 77};
    struct checkpoint_report report;
    struct checkpoint *c = reopen(NULL, &report);
    struct checkpoint_slot *s;

    (void)state;
    assert_true(report.fresh && report.facts == 0 && report.written_ns == 0);
    assert_false(checkpoint_is_dirty(c));
    (void)join(c, "/a", 1, 10);
    (void)join(c, "/b", 2, 20);
    (void)join(c, "/c", 3, 30);
    assert_true(checkpoint_is_dirty(c));

    /* What is not written is not known. */
    c = reopen(c, &report);
    assert_int_equal(count(c), 0);
    assert_false(report.fresh);
    (void)join(c, "/a", 1, 10);
    (void)join(c, "/b", 2, 20);
    (void)join(c, "/c", 3, 30);
    assert_int_equal(checkpoint_write(c), 0);
    assert_false(checkpoint_is_dirty(c));
    assert_true(checkpoint_wants_job(c));

    /* Written without a sync. */
    c = reopen(c, NULL);
    assert_int_equal(count(c), 3);
    checkpoint_note(c, find(c, 1), at(100));
    checkpoint_leave(c, find(c, 3));
    assert_int_equal(checkpoint_describe(c, find(c, 2), SLICE("/b.1"), &grown), 0);
    assert_int_equal(checkpoint_write(c), 0);
    assert_int_equal(job(c), 0);
    assert_false(checkpoint_wants_job(c));
    for (int round = 0; round < 2; round++) {
        c = reopen(c, &report);
        assert_int_equal(report.damaged, 0);
        assert_int_equal(count(c), 2);
        assert_null(find(c, 3));
        assert_true(checkpoint_cursor(find(c, 1)).offset == 100);
        s = find(c, 2);
        assert_true(slice_equal(path_of(s), SLICE("/b.1")));
        assert_true(same_id(checkpoint_id(s), &grown));
        assert_true(checkpoint_cursor(s).offset == 20);
    }

    /* One that comes and goes unwritten; and keys that were used are not used again. */
    s = join(c, "/d", 4, 1);
    checkpoint_leave(c, s);
    s = join(c, "/e", 5, 2);
    assert_int_equal(checkpoint_write(c), 0);
    c = reopen(c, NULL);
    assert_int_equal(count(c), 3);
    assert_null(find(c, 4));
    assert_true(checkpoint_cursor(find(c, 5)).offset == 2);
    checkpoint_close(c);
}

static void test_many(void **state)
{
    enum { MANY = 10000 };
    struct checkpoint *c = reopen(NULL, NULL);
    struct checkpoint_slot *s = NULL;
    char path[32];
    uint64_t n = 0;

    (void)state;
    for (uint64_t i = 0; i < MANY; i++) {
        (void)snprintf(path, sizeof path, "/%llu", (unsigned long long)i);
        (void)join(c, path, i, i);
    }
    assert_int_equal(checkpoint_write(c), 0);
    c = reopen(c, NULL);
    for (; (s = checkpoint_next(c, s)) != NULL; n++) {
        (void)snprintf(path, sizeof path, "/%llu", (unsigned long long)n);
        assert_true(slice_equal(path_of(s), slice_of(path)));
        assert_true(checkpoint_cursor(s).offset == n);
    }
    assert_true(n == MANY);
    checkpoint_close(c);
}

/* From one directory to another and back, in two flows. */
static void test_renames(void **state)
{
    static const char *const paths[] = {"/a/x", "/a/y", "/b/x", "x", "/", "/a/", "", "/a/b/x"};
    const struct source_id id = {.dev = 1, .ino = 1};
    struct checkpoint *c = reopen(NULL, NULL);
    struct checkpoint_slot *s[2];

    (void)state;
    s[0] = join(c, "/a/x", 1, 0);
    assert_int_equal(checkpoint_join(c, SLICE("mail"), SLICE("/a/x"), &id, at(0), &s[1]), 0);
    for (size_t from = 0; from < ARRAY_LEN(paths); from++)
        for (size_t to = 0; to < ARRAY_LEN(paths); to++) {
            struct slice a = slice_of(paths[from]), b = slice_of(paths[to]);

            assert_int_equal(checkpoint_describe(c, s[0], a, &id), 0);
            assert_int_equal(checkpoint_describe(c, s[1], b, &id), 0);
            assert_true(slice_equal(path_of(s[0]), a) && slice_equal(path_of(s[1]), b));
            assert_true(slice_equal(checkpoint_flow(s[0]), SLICE("web")));
            assert_true(slice_equal(checkpoint_flow(s[1]), SLICE("mail")));
            assert_int_equal(checkpoint_write(c), 0);
        }
    checkpoint_close(c);
}

/* What a quiet file costs: when it is met, and when it is read back. */
static void test_memory(void **state)
{
    enum { MANY = 5000, BYTES_MAX = 200 };
    struct checkpoint *c = reopen(NULL, NULL);
    size_t before = mallinfo2().uordblks;

    (void)state;
    for (uint64_t i = 0; i < MANY; i++) {
        const struct source_id id = {.ino = i, .head_len = 1024, .handle_len = 8};
        struct checkpoint_slot *s;
        char path[64];

        (void)snprintf(path, sizeof path, "/var/log/app/service-%05u.log", (unsigned)i);
        assert_int_equal(checkpoint_join(c, SLICE("web"), slice_of(path), &id, at(i), &s), 0);
    }
    assert_true(mallinfo2().uordblks - before <= (size_t)MANY * BYTES_MAX);
    assert_int_equal(checkpoint_write(c), 0);
    checkpoint_close(c);

    before = mallinfo2().uordblks;
    c = reopen(NULL, NULL);
    assert_int_equal(count(c), MANY);
    assert_true(mallinfo2().uordblks - before <= (size_t)MANY * BYTES_MAX);
    if (before > 0) /* a sanitizer's malloc tells nothing */
        assert_true(mallinfo2().uordblks - before > (size_t)MANY * sizeof(struct source_id));
    checkpoint_close(c);
}

/* --- compaction --- */

/* Notes until the journal wants to be compacted. */
static uint64_t outgrow(struct checkpoint *c, struct checkpoint_slot *s, uint64_t from)
{
    for (int rounds = 0; rounds < 500000; rounds++) {
        checkpoint_note(c, s, at(++from));
        assert_int_equal(checkpoint_write(c), 0);
        if (rounds % 50000 == 49999) {
            assert_int_equal(checkpoint_job_begin(c), 0);
            checkpoint_job_run(c);
            assert_int_equal(checkpoint_job_end(c), 0);
            if (has(2))
                return from;
        }
    }
    fail_msg("it never was compacted");
    return 0;
}

/* While a job runs, notes are made, sources come, go and are renamed; `write` is called or not. */
static void test_compaction(void **state)
{
    (void)state;
    for (int way = 0; way < 4; way++) {
        bool write_during = (way & 1) != 0, sync_too = (way & 2) != 0;
        const struct source_id renamed = {.dev = 1, .ino = 2};
        struct checkpoint_slot *a, *left, *d;
        struct checkpoint *c;
        struct stat st;
        uint64_t generation = 0, here;

        dir_empty();
        c = reopen(NULL, NULL);
        a = join(c, "/a", 1, 0);
        (void)join(c, "/b", 2, 20);
        left = join(c, "/c", 3, 30);
        (void)join(c, "/same", 7, 70);
        assert_int_equal(checkpoint_write(c), 0);
        here = outgrow(c, a, 0);
        assert_true(has(1) && has(2)); /* the one before is kept */

        /* Again, with life going on. */
        for (int more = 0; more < 1000000 && generation == 0; more++) {
            checkpoint_note(c, a, at(++here));
            assert_int_equal(checkpoint_write(c), 0);
            if (more % 1000 == 999) {
                assert_int_equal(fstatat(dir_fd, name_of(2), &st, 0), 0);
                generation = st.st_size > 4200000 ? 3 : 0;
            }
        }
        checkpoint_note(c, a, at(++here)); /* noted, not written */
        assert_int_equal(checkpoint_job_begin(c), 0);
        assert_false(checkpoint_wants_job(c));
        checkpoint_note(c, a, at(++here));
        checkpoint_leave(c, left);
        d = join(c, "/d", 4, 40);
        checkpoint_leave(c, join(c, "/e", 5, 50));
        assert_int_equal(checkpoint_describe(c, find(c, 2), SLICE("/b.1"), &renamed), 0);
        if (write_during)
            assert_int_equal(checkpoint_write(c), 0);
        checkpoint_job_run(c);
        checkpoint_note(c, d, at(41));
        assert_int_equal(checkpoint_add_flow(c, SLICE("late")), 0);
        if (write_during)
            assert_int_equal(checkpoint_write(c), 0);
        assert_int_equal(checkpoint_job_end(c), 0);
        assert_true(has(3) && has(2) && !has(1)); /* the next is there: two are enough */
        if (sync_too)
            assert_int_equal(job(c), 0);

        for (int round = 0; round < 2; round++) {
            struct checkpoint_report report;

            c = reopen(c, &report);
            assert_int_equal(report.damaged, 0);
            assert_int_equal(count(c), 4);
            assert_true(checkpoint_cursor(find(c, 1)).offset == here);
            assert_true(checkpoint_cursor(find(c, 2)).offset == 20);
            assert_true(slice_equal(path_of(find(c, 2)), SLICE("/b.1")));
            assert_null(find(c, 3));
            assert_true(checkpoint_cursor(find(c, 4)).offset == 41);
            assert_null(find(c, 5));
            assert_true(checkpoint_cursor(find(c, 7)).offset == 70);
            assert_true(checkpoint_knows_flow(c, SLICE("late")));
        }
        checkpoint_close(c);
    }
}

/* A journal may outgrow its snapshot four times: a large store is not written anew for each few
 * megabytes of news, also not after it was once. */
static void test_compaction_is_rare(void **state)
{
    enum { MANY = 20000 };
    struct checkpoint *c = reopen(NULL, NULL);
    struct checkpoint_slot *s = NULL;
    uint64_t compactions = 0, news = 0, snapshot = 0;
    char path[32];

    (void)state;
    for (uint64_t i = 0; i < MANY; i++) {
        (void)snprintf(path, sizeof path, "/log/%llu", (unsigned long long)i);
        (void)join(c, path, i, i);
    }
    while (compactions < 3) {
        struct stat before, after;

        while ((s = checkpoint_next(c, s)) != NULL)
            checkpoint_note(c, s, at(checkpoint_cursor(s).offset + 1));
        assert_int_equal(checkpoint_write(c), 0);
        assert_int_equal(fstatat(dir_fd, name_of(1 + compactions), &before, 0), 0);
        news = (uint64_t)before.st_size - snapshot;
        assert_int_equal(job(c), 0);
        if (!has(2 + compactions))
            continue;
        compactions++;
        assert_int_equal(fstatat(dir_fd, name_of(1 + compactions), &after, 0), 0);
        snapshot = (uint64_t)after.st_size;
        assert_true(snapshot > 2000000);
        if (compactions > 1)
            assert_true(news > 3 * snapshot - 100000);
    }
    checkpoint_close(c);
}

/* --- damage --- */

enum { SMALL_SOURCES = 3, SMALL_OFFSETS = 4 };

/* A small store, in generation 1: sources 1 to 3, each at 1000 i + 0 … 3; one that left; all of it
 * in `to`. */
static void make_small(struct buf *to)
{
    struct checkpoint *c;

    dir_empty();
    c = reopen(NULL, NULL);
    for (uint64_t i = 1; i <= SMALL_SOURCES; i++)
        (void)join(c, "/a b", i, 1000 * i);
    (void)join(c, "/gone", 9, 9000);
    assert_int_equal(checkpoint_write(c), 0);
    checkpoint_leave(c, find(c, 9));
    for (uint64_t n = 1; n < SMALL_OFFSETS; n++)
        for (uint64_t i = 1; i <= SMALL_SOURCES; i++) {
            checkpoint_note(c, find(c, i), at(1000 * i + n));
            assert_int_equal(checkpoint_write(c), 0);
        }
    checkpoint_close(c);
    file_get(1, to);
    dir_empty();
}

/* Nothing is invented: every source is one of ours, at a place that was noted, or at its start. */
static void check_small(struct checkpoint *c)
{
    struct checkpoint_slot *s = NULL;
    bool seen[10] = {false};

    while ((s = checkpoint_next(c, s)) != NULL) {
        uint64_t i = checkpoint_id(s)->ino, offset = checkpoint_cursor(s).offset;

        assert_true((i >= 1 && i <= SMALL_SOURCES) || i == 9);
        assert_false(seen[i]);
        seen[i] = true;
        assert_true(slice_equal(path_of(s), i == 9 ? SLICE("/gone") : SLICE("/a b")));
        assert_true(offset == 0 ||
                    (offset >= 1000 * i && offset < 1000 * i + (i == 9 ? 1 : SMALL_OFFSETS)));
        assert_true(
            same_place(checkpoint_cursor(s), offset == 0 ? (struct cursor){0} : at(offset)));
    }
}

static size_t count_lines(struct slice text)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++)
        n += text.ptr[i] == '\n';
    return n;
}

/* Cut off at every byte: what stands before the cut is known, whole. */
static void test_torn(void **state)
{
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 16);
    make_small(&text);
    for (size_t cut = 0; cut <= text.len; cut++) {
        struct checkpoint_report report;
        size_t lines = count_lines(slice_first(buf_slice(&text), cut));
        struct checkpoint *c;

        dir_empty();
        file_put(1, slice_first(buf_slice(&text), cut));
        c = reopen(NULL, &report);
        check_small(c);
        assert_int_equal(report.damaged, 0); /* a torn write is none */
        assert_int_equal(report.moved_aside, lines == 0);
        assert_int_equal(report.facts, lines > 0 ? lines - 1 : 0);
        assert_int_equal(count_damaged(), lines == 0);
        if (cut == text.len)
            for (uint64_t i = 1; i <= SMALL_SOURCES; i++)
                assert_true(checkpoint_cursor(find(c, i)).offset == 1000 * i + SMALL_OFFSETS - 1);

        /* And it goes on. */
        checkpoint_leave(c, join(c, "/x", 77, 1));
        assert_int_equal(checkpoint_write(c), 0);
        assert_int_equal(job(c), 0);
        c = reopen(c, &report);
        check_small(c);
        assert_int_equal(report.damaged, 0);
        checkpoint_close(c);
    }
    buf_done(&text);
}

static void test_flipped_bits(void **state)
{
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 16);
    make_small(&text);
    for (size_t bit = 0; bit < 8 * text.len; bit++) {
        struct checkpoint_report report;
        struct checkpoint *c;
        size_t after;

        dir_empty();
        text.ptr[bit / 8] ^= (char)(1 << bit % 8);
        file_put(1, buf_slice(&text));
        text.ptr[bit / 8] ^= (char)(1 << bit % 8);
        c = reopen(NULL, &report);
        check_small(c);

        /* Counted, unless it looks like a write that was torn: only the last line is bad, be it one
         * or two whose newline between them was hit. */
        after = count_lines(slice_from(buf_slice(&text), bit / 8));
        if (report.moved_aside > 0)
            assert_int_equal(count(c), 0);
        else if (after > 2 || (after == 2 && text.ptr[bit / 8] != '\n'))
            assert_true(report.damaged > 0);
        assert_true(report.damaged <= 2 + 2 * SMALL_OFFSETS);
        checkpoint_close(c);
    }
    buf_done(&text);
}

/* That something is missing is known until somebody has looked at all files, and that is written:
 * however many starts end before. */
static void test_partial(void **state)
{
    struct checkpoint_report report;
    struct checkpoint *c;
    struct checkpoint_slot *s;
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 16);
    make_small(&text);
    text.ptr[text.len / 2] ^= 1;
    file_put(1, buf_slice(&text));
    c = reopen(NULL, &report);
    assert_true(report.partial && report.damaged > 0);
    c = reopen(c, &report);
    assert_true(report.partial && report.damaged == 0);
    (void)join(c, "/var/log/new", 77, 1);
    assert_int_equal(checkpoint_write(c), 0);
    c = reopen(c, &report);
    assert_true(report.partial && report.damaged == 0);
    checkpoint_complete(c);
    c = reopen(c, &report);
    assert_true(report.partial); /* it was not written */
    checkpoint_complete(c);
    assert_true(checkpoint_is_dirty(c));
    assert_int_equal(checkpoint_write(c), 0);
    assert_false(checkpoint_is_dirty(c));
    c = reopen(c, &report);
    assert_false(report.partial);
    c = reopen(c, &report);
    assert_false(report.partial);

    /* All that was known is garbage. */
    file_put(50, SLICE("garbage"));
    for (uint64_t generation = 1; generation < 50; generation++)
        (void)unlinkat(dir_fd, name_of(generation), 0);
    c = reopen(c, &report);
    assert_true(report.partial && report.moved_aside == 1);
    c = reopen(c, &report);
    assert_true(report.partial && report.moved_aside == 0);

    /* It is said while a new generation is being written that says the opposite. */
    s = join(c, "/var/log/new", 78, 1);
    for (uint64_t offset = 2; offset < 150000; offset++) { /* until it is worth it */
        checkpoint_note(c, s, at(offset));
        assert_int_equal(checkpoint_write(c), 0);
    }
    assert_int_equal(checkpoint_job_begin(c), 0);
    checkpoint_complete(c);
    assert_int_equal(checkpoint_write(c), 0);
    checkpoint_job_run(c);
    assert_int_equal(checkpoint_job_end(c), 0);
    assert_true(has(53)); /* 51 and 52 were begun by the starts */
    c = reopen(c, &report);
    assert_false(report.partial);
    checkpoint_close(c);
    buf_done(&text);
}

/* A block that stood there before, of another generation or another store, is no fact of this one.
 */
static void test_stale_blocks(void **state)
{
    struct checkpoint_report report;
    struct buf text, newer, other;
    struct checkpoint *c;

    (void)state;
    buf_init(&text, 1 << 16);
    buf_init(&newer, 1 << 16);
    buf_init(&other, 1 << 16);
    make_small(&other); /* another store, the same generation */
    make_small(&text);
    file_put(1, buf_slice(&text));
    c = reopen(NULL, NULL);
    for (uint64_t i = 1; i <= SMALL_SOURCES; i++) {
        checkpoint_note(c, find(c, i), at(1000 * i + 500));
        assert_int_equal(checkpoint_write(c), 0);
    }
    checkpoint_close(c);
    file_get(2, &newer);

    for (int k = 0; k < 4; k++) {
        struct slice stale = k % 2 == 0 ? buf_slice(&other) : buf_slice(&newer);
        size_t header = (size_t)((const char *)memchr(stale.ptr, '\n', stale.len) - stale.ptr) + 1;
        struct buf mixed;

        if (k < 2)
            header = 0; /* with its header and all */
        buf_init(&mixed, 1 << 16);
        assert_int_equal(buf_append(&mixed, buf_slice(&text)), 0);
        assert_int_equal(buf_append(&mixed, slice_from(stale, header)), 0);
        dir_empty();
        file_put(1, buf_slice(&mixed));
        c = reopen(NULL, &report);
        check_small(c);
        for (uint64_t i = 1; i <= SMALL_SOURCES; i++)
            assert_true(checkpoint_cursor(find(c, i)).offset == 1000 * i + SMALL_OFFSETS - 1);
        assert_int_equal(report.damaged, count_lines(slice_from(stale, header)) - 1);
        checkpoint_close(c);
        buf_done(&mixed);
    }

    /* As a whole file under another name neither. */
    dir_empty();
    file_put(7, buf_slice(&newer));
    c = reopen(NULL, &report);
    assert_int_equal(count(c), 0);
    assert_int_equal(report.moved_aside, 1);
    checkpoint_close(c);
    buf_done(&text);
    buf_done(&newer);
    buf_done(&other);
}

static void test_garbage(void **state)
{
    static const struct slice garbage[] = {
        SLICE(""),
        SLICE("\n"),
        SLICE("hello\n"),
        SLICE("\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        SLICE("kinetail-checkpoint\n"),
        SLICE("kinetail-checkpoint 1 0 9 00000000\n"),
        SLICE(
            "kinetail-checkpoint 2 0 9 00000000\n"), /* no format of the future: it does not hold */
    };
    struct checkpoint_report report;
    struct checkpoint *c;
    struct buf text;
    int fd;

    (void)state;
    buf_init(&text, 1 << 16);
    make_small(&text);
    for (size_t i = 0; i < ARRAY_LEN(garbage); i++) {
        dir_empty();
        file_put(1, buf_slice(&text));
        file_put(9, garbage[i]);
        c = reopen(NULL, &report);
        check_small(c);
        assert_int_equal(count(c), SMALL_SOURCES);
        assert_int_equal(report.moved_aside, 1);
        assert_int_equal(count_damaged(), 1);
        assert_true(has(1) && has(10) && !has(9)); /* a number that was used is not used again */
        c = reopen(c, &report);
        assert_int_equal(report.moved_aside, 0);
        assert_int_equal(count(c), SMALL_SOURCES);
        checkpoint_close(c);

        /* Nothing but garbage: an empty store, and it is not a first start. */
        dir_empty();
        file_put(3, garbage[i]);
        file_put(9, garbage[i]);
        c = reopen(NULL, &report);
        assert_int_equal(count(c), 0);
        assert_int_equal(report.moved_aside, 2);
        assert_int_equal(count_damaged(), 2);
        assert_false(report.fresh);
        checkpoint_close(c);
    }

    /* What is no file at all. */
    dir_empty();
    file_put(1, buf_slice(&text));
    assert_int_equal(mkdirat(dir_fd, name_of(5), 0700), 0);
    assert_int_equal(symlinkat("/etc/passwd", dir_fd, name_of(6)), 0);
    assert_int_equal(symlinkat("nowhere", dir_fd, name_of(7)), 0);
    c = reopen(NULL, &report);
    assert_int_equal(count(c), SMALL_SOURCES);
    assert_int_equal(report.moved_aside, 3);
    checkpoint_close(c);

    /* A hole of ten gigabytes is not read, and the last number of all takes none from us. */
    dir_empty();
    file_put(1, buf_slice(&text));
    file_put(5, SLICE("kinetail"));
    fd = openat(dir_fd, name_of(5), O_WRONLY | O_CLOEXEC);
    assert_int_equal(ftruncate(fd, INT64_C(10) << 30), 0);
    close(fd);
    file_put(UINT64_C(9999999999), SLICE("garbage"));
    c = reopen(NULL, &report);
    assert_int_equal(report.moved_aside, 2);
    assert_true(has(6));
    (void)join(c, "/new", 99, 7);
    assert_int_equal(checkpoint_write(c), 0);
    c = reopen(c, &report);
    assert_int_equal(report.moved_aside, 0);
    assert_int_equal(count(c), SMALL_SOURCES + 1);
    checkpoint_close(c);

    /* Where a new generation is to be written: the one after it is. */
    for (int i = 0; i < 2; i++) {
        dir_empty();
        file_put(1, buf_slice(&text));
        if (i == 0)
            assert_int_equal(mkfifoat(dir_fd, ".0000000002.journal.new", 0600), 0);
        else
            assert_int_equal(symlinkat("away", dir_fd, ".0000000002.journal.new"), 0);
        c = reopen(NULL, &report);
        assert_true(report.error < 0 && !has(2));
        assert_int_equal(count(c), SMALL_SOURCES);
        assert_int_equal(job(c), 0);
        assert_true(has(3));
        c = reopen(c, &report);
        assert_int_equal(count(c), SMALL_SOURCES);
        checkpoint_close(c);
    }

    /* Names that are none of ours stay as they are, and mean nothing. */
    dir_empty();
    assert_int_equal(symlinkat("x", dir_fd, "99.journal"), 0);
    assert_int_equal(symlinkat("x", dir_fd, "0000000000.journal"), 0);
    assert_int_equal(symlinkat("x", dir_fd, "0000000009.journal.damaged"), 0);
    c = reopen(NULL, &report);
    assert_true(report.fresh && has(1));
    checkpoint_close(c);
    buf_done(&text);
}

/* A generation whose name a crash took is begun again: what the first one said must not hold in it. */
static void test_begun_twice(void **state)
{
    struct checkpoint_report report;
    struct buf first, second;

    (void)state;
    buf_init(&first, 1 << 16);
    buf_init(&second, 1 << 16);
    make_small(&first);
    dir_empty();
    file_put(1, buf_slice(&first));
    checkpoint_close(reopen(NULL, &report));
    file_get(2, &first);
    assert_int_equal(unlinkat(dir_fd, name_of(2), 0), 0);
    checkpoint_close(reopen(NULL, &report));
    file_get(2, &second);
    assert_memory_equal(first.ptr, second.ptr, strlen("kinetail-checkpoint 1 "));
    assert_memory_not_equal(first.ptr, second.ptr,
                            strlen("kinetail-checkpoint 1 0123456789abcdef"));
    buf_done(&first);
    buf_done(&second);
}

/* A generation that somebody has copied to another one's name is none. */
static void test_wrong_name(void **state)
{
    struct checkpoint_report report;
    struct checkpoint *c;
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 16);
    make_small(&text);
    dir_empty();
    file_put(3, buf_slice(&text));
    c = reopen(NULL, &report);
    assert_true(report.moved_aside == 1 && report.facts == 0 && count(c) == 0);
    checkpoint_close(c);
    buf_done(&text);
}

static void test_newer_format(void **state)
{
    struct checkpoint_report report;
    struct checkpoint *c = NULL;
    struct buf text;
    char line[128];
    int n;

    (void)state;
    buf_init(&text, 1 << 16);
    make_small(&text);
    file_put(1, buf_slice(&text));

    /* Its checksum holds. */
    n = snprintf(line, sizeof line, "kinetail-checkpoint 2 %016x 2", 77);
    line[n++] = ' ';
    n += snprintf(line + n, sizeof line - (size_t)n, "%08x\n",
                  crc32c(facts_seed(77, 2), line, (size_t)n));
    file_put(2, (struct slice){line, (size_t)n});
    for (int round = 0; round < 2; round++) {
        assert_int_equal(checkpoint_open(&disk_system, dir_fd, &c, &report), -ENOTSUP);
        assert_true(has(1) && has(2) && !has(3) && count_damaged() == 0); /* nothing was touched */
    }
    buf_done(&text);
}

/* A store of one generation with these lines, each with its checksum. */
static void put_lines(const char *const lines[])
{
    uint32_t seed = facts_seed(77, 1);
    struct buf b;

    buf_init(&b, 1 << 16);
    assert_int_equal(facts_write_header(&b, seed, 77, 1), 0);
    for (; *lines != NULL; lines++) {
        size_t from = b.len;

        assert_int_equal(buf_printf(&b, "%s ", *lines), 0);
        assert_int_equal(buf_printf(&b, "%08x\n", crc32c(seed, b.ptr + from, b.len - from)), 0);
    }
    dir_empty();
    file_put(1, buf_slice(&b));
    buf_done(&b);
}

/* Lines whose checksum holds and that say nonsense: they are damage, and what was known stands. */
static void test_places_as_text(void **state)
{
    static const struct {
        const char *line;
        bool holds;
        struct cursor at;
    } lines[] = {
        {"at 1 9 a", true, {.offset = 9, .anchor = 10}},
        {"at 1 9 a 3:b", true, {9, 10, {{3, 11}}}},
        {"at 1 9 a 3:b 9:ffffffff", true, {9, 10, {{3, 11}, {9, UINT32_MAX}}}},
        {"at 1 9 a 3:b 4:b 5:b", false, {0}}, /* a rung too many */
        {"at 1 9 a 10:b", false, {0}},        /* below the ground */
        {"at 1 9 a 0:b", false, {0}},
        {"at 1 9 a 3:b 3:b", false, {0}},
        {"at 1 9 a 3:b 2:b", false, {0}}, /* up */
        {"at 1 9 a 3", false, {0}},
        {"at 1 9 a 3:", false, {0}},
        {"at 1 9 a :b", false, {0}},
        {"at 1 9 a -3:b", false, {0}},
        {"at 1 9 a 3:100000000", false, {0}},
        {"at 1 9999999999 a 4294967297:b", false, {0}},
        {"at 1 9 a 3:b x", false, {0}},
        {"at 1 9", false, {0}},
        {"at 1 9 ", false, {0}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct checkpoint_report report;
        struct checkpoint *c;

        put_lines((const char *[]){"file 1 web 1 2 3 0: 0:0 /a", "at 1 7 7 2:2", lines[i].line,
                                   "flow z", NULL});
        c = reopen(NULL, &report);
        assert_int_equal(report.damaged, !lines[i].holds);
        assert_true(same_place(checkpoint_cursor(find(c, 2)),
                               lines[i].holds ? lines[i].at : (struct cursor){7, 7, {{2, 2}}}));
        checkpoint_close(c);
    }
}

/* Keys in any order, used again after they were gone, and names that no file can have. */
static void test_files_as_text(void **state)
{
    struct checkpoint_report report;
    struct checkpoint *c;
    struct buf b;

    (void)state;
    put_lines((const char *[]){"file 9 web 1 109 3 0: 0:0 /nine",
                               "file 2 web 1 102 3 0: 0:0 /x/two",
                               "file 5 mail 1 105 3 0: 0:0 /x/five",
                               "at 9 9 9",
                               "at 2 2 2",
                               "at 5 5 5",
                               "gone 2",
                               "file 7 web 1 107 3 0: 0:0 /seven",
                               "at 7 7 7",
                               "file 2 mail 1 202 3 0: 0:0 /x/again",
                               "at 2 22 22",
                               "at 4 4 4",
                               "gone 4",
                               "gone 9",
                               "gone 9",
                               "at 9 9 9",
                               "file 11 web 1 111 3 0: 0:0 /e",
                               "gone 11",
                               "file 11 web 1 211 3 0: 0:0 /e",
                               "at 11 11 11",
                               "flow z",
                               NULL});
    c = reopen(NULL, &report);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(report.damaged,
                         round == 0 ? 2 : 0); /* the places of 4, and of 9 at last */
        assert_int_equal(count(c), 4);
        assert_null(find(c, 109));
        assert_null(find(c, 111));
        assert_int_equal(checkpoint_cursor(find(c, 211)).offset, 11);
        assert_null(find(c, 102));
        assert_int_equal(checkpoint_cursor(find(c, 105)).offset, 5);
        assert_int_equal(checkpoint_cursor(find(c, 107)).offset, 7);
        assert_int_equal(checkpoint_cursor(find(c, 202)).offset, 22);
        assert_true(slice_equal(checkpoint_flow(find(c, 202)), SLICE("mail")));
        assert_true(slice_equal(path_of(find(c, 202)), SLICE("/x/again")));
        c = reopen(c, &report);
    }
    checkpoint_close(c);

    put_lines((const char *[]){"file 1 web 1 1 3 0: 0:0 /a%00b", "flow z", NULL});
    c = reopen(NULL, &report);
    assert_true(report.damaged == 1 && count(c) == 0);
    checkpoint_close(c);

    /* A crash has taken the place, which was not the beginning. */
    put_lines((const char *[]){"file 1 web 1 1 3 0: 0:0 /a", "flow z", NULL});
    c = reopen(NULL, &report);
    assert_true(report.damaged == 0 && count(c) == 0);
    checkpoint_close(c);

    /* One byte more than the longest path. */
    buf_init(&b, 1 << 16);
    for (size_t more = 0; more < 2; more++) {
        struct checkpoint_slot *slot;
        const struct source_id id = {.ino = 5};
        struct slice path;

        buf_reset(&b);
        assert_int_equal(buf_printf(&b, "file 1 web 1 1 3 0: 0:0 "), 0);
        while (b.len < strlen("file 1 web 1 1 3 0: 0:0 ") + PATH_MAX - 1 + more)
            assert_int_equal(buf_append_char(&b, b.len % 200 == 0 ? '/' : 'x'), 0);
        assert_int_equal(buf_append_char(&b, '\0'), 0);
        path = slice_of(b.ptr + strlen("file 1 web 1 1 3 0: 0:0 "));
        put_lines((const char *[]){b.ptr, "at 1 1 1", "flow z", NULL});
        c = reopen(NULL, &report);
        assert_int_equal(report.damaged, 2 * more);
        assert_int_equal(count(c), 1 - more);
        if (more == 0)
            assert_true(slice_equal(path_of(find(c, 1)), path));
        assert_int_equal(checkpoint_join(c, SLICE("web"), path, &id, at(0), &slot),
                         more == 0 ? 0 : -ENAMETOOLONG);
        assert_int_equal(count(c), 2 - 2 * more);
        checkpoint_close(c);
    }
    buf_done(&b);
}

/* --- looking without touching --- */

/* All names, sizes and contents in the directory, as one number. */
static uint64_t dir_state(void)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fdopendir(fd);
    uint64_t sum = 0;
    struct buf b;

    buf_init(&b, 1 << 24);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        struct stat st;
        char line[512];
        int in, n;

        if (e->d_name[0] == '.' && strlen(e->d_name) < 3)
            continue;
        assert_int_equal(fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
        buf_reset(&b);
        in = openat(dir_fd, e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (in >= 0 && S_ISREG(st.st_mode))
            assert_int_equal(disk_read_all(&disk_system, in, &b), 0);
        if (in >= 0)
            close(in);
        n = snprintf(line, sizeof line, "%s %ld %ld.%09ld %08x", e->d_name, (long)st.st_ino,
                     (long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, crc32c(0, b.ptr, b.len));
        sum += crc32c(1, line, (size_t)n); /* whatever the order of the names */
    }
    closedir(d);
    buf_done(&b);
    return sum;
}

static bool says_the_same(struct checkpoint *a, struct checkpoint *b)
{
    struct checkpoint_slot *s = NULL, *t = NULL;

    while ((s = checkpoint_next(a, s)) != NULL) {
        char path[PATH_MAX];

        t = checkpoint_next(b, t);
        if (t == NULL || !slice_equal(checkpoint_path(s, path), path_of(t)) ||
            !slice_equal(checkpoint_flow(s), checkpoint_flow(t)) ||
            !same_id(checkpoint_id(s), checkpoint_id(t)) ||
            !same_place(checkpoint_cursor(s), checkpoint_cursor(t)))
            return false;
    }
    return checkpoint_next(b, t) == NULL;
}

/* Reading says what opening would say, of whatever is there, and leaves it as it is. */
static void check_read(void)
{
    struct checkpoint_report read, opened;
    struct checkpoint *a = NULL, *b = NULL;
    uint64_t before = dir_state();

    assert_int_equal(checkpoint_read(&disk_system, dir_fd, &a, &read), 0);
    assert_true(dir_state() == before);
    assert_int_equal(checkpoint_open(&disk_system, dir_fd, &b, &opened), 0);
    assert_true(dir_state() != before);
    assert_true(says_the_same(a, b));
    assert_true(read.fresh == opened.fresh && read.facts == opened.facts &&
                read.damaged == opened.damaged && read.moved_aside == opened.moved_aside &&
                read.written_ns == opened.written_ns && read.error == 0);
    checkpoint_close(a);
    checkpoint_close(b);
}

static void test_read(void **state)
{
    struct checkpoint_report report;
    struct checkpoint *c = NULL;
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 16);
    make_small(&text);
    check_read(); /* nothing is there */
    for (size_t i = 0; i < text.len; i += 7) {
        dir_empty();
        file_put(3, buf_slice(&text)); /* not its name: it is passed over */
        file_put(1, slice_first(buf_slice(&text), i));
        file_put(9, SLICE("garbage\n"));
        check_read();
        dir_empty();
        text.ptr[i] ^= 1;
        file_put(1, buf_slice(&text));
        text.ptr[i] ^= 1;
        check_read();
    }
    dir_empty();
    assert_int_equal(symlinkat("nowhere", dir_fd, name_of(4)), 0);
    assert_int_equal(mkdirat(dir_fd, name_of(5), 0700), 0);
    file_put(1, buf_slice(&text));
    check_read();
    buf_done(&text);

    /* Of a directory that cannot be read it says so. */
    assert_int_equal(checkpoint_read(&disk_system, -1, &c, &report), -EBADF);
    assert_null(c);
}

/* An agent that writes and begins generations until it is killed. */
static void write_for_ever(struct checkpoint *c, pid_t parent)
{
    for (uint64_t here = 2; getppid() == parent; here++) {
        checkpoint_note(c, find(c, 1), at(here));
        checkpoint_note(c, find(c, 2), at(here));
        if (checkpoint_write(c) < 0)
            _exit(1);
        if (here % 20 == 0)
            c = reopen(c, NULL); /* a new generation, and an old one goes */
    }
    _exit(0);
}

static void test_read_beside(void **state)
{
    struct checkpoint_report report;
    struct checkpoint *c = reopen(NULL, NULL);
    pid_t parent = getpid(), writer;
    uint64_t last = 0;
    int status;

    (void)state;
    (void)join(c, "/a", 1, 1);
    (void)join(c, "/b", 2, 1);
    assert_int_equal(checkpoint_write(c), 0);
    writer = fork();
    assert_true(writer >= 0);
    if (writer == 0)
        write_for_ever(c, parent);
    checkpoint_close(c);
    for (int news = 0; news < 50;) {
        assert_int_equal(waitpid(writer, &status, WNOHANG), 0);
        assert_int_equal(checkpoint_read(&disk_system, dir_fd, &c, &report), 0);
        assert_true(report.damaged == 0 && report.moved_aside == 0 && !report.fresh);
        assert_int_equal(count(c), 2);
        for (uint64_t i = 1; i <= 2; i++) {
            struct cursor place = checkpoint_cursor(find(c, i));

            assert_true(same_place(place, at(place.offset)) && place.offset >= last);
        }
        news += checkpoint_cursor(find(c, 1)).offset > last;
        last = checkpoint_cursor(find(c, 1)).offset;
        checkpoint_close(c);
    }
    assert_int_equal(kill(writer, SIGKILL), 0);
    assert_int_equal(waitpid(writer, &status, 0), writer);
}

/* A generation that was deleted between the listing and the opening, the first n times. */
struct vanishing {
    struct disk disk;
    int times;
};

static int vanishing_open(const struct disk *d, int dir, const char *name, int flags, mode_t mode)
{
    struct vanishing *v = CONTAINER_OF(d, struct vanishing, disk);

    return v->times-- > 0 ? -ENOENT : disk_system.open(d, dir, name, flags, mode);
}

static void test_read_vanishing(void **state)
{
    struct vanishing v = {disk_system, 3};
    struct checkpoint_report report;
    struct checkpoint *c = reopen(NULL, NULL);

    (void)state;
    v.disk.open = vanishing_open;
    (void)join(c, "/a", 1, 1);
    assert_int_equal(checkpoint_write(c), 0);
    checkpoint_close(c);
    assert_int_equal(checkpoint_read(&v.disk, dir_fd, &c, &report), 0);
    assert_int_equal(count(c), 1);
    checkpoint_close(c);
    v.times = 1000000;
    assert_int_equal(checkpoint_read(&v.disk, dir_fd, &c, &report), -ENOENT);
}

/* A start that ended at once was no life: what it found is as old as it was. */
static void test_written_when(void **state)
{
    struct checkpoint_report report;
    struct checkpoint *c = reopen(NULL, &report);
    struct timespec now;
    int64_t now_ns, old_ns = INT64_C(1000000000123456789);

    (void)state;
    assert_int_equal(report.written_ns, 0);
    (void)join(c, "/a", 1, 1);
    assert_int_equal(checkpoint_write(c), 0);
    assert_int_equal(checkpoint_backdate(c, old_ns), 0);
    for (int round = 0; round < 3; round++) {
        c = reopen(c, &report);
        assert_true(report.written_ns == old_ns);
    }
    checkpoint_note(c, find(c, 1), at(2));
    assert_int_equal(checkpoint_write(c), 0);
    c = reopen(c, &report);
    assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
    now_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    assert_true(report.written_ns > now_ns - INT64_C(3600000000000));
    checkpoint_close(c);
}

static int64_t coarse_ns(void)
{
    struct timespec t;

    assert_int_equal(clock_gettime(CLOCK_REALTIME_COARSE, &t), 0);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A power cut may take bytes back and leave the file the time at which they were written: then files
 * that only those bytes knew must still be new. */
static void test_written_and_taken_back(void **state)
{
    const struct timespec tick = {.tv_nsec = 1000000};
    struct checkpoint_report report;
    struct checkpoint *c;
    struct buf text;
    int64_t known_ns;

    (void)state;
    dir_empty();
    c = reopen(NULL, NULL);
    (void)join(c, "/a", 1, 1);
    assert_int_equal(checkpoint_write(c), 0);
    known_ns = coarse_ns();
    buf_init(&text, 100000);
    file_get(1, &text);
    while (coarse_ns() == known_ns)
        nanosleep(&tick, NULL);
    (void)join(c, "/b", 2, 1);
    assert_int_equal(checkpoint_write(c), 0);
    checkpoint_close(c);
    file_put(1, buf_slice(&text));

    c = reopen(NULL, &report);
    assert_int_equal(count(c), 1);
    assert_true(report.written_ns > 0 && report.written_ns <= known_ns);
    c = reopen(c, &report); /* a start is no life */
    assert_true(report.written_ns > 0 && report.written_ns <= known_ns);

    /* Nor is what nobody has looked at yet seen, however late it is written. */
    checkpoint_sure(c, 12345);
    checkpoint_note(c, find(c, 1), at(7));
    assert_int_equal(checkpoint_write(c), 0);
    c = reopen(c, &report);
    assert_int_equal(report.written_ns, 12345);
    checkpoint_close(c);
    buf_done(&text);
    dir_empty();
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
    bool tainted[1024]; /* descriptors that must not be written to any more */
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
    if (!fails(d))
        return disk_system.write(d, fd, from, len);
    if (f->fault == FAULT_SHORT && len > 1)
        return disk_system.write(d, fd, from, len / 2);
    f->tainted[fd] = true;
    return -f->error;
}

static int faulty_sync(const struct disk *d, int fd)
{
    assert_false(faulty_of(d)->tainted[fd]); /* nor is it asked again */
    if (!fails(d))
        return disk_system.sync(d, fd);
    faulty_of(d)->tainted[fd] = true;
    return -faulty_of(d)->error;
}

static int faulty_sync_dir(const struct disk *d, int fd)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.sync_dir(d, fd);
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

static int faulty_list(const struct disk *d, int dir, int (*each)(void *user, const char *name),
                       void *user)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.list(d, dir, each, user);
}

static int faulty_size(const struct disk *d, int fd, uint64_t *ret)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.size(d, fd, ret);
}

static int faulty_written(const struct disk *d, int fd, int64_t *ret_ns)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.written(d, fd, ret_ns);
}

static int faulty_set_written(const struct disk *d, int fd, int64_t ns)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.set_written(d, fd, ns);
}

static int faulty_truncate(const struct disk *d, int fd, uint64_t len)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.truncate(d, fd, len);
}

static int faulty_free_bytes(const struct disk *d, int fd, uint64_t *ret)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.free_bytes(d, fd, ret);
}

static int faulty_allocate(const struct disk *d, int fd, uint64_t len)
{
    return fails(d) ? -faulty_of(d)->error : disk_system.allocate(d, fd, len);
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
    .size = faulty_size,
    .written = faulty_written,
    .set_written = faulty_set_written,
    .list = faulty_list,
    .truncate = faulty_truncate,
    .free_bytes = faulty_free_bytes,
    .allocate = faulty_allocate,
};

struct noted {
    uint64_t noted, durable; /* of source 1 and 2 alike */
    bool gone, gone_durable; /* source 3 */
};

static void check_after_fault(const struct noted *n)
{
    struct checkpoint_report report;
    struct checkpoint *c = reopen(NULL, &report);

    assert_int_equal(report.moved_aside, 0);
    assert_int_equal(report.damaged, 0);
    for (uint64_t i = 1; i <= 2; i++) {
        struct checkpoint_slot *s = find(c, i);

        if (s == NULL) {
            assert_true(n->durable == 0);
            continue;
        }
        assert_true(checkpoint_cursor(s).offset <= n->noted);
        assert_true(checkpoint_cursor(s).offset >= n->durable);
    }
    if (!n->gone)
        assert_true(find(c, 3) != NULL || n->durable == 0);
    if (n->gone_durable)
        assert_null(find(c, 3));
    checkpoint_close(c);
}

/* One write and one job.  What succeeded must be there at the next start. */
static void commit(struct checkpoint *c, struct noted *n)
{
    int j = 0;

    (void)checkpoint_write(c);
    if (checkpoint_wants_job(c)) {
        j = checkpoint_job_begin(c);
        assert_int_equal(j, 0);
        checkpoint_job_run(c);
        j = checkpoint_job_end(c);
    }
    if (j == 0 && !checkpoint_is_dirty(c) && !checkpoint_wants_job(c)) {
        n->durable = n->noted;
        n->gone_durable = n->gone;
    }
}

/* The n-th call fails, and maybe some after it, for every n. */
static bool tell_fault(long until, long times, enum fault fault, int error)
{
    struct faulty f = {faulty_disk, until, times, fault, error, 0, {false}};
    struct checkpoint_report report;
    struct checkpoint *c = NULL;
    struct checkpoint_slot *s[4] = {NULL};
    struct noted n = {0};
    bool over;
    int r;

    dir_empty();

    /* A start that fails leaves what was there. */
    for (int tries = 0; (r = checkpoint_open(&f.disk, dir_fd, &c, &report)) < 0; tries++) {
        assert_int_equal(r, -error);
        assert_true(tries < times);
    }
    for (uint64_t i = 1; i <= 3; i++)
        s[i] = join(c, "/a", i, 1);
    n.noted = 1;
    for (int round = 0; round < 6; round++) {
        commit(c, &n);
        if (round == 2) {
            checkpoint_leave(c, s[3]);
            n.gone = true;
        }
        if (round == 4) {
            /* A restart on the way. */
            checkpoint_close(c);
            check_after_fault(&n);
            for (int tries = 0; (r = checkpoint_open(&f.disk, dir_fd, &c, &report)) < 0; tries++) {
                assert_true(tries < times);
                check_after_fault(&n);
            }
            assert_int_equal(report.damaged, 0);
            assert_int_equal(report.moved_aside, 0);
            for (uint64_t i = 1; i <= 2; i++) {
                s[i] = find(c, i);
                if (s[i] == NULL)
                    s[i] = join(c, "/a", i, 1);
            }
            n.gone = n.gone && find(c, 3) == NULL; /* the news of it may not have been written */
        }
        n.noted++;
        for (uint64_t i = 1; i <= 2; i++)
            checkpoint_note(c, s[i], at(n.noted));
    }

    /* The fault is over: soon all is durable. */
    over = f.calls <= until;
    f.until = -1;
    f.times = 0;
    for (int tries = 0; tries < 3; tries++)
        commit(c, &n);
    assert_true(n.durable == n.noted);
    assert_int_equal(n.gone_durable, n.gone);
    checkpoint_close(c);
    check_after_fault(&n);
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

/* After a failed sync the file is left alone, what was noted goes into a new one, and until that
 * stands nothing is called written. */
static void test_failed_sync(void **state)
{
    struct faulty f = {faulty_disk, -1, 0, FAULT_ERROR, EIO, 0, {false}};
    struct checkpoint_report report;
    struct checkpoint_slot *s;
    struct checkpoint *c;

    (void)state;
    assert_int_equal(checkpoint_open(&f.disk, dir_fd, &c, &report), 0);
    s = join(c, "/a", 1, 1);
    assert_int_equal(checkpoint_write(c), 0);
    f.until = f.calls; /* the sync */
    f.times = 1;
    assert_int_equal(job(c), -EIO);
    assert_true(checkpoint_wants_job(c));
    checkpoint_note(c, s, at(2));
    assert_int_equal(checkpoint_write(c), -EIO);
    assert_true(checkpoint_is_dirty(c));
    assert_int_equal(job(c), 0); /* a new generation */
    assert_true(has(2));
    assert_false(checkpoint_is_dirty(c));
    checkpoint_note(c, s, at(3));
    assert_int_equal(checkpoint_write(c), 0);
    c = reopen(c, &report);
    assert_true(checkpoint_cursor(find(c, 1)).offset == 3);
    checkpoint_close(c);
}

/* --- facts that travel --- */

/* What a spool's frame says of its sources is learnt by the store as it was, by one that has forgotten,
 * and by another one; no place goes back. */
static void test_travelling_facts(void **state)
{
    struct checkpoint *c;
    struct checkpoint_slot *a, *b;
    struct buf facts;

    (void)state;
    dir_empty();
    c = reopen(NULL, NULL);
    a = join(c, "/log/a", 11, 100);
    b = join(c, "/log/b \n%", 12, 100);
    buf_init(&facts, 100000);
    assert_int_equal(checkpoint_tell(a, at(250), &facts), 0);
    assert_int_equal(checkpoint_tell(b, at(50), &facts), 0); /* older than what is known */
    assert_int_equal(checkpoint_cursor(a).offset, 100);      /* telling changes nothing */
    assert_int_equal(checkpoint_learn(c, buf_slice(&facts)), 0);
    assert_true(same_place(checkpoint_cursor(a), at(250)));
    assert_true(same_place(checkpoint_cursor(b), at(100)));
    assert_int_equal(checkpoint_spool(c, SLICE("s")), 0);
    assert_int_equal(checkpoint_note_spool(c, SLICE("s"), 7), 0);
    assert_int_equal(checkpoint_note_spool(c, SLICE("other stream"), 1), 0);
    assert_int_equal(checkpoint_note_spool(c, SLICE("s"), 8), 0);
    assert_true(checkpoint_is_dirty(c));
    assert_int_equal(checkpoint_write(c), 0);
    assert_false(checkpoint_is_dirty(c));
    for (int again = 0; again < 3; again++) { /* from the journal, and from snapshots */
        c = reopen(c, NULL);
        assert_int_equal(checkpoint_spool(c, SLICE("s")), 8);
        assert_int_equal(checkpoint_spool(c, SLICE("other stream")), 1);
        a = checkpoint_next(c, NULL);
        b = checkpoint_next(c, a);
        assert_true(same_place(checkpoint_cursor(a), at(250)));
        assert_int_equal(checkpoint_learn(c, buf_slice(&facts)), 0); /* twice is once */
        assert_true(same_place(checkpoint_cursor(a), at(250)));
        assert_true(same_place(checkpoint_cursor(b), at(100)));
        assert_null(checkpoint_next(c, b));
    }

    /* A power cut took all of it: the sources are known by the spool alone. */
    checkpoint_close(c);
    dir_empty();
    c = reopen(NULL, NULL);
    assert_int_equal(checkpoint_learn(c, buf_slice(&facts)), 0);
    c = reopen(c, NULL); /* not written: forgotten again */
    assert_null(checkpoint_next(c, NULL));
    assert_int_equal(checkpoint_learn(c, buf_slice(&facts)), 0);
    assert_int_equal(checkpoint_write(c), 0);
    c = reopen(c, NULL);
    a = checkpoint_next(c, NULL);
    b = checkpoint_next(c, a);
    assert_true(same_place(checkpoint_cursor(a), at(250)));
    assert_true(same_place(checkpoint_cursor(b), at(50)));
    assert_int_equal(checkpoint_id(b)->ino, 12);

    facts.ptr[facts.len / 2] ^= 1;
    assert_int_equal(checkpoint_learn(c, buf_slice(&facts)), -EBADMSG);
    assert_int_equal(checkpoint_learn(c, SLICE("")), 0);
    assert_int_equal(checkpoint_learn(c, SLICE("at 1 2\n")), -EBADMSG);
    buf_done(&facts);
    checkpoint_close(c);
    dir_empty();
}

/* What is learnt is found by inode, also when slots came, went and changed between two frames. */
static void test_learning_while_slots_change(void **state)
{
    struct checkpoint *c = reopen(NULL, NULL);
    struct checkpoint_slot *a = join(c, "/log/a", 11, 100), *b = join(c, "/log/b", 12, 100), *d;
    struct buf of_a, of_b;
    struct source_id id = *checkpoint_id(b);

    (void)state;
    buf_init(&of_a, 10000);
    buf_init(&of_b, 10000);
    assert_int_equal(checkpoint_tell(a, at(200), &of_a), 0);
    assert_int_equal(checkpoint_tell(b, at(200), &of_b), 0);
    assert_int_equal(checkpoint_learn(c, buf_slice(&of_a)), 0);
    checkpoint_leave(c, a); /* then it is unknown, and becomes known again */
    assert_int_equal(checkpoint_learn(c, buf_slice(&of_a)), 0);
    d = checkpoint_next(c, b);
    assert_non_null(d);
    assert_true(same_place(checkpoint_cursor(d), at(200)));
    id.ino = 13; /* it is another file now */
    assert_int_equal(checkpoint_describe(c, b, SLICE("/log/b"), &id), 0);
    assert_int_equal(checkpoint_learn(c, buf_slice(&of_b)), 0);
    assert_true(same_place(checkpoint_cursor(b), at(100)));
    d = checkpoint_next(c, d);
    assert_non_null(d);
    assert_int_equal(checkpoint_learn(c, buf_slice(&of_b)), 0); /* and is found now */
    assert_null(checkpoint_next(c, d));
    assert_int_equal(checkpoint_write(c), 0);
    assert_int_equal(checkpoint_learn(c, buf_slice(&of_b)), 0);
    assert_null(checkpoint_next(c, d));
    buf_done(&of_a);
    buf_done(&of_b);
    checkpoint_close(c);
    dir_empty();
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, dir_begin, dir_end)
    const struct CMUnitTest tests[] = {
        IN_DIR(test_round_trips),
        IN_DIR(test_life),
        IN_DIR(test_many),
        IN_DIR(test_renames),
        IN_DIR(test_memory),
        IN_DIR(test_compaction),
        IN_DIR(test_compaction_is_rare),
        IN_DIR(test_torn),
        IN_DIR(test_flipped_bits),
        IN_DIR(test_partial),
        IN_DIR(test_stale_blocks),
        IN_DIR(test_garbage),
        IN_DIR(test_begun_twice),
        IN_DIR(test_wrong_name),
        IN_DIR(test_newer_format),
        IN_DIR(test_places_as_text),
        IN_DIR(test_files_as_text),
        IN_DIR(test_read),
        IN_DIR(test_read_beside),
        IN_DIR(test_read_vanishing),
        IN_DIR(test_written_when),
        IN_DIR(test_written_and_taken_back),
        IN_DIR(test_faults),
        IN_DIR(test_failed_sync),
        IN_DIR(test_travelling_facts),
        IN_DIR(test_learning_while_slots_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
