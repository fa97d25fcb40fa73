/* The loss as a stage of a plan. */
#ifndef FASTNN_PLAN_LOSS_H
#define FASTNN_PLAN_LOSS_H

#include <math.h>

#include "ops/loss.h"
#include "plan/stages.h"

/* Losses and the gradient by loss.h's formulas; the losses are added as doubles, in order. Labels outside 0 .. C-1 and a loss that is
 * not finite end the program before anything is updated. */
KERNEL int cross_entropy_stage(const void *arguments, struct program *program) {
    const struct cross_entropy *t = arguments;
    const int64_t *labels = program->target;
    float *grad = t->grad;
    double total = 0;
    for (i64 n = 0; n < t->N; n++)
        if (labels[n] < 0 || labels[n] >= t->C) return PROGRAM_REFUSED;
    if (!grad && !(grad = fastnn_scratch(SCRATCH_PARTIAL, sizeof(float) * (size_t)(t->N * t->C)))) return PROGRAM_NO_MEMORY;
    softmax_cross_entropy(t->N, t->C, t->logits, labels, NULL, t->label_smoothing, t->mean ? 1.0 / (double)t->N : 1.0,
                          t->losses, grad);
    for (i64 n = 0; n < t->N; n++) total += t->losses[n];
    program->loss = t->mean ? total / (double)t->N : total;
    return isfinite(program->loss) ? PROGRAM_DONE : PROGRAM_NON_FINITE;
}

#endif
