/* main -- subcommands, and the order of birth and of death; nothing clever. */

#include "clock.h"
#include "disk.h"
#include "keep/state.h"
#include "run/checkpoint_command.h"
#include "run/config.h"
#include "run/explain.h"
#include "run/import.h"
#include "run/lane.h"
#include "run/log.h"
#include "run/loop.h"
#include "run/queue_command.h"
#include "run/setup.h"
#include "run/version.h"
#include "util.h"

#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 }; /* wrong usage or configuration; EXIT_FAILURE is 1 */

static const char default_config[] = "/etc/kinetail/kinetail.conf";

struct options {
    int64_t began_ns; /* wall time at which we were started */
    const char *command, *config, *state_dir;
    bool print;
    int rest_count; /* what stands behind a command that reads it itself */
    char **rest;
};

static int usage(FILE *to)
{
    fputs("kinetail " KINETAIL_VERSION " - ships log files to Amazon Kinesis and loses no line\n"
          "\n"
          "  kinetail [run]              follow the files of all flows, in the foreground\n"
          "  kinetail check [--print]    report every mistake in the configuration\n"
          "  kinetail explain [FILE...]  what would become of these lines; sends nothing (--help)\n"
          "  kinetail checkpoint ...     the positions: list, show, set, verify (--help)\n"
          "  kinetail queue ...          spool and dead letters: list, show, verify, retry, drop\n"
          "  kinetail import FILE        agent.json of the Java agent as our configuration\n"
          "  kinetail version            say which version this is\n"
          "\n"
          "  -c, --config FILE           the configuration (default /etc/kinetail/kinetail.conf)\n"
          "      --state-dir DIR         where positions are kept, instead of state_dir\n"
          "  -h, --help                  this text\n"
          "\n"
          "Exit status: 0 well, 1 it failed, 2 wrong usage or configuration.\n",
          to);
    return to == stdout ? EXIT_SUCCESS : EXIT_USAGE;
}

/* --- check --- */

static int command_check(const struct options *o)
{
    struct config *c = setup_config(o->config, o->state_dir);
    int r = 0;

    if (c == NULL)
        return EXIT_USAGE;
    if (o->print && (r = config_print(c, stdout)) == 0 && fflush(stdout) != 0)
        r = -EIO;
    if (!o->print && isatty(STDOUT_FILENO))
        printf("%s: no mistakes, %zu flows\n", o->config, c->flow_count);
    config_free(c);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* --- run --- */

struct signals {
    struct loop_fd fd;
    struct lane *lane;
};

static void signals_ready(struct loop_fd *f, uint32_t events)
{
    struct signals *s = CONTAINER_OF(f, struct signals, fd);
    struct signalfd_siginfo info;

    (void)events;
    while (read(f->fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            log_warn("SIGHUP: this version does not reload its configuration; restart it instead");
        else
            lane_stop(s->lane);
    }
}

/* Blocked before any thread starts, so that only the descriptor ever gets them. */
static int signals_open(void)
{
    sigset_t mask;

    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
        return -errno;
    int fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static enum log_level log_level_of(enum config_log_level level)
{
    static const enum log_level levels[] = {
        [CONFIG_LOG_ERROR] = LOG_LEVEL_ERROR,
        [CONFIG_LOG_WARNING] = LOG_LEVEL_WARNING,
        [CONFIG_LOG_INFO] = LOG_LEVEL_INFO,
        [CONFIG_LOG_DEBUG] = LOG_LEVEL_DEBUG,
    };

    return levels[level];
}

static int open_state(const struct config *c, struct state *ret)
{
    const char *what;
    pid_t owner;
    int r = state_open(&disk_system, c->state_dir, ret, &what, &owner);

    if (r == -EBUSY)
        log_error("state_dir '%s': in use by another kinetail (process %d); stop it, or give this "
                  "one a state_dir of its own",
                  c->state_dir, (int)owner);
    else if (r < 0)
        log_error("state_dir: '%s%s%s': %s; %s", c->state_dir, what != NULL ? "/" : "",
                  what != NULL ? what : "", strerrordesc_np(-r),
                  disk_is_full(r) ? "a first start needs some room there"
                                  : "this user must be able to write there");
    return r;
}

static int run_lane(const struct options *o, const struct config *c, const struct state *state,
                    int signal_fd)
{
    struct signals signals = {.fd = {signal_fd, signals_ready}};
    const struct world world = {
        .clock = &clock_system,
        .disk = &disk_system,
        .began_ns = o->began_ns,
    };
    struct lane *lane;
    int r = lane_new(c, state, &world, &lane);

    if (r < 0)
        return r == -EKEYREVOKED ? EXIT_USAGE : EXIT_FAILURE;
    signals.lane = lane;
    r = loop_add(lane_loop(lane), &signals.fd, EPOLLIN);
    if (r == 0)
        r = lane_run(lane);
    loop_remove(lane_loop(lane), &signals.fd);
    lane_free(lane);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int command_run(const struct options *o)
{
    struct config *c = setup_config(o->config, o->state_dir);
    struct state state = {-1, -1, -1};
    int signal_fd, r = EXIT_FAILURE;

    if (c == NULL)
        return EXIT_USAGE;
    log_set_level(log_level_of(c->log_level));
    signal_fd = signals_open();
    if (signal_fd < 0 || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        log_error("start: signals or libcurl cannot be set up");
        goto out;
    }
    if (open_state(c, &state) == 0)
        r = run_lane(o, c, &state, signal_fd);
    state_close(&state);
    curl_global_cleanup();
out:
    if (signal_fd >= 0)
        close(signal_fd);
    config_free(c);
    return r;
}

static int command_checkpoint(const struct options *o)
{
    return checkpoint_command(o->rest_count, o->rest, o->config, o->state_dir);
}

static int command_explain(const struct options *o)
{
    /* getopt reads what stands behind the command, with the command for its name. */
    return explain_command(o->rest_count + 1, o->rest - 1, o->config);
}

static int command_import(const struct options *o)
{
    return import_command(o->rest_count, o->rest);
}

static int command_queue(const struct options *o)
{
    return queue_command(o->rest_count, o->rest, o->config, o->state_dir);
}

static int command_version(const struct options *o)
{
    (void)o;
    puts("kinetail " KINETAIL_VERSION);
    return EXIT_SUCCESS;
}

static int command_help(const struct options *o)
{
    (void)o;
    return usage(stdout);
}

static const struct command {
    const char *name;
    int (*run)(const struct options *o);
    bool reads_rest; /* of the arguments, itself */
} commands[] = {
    {"run", command_run, false},
    {"check", command_check, false},
    {"checkpoint", command_checkpoint, true},
    {"explain", command_explain, true},
    {"import", command_import, true},
    {"queue", command_queue, true},
    {"version", command_version, false},
    {"help", command_help, false},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* Reads options up to what is none; -1, or the exit status if that is all there is to do. */
static int read_options(int argc, char **argv, struct options *o)
{
    enum { OPT_STATE_DIR = 256, OPT_PRINT };
    static const struct option long_options[] = {
        {"config", required_argument, NULL, 'c'},
        {"state-dir", required_argument, NULL, OPT_STATE_DIR},
        {"print", no_argument, NULL, OPT_PRINT},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };

    for (int c; (c = getopt_long(argc, argv, "+c:hV", long_options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            o->config = optarg;
            break;
        case OPT_STATE_DIR:
            o->state_dir = optarg;
            break;
        case OPT_PRINT:
            o->print = true;
            break;
        case 'h':
            return usage(stdout);
        case 'V':
            return command_version(o);
        default:
            return usage(stderr);
        }
    }
    return -1;
}

int main(int argc, char **argv)
{
    struct options o = {.command = "run", .config = default_config};
    const struct command *command;
    struct timespec began;
    int r;

    (void)clock_gettime(CLOCK_REALTIME, &began);
    o.began_ns = (int64_t)began.tv_sec * 1000000000 + began.tv_nsec;

    /* Options may stand before the command and behind it. */
    r = read_options(argc, argv, &o);
    if (r >= 0)
        return r;
    if (optind < argc)
        o.command = argv[optind++];
    command = find_command(o.command);
    if (command == NULL) {
        fprintf(stderr, "kinetail: '%s' is not a command\n\n", o.command);
        return usage(stderr);
    }
    if (command->reads_rest) {
        o.rest_count = argc - optind;
        o.rest = argv + optind;
        return command->run(&o);
    }
    r = read_options(argc, argv, &o);
    if (r >= 0)
        return r;
    if (optind < argc) {
        fprintf(stderr, "kinetail: '%s' is too much after '%s'\n\n", argv[optind], o.command);
        return usage(stderr);
    }
    return command->run(&o);
}
