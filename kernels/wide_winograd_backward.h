/* Both gradients of a 3x3 convolution by Winograd's F(4x4, 3x3) in one go: the transposed algorithm.
 *
 *   dM = A dY A',   dU += V' dM,   dV = dM U',   dX += B dV B'      V = B' X B as forward
 *
 * The gradient is transformed once for both, and its tiles are the forward's: 36 for 26x26 -> 24x24, where the input gradient as
 * a convolution of its own has 49. The price is that the 6x6 tiles of dX overlap and are added to memory.
 */
#ifndef FASTNN_WIDE_WINOGRAD_BACKWARD_H
#define FASTNN_WIDE_WINOGRAD_BACKWARD_H

#include "wide_winograd.h"

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

/* dU = or += weight gradient; dX += input gradient, laid out as src is, over (4*TH + 2) x (4*TW + 2) pixels; grad must be zero
 * over what of 4*TH x 4*TW lies outside OH x OW. U: packed WINOGRAD_EXCHANGED of the shape with C and O exchanged. dU or dX: NULL
 * where not wanted. work: winograd_work_floats */
KERNEL void winograd_backward(const struct winograd *w, i64 images, int add, const float *U, struct wide_view src, i64 src_image,
                              struct wide_view grad, i64 grad_image, float *dU, float *dX, float *work) {
    const struct winograd exchanged = winograd_shape(w->O, w->C, w->OH, w->OW);
    const i64 tiles = images * w->TH * w->TW;
    struct winograd_place at = {0};
    for (i64 t0 = 0; t0 < tiles; t0 += WINOGRAD_STRIP) {
        const i64 T = i64_min(WINOGRAD_STRIP, tiles - t0), v_step = winograd_step(T, w->Cp), m_step = winograd_step(T, w->Op);
        float *V = work, *M = V + WINOGRAD_POINTS * v_step;
        struct winograd_place to = at;
        if (dU) winograd_strip_input(w, at, T, src, src_image, V);
        for (i64 t = 0; t < T; t++, winograd_next(w, &at)) {
            const float *from = grad.at + at.image * grad_image + 4 * at.ty * grad.row + 4 * at.tx * VL;
            for (i64 o = 0; o < w->Op; o += VL) winograd_gradient(from + o / VL * grad.plane, grad.row, M + t * w->Op + o, m_step);
        }
        if (dU) winograd_multiply_weight(w, T, add || t0 > 0, V, M, dU);
        if (!dX) continue;
        winograd_multiply(&exchanged, T, U, M, V);
        for (i64 t = 0; t < T; t++, winograd_next(w, &to)) {
            float *out = dX + to.image * src_image + 4 * to.ty * src.row + 4 * to.tx * VL;
            for (i64 c = 0; c < w->Cp; c += VL) winograd_input_gradient(V + t * w->Cp + c, v_step, out + c / VL * src.plane, src.row);
        }
    }
}

#endif
