/* Both gradients of a convolution that is followed by max-pooling (and ReLU), from the outputs that have a gradient.
 *
 * After p x p max-pooling at most one convolution output of p*p has a gradient, behind ReLU about half of those: an image
 * becomes a list of entries (channel, position, gradient), twice, grouped by what its pass keeps in registers. VL input
 * channels at a time, so that what is walked at random is one block that fits L1:
 *
 * (a) Weight gradient: by output channel. Its kh x kw vectors of weight gradients stay in registers; each entry adds
 *     gradient * the kh x kw vectors of x under its position: a broadcast, and kh*kw FMAs with an operand from memory.
 * (b) Input gradient: by window and place of the maximum, hence by position. The kh x kw vectors of grad_x under the position stay in
 *     registers; each entry adds gradient * the weights of its channel. A scatter would be bound by its stores.
 *
 * For 32 -> 64 channels, 3x3, 12x12 windows of 2x2, half of them live: 4600 entries x 2 blocks x 9 FMAs = 41 thousand cycles
 * for either gradient, where the dense one has 331 thousand.
 */
#ifndef FASTNN_WIDE_SPARSE_H
#define FASTNN_WIDE_SPARSE_H

#include "wide_pool.h"

/* An image's entries in list order; first[g] .. first[g+1]: those of group g. */
struct wide_entries {
    float *gradient;
    int32_t *offset;                /* floats: in x of the position (a), in the packed weights of the channel (b) */
    int32_t *first;
};

/* What the lists are made of: O channels, PH x PW windows of pool x pool. */
struct wide_pooled { i64 O, PH, PW, pool, x_row; };

/* Appends the lanes of v that are not zero, with their offsets; writes a whole vector. Returns how many. */
INLINE i64 wide_append(float *gradient, int32_t *offset, vf v, vi o) {
#if VL == 16 && defined(__AVX512F__)
    __mmask16 keep = _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    _mm512_storeu_ps(gradient, _mm512_maskz_compress_ps(keep, (__m512)v));
    _mm512_storeu_si512(offset, _mm512_maskz_compress_epi32(keep, (__m512i)o));
    return __builtin_popcount(keep);
#else
    i64 n = 0;
    UNROLL for (int i = 0; i < VL; i++) {
        gradient[n] = v[i];
        offset[n] = o[i];
        n += v[i] != 0;
    }
    return n;
#endif
}

/* a / pool for 0 <= a < pool*pool <= 16 */
INLINE vi wide_divide_pool(vi a, i64 pool) { return (a * v_set1_int((int32_t)(64 / pool + 1))) >> 6; }

/* Lists by output channel, channel o's from entry o * capacity on: offsets in a plane of x. first[o]: o's entries.
 * grad (PH, PW, blocked), where [PH][PW][OB][VL]. Adds to grad_bias (OB * VL). */
KERNEL void wide_list_by_channel(const struct wide_pooled *s, struct wide_view grad, const int8_t *where, i64 capacity,
                                 struct wide_entries list, float *grad_bias) {
    i64 OB = ceil_div(s->O, VL), P = s->PH * s->PW;
    for (i64 ob = 0; ob < OB; ob++) {
        int32_t count[VL] = {0};
        vf sum = v_load(grad_bias + ob * VL);
        i64 h = 0, w = 0;
        for (i64 p = 0; p < P; p += VL) {
            vf g[VL], o[VL];
            UNROLL for (int i = 0; i < VL; i++) {
                g[i] = o[i] = (vf){0};
                if (p + i < P) {
                    vi at = v_load_bytes(where + ((p + i) * OB + ob) * VL);
                    vi down = wide_divide_pool(at, s->pool), along = at - down * (int32_t)s->pool;
                    g[i] = v_select(at >= 0, v_load(grad.at + ob * grad.plane + h * grad.row + w * VL), (vf){0});
                    o[i] = (vf)((down + (int32_t)(h * s->pool)) * (int32_t)s->x_row + (along + (int32_t)(w * s->pool)) * VL);
                    sum += g[i];
                    if (++w == s->PW) w = 0, h++;
                }
            }
            wide_transpose(g);
            wide_transpose(o);
            UNROLL for (int i = 0; i < VL; i++) {
                i64 to = (ob * VL + i) * capacity + count[i];
                count[i] += (int32_t)wide_append(list.gradient + to, list.offset + to, g[i], (vi)o[i]);
            }
        }
        v_store(grad_bias + ob * VL, sum);
        memcpy(list.first + ob * VL, count, sizeof count);
    }
}

/* One bit a lane that is not zero. */
INLINE uint64_t wide_bits(vf v) {
#if VL == 16 && defined(__AVX512F__)
    return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif VL == 8 && defined(__AVX__)
    return (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NEQ_UQ));
#elif VL == 4 && defined(__SSE2__)
    return (uint64_t)_mm_movemask_ps(_mm_cmpneq_ps((__m128)v, _mm_setzero_ps()));
#else
    uint64_t bits = 0;
    UNROLL for (int i = 0; i < VL; i++) bits |= (uint64_t)(v[i] != 0) << i;
    return bits;
#endif
}

/* Channels by window and place: mask [PH*PW][pool*pool][words], a bit for each channel that has a gradient there, 64 channels a word.
 * gradient [PH*PW][OB*VL]: grad without the gaps between its blocks. */
KERNEL void wide_mark_positions(const struct wide_pooled *s, struct wide_view grad, const int8_t *where, float *gradient, uint64_t *mask) {
    const i64 OB = ceil_div(s->O, VL), places = s->pool * s->pool, words = ceil_div(s->O, 64);
    for (i64 h = 0; h < s->PH; h++)
        for (i64 w = 0; w < s->PW; w++, where += OB * VL, gradient += OB * VL, mask += places * words) {
            memset(mask, 0, (size_t)(places * words) * sizeof *mask);
            for (i64 ob = 0; ob < OB; ob++) {
                const vf g = v_load(grad.at + ob * grad.plane + h * grad.row + w * VL);
                const vi at = v_load_bytes(where + ob * VL);
                v_store(gradient + ob * VL, g);
                for (i64 k = 0; k < places; k++)
                    mask[k * words + ob * VL / 64] |= wide_bits(v_select(at == (int32_t)k, g, (vf){0})) << ob * VL % 64;
            }
        }
}

/* ---- the passes: R rows of the kernel and all its KW columns at a time ---- */

enum { WIDE_MOST_ACCUMULATORS = VL == 16 ? 25 : 10 };

INLINE void wide_sparse_weight_rows(const int R, const int KW, i64 n, const float *gradient, const int32_t *offset, const float *x, i64 x_row, float *grad) {
    vf a[WIDE_MOST_ACCUMULATORS];
    UNROLL for (int t = 0; t < R * KW; t++) a[t] = v_load(grad + t * VL);
    for (i64 e = 0; e < n; e++) {
        const vf g = v_set1(gradient[e]);
        const float *p = x + offset[e];
        UNROLL for (int r = 0; r < R; r++, p += x_row) UNROLL for (int c = 0; c < KW; c++) a[r * KW + c] += g * v_load(p + c * VL);
    }
    UNROLL for (int t = 0; t < R * KW; t++) v_store(grad + t * VL, a[t]);
}

/* One window: mask [pool*pool][words]. Where the registers hold all that the window's positions reach, grad_x is loaded and stored once
 * a window (shared), else once a position. */
INLINE void wide_sparse_input_window(const int R, const int KW, const int pool, i64 words, const float *gradient, const uint64_t *mask,
                                     const float *weight, i64 step, float *grad_x, i64 row) {
    const int H = R + pool - 1, W = KW + pool - 1, shared = H * W <= WIDE_MOST_ACCUMULATORS;
    vf a[WIDE_MOST_ACCUMULATORS];
    if (shared) UNROLL for (int t = 0; t < H * W; t++) a[t] = v_load(grad_x + t / W * row + t % W * VL);
    UNROLL for (int k = 0; k < pool * pool; k++) {
        const int down = k / pool, along = k % pool, across = shared ? W : KW;
        float *to = grad_x + down * row + along * VL;
        vf *const b = shared ? a + down * W + along : a;
        if (!shared) UNROLL for (int t = 0; t < R * KW; t++) b[t] = v_load(to + t / KW * row + t % KW * VL);
        for (i64 word = 0; word < words; word++)
            for (uint64_t left = mask[k * words + word]; left; left &= left - 1) {
                const i64 o = 64 * word + __builtin_ctzll(left);
                const vf g = v_set1(gradient[o]);
                const float *p = weight + o * step;
                UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < KW; c++) b[r * across + c] += g * v_load(p + (r * KW + c) * VL);
            }
        if (!shared) UNROLL for (int t = 0; t < R * KW; t++) v_store(to + t / KW * row + t % KW * VL, b[t]);
    }
    if (shared) UNROLL for (int t = 0; t < H * W; t++) v_store(grad_x + t / W * row + t % W * VL, a[t]);
}

/* Rows of the kernel that fit the registers. */
INLINE i64 wide_sparse_rows(i64 kh, i64 kw) { return i64_min(kh, kw == 3 ? 3 : kw == 5 ? WIDE_MOST_ACCUMULATORS / 5 : 1); }

#if VL == 16
#define WIDE_SPARSE_TALL(CASE) CASE(3, 5) else CASE(4, 5) else CASE(5, 5) else
#else
#define WIDE_SPARSE_TALL(CASE)
#endif
#define WIDE_SPARSE_CASES(CASE) \
    CASE(3, 3) else CASE(2, 3) else CASE(1, 3) else WIDE_SPARSE_TALL(CASE) CASE(2, 5) else CASE(1, 5) else \
    CASE(1, 1) else CASE(1, 2) else CASE(1, 4) else CASE(1, 6) else CASE(1, 7)

/* One block of input channels: x blocked plane (its border included), grad (O, kh, kw, VL). */
KERNEL void wide_sparse_weight(i64 O, i64 kh, i64 kw, struct wide_entries list, i64 capacity, const float *x, i64 x_row, float *grad) {
    const i64 most = wide_sparse_rows(kh, kw), step = kh * kw * VL;
    for (i64 r = 0; r < kh; r += most, x += most * x_row, grad += most * kw * VL) {
        const i64 rows = i64_min(most, kh - r);
#define CASE(R, KW) if (rows == R && kw == KW) \
    for (i64 o = 0; o < O; o++) \
        wide_sparse_weight_rows(R, KW, list.first[o], list.gradient + o * capacity, list.offset + o * capacity, x, x_row, grad + o * step);
        WIDE_SPARSE_CASES(CASE)
#undef CASE
    }
}

INLINE void wide_sparse_input_windows(const int R, const int KW, const int pool, const struct wide_pooled *s, const float *gradient,
                                      const uint64_t *mask, const float *weight, i64 step, float *grad_x) {
    const i64 Op = round_up(s->O, VL), words = ceil_div(s->O, 64);
    for (i64 h = 0; h < s->PH; h++)
        for (i64 w = 0; w < s->PW; w++, gradient += Op, mask += pool * pool * words)
            wide_sparse_input_window(R, KW, pool, words, gradient, mask, weight, step, grad_x + h * pool * s->x_row + w * pool * VL, s->x_row);
}

/* One block of input channels: weight (O, kh, kw, VL); adds to grad_x, a blocked plane with its border. */
KERNEL void wide_sparse_input(const struct wide_pooled *s, i64 kh, i64 kw, const float *gradient, const uint64_t *mask, const float *weight, float *grad_x) {
    const i64 most = wide_sparse_rows(kh, kw), step = kh * kw * VL;
    for (i64 r = 0; r < kh; r += most, weight += most * kw * VL, grad_x += most * s->x_row) {
        const i64 rows = i64_min(most, kh - r);
#define CASE(R, KW) if (rows == R && kw == KW) { \
    if (s->pool == 2) wide_sparse_input_windows(R, KW, 2, s, gradient, mask, weight, step, grad_x); \
    else if (s->pool == 3) wide_sparse_input_windows(R, KW, 3, s, gradient, mask, weight, step, grad_x); \
    else wide_sparse_input_windows(R, KW, 4, s, gradient, mask, weight, step, grad_x); }
        WIDE_SPARSE_CASES(CASE)
#undef CASE
    }
}

#endif
