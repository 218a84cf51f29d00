/* histories -- random lives of log files and of the agent, against what must arrive.
 *
 *     histories [--seed N] [--count N] [--wild PERCENT] [--rotated PERCENT]
 *               [--only STEP,STEP] [--without STEP,STEP] [--keep 1] [--shrink 0] [--lines N]
 *               [--globs N] [--headed PERCENT]
 *
 * A history is a few dozen steps, chosen by the weights in `kinds`; what must arrive is what the
 * model (model.h) says.  In the end everything works again, the agent is started once more, and each
 * line has arrived as the model allows.  One seed is one history; `--seed N` alone tells its story,
 * with `--count` it is the first seed of many.  A history that fails is told without the steps that
 * it fails without as well.
 *
 *     --only      these steps, beside write and pass;  --without  all but these
 *     --keep 1    its directory stays; its name is printed
 *     --lines N   at most so many lines in one write;  --globs N  these of `all_globs` (0 to 3)
 *     --wild      how many of a hundred histories are wild (25)
 *     --rotated   how many have `rotated` globs (0)
 *     --headed    how many of a hundred logs begin each of their files with the same lines (30)
 *     KT_SIM_VERBOSE=1 in the environment: what the agent says, between the lines of the story
 *
 * Ordinarily an agent that runs gets a millisecond to look between two changes; in wild histories it
 * may be frozen for any number of them. */

#include "model.h"
#include "world.h"

#include "buf.h"
#include "map.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

enum {
    STEPS = 60,
    LOGS = 3,
    LINE_ROOM = 128,
    STORY_MAX = 1 << 20,
    HEADER_LINES = 12, /* of 100 bytes: more than SOURCE_HEAD_MAX */
    LATE_MS = 10000,   /* a writer holds its old file for so long: less than the agent waits */
    HISTORY_S = 120,   /* a history that takes longer hangs */
    TICK_MS = 10,      /* the kernel's clock has ticks of so much at the most */
    SHRINK_RUNS = 600,
    SHOWN = 5,
};

/* What the globs are; the logs have the same names in all of them. */
static const struct globs {
    struct sim_flow flows[2];
    size_t count;
} all_globs[] = {
    {{{"**/*.log", ""}}, 1},
    {{{"**/*.log*", "exclude = [ \"*.gz\" ]; "}}, 1}, /* generations and copies are in them */
    {{{"*.log", ""}, {"deep/**/*.log", ""}}, 2},
    {{{"a.log b.log deep/er/c.log", ""}}, 1},
};

enum { GLOBS_LOG, GLOBS_GENERATIONS, GLOBS_TWO_FLOWS, GLOBS_NAMES };

static const char *const log_names[LOGS] = {"a.log", "b.log", "deep/er/c.log"};
static const char home[] = "deep/er/"; /* the directory that is renamed and removed */

/* One writer and its file. */
struct log {
    char rest[LINE_ROOM]; /* of a half line, with its newline: the writer writes it next */
    size_t rest_len;
    int old; /* the file that it wrote before, or -1 */
    uint64_t retired_ms;
    bool headed;    /* each of its files begins with the same lines */
    bool ambiguous; /* truncated while the agent may not have been beyond them */
};

struct options {
    uint64_t seed, count;
    unsigned wild, rotated, headed, lines_max, globs;
    bool one, keep, shrink;
    const char *only, *without;
};

struct history {
    struct sim_world world;
    struct model model;
    struct random args; /* of the step that is told */
    struct log logs[LOGS];
    unsigned globs, lines_max;
    uint32_t written, names, frozen;
    uint64_t throttled;
    bool wild, rotated, newline;
    bool born;         /* a file, since the kernel's clock last moved for sure */
    const char *moved; /* where `home` is now; NULL: where it belongs */
};

enum verdict { WELL, CRASHED, TORN, LOST, TWICE };

/* What a child process tells of its history. */
struct outcome {
    enum verdict verdict;
    uint32_t lines, lost, torn, twice;
    size_t story_len;
    char story[STORY_MAX];
};

static struct outcome *outcome; /* shared with the child */

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char *to = outcome->story + outcome->story_len;
    size_t room = STORY_MAX - outcome->story_len;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(to, room, format, args);
    va_end(args);
    if (n > 0 && (size_t)n < room)
        outcome->story_len += (size_t)n;
    if (getenv("KT_SIM_VERBOSE") != NULL)
        fputs(to, stderr);
}

#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            say("  histories: %s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno));  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static uint64_t arg(struct history *h, uint64_t below)
{
    return random_below(&h->args, below);
}

static bool chance(struct history *h, unsigned percent)
{
    return arg(h, 100) < percent;
}

/* --- names --- */

static bool ends_with(const char *path, const char *end)
{
    return slice_ends_with(slice_of(path), slice_of(end));
}

static bool begins_with(const char *path, const char *begin)
{
    return strncmp(path, begin, strlen(begin)) == 0;
}

static bool is_log(const char *path)
{
    for (size_t i = 0; i < LOGS; i++)
        if (strcmp(path, log_names[i]) == 0)
            return true;
    return false;
}

/* What a rotation makes of a log's name: a.log.3, a.3.log, a.log-20261121, perhaps with .gz. */
static bool is_generation(const char *path)
{
    for (size_t i = 0; i < LOGS; i++) {
        size_t stem = strlen(log_names[i]) - strlen(".log");
        if (strncmp(path, log_names[i], stem) == 0 && strchr(".-", path[stem]) != NULL)
            return !is_log(path);
    }
    return false;
}

static bool is_in_globs(const struct history *h, const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;

    if (begins_with(path, ".."))
        return false;
    switch (h->globs) {
    case GLOBS_GENERATIONS:
        return strstr(base, ".log") != NULL && !ends_with(path, ".gz");
    case GLOBS_NAMES:
        return is_log(path);
    default:
        return ends_with(path, ".log");
    }
}

static enum model_place place(void *user, const char *path)
{
    const struct history *h = user;

    if (is_in_globs(h, path))
        return MODEL_GLOB;
    if (h->moved != NULL && begins_with(path, h->moved))
        return MODEL_AWAY;
    if (begins_with(path, "../old/"))
        return h->rotated ? MODEL_ROTATED : MODEL_OUTSIDE;
    return is_generation(path) ? MODEL_GENERATION : MODEL_OUTSIDE;
}

static const char *disk(const struct history *h, const char *path)
{
    return sim_path(&h->world, path);
}

/* A name that was not there before: "%s" is the log's, "%u" a number. */
__attribute__((format(printf, 3, 0))) static void new_name(struct history *h, char to[MODEL_PATH],
                                                           const char *format, unsigned log)
{
    const char *name = log_names[log];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(to, MODEL_PATH, format, (int)(strlen(name) - strlen(".log")), name, ++h->names);
#pragma GCC diagnostic pop
}

/* --- time --- */

static bool has_faults(const struct sim_faults *f)
{
    return f->throttle > 0 || f->fail > 0 || f->lose_answer > 0 || f->garbage > 0 || f->down;
}

static void looked(struct history *h)
{
    if (h->world.throttled != h->throttled)
        h->model.partial = true;
    h->throttled = h->world.throttled;
    model_looked(&h->model, has_faults(&h->world.faults));
    for (unsigned i = 0; i < LOGS && h->model.alive; i++)
        h->logs[i].ambiguous = false;
}

static void pass(struct history *h, uint64_t ms)
{
    /* When as much as a tick of ours passes, the kernel's clock moves, too. */
    if (h->born && ms >= TICK_MS)
        sim_tick();
    h->born = h->born && ms < TICK_MS;
    sim_run(&h->world, ms);
    looked(h);
}

/* A file is born: in a clock tick of its own, unless the history is wild. */
static void birth(struct history *h)
{
    if (!h->wild)
        sim_tick();
    h->born = true;
}

static void after_birth(struct history *h)
{
    if (h->born && !h->wild)
        sim_tick();
    h->born = h->born && h->wild;
}

/* --- writing --- */

/* A line's text: its number at both ends, so that tearing shows and half of it is not another. */
static size_t line_text(uint32_t number, char to[LINE_ROOM])
{
    size_t len = (size_t)snprintf(to, LINE_ROOM, "%u:", number), fill = 2 + number % 60;

    for (size_t i = 0; i < fill; i++)
        to[len++] = (char)('a' + (number + i) % 26);
    len += (size_t)snprintf(to + len, LINE_ROOM - len, ":%u.\n", number);
    return len;
}

static void add_line(struct history *h, struct buf *to)
{
    char text[LINE_ROOM];
    size_t len = line_text(h->written++, text);

    MUST(buf_append(to, (struct slice){text, len}) == 0);
}

static void add_header(unsigned log, struct buf *to)
{
    char line[101];

    (void)snprintf(line, sizeof line, "# a header of %s, the same on each line", log_names[log]);
    for (size_t len = strlen(line); len < sizeof line - 1; len++)
        line[len] = '.';
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < HEADER_LINES; i++)
        MUST(buf_append(to, (struct slice){line, sizeof line}) == 0);
}

static bool is_home(const struct history *h, unsigned log)
{
    return h->moved == NULL || !begins_with(log_names[log], home);
}

/* Adds bytes to a file of that name, which may be made by it; `at`: or there, beyond its end. */
static void put_at(struct history *h, const char *path, struct slice bytes, int64_t at)
{
    int file = model_find(&h->model, path), fd;

    if (file < 0) {
        birth(h);
        file = (int)model_create(&h->model, path);
        if (begins_with(path, home))
            (void)mkdir(disk(h, home), 0755);
    }
    fd = open(disk(h, path), O_WRONLY | O_CREAT | O_CLOEXEC | (at < 0 ? O_APPEND : 0), 0644);
    MUST(fd >= 0);
    MUST((at < 0 ? write(fd, bytes.ptr, bytes.len) : pwrite(fd, bytes.ptr, bytes.len, (off_t)at)) ==
         (ssize_t)bytes.len);
    close(fd);
    model_append(&h->model, (uint32_t)file, bytes);
}

static void excuse_header(struct history *h, uint32_t file)
{
    struct model_file *f = &h->model.files[file];

    for (uint32_t i = 0; i < MIN(f->count, (uint32_t)HEADER_LINES); i++) {
        f->lines[i]->state = MODEL_MAY;
        f->lines[i]->why = "the same text in the same place of a file that was truncated: nobody "
                           "can tell it from the old";
    }
}

/* Writes lines: first the rest of a half line, in a file that is empty the header. */
static void write_lines_at(struct history *h, unsigned log, uint32_t count, int64_t at)
{
    struct log *l = &h->logs[log];
    int file = model_find(&h->model, log_names[log]);
    bool empty = file < 0 || h->model.files[file].count == 0;
    struct buf text;

    buf_init(&text, 1 << 20);
    MUST(buf_append(&text, (struct slice){l->rest, l->rest_len}) == 0);
    empty = empty && l->rest_len == 0;
    l->rest_len = 0;
    if (empty && l->headed)
        add_header(log, &text);
    while (count-- > 0)
        add_line(h, &text);
    put_at(h, log_names[log], buf_slice(&text), at);
    if (empty && l->headed && l->ambiguous)
        excuse_header(h, (uint32_t)model_find(&h->model, log_names[log]));
    buf_done(&text);
}

static void write_lines(struct history *h, unsigned log, uint32_t count)
{
    write_lines_at(h, log, count, -1);
}

static uint32_t some_lines(struct history *h)
{
    uint32_t count = 1 + (uint32_t)arg(h, chance(h, 10) ? 800 : 30);

    return MIN(count, h->lines_max);
}

/* Writes the rest of a half line, to the file that has the log's name now. */
static void write_rest(struct history *h, unsigned log)
{
    if (h->logs[log].rest_len > 0)
        write_lines(h, log, 0);
}

static bool step_write(struct history *h, unsigned log)
{
    uint32_t count = some_lines(h);

    if (!is_home(h, log))
        return false;
    say("  write %u lines to %s from %u\n", count, log_names[log], h->written);
    write_lines(h, log, count);
    return true;
}

static bool step_half(struct history *h, unsigned log)
{
    struct log *l = &h->logs[log];
    char text[LINE_ROOM];
    size_t len, digits, cut;

    if (!is_home(h, log))
        return false;
    say("  half line %u to %s\n", h->written, log_names[log]);
    write_lines(h, log, 0);
    digits = (size_t)snprintf(text, sizeof text, "%u:", h->written);
    len = line_text(h->written++, text);
    cut = digits + 1 + (size_t)arg(h, len - 2 * digits - 3);
    put_at(h, log_names[log], (struct slice){text, cut}, -1);
    l->rest_len = len - cut;
    memcpy(l->rest, text + cut, l->rest_len);
    return true;
}

/* --- rotations --- */

/* The log's file, if it has one. */
static int log_file(const struct history *h, unsigned log)
{
    return model_find(&h->model, log_names[log]);
}

static bool writer_finishes(struct history *h, unsigned log)
{
    bool finish = h->logs[log].rest_len > 0 && chance(h, 60);

    if (finish)
        write_rest(h, log);
    return finish;
}

/* The writer has let go of the file, but may come back to it for a while. */
static void retire(struct history *h, unsigned log, uint32_t file)
{
    h->logs[log].old = (int)file;
    h->logs[log].retired_ms = h->world.now_ms;
    model_retire(&h->model, file, true);
}

static void rename_file(struct history *h, const char *from, const char *to)
{
    MUST(rename(disk(h, from), disk(h, to)) == 0);
    model_rename(&h->model, from, to,
                 "rotated to where nobody looks, and the agent had not seen it or ended");
}

static bool rotate_to(struct history *h, unsigned log, const char *to)
{
    int file = log_file(h, log);

    if (file < 0)
        return false;
    say("  rotate %s to %s%s\n", log_names[log], to,
        writer_finishes(h, log) ? ", its half line finished" : "");
    rename_file(h, log_names[log], to);
    retire(h, log, (uint32_t)file);
    return true;
}

static bool step_rotate(struct history *h, unsigned log)
{
    char to[MODEL_PATH];

    switch (arg(h, 4)) {
    case 0:
        new_name(h, to, "%.*s.log-202611%02u", log);
        break;
    case 1:
        new_name(h, to, "%.*s.%u.log", log);
        break;
    default:
        new_name(h, to, "%.*s.log.%u", log);
    }
    return rotate_to(h, log, to);
}

static void remove_name(struct history *h, const char *path)
{
    MUST(unlink(disk(h, path)) == 0);
    model_unname(&h->model, path,
                 h->model.alive ? "deleted before the running agent had a look"
                                : "deleted while the agent was not running");
}

/* NAME.log to NAME.log.91, that to .92, that to .93, which is deleted. */
static bool step_shift(struct history *h, unsigned log)
{
    char names[3][MODEL_PATH];
    bool there = log_file(h, log) >= 0;

    for (unsigned i = 0; i < 3; i++)
        (void)snprintf(names[i], MODEL_PATH, "%s.9%u", log_names[log], i + 1);
    if (!there)
        return false;
    if (model_find(&h->model, names[2]) >= 0)
        remove_name(h, names[2]);
    for (int i = 1; i >= 0; i--)
        if (model_find(&h->model, names[i]) >= 0)
            rename_file(h, names[i], names[i + 1]);
    return rotate_to(h, log, names[0]);
}

static bool step_move_in(struct history *h, unsigned log)
{
    char to[MODEL_PATH];

    if (h->globs == GLOBS_TWO_FLOWS)
        new_name(h, to, "%.*s_moved%u.log", log); /* the other flow would take it for a new one */
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
    int in = open(disk(h, from), O_RDONLY | O_CLOEXEC);
    int out = open(disk(h, to), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

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
    MUST(truncate(disk(h, log_names[log]), 0) == 0);
    model_truncate(&h->model, file, why);
}

static bool step_copytruncate(struct history *h, unsigned log)
{
    int file = log_file(h, log);
    bool look = h->model.alive && chance(h, 30);
    char to[MODEL_PATH];
    uint32_t copy;

    if (file < 0)
        return false;
    new_name(h, to, "%.*s.log.%u", log);
    say("  copytruncate %s to %s%s%s\n", log_names[log], to,
        writer_finishes(h, log) ? ", its half line finished" : "",
        look ? ", with a look between copy and truncate" : "");
    birth(h);
    copy_bytes(h, log_names[log], to);
    copy = model_copy(&h->model, (uint32_t)file, to);
    if (look)
        pass(h, 1);
    truncate_file(h, log, (uint32_t)file, "truncated, and its copy is gone");
    model_retire(&h->model, copy, true);
    return true;
}

static const char truncated[] = "truncated without a copy before it was read";

static bool step_truncate(struct history *h, unsigned log)
{
    int file = log_file(h, log);

    if (file < 0)
        return false;
    say("  truncate %s\n", log_names[log]);
    truncate_file(h, log, (uint32_t)file, truncated);
    return true;
}

static int64_t size_of(const struct history *h, const char *path)
{
    struct stat st;

    return stat(disk(h, path), &st) == 0 ? st.st_size : -1;
}

static bool step_refill(struct history *h, unsigned log)
{
    int file = log_file(h, log);
    int64_t size = size_of(h, log_names[log]);
    uint32_t from = h->written;

    if (file < 0 || size > 16 * 1024)
        return false;
    truncate_file(h, log, (uint32_t)file, truncated);
    while (size_of(h, log_names[log]) <= size)
        write_lines(h, log, 1 + (uint32_t)arg(h, 5));
    say("  truncate %s and refill it from %u, past its old size %lld\n", log_names[log], from,
        (long long)size);
    return true;
}

static bool step_hole(struct history *h, unsigned log)
{
    int file = log_file(h, log);
    int64_t size = size_of(h, log_names[log]);
    uint32_t count = some_lines(h);

    if (file < 0 || size == 0 || size > 256 * 1024)
        return false;
    say("  truncate %s, and its writer goes on at byte %lld: %u lines from %u\n", log_names[log],
        (long long)size, count, h->written);
    truncate_file(h, log, (uint32_t)file, truncated);
    write_lines_at(h, log, count, size);
    return true;
}

static bool step_shorten(struct history *h, unsigned log)
{
    int file = log_file(h, log);
    int64_t size = size_of(h, log_names[log]);
    struct model_file *f = &h->model.files[MAX(file, 0)];
    const struct model_line *last;
    uint32_t bytes;
    bool append = chance(h, 60);

    if (file < 0 || f->count == 0 || f->half || f->shortened > 0)
        return false;
    last = f->lines[f->count - 1];
    if (last->shared || last->len < 6)
        return false;
    bytes = chance(h, 30) ? last->len + 1 : 1 + (uint32_t)arg(h, 5);
    say("  shorten %s by %u bytes%s\n", log_names[log], bytes,
        bytes == last->len + 1 ? ", a whole line" : "");
    MUST(truncate(disk(h, log_names[log]), size - bytes) == 0);
    model_shorten(&h->model, (uint32_t)file, bytes, "cut off before it was read");
    if (append) {
        say("    and write line %u\n", h->written);
        write_lines(h, log, 1);
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
    say("  write line %u to %s, which the writer of %s still holds\n", h->written, f->names[0].path,
        log_names[log]);
    buf_init(&text, 1 << 16);
    if (f->half) {
        MUST(buf_append(&text, (struct slice){l->rest, l->rest_len}) == 0);
        l->rest_len = 0;
    }
    add_line(h, &text);
    put_at(h, f->names[0].path, buf_slice(&text), -1);
    model_retire(&h->model, (uint32_t)l->old, true); /* the new line is where the others are */
    buf_done(&text);
    return true;
}

static bool step_replace(struct history *h, unsigned log)
{
    uint32_t count = some_lines(h);
    char temporary[MODEL_PATH];
    struct buf text;
    int fd;

    if (log_file(h, log) < 0)
        return false;
    say("  replace %s by a new file with %u lines from %u\n", log_names[log], count, h->written);
    h->logs[log].rest_len = 0;
    buf_init(&text, 1 << 20);
    if (h->logs[log].headed)
        add_header(log, &text);
    while (count-- > 0)
        add_line(h, &text);
    (void)snprintf(temporary, sizeof temporary, "../tmp-%u", ++h->names);
    birth(h);
    fd = open(disk(h, temporary), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    MUST(fd >= 0 && write(fd, text.ptr, text.len) == (ssize_t)text.len);
    close(fd);
    MUST(rename(disk(h, temporary), disk(h, log_names[log])) == 0);
    model_unname(&h->model, log_names[log],
                 h->model.alive ? "replaced before the running agent had a look"
                                : "replaced while the agent was not running");
    model_append(&h->model, model_create(&h->model, log_names[log]), buf_slice(&text));
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
                fits(&h->model.files[i], &h->model.files[i].names[j]) && arg(h, ++seen) == 0)
                picked = h->model.files[i].names[j].path;
    return picked;
}

static bool is_link(const struct model_file *f, const struct model_name *n)
{
    return f->name_count > 1 && !is_log(n->path);
}

static bool is_old(const struct model_file *f, const struct model_name *n)
{
    (void)f;
    return !is_log(n->path);
}

static bool is_compressible(const struct model_file *f, const struct model_name *n)
{
    return f->retired && f->name_count == 1 && is_generation(n->path) && !ends_with(n->path, ".gz");
}

static bool step_link(struct history *h, unsigned log)
{
    int file = log_file(h, log);
    char to[MODEL_PATH];

    if (file < 0)
        return false;
    if (chance(h, 30))
        (void)snprintf(to, sizeof to, "../old/link-%u", ++h->names);
    else if (h->globs == GLOBS_TWO_FLOWS)
        new_name(h, to, "%.*s_link%u.log", log);
    else
        (void)snprintf(to, sizeof to, "link-%u.log", ++h->names);
    if (!model_name(&h->model, (uint32_t)file, to))
        return false;
    say("  link %s to %s\n", log_names[log], to);
    MUST(link(disk(h, log_names[log]), disk(h, to)) == 0);
    return true;
}

/* The file of a removed name may have others: then nobody writes to it. */
static void delete_log(struct history *h, unsigned log)
{
    int file = log_file(h, log);

    remove_name(h, log_names[log]);
    retire(h, log, (uint32_t)file);
}

static bool step_delete(struct history *h, unsigned log)
{
    if (log_file(h, log) < 0)
        return false;
    say("  delete %s%s\n", log_names[log],
        writer_finishes(h, log) ? ", its half line finished" : "");
    delete_log(h, log);
    return true;
}

static bool step_unlink(struct history *h, unsigned log)
{
    const char *path = pick_name(h, chance(h, 50) ? is_link : is_old);

    (void)log;
    if (path == NULL)
        return false;
    say("  delete %s\n", path);
    remove_name(h, path);
    return true;
}

static bool step_relink(struct history *h, unsigned log)
{
    const char *path = pick_name(h, is_link);
    char from[MODEL_PATH], to[MODEL_PATH];

    (void)log;
    if (path == NULL || ends_with(path, ".gz"))
        return false;
    (void)snprintf(from, sizeof from, "%s", path);
    (void)snprintf(to, sizeof to, "%.*s_%u.log", (int)(strlen(from) - 4), from, ++h->names);
    say("  rename %s to %s\n", from, to);
    rename_file(h, from, to);
    return true;
}

static bool step_backup(struct history *h, unsigned log)
{
    int file = log_file(h, log);
    char to[MODEL_PATH];
    uint32_t copy;

    if (file < 0 || h->model.files[file].half || h->model.files[file].count == 0)
        return false;
    (void)snprintf(to, sizeof to, "%s.bak", log_names[log]);
    if (model_find(&h->model, to) >= 0)
        return false;
    say("  copy %s to %s, and leave it as it is\n", log_names[log], to);
    birth(h);
    copy_bytes(h, log_names[log], to);
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
    say("  compress %s\n", from);
    for (unsigned i = 0; i < LOGS; i++) /* its writer is done with it */
        if (h->logs[i].old == model_find(&h->model, from))
            h->logs[i].old = -1;
    birth(h);
    in = open(disk(h, from), O_RDONLY | O_CLOEXEC);
    fd = open(disk(h, to), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
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
    MUST(unlink(disk(h, from)) == 0);
    model_rename(&h->model, from, to, "compressed to where nobody looks");
    return true;
}

/* --- directories --- */

static bool is_at_home(const struct model_file *f, const struct model_name *n)
{
    (void)f;
    return begins_with(n->path, home);
}

static bool step_rmdir(struct history *h, unsigned log)
{
    const char *path;

    (void)log;
    if (h->moved != NULL || access(disk(h, home), F_OK) < 0)
        return false;
    say("  remove %s and everything in it\n", home);
    while ((path = pick_name(h, is_at_home)) != NULL) {
        char copy[MODEL_PATH];

        (void)snprintf(copy, sizeof copy, "%s", path);
        for (unsigned i = 0; i < LOGS; i++)
            if (strcmp(log_names[i], copy) == 0)
                retire(h, i, (uint32_t)model_find(&h->model, copy));
        remove_name(h, copy);
    }
    MUST(rmdir(disk(h, home)) == 0);
    return true;
}

static bool step_mvdir(struct history *h, unsigned log)
{
    const char *from = h->moved, *to;

    (void)log;
    if (from == NULL && access(disk(h, home), F_OK) < 0)
        return false;
    if (from == NULL) {
        for (unsigned i = 0; i < LOGS; i++)
            if (begins_with(log_names[i], home) && log_file(h, i) >= 0)
                write_rest(h, i);
        from = home;
        to = h->moved = chance(h, 50) ? "deep/moved/" : "../away/";
    } else {
        to = home;
        h->moved = NULL;
    }
    say("  rename the directory %s to %s\n", from, to);
    MUST(rename(disk(h, from), disk(h, to)) == 0);
    model_replace(&h->model, from, to, "");
    return true;
}

/* --- the service and the agent --- */

static bool step_faults(struct history *h, unsigned log)
{
    struct sim_faults *f = &h->world.faults;

    (void)log;
    *f = (struct sim_faults){0};
    switch (arg(h, 6)) {
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
    h->model.healthy = h->model.healthy && !has_faults(f);
    say("  faults: throttle %u fail %u lose %u garbage %u down %d\n", f->throttle, f->fail,
        f->lose_answer, f->garbage, f->down);
    return true;
}

static void start(struct history *h)
{
    sim_start(&h->world);
    model_began(&h->model);
}

static void stop(struct history *h)
{
    sim_stop(&h->world);
    h->model.partial = h->model.partial || h->world.throttled != h->throttled;
    model_ended(&h->model, true);
}

static bool step_start(struct history *h, unsigned log)
{
    (void)log;
    if (h->model.alive)
        return false;
    say("  start\n");
    start(h);
    return true;
}

static bool step_stop(struct history *h, unsigned log)
{
    (void)log;
    if (!h->model.alive)
        return false;
    say("  stop\n");
    stop(h);
    return true;
}

static bool step_kill(struct history *h, unsigned log)
{
    (void)log;
    if (!h->model.alive)
        return false;
    say("  kill\n");
    sim_kill(&h->world);
    h->model.partial = h->model.partial || h->world.throttled != h->throttled;
    model_ended(&h->model, false);
    return true;
}

static bool step_pass(struct history *h, unsigned log)
{
    uint64_t ms = arg(h, chance(h, 20) ? 5000 : 50);

    (void)log;
    if (chance(h, 4))
        ms = 70 * 1000; /* what has no name is done with */
    say("  %llu ms pass\n", (unsigned long long)ms);
    pass(h, ms);
    return true;
}

static bool step_freeze(struct history *h, unsigned log)
{
    uint32_t steps = 2 + (uint32_t)arg(h, 5);

    (void)log;
    if (!h->model.alive || h->wild)
        return false;
    say("  the agent freezes for %u changes\n", steps);
    h->frozen = steps;
    return true;
}

static const struct kind {
    const char *name;
    unsigned weight;
    bool (*tell)(struct history *h, unsigned log); /* false: there was nothing to do */
    bool change; /* the agent has a look before, unless it is frozen */
} kinds[] = {
    {"write", 40, step_write, false},     {"half", 6, step_half, false},
    {"pass", 20, step_pass, false},       {"rotate", 8, step_rotate, true},
    {"shift", 3, step_shift, true},       {"move-in", 2, step_move_in, true},
    {"move-out", 2, step_move_out, true}, {"copytruncate", 5, step_copytruncate, true},
    {"truncate", 3, step_truncate, true}, {"refill", 3, step_refill, true},
    {"hole", 2, step_hole, true},         {"shorten", 3, step_shorten, true},
    {"late", 3, step_late, false},        {"replace", 2, step_replace, true},
    {"link", 3, step_link, true},         {"relink", 1, step_relink, true},
    {"delete", 3, step_delete, true},     {"unlink", 3, step_unlink, true},
    {"backup", 2, step_backup, true},     {"compress", 3, step_compress, true},
    {"rmdir", 1, step_rmdir, true},       {"mvdir", 2, step_mvdir, true},
    {"faults", 6, step_faults, false},    {"start", 10, step_start, false},
    {"stop", 3, step_stop, false},        {"kill", 5, step_kill, false},
    {"freeze", 2, step_freeze, false},
};

/* --- a history --- */

/* A step before it is told; what it does follows from the seed and from how things are then. */
struct step {
    const struct kind *kind;
    uint64_t seed;
    bool left_out;
};

static bool is_among(const char *list, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, len) == 0 && (at[len] == ',' || at[len] == '\0'))
            return true;
    }
    return false;
}

static unsigned weight(const struct options *o, const struct kind *k)
{
    bool basic = k->tell == step_write || k->tell == step_pass;

    if (o->only != NULL && !basic && !is_among(o->only, k->name))
        return 0;
    return is_among(o->without, k->name) ? 0 : k->weight;
}

static void make_steps(const struct options *o, uint64_t seed, struct step steps[STEPS])
{
    struct random r = {map_hash_u64(seed)};
    unsigned sum = 0;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        sum += weight(o, &kinds[i]);
    for (size_t i = 0; i < STEPS; i++) {
        uint64_t what = random_below(&r, sum);
        const struct kind *k = kinds;

        for (; what >= weight(o, k); k++)
            what -= weight(o, k);
        steps[i] = (struct step){k, random_next(&r), false};
    }
}

static void say_torn(struct slice data)
{
    say("  torn: '");
    for (size_t i = 0; i < data.len; i++)
        say(data.ptr[i] == '\0' ? "\\0" : "%c", data.ptr[i]);
    say("'\n");
}

static void record_stored(void *user, struct slice data, struct slice key)
{
    struct history *h = user;
    bool line = data.len > 0 && data.ptr[data.len - 1] == '\n';

    (void)key;
    if (line)
        data.len--;
    if (model_stored(&h->model, data, h->world.unsure) && memchr(data.ptr, '\0', data.len) == NULL)
        return;
    if (h->model.torn <= SHOWN)
        say_torn(slice_first(data, 300));
}

/* Makes the world that follows from the seed. */
static void begin(struct history *h, const struct options *o, uint64_t seed)
{
    static const char *const keys[] = {"random", "file", "const:k"};
    static const char *const lingers[] = {"20ms", "0s", "200ms"};
    struct random r = {map_hash_u64(seed ^ (UINT64_C(1) << 40))};
    const char *key = keys[random_below(&r, 3)], *linger = lingers[random_below(&r, 3)];
    bool end = random_below(&r, 4) == 0, small = random_below(&r, 4) == 0;
    unsigned in_flight = random_below(&r, 2) == 0 ? 1 : 4;
    struct sim_flow flows[2];
    char extra[2][512];

    h->wild = random_below(&r, 100) < o->wild;
    h->rotated = random_below(&r, 100) < o->rotated;
    h->newline = random_below(&r, 4) == 0;
    h->globs = (unsigned)random_below(&r, ARRAY_LEN(all_globs));
    if (o->globs < ARRAY_LEN(all_globs))
        h->globs = o->globs;
    h->lines_max = o->lines_max;
    for (size_t i = 0; i < all_globs[h->globs].count; i++) {
        flows[i] = all_globs[h->globs].flows[i];
        (void)snprintf(extra[i], sizeof extra[i],
                       "%sfrom = \"%s\"; key = \"%s\"; newline = %s; max_in_flight = %u; "
                       "batch = { linger = \"%s\"; records = %u; }; %s",
                       flows[i].extra, end ? "end" : "start", key, h->newline ? "true" : "false",
                       in_flight, linger, small ? 10U : 500U,
                       h->rotated ? "rotated = [ \"$/old/*\" ]; " : "");
        flows[i].extra = extra[i];
    }
    say("history %llu%s: files %s%s%s; %s\n", (unsigned long long)seed, h->wild ? ", wild" : "",
        flows[0].globs, all_globs[h->globs].count > 1 ? " and " : "",
        all_globs[h->globs].count > 1 ? flows[1].globs : "", extra[0]);
    sim_init_flows(&h->world, map_hash_u64(~seed), flows, all_globs[h->globs].count);
    h->world.keep = o->keep;
    h->world.stored = record_stored;
    h->world.user = h;
    model_init(&h->model);
    h->model.place = place;
    h->model.user = h;
    h->model.room = strcmp(linger, "0s") == 0 ? 0 : small ? 8 : 400;
    MUST(mkdir(disk(h, "deep"), 0755) == 0 && mkdir(disk(h, home), 0755) == 0);
    MUST(mkdir(disk(h, "../old"), 0755) == 0);
    for (unsigned i = 0; i < LOGS; i++) {
        h->logs[i].old = -1;
        h->logs[i].headed = random_below(&r, 100) < o->headed;
        write_lines(h, i, 1);
        if (end)
            model_skip(&h->model, (uint32_t)log_file(h, i));
    }
    sim_tick();
    start(h); /* what was rotated away before the first start is nobody's */
    pass(h, 1);
}

/* All is well again, and nothing is written any more. */
static void finish(struct history *h)
{
    if (h->moved != NULL)
        (void)step_mvdir(h, 0);
    h->world.faults = (struct sim_faults){0};
    for (unsigned i = 0; i < LOGS; i++) {
        int file = log_file(h, i);

        if (file >= 0 && h->model.files[file].half && h->logs[i].rest_len == 0)
            put_at(h, log_names[i], SLICE("\n"), -1);
        if (file >= 0)
            write_rest(h, i);
    }
    if (!h->model.alive)
        start(h);
    pass(h, 200 * 1000);
    stop(h);
    start(h);
    pass(h, 100 * 1000); /* a rest that only a start finds, and a half line's grace */
}

static const char *where(const struct model *m, const struct model_line *l)
{
    for (uint32_t i = 0; i < m->file_count; i++)
        for (uint32_t j = 0; j < m->files[i].count; j++)
            if (m->files[i].lines[j] == l && m->files[i].name_count > 0)
                return m->files[i].names[0].path;
    return "no file now";
}

static void judge(struct history *h)
{
    const struct model_line *first;

    outcome->lines = h->model.line_count;
    outcome->torn = h->model.torn;
    outcome->lost = model_lost(&h->model, &first);
    if (outcome->lost > 0)
        say("  lost: %u lines, first '%.70s', which is in %s\n", outcome->lost, first->text,
            where(&h->model, first));
    outcome->twice = model_twice(&h->model, &first);
    if (outcome->twice > 0)
        say("  twice: %u lines, first '%.70s', which is in %s\n", outcome->twice, first->text,
            where(&h->model, first));
    outcome->verdict = outcome->lost > 0    ? LOST
                       : outcome->torn > 0  ? TORN
                       : outcome->twice > 0 ? TWICE
                                            : WELL;
}

static void tell(const struct options *o, uint64_t seed, const struct step steps[STEPS])
{
    static struct history h;

    begin(&h, o, seed);
    for (size_t i = 0; i < STEPS; i++) {
        const struct kind *k = steps[i].kind;

        h.args = (struct random){steps[i].seed};
        if (steps[i].left_out)
            continue;
        if (k->change && !h.wild && h.frozen == 0 && h.model.alive)
            pass(&h, 1);
        if (h.wild && chance(&h, 30))
            sim_tick();
        if (k->tell(&h, (unsigned)arg(&h, LOGS)) && k->change && h.frozen > 0)
            h.frozen--;
        after_birth(&h);
        if (k->tell == step_pass || !h.model.alive)
            h.frozen = 0;
    }
    finish(&h);
    judge(&h);
    if (o->keep)
        say("  its directory: %s\n", h.world.dir);
    sim_done(&h.world);
    model_done(&h.model);
}

/* Tells it in a child: a history may crash the agent, or hang it. */
static enum verdict tell_apart(const struct options *o, uint64_t seed,
                               const struct step steps[STEPS])
{
    pid_t child;
    int status;

    *outcome = (struct outcome){.verdict = CRASHED};
    fflush(NULL);
    child = fork();
    if (child == 0) {
        (void)alarm(HISTORY_S);
        tell(o, seed, steps);
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        perror("histories: fork");
        exit(2);
    }
    if (status != 0)
        outcome->verdict = CRASHED;
    return outcome->verdict;
}

/* Leaves out what it fails without as well. */
static void shrink(struct options *o, uint64_t seed, struct step steps[STEPS], enum verdict as)
{
    unsigned runs = 0, lines_max = o->lines_max;
    bool again = true;

    for (unsigned few = 1; few <= 8; few *= 8) {
        o->lines_max = few;
        if (tell_apart(o, seed, steps) == as)
            break;
        o->lines_max = lines_max;
    }
    for (size_t size = STEPS / 2; size >= 1 && runs < SHRINK_RUNS; size = again ? size : size / 2) {
        again = false;
        for (size_t from = 0; from < STEPS && runs < SHRINK_RUNS; from += size) {
            struct step all[STEPS];
            bool any = false;

            memcpy(all, steps, sizeof all);
            for (size_t i = from; i < MIN(from + size, (size_t)STEPS); i++) {
                any = any || !steps[i].left_out;
                steps[i].left_out = true;
            }
            if (!any)
                continue;
            runs++;
            if (tell_apart(o, seed, steps) == as)
                again = true;
            else
                memcpy(steps, all, sizeof all);
        }
        if (again && size > 1)
            again = false;
    }
}

/* Tells one history; true if all is well. */
static bool tell_one(struct options o, uint64_t seed)
{
    static const char *const words[] = {"is well", "crashes or hangs the agent", "is torn", "loses",
                                        "repeats"};
    struct step steps[STEPS];
    enum verdict verdict;

    make_steps(&o, seed, steps);
    verdict = tell_apart(&o, seed, steps);
    if (verdict != WELL && o.shrink && !o.keep) {
        unsigned failed = 0;

        shrink(&o, seed, steps, verdict);
        for (int i = 0; i < 3; i++)
            failed += tell_apart(&o, seed, steps) == verdict;
        printf("history %llu %s; shrunk, it does so %u times in 3:\n", (unsigned long long)seed,
               words[verdict], failed);
    } else if (verdict != WELL) {
        printf("history %llu %s:\n", (unsigned long long)seed, words[verdict]);
    }
    if (verdict != WELL || o.one)
        printf("%.*s  %u lines, %u lost, %u torn, %u twice\n\n", (int)outcome->story_len,
               outcome->story, outcome->lines, outcome->lost, outcome->torn, outcome->twice);
    fflush(stdout);
    return verdict == WELL;
}

int main(int argc, char **argv)
{
    struct options o = {.seed = 1, .count = 1000, .wild = 25, .headed = 30, .lines_max = 800, .globs = UINT_MAX, .shrink = true};
    uint64_t bad = 0, told = 0;
    bool counted = false;

    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        uint64_t number = value != NULL ? strtoull(value, NULL, 10) : 0;

        if (value != NULL && strcmp(name, "--seed") == 0) {
            o.seed = number;
            o.one = true;
        } else if (value != NULL && strcmp(name, "--count") == 0) {
            o.count = number;
        } else if (value != NULL && strcmp(name, "--wild") == 0) {
            o.wild = (unsigned)number;
        } else if (value != NULL && strcmp(name, "--rotated") == 0) {
            o.rotated = (unsigned)number;
        } else if (value != NULL && strcmp(name, "--globs") == 0) {
            o.globs = (unsigned)number;
        } else if (value != NULL && strcmp(name, "--headed") == 0) {
            o.headed = (unsigned)number;
        } else if (value != NULL && strcmp(name, "--lines") == 0) {
            o.lines_max = (unsigned)MAX(number, UINT64_C(1));
        } else if (value != NULL && strcmp(name, "--only") == 0) {
            o.only = value;
        } else if (value != NULL && strcmp(name, "--without") == 0) {
            o.without = value;
        } else if (value != NULL && strcmp(name, "--keep") == 0) {
            o.keep = number > 0;
        } else if (value != NULL && strcmp(name, "--shrink") == 0) {
            o.shrink = number > 0;
        } else {
            fprintf(stderr, "usage: histories [--seed N] [--count N] [--wild PERCENT] [--rotated "
                            "PERCENT]\n       [--only STEP,...] [--without STEP,...] [--keep 1] "
                            "[--shrink 0] [--lines N] [--globs N] [--headed PERCENT]\nsteps:");
            for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
                fprintf(stderr, " %s", kinds[k].name);
            fprintf(stderr, "\n");
            return 2;
        }
        counted = counted || strcmp(name, "--count") == 0;
    }
    o.one = o.one && !counted;
    if (o.one)
        o.count = 1;
    outcome =
        mmap(NULL, sizeof *outcome, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (outcome == MAP_FAILED) {
        perror("histories: mmap");
        return 2;
    }
    for (; told < o.count && bad < 10; told++)
        bad += !tell_one(o, o.seed + told);
    printf("%llu histories, %llu bad\n", (unsigned long long)told, (unsigned long long)bad);
    return bad > 0;
}
