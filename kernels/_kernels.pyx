"""Binding only: buffers in, one call into the kernel table without the GIL. fastnn.backends.native finds out which arrays fit,
and says so in the user's words.

Every array must be C-contiguous, aligned float32 (labels int64, argmax int32) unless strides are passed, of the size that the
kernel will touch, and writable where it writes. What is not raises DTypeError or ShapeError here, so that no kernel can be
handed memory of another kind.
"""
# cython: language_level=3, boundscheck=False, wraparound=False

import numpy as np
cimport numpy as cnp
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free, realloc

cnp.import_array()

from fastnn.errors import DTypeError, ShapeError, StateError

include "stages.pxi"
include "table.pxi"  # what table.h and threads.h declare

fastnn_select_isa(NULL)  # the best this CPU has: the table is never empty

include "arrays.pxi"


# ---- instruction set and threads ----

def isas():
    """Names of the instruction sets that are compiled in and that this CPU has, slowest first."""
    names = []
    cdef int i = 0
    while fastnn_isa_names[i] != NULL:
        if fastnn_isa_supported(fastnn_isa_names[i]):
            names.append(fastnn_isa_names[i].decode())
        i += 1
    return names


def select_isa(str name=None):
    """Fill the kernel table for one instruction set, the best one for None. False: not compiled in, or not supported."""
    if name is None:
        return fastnn_select_isa(NULL) == 0
    encoded = name.encode()
    return fastnn_select_isa(encoded) == 0


def isa():
    return fastnn_kernels.isa.decode()


def lanes():
    return fastnn_kernels.lanes


def set_num_threads(int count):
    with nogil:  # it waits for a kernel that another thread is running
        fastnn_set_threads(count)


def get_num_threads():
    return fastnn_get_threads()


def release_memory():
    """Give the system what arrays left behind, and the buffers of this thread and of the pool's."""
    with nogil:
        fastnn_release_scratch()
        fastnn_release_memory()


def trim_memory():
    with nogil:
        fastnn_trim_memory()


def scratch_growths():
    return fastnn_scratch_growths()


# ---- giving up: see fastnn.backends.stopping ----

def stoppable_begin(bint on_interrupt, bint on_terminate):
    """Main thread: what it computes from here on may be given up when SIGINT, or SIGTERM, comes."""
    fastnn_stoppable_begin(on_interrupt, on_terminate)


def stoppable_end():
    """Whether it was given up: then the results since are undefined."""
    return fastnn_stoppable_end() != 0


# ---- dense ----

def sgemm(cnp.ndarray a, cnp.ndarray b, bias, cnp.ndarray c):
    """c (M, N) = a (M, K) @ b (K, N) + bias (N,); a and b with any strides that are multiples of the item."""
    if not is_matrix(a) or not is_matrix(b):
        raise DTypeError(f"sgemm: expected aligned float32 matrices, got {described(a)} and {described(b)}")
    cdef int64_t M = a.shape[0], K = a.shape[1], N = b.shape[1]
    if b.shape[0] != K:
        raise ShapeError(f"sgemm: expected (M, K) and (K, N), got {described(a)} and {described(b)}")
    cdef const float *pa = <const float *> cnp.PyArray_DATA(a)
    cdef const float *pb = <const float *> cnp.PyArray_DATA(b)
    cdef int64_t a_row = a.strides[0] // 4, a_col = a.strides[1] // 4, b_row = b.strides[0] // 4, b_col = b.strides[1] // 4
    cdef float *pbias = f32_or_null(bias, N)
    cdef float *pc = f32_out(c, M * N)
    cdef int status
    with nogil:
        status = fastnn_kernels.sgemm(M, N, K, pa, a_row, a_col, pb, b_row, b_col, pbias, pc)
    check(status)


# ---- convolution ----

cdef conv2d_shape conv_shape(cnp.ndarray x, cnp.ndarray weight, cnp.ndarray y, stride, padding, dilation, int64_t groups):
    cdef conv2d_shape s
    check_ndim(x, 4)
    check_ndim(weight, 4)
    check_ndim(y, 4)
    s.N, s.C, s.H, s.W = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    s.O, s.kh, s.kw = weight.shape[0], weight.shape[2], weight.shape[3]
    s.OH, s.OW = y.shape[2], y.shape[3]
    s.stride_h, s.stride_w = stride
    s.pad_h, s.pad_w = padding
    s.dilation_h, s.dilation_w = dilation
    s.groups = groups
    check_windows(s.H, s.kh, s.OH, s.stride_h, s.pad_h, s.dilation_h)
    check_windows(s.W, s.kw, s.OW, s.stride_w, s.pad_w, s.dilation_w)
    if y.shape[0] != s.N or y.shape[1] != s.O or groups < 1 or weight.shape[1] * groups != s.C or s.O % groups:
        raise ShapeError(f"a kernel was given a convolution of {described(x)} by {described(weight)} to {described(y)}")
    if s.OH == 1:
        s.stride_h = 1  # no second step is taken: however long it is, it must not size a buffer
    if s.OW == 1:
        s.stride_w = 1
    return s


def conv2d_forward(cnp.ndarray x, cnp.ndarray weight, bias, stride, padding, dilation, int64_t groups, int algorithm,
                   cnp.ndarray y):
    cdef conv2d_shape s = conv_shape(x, weight, y, stride, padding, dilation, groups)
    cdef float *px = f32(x, x.size)
    cdef float *pw = f32(weight, weight.size)
    cdef float *pb = f32_or_null(bias, s.O)
    cdef float *py = f32_out(y, y.size)
    cdef int status
    with nogil:
        status = fastnn_kernels.conv2d_forward(&s, algorithm, px, pw, pb, py)
    check(status)


def conv2d_backward_input(cnp.ndarray grad, cnp.ndarray weight, stride, padding, dilation, int64_t groups, int algorithm,
                          cnp.ndarray grad_x):
    cdef conv2d_shape s = conv_shape(grad_x, weight, grad, stride, padding, dilation, groups)
    cdef float *pg = f32(grad, grad.size)
    cdef float *pw = f32(weight, weight.size)
    cdef float *px = f32_out(grad_x, grad_x.size)
    cdef int status
    with nogil:
        status = fastnn_kernels.conv2d_backward_input(&s, algorithm, pg, pw, px)
    check(status)


def conv2d_backward_weight(cnp.ndarray grad, cnp.ndarray x, stride, padding, dilation, int64_t groups, int algorithm,
                           cnp.ndarray grad_weight, cnp.ndarray grad_bias):
    cdef conv2d_shape s = conv_shape(x, grad_weight, grad, stride, padding, dilation, groups)
    cdef float *pg = f32(grad, grad.size)
    cdef float *px = f32(x, x.size)
    cdef float *pw = f32_out(grad_weight, grad_weight.size)
    cdef float *pb = f32_out(grad_bias, s.O)
    cdef int status
    with nogil:
        status = fastnn_kernels.conv2d_backward_weight(&s, algorithm, pg, px, pw, pb)
    check(status)


# ---- pooling ----

cdef pool2d_shape pool_shape(cnp.ndarray x, kernel_size, stride, padding, bint count_include_pad, cnp.ndarray y):
    cdef pool2d_shape s
    check_ndim(x, 4)
    check_ndim(y, 4)
    s.planes, s.H, s.W = x.shape[0] * x.shape[1], x.shape[2], x.shape[3]
    s.OH, s.OW = y.shape[2], y.shape[3]
    s.kh, s.kw = kernel_size
    s.stride_h, s.stride_w = stride
    s.pad_h, s.pad_w = padding
    s.count_include_pad = count_include_pad
    check_windows(s.H, s.kh, s.OH, s.stride_h, s.pad_h, 1)
    check_windows(s.W, s.kw, s.OW, s.stride_w, s.pad_w, 1)
    if y.shape[0] != x.shape[0] or y.shape[1] != x.shape[1]:
        raise ShapeError(f"a kernel was given a pooling of {described(x)} to {described(y)}")
    if s.OH == 1:
        s.stride_h = 1  # as in conv_shape
    if s.OW == 1:
        s.stride_w = 1
    return s


def max_pool2d_forward(cnp.ndarray x, kernel_size, stride, padding, cnp.ndarray y, cnp.ndarray argmax):
    cdef pool2d_shape s = pool_shape(x, kernel_size, stride, padding, True, y)
    cdef float *px = f32(x, x.size)
    cdef float *py = f32_out(y, y.size)
    cdef int32_t *pa = <int32_t *> data_of(argmax, cnp.NPY_INT32, y.size, True)
    cdef int status
    with nogil:
        status = fastnn_kernels.max_pool2d_forward(&s, px, py, pa)
    check(status)


def max_pool2d_backward_input(cnp.ndarray grad, cnp.ndarray argmax, cnp.ndarray grad_x):
    check_ndim(grad, 4)
    check_ndim(grad_x, 4)
    cdef int64_t planes = grad.shape[0] * grad.shape[1]
    cdef int64_t pixels = grad_x.shape[2] * grad_x.shape[3], outputs = grad.shape[2] * grad.shape[3]
    cdef float *pg = f32(grad, planes * outputs)
    cdef float *px = f32_out(grad_x, planes * pixels)
    cdef int32_t *pa = <int32_t *> data_of(argmax, cnp.NPY_INT32, planes * outputs, False)
    with nogil:
        fastnn_kernels.max_pool2d_backward_input(planes, pixels, outputs, pg, pa, px)


def avg_pool2d_forward(cnp.ndarray x, kernel_size, stride, padding, bint count_include_pad, cnp.ndarray y):
    cdef pool2d_shape s = pool_shape(x, kernel_size, stride, padding, count_include_pad, y)
    cdef float *px = f32(x, x.size)
    cdef float *py = f32_out(y, y.size)
    cdef int status
    with nogil:
        status = fastnn_kernels.avg_pool2d_forward(&s, px, py)
    check(status)


def avg_pool2d_backward_input(cnp.ndarray grad, kernel_size, stride, padding, bint count_include_pad, cnp.ndarray grad_x):
    cdef pool2d_shape s = pool_shape(grad_x, kernel_size, stride, padding, count_include_pad, grad)
    cdef float *pg = f32(grad, grad.size)
    cdef float *px = f32_out(grad_x, grad_x.size)
    cdef int status
    with nogil:
        status = fastnn_kernels.avg_pool2d_backward_input(&s, pg, px)
    check(status)


def global_avg_pool2d_forward(cnp.ndarray x, cnp.ndarray y):
    check_ndim(x, 4)
    cdef int64_t planes = x.shape[0] * x.shape[1], pixels = x.shape[2] * x.shape[3]
    cdef float *px = f32(x, planes * pixels)
    cdef float *py = f32_out(y, planes)
    with nogil:
        fastnn_kernels.global_avg_pool2d_forward(planes, pixels, px, py)


def global_avg_pool2d_backward_input(cnp.ndarray grad, cnp.ndarray grad_x):
    check_ndim(grad_x, 4)
    cdef int64_t planes = grad_x.shape[0] * grad_x.shape[1], pixels = grad_x.shape[2] * grad_x.shape[3]
    cdef float *pg = f32(grad, planes)
    cdef float *px = f32_out(grad_x, planes * pixels)
    with nogil:
        fastnn_kernels.global_avg_pool2d_backward_input(planes, pixels, pg, px)


# ---- activations: arguments as in fastnn.backends.reference, then the output ----

# A gradient may be one number, which stands for all entries (`one_or_contiguous`).

cdef inline bint is_one(cnp.ndarray a, int64_t count):
    return a is not None and cnp.PyArray_SIZE(a) == 1 and count > 1


cdef int elementwise(elementwise_kernel kernel, cnp.ndarray a, b, float parameter, cnp.ndarray y) except -1:
    cdef int64_t count = cnp.PyArray_SIZE(y)
    cdef bint alike = b is not None and is_one(a, count)
    cdef float *pa = f32(a, 1 if alike else count)
    cdef float *pb = f32_or_null(b, count)
    cdef float *py = f32_out(y, count)
    with nogil:
        kernel(count, pa, alike, pb, parameter, py)
    return 0


def relu_forward(x, y):
    elementwise(fastnn_kernels.relu_forward, x, None, 0, y)


def relu_backward_input(grad, x, grad_x):
    elementwise(fastnn_kernels.relu_backward_input, grad, x, 0, grad_x)


def leaky_relu_forward(x, float negative_slope, y):
    elementwise(fastnn_kernels.leaky_relu_forward, x, None, negative_slope, y)


def leaky_relu_backward_input(grad, x, float negative_slope, grad_x):
    elementwise(fastnn_kernels.leaky_relu_backward_input, grad, x, negative_slope, grad_x)


def elu_forward(x, float alpha, y):
    elementwise(fastnn_kernels.elu_forward, x, None, alpha, y)


def elu_backward_input(grad, x, float alpha, grad_x):
    elementwise(fastnn_kernels.elu_backward_input, grad, x, alpha, grad_x)


def sigmoid_forward(x, y):
    elementwise(fastnn_kernels.sigmoid_forward, x, None, 0, y)


def sigmoid_backward_input(grad, y, grad_x):
    elementwise(fastnn_kernels.sigmoid_backward_input, grad, y, 0, grad_x)


def tanh_forward(x, y):
    elementwise(fastnn_kernels.tanh_forward, x, None, 0, y)


def tanh_backward_input(grad, y, grad_x):
    elementwise(fastnn_kernels.tanh_backward_input, grad, y, 0, grad_x)


def gelu_forward(x, y):
    elementwise(fastnn_kernels.gelu_forward, x, None, 0, y)


def gelu_backward_input(grad, x, grad_x):
    elementwise(fastnn_kernels.gelu_backward_input, grad, x, 0, grad_x)


def silu_forward(x, y):
    elementwise(fastnn_kernels.silu_forward, x, None, 0, y)


def silu_backward_input(grad, x, grad_x):
    elementwise(fastnn_kernels.silu_backward_input, grad, x, 0, grad_x)


def activation_forward(cnp.ndarray x, int kind, double parameter, cnp.ndarray y):
    cdef int64_t count = cnp.PyArray_SIZE(y)
    cdef float *px = f32(x, count)
    cdef float *py = f32_out(y, count)
    with nogil:
        fastnn_kernels.activation_forward(kind, parameter, count, px, py)


def activation_backward_input(cnp.ndarray grad, cnp.ndarray x, int kind, double parameter, cnp.ndarray grad_x):
    cdef int64_t count = cnp.PyArray_SIZE(grad_x)
    cdef bint alike = is_one(grad, count)
    cdef float *pg = f32(grad, 1 if alike else count)
    cdef float *px = f32(x, count)
    cdef float *py = f32_out(grad_x, count)
    with nogil:
        fastnn_kernels.activation_backward_input(kind, parameter, count, pg, alike, px, py)


cdef int rows(rows_kernel kernel, cnp.ndarray a, y, cnp.ndarray out) except -1:
    check_ndim(out, 2)
    cdef int64_t N = out.shape[0], C = out.shape[1]
    cdef float *pa = f32(a, N * C)
    cdef float *py = f32_or_null(y, N * C)
    cdef float *po = f32_out(out, N * C)
    with nogil:
        kernel(N, C, pa, py, po)
    return 0


def softmax_forward(x, y):
    rows(fastnn_kernels.softmax_forward, x, None, y)


def softmax_backward_input(grad, y, grad_x):
    rows(fastnn_kernels.softmax_backward_input, grad, y, grad_x)


def log_softmax_forward(x, y):
    rows(fastnn_kernels.log_softmax_forward, x, None, y)


def log_softmax_backward_input(grad, y, grad_x):
    rows(fastnn_kernels.log_softmax_backward_input, grad, y, grad_x)


def dropout_forward(cnp.ndarray x, double p, uint64_t seed, uint64_t stream, cnp.ndarray y):
    cdef int64_t count = cnp.PyArray_SIZE(y)
    cdef float *px = f32(x, count)
    cdef float *py = f32_out(y, count)
    with nogil:
        fastnn_kernels.dropout_forward(count, px, p, seed, stream, py)


# ---- losses ----

def softmax_cross_entropy(cnp.ndarray logits, cnp.ndarray target, double label_smoothing, double scale, cnp.ndarray loss,
                          cnp.ndarray grad):
    """target: int64 labels (N,), or float32 (N, C)."""
    check_ndim(logits, 2)
    cdef int64_t N = logits.shape[0], C = logits.shape[1]
    cdef bint soft = cnp.PyArray_TYPE(target) == cnp.NPY_FLOAT32
    cdef float *pl = f32(logits, N * C)
    cdef float *pt = f32(target, N * C) if soft else NULL
    cdef int64_t *labels = NULL if soft else <int64_t *> data_of(target, cnp.NPY_INT64, N, False)
    cdef float *po = f32_out(loss, N)
    cdef float *pg = f32_out(grad, N * C)
    with nogil:
        fastnn_kernels.softmax_cross_entropy(N, C, pl, labels, pt, label_smoothing, scale, po, pg)


cdef int elementwise_loss(elementwise_loss_kernel kernel, cnp.ndarray x, cnp.ndarray target, double parameter, double scale,
                          cnp.ndarray loss, cnp.ndarray grad) except -1:
    cdef int64_t count = cnp.PyArray_SIZE(x)
    cdef float *px = f32(x, count)
    cdef float *pt = f32(target, count)
    cdef float *pl = f32_out(loss, count)
    cdef float *pg = f32_out(grad, count)
    with nogil:
        kernel(count, px, pt, parameter, scale, pl, pg)
    return 0


def bce_with_logits(logits, target, double scale, loss, grad):
    elementwise_loss(fastnn_kernels.bce_with_logits, logits, target, 0, scale, loss, grad)


def mse(prediction, target, double scale, loss, grad):
    elementwise_loss(fastnn_kernels.mse, prediction, target, 0, scale, loss, grad)


def huber(prediction, target, double delta, double scale, loss, grad):
    elementwise_loss(fastnn_kernels.huber, prediction, target, delta, scale, loss, grad)


def smooth_l1(prediction, target, double beta, double scale, loss, grad):
    elementwise_loss(fastnn_kernels.smooth_l1, prediction, target, beta, scale, loss, grad)


# ---- norms of samples and recurrent layers, optimiser updates, and plans ----

include "norm.pxi"
include "sequence.pxi"
include "plan.pxi"
include "operators.pxi"
include "program.pxi"
include "region.pxi"
