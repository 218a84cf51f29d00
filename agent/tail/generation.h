/* generation -- whether a name looks like what a rotation makes of another name.
 *
 *   1. Behind the name or before its extension: a separator, then numbers or a known word:
 *      "app.log.1", "app.log-20261121", "app.log.2026-11-21T07:00:00Z", "app.log.old", "app.1.log",
 *      "app-2026-11-21-1.log".
 *   2. Right behind an extension, five digits or more: WebLogic's "app.log00001", a dateformat of
 *      "%s" in logrotate.
 *   3. Before the name, a date: "20261121-0700-01-app.log", of rotating-file-stream.
 *   4. Of "current": multilog's, s6-log's and svlogd's "@" and a TAI64N label, ".s" or ".u";
 *      metalog's "log-2026-11-21-07:00:00".
 *
 * A number says nothing of what it counts: "app-1.log" may as well be another worker's.  So a name
 * is a reason to look at a file, never to take it for one.  Thinks: no I/O. */
#ifndef GENERATION_H
#define GENERATION_H

#include "slice.h"

#include <stdbool.h>

/* Whether a name ends as backups do that people make: ".bak", ".old", "~" … */
bool generation_is_backup(struct slice name);

/* Whether `name` is called as a rotation of `base` is. */
bool generation_is_of(struct slice name, struct slice base);

/* Calls `is_base` with each name that a rotation may have made `name` from, until it says yes; no
 * more than a hundred times: names that may be of anything are made to keep us busy. */
bool generation_has_base(struct slice name, bool (*is_base)(void *user, struct slice base),
                         void *user);

/* The name without ".gz" or ".zst": what it was called before it was compressed.  One of them only,
 * and not if it is all there is. */
struct slice generation_strip_packing(struct slice name);

#endif
