#include "run/config.h"

#include "record/parse.h"
#include "run/config_key.h"
#include "run/config_rules.h"
#include "run/guess.h"
#include "run/sheet.h"

#include <dirent.h>
#include <errno.h>
#include <libconfig.h>
#include <stdlib.h>
#include <string.h>

/* Reading goes in three steps.  A sheet is the text with its includes; libconfig makes a tree of
 * it; and the tree is walked, each setting looked up among the rows.  What no single row can know
 * (pairs, duplicates, what is missing) comes last. */

struct table {
    const struct config_key *rows;
    size_t count;
};

struct where {  /* owns */
    char *file; /* NULL: nowhere */
    unsigned line;
};

struct load {
    struct config *config;
    struct config_mistakes *mistakes;
    struct where *globals; /* owns; where each row of the global table was set */
    const char *main_name;
    bool check_exposed; /* refuse secrets that others can read */
    bool unread;        /* a file could not be parsed: do not say what is missing */
    bool flows_tried;   /* somebody wrote flows, if wrongly: do not say there are none */
};

struct walk { /* over the settings of the root, or of one flow */
    struct load *load;
    struct config_scene scene;
    bool in_flow;
    void *base;  /* the struct config or the struct config_flow */
    bool *wrong; /* of a flow: for each row, whether it could not be read */
};

static struct table table_of(bool in_flow)
{
    struct table t;

    t.rows = in_flow ? config_flow_keys(&t.count) : config_global_keys(&t.count);
    return t;
}

static void complain_unknown(const struct walk *w, const config_setting_t *s, const char *path)
{
    struct table here = table_of(w->in_flow), there = table_of(!w->in_flow);
    const struct config_key *near = guess_key(here.rows, here.count, path);
    const struct config_key *other = guess_key(there.rows, there.count, path);

    if (!w->in_flow && guess_distance("flows", path) <= 2) {
        config_scene_mistake(&w->scene, s, path, "is not a setting; did you mean 'flows'?");
        w->load->flows_tried = true;
    } else if (other != NULL && strcmp(other->path, path) == 0) {
        config_scene_mistake(&w->scene, s, path, "belongs %s",
                             w->in_flow ? "outside of flows, to the settings of all"
                                        : "into a flow: flows = ( { ... } )");
    } else if (near != NULL) {
        config_scene_mistake(&w->scene, s, path, "is not a setting; did you mean '%s'?",
                             near->path);
    } else {
        config_scene_mistake(&w->scene, s, path,
                             "is not a setting of this version; see config.example, or remove it");
    }
}

/* --- walking the tree ----------------------------------------------------------------------- */

/* In what a path names: a row, a group of rows (then *ret_row is NULL), or nothing. */
static bool find(bool in_flow, const char *path, const struct config_key **ret_row)
{
    struct table t = table_of(in_flow);
    size_t len = strlen(path);

    for (size_t i = 0; i < t.count; i++) {
        const char *p = t.rows[i].path;
        if (strncmp(p, path, len) != 0 || (p[len] != '\0' && p[len] != '.'))
            continue;
        *ret_row = p[len] == '\0' ? &t.rows[i] : NULL;
        return true;
    }
    return false;
}

/* Whether a global row may be set here: once in all files. */
static bool claim_global(const struct walk *w, const struct config_key *k,
                         const config_setting_t *s)
{
    struct where *where = &w->load->globals[k - table_of(false).rows];
    struct sheet_place place = sheet_place(w->scene.sheet, config_setting_source_line(s));

    if (where->file != NULL) {
        config_scene_mistake(&w->scene, s, k->path,
                             "is set at %s:%u already; keep only one of the two", where->file,
                             where->line);
        return false;
    }
    *where = (struct where){strdup(place.file), place.line};
    if (where->file == NULL)
        w->load->mistakes->lost = true;
    return true;
}

static void read_row(const struct walk *w, const struct config_key *k, const config_setting_t *s)
{
    struct sheet_place place = sheet_place(w->scene.sheet, config_setting_source_line(s));
    size_t before = w->load->mistakes->count;

    if (!w->in_flow && !claim_global(w, k, s))
        return;
    if (config_key_is_secret(k, s) && w->load->check_exposed && place.exposed)
        config_scene_mistake(&w->scene, s, k->path,
                             "is a secret in a file that other users can read; run: chmod 600 %s",
                             place.file);
    config_key_read(k, s, w->base, &w->scene);
    if (w->in_flow)
        w->wrong[k - table_of(true).rows] = w->load->mistakes->count > before;
}

static void read_flows(const struct walk *root, const config_setting_t *list);

static void walk_group(const struct walk *w, const config_setting_t *group, const char *prefix)
{
    int count = config_setting_length(group);

    for (int i = 0; i < count; i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        const struct config_key *row = NULL;
        char path[CONFIG_PATH_SIZE];

        (void)snprintf(path, sizeof path, "%s%s", prefix, config_setting_name(s));
        if (!w->in_flow && strcmp(path, "flows") == 0) {
            read_flows(w, s);
        } else if (!find(w->in_flow, path, &row)) {
            complain_unknown(w, s, path);
        } else if (row != NULL) {
            read_row(w, row, s);
        } else if (!config_setting_is_group(s)) {
            config_scene_mistake(&w->scene, s, path,
                                 "has the wrong type; write a group, as in %s = { ... }", path);
        } else {
            size_t len = strlen(path);
            (void)snprintf(path + len, sizeof path - len, ".");
            walk_group(w, s, path);
        }
    }
}

/* --- flows ---------------------------------------------------------------------------------- */

static int preset_all(bool in_flow, void *base)
{
    struct table t = table_of(in_flow);
    int r = 0;

    for (size_t i = 0; i < t.count && r == 0; i++)
        r = config_key_preset(&t.rows[i], base);
    return r;
}

static void clear_all(bool in_flow, void *base)
{
    struct table t = table_of(in_flow);

    for (size_t i = 0; i < t.count; i++)
        config_key_clear(&t.rows[i], base);
}

static void flow_done(struct config_flow *f)
{
    clear_all(true, f);
    free(f->destination);
    free(f->where_file);
}

/* A colon is in no stream's name, and an ARN does not begin so. */
static int name_destination(struct config_flow *f)
{
    const char *name = f->stream != NULL ? f->stream : f->stream_arn;

    if (name != NULL)
        f->destination = strdup(name);
    else if (f->delivery_stream == NULL)
        return 0; /* which is a mistake, and told */
    else if (asprintf(&f->destination, "firehose:%s", f->delivery_stream) < 0)
        f->destination = NULL;
    return f->destination != NULL ? 0 : -ENOMEM;
}

static void check_name(const struct walk *w, const config_setting_t *s)
{
    const struct config_flow *f = w->base;

    for (size_t i = 0; f->name != NULL && i < w->load->config->flow_count; i++) {
        const struct config_flow *other = &w->load->config->flows[i];
        if (other->name != NULL && strcmp(other->name, f->name) == 0) {
            config_scene_mistake(&w->scene, config_setting_get_member(s, "name"), "name",
                                 "is the name of the flow at %s:%u already; choose another",
                                 other->where_file, other->where_line);
            break;
        }
    }
}

static int flow_append(struct config *c, const struct config_flow *f)
{
    struct config_flow *flows = realloc(c->flows, (c->flow_count + 1) * sizeof *flows);

    if (flows == NULL)
        return -ENOMEM;
    c->flows = flows;
    flows[c->flow_count++] = *f;
    return 0;
}

static void read_flow(const struct walk *root, const config_setting_t *s, unsigned index)
{
    struct sheet_place place = sheet_place(root->scene.sheet, config_setting_source_line(s));
    struct config_flow flow = {.where_line = place.line, .where_index = index};
    struct walk w = {root->load, root->scene, true, &flow, NULL};
    char prefix[32];
    bool kept = false;

    (void)snprintf(prefix, sizeof prefix, "flows[%u]", index);
    if (!config_setting_is_group(s)) {
        config_scene_mistake(&root->scene, s, prefix,
                             "is not a flow; write { name = \"...\"; ... }");
        return;
    }
    (void)snprintf(prefix, sizeof prefix, "flows[%u].", index);
    w.scene.prefix = prefix;
    flow.where_file = strdup(place.file);
    w.wrong = calloc(table_of(true).count, sizeof *w.wrong);
    if (flow.where_file != NULL && w.wrong != NULL && preset_all(true, &flow) == 0) {
        walk_group(&w, s, "");
        if (flow.parse.regex != NULL)
            flow.parse.format = PARSE_REGEX;
        config_rules_check(&flow, s, w.wrong, &w.scene);
        check_name(&w, s);
        kept = name_destination(&flow) == 0 && flow_append(root->load->config, &flow) == 0;
    }
    free(w.wrong);
    if (!kept) {
        root->load->mistakes->lost = true;
        flow_done(&flow);
    }
}

static void read_flows(const struct walk *root, const config_setting_t *list)
{
    int count = config_setting_length(list);

    root->load->flows_tried = root->load->flows_tried || count > 0;
    /* An empty array is as empty as an empty list. */
    if (!config_setting_is_list(list) && !(config_setting_is_array(list) && count == 0)) {
        config_scene_mistake(&root->scene, list, "flows",
                             "has the wrong type; write a list of flows: flows = ( { ... } );");
        return;
    }
    for (int i = 0; i < count; i++)
        read_flow(root, config_setting_get_elem(list, (unsigned)i), (unsigned)i);
}

/* --- what no row can know ------------------------------------------------------------------- */

static const struct where *global_where(const struct load *l, const char *path)
{
    const struct config_key *row = NULL;

    (void)find(false, path, &row);
    return &l->globals[row - table_of(false).rows];
}

static void mistake_at(struct load *l, const struct where *where, const char *key,
                       const char *sentence)
{
    config_mistakes_add(l->mistakes, where->file != NULL ? where->file : l->main_name, where->line,
                        key, "%s", sentence);
}

static void check_credentials(struct load *l)
{
    const struct where *id = global_where(l, "credentials.access_key_id");
    const struct where *secret = global_where(l, "credentials.secret_access_key");
    const struct where *token = global_where(l, "credentials.session_token");

    if (id->file != NULL && secret->file == NULL)
        mistake_at(l, id, "credentials.access_key_id",
                   "is given without its secret; add secret_access_key, or remove both");
    if (secret->file != NULL && id->file == NULL)
        mistake_at(l, secret, "credentials.secret_access_key",
                   "is given without its id; add access_key_id, or remove both");
    if (token->file != NULL && id->file == NULL && secret->file == NULL)
        mistake_at(l, token, "credentials.session_token",
                   "is given without a key; add access_key_id and secret_access_key, or remove it");
}

/* A request goes to, and is signed for, the configured region: the stream of another one would
 * never be found. */
static void check_arn_region(struct load *l, const struct config_flow *f)
{
    const char *region = l->config->region, *in_arn = f->stream_arn;
    char key[64];

    if (region == NULL || in_arn == NULL)
        return;
    for (int i = 0; i < 3; i++)
        in_arn = strchr(in_arn, ':') + 1; /* judge_stream_arn has seen them */
    if (strncmp(in_arn, region, strlen(region)) == 0 && in_arn[strlen(region)] == ':')
        return;
    (void)snprintf(key, sizeof key, "flows[%u].stream_arn", f->where_index);
    config_mistakes_add(l->mistakes, f->where_file, f->where_line, key,
                        "is in another region than region = \"%s\"; use a stream of that region",
                        region);
}

static void check_whole(struct load *l)
{
    static const struct where nowhere = {0};
    const struct config *c = l->config;
    struct table t = table_of(false);

    if (c->lanes > 1)
        mistake_at(l, global_where(l, "lanes"), "lanes",
                   "this version runs one lane; set lanes = 1");
    for (size_t i = 0; i < c->flow_count; i++)
        check_arn_region(l, &c->flows[i]);
    if (l->unread)
        return;
    check_credentials(l);
    for (size_t i = 0; i < t.count; i++) {
        if (t.rows[i].required && l->globals[i].file == NULL)
            config_mistakes_add(l->mistakes, l->main_name, 0, t.rows[i].path,
                                "is missing; add %s = \"...\"; (%s)", t.rows[i].path,
                                t.rows[i].meaning);
    }
    if (c->flow_count == 0 && !l->flows_tried)
        mistake_at(l, &nowhere, "flows",
                   "there is none, so nothing would be sent; add flows = ( { ... } );");
}

/* --- files ---------------------------------------------------------------------------------- */

/* libconfig frees its tree without wiping it. */
static void wipe_tree(const config_setting_t *s)
{
    int count = config_setting_is_aggregate(s) ? config_setting_length(s) : 0;

    if (config_setting_type(s) == CONFIG_TYPE_STRING && s->value.sval != NULL)
        explicit_bzero(s->value.sval, strlen(s->value.sval));
    for (int i = 0; i < count; i++)
        wipe_tree(config_setting_get_elem(s, (unsigned)i)); /* at most SHEET_NESTING_MAX deep */
}

static void complain_syntax(struct load *l, const struct sheet *sheet, const config_t *tree)
{
    int line = config_error_line(tree);
    struct sheet_place place = sheet_place(sheet, line > 0 ? (unsigned)line : 1);
    const char *text = config_error_text(tree);

    if (text != NULL && strcmp(text, "duplicate setting name") == 0)
        text = "duplicate setting name: the setting stands above already; keep only one of the two";
    else if (text != NULL && strcmp(text, "syntax error") == 0)
        text = "syntax error here or just above: is a = ; , quote or bracket missing or too many?";
    config_mistakes_add(l->mistakes, place.file, place.line, "", "%s",
                        text != NULL ? text : "syntax error");
    l->unread = true;
}

static void load_sheet(struct load *l, const struct sheet *sheet)
{
    struct walk w = {l, {sheet, l->mistakes, ""}, false, l->config, NULL};
    config_t tree;

    config_init(&tree);
    if (config_read_string(&tree, sheet->text.ptr) == CONFIG_TRUE)
        walk_group(&w, config_root_setting(&tree), "");
    else
        complain_syntax(l, sheet, &tree);
    wipe_tree(config_root_setting(&tree));
    config_destroy(&tree);
}

static int load_file(struct load *l, const char *path)
{
    struct sheet sheet;
    int r = sheet_read(path, &sheet, l->mistakes);

    if (r == -ENOMEM)
        l->mistakes->lost = true; /* the one failure that is no mistake of the file */
    if (r < 0) {
        l->unread = true;
        return r;
    }
    load_sheet(l, &sheet);
    sheet_done(&sheet);
    return 0;
}

static int is_conf(const struct dirent *e)
{
    struct slice name = slice_of(e->d_name);

    return name.ptr[0] != '.' && slice_ends_with(name, SLICE(".conf"));
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name); /* not alphasort, which heeds the locale */
}

static void load_conf_d(struct load *l, const char *main_path)
{
    const char *slash = strrchr(main_path, '/');
    struct dirent **entries = NULL;
    char *dir = NULL, *path = NULL;
    int count;

    if (asprintf(&dir, "%.*sconf.d", slash != NULL ? (int)(slash - main_path) + 1 : 0, main_path) <
        0) {
        l->mistakes->lost = true;
        return;
    }
    count = scandir(dir, &entries, is_conf, by_name);
    if (count < 0 && errno != ENOENT && errno != ENOTDIR) {
        config_mistakes_add(l->mistakes, dir, 0, "", "this directory cannot be read: %s",
                            strerror(errno));
        l->unread = true;
    }
    for (int i = 0; i < count; i++) {
        if (asprintf(&path, "%s/%s", dir, entries[i]->d_name) < 0) {
            l->mistakes->lost = true;
        } else {
            (void)load_file(l, path); /* what failed is among the mistakes */
            free(path);
        }
        free(entries[i]);
    }
    free(entries);
    free(dir);
}

static int load_begin(struct load *l, const char *name, struct config_mistakes *m)
{
    *l = (struct load){.config = calloc(1, sizeof *l->config), .mistakes = m, .main_name = name};
    l->globals = calloc(table_of(false).count, sizeof *l->globals);
    if (l->config == NULL || l->globals == NULL)
        return -ENOMEM;
    return preset_all(false, l->config);
}

/* `r`: what became of the main file.  Gives the configuration only if nothing at all is wrong. */
static int load_end(struct load *l, size_t mistakes_before, int r, struct config **ret)
{
    if (r == 0 || r == -EINVAL)
        check_whole(l);
    if (r == 0 && l->mistakes->lost)
        r = -ENOMEM;
    if (r == 0 && l->mistakes->count > mistakes_before)
        r = -EINVAL;
    for (size_t i = 0; l->globals != NULL && i < table_of(false).count; i++)
        free(l->globals[i].file);
    free(l->globals);
    if (r == 0)
        *ret = l->config;
    else
        config_free(l->config);
    return r;
}

int config_load(const char *path, struct config **ret, struct config_mistakes *m)
{
    size_t before = m->count;
    struct load l;
    int r = load_begin(&l, path, m);

    if (r == 0) {
        l.check_exposed = true;
        r = load_file(&l, path);
        load_conf_d(&l, path);
    }
    return load_end(&l, before, r, ret);
}

int config_load_text(struct slice text, const char *name, struct config **ret,
                     struct config_mistakes *m)
{
    size_t before = m->count;
    struct sheet sheet;
    struct load l;
    int r = load_begin(&l, name, m);

    if (r == 0)
        r = sheet_copy(text, name, &sheet, m);
    l.unread = r < 0;
    if (r == 0) {
        load_sheet(&l, &sheet);
        sheet_done(&sheet);
    }
    return load_end(&l, before, r, ret);
}

/* --- printing and freeing ------------------------------------------------------------------- */

struct page { /* where we are in what is printed */
    FILE *to;
    unsigned depth;   /* brackets that are open */
    const char *open; /* borrows a row's path, which begins with the groups that are open */
    size_t open_len;
};

static void indent(const struct page *p)
{
    for (unsigned i = 0; i < p->depth; i++)
        fputs("    ", p->to);
}

/* The length of a path's groups: 10 of "parse.time.zone". */
static size_t groups_len(const char *path, size_t len)
{
    const char *dot = memrchr(path, '.', len);

    return dot != NULL ? (size_t)(dot - path) : 0;
}

/* Closes groups until only such are open that `path` is in. */
static void close_groups(struct page *p, const char *path)
{
    while (p->open_len > 0 &&
           (strncmp(p->open, path, p->open_len) != 0 || path[p->open_len] != '.')) {
        p->depth--;
        indent(p);
        fputs("};\n", p->to);
        p->open_len = groups_len(p->open, p->open_len);
    }
}

static void open_groups(struct page *p, const char *path)
{
    size_t len = groups_len(path, strlen(path));

    while (p->open_len < len) {
        size_t begin = p->open_len > 0 ? p->open_len + 1 : 0;

        p->open_len = begin + strcspn(path + begin, ".");
        indent(p);
        fprintf(p->to, "%.*s = {\n", (int)(p->open_len - begin), path + begin);
        p->depth++;
    }
    p->open = path;
}

/* Rows of one group stand together in the table. */
static void print_row(struct page *p, const struct config_key *k, const void *base)
{
    size_t len = groups_len(k->path, strlen(k->path));

    close_groups(p, k->path);
    open_groups(p, k->path);
    indent(p);
    fprintf(p->to, "%s = ", k->path + (len > 0 ? len + 1 : 0));
    config_key_print(k, base, p->to);
    fputs(";\n", p->to);
}

static void print_table(bool in_flow, const void *base, FILE *to)
{
    struct table t = table_of(in_flow);
    struct page p = {.to = to, .depth = in_flow ? 2 : 0};

    for (size_t i = 0; i < t.count; i++) {
        if (config_key_has_value(&t.rows[i], base) &&
            (!in_flow || config_rules_idle(base, &t.rows[i]) == NULL))
            print_row(&p, &t.rows[i], base);
    }
    close_groups(&p, "");
}

int config_print(const struct config *c, FILE *to)
{
    print_table(false, c, to);
    fputs("flows = (\n", to);
    for (size_t i = 0; i < c->flow_count; i++) {
        fputs("    {\n", to);
        print_table(true, &c->flows[i], to);
        fprintf(to, "    }%s\n", i + 1 < c->flow_count ? "," : "");
    }
    fputs(");\n", to);
    return ferror(to) ? -EIO : 0;
}

void config_free(struct config *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->flow_count; i++)
        flow_done(&c->flows[i]);
    free(c->flows);
    clear_all(false, c);
    free(c);
}
