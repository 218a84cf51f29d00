/* crashes -- what we keep on disk, through every crash that a disk can make of it.
 *
 *     crashes [--seed N] [--count N] [--states N] [--spool 0|1] [--large 1] [--verbose 1]
 *
 * A story is the life of a state directory on a simulated disk (crashdisk.h), as an agent keeps
 * it: sources come, are read, renamed and go; what is settled is noted, written and synced;
 * frames are put into the spool, given out and acknowledged; calls fail; the agent is killed, or
 * the power goes, and it starts again.  Before each call that changes the disk, and when
 * something was promised, some of the disks are made that a crash could leave now.  From each of
 * them a start is tried on a copy, some of these crash again on their way, and what is found is
 * held against what was promised (crash_model.h).
 *
 * Told until there are `--states` different ones, or `--count` stories.  One seed is one story.
 * `--spool` takes only stories with it, or without; `--large` only those with a large journal. */
#include "crash_model.h"
#include "must.h"

#include "buf.h"
#include "keep/state.h"
#include "util.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    STEPS = 60,         /* of a story */
    STATES_FEW = 10,    /* that are tried each time, at most */
    SEEN_ROOM = 256,    /* of one time: those that are alike are tried once */
    LARGE_EACH = 150,   /* one of so many stories is large … */
    LARGE_TIMES = 1080, /* … and has so many names of 4000 bytes */
    LARGE_STATES = 2,
    KILL_STATES = 3,
    WIDE_EACH = 16,
    WIDE_STATES = 4,
    FACTS_MAX = 1024 * 1024,
};

/* The clock of those that we try is the disk's (the linker's --wrap). */
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);

int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
    int64_t ns = crashdisk_now_ns();

    (void)id;
    *ret = (struct timespec){ns / INT64_C(1000000000), ns % INT64_C(1000000000)};
    return 0;
}

/* --- trying crashes --- */

static bool chance(struct story *s, unsigned percent)
{
    return random_below(&s->random, 100) < percent;
}

/* Another one of the agent's stores, on a disk of its own, which may crash on its way. */
struct trial {
    struct story *story;
    struct crashdisk *disk;
    enum floor floor;
    uint64_t crash_at; /* before which call; UINT64_MAX: none */
    uint64_t calls;
    int checkpoint_fd;
    struct checkpoint *checkpoint;
    struct spool *spool;
};

static void try_start(struct story *s, struct crashdisk *d, enum floor floor, bool again);

static void trial_before(void *user, const char *call)
{
    struct trial *t = user;
    struct story *s = t->story;
    struct crashdisk *crashed;
    struct crash how;

    if (t->calls++ != t->crash_at)
        return;
    how = (struct crash){.mode = CRASH_RANDOM, .seed = random_next(&s->random)};
    story_tell(s, "    … and a crash in the start, before %s: seed %" PRIx64, call, how.seed);
    crashed = crashdisk_crash(t->disk, how);
    try_start(s, crashed, FLOOR_DURABLE, false);
    crashdisk_free(crashed);
}

static int learn(void *user, uint64_t serial, struct slice facts)
{
    struct checkpoint *c = user;
    int r = checkpoint_learn(c, facts);

    return r < 0 ? r : checkpoint_note_spool(c, SLICE(MODEL_SPOOL), serial);
}

static struct spool_settings spool_settings(struct checkpoint *c)
{
    return (struct spool_settings){.name = MODEL_SPOOL,
                                   .limit_bytes = 1 << 30,
                                   .merged = checkpoint_spool(c, SLICE(MODEL_SPOOL))};
}

/* Reads all that a spool gives out.  `adopt`: what it finds is what there is from now on. */
static void read_all(struct story *s, struct spool *spool, bool adopt, bool found[MODEL_FRAMES])
{
    struct spool_frame f;
    uint64_t last = 0;
    int r;

    memset(found, 0, MODEL_FRAMES * sizeof(bool));
    while ((r = spool_read(spool, &f)) == 1) {
        struct frame *frame = model_check_frame(s, &f);

        if (f.serial <= last)
            story_violation(s, "frame %" PRIu64 " comes after frame %" PRIu64, f.serial, last);
        last = f.serial;
        found[frame - s->frames] = true;
        if (adopt)
            frame->serial = f.serial;
    }
    if (r < 0)
        story_violation(s, "the spool cannot be read: %s", strerror(-r));
}

/* What a crash has garbled may be called damage; but nothing is missing, and nothing of others'
 * there. (A segment that could neither be put nor taken away has a number that another crash may
 * take; and on a full disk one leaves though its acknowledgements could not be written.) */
static void check_stats(struct story *s, const struct spool_stats *stats)
{
    if ((stats->missing > 0 && !s->faulty) || stats->lost_end || stats->lost_records > 0 ||
        stats->foreign > 0 || stats->newer > 0)
        story_violation(s,
                        "the spool says: %" PRIu32 " missing, %" PRIu64 " records lost%s, %" PRIu32
                        " foreign, %" PRIu32 " newer",
                        stats->missing, stats->lost_records,
                        stats->lost_end ? ", its end is missing" : "", stats->foreign,
                        stats->newer);
    if (stats->error < 0)
        story_violation(s, "the spool says: %s", strerror(-stats->error));
}

static void try_spool(struct trial *t)
{
    struct story *s = t->story;
    struct spool_settings settings = spool_settings(t->checkpoint);
    bool found[MODEL_FRAMES];
    int r = spool_open(CRASHDISK_ROOT, crashdisk_disk(t->disk), &settings, &t->spool);

    if (r == 0)
        r = spool_facts(t->spool, learn, t->checkpoint);
    if (r < 0)
        story_violation(s, "a start is refused: spool: %s", strerror(-r));
    model_check_checkpoint(s, t->checkpoint, t->floor, true);
    read_all(s, t->spool, false, found);
    check_stats(s, spool_stats(t->spool));
    model_check_all(s, t->checkpoint, found, t->floor, settings.merged);
}

/* What an agent does next: it writes what it has learned, and tidies up. */
static void go_on(struct trial *t, bool full)
{
    struct story *s = t->story;
    uint64_t serial;
    int r;

    s->unlooked = true;
    r = checkpoint_write(t->checkpoint);
    if (r == 0 && checkpoint_wants_job(t->checkpoint)) {
        MUST(checkpoint_job_begin(t->checkpoint) == 0);
        checkpoint_job_run(t->checkpoint);
        r = checkpoint_job_end(t->checkpoint);
    }
    if (r == 0 && t->spool != NULL && spool_wants_job(t->spool)) {
        spool_job_begin(t->spool);
        spool_job_run(t->spool);
        r = spool_job_end(t->spool, &serial);
    }
    if (r < 0 && !(full && r == -ENOSPC))
        story_violation(s, "what was learned cannot be written: %s", strerror(-r));
}

/* There is the one that was read, and the new one. */
static void check_generations(struct story *s, const struct disk *disk, int fd)
{
    uint64_t *all;
    size_t count;

    MUST(checkpoint_generations(disk, fd, &all, &count) == 0);
    free(all);
    if (count > 2)
        story_violation(s, "%zu generations are kept", count);
}

/* Starts, checks, and goes; `d` is then as that left it. */
static void try_start(struct story *s, struct crashdisk *d, enum floor floor, bool again)
{
    struct trial t = {.story = s,
                      .disk = d,
                      .floor = floor,
                      .crash_at = again ? random_below(&s->random, 16) : UINT64_MAX};
    const struct disk *disk = crashdisk_disk(d);
    struct checkpoint_report report;
    bool full = s->full;
    int r;

    /* Some day there is room again. */
    if (full && chance(s, 50)) {
        crashdisk_limit(d, UINT64_MAX);
        full = false;
    }
    s->starts++;
    crashdisk_watch(d, trial_before, &t);
    t.checkpoint_fd = r = state_room(disk, CRASHDISK_ROOT, "checkpoint");
    if (r >= 0)
        r = checkpoint_open(disk, t.checkpoint_fd, &t.checkpoint, &report);
    if (r < 0 || (report.error < 0 && !(full && report.error == -ENOSPC)))
        story_violation(s, "a start is refused: %s", strerror(r < 0 ? -r : -report.error));
    model_check_report(s, t.checkpoint, &report);
    if (!full) /* or the one that was there goes on */
        check_generations(s, disk, t.checkpoint_fd);
    model_check_checkpoint(s, t.checkpoint, floor, false);
    if (s->spools)
        try_spool(&t);
    if (again)
        go_on(&t, full);
    spool_close(t.spool);
    checkpoint_close(t.checkpoint);
    (void)disk->close(disk, t.checkpoint_fd);
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
    story_tell(s, "  crash: %s %zu %zu, seed %" PRIx64, names[how.mode], how.which, how.at,
               how.seed);
    try_start(s, d, FLOOR_DURABLE, again);

    /* What the first start has made of it is good for a second one. */
    if (again) {
        crashdisk_kill(d);
        story_tell(s, "    … and another start");
        try_start(s, d, FLOOR_DURABLE, false);
    }
    s->line_count = lines;
    s->unlooked = false;
    crashdisk_free(d);
}

/* The agent is killed now, and what it has not synced is still there: another one starts, and
 * the power goes after that. */
static void try_kill(struct story *s)
{
    struct crashdisk *d = crashdisk_copy(s->disk), *crashed;
    size_t lines = s->line_count;

    story_tell(s, "  kill");
    try_start(s, d, s->weak ? FLOOR_DURABLE : FLOOR_WRITTEN, true);
    crashdisk_kill(d);
    for (int i = 0; i < KILL_STATES; i++) {
        struct crash how = {.mode = i == 0 ? CRASH_NONE : CRASH_RANDOM,
                            .seed = random_next(&s->random)};

        s->states++;
        story_tell(s, "    … and a crash: seed %" PRIx64, how.seed);
        crashed = crashdisk_crash(d, how);
        try_start(s, crashed, FLOOR_DURABLE, false);
        crashdisk_free(crashed);
    }
    s->unlooked = false;
    s->line_count = lines;
    crashdisk_free(d);
}

/* Some of the disks that a crash could leave now. */
static void try_crashes(struct story *s)
{
    size_t pending = crashdisk_pending(s->disk), which;
    int few = s->large ? LARGE_STATES : s->wide ? WIDE_STATES : STATES_FEW;

    s->seen_count = 0;
    if (s->verbose)
        crashdisk_print(s->disk);
    try_crash(s, (struct crash){.mode = CRASH_NONE, .seed = random_next(&s->random)});
    if (pending == 0)
        return;
    if (chance(s, 25) && crashdisk_failed(s->disk) == s->failed_crash)
        try_kill(s);
    try_crash(s, (struct crash){.mode = CRASH_ALL, .seed = random_next(&s->random)});
    for (int i = 0; i < few; i++) {
        which = random_below(&s->random, pending);
        try_crash(s,
                  (struct crash){
                      .mode = chance(s, 50) ? CRASH_RANDOM : (enum crash_mode)(CRASH_UPTO + i % 4),
                      .which = which,
                      .at = random_below(&s->random, crashdisk_pending_len(s->disk, which) + 1),
                      .seed = random_next(&s->random),
                  });
    }
}

static void story_before(void *user, const char *call)
{
    struct story *s = user;

    story_tell(s, " %s", call);
    s->line_count--; /* before it has happened … */
    try_crashes(s);
    s->line_count++;
}

static void some_fault(struct story *s)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT};
    struct crashdisk_fault fault = {
        .until = random_below(&s->random, 10),
        .times = 1 + random_below(&s->random, 3),
        .error = errors[random_below(&s->random, ARRAY_LEN(errors))],
    };

    story_tell(s, "fault: %s after %" PRIu64 ", %" PRIu64 " times", strerror(fault.error),
               fault.until, fault.times);
    crashdisk_fault(s->disk, fault, random_next(&s->random));
}

/* --- the agent --- */

/* What was read is what is known now; it is durable if it could be written anew, and what the
 * spool has told is not written yet. */
static struct said what_is_known(struct story *s, size_t i, struct checkpoint *c)
{
    const struct source *source = &s->sources[i];
    const struct checkpoint_slot *slot = model_find(c, i);
    char path[PATH_MAX], other[PATH_MAX];
    struct said now = {0};
    struct slice name;

    if (slot == NULL) {
        if (source->noted.gone)
            now = source->noted;
        return now; /* otherwise it may come again */
    }
    name = checkpoint_path(slot, path);
    now = (struct said){.joined = true, .place = checkpoint_cursor(slot).offset};
    while (!slice_equal(name, (struct slice){other, model_path(s, other, i, now.version)}))
        now.version++;
    return now;
}

/* Which frames there are now, seen through another one's eyes. */
static void adopt_frames(struct story *s, enum floor floor, bool crashed, uint64_t merged)
{
    struct spool_settings settings = spool_settings(s->checkpoint);
    bool found[MODEL_FRAMES];
    struct spool *other;

    settings.read_only = true;
    crashdisk_watch(s->disk, NULL, NULL);
    MUST(spool_open(CRASHDISK_ROOT, crashdisk_disk(s->disk), &settings, &other) == 0);
    read_all(s, other, true, found);
    spool_close(other);
    crashdisk_watch(s->disk, story_before, s);
    model_check_all(s, s->checkpoint, found, floor, merged);
    for (size_t i = 0; i < s->frame_count; i++) {
        struct frame *f = &s->frames[i];

        f->given = false;
        if (found[i]) {
            f->ack = ACK_NONE; /* or it would not be there */
            f->loose = !model_is_settled(s, s->checkpoint, f);
            if (crashed)
                f->state = FRAME_DURABLE;
        } else if (f->ack != ACK_NONE) {
            f->ack = crashed ? ACK_DURABLE : MAX(f->ack, ACK_WRITTEN);
        } else {
            f->state =
                crashed ? FRAME_GONE : FRAME_FAILED; /* what was cut off is not so for good */
        }
    }
}

static int open_spool(struct story *s)
{
    struct spool_settings settings = spool_settings(s->checkpoint);
    int r = spool_open(CRASHDISK_ROOT, crashdisk_disk(s->disk), &settings, &s->spool);

    return r < 0 ? r : spool_facts(s->spool, learn, s->checkpoint);
}

static void close_all(struct story *s)
{
    spool_close(s->spool);
    checkpoint_close(s->checkpoint);
    s->spool = NULL;
    s->checkpoint = NULL;
    crashdisk_kill(s->disk);
}

static void start(struct story *s, enum floor floor, bool crashed)
{
    const struct disk *disk = crashdisk_disk(s->disk);
    struct checkpoint_report report;
    uint64_t failed = crashdisk_failed(s->disk), merged = 0;
    int r = -1;

    s->starts++;
    story_tell(s, "start");
    s->weak = floor == FLOOR_DURABLE;
    crashdisk_watch(s->disk, story_before, s);
    while (r < 0) {
        s->checkpoint_fd = r = state_room(disk, CRASHDISK_ROOT, "checkpoint");
        if (r >= 0)
            r = checkpoint_open(disk, s->checkpoint_fd, &s->checkpoint, &report);
        if (r == 0) {
            model_check_report(s, s->checkpoint, &report);
            model_check_checkpoint(s, s->checkpoint, floor, false);
            for (size_t i = 0; i < s->source_count; i++) {
                struct source *source = &s->sources[i];

                source->written = what_is_known(s, i, s->checkpoint);
                if (!source->durable.joined && source->written.gone)
                    source->written = (struct said){0}; /* or it was never known: the spool may */
                source->begun = source->written;
                if (report.error == 0)
                    source->durable = source->written;
            }
            s->stands = s->stands || report.error == 0;
            merged = checkpoint_spool(s->checkpoint, SLICE(MODEL_SPOOL));
        }
        if (r == 0 && s->spools)
            r = open_spool(s);
        if (r < 0 && crashdisk_failed(s->disk) == failed)
            story_violation(s, "a start is refused: %s", strerror(-r));
        if (r < 0) {
            story_tell(s, "… not yet: %s", strerror(-r));
            close_all(s);
        }
    }
    crashdisk_fault(s->disk, (struct crashdisk_fault){0}, 0);
    s->weak = false;
    s->failed_before = crashdisk_failed(s->disk);
    if (crashed)
        s->failed_crash = s->failed_before;
    model_check_checkpoint(s, s->checkpoint, floor, true);
    if (s->spools)
        adopt_frames(s, floor, crashed, merged);
    for (size_t i = 0; i < s->source_count; i++) {
        struct source *source = &s->sources[i];

        source->noted = what_is_known(s, i, s->checkpoint);
        source->slot = model_find(s->checkpoint, i);
        source->busy = false;
        if (!source->written.joined || source->written.gone) /* the spool has told of it */
            source->born_ns = crashdisk_now_ns();
    }
}

static void end(struct story *s)
{
    crashdisk_watch(s->disk, NULL, NULL);
    crashdisk_fault(s->disk, (struct crashdisk_fault){0}, 0);
    close_all(s);
}

/* --- steps: the checkpoint --- */

static struct source *some_source(struct story *s)
{
    for (int tries = 0; tries < MODEL_SOURCES; tries++) {
        struct source *source = &s->sources[random_below(&s->random, MODEL_SOURCES)];
        if (source->slot != NULL && !source->busy)
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
    size_t i = random_below(&s->random, MIN(s->source_count + 1, (size_t)MODEL_SOURCES));
    struct source *source = &s->sources[i];
    struct source_id id = {.dev = 1, .ino = i, .head_len = 64};
    char path[PATH_MAX];
    size_t len;

    if (source->slot != NULL || source->noted.gone || source->durable.joined)
        return;
    s->source_count = MAX(s->source_count, i + 1);
    source->noted = (struct said){.joined = true};
    source->noted.place = LINE_LEN * random_below(&s->random, 4);
    if (source->reach == 0) /* what was there before it came is not ours to deliver */
        for (uint64_t n = 0; n < source->noted.place / LINE_LEN; n++)
            source->delivered[n] = true;
    else
        source->noted.place = 0;
    source->reach = MAX(source->reach, source->noted.place);
    source->born_ns = crashdisk_now_ns();
    len = model_path(s, path, i, 0);
    story_tell(s, "join %zu at %" PRIu64, i, source->noted.place);
    MUST(checkpoint_join(s->checkpoint, SLICE("web"), (struct slice){path, len}, &id,
                         model_cursor(i, source->noted.place), &source->slot) == 0);
}

static void note(struct story *s, struct source *source, uint64_t place)
{
    source->noted.place = place;
    source->reach = MAX(source->reach, place);
    checkpoint_note(s->checkpoint, source->slot, model_cursor(number_of(s, source), place));
}

/* Some lines are delivered. */
static void step_note(struct story *s)
{
    struct source *source = some_source(s);
    uint64_t from, to;

    if (source == NULL)
        return;
    from = source->noted.place / LINE_LEN;
    to = MIN(from + 1 + random_below(&s->random, 20), (uint64_t)MODEL_LINES);
    for (uint64_t n = from; n < to; n++)
        source->delivered[n] = true;
    story_tell(s, "note %zu at %" PRIu64, number_of(s, source), to * LINE_LEN);
    note(s, source, to * LINE_LEN);
}

static void step_rename(struct story *s)
{
    struct source *source = some_source(s);
    char path[PATH_MAX];
    size_t i, len;

    if (source == NULL)
        return;
    i = number_of(s, source);
    source->noted.version++;
    source->version_max = MAX(source->version_max, source->noted.version);
    len = model_path(s, path, i, source->noted.version);
    story_tell(s, "rename %zu to %u", i, source->noted.version);
    MUST(checkpoint_describe(s->checkpoint, source->slot, (struct slice){path, len},
                             checkpoint_id(source->slot)) == 0);
}

static void step_leave(struct story *s)
{
    struct source *source = some_source(s);

    if (source == NULL)
        return;
    story_tell(s, "leave %zu", number_of(s, source));
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

    story_tell(s, "write");
    s->news_ns = INT64_MAX; /* it may be found in the middle of it */
    r = checkpoint_write(s->checkpoint);
    s->news_ns = crashdisk_now_ns();
    if (r < 0)
        story_tell(s, "… %s", strerror(-r));
    else
        was_written(s);
}

/* What happens on the lane while a job runs. */
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
    story_tell(s, "job");
    MUST(checkpoint_job_begin(s->checkpoint) == 0);
    s->weak = true; /* maybe: what is written now may go to a generation that is not the newest */
    for (size_t i = 0; i < s->source_count; i++)
        s->sources[i].begun = s->sources[i].written;
    news(s);
    s->news_ns = INT64_MAX;
    checkpoint_job_run(s->checkpoint);
    s->news_ns = crashdisk_now_ns();
    news(s);
    s->news_ns = INT64_MAX;
    r = checkpoint_job_end(s->checkpoint);
    s->news_ns = crashdisk_now_ns();
    s->weak = false;
    story_tell(s, "job: %s", strerror(-r));
    for (size_t i = 0; i < s->source_count; i++) {
        struct source *source = &s->sources[i];

        /* There may be a new generation, to which what was written meanwhile could not be
         * written. */
        if (r < 0) {
            source->written = source->begun;
            continue;
        }
        if (!checkpoint_is_dirty(s->checkpoint))
            source->written = source->noted;
        source->durable = source->begun;
        if (!checkpoint_is_dirty(s->checkpoint) && !checkpoint_wants_job(s->checkpoint))
            source->durable = source->noted;
    }
    if (r == 0)
        try_crashes(s);
}

static void step_complete(struct story *s)
{
    story_tell(s, "complete");
    checkpoint_complete(s->checkpoint);
}

/* --- steps: the spool --- */

/* Some lines of some sources, as a batch that is given up. */
static struct frame *new_frame(struct story *s)
{
    struct frame *f = &s->frames[s->frame_count];
    size_t parts = 1 + random_below(&s->random, MODEL_PARTS);

    if (s->frame_count == MODEL_FRAMES)
        return NULL;
    *f = (struct frame){.state = FRAME_BEGUN};
    for (size_t i = 0; i < parts; i++) {
        struct source *source = some_source(s);
        uint64_t from, to;

        if (source == NULL || (from = source->noted.place / LINE_LEN) + 4 > MODEL_LINES)
            continue;
        source->busy = true;
        to = from + 1 + random_below(&s->random, s->wide ? 2 : 4);
        f->parts[f->part_count].source = number_of(s, source);
        f->parts[f->part_count].from = from;
        f->parts[f->part_count].to = to;
        f->parts[f->part_count++].settles = to * LINE_LEN;
        f->record_count += to - from;
    }
    if (f->part_count == 0)
        return NULL;
    s->frame_count++;
    return f;
}

static void begin_frame(struct story *s, struct frame *f)
{
    struct spool_source sources[MODEL_PARTS];
    char paths[MODEL_PARTS][PATH_MAX];
    struct buf facts;

    buf_init(&facts, FACTS_MAX);
    for (size_t i = 0; i < f->part_count; i++) {
        struct source *source = &s->sources[f->parts[i].source];

        source->reach = MAX(source->reach, f->parts[i].settles);
        sources[i].flow = checkpoint_flow(source->slot);
        sources[i].path = checkpoint_path(source->slot, paths[i]);
        MUST(checkpoint_tell(source->slot, model_cursor(f->parts[i].source, f->parts[i].settles),
                             &facts) == 0);
    }
    MUST(spool_frame_begin(s->spool, f - s->frames, sources, f->part_count, buf_slice(&facts)) ==
         0);
    buf_done(&facts);
}

static void add_records(struct story *s, const struct frame *f)
{
    for (size_t i = 0; i < f->part_count; i++)
        for (uint64_t n = f->parts[i].from; n < f->parts[i].to; n++)
            MUST(spool_add_record(s->spool, &(struct spool_record){
                                                .source = (uint16_t)i,
                                                .offset = n * LINE_LEN,
                                                .end = (n + 1) * LINE_LEN,
                                                .key = model_key(f->parts[i].source, n),
                                                .data = model_data(s, f->parts[i].source, n),
                                            }) == 0);
}

static void write_acks(struct story *s)
{
    if (spool_write_acks(s->spool) < 0)
        return;
    story_tell(s, "acks are written");
    for (size_t i = 0; i < s->frame_count; i++)
        s->frames[i].ack = s->frames[i].ack == ACK_SAID ? ACK_WRITTEN : s->frames[i].ack;
}

/* One job, with a frame or without. */
static void spool_job(struct story *s, struct frame *f)
{
    uint64_t serial;
    int r;

    story_tell(s, f != NULL ? "put frame %zu" : "tidy", f != NULL ? (size_t)(f - s->frames) : 0);
    write_acks(s);
    spool_job_begin(s->spool);
    for (size_t i = 0; i < s->frame_count; i++)
        s->frames[i].ack_begun = s->frames[i].ack == ACK_WRITTEN;
    news(s);
    if (f != NULL)
        add_records(s, f);
    spool_job_run(s->spool);
    news(s);
    r = spool_job_end(s->spool, &serial);
    story_tell(s, "put: %s, frame %" PRIu64, strerror(-r), serial);
    if (f == NULL && serial != 0)
        story_violation(s, "a frame that was not put is durable");
    if (f != NULL && (serial != 0) != (r == 0))
        story_violation(s, "a frame is durable and failed");

    /* What a failed sync has lost of acknowledgements is not written again: it costs duplicates. */
    if (spool_stats(s->spool)->error == 0 && !spool_wants_job(s->spool) &&
        crashdisk_failed(s->disk) == s->failed_crash)
        for (size_t i = 0; i < s->frame_count; i++)
            if (s->frames[i].ack_begun)
                s->frames[i].ack = ACK_DURABLE;
    if (f == NULL)
        return;
    f->state = r == 0 ? FRAME_DURABLE : FRAME_FAILED;
    f->serial = serial;
    for (size_t i = 0; i < f->part_count; i++) {
        struct source *source = &s->sources[f->parts[i].source];

        source->busy = false;
        if (r == 0)
            note(s, source, f->parts[i].settles);
    }
    if (r == 0)
        MUST(checkpoint_note_spool(s->checkpoint, SLICE(MODEL_SPOOL), serial) == 0);
    try_crashes(s);
}

static void step_put(struct story *s)
{
    struct frame *f;

    if (!s->spools || spool_has_room(s->spool, 1 << 20) < 0)
        return;
    f = new_frame(s);
    if (f == NULL)
        return;
    begin_frame(s, f);
    spool_job(s, f);
}

static void step_tidy(struct story *s)
{
    if (s->spools && spool_wants_job(s->spool))
        spool_job(s, NULL);
}

/* Some frames are given out. */
static void step_drain(struct story *s)
{
    uint64_t count = 1 + random_below(&s->random, 8);
    struct spool_frame f;
    int r = 1;

    if (!s->spools)
        return;
    for (; count > 0 && (r = spool_read(s->spool, &f)) == 1; count--) {
        struct frame *frame = model_check_frame(s, &f);

        story_tell(s, "drain: frame %" PRIu64, f.serial);
        /* Acknowledgements that cannot be read keep nobody waiting. */
        if (frame->given ||
            (frame->ack != ACK_NONE && crashdisk_failed(s->disk) == s->failed_before))
            story_violation(s, "frame %" PRIu64 " is given out twice", f.serial);
        frame->given = true;
        frame->serial = f.serial;
    }
    if (r < 0)
        story_tell(s, "drain: %s", strerror(-r));
    if (r < 0 && crashdisk_failed(s->disk) == s->failed_before)
        story_violation(s, "the spool cannot be read: %s", strerror(-r));
    if (r != 0 || crashdisk_failed(s->disk) > s->failed_before)
        return;
    for (size_t i = 0; i < s->frame_count; i++)
        if (s->frames[i].state == FRAME_DURABLE && s->frames[i].ack == ACK_NONE &&
            !s->frames[i].given)
            story_violation(s, "frame %" PRIu64 " is not given out", s->frames[i].serial);
}

/* Some of what was given out is delivered. */
static void step_ack(struct story *s)
{
    if (!s->spools)
        return;
    for (size_t i = 0; i < s->frame_count; i++) {
        struct frame *f = &s->frames[i];

        if (!f->given || f->ack != ACK_NONE || !chance(s, 60))
            continue;
        story_tell(s, "ack: frame %" PRIu64, f->serial);
        for (size_t k = 0; k < f->part_count; k++)
            for (uint64_t n = f->parts[k].from; n < f->parts[k].to; n++)
                s->sources[f->parts[k].source].delivered[n] = true;
        f->ack = ACK_SAID;
        f->delivered = true;
        spool_ack(s->spool, f->serial);
    }
    if (chance(s, 70))
        write_acks(s);
}

/* --- steps: what happens to both --- */

static void step_flush(struct story *s)
{
    story_tell(s, "flush");
    crashdisk_flush(s->disk);
}

static void step_fault(struct story *s)
{
    if (s->faulty)
        some_fault(s);
}

/* A frame that could neither be synced nor taken away: who starts after a kill reads it from the
 * kernel's memory, syncs it without an error, and it is not on the disk.  Against that there is
 * no means. */
static bool is_haunted(const struct story *s)
{
    for (size_t i = 0; i < s->frame_count; i++)
        if (s->frames[i].state == FRAME_FAILED)
            return crashdisk_failed(s->disk) - s->failed_crash > 1;
    return false;
}

/* Others fill the disk, or make room again. */
static void step_full(struct story *s)
{
    uint64_t more = random_below(&s->random, 4) == 0 ? 0 : random_below(&s->random, 2000);

    if (!s->fills)
        return;
    s->full = !s->full;
    story_tell(s, s->full ? "full but for %" PRIu64 " bytes" : "not full any more", more);
    crashdisk_limit(s->disk, s->full ? crashdisk_used(s->disk) + more : UINT64_MAX);
}

static void step_kill(struct story *s)
{
    bool twice = crashdisk_failed(s->disk) - s->failed_before > 1;

    if (is_haunted(s))
        return;
    story_tell(s, "kill");
    try_crashes(s);
    end(s);

    /* When a generation that is not sure to be durable cannot be taken away, either, what was
     * written to the one before is not read. */
    start(s, twice ? FLOOR_DURABLE : FLOOR_WRITTEN, false);
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
    story_tell(s, "crash: %u %zu, seed %" PRIx64, how.mode, how.which, how.seed);
    crashed = crashdisk_crash(s->disk, how);
    end(s);
    crashdisk_free(s->disk);
    s->disk = crashed;
    start(s, FLOOR_DURABLE, true);
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
    story_tell(s, "outgrow");
    id = *checkpoint_id(source->slot);
    crashdisk_watch(s->disk, NULL, NULL);
    s->news_ns = INT64_MAX;
    for (int n = 0; n < LARGE_TIMES && r == 0; n++) {
        size_t len = model_path(s, path, 0, ++source->noted.version);

        source->version_max = MAX(source->version_max, source->noted.version);

        MUST(checkpoint_describe(s->checkpoint, source->slot, (struct slice){path, len}, &id) == 0);
        r = checkpoint_write(s->checkpoint);
    }
    s->news_ns = crashdisk_now_ns();
    crashdisk_flush(s->disk); /* or each crash would make all of it anew */
    if (r == 0)
        was_written(s);
    crashdisk_watch(s->disk, story_before, s);
    if (chance(s, 50))
        crashdisk_fault(s->disk,
                        (struct crashdisk_fault){random_below(&s->random, 10),
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
    {step_join, 10},  {step_note, 20},    {step_rename, 5}, {step_leave, 3},
    {step_write, 25}, {step_job, 20},     {step_kill, 3},   {step_crash, 3},
    {step_fault, 10}, {step_complete, 2}, {step_flush, 3},  {step_full, 3},
    {step_put, 30},   {step_drain, 12},   {step_ack, 12},   {step_tidy, 15},
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

static void tell_story(uint64_t seed, int spool, bool large, bool verbose, uint64_t *states,
                       uint64_t *starts)
{
    struct story *s = calloc(1, sizeof *s);
    uint64_t seen[SEEN_ROOM];

    MUST(s != NULL);
    s->random.state = s->seed = seed;
    s->verbose = verbose;
    s->faulty = chance(s, 50);
    s->fills = s->faulty && chance(s, 50);
    s->spools = spool < 0 ? chance(s, 75) : spool == 1;
    s->large = large || seed % LARGE_EACH == 0;
    s->wide = s->spools && !s->large && seed % WIDE_EACH == 0;
    s->seen = seen;
    s->disk = crashdisk_new();

    /* On a full disk a generation goes on after a crash, whose seed is then that of the facts
     * that the crash has taken: what keeps these away is that its blocks are set aside. */
    if (s->fills)
        crashdisk_clear(s->disk);
    start(s, FLOOR_DURABLE, true);
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
    bool verbose = false, large = false;
    int spool = -1;

    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t n = strtoull(argv[i + 1], NULL, 10);

        if (strcmp(argv[i], "--seed") == 0)
            seed = n;
        else if (strcmp(argv[i], "--count") == 0)
            count = n;
        else if (strcmp(argv[i], "--states") == 0)
            states_max = n;
        else if (strcmp(argv[i], "--spool") == 0)
            spool = n != 0;
        else if (strcmp(argv[i], "--large") == 0)
            large = n != 0;
        else if (strcmp(argv[i], "--verbose") == 0)
            verbose = n != 0;
        else
            MUST(!"an option that is known");
    }
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 28); /* large contents come and go */
    while (stories < count && states < states_max)
        tell_story(seed + stories++, spool, large, verbose, &states, &starts);
    printf("%" PRIu64 " crash states, %" PRIu64 " starts, %" PRIu64 " stories, 0 violations\n",
           states, starts, stories);
    return 0;
}
