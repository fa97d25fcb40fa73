/* A region of a network: a small graph of convolutions and of what lies between them, as one stage of a plan.
 *
 * Nodes are listed in an order in which they can run; each has one value, an activation (N, C, H, W), and reads those of earlier nodes.
 * How values lie in memory is the engine's affair; the region's inputs and outputs are C-contiguous (N, C, H, W).
 *
 *   INPUT   an array from outside: float32, or the program's own bytes through a table
 *   CONV    z = convolution of one value, WITHOUT its bias. Its value is read by exactly one node, a JOIN
 *   JOIN    y = pool(activation(sum over sources of affine(source)))       1 to REGION_MOST_SOURCES sources of one shape
 *           affine: + bias of a CONV that has one, then batch norm where norm.used. (By the batch's statistics the bias falls out of
 *           y again, and its gradient is 0; the running mean follows the mean with it.) So a JOIN of one source is the
 *           tail of a convolution, one of two is a residual sum, and one of an INPUT or a JOIN a pooling or activation by itself
 *   CONCAT  channels of its sources, one after the other                  sources are INPUTs, JOINs or CONCATs
 *
 * A node may be a source twice (x + x). Any value but a CONV's may be an output, besides being read by other nodes. Gradients flow
 * where grad_y and the nodes' grad_ arrays make them: what has none of its own, and reads nothing that has, needs none.
 */
#ifndef FASTNN_REGION_H
#define FASTNN_REGION_H

#include <stdint.h>

#include "parts/kinds.h"

enum { REGION_MOST_NODES = 128, REGION_MOST_SOURCES = 4 };

enum region_kind { REGION_INPUT, REGION_CONV, REGION_JOIN, REGION_CONCAT };

/* Batch norm of one source: by the batch's statistics where the region trains, else by the running ones. */
struct region_norm {
    int64_t used;
    double eps, momentum;               /* running += momentum * (batch's - running), variance unbiased */
    const float *gamma, *beta;          /* (C,) or NULL */
    float *running_mean, *running_var;  /* (C,) or NULL (only while training) */
    float *grad_gamma, *grad_beta;      /* overwritten; NULL where not wanted */
};

struct region_node {
    int64_t kind;                       /* enum region_kind */
    int64_t C, H, W;                    /* of its value */
    int64_t sources, source[REGION_MOST_SOURCES];   /* numbers of nodes */
    /* INPUT */
    const float *x;                     /* (N, C, H, W); NULL: the program's input */
    const float *table;                 /* NULL, or the program's input is uint8: table[c * 256 + value] */
    float *grad_x;                      /* overwritten; NULL: not wanted */
    /* CONV: weight (C, C_in / groups, kh, kw) */
    int64_t kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
    const float *weight, *bias;         /* bias (C,) or NULL */
    float *grad_weight, *grad_bias;     /* overwritten; NULL where not wanted */
    /* JOIN */
    struct region_norm norm[REGION_MOST_SOURCES];
    int64_t activation;                 /* enum activation_kind */
    double parameter;
    int64_t pool;                       /* enum pool_kind */
    int64_t pool_h, pool_w, pool_stride_h, pool_stride_w, pool_pad_h, pool_pad_w;
    int64_t pool_counts_padding;        /* POOL_AVERAGE divides by pool_h * pool_w, padding counted; else by the pixels there are */
    int64_t inner_H, inner_W;           /* of the sum, before pooling; H, W without pooling */
    /* output */
    float *y;                           /* (N, C, H, W), or NULL: no output */
    const float *grad_y;                /* what shape y has; NULL where no gradient comes from outside */
};

struct region {
    int64_t N, nodes;
    struct region_node *node;
    int64_t naive;                      /* by plain loops, naive.h: what the engines are tested against */
    int64_t exact;                      /* no Winograd */
    int64_t dense;                      /* backward through max-pooling without leaving out what is zero */
    int64_t training;                   /* keep in state what backward needs */
    int64_t frozen;                     /* no training, and all parameters are the same in every call */
    void *state;                        /* of the engine's size, 64-byte aligned, zero at first: what a call leaves for the next */
};

#endif
