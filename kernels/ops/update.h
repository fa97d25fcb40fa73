/* One step of an optimiser, in place, in one pass: of a whole array (sgd_update, adam_update), or of a tile of rows that its gradient
 * has just left registers for (update_rows). The formulas, in PyTorch's order, are at the functions; options that one may lack
 * are constants of its loop. scale multiplies every gradient first.
 */
#ifndef FASTNN_UPDATE_H
#define FASTNN_UPDATE_H

#include <math.h>

#include "base/lanes.h"
#include "plan/stages.h"
#include "base/threads.h"

enum { UPDATE_CHUNK = 1 << 13 };        /* floats a task */

enum update_formula { UPDATE_SGD, UPDATE_MOMENTUM, UPDATE_NESTEROV, UPDATE_ADAM };

/* struct optimizer's numbers as floats, and which formula they are for */
struct update_numbers {
    int formula, decay;                 /* decay: weight_decay is not zero */
    float scale, weight_decay;
    float lr, momentum, take;           /* take: 1 - dampening */
    float one_minus_beta1, beta2, one_minus_beta2, eps;
    float step_size;                    /* lr / (1 - beta1^step) */
    float correction;                   /* sqrt(1 - beta2^step) */
    float shrink;                       /* decoupled weight decay: param is multiplied by 1 - lr * weight_decay first */
};

INLINE struct update_numbers update_numbers(const struct optimizer *o, const float *state1) {
    struct update_numbers u = {
        UPDATE_ADAM, o->weight_decay != 0, (float)o->scale, (float)o->weight_decay, (float)o->lr, (float)o->momentum, (float)o->take,
        (float)(1 - o->beta1), (float)o->beta2, (float)(1 - o->beta2), (float)o->eps, (float)o->step_size, (float)o->correction,
        (float)o->shrink};
    if (o->kind == OPTIMIZER_SGD) u.formula = !state1 ? UPDATE_SGD : o->nesterov ? UPDATE_NESTEROV : UPDATE_MOMENTUM;
    return u;
}

INLINE vf v_sqrt(vf x) {
#if VL == 16 && defined(__AVX512F__)
    return (vf)_mm512_sqrt_ps((__m512)x);
#elif VL == 8 && defined(__AVX__)
    return (vf)_mm256_sqrt_ps((__m256)x);
#elif VL == 4 && defined(__SSE2__)
    return (vf)_mm_sqrt_ps((__m128)x);
#else
    UNROLL for (int i = 0; i < VL; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}

/* g = scale * grad + weight_decay * param
 * SGD: velocity = momentum * velocity + take * g;  param -= lr * (g | velocity | g + momentum * velocity)
 * Adam: m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g * g;  param = shrink * param - step_size * m / (sqrt(v) / correction + eps) */
INLINE vf update_lanes(const int formula, const int decay, const struct update_numbers *u, vf grad, vf param, vf *state1, vf *state2) {
    vf g = u->scale * grad;
    if (decay) g += u->weight_decay * param;
    if (formula == UPDATE_ADAM) {
        vf m = *state1 + u->one_minus_beta1 * (g - *state1), v = u->beta2 * *state2 + u->one_minus_beta2 * g * g;
        *state1 = m;
        *state2 = v;
        return param * u->shrink - u->step_size * m / (v_sqrt(v) / u->correction + u->eps);
    }
    if (formula != UPDATE_SGD) {
        *state1 = u->momentum * *state1 + u->take * g;
        g = formula == UPDATE_NESTEROV ? g + u->momentum * *state1 : *state1;
    }
    return param - u->lr * g;
}

INLINE void update_loop(const int formula, const int decay, const struct update_numbers u, i64 count, const float *grad, float *param,
                        float *state1, float *state2) {
    for (i64 i = 0; i < count; i += VL) {
        i64 lanes = i64_min(VL, count - i);
        vf s1 = {0}, s2 = {0};
        if (formula != UPDATE_SGD) s1 = v_load_lanes(state1 + i, lanes, 0);
        if (formula == UPDATE_ADAM) s2 = v_load_lanes(state2 + i, lanes, 0);
        vf p = update_lanes(formula, decay, &u, v_load_lanes(grad + i, lanes, 0), v_load_lanes(param + i, lanes, 0), &s1, &s2);
        v_store_lanes(param + i, p, lanes);
        if (formula != UPDATE_SGD) v_store_lanes(state1 + i, s1, lanes);
        if (formula == UPDATE_ADAM) v_store_lanes(state2 + i, s2, lanes);
    }
}

/* rows x count floats; grad_step and step: from row to row. state1 and state2: NULL where the formula has none */
KERNEL void update_rows(const struct update_numbers *u, i64 rows, i64 count, const float *grad, i64 grad_step, float *param,
                        float *state1, float *state2, i64 step) {
#define UPDATE_ROWS(FORMULA, DECAY)                                                                                       \
    for (i64 r = 0; r < rows; r++)                                                                                       \
        update_loop(FORMULA, DECAY, *u, count, grad + r * grad_step, param + r * step,                                   \
                    FORMULA == UPDATE_SGD ? NULL : state1 + r * step, FORMULA == UPDATE_ADAM ? state2 + r * step : NULL)
    switch (2 * u->formula + u->decay) {
    case 2 * UPDATE_SGD: UPDATE_ROWS(UPDATE_SGD, 0); break;
    case 2 * UPDATE_SGD + 1: UPDATE_ROWS(UPDATE_SGD, 1); break;
    case 2 * UPDATE_MOMENTUM: UPDATE_ROWS(UPDATE_MOMENTUM, 0); break;
    case 2 * UPDATE_MOMENTUM + 1: UPDATE_ROWS(UPDATE_MOMENTUM, 1); break;
    case 2 * UPDATE_NESTEROV: UPDATE_ROWS(UPDATE_NESTEROV, 0); break;
    case 2 * UPDATE_NESTEROV + 1: UPDATE_ROWS(UPDATE_NESTEROV, 1); break;
    case 2 * UPDATE_ADAM: UPDATE_ROWS(UPDATE_ADAM, 0); break;
    default: UPDATE_ROWS(UPDATE_ADAM, 1); break;
    }
#undef UPDATE_ROWS
}

/* ---- whole arrays ---- */

struct update_task {
    struct update_numbers numbers;
    i64 count;
    const float *grad;
    float *param, *state1, *state2;
};

static void update_chunk(void *context, i64 index) {
    const struct update_task *t = context;
    i64 begin = index * UPDATE_CHUNK, count = i64_min(UPDATE_CHUNK, t->count - begin);
    update_rows(&t->numbers, 1, count, t->grad + begin, 0, t->param + begin, t->state1 ? t->state1 + begin : NULL,
                t->state2 ? t->state2 + begin : NULL, 0);
}

INLINE void update_array(const struct optimizer *o, i64 count, float *param, const float *grad, float *state1, float *state2) {
    struct update_task t = {update_numbers(o, state1), count, grad, param, state1, state2};
    double flops = state2 ? 30.0 : state1 ? 20.0 : 12.0; /* with the time of memory counted in */
    fastnn_parallel(ceil_div(count, UPDATE_CHUNK), flops * (double)count, update_chunk, &t);
}

/* velocity: NULL without momentum */
KERNEL void sgd_update(i64 count, float *param, const float *grad, float *velocity, double lr, double momentum, double dampening,
                       double weight_decay, int nesterov) {
    struct optimizer o = {.kind = OPTIMIZER_SGD, .lr = lr, .weight_decay = weight_decay, .momentum = momentum, .take = 1 - dampening,
                          .nesterov = nesterov, .scale = 1};
    update_array(&o, count, param, grad, velocity, NULL);
}

KERNEL void adam_update(i64 count, float *param, const float *grad, float *exp_avg, float *exp_avg_sq, double beta1, double beta2,
                        double eps, double step_size, double correction, double weight_decay, double shrink) {
    struct optimizer o = {.kind = OPTIMIZER_ADAM, .weight_decay = weight_decay, .beta1 = beta1, .beta2 = beta2, .eps = eps,
                          .step_size = step_size, .correction = correction, .shrink = shrink, .scale = 1};
    update_array(&o, count, param, grad, exp_avg, exp_avg_sq);
}

#endif
