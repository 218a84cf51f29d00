/* history -- writers, their log files and an agent; what is done is done on the disk and in the
 * model, and told to a person.
 *
 * Three writers append to three logs.  What a log's name leads to, and who reads it, changes by the
 * steps (steps.h); here is what they are made of.  Everything follows from a seed.
 *
 * A test's: what must not happen aborts (must.h). */
#ifndef HISTORY_H
#define HISTORY_H

#include "buf.h"
#include "model.h"
#include "world.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HISTORY_LOGS = 3,
    HISTORY_LINE_MAX = 128,
    HISTORY_STORY_MAX = 1 << 20,
};

extern const char *const history_logs[HISTORY_LOGS];
extern const char history_home[]; /* the directory that is renamed and removed */

/* What the globs are; the logs have the same names in all of them. */
enum history_globs {
    GLOBS_LOG,
    GLOBS_GENERATIONS, /* generations and copies are in them */
    GLOBS_TWO_FLOWS,
    GLOBS_NAMES,
    GLOBS_COUNT,
};

/* What the flows make of lines.  The numbers of lines say which of them begin an event. */
enum history_events {
    EVENTS_LINES,    /* a record each */
    EVENTS_MULTIPLE, /* events of several lines, which often end by their timeout */
    EVENTS_JOINED,   /* the same, and several of them in one record */
    EVENTS_WHOLE,    /* events that end by no timeout: each must be whole */
    EVENTS_DEAD,     /* those whose numbers end in 7 are set aside */
    EVENTS_COUNT,
};

/* Shares are in percent. */
struct history_options {
    unsigned wild, rotated, headed;
    unsigned lines_max; /* in one write */
    unsigned globs;     /* GLOBS_COUNT: as the seed says */
    unsigned events;    /* EVENTS_COUNT: as the seed says */
    bool keep;
};

/* One writer and its file. */
struct log {
    char rest[HISTORY_LINE_MAX]; /* of a half line, with its newline: the writer writes it next */
    size_t rest_len;
    int old; /* the file that it wrote before, or -1 */
    uint64_t retired_ms;
    bool headed;    /* each of its files begins with the same lines */
    bool ambiguous; /* truncated while the agent may not have been beyond them */
};

struct history {
    struct sim_world world;
    struct model model;
    struct random args; /* of the step that is told */
    struct log logs[HISTORY_LOGS];
    unsigned globs, events, lines_max;
    uint32_t written, names, frozen; /* changes that the agent does not see one by one */
    uint64_t throttled;
    bool wild, rotated, newline;
    bool born;         /* a file, since the kernel's clock last moved for sure */
    const char *moved; /* where `history_home` is now; NULL: where it belongs */
};

/* What came out, and the story of it; in memory that a child process shares. */
enum verdict { VERDICT_WELL, VERDICT_CRASHED, VERDICT_TORN, VERDICT_LOST, VERDICT_TWICE };

struct story {
    enum verdict verdict;
    uint32_t lines, lost, torn, twice;
    size_t len;
    char text[HISTORY_STORY_MAX];
};

/* Begins a history, which tells its story into `story`; lets all be well again and nothing be
 * written any more; judges. */
void history_begin(struct history *h, const struct history_options *o, uint64_t seed,
                   struct story *story);
void history_finish(struct history *h);
void history_judge(struct history *h);
void history_done(struct history *h);

__attribute__((format(printf, 1, 2))) void history_say(const char *format, ...);

/* The step's next argument, and its next chance in percent. */
uint64_t history_arg(struct history *h, uint64_t below);
bool history_chance(struct history *h, unsigned percent);

/* --- names, as the model has them: below DIR/log/ --- */

const char *history_disk(const struct history *h, const char *path);
bool history_is_log(const char *path);

/* What a rotation makes of a log's name: a.log.3, a.3.log, a.log-20261121, perhaps with .gz. */
bool history_is_generation(const char *path);

/* Whether the flows' globs mean it. */
bool history_means(const struct history *h, const char *path);

/* A name that was not there before; `format` is of "%.*s" (the log's name without .log) and "%u". */
__attribute__((format(printf, 3, 0))) void history_new_name(struct history *h, char to[MODEL_PATH],
                                                            const char *format, unsigned log);

/* --- time --- */

/* Time passes, and an agent that runs has a look. */
void history_pass(struct history *h, uint64_t ms);

/* A file is born: in a tick of the kernel's clock of its own, unless the history is wild; so this
 * comes before it, and history_born after all that the step does. */
void history_birth(struct history *h);
void history_born(struct history *h);

/* --- writing --- */

void history_add_line(struct history *h, struct buf *to);
void history_add_header(unsigned log, struct buf *to);

/* Line `number` with its newline; returns its length. */
size_t history_line(uint32_t number, char to[HISTORY_LINE_MAX]);

/* Whether the writer's directory is there. */
bool history_is_home(const struct history *h, unsigned log);

/* Adds bytes to a file of that name, which may be made by it; or, if `at` >= 0, writes them there,
 * beyond its end. */
void history_put(struct history *h, const char *path, struct slice bytes, int64_t at);

/* Writes lines: first the rest of a half line, and into an empty file its header. */
void history_write(struct history *h, unsigned log, uint32_t count);
void history_write_at(struct history *h, unsigned log, uint32_t count, int64_t at);

/* Writes the rest of a half line, to the file that has the log's name now. */
void history_write_rest(struct history *h, unsigned log);

/* --- files --- */

/* The log's file, or -1. */
int history_file(const struct history *h, unsigned log);

/* The writer has let go of the file, but may come back to it for a while. */
void history_retire(struct history *h, unsigned log, uint32_t file);

void history_rename(struct history *h, const char *from, const char *to);
void history_remove(struct history *h, const char *path);

/* --- the agent --- */

void history_start(struct history *h);
void history_stop(struct history *h);
void history_kill(struct history *h);

#endif
