/* Where everything of a wide chain lies: found anew from the shapes at each call, in no time.
 *
 * place[l] is the input of layer l, place[layers] the output of the last (with global_average: what is averaged). Backward needs
 * each of them but the last, and that too for the mask of a ReLU that no pooling follows; the network's input is gathered again,
 * and the first layer's output computed again where that costs less than writing and reading it.
 */
#ifndef FASTNN_WIDE_PLAN_H
#define FASTNN_WIDE_PLAN_H

#include "base/threads.h"
#include "ops/wide_conv_weight.h"
#include "plan/layers.h"
#include "plan/wide/first.h"
#include "plan/wide/flat.h"
#include "plan/wide/pool.h"
#include "plan/wide/winograd.h"

enum {
    WIDE_BLOCKS = 32,               /* of images, with partial weight gradients of their own */
    WIDE_AGAIN_TAPS = 32,           /* C*kh*kw of a first layer that is computed again */
    WIDE_STRIP_ROWS = 12,           /* a multiple of every pool size */
    WIDE_STRIP_FLOATS = 64 << 10,   /* of a strip of outputs, about */
    WIDE_TILES = 40,                /* Winograd tiles at a time: what they need stays in L2 with the weights */
    WIDE_LARGE = 1 << 18,           /* entries of a weight that does not: then several images go through a layer together, */
    WIDE_TASKS = 4, WIDE_FEW = 8,   /* in so many tasks or more, of batches of so many or more */
    WIDE_MOST_GROUP = 32,           /* images, */
    WIDE_GROUP_FLOATS = 1 << 21,    /* and in inference so many floats between two layers */
};

struct wide_layer {
    struct wide_conv conv;          /* OH, OW: what is used of the output */
    i64 CB, OB;
    int winograd, pooled;
    int sparse;                     /* backward from lists */
    int wants_weight, wants_input;  /* gradients */
    i64 strip_rows, tiles;
    i64 packed_at, bias_at;         /* floats, in the packed weights */
    i64 transposed_at;              /* in those of backward */
    i64 partial_at, partial_bias_at, partial_floats;
    i64 where_at;                   /* bytes, in an image's record; -1: none */
};

struct wide_plan {
    const struct chain *chain;
    const void *input;
    i64 L;
    struct wide_layer layer[CHAIN_MOST_LAYERS];
    struct wide_place place[CHAIN_MOST_LAYERS + 1];
    int stored[CHAIN_MOST_LAYERS + 1];
    i64 place_at[CHAIN_MOST_LAYERS + 1];    /* stored: bytes in the record; else floats in scratch */
    i64 group;                      /* images that go through a layer together; more than one: layer by layer (wide/layers.h) */
    i64 grad_at[2], marked_at;      /* then: gradients of places in turns, even and odd, and by window; bytes in the record */
    i64 record;                     /* bytes an image in state */
    i64 block, blocks;              /* images a block, blocks */
    i64 partial, runs;              /* floats of a block's sums, runs that are added to them at most */
    int flat;                       /* look for flat parts of the images: for the second layer (wide/flat.h) */
    i64 flat_at, strip_at, work_at, scratch;    /* floats of a thread, forward */
    i64 packed, transposed;         /* floats of weights */
};

INLINE i64 wide_reserve(i64 *end, i64 amount, i64 unit) {
    i64 at = *end;
    *end += round_up(amount, unit);
    return at;
}

/* As place[l], but blocked for the network's input too. */
INLINE struct wide_place wide_grad_place(const struct wide_plan *p, i64 l) {
    struct wide_place q = p->place[l];
    q.lanes = VL;
    return q;
}

/* Floats of the gradient by window: one row more than windows (see wide/sparse.h) */
INLINE i64 wide_marked_floats(const struct wide_plan *p, i64 l) {
    const struct chain_layer *c = &p->chain->layer[l];
    return p->layer[l].sparse ? (c->PH * c->PW + 1) * p->layer[l].OB * VL : 0;
}

/* Whether the slope of layer l's activation follows from its output: that of ReLU behind max-pooling is among the places. */
INLINE int wide_slope_from_output(const struct chain_layer *l) {
    return l->activation != ACTIVATION_NONE && !(chain_relu(l) && l->pool > 1);
}

INLINE int wide_first_again(const struct chain *c) {
    const struct chain_layer *l = &c->layer[0];
    return l->pool == 1 && l->activation <= ACTIVATION_LEAKY_RELU && l->C * l->kh * l->kw <= WIDE_AGAIN_TAPS;
}

/* Layer by layer: where an image by itself would read weights from beyond L2 for a few tiles, and update sums of their size. */
INLINE i64 wide_group(const struct chain *c) {
    i64 large = 0, floats = 1;
    for (i64 i = 1; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        if (c->training && (l->pool == 1 || c->dense)) return 1;    /* backward is for layers that are pooled */
        large |= l->C * l->O * l->kh * l->kw >= WIDE_LARGE;
        floats = i64_max(floats, l->C * l->H * l->W);
    }
    const i64 images = i64_max(i64_min(WIDE_MOST_GROUP, ceil_div(c->N, WIDE_TASKS)), ceil_div(c->N, WIDE_BLOCKS));
    if (!large || c->N < WIDE_FEW) return 1;
    return c->training ? images : i64_max(1, i64_min(images, WIDE_GROUP_FLOATS / floats));
}

KERNEL struct wide_plan wide_make_plan(const struct chain *c) {
    struct wide_plan p = {.chain = c, .L = c->layers, .group = wide_group(c)};
    i64 work = 0, strip = 0, inputs_wanted = c->grad_x != NULL;
    p.block = c->N <= 8 ? 1 : i64_max(2, ceil_div(c->N, WIDE_BLOCKS));
    p.blocks = ceil_div(c->N, p.block);
    for (i64 i = 0; i <= p.L; i++) {
        const struct chain_layer *l = &c->layer[i < p.L ? i : p.L - 1];
        struct wide_place *q = &p.place[i];
        if (i == p.L) {
            int average = chain_average(l);
            *q = (struct wide_place){l->O, average ? l->OH : l->PH, average ? l->OW : l->PW, 0, 0, 0, 0, VL};
            q->rows = q->H, q->cols = q->W;
        } else {
            struct wide_layer *m = &p.layer[i];
            const int whole = chain_average(l);
            *m = (struct wide_layer){
                .conv = {l->C, l->O, l->kh, l->kw, whole ? l->OH : l->PH * l->pool, whole ? l->OW : l->PW * l->pool},
                .CB = ceil_div(l->C, VL), .OB = ceil_div(l->O, VL), .where_at = -1};
            struct winograd w = winograd_shape(l->C, l->O, m->conv.OH, m->conv.OW);
            m->winograd = i > 0 && !c->exact && l->kh == 3 && l->kw == 3 && l->C >= 8 && l->O >= 8 && w.TH * w.TW * p.group >= 4;
            m->pooled = l->pool > 1;
            m->sparse = m->pooled && i > 0 && !c->dense;
            m->wants_weight = l->grad_weight || l->grad_bias;
            m->wants_input = inputs_wanted != 0;
            inputs_wanted |= m->wants_weight;
            *q = (struct wide_place){l->C, l->H, l->W, l->H + 2 * l->pad_h, l->W + 2 * l->pad_w, l->pad_h, l->pad_w, i ? VL : 1};
            if (m->winograd) q->rows = i64_max(q->rows, 4 * w.TH + 2), q->cols = i64_max(q->cols, 4 * w.TW + 2);
            const i64 tiles = w.TH * w.TW * p.group;
            m->tiles = ceil_div(tiles, ceil_div(tiles, WIDE_TILES));
            m->strip_rows = WIDE_STRIP_ROWS;
            while (m->strip_rows > 6 && m->strip_rows * m->conv.OW * m->OB * VL > WIDE_STRIP_FLOATS) m->strip_rows /= 2;
            if (m->strip_rows % l->pool) m->strip_rows = l->pool;
            strip = i64_max(strip, (m->winograd ? m->conv.OH : i64_min(m->strip_rows, m->conv.OH)) * m->conv.OW * m->OB * VL);
            if (m->winograd) work = i64_max(work, WINOGRAD_POINTS * (winograd_step(m->tiles, w.Cp) + winograd_step(m->tiles, w.Op)));
            m->packed_at = wide_reserve(&p.packed, m->winograd ? winograd_weight_floats(&w) : wide_conv_packed_floats(&m->conv), 16);
            m->bias_at = wide_reserve(&p.packed, m->OB * VL, 16);
            m->partial_floats = l->kh * l->kw * m->CB * VL * m->OB * VL;
            m->partial_at = wide_reserve(&p.partial, p.group > 1 && i ? 0 : m->partial_floats, 16);
            m->partial_bias_at = wide_reserve(&p.partial, m->OB * VL, 16);
            p.runs = i64_max(p.runs, p.block * (wide_weight_runs(l->OH * l->OW) + 1));
            struct wide_conv t = {.C = l->O, .O = l->C, .kh = l->kh, .kw = l->kw, .OH = l->H, .OW = l->W};
            m->transposed_at = wide_reserve(&p.transposed, m->sparse ? m->partial_floats : wide_conv_packed_floats(&t), 16);
            if (m->pooled) m->where_at = wide_reserve(&p.record, l->PH * l->PW * m->OB * VL, 64);
        }
        const struct chain_layer *before = i ? &c->layer[i - 1] : NULL;
        int needed = i > 0 && (i < p.L || wide_slope_from_output(before));
        p.stored[i] = c->training && needed && !(i == 1 && wide_first_again(c) && p.group == 1);
        if (p.stored[i]) p.place_at[i] = wide_reserve(&p.record, wide_place_floats(q) * 4, 64);
        else p.place_at[i] = wide_reserve(&p.scratch, p.group * wide_place_floats(q), 16);
    }
    if (p.group > 1 && c->training) {
        i64 grad[2] = {0, 0}, marked = 0;
        for (i64 i = 0; i <= p.L; i++) {
            const struct wide_place q = wide_grad_place(&p, i);
            grad[i % 2] = i64_max(grad[i % 2], wide_place_floats(&q));
            if (i < p.L) marked = i64_max(marked, wide_marked_floats(&p, i));
        }
        for (int i = 0; i < 2; i++) p.grad_at[i] = wide_reserve(&p.record, grad[i] * 4, 64);
        p.marked_at = wide_reserve(&p.record, marked * 4, 64);
    }
    p.flat = p.L > 1 && p.group == 1 && wide_first_again(c) && (p.layer[1].winograd || p.layer[1].sparse) && wide_flat_fits(&p.place[0], &p.place[1]);
    p.flat_at = wide_reserve(&p.scratch, p.flat ? (i64)(sizeof(struct wide_flat) / sizeof(float)) : 0, 16);
    p.strip_at = wide_reserve(&p.scratch, strip, 16);
    p.work_at = wide_reserve(&p.scratch, work, 16);
    return p;
}

INLINE char *wide_record(const struct wide_plan *p, i64 n) { return (char *)p->chain->state + n * p->record; }
INLINE float *wide_partial(const struct wide_plan *p, i64 block) {
    return (float *)((char *)p->chain->state + p->chain->N * p->record) + block * joined_floats(p->partial, p->runs);
}
/* Where backward looks for the maxima of layer l; NULL: nothing is pooled, or there is no backward */
INLINE int8_t *wide_where(const struct wide_plan *p, i64 l, i64 n) {
    return p->chain->training && p->layer[l].pooled ? (int8_t *)wide_record(p, n) + p->layer[l].where_at : NULL;
}
INLINE float *wide_at(const struct wide_plan *p, i64 place, i64 n, float *scratch) {
    if (p->stored[place]) return (float *)(wide_record(p, n) + p->place_at[place]);
    return scratch + p->place_at[place] + n % p->group * wide_place_floats(&p->place[place]);
}

#endif
