#include "run/config.h"
#include "run/flow_inner.h"
#include "ship/service.h"
#include "util.h"

#include <inttypes.h>
#include <stdio.h>

enum { HELD_SIZE = 64 };

/* Whether to say now what `limit` bounds, and how a sentence ends that was not said for a while. */
static bool may_say(struct flow *f, struct log_limit *limit, char held[static HELD_SIZE])
{
    uint64_t count;

    if (!log_limit_pass(limit, loop_now_ms(f->place.loop), FLOW_SAY_EVERY_MS, &count))
        return false;
    held[0] = '\0';
    if (count > 0)
        (void)snprintf(held, HELD_SIZE, "; %" PRIu64 " more since the last one said", count);
    return true;
}

/* What becomes of a line that does not match. */
static const char *mismatch_fate(const struct config_flow *c)
{
    static const char *const fates[] = {
        [CONFIG_MISMATCH_RAW] = "sent as it is",
        [CONFIG_MISMATCH_DROP] = "dropped, as on_mismatch says",
        [CONFIG_MISMATCH_TAG] = "sent with the reason in it",
        [CONFIG_MISMATCH_DEAD] = "set aside as a dead letter",
    };

    return c->convert.count > 0 ? fates[CONFIG_MISMATCH_RAW] : fates[c->parse.on_mismatch];
}

/* And of what is larger than a record. */
static const char *large_fate(const struct config_flow *c, bool in_parts)
{
    if (in_parts)
        return "sent in parts";
    switch (c->on_oversize) {
    case CONFIG_OVERSIZE_DEAD:
        return "set aside as a dead letter";
    case CONFIG_OVERSIZE_SPLIT:
        return "cut, not sent in parts: redact and convert must see a line whole";
    case CONFIG_OVERSIZE_TRUNCATE:
        break;
    }
    return "cut, and marked with truncated_suffix";
}

void flow_say_notice(const struct tracked *t, const struct mill_notice *n)
{
    struct flow *f = t->flow;
    const struct config_flow *c = f->config;
    const char *path = t->source->path;
    unsigned long long offset = n->offset;
    char held[HELD_SIZE];

    f->stats.zero_bytes += n->zeros;
    f->stats.lines_cut += n->was_cut && !n->in_parts;
    f->stats.mismatched += n->mismatch != NULL;
    f->stats.gave_up += n->gave_up;
    f->stats.times_unread += n->time_mismatch;
    f->stats.keys_missing += n->key_missing;
    if (n->zeros > 0 && may_say(f, &f->zeros_said, held))
        log_info("flow %s: '%s': passed over %zu zero bytes: its writer does not append "
                 "(O_APPEND), so that truncating leaves a hole%s",
                 c->name, path, n->zeros, held);
    if (n->was_cut && may_say(f, &f->cut_said, held))
        log_warn("flow %s: '%s': what begins at byte %llu is larger than a record may be (%llu "
                 "bytes); %s%s",
                 c->name, path, offset, (unsigned long long)f->record_max,
                 large_fate(c, n->in_parts), held);
    if (n->gave_up && may_say(f, &f->gave_up_said, held))
        log_warn("flow %s: '%s': the line at byte %llu is too hard for a pattern, which gave up on "
                 "it; write the pattern without nested repetition%s",
                 c->name, path, offset, held);
    else if (n->mismatch != NULL && may_say(f, &f->mismatch_said, held))
        log_warn("flow %s: '%s': the line at byte %llu %s; %s%s", c->name, path, offset,
                 n->mismatch, mismatch_fate(c), held);
    if (n->time_mismatch && may_say(f, &f->time_said, held))
        log_warn("flow %s: '%s': the line at byte %llu has a time in its field '%s' that "
                 "parse.time.format does not read; left as it is%s",
                 c->name, path, offset, c->parse.time.field, held);
    if (n->key_missing && may_say(f, &f->key_said, held))
        log_warn("flow %s: '%s': the line at byte %llu has nothing that could be its key; the key "
                 "is random%s",
                 c->name, path, offset, held);
}

void flow_say_unreadable(struct flow *f, const struct source *s, int error)
{
    char held[HELD_SIZE];

    if (may_say(f, &f->read_said, held))
        log_error("flow %s: '%s': cannot be read: %s; trying again when it changes, and every "
                  "minute%s",
                  f->config->name, s->path, strerrordesc_np(-error), held);
}
