/* log -- one line for a person, to standard error with a <n> priority (sd-daemon(3)).
 *
 *   1. A line says the noun, what failed, on what, why, and what we do about it.
 *   2. What we carry is never logged; control characters in names are shown as '?'.
 *   3. What can repeat goes through a log_limit, which says how often it was held back.
 *
 * The level is the one process-wide setting: it is written once, before any lane starts.
 * Threads: any; one write(2) a line. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

/* Lines above this level are not written. */
void log_set_level(enum log_level level);

__attribute__((format(printf, 2, 3))) void log_line(enum log_level level, const char *format, ...);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)

/* Lets one line through per interval.  The zero value lets the first one through. */
struct log_limit {
    uint64_t next_ms;
    uint64_t held;
};

/* True if the line may be written now; then *ret_held is how many were held back before. */
bool log_limit_pass(struct log_limit *l, uint64_t now_ms, uint64_t interval_ms, uint64_t *ret_held);

#endif
