#include "history.h"

#include "disk.h"
#include "keep/dead.h"
#include "map.h"
#include "must.h"
#include "util.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    HEADER_LINES = 12, /* of 100 bytes: more than SOURCE_HEAD_MAX */
    TICK_MS = 10,      /* the kernel's clock has ticks of so much at the most */
    TORN_SHOWN = 5,
};

/* What the globs are; the logs have the same names in all of them. */
static const struct globs {
    struct sim_flow flows[2];
    size_t count;
} all_globs[GLOBS_COUNT] = {
    [GLOBS_LOG] = {{{"**/*.log", ""}}, 1},
    [GLOBS_GENERATIONS] = {{{"**/*.log*", "exclude = [ \"*.gz\" ]; "}}, 1},
    [GLOBS_TWO_FLOWS] = {{{"*.log", ""}, {"deep/**/*.log", ""}}, 2},
    [GLOBS_NAMES] = {{{"a.log b.log deep/er/c.log", ""}}, 1},
};

const char *const history_logs[HISTORY_LOGS] = {"a.log", "b.log", "deep/er/c.log"};
const char history_home[] = "deep/er/";

static struct story *story; /* there is one at a time */

void history_say(const char *format, ...)
{
    char *to = story->text + story->len;
    size_t room = sizeof story->text - story->len;
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(to, room, format, args);
    va_end(args);
    if (n > 0 && (size_t)n < room)
        story->len += (size_t)n;
    if (getenv("KT_SIM_VERBOSE") != NULL)
        fputs(to, stderr);
}

uint64_t history_arg(struct history *h, uint64_t below)
{
    return random_below(&h->args, below);
}

bool history_chance(struct history *h, unsigned percent)
{
    return history_arg(h, 100) < percent;
}

/* --- names --- */

static bool ends_with(const char *path, const char *end)
{
    return slice_ends_with(slice_of(path), slice_of(end));
}

static bool begins_with(const char *path, const char *history_begin)
{
    return strncmp(path, history_begin, strlen(history_begin)) == 0;
}

bool history_is_log(const char *path)
{
    for (size_t i = 0; i < HISTORY_LOGS; i++)
        if (strcmp(path, history_logs[i]) == 0)
            return true;
    return false;
}

/* What a rotation makes of a log's name: a.log.3, a.3.log, a.log-20261121, perhaps with .gz. */
bool history_is_generation(const char *path)
{
    for (size_t i = 0; i < HISTORY_LOGS; i++) {
        size_t stem = strlen(history_logs[i]) - strlen(".log");
        if (strncmp(path, history_logs[i], stem) == 0 && strchr(".-", path[stem]) != NULL)
            return !history_is_log(path);
    }
    return false;
}

bool history_means(const struct history *h, const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;

    if (begins_with(path, ".."))
        return false;
    switch (h->globs) {
    case GLOBS_GENERATIONS:
        return strstr(base, ".log") != NULL && !ends_with(path, ".gz");
    case GLOBS_NAMES:
        return history_is_log(path);
    default:
        return ends_with(path, ".log");
    }
}

/* Whether it is called like a rotation of a log; a link may be called anything. */
static bool history_is_rotated(const char *path)
{
    return strstr(path, ".log") != NULL;
}

static enum model_place place(void *user, const char *path)
{
    const struct history *h = user;

    if (history_means(h, path))
        return MODEL_GLOB;
    if (h->moved != NULL && begins_with(path, h->moved))
        return MODEL_AWAY;
    if (begins_with(path, "../old/"))
        return h->rotated && history_is_rotated(path) ? MODEL_ROTATED : MODEL_OUTSIDE;
    if (strstr(path, ".bak") != NULL)
        return MODEL_OUTSIDE; /* a person's, beside the log: nobody's log but by its globs */
    return history_is_generation(path) ? MODEL_GENERATION : MODEL_OUTSIDE;
}

const char *history_disk(const struct history *h, const char *path)
{
    return sim_path(&h->world, path);
}

/* A name that was not there before: "%s" is the log's, "%u" a number. */
void history_new_name(struct history *h, char to[MODEL_PATH], const char *format, unsigned log)
{
    const char *name = history_logs[log];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(to, MODEL_PATH, format, (int)(strlen(name) - strlen(".log")), name, ++h->names);
#pragma GCC diagnostic pop
}

/* --- time --- */

static void looked(struct history *h)
{
    if (h->world.throttled != h->throttled)
        h->model.partial = true;
    h->throttled = h->world.throttled;
    model_looked(&h->model, sim_has_faults(&h->world));
    for (unsigned i = 0; i < HISTORY_LOGS && h->model.alive; i++)
        h->logs[i].ambiguous = false;
}

void history_pass(struct history *h, uint64_t ms)
{
    /* When as much as a tick of ours passes, the kernel's clock moves, too. */
    if (h->born && ms >= TICK_MS)
        sim_tick();
    h->born = h->born && ms < TICK_MS;
    sim_run(&h->world, ms);
    looked(h);
}

/* A file is born: in a clock tick of its own, unless the history is wild. */
void history_birth(struct history *h)
{
    if (!h->wild)
        sim_tick();
    h->born = true;
}

void history_born(struct history *h)
{
    if (h->born && !h->wild)
        sim_tick();
    h->born = h->born && h->wild;
}

/* --- writing --- */

/* A line's text: its number at both ends, so that tearing shows and half of it is not another. */
size_t history_line(uint32_t number, char to[HISTORY_LINE_MAX])
{
    size_t len = (size_t)snprintf(to, HISTORY_LINE_MAX, "%u:", number), fill = 2 + number % 60;

    for (size_t i = 0; i < fill; i++)
        to[len++] = (char)('a' + (number + i) % 26);
    len += (size_t)snprintf(to + len, HISTORY_LINE_MAX - len, ":%u.\n", number);
    return len;
}

void history_add_line(struct history *h, struct buf *to)
{
    char text[HISTORY_LINE_MAX];
    size_t len = history_line(h->written++, text);

    MUST(buf_append(to, (struct slice){text, len}) == 0);
}

void history_add_header(unsigned log, struct buf *to)
{
    char line[101];

    (void)snprintf(line, sizeof line, "# a header of %s, the same on each line", history_logs[log]);
    for (size_t len = strlen(line); len < sizeof line - 1; len++)
        line[len] = '.';
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < HEADER_LINES; i++)
        MUST(buf_append(to, (struct slice){line, sizeof line}) == 0);
}

bool history_is_home(const struct history *h, unsigned log)
{
    return h->moved == NULL || !begins_with(history_logs[log], history_home);
}

/* Adds bytes to a file of that name, which may be made by it; `at`: or there, beyond its end. */
void history_put(struct history *h, const char *path, struct slice bytes, int64_t at)
{
    int file = model_find(&h->model, path), fd;

    if (file < 0) {
        history_birth(h);
        file = (int)model_create(&h->model, path);
        if (begins_with(path, history_home))
            (void)mkdir(history_disk(h, history_home), 0755);
    }
    fd =
        open(history_disk(h, path), O_WRONLY | O_CREAT | O_CLOEXEC | (at < 0 ? O_APPEND : 0), 0644);
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
void history_write_at(struct history *h, unsigned log, uint32_t count, int64_t at)
{
    struct log *l = &h->logs[log];
    int file = model_find(&h->model, history_logs[log]);
    bool empty = file < 0 || h->model.files[file].count == 0;
    struct buf text;

    buf_init(&text, 1 << 20);
    MUST(buf_append(&text, (struct slice){l->rest, l->rest_len}) == 0);
    empty = empty && l->rest_len == 0;
    l->rest_len = 0;
    if (empty && l->headed)
        history_add_header(log, &text);
    while (count-- > 0)
        history_add_line(h, &text);
    history_put(h, history_logs[log], buf_slice(&text), at);
    if (empty && l->headed && l->ambiguous)
        excuse_header(h, (uint32_t)model_find(&h->model, history_logs[log]));
    buf_done(&text);
}

void history_write(struct history *h, unsigned log, uint32_t count)
{
    history_write_at(h, log, count, -1);
}

/* Writes the rest of a half line, to the file that has the log's name now. */
void history_write_rest(struct history *h, unsigned log)
{
    if (h->logs[log].rest_len > 0)
        history_write(h, log, 0);
}

/* --- files --- */

/* The log's file, if it has one. */
int history_file(const struct history *h, unsigned log)
{
    return model_find(&h->model, history_logs[log]);
}

/* The writer has let go of the file, but may come back to it for a while. */
void history_retire(struct history *h, unsigned log, uint32_t file)
{
    h->logs[log].old = (int)file;
    h->logs[log].retired_ms = h->world.now_ms;
    model_retire(&h->model, file, true);
}

void history_rename(struct history *h, const char *from, const char *to)
{
    MUST(rename(history_disk(h, from), history_disk(h, to)) == 0);
    model_rename(&h->model, from, to,
                 "rotated to where nobody looks, and the agent had not seen it or ended");
}

void history_remove(struct history *h, const char *path)
{
    MUST(unlink(history_disk(h, path)) == 0);
    model_unname(&h->model, path,
                 h->model.alive ? "deleted before the running agent had a look"
                                : "deleted while the agent was not running");
}

/* --- the agent --- */

void history_start(struct history *h)
{
    sim_start(&h->world);
    model_began(&h->model);
}

void history_stop(struct history *h)
{
    if (!h->wild)
        sim_tick(); /* what was written before is older than the last look */
    sim_stop(&h->world);
    h->model.partial = h->model.partial || h->world.throttled != h->throttled;
    model_ended(&h->model, true);
}

void history_kill(struct history *h)
{
    if (!h->wild)
        sim_tick();
    sim_kill(&h->world);
    h->model.partial = h->model.partial || h->world.throttled != h->throttled;
    model_ended(&h->model, false);
}

/* --- a history --- */

static void say_torn(struct slice data)
{
    history_say("  torn: '");
    for (size_t i = 0; i < data.len; i++)
        history_say(data.ptr[i] == '\0' ? "\\0" : "%c", data.ptr[i]);
    history_say("'\n");
}

/* Whether a record of a flow whose events must be whole begins as an event does.  What each log began
 * with has no beginning. */
static bool has_head(struct slice record)
{
    char *end;
    unsigned long number = strtoul(record.ptr, &end, 10);

    return *end == ':' && (number % 5 == 0 || number < HISTORY_LOGS);
}

/* Lines of one record, or of one that was set aside. */
static void lines_stored(struct history *h, struct slice data, bool unsure)
{
    bool well = true;

    while (well) {
        const char *newline = memchr(data.ptr, '\n', data.len);
        struct slice line = slice_first(data, newline ? (size_t)(newline - data.ptr) : data.len);

        well = model_stored(&h->model, line, unsure);
        if (newline == NULL)
            break;
        data = slice_from(data, line.len + 1);
    }
    if (!well && h->model.torn <= TORN_SHOWN)
        say_torn(slice_first(data, 300));
}

static void record_stored(void *user, struct slice data, struct slice key)
{
    struct history *h = user;
    bool line = data.len > 0 && data.ptr[data.len - 1] == '\n';

    (void)key;
    if (line)
        data.len--;
    if (h->events == EVENTS_WHOLE && !has_head(data)) {
        if (h->model.torn++ <= TORN_SHOWN)
            say_torn(slice_first(data, 300));
        history_say("    is no beginning of an event\n");
    }
    lines_stored(h, data, h->world.unsure);
    if (line && !h->newline)
        h->model.torn++;
}

static const char *const all_events[EVENTS_COUNT] = {
    [EVENTS_LINES] = "",
    [EVENTS_MULTIPLE] = "multiline = { start = \"^[0-9]*[05]:\"; timeout = \"100ms\"; }; ",
    [EVENTS_JOINED] = "multiline = { start = \"^[0-9]*[05]:\"; timeout = \"100ms\"; }; "
                      "join = \"lines\"; join_bytes = 1024; ",
    [EVENTS_WHOLE] = "multiline = { start = \"^[0-9]*[05]:\"; timeout = \"10m\"; }; ",
    [EVENTS_DEAD] = "parse = { regex = \"^(?<n>[0-9]*[0-689]:.*)\"; on_mismatch = \"dead\"; }; "
                    "output = \"raw\"; ",
};

/* Makes the world that follows from the seed. */
void history_begin(struct history *h, const struct history_options *o, uint64_t seed,
                   struct story *to)
{
    static const char *const keys[] = {"random", "file", "const:k"};
    static const char *const lingers[] = {"20ms", "0s", "200ms"};
    struct random r = {map_hash_u64(seed ^ (UINT64_C(1) << 40))};
    const char *key = keys[random_below(&r, 3)], *linger = lingers[random_below(&r, 3)];
    bool end = random_below(&r, 4) == 0, small = random_below(&r, 4) == 0;
    unsigned in_flight = random_below(&r, 2) == 0 ? 1 : 4;
    struct sim_flow flows[2];
    char extra[2][512];

    *h = (struct history){0};
    *to = (struct story){.verdict = VERDICT_CRASHED}; /* until it is judged */
    story = to;
    h->wild = random_below(&r, 100) < o->wild;
    h->rotated = random_below(&r, 100) < o->rotated;
    h->newline = random_below(&r, 4) == 0;
    h->globs = (unsigned)random_below(&r, GLOBS_COUNT);
    if (o->globs < GLOBS_COUNT)
        h->globs = o->globs;
    if (all_globs[h->globs].count > 1)
        h->rotated = false; /* two flows would each take what lies there for their own */
    h->lines_max = o->lines_max;
    h->events = o->events < EVENTS_COUNT ? o->events : (unsigned)random_below(&r, EVENTS_COUNT);
    end = end && h->events != EVENTS_WHOLE;
    for (size_t i = 0; i < all_globs[h->globs].count; i++) {
        flows[i] = all_globs[h->globs].flows[i];
        (void)snprintf(extra[i], sizeof extra[i],
                       "%sfrom = \"%s\"; key = \"%s\"; newline = %s; max_in_flight = %u; "
                       "batch = { linger = \"%s\"; records = %u; }; %s%s",
                       flows[i].extra, end ? "end" : "start", key, h->newline ? "true" : "false",
                       in_flight, linger, small ? 10U : 500U,
                       h->rotated ? "rotated = [ \"$/old/*\" ]; " : "", all_events[h->events]);
        flows[i].extra = extra[i];
    }
    history_say("history %llu%s: files %s%s%s; %s\n", (unsigned long long)seed,
                h->wild ? ", wild" : "", flows[0].globs,
                all_globs[h->globs].count > 1 ? " and " : "",
                all_globs[h->globs].count > 1 ? flows[1].globs : "", extra[0]);
    sim_init_flows(&h->world, map_hash_u64(~seed), flows, all_globs[h->globs].count);
    h->world.keep = o->keep;
    h->world.stored = record_stored;
    h->world.user = h;
    model_init(&h->model);
    h->model.place = place;
    h->model.user = h;
    /* What is not whole is in no batch; and what is set aside is not on its way to the service. */
    h->model.room = strcmp(linger, "0s") == 0 || h->events != EVENTS_LINES ? 0 : small ? 8 : 400;
    MUST(mkdir(history_disk(h, "deep"), 0755) == 0 &&
         mkdir(history_disk(h, history_home), 0755) == 0);
    MUST(mkdir(history_disk(h, "../old"), 0755) == 0);
    for (unsigned i = 0; i < HISTORY_LOGS; i++) {
        h->logs[i].old = -1;
        h->logs[i].headed = random_below(&r, 100) < o->headed;
        history_write(h, i, 1);
        if (end)
            model_skip(&h->model, (uint32_t)history_file(h, i));
    }
    sim_tick();
    history_start(h); /* what was rotated away before the first start is nobody's */
    history_pass(h, 1);
}

static void bring_home(struct history *h)
{
    history_say("  rename the directory %s to %s\n", h->moved, history_home);
    MUST(rename(history_disk(h, h->moved), history_disk(h, history_home)) == 0);
    model_replace(&h->model, h->moved, history_home, "");
    h->moved = NULL;
}

/* All is well again, and nothing is written any more. */
void history_finish(struct history *h)
{
    if (h->moved != NULL)
        bring_home(h);
    h->world.faults = (struct sim_faults){0};
    for (unsigned i = 0; i < HISTORY_LOGS; i++) {
        int file = history_file(h, i);

        if (file >= 0 && h->model.files[file].half && h->logs[i].rest_len == 0)
            history_put(h, history_logs[i], SLICE("\n"), -1);
        if (file >= 0)
            history_write_rest(h, i);
    }
    if (!h->model.alive)
        history_start(h);
    history_pass(h, h->events == EVENTS_WHOLE ? 4000 * 1000 : 200 * 1000);
    history_stop(h);
    history_start(h);
    history_pass(h, h->events == EVENTS_WHOLE
                        ? 4000 * 1000
                        : 100 * 1000); /* a rest that only a start finds, and a half line's grace */
}

static const char *where(const struct model *m, const struct model_line *l)
{
    for (uint32_t i = 0; i < m->file_count; i++)
        for (uint32_t j = 0; j < m->files[i].count; j++)
            if (m->files[i].lines[j] == l && m->files[i].name_count > 0)
                return m->files[i].names[0].path;
    return "no file now";
}

/* What was set aside has arrived as well.  An end of the agent may bring a letter again, which is not
 * counted. */
static void count_dead(struct history *h)
{
    for (uint64_t n = 1, missing = 0; missing < 100; n++) {
        char name[DEAD_NAME_LEN], path[MODEL_PATH];
        enum dead_line line;
        struct dead_found found;
        struct slice rest;
        struct buf text;
        uint32_t seed;
        int fd;

        dead_segment_name(n, name);
        (void)snprintf(path, sizeof path, "../state/dead/s/%s", name);
        fd = open(history_disk(h, path), O_RDONLY | O_CLOEXEC);
        missing = fd < 0 ? missing + 1 : 0;
        if (fd < 0)
            continue;
        buf_init(&text, 64 << 20);
        MUST(disk_read_all(&disk_system, fd, &text) == 0);
        close(fd);
        rest = buf_slice(&text);
        MUST(dead_read_header(&rest, n, &seed) == 0);
        dead_found_init(&found);
        while (dead_next(&rest, seed, &line, &found)) {
            struct slice record = found.letter.record;

            MUST(line == DEAD_LINE_LETTER);
            lines_stored(h, slice_first(record, record.len - slice_ends_with(record, SLICE("\n"))),
                         true);
        }
        dead_found_done(&found);
        buf_done(&text);
    }
}

void history_judge(struct history *h)
{
    const struct model_line *first;

    if (h->events == EVENTS_DEAD)
        count_dead(h);
    story->lines = h->model.line_count;
    story->torn = h->model.torn;
    story->lost = model_lost(&h->model, &first);
    if (story->lost > 0)
        history_say("  lost: %u lines, first '%.70s', which is in %s\n", story->lost, first->text,
                    where(&h->model, first));
    story->twice = model_twice(&h->model, &first);
    if (story->twice > 0)
        history_say("  twice: %u lines, first '%.70s', which is in %s\n", story->twice, first->text,
                    where(&h->model, first));
    story->verdict = story->lost > 0    ? VERDICT_LOST
                     : story->torn > 0  ? VERDICT_TORN
                     : story->twice > 0 ? VERDICT_TWICE
                                        : VERDICT_WELL;
}

void history_done(struct history *h)
{
    if (h->world.keep)
        history_say("  its directory: %s\n", h->world.dir);
    sim_done(&h->world);
    model_done(&h->model);
}
