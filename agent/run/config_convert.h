/* config_convert -- the rows of `convert`: what the Java agent's converters can be told.
 *
 * What they mean is in record/java.h.  Thinks only. */
#ifndef CONFIG_CONVERT_H
#define CONFIG_CONVERT_H

struct config_group;

extern const struct config_group config_convert_group; /* of struct config_convert */

#endif
