/* An operator as a stage of a plan: a kernel of ops/, or a formula of operator_map.h, with fixed arrays.
 *
 * What is around the kernel costs some 20 ns: operands' addresses and one switch.
 */
#ifndef FASTNN_OPERATOR_H
#define FASTNN_OPERATOR_H

#include "base/random.h"
#include "ops/conv2d.h"
#include "ops/elementwise.h"
#include "ops/gemm.h"
#include "ops/group_norm.h"
#include "ops/loss.h"
#include "ops/norm_apply.h"
#include "ops/pool2d_average.h"
#include "ops/recurrent.h"
#include "ops/softmax.h"
#include "plan/operator_map.h"

enum { MATMUL_MANY = 8 };            /* so many products are shared out whole */

/* ---- operators that eager code does in NumPy ---- */

/* x (outer, size, inner) -> y, index (outer, inner): the largest of each column, or the smallest; of equal ones the first, NaN wins */
static void operator_extremum(const int64_t *n, int smallest, const float *x, float *y, int64_t *index) {
    const i64 size = n[1], inner = n[2];
    for (i64 i = 0; i < n[0] * inner; i++) {
        const float *p = x + i / inner * size * inner + i % inner;
        float best = *p;
        i64 where = 0;
        for (i64 k = 1; k < size && best == best; k++) {
            const float v = p[k * inner];
            if (smallest ? !(v >= best) : !(v <= best)) best = v, where = k;
        }
        if (y) y[i] = best;
        if (index) index[i] = where;
    }
}

/* grad_x (outer, size, inner): grad (outer, inner) at index, else zero */
static void operator_extremum_backward(const int64_t *n, const float *grad, const int64_t *index, float *grad_x) {
    memset(grad_x, 0, (size_t)(n[0] * n[1] * n[2]) * sizeof(float));
    for (i64 i = 0; i < n[0] * n[2]; i++) grad_x[i / n[2] * n[1] * n[2] + index[i] * n[2] + i % n[2]] = grad[i];
}

/* x (outer, size, inner) -> y: sums of each column up to each entry; from behind if `reversed` */
static void operator_cumsum(const int64_t *n, int reversed, const float *x, float *y) {
    const i64 size = n[1], inner = n[2], step = reversed ? -inner : inner;
    for (i64 i = 0; i < n[0] * inner; i++) {
        i64 at = i / inner * size * inner + i % inner + (reversed ? (size - 1) * inner : 0);
        double sum = 0;
        for (i64 k = 0; k < size; k++, at += step) y[at] = (float)(sum += x[at]);
    }
}

/* Entries by one or two arrays of places, all arrays of one shape with any strides; n: how many places there are of each kind (0: no
 * second array), and by how many bytes each moves.
 *
 *   pick     y[i] = x[i; places[i]]        y, x, places       x float
 *   spread   y[i; places[i]] += x[i]       y, x, places       y double, so that places that come often lose no digits
 *   put      y[i; places[i]] = x[i]        y, x, places       of several the last one stays
 *
 * A negative place counts from behind; one out of range is refused. */
static int operator_places(const struct operator_call *o, char *const *at) {
    const i64 last = o->dims - 1, row = o->size[last], arrays = o->n[1] ? 2 : 1;
    const int fixed = o->operand[2].stride[last] == 0 && (arrays == 1 || o->operand[3].stride[last] == 0);
    const i64 to = o->operand[0].stride[last], from = o->operand[1].stride[last];
    i64 count = 1;
    for (i64 d = 0; d < o->dims; d++) count *= o->size[d];
    for (i64 i = 0; i < count; i += row) {
        const struct odometer place = odometer_at(o->dims, o->size, i);
        char *y = at[0] + odometer_offset(&place, o->operand[0].stride);
        const char *x = at[1] + odometer_offset(&place, o->operand[1].stride);
        i64 moved = 0;
        for (i64 j = 0; j < row; j++, y += to, x += from) {
            if (j == 0 || !fixed) {
                moved = 0;
                for (i64 k = 0; k < arrays; k++) {
                    const struct operand *a = &o->operand[2 + k];
                    i64 found = *(const int64_t *)(at[2 + k] + odometer_offset(&place, a->stride) + j * a->stride[last]);
                    found += found < 0 ? o->n[k] : 0;
                    if (found < 0 || found >= o->n[k]) return PROGRAM_REFUSED;
                    moved += found * o->n[2 + k];
                }
            }
            if (o->kind == OPERATOR_pick) *(float *)y = *(const float *)(x + moved);
            else if (o->kind == OPERATOR_put) *(float *)(y + moved) = *(const float *)x;
            else *(double *)(y + moved) += *(const float *)x;
        }
    }
    return PROGRAM_DONE;
}

/* y (.., M, N) = a (.., M, K) @ b (.., K, N), the sizes before M and N being size[0 .. dims-1]; n: M, N, K and the strides in floats of
 * a and b within a matrix */
struct operator_products { const struct operator_call *o; char *const *at; int failed; };

/* Task: the product of one pair of matrices */
static void operator_matmul_task(void *context, i64 i) {
    struct operator_products *t = context;
    const struct operator_call *o = t->o;
    const int64_t *n = o->n;
    const struct odometer place = odometer_at(o->dims, o->size, i);
    const float *a = (const float *)(t->at[1] + odometer_offset(&place, o->operand[1].stride));
    const float *b = (const float *)(t->at[2] + odometer_offset(&place, o->operand[2].stride));
    if (sgemm(n[0], n[1], n[2], a, n[3], n[4], b, n[5], n[6], (const float *)t->at[3], (float *)t->at[0] + i * n[0] * n[1]))
        __atomic_store_n(&t->failed, -1, __ATOMIC_RELAXED);
}

/* Threads share the pairs, or, of a few large ones, each product. */
static int operator_matmul(const struct operator_call *o, char *const *at) {
    struct operator_products t = {o, at, 0};
    const double flops = 2.0 * (double)o->n[0] * (double)o->n[1] * (double)o->n[2];
    i64 count = 1;
    for (i64 d = 0; d < o->dims; d++) count *= o->size[d];
    if (count >= MATMUL_MANY) fastnn_parallel(count, flops * (double)count, operator_matmul_task, &t);
    else for (i64 i = 0; i < count; i++) operator_matmul_task(&t, i);
    return t.failed;
}

/* grad_table (V, D): the rows of grad (N, D) added where index says, but for one row, `left_out` */
static void take_rows_backward(i64 N, i64 D, i64 V, i64 left_out, const float *grad, const int64_t *index, float *grad_table) {
    memset(grad_table, 0, (size_t)(V * D) * sizeof(float));
    for (i64 i = 0; i < N; i++) {
        float *to = grad_table + index[i] * D;
        if (index[i] != left_out)
            for (i64 d = 0; d < D; d++) to[d] += grad[i * D + d];
    }
}

static int labels_fit(i64 N, i64 C, const int64_t *labels) {
    for (i64 i = 0; i < N; i++)
        if (labels[i] < 0 || labels[i] >= C) return 0;
    return 1;
}

/* Whether all of x are in 0 .. 1; with `or_nan` also where any is NaN, else not. */
static int all_within(i64 count, const float *x, int or_nan) {
    int outside = 0, nan = 0;
    for (i64 i = 0; i < count; i++) outside |= (x[i] < 0) | (x[i] > 1), nan |= x[i] != x[i];
    return or_nan ? nan || !outside : !nan && !outside;
}

/* ---- the stage ---- */

KERNEL int operator_stage(const void *arguments, struct program *program) {
    const struct operator_call *o = arguments;
    const int64_t *n = o->n;
    const struct conv2d_shape *conv = (const struct conv2d_shape *)n;
    const float p = (float)o->p[0];
    char *at[OPERATOR_ARRAYS] = {0};
    for (i64 k = 0; k < o->operands; k++) {
        const struct operand *a = &o->operand[k];
        const void *base = a->place == OPERAND_INPUT ? program->input : a->place == OPERAND_TARGET ? program->target : NULL;
        at[k] = base ? (char *)base + (intptr_t)a->data : a->data;
    }
    if (o->kind < OPERATOR_FIRST_NO_MAP) {
        operator_map(o, at);
        return PROGRAM_DONE;
    }
#define F(K) ((float *)at[K])
#define I(K) ((int64_t *)at[K])
#define ELEMENTS(NAME) case OPERATOR_##NAME: NAME(n[0], F(1), F(2), p, F(0)); return PROGRAM_DONE;
#define MATRIX(NAME) case OPERATOR_##NAME: NAME(n[0], n[1], F(1), F(2), F(0)); return PROGRAM_DONE;
#define LOSSES(NAME) case OPERATOR_##NAME: NAME(n[0], F(2), F(3), o->p[0], F(0), F(1)); return PROGRAM_DONE;
    /* planes, H, W, kh, kw, OH, OW, stride, padding, whether averages count it */
    const struct pool2d_shape pool = {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], (int)n[11]};
    switch (o->kind) {
    OPERATOR_ELEMENTS(ELEMENTS)
    OPERATOR_ROWS(MATRIX)
    OPERATOR_LOSSES(LOSSES)
    case OPERATOR_sum: return operator_sum(o, at);
    case OPERATOR_extremum: operator_extremum(n, n[3] != 0, F(2), F(0), I(1)); return PROGRAM_DONE;
    case OPERATOR_extremum_backward: operator_extremum_backward(n, F(1), I(2), F(0)); return PROGRAM_DONE;
    case OPERATOR_matmul: return operator_matmul(o, at);
    case OPERATOR_activation_forward: activation_forward((int)n[1], o->p[0], n[0], F(1), F(0)); return PROGRAM_DONE;
    case OPERATOR_activation_backward_input: activation_backward_input((int)n[1], o->p[0], n[0], F(1), F(2), F(0)); return PROGRAM_DONE;
    case OPERATOR_take_rows: /* y (N, D), table (V, D), index (N,); N, D, V */
        if (!labels_fit(n[0], n[2], I(2))) return PROGRAM_REFUSED;
        for (i64 i = 0; i < n[0]; i++) memcpy(F(0) + i * n[1], F(1) + I(2)[i] * n[1], (size_t)n[1] * sizeof(float));
        return PROGRAM_DONE;
    case OPERATOR_take_rows_backward: /* gradient of table, of y, index; N, D, V, the row without gradient or -1 */
        take_rows_backward(n[0], n[1], n[2], n[3], F(1), I(2), F(0));
        return PROGRAM_DONE;
    case OPERATOR_dropout: dropout_forward(n[0], F(1), o->p[0], ((uint64_t *)at[2])[0], ((uint64_t *)at[2])[1], F(0)); return PROGRAM_DONE;
    case OPERATOR_conv2d_forward: return conv2d_forward(conv, CONV2D_AUTO, F(1), F(2), F(3), F(0));
    case OPERATOR_conv2d_backward_input: return conv2d_backward_input(conv, CONV2D_AUTO, F(1), F(2), F(0));
    case OPERATOR_conv2d_backward_weight: return conv2d_backward_weight(conv, CONV2D_AUTO, F(2), F(3), F(0), F(1));
    case OPERATOR_max_pool2d_forward: return max_pool2d_forward(&pool, F(2), F(0), (int32_t *)at[1]);
    case OPERATOR_max_pool2d_backward_input:
        max_pool2d_backward_input(n[0], n[1] * n[2], n[5] * n[6], F(1), (const int32_t *)at[2], F(0));
        return PROGRAM_DONE;
    case OPERATOR_avg_pool2d_forward: return avg_pool2d_forward(&pool, F(1), F(0));
    case OPERATOR_avg_pool2d_backward_input: return avg_pool2d_backward_input(&pool, F(1), F(0));
    case OPERATOR_global_avg_pool2d_forward: global_avg_pool2d_forward(n[0], n[1], F(1), F(0)); return PROGRAM_DONE;
    case OPERATOR_global_avg_pool2d_backward_input: global_avg_pool2d_backward_input(n[0], n[1], F(1), F(0)); return PROGRAM_DONE;
    case OPERATOR_batch_norm_statistics: return batch_norm_statistics(n[0], n[1], n[2], F(2), F(0), F(1));
    case OPERATOR_batch_norm_forward: /* y, x, mean, var, weight, bias */
        return batch_norm_forward(n[0], n[1], n[2], F(1), F(2), F(3), F(4), F(5), o->p[0], F(0));
    case OPERATOR_batch_norm_backward_weight: /* grad_weight, grad_bias, grad, x, mean, var */
        return batch_norm_backward_weight(n[0], n[1], n[2], F(2), F(3), F(4), F(5), o->p[0], F(0), F(1));
    case OPERATOR_batch_norm_backward_input: /* grad_x, grad, x, mean, var, weight, grad_weight, grad_bias */
        return batch_norm_backward_input(n[0], n[1], n[2], F(1), F(2), F(3), F(4), F(5), F(6), F(7), o->p[0], F(0));
    case OPERATOR_softmax_cross_entropy: /* losses, gradient, logits, target: labels, or with n[2] probabilities; label smoothing, scale */
        if (!n[2] && !labels_fit(n[0], n[1], I(3))) return PROGRAM_REFUSED;
        softmax_cross_entropy(n[0], n[1], F(2), n[2] ? NULL : I(3), n[2] ? F(3) : NULL, o->p[0], o->p[1], F(0), F(1));
        return PROGRAM_DONE;
    case OPERATOR_nll: /* losses, log-probabilities, labels */
        if (!labels_fit(n[0], n[1], I(2))) return PROGRAM_REFUSED;
        for (i64 i = 0; i < n[0]; i++) F(0)[i] = -F(1)[i * n[1] + I(2)[i]];
        return PROGRAM_DONE;
    case OPERATOR_nll_backward: /* gradient, the loss's (1 or N of them), labels; scale */
        memset(at[0], 0, (size_t)(n[0] * n[1]) * sizeof(float));
        for (i64 i = 0; i < n[0]; i++) F(0)[i * n[1] + I(2)[i]] = -p * F(1)[n[2] == 1 ? 0 : i];
        return PROGRAM_DONE;
    case OPERATOR_group_norm_forward: /* y, statistics, x, weight, bias; N, C, P, groups, centred */
        group_norm_forward(n[0], n[1], n[2], n[3], n[4] != 0, F(2), F(3), F(4), o->p[0], F(0), F(1));
        return PROGRAM_DONE;
    case OPERATOR_group_norm_backward_input: /* grad_x, grad, x, statistics, weight */
        group_norm_backward_input(n[0], n[1], n[2], n[3], n[4] != 0, F(1), F(2), F(3), F(4), F(0));
        return PROGRAM_DONE;
    case OPERATOR_group_norm_backward_weight: /* grad_weight, grad_bias, grad, x, statistics */
        return group_norm_backward_weight(n[0], n[1], n[2], n[3], F(2), F(3), F(4), F(0), F(1));
    case OPERATOR_recurrent_forward: /* y, gates, extra, weight, bias, h0, c0; T, B, H, mode, reverse */
        return recurrent_forward(&(struct recurrent){
            .mode = n[3], .T = n[0], .B = n[1], .H = n[2], .reverse = n[4], .gates = F(1), .y = F(0), .extra = F(2), .weight = F(3),
            .bias = F(4), .h0 = F(5), .c0 = F(6)});
    case OPERATOR_recurrent_backward: /* grad_gates, grad_extra, grad_h0, grad_c0, grad, gates, y, extra, weight, h0, c0 */
        return recurrent_backward(&(struct recurrent){
            .mode = n[3], .T = n[0], .B = n[1], .H = n[2], .reverse = n[4], .gates = F(5), .y = F(6), .extra = F(7), .weight = F(8),
            .h0 = F(9), .c0 = F(10), .grad = F(4), .grad_gates = F(0), .grad_extra = F(1), .grad_h0 = F(2), .grad_c0 = F(3)});
    case OPERATOR_within: return all_within(n[0], F(0), n[1] != 0) ? PROGRAM_DONE : PROGRAM_REFUSED;
    case OPERATOR_cumsum: operator_cumsum(n, n[3] != 0, F(1), F(0)); return PROGRAM_DONE;
    case OPERATOR_pick: case OPERATOR_spread: case OPERATOR_put: return operator_places(o, at);
    case OPERATOR_loss:
        program->loss = *F(0);
        return isfinite(program->loss) ? PROGRAM_DONE : PROGRAM_NON_FINITE;
    default: return PROGRAM_REFUSED;
    }
#undef F
#undef I
#undef ELEMENTS
#undef MATRIX
#undef LOSSES
}

#endif
