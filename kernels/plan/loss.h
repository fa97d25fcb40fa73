/* The loss as a stage of a plan. */
#ifndef FASTNN_PLAN_LOSS_H
#define FASTNN_PLAN_LOSS_H

#include <math.h>

#include "base/sums.h"
#include "ops/loss.h"
#include "plan/stages.h"

INLINE int loss_has_labels(const struct loss *l) { return l->kind == LOSS_CROSS_ENTROPY || l->kind == LOSS_NLL; }
INLINE i64 loss_terms_of_row(const struct loss *l) { return l->kind >= LOSS_BCE ? l->C : 1; }

/* Whether the target, and probabilities, lie in their ranges for rows n0 .. n1. */
INLINE int loss_takes(const struct loss *l, const float *x, const void *target, i64 n0, i64 n1) {
    if (loss_has_labels(l)) {
        const int64_t *labels = target;
        for (i64 n = n0; n < n1; n++) if (labels[n] < 0 || labels[n] >= l->C) return 0;
    } else if (l->kind == LOSS_BCE) {
        for (i64 i = 0; i < (n1 - n0) * l->C; i++) if (x[i] < 0 || x[i] > 1) return 0;
    }
    return 1;
}

/* Rows n0 .. n1: their losses, the gradient (rows, C) of x (rows, C), and the sum of the losses: those of rows are added as doubles,
 * those of entries by vectors that keep their digits. */
INLINE double loss_rows(const struct loss *l, const void *target, i64 n0, i64 n1, const float *x, float *grad) {
    const i64 rows = n1 - n0, C = l->C, terms = loss_terms_of_row(l);
    const double scale = l->mean ? 1.0 / (double)(l->N * terms) : 1.0;
    const int64_t *labels = (const int64_t *)target + n0;
    const float *t = (const float *)target + n0 * C;
    float *losses = l->losses + n0 * terms;
    switch (l->kind) {
    case LOSS_CROSS_ENTROPY: softmax_cross_entropy(rows, C, x, labels, NULL, l->parameter, scale, losses, grad); break;
    case LOSS_SOFT_CROSS_ENTROPY: softmax_cross_entropy(rows, C, x, NULL, t, l->parameter, scale, losses, grad); break;
    case LOSS_NLL: nll(rows, C, x, labels, scale, losses, grad); break;
    case LOSS_BCE: bce(rows * C, x, t, 0, scale, losses, grad); break;
    case LOSS_BCE_WITH_LOGITS: bce_with_logits(rows * C, x, t, 0, scale, losses, grad); break;
    case LOSS_HUBER: huber(rows * C, x, t, l->parameter, scale, losses, grad); break;
    case LOSS_SMOOTH_L1: smooth_l1(rows * C, x, t, l->parameter, scale, losses, grad); break;
    default: mse(rows * C, x, t, 0, scale, losses, grad);
    }
    double total = 0;
    if (l->kind >= LOSS_BCE) for (i64 i = 0; i < rows * C; i += LOSS_CHUNK) total += (double)run_sum(losses + i, i64_min(LOSS_CHUNK, rows * C - i));
    else for (i64 n = 0; n < rows; n++) total += losses[n];
    return total;
}

/* The program's loss from the sum; one that is not finite ends the program before anything is updated. */
INLINE int loss_end(const struct loss *l, struct program *program, double total) {
    program->loss = l->mean ? total / (double)(l->N * loss_terms_of_row(l)) : total;
    return isfinite(program->loss) ? PROGRAM_DONE : PROGRAM_NON_FINITE;
}

KERNEL int loss_stage(const void *arguments, struct program *program) {
    const struct loss *l = arguments;
    float *grad = l->grad;
    if (!loss_takes(l, l->x, program->target, 0, l->N)) return PROGRAM_REFUSED;
    if (!grad && !(grad = fastnn_scratch(SCRATCH_PARTIAL, sizeof(float) * (size_t)(l->N * l->C)))) return PROGRAM_NO_MEMORY;
    return loss_end(l, program, loss_rows(l, program->target, 0, l->N, l->x, grad));
}

#endif
