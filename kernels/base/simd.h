/* One vector type, its width set by the ISA.
 *
 * Each isa_*.c defines VL, the number of float lanes, and then includes this file and the operator families.
 * Everything here and there is static: code inlined for AVX-512 must never be what the linker keeps for the baseline.
 * GCC/Clang vector extensions carry the arithmetic; a*b + c becomes one FMA where the ISA has it (-ffp-contract=fast).
 */
#ifndef FASTNN_SIMD_H
#define FASTNN_SIMD_H

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

typedef int64_t i64;

typedef float vf __attribute__((vector_size(VL * 4)));
typedef int32_t vi __attribute__((vector_size(VL * 4)));
typedef uint32_t vu __attribute__((vector_size(VL * 4)));
/* The same lanes at any float's address: x86 and AArch64 load them as fast when they happen to be aligned. */
typedef float vf_unaligned __attribute__((vector_size(VL * 4), aligned(4), may_alias));
typedef int32_t vi_unaligned __attribute__((vector_size(VL * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline, unused))
#define KERNEL static __attribute__((unused))
#define SMALL static __attribute__((cold, noinline, unused)) /* instead of fast: what runs once for a shape, or in tests alone */
/* Loops over register tiles must vanish: their counters index registers. */
#define UNROLL _Pragma("GCC unroll 64")

INLINE i64 i64_min(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 i64_max(i64 a, i64 b) { return a > b ? a : b; }
INLINE i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }
INLINE i64 round_up(i64 a, i64 b) { return ceil_div(a, b) * b; }

INLINE vf v_load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void v_store(float *p, vf v) { *(vf_unaligned *)p = v; }
INLINE vf v_set1(float s) { return s - (vf){0}; } /* s - 0 keeps the sign of a zero, 0 + s would not */
INLINE vi v_set1_int(int32_t s) { return s - (vi){0}; }

/* mask lanes are 0 or -1, as vector comparisons give them */
INLINE vf v_select(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }

/* The first n lanes of p, 0 to VL, the rest fill; never touches p[n]. A memcpy of n lanes would be a call, or a slow `rep movs`. */
#if VL == 16
INLINE vf v_load_partial(const float *p, i64 n, float fill) {
    return (vf)_mm512_mask_loadu_ps((__m512)v_set1(fill), (__mmask16)((1u << n) - 1), p);
}
INLINE void v_store_partial(float *p, vf v, i64 n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v); }
#else
/* In halves, quarters, ...; by a call where size counts for more, which is before AVX2 */
#if VL == 8 || defined(__aarch64__)
#define PART INLINE
#else
#define PART static __attribute__((unused))
#endif
INLINE void copy_lanes(float *to, const float *from, i64 n) {
    UNROLL for (int lanes = VL; lanes > 0; lanes /= 2) if (n & lanes) {
        memcpy(to, from, sizeof(float) * (size_t)lanes);
        to += lanes, from += lanes;
    }
}
PART vf v_load_partial(const float *p, i64 n, float fill) {
#if VL == 8 && defined(__AVX2__)
    static const int32_t first[16] = {-1, -1, -1, -1, -1, -1, -1, -1}; /* and eight zeros */
    __m256i mask = _mm256_loadu_si256((const __m256i_u *)(first + 8 - n));
    return v_select((vi)mask, (vf)_mm256_maskload_ps(p, mask), v_set1(fill));
#else
    vf v = v_set1(fill);
    copy_lanes((float *)&v, p, n);
    return v;
#endif
}
/* AMD's masked stores by AVX2 are slow; its masked loads are not. */
PART void v_store_partial(float *p, vf v, i64 n) { copy_lanes(p, (const float *)&v, n); }
#endif

/* Four lanes, on every ISA: the unit of transposes. */
typedef float v4 __attribute__((vector_size(16)));
typedef int32_t vi4 __attribute__((vector_size(16)));
typedef float v4_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define V4_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#endif
#endif
#ifndef V4_SHUFFLE
#define V4_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (int32_t __attribute__((vector_size(16)))){i, j, k, l})
#endif

/* dst[q*dst_step + i] = src[i*src_step + q] for i, q < 4 */
INLINE void transpose_4x4(float *restrict dst, i64 dst_step, const float *restrict src, i64 src_step) {
    v4 r0 = *(const v4_unaligned *)src, r1 = *(const v4_unaligned *)(src + src_step);
    v4 r2 = *(const v4_unaligned *)(src + 2 * src_step), r3 = *(const v4_unaligned *)(src + 3 * src_step);
    v4 t0 = V4_SHUFFLE(r0, r1, 0, 4, 1, 5), t1 = V4_SHUFFLE(r0, r1, 2, 6, 3, 7);
    v4 t2 = V4_SHUFFLE(r2, r3, 0, 4, 1, 5), t3 = V4_SHUFFLE(r2, r3, 2, 6, 3, 7);
    *(v4_unaligned *)dst = V4_SHUFFLE(t0, t2, 0, 1, 4, 5);
    *(v4_unaligned *)(dst + dst_step) = V4_SHUFFLE(t0, t2, 2, 3, 6, 7);
    *(v4_unaligned *)(dst + 2 * dst_step) = V4_SHUFFLE(t1, t3, 0, 1, 4, 5);
    *(v4_unaligned *)(dst + 3 * dst_step) = V4_SHUFFLE(t1, t3, 2, 3, 6, 7);
}

/* Sum of the lanes, always as the same tree of halves. */
INLINE float v_sum(vf v) {
    v4 part[VL / 4];
    memcpy(part, &v, sizeof v);
    UNROLL for (int width = VL / 8; width > 0; width /= 2) UNROLL for (int i = 0; i < width; i++) part[i] += part[i + width];
    v4 sum = part[0] + V4_SHUFFLE(part[0], part[0], 2, 3, 0, 1);
    sum += V4_SHUFFLE(sum, sum, 1, 0, 3, 2);
    return sum[0];
}

#endif
