#include "run/log.h"

#include "buf.h"
#include "escape.h"
#include "utf8.h"
#include "util.h"

#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 2048 };

static enum log_level log_level_max = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    log_level_max = level;
}

/* A file may be called anything, "\n<0>all is well" too.  Returns the length in `to`. */
static size_t make_harmless(struct slice text, char to[PIPE_BUF])
{
    struct buf out;
    size_t len = 0;

    buf_init(&out, ESCAPE_TIMES * LOG_LINE_MAX);
    if (escape_append(&out, text) == 0) {
        len = utf8_cut(buf_slice(&out), PIPE_BUF - 1);
        memcpy(to, out.ptr, len);
    } else { /* no memory, which is just what is to be said */
        for (; len < text.len && len < PIPE_BUF - 1; len++)
            to[len] = text.ptr[len] >= ' ' && text.ptr[len] <= '~' ? text.ptr[len] : '?';
    }
    buf_done(&out);
    return len;
}

void log_line(enum log_level level, const char *format, ...)
{
    char text[LOG_LINE_MAX], line[PIPE_BUF];
    va_list args;
    size_t len;
    int n;

    if (level > log_level_max)
        return;
    n = snprintf(text, sizeof text, "<%d>", (int)level);
    len = (size_t)n;
    va_start(args, format);
    n = vsnprintf(text + len, sizeof text - len, format, args);
    va_end(args);
    if (n < 0)
        return;
    len = make_harmless((struct slice){text, MIN(len + (size_t)n, sizeof text - 1)}, line);
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
