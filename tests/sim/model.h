/* model -- what must arrive: log files as the disk has them, and what became of each line.
 *
 * A test does each thing twice, on the disk and here.  A file is an inode: its lines in order, what
 * stands behind the last newline, and the names that lead to it.  A line is known by its text, and
 * is in one of four states:
 *
 *   open    its newline was not written yet; it must not arrive
 *   must    it arrives, once
 *   may     it may be lost, and `why` says what makes that honest; it arrives once at most
 *   never   it was there before the flow began, which reads what comes later
 *
 *   1. A line must arrive as long as some file that the agent can reach has it: one with a name in
 *      the globs, or called like a generation of one, or where rotated files may be; or one that the
 *      running agent has seen, whatever became of its names.
 *   2. A line that no such file has any more must still arrive if the agent has read it and lives.
 *      That it has read it is only claimed where nothing could keep it from reading: the service is
 *      well, nothing was out when it looked before, and all that is out now has room in one batch.
 *   3. What stands behind the last newline of a file that nobody writes to any more is a line, unless
 *      the file has a name in the globs: then it may be one.
 *   4. A line may arrive once more for each answer that was lost with it, and for each end of the
 *      agent that came while it was not settled: with a line before it in its file still out, or
 *      after it, if the service was taking only parts of batches.  And once more if a file was
 *      shortened until fewer than three different lines are left, this one among them: they look
 *      like the header of a new content.
 *
 * Thinks: no I/O. */
#ifndef MODEL_H
#define MODEL_H

#include "map.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MODEL_FILES = 1024, /* in one history */
    MODEL_NAMES = 4,    /* of one file */
    MODEL_PATH = 96,
    MODEL_DIFFERENT = 3, /* lines that are more than a header */
};

/* What a name means to the agent. */
enum model_place {
    MODEL_GLOB,       /* the globs match it */
    MODEL_GENERATION, /* beside one of those, called like a rotation of it */
    MODEL_ROTATED,    /* where the flow is told that rotated files are */
    MODEL_AWAY,       /* its directory has another name for now, and will get its own back */
    MODEL_OUTSIDE,
};

enum model_state { MODEL_OPEN, MODEL_MUST, MODEL_MAY, MODEL_NEVER };

struct model_line {
    struct map_node node;
    char *text; /* owns; without the newline */
    uint32_t len;
    enum model_state state;
    bool closed;       /* it can be found by its text */
    bool shared;       /* other lines have the same text: they are judged together */
    bool read;         /* the running agent has it in memory */
    bool marked, held; /* scratch */
    uint32_t stored, acknowledged, allowed; /* `allowed`: how often it may arrive beyond once */
    const char *why;
};

struct model_name {
    char path[MODEL_PATH];
    enum model_place place;
};

struct model_file {
    bool used;
    struct model_name names[MODEL_NAMES];
    uint32_t name_count;
    struct model_line **lines; /* owns the array; the last one is open if `half` */
    uint32_t count, cap;
    uint32_t settled; /* of so many lines nothing was out at some time */
    bool half, known, retired, compressed;
    uint32_t shortened; /* how often since the agent had caught up */
};

struct model {
    struct model_line **lines; /* owns */
    uint32_t line_count, line_cap;
    struct model_file files[MODEL_FILES];
    uint32_t file_count;
    struct map by_text;
    enum model_place (*place)(void *user, const char *path);
    void *user;
    uint32_t room; /* records that one batch has room for; 0: it does not wait for them */
    bool alive, healthy, partial, quiet;
    uint32_t torn; /* records that are no line */
};

void model_init(struct model *m);
void model_done(struct model *m);

/* Files and names; a file is known by its number.  model_find: -1 if there is none of that name. */
uint32_t model_create(struct model *m, const char *path);
int model_find(const struct model *m, const char *path);
bool model_name(struct model *m, uint32_t file, const char *path); /* false: it has too many */
void model_unname(struct model *m, const char *path, const char *why);
void model_rename(struct model *m, const char *from, const char *to, const char *why);

/* Looks at all places again: the directories or the globs are not what they were. */
void model_replace(struct model *m, const char *from, const char *to, const char *why);

/* Bytes are added at the end; all are taken away; a few are. */
void model_append(struct model *m, uint32_t file, struct slice bytes);
void model_truncate(struct model *m, uint32_t file, const char *why);
void model_shorten(struct model *m, uint32_t file, uint32_t bytes, const char *why);

/* A file with the same lines; a half line in it is one of its own. */
uint32_t model_copy(struct model *m, uint32_t file, const char *path);

/* What is in it was there before the flow began at the end of its files. */
void model_skip(struct model *m, uint32_t file);

/* Nobody writes to it any more; or somebody does again.  (A file without names is retired.) */
void model_retire(struct model *m, uint32_t file, bool retired);

/* The agent began; had time to look; ended (`orderly`: as it wishes, with a service that is well). */
void model_began(struct model *m);
void model_looked(struct model *m, bool faults);
void model_ended(struct model *m, bool orderly);

/* A record was stored; `unsure`: nobody told the agent.  False if it is no line of ours. */
bool model_stored(struct model *m, struct slice record, bool unsure);

/* Lines that must arrive and did not; that arrived too often.  The first of them in *ret. */
uint32_t model_lost(const struct model *m, const struct model_line **ret);
uint32_t model_twice(const struct model *m, const struct model_line **ret);

#endif
