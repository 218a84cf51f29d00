/* spool_format -- the bytes of a spool's files: headers, frames, footers, acknowledgements.
 *
 *   1. What is decoded has held its checksum; what does not hold is not decoded.
 *   2. A frame's head says where in its file it is, and its checksums begin with its segment's seed,
 *      so that neither a stale block nor a frame of another segment can pass for one.
 *
 * The layout is drawn in spool.h.  Threads: any.  Nothing here fails otherwise, allocates or blocks. */
#ifndef SPOOL_FORMAT_H
#define SPOOL_FORMAT_H

#include "keep/spool.h"
#include "slice.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SPOOL_FORMAT = 1,
    SPOOL_HEADER_LEN = 64,
    SPOOL_HEAD_LEN = 56, /* of a frame */
    SPOOL_HEAD_BEGIN_LEN = 24,
    SPOOL_FOOTER_LEN = 40,
    SPOOL_ACK_LEN = 16,
    SPOOL_RECORD_HEAD_LEN = 24,
    SPOOL_ALIGN = 8,
};

struct spool_header {
    uint64_t segment, first_serial;
    uint64_t owner;      /* as its bytes stand in memory */
    uint64_t before_end; /* where the segment before it ends; 0: unknown */
    int64_t wall_ms;
    uint32_t seed;
    uint32_t before_seed; /* of the segment before it; 0: unknown */
};

void spool_header_encode(const struct spool_header *h, char to[SPOOL_HEADER_LEN]);

/* Errors: -EBADMSG: it is none; -ENOTSUP: a newer version's, which begins like ours and holds. */
int spool_header_decode(const char from[SPOOL_HEADER_LEN], struct spool_header *ret);

struct spool_head {
    uint64_t serial, at;
    int64_t wall_ms;
    uint32_t len; /* of the whole frame, a multiple of 8 */
    uint32_t records, sources, facts_len;
    uint32_t payload_crc;
    uint32_t crc; /* of the head and the facts */
};

/* Puts the head before a frame whose facts and payload are there, zeros up to a multiple of 8
 * included; sets h->len and the checksums. */
void spool_head_encode(struct spool_head *h, uint32_t seed, char *frame, size_t len);

/* Whether so many bytes can be the beginning of one at that place: a quick question, to look for it. */
bool spool_head_begins(const char from[SPOOL_HEAD_BEGIN_LEN], uint64_t at);

/* Whether that could be a frame's head, at that place in its file: -EBADMSG if not.  Its checksum is
 * to be looked at next: it is made of what spool_head_crc gives, and of the facts behind it. */
int spool_head_decode(const char from[SPOOL_HEAD_LEN], uint64_t at, struct spool_head *ret);
uint32_t spool_head_crc(const char from[SPOOL_HEAD_LEN], uint32_t seed);

/* Whether a whole frame holds: both checksums, and each source and record lies in it.  Gives its
 * parts, borrowed from `frame`. */
bool spool_frame_decode(struct slice frame, uint64_t at, uint32_t seed, struct spool_frame *ret);

/* Both halves of the payload: a source; what stands before a record's key and data. */
void spool_source_encode(uint16_t flow_len, uint16_t path_len, char to_flow[2], char to_path[2]);
void spool_record_encode(const struct spool_record *r, char to[SPOOL_RECORD_HEAD_LEN]);

struct spool_footer {
    uint64_t frames, records;
};

/* A footer stands `at` the end of the frames, and is the end of the file. */
void spool_footer_encode(const struct spool_footer *f, uint64_t at, uint32_t seed,
                         char to[SPOOL_FOOTER_LEN]);
bool spool_footer_decode(const char from[SPOOL_FOOTER_LEN], uint64_t at, uint32_t seed,
                         struct spool_footer *ret);

void spool_ack_encode(uint64_t serial, uint32_t records, uint32_t seed, char to[SPOOL_ACK_LEN]);

/* Takes the next acknowledgement that holds, of a frame from `first` on, off `text`; bytes that are
 * none are passed over.  False if there is none; less than one is then left in `text`. */
bool spool_ack_next(struct slice *text, uint32_t seed, uint64_t first, uint64_t *ret_serial,
                    uint32_t *ret_records);

/* The same of a segment that is gone, and its seed with it: a checksum is linear, so what the seed has
 * added is the same in all acknowledgements of one file. */
void spool_ack_peek(const char from[SPOOL_ACK_LEN], uint64_t *ret_serial, uint32_t *ret_records,
                    uint32_t *ret_seed_part);

/* What an acknowledgement of a part of a frame has in the place of its records; and back: false if it
 * is one of a whole frame.  first below 2^15, count below 2^16. */
uint32_t spool_part_encode(uint32_t first, uint32_t count);
bool spool_part_decode(uint32_t records, uint32_t *ret_first, uint32_t *ret_count);

/* Names: the number, and which of the files it is; false if the name is none of ours. */
enum spool_file { SPOOL_FILE_SEGMENT, SPOOL_FILE_ACK, SPOOL_FILE_DAMAGED, SPOOL_FILE_FOREIGN };

void spool_file_name(uint64_t segment, enum spool_file file, char to[SPOOL_NAME_LEN]);
bool spool_file_of_name(const char *name, uint64_t *ret_segment, enum spool_file *ret_file);

#endif
