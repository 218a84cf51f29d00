/* mill_inner -- what the parts of the mill share; nobody else may include this:
 *
 *     mill.c        events out of bytes, and where each of them is in the file
 *     mill_group.c  records: alone, joined, compressed, with their keys
 *     mill_large.c  records that are too large: cut, or in parts */
#ifndef MILL_INNER_H
#define MILL_INNER_H

#include "record/mill.h"
#include "record/scratch.h"

struct mill {
    struct mill_settings settings;
    size_t join_bytes; /* as it was wished for: settings.join_bytes is what record_max allows */
    struct scratch *scratch; /* borrows; or its own */
    struct scratch own;
    struct parse_names header;
    struct key key; /* of the next record */
    bool waits;
};

/* One call of mill_run. */
struct run {
    struct mill *mill;
    const struct mill_input *in;
    struct mill_state *state;
    const struct mill_events *events;
    size_t record_max; /* of this event */

    struct slice text; /* UTF-8 lines: the carry, then the input */
    size_t carry_len;
    bool half;  /* the last newline of the text is ours */
    bool joins; /* an event may be of several lines */
    struct {
        struct slice text; /* what is left of the input as it stands in the file … */
        size_t passed;     /* … and what is not */
        size_t decoded;    /* where in `text` that is */
    } raw;

    struct {
        uint64_t offset, end;
        size_t at;  /* of its beginning in the text */
        bool begun; /* and not out yet */
        bool cut;   /* the beginning of a line, or a later part of it */
        bool fresh; /* what becomes of this record of it was not told before */
        bool with_carry;
        struct mill_notice notice;
    } event;
    uint32_t index; /* number of the next record of this event … */
    uint32_t skip;  /* … those before this one are out already */

    struct {
        bool open;
        uint64_t offset, end;
        size_t record_max;
        uint32_t index;     /* of its first record in its event … */
        uint64_t first_end; /* … which ends here */
        uint32_t events;
        bool with_carry;
        struct key key;
    } group; /* what is joined */

    bool keyed;         /* the key is what it should be already */
    uint64_t consumed;  /* everything before it is out … */
    size_t consumed_at; /* … which is here in the text */
    uint64_t reached;   /* everything before it is out or joined */
    uint32_t events_done, events_out, lines_done, lines_out, lines;
    bool event_open;
    enum mill_end end;
    uint64_t work, hard; /* of patterns */
};

/* All of these: 0; -ENOBUFS if the record was not taken; -EBUSY if it is too large, and shall wait;
 * -ENOMEM. */

/* One record for the bytes of the event, compressed if that is wanted.  -EMSGSIZE: too large. */
int mill_emit(struct run *run, struct slice record, enum recipe_verdict verdict, const char *reason,
              const struct fields *fields);

/* Whether the record of this event may join others, those that are there if there are any; joins it;
 * sends what is joined. */
bool mill_group_takes(const struct run *run, struct slice record);
int mill_group_add(struct run *run, const struct recipe_result *result);
int mill_group_close(struct run *run);

/* Chooses the key of the event's record, as far as it can be known now.  True: what it should be
 * taken from is not there, and it is random. */
bool mill_choose_key(struct run *run, const struct recipe_result *result);

/* What to do with a record that is too large, or the beginning of a line that is. */
int mill_too_large(struct run *run, const struct recipe_result *result);

/* Whether a long line's parts are being sent; sends the next ones, which are in `text`. */
bool mill_in_parts(const struct run *run);
int mill_next_part(struct run *run, struct slice text);

/* How many bytes a record may have with a key of this length, so that it will fit also if compressing
 * makes it longer. */
size_t mill_fill_max(const struct mill *m, size_t record_max, size_t key_len);

/* Makes the record end in a newline; it then may lie in `ended`. */
int mill_end_line(struct mill *m, bool has_newline, struct slice *record);

#endif
