#include "world.h"

#include "base64.h"
#include "buf.h"
#include "disk.h"
#include "json.h"
#include "must.h"
#include "run/log.h"
#include "run/loop.h"
#include "util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SIM_ANSWER_MAX = 512 * 1024,
    SIM_RECORD_MAX = 1024 * 1024,
    SIM_KILLED_STORED = 30, /* percent of the requests on their way when the agent is killed */
};

static uint64_t sim_mono_ms(const struct clock *c)
{
    return ((const struct sim_world *)(const void *)c)->now_ms;
}

static int64_t sim_wall_ms(const struct clock *c)
{
    return INT64_C(1795248000000) + (int64_t)sim_mono_ms(c);
}

static bool sim_chance(struct sim_world *w, unsigned percent)
{
    return random_below(&w->random, 100) < percent;
}

/* --- the service --- */

bool sim_has_faults(const struct sim_world *w)
{
    const struct sim_faults *f = &w->faults;

    return f->throttle > 0 || f->fail > 0 || f->lose_answer > 0 || f->garbage > 0 || f->down;
}

/* Reads a string member that must come next. */
static struct slice read_member(struct json *j, const char *name)
{
    struct json_token t;

    MUST(json_next(j, &t) == 0 && t.type == JSON_KEY && slice_equal(t.text, slice_of(name)));
    MUST(json_next(j, &t) == 0 && t.type == JSON_STRING);
    return t.text;
}

/* Stores the records of a request but the throttled ones, and writes the answer. */
static struct slice serve(struct sim_world *w, struct slice body, bool throttle)
{
    static char data[SIM_RECORD_MAX + 64];
    struct json_token t;
    struct json j;
    size_t len, at = 0;

    json_init(&j, body);
    MUST(json_next(&j, &t) == 0 && t.type == JSON_OBJECT_BEGIN);
    (void)read_member(&j, "StreamName");
    MUST(json_next(&j, &t) == 0 && t.type == JSON_KEY && slice_equal(t.text, SLICE("Records")));
    MUST(json_next(&j, &t) == 0 && t.type == JSON_ARRAY_BEGIN);
    at += (size_t)sprintf(w->answer + at, "{\"FailedRecordCount\":0,\"Records\":[");
    for (size_t n = 0;; n++) {
        struct slice text, key;

        MUST(json_next(&j, &t) == 0);
        if (t.type == JSON_ARRAY_END)
            break;
        MUST(n < 500);
        MUST(t.type == JSON_OBJECT_BEGIN);
        text = read_member(&j, "Data");
        key = read_member(&j, "PartitionKey");
        MUST(json_next(&j, &t) == 0 && t.type == JSON_OBJECT_END);
        MUST(key.len >= 1 && base64_decode(text, data, &len) == 0 && len <= SIM_RECORD_MAX);
        if (n > 0)
            w->answer[at++] = ',';
        if (throttle && sim_chance(w, w->faults.throttle)) {
            at += (size_t)sprintf(w->answer + at,
                                  "{\"ErrorCode\":\"ProvisionedThroughputExceededException\","
                                  "\"ErrorMessage\":\"Rate exceeded\"}");
            w->throttled++;
            continue;
        }
        at += (size_t)sprintf(w->answer + at,
                              "{\"SequenceNumber\":\"49%054llu\",\"ShardId\":\"shardId-0\"}",
                              (unsigned long long)++w->records);
        w->stored(w->user, (struct slice){data, len}, key);
    }
    at += (size_t)sprintf(w->answer + at, "]}");
    return (struct slice){w->answer, at};
}

/* Stores them, and the agent will not hear of it. */
static struct slice serve_unsure(struct sim_world *w, struct slice body)
{
    struct slice answer;

    w->ambiguous++;
    w->unsure = true;
    answer = serve(w, body, false);
    w->unsure = false;
    return answer;
}

/* The service knows nothing else: what the agent asks it besides finds no answer. */
static bool is_put(const struct http_call *http)
{
    for (size_t i = 0; http->headers[i] != NULL; i++)
        if (strcmp(http->headers[i], "X-Amz-Target: Kinesis_20131202.PutRecords") == 0)
            return true;
    return false;
}

static void sim_answer(struct sim_world *w, struct http_call *http)
{
    struct http_answer a = {.why = "", .status = 200};

    if (!is_put(http)) {
        a.status = 400;
        a.body = SLICE("{\"__type\":\"UnknownOperationException\"}");
        http->done(http, &a);
        return;
    }
    w->requests++;
    if (w->faults.down) {
        a = (struct http_answer){.error = -ECONNREFUSED, .why = "down"};
    } else if (sim_chance(w, w->faults.fail)) {
        a.status = 500;
        a.body = SLICE("{\"__type\":\"InternalFailure\"}");
    } else if (sim_chance(w, w->faults.lose_answer)) {
        (void)serve_unsure(w, http->body);
        a = (struct http_answer){.error = -ECONNRESET, .why = "reset"};
    } else if (sim_chance(w, w->faults.garbage)) {
        a.body = serve_unsure(w, http->body);
        a.body.len = (size_t)random_below(&w->random, a.body.len);
    } else {
        a.body = serve(w, http->body, true);
    }
    http->done(http, &a);
}

static int sim_send(struct transport *t, struct http_call *http)
{
    struct sim_world *w = CONTAINER_OF(t, struct sim_world, transport);
    struct list *node = list_take(&w->free_calls);
    struct sim_call *c;

    if (node == NULL)
        return -EAGAIN;
    c = CONTAINER_OF(node, struct sim_call, node);
    c->http = http;
    c->due_ms = w->now_ms + (is_put(http) ? random_below(&w->random, w->latency_ms + 1) : 0);
    http->slot = c;
    list_append(&w->calls, &c->node);
    return 0;
}

static void sim_cancel(struct transport *t, struct http_call *http)
{
    struct sim_world *w = CONTAINER_OF(t, struct sim_world, transport);
    struct sim_call *c = http->slot;

    if (c == NULL)
        return;
    http->slot = NULL;
    list_remove(&c->node);
    list_append(&w->free_calls, &c->node);
}

/* Ends the calls that are due. */
static void sim_answer_due(struct sim_world *w)
{
    LIST_EACH(&w->calls, node, after)
    {
        struct sim_call *c = CONTAINER_OF(node, struct sim_call, node);
        struct http_call *http = c->http;

        if (c->due_ms > w->now_ms)
            continue;
        sim_cancel(&w->transport, http);
        sim_answer(w, http);
        after = w->calls.next; /* the answer may have led to other calls */
    }
}

static uint64_t sim_next_answer_ms(const struct sim_world *w)
{
    uint64_t next = UINT64_MAX;

    LIST_EACH(&w->calls, node, after)
    {
        next = MIN(next, CONTAINER_OF(node, struct sim_call, node)->due_ms);
    }
    return next;
}

/* --- time --- */

void sim_tick(void)
{
    struct timespec first, now;

    (void)clock_gettime(CLOCK_REALTIME_COARSE, &first);
    do {
        usleep(500);
        (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    } while (now.tv_sec == first.tv_sec && now.tv_nsec == first.tv_nsec);
}

void sim_step(struct sim_world *w)
{
    if (w->lane == NULL)
        return;
    sim_answer_due(w);
    MUST(loop_step(lane_loop(w->lane), 0) == 0);
}

void sim_run(struct sim_world *w, uint64_t ms)
{
    uint64_t end = w->now_ms + ms;

    while (w->lane != NULL) {
        uint64_t next;

        /* What happens now leads to more that happens now; three steps without any is enough: a
         * callback, its turn, and the turn that follows from it. */
        for (int quiet = 0; quiet < 3;) {
            uint64_t before = w->requests;
            sim_step(w);
            quiet = loop_next_ms(lane_loop(w->lane)) <= w->now_ms || w->requests != before ||
                            sim_next_answer_ms(w) <= w->now_ms
                        ? 0
                        : quiet + 1;
        }
        next = MIN(loop_next_ms(lane_loop(w->lane)), sim_next_answer_ms(w));
        if (next > end)
            break;
        w->now_ms = MAX(next, w->now_ms);
    }
    w->now_ms = end;
}

/* --- the agent's life --- */

int sim_try_start(struct sim_world *w)
{
    struct world world = {
        .clock = &w->clock,
        .disk = w->disk,
        .transport = &w->transport,
        .seed = random_next(&w->random) | 1,
        .inline_jobs = true,
    };
    struct timespec began;
    char path[128];
    const char *what;
    pid_t owner;
    int r;

    (void)clock_gettime(CLOCK_REALTIME, &began);
    world.began_ns = (int64_t)began.tv_sec * 1000000000 + began.tv_nsec;

    (void)snprintf(path, sizeof path, "%s/state", w->dir);
    r = state_open(w->disk, path, &w->state, &what, &owner);
    if (r < 0)
        return r;
    r = lane_new(w->config, &w->state, &world, &w->lane);
    if (r < 0)
        state_close(&w->state);
    else
        lane_start(w->lane);
    return r;
}

void sim_start(struct sim_world *w)
{
    MUST(sim_try_start(w) == 0);
}

static void end_lane(struct sim_world *w)
{
    if (w->lane == NULL)
        return;
    lane_free(w->lane);
    w->lane = NULL;
    state_close(&w->state);
}

void sim_kill(struct sim_world *w)
{
    LIST_EACH(&w->calls, node, after)
    {
        const struct http_call *http = CONTAINER_OF(node, struct sim_call, node)->http;

        if (w->lane != NULL && is_put(http) && !w->faults.down && sim_chance(w, SIM_KILLED_STORED))
            (void)serve_unsure(w, http->body);
    }
    end_lane(w);
}

void sim_stop(struct sim_world *w)
{
    if (w->lane == NULL)
        return;
    lane_stop(w->lane);
    for (int i = 0; lane_is_running(w->lane) && i < 100000; i++)
        sim_run(w, 10);
    MUST(lane_finish(w->lane) == 0 || w->rough);
    end_lane(w);
}

/* --- birth and death --- */

const char *sim_path(const struct sim_world *w, const char *name)
{
    static char paths[4][160];
    static unsigned turn;
    char *to = paths[turn++ % 4];

    (void)snprintf(to, sizeof paths[0], "%s/log/%s", w->dir, name);
    return to;
}

/* One flow's settings; a $ in its extra ones is DIR. */
static void write_flow(const struct sim_world *w, struct buf *text, size_t i,
                       const struct sim_flow *flow)
{
    struct slice globs = slice_of(flow->globs);

    MUST(buf_printf(text, "%s{ name = \"%c\"; stream = \"s\"; files = [ ", i > 0 ? ", " : "",
                    (char)('f' + i)) == 0);
    for (const char *comma = ""; globs.len > 0; comma = ", ") {
        const char *space = memchr(globs.ptr, ' ', globs.len);
        size_t len = space != NULL ? (size_t)(space - globs.ptr) : globs.len;

        MUST(buf_printf(text, "%s\"%s/log/%.*s\"", comma, w->dir, (int)len, globs.ptr) == 0);
        globs = slice_from(globs, MIN(len + 1, globs.len));
    }
    MUST(buf_printf(text, " ]; ") == 0);
    for (const char *at = flow->extra; *at != '\0'; at++)
        MUST(*at == '$' ? buf_printf(text, "%s", w->dir) == 0 : buf_append_char(text, *at) == 0);
    MUST(buf_printf(text, " }") == 0);
}

static void sim_configure(struct sim_world *w, const struct sim_flow *flows, size_t count)
{
    struct config_mistakes mistakes = {0};
    struct buf text;

    buf_init(&text, 1 << 16);
    MUST(buf_printf(&text,
                    "region = \"us-east-1\"; state_dir = \"%s/state\";\n"
                    "credentials = { access_key_id = \"AKIDEXAMPLE\"; secret_access_key = "
                    "\"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\"; };\nflows = ( ",
                    w->dir) == 0);
    for (size_t i = 0; i < count; i++)
        write_flow(w, &text, i, &flows[i]);
    MUST(buf_printf(&text, " );\n") == 0);
    if (config_load_text(buf_slice(&text), "sim", &w->config, &mistakes) < 0) {
        (void)config_mistakes_print(&mistakes, stderr);
        abort();
    }
    config_mistakes_done(&mistakes);
    buf_done(&text);
}

void sim_init(struct sim_world *w, uint64_t seed, const char *globs, const char *flow_extra)
{
    sim_init_flows(w, seed, &(struct sim_flow){globs, flow_extra}, 1);
}

void sim_init_flows(struct sim_world *w, uint64_t seed, const struct sim_flow *flows, size_t count)
{
    const char *where = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

    *w = (struct sim_world){.clock = {sim_mono_ms, sim_wall_ms},
                            .transport = {sim_send, sim_cancel},
                            .now_ms = 1000,
                            .random = {seed},
                            .latency_ms = 20,
                            .disk = &disk_system};
    list_init(&w->calls);
    list_init(&w->free_calls);
    for (size_t i = 0; i < ARRAY_LEN(w->pool); i++) {
        list_init(&w->pool[i].node);
        list_append(&w->free_calls, &w->pool[i].node);
    }
    w->answer = malloc(SIM_ANSWER_MAX);
    MUST(w->answer != NULL);
    (void)snprintf(w->dir, sizeof w->dir, "%s/kinetail-sim-XXXXXX", where);
    MUST(mkdtemp(w->dir) != NULL);
    MUST(mkdir(sim_path(w, ""), 0755) == 0);
    sim_configure(w, flows, count);
    log_set_level(getenv("KT_SIM_VERBOSE") != NULL ? LOG_LEVEL_DEBUG : 0);
}

static void remove_tree(const char *path)
{
    DIR *dir = opendir(path);

    for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
        char sub[512];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        (void)snprintf(sub, sizeof sub, "%s/%s", path, e->d_name);
        if (unlink(sub) < 0)
            remove_tree(sub);
    }
    if (dir != NULL)
        closedir(dir);
    (void)rmdir(path);
}

void sim_done(struct sim_world *w)
{
    sim_kill(w);
    config_free(w->config);
    free(w->answer);
    if (!w->keep)
        remove_tree(w->dir);
}
