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
    if (g < 2) {
        const vf even = y[0] + STRIDED_SQUARE(t, g) * y[2 * by], odd = y[by] + STRIDED_SQUARE(t, g) * y[3 * by];
        out[0] = even + STRIDED_POINT(t, g) * odd;
        out[1] = even - STRIDED_POINT(t, g) * odd;
    } else {
        if (t == 3) out[0] = y[0];
        out[t - 2] = y[3 * by];
    }
}

/* G' u */
INLINE void strided_line_weight_gradient(const int t, const vf *u, vf *g, const int by) {
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
    if (g == 0) {
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
    return g < 2 ? t - 2 + g + 2 * k : t == 2 ? 4 : 5 * k;
}

/* ---- transforms of a tile ---- */

/* 4x4 gradients at src -> M */
INLINE void strided_gradient(const int K, const float *restrict src, i64 row, float *restrict M, i64 step) {
    vf y[16];
    UNROLL for (int i = 0; i < 4; i++) UNROLL for (int j = 0; j < 4; j++) y[4 * i + j] = v_load(src + i * row + j * VL);
    UNROLL for (int f = 0; f < 2; f++) UNROLL for (int g = 0; g < 3; g++) {
        const int t = (int)strided_taps(K, f), i = (int)strided_first(K, f) + 2 * g;
        vf line[2][4];
        UNROLL for (int j = 0; j < 4; j++) {
            vf pair[2];
            strided_line_gradient(t, g, y + j, 4, pair);
            UNROLL for (int k = 0; k < strided_in_pair(t, g); k++) line[k][j] = pair[k];
        }
        ROLLED for (int k = 0; k < strided_in_pair(t, g); k++) UNROLL for (int e = 0; e < 2; e++) {
            const int s = (int)strided_taps(K, e);
            UNROLL for (int h = 0; h < 3; h++) {
                vf pair[2];
                strided_line_gradient(s, h, line[k], 1, pair);
                UNROLL for (int l = 0; l < strided_in_pair(s, h); l++)
                    v_store(M + ((i + k) * (K + 6) + strided_first(K, e) + 2 * h + l) * step, pair[l]);
            }
        }
    }
}

/* dX += (K + 6)^2 pixels from V, by pairs of lines */
INLINE void strided_input_gradient(const int K, const float *restrict V, i64 step, float *restrict dX, i64 row) {
    UNROLL for (int f = 0; f < 2; f++) UNROLL for (int g = 0; g < 3; g++) {
        const int t = (int)strided_taps(K, f);
        vf line[2][STRIDED_MOST];
        ROLLED for (int j = 0; j < K + 6; j++) {
            vf m[6], pair[2];
            UNROLL for (int i = 0; i < t + 3; i++) m[i] = v_load(V + ((strided_first(K, f) + i) * (K + 6) + j) * step);
            strided_line_pixels(t, g, m, pair);
            UNROLL for (int k = 0; k < strided_in_pair(t, g); k++) line[k][j] = pair[k];
        }
        ROLLED for (int k = 0; k < strided_in_pair(t, g); k++) {
            float *const to = dX + (2 * strided_pixel(t, g, k) + f) * row;
            UNROLL for (int e = 0; e < 2; e++) UNROLL for (int h = 0; h < 3; h++) {
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
WINOGRAD_TILE void strided_gradient_##K(const float *restrict src, i64 row, float *restrict M, i64 step) { \
    strided_gradient(K, src, row, M, step); \
} \
WINOGRAD_TILE void strided_input_gradient_##K(const float *restrict V, i64 step, float *restrict dX, i64 row) { \
    strided_input_gradient(K, V, step, dX, row); \
}
STRIDED_BACKWARD(4)
STRIDED_BACKWARD(5)

/* to [tap][...] += G' dU G of one input channel and one block of output channels */
INLINE void strided_unpack_block(const int K, const float *dU, i64 step, float *to, i64 tap) {
    vf half[STRIDED_MOST][5];               /* [column][row] */
    ROLLED for (int j = 0; j < K + 6; j++) {
        vf u[STRIDED_MOST];
        UNROLL for (int i = 0; i < K + 6; i++) u[i] = v_load(dU + (i * (K + 6) + j) * step);
        UNROLL for (int f = 0; f < 2; f++) strided_line_weight_gradient((int)strided_taps(K, f), u + strided_first(K, f), half[j] + f, 2);
    }
    ROLLED for (int i = 0; i < K; i++) {
        vf line[STRIDED_MOST], g[5];
        UNROLL for (int j = 0; j < K + 6; j++) line[j] = half[j][i];
        UNROLL for (int f = 0; f < 2; f++) strided_line_weight_gradient((int)strided_taps(K, f), line + strided_first(K, f), g + f, 2);
        UNROLL for (int j = 0; j < K; j++) v_store(to + (i * K + j) * tap, v_load(to + (i * K + j) * tap) + g[j]);
    }
}

/* packed [C][K * K][Op] += the weight gradient of T tiles, G' (V' M) G: some input channels of a group of output blocks at a time, whose
 * products dU stay in cache until they are transformed */
KERNEL void strided_multiply_weight(const struct strided *w, i64 T, const float *V, const float *M, float *dU, float *packed) {
    const i64 taps = w->K * w->K, v_step = winograd_step(T, w->Cp), m_step = winograd_step(T, w->Op);
    for (i64 o = 0; o < w->Op; o += CHANNELS_NV * VL) for (i64 c = 0; c < w->C; c += STRIDED_CHANNELS) {
        const i64 blocks = i64_min(CHANNELS_NV, (w->Op - o) / VL), row = blocks * VL, channels = i64_min(STRIDED_CHANNELS, w->C - c);
        const i64 step = winograd_step(STRIDED_CHANNELS, row);
        for (i64 p = 0; p < strided_points(w->K); p++)
            winograd_panel(blocks, 0, channels, T, V + p * v_step + c, 1, w->Cp, M + p * m_step + o, w->Op, dU + p * step, row);
        for (i64 i = 0; i < channels; i++) for (i64 j = 0; j < row; j += VL) {
            const float *from = dU + i * row + j;
            float *to = packed + (c + i) * taps * w->Op + o + j;
            if (w->K == 4) strided_unpack_block(4, from, step, to, w->Op);
            else strided_unpack_block(5, from, step, to, w->Op);
        }
    }
}

/* weight, packed [C][K * K][Op], += weight gradient; dX += input gradient, laid out as src is, over (8*TH + K - 2) x (8*TW + K - 2) pixels; grad must be zero
 * over what of 4*TH x 4*TW lies outside OH x OW. U: packed, exchanged, of the shape with C and O exchanged. weight or dX: NULL where
 * not wanted. work: strided_work_floats */
KERNEL void strided_backward(const struct strided *w, i64 images, const float *U, struct wide_view src, i64 src_image,
                             struct wide_view grad, i64 grad_image, struct joined *weight, float *dX, float *work) {
    void (*const gradient)(const float *, i64, float *, i64) = w->K == 4 ? strided_gradient_4 : strided_gradient_5;
    void (*const pixels)(const float *, i64, float *, i64) = w->K == 4 ? strided_input_gradient_4 : strided_input_gradient_5;
    const struct strided exchanged = strided_shape(w->K, w->O, w->C, w->OH, w->OW);
    struct winograd_place at = {0};
    for (i64 left = images * w->TH * w->TW, T; left; left -= T) {
        T = strided_tiles(w, left);
        const i64 v_step = winograd_step(T, w->Cp), m_step = winograd_step(T, w->Op);
        float *V = work, *M = V + strided_points(w->K) * v_step;
        struct winograd_place to = at;
        if (weight) strided_strip_input(w, at, T, src, src_image, V);
        for (i64 t = 0; t < T; t++, winograd_next(w->TH, w->TW, &at)) {
            const float *from = grad.at + at.image * grad_image + 4 * at.ty * grad.row + 4 * at.tx * VL;
            for (i64 o = 0; o < w->Op; o += VL) gradient(from + o / VL * grad.plane, grad.row, M + t * w->Op + o, m_step);
        }
        if (weight) {
            strided_multiply_weight(w, T, V, M, M + strided_points(w->K) * m_step, weight->part);
            joined_added(weight, 1);
        }
        if (!dX) continue;
        strided_multiply(&exchanged, T, U, M, V);
        for (i64 t = 0; t < T; t++, winograd_next(w->TH, w->TW, &to)) {
            float *out = dX + to.image * src_image + 8 * to.ty * src.row + 8 * to.tx * VL;
            for (i64 c = 0; c < w->Cp; c += VL) pixels(V + t * w->Cp + c, v_step, out + c / VL * src.plane, src.row);
        }
    }
}

#endif
