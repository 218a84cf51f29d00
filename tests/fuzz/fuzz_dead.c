/* fuzz_dead -- whatever may stand in a segment of dead letters and in the marks beside it: the
 * start succeeds and changes nothing that holds, a command reads each letter that holds once, and
 * what it marks as done is done.
 *
 * The first byte says whether the text is taken as it is or gets its checksums right first: with
 * wrong ones nothing behind the first check would ever be reached; and whether its end is taken for
 * marks. */
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
#include "keep/dead_dir.h"
#include "keep/letters.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_MAX = 1 << 24, SEED = 0x5f0c1a2b, MARK_LEN = 24 };

static int state_fd = -1;
static char dir_path[] = "/dev/shm/kinetail-fuzz-dead-XXXXXX";
static const char segment_path[] = "dead/web/dead-0000000000000001.log",
                  marks_path[] = "dead/web/dead-0000000000000001.done",
                  aside_path[] = "dead/web/dead-0000000000000001.log.damaged";

static void dir_empty(void)
{
    (void)unlinkat(state_fd, segment_path, 0);
    (void)unlinkat(state_fd, marks_path, 0);
    (void)unlinkat(state_fd, aside_path, 0);
}

static void dir_remove(void)
{
    dir_empty();
    (void)unlinkat(state_fd, "dead/web", AT_REMOVEDIR);
    (void)unlinkat(state_fd, "dead", AT_REMOVEDIR);
    (void)rmdir(dir_path);
}

static void file_put(const char *path, struct slice text)
{
    int fd = openat(state_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert(fd >= 0 && disk_write_all(&disk_system, fd, text) == 0);
    close(fd);
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

/* Marks, with the checksums that they should have. */
static void mend_marks(struct slice text, struct buf *to)
{
    for (; text.len >= MARK_LEN; text = slice_from(text, MARK_LEN)) {
        uint32_t crc = crc32c(SEED, text.ptr, MARK_LEN - 4);
        char le[4] = {(char)crc, (char)(crc >> 8), (char)(crc >> 16), (char)(crc >> 24)};

        assert(buf_append(to, slice_first(text, MARK_LEN - 4)) == 0);
        assert(buf_append(to, (struct slice){le, 4}) == 0);
    }
    assert(buf_append(to, text) == 0);
}

/* How many letters of a text hold. */
static uint64_t count_lines(struct slice text)
{
    struct dead_found found;
    enum dead_line line;
    uint64_t count = 0;
    uint32_t seed;

    if (dead_read_header(&text, 1, &seed) < 0)
        return 0;
    dead_found_init(&found);
    while (dead_next(&text, seed, &line, &found))
        count += line == DEAD_LINE_LETTER;
    dead_found_done(&found);
    return count;
}

/* How many letters a command reads that are not done (or all), and marks every second of them. */
static uint64_t read_letters(bool mark, bool all)
{
    struct letters_item item;
    struct letters *l;
    uint64_t count = 0, at = 0;

    assert(letters_open(&disk_system, state_fd, "web", mark, &l) == 0);
    while (letters_next(l, &item) == 1) {
        assert(item.kind != LETTERS_ERROR && (item.place.end == 0 || item.place.end > at));
        at = item.place.end;
        if (item.kind != LETTERS_LETTER || (item.done && !all))
            continue;
        if (mark && count % 2 == 0)
            assert(letters_mark(l, &item.place) == 0);
        count++;
    }
    assert(letters_commit(l) == 0);
    letters_close(l);
    return count;
}

static void start(struct dead_report *report)
{
    struct dead *d;

    assert(dead_open(state_fd, "web", &disk_system, &d, report) == 0);
    assert(report->error == 0);
    dead_close(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dead_report report;
    struct buf text, marks;
    struct slice rest, end = {0};
    uint64_t count;

    if (size < 2 || size > 100000)
        return 0;
    if (state_fd < 0) {
        assert(mkdtemp(dir_path) != NULL);
        state_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(state_fd >= 0 && mkdirat(state_fd, "dead", 0700) == 0 &&
               mkdirat(state_fd, "dead/web", 0700) == 0);
        atexit(dir_remove);
    }
    buf_init(&text, TEXT_MAX);
    buf_init(&marks, TEXT_MAX);
    rest = (struct slice){(const char *)data + 2, size - 2};
    if (data[0] / 4 % 2 == 1) {
        size_t len = rest.len < data[1] ? rest.len : data[1];

        end = slice_from(rest, rest.len - len);
        rest = slice_first(rest, rest.len - len);
    }
    if (data[0] % 4 == 0)
        assert(buf_append(&text, rest) == 0);
    else
        mend(rest, &text);
    if (data[0] / 8 % 2 == 0)
        mend_marks(end, &marks);
    else
        assert(buf_append(&marks, end) == 0);

    dir_empty();
    file_put(segment_path, buf_slice(&text));
    if (end.len > 0)
        file_put(marks_path, buf_slice(&marks));
    assert(read_letters(false, true) == count_lines(buf_slice(&text)));
    start(&report);
    assert(report.removed > 0 || read_letters(false, true) == count_lines(buf_slice(&text)));

    count = read_letters(true, false);
    assert(read_letters(false, false) == count / 2);
    start(&report);
    assert(report.removed > 0 || read_letters(false, false) == count / 2);
    while (read_letters(true, false) > 0)
        ;
    buf_done(&text);
    buf_done(&marks);
    return 0;
}
