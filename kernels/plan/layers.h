/* What every kind of chain asks of its layers: the work, and whether their weights are still those that were packed. */
#ifndef FASTNN_LAYERS_H
#define FASTNN_LAYERS_H

#include "base/simd.h"
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
