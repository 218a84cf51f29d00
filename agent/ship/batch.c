#include "ship/batch.h"

#include "base64.h"
#include "buf.h"
#include "json.h"
#include "util.h"

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
    b->begin_len = b->body_len = b->touched = begin.len;
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

int batch_set_bytes_max(struct batch *b, uint64_t bytes)
{
    struct batch_limits limits = b->limits;
    size_t cap;
    char *body;

    assert(b->state != BATCH_FLYING && b->state != BATCH_LEAVING);
    limits.bytes = bytes;
    cap = batch_body_max(b->service, &limits);
    assert(cap <= UINT32_MAX);
    if (cap > b->body_cap) {
        body = mremap(b->body, b->body_cap, cap, MREMAP_MAYMOVE);
        if (body == MAP_FAILED)
            return -ENOMEM;
        b->body = body;
        b->body_cap = cap;
    }
    b->limits = limits;
    return 0;
}

void batch_rest(struct batch *b)
{
    size_t page = 4096, keep = (b->begin_len + page - 1) / page * page;

    assert(b->state == BATCH_IDLE);
    if (b->touched <= keep)
        return;
    (void)madvise(b->body + keep, b->body_cap - keep, MADV_DONTNEED);
    b->touched = keep;
}

/* --- filling --- */

static char *batch_put(char *to, struct slice s)
{
    if (s.len > 0) /* a service without keys has none */
        memcpy(to, s.ptr, s.len);
    return to + s.len;
}

static size_t batch_entry_len(const struct batch *b, size_t data_len, size_t key_json_len)
{
    const struct service *s = b->service;

    return s->record_head.len + base64_size(data_len) + s->record_key.len + key_json_len +
           s->record_tail.len + BATCH_COMMA;
}

size_t batch_touches(const struct batch *b, size_t data_len, size_t key_json_len)
{
    size_t end =
        b->body_len + batch_entry_len(b, data_len, key_json_len) + b->service->body_tail.len;

    return MAX(end, b->touched);
}

void batch_add(struct batch *b, struct slice data, struct batch_key key, void *owner,
               struct batch_origin origin, uint64_t now_ms)
{
    const struct service *s = b->service;
    char *from = b->body + b->body_len, *to = from;

    assert(b->state == BATCH_FILLING);
    assert(batch_fits(b, data.len, key.len));
    b->touched = batch_touches(b, data.len, key.json.len);
    to = batch_put(to, s->record_head);
    base64_encode(to, data.ptr, data.len);
    to += base64_size(data.len);
    to = batch_put(to, s->record_key);
    to = batch_put(to, key.json);
    to = batch_put(to, s->record_tail);
    *to++ = ',';

    b->entries[b->count++] = (struct entry){
        .owner = owner,
        .origin = origin,
        .at = (uint32_t)b->body_len,
        .len = (uint32_t)(to - from),
        .size = (uint32_t)(data.len + key.len),
        .number = b->number++,
        .since_ms = (uint32_t)now_ms,
    };
    b->body_len += (size_t)(to - from);
    b->bytes += data.len + key.len;
}

void batch_seal(struct batch *b)
{
    assert(b->state == BATCH_FILLING);
    assert(b->count > 0);
    b->state = BATCH_SEALED;
}

void batch_reopen(struct batch *b)
{
    assert(b->state == BATCH_SEALED);
    b->state = BATCH_FILLING;
}

/* --- flying --- */

static size_t entry_end(const struct entry *e)
{
    return e->at + e->len;
}

uint32_t batch_count_within(const struct batch *b, uint64_t body_max)
{
    uint32_t low = 1, high = b->count;

    /* The largest count whose entries end within it. */
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;

        if (entry_end(&b->entries[middle - 1]) + b->service->body_tail.len <= body_max)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

void batch_fly(struct batch *b, uint32_t count)
{
    assert(b->state == BATCH_SEALED);
    assert(count > 0 && count <= b->count);
    (void)batch_put(b->body + entry_end(&b->entries[count - 1]) - BATCH_COMMA,
                    b->service->body_tail);
    b->flown = count;
    b->state = BATCH_FLYING;
}

void batch_land(struct batch *b)
{
    size_t end = entry_end(&b->entries[b->flown - 1]);
    size_t over = b->service->body_tail.len - BATCH_COMMA;

    /* The body's end has covered the comma and how the next entry begins, which all do alike. */
    assert(b->state == BATCH_FLYING);
    assert(over <= b->service->record_head.len);
    b->body[end - BATCH_COMMA] = ',';
    if (b->flown < b->count)
        memcpy(b->body + end, b->service->record_head.ptr, over);
    b->state = BATCH_SEALED;
}

struct slice batch_body(const struct batch *b)
{
    assert(b->state == BATCH_FLYING);
    return (struct slice){b->body, entry_end(&b->entries[b->flown - 1]) - BATCH_COMMA +
                                       b->service->body_tail.len};
}

/* Keeps entry `i` as number `kept`, behind those kept before it. */
static void batch_keep(struct batch *b, uint32_t i, uint32_t kept)
{
    struct entry e = b->entries[i]; /* what is kept moves down, never past i */

    memmove(b->body + b->body_len, b->body + e.at, e.len);
    e.at = (uint32_t)b->body_len;
    b->body_len += e.len;
    b->bytes += e.size;
    b->entries[kept] = e;
}

uint32_t batch_judge(struct batch *b, const enum outcome *outcomes,
                     void (*settled)(void *user, void *owner, uint32_t count), void *user)
{
    uint32_t kept = 0, accepted = 0, run = 0;

    batch_land(b);
    b->bytes = 0;
    b->body_len = b->begin_len;
    for (uint32_t i = 0; i < b->count; i++) {
        bool taken = i < b->flown && outcomes[i] == OUTCOME_ACCEPTED;

        if (!taken) {
            if (i >= b->flown || outcomes[i] != OUTCOME_BURIED)
                batch_keep(b, i, kept++);
            continue;
        }
        accepted++;
        run++;
        if (i + 1 == b->flown || outcomes[i + 1] != OUTCOME_ACCEPTED ||
            b->entries[i + 1].owner != b->entries[i].owner) {
            settled(user, b->entries[i].owner, run);
            run = 0;
        }
    }
    b->count = kept;
    b->flown = 0;
    b->state = kept > 0 ? BATCH_SEALED : BATCH_IDLE;
    return accepted;
}

/* Turns [from, from + a_len + b_len) so that the second part comes first. */
static int rotate_bytes(char *from, size_t a_len, size_t b_len)
{
    char *a = malloc(a_len);

    if (a == NULL)
        return -ENOMEM;
    memcpy(a, from, a_len);
    memmove(from, from + a_len, b_len);
    memcpy(from + b_len, a, a_len);
    free(a);
    return 0;
}

int batch_rotate(struct batch *b)
{
    struct entry first = b->entries[0];
    int r;

    assert(b->state == BATCH_SEALED);
    if (b->count < 2)
        return 0;
    r = rotate_bytes(b->body + first.at, first.len, b->body_len - entry_end(&first));
    if (r < 0)
        return r;
    for (uint32_t i = 1; i < b->count; i++) {
        b->entries[i - 1] = b->entries[i];
        b->entries[i - 1].at -= first.len;
    }
    first.at = (uint32_t)(b->body_len - first.len);
    b->entries[b->count - 1] = first;
    return 0;
}

/* --- leaving --- */

void batch_leave(struct batch *b)
{
    assert(b->state == BATCH_SEALED);
    b->state = BATCH_LEAVING;
}

void batch_come_back(struct batch *b)
{
    assert(b->state == BATCH_LEAVING);
    b->state = BATCH_SEALED;
}

void batch_settle(struct batch *b, void (*settled)(void *user, void *owner, uint32_t count),
                  void *user)
{
    uint32_t run = 0;

    assert(b->state == BATCH_LEAVING || b->state == BATCH_SEALED);
    for (uint32_t i = 0; i < b->count; i++) {
        run++;
        if (i + 1 == b->count || b->entries[i + 1].owner != b->entries[i].owner) {
            settled(user, b->entries[i].owner, run);
            run = 0;
        }
    }
    b->count = 0;
    b->bytes = 0;
    b->body_len = b->begin_len;
    b->state = BATCH_IDLE;
}

int batch_record(const struct batch *b, uint32_t index, struct buf *to, struct slice *ret_data,
                 struct slice *ret_key)
{
    const struct service *s = b->service;
    const struct entry *e = &b->entries[index];
    struct slice text = {b->body + e->at + s->record_head.len, e->len - s->record_head.len}, key;
    const char *quote = memchr(text.ptr, '"', text.len); /* base64 has none */
    size_t data_len;
    int r;

    assert(quote != NULL);
    buf_reset(to);
    r = buf_reserve(to, e->size + 3);
    if (r < 0)
        return r;
    r = base64_decode(slice_first(text, (size_t)(quote - text.ptr)), to->ptr, &data_len);
    if (r < 0)
        return r;
    to->len = data_len;
    *ret_data = (struct slice){to->ptr, data_len};
    *ret_key = (struct slice){0};
    if (s->record_key.len + s->record_tail.len + BATCH_COMMA + 2 > e->len || s->key_units_max == 0)
        return 0;

    /* The key's JSON string, without its quotes. */
    key = slice_from(text, (size_t)(quote - text.ptr) + s->record_key.len + 1);
    key.len -= s->record_tail.len + BATCH_COMMA + 1;
    r = json_unescape(key, to);
    if (r == 0)
        *ret_key = (struct slice){to->ptr + data_len, to->len - data_len};
    return r;
}
