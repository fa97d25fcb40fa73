/* Forward of a dense layer whose weight never changes, for a few images: it is kept input-major, and only the rows of inputs that
 * differ from their background are read.
 *
 * With c the background, and x = c + x', x' is zero where the input is c: what surrounds a drawing, or what a ReLU has cut off. Of bytes c
 * is what a zero becomes; of floats the first of them where more than half are the same, otherwise 0.
 *   y = activation((bias + c * the sum of all rows) + sum over k of x'[at[k]] * row[at[k]])
 * which is the same but for rounding, as c is a number like most of the others. A panel is up to 8 vectors of outputs. Their sums run in
 * registers down a list of up to FROZEN_CHUNK entries, and those of several chunks are added in order: the same bits for any number of
 * threads.
 *
 * One image's floor is reading those rows: 784 -> 1000 from a digit's 150 pixels 0.6 MB, where the whole weight has 3.1 MB.
 */
#ifndef FASTNN_DENSE_FROZEN_H
#define FASTNN_DENSE_FROZEN_H

#include "plan/dense/dense.h"

struct frozen_task {
    const struct dense *d;
    struct frozen_layout layout;
    const void *input;
    float *work;
    i64 panels, chunks;                 /* chunks: of the longest list */
    i64 count[FROZEN_IMAGES];           /* entries of each image's list */
    float base[FROZEN_IMAGES];          /* c of floats; that of bytes is in the table */
};

static void frozen_pack(const struct dense *d, const struct frozen_layout *l, float *work) {
    const i64 per_channel = d->I / d->channels, width = FROZEN_VECTORS * VL;
    if (d->bias) memcpy(work + l->bias, d->bias, (size_t)d->O * sizeof(float));
    for (i64 o = 0; o < d->O; o++) {
        const i64 panel = o / width * width, outputs = i64_min(width, l->O - panel);
        float *packed = work + l->packed + panel * d->I + o - panel;
        for (i64 c = 0; c < d->channels; c++) {
            double sum = 0;
            for (i64 i = c * per_channel; i < (c + 1) * per_channel; i++) {
                packed[i * outputs] = d->weight[o * d->I + i];
                sum += d->weight[o * d->I + i];
            }
            work[l->sums + c * l->O + o] = (float)sum;
        }
    }
    *(int32_t *)(work + l->ready) = 1;
}

/* The entries of image n that are not c, of the channel whose entries begin at `first`. */
static void frozen_list(struct frozen_task *t, i64 n, i64 first, i64 entries) {
    const struct dense *d = t->d;
    float *value = t->work + t->layout.value + n * d->I;
    int32_t *at = (int32_t *)(t->work + t->layout.at) + n * d->I;
    i64 count = t->count[n], i = first;
    const i64 begin = count, end = first + entries;
    if (d->table) {
        const uint8_t *x = (const uint8_t *)t->input + n * d->I;
        const float *table = d->table + first / entries * 256;
        for (; i + VL <= end; i += VL)
            count += v_store_set(at + count, v_load_bytes((const int8_t *)x + i) != 0, (vf)v_count(i, 1));
        for (; i < end; i++) {
            at[count] = (int32_t)i;
            count += x[i] != 0;
        }
        for (i64 k = begin; k < count; k++) value[k] = table[x[at[k]]] - table[0];
    } else {
        const float *x = (const float *)t->input + n * d->I, c = t->base[n];
        for (; i + VL <= end; i += VL) {
            const vf v = v_load(x + i), rest = v - v_set1(c);
            v_store_set(at + count, v != c, (vf)v_count(i, 1));
            count += v_store_set(value + count, v != c, rest);
        }
        for (; i < end; i++) {
            at[count] = (int32_t)i;
            value[count] = x[i] - c;
            count += x[i] != c;
        }
    }
    t->count[n] = count;
}

INLINE void frozen_sums(const int vectors, i64 count, const float *value, const int32_t *at, const float *rows, float *sums) {
    const i64 run = sum_run(count);
    for (i64 first = 0; first < count; first += run) {
        vf a[FROZEN_VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) a[j] = (vf){0};
        for (i64 k = first; k < i64_min(first + run, count); k++) {
            const float *row = rows + (i64)at[k] * vectors * VL;
            const vf v = v_set1(value[k]);
            UNROLL for (int j = 0; j < vectors; j++) a[j] += v * v_load(row + j * VL);
        }
        UNROLL for (int j = 0; j < vectors; j++) v_store(sums + j * VL, first ? v_load(sums + j * VL) + a[j] : a[j]);
    }
}

/* Task: a chunk of an image's list, for a panel of outputs. */
static void frozen_chunk(void *context, i64 index) {
    const struct frozen_task *t = context;
    const struct frozen_layout *l = &t->layout;
    const i64 panel = index % t->panels * FROZEN_VECTORS * VL, chunk = index / t->panels % t->chunks, n = index / t->panels / t->chunks;
    const i64 first = chunk * FROZEN_CHUNK, count = i64_min(t->count[n] - first, FROZEN_CHUNK), entry = n * t->d->I + first;
    if (count <= 0) return;
    const float *value = t->work + l->value + entry, *rows = t->work + l->packed + panel * t->d->I;
    const int32_t *at = (const int32_t *)(t->work + l->at) + entry;
    float *sums = t->work + l->partial + (n * l->chunks + chunk) * l->O + panel;
    switch (i64_min(FROZEN_VECTORS, (l->O - panel) / VL)) {
#define VECTORS(v) case v: frozen_sums(v, count, value, at, rows, sums); break;
        VECTORS(1) VECTORS(2) VECTORS(3) VECTORS(4) VECTORS(5) VECTORS(6) VECTORS(7)
        default: frozen_sums(FROZEN_VECTORS, count, value, at, rows, sums);
#undef VECTORS
    }
}

/* y of image n */
static void frozen_finish(const struct frozen_task *t, i64 n) {
    const struct dense *d = t->d;
    const struct frozen_layout *l = &t->layout;
    const i64 chunks = ceil_div(t->count[n], FROZEN_CHUNK);
    for (i64 o = 0; o < d->O; o += VL) {
        vf sum = v_load(t->work + l->bias + o);
        for (i64 c = 0; c < d->channels; c++)
            sum += v_set1(d->table ? d->table[c * 256] : t->base[n]) * v_load(t->work + l->sums + c * l->O + o);
        struct folded entries = {};
        for (i64 c = 0; c < chunks; c++) fold(&entries, v_load(t->work + l->partial + (n * l->chunks + c) * l->O + o), c);
        sum += folded_sum(entries);
        v_store_lanes(d->y + n * d->O + o, d->activation == ACTIVATION_RELU ? v_max((vf){0}, sum) : sum, i64_min(VL, d->O - o));
    }
    dense_activate(d, n, n + 1, 0, d->O);
}

INLINE void dense_frozen_forward(const struct dense *d, const struct program *program) {
    struct frozen_task t = {.d = d, .layout = frozen_layout(d), .work = d->work,
                            .input = d->x ? (const void *)d->x : program->input};
    i64 longest = 1, entries = 0;
    t.panels = ceil_div(t.layout.O, FROZEN_VECTORS * VL);
    if (!*(const int32_t *)(t.work + t.layout.ready)) frozen_pack(d, &t.layout, t.work);
    for (i64 n = 0; n < d->N; n++) {
        const float *x = (const float *)t.input + n * d->I;
        if (!d->table && dense_first_is_background(x, d->I)) t.base[n] = x[0];
        for (i64 c = 0; c < d->channels; c++) frozen_list(&t, n, c * (d->I / d->channels), d->I / d->channels);
        longest = i64_max(longest, t.count[n]);
        entries += t.count[n];
    }
    t.chunks = ceil_div(longest, FROZEN_CHUNK);
    /* reading a weight takes the time of some 20 FLOPs */
    fastnn_parallel(d->N * t.chunks * t.panels, 22.0 * (double)entries * (double)d->O, frozen_chunk, &t);
    for (i64 n = 0; n < d->N; n++) frozen_finish(&t, n);
}

#endif
