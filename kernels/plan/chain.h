/* The per-image chain of convolutions, as a stage of a plan: which kernels run it is chosen here, by shape and ISA alone.
 *
 *   norm    lanes = channels, with batch norm between the layers, which needs the whole batch
 *   narrow  lanes = images: fewer channels than lanes, and images enough; and what no other can, but for inference of a few images,
 *           which a region does 3 to 12 times as fast
 *   planes  lanes = pixels or channels: a few images, forward only, of such networks
 *   wide    lanes = channels: layers whose channels fill vectors, or few images
 */
#ifndef FASTNN_CHAIN_H
#define FASTNN_CHAIN_H

#include "plan/narrow/chain.h"
#include "plan/norm/chain.h"
#include "plan/planes/chain.h"
#include "plan/wide/chain.h"

enum chain_kind { CHAIN_NONE, CHAIN_NORM, CHAIN_NARROW, CHAIN_PLANES, CHAIN_WIDE };

INLINE int chain_has_norm(const struct chain *c) {
    for (i64 i = 0; i < c->layers; i++)
        if (c->layer[i].norm) return 1;
    return 0;
}

/* The part of all multiplications that lanes = channels would spend on lanes without a channel. */
INLINE double chain_waste(const struct chain *c) {
    double useful = 0, done = 0;
    for (i64 i = 0; i < c->layers; i++) {
        const struct chain_layer *l = &c->layer[i];
        double taps = (double)(l->OH * l->OW * l->C * l->kh * l->kw);
        useful += taps * (double)l->O;
        done += taps * (double)round_up(l->O, VL);
    }
    return 1 - useful / done;
}

KERNEL enum chain_kind chain_kind(const struct chain *c) {
    if (chain_has_norm(c)) return norm_chain_supports(c) ? CHAIN_NORM : CHAIN_NONE;
    if (chain_waste(c) > 0.05) {
        if (c->N >= VL / 2 && narrow_chain_supports(c)) return CHAIN_NARROW;
        if (c->N < VL / 2 && planes_chain_supports(c)) return CHAIN_PLANES;
    }
    if (wide_chain_supports(c)) return CHAIN_WIDE;
    return (c->training || c->N >= VL / 2) && narrow_chain_supports(c) ? CHAIN_NARROW : CHAIN_NONE;
}

KERNEL i64 chain_supports(const struct chain *c) { return chain_kind(c) != CHAIN_NONE; }

/* Whether the same layers take longer as a region: not where most lanes would have no image. */
KERNEL i64 chain_is_fast(const struct chain *c) { return chain_kind(c) != CHAIN_NARROW || c->N >= VL / 2; }

KERNEL const char *chain_name(const struct chain *c) {
    static const char *const names[] = {"none", "norm", "narrow", "planes", "wide"};
    return names[chain_kind(c)];
}

KERNEL i64 chain_state_bytes(const struct chain *c) {
    switch (chain_kind(c)) {
    case CHAIN_NORM: return norm_chain_state_bytes(c);
    case CHAIN_NARROW: return narrow_chain_state_bytes(c);
    case CHAIN_PLANES: return planes_chain_state_bytes(c);
    default: return wide_chain_state_bytes(c);
    }
}

KERNEL int chain_forward(const void *arguments, struct program *program) {
    switch (chain_kind(arguments)) {
    case CHAIN_NORM: return norm_chain_forward(arguments, program);
    case CHAIN_NARROW: return narrow_chain_forward(arguments, program);
    case CHAIN_PLANES: return planes_chain_forward(arguments, program);
    default: return wide_chain_forward(arguments, program);
    }
}

KERNEL int chain_backward(const void *arguments, struct program *program) {
    switch (chain_kind(arguments)) {
    case CHAIN_NORM: return norm_chain_backward(arguments, program);
    case CHAIN_NARROW: return narrow_chain_backward(arguments, program);
    default: return wide_chain_backward(arguments, program);
    }
}

#endif
