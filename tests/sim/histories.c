/* histories -- random lives of log files and of the agent, against what must arrive.
 *
 *     histories [--seed N] [--count N] [--wild 1]
 *
 * A history is a few dozen steps: lines and half lines are written, files are renamed within and
 * out of the globs, copied and truncated, deleted and made anew; the service throttles, fails, loses
 * answers, is down; the agent is stopped, killed, started; time passes.  In the end everything works
 * again, and every line that was written must have arrived, whole.  It may have arrived twice only if
 * the agent was killed or an answer was lost.  One seed replays one history exactly.
 *
 * Ordinarily an agent that runs gets a millisecond to look between two rotations; in wild histories it
 * may be frozen for any number of them. */

#include "world.h"

#include "buf.h"
#include "map.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINES_MAX = 20000, STEPS = 60, FILES = 3, GENERATIONS = 4 };

/* Where a line is that is in none of the files any more. */
enum { ROTATED = FILES, DELETED, EXCUSED };

struct history {
    struct sim_world world;
    struct random random;
    uint32_t written;         /* lines so far; a line's number is its name */
    uint8_t seen[LINES_MAX];  /* how often each arrived */
    uint8_t place[LINES_MAX]; /* which file it is in, or one of the words below */
    uint32_t torn;            /* records that are no line that was written */
    bool half[FILES];         /* the file ends in a half line */
    uint32_t half_number[FILES];
    uint32_t generation;
    bool killed, wild;
    struct buf story; /* what happened, for a person */
};

static bool chance(struct history *h, unsigned percent)
{
    return random_below(&h->random, 100) < percent;
}

/* A line's text: its number, and letters that follow from it, so that tearing shows. */
static size_t line_text(uint32_t number, char to[128])
{
    size_t len = (size_t)snprintf(to, 128, "%u:", number), fill = number % 60;

    for (size_t i = 0; i < fill; i++)
        to[len++] = (char)('a' + (number + i) % 26);
    to[len++] = '.';
    return len;
}

static void record_stored(void *user, struct slice data, struct slice key)
{
    struct history *h = user;
    char copy[128], want[128];
    uint32_t number;

    (void)key;
    if (data.len >= sizeof copy) {
        h->torn++;
        return;
    }
    memcpy(copy, data.ptr, data.len);
    copy[data.len] = '\0';
    number = (uint32_t)strtoul(copy, NULL, 10);
    if (number >= h->written || line_text(number, want) != data.len ||
        memcmp(want, copy, data.len) != 0) {
        (void)buf_printf(&h->story, "  torn: '%s'\n", copy);
        h->torn++;
        return;
    }
    if (h->seen[number] < UINT8_MAX)
        h->seen[number]++;
}

static const char *file_name(unsigned i)
{
    static const char *const names[FILES] = {"a.log", "b.log", "deep/er/c.log"};

    return names[i];
}

static void append(struct history *h, unsigned i, const char *text, size_t len)
{
    int fd =
        open(sim_path(&h->world, file_name(i)), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (fd < 0 || write(fd, text, len) != (ssize_t)len) {
        perror("histories: append");
        abort();
    }
    close(fd);
}

/* The lines in a file are somewhere else now. */
static void move_lines(struct history *h, unsigned from, unsigned to)
{
    for (uint32_t i = 0; i < h->written; i++)
        if (h->place[i] == from)
            h->place[i] = (uint8_t)to;
}

/* The agent ends.  What it only had in a deleted file nobody can bring back. */
static void excuse_deleted(struct history *h)
{
    for (uint32_t i = 0; i < h->written; i++)
        if (h->place[i] == DELETED && h->seen[i] == 0)
            h->place[i] = EXCUSED;
}

/* Completes the half line, if there is one. */
static void finish_half(struct history *h, unsigned i)
{
    char text[128];
    size_t len, cut;

    if (!h->half[i])
        return;
    len = line_text(h->half_number[i], text);
    cut = len / 2;
    text[len++] = '\n';
    append(h, i, text + cut, len - cut);
    h->half[i] = false;
}

static void write_lines(struct history *h, unsigned i, uint32_t count)
{
    finish_half(h, i);
    for (; count > 0 && h->written < LINES_MAX; count--) {
        char text[128];
        size_t len = line_text(h->written, text);

        h->place[h->written++] = (uint8_t)i;
        text[len++] = '\n';
        append(h, i, text, len);
    }
}

static void write_half(struct history *h, unsigned i)
{
    char text[128];
    size_t len;

    finish_half(h, i);
    if (h->written == LINES_MAX)
        return;
    h->half[i] = true;
    h->half_number[i] = h->written;
    h->place[h->written] = (uint8_t)i;
    len = line_text(h->written++, text);
    append(h, i, text, len / 2);
}

static bool exists(struct history *h, unsigned i)
{
    return access(sim_path(&h->world, file_name(i)), F_OK) == 0;
}

/* The next name a rotation gives: NAME.1, NAME.2, … each only once in a history. */
static void rotated_name(struct history *h, unsigned i, char to[64])
{
    (void)snprintf(to, 64, "%s.%u", file_name(i), ++h->generation);
}

static void rotate(struct history *h, unsigned i, bool into_glob)
{
    char name[64];

    if (!exists(h, i))
        return;
    finish_half(h, i);
    rotated_name(h, i, name);
    if (into_glob)
        (void)snprintf(name, sizeof name, "deep/moved-%u.log", ++h->generation);
    move_lines(h, i, ROTATED);
    if (rename(sim_path(&h->world, file_name(i)), sim_path(&h->world, name)) < 0)
        abort();
}

static void copy_truncate(struct history *h, unsigned i)
{
    char name[64], step[4096];
    int from, to;

    if (!exists(h, i))
        return;
    finish_half(h, i);
    rotated_name(h, i, name);
    from = open(sim_path(&h->world, file_name(i)), O_RDWR | O_CLOEXEC);
    to = open(sim_path(&h->world, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (from < 0 || to < 0)
        abort();
    for (ssize_t n; (n = read(from, step, sizeof step)) > 0;)
        if (write(to, step, (size_t)n) != n)
            abort();
    close(to);
    move_lines(h, i, ROTATED);
    if (ftruncate(from, 0) < 0)
        abort();
    close(from);
}

/* Deletes a file that the agent has seen: nobody can save what was written and deleted unseen. */
static void delete (struct history *h, unsigned i)
{
    if (h->world.lane == NULL || !exists(h, i))
        return;
    finish_half(h, i);
    sim_run(&h->world, 1);
    move_lines(h, i, DELETED);
    if (unlink(sim_path(&h->world, file_name(i))) < 0)
        abort();
}

static void change_faults(struct history *h)
{
    struct sim_faults *f = &h->world.faults;

    *f = (struct sim_faults){0};
    switch (random_below(&h->random, 6)) {
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
}

static void step(struct history *h)
{
    unsigned i = (unsigned)random_below(&h->random, FILES);
    uint64_t what = random_below(&h->random, 100);

    if (!h->wild && what >= 46 && what < 66)
        sim_run(&h->world, 1);
    if (what < 40) {
        uint32_t count = (uint32_t)random_below(&h->random, chance(h, 10) ? 800 : 30);
        (void)buf_printf(&h->story, "  write %u lines to %s from %u\n", count, file_name(i),
                         h->written);
        write_lines(h, i, count);
    } else if (what < 46) {
        (void)buf_printf(&h->story, "  half line %u to %s\n", h->written, file_name(i));
        write_half(h, i);
    } else if (what < 58) {
        bool inside = chance(h, 20);
        (void)buf_printf(&h->story, "  rotate %s%s\n", file_name(i),
                         inside ? " within the globs" : "");
        rotate(h, i, inside);
    } else if (what < 62) {
        (void)buf_printf(&h->story, "  copytruncate %s\n", file_name(i));
        copy_truncate(h, i);
    } else if (what < 66) {
        (void)buf_printf(&h->story, "  delete %s\n", file_name(i));
        delete (h, i);
    } else if (what < 72) {
        change_faults(h);
        (void)buf_printf(&h->story, "  faults: throttle %u fail %u lose %u garbage %u down %d\n",
                         h->world.faults.throttle, h->world.faults.fail,
                         h->world.faults.lose_answer, h->world.faults.garbage,
                         h->world.faults.down);
    } else if (what < 80) {
        if (h->world.lane == NULL) {
            (void)buf_printf(&h->story, "  start\n");
            sim_start(&h->world);
        } else if (chance(h, 60)) {
            (void)buf_printf(&h->story, "  kill\n");
            sim_kill(&h->world);
            h->killed = true;
            excuse_deleted(h);
        } else {
            (void)buf_printf(&h->story, "  stop\n");
            h->killed = h->killed || h->world.faults.down || h->world.faults.fail > 0;
            sim_stop(&h->world);
            excuse_deleted(h);
        }
    } else {
        uint64_t ms = random_below(&h->random, chance(h, 20) ? 5000 : 50);
        (void)buf_printf(&h->story, "  %llu ms pass\n", (unsigned long long)ms);
        sim_run(&h->world, ms);
    }
}

/* Tells one history; true if all is well. */
static bool tell(uint64_t seed, bool wild, bool verbose)
{
    static struct history h;
    uint32_t lost = 0, twice = 0;

    h = (struct history){.random = {map_hash_u64(seed)}, .wild = wild};
    buf_init(&h.story, 1 << 20);
    sim_init(&h.world, map_hash_u64(~seed), "**/*.log",
             "from = \"start\"; batch = { linger = \"20ms\"; };");
    h.world.stored = record_stored;
    h.world.user = &h;
    (void)mkdir(sim_path(&h.world, "deep"), 0755);
    (void)mkdir(sim_path(&h.world, "deep/er"), 0755);
    for (unsigned i = 0; i < FILES; i++)
        write_lines(&h, i, 1);
    sim_start(&h.world); /* what was rotated away before the first start is nobody's */
    for (int i = 0; i < STEPS; i++)
        step(&h);

    /* In the end all is well again. */
    h.world.faults = (struct sim_faults){0};
    for (unsigned i = 0; i < FILES; i++)
        finish_half(&h, i);
    if (h.world.lane == NULL)
        sim_start(&h.world);
    sim_run(&h.world, 200 * 1000);
    for (uint32_t i = 0; i < h.written; i++) {
        twice += h.seen[i] > 1;
        if (h.seen[i] > 0 || h.place[i] == EXCUSED)
            continue;
        if (++lost <= 5)
            (void)buf_printf(&h.story, "  lost: line %u\n", i);
    }

    bool unasked = twice > 0 && !h.killed && h.world.ambiguous == 0;
    bool well = lost == 0 && h.torn == 0 && !unasked;
    if (!well || verbose)
        fprintf(stderr, "history %llu: %u lines, %u lost, %u torn, %u twice%s\n%.*s",
                (unsigned long long)seed, h.written, lost, h.torn, twice,
                unasked ? " for no reason" : "", SLICE_ARG(buf_slice(&h.story)));
    sim_done(&h.world);
    buf_done(&h.story);
    return well;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, count = 1000, bad = 0;
    bool one = false, wild = false;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0) {
            seed = strtoull(argv[i + 1], NULL, 10);
            one = true;
        } else if (strcmp(argv[i], "--count") == 0) {
            count = strtoull(argv[i + 1], NULL, 10);
            one = false;
        } else if (strcmp(argv[i], "--wild") == 0) {
            wild = strcmp(argv[i + 1], "0") != 0;
        } else {
            fprintf(stderr, "usage: histories [--seed N] [--count N] [--wild 1]\n");
            return 2;
        }
    }
    if (one)
        count = 1;
    for (uint64_t i = 0; i < count && bad < 10; i++)
        bad += !tell(seed + i, wild, one);
    printf("%llu histories, %llu bad\n", (unsigned long long)count, (unsigned long long)bad);
    return bad > 0;
}
