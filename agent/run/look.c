#include "run/look.h"

#include "tail/identity.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_STEP = 64 * 1024, LOOK_FIRST_ENTRIES = 64 };

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

struct look_entry {
    uint64_t ino;
    char *name; /* by_name owns it */
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct look_entry *)a)->name, ((const struct look_entry *)b)->name);
}

static int compare_inos(const void *a, const void *b)
{
    uint64_t x = ((const struct look_entry *)a)->ino, y = ((const struct look_entry *)b)->ino;

    return x < y ? -1 : x > y ? 1 : 0;
}

void look_dir_done(struct look_dir *dir)
{
    for (size_t i = 0; i < dir->count; i++)
        free(dir->by_name[i].name);
    free(dir->by_name);
    free(dir->by_ino);
    *dir = (struct look_dir){0};
}

/* Lists what a directory holds; no more than fits into memory. */
static void list_names(struct look_dir *dir)
{
    DIR *d = opendir(dir->path);
    size_t room = 0;

    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (dir->count == room) {
            size_t bigger = MAX(2 * room, (size_t)LOOK_FIRST_ENTRIES);
            struct look_entry *more = reallocarray(dir->by_name, bigger, sizeof(*more));
            if (more == NULL)
                break;
            dir->by_name = more;
            room = bigger;
        }
        dir->by_name[dir->count] = (struct look_entry){e->d_ino, strdup(e->d_name)};
        if (dir->by_name[dir->count].name == NULL)
            break;
        dir->count++;
    }
    closedir(d);
}

static void list_dir(struct look_dir *dir, const char *path)
{
    if (strcmp(dir->path, path) == 0)
        return;
    look_dir_done(dir);
    (void)snprintf(dir->path, sizeof dir->path, "%s", path);
    list_names(dir);
    if (dir->count == 0)
        return;
    dir->by_ino = calloc(dir->count, sizeof(*dir->by_ino));
    if (dir->by_ino == NULL) {
        look_dir_done(dir);
        return;
    }
    qsort(dir->by_name, dir->count, sizeof(*dir->by_name), compare_names);
    memcpy(dir->by_ino, dir->by_name, dir->count * sizeof(*dir->by_ino));
    qsort(dir->by_ino, dir->count, sizeof(*dir->by_ino), compare_inos);
}

/* The first of `all` that is not before `key`. */
static size_t first_not_before(const struct look_entry *all, size_t count,
                               const struct look_entry *key,
                               int (*compare)(const void *, const void *))
{
    size_t from = 0, to = count;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (compare(&all[middle], key) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

bool look_beside(struct digest *d, struct look_dir *dir, const char *path,
                 const struct source_id *id, const struct cursor *at, char ret_path[PATH_MAX])
{
    struct look_entry key = {.ino = id->ino};
    const char *slash = strrchr(path, '/');
    char dir_path[PATH_MAX], name[NAME_MAX + 1];
    size_t i, len;

    if (slash == NULL || snprintf(dir_path, sizeof dir_path, "%.*s", (int)(slash - path + 1),
                                  path) >= (int)sizeof dir_path)
        return false;
    list_dir(dir, dir_path);
    i = first_not_before(dir->by_ino, dir->count, &key, compare_inos);
    for (; i < dir->count && dir->by_ino[i].ino == id->ino; i++)
        if (snprintf(ret_path, PATH_MAX, "%s%s", dir_path, dir->by_ino[i].name) < PATH_MAX &&
            is_it(d, ret_path, id, at))
            return true;

    /* A copy has the name of the file in its own: to open all that is there may be dear. */
    len = (size_t)snprintf(name, sizeof name, "%s", slash + 1);
    if (len >= sizeof name)
        return false;
    key.name = name;
    i = first_not_before(dir->by_name, dir->count, &key, compare_names);
    for (; i < dir->count && strncmp(dir->by_name[i].name, name, len) == 0; i++)
        if (dir->by_name[i].name[len] != '\0' &&
            snprintf(ret_path, PATH_MAX, "%s%s", dir_path, dir->by_name[i].name) < PATH_MAX &&
            is_it(d, ret_path, id, at))
            return true;
    return false;
}

int look_lines(int fd, uint64_t offset, uint64_t *ret_before, uint64_t *ret_after)
{
    char step[LOOK_STEP];
    int r = identity_last_line(fd, ENCODING_UTF8, offset, ret_before);

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
