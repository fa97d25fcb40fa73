/* What every kind of chain asks of its layers: the work, what may happen in registers, whether their weights are still those packed. */
#ifndef FASTNN_LAYERS_H
#define FASTNN_LAYERS_H

#include "base/simd.h"
#include "parts/activation.h"
#include "plan/stages.h"

/* Of the convolutions, forward. */
INLINE double chain_flops(const struct chain *c) {
    double flops = 0;
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        flops += 2.0 * (double)(c->N * l->O * l->OH * l->OW) * (double)(l->C * l->kh * l->kw);
    }
    return flops;
}

INLINE int chain_relu(const struct chain_layer *l) { return l->activation == ACTIVATION_RELU; }
INLINE int chain_average(const struct chain_layer *l) { return l->pool_kind == POOL_GLOBAL_AVERAGE; }
INLINE int chain_plain_pool(const struct chain_layer *l) { return l->pool_kind == POOL_NONE || l->pool > 1; }

/* Whether the activation is applied to what plain max-pooling has left, and its gradient follows from the output: for it never falls. */
INLINE int chain_late(const struct chain_layer *l) {
    return chain_plain_pool(l) && l->activation != ACTIVATION_NONE && activation_is_monotone((int)l->activation, l->parameter);
}
/* Whether activation or pooling need the convolution's own outputs. */
INLINE int chain_full(const struct chain_layer *l) {
    return !chain_plain_pool(l) || (l->activation != ACTIVATION_NONE && !chain_late(l));
}
/* Whether bias, ReLU and plain max-pooling are all that follows the convolution. */
INLINE int chain_simple(const struct chain_layer *l) { return !chain_full(l) && l->activation <= ACTIVATION_RELU; }

/* The same layer, but for what needs the convolution's own outputs: what these are made by. */
INLINE struct chain_layer chain_bare(const struct chain_layer *l) {
    struct chain_layer bare = *l;
    if (!chain_full(l)) return bare;
    bare.activation = ACTIVATION_NONE, bare.pool_kind = POOL_NONE, bare.pool = 1, bare.PH = l->OH, bare.PW = l->OW;
    return bare;
}

/* Floats of a layer's weight and bias, as they are given. */
INLINE i64 chain_given_floats(const struct chain_layer *l) { return l->O * (l->C * l->kh * l->kw + 1); }

/* Whether they are others than in copy (chain_given_floats of it, zero at first: right for weights that are zero), which then becomes
 * them. For a few images packing takes longer than the convolutions, and comparing takes little. */
INLINE int chain_given_changed(const struct chain_layer *l, float *copy) {
    const i64 entries = l->O * l->C * l->kh * l->kw;
    const size_t weight = (size_t)entries * sizeof(float), bias = l->bias ? (size_t)l->O * sizeof(float) : 0;
    if (!memcmp(copy, l->weight, weight) && (!bias || !memcmp(copy + entries, l->bias, bias))) return 0;
    memcpy(copy, l->weight, weight);
    if (bias) memcpy(copy + entries, l->bias, bias);
    return 1;
}

#endif
