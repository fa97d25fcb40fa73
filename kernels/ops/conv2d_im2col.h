/* Convolution as a matrix product: every image's patches are laid out as a matrix col (K, P), K = C/groups * kh * kw, P = OH * OW.
 *
 *   forward          y (O, P)    = weight (O, K) col
 *   input gradient   col         = weight^T grad (O, P), scattered back by col2im
 *   weight gradient  dW (O, K)  += grad col^T
 *
 * A batch of CONV_TASKS images or more is cut by image (by part for the weight gradient, as in conv2d_direct.h); a smaller one
 * goes image by image, and the matmul is what is cut.
 */
#ifndef FASTNN_CONV2D_IM2COL_H
#define FASTNN_CONV2D_IM2COL_H

#include "ops/conv2d_weight.h"
#include "ops/gemm.h"

struct conv_im2col {
    const struct conv2d_shape *s;
    const float *x, *weight, *bias, *grad;
    float *y, *grad_x, *partial;
    i64 C, O, K, P;                 /* of one group */
    i64 parts, part_floats, runs;   /* as in conv2d_weight.h */
    int plain;                      /* 1x1, no padding, every pixel: an image is its own col */
    int failed;
};

INLINE struct conv_im2col im2col_problem(const struct conv2d_shape *s) {
    i64 C = s->C / s->groups;
    int plain = s->kh == 1 && s->kw == 1 && s->pad_h == 0 && s->pad_w == 0 && s->OH == s->H && s->OW == s->W;
    return (struct conv_im2col){.s = s, .C = C, .O = s->O / s->groups, .K = C * s->kh * s->kw, .P = s->OH * s->OW, .plain = plain};
}

/* Output columns whose tap at kernel column j falls inside the image: [first, last) */
INLINE void inside(const struct conv2d_shape *s, i64 j, i64 *first, i64 *last) {
    i64 shift = s->pad_w - j * s->dilation_w;               /* ow * stride - shift in [0, W) */
    *first = i64_min(s->OW, shift > 0 ? ceil_div(shift, s->stride_w) : 0);
    *last = i64_max(*first, s->W + shift > 0 ? i64_min(s->OW, ceil_div(s->W + shift, s->stride_w)) : 0);
}

/* col (K, P) <- x (C, H, W) */
static void im2col(const struct conv_im2col *t, const float *restrict x, float *restrict col) {
    const struct conv2d_shape *s = t->s;
    for (i64 c = 0; c < t->C; c++) for (i64 i = 0; i < s->kh; i++) for (i64 j = 0; j < s->kw; j++) {
        i64 first, last;
        inside(s, j, &first, &last);
        for (i64 oh = 0; oh < s->OH; oh++, col += s->OW) {
            i64 h = oh * s->stride_h + i * s->dilation_h - s->pad_h;
            if (h < 0 || h >= s->H) { memset(col, 0, sizeof(float) * (size_t)s->OW); continue; }
            const float *row = x + (c * s->H + h) * s->W + j * s->dilation_w - s->pad_w;
            memset(col, 0, sizeof(float) * (size_t)first);
            if (s->stride_w == 1) memcpy(col + first, row + first, sizeof(float) * (size_t)(last - first));
            else for (i64 ow = first; ow < last; ow++) col[ow] = row[ow * s->stride_w];
            memset(col + last, 0, sizeof(float) * (size_t)(s->OW - last));
        }
    }
}

/* x (C, H, W) <- sums of col (K, P) */
static void col2im(const struct conv_im2col *t, const float *restrict col, float *restrict x) {
    const struct conv2d_shape *s = t->s;
    memset(x, 0, sizeof(float) * (size_t)(t->C * s->H * s->W));
    for (i64 c = 0; c < t->C; c++) for (i64 i = 0; i < s->kh; i++) for (i64 j = 0; j < s->kw; j++) {
        i64 first, last;
        inside(s, j, &first, &last);
        for (i64 oh = 0; oh < s->OH; oh++, col += s->OW) {
            i64 h = oh * s->stride_h + i * s->dilation_h - s->pad_h;
            if (h < 0 || h >= s->H) continue;
            float *row = x + (c * s->H + h) * s->W + j * s->dilation_w - s->pad_w;
            if (s->stride_w == 1) for (i64 ow = first; ow < last; ow++) row[ow] += col[ow];
            else for (i64 ow = first; ow < last; ow++) row[ow * s->stride_w] += col[ow];
        }
    }
}

/* This image's col, or NULL when there is no memory. */
static const float *make_col(struct conv_im2col *t, const float *x) {
    if (t->plain) return x;
    float *col = fastnn_scratch(SCRATCH_CONV_IMAGE, sizeof(float) * (size_t)(t->K * t->P));
    if (col) im2col(t, x, col);
    else t->failed = 1;
    return col;
}

static void im2col_forward_image(void *context, i64 n) {
    struct conv_im2col *t = context;
    const struct conv2d_shape *s = t->s;
    for (i64 g = 0; g < s->groups; g++) {
        const float *col = make_col(t, t->x + (n * s->C + g * t->C) * s->H * s->W);
        if (!col) return;
        struct gemm product = {.M = t->O, .N = t->P, .K = t->K, .a = t->weight + g * t->O * t->K, .a_row = t->K, .a_col = 1,
                               .b = col, .b_row = t->P, .b_col = 1, .c = t->y + (n * s->O + g * t->O) * t->P, .c_row = t->P,
                               .bias_row = t->bias ? t->bias + g * t->O : NULL};
        if (gemm(&product)) t->failed = 1;
    }
}

static void im2col_backward_input_image(void *context, i64 n) {
    struct conv_im2col *t = context;
    const struct conv2d_shape *s = t->s;
    for (i64 g = 0; g < s->groups; g++) {
        float *x = t->grad_x + (n * s->C + g * t->C) * s->H * s->W;
        float *col = t->plain ? x : fastnn_scratch(SCRATCH_CONV_IMAGE, sizeof(float) * (size_t)(t->K * t->P));
        if (!col) { t->failed = 1; return; }
        struct gemm product = {.M = t->K, .N = t->P, .K = t->O, .a = t->weight + g * t->O * t->K, .a_row = 1, .a_col = t->K,
                               .b = t->grad + (n * s->O + g * t->O) * t->P, .b_row = t->P, .b_col = 1, .c = col, .c_row = t->P};
        if (gemm(&product)) t->failed = 1;
        if (!t->plain) col2im(t, col, x);
    }
}

/* How often an image's product adds to a sum */
INLINE i64 im2col_runs(const struct conv_im2col *t) { return t->P > GEMM_LONG ? 1 : ceil_div(t->P, GEMM_KC); }

static void im2col_backward_weight_part(void *context, i64 part) {
    struct conv_im2col *t = context;
    const struct conv2d_shape *s = t->s;
    i64 row = t->K + 1, begin = part * s->N / t->parts;
    struct joined sums = joined_at(t->partial + part * t->part_floats, s->O * row, t->runs);
    memset(sums.part, 0, sizeof(float) * (size_t)(s->O * row));
    for (i64 n = begin; n < (part + 1) * s->N / t->parts && !fastnn_stopped(); n++) {
        for (i64 g = 0; g < s->groups; g++) {
            const float *col = make_col(t, t->x + (n * s->C + g * t->C) * s->H * s->W);
            const float *grad = t->grad + (n * s->O + g * t->O) * t->P;
            float *to = sums.part + g * t->O * row;
            if (!col) return;
            struct gemm product = {.M = t->O, .N = t->K, .K = t->P, .a = grad, .a_row = t->P, .a_col = 1, .b = col, .b_row = 1,
                                   .b_col = t->P, .c = to, .c_row = row, .accumulate = 1};
            if (gemm(&product)) t->failed = 1;
            for (i64 o = 0; o < t->O; o++) to[o * row + t->K] += run_sum(grad + o * t->P, t->P);
        }
        joined_added(&sums, im2col_runs(t));
    }
    joined_end(&sums);
}

/* Images over the pool, or, when they are few, one after another with each product over the pool. */
static int im2col_run(struct conv_im2col *t, i64 tasks, fastnn_task task) {
    if (tasks >= CONV_TASKS) fastnn_parallel(tasks, 2.0 * (double)(t->s->N * t->s->O * t->P * t->K), task, t);
    else for (i64 i = 0; i < tasks; i++) task(t, i);
    return t->failed ? -1 : 0;
}

KERNEL int conv2d_forward_im2col(const struct conv2d_shape *s, const float *x, const float *weight, const float *bias, float *y) {
    struct conv_im2col t = im2col_problem(s);
    t.x = x, t.weight = weight, t.bias = bias, t.y = y;
    return im2col_run(&t, s->N, im2col_forward_image);
}

KERNEL int conv2d_backward_input_im2col(const struct conv2d_shape *s, const float *grad, const float *weight, float *grad_x) {
    struct conv_im2col t = im2col_problem(s);
    t.grad = grad, t.weight = weight, t.grad_x = grad_x;
    return im2col_run(&t, s->N, im2col_backward_input_image);
}

KERNEL int conv2d_backward_weight_im2col(const struct conv2d_shape *s, const float *grad, const float *x, float *grad_weight,
                                         float *grad_bias) {
    struct conv_im2col t = im2col_problem(s);
    t.grad = grad, t.x = x, t.parts = conv_parts(s, t.K);
    t.runs = ceil_div(s->N, t.parts) * im2col_runs(&t);
    t.part_floats = joined_floats(s->O * (t.K + 1), t.runs);
    t.partial = fastnn_scratch(SCRATCH_PARTIAL, sizeof(float) * (size_t)(t.parts * t.part_floats));
    if (!t.partial || im2col_run(&t, t.parts, im2col_backward_weight_part)) return -1;
    add_parts(t.parts, t.part_floats, s->O, t.K, t.partial, grad_weight, grad_bias);
    return 0;
}

#endif
