/* The narrow chain: convolution, bias, activation, pooling, once or more, forward and backward, lanes = images.
 *
 * The batch is cut into blocks of VL images, each a task that goes through all layers while its activations are in cache. Between
 * forward and backward a block keeps each layer's padded input, the places of the maxima, and what slopes follow from. Weight gradients are sums over a block;
 * the blocks' are added in order, so results are the same bits for any number of threads.
 *
 * LeNet-5 (5x5 6, pool, 5x5 16, pool on 28x28) is 1.9 MFLOP an image forward and backward: 1.06 ms for 128 images on one core of
 * 230 GFLOP/s. Measured (CPU time): 1.12 ms, 1.25 ms without Winograd; AVX2, 115 GFLOP/s: 1.83 and 2.5 ms.
 */
#ifndef FASTNN_NARROW_CHAIN_H
#define FASTNN_NARROW_CHAIN_H

#include "plan/layers.h"
#include "plan/narrow/sweep.h"
#include "plan/narrow/winograd_grad.h"
#include "base/threads.h"

enum { NARROW_MOST_PLACES = 127, NARROW_ADD_FLOATS = 1 << 12 };

struct narrow_chain {
    const struct chain *c;
    const void *input;
    i64 blocks;
    i64 block_bytes;                            /* of a block's memory */
    struct chain_layer bare[CHAIN_MOST_LAYERS];             /* the layers as the convolutions see them */
    i64 x[CHAIN_MOST_LAYERS], where[CHAIN_MOST_LAYERS], kept[CHAIN_MOST_LAYERS];    /* of each layer in it, in bytes */
    i64 forward_m[CHAIN_MOST_LAYERS], backward_m[CHAIN_MOST_LAYERS];    /* side of Winograd's tiles, 0: direct convolution */
    i64 m[CHAIN_MOST_LAYERS];                   /* of either: what the layout of x must have room for */
    i64 sums;                                   /* floats of a block's weight gradients */
    i64 weight_sums[CHAIN_MOST_LAYERS], bias_sums[CHAIN_MOST_LAYERS];
    i64 weights, packed[CHAIN_MOST_LAYERS];     /* floats of packed weights, and where each layer's are */
    i64 forward, backward;                      /* floats of a task's work */
    i64 plane;                                  /* floats of the largest of layers' inputs and outputs */
    i64 full;                                   /* of the convolutions' own outputs, where these are needed */
    int last_gradient;                          /* backward: the first layer that anything is wanted of */
    const float *weight;                        /* the packed ones */
    int failed;
};

KERNEL i64 narrow_chain_supports(const struct chain *c) {
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        if (l->norm || (l->pool_kind == POOL_MAX && l->pool_h * l->pool_w > NARROW_MOST_PLACES)) return 0;
        if (l->pad_h >= l->kh || l->pad_w >= l->kw || l->PH < 1 || l->PW < 1) return 0;
    }
    return 1;
}

/* Whether Winograd is faster: `products` convolutions' worth of products, and transforms that cost as many products a channel. */
INLINE int narrow_winograd_pays(const struct chain_layer *l, i64 m, double products, double transforms) {
    double direct = products * (double)(l->PH * l->PW * l->pool * l->pool * l->kh * l->kw) * (double)(l->C * l->O);
    double tiles = (double)(narrow_tiles_h(l, m) * narrow_tiles_w(l, m));
    return direct > 36 * tiles * (products * (double)(l->C * l->O) + transforms * VL / 16 * (double)(l->C + l->O));
}

/* Fills in m, forward_m, backward_m of layer i, of which weight gradients and an input gradient may be wanted; the costs of transforms
 * are measured ones. */
INLINE void narrow_plan_winograd(struct narrow_chain *p, i64 i, int weight, int input) {
    const struct chain_layer *l = &p->bare[i];
    const i64 m = l->kh == 5 ? 2 : 4;
    if (p->c->exact || l->pool > 2 || l->kh != l->kw || (l->kh != 3 && l->kh != 5)) return;
    if (narrow_winograd_pays(l, m, 1, m == 2 ? 4.5 : 9)) p->forward_m[i] = m;
    if (p->c->training && narrow_winograd_pays(l, m, weight + input, m == 2 ? 10 : 30)) p->backward_m[i] = m;
    p->m[i] = p->forward_m[i] | p->backward_m[i];
}

/* Whether a layer's backward needs a byte for each output: the place of its maximum, or that ReLU gave zero. */
INLINE int narrow_has_places(const struct chain_layer *l) {
    return l->pool_kind == POOL_MAX || (chain_relu(l) && !chain_full(l));
}

/* Floats that backward needs of layer i for the slope of its activation, beside the next layer's input */
INLINE i64 narrow_kept_floats(const struct chain *c, i64 i) {
    const struct chain_layer *l = &c->layer[i];
    if (l->activation == ACTIVATION_NONE || (!chain_full(l) && (chain_relu(l) || i + 1 < c->layers))) return 0;
    return l->O * VL * (chain_full(l) && !l->pool_first ? l->OH * l->OW : l->PH * l->PW);
}

INLINE struct narrow_chain narrow_chain_plan(const struct chain *c) {
    struct narrow_chain p = {.c = c, .blocks = ceil_div(c->N, VL), .last_gradient = (int)c->layers};
    for (i64 i = c->layers - 1; i >= 0; i--)
        if (c->grad_x || c->layer[i].grad_weight || c->layer[i].grad_bias) p.last_gradient = (int)i;
    for (i64 i = c->layers - 1; i >= 0; i--) {
        const struct chain_layer *l = &p.bare[i], *given = &c->layer[i];
        p.bare[i] = chain_bare(given);
        narrow_plan_winograd(&p, i, l->grad_weight || l->grad_bias, i > p.last_gradient || c->grad_x);
        i64 m = p.m[i], taps = l->kh * l->kw;
        i64 forward = l->O * l->C * (p.forward_m[i] ? 36 : taps), backward = l->O * l->C * (p.backward_m[i] ? 36 : taps);
        i64 outputs = l->O * l->PH * l->PW * VL, pooled = given->O * given->PH * given->PW * VL, kept = narrow_kept_floats(c, i);
        p.x[i] = p.block_bytes;
        p.block_bytes += narrow_input_floats(l, m) * (i64)sizeof(float);
        p.where[i] = p.block_bytes;
        p.block_bytes += narrow_has_places(given) ? round_up(pooled, 64) : 0;
        p.kept[i] = p.block_bytes;
        p.block_bytes += kept * (i64)sizeof(float);
        if (chain_full(given)) p.full = i64_max(p.full, outputs);
        p.weight_sums[i] = p.sums;
        p.bias_sums[i] = p.sums + backward;
        p.sums = round_up(p.bias_sums[i] + l->O, 16);
        p.packed[i] = p.weights;
        p.weights += round_up(i64_max(forward, backward), 16);
        p.plane = i64_max(p.plane, i64_max(pooled, l->C * l->H * l->W * VL));
        p.forward = i64_max(p.forward, p.forward_m[i] ? narrow_winograd_forward_floats(l, m) : narrow_strip_floats(l));
        p.backward = i64_max(p.backward, p.backward_m[i] ? narrow_winograd_grad_floats(l, m)
                                                         : i64_max(narrow_grad_floats(l), narrow_dense_floats(l)));
    }
    return p;
}

SMALL i64 narrow_chain_state_bytes(const struct chain *c) {
    struct narrow_chain p = narrow_chain_plan(c);
    return c->training ? p.blocks * (p.block_bytes + p.sums * (i64)sizeof(float)) : 0;
}

/* ---- forward ---- */

INLINE struct narrow_view narrow_compact(float *at, i64 H, i64 W) { return (struct narrow_view){at, H * W * VL, W * VL}; }

/* Layer i's kept values; those of plain layers are the next layer's input. */
INLINE struct narrow_view narrow_kept(const struct narrow_chain *p, i64 i, char *block) {
    const struct chain_layer *l = &p->c->layer[i], *next = &p->bare[i + 1];
    if (!chain_full(l) && i + 1 < p->c->layers) return narrow_inside(next, p->m[i + 1], (float *)(block + p->x[i + 1]));
    const int whole = chain_full(l) && !l->pool_first;
    return narrow_compact((float *)(block + p->kept[i]), whole ? l->OH : l->PH, whole ? l->OW : l->PW);
}

/* Where layer i's convolution writes to: its outputs if they are kept or all there is, else a buffer. */
INLINE struct narrow_view narrow_conv_target(const struct narrow_chain *p, i64 i, char *block, struct narrow_view y, float *full) {
    const struct chain_layer *l = &p->c->layer[i];
    if (!chain_full(l)) return y;
    return l->activation == ACTIVATION_NONE || l->pool_first ? narrow_compact(full, l->OH, l->OW) : narrow_kept(p, i, block);
}

/* y of layer i from what its convolution has written to `out` */
static void narrow_follow(const struct narrow_chain *p, i64 i, char *block, struct narrow_view out, struct narrow_view y, float *full) {
    const struct chain_layer *l = &p->c->layer[i];
    const struct narrow_view kept = narrow_kept(p, i, block);
    int8_t *const where = l->pool_kind == POOL_MAX ? (int8_t *)(block + p->where[i]) : NULL;
    if (!chain_full(l)) {
        if (l->activation <= ACTIVATION_RELU) return;
        narrow_activate(l, l->PH, l->PW, y, y);
        if (i + 1 == p->c->layers && p->c->training) memcpy(kept.at, y.at, (size_t)(l->O * kept.plane) * sizeof *y.at);
    } else if (l->activation != ACTIVATION_NONE && l->pool_first) {
        narrow_pool_planes(l, out, kept, where);
        narrow_activate(l, l->PH, l->PW, kept, y);
    } else if (l->activation != ACTIVATION_NONE) {
        const int from_y = activation_slope_from_y((int)l->activation, l->parameter);
        const struct narrow_view active = from_y ? kept : l->pool_kind == POOL_NONE ? y : narrow_compact(full, l->OH, l->OW);
        narrow_activate(l, l->OH, l->OW, kept, active);
        if (l->pool_kind != POOL_NONE) narrow_pool_planes(l, active, y, where);
    } else {
        narrow_pool_planes(l, out, y, where);
    }
}

static void narrow_forward_block(void *context, i64 index) {
    struct narrow_chain *p = context;
    const struct chain *c = p->c;
    const i64 last = c->layers - 1, first = index * VL, lanes = i64_min(VL, c->N - first);
    const i64 features = c->layer[last].O * c->layer[last].PH * c->layer[last].PW;
    const size_t work = (size_t)(p->plane + p->forward + p->full) * sizeof(float);
    float *scratch = fastnn_scratch(SCRATCH_CONV_IMAGE, work + (c->training ? 0 : (size_t)p->block_bytes));
    if (!scratch) { p->failed = 1; return; }
    float *full = scratch + p->plane + p->forward;
    char *block = c->training ? (char *)c->state + index * p->block_bytes : (char *)scratch + work;
    for (i64 i = 0; i <= last; i++) {
        const struct chain_layer *l = &p->bare[i], *next = &p->bare[i + 1];
        const i64 m = p->m[i], image = l->C * l->H * l->W;
        float *x = (float *)(block + p->x[i]);
        narrow_clear_frame(l->C, narrow_rows(l, m), narrow_cols(l, m), l->pad_h, l->pad_w, l->H, l->W, x);
        if (i == 0 && c->table)
            narrow_load_bytes(lanes, l->C, l->H, l->W, (const uint8_t *)p->input + first * image, c->table, narrow_inside(l, m, x));
        else if (i == 0)
            narrow_load_floats(lanes, l->C, l->H, l->W, (const float *)p->input + first * image, narrow_inside(l, m, x));
        struct narrow_conv t = {.O = l->O, .C = l->C, .kh = l->kh, .kw = l->kw, .x = narrow_padded(l, m, x),
                                .top = l->pad_h, .left = l->pad_w, .inner_h = l->H, .inner_w = l->W,
                                .weight = p->weight + p->packed[i], .bias = l->bias,
                                .H = l->PH * l->pool, .W = l->PW * l->pool, .pool = l->pool, .relu = chain_relu(l), .strip = scratch + p->plane};
        const struct narrow_view y = i < last ? narrow_inside(next, p->m[i + 1], (float *)(block + p->x[i + 1]))
                                              : narrow_compact(scratch, c->layer[i].PH, c->layer[i].PW);
        t.y = narrow_conv_target(p, i, block, y, full);
        if (c->training && narrow_has_places(l)) t.where = (int8_t *)(block + p->where[i]);
        if (p->forward_m[i]) narrow_winograd_forward(m, &t, t.strip);
        else narrow_convolve(&t);
        narrow_follow(p, i, block, t.y, y, full);
    }
    narrow_store_floats(lanes, features, scratch, c->y + first * features);
}

KERNEL int narrow_chain_forward(const void *arguments, struct program *program) {
    const struct chain *c = arguments;
    struct narrow_chain p = narrow_chain_plan(c);
    float *packed = fastnn_scratch(SCRATCH_CONV_WEIGHT, (size_t)p.weights * sizeof *packed);
    if (!packed) return -1;
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        if (p.forward_m[i]) narrow_winograd_pack(l->kh, l->O, l->C, l->weight, 0, packed + p.packed[i]);
        else narrow_pack(l->O, l->C * l->kh * l->kw, l->weight, packed + p.packed[i]);
    }
    p.weight = packed;
    p.input = c->x ? (const void *)c->x : program->input;
    fastnn_parallel(p.blocks, chain_flops(c), narrow_forward_block, &p);
    return p.failed ? -1 : 0;
}

/* ---- backward ---- */

/* The gradient of what layer i's convolution has written, from that of y: in grad, or in `full`, which is returned */
static float *narrow_before(const struct narrow_chain *p, i64 i, char *block, float *grad, float *full) {
    const struct chain_layer *l = &p->c->layer[i];
    const int8_t *const where = l->pool_kind == POOL_MAX ? (const int8_t *)(block + p->where[i]) : NULL;
    const int active = l->activation != ACTIVATION_NONE && !(chain_relu(l) && !chain_full(l)), pooled = chain_full(l) && l->pool_kind;
    const int from_y = activation_slope_from_y((int)l->activation, l->parameter) && !(chain_full(l) && l->pool_first);
    if (active && !(pooled && !l->pool_first)) narrow_activate_backward(l, from_y, l->PH, l->PW, narrow_kept(p, i, block), grad);
    if (!pooled) return grad;
    narrow_unpool_planes(l, grad, where, full);
    if (active && !l->pool_first) narrow_activate_backward(l, from_y, l->OH, l->OW, narrow_kept(p, i, block), full);
    return full;
}

static void narrow_backward_block(void *context, i64 index) {
    struct narrow_chain *p = context;
    const struct chain *c = p->c;
    const i64 last = c->layers - 1, first = index * VL, lanes = i64_min(VL, c->N - first);
    const i64 features = c->layer[last].O * c->layer[last].PH * c->layer[last].PW;
    char *block = (char *)c->state + index * p->block_bytes;
    float *sums = (float *)((char *)c->state + p->blocks * p->block_bytes) + index * p->sums;
    float *scratch = fastnn_scratch(SCRATCH_CONV_IMAGE, (size_t)(2 * p->plane + p->backward + p->full) * sizeof *scratch);
    if (!scratch) { p->failed = 1; return; }
    float *grad = scratch, *below = scratch + p->plane, *work = scratch + 2 * p->plane, *full = work + p->backward;
    narrow_load_floats(lanes, features, 1, 1, c->grad_y + first * features, (struct narrow_view){grad, VL, VL});
    for (i64 i = last; i >= p->last_gradient; i--) {
        const struct chain_layer *l = &p->bare[i];
        const int8_t *where = narrow_has_places(l) ? (const int8_t *)(block + p->where[i]) : NULL;
        const float *dz = narrow_before(p, i, block, grad, full);
        const struct narrow_view x = narrow_padded(l, p->m[i], (float *)(block + p->x[i]));
        const float *weight = i > p->last_gradient || c->grad_x ? p->weight + p->packed[i] : NULL;
        float *weight_sums = l->grad_weight || l->grad_bias ? sums + p->weight_sums[i] : NULL, *bias_sums = sums + p->bias_sums[i];
        if (p->backward_m[i]) {
            narrow_winograd_backward(p->m[i], l, dz, where, x, weight, work, weight_sums, bias_sums, below);
        } else {
            if (weight_sums) narrow_weight_gradient(l, dz, where, x, work, weight_sums, bias_sums);
            if (weight) narrow_input_gradient(l, dz, where, weight, work, below);
        }
        float *swap = grad;
        grad = below;
        below = swap;
    }
    if (c->grad_x) {
        i64 image = c->layer[0].C * c->layer[0].H * c->layer[0].W;
        narrow_store_floats(lanes, image, grad, c->grad_x + first * image);
    }
}

/* to[i] = sum over the blocks, in order, of from[block * step + i] */
KERNEL void narrow_add_blocks(i64 blocks, i64 count, const float *from, i64 step, float *to) {
    for (i64 i = 0; i < count; i += VL) {
        const i64 lanes = i64_min(VL, count - i);
        struct folded sum = {};
        for (i64 b = 0; b < blocks; b++) fold(&sum, v_load_lanes(from + b * step + i, lanes, 0), b);
        v_store_lanes(to + i, folded_sum(sum), lanes);
    }
}

/* Task: NARROW_ADD_FLOATS of the blocks' sums, those of each layer that lie in them. Winograd's weights' take the place of the first
 * block's: they are still to be transformed. */
static void narrow_add_chunk(void *context, i64 index) {
    const struct narrow_chain *p = context;
    float *sums = (float *)((char *)p->c->state + p->blocks * p->block_bytes);
    i64 begin = index * NARROW_ADD_FLOATS, end = begin + NARROW_ADD_FLOATS;
    for (i64 i = p->last_gradient; i < p->c->layers; i++) {
        const struct chain_layer *l = &p->c->layer[i];
        i64 at[2] = {p->weight_sums[i], p->bias_sums[i]}, count[2] = {p->bias_sums[i] - p->weight_sums[i], l->O};
        float *to[2] = {l->grad_weight && p->backward_m[i] ? sums + at[0] : l->grad_weight, l->grad_bias};
        for (int j = 0; j < 2; j++) {
            i64 a = i64_max(begin, at[j]), b = i64_min(end, at[j] + count[j]);
            if (to[j] && a < b) narrow_add_blocks(p->blocks, b - a, sums + a, p->sums, to[j] + a - at[j]);
        }
    }
}

KERNEL int narrow_chain_backward(const void *arguments, struct program *program) {
    const struct chain *c = arguments;
    struct narrow_chain p = narrow_chain_plan(c);
    (void)program;
    float *packed = fastnn_scratch(SCRATCH_CONV_WEIGHT, (size_t)p.weights * sizeof *packed);
    if (!packed) return -1;
    for (i64 i = p.last_gradient; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        if (i == p.last_gradient && !c->grad_x) continue;
        if (p.backward_m[i]) narrow_winograd_pack(l->kh, l->O, l->C, l->weight, 1, packed + p.packed[i]);
        else narrow_pack_turned(l->O, l->C, l->kh * l->kw, l->weight, packed + p.packed[i]);
    }
    p.weight = packed;
    fastnn_parallel(p.blocks, 2 * chain_flops(c), narrow_backward_block, &p);
    if (p.failed) return -1;
    fastnn_parallel(ceil_div(p.sums, NARROW_ADD_FLOATS), (double)(p.blocks * p.sums), narrow_add_chunk, &p);
    for (i64 i = p.last_gradient; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        const float *sums = (const float *)((const char *)c->state + p.blocks * p.block_bytes) + p.weight_sums[i];
        if (p.backward_m[i] && l->grad_weight) narrow_winograd_unpack(l->kh, l->O * l->C, sums, l->grad_weight);
    }
    return 0;
}

#endif
