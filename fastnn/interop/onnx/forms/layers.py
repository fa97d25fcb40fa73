"""Forms of layers: convolutions, pools, products, norms, recurrent layers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.interop.onnx.batch import Affine, Step
from fastnn.interop.onnx.forms.registry import form
from fastnn.interop.onnx.writer import Writer
from fastnn.ops import conv, dense, lookup, norms, pool, recurrent, resizing, sample_norm

__all__: list[str] = []


def _window(op: Step, value: tuple[int, int]) -> tuple[int, ...]:
    """Of images both numbers, of sequences the second."""
    return tuple(value[4 - len(op.inputs[0].shape) :])


@form(conv.Conv2d, conv.ConvTranspose2d)
def _conv(to: Writer, op: Step, x: str, weight: str, bias: str | None, *, groups: int, **windows: Any) -> str:
    pads, strides, dilations, *more = (
        _window(op, windows[name]) for name in ("padding", "stride", "dilation", "output_padding") if name in windows
    )
    kind = "ConvTranspose" if more else "Conv"
    options: dict[str, Any] = {"output_padding": more[0]} if more else {}
    shape: dict[str, Any] = {
        "kernel_shape": op.inputs[1].shape[2:],
        "strides": strides,
        "pads": pads * 2,
        "dilations": dilations,
    }
    return str(to(kind, x, weight, bias or "", group=groups, **shape, **options))


@form(pool.MaxPool2d, pool.AvgPool2d)
def _pool(to: Writer, op: Step, x: str, *, kernel_size: Any, stride: Any, padding: Any, **options: Any) -> str:
    kind = "MaxPool" if op.function is pool.MaxPool2d else "AveragePool"
    shape: dict[str, Any] = {
        "kernel_shape": _window(op, kernel_size),
        "strides": _window(op, stride),
        "pads": _window(op, padding) * 2,
    }
    return str(to(kind, x, **shape, **{name: int(value) for name, value in options.items()}))


@form(dense.Linear)
def _linear(to: Writer, op: Step, x: str, weight: str, bias: str | None) -> str:
    return str(to("Gemm", x, weight, bias or "", transB=1))


@form(lookup.Embedding)
def _embedding(to: Writer, op: Step, weight: str, index: str, *, padding_idx: int) -> str:
    return str(to("Gather", weight, index, axis=0))


@form(norms.Normalize)
def _normalize(to: Writer, op: Step, x: str, *_: str) -> str:
    _, *statistics = op.inputs
    if op.inputs[0].dtype != op.output.dtype:
        x = to.cast(x, op.output.dtype)
    if op.inputs[0].dtype.kind in "iu":
        x = to("Div", x, to.constant(255, op.output.dtype))
    mean, std = (_for_channels(to, op, statistic) for statistic in statistics)
    return str(to("Div", to("Sub", x, mean), std))


def _for_channels(to: Writer, op: Step, values: Any) -> str:
    """(C,) as (C, 1, ...), which broadcasts to (N, C, ...)."""
    shape = (-1, *(1,) * (len(op.output.shape) - 2))
    return to.derived(values, "channels", lambda a: a.reshape(shape)) or to.reshaped(to.name_of(values), shape)


@form(norms.BatchNorm)
def _batch_norm(
    to: Writer, op: Step, x: str, mean: str, var: str, weight: str | None, bias: str | None, *, eps: float
) -> str:
    _, dtype = sizes = op.inputs[1].shape, op.inputs[1].dtype
    weight, bias = (
        to.constant(np.full(sizes[0], number, dtype)) if given is None else given
        for given, number in ((weight, 1), (bias, 0))
    )
    return str(to("BatchNormalization", x, weight, bias, mean, var, epsilon=eps))


def _standardised(to: Writer, dtype: Any, x: str, axes: tuple[int, ...], eps: float, centred: bool) -> str:
    """(x - mean) / sqrt(var + eps) over these dimensions, or x / sqrt(mean(x²) + eps)."""
    over = to.constant(np.array(axes, np.int64))
    x = to("Sub", x, to("ReduceMean", x, over)) if centred else x
    var = to("ReduceMean", to("Mul", x, x), over)
    return str(to("Div", x, to("Sqrt", to("Add", var, to.constant(eps, dtype)))))


@form(norms.BatchNormTraining)
def _batch_norm_training(
    to: Writer, op: Step, x: str, weight: str | None, bias: str | None, *, eps: float, running: Any
) -> str:
    ndim = len(op.output.shape)
    y = _standardised(to, op.output.dtype, x, (0, *range(2, ndim)), eps, True)
    return _scaled(to, op, y, weight, bias)


def _scaled(to: Writer, op: Step, y: str, weight: str | None, bias: str | None) -> str:
    """y (N, C, ...) by the channels' factors, and their summands; inputs 1 and 2 of the step."""
    y = y if weight is None else to("Mul", y, _for_channels(to, op, op.inputs[1]))
    return str(y if bias is None else to("Add", y, _for_channels(to, op, op.inputs[2])))


@form(sample_norm.GroupNorm)
def _group_norm(
    to: Writer,
    op: Step,
    x: str,
    weight: str | None,
    bias: str | None,
    *,
    sizes: tuple[Any, ...],
    groups: int,
    eps: float,
    centred: bool,
) -> str:
    shape, dtype = op.output.shape, op.output.dtype
    if groups > 1 or sizes[2] != 1:
        rows = to.reshaped(x, (sizes[0], groups, sizes[1] // groups * sizes[2]))
        ones, zeros = (to.constant(np.full(groups, number, dtype)) for number in (1, 0))
        y = to.reshaped(to("InstanceNormalization", rows, ones, zeros, epsilon=eps), shape)
        return _scaled(to, op, y, weight, bias)
    first = next(d for d in reversed(range(len(shape))) if _count(shape[d:]) == sizes[1])
    last = shape[first:]
    given = []
    for values in op.inputs[1:]:
        if values is not None:
            name = to.name_of(values)
            wide = to.derived(values, "rows", lambda a: a.reshape(last)) if len(last) > 1 else name
            given.append(wide or to.reshaped(name, last))
    if centred:
        given = given or [to.constant(np.ones(last, dtype))]
        return str(to("LayerNormalization", x, *given, axis=first - len(shape), epsilon=eps))
    y = _standardised(to, dtype, x, tuple(range(first - len(shape), 0)), eps, False)
    return str(to("Mul", y, given[0]) if given else y)


def _count(shape: tuple[Any, ...]) -> int:
    return -1 if any(isinstance(size, Affine) for size in shape) else math.prod(shape)


_ORDER = {recurrent.GRU: (1, 0, 2), recurrent.LSTM: (0, 3, 1, 2)}  # of ONNX's gates among fastnn's


@form(recurrent.Recurrent)
def _recurrent(to: Writer, op: Step, x: str, *rest: str | None, mode: int, reverse: bool) -> str:
    _, w_ih, w_hh, b_ih, b_hh, _, _ = op.inputs
    size = w_hh.shape[1]
    order = _ORDER.get(mode, (0,))
    rows = np.concatenate([np.arange(size) + gate * size for gate in order])

    def gates(*parts: Any) -> str:
        """(1, G·H, ...) in ONNX's order of gates."""
        made = [
            to.derived(part, "gates", lambda a: a[rows][None])
            or to("Unsqueeze", to("Gather", to.name_of(part), to.constant(rows)), to.constant(np.array([0])))
            for part in parts
        ]
        return made[0] if len(made) == 1 else str(to("Concat", *made, axis=1))

    biases = "" if b_ih is None else gates(b_ih, b_hh)
    states = ["" if state is None else to("Unsqueeze", state, to.constant(np.array([0]))) for state in rest[-2:]]
    options: dict[str, Any] = {"hidden_size": size, "direction": "reverse" if reverse else "forward"}
    if mode == recurrent.GRU:
        options["linear_before_reset"] = 1
    elif mode != recurrent.LSTM:
        options["activations"] = ["Tanh" if mode == recurrent.TANH else "Relu"]
    kind = {recurrent.GRU: "GRU", recurrent.LSTM: "LSTM"}.get(mode, "RNN")
    lstm = kind == "LSTM"
    made = to(kind, x, gates(w_ih), gates(w_hh), biases, "", *states[: 1 + lstm], outputs=1 + 2 * lstm, **options)
    y = to("Squeeze", made[0] if lstm else made, to.constant(np.array([1])))
    return str(to("Concat", y, made[2], axis=0) if lstm else y)


@form(resizing.Repeat)
def _repeat(to: Writer, op: Step, x: str, *, repeats: tuple[int, ...]) -> str:
    options: dict[str, Any] = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    return str(to("Resize", x, "", to.constant(np.array(repeats, np.float32)), **options))
