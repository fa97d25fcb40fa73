/* Layer, group and RMS normalisation: x (N, C, P), the C channels in `groups`, whose entries are normalised together.
 *
 * Layer norm has one group and P = 1; so weights lie along the row, else each is that of a run of P entries. Statistics (N, groups, 2) are
 * mean and 1 / sqrt(variance + eps); not centred (RMS), the mean is zero.
 *
 * Floor: memory, since a row is read again while it lies in the first-level cache. Forward, 8 FLOPs an entry, reads x and writes y: 8 bytes;
 * backward, 14 FLOPs, reads grad and x once for all three gradients and writes grad_x: 12 bytes. Rows of some ten vectors cost as much
 * again for the sums across their lanes and the root.
 */
#ifndef FASTNN_GROUP_NORM_H
#define FASTNN_GROUP_NORM_H

#include <math.h>

#include "base/sums.h"
#include "base/threads.h"

enum { GROUP_NORM_TASK = 1 << 14, GROUP_NORM_BLOCKS = 64 };   /* about so many floats a task, and of the gradient's no more than so many */

struct group_norm {
    i64 N, C, P, groups, step;          /* step: rows of a task; backward: images */
    int centred;
    const float *grad, *x, *weight, *bias;
    double eps;
    float *statistics, *out, *partial;  /* out: y, or grad_x, which may be NULL; partial (blocks, 2, C) */
};

/* The sum of the squares of x (count,) about `mean` */
INLINE float squares_about(const float *x, i64 count, float mean) {
    struct v_joined total = {};
    for (i64 i = 0, end; i < count; i = end) {
        vf part[4] = {{0}};
        end = i64_min(count, i + 4 * VL * SUM_RUN);
        for (; i + 4 * VL <= end; i += 4 * VL) UNROLL for (int j = 0; j < 4; j++) {
            const vf v = v_load(x + i + j * VL) - mean;
            part[j] += v * v;
        }
        for (; i < end; i += VL) {
            const vf v = v_load_lanes(x + i, i64_min(VL, end - i), mean) - mean;
            part[0] += v * v;
        }
        v_join(&total, (part[0] + part[1]) + (part[2] + part[3]));
    }
    return v_sum(v_joined_sum(total));
}

/* y (count,) = (x - mean) * inverse * w + b, where these are vectors along the row if `along`, and may be NULL, or one number each */
INLINE void normalised_run(const int along, i64 count, const float *x, float mean, float inverse, const float *w, const float *b, float *y) {
    const vf one = v_set1(along || !w ? 1.0f : *w) * inverse, shift = v_set1(along || !b ? 0.0f : *b);
    for (i64 i = 0; i < count; i += VL) {
        const i64 lanes = i64_min(VL, count - i);
        vf v = (v_load_lanes(x + i, lanes, 0) - mean) * one;
        if (along && w) v *= v_load_lanes(w + i, lanes, 0);
        v_store_lanes(y + i, v + (along && b ? v_load_lanes(b + i, lanes, 0) : shift), lanes);
    }
}

static void group_norm_forward_task(void *context, i64 index) {
    const struct group_norm *t = context;
    const i64 S = t->C / t->groups, P = t->P, L = S * P, end = i64_min((index + 1) * t->step, t->N * t->groups);
    for (i64 row = index * t->step; row < end; row++) {
        const float *x = t->x + row * L, mean = t->centred ? run_sum(x, L) / (float)L : 0.0f;
        const float inverse = (float)(1 / sqrt((double)squares_about(x, L, mean) / (double)L + t->eps));
        const i64 first = row % t->groups * S;
        const float *w = t->weight ? t->weight + first : NULL, *b = t->bias ? t->bias + first : NULL;
        float *y = t->out + row * L;
        t->statistics[2 * row] = mean, t->statistics[2 * row + 1] = inverse;
        if (P == 1) normalised_run(1, L, x, mean, inverse, w, b, y);
        else for (i64 s = 0; s < S; s++) normalised_run(0, P, x + s * P, mean, inverse, w ? w + s : NULL, b ? b + s : NULL, y + s * P);
    }
}

/* ---- backward, with g = grad * weight ----
 *
 *   grad_x = (g - mean(g) - normalised * mean(g * normalised)) / sqrt(var + eps)      the means over a row; of RMS the first is left out
 *   grad_weight = sum of grad * normalised,  grad_bias = sum of grad                  over images and P
 */

struct row_sums { float sum, product; };    /* of g, of g * normalised */

/* Layer norm's row of `count` entries; adds each one's part to the gradients of weight and bias. */
INLINE struct row_sums sums_along(const float *grad, const float *x, i64 count, float mean, float inverse, const float *w, float *grad_weight,
                                  float *grad_bias) {
    struct v_joined sum = {}, product = {};
    for (i64 i = 0, end; i < count; i = end) {
        vf s = {0}, p = {0};
        end = i64_min(count, i + SUM_RUN * VL);
        for (; i < end; i += VL) {
            const i64 lanes = i64_min(VL, end - i);
            const vf v = v_load_lanes(grad + i, lanes, 0), normed = (v_load_lanes(x + i, lanes, mean) - mean) * inverse;
            const vf g = w ? v * v_load_lanes(w + i, lanes, 0) : v;
            v_store_lanes(grad_weight + i, v_load_lanes(grad_weight + i, lanes, 0) + v * normed, lanes);
            v_store_lanes(grad_bias + i, v_load_lanes(grad_bias + i, lanes, 0) + v, lanes);
            s += g;
            p += g * normed;
        }
        v_join(&sum, s);
        v_join(&product, p);
    }
    return (struct row_sums){v_sum(v_joined_sum(sum)), v_sum(v_joined_sum(product))};
}

/* The sums of grad and grad * normalised of one channel, (count,) */
INLINE struct row_sums sums_of_run(const float *grad, const float *x, i64 count, float mean, float inverse) {
    struct v_joined sum = {}, product = {};
    for (i64 i = 0, end; i < count; i = end) {
        vf s[4] = {{0}}, p[4] = {{0}};
        end = i64_min(count, i + 4 * VL * SUM_RUN);
        for (; i + 4 * VL <= end; i += 4 * VL) UNROLL for (int j = 0; j < 4; j++) {
            const vf v = v_load(grad + i + j * VL);
            s[j] += v;
            p[j] += v * (v_load(x + i + j * VL) - mean);
        }
        for (; i < end; i += VL) {
            const i64 lanes = i64_min(VL, end - i);
            const vf v = v_load_lanes(grad + i, lanes, 0);
            s[0] += v;
            p[0] += v * (v_load_lanes(x + i, lanes, mean) - mean);
        }
        v_join(&sum, (s[0] + s[1]) + (s[2] + s[3]));
        v_join(&product, (p[0] + p[1]) + (p[2] + p[3]));
    }
    return (struct row_sums){v_sum(v_joined_sum(sum)), v_sum(v_joined_sum(product)) * inverse};
}

/* grad_x (count,) = grad * w * inverse - ((x - mean) * slope + shift), w as for normalised_run */
INLINE void grad_of_run(const int along, i64 count, const float *grad, const float *x, float mean, float inverse, float slope, float shift,
                        const float *w, float *grad_x) {
    const vf one = v_set1(along || !w ? 1.0f : *w) * inverse;
    for (i64 i = 0; i < count; i += VL) {
        const i64 lanes = i64_min(VL, count - i);
        vf g = v_load_lanes(grad + i, lanes, 0) * one;
        if (along && w) g *= v_load_lanes(w + i, lanes, 0);
        v_store_lanes(grad_x + i, g - ((v_load_lanes(x + i, lanes, 0) - mean) * slope + shift), lanes);
    }
}

/* Task: `step` images, and their part of the gradients of weight and bias */
static void group_norm_backward_task(void *context, i64 index) {
    const struct group_norm *t = context;
    const i64 S = t->C / t->groups, P = t->P, L = S * P, end = i64_min((index + 1) * t->step, t->N);
    float *grad_weight = t->partial + index * 2 * t->C, *grad_bias = grad_weight + t->C;
    memset(grad_weight, 0, (size_t)(2 * t->C) * sizeof(float));
    for (i64 row = index * t->step * t->groups; row < end * t->groups; row++) {
        const float *x = t->x + row * L, *grad = t->grad + row * L, mean = t->statistics[2 * row], inverse = t->statistics[2 * row + 1];
        const i64 first = row % t->groups * S;
        const float *w = t->weight ? t->weight + first : NULL;
        struct row_sums all = {0};
        if (P == 1) all = sums_along(grad, x, L, mean, inverse, w, grad_weight + first, grad_bias + first);
        else for (i64 s = 0; s < S; s++) {
            const struct row_sums one = sums_of_run(grad + s * P, x + s * P, P, mean, inverse);
            grad_weight[first + s] += one.product, grad_bias[first + s] += one.sum;
            all.product += w ? w[s] * one.product : one.product, all.sum += w ? w[s] * one.sum : one.sum;
        }
        if (!t->out) continue;
        const float slope = all.product / (float)L * inverse * inverse, shift = t->centred ? all.sum / (float)L * inverse : 0.0f;
        float *out = t->out + row * L;
        if (P == 1) grad_of_run(1, L, grad, x, mean, inverse, slope, shift, w, out);
        else for (i64 s = 0; s < S; s++)
            grad_of_run(0, P, grad + s * P, x + s * P, mean, inverse, slope, shift, w ? w + s : NULL, out + s * P);
    }
}

/* y (N, C, P), statistics; weight and bias (C,) or NULL */
KERNEL void group_norm_forward(i64 N, i64 C, i64 P, i64 groups, int centred, const float *x, const float *weight, const float *bias,
                               double eps, float *y, float *statistics) {
    struct group_norm t = {.N = N, .C = C, .P = P, .groups = groups, .centred = centred, .x = x, .weight = weight, .bias = bias, .eps = eps,
                           .out = y, .statistics = statistics, .step = i64_max(1, GROUP_NORM_TASK / (C / groups * P))};
    fastnn_parallel(ceil_div(N * groups, t.step), 16.0 * (double)(N * C * P), group_norm_forward_task, &t);
}

/* grad_x (N, C, P) or NULL, grad_weight, grad_bias (C,) */
KERNEL int group_norm_backward(i64 N, i64 C, i64 P, i64 groups, int centred, const float *grad, const float *x, const float *statistics,
                               const float *weight, float *grad_x, float *grad_weight, float *grad_bias) {
    const i64 step = i64_min(SUM_RUN, i64_max(i64_max(1, GROUP_NORM_TASK / (C * P)), ceil_div(N, GROUP_NORM_BLOCKS)));
    const i64 blocks = ceil_div(N, step);
    struct group_norm t = {.N = N, .C = C, .P = P, .groups = groups, .centred = centred, .grad = grad, .x = x, .weight = weight,
                           .statistics = (float *)statistics, .out = grad_x, .step = step};
    if (!(t.partial = fastnn_scratch(SCRATCH_PARTIAL, (size_t)(blocks * 2 * C) * sizeof(float)))) return -1;
    fastnn_parallel(blocks, 28.0 * (double)(N * C * P), group_norm_backward_task, &t);
    for (i64 c = 0; c < C; c += VL) {
        const i64 lanes = i64_min(VL, C - c);
        struct v_joined sums[2] = {};
        for (i64 b = 0; b < blocks; b++) UNROLL for (int k = 0; k < 2; k++) v_join(&sums[k], v_load_lanes(t.partial + (2 * b + k) * C + c, lanes, 0));
        v_store_lanes(grad_weight + c, v_joined_sum(sums[0]), lanes);
        v_store_lanes(grad_bias + c, v_joined_sum(sums[1]), lanes);
    }
    return 0;
}

#endif
