#include "tail/walk.h"

#include "tail/glob.h"
#include "tail/identity.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WALK_DEPTH_MAX = 64 }; /* directories below "/": a loop of links ends here */

struct walk {
    const struct glob *glob;
    bool follow_symlinks;
    walk_found *found;
    void *user;
};

static DIR *open_list(const char *path, bool follow_symlinks)
{
    int dir = identity_open_dir(path[0] == '\0' ? "/" : path, follow_symlinks), fd;
    DIR *list;

    if (dir < 0)
        return NULL;
    fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    close(dir);
    list = fd < 0 ? NULL : fdopendir(fd);
    if (list == NULL && fd >= 0)
        close(fd);
    return list;
}

static void walk_dir(const struct walk *w, const char *path, const struct glob_states *states,
                     int depth)
{
    DIR *list = depth < WALK_DEPTH_MAX ? open_list(path, w->follow_symlinks) : NULL;

    for (struct dirent *e; list != NULL && (e = readdir(list)) != NULL;) {
        bool link = e->d_type == DT_LNK, other = e->d_type == DT_UNKNOWN;
        struct glob_states *inside;
        char sub[PATH_MAX];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if ((e->d_type == DT_REG || other || (link && w->follow_symlinks)) &&
            glob_matches(w->glob, states, e->d_name))
            w->found(w->user, path, e->d_name, e->d_ino);
        if (e->d_type != DT_DIR && !other && !(link && w->follow_symlinks))
            continue;
        if (snprintf(sub, sizeof sub, "%s/%s", path, e->d_name) >= (int)sizeof sub ||
            glob_enter(w->glob, states, e->d_name, &inside) < 0 || inside == NULL)
            continue;
        walk_dir(w, sub, inside, depth + 1);
        free(inside);
    }
    if (list != NULL)
        closedir(list);
}

void walk_files(const struct glob *g, bool follow_symlinks, walk_found *found, void *user)
{
    const struct walk w = {g, follow_symlinks, found, user};
    struct glob_states *root;

    if (glob_root(g, &root) < 0)
        return;
    walk_dir(&w, "", root, 0);
    free(root);
}
