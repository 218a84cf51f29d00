#include "base64.h"

#include <errno.h>
#include <stdbool.h>
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

/* What a letter stands for, and one more; 0: it is none. */
/* clang-format off */
static const uint8_t letters[256] = {
    ['A'] = 1, ['B'] = 2, ['C'] = 3, ['D'] = 4, ['E'] = 5, ['F'] = 6, ['G'] = 7, ['H'] = 8,
    ['I'] = 9, ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63, ['/'] = 64,
};
/* clang-format on */

#ifdef __x86_64__
/* Of 32 letters the 24 bytes, and 8 of no meaning.  After the same paper; false if one of them is no
 * letter.  The high and the low four bits of each are looked up: what they give has a bit in common
 * if no letter has both. */
__attribute__((target("avx2"))) static inline bool decode_step(char *to, const char *p)
{
    const __m256i high_kinds =
        _mm256_setr_epi8(16, 16, 1, 2, 4, 8, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 1, 2, 4,
                         8, 4, 8, 16, 16, 16, 16, 16, 16, 16, 16);
    const __m256i low_kinds =
        _mm256_setr_epi8(21, 17, 17, 17, 17, 17, 17, 17, 17, 17, 19, 26, 27, 27, 27, 26, 21, 17, 17,
                         17, 17, 17, 17, 17, 17, 17, 19, 26, 27, 27, 27, 26);
    /* What to add to a letter, by its high bits; the slash has those of the plus, less one. */
    const __m256i shift =
        _mm256_setr_epi8(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 19, 4,
                         -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i gather = _mm256_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1,
                                            2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
    const __m256i slash = _mm256_set1_epi8(0x2f);
    __m256i in = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i high = _mm256_and_si256(_mm256_srli_epi32(in, 4), slash);
    __m256i low = _mm256_and_si256(in, slash);

    if (!_mm256_testz_si256(_mm256_shuffle_epi8(high_kinds, high),
                            _mm256_shuffle_epi8(low_kinds, low)))
        return false;
    in = _mm256_add_epi8(
        in, _mm256_shuffle_epi8(shift, _mm256_add_epi8(_mm256_cmpeq_epi8(in, slash), high)));
    in = _mm256_maddubs_epi16(in, _mm256_set1_epi32(0x01400140));
    in = _mm256_madd_epi16(in, _mm256_set1_epi32(0x00011000));
    in = _mm256_shuffle_epi8(in, gather);
    in = _mm256_permutevar8x32_epi32(in, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 7, 7));
    _mm256_storeu_si256((__m256i *)(void *)to, in);
    return true;
}

/* Decodes as far as whole vectors go, and returns how many letters that were. */
__attribute__((target("avx2"))) static size_t decode_avx2(struct slice text, char *to)
{
    enum { LETTERS = STEP / 3 * 4, ROOM = 44 }; /* 44 letters have room for the 32 bytes written */
    size_t i = 0;

    while (text.len - i >= ROOM && decode_step(to + i / 4 * 3, text.ptr + i))
        i += LETTERS;
    return i;
}
#endif

static size_t decode_begin(struct slice text, char *to)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2"))
        return decode_avx2(text, to);
#endif
    (void)text;
    (void)to;
    return 0;
}

int base64_decode(struct slice text, char *to, size_t *ret_len)
{
    size_t padding = 0, begin, len;

    if (text.len % 4 != 0)
        return -EBADMSG;
    while (padding < 2 && padding < text.len && text.ptr[text.len - 1 - padding] == '=')
        padding++;

    /* A stray letter among the vectors is met again below. */
    begin = decode_begin(text, to);
    len = begin / 4 * 3;
    for (size_t i = begin; i < text.len; i += 4) {
        size_t missing = i + 4 == text.len ? padding : 0;
        uint32_t bits = 0;

        for (size_t k = 0; k < 4; k++) {
            uint32_t letter = k < 4 - missing ? letters[(uint8_t)text.ptr[i + k]] : letters['A'];

            if (letter == 0)
                return -EBADMSG;
            bits = bits << 6 | (letter - 1);
        }
        if ((bits & ((1U << missing * 8) - 1)) != 0)
            return -EBADMSG;
        for (size_t k = 0; k < 3 - missing; k++)
            to[len++] = (char)(uint8_t)(bits >> (16 - 8 * k));
    }
    *ret_len = len;
    return 0;
}
