/* fuzz_when -- any format is compiled or refused with a sentence, any text is read or refused; and
 * what was read is written so that it is read again as the same time.
 *
 * The first byte is the length of the format, the second picks a zone and `now`; then come the
 * format and the text. */
#include "record/when.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "record/zone.h"
#include "util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const int64_t nows_ns[] = {
    0, -1, INT64_MIN, INT64_MAX, INT64_C(1704448800000000000), INT64_C(1709251199999999999)};

static struct zone *zones[4];
static struct when_format *rfc3339, *epoch, *epoch_ms;

static void prepare(void)
{
    static const char *const names[ARRAY_LEN(zones)] = {"UTC", "-11:30", "Europe/Berlin",
                                                        "Pacific/Apia"};
    struct when_error e;

    if (rfc3339 != NULL)
        return;
    for (size_t i = 0; i < ARRAY_LEN(zones); i++)
        assert(zone_new(slice_of(names[i]), &zones[i]) == 0);
    assert(when_format_new(SLICE("rfc3339"), NULL, &rfc3339, &e) == 0);
    assert(when_format_new(SLICE("epoch"), NULL, &epoch, &e) == 0);
    assert(when_format_new(SLICE("epoch_ms"), NULL, &epoch_ms, &e) == 0);
}

static struct when check_written(const struct when_format *f, const char *text, size_t len)
{
    struct when w;

    assert(len < WHEN_TEXT_MAX && text[len] == '\0');
    assert(when_read(f, (struct slice){text, len}, 0, &w) == 0);
    return w;
}

static void check_read(const struct when *w, const struct zone *zone)
{
    char to[WHEN_TEXT_MAX];
    struct when again;

    assert(w->utc_s >= INT64_C(-62135596800) && w->utc_s <= INT64_C(253402300799));
    assert(w->ns < 1000000000 && w->digits <= 9);
    assert(abs(w->offset_s) < 86400);

    again = check_written(rfc3339, to, when_write_rfc3339(w, NULL, to));
    assert(again.utc_s == w->utc_s && again.ns == w->ns && again.digits == w->digits);
    assert(again.had_zone);
    again = check_written(rfc3339, to, when_write_rfc3339(w, zone, to));
    assert(again.utc_s == w->utc_s && again.ns == w->ns && again.digits == w->digits);
    assert(again.offset_s == 0 || again.offset_s == zone_offset_utc(zone, w->utc_s));

    again = check_written(epoch, to, when_write_epoch(w, to));
    assert(again.utc_s == w->utc_s && again.ns == w->ns && again.digits == w->digits);
    again = check_written(epoch_ms, to, when_write_epoch_ms(w, to));
    assert(again.utc_s == w->utc_s && again.ns == w->ns - w->ns % 1000000);
}

/* A copy of just its size, so that no byte behind it can be looked at unseen. */
static struct slice copy_of(struct slice s)
{
    char *copy = malloc(s.len);

    assert(s.len == 0 || copy != NULL);
    if (s.len > 0)
        memcpy(copy, s.ptr, s.len);
    return (struct slice){copy, s.len};
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = {(const char *)data, size}, format, text;
    struct when_error e = {0};
    struct when_format *f = NULL;
    const struct zone *zone;
    int64_t now_ns;
    int r;

    prepare();
    if (size < 2)
        return 0;
    zone = zones[data[1] % ARRAY_LEN(zones)];
    now_ns = nows_ns[data[1] / ARRAY_LEN(zones) % ARRAY_LEN(nows_ns)];
    in = slice_from(in, 2);
    format = copy_of(slice_first(in, data[0]));
    text = copy_of(slice_from(in, format.len));

    r = when_format_new(format, zone, &f, &e);
    if (r < 0) {
        assert(r == -EINVAL && f == NULL);
        assert(e.place <= format.len && e.text[0] != '\0');
        assert(memchr(e.text, '\0', sizeof e.text - 1) != NULL);
    } else {
        struct when w, same;

        r = when_read(f, text, now_ns, &w);
        assert(r == 0 || r == -EINVAL);
        if (r == 0) {
            check_read(&w, zone);
            assert(when_read(f, text, now_ns, &same) == 0);
            assert(same.utc_s == w.utc_s && same.ns == w.ns && same.offset_s == w.offset_s);
        }
        when_format_free(f);
    }
    free((char *)format.ptr);
    free((char *)text.ptr);
    return 0;
}
