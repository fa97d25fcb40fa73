/* Random numbers as a function of their position: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011), VL blocks at a time, and dropout, which draws from it.
 *
 * Element i uses word i % 4 of block i / 4, so the bits depend neither on the vector width nor on the cut into tasks.
 */
#ifndef FASTNN_RANDOM_H
#define FASTNN_RANDOM_H

#include "threads.h"
#include "vmath.h"

typedef uint64_t vu64 __attribute__((vector_size(VL * 4)));

enum { DROPOUT_CHUNK = 1 << 13 };       /* floats a task: a multiple of 4 * VL */

/* The 64-bit products of the low halves of the 64-bit lanes. */
INLINE vu64 v_multiply_low(vu64 a, vu64 b) {
#if VL == 16 && defined(__AVX512F__)
    return (vu64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif VL == 8 && defined(__AVX2__)
    return (vu64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif VL == 4 && defined(__SSE2__)
    return (vu64)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

/* The high words of a * multiplier are returned, the low ones go to *low. */
INLINE vu v_multiply_wide(vu a, uint64_t multiplier, vu *low) {
    const vu64 low_half = (vu64){0} + 0xffffffffu, m = (vu64){0} + multiplier;
    vu64 even = v_multiply_low((vu64)a, m), odd = v_multiply_low((vu64)a >> 32, m);
    *low = (vu)((even & low_half) | odd << 32);
    return (vu)(even >> 32 | (odd & ~low_half));
}

/* word[w] lane b = word w of block first + b; the counter is (block, stream), the key is seed, low words first */
INLINE void philox4x32(uint64_t first, uint64_t seed, uint64_t stream, vu word[4]) {
    vu lane = {0};
    UNROLL for (uint32_t i = 0; i < VL; i++) lane[i] = i;
    uint32_t low = (uint32_t)first, k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    vu c0 = lane + low, c1 = (uint32_t)(first >> 32) - (vu)(c0 < lane), c2, c3; /* a mask lane is -1: the carry */
    c2 = (vu){0} + (uint32_t)stream;
    c3 = (vu){0} + (uint32_t)(stream >> 32);
    UNROLL for (int round = 0; round < 10; round++) {
        vu low0, low2, high0 = v_multiply_wide(c0, 0xd2511f53u, &low0), high2 = v_multiply_wide(c2, 0xcd9e8d57u, &low2);
        c0 = high2 ^ c1 ^ k0;
        c1 = low2;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

struct dropout {
    i64 count;
    const float *x;
    float *y;
    int32_t threshold;                  /* an element is dropped if and only if the upper 24 bits of its word are below */
    float scale;
    uint64_t seed, stream;
};

static void dropout_chunk(void *context, i64 index) {
    const struct dropout t = *(const struct dropout *)context;
    i64 i = index * DROPOUT_CHUNK, end = i64_min(i + DROPOUT_CHUNK, t.count);
    for (; i < end; i += 4 * VL) {
        float words[4 * VL], bits[4 * VL];          /* bits: the words in the order of the elements */
        vu word[4];
        philox4x32((uint64_t)i / 4, t.seed, t.stream, word);
        memcpy(words, word, sizeof words);
        UNROLL for (int b = 0; b < VL; b += 4) transpose_4x4(bits + 4 * b, 4, words + b, VL);
        UNROLL for (int j = 0; j < 4; j++) {
            i64 at = i + j * VL, lanes = i64_min(VL, end - at);
            vu drawn;
            memcpy(&drawn, bits + j * VL, sizeof drawn);
            vi kept = (vi)(drawn >> 8) >= v_set1_int(t.threshold);
            if (lanes > 0) v_store_lanes(t.y + at, (vf)(kept & (vi)(v_load_lanes(t.x + at, lanes, 0) * t.scale)), lanes);
        }
    }
}

/* y (count,) = x / (1 - p) where u >= p, else 0, with u = (word >> 8) / 2^24. y may be x. */
KERNEL void dropout_forward(i64 count, const float *x, double p, uint64_t seed, uint64_t stream, float *y) {
    double threshold = p * 0x1p24;                  /* exact, so that u >= p is an integer comparison with its ceiling */
    int32_t whole = (int32_t)threshold;
    struct dropout t = {count, x, y, whole + (whole < threshold), p < 1 ? (float)(1 / (1 - p)) : 0.0f, seed, stream};
    fastnn_parallel(ceil_div(count, DROPOUT_CHUNK), 16.0 * (double)count, dropout_chunk, &t);
}

#endif
