/* 2-D pooling over windows of each plane: maximum, average, and the average of a whole plane.
 *
 *   x (planes, H, W), y (planes, OH, OW), planes = N*C; window (oh, ow) covers the pixels h = oh*stride_h - pad_h + i, i < kh,
 *   and w alike, that lie inside the plane. Padding is at most half the kernel, so that every window holds a pixel.
 *
 * Vectors run along a row of outputs. Rows are often shorter than a vector or no multiple of it: outputs are written in order,
 * as whole vectors, and what lands past the end of a row is overwritten by the next one; only at the end of a task's outputs
 * are the last lanes cut off (pool_store).
 */
#ifndef FASTNN_POOL2D_H
#define FASTNN_POOL2D_H

#include <math.h>

#include "base/lanes.h"
#include "table.h"
#include "base/threads.h"

enum { POOL_TASK = 1 << 14 };           /* about so many pixels a task */

struct pool2d {
    struct pool2d_shape s;
    i64 step;                           /* planes a task */
    const float *in;                    /* x, or the output gradient */
    float *out;                         /* y, or the input gradient */
    int32_t *argmax;                    /* of the maximum: position in the plane */
    int failed;
};

INLINE i64 pool_step(const struct pool2d_shape *s) { return i64_max(1, POOL_TASK / (s->H * s->W)); }

/* v to p; `lanes` of it count, and nothing at `end` or after it is written */
INLINE void pool_store(float *p, vf v, i64 lanes, const float *end) {
    if (p + VL <= end) v_store(p, v);
    else v_store_partial(p, v, i64_min(lanes, VL));
}
INLINE void pool_store_int(int32_t *p, vi v, i64 lanes, const int32_t *end) {
    if (p + VL <= end) *(vi_unaligned *)p = v;
    else memcpy(p, &v, (size_t)i64_min(lanes, VL) * sizeof *p);
}

/* p[0], p[stride], ...; reads at most VL * stride floats */
INLINE vf v_load_strided(const float *p, const int known_stride, i64 stride) {
    if (known_stride == 1) return v_load(p);
    if (known_stride == 2) {
        vf a = v_load(p), b = v_load(p + VL);
        return V_EVEN(a, b);
    }
    vf v;
    UNROLL for (int i = 0; i < VL; i++) v[i] = p[i * stride];
    return v;
}

/* ---- maximum ---- */

/* best, index <- v, at wherever v wins: it is larger, or the first NaN */
INLINE void max_take(vf v, vi at, vf *best, vi *index) {
    vi wins = v_beats(v, *best);
    *best = v_select(wins, v, *best);
    *index = (wins & at) | (~wins & *index);
}

/* The 2x2 windows whose rows begin at top and top + W, the first at position `at` of the plane. */
INLINE vf max_2x2(const float *top, const float *bottom, i64 at, i64 W, vi *index) {
    vf t0 = v_load(top), t1 = v_load(top + VL), b0 = v_load(bottom), b1 = v_load(bottom + VL);
    vf best = V_EVEN(t0, t1);
    vi first = v_count(at, 2);
    *index = first;
    max_take(V_ODD(t0, t1), first + 1, &best, index);
    max_take(V_EVEN(b0, b1), first + (int32_t)W, &best, index);
    max_take(V_ODD(b0, b1), first + (int32_t)(W + 1), &best, index);
    return best;
}

/* Task: some planes, windows 2x2, stride 2, no padding: straight from x. */
static void max_pool_2x2_planes(void *context, i64 index) {
    const struct pool2d t = *(const struct pool2d *)context;
    const i64 H = t.s.H, W = t.s.W, OH = t.s.OH, OW = t.s.OW;
    i64 p = index * t.step, p_end = i64_min(p + t.step, t.s.planes);
    const float *x_end = t.in + p_end * H * W, *y_end = t.out + p_end * OH * OW;
    float *y = t.out + p * OH * OW;
    int32_t *argmax = t.argmax + p * OH * OW, *argmax_end = t.argmax + p_end * OH * OW;
    for (; p < p_end; p++) for (i64 oh = 0; oh < OH; oh++, y += OW, argmax += OW) for (i64 ow = 0; ow < OW; ow += VL) {
        i64 at = 2 * oh * W + 2 * ow, lanes = i64_min(VL, OW - ow);
        const float *top = t.in + p * H * W + at, *bottom = top + W;
        float copy[4 * VL];
        if (bottom + 2 * VL > x_end) {              /* a whole vector would reach past the input */
            memset(copy, 0, sizeof copy);
            memcpy(copy, top, (size_t)(2 * lanes) * sizeof *copy);
            memcpy(copy + 2 * VL, bottom, (size_t)(2 * lanes) * sizeof *copy);
            top = copy;
            bottom = copy + 2 * VL;
        }
        vi place;
        vf best = max_2x2(top, bottom, at, W, &place);
        pool_store(y + ow, best, lanes, y_end);
        pool_store_int(argmax + ow, place, lanes, argmax_end);
    }
}

/* The windows of R rows and V vectors of outputs at (oh, ow): so many chains of comparisons run side by side. `padded` is the
 * plane with minus infinity around it, (H + 2*pad_h rows, W + 2*pad_w columns). */
INLINE void max_windows(const int R, const int V, const struct pool2d_shape *s, const int known_stride, const float *padded, i64 oh,
                        i64 ow, vf best[2], vi index[2]) {
    const i64 pitch = s->W + 2 * s->pad_w;
    vi corner[2];                                   /* places of the windows' first pixels, inside the plane or not */
    UNROLL for (int c = 0; c < R * V; c++) {
        i64 top = (oh + c / V) * s->stride_h - s->pad_h, left = (ow + c % V * VL) * s->stride_w - s->pad_w;
        vi columns = v_count(left, s->stride_w);
        corner[c] = columns + (int32_t)(top * s->W);
        best[c] = v_set1(-INFINITY);                /* and the first pixel inside, should all be minus infinity */
        index[c] = (columns & (columns > 0)) + (int32_t)(i64_max(top, 0) * s->W);
    }
    for (i64 i = 0; i < s->kh; i++) for (i64 j = 0; j < s->kw; j++) UNROLL for (int c = 0; c < R * V; c++) {
        const float *tap = padded + ((oh + c / V) * s->stride_h + i) * pitch + (ow + c % V * VL) * s->stride_w + j;
        max_take(v_load_strided(tap, known_stride, s->stride_w), corner[c] + (int32_t)(i * s->W + j), &best[c], &index[c]);
    }
}

/* y and argmax of one plane */
INLINE void max_pool_plane(const struct pool2d_shape *s, const int known_stride, const float *padded, float *y, const float *y_end,
                           int32_t *argmax, const int32_t *argmax_end) {
    const i64 OH = s->OH, OW = s->OW;
    vf best[2];
    vi index[2];
    i64 oh = 0;
    for (; OW <= VL && oh + 2 <= OH; oh += 2) {     /* short rows: two at a time */
        max_windows(2, 1, s, known_stride, padded, oh, 0, best, index);
        UNROLL for (int c = 0; c < 2; c++) {
            pool_store(y + (oh + c) * OW, best[c], OW, y_end);
            pool_store_int(argmax + (oh + c) * OW, index[c], OW, argmax_end);
        }
    }
    for (; oh < OH; oh++) for (i64 ow = 0; ow < OW; ow += 2 * VL) {
        const int vectors = OW - ow > VL ? 2 : 1;
        if (vectors == 2) max_windows(1, 2, s, known_stride, padded, oh, ow, best, index);
        else max_windows(1, 1, s, known_stride, padded, oh, ow, best, index);
        for (int c = 0; c < vectors; c++) {
            i64 at = oh * OW + ow + c * VL, lanes = OW - ow - c * VL;
            pool_store(y + at, best[c], lanes, y_end);
            pool_store_int(argmax + at, index[c], lanes, argmax_end);
        }
    }
}

/* Task: some planes, any windows. */
static void max_pool_planes(void *context, i64 index) {
    struct pool2d *t = context;
    const struct pool2d_shape *s = &t->s;
    const i64 H = s->H, W = s->W, pitch = W + 2 * s->pad_w, outputs = s->OH * s->OW;
    i64 floats = (H + 2 * s->pad_h) * pitch + 2 * VL * s->stride_w + s->kw; /* the last vectors read past the last row */
    float *padded = fastnn_scratch(SCRATCH_POOL, (size_t)floats * sizeof *padded);
    if (!padded) { t->failed = 1; return; }
    for (i64 i = 0; i < floats; i++) padded[i] = -INFINITY;
    i64 p_end = i64_min((index + 1) * t->step, s->planes);
    for (i64 p = index * t->step; p < p_end; p++) {
        for (i64 h = 0; h < H; h++)
            memcpy(padded + (h + s->pad_h) * pitch + s->pad_w, t->in + (p * H + h) * W, (size_t)W * sizeof *padded);
        float *y = t->out + p * outputs, *y_end = t->out + p_end * outputs;
        int32_t *argmax = t->argmax + p * outputs, *argmax_end = t->argmax + p_end * outputs;
        if (s->stride_w == 1) max_pool_plane(s, 1, padded, y, y_end, argmax, argmax_end);
        else if (s->stride_w == 2) max_pool_plane(s, 2, padded, y, y_end, argmax, argmax_end);
        else max_pool_plane(s, 0, padded, y, y_end, argmax, argmax_end);
    }
}

KERNEL int max_pool2d_forward(const struct pool2d_shape *s, const float *x, float *y, int32_t *argmax) {
    struct pool2d t = {.s = *s, .step = pool_step(s), .in = x, .out = y, .argmax = argmax};
    int by_2 = s->kh == 2 && s->kw == 2 && s->stride_h == 2 && s->stride_w == 2 && !s->pad_h && !s->pad_w;
    double flops = (double)s->planes * (4.0 * (double)(s->H * s->W) + (double)(s->OH * s->OW) * (8.0 + 2.0 * (double)(s->kh * s->kw)));
    fastnn_parallel(ceil_div(s->planes, t.step), flops, by_2 ? max_pool_2x2_planes : max_pool_planes, &t);
    return t.failed ? -1 : 0;
}

/* ---- input gradient of the maximum ---- */

struct max_pool_backward {
    i64 planes, pixels, outputs, step;
    const float *grad;                  /* (planes, outputs) */
    const int32_t *argmax;
    float *grad_x;                      /* (planes, pixels) */
};

/* Task: some planes: zeros, then each output's gradient to its maximum. */
static void max_pool_scatter(void *context, i64 index) {
    const struct max_pool_backward t = *(const struct max_pool_backward *)context;
    for (i64 p = index * t.step; p < i64_min((index + 1) * t.step, t.planes); p++) {
        float *restrict plane = t.grad_x + p * t.pixels;
        const float *restrict grad = t.grad + p * t.outputs;
        const int32_t *restrict argmax = t.argmax + p * t.outputs;
        memset(plane, 0, (size_t)t.pixels * sizeof *plane);
        for (i64 i = 0; i < t.outputs; i++) plane[argmax[i]] += grad[i];
    }
}

KERNEL void max_pool2d_backward_input(i64 planes, i64 pixels, i64 outputs, const float *grad, const int32_t *argmax, float *grad_x) {
    struct max_pool_backward t = {planes, pixels, outputs, i64_max(1, POOL_TASK / pixels), grad, argmax, grad_x};
    double flops = (double)planes * (4.0 * (double)pixels + 10.0 * (double)outputs);
    fastnn_parallel(ceil_div(planes, t.step), flops, max_pool_scatter, &t);
}

#endif
