/* The wide chain backward, image by image: pooled layers from lists (wide/sparse.h), others dense (wide_conv*.h).
 *
 * Each block of images sums weight gradients of its own; these are added in the order of the blocks, so that the result does not
 * depend on which thread did which.
 */
#ifndef FASTNN_WIDE_BACKWARD_H
#define FASTNN_WIDE_BACKWARD_H

#include "ops/wide_conv_weight.h"
#include "plan/wide/forward.h"
#include "plan/wide/sparse.h"

/* A thread's scratch beyond what the forward pass has. */
struct wide_back {
    i64 grad_at[2];                 /* gradients of places, in turns: even and odd */
    i64 dense_at;                   /* a gradient of convolution outputs, with its border */
    i64 gradient_at, mask_at;       /* by window */
    i64 value_at, offset_at, count_at;      /* lists by channel */
    i64 scratch;
};

/* Gradients of layer l's convolution outputs; where grad_x is wanted with the border that the flipped convolution reads. */
INLINE struct wide_place wide_dense_place(const struct chain_layer *c, int border) {
    i64 top = border ? c->kh - 1 - c->pad_h : 0, left = border ? c->kw - 1 - c->pad_w : 0;
    return (struct wide_place){c->O, c->OH, c->OW, c->OH + 2 * top, c->OW + 2 * left, top, left, VL};
}

/* Entries a channel's list has room for: appending writes whole vectors. */
INLINE i64 wide_capacity(const struct chain_layer *c) { return c->PH * c->PW + 1 + VL; }

KERNEL struct wide_back wide_make_back(const struct wide_plan *p) {
    struct wide_back b = {.scratch = p->scratch};
    i64 grad[2] = {0, 0}, dense = 0, gradient = 0, mask = 0, entries = 0, channels = 0;
    for (i64 l = 0; l <= p->L; l++) {
        struct wide_place q = wide_grad_place(p, l);
        grad[l % 2] = i64_max(grad[l % 2], wide_place_floats(&q));
        if (l == p->L) break;
        const struct chain_layer *c = &p->chain->layer[l];
        struct wide_place d = wide_dense_place(c, 1);
        if (!p->layer[l].sparse) dense = i64_max(dense, wide_place_floats(&d));
        if (p->layer[l].sparse) {
            const i64 Op = p->layer[l].OB * VL, windows = c->PH * c->PW + 1;
            gradient = i64_max(gradient, wide_marked_floats(p, l));
            mask = i64_max(mask, 2 * windows * c->pool * c->pool * ceil_div(c->O, 64));
            entries = i64_max(entries, Op * wide_capacity(c));
            channels = i64_max(channels, Op);
        }
    }
    for (int i = 0; i < 2; i++) b.grad_at[i] = wide_reserve(&b.scratch, grad[i], 16);
    b.dense_at = wide_reserve(&b.scratch, dense, 16);
    b.gradient_at = wide_reserve(&b.scratch, gradient, 16);
    b.mask_at = wide_reserve(&b.scratch, mask, 16);
    b.value_at = wide_reserve(&b.scratch, entries, 16);
    b.offset_at = wide_reserve(&b.scratch, entries, 16);
    b.count_at = wide_reserve(&b.scratch, channels, 16);
    return b;
}

struct wide_back_job { struct wide_job job; const struct wide_back *back; };

/* The gradient of the last place, blocked, from (O, P) channels first. */
static void wide_load_gradient(const struct wide_plan *p, i64 n, float *at) {
    const struct chain_layer *c = &p->chain->layer[p->L - 1];
    const struct wide_place *q = &p->place[p->L];
    i64 pixels = q->H * q->W;
    if (!chain_average(c)) {
        const struct wide_view to = {at, wide_place_plane(q), q->W * VL};
        wide_to_blocks(c->O, q->H, q->W, p->chain->grad_y + n * c->O * pixels, pixels, to);
        return;
    }
    for (i64 o = 0; o < c->O; o += VL) {
        vf g = v_load_lanes(p->chain->grad_y + n * c->O + o, i64_min(VL, c->O - o), 0.0f) / (float)pixels;
        for (i64 i = 0; i < pixels; i++) v_store(at + o / VL * wide_place_plane(q) + i * VL, g);
    }
}

/* to = gradient where the layer's output y is positive (y.at NULL: everywhere); adds to grad_bias. grad and to may be the same. */
static void wide_relu_backward(i64 OB, i64 H, i64 W, struct wide_view grad, struct wide_view y, struct wide_view to, float *grad_bias) {
    for (i64 ob = 0; ob < OB; ob++) {
        struct v_joined total = {};
        for (i64 h = 0; h < H; h++) {
            const float *g = grad.at + ob * grad.plane + h * grad.row, *o = y.at ? y.at + ob * y.plane + h * y.row : NULL;
            float *d = to.at + ob * to.plane + h * to.row;
            vf sum = {0};
            for (i64 w = 0; w < W * VL; w += VL) {
                vf v = v_load(g + w);
                if (o) v = v_select(v_load(o + w) > (vf){0}, v, (vf){0});
                sum += v;
                v_store(d + w, v);
            }
            v_join(&total, sum);
        }
        v_store(grad_bias + ob * VL, v_load(grad_bias + ob * VL) + v_joined_sum(total));
    }
}

/* to = the gradient of what was pooled: each window's gradient at the place of its maximum; adds to grad_bias. */
static void wide_unpool(const struct chain_layer *c, i64 OB, struct wide_view grad, const int8_t *where, struct wide_view to,
                        float *grad_bias) {
    for (i64 ob = 0; ob < OB; ob++) {
        struct v_joined total = {};
        for (i64 h = 0; h < c->OH; h++) {
            vf sum = {0};
            for (i64 w = 0; w < c->OW; w++) {
                vf v = {0};
                if (h < c->PH * c->pool && w < c->PW * c->pool) {
                    i64 ph = h / c->pool, pw = w / c->pool;
                    vi at = v_load_bytes(where + ((ph * c->PW + pw) * OB + ob) * VL);
                    vf g = v_load(grad.at + ob * grad.plane + ph * grad.row + pw * VL);
                    v = v_select(at == (int32_t)(h % c->pool * c->pool + w % c->pool), g, (vf){0});
                }
                sum += v;
                v_store(to.at + ob * to.plane + h * to.row + w * VL, v);
            }
            v_join(&total, sum);
        }
        v_store(grad_bias + ob * VL, v_load(grad_bias + ob * VL) + v_joined_sum(total));
    }
}

static void wide_sparse_backward(const struct wide_plan *p, const struct wide_back *b, i64 l, i64 n, const float *transposed,
                                 struct wide_view grad, float *scratch, struct joined *sums) {
    const struct wide_layer *m = &p->layer[l];
    const struct chain_layer *c = &p->chain->layer[l];
    struct wide_view src = wide_bordered(&p->place[l], wide_at(p, l, n, scratch));
    struct wide_pooled s = {c->O, c->PH, c->PW, c->pool, src.row, -1};
    int32_t *const whole = (int32_t *)scratch;
    struct wide_entries list = {scratch + b->value_at, whole + b->offset_at, whole + b->count_at, wide_capacity(c)};
    float *gradient = scratch + b->gradient_at;
    uint64_t *mask = (uint64_t *)(scratch + b->mask_at);
    const int8_t *where = (const int8_t *)wide_record(p, n) + m->where_at;
    const i64 taps = c->kh * c->kw * VL;
    struct wide_flat flat;
    if (l == 1 && p->flat && !p->chain->grad_x) {
        flat = *(const struct wide_flat *)(scratch + p->flat_at);
        wide_flat_windows(&flat, c->PH * c->pool, c->kh, c->kw);
        s.flat_position = wide_first_flat(&flat, c->PH * c->pool, src.row);
    }
    wide_mark_positions(&s, grad, where, &flat, gradient, mask, sums->part + m->partial_bias_at - m->partial_at);
    if (m->wants_weight) {
        memset(list.count, 0, (size_t)(m->OB * VL) * sizeof *list.count);
        wide_list_by_channel(&s, 0, m->OB, gradient, where, 0, list);
        for (i64 cb = 0; cb < m->CB; cb++)
            wide_sparse_weight(c->O, c->kh, c->kw, list, src.at + cb * src.plane, src.row,
                               sums->part + cb * c->O * taps);
        joined_added(sums, ceil_div(c->PH * c->PW, SUM_RUN));
    }
    if (m->wants_input) {
        float *grad_x = scratch + b->grad_at[l % 2];
        memset(grad_x, 0, (size_t)(m->CB * src.plane) * sizeof(float));
        for (i64 cb = 0; cb < m->CB; cb++)
            wide_sparse_input(&s, c->kh, c->kw, gradient, mask, transposed + m->transposed_at + cb * c->O * taps, grad_x + cb * src.plane);
    }
}

static void wide_dense_backward(const struct wide_plan *p, const struct wide_back *b, i64 l, i64 n, const float *transposed,
                                struct wide_view grad, float *scratch, struct joined *sums) {
    const struct wide_layer *m = &p->layer[l];
    const struct chain_layer *c = &p->chain->layer[l];
    struct wide_view src = wide_bordered(&p->place[l], wide_at(p, l, n, scratch)), to = grad;
    struct wide_place place = wide_dense_place(c, m->wants_input);
    struct wide_conv full = {.C = c->C, .O = c->O, .kh = c->kh, .kw = c->kw, .OH = c->OH, .OW = c->OW};
    float *bias = sums->part + m->partial_bias_at - m->partial_at;
    struct wide_view y = wide_interior(&p->place[l + 1], wide_at(p, l + 1, n, scratch));
    if (l == 0 && !m->pooled && !m->wants_input) {
        wide_first_weight(&full, src, grad, chain_relu(c) ? &y : NULL, sums, bias);
        return;
    }
    if (m->wants_input || m->pooled) {
        wide_clear_border(&place, scratch + b->dense_at);
        to = wide_interior(&place, scratch + b->dense_at);
    }
    if (m->pooled) {
        wide_unpool(c, m->OB, grad, (const int8_t *)wide_record(p, n) + m->where_at, to, bias);
    } else {
        if (!chain_relu(c)) y.at = NULL;
        wide_relu_backward(m->OB, c->OH, c->OW, grad, y, to, bias);
    }
    if (m->wants_weight && l == 0) wide_first_weight(&full, src, to, NULL, sums, NULL);
    else if (m->wants_weight) wide_conv_weight(&full, src, to, sums);
    if (m->wants_input) {
        struct wide_place at = wide_grad_place(p, l);
        struct wide_conv flipped = {.C = c->O, .O = c->C, .kh = c->kh, .kw = c->kw, .OH = c->H, .OW = c->W};
        wide_conv_forward(&flipped, transposed + m->transposed_at, NULL, wide_bordered(&place, scratch + b->dense_at),
                          wide_interior(&at, scratch + b->grad_at[l % 2]));
    }
}

/* grad_x of image n from the gradient of place 0 */
static void wide_store_grad_x(const struct wide_plan *p, i64 n, struct wide_view grad) {
    const struct wide_place *q = &p->place[0];
    for (i64 ch = 0; ch < q->C; ch++) for (i64 h = 0; h < q->H; h++) for (i64 w = 0; w < q->W; w++)
        p->chain->grad_x[((n * q->C + ch) * q->H + h) * q->W + w] = grad.at[ch / VL * grad.plane + h * grad.row + w * VL + ch % VL];
}

/* sums: of every layer */
static void wide_backward_image(const struct wide_back_job *j, i64 n, float *scratch, struct joined *sums) {
    const struct wide_plan *p = j->job.plan;
    const struct chain *c = p->chain;
    wide_gather(p, n, scratch);
    const int needed = p->L > 1 || wide_slope_from_output(&c->layer[0]);
    if (needed && !p->stored[1]) wide_forward_layer(p, 0, j->job.packed, n, scratch);
    struct wide_view grad = wide_bordered(&p->place[p->L], scratch + j->back->grad_at[p->L % 2]);
    wide_load_gradient(p, n, grad.at);
    for (i64 l = p->L - 1; l >= 0; l--) {
        const struct wide_layer *m = &p->layer[l];
        if (!m->wants_weight && !m->wants_input) return;
        wide_activate_backward(&c->layer[l], wide_interior(&p->place[l + 1], wide_at(p, l + 1, n, scratch)), grad);
        (m->sparse ? wide_sparse_backward : wide_dense_backward)(p, j->back, l, n, j->job.transposed, grad, scratch, &sums[l]);
        struct wide_place place = wide_grad_place(p, l);
        grad = wide_interior(&place, scratch + j->back->grad_at[l % 2]);
    }
    if (c->grad_x) wide_store_grad_x(p, n, grad);
}

static void wide_backward_block(void *context, int64_t block) {
    struct wide_back_job *j = context;
    const struct wide_plan *p = j->job.plan;
    float *scratch = fastnn_scratch(SCRATCH_WIDE, (size_t)j->back->scratch * sizeof(float));
    float *partial = wide_partial(p, block);
    if (!scratch) { j->job.failed = 1; return; }
    wide_clear_scratch(p, scratch);
    const struct joined all = joined_at(partial, p->partial, p->runs);
    struct joined sums[CHAIN_MOST_LAYERS];
    for (i64 l = 0; l < p->L; l++) {
        const struct wide_layer *m = &p->layer[l];
        sums[l] = joined_slice(&all, m->partial_at, m->partial_bias_at + m->OB * VL - m->partial_at);
    }
    memset(partial, 0, (size_t)p->partial * sizeof(float));
    for (i64 n = block * p->block; n < i64_min(p->chain->N, (block + 1) * p->block); n++) {
        if (fastnn_stopped()) break;
        wide_backward_image(j, n, scratch, sums);
    }
    for (i64 l = 0; l < p->L; l++) joined_end(&sums[l]);
}

/* A part of the blocks' partial gradients, added into the first block's. */
enum { WIDE_SUM_TASKS = 16 };

static void wide_add_partials(void *context, int64_t task) {
    const struct wide_plan *p = context;
    i64 share = round_up(ceil_div(p->partial, WIDE_SUM_TASKS), VL), first = task * share, last = i64_min(p->partial, first + share);
    for (i64 i = first; i < last; i += VL) {
        vf sum = v_load(wide_partial(p, 0) + i);
        for (i64 block = 1; block < p->blocks; block++) sum += v_load(wide_partial(p, block) + i);
        v_store(wide_partial(p, 0) + i, sum);
    }
}

/* weight (O, C, kh, kw) <-> blocks [CB][O][kh*kw][VL], lanes the input channels: one block, and channels from o on */
static void wide_pack_by_channel(const struct chain_layer *c, i64 c0, float *packed) {
    const i64 taps = c->kh * c->kw, lanes = i64_min(VL, c->C - c0);
    for (i64 o = 0; o < c->O; o++, packed += taps * VL) {
        const float *w = c->weight + (o * c->C + c0) * taps;
        for (i64 t = 0; t < taps; t++)
            for (i64 i = 0; i < VL; i++) packed[t * VL + i] = i < lanes ? w[i * taps + t] : 0.0f;
    }
}

static void wide_unpack_by_channel(const struct chain_layer *c, i64 o, i64 count, const float *packed, float *grad_weight) {
    const i64 taps = c->kh * c->kw;
    for (i64 c0 = 0; c0 < c->C; c0 += VL)
        for (i64 k = o; k < o + count; k++, packed += taps * VL)
            for (i64 i = 0; i < i64_min(VL, c->C - c0); i++)
                for (i64 t = 0; t < taps; t++) grad_weight[((k * c->C + c0) + i) * taps + t] = packed[t * VL + i];
}

/* Task: a block of layer l's weights for the input gradient */
static void wide_pack_back_task(void *context, int64_t block) {
    const struct wide_packing *t = context;
    const struct wide_layer *m = &t->plan->layer[t->layer];
    const struct chain_layer *c = &t->plan->chain->layer[t->layer];
    float *to = t->packed + m->transposed_at;
    if (m->sparse) {
        wide_pack_by_channel(c, block * VL, to + block * c->O * c->kh * c->kw * VL);
        return;
    }
    const struct wide_conv flipped = {.C = c->O, .O = c->C, .kh = c->kh, .kw = c->kw};
    const struct wide_weights given = wide_weights_exchanged(&flipped, c->weight);
    wide_pack_block(&flipped, VL, &given, block, to);
}

static void wide_pack_back(const struct wide_plan *p, float *transposed) {
    for (i64 l = 0; l < p->L; l++) {
        const struct chain_layer *c = &p->chain->layer[l];
        struct wide_packing t = {p, l, transposed};
        if (p->layer[l].wants_input)
            fastnn_parallel(p->layer[l].CB, 20.0 * (double)(c->C * c->O * c->kh * c->kw), wide_pack_back_task, &t);
    }
}

static void wide_store_gradients(const struct wide_plan *p) {
    const float *partial = wide_partial(p, 0);
    for (i64 l = 0; l < p->L; l++) {
        const struct wide_layer *m = &p->layer[l];
        const struct chain_layer *c = &p->chain->layer[l];
        if (c->grad_bias) memcpy(c->grad_bias, partial + m->partial_bias_at, (size_t)c->O * sizeof(float));
        if (!c->grad_weight || (l && p->group > 1)) continue;
        if (l == 0) wide_first_unpack(&m->conv, partial + m->partial_at, c->grad_weight);
        else if (m->sparse) wide_unpack_by_channel(c, 0, c->O, partial + m->partial_at, c->grad_weight);
        else wide_conv_weight_unpack(&m->conv, partial + m->partial_at, c->grad_weight);
    }
}

#endif
