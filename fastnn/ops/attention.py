"""Scaled dot-product attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.checks import flag
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.activations import dropout, softmax
from fastnn.ops.common import floating, tensor_of
from fastnn.ops.dense import matmul
from fastnn.ops.joining import where
from fastnn.ops.logic import gt, ne
from fastnn.ops.reductions import amax
from fastnn.tape import tracer
from fastnn.tensors import Array, Context, Function, Tensor

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query keyᵀ · scale + mask) value, the scale 1/sqrt(E) unless given.

    query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V). A boolean mask that broadcasts to (..., L, S)
    is True where attention is allowed; one of floats is added. Where a mask allows nothing the result is 0, as in
    PyTorch. `is_causal` allows what does not come later. Raises ArgumentError for both a mask and is_causal, ShapeError
    where the shapes do not fit.

    >>> import numpy as np, fastnn as fnn
    >>> q = np.zeros((2, 4, 5, 8), np.float32)
    >>> fnn.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True).shape
    (2, 4, 5, 8)
    """
    if flag("scaled_dot_product_attention", "enable_gqa", enable_gqa):
        raise ArgumentError("scaled_dot_product_attention: expected enable_gqa=False, all that fastnn has, got True")
    given = (query, key, value)
    plain = attn_mask is None and dropout_p == 0 and type(is_causal) is bool and (scale is None or type(scale) is float)
    if plain and tracer() is None and _fit(given):
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        return Attention.apply(*given, scale=scale, is_causal=is_causal)
    return attention(query, key, value, attn_mask, dropout_p, is_causal, scale)[0]


class Attention(Function):
    """query (..., L, E), key (..., S, E), value (..., S, V) -> (..., L, V); kernels stacked_matmul and softmax_*.

    Saves the scaled query, key, value and the weights. Attributes: scale, is_causal. In plans it is composed."""

    @staticmethod
    def forward(ctx: Context, q: Array, k: Array, v: Array, *, scale: float, is_causal: bool) -> Array:
        q = q * scale
        scores = ctx.kernels.stacked_matmul(q, k.swapaxes(-1, -2))
        if is_causal:
            np.copyto(scores, -np.inf, where=~np.tri(*scores.shape[-2:], dtype=np.bool_))
        rows = scores.reshape(-1, scores.shape[-1])
        ctx.kernels.softmax_forward(rows, out=rows)  # which are the weights now
        ctx.save_for_backward(q, k, v, scores)
        y: Array = ctx.kernels.stacked_matmul(scores, v)
        return y

    @staticmethod
    def backward(ctx: Context, grad: Array) -> tuple[Array | None, Array | None, Array | None]:
        q, k, v, weights = ctx.saved_tensors
        need_q, need_k, need_v = ctx.needs_input_grad
        product = ctx.kernels.stacked_matmul
        grad_q = grad_k = None
        if need_q or need_k:
            scores = product(grad, v.swapaxes(-1, -2))
            rows = scores.reshape(-1, scores.shape[-1])
            ctx.kernels.softmax_backward_input(rows, weights.reshape(rows.shape), out=rows)
            grad_k = product(scores.swapaxes(-1, -2), q) if need_k else None
        if need_q:
            grad_q = product(scores, k)
            grad_q *= ctx.attributes["scale"]
        return grad_q, grad_k, product(weights.swapaxes(-1, -2), grad) if need_v else None


def composed_attention(query: Any, key: Any, value: Any, *, scale: float, is_causal: bool) -> Tensor:
    """The same by operators that have derivatives of any order, and kernels in plans."""
    return attention(query, key, value, None, 0.0, is_causal, scale)[0]


def _fit(given: tuple[Any, ...]) -> bool:
    """Whether these are tensors of one floating type and one stack, whose matrices fit and have entries."""
    if not all(isinstance(x, Tensor) for x in given):
        return False
    q, k, v = (x.shape for x in given)
    fits = len(q) > 1 and q[:-2] == k[:-2] == v[:-2] and len(q) == len(k) == len(v)
    fits = fits and q[-1] == k[-1] and k[-2] == v[-2] and all(x.numel() for x in given)
    return fits and given[0].dtype.kind == "f" and given[0].dtype == given[1].dtype == given[2].dtype


def attention(
    query: Any, key: Any, value: Any, mask: Any, dropout_p: float, is_causal: bool, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """The same, and the weights (..., L, S)."""
    op = "scaled_dot_product_attention"
    query = floating(query)
    key, value = floating(key, query.dtype), floating(value, query.dtype)
    if min(query.ndim, key.ndim, value.ndim) < 2 or query.shape[-1] != key.shape[-1]:
        raise ShapeError(f"{op}: expected query (..., L, E) and key (..., S, E), got {query.shape} and {key.shape}")
    if key.shape[-2] != value.shape[-2]:
        raise ShapeError(f"{op}: expected key and value of one length, got {key.shape} and {value.shape}")
    scores = matmul(query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale), key.transpose(-2, -1))
    if is_causal:
        if mask is not None:
            raise ArgumentError(f"{op}: expected attn_mask=None with is_causal=True, got both")
        mask = np.tri(*scores.shape[-2:], dtype=np.bool_)
    some = None
    if mask is not None:
        mask = tensor_of(mask)
        some = _rows_with_some(mask)
        if mask.dtype == np.bool_:
            scores = where(mask, scores, -np.inf)
        else:
            scores = scores + mask.astype(scores.dtype)
    weights = softmax(scores if some is None else where(some, scores, 0.0), -1)
    weights = dropout(weights if some is None else where(some, weights, 0.0), dropout_p)
    return matmul(weights, value), weights


def _rows_with_some(mask: Tensor) -> Tensor | None:
    """The rows in which a mask allows an entry, (..., L, 1), boolean; None if the mask is constant and all rows do."""
    if not mask.ndim or not mask.shape[-1]:
        return None
    allowed = mask if mask.dtype == np.bool_ else ne(mask, -np.inf)
    some = gt(amax(allowed.float(), -1, True), 0.0)
    return None if type(some) is Tensor and bool(some._data.all()) else some
