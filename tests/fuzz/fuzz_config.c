/* Whatever bytes are called a configuration: no crash, no leak, and one of two answers.  Either
 * there is at least one mistake, or what we print of the configuration loads again and prints
 * the same. */
#include "run/config.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libconfig 1.5 leaks the text it has just read when its grammar refuses it (a %destructor is
 * missing); a few bytes for each wrong file, and none of ours. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig_yyparse\nleak:libconfig.so\n";
}

static char *print(const struct config *c, size_t *len)
{
    char *text = NULL;
    FILE *to = open_memstream(&text, len);

    assert(to != NULL);
    assert(config_print(c, to) == 0);
    fclose(to);
    return text;
}

static void check_round_trip(const struct config *c)
{
    struct config_mistakes m = {0};
    struct config *again = NULL;
    size_t len, len_again;
    char *text = print(c, &len), *text_again;

    if (config_load_text((struct slice){text, len}, "printed", &again, &m) != 0) {
        config_mistakes_print(&m, stderr);
        abort();
    }
    text_again = print(again, &len_again);
    assert(len == len_again && memcmp(text, text_again, len) == 0);
    free(text);
    free(text_again);
    config_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_mistakes m = {0};
    struct config *c = NULL;
    int r = config_load_text((struct slice){(const char *)data, size}, "fuzz", &c, &m);

    if (r == 0) {
        assert(m.count == 0);
        check_round_trip(c);
        config_free(c);
    } else {
        assert(m.count > 0 && c == NULL);
    }
    config_mistakes_done(&m);
    return 0;
}
