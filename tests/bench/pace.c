/* pace -- appends stamped lines to a file at an even rate.
 *
 *     pace FILE LINES_PER_SECOND SECONDS [LINE_BYTES]
 *
 * Each line is one write(2) and begins with the CLOCK_MONOTONIC time, in ns, just before it.  A
 * line's moment is counted from the start, not from the line before, so delays do not add up; a
 * late line goes out at once.  Prints how many lines were written and the worst delay. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE_DEFAULT = 200,
    LINE_MIN = 32, /* the stamp, a blank and the newline must fit */
    LINE_MAX_BYTES = 4096,
    RATE_MAX = 1000 * 1000,
    SECONDS_MAX = 24 * 3600,
    NS_PER_S = 1000 * 1000 * 1000,
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t moment_ns)
{
    struct timespec t = {(time_t)(moment_ns / NS_PER_S), (long)(moment_ns % NS_PER_S)};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);

    if (*end != '\0' || n < min || n > max)
        errx(2, "%s: want a number from %" PRIu64 " to %" PRIu64, text, min, max);
    return n;
}

int main(int argc, char **argv)
{
    char line[LINE_MAX_BYTES];
    uint64_t rate, seconds, start_ns, worst_ns = 0;
    size_t line_len = LINE_DEFAULT;
    int fd;

    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: pace FILE LINES_PER_SECOND SECONDS [LINE_BYTES]\n");
        return 2;
    }
    rate = number(argv[2], 1, RATE_MAX);
    seconds = number(argv[3], 1, SECONDS_MAX);
    if (argc == 5)
        line_len = (size_t)number(argv[4], LINE_MIN, LINE_MAX_BYTES);
    fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        err(1, "%s", argv[1]);

    /* The default slack of 50 us would be a twentieth of the step at 1,000 lines/s. */
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    memset(line, '.', sizeof line);
    line[line_len - 1] = '\n';

    start_ns = now_ns();
    for (uint64_t i = 0; i < rate * seconds; i++) {
        uint64_t moment_ns = start_ns + i * NS_PER_S / rate, stamp_ns;
        char digits[24];
        int n;

        sleep_until(moment_ns);
        stamp_ns = now_ns();
        n = snprintf(digits, sizeof digits, "%020" PRIu64 " ", stamp_ns);
        memcpy(line, digits, (size_t)n);
        if (write(fd, line, line_len) != (ssize_t)line_len)
            err(1, "%s", argv[1]);
        if (stamp_ns - moment_ns > worst_ns)
            worst_ns = stamp_ns - moment_ns;
    }
    close(fd);
    printf("lines %" PRIu64 "\nworst_delay_us %" PRIu64 "\n", rate * seconds, worst_ns / 1000);
    return 0;
}
