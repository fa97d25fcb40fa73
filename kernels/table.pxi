# table.h and threads.h, as Cython has to be told

cdef extern from "plan/region/region.h" nogil:
    enum: REGION_MOST_NODES, REGION_MOST_SOURCES, REGION_INPUT, REGION_CONV, REGION_JOIN, REGION_CONCAT
    enum: POOL_NONE, POOL_MAX, POOL_AVERAGE, POOL_GLOBAL_AVERAGE
    struct region_norm:
        int64_t used
        double eps, momentum
        const float *gamma
        const float *beta
        float *running_mean
        float *running_var
        float *grad_gamma
        float *grad_beta
    struct region_node:
        int64_t kind, C, H, W, sources
        int64_t source[4]
        const float *x
        const float *table
        float *grad_x
        int64_t kh, kw, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups
        const float *weight
        const float *bias
        float *grad_weight
        float *grad_bias
        region_norm norm[4]
        int64_t activation
        double parameter
        int64_t pool, pool_h, pool_w, pool_stride_h, pool_stride_w, pool_pad_h, pool_pad_w, pool_counts_padding, inner_H, inner_W
        float *y
        const float *grad_y
    struct region:
        int64_t N, nodes, naive, exact, dense, training, frozen
        region_node *node
        void *state

cdef extern from "table.h" nogil:
    enum: CONV2D_AUTO, CONV2D_DIRECT, CONV2D_IM2COL
    struct conv2d_shape:
        int64_t N, C, H, W, O, kh, kw, OH, OW, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups
    struct pool2d_shape:
        int64_t planes, H, W, kh, kw, OH, OW, stride_h, stride_w, pad_h, pad_w
        int count_include_pad
    struct recurrent:
        int64_t mode, T, B, H, reverse
        float *gates
        float *y
        float *extra
        const float *weight
        const float *bias
        const float *h0
        const float *c0
        const float *grad
        float *grad_gates
        float *grad_extra
        float *grad_h0
        float *grad_c0
    ctypedef void (*elementwise_kernel)(int64_t, const float *, int, const float *, float, float *) noexcept nogil
    ctypedef void (*rows_kernel)(int64_t, int64_t, const float *, const float *, float *) noexcept nogil
    ctypedef void (*elementwise_loss_kernel)(int64_t, const float *, const float *, double, double, float *, float *) noexcept nogil
    struct kernels:
        const char *isa
        int64_t lanes
        int (*sgemm)(int64_t, int64_t, int64_t, const float *, int64_t, int64_t, const float *, int64_t, int64_t,
                     const float *, float *) noexcept nogil
        int (*conv2d_forward)(const conv2d_shape *, int, const float *, const float *, const float *, float *) noexcept nogil
        int (*conv2d_backward_input)(const conv2d_shape *, int, const float *, const float *, float *) noexcept nogil
        int (*conv2d_backward_weight)(const conv2d_shape *, int, const float *, const float *, float *, float *) noexcept nogil
        int (*max_pool2d_forward)(const pool2d_shape *, const float *, float *, int32_t *) noexcept nogil
        void (*max_pool2d_backward_input)(int64_t, int64_t, int64_t, const float *, const int32_t *, float *) noexcept nogil
        int (*avg_pool2d_forward)(const pool2d_shape *, const float *, float *) noexcept nogil
        int (*avg_pool2d_backward_input)(const pool2d_shape *, const float *, float *) noexcept nogil
        void (*global_avg_pool2d_forward)(int64_t, int64_t, const float *, float *) noexcept nogil
        void (*global_avg_pool2d_backward_input)(int64_t, int64_t, const float *, float *) noexcept nogil
        elementwise_kernel relu_forward, relu_backward_input, leaky_relu_forward, leaky_relu_backward_input
        elementwise_kernel elu_forward, elu_backward_input, sigmoid_forward, sigmoid_backward_input
        elementwise_kernel tanh_forward, tanh_backward_input, gelu_forward, gelu_backward_input
        elementwise_kernel silu_forward, silu_backward_input
        void (*activation_forward)(int, double, int64_t, const float *, float *) noexcept nogil
        void (*activation_backward_input)(int, double, int64_t, const float *, int, const float *, float *) noexcept nogil
        rows_kernel softmax_forward, softmax_backward_input, log_softmax_forward, log_softmax_backward_input
        void (*dropout_forward)(int64_t, const float *, double, uint64_t, uint64_t, float *) noexcept nogil
        int (*batch_norm_statistics)(int64_t, int64_t, int64_t, const float *, float *, float *) noexcept nogil
        int (*batch_norm_forward)(int64_t, int64_t, int64_t, const float *, const float *, const float *, const float *,
                                  const float *, double, float *) noexcept nogil
        int (*batch_norm_backward_weight)(int64_t, int64_t, int64_t, const float *, const float *, const float *,
                                          const float *, double, float *, float *) noexcept nogil
        int (*batch_norm_backward_input)(int64_t, int64_t, int64_t, const float *, const float *, const float *, const float *,
                                         const float *, const float *, const float *, double, float *) noexcept nogil
        void (*group_norm_forward)(int64_t, int64_t, int64_t, int64_t, int, const float *, const float *, const float *, double,
                                   float *, float *) noexcept nogil
        int (*group_norm_backward)(int64_t, int64_t, int64_t, int64_t, int, const float *, const float *, const float *,
                                   const float *, float *, float *, float *) noexcept nogil
        int (*recurrent_forward)(const recurrent *) noexcept nogil
        int (*recurrent_backward)(const recurrent *) noexcept nogil
        void (*softmax_cross_entropy)(int64_t, int64_t, const float *, const int64_t *, const float *, double, double,
                                      float *, float *) noexcept nogil
        elementwise_loss_kernel bce_with_logits, mse, huber, smooth_l1
        void (*update)(const optimizer *, int64_t, float *, const float *, float *const *) noexcept nogil
        int (*sum_of_squares)(int64_t, const float *, double *) noexcept nogil
        int64_t (*chain_supports)(const chain *) noexcept nogil
        int64_t (*chain_is_fast)(const chain *) noexcept nogil
        const char *(*chain_name)(const chain *) noexcept nogil
        int64_t (*chain_state_bytes)(const chain *) noexcept nogil
        stage_function chain_forward, chain_backward
        int64_t (*region_supports)(const region *) noexcept nogil
        const char *(*region_name)(const region *) noexcept nogil
        int64_t (*region_state_bytes)(const region *) noexcept nogil
        stage_function region_forward, region_backward
        const char *(*dense_name)(const dense *) noexcept nogil
        int64_t (*dense_work_bytes)(const dense *) noexcept nogil
        stage_function dense_forward, dense_backward, loss_stage, operator_stage, update_stage
        int64_t (*rows_supports)(const dense_rows *, int64_t training) noexcept nogil
        int64_t (*rows_work_bytes)(const dense_rows *) noexcept nogil
        stage_function rows_forward, rows_backward
    kernels fastnn_kernels
    const char *const fastnn_isa_names[]
    int fastnn_isa_supported(const char *)
    int fastnn_select_isa(const char *)

cdef extern from "base/threads.h" nogil:
    void fastnn_set_threads(int)
    void fastnn_release_scratch()
    int64_t fastnn_scratch_growths()
    int fastnn_get_threads()

cdef extern from "base/stopping.h" nogil:
    void fastnn_stoppable_begin(int, int)
    int fastnn_stoppable_end()

cdef extern from "base/memory.h" nogil:
    const size_t FASTNN_LARGE
    void *fastnn_new_memory(size_t alignment, size_t size)
    void *fastnn_take_memory(size_t *)
    void fastnn_release_memory()
    void fastnn_trim_memory()
    void fastnn_give_memory(void *, size_t)
