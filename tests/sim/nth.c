/* nth -- one story told again and again, with another of the agent's calls failing each time.
 *
 *     nth [--way W [--n N]]
 *
 * A kind of call is asking for memory, the disk's calls, or sending; a way is how it fails: with which
 * error, and for how many calls from the n-th on.  For each way the story is told with n = 1, 2, 3 ...
 * until one ends in which the n-th call was not reached.  A start may be refused then, and is tried
 * again a second later, as a service manager would.  The agent must not crash or hang; and in the end
 * each line has arrived, or is with the dead letters if it belongs there, and none is torn.  A line
 * comes twice only after the disk failed, which is what it then may cost.
 *
 * --way and --n tell one story alone; KT_SIM_VERBOSE=1 in the environment shows what the agent says. */

#include "world.h"

#include "buf.h"
#include "disk.h"
#include "keep/dead.h"
#include "must.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    STORY_S = 60, /* a story that takes longer hangs */
    STARTS_MAX = 40,
    LINES_MAX = 1000,
    LINE_MAX_LEN = 64,
    BAD_MAX = 5, /* is enough for a person */
    WORKERS = 3, /* for each way */
};

enum kind { KIND_MEMORY, KIND_DISK, KIND_SEND, KINDS };

static const struct way {
    enum kind kind;
    int error;
    uint64_t times;
    bool half; /* a write is short before it fails */
} ways[] = {
    {KIND_MEMORY, ENOMEM, 1, false}, {KIND_MEMORY, ENOMEM, 20, false},
    {KIND_DISK, EIO, 1, false},      {KIND_DISK, EIO, 5, false},
    {KIND_DISK, ENOSPC, 1, true},    {KIND_DISK, ENOSPC, 5, true},
    {KIND_DISK, EDQUOT, 1, false},   {KIND_DISK, EDQUOT, 5, false},
    {KIND_SEND, EAGAIN, 1, false},   {KIND_SEND, EAGAIN, 5, false},
    {KIND_SEND, ENOMEM, 1, false},   {KIND_SEND, ENOMEM, 5, false},
};

static const char *const kind_names[KINDS] = {"memory", "disk", "send"};

/* What a story came to; shared with the child that tells it. */
struct outcome {
    bool ended, reached;
    uint32_t lost, torn, twice, refused;
    char first[LINE_MAX_LEN];
};

static struct outcome *outcome;

/* --- the call that fails --- */

static struct {
    const struct way *way;
    uint64_t n, seen;
    bool armed; /* the agent runs, not the story */
} failing;

static bool fails(enum kind kind)
{
    if (!failing.armed || failing.way->kind != kind)
        return false;
    failing.seen++;
    if (failing.seen < failing.n || failing.seen >= failing.n + failing.way->times)
        return false;
    outcome->reached = true;
    errno = failing.way->error;
    return true;
}

/* Each of these is called where the agent's code says malloc, and so on: see the Makefile. */
#define WRAP(type, name, parameters, arguments, failed)                                            \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return fails(KIND_MEMORY) ? (failed) : __real_##name arguments;                            \
    }

WRAP(void *, malloc, (size_t n), (n), NULL)
WRAP(void *, calloc, (size_t n, size_t size), (n, size), NULL)
WRAP(void *, realloc, (void *p, size_t n), (p, n), NULL)
WRAP(void *, reallocarray, (void *p, size_t n, size_t size), (p, n, size), NULL)
WRAP(char *, strdup, (const char *s), (s), NULL)
WRAP(char *, strndup, (const char *s, size_t n), (s, n), NULL)
WRAP(void *, mmap, (void *p, size_t len, int prot, int flags, int fd, off_t at),
     (p, len, prot, flags, fd, at), MAP_FAILED)
WRAP(void *, mremap, (void *p, size_t len, size_t to, int flags), (p, len, to, flags), MAP_FAILED)

static int nth_open(const struct disk *d, int dir_fd, const char *name, int flags, mode_t mode)
{
    return fails(KIND_DISK) ? -errno : disk_system.open(d, dir_fd, name, flags, mode);
}

static ssize_t nth_read(const struct disk *d, int fd, void *to, size_t len)
{
    return fails(KIND_DISK) ? -errno : disk_system.read(d, fd, to, len);
}

static ssize_t nth_write(const struct disk *d, int fd, const void *from, size_t len)
{
    /* The call before the one that fails is short: the disk was not quite full yet. */
    if (failing.armed && failing.way->half && failing.seen + 1 == failing.n && len > 1) {
        failing.n++;
        failing.seen++;
        return disk_system.write(d, fd, from, len / 2);
    }
    return fails(KIND_DISK) ? -errno : disk_system.write(d, fd, from, len);
}

static int nth_sync(const struct disk *d, int fd)
{
    return fails(KIND_DISK) ? -errno : disk_system.sync(d, fd);
}

static int nth_sync_dir(const struct disk *d, int fd)
{
    return fails(KIND_DISK) ? -errno : disk_system.sync_dir(d, fd);
}

static int nth_rename(const struct disk *d, int dir_fd, const char *from, const char *to)
{
    return fails(KIND_DISK) ? -errno : disk_system.rename(d, dir_fd, from, to);
}

static int nth_unlink(const struct disk *d, int dir_fd, const char *name)
{
    return fails(KIND_DISK) ? -errno : disk_system.unlink(d, dir_fd, name);
}

/* close(2) closes, whatever it says. */
static int nth_close(const struct disk *d, int fd)
{
    int r = disk_system.close(d, fd);

    return fails(KIND_DISK) ? -errno : r;
}

static ssize_t nth_read_at(const struct disk *d, int fd, void *to, size_t len, uint64_t offset)
{
    return fails(KIND_DISK) ? -errno : disk_system.read_at(d, fd, to, len, offset);
}

static int nth_truncate(const struct disk *d, int fd, uint64_t len)
{
    return fails(KIND_DISK) ? -errno : disk_system.truncate(d, fd, len);
}

static int nth_size(const struct disk *d, int fd, uint64_t *ret)
{
    return fails(KIND_DISK) ? -errno : disk_system.size(d, fd, ret);
}

static int nth_mkdir(const struct disk *d, int dir_fd, const char *name, mode_t mode)
{
    return fails(KIND_DISK) ? -errno : disk_system.mkdir(d, dir_fd, name, mode);
}

static int nth_written(const struct disk *d, int fd, int64_t *ret_ns)
{
    return fails(KIND_DISK) ? -errno : disk_system.written(d, fd, ret_ns);
}

static int nth_set_written(const struct disk *d, int fd, int64_t ns)
{
    return fails(KIND_DISK) ? -errno : disk_system.set_written(d, fd, ns);
}

static int nth_list(const struct disk *d, int dir_fd, int (*each)(void *user, const char *name),
                    void *user)
{
    return fails(KIND_DISK) ? -errno : disk_system.list(d, dir_fd, each, user);
}

static int nth_free_bytes(const struct disk *d, int fd, uint64_t *ret)
{
    return fails(KIND_DISK) ? -errno : disk_system.free_bytes(d, fd, ret);
}

static int nth_allocate(const struct disk *d, int fd, uint64_t len)
{
    return fails(KIND_DISK) ? -errno : disk_system.allocate(d, fd, len);
}

static const struct disk nth_disk = {
    .open = nth_open,
    .read = nth_read,
    .write = nth_write,
    .sync = nth_sync,
    .sync_dir = nth_sync_dir,
    .rename = nth_rename,
    .unlink = nth_unlink,
    .close = nth_close,
    .read_at = nth_read_at,
    .truncate = nth_truncate,
    .size = nth_size,
    .mkdir = nth_mkdir,
    .written = nth_written,
    .set_written = nth_set_written,
    .list = nth_list,
    .free_bytes = nth_free_bytes,
    .allocate = nth_allocate,
};

static int (*sim_send)(struct transport *t, struct http_call *call);

static int nth_send(struct transport *t, struct http_call *call)
{
    return fails(KIND_SEND) ? -errno : sim_send(t, call);
}

/* --- lines --- */

static struct line {
    char text[LINE_MAX_LEN];
    uint32_t arrived;
} lines[LINES_MAX];

static uint32_t line_count;

/* A line says its number, so that it is found again. */
static void arrived(struct slice data)
{
    uint32_t n = 0;
    size_t i = 0;

    while (data.len > 0 && data.ptr[data.len - 1] == '\n')
        data.len--;
    for (; i < data.len && data.ptr[i] >= '0' && data.ptr[i] <= '9' && n < LINES_MAX; i++)
        n = n * 10 + (uint32_t)(data.ptr[i] - '0');
    if (n < line_count && slice_equal(data, slice_of(lines[n].text)))
        lines[n].arrived++;
    else
        outcome->torn++;
}

static void record_stored(void *user, struct slice data, struct slice key)
{
    bool armed = failing.armed;

    (void)user;
    (void)key;
    failing.armed = false;
    arrived(data);
    failing.armed = armed;
}

static void append(const struct sim_world *w, const char *name, uint32_t count)
{
    FILE *f = fopen(sim_path(w, name), "ae");

    MUST(f != NULL);
    for (uint32_t i = 0; i < count; i++, line_count++) {
        MUST(line_count < LINES_MAX);
        (void)snprintf(lines[line_count].text, LINE_MAX_LEN, "%u:%s of %s", line_count,
                       line_count % 10 == 5 ? "poison" : "a line", name);
        MUST(fprintf(f, "%s\n", lines[line_count].text) > 0);
    }
    MUST(fclose(f) == 0);
}

/* Lines that do not fit lie with the dead letters. */
static void count_dead(const struct sim_world *w)
{
    for (uint64_t n = 1, missing = 0; missing < 20; n++) {
        char name[DEAD_NAME_LEN], path[192];
        enum dead_line line;
        struct dead_found found;
        struct slice rest;
        struct buf text;
        uint32_t seed;
        int fd;

        dead_segment_name(n, name);
        (void)snprintf(path, sizeof path, "%s/state/dead/s/%s", w->dir, name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        missing = fd < 0 ? missing + 1 : 0;
        if (fd < 0)
            continue;
        buf_init(&text, 1 << 20);
        MUST(disk_read_all(&disk_system, fd, &text) == 0);
        close(fd);
        rest = buf_slice(&text);
        dead_found_init(&found);
        if (dead_read_header(&rest, n, &seed) == 0)
            while (dead_next(&rest, seed, &line, &found))
                if (line == DEAD_LINE_LETTER)
                    arrived(found.letter.record);
        dead_found_done(&found);
        buf_done(&text);
    }
}

/* --- the story --- */

/* The kernel's clock, which file systems take their times from, moves as well. */
static void run(struct sim_world *w, uint64_t ms)
{
    sim_tick();
    failing.armed = true;
    sim_run(w, ms);
    failing.armed = false;
}

static void start(struct sim_world *w)
{
    for (int i = 0;; i++) {
        int r;

        failing.armed = true;
        r = sim_try_start(w);
        failing.armed = false;
        if (r == 0)
            return;
        outcome->refused++;
        MUST(i < STARTS_MAX);
        w->now_ms += 1000;
    }
}

static void stop(struct sim_world *w)
{
    failing.armed = true;
    sim_stop(w);
    failing.armed = false;
}

static void tell(void)
{
    static struct sim_world w;

    sim_init(&w, 1, "*.log",
             "from = \"start\"; batch = { linger = \"20ms\"; }; output = \"raw\"; "
             "parse = { regex = \"^(?<n>[0-9]*:a line.*)\"; on_mismatch = \"dead\"; }; ");
    w.stored = record_stored;
    w.disk = &nth_disk;
    w.rough = true;
    sim_send = w.transport.send;
    w.transport.send = nth_send;

    append(&w, "a.log", 100);
    append(&w, "b.log", 50);
    w.faults.throttle = 30;
    start(&w);
    run(&w, 90 * 1000); /* whoever had no memory for a file looks again within a minute */
    append(&w, "a.log", 60);
    run(&w, 100);
    MUST(rename(sim_path(&w, "a.log"), sim_path(&w, "a.log.1")) == 0);
    append(&w, "a.log", 40);
    run(&w, 2000);

    /* The service is gone for longer than batches wait; a file goes, too. */
    w.faults = (struct sim_faults){.down = true};
    append(&w, "b.log", 60);
    append(&w, "c.log", 5);
    run(&w, 90 * 1000);
    MUST(unlink(sim_path(&w, "b.log")) == 0);
    run(&w, 60 * 1000);
    append(&w, "a.log", 30);
    run(&w, 1000);
    stop(&w);
    append(&w, "a.log", 20);
    start(&w);
    run(&w, 5000);

    /* It comes back, limping. */
    w.faults = (struct sim_faults){.fail = 20, .throttle = 20};
    append(&w, "c.log", 40);
    run(&w, 120 * 1000);
    w.faults = (struct sim_faults){0};
    run(&w, 120 * 1000);
    stop(&w);

    /* What is left is there at the next start, whatever has failed. */
    start(&w);
    run(&w, 400 * 1000);
    stop(&w);
    count_dead(&w);
    sim_done(&w);
    for (uint32_t i = 0; i < line_count; i++) {
        if (lines[i].arrived == 1)
            continue;
        if (outcome->lost + outcome->twice == 0)
            memcpy(outcome->first, lines[i].text, sizeof outcome->first);
        outcome->lost += lines[i].arrived == 0;
        outcome->twice += lines[i].arrived > 1;
    }
    outcome->ended = true;
}

/* Tells it in a child: a story may crash the agent, or hang it.  False if it is not well. */
static bool tell_apart(size_t way, uint64_t n)
{
    pid_t child;
    int status;

    *outcome = (struct outcome){0};
    failing.way = &ways[way];
    failing.n = n;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        (void)alarm(STORY_S);
        tell();
        exit(0);
    }
    MUST(child > 0 && waitpid(child, &status, 0) == child);
    if (status == 0 && outcome->ended && outcome->lost == 0 && outcome->torn == 0 &&
        (outcome->twice == 0 || ways[way].kind == KIND_DISK))
        return true;
    printf("--way %zu --n %" PRIu64 " (%s: %s, %" PRIu64 " times): %s, status %d, %u lost, "
           "%u torn, %u twice, %u starts refused, first '%s'\n",
           way, n, kind_names[ways[way].kind], strerrorname_np(ways[way].error), ways[way].times,
           status == 0 ? "ended" : "crashed or hung", status, outcome->lost, outcome->torn,
           outcome->twice, outcome->refused, outcome->first);
    return false;
}

/* Everything for one way, beginning with one n: the workers of a way take turns.  They sleep most of
 * the time, until the kernel's clock moves. */
static int work(size_t way, uint64_t first, uint64_t *told)
{
    uint64_t bad = 0;

    outcome =
        mmap(NULL, sizeof *outcome, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(outcome != MAP_FAILED);
    for (uint64_t n = first; bad < BAD_MAX; n += WORKERS) {
        bad += !tell_apart(way, n);
        if (!outcome->reached)
            break;
        ++*told;
    }
    return bad > 0;
}

int main(int argc, char **argv)
{
    uint64_t(*told)[WORKERS], sums[KINDS] = {0}, one_n = 0;
    size_t one_way = ARRAY_LEN(ways), workers = 0, bad = 0;

    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t number = strtoull(argv[i + 1], NULL, 10);

        if (strcmp(argv[i], "--way") == 0)
            one_way = (size_t)number;
        else if (strcmp(argv[i], "--n") == 0)
            one_n = number;
        else
            MUST(!"an option that is known");
    }
    told = mmap(NULL, sizeof *told * ARRAY_LEN(ways), PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    outcome =
        mmap(NULL, sizeof *outcome, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    MUST(told != MAP_FAILED && outcome != MAP_FAILED);
    if (one_n > 0 && one_way < ARRAY_LEN(ways))
        return !tell_apart(one_way, one_n);
    for (size_t way = 0; way < ARRAY_LEN(ways); way++)
        for (uint64_t first = 1; first <= WORKERS; first++) {
            pid_t child;

            if (one_way < ARRAY_LEN(ways) && way != one_way)
                continue;
            workers++;
            child = fork();
            MUST(child >= 0);
            if (child == 0)
                exit(work(way, first, &told[way][first - 1]));
        }
    for (int status; workers > 0; workers--) {
        MUST(wait(&status) > 0);
        bad += status != 0;
    }
    for (size_t way = 0; way < ARRAY_LEN(ways); way++)
        for (size_t i = 0; i < WORKERS; i++)
            sums[ways[way].kind] += told[way][i];
    printf("%" PRIu64 " stories with a failing call (%" PRIu64 " allocations, %" PRIu64
           " disk calls, %" PRIu64 " socket calls), %s\n",
           sums[KIND_MEMORY] + sums[KIND_DISK] + sums[KIND_SEND], sums[KIND_MEMORY],
           sums[KIND_DISK], sums[KIND_SEND], bad == 0 ? "0 crashes, 0 lost" : "not well");
    return bad > 0;
}
