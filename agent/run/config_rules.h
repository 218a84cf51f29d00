/* config_rules -- what no row of a flow's table can know by itself: what needs, or excludes, what.
 *
 *   1. A setting that would have no effect is a mistake, at its own line.
 *   2. Such a setting is not printed; so what is printed loads again.
 *   3. A rule is not told where one of the settings that it looks at is wrong itself.
 *
 * Thinks only. */
#ifndef CONFIG_RULES_H
#define CONFIG_RULES_H

#include <stdbool.h>

struct config_flow;
struct config_key;
struct config_scene;
struct config_setting_t; /* libconfig's */

/* Why the row has no effect in this flow, as the rest of a sentence that begins with its name; NULL
 * if it has one. */
const char *config_rules_idle(const struct config_flow *f, const struct config_key *k);

/* Adds the mistakes of a flow that has been read from `group`.  `wrong`: for each row of the table,
 * whether it was there and could not be read. */
void config_rules_check(const struct config_flow *f, const struct config_setting_t *group,
                        const bool *wrong, const struct config_scene *scene);

#endif
