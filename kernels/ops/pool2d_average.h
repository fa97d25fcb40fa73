/* Average pooling, and the average of whole planes. Shapes, windows and the order of stores: pool2d.h.
 *
 * An average's window sums are separable: rows of a window are added first, along whole input rows, then columns.
 */
#ifndef FASTNN_POOL2D_AVERAGE_H
#define FASTNN_POOL2D_AVERAGE_H

#include "base/sums.h"
#include "ops/pool2d.h"

/* Pixels of the window at output o that lie inside, along one axis; all of it where padding counts. */
INLINE float window_count(i64 o, i64 stride, i64 pad, i64 kernel, i64 size, int include_pad) {
    i64 first = o * stride - pad;
    return (float)(include_pad ? kernel : i64_min(first + kernel, size) - i64_max(first, 0));
}

static void window_columns(const struct pool2d_shape *s, float *columns) {
    for (i64 ow = 0; ow < s->OW; ow++)
        columns[ow] = window_count(ow, s->stride_w, s->pad_w, s->kw, s->W, s->count_include_pad);
}

/* The sum of n vectors, each of every `stride`-th float from p, p + step, ... on: of many, out of the way of the loops over few */
static __attribute__((noinline)) vf many_sum(const float *p, i64 n, i64 step, i64 stride) {
    struct folded sum = {};
    for (i64 i = 0; i < n; i++) fold(&sum, v_load_strided(p + i * step, 0, stride), i);
    return folded_sum(sum);
}
INLINE vf window_sum(const float *p, i64 n, i64 step, const int known_stride, i64 stride) {
    if (n > SUM_SHORT) return many_sum(p, n, step, stride);
    vf sum = v_load_strided(p, known_stride, stride);
    for (i64 i = 1; i < n; i++) sum += v_load_strided(p + i * step, known_stride, stride);
    return sum;
}

/* sums (W,) = sum over rows x, x + W, ...; may write past the end, reads nothing at x_end or after it */
INLINE void sum_rows(float *restrict sums, const float *restrict x, i64 rows, i64 W, const float *x_end) {
    i64 w = 0;
    for (; w < W && x + (rows - 1) * W + w + VL <= x_end; w += VL) {
        v_store(sums + w, window_sum(x + w, rows, W, 1, 1));
    }
    for (; w < W; w++) {
        double sum = 0;
        for (i64 i = 0; i < rows; i++) sum += (double)x[i * W + w];
        sums[w] = (float)sum;
    }
}

/* y (OW,) of one row = window sums of row (W + 2*pad_w) divided by their counts rows * columns (OW,) */
INLINE void average_row(const struct pool2d_shape *s, const int known_stride, const float *row, float rows, const float *columns,
                        float *y, const float *end) {
    for (i64 ow = 0; ow < s->OW; ow += VL) {
        const vf sum = window_sum(row + ow * s->stride_w, s->kw, 1, known_stride, s->stride_w);
        pool_store(y + ow, sum / (rows * v_load(columns + ow)), s->OW - ow, end);
    }
}

/* Task: some planes. */
static void avg_pool_planes(void *context, i64 index) {
    struct pool2d *t = context;
    const struct pool2d_shape *s = &t->s;
    const i64 H = s->H, W = s->W;
    i64 row_floats = W + 2 * s->pad_w + VL * s->stride_w + s->kw; /* the last vector reads past the row */
    i64 floats = row_floats + round_up(s->OW, VL);
    float *restrict row = fastnn_scratch(SCRATCH_POOL, (size_t)floats * sizeof *row);
    if (!row) { t->failed = 1; return; }
    float *restrict columns = row + row_floats, *restrict inside = row + s->pad_w;
    memset(row, 0, (size_t)floats * sizeof *row);
    window_columns(s, columns);
    i64 p_end = i64_min((index + 1) * t->step, s->planes);
    const float *x_end = t->in + p_end * H * W, *end = t->out + p_end * s->OH * s->OW;
    for (i64 p = index * t->step; p < p_end; p++) for (i64 oh = 0; oh < s->OH; oh++) {
        i64 h = i64_max(0, oh * s->stride_h - s->pad_h), h_end = i64_min(H, oh * s->stride_h - s->pad_h + s->kh);
        sum_rows(inside, t->in + (p * H + h) * W, h_end - h, W, x_end);
        for (i64 i = 0; i < s->pad_w; i++) inside[W + i] = 0;
        float *y = t->out + (p * s->OH + oh) * s->OW;
        float rows = window_count(oh, s->stride_h, s->pad_h, s->kh, H, s->count_include_pad);
        if (s->stride_w == 1) average_row(s, 1, row, rows, columns, y, end);
        else if (s->stride_w == 2) average_row(s, 2, row, rows, columns, y, end);
        else average_row(s, 0, row, rows, columns, y, end);
    }
}

KERNEL int avg_pool2d_forward(const struct pool2d_shape *s, const float *x, float *y) {
    struct pool2d t = {.s = *s, .step = pool_step(s), .in = x, .out = y};
    double rows = (double)(s->planes * s->OH);
    fastnn_parallel(ceil_div(s->planes, t.step), rows * (double)(s->kh * s->W * 4 + s->kw * s->OW), avg_pool_planes, &t);
    return t.failed ? -1 : 0;
}

/* ---- input gradient ---- */

/* Scratch of a task: spread (OH, pitch) holds the padded rows (W + 2*pad_w) that the windows reach, each as `groups` groups of
 * stride columns; share (groups + before) an output row's gradients over their counts, zeros around; columns (OW,). */
struct spread {
    i64 groups, before, pitch;          /* before: groups of stride columns that a window reaches back */
    float *spread, *share, *columns;
};

INLINE struct spread spread_layout(const struct pool2d_shape *s) {
    struct spread l = {.before = (s->kw - 1) / s->stride_w};
    l.groups = round_up(ceil_div(s->W + 2 * s->pad_w, s->stride_w), VL);
    l.pitch = l.groups * s->stride_w;
    return l;
}

/* row (pitch,), padded columns u = q*stride + r: u is in the windows of the outputs q - i, i*stride + r < kw */
INLINE void spread_row(const struct pool2d_shape *s, const struct spread *l, const int known_stride, const int many, float *row) {
    const i64 stride = known_stride ? known_stride : s->stride_w;
    for (i64 q = 0; q < l->groups; q += VL) {
        vf sum[2];
        for (i64 r = 0; r < stride; r++) {
            vf group = {0};
            if (many) group = many_sum(l->share + l->before + q, ceil_div(s->kw - r, stride), -1, 1);
            else for (i64 i = 0; i * stride + r < s->kw; i++) group += v_load(l->share + l->before + q - i);
            if (known_stride) sum[r] = group;
            else UNROLL for (int lane = 0; lane < VL; lane++) row[(q + lane) * stride + r] = group[lane];
        }
        if (known_stride == 1) v_store(row + q, sum[0]);
        if (known_stride == 2) {
            v_store(row + 2 * q, V_ZIP_LOW(sum[0], sum[1]));
            v_store(row + 2 * q + VL, V_ZIP_HIGH(sum[0], sum[1]));
        }
    }
}

/* Task: some planes of the input gradient. Windows are spread along columns first; then each row adds up those that cover it. */
static void avg_pool_spread(void *context, i64 index) {
    struct pool2d *t = context;
    const struct pool2d_shape *s = &t->s;
    const i64 H = s->H, W = s->W, OH = s->OH, OW = s->OW;
    struct spread l = spread_layout(s);
    i64 floats = OH * l.pitch + VL + l.groups + l.before + OW;
    l.spread = fastnn_scratch(SCRATCH_POOL, (size_t)floats * sizeof *l.spread);
    if (!l.spread) { t->failed = 1; return; }
    l.share = l.spread + OH * l.pitch + VL;
    l.columns = l.share + l.groups + l.before;
    memset(l.share, 0, (size_t)(l.groups + l.before) * sizeof *l.share);
    window_columns(s, l.columns);
    i64 p_end = i64_min((index + 1) * t->step, s->planes);
    const float *end = t->out + p_end * H * W;
    for (i64 p = index * t->step; p < p_end; p++) {
        for (i64 oh = 0; oh < OH; oh++) {
            float rows = window_count(oh, s->stride_h, s->pad_h, s->kh, H, s->count_include_pad);
            const float *grad = t->in + (p * OH + oh) * OW;
            for (i64 ow = 0; ow < OW; ow++) l.share[l.before + ow] = grad[ow] / (rows * l.columns[ow]);
            float *row = l.spread + oh * l.pitch;
            if (s->kw > SUM_SHORT) spread_row(s, &l, 0, 1, row);
            else if (s->stride_w == 1) spread_row(s, &l, 1, 0, row);
            else if (s->stride_w == 2) spread_row(s, &l, 2, 0, row);
            else spread_row(s, &l, 0, 0, row);
        }
        float *to = t->out + p * H * W;
        for (i64 h = 0; h < H; h++, to += W) {
            /* windows over h: oh*stride <= h + pad < oh*stride + kh */
            i64 last = i64_min(OH - 1, (h + s->pad_h) / s->stride_h), below = h + s->pad_h - s->kh;
            i64 first = below < 0 ? 0 : below / s->stride_h + 1;
            if (s->kh > SUM_SHORT) {
                for (i64 w = 0; w < W; w += VL)
                    pool_store(to + w, many_sum(l.spread + first * l.pitch + s->pad_w + w, last - first + 1, l.pitch, 1), W - w, end);
                continue;
            }
            for (i64 w = 0; w < W; w += VL) {
                vf sum = {0};
                for (i64 oh = first; oh <= last; oh++) sum += v_load(l.spread + oh * l.pitch + s->pad_w + w);
                pool_store(to + w, sum, W - w, end);
            }
        }
    }
}

KERNEL int avg_pool2d_backward_input(const struct pool2d_shape *s, const float *grad, float *grad_x) {
    struct pool2d t = {.s = *s, .step = pool_step(s), .in = grad, .out = grad_x};
    double row = 4.0 * (double)s->W * ((double)s->H + (double)(s->OH * s->kh)) + 4.0 * (double)(s->OH * s->OW * s->kw);
    fastnn_parallel(ceil_div(s->planes, t.step), (double)s->planes * row, avg_pool_spread, &t);
    return t.failed ? -1 : 0;
}

/* ---- whole planes ---- */

struct plane_means { i64 planes, pixels, step; const float *in; float *out; };

static void plane_means_task(void *context, i64 index) {
    const struct plane_means t = *(const struct plane_means *)context;
    for (i64 p = index * t.step; p < i64_min((index + 1) * t.step, t.planes); p++)
        t.out[p] = run_sum(t.in + p * t.pixels, t.pixels) / (float)t.pixels;
}

/* y (planes,) <- x (planes, pixels) */
KERNEL void global_avg_pool2d_forward(i64 planes, i64 pixels, const float *x, float *y) {
    struct plane_means t = {planes, pixels, i64_max(1, POOL_TASK / pixels), x, y};
    fastnn_parallel(ceil_div(planes, t.step), 4.0 * (double)(planes * pixels), plane_means_task, &t);
}

static void plane_shares_task(void *context, i64 index) {
    const struct plane_means t = *(const struct plane_means *)context;
    for (i64 p = index * t.step; p < i64_min((index + 1) * t.step, t.planes); p++) {
        const float share = t.in[p] / (float)t.pixels;
        float *to = t.out + p * t.pixels;
        for (i64 i = 0; i < t.pixels; i++) to[i] = share;
    }
}

/* grad_x (planes, pixels) <- grad (planes,) */
KERNEL void global_avg_pool2d_backward_input(i64 planes, i64 pixels, const float *grad, float *grad_x) {
    struct plane_means t = {planes, pixels, i64_max(1, POOL_TASK / pixels), grad, grad_x};
    fastnn_parallel(ceil_div(planes, t.step), 4.0 * (double)(planes * pixels), plane_shares_task, &t);
}

#endif
