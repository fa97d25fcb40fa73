/* 2-D convolution (cross-correlation, as everywhere in deep learning), NCHW.
 *
 *   x (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) or NULL, y (N, O, OH, OW)
 *   y[n,o,oh,ow] = bias[o] + sum over c,i,j of weight[o,c,i,j] * x[n, g*C/groups + c, oh*stride + i*dilation - pad, ...]
 *
 * Two implementations, and the one place that chooses between them, by shape.
 */
#ifndef FASTNN_CONV2D_H
#define FASTNN_CONV2D_H

#include "ops/conv2d_im2col.h"

/* Direct loops reach their padded planes by 32-bit offsets: 8 GiB of them for one image. */
INLINE int conv_offsets_fit(const struct conv2d_shape *s) {
    double high = (double)s->H + 2.0 * (double)(s->pad_h + s->kh * s->dilation_h + s->stride_h);
    double wide = (double)s->W + 2.0 * (double)(s->pad_w + s->kw * s->dilation_w + s->stride_w);
    return (double)i64_max(s->C, s->O) * high * wide < 2e9;
}

enum conv2d_pass { CONV2D_FORWARD, CONV2D_BACKWARD_INPUT, CONV2D_BACKWARD_WEIGHT };

/* Direct loops win wherever their tiles are well filled (measured on AVX2, 1 to 512 channels, planes of 4 x 4 to 56 x 56).
 * They compute (pitch - OW) positions a row for nothing, a weight gradient wants long runs of positions, and an input gradient of
 * one or two channels does not repay the padded copy of its many source planes: these are matrix products in all but name. */
INLINE int conv2d_choose(const struct conv2d_shape *s, int algorithm, enum conv2d_pass pass) {
    if (algorithm == CONV2D_IM2COL || !conv_offsets_fit(s)) return CONV2D_IM2COL;
    if (algorithm == CONV2D_DIRECT) return CONV2D_DIRECT;
    i64 C = s->C / s->groups, O = s->O / s->groups, K = C * s->kh * s->kw;
    i64 pitch = s->OW + (s->kw - 1) * s->dilation_w / s->stride_w;
    int deep = O >= 16 && K >= 64, wasteful = 3 * s->OW <= 2 * pitch;
    int short_run = pass == CONV2D_BACKWARD_WEIGHT && s->OH * pitch * i64_max(1, s->N / 4) < 256;
    int few_rows = pass == CONV2D_BACKWARD_INPUT && C <= 2 && O >= 8;
    return few_rows || (deep && (wasteful || short_run)) ? CONV2D_IM2COL : CONV2D_DIRECT;
}

KERNEL int conv2d_forward(const struct conv2d_shape *s, int algorithm, const float *x, const float *weight, const float *bias, float *y) {
    if (conv2d_choose(s, algorithm, CONV2D_FORWARD) == CONV2D_DIRECT) return conv2d_forward_direct(s, x, weight, bias, y);
    return conv2d_forward_im2col(s, x, weight, bias, y);
}

KERNEL int conv2d_backward_input(const struct conv2d_shape *s, int algorithm, const float *grad, const float *weight, float *grad_x) {
    if (conv2d_choose(s, algorithm, CONV2D_BACKWARD_INPUT) == CONV2D_DIRECT) return conv2d_backward_input_direct(s, grad, weight, grad_x);
    return conv2d_backward_input_im2col(s, grad, weight, grad_x);
}

KERNEL int conv2d_backward_weight(const struct conv2d_shape *s, int algorithm, const float *grad, const float *x, float *grad_weight,
                                  float *grad_bias) {
    if (conv2d_choose(s, algorithm, CONV2D_BACKWARD_WEIGHT) == CONV2D_DIRECT) return conv2d_backward_weight_direct(s, grad, x, grad_weight, grad_bias);
    return conv2d_backward_weight_im2col(s, grad, x, grad_weight, grad_bias);
}

#endif
