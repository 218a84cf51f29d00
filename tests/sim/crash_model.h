/* crash_model -- what a story has said and was promised, and whether a start keeps it.
 *
 * A source's file consists of lines of LINE_LEN bytes; each is a record.  A line that was
 * read is
 *
 *   1. before its source's place, and then delivered or in a frame of the spool;
 *   2. or not, and then it will be read again.
 *
 * What is durable may not be missing.  What was begun may be there or not, and is there from
 * then on or never again.  What is given out was put, byte for byte, and where it is from is
 * settled. */
#ifndef SIM_CRASH_MODEL_H
#define SIM_CRASH_MODEL_H

#include "crashdisk.h"
#include "random.h"

#include "cursor.h"
#include "keep/checkpoint.h"
#include "keep/spool.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_SPOOL "web-stream"

enum {
    MODEL_SOURCES = 24, /* that may ever come in a story */
    MODEL_LINES = 4096, /* of one source */
    MODEL_FRAMES = 256, /* of a story */
    MODEL_PARTS = 3,    /* sources of one frame */
    LINE_LEN = 100,     /* bytes of a log's line: where a place may be */
    STORY_LINES = 80,   /* that are told of a story that went wrong */
};

/* What was said of a source, at some time. */
struct said {
    bool joined, gone;
    uint64_t place;
    unsigned version; /* of its name */
};

struct source {
    struct said noted, written, durable, begun; /* begun: written before the job began */
    uint64_t reach;                             /* no place can be beyond */
    unsigned version_max;                       /* that it was ever called by */
    int64_t born_ns;                            /* when it joined */
    bool busy;                                  /* some of its lines are being put */
    bool delivered[MODEL_LINES];                /* or not ours to deliver */
    struct checkpoint_slot *slot;               /* of the agent that runs */
};

enum frame_state {
    FRAME_BEGUN,   /* nobody knows */
    FRAME_FAILED,  /* with an error: as BEGUN until a later one is durable, and then void */
    FRAME_DURABLE, /* it is there until it is acknowledged */
    FRAME_GONE,    /* a start did not find it: it never comes back */
};

enum ack_state { ACK_NONE, ACK_SAID, ACK_WRITTEN, ACK_DURABLE };

struct frame {
    enum frame_state state;
    enum ack_state ack;
    bool ack_begun; /* it was written before the job began */
    bool delivered; /* it was acknowledged once: stale blocks may say so again */
    bool given;     /* to the agent that runs */
    bool loose;     /* what it settles is not known, and will not be */
    uint64_t serial;
    struct {
        size_t source;
        uint64_t from, to; /* lines */
        uint64_t settles;  /* the place that its facts tell */
    } parts[MODEL_PARTS];
    size_t part_count, record_count;
};

struct story {
    struct random random;
    uint64_t seed;
    bool verbose, faulty, fills;
    bool full;  /* the disk is: for a while */
    bool large; /* source 0 has a very long name, so that the journal grows fast */
    bool wide;  /* records are long, so that the spool's segments are soon full */
    bool spools;

    struct crashdisk *disk;
    struct source sources[MODEL_SOURCES];
    size_t source_count;
    struct frame frames[MODEL_FRAMES]; /* in the order in which they were put */
    size_t frame_count;

    /* The agent that runs. */
    struct checkpoint *checkpoint;
    struct spool *spool;
    int checkpoint_fd;
    bool weak;              /* what was written may not be found after a kill */
    uint64_t failed_before; /* the start: calls */
    uint64_t failed_crash;  /* the last crash */

    int64_t news_ns; /* when something was written last that was no start; 0: never */
    bool unlooked;   /* a start has written something, and looked at no file */
    bool stands;     /* there is a store whatever comes: no start is the first one */

    uint64_t *seen; /* what was tried of the present moment */
    size_t seen_count;
    uint64_t states, starts;
    char lines[STORY_LINES][200];
    size_t line_count;
};

/* What a start has to keep: what was durable, or after a kill what was written as well. */
enum floor { FLOOR_DURABLE, FLOOR_WRITTEN };

/* Tells the story on; and ends it, and the program, as something is not as it must be. */
void story_tell(struct story *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void story_violation(struct story *s, const char *format, ...)
    __attribute__((format(printf, 2, 3), noreturn));

/* A place tells by its anchor whose it is: one that comes from elsewhere is noticed. */
struct cursor model_cursor(size_t source, uint64_t place);
size_t model_path(const struct story *s, char to[PATH_MAX], size_t source, unsigned version);

/* The record that a line becomes; borrowed until the next call. */
struct slice model_data(const struct story *s, size_t source, uint64_t line);
struct slice model_key(size_t source, uint64_t line);

struct checkpoint_slot *model_find(struct checkpoint *c, size_t source);

/* What a start has read of the checkpoint.  `merged`: and learned from the spool. */
void model_check_checkpoint(struct story *s, struct checkpoint *c, enum floor floor, bool merged);
void model_check_report(struct story *s, struct checkpoint *c,
                        const struct checkpoint_report *report);

/* Holds a frame that is given out against what was put; returns it. */
struct frame *model_check_frame(struct story *s, struct spool_frame *f);

/* What the spool gives out now must be all that it has to; and with what the checkpoint knows no
 * line is lost.  `found`: of each frame whether it is given out.  `merged`: up to which serial
 * the checkpoint knew what frames say, before it learned from them. */
void model_check_all(struct story *s, struct checkpoint *c, const bool found[MODEL_FRAMES],
                     enum floor floor, uint64_t merged);

/* Whether the checkpoint knows what the frame settles, so that its lines are not read again as
 * well. */
bool model_is_settled(const struct story *s, struct checkpoint *c, const struct frame *frame);

#endif
