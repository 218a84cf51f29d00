#include "keep/dead.h"

#include "base64.h"
#include "crc32c.h"
#include "disk.h"
#include "json.h"
#include "keep/dead_dir.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum {
    DEAD_FORMAT = 1,
    DEAD_CRC_LEN = 8,             /* hexadecimal digits */
    DEAD_TEXT_KEEP = 1024 * 1024, /* what a buffer keeps when it is empty again */
    DEAD_NUMBERS_MAX = 250,       /* time, offset, end and the names of all members */
};

/* --- lines --- */

#define CRC_BEFORE SLICE(",\"crc32c\":\"")
#define CRC_BEHIND SLICE("\"}")

/* Ends the line that begins at `from`: its checksum, the brace, the newline. */
static int append_crc(struct buf *to, size_t from, uint32_t seed)
{
    return buf_printf(to, ",\"crc32c\":\"%08" PRIx32 "\"}\n",
                      crc32c(seed, to->ptr + from, to->len - from));
}

static int append_header(struct buf *to, uint64_t segment, uint32_t seed)
{
    size_t from = to->len;
    int r =
        buf_printf(to, "{\"kinetail_dead\":%d,\"segment\":%" PRIu64 ",\"seed\":\"%08" PRIx32 "\"",
                   DEAD_FORMAT, segment, seed);

    return r < 0 ? r : append_crc(to, from, 0);
}

static int append_member(struct buf *to, const char *name, struct slice text)
{
    int r = buf_printf(to, ",\"%s\":", name);

    return r < 0 ? r : json_append_string(to, text);
}

static int append_base64(struct buf *to, struct slice record)
{
    size_t len = base64_size(record.len);
    int r = buf_reserve(to, to->len + len);

    if (r < 0)
        return r;
    base64_encode(to->ptr + to->len, record.ptr, record.len);
    to->len += len;
    return 0;
}

static int append_time(struct buf *to, int64_t wall_ms)
{
    int64_t ms = wall_ms % 1000;
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    if (gmtime_r(&seconds, &tm) == NULL)
        return -EOVERFLOW;
    return buf_printf(to, "{\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"", tm.tm_year + 1900,
                      tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)ms);
}

/* How long the line may become; SIZE_MAX if that is no number. */
static size_t letter_size_max(const struct dead_letter *l)
{
    const size_t parts[] = {json_string_size_max(l->flow.len), json_string_size_max(l->file.len),
                            json_string_size_max(l->reason.len), json_string_size_max(l->key.len),
                            l->record.len > SIZE_MAX / 2 ? SIZE_MAX : base64_size(l->record.len)};
    size_t size = DEAD_NUMBERS_MAX;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (__builtin_add_overflow(size, parts[i], &size))
            return SIZE_MAX;
    return size;
}

/* On failure `to` ends in a part of it. */
static int append_letter(struct buf *to, const struct dead_letter *l, uint32_t seed)
{
    size_t from = to->len;
    int r;

    if ((r = append_time(to, l->wall_ms)) < 0 || (r = append_member(to, "flow", l->flow)) < 0 ||
        (r = append_member(to, "file", l->file)) < 0 ||
        (r = buf_printf(to, ",\"offset\":%" PRIu64 ",\"end\":%" PRIu64, l->offset, l->end)) < 0 ||
        (r = append_member(to, "reason", l->reason)) < 0 ||
        (l->key.len > 0 && (r = append_member(to, "key", l->key)) < 0) ||
        (l->unredacted && (r = buf_append(to, SLICE(",\"unredacted\":true"))) < 0) ||
        (l->cut && (r = buf_append(to, SLICE(",\"cut\":true"))) < 0) ||
        (r = buf_append(to, SLICE(",\"record_base64\":\""))) < 0 ||
        (r = append_base64(to, l->record)) < 0 || (r = buf_append_char(to, '"')) < 0)
        return r;
    return append_crc(to, from, seed);
}

/* --- reading --- */

static bool read_hex(struct slice word, uint32_t *ret)
{
    uint32_t n = 0;

    if (word.len != DEAD_CRC_LEN)
        return false;
    for (size_t i = 0; i < word.len; i++) {
        char c = word.ptr[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

        if (digit < 0)
            return false;
        n = n << 4 | (uint32_t)digit;
    }
    *ret = n;
    return true;
}

static bool read_number(struct slice word, uint64_t *ret)
{
    uint64_t n = 0;

    if (word.len == 0)
        return false;
    for (size_t i = 0; i < word.len; i++)
        if (word.ptr[i] < '0' || word.ptr[i] > '9' || __builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(word.ptr[i] - '0'), &n))
            return false;
    *ret = n;
    return true;
}

/* Whether a line (without its newline) has the checksum that it should have. */
static bool crc_holds(struct slice line, uint32_t seed)
{
    size_t tail_len = CRC_BEFORE.len + DEAD_CRC_LEN + CRC_BEHIND.len;
    struct slice tail;
    uint32_t crc;

    if (line.len < tail_len)
        return false;
    tail = slice_from(line, line.len - tail_len);
    return slice_starts_with(tail, CRC_BEFORE) && slice_ends_with(tail, CRC_BEHIND) &&
           read_hex(slice_first(slice_from(tail, CRC_BEFORE.len), DEAD_CRC_LEN), &crc) &&
           crc == crc32c(seed, line.ptr, line.len - tail_len);
}

/* Takes the next line off `text`; false if there is none that ends. */
static bool take_line(struct slice *text, struct slice *ret)
{
    const char *end = text->len > 0 ? memchr(text->ptr, '\n', text->len) : NULL;

    if (end == NULL)
        return false;
    *ret = slice_first(*text, (size_t)(end - text->ptr));
    *text = slice_from(*text, ret->len + 1);
    return true;
}

/* The next member of the object: 1, 0 at its end, or -EBADMSG. */
static int next_member(struct json *j, struct json_token *key, struct json_token *value)
{
    int r = json_next(j, key);

    if (r < 0 || key->type == JSON_OBJECT_END)
        return r;
    if (key->type != JSON_KEY || json_next(j, value) < 0)
        return -EBADMSG;
    if (value->type == JSON_OBJECT_BEGIN || value->type == JSON_ARRAY_BEGIN)
        return json_leave(j) < 0 ? -EBADMSG : 1; /* of a later version: nothing that we ask for */
    return 1;
}

static bool begin_object(struct json *j, struct slice line)
{
    struct json_token t;

    json_init(j, line);
    return json_next(j, &t) == 0 && t.type == JSON_OBJECT_BEGIN;
}

static bool read_format(struct slice line, uint64_t *ret_format, uint64_t *ret_segment,
                        uint32_t *ret_seed)
{
    struct json_token key = {0}, value = {0};
    unsigned seen = 0;
    struct json j;
    int r;

    if (!begin_object(&j, line))
        return false;
    while ((r = next_member(&j, &key, &value)) == 1) {
        if (json_text_equal(key.text, SLICE("kinetail_dead")) && value.type == JSON_NUMBER &&
            read_number(value.text, ret_format))
            seen |= 1;
        else if (json_text_equal(key.text, SLICE("segment")) && value.type == JSON_NUMBER &&
                 read_number(value.text, ret_segment))
            seen |= 2;
        else if (json_text_equal(key.text, SLICE("seed")) && value.type == JSON_STRING &&
                 read_hex(value.text, ret_seed))
            seen |= 4;
    }
    return r == 0 && seen == 7;
}

int dead_read_header(struct slice *text, uint64_t segment, uint32_t *ret_seed)
{
    uint64_t format = 0, number = 0;
    struct slice line;
    uint32_t seed = 0;

    if (!take_line(text, &line) || !crc_holds(line, 0) ||
        !read_format(line, &format, &number, &seed) || number != segment)
        return -EBADMSG;

    /* Only now: a flipped bit must not look like a message from the future.  So every later format
     * keeps this line as it is. */
    if (format != DEAD_FORMAT)
        return -ENOTSUP;
    *ret_seed = seed;
    return 0;
}

/* The text that a member stands for, at the end of `to`. */
static bool read_text(struct slice raw, struct buf *to, struct slice *ret)
{
    size_t from = to->len;

    if (json_unescape(raw, to) < 0)
        return false;
    *ret = (struct slice){to->ptr + from, to->len - from};
    return true;
}

static bool read_record(struct slice raw, struct buf *to, struct slice *ret)
{
    size_t from = to->len, len;

    if (base64_decode(raw, to->ptr + from, &len) < 0)
        return false;
    to->len += len;
    *ret = (struct slice){to->ptr + from, len};
    return true;
}

/* When it was put, from the one form that append_time writes; 0 if it is not that. */
static int64_t read_time(struct slice text)
{
    static const char form[] = "0000-00-00T00:00:00.000Z";
    int parts[7] = {0}, part = 0;
    struct tm tm;

    if (text.len != sizeof form - 1)
        return 0;
    for (size_t i = 0; i < text.len; i++) {
        bool digit = text.ptr[i] >= '0' && text.ptr[i] <= '9';

        if (form[i] != '0' ? text.ptr[i] != form[i] : !digit)
            return 0;
        if (digit)
            parts[part] = 10 * parts[part] + text.ptr[i] - '0';
        else
            part++;
    }
    tm = (struct tm){.tm_year = parts[0] - 1900,
                     .tm_mon = parts[1] - 1,
                     .tm_mday = parts[2],
                     .tm_hour = parts[3],
                     .tm_min = parts[4],
                     .tm_sec = parts[5]};
    return (int64_t)timegm(&tm) * 1000 + parts[6];
}

enum letter_member {
    LETTER_TIME,
    LETTER_FLOW,
    LETTER_FILE,
    LETTER_OFFSET,
    LETTER_END,
    LETTER_REASON,
    LETTER_RECORD,
    LETTER_NEEDED, /* from here on they may be missing */
    LETTER_KEY = LETTER_NEEDED,
    LETTER_UNREDACTED,
    LETTER_CUT,
};

static const struct {
    struct slice name;
    enum json_type type;
} letter_members[] = {
    [LETTER_TIME] = {SLICE("time"), JSON_STRING},
    [LETTER_FLOW] = {SLICE("flow"), JSON_STRING},
    [LETTER_FILE] = {SLICE("file"), JSON_STRING},
    [LETTER_OFFSET] = {SLICE("offset"), JSON_NUMBER},
    [LETTER_END] = {SLICE("end"), JSON_NUMBER},
    [LETTER_REASON] = {SLICE("reason"), JSON_STRING},
    [LETTER_RECORD] = {SLICE("record_base64"), JSON_STRING},
    [LETTER_KEY] = {SLICE("key"), JSON_STRING},
    [LETTER_UNREDACTED] = {SLICE("unredacted"), JSON_TRUE},
    [LETTER_CUT] = {SLICE("cut"), JSON_TRUE},
};

static bool read_member(enum letter_member member, struct slice raw, struct dead_found *f)
{
    switch (member) {
    case LETTER_TIME:
        if (!read_text(raw, &f->text, &f->time))
            return false;
        f->letter.wall_ms = read_time(f->time);
        return true;
    case LETTER_FLOW:
        return read_text(raw, &f->text, &f->letter.flow);
    case LETTER_FILE:
        return read_text(raw, &f->text, &f->letter.file);
    case LETTER_OFFSET:
        return read_number(raw, &f->letter.offset);
    case LETTER_END:
        return read_number(raw, &f->letter.end);
    case LETTER_REASON:
        return read_text(raw, &f->text, &f->letter.reason);
    case LETTER_RECORD:
        return read_record(raw, &f->text, &f->letter.record);
    case LETTER_KEY:
        return read_text(raw, &f->text, &f->letter.key);
    case LETTER_UNREDACTED:
        f->letter.unredacted = true;
        return true;
    case LETTER_CUT:
        f->letter.cut = true;
        return true;
    }
    return false;
}

static bool read_letter(struct slice line, struct dead_found *f)
{
    const unsigned needed = (1U << LETTER_NEEDED) - 1;
    struct json_token key = {0}, value = {0};
    unsigned seen = 0;
    struct json j;
    int r;

    buf_reset(&f->text);
    f->letter = (struct dead_letter){0};

    /* Room for all of it at once, so that what was read stays where it is: undone, a text may have
     * three times its length (json_unescape). */
    if (line.len > SIZE_MAX / 3 || buf_reserve(&f->text, 3 * line.len) < 0 ||
        !begin_object(&j, line))
        return false;
    while ((r = next_member(&j, &key, &value)) == 1)
        for (size_t i = 0; i < ARRAY_LEN(letter_members); i++) {
            if (!json_text_equal(key.text, letter_members[i].name))
                continue;
            if (value.type != letter_members[i].type || (seen & 1U << i) != 0 ||
                !read_member((enum letter_member)i, value.text, f))
                return false;
            seen |= 1U << i;
        }
    return r == 0 && (seen & needed) == needed;
}

bool dead_next(struct slice *text, uint32_t seed, enum dead_line *ret, struct dead_found *found)
{
    struct slice line;

    if (text->len == 0)
        return false;
    if (!take_line(text, &line)) {
        line = slice_first(*text, text->len - 1);
        *text = slice_from(*text, text->len);
        *ret = DEAD_LINE_TORN;
        if (!crc_holds(line, seed)) /* else it was whole, and its newline is another byte now */
            return true;
    }
    *ret = crc_holds(line, seed) && (found == NULL || read_letter(line, found)) ? DEAD_LINE_LETTER
                                                                                : DEAD_LINE_DAMAGED;
    return true;
}

void dead_found_init(struct dead_found *f)
{
    *f = (struct dead_found){0};
    buf_init(&f->text, 3 * (size_t)DEAD_READ_MAX);
}

void dead_found_done(struct dead_found *f)
{
    buf_done(&f->text);
}

/* --- segments --- */

void dead_segment_name(uint64_t segment, char to[DEAD_NAME_LEN])
{
    (void)snprintf(to, DEAD_NAME_LEN, "dead-%016" PRIu64 ".log", segment);
}

uint64_t dead_number_of_name(const char *name)
{
    uint64_t n;

    return slice_starts_with(slice_of(name), SLICE("dead-")) && strlen(name) >= 21 &&
                   read_number((struct slice){name + 5, 16}, &n)
               ? n
               : 0;
}

uint64_t dead_segment_of_name(const char *name)
{
    uint64_t segment = dead_number_of_name(name);
    char want[DEAD_NAME_LEN];

    dead_segment_name(segment, want);
    return segment > 0 && strcmp(want, name) == 0 ? segment : 0;
}

struct dead {
    const struct disk *disk;
    int state_dir_fd;
    char name[NAME_MAX + 1];
    uint32_t seed;
    int dir_fd;         /* owns; -1: there is none yet */
    int fd;             /* owns; the segment being written; -1: none */
    uint64_t next;      /* the number of the segment after it */
    uint64_t bytes;     /* how long it is; all of that is durable */
    struct buf pending; /* letters that no job has */
    uint64_t put, durable;

    /* The job's own, with what is said of files above: nobody else looks while it runs. */
    struct {
        bool runs;
        struct buf text;
        uint64_t count; /* letters up to here are durable when it has done well */
        int result;
    } job;
};

/* Begins the next segment, with its header and `text` in it.  Nothing of it is durable yet. */
static int begin_segment(struct dead *d, struct slice text, int *ret_fd, uint64_t *ret_bytes)
{
    char name[DEAD_NAME_LEN];
    struct buf header;
    int fd, r;

    buf_init(&header, 256);
    r = append_header(&header, d->next, d->seed);
    if (r < 0) {
        buf_done(&header);
        return r;
    }
    dead_segment_name(d->next, name);
    fd = d->disk->open(d->disk, d->dir_fd, name,
                       O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW, 0600);
    d->next++; /* a number is never used twice, however this ends */
    if (fd >= 0) {
        r = disk_write_all(d->disk, fd, buf_slice(&header));
        if (r == 0)
            r = disk_write_all(d->disk, fd, text);
        *ret_fd = fd;
        *ret_bytes = header.len + text.len;
        if (r < 0) {
            (void)d->disk->close(d->disk, fd);
            (void)d->disk->unlink(d->disk, d->dir_fd, name);
        }
    } else {
        r = fd;
    }
    buf_done(&header);
    return r;
}

/* Makes a segment that was just begun durable, or as if it had never been. */
static int settle_segment(struct dead *d, int fd)
{
    char name[DEAD_NAME_LEN];
    int r = d->disk->sync(d->disk, fd);

    if (r == 0)
        r = d->disk->sync_dir(d->disk, d->dir_fd);
    if (r < 0) {
        dead_segment_name(d->next - 1, name);
        (void)d->disk->close(d->disk, fd);
        (void)d->disk->unlink(d->disk, d->dir_fd, name);
    }
    return r;
}

/* --- what was there --- */

/* Opens the directory, and makes it if told to; and knows which segment is the next one. */
static int enter(struct dead *d, bool make, struct dead_list *ret)
{
    struct dead_list list;
    int r = dead_dir_open(d->disk, d->state_dir_fd, d->name, make, &d->dir_fd);

    if (r < 0)
        return r;
    r = dead_dir_list(d->disk, d->dir_fd, &list);
    if (r < 0) {
        (void)d->disk->close(d->disk, d->dir_fd);
        d->dir_fd = -1;
        return r;
    }
    d->next = MAX(d->next, list.next);
    if (ret != NULL)
        *ret = list;
    else
        dead_list_done(&list);
    return 0;
}

static int look_at_dir(struct dead *d, struct dead_report *report)
{
    struct dead_list list;
    int r = enter(d, false, &list);

    if (r < 0)
        return r;
    r = dead_dir_tidy(d->disk, d->dir_fd, &list, report);
    dead_list_done(&list);
    return r;
}

/* --- life --- */

int dead_open(int state_dir_fd, const char *name, const struct disk *disk, struct dead **ret,
              struct dead_report *ret_report)
{
    struct dead_report report = {0};
    struct dead *d;
    int r;

    if (!dead_dir_is_name(name))
        return -EINVAL;
    d = calloc(1, sizeof *d);
    if (d == NULL)
        return -ENOMEM;
    d->disk = disk;
    d->state_dir_fd = state_dir_fd;
    d->dir_fd = d->fd = -1;
    d->next = 1;
    (void)snprintf(d->name, sizeof d->name, "%s", name);
    buf_init(&d->pending, DEAD_LETTER_BYTES);
    buf_init(&d->job.text, DEAD_LETTER_BYTES);
    if (getrandom(&d->seed, sizeof d->seed, GRND_NONBLOCK) < 0)
        d->seed = (uint32_t)(uintptr_t)d; /* early boot: any number but the last one's */
    r = look_at_dir(d, &report);
    if (r < 0 && r != -ENOENT)
        report.error = r;
    *ret = d;
    *ret_report = report;
    return 0;
}

static void leave_segment(struct dead *d)
{
    if (d->fd >= 0)
        (void)d->disk->close(d->disk, d->fd); /* what it has is durable, or is kept in memory */
    d->fd = -1;
}

void dead_close(struct dead *d)
{
    if (d == NULL)
        return;
    leave_segment(d);
    if (d->dir_fd >= 0)
        (void)d->disk->close(d->disk, d->dir_fd);
    buf_done(&d->pending);
    buf_done(&d->job.text);
    free(d);
}

int dead_put(struct dead *d, const struct dead_letter *letter)
{
    size_t from = d->pending.len, most = letter_size_max(letter);
    int r;

    if (most > DEAD_LETTER_BYTES)
        return -EMSGSIZE;
    if (from > 0 && most > MAX((size_t)DEAD_PENDING_BYTES, from) - from)
        return -ENOBUFS;
    /* By doubling, so that many small ones stay cheap. */
    r = from + most <= d->pending.cap
            ? 0
            : buf_reserve(&d->pending,
                          MAX(from + most, MIN(2 * d->pending.cap, (size_t)DEAD_PENDING_BYTES)));
    if (r == 0)
        r = append_letter(&d->pending, letter, d->seed);
    if (r < 0) {
        d->pending.len = from;
        return r;
    }
    d->put++;
    return 0;
}

uint64_t dead_put_count(const struct dead *d)
{
    return d->put;
}

uint64_t dead_durable(const struct dead *d)
{
    return d->durable;
}

/* --- the job --- */

bool dead_wants_job(const struct dead *d)
{
    return !d->job.runs && d->durable < d->put;
}

void dead_job_begin(struct dead *d)
{
    assert(!d->job.runs);
    d->job.runs = true;
    d->job.result = 0;
    if (d->job.text.len > 0)
        return; /* the last one failed: the same again */
    struct buf text = d->job.text;
    d->job.text = d->pending;
    d->pending = text;
    d->job.count = d->put;
}

static int append_to_segment(struct dead *d)
{
    int r = disk_write_all(d->disk, d->fd, buf_slice(&d->job.text));

    if (r == 0)
        r = d->disk->sync(d->disk, d->fd);
    if (r == 0) {
        d->bytes += d->job.text.len;
        return 0;
    }
    /* What a failed write or sync has left there is written again elsewhere; and what a failed sync
     * has lost it does not say, and the next one would not either (fsync(2), and the PostgreSQL
     * findings of 2018). */
    (void)d->disk->truncate(d->disk, d->fd,
                            d->bytes); /* or letters are there twice, or a torn one */
    leave_segment(d);
    return r;
}

/* Between two segments nobody is writing: what was marked as done meanwhile gives its room back. */
static void send_off_done(struct dead *d)
{
    struct dead_report report = {0};
    struct dead_list list;

    if (dead_dir_list(d->disk, d->dir_fd, &list) < 0)
        return;
    (void)dead_dir_tidy(d->disk, d->dir_fd, &list, &report); /* what fails, the next one does */
    dead_list_done(&list);
}

void dead_job_run(struct dead *d)
{
    int fd = -1, r = 0;
    uint64_t bytes = 0;

    if (d->dir_fd < 0)
        r = enter(d, true, NULL); /* what it has is for the next start to look at */
    if (r == 0 && d->fd >= 0) {
        r = append_to_segment(d);
    } else if (r == 0) {
        send_off_done(d);
        r = begin_segment(d, buf_slice(&d->job.text), &fd, &bytes);
        if (r == 0)
            r = settle_segment(d, fd);
        if (r == 0) {
            d->fd = fd;
            d->bytes = bytes;
        }
    }
    if (r == 0 && d->bytes >= DEAD_SEGMENT_BYTES)
        leave_segment(d);
    if (r == -ENOENT && d->dir_fd >= 0) {
        (void)d->disk->close(d->disk, d->dir_fd); /* somebody removed it: it is made again */
        d->dir_fd = -1;
    }
    d->job.result = r;
}

int dead_job_end(struct dead *d)
{
    int r = d->job.result;

    d->job.runs = false;
    if (r < 0)
        return r;
    d->durable = d->job.count;
    buf_reset(&d->job.text);
    if (d->job.text.cap > DEAD_TEXT_KEEP)
        buf_done(&d->job.text);
    return 0;
}
