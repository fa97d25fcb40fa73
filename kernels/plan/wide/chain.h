/* The wide chain: convolutions with bias, activations that never fall, and max-pooling, lanes = channels. Good where channels fill vectors.
 *
 * Work for each image, images in blocks: what is between the layers stays in one thread's L2, and only pooled outputs and a byte for each
 * reach memory. Measured on one thread of a 2-core Zen 5 (AVX-512, peak 240 GFLOP/s), MNIST, conv 1->32, conv 32->64, 2x2 pool: 33 us
 * an image forward and 48 backward; direct dense loops at the peak have 90 and 180. With AVX2 (peak 120): 60 and 94.
 *
 * wide/layout.h    activations of one image in blocks of VL channels
 * wide/pool.h      pooling of a strip of outputs
 * wide/plan.h      what lies where
 * wide/flat.h      which parts of an image are one colour
 * wide/first.h     the first layer, from planes
 * wide/tiles.h     3x3 layers by Winograd
 * wide/forward.h   an image through all layers
 * wide/sparse.h    gradients of pooled convolutions, from lists of what is not zero
 * wide/backward.h  an image back through all layers; partial gradients
 * wide/layers.h    a layer's gradients of all images, where its weights exceed L2
 */
#ifndef FASTNN_WIDE_CHAIN_H
#define FASTNN_WIDE_CHAIN_H

#include "plan/wide/layers.h"

KERNEL i64 wide_chain_supports(const struct chain *c) {
    const i64 most = INT32_MAX / VL;    /* pixels of a plane: lists of positions are int32 */
    if (c->layers < 1 || c->layers > CHAIN_MOST_LAYERS) return 0;
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        if (chain_full(l) && !(chain_average(l) && l->activation <= ACTIVATION_RELU && !l->pool_first)) return 0;
        if (l->norm || l->pool < 1 || l->pool > WIDE_MOST_POOL || l->PH < 1 || l->PW < 1) return 0;
        if (chain_average(l) && (l->pool > 1 || i + 1 < c->layers)) return 0;
        if (i == 0 && l->C * l->kh * l->kw > WIDE_FIRST_TAPS) return 0;
        if ((l->H + 2 * l->pad_h + 8) * (l->W + 2 * l->pad_w + 8) > most) return 0;
        if (l->kh > 7 || l->kw > 7 || l->pad_h >= l->kh || l->pad_w >= l->kw) return 0;
    }
    return 1;
}

SMALL i64 wide_chain_state_bytes(const struct chain *c) {
    struct wide_plan p = wide_make_plan(c);
    i64 kept = p.packed;
    for (i64 i = 0; i < c->layers; i++) kept += chain_given_floats(&c->layer[i]);
    return c->training ? c->N * p.record + p.blocks * joined_floats(p.partial, p.runs) * (i64)sizeof(float) : kept * (i64)sizeof(float);
}

KERNEL int wide_chain_backward(const void *arguments, struct program *program) {
    struct wide_plan plan = wide_make_plan(arguments);
    struct wide_back back = wide_make_back(&plan);
    float *packed = fastnn_scratch(SCRATCH_WIDE_WEIGHT, (size_t)(plan.packed + plan.transposed) * sizeof(float));
    float *transposed = packed + plan.packed;
    struct wide_back_job job = {{.plan = &plan, .packed = packed, .transposed = transposed}, &back};
    if (!packed) return -1;
    plan.input = plan.chain->x ? (const void *)plan.chain->x : program->input;
    wide_pack_layer(&plan, 0, packed);
    wide_pack_back(&plan, transposed);
    if (plan.group > 1) wide_backward_layers(&job);
    else fastnn_parallel(plan.blocks, 2 * chain_flops(plan.chain), wide_backward_block, &job);
    if (job.job.failed) return -1;
    fastnn_parallel(WIDE_SUM_TASKS, 4.0 * (double)(plan.blocks * plan.partial), wide_add_partials, &plan);  /* bound by memory */
    wide_store_gradients(&plan);
    return 0;
}

#endif
