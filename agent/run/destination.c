#include "run/destination.h"

#include "record/key.h"
#include "run/config.h"
#include "run/log.h"
#include "run/morgue.h"
#include "ship/client.h"
#include "ship/gate.h"
#include "ship/kinesis.h"
#include "ship/service.h"
#include "ship/summary.h"

#include <errno.h>
#include <string.h>

/* What stands in the spool's place is no reason not to deliver.  A disk that fails is: the next start
 * tries again, and meanwhile nothing is read that could find no place. */
static int destination_new_depot(const struct depot_settings *settings,
                                 const struct depot_place *place, struct depot **ret)
{
    int r = depot_new(settings, place, ret);

    if (r != -ENOTDIR && r != -ELOOP)
        return r;
    log_error(
        "spool of %s: cannot be used: %s; delivery goes on without it, and what must wait waits in "
        "memory and in the files; put state_dir/spool in order and start again",
        settings->destination, strerrordesc_np(-r));
    *ret = NULL;
    return 0;
}

int destination_open(const struct config *config, const struct config_flow *flow,
                     const struct depot_place *place, struct destination *ret)
{
    struct destination d = {
        .name = flow->destination, .service = place->service, .client = place->client};
    struct depot_place depot = *place;
    const struct depot_settings settings = {
        .destination = flow->destination,
        .stream = flow->destination,
        .stream_name =
            slice_of(flow->delivery_stream != NULL ? flow->delivery_stream : flow->stream),
        .stream_arn = slice_of(flow->stream_arn),
        .limit_bytes = config->spool.limit,
        .min_free_bytes = config->spool.min_free,
        .drop_oldest = config->spool.when_full == CONFIG_FULL_DROP_OLDEST,
        .key_json_max = place->service->key_units_max > 0 ? KEY_JSON_MAX : 0,
        .in_flight_max = DESTINATION_DRAIN,
    };
    const struct summary_settings summary = {d.name, settings.stream_name, settings.stream_arn};
    int r;

    r = gate_new(place->loop, place->random, d.service, d.name, client_url(place->client), &d.gate);
    if (r == 0)
        r = morgue_new(place->loop, place->scribe, place->disk, place->state_dir_fd, d.name,
                       &d.morgue);
    depot.gate = d.gate;
    depot.morgue = d.morgue;
    if (r == 0 && settings.limit_bytes > 0)
        r = destination_new_depot(&settings, &depot, &d.depot);
    if (r == 0 && place->service == &kinesis_service)
        r = summary_new(place->loop, place->random, place->client, &summary, &d.summary);
    if (r < 0) {
        /* What lies under our names in state_dir is not what we put there. */
        if (r == -ENOTDIR || r == -ELOOP)
            log_error(
                "destination %s: its directory, or one on the way to it, in spool/ or dead/ of "
                "state_dir is a file or a link; put a directory there",
                d.name);
        else
            log_error(
                "destination %s: its spool or its dead letters in state_dir cannot be opened: %s",
                d.name, strerrordesc_np(-r));
        destination_close(&d);
        return r;
    }
    *ret = d;
    return 0;
}

void destination_close(struct destination *d)
{
    summary_free(d->summary);
    depot_free(d->depot);
    morgue_free(d->morgue);
    gate_free(d->gate);
    *d = (struct destination){0};
}
