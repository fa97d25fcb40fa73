"""Functions of two vectors: how near they are, and a form that is linear in each."""

from __future__ import annotations

import math
from typing import Any

from fastnn.checks import number
from fastnn.errors import ShapeError
from fastnn.ops.arithmetic import abs as absolute
from fastnn.ops.arithmetic import common_type
from fastnn.ops.common import floating, weight_of
from fastnn.ops.dense import matmul
from fastnn.tensors import Tensor

__all__ = ["bilinear", "cosine_similarity", "pairwise_distance"]


def _both(x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    a, b = common_type((x1, x2))
    return floating(a), floating(b)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between x1 and x2 along dim; they broadcast. A length counts at least as eps.

    >>> import fastnn as fnn
    >>> fnn.ops.cosine_similarity([[1.0, 0.0]], [[1.0, 1.0]])
    Tensor([0.70710677])
    """
    (a, b), eps = _both(x1, x2), number("cosine_similarity", "eps", eps, 0)
    lengths = [(x * x).sum(dim, keepdim=True).clamp(eps * eps).sqrt() for x in (a, b)]
    return (a / lengths[0] * (b / lengths[1])).sum(dim)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last dimension; they broadcast.

    >>> import fastnn as fnn
    >>> fnn.ops.pairwise_distance([[0.0, 0.0]], [[3.0, 4.0]], eps=0)
    Tensor([5.])
    """
    a, b = _both(x1, x2)
    p = number("pairwise_distance", "p", p, 0, finite=False)
    away = a - b + number("pairwise_distance", "eps", eps)
    if p == 2:
        return (away * away).sum(-1, keepdim=keepdim).sqrt()
    sizes = absolute(away)
    if p == 0:
        return (sizes > 0).astype(sizes.dtype).sum(-1, keepdim=keepdim)
    if math.isinf(p):
        return sizes.max(-1, keepdim=keepdim)[0]
    return sizes.sum(-1, keepdim=keepdim) if p == 1 else (sizes**p).sum(-1, keepdim=keepdim) ** (1 / p)


def bilinear(input1: Any, input2: Any, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input1 (..., I), input2 (..., J), weight (O, I, J), bias (O,) or None -> (..., O): x1ᵀ W x2 + b."""
    weight = weight_of("bilinear", "weight", weight)
    a, b = floating(input1, weight.dtype), floating(input2, weight.dtype)
    if (
        weight.ndim != 3
        or not a.ndim
        or not b.ndim
        or a.shape[:-1] != b.shape[:-1]
        or (a.shape[-1], b.shape[-1]) != weight.shape[1:]
    ):
        raise ShapeError(
            f"bilinear: expected inputs (..., I) and (..., J) and weight (O, I, J), got {a.shape}, {b.shape} and "
            f"{weight.shape}"
        )
    o, i, j = weight.shape
    products = matmul(a.reshape(-1, i), weight.permute(1, 0, 2).reshape(i, o * j)).reshape(-1, o, j)
    y = (products * b.reshape(-1, 1, j)).sum(2).reshape(*a.shape[:-1], o)
    return y if bias is None else y + bias
