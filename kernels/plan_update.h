/* Stages that update whole parameters from their gradients, and what goes before: adding gradients up, clipping their norm. */
#ifndef FASTNN_PLAN_UPDATE_H
#define FASTNN_PLAN_UPDATE_H

#include "stages.h"
#include "update.h"

/* param and its state, by optimizer's formula: count floats in one pass. No arithmetic to speak of: the floor is memory,
 * 12 bytes a float for SGD, 20 with momentum, 28 for Adam. */
KERNEL int update_stage(const void *arguments, struct program *program) {
    const struct update *u = arguments;
    (void)program;
    update_array(u->optimizer, u->count, u->param, u->grad, u->state1, u->state2);
    return PROGRAM_DONE;
}

#endif
