#include "run/look.h"

#include "tail/identity.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_STEP = 64 * 1024 };

const char *look_word(enum look_state state)
{
    static const char *const words[] = {
        [LOOK_OK] = "ok",
        [LOOK_BEHIND] = "behind",
        [LOOK_GONE] = "gone",
        [LOOK_REPLACED] = "replaced",
        [LOOK_UNREADABLE] = "unreadable",
    };

    return words[state];
}

/* Through a link too: whether the flow follows links is its configuration's business, and which file
 * it is is decided by what the store knows of it. */
static int open_and_read(struct digest *d, const char *path, struct source_id *ret_id,
                         struct identity_facts *ret_facts)
{
    int fd = identity_open(path, false), r;

    if (fd == -ELOOP)
        fd = identity_open(path, true);
    if (fd < 0)
        return fd;
    r = identity_read(d, fd, ret_id, ret_facts);
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

/* The nearest rung that still holds. */
static bool find_rung(struct digest *d, int fd, const struct cursor *at, uint64_t *ret)
{
    for (size_t i = 0; i < CURSOR_RUNGS && at->rungs[i].back > 0; i++) {
        uint64_t offset = at->offset - at->rungs[i].back;
        struct cursor now;

        if (identity_cursor(d, fd, offset, &now) == 0 &&
            (uint32_t)now.anchor == at->rungs[i].hash) {
            *ret = offset;
            return true;
        }
    }
    return false;
}

static bool begins_so(struct digest *d, int fd, const struct source_id *id)
{
    return identity_fits(d, fd, id, (struct cursor){0});
}

void look_at(struct digest *d, const char *path, const struct source_id *id,
             const struct cursor *at, struct look *ret)
{
    struct identity_facts facts;
    struct source_id now;
    int fd = open_and_read(d, path, &now, &facts);

    *ret = (struct look){.state = LOOK_REPLACED};
    if (fd == -ENOENT || fd == -ENOTDIR) {
        ret->state = LOOK_GONE;
    } else if (fd < 0 && fd != -EISDIR && fd != -EINVAL) { /* a directory is another thing */
        ret->state = LOOK_UNREADABLE;
        ret->error = fd;
    }
    if (fd < 0)
        return;
    if (source_id_is_same_object(&now, id)) {
        ret->same_file = true;
        ret->size = facts.size;
        if (identity_fits(d, fd, id, *at))
            ret->state = facts.size > at->offset ? LOOK_BEHIND : LOOK_OK;
        else
            ret->shortened = begins_so(d, fd, id) && find_rung(d, fd, at, &ret->resumes);
    }
    close(fd);
}

int look_identify(struct digest *d, const char *path, struct source_id *ret)
{
    struct identity_facts facts;
    int fd = open_and_read(d, path, ret, &facts);

    if (fd < 0)
        return fd;
    close(fd);
    return 0;
}

/* The file itself, or one with its head and its place: then it is a copy that was made of it. */
static bool is_it(struct digest *d, const char *path, const struct source_id *id,
                  const struct cursor *at)
{
    struct identity_facts facts;
    struct source_id now;
    int fd = open_and_read(d, path, &now, &facts);
    bool it = fd >= 0 && (id->head_len > 0 || source_id_is_same_object(&now, id)) &&
              identity_fits(d, fd, id, *at);

    if (fd >= 0)
        close(fd);
    return it;
}

bool look_beside(struct digest *d, const char *path, const struct source_id *id,
                 const struct cursor *at, char ret_path[PATH_MAX])
{
    const char *slash = strrchr(path, '/'), *name;
    char dir_path[PATH_MAX];
    bool found = false;
    DIR *dir;

    if (slash == NULL || snprintf(dir_path, sizeof dir_path, "%.*s", (int)(slash - path + 1),
                                  path) >= (int)sizeof dir_path)
        return false;
    name = slash + 1;
    dir = opendir(dir_path);
    if (dir == NULL)
        return false;
    for (struct dirent *e; !found && (e = readdir(dir)) != NULL;) {
        char other[PATH_MAX];

        /* A copy has the name of the file in its own: opening all files there may be dear. */
        if ((e->d_ino != id->ino && strncmp(e->d_name, name, strlen(name)) != 0) ||
            strcmp(e->d_name, name) == 0 ||
            snprintf(other, sizeof other, "%s%s", dir_path, e->d_name) >= (int)sizeof other)
            continue;
        found = is_it(d, other, id, at);
        if (found)
            memcpy(ret_path, other, strlen(other) + 1);
    }
    closedir(dir);
    return found;
}

int look_lines(int fd, uint64_t offset, uint64_t *ret_before, uint64_t *ret_after)
{
    char step[LOOK_STEP];
    int r = identity_last_line(fd, offset, ret_before);

    *ret_after = UINT64_MAX;
    while (r == 0 && *ret_after == UINT64_MAX) {
        ssize_t n = pread(fd, step, sizeof step, (off_t)offset);
        const char *newline = n > 0 ? memchr(step, '\n', (size_t)n) : NULL;

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        if (newline != NULL)
            *ret_after = offset + (uint64_t)(newline - step) + 1;
        offset += (uint64_t)n;
    }
    return r;
}
