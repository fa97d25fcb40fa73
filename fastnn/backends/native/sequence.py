"""Layer, group and RMS norm, recurrent layers on the compiled kernels (kernels/ops/group_norm.h, recurrent.h)."""

from __future__ import annotations

from fastnn import _kernels
from fastnn._kernels import contiguous
from fastnn.backends.checks import Array, empty


def _optional(x: Array | None) -> Array | None:
    return None if x is None else contiguous(x)


def group_norm_forward(
    x: Array, weight: Array | None, bias: Array | None, groups: int, eps: float, centred: bool
) -> tuple[Array, Array]:
    y, statistics = empty(x.shape, x.dtype), empty((len(x), groups, 2), x.dtype)
    _kernels.group_norm_forward(contiguous(x), _optional(weight), _optional(bias), groups, eps, centred, y, statistics)
    return y, statistics


def group_norm_backward(
    grad: Array, x: Array, statistics: Array, weight: Array | None, groups: int, centred: bool
) -> tuple[Array, Array, Array]:
    made = empty(x.shape, x.dtype), empty(x.shape[1:2], x.dtype), empty(x.shape[1:2], x.dtype)
    _kernels.group_norm_backward(contiguous(grad), contiguous(x), statistics, _optional(weight), groups, centred, *made)
    return made


def recurrent_forward(
    gates: Array,
    y: Array,
    extra: Array | None,
    weight: Array,
    bias: Array | None,
    h0: Array | None,
    c0: Array | None,
    mode: int,
    reverse: bool,
) -> None:
    states = _optional(bias), _optional(h0), _optional(c0)
    _kernels.recurrent_forward(gates, y, extra, contiguous(weight), *states, mode, reverse)


def recurrent_backward(
    grad_gates: Array,
    grad_extra: Array | None,
    grad_h0: Array | None,
    grad_c0: Array | None,
    grad: Array,
    gates: Array,
    y: Array,
    extra: Array | None,
    weight: Array,
    h0: Array | None,
    c0: Array | None,
    mode: int,
    reverse: bool,
) -> None:
    written = grad_gates, grad_extra, grad_h0, grad_c0
    states = _optional(h0), _optional(c0)
    _kernels.recurrent_backward(*written, contiguous(grad), gates, y, extra, contiguous(weight), *states, mode, reverse)
