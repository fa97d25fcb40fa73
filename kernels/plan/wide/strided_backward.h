/* Both gradients of a convolution of stride 2 by Winograd's way in one go: the transpose of wide/strided.h.
 *
 *   dM = A dY A',   dU = V' dM,   dg += G' dU G,   dV = dM U',   dX += B dV B'        V = B' X B, U = G g G' as forward
 */
#ifndef FASTNN_WIDE_STRIDED_BACKWARD_H
#define FASTNN_WIDE_STRIDED_BACKWARD_H

#include "base/sums.h"
#include "plan/wide/strided.h"

/* ---- transforms of a line, as in wide/strided.h ---- */

/* A y, of a pair */
INLINE void strided_line_gradient(const int t, const int g, const vf *y, const int by, vf *out) {
    if (t == 1) {
        out[0] = y[2 * g * by], out[1] = y[(2 * g + 1) * by];
    } else if (g < 2) {
        const vf even = y[0] + STRIDED_SQUARE(t, g) * y[2 * by], odd = y[by] + STRIDED_SQUARE(t, g) * y[3 * by];
        out[0] = even + STRIDED_POINT(t, g) * odd;
        out[1] = even - STRIDED_POINT(t, g) * odd;
    } else {
        if (t == 3) out[0] = y[0];
        out[t - 2] = y[3 * by];
    }
}

/* G' u, from slots */
INLINE void strided_line_weight_gradient(const int t, const vf *u, vf *g, const int by) {
    if (t == 1) { g[0] = u[0]; return; }
    const vf sum_a = STRIDED_G(t, 0) * (u[0] + u[1]), diff_a = STRIDED_G(t, 0) * (u[0] - u[1]);
    const vf sum_b = STRIDED_G(t, 1) * (u[2] + u[3]), diff_b = STRIDED_G(t, 1) * (u[2] - u[3]);
    if (t == 2) {
        g[0] = diff_a + diff_b;
        g[by] = u[4] + STRIDED_A(t) * sum_a + STRIDED_B(t) * sum_b;
    } else {
        g[0] = 1.0f / STRIDED_PRODUCT(t) * u[4] + sum_a + sum_b;
        g[by] = STRIDED_A(t) * diff_a + STRIDED_B(t) * diff_b;
        g[2 * by] = u[5] + STRIDED_SQUARE(t, 0) * sum_a + STRIDED_SQUARE(t, 1) * sum_b;
    }
}

/* B m: a pair of the line's pixels of one phase, those that strided_pixel tells */
INLINE void strided_line_pixels(const int t, const int g, const vf *m, vf *out) {
    if (t == 1) {
        out[0] = m[2 * g], out[1] = m[2 * g + 1];
    } else if (g == 0) {
        const vf a = STRIDED_A(t) * (m[0] - m[1]), b = STRIDED_B(t) * (m[2] - m[3]), end = m[t + 2];
        out[0] = (STRIDED_PRODUCT(t) * end - STRIDED_SQUARE(t, 1) * a) - STRIDED_SQUARE(t, 0) * b;
        out[1] = (a + b) - STRIDED_SUM(t) * end;
    } else if (g == 1) {
        const vf a = m[0] + m[1], b = m[2] + m[3];
        out[0] = -STRIDED_SQUARE(t, 1) * a - STRIDED_SQUARE(t, 0) * b;
        out[1] = a + b;
        if (t == 3) out[0] -= STRIDED_SUM(t) * m[4], out[1] += m[4];
    } else if (t == 2) {
        out[0] = m[4];
    } else {
        out[0] = STRIDED_PRODUCT(t) * m[4], out[1] = m[5];
    }
}
INLINE int strided_pixel(const int t, const int g, const int k) {
    if (t == 1) return 2 * g + k;
    return g < 2 ? t - 2 + g + 2 * k : t == 2 ? 4 : 5 * k;
}

/* ---- transforms of a tile ---- */

/* 4x4 gradients at src -> M */
INLINE void strided_gradient(const int K, const float *restrict src, i64 row, float *restrict M, i64 point) {
    vf y[16];
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) y[4 * i + j] = v_load(src + i * row + j * VL);
    UNROLL for (int f = 0; f < 2; f++) UNROLL for (int g = 0; g < strided_pairs(strided_taps(K, f)); g++) {
        const int t = (int)strided_taps(K, f), i = (int)strided_first(K, f) + 2 * g;
        vf line[2][4];
        UNROLL for (int j = 0; j < 4; j++) {
            vf pair[2];
            strided_line_gradient(t, g, y + j, 4, pair);
            UNROLL for (int k = 0; k < strided_in_pair(t, g); k++) line[k][j] = pair[k];
        }
        UNROLL for (int k = 0; k < strided_in_pair(t, g); k++) UNROLL for (int e = 0; e < 2; e++) {
            const int s = (int)strided_taps(K, e);
            UNROLL for (int h = 0; h < strided_pairs(s); h++) {
                vf pair[2];
                strided_line_gradient(s, h, line[k], 1, pair);
                UNROLL for (int l = 0; l < strided_in_pair(s, h); l++)
                    v_store(M + strided_at(K, i + k, strided_first(K, e) + 2 * h + l, point), pair[l]);
            }
        }
    }
}

/* dX += (K + 6)^2 pixels from V, by pairs of lines */
INLINE void strided_input_gradient(const int K, const float *restrict V, i64 point, float *restrict dX, i64 row) {
    UNROLL for (int f = 0; f < 2; f++) UNROLL for (int g = 0; g < strided_pairs(strided_taps(K, f)); g++) {
        const int t = (int)strided_taps(K, f);
        vf line[2][STRIDED_MOST];
        UNROLL for (int j = 0; j < K + 6; j++) {
            vf m[6], pair[2];
            UNROLL for (int i = 0; i < t + 3; i++) m[i] = v_load(V + strided_at(K, strided_first(K, f) + i, j, point));
            strided_line_pixels(t, g, m, pair);
            UNROLL for (int k = 0; k < strided_in_pair(t, g); k++) line[k][j] = pair[k];
        }
        UNROLL for (int k = 0; k < strided_in_pair(t, g); k++) {
            float *const to = dX + (2 * strided_pixel(t, g, k) + f) * row;
            UNROLL for (int e = 0; e < 2; e++) UNROLL for (int h = 0; h < strided_pairs(strided_taps(K, e)); h++) {
                const int s = (int)strided_taps(K, e);
                vf pair[2];
                strided_line_pixels(s, h, line[k] + strided_first(K, e), pair);
                UNROLL for (int l = 0; l < strided_in_pair(s, h); l++) {
                    float *const pixel = to + (2 * strided_pixel(s, h, l) + e) * VL;
                    v_store(pixel, v_load(pixel) + pair[l]);
                }
            }
        }
    }
}

#define STRIDED_BACKWARD(K) \
WINOGRAD_TILE void strided_gradient_##K(const float *restrict src, i64 row, float *restrict M, i64 point) { \
    strided_gradient(K, src, row, M, point); \
} \
WINOGRAD_TILE void strided_input_gradient_##K(const float *restrict V, i64 point, float *restrict dX, i64 row) { \
    strided_input_gradient(K, V, point, dX, row); \
}
STRIDED_BACKWARD(3)
STRIDED_BACKWARD(4)
STRIDED_BACKWARD(5)

/* to [tap][...] += G' dU G of one input channel and one block of output channels */
INLINE void strided_unpack_block(const int K, const float *dU, i64 step, float *to, i64 tap) {
    vf half[STRIDED_MOST][5];               /* [column][row] */
    UNROLL for (int j = 0; j < strided_slots(K); j++) {
        vf u[STRIDED_MOST];
        UNROLL for (int i = 0; i < strided_slots(K); i++) u[i] = v_load(dU + (i * strided_slots(K) + j) * step);
        UNROLL for (int f = 0; f < 2; f++) strided_line_weight_gradient((int)strided_taps(K, f), u + strided_first(K, f), half[j] + f, 2);
    }
    UNROLL for (int i = 0; i < K; i++) {
        vf line[STRIDED_MOST], g[5];
        UNROLL for (int j = 0; j < strided_slots(K); j++) line[j] = half[j][i];
        UNROLL for (int f = 0; f < 2; f++) strided_line_weight_gradient((int)strided_taps(K, f), line + strided_first(K, f), g + f, 2);
        UNROLL for (int j = 0; j < K; j++) v_store(to + (i * K + j) * tap, v_load(to + (i * K + j) * tap) + g[j]);
    }
}

/* How many runs (base/sums.h) T tiles add to a sum, at most: that of the matrix that most points share */
INLINE i64 strided_runs(i64 K, i64 T) { return K == 3 ? ceil_div(16 * T, SUM_RUN) : 1; }

/* packed [C][K * K][Op] += the weight gradient of T tiles, G' (V' M) G: some input channels of a group of output blocks at a time, whose
 * products dU, of strided_products_floats, stay in cache until they are transformed */
KERNEL void strided_multiply_weight(const struct strided *w, i64 T, const float *V, const float *M, float *dU, float *packed) {
    const i64 slots = strided_slots(w->K), taps = w->K * w->K;
    for (i64 o = 0; o < w->Op; o += CHANNELS_NV * VL) for (i64 c = 0; c < w->C; c += STRIDED_CHANNELS) {
        const i64 blocks = i64_min(CHANNELS_NV, (w->Op - o) / VL), row = blocks * VL, channels = i64_min(STRIDED_CHANNELS, w->C - c);
        const i64 step = STRIDED_CHANNELS * row + VL;
        for (i64 a = 0; a < slots; a++) for (i64 b = 0; b < slots; b++) {
            const i64 terms = T * strided_shares(w->K, a) * strided_shares(w->K, b), run = sum_run(terms);
            const float *v = V + strided_rows_at(w->K, a, b, T * w->Cp) + c, *m = M + strided_rows_at(w->K, a, b, T * w->Op) + o;
            for (i64 k = 0; k < terms; k += run)
                winograd_panel(blocks, k > 0, channels, i64_min(run, terms - k), v + k * w->Cp, 1, w->Cp, m + k * w->Op, w->Op,
                               dU + (a * slots + b) * step, row);
        }
        for (i64 i = 0; i < channels; i++) for (i64 j = 0; j < row; j += VL) {
            const float *from = dU + i * row + j;
            float *to = packed + (c + i) * taps * w->Op + o + j;
            if (w->K == 3) strided_unpack_block(3, from, step, to, w->Op);
            else if (w->K == 4) strided_unpack_block(4, from, step, to, w->Op);
            else strided_unpack_block(5, from, step, to, w->Op);
        }
    }
}

/* weight, packed [C][K * K][Op], += weight gradient; dX += input gradient, laid out as src is, over (8*TH + K - 2) x (8*TW + K - 2) pixels; grad must be zero
 * over what of 4*TH x 4*TW lies outside OH x OW. U: packed, exchanged, of the shape with C and O exchanged. weight or dX: NULL where
 * not wanted. work: strided_work_floats */
KERNEL void strided_backward(const struct strided *w, i64 images, const float *U, struct wide_view src, i64 src_image,
                             struct wide_view grad, i64 grad_image, struct joined *weight, float *dX, float *work) {
    void (*const gradient)(const float *, i64, float *, i64) = w->K == 3 ? strided_gradient_3 : w->K == 4 ? strided_gradient_4 : strided_gradient_5;
    void (*const pixels)(const float *, i64, float *, i64) =
        w->K == 3 ? strided_input_gradient_3 : w->K == 4 ? strided_input_gradient_4 : strided_input_gradient_5;
    const struct strided exchanged = strided_shape(w->K, w->O, w->C, w->OH, w->OW);
    struct winograd_place at = {0};
    for (i64 left = images * w->TH * w->TW, T; left; left -= T) {
        T = strided_tiles(w, left);
        float *V = work, *M = V + strided_floats(w->K, T * w->Cp);
        struct winograd_place to = at;
        if (weight) strided_strip_input(w, at, T, src, src_image, V);
        for (i64 t = 0; t < T; t++, strided_next(w, &at)) {
            const float *from = grad.at + at.image * grad_image + 4 * at.ty * grad.row + 4 * at.tx * VL;
            for (i64 o = 0; o < w->Op; o += VL) gradient(from + o / VL * grad.plane, grad.row, M + t * w->Op + o, T * w->Op);
        }
        if (weight) {
            strided_multiply_weight(w, T, V, M, M + strided_floats(w->K, T * w->Op), weight->part);
            joined_added(weight, strided_runs(w->K, T));
        }
        if (!dX) continue;
        strided_multiply(&exchanged, T, U, M, V);
        for (i64 t = 0; t < T; t++, strided_next(w, &to)) {
            float *out = dX + to.image * src_image + 8 * to.ty * src.row + 8 * to.tx * VL;
            for (i64 c = 0; c < w->Cp; c += VL) pixels(V + t * w->Cp + c, T * w->Cp, out + c / VL * src.plane, src.row);
        }
    }
}

#endif
