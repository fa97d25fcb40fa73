# ---- batch norm: x (N, C), (N, C, L) or (N, C, H, W) ----

cdef int64_t pixels_of(cnp.ndarray x) except -1:
    if x is None or x.ndim not in (2, 3, 4):
        raise ShapeError("a kernel was given neither (N, C) nor (N, C, L) nor (N, C, H, W)")
    return x.shape[2] * x.shape[3] if x.ndim == 4 else x.shape[2] if x.ndim == 3 else 1


def batch_norm_statistics(cnp.ndarray x, cnp.ndarray mean, cnp.ndarray var):
    cdef int64_t HW = pixels_of(x), N = x.shape[0], C = x.shape[1]
    cdef float *px = f32(x, N * C * HW)
    cdef float *pm = f32_out(mean, C)
    cdef float *pv = f32_out(var, C)
    cdef int status
    with nogil:
        status = fastnn_kernels.batch_norm_statistics(N, C, HW, px, pm, pv)
    check(status)


def batch_norm_forward(cnp.ndarray x, cnp.ndarray mean, cnp.ndarray var, weight, bias, double eps, cnp.ndarray y):
    cdef int64_t HW = pixels_of(x), N = x.shape[0], C = x.shape[1]
    cdef float *px = f32(x, N * C * HW)
    cdef float *pm = f32(mean, C)
    cdef float *pv = f32(var, C)
    cdef float *pw = f32_or_null(weight, C)
    cdef float *pb = f32_or_null(bias, C)
    cdef float *py = f32_out(y, N * C * HW)
    cdef int status
    with nogil:
        status = fastnn_kernels.batch_norm_forward(N, C, HW, px, pm, pv, pw, pb, eps, py)
    check(status)


def batch_norm_backward_weight(cnp.ndarray grad, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray var, double eps,
                               cnp.ndarray grad_weight, cnp.ndarray grad_bias):
    cdef int64_t HW = pixels_of(x), N = x.shape[0], C = x.shape[1]
    cdef float *pg = f32(grad, N * C * HW)
    cdef float *px = f32(x, N * C * HW)
    cdef float *pm = f32(mean, C)
    cdef float *pv = f32(var, C)
    cdef float *pw = f32_out(grad_weight, C)
    cdef float *pb = f32_out(grad_bias, C)
    cdef int status
    with nogil:
        status = fastnn_kernels.batch_norm_backward_weight(N, C, HW, pg, px, pm, pv, eps, pw, pb)
    check(status)


def batch_norm_backward_input(cnp.ndarray grad, cnp.ndarray x, cnp.ndarray mean, cnp.ndarray var, weight, grad_weight,
                              grad_bias, double eps, cnp.ndarray grad_x):
    cdef int64_t HW = pixels_of(x), N = x.shape[0], C = x.shape[1]
    cdef float *pg = f32(grad, N * C * HW)
    cdef float *px = f32(x, N * C * HW)
    cdef float *pm = f32(mean, C)
    cdef float *pv = f32(var, C)
    cdef float *pw = f32_or_null(weight, C)
    cdef float *pgw = f32_or_null(grad_weight, C)
    cdef float *pgb = f32_or_null(grad_bias, C)
    cdef float *po = f32_out(grad_x, N * C * HW)
    cdef int status
    with nogil:
        status = fastnn_kernels.batch_norm_backward_input(N, C, HW, pg, px, pm, pv, pw, pgw, pgb, eps, po)
    check(status)
