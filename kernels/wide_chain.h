/* The wide chain: convolutions with bias, ReLU and pooling, lanes = channels. Good where channels fill vectors.
 *
 * wide_layout.h    activations of one image in blocks of VL channels
 * wide_pool.h      pooling of a strip of outputs
 * wide_plan.h      what lies where
 * wide_forward.h   an image through all layers
 * wide_sparse.h    gradients of pooled convolutions, from lists of what is not zero
 * wide_backward.h  an image back through all layers; partial gradients
 */
#ifndef FASTNN_WIDE_CHAIN_H
#define FASTNN_WIDE_CHAIN_H

#include "wide_backward.h"

KERNEL i64 wide_chain_supports(const struct chain *c) {
    if (c->layers < 1 || c->layers > CHAIN_MOST_LAYERS) return 0;
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        if (l->norm || l->pool < 1 || l->pool > WIDE_MOST_POOL || l->PH < 1 || l->PW < 1) return 0;
        if (l->global_average && (l->pool > 1 || i + 1 < c->layers)) return 0;
        if (l->kh > 7 || l->kw > 7 || l->pad_h >= l->kh || l->pad_w >= l->kw) return 0;
    }
    return 1;
}

KERNEL i64 wide_chain_state_bytes(const struct chain *c) {
    struct wide_plan p = wide_make_plan(c);
    return c->training ? c->N * p.record + p.blocks * p.partial * (i64)sizeof(float) : 0;
}

#endif
