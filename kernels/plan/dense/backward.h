/* Backward of the dense stage: input gradient, and weight gradient or at once the update. The idea is at dense.h. */
#ifndef FASTNN_DENSE_BACKWARD_H
#define FASTNN_DENSE_BACKWARD_H

#include "plan/dense/panel.h"
#include "plan/dense/sparse.h"

struct dense_backward_task {
    const struct dense *d;
    const float *x;
    float *grad_columns, *grad_bias;    /* of struct dense_layout; the first NULL where not wanted */
    struct update_numbers numbers;
    i64 panel_images, output_step;      /* images and outputs of a task */
    int failed;                         /* no memory for a scratch */
};

/* ---- the gradient of y: times the activation's slope where it lies, packed for grad_weight, summed for the bias ---- */

enum { DENSE_PACK_OUTPUTS = 48 };       /* a task: a multiple of DENSE_MR */

static void dense_pack_task(void *context, i64 index) {
    const struct dense_backward_task *t = context;
    const struct dense *d = t->d;
    const i64 o0 = index * DENSE_PACK_OUTPUTS, count = i64_min(DENSE_PACK_OUTPUTS, d->O - o0), N = d->N, O = d->O;
    float sums[3 * DENSE_PACK_OUTPUTS] __attribute__((aligned(64))) = {0}, row[DENSE_PACK_OUTPUTS] __attribute__((aligned(64))) = {0};
    struct joined bias = joined_at(sums, DENSE_PACK_OUTPUTS, N);
    const i64 kept_at = dense_layout(d).kept;
    const float *kept = (kept_at < 0 ? d->y : (const float *)d->work + kept_at) + o0;
    for (i64 n = 0; n < N; n++, joined_added(&bias, 1)) {
        float *const grad = d->grad_y + n * O + o0;
        if (d->activation != ACTIVATION_NONE) activate_backward((int)d->activation, d->parameter, count, grad, kept + n * O, grad);
        for (i64 j = 0; j < count; j += VL) {
            const vf v = v_load_lanes(grad + j, i64_min(VL, count - j), 0);
            v_store(row + j, v);
            v_store(sums + j, v_load(sums + j) + v);
        }
        if (t->grad_columns) for (i64 j = 0; j < count; j += DENSE_MR)
            memcpy(t->grad_columns + (o0 + j) * N + n * DENSE_MR, row + j, DENSE_MR * sizeof(float));
    }
    joined_end(&bias);
    for (i64 j = 0; j < count; j++) t->grad_bias[o0 + j] = sums[j];
}

/* Task: the panel's columns of grad_x, for a part of the images. */
static void dense_backward_input_panel(void *context, i64 index) {
    struct dense_backward_task *t = context;
    const struct dense *d = t->d;
    const i64 I = d->I, O = d->O, panels = dense_panels(I);
    const struct dense_span of = dense_panel_at(I, index % panels);
    const i64 n0 = index / panels * t->panel_images, n1 = i64_min(n0 + t->panel_images, d->N);
    float *weight = fastnn_scratch(SCRATCH_DENSE, sizeof(float) * (size_t)(O * DENSE_PANEL));
    float tile[DENSE_TILE_FLOATS] __attribute__((aligned(64)));
    if (!weight) {
        t->failed = 1;
        return;
    }
    dense_copy(weight, DENSE_PANEL, d->weight + of.begin, I, O, of.count, 1);
    for (i64 n = n0; n < n1; n += DENSE_ROWS) {
        const i64 rows = i64_min(DENSE_ROWS, n1 - n);
        dense_tile(rows, O, d->grad_y + n * O, O, weight, of.width, tile);
        dense_copy(d->grad_x + n * I + of.begin, I, tile, DENSE_PANEL, rows, of.count, 0);
    }
}

/* Task: the gradient, or the update, of the panel's columns of the weight, for a part of its rows. */
static void dense_backward_weight_panel(void *context, i64 index) {
    struct dense_backward_task *t = context;
    const struct dense *d = t->d;
    const i64 N = d->N, I = d->I, panels = dense_panels(I);
    const struct dense_span of = dense_panel_at(I, index % panels);
    const i64 o0 = index / panels * t->output_step, o1 = i64_min(o0 + t->output_step, d->O);
    float *x = fastnn_scratch(SCRATCH_DENSE, sizeof(float) * (size_t)(N * DENSE_PANEL));
    float tile[DENSE_TILE_FLOATS] __attribute__((aligned(64)));
    if (!x) {
        t->failed = 1;
        return;
    }
    dense_copy(x, DENSE_PANEL, t->x + of.begin, I, N, of.count, 1);
    for (i64 o = o0; o < o1; o += DENSE_ROWS) {
        const i64 rows = i64_min(DENSE_ROWS, o1 - o), at = o * I + of.begin;
        if (d->optimizer) dense_prefetch_update(d, at, rows);
        dense_packed_tile(rows, N, t->grad_columns + o * N, x, of.width, tile);
        if (d->optimizer) update_rows(&t->numbers, rows, of.count, tile, DENSE_PANEL, d->weight, d->weight_state, at, I);
        else dense_copy(d->grad_weight + at, I, tile, DENSE_PANEL, rows, of.count, 0);
    }
}

KERNEL int dense_backward(const void *arguments, struct program *program) {
    const struct dense *d = arguments;
    struct dense_layout at = dense_layout(d);
    struct dense_backward_task t = {.d = d, .x = dense_input(d, program)};
    float *work = d->work;
    if (d->optimizer || d->grad_weight) t.grad_columns = work + at.grad_columns;
    t.grad_bias = work + at.grad_bias;
    if (d->optimizer) t.numbers = update_numbers(d->optimizer, d->weight_state);
    fastnn_parallel(ceil_div(d->O, DENSE_PACK_OUTPUTS), 10.0 * (double)(d->N * d->O), dense_pack_task, &t);
    if (d->bias && d->optimizer) {
        struct update_numbers numbers = update_numbers(d->bias_optimizer, d->bias_state);
        update_rows(&numbers, 1, d->O, t.grad_bias, 0, d->bias, d->bias_state, 0, 0);
    } else if (d->bias && d->grad_bias) {
        memcpy(d->grad_bias, t.grad_bias, sizeof(float) * (size_t)d->O);
    }
    if (dense_may_be_sparse(d) && *(const int32_t *)(work + at.sparse))
        return t.grad_columns ? dense_sparse_backward(d, program, t.grad_columns, t.grad_bias) : PROGRAM_DONE;
    const i64 panels = dense_panels(d->I), parts = d->N <= DENSE_PACK_OUTPUTS ? DENSE_TASKS : ceil_div(DENSE_TASKS, panels);
    const double weights = (double)d->I * (double)d->O, flops = 2.0 * (double)d->N * weights;
    if (d->grad_x) { /* by the weight as it is before its update */
        t.panel_images = dense_panel_images(d, panels, d->O);
        fastnn_parallel(panels * ceil_div(d->N, t.panel_images), flops, dense_backward_input_panel, &t);
    }
    t.output_step = i64_max(DENSE_PANEL_OUTPUTS, i64_min(DENSE_STEP_OUTPUTS, round_up(ceil_div(d->O, parts), DENSE_ROWS)));
    if (t.grad_columns && !t.failed) fastnn_parallel(panels * ceil_div(d->O, t.output_step), flops + 40.0 * weights, dense_backward_weight_panel, &t);
    return t.failed ? PROGRAM_NO_MEMORY : PROGRAM_DONE;
}

#endif
