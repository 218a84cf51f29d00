/* evil -- how long the worst patterns take for the worst lines, with JIT and without.
 *
 *     evil [SIZE ...]        bytes of a line; else some sizes
 *
 * Prints for each case what came out and its CPU time in ms: of a match and of a replacement of all
 * matches, the best of three runs each, so that a busy machine is not taken for a dear pattern. */
#include "evil.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "buf.h"
#include "record/pattern.h"
#include "util.h"

enum { RUNS = 3 };

static double cpu_ms(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double one(const struct evil *e, size_t size, bool jit, double worst)
{
    struct pattern_error error;
    struct replacement *with;
    double match = 1e9, replace = 1e9;
    struct pattern *p;
    struct buf to;
    char *text = evil_text(e, size);
    struct slice line = {text, size};
    int r = 0, replaced = 0;
    uint64_t work = 0;

    assert(pattern_new(slice_of(e->pattern), jit ? 0 : PATTERN_NO_JIT, &p, &error) == 0);
    assert(replacement_new(p, SLICE("<$0>"), &with, &error) == 0);
    buf_init(&to, 8 * size);
    for (int i = 0; i < RUNS; i++) {
        double before = cpu_ms(), between;

        r = pattern_match(p, line, NULL);
        work = pattern_work(p);
        between = cpu_ms();
        match = MIN(match, between - before);
        buf_reset(&to);
        between = cpu_ms();
        replaced = (int)pattern_replace(p, line, with, &to);
        before = cpu_ms();
        replace = MIN(replace, before - between);
    }
    printf("%-4s %8zu  %4d %8.3f ms %8ju  %6d %8.3f ms  %.40s\n", jit ? "jit" : "", size, r, match,
           (uintmax_t)work, replaced, replace, e->pattern);
    buf_done(&to);
    replacement_free(with);
    pattern_free(p);
    free(text);
    return MAX(worst, MAX(match, replace));
}

int main(int argc, char **argv)
{
    size_t sizes[] = {40, 200, 1000, 4000, 16000, 64000, 1048576}, count = ARRAY_LEN(sizes);

    for (int i = 1; i < argc && (size_t)i <= ARRAY_LEN(sizes); i++) {
        sizes[i - 1] = strtoul(argv[i], NULL, 10);
        count = (size_t)i;
    }
    for (size_t s = 0; s < count; s++)
        for (int jit = 1; jit >= 0; jit--) {
            double worst = 0;

            for (size_t i = 0; i < ARRAY_LEN(evils); i++)
                worst = one(&evils[i], sizes[s], jit, worst);
            printf("worst of %zu bytes %s jit: %.3f ms\n", sizes[s], jit ? "with" : "without",
                   worst);
        }
    return 0;
}
