/* Activations on vectors: the one place that holds their formulas, for eager operators and for the stages of plans.
 *
 * `kind` is a constant wherever these are inlined, so a switch costs nothing: callers instantiate their loops by kind
 * (ACTIVATION_CASES below).
 */
#ifndef FASTNN_ACTIVATION_H
#define FASTNN_ACTIVATION_H

#include "base/vmath.h"
#include "parts/kinds.h"

INLINE vf sigmoid(vf x) {
    vf other;
    return v_sigmoid(x, &other);
}

INLINE vf silu_slope(vf x) {
    vf other, s = v_sigmoid(x, &other);
    return s * (1.0f + x * other);
}

/* x Phi(x): below zero scaled last, as Phi may be less than the least normal number where the product is not */
INLINE vf gelu(vf x) {
    vf bell, t, tail = v_normal_tail(v_abs(x), &bell, &t);
    return v_select(x < (vf){0}, v_scale(v_max(v_set1(-20), x) * tail, t) - (x - x), x * (1.0f - v_scale(tail, t))); /* NaN of -infinity */
}

INLINE vf gelu_slope(vf x) {
    vf bell, t, tail = v_normal_tail(v_abs(x), &bell, &t), scaled = v_scale(tail, t);
    return v_select(x < (vf){0}, scaled, 1.0f - scaled) + x * (v_scale(bell, t) * 0.398942280f); /* 1 / sqrt(2 pi) */
}

/* x sigmoid(x), scaled last for the same reason */
INLINE vf silu(vf x) {
    vf small, t, large = v_sigmoid_parts(x, &small, &t);
    return v_select(x < (vf){0}, v_scale(v_max(v_set1(-130), x) * small, t) - (x - x), x * large);
}

/* max(x, 0) + log(1 + exp(-|x|)) */
INLINE vf softplus(vf x) { return (vf)((vi)x & ~(x <= (vf){0})) + v_log1p(v_exp(-v_abs(x))); }

/* min(max(x + 3, 0), 6) / 6 */
INLINE vf hard_sigmoid(vf x) { return v_min(v_set1(6), v_max((vf){0}, x + 3.0f)) * (1.0f / 6); }

INLINE vf hardswish_slope(vf x) { return v_select(x <= v_set1(-3), (vf){0}, v_select(x < v_set1(3), x * (1.0f / 3) + 0.5f, v_set1(1) + (x - x))); }

/* tanh(softplus(x)) = n / (n + 2) with n = e (e + 2), e = exp(x); above 20 it is 1 */
INLINE vf mish_share(vf x, vf *e, vf *rest) {
    *e = v_exp(v_min(v_set1(20), x));
    const vf n = *e * (*e + 2.0f);
    *rest = 1.0f / (n + 2.0f);
    return n * *rest;
}

INLINE vf mish(vf x) {
    vf e, rest, share = mish_share(x, &e, &rest);
    return x * share;
}

/* The share, and x times its slope, 4 e (e + 1) / (n + 2)^2; e is kept below e^20, and x with it, or their product grows with x */
INLINE vf mish_slope(vf x) {
    vf e, rest, share = mish_share(x, &e, &rest);
    return share + v_min(v_set1(20), x) * (4.0f * e * rest * ((e + 1.0f) * rest));
}

INLINE vf below_zero(vf x) { return v_min((vf){0}, x); }

/* y = f(x); p: the parameter, in all lanes. NaN stays NaN. */
INLINE vf v_activate(const int kind, vf x, vf p) {
    switch (kind) {
    case ACTIVATION_RELU: return (vf)((vi)x & ~(x <= (vf){0}));             /* NaN <= 0 is false */
    case ACTIVATION_LEAKY_RELU: return v_select(x > (vf){0}, x, p * x);
    case ACTIVATION_TANH: return v_tanh(x);
    case ACTIVATION_SIGMOID: return sigmoid(x);
    case ACTIVATION_ELU: return v_select(x > (vf){0}, x, p * v_expm1(below_zero(x)));
    case ACTIVATION_GELU: return gelu(x);
    case ACTIVATION_SILU: return silu(x);
    case ACTIVATION_RELU6: return v_min(v_set1(6), (vf)((vi)x & ~(x <= (vf){0})));
    case ACTIVATION_HARDSWISH: return x * hard_sigmoid(x);
    case ACTIVATION_SOFTPLUS: return softplus(x);
    case ACTIVATION_MISH: return mish(x);
    default: return x;
    }
}

/* Whether the slope follows from y = f(x) alone: x need not be kept. (LEAKY_RELU and ELU: for parameters that are positive.) */
INLINE int activation_slope_from_y(const int kind, double p) {
    switch (kind) {
    case ACTIVATION_GELU: case ACTIVATION_SILU: case ACTIVATION_HARDSWISH: case ACTIVATION_MISH: return 0;
    case ACTIVATION_LEAKY_RELU: case ACTIVATION_ELU: return p > 0;
    default: return 1;
    }
}

/* Whether f never falls: then it commutes with max-pooling. */
INLINE int activation_is_monotone(const int kind, double p) { return activation_slope_from_y(kind, p); }

/* grad * f'(x), from x */
INLINE vf v_activate_backward(const int kind, vf grad, vf x, vf p) {
    switch (kind) {
    case ACTIVATION_RELU: return (vf)((vi)grad & (x > (vf){0}));
    case ACTIVATION_LEAKY_RELU: return v_select(x > (vf){0}, grad, p * grad);
    case ACTIVATION_TANH: {
        vf y = v_tanh(x);
        return grad * (1.0f - y * y);
    }
    case ACTIVATION_SIGMOID: {
        vf other, y = v_sigmoid(x, &other);
        return grad * (y * other);
    }
    case ACTIVATION_ELU: return v_select(x > (vf){0}, grad, grad * p * v_exp(below_zero(x)));
    case ACTIVATION_GELU: return grad * gelu_slope(x);
    case ACTIVATION_SILU: return grad * silu_slope(x);
    case ACTIVATION_RELU6: return (vf)((vi)grad & (x > (vf){0}) & (x < v_set1(6)));
    case ACTIVATION_HARDSWISH: return grad * hardswish_slope(x);
    case ACTIVATION_SOFTPLUS: return grad * sigmoid(x);
    case ACTIVATION_MISH: return grad * mish_slope(x);
    default: return grad;
    }
}

/* grad * f'(x), from y = f(x), where activation_slope_from_y */
INLINE vf v_activate_backward_from_y(const int kind, vf grad, vf y, vf p) {
    switch (kind) {
    case ACTIVATION_RELU: return (vf)((vi)grad & (y > (vf){0}));
    case ACTIVATION_LEAKY_RELU: return v_select(y > (vf){0}, grad, p * grad);
    case ACTIVATION_TANH: return grad * (1.0f - y * y);
    case ACTIVATION_SIGMOID: return grad * (y * (1.0f - y));
    case ACTIVATION_ELU: return v_select(y > (vf){0}, grad, grad * (y + p));
    case ACTIVATION_RELU6: return (vf)((vi)grad & (y > (vf){0}) & (y < v_set1(6)));
    case ACTIVATION_SOFTPLUS: return grad * -v_expm1(-y);                   /* 1 - exp(-y) is sigmoid(x) */
    default: return grad;
    }
}

/* FLOPs of one value, about: what decides how many threads pay. */
INLINE double activation_flops(int kind) {
    static const unsigned char flops[] = {0, 1, 2, 35, 35, 25, 60, 40, 2, 5, 45, 40};
    return flops[kind];
}

/* switch over the kinds: CALL(kind) with a constant in each case */
#define ACTIVATION_CASES(kind, CALL)                                  \
    switch (kind) {                                                   \
    case ACTIVATION_RELU: CALL(ACTIVATION_RELU); break;               \
    case ACTIVATION_LEAKY_RELU: CALL(ACTIVATION_LEAKY_RELU); break;   \
    case ACTIVATION_TANH: CALL(ACTIVATION_TANH); break;               \
    case ACTIVATION_SIGMOID: CALL(ACTIVATION_SIGMOID); break;         \
    case ACTIVATION_ELU: CALL(ACTIVATION_ELU); break;                 \
    case ACTIVATION_GELU: CALL(ACTIVATION_GELU); break;               \
    case ACTIVATION_SILU: CALL(ACTIVATION_SILU); break;               \
    case ACTIVATION_RELU6: CALL(ACTIVATION_RELU6); break;             \
    case ACTIVATION_HARDSWISH: CALL(ACTIVATION_HARDSWISH); break;     \
    case ACTIVATION_SOFTPLUS: CALL(ACTIVATION_SOFTPLUS); break;       \
    case ACTIVATION_MISH: CALL(ACTIVATION_MISH); break;               \
    default: CALL(ACTIVATION_NONE);                                   \
    }

/* ---- arrays (count,), for stages whose tiles lie in cache ---- */

/* y = f(x); y may be x */
KERNEL void activate(int kind, double parameter, i64 count, const float *x, float *y) {
    const vf p = v_set1((float)parameter);
#define ACTIVATE(KIND)                                                                                  \
    for (i64 i = 0; i < count; i += VL) {                                                               \
        const i64 lanes = i64_min(VL, count - i);                                                       \
        v_store_lanes(y + i, v_activate(KIND, v_load_lanes(x + i, lanes, 0), p), lanes);                \
    }
    ACTIVATION_CASES(kind, ACTIVATE)
#undef ACTIVATE
}

/* out = grad * f'; kept: y = f(x) where activation_slope_from_y, else x; out may be grad */
KERNEL void activate_backward(int kind, double parameter, i64 count, const float *grad, const float *kept, float *out) {
    const vf p = v_set1((float)parameter);
    const int from_y = activation_slope_from_y(kind, parameter);
#define ACTIVATE_BACKWARD(KIND)                                                                         \
    for (i64 i = 0; i < count; i += VL) {                                                               \
        const i64 lanes = i64_min(VL, count - i);                                                       \
        const vf g = v_load_lanes(grad + i, lanes, 0), k = v_load_lanes(kept + i, lanes, 0);            \
        v_store_lanes(out + i, from_y ? v_activate_backward_from_y(KIND, g, k, p) : v_activate_backward(KIND, g, k, p), lanes); \
    }
    ACTIVATION_CASES(kind, ACTIVATE_BACKWARD)
#undef ACTIVATE_BACKWARD
}

#endif
