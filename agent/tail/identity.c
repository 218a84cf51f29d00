#include "tail/identity.h"

#include "digest.h"
#include "slice.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
    IDENTITY_STEP = 64 * 1024,
    IDENTITY_BEFORE = 4096, /* bytes before a place in which to look for its rungs */
    IDENTITY_DIFFERENT = 2, /* lines that a file written anew does not begin with by chance */
};

/* Opens `path` one component at a time, so that none can be a link: for kernels without openat2(2)
 * (before 5.6) and sandboxes that refuse what they do not know. */
static int open_stepwise(const char *path, int flags)
{
    int dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), next;
    char part[NAME_MAX + 1];

    while (dir >= 0) {
        size_t len;

        path += strspn(path, "/");
        len = strcspn(path, "/");
        if (len == 0)
            return dir; /* "/" itself */
        if (len > NAME_MAX) {
            close(dir);
            return -ENAMETOOLONG;
        }
        memcpy(part, path, len);
        part[len] = '\0';
        path += len;
        if (path[strspn(path, "/")] == '\0')
            break;
        next = openat(dir, part, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0 && errno == ENOTDIR) /* is it a link that says so? */
            errno = readlinkat(dir, part, (char[1]){0}, 1) >= 0 ? ELOOP : ENOTDIR;
        close(dir);
        dir = next;
    }
    if (dir < 0)
        return -errno;
    next = openat(dir, part, flags | O_NOFOLLOW);
    next = next < 0 ? -errno : next;
    close(dir);
    return next;
}

static int open_path(const char *path, int flags, bool follow_symlinks)
{
    struct open_how how = {.flags = (unsigned)flags, .resolve = RESOLVE_NO_SYMLINKS};
    long fd;

    if (follow_symlinks)
        fd = open(path, flags);
    else
        fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    if (fd >= 0)
        return (int)fd;
    if (!follow_symlinks && (errno == ENOSYS || errno == EPERM))
        return open_stepwise(path, flags);
    return -errno;
}

int identity_open(const char *path, bool follow_symlinks)
{
    return open_path(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, follow_symlinks);
}

int identity_open_dir(const char *path, bool follow_symlinks)
{
    return open_path(path, O_PATH | O_DIRECTORY | O_CLOEXEC, follow_symlinks);
}

static int64_t timestamp_ns(struct statx_timestamp t)
{
    return (int64_t)t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Reads `len` bytes at `offset`; fewer only at the end of the file. */
static ssize_t read_at(int fd, void *to, size_t len, uint64_t offset)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = pread(fd, (char *)to + got, len - got, (off_t)(offset + got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static int read_head(struct digest *d, int fd, uint32_t len, uint64_t *ret)
{
    char head[SOURCE_HEAD_MAX];
    ssize_t n = read_at(fd, head, len, 0);

    if (n < 0)
        return (int)n;
    if ((size_t)n < len)
        return -ESTALE;
    *ret = digest_hash64(d, (struct slice){head, len});
    return 0;
}

/* Not every file system has handles; without one, birth time and head must do. */
static void read_handle(int fd, struct source_id *id)
{
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + SOURCE_HANDLE_MAX];
    } h = {.handle.handle_bytes = SOURCE_HANDLE_MAX};
    int mount;

    if (name_to_handle_at(fd, "", &h.handle, &mount, AT_EMPTY_PATH) < 0)
        return;
    id->handle_type = h.handle.handle_type;
    id->handle_len = (uint8_t)h.handle.handle_bytes;
    memcpy(id->handle, h.handle.f_handle, id->handle_len);
}

int identity_read(struct digest *d, int fd, struct source_id *ret, struct identity_facts *ret_facts)
{
    struct source_id id = {0};
    struct statx st;
    int r;

    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_SYNC_AS_STAT, STATX_BASIC_STATS | STATX_BTIME, &st) <
        0)
        return -errno;
    if (!S_ISREG(st.stx_mode))
        return S_ISDIR(st.stx_mode) ? -EISDIR : -EINVAL;
    id.dev = makedev(st.stx_dev_major, st.stx_dev_minor);
    id.ino = st.stx_ino;
    if ((st.stx_mask & STATX_BTIME) != 0)
        id.born_ns = timestamp_ns(st.stx_btime);
    read_handle(fd, &id);
    id.head_len = (uint32_t)MIN(st.stx_size, (uint64_t)SOURCE_HEAD_MAX);
    r = read_head(d, fd, id.head_len, &id.head_hash);
    if (r == -ESTALE) { /* it shrank between the two looks: then it is new anyway */
        id.head_len = 0;
        r = read_head(d, fd, 0, &id.head_hash);
    }
    if (r < 0)
        return r;
    *ret = id;
    *ret_facts = (struct identity_facts){
        .size = st.stx_size,
        .modified_ns = timestamp_ns(st.stx_mtime),
        .changed_ns = timestamp_ns(st.stx_ctime),
        .links = st.stx_nlink,
        .owner = st.stx_uid,
    };
    return 0;
}

bool identity_grow_head(struct digest *d, int fd, struct source_id *id)
{
    uint64_t before = 0, now = 0;
    struct stat st;
    uint32_t len;

    if (fstat(fd, &st) < 0)
        return false;
    len = (uint32_t)MIN((uint64_t)st.st_size, (uint64_t)SOURCE_HEAD_MAX);

    /* Twice as much or all of it: or a file that grows by bytes would be described by bytes. */
    if (len <= id->head_len || (len < SOURCE_HEAD_MAX && len < 2 * id->head_len))
        return false;
    if (read_head(d, fd, id->head_len, &before) < 0 || before != id->head_hash ||
        read_head(d, fd, len, &now) < 0)
        return false;
    id->head_len = len;
    id->head_hash = now;
    return true;
}

int identity_cut_head(struct digest *d, int fd, uint64_t len, struct source_id *id)
{
    int r;

    if (len >= id->head_len)
        return 0;
    r = read_head(d, fd, (uint32_t)len, &id->head_hash);
    if (r == 0)
        id->head_len = (uint32_t)len;
    return r;
}

/* The anchor of the place behind the last byte of `before`. */
static uint64_t anchor_of(struct digest *d, struct slice before, uint64_t offset)
{
    uint32_t len = cursor_anchor_len(offset);

    assert(before.len >= len);
    return len > 0 ? digest_hash64(d, slice_from(before, before.len - len)) : 0;
}

struct cursor identity_place(struct digest *d, struct slice before, uint64_t offset,
                             const struct cursor *earlier)
{
    struct cursor c = {.offset = offset, .anchor = anchor_of(d, before, offset)};
    size_t count = 0, end = before.len;

    while (count < CURSOR_RUNGS && end > 0) {
        /* The line that ends at `end` begins behind the newline before it. */
        const char *newline = memrchr(before.ptr, '\n', end - 1);
        size_t line = newline != NULL ? (size_t)(newline - before.ptr) + 1 : 0;
        uint64_t at = offset - (before.len - line);

        if ((newline == NULL && at > 0) || line < cursor_anchor_len(at) ||
            before.len - line > UINT32_MAX)
            break;
        c.rungs[count].back = (uint32_t)(before.len - line);
        c.rungs[count++].hash = (uint32_t)anchor_of(d, slice_first(before, line), at);
        end = line;
    }

    /* Further back than what is in memory: what was known of the place before this one. */
    for (size_t i = 0; earlier != NULL && count < CURSOR_RUNGS && i <= CURSOR_RUNGS; i++) {
        uint64_t below = i == 0 ? 0 : earlier->rungs[i - 1].back, back;
        if (i > 0 && below == 0)
            break;
        back = offset - earlier->offset + below;
        if (back == 0 || back > UINT32_MAX || (count > 0 && back <= c.rungs[count - 1].back))
            continue;
        c.rungs[count].back = (uint32_t)back;
        c.rungs[count++].hash = i == 0 ? (uint32_t)earlier->anchor : earlier->rungs[i - 1].hash;
    }
    return c;
}

int identity_cursor(struct digest *d, int fd, uint64_t offset, struct cursor *ret)
{
    char before[IDENTITY_BEFORE];
    size_t len = (size_t)MIN(offset, (uint64_t)sizeof before);
    ssize_t n = read_at(fd, before, len, offset - len);

    if (n < 0)
        return (int)n;
    if ((size_t)n < len)
        return -ESTALE;
    *ret = identity_place(d, (struct slice){before, len}, offset, NULL);
    return 0;
}

bool identity_fits(struct digest *d, int fd, const struct source_id *id, struct cursor at)
{
    struct cursor now;
    uint64_t head;

    return read_head(d, fd, id->head_len, &head) == 0 && head == id->head_hash &&
           identity_cursor(d, fd, at.offset, &now) == 0 && now.anchor == at.anchor;
}

/* Whether the last few kilobytes before `offset` have different lines. */
static bool has_different_lines(int fd, uint64_t offset)
{
    char before[IDENTITY_BEFORE];
    size_t len = (size_t)MIN(offset, (uint64_t)sizeof before);
    ssize_t n = read_at(fd, before, len, offset - len);
    struct slice text = {before, n > 0 ? (size_t)n : 0}, last = {NULL, 0};
    int different = 0;

    while (text.len > 0 && different < IDENTITY_DIFFERENT) {
        const char *newline = memchr(text.ptr, '\n', text.len);
        size_t line = newline != NULL ? (size_t)(newline - text.ptr) + 1 : text.len;

        different += !slice_equal(slice_first(text, line), last);
        last = slice_first(text, line);
        text = slice_from(text, line);
    }
    return different == IDENTITY_DIFFERENT;
}

/* Whether a place `back` bytes before `at` holds, and says enough. */
static bool holds_below(struct digest *d, int fd, const struct cursor *at, uint32_t back,
                        uint32_t hash, struct cursor *ret)
{
    struct cursor place;

    if (back >= at->offset || identity_cursor(d, fd, at->offset - back, &place) < 0 ||
        (uint32_t)place.anchor != hash || !has_different_lines(fd, place.offset))
        return false;
    *ret = place;
    return true;
}

bool identity_find_rung(struct digest *d, int fd, const struct cursor *at, struct cursor *ret)
{
    if (holds_below(d, fd, at, 0, (uint32_t)at->anchor, ret))
        return true;
    for (size_t i = 0; i < CURSOR_RUNGS && at->rungs[i].back != 0; i++)
        if (holds_below(d, fd, at, at->rungs[i].back, at->rungs[i].hash, ret))
            return true;
    return false;
}

int identity_last_line(int fd, enum encoding e, uint64_t size, uint64_t *ret_offset)
{
    char step[IDENTITY_STEP];

    size -= size % encoding_newline_len(e); /* steps begin at units' borders */
    while (size > 0) {
        size_t len = (size_t)MIN(size, (uint64_t)sizeof step);
        ssize_t n = read_at(fd, step, len, size - len);
        const char *newline;

        if (n < 0)
            return (int)n;
        newline = encoding_find_last_newline(e, (struct slice){step, (size_t)n});
        if (newline != NULL) {
            *ret_offset = size - len + (uint64_t)(newline - step) + encoding_newline_len(e);
            return 0;
        }
        size -= len;
    }
    *ret_offset = 0;
    return 0;
}
