/* leftovers -- what waits in the spool of a destination that nothing drains: its flow was taken out of
 * the configuration, sends elsewhere now, or spool.limit became 0.  Nothing is lost in silence: it is
 * said at each start.
 *
 * Blocks: for the look at each such directory.  Logs what it finds. */
#ifndef LEFTOVERS_H
#define LEFTOVERS_H

#include <stddef.h>

struct destination;
struct disk;

/* `destinations`: all there are. */
void leftovers_say(const struct disk *disk, int state_dir_fd,
                   const struct destination *destinations, size_t count);

#endif
