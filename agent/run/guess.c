#include "run/guess.h"

#include "run/config.h"
#include "util.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_LEN = 40 };

static size_t min3(size_t a, size_t b, size_t c)
{
    return MIN(a, MIN(b, c));
}

static bool same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* Letters to add, drop, change, or swap with their neighbour (Damerau), capitals aside. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][NAME_MAX_LEN + 1], len_a = strlen(a), len_b = strlen(b);

    if (len_a > NAME_MAX_LEN || len_b > NAME_MAX_LEN)
        return SIZE_MAX;
    for (size_t j = 0; j <= len_b; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= len_a; i++) {
        size_t *row = rows[i % 3], *above = rows[(i - 1) % 3];
        row[0] = i;
        for (size_t j = 1; j <= len_b; j++) {
            row[j] = min3(row[j - 1] + 1, above[j] + 1, above[j - 1] + !same(a[i - 1], b[j - 1]));
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
                row[j] = MIN(row[j], rows[(i - 2) % 3][j - 2] + 1);
        }
    }
    return rows[len_a % 3][len_b];
}

size_t guess_distance(const char *path, const char *written)
{
    const char *dot = strrchr(path, '.'), *last = strrchr(written, '.');
    size_t whole = edit_distance(path, written), head = SIZE_MAX;
    char group[NAME_MAX_LEN + 1];

    if (dot == NULL)
        return last == NULL ? whole : MIN(whole, edit_distance(path, last + 1));
    if (last == NULL) { /* the group itself may be meant */
        (void)snprintf(group, sizeof group, "%.*s", (int)(dot - path), path);
        head = edit_distance(group, written);
    }
    return min3(whole, head, edit_distance(dot + 1, last != NULL ? last + 1 : written));
}

/* Whether all but their last words are the same. */
static bool is_beside(const char *path, const char *written)
{
    const char *a = strrchr(path, '.'), *b = strrchr(written, '.');
    size_t len = a != NULL ? (size_t)(a - path) : 0;

    return len == (b != NULL ? (size_t)(b - written) : 0) && strncmp(path, written, len) == 0;
}

const struct config_key *guess_key(const struct config_key *rows, size_t count, const char *path)
{
    const char *dot = strrchr(path, '.');
    size_t len = strlen(dot != NULL ? dot + 1 : path);
    size_t best = 2 * (len <= 3 ? 2 : len / 3 + 2); /* nearer than that */
    const struct config_key *found = NULL;

    for (size_t i = 0; i < count; i++) {
        size_t d = guess_distance(rows[i].path, path);
        /* Of two that are as near, the one in the same group. */
        if (d < best && 2 * d + !is_beside(rows[i].path, path) < best) {
            best = 2 * d + !is_beside(rows[i].path, path);
            found = &rows[i];
        }
    }
    return found;
}
