/* Stages that update whole parameters from their gradients, and what goes before: adding up the gradients of several batches, and
 * clipping their norm. No arithmetic to speak of: the floor is memory, 12 bytes a float for SGD, 20 with momentum, 28 for
 * Adam, 12 for adding up, 4 for the norm.
 */
#ifndef FASTNN_PLAN_UPDATE_H
#define FASTNN_PLAN_UPDATE_H

#include <math.h>

#include "stages.h"
#include "update.h"

/* param and its state, in one pass, by the optimizer's formula */
KERNEL int update_stage(const void *arguments, struct program *program) {
    const struct update *u = arguments;
    (void)program;
    update_array(u->optimizer, u->count, u->param, u->grad, u->state1, u->state2);
    return PROGRAM_DONE;
}

/* ---- adding up ---- */

/* total = grad for the first batch, then total += grad */
struct accumulate {
    int64_t count;
    float *total;
    const float *grad;
    const int64_t *batches;             /* that are in total already */
};

static void accumulate_chunk(void *context, i64 index) {
    const struct accumulate *a = context;
    i64 begin = index * UPDATE_CHUNK, end = i64_min(begin + UPDATE_CHUNK, a->count);
    float *restrict total = a->total;
    const float *restrict grad = a->grad;
    if (*a->batches == 0) memcpy(total + begin, grad + begin, (size_t)(end - begin) * sizeof(float));
    else for (i64 i = begin; i < end; i++) total[i] += grad[i];
}

KERNEL int accumulate_stage(const void *arguments, struct program *program) {
    struct accumulate a = *(const struct accumulate *)arguments;
    (void)program;
    fastnn_parallel(ceil_div(a.count, UPDATE_CHUNK), 12.0 * (double)a.count, accumulate_chunk, &a);
    return PROGRAM_DONE;
}

/* ---- the norm of all gradients together ---- */

struct gradient { const float *grad; int64_t count; };

/* norm = the square root of the sum of all squares; scale of each optimizer = min(1, max_norm / (norm + 1e-6)), as
 * torch.nn.utils.clip_grad_norm_ has it. A norm that is not finite ends the program before anything is updated. */
struct grad_norm {
    int64_t gradients, optimizers;
    const struct gradient *gradient;    /* (gradients,) */
    struct optimizer *const *optimizer; /* (optimizers,) */
    double max_norm;
    double *partial;                    /* grad_norm_partials() of them */
    double *norm;                       /* out */
};

KERNEL i64 grad_norm_partials(const struct grad_norm *t) {
    i64 chunks = 0;
    for (i64 i = 0; i < t->gradients; i++) chunks += ceil_div(t->gradient[i].count, UPDATE_CHUNK);
    return chunks;
}

/* Task: the sum of squares of one chunk, the index-th of all arrays'. */
static void grad_norm_chunk(void *context, i64 index) {
    const struct grad_norm *t = context;
    const struct gradient *g = t->gradient;
    i64 chunk = index, chunks;
    vf sum[4] = {{0}, {0}, {0}, {0}};
    double total = 0;
    for (; chunk >= (chunks = ceil_div(g->count, UPDATE_CHUNK)); g++) chunk -= chunks;
    i64 i = chunk * UPDATE_CHUNK, end = i64_min(i + UPDATE_CHUNK, g->count);
    for (; i + 4 * VL <= end; i += 4 * VL) UNROLL for (int j = 0; j < 4; j++) {
        vf v = v_load(g->grad + i + j * VL);
        sum[j] += v * v;
    }
    for (; i < end; i++) total += (double)g->grad[i] * (double)g->grad[i];
    t->partial[index] = total + (double)v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

KERNEL int grad_norm_stage(const void *arguments, struct program *program) {
    struct grad_norm t = *(const struct grad_norm *)arguments;
    i64 chunks = grad_norm_partials(&t);
    double total = 0;
    (void)program;
    fastnn_parallel(chunks, 8.0 * (double)(chunks * UPDATE_CHUNK), grad_norm_chunk, &t);
    for (i64 i = 0; i < chunks; i++) total += t.partial[i];
    *t.norm = sqrt(total);
    if (!isfinite(*t.norm)) return PROGRAM_NON_FINITE;
    for (i64 i = 0; i < t.optimizers; i++) t.optimizer[i]->scale = fmin(1, t.max_norm / (*t.norm + 1e-6));
    return PROGRAM_DONE;
}

#endif
