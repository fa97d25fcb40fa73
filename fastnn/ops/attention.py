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
from fastnn.tensors import Tensor

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
    return attention(query, key, value, attn_mask, dropout_p, is_causal, scale)[0]


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
