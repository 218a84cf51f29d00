/* checkpoint -- how far each source is safely delivered, remembered across restarts.
 *
 *   1. An offset on disk never exceeds the settled prefix of its source (the caller's promise).
 *   2. A fact is read back whole or not at all; a torn tail is cut, and costs only duplicates.
 *   3. A start is never refused because of what the files contain; damage is counted, and what
 *      cannot be read at all is moved aside, not deleted.
 *   4. The previous generation stays until the next one is durable, and one longer, unless its room
 *      is needed for rule 6.
 *   5. After a failed write or sync nothing more goes to that file: a new generation is written.
 *   6. Beside the generations there is a reserve (keep/reserve.h).  When the disk is full it becomes
 *      the next generation, with room for what comes behind its snapshot; from the room of the one
 *      that it replaces a new reserve is made.  So places are remembered for as long as the disk is
 *      full, with as much room as there was at its beginning.
 *
 * The store is a directory of generations, NNNNNNNNNN.journal.  Each is text, one fact a line, and
 * begins with a snapshot of all facts; later facts follow.  Facts are absolute, so reading one
 * twice is harmless:
 *
 *     kinetail-checkpoint 1 STORE GENERATION              a random number; 1 is the format
 *     flow NAME                                           a flow that has run
 *     file KEY FLOW DEV INO BORN HANDLE HEAD PATH         a source; HANDLE type:hex, HEAD len:hash
 *     at KEY OFFSET ANCHOR [BACK:HASH ...]                it is settled up to here; its rungs
 *     gone KEY                                            it will not come back
 *     seen NS                                             what stands above was so then
 *     spool SERIAL NAME                                   what its frames up to there say is known here
 *     partial                                             damage was found: this is not all …
 *     whole                                               … but now it is: all files were looked at
 *
 * Names are percent-encoded; hashes are hexadecimal.  Every line ends in the CRC32C of the line up
 * to there, seeded with STORE and GENERATION, so that a stale block cannot pass for a fact.
 *
 * Written at once, synced in a while: checkpoint_write hands the facts to the kernel, which keeps
 * them through a kill -9; checkpoint_job makes them durable against a power cut.
 *
 * Threads: one lane; only checkpoint_job_run may run elsewhere.  Blocks: checkpoint_open and
 * checkpoint_job_run. */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include "cursor.h"
#include "slice.h"
#include "source_id.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct checkpoint;
struct checkpoint_slot; /* one source's place in the store */
struct disk;

/* What was found at the start. */
struct checkpoint_report {
    bool fresh;              /* nothing was there: a first start */
    uint64_t facts, damaged; /* lines that held, and that did not (a torn last line not counted) */
    uint32_t moved_aside;    /* generations that could not be read at all */
    bool partial;       /* … now, or by a start that ended before it had looked at all files */
    int error;          /* 0, or why the new generation could not be written yet */
    int64_t written_ns; /* since 1970: when what was read was so at last; 0: never */
};

/* Reads the newest whole generation in the directory and begins a new one with what it says.
 * Borrows `disk` and `dir_fd` until checkpoint_close.  The caller holds the store's lock.  A new
 * generation that cannot be written (a full disk) does not stop the start: report.error says why,
 * and checkpoint_job tries again.  Errors: open(2)'s, read(2)'s; -ENOTSUP if the store was
 * written by a newer version in a format this one does not know; -ENOMEM. */
int checkpoint_open(const struct disk *disk, int dir_fd, struct checkpoint **ret,
                    struct checkpoint_report *ret_report);

/* Reads the newest whole generation and touches nothing, also beside an agent that writes to it:
 * report.moved_aside counts what was passed over.  What it gives is for looking at, and must not be
 * written.  Errors: as checkpoint_open's. */
int checkpoint_read(const struct disk *disk, int dir_fd, struct checkpoint **ret,
                    struct checkpoint_report *ret_report);

/* The same, one by one: which generations there are, newest first (gives *ret, to be freed), and what
 * one of them says.  Errors: -EBADMSG if it is none at all; -ENOENT if it was deleted meanwhile. */
int checkpoint_generations(const struct disk *disk, int dir_fd, uint64_t **ret, size_t *ret_count);
int checkpoint_read_generation(const struct disk *disk, int dir_fd, uint64_t generation,
                               struct checkpoint **ret, struct checkpoint_report *ret_report);

/* Makes an opened store say that it was last written then: the next start takes for new what came
 * since, so it must not be later than the last look at the files.  Errors: futimens(2)'s; -EBADF if there is
 * no generation that may be written. */
int checkpoint_backdate(struct checkpoint *c, int64_t written_ns);

/* Writes nothing: what is not written yet is not known at the next start.  No job may be running.
 * NULL is fine. */
void checkpoint_close(struct checkpoint *c);

/* Notes, after all files were looked at and joined: what damage has taken is known again.  Until that
 * is written, every start is told that the store is partial. */
void checkpoint_complete(struct checkpoint *c);

/* Whether this flow has run before; and makes it known from now on.  Errors: -ENOMEM. */
bool checkpoint_knows_flow(const struct checkpoint *c, struct slice flow);
int checkpoint_add_flow(struct checkpoint *c, struct slice flow);

/* Walks the sources that were read back or joined: NULL begins, NULL ends. */
struct checkpoint_slot *checkpoint_next(struct checkpoint *c, struct checkpoint_slot *slot);

/* What is known of a source; borrowed until the slot leaves or is described anew.  The path is put
 * together in `to`, with a zero behind it. */
struct slice checkpoint_flow(const struct checkpoint_slot *s);
struct slice checkpoint_path(const struct checkpoint_slot *s, char to[PATH_MAX]);
const struct source_id *checkpoint_id(const struct checkpoint_slot *s);
struct cursor checkpoint_cursor(const struct checkpoint_slot *s);

/* Makes room for a source.  Errors: -ENOMEM; -ENAMETOOLONG if the path has PATH_MAX bytes. */
int checkpoint_join(struct checkpoint *c, struct slice flow, struct slice path,
                    const struct source_id *id, struct cursor at, struct checkpoint_slot **ret);

/* Notes in memory that a source is called otherwise or that its head has grown.  Errors: as
 * checkpoint_join's, and then nothing has changed. */
int checkpoint_describe(struct checkpoint *c, struct checkpoint_slot *s, struct slice path,
                        const struct source_id *id);

/* Notes in memory how far a source is settled.  Cannot fail. */
void checkpoint_note(struct checkpoint *c, struct checkpoint_slot *s, struct cursor at);

/* Notes that a source is gone for good; the slot must not be used any more. */
void checkpoint_leave(struct checkpoint *c, struct checkpoint_slot *s);

/* --- facts that travel with what is spooled: how far sources are settled once that is durable --- */

/* Appends to `to` that the source is settled up to `at`.  Errors: -ENOMEM, -EMSGSIZE. */
int checkpoint_tell(const struct checkpoint_slot *s, struct cursor at, struct buf *to);

/* Notes what checkpoint_tell has told, in this run or another: a source that is unknown becomes
 * known, and no place goes back.  Errors: -EBADMSG if it is not that; -ENOMEM. */
int checkpoint_learn(struct checkpoint *c, struct slice facts);

/* The serial of the last frame of that spool whose facts are noted; 0: of none.  Noting: -ENOMEM. */
uint64_t checkpoint_spool(const struct checkpoint *c, struct slice name);
int checkpoint_note_spool(struct checkpoint *c, struct slice name, uint64_t serial);

/* Says up to when (ns since 1970) every file that was there is among the notes: the next start takes for
 * new what is younger.  INT64_MAX, and as long as nothing was said: up to now.  0: not known. */
void checkpoint_sure(struct checkpoint *c, int64_t ns);

/* Whether there are notes that checkpoint_write has not written yet. */
bool checkpoint_is_dirty(const struct checkpoint *c);

/* Hands all notes to the kernel: one write.  On failure the notes are kept.
 * Errors: write(2)'s, -ENOMEM. */
int checkpoint_write(struct checkpoint *c);

/* How often the disk was so full that the reserve had to be used. */
uint64_t checkpoint_reserve_uses(const struct checkpoint *c);

/* Whether something is written that is not durable, or the generation wants to be compacted. */
bool checkpoint_wants_job(const struct checkpoint *c);

/* The work that blocks, in three steps: begin and end on the lane, run on any thread.  No second
 * job may begin before the first has ended; notes and writes go on meanwhile.
 * checkpoint_job_begin: -ENOMEM.  checkpoint_job_end: the errors of the job; it is tried again by
 * the next one, with a new generation. */
int checkpoint_job_begin(struct checkpoint *c);
void checkpoint_job_run(struct checkpoint *c);
int checkpoint_job_end(struct checkpoint *c);

#endif
