/* fuzz_unpack -- any bytes as a compressed file: one content, however it is read.
 *
 * The first byte is the window, the second says how many of the next are pairs of a place and a
 * length; then come the file's bytes, whose magic says what they are (if nothing, both kinds). */
#include "tail/unpack.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CONTENT_MAX = 1024 * 1024, STEP = 255 * 16, WINDOW_MAX = STEP + 255 };

static char content[CONTENT_MAX], text[WINDOW_MAX];

/* Patiently, but not for ever: each call has to come nearer. */
static ssize_t read_at(struct unpack *u, size_t len, uint64_t offset)
{
    ssize_t n;
    int calls = 0;

    do
        assert(++calls < 100);
    while ((n = unpack_pread(u, text, len, offset)) == -EAGAIN);
    assert(n <= (ssize_t)len);
    return n;
}

/* The content up to CONTENT_MAX; *ret_end is 0 or the error behind it, or 1 if there is more. */
static size_t read_all(struct unpack *u, size_t step, int *ret_end)
{
    size_t len = 0;
    ssize_t n = 1;

    while (len < CONTENT_MAX && n > 0) {
        n = read_at(u, MIN(step, CONTENT_MAX - len), len);
        if (n > 0) {
            memcpy(content + len, text, (size_t)n);
            len += (size_t)n;
        }
    }
    *ret_end = n > 0 ? 1 : (int)n;
    if (n <= 0) {
        assert(unpack_error(u) == n);
        assert(n == 0 || !unpack_is_whole(u));
        assert(n == 0 || n == -EBADMSG || n == -EOVERFLOW || n == -ENOTSUP);
    }
    return len;
}

/* Reads of other sizes at other places find the same. */
static void check_places(struct unpack *u, struct slice places, size_t len, int end)
{
    for (size_t i = 0; i + 3 < places.len; i += 4) {
        const uint8_t *place = (const uint8_t *)places.ptr + i;
        size_t offset = ((size_t)place[0] << 16 | (size_t)place[1] << 8 | place[2]) % (len + 2);
        size_t want = (size_t)place[3] * 16, have = offset < len ? len - offset : 0;
        int r = 0;
        ssize_t n;

        if (end == 1 && want > have)
            continue; /* reaches into what is not known */
        if (want % 3 == 0) {
            int calls = 0;

            while ((r = unpack_seek(u, offset)) == 0)
                assert(++calls < 100);
            assert(r == 1 ? offset <= len : r == (end < 0 ? end : -ENODATA) && offset > len);
        }
        n = read_at(u, want, offset);
        if (n < 0) {
            assert(n == end && offset >= len);
            continue;
        }
        assert((size_t)n == MIN(want, have));
        assert(n == 0 || memcmp(text, content + offset, (size_t)n) == 0);
    }
}

static void check_kind(enum unpack_kind kind, int fd, size_t window, struct slice places,
                       struct slice file)
{
    static char whole[CONTENT_MAX];
    struct unpack *u;
    size_t len, cut_len, len_again;
    int end, cut_end, end_again;

    if (unpack_open(fd, kind, window, &u) < 0)
        return;
    len = read_all(u, window, &end);
    check_places(u, places, len, end);
    unpack_close(u);

    /* What came of a half is the beginning of it; and when the file has grown, all is there. */
    assert(ftruncate(fd, (off_t)(file.len / 2)) == 0);
    if (unpack_open(fd, kind, STEP, &u) < 0)
        return;
    memcpy(whole, content, len);
    cut_len = read_all(u, STEP, &cut_end);
    assert(cut_len <= len && memcmp(whole, content, cut_len) == 0);
    assert(cut_end >= 0 || cut_end == end);
    assert(pwrite(fd, file.ptr, file.len, 0) == (ssize_t)file.len);
    len_again = read_all(u, STEP, &end_again);
    assert(len_again == len && end_again == end);
    assert(memcmp(whole, content, len) == 0);
    unpack_close(u);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    struct slice in = {(const char *)data, size}, places;
    enum unpack_kind kind;
    size_t window;

    if (size < 2)
        return 0;
    in = slice_from(in, 2);
    places = slice_first(in, data[1]);
    in = slice_from(in, places.len);
    window = STEP + data[0]; /* a read of check_places asks for STEP at most */
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    assert(fd >= 0);
    kind = unpack_kind_of(in);
    for (enum unpack_kind k = UNPACK_GZIP; k <= UNPACK_ZSTD; k++) {
        if (kind != UNPACK_NONE && kind != k)
            continue;
        assert(ftruncate(fd, 0) == 0);
        assert(pwrite(fd, in.ptr, in.len, 0) == (ssize_t)in.len);
        check_kind(k, fd, window, places, in);
    }
    return 0;
}
