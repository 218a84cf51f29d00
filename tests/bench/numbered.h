/* numbered -- lines that can be told to be whole: roll.c writes them, sink.c checks them.
 *
 *     00000000000000000042 QRSTUVWXYZ123456789abcdefg…789abcdefghijk 00000000000000000042
 *
 * The number stands at both ends, and the text between them begins elsewhere for each number: so
 * what was cut, or put together of two halves, is none of them. */
#ifndef NUMBERED_H
#define NUMBERED_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    NUMBERED_DIGITS = 20,
    NUMBERED_MIN = 2 * (NUMBERED_DIGITS + 1) + 1,
    NUMBERED_MAX = 4096,
    NUMBERED_PERIOD = 61, /* prime: nothing to do with the number of lines in a request */
};

static const char numbered_alphabet[NUMBERED_PERIOD + 1] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ123456789";

/* Writes the line, `len` bytes without a newline; NUMBERED_MIN <= len <= NUMBERED_MAX. */
static inline void numbered_line(char *to, size_t len, uint64_t number)
{
    char *end = to + len - NUMBERED_DIGITS, *text = to + NUMBERED_DIGITS + 1;
    size_t phase = number % NUMBERED_PERIOD, piece;
    uint64_t left = number;

    for (size_t i = NUMBERED_DIGITS; i > 0; i--, left /= 10)
        to[i - 1] = end[i - 1] = (char)('0' + left % 10);
    to[NUMBERED_DIGITS] = end[-1] = ' ';
    for (char *stop = end - 1; text < stop; text += piece, phase = 0) {
        piece = NUMBERED_PERIOD - phase;
        if (piece > (size_t)(stop - text))
            piece = (size_t)(stop - text);
        memcpy(text, numbered_alphabet + phase, piece);
    }
}

#endif
