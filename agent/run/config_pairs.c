#include "run/config_key_inner.h"
#include "run/judge.h"

#include <ctype.h>
#include <libconfig.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Names are free here, so they are either names as libconfig has them, of the members of a group, or
 * texts, in a list of groups of two.  What is read does not remember which. */

enum { VALUE_BYTES_MAX = 4095, NAME_BYTES_MAX = 1024, NUMBER_SIZE = 40 };

static void pair_done(struct config_pair *p)
{
    free(p->name);
    free(p->value);
}

void config_pairs_clear(struct config_pairs *p)
{
    for (size_t i = 0; i < p->count; i++)
        pair_done(&p->items[i]);
    free(p->items);
    *p = (struct config_pairs){0};
}

static bool pairs_have(const struct config_pairs *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++) {
        if (strcmp(p->items[i].name, name) == 0)
            return true;
    }
    return false;
}

static const char *check_name(const struct config_pairs *among, const char *name)
{
    if (name[0] == '\0')
        return "is empty; write a field's name";
    if (strlen(name) > NAME_BYTES_MAX)
        return "is too long for a field's name";
    if (pairs_have(among, name))
        return "stands here twice; keep only one of the two";
    return judge_field_name(name);
}

static const char *print_float(double value, char number[static NUMBER_SIZE])
{
    if (!isfinite(value))
        return "is too large for a number; put it in quotes";
    (void)snprintf(number, NUMBER_SIZE, "%.15g", value);
    if (strtod(number, NULL) != value)
        (void)snprintf(number, NUMBER_SIZE, "%.17g", value);
    if (value == 0)
        (void)snprintf(number, NUMBER_SIZE, "0"); /* and not -0, which reads back as an integer */
    return NULL;
}

/* A value without quotes, as JSON has it. */
static const char *print_literal(const config_setting_t *s, char number[static NUMBER_SIZE])
{
    long long value;

    switch (config_setting_type(s)) {
    case CONFIG_TYPE_BOOL:
        (void)snprintf(number, NUMBER_SIZE, config_setting_get_bool(s) ? "true" : "false");
        return NULL;
    case CONFIG_TYPE_INT:
        (void)snprintf(number, NUMBER_SIZE, "%d", config_setting_get_int(s));
        return NULL;
    case CONFIG_TYPE_INT64:
        value = config_setting_get_int64(s);
        (void)snprintf(number, NUMBER_SIZE, "%lld", value);
        /* What does not fit arrives as the last number that does. */
        return value == LLONG_MAX || value == LLONG_MIN
                   ? "is too large for a number; put it in quotes"
                   : NULL;
    case CONFIG_TYPE_FLOAT:
        return print_float(config_setting_get_float(s), number);
    default:
        return "has the wrong type; write a text in quotes, a number, true or false";
    }
}

static const char *take_value(const struct config_key *k, const config_setting_t *s,
                              struct config_pair *to, struct config_room *room)
{
    const char *text = config_setting_get_string(s), *wrong;
    char number[NUMBER_SIZE];
    unsigned word;

    if (text == NULL && !k->literals)
        return "has the wrong type; write a text in quotes";
    if (text == NULL)
        wrong = print_literal(s, number);
    else if (k->words != NULL)
        wrong = config_find_word(k, text, &word, room);
    else
        wrong = config_check_text(k, text, k->min, VALUE_BYTES_MAX, room);
    if (wrong != NULL)
        return wrong;
    to->literal = text == NULL;
    to->value = strdup(text != NULL ? text : number);
    return to->value != NULL ? NULL : config_out_of_memory;
}

/* Of a pair that is well by itself: two fields cannot have one name afterwards. */
static const char *check_rename(const struct config_pairs *among, const struct config_pair *pair,
                                struct config_room *room)
{
    char quoted[CONFIG_QUOTE_SIZE];

    if (strcmp(pair->name, pair->value) == 0)
        return "is its own name; remove this, or write another";
    for (size_t i = 0; i < among->count; i++) {
        if (strcmp(among->items[i].value, pair->value) != 0)
            continue;
        (void)snprintf(room->text, sizeof room->text,
                       "is what '%s' is called already; choose another name for one of the two",
                       config_quote(among->items[i].name, quoted));
        return room->text;
    }
    return NULL;
}

/* One pair on its way in. */
struct entry {
    const config_setting_t *at, *value;
    const char *name;
    char path[CONFIG_PATH_SIZE];
};

static bool pair_read(const struct config_key *k, const struct entry *e, struct config_pairs *to,
                      const struct config_scene *scene)
{
    struct config_pair *pair = &to->items[to->count];
    const char *wrong = check_name(to, e->name), *text;
    char quoted[CONFIG_QUOTE_SIZE];
    struct config_room room;

    *pair = (struct config_pair){0};
    if (wrong != NULL) {
        config_scene_mistake(scene, e->at, e->path, "the name '%s' %s",
                             config_quote(e->name, quoted), wrong);
        return false;
    }
    wrong = take_value(k, e->value, pair, &room);
    pair->name = strdup(e->name);
    if (wrong == NULL && pair->name != NULL && k->renames)
        wrong = check_rename(to, pair, &room);
    if (wrong == config_out_of_memory || pair->name == NULL) {
        scene->mistakes->lost = true;
    } else if (wrong != NULL) {
        text = config_setting_get_string(e->value);
        config_scene_mistake(scene, e->value, e->path, "%s%s%s%s", text != NULL ? "'" : "",
                             text != NULL ? config_quote(text, quoted) : "",
                             text != NULL ? "' " : "", wrong);
    } else {
        to->count++;
        return true;
    }
    pair_done(pair);
    return false;
}

/* { name = "x"; value = "y"; } in a list.  False: it is something else, and that has been said. */
static bool entry_of_element(const config_setting_t *s, struct entry *e,
                             const struct config_scene *scene)
{
    const config_setting_t *name = NULL;

    e->at = s;
    if (config_setting_is_group(s)) {
        name = config_setting_get_member(s, "name");
        e->value = config_setting_get_member(s, "value");
    }
    e->name = name != NULL ? config_setting_get_string(name) : NULL;
    if (e->name != NULL && e->value != NULL && config_setting_length(s) == 2)
        return true;
    config_scene_mistake(scene, s, e->path,
                         "is not a pair; write { name = \"...\"; value = \"...\"; }");
    return false;
}

void config_pairs_read(const struct config_key *k, const struct config_setting_t *setting,
                       struct config_pairs *to, const struct config_scene *scene)
{
    unsigned count = (unsigned)config_setting_length(setting);
    struct config_pairs pairs = {0};
    bool well = true;

    if (count > k->max) {
        config_scene_mistake(scene, setting, k->path, "has more than %llu names",
                             (unsigned long long)k->max);
        return;
    }
    pairs.items = calloc(count + 1U, sizeof *pairs.items);
    if (pairs.items == NULL) {
        scene->mistakes->lost = true;
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        const config_setting_t *s = config_setting_get_elem(setting, i);
        struct entry e = {.at = s, .value = s, .name = config_setting_name(s)};

        if (config_setting_is_group(setting)) {
            (void)snprintf(e.path, sizeof e.path, "%s.%s", k->path, e.name);
        } else {
            (void)snprintf(e.path, sizeof e.path, "%s[%u]", k->path, i);
            if (!entry_of_element(s, &e, scene)) {
                well = false;
                continue;
            }
        }
        well = pair_read(k, &e, &pairs, scene) && well;
    }
    if (well) {
        config_pairs_clear(to);
        *to = pairs;
    } else {
        config_pairs_clear(&pairs);
    }
}

/* Could it stand before an = ? */
static bool is_plain_name(const char *name)
{
    if ((!isalpha((unsigned char)name[0]) && name[0] != '*') || strcasecmp(name, "true") == 0 ||
        strcasecmp(name, "false") == 0)
        return false;
    for (const char *p = name; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("-_*", *p) == NULL)
            return false;
    }
    return true;
}

static void print_value(const struct config_pair *p, FILE *to)
{
    if (p->literal)
        fputs(p->value, to);
    else
        config_print_text(p->value, to);
}

void config_pairs_print(const struct config_pairs *p, FILE *to)
{
    bool plain = true;

    for (size_t i = 0; i < p->count; i++)
        plain = plain && is_plain_name(p->items[i].name);
    fputs(plain ? "{" : "(", to);
    for (size_t i = 0; i < p->count; i++) {
        if (plain) {
            fprintf(to, " %s = ", p->items[i].name);
            print_value(&p->items[i], to);
            fputs(";", to);
        } else {
            fputs(i > 0 ? ", { name = " : " { name = ", to);
            config_print_text(p->items[i].name, to);
            fputs("; value = ", to);
            print_value(&p->items[i], to);
            fputs("; }", to);
        }
    }
    fputs(plain ? " }" : " )", to);
}
