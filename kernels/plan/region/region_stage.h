/* A region as a stage of a plan: which engine runs it. */
#ifndef FASTNN_REGION_STAGE_H
#define FASTNN_REGION_STAGE_H

#include "plan/region/infer.h"
#include "plan/region/naive.h"

KERNEL i64 region_supports(const struct region *r) { return r->naive || region_infer_supports(r); }

KERNEL const char *region_name(const struct region *r) {
    return r->naive ? "naive" : region_infer_supports(r) ? "infer" : "none";
}

KERNEL i64 region_state_bytes(const struct region *r) {
    return r->naive ? region_naive_state_bytes(r) : region_infer_state_bytes(r);
}

KERNEL int region_forward(const void *arguments, struct program *program) {
    const struct region *r = arguments;
    return r->naive ? region_naive_forward(r, program) : region_infer_forward(r, program);
}

KERNEL int region_backward(const void *arguments, struct program *program) {
    (void)program;
    return region_naive_backward(arguments);
}

#endif
