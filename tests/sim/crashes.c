/* crashes -- what we keep on disk, through every crash that a disk can make of it.
 *
 *     crashes [--seed N] [--count N] [--states N] [--verbose 1]
 *
 * A story is the life of a state directory on a simulated disk (crashdisk.h), as an agent keeps it:
 * sources come, move on, are renamed and go; it is written, synced, and begun anew; calls fail; the
 * agent is killed, or the power goes, and it starts again.  Before each call that changes the disk,
 * and when something was promised, some of the disks are made that a crash could leave now.  From
 * each of them a start is tried on a copy, some of these crash again on their way, and what is found
 * is held against what was promised (see `check`).
 *
 * Told until there are `--states` different ones, or `--count` stories.  One seed is one story. */
#include "crashdisk.h"
#include "must.h"

#include "keep/checkpoint.h"
#include "keep/state.h"
#include "random.h"
#include "util.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STEPS = 60,       /* of a story */
    SOURCES = 24,     /* that may ever come in it */
    STATES_FEW = 10,  /* that are tried each time, at most */
    SEEN_ROOM = 256,  /* of one time: those that are alike are tried once */
    STORY_LINES = 80, /* that are told of one that went wrong */
    LINE_LEN = 100,   /* bytes of a log's line: where a place may be */
    LARGE_EACH = 150, /* one of so many stories is large … */
    LARGE_NAME = 4000,
    LARGE_TIMES = 400, /* … and has so many names of that length, each 12 kB in the journal */
    LARGE_STATES = 2,
};

/* What was said of a source, at some time. */
struct said {
    bool joined, gone;
    uint64_t place;
    unsigned version; /* of its name */
};

struct source {
    struct said noted, written, durable, begun; /* begun: written before the job began */
    struct checkpoint_slot *slot;
};

struct story {
    struct random random;
    uint64_t seed;
    struct crashdisk *disk;
    struct source sources[SOURCES];
    size_t source_count;
    struct checkpoint *checkpoint;
    uint64_t failed_before; /* the start: calls */
    int state_fd;
    int64_t news_ns; /* when something was written last that was no start; 0: never */
    bool stands;     /* there is a store whatever comes: no start is the first one */
    uint64_t seen[SEEN_ROOM];
    size_t seen_count;
    uint64_t states, starts;
    bool verbose, faulty;
    bool large; /* source 0 has a very long name, so that the journal grows fast */
    char lines[STORY_LINES][200];
    size_t line_count;
};

/* --- telling --- */

__attribute__((format(printf, 2, 3))) static void tell(struct story *s, const char *format, ...)
{
    char *line = s->lines[s->line_count++ % STORY_LINES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof s->lines[0], format, args);
    va_end(args);
    if (s->verbose)
        printf("%s\n", line);
}

__attribute__((format(printf, 2, 3), noreturn)) static void violation(struct story *s,
                                                                      const char *format, ...)
{
    size_t from = s->line_count > STORY_LINES ? s->line_count - STORY_LINES : 0;
    va_list args;

    if (!s->verbose)
        for (size_t i = from; i < s->line_count; i++)
            printf("    %s\n", s->lines[i % STORY_LINES]);
    printf("seed %" PRIu64 ": ", s->seed);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    exit(1);
}

/* --- what a start finds --- */

/* A place tells by its anchor whose it is: one that comes from elsewhere is noticed. */
static struct cursor cursor_of(size_t source, uint64_t place)
{
    struct random mix = {(uint64_t)source << 48 ^ place};

    return (struct cursor){.offset = place, .anchor = random_next(&mix)};
}

static size_t path_of(const struct story *s, char *to, size_t room, size_t source, unsigned version)
{
    size_t len = (size_t)snprintf(to, room, "/var/log/app/%zu/app.log.%u", source, version);

    if (s->large && source == 0) {
        memset(to + len, 1, LARGE_NAME - len);
        len = LARGE_NAME;
    }
    return len;
}

static struct checkpoint_slot *find(struct checkpoint *c, size_t source)
{
    struct checkpoint_slot *slot = NULL, *found = NULL;

    while ((slot = checkpoint_next(c, slot)) != NULL)
        if (checkpoint_id(slot)->ino == source)
            found = slot;
    return found;
}

static void check_source(struct story *s, size_t i, const struct said *floor,
                         const struct checkpoint_slot *slot)
{
    const struct said *top = &s->sources[i].noted;
    struct cursor at, want;
    char path[PATH_MAX], other[PATH_MAX];
    struct slice name;
    unsigned version;

    if (slot == NULL) {
        if (floor->joined && !top->gone)
            violation(s, "source %zu is forgotten", i);
        return;
    }
    if (!top->joined)
        violation(s, "source %zu is known and never came", i);
    if (floor->gone)
        violation(s, "source %zu is back", i);
    at = checkpoint_cursor(slot);
    want = cursor_of(i, at.offset);
    if (at.offset > top->place || (at.offset > 0 && at.anchor != want.anchor))
        violation(s, "source %zu is at %" PRIu64 ", and was never beyond %" PRIu64, i, at.offset,
                  top->place);
    if (floor->joined && at.offset < floor->place)
        violation(s, "source %zu is back at %" PRIu64 ", and was durable up to %" PRIu64, i,
                  at.offset, floor->place);
    name = checkpoint_path(slot, path);
    for (version = top->version;; version--) {
        size_t len = path_of(s, other, sizeof other, i, version);

        if (slice_equal(name, (struct slice){other, len}))
            break;
        if (version == 0 || (floor->joined && version == floor->version))
            violation(s, "source %zu is called '%s'", i, path);
    }
}

enum floor { FLOOR_DURABLE, FLOOR_WRITTEN };

static const struct said *floor_of(const struct source *source, enum floor floor)
{
    return floor == FLOOR_DURABLE ? &source->durable : &source->written;
}

/* What a start has read, against what was promised. */
static void check(struct story *s, struct checkpoint *c, const struct checkpoint_report *report,
                  enum floor floor)
{
    size_t count = 0, known = 0;

    for (struct checkpoint_slot *slot = NULL; (slot = checkpoint_next(c, slot)) != NULL;)
        count++;
    for (size_t i = 0; i < s->source_count; i++) {
        struct checkpoint_slot *slot = find(c, i);

        check_source(s, i, floor_of(&s->sources[i], floor), slot);
        known += slot != NULL;
    }
    if (known != count)
        violation(s, "%zu sources are known, and only %zu of them ever came", count, known);
    if (report->moved_aside > 0)
        violation(s, "%u generations were moved aside", report->moved_aside);
    if (s->stands && report->fresh)
        violation(s, "a start takes itself for the first one");
    if (s->stands && s->news_ns > 0 && report->written_ns > s->news_ns)
        violation(s, "what is known is said to be newer than it is");
}

/* --- trying crashes --- */

/* A start on a disk of its own, which may crash on its way. */
struct trial {
    struct story *story;
    struct crashdisk *disk;
    enum floor floor;
    uint64_t crash_at; /* before which call; UINT64_MAX: none */
    uint64_t calls;
};

static void try_start(struct story *s, struct crashdisk *d, enum floor floor, bool may_crash);

static void trial_before(void *user, const char *call)
{
    struct trial *t = user;
    struct story *s = t->story;
    struct crash how = {.mode = CRASH_RANDOM, .seed = random_next(&s->random)};
    struct crashdisk *crashed;

    if (t->calls++ != t->crash_at)
        return;
    tell(s, "    … and a crash in the start, before %s: seed %" PRIx64, call, how.seed);
    crashed = crashdisk_crash(t->disk, how);
    try_start(s, crashed, t->floor, false);
    crashdisk_free(crashed);
}

/* Starts, checks, and goes; `d` is then as that left it. */
static void try_start(struct story *s, struct crashdisk *d, enum floor floor, bool may_crash)
{
    struct trial t = {s, d, floor, may_crash ? random_below(&s->random, 8) : UINT64_MAX, 0};
    const struct disk *disk = crashdisk_disk(d);
    struct checkpoint_report report;
    struct checkpoint *c;
    int fd, r;

    s->starts++;
    crashdisk_watch(d, trial_before, &t);
    fd = state_room(disk, CRASHDISK_ROOT, "checkpoint");
    if (fd < 0)
        violation(s, "a start is refused: checkpoint: %s", strerror(-fd));
    r = checkpoint_open(disk, fd, &c, &report);
    if (r < 0 || report.error < 0)
        violation(s, "a start is refused: %s", strerror(r < 0 ? -r : -report.error));
    check(s, c, &report, floor);
    checkpoint_close(c);
    (void)disk->close(disk, fd);
    crashdisk_watch(d, NULL, NULL);
}

static bool is_new(struct story *s, uint64_t digest)
{
    for (size_t i = 0; i < s->seen_count; i++)
        if (s->seen[i] == digest)
            return false;
    if (s->seen_count < SEEN_ROOM)
        s->seen[s->seen_count++] = digest;
    return true;
}

static void try_crash(struct story *s, struct crash how)
{
    static const char *const names[] = {"none", "all", "upto", "only", "but", "torn", "random"};
    struct crashdisk *d = crashdisk_crash(s->disk, how);
    size_t lines = s->line_count;
    bool again = random_below(&s->random, 8) == 0;

    if (!is_new(s, crashdisk_digest(d))) {
        crashdisk_free(d);
        return;
    }
    s->states++;
    tell(s, "  crash: %s %zu %zu, seed %" PRIx64, names[how.mode], how.which, how.at, how.seed);
    try_start(s, d, FLOOR_DURABLE, again);

    /* What the first start has made of it is good for a second one. */
    if (again) {
        crashdisk_kill(d);
        tell(s, "    … and another start");
        try_start(s, d, FLOOR_DURABLE, false);
    }
    s->line_count = lines;
    crashdisk_free(d);
}

/* Some of the disks that a crash could leave now. */
static void try_crashes(struct story *s)
{
    size_t pending = crashdisk_pending(s->disk), which;

    s->seen_count = 0;
    if (s->verbose)
        crashdisk_print(s->disk);
    try_crash(s, (struct crash){.mode = CRASH_NONE, .seed = random_next(&s->random)});
    if (pending == 0)
        return;
    try_crash(s, (struct crash){.mode = CRASH_ALL, .seed = random_next(&s->random)});
    for (int few = 0; few < (s->large ? LARGE_STATES : STATES_FEW); few++) {
        enum crash_mode mode =
            few < 4 && !s->large ? (enum crash_mode)(CRASH_UPTO + few) : CRASH_RANDOM;

        which = random_below(&s->random, pending);
        try_crash(s, (struct crash){
                         .mode = mode,
                         .which = which,
                         .at = random_below(&s->random, crashdisk_pending_len(s->disk, which) + 1),
                         .seed = random_next(&s->random),
                     });
    }
}

static void story_before(void *user, const char *call)
{
    struct story *s = user;

    tell(s, " %s", call);
    s->line_count--; /* before it has happened … */
    try_crashes(s);
    s->line_count++;
}

/* --- the agent --- */

static bool chance(struct story *s, unsigned percent)
{
    return random_below(&s->random, 100) < percent;
}

/* What was read is what is known now; it is durable if it could be written anew. */
static void adopt(struct story *s, const struct checkpoint_report *report)
{
    for (size_t i = 0; i < s->source_count; i++) {
        struct source *source = &s->sources[i];
        char path[PATH_MAX], other[PATH_MAX];
        struct said now = {.joined = source->noted.joined, .gone = true};

        source->slot = find(s->checkpoint, i);
        if (source->slot != NULL) {
            struct slice name = checkpoint_path(source->slot, path);

            now = (struct said){true, false, checkpoint_cursor(source->slot).offset, 0};
            while (!slice_equal(
                name, (struct slice){other, path_of(s, other, sizeof other, i, now.version)}))
                now.version++;
        } else if (!source->noted.gone) {
            now = (struct said){0}; /* it may come again */
        }
        source->noted = source->written = now;
        if (report->error == 0)
            source->durable = now;
    }
}

static void start(struct story *s, enum floor floor)
{
    const struct disk *disk = crashdisk_disk(s->disk);
    struct checkpoint_report report;
    uint64_t failed = crashdisk_failed(s->disk);
    int r = -1;

    s->starts++;
    tell(s, "start");
    crashdisk_watch(s->disk, story_before, s);
    while (r < 0) {
        s->state_fd = r = state_room(disk, CRASHDISK_ROOT, "checkpoint");
        if (r >= 0)
            r = checkpoint_open(disk, s->state_fd, &s->checkpoint, &report);
        if (r < 0 && crashdisk_failed(s->disk) == failed)
            violation(s, "a start is refused: %s", strerror(-r));
        if (r < 0) {
            tell(s, "… not yet: %s", strerror(-r));
            crashdisk_kill(s->disk);
        }
    }
    check(s, s->checkpoint, &report, floor);
    s->stands = s->stands || report.error == 0;
    s->failed_before = crashdisk_failed(s->disk);
    adopt(s, &report);
}

static void end(struct story *s)
{
    checkpoint_close(s->checkpoint);
    s->checkpoint = NULL;
    crashdisk_watch(s->disk, NULL, NULL);
    crashdisk_kill(s->disk);
    crashdisk_fault(s->disk, (struct crashdisk_fault){0}, 0);
}

/* --- steps --- */

static struct source *some_source(struct story *s)
{
    for (int tries = 0; tries < SOURCES; tries++) {
        struct source *source = &s->sources[random_below(&s->random, SOURCES)];
        if (source->slot != NULL)
            return source;
    }
    return NULL;
}

static size_t number_of(const struct story *s, const struct source *source)
{
    return (size_t)(source - s->sources);
}

static void step_join(struct story *s)
{
    size_t i = random_below(&s->random, MIN(s->source_count + 1, (size_t)SOURCES));
    struct source *source = &s->sources[i];
    struct source_id id = {.dev = 1, .ino = i, .head_len = 64};
    char path[PATH_MAX];
    size_t len;

    if (source->slot != NULL || source->noted.gone || source->durable.joined)
        return;
    s->source_count = MAX(s->source_count, i + 1);
    source->noted = (struct said){.joined = true};
    source->noted.place = LINE_LEN * random_below(&s->random, 4);
    len = path_of(s, path, sizeof path, i, 0);
    tell(s, "join %zu at %" PRIu64, i, source->noted.place);
    MUST(checkpoint_join(s->checkpoint, SLICE("web"), (struct slice){path, len}, &id,
                         cursor_of(i, source->noted.place), &source->slot) == 0);
}

static void step_note(struct story *s)
{
    struct source *source = some_source(s);

    if (source == NULL)
        return;
    source->noted.place += LINE_LEN * (1 + random_below(&s->random, 20));
    tell(s, "note %zu at %" PRIu64, number_of(s, source), source->noted.place);
    checkpoint_note(s->checkpoint, source->slot,
                    cursor_of(number_of(s, source), source->noted.place));
}

static void step_rename(struct story *s)
{
    struct source *source = some_source(s);
    size_t i, len;
    char path[PATH_MAX];

    if (source == NULL)
        return;
    i = number_of(s, source);
    len = path_of(s, path, sizeof path, i, ++source->noted.version);
    tell(s, "rename %zu to %u", i, source->noted.version);
    MUST(checkpoint_describe(s->checkpoint, source->slot, (struct slice){path, len},
                             checkpoint_id(source->slot)) == 0);
}

static void step_leave(struct story *s)
{
    struct source *source = some_source(s);

    if (source == NULL)
        return;
    tell(s, "leave %zu", number_of(s, source));
    source->noted.gone = true;
    checkpoint_leave(s->checkpoint, source->slot);
    source->slot = NULL;
}

static void was_written(struct story *s)
{
    for (size_t i = 0; i < s->source_count; i++)
        s->sources[i].written = s->sources[i].noted;
}

static void step_write(struct story *s)
{
    int r;

    tell(s, "write");
    s->news_ns = INT64_MAX; /* it may be found in the middle of it */
    r = checkpoint_write(s->checkpoint);
    s->news_ns = crashdisk_now_ns(s->disk);
    if (r < 0) {
        tell(s, "… %s", strerror(-r));
        return;
    }
    was_written(s);
}

static void news(struct story *s)
{
    for (int few = 0; few < 3 && chance(s, 40); few++) {
        step_note(s);
        if (chance(s, 30))
            step_leave(s);
        if (chance(s, 50))
            step_write(s);
    }
}

static void step_job(struct story *s)
{
    int r;

    if (!checkpoint_wants_job(s->checkpoint))
        return;
    tell(s, "job");
    MUST(checkpoint_job_begin(s->checkpoint) == 0);
    for (size_t i = 0; i < s->source_count; i++)
        s->sources[i].begun = s->sources[i].written;
    news(s);
    s->news_ns = INT64_MAX;
    checkpoint_job_run(s->checkpoint);
    s->news_ns = crashdisk_now_ns(s->disk);
    news(s);
    s->news_ns = INT64_MAX;
    r = checkpoint_job_end(s->checkpoint);
    s->news_ns = crashdisk_now_ns(s->disk);
    tell(s, "job: %s", strerror(-r));
    if (r < 0)
        return;
    for (size_t i = 0; i < s->source_count; i++) {
        struct source *source = &s->sources[i];

        if (!checkpoint_is_dirty(s->checkpoint))
            source->written = source->noted;
        source->durable = source->begun;
        if (!checkpoint_is_dirty(s->checkpoint) && !checkpoint_wants_job(s->checkpoint))
            source->durable = source->noted;
    }
    try_crashes(s);
}

static void step_kill(struct story *s)
{
    tell(s, "kill");
    try_crashes(s);
    end(s);

    /* When a generation that is not sure to be durable cannot be taken away, either, what was written
     * to the one before is not read. */
    start(s, crashdisk_failed(s->disk) - s->failed_before > 1 ? FLOOR_DURABLE : FLOOR_WRITTEN);
}

/* The power goes, and life goes on from what that left. */
static void step_crash(struct story *s)
{
    size_t pending = crashdisk_pending(s->disk);
    struct crash how = {.mode = CRASH_RANDOM,
                        .which = random_below(&s->random, pending),
                        .seed = random_next(&s->random)};
    struct crashdisk *crashed;

    if (chance(s, 30))
        how.mode = (enum crash_mode)random_below(&s->random, CRASH_TORN);
    tell(s, "crash: %u %zu, seed %" PRIx64, how.mode, how.which, how.seed);
    crashed = crashdisk_crash(s->disk, how);
    end(s);
    crashdisk_free(s->disk);
    s->disk = crashed;
    start(s, FLOOR_DURABLE);
}

static void step_fault(struct story *s)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT};
    struct crashdisk_fault fault = {
        .until = random_below(&s->random, 8),
        .times = 1 + random_below(&s->random, 3),
        .error = errors[random_below(&s->random, ARRAY_LEN(errors))],
    };

    if (!s->faulty)
        return;
    tell(s, "fault: %s after %" PRIu64 ", %" PRIu64 " times", strerror(fault.error), fault.until,
         fault.times);
    crashdisk_fault(s->disk, fault, random_next(&s->random));
}

static void step_flush(struct story *s)
{
    tell(s, "flush");
    crashdisk_flush(s->disk);
}

static void step_complete(struct story *s)
{
    tell(s, "complete");
    checkpoint_complete(s->checkpoint);
}

/* The journal wants to be compacted, although nothing is wrong with it. */
static void step_outgrow(struct story *s)
{
    struct source *source = &s->sources[0];
    struct source_id id;
    char path[PATH_MAX];
    int r = 0;

    if (!s->large || source->slot == NULL || chance(s, 50))
        return;
    tell(s, "outgrow");
    id = *checkpoint_id(source->slot);
    crashdisk_watch(s->disk, NULL, NULL);
    s->news_ns = INT64_MAX;
    for (int n = 0; n < LARGE_TIMES && r == 0; n++) {
        size_t len = path_of(s, path, sizeof path, 0, ++source->noted.version);

        MUST(checkpoint_describe(s->checkpoint, source->slot, (struct slice){path, len}, &id) == 0);
        r = checkpoint_write(s->checkpoint);
    }
    s->news_ns = crashdisk_now_ns(s->disk);
    crashdisk_flush(s->disk); /* or each crash would make all of it anew */
    if (r == 0)
        was_written(s);
    crashdisk_watch(s->disk, story_before, s);
    if (chance(s, 50))
        crashdisk_fault(s->disk,
                        (struct crashdisk_fault){random_below(&s->random, 5),
                                                 1 + random_below(&s->random, 3), EIO},
                        1);
    step_job(s);
    news(s);
    step_write(s);
    if (chance(s, 50))
        step_kill(s);
}

static const struct step {
    void (*take)(struct story *s);
    unsigned weight;
} steps[] = {
    {step_join, 10},  {step_note, 30},    {step_rename, 5}, {step_leave, 3},
    {step_write, 25}, {step_job, 20},     {step_kill, 3},   {step_crash, 3},
    {step_fault, 10}, {step_complete, 2}, {step_flush, 3},
};

static void take_step(struct story *s)
{
    unsigned all = 0, n;

    for (size_t i = 0; i < ARRAY_LEN(steps); i++)
        all += steps[i].weight;
    n = (unsigned)random_below(&s->random, all);
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        if (n < steps[i].weight) {
            steps[i].take(s);
            return;
        }
        n -= steps[i].weight;
    }
}

static void tell_story(uint64_t seed, bool verbose, uint64_t *states, uint64_t *starts)
{
    struct story *s = calloc(1, sizeof *s);

    MUST(s != NULL);
    s->random.state = s->seed = seed;
    s->verbose = verbose;
    s->faulty = chance(s, 50);
    s->large = seed % LARGE_EACH == 0;
    s->disk = crashdisk_new();
    start(s, FLOOR_DURABLE);
    for (int n = 0; n < STEPS; n++) {
        take_step(s);
        if (n % 8 == 7)
            step_outgrow(s);
    }
    end(s);
    *states += s->states;
    *starts += s->starts;
    crashdisk_free(s->disk);
    free(s);
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, count = UINT64_MAX, states_max = 50000, states = 0, starts = 0, stories = 0;
    bool verbose = false;

    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t n = strtoull(argv[i + 1], NULL, 10);

        if (strcmp(argv[i], "--seed") == 0)
            seed = n;
        else if (strcmp(argv[i], "--count") == 0)
            count = n;
        else if (strcmp(argv[i], "--states") == 0)
            states_max = n;
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = n != 0;
        else
            MUST(!"an option that is known");
    }
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 28); /* large contents come and go */
    while (stories < count && states < states_max)
        tell_story(seed + stories++, verbose, &states, &starts);
    printf("%" PRIu64 " crash states, %" PRIu64 " starts, %" PRIu64 " stories, 0 violations\n",
           states, starts, stories);
    return 0;
}
