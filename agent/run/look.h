/* look -- what has become of a place that the store knows: is its file there, and does it hold?
 *
 *   1. Looks only: a file is opened for reading, and nothing of it is kept or shown.
 *   2. What was looked at may be otherwise at once: a running agent goes on meanwhile.
 *
 * Threads: any.  Blocks as open(2), pread(2) and readdir(3) do. */
#ifndef LOOK_H
#define LOOK_H

#include "cursor.h"
#include "slice.h"
#include "source_id.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

struct digest;

enum look_state {
    LOOK_OK,         /* read to its end */
    LOOK_BEHIND,     /* there is more */
    LOOK_GONE,       /* nothing has this name */
    LOOK_REPLACED,   /* another file has it, or the file was truncated and written anew */
    LOOK_UNREADABLE, /* we may not look */
};

struct look {
    enum look_state state;
    int error;      /* UNREADABLE: -errno */
    bool same_file; /* REPLACED: it is the file, but its content is another */
    bool shortened; /* … it was cut, and what is left is as it was, up to `resumes` */
    uint64_t size;  /* OK, BEHIND, and where same_file: in bytes */
    uint64_t resumes;
};

/* The word for a state, as --json says it. */
const char *look_word(enum look_state state);

/* Looks at the file that is called so now. */
void look_at(struct digest *d, const char *path, const struct source_id *id,
             const struct cursor *at, struct look *ret);

/* The directory that was listed last: many files of one may be missing.  The zero value is none. */
struct look_dir {
    char path[PATH_MAX];
    struct look_entry *by_name, *by_ino; /* owns; count of them each */
    size_t count;
};

/* Looks in the directory of `path` for the file under another name, or for a copy of it; true: it
 * is *ret_path.  What cannot be listed has nothing in it. */
bool look_beside(struct digest *d, struct look_dir *dir, const char *path,
                 const struct source_id *id, const struct cursor *at, char ret_path[PATH_MAX]);
void look_dir_done(struct look_dir *dir);

/* Which file is called so now.  Errors: open(2)'s; -EISDIR, -EINVAL if it is no regular file. */
int look_identify(struct digest *d, const char *path, struct source_id *ret);

/* Where a line begins at or before `offset`, and where the next one begins behind it; *ret_after is
 * UINT64_MAX if none does.  Errors: pread(2)'s. */
int look_lines(int fd, uint64_t offset, uint64_t *ret_before, uint64_t *ret_after);

#endif
