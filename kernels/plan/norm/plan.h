/* The chain with batch norm: convolution -> norm -> ReLU -> pooling, layer by layer. How it is laid out.
 *
 * A norm needs the whole batch, so there is a barrier after every convolution. What lies in memory between two passes is
 *
 *   z   (N, OB, OH, OW, VL)     every layer's convolution, before norm: y = max(z * scale + shift, 0), then pooled
 *   d   (N, OB, PH, PW, VL)     the gradient of a layer's output, of two layers at a time
 *
 * and nothing else: a pass makes its padded input again from z while it is in cache, and the statistics and the sums that norm's
 * gradient needs are taken from what the pass has just written. So a layer costs one write and three reads of z a step.
 *
 * Five layers of a CIFAR net (32 32 pool 64 64 pool 128, 32x32 images), batch of 128: direct loops would do 22 GFLOP in forward and
 * backward, Winograd leaves 6 (25 ms of one core at its peak of 235 GFLOP/s), memory moves 0.28 GB (6 ms); measured 48 ms of one core.
 *
 * The batch is cut into at most NORMED_BLOCKS blocks of images by its size alone. A block is a task; sums are kept by block and
 * added in order. Inside, a few images go together where they are small (Winograd's matrices want tiles).
 */
#ifndef FASTNN_NORM_CHAIN_PLAN_H
#define FASTNN_NORM_CHAIN_PLAN_H

#include <math.h>

#include "plan/layers.h"
#include "plan/wide/layout.h"
#include "ops/wide_conv_weight.h"
#include "plan/wide/winograd_backward.h"

enum {
    NORMED_BLOCKS = 16,                     /* at most, */
    NORMED_IMAGES = 4,                      /* of so many images or more, */
    NORMED_FEW = 4,                         /* but at least so many blocks */
    NORMED_ALIGN = 64 / sizeof(float),
};

/* Per layer, (OB * VL) each: y = z * scale + shift; gradient of z = from_d * d + from_z * z + from_one; mean is the batch's */
enum { NORMED_SCALE, NORMED_SHIFT, NORMED_MEAN, NORMED_FROM_D, NORMED_FROM_Z, NORMED_FROM_ONE, NORMED_CONSTANTS };

/* Of a block and channel: mean and squares about it, or sums of g and of g * (z - mean); and what joining them has rounded off */
enum { NORMED_FIRST, NORMED_SECOND, NORMED_FIRST_LOW, NORMED_SECOND_LOW, NORMED_SUMS };

struct normed_layer {
    const struct chain_layer *l;
    i64 OB, Op;                             /* blocks of output channels, and channels with the unused lanes */
    int winograd;
    struct wide_place input, grad;          /* with borders: what the convolution reads, and its gradient */
    i64 group;                              /* images at a time */
    i64 z_image, d_image;                   /* floats an image */
    i64 z_at, d_at, constants_at;           /* floats, in the state */
    i64 packed_at, transposed_at;           /* floats, in the packed weights */
    i64 partial_floats, runs;               /* a block's weight gradient, and the runs that are added to it */
};

struct normed_plan {
    const struct chain *c;
    struct normed_layer layer[CHAIN_MOST_LAYERS];
    i64 blocks;
    i64 sums_at, state_floats;              /* sums: (blocks, NORMED_SUMS, most channels) */
    i64 most_channels, packed_floats, transposed_floats, most_partial;
    i64 input_floats, grad_floats, work_floats, product_floats, image_floats; /* of a task's buffers */
};

INLINE struct wide_conv normed_conv(const struct chain_layer *l) {
    return (struct wide_conv){.C = l->C, .O = l->O, .kh = l->kh, .kw = l->kw, .OH = l->OH, .OW = l->OW};
}
INLINE struct wide_conv normed_conv_input(const struct chain_layer *l) {
    return (struct wide_conv){.C = l->O, .O = l->C, .kh = l->kh, .kw = l->kw, .OH = l->H, .OW = l->W};
}
INLINE struct winograd normed_winograd(const struct chain_layer *l) { return winograd_shape(l->C, l->O, l->OH, l->OW); }
INLINE struct winograd normed_winograd_exchanged(const struct chain_layer *l) { return winograd_shape(l->O, l->C, l->OH, l->OW); }

INLINE i64 normed_reserve(i64 *total, i64 floats) {
    i64 at = *total;
    *total += round_up(floats, NORMED_ALIGN);
    return at;
}

INLINE i64 normed_block_begin(const struct normed_plan *p, i64 block) { return block * p->c->N / p->blocks; }

/* Winograd pays where there are enough channels to sum over and the tiles are mostly full. */
INLINE int normed_wants_winograd(const struct chain *c, const struct chain_layer *l) {
    return !c->exact && l->kh == 3 && l->kw == 3 && l->C >= 8 && l->O >= 8 &&
           2 * l->OH * l->OW >= round_up(l->OH, 4) * round_up(l->OW, 4);
}

KERNEL struct normed_plan normed_make_plan(const struct chain *c) {
    struct normed_plan p = {.c = c};
    p.blocks = i64_min(NORMED_BLOCKS, i64_max(c->N / NORMED_IMAGES, i64_min(c->N, NORMED_FEW)));
    i64 most_images = ceil_div(c->N, p.blocks), most_d[2] = {0};
    for (i64 i = 0; i < c->layers; i++) {
        struct normed_layer *m = &p.layer[i];
        const struct chain_layer *l = m->l = &c->layer[i];
        const struct winograd w = normed_winograd(l), exchanged = normed_winograd_exchanged(l);
        const struct wide_conv s = normed_conv(l), t = normed_conv_input(l);
        m->OB = ceil_div(l->O, VL);
        m->Op = m->OB * VL;
        m->winograd = i > 0 && normed_wants_winograd(c, l);
        m->input = (struct wide_place){l->C, l->H, l->W, l->H + 2 * l->pad_h, l->W + 2 * l->pad_w, l->pad_h, l->pad_w, i ? VL : 1};
        m->grad = (struct wide_place){l->O, l->OH, l->OW, l->H + l->kh - 1, l->W + l->kw - 1,
                                      l->kh - 1 - l->pad_h, l->kw - 1 - l->pad_w, VL};
        if (m->winograd) {
            m->input.rows = i64_max(m->input.rows, 4 * w.TH + 2);
            m->input.cols = i64_max(m->input.cols, 4 * w.TW + 2);
            m->grad = (struct wide_place){l->O, l->OH, l->OW, 4 * w.TH, 4 * w.TW, 0, 0, VL};
        }
        m->group = i64_max(1, i64_min(most_images, m->winograd ? WINOGRAD_STRIP / (w.TH * w.TW) : 1));
        m->z_image = m->OB * l->OH * l->OW * VL;
        m->d_image = m->OB * l->PH * l->PW * VL;
        m->constants_at = normed_reserve(&p.state_floats, NORMED_CONSTANTS * m->Op);
        m->z_at = normed_reserve(&p.state_floats, c->N * m->z_image);
        most_d[i % 2] = i64_max(most_d[i % 2], c->N * m->d_image);
        m->partial_floats = m->winograd ? l->C * 9 * m->Op : i ? wide_conv_packed_floats(&s) : wide_conv_planes_floats(&s);
        m->packed_at = normed_reserve(&p.packed_floats, m->winograd ? winograd_weight_floats(&w) : m->partial_floats);
        m->transposed_at = normed_reserve(&p.transposed_floats,
                                          m->winograd ? winograd_weight_floats(&exchanged) : wide_conv_packed_floats(&t));
        m->runs = most_images * (m->winograd ? ceil_div(w.TH * w.TW, WINOGRAD_STRIP) : wide_weight_runs(l->OH * l->OW));
        p.most_channels = i64_max(p.most_channels, m->Op);
        p.most_partial = i64_max(p.most_partial, joined_floats(m->partial_floats, m->winograd ? 1 : m->runs));
        p.input_floats = i64_max(p.input_floats, m->group * wide_place_floats(&m->input));
        p.grad_floats = i64_max(p.grad_floats, m->group * wide_place_floats(&m->grad));
        p.image_floats = i64_max(p.image_floats, i64_max(m->z_image, ceil_div(l->C, VL) * VL * l->H * l->W));
        if (m->winograd) {
            p.work_floats = i64_max(p.work_floats, winograd_work_floats(&w));
            p.product_floats = i64_max(p.product_floats, joined_floats(WINOGRAD_POINTS * winograd_step(w.Cp, w.Op), m->runs));
        }
    }
    p.image_floats = round_up(p.image_floats, NORMED_ALIGN);
    p.input_floats = round_up(p.input_floats, NORMED_ALIGN);
    p.grad_floats = round_up(p.grad_floats, NORMED_ALIGN);
    p.work_floats = round_up(p.work_floats, NORMED_ALIGN);
    p.product_floats = round_up(p.product_floats, NORMED_ALIGN);
    const i64 even = normed_reserve(&p.state_floats, most_d[0]), odd = normed_reserve(&p.state_floats, most_d[1]);
    for (i64 i = 0; i < c->layers; i++) p.layer[i].d_at = i % 2 ? odd : even;   /* two are in use at a time */
    p.sums_at = normed_reserve(&p.state_floats, p.blocks * NORMED_SUMS * p.most_channels);
    return p;
}

/* A layer's arrays in the state, from image n on */
INLINE float *normed_z(const struct normed_plan *p, i64 l, i64 n) {
    return (float *)p->c->state + p->layer[l].z_at + n * p->layer[l].z_image;
}
INLINE float *normed_d(const struct normed_plan *p, i64 l, i64 n) {
    return (float *)p->c->state + p->layer[l].d_at + n * p->layer[l].d_image;
}
INLINE float *normed_constants(const struct normed_plan *p, i64 l) { return (float *)p->c->state + p->layer[l].constants_at; }
INLINE float *normed_block_sums(const struct normed_plan *p, i64 block) {
    return (float *)p->c->state + p->sums_at + block * NORMED_SUMS * p->most_channels;
}

/* Of the block of channels from o on, in such sums */
INLINE struct v_joined normed_sum(const struct normed_layer *m, const float *sums, int which, i64 o) {
    return (struct v_joined){v_load(sums + which * m->Op + o), v_load(sums + (which + NORMED_FIRST_LOW) * m->Op + o)};
}
INLINE void normed_set_sum(const struct normed_layer *m, float *sums, int which, i64 o, struct v_joined v) {
    v_store(sums + which * m->Op + o, v.sum);
    v_store(sums + (which + NORMED_FIRST_LOW) * m->Op + o, v.low);
}
/* Of channel o, in double precision */
INLINE double normed_exact(const struct normed_layer *m, const float *sums, int which, i64 o) {
    const double sum = sums[which * m->Op + o], low = sums[(which + NORMED_FIRST_LOW) * m->Op + o];
    return isfinite(low) ? sum + low : sum;
}

/* This task's block: every other pass goes through the batch backwards, over what the one before left in cache. */
INLINE i64 normed_turn(const struct normed_plan *p, i64 pass, i64 index) { return pass % 2 ? p->blocks - 1 - index : index; }

#endif
