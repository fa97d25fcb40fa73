/* The operators that are stages of a plan by themselves: one list, which the enum, the names that Python knows them by, and the
 * driver (operator.h) are made of. Operand 0 is the output of each unless said otherwise.
 *
 * MAPS      entry by entry, with broadcasting, any strides and several types: formulas in operator_map.h
 * ELEMENTS  eager kernels of contiguous arrays of one size: y, a [, b]; with n[1] a is one number
 * ROWS      eager kernels of matrices: y, a [, b]
 * LOSSES    eager kernels of contiguous arrays: losses, gradient, x, target
 * OTHERS    each as its case in operator.h says
 */
#ifndef FASTNN_OPERATORS_H
#define FASTNN_OPERATORS_H

#define OPERATOR_MAPS(X)                                                                                                       \
    X(copy) X(add) X(sub) X(mul) X(div) X(pow) X(neg) X(abs) X(exp) X(log) X(sqrt) X(clamp) X(where)                           \
    X(equal) X(not_equal) X(less) X(less_equal) X(greater) X(greater_equal)                                                    \
    X(div_backward_b) X(pow_backward_a) X(pow_backward_b) X(abs_backward) X(sqrt_backward) X(deviation_backward)               \
    X(clamp_backward) X(normalize) X(follow) X(bce) X(bce_backward)                                                            \
    X(sin) X(cos) X(tan) X(asin) X(acos) X(atan) X(sinh) X(cosh) X(asinh) X(acosh) X(atanh) X(expm1) X(log1p) X(exp2)          \
    X(log2) X(log10) X(erf) X(sign) X(floor) X(ceil) X(round) X(trunc) X(atan2) X(fmod) X(remainder) X(minimum) X(maximum)     \
    X(share) X(own)
#define OPERATOR_ELEMENTS(X)                                                                                                   \
    X(relu_forward) X(relu_backward_input) X(leaky_relu_forward) X(leaky_relu_backward_input) X(elu_forward)                   \
    X(elu_backward_input) X(sigmoid_forward) X(sigmoid_backward_input) X(tanh_forward) X(tanh_backward_input) X(gelu_forward)  \
    X(gelu_backward_input) X(silu_forward) X(silu_backward_input)
#define OPERATOR_ROWS(X)                                                                                                       \
    X(softmax_forward) X(softmax_backward_input) X(log_softmax_forward) X(log_softmax_backward_input)
#define OPERATOR_LOSSES(X) X(mse) X(bce_with_logits) X(huber) X(smooth_l1)
#define OPERATOR_OTHERS(X)                                                                                                     \
    X(sum) X(extremum) X(extremum_backward) X(activation_forward) X(activation_backward_input) X(take_rows)                    \
    X(take_rows_backward) X(matmul) X(dropout) X(conv2d_forward) X(conv2d_backward_input)                    \
    X(conv2d_backward_weight) X(max_pool2d_forward) X(max_pool2d_backward_input) X(avg_pool2d_forward)                         \
    X(avg_pool2d_backward_input) X(global_avg_pool2d_forward) X(global_avg_pool2d_backward_input) X(batch_norm_statistics)     \
    X(batch_norm_forward) X(batch_norm_backward_weight) X(batch_norm_backward_input) X(softmax_cross_entropy) X(nll)           \
    X(nll_backward) X(within) X(loss) X(group_norm_forward) X(group_norm_backward)                                                \
    X(recurrent_forward) X(recurrent_backward) X(cumsum) X(pick) X(spread) X(put) X(prod)                              \
    X(prod_backward) X(topk) X(pick_rows) X(spread_rows)
#define OPERATORS(X) OPERATOR_MAPS(X) OPERATOR_ELEMENTS(X) OPERATOR_ROWS(X) OPERATOR_LOSSES(X) OPERATOR_OTHERS(X)

#define ENTRY(NAME) OPERATOR_##NAME,
enum operator_kind { OPERATORS(ENTRY) OPERATOR_KINDS };
#undef ENTRY
enum { OPERATOR_FIRST_NO_MAP = OPERATOR_relu_forward };

#endif
