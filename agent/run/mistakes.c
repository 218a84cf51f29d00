#include "run/mistakes.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool mistakes_reserve(struct config_mistakes *m)
{
    size_t cap = m->cap == 0 ? 16 : m->cap * 2;
    struct config_mistake *items;

    if (m->count < m->cap)
        return true;
    items = realloc(m->items, cap * sizeof *items);
    if (items == NULL)
        return false;
    m->items = items;
    m->cap = cap;
    return true;
}

static void mistake_done(struct config_mistake *one)
{
    free(one->file);
    free(one->key);
    free(one->sentence);
}

void config_mistakes_add(struct config_mistakes *m, const char *file, unsigned line,
                         const char *key, const char *format, ...)
{
    struct config_mistake one = {.file = strdup(file), .line = line, .key = strdup(key)};
    va_list args;

    va_start(args, format);
    if (vasprintf(&one.sentence, format, args) < 0)
        one.sentence = NULL; /* vasprintf leaves it undefined */
    va_end(args);

    if (one.file == NULL || one.key == NULL || one.sentence == NULL || !mistakes_reserve(m)) {
        mistake_done(&one);
        m->lost = true;
        return;
    }
    m->items[m->count++] = one;
}

void config_mistakes_print(const struct config_mistakes *m, FILE *to)
{
    for (size_t i = 0; i < m->count; i++) {
        const struct config_mistake *one = &m->items[i];

        fputs(one->file, to);
        if (one->line > 0)
            fprintf(to, ":%u", one->line);
        fprintf(to, ": %s%s%s\n", one->key, one->key[0] != '\0' ? ": " : "", one->sentence);
    }
    if (m->lost)
        fputs("out of memory: the list of mistakes is not complete\n", to);
}

void config_mistakes_done(struct config_mistakes *m)
{
    for (size_t i = 0; i < m->count; i++)
        mistake_done(&m->items[i]);
    free(m->items);
    *m = (struct config_mistakes){0};
}
