"""Recurrent layers: one layer and direction over a whole sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.backends.checks import empty
from fastnn.tensors import Array, Context, Function

__all__: list[str] = []

TANH, RELU, GRU, LSTM = MODES = tuple(range(4))  # as enum recurrent_mode of kernels/table.h
GATES = (1, 1, 3, 4)


class Recurrent(Function):
    """x (T, B, I), w_ih (G·H, I), w_hh (G·H, H), biases (G·H,) or None, h0 and, of LSTM, c0 (B, H) or None for zeros.

    The states h (T, B, H); of LSTM (T + 1, B, H), the last one being c at the end. One product makes the input's part
    of all times; kernels linear_*, recurrent_*, matmul. Saves inputs, states and gates. Attributes: mode, reverse.
    """

    @staticmethod
    def forward(
        ctx: Context,
        x: Array,
        w_ih: Array,
        w_hh: Array,
        b_ih: Array | None,
        b_hh: Array | None,
        h0: Array | None,
        c0: Array | None,
        *,
        mode: int,
        reverse: bool,
    ) -> Array:
        times, batch, _ = x.shape
        size = w_hh.shape[1]
        rows, bias, bias_n = x.reshape(times * batch, -1), None, None
        if b_ih is not None and b_hh is not None:
            bias = b_ih + b_hh
            if mode == GRU:  # that of n is multiplied by r
                bias[2 * size :], bias_n = b_ih[2 * size :], b_hh[2 * size :]
        gates = ctx.kernels.linear_forward(rows, w_ih, bias).reshape(times, batch, -1)
        y = empty((times + (mode == LSTM), batch, size), x.dtype)
        extra = empty((times, batch, size), x.dtype) if mode in (GRU, LSTM) else None
        ctx.kernels.recurrent_forward(gates, y, extra, w_hh, bias_n, h0, c0, mode, reverse)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(rows, w_ih, w_hh, h0, c0, gates, y, extra)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, ...]:
        rows, w_ih, w_hh, h0, c0, gates, y, extra = ctx.saved_tensors
        mode, reverse = ctx.attributes["mode"], ctx.attributes["reverse"]
        times, batch, _ = gates.shape
        size = w_hh.shape[1]
        need_x, need_w_ih, _, need_b_ih, need_b_hh, need_h0, need_c0 = ctx.needs_input_grad
        d = empty(gates.shape, gates.dtype)
        d_extra = empty((times, batch, size), gates.dtype) if mode == GRU else None
        grad_h0 = empty((batch, size), gates.dtype) if need_h0 else None
        grad_c0 = empty((batch, size), gates.dtype) if need_c0 else None
        ctx.kernels.recurrent_backward(d, d_extra, grad_h0, grad_c0, grad, gates, y, extra, w_hh, h0, c0, mode, reverse)
        flat = d.reshape(times * batch, -1)
        grad_x = grad_w_ih = grad_b_ih = grad_b_hh = None
        if need_x:
            grad_x = ctx.kernels.linear_backward_input(flat, w_ih).reshape(times, batch, -1)
        if need_w_ih or need_b_ih or need_b_hh:
            grad_w_ih, grad_b_ih = ctx.kernels.linear_backward_weight(flat, rows)
        hidden = d if d_extra is None else np.concatenate([d[..., : 2 * size], d_extra], 2)
        later, earlier, first = around(times, reverse)
        grad_w_hh = ctx.kernels.matmul(
            hidden[later].reshape(-1, hidden.shape[2]), y[earlier].reshape(-1, size), transpose_a=True
        )
        if h0 is not None:
            grad_w_hh += ctx.kernels.matmul(hidden[first], h0, transpose_a=True)
        if need_b_ih or need_b_hh:
            assert grad_b_ih is not None
            grad_b_hh = grad_b_ih.copy()
            if d_extra is not None:
                grad_b_hh[2 * size :] = d_extra.sum((0, 1))
        return grad_x, grad_w_ih, grad_w_hh, grad_b_ih, grad_b_hh, grad_h0, grad_c0


def around(times: int, reverse: bool) -> tuple[Any, Any, int]:
    """Times that have one before them, those before, and the one that begins."""
    if reverse:
        return slice(0, times - 1), slice(1, times), times - 1
    return slice(1, times), slice(0, times - 1), 0
