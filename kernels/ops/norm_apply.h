/* The elementwise half of batch normalisation: forward, and the input gradient. Layouts and dimensions: norm.h. */
#ifndef FASTNN_NORM_APPLY_H
#define FASTNN_NORM_APPLY_H

#include "ops/norm.h"

/* What is computed, with constants k0 .. k3 of each channel:
 *   FORWARD   (x - k0) * k1 + k2                       k0 = mean, k1 = weight / sqrt(var + eps), k2 = bias
 *   BACKWARD  (grad - k2 - (x - k0) * k3) * k1         k2 = grad_bias / m, k3 = grad_weight / m / sqrt(var + eps)
 *   SCALE     grad * k1                                mean and var were constants */
enum { NORM_FORWARD, NORM_BACKWARD, NORM_SCALE };
enum { NORM_CONSTANTS = 4, NORM_TASK = 1 << 14 };   /* NORM_TASK: about so many floats a task */

struct norm_apply {
    i64 N, C, HW, step;                 /* step: planes, or rows of the matrix, a task */
    int kind;
    const float *a, *x;                 /* a is x forward, grad backward; x is read by BACKWARD only */
    float *out;                         /* may be a */
    const float *k[NORM_CONSTANTS];     /* (C,), or (C*HW,) */
};

INLINE vf norm_formula(const int kind, vf a, vf x, vf k0, vf k1, vf k2, vf k3) {
    if (kind == NORM_FORWARD) return (a - k0) * k1 + k2;
    if (kind == NORM_BACKWARD) return (a - k2 - (x - k0) * k3) * k1;
    return a * k1;
}

INLINE void norm_plane(const int kind, const struct norm_apply *t, i64 p) {
    const float *a = t->a + p * t->HW, *x = kind == NORM_BACKWARD ? t->x + p * t->HW : a;
    float *out = t->out + p * t->HW;
    vf k[NORM_CONSTANTS];
    UNROLL for (int j = 0; j < NORM_CONSTANTS; j++) k[j] = v_set1(t->k[j][p % t->C]);
    i64 i = 0;
    for (; i + VL <= t->HW; i += VL) v_store(out + i, norm_formula(kind, v_load(a + i), v_load(x + i), k[0], k[1], k[2], k[3]));
    for (; i < t->HW; i++) {
        vf last = norm_formula(kind, v_set1(a[i]), v_set1(x[i]), k[0], k[1], k[2], k[3]);
        out[i] = last[0];
    }
}

INLINE void norm_row(const int kind, const struct norm_apply *t, i64 n) {
    const i64 L = t->C * t->HW;
    const float *a = t->a + n * L, *x = kind == NORM_BACKWARD ? t->x + n * L : a;
    float *out = t->out + n * L;
    for (i64 i = 0; i < L; i += VL) {
        i64 lanes = i64_min(VL, L - i);
        vf k[NORM_CONSTANTS];
        UNROLL for (int j = 0; j < NORM_CONSTANTS; j++) k[j] = v_load(t->k[j] + i); /* these run past L */
        v_store_lanes(out + i, norm_formula(kind, v_load_lanes(a + i, lanes, 0), v_load_lanes(x + i, lanes, 0), k[0], k[1], k[2], k[3]),
                      lanes);
    }
}

INLINE void norm_apply_step(const int kind, const struct norm_apply *t, i64 index) {
    const int planes = t->HW >= NORM_PLANE;
    i64 i = index * t->step, end = i64_min(i + t->step, planes ? t->N * t->C : t->N);
    if (planes) for (; i < end; i++) norm_plane(kind, t, i);
    else for (; i < end; i++) norm_row(kind, t, i);
}

static void norm_apply_task(void *context, i64 index) {
    const struct norm_apply t = *(const struct norm_apply *)context;
    if (t.kind == NORM_FORWARD) norm_apply_step(NORM_FORWARD, &t, index);
    else if (t.kind == NORM_BACKWARD) norm_apply_step(NORM_BACKWARD, &t, index);
    else norm_apply_step(NORM_SCALE, &t, index);
}

/* Room for k (NORM_CONSTANTS, C), to be filled in, and behind it for the same by columns; NULL: out of memory. */
INLINE float *norm_constants(const struct norm_apply *t) {
    return fastnn_scratch(SCRATCH_PARTIAL, (size_t)(NORM_CONSTANTS * (t->C + t->C * t->HW + VL)) * sizeof(float));
}

INLINE void norm_apply(struct norm_apply *t, float *k) {
    const int planes = t->HW >= NORM_PLANE;
    const i64 L = t->C * t->HW, pitch = L + VL;
    float *wide = k + NORM_CONSTANTS * t->C;
    for (int j = 0; j < NORM_CONSTANTS; j++) {
        t->k[j] = planes ? k + j * t->C : wide + j * pitch;
        for (i64 i = 0; i < L && !planes; i++) wide[j * pitch + i] = k[j * t->C + i / t->HW];
    }
    t->step = i64_max(1, NORM_TASK / (planes ? t->HW : L));
    fastnn_parallel(ceil_div(planes ? t->N * t->C : t->N, t->step), (t->kind == NORM_BACKWARD ? 15.0 : 10.0) * (double)(t->N * L),
                    norm_apply_task, t);
}

/* y (N, C, HW); weight and bias may be NULL */
KERNEL int batch_norm_forward(i64 N, i64 C, i64 HW, const float *x, const float *mean, const float *var, const float *weight,
                              const float *bias, double eps, float *y) {
    struct norm_apply t = {.N = N, .C = C, .HW = HW, .kind = NORM_FORWARD, .a = x, .out = y};
    float *k = norm_constants(&t);
    if (!k) return -1;
    for (i64 c = 0; c < C; c++) {
        k[c] = mean[c];
        k[C + c] = (float)((weight ? weight[c] : 1.0f) / sqrt(var[c] + eps));
        k[2 * C + c] = bias ? bias[c] : 0.0f;
        k[3 * C + c] = 0;
    }
    norm_apply(&t, k);
    return 0;
}

/* grad_x (N, C, HW); weight may be NULL; grad_weight and grad_bias both NULL: mean and var were constants */
KERNEL int batch_norm_backward_input(i64 N, i64 C, i64 HW, const float *grad, const float *x, const float *mean, const float *var,
                                     const float *weight, const float *grad_weight, const float *grad_bias, double eps, float *grad_x) {
    struct norm_apply t = {.N = N, .C = C, .HW = HW, .kind = grad_weight ? NORM_BACKWARD : NORM_SCALE, .a = grad, .x = x, .out = grad_x};
    const double m = (double)i64_max(1, N * HW);
    float *k = norm_constants(&t);
    if (!k) return -1;
    for (i64 c = 0; c < C; c++) {
        double inverse = 1 / sqrt(var[c] + eps);
        k[c] = mean[c];
        k[C + c] = (float)((weight ? weight[c] : 1.0f) * inverse);
        k[2 * C + c] = grad_bias ? (float)(grad_bias[c] / m) : 0.0f;
        k[3 * C + c] = grad_weight ? (float)(grad_weight[c] / m * inverse) : 0.0f;
    }
    norm_apply(&t, k);
    return 0;
}

#endif
