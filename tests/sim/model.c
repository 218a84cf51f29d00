#include "model.h"

#include "must.h"
#include "util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- lines --- */

static struct slice line_text(const struct model_line *l)
{
    return (struct slice){l->text, l->len};
}

static struct model_line *line_of(struct map_node *n)
{
    return CONTAINER_OF(n, struct model_line, node);
}

static struct model_line *line_new(struct model *m, struct slice text)
{
    struct model_line *l = calloc(1, sizeof *l);

    if (m->line_count == m->line_cap) {
        m->line_cap = MAX(2 * m->line_cap, 1024U);
        m->lines = reallocarray(m->lines, m->line_cap, sizeof(*m->lines));
    }
    MUST(l != NULL && m->lines != NULL);
    l->text = strndup(text.ptr, text.len);
    l->len = (uint32_t)text.len;
    MUST(l->text != NULL);
    m->lines[m->line_count++] = l;
    return l;
}

/* From now on it can be found by its text. */
static void line_close(struct model *m, struct model_line *l, enum model_state state)
{
    uint64_t hash = map_hash_slice(0, line_text(l));

    for (struct map_node *n = map_find(&m->by_text, hash); n != NULL; n = map_find_next(n))
        if (slice_equal(line_text(line_of(n)), line_text(l)))
            l->shared = line_of(n)->shared = true;
    MUST(map_insert(&m->by_text, &l->node, hash) == 0);
    l->closed = true;
    l->state = state;
}

static void line_reopen(struct model *m, struct model_line *l)
{
    if (!l->closed)
        return;
    map_remove(&m->by_text, &l->node);
    l->closed = false;
    l->state = MODEL_OPEN;
}

static void line_add(struct model_line *l, struct slice more)
{
    l->text = realloc(l->text, l->len + more.len + 1);
    MUST(l->text != NULL);
    memcpy(l->text + l->len, more.ptr, more.len);
    l->len += (uint32_t)more.len;
    l->text[l->len] = '\0';
}

static bool is_out(const struct model_line *l)
{
    return l->state == MODEL_NEVER || l->acknowledged > 0;
}

/* --- what can be reached --- */

static bool name_is_reached(const struct model_name *n)
{
    return n->place != MODEL_OUTSIDE;
}

static bool file_is_reached(const struct model *m, const struct model_file *f)
{
    if (m->alive && f->known)
        return true;
    for (uint32_t i = 0; i < f->name_count; i++)
        if (name_is_reached(&f->names[i]))
            return true;
    return false;
}

static bool file_is_in_globs(const struct model_file *f)
{
    for (uint32_t i = 0; i < f->name_count; i++)
        if (f->names[i].place == MODEL_GLOB || f->names[i].place == MODEL_AWAY)
            return true;
    return false;
}

static void unmark(struct model *m)
{
    for (uint32_t i = 0; i < m->line_count; i++)
        m->lines[i]->marked = m->lines[i]->held = false;
}

/* What stands behind the last newline of a file that nobody writes to any more is a line. */
static void close_half(struct model *m, struct model_file *f, bool reached)
{
    struct model_line *l = f->half ? f->lines[f->count - 1] : NULL;

    if (l == NULL || !f->retired || l->closed)
        return;
    line_close(m, l, reached && !file_is_in_globs(f) ? MODEL_MUST : MODEL_MAY);
    l->why = "a half line of a file that may be written to, or that nothing leads to";
}

/* Something was taken away: what nobody can bring any more is excused. */
static void reckon(struct model *m, const char *why)
{
    unmark(m);
    for (uint32_t i = 0; i < m->file_count; i++) {
        struct model_file *f = &m->files[i];
        bool reached = f->used && file_is_reached(m, f);

        close_half(m, f, reached);
        for (uint32_t j = 0; j < f->count; j++) {
            f->lines[j]->marked = f->lines[j]->marked || reached;
            f->lines[j]->held = f->lines[j]->held || reached || f->name_count > 0;
        }
    }
    for (uint32_t i = 0; i < m->line_count; i++) {
        struct model_line *l = m->lines[i];

        if (l->marked || (l->read && m->alive))
            continue;
        if (l->stored > 0 && l->held)
            continue; /* a file handle may lead there, and what is out may come again */
        if (l->stored > 0) {
            l->acknowledged = MAX(l->acknowledged, 1U); /* nothing is left to be sent again */
        } else if (l->state == MODEL_MUST) {
            l->state = MODEL_MAY;
            l->why = why;
        }
    }
}

/* --- files and names --- */

int model_find(const struct model *m, const char *path)
{
    for (uint32_t i = 0; i < m->file_count; i++)
        for (uint32_t j = 0; j < m->files[i].name_count; j++)
            if (strcmp(m->files[i].names[j].path, path) == 0)
                return (int)i;
    return -1;
}

uint32_t model_create(struct model *m, const char *path)
{
    uint32_t file = m->file_count++;

    MUST(file < MODEL_FILES && model_find(m, path) < 0);
    m->files[file].used = true;
    MUST(model_name(m, file, path));
    return file;
}

bool model_name(struct model *m, uint32_t file, const char *path)
{
    struct model_file *f = &m->files[file];
    struct model_name *n = &f->names[f->name_count];

    if (f->name_count == MODEL_NAMES)
        return false;
    MUST(snprintf(n->path, sizeof n->path, "%s", path) < (int)sizeof n->path);
    n->place = m->place(m->user, path);
    f->name_count++;
    return true;
}

static struct model_name *find_name(struct model *m, const char *path, struct model_file **ret)
{
    int i = model_find(m, path);

    MUST(i >= 0);
    *ret = &m->files[i];
    for (uint32_t j = 0;; j++)
        if (strcmp((*ret)->names[j].path, path) == 0)
            return &(*ret)->names[j];
}

void model_unname(struct model *m, const char *path, const char *why)
{
    struct model_file *f;
    struct model_name *n = find_name(m, path, &f);

    *n = f->names[--f->name_count];
    f->retired = f->retired || f->name_count == 0;
    reckon(m, why);
}

void model_rename(struct model *m, const char *from, const char *to, const char *why)
{
    struct model_file *f;
    struct model_name *n;

    if (model_find(m, to) >= 0)
        model_unname(m, to, why);
    n = find_name(m, from, &f);
    MUST(snprintf(n->path, sizeof n->path, "%s", to) < (int)sizeof n->path);
    n->place = m->place(m->user, to);
    reckon(m, why);
}

void model_replace(struct model *m, const char *from, const char *to, const char *why)
{
    for (uint32_t i = 0; i < m->file_count; i++)
        for (uint32_t j = 0; j < m->files[i].name_count; j++) {
            struct model_name *n = &m->files[i].names[j];
            char path[MODEL_PATH];

            if (strncmp(n->path, from, strlen(from)) != 0)
                continue;
            MUST(snprintf(path, sizeof path, "%s%s", to, n->path + strlen(from)) <
                 (int)sizeof path);
            memcpy(n->path, path, sizeof path);
            n->place = m->place(m->user, path);
        }
    reckon(m, why);
}

void model_retire(struct model *m, uint32_t file, bool retired)
{
    m->files[file].retired = retired;
    reckon(m, "");
}

void model_skip(struct model *m, uint32_t file)
{
    for (uint32_t i = 0; i < m->files[file].count; i++)
        m->files[file].lines[i]->state = MODEL_NEVER;
}

/* --- content --- */

static void file_add(struct model_file *f, struct model_line *l)
{
    if (f->count == f->cap) {
        f->cap = MAX(2 * f->cap, 64U);
        f->lines = reallocarray(f->lines, f->cap, sizeof(struct model_line *));
        MUST(f->lines != NULL);
    }
    f->lines[f->count++] = l;
}

void model_append(struct model *m, uint32_t file, struct slice bytes)
{
    struct model_file *f = &m->files[file];

    while (bytes.len > 0) {
        const char *newline = memchr(bytes.ptr, '\n', bytes.len);
        struct slice piece =
            slice_first(bytes, newline ? (size_t)(newline - bytes.ptr) : bytes.len);

        if (!f->half)
            file_add(f, line_new(m, SLICE("")));
        else
            line_reopen(m, f->lines[f->count - 1]);
        line_add(f->lines[f->count - 1], piece);
        f->half = newline == NULL;
        if (newline != NULL)
            line_close(m, f->lines[f->count - 1], MODEL_MUST);
        bytes = slice_from(bytes, piece.len + (newline != NULL));
    }
}

void model_truncate(struct model *m, uint32_t file, const char *why)
{
    struct model_file *f = &m->files[file];

    f->count = f->settled = f->shortened = 0;
    f->half = false;
    reckon(m, why);
}

/* If hardly a line is left, or one that is repeated, it looks like a header of which a new content
 * was begun: to read it again is as right as not to. */
static void allow_header(struct model_file *f)
{
    uint32_t whole = f->count - f->half, different = whole > 0;

    for (uint32_t i = 1; i < whole; i++)
        different += !slice_equal(line_text(f->lines[i - 1]), line_text(f->lines[i]));
    for (uint32_t i = 0; i < whole && different < MODEL_DIFFERENT; i++)
        f->lines[i]->allowed++;
}

void model_shorten(struct model *m, uint32_t file, uint32_t bytes, const char *why)
{
    struct model_file *f = &m->files[file];

    while (bytes > 0 && f->count > 0) {
        struct model_line *last = f->lines[f->count - 1];
        uint32_t len = last->len + !f->half, cut = MIN(bytes, len);
        struct model_line *l;

        f->count--;
        bytes -= cut;
        f->half = false;
        if (last->state == MODEL_MUST && last->stored == 0) {
            last->state = MODEL_MAY; /* also where a copy has it: who reads on here does not look */
            last->why = why;
        }
        if (cut == len)
            continue;
        l = line_new(m, slice_first(line_text(last), len - cut)); /* what was whole may have left */
        file_add(f, l);
        f->half = true;
    }
    f->settled = MIN(f->settled, f->count);
    f->shortened++;
    allow_header(f);
    reckon(m, why);
}

uint32_t model_copy(struct model *m, uint32_t file, const char *path)
{
    uint32_t to = model_create(m, path);
    const struct model_file *f = &m->files[file];

    for (uint32_t i = 0; i + f->half < f->count; i++)
        file_add(&m->files[to], f->lines[i]);
    m->files[to].settled = f->settled;
    if (f->half) {
        file_add(&m->files[to], line_new(m, line_text(f->lines[f->count - 1])));
        m->files[to].half = true;
    }
    return to;
}

/* --- the agent's life --- */

void model_began(struct model *m)
{
    m->alive = true;
    m->healthy = m->quiet = false; /* what it finds may be more than one batch holds */
}

/* How many lines must still leave. */
static uint32_t count_out(const struct model *m)
{
    uint32_t out = 0;

    for (uint32_t i = 0; i < m->line_count; i++)
        out += m->lines[i]->state == MODEL_MUST && m->lines[i]->acknowledged == 0;
    return out;
}

void model_looked(struct model *m, bool faults)
{
    uint32_t out = count_out(m);

    if (!m->alive)
        return;
    m->healthy = !faults && (m->healthy || out == 0);
    m->partial = m->partial && out > 0;
    m->quiet = m->quiet && m->healthy;
    for (uint32_t i = 0; i < m->file_count; i++) {
        struct model_file *f = &m->files[i];
        uint32_t first = f->settled;

        f->known = f->used && file_is_reached(m, f);
        if (!f->known)
            continue;
        while (first < f->count && is_out(f->lines[first]))
            first++;
        if (first == f->count) {
            f->settled = f->count;
            f->shortened = 0;
        }
        for (uint32_t j = f->settled; m->quiet && out <= m->room && j < f->count; j++)
            f->lines[j]->read = f->lines[j]->closed;
    }
    m->quiet = m->healthy && out == 0;
}

/* What of a file may arrive again: see 4.  Until it has, it is out again. */
static void allow_repeats(const struct model *m, struct model_file *f)
{
    uint32_t first = f->settled;

    while (first < f->count && is_out(f->lines[first]))
        first++;
    if (first == f->count)
        return;
    for (uint32_t i = m->partial ? f->settled : first; i < f->count; i++) {
        struct model_line *l = f->lines[i];

        l->allowed += l->acknowledged > 0;
        l->acknowledged = 0;
    }
}

void model_ended(struct model *m, bool orderly)
{
    if (!m->alive)
        return;
    for (uint32_t i = 0; i < m->file_count; i++)
        if (m->files[i].used)
            allow_repeats(m, &m->files[i]);

    /* An orderly end with a service that is well brings what is in memory and what is deleted. */
    if (orderly && m->healthy)
        for (uint32_t i = 0; i < m->file_count; i++)
            if (m->files[i].known && m->files[i].name_count == 0)
                for (uint32_t j = 0; j < m->files[i].count; j++)
                    m->files[i].lines[j]->read = true;
    if (!orderly || !m->healthy)
        m->alive = false;
    reckon(m, orderly ? "the agent was stopped while the service failed; nothing leads to it"
                      : "the agent was killed; nothing leads to it");
    m->alive = false;
    for (uint32_t i = 0; i < m->line_count; i++)
        m->lines[i]->read = false;
    for (uint32_t i = 0; i < m->file_count; i++)
        m->files[i].known = false;
}

static int rank(const struct model_line *l)
{
    return (l->acknowledged == 0) * 2 + (l->state == MODEL_MUST);
}

bool model_stored(struct model *m, struct slice record, bool unsure)
{
    struct map_node *n = map_find(&m->by_text, map_hash_slice(0, record));
    struct model_line *found = NULL;

    /* Of several with one text one that must arrive and is still out is taken for it. */
    for (; n != NULL; n = map_find_next(n)) {
        struct model_line *l = line_of(n);

        if (slice_equal(line_text(l), record) && (found == NULL || rank(l) > rank(found)))
            found = l;
    }
    if (found == NULL) {
        m->torn++;
        return false;
    }
    found->stored++;
    if (unsure)
        found->allowed++;
    else
        found->acknowledged++;
    return true;
}

/* --- the verdict --- */

struct tally {
    uint32_t must, may, stored, allowed;
};

static void tally_add(struct tally *t, const struct model_line *l)
{
    t->must += l->state == MODEL_MUST;
    t->may += l->state == MODEL_MAY;
    t->stored += l->stored;
    t->allowed += l->allowed;
}

/* A line, or all that have its text; those are counted with the first of them only. */
static bool tally(const struct model *m, struct model_line *l, struct tally *ret)
{
    struct map_node *n = map_find(&m->by_text, l->node.hash);

    *ret = (struct tally){0};
    if (!l->closed)
        return false;
    if (!l->shared) {
        tally_add(ret, l);
        return true;
    }
    for (bool first = true; n != NULL; n = map_find_next(n)) {
        if (!slice_equal(line_text(line_of(n)), line_text(l)))
            continue;
        if (first && line_of(n) != l)
            return false;
        first = false;
        tally_add(ret, line_of(n));
    }
    return true;
}

uint32_t model_lost(const struct model *m, const struct model_line **ret)
{
    uint32_t lost = 0;
    struct tally t;

    for (uint32_t i = 0; i < m->line_count; i++) {
        if (!tally(m, m->lines[i], &t) || t.stored >= t.must)
            continue;
        if (lost == 0)
            *ret = m->lines[i];
        lost += t.must - t.stored;
    }
    return lost;
}

uint32_t model_twice(const struct model *m, const struct model_line **ret)
{
    uint32_t twice = 0;
    struct tally t;

    for (uint32_t i = 0; i < m->line_count; i++) {
        if (!tally(m, m->lines[i], &t) || t.stored <= t.must + t.may + t.allowed)
            continue;
        if (twice == 0)
            *ret = m->lines[i];
        twice += t.stored - t.must - t.may - t.allowed;
    }
    return twice;
}

/* --- life --- */

void model_init(struct model *m)
{
    *m = (struct model){.room = 400};
}

void model_done(struct model *m)
{
    for (uint32_t i = 0; i < m->line_count; i++) {
        free(m->lines[i]->text);
        free(m->lines[i]);
    }
    for (uint32_t i = 0; i < m->file_count; i++)
        free(m->files[i].lines);
    free(m->lines);
    map_done(&m->by_text);
}
