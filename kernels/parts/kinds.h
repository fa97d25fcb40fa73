/* Numbers of the activations and poolings, the same in C and in Python (fastnn.ops says which function has which). */
#ifndef FASTNN_KINDS_H
#define FASTNN_KINDS_H

/* The parameter is LEAKY_RELU's negative_slope and ELU's alpha; the others have none. */
enum activation_kind {
    ACTIVATION_NONE, ACTIVATION_RELU, ACTIVATION_LEAKY_RELU, ACTIVATION_TANH, ACTIVATION_SIGMOID, ACTIVATION_ELU, ACTIVATION_GELU,
    ACTIVATION_SILU, ACTIVATION_RELU6, ACTIVATION_HARDSWISH, ACTIVATION_SOFTPLUS, ACTIVATION_MISH,
};

enum pool_kind { POOL_NONE, POOL_MAX, POOL_AVERAGE, POOL_GLOBAL_AVERAGE };

#endif
