#include "run/leftovers.h"

#include "disk.h"
#include "keep/spool.h"
#include "keep/state.h"
#include "run/destination.h"
#include "run/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

struct look {
    const struct disk *disk;
    int state_dir_fd;
    const struct destination *destinations;
    size_t count;
};

static bool is_of(const char *directory, const char *destination)
{
    char folder[NAME_MAX + 1];

    return state_folder(destination, folder) == 0 && strcmp(directory, folder) == 0;
}

static const struct destination *find_destination(const struct look *l, const char *directory)
{
    for (size_t i = 0; i < l->count; i++)
        if (is_of(directory, l->destinations[i].name))
            return &l->destinations[i];
    return NULL;
}

static void say(const char *directory, const struct spool_stats *s, const char *why)
{
    if (s->records > 0 || s->newer > 0)
        log_warn("spool of %s: %" PRIu64 " records (%" PRIu64
                 " bytes) wait there and are not sent, "
                 "as %s; they are kept: see kinetail queue list",
                 directory, s->records, s->bytes, why);
    if (s->error < 0)
        log_warn("spool of %s: what waits there could not be looked at: %s; it is not sent, as %s",
                 directory, strerrordesc_np(-s->error), why);
}

static int look_at(void *user, const char *directory)
{
    const struct look *l = user;
    const struct destination *d = find_destination(l, directory);
    const struct spool_settings settings = {.name = directory, .read_only = true};
    struct spool *spool;
    int r;

    if (d != NULL && d->depot != NULL)
        return 0;
    r = spool_open(l->state_dir_fd, l->disk, &settings, &spool);
    if (r < 0)
        return r == -EINVAL ? 0 : r; /* nothing of ours is called so */
    say(directory, spool_stats(spool),
        d != NULL ? "spool.limit is 0" : "no flow of the configuration sends there");
    spool_close(spool);
    return 0;
}

void leftovers_say(const struct disk *disk, int state_dir_fd,
                   const struct destination *destinations, size_t count)
{
    struct look l = {disk, state_dir_fd, destinations, count};
    int fd = disk->open(disk, state_dir_fd, "spool", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    int r = fd < 0 ? fd : disk->list(disk, fd, look_at, &l);

    if (fd >= 0)
        (void)disk->close(disk, fd);
    if (r < 0 && r != -ENOENT)
        log_warn(
            "spool: whether something waits there that no flow sends could not be looked at: %s",
            strerrordesc_np(-r));
}
