#include "base64.h"

#include <errno.h>
#include <stdint.h>

#ifdef __x86_64__
#include <immintrin.h>
#endif

/* All pairs of letters: 12 bits are looked up at once, so three bytes cost two loads, not four.
 * Made by the preprocessor: a table filled at run time would be a global that lanes race on. */
/* clang-format off */
#define ROW(a)                                                                                     \
    {a, 'A'}, {a, 'B'}, {a, 'C'}, {a, 'D'}, {a, 'E'}, {a, 'F'}, {a, 'G'}, {a, 'H'},                \
    {a, 'I'}, {a, 'J'}, {a, 'K'}, {a, 'L'}, {a, 'M'}, {a, 'N'}, {a, 'O'}, {a, 'P'},                \
    {a, 'Q'}, {a, 'R'}, {a, 'S'}, {a, 'T'}, {a, 'U'}, {a, 'V'}, {a, 'W'}, {a, 'X'},                \
    {a, 'Y'}, {a, 'Z'}, {a, 'a'}, {a, 'b'}, {a, 'c'}, {a, 'd'}, {a, 'e'}, {a, 'f'},                \
    {a, 'g'}, {a, 'h'}, {a, 'i'}, {a, 'j'}, {a, 'k'}, {a, 'l'}, {a, 'm'}, {a, 'n'},                \
    {a, 'o'}, {a, 'p'}, {a, 'q'}, {a, 'r'}, {a, 's'}, {a, 't'}, {a, 'u'}, {a, 'v'},                \
    {a, 'w'}, {a, 'x'}, {a, 'y'}, {a, 'z'}, {a, '0'}, {a, '1'}, {a, '2'}, {a, '3'},                \
    {a, '4'}, {a, '5'}, {a, '6'}, {a, '7'}, {a, '8'}, {a, '9'}, {a, '+'}, {a, '/'}

static const char pairs[64 * 64][2] = {
    ROW('A'), ROW('B'), ROW('C'), ROW('D'), ROW('E'), ROW('F'), ROW('G'), ROW('H'),
    ROW('I'), ROW('J'), ROW('K'), ROW('L'), ROW('M'), ROW('N'), ROW('O'), ROW('P'),
    ROW('Q'), ROW('R'), ROW('S'), ROW('T'), ROW('U'), ROW('V'), ROW('W'), ROW('X'),
    ROW('Y'), ROW('Z'), ROW('a'), ROW('b'), ROW('c'), ROW('d'), ROW('e'), ROW('f'),
    ROW('g'), ROW('h'), ROW('i'), ROW('j'), ROW('k'), ROW('l'), ROW('m'), ROW('n'),
    ROW('o'), ROW('p'), ROW('q'), ROW('r'), ROW('s'), ROW('t'), ROW('u'), ROW('v'),
    ROW('w'), ROW('x'), ROW('y'), ROW('z'), ROW('0'), ROW('1'), ROW('2'), ROW('3'),
    ROW('4'), ROW('5'), ROW('6'), ROW('7'), ROW('8'), ROW('9'), ROW('+'), ROW('/'),
};
/* clang-format on */

void base64_encode_portable(char *to, const void *from, size_t n)
{
    const uint8_t *p = from;

    for (; n >= 3; n -= 3, p += 3, to += 4) {
        uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];

        memcpy(to, pairs[bits >> 12], 2);
        memcpy(to + 2, pairs[bits & 0xfff], 2);
    }
    if (n == 0)
        return;
    memcpy(to, pairs[(uint32_t)p[0] << 4 | (n == 2 ? p[1] >> 4 : 0)], 2);
    to[2] = '=';
    if (n == 2)
        to[2] = pairs[(p[1] & 0xf) << 2][1];
    to[3] = '=';
}

#ifdef __x86_64__
enum { STEP = 24 }; /* bytes that make one vector of 32 letters */

/* After Wojciech Mula and Daniel Lemire, "Faster Base64 Encoding and Decoding using AVX2
 * Instructions" (2018), with one change: the upper half is loaded from p + 8 rather than p + 12,
 * so that exactly the 24 bytes from `p` are read and any 24 bytes can be a step. */
__attribute__((target("avx2"))) static inline void encode_step(char *to, const uint8_t *p)
{
    /* Which bytes a quarter of three needs, twice each; in the upper half all are 4 further on. */
    const __m256i spread = _mm256_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10, 5, 4,
                                            6, 5, 8, 7, 9, 8, 11, 10, 12, 11, 14, 13, 15, 14);
    /* What to add to a sextet to make it a letter, by its kind: lower case, ten digits, plus,
     * slash, upper case. */
    const __m256i shift =
        _mm256_setr_epi8(71, -4, -4, -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0, 71, -4, -4,
                         -4, -4, -4, -4, -4, -4, -4, -4, -19, -16, 65, 0, 0);
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i high = _mm_loadu_si128((const __m128i *)(const void *)(p + 8));
    __m256i in = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
    __m256i sextets, kind;

    in = _mm256_shuffle_epi8(in, spread);
    sextets =
        _mm256_or_si256(_mm256_mulhi_epu16(_mm256_and_si256(in, _mm256_set1_epi32(0x0fc0fc00)),
                                           _mm256_set1_epi32(0x04000040)),
                        _mm256_mullo_epi16(_mm256_and_si256(in, _mm256_set1_epi32(0x003f03f0)),
                                           _mm256_set1_epi32(0x01000010)));

    kind = _mm256_or_si256(
        _mm256_subs_epu8(sextets, _mm256_set1_epi8(51)),
        _mm256_and_si256(_mm256_cmpgt_epi8(_mm256_set1_epi8(26), sextets), _mm256_set1_epi8(13)));
    _mm256_storeu_si256((__m256i *)(void *)to,
                        _mm256_add_epi8(sextets, _mm256_shuffle_epi8(shift, kind)));
}

/* `n` is at least a step. */
__attribute__((target("avx2"))) static void encode_avx2(char *to, const uint8_t *p, size_t n)
{
    for (; n >= STEP; n -= STEP, p += STEP, to += STEP / 3 * 4)
        encode_step(to, p);

    /* What is left is often half a line.  Its whole triples end a last step that overlaps the one
     * before and writes there the same letters again; the padding is at most one lookup. */
    if (n >= 3) {
        size_t whole = n / 3 * 3;

        p += whole;
        to += whole / 3 * 4;
        n -= whole;
        encode_step(to - STEP / 3 * 4, p - STEP);
    }
    base64_encode_portable(to, p, n);
}
#endif

/* __builtin_cpu_supports is a load and a test: the loader has asked the processor before main,
 * and nobody writes there again. */
void base64_encode(char *to, const void *from, size_t n)
{
#ifdef __x86_64__
    if (n >= STEP && __builtin_cpu_supports("avx2")) {
        encode_avx2(to, from, n);
        return;
    }
#endif
    base64_encode_portable(to, from, n);
}

/* The six bits of a letter, or something above 63. */
static uint32_t sextet_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a' + 26);
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0' + 52);
    if (c == '+')
        return 62;
    return c == '/' ? 63 : 64;
}

int base64_decode(struct slice text, char *to, size_t *ret_len)
{
    size_t padding = 0, len = 0;

    if (text.len % 4 != 0)
        return -EBADMSG;
    while (padding < 2 && padding < text.len && text.ptr[text.len - 1 - padding] == '=')
        padding++;

    for (size_t i = 0; i < text.len; i += 4) {
        size_t missing = i + 4 == text.len ? padding : 0;
        uint32_t bits = 0;

        for (size_t k = 0; k < 4; k++) {
            uint32_t sextet = k < 4 - missing ? sextet_of(text.ptr[i + k]) : 0;

            if (sextet > 63)
                return -EBADMSG;
            bits = bits << 6 | sextet;
        }
        if ((bits & ((1U << missing * 8) - 1)) != 0)
            return -EBADMSG;
        for (size_t k = 0; k < 3 - missing; k++)
            to[len++] = (char)(uint8_t)(bits >> (16 - 8 * k));
    }
    *ret_len = len;
    return 0;
}
