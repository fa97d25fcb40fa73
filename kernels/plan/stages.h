/* What a compiled plan is made of: a program, a list of stages that run one after another in one native call.
 *
 * Each stage is a function and the structure with its arguments. Everything in it is fixed when the plan is built, pointers
 * included, but for the batch, which the program holds. All arrays are float32 and C-contiguous unless said otherwise.
 */
#ifndef FASTNN_STAGES_H
#define FASTNN_STAGES_H

#include <stdint.h>

#include "parts/kinds.h"

#undef I /* of complex.h, which NumPy brings along: here it is a number of inputs */

struct program;

/* 0, -1: no memory. */
typedef int (*stage_function)(const void *arguments, struct program *program);

/* ---- the per-image chain: convolutions with what follows each ---- */

enum { CHAIN_MOST_LAYERS = 12 };

/* convolution (stride 1, no dilation, one group), bias, batch norm, activation, pooling: all but the convolution may be missing */
struct chain_layer {
    int64_t C, H, W;                    /* input */
    int64_t O, kh, kw, pad_h, pad_w;    /* weight (O, C, kh, kw) */
    int64_t OH, OW;                     /* of the convolution */
    int64_t activation;                 /* enum activation_kind */
    double parameter;
    int64_t pool_kind;                  /* enum pool_kind */
    int64_t pool;                       /* plain max-pooling, pool x pool with stride pool, rests dropped; 1: none, or another pooling */
    int64_t pool_h, pool_w, pool_stride_h, pool_stride_w, pool_pad_h, pool_pad_w;   /* POOL_MAX and POOL_AVERAGE */
    int pool_counts_padding;            /* POOL_AVERAGE divides by pool_h * pool_w everywhere */
    int pool_first;                     /* the activation comes after the pooling */
    int64_t PH, PW;                     /* output (O, PH, PW) */
    int norm;                           /* batch norm with the batch's statistics when training, else with the running ones */
    double eps, momentum;               /* running += momentum * (batch's - running), variance unbiased */
    const float *weight, *bias;         /* bias (O,) or NULL */
    const float *gamma, *beta;          /* (O,) or NULL */
    float *running_mean, *running_var;  /* (O,) */
    float *grad_weight, *grad_bias, *grad_gamma, *grad_beta; /* overwritten; NULL where not wanted */
};

struct chain {
    int64_t N, layers;
    struct chain_layer layer[CHAIN_MOST_LAYERS];
    int exact;                          /* no Winograd */
    int dense;                          /* backward through max-pooling without leaving out what is zero */
    int training;                       /* keep in state what backward needs */
    /* input (N, C, H, W): float x, or uint8 through table[c * 256 + value]; both NULL: the program's input, which is uint8
     * where there is a table and float where not. Padding is zero after the table. */
    const float *x;
    const float *table;
    float *y;                           /* (N, O, PH, PW) of the last layer, channels first */
    const float *grad_y;                /* backward: what shape y has */
    float *grad_x;                      /* backward: (N, C, H, W), or NULL: not wanted */
    void *state;                        /* chain_state_bytes() of it, 64-byte aligned, zero at first: what a call leaves for the next */
};

/* ---- dense ---- */

enum optimizer_kind { OPTIMIZER_SGD, OPTIMIZER_RPROP, OPTIMIZER_ADAGRAD, OPTIMIZER_RMSPROP, OPTIMIZER_ADAM };
enum { UPDATE_STATES = 3 };             /* arrays beside a parameter, at most */

/* One parameter group's numbers, written before each step; the formulas are at the kernels of update.h. */
struct optimizer {
    int64_t kind;                       /* enum optimizer_kind */
    double lr, weight_decay, l1;        /* weight_decay: what is added to the gradient, the l2 penalty's part included */
    double momentum, take;              /* take: 1 - dampening, but 1 in the first step */
    int64_t nesterov;
    double beta1, beta2, eps, step_size, correction, shrink; /* RMSprop's alpha is beta2 */
    double eta_minus, eta_plus, least_step, most_step; /* Rprop */
    double scale;                       /* of every gradient first: 1, or less where the norm is clipped */
};

/* y = activation(x weight^T + bias); backward: grad_x, and the weight's gradient, or at once the weight's update */
struct dense {
    int64_t N, I, O;
    int64_t activation;                 /* enum activation_kind */
    double parameter;                   /* of the activation */
    const float *x;                     /* (N, I), NULL: the program's input */
    const float *table;                 /* NULL, or the program's input is uint8: table[c * 256 + value], I/channels a channel */
    int64_t channels;
    float *weight, *bias;               /* (O, I), (O,) or NULL */
    float *y;                           /* (N, O): after the activation */
    float *grad_y;                      /* (N, O) of y: backward may overwrite it (with the gradient before the activation) */
    float *grad_x;                      /* (N, I), or NULL: not wanted */
    float *grad_weight, *grad_bias;     /* overwritten; NULL: not wanted, or updated at once */
    /* update at once: optimizer not NULL; state as update.h has it, NULL where the kind has none */
    const struct optimizer *optimizer, *bias_optimizer; /* of one kind */
    float *weight_state[UPDATE_STATES], *bias_state[UPDATE_STATES];
    int64_t frozen;                     /* no training, and weight and bias are the same in every call */
    void *work;                         /* dense_work_bytes() of it, 64-byte aligned, zero at first */
};

/* ---- loss ---- */

enum loss_kind { LOSS_NONE, LOSS_CROSS_ENTROPY, LOSS_SOFT_CROSS_ENTROPY, LOSS_NLL, LOSS_BCE, LOSS_BCE_WITH_LOGITS, LOSS_MSE,
                 LOSS_HUBER, LOSS_SMOOTH_L1 };

/* loss of the program = mean or sum of the losses of rows (the first three) or entries, by the program's target: labels (N,) for
 * CROSS_ENTROPY and NLL, else floats (N, C) */
struct loss {
    int64_t kind, N, C;
    const float *x;                     /* (N, C): logits, log-probabilities, probabilities, or predictions */
    double parameter;                   /* label smoothing of the cross-entropies, delta, beta */
    int mean;
    float *losses;                      /* (N,) or (N, C) */
    float *grad;                        /* (N, C), times 1 / N or 1 / (N C) for the mean; or NULL */
};

/* ---- a small dense network ---- */

enum { ROWS_MOST_LAYERS = 16 };

/* Dense layers one after the other, the loss of what they give, and the way back. Of the layers, N, table and frozen are all the same;
 * x and grad_x are the first one's, y and grad_y the last one's, work is none's. */
struct dense_rows {
    int64_t layers;
    struct dense layer[ROWS_MOST_LAYERS];
    struct loss loss;                   /* LOSS_NONE: none; x and grad are not used */
    void *work;                         /* rows_work_bytes() of it, 64-byte aligned, zero at first */
};

/* ---- update of whole parameters, from their gradients ---- */

struct update {
    int64_t count;
    float *param;
    const float *grad;
    float *state[UPDATE_STATES];        /* as update.h has it, NULL where the kind has none */
    const struct optimizer *optimizer;
    int64_t shares;                     /* 0, or grad is NULL and the gradient factor[0] share[0] + factor[1] share[1] + ... */
    const float **share, *factor;
};

/* ---- an operator by itself ---- */

enum { OPERATOR_DIMS = 8, OPERATOR_ARRAYS = 12, OPERATOR_SIZES = 16 };
enum element { ELEMENT_FLOAT, ELEMENT_DOUBLE, ELEMENT_INT64, ELEMENT_INT32, ELEMENT_BYTE };
enum operand_place { OPERAND_FIXED, OPERAND_INPUT, OPERAND_TARGET };

/* An array of an operator; what lies in the program's input or target is found anew in each run. */
struct operand {
    int64_t place;                      /* enum operand_place */
    char *data;                         /* its address; of OPERAND_INPUT and OPERAND_TARGET the distance from the beginning */
    int64_t element;                    /* enum element */
    int64_t stride[OPERATOR_DIMS];      /* in bytes, of operators that take any */
};

struct operator_call {
    int64_t kind;                       /* enum operator_kind of operators.h */
    int64_t dims, kept, size[OPERATOR_DIMS]; /* of operators that take any strides; kept: the first ones, which `sum` leaves */
    int64_t operands;
    struct operand operand[OPERATOR_ARRAYS];
    int64_t n[OPERATOR_SIZES];          /* the sizes that a kernel takes */
    double p[2];                        /* its other numbers */
};

extern const char *const fastnn_operator_names[];   /* by kind, NULL at the end */
/* Entries of each operand of a kernel that takes contiguous arrays of one type, by kind and n; 0 for those that have none */
void fastnn_operator_counts(const struct operator_call *, int64_t count[OPERATOR_ARRAYS]);
int64_t fastnn_operator_element(const struct operator_call *, int64_t operand); /* and their type */

/* ---- the program ---- */

/* REFUSED: the operator raises an error when it is run on the same arrays in Python, which says what is wrong with them. */
enum program_status { PROGRAM_DONE = 0, PROGRAM_NO_MEMORY = -1, PROGRAM_NON_FINITE = 1, PROGRAM_REFUSED = 2, PROGRAM_STOPPED = 3 };

struct program_stage {
    stage_function function;
    const void *arguments;
    int gradients;                      /* whether it makes those of layers: without denormal numbers */
    double seconds;                     /* that the last run spent in it */
};

struct program {
    int64_t stages;
    struct program_stage *stage;
    int64_t updates_from;               /* the first stage that changes parameters: from there on nothing is given up */
    int64_t reached;                    /* the stage at which the last run ended */
    const void *input, *target;         /* (N, ...) of any type */
    double loss;
};

int fastnn_run(struct program *);       /* its stages in order, up to the first that does not return 0; what that returned */

#endif
