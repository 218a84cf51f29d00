#include "keep/folders.h"

#include "util.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t folders_split(struct slice path)
{
    const char *slash = path.len > 0 ? memrchr(path.ptr, '/', path.len) : NULL;

    return slash == NULL ? 0 : (size_t)(slash - path.ptr) + 1;
}

int folders_hold(struct folders *f, const void *flow, struct slice text, struct folder **ret)
{
    uint64_t hash = map_hash_slice((uint64_t)(uintptr_t)flow, text);
    struct map_node *n = map_find(&f->map, hash);
    struct folder *folder;
    int r;

    for (; n != NULL; n = map_find_next(n)) {
        folder = CONTAINER_OF(n, struct folder, node);
        if (folder->flow == flow && slice_equal(folder_text(folder), text)) {
            folder->holders++;
            *ret = folder;
            return 0;
        }
    }
    folder = malloc(sizeof *folder + text.len);
    if (folder == NULL)
        return -ENOMEM;
    r = map_insert(&f->map, &folder->node, hash);
    if (r < 0) {
        free(folder);
        return r;
    }
    folder->flow = flow;
    folder->holders = 1;
    folder->len = (uint32_t)text.len;
    if (text.len > 0)
        memcpy(folder->text, text.ptr, text.len);
    *ret = folder;
    return 0;
}

void folders_drop(struct folders *f, struct folder *folder)
{
    if (folder == NULL || --folder->holders > 0)
        return;
    map_remove(&f->map, &folder->node);
    free(folder);
}

void folders_done(struct folders *f)
{
    assert(f->map.count == 0);
    map_done(&f->map);
}
