#include "run/config_key_inner.h"

#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

enum { ELEMENT_BYTES_MAX = 4095 }; /* PATH_MAX without its zero: no file has a longer name */

void config_texts_clear(struct config_texts *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->items[i]);
    free(t->items);
    *t = (struct config_texts){0};
}

static bool texts_have(const struct config_texts *t, const char *text)
{
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(t->items[i], text) == 0)
            return true;
    }
    return false;
}

static const char *element_read(const struct config_key *k, const config_setting_t *e,
                                struct config_texts *to, struct config_room *room)
{
    const char *text = config_setting_get_string(e), *wrong;

    if (text == NULL)
        return "is not a text; put it in quotes";
    wrong = config_check_text(k, text, k->empties ? 0 : 1, ELEMENT_BYTES_MAX, room);
    if (wrong != NULL)
        return wrong;
    if (k->unique && texts_have(to, text))
        return "stands in this list already; keep only one of the two";
    to->items[to->count] = strdup(text);
    if (to->items[to->count] == NULL)
        return config_out_of_memory;
    to->count++;
    return NULL;
}

/* Goes through all elements, also after a wrong one. */
void config_texts_read(const struct config_key *k, const struct config_setting_t *setting,
                       struct config_texts *to, const struct config_scene *scene)
{
    unsigned count = (unsigned)config_setting_length(setting);
    struct config_texts texts = {0};
    bool well = count >= k->min;

    if (!well)
        config_scene_mistake(scene, setting, k->path,
                             "the list is empty; write at least one text into it");
    if (count > k->max) {
        config_scene_mistake(scene, setting, k->path, "the list has more than %llu texts",
                             (unsigned long long)k->max);
        return;
    }
    texts.items = calloc(count + 1U, sizeof *texts.items);
    if (texts.items == NULL) {
        scene->mistakes->lost = true;
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        const config_setting_t *e = config_setting_get_elem(setting, i);
        char path[CONFIG_PATH_SIZE], quoted[CONFIG_QUOTE_SIZE];
        struct config_room room;
        const char *wrong = element_read(k, e, &texts, &room);
        const char *text = config_setting_get_string(e);

        if (wrong == NULL)
            continue;
        well = false;
        (void)snprintf(path, sizeof path, "%s[%u]", k->path, i);
        config_scene_mistake(scene, e, path, "%s%s%s %s", text != NULL ? "'" : "",
                             text != NULL ? config_quote(text, quoted) : "this",
                             text != NULL ? "'" : "", wrong);
    }
    if (well) {
        config_texts_clear(to);
        *to = texts;
    } else {
        config_texts_clear(&texts);
    }
}

void config_texts_print(const struct config_texts *t, FILE *to)
{
    fputs("[", to);
    for (size_t i = 0; i < t->count; i++) {
        fputs(i > 0 ? ", " : " ", to);
        config_print_text(t->items[i], to);
    }
    fputs(" ]", to);
}
