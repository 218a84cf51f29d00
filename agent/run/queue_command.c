#include "run/queue_command.h"

#include "clock.h"
#include "escape.h"
#include "run/config.h"
#include "run/queue_inner.h"
#include "run/setup.h"
#include "run/units.h"
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { QUEUE_LINE_MAX = 512 * 1024 * 1024 }; /* the largest record, escaped, and as base64 */

static int usage(FILE *to)
{
    fputs("usage: kinetail queue list [--json]\n"
          "       kinetail queue show [--dead|--spool] [DESTINATION] [--limit N] [--json|--raw]\n"
          "       kinetail queue verify [--dead|--spool] [DESTINATION] [--json]\n"
          "       kinetail queue retry --dead|--spool DESTINATION [--apply] [--json]\n"
          "       kinetail queue drop --dead|--spool DESTINATION [--apply] [--json]\n",
          to);
    if (to == stdout)
        fputs(
            "\n"
            "list says what lies in the spool (records that wait until they can be sent) and what\n"
            "dead letters there are (records that will not be sent), for each destination; show\n"
            "shows them; verify looks at every checksum; retry says which of them it would send\n"
            "again, and sends them with --apply; drop says what would be dropped, and drops it\n"
            "with --apply. All of them work beside a running agent.\n"
            "\n"
            "  -c, --config FILE     the configuration (default /etc/kinetail/kinetail.conf)\n"
            "      --state-dir DIR   where they lie, instead of state_dir; but for retry, no\n"
            "                        configuration is needed then\n"
            "      --reason TEXT     only dead letters with TEXT in their reason\n"
            "      --file FILE       only dead letters of this log file\n"
            "      --older-than 7d   only what has been there for longer\n"
            "      --limit N         no more than N records\n"
            "      --json            one object a line, for programs\n"
            "      --raw             the records as they are, not safe for a terminal\n"
            "\n"
            "Exit status: 0 well, 1 it failed or something is damaged, 2 wrong usage.\n",
            to);
    return to == stdout ? EXIT_SUCCESS : QUEUE_USAGE;
}

__attribute__((format(printf, 1, 2))) static int misused(const char *format, ...)
{
    va_list args;

    fputs("kinetail queue: ", stderr);
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    return usage(stderr);
}

/* --- where it lies --- */

static int open_state_dir(struct queue_command *c, bool need_config)
{
    if (c->state_path == NULL || need_config) {
        c->config = setup_config(c->config_path, c->state_path);
        if (c->config == NULL)
            return QUEUE_USAGE;
        c->state_dir = c->config->state_dir;
    } else {
        c->state_dir = c->state_path;
    }
    c->state_fd = open(c->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->state_fd < 0 && errno == ENOENT)
        return queue_failed("state_dir '%s' does not exist: no agent has run with it yet",
                            queue_show_name(c, c->state_dir));
    if (c->state_fd < 0)
        return queue_failed("state_dir '%s': %s; run this as the agent's user or as root",
                            queue_show_name(c, c->state_dir), strerrordesc_np(errno));
    return 0;
}

struct visit {
    struct queue_command *command;
    enum queue_kind kind;
    bool mark;
    int (*run)(struct queue_command *c, enum queue_kind kind, const char *directory,
               struct queue_store *s, void *user);
    void *user;
    int status;
    size_t count; /* of those that were opened */
};

static int visit_one(void *user, const char *directory)
{
    struct visit *v = user;
    struct queue_command *c = v->command;
    struct queue_store *s = NULL;
    int r;

    if (c->destination != NULL && strcmp(c->directory, directory) != 0)
        return 0;
    r = queue_store_open(c->state_fd, v->kind, directory, v->mark, &s);
    if (r == -ENOENT)
        return 0;
    v->count++;
    if (r == -EBUSY)
        r = queue_failed("another kinetail queue is at work on '%s'; nothing is changed",
                         queue_show_name(c, directory));
    else if (r < 0)
        r = queue_failed("'%s/%s/%s': %s", queue_show_name(c, c->state_dir),
                         queue_kind_word(v->kind), queue_show_name(c, directory),
                         strerrordesc_np(-r));
    else
        r = v->run(c, v->kind, directory, s, v->user);
    queue_store_close(s);
    v->status = MAX(v->status, r);
    return 0;
}

static int name_one(void *user, const char *directory)
{
    struct buf *b = user;
    int r = b->len > 0 ? buf_append(b, SLICE(", ")) : 0;

    return r < 0 ? r : escape_append(b, slice_of(directory));
}

static int is_unknown(struct queue_command *c)
{
    const char *what = c->dead    ? "are no dead letters"
                       : c->spool ? "is no spool"
                                  : "are neither dead letters nor a spool";

    buf_reset(&c->line);
    for (enum queue_kind k = QUEUE_SPOOL; k <= QUEUE_DEAD; k++)
        if (k == QUEUE_SPOOL ? !c->dead : !c->spool)
            (void)queue_store_each(c->state_fd, k, name_one, &c->line);
    if (c->line.len == 0)
        return queue_failed("there %s of '%s', nor of another destination", what,
                            queue_show_name(c, c->destination));
    return queue_failed("there %s of '%s', but of %.*s", what, queue_show_name(c, c->destination),
                        SLICE_ARG(buf_slice(&c->line)));
}

int queue_each(struct queue_command *c, bool mark,
               int (*run)(struct queue_command *c, enum queue_kind kind, const char *directory,
                          struct queue_store *s, void *user),
               void *user)
{
    struct visit v = {.command = c, .mark = mark, .run = run, .user = user};

    for (enum queue_kind k = QUEUE_SPOOL; k <= QUEUE_DEAD; k++) {
        int r = 0;

        v.kind = k;
        if (k == QUEUE_SPOOL ? !c->dead : !c->spool)
            r = queue_store_each(c->state_fd, k, visit_one, &v);
        if (r < 0)
            v.status = queue_failed("'%s/%s': %s", queue_show_name(c, c->state_dir),
                                    queue_kind_word(k), strerrordesc_np(-r));
    }
    return v.count == 0 && v.status == 0 && c->destination != NULL ? is_unknown(c) : v.status;
}

bool queue_means(const struct queue_command *c, const struct queue_item *item)
{
    if (c->file != NULL && !slice_equal(item->file, slice_of(c->file)))
        return false;
    if (c->reason != NULL &&
        memmem(item->reason.ptr, item->reason.len, c->reason, strlen(c->reason)) == NULL)
        return false;
    return c->older_than_ms == 0 || item->wall_ms < c->now_ms - (int64_t)c->older_than_ms;
}

/* --- the command line --- */

enum {
    TAKES_KIND = 1,
    TAKES_FILTER = 2,
    TAKES_LIMIT = 4,
    TAKES_RAW = 8,
    TAKES_APPLY = 16,
    NEEDS_ONE = 32, /* a kind and a destination */
    NEEDS_CONFIG = 64,
};

static const struct subcommand {
    const char *name;
    int (*run)(struct queue_command *c);
    unsigned takes;
} subcommands[] = {
    {"list", queue_list, TAKES_KIND},
    {"show", queue_show, TAKES_KIND | TAKES_FILTER | TAKES_LIMIT | TAKES_RAW},
    {"verify", queue_verify, TAKES_KIND},
    {"retry", queue_retry,
     TAKES_KIND | TAKES_FILTER | TAKES_LIMIT | TAKES_APPLY | NEEDS_ONE | NEEDS_CONFIG},
    {"drop", queue_drop, TAKES_KIND | TAKES_FILTER | TAKES_LIMIT | TAKES_APPLY | NEEDS_ONE},
};

static bool read_limit(const char *text, uint64_t *ret)
{
    char *end;

    errno = 0;
    *ret = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* Options and words in any order, as getopt sorts them.  -1, or the exit status. */
static int read_line(struct queue_command *c, int argc, char **argv)
{
    enum {
        OPT_STATE_DIR = 256,
        OPT_DEAD,
        OPT_SPOOL,
        OPT_LIMIT,
        OPT_JSON,
        OPT_RAW,
        OPT_REASON,
        OPT_OLDER,
        OPT_FILE,
        OPT_APPLY,
    };
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"state-dir", required_argument, NULL, OPT_STATE_DIR},
        {"dead", no_argument, NULL, OPT_DEAD},
        {"spool", no_argument, NULL, OPT_SPOOL},
        {"limit", required_argument, NULL, OPT_LIMIT},
        {"json", no_argument, NULL, OPT_JSON},
        {"raw", no_argument, NULL, OPT_RAW},
        {"reason", required_argument, NULL, OPT_REASON},
        {"older-than", required_argument, NULL, OPT_OLDER},
        {"file", required_argument, NULL, OPT_FILE},
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
        case OPT_DEAD:
            c->dead = true;
            break;
        case OPT_SPOOL:
            c->spool = true;
            break;
        case OPT_LIMIT:
            if (!read_limit(optarg, &c->limit))
                return misused("--limit %s: say a number", queue_show_name(c, optarg));
            break;
        case OPT_JSON:
            c->json = true;
            break;
        case OPT_RAW:
            c->raw = true;
            break;
        case OPT_REASON:
            c->reason = optarg;
            break;
        case OPT_OLDER:
            if (units_parse_time(slice_of(optarg), &c->older_than_ms) < 0 ||
                c->older_than_ms > INT64_MAX / 2)
                return misused("--older-than %s: say a time, as in 7d, 12h or 30min",
                               queue_show_name(c, optarg));
            break;
        case OPT_FILE:
            c->file = optarg;
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
    return -1;
}

/* An option that means nothing to the subcommand, or NULL. */
static const char *find_idle(const struct queue_command *c, unsigned takes)
{
    const struct {
        bool said;
        unsigned takes;
        const char *name;
    } all[] = {
        {c->limit != UINT64_MAX, TAKES_LIMIT, "--limit"},
        {c->raw, TAKES_RAW, "--raw"},
        {c->apply, TAKES_APPLY, "--apply"},
        {c->reason != NULL, TAKES_FILTER, "--reason"},
        {c->file != NULL, TAKES_FILTER, "--file"},
        {c->older_than_ms > 0, TAKES_FILTER, "--older-than"},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i].said && (takes & all[i].takes) == 0)
            return all[i].name;
    return NULL;
}

/* What the options say together.  0, or the exit status. */
static int check_line(struct queue_command *c, const struct subcommand *sub)
{
    const char *idle = find_idle(c, sub->takes);

    if (idle != NULL)
        return misused("%s takes no %s", sub->name, idle);
    if (c->dead && c->spool)
        return misused("say --dead or --spool, not both");
    if (c->raw && c->json)
        return misused("say --json or --raw, not both");
    if ((sub->takes & NEEDS_ONE) != 0 && (!c->dead && !c->spool))
        return misused("%s: say --dead or --spool", sub->name);
    if ((sub->takes & NEEDS_ONE) != 0 && c->destination == NULL)
        return misused("%s: say a destination; `kinetail queue list` shows which there are",
                       sub->name);
    if (c->spool && (c->reason != NULL || ((sub->takes & TAKES_APPLY) != 0 &&
                                           (c->file != NULL || c->limit != UINT64_MAX))))
        return misused("%s is for dead letters: what is in the spool has no reason, and is sent "
                       "and dropped by the batch",
                       c->reason != NULL ? "--reason"
                       : c->file != NULL ? "--file"
                                         : "--limit");
    if (c->destination != NULL && queue_store_directory(c->destination, c->directory) < 0)
        return misused("'%s' cannot be a destination", queue_show_name(c, c->destination));
    return 0;
}

static int run(struct queue_command *c, int argc, char **argv)
{
    const struct subcommand *sub = NULL;
    int r = read_line(c, argc, argv);

    if (r >= 0)
        return r;
    argv += optind;
    argc -= optind;
    if (argc == 0)
        return usage(stdout);
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++)
        if (strcmp(subcommands[i].name, argv[0]) == 0)
            sub = &subcommands[i];
    if (sub == NULL)
        return misused("'%s' is none of list, show, verify, retry, drop",
                       queue_show_name(c, argv[0]));
    if (argc > 2)
        return misused("'%s' is too much after %s", queue_show_name(c, argv[2]), sub->name);
    c->destination = argv[1];
    r = check_line(c, sub);
    if (r == 0)
        r = open_state_dir(c, (sub->takes & NEEDS_CONFIG) != 0);
    return r != 0 ? r : sub->run(c);
}

int queue_command(int argc, char **argv, const char *config, const char *state_dir)
{
    struct queue_command c = {.config_path = config,
                              .state_path = state_dir,
                              .state_fd = -1,
                              .limit = UINT64_MAX,
                              .now_ms = clock_system.wall_ms(&clock_system)};
    char **line = calloc((size_t)argc + 2, sizeof(*line)); /* getopt passes over the first */
    static char name[] = "kinetail queue";
    int r;

    if (line == NULL)
        return queue_failed("out of memory");
    line[0] = name;
    memcpy(line + 1, argv, (size_t)argc * sizeof(*line));
    buf_init(&c.line, QUEUE_LINE_MAX);
    for (size_t i = 0; i < QUEUE_SHOWN; i++)
        buf_init(&c.shown[i], ESCAPE_TIMES * PATH_MAX + 1);
    r = run(&c, argc + 1, line);
    if (c.state_fd >= 0)
        close(c.state_fd);
    config_free(c.config);
    buf_done(&c.line);
    for (size_t i = 0; i < QUEUE_SHOWN; i++)
        buf_done(&c.shown[i]);
    free(line);
    return r;
}
