#include "run/checkpoint_command.h"

#include "base64.h"
#include "buf.h"
#include "digest.h"
#include "disk.h"
#include "escape.h"
#include "json.h"
#include "keep/checkpoint.h"
#include "keep/state.h"
#include "run/config.h"
#include "run/look.h"
#include "run/setup.h"
#include "tail/glob.h"
#include "tail/identity.h"
#include "utf8.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

enum {
    COMMAND_USAGE = 2, /* the exit status for wrong usage or configuration */
    COMMAND_SHOWN = 4, /* names in one sentence */
    COMMAND_LINE_MAX = 16 * PATH_MAX,
};

struct command {
    const char *config_path, *state_path; /* as said; state_path NULL: the configuration's */
    const char *flow;                     /* --flow, or NULL */
    bool json, apply;
    char **words; /* behind the subcommand */
    int word_count;

    struct config *config; /* owns; NULL if it was not needed */
    const char *state_dir;
    int dir_fd; /* of the store; -1: not open */
    struct checkpoint *store;
    struct checkpoint_report report;
    struct digest *digest;
    struct look_dir beside;
    struct buf line;
    struct buf shown[COMMAND_SHOWN]; /* a ring */
    unsigned shown_count;
};

/* --- words for a person --- */

/* A name, escaped; good for the next COMMAND_SHOWN of them. */
static const char *show(struct command *c, struct slice name)
{
    struct buf *b = &c->shown[c->shown_count++ % COMMAND_SHOWN];

    buf_reset(b);
    if (escape_append(b, name) < 0 || buf_append_char(b, '\0') < 0)
        return "(a name too long to show)";
    return b->ptr;
}

static const char *show_text(struct command *c, const char *name)
{
    return show(c, slice_of(name));
}

__attribute__((format(printf, 1, 2))) static int failed(const char *format, ...)
{
    va_list args;

    fputs("kinetail checkpoint: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return EXIT_FAILURE;
}

static int usage(FILE *to)
{
    fputs("usage: kinetail checkpoint list [--flow F] [--json]\n"
          "       kinetail checkpoint show [--flow F] [--json] PATH...\n"
          "       kinetail checkpoint set --flow F PATH OFFSET|start|end [--apply]\n"
          "       kinetail checkpoint verify [--json]\n",
          to);
    if (to == stdout)
        fputs(
            "\n"
            "list says how far each file is delivered; show says all that is known of a file; set\n"
            "says what another place would change, and changes it with --apply, while no agent\n"
            "runs; verify looks whether the store is whole and the files still fit it.\n"
            "\n"
            "  -c, --config FILE     the configuration (default /etc/kinetail/kinetail.conf)\n"
            "      --state-dir DIR   where positions are kept, instead of state_dir; but for set,\n"
            "                        no configuration is needed then\n"
            "      --json            one object a line, for programs\n"
            "\n"
            "Exit status: 0 well, 1 it failed or something is damaged, 2 wrong usage.\n",
            to);
    return to == stdout ? EXIT_SUCCESS : COMMAND_USAGE;
}

__attribute__((format(printf, 1, 2))) static int misused(const char *format, ...)
{
    va_list args;

    fputs("kinetail checkpoint: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return usage(stderr);
}

/* --- the store --- */

/* Knows where the store is.  The exit status, or 0. */
static int find_state_dir(struct command *c, bool need_config)
{
    if (c->state_path == NULL || need_config) {
        c->config = setup_config(c->config_path, c->state_path);
        if (c->config == NULL)
            return COMMAND_USAGE;
        c->state_dir = c->config->state_dir;
    } else {
        c->state_dir = c->state_path;
    }
    return 0;
}

/* Opens the directory of the store without making it.  The exit status, or 0. */
static int open_store_dir(struct command *c)
{
    int fd = open(c->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 ? -errno : 0;

    if (r == -ENOENT)
        return failed("state_dir '%s' does not exist: no agent has run with it yet",
                      show_text(c, c->state_dir));
    if (r == 0) {
        c->dir_fd = openat(fd, "checkpoint", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = c->dir_fd < 0 ? -errno : 0;
        close(fd);
    }
    if (r == -ENOENT)
        return failed("'%s' has no checkpoint: no agent has run with it yet",
                      show_text(c, c->state_dir));
    if (r < 0)
        return failed("'%s/checkpoint': %s; run this as the agent's user or as root",
                      show_text(c, c->state_dir), strerrordesc_np(-r));
    return 0;
}

static int said_store_error(struct command *c, int r)
{
    if (r == -ENOTSUP)
        return failed("'%s/checkpoint' was written by a newer kinetail; use that one",
                      show_text(c, c->state_dir));
    return failed("'%s/checkpoint': %s", show_text(c, c->state_dir), strerrordesc_np(-r));
}

/* Reads the store, and touches nothing.  The exit status, or 0. */
static int read_store(struct command *c)
{
    int r = open_store_dir(c);

    if (r != 0)
        return r;
    r = checkpoint_read(&disk_system, c->dir_fd, &c->store, &c->report);
    if (r < 0)
        return said_store_error(c, r);
    if (c->report.fresh)
        return failed("'%s/checkpoint' is empty: no agent has written to it yet",
                      show_text(c, c->state_dir));
    return 0;
}

/* Goes to the next source that --flow means; NULL begins, NULL ends. */
static struct checkpoint_slot *next_slot(struct command *c, struct checkpoint_slot *s)
{
    do
        s = checkpoint_next(c->store, s);
    while (s != NULL && c->flow != NULL && !slice_equal(checkpoint_flow(s), slice_of(c->flow)));
    return s;
}

/* The names of the configuration's flows, for a sentence. */
static const char *flow_names(struct command *c)
{
    struct buf *b = &c->line;
    int r = 0;

    buf_reset(b);
    for (size_t i = 0; i < c->config->flow_count && r >= 0; i++) {
        r = buf_append(b, i > 0 ? SLICE(", ") : SLICE(""));
        if (r == 0)
            r = escape_append(b, slice_of(c->config->flows[i].name));
    }
    return r < 0 || buf_append_char(b, '\0') < 0 ? "" : b->ptr;
}

static int check_flow(struct command *c)
{
    if (c->flow == NULL || checkpoint_knows_flow(c->store, slice_of(c->flow)))
        return 0;
    return failed("the store knows no flow '%s'; `kinetail checkpoint list` shows what it knows",
                  show_text(c, c->flow));
}

/* --- JSON --- */

static int json_member(struct buf *b, const char *name)
{
    int r = b->len > 1 ? buf_append(b, SLICE(", ")) : 0;

    return r < 0 ? r : buf_printf(b, "\"%s\": ", name);
}

static int json_text(struct buf *b, const char *name, struct slice text)
{
    int r = json_member(b, name);

    return r < 0 ? r : json_append_string(b, text);
}

static int json_number(struct buf *b, const char *name, uint64_t n)
{
    int r = json_member(b, name);

    return r < 0 ? r : buf_printf(b, "%" PRIu64, n);
}

static int json_number_if(struct buf *b, const char *name, bool known, uint64_t n)
{
    int r;

    if (known)
        return json_number(b, name, n);
    r = json_member(b, name);
    return r < 0 ? r : buf_append(b, SLICE("null"));
}

static int json_flag(struct buf *b, const char *name, bool flag)
{
    int r = json_member(b, name);

    return r < 0 ? r : buf_append(b, flag ? SLICE("true") : SLICE("false"));
}

/* A path is bytes; what JSON cannot carry is said a second time as base64. */
static int json_path(struct buf *b, struct slice path)
{
    char text[PATH_MAX / 3 * 4 + 8];
    int r = json_text(b, "path", path);

    if (r < 0 || utf8_valid(path) || base64_size(path.len) > sizeof text)
        return r;
    base64_encode(text, path.ptr, path.len);
    return json_text(b, "path_base64", (struct slice){text, base64_size(path.len)});
}

/* RFC 3339, in UTC. */
static bool format_born(int64_t born_ns, char to[64])
{
    time_t seconds = (time_t)(born_ns / INT64_C(1000000000));
    long ns = (long)(born_ns % INT64_C(1000000000));
    struct tm tm;
    size_t n;

    if (ns < 0) {
        ns += 1000000000;
        seconds--;
    }
    if (born_ns == 0 || gmtime_r(&seconds, &tm) == NULL)
        return false;
    n = strftime(to, 64, "%Y-%m-%dT%H:%M:%S", &tm);
    return n > 0 && snprintf(to + n, 64 - n, ".%09ldZ", ns) > 0;
}

static int json_born(struct buf *b, int64_t born_ns)
{
    char born[64];

    if (format_born(born_ns, born))
        return json_text(b, "born", slice_of(born));
    return json_number_if(b, "born", false, 0);
}

static bool has_size(const struct look *l)
{
    return l->state == LOOK_OK || l->state == LOOK_BEHIND || l->same_file;
}

static bool has_lag(const struct look *l)
{
    return l->state == LOOK_OK || l->state == LOOK_BEHIND;
}

static int json_source(struct buf *b, const struct checkpoint_slot *s, const struct look *l)
{
    const struct source_id *id = checkpoint_id(s);
    struct cursor at = checkpoint_cursor(s);
    char path[PATH_MAX];
    int r;

    if ((r = json_text(b, "flow", checkpoint_flow(s))) < 0 ||
        (r = json_path(b, checkpoint_path(s, path))) < 0 ||
        (r = json_number(b, "offset", at.offset)) < 0 ||
        (r = json_number_if(b, "size", has_size(l), l->size)) < 0 ||
        (r = json_number_if(b, "lag_bytes", has_lag(l), l->size - at.offset)) < 0 ||
        (r = json_number(b, "inode", id->ino)) < 0 || (r = json_number(b, "device", id->dev)) < 0 ||
        (r = json_born(b, id->born_ns)) < 0 || (r = json_number(b, "head_bytes", id->head_len)) < 0)
        return r;
    return json_text(b, "state", slice_of(look_word(l->state)));
}

static int begin_object(struct command *c)
{
    buf_reset(&c->line);
    return buf_append_char(&c->line, '{');
}

/* Ends the object and writes it.  Errors: as buf; -EIO. */
static int end_object(struct command *c)
{
    int r = buf_append(&c->line, SLICE("}\n"));

    if (r == 0 && fwrite(c->line.ptr, 1, c->line.len, stdout) != c->line.len)
        r = -EIO;
    return r;
}

/* All was written, or it is said.  The exit status. */
static int end_output(int r, int status)
{
    if (r == 0 && fflush(stdout) != 0)
        r = -errno;
    return r < 0 ? failed("writing: %s", strerrordesc_np(-r)) : status;
}

static void look_at_slot(struct command *c, const struct checkpoint_slot *s, struct look *ret)
{
    struct cursor at = checkpoint_cursor(s);
    char path[PATH_MAX];

    (void)checkpoint_path(s, path);
    look_at(c->digest, path, checkpoint_id(s), &at, ret);
}

/* --- list --- */

static int width_of(uint64_t n)
{
    return snprintf(NULL, 0, "%" PRIu64, n);
}

/* Characters of an escaped name; each is taken to be one column wide. */
static int columns_of(const char *escaped)
{
    int n = 0;

    for (; *escaped != '\0'; escaped++)
        n += (*escaped & 0xc0) != 0x80;
    return n;
}

static int list_json(struct command *c)
{
    struct checkpoint_slot *s = NULL;
    int r = 0;

    while (r == 0 && (s = next_slot(c, s)) != NULL) {
        struct look l;

        look_at_slot(c, s, &l);
        if ((r = begin_object(c)) == 0 && (r = json_source(&c->line, s, &l)) == 0)
            r = end_object(c);
    }
    return r;
}

struct widths {
    int flow, offset;
};

static void print_row(const struct widths *w, const char *flow, const char *offset,
                      const char *size, const char *lag, const char *path)
{
    printf("%s%*s  %*s  %*s  %*s  %s\n", flow, w->flow - columns_of(flow), "", w->offset, offset,
           MAX(w->offset, (int)strlen("unreadable")), size, w->offset, lag, path);
}

static void list_rows(struct command *c)
{
    struct widths w = {(int)strlen("FLOW"), (int)strlen("OFFSET")};
    struct checkpoint_slot *s = NULL;

    while ((s = next_slot(c, s)) != NULL) {
        w.flow = MAX(w.flow, columns_of(show(c, checkpoint_flow(s))));
        w.offset = MAX(w.offset, width_of(checkpoint_cursor(s).offset) + 1); /* it may grow */
    }
    if (isatty(STDOUT_FILENO) && next_slot(c, NULL) != NULL)
        print_row(&w, "FLOW", "OFFSET", "SIZE", "LAG", "PATH");
    while ((s = next_slot(c, s)) != NULL) {
        struct cursor at = checkpoint_cursor(s);
        char path[PATH_MAX], offset[24], size[24], lag[24] = "-";
        struct look l;

        look_at_slot(c, s, &l);
        (void)snprintf(offset, sizeof offset, "%" PRIu64, at.offset);
        (void)snprintf(size, sizeof size, "%s", look_word(l.state));
        if (has_lag(&l)) {
            (void)snprintf(size, sizeof size, "%" PRIu64, l.size);
            (void)snprintf(lag, sizeof lag, "%" PRIu64, l.size - at.offset);
        }
        print_row(&w, show(c, checkpoint_flow(s)), offset, size, lag,
                  show(c, checkpoint_path(s, path)));
    }
}

static int command_list(struct command *c)
{
    int r = find_state_dir(c, false);

    if (r == 0)
        r = read_store(c);
    if (r == 0)
        r = check_flow(c);
    if (r != 0)
        return r;
    if (c->json)
        r = list_json(c);
    else
        list_rows(c);
    return end_output(r, EXIT_SUCCESS);
}

/* --- show --- */

/* An absolute path for one that was said.  The exit status, or 0. */
static int absolute(struct command *c, const char *said, char to[PATH_MAX])
{
    char here[PATH_MAX] = "";
    int n;

    while (strncmp(said, "./", 2) == 0)
        said += 2;
    if (said[0] != '/' && getcwd(here, sizeof here) == NULL)
        return failed("the current directory: %s", strerrordesc_np(errno));
    n = said[0] == '/'
            ? snprintf(to, PATH_MAX, "%s", said)
            : snprintf(to, PATH_MAX, "%s%s%s", here, strcmp(here, "/") == 0 ? "" : "/", said);
    return n < PATH_MAX ? 0 : failed("'%s': the path is too long", show_text(c, said));
}

/* What is wrong with a place, for a person, and what it means; NULL if it holds. */
static const char *problem_of(struct command *c, const struct checkpoint_slot *s,
                              const struct look *l)
{
    struct cursor at = checkpoint_cursor(s);
    char path[PATH_MAX], beside[PATH_MAX];
    int r = 0;

    if (l->state == LOOK_OK || l->state == LOOK_BEHIND)
        return NULL;
    (void)checkpoint_path(s, path);
    if (l->state != LOOK_UNREADABLE &&
        look_beside(c->digest, &c->beside, path, checkpoint_id(s), &at, beside))
        return NULL; /* it is called otherwise, and goes on from there */
    buf_reset(&c->line);
    if (l->state == LOOK_UNREADABLE)
        r = buf_printf(&c->line, "cannot be read: %s; whether its place holds is not known",
                       strerrordesc_np(-l->error));
    else if (l->shortened)
        r = buf_printf(&c->line,
                       "was shortened to %" PRIu64 " bytes: what is behind byte %" PRIu64
                       " will be read as new",
                       l->size, l->resumes);
    else if (l->same_file)
        r = buf_printf(&c->line,
                       "was truncated or written anew: will be read again from its start, and "
                       "what was unread of the old content is lost");
    else if (l->state == LOOK_REPLACED)
        r = buf_printf(&c->line,
                       "is another file now, and the one that was read up to byte %" PRIu64
                       " is not beside it: its unread rest is lost",
                       at.offset);
    else
        r = buf_printf(&c->line,
                       "is gone, and is not beside it under another name: what was unread behind "
                       "byte %" PRIu64 " is lost",
                       at.offset);
    return r < 0 || buf_append_char(&c->line, '\0') < 0 ? "does not hold" : c->line.ptr;
}

static void show_source(struct command *c, const struct checkpoint_slot *s, const struct look *l)
{
    const struct source_id *id = checkpoint_id(s);
    struct cursor at = checkpoint_cursor(s);
    char path[PATH_MAX], beside[PATH_MAX], born[64];
    const char *problem;

    (void)checkpoint_path(s, path);
    printf("%s\n", show_text(c, path));
    printf("  flow     %s\n", show(c, checkpoint_flow(s)));
    printf("  offset   %" PRIu64 "\n", at.offset);
    if (has_size(l))
        printf("  size     %" PRIu64 "\n", l->size);
    if (has_lag(l))
        printf("  lag      %" PRIu64 "\n", l->size - at.offset);
    printf("  state    %s\n", look_word(l->state));
    problem = problem_of(c, s, l);
    if (problem != NULL)
        printf("           %s\n", problem);
    else if (!has_lag(l) && look_beside(c->digest, &c->beside, path, id, &at, beside))
        printf("  now      %s\n", show_text(c, beside));
    printf("  inode    %" PRIu64 "\n", id->ino);
    printf("  device   %" PRIu64 " (%u:%u)\n", id->dev, major(id->dev), minor(id->dev));
    printf("  born     %s\n", format_born(id->born_ns, born) ? born : "not known");
    printf("  head     %u bytes, hash %016" PRIx64 "\n", (unsigned)id->head_len, id->head_hash);
    printf("  anchor   %u bytes, hash %016" PRIx64 "\n", (unsigned)cursor_anchor_len(at.offset),
           at.anchor);
    for (size_t i = 0; i < CURSOR_RUNGS && at.rungs[i].back > 0; i++)
        printf("  line     begins at %" PRIu64 "\n", at.offset - at.rungs[i].back);
}

static int show_path(struct command *c, const char *said, size_t *ret_count)
{
    struct checkpoint_slot *s = NULL;
    struct look l;
    struct source_id now;
    char path[PATH_MAX], known[PATH_MAX];
    bool there;
    int r = absolute(c, said, path);

    *ret_count = 0;
    if (r != 0)
        return r;
    there = look_identify(c->digest, path, &now) == 0;
    while (r == 0 && (s = next_slot(c, s)) != NULL) {
        /* It may have been renamed since, to what was asked for. */
        if (!slice_equal(checkpoint_path(s, known), slice_of(path)) &&
            !(there && source_id_is_same_object(checkpoint_id(s), &now)))
            continue;
        look_at_slot(c, s, &l);
        if (!c->json)
            show_source(c, s, &l);
        else if ((r = begin_object(c)) == 0 && (r = json_source(&c->line, s, &l)) == 0)
            r = end_object(c);
        ++*ret_count;
    }
    return r;
}

static int command_show(struct command *c)
{
    int r, status = EXIT_SUCCESS;

    if (c->word_count == 0)
        return misused("show: say a path");
    r = find_state_dir(c, false);
    if (r == 0)
        r = read_store(c);
    if (r == 0)
        r = check_flow(c);
    if (r != 0)
        return r;
    for (int i = 0; i < c->word_count && r == 0; i++) {
        size_t count;

        r = show_path(c, c->words[i], &count);
        if (r > 0)
            return r;
        if (r == 0 && count == 0)
            status = failed("'%s': the store knows no such file%s", show_text(c, c->words[i]),
                            c->flow != NULL ? " of this flow" : "");
    }
    return end_output(r, status);
}

/* --- verify --- */

static const char *generation_problem(int r, uint64_t damaged, bool newest)
{
    if (r == -ENOTSUP)
        return "was written by a newer kinetail; this one will not start with it";
    if (r == -EBADMSG)
        return newest ? "cannot be read; the next start moves it aside and goes on from the one "
                        "before, so that lines are sent again"
                      : "cannot be read; it is not needed while a newer one can be";
    if (r < 0)
        return strerrordesc_np(-r);
    if (damaged == 0)
        return NULL;
    if (!newest)
        return "has damaged lines; it is not needed while a newer one can be read";
    return "has damaged lines: their files go on from an older place or are read again from their "
           "start, so that lines are sent again";
}

static int say_generation(struct command *c, uint64_t generation, int r,
                          const struct checkpoint_report *report, bool newest, bool *ret_bad)
{
    const char *problem = generation_problem(r, report->damaged, newest);
    struct buf *b = &c->line;
    int w;

    *ret_bad = problem != NULL;
    if (!c->json) {
        printf("generation %" PRIu64 ": %" PRIu64 " facts, %" PRIu64 " damaged%s%s\n", generation,
               report->facts, report->damaged, problem != NULL ? "; " : "",
               problem != NULL ? problem : "");
        return 0;
    }
    if ((w = begin_object(c)) < 0 || (w = json_number(b, "generation", generation)) < 0 ||
        (w = json_number(b, "facts", report->facts)) < 0 ||
        (w = json_number(b, "damaged", report->damaged)) < 0 ||
        (w = json_flag(b, "readable", r == 0)) < 0 || (w = json_member(b, "problem")) < 0)
        return w;
    w = problem == NULL ? buf_append(b, SLICE("null")) : json_append_string(b, slice_of(problem));
    return w < 0 ? w : end_object(c);
}

static int verify_generations(struct command *c, size_t *ret_bad)
{
    uint64_t *all = NULL;
    size_t count = 0;
    bool newest = true;
    int r = checkpoint_generations(&disk_system, c->dir_fd, &all, &count);

    for (size_t i = 0; i < count && r == 0; i++) {
        struct checkpoint_report report = {0};
        struct checkpoint *store = NULL;
        bool bad;
        int readable = checkpoint_read_generation(&disk_system, c->dir_fd, all[i], &store, &report);

        checkpoint_close(store);
        if (readable == -ENOENT)
            continue; /* an agent runs, and needed it no more */
        r = say_generation(c, all[i], readable, &report, newest, &bad);
        *ret_bad += bad;
        newest = newest && readable < 0;
    }
    free(all);
    return r;
}

static int verify_source(struct command *c, const struct checkpoint_slot *s, size_t *ret_bad)
{
    char path[PATH_MAX];
    const char *problem;
    char *copy = NULL;
    struct look l;
    int r;

    look_at_slot(c, s, &l);
    problem = problem_of(c, s, &l);
    *ret_bad += problem != NULL;
    if (!c->json) {
        if (problem != NULL)
            printf("flow %s: '%s': %s\n", show(c, checkpoint_flow(s)),
                   show(c, checkpoint_path(s, path)), problem);
        return 0;
    }
    if (problem != NULL && (copy = strdup(problem)) == NULL)
        return -ENOMEM;
    if ((r = begin_object(c)) == 0 && (r = json_source(&c->line, s, &l)) == 0 &&
        (r = json_flag(&c->line, "holds", problem == NULL)) == 0 &&
        (r = json_member(&c->line, "problem")) == 0 &&
        (r = copy == NULL ? buf_append(&c->line, SLICE("null"))
                          : json_append_string(&c->line, slice_of(copy))) == 0)
        r = end_object(c);
    free(copy);
    return r;
}

static int command_verify(struct command *c)
{
    struct checkpoint_slot *s = NULL;
    size_t bad = 0, sources = 0, lost = 0;
    int r = find_state_dir(c, false);

    if (r == 0)
        r = read_store(c);
    if (r != 0)
        return r;
    r = verify_generations(c, &bad);
    for (; r == 0 && (s = next_slot(c, s)) != NULL; sources++)
        r = verify_source(c, s, &lost);
    if (r == 0 && !c->json)
        printf("%zu sources, %zu of them do not hold\n", sources, lost);
    return end_output(r, bad + lost > 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* --- set --- */

/* A place that was asked for, and the file that it is in. */
struct wanted {
    const struct config_flow *flow;
    char path[PATH_MAX];
    int fd;
    struct source_id id;
    struct identity_facts facts;
    struct cursor at;
};

/* Whether the flow's patterns mean this path. */
static bool flow_means(const struct config_flow *flow, const char *path)
{
    struct glob_states *states = NULL, *next;
    struct glob_excludes *excludes = NULL;
    struct glob *glob = NULL;
    bool means = false;
    const char *part = path + 1, *slash;
    char name[NAME_MAX + 1];
    int r = glob_new(flow->files.items, flow->files.count, &glob);

    if (r == 0)
        r = glob_excludes_new(flow->exclude.items, flow->exclude.count, &excludes);
    if (r == 0)
        r = glob_root(glob, &states);
    while (r == 0 && states != NULL && (slash = strchr(part, '/')) != NULL) {
        next = NULL;
        if (snprintf(name, sizeof name, "%.*s", (int)(slash - part), part) < (int)sizeof name &&
            name[0] != '\0')
            r = glob_enter(glob, states, name, &next);
        free(states);
        states = next;
        part = slash + 1;
    }
    if (r == 0 && states != NULL)
        means = glob_matches(glob, states, part) && !glob_excludes_match(excludes, path, part);
    free(states);
    glob_excludes_free(excludes);
    glob_free(glob);
    return means;
}

static int find_wanted_flow(struct command *c, struct wanted *w)
{
    for (size_t i = 0; i < c->config->flow_count; i++)
        if (strcmp(c->config->flows[i].name, c->flow) == 0)
            w->flow = &c->config->flows[i];
    if (w->flow == NULL)
        return failed("the configuration knows no flow '%s'; it knows %s", show_text(c, c->flow),
                      flow_names(c));
    return 0;
}

/* The source of this flow that is this file, or NULL. */
static struct checkpoint_slot *find_known(struct checkpoint *store, const struct wanted *w)
{
    struct checkpoint_slot *s = NULL;

    while ((s = checkpoint_next(store, s)) != NULL)
        if (slice_equal(checkpoint_flow(s), slice_of(w->flow->name)) &&
            source_id_is_same_object(checkpoint_id(s), &w->id))
            return s;
    return NULL;
}

static int open_wanted(struct command *c, struct wanted *w)
{
    int r = absolute(c, c->words[0], w->path);

    if (r != 0)
        return r;
    w->fd = identity_open(w->path, w->flow->follow_symlinks);
    r = w->fd < 0 ? w->fd : identity_read(c->digest, w->fd, &w->id, &w->facts);
    if (r == -ELOOP)
        return failed("'%s' is a symbolic link, and flow %s does not follow links",
                      show_text(c, w->path), show_text(c, w->flow->name));
    if (r == -EINVAL || r == -EISDIR)
        return failed("'%s' is no regular file", show_text(c, w->path));
    return r < 0 ? failed("'%s': %s", show_text(c, w->path), strerrordesc_np(-r)) : 0;
}

/* Reads the number of bytes that was said; false if it is none. */
static bool read_offset(const char *text, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* Finds the place that was said, and refuses one inside a line.  The exit status, or 0. */
static int find_wanted_place(struct command *c, struct wanted *w)
{
    const char *said = c->words[1];
    uint64_t offset = 0, before, after;
    int r;

    if (strcmp(said, "end") == 0) {
        r = identity_last_line(w->fd, ENCODING_UTF8, w->facts.size, &offset);
    } else if (strcmp(said, "start") == 0) {
        r = 0;
    } else {
        if (!read_offset(said, &offset))
            return misused("set: '%s' is no place; say a number of bytes, start or end",
                           show_text(c, said));
        r = look_lines(w->fd, MIN(offset, w->facts.size), &before, &after);
        if (r == 0 && offset > w->facts.size)
            return failed("'%s' has only %" PRIu64 " bytes; its last line begins at %" PRIu64,
                          show_text(c, w->path), w->facts.size, before);
        if (r == 0 && before != offset && after != UINT64_MAX)
            return failed("byte %" PRIu64 " of '%s' is inside a line; lines begin at %" PRIu64
                          " and at %" PRIu64,
                          offset, show_text(c, w->path), before, after);
        if (r == 0 && before != offset)
            return failed("byte %" PRIu64 " of '%s' is inside its last line, which begins at "
                          "%" PRIu64,
                          offset, show_text(c, w->path), before);
    }
    if (r == 0)
        r = identity_cursor(c->digest, w->fd, offset, &w->at);
    return r < 0 ? failed("'%s': %s", show_text(c, w->path), strerrordesc_np(-r)) : 0;
}

/* Says what the new place means for what is sent. */
static void say_change(struct command *c, const struct wanted *w, bool known, uint64_t from)
{
    uint64_t to = w->at.offset;

    printf("flow %s: '%s': ", show_text(c, w->flow->name), show_text(c, w->path));
    if (known)
        printf("from byte %" PRIu64 " to byte %" PRIu64 " of %" PRIu64, from, to, w->facts.size);
    else
        printf("was not known; now at byte %" PRIu64 " of %" PRIu64, to, w->facts.size);
    if (known && to < from)
        printf("; %" PRIu64 " bytes are sent again", from - to);
    else if (to > from)
        printf("; %" PRIu64 " bytes are not sent", to - from);
    printf("%s\n", c->apply ? "" : "; nothing is changed without --apply");
}

static int write_place(struct checkpoint *store, struct checkpoint_slot *s, const struct wanted *w,
                       int64_t written_ns)
{
    char path[PATH_MAX];
    int r = 0;

    if (s != NULL) {
        /* It keeps its name: by that the agent finds what came after it while it was stopped. */
        r = checkpoint_describe(store, s, checkpoint_path(s, path), &w->id);
        if (r == 0)
            checkpoint_note(store, s, w->at);
    } else {
        r = checkpoint_join(store, slice_of(w->flow->name), slice_of(w->path), &w->id, w->at, &s);
    }
    if (r < 0 || (r = checkpoint_write(store)) < 0 || (r = checkpoint_job_begin(store)) < 0)
        return r;
    checkpoint_job_run(store);
    r = checkpoint_job_end(store);

    /* The agent was not alive just now: what came since it ended is still new to it. */
    return r < 0 ? r : checkpoint_backdate(store, written_ns);
}

/* Under the store's lock.  The exit status. */
static int apply(struct command *c, const struct wanted *w)
{
    struct checkpoint_report report = {0};
    struct checkpoint *store = NULL;
    struct checkpoint_slot *s;
    uint64_t from = 0;
    int r;

    /* The start is what repairs a damaged store: it alone knows that what is forgotten must be read
     * from its beginning. */
    r = checkpoint_read(&disk_system, c->dir_fd, &store, &report);
    checkpoint_close(store);
    if (r < 0)
        return said_store_error(c, r);
    if (report.partial)
        return failed(
            "the store is damaged (see kinetail checkpoint verify): start the agent once, "
            "which reads again what was forgotten, and stop it; then set the place");
    r = checkpoint_open(&disk_system, c->dir_fd, &store, &report);
    if (r < 0)
        return said_store_error(c, r);
    r = report.error;
    s = find_known(store, w);
    if (s != NULL)
        from = checkpoint_cursor(s).offset;
    if (r == 0)
        r = write_place(store, s, w, report.written_ns);
    checkpoint_close(store);
    if (r < 0)
        return failed("'%s/checkpoint' cannot be written: %s; the place may be as it was",
                      show_text(c, c->state_dir), strerrordesc_np(-r));
    say_change(c, w, s != NULL, from);
    return end_output(0, EXIT_SUCCESS);
}

static int lock_and_apply(struct command *c, const struct wanted *w)
{
    struct state state;
    const char *what;
    pid_t owner;
    int r = state_open(&disk_system, c->state_dir, &state, &what, &owner);
    if (r == -EBUSY)
        return failed("an agent (process %d) runs on '%s': stop it first; nothing is changed",
                      (int)owner, show_text(c, c->state_dir));
    if (r < 0)
        return failed("'%s%s%s': %s; nothing is changed", show_text(c, c->state_dir),
                      what != NULL ? "/" : "", what != NULL ? what : "", strerrordesc_np(-r));
    r = apply(c, w);
    state_close(&state);
    return r;
}

/* What root writes the agent could not read: so it is written as whoever has the store. */
static int apply_as_owner(struct command *c, const struct wanted *w)
{
    uid_t uid = geteuid();
    gid_t gid = getegid();
    struct stat st;
    int r;

    if (uid != 0)
        return lock_and_apply(c, w);
    if (fstat(c->dir_fd, &st) < 0 || setegid(st.st_gid) < 0 || seteuid(st.st_uid) < 0)
        return failed("'%s/checkpoint': its owner cannot be taken on: %s; nothing is changed",
                      show_text(c, c->state_dir), strerrordesc_np(errno));
    r = lock_and_apply(c, w);
    return seteuid(uid) < 0 || setegid(gid) < 0 ? EXIT_FAILURE : r;
}

static int set_place(struct command *c, struct wanted *w)
{
    const struct checkpoint_slot *known;
    int r;

    if ((r = find_wanted_flow(c, w)) != 0 || (r = read_store(c)) != 0 ||
        (r = open_wanted(c, w)) != 0 || (r = find_wanted_place(c, w)) != 0)
        return r;
    known = find_known(c->store, w);
    if (known == NULL && !flow_means(w->flow, w->path))
        return failed("'%s' is not among the files of flow %s, and the store does not know it",
                      show_text(c, w->path), show_text(c, w->flow->name));
    if (c->apply)
        return apply_as_owner(c, w);
    say_change(c, w, known != NULL, known != NULL ? checkpoint_cursor(known).offset : 0);
    return end_output(0, EXIT_SUCCESS);
}

static int command_set(struct command *c)
{
    struct wanted w = {.fd = -1};
    int r;

    if (c->flow == NULL)
        return misused("set: say whose place with --flow");
    if (c->word_count != 2)
        return misused("set: say a path and a place");
    r = find_state_dir(c, true);
    if (r == 0)
        r = set_place(c, &w);
    if (w.fd >= 0)
        close(w.fd);
    return r;
}

/* --- the command line --- */

enum { TAKES_FLOW = 1, TAKES_JSON = 2, TAKES_APPLY = 4, TAKES_WORDS = 8 };

static const struct subcommand {
    const char *name;
    int (*run)(struct command *c);
    unsigned takes;
} subcommands[] = {
    {"list", command_list, TAKES_FLOW | TAKES_JSON},
    {"show", command_show, TAKES_FLOW | TAKES_JSON | TAKES_WORDS},
    {"set", command_set, TAKES_FLOW | TAKES_APPLY | TAKES_WORDS},
    {"verify", command_verify, TAKES_JSON},
};

static const struct subcommand *find_subcommand(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
        if (strcmp(subcommands[i].name, name) == 0)
            return &subcommands[i];
    return NULL;
}

/* Options and words in any order, as getopt sorts them.  -1, or the exit status. */
static int read_line(struct command *c, int argc, char **argv)
{
    enum { OPT_STATE_DIR = 256, OPT_FLOW, OPT_JSON, OPT_APPLY };
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"state-dir", required_argument, NULL, OPT_STATE_DIR},
        {"flow", required_argument, NULL, OPT_FLOW},
        {"json", no_argument, NULL, OPT_JSON},
        {"apply", no_argument, NULL, OPT_APPLY},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };

    optind = 0; /* a new line to read: getopt(3) */
    for (int o; (o = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (o) {
        case 'c':
            c->config_path = optarg;
            break;
        case OPT_STATE_DIR:
            c->state_path = optarg;
            break;
        case OPT_FLOW:
            c->flow = optarg;
            break;
        case OPT_JSON:
            c->json = true;
            break;
        case OPT_APPLY:
            c->apply = true;
            break;
        case 'h':
            return usage(stdout);
        default:
            return usage(stderr); /* getopt has said what is wrong */
        }
    }
    c->words = argv + optind;
    c->word_count = argc - optind;
    return -1;
}

static int run(struct command *c, int argc, char **argv)
{
    const struct subcommand *sub;
    int r = read_line(c, argc, argv);

    if (r >= 0)
        return r;
    if (c->word_count == 0)
        return usage(stdout);
    sub = find_subcommand(c->words[0]);
    if (sub == NULL)
        return misused("'%s' is none of list, show, set, verify", show_text(c, c->words[0]));
    c->words++;
    c->word_count--;
    if (c->word_count > 0 && (sub->takes & TAKES_WORDS) == 0)
        return misused("'%s' is too much after %s", show_text(c, c->words[0]), sub->name);
    if ((c->flow != NULL && (sub->takes & TAKES_FLOW) == 0) ||
        (c->json && (sub->takes & TAKES_JSON) == 0) ||
        (c->apply && (sub->takes & TAKES_APPLY) == 0))
        return misused("%s takes no %s", sub->name,
                       c->flow != NULL && (sub->takes & TAKES_FLOW) == 0 ? "--flow"
                       : c->json && (sub->takes & TAKES_JSON) == 0       ? "--json"
                                                                         : "--apply");
    if (digest_new(&c->digest) < 0)
        return failed("out of memory");
    return sub->run(c);
}

int checkpoint_command(int argc, char **argv, const char *config, const char *state_dir)
{
    struct command c = {.config_path = config, .state_path = state_dir, .dir_fd = -1};
    char **line = calloc((size_t)argc + 2, sizeof(*line)); /* getopt passes over the first */
    static char name[] = "kinetail checkpoint";
    int r;

    if (line == NULL)
        return failed("out of memory");
    line[0] = name;
    memcpy(line + 1, argv, (size_t)argc * sizeof(*line));
    buf_init(&c.line, COMMAND_LINE_MAX);
    for (size_t i = 0; i < COMMAND_SHOWN; i++)
        buf_init(&c.shown[i], ESCAPE_TIMES * PATH_MAX + 1);
    r = run(&c, argc + 1, line);
    checkpoint_close(c.store);
    if (c.dir_fd >= 0)
        close(c.dir_fd);
    config_free(c.config);
    digest_free(c.digest);
    look_dir_done(&c.beside);
    buf_done(&c.line);
    for (size_t i = 0; i < COMMAND_SHOWN; i++)
        buf_done(&c.shown[i]);
    free(line);
    return r;
}
