/* A text is read once, into an array of nodes that are linked by their indices: children follow each
 * other in the order of the text.  Members of equal names are put together when their object ends,
 * by a hash table where there are many, so that no text costs more than its length. */

#include "record/java_json.h"

#include "arena.h"
#include "buf.h"
#include "map.h"
#include "record/java_text.h"
#include "util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum node_type { NODE_LITERAL, NODE_DOUBLE, NODE_OBJECT, NODE_ARRAY };

enum {
    NONE = UINT32_MAX,
    NODES_FIRST = 64,
    MEMBERS_COMPARED = 12, /* up to so many, comparing all is quicker than hashing */
};

struct node {
    struct slice key;     /* in an object: as JSON, quotes included */
    struct slice text;    /* NODE_LITERAL: as it is written; NODE_DOUBLE: as it was */
    uint32_t next;        /* the sibling behind it, or NONE */
    uint32_t first, last; /* of its own children, or NONE */
    enum node_type type;
};

struct java_json {
    struct node *nodes; /* owns */
    uint32_t count, cap;
    uint32_t *table; /* owns: hashes to nodes */
    size_t table_cap;
    struct arena arena; /* texts that had to change */
    bool has_lone;      /* half a pair of surrogates was met: its bytes are to become "?" */
    uint32_t stack[JAVA_JSON_DEPTH_MAX];
    unsigned depth;
};

int java_json_new(size_t text_max, struct java_json **ret)
{
    struct java_json *j = calloc(1, sizeof *j);

    if (j == NULL)
        return -ENOMEM;
    arena_init(&j->arena, text_max);
    *ret = j;
    return 0;
}

void java_json_free(struct java_json *j)
{
    if (j == NULL)
        return;
    free(j->nodes);
    free(j->table);
    arena_done(&j->arena);
    free(j);
}

void java_json_set_max(struct java_json *j, size_t text_max)
{
    arena_reset(&j->arena);
    arena_limit(&j->arena, text_max);
}

void java_json_trim(struct java_json *j, size_t keep)
{
    j->count = 0;
    arena_trim(&j->arena, keep);
    if (j->cap * sizeof *j->nodes > keep) {
        free(j->nodes);
        j->nodes = NULL;
        j->cap = 0;
    }
    if (j->table_cap * sizeof *j->table > keep) {
        free(j->table);
        j->table = NULL;
        j->table_cap = 0;
    }
}

/* --- nodes --- */

static int add_node(struct java_json *j, uint32_t parent, struct node node, uint32_t *ret)
{
    if (j->count == j->cap) {
        uint32_t cap = j->cap == 0 ? NODES_FIRST : 2 * j->cap;
        struct node *nodes;

        if (cap > JAVA_JSON_VALUES_MAX)
            return -EMSGSIZE;
        nodes = realloc(j->nodes, cap * sizeof *nodes);
        if (nodes == NULL)
            return -ENOMEM;
        j->nodes = nodes;
        j->cap = cap;
    }
    node.next = node.first = node.last = NONE;
    j->nodes[j->count] = node;
    if (parent != NONE) {
        struct node *p = &j->nodes[parent];

        *(p->first == NONE ? &p->first : &j->nodes[p->last].next) = j->count;
        p->last = j->count;
    }
    *ret = j->count++;
    return 0;
}

/* The value of `from` becomes that of `to`; its name does not. */
static void move_value(struct node *to, const struct node *from)
{
    to->text = from->text;
    to->first = from->first;
    to->last = from->last;
    to->type = from->type;
}

static uint32_t find_member(const struct java_json *j, uint32_t from, uint32_t end,
                            struct slice key)
{
    for (; from != end; from = j->nodes[from].next)
        if (slice_equal(j->nodes[from].key, key))
            return from;
    return NONE;
}

/* The place of a key in the table: that of an equal one, or a free one. */
static uint32_t *table_place(struct java_json *j, size_t mask, struct slice key)
{
    size_t at = (size_t)map_hash_slice(0, key) & mask;

    while (j->table[at] != NONE && !slice_equal(j->nodes[j->table[at]].key, key))
        at = (at + 1) & mask;
    return &j->table[at];
}

static int clear_table(struct java_json *j, size_t members, size_t *ret_mask)
{
    size_t cap = 4 * MEMBERS_COMPARED;

    while (cap < 2 * members)
        cap *= 2;
    if (cap > j->table_cap) {
        uint32_t *table = realloc(j->table, cap * sizeof *table);
        if (table == NULL)
            return -ENOMEM;
        j->table = table;
        j->table_cap = cap;
    }
    memset(j->table, 0xff, cap * sizeof *j->table);
    *ret_mask = cap - 1;
    return 0;
}

/* Puts members of equal names together: the place of the first, the value of the last. */
static int merge_equal(struct java_json *j, uint32_t object)
{
    struct node *o = &j->nodes[object];
    uint32_t before = NONE;
    size_t members = 0, mask = 0;

    for (uint32_t n = o->first; n != NONE; n = j->nodes[n].next)
        members++;
    if (members > MEMBERS_COMPARED) {
        int r = clear_table(j, members, &mask);
        if (r < 0)
            return r;
    }
    for (uint32_t n = o->first; n != NONE; n = j->nodes[n].next) {
        struct slice key = j->nodes[n].key;
        uint32_t *place = members > MEMBERS_COMPARED ? table_place(j, mask, key) : NULL;
        uint32_t equal = place != NULL ? *place : find_member(j, o->first, n, key);

        if (equal == NONE) {
            if (place != NULL)
                *place = n;
            before = n;
            continue;
        }
        move_value(&j->nodes[equal], &j->nodes[n]);
        j->nodes[before].next = j->nodes[n].next; /* there is one before: the equal one */
        if (o->last == n)
            o->last = before;
    }
    return 0;
}

/* --- strings --- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The unit of \uXXXX at the beginning of `text`, or -1. */
static long escaped_unit(struct slice text)
{
    long unit = 0;

    if (text.len < 6 || text.ptr[0] != '\\' || text.ptr[1] != 'u')
        return -1;
    for (size_t i = 2; i < 6; i++) {
        int digit = hex_value(text.ptr[i]);
        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

/* Writes a character as JSON has it; half a pair as the three bytes that UTF-8 forbids, so that equal
 * keys are told from different ones.  Returns how many bytes. */
static size_t write_char(uint32_t code, char *to)
{
    struct buf b = {to, 0, 6, 6}; /* cannot grow, and need not */

    if (code < 0x80) {
        char c = (char)code;
        char quoted[8];
        struct buf q = {quoted, 0, sizeof quoted, sizeof quoted};

        (void)java_text_append_json(&q, (struct slice){&c, 1});
        (void)buf_append(&b, (struct slice){quoted + 1, q.len - 2});
    } else if (code < 0x800) {
        to[b.len++] = (char)(0xc0 | (code >> 6));
        to[b.len++] = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        to[b.len++] = (char)(0xe0 | (code >> 12));
        to[b.len++] = (char)(0x80 | ((code >> 6) & 0x3f));
        to[b.len++] = (char)(0x80 | (code & 0x3f));
    } else {
        to[b.len++] = (char)(0xf0 | (code >> 18));
        to[b.len++] = (char)(0x80 | ((code >> 12) & 0x3f));
        to[b.len++] = (char)(0x80 | ((code >> 6) & 0x3f));
        to[b.len++] = (char)(0x80 | (code & 0x3f));
    }
    return b.len;
}

/* Reads the escape that `text` begins with.  Gives the character and the bytes it took; -EBADMSG. */
static int read_escape(struct java_json *j, struct slice text, uint32_t *ret_code, size_t *ret_len)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *known;
    long unit, low;

    if (text.len < 2)
        return -EBADMSG;
    *ret_len = 2;
    known = text.ptr[1] == '\0' ? NULL : strchr(from, text.ptr[1]);
    if (known != NULL) {
        *ret_code = (unsigned char)to[known - from];
        return 0;
    }
    unit = escaped_unit(text);
    if (unit < 0)
        return -EBADMSG;
    *ret_len = 6;
    *ret_code = (uint32_t)unit;
    if (unit < 0xd800 || unit > 0xdfff)
        return 0;
    low = unit < 0xdc00 ? escaped_unit(slice_from(text, 6)) : -1;
    if (low >= 0xdc00 && low <= 0xdfff) {
        *ret_len = 12;
        *ret_code = 0x10000 + (((uint32_t)unit - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
    } else {
        j->has_lone = true;
    }
    return 0;
}

/* Rewrites what stands between a string's quotes. */
static int rewrite_string(struct java_json *j, struct slice inside, struct slice *ret)
{
    size_t size = inside.len + 2, len = 1; /* an escape is never longer than it was */
    char *to = arena_take(&j->arena, size);

    if (to == NULL)
        return -EMSGSIZE;
    to[0] = '"';
    while (inside.len > 0) {
        size_t used = 1;
        uint32_t code;
        int r;

        if (inside.ptr[0] != '\\') {
            to[len++] = inside.ptr[0];
        } else {
            char bytes[6];

            r = read_escape(j, inside, &code, &used);
            if (r < 0)
                return r;
            size_t n = write_char(code, bytes);
            assert(n <= used);
            memcpy(to + len, bytes, n);
            len += n;
        }
        inside = slice_from(inside, used);
    }
    to[len++] = '"';
    arena_shrink(&j->arena, to, size, len);
    *ret = (struct slice){to, len};
    return 0;
}

/* Reads the string that *text, which begins with a quote, begins with.  Gives it as JSON. */
static int read_string(struct java_json *j, struct slice *text, struct slice *ret)
{
    struct slice in = *text;
    bool escapes = false;
    size_t n = 1;

    for (; n < in.len && in.ptr[n] != '"'; n++) {
        if ((unsigned char)in.ptr[n] < 0x20)
            return -EBADMSG;
        if (in.ptr[n] == '\\') {
            escapes = true;
            n++; /* whatever it is, it does not end the string */
        }
    }
    if (n >= in.len)
        return -EBADMSG;
    *text = slice_from(in, n + 1);
    if (escapes)
        return rewrite_string(j, (struct slice){in.ptr + 1, n - 1}, ret);
    *ret = slice_first(in, n + 1);
    return 0;
}

int java_json_string(struct java_json *j, struct slice text, struct slice *ret)
{
    size_t size = 2 + 6 * text.len; /* every byte as \u00XX */
    char *to = arena_take(&j->arena, size);
    struct buf b = {to, 0, size, size};
    int r;

    if (to == NULL)
        return -EMSGSIZE;
    r = java_text_append_json(&b, text);
    arena_shrink(&j->arena, to, size, b.len);
    *ret = buf_slice(&b);
    return r;
}

/* --- reading --- */

static void skip_space(struct slice *text)
{
    while (text->len > 0 && (text->ptr[0] == ' ' || text->ptr[0] == '\t' || text->ptr[0] == '\n' ||
                             text->ptr[0] == '\r'))
        *text = slice_from(*text, 1);
}

static size_t digits(struct slice text, size_t at)
{
    size_t n = at;

    while (n < text.len && text.ptr[n] >= '0' && text.ptr[n] <= '9')
        n++;
    return n - at;
}

static bool is_at(struct slice text, size_t at, const char *set)
{
    return at < text.len && text.ptr[at] != '\0' && strchr(set, text.ptr[at]) != NULL;
}

static int read_number(struct slice *text, struct node *ret)
{
    struct slice in = *text;
    size_t n = in.ptr[0] == '-', count = digits(in, n);

    if (count == 0 || (count > 1 && in.ptr[n] == '0'))
        return -EBADMSG;
    n += count;
    ret->type = NODE_LITERAL;
    if (is_at(in, n, ".")) {
        count = digits(in, n + 1);
        if (count == 0)
            return -EBADMSG;
        n += 1 + count;
        ret->type = NODE_DOUBLE;
    }
    if (is_at(in, n, "eE")) {
        n++;
        n += is_at(in, n, "+-");
        count = digits(in, n);
        if (count == 0)
            return -EBADMSG;
        n += count;
        ret->type = NODE_DOUBLE;
    }
    if (n > JAVA_NUMBER_MAX)
        return -EBADMSG;
    ret->text = slice_first(in, n);
    if (slice_equal(ret->text, SLICE("-0")))
        ret->text = SLICE("0");
    *text = slice_from(in, n);
    return 0;
}

static int read_word(struct slice *text, struct node *ret)
{
    static const struct slice words[] = {{"true", 4}, {"false", 5}, {"null", 4}};

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (slice_starts_with(*text, words[i])) {
            *ret = (struct node){.type = NODE_LITERAL, .text = words[i]};
            *text = slice_from(*text, words[i].len);
            return 0;
        }
    return -EBADMSG;
}

/* Reads a value, or the beginning of an object or array. */
static int read_value(struct java_json *j, struct slice *text, struct node *node)
{
    int r;

    skip_space(text);
    if (text->len == 0)
        return -EBADMSG;
    switch (text->ptr[0]) {
    case '{':
    case '[':
        node->type = text->ptr[0] == '{' ? NODE_OBJECT : NODE_ARRAY;
        *text = slice_from(*text, 1);
        return 0;
    case '"':
        node->type = NODE_LITERAL;
        return read_string(j, text, &node->text);
    case 't':
    case 'f':
    case 'n': {
        struct slice key = node->key;

        r = read_word(text, node);
        node->key = key;
        break;
    }
    default:
        r = read_number(text, node);
    }
    return r;
}

static int read_key(struct java_json *j, struct slice *text, struct slice *ret)
{
    int r;

    skip_space(text);
    if (text->len == 0 || text->ptr[0] != '"')
        return -EBADMSG;
    r = read_string(j, text, ret);
    if (r < 0)
        return r;
    skip_space(text);
    if (text->len == 0 || text->ptr[0] != ':')
        return -EBADMSG;
    *text = slice_from(*text, 1);
    return 0;
}

/* Reads on behind a value, or behind the beginning of a container: its ends, and the comma before
 * what comes next.  Gives whether something does. */
static int read_ends(struct java_json *j, struct slice *text, bool *ret_more)
{
    while (j->depth > 0) {
        uint32_t open = j->stack[j->depth - 1];
        bool object = j->nodes[open].type == NODE_OBJECT, empty = j->nodes[open].first == NONE;
        int r;

        skip_space(text);
        if (text->len == 0)
            return -EBADMSG;
        if (text->ptr[0] != (object ? '}' : ']')) {
            *ret_more = true;
            if (empty)
                return 0;
            if (text->ptr[0] != ',')
                return -EBADMSG;
            *text = slice_from(*text, 1);
            return 0;
        }
        *text = slice_from(*text, 1);
        j->depth--;
        r = object ? merge_equal(j, open) : 0;
        if (r < 0)
            return r;
    }
    *ret_more = false;
    return 0;
}

int java_json_read(struct java_json *j, struct slice text, struct slice *ret_rest)
{
    bool more = true;

    j->count = 0;
    j->depth = 0;
    j->has_lone = false;
    arena_reset(&j->arena);
    while (more) {
        uint32_t parent = j->depth > 0 ? j->stack[j->depth - 1] : NONE, at;
        struct node node = {0};
        int r = 0;

        if (parent != NONE && j->nodes[parent].type == NODE_OBJECT)
            r = read_key(j, &text, &node.key);
        if (r == 0)
            r = read_value(j, &text, &node);
        if (r == 0)
            r = add_node(j, parent, node, &at);
        if (r < 0)
            return r;
        if (node.type == NODE_OBJECT || node.type == NODE_ARRAY) {
            if (j->depth == JAVA_JSON_DEPTH_MAX)
                return -EBADMSG;
            j->stack[j->depth++] = at;
        }
        r = read_ends(j, &text, &more);
        if (r < 0)
            return r;
    }
    skip_space(&text);
    *ret_rest = text;
    return 0;
}

bool java_json_is_object(const struct java_json *j)
{
    return j->count > 0 && j->nodes[JAVA_JSON_ROOT].type == NODE_OBJECT;
}

int java_json_set(struct java_json *j, uint32_t object, struct slice key, struct slice value,
                  uint32_t *ret_object)
{
    struct node node = {.key = key, .text = value, .first = NONE, .last = NONE};
    uint32_t at = find_member(j, j->nodes[object].first, NONE, key);
    int r = 0;

    node.type = ret_object != NULL ? NODE_OBJECT : NODE_LITERAL;
    if (at != NONE)
        move_value(&j->nodes[at], &node);
    else
        r = add_node(j, object, node, &at);
    if (r == 0 && ret_object != NULL)
        *ret_object = at;
    return r;
}

/* --- writing --- */

/* Appends a text in which half a pair of surrogates is to become "?". */
static int append_repaired(struct buf *to, struct slice text)
{
    for (size_t i = 0; i < text.len;) {
        bool lone = text.ptr[i] == '\xed' && i + 1 < text.len && (text.ptr[i + 1] & 0x20) != 0;
        size_t n = i;
        int r;

        while (!lone && n < text.len && (n == i || text.ptr[n] != '\xed'))
            n++;
        r = lone ? buf_append_char(to, '?') : buf_append(to, (struct slice){text.ptr + i, n - i});
        if (r < 0)
            return r;
        i = lone ? i + 3 : n;
    }
    return 0;
}

static int append_text(const struct java_json *j, struct buf *to, struct slice text)
{
    return j->has_lone ? append_repaired(to, text) : buf_append(to, text);
}

static int append_line(struct buf *to, unsigned depth)
{
    int r = buf_append_char(to, '\n');

    while (r == 0 && depth-- > 0)
        r = buf_append(to, SLICE("  "));
    return r;
}

/* What stands before a value in its container, which is at `depth`. */
static int write_before(const struct java_json *j, const struct node *container, bool first,
                        const struct node *n, bool pretty, unsigned depth, struct buf *to)
{
    bool object = container->type == NODE_OBJECT;
    int r = first ? 0 : buf_append_char(to, ',');

    if (r == 0 && pretty)
        r = object ? append_line(to, depth + 1) : buf_append_char(to, ' ');
    if (r == 0 && object)
        r = append_text(j, to, n->key);
    if (r == 0 && object)
        r = buf_append(to, pretty ? SLICE(" : ") : SLICE(":"));
    return r;
}

static int write_after(const struct node *container, bool pretty, unsigned depth, struct buf *to)
{
    bool object = container->type == NODE_OBJECT;
    int r = 0;

    if (pretty && object && container->first != NONE)
        r = append_line(to, depth);
    else if (pretty)
        r = buf_append_char(to, ' ');
    return r < 0 ? r : buf_append_char(to, object ? '}' : ']');
}

/* As deep as the text was, JAVA_JSON_DEPTH_MAX at most.  An array does not indent what is in it. */
static int write_node(const struct java_json *j, const struct node *n, bool pretty, unsigned depth,
                      struct buf *to)
{
    bool object = n->type == NODE_OBJECT;
    int r;

    if (n->type == NODE_LITERAL)
        return append_text(j, to, n->text);
    if (n->type == NODE_DOUBLE)
        return java_text_append_double(to, n->text);
    r = buf_append_char(to, object ? '{' : '[');
    for (uint32_t at = n->first; at != NONE && r == 0; at = j->nodes[at].next) {
        r = write_before(j, n, at == n->first, &j->nodes[at], pretty, depth, to);
        if (r == 0)
            r = write_node(j, &j->nodes[at], pretty, object ? depth + 1 : depth, to);
    }
    return r < 0 ? r : write_after(n, pretty, depth, to);
}

int java_json_write(const struct java_json *j, bool pretty, unsigned depth, struct buf *to)
{
    return j->count == 0 ? 0 : write_node(j, &j->nodes[JAVA_JSON_ROOT], pretty, depth, to);
}
