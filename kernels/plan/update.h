/* The stage that updates a whole parameter from its gradient, and the norm that clipping asks for. No arithmetic to speak of:
 * the floor is memory, 12 bytes a float for SGD, 8 more for each array of state, 4 for the norm.
 */
#ifndef FASTNN_PLAN_UPDATE_H
#define FASTNN_PLAN_UPDATE_H

#include "base/sums.h"
#include "plan/stages.h"
#include "ops/update.h"

enum { SHARE_RUN = 1 << 10 };           /* floats that are summed, and then read again: 4 KB */

/* Task: a chunk's gradient, the weighted sum of several processes' in their order, and its update. */
static void update_chunk_of_shares(void *context, i64 index) {
    const struct update *u = context;
    const struct update_numbers numbers = update_numbers(u->optimizer, u->state);
    float grad[SHARE_RUN];
    const i64 end = i64_min((index + 1) * UPDATE_CHUNK, u->count);
    const uint64_t control = without_denormals();
    for (i64 begin = index * UPDATE_CHUNK; begin < end; begin += SHARE_RUN) {
        const i64 count = i64_min(SHARE_RUN, end - begin);
        for (i64 i = 0; i < count; i++) grad[i] = u->factor[0] * u->share[0][begin + i];
        for (i64 k = 1; k < u->shares; k++) {
            const float factor = u->factor[k], *share = u->share[k] + begin;
            for (i64 i = 0; i < count; i++) grad[i] += factor * share[i];
        }
        update_rows(&numbers, 1, count, grad, 0, u->param, u->state, begin, 0);
    }
    set_float_control(control);
}

/* param and its state, in one pass, by the optimizer's formula */
KERNEL int update_stage(const void *arguments, struct program *program) {
    const struct update *u = arguments;
    (void)program;
    if (u->shares) fastnn_parallel(ceil_div(u->count, UPDATE_CHUNK), (20.0 + 4 * (double)u->shares) * (double)u->count, update_chunk_of_shares, (void *)u);
    else update_array(u->optimizer, u->count, u->param, u->grad, u->state);
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
