/* Activations and poolings that the narrow chain's convolutions do not take along in registers: sweeps over what these have written,
 * lanes = images, a vector an entry.
 *
 *   late     y = f(y) after ReLU's place, where f never falls: on what plain max-pooling has left.  Backward: grad *= f'(y)
 *   full     z = the convolution's outputs; y = pool(f(z)), or f(pool(z)) where the pooling comes first. Kept is f(z), or z where f' does
 *            not follow from that, or pool(z).  Backward: dz = f'(kept) * the gradient spread over the windows
 */
#ifndef FASTNN_NARROW_SWEEP_H
#define FASTNN_NARROW_SWEEP_H

#include "parts/activation.h"
#include "parts/pooling.h"
#include "plan/layers.h"
#include "plan/narrow/layout.h"

INLINE struct pooling narrow_pooling(const struct chain_layer *l) {
    if (chain_average(l)) return (struct pooling){POOL_AVERAGE, l->OH, l->OW, 1, 1, 0, 0, l->OH, l->OW, 1};
    return (struct pooling){l->pool_kind, l->pool_h, l->pool_w, l->pool_stride_h, l->pool_stride_w, l->pool_pad_h, l->pool_pad_w,
                            l->OH, l->OW, l->pool_counts_padding};
}

/* to = f(from): O planes of H x W */
KERNEL void narrow_activate(const struct chain_layer *l, i64 H, i64 W, struct narrow_view from, struct narrow_view to) {
    const vf p = v_set1((float)l->parameter);
#define SWEEP(kind)                                                                                                       \
    for (i64 o = 0; o < l->O; o++) for (i64 h = 0; h < H; h++) for (i64 w = 0; w < W * VL; w += VL)                       \
        v_store(to.at + o * to.plane + h * to.row + w, v_activate(kind, v_load(from.at + o * from.plane + h * from.row + w), p))
    ACTIVATION_CASES(l->activation, SWEEP)
#undef SWEEP
}

INLINE void narrow_slopes(const int kind, const int from_y, const struct chain_layer *l, i64 H, i64 W, struct narrow_view kept, float *grad) {
    const vf p = v_set1((float)l->parameter);
    for (i64 o = 0; o < l->O; o++) for (i64 h = 0; h < H; h++) for (i64 w = 0; w < W * VL; w += VL, grad += VL) {
        const vf v = v_load(kept.at + o * kept.plane + h * kept.row + w), g = v_load(grad);
        v_store(grad, from_y ? v_activate_backward_from_y(kind, g, v, p) : v_activate_backward(kind, g, v, p));
    }
}

/* grad [O][H][W][VL] *= f', from y = f(x), or from x */
KERNEL void narrow_activate_backward(const struct chain_layer *l, int from_y, i64 H, i64 W, struct narrow_view kept, float *grad) {
#define SLOPES(kind) narrow_slopes(kind, 1, l, H, W, kept, grad)
    if (from_y) { ACTIVATION_CASES(l->activation, SLOPES) return; }
#undef SLOPES
#define SLOPES(kind) narrow_slopes(kind, 0, l, H, W, kept, grad)
    ACTIVATION_CASES(l->activation, SLOPES)
#undef SLOPES
}

INLINE void narrow_windows(const struct pooling p, const struct chain_layer *l, struct narrow_view x, struct narrow_view y, int8_t *where) {
    for (i64 o = 0; o < l->O; o++) for (i64 h = 0; h < l->PH; h++) for (i64 w = 0; w < l->PW; w++) {
        vi place = {0};
        v_store(y.at + o * y.plane + h * y.row + w * VL, pool_value(&p, h, w, x.at + o * x.plane, x.row, &place));
        if (p.kind == POOL_MAX) v_store_bytes(where + ((o * l->PH + h) * l->PW + w) * VL, place);
    }
}

/* y = the windows of x [O][OH][OW][VL]; where [O][PH][PW][VL], of maxima */
KERNEL void narrow_pool_planes(const struct chain_layer *l, struct narrow_view x, struct narrow_view y, int8_t *where) {
    const struct pooling given = narrow_pooling(l);
#define WINDOWS(p) narrow_windows(p, l, x, y, where)
    POOLING_CASES(given, WINDOWS);
#undef WINDOWS
}

INLINE void narrow_spread_windows(const struct pooling p, const struct chain_layer *l, const float *grad, const int8_t *where, float *dx) {
    memset(dx, 0, (size_t)(l->O * l->OH * l->OW * VL) * sizeof *dx);
    for (i64 o = 0; o < l->O; o++, dx += l->OH * l->OW * VL)
        for (i64 h = 0; h < l->PH; h++) for (i64 w = 0; w < l->PW; w++, grad += VL) {
            pool_spread(&p, h, w, v_load(grad), p.kind == POOL_MAX ? v_load_bytes(where) : (vi){0}, dx, l->OW * VL);
            if (p.kind == POOL_MAX) where += VL;
        }
}

/* dx [O][OH][OW][VL] from grad [O][PH][PW][VL] */
KERNEL void narrow_unpool_planes(const struct chain_layer *l, const float *grad, const int8_t *where, float *dx) {
    const struct pooling given = narrow_pooling(l);
#define SPREAD(p) narrow_spread_windows(p, l, grad, where, dx)
    POOLING_CASES(given, SPREAD);
#undef SPREAD
}

#endif
