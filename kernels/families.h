/* The body of every isa_*.c: all operator families for the VL it set, and the table filled with them. */
#include "table.h"
#include "base/simd.h"
#include "ops/gemm.h"
#include "plan/chain.h"
#include "ops/conv2d.h"
#include "plan/dense/backward.h"
#include "plan/dense/forward.h"
#include "ops/elementwise.h"
#include "ops/group_norm.h"
#include "ops/loss.h"
#include "ops/norm_apply.h"
#include "ops/pool2d_average.h"
#include "ops/recurrent.h"
#include "plan/loss.h"
#include "plan/operator.h"
#include "plan/region/region_stage.h"
#include "plan/rows/rows.h"
#include "plan/update.h"
#include "base/random.h"
#include "ops/softmax.h"
#include "ops/update.h"

INLINE void fill_table(struct kernels *t, const char *isa) {
    t->isa = isa;
    t->lanes = VL;
    t->sgemm = sgemm;
    t->conv2d_forward = conv2d_forward;
    t->conv2d_backward_input = conv2d_backward_input;
    t->conv2d_backward_weight = conv2d_backward_weight;
    t->max_pool2d_forward = max_pool2d_forward;
    t->max_pool2d_backward_input = max_pool2d_backward_input;
    t->avg_pool2d_forward = avg_pool2d_forward;
    t->avg_pool2d_backward_input = avg_pool2d_backward_input;
    t->global_avg_pool2d_forward = global_avg_pool2d_forward;
    t->global_avg_pool2d_backward_input = global_avg_pool2d_backward_input;
    t->relu_forward = relu_forward;
    t->relu_backward_input = relu_backward_input;
    t->leaky_relu_forward = leaky_relu_forward;
    t->leaky_relu_backward_input = leaky_relu_backward_input;
    t->elu_forward = elu_forward;
    t->elu_backward_input = elu_backward_input;
    t->sigmoid_forward = sigmoid_forward;
    t->sigmoid_backward_input = sigmoid_backward_input;
    t->tanh_forward = tanh_forward;
    t->tanh_backward_input = tanh_backward_input;
    t->gelu_forward = gelu_forward;
    t->gelu_backward_input = gelu_backward_input;
    t->silu_forward = silu_forward;
    t->silu_backward_input = silu_backward_input;
    t->activation_forward = activation_forward;
    t->activation_backward_input = activation_backward_input;
    t->softmax_forward = softmax_forward;
    t->softmax_backward_input = softmax_backward_input;
    t->log_softmax_forward = log_softmax_forward;
    t->log_softmax_backward_input = log_softmax_backward_input;
    t->dropout_forward = dropout_forward;
    t->batch_norm_statistics = batch_norm_statistics;
    t->batch_norm_forward = batch_norm_forward;
    t->batch_norm_backward_weight = batch_norm_backward_weight;
    t->batch_norm_backward_input = batch_norm_backward_input;
    t->group_norm_forward = group_norm_forward;
    t->group_norm_backward = group_norm_backward;
    t->recurrent_forward = recurrent_forward;
    t->recurrent_backward = recurrent_backward;
    t->softmax_cross_entropy = softmax_cross_entropy;
    t->bce_with_logits = bce_with_logits;
    t->mse = mse;
    t->huber = huber;
    t->smooth_l1 = smooth_l1;
    t->update = update_array;
    t->sum_of_squares = sum_of_squares;
    t->chain_supports = chain_supports;
    t->chain_is_fast = chain_is_fast;
    t->chain_name = chain_name;
    t->chain_state_bytes = chain_state_bytes;
    t->chain_forward = chain_forward;
    t->chain_backward = chain_backward;
    t->region_supports = region_supports;
    t->region_name = region_name;
    t->region_state_bytes = region_state_bytes;
    t->region_forward = region_forward;
    t->region_backward = region_backward;
    t->dense_name = dense_name;
    t->dense_work_bytes = dense_work_bytes;
    t->dense_forward = dense_forward;
    t->dense_backward = dense_backward;
    t->loss_stage = loss_stage;
    t->operator_stage = operator_stage;
    t->rows_supports = rows_supports;
    t->rows_work_bytes = rows_work_bytes;
    t->rows_forward = rows_forward;
    t->rows_backward = rows_backward;
    t->update_stage = update_stage;
}
