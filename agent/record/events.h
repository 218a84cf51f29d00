/* events -- which lines belong together.
 *
 * An event is one line, unless patterns say otherwise.  A line belongs to the event before it if
 *
 *     that one was not ended by a line that matches `end`, and the line does not match `start`, and
 *     it matches `proceed` (the setting `continue`), if there is such a pattern.
 *
 * A CSV record goes on while a quoted field is open.  Of containers' lines (cri.h) parts are joined;
 * as two streams may lie interleaved in one file, what is found there is a region: lines from which
 * one or more events are made, and at whose ends none is open.
 *
 *   1. An event has at most max_lines lines and max_bytes bytes, newlines included; or it is one
 *      line.  What would come after is an event of its own.
 *   2. Nothing is kept: an event that is not whole yet is asked for again when there is more of it.
 *      The log file is the memory, and a restart forgets nothing.
 *   3. How the bytes came (in one write or in ten) makes no difference.
 *   4. Zeros at the beginning of a line (a hole in the file) end the event before.
 *
 * Thinks: no I/O, no memory. */
#ifndef EVENTS_H
#define EVENTS_H

#include "buf.h"
#include "record/cri.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pattern;

struct events_rules {
    struct pattern *start, *proceed, *end; /* borrowed; or NULL */
    uint32_t max_lines;                    /* at least 1 */
    size_t max_bytes;
    bool csv; /* quotes keep lines together … */
    char delimiter;
    bool cri;
};

/* Whether events can have more than one line at all. */
static inline bool events_join(const struct events_rules *r)
{
    return r->start != NULL || r->proceed != NULL || r->end != NULL || r->csv || r->cri;
}

/* Looks at `text`: whole lines with their newlines, the first of which begins an event.  `behind`: how
 * many bytes of a line without a newline are known to follow.
 * True: its first *ret_len bytes are a whole event (or region).  False: all of it may belong to one
 * that goes on. */
bool events_next(const struct events_rules *r, struct slice text, size_t behind, size_t *ret_len);

/* A region of containers' lines, and how far its events were taken off it. */
struct events_region {
    const struct events_rules *rules; /* borrowed, as the text is */
    struct slice rest;
    const char *begin;
    bool open[CRI_STREAMS]; /* there is an event of this stream … */
    bool part[CRI_STREAMS]; /* … whose last line was a part */
    bool ended[CRI_STREAMS];
};

void events_region_init(struct events_region *g, const struct events_rules *r, struct slice text);

/* The next event, in the order of their ends: one line of the same form as the region's, F for its
 * tag.  It lies in the region or in `scratch`, until the next call.
 * 1: there is one; 0: there is none.  Errors: as buf. */
int events_region_next(struct events_region *g, struct buf scratch[CRI_STREAMS], struct slice *ret);

#endif
