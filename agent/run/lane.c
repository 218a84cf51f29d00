#include "run/lane.h"

#include "base64.h"
#include "budget.h"
#include "clock.h"
#include "digest.h"
#include "disk.h"
#include "keep/checkpoint.h"
#include "keep/state.h"
#include "random.h"
#include "run/config.h"
#include "run/destination.h"
#include "run/flow.h"
#include "run/leftovers.h"
#include "run/log.h"
#include "run/loop.h"
#include "run/outfit.h"
#include "run/patience.h"
#include "run/scribe.h"
#include "run/thrift.h"
#include "run/version.h"
#include "ship/client.h"
#include "ship/creds.h"
#include "ship/firehose.h"
#include "ship/http.h"
#include "ship/imds.h"
#include "ship/kinesis.h"
#include "ship/proxy.h"
#include "ship/summary.h"
#include "tail/follower.h"
#include "util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

enum {
    LANE_SYNC_MS = 1000,       /* from the first fact written to its sync */
    LANE_SYNC_AGAIN_MS = 2000, /* after one that failed */
    LANE_SPOOL_MS = 10 * 1000, /* at the end, for writing what could not be delivered */

    /* Of memory_limit, what is not for batches; measured. */
    LANE_BASE_BYTES =
        25 * 1024 * 1024, /* the program, and half of it what large lines are worked on in */
    LANE_FLOW_BYTES = 256 * 1024,
    LANE_FILE_BYTES = 1280,             /* one that is not quiet */
    LANE_LEAST_BYTES = 8 * 1024 * 1024, /* are for batches however many flows and files there are */
    LANE_FRAME_BYTES = 256 * 1024,      /* of a request, beside a record: ample */
    LANE_SAY_EVERY_MS = 60 * 1000,
    LANE_OTHER_FDS = 48, /* sockets, inotify, our own files, and those open for a moment */
};

/* A lane has a client for each that a flow sends to. */
static const struct service *const lane_services[] = {&kinesis_service, &firehose_service};

struct lane {
    const struct config *config;
    struct world world;
    struct loop *loop;
    struct watch *watch;
    struct scribe *scribe;
    struct proxy proxy;
    struct http *http;
    struct client *clients[ARRAY_LEN(lane_services)]; /* NULL where no flow needs it */
    struct imds *imds;                                /* NULL if no flow needs it */
    struct digest *digest;
    struct random random;
    struct reader reader;
    struct thrift *thrift;
    struct patience patience;
    struct descriptors descriptors;
    struct checkpoint *checkpoint;
    struct checkpoint_report report;
    struct budget budget;
    struct destination *destinations; /* owns */
    size_t destination_count;
    struct flow **flows; /* owns */
    size_t flow_count;

    struct loop_turn write;
    struct loop_timer sync, drain;
    struct scribe_job job;
    struct log_limit write_said, reserve_said;
    uint64_t reserve_uses; /* of which the log knows */
    uint64_t needed_said;  /* bytes that memory_limit was said to be too low for; and some more */
    bool job_runs, stopping, drained;
};

/* --- the checkpoint's rhythm --- */

static void lane_say_checkpoint(struct lane *l, const char *what, int error)
{
    uint64_t held;

    if (log_limit_pass(&l->write_said, loop_now_ms(l->loop), LANE_SAY_EVERY_MS, &held))
        log_error("checkpoint: %s: %s; delivery goes on, a restart now would send lines again; "
                  "trying again in %d s",
                  what, strerrordesc_np(-error), LANE_SYNC_AGAIN_MS / 1000);
}

/* Of a full disk, while there is the reserve. */
static void lane_say_reserve(struct lane *l)
{
    uint64_t uses = checkpoint_reserve_uses(l->checkpoint), held;
    uint64_t now_ms = l->loop != NULL ? loop_now_ms(l->loop) : 0;

    if (uses == l->reserve_uses ||
        !log_limit_pass(&l->reserve_said, now_ms, LANE_SAY_EVERY_MS, &held))
        return;
    l->reserve_uses = uses;
    log_error(
        "checkpoint: the disk of '%s' is full (or a quota is used up, or it has no inodes left): "
        "the reserve kept for this is used, places are still remembered; make room there",
        l->config->state_dir);
}

static void lane_want_sync(struct lane *l, uint64_t delay_ms)
{
    if (!l->job_runs && !loop_timer_is_set(&l->sync) && checkpoint_wants_job(l->checkpoint))
        loop_timer_set(l->loop, &l->sync, loop_now_ms(l->loop) + delay_ms);
}

/* What the facts speak of reaches as far as the flow that has looked least far. */
static int lane_write_notes(struct lane *l)
{
    int64_t sure_ns = INT64_MAX;

    for (size_t i = 0; i < l->flow_count; i++)
        sure_ns = MIN(sure_ns, flow_sure_ns(l->flows[i]));
    checkpoint_sure(l->checkpoint, sure_ns);
    return checkpoint_write(l->checkpoint);
}

/* What batches need at least: a request with the largest record, in base64 and with its frame, within
 * the three quarters that who holds most may have (common/budget.h).  With less it would wait for ever. */
static uint64_t lane_least_budget(const struct lane *l)
{
    uint64_t least = LANE_LEAST_BYTES;

    for (size_t i = 0; i < l->flow_count; i++) {
        uint64_t request = base64_size(flow_record_max(l->flows[i])) + LANE_FRAME_BYTES;

        least = MAX(least, request / 3 * 4);
    }
    return least;
}

/* What memory_limit leaves for batches; says if that is not enough. */
static void lane_set_budget(struct lane *l)
{
    uint64_t needed = LANE_BASE_BYTES + l->flow_count * LANE_FLOW_BYTES;
    uint64_t least = lane_least_budget(l), limit = l->config->memory_limit;
    size_t files = 0;

    for (size_t i = 0; i < l->flow_count; i++)
        files += flow_file_count(l->flows[i]);
    needed += files * LANE_FILE_BYTES;
    budget_set_limit(&l->budget, limit > needed + least ? limit - needed : least);
    needed += least;
    if (needed <= limit || needed <= l->needed_said)
        return;
    log_warn("memory_limit: %zu files in %zu flows take more than that; set it to %" PRIu64
             "MiB or more",
             files, l->flow_count, (needed >> 20) + 1);
    l->needed_said = needed + needed / 8; /* again if it is much more */
}

static void lane_write(struct loop_turn *t)
{
    struct lane *l = CONTAINER_OF(t, struct lane, write);
    int r = lane_write_notes(l);

    lane_set_budget(l); /* files come and go */
    if (disk_is_full(r)) {
        lane_want_sync(l, 0); /* which has the reserve, and says what comes of it */
        return;
    }
    if (r < 0)
        lane_say_checkpoint(l, "writing", r);
    lane_want_sync(l, r < 0 ? LANE_SYNC_AGAIN_MS : LANE_SYNC_MS);
}

static void lane_noted(void *user)
{
    struct lane *l = user;

    loop_want_turn(l->loop, &l->write);
}

static void lane_sync(struct loop_timer *t)
{
    struct lane *l = CONTAINER_OF(t, struct lane, sync);
    int r = checkpoint_job_begin(l->checkpoint);

    if (r < 0) {
        lane_say_checkpoint(l, "preparing", r);
        lane_want_sync(l, LANE_SYNC_AGAIN_MS);
        return;
    }
    l->job_runs = true;
    scribe_give(l->scribe, &l->job);
}

static void lane_job_run(struct scribe_job *j)
{
    struct lane *l = CONTAINER_OF(j, struct lane, job);

    checkpoint_job_run(l->checkpoint);
}

static void lane_job_done(struct scribe_job *j)
{
    struct lane *l = CONTAINER_OF(j, struct lane, job);
    int r = checkpoint_job_end(l->checkpoint);

    l->job_runs = false;
    if (r < 0)
        lane_say_checkpoint(l, "making it durable", r);
    else
        l->write_said = (struct log_limit){0};
    lane_say_reserve(l);
    lane_want_sync(l, r < 0 ? LANE_SYNC_AGAIN_MS : LANE_SYNC_MS);
    if (checkpoint_is_dirty(l->checkpoint))
        lane_noted(l);
}

/* --- birth --- */

static int lane_open_checkpoint(struct lane *l, const struct state *state)
{
    int r = checkpoint_open(l->world.disk, state->checkpoint_fd, &l->checkpoint, &l->report);

    if (r == -ENOTSUP)
        log_error("checkpoint: '%s/checkpoint' was written by a newer kinetail; install that one "
                  "again, or move the directory away to begin anew",
                  l->config->state_dir);
    else if (r < 0)
        log_error("checkpoint: '%s/checkpoint': %s", l->config->state_dir, strerrordesc_np(-r));
    else if (l->report.error < 0)
        log_error("checkpoint: '%s/checkpoint': cannot be written: %s; delivery goes on, but a "
                  "restart would send lines again; trying again every %d s",
                  l->config->state_dir, strerrordesc_np(-l->report.error),
                  LANE_SYNC_AGAIN_MS / 1000);
    else if (l->report.damaged > 0 || l->report.moved_aside > 0)
        log_warn("checkpoint: '%s/checkpoint': %" PRIu64 " damaged lines, %u files moved aside (to "
                 "*.damaged); some lines may be sent again",
                 l->config->state_dir, l->report.damaged, l->report.moved_aside);
    if (r == 0)
        lane_say_reserve(l);
    return r;
}

/* Three quarters of what we may open are for log files; a quarter, or at least LANE_OTHER_FDS, for the
 * rest.  Of very few, log files get a quarter: the rest is needed first. */
static size_t lane_file_limit(void)
{
    struct rlimit limit;
    size_t soft;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 512;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit more = {limit.rlim_max, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            limit = more;
    }
    soft = (size_t)MIN(limit.rlim_cur, (rlim_t)65536);
    return soft > 2 * (size_t)LANE_OTHER_FDS ? soft - MAX(soft / 4, (size_t)LANE_OTHER_FDS)
                                             : MAX(soft / 4, (size_t)4);
}

/* Which of lane_services a flow sends to. */
static size_t lane_service(const struct config_flow *c)
{
    const struct service *service = outfit_service(c);
    size_t i = 0;

    while (lane_services[i] != service)
        i++;
    return i;
}

/* Where a service is spoken to: as configured, else in the region. */
static int lane_find_endpoint(const struct config *c, const struct service *s, struct endpoint *ret)
{
    bool firehose = s == &firehose_service;
    const char *key = firehose ? "endpoint.firehose" : "endpoint.kinesis";
    const char *url = firehose ? c->endpoint.firehose : c->endpoint.kinesis;
    int r = url != NULL ? endpoint_from_url(slice_of(url), ret)
                        : endpoint_of_region(slice_of(s->signing_name), slice_of(c->region), ret);

    if (r < 0)
        log_error("%s '%s': %s", url != NULL ? key : "region", url != NULL ? url : c->region,
                  strerrordesc_np(-r));
    return r;
}

static int lane_new_http(struct lane *l)
{
    const struct config *c = l->config;
    const struct http_settings settings = {
        .ca_file = c->tls.ca_file, .user_agent = KINETAIL_AGENT, .proxy = &l->proxy};
    char why[PROXY_WHY_SIZE];
    size_t calls = 1; /* the instance's metadata */
    int r;

    if (l->world.transport != NULL)
        return 0;
    if (proxy_find(c->proxy.url, c->proxy.no_proxy, &l->proxy, why) < 0) {
        log_error("proxy: %s", why);
        return -EINVAL;
    }
    for (size_t i = 0; i < l->config->flow_count; i++)
        calls += l->config->flows[i].max_in_flight + DESTINATION_DRAIN + 1; /* its summary */
    r = http_new(l->loop, &settings, &l->http);
    if (r == 0)
        r = http_reserve(l->http, calls);
    if (r < 0)
        log_error("http: libcurl cannot be set up: %s", strerrordesc_np(-r));
    return r;
}

static int lane_new_clients(struct lane *l)
{
    const struct config *c = l->config;
    const struct creds configured = {
        .access_key_id = slice_of(c->credentials.access_key_id),
        .secret_access_key = slice_of(c->credentials.secret_access_key),
        .session_token = slice_of(c->credentials.session_token),
    };
    struct creds found;
    const char *why;
    int r;

    if (creds_find(&configured, &found, &why) < 0) {
        log_error("credentials: %s", why);
        return -EKEYREVOKED;
    }
    r = lane_new_http(l);
    for (size_t i = 0; i < c->flow_count && r == 0; i++) {
        size_t n = lane_service(&c->flows[i]);
        struct client_settings settings = {
            .region = slice_of(c->region),
            .service = slice_of(lane_services[n]->signing_name),
            .access_key_id = found.access_key_id,
            .secret_access_key = found.secret_access_key,
            .session_token = found.session_token,
        };

        if (l->clients[n] != NULL)
            continue;
        r = lane_find_endpoint(c, lane_services[n], &settings.endpoint);
        if (r < 0)
            break;
        if (l->http != NULL && proxy_is_for(&l->proxy, settings.endpoint.url))
            log_info("proxy: %s is reached through %s, as %s says", settings.endpoint.host,
                     l->proxy.shown, l->proxy.from);
        r = client_new(l->http != NULL ? http_transport(l->http) : l->world.transport,
                       l->world.clock, &settings, &l->clients[n]);
        if (r < 0)
            log_error("%s: requests cannot be signed: %s", lane_services[n]->signing_name,
                      strerrordesc_np(-r));
    }
    return r;
}

/* The instance's metadata are asked for if a flow needs them. */
static int lane_new_imds(struct lane *l)
{
    struct imds_settings settings;
    const char *why;
    bool wanted = false;
    int r;

    if (l->http == NULL)
        return 0; /* a simulation is on no instance */
    imds_settings_from_env(&settings, &why);
    for (size_t i = 0; i < l->config->flow_count; i++) {
        uint64_t ttl_ms;

        if (!flow_wants_ec2(&l->config->flows[i], &ttl_ms))
            continue;
        wanted = true;
        settings.ttl_ms = MIN(settings.ttl_ms, ttl_ms);
    }
    if (!wanted)
        return 0;
    if (settings.endpoint == NULL)
        log_warn("instance metadata: %s; records go without them", why);
    r = imds_new(l->loop, http_transport(l->http), &settings, &l->imds);
    if (r < 0)
        log_error("instance metadata: '%s': %s", settings.endpoint, strerrordesc_np(-r));
    return r;
}

/* The flow's destination, opened if it is the first one to go there. */
static int lane_destination(struct lane *l, const struct state *state, const struct config_flow *c,
                            struct destination **ret)
{
    const struct depot_place place = {
        .loop = l->loop,
        .scribe = l->scribe,
        .random = &l->random,
        .client = l->clients[lane_service(c)],
        .budget = &l->budget,
        .checkpoint = l->checkpoint,
        .disk = l->world.disk,
        .service = outfit_service(c),
        .state_dir_fd = state->dir_fd,
        .noted = lane_noted,
        .user = l,
    };
    int r;

    for (size_t i = 0; i < l->destination_count; i++)
        if (strcmp(l->destinations[i].name, c->destination) == 0) {
            *ret = &l->destinations[i];
            return 0;
        }
    *ret = &l->destinations[l->destination_count];
    r = destination_open(l->config, c, &place, *ret);
    l->destination_count += r == 0;
    return r;
}

static int lane_new_flows(struct lane *l, const struct state *state)
{
    struct stat own = {0};

    (void)fstat(state->dir_fd, &own);
    struct flow_place place = {
        .loop = l->loop,
        .watch = l->watch,
        .digest = l->digest,
        .random = &l->random,
        .reader = &l->reader,
        .descriptors = &l->descriptors,
        .imds = l->imds,
        .patience = &l->patience,
        .thrift = l->thrift,
        .budget = &l->budget,
        .patience_ms = l->config->spool.patience_ms,
        .checkpoint = l->checkpoint,
        .report = &l->report,
        .own = {own.st_dev, own.st_ino},
        .began_ns = l->world.began_ns,
        .noted = lane_noted,
        .user = l,
    };

    l->flows = calloc(l->config->flow_count, sizeof(struct flow *));
    l->destinations = calloc(l->config->flow_count, sizeof(*l->destinations));
    if (l->flows == NULL || l->destinations == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < l->config->flow_count; i++) {
        const struct config_flow *c = &l->config->flows[i];
        int r;

        r = lane_destination(l, state, c, &place.destination);
        if (r < 0)
            return r;
        r = flow_new(c, &place, &l->flows[i]);
        if (r < 0) {
            if (r != -ECANCELED) /* which was said, with the setting */
                log_error("flow %s: %s", c->name, strerrordesc_np(-r));
            return r;
        }
        l->flow_count++;
    }
    leftovers_say(l->world.disk, state->dir_fd, l->destinations, l->destination_count);
    return 0;
}

static void lane_drain_over(struct loop_timer *t)
{
    struct lane *l = CONTAINER_OF(t, struct lane, drain);

    l->drained = true;
}

int lane_new(const struct config *config, const struct state *state, const struct world *world,
             struct lane **ret)
{
    struct lane *l = calloc(1, sizeof *l);
    int r;

    if (l == NULL)
        return -ENOMEM;
    l->config = config;
    l->world = *world;
    l->job = (struct scribe_job){.run = lane_job_run, .done = lane_job_done};
    l->descriptors.limit = lane_file_limit();
    list_init(&l->descriptors.opened);
    budget_init(&l->budget, LANE_LEAST_BYTES);
    loop_turn_init(&l->write, lane_write);
    if (world->seed != 0)
        l->random.state = world->seed;
    else
        random_seed(&l->random);
    r = lane_open_checkpoint(l, state);
    if (r < 0)
        goto out;
    if ((r = digest_new(&l->digest)) < 0 ||
        (r = reader_init(&l->reader, l->digest, SUMMARY_RECORD_MAX)) < 0 ||
        (r = loop_new(world->clock, &l->loop)) < 0 ||
        (r = thrift_new(l->loop, &l->reader, &l->thrift)) < 0 ||
        (r = loop_timer_init(l->loop, &l->sync, lane_sync)) < 0 ||
        (r = loop_timer_init(l->loop, &l->drain, lane_drain_over)) < 0 ||
        (r = scribe_new(l->loop, !world->inline_jobs, &l->scribe)) < 0) {
        log_error("start: %s", strerrordesc_np(-r));
        goto out;
    }
    r = watch_new(l->loop, &l->watch);
    if (r < 0) {
        log_error("watch: inotify: %s%s", strerrordesc_np(-r),
                  r == -EMFILE ? "; raise fs.inotify.max_user_instances" : "");
        goto out;
    }
    if ((r = lane_new_clients(l)) < 0 || (r = lane_new_imds(l)) < 0 ||
        (r = lane_new_flows(l, state)) < 0)
        goto out;
    *ret = l;
    return 0;
out:
    lane_free(l);
    return r;
}

void lane_free(struct lane *l)
{
    if (l == NULL)
        return;
    scribe_free(l->scribe); /* its jobs look into batches */
    for (size_t i = 0; i < l->flow_count; i++)
        flow_free(l->flows[i]);
    free(l->flows);
    for (size_t i = 0; i < l->destination_count; i++)
        destination_close(&l->destinations[i]);
    free(l->destinations);
    if (l->job_runs)
        (void)checkpoint_job_end(l->checkpoint);
    checkpoint_close(l->checkpoint);
    imds_free(l->imds);
    for (size_t i = 0; i < ARRAY_LEN(l->clients); i++)
        client_free(l->clients[i]);
    http_free(l->http);
    watch_free(l->watch);
    if (l->loop != NULL) {
        loop_turn_cancel(&l->write);
        loop_timer_done(l->loop, &l->sync);
        loop_timer_done(l->loop, &l->drain);
    }
    thrift_free(l->thrift);
    loop_free(l->loop);
    reader_done(&l->reader);
    digest_free(l->digest);
    free(l);
}

/* --- life --- */

struct loop *lane_loop(struct lane *l)
{
    return l->loop;
}

static bool lane_is_drained(const struct lane *l)
{
    for (size_t i = 0; i < l->flow_count; i++)
        if (!flow_is_drained(l->flows[i]))
            return false;
    for (size_t i = 0; i < l->destination_count; i++)
        if (l->destinations[i].depot != NULL && !depot_is_drained(l->destinations[i].depot))
            return false;
    return true;
}

bool lane_is_running(const struct lane *l)
{
    return !(l->stopping && (l->drained || lane_is_drained(l)));
}

void lane_stop(struct lane *l)
{
    if (l->stopping) {
        l->drained = true;
        return;
    }
    l->stopping = true;
    log_info("stopping: reading stops, what was read is delivered within %.1f s",
             (double)l->config->drain_timeout_ms / 1000);
    for (size_t i = 0; i < l->destination_count; i++)
        if (l->destinations[i].depot != NULL)
            depot_stop(l->destinations[i].depot);
    for (size_t i = 0; i < l->flow_count; i++)
        flow_drain(l->flows[i]);
    loop_timer_set(l->loop, &l->drain, loop_now_ms(l->loop) + l->config->drain_timeout_ms);
}

/* Writes all notes and makes them durable before it returns: blocks, so only where nothing else is to
 * be done.  A journal that cannot be written to is replaced by a new generation. */
static int lane_commit(struct lane *l)
{
    int r = lane_write_notes(l);

    if (r < 0 && !checkpoint_wants_job(l->checkpoint))
        return r;
    r = checkpoint_job_begin(l->checkpoint);
    if (r < 0)
        return r;
    checkpoint_job_run(l->checkpoint);
    return checkpoint_job_end(l->checkpoint);
}

void lane_start(struct lane *l)
{
    if (l->imds != NULL)
        imds_start(l->imds);
    size_t files = 0;
    int r;

    for (size_t i = 0; i < l->destination_count; i++)
        if (l->destinations[i].summary != NULL)
            summary_start(l->destinations[i].summary);
    for (size_t i = 0; i < l->flow_count; i++) {
        flow_start(l->flows[i]);
        files += flow_file_count(l->flows[i]);
    }

    for (size_t i = 0; i < l->destination_count; i++)
        if (l->destinations[i].depot != NULL)
            depot_start(l->destinations[i].depot);

    /* Where each file begins is durable before the first line is read: a crash from here on must
     * not move a beginning "at the end" further on. */
    checkpoint_complete(l->checkpoint);
    r = lane_commit(l);
    if (r < 0)
        lane_say_checkpoint(l, "writing where the files begin", r);
    lane_set_budget(l);
    log_info("kinetail " KINETAIL_VERSION ": following %zu files in %zu flows", files,
             l->flow_count);
}

static bool lane_is_spooled(const struct lane *l)
{
    for (size_t i = 0; i < l->destination_count; i++)
        if (l->destinations[i].depot != NULL && !depot_is_idle(l->destinations[i].depot))
            return false;
    return true;
}

/* What could not be delivered in time goes to disk; what finds no room there is read again at the next
 * start. */
static void lane_spool_rest(struct lane *l)
{
    uint64_t until = loop_now_ms(l->loop) + LANE_SPOOL_MS;

    for (size_t i = 0; i < l->flow_count; i++)
        flow_give_up_all(l->flows[i]);
    while (!lane_is_spooled(l) && loop_now_ms(l->loop) < until)
        if (loop_step(l->loop, 100) < 0)
            return;
}

/* The account of a run, for the morning after. */
static void lane_say_account(const struct lane *l)
{
    for (size_t i = 0; i < l->flow_count; i++) {
        const struct flow_stats *f = flow_stats(l->flows[i]);
        const struct deliver_stats *d = flow_deliver_stats(l->flows[i]);

        log_info("flow %s: %" PRIu64 " lines read, %" PRIu64 " records sent in %" PRIu64
                 " requests, %" PRIu64 " sent again, %" PRIu64 " cut, %" PRIu64 " spooled, %" PRIu64
                 " dead letters; %" PRIu64
                 " not delivered yet, they are read again at the next start",
                 flow_name(l->flows[i]), f->lines_read, d->records_sent,
                 d->requests_ok + d->requests_throttled, d->records_retried, f->lines_cut,
                 d->records_spooled, f->dead, flow_pending(l->flows[i]));
    }
    for (size_t i = 0; i < l->destination_count; i++) {
        const struct destination *d = &l->destinations[i];

        if (d->depot != NULL && depot_dropped(d->depot) > 0)
            log_error("spool of %s: %" PRIu64 " records were dropped, as spool.when_full says",
                      d->name, depot_dropped(d->depot));
    }
}

/* Everything is said and done: the last facts become durable. */
int lane_finish(struct lane *l)
{
    struct timespec last_look;
    int r;

    /* One more look at what has moved, so that it is known where everything is. */
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &last_look);
    (void)loop_step(l->loop, 0);
    lane_spool_rest(l);
    lane_say_account(l);
    scribe_free(l->scribe);
    l->scribe = NULL;
    if (l->job_runs)
        (void)checkpoint_job_end(l->checkpoint);
    l->job_runs = false;
    for (size_t i = 0; i < l->flow_count; i++)
        flow_finish(l->flows[i]);
    r = lane_commit(l);
    if (r < 0)
        log_error("checkpoint: the last one could not be written: %s; some lines will be sent "
                  "again",
                  strerrordesc_np(-r));

    /* What came since then has not been looked at, and must be new to the next start. */
    (void)checkpoint_backdate(l->checkpoint,
                              (int64_t)last_look.tv_sec * INT64_C(1000000000) + last_look.tv_nsec);
    return r;
}

int lane_run(struct lane *l)
{
    int r = 0;

    lane_start(l);
    while (r == 0 && lane_is_running(l))
        r = loop_step(l->loop, -1);
    if (r < 0) {
        log_error("loop: %s; stopping", strerrordesc_np(-r));
        (void)lane_finish(l);
        return r;
    }
    return lane_finish(l);
}
