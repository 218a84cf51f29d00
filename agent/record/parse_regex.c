/* The groups of a regular expression. */
#include "record/parse_inner.h"

#include "record/pattern.h"

static int add_group(struct fields *to, struct slice name, struct slice group)
{
    return fields_add(to, name, group, group.ptr == NULL ? FIELD_NULL : FIELD_TEXT);
}

/* The groups that have names, in the order of their numbers.  How many, or -errno. */
static int add_named(const struct pattern *p, unsigned count, const struct slice *groups,
                     struct fields *to)
{
    for (unsigned n = 1; n <= count; n++) {
        const char *name = pattern_group_name(p, n);
        int r = name == NULL ? 0 : add_group(to, slice_of(name), groups[n]);

        if (r < 0)
            return r;
    }
    return (int)to->count;
}

int parse_regex(const struct parse_settings *s, struct slice event, struct fields *to,
                const char **ret_why)
{
    struct slice groups[PARSE_GROUPS_MAX + 1];
    unsigned count = pattern_group_count(s->pattern);
    int r;

    if (count > PARSE_GROUPS_MAX)
        return -EMSGSIZE;
    r = pattern_match(s->pattern, event, groups);
    if (r < 0)
        return r;
    if (r == 0)
        return parse_mismatch(ret_why, "does not match the regex");
    r = add_named(s->pattern, count, groups, to);
    if (r != 0)
        return r < 0 ? r : 1;
    for (size_t i = 0; i < s->names.count && r == 0; i++)
        r = add_group(to, s->names.items[i], i < count ? groups[i + 1] : (struct slice){NULL, 0});
    return r < 0 ? r : 1;
}
