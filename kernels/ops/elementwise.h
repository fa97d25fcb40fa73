/* Activations and their input gradients, element by element: y[i] = f(a[i], b[i]), all arrays (count,).
 *
 * y may be a. The arrays are cut into chunks by their length alone; each entry below is a kernel of the table.
 */
#ifndef FASTNN_ELEMENTWISE_H
#define FASTNN_ELEMENTWISE_H

#include "base/threads.h"
#include "base/vmath.h"

enum { ELEMENTWISE_CHUNK = 1 << 14 };   /* floats a task */

struct elementwise {
    i64 count;
    const float *a, *b;
    float parameter;
    float *y;
};

/* The kernel NAME and its task. FORMULA: y from the vectors a, b (only with 2 ARRAYS) and p, the parameter. FLOPS: of the
 * formula; memory-bound work counts four a float moved. */
#define ELEMENTWISE(NAME, ARRAYS, FLOPS, FORMULA)                                                                        \
    static void NAME##_chunk(void *context, i64 index) {                                                                 \
        const struct elementwise t = *(const struct elementwise *)context;                                               \
        const vf p = v_set1(t.parameter);                                                                                \
        i64 i = index * ELEMENTWISE_CHUNK, end = i64_min(i + ELEMENTWISE_CHUNK, t.count);                                \
        (void)p;                                                                                                         \
        for (; i + VL <= end; i += VL) {                                                                                 \
            vf a = v_load(t.a + i), b = ARRAYS == 2 ? v_load(t.b + i) : a;                                               \
            (void)b;                                                                                                     \
            v_store(t.y + i, FORMULA);                                                                                   \
        }                                                                                                                \
        if (i < end) {                                                                                                   \
            vf a = v_load_partial(t.a + i, end - i, 0), b = ARRAYS == 2 ? v_load_partial(t.b + i, end - i, 0) : a;       \
            (void)b;                                                                                                     \
            v_store_partial(t.y + i, FORMULA, end - i);                                                                  \
        }                                                                                                                \
    }                                                                                                                    \
    KERNEL void NAME(i64 count, const float *a, const float *b, float parameter, float *y) {                             \
        struct elementwise t = {count, a, b, parameter, y};                                                              \
        double flops = (double)count * (4 * (ARRAYS + 1) + FLOPS);                                                       \
        fastnn_parallel(ceil_div(count, ELEMENTWISE_CHUNK), flops, NAME##_chunk, &t);                                    \
    }

/* ---- formulas longer than a line ---- */

INLINE vf sigmoid(vf x) {
    vf other;
    return v_sigmoid(x, &other);
}

INLINE vf silu_slope(vf x) {
    vf other, s = v_sigmoid(x, &other);
    return s * (1.0f + x * other);
}

INLINE vf normal_cdf(vf x, vf *bell) {
    vf tail = v_normal_tail(v_abs(x), bell);
    return v_select(x < (vf){0}, tail, 1.0f - tail);
}

INLINE vf gelu(vf x) {
    vf bell;
    return x * normal_cdf(x, &bell);
}

INLINE vf gelu_slope(vf x) {
    vf bell, cdf = normal_cdf(x, &bell);
    return cdf + x * (bell * 0.398942280f);         /* 1 / sqrt(2 pi) */
}

INLINE vf below_zero(vf x) { return v_min((vf){0}, x); }

/* ---- the kernels: forward takes a = x; backward takes a = grad and b = x, or the output where the formula says y ---- */

ELEMENTWISE(relu_forward, 1, 0, (vf)((vi)a & ~(a <= (vf){0})))                      /* NaN <= 0 is false: NaN stays */
ELEMENTWISE(relu_backward_input, 2, 0, (vf)((vi)a & (b > (vf){0})))
ELEMENTWISE(leaky_relu_forward, 1, 0, v_select(a > (vf){0}, a, p * a))
ELEMENTWISE(leaky_relu_backward_input, 2, 0, v_select(b > (vf){0}, a, p * a))
ELEMENTWISE(elu_forward, 1, 20, v_select(a > (vf){0}, a, p * v_expm1(below_zero(a))))
ELEMENTWISE(elu_backward_input, 2, 25, v_select(b > (vf){0}, a, a * p * v_exp(below_zero(b))))
ELEMENTWISE(sigmoid_forward, 1, 35, sigmoid(a))
ELEMENTWISE(sigmoid_backward_input, 2, 0, a * (b * (1.0f - b)))                     /* b = y */
ELEMENTWISE(tanh_forward, 1, 35, v_tanh(a))
ELEMENTWISE(tanh_backward_input, 2, 0, a * (1.0f - b * b))                          /* b = y */
ELEMENTWISE(gelu_forward, 1, 60, gelu(a))
ELEMENTWISE(gelu_backward_input, 2, 60, a * gelu_slope(b))
ELEMENTWISE(silu_forward, 1, 35, a * sigmoid(a))
ELEMENTWISE(silu_backward_input, 2, 40, a * silu_slope(b))

#endif
