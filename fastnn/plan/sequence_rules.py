"""How norms of single samples and recurrent layers are lowered."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.ops import recurrent, sample_norm
from fastnn.plan.emit import ZERO, Emitter
from fastnn.plan.kernel_rules import RULES, product
from fastnn.plan.rules import rule
from fastnn.plan.trace import Operator
from fastnn.tensors import Array

__all__ = ["RULES"]


def _optional(to: Emitter, x: Array | None) -> Array | None:
    return None if x is None else to.contiguous(x)


@rule(sample_norm.GroupNorm)
def _group_norm(
    to: Emitter,
    op: Operator,
    x: Array,
    weight: Array | None,
    bias: Array | None,
    *,
    sizes: tuple[int, int, int],
    groups: int,
    eps: float,
    centred: bool,
) -> Any:
    x, weight, bias = to.contiguous(x), _optional(to, weight), _optional(to, bias)
    y, statistics, n = to.array(x.shape), to.array((sizes[0], groups, 2)), (*sizes, groups, int(centred))
    to.call("group_norm_forward", y, statistics, x, weight, bias, n=n, p=(eps,))

    def backward(grad: Array) -> tuple[Array | None, ...]:
        grad_x = to.array(x.shape) if op.needs[0] else None
        sums = to.array(sizes[1:2]), to.array(sizes[1:2])
        to.call("group_norm_backward", grad_x, *sums, to.contiguous(grad), x, statistics, weight, n=n)
        return grad_x, *sums

    return y, backward


@rule(recurrent.Recurrent)
def _recurrent(
    to: Emitter,
    op: Operator,
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
) -> Any:
    (times, batch, _), size, gru = x.shape, w_hh.shape[1], mode == recurrent.GRU
    rows, bias, bias_n = to.reshape(x, (times * batch, x.shape[2])), None, None
    if b_ih is not None and b_hh is not None:
        if gru:
            bias, bias_n, rest = to.array(b_ih.shape), b_hh[2 * size :], slice(0, 2 * size)
            to.map("add", b_ih[rest], b_hh[rest], out=bias[rest])
            to.map("copy", b_ih[2 * size :], out=bias[2 * size :])
        else:
            bias = to.map("add", b_ih, b_hh)
    gates = product(to, rows, w_ih.T, bias)
    extra = to.array((times * batch, size)) if mode in (recurrent.GRU, recurrent.LSTM) else None
    w_hh, h0, c0, bias_n = to.contiguous(w_hh), _optional(to, h0), _optional(to, c0), _optional(to, bias_n)
    y, n = to.array(op.output.shape), (times, batch, size, mode, int(reverse))
    to.call("recurrent_forward", y, gates, extra, w_hh, bias_n, h0, c0, n=n)

    def backward(grad: Array) -> tuple[Array | None, ...]:
        d_extra = to.array((times * batch, size)) if gru else None
        grad_h0, grad_c0 = (to.array((batch, size)) if needed else None for needed in op.needs[5:])
        written = gates, d_extra, grad_h0, grad_c0  # gates become their gradients
        to.call("recurrent_backward", *written, to.contiguous(grad), gates, y, extra, w_hh, h0, c0, n=n)
        grad_x = to.reshape(product(to, gates, w_ih), x.shape) if op.needs[0] else None
        grad_w_ih = product(to, gates.T, rows) if op.needs[1] else None
        grad_b_ih = grad_b_hh = None
        if op.needs[3] or op.needs[4]:
            grad_b_ih = grad_b_hh = to.sum(gates, (0,))
            if d_extra is not None:
                grad_b_hh = to.array(grad_b_ih.shape)
                to.map("copy", grad_b_ih[: 2 * size], out=grad_b_hh[: 2 * size])
                to.map("copy", to.sum(d_extra, (0,)), out=grad_b_hh[2 * size :])
        hidden = [(gates, slice(None))]
        if d_extra is not None:
            hidden = [(gates[:, : 2 * size], slice(0, 2 * size)), (d_extra, slice(2 * size, 3 * size))]
        grad_w_hh = to.array(w_hh.shape)
        later, earlier, first = recurrent.around(times, reverse)
        for d, place in hidden:
            d = d.reshape(times, batch, -1) if d.flags.c_contiguous else to.reshape(d, (times, batch, d.shape[1]))
            before = y[earlier].reshape(-1, size)
            if times > 1:
                a = to.reshape(d[later], ((times - 1) * batch, d.shape[2]))
                product(to, a.T, before, out=grad_w_hh[place])
            else:
                to.map("copy", np.broadcast_to(ZERO, grad_w_hh[place].shape), out=grad_w_hh[place])
            if h0 is not None:
                to.map("add", grad_w_hh[place], product(to, d[first].T, h0), out=grad_w_hh[place])
        return grad_x, grad_w_ih, grad_w_hh, grad_b_ih, grad_b_hh, grad_h0, grad_c0

    return y, backward
