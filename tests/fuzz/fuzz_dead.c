/* fuzz_dead -- whatever may stand in a segment of dead letters: the start succeeds, no letter that holds
 * is lost by it, and the next start finds the same and nothing to mend.
 *
 * The first byte says whether the text is taken as it is or gets its checksums right first: with
 * wrong ones nothing behind the first check would ever be reached. */
#include "keep/dead.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"
#include "disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 1 << 24, SEED = 0x5f0c1a2b, SEGMENTS = 3 };

static int state_fd = -1;
static char dir_path[] = "/dev/shm/kinetail-fuzz-dead-XXXXXX";

static void path_of(uint64_t segment, const char *suffix, char to[100])
{
    char name[DEAD_NAME_LEN];

    dead_segment_name(segment, name);
    (void)snprintf(to, 100, "dead/web/%s%s", name, suffix);
}

static void dir_empty(void)
{
    /* Segment 1 is the input; what can be rescued from it goes into one more. */
    for (uint64_t i = 1; i <= SEGMENTS; i++) {
        char path[100];

        path_of(i, "", path);
        (void)unlinkat(state_fd, path, 0);
        path_of(i, ".damaged", path);
        (void)unlinkat(state_fd, path, 0);
    }
}

static void dir_remove(void)
{
    dir_empty();
    (void)unlinkat(state_fd, "dead/web", AT_REMOVEDIR);
    (void)unlinkat(state_fd, "dead", AT_REMOVEDIR);
    (void)rmdir(dir_path);
}

static void append_line(struct buf *to, struct slice line, uint32_t seed)
{
    size_t from = to->len;

    assert(buf_append(to, line) == 0);
    assert(buf_printf(to, ",\"crc32c\":\"%08" PRIx32 "\"}\n",
                      crc32c(seed, to->ptr + from, to->len - from)) == 0);
}

/* A header, and every line with the checksum that it should have; a torn last line stays so. */
static void mend(struct slice text, struct buf *to)
{
    append_line(to, SLICE("{\"kinetail_dead\":1,\"segment\":1,\"seed\":\"5f0c1a2b\""), 0);
    while (text.len > 0) {
        const char *end = memchr(text.ptr, '\n', text.len);

        if (end == NULL) {
            assert(buf_append(to, text) == 0);
            return;
        }
        append_line(to, slice_first(text, (size_t)(end - text.ptr)), SEED);
        text = slice_from(text, (size_t)(end - text.ptr) + 1);
    }
}

/* All letters of a text: those that can be read as one, as text; returns how many hold. */
static uint64_t tell(struct slice text, uint64_t segment, struct buf *to)
{
    struct slice again = text;
    struct dead_found found;
    enum dead_line line;
    uint64_t count = 0;
    uint32_t seed;

    buf_reset(to);
    if (dead_read_header(&text, segment, &seed) < 0)
        return 0;
    while (dead_next(&text, seed, &line, NULL))
        count += line == DEAD_LINE_LETTER;
    assert(dead_read_header(&again, segment, &seed) == 0);
    dead_found_init(&found);
    while (dead_next(&again, seed, &line, &found)) {
        const struct dead_letter *l = &found.letter;

        if (line != DEAD_LINE_LETTER)
            continue;
        assert(buf_printf(to, "%zu %zu %zu %zu %zu %" PRIu64 " %" PRIu64 " ", found.time.len,
                          l->flow.len, l->file.len, l->reason.len, l->record.len, l->offset,
                          l->end) == 0);
        assert(buf_append(to, buf_slice(&found.text)) == 0);
    }
    dead_found_done(&found);
    return count;
}

static void read_segment(uint64_t segment, struct buf *to)
{
    char path[100];
    int fd;

    buf_reset(to);
    path_of(segment, "", path);
    fd = openat(state_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    assert(disk_read_all(&disk_system, fd, to) == 0);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dead_report report, again;
    struct buf text, before, after;
    uint64_t count;
    struct dead *d;
    char path[100];
    int fd;

    if (size == 0 || size > 100000)
        return 0;
    if (state_fd < 0) {
        assert(mkdtemp(dir_path) != NULL);
        state_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(state_fd >= 0 && mkdirat(state_fd, "dead", 0700) == 0 &&
               mkdirat(state_fd, "dead/web", 0700) == 0);
        atexit(dir_remove);
    }
    buf_init(&text, TEXT_MAX);
    buf_init(&before, TEXT_MAX);
    buf_init(&after, TEXT_MAX);
    if (data[0] % 4 == 0)
        assert(buf_append(&text, (struct slice){(const char *)data + 1, size - 1}) == 0);
    else
        mend((struct slice){(const char *)data + 1, size - 1}, &text);

    dir_empty();
    path_of(1, "", path);
    fd = openat(state_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert(fd >= 0 && disk_write_all(&disk_system, fd, buf_slice(&text)) == 0);
    close(fd);
    count = tell(buf_slice(&text), 1, &before);

    assert(dead_open(state_fd, "web", &disk_system, &d, &report) == 0);
    assert(report.error == 0 && report.letters == count);
    dead_close(d);
    assert(dead_open(state_fd, "web", &disk_system, &d, &again) == 0);
    assert(again.error == 0 && again.letters == count && again.newer == report.newer);
    assert(again.damaged == 0 && again.moved_aside == 0 && again.torn == 0);
    dead_close(d);
    read_segment(report.moved_aside > 0 ? 2 : 1, &text);
    assert(tell(buf_slice(&text), report.moved_aside > 0 ? 2 : 1, &after) == count);
    assert(slice_equal(buf_slice(&before), buf_slice(&after)));
    buf_done(&text);
    buf_done(&before);
    buf_done(&after);
    return 0;
}
