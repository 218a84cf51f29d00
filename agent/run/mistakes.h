/* mistakes -- what is wrong with a configuration, as a list for a person.
 *
 *   1. Nothing here stops at the first mistake; whoever finds one adds it and goes on.
 *   2. A sentence says what is wrong and what to do, and never quotes a secret.
 *   3. Out of memory is noted in `lost`: an incomplete list must not look like a short one.
 *
 * Threads: one.  Blocks: never. */
#ifndef MISTAKES_H
#define MISTAKES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct config_mistake { /* owns its texts */
    char *file;
    unsigned line; /* 0: the file as a whole */
    char *key;     /* dotted path such as flows[0].batch.linger, counted in its file; or "" */
    char *sentence;
};

struct config_mistakes { /* the zero value is the empty list; owns its items */
    struct config_mistake *items;
    size_t count, cap;
    bool lost; /* there was no memory for at least one more */
};

/* Adds one; the texts are copied.  Cannot fail but for `lost`. */
__attribute__((format(printf, 5, 6))) void config_mistakes_add(struct config_mistakes *m,
                                                               const char *file, unsigned line,
                                                               const char *key, const char *format,
                                                               ...);

/* One line each: "file:line: key: sentence". */
void config_mistakes_print(const struct config_mistakes *m, FILE *to);

/* Gives the memory back and leaves an empty list. */
void config_mistakes_done(struct config_mistakes *m);

#endif
