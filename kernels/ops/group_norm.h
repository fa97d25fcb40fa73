/* Layer, group and RMS normalisation: x (N, C, P), the C channels in `groups`, whose entries are normalised together.
 *
 * Layer norm has one group and P = 1; so weights lie along the row, else each is that of a run of P entries. Statistics (N, groups, 2) are
 * mean and 1 / sqrt(variance + eps); not centred (RMS), the mean is zero. A row is read again while it lies in the first-level cache.
 */
#ifndef FASTNN_GROUP_NORM_H
#define FASTNN_GROUP_NORM_H

#include <math.h>

#include "base/sums.h"
#include "base/threads.h"

enum { GROUP_NORM_TASK = 1 << 14 };     /* about so many floats a task */

struct group_norm {
    i64 N, C, P, groups, step;
    int centred;
    const float *grad, *x, *weight, *bias;
    double eps;
    float *statistics, *out, *partial;  /* out: y, or grad_x; partial (blocks, 2, C) */
};

/* Runs of entries with one weight each, or the whole row with as many weights */
#define GROUP_NORM_RUNS(L, S)                                                                                   \
    const i64 run = t->P == 1 ? L : t->P;                                                                       \
    for (i64 s = 0; s < (t->P == 1 ? 1 : S); s++) for (i64 i = 0, lanes; i < run && (lanes = i64_min(VL, run - i)); i += VL)

INLINE vf group_norm_weight(const float *w, i64 first, i64 s, i64 i, i64 lanes, int along, float missing) {
    return !w ? v_set1(missing) : along ? v_load_lanes(w + first + i, lanes, 0) : v_set1(w[first + s]);
}

static void group_norm_forward_task(void *context, i64 index) {
    const struct group_norm *t = context;
    const i64 S = t->C / t->groups, L = S * t->P, end = i64_min((index + 1) * t->step, t->N * t->groups);
    for (i64 row = index * t->step; row < end; row++) {
        const float *x = t->x + row * L;
        float *y = t->out + row * L;
        const float mean = t->centred ? run_sum(x, L) / (float)L : 0.0f;
        struct folded squares = {};
        for (i64 i = 0, k = 0; i < L; i += VL, k++) {
            const vf v = v_load_lanes(x + i, i64_min(VL, L - i), mean) - mean;
            fold(&squares, v * v, k);
        }
        const float inverse = (float)(1 / sqrt((double)v_sum(folded_sum(squares)) / (double)L + t->eps));
        t->statistics[2 * row] = mean, t->statistics[2 * row + 1] = inverse;
        const i64 first = row % t->groups * S;
        GROUP_NORM_RUNS(L, S) {
            const i64 at = s * t->P + i;
            const vf w = group_norm_weight(t->weight, first, s, i, lanes, t->P == 1, 1), b = group_norm_weight(t->bias, first, s, i, lanes, t->P == 1, 0);
            v_store_lanes(y + at, (v_load_lanes(x + at, lanes, 0) - mean) * inverse * w + b, lanes);
        }
    }
}

static void group_norm_backward_task(void *context, i64 index) {
    const struct group_norm *t = context;
    const i64 S = t->C / t->groups, L = S * t->P, end = i64_min((index + 1) * t->step, t->N * t->groups);
    for (i64 row = index * t->step; row < end; row++) {
        const float *x = t->x + row * L, *grad = t->grad + row * L, mean = t->statistics[2 * row], inverse = t->statistics[2 * row + 1];
        const i64 first = row % t->groups * S;
        struct folded sum = {}, product = {};
        i64 k = 0;
        {
            GROUP_NORM_RUNS(L, S) {
                const i64 at = s * t->P + i;
                const vf g = v_load_lanes(grad + at, lanes, 0) * group_norm_weight(t->weight, first, s, i, lanes, t->P == 1, 1);
                fold(&sum, g, k);
                fold(&product, g * ((v_load_lanes(x + at, lanes, 0) - mean) * inverse), k++);
            }
        }
        const float through_mean = t->centred ? v_sum(folded_sum(sum)) / (float)L : 0.0f, through_var = v_sum(folded_sum(product)) / (float)L;
        GROUP_NORM_RUNS(L, S) {
            const i64 at = s * t->P + i;
            const vf g = v_load_lanes(grad + at, lanes, 0) * group_norm_weight(t->weight, first, s, i, lanes, t->P == 1, 1);
            const vf normed = (v_load_lanes(x + at, lanes, 0) - mean) * inverse;
            v_store_lanes(t->out + row * L + at, (g - through_mean - normed * through_var) * inverse, lanes);
        }
    }
}

/* Sums of grad * normalised and of grad over a run of SUM_RUN images, for each channel */
static void group_norm_weight_task(void *context, i64 index) {
    const struct group_norm *t = context;
    const i64 S = t->C / t->groups, end = i64_min((index + 1) * SUM_RUN, t->N);
    float *weight = t->partial + index * 2 * t->C, *bias = weight + t->C;
    memset(weight, 0, (size_t)(2 * t->C) * sizeof(float));
    for (i64 n = index * SUM_RUN; n < end; n++) for (i64 g = 0; g < t->groups; g++) {
        const float mean = t->statistics[2 * (n * t->groups + g)], inverse = t->statistics[2 * (n * t->groups + g) + 1];
        const float *x = t->x + (n * t->C + g * S) * t->P, *grad = t->grad + (n * t->C + g * S) * t->P;
        for (i64 c = 0; c < S && t->P == 1; c += VL) {
            const i64 lanes = i64_min(VL, S - c);
            float *w = weight + g * S + c, *b = bias + g * S + c;
            const vf v = v_load_lanes(grad + c, lanes, 0);
            v_store_lanes(w, v_load_lanes(w, lanes, 0) + v * ((v_load_lanes(x + c, lanes, 0) - mean) * inverse), lanes);
            v_store_lanes(b, v_load_lanes(b, lanes, 0) + v, lanes);
        }
        for (i64 c = 0; c < S && t->P > 1; c++) {
            struct folded sum = {}, product = {};
            for (i64 i = 0, k = 0; i < t->P; i += VL, k++) {
                const i64 lanes = i64_min(VL, t->P - i);
                const vf v = v_load_lanes(grad + c * t->P + i, lanes, 0);
                fold(&sum, v, k);
                fold(&product, v * ((v_load_lanes(x + c * t->P + i, lanes, 0) - mean) * inverse), k);
            }
            weight[g * S + c] += v_sum(folded_sum(product));
            bias[g * S + c] += v_sum(folded_sum(sum));
        }
    }
}

INLINE void group_norm_rows(struct group_norm *t, double cost, void (*task)(void *, i64)) {
    const i64 L = t->C / t->groups * t->P;
    t->step = i64_max(1, GROUP_NORM_TASK / L);
    fastnn_parallel(ceil_div(t->N * t->groups, t->step), cost * (double)(t->N * t->C * t->P), task, t);
}

/* y (N, C, P), statistics; weight and bias (C,) or NULL */
KERNEL void group_norm_forward(i64 N, i64 C, i64 P, i64 groups, int centred, const float *x, const float *weight, const float *bias,
                               double eps, float *y, float *statistics) {
    struct group_norm t = {.N = N, .C = C, .P = P, .groups = groups, .centred = centred, .x = x, .weight = weight, .bias = bias, .eps = eps,
                           .out = y, .statistics = statistics};
    group_norm_rows(&t, 16, group_norm_forward_task);
}

KERNEL void group_norm_backward_input(i64 N, i64 C, i64 P, i64 groups, int centred, const float *grad, const float *x,
                                      const float *statistics, const float *weight, float *grad_x) {
    struct group_norm t = {.N = N, .C = C, .P = P, .groups = groups, .centred = centred, .grad = grad, .x = x, .weight = weight,
                           .statistics = (float *)statistics, .out = grad_x};
    group_norm_rows(&t, 24, group_norm_backward_task);
}

/* grad_weight, grad_bias (C,) */
KERNEL int group_norm_backward_weight(i64 N, i64 C, i64 P, i64 groups, const float *grad, const float *x, const float *statistics,
                                      float *grad_weight, float *grad_bias) {
    const i64 blocks = ceil_div(N, SUM_RUN);
    struct group_norm t = {.N = N, .C = C, .P = P, .groups = groups, .grad = grad, .x = x, .statistics = (float *)statistics};
    if (!(t.partial = fastnn_scratch(SCRATCH_PARTIAL, (size_t)(blocks * 2 * C) * sizeof(float)))) return -1;
    fastnn_parallel(blocks, 12.0 * (double)(N * C * P), group_norm_weight_task, &t);
    for (i64 c = 0; c < C; c += VL) {
        const i64 lanes = i64_min(VL, C - c);
        struct v_joined weight = {}, bias = {};
        for (i64 b = 0; b < blocks; b++) {
            v_join(&weight, v_load_lanes(t.partial + b * 2 * C + c, lanes, 0));
            v_join(&bias, v_load_lanes(t.partial + (b * 2 + 1) * C + c, lanes, 0));
        }
        v_store_lanes(grad_weight + c, v_joined_sum(weight), lanes);
        v_store_lanes(grad_bias + c, v_joined_sum(bias), lanes);
    }
    return 0;
}

#endif
