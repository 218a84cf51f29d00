#include "record/scratch.h"

#include "util.h"

#include <stdlib.h>

enum { EXTRA = 64 * 1024 }; /* what fields may take beside what is in the line */

/* All pieces that are bytes. */
enum { PIECES = 4 + CRI_STREAMS + 5 + 3 + 1 };

static void pieces_of(struct scratch *s, struct buf *ret[PIECES])
{
    size_t n = 0;

    ret[n++] = &s->decoded;
    ret[n++] = &s->joined;
    ret[n++] = &s->ended;
    ret[n++] = &s->fitted;
    for (size_t i = 0; i < ARRAY_LEN(s->streams); i++)
        ret[n++] = &s->streams[i];
    for (size_t i = 0; i < ARRAY_LEN(s->redacted); i++)
        ret[n++] = &s->redacted[i];
    for (size_t i = 0; i < ARRAY_LEN(s->values); i++)
        ret[n++] = &s->values[i];
    ret[n++] = &s->out;
    for (size_t i = 0; i < ARRAY_LEN(s->converted); i++)
        ret[n++] = &s->converted[i];
    ret[n++] = &s->squeezed;
}

void scratch_init(struct scratch *s)
{
    *s = (struct scratch){.keep = SCRATCH_KEEP};
}

void scratch_done(struct scratch *s)
{
    struct buf *pieces[PIECES];

    pieces_of(s, pieces);
    for (size_t i = 0; i < PIECES; i++)
        buf_done(pieces[i]);
    fields_done(&s->columns);
    fields_done(&s->fields);
    free(s->names);
    *s = (struct scratch){0};
}

void scratch_expect(struct scratch *s, size_t bytes)
{
    s->keep = MAX(s->keep, bytes);
}

void scratch_limit(struct scratch *s, size_t record_max, size_t event_max)
{
    /* Compressed, a record may have been several times as long. */
    size_t most = 4 * record_max;
    struct buf *pieces[PIECES];

    pieces_of(s, pieces);
    for (size_t i = 0; i < PIECES; i++)
        buf_limit(pieces[i], most);
    buf_limit(&s->decoded, 2 * most);
    for (size_t i = 0; i < ARRAY_LEN(s->streams); i++)
        buf_limit(&s->streams[i], MAX(most, event_max));
    fields_reset(&s->columns);
    arena_limit(&s->columns.arena, most);

    /* A text written anew is at most thrice as long, in a JSON string six times. */
    fields_reset(&s->fields);
    arena_limit(&s->fields.arena, 2 * most + EXTRA);
    buf_limit(&s->out, 4 * most);
    buf_limit(&s->squeezed, 2 * most);
}

static size_t above(size_t size, size_t keep)
{
    return size > keep ? size : 0;
}

size_t scratch_excess(struct scratch *s)
{
    struct buf *pieces[PIECES];
    size_t size = above(s->names_cap * sizeof *s->names, s->keep);

    pieces_of(s, pieces);
    for (size_t i = 0; i < PIECES; i++)
        size += above(pieces[i]->cap, s->keep);
    return size + fields_excess(&s->fields, s->keep) + fields_excess(&s->columns, s->keep);
}

void scratch_trim(struct scratch *s)
{
    struct buf *pieces[PIECES];

    pieces_of(s, pieces);
    for (size_t i = 0; i < PIECES; i++)
        buf_trim(pieces[i], s->keep);
    fields_trim(&s->columns, s->keep);
    fields_trim(&s->fields, s->keep);
    if (s->names_cap * sizeof *s->names > s->keep) {
        free(s->names);
        s->names = NULL;
        s->names_cap = 0;
    }
}

int scratch_reserve(struct buf *b, size_t len)
{
    size_t cap = SCRATCH_KEEP;

    if (len <= b->cap && len <= b->max)
        return 0;
    while (cap < len && cap <= b->max / 2)
        cap *= 2;
    return buf_reserve(b, MIN(MAX(cap, len), b->max));
}
