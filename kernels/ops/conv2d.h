/* 2-D convolution (cross-correlation, as everywhere in deep learning), NCHW.
 *
 *   x (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) or NULL, y (N, O, OH, OW)
 *   y[n,o,oh,ow] = bias[o] + sum over c,i,j of weight[o,c,i,j] * x[n, g*C/groups + c, oh*stride + i*dilation - pad, ...]
 *
 * Four implementations, and the one place that chooses among them, by shape.
 */
#ifndef FASTNN_CONV2D_H
#define FASTNN_CONV2D_H

#include "ops/conv2d_blocks.h"
#include "ops/conv2d_im2col.h"
#include "ops/gemm.h"

/* Direct loops over planes reach them by 32-bit offsets: 8 GiB of them for one image. */
INLINE int conv_offsets_fit(const struct conv2d_shape *s) {
    double high = (double)s->H + 2.0 * (double)(s->pad_h + s->kh * s->dilation_h + s->stride_h);
    double wide = (double)s->W + 2.0 * (double)(s->pad_w + s->kw * s->dilation_w + s->stride_w);
    return (double)i64_max(s->C, s->O) * high * wide < 2e9;
}

enum conv2d_pass { CONV2D_FORWARD, CONV2D_BACKWARD_INPUT, CONV2D_BACKWARD_WEIGHT };
enum conv2d_loops { CONV2D_BLOCKS, CONV2D_PLANES, CONV2D_PRODUCT, CONV2D_WHOLE };

/* Blocks win, 1.1 to 2 times and more, wherever the lanes of what is written are filled and a product is not too short to repay the
 * copies (measured on AVX2 and AVX-512: 1 to 512 channels, planes of 4 x 4 to 84 x 84, kernels of 1 x 1 to 8 x 8, strides of 1, 2 and
 * 4); a weight gradient repays them sooner. But from one plane to less than 4 blocks of AVX2's, or one of AVX-512's, loops over planes
 * are 1.3 times as fast, for few channels 3 times; an input gradient much larger than what it comes from is mostly zeros; and where weights are so many that few parts of the
 * batch can have sums of their own, threads are left idle. */
INLINE int conv_blocks_suit(const struct conv2d_shape *s, enum conv2d_pass pass) {
    const struct channels_conv c = conv_channels(s);
    const struct channels_packing p = pass == CONV2D_BACKWARD_INPUT ? channels_packing_input(&c) : channels_packing(&c);
    const i64 K = p.from / p.groups * p.kh * p.kw, filled = 100 * p.to * K / channels_packed_floats(&p);
    if (VL >= 8 && pass != CONV2D_BACKWARD_INPUT && s->C == 1 && s->O < (VL == 8 ? 4 * VL : VL)) return 0;
    if (pass == CONV2D_BACKWARD_WEIGHT) return s->O * K <= 1 << 20 && filled >= 25 && (p.groups == 1 || filled >= 50);
    if (pass == CONV2D_BACKWARD_INPUT && 2 * s->W >= 3 * s->OW * s->stride_w && s->kw > 1) return 0;
    return filled >= (p.groups == 1 ? 50 : 70) && (p.depthwise || K >= 16);
}

/* Whether the window is the whole image: then images are rows of one matrix product, which is what a generator begins with and a
 * discriminator ends with. */
INLINE int conv_is_whole(const struct conv2d_shape *s) {
    const int whole = s->kh == s->H && s->kw == s->W && !s->pad_h && !s->pad_w && s->groups == 1;
    return whole && s->N >= 8 && s->O * s->C * s->H * s->W >= 1 << 14;
}

/* Loops over planes win wherever their tiles are well filled. They compute (pitch - OW) positions a row for nothing, a weight
 * gradient wants long runs of positions, and an input gradient of one or two channels does not repay the padded copy of its many
 * source planes: these are matrix products in all but name. */
INLINE enum conv2d_loops conv2d_choose(const struct conv2d_shape *s, int algorithm, enum conv2d_pass pass) {
    if (algorithm == CONV2D_AUTO && conv_is_whole(s)) return CONV2D_WHOLE;
    if (algorithm == CONV2D_IM2COL || !conv_offsets_fit(s)) return CONV2D_PRODUCT;
    if (conv_blocks_suit(s, pass)) return CONV2D_BLOCKS;
    if (algorithm == CONV2D_DIRECT) return CONV2D_PLANES;
    i64 C = s->C / s->groups, O = s->O / s->groups, K = C * s->kh * s->kw;
    i64 pitch = s->OW + (s->kw - 1) * s->dilation_w / s->stride_w;
    int deep = O >= 16 && K >= 64, wasteful = 3 * s->OW <= 2 * pitch;
    int short_run = pass == CONV2D_BACKWARD_WEIGHT && s->OH * pitch * i64_max(1, s->N / 4) < 256;
    int few_rows = pass == CONV2D_BACKWARD_INPUT && C <= 2 && O >= 8;
    return few_rows || (deep && (wasteful || short_run)) ? CONV2D_PRODUCT : CONV2D_PLANES;
}

KERNEL int conv2d_forward(const struct conv2d_shape *s, int algorithm, const float *x, const float *weight, const float *bias, float *y) {
    switch (conv2d_choose(s, algorithm, CONV2D_FORWARD)) {
    case CONV2D_BLOCKS: return conv2d_forward_blocks(s, x, weight, bias, y);
    case CONV2D_PLANES: return conv2d_forward_direct(s, x, weight, bias, y);
    case CONV2D_WHOLE: return sgemm(s->N, s->O, s->C * s->H * s->W, x, s->C * s->H * s->W, 1, weight, 1, s->C * s->H * s->W, bias, y);
    default: return conv2d_forward_im2col(s, x, weight, bias, y);
    }
}

KERNEL int conv2d_backward_input(const struct conv2d_shape *s, int algorithm, const float *grad, const float *weight, float *grad_x) {
    switch (conv2d_choose(s, algorithm, CONV2D_BACKWARD_INPUT)) {
    case CONV2D_BLOCKS: return conv2d_backward_input_blocks(s, grad, weight, grad_x);
    case CONV2D_PLANES: return conv2d_backward_input_direct(s, grad, weight, grad_x);
    case CONV2D_WHOLE: return sgemm(s->N, s->C * s->H * s->W, s->O, grad, s->O, 1, weight, s->C * s->H * s->W, 1, NULL, grad_x);
    default: return conv2d_backward_input_im2col(s, grad, weight, grad_x);
    }
}

KERNEL int conv2d_backward_weight(const struct conv2d_shape *s, int algorithm, const float *grad, const float *x, float *grad_weight,
                                  float *grad_bias) {
    switch (conv2d_choose(s, algorithm, CONV2D_BACKWARD_WEIGHT)) {
    case CONV2D_BLOCKS: return conv2d_backward_weight_blocks(s, grad, x, grad_weight, grad_bias);
    case CONV2D_PLANES: return conv2d_backward_weight_direct(s, grad, x, grad_weight, grad_bias);
    case CONV2D_WHOLE:
        for (i64 o = 0; o < s->O; o++) {
            double sum = 0;
            for (i64 n = 0; n < s->N; n++) sum += grad[n * s->O + o];
            grad_bias[o] = (float)sum;
        }
        return sgemm(s->O, s->C * s->H * s->W, s->N, grad, 1, s->O, x, s->C * s->H * s->W, 1, NULL, grad_weight);
    default: return conv2d_backward_weight_im2col(s, grad, x, grad_weight, grad_bias);
    }
}

#endif
