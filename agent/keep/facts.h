/* facts -- the lines of a checkpoint's journal, written and read; see checkpoint.h.
 *
 *   1. A fact is a line; its last word is the CRC32C of the line up to there.
 *   2. Reading never fails: what is not a fact is FACT_DAMAGED, and the next line is tried.
 *
 * Thinks: no I/O.  Writing: 0, or buf's errors, and then the buffer holds no half line that
 * matters to the caller, who gives it up. */
#ifndef FACTS_H
#define FACTS_H

#include "buf.h"
#include "cursor.h"
#include "slice.h"
#include "source_id.h"

#include <stdbool.h>
#include <stdint.h>

enum fact_type {
    FACT_DAMAGED,
    FACT_HEADER,
    FACT_FLOW,
    FACT_FILE,
    FACT_AT,
    FACT_GONE,
    FACT_PARTIAL,
    FACT_WHOLE,
    FACT_SPOOL,
    FACT_SEEN,
};

struct fact_file {
    uint64_t key;
    struct slice flow, path;
    struct source_id id;
};

struct fact {
    enum fact_type type;
    struct fact_file file; /* FLOW: flow; FILE: all; AT, GONE: key; SPOOL: key: serial, flow: name;
                              SEEN: key: ns since 1970 */
    struct cursor at;      /* AT */
    struct buf names;      /* owns the decoded flow and path */
};

uint32_t facts_seed(uint64_t store, uint64_t generation);

int facts_write_header(struct buf *to, uint32_t seed, uint64_t store, uint64_t generation);
int facts_write_flow(struct buf *to, uint32_t seed, struct slice flow);
int facts_write_file(struct buf *to, uint32_t seed, const struct fact_file *file);
int facts_write_at(struct buf *to, uint32_t seed, uint64_t key, struct cursor at);
int facts_write_gone(struct buf *to, uint32_t seed, uint64_t key);
int facts_write_partial(struct buf *to, uint32_t seed);
int facts_write_whole(struct buf *to, uint32_t seed);
int facts_write_spool(struct buf *to, uint32_t seed, struct slice name, uint64_t serial);
int facts_write_seen(struct buf *to, uint32_t seed, uint64_t ns);

/* Reads the header line and moves `text` behind it.  Errors: -EBADMSG if it is not the header of
 * this generation; -ENOTSUP if its format is a newer one. */
int facts_read_header(struct slice *text, uint64_t generation, uint64_t *ret_store,
                      uint32_t *ret_seed);

/* Makes a fact ready for facts_next; facts_done gives its memory back. */
void facts_init(struct fact *f);

/* Reads the next line and moves `text` behind it; false at the end.  What `ret` borrows is good
 * until the next call.  A last line without its newline is FACT_DAMAGED. */
bool facts_next(struct slice *text, uint32_t seed, struct fact *ret);
void facts_done(struct fact *f);

#endif
