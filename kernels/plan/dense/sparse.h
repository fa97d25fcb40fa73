/* The dense stage on images most of which is background, as of digits: work is done for the rest only.
 *
 * With c the background, x = c + x' where x' is zero in most places. Of bytes c is what a zero becomes, of floats the first one of the
 * batch, if more than half of the first image is the same:
 *   y = x' weight^T + (bias + c * the sum of the weight's row),   grad_weight = grad^T x' + c * the sum of grad's column
 * which is the same but for rounding. Lanes run along the outputs, in panels of 48:
 *   forward: the panel's weights are transposed to (I, 48); for four images at a time, a list of the pixels that any of them has,
 *     with x' of all four, and a tile of 4 x 48 sums that runs down the list. MNIST: 40 % of the products are left.
 *   backward: for four neighbouring pixels, a list of the images that have any of them; the tile 4 x 48 is transposed to the weight's
 *     order and goes into the update as in dense/backward.h. MNIST: 29 % of the products are left.
 * Whether it pays is seen in the lists of the forward, from the data alone.
 */
#ifndef FASTNN_DENSE_SPARSE_H
#define FASTNN_DENSE_SPARSE_H

#include "plan/dense/dense.h"
#include "ops/gemm.h"

#define DENSE_SPARSE_SHARE 0.6          /* of the products left, up to which it pays */

/* Lists in the work memory, one for each group of images (forward) or of pixels (backward): `most` entries each. */
struct dense_lists {
    i64 groups, most;
    int32_t *count;                     /* (groups,) */
    int32_t *at;                        /* (groups, most): the pixel or the image */
    float *value;                       /* (groups, most, DENSE_GROUP): x' */
};

struct dense_sparse_task {
    const struct dense *d;
    const void *input;                  /* (N, I): bytes where there is a table, else floats */
    float background;                   /* c of floats; that of bytes is in the table */
    struct dense_lists lists;
    const float *grad_columns, *grad_bias;  /* backward: as dense/backward.h has them */
    struct update_numbers numbers;
    int failed;
};

INLINE struct dense_lists dense_lists(float *memory, i64 groups, i64 most) {
    struct dense_lists l = {groups, round_up(most, 16), (int32_t *)memory, NULL, NULL};
    l.value = memory + round_up(groups, 16);
    l.at = (int32_t *)(l.value + groups * l.most * DENSE_GROUP);
    return l;
}

/* What the bytes of pixel i become, and c there. */
INLINE const float *dense_table(const struct dense *d, i64 i) { return d->table + i / (d->I / d->channels) * 256; }
INLINE float dense_background(const struct dense_sparse_task *t, i64 i) { return t->d->table ? dense_table(t->d, i)[0] : t->background; }

/* ---- lists ---- */

/* Task: the pixels that any of four images has. */
static void dense_list_pixels(void *context, i64 group) {
    const struct dense_sparse_task *t = context;
    const struct dense *d = t->d;
    i64 n0 = group * DENSE_GROUP, rows = i64_min(DENSE_GROUP, d->N - n0), per_channel = d->I / d->channels, count = 0;
    const uint8_t *bytes[DENSE_GROUP];
    int32_t *at = t->lists.at + group * t->lists.most;
    float *value = t->lists.value + group * t->lists.most * DENSE_GROUP;
    for (i64 m = 0; m < DENSE_GROUP; m++) bytes[m] = (const uint8_t *)t->input + (n0 + i64_min(m, rows - 1)) * d->I;
    for (i64 c = 0; c < d->channels; c++) {
        const float *table = d->table + c * 256;
        for (i64 i = c * per_channel; i < (c + 1) * per_channel; i++) {
            if (!(bytes[0][i] | bytes[1][i] | bytes[2][i] | bytes[3][i])) continue;
            at[count] = (int32_t)i;
            UNROLL for (int m = 0; m < DENSE_GROUP; m++) value[count * DENSE_GROUP + m] = table[bytes[m][i]] - table[0];
            count++;
        }
    }
    t->lists.count[group] = (int32_t)count;
}

/* `pixels`: a constant, where they are all four */
INLINE i64 dense_list_group(const int pixels, const struct dense *d, const uint8_t *bytes, const float *const table[DENSE_GROUP],
                            int32_t *restrict at, float *restrict value) {
    i64 count = 0;
    for (i64 n = 0; n < d->N; n++) {        /* no branch: which images have them is hard to foresee */
        uint32_t four = 0;
        memcpy(&four, bytes + n * d->I, (size_t)pixels);
        at[count] = (int32_t)n;
        count += four != 0;
    }
    for (i64 k = 0; k < count; k++) UNROLL for (int j = 0; j < DENSE_GROUP; j++)
        value[k * DENSE_GROUP + j] = j < pixels ? table[j][bytes[at[k] * d->I + j]] - table[j][0] : 0;
    return count;
}

/* Task: the images that have any of four pixels. */
static void dense_list_images(void *context, i64 group) {
    const struct dense_sparse_task *t = context;
    const struct dense *d = t->d;
    i64 i0 = group * DENSE_GROUP, pixels = i64_min(DENSE_GROUP, d->I - i0);
    int32_t *at = t->lists.at + group * t->lists.most;
    float *value = t->lists.value + group * t->lists.most * DENSE_GROUP;
    const float *table[DENSE_GROUP];
    for (i64 j = 0; j < DENSE_GROUP; j++) table[j] = dense_table(d, i0 + i64_min(j, pixels - 1));
    const uint8_t *bytes = (const uint8_t *)t->input + i0;
    i64 count = pixels == DENSE_GROUP ? dense_list_group(DENSE_GROUP, d, bytes, table, at, value)
                                      : dense_list_group((int)pixels, d, bytes, table, at, value);
    t->lists.count[group] = (int32_t)count;
}

/* The same two of floats. */
static void dense_list_float_pixels(void *context, i64 group) {
    const struct dense_sparse_task *t = context;
    const struct dense *d = t->d;
    const float c = t->background, *x[DENSE_GROUP];
    i64 n0 = group * DENSE_GROUP, rows = i64_min(DENSE_GROUP, d->N - n0), count = 0, i = 0;
    int32_t *restrict at = t->lists.at + group * t->lists.most;
    float *restrict value = t->lists.value + group * t->lists.most * DENSE_GROUP;
    for (i64 m = 0; m < DENSE_GROUP; m++) x[m] = (const float *)t->input + (n0 + i64_min(m, rows - 1)) * d->I;
    for (; i + 4 <= d->I; i += 4) {         /* no branch but for where no image has any: which does is hard to foresee */
        float images[4 * DENSE_GROUP], pixels[4 * DENSE_GROUP];
        vi4 any = {0};
        UNROLL for (int m = 0; m < DENSE_GROUP; m++) {
            const v4 v = *(const v4_unaligned *)(x[m] + i) - c;
            any |= v != 0.0f;
            memcpy(images + 4 * m, &v, sizeof v);
        }
        if (!(any[0] | any[1] | any[2] | any[3])) continue;
        transpose_4x4(pixels, DENSE_GROUP, images, 4);
        UNROLL for (int q = 0; q < 4; q++) {
            at[count] = (int32_t)(i + q);
            memcpy(value + count * DENSE_GROUP, pixels + q * DENSE_GROUP, DENSE_GROUP * sizeof(float));
            count -= any[q];
        }
    }
    for (; i < d->I; i++) {
        at[count] = (int32_t)i;
        UNROLL for (int m = 0; m < DENSE_GROUP; m++) value[count * DENSE_GROUP + m] = x[m][i] - c;
        count += (x[0][i] != c) | (x[1][i] != c) | (x[2][i] != c) | (x[3][i] != c);
    }
    t->lists.count[group] = (int32_t)count;
}

static void dense_list_float_images(void *context, i64 group) {
    const struct dense_sparse_task *t = context;
    const struct dense *d = t->d;
    const float c = t->background;
    i64 i0 = group * DENSE_GROUP, pixels = i64_min(DENSE_GROUP, d->I - i0), count = 0;
    int32_t *restrict at = t->lists.at + group * t->lists.most;
    float *restrict value = t->lists.value + group * t->lists.most * DENSE_GROUP;
    for (i64 n = 0; n < d->N; n++) {
        const float *x = (const float *)t->input + n * d->I + i0;
        int any = 0;
        at[count] = (int32_t)n;
        if (pixels == DENSE_GROUP) {
            const v4 v = *(const v4_unaligned *)x - c;
            const vi4 each = v != 0.0f;
            memcpy(value + count * DENSE_GROUP, &v, sizeof v);
            count += (each[0] | each[1] | each[2] | each[3]) != 0;
            continue;
        }
        for (int j = 0; j < DENSE_GROUP; j++) {
            float v = j < pixels ? x[j] - c : 0;
            value[count * DENSE_GROUP + j] = v;
            any |= v != 0;
        }
        count += any;
    }
    t->lists.count[group] = (int32_t)count;
}

/* ---- panels ---- */

/* tile (DENSE_GROUP, NV vectors) += sum over a run of the list of value (count, DENSE_GROUP) times rows[at] (NV vectors) */
INLINE void dense_sparse_vectors(const int NV, i64 count, const int32_t *at, const float *value, const float *rows, float *restrict tile) {
    vf acc[DENSE_GROUP][DENSE_NV];
    UNROLL for (int m = 0; m < DENSE_GROUP; m++) UNROLL for (int v = 0; v < NV; v++) acc[m][v] = (vf){0};
    for (i64 k = 0; k < count; k++) {
        const float *row = rows + (i64)at[k] * DENSE_PANEL;
        vf b[DENSE_NV];
        UNROLL for (int v = 0; v < NV; v++) b[v] = dense_hold(v_load(row + v * VL));
        UNROLL for (int m = 0; m < DENSE_GROUP; m++) {
            vf a = dense_hold(v_set1(value[k * DENSE_GROUP + m]));
            UNROLL for (int v = 0; v < NV; v++) acc[m][v] += a * b[v];
        }
    }
    UNROLL for (int m = 0; m < DENSE_GROUP; m++) UNROLL for (int v = 0; v < NV; v++) {
        float *const to = tile + m * DENSE_PANEL + v * VL;
        v_store(to, v_load(to) + acc[m][v]);
    }
}

/* The same for the panel's first `columns`, in whole vectors */
INLINE void dense_sparse_run(i64 columns, i64 count, const int32_t *at, const float *value, const float *rows, float *restrict tile) {
    for (i64 j = 0; j < columns; j += DENSE_NV * VL) switch (i64_min(DENSE_NV, ceil_div(columns - j, VL))) {
        case 1: dense_sparse_vectors(1, count, at, value, rows + j, tile + j); break;
        case 2: dense_sparse_vectors(2, count, at, value, rows + j, tile + j); break;
        default: dense_sparse_vectors(DENSE_NV, count, at, value, rows + j, tile + j);
    }
}

/* The same over the whole list; with the tile DENSE_SPARSE_FLOATS are to be had */
enum { DENSE_SPARSE_FLOATS = 3 * DENSE_GROUP * DENSE_PANEL };

INLINE void dense_sparse_tile(i64 columns, i64 count, const int32_t *at, const float *value, const float *rows, float *tile) {
    const i64 run = sum_run(count);
    struct joined total = joined_at(tile, DENSE_GROUP * DENSE_PANEL, ceil_div(count, i64_max(1, run)));
    for (i64 k = 0; k < count; k += run, joined_added(&total, 1))
        dense_sparse_run(columns, i64_min(run, count - k), at + k, value + k * DENSE_GROUP, rows, tile);
    joined_end(&total);
}

/* Task: y of a panel of outputs. */
static void dense_sparse_forward_panel(void *context, i64 index) {
    struct dense_sparse_task *t = context;
    const struct dense *d = t->d;
    i64 o0 = index * DENSE_PANEL, outputs = i64_min(DENSE_PANEL, d->O - o0), per_channel = d->I / d->channels;
    float base[DENSE_PANEL] = {0}, tile[DENSE_SPARSE_FLOATS] __attribute__((aligned(64)));
    float *weight = fastnn_scratch(SCRATCH_DENSE, sizeof(float) * (size_t)(d->I * DENSE_PANEL));
    if (!weight) {
        t->failed = 1;
        return;
    }
    pack_panel(weight, d->weight + o0 * d->I, outputs, DENSE_PANEL, d->I, 1, d->I, DENSE_PANEL);
    if (d->bias) memcpy(base, d->bias + o0, sizeof(float) * (size_t)outputs);
    for (i64 c = 0; c < d->channels; c++) {
        const float background = dense_background(t, c * per_channel);
        for (int j = 0; j < DENSE_PANEL; j += VL) {
            struct folded sum = {};
            for (i64 i = 0; i < per_channel; i++) fold(&sum, v_load(weight + (c * per_channel + i) * DENSE_PANEL + j), i);
            v_store(base + j, v_load(base + j) + background * folded_sum(sum));
        }
    }
    for (i64 group = 0; group < t->lists.groups; group++) {
        i64 n0 = group * DENSE_GROUP, first = group * t->lists.most;
        UNROLL for (int m = 0; m < DENSE_GROUP; m++) memcpy(tile + m * DENSE_PANEL, base, sizeof base);
        dense_sparse_tile(outputs, t->lists.count[group], t->lists.at + first, t->lists.value + first * DENSE_GROUP, weight, tile);
        if (d->activation == ACTIVATION_RELU)
            for (int j = 0; j < DENSE_GROUP * DENSE_PANEL; j += VL) v_store(tile + j, v_max((vf){0}, v_load(tile + j)));
        for (i64 m = 0; m < i64_min(DENSE_GROUP, d->N - n0); m++)
            memcpy(d->y + (n0 + m) * d->O + o0, tile + m * DENSE_PANEL, sizeof(float) * (size_t)outputs);
        dense_activate(d, n0, i64_min(n0 + DENSE_GROUP, d->N), o0, o0 + outputs);
    }
}

/* Task: the weight's gradient or update for a panel of outputs. */
static void dense_sparse_backward_panel(void *context, i64 index) {
    struct dense_sparse_task *t = context;
    const struct dense *d = t->d;
    i64 N = d->N, I = d->I, o0 = index * DENSE_PANEL, outputs = i64_min(DENSE_PANEL, d->O - o0);
    float tile[DENSE_SPARSE_FLOATS] __attribute__((aligned(64))), sums[DENSE_PANEL] = {0};
    float block[DENSE_PANEL * DENSE_PANEL] __attribute__((aligned(64)));
    float *grad = fastnn_scratch(SCRATCH_DENSE, sizeof(float) * (size_t)(N * DENSE_PANEL));
    if (!grad) {
        t->failed = 1;
        return;
    }
    memset(grad, 0, sizeof(float) * (size_t)(N * DENSE_PANEL));
    for (i64 j = 0; j < outputs; j += DENSE_MR)
        for (i64 n = 0; n < N; n++)
            memcpy(grad + n * DENSE_PANEL + j, t->grad_columns + (o0 + j) * N + n * DENSE_MR, DENSE_MR * sizeof(float));
    memcpy(sums, t->grad_bias + o0, sizeof(float) * (size_t)outputs);
    for (i64 i0 = 0; i0 < I; i0 += DENSE_PANEL) {
        i64 pixels = i64_min(DENSE_PANEL, I - i0), at = o0 * I + i0;
        if (d->optimizer) dense_prefetch_update(d, at, outputs);
        for (i64 i = 0; i < pixels; i += DENSE_GROUP) {
            i64 group = (i0 + i) / DENSE_GROUP, first = group * t->lists.most;
            for (int j = 0; j < DENSE_GROUP; j++) {
                const float background = dense_background(t, i64_min(i0 + i + j, I - 1));
                for (int k = 0; k < DENSE_PANEL; k++) tile[j * DENSE_PANEL + k] = background * sums[k];
            }
            dense_sparse_tile(outputs, t->lists.count[group], t->lists.at + first, t->lists.value + first * DENSE_GROUP, grad, tile);
            UNROLL for (int k = 0; k < DENSE_PANEL; k += 4) transpose_4x4(block + k * DENSE_PANEL + i, DENSE_PANEL, tile + k, DENSE_PANEL);
        }
        if (d->optimizer) update_rows(&t->numbers, outputs, pixels, block, DENSE_PANEL, d->weight, d->weight_state, at, I);
        else dense_copy(d->grad_weight + at, I, block, DENSE_PANEL, outputs, pixels, 0);
    }
}

/* ---- the stage ---- */

/* Whether it did the forward. */
INLINE int dense_sparse_forward(const struct dense *d, const struct program *program, int *status) {
    struct dense_layout at = dense_layout(d);
    float *work = d->work;
    int32_t *sparse = (int32_t *)(work + at.sparse);
    i64 groups = ceil_div(d->N, DENSE_GROUP), entries = 0;
    struct dense_sparse_task t = {.d = d, .input = program->input, .lists = dense_lists(work + at.lists, groups, d->I)};
    *sparse = d->table || dense_first_is_background(program->input, d->I);
    if (!*sparse) return 0;
    if (!d->table) t.background = *(const float *)program->input;
    fastnn_parallel(groups, 10.0 * (double)(d->N * d->I), d->table ? dense_list_pixels : dense_list_float_pixels, &t);
    for (i64 i = 0; i < groups; i++) entries += t.lists.count[i];
    *sparse = (double)entries * (double)round_up(d->O, VL) < DENSE_SPARSE_SHARE * (double)(groups * d->I) * (double)d->O;
    if (!*sparse) return 0;
    fastnn_parallel(ceil_div(d->O, DENSE_PANEL), 2.0 * DENSE_GROUP * (double)entries * (double)d->O, dense_sparse_forward_panel, &t);
    *status = t.failed ? PROGRAM_NO_MEMORY : PROGRAM_DONE;
    return 1;
}

/* The gradient of the weight, or its update; grad_columns and grad_bias as the dense way has them. */
INLINE int dense_sparse_backward(const struct dense *d, const struct program *program, const float *grad_columns, const float *grad_bias) {
    i64 groups = ceil_div(d->I, DENSE_GROUP);
    struct dense_sparse_task t = {.d = d, .input = program->input, .grad_columns = grad_columns, .grad_bias = grad_bias,
                                  .lists = dense_lists((float *)d->work + dense_layout(d).lists, groups, d->N)};
    if (d->optimizer) t.numbers = update_numbers(d->optimizer, d->weight_state);
    if (!d->table) t.background = *(const float *)program->input;
    fastnn_parallel(groups, 10.0 * (double)(d->N * d->I), d->table ? dense_list_images : dense_list_float_images, &t);
    fastnn_parallel(ceil_div(d->O, DENSE_PANEL), 1.0 * (double)d->N * (double)d->I * (double)d->O, dense_sparse_backward_panel, &t);
    return t.failed ? PROGRAM_NO_MEMORY : PROGRAM_DONE;
}

#endif
