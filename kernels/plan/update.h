/* The stage that updates a whole parameter from its gradient, and the norm that clipping asks for. No arithmetic to speak of:
 * the floor is memory, 12 bytes a float for SGD, 8 more for each array of state, 4 for the norm.
 */
#ifndef FASTNN_PLAN_UPDATE_H
#define FASTNN_PLAN_UPDATE_H

#include "base/sums.h"
#include "plan/stages.h"
#include "ops/update.h"

/* param and its state, in one pass, by the optimizer's formula */
KERNEL int update_stage(const void *arguments, struct program *program) {
    const struct update *u = arguments;
    (void)program;
    update_array(u->optimizer, u->count, u->param, u->grad, u->state);
    return PROGRAM_DONE;
}

/* ---- the sum of the squares of an array ---- */

struct squares { i64 count; const float *x; double *partial; };

/* Task: one chunk's sum. */
static void squares_chunk(void *context, i64 index) {
    const struct squares *t = context;
    i64 i = index * UPDATE_CHUNK, end = i64_min(i + UPDATE_CHUNK, t->count);
    double total = 0;
    while (i + VL <= end) {
        vf sum[4] = {{0}};
        const i64 stop = i64_min(i + SUM_RUN * 4 * VL, end);
        for (; i + 4 * VL <= stop; i += 4 * VL) UNROLL for (int j = 0; j < 4; j++) {
            vf v = v_load(t->x + i + j * VL);
            sum[j] += v * v;
        }
        for (; i + VL <= stop; i += VL) sum[0] += v_load(t->x + i) * v_load(t->x + i);
        total += (double)v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
    }
    for (; i < end; i++) total += (double)t->x[i] * (double)t->x[i];
    t->partial[index] = total;
}

/* total = sum of x[i]^2, chunk by chunk in order; 0, or -1 without memory */
KERNEL int sum_of_squares(i64 count, const float *x, double *total) {
    i64 chunks = ceil_div(count, UPDATE_CHUNK);
    struct squares t = {count, x, fastnn_scratch(SCRATCH_PARTIAL, (size_t)chunks * sizeof(double))};
    if (!t.partial) return -1;
    fastnn_parallel(chunks, 8.0 * (double)count, squares_chunk, &t);
    *total = 0;
    for (i64 i = 0; i < chunks; i++) *total += t.partial[i];
    return 0;
}

#endif
