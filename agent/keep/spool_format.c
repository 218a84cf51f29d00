#include "keep/spool_format.h"

#include "crc32c.h"
#include "util.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Where things stand in a header, a frame's head, a footer. */
enum {
    HEADER_FORMAT = 8,
    HEADER_SEED = 12,
    HEADER_SEGMENT = 16,
    HEADER_SERIAL = 24,
    HEADER_OWNER = 32,
    HEADER_BEFORE = 40,
    HEADER_WALL = 48,
    HEADER_BEFORE_SEED = 56,
    HEADER_CRC = 60,
    HEAD_LEN = 4,
    HEAD_SERIAL = 8,
    HEAD_AT = 16,
    HEAD_WALL = 24,
    HEAD_RECORDS = 32,
    HEAD_SOURCES = 36,
    HEAD_FACTS = 40,
    HEAD_PAYLOAD_CRC = 44,
    HEAD_ZERO = 48,
    HEAD_CRC = 52,
    FOOTER_FRAMES = 8,
    FOOTER_RECORDS = 16,
    FOOTER_AT = 24,
    FOOTER_CRC = 36,
    ACK_RECORDS = 8,
    ACK_CRC = 12,
};

static const uint32_t ACK_PART = UINT32_C(1) << 31;

/* Numbers go up to fifteen digits, so that the one after the last still has its sixteen. */
static const uint64_t number_max = UINT64_C(999999999999999);

/* Bytes, and no texts: there is no zero behind them. */
static const char segment_magic[8] = {'K', 'T', 'S', 'P', 'O', 'O', 'L', '1'};
static const char frame_magic[4] = {'K', 'T', 'F', 'R'};
static const char footer_magic[8] = {'K', 'T', 'E', 'N', 'D'};

/* --- integers --- */

static void put16(char *to, uint16_t n)
{
    n = htole16(n);
    memcpy(to, &n, sizeof n);
}

static void put32(char *to, uint32_t n)
{
    n = htole32(n);
    memcpy(to, &n, sizeof n);
}

static void put64(char *to, uint64_t n)
{
    n = htole64(n);
    memcpy(to, &n, sizeof n);
}

static uint16_t get16(const char *from)
{
    uint16_t n;

    memcpy(&n, from, sizeof n);
    return le16toh(n);
}

static uint32_t get32(const char *from)
{
    uint32_t n;

    memcpy(&n, from, sizeof n);
    return le32toh(n);
}

static uint64_t get64(const char *from)
{
    uint64_t n;

    memcpy(&n, from, sizeof n);
    return le64toh(n);
}

/* --- headers and footers --- */

void spool_header_encode(const struct spool_header *h, char to[SPOOL_HEADER_LEN])
{
    memset(to, 0, SPOOL_HEADER_LEN);
    memcpy(to, segment_magic, 8);
    put32(to + HEADER_FORMAT, SPOOL_FORMAT);
    put32(to + HEADER_SEED, h->seed);
    put64(to + HEADER_SEGMENT, h->segment);
    put64(to + HEADER_SERIAL, h->first_serial);
    memcpy(to + HEADER_OWNER, &h->owner, sizeof h->owner);
    put64(to + HEADER_BEFORE, h->before_end);
    put64(to + HEADER_WALL, (uint64_t)h->wall_ms);
    put32(to + HEADER_BEFORE_SEED, h->before_seed);
    put32(to + HEADER_CRC, crc32c(0, to, HEADER_CRC));
}

int spool_header_decode(const char from[SPOOL_HEADER_LEN], struct spool_header *ret)
{
    if (memcmp(from, segment_magic, 8) != 0 ||
        get32(from + HEADER_CRC) != crc32c(0, from, HEADER_CRC))
        return -EBADMSG;

    /* Only now: a flipped bit must not look like a message from the future.  So every later format
     * keeps the length of the header and the places of these two. */
    if (get32(from + HEADER_FORMAT) != SPOOL_FORMAT)
        return -ENOTSUP;
    ret->seed = get32(from + HEADER_SEED);
    ret->segment = get64(from + HEADER_SEGMENT);
    ret->first_serial = get64(from + HEADER_SERIAL);
    memcpy(&ret->owner, from + HEADER_OWNER, sizeof ret->owner);
    ret->before_end = get64(from + HEADER_BEFORE);
    ret->wall_ms = (int64_t)get64(from + HEADER_WALL);
    ret->before_seed = get32(from + HEADER_BEFORE_SEED);
    return 0;
}

void spool_footer_encode(const struct spool_footer *f, uint64_t at, uint32_t seed,
                         char to[SPOOL_FOOTER_LEN])
{
    memset(to, 0, SPOOL_FOOTER_LEN);
    memcpy(to, footer_magic, 8);
    put64(to + FOOTER_FRAMES, f->frames);
    put64(to + FOOTER_RECORDS, f->records);
    put64(to + FOOTER_AT, at);
    put32(to + FOOTER_CRC, crc32c(seed, to, FOOTER_CRC));
}

bool spool_footer_decode(const char from[SPOOL_FOOTER_LEN], uint64_t at, uint32_t seed,
                         struct spool_footer *ret)
{
    if (memcmp(from, footer_magic, 8) != 0 || get64(from + FOOTER_AT) != at ||
        get32(from + FOOTER_CRC) != crc32c(seed, from, FOOTER_CRC) ||
        get64(from + FOOTER_FRAMES) > SPOOL_SEGMENT_FRAMES)
        return false;
    ret->frames = get64(from + FOOTER_FRAMES);
    ret->records = get64(from + FOOTER_RECORDS);
    return true;
}

/* --- frames --- */

void spool_head_encode(struct spool_head *h, uint32_t seed, char *frame, size_t len)
{
    size_t payload = SPOOL_HEAD_LEN + h->facts_len;

    h->len = (uint32_t)len;
    h->payload_crc = crc32c(seed, frame + payload, len - payload);
    memcpy(frame, frame_magic, 4);
    put32(frame + HEAD_LEN, h->len);
    put64(frame + HEAD_SERIAL, h->serial);
    put64(frame + HEAD_AT, h->at);
    put64(frame + HEAD_WALL, (uint64_t)h->wall_ms);
    put32(frame + HEAD_RECORDS, h->records);
    put32(frame + HEAD_SOURCES, h->sources);
    put32(frame + HEAD_FACTS, h->facts_len);
    put32(frame + HEAD_PAYLOAD_CRC, h->payload_crc);
    put32(frame + HEAD_ZERO, 0);
    h->crc = crc32c(spool_head_crc(frame, seed), frame + SPOOL_HEAD_LEN, h->facts_len);
    put32(frame + HEAD_CRC, h->crc);
}

bool spool_head_begins(const char from[SPOOL_HEAD_BEGIN_LEN], uint64_t at)
{
    return memcmp(from, frame_magic, 4) == 0 && get64(from + HEAD_AT) == at;
}

int spool_head_decode(const char from[SPOOL_HEAD_LEN], uint64_t at, struct spool_head *ret)
{
    struct spool_head h = {.serial = get64(from + HEAD_SERIAL),
                           .at = get64(from + HEAD_AT),
                           .wall_ms = (int64_t)get64(from + HEAD_WALL),
                           .len = get32(from + HEAD_LEN),
                           .records = get32(from + HEAD_RECORDS),
                           .sources = get32(from + HEAD_SOURCES),
                           .facts_len = get32(from + HEAD_FACTS),
                           .payload_crc = get32(from + HEAD_PAYLOAD_CRC),
                           .crc = get32(from + HEAD_CRC)};

    if (memcmp(from, frame_magic, 4) != 0 || h.at != at || h.len < SPOOL_HEAD_LEN ||
        h.len > SPOOL_FRAME_MAX || h.len % SPOOL_ALIGN != 0 || h.facts_len > h.len - SPOOL_HEAD_LEN)
        return -EBADMSG;
    *ret = h;
    return 0;
}

uint32_t spool_head_crc(const char from[SPOOL_HEAD_LEN], uint32_t seed)
{
    return crc32c(seed, from, HEAD_CRC);
}

void spool_source_encode(uint16_t flow_len, uint16_t path_len, char to_flow[2], char to_path[2])
{
    put16(to_flow, flow_len);
    put16(to_path, path_len);
}

void spool_record_encode(const struct spool_record *r, char to[SPOOL_RECORD_HEAD_LEN])
{
    put16(to, r->source);
    put16(to + 2, (uint16_t)r->key.len);
    put32(to + 4, (uint32_t)r->data.len);
    put64(to + 8, r->offset);
    put64(to + 16, r->end);
}

/* Takes a text with its length before it off `from`. */
static bool take_text(struct slice *from, struct slice *ret)
{
    if (from->len < 2 || from->len - 2 < get16(from->ptr))
        return false;
    *ret = (struct slice){from->ptr + 2, get16(from->ptr)};
    *from = slice_from(*from, 2 + ret->len);
    return true;
}

static bool take_source(struct slice *from, struct spool_source *ret)
{
    return take_text(from, &ret->flow) && take_text(from, &ret->path);
}

static bool take_record(struct slice *from, struct spool_record *ret)
{
    size_t key, data;

    if (from->len < SPOOL_RECORD_HEAD_LEN)
        return false;
    key = get16(from->ptr + 2);
    data = get32(from->ptr + 4);
    if (from->len - SPOOL_RECORD_HEAD_LEN < key || from->len - SPOOL_RECORD_HEAD_LEN - key < data)
        return false;
    ret->source = get16(from->ptr);
    ret->offset = get64(from->ptr + 8);
    ret->end = get64(from->ptr + 16);
    ret->key = (struct slice){from->ptr + SPOOL_RECORD_HEAD_LEN, key};
    ret->data = (struct slice){ret->key.ptr + key, data};
    *from = slice_from(*from, SPOOL_RECORD_HEAD_LEN + key + data);
    return true;
}

/* Only what was written with a fault of ours holds its checksum and fails here. */
static bool read_payload(struct slice payload, struct spool_frame *f)
{
    struct slice rest = payload;
    struct spool_source source;
    struct spool_record record;

    for (uint32_t i = 0; i < f->source_count; i++)
        if (!take_source(&rest, &source))
            return false;
    f->sources = slice_first(payload, payload.len - rest.len);
    f->rest = rest;
    for (uint32_t i = 0; i < f->records; i++)
        if (!take_record(&rest, &record) || record.source >= f->source_count)
            return false;
    f->rest.len -= rest.len;
    return rest.len < SPOOL_ALIGN;
}

bool spool_frame_decode(struct slice frame, uint64_t at, uint32_t seed, struct spool_frame *ret)
{
    struct spool_head h;
    struct slice facts, payload;

    if (frame.len < SPOOL_HEAD_LEN || spool_head_decode(frame.ptr, at, &h) < 0 ||
        h.len != frame.len)
        return false;
    facts = slice_first(slice_from(frame, SPOOL_HEAD_LEN), h.facts_len);
    payload = slice_from(frame, SPOOL_HEAD_LEN + h.facts_len);
    if (h.crc != crc32c(spool_head_crc(frame.ptr, seed), facts.ptr, facts.len) ||
        h.payload_crc != crc32c(seed, payload.ptr, payload.len))
        return false;
    *ret = (struct spool_frame){.serial = h.serial,
                                .at = at,
                                .wall_ms = h.wall_ms,
                                .records = h.records,
                                .facts = facts,
                                .source_count = h.sources};
    return read_payload(payload, ret);
}

struct spool_source spool_source_at(const struct spool_frame *f, uint16_t index)
{
    struct slice sources = f->sources;
    struct spool_source source = {0};

    if (index >= f->source_count)
        return source;
    for (uint32_t i = 0; i <= index; i++)
        if (!take_source(&sources, &source))
            return (struct spool_source){0};
    return source;
}

bool spool_next(struct spool_frame *f, struct spool_record *ret, struct spool_source *ret_source)
{
    uint32_t i;

    do {
        if (!take_record(&f->rest, ret))
            return false;
        i = f->next++;
    } while (i < SPOOL_PARTS_RECORDS && (f->skip[i / 64] >> i % 64 & 1) != 0);
    ret->index = i;
    *ret_source = spool_source_at(f, ret->source);
    return true;
}

/* --- acknowledgements --- */

void spool_ack_encode(uint64_t serial, uint32_t records, uint32_t seed, char to[SPOOL_ACK_LEN])
{
    put64(to, serial);
    put32(to + ACK_RECORDS, records);
    put32(to + ACK_CRC, crc32c(seed, to, ACK_CRC));
}

bool spool_ack_next(struct slice *text, uint32_t seed, uint64_t first, uint64_t *ret_serial,
                    uint32_t *ret_records)
{
    while (text->len >= SPOOL_ACK_LEN) {
        const char *p = text->ptr;
        uint64_t serial = get64(p);

        /* The cheap question first, as a torn one puts all behind it out of step. */
        if (serial >= first && serial - first < SPOOL_SEGMENT_FRAMES &&
            get32(p + ACK_CRC) == crc32c(seed, p, ACK_CRC)) {
            *ret_serial = serial;
            *ret_records = get32(p + ACK_RECORDS);
            *text = slice_from(*text, SPOOL_ACK_LEN);
            return true;
        }
        *text = slice_from(*text, 1);
    }
    return false;
}

void spool_ack_peek(const char from[SPOOL_ACK_LEN], uint64_t *ret_serial, uint32_t *ret_records,
                    uint32_t *ret_seed_part)
{
    *ret_serial = get64(from);
    *ret_records = get32(from + ACK_RECORDS);
    *ret_seed_part = get32(from + ACK_CRC) ^ crc32c(0, from, ACK_CRC);
}

uint32_t spool_part_encode(uint32_t first, uint32_t count)
{
    return ACK_PART | first << 16 | count;
}

bool spool_part_decode(uint32_t records, uint32_t *ret_first, uint32_t *ret_count)
{
    if ((records & ACK_PART) == 0)
        return false;
    *ret_first = records >> 16 & 0x7fff;
    *ret_count = records & 0xffff;
    return true;
}

/* --- names --- */

static const struct slice suffixes[] = {
    [SPOOL_FILE_SEGMENT] = SLICE(".seg"),
    [SPOOL_FILE_ACK] = SLICE(".ack"),
    [SPOOL_FILE_DAMAGED] = SLICE(".damaged"),
    [SPOOL_FILE_FOREIGN] = SLICE(".foreign"),
};

void spool_file_name(uint64_t segment, enum spool_file file, char to[SPOOL_NAME_LEN])
{
    (void)snprintf(to, SPOOL_NAME_LEN, "spool-%016" PRIu64 "%s", segment, suffixes[file].ptr);
}

bool spool_file_of_name(const char *name, uint64_t *ret_segment, enum spool_file *ret_file)
{
    struct slice rest = slice_of(name);
    uint64_t n = 0;

    if (!slice_starts_with(rest, SLICE("spool-")) || rest.len < 22)
        return false;
    for (size_t i = 6; i < 22; i++) {
        if (name[i] < '0' || name[i] > '9')
            return false;
        n = 10 * n + (uint64_t)(name[i] - '0');
    }
    rest = slice_from(rest, 22);
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++)
        if (slice_equal(rest, suffixes[i]) && n > 0 && n <= number_max) {
            *ret_segment = n;
            *ret_file = (enum spool_file)i;
            return true;
        }
    return false;
}

void spool_segment_name(uint64_t segment, char to[SPOOL_NAME_LEN])
{
    spool_file_name(segment, SPOOL_FILE_SEGMENT, to);
}

uint64_t spool_segment_of_name(const char *name)
{
    enum spool_file file;
    uint64_t segment;

    return spool_file_of_name(name, &segment, &file) && file == SPOOL_FILE_SEGMENT ? segment : 0;
}
