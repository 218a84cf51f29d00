#include "run/sheet.h"

#include "run/mistakes.h"
#include "util.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Why libconfig does not read the files itself.  Of libconfig 1.5, from its source:
 *
 *   - it opens included files with fopen, which waits for ever for a FIFO's writer;
 *   - a comment or text that is never closed swallows the rest of the file in silence;
 *   - a # comment on a last line without its newline is a syntax error;
 *   - an integer over 32 bits is cut to 32 bits in silence, and so may come back into range; a
 *     hexadecimal one over 63 bits becomes negative;
 *   - "\x00" vanishes from a text, a zero byte ends the file;
 *   - looking for a double name takes quadratic time in the settings of a group, and nesting is
 *     limited only by bison's stack ("memory exhausted").
 *
 * So a small scanner goes over the text first.  It knows libconfig's comments, texts, names and
 * numbers, copies everything as it stands, gives large integers their L, and puts what is
 * included in the place of each @include.  Grammar is left to libconfig.  (Out of memory,
 * libconfig crashes; that we cannot guard against.) */

struct scan {
    struct sheet *sheet;
    struct config_mistakes *mistakes;
    unsigned text_line; /* of the end of sheet->text, counted from 1 */
    unsigned nesting;
    unsigned
        settings[SHEET_NESTING_MAX + 1]; /* in the group that is open, and in those around it */
    bool may_include;
};

struct cursor { /* walks over one file's text */
    struct slice text;
    size_t at, copied; /* copied <= at <= text.len */
    size_t file;       /* in sheet->files */
    unsigned line;     /* of `at` */
    unsigned includes; /* how deep we are */
};

static int scan_file(struct scan *s, const char *path, unsigned includes,
                     const struct cursor *from);

/* Adds a mistake at the cursor, and gives what the caller returns. */
#define SCAN_MISTAKE(s, c, ...)                                                                    \
    (config_mistakes_add((s)->mistakes, (s)->sheet->files[(c)->file].name, (c)->line, "",          \
                         __VA_ARGS__),                                                             \
     -EINVAL)

static bool is_name_start(char c)
{
    return isalpha((unsigned char)c) || c == '*';
}

static bool is_name(char c)
{
    return is_name_start(c) || isdigit((unsigned char)c) || c == '-' || c == '_';
}

/* The next byte but `ahead`; 0 after the end, and no byte of the text is 0. */
static char peek(const struct cursor *c, size_t ahead)
{
    return ahead < c->text.len - c->at ? c->text.ptr[c->at + ahead] : '\0';
}

static void step(struct cursor *c)
{
    if (c->text.ptr[c->at++] == '\n')
        c->line++;
}

static int sheet_mark(struct scan *s, size_t file, unsigned file_line)
{
    struct sheet *sheet = s->sheet;
    struct sheet_mark *marks =
        realloc(sheet->marks, (sheet->mark_count + 1) * sizeof *sheet->marks);

    if (marks == NULL)
        return -ENOMEM;
    sheet->marks = marks;
    marks[sheet->mark_count++] = (struct sheet_mark){s->text_line, file, file_line};
    return 0;
}

static int append(struct scan *s, const struct cursor *c, struct slice text)
{
    int r = buf_append(&s->sheet->text, text);

    if (r == -EMSGSIZE)
        return SCAN_MISTAKE(s, c, "the included files are too large together (over %d MiB)",
                            SHEET_TEXT_MAX >> 20);
    for (size_t i = 0; i < text.len; i++)
        s->text_line += text.ptr[i] == '\n';
    return r;
}

/* Copies what was walked over since the last time. */
static int flush(struct scan *s, struct cursor *c)
{
    int r = append(s, c, slice_first(slice_from(c->text, c->copied), c->at - c->copied));

    c->copied = c->at;
    return r;
}

/* The rest of the scanner: one function per kind of token.  Each begins at its first byte. */

static void skip_line_comment(struct cursor *c)
{
    while (c->at < c->text.len && peek(c, 0) != '\n')
        step(c);
}

static int skip_block_comment(struct scan *s, struct cursor *c)
{
    struct cursor opened = *c;

    for (step(c), step(c); c->at < c->text.len; step(c)) {
        if (peek(c, 0) == '*' && peek(c, 1) == '/') {
            c->at += 2;
            return 0;
        }
    }
    return SCAN_MISTAKE(s, &opened, "this comment is never closed; end it with */");
}

static int skip_text(struct scan *s, struct cursor *c)
{
    struct cursor opened = *c;

    for (step(c); c->at < c->text.len; step(c)) {
        if (peek(c, 0) == '"') {
            step(c);
            return 0;
        }
        if (peek(c, 0) != '\\')
            continue;
        if ((peek(c, 1) == 'x' || peek(c, 1) == 'X') && peek(c, 2) == '0' && peek(c, 3) == '0')
            (void)SCAN_MISTAKE(s, c, "a text cannot have a zero byte (\\x00) in it; remove it");
        if (peek(c, 1) == '"' || peek(c, 1) == '\\')
            step(c);
    }
    return SCAN_MISTAKE(s, &opened, "this text is never closed; end it with \"");
}

static void skip_digits(struct cursor *c)
{
    while (isdigit((unsigned char)peek(c, 0)))
        step(c);
}

/* Makes an integer that does not fit 32 bits a long one, as if it had been written with an L, so
 * that its row can say that it is out of range. */
static int widen_number(struct scan *s, struct cursor *c)
{
    const char *begin = c->text.ptr + c->at;
    bool hex = peek(c, 0) == '0' && (peek(c, 1) == 'x' || peek(c, 1) == 'X');
    unsigned long value, max = hex ? UINT_MAX : INT_MAX;
    int r;

    errno = 0;
    value = strtoul(begin, NULL, hex ? 16 : 10); /* ends at the latest at the text's newline */
    if (hex) {
        step(c);
        step(c);
        while (isxdigit((unsigned char)peek(c, 0)))
            step(c);
    } else {
        skip_digits(c);
        if (peek(c, 0) == '.' || peek(c, 0) == 'e' || peek(c, 0) == 'E') {
            step(c); /* a float: nothing is lost in it */
            skip_digits(c);
            return 0;
        }
    }
    if (value <= max && errno == 0)
        return 0;
    if (hex && (value > INT64_MAX || errno != 0)) {
        /* As libconfig does with a decimal one: the largest there is. */
        while (peek(c, 0) == 'L')
            step(c);
        r = append(
            s, c,
            slice_first(slice_from(c->text, c->copied), (size_t)(begin - c->text.ptr) - c->copied));
        c->copied = c->at;
        return r < 0 ? r : append(s, c, SLICE("9223372036854775807L"));
    }
    if (peek(c, 0) == 'L')
        return 0;
    r = flush(s, c);
    return r < 0 ? r : append(s, c, SLICE("L"));
}

static int note_bracket(struct scan *s, struct cursor *c)
{
    if (strchr("{[(", peek(c, 0)) != NULL) {
        if (++s->nesting > SHEET_NESTING_MAX)
            return SCAN_MISTAKE(s, c, "more than %d brackets are open here; is one not closed?",
                                SHEET_NESTING_MAX);
        s->settings[s->nesting] = 0;
    } else if (s->nesting > 0) {
        s->nesting--;
    }
    step(c);
    return 0;
}

static int note_setting(struct scan *s, struct cursor *c)
{
    if (++s->settings[s->nesting] > SHEET_SETTINGS_MAX)
        return SCAN_MISTAKE(s, c,
                            "there are more than %d settings in this group; this cannot be "
                            "a configuration of kinetail",
                            SHEET_SETTINGS_MAX);
    step(c);
    return 0;
}

/* Reads  @include "path"  into a new path, relative to the file it stands in. */
static int take_include(struct scan *s, struct cursor *c, char **ret_path)
{
    static const struct slice word = {"@include", 8};
    const char *here = s->sheet->files[c->file].name, *slash = strrchr(here, '/');
    size_t start = c->at;
    struct buf path;
    int r = 0;

    while (start > 0 && (c->text.ptr[start - 1] == ' ' || c->text.ptr[start - 1] == '\t'))
        start--;
    if ((start > 0 && c->text.ptr[start - 1] != '\n') ||
        !slice_starts_with(slice_from(c->text, c->at), word))
        return SCAN_MISTAKE(s, c,
                            "@ is not understood; to include a file, write @include \"FILE\" "
                            "at the beginning of a line");
    c->at += word.len;
    while (peek(c, 0) == ' ' || peek(c, 0) == '\t')
        step(c);
    if (peek(c, 0) != '"' || c->text.ptr[c->at - 1] == 'e')
        return SCAN_MISTAKE(s, c, "the file to include is missing; write @include \"FILE\"");

    buf_init(&path, PATH_MAX);
    if (peek(c, 1) != '/' && slash != NULL)
        r = buf_append(&path, (struct slice){here, (size_t)(slash - here) + 1});
    for (step(c); r == 0 && c->at < c->text.len && !strchr("\"\n", peek(c, 0)); step(c)) {
        if (peek(c, 0) == '\\' && (peek(c, 1) == '"' || peek(c, 1) == '\\'))
            step(c);
        r = buf_append_char(&path, peek(c, 0));
    }
    if (r == 0 && (peek(c, 0) != '"' || path.len == 0 || path.ptr[path.len - 1] == '/'))
        r = SCAN_MISTAKE(s, c, "the file to include is missing; write @include \"FILE\"");
    if (r == 0)
        r = buf_append_char(&path, '\0');
    if (r == -EMSGSIZE)
        r = SCAN_MISTAKE(s, c, "the path of the file to include is too long");
    if (r < 0) {
        buf_done(&path);
        return r;
    }
    step(c);
    *ret_path = path.ptr;
    return 0;
}

static int include(struct scan *s, struct cursor *c)
{
    char *path = NULL;
    int r = flush(s, c);

    if (r == 0)
        r = take_include(s, c, &path);
    if (r < 0)
        return r;
    if (!s->may_include)
        r = SCAN_MISTAKE(s, c, "a file cannot be included here");
    else if (c->includes == SHEET_INCLUDES_MAX)
        r = SCAN_MISTAKE(s, c, "more than %d files include each other; does one include itself?",
                         SHEET_INCLUDES_MAX);
    else if (s->sheet->file_count == SHEET_FILES_MAX)
        r = SCAN_MISTAKE(s, c, "more than %d files are included", SHEET_FILES_MAX);
    else
        r = scan_file(s, path, c->includes + 1, c);
    free(path);
    if (r < 0)
        return r == -ENOMEM ? r : -EINVAL;
    c->copied = c->at; /* the directive itself is not for libconfig */
    return sheet_mark(s, c->file, c->line);
}

static int scan_token(struct scan *s, struct cursor *c)
{
    char first = peek(c, 0), second = peek(c, 1);

    if (first == '#' || (first == '/' && second == '/'))
        skip_line_comment(c);
    else if (first == '/' && second == '*')
        return skip_block_comment(s, c);
    else if (first == '"')
        return skip_text(s, c);
    else if (first == '@')
        return include(s, c);
    else if (isdigit((unsigned char)first))
        return widen_number(s, c);
    else if (first == '.')
        for (step(c); isdigit((unsigned char)peek(c, 0));)
            step(c);
    else if (first == '=' || first == ':')
        return note_setting(s, c);
    else if (strchr("{}[]()", first) != NULL)
        return note_bracket(s, c);
    else if (is_name_start(first))
        while (is_name(peek(c, 0)))
            step(c);
    else
        step(c);
    return 0;
}

/* `text` ends with a newline. */
static int scan_text(struct scan *s, struct slice text, size_t file, unsigned includes)
{
    struct cursor c = {.text = text, .file = file, .line = 1, .includes = includes};
    const char *zero = memchr(text.ptr, '\0', text.len);
    int r = sheet_mark(s, file, 1);

    if (r == 0 && zero != NULL) {
        while (c.text.ptr + c.at < zero)
            step(&c);
        r = SCAN_MISTAKE(s, &c, "there is a zero byte here; this is not a text file");
    }
    while (r == 0 && c.at < text.len)
        r = scan_token(s, &c);
    return r < 0 ? r : flush(s, &c);
}

static int add_file(struct scan *s, const char *name, bool exposed)
{
    struct sheet *sheet = s->sheet;
    struct sheet_file *files =
        realloc(sheet->files, (sheet->file_count + 1) * sizeof *sheet->files);
    char *copy = strdup(name);

    if (files != NULL)
        sheet->files = files;
    if (files == NULL || copy == NULL) {
        free(copy);
        return -ENOMEM;
    }
    files[sheet->file_count].name = copy;
    files[sheet->file_count++].exposed = exposed;
    return 0;
}

/* Reads to the end, or to one byte more than is allowed. */
static int read_all(int fd, struct buf *text)
{
    int r = buf_reserve(text, SHEET_FILE_MAX + 2); /* at once: nothing secret is left by growing */

    while (r == 0 && text->len <= SHEET_FILE_MAX) {
        ssize_t n = read(fd, text->ptr + text->len, SHEET_FILE_MAX + 1 - text->len);
        if (n == 0)
            return 0;
        if (n > 0)
            text->len += (size_t)n;
        else if (errno != EINTR)
            r = -errno;
    }
    return r;
}

static void wipe(struct buf *b)
{
    if (b->ptr != NULL)
        explicit_bzero(b->ptr, b->cap);
    buf_done(b);
}

static const char *not_a_file(mode_t mode)
{
    return S_ISDIR(mode)    ? "is a directory"
           : S_ISFIFO(mode) ? "is a FIFO"
           : S_ISREG(mode)  ? NULL
                            : "is a device";
}

/* Opens, looks, reads and scans.  `from`: where it was included, or NULL. */
static int scan_file(struct scan *s, const char *path, unsigned includes, const struct cursor *from)
{
    const char *name = from != NULL ? s->sheet->files[from->file].name : path;
    unsigned line = from != NULL ? from->line : 0;
    struct buf text;
    struct stat st;
    int r;
    /* O_NONBLOCK: the open of a FIFO would wait for a writer, before fstat can tell. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

    if (fd < 0) {
        r = -errno;
        config_mistakes_add(s->mistakes, name, line, "", "'%s' cannot be opened: %s", path,
                            strerror(-r));
        return r;
    }
    buf_init(&text, SHEET_FILE_MAX + 2);
    r = fstat(fd, &st) < 0 ? -errno : 0;
    if (r == 0 && not_a_file(st.st_mode) != NULL) {
        config_mistakes_add(s->mistakes, name, line, "", "'%s' %s; give a file", path,
                            not_a_file(st.st_mode));
        r = -EINVAL;
        goto out;
    }
    if (r == 0)
        r = read_all(fd, &text);
    if (r < 0) {
        config_mistakes_add(s->mistakes, name, line, "", "'%s' cannot be read: %s", path,
                            strerror(-r));
        goto out;
    }
    if (text.len > SHEET_FILE_MAX) {
        config_mistakes_add(s->mistakes, name, line, "",
                            "'%s' is larger than 1 MiB; this cannot be a configuration", path);
        r = -EINVAL;
        goto out;
    }

    r = buf_append_char(&text, '\n');
    if (r == 0)
        r = add_file(s, path, (st.st_mode & (S_IRGRP | S_IROTH)) != 0);
    if (r == 0)
        r = scan_text(s, buf_slice(&text), s->sheet->file_count - 1, includes);
out:
    wipe(&text);
    close(fd);
    return r;
}

static int finish(struct scan *s, int r)
{
    if (r == 0)
        r = buf_append_char(&s->sheet->text, '\0');
    if (r < 0)
        sheet_done(s->sheet);
    return r;
}

int sheet_read(const char *path, struct sheet *ret, struct config_mistakes *m)
{
    struct sheet sheet = {0};
    struct scan s = {.sheet = &sheet, .mistakes = m, .text_line = 1, .may_include = true};
    int r;

    buf_init(&sheet.text, SHEET_TEXT_MAX);
    r = finish(&s, scan_file(&s, path, 0, NULL));
    if (r == 0)
        *ret = sheet;
    return r;
}

int sheet_copy(struct slice text, const char *name, struct sheet *ret, struct config_mistakes *m)
{
    struct sheet sheet = {0};
    struct scan s = {.sheet = &sheet, .mistakes = m, .text_line = 1};
    struct buf copy;
    int r;

    buf_init(&sheet.text, SHEET_TEXT_MAX);
    buf_init(&copy, SHEET_FILE_MAX + 1);
    if (text.len > SHEET_FILE_MAX) {
        config_mistakes_add(m, name, 0, "", "is larger than 1 MiB; this cannot be a configuration");
        return -EINVAL;
    }
    r = buf_append(&copy, text);
    if (r == 0)
        r = buf_append_char(&copy, '\n'); /* see above: a comment needs its newline */
    if (r == 0)
        r = add_file(&s, name, false);
    if (r == 0)
        r = scan_text(&s, buf_slice(&copy), 0, 0);
    wipe(&copy);
    r = finish(&s, r);
    if (r == 0)
        *ret = sheet;
    return r;
}

struct sheet_place sheet_place(const struct sheet *s, unsigned text_line)
{
    size_t i = s->mark_count;
    const struct sheet_mark *mark;

    while (i > 1 && s->marks[i - 1].text_line > text_line)
        i--;
    mark = &s->marks[i - 1]; /* the first mark is of line 1 */
    return (struct sheet_place){
        .file = s->files[mark->file].name,
        .line = mark->file_line + (text_line > mark->text_line ? text_line - mark->text_line : 0),
        .exposed = s->files[mark->file].exposed,
    };
}

unsigned sheet_text_before(const struct sheet *s, unsigned text_line)
{
    struct slice rest = buf_slice(&s->text);
    unsigned found = text_line;

    for (unsigned line = 1; line <= text_line && rest.len > 0; line++) {
        const char *end = memchr(rest.ptr, '\n', rest.len);
        size_t len = end != NULL ? (size_t)(end - rest.ptr) + 1 : rest.len;
        if (memchr(rest.ptr, '"', len) != NULL)
            found = line;
        rest = slice_from(rest, len);
    }
    return found;
}

void sheet_done(struct sheet *s)
{
    wipe(&s->text);
    for (size_t i = 0; i < s->file_count; i++)
        free(s->files[i].name);
    free(s->files);
    free(s->marks);
    *s = (struct sheet){0};
}
