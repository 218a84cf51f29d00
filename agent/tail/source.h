/* source -- one log file being read: whole lines from a place on, wherever the file went.
 *
 *   1. `at` is the beginning of a line, and everything before it has been handed out.
 *   2. A line without its newline is never handed out: source_read gives whole lines only.
 *   3. Every read looks again at the anchor before `at`: what was truncated and written anew is
 *      noticed even if it is longer than before (-ESTALE).
 *   4. pread(2), never mmap(2): a truncated mapping would be SIGBUS.
 *   5. Zeros at the beginning of a line are no text: a writer that does not append has left a hole
 *      there.  They are passed over once something stands behind them; until then it may be room
 *      that is still to be written to.
 *   6. Of UTF-16 only whole units leave: a line is cut, and searched, between two of them.  Zeros are
 *      text there, and places have no rungs: a file that was shortened is read anew.
 *
 * The follower owns sources and says what they are called; the flow reads them. */
#ifndef SOURCE_H
#define SOURCE_H

#include "cursor.h"
#include "encoding.h"
#include "list.h"
#include "map.h"
#include "slice.h"
#include "source_id.h"
#include "tail/unpack.h"
#include "tail/watch.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct digest;
struct follower;
struct name;

struct source {
    struct source_id id;
    struct cursor at;
    int fd; /* -1: closed while there is no news */
    enum encoding encoding;
    enum unpack_kind packed; /* the file is compressed: offsets are of what is in it … */
    struct unpack *unpack;   /* … owns, while it is open and being read */
    uint64_t scanned;        /* > at.offset: up to here the line at `at` has no newline */
    uint64_t line_end;       /* > at.offset: it ends here, with its newline … */
    uint64_t half_end;       /* > at.offset: … or without one: the compressed file ends here */
    uint64_t zeros;          /* > at.offset: up to here there are only zeros */
    uint64_t seen;           /* how long the file was when it was read to its end */
    char *path;              /* owns: what it is called, or was called last */
    char *was;               /* owns: what the globs called it before it was renamed; or NULL */
    void *user;              /* the flow's */

    /* The follower's. */
    struct follower *follower;
    struct list all;
    struct list opened; /* among those with a descriptor, least recently read first */
    struct map_node by_ino;
    struct list names; /* of ours that lead to it; more than one are hard links, and rare */
    struct name *name; /* the one that `path` is from; without names: the one it had last */
    struct source *after, *before; /* read `after` to its end first */
    struct list copies, copy; /* its backups; of a backup: in its original's copies, or alone */
    struct watch_sub sub;     /* on the inode, once it has no name */
    uint64_t quiet_since_ms;
    uint64_t grown;    /* how long it was at the last event, while it waits to be read */
    int64_t looked_ns; /* when it was read last, by the clock that births are taken from */
    uint64_t dropped;  /* hash of what it was called when its directory went; 0: it did not */
    bool caught_up;    /* the last read found nothing more */
    bool open;         /* the flow's: lines that were seen wait for others, to be sent together */
    bool truncated;    /* it lost its file to another content of the same file */
    bool at_end;       /* read to its end, as far as we know */
    bool ending;       /* what it ends in leaves even without a newline */
    bool resumed;      /* it goes on from where an earlier run was */
    bool given_up;     /* it is not read any more, whatever there is */
    bool backup;       /* a copy of what another source reads: there is nothing new in it */
    bool poll;         /* nameless, and inotify does not tell of it */
};

/* Memory to read into, one for all sources of a lane.  What no line has reached yet costs nothing. */
struct reader {
    char *memory;          /* owns; mapped */
    size_t cap;            /* CURSOR_ANCHOR_MAX + the longest line with its newline, or a chunk */
    size_t line_max;       /* a longer line is handed out cut to this length */
    size_t touched;        /* bytes of the memory that were read into */
    struct digest *digest; /* borrows */
};

/* Room for lines of `line_max` bytes; lines may be so long, until reader_limit says otherwise.
 * Errors: -ENOMEM. */
int reader_init(struct reader *r, struct digest *digest, size_t line_max);
void reader_done(struct reader *r);

/* From now on a line is cut that is longer than `line_max`, which is no more than there is room for.
 * It may be another one for each source; a line that was too long and no longer is is read whole. */
void reader_limit(struct reader *r, size_t line_max);

/* Gives back what only long lines need; how much that would be. */
void reader_trim(struct reader *r);
size_t reader_excess(const struct reader *r);

enum source_news {
    SOURCE_END,   /* no whole line is there now */
    SOURCE_LINES, /* `text` is whole lines, newlines included */
    SOURCE_LONG,  /* `text` is the beginning of one line longer than line_max; it ends at `end` */
    SOURCE_ZEROS, /* nothing but zeros up to `end`; `text` is empty (or the second half of a unit of
                   * UTF-16: the place is of another encoding, or the file ended there once) */
    SOURCE_MORE, /* the end of a long line or of zeros was not found yet, but there is more to see */
    SOURCE_HALF, /* only when asked for: `text` is all that is there, without a newline, up to
                  * line_max; of UTF-16 it may end in half a unit */
};

struct source_chunk {
    struct slice text; /* lies in the reader's memory, good until the next read */
    uint64_t end;      /* the offset behind it (behind the newline of a long line) */
    size_t behind;     /* LINES, END: bytes right behind `text` in memory: a line without its end */
    bool at_eof;       /* fewer bytes came than were asked for; always at END and HALF */
};

/* Closes what reading a compressed file needs. */
void source_close_packed(struct source *s);

/* Reads what comes next, about a quantum of it.  `take_half`: if there is no whole line, give what
 * there is: for a file that is gone for good.  `want`: this many bytes at least, if they are there,
 * up to line_max + 1; 0 is a quantum.  `ret` is written whatever comes of it.  Returns enum source_news, or -ESTALE if the file is
 * no longer the one with these bytes before `at`; or pread(2)'s; of a compressed file, unpack_error's:
 * it is damaged from here on. */
int source_read(struct source *s, struct reader *r, bool take_half, size_t want,
                struct source_chunk *ret);

/* The place before offset `at.offset <= offset <= chunk end`, as an anchor of what was read. */
struct cursor source_cursor(struct source *s, const struct reader *r,
                            const struct source_chunk *chunk, uint64_t offset);

/* A place that was found by its bytes, as it may be one of this source. */
struct cursor source_place(const struct source *s, struct cursor at);

/* Tells that the file was seen up to `end`, its end, though some of it is left to be read again. */
void source_saw_end(struct source *s, uint64_t end);

/* Reads the beginning of the file, at most `len` bytes; the source stays where it is.  Errors: as
 * source_read. */
ssize_t source_read_head(struct source *s, const struct reader *r, char *to, size_t len);

/* The place becomes the source's own. */
void source_move(struct source *s, struct cursor to);

#endif
