/* guest -- what happens in the machine whose power is cut, beside the agent.
 *
 *     guest write DIR POOL CUT SEED RATE   writes, rotates, and tells what is durable
 *     guest clean DIR                      deletes rotated files that the agent is done with
 *     guest forward FROM TO                127.0.0.1:FROM is 10.0.2.2:TO, the endpoint outside
 *     guest wake TTY                       waits for a line "NS HEX ...", takes NS for the time and
 *                                          HEX for chance, and prints what is behind them
 *
 * What they tell goes to standard output, the serial line, a line in one write(2):
 *
 *     has ID N      at the start: of this id lines 0 to N - 1 are in the files, whole and in order
 *     ready         by wake, until there is a line
 *     durable ID N  lines 0 to N - 1 of this id, and the name of their file, survived fsync(2)
 *     gone ID N     the file with these lines is about to be deleted
 *     odd CRC LEN   a line with this CRC32 (but for zeros before it) is in a file, and nobody wrote
 *                   it so: the file system kept some of its blocks
 *
 * Lines are those of tests/system/oracle.py, whose pool of payload is in the file POOL.  A line
 * that the last cut left half is ended with MARK first, as nobody else would: so the judge knows
 * whose it was.  Exits with 1 at the first error, in a sentence. */
#include <arpa/inet.h>
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/random.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum {
    POOL_BYTES = (1 << 16) + 8192,
    POOL_START_MASK = 0xffff,
    LINE_MAX_BYTES = 8192, /* the longest payload is 6000 */
    LINES_AT_ONCE = 200,   /* after a stall: catch up gently */
    LIVE_LINES = 1200,     /* of one life: where the agent starts slowly it still comes to an end */
    TICK_MS = 10,
    CLEAN_MS = 150,
    WAKE_MS = 20,
    HALF = 1 << 15, /* of two to the 16th: a coin */
    HOST = 0x0a000202,
};

#define MARK     " #cut\n"
#define LIVE     "app.log"
#define COMMAND  "kinetail -c /etc/kinetail.conf checkpoint list --json"
#define ID_CHARS 31

/* A file's lines of one id, as far as they follow on each other. */
struct run {
    char id[ID_CHARS + 1];
    uint64_t count;
};

static void sleep_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* One write: a line that is cut in the middle is then known by its missing newline. */
static void tell(const char *what, const char *id, uint64_t count)
{
    char text[64];
    int len = snprintf(text, sizeof text, "%s %s %" PRIu64 "\n", what, id, count);

    if (write(STDOUT_FILENO, text, (size_t)len) != len)
        err(1, "the serial line");
}

/* --- the awakening --- */

/* The machine is one that was put to sleep before it had seen its disk, and wakes up often: it must
 * not take the time, nor the next random numbers, for those of then. */
static int wake(const char *tty)
{
    struct pollfd line = {.fd = open(tty, O_RDWR | O_NOCTTY | O_CLOEXEC), .events = POLLIN};
    int pool = open("/dev/urandom", O_WRONLY | O_CLOEXEC);
    FILE *in = fdopen(line.fd, "r+");
    struct {
        struct rand_pool_info info;
        char text[128];
    } chance = {.info = {.entropy_count = 256, .buf_size = sizeof chance.text}};
    char text[512];
    int64_t ns;
    int at;

    if (in == NULL || pool < 0)
        err(1, "%s", tty);
    while (poll(&line, 1, WAKE_MS) == 0)
        if (write(line.fd, "ready\n", strlen("ready\n")) < 0)
            err(1, "%s", tty);
    if (fgets(text, sizeof text, in) == NULL ||
        sscanf(text, "%" SCNd64 " %127s %n", &ns, chance.text, &at) != 2)
        errx(1, "what it was told is no settings");
    if (clock_settime(CLOCK_REALTIME,
                      &(struct timespec){ns / 1000000000, (long)(ns % 1000000000)}) < 0 ||
        ioctl(pool, RNDADDENTROPY, &chance.info) < 0 || ioctl(pool, RNDRESEEDCRNG) < 0)
        err(1, "the time and chance");
    fputs(text + at, stdout);
    return 0;
}

/* --- what stands in a file --- */

/* The line's id and number; false if it is not one of ours, whole. */
static bool line_read(const char *line, size_t len, char id[ID_CHARS + 1], uint64_t *ret_number)
{
    const char *space = memchr(line, ' ', len);
    const char *last = memrchr(line, ' ', len);
    char check[9];

    if (space == NULL || space == last || space - line > ID_CHARS || line + len - last != 9)
        return false;
    snprintf(check, sizeof check, "%08lx", crc32(0, (const Bytef *)line, (uInt)(last - line)));
    if (memcmp(check, last + 1, 8) != 0)
        return false;
    memcpy(id, line, (size_t)(space - line));
    id[space - line] = '\0';
    *ret_number = strtoull(space + 1, NULL, 10);
    return true;
}

static void tell_odd(const char *line, const char *end)
{
    char name[16];

    while (line < end && *line == '\0')
        line++; /* so does the agent */
    snprintf(name, sizeof name, "%08lx", crc32(0, (const Bytef *)line, (uInt)(end - line)));
    tell("odd", name, (uint64_t)(end - line));
}

/* Tells each run of lines in the file. */
static void file_tell(const char *path, const char *what)
{
    struct run run = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    char *data;

    if (fd < 0 && errno == ENOENT)
        return; /* the cleaner was here, and told */
    if (fd < 0 || fstat(fd, &st) < 0)
        err(1, "%s", path);
    if (st.st_size == 0) {
        close(fd);
        return;
    }
    data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        err(1, "%s", path);
    for (const char *at = data, *stop = data + st.st_size, *end; at < stop; at = end + 1) {
        char id[ID_CHARS + 1];
        uint64_t number;

        end = memchr(at, '\n', (size_t)(stop - at));
        if (end == NULL)
            break;
        if (!line_read(at, (size_t)(end - at), id, &number)) {
            tell_odd(at, end);
            continue;
        }
        if (strcmp(id, run.id) != 0) {
            if (run.count > 0)
                tell(what, run.id, run.count);
            run.count = 0;
            strcpy(run.id, id);
        }
        if (number == run.count)
            run.count++;
    }
    if (run.count > 0)
        tell(what, run.id, run.count);
    munmap(data, (size_t)st.st_size);
    close(fd);
}

/* Calls with each rotated file, and gives the highest number. */
static unsigned rotated_each(const char *dir, void (*each)(const char *path))
{
    DIR *d = opendir(dir);
    unsigned highest = 0;

    if (d == NULL)
        err(1, "%s", dir);
    for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
        char path[512];
        unsigned number;

        if (sscanf(entry->d_name, LIVE ".%u", &number) != 1)
            continue;
        if (number > highest)
            highest = number;
        snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        each(path);
    }
    closedir(d);
    return highest;
}

static void tell_has(const char *path)
{
    file_tell(path, "has");
}

/* --- the writer --- */

struct writer {
    char live[512];
    const char *dir;
    int dir_fd, fd;
    unsigned cut, opened, generation;
    uint64_t dice;
    char id[ID_CHARS + 1];
    uint64_t count; /* lines of this id */
    char pool[POOL_BYTES];
    char room[LINES_AT_ONCE * LINE_MAX_BYTES];
};

/* xorshift64*: 16 bits. */
static unsigned toss(struct writer *w)
{
    w->dice ^= w->dice >> 12;
    w->dice ^= w->dice << 25;
    w->dice ^= w->dice >> 27;
    return (unsigned)((w->dice * UINT64_C(2685821657736338717)) >> 48);
}

static int64_t between(struct writer *w, int64_t least, int64_t most)
{
    return least + toss(w) * (most - least) / (1 << 16);
}

/* The next line of the present id, with its newline; the same as oracle.line(). */
static size_t line_make(struct writer *w, char *line)
{
    uint32_t mix = (uint32_t)w->count * 2654435761U;
    size_t payload = 60 + (mix >> 16) % 180;
    size_t len = (size_t)sprintf(line, "%s %" PRIu64 " ", w->id, w->count);

    if (w->count % 997 == 996)
        payload = 6000;
    else if (w->count % 101 == 100)
        payload = 0;
    memcpy(line + len, w->pool + (mix & POOL_START_MASK), payload);
    len += payload;
    len += (size_t)sprintf(line + len, " %08lx\n", crc32(0, (Bytef *)line, (uInt)len));
    w->count++;
    return len;
}

static void put(const struct writer *w, const char *data, size_t len)
{
    for (ssize_t n; len > 0; data += n, len -= (size_t)n)
        if ((n = write(w->fd, data, len)) < 0)
            err(1, "%s", w->live);
}

static void writer_open(struct writer *w)
{
    snprintf(w->id, sizeof w->id, "c%u.%u", w->cut, w->opened++);
    w->count = 0;
    w->fd = open(w->live, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (w->fd < 0 || fsync(w->dir_fd) < 0)
        err(1, "%s", w->live);
}

/* A line is durable when its bytes are, and the name of the file that they are in. */
static void writer_sync(struct writer *w)
{
    if (fsync(w->fd) < 0)
        err(1, "%s: fsync", w->live);
    if (w->count > 0)
        tell("durable", w->id, w->count);
}

static void writer_rotate(struct writer *w)
{
    char path[600];

    close(w->fd);
    snprintf(path, sizeof path, "%s.%u", w->live, ++w->generation);
    if (rename(w->live, path) < 0)
        err(1, "%s", path);
    writer_open(w);
}

/* Looks what the cut left, and ends a half line. */
static void writer_begin(struct writer *w)
{
    struct stat st;
    char last;
    int fd;

    w->generation = rotated_each(w->dir, tell_has);
    fd = open(w->live, O_RDWR | O_APPEND | O_CLOEXEC);
    if (fd >= 0) {
        tell_has(w->live);
        if (fstat(fd, &st) < 0)
            err(1, "%s", w->live);
        if (st.st_size > 0 && (pread(fd, &last, 1, st.st_size - 1) != 1 ||
                               (last != '\n' && write(fd, MARK, strlen(MARK)) < 0)))
            err(1, "%s", w->live);
        close(fd);
    }
    writer_open(w);
    if (fd >= 0 && toss(w) < HALF)
        writer_rotate(w); /* else what comes now stands behind what the cut left */
    tell("writing", w->id, w->generation);
}

static int write_lines(const char *dir, const char *pool, unsigned cut, uint64_t seed, int64_t rate)
{
    static struct writer w;
    int64_t begin, sync_at, rotate_at, total = 0;
    int fd = open(pool, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, w.pool, sizeof w.pool) != sizeof w.pool)
        err(1, "%s", pool);
    close(fd);
    w.dir = dir;
    w.cut = cut;
    w.dice = seed | 1;
    snprintf(w.live, sizeof w.live, "%s/" LIVE, dir);
    w.dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w.dir_fd < 0)
        err(1, "%s", dir);
    writer_begin(&w);

    begin = now_ms();
    sync_at = begin;
    rotate_at = begin + between(&w, 100, 800);
    for (;;) {
        int64_t now = now_ms();
        int64_t due = (now - begin) * rate / 1000 - total;
        size_t len = 0;

        for (int64_t n = 0; n < due && n < LINES_AT_ONCE && total < LIVE_LINES; n++, total++)
            len += line_make(&w, w.room + len);
        if (len > 1 && toss(&w) < HALF) { /* a line in two writes, as stdio does */
            size_t part = (size_t)between(&w, 1, (int64_t)len);

            put(&w, w.room, part);
            sleep_ms(1);
            put(&w, w.room + part, len - part);
        } else {
            put(&w, w.room, len);
        }
        if (now >= sync_at) {
            writer_sync(&w);
            sync_at = now + between(&w, 10, 250);
        }
        if (now >= rotate_at && w.count > 0) {
            if (toss(&w) < HALF)
                writer_sync(&w);
            writer_rotate(&w);
            rotate_at = now + between(&w, 100, 800);
        }
        sleep_ms(TICK_MS);
    }
}

/* --- the cleaner --- */

/* Where the whole lines of a file end.  What is behind is the cut's; a file that goes takes it
 * along, unless the agent still sends it. */
static uint64_t whole_end(const char *path, uint64_t size)
{
    char room[LINE_MAX_BYTES];
    uint64_t from = size > sizeof room ? size - sizeof room : 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : pread(fd, room, sizeof room, (off_t)from);
    const char *last = len > 0 ? memrchr(room, '\n', (size_t)len) : NULL;

    if (fd >= 0)
        close(fd);
    if (last == NULL)
        return from; /* then it is not one of ours, and stays, unless it is empty */
    if (last + 1 < room + len)
        tell_odd(last + 1, room + len);
    return from + (uint64_t)(last + 1 - room);
}

/* As `rotate 1` of logrotate would, but no sooner than the agent says that it is done with a file:
 * from then on its lines must be with the service or in the agent's own files. */
static void clean_one(const char *told)
{
    const char *path = strstr(told, "\"path\": \"");
    const char *offset = strstr(told, "\"offset\": ");
    const char *inode = strstr(told, "\"inode\": ");
    char name[512];
    struct stat st;
    unsigned number;

    if (path == NULL || offset == NULL || inode == NULL ||
        sscanf(path, "\"path\": \"%511[^\"]", name) != 1)
        return;
    path = strrchr(name, '/');
    if (path == NULL || sscanf(path, "/" LIVE ".%u", &number) != 1 || stat(name, &st) < 0)
        return;
    if (strtoull(inode + strlen("\"inode\": "), NULL, 10) != st.st_ino ||
        strtoull(offset + strlen("\"offset\": "), NULL, 10) < whole_end(name, (uint64_t)st.st_size))
        return;
    file_tell(name, "gone");
    if (unlink(name) < 0)
        err(1, "%s", name);
}

static void clean_empty(const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && st.st_size == 0 && unlink(path) < 0)
        err(1, "%s", path);
}

static int clean(const char *dir)
{
    for (;; sleep_ms(CLEAN_MS)) {
        FILE *list = popen(COMMAND " 2>/dev/null", "r");
        char line[2048];

        if (list == NULL)
            err(1, COMMAND);
        while (fgets(line, sizeof line, list) != NULL)
            clean_one(line);
        (void)rotated_each(dir, clean_empty);
        pclose(list); /* while the agent starts there may be nothing to list */
    }
}

/* --- the forwarder --- */

/* Bytes from one socket to the other; false at the end. */
static bool pass(int from, int to)
{
    char data[65536];
    ssize_t len = read(from, data, sizeof data);

    if (len <= 0)
        return false;
    for (ssize_t at = 0, n; at < len; at += n)
        if ((n = send(to, data + at, (size_t)(len - at), MSG_NOSIGNAL)) < 0)
            return false;
    return true;
}

static int forward(uint16_t from, uint16_t to)
{
    struct sockaddr_in near = {.sin_family = AF_INET, .sin_port = htons(from)};
    struct sockaddr_in far = {.sin_family = AF_INET, .sin_port = htons(to)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    near.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    far.sin_addr.s_addr = htonl(HOST);
    if (listener < 0 || bind(listener, (struct sockaddr *)&near, sizeof near) < 0 ||
        listen(listener, 64) < 0)
        err(1, "127.0.0.1:%u", from);
    signal(SIGCHLD, SIG_IGN); /* nobody waits for those below */
    for (;;) {
        int client = accept(listener, NULL, NULL);
        struct pollfd two[2] = {{.fd = client, .events = POLLIN}, {.events = POLLIN}};

        if (client < 0)
            err(1, "accept");
        if (fork() != 0) {
            close(client);
            continue;
        }
        two[1].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (two[1].fd < 0 || connect(two[1].fd, (struct sockaddr *)&far, sizeof far) < 0) {
            struct linger reset = {.l_onoff = 1};

            setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            _exit(0);
        }
        while (poll(two, 2, -1) > 0)
            if ((two[0].revents && !pass(client, two[1].fd)) ||
                (two[1].revents && !pass(two[1].fd, client)))
                break;
        _exit(0);
    }
}

int main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "write") == 0)
        return write_lines(argv[2], argv[3], (unsigned)atoi(argv[4]), strtoull(argv[5], NULL, 10),
                           atoll(argv[6]));
    if (argc == 3 && strcmp(argv[1], "wake") == 0)
        return wake(argv[2]);
    if (argc == 3 && strcmp(argv[1], "clean") == 0)
        return clean(argv[2]);
    if (argc == 4 && strcmp(argv[1], "forward") == 0)
        return forward((uint16_t)atoi(argv[2]), (uint16_t)atoi(argv[3]));
    errx(2, "usage: guest write DIR POOL CUT SEED RATE | clean DIR | forward FROM TO | wake TTY");
}
