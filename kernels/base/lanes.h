/* More operations on lanes than simd.h has: parts of a vector, maxima, shuffles. */
#ifndef FASTNN_LANES_H
#define FASTNN_LANES_H

#include "base/simd.h"

typedef uint64_t vu64 __attribute__((vector_size(VL * 4)));

/* All lanes at p, or only the first few: v_load_partial and v_store_partial where that is needed. */
INLINE vf v_load_lanes(const float *p, i64 lanes, float fill) {
    return lanes == VL ? v_load(p) : v_load_partial(p, lanes, fill);
}
INLINE void v_store_lanes(float *p, vf v, i64 lanes) {
    if (lanes == VL) v_store(p, v);
    else v_store_partial(p, v, lanes);
}

/* The larger and the smaller of two: b where either is NaN. */
#if VL == 16 && defined(__AVX512F__)
INLINE vf v_max(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf v_min(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif VL == 8 && defined(__AVX__)
INLINE vf v_max(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf v_min(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#elif VL == 4 && defined(__SSE2__)
INLINE vf v_max(vf a, vf b) { return (vf)_mm_max_ps((__m128)a, (__m128)b); }
INLINE vf v_min(vf a, vf b) { return (vf)_mm_min_ps((__m128)a, (__m128)b); }
#else
INLINE vf v_max(vf a, vf b) { return v_select(a > b, a, b); }
INLINE vf v_min(vf a, vf b) { return v_select(a < b, a, b); }
#endif

/* The larger of two; NaN where either is. */
INLINE vf v_max_nan(vf a, vf b) { return v_select(a == a, v_max(a, b), a); }

/* Whether max-pooling takes v over the best so far: it is larger, or the first NaN. */
INLINE vi v_beats(vf v, vf best) { return ~(v <= best) & (best == best); }

/* Lanes of two vectors of one type, numbered on from the first to the second. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define V_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define V_SHUFFLE_64(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#endif
#endif
#ifndef V_SHUFFLE
#define V_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#define V_SHUFFLE_64(a, b, ...) __builtin_shuffle(a, b, (vu64){__VA_ARGS__})
#endif

/* Every other lane of a pair of vectors, and back: vectors of 32-bit lanes */
#if VL == 16
#define V_EVEN(a, b) V_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define V_ODD(a, b) V_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#define V_ZIP_LOW(a, b) V_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define V_ZIP_HIGH(a, b) V_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define V_ZIP_LOW_64(a, b) V_SHUFFLE_64(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define V_ZIP_HIGH_64(a, b) V_SHUFFLE_64(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif VL == 8
#define V_EVEN(a, b) V_SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define V_ODD(a, b) V_SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#define V_ZIP_LOW(a, b) V_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define V_ZIP_HIGH(a, b) V_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define V_ZIP_LOW_64(a, b) V_SHUFFLE_64(a, b, 0, 4, 1, 5)
#define V_ZIP_HIGH_64(a, b) V_SHUFFLE_64(a, b, 2, 6, 3, 7)
#else
#define V_EVEN(a, b) V_SHUFFLE(a, b, 0, 2, 4, 6)
#define V_ODD(a, b) V_SHUFFLE(a, b, 1, 3, 5, 7)
#define V_ZIP_LOW(a, b) V_SHUFFLE(a, b, 0, 4, 1, 5)
#define V_ZIP_HIGH(a, b) V_SHUFFLE(a, b, 2, 6, 3, 7)
#define V_ZIP_LOW_64(a, b) V_SHUFFLE_64(a, b, 0, 2)
#define V_ZIP_HIGH_64(a, b) V_SHUFFLE_64(a, b, 1, 3)
#endif

/* start, start + step, ... */
INLINE vi v_count(i64 start, i64 step) {
    vi v;
    UNROLL for (int i = 0; i < VL; i++) v[i] = i;
    return v * (int32_t)step + (int32_t)start;
}

INLINE int v_any(vi mask) {
    vu64 bits = (vu64)mask;
    uint64_t any = 0;
    UNROLL for (int i = 0; i < VL / 2; i++) any |= bits[i];
    return any != 0;
}

/* r[i][j] and r[j][i] change places, VL x VL: log2(VL) perfect shuffles of the rows. */
INLINE void v_transpose(vf *r) {
    UNROLL for (int step = 1; step < VL; step *= 2) {
        vf t[VL];
        UNROLL for (int i = 0; i < VL / 2; i++) {
            t[2 * i] = V_ZIP_LOW(r[i], r[i + VL / 2]);
            t[2 * i + 1] = V_ZIP_HIGH(r[i], r[i + VL / 2]);
        }
        UNROLL for (int i = 0; i < VL; i++) r[i] = t[i];
    }
}

typedef int8_t vb __attribute__((vector_size(VL)));
typedef int8_t vb_unaligned __attribute__((vector_size(VL), aligned(1), may_alias));

/* VL bytes as integers, and back. GCC 12 converts lane by lane where it is not told the instruction. */
#if VL == 16 && defined(__AVX512F__)
INLINE vi v_load_bytes(const int8_t *p) { return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)); }
INLINE void v_store_bytes(int8_t *p, vi v) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)v)); }
#elif VL == 8 && defined(__AVX2__)
INLINE vi v_load_bytes(const int8_t *p) { return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)); }
INLINE void v_store_bytes(int8_t *p, vi v) {
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
}
#else
INLINE vi v_load_bytes(const int8_t *p) { return __builtin_convertvector(*(const vb_unaligned *)p, vi); }
INLINE void v_store_bytes(int8_t *p, vi v) { *(vb_unaligned *)p = __builtin_convertvector(v, vb); }
#endif

/* Moves the lanes of v where `mask` is set (to -1) together to p, floats or integers, and returns how many they are. Whatever that is,
 * up to VL lanes are written. */
#if VL == 16 && defined(__AVX512F__)
INLINE i64 v_store_set(void *p, vi mask, vf v) {
    const __mmask16 set = _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask);
    _mm512_storeu_ps(p, _mm512_maskz_compress_ps(set, (__m512)v)); /* to memory at once it takes ten times as long on some CPUs */
    return __builtin_popcount(set);
}
#else
typedef float lane __attribute__((may_alias));
INLINE i64 v_store_set(void *p, vi mask, vf v) {
    i64 count = 0;
    UNROLL for (int i = 0; i < VL; i++) {   /* no branch: which are set is hard to foresee */
        ((lane *)p)[count] = v[i];
        count -= mask[i];
    }
    return count;
}
#endif

#endif
