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
 * for either gradient (AVX-512), where direct dense loops have 331 thousand. Every FMA loads an operand, so loads are the bound:
 * measured 6.4 (a) and 7 (b) cycles an entry and block of channels, lists and masks 15 thousand cycles an image.
 */
#ifndef FASTNN_WIDE_SPARSE_H
#define FASTNN_WIDE_SPARSE_H

#include "base/sums.h"
#include "plan/wide/flat.h"
#include "plan/wide/pool.h"

/* Lists of entries, one for each output channel o: count[o] from o * capacity on. */
struct wide_entries {
    float *gradient;
    int32_t *offset;                /* of the position: floats in a plane of x */
    int32_t *count;
    i64 capacity;
};

/* What the lists are made of: O channels, PH x PW windows of pool x pool, rows of x x_row floats apart. flat_position: in a plane of x
 * where the gradients at flat positions go, -1: there are none. */
struct wide_pooled { i64 O, PH, PW, pool, x_row, flat_position; };

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

INLINE void wide_mark_pooled(const int pool, const struct wide_pooled *s, struct wide_view grad, const int8_t *where,
                             const struct wide_flat *flat, float *gradient, uint64_t *mask, float *grad_bias) {
    const i64 OB = ceil_div(s->O, VL), words = ceil_div(s->O, 64), rows = s->PH * s->PW;
    const int places = pool * pool, in_word = 64 / VL;
    float *const flat_sum = gradient + rows * OB * VL;
    memset(flat_sum, 0, (size_t)(OB * VL) * sizeof *flat_sum);
    for (i64 h = 0; h < s->PH; h++)
        for (i64 w = 0; w < s->PW; w++, where += OB * VL, gradient += OB * VL, mask += places * words) {
            int32_t flat_places = 0;
            if (s->flat_position >= 0)
                UNROLL for (int k = 0; k < places; k++)
                    flat_places |= (int32_t)(flat->row[h * pool + k / pool] >> (w * pool + k % pool) & 1) << k;
            for (i64 word = 0; word < words; word++) {
                uint64_t bits[WIDE_MOST_POOL * WIDE_MOST_POOL] = {0};
                for (i64 ob = word * in_word; ob < i64_min(OB, (word + 1) * in_word); ob++) {
                    const vi at = v_load_bytes(where + ob * VL);
                    vf g = v_select(at >= 0, v_load(grad.at + ob * grad.plane + h * grad.row + w * VL), (vf){0});
                    if (flat_places) {
                        const vi is_flat = -((v_set1_int(flat_places) >> (at & 31)) & 1);
                        v_store(flat_sum + ob * VL, v_load(flat_sum + ob * VL) + v_select(is_flat, g, (vf){0}));
                        g = v_select(is_flat, (vf){0}, g);
                    }
                    v_store(gradient + ob * VL, g);
                    UNROLL for (int k = 0; k < places; k++) bits[k] |= wide_bits(v_select(at == k, g, (vf){0})) << ob % in_word * VL;
                }
                UNROLL for (int k = 0; k < places; k++) mask[k * words + word] = bits[k];
            }
        }
    memset(mask, 0, (size_t)(places * words) * sizeof *mask);
    for (i64 ob = 0; ob < OB; ob++) {
        const float *by_window = flat_sum - rows * OB * VL + ob * VL;
        struct folded sum = {};
        mask[ob / in_word] |= wide_bits(v_load(flat_sum + ob * VL)) << ob % in_word * VL;
        for (i64 i = 0; i <= rows; i++) fold(&sum, v_load(by_window + i * OB * VL), i);
        v_store(grad_bias + ob * VL, v_load(grad_bias + ob * VL) + folded_sum(sum));
    }
}

/* All by window: gradient [PH*PW + 1][OB*VL], zero where the output has none, and for each place in the window the channels whose
 * maximum stood there: mask [PH*PW + 1][pool*pool][words], a bit a channel, 64 channels a word. Adds to grad_bias (OB*VL).
 * Gradients at flat positions are added up in the row after the last window's. grad (PH, PW, blocked), where [PH*PW][OB][VL]. */
KERNEL void wide_mark_positions(const struct wide_pooled *s, struct wide_view grad, const int8_t *where, const struct wide_flat *flat,
                                float *gradient, uint64_t *mask, float *grad_bias) {
    if (s->pool == 2) wide_mark_pooled(2, s, grad, where, flat, gradient, mask, grad_bias);
    else if (s->pool == 3) wide_mark_pooled(3, s, grad, where, flat, gradient, mask, grad_bias);
    else wide_mark_pooled(4, s, grad, where, flat, gradient, mask, grad_bias);
}

/* Appends to the lists by output channel, of `blocks` blocks from the first on, from gradient as marked: offsets in a plane of x, to which
 * `base` is added. The list begins with the first block. */
KERNEL void wide_list_by_channel(const struct wide_pooled *s, i64 first, i64 blocks, const float *gradient, const int8_t *where, i64 base,
                                 struct wide_entries list) {
    i64 OB = ceil_div(s->O, VL), P = s->PH * s->PW;
    for (i64 ob = first; ob < first + blocks; ob++) {
        int32_t *const count = list.count + (ob - first) * VL;
        i64 h = 0, w = 0;
        for (i64 p = 0; p < P; p += VL) {
            vf g[VL], o[VL];
            UNROLL for (int i = 0; i < VL; i++) {
                g[i] = o[i] = (vf){0};
                if (p + i < P) {
                    vi at = v_load_bytes(where + ((p + i) * OB + ob) * VL);
                    vi down = wide_divide_pool(at, s->pool), along = at - down * (int32_t)s->pool;
                    g[i] = v_load(gradient + ((p + i) * OB + ob) * VL);
                    o[i] = (vf)((down + (int32_t)(h * s->pool)) * (int32_t)s->x_row + (along + (int32_t)(w * s->pool)) * VL + (int32_t)base);
                    if (++w == s->PW) w = 0, h++;
                }
            }
            v_transpose(g);
            v_transpose(o);
            UNROLL for (int i = 0; i < VL; i++) {
                i64 to = ((ob - first) * VL + i) * list.capacity + count[i];
                count[i] += (int32_t)wide_append(list.gradient + to, list.offset + to, g[i], (vi)o[i]);
            }
        }
        for (i64 i = 0; i < VL; i++) {
            i64 o = ob * VL + i, to = (o - first * VL) * list.capacity + count[i];
            float flat = gradient[P * OB * VL + o];
            if (flat != 0) {
                list.gradient[to] = flat;
                list.offset[to] = (int32_t)(s->flat_position + base);
                count[i]++;
            }
        }
    }
}

/* ---- the passes: R rows of the kernel and all its KW columns at a time ---- */

enum { WIDE_MOST_ACCUMULATORS = VL == 16 ? 25 : 10 };

INLINE void wide_sparse_weight_rows(const int R, const int KW, i64 n, const float *gradient, const int32_t *offset, const float *x,
                                    i64 x_row, float *grad) {
    vf a[WIDE_MOST_ACCUMULATORS];
#define ENTRY(at, by) do { \
        const vf g = v_set1(by); \
        const float *p = x + (at); \
        UNROLL for (int r = 0; r < R; r++, p += x_row) UNROLL for (int c = 0; c < KW; c++) a[r * KW + c] += g * v_load(p + c * VL); \
    } while (0)
    const i64 run = sum_run(n);
    for (i64 e = 0; e < n;) {
        const i64 end = i64_min(n, e + run);
        UNROLL for (int t = 0; t < R * KW; t++) a[t] = (vf){0};
        for (; e + 2 <= end; e += 2) {
            uint64_t two;           /* one load of two offsets: loads are what bounds this loop */
            memcpy(&two, offset + e, sizeof two);  /* little-endian, as all the ISAs here */
            UNROLL for (int i = 0; i < 2; i++) ENTRY(i ? two >> 32 : (uint32_t)two, gradient[e + i]);
        }
        if (e < end) { ENTRY(offset[e], gradient[e]); e++; }
        UNROLL for (int t = 0; t < R * KW; t++) v_store(grad + t * VL, v_load(grad + t * VL) + a[t]);
    }
#undef ENTRY
}

/* The entries of one window: mask [pool*pool][words]. Where the registers hold all that the positions of a 2x2 window reach, grad_x is
 * loaded and stored once a window (shared), else once a position. */
INLINE void wide_sparse_input_window(const int R, const int KW, const int shared, i64 pool, i64 words, const float *gradient,
                                     const uint64_t *mask, const float *weight, i64 step, float *grad_x, i64 row) {
    const int H = R + 1, W = KW + 1;
    vf a[WIDE_MOST_ACCUMULATORS];
#define PLACE(k, down, along) do { \
        vf *const b = shared ? a + (down) * W + (along) : a; \
        const int across = shared ? W : KW; \
        float *to = grad_x + (down) * row + (along) * VL; \
        if (!shared) UNROLL for (int t = 0; t < R * KW; t++) b[t] = v_load(to + t / KW * row + t % KW * VL); \
        const float *g0 = gradient, *w0 = weight; \
        for (i64 word = 0; word < words; word++, g0 += 64, w0 += 64 * step) \
            for (uint64_t left = mask[(k) * words + word]; left; left &= left - 1) { \
                const uint64_t o = (uint64_t)__builtin_ctzll(left); \
                const vf g = v_set1(g0[o]); \
                const float *p = w0 + o * (uint64_t)step; \
                UNROLL for (int r = 0; r < R; r++) UNROLL for (int c = 0; c < KW; c++) \
                    b[r * across + c] += g * v_load(p + (r * KW + c) * VL); \
            } \
        if (!shared) UNROLL for (int t = 0; t < R * KW; t++) v_store(to + t / KW * row + t % KW * VL, b[t]); \
    } while (0)
    if (shared) {
        UNROLL for (int t = 0; t < H * W; t++) a[t] = v_load(grad_x + t / W * row + t % W * VL);
        UNROLL for (int k = 0; k < 4; k++) PLACE(k, k / 2, k % 2);
        UNROLL for (int t = 0; t < H * W; t++) v_store(grad_x + t / W * row + t % W * VL, a[t]);
    } else {
        for (i64 down = 0; down < pool; down++) for (i64 along = 0; along < pool; along++) PLACE(down * pool + along, down, along);
    }
#undef PLACE
}

/* Rows of the kernel that fit the registers, when `left` are left. */
INLINE i64 wide_sparse_rows(i64 left, i64 kw) {
    const i64 most = kw == 3 ? 3 : kw == 5 ? WIDE_MOST_ACCUMULATORS / 5 : 1;
    return left >= most ? most : 1;
}

#define WIDE_SPARSE_CASES(CASE) \
    CASE(3, 3) else CASE(1, 3) else CASE(WIDE_MOST_ACCUMULATORS / 5, 5) else CASE(1, 5) else \
    CASE(1, 1) else CASE(1, 2) else CASE(1, 4) else CASE(1, 6) else CASE(1, 7)

/* One block of input channels: x blocked plane (its border included), grad (O, kh, kw, VL). */
KERNEL void wide_sparse_weight(i64 O, i64 kh, i64 kw, struct wide_entries list, const float *x, i64 x_row, float *grad) {
    const i64 step = kh * kw * VL;
    for (i64 r = 0, rows; r < kh; r += rows, x += rows * x_row, grad += rows * kw * VL) {
        rows = wide_sparse_rows(kh - r, kw);
#define CASE(R, KW) if (rows == R && kw == KW) \
    for (i64 o = 0; o < O; o++) \
        wide_sparse_weight_rows(R, KW, list.count[o], list.gradient + o * list.capacity, list.offset + o * list.capacity, x, x_row, \
                                grad + o * step);
        WIDE_SPARSE_CASES(CASE)
#undef CASE
    }
}

/* All windows, and where there is one the position of the flat gradients: as one more window, of 1x1. */
INLINE void wide_sparse_input_windows(const int R, const int KW, const struct wide_pooled *s, const float *gradient, const uint64_t *mask,
                                      const float *weight, i64 step, float *grad_x) {
    const i64 Op = round_up(s->O, VL), words = ceil_div(s->O, 64), P = s->PH * s->PW, windows = P + (s->flat_position >= 0);
    const int fits = (R + 1) * (KW + 1) <= WIDE_MOST_ACCUMULATORS;
    i64 h = 0, w = 0;
    for (i64 i = 0; i < windows; i++, gradient += Op, mask += s->pool * s->pool * words) {
        float *to = grad_x + (i < P ? h * s->pool * s->x_row + w * s->pool * VL : s->flat_position);
        if (fits && s->pool == 2 && i < P) wide_sparse_input_window(R, KW, fits, 2, words, gradient, mask, weight, step, to, s->x_row);
        else wide_sparse_input_window(R, KW, 0, i < P ? s->pool : 1, words, gradient, mask, weight, step, to, s->x_row);
        if (++w == s->PW) w = 0, h++;
    }
}

/* One block of input channels: weight (O, kh, kw, VL); adds to grad_x, a blocked plane with its border. */
KERNEL void wide_sparse_input(const struct wide_pooled *s, i64 kh, i64 kw, const float *gradient, const uint64_t *mask,
                              const float *weight, float *grad_x) {
    const i64 step = kh * kw * VL;
    for (i64 r = 0, rows; r < kh; r += rows, weight += rows * kw * VL, grad_x += rows * s->x_row) {
        rows = wide_sparse_rows(kh - r, kw);
#define CASE(R, KW) if (rows == R && kw == KW) wide_sparse_input_windows(R, KW, s, gradient, mask, weight, step, grad_x);
        WIDE_SPARSE_CASES(CASE)
#undef CASE
    }
}

#endif
