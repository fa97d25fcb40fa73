/* Activations and their input gradients, element by element: y[i] = f(a[i], b[i]), all arrays (count,).
 *
 * y may be a. The arrays are cut into chunks by their length alone; each entry below is a kernel of the table. With `alike` a is
 * one number, which stands for all entries, as the gradient of a sum is: a third fewer bytes for backward. Floor: memory, 4 bytes
 * of each array for each entry.
 */
#ifndef FASTNN_ELEMENTWISE_H
#define FASTNN_ELEMENTWISE_H

#include "base/threads.h"
#include "parts/activation.h"

enum { ELEMENTWISE_CHUNK = 1 << 14 };   /* floats a task */

/* Where entries of a are read from: entry i at from[i & mask]. */
struct likeness { const float *from; i64 mask; float same[VL]; };

INLINE void liken(struct likeness *t, const float *a, int alike) {
    t->from = alike ? t->same : a;
    t->mask = alike ? 0 : -1;
    for (int j = 0; j < VL; j++) t->same[j] = alike ? *a : 0;
}

struct elementwise {
    i64 count;
    const float *b;
    float parameter;
    float *y;
    struct likeness likeness;
};

/* The kernel NAME and its task. FORMULA: y from the vectors a, b (only with 2 ARRAYS) and p, the parameter. FLOPS: of the
 * formula; memory-bound work counts four a float moved. */
#define ELEMENTWISE(NAME, ARRAYS, FLOPS, FORMULA)                                                                        \
    static void NAME##_chunk(void *context, i64 index) {                                                                 \
        const struct elementwise *const t = context;                                                                     \
        const float *const from = t->likeness.from, *const second = t->b;                                                \
        const i64 mask = t->likeness.mask;                                                                               \
        const vf p = v_set1(t->parameter);                                                                               \
        float *const y = t->y;                                                                                           \
        i64 i = index * ELEMENTWISE_CHUNK, end = i64_min(i + ELEMENTWISE_CHUNK, t->count);                               \
        (void)p, (void)second;                                                                                           \
        for (; i + VL <= end; i += VL) {                                                                                 \
            vf a = v_load(from + (i & mask)), b = ARRAYS == 2 ? v_load(second + i) : a;                                  \
            (void)b;                                                                                                     \
            v_store(y + i, FORMULA);                                                                                     \
        }                                                                                                                \
        if (i < end) {                                                                                                   \
            vf a = v_load_partial(from + (i & mask), end - i, 0), b = ARRAYS == 2 ? v_load_partial(second + i, end - i, 0) : a; \
            (void)b;                                                                                                     \
            v_store_partial(y + i, FORMULA, end - i);                                                                    \
        }                                                                                                                \
    }                                                                                                                    \
    KERNEL void NAME(i64 count, const float *a, int alike, const float *b, float parameter, float *y) {                  \
        struct elementwise t = {.count = count, .b = b, .parameter = parameter, .y = y};                                 \
        double flops = (double)count * (4 * (ARRAYS + 1) + FLOPS);                                                       \
        liken(&t.likeness, a, alike);                                                                                    \
        fastnn_parallel(ceil_div(count, ELEMENTWISE_CHUNK), flops, NAME##_chunk, &t);                                    \
    }

/* ---- the kernels: forward takes a = x; backward takes a = grad and b = x, or y = f(x) ---- */

#define FORWARD(NAME, KIND) ELEMENTWISE(NAME##_forward, 1, activation_flops(KIND), v_activate(KIND, a, p))
#define BACKWARD(NAME, KIND) ELEMENTWISE(NAME##_backward_input, 2, activation_flops(KIND), v_activate_backward(KIND, a, b, p))
#define BACKWARD_FROM_Y(NAME, KIND) ELEMENTWISE(NAME##_backward_input, 2, 2, v_activate_backward_from_y(KIND, a, b, p))

FORWARD(relu, ACTIVATION_RELU)
BACKWARD(relu, ACTIVATION_RELU)
FORWARD(leaky_relu, ACTIVATION_LEAKY_RELU)
BACKWARD(leaky_relu, ACTIVATION_LEAKY_RELU)
FORWARD(elu, ACTIVATION_ELU)
BACKWARD(elu, ACTIVATION_ELU)
FORWARD(sigmoid, ACTIVATION_SIGMOID)
BACKWARD_FROM_Y(sigmoid, ACTIVATION_SIGMOID)
FORWARD(tanh, ACTIVATION_TANH)
BACKWARD_FROM_Y(tanh, ACTIVATION_TANH)
FORWARD(gelu, ACTIVATION_GELU)
BACKWARD(gelu, ACTIVATION_GELU)
FORWARD(silu, ACTIVATION_SILU)
BACKWARD(silu, ACTIVATION_SILU)

/* ---- any activation by its number, so that a new one needs nothing here ---- */

struct any_activation {
    int kind;
    double parameter;
    i64 count;
    struct likeness likeness;           /* of x in forward, of the output's gradient in backward */
    const float *x;                     /* NULL in forward */
    float *y;
};

static void any_activation_chunk(void *context, i64 index) {
    const struct any_activation *t = context;
    const i64 start = index * ELEMENTWISE_CHUNK, count = i64_min(ELEMENTWISE_CHUNK, t->count - start);
    const i64 mask = t->likeness.mask;
    const float *a = t->likeness.from + (start & mask), *x = t->x ? t->x + start : NULL;
    const vf p = v_set1((float)t->parameter);
    float *y = t->y + start;
    if (!x) {
        activate(t->kind, t->parameter, count, a, y);
        return;
    }
#define SLOPES(KIND)                                                                                    \
    for (i64 i = 0; i < count; i += VL) {                                                               \
        const i64 lanes = i64_min(VL, count - i);                                                       \
        const vf grad = v_load_lanes(a + (i & mask), lanes, 0), at = v_load_lanes(x + i, lanes, 0);              \
        v_store_lanes(y + i, v_activate_backward(KIND, grad, at, p), lanes);                            \
    }
    ACTIVATION_CASES(t->kind, SLOPES)
#undef SLOPES
}

/* y = f(x) */
KERNEL void activation_forward(int kind, double parameter, i64 count, const float *x, float *y) {
    struct any_activation t = {.kind = kind, .parameter = parameter, .count = count, .y = y};
    liken(&t.likeness, x, 0);
    fastnn_parallel(ceil_div(count, ELEMENTWISE_CHUNK), (double)count * (8 + activation_flops(kind)), any_activation_chunk, &t);
}

/* grad_x = grad f'(x); with `alike` grad is one number */
KERNEL void activation_backward_input(int kind, double parameter, i64 count, const float *grad, int alike, const float *x, float *grad_x) {
    struct any_activation t = {.kind = kind, .parameter = parameter, .count = count, .x = x, .y = grad_x};
    liken(&t.likeness, grad, alike);
    fastnn_parallel(ceil_div(count, ELEMENTWISE_CHUNK), (double)count * (12 + activation_flops(kind)), any_activation_chunk, &t);
}

#undef FORWARD
#undef BACKWARD
#undef BACKWARD_FROM_Y

#endif
