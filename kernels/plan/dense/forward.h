/* Forward of the dense stage: y (N, O) = activation(x weight^T + bias). The idea is at dense.h. */
#ifndef FASTNN_DENSE_FORWARD_H
#define FASTNN_DENSE_FORWARD_H

#include "plan/dense/frozen.h"
#include "plan/dense/panel.h"
#include "plan/dense/sparse.h"

typedef int32_t v4_int __attribute__((vector_size(16)));

struct dense_task {
    const struct dense *d;
    struct dense_cut cut;
    const float *x;
    float *partial;                     /* (chunks, N, O) where the cut is split, else NULL */
    const uint8_t *bytes;               /* the input that a table turns into floats */
    i64 panel_images;                   /* by panels: of a task */
    int failed;                         /* no memory for a scratch */
};

/* out (DENSE_NR,): the sums of the lanes of that many vectors, each by the same tree of neighbours */
INLINE void dense_lane_sums(const vf v[DENSE_NR], float *out) {
    vf level[DENSE_NR];
    UNROLL for (int i = 0; i < DENSE_NR; i++) level[i] = v[i];
    /* every level adds neighbouring lanes and packs two vectors into one; the order of the sums stays */
    int vectors = DENSE_NR;
    UNROLL for (int width = VL; width > 1; width /= 2) {
        const int next = (vectors + 1) / 2;
        UNROLL for (int i = 0; i < next; i++) {
            vf a = level[2 * i], b = 2 * i + 1 < vectors ? level[2 * i + 1] : a;
            level[i] = V_EVEN(a, b) + V_ODD(a, b);
        }
        vectors = next;
    }
    if (DENSE_NR <= VL) v_store_partial(out, level[0], DENSE_NR);
    else UNROLL for (int i = 0; i < DENSE_NR / VL; i++) v_store(out + i * VL, level[i]);
}

/* sums (MR, NR) = or += those of x rows (MR, x_step) times w rows, over the floats [k, K), K >= VL. The last vector is one that ends at
 * K, less the lanes that have had their turn: `tail` has the others. */
INLINE void dense_dot(const int MR, int add, i64 k, i64 K, const float *x, i64 x_step, const float *const w[DENSE_NR], vi tail,
                      const float *next_w, float sums[][DENSE_NR]) {
    vf acc[DENSE_IMAGES][DENSE_NR], xv[DENSE_IMAGES];
    UNROLL for (int m = 0; m < MR; m++) UNROLL for (int j = 0; j < DENSE_NR; j++) acc[m][j] = (vf){0};
    for (; k + VL <= K; k += VL) {
        __builtin_prefetch(next_w + k, 0, 2);
        UNROLL for (int m = 0; m < MR; m++) xv[m] = dense_hold(v_load(x + m * x_step + k));
        UNROLL for (int j = 0; j < DENSE_NR; j++) {
            vf wv = dense_hold(v_load(w[j] + k));
            UNROLL for (int m = 0; m < MR; m++) acc[m][j] += xv[m] * wv;
        }
    }
    if (k < K) {
        k = K - VL;
        UNROLL for (int m = 0; m < MR; m++) xv[m] = (vf)((vi)v_load(x + m * x_step + k) & tail);
        UNROLL for (int j = 0; j < DENSE_NR; j++) {
            vf wv = dense_hold((vf)((vi)v_load(w[j] + k) & tail));
            UNROLL for (int m = 0; m < MR; m++) acc[m][j] += xv[m] * wv;
        }
    }
    UNROLL for (int m = 0; m < MR; m++) {
        float run[DENSE_NR];
        dense_lane_sums(acc[m], add ? run : sums[m]);
        if (add) UNROLL for (int j = 0; j < DENSE_NR; j++) sums[m][j] += run[j];
    }
}

/* The same for rows shorter than a vector. */
static void dense_dot_short(i64 rows, i64 K, const float *x, i64 x_step, const float *const w[DENSE_NR], float sums[][DENSE_NR]) {
    for (i64 m = 0; m < rows; m++) for (int j = 0; j < DENSE_NR; j++) {
        sums[m][j] = 0;
        for (i64 k = 0; k < K; k++) sums[m][j] += x[m * x_step + k] * w[j][k];
    }
}

/* y (rows, outputs), row step O, <- sums, plus what is there, plus bias (DENSE_NR,), activated: the last three where wanted */
INLINE void dense_emit(i64 rows, i64 outputs, float sums[][DENSE_NR], float *y, i64 O, int add, const float *bias, int relu) {
    for (i64 m = 0; m < rows; m++, y += O) {
        if (outputs < DENSE_NR && add) for (i64 j = 0; j < outputs; j++) sums[m][j] += y[j];
        UNROLL for (int j = 0; j < DENSE_NR; j += 4) {
            v4 sum = *(const v4_unaligned *)(sums[m] + j) + *(const v4_unaligned *)(bias + j);
            if (outputs == DENSE_NR && add) sum += *(const v4_unaligned *)(y + j);
            if (relu) sum = (v4)((v4_int)sum & ~(sum <= (v4){0})); /* keeps NaN */
            *(v4_unaligned *)(outputs == DENSE_NR ? y + j : sums[m] + j) = sum;
        }
        if (outputs < DENSE_NR) for (i64 j = 0; j < outputs; j++) y[j] = sums[m][j];
    }
}

/* One chunk of I: y block (n0 .. n1, o0 .. o1) */
static void dense_forward_block(const struct dense_task *t, i64 n0, i64 n1, i64 o0, i64 o1, i64 k0, i64 k1, float *y, int add, int last) {
    const struct dense *d = t->d;
    const i64 K = k1 - k0, run = sum_run(K / VL) * VL;
    const int relu = last && d->activation == ACTIVATION_RELU;
    const vi tail = v_count(0, 1) >= v_set1_int((int32_t)(VL - K % VL));
    for (i64 o = o0; o < o1; o += DENSE_NR) {
        const float *w[DENSE_NR];
        i64 outputs = i64_min(DENSE_NR, o1 - o);
        float bias[DENSE_NR] = {0};
        if (last && d->bias) memcpy(bias, d->bias + o, (size_t)outputs * sizeof(float));
        for (i64 j = 0; j < DENSE_NR; j++) w[j] = d->weight + (o + i64_min(j, outputs - 1)) * d->I + k0;
        for (i64 n = n0; n < n1; n += DENSE_IMAGES) {
            float sums[DENSE_IMAGES][DENSE_NR];
            const float *x = t->x + n * d->I + k0;
            i64 rows = i64_min(DENSE_IMAGES, n1 - n);
            const float *next_w = d->weight + i64_min(o + DENSE_NR + (n - n0) / DENSE_IMAGES % DENSE_NR, d->O - 1) * d->I + k0;
            if (K < VL) dense_dot_short(rows, K, x, d->I, w, sums);
            else for (i64 k = 0, end; k < K; k = end) {
                end = K - k < run + VL ? K : k + run;
                if (rows == 1) dense_dot(1, k > 0, k, end, x, d->I, w, tail, next_w, sums);
                else if (rows == 2) dense_dot(2, k > 0, k, end, x, d->I, w, tail, next_w, sums);
                else dense_dot(DENSE_IMAGES, k > 0, k, end, x, d->I, w, tail, next_w, sums);
            }
            dense_emit(rows, outputs, sums, y + n * d->O + o, d->O, add, bias, relu);
        }
    }
}

/* The same by as many images as leave their rows in L1 while the outputs pass, where those are at least two tiles. */
static void dense_forward_chunk(const struct dense_task *t, i64 n0, i64 n1, i64 o0, i64 o1, i64 k0, i64 k1, float *y, int add, int last) {
    const i64 tiles = DENSE_NEAR / ((k1 - k0) * DENSE_IMAGES), images = tiles < 2 ? n1 - n0 : tiles * DENSE_IMAGES;
    for (i64 n = n0; n < n1; n += images)
        dense_forward_block(t, n, i64_min(n + images, n1), o0, o1, k0, k1, y, add, last);
}

static void dense_forward_task(void *context, i64 index) {
    const struct dense_task *t = context;
    const struct dense *d = t->d;
    const struct dense_cut *cut = &t->cut;
    i64 o0 = index % cut->output_blocks * cut->outputs, o1 = i64_min(o0 + cut->outputs, d->O);
    index /= cut->output_blocks;
    i64 n0 = index % cut->image_blocks * cut->images, n1 = i64_min(n0 + cut->images, d->N);
    index /= cut->image_blocks;
    if (cut->split) {
        float *y = t->partial + index * round_up(d->N * d->O, 16);
        dense_forward_chunk(t, n0, n1, o0, o1, index * cut->chunk, i64_min((index + 1) * cut->chunk, d->I), y, 0, 0);
        return;
    }
    for (i64 c = 0; c < cut->chunks; c++)
        dense_forward_chunk(t, n0, n1, o0, o1, c * cut->chunk, i64_min((c + 1) * cut->chunk, d->I), d->y, c > 0, c == cut->chunks - 1);
    dense_activate(d, n0, n1, o0, o1);
}

enum { DENSE_FINISH_ROWS = 16 };

/* Task: some rows of y from the partial sums, in the order of the chunks. */
static void dense_finish_task(void *context, i64 index) {
    const struct dense_task *t = context;
    const struct dense *d = t->d;
    i64 n1 = i64_min((index + 1) * DENSE_FINISH_ROWS, d->N), step = round_up(d->N * d->O, 16);
    for (i64 n = index * DENSE_FINISH_ROWS; n < n1; n++) {
        for (i64 o = 0; o < d->O; o += VL) {
            i64 lanes = i64_min(VL, d->O - o);
            const float *partial = t->partial + n * d->O + o;
            struct folded chunks = {};
            for (i64 c = 0; c < t->cut.chunks; c++) fold(&chunks, v_load_lanes(partial + c * step, lanes, 0), c);
            vf sum = folded_sum(chunks);
            if (d->bias) sum += v_load_lanes(d->bias + o, lanes, 0);
            if (d->activation == ACTIVATION_RELU) sum = v_max((vf){0}, sum);
            v_store_lanes(d->y + n * d->O + o, sum, lanes);
        }
    }
    dense_activate(d, index * DENSE_FINISH_ROWS, n1, 0, d->O);
}

/* ---- by panels of outputs: lanes along O, where images are many enough to pay for transposing the weight ---- */

/* Task: a panel of outputs for a part of the images. */
static void dense_forward_panel(void *context, i64 index) {
    struct dense_task *t = context;
    const struct dense *d = t->d;
    const i64 I = d->I, O = d->O, panels = dense_panels(O);
    const struct dense_span of = dense_panel_at(O, index % panels);
    const i64 o0 = of.begin, outputs = of.count;
    const i64 n0 = index / panels * t->panel_images, n1 = i64_min(n0 + t->panel_images, d->N);
    float bias[DENSE_PANEL] __attribute__((aligned(64))) = {0};
    float tile[DENSE_TILE_FLOATS] __attribute__((aligned(64)));
    float *weight = fastnn_scratch(SCRATCH_DENSE, sizeof(float) * (size_t)(I * DENSE_PANEL));
    if (!weight) {
        t->failed = 1;
        return;
    }
    pack_panel(weight, d->weight + o0 * I, outputs, of.width, I, 1, I, DENSE_PANEL);
    if (d->bias) memcpy(bias, d->bias + o0, sizeof(float) * (size_t)outputs);
    for (i64 n = n0; n < n1; n += DENSE_ROWS) {
        const i64 rows = i64_min(DENSE_ROWS, n1 - n);
        dense_tile(rows, I, t->x + n * I, I, weight, of.width, tile);
        for (i64 r = 0; r < rows; r++) for (i64 j = 0; j < outputs; j += VL) {
            vf v = v_load(tile + r * DENSE_PANEL + j) + v_load(bias + j);
            if (d->activation == ACTIVATION_RELU) v = v_max((vf){0}, v);
            v_store_lanes(d->y + (n + r) * O + o0 + j, v, i64_min(VL, outputs - j));
        }
        dense_activate(d, n, n + rows, o0, o0 + outputs);
    }
}

/* Task: one image through the table. */
static void dense_convert_task(void *context, i64 n) {
    const struct dense_task *t = context;
    const struct dense *d = t->d;
    i64 per_channel = d->I / d->channels;
    const uint8_t *bytes = t->bytes + n * d->I;
    float *restrict x = (float *)t->x + n * d->I;
    for (i64 c = 0; c < d->channels; c++) {
        const float *table = d->table + c * 256;
        for (i64 i = c * per_channel; i < (c + 1) * per_channel; i++) x[i] = table[bytes[i]];
    }
}

KERNEL int dense_forward(const void *arguments, struct program *program) {
    const struct dense *d = arguments;
    struct dense_task t = {.d = d, .cut = dense_cut(d), .x = dense_input(d, program), .bytes = program->input};
    double weights = (double)d->I * (double)d->O, flops = 2.0 * (double)d->N * weights;
    int status;
    if (dense_is_frozen(d)) {
        dense_frozen_forward(d, program);
        return PROGRAM_DONE;
    }
    if (dense_may_be_sparse(d) && dense_sparse_forward(d, program, &status)) return status;
    if (d->table) fastnn_parallel(d->N, 10.0 * (double)(d->N * d->I), dense_convert_task, &t);
    if (dense_by_panels(d)) {
        t.panel_images = dense_panel_images(d, dense_panels(d->O), d->I);
        fastnn_parallel(dense_panels(d->O) * ceil_div(d->N, t.panel_images), flops + 20.0 * weights, dense_forward_panel, &t);
        return t.failed ? PROGRAM_NO_MEMORY : PROGRAM_DONE;
    }
    if (t.cut.split) t.partial = (float *)d->work + dense_layout(d).partial;
    /* reading a weight takes the time of some 20 FLOPs */
    fastnn_parallel(t.cut.output_blocks * t.cut.image_blocks * (t.cut.split ? t.cut.chunks : 1), flops + 20.0 * weights,
                    dense_forward_task, &t);
    if (t.cut.split)
        fastnn_parallel(ceil_div(d->N, DENSE_FINISH_ROWS), (double)(t.cut.chunks * d->N * d->O), dense_finish_task, &t);
    return PROGRAM_DONE;
}

#endif
