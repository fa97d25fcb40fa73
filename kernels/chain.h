/* The per-image chain of convolutions, as a stage of a plan: which kernels run it is chosen here, by shape and ISA alone.
 *
 *   wide    lanes = channels: layers whose channels fill vectors, and a few images of any network
 *   narrow  lanes = images: fewer channels than lanes, and images enough
 */
#ifndef FASTNN_CHAIN_H
#define FASTNN_CHAIN_H

#include "narrow_chain.h"
#include "wide_chain.h"

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

INLINE int chain_is_narrow(const struct chain *c) {
    return narrow_chain_supports(c) && c->N >= VL / 2 && chain_waste(c) > 0.2;
}

KERNEL i64 chain_supports(const struct chain *c) { return chain_is_narrow(c) || wide_chain_supports(c); }

KERNEL i64 chain_state_bytes(const struct chain *c) {
    return chain_is_narrow(c) ? narrow_chain_state_bytes(c) : wide_chain_state_bytes(c);
}

KERNEL int chain_forward(const void *arguments, struct program *program) {
    return chain_is_narrow(arguments) ? narrow_chain_forward(arguments, program) : wide_chain_forward(arguments, program);
}

KERNEL int chain_backward(const void *arguments, struct program *program) {
    return chain_is_narrow(arguments) ? narrow_chain_backward(arguments, program) : wide_chain_backward(arguments, program);
}

#endif
