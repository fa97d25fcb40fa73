"""Sums, extrema and orders along dimensions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.interop.onnx.operators.registry import Call, axes_of, axis_of, ints, known, op, reads, tensor
from fastnn.tensors import Tensor


@reads(
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip
def reduce(call: Call, x: Any, axes: Any = None) -> Tensor:
    """Along `axes`, all of them where none are named (or none, by an attribute)."""
    x, found, keep = tensor(x), axes_of(call, axes), bool(call.get("keepdims", 1))
    if not found and call.get("noop_with_empty_axes", 0):
        return _of_each(call.operator, x)
    dims = tuple(range(x.ndim)) if not found else tuple(axis_of(each, x.ndim) for each in found)
    return _reduced(call.operator, x, dims, keep).astype(x.dtype) if dims else _of_each(call.operator, x)


def _of_each(operator: str, x: Tensor) -> Tensor:
    """The reduction of single entries."""
    made = {"ReduceL1": "abs", "ReduceL2": "abs", "ReduceLogSum": "log", "ReduceSumSquare": "square"}
    return op(made[operator])(x) if operator in made else x


def _reduced(operator: str, x: Tensor, dims: tuple[int, ...], keep: bool) -> Any:
    size = math.prod(x.shape[d] for d in dims)
    if operator == "ReduceMean":
        if x.ndim == 4 and set(dims) == {2, 3}:  # which fused stages take
            y: Tensor = op("adaptive_avg_pool2d")(x, 1)
            return y if keep else y.flatten(1)
        return x.mean(dims, keep)
    if operator in ("ReduceMax", "ReduceMin"):
        if size == 0:
            kind = x.dtype
            limits: Any = np.iinfo(kind) if kind.kind in "iu" else None
            ends = (limits.min, limits.max) if limits else (-np.inf, np.inf) if kind.kind == "f" else (False, True)
            empty = x.sum(dims, keep).numpy()
            return Tensor(np.full(empty.shape, ends[operator == "ReduceMin"], kind))
        if x.dtype.kind == "b":
            return (x.any if operator == "ReduceMax" else x.all)(dims, keep)
        return (x.amax if operator == "ReduceMax" else x.amin)(dims, keep)
    if operator == "ReduceProd":
        for d in sorted(dims, reverse=True):
            x = x.prod(d, keep)
        return x
    if operator == "ReduceLogSumExp" and size:
        return op("logsumexp")(x if x.dtype.kind == "f" else x.double(), dims, keep)
    if operator == "ReduceL1":
        return x.abs().sum(dims, keep)
    if operator in ("ReduceL2", "ReduceSumSquare"):
        y = (x * x).sum(dims, keep)
        return y if operator == "ReduceSumSquare" else (y if y.dtype.kind == "f" else y.double()).sqrt()
    y = (x.exp() if operator == "ReduceLogSumExp" else x).sum(dims, keep)
    return y if operator == "ReduceSum" else (y if y.dtype.kind == "f" else y.double()).log()


@reads("ArgMax", "ArgMin")
def arg_extremum(call: Call, x: Any) -> Any:
    """The place of the largest or smallest entry along `axis`, of equal ones the first, or by an attribute the last."""
    x = tensor(x)
    axis, keep = axis_of(call.get("axis", 0), x.ndim), bool(call.get("keepdims", 1))
    last = bool(call.get("select_last_index", 0))
    x = x.flip(axis) if last else x
    found = x.argmax(axis, keep) if call.operator == "ArgMax" else x.argmin(axis, keep)
    return x.shape[axis] - 1 - found if last else found


@reads("TopK")
def top_k(call: Call, x: Any, k: Any = None) -> tuple[Tensor, Tensor]:
    """The k largest or smallest entries along `axis`, in order, and their places."""
    count = call.get("k", 1) if k is None else ints(k)[0]
    x = tensor(x)
    found = op("topk")(x, count, axis_of(call.get("axis", -1), x.ndim), bool(call.get("largest", 1)))
    return found.values, found.indices


@reads("CumSum", "CumProd")
def cumulative(call: Call, x: Any, axis: Any) -> Tensor:
    """Sums or products of all entries up to each, without it by `exclusive`, from the end by `reverse`."""
    x = tensor(x)
    dim = axis_of(int(known(axis).reshape(-1)[0]), x.ndim)
    x = x.flip(dim) if call.get("reverse", 0) else x
    if call.get("exclusive", 0):
        pads = [0] * (2 * (x.ndim - dim))
        pads[-2:] = 1, -1
        x = op("pad")(x, pads, value=0.0 if call.operator == "CumSum" else 1.0)
    y = op("cumsum" if call.operator == "CumSum" else "cumprod")(x, dim).astype(x.dtype)
    return y.flip(dim) if call.get("reverse", 0) else y


@reads("Det")
def determinant(call: Call, x: Any) -> Tensor:
    """Determinants of matrices, without a gradient."""
    return Tensor(np.linalg.det(known(x)).astype(x.dtype))
