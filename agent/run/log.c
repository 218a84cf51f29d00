#include "run/log.h"

#include "util.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 2048 };

static enum log_level log_level_max = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    log_level_max = level;
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LOG_LINE_MAX];
    va_list args;
    size_t len;
    int n;

    if (level > log_level_max)
        return;
    n = snprintf(line, sizeof line, "<%d>", (int)level);
    len = (size_t)n;
    va_start(args, format);
    n = vsnprintf(line + len, sizeof line - len - 1, format, args);
    va_end(args);
    if (n < 0)
        return;
    len = MIN(len + (size_t)n, sizeof line - 2);

    /* A file may be called anything, "\n<0>all is well" too. */
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    line[len++] = '\n';

    /* Nobody reads?  Then there is nobody to tell, and delivery must not wait until somebody does.
     * (A pipe that polls as writable takes PIPE_BUF bytes at once, pipe(7).) */
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&out, 1, 0) != 1 || (out.revents & POLLOUT) == 0)
        return;
    if (write(STDERR_FILENO, line, len) < 0)
        return;
}

bool log_limit_pass(struct log_limit *l, uint64_t now_ms, uint64_t interval_ms, uint64_t *ret_held)
{
    if (now_ms < l->next_ms) {
        l->held++;
        return false;
    }
    *ret_held = l->held;
    l->held = 0;
    l->next_ms = now_ms + interval_ms;
    return true;
}
