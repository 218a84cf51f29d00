#include "crash_model.h"

#include "must.h"
#include "util.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    LARGE_NAME = 4000,      /* of source 0 in a large story */
    NOISE_LEN = 512 * 1024, /* records are made of it */
    WIDE_LEN = 160 * 1024,  /* of a wide story's records, at most */
    NARROW_LEN = 300,
};

/* --- telling --- */

void story_tell(struct story *s, const char *format, ...)
{
    char *line = s->lines[s->line_count++ % STORY_LINES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof s->lines[0], format, args);
    va_end(args);
    if (s->verbose)
        printf("%s\n", line);
}

void story_violation(struct story *s, const char *format, ...)
{
    size_t from = s->line_count > STORY_LINES ? s->line_count - STORY_LINES : 0;
    va_list args;

    if (!s->verbose)
        for (size_t i = from; i < s->line_count; i++)
            printf("    %s\n", s->lines[i % STORY_LINES]);
    printf("seed %" PRIu64 ": ", s->seed);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    exit(1);
}

/* --- what things look like --- */

struct cursor model_cursor(size_t source, uint64_t place)
{
    struct random mix = {(uint64_t)source << 48 ^ place};

    return (struct cursor){.offset = place, .anchor = random_next(&mix)};
}

size_t model_path(const struct story *s, char to[PATH_MAX], size_t source, unsigned version)
{
    size_t len = (size_t)snprintf(to, PATH_MAX, "/var/log/app/%zu/app.log.%u", source, version);

    if (s->large && source == 0) {
        memset(to + len, 'x', LARGE_NAME - len);
        len = LARGE_NAME;
    }
    return len;
}

struct slice model_data(const struct story *s, size_t source, uint64_t line)
{
    static char noise[NOISE_LEN];
    struct random mix = {(uint64_t)source << 32 ^ line};
    size_t len = random_below(&mix, s->wide ? WIDE_LEN : NARROW_LEN);
    size_t from = random_below(&mix, NOISE_LEN - WIDE_LEN);

    if (noise[0] == 0) {
        struct random more = {1};

        for (size_t i = 0; i < NOISE_LEN; i++)
            noise[i] = (char)(random_next(&more) | 1);
    }
    return (struct slice){noise + from, len};
}

struct slice model_key(size_t source, uint64_t line)
{
    static char key[64];

    return (struct slice){key, (size_t)snprintf(key, sizeof key, "%zu/%" PRIu64, source, line)};
}

struct checkpoint_slot *model_find(struct checkpoint *c, size_t source)
{
    struct checkpoint_slot *slot = NULL, *found = NULL;

    while ((slot = checkpoint_next(c, slot)) != NULL)
        if (checkpoint_id(slot)->ino == source)
            found = slot;
    return found;
}

/* --- the checkpoint --- */

static void check_name(struct story *s, size_t i, const struct said *floor,
                       const struct checkpoint_slot *slot)
{
    char path[PATH_MAX], other[PATH_MAX];
    struct slice name = checkpoint_path(slot, path);

    for (unsigned version = s->sources[i].version_max;; version--) {
        size_t len = model_path(s, other, i, version);

        if (slice_equal(name, (struct slice){other, len}))
            break;
        if (version == 0 || (floor->joined && version == floor->version))
            story_violation(s, "source %zu is called '%s'", i, path);
    }
}

/* A frame that is there tells of its sources again when the checkpoint is not sure that it knows
 * them. */
static bool may_come_back(const struct story *s, size_t source)
{
    for (const struct frame *f = s->frames; f < s->frames + s->frame_count; f++)
        for (size_t k = 0; k < f->part_count; k++)
            if (f->parts[k].source == source && f->state != FRAME_GONE)
                return true;
    return false;
}

static void check_source(struct story *s, size_t i, const struct said *floor,
                         const struct checkpoint_slot *slot)
{
    const struct source *source = &s->sources[i];
    struct cursor at, want;

    if (slot == NULL) {
        if (floor->joined && !floor->gone && !source->noted.gone)
            story_violation(s, "source %zu is forgotten", i);
        return;
    }
    if (!source->noted.joined)
        story_violation(s, "source %zu is known and never came", i);
    if (floor->gone && !may_come_back(s, i))
        story_violation(s, "source %zu is back", i);
    at = checkpoint_cursor(slot);
    want = model_cursor(i, at.offset);
    if (at.offset > source->reach || at.anchor != want.anchor)
        story_violation(s, "source %zu is at %" PRIu64 ", and was never beyond %" PRIu64, i,
                        at.offset, source->reach);
    if ((source->noted.gone || floor->gone) && may_come_back(s, i))
        return; /* as the frame tells of it */
    if (floor->joined && at.offset < floor->place)
        story_violation(s, "source %zu is back at %" PRIu64 ", and was known up to %" PRIu64, i,
                        at.offset, floor->place);
    check_name(s, i, floor, slot);
}

void model_check_checkpoint(struct story *s, struct checkpoint *c, enum floor floor, bool merged)
{
    size_t count = 0, known = 0;

    for (struct checkpoint_slot *slot = NULL; (slot = checkpoint_next(c, slot)) != NULL;)
        count++;
    for (size_t i = 0; i < s->source_count; i++) {
        const struct source *source = &s->sources[i];
        struct checkpoint_slot *slot = model_find(c, i);

        check_source(s, i, floor == FLOOR_DURABLE ? &source->durable : &source->written, slot);
        known += slot != NULL;
    }
    if (known != count)
        story_violation(s, "%zu sources are known%s, and only %zu of them ever came", count,
                        merged ? " with the spool's facts" : "", known);
}

void model_check_report(struct story *s, struct checkpoint *c,
                        const struct checkpoint_report *report)
{
    if (report->moved_aside > 0)
        story_violation(s, "%u generations were moved aside", report->moved_aside);
    if (s->stands && report->fresh)
        story_violation(s, "a start takes itself for the first one");
    if (!s->stands || s->unlooked)
        return;
    if (s->news_ns > 0 && report->written_ns > s->news_ns)
        story_violation(s, "what is known is said to be newer than it is");

    /* What is older than that, and not known, would be taken for what was there before the
     * agent; but where damage was found all is new. */
    for (size_t i = 0; i < s->source_count && !report->partial; i++) {
        const struct source *source = &s->sources[i];

        if (source->noted.joined && !source->noted.gone && source->born_ns < report->written_ns &&
            model_find(c, i) == NULL)
            story_violation(s, "source %zu is not known, and is older than what is", i);
    }
}

/* --- the spool --- */

/* Whether what was put after it is durable. */
static bool is_void(const struct story *s, const struct frame *frame)
{
    if (frame->state != FRAME_FAILED)
        return false;
    for (const struct frame *f = frame + 1; f < s->frames + s->frame_count; f++)
        if (f->state == FRAME_DURABLE)
            return true;
    return false;
}

static void check_record(struct story *s, const struct frame *frame, size_t part, uint64_t line,
                         struct spool_frame *f)
{
    size_t source = frame->parts[part].source;
    struct spool_source from;
    struct spool_record r;

    if (!spool_next(f, &r, &from))
        story_violation(s, "frame %" PRIu64 " ends before its record of line %" PRIu64, f->serial,
                        line);
    if (r.source != part || r.offset != line * LINE_LEN || r.end != (line + 1) * LINE_LEN ||
        !slice_equal(r.key, model_key(source, line)) ||
        !slice_equal(r.data, model_data(s, source, line)) || !slice_equal(from.flow, SLICE("web")))
        story_violation(s, "frame %" PRIu64 ": not what was put of line %" PRIu64, f->serial, line);
}

struct frame *model_check_frame(struct story *s, struct spool_frame *f)
{
    struct frame *frame =
        f->wall_ms >= 0 && (uint64_t)f->wall_ms < s->frame_count ? &s->frames[f->wall_ms] : NULL;
    struct spool_source from;
    struct spool_record r;

    if (frame == NULL)
        story_violation(s, "frame %" PRIu64 " was never put", f->serial);
    if (frame->state == FRAME_DURABLE && frame->serial != f->serial)
        story_violation(s, "frame %" PRIu64 " is %" PRIu64 " now", frame->serial, f->serial);
    if (frame->state == FRAME_GONE)
        story_violation(s, "frame %" PRIu64 " was gone, and is back", f->serial);
    if (is_void(s, frame))
        story_violation(s, "frame %" PRIu64 " could not be put, and is given out", f->serial);
    if (f->records != frame->record_count || f->source_count != frame->part_count)
        story_violation(s, "frame %" PRIu64 " has %" PRIu32 " records", f->serial, f->records);
    for (size_t i = 0; i < frame->part_count; i++)
        for (uint64_t line = frame->parts[i].from; line < frame->parts[i].to; line++)
            check_record(s, frame, i, line, f);
    if (spool_next(f, &r, &from))
        story_violation(s, "frame %" PRIu64 " has more than was put", f->serial);
    return frame;
}

/* Which lines of a source are in the frames that are given out. */
static void mark_spooled(const struct story *s, size_t source, const bool found[MODEL_FRAMES],
                         bool spooled[MODEL_LINES])
{
    memset(spooled, 0, MODEL_LINES * sizeof(bool));
    for (size_t i = 0; i < s->frame_count; i++)
        for (size_t k = 0; k < s->frames[i].part_count && found[i]; k++)
            if (s->frames[i].parts[k].source == source)
                for (uint64_t n = s->frames[i].parts[k].from; n < s->frames[i].parts[k].to; n++)
                    spooled[n] = true;
}

static void check_lines(struct story *s, struct checkpoint *c, const bool found[MODEL_FRAMES])
{
    bool spooled[MODEL_LINES];

    for (size_t i = 0; i < s->source_count; i++) {
        const struct source *source = &s->sources[i];
        const struct checkpoint_slot *slot = model_find(c, i);
        uint64_t place = slot != NULL ? checkpoint_cursor(slot).offset : 0;

        if (slot == NULL && source->noted.gone)
            place = source->noted.place;
        mark_spooled(s, i, found, spooled);
        for (uint64_t n = 0; n < place / LINE_LEN; n++)
            if (!source->delivered[n] && !spooled[n])
                story_violation(s, "line %" PRIu64 " of source %zu is lost: its place is %" PRIu64,
                                n, i, place);
    }
}

bool model_is_settled(const struct story *s, struct checkpoint *c, const struct frame *frame)
{
    for (size_t k = 0; k < frame->part_count; k++) {
        const struct checkpoint_slot *slot = model_find(c, frame->parts[k].source);

        if (slot == NULL && s->sources[frame->parts[k].source].noted.gone)
            continue;
        if (slot == NULL || checkpoint_cursor(slot).offset < frame->parts[k].settles)
            return false;
    }
    return true;
}

/* Facts build on one another: they are not learned behind frames that were done and gone before the
 * checkpoint knew of them. */
static bool may_be_unsettled(const struct story *s, const struct frame *frame, uint64_t merged)
{
    for (const struct frame *f = s->frames; f < frame; f++)
        if (f->ack != ACK_NONE && f->serial > merged)
            return true;
    return frame->loose;
}

void model_check_all(struct story *s, struct checkpoint *c, const bool found[MODEL_FRAMES],
                     enum floor floor, uint64_t merged)
{
    for (size_t i = 0; i < s->frame_count; i++) {
        const struct frame *frame = &s->frames[i];

        if (!found[i] && frame->state == FRAME_DURABLE && !frame->delivered)
            story_violation(s, "frame %" PRIu64 " was durable, and is not given out",
                            frame->serial);
        if (found[i] &&
            (frame->ack == ACK_DURABLE || (floor == FLOOR_WRITTEN && frame->ack == ACK_WRITTEN)))
            story_violation(s, "frame %" PRIu64 " was done, and is given out again", frame->serial);
        if (found[i] && !may_be_unsettled(s, frame, merged) && !model_is_settled(s, c, frame))
            story_violation(s, "frame %zu is given out, and its lines are read again", i);
    }
    check_lines(s, c, found);
}
