#include "ship/batch.h"

#include "base64.h"
#include "buf.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    BATCH_BEGIN_MAX = 4096, /* the service's beginning: a stream's name or ARN, escaped */
    BATCH_COMMA = 1,
};

/* The longest body within the limits.  Base64 rounds each record up to four characters. */
static size_t batch_body_max(const struct service *s, const struct batch_limits *l)
{
    size_t frame =
        s->record_head.len + s->record_key.len + l->key_json_max + s->record_tail.len + BATCH_COMMA;

    return BATCH_BEGIN_MAX + base64_size(l->bytes) + l->records * (frame + 4) + s->body_tail.len;
}

int batch_init(struct batch *b, const struct service *service, const struct batch_limits *limits,
               struct slice stream, struct slice stream_arn)
{
    struct buf begin;
    int r;

    *b = (struct batch){.service = service, .limits = *limits};
    list_init(&b->node);
    b->body_cap = batch_body_max(service, limits);
    assert(b->body_cap <= UINT32_MAX);

    /* Mapped and not malloc'ed: pages that short records never reach cost nothing, and a huge
     * page would make them cost two megabytes each. */
    b->body = mmap(NULL, b->body_cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (b->body == MAP_FAILED) {
        b->body = NULL;
        return -ENOMEM;
    }
    (void)madvise(b->body, b->body_cap, MADV_NOHUGEPAGE);

    buf_init(&begin, BATCH_BEGIN_MAX);
    r = service->begin(&begin, stream, stream_arn);
    if (r < 0)
        goto out;
    memcpy(b->body, begin.ptr, begin.len);
    b->begin_len = b->body_len = begin.len;
    b->entries = calloc(limits->records, sizeof(*b->entries));
    if (b->entries == NULL)
        r = -ENOMEM;
out:
    buf_done(&begin);
    if (r < 0)
        batch_done(b);
    return r;
}

void batch_done(struct batch *b)
{
    if (b->body != NULL)
        munmap(b->body, b->body_cap);
    free(b->entries);
    *b = (struct batch){0};
}

static char *batch_put(char *to, struct slice s)
{
    memcpy(to, s.ptr, s.len);
    return to + s.len;
}

void batch_add(struct batch *b, struct slice data, struct batch_key key, void *owner)
{
    const struct service *s = b->service;
    char *from = b->body + b->body_len, *to = from;

    assert(b->state == BATCH_FILLING);
    assert(batch_fits(b, data.len, key.len));
    to = batch_put(to, s->record_head);
    base64_encode(to, data.ptr, data.len);
    to += base64_size(data.len);
    to = batch_put(to, s->record_key);
    to = batch_put(to, key.json);
    to = batch_put(to, s->record_tail);
    *to++ = ',';

    b->entries[b->count++] = (struct entry){
        .owner = owner,
        .at = (uint32_t)b->body_len,
        .len = (uint32_t)(to - from),
        .size = (uint32_t)(data.len + key.len),
        .number = b->number++,
    };
    b->body_len += (size_t)(to - from);
    b->bytes += data.len + key.len;
}

void batch_seal(struct batch *b)
{
    assert(b->state == BATCH_FILLING);
    assert(b->count > 0);
    (void)batch_put(b->body + b->body_len - BATCH_COMMA, b->service->body_tail);
    b->state = BATCH_SEALED;
}

void batch_reopen(struct batch *b)
{
    assert(b->state == BATCH_SEALED);
    b->body[b->body_len - BATCH_COMMA] = ',';
    b->state = BATCH_FILLING;
}

struct slice batch_body(const struct batch *b)
{
    assert(b->state == BATCH_SEALED || b->state == BATCH_FLYING);
    return (struct slice){b->body, b->body_len - BATCH_COMMA + b->service->body_tail.len};
}

uint32_t batch_judge(struct batch *b, const enum outcome *outcomes,
                     void (*settled)(void *user, void *owner, uint32_t count), void *user)
{
    uint32_t kept = 0, accepted = 0, run = 0;
    size_t end = b->begin_len;

    assert(b->state == BATCH_FLYING);
    b->body[b->body_len - BATCH_COMMA] = ',';
    b->bytes = 0;
    for (uint32_t i = 0; i < b->count; i++) {
        struct entry e = b->entries[i]; /* what is kept moves down, never past i */

        if (outcomes[i] == OUTCOME_ACCEPTED) {
            accepted++;
            run++;
            if (i + 1 == b->count || outcomes[i + 1] != OUTCOME_ACCEPTED ||
                b->entries[i + 1].owner != e.owner) {
                settled(user, e.owner, run);
                run = 0;
            }
            continue;
        }
        memmove(b->body + end, b->body + e.at, e.len);
        e.at = (uint32_t)end;
        end += e.len;
        b->bytes += e.size;
        b->entries[kept++] = e;
    }
    b->count = kept;
    b->body_len = end;
    b->state = BATCH_IDLE;
    if (kept > 0) {
        b->state = BATCH_FILLING;
        batch_seal(b);
    }
    return accepted;
}
