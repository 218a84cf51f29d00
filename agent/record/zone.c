#include "record/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    NAME_LEN_MAX = 64, /* the longest in the database has half of that */

    /* The time between two looks for a change.  Changes that undo each other between two looks
     * would be missed: the closest in the database (2025b) are not quite 7 days apart: Brazil. */
    LOOK_S = 2 * 86400,
};

#define FIRST_S INT64_C(0)          /* 1970-01-01 */
#define END_S   INT64_C(4102444800) /* 2100-01-01 */

struct change {
    int64_t utc_s;
    int64_t local_s; /* from here on clocks can only show the new time: see zone_to_utc */
    int32_t offset_s;
};

struct zone {
    int32_t first_offset_s;
    size_t count, cap;
    struct change *changes; /* owns; in the order of time */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_char(char c)
{
    return is_digit(c) || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
           c == '-' || c == '+';
}

/* "+02", "+0200", "+02:00". */
static int read_offset(struct slice name, int32_t *ret)
{
    bool has_colon = name.len == 6 && name.ptr[3] == ':';
    int digits[4] = {0};
    size_t count = 0;

    if (name.len != 3 && name.len != 5 && !has_colon)
        return -EINVAL;
    for (size_t i = 1; i < name.len; i++) {
        if (i == 3 && has_colon)
            continue;
        if (!is_digit(name.ptr[i]))
            return -EINVAL;
        digits[count++] = name.ptr[i] - '0';
    }
    if (digits[0] * 10 + digits[1] > 23 || digits[2] > 5)
        return -EINVAL;
    *ret = (digits[0] * 10 + digits[1]) * 3600 + (digits[2] * 10 + digits[3]) * 60;
    if (name.ptr[0] == '-')
        *ret = -*ret;
    return 0;
}

/* Whether the database has the zone.  glibc would not say: what it does not know is UTC to it. */
static int find(struct slice name)
{
    const char *dir = getenv("TZDIR"); /* as glibc does */
    char path[PATH_MAX], head[4];
    ssize_t n;
    int fd;

    /* Letters, with single slashes between them: nothing that leads out of the directory.  What is
     * below right/ counts leap seconds, which a log's times do not. */
    if (name.len == 0 || name.len > NAME_LEN_MAX || slice_starts_with(name, SLICE("right/")))
        return -EINVAL;
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_char(name.ptr[i]) &&
            (name.ptr[i] != '/' || i == 0 || i == name.len - 1 || name.ptr[i - 1] == '/'))
            return -EINVAL;

    if (dir == NULL || dir[0] == '\0')
        dir = "/usr/share/zoneinfo";
    if (snprintf(path, sizeof path, "%s/%.*s", dir, SLICE_ARG(name)) >= (int)sizeof path)
        return -ENAMETOOLONG;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ENOTDIR ? -ENOENT : -errno;
    n = read(fd, head, sizeof head);
    if (n < 0)
        n = errno == EISDIR ? 0 : -errno;
    (void)close(fd);
    if (n < 0)
        return (int)n;
    return n == sizeof head && memcmp(head, "TZif", sizeof head) == 0 ? 0 : -ENOENT; /* RFC 8536 */
}

static int32_t ask(int64_t utc_s)
{
    time_t t = (time_t)utc_s;
    struct tm tm;

    if (localtime_r(&t, &tm) == NULL) /* only for years that an int cannot hold */
        return 0;
    return (int32_t)tm.tm_gmtoff;
}

static int add_change(struct zone *z, int64_t utc_s, int32_t before_s, int32_t after_s)
{
    if (z->count == z->cap) {
        size_t cap = z->cap == 0 ? 64 : 2 * z->cap;
        struct change *changes = realloc(z->changes, cap * sizeof *changes);

        if (changes == NULL)
            return -ENOMEM;
        z->changes = changes;
        z->cap = cap;
    }

    /* Put forward, clocks skip from utc + before to utc + after; put back, they show what is
     * between utc + after and utc + before twice.  Both are read with the offset from before. */
    z->changes[z->count++] = (struct change){
        .utc_s = utc_s,
        .local_s = utc_s + (before_s > after_s ? before_s : after_s),
        .offset_s = after_s,
    };
    return 0;
}

/* Fills the table with what glibc says at present. */
static int ask_all(struct zone *z)
{
    int32_t offset_s = ask(FIRST_S);

    z->first_offset_s = offset_s;
    for (int64_t seen = FIRST_S; seen < END_S - 1;) {
        int64_t next = seen + LOOK_S < END_S ? seen + LOOK_S : END_S - 1;
        int64_t before = seen, after = next; /* the change is in (before, after] */
        int32_t next_s = ask(next);
        int r;

        seen = next;
        if (next_s == offset_s)
            continue;
        while (after - before > 1) {
            int64_t middle = before + (after - before) / 2;

            if (ask(middle) == offset_s)
                before = middle;
            else
                after = middle;
        }

        /* Were there two changes since the last look, the other one is found next. */
        next_s = ask(after);
        r = add_change(z, after, offset_s, next_s);
        if (r < 0)
            return r;
        offset_s = next_s;
        seen = after;
    }
    return 0;
}

/* Fills the table as if TZ were `name`. */
static int ask_all_of(struct zone *z, struct slice name)
{
    static char ours[sizeof "TZ=:" + NAME_LEN_MAX] =
        "TZ=:/etc/localtime"; /* the environment's now */
    char *was = getenv("TZ");
    int r;

    if (putenv(ours) != 0) /* in place of what was there, if something was */
        return -ENOMEM;
    (void)snprintf(ours, sizeof ours, "TZ=:%.*s", SLICE_ARG(name));
    tzset();
    r = ask_all(z);

    (void)snprintf(ours, sizeof ours, "TZ=:/etc/localtime");
    if (was != NULL && was != ours + 3)
        (void)putenv(was - 3); /* "TZ=", as it stood there before; replaces, so it cannot fail */
    tzset();
    return r;
}

int zone_new(struct slice name, struct zone **ret)
{
    struct zone *z = calloc(1, sizeof *z);
    int r = 0;

    if (z == NULL)
        return -ENOMEM;
    if (name.len > 0 && (name.ptr[0] == '+' || name.ptr[0] == '-')) {
        r = read_offset(name, &z->first_offset_s);
    } else if (slice_equal(name, SLICE("local"))) {
        tzset();
        r = ask_all(z);
    } else if (!slice_equal(name, SLICE("UTC"))) { /* which all zeros are, without a database */
        r = find(name);
        if (r == 0)
            r = ask_all_of(z, name);
    }
    if (r < 0)
        goto out;
    *ret = z;
    return 0;
out:
    zone_free(z);
    return r;
}

int32_t zone_offset_utc(const struct zone *z, int64_t utc_s)
{
    size_t low = 0, high = z->count; /* changes[low - 1] has happened, changes[high] has not */

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (z->changes[middle].utc_s <= utc_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low == 0 ? z->first_offset_s : z->changes[low - 1].offset_s;
}

int64_t zone_to_utc(const struct zone *z, int64_t local_s, int32_t *ret_offset_s)
{
    size_t low = 0, high = z->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (z->changes[middle].local_s <= local_s)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_offset_s = low == 0 ? z->first_offset_s : z->changes[low - 1].offset_s;
    return local_s - *ret_offset_s;
}

void zone_free(struct zone *z)
{
    if (z == NULL)
        return;
    free(z->changes);
    free(z);
}
