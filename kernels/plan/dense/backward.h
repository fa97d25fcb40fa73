/* Backward of the dense stage: input gradient, and weight gradient or at once the update. The idea is at dense.h. */
#ifndef FASTNN_DENSE_BACKWARD_H
#define FASTNN_DENSE_BACKWARD_H

#include "plan/dense/dense.h"
#include "plan/dense/sparse.h"

struct dense_backward_task {
    const struct dense *d;
    const float *x;
    float *grad_rows, *grad_columns, *grad_bias; /* of struct dense_layout; NULL where not wanted */
    struct update_numbers numbers;
    i64 output_step;                    /* outputs a task of the sweep: all where grad_x is wanted */
    int failed;                         /* no memory for a scratch */
};

/* ---- the gradient of y: times the activation's slope, packed both ways, summed for the bias ---- */

enum { DENSE_PACK_OUTPUTS = 48 };       /* a task: a multiple of DENSE_MR */

static void dense_pack_task(void *context, i64 index) {
    const struct dense_backward_task *t = context;
    const struct dense *d = t->d;
    i64 o0 = index * DENSE_PACK_OUTPUTS, o1 = i64_min(o0 + DENSE_PACK_OUTPUTS, d->O), N = d->N, O = d->O;
    float sums[3 * DENSE_PACK_OUTPUTS] __attribute__((aligned(64))) = {0}, row[DENSE_PACK_OUTPUTS] = {0};
    struct joined bias = joined_at(sums, DENSE_PACK_OUTPUTS, N);
    const i64 kept_at = dense_layout(d).kept;
    const float *kept = kept_at < 0 ? d->y : (const float *)d->work + kept_at;
    for (i64 n = 0; n < N; n++, joined_added(&bias, 1)) {
        activate_backward((int)d->activation, d->parameter, o1 - o0, d->grad_y + n * O + o0, kept + n * O + o0, row);
        for (i64 j = 0; j < o1 - o0; j += VL) v_store(sums + j, v_load(sums + j) + v_load(row + j));
        for (i64 j = 0; j < o1 - o0; j += DENSE_MR)
            memcpy(t->grad_columns + (o0 + j) * N + n * DENSE_MR, row + j, DENSE_MR * sizeof(float));
        if (t->grad_rows) {
            float *rows = t->grad_rows + n / DENSE_MR * DENSE_MR * O + n % DENSE_MR + o0 * DENSE_MR;
            for (i64 j = 0; j < o1 - o0; j++) rows[j * DENSE_MR] = row[j];
        }
    }
    joined_end(&bias);
    for (i64 j = 0; j < o1 - o0; j++) t->grad_bias[o0 + j] = sums[j];
}

/* ---- one panel ---- */

/* tile (MR, NV vectors at `step`) = or += a (K, MR) times b (K, step) */
INLINE void dense_micro(const int NV, int add, i64 K, const float *restrict a, const float *restrict b, i64 step, float *restrict tile) {
    vf acc[DENSE_MR][DENSE_NV];
    UNROLL for (int i = 0; i < DENSE_MR; i++) UNROLL for (int j = 0; j < NV; j++) acc[i][j] = (vf){0};
    for (i64 k = 0; k < K; k++) {
        vf bv[DENSE_NV];
        UNROLL for (int j = 0; j < NV; j++) bv[j] = v_load(b + j * VL);
        UNROLL for (int i = 0; i < DENSE_MR; i++) {
            vf av = v_set1(a[i]);
            UNROLL for (int j = 0; j < NV; j++) acc[i][j] += av * bv[j];
        }
        a += DENSE_MR;
        b += step;
    }
    UNROLL for (int i = 0; i < DENSE_MR; i++) UNROLL for (int j = 0; j < NV; j++) {
        float *const to = tile + i * step + j * VL;
        v_store(to, add ? v_load(to) + acc[i][j] : acc[i][j]);
    }
}

/* tile (MR, width), width a multiple of VL, rows DENSE_PANEL apart; with it DENSE_TILE_FLOATS are to be had */
enum { DENSE_TILE_FLOATS = 3 * DENSE_MR * DENSE_PANEL };

INLINE void dense_tile(i64 K, const float *a, const float *b, i64 width, float *tile) {
    const i64 run = sum_run(K);
    struct joined total = joined_at(tile, DENSE_MR * DENSE_PANEL, ceil_div(K, run));
    for (i64 k = 0; k < K; k += run, joined_added(&total, 1)) {
        const float *ak = a + k * DENSE_MR, *bk = b + k * DENSE_PANEL;
        const i64 count = i64_min(run, K - k);
        i64 j = 0;
        for (; j + DENSE_NV * VL <= width; j += DENSE_NV * VL) dense_micro(DENSE_NV, k > 0, count, ak, bk + j, DENSE_PANEL, tile + j);
        for (; j < width; j += VL) dense_micro(1, k > 0, count, ak, bk + j, DENSE_PANEL, tile + j);
    }
    joined_end(&total);
}

/* Task: the panel's columns i0 .. i1 of grad_x, and of the weight's rows o0 .. o1 the gradient or the update. */
static void dense_backward_panel(void *context, i64 index) {
    struct dense_backward_task *t = context;
    const struct dense *d = t->d;
    i64 N = d->N, I = d->I, O = d->O, panels = ceil_div(I, DENSE_PANEL);
    i64 i0 = index % panels * DENSE_PANEL, count = i64_min(DENSE_PANEL, I - i0), width = round_up(count, VL);
    i64 o0 = index / panels * t->output_step, o1 = i64_min(o0 + t->output_step, O);
    float *x = fastnn_scratch(SCRATCH_DENSE, sizeof(float) * (size_t)((N + O) * DENSE_PANEL)), *weight = x + N * DENSE_PANEL;
    float tile[DENSE_TILE_FLOATS] __attribute__((aligned(64)));
    if (!x) {
        t->failed = 1;
        return;
    }
    if (t->grad_rows) {
        dense_copy(weight, DENSE_PANEL, d->weight + i0, I, O, count, 1);
        for (i64 n = 0; n < N; n += DENSE_MR) {
            i64 rows = i64_min(DENSE_MR, N - n), at = n * I + i0;
            dense_prefetch(t->x + at, rows, I);
            dense_tile(O, t->grad_rows + n * O, weight, width, tile);
            dense_copy(d->grad_x + at, I, tile, DENSE_PANEL, rows, count, 0);
        }
    }
    if (!t->grad_columns) return;
    dense_copy(x, DENSE_PANEL, t->x + i0, I, N, count, 1);
    i64 ahead = fastnn_get_threads() * DENSE_PANEL; /* this thread's next panel, most likely */
    for (i64 o = o0; o < o1; o += DENSE_MR) {
        i64 rows = i64_min(DENSE_MR, o1 - o), at = o * I + i0;
        if (d->optimizer) dense_prefetch_update(d, at, rows);
        if (t->grad_rows && i0 + ahead < I) dense_prefetch(d->weight + at + ahead, rows, I);
        dense_tile(N, t->grad_columns + o * N, x, width, tile);
        if (d->optimizer) update_rows(&t->numbers, rows, count, tile, DENSE_PANEL, d->weight, d->weight_state, at, I);
        else dense_copy(d->grad_weight + at, I, tile, DENSE_PANEL, rows, count, 0);
    }
}

KERNEL int dense_backward(const void *arguments, struct program *program) {
    const struct dense *d = arguments;
    struct dense_layout at = dense_layout(d);
    struct dense_backward_task t = {.d = d, .x = dense_input(d, program)};
    float *work = d->work;
    t.grad_columns = work + at.grad_columns;
    t.grad_bias = work + at.grad_bias;
    if (d->grad_x) t.grad_rows = work + at.grad_rows;
    if (d->optimizer) t.numbers = update_numbers(d->optimizer, d->weight_state);
    fastnn_parallel(ceil_div(d->O, DENSE_PACK_OUTPUTS), 10.0 * (double)(d->N * d->O), dense_pack_task, &t);
    if (d->bias && d->optimizer) {
        struct update_numbers numbers = update_numbers(d->bias_optimizer, d->bias_state);
        update_rows(&numbers, 1, d->O, t.grad_bias, 0, d->bias, d->bias_state, 0, 0);
    } else if (d->bias && d->grad_bias) {
        memcpy(d->grad_bias, t.grad_bias, sizeof(float) * (size_t)d->O);
    }
    if (!d->optimizer && !d->grad_weight) t.grad_columns = NULL;
    if (dense_may_be_sparse(d) && *(const int32_t *)(work + at.sparse))
        return t.grad_columns ? dense_sparse_backward(d, program, t.grad_columns, t.grad_bias) : PROGRAM_DONE;
    t.output_step = d->grad_x ? d->O : 256;
    fastnn_parallel(ceil_div(d->I, DENSE_PANEL) * ceil_div(d->O, t.output_step),
                    (d->grad_x ? 4.0 : 2.0) * (double)d->N * (double)d->I * (double)d->O, dense_backward_panel, &t);
    return t.failed ? PROGRAM_NO_MEMORY : PROGRAM_DONE;
}

#endif
