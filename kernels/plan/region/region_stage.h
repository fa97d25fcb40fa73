/* A region as a stage of a plan: which engine runs it. */
#ifndef FASTNN_REGION_STAGE_H
#define FASTNN_REGION_STAGE_H

#include "plan/region/infer.h"
#include "plan/region/naive.h"
#include "plan/region/train.h"

enum region_engine { REGION_NONE, REGION_NAIVE, REGION_TRAIN, REGION_INFER };

INLINE enum region_engine region_engine(const struct region *r) {
    if (r->naive) return REGION_NAIVE;
    if (r->training) return region_train_supports(r) ? REGION_TRAIN : REGION_NONE;
    return region_infer_supports(r) ? REGION_INFER : REGION_NONE;
}

KERNEL i64 region_supports(const struct region *r) { return region_engine(r) != REGION_NONE; }

KERNEL const char *region_name(const struct region *r) {
    static const char *const names[] = {"none", "naive", "train", "infer"};
    return names[region_engine(r)];
}

/* -1: no memory */
KERNEL i64 region_state_bytes(const struct region *r) {
    switch (region_engine(r)) {
    case REGION_TRAIN: return region_train_state_bytes(r);
    case REGION_INFER: return region_infer_state_bytes(r);
    default: return region_naive_state_bytes(r);
    }
}

KERNEL int region_forward(const void *arguments, struct program *program) {
    const struct region *r = arguments;
    switch (region_engine(r)) {
    case REGION_TRAIN: return region_train_forward(r, program);
    case REGION_INFER: return region_infer_forward(r, program);
    default: return region_naive_forward(r, program);
    }
}

KERNEL int region_backward(const void *arguments, struct program *program) {
    const struct region *r = arguments;
    return region_engine(r) == REGION_TRAIN ? region_train_backward(r, program) : region_naive_backward(r);
}

#endif
