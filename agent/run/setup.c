#include "run/setup.h"

#include "run/config.h"
#include "run/mistakes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct config *setup_config(const char *path, const char *state_dir)
{
    struct config_mistakes mistakes = {0};
    struct config *c = NULL;
    int r = config_load(path, &c, &mistakes);

    config_mistakes_print(&mistakes, stderr);
    if (r < 0 && mistakes.count == 0)
        fprintf(stderr, "%s: %s\n", path, strerrordesc_np(-r));
    config_mistakes_done(&mistakes);
    if (r < 0)
        return NULL;
    if (state_dir != NULL) {
        free(c->state_dir);
        c->state_dir = strdup(state_dir);
        if (c->state_dir == NULL) {
            config_free(c);
            return NULL;
        }
    }
    return c;
}
