/* Max-pooling and ReLU of a strip of convolution outputs, lanes = channels.
 *
 * A strip is a few rows of a convolution's output, blocked [OB][rows][cols][VL], that has just been written and is still in cache.
 * Backward needs of all this only where each maximum stood: one byte, the place in the window, -1 where ReLU gave zero.
 */
#ifndef FASTNN_WIDE_POOL_H
#define FASTNN_WIDE_POOL_H

#include "parts/pooling.h"
#include "plan/layers.h"
#include "plan/wide/layout.h"

enum { WIDE_MOST_POOL = 4 };

/* Writes a window's output and, where wanted, the place of its maximum. */
INLINE void wide_pool_give(vf best, vi place, int relu, float *y, int8_t *where) {
    if (where) v_store_bytes(where, relu ? place | ~(best > (vf){0}) : place);
    v_store(y, relu ? v_max((vf){0}, best) : best);
}

/* One row of PW windows: src at its first pixel. where: PW pixels `where_step` bytes apart, or NULL. */
INLINE void wide_pool_row(const int pool, i64 PW, const float *src, i64 row, int relu, float *dst, int8_t *where, i64 where_step) {
    for (i64 w = 0; w < PW; w++, src += pool * VL) {
        vf best = v_load(src);
        vi place = {0};
        UNROLL for (int k = 1; k < pool * pool; k++) pool_take(v_load(src + k / pool * row + k % pool * VL), k, &best, &place);
        wide_pool_give(best, place, relu, dst + w * VL, where ? where + w * where_step : NULL);
    }
}

KERNEL void wide_pool_strip(i64 pool, i64 OB, i64 PH, i64 PW, struct wide_view src, int relu, struct wide_view dst, int8_t *where) {
    for (i64 ob = 0; ob < OB; ob++)
        for (i64 h = 0; h < PH; h++) {
            const float *s = src.at + ob * src.plane + h * pool * src.row;
            float *d = dst.at + ob * dst.plane + h * dst.row;
            int8_t *a = where ? where + (h * PW * OB + ob) * VL : NULL;
            if (pool == 2) wide_pool_row(2, PW, s, src.row, relu, d, a, OB * VL);
            else if (pool == 3) wide_pool_row(3, PW, s, src.row, relu, d, a, OB * VL);
            else wide_pool_row(4, PW, s, src.row, relu, d, a, OB * VL);
        }
}

/* y = f(y), for activations other than ReLU */
KERNEL void wide_activate(const struct chain_layer *l, struct wide_view y) {
    const vf p = v_set1((float)l->parameter);
#define SWEEP(kind)                                                                                                       \
    for (i64 ob = 0; ob < ceil_div(l->O, VL); ob++) for (i64 h = 0; h < l->PH; h++) {                                     \
        float *const row = y.at + ob * y.plane + h * y.row;                                                               \
        for (i64 w = 0; w < l->PW * VL; w += VL) v_store(row + w, v_activate(kind, v_load(row + w), p));                  \
    }
    if (l->activation > ACTIVATION_RELU) ACTIVATION_CASES(l->activation, SWEEP)
#undef SWEEP
}

/* grad *= f'(y), for activations other than ReLU */
KERNEL void wide_activate_backward(const struct chain_layer *l, struct wide_view y, struct wide_view grad) {
    const vf p = v_set1((float)l->parameter);
#define SWEEP(kind)                                                                                                       \
    for (i64 ob = 0; ob < ceil_div(l->O, VL); ob++) for (i64 h = 0; h < l->PH; h++) {                                     \
        float *const row = grad.at + ob * grad.plane + h * grad.row;                                                      \
        const float *const of = y.at + ob * y.plane + h * y.row;                                                          \
        for (i64 w = 0; w < l->PW * VL; w += VL) v_store(row + w, v_activate_backward_from_y(kind, v_load(row + w), v_load(of + w), p)); \
    }
    if (l->activation > ACTIVATION_RELU) ACTIVATION_CASES(l->activation, SWEEP)
#undef SWEEP
}

/* dst = src, or its ReLU */
KERNEL void wide_relu_strip(i64 OB, i64 H, i64 W, struct wide_view src, int relu, struct wide_view dst) {
    for (i64 ob = 0; ob < OB; ob++)
        for (i64 h = 0; h < H; h++) {
            const float *s = src.at + ob * src.plane + h * src.row;
            float *d = dst.at + ob * dst.plane + h * dst.row;
            for (i64 w = 0; w < W * VL; w += VL) {
                vf v = v_load(s + w);
                v_store(d + w, relu ? v_max((vf){0}, v) : v);
            }
        }
}

#endif
