# stages.h, as Cython has to be told

cdef extern from "plan/stages.h" nogil:
    enum: CHAIN_MOST_LAYERS
    enum: PROGRAM_DONE, PROGRAM_NO_MEMORY, PROGRAM_NON_FINITE, PROGRAM_REFUSED, PROGRAM_STOPPED
    enum: OPTIMIZER_SGD, OPTIMIZER_RPROP, OPTIMIZER_ADAGRAD, OPTIMIZER_RMSPROP, OPTIMIZER_ADAM
    enum: UPDATE_STATES
    ctypedef int (*stage_function)(const void *, program *) noexcept nogil
    struct program_stage:
        stage_function function
        const void *arguments
        int gradients
        double seconds
    struct program:
        int64_t stages
        program_stage *stage
        int64_t updates_from, reached
        const void *input
        const void *target
        double loss
    int fastnn_run(program *)
    struct chain_layer:
        int64_t C, H, W, O, kh, kw, pad_h, pad_w, OH, OW, activation, pool_kind, pool, PH, PW
        int64_t pool_h, pool_w, pool_stride_h, pool_stride_w, pool_pad_h, pool_pad_w
        int pool_counts_padding, pool_first, norm
        double parameter, eps, momentum
        const float *weight
        const float *bias
        const float *gamma
        const float *beta
        float *running_mean
        float *running_var
        float *grad_weight
        float *grad_bias
        float *grad_gamma
        float *grad_beta
    struct chain:
        int64_t N, layers
        chain_layer layer[12]
        int exact, dense, training
        const float *x
        const float *table
        float *y
        const float *grad_y
        float *grad_x
        void *state
    struct optimizer:
        int64_t kind, nesterov
        double lr, weight_decay, l1, momentum, take, beta1, beta2, eps, step_size, correction, shrink, scale
        double eta_minus, eta_plus, least_step, most_step
    struct dense:
        int64_t N, I, O, activation, channels, frozen
        double parameter
        const float *x
        const float *table
        float *weight
        float *bias
        float *y
        float *grad_y
        float *grad_x
        float *grad_weight
        float *grad_bias
        const optimizer *optimizer
        const optimizer *bias_optimizer
        float *weight_state[3]
        float *bias_state[3]
        void *work
    enum: LOSS_NONE, LOSS_CROSS_ENTROPY, LOSS_SOFT_CROSS_ENTROPY, LOSS_NLL, LOSS_BCE, LOSS_BCE_WITH_LOGITS, LOSS_MSE, LOSS_HUBER, LOSS_SMOOTH_L1
    struct loss:
        int64_t kind, N, C
        const float *x
        double parameter
        int mean
        float *losses
        float *grad
    enum: ROWS_MOST_LAYERS
    struct dense_rows:
        int64_t layers
        dense layer[16]
        loss loss
        void *work
    struct update:
        int64_t count
        float *param
        const float *grad
        float *state[3]
        const optimizer *optimizer
        int64_t shares
        const float **share
        const float *factor
    enum: OPERATOR_DIMS, OPERATOR_ARRAYS, OPERATOR_SIZES
    enum: ELEMENT_FLOAT, ELEMENT_DOUBLE, ELEMENT_INT64, ELEMENT_INT32, ELEMENT_BYTE
    enum: OPERAND_FIXED, OPERAND_INPUT, OPERAND_TARGET
    struct operand:
        int64_t place, element
        char *data
        int64_t stride[8]
    struct operator_call:
        int64_t kind, dims, kept, operands
        int64_t size[8]
        operand operand[8]
        int64_t n[16]
        double p[2]
    const char *const fastnn_operator_names[]
    void fastnn_operator_counts(const operator_call *, int64_t *)
    int64_t fastnn_operator_element(const operator_call *, int64_t)
