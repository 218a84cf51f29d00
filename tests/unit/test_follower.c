/* The follower on real directories: what a log's life does to its names, and what is read then.
 *
 * A story is a script, one command a line; files lie in a directory of their own.
 *
 *     + FILE LINE     appends a line            ~ FILE TEXT     … without its newline
 *     fill FILE N     appends N long lines      open FILE       a writer holds it as FILE …
 *     w FILE LINE     … and writes, whatever FILE is called by now
 *     mv A B   cp A B   ln A B   sym TO B   rm A   mkdir A   rmdir A   trunc A N   fifo A
 *     chmod MODE A    flood           more events than the kernel keeps
 *     go              what is there is seen and read (`eager`: after every command anyway)
 *     look COMMAND    is done when the next look at a name has begun: after its directory was
 *                     listed, before its file is opened.  Several are done at once, in this order
 *     sec N           N seconds pass
 *     stall N         … without the agent, which is frozen; no file may be born after it
 *     stop, start     the agent is restarted
 *     pause, resume   nothing is read, as when the batches are full
 *     = LINE …        since the last `=` exactly these lines were read, in this order
 *     ? LINE …        … in any order
 *     files N         so many sources are known */
#include "tail/follower.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "buf.h"
#include "clock.h"
#include "digest.h"
#include "record/split.h"
#include "run/loop.h"
#include "util.h"

enum {
    SLOTS = 128,
    WRITERS = 8,
    STEPS_MAX = 4000, /* loop steps without rest: somebody spins */
    QUIET = 12,       /* … without a turn, and it rests: a full queue of events takes as many */
    LINE_MAX_SMALL = 1000,
    LOOKS = 4, /* how many commands may wait for a look */
    LOOK_MAX = 256,
};

struct slot {
    bool alive;
    struct source_id id;
    struct cursor at;
    char *path;
};

struct tracked {
    struct list ready, all;
    struct source *source;
    struct slot *slot;
};

struct world {
    struct clock clock;
    uint64_t now_ms;
    struct loop *loop;
    struct watch *watch;
    struct digest *digest;
    struct descriptors descriptors;
    struct reader reader;
    struct follower *follower;
    struct loop_turn turn;
    struct list ready, tracked;
    struct slot slots[SLOTS];
    struct follower_past past[SLOTS];
    struct buf read; /* the lines since the last look, a blank behind each */
    size_t most_open;
    bool run_before, paused, looking;
    int64_t alive_ns;

    const char *dir;
    struct {
        char name[64];
        int fd;
    } writers[WRITERS];

    char meanwhile[LOOKS][LOOK_MAX]; /* what is done during the next look */
    size_t meanwhile_count;
};

struct story {
    const char *name, *script;
    const char *globs[4], *excludes[2];
    size_t limit; /* descriptors; 0: plenty */
    size_t held;  /* … and so many that must be held beyond it: renamed, not yet read */
    bool from_start, links, nobody;
    bool only_lazy; /* the story is what nobody sees */
};

struct way {
    const char *name;
    bool eager;
    size_t lines; /* taken in a visit, as when batches are full */
};

static const struct way ways[] = {
    {"lazy", false, SIZE_MAX},
    {"eager", true, SIZE_MAX},
    {"lazy, by the line", false, 1},
    {"eager, by the line", true, 1},
};

static const struct story *story;
static const struct way *way;
static struct world *told_in; /* the story that is being told */

#define CHECK(fact, ...)                                                                           \
    do {                                                                                           \
        if (!(fact)) {                                                                             \
            print_error("[ story    ] %s (%s)\n", story->name, way->name);                         \
            fail_msg(__VA_ARGS__);                                                                 \
        }                                                                                          \
    } while (0)

/* --- what happens while somebody looks --- */

static void meanwhile(struct world *w);

/* In the place of libc's: what the follower asks first of a name. */
int statx(int dir_fd, const char *restrict path, int flags, unsigned mask,
          struct statx *restrict ret)
{
    if (told_in != NULL && mask == (STATX_BASIC_STATS | STATX_BTIME) && path[0] != '\0')
        meanwhile(told_in);
    return (int)syscall(SYS_statx, dir_fd, path, flags, mask, ret);
}

static int64_t later_s; /* how far the wall clock is ahead of that of the file system */

int clock_gettime(clockid_t id, struct timespec *ret)
{
    int r = (int)syscall(SYS_clock_gettime, id, ret);

    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)
        ret->tv_sec += later_s;
    return r;
}

/* --- the reader, as a flow is one --- */

static uint64_t fake_mono(const struct clock *c)
{
    return CONTAINER_OF(c, struct world, clock)->now_ms;
}

static int64_t fake_wall(const struct clock *c)
{
    return (int64_t)fake_mono(c);
}

static void world_news(void *user, struct source *s)
{
    struct world *w = user;
    struct tracked *t = s->user;

    assert_non_null(t);
    if (list_is_empty(&t->ready))
        list_append(&w->ready, &t->ready);
    loop_want_turn(w->loop, &w->turn);
}

static void take_lines(struct world *w, struct source *s, const struct source_chunk *chunk)
{
    struct slice in = chunk->text, line;
    uint64_t offset = s->at.offset;

    for (size_t n = 0; n < way->lines && split_next(&in, &line); n++) {
        assert_int_equal(buf_append(&w->read, slice_first(line, 40)), 0);
        assert_int_equal(buf_append_char(&w->read, ' '), 0);
        offset += line.len + 1;
    }
    source_move(s, source_cursor(s, &w->reader, chunk, offset));
}

static void visit(struct world *w, struct tracked *t)
{
    struct source *s = t->source;
    struct source_chunk chunk;
    int news;

    if (follower_must_wait(s) || follower_open(w->follower, s) < 0)
        return;
    w->most_open = MAX(w->most_open, w->descriptors.count);
    news = source_read(s, &w->reader, s->ending, 0, &chunk);
    if (news == SOURCE_END) {
        follower_at_end(w->follower, s);
        return;
    }
    if (news == -ESTALE) {
        follower_stale(w->follower, s);
        return;
    }
    CHECK(news >= 0, "'%s': read: %d", s->path, news);
    list_append(&w->ready, &t->ready);
    if (news == SOURCE_MORE)
        return;
    if (news == SOURCE_LINES) {
        take_lines(w, s, &chunk);
    } else {
        assert_int_equal(buf_append(&w->read, slice_first(chunk.text, 40)), 0);
        assert_int_equal(buf_append(&w->read, news == SOURCE_HALF ? SLICE("… ") : SLICE(" ")), 0);
        source_move(s, source_cursor(s, &w->reader, &chunk, chunk.end));
    }
    t->slot->at = s->at;
    follower_was_read(w->follower, s);
}

static void world_turn(struct loop_turn *turn)
{
    struct world *w = CONTAINER_OF(turn, struct world, turn);

    if (w->paused)
        return;
    for (int n = 0; n < 4 && !list_is_empty(&w->ready); n++)
        visit(w, CONTAINER_OF(list_take(&w->ready), struct tracked, ready));
    if (!list_is_empty(&w->ready))
        loop_want_turn(w->loop, &w->turn);
}

static void slot_set(struct slot *slot, const struct source *s)
{
    free(slot->path);
    slot->path = strdup(s->path);
    assert_non_null(slot->path);
    slot->id = s->id;
}

static int world_met(void *user, struct source *s, void *slot)
{
    struct world *w = user;
    struct tracked *t = calloc(1, sizeof *t);

    assert_non_null(t);
    for (struct slot *free_one = w->slots; slot == NULL; free_one++) {
        assert_true(free_one < w->slots + SLOTS);
        if (!free_one->alive)
            slot = free_one;
    }
    t->slot = slot;
    t->source = s;
    t->slot->alive = true;
    t->slot->at = s->at;
    slot_set(slot, s);
    list_init(&t->ready);
    list_init(&t->all);
    list_append(&w->tracked, &t->all);
    s->user = t;
    return 0;
}

static void world_changed(void *user, struct source *s)
{
    (void)user;
    slot_set(((struct tracked *)s->user)->slot, s);
}

static struct cursor world_settled(void *user, struct source *s)
{
    (void)user;
    return s->at;
}

static void world_moved(void *user, struct source *s)
{
    (void)user;
    ((struct tracked *)s->user)->slot->at = s->at;
}

static bool world_is_settled(void *user, struct source *s)
{
    (void)user;
    (void)s;
    return true;
}

static void tracked_free(struct tracked *t)
{
    list_remove(&t->all);
    list_remove(&t->ready);
    free(t);
}

static void slot_free(struct slot *slot)
{
    free(slot->path);
    *slot = (struct slot){0};
}

static void world_left(void *user, struct source *s)
{
    struct tracked *t = s->user;

    (void)user;
    slot_free(t->slot);
    tracked_free(t);
    s->user = NULL;
}

static void world_lost(void *user, void *slot)
{
    (void)user;
    slot_free(slot);
}

static void *world_rest(void *user, struct source *s)
{
    struct tracked *t = s->user;
    struct slot *slot = t->slot;

    (void)user;
    if (!list_is_empty(&t->ready))
        return NULL;
    tracked_free(t);
    s->user = NULL;
    return slot;
}

static bool world_rescue(void *user, bool much)
{
    (void)user;
    (void)much;
    return false; /* there is nowhere to bring it */
}

static void world_recall(void *user, void *slot, struct source_id *ret_id, struct cursor *ret_at)
{
    (void)user;
    *ret_id = ((struct slot *)slot)->id;
    *ret_at = ((struct slot *)slot)->at;
}

/* --- life --- */

/* Goes as an ordinary user, who cannot read everything, if the story wants it. */
static void become(uid_t uid)
{
    if (story->nobody && getuid() == 0)
        assert_int_equal(seteuid(uid), 0);
}

static void world_go(struct world *w)
{
    if (w->follower == NULL)
        return;
    become(65534);
    for (int steps = 0, quiet = 0; quiet < QUIET; steps++) {
        CHECK(steps < STEPS_MAX, "it does not come to rest");
        assert_int_equal(loop_step(w->loop, 0), 0);
        quiet = loop_next_ms(w->loop) <= w->now_ms ? 0 : quiet + 1;
    }
    become(0);
}

static void world_start(struct world *w)
{
    const struct follower_settings settings = {
        .roster = {.flow = "test",
                   .files = (char *const *)(uintptr_t)story->globs,
                   .exclude = (char *const *)(uintptr_t)story->excludes,
                   .file_count = 0,
                   .follow_symlinks = story->links},
        .from_start = story->from_start,
        .known = w->run_before,
        .alive_ns = w->alive_ns,
        .began_ns = INT64_MAX, /* every file of a story is older than its start */
    };
    const struct follower_events events = {world_met,
                                           world_news,
                                           world_changed,
                                           world_is_settled,
                                           world_settled,
                                           world_moved,
                                           world_left,
                                           world_lost,
                                           world_rest,
                                           world_recall,
                                           world_rescue,
                                           w};
    struct follower_settings s = settings;
    char *globs[4], *excludes[2];
    size_t past = 0;

    for (; s.roster.file_count < 4 && story->globs[s.roster.file_count] != NULL;
         s.roster.file_count++)
        assert_true(asprintf(&globs[s.roster.file_count], "%s/%s", w->dir,
                             story->globs[s.roster.file_count]) > 0);
    for (; s.roster.exclude_count < 2 && story->excludes[s.roster.exclude_count] != NULL;
         s.roster.exclude_count++)
        excludes[s.roster.exclude_count] =
            (char *)(uintptr_t)story->excludes[s.roster.exclude_count];
    s.roster.files = globs;
    s.roster.exclude = excludes;

    for (size_t i = 0; i < SLOTS; i++)
        if (w->slots[i].alive)
            w->past[past++] = (struct follower_past){
                .id = w->slots[i].id,
                .at = w->slots[i].at,
                .path = slice_of(strdup(w->slots[i].path)),
                .slot = &w->slots[i],
            };
    assert_int_equal(follower_new(w->loop, w->watch, w->digest, &w->descriptors, &s, &events,
                                  w->past, past, &w->follower),
                     0);
    become(65534);
    follower_start(w->follower);
    become(0);
    for (size_t i = 0; i < s.roster.file_count; i++)
        free(globs[i]);
    w->run_before = true;
    world_go(w);
}

static void world_stop(struct world *w)
{
    struct timespec t;

    if (w->follower == NULL)
        return;
    follower_free(w->follower);
    w->follower = NULL;
    while (!list_is_empty(&w->tracked))
        tracked_free(CONTAINER_OF(w->tracked.next, struct tracked, all));
    loop_turn_cancel(&w->turn);
    for (size_t i = 0; i < SLOTS; i++) {
        free((char *)(uintptr_t)w->past[i].path.ptr);
        w->past[i] = (struct follower_past){0};
    }
    CHECK(w->descriptors.count == 0, "%zu descriptors are left", w->descriptors.count);
    CHECK(list_is_empty(&w->descriptors.opened), "descriptors are left in the list");
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &t); /* which births are taken from */
    w->alive_ns = (int64_t)t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void world_init(struct world *w, const char *dir)
{
    *w = (struct world){.clock = {fake_mono, fake_wall}, .now_ms = 1000000, .dir = dir};
    list_init(&w->descriptors.opened);
    w->descriptors.limit = story->limit > 0 ? story->limit : 1000;
    list_init(&w->ready);
    list_init(&w->tracked);
    loop_turn_init(&w->turn, world_turn);
    buf_init(&w->read, 1 << 20);
    assert_int_equal(loop_new(&w->clock, &w->loop), 0);
    assert_int_equal(watch_new(w->loop, &w->watch), 0);
    assert_int_equal(digest_new(&w->digest), 0);
    assert_int_equal(reader_init(&w->reader, w->digest, LINE_MAX_SMALL), 0);
}

static void world_done(struct world *w)
{
    world_stop(w);
    for (size_t i = 0; i < SLOTS; i++)
        slot_free(&w->slots[i]);
    for (size_t i = 0; i < WRITERS; i++)
        if (w->writers[i].name[0] != '\0')
            close(w->writers[i].fd);
    reader_done(&w->reader);
    digest_free(w->digest);
    watch_free(w->watch);
    loop_free(w->loop);
    buf_done(&w->read);
}

/* --- the commands --- */

static void append(const char *path, const char *text, bool newline)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    CHECK(fd >= 0, "%s: %s", path, strerror(errno));
    assert_int_equal(dprintf(fd, newline ? "%s\n" : "%s", text) > 0, 1);
    close(fd);
}

static void copy(const char *from, const char *to)
{
    char block[4096];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ssize_t n;

    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, block, sizeof block)) > 0)
        assert_int_equal(write(out, block, (size_t)n), n);
    close(in);
    close(out);
}

/* Lines so long that the whole is more than one read; only their beginning is remembered. */
static void fill(const char *path, const char *name, int count)
{
    char line[800];

    for (int i = 1; i <= count; i++) {
        int n = snprintf(line, sizeof line, "%s%d", name, i);
        memset(line + n, '.', sizeof line - 1 - (size_t)n);
        line[sizeof line - 1] = '\0';
        append(path, line, true);
    }
}

/* Two files in turn, for equal events merge. */
static void flood(const char *dir)
{
    char path[PATH_MAX];
    long limit = 0;
    int fd[2];
    FILE *f = fopen("/proc/sys/fs/inotify/max_queued_events", "re");

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld", &limit), 1);
    fclose(f);
    assert_true(limit < 1000000);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/flood%d", dir, i);
        fd[i] = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        assert_true(fd[i] >= 0);
    }
    for (long i = 0; i < limit + 10; i++)
        assert_int_equal(pwrite(fd[i % 2], "x", 1, 0), 1);
    close(fd[0]);
    close(fd[1]);
}

static int writer_fd(struct world *w, const char *name, const char *path)
{
    for (size_t i = 0; i < WRITERS; i++) {
        if (strcmp(w->writers[i].name, name) == 0 && path == NULL)
            return w->writers[i].fd;
        if (w->writers[i].name[0] != '\0' || path == NULL)
            continue;
        (void)snprintf(w->writers[i].name, sizeof w->writers[i].name, "%s", name);
        w->writers[i].fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        assert_true(w->writers[i].fd >= 0);
        return w->writers[i].fd;
    }
    fail_msg("%s: no such writer", name);
    return -1;
}

static int compare_words(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_words(char *text)
{
    char *words[1024], *rest = NULL, copy_of[64 * 1024];
    size_t count = 0;

    assert_true(strlen(text) < sizeof copy_of);
    strcpy(copy_of, text);
    for (char *w = strtok_r(copy_of, " ", &rest); w != NULL; w = strtok_r(NULL, " ", &rest)) {
        assert_true(count < ARRAY_LEN(words));
        words[count++] = w;
    }
    qsort(words, count, sizeof words[0], compare_words);
    *text = '\0';
    for (size_t i = 0; i < count; i++) {
        strcat(text, words[i]);
        strcat(text, " ");
    }
}

/* What was read; long lines' dots do not count. */
static void expect(struct world *w, const char *want, bool ordered)
{
    char got[64 * 1024], wanted[64 * 1024];
    size_t n = 0;

    for (size_t i = 0; i < w->read.len && n < sizeof got - 1; i++)
        if (w->read.ptr[i] != '.')
            got[n++] = w->read.ptr[i];
    got[n] = '\0';
    (void)snprintf(wanted, sizeof wanted, "%s%s", want, want[0] != '\0' ? " " : "");
    if (!ordered) {
        sort_words(got);
        sort_words(wanted);
    }
    CHECK(strcmp(got, wanted) == 0, "\n  read     '%s'\n  expected '%s'", got, wanted);
    buf_reset(&w->read);
}

static bool is_command(struct slice line, const char *command, const char **ret_rest)
{
    size_t len = strlen(command);

    if (line.len < len || memcmp(line.ptr, command, len) != 0 ||
        (line.len > len && line.ptr[len] != ' '))
        return false;
    *ret_rest = line.ptr + MIN(len + 1, line.len);
    return true;
}

static void obey(struct world *w, struct slice command)
{
    char line[8192], a[256] = "", b[4096] = "", pa[PATH_MAX], pb[PATH_MAX];
    struct slice text;
    const char *rest;
    int r = 0;

    (void)snprintf(line, sizeof line, "%.*s", SLICE_ARG(command));
    text = slice_of(line);
    if (is_command(text, "=", &rest) || is_command(text, "?", &rest)) {
        world_go(w);
        expect(w, rest, line[0] == '=');
        return;
    }
    (void)sscanf(line, "%*s %255s %4095[^\n]", a, b);
    (void)snprintf(pa, sizeof pa, "%s/%s", w->dir, a);
    (void)snprintf(pb, sizeof pb, "%s/%s", w->dir, b);
    if (is_command(text, "+", &rest))
        append(pa, b, true);
    else if (is_command(text, "~", &rest))
        append(pa, b, false);
    else if (is_command(text, "fill", &rest))
        fill(pa, a, atoi(b));
    else if (is_command(text, "open", &rest))
        (void)writer_fd(w, a, pa);
    else if (is_command(text, "w", &rest))
        r = dprintf(writer_fd(w, a, NULL), "%s\n", b) < 0;
    else if (is_command(text, "mv", &rest))
        r = rename(pa, pb);
    else if (is_command(text, "cp", &rest))
        copy(pa, pb);
    else if (is_command(text, "ln", &rest))
        r = link(pa, pb);
    else if (is_command(text, "sym", &rest))
        r = symlink(a, pb);
    else if (is_command(text, "rm", &rest))
        r = unlink(pa);
    else if (is_command(text, "mkdir", &rest))
        r = mkdir(pa, 0755);
    else if (is_command(text, "rmdir", &rest))
        r = rmdir(pa);
    else if (is_command(text, "trunc", &rest))
        r = truncate(pa, atoi(b));
    else if (is_command(text, "fifo", &rest))
        r = mkfifo(pa, 0644);
    else if (is_command(text, "chmod", &rest))
        r = chmod(pb, (mode_t)strtol(a, NULL, 8));
    else if (is_command(text, "flood", &rest))
        flood(w->dir);
    else if (is_command(text, "sec", &rest))
        for (int i = 0; i < atoi(a); i++) {
            w->now_ms += 1000;
            world_go(w);
        }
    else if (is_command(text, "stall", &rest))
        later_s += atoi(a);
    else if (is_command(text, "look", &rest)) {
        assert_true(w->meanwhile_count < LOOKS && strlen(rest) < LOOK_MAX);
        strcpy(w->meanwhile[w->meanwhile_count++], rest);
    } else if (is_command(text, "pause", &rest))
        w->paused = true;
    else if (is_command(text, "resume", &rest)) {
        w->paused = false;
        loop_want_turn(w->loop, &w->turn);
    } else if (is_command(text, "stop", &rest))
        world_stop(w);
    else if (is_command(text, "start", &rest))
        world_start(w);
    else if (is_command(text, "files", &rest)) {
        world_go(w);
        CHECK(follower_count(w->follower) == (size_t)atoi(a), "%zu files, not %s",
              follower_count(w->follower), a);
    } else if (is_command(text, "go", &rest))
        world_go(w);
    else
        fail_msg("%s: no such command", line);
    CHECK(r == 0, "%s: %s", line, strerror(errno));
    if (way->eager && !w->looking)
        world_go(w);
}

static void meanwhile(struct world *w)
{
    size_t count = w->meanwhile_count;

    w->meanwhile_count = 0;
    w->looking = true;
    for (size_t i = 0; i < count; i++)
        obey(w, slice_of(w->meanwhile[i]));
    w->looking = false;
}

static void tell(const struct story *s, const struct way *in)
{
    char dir[] = "/tmp/kinetail-follower-XXXXXX", clean[64];
    struct slice script = slice_of(s->script), line;
    struct world *w = malloc(sizeof *w);

    story = s;
    way = in;
    assert_non_null(w);
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0755), 0);
    world_init(w, dir);
    told_in = w;
    while (split_next(&script, &line))
        obey(w, line);
    assert_int_equal(script.len, 0);
    world_go(w);
    told_in = NULL;
    later_s = 0;
    CHECK(w->meanwhile_count == 0, "nobody looked");
    CHECK(w->read.len == 0, "at the end, unexpected: '%.*s'", SLICE_ARG(buf_slice(&w->read)));
    CHECK(w->most_open <= w->descriptors.limit + s->held + 2, "%zu descriptors", w->most_open);
    world_done(w);
    free(w);
    (void)snprintf(clean, sizeof clean, "rm -rf %s", dir);
    assert_int_equal(system(clean), 0);
}

/* --- the stories --- */

#define LOGS .globs = {"*.log"}
#define TREE .globs = {"**/*.log"}
#define ONE  .globs = {"a.log"}

static const struct story following[] = {
    {"a new file", "start\n+ a.log 1\n+ a.log 2\n= 1 2\n+ a.log 3\n= 3\n", LOGS},
    {"several", "start\n+ a.log 1\n= 1\n+ b.log 2\n= 2\n+ a.log 3\n= 3\nfiles 2\n", LOGS},
    {"half a line waits", "start\n~ a.log ha\n=\n~ a.log lf\n=\n+ a.log .\n= half\n", LOGS},
    {"not meant", "start\n+ a.txt 1\n+ .b.log 2\n=\nfiles 0\n", LOGS},
    {"excluded", "start\n+ a.log 1\n+ b.log 2\n= 1\nfiles 1\n", LOGS, .excludes = {"b*"}},
    {"comes by another name", "start\n+ a.tmp 1\n=\nmv a.tmp a.log\n= 1\n", LOGS},
    {"in new directories",
     "start\nmkdir x\n+ x/a.log 1\n= 1\nmkdir x/y\nmkdir x/y/z\n"
     "+ x/y/z/b.log 2\n= 2\n+ x/y/c.log 3\n= 3\n",
     TREE},
    {"a tree moved in",
     "mkdir x.tmp\nstart\nmkdir .t\nmkdir .t/y\n+ .t/y/a.log 1\n=\nmv .t t\n= 1\n"
     "+ t/y/a.log 2\n= 2\n",
     TREE},
    {"rotated after it was listed",
     "start\nlook mv x/a.log x/a.log.1\nlook + x/a.log 2\nmkdir x\n+ x/a.log 1\n= 1 2\n"
     "+ x/a.log 3\n= 3\n",
     TREE},
    {"rotated after it was listed, and nothing comes after it",
     "start\nlook mv x/a.log x/a.log.1\nmkdir x\n+ x/a.log 1\n= 1\n", TREE},
    {"rotated twice after it was listed",
     "start\nlook mv x/a.log x/a.log.2\nlook + x/a.log 2\nlook mv x/a.log x/a.log.1\n"
     "look + x/a.log 3\nmkdir x\n+ x/a.log 1\n= 1 2 3\n",
     TREE},
    {"a directory removed and made again, and rotated at once",
     "start\nmkdir x\n=\nrmdir x\nmkdir x\n+ x/a.log 1\nmv x/a.log x/a.log.1\n= 1\n", TREE},
    {"a long line", "start\nfill a.log 3\n= alog1 alog2 alog3\n", .globs = {"a*"}},
};

static const struct story names[] = {
    {"renamed within the glob",
     "start\n+ a.log 1\n= 1\nopen a.log\nmv a.log b.log\nw a.log 2\n= 2\n"
     "files 1\n",
     LOGS},
    {"renamed out of it, the writer goes on",
     "start\n+ a.log 1\n= 1\nopen a.log\nmv a.log a.log.1\nw a.log 2\n= 2\n+ a.log 3\nw a.log 4\n"
     "? 3 4\nfiles 2\n",
     ONE},
    {"a backup takes the log's place, which is closed and has more",
     "start\n+ a.log 1\n+ a.log 2\n= 1 2\ncp a.log a.log.1\n=\n+ b.log 3\n= 3\n"
     "+ c.log 4\n= 4\n+ a.log lost\nmv a.log.1 a.log\n+ a.log 5\n= 5\n",
     .globs = {"a.log*", "b.log", "c.log"}, .limit = 1, .only_lazy = true},
    {"renamed, and back",
     "start\n+ a.log 1\n= 1\nmv a.log b\n=\nmv b a.log\n+ a.log 2\n= 2\nfiles 1\n", LOGS},
    {"renamed, and elsewhere in the glob",
     "start\n+ a.log 1\n= 1\nmv a.log b\n=\nmv b c.log\n"
     "+ c.log 2\n= 2\nfiles 1\n",
     LOGS},
    {"two change names",
     "start\n+ a.log 1\n+ b.log 2\n? 1 2\nmv a.log t\nmv b.log a.log\n"
     "mv t b.log\n+ a.log 3\n+ b.log 4\n? 3 4\nfiles 2\n",
     LOGS},
    {"rotated, unread rest first",
     "start\n+ a.log 1\n= 1\n+ a.log 2\nmv a.log a.log.1\n+ a.log 3\n"
     "= 2 3\n",
     ONE},
    {"rotated unseen, a minute ago",
     "start\n+ a.log 1\nmv a.log a.log.1\n+ a.log 2\nstall 60\n= 1 2\n", ONE},
    {"rotated unseen, a minute ago, and nothing comes after it",
     "start\n+ b.log 1\n= 1\n+ a.log 2\nmv a.log a.log.1\nstall 60\n= 2\n",
     .globs = {"a.log", "b.log"}},
    {"rotated unseen while it is empty, and written to after that",
     "start\nopen a.log\nmv a.log a.log.1\ngo\nw a.log 1\n= 1\n", ONE},
    {"rotated unseen while it is empty, with another behind it",
     "start\nopen a.log\nmv a.log a.log.1\n+ a.log 2\n= 2\nw a.log 1\n= 1\n", ONE},
    {"rotated three times unseen",
     "start\n+ a.log 1\n= 1\n+ a.log 2\nmv a.log a.log.1\n+ a.log 3\nmv a.log.1 a.log.2\n"
     "mv a.log a.log.1\n+ a.log 4\nmv a.log.2 a.log.3\nmv a.log.1 a.log.2\nmv a.log a.log.1\n"
     "+ a.log 5\n= 2 3 4 5\n",
     ONE},
    {"rotated away, ends after the grace time",
     "start\n~ a.log ha\n=\nmv a.log a.log.1\n=\nsec 58\n=\nsec 5\n= ha…\nsec 3\nfiles 0\n", ONE},
    {"deleted while open, read on",
     "start\n+ a.log 1\n= 1\nopen a.log\nrm a.log\nw a.log 2\n= 2\n"
     "sec 10\nfiles 1\nw a.log 3\n= 3\nsec 10\nfiles 1\nsec 10\n"
     "files 0\n",
     ONE},
    {"deleted and made anew at once", "start\n+ a.log 1\n= 1\nrm a.log\n+ a.log 2\n= 2\n", ONE},
    {"… again and again",
     "start\n+ a.log 1\n= 1\nrm a.log\n+ a.log 2\n= 2\nrm a.log\n+ a.log 3\n= 3\n"
     "sec 40\n=\nfiles 1\nrm a.log\n+ a.log 4\n= 4\n",
     ONE},
    {"unread, deleted and made anew",
     "start\n+ a.log 1\n= 1\n+ a.log 2\nrm a.log\n+ a.log 3\n= 2 3\n", ONE},
    {"hard links are read once",
     "start\n+ a.log 1\n= 1\nln a.log b.log\n+ a.log 2\n= 2\nrm a.log\n"
     "+ b.log 3\n= 3\nfiles 1\nrm b.log\nsec 30\nfiles 0\n",
     LOGS},
    {"a hard link elsewhere", "mkdir x\nstart\n+ x/a 1\nln x/a a.log\n= 1\n", LOGS},
    {"symbolic links are not followed", "+ a 1\nsym a a.log\nstart\n=\nfiles 0\n", LOGS,
     .from_start = true},
    {"symbolic links are followed", "+ a 1\nsym a a.log\nstart\n= 1\n+ a 2\n= 2\n", LOGS,
     .from_start = true, .links = true},
    {"a link to a file elsewhere", "mkdir x\n+ x/a 1\nsym x/a a.log\nstart\n= 1\n+ x/a 2\n= 2\n",
     LOGS, .from_start = true, .links = true},
    {"a link that leads elsewhere",
     "+ a 1\n+ b 2\nsym a a.log\nstart\n= 1\nsym b t\n"
     "mv t a.log\n= 2\n+ b 3\n= 3\n",
     LOGS, .from_start = true, .links = true},
    {"two names, one by a link",
     "+ a.log 1\nsym a.log b.log\nstart\n= 1\n+ a.log 2\n= 2\nfiles 1\n", LOGS, .from_start = true,
     .links = true},
    {"a directory and a fifo are left alone",
     "mkdir a.log\nfifo b.log\nstart\n+ c.log 1\n= 1\n"
     "files 1\nrmdir a.log\n+ a.log 2\n= 2\nrm b.log\n"
     "+ b.log 3\n= 3\n",
     LOGS},
    {"a fifo that appears", "start\nfifo a.log\n=\nmkdir b.log\n=\nfiles 0\n", LOGS},
    {"the queue overflows",
     "start\n+ a.log 1\n= 1\nflood\n+ a.log 2\n+ b.log 3\n"
     "? 2 3\n+ b.log 4\n= 4\n",
     LOGS},
    {"the queue overflows, and a directory appears",
     "start\n+ a.log 1\n= 1\nflood\nmkdir x\n+ x/a.log 2\nrm a.log\n+ a.log 3\n? 2 3\n"
     "+ x/a.log 4\n= 4\n",
     TREE},
    {"unreadable, then not",
     "start\n+ a.log 1\n= 1\n+ t 2\nchmod 000 t\nmv t b.log\n=\nchmod 644 b.log\n"
     "= 2\n+ b.log 3\n= 3\n",
     LOGS, .nobody = true},
    {"closed, unreadable, then not",
     "start\n+ a.log 1\n+ b.log 2\n+ c.log 3\n+ d.log 4\n? 1 2 3 4\nchmod 000 a.log\nchmod 000 "
     "b.log\n"
     "chmod 000 c.log\nchmod 000 d.log\n+ a.log 5\n+ b.log 6\n+ c.log 7\n+ d.log 8\ngo\n"
     "chmod 644 a.log\nchmod 644 b.log\nchmod 644 c.log\nchmod 644 d.log\n? 5 6 7 8\n",
     LOGS, .nobody = true, .limit = 1},
};

static const struct story links[] = {
    {"two of three names go, then it is truncated",
     "start\n+ a.log 1\n+ a.log 1\n= 1 1\nln a.log b.log\ngo\nln a.log c.log\ngo\nrm a.log\ngo\n"
     "rm c.log\ngo\n+ b.log 2\n= 2\ntrunc b.log 0\ngo\n+ b.log 3\n= 3\n",
     LOGS},
    {"three names, truncated, and gone",
     "start\n+ a.log 1\n+ a.log 1\n= 1 1\nln a.log b.log\ngo\nln a.log c.log\ngo\ntrunc a.log "
     "0\ngo\n"
     "+ a.log 3\n= 3\nsec 90\n+ b.log 4\n= 4\nrm b.log\nsec 1\nrm a.log\nrm c.log\nsec 90\nfiles "
     "0\n",
     LOGS},
    {"three names, all go",
     "start\n+ a.log 1\n= 1\nln a.log b.log\ngo\nln a.log c.log\ngo\nrm b.log\n"
     "go\nrm a.log\n+ c.log 2\n= 2\nrm c.log\nsec 90\nfiles 0\n",
     LOGS},
};

static const struct story truncations[] = {
    {"to nothing", "start\n+ a.log 1\n= 1\ntrunc a.log 0\n=\n+ a.log 2\n= 2\n", ONE},
    {"and written at once", "start\n+ a.log 1\n+ a.log 2\n= 1 2\ntrunc a.log 0\n+ a.log 3\n= 3\n",
     ONE},
    {"and refilled to the same size", "start\n+ a.log 1\n= 1\ntrunc a.log 0\n+ a.log 2\n= 2\n",
     ONE},
    {"and refilled beyond", "start\n+ a.log 1\n= 1\ntrunc a.log 0\n+ a.log 2\n+ a.log 3\n= 2 3\n",
     ONE},
    {"to the middle", "start\n+ a.log 1\n+ a.log 2\n= 1 2\ntrunc a.log 2\n= 1\n", ONE},
    {"copytruncate, all was read",
     "start\n+ a.log 1\n= 1\ncp a.log a.log.1\ntrunc a.log 0\n"
     "+ a.log 2\n= 2\n",
     ONE},
    {"copytruncate, the rest comes from the copy",
     "start\n+ a.log 1\n= 1\nstop\n+ a.log 2\n+ a.log 3\ncp a.log a.log.1\ntrunc a.log 0\n+ a.log "
     "4\n"
     "start\n= 2 3 4\n",
     ONE},
    {"twice copied, then removed",
     "start\n+ a.log 1\n= 1\ncp a.log a.log.1\ntrunc a.log 0\n+ a.log 2\n"
     "= 2\nmv a.log.1 a.log.2\ncp a.log a.log.1\ntrunc a.log 0\n"
     "+ a.log 3\n= 3\nrm a.log.2\nrm a.log.1\nsec 90\n=\nfiles 1\n",
     ONE},
    {"of a renamed file", "start\n+ a.log 1\n= 1\nmv a.log b\n=\ntrunc b 0\n+ b 2\n= 2\n", ONE},
    {"copytruncate with an unread rest",
     "start\n+ a.log 1\n= 1\n+ a.log 2\n+ a.log 3\ncp a.log a.log.1\ntrunc a.log 0\n+ a.log 4\n"
     "= 2 3 4\nsec 90\n=\nfiles 1\n",
     ONE, .only_lazy = true},
    {"… longer than one read",
     "start\n+ a.log 1\n= 1\nfill a.log 3\ncp a.log a.log.1\ntrunc a.log 0\n"
     "+ a.log 4\n= alog1 alog2 alog3 4\n",
     ONE, .only_lazy = true},
};

static const struct story directories[] = {
    {"renamed", "mkdir x\n+ x/a.log 1\nstart\n= 1\nmv x y\n+ y/a.log 2\n= 2\nfiles 1\n", TREE,
     .from_start = true},
    {"renamed out of sight",
     "mkdir x\nstart\n+ x/a.log 1\n= 1\nopen x/a.log\nmv x .y\nw x/a.log 2\n= 2\n", TREE},
    {"removed", "mkdir x\nstart\n+ x/a.log 1\n= 1\nrm x/a.log\nrmdir x\nsec 90\nfiles 0\n", TREE},
    {"removed and made anew",
     "mkdir x\nstart\n+ x/a.log 1\n= 1\nrm x/a.log\nrmdir x\nmkdir x\n"
     "+ x/a.log 2\n= 2\n+ x/b.log 3\n= 3\nfiles 3\n",
     TREE},
    {"removed and made anew, empty for a while",
     "mkdir x\nstart\n+ x/a.log 1\n= 1\nrm x/a.log\nrmdir x\nmkdir x\ngo\n+ x/b.log 3\n= 3\n",
     TREE},
    {"removed while it is empty, and made anew", /* with the same inode, on ext4 */
     "mkdir x\nstart\n=\nrmdir x\nmkdir x\ngo\n+ x/a.log 1\n= 1\nfiles 1\n", TREE},
    {"… with what is in it",
     "mkdir x\nmkdir x/y\nstart\n=\nrmdir x/y\nrmdir x\nmkdir x\nmkdir x/y\n"
     "+ x/y/a.log 1\n= 1\n+ x/b.log 2\n= 2\nfiles 2\n",
     TREE},
    {"moved away and made anew",
     "mkdir x\nstart\n+ x/a.log 1\n= 1\nmv x .x\nmkdir x\n+ x/a.log 2\n= 2\n", TREE},
    {"written as it is, made later",
     "start\nmkdir x\nmkdir x/y\n+ x/y/a.log 1\n= 1\nrm x/y/a.log\n"
     "rmdir x/y\nrmdir x\nmkdir x\nmkdir x/y\n+ x/y/a.log 2\n= 2\n",
     .globs = {"x/y/a.log"}},
    {"by a link, if written so", "mkdir t\n+ t/a.log 1\nsym t x\nstart\n=\nfiles 0\n",
     .globs = {"x/*.log"}, .from_start = true},
    {"by a link that is written and may be",
     "mkdir t\n+ t/a.log 1\nsym t x\nstart\n= 1\n+ t/a.log 2\n= 2\n", .globs = {"x/*.log"},
     .from_start = true, .links = true},
    {"by a link, if only meant", "mkdir .t\n+ .t/a.log 1\nsym .t x\nstart\n=\nfiles 0\n",
     .globs = {"*/*.log"}, .from_start = true},
    {"by a link that may be followed", "mkdir .t\n+ .t/a.log 1\nsym .t x\nstart\n= 1\n",
     .globs = {"*/*.log"}, .from_start = true, .links = true},
    {"a loop of links", "mkdir x\nsym . x/y\n+ x/a.log 1\nstart\n= 1\nfiles 1\n", TREE,
     .from_start = true, .links = true},
};

static const struct story restarts[] = {
    {"nothing happened", "start\n+ a.log 1\n= 1\nstop\nstart\n=\n+ a.log 2\n= 2\nfiles 1\n", LOGS},
    {"more was written", "start\n+ a.log 1\n= 1\nstop\n+ a.log 2\nstart\n= 2\n", LOGS},
    {"half a line was there", "start\n+ a.log 1\n~ a.log 2\n= 1\nstop\n+ a.log .\nstart\n= 2\n",
     LOGS},
    {"a file is new", "start\n+ a.log 1\n= 1\nstop\n+ b.log 2\nstart\n= 2\n", LOGS},
    {"renamed within",
     "start\n+ a.log 1\n= 1\nstop\n+ a.log 2\nmv a.log b.log\nstart\n= 2\nfiles 1\n", LOGS},
    {"renamed to a generation",
     "start\n+ a.log 1\n= 1\nstop\n+ a.log 2\nmv a.log a.log.1\n+ a.log 3\n"
     "start\n= 2 3\n",
     ONE},
    {"rotated three times",
     "start\n+ a.log 1\n= 1\nstop\n+ a.log 2\nmv a.log a.log.3\n+ a.log 3\n"
     "mv a.log a.log.2\n+ a.log 4\nmv a.log a.log.1\n+ a.log 5\nstart\n"
     "= 2 3 4 5\n",
     ONE},
    {"rotated three times, nothing new behind the name",
     "start\n+ a.log 1\n= 1\nstop\n+ a.log 2\nmv a.log a.log.3\n+ a.log 3\nmv a.log a.log.2\n"
     "+ a.log 4\nmv a.log a.log.1\nstart\n= 2 3 4\n",
     ONE},
    {"rotated, all names meant",
     "start\n+ a.log 1\n= 1\nstop\n+ a.log 2\nmv a.log a.log.1\n+ a.log 3\n"
     "start\n? 2 3\nfiles 2\n",
     .globs = {"a.log*"}},
    {"deleted", "start\n+ a.log 1\n= 1\nstop\nrm a.log\nstart\n=\nfiles 0\n+ a.log 2\n= 2\n", LOGS},
    {"deleted and made anew", "start\n+ a.log 1\n= 1\nstop\nrm a.log\n+ a.log 2\nstart\n= 2\n",
     LOGS},
    {"truncated", "start\n+ a.log 1\n= 1\nstop\ntrunc a.log 0\nstart\n=\n+ a.log 2\n= 2\n", LOGS},
    {"truncated and refilled beyond",
     "start\n+ a.log 1\n= 1\nstop\ntrunc a.log 0\n+ a.log 2\n+ a.log 3\n"
     "start\n= 2 3\n",
     LOGS},
    {"was empty", "start\n~ a.log x\n=\ntrunc a.log 0\n=\nstop\n+ a.log 1\nstart\n= 1\n", LOGS},
    {"a copy took its place",
     "start\n+ a.log 1\n+ a.log 2\n= 1 2\nstop\n+ a.log 3\ncp a.log t\nmv t a.log\nstart\n"
     "= 3\nfiles 1\n",
     LOGS},
    {"a renamed file not read to its end yet",
     "start\n+ a.log 1\n= 1\n~ a.log x\nmv a.log a.log.1\n=\n+ a.log 2\n= 2\nstop\n+ a.log.1 y\n+ "
     "a.log 3\n"
     "start\n= xy 3\n",
     ONE},
    {"twice",
     "start\n+ a.log 1\n= 1\nstop\n+ a.log 2\nstart\n= 2\nstop\nmv a.log a.log.1\n+ a.log.1 3\n"
     "+ a.log 4\nstart\n= 3 4\nstop\n+ a.log 5\nstart\n= 5\n",
     ONE},
};

static const struct story beginnings[] = {
    {"at the end", "+ a.log 1\n~ a.log 2\nstart\n=\n+ a.log .\n+ a.log 3\n= 2 3\n", LOGS},
    {"at the end, one that is new at its start", "+ a.log 1\nstart\n=\n+ b.log 2\n= 2\n", LOGS},
    {"at the start", "+ a.log 1\n~ a.log 2\nstart\n= 1\n+ a.log .\n= 2\n", LOGS,
     .from_start = true},
    {"at the start, rotated after it was listed",
     "+ a.log 1\nstall 9\nlook mv a.log a.log.1\nlook + a.log 2\nstart\n= 1 2\n+ a.log 3\n= 3\n",
     LOGS, .from_start = true},
    {"at the start, rotated after it was listed, and nothing comes after it",
     "+ a.log 1\nstall 9\nlook mv a.log a.log.1\nstart\n= 1\n", LOGS, .from_start = true},
    {"made while it was stopped, rotated after it was listed",
     "start\nstop\n+ a.log 1\nstall 9\nlook mv a.log a.log.1\nlook + a.log 2\nstart\n= 1 2\n",
     LOGS},
    {"known, rotated after it was listed",
     "start\n+ a.log 1\n= 1\nstop\n+ a.log 2\nlook mv a.log a.log.1\nlook + a.log 3\nstart\n"
     "= 2 3\n",
     LOGS},
    {"at the end, rotated after it was listed",
     "+ a.log 1\nstall 9\nlook mv a.log a.log.1\nstart\n=\n+ a.log.1 2\n= 2\n", LOGS},
    {"at the end, unreadable",
     "+ a.log 1\nchmod 000 a.log\nstart\n=\n+ a.log 2\nchmod 644 a.log\n= 2\n", LOGS,
     .nobody = true},
};

/* Each is a test of its own, so that one that fails does not hide the others. */
static void test_story(void **state)
{
    const struct story *s = *state;

    for (size_t k = 0; k < ARRAY_LEN(ways); k++)
        if (!(ways[k].eager && s->only_lazy))
            tell(s, &ways[k]);
}

/* --- what is too long for a script --- */

static void append_words(struct buf *to, const char *name, int count)
{
    for (int i = 1; i <= count; i++)
        assert_int_equal(buf_printf(to, "%s%s%d", i > 1 ? " " : "", name, i), 0);
}

/* A rest that takes several reads is still read before what took over the name. */
static void test_long_rest(void **state)
{
    static const char *const befores[] = {
        "start\n+ q.log 1\n= 1\nfill q.log 500\nmv q.log q.log.1\n+ q.log x\n",
        "start\n+ q.log 1\n= 1\nfill q.log 500\ncp q.log q.log.1\ntrunc q.log 0\n+ q.log x\n",
        "start\n+ q.log 1\n= 1\nstop\nfill q.log 500\nmv q.log q.log.1\n+ q.log x\nstart\n",
        "start\n+ q.log 1\n= 1\nfill q.log 500\nrm q.log\n+ q.log x\n",
        "start\n+ q.log 1\n= 1\npause\nfill q.log 500\nmv q.log q.log.1\n+ q.log x\ngo\nresume\n",
        "start\n+ q.log 1\n= 1\npause\nfill q.log 500\nrm q.log\ngo\n+ q.log x\ngo\nresume\n",
    };
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(befores); i++) {
        struct story s = {"a long rest", NULL, .globs = {"q.log"}};

        buf_reset(&text);
        assert_int_equal(buf_printf(&text, "%s= ", befores[i]), 0);
        append_words(&text, "qlog", 500);
        assert_int_equal(buf_printf(&text, " x\n"), 0);
        assert_int_equal(buf_append_char(&text, '\0'), 0);
        s.script = text.ptr;
        tell(&s, &ways[0]);
    }
    buf_done(&text);
}

/* Fifty files, four descriptors. */
static void test_descriptors(void **state)
{
    static const char *const befores[] = {"start\n", ""};
    struct buf text;

    (void)state;
    buf_init(&text, 1 << 20);
    for (size_t i = 0; i < ARRAY_LEN(befores); i++)
        for (size_t k = 0; k < ARRAY_LEN(ways); k++) {
            struct story s = {"fifty files, four descriptors",
                              NULL,
                              LOGS,
                              .limit = 4,
                              .held = 20,
                              .from_start = true};

            buf_reset(&text);
            assert_int_equal(buf_printf(&text, "%s", befores[i]), 0);
            for (int round = 0; round < 3; round++) {
                for (int n = 0; n < 50; n++)
                    assert_int_equal(buf_printf(&text, "+ f%d.log %d-%d\n", n, round, n), 0);
                if (round == 0 && i == 1)
                    assert_int_equal(buf_printf(&text, "start\n"), 0);
                assert_int_equal(buf_printf(&text, "?"), 0);
                for (int n = 0; n < 50; n++)
                    assert_int_equal(buf_printf(&text, " %d-%d", round, n), 0);
                assert_int_equal(buf_printf(&text, "\n"), 0);
            }
            /* Renamed while they are closed, and written to: found again in their directory. */
            for (int n = 0; n < 20; n++)
                assert_int_equal(
                    buf_printf(&text, "+ f%d.log last%d\nmv f%d.log old%d\n", n, n, n, n), 0);
            assert_int_equal(buf_printf(&text, "?"), 0);
            for (int n = 0; n < 20; n++)
                assert_int_equal(buf_printf(&text, " last%d", n), 0);
            assert_int_equal(buf_printf(&text, "\n"), 0);
            assert_int_equal(buf_append_char(&text, '\0'), 0);
            s.script = text.ptr;
            tell(&s, &ways[k]);
        }
    buf_done(&text);
}

int main(void)
{
    static const struct {
        const struct story *all;
        size_t count;
    } tables[] = {
        {following, ARRAY_LEN(following)},
        {names, ARRAY_LEN(names)},
        {truncations, ARRAY_LEN(truncations)},
        {directories, ARRAY_LEN(directories)},
        {restarts, ARRAY_LEN(restarts)},
        {beginnings, ARRAY_LEN(beginnings)},
        {links, ARRAY_LEN(links)},
    };
    struct CMUnitTest tests[256] = {
        cmocka_unit_test(test_long_rest),
        cmocka_unit_test(test_descriptors),
    };
    size_t count = 2;

    for (size_t i = 0; i < ARRAY_LEN(tables); i++)
        for (size_t k = 0; k < tables[i].count; k++) {
            assert_true(count < ARRAY_LEN(tests));
            tests[count++] = (struct CMUnitTest){
                .name = tables[i].all[k].name,
                .test_func = test_story,
                .initial_state = (void *)(uintptr_t)&tables[i].all[k],
            };
        }
    umask(022);
    return _cmocka_run_group_tests("follower", tests, count, NULL, NULL);
}
