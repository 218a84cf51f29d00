/* config_key_inner -- what the files of config_key share: config_key.c (one value), config_texts.c
 * and config_pairs.c (many), config_groups.c (rows within a row).  Nobody else includes it.
 *
 * Reading: a mistake is added to the scene, and the member is then as it was.  What `to` pointed at
 * before is freed. */
#ifndef CONFIG_KEY_INNER_H
#define CONFIG_KEY_INNER_H

#include "run/config.h"
#include "run/config_key.h"

#include <stdint.h>
#include <stdio.h>

enum { CONFIG_QUOTE_SIZE = 84 }; /* room for the part of a wrong text that a sentence shows */

/* All conversions report in one way: NULL, or what is wrong, as the rest of a sentence.  It is
 * constant, or written into a room. */
struct config_room {
    char text[CONFIG_WHY_SIZE];
};

extern const char config_out_of_memory[]; /* one of those sentences; never said to anybody */

/* A wrong text as a sentence may show it: one line, not too long, nothing that moves a cursor. */
const char *config_quote(const char *text, char quoted[static CONFIG_QUOTE_SIZE]);

/* Is a text of that length and does the row's judge take it? */
const char *config_check_text(const struct config_key *k, const char *text, uint64_t min,
                              uint64_t max, struct config_room *room);

/* Which of the row's words it is. */
const char *config_find_word(const struct config_key *k, const char *text, unsigned *ret,
                             struct config_room *room);

/* Writes "text" in quotes, with what has to be escaped. */
void config_print_text(const char *text, FILE *to);

/* [ "a", "b" ] */
void config_texts_read(const struct config_key *k, const struct config_setting_t *setting,
                       struct config_texts *to, const struct config_scene *scene);
void config_texts_print(const struct config_texts *t, FILE *to);
void config_texts_clear(struct config_texts *t);

/* { a = "b"; } */
void config_pairs_read(const struct config_key *k, const struct config_setting_t *setting,
                       struct config_pairs *to, const struct config_scene *scene);
void config_pairs_print(const struct config_pairs *p, FILE *to);
void config_pairs_clear(struct config_pairs *p);

/* ( { ... }, { ... } ); `to` is the array's pointer, and its count follows it. */
void config_groups_read(const struct config_key *k, const struct config_setting_t *setting,
                        void *to, const struct config_scene *scene);
void config_groups_print(const struct config_key *k, const void *from, FILE *to);
void config_groups_clear(const struct config_key *k, void *to);

#endif
