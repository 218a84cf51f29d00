/* nosync -- preloaded, a program believes that its files are durable, and none is.
 *
 * For the agent alone: a rig that cuts the power must see lines lost then, or it sees nothing. */
#include <sys/types.h>

int fsync(int fd);
int fdatasync(int fd);
int sync_file_range(int fd, off_t offset, off_t count, unsigned flags);
int syncfs(int fd);
void sync(void);

int fsync(int fd)
{
    (void)fd;
    return 0;
}

int fdatasync(int fd)
{
    (void)fd;
    return 0;
}

int sync_file_range(int fd, off_t offset, off_t count, unsigned flags)
{
    (void)fd;
    (void)offset;
    (void)count;
    (void)flags;
    return 0;
}

int syncfs(int fd)
{
    (void)fd;
    return 0;
}

void sync(void)
{
}
