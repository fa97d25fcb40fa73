"""Forms of sums, extrema and truth over dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.interop.onnx.batch import Affine, Step
from fastnn.interop.onnx.forms.registry import form, of_wide
from fastnn.interop.onnx.writer import Inexpressible, Writer
from fastnn.ops import reductions, shaping

__all__: list[str] = []


def _over(to: Writer, dims: tuple[int, ...] | None) -> list[str]:
    return [] if dims is None else [to.constant(np.array(dims, np.int64))]


@form(shaping.Sum)
def _sum(to: Writer, op: Step, x: str, *, dim: tuple[int, ...] | None, keepdim: bool) -> str:
    x = x if op.inputs[0].dtype == op.output.dtype else to.cast(x, op.output.dtype)
    return str(to("ReduceSum", x, *_over(to, dim), keepdims=int(keepdim)))


@form(reductions.Prod)
def _prod(to: Writer, op: Step, x: str, *, dim: int) -> str:
    x = x if op.inputs[0].dtype == op.output.dtype else to.cast(x, op.output.dtype)
    return str(to("ReduceProd", x, *_over(to, (dim,)), keepdims=0))


@form(reductions.Peak)
def _peak(to: Writer, op: Step, x: str, *, dim: tuple[int, ...] | None, keepdim: bool, largest: bool) -> str:
    return str(to("ReduceMax" if largest else "ReduceMin", x, *_over(to, dim), keepdims=int(keepdim)))


@form(reductions.Truth)
def _truth(to: Writer, op: Step, x: str, *, dim: tuple[int, ...] | None, keepdim: bool, every: bool) -> str:
    counted = to.cast(to.cast(x, np.bool_), np.int32)
    return to.cast(to("ReduceMin" if every else "ReduceMax", counted, *_over(to, dim), keepdims=int(keepdim)), np.bool_)


@form(shaping.Extremum, shaping.Place)
def _extremum(to: Writer, op: Step, x: str, *, dim: int | None, keepdim: bool, pick: Any) -> str:
    values = op.function is shaping.Extremum
    if pick in (np.argmax, np.argmin):
        if values:
            kind = "ReduceMax" if pick is np.argmax else "ReduceMin"
            return of_wide(to, op, kind, x, *_over(to, (dim or 0,)), keepdims=int(keepdim))
        if op.inputs[0].dtype.kind == "b":
            x = to.cast(x, np.int32)
        kind = "ArgMax" if pick is np.argmax else "ArgMin"
        if dim is not None:
            return str(to(kind, x, axis=dim, keepdims=int(keepdim)))
        found = to(kind, to.reshaped(x, (-1,)), axis=0, keepdims=0)
        return to.reshaped(found, op.output.shape) if keepdim else str(found)
    return _median(to, op, x, dim, keepdim, pick, values)


@form(reductions.Middle)
def _middle(to: Writer, op: Step, x: str, *, pick: Any) -> str:
    return _median(to, op, x, 0, False, pick, values=True)


def _median(to: Writer, op: Step, x: str, dim: int | None, keepdim: bool, pick: Any, values: bool) -> str:
    """The entry in the middle, or where it stands."""
    if pick is not reductions._argmedian or dim is None:
        raise Inexpressible(f"it picks by {pick.__name__}")
    size = op.inputs[0].shape[dim]
    if isinstance(size, Affine):
        raise Inexpressible("the middle one depends on the number of samples")
    middle = (size - 1) // 2
    found = to("TopK", x, to.constant(np.array([middle + 1])), axis=dim, largest=0, outputs=2)[0 if values else 1]
    at = np.array([middle]) if keepdim else np.array(middle)
    return str(to("Gather", found, to.constant(at), axis=dim))
