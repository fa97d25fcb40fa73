/* The engine of regions that train: region_train_forward, region_train_backward; which regions it takes and what memory. */
#ifndef FASTNN_REGION_TRAIN_H
#define FASTNN_REGION_TRAIN_H

#include "plan/region/backward.h"

KERNEL i64 region_train_supports(const struct region *r) {
    return r->training && r->N >= 1 && r->nodes >= 1 && r->nodes <= REGION_MOST_NODES;
}

KERNEL i64 region_train_state_bytes(const struct region *r) {
    struct region_plan *p = fastnn_scratch(SCRATCH_CONV_OUTPUT, sizeof *p);
    if (!p) return -1;
    region_make_plan(r, p);
    return p->state_floats * (i64)sizeof(float);
}

#endif
