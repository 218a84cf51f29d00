/* fuzz_checkpoint -- whatever may stand in a generation file: the start succeeds, and what it gives
 * is the same after what was read is written and read again.
 *
 * The first byte says whether the text is taken as it is or gets its checksums right first: with
 * wrong ones nothing behind the first check would ever be reached. */
#include "keep/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "buf.h"
#include "crc32c.h"
#include "disk.h"
#include "keep/facts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STORE = 77, TEXT_MAX = 1 << 20 };

static int dir_fd = -1;
static char dir_path[] = "/dev/shm/kinetail-fuzz-XXXXXX";

static void dir_empty(void)
{
    /* Generation 1 is the input; each start makes one more. */
    for (int i = 1; i <= 5; i++) {
        char name[64];

        (void)snprintf(name, sizeof name, "%010d.journal", i);
        (void)unlinkat(dir_fd, name, 0);
        (void)snprintf(name, sizeof name, "%010d.journal.damaged", i);
        (void)unlinkat(dir_fd, name, 0);
    }
}

static void dir_remove(void)
{
    dir_empty();
    (void)rmdir(dir_path);
}

/* Every line with the checksum that it should have; a torn last line stays so. */
static void mend(struct slice text, struct buf *to)
{
    uint32_t seed = facts_seed(STORE, 1);
    int r = facts_write_header(to, seed, STORE, 1);

    while (text.len > 0 && r == 0) {
        const char *end = memchr(text.ptr, '\n', text.len);
        size_t from = to->len, len = end == NULL ? text.len : (size_t)(end - text.ptr);

        r = buf_append(to, slice_first(text, len));
        if (r == 0 && end != NULL)
            r = buf_append_char(to, ' ');
        if (r == 0 && end != NULL)
            r = buf_printf(to, "%08" PRIx32 "\n", crc32c(seed, to->ptr + from, to->len - from));
        text = slice_from(text, end == NULL ? len : len + 1);
    }
    assert(r == 0);
}

/* All that is known, as text. */
static void tell(struct checkpoint *c, struct buf *to)
{
    struct checkpoint_slot *s = NULL;

    buf_reset(to);
    while ((s = checkpoint_next(c, s)) != NULL) {
        const struct source_id *id = checkpoint_id(s);
        struct cursor at = checkpoint_cursor(s);
        char path[PATH_MAX];

        assert(checkpoint_knows_flow(c, checkpoint_flow(s)));
        assert(id->handle_len <= SOURCE_HANDLE_MAX && id->head_len <= SOURCE_HEAD_MAX);
        assert(buf_printf(to, "%zu %zu ", checkpoint_flow(s).len, checkpoint_path(s, path).len) == 0);
        assert(buf_append(to, checkpoint_flow(s)) == 0);
        assert(buf_append(to, checkpoint_path(s, path)) == 0);
        assert(buf_printf(to, " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRIu64 " %" PRIu32 " %d %d ",
                          id->dev, id->ino, id->born_ns, id->head_hash, id->head_len,
                          id->handle_type, id->handle_len) == 0);
        assert(buf_append(to, (struct slice){(const char *)id->handle, id->handle_len}) == 0);
        assert(buf_printf(to, " %" PRIu64 " %" PRIu64, at.offset, at.anchor) == 0);
        for (size_t i = 0; i < CURSOR_RUNGS; i++)
            assert(buf_printf(to, " %" PRIu32 ":%" PRIu32, at.rungs[i].back, at.rungs[i].hash) ==
                   0);
        assert(buf_append_char(to, '\n') == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct checkpoint_report report;
    struct buf text, before, after;
    struct checkpoint_slot *s;
    struct checkpoint *c;
    struct slice in;
    int fd, r;

    if (size == 0 || size > 100000)
        return 0;
    if (dir_fd < 0) {
        assert(mkdtemp(dir_path) != NULL);
        dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert(dir_fd >= 0);
        atexit(dir_remove);
    }
    in = (struct slice){(const char *)data + 1, size - 1};
    buf_init(&text, 16 * TEXT_MAX);
    buf_init(&before, 16 * TEXT_MAX);
    buf_init(&after, 16 * TEXT_MAX);
    if (data[0] % 4 == 0)
        assert(buf_append(&text, in) == 0);
    else
        mend(in, &text);

    dir_empty();
    fd = openat(dir_fd, "0000000001.journal", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert(fd >= 0 && disk_write_all(&disk_system, fd, buf_slice(&text)) == 0);
    close(fd);

    r = checkpoint_open(&disk_system, dir_fd, &c, &report);
    if (r < 0) {
        assert(r == -ENOTSUP);
        goto out;
    }
    assert(!report.fresh && report.moved_aside <= 1);
    tell(c, &before);
    checkpoint_close(c);
    assert(checkpoint_open(&disk_system, dir_fd, &c, &report) == 0);
    assert(report.damaged == 0 && report.moved_aside == 0);
    tell(c, &after);
    assert(slice_equal(buf_slice(&before), buf_slice(&after)));

    /* Noted and written, not only as a snapshot. */
    for (s = NULL; (s = checkpoint_next(c, s)) != NULL;) {
        struct cursor at = checkpoint_cursor(s);

        /* Rungs that are now below the ground are left out, with those after them. */
        at.offset /= 2;
        at.anchor = 3;
        for (size_t i = 0; i < CURSOR_RUNGS; i++)
            if (at.rungs[i].back > at.offset || (i > 0 && at.rungs[i - 1].back == 0))
                at.rungs[i] = (struct cursor_rung){0};
        checkpoint_note(c, s, at);
    }
    tell(c, &before);
    assert(checkpoint_write(c) == 0);
    assert(checkpoint_job_begin(c) == 0);
    checkpoint_job_run(c);
    assert(checkpoint_job_end(c) == 0);
    checkpoint_close(c);
    assert(checkpoint_open(&disk_system, dir_fd, &c, &report) == 0);
    assert(report.damaged == 0 && report.moved_aside == 0);
    tell(c, &after);
    assert(slice_equal(buf_slice(&before), buf_slice(&after)));
    checkpoint_close(c);
out:
    buf_done(&text);
    buf_done(&before);
    buf_done(&after);
    return 0;
}
