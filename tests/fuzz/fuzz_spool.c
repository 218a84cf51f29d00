/* fuzz_spool -- whatever may stand in segments and their acknowledgements: the start succeeds, what is
 * given out holds its checksums, nothing is given out twice, and a frame that is put then comes back.
 *
 * The input is two segments and an .ack.  Its first byte says whether they are taken as they are or get
 * their checksums right first: with wrong ones nothing behind the first check would ever be reached. */
#include "keep/spool.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "disk.h"
#include "keep/spool_format.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEED = 0x5f0c1a2b, NUMBERS = 5, FRAMES_MAX = 4096 };

static int state_fd = -1;
static uint64_t owner;
static char dir_path[] = "/dev/shm/kinetail-fuzz-spool-XXXXXX";

static void path_of(uint64_t segment, enum spool_file file, char to[100])
{
    char name[SPOOL_NAME_LEN];

    spool_file_name(segment, file, name);
    (void)snprintf(to, 100, "spool/web/%s", name);
}

static void dir_empty(void)
{
    for (uint64_t i = 1; i <= NUMBERS; i++)
        for (int file = SPOOL_FILE_SEGMENT; file <= SPOOL_FILE_FOREIGN; file++) {
            char path[100];

            path_of(i, (enum spool_file)file, path);
            (void)unlinkat(state_fd, path, 0);
        }
}

static void dir_remove(void)
{
    dir_empty();
    (void)unlinkat(state_fd, "spool/web", AT_REMOVEDIR);
    (void)unlinkat(state_fd, "spool", AT_REMOVEDIR);
    (void)rmdir(dir_path);
}

static void file_put(uint64_t segment, enum spool_file file, struct slice text)
{
    char path[100];
    int fd;

    path_of(segment, file, path);
    fd = openat(state_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0 && disk_write_all(&disk_system, fd, text) == 0);
    close(fd);
}

static void put32(char *to, uint32_t n)
{
    memcpy(to, &n, sizeof n);
}

static uint32_t get32(const char *from)
{
    uint32_t n;

    memcpy(&n, from, sizeof n);
    return n;
}

/* A segment with a header that holds; every frame that may be one gets its checksums right. */
static void mend(char *text, size_t len, uint64_t segment)
{
    struct spool_header h = {.segment = segment, .owner = owner, .seed = SEED};

    if (len < SPOOL_HEADER_LEN)
        return;
    h.first_serial = 1 + (uint8_t)text[24] % 8 + 8 * (segment - 1);
    h.before_end = (uint8_t)text[40] * 8U;
    h.before_seed = text[56] % 4 != 0 ? SEED : 0;
    spool_header_encode(&h, text);
    for (size_t at = SPOOL_HEADER_LEN; at + SPOOL_HEAD_LEN <= len; at += 8) {
        struct spool_head head;
        uint64_t place = at;

        if (memcmp(text + at, "KTFR", 4) != 0)
            continue;
        memcpy(text + at + 16, &place, 8);
        put32(text + at + 4, get32(text + at + 4) % 4096 & ~7U);
        put32(text + at + 40, get32(text + at + 40) % 64);
        if (spool_head_decode(text + at, at, &head) < 0 || head.len > len - at)
            continue;
        spool_head_encode(&head, SEED, text + at, head.len);
        at += head.len - 8;
    }
    if (len >= SPOOL_HEADER_LEN + SPOOL_FOOTER_LEN && text[41] % 2 == 0) {
        struct spool_footer f = {(uint8_t)text[42] % 8U, (uint8_t)text[43]};

        spool_footer_encode(&f, len - SPOOL_FOOTER_LEN, SEED, text + len - SPOOL_FOOTER_LEN);
    }
}

static void mend_acks(char *text, size_t len)
{
    for (size_t at = 0; at + SPOOL_ACK_LEN <= len; at += SPOOL_ACK_LEN)
        spool_ack_encode((uint8_t)text[at] % 32, get32(text + at + 8), SEED, text + at);
}

static int take(void *user, uint64_t serial, struct slice facts)
{
    uint64_t *last = user;

    (void)facts;
    assert(serial == ++*last);
    return 0;
}

/* What is given out is what stands in the file, and holds. */
static void check(const struct spool_frame *f)
{
    struct spool_frame copy = *f, again;
    struct spool_source source;
    struct spool_record r;
    char path[100], head[SPOOL_HEADER_LEN];
    struct spool_head h;
    uint32_t count = 0, seed;
    char *bytes;
    int fd;

    path_of(f->segment, SPOOL_FILE_SEGMENT, path);
    fd = openat(state_fd, path, O_RDONLY | O_CLOEXEC);
    assert(fd >= 0 && pread(fd, head, sizeof head, 0) == sizeof head);
    seed = get32(head + 12);
    assert(pread(fd, head, SPOOL_HEAD_LEN, (off_t)f->at) == SPOOL_HEAD_LEN);
    assert(spool_head_decode(head, f->at, &h) == 0 && h.serial == f->serial);
    bytes = malloc(h.len);
    assert(bytes != NULL && pread(fd, bytes, h.len, (off_t)f->at) == (ssize_t)h.len);
    assert(spool_frame_decode((struct slice){bytes, h.len}, f->at, seed, &again));
    assert(slice_equal(again.facts, f->facts) && slice_equal(again.rest, f->rest));
    while (spool_next(&copy, &r, &source))
        count++;
    assert(count == f->records && copy.rest.len == 0);
    free(bytes);
    close(fd);
}

static void find_owner(void)
{
    const struct spool_settings settings = {.name = "web", .limit_bytes = 1 << 20};
    char path[100], header[SPOOL_HEADER_LEN];
    struct spool *s;
    uint64_t serial;
    int fd;

    assert(spool_open(state_fd, &disk_system, &settings, &s) == 0);
    assert(spool_frame_begin(s, 0, NULL, 0, SLICE("")) == 0);
    spool_job_begin(s);
    spool_job_run(s);
    assert(spool_job_end(s, &serial) == 0 && serial == 1);
    spool_close(s);
    path_of(1, SPOOL_FILE_SEGMENT, path);
    fd = openat(state_fd, path, O_RDONLY | O_CLOEXEC);
    assert(fd >= 0 && read(fd, header, sizeof header) == sizeof header);
    memcpy(&owner, header + 32, sizeof owner);
    close(fd);
}

static void run(bool read_only, uint64_t merged)
{
    const struct spool_settings settings = {
        .name = "web", .limit_bytes = 1 << 20, .merged = merged, .read_only = read_only};
    static uint64_t seen[FRAMES_MAX];
    size_t count = 0;
    struct spool_frame f;
    uint64_t serial = 0, told = merged;
    struct spool *s;
    int r;

    assert(spool_open(state_fd, &disk_system, &settings, &s) == 0);
    assert(spool_stats(s)->error == 0);
    assert(spool_facts(s, take, &told) == 0);
    if (!read_only) {
        assert(spool_frame_begin(s, 0, NULL, 0, SLICE("ours")) == 0);
        spool_job_begin(s);
        spool_job_run(s);
        assert(spool_job_end(s, &serial) == 0 && serial > merged);
    }
    while ((r = read_only ? spool_read_any(s, &f) : spool_read(s, &f)) == 1) {
        check(&f);
        for (size_t i = 0; i < count; i++)
            assert(seen[i] < f.serial); /* in their order */
        assert(count < FRAMES_MAX);
        seen[count++] = f.serial;
        spool_ack(s, f.serial);
    }
    assert(r == 0);
    if (!read_only) {
        assert(count > 0 && seen[count - 1] == serial);
        assert(spool_stats(s)->frames == 0 && spool_stats(s)->records == 0);
        assert(spool_write_acks(s) == 0);
        for (int i = 0; i < 4; i++) {
            spool_job_begin(s);
            spool_job_run(s);
            assert(spool_job_end(s, &serial) == 0);
        }
        assert(!spool_wants_job(s));
    }
    spool_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t first, second;
    char *text;

    if (size < 4 || size > 60000)
        return 0;
    if (state_fd < 0) {
        assert(mkdtemp(dir_path) != NULL);
        state_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(state_fd >= 0);
        atexit(dir_remove);
        find_owner();
    }
    dir_empty();
    text = malloc(size);
    assert(text != NULL);
    memcpy(text, data + 4, size - 4);
    size -= 4;
    first = size * data[1] / 256;
    second = (size - first) * data[2] / 256;
    if (data[0] % 4 != 0) {
        mend(text, first, 1);
        mend(text + first, second, 2);
        mend_acks(text + first + second, size - first - second);
    }
    file_put(1, SPOOL_FILE_SEGMENT, (struct slice){text, first});
    file_put(data[0] % 8 == 7 ? 3 : 2, SPOOL_FILE_SEGMENT, (struct slice){text + first, second});
    file_put(1, SPOOL_FILE_ACK, (struct slice){text + first + second, size - first - second});
    file_put(2, SPOOL_FILE_ACK, (struct slice){text + first + second, size - first - second});
    free(text);
    run(true, data[3] % 16);
    run(false, data[3] % 16);
    run(false, 0);
    return 0;
}
