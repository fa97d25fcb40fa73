/* The chain with batch norm: norm_chain_forward, norm_chain_backward; which chains it takes and what memory between the two. */
#ifndef FASTNN_NORM_CHAIN_H
#define FASTNN_NORM_CHAIN_H

#include "plan/norm/backward.h"

KERNEL i64 norm_chain_supports(const struct chain *c) {
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        if (!chain_simple(l) && !(chain_average(l) && l->activation <= ACTIVATION_RELU && !l->pool_first)) return 0;
        if (l->pad_h >= l->kh || l->pad_w >= l->kw || (chain_average(l) && i + 1 < c->layers)) return 0;
    }
    return c->layers >= 1 && c->layers <= CHAIN_MOST_LAYERS && c->N >= 1;
}

KERNEL i64 norm_chain_state_bytes(const struct chain *c) {
    return c->training ? normed_make_plan(c).state_floats * (i64)sizeof(float) : 0;
}

#endif
