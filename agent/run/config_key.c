#include "run/config_key.h"

#include "run/config.h"
#include "run/judge.h"
#include "run/sheet.h"
#include "run/units.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUOTE_SIZE = 84, /* room for the part of a wrong text that a sentence shows */
    WHY_SIZE = 256,
    PATH_BYTES_MAX = 4095, /* PATH_MAX without its zero: no file has a longer name */
};

/* All conversions report in one way: NULL, or what is wrong, as the rest of a sentence.  It is
 * constant, or written into `room`. */
struct room {
    char text[WHY_SIZE];
};

static const char out_of_memory[] = "cannot be kept: out of memory";

static const char *const type_names[] = {
    [CONFIG_TEXT] = "a text in quotes",
    [CONFIG_TEXTS] = "a list of texts, as in [ \"a\", \"b\" ]",
    [CONFIG_FLAG] = "true or false",
    [CONFIG_WORD] = "a word in quotes",
    [CONFIG_COUNT] = "a whole number, without quotes",
    [CONFIG_BYTES] = "a size, such as \"64KiB\"",
    [CONFIG_TIME] = "a time with its unit, such as \"1.5s\"",
    [CONFIG_PARTITION] = "\"random\", \"file\" or \"const:TEXT\"",
};

/* A flag without words of its own is true or false, and then has no quotes. */
static const char *const *words_of(const struct config_key *k)
{
    static const char *const truth[] = {"false", "true", NULL};

    return k->words != NULL ? k->words : truth;
}

static void *member(const struct config_key *k, void *base)
{
    return (char *)base + k->offset;
}

static const void *member_const(const struct config_key *k, const void *base)
{
    return (const char *)base + k->offset;
}

/* A partition key is two members, found from the first. */
static struct config_flow *flow_of(const struct config_key *k, void *base)
{
    assert(k->offset == offsetof(struct config_flow, key_kind));
    return base;
}

static void text_free(char *text, bool secret)
{
    if (text != NULL && secret)
        explicit_bzero(text, strlen(text));
    free(text);
}

/* A wrong text as a sentence may show it: one line, not too long, nothing that moves a cursor. */
static const char *quote(const char *text, char quoted[static QUOTE_SIZE])
{
    size_t len = strlen(text), n = 0;

    for (; n < len && n < QUOTE_SIZE - 4; n++) {
        unsigned char c = (unsigned char)text[n];
        quoted[n] = c < ' ' || c >= 0x7F ? '?' : (char)c;
    }
    for (size_t dots = 0; n < len && dots < 3; dots++)
        quoted[QUOTE_SIZE - 4 + dots] = '.';
    quoted[n < len ? QUOTE_SIZE - 1 : n] = '\0';
    return quoted;
}

void config_scene_mistake(const struct config_scene *scene, const struct config_setting_t *setting,
                          const char *path, const char *format, ...)
{
    unsigned line = config_setting_source_line(setting);
    /* The grammar has to read on after a text, in case another follows that belongs to it; so a
     * text in a list has the line of what comes next. */
    bool late =
        config_setting_name(setting) == NULL && config_setting_type(setting) == CONFIG_TYPE_STRING;
    struct sheet_place place =
        sheet_place(scene->sheet, late ? sheet_text_before(scene->sheet, line) : line);
    char key[CONFIG_PATH_SIZE], sentence[1024];
    va_list args;

    (void)snprintf(key, sizeof key, "%s%s", scene->prefix, path);
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    config_mistakes_add(scene->mistakes, place.file, place.line, key, "%s", sentence);
}

/* --- from a value to its member ------------------------------------------------------------- */

static void format_limit(const struct config_key *k, uint64_t value,
                         char text[static UNITS_TEXT_SIZE])
{
    if (k->type == CONFIG_BYTES)
        units_format_bytes(value, text);
    else if (k->type == CONFIG_TIME)
        units_format_time(value, text);
    else
        (void)snprintf(text, UNITS_TEXT_SIZE, "%" PRIu64, value);
}

static const char *set_number(const struct config_key *k, void *base, uint64_t value,
                              struct room *room)
{
    char min[UNITS_TEXT_SIZE], max[UNITS_TEXT_SIZE];

    if (value < k->min || value > k->max) {
        format_limit(k, k->min, min);
        format_limit(k, k->max, max);
        (void)snprintf(room->text, sizeof room->text, "is out of range; give a value from %s to %s",
                       min, max);
        return room->text;
    }
    if (k->type == CONFIG_COUNT)
        *(uint32_t *)member(k, base) = (uint32_t)value;
    else
        *(uint64_t *)member(k, base) = value;
    return NULL;
}

static const char *check_text(const struct config_key *k, const char *text, uint64_t min,
                              uint64_t max, struct room *room)
{
    size_t len = strlen(text);

    if (len == 0 && min > 0)
        return "is empty; write a text, or remove the setting";
    if (len > max) {
        (void)snprintf(room->text, sizeof room->text, "is longer than %" PRIu64 " bytes", max);
        return room->text;
    }
    return len > 0 && k->judge != NULL ? k->judge(text) : NULL;
}

static const char *set_text(const struct config_key *k, void *base, const char *text,
                            struct room *room)
{
    const char *wrong = check_text(k, text, k->min, k->max, room);
    char **to = member(k, base), *copy;

    if (wrong != NULL)
        return wrong;
    copy = strdup(text);
    if (copy == NULL)
        return out_of_memory;
    text_free(*to, k->secret);
    *to = copy;
    return NULL;
}

/* FLAG and WORD: the value is the word's place among the words. */
static const char *set_word(const struct config_key *k, void *base, const char *text,
                            struct room *room)
{
    const char *const *words = words_of(k);
    int used = snprintf(room->text, sizeof room->text, "is not known here; write");

    for (unsigned i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], text) == 0) {
            if (k->type == CONFIG_FLAG)
                *(bool *)member(k, base) = i != 0;
            else
                memcpy(member(k, base), &i, sizeof i); /* an enum is an unsigned here */
            return NULL;
        }
        used += snprintf(room->text + used, sizeof room->text - (size_t)used, "%s \"%s\"",
                         i == 0                 ? ""
                         : words[i + 1] == NULL ? " or"
                                                : ",",
                         words[i]);
        assert(used > 0 && (size_t)used < sizeof room->text);
    }
    return room->text;
}

static_assert(sizeof(enum config_log_level) == sizeof(unsigned), "see set_word");

static const char *set_partition(const struct config_key *k, void *base, const char *text)
{
    static const char const_prefix[] = "const:";
    struct config_flow *f = flow_of(k, base);
    enum config_key_kind kind = CONFIG_KEY_RANDOM;
    char *copy = NULL;

    if (strncmp(text, const_prefix, sizeof const_prefix - 1) == 0) {
        const char *wrong = judge_partition(text + sizeof const_prefix - 1);
        if (wrong != NULL)
            return wrong;
        kind = CONFIG_KEY_CONST;
        copy = strdup(text + sizeof const_prefix - 1);
        if (copy == NULL)
            return out_of_memory;
    } else if (strcmp(text, "file") == 0) {
        kind = CONFIG_KEY_FILE;
    } else if (strcmp(text, "random") != 0) {
        return "is not known here; write \"random\", \"file\" or \"const:TEXT\"";
    }
    free(f->key_text);
    f->key_text = copy;
    f->key_kind = kind;
    return NULL;
}

static const char *set_units(const struct config_key *k, void *base, const char *text,
                             struct room *room)
{
    bool time = k->type == CONFIG_TIME;
    struct slice s = slice_of(text);
    uint64_t value = 0;
    int r = time ? units_parse_time(s, &value) : units_parse_bytes(s, &value);

    if (r == -ERANGE)
        return time ? "is not a whole number of milliseconds, or too large"
                    : "is not a whole number of bytes, or too large";
    if (r < 0)
        return time ? "is not a time; write a number and ms, s, m, h or d, as in \"1.5s\""
                    : "is not a size; write a number and B, KiB, MiB, GiB, KB, MB or GB, as in "
                      "\"64KiB\"";
    return set_number(k, base, value, room);
}

static const char *set_from_text(const struct config_key *k, void *base, const char *text,
                                 struct room *room)
{
    switch (k->type) {
    case CONFIG_TEXT:
        return set_text(k, base, text, room);
    case CONFIG_FLAG:
    case CONFIG_WORD:
        return set_word(k, base, text, room);
    case CONFIG_BYTES:
    case CONFIG_TIME:
        return set_units(k, base, text, room);
    case CONFIG_PARTITION:
        return set_partition(k, base, text);
    case CONFIG_COUNT:
    case CONFIG_TEXTS:
        break;
    }
    return NULL;
}

/* --- reading -------------------------------------------------------------------------------- */

static void texts_clear(struct config_texts *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->items[i]);
    free(t->items);
    *t = (struct config_texts){0};
}

static const char *element_read(const struct config_key *k, const config_setting_t *e,
                                struct config_texts *to, struct room *room)
{
    const char *text = config_setting_get_string(e), *wrong;

    if (text == NULL)
        return "is not a text; put it in quotes";
    wrong = check_text(k, text, 1, PATH_BYTES_MAX, room);
    if (wrong != NULL)
        return wrong;
    to->items[to->count] = strdup(text);
    if (to->items[to->count] == NULL)
        return out_of_memory;
    to->count++;
    return NULL;
}

/* Goes through all elements, also after a wrong one. */
static void texts_read(const struct config_key *k, const config_setting_t *setting, void *base,
                       const struct config_scene *scene)
{
    unsigned count = (unsigned)config_setting_length(setting);
    struct config_texts texts = {0}, *to = member(k, base);
    bool well = count >= k->min;

    if (!well)
        config_scene_mistake(scene, setting, k->path,
                             "the list is empty; write at least one text into it");
    if (count > k->max) {
        config_scene_mistake(scene, setting, k->path, "the list is too long; use globs");
        return;
    }
    texts.items = calloc(count + 1U, sizeof *texts.items);
    if (texts.items == NULL) {
        scene->mistakes->lost = true;
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        const config_setting_t *e = config_setting_get_elem(setting, i);
        char path[CONFIG_PATH_SIZE], quoted[QUOTE_SIZE];
        struct room room;
        const char *wrong = element_read(k, e, &texts, &room);
        const char *text = config_setting_get_string(e);

        if (wrong == NULL)
            continue;
        well = false;
        (void)snprintf(path, sizeof path, "%s[%u]", k->path, i);
        config_scene_mistake(scene, e, path, "'%s' %s", text != NULL ? quote(text, quoted) : "this",
                             wrong);
    }
    if (well) {
        texts_clear(to);
        *to = texts;
    } else {
        texts_clear(&texts);
    }
}

static const char *read_integer(const struct config_key *k, const config_setting_t *setting,
                                void *base, struct room *room)
{
    long long value = config_setting_get_int64(setting);

    if (config_setting_type(setting) == CONFIG_TYPE_INT)
        value = config_setting_get_int(setting);
    if (k->type == CONFIG_TIME) {
        (void)snprintf(room->text, sizeof room->text,
                       "has no unit; write \"%llds\" for seconds or \"%lldms\" for milliseconds",
                       value, value);
        return room->text;
    }
    if (value < 0)
        return "is negative; write a positive number";
    return set_number(k, base, (uint64_t)value, room);
}

static bool takes_text(const struct config_key *k)
{
    return k->type != CONFIG_COUNT && k->type != CONFIG_TEXTS &&
           (k->type != CONFIG_FLAG || k->words != NULL);
}

/* What was written, for the sentence. */
static const char *show(const config_setting_t *s, bool secret, char quoted[static QUOTE_SIZE])
{
    if (secret)
        return "the value";
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_INT:
        (void)snprintf(quoted, QUOTE_SIZE, "%d", config_setting_get_int(s));
        return quoted;
    case CONFIG_TYPE_INT64:
        (void)snprintf(quoted, QUOTE_SIZE, "%lld", config_setting_get_int64(s));
        return quoted;
    default: {
        char text[QUOTE_SIZE];
        (void)snprintf(quoted, QUOTE_SIZE, "'%.*s'", QUOTE_SIZE - 3,
                       quote(config_setting_get_string(s), text));
        return quoted;
    }
    }
}

void config_key_read(const struct config_key *k, const struct config_setting_t *setting, void *base,
                     const struct config_scene *scene)
{
    int type = config_setting_type(setting);
    bool integer = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
    bool numeric = k->type == CONFIG_COUNT || k->type == CONFIG_BYTES || k->type == CONFIG_TIME;
    char quoted[QUOTE_SIZE];
    const char *wrong = NULL;
    struct room room;

    if (k->type == CONFIG_TEXTS && (type == CONFIG_TYPE_ARRAY || type == CONFIG_TYPE_LIST)) {
        texts_read(k, setting, base, scene);
        return;
    }
    if (k->type == CONFIG_FLAG && type == CONFIG_TYPE_BOOL && !takes_text(k)) {
        *(bool *)member(k, base) = config_setting_get_bool(setting) != 0;
    } else if (type == CONFIG_TYPE_STRING && takes_text(k)) {
        wrong = set_from_text(k, base, config_setting_get_string(setting), &room);
    } else if (integer && numeric) {
        wrong = read_integer(k, setting, base, &room);
    } else if (k->type == CONFIG_FLAG && takes_text(k)) {
        config_scene_mistake(scene, setting, k->path,
                             "has the wrong type; write %s = \"%s\" or \"%s\"", k->path,
                             k->words[0], k->words[1]);
    } else {
        config_scene_mistake(scene, setting, k->path, "has the wrong type; write %s",
                             type_names[k->type]);
    }
    if (wrong == out_of_memory)
        scene->mistakes->lost = true;
    else if (wrong != NULL)
        config_scene_mistake(scene, setting, k->path, "%s %s", show(setting, k->secret, quoted),
                             wrong);
}

int config_key_preset(const struct config_key *k, void *base)
{
    const char *wrong = NULL;
    struct room room;

    if (k->preset == NULL)
        return 0;
    if (k->type == CONFIG_COUNT)
        wrong = set_number(k, base, strtoull(k->preset, NULL, 10), &room);
    else
        wrong = set_from_text(k, base, k->preset, &room);
    assert(wrong == NULL || wrong == out_of_memory); /* a default is within its own range */
    return wrong == NULL ? 0 : -ENOMEM;
}

/* --- writing and forgetting ----------------------------------------------------------------- */

bool config_key_has_value(const struct config_key *k, const void *base)
{
    return k->type != CONFIG_TEXT || *(char *const *)member_const(k, base) != NULL;
}

static void print_escaped(const char *text, FILE *to)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(to, "\\%c", *p);
        else if ((unsigned char)*p < ' ' || *p == 0x7F)
            fprintf(to, "\\x%02X", (unsigned)(unsigned char)*p);
        else
            fputc(*p, to);
    }
}

static void print_text(const char *prefix, const char *text, FILE *to)
{
    fprintf(to, "\"%s", prefix);
    print_escaped(text, to);
    fputc('"', to);
}

static void print_partition(const struct config_flow *f, FILE *to)
{
    switch (f->key_kind) {
    case CONFIG_KEY_RANDOM:
        print_text("", "random", to);
        return;
    case CONFIG_KEY_FILE:
        print_text("", "file", to);
        return;
    case CONFIG_KEY_CONST:
        print_text("const:", f->key_text, to);
        return;
    }
}

void config_key_print(const struct config_key *k, const void *base, FILE *to)
{
    const void *at = member_const(k, base);
    const struct config_texts *texts = at;
    char number[UNITS_TEXT_SIZE];
    unsigned word;

    switch (k->type) {
    case CONFIG_TEXT:
        print_text("", k->secret ? "********" : *(char *const *)at, to);
        return;
    case CONFIG_TEXTS:
        fputs("[", to);
        for (size_t i = 0; i < texts->count; i++) {
            fputs(i > 0 ? ", " : " ", to);
            print_text("", texts->items[i], to);
        }
        fputs(" ]", to);
        return;
    case CONFIG_FLAG:
        word = *(const bool *)at;
        fprintf(to, takes_text(k) ? "\"%s\"" : "%s", words_of(k)[word]);
        return;
    case CONFIG_WORD:
        memcpy(&word, at, sizeof word);
        print_text("", k->words[word], to);
        return;
    case CONFIG_COUNT:
        fprintf(to, "%" PRIu32, *(const uint32_t *)at);
        return;
    case CONFIG_BYTES:
    case CONFIG_TIME:
        format_limit(k, *(const uint64_t *)at, number);
        print_text("", number, to);
        return;
    case CONFIG_PARTITION:
        print_partition(base, to);
        return;
    }
}

void config_key_clear(const struct config_key *k, void *base)
{
    char **text = member(k, base);

    if (k->type == CONFIG_TEXT) {
        text_free(*text, k->secret);
        *text = NULL;
    } else if (k->type == CONFIG_TEXTS) {
        texts_clear(member(k, base));
    } else if (k->type == CONFIG_PARTITION) {
        free(flow_of(k, base)->key_text);
        flow_of(k, base)->key_text = NULL;
    }
}
