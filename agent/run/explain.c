#include "run/explain.h"

#include "base64.h"
#include "buf.h"
#include "clock.h"
#include "digest.h"
#include "escape.h"
#include "json.h"
#include "random.h"
#include "record/fields.h"
#include "record/java.h"
#include "record/mill.h"
#include "run/config.h"
#include "run/outfit.h"
#include "run/setup.h"
#include "run/version.h"
#include "ship/imds.h"
#include "ship/kinesis.h"
#include "ship/service.h"
#include "tail/glob.h"
#include "tail/source.h"
#include "tail/unpack.h"
#include "utf8.h"
#include "util.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    EXPLAIN_USAGE = 2,
    EXPLAIN_SHOWN_MAX = 64 * 1024 * 1024,
    EXPLAIN_HEADER_MAX = 64 * 1024,
    EXPLAIN_SENTENCE_MAX = 8192, /* with two paths in it */
};

struct explain {
    const char *config_path, *flow_name;
    bool json, whole, color;
    struct config *config; /* owns */
    const struct config_flow *flow;
    struct digest *digest;
    struct random random;
    struct reader reader;
    struct outfit *outfit;
    struct imds *imds;    /* NULL if it is not needed */
    size_t record_max;    /* bytes, of a record with its key */
    struct buf line;      /* of output */
    struct buf header;    /* the beginning of the file, if all of it is read with its help */
    const char *file;     /* the one that is explained */
    struct source source; /* it is read by this */
    uint64_t records, dropped, dead;
};

/* What was shown before it stands before it, and names do nothing to a terminal. */
__attribute__((format(printf, 1, 2))) static int failed(const char *format, ...)
{
    char text[EXPLAIN_SENTENCE_MAX];
    struct buf shown;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_init(&shown, ESCAPE_TIMES * sizeof text);
    (void)escape_append(&shown, slice_of(text));
    fflush(stdout);
    fprintf(stderr, "kinetail explain: %.*s\n", (int)shown.len, shown.ptr);
    buf_done(&shown);
    return -EINVAL;
}

/* Firehose has no partition keys. */
static bool has_key(const struct explain *x, const struct mill_piece *p)
{
    return p->verdict == RECIPE_SEND && x->flow->delivery_stream == NULL;
}

/* --- for programs --- */

static const char *outcome(const struct mill_piece *p)
{
    static const char *const words[] = {
        [RECIPE_SEND] = "send", [RECIPE_DROP] = "drop", [RECIPE_DEAD] = "dead"};

    return words[p->verdict];
}

/* Why it is not what one might have expected; NULL if it is. */
static const char *why(const struct mill_piece *p)
{
    const struct mill_notice *n = p->notice;

    if (p->reason != NULL || n == NULL)
        return p->reason;
    return n->mismatch != NULL ? n->mismatch
           : n->time_mismatch  ? "has a time that parse.time.format does not read; left as it is"
           : n->was_cut        ? "is larger than a record may be"
           : n->key_missing    ? "has nothing that could be its key, which is random"
           : n->gave_up        ? "is too hard for a pattern, which gave up"
                               : NULL;
}

static int append_member(struct buf *b, const char *name, struct slice value)
{
    int r = buf_printf(b, ",\"%s\":", name);

    return r < 0 ? r : json_append_string(b, value);
}

static int append_base64(struct buf *b, struct slice data)
{
    size_t size = base64_size(data.len);
    int r = buf_append(b, SLICE(",\"record_base64\":\""));

    if (r == 0)
        r = buf_reserve(b, b->len + size + 3);
    if (r < 0)
        return r;
    base64_encode(b->ptr + b->len, data.ptr, data.len);
    b->len += size;
    return buf_append_char(b, '"');
}

static int write_json(struct explain *x, const struct mill_piece *p)
{
    struct buf *b = &x->line;
    int r = buf_append(b, SLICE("{\"flow\":"));

    if (r == 0)
        r = json_append_string(b, slice_of(x->flow->name));
    if (r == 0)
        r = append_member(b, "file", slice_of(x->file));
    if (r == 0)
        r = buf_printf(b, ",\"offset\":%" PRIu64 ",\"end\":%" PRIu64 ",\"outcome\":\"%s\"",
                       p->offset, p->end, outcome(p));
    if (r == 0 && why(p) != NULL)
        r = append_member(b, "reason", slice_of(why(p)));
    if (r == 0 && has_key(x, p)) {
        r = buf_append(b, SLICE(",\"key\":"));
        if (r == 0)
            r = buf_append(b, key_json(p->key));
    }
    if (r == 0 && p->verdict != RECIPE_DROP && utf8_valid(p->record))
        r = append_member(b, "record", p->record);
    if (r == 0 && p->verdict != RECIPE_DROP)
        r = append_base64(b, p->record);
    return r < 0 ? r : buf_append(b, SLICE("}\n"));
}

/* --- for people --- */

enum color { PLAIN, DIM, NAME, VALUE, GOOD, BAD };

static const char *paint(const struct explain *x, enum color c)
{
    static const char *const codes[] = {"\033[0m",  "\033[2m",  "\033[36m",
                                        "\033[33m", "\033[32m", "\033[31m"};

    return x->color ? codes[c] : "";
}

static int append_painted(struct explain *x, enum color c, struct slice text)
{
    int r = buf_printf(&x->line, "%s", paint(x, c));

    if (r == 0)
        r = escape_append(&x->line, text);
    return r < 0 ? r : buf_printf(&x->line, "%s", paint(x, PLAIN));
}

/* One row: what it is, and a text. */
static int append_row(struct explain *x, const char *what, enum color c, struct slice text)
{
    int r = buf_printf(&x->line, "  %s%-8s%s ", paint(x, DIM), what, paint(x, PLAIN));

    if (r == 0)
        r = append_painted(x, c, text);
    return r < 0 ? r : buf_append_char(&x->line, '\n');
}

/* The bytes in the file, as far as they are short enough to be looked at. */
static int append_lines(struct explain *x, const struct mill_piece *p)
{
    char text[4096];
    struct slice s = {text, (size_t)MIN(p->end - p->offset, (uint64_t)sizeof text)};
    ssize_t n =
        x->source.packed != UNPACK_NONE ? 0 : pread(x->source.fd, text, s.len, (off_t)p->offset);

    if (n <= 0)
        return 0;
    s.len = (size_t)n;
    if (s.ptr[s.len - 1] == '\n')
        s.len--;
    return append_row(x, "line", PLAIN, s);
}

static int append_fields(struct explain *x, const struct fields *fields)
{
    int r = 0;

    for (size_t i = 0; fields != NULL && i < fields->count && r == 0; i++) {
        const struct field *f = &fields->items[i];
        struct buf *b = &x->line;

        r = buf_printf(b, "  %s%-8s%s ", paint(x, DIM), i == 0 ? "fields" : "", paint(x, PLAIN));
        if (r == 0)
            r = append_painted(x, NAME, f->name);
        if (r == 0)
            r = buf_append(b, SLICE(" = "));
        if (r == 0)
            r = append_painted(x, f->type == FIELD_TEXT ? VALUE : GOOD,
                               f->type == FIELD_NULL    ? SLICE("null")
                               : f->type == FIELD_TRUE  ? SLICE("true")
                               : f->type == FIELD_FALSE ? SLICE("false")
                                                        : f->value);
        if (r == 0)
            r = buf_append_char(b, '\n');
    }
    return r;
}

static int write_text(struct explain *x, const struct mill_piece *p)
{
    enum color c = p->verdict == RECIPE_SEND ? GOOD : BAD;
    int r = append_painted(x, DIM, slice_of(x->file));

    if (r == 0)
        r = buf_printf(&x->line, "%s bytes %" PRIu64 " to %" PRIu64 ":%s %s%s%s", paint(x, DIM),
                       p->offset, p->end, paint(x, PLAIN), paint(x, c), outcome(p),
                       paint(x, PLAIN));
    if (r == 0 && p->events > 1)
        r = buf_printf(&x->line, ", %" PRIu32 " events in one record", p->events);
    if (r == 0)
        r = buf_append_char(&x->line, '\n');
    if (r == 0)
        r = append_lines(x, p);
    if (r == 0 && why(p) != NULL)
        r = append_row(x, p->reason != NULL ? "reason" : "note", BAD, slice_of(why(p)));
    if (r == 0)
        r = append_fields(x, p->fields);
    if (r == 0 && has_key(x, p))
        r = append_row(x, "key", PLAIN, key_json(p->key));
    if (r == 0 && p->verdict != RECIPE_DROP)
        r = append_row(x, p->plain.ptr == p->record.ptr ? "record" : "content", PLAIN, p->plain);
    return r;
}

/* --- what the mill tells --- */

static bool explain_take(void *user, const struct mill_piece *p)
{
    struct explain *x = user;
    int r;

    buf_reset(&x->line);
    r = x->json ? write_json(x, p) : write_text(x, p);
    if (r < 0)
        (void)failed("a record is too large to be shown");
    else
        fwrite(x->line.ptr, 1, x->line.len, stdout);
    x->records += p->verdict == RECIPE_SEND;
    x->dropped += p->verdict == RECIPE_DROP;
    x->dead += p->verdict == RECIPE_DEAD;
    return true;
}

/* Each piece has its own. */
static void explain_notice(void *user, const struct mill_notice *n)
{
    (void)user;
    (void)n;
}

/* --- reading --- */

static int write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);

        if (n < 0)
            return -errno;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Standard input may be a pipe, and so may a file: <(zcat app.log.gz); what reads logs wants a file. */
static int copy_of(int from)
{
    int fd = memfd_create("copy", MFD_CLOEXEC);
    char block[64 * 1024];
    int r = 0;
    ssize_t n;

    if (fd < 0)
        return -errno;
    while ((n = read(from, block, sizeof block)) > 0)
        if ((r = write_all(fd, block, (size_t)n)) < 0)
            break;
    if (n < 0)
        r = -errno;
    if (r == 0)
        return fd;
    close(fd);
    return r;
}

static int open_file(const char *path)
{
    struct stat st = {0};
    int fd, copy;

    if (strcmp(path, "-") == 0)
        return copy_of(STDIN_FILENO);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    if (S_ISFIFO(st.st_mode) && fcntl(fd, F_SETFL, O_RDONLY) == 0)
        copy = copy_of(fd);
    else
        copy = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    close(fd);
    return copy;
}

static struct mill_input input_of(struct explain *x, struct source *s, struct source_chunk *c,
                                  enum source_news news, struct java_context *java)
{
    const struct clock *clock = &clock_system;
    bool cut = c->end > s->at.offset + c->text.len && !x->whole &&
               (news == SOURCE_LONG || news == SOURCE_HALF);
    struct mill_input in = {
        .text = c->text,
        .offset = s->at.offset,
        .behind = c->behind,
        .last = c->at_eof && !cut,
        .flush = c->at_eof && !cut,
        .cut = cut,
        .unended = news == SOURCE_HALF,
        .whole = x->whole,
        .line_end = c->end,
        .header = s->at.offset > 0 ? buf_slice(&x->header) : (struct slice){0},
        .place = {.file = slice_of(x->file), .now_ms = clock->wall_ms(clock)},
        .java = java,
    };

    in.place.ec2 = java->ec2 = x->imds != NULL ? imds_get(x->imds) : NULL;
    java->wall_ms = in.place.now_ms;
    if (in.last && news == SOURCE_LINES)
        in.text.len += c->behind;
    return in;
}

/* All of it is one event, whatever is in it. */
static int grind_whole(struct explain *x, struct source *s)
{
    const struct mill_events events = {explain_take, explain_notice, x};
    struct mill_state state = {0};
    struct mill_report report;
    struct java_context java;
    struct source_chunk c = {.at_eof = true};
    struct mill_input in;
    ssize_t n = source_read_head(s, &x->reader, x->reader.memory, x->reader.line_max + 1);

    if (n < 0)
        return (int)n;
    if ((size_t)n > x->reader.line_max)
        return failed("'%s': is longer than one event may be (%zu bytes)", x->file,
                      x->reader.line_max);
    c.text = (struct slice){x->reader.memory, (size_t)n};
    in = input_of(x, s, &c, SOURCE_HALF, &java);
    return mill_run(outfit_mill(x->outfit), &in, &state, &events, &report);
}

/* The first lines, which are needed to the end. */
static int read_header(struct explain *x, struct source *s)
{
    ssize_t n;
    int r;

    buf_reset(&x->header);
    if (!outfit_wants_header(x->outfit) || x->whole)
        return 0;
    r = buf_reserve(&x->header, EXPLAIN_HEADER_MAX);
    if (r < 0)
        return r;
    n = source_read_head(s, &x->reader, x->header.ptr, EXPLAIN_HEADER_MAX);
    x->header.len = n > 0 ? (size_t)n : 0;
    return 0; /* an error is met again by who reads it all */
}

/* Reads it all, from its beginning, as the agent would. */
static int grind_file(struct explain *x, struct source *s)
{
    const struct mill_events events = {explain_take, explain_notice, x};
    struct mill_state state = {0};
    size_t want = 0, most = x->reader.line_max;

    for (;;) {
        struct source_chunk c;
        struct mill_report report;
        struct java_context java;
        struct mill_input in;
        int r = source_read(s, &x->reader, true, want, &c);

        if (r == SOURCE_END)
            return 0;
        if (r == SOURCE_MORE)
            continue;
        if (r < 0)
            return r;
        if (r == SOURCE_ZEROS) {
            source_move(s, source_cursor(s, &x->reader, &c, c.end));
            continue;
        }
        in = input_of(x, s, &c, (enum source_news)r, &java);
        in.flush_joined = in.flush || want > most; /* more cannot be seen at once */
        in.flush = in.flush || want > most + 1;
        r = mill_run(outfit_mill(x->outfit), &in, &state, &events, &report);
        if (r < 0)
            return r;
        want = report.offset > s->at.offset ? 0
               : want >= most               ? want + 1
                              : MIN(2 * MAX(c.text.len + c.behind, (size_t)4096), most);
        source_move(s, source_cursor(s, &x->reader, &c, report.offset));
    }
}

static int explain_file(struct explain *x, const char *path)
{
    struct source *s = &x->source;
    char magic[UNPACK_MAGIC_LEN];
    ssize_t n;
    int r;

    *s = (struct source){.fd = open_file(path), .encoding = (enum encoding)x->flow->encoding};
    if (s->fd < 0)
        return s->fd == -EINVAL ? failed("'%s': is no regular file and no pipe", path)
                                : failed("'%s': cannot be read: %s", path, strerrordesc_np(-s->fd));
    x->file = path;
    n = pread(s->fd, magic, sizeof magic, 0);
    s->packed =
        n == (ssize_t)sizeof magic ? unpack_kind_of((struct slice){magic, (size_t)n}) : UNPACK_NONE;
    r = read_header(x, s);
    if (r == 0)
        r = x->whole ? grind_whole(x, s) : grind_file(x, s);
    if (r == -EBADMSG || (r == 0 && s->unpack != NULL && !unpack_is_whole(s->unpack)))
        r = failed("'%s': is damaged, or cut short, behind what is shown", path);
    else if (r < 0 && r != -EINVAL)
        r = failed("'%s': reading: %s", path, strerrordesc_np(-r));
    source_close_packed(s);
    close(s->fd);
    return r;
}

/* --- which flow --- */

static bool excludes(const struct config_flow *f, const char *path)
{
    struct glob_excludes *g = NULL;
    bool found = glob_excludes_new(f->exclude.items, f->exclude.count, &g) == 0 &&
                 glob_excludes_match(g, path, strrchr(path, '/') + 1);

    glob_excludes_free(g);
    return found;
}

/* Whether a flow's globs mean a file of this name. */
static bool follows(const struct config_flow *f, const char *path)
{
    struct glob *g = NULL;
    struct glob_states *states = NULL, *next;
    char text[PATH_MAX], *name = text + 1;
    bool found = false;

    (void)snprintf(text, sizeof text, "%s", path);
    if (glob_new(f->files.items, f->files.count, &g) < 0 || glob_root(g, &states) < 0)
        goto out;
    for (char *slash; states != NULL && (slash = strchr(name, '/')) != NULL; name = slash + 1) {
        *slash = '\0';
        next = NULL;
        (void)glob_enter(g, states, name, &next);
        free(states);
        states = next;
    }
    found = states != NULL && glob_matches(g, states, name) && !excludes(f, path);
out:
    free(states);
    glob_free(g);
    return found;
}

/* The only flow that follows a file of this name, if there is one. */
static const struct config_flow *flow_of_file(const struct config *c, const char *path)
{
    const struct config_flow *found = NULL;
    char real[PATH_MAX];

    if (realpath(path, real) == NULL)
        return NULL;
    for (size_t i = 0; i < c->flow_count; i++)
        if (follows(&c->flows[i], real)) {
            if (found != NULL)
                return NULL;
            found = &c->flows[i];
        }
    return found;
}

/* The flow that `file` is explained by. */
static int choose_flow(const struct explain *x, const char *file, const struct config_flow **ret)
{
    const struct config *c = x->config;
    const struct config_flow *found = NULL;

    for (size_t i = 0; i < c->flow_count && x->flow_name != NULL; i++)
        if (strcmp(c->flows[i].name, x->flow_name) == 0)
            found = &c->flows[i];
    if (x->flow_name == NULL && c->flow_count == 1)
        found = &c->flows[0];
    else if (x->flow_name == NULL && strcmp(file, "-") != 0)
        found = flow_of_file(c, file);
    if (found != NULL) {
        *ret = found;
        return 0;
    }
    if (x->flow_name != NULL)
        (void)failed("there is no flow '%s' in the configuration; its flows are:", x->flow_name);
    else
        (void)failed("'%s': which flow? say --flow NAME; there are:", file);
    for (size_t i = 0; i < c->flow_count; i++)
        fprintf(stderr, "    %s\n", c->flows[i].name);
    return -EINVAL;
}

/* As the agent would have them. */
static int fetch_metadata(struct explain *x)
{
    struct imds_settings settings;
    const char *why;

    if (!outfit_wants_ec2(x->outfit) || x->imds != NULL)
        return 0;
    imds_settings_from_env(&settings, &why);
    if (settings.endpoint == NULL)
        return 0;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return -ENOMEM;
    return imds_once(&clock_system, &settings, KINETAIL_AGENT, &x->imds);
}

/* Makes sure that the outfit is that of the flow of `file`. */
static int prepare(struct explain *x, const char *file)
{
    const struct config_flow *flow;
    struct outfit_error e = {0};
    int r = choose_flow(x, file, &flow);

    if (r < 0 || flow == x->flow)
        return r;
    outfit_free(x->outfit);
    x->outfit = NULL;
    x->flow = flow;
    x->record_max = (size_t)outfit_service(flow)->record_max;
    x->reader.line_max = x->record_max;
    r = outfit_new(flow, x->record_max, x->digest, &x->random, NULL, &x->outfit, &e);
    if (r == 0)
        r = fetch_metadata(x);
    if (r == 0)
        return 0;
    x->flow = NULL;
    return r == -EINVAL ? failed("flow %s: %s: %s", flow->name, e.key, e.text)
                        : failed("%s", strerrordesc_np(-r));
}

/* --- the command --- */

static int usage(FILE *to)
{
    fputs(
        "usage: kinetail [-c FILE] explain [--flow NAME] [--json] [--whole] [FILE...]\n"
        "\n"
        "Shows what would become of the lines of each FILE (- or none: standard input): their\n"
        "fields, the record, its partition key, and why a line would not be sent.  Sends nothing.\n"
        "\n"
        "  --flow NAME   as this flow would; without it, the flow that follows the file\n"
        "  --json        one object for each record\n"
        "  --whole       each FILE is one event, with all its lines\n",
        to);
    return to == stdout ? EXIT_SUCCESS : EXPLAIN_USAGE;
}

static int read_options(struct explain *x, int argc, char **argv)
{
    enum { OPT_FLOW = 256, OPT_JSON, OPT_WHOLE };
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'}, {"flow", required_argument, NULL, OPT_FLOW},
        {"json", no_argument, NULL, OPT_JSON},    {"whole", no_argument, NULL, OPT_WHOLE},
        {"help", no_argument, NULL, 'h'},         {NULL, 0, NULL, 0},
    };

    optind = 0; /* from the beginning */
    for (int c; (c = getopt_long(argc, argv, "c:h", options, NULL)) != -1;) {
        switch (c) {
        case 'c':
            x->config_path = optarg;
            break;
        case OPT_FLOW:
            x->flow_name = optarg;
            break;
        case OPT_JSON:
            x->json = true;
            break;
        case OPT_WHOLE:
            x->whole = true;
            break;
        case 'h':
            return usage(stdout);
        default:
            return usage(stderr);
        }
    }
    return -1;
}

/* 0, or the exit status that says what went wrong. */
static int explain_one(struct explain *x, const char *file)
{
    if (prepare(x, file) < 0)
        return EXPLAIN_USAGE;
    return explain_file(x, file) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int explain_command(int argc, char **argv, const char *config)
{
    struct explain x = {.config_path = config, .color = isatty(STDOUT_FILENO)};
    int r = read_options(&x, argc, argv), status = EXIT_SUCCESS;

    if (r >= 0)
        return r;
    x.config = setup_config(x.config_path, NULL);
    if (x.config == NULL)
        return EXPLAIN_USAGE;
    buf_init(&x.line, EXPLAIN_SHOWN_MAX);
    buf_init(&x.header, EXPLAIN_HEADER_MAX);
    random_seed(&x.random);
    if (digest_new(&x.digest) < 0 ||
        reader_init(&x.reader, x.digest, (size_t)kinesis_service.record_max) < 0) {
        (void)failed("out of memory");
        status = EXIT_FAILURE;
        goto out;
    }
    if (optind == argc)
        status = explain_one(&x, "-");
    for (int i = optind; i < argc; i++) {
        int one = explain_one(&x, argv[i]);

        status = MAX(status, one);
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        status = EXIT_FAILURE;
out:
    imds_free(x.imds);
    outfit_free(x.outfit);
    reader_done(&x.reader);
    digest_free(x.digest);
    buf_done(&x.header);
    buf_done(&x.line);
    config_free(x.config);
    return status;
}
