/* A full disk, and places that are remembered all the same. */
#include "keep/reserve.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "disk.h"
#include "keep/checkpoint.h"
#include "util.h"

enum { MIB = 1024 * 1024, COMMITS = 60 * 1000 };

static char dir_path[64];
static int dir_fd = -1;

/* Memory, if there is: it counts its blocks as a disk does. */
static int dir_begin(void **state)
{
    (void)state;
    (void)snprintf(dir_path, sizeof dir_path, "%s/kinetail-reserve-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(dir_path) == NULL)
        return -1;
    dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir_fd < 0 ? -1 : 0;
}

static int remove_one(void *user, const char *name)
{
    (void)user;
    return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
}

static int dir_end(void **state)
{
    int r = disk_system.list(&disk_system, dir_fd, remove_one, NULL);

    (void)state;
    close(dir_fd);
    return r < 0 ? r : rmdir(dir_path);
}

static uint64_t blocks_of(const char *name)
{
    struct stat st;

    return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static int add_blocks(void *user, const char *name)
{
    *(uint64_t *)user += blocks_of(name);
    return 0;
}

static uint64_t used(void)
{
    uint64_t bytes = 0;

    assert_int_equal(disk_system.list(&disk_system, dir_fd, add_blocks, &bytes), 0);
    return bytes;
}

/* --- a disk of a given size --- */

struct small {
    struct disk disk;
    uint64_t limit;
    int error;                              /* ENOSPC or EDQUOT */
    bool no_inodes, no_allocate, says_free; /* more than there is */
    unsigned reserves;                      /* begun */
};

static struct small *of(const struct disk *d)
{
    return CONTAINER_OF(d, struct small, disk);
}

static uint64_t room(const struct small *s)
{
    uint64_t bytes = used();

    return bytes < s->limit ? s->limit - bytes : 0;
}

static int small_open(const struct disk *d, int dir, const char *name, int flags, mode_t mode)
{
    if ((flags & O_CREAT) != 0 && of(d)->no_inodes && faccessat(dir, name, F_OK, 0) < 0)
        return -of(d)->error;
    of(d)->reserves += (flags & O_CREAT) != 0 && strcmp(name, reserve_name) == 0;
    return disk_system.open(d, dir, name, flags, mode);
}

/* Short first, as a disk that is nearly full does it.  A file's own blocks are its own. */
static ssize_t small_write(const struct disk *d, int fd, const void *from, size_t len)
{
    struct stat st;
    uint64_t own, can;

    assert_int_equal(fstat(fd, &st), 0);
    own = (uint64_t)st.st_blocks * 512;
    own = own > (uint64_t)st.st_size ? own - (uint64_t)st.st_size : 0;
    can = len <= own ? len : own + room(of(d)) / 4096 * 4096;
    if (can == 0)
        return -of(d)->error;
    return disk_system.write(d, fd, from, MIN(len, (size_t)can));
}

static int small_free_bytes(const struct disk *d, int fd, uint64_t *ret)
{
    (void)fd;
    *ret = of(d)->no_inodes ? 0 : of(d)->says_free ? UINT64_MAX : room(of(d));
    return 0;
}

static int small_allocate(const struct disk *d, int fd, uint64_t len)
{
    struct stat st;

    if (of(d)->no_allocate)
        return -EOPNOTSUPP;
    assert_int_equal(fstat(fd, &st), 0);
    if (len > (uint64_t)st.st_blocks * 512 + room(of(d)))
        return -of(d)->error;
    return disk_system.allocate(d, fd, len);
}

static struct small small_disk(uint64_t limit)
{
    struct small s = {.disk = disk_system, .limit = limit, .error = ENOSPC};

    s.disk.open = small_open;
    s.disk.write = small_write;
    s.disk.free_bytes = small_free_bytes;
    s.disk.allocate = small_allocate;
    return s;
}

/* --- a store on it --- */

static struct checkpoint *begin(struct small *s, int expected)
{
    struct checkpoint_report report;
    struct checkpoint *c;

    assert_int_equal(checkpoint_open(&s->disk, dir_fd, &c, &report), 0);
    assert_int_equal(report.error, expected);
    assert_int_equal(report.damaged, 0);
    return c;
}

static struct checkpoint_slot *join(struct checkpoint *c)
{
    const struct source_id id = {.dev = 1, .ino = 2, .born_ns = 3};
    struct checkpoint_slot *s;

    assert_int_equal(
        checkpoint_join(c, SLICE("web"), SLICE("/a"), &id, (struct cursor){.offset = 1}, &s), 0);
    return s;
}

/* What the lane does, with its patience: a write, and a job if there is one to do. */
static int commit(struct checkpoint *c)
{
    int r = 0;

    (void)checkpoint_write(c);
    if (checkpoint_wants_job(c)) {
        assert_int_equal(checkpoint_job_begin(c), 0);
        checkpoint_job_run(c);
        r = checkpoint_job_end(c);
    }
    return r;
}

static int note(struct checkpoint *c, uint64_t offset)
{
    checkpoint_note(c, checkpoint_next(c, NULL), (struct cursor){.offset = offset});
    return commit(c);
}

/* What the next start would know. */
static uint64_t known(void)
{
    struct checkpoint_report report;
    struct checkpoint *c;
    uint64_t offset;

    assert_int_equal(checkpoint_read(&disk_system, dir_fd, &c, &report), 0);
    assert_int_equal(report.damaged + report.moved_aside, 0);
    assert_non_null(checkpoint_next(c, NULL));
    offset = checkpoint_cursor(checkpoint_next(c, NULL)).offset;
    checkpoint_close(c);
    return offset;
}

static struct checkpoint *begin_full(struct small *s)
{
    struct checkpoint *c = begin(s, 0);

    (void)join(c);
    assert_int_equal(commit(c), 0);
    assert_true(blocks_of(reserve_name) >= MIB);
    s->limit = used();
    return c;
}

/* Far more is written than the reserve holds, while the disk has not a block to spare; not one commit
 * fails, and no more is used than there was. */
static void test_full_for_hours(void **state)
{
    static const int errors[] = {ENOSPC, EDQUOT};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
        struct small s = small_disk(64 * MIB);
        struct checkpoint *c = begin_full(&s);
        uint64_t uses;

        s.error = errors[i];
        for (uint64_t n = 2; n < COMMITS; n++) {
            assert_int_equal(note(c, n), 0);
            assert_false(checkpoint_is_dirty(c));
            if (n % 1000 == 0) {
                assert_true(known() == n);
                assert_true(used() <= s.limit);
            }
        }
        uses = checkpoint_reserve_uses(c);
        assert_true(uses >= 3 && uses < 20); /* or it tells nothing; a generation lasts */
        checkpoint_close(c);

        /* A start as well. */
        c = begin(&s, 0);
        assert_true(checkpoint_cursor(checkpoint_next(c, NULL)).offset == COMMITS - 1);
        assert_int_equal(note(c, COMMITS), 0);
        assert_true(known() == COMMITS);
        checkpoint_close(c);
        (void)disk_system.list(&disk_system, dir_fd, remove_one, NULL);
    }
}

/* Others take each block that is given back.  What is left of the reserve lasts for a while; then
 * places are not remembered any more, until there is room. */
static void test_others_are_faster(void **state)
{
    struct small s = small_disk(64 * MIB);
    struct checkpoint *c = begin_full(&s);
    uint64_t n = 2, last = 0;

    (void)state;
    for (; n < COMMITS; n++) {
        s.limit = 0;
        if (note(c, n) < 0)
            break;
        last = n;
    }
    assert_in_range(last, 2000, COMMITS - 1);
    assert_true(checkpoint_is_dirty(c));
    assert_in_range(known(), last, n); /* of the last write, the half that found room may be all */
    assert_int_equal(checkpoint_reserve_uses(c), 1);
    assert_true(blocks_of(reserve_name) == 0);

    /* The disk is full for a little while longer, and then it is not. */
    for (int i = 0; i < 10; i++)
        assert_int_equal(note(c, ++n), -ENOSPC);
    s.limit = 64 * MIB;
    assert_int_equal(commit(c), 0);
    assert_false(checkpoint_is_dirty(c));
    assert_true(known() == n);
    assert_true(blocks_of(reserve_name) >= MIB);
    checkpoint_close(c);
}

/* A little room that comes and goes does not mean a generation each moment. */
static void test_nearly_full(void **state)
{
    struct small s = small_disk(64 * MIB);
    struct checkpoint *c = begin_full(&s);
    uint64_t *generations;
    size_t count;

    (void)state;
    for (uint64_t n = 2; n < COMMITS / 2; n++) {
        s.limit = 0;
        checkpoint_note(c, checkpoint_next(c, NULL), (struct cursor){.offset = n});
        (void)checkpoint_write(c);
        s.limit = used() + 8192;
        assert_int_equal(commit(c), 0);
    }
    assert_int_equal(checkpoint_generations(&s.disk, dir_fd, &generations, &count), 0);
    assert_in_range(generations[0], 2, 6);
    free(generations);
    checkpoint_close(c);
}

/* One start after the other, while others take what is given back: the first one has the reserve, the
 * later ones go on in the generation that it has become, unless its end is torn. */
static void test_restarts(void **state)
{
    struct small s = small_disk(64 * MIB);
    struct checkpoint *c = begin_full(&s);
    uint64_t n = 1;
    int fd;

    (void)state;
    for (int i = 0; i < 10; i++) {
        checkpoint_close(c);
        s.limit = 0;
        c = begin(&s, 0);
        assert_int_equal(checkpoint_reserve_uses(c), i == 0);
        assert_false(checkpoint_is_dirty(c));
        assert_true(checkpoint_cursor(checkpoint_next(c, NULL)).offset == n);
        for (int k = 0; k < 10; k++)
            assert_int_equal(note(c, ++n), 0);
        assert_true(known() == n);
    }
    checkpoint_close(c);

    /* Whatever came behind a torn line would be glued to it. */
    fd = openat(dir_fd, "0000000002.journal", O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(disk_write_all(&disk_system, fd, SLICE("at 1 ")), 0);
    close(fd);
    c = begin(&s, -ENOSPC);
    assert_int_equal(note(c, ++n), -ENOSPC);
    s.limit = 64 * MIB;
    assert_int_equal(commit(c), 0);
    assert_true(known() == n);
    checkpoint_close(c);
}

/* No inode left: the reserve has one. */
static void test_no_inodes(void **state)
{
    struct small s = small_disk(64 * MIB);
    struct checkpoint *c = begin_full(&s);

    (void)state;
    checkpoint_close(c);
    s.limit = 64 * MIB;
    s.no_inodes = true;
    c = begin(&s, 0);
    assert_int_equal(checkpoint_reserve_uses(c), 1);
    assert_int_equal(note(c, 7), 0);
    assert_true(known() == 7);
    assert_int_equal(faccessat(dir_fd, reserve_name, F_OK, 0), -1);
    s.no_inodes = false;
    assert_int_equal(note(c, 8), 0);
    assert_true(blocks_of(reserve_name) >= MIB);
    checkpoint_close(c);
}

/* It takes nothing of a disk that has too little, and is made as soon as there is enough. */
static void test_not_made_without_room(void **state)
{
    struct small s = small_disk(MIB / 2);
    struct checkpoint *c = begin(&s, 0);

    (void)state;
    (void)join(c);
    assert_int_equal(commit(c), 0);
    assert_int_equal(faccessat(dir_fd, reserve_name, F_OK, 0), -1);
    assert_int_equal(s.reserves, 0); /* not even for a moment */
    s.says_free = true;
    assert_int_equal(note(c, 1), 0);
    assert_int_equal(s.reserves, 1);
    assert_int_equal(faccessat(dir_fd, reserve_name, F_OK, 0), -1);
    s.says_free = false;
    s.limit = 3 * MIB;
    assert_int_equal(note(c, 2), 0);
    assert_true(blocks_of(reserve_name) >= MIB);
    assert_true(blocks_of(reserve_name) < 2 * MIB);
    checkpoint_close(c);
}

/* Where blocks cannot be set aside there are zeros, of which no generation has any. */
static void test_without_fallocate(void **state)
{
    struct small s = small_disk(64 * MIB);
    struct checkpoint *c;
    struct stat st;

    (void)state;
    s.no_allocate = true;
    c = begin_full(&s);
    assert_int_equal(fstatat(dir_fd, reserve_name, &st, 0), 0);
    assert_int_equal(st.st_size, MIB);
    for (uint64_t n = 2; n < 100; n++)
        assert_int_equal(note(c, n), 0);
    assert_int_equal(checkpoint_reserve_uses(c), 1);
    assert_true(known() == 99);
    checkpoint_close(c);
}

/* Who was killed while he wrote into it leaves what must not be read as a part of the next. */
static void test_left_half_written(void **state)
{
    struct small s = small_disk(64 * MIB);
    struct checkpoint *c = begin_full(&s);
    int fd = openat(dir_fd, reserve_name, O_WRONLY | O_APPEND | O_CLOEXEC);

    (void)state;
    assert_int_equal(disk_write_all(&disk_system, fd, SLICE("flow web 1234\nfile 1 ")), 0);
    close(fd);
    checkpoint_close(c);
    c = begin(&s, 0);
    assert_int_equal(checkpoint_reserve_uses(c), 1);
    assert_int_equal(note(c, 5), 0);
    assert_true(known() == 5);
    checkpoint_close(c);
}

/* What is no file is no reserve, and nobody waits for it. */
static void test_in_the_way(void **state)
{
    struct small s = small_disk(64 * MIB);
    struct checkpoint *c;

    (void)state;
    assert_int_equal(mkfifoat(dir_fd, reserve_name, 0600), 0);
    c = begin(&s, 0);
    (void)join(c);
    assert_int_equal(commit(c), 0);
    s.limit = 0;
    for (uint64_t n = 2; n < COMMITS && note(c, n) == 0; n++)
        ;
    assert_int_equal(commit(c), -ENOSPC);
    s.limit = 64 * MIB;
    assert_int_equal(commit(c), 0);
    assert_false(checkpoint_is_dirty(c));
    checkpoint_close(c);
}

/* It grows with what a generation will need. */
static void test_grows(void **state)
{
    struct small s = small_disk(64 * MIB);
    struct checkpoint *c = begin(&s, 0);
    char path[64];

    (void)state;
    for (uint64_t i = 1; i <= 10000; i++) {
        const struct source_id id = {.dev = 1, .ino = i};
        struct checkpoint_slot *slot;

        (void)snprintf(path, sizeof path, "/var/log/somewhere/%05u.log", (unsigned)i);
        assert_int_equal(
            checkpoint_join(c, SLICE("web"), slice_of(path), &id, (struct cursor){0}, &slot), 0);
    }
    assert_int_equal(commit(c), 0);
    assert_true(blocks_of(reserve_name) >= 4 * MIB);
    s.limit = used();
    for (uint64_t n = 1; n < 100; n++) {
        for (struct checkpoint_slot *slot = NULL; (slot = checkpoint_next(c, slot)) != NULL;)
            checkpoint_note(c, slot, (struct cursor){.offset = n});
        assert_int_equal(commit(c), 0);
    }
    assert_true(known() == 99);
    checkpoint_close(c);
}

int main(void)
{
#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, dir_begin, dir_end)
    const struct CMUnitTest tests[] = {
        IN_DIR(test_full_for_hours),    IN_DIR(test_others_are_faster),
        IN_DIR(test_nearly_full),       IN_DIR(test_restarts),
        IN_DIR(test_no_inodes),         IN_DIR(test_not_made_without_room),
        IN_DIR(test_without_fallocate), IN_DIR(test_left_half_written),
        IN_DIR(test_in_the_way),        IN_DIR(test_grows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
