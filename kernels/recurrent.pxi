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
