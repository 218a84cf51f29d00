/* imds -- what an EC2 instance knows about itself, asked from its metadata service, version 2.
 *
 *                     ┌───────────── 401: once, a new token ────────────┐
 *                     ▼                                                 │
 *     RESTING ──▶ TOKEN ──▶ DOCUMENT ──▶ TEXT (each that is missing) ──▶ TAGS ──▶ TAG (each) ──▶ RESTING
 *        ▲          │           │             │                          │           │
 *        └──────────┴───────────┴──── failed: the old values stay, again later ──────┘
 *
 *   1. Values are given whole: those of one round, or those of an earlier one.
 *   2. A round that fails is said once, until one goes well, and costs nothing but the news.
 *   3. Only version 2 is spoken (a token first), and never through a proxy.
 *
 * From the environment: AWS_EC2_METADATA_SERVICE_ENDPOINT, AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE (IPv6)
 * and AWS_EC2_METADATA_DISABLED, as the SDKs have it.
 *
 * Threads: one lane.  Blocks: only imds_once. */
#ifndef IMDS_H
#define IMDS_H

#include <stdbool.h>
#include <stdint.h>

struct clock;
struct imds;
struct loop;
struct transport;

enum {
    IMDS_TIMEOUT_MS = 1000,        /* each call: the SDKs' default */
    IMDS_TTL_MS = 3600 * 1000,     /* the Java agent's metadataTTL */
    IMDS_RETRY_MS = 5 * 60 * 1000, /* after a round that failed; less, if the TTL is */
    IMDS_TEXT_MAX = 64 * 1024,     /* bytes of all values */
    IMDS_TAGS_MAX = 100,           /* EC2: 50 a resource */
};

struct imds_settings {
    const char *endpoint; /* a URL without a path; NULL: none, nothing is fetched */
    uint64_t ttl_ms;
};

/* What the environment says; ttl_ms is IMDS_TTL_MS.  *ret_why, if not NULL, is why there is no endpoint:
 * a sentence. */
void imds_settings_from_env(struct imds_settings *ret, const char **ret_why);

/* Borrows all but the settings until imds_free; `transport` has one call to spare.  Fetches nothing
 * yet.  Errors: -ENOMEM; -EINVAL if the endpoint is no http:// or https:// URL. */
int imds_new(struct loop *loop, struct transport *transport, const struct imds_settings *settings,
             struct imds **ret);
void imds_free(struct imds *i);

/* Begins to fetch, and fetches again after each TTL. */
void imds_start(struct imds *i);

/* The values, borrowed until the loop's next callback; NULL until a round went well. */
const struct ec2 *imds_get(const struct imds *i);

/* The first round has ended, well or not. */
bool imds_has_tried(const struct imds *i);

/* One round on a loop of its own, which takes at most some seconds; for commands.  Gives *ret even if
 * the round failed.  curl_global_init must have happened.  Errors: as imds_new, and loop_new's. */
int imds_once(const struct clock *clock, const struct imds_settings *settings,
              const char *user_agent, struct imds **ret);

#endif
