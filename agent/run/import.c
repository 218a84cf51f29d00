#include "run/import.h"

#include "run/config.h"
#include "run/import_inner.h"
#include "run/import_json.h"
#include "run/mistakes.h"
#include "run/units.h"
#include "run/version.h"
#include "utf8.h"
#include "util.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    EXIT_USAGE = 2,
    FILE_MAX = 4 * 1024 * 1024, /* of a configuration; larger is something else */
    FILES_MAX = 1000,           /* in agent.d */
    NAME_MAX_BYTES = 100,       /* of a stream's name as a flow's, which has 128 characters */
    NAME_ROOM = 16,             /* "-12345" behind it */
    DRAIN_MAX_MS = 60 * 60 * 1000,
};

/* --- what stands above the flows --- */

static const struct idle {
    const char *key;
    enum { IDLE_ANY, IDLE_NUMBER, IDLE_FLAG } kind;
    const char *why;
} idle[] = {
    {"checkpointFile", IDLE_ANY,
     "kinetail keeps its own positions in state_dir; those of the Java agent cannot be taken over"},
    {"checkpointTimeToLiveDays", IDLE_NUMBER, "positions are kept as long as their files"},
    {"maxSendingThreads", IDLE_NUMBER, "one thread sends everything"},
    {"maxSendingThreadsPerCore", IDLE_NUMBER, "one thread sends everything"},
    {"sendingThreadsKeepAliveMillis", IDLE_NUMBER, "one thread sends everything"},
    {"sendingThreadsMaxQueueSize", IDLE_NUMBER, "there is no queue: the file is the queue"},
    {"maxConnections", IDLE_NUMBER, "as many as max_in_flight of the flows"},
    {"connectionTimeoutMillis", IDLE_NUMBER, "not a setting of kinetail"},
    {"connectionTTLMillis", IDLE_NUMBER, "not a setting of kinetail"},
    {"socketTimeoutMillis", IDLE_NUMBER, "not a setting of kinetail"},
    {"useTcpKeepAlive", IDLE_FLAG, "connections are always kept alive"},
    {"useHttpGzip", IDLE_FLAG, "see compress, which is of records"},
    {"userAgent", IDLE_ANY, "not a setting of kinetail"},
    {"userAgentOverride", IDLE_ANY, "not a setting of kinetail"},
    {"cloudwatch.emitMetrics", IDLE_FLAG, "not in this version"},
    {"cloudwatch.endpoint", IDLE_ANY, "not in this version"},
    {"cloudwatch.namespace", IDLE_ANY, "not in this version"},
    {"cloudwatch.tagInstance", IDLE_FLAG, "not in this version"},
    {"cloudwatch.queueSize", IDLE_NUMBER, "not in this version"},
    {"cloudwatch.metricsQueueSize", IDLE_NUMBER, "not in this version"},
    {"cloudwatch.metricsBufferTimeMillis", IDLE_NUMBER, "not in this version"},
    {"log.emitMetrics", IDLE_FLAG, "kinetail status tells it"},
    {"log.emitInternalMetrics", IDLE_FLAG, "kinetail status tells it"},
    {"log.statusReportingPeriodSeconds", IDLE_NUMBER, "kinetail status tells it"},
    {"log.level", IDLE_ANY, "the Java agent's levels; see log.level of kinetail"},
    {"log.file", IDLE_ANY, "kinetail writes to standard error, which systemd keeps"},
    {"log.maxFileSize", IDLE_ANY, "kinetail writes to standard error, which systemd keeps"},
    {"log.maxBackupIndex", IDLE_ANY, "kinetail writes to standard error, which systemd keeps"},
};

static const char *const used[] = {
    "flows",
    "kinesis.endpoint",
    "kinesis.region",
    "firehose.endpoint",
    "sts.endpoint",
    "awsAccessKeyId",
    "awsSecretAccessKey",
    "assumeRoleARN",
    "assumeRoleExternalId",
    "shutdownTimeoutMillis",
};

static bool is_used(struct slice name)
{
    for (size_t i = 0; i < ARRAY_LEN(used); i++)
        if (slice_equal(name, slice_of(used[i])))
            return true;
    return false;
}

/* A setting of ours that this version has. */
static bool is_ours(const char *path)
{
    size_t count;
    const struct config_key *keys = config_global_keys(&count);

    for (size_t i = 0; i < count; i++)
        if (strcmp(keys[i].path, path) == 0)
            return true;
    return false;
}

static void put_idle(struct import *im, const struct import_value *root)
{
    for (size_t i = 0; i < root->count; i++) {
        const struct import_value *v = &root->items[i];
        const struct idle *known = NULL;
        int64_t n;
        bool flag;

        if (is_used(v->name))
            continue;
        if (slice_starts_with(v->name, SLICE("userDefinedCredentialsProvider"))) {
            import_refuse(im, "userDefinedCredentialsProvider",
                          "names a Java class of your own, which cannot be carried over");
            continue;
        }
        for (size_t k = 0; k < ARRAY_LEN(idle) && known == NULL; k++)
            if (slice_equal(v->name, slice_of(idle[k].key)))
                known = &idle[k];
        if (known != NULL && known->kind == IDLE_NUMBER)
            (void)import_number(im, root, known->key, INT64_MIN, INT64_MAX, &n);
        if (known != NULL && known->kind == IDLE_FLAG)
            (void)import_flag(im, root, known->key, &flag);
        import_put_member(im, "", v, known != NULL ? known->why : "not a key of the Java agent");
    }
}

/* --- endpoints and the region --- */

/* The host of an endpoint, which may be written as a URL. */
static struct slice host_of(struct slice endpoint)
{
    const char *at = endpoint.len > 0 ? memmem(endpoint.ptr, endpoint.len, "://", 3) : NULL;
    struct slice host =
        at != NULL ? slice_from(endpoint, (size_t)(at - endpoint.ptr) + 3) : endpoint;
    size_t len = 0;

    while (len < host.len && host.ptr[len] != '/' && host.ptr[len] != ':')
        len++;
    return slice_first(host, len);
}

/* The region in "kinesis.eu-west-1.amazonaws.com"; empty if it is no such name. */
static struct slice region_of(struct slice endpoint, struct slice service)
{
    struct slice host = host_of(endpoint), rest;
    const char *dot;

    if (!slice_starts_with(host, service))
        return (struct slice){NULL, 0};
    rest = slice_from(host, service.len);
    dot = memchr(rest.ptr, '.', rest.len);
    if (dot == NULL)
        return (struct slice){NULL, 0};
    host = slice_first(rest, (size_t)(dot - rest.ptr));
    rest = slice_from(rest, host.len);
    return slice_equal(rest, SLICE(".amazonaws.com")) ||
                   slice_equal(rest, SLICE(".amazonaws.com.cn"))
               ? host
               : (struct slice){NULL, 0};
}

/* Which services the flows of all files send to. */
struct targets {
    bool kinesis, firehose;
};

static void put_region(struct import *im, const struct import_value *root, struct targets targets)
{
    struct slice kinesis = {0}, firehose = {0}, region = {0}, of_kinesis, of_firehose;

    (void)import_text(im, root, "kinesis.endpoint", &kinesis);
    (void)import_text(im, root, "firehose.endpoint", &firehose);
    of_kinesis = region_of(kinesis, SLICE("kinesis."));
    of_firehose = region_of(firehose, SLICE("firehose."));
    (void)import_text(im, root, "kinesis.region", &region);
    if (region.len > 0)
        of_kinesis = region;
    if (targets.kinesis && targets.firehose && of_kinesis.len > 0 && of_firehose.len > 0 &&
        !slice_equal(of_kinesis, of_firehose))
        import_refuse(im, "firehose.endpoint",
                      "is in %.*s and Kinesis in %.*s; this version of kinetail knows one region",
                      SLICE_ARG(of_firehose), SLICE_ARG(of_kinesis));
    region = targets.kinesis || of_firehose.len == 0 ? of_kinesis : of_firehose;
    if (region.len == 0)
        region = of_firehose;
    if (region.len == 0) {
        import_put(im,
                   "# Where neither endpoint nor region says otherwise, the Java agent sends to "
                   "us-east-1.\n");
        region = SLICE("us-east-1");
    }
    import_put(im, "region = ");
    import_put_text(im, "kinesis.region", region);
    import_put(im, ";\n");
}

/* An endpoint of a service that our region does not give by itself. */
static void put_endpoint(struct import *im, const struct import_value *root, const char *key,
                         const char *ours, struct slice service, bool needed)
{
    struct slice text, region;
    struct buf url;
    char path[64];

    if (!import_text(im, root, key, &text) || text.len == 0)
        return;
    region = region_of(text, service);
    (void)snprintf(path, sizeof path, "endpoint.%s", ours);
    if (!is_ours(path)) {
        import_put_idle(im, "    ", key, import_json_find(root, key),
                        region.len > 0 ? "the region's own" : "not in this version");
        if (region.len == 0 && needed)
            import_refuse(im, key,
                          "is not a region's own endpoint; this version of kinetail cannot "
                          "send there");
        return;
    }
    buf_init(&url, IMPORT_TEXT_MAX);
    if (memmem(text.ptr, text.len, "://", 3) == NULL)
        (void)buf_append(&url, SLICE("https://"));
    (void)buf_append(&url, text);
    import_put(im, "    %s = ", ours);
    import_put_text(im, key, buf_slice(&url));
    import_put(im, ";\n");
    buf_done(&url);
}

static void put_endpoints(struct import *im, const struct import_value *root,
                          struct targets targets)
{
    size_t start = im->out.len, inner;

    import_put(im, "endpoint = {\n");
    inner = im->out.len;
    put_endpoint(im, root, "kinesis.endpoint", "kinesis", SLICE("kinesis."), targets.kinesis);
    put_endpoint(im, root, "firehose.endpoint", "firehose", SLICE("firehose."), targets.firehose);
    put_endpoint(im, root, "sts.endpoint", "sts", SLICE("sts."), false);
    if (im->out.len == inner)
        im->out.len = start;
    else
        import_put(im, "};\n");
}

/* --- credentials --- */

static void put_credential(struct import *im, const struct import_value *root, const char *key,
                           const char *ours)
{
    struct slice text;
    char path[64];

    if (!import_text(im, root, key, &text))
        return;
    (void)snprintf(path, sizeof path, "credentials.%s", ours);
    if (!is_ours(path)) {
        import_put_idle(im, "    ", key, import_json_find(root, key),
                        "not in this version: give kinetail credentials of that role");
        import_tell(im, key,
                    "is not in this version of kinetail: give it credentials of that role");
        return;
    }
    import_put(im, "    %s = ", ours);
    import_put_text(im, key, text);
    import_put(im, ";\n");
}

static void put_credentials(struct import *im, const struct import_value *root)
{
    struct slice id = {0}, secret = {0};
    size_t start = im->out.len, inner;
    bool both = import_text(im, root, "awsAccessKeyId", &id) &&
                import_text(im, root, "awsSecretAccessKey", &secret);

    if (!both && (id.len > 0 || import_json_find(root, "awsSecretAccessKey") != NULL))
        import_tell(im, "awsAccessKeyId",
                    "and awsSecretAccessKey go together; as by the Java agent, "
                    "one without the other is passed over");
    import_put(im, "credentials = {\n");
    inner = im->out.len;
    if (both) {
        import_put(im, "    # A secret: this file must be closed to others (chmod 600).\n");
        put_credential(im, root, "awsAccessKeyId", "access_key_id");
        put_credential(im, root, "awsSecretAccessKey", "secret_access_key");
        import_tell(im, "awsSecretAccessKey",
                    "is a secret: the file that this goes to must be closed to others (chmod 600)");
    }
    put_credential(im, root, "assumeRoleARN", "role_arn");
    put_credential(im, root, "assumeRoleExternalId", "external_id");
    if (im->out.len == inner)
        im->out.len = start;
    else
        import_put(im, "};\n");
}

static void put_globals(struct import *im, const struct import_value *root, struct targets targets)
{
    char text[UNITS_TEXT_SIZE];
    int64_t ms;

    import_put(
        im, "# Made from agent.json of the Java Kinesis Agent by kinetail " KINETAIL_VERSION ".\n"
            "# Its positions are not taken over: `from` of each flow says where to begin.\n"
            "# It follows the newest of the files that a flow means, kinetail follows all.\n\n");
    put_region(im, root, targets);
    put_endpoints(im, root, targets);
    put_credentials(im, root);
    if (import_number(im, root, "shutdownTimeoutMillis", 0, DRAIN_MAX_MS, &ms)) {
        units_format_time((uint64_t)ms, text);
        import_put(im, "drain_timeout = \"%s\";\n", text);
    }
    put_idle(im, root);
}

/* --- flows --- */

/* Numbers are put behind a name until no line is like this one. */
void import_put_name(struct import *im, struct slice stream)
{
    const size_t start = im->out.len, line = start - strlen("      name = ");

    stream = slice_first(stream, utf8_cut(stream, NAME_MAX_BYTES));
    for (unsigned n = 1; im->lost == 0; n++) {
        char name[NAME_MAX_BYTES + NAME_ROOM];
        int len = snprintf(name, sizeof name, n > 1 ? "%.*s-%u" : "%.*s", SLICE_ARG(stream), n);

        im->out.len = start;
        import_put_text(im, "name", (struct slice){name, (size_t)len});
        import_put(im, ";\n");
        if (im->wrong_count > 0 ||
            memmem(im->out.ptr, line, im->out.ptr + line, im->out.len - line) == NULL)
            break;
    }
}

static void count_targets(const struct import_value *root, struct targets *ret)
{
    const struct import_value *flows = import_json_find(root, "flows");

    for (size_t i = 0; flows != NULL && flows->type == IMPORT_LIST && i < flows->count; i++) {
        bool firehose = import_json_find(&flows->items[i], "deliveryStream") != NULL;

        ret->firehose |= firehose;
        ret->kinesis |= !firehose;
    }
}

static size_t put_flows(struct import *im, const struct import_value *root, size_t before)
{
    const struct import_value *flows = import_json_find(root, "flows");
    size_t count = 0;

    if (flows == NULL)
        return 0;
    if (flows->type != IMPORT_LIST) {
        import_refuse(im, "flows", "is not a list; the Java agent does not start with it");
        return 0;
    }
    for (size_t i = 0; i < flows->count; i++) {
        im->flow = i + 1;
        im->stream = (struct slice){NULL, 0};
        if (flows->items[i].type != IMPORT_OBJECT) {
            import_refuse(im, "", "is no group; the Java agent does not start with it");
            continue;
        }
        import_put(im, before + count > 0 ? ",\n" : "");
        import_flow(im, &flows->items[i]);
        count++;
    }
    im->flow = 0;
    return count;
}

/* --- all of it --- */

/* What we wrote must be what we read: a mistake is one of the Java agent's configuration that only our
 * own rules know of (a stream's name, a region), or one of ours. */
static void check(struct import *im, const struct import_file *first)
{
    struct config_mistakes mistakes = {0};
    struct config *c = NULL;
    int r = config_load_text(buf_slice(&im->out), "what comes of it", &c, &mistakes);

    im->file = first->name;
    for (size_t i = 0; i < mistakes.count; i++)
        import_refuse(im, "", "what comes of it is refused: %s: %s", mistakes.items[i].key,
                      mistakes.items[i].sentence);
    if (r < 0 && mistakes.count == 0)
        im->lost = r;
    config_mistakes_done(&mistakes);
    config_free(c);
}

/* Reads agent.json; one of agent.d that cannot be read is passed over, as the Java agent does. */
static int read_tree(struct import *im, const struct import_file *f, bool first,
                     struct import_value *ret)
{
    size_t line;
    int r = import_json_read(f->text, ret, &line);

    im->file = f->name;
    if (r == -ENOMEM)
        return r;
    if (r == 0 && ret->type == IMPORT_OBJECT)
        return 0;
    if (r < 0 && first)
        import_refuse(im, "", "line %zu is not JSON; the Java agent does not start with it", line);
    else if (first)
        import_refuse(im, "", "is no group of settings; the Java agent does not start with it");
    else
        import_tell(im, "", "is not JSON; as by the Java agent, it is passed over");
    return 0;
}

static int import_trees(struct import *im, const struct import_file *files,
                        const struct import_value *trees, size_t count)
{
    struct targets targets = {0};
    size_t flows = 0;

    assert(count > 0); /* the first is the file itself */
    for (size_t i = 0; i < count; i++)
        count_targets(&trees[i], &targets);
    im->file = files[0].name;
    if (trees[0].type == IMPORT_OBJECT)
        put_globals(im, &trees[0], targets);
    import_put(im, "\nflows = (\n");
    for (size_t i = 0; i < count; i++) {
        im->file = files[i].name;
        flows += put_flows(im, &trees[i], flows);
    }
    import_put(im, "\n);\n");
    im->file = files[0].name;
    if (flows == 0 && im->wrong_count == 0)
        import_refuse(im, "flows",
                      "is missing or empty; the Java agent does not start without a flow");
    if (im->wrong_count == 0 && im->lost == 0)
        check(im, &files[0]);
    return im->lost < 0 ? im->lost : im->wrong_count > 0 ? -EINVAL : 0;
}

static void print_to(FILE *to, const struct buf *b)
{
    if (to != NULL && b->len > 0)
        (void)fwrite(b->ptr, 1, b->len, to);
}

int import_files(const struct import_file *files, size_t count, FILE *to, FILE *words)
{
    struct import_value *trees = calloc(count, sizeof *trees);
    struct import im = {.prefix = ""};
    int r = trees == NULL ? -ENOMEM : 0;

    assert(count > 0);
    im.file = files[0].name;
    buf_init(&im.out, IMPORT_TEXT_MAX);
    buf_init(&im.wrong, IMPORT_TEXT_MAX);
    buf_init(&im.told, IMPORT_TEXT_MAX);
    buf_init(&im.flows, IMPORT_TEXT_MAX);
    for (size_t i = 0; i < count && r == 0; i++)
        r = read_tree(&im, &files[i], i == 0, &trees[i]);
    if (r == 0)
        r = import_trees(&im, files, trees, count);
    print_to(words, r == 0 ? &im.told : &im.wrong);
    if (r == 0)
        print_to(to, &im.out);
    for (size_t i = 0; trees != NULL && i < count; i++)
        import_json_done(&trees[i]);
    free(trees);
    if (im.out.ptr != NULL)
        explicit_bzero(im.out.ptr, im.out.cap);
    buf_done(&im.out);
    buf_done(&im.wrong);
    buf_done(&im.told);
    buf_done(&im.flows);
    return r;
}

/* --- the command --- */

/* Reads a regular file.  Gives *ret, of which the caller frees ptr. */
static int read_file(const char *path, struct slice *ret)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = 0;
    struct stat st;
    char *text = NULL;
    size_t len = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0)
        r = -errno;
    else if (!S_ISREG(st.st_mode))
        r = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
    else if (st.st_size > FILE_MAX)
        r = -EFBIG;
    if (r == 0 && (text = malloc((size_t)st.st_size + 1)) == NULL)
        r = -ENOMEM;
    while (r == 0 && len < (size_t)st.st_size) {
        ssize_t n = read(fd, text + len, (size_t)st.st_size - len);
        if (n <= 0) {
            r = n < 0 ? -errno : 0;
            break;
        }
        len += (size_t)n;
    }
    close(fd);
    if (r < 0)
        free(text);
    else
        *ret = (struct slice){text, len};
    return r;
}

struct list { /* owns the names and the texts */
    struct import_file *files;
    size_t count;
};

static int add_file(struct list *l, char *path)
{
    struct import_file *files = realloc(l->files, (l->count + 1) * sizeof *files);
    struct slice text;
    int r;

    if (files == NULL)
        return -ENOMEM;
    l->files = files;
    r = read_file(path, &text);
    if (r == 0)
        files[l->count++] = (struct import_file){path, text};
    return r;
}

/* The regular files of agent.d, in the order of their names. */
static int add_directory(struct list *l, const char *dir, bool must_exist)
{
    struct dirent **names = NULL;
    int count = scandir(dir, &names, NULL, alphasort), r = 0;

    if (count < 0)
        return errno == ENOENT && !must_exist ? 0 : -errno;
    for (int i = 0; i < count; i++) {
        char *path = NULL;
        struct stat st;

        if (r == 0 && l->count <= FILES_MAX &&
            asprintf(&path, "%s/%s", dir, names[i]->d_name) >= 0) {
            if (stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
                free(path);
            } else {
                r = add_file(l, path);
                if (r < 0) {
                    fprintf(stderr, "%s: %s\n", path, strerrordesc_np(-r));
                    free(path);
                }
            }
        }
        free(names[i]);
    }
    free(names);
    return r;
}

static void list_done(struct list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        explicit_bzero((char *)(uintptr_t)l->files[i].text.ptr, l->files[i].text.len);
        free((char *)(uintptr_t)l->files[i].text.ptr);
        free((char *)(uintptr_t)l->files[i].name);
    }
    free(l->files);
}

static char *beside(const char *file)
{
    const char *slash = strrchr(file, '/');
    char *path = NULL;

    return asprintf(&path, "%.*sagent.d", slash != NULL ? (int)(slash - file) + 1 : 0, file) < 0
               ? NULL
               : path;
}

static int import_paths(const char *file, const char *agent_d)
{
    struct list l = {0};
    char *path = strdup(file), *dir = agent_d != NULL ? strdup(agent_d) : beside(file);
    int r = path == NULL || dir == NULL ? -ENOMEM : add_file(&l, path);

    if (r < 0) {
        fprintf(stderr, "%s: %s\n", file, strerrordesc_np(-r));
        free(path);
        goto out;
    }
    r = add_directory(&l, dir, agent_d != NULL);
    if (r < 0) {
        fprintf(stderr, "%s: %s\n", dir, strerrordesc_np(-r));
        goto out;
    }
    r = import_files(l.files, l.count, stdout, stderr);
    if (r == 0 && fflush(stdout) != 0)
        r = -errno;
    if (r < 0 && r != -EINVAL)
        fprintf(stderr, "%s: %s\n", file, strerrordesc_np(-r));
out:
    free(dir);
    list_done(&l);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int usage(FILE *to)
{
    fputs(
        "kinetail import FILE [--agent-d DIR]\n"
        "\n"
        "Writes the configuration that means what FILE, the agent.json of the Java Kinesis Agent, "
        "means,\n"
        "with the flows of all files in agent.d beside it.\n"
        "\n"
        "      --agent-d DIR   take the files of DIR instead\n"
        "  -h, --help          this text\n"
        "\n"
        "Exit status: 0 well, 1 something cannot be carried over, 2 wrong usage.\n",
        to);
    return to == stdout ? EXIT_SUCCESS : EXIT_USAGE;
}

int import_command(int argc, char **argv)
{
    enum { OPT_AGENT_D = 256 };
    static const struct option options[] = {
        {"agent-d", required_argument, NULL, OPT_AGENT_D},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    const char *agent_d = NULL;

    /* getopt wants the name in front of what it reads, and there it is: "import". */
    argv--;
    argc++;
    optind = 0;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h')
            return usage(stdout);
        if (c != OPT_AGENT_D)
            return usage(stderr);
        agent_d = optarg;
    }
    if (argc - optind != 1) {
        fputs(argc == optind ? "kinetail import: which file? That of the Java agent is "
                               "/etc/aws-kinesis/agent.json\n\n"
                             : "kinetail import: one file at a time; agent.d is read by itself\n\n",
              stderr);
        return usage(stderr);
    }
    return import_paths(argv[optind], agent_d);
}
