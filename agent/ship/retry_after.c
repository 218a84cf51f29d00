#include "ship/retry_after.h"

#include "util.h"

#include <curl/curl.h>
#include <stdbool.h>

enum { DATE_MAX = 64 }; /* "Sun, 06 Nov 1994 08:49:37 GMT" and the two older forms have less */

/* Digits only, and something of them; what is too large for a wait is the longest wait. */
static bool read_number(struct slice s, uint32_t unit_ms, uint32_t *ret_ms)
{
    uint64_t n = 0;

    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        n = MIN(n * 10 + (uint64_t)(s.ptr[i] - '0'), (uint64_t)RETRY_AFTER_MAX_MS);
    }
    *ret_ms = (uint32_t)MIN(n * unit_ms, (uint64_t)RETRY_AFTER_MAX_MS);
    return true;
}

/* libcurl reads all three forms of RFC 9110, 5.6.7, whatever the locale, but also much that is none:
 * "20261121" is a date to it.  All three begin with a day's name. */
static bool read_date(struct slice s, int64_t *ret_ms)
{
    char text[DATE_MAX];
    time_t at;

    if (s.len == 0 || s.len >= sizeof text || s.ptr[0] < 'A' || s.ptr[0] > 'Z' ||
        memchr(s.ptr, '\0', s.len) != NULL)
        return false;
    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    at = curl_getdate(text, NULL);
    if (at < 0)
        return false;
    *ret_ms = (int64_t)at * 1000;
    return true;
}

uint32_t retry_after_ms(const struct retry_after *from, int64_t wall_ms)
{
    int64_t now_ms = wall_ms, then_ms;
    uint32_t ms;

    if (read_number(from->amz, 1, &ms) || read_number(from->http, 1000, &ms))
        return ms;
    if (!read_date(from->http, &then_ms))
        return 0;
    (void)read_date(from->date, &now_ms);
    if (then_ms <= now_ms)
        return 0;
    return (uint32_t)MIN(then_ms - now_ms, (int64_t)RETRY_AFTER_MAX_MS);
}
