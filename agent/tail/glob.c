#include "tail/glob.h"

#include "util.h"

#include <assert.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

enum glob_kind { GLOB_LITERAL, GLOB_WILD, GLOB_ANY_DEPTH };

struct glob_part {
    enum glob_kind kind;
    char *text; /* owns; a literal is unescaped */
};

struct glob_pattern {
    struct glob_part *parts; /* owns */
    size_t count;
};

struct glob {
    struct glob_pattern *patterns; /* owns */
    size_t count;
};

/* --- braces --- */

/* Past the character at `i`, a backslash taking the next one along. */
static size_t glob_step(struct slice s, size_t i)
{
    return s.ptr[i] == '\\' && i + 1 < s.len ? i + 2 : i + 1;
}

/* The first character of `which` outside brackets and escapes, from `i` on; len if there is none. */
static size_t glob_find(struct slice s, size_t i, const char *which)
{
    while (i < s.len && strchr(which, s.ptr[i]) == NULL) {
        if (s.ptr[i] == '[') {
            size_t end = i + 1;
            while (end < s.len && (s.ptr[end] != ']' || end == i + 1))
                end = glob_step(s, end);
            if (end < s.len)
                i = end;
        }
        i = glob_step(s, i);
    }
    return MIN(i, s.len);
}

static int glob_add(struct glob *g, struct slice text);

/* Expands the alternatives of the brace at `open` and adds what comes out. */
static int glob_expand(struct glob *g, struct slice s, size_t open)
{
    size_t from = open + 1, depth = 1, close = open, i;
    int r = 0;

    while (depth > 0) {
        close = glob_find(s, close + 1, "{}");
        if (close == s.len)
            return -EINVAL;
        depth += s.ptr[close] == '{' ? 1 : (size_t)-1;
    }
    for (i = from, depth = 0; r == 0; i++) {
        char *text;
        size_t n;

        i = glob_find(s, i, "{},");
        if (i < close && s.ptr[i] == '{')
            depth++;
        else if (i < close && s.ptr[i] == '}')
            depth--;
        if (i < close && (depth > 0 || s.ptr[i] != ','))
            continue;

        /* s[from..i) is one alternative. */
        text = malloc(s.len);
        if (text == NULL)
            return -ENOMEM;
        memcpy(text, s.ptr, open);
        memcpy(text + open, s.ptr + from, i - from);
        n = open + (i - from);
        memcpy(text + n, s.ptr + close + 1, s.len - close - 1);
        n += s.len - close - 1;
        r = glob_add(g, (struct slice){text, n});
        free(text);
        if (i == close)
            break;
        from = i + 1;
    }
    return r;
}

/* --- patterns --- */

static void glob_unescape(char *text)
{
    char *to = text;

    for (; *text != '\0'; text++) {
        if (*text == '\\' && text[1] != '\0')
            text++;
        *to++ = *text;
    }
    *to = '\0';
}

static int glob_part(struct slice s, struct glob_part *ret)
{
    struct glob_part p = {.text = strndup(s.ptr, s.len)};

    if (p.text == NULL)
        return -ENOMEM;
    if (slice_equal(s, SLICE("**")))
        p.kind = GLOB_ANY_DEPTH;
    else if (strpbrk(p.text, "*?[") != NULL)
        p.kind = GLOB_WILD;
    else
        glob_unescape(p.text);
    *ret = p;
    return 0;
}

static void glob_pattern_done(struct glob_pattern *p)
{
    for (size_t i = 0; i < p->count; i++)
        free(p->parts[i].text);
    free(p->parts);
}

/* Cuts a pattern without braces into its parts; empty ones ("//") do not count. */
static int glob_cut(struct slice s, struct glob_pattern *ret)
{
    struct glob_pattern p = {.parts = calloc(s.len, sizeof(struct glob_part))};
    int r = 0;

    if (p.parts == NULL)
        return -ENOMEM;
    while (s.len > 0 && r == 0) {
        size_t end = glob_find(s, 0, "/");

        if (end > 0) {
            r = glob_part(slice_first(s, end), &p.parts[p.count]);
            p.count += r == 0;
        }
        s = slice_from(s, MIN(end + 1, s.len));
    }
    if (r == 0 && (p.count == 0 || p.count >= UINT16_MAX))
        r = -EINVAL;
    if (r < 0)
        glob_pattern_done(&p);
    else
        *ret = p;
    return r;
}

static int glob_add(struct glob *g, struct slice text)
{
    size_t brace = glob_find(text, 0, "{");
    struct glob_pattern *more;
    int r;

    if (brace < text.len)
        return glob_expand(g, text, brace);
    if (g->count == GLOB_PATTERNS_MAX)
        return -E2BIG;
    more = reallocarray(g->patterns, g->count + 1, sizeof(*more));
    if (more == NULL)
        return -ENOMEM;
    g->patterns = more;
    r = glob_cut(text, &g->patterns[g->count]);
    if (r == 0)
        g->count++;
    return r;
}

int glob_new(char *const *patterns, size_t count, struct glob **ret)
{
    struct glob *g = calloc(1, sizeof *g);

    if (g == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int r = patterns[i][0] == '/' ? glob_add(g, slice_of(patterns[i])) : -EINVAL;
        if (r < 0) {
            glob_free(g);
            return r;
        }
    }
    *ret = g;
    return 0;
}

void glob_free(struct glob *g)
{
    if (g == NULL)
        return;
    for (size_t i = 0; i < g->count; i++)
        glob_pattern_done(&g->patterns[i]);
    free(g->patterns);
    free(g);
}

/* --- walking --- */

static const struct glob_part *glob_part_at(const struct glob *g, struct glob_state s)
{
    return &g->patterns[s.pattern].parts[s.part];
}

static bool glob_is_last(const struct glob *g, struct glob_state s)
{
    return s.part + 1U == g->patterns[s.pattern].count;
}

static void glob_states_add(const struct glob *g, struct glob_states *to, struct glob_state s)
{
    for (size_t i = 0; i < to->count; i++)
        if (to->at[i].pattern == s.pattern && to->at[i].part == s.part)
            return;
    to->at[to->count++] = s;

    /* "**" may be no directory at all: then what follows it is due here already. */
    if (glob_part_at(g, s)->kind == GLOB_ANY_DEPTH && !glob_is_last(g, s))
        glob_states_add(g, to, (struct glob_state){s.pattern, (uint16_t)(s.part + 1)});
}

/* Room for every state there can be: each pattern at each of its parts. */
static struct glob_states *glob_states_new(const struct glob *g)
{
    size_t most = 0;

    for (size_t i = 0; i < g->count; i++)
        most += g->patterns[i].count;
    return calloc(1, sizeof(struct glob_states) + most * sizeof(struct glob_state));
}

/* Gives the room back that was not needed: there is one of these per directory. */
static struct glob_states *glob_states_shrink(struct glob_states *s)
{
    struct glob_states *smaller =
        realloc(s, sizeof(struct glob_states) + s->count * sizeof(struct glob_state));

    if (smaller == NULL)
        return s; /* it is still there, only larger */
    return smaller;
}

int glob_root(const struct glob *g, struct glob_states **ret)
{
    struct glob_states *s = glob_states_new(g);

    if (s == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < g->count; i++)
        glob_states_add(g, s, (struct glob_state){(uint16_t)i, 0});
    *ret = glob_states_shrink(s);
    return 0;
}

static bool glob_part_matches(const struct glob_part *p, const char *name)
{
    switch (p->kind) {
    case GLOB_LITERAL:
        return strcmp(p->text, name) == 0;
    case GLOB_WILD:
        return fnmatch(p->text, name, FNM_PERIOD) == 0;
    case GLOB_ANY_DEPTH:
        return name[0] != '.';
    }
    return false;
}

int glob_enter(const struct glob *g, const struct glob_states *states, const char *name,
               struct glob_states **ret)
{
    struct glob_states *s = glob_states_new(g);

    if (s == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < states->count; i++) {
        struct glob_state at = states->at[i];
        const struct glob_part *part = glob_part_at(g, at);

        if (!glob_part_matches(part, name))
            continue;
        if (part->kind == GLOB_ANY_DEPTH)
            glob_states_add(g, s, at);
        else if (!glob_is_last(g, at))
            glob_states_add(g, s, (struct glob_state){at.pattern, (uint16_t)(at.part + 1)});
    }
    if (s->count == 0) {
        free(s);
        *ret = NULL;
        return 0;
    }
    *ret = glob_states_shrink(s);
    return 0;
}

bool glob_matches(const struct glob *g, const struct glob_states *states, const char *name)
{
    for (size_t i = 0; i < states->count; i++)
        if (glob_is_last(g, states->at[i]) &&
            glob_part_matches(glob_part_at(g, states->at[i]), name))
            return true;
    return false;
}

bool glob_has_files(const struct glob *g, const struct glob_states *states)
{
    for (size_t i = 0; i < states->count; i++)
        if (glob_is_last(g, states->at[i]))
            return true;
    return false;
}

bool glob_needs_list(const struct glob *g, const struct glob_states *states)
{
    for (size_t i = 0; i < states->count; i++)
        if (glob_part_at(g, states->at[i])->kind != GLOB_LITERAL)
            return true;
    return false;
}

const char *glob_literal(const struct glob *g, const struct glob_states *states, size_t i,
                         bool *ret_is_last)
{
    const struct glob_part *p = glob_part_at(g, states->at[i]);

    *ret_is_last = glob_is_last(g, states->at[i]);
    return p->kind == GLOB_LITERAL ? p->text : NULL;
}

/* --- excludes --- */

struct glob_excludes {
    struct glob *names; /* patterns without a slash, kept as "/pattern" */
    struct glob *paths;
};

void glob_excludes_free(struct glob_excludes *x)
{
    if (x == NULL)
        return;
    glob_free(x->names);
    glob_free(x->paths);
    free(x);
}

static int glob_excludes_add(struct glob_excludes *x, const char *pattern)
{
    char *rooted;
    int r;

    if (strchr(pattern, '/') != NULL)
        return glob_add(x->paths, slice_of(pattern));
    if (asprintf(&rooted, "/%s", pattern) < 0)
        return -ENOMEM;
    r = glob_add(x->names, slice_of(rooted));
    free(rooted);
    return r;
}

int glob_excludes_new(char *const *patterns, size_t count, struct glob_excludes **ret)
{
    struct glob_excludes *x = calloc(1, sizeof *x);
    int r;

    if (x == NULL)
        return -ENOMEM;
    (void)((r = glob_new(NULL, 0, &x->names)) < 0 || (r = glob_new(NULL, 0, &x->paths)) < 0);
    for (size_t i = 0; i < count && r == 0; i++)
        r = glob_excludes_add(x, patterns[i]);
    if (r < 0)
        glob_excludes_free(x);
    else
        *ret = x;
    return r;
}

/* Walks the path's components; true if a pattern ends with the last one. */
static bool glob_matches_path(const struct glob *g, const char *path)
{
    struct glob_states *at, *next;
    bool match = false;

    if (g->count == 0 || glob_root(g, &at) < 0)
        return false;
    while (at != NULL) {
        char name[256]; /* NAME_MAX and a zero */
        size_t len;

        path += strspn(path, "/");
        len = strcspn(path, "/");
        if (len == 0 || len >= sizeof name)
            break;
        memcpy(name, path, len);
        name[len] = '\0';
        path += len;
        if (*path == '\0') {
            match = glob_matches(g, at, name);
            break;
        }
        if (glob_enter(g, at, name, &next) < 0)
            break;
        free(at);
        at = next;
    }
    free(at);
    return match;
}

bool glob_excludes_match(const struct glob_excludes *x, const char *path, const char *name)
{
    for (size_t i = 0; i < x->names->count; i++) {
        const struct glob_part *p = &x->names->patterns[i].parts[0];

        /* No FNM_PERIOD: "*.log" in an exclude means hidden ones too. */
        if (p->kind == GLOB_LITERAL ? strcmp(p->text, name) == 0 : fnmatch(p->text, name, 0) == 0)
            return true;
    }
    return glob_matches_path(x->paths, path);
}
