/* Runs a plan's program: its stages in order, each on as many threads as it takes; and what does not depend on the instruction set. */
#include "base/denormals.h"
#include "base/stopping.h"
#include "base/threads.h"
#include "plan/operators.h"
#include "plan/stages.h"
#include "table.h"

#include <math.h>
#include <string.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int fastnn_run(struct program *p) {
    double before = now();
    p->loss = NAN; /* unless a stage computes it */
    for (int64_t i = 0; i < p->stages; i++) {
        if (fastnn_stopped()) return PROGRAM_STOPPED;
        if (i == p->updates_from) fastnn_stoppable_hold();
        p->reached = i;
        const uint64_t control = p->stage[i].gradients ? without_denormals() : float_control();
        int status = p->stage[i].function(p->stage[i].arguments, p);
        set_float_control(control);
        if (status) return status;
        double after = now();
        p->stage[i].seconds = after - before;
        before = after;
    }
    return PROGRAM_DONE;
}

#define NAME(KIND) #KIND,
const char *const fastnn_operator_names[] = {OPERATORS(NAME) NULL};
#undef NAME

void fastnn_operator_counts(const struct operator_call *o, int64_t count[OPERATOR_ARRAYS]) {
    const int64_t *n = o->n;
    const struct conv2d_shape *c = (const struct conv2d_shape *)n;
    const int64_t x = c->N * c->C * c->H * c->W, y = c->N * c->O * c->OH * c->OW, weight = c->O * c->kh * c->kw * (c->C / (c->groups ? c->groups : 1));
    const int64_t pool_x = n[0] * n[1] * n[2], pool_y = n[0] * n[5] * n[6], normed = n[0] * n[1] * n[2];
    /* recurrent layers: T, B, H, mode, reverse */
    const int64_t states = normed, gates = n[3] == RECURRENT_LSTM ? 4 : n[3] == RECURRENT_GRU ? 3 : 1;
    const int64_t outputs = states + (n[3] == RECURRENT_LSTM ? n[1] * n[2] : 0);
#define COUNTS(...) memcpy(count, (int64_t[OPERATOR_ARRAYS]){__VA_ARGS__}, OPERATOR_ARRAYS * sizeof(int64_t)); return
#define SAME_THREE(KIND) case OPERATOR_##KIND: COUNTS(n[0], n[1] ? 1 : n[0], n[0]);
#define MATRICES(KIND) case OPERATOR_##KIND: COUNTS(n[0] * n[1], n[0] * n[1], n[0] * n[1]);
#define SAME_FOUR(KIND) case OPERATOR_##KIND: COUNTS(n[0], n[0], n[0], n[0]);
    switch (o->kind) {
    OPERATOR_ELEMENTS(SAME_THREE)
    OPERATOR_ROWS(MATRICES)
    OPERATOR_LOSSES(SAME_FOUR)
    case OPERATOR_extremum: COUNTS(n[0] * n[2], n[0] * n[2], n[0] * n[1] * n[2]);
    case OPERATOR_extremum_backward: COUNTS(n[0] * n[1] * n[2], n[0] * n[2], n[0] * n[2]);
    case OPERATOR_activation_forward: COUNTS(n[0], n[0]);
    case OPERATOR_activation_backward_input: COUNTS(n[0], n[2] ? 1 : n[0], n[0]);
    case OPERATOR_take_rows: COUNTS(n[0] * n[1], n[2] * n[1], n[0]);
    case OPERATOR_take_rows_backward: COUNTS(n[2] * n[1], n[0] * n[1], n[0]);
    case OPERATOR_dropout: COUNTS(n[0], n[0], 2);
    case OPERATOR_conv2d_forward: COUNTS(y, x, weight, c->O);
    case OPERATOR_conv2d_backward_input: COUNTS(x, y, weight);
    case OPERATOR_conv2d_backward_weight: COUNTS(weight, c->O, y, x);
    case OPERATOR_max_pool2d_forward: COUNTS(pool_y, pool_y, pool_x);
    case OPERATOR_max_pool2d_backward_input: COUNTS(pool_x, pool_y, pool_y);
    case OPERATOR_avg_pool2d_forward: COUNTS(pool_y, pool_x);
    case OPERATOR_avg_pool2d_backward_input: COUNTS(pool_x, pool_y);
    case OPERATOR_global_avg_pool2d_forward: COUNTS(n[0], n[0] * n[1]);
    case OPERATOR_global_avg_pool2d_backward_input: COUNTS(n[0] * n[1], n[0]);
    case OPERATOR_batch_norm_statistics: COUNTS(n[1], n[1], normed);
    case OPERATOR_batch_norm_forward: COUNTS(normed, normed, n[1], n[1], n[1], n[1]);
    case OPERATOR_batch_norm_backward_weight: COUNTS(n[1], n[1], normed, normed, n[1], n[1]);
    case OPERATOR_batch_norm_backward_input: COUNTS(normed, normed, normed, n[1], n[1], n[1], n[1], n[1]);
    case OPERATOR_softmax_cross_entropy: COUNTS(n[0], n[0] * n[1], n[0] * n[1], n[2] ? n[0] * n[1] : n[0]);
    case OPERATOR_nll: COUNTS(n[0], n[0] * n[1], n[0]);
    case OPERATOR_nll_backward: COUNTS(n[0] * n[1], n[2], n[0]);
    case OPERATOR_group_norm_forward: COUNTS(normed, 2 * n[0] * n[3], normed, n[1], n[1]);
    case OPERATOR_group_norm_backward: COUNTS(normed, n[1], n[1], normed, normed, 2 * n[0] * n[3], n[1]);
    case OPERATOR_recurrent_forward: COUNTS(outputs, states * gates, states, gates * n[2] * n[2], n[2], n[1] * n[2], n[1] * n[2]);
    case OPERATOR_recurrent_backward:
        COUNTS(states * gates, states, n[1] * n[2], n[1] * n[2], outputs, states * gates, outputs, states, gates * n[2] * n[2],
               n[1] * n[2], n[1] * n[2]);
    case OPERATOR_within: COUNTS(n[0]);
    case OPERATOR_loss: COUNTS(1);
    case OPERATOR_prod: COUNTS(n[0] * n[2], n[0] * n[1] * n[2]);
    case OPERATOR_prod_backward: COUNTS(n[0] * n[1] * n[2], n[0] * n[2], n[0] * n[1] * n[2], n[0] * n[2]);
    case OPERATOR_pick_rows: COUNTS(n[0] * n[2], n[0] * n[1], n[0] * n[2]);
    case OPERATOR_spread_rows: COUNTS(n[0] * n[1], n[3] ? 1 : n[0] * n[2], n[0] * n[2]);
    case OPERATOR_topk: COUNTS(n[0] * n[2], n[0] * n[1]);
    case OPERATOR_cumsum: COUNTS(n[0] * n[1] * n[2], n[0] * n[1] * n[2]);
    default: COUNTS(0);
    }
}

int64_t fastnn_operator_element(const struct operator_call *o, int64_t operand) {
    switch (o->kind) {
    case OPERATOR_max_pool2d_forward: return operand == 1 ? ELEMENT_INT32 : ELEMENT_FLOAT;
    case OPERATOR_max_pool2d_backward_input: return operand == 2 ? ELEMENT_INT32 : ELEMENT_FLOAT;
    case OPERATOR_extremum: return operand == 1 ? ELEMENT_INT64 : ELEMENT_FLOAT;
    case OPERATOR_topk: return operand == 0 ? ELEMENT_INT64 : ELEMENT_FLOAT;
    case OPERATOR_dropout: case OPERATOR_extremum_backward: case OPERATOR_nll: case OPERATOR_nll_backward:
    case OPERATOR_take_rows: case OPERATOR_take_rows_backward: case OPERATOR_pick_rows: case OPERATOR_spread_rows:
        return operand == 2 ? ELEMENT_INT64 : ELEMENT_FLOAT;
    case OPERATOR_softmax_cross_entropy: return operand == 3 && !o->n[2] ? ELEMENT_INT64 : ELEMENT_FLOAT;
    default: return ELEMENT_FLOAT;
    }
}
