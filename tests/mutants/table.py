"""The mutants: what is taken away from which file, and what would come of it.

Each row: the file, the text that stands there, what stands there instead, and what then goes wrong; `units`
are the unit tests that may notice it where the crash simulation cannot see it, as no crash brings it about;
`large`: only stories with a large journal tell of it.
"""

from collections import namedtuple

Mutant = namedtuple("Mutant", "file old new why units large", defaults=((), False))

CHECKPOINT = "agent/keep/checkpoint.c"
FACTS = "agent/keep/facts.c"
STATE = "agent/keep/state.c"
SPOOL = "agent/keep/spool.c"
FORMAT = "agent/keep/spool_format.c"
JOB = "agent/keep/spool_job.c"
READ = "agent/keep/spool_read.c"
START = "agent/keep/spool_start.c"

MUTANTS = [
    # --- the checkpoint: a generation that appears ---
    Mutant(CHECKPOINT, "        r = d->sync(d, fd);\n", "        r = 0;\n",
           "a generation gets its name before its content is durable"),
    Mutant(CHECKPOINT, "        r = d->sync_dir(d, dir_fd);\n", "        r = 0;\n",
           "the one before goes before the new one's name is durable"),
    Mutant(CHECKPOINT, '    (void)snprintf(temp, sizeof temp, ".%s.new", name);\n',
           '    (void)snprintf(temp, sizeof temp, "%s", name);\n',
           "a generation has its name while it is being written"),
    Mutant(CHECKPOINT, "        (void)d->unlink(d, dir_fd, name);  /* not sure to stay", "        /* not sure to stay",
           "one that failed stays, and is newer than the one that is written", (), True),
    Mutant(CHECKPOINT, "        drop_older(c, &found);\n", "",
           "older generations stay for ever"),
    Mutant(CHECKPOINT, "    r = publish(\n        disk, dir_fd,\n", "    drop_older(c, &found);\n    r = publish(\n        disk, dir_fd,\n",
           "older generations go before the next one is durable"),
    Mutant(CHECKPOINT, "    if (getrandom(&store, sizeof store, GRND_NONBLOCK) == (ssize_t)sizeof store && store != 0)\n",
           "    if (last != 0)\n        return last;\n"
           "    if (getrandom(&store, sizeof store, GRND_NONBLOCK) == (ssize_t)sizeof store && store != 0)\n",
           "a generation that is begun twice has one seed: stale blocks of the first pass for its facts", ("checkpoint",)),
    Mutant(CHECKPOINT, "    return x < y ? 1 : x > y ? -1 : 0; /* newest first */", "    return x < y ? -1 : x > y ? 1 : 0;",
           "the oldest generation is read"),

    # --- the checkpoint: the journal ---
    Mutant(CHECKPOINT, "        c->job.result = c->disk->sync(c->disk, c->job.fd);\n", "        c->job.result = 0;\n",
           "what is written is never synced"),
    Mutant(CHECKPOINT, "        /* Part of it may be there; whatever came behind would be glued to the torn line. */\n"
           "        c->broken = true;\n", "",
           "a write goes on behind one that failed in the middle of a line"),
    Mutant(CHECKPOINT, "PostgreSQL findings of 2018). */\n    if (r < 0) {\n        c->broken = true;\n", "*/\n    if (r < 0) {\n",
           "a sync that failed is tried again on the same file"),
    Mutant(CHECKPOINT, "    r = c->disk->sync(c->disk, fd);\n    if (r == 0)\n        r = c->disk->sync_dir(c->disk, c->dir_fd);\n", "    r = c->disk->sync_dir(c->disk, c->dir_fd);\n",
           "a generation goes on on a full disk, and what a killed run wrote to it is not durable"),
    Mutant(CHECKPOINT, "        if (s->touched)\n            slot_note(c, s);\n", "",
           "what was noted while a generation was written is not in it", ("checkpoint",)),
    Mutant(CHECKPOINT, "    take_notes_down(c, c->job.kind == CHECKPOINT_JOB_COMPACT);\n", "    take_notes_down(c, false);\n",
           "a source that left while a generation was written is in it for ever", ("checkpoint",)),
    Mutant(CHECKPOINT, "        bool whole = v->bad_in_a_row == 0 && v->report->damaged == 0;\n", "        bool whole = true;\n",
           "a spool's serial counts though the places that it speaks of are lost"),
    Mutant(CHECKPOINT, "    if (r >= 0)\n        forget_unplaced(v);\n", "",
           "a source whose place is lost is read from its beginning"),
    Mutant(CHECKPOINT, "        report->written_ns = MIN(report->written_ns, v.seen_ns);\n", "        (void)0;\n",
           "what a crash has taken back counts as the last word"),

    # --- the checkpoint: its lines ---
    Mutant(FACTS, "want != crc32c(seed, line->ptr, line->len) ||", "(want ^ seed) == UINT64_MAX ||",
           "a line's checksum is not compared"),
    Mutant(FACTS, "    return crc32c(0, text, (size_t)n);\n", "    return (uint32_t)(n & 0);\n",
           "all generations have one seed: facts of another one pass"),
    Mutant(STATE, "        (void)disk->sync_dir(disk, dir_fd); /* also", "        (void)0; /* also",
           "the checkpoint's directory loses its name"),

    # --- the spool: writing ---
    Mutant(JOB, "    if (r == 0)\n        r = s->disk->sync(s->disk, s->fd);\n", "",
           "a frame is called durable and was not synced"),
    Mutant(JOB, "    if (r == 0 && j->begins)\n        r = s->disk->sync_dir(s->disk, j->dir_fd);\n", "",
           "a segment's name is not durable"),
    Mutant(START, "(r = s->disk->sync_dir(s->disk, outer)) == 0", "r == 0",
           "the destination's directory loses its name"),
    Mutant(START, "        r = s->disk->sync_dir(s->disk, s->state_dir_fd);\n", "        r = 0;\n",
           "the spool's directory loses its name"),
    Mutant(JOB, "        j->header.before_end = last->end;\n", "        j->header.before_end = 0;\n",
           "a segment does not say where the one before it ends: a frame that failed may pass", ("spool",)),
    Mutant(JOB, "        if (s->disk->truncate(s->disk, s->fd, j->head.at) == 0)\n            j->segment_size = j->head.at;\n",
           "", "a frame that failed is not cut off", ("spool",)),
    Mutant(JOB, "    if (r < 0) {\n        abandon(s);\n", "    if (r < 0) {\n        (void)abandon;\n",
           "a frame is written behind one that failed"),
    Mutant(SPOOL, "    return MAX(seed, 1U);\n", "    return 1;\n",
           "all segments have one seed: stale blocks of one that was not finished pass for its frames", ("spool",)),

    Mutant(START, "    drop_stale(s, index);\n", "",
           "a stale header of a segment that is gone voids the frames of the one before it", ("spool",)),

    # --- the spool: acknowledgements, and segments that leave ---
    Mutant(JOB, "        r = s->disk->sync(s->disk, fd);\n        (void)s->disk->close(s->disk, fd);\n        if (r < 0)\n            return r;\n    }\n    return j->sync_count",
           "        (void)s->disk->close(s->disk, fd);\n    }\n    return j->sync_count",
           "acknowledgements are never synced"),
    Mutant(JOB, "    return j->sync_count > 0 ? s->disk->sync_dir(s->disk, j->dir_fd) : 0;\n", "    return 0;\n",
           "the name of a file of acknowledgements is not durable"),
    Mutant(JOB, "        if (!g->ack_unsynced)\n", "        if (!g->ack_unsynced || may_leave(s, i))\n",
           "a segment leaves before its acknowledgements are durable, and is said to be missing"),
    Mutant(JOB, "        if (!may_leave(s, i))\n            return;\n", "        if (!may_leave(s, i))\n            continue;\n",
           "a segment leaves from the middle, and is said to be missing"),
    Mutant(JOB, "    return index + 1 < s->count && (g->dropped", "    return (g->dropped",
           "the last segment leaves, and the numbers begin anew"),
    Mutant(JOB, "        if (r == 0 || r == -ENOENT)\n            r = s->disk->sync_dir(s->disk, j->dir_fd);\n", "",
           "a segment's acknowledgements go before its name has"),
    Mutant(JOB, "    r = sync_last_segment(s);\n", "    r = 0;\n",
           "segments leave before the last one is durable: all are said to be missing"),
    Mutant(START, "        spool_mark_acks(s, g, g->ack_size > 0 && !s->read_only);\n", "",
           "what a killed run has acknowledged is never synced"),
    Mutant(START, "        s->next_number = g->number; /* or", "        (void)0; /* or",
           "a segment that was never finished leaves a hole in the numbers"),
    Mutant(FORMAT, "            get32(p + ACK_CRC) == crc32c(seed, p, ACK_CRC)) {", "            seed != UINT32_MAX) {",
           "an acknowledgement's checksum is not compared: a frame is taken for done"),

    # --- the spool: reading ---
    Mutant(FORMAT, "    if (memcmp(from, segment_magic, 8) != 0 ||\n        get32(from + HEADER_CRC) != crc32c(0, from, HEADER_CRC))\n",
           "    if (memcmp(from, segment_magic, 8) != 0)\n",
           "a segment's checksum is not compared"),
    Mutant(READ, "    return r == 1 ? crc == ret->crc : r;\n}\n\nint spool_check_payload", "    return r;\n}\n\nint spool_check_payload",
           "a frame's head's checksum is not compared when frames are looked for", ("spool",)),
    Mutant(FORMAT, "    if (h.crc != crc32c(spool_head_crc(frame.ptr, seed), facts.ptr, facts.len) ||\n"
           "        h.payload_crc != crc32c(seed, payload.ptr, payload.len))\n        return false;\n", "",
           "a frame is given out and was not checked", ("spool",)),
    Mutant(FORMAT, "h.payload_crc != crc32c(seed, payload.ptr, payload.len))", "payload.len == 0)",
           "a frame's payload is given out and was not checked", ("spool",)),
    Mutant(START, "        r = spool_check_payload(s, fd, g, &found);\n", "        r = 1;\n",
           "the last frame counts though its payload is torn: its serial is passed over", ("spool",)),
    Mutant(READ, "        if (r == 1 && ret->serial > after && ret->serial < limit &&\n",
           "        if (r == 1 && ret->serial > after &&\n",
           "a frame that failed is given out, and the one that was put in its place", ("spool",)),
    Mutant(START, "    g->end = known != 0 ? known : end;\n", "    g->end = end;\n",
           "a segment does not end where the next one says", ("spool",)),
    Mutant(START, "    if (h.owner != s->owner)\n        return VERDICT_FOREIGN;\n", "",
           "another destination's segment is given out", ("spool",)),

    # --- the spool: its facts ---
    Mutant(START, "    r = s->disk->sync(s->disk, fd);\n    (void)s->disk->close(s->disk, fd);\n    return r;\n", "    (void)s->disk->close(s->disk, fd);\n    return 0;\n",
           "a frame that only the kernel has counts, and the checkpoint passes its lines"),
    Mutant(READ, "    r = spool_sync_tail(s, s->dir_fd, s->segments[s->count - 1].number);\n    if (r == 0)\n        r = s->disk->sync_dir(s->disk, s->dir_fd);\n",
           "    r = spool_sync_tail(s, s->dir_fd, s->segments[s->count - 1].number);\n",
           "a segment whose name only the kernel has counts, and the checkpoint passes its lines"),
    Mutant(READ, "        r = is_last ? sync_last(s) : 0;\n", "        r = 0;\n",
           "nothing of a killed run is synced before its facts count"),
    Mutant(READ, "        r = h.serial == *next ? load_frame(s, fd, g, &h, &f) : 0;\n",
           "        *next = h.serial;\n        r = load_frame(s, fd, g, &h, &f);\n",
           "facts are learned behind a frame that is missing", ("spool",)),
]
