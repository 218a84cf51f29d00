#include "run/guess.h"

#include "run/config.h"
#include "util.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_LEN = 40 };

static size_t min3(size_t a, size_t b, size_t c)
{
    return MIN(a, MIN(b, c));
}

/* Letters to add, drop or change (Levenshtein), capitals aside. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_LEN + 1], len = strlen(b);

    if (strlen(a) > NAME_MAX_LEN || len > NAME_MAX_LEN)
        return SIZE_MAX;
    for (size_t j = 0; j <= len; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= len; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            size_t changed = diagonal + (same ? 0 : 1);
            diagonal = row[j];
            row[j] = min3(row[j] + 1, row[j - 1] + 1, changed);
        }
    }
    return row[len];
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

const struct config_key *guess_key(const struct config_key *rows, size_t count, const char *path)
{
    const char *dot = strrchr(path, '.');
    size_t len = strlen(dot != NULL ? dot + 1 : path);
    size_t best = len <= 3 ? 2 : len / 3 + 2; /* nearer than that */
    const struct config_key *found = NULL;

    for (size_t i = 0; i < count; i++) {
        size_t d = guess_distance(rows[i].path, path);
        if (d < best) {
            best = d;
            found = &rows[i];
        }
    }
    return found;
}
