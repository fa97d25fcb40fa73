# Layer, group and RMS norm (kernels/ops/group_norm.h), recurrent layers (recurrent.h); part of _kernels.pyx.

# ---- layer, group and RMS norm: x (N, C, P) ----

cdef int check_groups(cnp.ndarray x, int64_t groups) except -1:
    check_ndim(x, 3)
    if groups < 1 or x.shape[1] < 1 or x.shape[2] < 1 or x.shape[1] % groups:
        raise ShapeError(f"a kernel was given {groups} groups of {described(x)}")
    return 0


def group_norm_forward(cnp.ndarray x, weight, bias, int64_t groups, double eps, bint centred, cnp.ndarray y, cnp.ndarray statistics):
    check_groups(x, groups)
    cdef int64_t N = x.shape[0], C = x.shape[1], P = x.shape[2]
    cdef float *px = f32(x, N * C * P)
    cdef float *pw = f32_or_null(weight, C)
    cdef float *pb = f32_or_null(bias, C)
    cdef float *py = f32_out(y, N * C * P)
    cdef float *ps = f32_out(statistics, 2 * N * groups)
    with nogil:
        fastnn_kernels.group_norm_forward(N, C, P, groups, centred, px, pw, pb, eps, py, ps)


def group_norm_backward(cnp.ndarray grad, cnp.ndarray x, cnp.ndarray statistics, weight, int64_t groups, bint centred,
                        cnp.ndarray grad_x, cnp.ndarray grad_weight, cnp.ndarray grad_bias):
    check_groups(x, groups)
    cdef int64_t N = x.shape[0], C = x.shape[1], P = x.shape[2]
    cdef float *pg = f32(grad, N * C * P)
    cdef float *px = f32(x, N * C * P)
    cdef float *ps = f32(statistics, 2 * N * groups)
    cdef float *pw = f32_or_null(weight, C)
    cdef float *po = f32_out(grad_x, N * C * P)
    cdef float *pgw = f32_out(grad_weight, C)
    cdef float *pgb = f32_out(grad_bias, C)
    cdef int status
    with nogil:
        status = fastnn_kernels.group_norm_backward(N, C, P, groups, centred, pg, px, ps, pw, po, pgw, pgb)
    check(status)


# ---- recurrent layers: gates (T, B, G H) ----

cdef recurrent recurrent_of(cnp.ndarray gates, cnp.ndarray y, extra, cnp.ndarray weight, h0, c0, int64_t mode,
                            bint reverse) except *:
    """Sizes, and the arrays that both ways have."""
    cdef recurrent r
    check_ndim(gates, 3)
    check_ndim(weight, 2)
    if not 0 <= mode <= 3:
        raise ShapeError(f"a kernel was given no recurrent layer: {mode}")
    cdef int64_t G = 4 if mode == 3 else 3 if mode == 2 else 1
    r.mode, r.T, r.B, r.H, r.reverse = mode, gates.shape[0], gates.shape[1], weight.shape[1], reverse
    if r.T < 1 or r.H < 1 or gates.shape[2] != G * r.H:
        raise ShapeError(f"a kernel was given a recurrent layer of {described(gates)} by {described(weight)}")
    cdef int64_t states = r.T * r.B * r.H
    r.gates = f32(gates, states * G)
    r.y = f32(y, states + (r.B * r.H if mode == 3 else 0))
    r.extra = f32(extra, states) if mode >= 2 else NULL
    r.weight = f32(weight, G * r.H * r.H)
    r.bias = NULL
    r.h0 = f32_or_null(h0, r.B * r.H)
    r.c0 = f32_or_null(c0, r.B * r.H)
    r.grad, r.grad_gates, r.grad_extra, r.grad_h0, r.grad_c0 = NULL, NULL, NULL, NULL, NULL
    return r


def recurrent_forward(cnp.ndarray gates, cnp.ndarray y, extra, cnp.ndarray weight, bias, h0, c0, int64_t mode, bint reverse):
    cdef recurrent r = recurrent_of(gates, y, extra, weight, h0, c0, mode, reverse)
    r.gates = f32_out(gates, gates.size)
    r.y = f32_out(y, y.size)
    if mode >= 2:
        r.extra = f32_out(extra, extra.size)
    r.bias = f32_or_null(bias, r.H)
    cdef int status
    with nogil:
        status = fastnn_kernels.recurrent_forward(&r)
    check(status)


def recurrent_backward(cnp.ndarray grad_gates, grad_extra, grad_h0, grad_c0, cnp.ndarray grad, cnp.ndarray gates, cnp.ndarray y,
                       extra, cnp.ndarray weight, h0, c0, int64_t mode, bint reverse):
    cdef recurrent r = recurrent_of(gates, y, extra, weight, h0, c0, mode, reverse)
    r.grad = f32(grad, y.size)
    r.grad_gates = f32_out(grad_gates, gates.size)
    r.grad_extra = f32_out(grad_extra, extra.size) if mode == 2 else NULL
    r.grad_h0 = NULL if grad_h0 is None else f32_out(grad_h0, r.B * r.H)
    r.grad_c0 = NULL if grad_c0 is None else f32_out(grad_c0, r.B * r.H)
    cdef int status
    with nogil:
        status = fastnn_kernels.recurrent_backward(&r)
    check(status)
