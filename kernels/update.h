/* One step of an optimiser, in place, in one pass. param, grad and state (count,); the formulas, in PyTorch's order, are at the
 * functions. Plain loops: the compiler makes vectors of them. Options that a formula may lack are constants of the loop.
 */
#ifndef FASTNN_UPDATE_H
#define FASTNN_UPDATE_H

#include <math.h>

#include "simd.h"
#include "threads.h"

enum { UPDATE_CHUNK = 1 << 13 };        /* floats a task */

/* ---- stochastic gradient descent ---- */

enum { SGD_PLAIN, SGD_MOMENTUM, SGD_NESTEROV };

struct sgd {
    i64 count;
    float *param;
    const float *grad;
    float *velocity;                    /* NULL without momentum */
    float lr, momentum, one_minus_dampening, weight_decay;
    int nesterov;
};

/* g = grad + weight_decay * param;  velocity = momentum * velocity + (1 - dampening) * g
 * param -= lr * (g | velocity | g + momentum * velocity) */
INLINE void sgd_loop(const int decay, const int kind, const struct sgd *t, i64 begin, i64 end) {
    float *restrict param = t->param, *restrict velocity = t->velocity;
    const float *restrict grad = t->grad;
    const float lr = t->lr, momentum = t->momentum, take = t->one_minus_dampening, weight_decay = t->weight_decay;
    for (i64 i = begin; i < end; i++) {
        float g = decay ? grad[i] + weight_decay * param[i] : grad[i], step = g;
        if (kind != SGD_PLAIN) {
            velocity[i] = momentum * velocity[i] + take * g;
            step = kind == SGD_NESTEROV ? g + momentum * velocity[i] : velocity[i];
        }
        param[i] -= lr * step;
    }
}

static void sgd_chunk(void *context, i64 index) {
    const struct sgd *t = context;
    i64 begin = index * UPDATE_CHUNK, end = i64_min(begin + UPDATE_CHUNK, t->count);
    int kind = !t->velocity ? SGD_PLAIN : t->nesterov ? SGD_NESTEROV : SGD_MOMENTUM;
    switch (2 * kind + (t->weight_decay != 0)) {
    case 2 * SGD_PLAIN: sgd_loop(0, SGD_PLAIN, t, begin, end); break;
    case 2 * SGD_PLAIN + 1: sgd_loop(1, SGD_PLAIN, t, begin, end); break;
    case 2 * SGD_MOMENTUM: sgd_loop(0, SGD_MOMENTUM, t, begin, end); break;
    case 2 * SGD_MOMENTUM + 1: sgd_loop(1, SGD_MOMENTUM, t, begin, end); break;
    case 2 * SGD_NESTEROV: sgd_loop(0, SGD_NESTEROV, t, begin, end); break;
    default: sgd_loop(1, SGD_NESTEROV, t, begin, end); break;
    }
}

KERNEL void sgd_update(i64 count, float *param, const float *grad, float *velocity, double lr, double momentum, double dampening,
                       double weight_decay, int nesterov) {
    struct sgd t = {count, param, grad, velocity, (float)lr, (float)momentum, (float)(1 - dampening), (float)weight_decay, nesterov};
    fastnn_parallel(ceil_div(count, UPDATE_CHUNK), (velocity ? 20.0 : 12.0) * (double)count, sgd_chunk, &t);
}

/* ---- Adam and AdamW ---- */

struct adam {
    i64 count;
    float *param;
    const float *grad;
    float *exp_avg, *exp_avg_sq;
    float one_minus_beta1, beta2, one_minus_beta2, eps;
    float step_size;                    /* lr / (1 - beta1^step) */
    float correction;                   /* sqrt(1 - beta2^step) */
    float weight_decay;                 /* coupled: of param to the gradient */
    float shrink;                       /* decoupled: param is multiplied by 1 - lr * weight_decay first */
};

/* m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g * g;  param -= step_size * m / (sqrt(v) / correction + eps) */
INLINE void adam_loop(const int decay, const struct adam *t, i64 begin, i64 end) {
    float *restrict param = t->param, *restrict exp_avg = t->exp_avg, *restrict exp_avg_sq = t->exp_avg_sq;
    const float *restrict grad = t->grad;
    const struct adam a = *t;
    for (i64 i = begin; i < end; i++) {
        float g = decay ? grad[i] + a.weight_decay * param[i] : grad[i];
        float m = exp_avg[i] + a.one_minus_beta1 * (g - exp_avg[i]);
        float v = a.beta2 * exp_avg_sq[i] + a.one_minus_beta2 * g * g;
        exp_avg[i] = m;
        exp_avg_sq[i] = v;
        param[i] = param[i] * a.shrink - a.step_size * m / (sqrtf(v) / a.correction + a.eps);
    }
}

static void adam_chunk(void *context, i64 index) {
    const struct adam *t = context;
    i64 begin = index * UPDATE_CHUNK, end = i64_min(begin + UPDATE_CHUNK, t->count);
    if (t->weight_decay != 0) adam_loop(1, t, begin, end);
    else adam_loop(0, t, begin, end);
}

KERNEL void adam_update(i64 count, float *param, const float *grad, float *exp_avg, float *exp_avg_sq, double beta1, double beta2,
                        double eps, double step_size, double correction, double weight_decay, double shrink) {
    struct adam t = {count, param, grad, exp_avg, exp_avg_sq, (float)(1 - beta1), (float)beta2, (float)(1 - beta2), (float)eps,
                     (float)step_size, (float)correction, (float)weight_decay, (float)shrink};
    fastnn_parallel(ceil_div(count, UPDATE_CHUNK), 30.0 * (double)count, adam_chunk, &t);
}

#endif
