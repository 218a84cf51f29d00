/* roll -- appends numbered lines to a log at an even rate, and rotates it, until told to stop.
 *
 *     roll FILE LINES_PER_SECOND LINE_BYTES ROTATE_BYTES KEEP [LINES]
 *
 * The lines are those of numbered.h, from 1.  A hundred times a second all that are due are written
 * at once; a moment is counted from the start, so delays do not add up.  LINES_PER_SECOND 0: as fast
 * as it goes.  When ROTATE_BYTES are reached (0: never), FILE.1 becomes FILE.2 and so on, FILE becomes
 * FILE.1, and what would be FILE.(KEEP + 1) is deleted.
 *
 * Ends after LINES, or at SIGTERM, and prints how many lines were written. */
#include "numbered.h"
#include "util.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    STEPS_PER_SECOND = 100,
    CHUNK_LINES = 1024, /* of one write(2) at most */
    RATE_MAX = 10 * 1000 * 1000,
    KEEP_MAX = 100000,
    NS_PER_S = 1000 * 1000 * 1000,
};

struct roll {
    const char *path;
    int fd;
    uint64_t rate, line_bytes, rotate_bytes, keep, lines_max;
    uint64_t lines, file_bytes;
    char *chunk; /* owns */
};

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);

    if (*end != '\0' || n < min || n > max)
        errx(2, "%s: want a number from %" PRIu64 " to %" PRIu64, text, min, max);
    return n;
}

static void open_file(struct roll *r)
{
    r->fd = open(r->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (r->fd < 0)
        err(1, "%s", r->path);
    r->file_bytes = 0;
}

static void generation(const struct roll *r, uint64_t n, char *ret_path)
{
    if (snprintf(ret_path, PATH_MAX, "%s.%" PRIu64, r->path, n) >= PATH_MAX)
        errx(1, "%s: too long", r->path);
}

static void rotate(struct roll *r)
{
    char from[PATH_MAX], to[PATH_MAX];
    uint64_t n = 1;

    close(r->fd);
    for (generation(r, n, to); n < r->keep && access(to, F_OK) == 0; generation(r, n, to))
        n++;
    if (n == r->keep && unlink(to) < 0 && errno != ENOENT)
        err(1, "%s", to);
    for (; n > 1; n--) {
        generation(r, n - 1, from);
        generation(r, n, to);
        if (rename(from, to) < 0)
            err(1, "%s", from);
    }
    generation(r, 1, to);
    if (rename(r->path, to) < 0)
        err(1, "%s", r->path);
    open_file(r);
}

static void write_lines(struct roll *r, uint64_t count)
{
    size_t len = count * r->line_bytes;

    for (uint64_t i = 0; i < count; i++) {
        char *line = r->chunk + i * r->line_bytes;

        numbered_line(line, r->line_bytes - 1, ++r->lines);
        line[r->line_bytes - 1] = '\n';
    }
    if (write(r->fd, r->chunk, len) != (ssize_t)len)
        err(1, "%s", r->path);
    r->file_bytes += len;
    if (r->rotate_bytes > 0 && r->file_bytes >= r->rotate_bytes)
        rotate(r);
}

static void run(struct roll *r)
{
    uint64_t start_ns = now_ns();

    for (uint64_t step = 1; !stopped && r->lines < r->lines_max; step++) {
        uint64_t due = r->lines_max;

        if (r->rate > 0) {
            uint64_t moment_ns = start_ns + step * (NS_PER_S / STEPS_PER_SECOND);
            struct timespec t = {(time_t)(moment_ns / NS_PER_S), (long)(moment_ns % NS_PER_S)};

            if (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
                continue;
            due = MIN(r->lines_max, step * r->rate / STEPS_PER_SECOND);
        }
        while (!stopped && r->lines < due) {
            uint64_t left = due - r->lines;

            write_lines(r, MIN(left, CHUNK_LINES));
        }
    }
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = stop};
    struct roll r = {0};

    if (argc < 6 || argc > 7) {
        fprintf(stderr, "usage: roll FILE LINES_PER_SECOND LINE_BYTES ROTATE_BYTES KEEP [LINES]\n");
        return 2;
    }
    r.path = argv[1];
    r.rate = number(argv[2], 0, RATE_MAX);
    r.line_bytes = number(argv[3], NUMBERED_MIN + 1, NUMBERED_MAX);
    r.rotate_bytes = number(argv[4], 0, UINT64_MAX);
    r.keep = number(argv[5], 1, KEEP_MAX);
    r.lines_max = argc == 7 ? number(argv[6], 1, UINT64_MAX) : UINT64_MAX;
    r.chunk = malloc(CHUNK_LINES * r.line_bytes);
    if (r.chunk == NULL || sigaction(SIGTERM, &action, NULL) < 0)
        err(1, "start");
    open_file(&r);
    run(&r);
    close(r.fd);
    free(r.chunk);
    printf("lines %" PRIu64 "\n", r.lines);
    return 0;
}
