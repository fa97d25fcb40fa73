/* One step of an optimiser, in place, in one pass: of a whole array (update_array), or of a tile of rows that its gradient has just
 * left registers for (update_rows). The formulas, in PyTorch's order, are at update_lanes; options that one may lack are constants
 * of its loop. scale multiplies every gradient first, then come weight decay and the gradients of penalties.
 */
#ifndef FASTNN_UPDATE_H
#define FASTNN_UPDATE_H

#include <math.h>

#include "base/denormals.h"
#include "base/lanes.h"
#include "plan/stages.h"
#include "base/threads.h"

enum { UPDATE_CHUNK = 1 << 13 };        /* floats a task */

enum update_formula {
    UPDATE_SGD, UPDATE_MOMENTUM, UPDATE_NESTEROV, UPDATE_RPROP, UPDATE_ADAGRAD, UPDATE_RMSPROP, UPDATE_RMSPROP_MOMENTUM,
    UPDATE_RMSPROP_CENTERED, UPDATE_RMSPROP_CENTERED_MOMENTUM, UPDATE_ADAM, UPDATE_FORMULAS
};
enum update_decay { DECAY_NONE, DECAY_SOME, DECAYS };

/* struct optimizer's numbers as floats, and which formula they are for */
struct update_numbers {
    int formula, decay;
    float scale, weight_decay, l1;
    float lr, momentum, take;           /* take: 1 - dampening */
    float one_minus_beta1, beta2, one_minus_beta2, eps;
    float step_size;                    /* Adam: lr / (1 - beta1^step) */
    float correction;                   /* sqrt(1 - beta2^step) */
    float shrink;                       /* decoupled weight decay: param is multiplied by 1 - lr * weight_decay first */
    float eta_minus, eta_plus, least_step, most_step;
};

/* state: the arrays that the parameter has; NULL where the optimiser keeps none */
INLINE struct update_numbers update_numbers(const struct optimizer *o, float *const *state) {
    struct update_numbers u = {
        .decay = o->l1 != 0 || o->weight_decay != 0 ? DECAY_SOME : DECAY_NONE, .scale = (float)o->scale,
        .weight_decay = (float)o->weight_decay, .l1 = (float)o->l1, .lr = (float)o->lr, .momentum = (float)o->momentum,
        .take = (float)o->take, .one_minus_beta1 = (float)(1 - o->beta1), .beta2 = (float)o->beta2,
        .one_minus_beta2 = (float)(1 - o->beta2), .eps = (float)o->eps, .step_size = (float)o->step_size,
        .correction = (float)o->correction, .shrink = (float)o->shrink, .eta_minus = (float)o->eta_minus,
        .eta_plus = (float)o->eta_plus, .least_step = (float)o->least_step, .most_step = (float)o->most_step};
    switch (o->kind) {
    case OPTIMIZER_SGD: u.formula = !state[0] ? UPDATE_SGD : o->nesterov ? UPDATE_NESTEROV : UPDATE_MOMENTUM; break;
    case OPTIMIZER_RPROP: u.formula = UPDATE_RPROP; break;
    case OPTIMIZER_ADAGRAD: u.formula = UPDATE_ADAGRAD; break;
    case OPTIMIZER_RMSPROP: u.formula = UPDATE_RMSPROP + !!state[1] + 2 * !!state[2]; break;
    default: u.formula = UPDATE_ADAM; break;
    }
    return u;
}

/* Whether a formula reads and writes state k */
INLINE int update_uses(const int formula, const int k) {
    if (k == 0) return formula != UPDATE_SGD;
    if (k == 1) return formula == UPDATE_RPROP || formula == UPDATE_RMSPROP_MOMENTUM || formula == UPDATE_RMSPROP_CENTERED_MOMENTUM ||
                       formula == UPDATE_ADAM;
    return formula == UPDATE_RMSPROP_CENTERED || formula == UPDATE_RMSPROP_CENTERED_MOMENTUM;
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

/* 1, 0 or -1; NaN of NaN */
INLINE vf v_sign(vf x) { return v_select(x > (vf){0}, v_set1(1), v_select(x < (vf){0}, v_set1(-1), x)); }

/* s[0] prev, s[1] step_size: the step grows while the gradient keeps its sign; where that turned, it shrinks and is left out once */
INLINE vf update_rprop(const struct update_numbers *u, vf g, vf param, vf *s) {
    vf sign = v_sign(g), same = sign * v_sign(s[0]);
    vf factor = v_select(same > (vf){0}, v_set1(u->eta_plus), v_select(same < (vf){0}, v_set1(u->eta_minus), v_set1(1)));
    vi turned = same < (vf){0};
    s[0] = (vf)(~turned & (vi)g);
    s[1] = v_min(v_set1(u->most_step), v_max(v_set1(u->least_step), factor * s[1]));
    return param - (vf)(~turned & (vi)sign) * s[1];
}

/* s[0] square_avg, s[1] momentum_buffer, s[2] grad_avg; beta2 is alpha. Rounding may not make a variance negative. */
INLINE vf update_rmsprop(const int formula, const struct update_numbers *u, vf g, vf param, vf *s) {
    vf square = s[0] = u->beta2 * s[0] + u->one_minus_beta2 * g * g;
    if (update_uses(formula, 2)) {
        s[2] += u->one_minus_beta2 * (g - s[2]);
        square -= s[2] * s[2];
        square = v_select(square < (vf){0}, (vf){0}, square);
    }
    vf step = g / (v_sqrt(square) + u->eps);
    if (update_uses(formula, 1)) step = s[1] = u->momentum * s[1] + step;
    return param - u->lr * step;
}

/* g = scale * grad + weight_decay * param + l1 * sign(param)
 * SGD: velocity = momentum * velocity + take * g;  param -= lr * (g | velocity | g + momentum * velocity)
 * Adagrad: sum += g * g;  param -= lr * g / (sqrt(sum) + eps)
 * Adam: m += (1 - beta1) * (g - m);  v = beta2 * v + (1 - beta2) * g * g;  param = shrink * param - step_size * m / (sqrt(v) / correction + eps) */
INLINE vf update_lanes(const int formula, const int decay, const struct update_numbers *u, vf grad, vf param, vf *s) {
    vf g = u->scale * grad;
    if (decay != DECAY_NONE) g += u->weight_decay * param + u->l1 * v_sign(param);
    switch (formula) {
    case UPDATE_ADAM:
        s[0] += u->one_minus_beta1 * (g - s[0]);
        s[1] = u->beta2 * s[1] + u->one_minus_beta2 * g * g;
        return param * u->shrink - u->step_size * s[0] / (v_sqrt(s[1]) / u->correction + u->eps);
    case UPDATE_RPROP: return update_rprop(u, g, param, s);
    case UPDATE_ADAGRAD:
        s[0] += g * g;
        return param - u->lr * g / (v_sqrt(s[0]) + u->eps);
    case UPDATE_MOMENTUM: case UPDATE_NESTEROV:
        s[0] = u->momentum * s[0] + u->take * g;
        return param - u->lr * (formula == UPDATE_NESTEROV ? g + u->momentum * s[0] : s[0]);
    case UPDATE_SGD: return param - u->lr * g;
    default: return update_rmsprop(formula, u, g, param, s);
    }
}

/* The entries i .. i + lanes of a row */
INLINE void update_vector(const int formula, const int decay, const struct update_numbers *u, i64 i, i64 lanes, const float *grad,
                          float *param, float *const *state) {
    vf s[UPDATE_STATES];
    UNROLL for (int k = 0; k < UPDATE_STATES; k++) if (update_uses(formula, k)) s[k] = v_load_lanes(state[k] + i, lanes, 0);
    vf p = update_lanes(formula, decay, u, v_load_lanes(grad + i, lanes, 0), v_load_lanes(param + i, lanes, 0), s);
    v_store_lanes(param + i, p, lanes);
    UNROLL for (int k = 0; k < UPDATE_STATES; k++) if (update_uses(formula, k)) v_store_lanes(state[k] + i, s[k], lanes);
}

/* Whole vectors first, without the call of memcpy that part of one needs: so the numbers stay in registers. */
INLINE void update_loop(const int formula, const int decay, const struct update_numbers u, i64 count, const float *grad, float *param,
                        float *const *state, i64 at) {
    float *to[UPDATE_STATES]; /* read once: for all GCC knows, stores might change them */
    UNROLL for (int k = 0; k < UPDATE_STATES; k++) to[k] = update_uses(formula, k) ? state[k] + at : NULL;
    i64 i = 0;
    for (; i + VL <= count; i += VL) update_vector(formula, decay, &u, i, VL, grad, param + at, to);
    if (i < count) update_vector(formula, decay, &u, i, count - i, grad, param + at, to);
}

/* rows x count floats, those of param and state from `at` on; grad_step and step: from row to row. State that decays is not let
 * among the denormal numbers. */
KERNEL void update_rows(const struct update_numbers *u, i64 rows, i64 count, const float *grad, i64 grad_step, float *param,
                        float *const *state, i64 at, i64 step) {
#define UPDATE_ROWS(FORMULA, DECAY)                                                                                      \
    case DECAYS * FORMULA + DECAY:                                                                                       \
        for (i64 r = 0; r < rows; r++) update_loop(FORMULA, DECAY, *u, count, grad + r * grad_step, param, state, at + r * step); \
        break;
#define UPDATE_ALL_ROWS(FORMULA) UPDATE_ROWS(FORMULA, DECAY_NONE) UPDATE_ROWS(FORMULA, DECAY_SOME)
    const uint64_t control = without_denormals();
    switch (DECAYS * u->formula + u->decay) {
        UPDATE_ALL_ROWS(UPDATE_SGD)
        UPDATE_ALL_ROWS(UPDATE_MOMENTUM)
        UPDATE_ALL_ROWS(UPDATE_NESTEROV)
        UPDATE_ALL_ROWS(UPDATE_RPROP)
        UPDATE_ALL_ROWS(UPDATE_ADAGRAD)
        UPDATE_ALL_ROWS(UPDATE_RMSPROP)
        UPDATE_ALL_ROWS(UPDATE_RMSPROP_MOMENTUM)
        UPDATE_ALL_ROWS(UPDATE_RMSPROP_CENTERED)
        UPDATE_ALL_ROWS(UPDATE_RMSPROP_CENTERED_MOMENTUM)
        UPDATE_ALL_ROWS(UPDATE_ADAM)
    }
    set_float_control(control);
#undef UPDATE_ALL_ROWS
#undef UPDATE_ROWS
}

/* ---- whole arrays ---- */

struct update_task {
    struct update_numbers numbers;
    i64 count;
    const float *grad;
    float *param, *const *state;
};

static void update_chunk(void *context, i64 index) {
    const struct update_task *t = context;
    i64 begin = index * UPDATE_CHUNK, count = i64_min(UPDATE_CHUNK, t->count - begin);
    update_rows(&t->numbers, 1, count, t->grad + begin, 0, t->param, t->state, begin, 0);
}

/* param, grad and what state points to: (count,) */
KERNEL void update_array(const struct optimizer *o, i64 count, float *param, const float *grad, float *const *state) {
    struct update_task t = {update_numbers(o, state), count, grad, param, state};
    double flops = 12; /* with the time of memory counted in */
    for (int k = 0; k < UPDATE_STATES; k++) flops += state[k] ? 9 : 0;
    fastnn_parallel(ceil_div(count, UPDATE_CHUNK), flops * (double)count, update_chunk, &t);
}

#endif
