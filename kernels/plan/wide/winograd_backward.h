/* Both gradients of a 3x3 convolution by Winograd's F(4x4, 3x3) in one go: the transpose of wide/winograd.h.
 *
 *   dM = A dY A',   dU += V' dM,   dg = G' dU G,   dV = dM U',   dX += B dV B'        V = B' X B, U = G g G' as forward
 *
 * The gradient is transformed once for both, and its tiles are the forward's: 36 for 26x26 -> 24x24, where the input gradient as
 * a convolution of its own has 49. The price is that the 6x6 tiles of dX overlap and are added to memory.
 *
 * Measured as in wide/winograd.h: 58 us for 32 -> 64 channels of 26x26, 55 us for 32 -> 32 of 32x32, 50 us for 64 -> 64 of 16x16 (2.6 to
 * 3.2 times the peak in terms of direct loops); errors of 1 to 4e-6 of the largest entry.
 */
#ifndef FASTNN_WIDE_WINOGRAD_BACKWARD_H
#define FASTNN_WIDE_WINOGRAD_BACKWARD_H

#include "base/sums.h"
#include "plan/wide/winograd.h"

/* ---- transforms of a line: 4 -> 6, 6 -> 3, 6 -> 6 ---- */

/* A y */
INLINE void winograd_line_gradient(const vf *y, i64 step, vf *m) {
    vf even_a = y[0] + WINOGRAD_A2 * y[2 * step], odd_a = y[step] + WINOGRAD_A2 * y[3 * step];
    vf even_b = y[0] + WINOGRAD_B2 * y[2 * step], odd_b = y[step] + WINOGRAD_B2 * y[3 * step];
    m[0] = y[0];
    m[1] = even_a + WINOGRAD_A * odd_a;
    m[2] = even_a - WINOGRAD_A * odd_a;
    m[3] = even_b + WINOGRAD_B * odd_b;
    m[4] = even_b - WINOGRAD_B * odd_b;
    m[5] = y[3 * step];
}

/* G' u */
INLINE void winograd_line_weight_gradient(const vf *u, i64 step, vf *g) {
    vf sum_a = WINOGRAD_GA * (u[step] + u[2 * step]), diff_a = WINOGRAD_GA * (u[step] - u[2 * step]);
    vf sum_b = WINOGRAD_GB * (u[3 * step] + u[4 * step]), diff_b = WINOGRAD_GB * (u[3 * step] - u[4 * step]);
    g[0] = WINOGRAD_G0 * u[0] + sum_a + sum_b;
    g[1] = WINOGRAD_A * diff_a + WINOGRAD_B * diff_b;
    g[2] = u[5 * step] + WINOGRAD_A2 * sum_a + WINOGRAD_B2 * sum_b;
}

/* B t */
INLINE void winograd_line_input_gradient(const vf *t, vf *d) {
    vf sum_a = t[1] + t[2], diff_a = WINOGRAD_A * (t[1] - t[2]), sum_b = t[3] + t[4], diff_b = WINOGRAD_B * (t[3] - t[4]);
    d[0] = WINOGRAD_A2 * WINOGRAD_B2 * t[0];
    d[1] = (WINOGRAD_A2 * WINOGRAD_B2 * t[5] - WINOGRAD_B2 * diff_a) - WINOGRAD_A2 * diff_b;
    d[2] = (-(WINOGRAD_A2 + WINOGRAD_B2) * t[0] - WINOGRAD_B2 * sum_a) - WINOGRAD_A2 * sum_b;
    d[3] = (diff_a + diff_b) - (WINOGRAD_A2 + WINOGRAD_B2) * t[5];
    d[4] = t[0] + sum_a + sum_b;
    d[5] = t[5];
}

/* ---- transforms of a tile ---- */

/* 4x4 gradients at src -> M */
WINOGRAD_TILE void winograd_gradient(const float *restrict src, i64 row, float *restrict M, i64 step) {
    vf half[4][6];                          /* [column][row] */
    UNROLL for (int j = 0; j < 4; j++) {
        vf d[4];
        UNROLL for (int i = 0; i < 4; i++) d[i] = v_load(src + i * row + j * VL);
        winograd_line_gradient(d, 1, half[j]);
    }
    UNROLL for (int i = 0; i < 6; i++) {
        vf t[6];
        winograd_line_gradient(&half[0][i], 6, t);
        UNROLL for (int j = 0; j < 6; j++) v_store(M + (i * 6 + j) * step, t[j]);
    }
}

/* dX += 6x6 pixels from V; by pairs of lines, as winograd_input */
WINOGRAD_TILE void winograd_input_gradient(const float *restrict V, i64 step, float *restrict dX, i64 row) {
    UNROLL for (int pair = 0; pair < 3; pair++) {
        vf line[2][6];
        UNROLL for (int j = 0; j < 6; j++) {
            const float *at = V + j * step;
            vf end = v_load(at + (pair == 1 ? 30 : 0) * step);      /* point 0 or infinity */
            if (pair == 0) {
                line[0][j] = WINOGRAD_A2 * WINOGRAD_B2 * end;
                line[1][j] = v_load(at + 30 * step);
                continue;
            }
            vf a0 = v_load(at + 6 * step), a1 = v_load(at + 12 * step), b0 = v_load(at + 18 * step), b1 = v_load(at + 24 * step);
            if (pair == 1) {
                vf a = WINOGRAD_A * (a0 - a1), b = WINOGRAD_B * (b0 - b1);
                line[0][j] = (WINOGRAD_A2 * WINOGRAD_B2 * end - WINOGRAD_B2 * a) - WINOGRAD_A2 * b;
                line[1][j] = (a + b) - (WINOGRAD_A2 + WINOGRAD_B2) * end;
            } else {
                vf a = a0 + a1, b = b0 + b1;
                line[0][j] = (-(WINOGRAD_A2 + WINOGRAD_B2) * end - WINOGRAD_B2 * a) - WINOGRAD_A2 * b;
                line[1][j] = end + a + b;
            }
        }
        UNROLL for (int k = 0; k < 2; k++) {
            vf d[6];
            float *to = dX + (pair == 0 ? 5 * k : pair == 1 ? 1 + 2 * k : 2 + 2 * k) * row;
            winograd_line_input_gradient(line[k], d);
            UNROLL for (int j = 0; j < 6; j++) v_store(to + j * VL, v_load(to + j * VL) + d[j]);
        }
    }
}

/* packed [C][9][Op] from dU [point][Cp][Op] */
KERNEL void winograd_weight_unpack(const struct winograd *w, const float *dU, float *packed) {
    const i64 step = winograd_step(w->Cp, w->Op);
    for (i64 c = 0; c < w->C; c++) for (i64 o = 0; o < w->Op; o += VL) {
        vf half[6][3];                      /* [column][row] */
        UNROLL for (int j = 0; j < 6; j++) {
            vf u[6];
            UNROLL for (int i = 0; i < 6; i++) u[i] = v_load(dU + (i * 6 + j) * step + c * w->Op + o);
            winograd_line_weight_gradient(u, 1, half[j]);
        }
        UNROLL for (int i = 0; i < 3; i++) {
            vf g[3];
            winograd_line_weight_gradient(&half[0][i], 3, g);
            UNROLL for (int j = 0; j < 3; j++) v_store(packed + (c * 9 + i * 3 + j) * w->Op + o, g[j]);
        }
    }
}

/* dU [point][Cp][Op] = or += V' M */
INLINE void winograd_multiply_weight(const struct winograd *w, i64 T, int add, const float *V, const float *M, float *dU) {
    const i64 u_step = winograd_step(w->Cp, w->Op), v_step = winograd_step(T, w->Cp), m_step = winograd_step(T, w->Op);
    for (i64 p = 0; p < WINOGRAD_POINTS; p++) for (i64 o = 0; o < w->Op; o += CHANNELS_NV * VL) {
        i64 blocks = i64_min(CHANNELS_NV, (w->Op - o) / VL);
        winograd_panel(blocks, add, w->C, T, V + p * v_step, 1, w->Cp, M + p * m_step + o, w->Op, dU + p * u_step + o, w->Op);
    }
}

/* dU = or += weight gradient; dX += input gradient, laid out as src is, over (4*TH + 2) x (4*TW + 2) pixels; grad must be zero
 * over what of 4*TH x 4*TW lies outside OH x OW. U: packed WINOGRAD_EXCHANGED of the shape with C and O exchanged. dU or dX: NULL
 * where not wanted. work: winograd_work_floats */
KERNEL void winograd_backward(const struct winograd *w, i64 images, int add, const float *U, struct wide_view src, i64 src_image,
                              struct wide_view grad, i64 grad_image, struct joined *dU, float *dX, float *work) {
    const struct winograd exchanged = winograd_shape(w->O, w->C, w->OH, w->OW);
    const i64 tiles = images * w->TH * w->TW, strip = winograd_strip(w);
    struct winograd_place at = {0};
    for (i64 t0 = 0; t0 < tiles; t0 += strip) {
        const i64 T = i64_min(strip, tiles - t0), v_step = winograd_step(T, w->Cp), m_step = winograd_step(T, w->Op);
        float *V = work, *M = V + WINOGRAD_POINTS * v_step;
        struct winograd_place to = at;
        if (dU) winograd_strip_input(w, at, T, src, src_image, V);
        for (i64 t = 0; t < T; t++, winograd_next(w->TH, w->TW, &at)) {
            const float *from = grad.at + at.image * grad_image + 4 * at.ty * grad.row + 4 * at.tx * VL;
            for (i64 o = 0; o < w->Op; o += VL) winograd_gradient(from + o / VL * grad.plane, grad.row, M + t * w->Op + o, m_step);
        }
        if (dU) {
            winograd_multiply_weight(w, T, add || t0 > 0, V, M, dU->part);
            joined_added(dU, 1);
        }
        if (!dX) continue;
        winograd_multiply(&exchanged, T, U, M, V);
        for (i64 t = 0; t < T; t++, winograd_next(w->TH, w->TW, &to)) {
            float *out = dX + to.image * src_image + 4 * to.ty * src.row + 4 * to.tx * VL;
            for (i64 c = 0; c < w->Cp; c += VL) winograd_input_gradient(V + t * w->Cp + c, v_step, out + c / VL * src.plane, src.row);
        }
    }
}

#endif
