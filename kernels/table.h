/* The kernel table: what every instruction set's translation unit fills in and _kernels.pyx calls.
 * All arrays are float32 and C-contiguous unless strides are named. Kernels that need memory return 0, or -1 when there is none. */
#ifndef FASTNN_TABLE_H
#define FASTNN_TABLE_H

#include <stdint.h>

#include "plan/region/region.h"
#include "plan/stages.h"

enum conv2d_algorithm { CONV2D_AUTO, CONV2D_DIRECT, CONV2D_IM2COL };

struct conv2d_shape {
    int64_t N, C, H, W;             /* input */
    int64_t O, kh, kw;              /* weight (O, C/groups, kh, kw) */
    int64_t OH, OW;                 /* output (N, O, OH, OW) */
    int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
};

struct pool2d_shape {
    int64_t planes, H, W;           /* input (planes, H, W), planes = N*C */
    int64_t kh, kw;                 /* window */
    int64_t OH, OW;                 /* output (planes, OH, OW) */
    int64_t stride_h, stride_w, pad_h, pad_w;
    int count_include_pad;          /* of averages: divide by kh*kw everywhere */
};

enum recurrent_mode { RECURRENT_TANH, RECURRENT_RELU, RECURRENT_GRU, RECURRENT_LSTM };

/* One layer and direction of a recurrent network; G: 1 for the first two modes, 3 for GRU (r, z, n), 4 for LSTM (i, f, g, o) */
struct recurrent {
    int64_t mode, T, B, H, reverse; /* reverse: from the last time to the first */
    float *gates;                   /* (T, B, G H): the input's part, biases included; then the gates' values (not of the RNNs) */
    float *y;                       /* (T, B, H) and for LSTM behind it the last c (B, H) */
    float *extra;                   /* (T, B, H): of GRU W_n h + b_n, of LSTM c; else NULL */
    const float *weight, *bias;     /* (G H, H); GRU's b_n (H,) or NULL */
    const float *h0, *c0;           /* (B, H), or NULL: zeros */
    const float *grad;              /* as y */
    float *grad_gates, *grad_extra; /* of gates; of GRU's extra */
    float *grad_h0, *grad_c0;       /* (B, H), or NULL: not wanted */
};

/* y[i] = f(a[i], b[i]): forward a is x; backward a is the output gradient, one number with `alike`, and b what the kernel's
 * docstring says. */
typedef void (*elementwise_kernel)(int64_t count, const float *a, int alike, const float *b, float parameter, float *y);
/* Rows (N, C), C at least 1: a is x, or the output gradient and y the output. */
typedef void (*rows_kernel)(int64_t N, int64_t C, const float *a, const float *y, float *out);
typedef void (*elementwise_loss_kernel)(int64_t count, const float *x, const float *target, double parameter, double scale, float *loss,
                                        float *grad);

struct kernels {
    const char *isa;
    int64_t lanes;                  /* floats in a vector */

    int (*sgemm)(int64_t M, int64_t N, int64_t K, const float *a, int64_t a_row, int64_t a_col, const float *b,
                 int64_t b_row, int64_t b_col, const float *bias, float *c);

    int (*conv2d_forward)(const struct conv2d_shape *, int algorithm, const float *x, const float *weight,
                          const float *bias, float *y);
    int (*conv2d_backward_input)(const struct conv2d_shape *, int algorithm, const float *grad, const float *weight,
                                 float *grad_x);
    int (*conv2d_backward_weight)(const struct conv2d_shape *, int algorithm, const float *grad, const float *x,
                                  float *grad_weight, float *grad_bias);

    int (*max_pool2d_forward)(const struct pool2d_shape *, const float *x, float *y, int32_t *argmax);
    void (*max_pool2d_backward_input)(int64_t planes, int64_t pixels, int64_t outputs, const float *grad, const int32_t *argmax,
                                      float *grad_x);
    int (*avg_pool2d_forward)(const struct pool2d_shape *, const float *x, float *y);
    int (*avg_pool2d_backward_input)(const struct pool2d_shape *, const float *grad, float *grad_x);
    void (*global_avg_pool2d_forward)(int64_t planes, int64_t pixels, const float *x, float *y);
    void (*global_avg_pool2d_backward_input)(int64_t planes, int64_t pixels, const float *grad, float *grad_x);

    elementwise_kernel relu_forward, relu_backward_input, leaky_relu_forward, leaky_relu_backward_input, elu_forward,
        elu_backward_input, sigmoid_forward, sigmoid_backward_input, tanh_forward, tanh_backward_input, gelu_forward,
        gelu_backward_input, silu_forward, silu_backward_input;
    void (*activation_forward)(int kind, double parameter, int64_t count, const float *x, float *y);
    void (*activation_backward_input)(int kind, double parameter, int64_t count, const float *grad, int alike, const float *x,
                                      float *grad_x);
    rows_kernel softmax_forward, softmax_backward_input, log_softmax_forward, log_softmax_backward_input;
    void (*dropout_forward)(int64_t count, const float *x, double p, uint64_t seed, uint64_t stream, float *y);

    /* x (N, C, HW) */
    int (*batch_norm_statistics)(int64_t N, int64_t C, int64_t HW, const float *x, float *mean, float *var);
    int (*batch_norm_forward)(int64_t N, int64_t C, int64_t HW, const float *x, const float *mean, const float *var,
                              const float *weight, const float *bias, double eps, float *y);
    int (*batch_norm_backward_weight)(int64_t N, int64_t C, int64_t HW, const float *grad, const float *x, const float *mean,
                                      const float *var, double eps, float *grad_weight, float *grad_bias);
    int (*batch_norm_backward_input)(int64_t N, int64_t C, int64_t HW, const float *grad, const float *x, const float *mean,
                                     const float *var, const float *weight, const float *grad_weight, const float *grad_bias,
                                     double eps, float *grad_x);

    /* x (N, C, P), statistics (N, groups, 2): mean and 1 / sqrt(variance + eps) */
    void (*group_norm_forward)(int64_t N, int64_t C, int64_t P, int64_t groups, int centred, const float *x, const float *weight,
                               const float *bias, double eps, float *y, float *statistics);
    int (*group_norm_backward)(int64_t N, int64_t C, int64_t P, int64_t groups, int centred, const float *grad, const float *x,
                               const float *statistics, const float *weight, float *grad_x, float *grad_weight, float *grad_bias);

    int (*recurrent_forward)(const struct recurrent *);
    int (*recurrent_backward)(const struct recurrent *);

    void (*softmax_cross_entropy)(int64_t N, int64_t C, const float *logits, const int64_t *labels, const float *target,
                                  double label_smoothing, double scale, float *loss, float *grad);
    elementwise_loss_kernel bce_with_logits, mse, huber, smooth_l1;

    void (*update)(const struct optimizer *, int64_t count, float *param, const float *grad, float *const *state);

    int (*sum_of_squares)(int64_t count, const float *x, double *total);

    /* stages of a plan */
    int64_t (*chain_supports)(const struct chain *);
    int64_t (*chain_is_fast)(const struct chain *);
    const char *(*chain_name)(const struct chain *);
    int64_t (*chain_state_bytes)(const struct chain *);
    stage_function chain_forward, chain_backward;
    int64_t (*region_supports)(const struct region *);
    const char *(*region_name)(const struct region *);
    int64_t (*region_state_bytes)(const struct region *);
    stage_function region_forward, region_backward;
    const char *(*dense_name)(const struct dense *);
    int64_t (*dense_work_bytes)(const struct dense *);
    stage_function dense_forward, dense_backward, loss_stage, operator_stage, update_stage;
    int64_t (*rows_supports)(const struct dense_rows *, int64_t training);
    int64_t (*rows_work_bytes)(const struct dense_rows *);
    stage_function rows_forward, rows_backward;
};

extern struct kernels fastnn_kernels;                   /* the table in use */
extern const char *const fastnn_isa_names[];            /* compiled in, slowest first, NULL at the end */
int fastnn_isa_supported(const char *isa);              /* by this CPU and operating system */
int fastnn_select_isa(const char *isa);                 /* NULL: the best; -1: not compiled in, or not supported */

void fastnn_fill_baseline(struct kernels *);
void fastnn_fill_avx2(struct kernels *);
void fastnn_fill_avx512(struct kernels *);
void fastnn_fill_neon(struct kernels *);

#endif
