/* sheet -- the text of one configuration file, with everything it includes, ready for libconfig.
 *
 *   1. The text ends with a newline and a zero, and has no other zero.
 *   2. There is no @include left in it: included files are spliced in where they were named, and
 *      every line remembers where it came from.
 *   3. Only regular files of at most SHEET_FILE_MAX bytes are read; nothing here waits for a
 *      FIFO or a terminal.
 *   4. What libconfig 1.5 would misread in silence, or suffer from, is a mistake before it sees
 *      it (see sheet.c).
 *
 * Errors: 0; -EINVAL if there is no text to go on with; -ENOMEM.  The caller counts the mistakes:
 * one that hides nothing else, such as a zero byte in a text, is added and the result is 0. Blocks:
 * on reading files. */
#ifndef SHEET_H
#define SHEET_H

#include "buf.h"
#include "slice.h"

#include <stdbool.h>
#include <stddef.h>

struct config_mistakes;

enum {
    SHEET_FILE_MAX = 1024 * 1024,
    SHEET_TEXT_MAX = 4 * SHEET_FILE_MAX,
    SHEET_FILES_MAX = 100,
    SHEET_INCLUDES_MAX = 8,    /* inside each other; also ends a file that includes itself */
    SHEET_NESTING_MAX = 16,    /* brackets inside each other; we need 5 */
    SHEET_SETTINGS_MAX = 2000, /* in one group: libconfig compares each with each */
};

struct sheet_file {
    char *name;   /* owns */
    bool exposed; /* the group or others may read it */
};

struct sheet_mark { /* from this line of the text on, it is that line of that file */
    unsigned text_line;
    size_t file;
    unsigned file_line;
};

struct sheet {
    struct buf text;
    struct sheet_file *files; /* owns */
    struct sheet_mark *marks; /* owns; in the order of the text */
    size_t file_count, mark_count;
};

struct sheet_place { /* borrows from the sheet */
    const char *file;
    unsigned line;
    bool exposed;
};

/* Reads a file.  Gives *ret, for sheet_done.  Errors: if it cannot be opened, open(2)'s, also
 * as a mistake. */
int sheet_read(const char *path, struct sheet *ret, struct config_mistakes *m);

/* Takes a copy of a text that is in no file.  An @include in it is a mistake. */
int sheet_copy(struct slice text, const char *name, struct sheet *ret, struct config_mistakes *m);

/* Where a line of the text was written. */
struct sheet_place sheet_place(const struct sheet *s, unsigned text_line);

/* The last line, up to `text_line`, with a quote in it; `text_line` if there is none. */
unsigned sheet_text_before(const struct sheet *s, unsigned text_line);

void sheet_done(struct sheet *s); /* wipes the text: there may be secrets in it */

#endif
