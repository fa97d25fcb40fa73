/* Random numbers as a function of their position: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011), many blocks at a time, and dropout, which draws from it.
 *
 * Element i uses word i % 4 of block i / 4, so the bits depend neither on the vector width nor on the cut into tasks.
 */
#ifndef FASTNN_RANDOM_H
#define FASTNN_RANDOM_H

#include "base/lanes.h"
#include "base/threads.h"

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

/* word (4*VL,): the words of VL blocks in order, from block `first`. The counter is (block, stream), the key is seed, low words
 * first. Each 64-bit lane holds one word of a block in its low half; what its upper half holds is never looked at. Blocks go in
 * two halves, so that there is something to do during the multiplications' latency. */
INLINE void philox4x32(uint64_t first, uint64_t seed, uint64_t stream, vu word[4]) {
    const vu64 zero = {0}, low_half = zero + 0xffffffffu;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    vu64 c0[2], c1[2], c2[2], c3[2], lane = zero;
    UNROLL for (int i = 0; i < VL / 2; i++) lane[i] = (uint64_t)i;
    UNROLL for (int h = 0; h < 2; h++) {
        c0[h] = lane + (first + (uint64_t)(h * VL / 2));
        c1[h] = c0[h] >> 32;
        c2[h] = zero + stream;
        c3[h] = c2[h] >> 32;
    }
    UNROLL for (int round = 0; round < 10; round++, k0 += 0x9e3779b9u, k1 += 0xbb67ae85u) UNROLL for (int h = 0; h < 2; h++) {
        vu64 product0 = v_multiply_low(c0[h], zero + 0xd2511f53u), product2 = v_multiply_low(c2[h], zero + 0xcd9e8d57u);
        c0[h] = product2 >> 32 ^ c1[h] ^ k0;
        c1[h] = product2;
        c2[h] = product0 >> 32 ^ c3[h] ^ k1;
        c3[h] = product0;
    }
    UNROLL for (int h = 0; h < 2; h++) {
        vu64 pair01 = (c0[h] & low_half) | c1[h] << 32, pair23 = (c2[h] & low_half) | c3[h] << 32;
        word[2 * h] = (vu)V_ZIP_LOW_64(pair01, pair23);
        word[2 * h + 1] = (vu)V_ZIP_HIGH_64(pair01, pair23);
    }
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
    const vi threshold = v_set1_int(t.threshold);
    i64 i = index * DROPOUT_CHUNK, end = i64_min(i + DROPOUT_CHUNK, t.count);
    for (; i < end; i += 4 * VL) {
        vu word[4];
        philox4x32((uint64_t)i / 4, t.seed, t.stream, word);
        UNROLL for (int j = 0; j < 4; j++) {
            i64 at = i + j * VL, lanes = i64_min(VL, end - at);
            if (lanes <= 0) break;
            vi kept = (vi)(word[j] >> 8) >= threshold;
            v_store_lanes(t.y + at, (vf)(kept & (vi)(v_load_lanes(t.x + at, lanes, 0) * t.scale)), lanes);
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
