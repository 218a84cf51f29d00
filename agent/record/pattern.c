/* How a match is kept cheap.
 *
 * PCRE2's own limits are of little use for that: its match limit counts anew at every place where a
 * match may start, counts other things with JIT than without, and does not count how far a single
 * `.*` or `[^x]*` runs.  `.*x` is quadratic in a long line without ever being counted.
 *
 * So every pattern is compiled twice.  The first one is plain.  It is tried with a match limit so
 * low that even the worst pattern cannot be dear: (places to start) x (limit) x (how far one item
 * can run) stays below PLAIN_WORK.  That is enough for nearly all lines of nearly all logs.  Where
 * it is not, or where the text is too long to have such a limit at all, the second one is asked: it
 * was compiled with PCRE2_AUTO_CALLOUT, which calls us before each item of the pattern, and there
 * we count one and how far the match has moved since.  With JIT that is two to ten times slower
 * than the plain one, and as exact as we like. */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "record/pattern.h"

#include <assert.h>
#include <errno.h>
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

#include "buf.h"
#include "utf8.h"
#include "util.h"

/* Measured with tests/bench/evil on x86-64: a unit of counted work is 4 to 20 ns with JIT and 15 to
 * 30 ns without, so that the dearest of 64 evil patterns took some 1.5 ms in texts of 40 bytes to
 * 16 KB, and in 1 MiB 37 ms with JIT and 49 ms without.  A unit of plain work is 0.3 to 1.5 ns. */
enum {
    /* One unit of counted work is one callout, or RUN_BYTES bytes run through. */
    RUN_BYTES = 16,
    COUNTED_WORK = 60000, /* in one call; or, if that is more: */
    COUNTED_WORK_PER_BYTE = 2,

    /* One unit of plain work is one byte run through. */
    PLAIN_WORK = 400000,
    PLAIN_STEP = 8,         /* what one step costs that runs through nothing */
    PLAIN_LIMIT = 2,        /* below this match limit it is not worth to try */
    PLAIN_MATCHES = 8,      /* in one text, each of which may cost the worst */
    PLAIN_PER_COUNTED = 20, /* units that take as long as one of counted work */

    CHARACTER_STEP = 2, /* so much slower than bytes are characters, */
    GRAPHEME_STEP = 12, /* and \X, which looks up many properties of each */
    BACK_COST = 64,
    REPEATS_PER_UNIT_JIT = 16,
    REPEATS_PER_UNIT = 8,
    FRAMES_KIB = 1024, /* the interpreter's stack */
    JIT_STACK_MIN = 32 * 1024,
    JIT_STACK_MAX = 1024 * 1024, /* address space; memory only when a text needs it */
};

/* What PCRE2 must know of a pattern's text before it compiles it, and what it cannot tell us
 * later. */
struct traits {
    bool characters;       /* bytes will not do */
    bool unbounded;        /* an item may run through the whole text */
    size_t repeats;        /* all numbers in braces together */
    size_t run;            /* else: through so many bytes */
    bool graphemes;        /* there is a \X */
    size_t previous_match; /* where \G stands, or SIZE_MAX */
};

/* Memory for the match data.  Up to 10.40 the interpreter takes its frames anew for each match that
 * needs many; so the largest block ever freed is kept. */
struct pool {
    struct block *kept;
};

struct block {
    size_t size;
    _Alignas(max_align_t) char bytes[];
};

struct pattern {
    pcre2_code *plain, *counted;
    pcre2_code *broken; /* counted, for texts that are no UTF-8; NULL if we work on bytes */
    pcre2_general_context *general;
    pcre2_match_context *plain_context, *counted_context;
    pcre2_jit_stack *stack;
    pcre2_match_data *data;
    struct pool pool;
    bool has_jit, anchored, characters;
    bool whole;
    bool only_first; /* no match can follow another one: it must begin where the text begins */

    size_t run; /* how many bytes one item can run through, SIZE_MAX: all */
    size_t run_bytes;
    size_t item_cost; /* of one callout, in counted work, in a text that is long enough */
    unsigned group_count;
    const char **names; /* by group number; NULL: it has none */

    /* The call that is on its way. */
    uint64_t work, work_max;
    size_t position; /* of the last callout */
    size_t callout_cost;

    uint64_t *meter; /* where all calls are added up, or NULL */
};

struct part {
    struct slice text; /* of the replacement's own, if group < 0 */
    int group;
};

struct replacement {
    char *text;
    size_t count;
    struct part parts[];
};

static void *pool_take(PCRE2_SIZE size, void *data)
{
    struct pool *pool = data;
    struct block *b = pool->kept;

    if (b != NULL && b->size >= size) {
        pool->kept = NULL;
        return b->bytes;
    }
    if (size > SIZE_MAX - sizeof *b)
        return NULL;
    b = malloc(sizeof *b + size);
    if (b == NULL)
        return NULL;
    b->size = size;
    /* cppcheck-suppress memleak ; pool_give finds it again by its bytes */
    return b->bytes;
}

static void pool_give(void *bytes, void *data)
{
    struct pool *pool = data;
    struct block *b = bytes == NULL ? NULL : CONTAINER_OF(bytes, struct block, bytes), *other = b;

    if (b != NULL && (pool->kept == NULL || pool->kept->size < b->size)) {
        other = pool->kept;
        pool->kept = b;
    }
    free(other);
}

/* A number in a pattern; what is larger than any that PCRE2 takes, is that. */
static size_t number_at(struct slice text, size_t at, size_t *ret_end)
{
    size_t n = 0;

    for (; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9'; at++)
        n = MIN(10 * n + (size_t)(text.ptr[at] - '0'), (size_t)1 << 20);
    *ret_end = at;
    return n;
}

/* One backslash and what follows; returns where it ends. */
static size_t read_escape(struct slice text, size_t at, bool in_class, struct traits *t)
{
    char c = at + 1 < text.len ? text.ptr[at + 1] : '\0';
    struct slice rest;

    if (c == 'Q') {
        for (at += 2; at < text.len; at++) {
            if ((unsigned char)text.ptr[at] >= 0x80)
                t->characters = true;
            if (slice_starts_with(slice_from(text, at), SLICE("\\E")))
                return at + 2;
        }
        return at;
    }
    rest = slice_from(text, MIN(at + 2, text.len));
    if (c != '\0' && strchr("pPXRhHvV", c) != NULL)
        t->characters = true;
    else if (c == 'N' && slice_starts_with(rest, SLICE("{")))
        t->characters = true;
    else if ((c == 'x' || c == 'o') && slice_starts_with(rest, SLICE("{"))) {
        /* \x{ff} and \o{377} are the last bytes; zeros before a number do not matter enough. */
        size_t digits = 0;

        while (1 + digits < rest.len && strchr("}, ", rest.ptr[1 + digits]) == NULL)
            digits++;
        if (digits > (c == 'x' ? 2 : 3) || (c == 'o' && digits == 3 && rest.ptr[1] > '3'))
            t->characters = true;
    }
    if (!in_class && c == 'G' && t->previous_match == SIZE_MAX)
        t->previous_match = at;
    if (!in_class && c == 'X')
        t->graphemes = true;
    if (!in_class && (c == 'X' || c == 'g' || c == 'k' || (c >= '1' && c <= '9')))
        t->unbounded = true;
    return at + 2;
}

/* Reads a pattern just closely enough: what is in doubt counts as the dearer. */
static struct traits traits_of(struct slice text)
{
    struct traits t = {.run = text.len, .previous_match = SIZE_MAX};
    bool in_class = false;

    for (size_t i = 0, end; i < text.len;) {
        unsigned char c = (unsigned char)text.ptr[i];
        struct slice rest = slice_from(text, i);

        if (c == '\\') {
            i = read_escape(text, i, in_class, &t);
            continue;
        }
        if (c >= 0x80 || slice_starts_with(rest, SLICE("(*UTF)")))
            t.characters = true;
        if (c == '[' && !in_class) {
            in_class = true;
            i += slice_starts_with(rest, SLICE("[^")) ? 2 : 1;
            i += i < text.len && text.ptr[i] == ']'; /* the first one is a member */
            continue;
        }
        if (c == '[' && i + 1 < text.len && text.ptr[i + 1] == ':') {
            i += 2; /* [:alpha:], whose bracket ends no class */
            for (end = i; end < text.len &&
                          (text.ptr[end] == '^' || (text.ptr[end] >= 'a' && text.ptr[end] <= 'z'));
                 end++)
                ;
            if (slice_starts_with(slice_from(text, end), SLICE(":]")))
                i = end + 2;
            continue;
        }
        if (c == ']')
            in_class = false;
        if (c == '*' || c == '+')
            t.unbounded = true;
        if (c == '(' && i + 2 < text.len && text.ptr[i + 1] == '?' &&
            strchr("0123456789R&+-P", text.ptr[i + 2]) != NULL)
            t.unbounded = true;
        if (c == '{') {
            size_t from = number_at(text, i + 1, &end), to = from;

            if (end < text.len && text.ptr[end] == ',') {
                size_t comma = end;
                to = number_at(text, end + 1, &end);
                if (end == comma + 1)
                    t.unbounded = true;
            }
            t.repeats += MAX(from, to);
        }
        i++;
    }
    return t;
}

/* Fills in what PCRE2 says about its error number. */
static void tell(struct pattern_error *e, int number, size_t offset)
{
    PCRE2_UCHAR text[sizeof e->text];

    if (pcre2_get_error_message(number, text, sizeof text) < 0)
        (void)snprintf((char *)text, sizeof text, "error %d", number);
    e->offset = offset;
    (void)snprintf(e->text, sizeof e->text, "%s", (const char *)text);
}

static int compile_once(struct slice text, uint32_t options, pcre2_code **ret,
                        struct pattern_error *e)
{
    PCRE2_SIZE offset;
    int number;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)text.ptr, text.len, options, &number, &offset, NULL);

    if (code == NULL) {
        tell(e, number, MIN(offset, text.len));
        return number == PCRE2_ERROR_NOMEMORY || number == PCRE2_ERROR_HEAP_FAILED ? -ENOMEM
                                                                                   : -EINVAL;
    }
    *ret = code;
    return 0;
}

static uint32_t info(const pcre2_code *code, uint32_t what)
{
    uint32_t value = 0;

    (void)pcre2_pattern_info(code, what, &value);
    return value;
}

/* Called before each item: what the match has cost so far, and no further than that. */
static int count_work(pcre2_callout_block *at, void *data)
{
    struct pattern *p = data;
    size_t now = at->current_position;
    size_t moved = now > p->position ? now - p->position : p->position - now;

    p->position = now;
    p->work += p->callout_cost + moved / p->run_bytes;
    return p->work > p->work_max ? PCRE2_ERROR_CALLOUT : 0;
}

static int contexts_new(struct pattern *p, bool with_jit)
{
    p->general = pcre2_general_context_create(pool_take, pool_give, &p->pool);
    if (p->general == NULL)
        return -ENOMEM;
    p->plain_context = pcre2_match_context_create(NULL);
    p->counted_context = pcre2_match_context_create(NULL);
    p->data = pcre2_match_data_create_from_pattern(p->plain, p->general);
    if (p->plain_context == NULL || p->counted_context == NULL || p->data == NULL)
        return -ENOMEM;
    (void)pcre2_set_callout(p->counted_context, count_work, p);
    (void)pcre2_set_match_limit(p->counted_context, UINT32_MAX);
    (void)pcre2_set_depth_limit(p->plain_context, UINT32_MAX); /* the heap's limit is enough */
    (void)pcre2_set_depth_limit(p->counted_context, UINT32_MAX);
    (void)pcre2_set_heap_limit(p->plain_context, FRAMES_KIB);
    (void)pcre2_set_heap_limit(p->counted_context, FRAMES_KIB);

    /* Half a JIT is none: who may not have the second piece of code shall not hold the first. */
    if (with_jit && pcre2_jit_compile(p->plain, PCRE2_JIT_COMPLETE) == 0 &&
        pcre2_jit_compile(p->counted, PCRE2_JIT_COMPLETE) == 0) {
        size_t size = 0;

        /* (*NO_JIT) compiles to nothing, without an error. */
        if (pcre2_pattern_info(p->counted, PCRE2_INFO_JITSIZE, &size) == 0 && size > 0)
            p->has_jit = true;
    }
    if (!p->has_jit)
        return 0;
    p->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, NULL);
    if (p->stack == NULL)
        return -ENOMEM;
    pcre2_jit_stack_assign(p->plain_context, NULL, p->stack);
    pcre2_jit_stack_assign(p->counted_context, NULL, p->stack);
    return 0;
}

static int names_new(struct pattern *p)
{
    uint32_t count = info(p->plain, PCRE2_INFO_NAMECOUNT);
    uint32_t size = info(p->plain, PCRE2_INFO_NAMEENTRYSIZE);
    PCRE2_SPTR table = NULL;

    p->names = calloc(p->group_count + 1, sizeof *p->names);
    if (p->names == NULL)
        return -ENOMEM;
    (void)pcre2_pattern_info(p->plain, PCRE2_INFO_NAMETABLE, &table);
    for (uint32_t i = 0; i < count; i++, table += size)
        p->names[table[0] << 8 | table[1]] = (const char *)table + 2;
    return 0;
}

/* What one item can cost at worst, where it is not told by how far the match moves. */
static void weigh(struct pattern *p, const struct traits *t)
{
    bool back = info(p->plain, PCRE2_INFO_BACKREFMAX) > 0;
    size_t behind = info(p->plain, PCRE2_INFO_MAXLOOKBEHIND), repeats = t->repeats + behind;

    p->run = t->unbounded || back ? SIZE_MAX : t->run + repeats;
    p->run_bytes = t->graphemes ? 1 : p->characters ? RUN_BYTES / 4 : RUN_BYTES;

    /* `[^x]{5000}y` runs through 5000 bytes, fails, and no callout has seen it.  A group that is
     * repeated is written out as often, and without JIT the way out of it is as long: as is that of
     * copying all groups.  And a back reference compares as much as its group has. */
    p->item_cost = 1 + (p->has_jit ? repeats / REPEATS_PER_UNIT_JIT
                                   : repeats / REPEATS_PER_UNIT + p->group_count / 16);
    if (back)
        p->item_cost += BACK_COST;
}

int pattern_new(struct slice text, unsigned flags, struct pattern **ret,
                struct pattern_error *ret_error)
{
    /* PCRE2_NEVER_UCP and the like stay away: who asks for (*UCP) shall have it. */
    uint32_t options = PCRE2_NEVER_BACKSLASH_C;
    struct traits t;
    struct pattern *p;
    int r;

    *ret_error = (struct pattern_error){0};
    if (text.ptr == NULL)
        text = SLICE("");
    t = traits_of(text);
    if (flags & PATTERN_CASELESS)
        options |= PCRE2_CASELESS;
    if (flags & PATTERN_DOTALL)
        options |= PCRE2_DOTALL;
    if (flags & PATTERN_MULTILINE)
        options |= PCRE2_MULTILINE;
    if (flags & (PATTERN_START | PATTERN_WHOLE))
        options |= PCRE2_ANCHORED;
    if (flags & PATTERN_WHOLE)
        options |= PCRE2_ENDANCHORED;
    if (t.characters || (flags & PATTERN_UTF))
        options |= PCRE2_UTF;

    p = calloc(1, sizeof *p);
    if (p == NULL)
        return -ENOMEM;
    r = compile_once(text, options, &p->plain, ret_error);
    if (r == 0 && (info(p->plain, PCRE2_INFO_ALLOPTIONS) & PCRE2_UTF) != 0)
        options |= PCRE2_UTF; /* a (*UTF) that we did not see */
    if (r == 0)
        r = compile_once(text, options | PCRE2_AUTO_CALLOUT, &p->counted, ret_error);
    if (r == 0 && (options & PCRE2_UTF))
        r = compile_once(text, options | PCRE2_AUTO_CALLOUT | PCRE2_MATCH_INVALID_UTF, &p->broken,
                         ret_error);
    if (r == 0 && t.previous_match != SIZE_MAX) {
        ret_error->offset = t.previous_match;
        (void)snprintf(ret_error->text, sizeof ret_error->text, "\\G is not supported");
        r = -EINVAL;
    }
    if (r < 0)
        goto out;
    p->characters = (options & PCRE2_UTF) != 0;
    p->whole = (flags & PATTERN_WHOLE) != 0;
    p->only_first = (flags & (PATTERN_START | PATTERN_WHOLE)) != 0;
    p->anchored = (info(p->plain, PCRE2_INFO_ALLOPTIONS) & PCRE2_ANCHORED) != 0;
    p->group_count = info(p->plain, PCRE2_INFO_CAPTURECOUNT);
    r = contexts_new(p, (flags & PATTERN_NO_JIT) == 0);
    if (r == 0)
        r = names_new(p);
    if (r < 0)
        goto out;
    weigh(p, &t);
    (void)pattern_match(p, SLICE(""), NULL); /* the interpreter's first frames */
    *ret = p;
out:
    if (r < 0)
        pattern_free(p);
    return r;
}

void pattern_free(struct pattern *p)
{
    if (p == NULL)
        return;
    free(p->names);
    pcre2_match_data_free(p->data);
    pcre2_jit_stack_free(p->stack);
    pcre2_match_context_free(p->counted_context);
    pcre2_match_context_free(p->plain_context);
    pcre2_general_context_free(p->general);
    pcre2_code_free(p->broken);
    pcre2_code_free(p->counted);
    pcre2_code_free(p->plain);
    free(p->pool.kept);
    free(p);
}

bool pattern_has_jit(const struct pattern *p)
{
    return p->has_jit;
}

bool pattern_is_utf(const struct pattern *p)
{
    return p->characters;
}

unsigned pattern_group_count(const struct pattern *p)
{
    return p->group_count;
}

int pattern_group_find(const struct pattern *p, struct slice name)
{
    for (unsigned n = 1; n <= p->group_count; n++)
        if (p->names[n] != NULL && slice_equal(slice_of(p->names[n]), name))
            return (int)n;
    return -ENOENT;
}

const char *pattern_group_name(const struct pattern *p, unsigned n)
{
    return n <= p->group_count ? p->names[n] : NULL;
}

uint64_t pattern_work(const struct pattern *p)
{
    return p->work;
}

static int run(struct pattern *p, const pcre2_code *code, pcre2_match_context *context,
               const struct pattern_scan *s, uint32_t options)
{
    PCRE2_SPTR subject = (PCRE2_SPTR)s->text.ptr;

    /* Up to 10.42 at least, what JIT makes of PCRE2_MATCH_INVALID_UTF is wrong: \S, \D and \W no
     * longer match what is not ASCII. */
    if (p->has_jit && !s->broken)
        return pcre2_jit_match(code, subject, s->text.len, s->at, options, p->data, context);
    if (!s->broken)
        options |= PCRE2_NO_UTF_CHECK;
    return pcre2_match(s->broken ? p->broken : code, subject, s->text.len, s->at,
                       options | PCRE2_NO_JIT, p->data, context);
}

/* What PCRE2 answered, in our words. */
static int answer(int r)
{
    if (r >= 0)
        return 1;
    switch (r) {
    case PCRE2_ERROR_NOMATCH:
        return 0;
    case PCRE2_ERROR_NOMEMORY:
        return -ENOMEM;
    default: /* a limit, a callout that gave up, a recursion without end */
        return -ETIME;
    }
}

/* The match limit with which the plain code costs no more than `work`, or 0. */
static uint32_t plain_limit(const struct pattern *p, size_t len, uint64_t work)
{
    uint64_t starts = p->anchored ? 1 : len + 1;
    uint64_t step = PLAIN_STEP + (p->anchored ? MIN(len, p->run) : MIN(len / 2, p->run));
    uint64_t limit;

    if (p->run_bytes == 1)
        step *= GRAPHEME_STEP;
    else if (p->characters)
        step *= CHARACTER_STEP;
    if (starts > work || step > work / starts)
        return 0;
    limit = work / starts / step;
    return limit < PLAIN_LIMIT ? 0 : (uint32_t)limit;
}

void pattern_scan_init(struct pattern_scan *s, struct slice text)
{
    *s = (struct pattern_scan){.text = text.ptr == NULL ? SLICE("") : text};
}

/* The end of the character at `at`, as the pattern sees characters. */
static size_t character_end(const struct pattern *p, struct slice text, size_t at)
{
    at++;
    while (p->characters && at < text.len && ((unsigned char)text.ptr[at] & 0xc0) == 0x80)
        at++;
    return at;
}

/* In a text that is no UTF-8, PCRE2 matches the pieces that are (pcre2unicode(3)), and takes the
 * borders of one for the text's. */
static bool is_anchored(const struct pattern *p, struct slice text, const PCRE2_SIZE *pairs)
{
    return !p->whole && utf8_valid(slice_first(text, pairs[0])); /* > 0: there was a \K */
}

int pattern_scan_next(struct pattern_scan *s, struct pattern *p, struct slice *ret_groups)
{
    uint32_t options = 0, limit = 0;
    const PCRE2_SIZE *pairs;
    size_t len = s->text.len - s->at;
    int r = PCRE2_ERROR_MATCHLIMIT;

    if (p->only_first && s->matches > 0)
        return 0;
    if (p->characters && s->matches == 0)
        s->broken = !utf8_valid(s->text);
    if (s->after_empty && s->past_empty) {
        if (len == 0)
            return 0;
        s->at = character_end(p, s->text, s->at);
        len = s->text.len - s->at;
    } else if (s->after_empty) {
        options = PCRE2_NOTEMPTY_ATSTART;
    }
    p->work = s->work;
    p->work_max = MAX(COUNTED_WORK, COUNTED_WORK_PER_BYTE * (uint64_t)s->text.len);
    if (s->matches < PLAIN_MATCHES && !s->broken)
        limit =
            plain_limit(p, len, s->matches == 0 ? PLAIN_WORK / 2 : PLAIN_WORK / 2 / PLAIN_MATCHES);
    if (limit > 0) {
        (void)pcre2_set_match_limit(p->plain_context, limit);
        r = run(p, p->plain, p->plain_context, s, options);
    }
    if (r == PCRE2_ERROR_MATCHLIMIT) {
        p->position = s->at;
        p->callout_cost = MIN(p->item_cost, 1 + len / RUN_BYTES);
        if (s->broken) /* each time, all that is left is looked through for what is valid */
            p->work += len / RUN_BYTES;
        p->work += s->matches >= PLAIN_MATCHES ? 4 : 0;
        r = p->work > p->work_max ? PCRE2_ERROR_CALLOUT
                                  : run(p, p->counted, p->counted_context, s, options);
        if (p->meter != NULL)
            *p->meter += p->work - s->work + PLAIN_WORK / 2 / PLAIN_PER_COUNTED;
        s->work = p->work;
    }
    r = answer(r);
    if (r <= 0)
        return r;

    /* A \K inside a recursion can make a match begin behind its end, or before the last one, and
     * we would go in circles. */
    pairs = pcre2_get_ovector_pointer(p->data);
    if (s->broken && p->only_first && !is_anchored(p, s->text, pairs))
        return 0;
    if (pairs[0] > pairs[1] || pairs[0] < s->at)
        return -ETIME;
    for (unsigned n = 0; ret_groups != NULL && n <= p->group_count; n++) {
        ret_groups[n] = (struct slice){NULL, 0};
        if (pairs[2 * n] != PCRE2_UNSET && pairs[2 * n] <= pairs[2 * n + 1])
            ret_groups[n] =
                (struct slice){s->text.ptr + pairs[2 * n], pairs[2 * n + 1] - pairs[2 * n]};
    }
    s->at = pairs[1];
    s->after_empty = pairs[0] == pairs[1];
    s->matches++;
    return 1;
}

void pattern_meter(struct pattern *p, uint64_t *meter)
{
    p->meter = meter;
}

int pattern_match(struct pattern *p, struct slice text, struct slice *ret_groups)
{
    struct pattern_scan s;

    pattern_scan_init(&s, text);
    return pattern_scan_next(&s, p, ret_groups);
}

static bool is_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* Reads what follows a dollar, from `at` on: the group's number, or an error. */
static int read_group(const struct pattern *p, struct slice text, size_t at, size_t *ret_end,
                      struct pattern_error *e)
{
    bool braced = at < text.len && text.ptr[at] == '{';
    size_t from = at + braced, end = from, number_end, number;
    struct slice name;
    int group;

    while (end < text.len && is_word(text.ptr[end]))
        end++;
    number = number_at(text, from, &number_end);
    if (!braced && number_end > from)
        end = number_end; /* $1x is group 1 and an x */
    name = (struct slice){text.ptr + from, end - from};
    e->offset = at - 1;
    if (name.len == 0 || (braced && (end == text.len || text.ptr[end] != '}'))) {
        (void)snprintf(e->text, sizeof e->text,
                       braced ? "'${' needs a group's name or number and a '}'"
                              : "'$' needs a group's name or number behind it; '$$' is a dollar");
        return -EINVAL;
    }
    if (number_end == end)
        group = number <= p->group_count ? (int)number : -ENOENT;
    else
        group = pattern_group_find(p, name);
    if (group < 0) {
        (void)snprintf(e->text, sizeof e->text, "the pattern has no group '%.*s'",
                       (int)MIN(name.len, (size_t)100), name.ptr);
        return -EINVAL;
    }
    *ret_end = end + braced;
    return group;
}

int replacement_new(const struct pattern *p, struct slice text, struct replacement **ret,
                    struct pattern_error *ret_error)
{
    size_t dollars = 0, i = 0;
    struct replacement *r;
    int error = 0;

    *ret_error = (struct pattern_error){0};
    for (size_t k = 0; k < text.len; k++)
        dollars += text.ptr[k] == '$';
    r = calloc(1, sizeof *r + (2 * dollars + 1) * sizeof r->parts[0]);
    if (r == NULL)
        return -ENOMEM;
    r->text = malloc(text.len + 1);
    if (r->text == NULL) {
        error = -ENOMEM;
        goto out;
    }
    if (text.len > 0)
        memcpy(r->text, text.ptr, text.len);
    text.ptr = r->text;
    while (i < text.len) {
        size_t from = i;
        int group = -1;

        while (i < text.len && text.ptr[i] != '$')
            i++;
        if (i > from) {
            r->parts[r->count++] = (struct part){{text.ptr + from, i - from}, -1};
            continue;
        }
        if (i + 1 < text.len && text.ptr[i + 1] == '$') {
            r->parts[r->count++] = (struct part){{text.ptr + i, 1}, -1};
            i += 2;
            continue;
        }
        group = read_group(p, text, i + 1, &i, ret_error);
        if (group < 0) {
            error = group;
            goto out;
        }
        r->parts[r->count++] = (struct part){{NULL, 0}, group};
    }
    *ret = r;
out:
    if (error < 0)
        replacement_free(r);
    return error;
}

void replacement_free(struct replacement *r)
{
    if (r == NULL)
        return;
    free(r->text);
    free(r);
}

/* What stands in the place of the match that the match data holds. */
static int append_parts(const struct replacement *with, struct slice text, const PCRE2_SIZE *pairs,
                        struct buf *to)
{
    for (size_t i = 0; i < with->count; i++) {
        const struct part *part = &with->parts[i];
        struct slice s = part->text;
        int r;

        if (part->group >= 0) {
            size_t from = pairs[2 * part->group], end = pairs[2 * part->group + 1];
            if (from == PCRE2_UNSET || from >= end)
                continue;
            s = (struct slice){text.ptr + from, end - from};
        }
        r = buf_append(to, s);
        if (r < 0)
            return r;
    }
    return 0;
}

long pattern_replace(struct pattern *p, struct slice text, const struct replacement *with,
                     struct buf *to)
{
    const PCRE2_SIZE *pairs = pcre2_get_ovector_pointer(p->data);
    size_t before = to->len, done = 0;
    struct pattern_scan s;
    int r;

    pattern_scan_init(&s, text);
    while ((r = pattern_scan_next(&s, p, NULL)) == 1) {
        r = buf_append(to, (struct slice){s.text.ptr + done, pairs[0] - done});
        if (r == 0)
            r = append_parts(with, s.text, pairs, to);
        if (r < 0)
            break;
        done = pairs[1];
    }
    if (r == 0 && s.matches > 0)
        r = buf_append(to, slice_from(s.text, done));
    if (r < 0) {
        to->len = before;
        return r;
    }
    return (long)s.matches;
}
