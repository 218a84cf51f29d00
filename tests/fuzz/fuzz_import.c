/* fuzz_import -- any agent.json and agent.d: a configuration that loads, or sentences and nothing else.
 *
 * What stands behind a zero byte is a file of agent.d. */
#include "run/import.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "run/config.h"
#include "run/mistakes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_loads(struct slice text)
{
    struct config_mistakes mistakes = {0};
    struct config *c = NULL;

    assert(config_load_text(text, "imported", &c, &mistakes) == 0);
    assert(mistakes.count == 0 && c->flow_count > 0);
    config_mistakes_done(&mistakes);
    config_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *zero = size > 0 ? memchr(text, '\0', size) : NULL;
    size_t first = zero != NULL ? (size_t)(zero - text) : size;
    const struct import_file files[] = {
        {"agent.json", {text, first}},
        {"agent.d/a", {zero != NULL ? zero + 1 : NULL, zero != NULL ? size - first - 1 : 0}},
    };
    char *out = NULL, *said = NULL;
    size_t out_len = 0, said_len = 0;
    FILE *to, *words;
    int r;

    if (size > 65536)
        return 0;
    to = open_memstream(&out, &out_len);
    words = open_memstream(&said, &said_len);
    assert(to != NULL && words != NULL);
    r = import_files(files, zero != NULL ? 2 : 1, to, words);
    assert(fclose(to) == 0 && fclose(words) == 0);
    assert(r == 0 || r == -EINVAL);
    if (r == 0)
        check_loads((struct slice){out, out_len});
    else
        assert(out_len == 0 && said_len > 0);
    for (size_t i = 0; i < said_len; i++)
        assert((unsigned char)said[i] >= ' ' || said[i] == '\n');
    free(out);
    free(said);
    return 0;
}
