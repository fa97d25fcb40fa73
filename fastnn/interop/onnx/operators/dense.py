"""Products and convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, ShapeError
from fastnn.interop.onnx.operators.registry import Call, bounded, known, op, reads, tensor
from fastnn.tensors import Tensor


@reads("MatMul")
def matmul(call: Call, a: Any, b: Any) -> Tensor:
    """a @ b, as NumPy; of whole numbers where they are known."""
    if tensor(a).dtype.kind != "f":
        return Tensor(known(a) @ known(b))
    return op("matmul")(tensor(a), tensor(b))


@reads("Gemm")
def gemm(call: Call, a: Any, b: Any, c: Any = None) -> Any:
    """alpha · a @ b + beta · c, with either matrix transposed by an attribute."""
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    a, b = tensor(a), tensor(b)
    a = a.t() if call.get("transA", 0) else a
    turned = bool(call.get("transB", 0))
    vector = c is None or (len(c.shape) == 1 and c.shape == (b.shape[0 if turned else 1],))
    if alpha == 1 and beta == 1 and turned and vector and a.dtype.kind == "f":
        return op("linear")(a, b, None if c is None else tensor(c))
    product = op("matmul")(a, b.t() if turned else b)
    product = product if alpha == 1 else product * alpha
    if c is None:
        return product
    return product + (c if beta == 1 else tensor(c) * beta)


@reads("Einsum")
def einsum(call: Call, *inputs: Any) -> Any:
    """A sum over products of entries, by its equation."""
    return op("einsum")(call.get("equation", "").replace(" ", ""), *map(tensor, inputs))


# ---- windows ---------------------------------------------------------------------------------------------------------


def each(call: Call, name: str, count: int, default: int) -> list[int]:
    """An attribute with one number for every dimension of the windows."""
    value = call.get(name) or [default] * count
    if not isinstance(value, list) or len(value) != count or any(type(n) is not int for n in value):
        raise ArgumentError(f"expected {name} of {count} integers, got {value!r}")
    return value


def paddings(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[tuple[int, int]]:
    """How many entries are added before and after each dimension, by `pads` or by `auto_pad`."""
    count, rule = len(sizes), call.get("auto_pad", "NOTSET")
    if rule in ("NOTSET", ""):
        given = each(call, "pads", 2 * count, 0)
        return list(zip(given[:count], given[count:], strict=True))
    if rule == "VALID":
        return [(0, 0)] * count
    if rule not in ("SAME_UPPER", "SAME_LOWER"):
        raise ArgumentError(f"expected auto_pad NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {rule!r}")
    found = []
    for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
        few = total // 2
        found.append((few, total - few) if rule == "SAME_UPPER" else (total - few, few))
    return found


def padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """x with entries around its last dimensions."""
    if not any(map(any, pads)):
        return x
    more = [before + after for before, after in pads]
    bounded(n + m for n, m in zip(x.shape[-len(more) :], more, strict=True))
    return op("pad")(x, [n for pair in reversed(pads) for n in pair], value=value)


def check_layout(x: Tensor, weight: Tensor) -> int:
    """How many dimensions the windows have, 1 to 3."""
    if x.ndim != weight.ndim or not 3 <= x.ndim <= 5:
        raise ShapeError(
            f"expected input and weight with one to three dimensions of space, got {x.shape} and {weight.shape}"
        )
    return x.ndim - 2


@reads("Conv")
def conv(call: Call, x: Any, weight: Any, bias: Any = None) -> Tensor:
    """A convolution of one, two or three dimensions."""
    x, weight = tensor(x), tensor(weight)
    bias = None if bias is None else tensor(bias)
    count = check_layout(x, weight)
    strides, dilations = each(call, "strides", count, 1), each(call, "dilations", count, 1)
    pads = paddings(call, x.shape[2:], weight.shape[2:], strides, dilations)
    groups = call.get("group", 1)
    if count == 3:
        return _conv3d(padded(x, pads), weight, bias, strides, dilations, groups)
    even = all(before == after >= 0 for before, after in pads)
    x = x if even else padded(x, pads)
    around = tuple(before for before, _ in pads) if even else 0
    return op(f"conv{count}d")(x, weight, bias, tuple(strides), around, tuple(dilations), groups)


def _conv3d(
    x: Tensor, weight: Tensor, bias: Tensor | None, strides: list[int], dilations: list[int], groups: int
) -> Tensor:
    """By conv2d, for which the depth of a window are more channels."""
    n, c, depth, h, w = x.shape
    o, _, kd, kh, kw = weight.shape
    planes = (depth - dilations[0] * (kd - 1) - 1) // strides[0] + 1
    if planes < 1:
        raise ShapeError(f"expected a kernel that fits into the padded input, got {weight.shape} on {x.shape}")
    places = np.arange(planes)[:, None] * strides[0] + np.arange(kd) * dilations[0]
    taken = x[:, :, places].permute(0, 2, 1, 3, 4, 5).reshape(n * planes, c * kd, h, w)  # (N, C, OD, kd, H, W) before
    y = op("conv2d")(taken, weight.reshape(o, -1, kh, kw), bias, tuple(strides[1:]), 0, tuple(dilations[1:]), groups)
    return y.reshape(n, planes, *y.shape[1:]).transpose(1, 2)


@reads("ConvTranspose")
def conv_transpose(call: Call, x: Any, weight: Any, bias: Any = None) -> Tensor:
    """The transpose of a convolution, of one, two or three dimensions."""
    x, weight = tensor(x), tensor(weight)
    count = check_layout(x, weight)
    strides, dilations = each(call, "strides", count, 1), each(call, "dilations", count, 1)
    more = each(call, "output_padding", count, 0)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, weight.shape[2:], strict=True)]
    pads = _cut(call, x.shape[2:], strides, reach, more)
    groups = call.get("group", 1)
    bounded(
        (x.shape[0], weight.shape[1], *((n - 1) * s + r for n, s, r in zip(x.shape[2:], strides, reach, strict=True)))
    )
    even = all(before == after >= 0 for before, after in pads) and all(
        m < s for m, s in zip(more, strides, strict=True)
    )
    run = op(f"conv_transpose{min(count, 2)}d")
    if even and count < 3:
        around, own = tuple(before for before, _ in pads), None if bias is None else tensor(bias)
        return run(x, weight, own, tuple(strides), around, tuple(more), groups, tuple(dilations))
    if count == 3:
        y = _transposed3d(x, weight, strides, dilations, groups)
    else:
        y = run(x, weight, None, tuple(strides), 0, 0, groups, tuple(dilations))
    y = padded(y, [(-before, m - after) for (before, after), m in zip(pads, more, strict=True)])
    return y if bias is None else y + tensor(bias).reshape(-1, *[1] * count)


def _cut(
    call: Call, sizes: Sequence[int], strides: Sequence[int], reach: Sequence[int], more: Sequence[int]
) -> list[tuple[int, int]]:
    """How many entries of the full result are cut off before and after."""
    rule, wanted = call.get("auto_pad", "NOTSET"), call.get("output_shape")
    if wanted is None and rule not in ("SAME_UPPER", "SAME_LOWER"):
        return paddings(call, sizes, sizes, sizes, sizes)  # the pads that are given
    found = []
    goal = wanted[-len(sizes) :] if wanted else [n * s for n, s in zip(sizes, strides, strict=True)]
    for n, s, r, m, out in zip(sizes, strides, reach, more, goal, strict=True):
        total = (n - 1) * s + m + r - out
        few = total // 2
        found.append((few, total - few) if rule == "SAME_UPPER" else (total - few, few))
    return found


def _transposed3d(x: Tensor, weight: Tensor, strides: list[int], dilations: list[int], groups: int) -> Any:
    """By conv_transpose2d of every plane, added up where the kernel's planes put them."""
    n, c, depth, h, w = x.shape
    kd = weight.shape[2]
    run, pad = op("conv_transpose2d"), op("pad")
    flat = x.transpose(1, 2).reshape(n * depth, c, h, w)
    steps = tuple(strides[1:]), 0, 0, groups, tuple(dilations[1:])
    planes = (depth - 1) * strides[0] + dilations[0] * (kd - 1) + 1
    total: Any = None
    for k in range(kd):
        y = run(flat, weight[:, :, k], None, *steps)
        size = y.shape[1:]
        y = pad(y.reshape(n, depth, 1, -1), (0, 0, 0, strides[0] - 1)).reshape(n, depth * strides[0], -1)
        first = k * dilations[0]
        y = pad(y, (0, 0, first, planes - first - y.shape[1]))
        total = y if total is None else total + y
    return total.reshape(n, planes, *size).transpose(1, 2)
