"""Windows and whole planes."""

from __future__ import annotations

import functools
import math
from itertools import product
from typing import Any

import numpy as np

from fastnn.errors import ShapeError
from fastnn.interop.onnx.operators.dense import each, padded, paddings
from fastnn.interop.onnx.operators.registry import Call, ints, known, op, reads, tensor
from fastnn.tensors import Array, Tensor


class _Windows:
    """Where the windows of a pooling lie."""

    def __init__(self, call: Call, x: Tensor) -> None:
        count = x.ndim - 2
        if count < 1:
            raise ShapeError(f"expected input of shape (N, C, ...), got {x.shape}")
        self.sizes = x.shape[2:]
        self.kernel = each(call, "kernel_shape", count, 1)
        self.strides, self.dilations = each(call, "strides", count, 1), each(call, "dilations", count, 1)
        self.pads = paddings(call, self.sizes, self.kernel, self.strides, self.dilations)
        self.outs, self.beyond = [], []  # entries of the output, and of the input beyond its padding
        for n, k, s, d, (before, after) in self._each():
            room = n + before + after - d * (k - 1) - 1
            out = room // s + 1
            if call.get("ceil_mode", 0):
                out = -(-room // s) + 1
                out -= (out - 1) * s >= n + before
            self.outs.append(out)
            self.beyond.append(max(0, (out - 1) * s - room))
        if min(self.outs) < 1:
            raise ShapeError(f"expected windows that fit into the padded input, got {self.kernel} on {x.shape}")

    def _each(self) -> Any:
        return zip(self.sizes, self.kernel, self.strides, self.dilations, self.pads, strict=True)

    @property
    def plain(self) -> bool:
        """Whether fastnn's pooling has such windows."""
        even = all(a == b for a, b in self.pads) and not any(self.beyond)
        half = all(a <= k // 2 for (a, _), k in zip(self.pads, self.kernel, strict=True))
        return even and half and len(self.kernel) < 3 and set(self.dilations) == {1}

    def around(self, x: Tensor, value: float) -> Tensor:
        """x with all the entries that windows reach."""
        more = [(before, after + b) for (before, after), b in zip(self.pads, self.beyond, strict=True)]
        return padded(x, more, value)

    def taps(self, x: Tensor) -> list[Tensor]:
        """For each entry of a window, what all windows of the padded x have there."""
        found = []
        for at in product(*map(range, self.kernel)):
            firsts = [i * d for i, d in zip(at, self.dilations, strict=True)]
            parts = [slice(f, f + (n - 1) * s + 1, s) for f, n, s in zip(firsts, self.outs, self.strides, strict=True)]
            key = (slice(None), slice(None), *parts)
            found.append(x[key])
        return found

    def counts(self, with_pads: bool) -> Array:
        """How many entries of each window count."""
        counts = np.ones(())
        for (n, k, s, d, (before, after)), out in zip(self._each(), self.outs, strict=True):
            places = np.arange(out)[:, None] * s + np.arange(k) * d - before
            low, high = (-before, n + after) if with_pads else (0, n)
            counts = counts[..., None] * ((places >= low) & (places < high)).sum(1)
        return counts

    def options(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Kernel, stride and padding of fastnn's pooling."""
        return tuple(self.kernel), tuple(self.strides), tuple(before for before, _ in self.pads)


@reads("MaxPool")
def max_pool(call: Call, x: Any) -> Any:
    """The largest entry of each window, and by a second output where it is."""
    x = tensor(x)
    windows, whole = _Windows(call, x), x.dtype.kind != "f"
    if call.outputs > 1:
        return _with_places(call, x, windows)
    if windows.plain and not whole:
        return op(f"max_pool{len(windows.kernel)}d")(x, *windows.options())
    if len(windows.kernel) < 3 and set(windows.dilations) == {1} and not whole:
        around = windows.around(x, -math.inf)
        return op(f"max_pool{len(windows.kernel)}d")(around, tuple(windows.kernel), tuple(windows.strides))
    lowest = float(np.iinfo(x.dtype).min) if whole else -math.inf
    taps = windows.taps(windows.around(x, lowest))
    return functools.reduce(op("maximum"), taps)


def _with_places(call: Call, x: Tensor, windows: _Windows) -> tuple[Tensor, Tensor]:
    """The maxima, and their places in the whole tensor."""
    around = windows.around(x.astype(np.float64) if x.dtype.kind != "f" else x, -math.inf)
    largest, which = op("stack")(windows.taps(around)).max(0)
    taps = np.array(list(product(*map(range, windows.kernel))))  # (taps, dims)
    place: Any = Tensor(np.zeros((), np.int64))
    strides = (
        np.cumprod([1, *windows.sizes[:0:-1]])[::-1]
        if not call.get("storage_order", 0)
        else np.cumprod([1, *windows.sizes[:-1]])
    )
    for d, weight in enumerate(strides):
        first = (np.arange(windows.outs[d]) * windows.strides[d] - windows.pads[d][0]).reshape(
            -1, *[1] * (len(windows.outs) - 1 - d)
        )
        offset = Tensor(taps[:, d] * windows.dilations[d])[which]
        place = place + (offset + Tensor(first)) * int(weight)
    plane = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(windows.outs))
    return largest.astype(x.dtype), place + Tensor(plane * math.prod(windows.sizes))


@reads("MaxUnpool")
def max_unpool(call: Call, x: Any, places: Any, wanted: Any = None) -> Any:
    """Zeros, but for the entries of x at these places of the whole tensor."""
    x = tensor(x)
    count = x.ndim - 2
    kernel, strides = each(call, "kernel_shape", count, 1), each(call, "strides", count, 1)
    pads = each(call, "pads", 2 * count, 0)
    own = [
        (n - 1) * s - pads[d] - pads[d + count] + k
        for d, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel, strict=True))
    ]
    index = known(places).reshape(-1)
    size = (*x.shape[:2], *own)
    full = tuple(ints(wanted)) if wanted is not None else size
    if wanted is not None and full != size:  # the places are those of the smaller tensor
        index = np.ravel_multi_index(np.unravel_index(index, size), full)
    y = op("index_put")(Tensor(np.zeros(math.prod(full), x.dtype)), (index,), x.reshape(-1))
    return y.reshape(*full)


@reads("AveragePool")
def average_pool(call: Call, x: Any) -> Any:
    """The mean of each window; entries of the padding count by an attribute."""
    x = tensor(x)
    windows, with_pads = _Windows(call, x), bool(call.get("count_include_pad", 0))
    dims = len(windows.kernel)
    if windows.plain:
        return op(f"avg_pool{dims}d")(x, *windows.options(), count_include_pad=with_pads)
    around = windows.around(x, 0.0)
    if dims < 3 and set(windows.dilations) == {1}:
        sums = op(f"avg_pool{dims}d")(around, tuple(windows.kernel), tuple(windows.strides)) * math.prod(windows.kernel)
    else:
        sums = functools.reduce(op("add"), windows.taps(around))
    return sums / np.maximum(windows.counts(with_pads), 1)


@reads("LpPool")
def lp_pool(call: Call, x: Any) -> Any:
    """The p-norm of each window."""
    x, p = tensor(x), call.get("p", 2)
    windows = _Windows(call, x)
    powers = [tap.abs() ** float(p) for tap in windows.taps(windows.around(x, 0.0))]
    return functools.reduce(op("add"), powers) ** (1 / p)


def _plane(x: Tensor) -> tuple[int, ...]:
    if x.ndim < 3:
        raise ShapeError(f"expected input of shape (N, C, ...), got {x.shape}")
    return tuple(range(2, x.ndim))


@reads("GlobalAveragePool")
def global_average_pool(call: Call, x: Any) -> Any:
    """The mean of each plane."""
    x = tensor(x)
    if x.ndim in (3, 4):
        return op(f"adaptive_avg_pool{x.ndim - 2}d")(x, 1)
    return x.mean(_plane(x), True)


@reads("GlobalMaxPool")
def global_max_pool(call: Call, x: Any) -> Any:
    """The largest entry of each plane."""
    x = tensor(x)
    return x.amax(_plane(x), True)


@reads("GlobalLpPool")
def global_lp_pool(call: Call, x: Any) -> Any:
    """The p-norm of each plane."""
    x, p = tensor(x), call.get("p", 2)
    return (x.abs() ** float(p)).sum(_plane(x), True) ** (1 / p)
