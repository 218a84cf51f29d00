/* generation -- whether a name looks like what a rotation makes of another name.
 *
 * "app.log" becomes "app.log.1", "app.log-20261121", "app.log.2026-11-21_07", "app.log.old", or with
 * the number before the extension "app.1.log", "app-20261121.log".  Thinks: no I/O. */
#ifndef GENERATION_H
#define GENERATION_H

#include "slice.h"

#include <stdbool.h>

/* The name without the suffix of a compressed file (".gz", ".zst"). */
struct slice generation_unpacked(struct slice name);

/* Whether a name ends as backups do that people make: ".bak", ".old", "~" … */
bool generation_is_backup(struct slice name);

bool generation_is_of(struct slice name, struct slice base);

/* Calls `is_base` with each name that a rotation may have made `name` from, until it says yes. */
bool generation_has_base(struct slice name, bool (*is_base)(void *user, struct slice base),
                         void *user);

#endif
