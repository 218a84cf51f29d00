/* histories -- random lives of log files and of the agent, against what must arrive.
 *
 *     histories [--seed N] [--count N] [--wild PERCENT] [--rotated PERCENT]
 *               [--only STEP,STEP] [--without STEP,STEP] [--keep 1] [--shrink 0] [--lines N]
 *               [--globs N] [--events N] [--headed PERCENT]
 *
 * A history is a few dozen steps, chosen by the weights in steps.c; what must arrive is what the
 * model (model.h) says.  In the end everything works again, the agent is started once more, and each
 * line has arrived as the model allows.  One seed is one history, always; `--seed N` alone tells its story,
 * with `--count` it is the first seed of many.  A history that fails is told without the steps that
 * it fails without as well.
 *
 *     --only      these steps, beside write and pass;  --without  all but these
 *     --keep 1    its directory stays; its name is printed
 *     --lines N   at most so many lines in one write;  --globs N  these of enum history_globs
 *     --wild      how many of a hundred histories are wild (25)
 *     --events N  lines become records so: of enum history_events (0: each one)
 *     --rotated   how many have `rotated` globs (25)
 *     --headed    how many of a hundred logs begin each of their files with the same lines (30)
 *     KT_SIM_VERBOSE=1 in the environment: what the agent says, between the lines of the story
 *
 * Ordinarily an agent that runs gets a millisecond to look between two changes; in wild histories it
 * may be frozen for any number of them. */

#include "history.h"
#include "steps.h"

#include "map.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    STEPS = 60,
    HISTORY_S = 120,   /* a history that takes longer hangs */
    SHRINK_RUNS = 600, /* before it is told as it is */
    WILD_TICKS = 30,   /* percent of the steps in wild histories that begin with a tick */
    BAD_MAX = 10,      /* is enough for a person */
};

struct options {
    uint64_t seed, count;
    struct history_options history;
    bool one, shrink;
    const char *only, *without;
};

static struct story *story; /* shared with the child */

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
    if (o->only != NULL && !k->basic && !is_among(o->only, k->name))
        return 0;
    return is_among(o->without, k->name) ? 0 : k->weight;
}

static void make_steps(const struct options *o, uint64_t seed, struct step steps[STEPS])
{
    struct random r = {map_hash_u64(seed)};
    unsigned sum = 0;

    for (size_t i = 0; i < steps_count; i++)
        sum += weight(o, &steps_kinds[i]);
    for (size_t i = 0; i < STEPS; i++) {
        uint64_t what = random_below(&r, sum);
        const struct kind *k = steps_kinds;

        for (; what >= weight(o, k); k++)
            what -= weight(o, k);
        steps[i] = (struct step){k, random_next(&r), false};
    }
}

static void tell(const struct options *o, uint64_t seed, const struct step steps[STEPS])
{
    static struct history h;

    history_begin(&h, &o->history, seed, story);
    for (size_t i = 0; i < STEPS; i++) {
        const struct kind *k = steps[i].kind;
        bool frozen = h.wild || h.frozen > 0;

        h.args = (struct random){steps[i].seed};
        if (steps[i].left_out)
            continue;
        if (k->change && !frozen && h.model.alive)
            history_pass(&h, 1);
        if (h.wild && history_chance(&h, WILD_TICKS))
            sim_tick();
        if (k->tell(&h, (unsigned)history_arg(&h, HISTORY_LOGS)) && k->change && h.frozen > 0)
            h.frozen--;
        history_born(&h);
        if (!h.model.alive)
            h.frozen = 0;
    }
    history_finish(&h);
    history_judge(&h);
    history_done(&h);
}

/* Tells it in a child: a history may crash the agent, or hang it. */
static enum verdict tell_apart(const struct options *o, uint64_t seed,
                               const struct step steps[STEPS])
{
    pid_t child;
    int status;

    story->verdict = VERDICT_CRASHED;
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
        story->verdict = VERDICT_CRASHED;
    return story->verdict;
}

/* Leaves out what it fails without as well. */
static void shrink(struct options *o, uint64_t seed, struct step steps[STEPS], enum verdict as)
{
    unsigned runs = 0, lines_max = o->history.lines_max;
    bool again = true;

    for (unsigned few = 1; few <= 8; few *= 8) {
        o->history.lines_max = few;
        if (tell_apart(o, seed, steps) == as)
            break;
        o->history.lines_max = lines_max;
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

/* The clock, the network and the service are ours, but births and events are the kernel's, whose clock
 * goes on while a busy machine makes us wait.  What is well whenever it is told again is said and
 * counted; more than one in a run is bad. */
static bool is_well_again(const struct options *o, uint64_t seed, const struct step steps[STEPS])
{
    for (int i = 0; i < 4; i++)
        if (tell_apart(o, seed, steps) != VERDICT_WELL)
            return false;
    return true;
}

/* Tells one history; true if all is well. */
static bool tell_one(struct options o, uint64_t seed, unsigned *ret_once)
{
    static const char *const words[] = {"is well", "crashes or hangs the agent", "is torn", "loses",
                                        "repeats"};
    struct step steps[STEPS];
    enum verdict verdict;

    make_steps(&o, seed, steps);
    verdict = tell_apart(&o, seed, steps);
    if (verdict != VERDICT_WELL && !o.one && is_well_again(&o, seed, steps)) {
        printf("history %llu %s, once in five times\n", (unsigned long long)seed, words[verdict]);
        return ++*ret_once <= 1;
    }
    if (verdict != VERDICT_WELL && o.shrink && !o.history.keep) {
        unsigned failed = 0;

        shrink(&o, seed, steps, verdict);
        for (int i = 0; i < 3; i++)
            failed += tell_apart(&o, seed, steps) == verdict;
        printf("history %llu %s; shrunk, it does so %u times in 3:\n", (unsigned long long)seed,
               words[verdict], failed);
    } else if (verdict != VERDICT_WELL) {
        printf("history %llu %s:\n", (unsigned long long)seed, words[verdict]);
    }
    if (verdict != VERDICT_WELL || o.one)
        printf("%.*s  %u lines, %u lost, %u torn, %u twice\n\n", (int)story->len, story->text,
               story->lines, story->lost, story->torn, story->twice);
    fflush(stdout);
    return verdict == VERDICT_WELL;
}

int main(int argc, char **argv)
{
    struct options o = {
        .seed = 1,
        .count = 1000,
        .history = {.wild = 25,
                    .rotated = 25,
                    .headed = 30,
                    .lines_max = 800,
                    .globs = GLOBS_COUNT,
                    .events = EVENTS_LINES},
        .shrink = true,
    };
    uint64_t bad = 0, told = 0;
    unsigned once = 0;
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
            o.history.wild = (unsigned)number;
        } else if (value != NULL && strcmp(name, "--rotated") == 0) {
            o.history.rotated = (unsigned)number;
        } else if (value != NULL && strcmp(name, "--globs") == 0) {
            o.history.globs = (unsigned)number;
        } else if (value != NULL && strcmp(name, "--events") == 0) {
            o.history.events = (unsigned)number;
        } else if (value != NULL && strcmp(name, "--headed") == 0) {
            o.history.headed = (unsigned)number;
        } else if (value != NULL && strcmp(name, "--lines") == 0) {
            o.history.lines_max = (unsigned)MAX(number, UINT64_C(1));
        } else if (value != NULL && strcmp(name, "--only") == 0) {
            o.only = value;
        } else if (value != NULL && strcmp(name, "--without") == 0) {
            o.without = value;
        } else if (value != NULL && strcmp(name, "--keep") == 0) {
            o.history.keep = number > 0;
        } else if (value != NULL && strcmp(name, "--shrink") == 0) {
            o.shrink = number > 0;
        } else {
            fprintf(stderr,
                    "usage: histories [--seed N] [--count N] [--wild PERCENT] [--rotated "
                    "PERCENT]\n       [--only STEP,...] [--without STEP,...] [--keep 1] "
                    "[--shrink 0] [--lines N] [--globs N] [--events N] [--headed PERCENT]\nsteps:");
            for (size_t k = 0; k < steps_count; k++)
                fprintf(stderr, " %s", steps_kinds[k].name);
            fprintf(stderr, "\n");
            return 2;
        }
        counted = counted || strcmp(name, "--count") == 0;
    }
    o.one = o.one && !counted;
    if (o.one)
        o.count = 1;
    story = mmap(NULL, sizeof *story, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (story == MAP_FAILED) {
        perror("histories: mmap");
        return 2;
    }
    for (; told < o.count && bad < BAD_MAX; told++)
        bad += !tell_one(o, o.seed + told, &once);
    printf("%llu histories, %llu bad\n", (unsigned long long)told, (unsigned long long)bad);
    return bad > 0;
}
