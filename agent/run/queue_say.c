#include "base64.h"
#include "escape.h"
#include "json.h"
#include "run/queue_inner.h"
#include "utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* --- words for a person --- */

const char *queue_show_name(struct queue_command *c, const char *name)
{
    struct buf *b = &c->shown[c->shown_count++ % QUEUE_SHOWN];

    buf_reset(b);
    if (escape_append(b, slice_of(name)) < 0 || buf_append_char(b, '\0') < 0)
        return "(a name too long to show)";
    return b->ptr;
}

int queue_failed(const char *format, ...)
{
    va_list args;

    fflush(stdout); /* what was shown before it stands before it */
    fputs("kinetail queue: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return EXIT_FAILURE;
}

static bool format_time(int64_t wall_ms, char to[QUEUE_TIME_SIZE])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    int ms = (int)(wall_ms % 1000);
    struct tm tm;

    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    if (wall_ms == 0 || gmtime_r(&seconds, &tm) == NULL)
        return false;
    return snprintf(to, QUEUE_TIME_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900,
                    tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                    ms) < QUEUE_TIME_SIZE;
}

void queue_format_time(int64_t wall_ms, char to[QUEUE_TIME_SIZE])
{
    if (!format_time(wall_ms, to))
        (void)snprintf(to, QUEUE_TIME_SIZE, "-");
}

int queue_end_output(int r, int status)
{
    if (r == 0 && fflush(stdout) != 0)
        r = -errno;
    return r < 0 ? queue_failed("writing: %s", strerrordesc_np(-r)) : status;
}

static int write_line(struct queue_command *c)
{
    return fwrite(c->line.ptr, 1, c->line.len, stdout) == c->line.len ? 0 : -EIO;
}

/* --- JSON --- */

static int json_member(struct buf *b, const char *name)
{
    int r = b->len > 1 ? buf_append_char(b, ',') : 0;

    return r < 0 ? r : buf_printf(b, "\"%s\":", name);
}

int queue_json_text(struct buf *b, const char *name, struct slice text)
{
    int r = json_member(b, name);

    return r < 0 ? r : json_append_string(b, text);
}

int queue_json_number(struct buf *b, const char *name, uint64_t n)
{
    int r = json_member(b, name);

    return r < 0 ? r : buf_printf(b, "%" PRIu64, n);
}

int queue_json_time(struct buf *b, const char *name, int64_t wall_ms)
{
    char text[QUEUE_TIME_SIZE];
    int r;

    if (format_time(wall_ms, text))
        return queue_json_text(b, name, slice_of(text));
    r = json_member(b, name);
    return r < 0 ? r : buf_append(b, SLICE("null"));
}

int queue_json_begin(struct queue_command *c)
{
    buf_reset(&c->line);
    return buf_append_char(&c->line, '{');
}

int queue_json_end(struct queue_command *c)
{
    int r = buf_append(&c->line, SLICE("}\n"));

    return r < 0 ? r : write_line(c);
}

static int json_base64(struct buf *b, const char *name, struct slice data)
{
    size_t size = base64_size(data.len);
    int r = json_member(b, name);

    if (r == 0)
        r = buf_reserve(b, b->len + size + 2);
    if (r < 0)
        return r;
    b->ptr[b->len++] = '"';
    base64_encode(b->ptr + b->len, data.ptr, data.len);
    b->len += size;
    b->ptr[b->len++] = '"';
    return 0;
}

static int say_json(struct queue_command *c, enum queue_kind kind, const char *directory,
                    const struct queue_item *i)
{
    struct buf *b = &c->line;
    int r = queue_json_begin(c);

    if (r < 0 || (r = queue_json_text(b, "destination", slice_of(directory))) < 0 ||
        (r = queue_json_text(b, "kind", slice_of(queue_kind_word(kind)))) < 0 ||
        (r = queue_json_time(b, "time", i->wall_ms)) < 0 ||
        (r = queue_json_text(b, "flow", i->flow)) < 0 ||
        (r = queue_json_text(b, "file", i->file)) < 0 ||
        (r = queue_json_number(b, "offset", i->offset)) < 0 ||
        (r = queue_json_number(b, "end", i->end)) < 0)
        return r;
    if (kind == QUEUE_DEAD && (r = queue_json_text(b, "reason", i->reason)) < 0)
        return r;
    if ((i->unredacted && (r = buf_append(b, SLICE(",\"unredacted\":true"))) < 0) ||
        (i->cut && (r = buf_append(b, SLICE(",\"cut\":true"))) < 0))
        return r;
    if ((i->key.len > 0 && (r = queue_json_text(b, "key", i->key)) < 0) ||
        (utf8_valid(i->record) && (r = queue_json_text(b, "record", i->record)) < 0) ||
        (r = json_base64(b, "record_base64", i->record)) < 0)
        return r;
    return queue_json_end(c);
}

/* --- for people --- */

static int append_row(struct buf *b, const char *what, struct slice text)
{
    int r = buf_printf(b, "  %-8s ", what);

    if (r == 0)
        r = escape_append(b, text);
    return r < 0 ? r : buf_append_char(b, '\n');
}

static int say_text(struct queue_command *c, const struct queue_item *i)
{
    char time[QUEUE_TIME_SIZE];
    struct buf *b = &c->line;
    int r;

    buf_reset(b);
    queue_format_time(i->wall_ms, time);
    if ((r = buf_printf(b, "%s ", time)) < 0 || (r = escape_append(b, i->flow)) < 0 ||
        (r = buf_append_char(b, ' ')) < 0 || (r = escape_append(b, i->file)) < 0 ||
        (r = buf_printf(b, " bytes %" PRIu64 " to %" PRIu64 "\n", i->offset, i->end)) < 0)
        return r;
    if (i->reason.len > 0 && (r = append_row(b, "reason", i->reason)) < 0)
        return r;
    if (i->cut && (r = append_row(b, "note", SLICE("only its beginning is kept here"))) < 0)
        return r;
    if (i->key.len > 0 && (r = append_row(b, "key", i->key)) < 0)
        return r;
    r = append_row(b, "record", i->record);
    return r < 0 ? r : write_line(c);
}

/* The record as it is; on a line of its own. */
static int say_raw(const struct queue_item *i)
{
    if (fwrite(i->record.ptr, 1, i->record.len, stdout) != i->record.len)
        return -EIO;
    if (slice_ends_with(i->record, SLICE("\n")))
        return 0;
    return putchar('\n') == EOF ? -EIO : 0;
}

int queue_say_item(struct queue_command *c, enum queue_kind kind, const char *directory,
                   const struct queue_item *item)
{
    if (c->raw)
        return say_raw(item);
    return c->json ? say_json(c, kind, directory, item) : say_text(c, item);
}
