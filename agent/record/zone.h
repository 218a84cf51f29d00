/* zone -- how far a place's clocks are from UTC, and when they are put forward and back.
 *
 *   1. A zone does not change after its birth and refers to nothing outside: any number of threads
 *      may ask it at once.
 *   2. It knows the changes of 1970 to 2099, as the machine's time zone database has them.  Before
 *      and after that, the offset is that of the first and the last moment of those years.
 *   3. An hour that clocks show twice is read as the earlier of the two (before they are put back).
 *      A time that they skip is read with the offset from before the change: 02:30 in the night
 *      when 02:00 becomes 03:00 is the moment that is then called 03:30.  Python's zoneinfo with
 *      fold=0 does both alike.
 *
 * glibc has no call for a given zone, only TZ in the environment; so all it knows is asked for at
 * birth and kept as a table.
 *
 * Errors: 0 or -errno.  Thinks: no I/O but at birth. */
#ifndef ZONE_H
#define ZONE_H

#include "slice.h"

#include <stdint.h>

struct zone;

/* Makes a zone of its name: "UTC"; "+02:00", "-0530" or "+02", less than a day; "local", which is
 * what TZ or else /etc/localtime says; or one of the time zone database, such as "Europe/Berlin".
 * Gives *ret.
 *
 * Not in two threads at once, and the first call before there are threads: it changes TZ and back.
 * Where TZ was not set it is afterwards ":/etc/localtime", which is what glibc takes for unset:
 * this way the array of the environment never moves or shrinks again while others call getenv(3).
 * Takes some milliseconds for a zone that is not a plain offset.
 *
 * Errors: -EINVAL: not a name that a zone can have; -ENOENT: not known on this machine (is tzdata
 * installed?); -ENOMEM; else open(2)'s and read(2)'s. */
int zone_new(struct slice name, struct zone **ret);

/* What is to be added to UTC, in seconds, at the given second of UTC. */
int32_t zone_offset_utc(const struct zone *z, int64_t utc_s);

/* The second of UTC at which clocks show `local_s` (the seconds from 1970-01-01 00:00 to what they
 * show), by rule 3; and the offset that was taken: local_s - *ret_offset_s. */
int64_t zone_to_utc(const struct zone *z, int64_t local_s, int32_t *ret_offset_s);

void zone_free(struct zone *z); /* NULL is fine */

#endif
