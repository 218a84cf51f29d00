#include "run/config_key_inner.h"
#include "run/guess.h"

#include <assert.h>
#include <errno.h>
#include <libconfig.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* A list in the configuration, whatever its elements are. */
struct list {
    char *items;
    size_t count;
};

/* A pointer is copied by its bytes: it has another type in the configuration. */
#define LIST_IS_LIKE(type)                                                                         \
    static_assert(offsetof(struct type, count) == offsetof(struct list, count) &&                  \
                      sizeof(struct type) == sizeof(struct list),                                  \
                  "see struct list")
LIST_IS_LIKE(config_redacts);
LIST_IS_LIKE(config_converts);

static struct list list_get(const void *from)
{
    struct list l;

    memcpy(&l, from, sizeof l);
    return l;
}

static void list_clear(const struct config_group *g, struct list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        for (size_t row = 0; row < g->count; row++)
            config_key_clear(&g->rows[row], l->items + i * g->size);
    }
    free(l->items);
    *l = (struct list){0};
}

void config_groups_clear(const struct config_key *k, void *to)
{
    struct list l = list_get(to);

    list_clear(k->group, &l);
    memcpy(to, &l, sizeof l);
}

/* --- reading -------------------------------------------------------------------------------- */

static void read_member(const struct config_group *g, const config_setting_t *s, void *element,
                        const struct config_scene *scene)
{
    const char *name = config_setting_name(s);
    const struct config_key *near = guess_key(g->rows, g->count, name);

    for (size_t i = 0; i < g->count; i++) {
        if (strcmp(g->rows[i].path, name) == 0) {
            config_key_read(&g->rows[i], s, element, scene);
            return;
        }
    }
    if (near != NULL)
        config_scene_mistake(scene, s, name, "is not a setting here; did you mean '%s'?",
                             near->path);
    else
        config_scene_mistake(scene, s, name, "is not a setting here; write %s", g->example);
}

/* What the rows cannot know each by itself. */
static void check_element(const struct config_group *g, const config_setting_t *s,
                          const void *element, const struct config_scene *scene)
{
    const char *path = NULL, *wrong = NULL;
    size_t before = scene->mistakes->count;
    struct config_room room;

    for (size_t i = 0; i < g->count; i++) {
        const struct config_key *k = &g->rows[i];
        const config_setting_t *written = config_setting_get_member(s, k->path);

        if (k->required && written == NULL)
            config_scene_mistake(scene, s, k->path, "is missing here; write %s", g->example);
        else if (written != NULL && g->idle != NULL &&
                 (wrong = g->idle(element, k, room.text)) != NULL)
            config_scene_mistake(scene, written, k->path, "%s", wrong);
    }
    if (g->judge == NULL || scene->mistakes->count > before)
        return;
    wrong = g->judge(element, &path, room.text);
    if (wrong != NULL) {
        const config_setting_t *written = config_setting_get_member(s, path);
        config_scene_mistake(scene, written != NULL ? written : s, path, "%s", wrong);
    }
}

static int preset_element(const struct config_group *g, void *element)
{
    int r = 0;

    for (size_t i = 0; i < g->count && r == 0; i++)
        r = config_key_preset(&g->rows[i], element);
    return r;
}

static void read_element(const struct config_group *g, const config_setting_t *s, void *element,
                         const struct config_scene *scene)
{
    size_t before = scene->mistakes->count;

    if (preset_element(g, element) < 0) {
        scene->mistakes->lost = true;
        return;
    }
    for (int i = 0; i < config_setting_length(s); i++)
        read_member(g, config_setting_get_elem(s, (unsigned)i), element, scene);
    if (scene->mistakes->count == before)
        check_element(g, s, element, scene);
}

void config_groups_read(const struct config_key *k, const struct config_setting_t *setting,
                        void *to, const struct config_scene *scene)
{
    const struct config_group *g = k->group;
    struct list l = {.count = (size_t)config_setting_length(setting)};
    size_t before = scene->mistakes->count;

    if (l.count > k->max) {
        config_scene_mistake(scene, setting, k->path, "the list has more than %llu groups",
                             (unsigned long long)k->max);
        return;
    }
    l.items = calloc(l.count + 1, g->size);
    if (l.items == NULL) {
        scene->mistakes->lost = true;
        return;
    }
    for (size_t i = 0; i < l.count; i++) {
        const config_setting_t *s = config_setting_get_elem(setting, (unsigned)i);
        char path[CONFIG_PATH_SIZE], prefix[2 * CONFIG_PATH_SIZE];
        struct config_scene inner = *scene;

        (void)snprintf(path, sizeof path, "%s[%zu]", k->path, i);
        (void)snprintf(prefix, sizeof prefix, "%s%s.", scene->prefix, path);
        inner.prefix = prefix;
        if (config_setting_is_group(s))
            read_element(g, s, l.items + i * g->size, &inner);
        else
            config_scene_mistake(scene, s, path, "is not a group; write %s", g->example);
    }
    if (scene->mistakes->count == before && !scene->mistakes->lost) {
        config_groups_clear(k, to);
        memcpy(to, &l, sizeof l);
    } else {
        list_clear(g, &l);
    }
}

/* --- writing -------------------------------------------------------------------------------- */

static void print_element(const struct config_group *g, const void *element, FILE *to)
{
    struct config_room room;

    fputs("{", to);
    for (size_t i = 0; i < g->count; i++) {
        const struct config_key *k = &g->rows[i];

        if (!config_key_has_value(k, element) ||
            (g->idle != NULL && g->idle(element, k, room.text) != NULL))
            continue;
        fprintf(to, " %s = ", k->path);
        config_key_print(k, element, to);
        fputs(";", to);
    }
    fputs(" }", to);
}

void config_groups_print(const struct config_key *k, const void *from, FILE *to)
{
    struct list l = list_get(from);

    fputs("(", to);
    for (size_t i = 0; i < l.count; i++) {
        fputs(i > 0 ? ", " : " ", to);
        print_element(k->group, l.items + i * k->group->size, to);
    }
    fputs(" )", to);
}
