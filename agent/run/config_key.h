/* config_key -- one row of the configuration's tables put to work: read a value, take the default,
 * write it, forget it.
 *
 *   1. `base` is the struct config or struct config_flow that the row's offset is for.
 *   2. A value that was read is within the row's range and passed its judge; after a mistake the
 *      member is as it was.
 *   3. A secret is never part of a mistake's sentence.
 *
 * Threads: no state.  Blocks: never, but for judges that look at a file. */
#ifndef CONFIG_KEY_H
#define CONFIG_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct config_key;
struct config_mistakes;
struct config_setting_t; /* libconfig's */
struct sheet;

enum { CONFIG_PATH_SIZE = 256 }; /* room for a dotted path in a mistake; longer ones are cut */

struct config_scene { /* borrows; what a mistake needs to say where it is */
    const struct sheet *sheet;
    struct config_mistakes *mistakes;
    const char *prefix; /* "" or "flows[0]." */
};

/* Adds a mistake about `path`, below the scene's prefix, at a setting. */
__attribute__((format(printf, 4, 5))) void config_scene_mistake(
    const struct config_scene *scene, const struct config_setting_t *setting, const char *path,
    const char *format, ...);

/* Is what is written there a secret? */
bool config_key_is_secret(const struct config_key *k, const struct config_setting_t *setting);

/* Reads the setting into its member, or adds a mistake. */
void config_key_read(const struct config_key *k, const struct config_setting_t *setting, void *base,
                     const struct config_scene *scene);

/* Writes the default, if the row has one.  Errors: -ENOMEM. */
int config_key_preset(const struct config_key *k, void *base);

/* An absent optional text has no value. */
bool config_key_has_value(const struct config_key *k, const void *base);

/* Writes the value, without name and semicolon; secrets as stars. */
void config_key_print(const struct config_key *k, const void *base, FILE *to);

/* Frees what the member owns; secrets are wiped. */
void config_key_clear(const struct config_key *k, void *base);

#endif
