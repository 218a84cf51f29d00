/* spool -- what the spool costs: MB/s to put frames of 1 MiB with a real fdatasync each, MB/s to read them
 * back, and how long a start takes with a thousand segments, most of them holes.
 *
 *     spool DIRECTORY [FRAMES] */
#include "keep/spool.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "disk.h"
#include "keep/spool_format.h"

enum { RECORDS = 500, DATA_LEN = 2 * 1024 + 64, SEGMENTS = 1000, SEGMENT_BYTES = 32 * 1024 * 1024 };

static const struct spool_settings settings = {.name = "web", .limit_bytes = UINT64_C(1) << 40};

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void put(struct spool *s, const char *data)
{
    const struct spool_source source = {SLICE("web"), SLICE("/var/log/a.log")};
    struct spool_record r = {.key = SLICE("01234567"), .data = {data, DATA_LEN}};
    uint64_t serial;

    assert(spool_frame_begin(s, 0, &source, 1, SLICE("at 1\n")) == 0);
    spool_job_begin(s);
    for (unsigned i = 0; i < RECORDS; i++) {
        r.offset = r.end;
        r.end += DATA_LEN;
        assert(spool_add_record(s, &r) == 0);
    }
    spool_job_run(s);
    assert(spool_job_end(s, &serial) == 0 && serial > 0);
}

static uint64_t read_all(struct spool *s)
{
    struct spool_frame f;
    uint64_t bytes = 0;

    while (spool_read(s, &f) == 1) {
        struct spool_source source;
        struct spool_record r;

        while (spool_next(&f, &r, &source))
            bytes += r.data.len;
        spool_ack(s, f.serial);
        assert(spool_write_acks(s) == 0);
    }
    return bytes;
}

static void empty_spool(int state_fd)
{
    int fd = openat(state_fd, "spool/web", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

    if (d == NULL)
        return;
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        (void)unlinkat(fd, e->d_name, 0);
    closedir(d);
    (void)unlinkat(state_fd, "spool/web", AT_REMOVEDIR);
    (void)unlinkat(state_fd, "spool", AT_REMOVEDIR);
}

/* A thousand sealed segments of 32 MiB, all holes between header and footer. */
static void make_backlog(int state_fd)
{
    int dir = openat(state_fd, "spool/web", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;
    char bytes[SPOOL_HEADER_LEN], name[SPOOL_NAME_LEN];
    struct spool_header h;

    spool_segment_name(1, name);
    fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    assert(fd >= 0 && read(fd, bytes, sizeof bytes) == sizeof bytes);
    close(fd);
    assert(spool_header_decode(bytes, &h) == 0);
    for (uint64_t i = 1; i <= SEGMENTS; i++) {
        const struct spool_footer footer = {.frames = 32, .records = 32 * RECORDS};

        h.segment = i;
        h.first_serial = (i - 1) * 32 + 1;
        h.before_end = i == 1 ? 0 : SEGMENT_BYTES;
        h.before_seed = i == 1 ? 0 : h.seed;
        spool_segment_name(i, name);
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        spool_header_encode(&h, bytes);
        assert(fd >= 0 && pwrite(fd, bytes, sizeof bytes, 0) == sizeof bytes);
        if (i < SEGMENTS) {
            spool_footer_encode(&footer, SEGMENT_BYTES, h.seed, bytes);
            assert(pwrite(fd, bytes, SPOOL_FOOTER_LEN, SEGMENT_BYTES) == SPOOL_FOOTER_LEN);
        }
        close(fd);
    }
    close(dir);
}

int main(int argc, char **argv)
{
    unsigned count = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 300;
    char *data = malloc(DATA_LEN);
    struct rusage usage;
    struct spool *s;
    uint64_t bytes;
    double begun;
    int state_fd;

    if (argc < 2 || data == NULL ||
        (state_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
        fprintf(stderr, "usage: spool DIRECTORY [FRAMES]\n");
        return 2;
    }
    memset(data, 'x', DATA_LEN);
    assert(spool_open(state_fd, &disk_system, &settings, &s) == 0);
    begun = seconds();
    for (unsigned i = 0; i < count; i++)
        put(s, data);
    printf("put   %8.1f MB/s, a sync for each MiB\n",
           (double)spool_stats(s)->bytes / 1e6 / (seconds() - begun));
    begun = seconds();
    bytes = read_all(s);
    printf("read  %8.1f MB/s, from the page cache, acknowledged\n",
           (double)bytes / 1e6 / (seconds() - begun));
    spool_close(s);

    empty_spool(state_fd);
    assert(spool_open(state_fd, &disk_system, &settings, &s) == 0);
    put(s, data);
    spool_close(s);
    make_backlog(state_fd);
    begun = seconds();
    assert(spool_open(state_fd, &disk_system, &settings, &s) == 0);
    printf("start %8.1f ms, %d segments, %.1f GB, %" PRIu64 " frames\n", 1e3 * (seconds() - begun),
           SEGMENTS, (double)spool_stats(s)->bytes / 1e9, spool_stats(s)->frames);
    getrusage(RUSAGE_SELF, &usage);
    printf("peak  %8.1f MB\n", (double)usage.ru_maxrss / 1e3);
    spool_close(s);
    empty_spool(state_fd);
    free(data);
    return 0;
}
