/* The wide chain backward layer by layer, for weights beyond L2 (wide_group): an image by itself would read each of them for a few entries
 * and update a sum of its size, in every block of images.
 *
 * Of every pooled layer, from the last: (P) a group of images marks its gradients by window, in the record, and makes its input gradient,
 * a block of input channels at a time through all its images, so that weights are read once a group; (W) two blocks of output channels
 * list their entries of all images, some images at a time, and add up their weight gradient while it is in L2: no partial sums, and every task
 * writes its own part of the gradient. The first layer, whose weights are few, keeps to blocks of images.
 *
 * 256-512-1024 channels, 16x16, 128 images: dense arithmetic is 78 GFLOP backward; entries of one in four outputs, most of them live at first,
 * 19, at two thirds of the peak.
 */
#ifndef FASTNN_WIDE_LAYERS_H
#define FASTNN_WIDE_LAYERS_H

#include "plan/wide/backward.h"

enum { WIDE_LIST_BLOCKS = 2, WIDE_X_FLOATS = 8 << 10 };     /* of a task (W); of the input planes in L1 */

struct wide_layer_job { struct wide_back_job *all; i64 l; };

INLINE float *wide_marked(const struct wide_plan *p, i64 n) { return (float *)(wide_record(p, n) + p->marked_at); }
INLINE struct wide_view wide_grad_of(const struct wide_plan *p, i64 l, i64 n) {
    const struct wide_place place = wide_grad_place(p, l);
    return wide_interior(&place, (float *)(wide_record(p, n) + p->grad_at[l % 2]));
}
INLINE struct wide_pooled wide_pooled_of(const struct wide_plan *p, i64 l) {
    const struct chain_layer *c = &p->chain->layer[l];
    return (struct wide_pooled){c->O, c->PH, c->PW, c->pool, p->place[l].cols * VL, -1};
}

/* (P) of group `task` */
static void wide_layer_inputs(void *context, int64_t task) {
    struct wide_layer_job *j = context;
    const struct wide_plan *p = j->all->job.plan;
    const i64 l = j->l, begin = task * p->group, end = i64_min(p->chain->N, begin + p->group);
    const struct wide_layer *m = &p->layer[l];
    const struct chain_layer *c = &p->chain->layer[l];
    const struct wide_pooled s = wide_pooled_of(p, l);
    const i64 words = (c->PH * c->PW + 1) * c->pool * c->pool * ceil_div(c->O, 64), step = c->O * c->kh * c->kw * VL;
    uint64_t *mask = fastnn_scratch(SCRATCH_WIDE, (size_t)(p->group * words) * sizeof *mask);
    if (!mask) { j->all->job.failed = 1; return; }
    for (i64 n = begin; n < end; n++) {
        const struct wide_view grad = wide_grad_of(p, l + 1, n);
        if (l + 1 == p->L) wide_load_gradient(p, n, grad.at);
        wide_activate_backward(c, wide_interior(&p->place[l + 1], wide_at(p, l + 1, n, NULL)), grad);
        wide_mark_positions(&s, grad, wide_where(p, l, n), NULL, wide_marked(p, n), mask + (n - begin) * words,
                            wide_partial(p, task) + m->partial_bias_at);
    }
    if (!m->wants_input) return;
    const struct wide_place place = wide_grad_place(p, l);
    const i64 plane = wide_place_plane(&place);
    for (i64 cb = 0; cb < m->CB && !fastnn_stopped(); cb++) for (i64 n = begin; n < end; n++) {
        float *to = (float *)(wide_record(p, n) + p->grad_at[l % 2]) + cb * plane;
        memset(to, 0, (size_t)plane * sizeof *to);
        wide_sparse_input(&s, c->kh, c->kw, wide_marked(p, n), mask + (n - begin) * words,
                          j->all->job.transposed + m->transposed_at + cb * step, to);
    }
}

/* (W) of output channels from task * WIDE_LIST_BLOCKS blocks on */
static void wide_layer_weights(void *context, int64_t task) {
    struct wide_layer_job *j = context;
    const struct wide_plan *p = j->all->job.plan;
    const struct wide_layer *m = &p->layer[j->l];
    const struct chain_layer *c = &p->chain->layer[j->l];
    const struct wide_pooled s = wide_pooled_of(p, j->l);
    const i64 first = task * WIDE_LIST_BLOCKS, blocks = i64_min(WIDE_LIST_BLOCKS, m->OB - first), windows = c->PH * c->PW;
    const i64 O = i64_min(blocks * VL, c->O - first * VL), step = O * c->kh * c->kw * VL, record = p->record / (i64)sizeof(float);
    const i64 plane = wide_place_plane(&p->place[j->l]), images = i64_max(1, i64_min(WIDE_X_FLOATS / plane, INT32_MAX / 2 / record));
    const i64 capacity = images * windows + VL, entries = blocks * VL * capacity, runs = ceil_div(windows * images, SUM_RUN);
    const i64 floats = joined_floats(m->CB * step, runs * ceil_div(p->chain->N, images));
    float *sums = fastnn_scratch(SCRATCH_WIDE, (size_t)(floats + 2 * entries + blocks * VL) * sizeof *sums);
    if (!sums) { j->all->job.failed = 1; return; }
    int32_t *const offset = (int32_t *)(sums + floats) + entries;
    struct wide_entries list = {sums + floats, offset, offset + entries, capacity};
    struct joined total = joined_at(sums, m->CB * step, runs * ceil_div(p->chain->N, images));
    memset(sums, 0, (size_t)(m->CB * step) * sizeof *sums);
    for (i64 n = 0; n < p->chain->N && !fastnn_stopped(); n += images) {
        const float *x = wide_at(p, j->l, n, NULL);
        memset(list.count, 0, (size_t)(blocks * VL) * sizeof *list.count);
        for (i64 k = n; k < i64_min(p->chain->N, n + images); k++)
            wide_list_by_channel(&s, first, blocks, wide_marked(p, k), wide_where(p, j->l, k), (k - n) * record, list);
        for (i64 cb = 0; cb < m->CB; cb++)
            wide_sparse_weight(O, c->kh, c->kw, list, x + cb * plane, s.x_row, sums + cb * step);
        joined_added(&total, runs);
    }
    joined_end(&total);
    wide_unpack_by_channel(c, first * VL, O, sums, c->grad_weight);
}

/* The first layer, of a block of images */
static void wide_layer_first(void *context, int64_t block) {
    struct wide_layer_job *j = context;
    const struct wide_plan *p = j->all->job.plan;
    const struct wide_layer *m = &p->layer[0];
    float *scratch = fastnn_scratch(SCRATCH_WIDE, (size_t)j->all->back->scratch * sizeof *scratch);
    if (!scratch) { j->all->job.failed = 1; return; }
    const struct joined all = joined_at(wide_partial(p, block), p->partial, p->runs);
    struct joined sums = joined_slice(&all, m->partial_at, m->partial_bias_at + m->OB * VL - m->partial_at);
    wide_clear_scratch(p, scratch);
    for (i64 n = block * p->block; n < i64_min(p->chain->N, (block + 1) * p->block) && !fastnn_stopped(); n++) {
        const struct wide_view grad = wide_grad_of(p, 1, n);
        wide_gather(p, n, scratch);
        wide_activate_backward(&p->chain->layer[0], wide_interior(&p->place[1], wide_at(p, 1, n, scratch)), grad);
        wide_dense_backward(p, j->all->back, 0, n, j->all->job.transposed, grad, scratch, &sums);
        const struct wide_place place = wide_grad_place(p, 0);
        if (p->chain->grad_x) wide_store_grad_x(p, n, wide_interior(&place, scratch + j->all->back->grad_at[0]));
    }
    joined_end(&sums);
}

static void wide_backward_layers(struct wide_back_job *all) {
    const struct wide_plan *p = all->job.plan;
    const double flops = 2 * chain_flops(p->chain);
    for (i64 block = 0; block < p->blocks; block++) memset(wide_partial(p, block), 0, (size_t)p->partial * sizeof(float));
    for (i64 l = p->L - 1; l >= 0; l--) {
        const struct wide_layer *m = &p->layer[l];
        struct wide_layer_job j = {all, l};
        if ((!m->wants_weight && !m->wants_input) || all->job.failed) return;
        if (l == 0) fastnn_parallel(p->blocks, flops, wide_layer_first, &j);
        else fastnn_parallel(ceil_div(p->chain->N, p->group), flops, wide_layer_inputs, &j);
        if (l && p->chain->layer[l].grad_weight) fastnn_parallel(ceil_div(m->OB, WIDE_LIST_BLOCKS), flops, wide_layer_weights, &j);
    }
}

#endif
