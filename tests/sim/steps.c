#include "steps.h"

#include "buf.h"
#include "history.h"
#include "must.h"
#include "util.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum {
    LATE_MS = 10000, /* a writer holds its old file for so long: less than the agent waits */
};

/* --- writing --- */

static uint32_t some_lines(struct history *h)
{
    uint32_t count = 1 + (uint32_t)history_arg(h, history_chance(h, 10) ? 800 : 30);

    return MIN(count, h->lines_max);
}

static bool step_write(struct history *h, unsigned log)
{
    uint32_t count = some_lines(h);

    if (!history_is_home(h, log))
        return false;
    history_say("  write %u lines to %s from %u\n", count, history_logs[log], h->written);
    history_write(h, log, count);
    return true;
}

static bool step_half(struct history *h, unsigned log)
{
    struct log *l = &h->logs[log];
    char text[HISTORY_LINE_MAX];
    size_t len, digits, cut;

    if (!history_is_home(h, log))
        return false;
    history_say("  half line %u to %s\n", h->written, history_logs[log]);
    history_write(h, log, 0);
    digits = (size_t)snprintf(text, sizeof text, "%u:", h->written);
    len = history_line(h->written++, text);
    cut = digits + 1 + (size_t)history_arg(h, len - 2 * digits - 3);
    history_put(h, history_logs[log], (struct slice){text, cut}, -1);
    l->rest_len = len - cut;
    memcpy(l->rest, text + cut, l->rest_len);
    return true;
}

/* --- rotations --- */

static bool writer_finishes(struct history *h, unsigned log)
{
    bool history_finish = h->logs[log].rest_len > 0 && history_chance(h, 60);

    if (history_finish)
        history_write_rest(h, log);
    return history_finish;
}

static bool rotate_to(struct history *h, unsigned log, const char *to)
{
    int file = history_file(h, log);

    if (file < 0)
        return false;
    history_say("  rotate %s to %s%s\n", history_logs[log], to,
                writer_finishes(h, log) ? ", its half line finished" : "");
    history_rename(h, history_logs[log], to);
    history_retire(h, log, (uint32_t)file);
    return true;
}

static bool step_rotate(struct history *h, unsigned log)
{
    char to[MODEL_PATH];

    switch (history_arg(h, 4)) {
    case 0:
        history_new_name(h, to, "%.*s.log-202611%02u", log);
        break;
    case 1:
        history_new_name(h, to, "%.*s.%u.log", log);
        break;
    default:
        history_new_name(h, to, "%.*s.log.%u", log);
    }
    return rotate_to(h, log, to);
}

/* NAME.log to NAME.log.91, that to .92, that to .93, which is deleted. */
static bool step_shift(struct history *h, unsigned log)
{
    char names[3][MODEL_PATH];
    bool there = history_file(h, log) >= 0;

    for (unsigned i = 0; i < 3; i++)
        (void)snprintf(names[i], MODEL_PATH, "%s.9%u", history_logs[log], i + 1);
    if (!there)
        return false;
    if (model_find(&h->model, names[2]) >= 0)
        history_remove(h, names[2]);
    for (int i = 1; i >= 0; i--)
        if (model_find(&h->model, names[i]) >= 0)
            history_rename(h, names[i], names[i + 1]);
    return rotate_to(h, log, names[0]);
}

static bool step_move_in(struct history *h, unsigned log)
{
    char to[MODEL_PATH];

    if (h->globs == GLOBS_TWO_FLOWS)
        history_new_name(h, to, "%.*s_moved%u.log",
                         log); /* the other flow would take it for a new one */
    else
        (void)snprintf(to, sizeof to, "deep/moved-%u.log", ++h->names);
    return rotate_to(h, log, to);
}

static bool step_move_out(struct history *h, unsigned log)
{
    char to[MODEL_PATH];

    (void)snprintf(to, sizeof to, "../old/%c.log.%u", "abc"[log], ++h->names);
    return rotate_to(h, log, to);
}

static void copy_bytes(struct history *h, const char *from, const char *to)
{
    char step[8192];
    int in = open(history_disk(h, from), O_RDONLY | O_CLOEXEC);
    int out = open(history_disk(h, to), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    MUST(in >= 0 && out >= 0);
    for (ssize_t n; (n = read(in, step, sizeof step)) > 0;)
        MUST(write(out, step, (size_t)n) == n);
    close(in);
    close(out);
}

/* Whether the agent may stand where a new header would look like the old one. */
static bool is_ambiguous(const struct history *h, unsigned log, uint32_t file)
{
    const struct model_file *f = &h->model.files[file];

    if (!h->logs[log].headed || f->count == 0)
        return h->logs[log].ambiguous;
    for (uint32_t i = 0; i < f->count; i++)
        if (!f->lines[i]->shared && f->lines[i]->acknowledged > 0)
            return false;
    return true;
}

static void truncate_file(struct history *h, unsigned log, uint32_t file, const char *why)
{
    h->logs[log].ambiguous = is_ambiguous(h, log, file);
    MUST(truncate(history_disk(h, history_logs[log]), 0) == 0);
    model_truncate(&h->model, file, why);
}

static bool step_copytruncate(struct history *h, unsigned log)
{
    int file = history_file(h, log);
    bool look = h->model.alive && history_chance(h, 30);
    char to[MODEL_PATH];
    uint32_t copy;

    if (file < 0)
        return false;
    history_new_name(h, to, "%.*s.log.%u", log);
    history_say("  copytruncate %s to %s%s%s\n", history_logs[log], to,
                writer_finishes(h, log) ? ", its half line finished" : "",
                look ? ", with a look between copy and truncate" : "");
    history_birth(h);
    copy_bytes(h, history_logs[log], to);
    copy = model_copy(&h->model, (uint32_t)file, to);
    if (look)
        history_pass(h, 1);
    truncate_file(h, log, (uint32_t)file, "truncated, and its copy is gone");
    model_retire(&h->model, copy, true);
    return true;
}

static const char truncated[] = "truncated without a copy before it was read";

static bool step_truncate(struct history *h, unsigned log)
{
    int file = history_file(h, log);

    if (file < 0)
        return false;
    history_say("  truncate %s\n", history_logs[log]);
    truncate_file(h, log, (uint32_t)file, truncated);
    return true;
}

static int64_t size_of(const struct history *h, const char *path)
{
    struct stat st;

    return stat(history_disk(h, path), &st) == 0 ? st.st_size : -1;
}

static bool step_refill(struct history *h, unsigned log)
{
    int file = history_file(h, log);
    int64_t size = size_of(h, history_logs[log]);
    uint32_t from = h->written;

    if (file < 0 || size > 16 * 1024)
        return false;
    truncate_file(h, log, (uint32_t)file, truncated);
    while (size_of(h, history_logs[log]) <= size)
        history_write(h, log, 1 + (uint32_t)history_arg(h, 5));
    history_say("  truncate %s and refill it from %u, past its old size %lld\n", history_logs[log],
                from, (long long)size);
    return true;
}

static bool step_hole(struct history *h, unsigned log)
{
    int file = history_file(h, log);
    int64_t size = size_of(h, history_logs[log]);
    uint32_t count = some_lines(h);

    if (file < 0 || size == 0 || size > 256 * 1024)
        return false;
    history_say("  truncate %s, and its writer goes on at byte %lld: %u lines from %u\n",
                history_logs[log], (long long)size, count, h->written);
    truncate_file(h, log, (uint32_t)file, truncated);
    history_write_at(h, log, count, size);
    return true;
}

static bool step_shorten(struct history *h, unsigned log)
{
    int file = history_file(h, log);
    int64_t size = size_of(h, history_logs[log]);
    struct model_file *f = &h->model.files[MAX(file, 0)];
    const struct model_line *last;
    uint32_t bytes;
    bool append = history_chance(h, 60);

    if (file < 0 || f->count == 0 || f->half || f->shortened > 0)
        return false;
    last = f->lines[f->count - 1];
    if (last->shared || last->len < 6)
        return false;
    /* Its newline alone, put back later, nobody could tell from before. */
    bytes = history_chance(h, 30) ? last->len + 1 : 2 + (uint32_t)history_arg(h, 4);
    history_say("  shorten %s by %u bytes%s\n", history_logs[log], bytes,
                bytes == last->len + 1 ? ", a whole line" : "");
    MUST(truncate(history_disk(h, history_logs[log]), size - bytes) == 0);
    model_shorten(&h->model, (uint32_t)file, bytes, "cut off before it was read");
    if (append) {
        history_say("    and write line %u\n", h->written);
        history_write(h, log, 1);
    }
    return true;
}

static bool step_late(struct history *h, unsigned log)
{
    struct log *l = &h->logs[log];
    struct buf text;
    const struct model_file *f;

    if (l->old < 0 || h->world.now_ms > l->retired_ms + LATE_MS)
        return false;
    f = &h->model.files[l->old];
    if (f->name_count == 0)
        return false;
    history_say("  write line %u to %s, which the writer of %s still holds\n", h->written,
                f->names[0].path, history_logs[log]);
    buf_init(&text, 1 << 16);
    if (f->half) {
        MUST(buf_append(&text, (struct slice){l->rest, l->rest_len}) == 0);
        l->rest_len = 0;
    }
    history_add_line(h, &text);
    history_put(h, f->names[0].path, buf_slice(&text), -1);
    model_retire(&h->model, (uint32_t)l->old, true); /* the new line is where the others are */
    buf_done(&text);
    return true;
}

static bool step_replace(struct history *h, unsigned log)
{
    uint32_t count = some_lines(h);
    char temporary[MODEL_PATH];
    struct buf text;
    int file = history_file(h, log), fd;

    if (file < 0)
        return false;
    history_say("  replace %s by a new file with %u lines from %u\n", history_logs[log], count,
                h->written);
    h->logs[log].rest_len = 0;
    buf_init(&text, 1 << 20);
    if (h->logs[log].headed)
        history_add_header(log, &text);
    while (count-- > 0)
        history_add_line(h, &text);
    (void)snprintf(temporary, sizeof temporary, "../tmp-%u", ++h->names);
    history_birth(h);
    fd = open(history_disk(h, temporary), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    MUST(fd >= 0 && write(fd, text.ptr, text.len) == (ssize_t)text.len);
    close(fd);
    MUST(rename(history_disk(h, temporary), history_disk(h, history_logs[log])) == 0);
    model_unname(&h->model, history_logs[log],
                 h->model.alive ? "replaced before the running agent had a look"
                                : "replaced while the agent was not running");
    model_retire(&h->model, (uint32_t)file, true);
    model_append(&h->model, model_create(&h->model, history_logs[log]), buf_slice(&text));
    buf_done(&text);
    return true;
}

/* A name at random among those that `fits` likes; NULL if there is none. */
static const char *pick_name(struct history *h,
                             bool (*fits)(const struct model_file *f, const struct model_name *n))
{
    const char *picked = NULL;
    uint64_t seen = 0;

    for (uint32_t i = 0; i < h->model.file_count; i++)
        for (uint32_t j = 0; j < h->model.files[i].name_count; j++)
            if (h->model.files[i].names[j].place != MODEL_AWAY &&
                fits(&h->model.files[i], &h->model.files[i].names[j]) &&
                history_arg(h, ++seen) == 0)
                picked = h->model.files[i].names[j].path;
    return picked;
}

static bool is_compressed(const char *path)
{
    return slice_ends_with(slice_of(path), SLICE(".gz"));
}

static bool is_link(const struct model_file *f, const struct model_name *n)
{
    return f->name_count > 1 && !history_is_log(n->path);
}

static bool is_old(const struct model_file *f, const struct model_name *n)
{
    (void)f;
    return !history_is_log(n->path);
}

static bool is_compressible(const struct model_file *f, const struct model_name *n)
{
    return f->retired && f->name_count == 1 && history_is_generation(n->path) &&
           !is_compressed(n->path) && !slice_ends_with(slice_of(n->path), SLICE(".bak"));
}

static bool step_link(struct history *h, unsigned log)
{
    int file = history_file(h, log);
    char to[MODEL_PATH];

    if (file < 0)
        return false;
    if (history_chance(h, 30))
        (void)snprintf(to, sizeof to, "../old/link-%u", ++h->names);
    else if (h->globs == GLOBS_TWO_FLOWS)
        history_new_name(h, to, "%.*s_link%u.log", log);
    else
        (void)snprintf(to, sizeof to, "link-%u.log", ++h->names);
    if (!model_name(&h->model, (uint32_t)file, to))
        return false;
    history_say("  link %s to %s\n", history_logs[log], to);
    MUST(link(history_disk(h, history_logs[log]), history_disk(h, to)) == 0);
    return true;
}

/* The file of a removed name may have others: then nobody writes to it. */
static void delete_log(struct history *h, unsigned log)
{
    int file = history_file(h, log);

    history_remove(h, history_logs[log]);
    history_retire(h, log, (uint32_t)file);
}

static bool step_delete(struct history *h, unsigned log)
{
    if (history_file(h, log) < 0)
        return false;
    history_say("  delete %s%s\n", history_logs[log],
                writer_finishes(h, log) ? ", its half line finished" : "");
    delete_log(h, log);
    return true;
}

static bool step_unlink(struct history *h, unsigned log)
{
    const char *path = pick_name(h, history_chance(h, 50) ? is_link : is_old);

    (void)log;
    if (path == NULL)
        return false;
    history_say("  delete %s\n", path);
    history_remove(h, path);
    return true;
}

static bool step_relink(struct history *h, unsigned log)
{
    const char *path = pick_name(h, is_link);
    char from[MODEL_PATH], to[MODEL_PATH];

    (void)log;
    if (path == NULL || is_compressed(path))
        return false;
    (void)snprintf(from, sizeof from, "%s", path);
    (void)snprintf(to, sizeof to, "%.*s_%u.log", (int)(strlen(from) - 4), from, ++h->names);
    history_say("  rename %s to %s\n", from, to);
    history_rename(h, from, to);
    return true;
}

static bool step_backup(struct history *h, unsigned log)
{
    int file = history_file(h, log);
    char to[MODEL_PATH];
    uint32_t copy;

    if (file < 0 || h->model.files[file].half || h->model.files[file].count == 0)
        return false;
    (void)snprintf(to, sizeof to, "%s.bak", history_logs[log]);
    if (model_find(&h->model, to) >= 0 || history_means(h, to))
        return false; /* what the globs mean is sent, whose copy it may be */
    history_say("  copy %s to %s, and leave it as it is\n", history_logs[log], to);
    history_birth(h);
    copy_bytes(h, history_logs[log], to);
    copy = model_copy(&h->model, (uint32_t)file, to);
    model_retire(&h->model, copy, true);
    return true;
}

static bool step_compress(struct history *h, unsigned log)
{
    const char *path = pick_name(h, is_compressible);
    char from[MODEL_PATH], to[MODEL_PATH], step[8192];
    struct timespec times[2];
    struct stat st;
    gzFile gz;
    int in, fd;

    (void)log;
    if (path == NULL)
        return false;
    (void)snprintf(from, sizeof from, "%s", path);
    MUST(snprintf(to, sizeof to, "%s.gz", from) < (int)sizeof to);
    if (model_find(&h->model, to) >= 0)
        return false;
    history_say("  compress %s\n", from);
    for (unsigned i = 0; i < HISTORY_LOGS; i++) /* its writer is done with it */
        if (h->logs[i].old == model_find(&h->model, from))
            h->logs[i].old = -1;
    history_birth(h);
    in = open(history_disk(h, from), O_RDONLY | O_CLOEXEC);
    fd = open(history_disk(h, to), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    MUST(in >= 0 && fd >= 0 && fstat(in, &st) == 0);
    gz = gzdopen(dup(fd), "wb1");
    MUST(gz != NULL);
    for (ssize_t n; (n = read(in, step, sizeof step)) > 0;)
        MUST(gzwrite(gz, step, (unsigned)n) == n);
    MUST(gzclose(gz) == Z_OK);
    times[0] = st.st_atim;
    times[1] = st.st_mtim;
    MUST(futimens(fd, times) == 0);
    close(fd);
    close(in);
    MUST(unlink(history_disk(h, from)) == 0);
    model_rename(&h->model, from, to, "compressed to where nobody looks");
    return true;
}

/* --- directories --- */

static bool is_at_home(const struct model_file *f, const struct model_name *n)
{
    (void)f;
    return strncmp(n->path, history_home, strlen(history_home)) == 0;
}

static bool step_rmdir(struct history *h, unsigned log)
{
    const char *path;

    (void)log;
    if (h->moved != NULL || access(history_disk(h, history_home), F_OK) < 0)
        return false;
    history_say("  remove %s and everything in it\n", history_home);
    while ((path = pick_name(h, is_at_home)) != NULL) {
        char copy[MODEL_PATH];

        (void)snprintf(copy, sizeof copy, "%s", path);
        for (unsigned i = 0; i < HISTORY_LOGS; i++)
            if (strcmp(history_logs[i], copy) == 0)
                history_retire(h, i, (uint32_t)model_find(&h->model, copy));
        history_remove(h, copy);
    }
    MUST(rmdir(history_disk(h, history_home)) == 0);
    return true;
}

static bool step_mvdir(struct history *h, unsigned log)
{
    const char *from = h->moved, *to;

    (void)log;
    if (from == NULL && access(history_disk(h, history_home), F_OK) < 0)
        return false;
    if (from == NULL) {
        for (unsigned i = 0; i < HISTORY_LOGS; i++)
            if (strncmp(history_logs[i], history_home, strlen(history_home)) == 0 &&
                history_file(h, i) >= 0)
                history_write_rest(h, i);
        from = history_home;
        to = h->moved = history_chance(h, 50) ? "deep/moved/" : "../away/";
    } else {
        to = history_home;
        h->moved = NULL;
    }
    history_say("  rename the directory %s to %s\n", from, to);
    MUST(rename(history_disk(h, from), history_disk(h, to)) == 0);
    model_replace(&h->model, from, to, "");
    return true;
}

/* --- the service and the agent --- */

static bool step_faults(struct history *h, unsigned log)
{
    struct sim_faults *f = &h->world.faults;

    (void)log;
    *f = (struct sim_faults){0};
    switch (history_arg(h, 6)) {
    case 0:
        f->throttle = 30;
        break;
    case 1:
        f->fail = 40;
        break;
    case 2:
        f->lose_answer = 20;
        break;
    case 3:
        f->garbage = 20;
        break;
    case 4:
        f->down = true;
        break;
    default:
        break;
    }
    h->model.healthy = h->model.healthy && !sim_has_faults(&h->world);
    history_say("  faults: throttle %u fail %u lose %u garbage %u down %d\n", f->throttle, f->fail,
                f->lose_answer, f->garbage, f->down);
    return true;
}

static bool step_start(struct history *h, unsigned log)
{
    (void)log;
    if (h->model.alive)
        return false;
    history_say("  start\n");
    history_start(h);
    return true;
}

static bool step_stop(struct history *h, unsigned log)
{
    (void)log;
    if (!h->model.alive)
        return false;
    history_say("  stop\n");
    history_stop(h);
    return true;
}

static bool step_kill(struct history *h, unsigned log)
{
    (void)log;
    if (!h->model.alive)
        return false;
    history_say("  kill\n");
    history_kill(h);
    return true;
}

static bool step_pass(struct history *h, unsigned log)
{
    uint64_t ms = history_arg(h, history_chance(h, 20) ? 5000 : 50);

    (void)log;
    /* What has no name is done with; and then, if it comes back, another start knows nothing of it. */
    if (history_chance(h, 4) && h->moved == NULL)
        ms = 70 * 1000;
    history_say("  %llu ms pass\n", (unsigned long long)ms);
    history_pass(h, ms);
    return true;
}

static bool step_freeze(struct history *h, unsigned log)
{
    uint32_t steps = 2 + (uint32_t)history_arg(h, 5);

    (void)log;
    if (!h->model.alive || h->wild)
        return false;
    history_say("  the agent freezes for %u changes\n", steps);
    h->frozen = steps;
    return true;
}

const struct kind steps_kinds[] = {
    {"write", 40, step_write, false, true},
    {"half", 6, step_half, false, false},
    {"pass", 20, step_pass, false, true},
    {"rotate", 8, step_rotate, true, false},
    {"shift", 3, step_shift, true, false},
    {"move-in", 2, step_move_in, true, false},
    {"move-out", 2, step_move_out, true, false},
    {"copytruncate", 5, step_copytruncate, true, false},
    {"truncate", 3, step_truncate, true, false},
    {"refill", 3, step_refill, true, false},
    {"hole", 2, step_hole, true, false},
    {"shorten", 3, step_shorten, true, false},
    {"late", 3, step_late, false, false},
    {"replace", 2, step_replace, true, false},
    {"link", 3, step_link, true, false},
    {"relink", 1, step_relink, true, false},
    {"delete", 3, step_delete, true, false},
    {"unlink", 3, step_unlink, true, false},
    {"backup", 2, step_backup, true, false},
    {"compress", 3, step_compress, true, false},
    {"rmdir", 1, step_rmdir, true, false},
    {"mvdir", 2, step_mvdir, true, false},
    {"faults", 6, step_faults, false, false},
    {"start", 10, step_start, false, false},
    {"stop", 3, step_stop, false, false},
    {"kill", 5, step_kill, false, false},
    {"freeze", 2, step_freeze, false, false},
};

const size_t steps_count = ARRAY_LEN(steps_kinds);
