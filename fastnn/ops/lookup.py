"""Rows of a table by their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.checks import choice, whole
from fastnn.errors import ArgumentError, DTypeError, LabelError, ShapeError
from fastnn.habits import check_options
from fastnn.ops.common import tensor_of, weight_of
from fastnn.ops.joining import cat
from fastnn.tape import tracer
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = ["embedding", "embedding_bag"]


class Embedding(Function):
    """weight (V, D), index (...) of integers -> (..., D). Saves index and V; kernel
    embedding_backward_weight.

    Attribute: padding_idx, the row that gets no gradient, or -1.
    """

    @staticmethod
    def forward(ctx: Context, weight: Array, index: Array, *, padding_idx: int) -> Array:
        if index.size and not 0 <= index.min() <= index.max() < len(weight):
            raise LabelError(
                f"embedding: expected indices from 0 to {len(weight) - 1}, got {index.min()} to {index.max()}"
            )
        ctx.save_for_backward(index, len(weight))
        return weight[index]

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array, None]:
        index, rows = ctx.saved_tensors
        grad_weight: Array = ctx.kernels.embedding_backward_weight(
            grad.reshape(-1, grad.shape[-1]), index.reshape(-1), rows, ctx.attributes["padding_idx"]
        )
        return grad_weight, None


def embedding(
    input: Any,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of weight (V, D) whose numbers `input` holds, integers of any shape: (...) -> (..., D).

    `padding_idx` names a row that gets no gradient. `sparse` is taken and says nothing; max_norm and
    scale_grad_by_freq have no other value here (ArgumentError). Raises DTypeError for numbers that are no integers,
    LabelError for rows that there are not.

    >>> import fastnn as fnn
    >>> fnn.ops.embedding([2, 0], fnn.Tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))
    Tensor([[4., 5.],
            [0., 1.]])
    """
    check_options("embedding", max_norm=max_norm, scale_grad_by_freq=scale_grad_by_freq)
    index = tensor_of(input)
    if index.dtype.kind not in "iu":
        raise DTypeError(f"embedding: expected integers, got {index.dtype}: x.astype(np.int64)")
    weight = weight_of("embedding", "weight", weight)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: expected weight of shape (V, D), got {weight.shape}")
    index = index if index.dtype == np.int64 else index.astype(np.int64)
    return Embedding.apply(weight, index, padding_idx=padding_row("embedding", padding_idx, weight.shape[0]))


def padding_row(op: str, padding_idx: int | None, rows: int) -> int:
    """The row counted from the front; -1 for none."""
    if padding_idx is None:
        return -1
    padding_idx = whole(op, "padding_idx", padding_idx, -rows, rows - 1)
    return padding_idx % rows


def embedding_bag(
    input: Any,
    weight: Tensor,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum of the rows of each bag: input (B, L) of integers -> (B, D).

    A flat `input` (n,) goes with `offsets` (B,), where each bag begins, the first at 0 (else ArgumentError); modes
    "sum" and "mean" then, of which an empty bag is 0. `per_sample_weights`, in the shape of input, weight the rows of
    "sum". padding_idx, max_norm, scale_grad_by_freq and include_last_offset have no other value here (ArgumentError).
    """
    check_options(
        "embedding_bag", max_norm=max_norm, scale_grad_by_freq=scale_grad_by_freq,
        include_last_offset=include_last_offset, padding_idx=padding_idx,
    )  # fmt: skip
    choice("embedding_bag", "mode", mode, ("sum", "mean", "max"))
    if per_sample_weights is not None and mode != "sum":
        raise ArgumentError(f"embedding_bag: expected per_sample_weights with mode='sum' alone, got {mode!r}")
    rows = embedding(input, weight)
    if (rows.ndim == 3) != (offsets is None) or rows.ndim not in (2, 3):
        raise ShapeError(f"embedding_bag: expected input (B, L), or (n,) with offsets, got {rows.shape[:-1]}")
    if per_sample_weights is not None:
        rows = rows * tensor_of(per_sample_weights).unsqueeze(-1)
    if offsets is None:
        return rows.sum(1) if mode == "sum" else rows.mean(1) if mode == "mean" else rows.max(1)[0]
    if mode == "max":
        raise ArgumentError("embedding_bag: expected mode 'sum' or 'mean' with offsets, got 'max'")
    begins = _begins(offsets, rows.shape[0])
    ends = cat([begins[1:], Tensor(np.array([rows.shape[0]], begins.dtype))])
    places = Tensor(np.arange(rows.shape[0]))
    within = (begins.unsqueeze(1) <= places).astype(rows.dtype) * (ends.unsqueeze(1) > places).astype(rows.dtype)
    sums = within @ rows
    return sums if mode == "sum" else sums / within.sum(1, keepdim=True).clamp(1)


def _begins(offsets: Any, count: int) -> Tensor:
    """Offsets as a tensor, checked: each of the `count` numbers is in a bag."""
    begins = tensor_of(offsets)
    if begins.ndim != 1 or begins.dtype.kind not in "iu":
        raise DTypeError(f"embedding_bag: expected offsets (B,) of integers, got {begins.dtype} {begins.shape}")
    if tracer() is None:
        values = begins._data.astype(np.int64)
        first = values[0] if len(values) else count
        if first or (np.diff(values, append=count) < 0).any():
            raise ArgumentError(
                f"embedding_bag: expected offsets from 0, none below the one before it or above {count}, the length of "
                f"the input, got {np.array2string(values, threshold=8)}"
            )
    return begins
