"""Functions of two vectors: how near they are, and a form that is linear in each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn.checks import number
from fastnn.errors import ShapeError
from fastnn.ops.arithmetic import abs as absolute
from fastnn.ops.arithmetic import common_type
from fastnn.ops.common import floating, weight_of
from fastnn.ops.dense import matmul
from fastnn.tensors import Tensor

__all__ = ["bilinear", "corrcoef", "cosine_similarity", "cov", "pairwise_distance"]


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


def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Tensor:
    """The covariances (V, V) of variables in rows, samples in columns, (V, N), or of one variable (N,).

    `fweights` (N,), whole numbers, say how often each sample counts, `aweights` (N,) how much; the sum of products is
    divided by the sum of weights less `correction`, which of aweights is that of Kish (as NumPy's np.cov has it).

    >>> import fastnn as fnn
    >>> fnn.cov(fnn.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    Tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    x = floating(input)
    if x.ndim > 2:
        raise ShapeError(f"cov: expected variables (V, N) or (N,), got {x.shape}")
    rows = x.reshape(-1, x.shape[-1] if x.ndim else 1)
    weights = floating(np.ones(rows.shape[1]) if fweights is None else fweights, x.dtype)
    total = weights.sum()
    spread = total - correction
    if aweights is not None:
        shares = floating(aweights, x.dtype)
        weights, squares = weights * shares, (weights * shares * shares).sum()
        total = weights.sum()
        spread = total - correction * squares / total
    away = rows - (rows * weights).sum(1, True) / total
    found = matmul(away * weights, away.t()) / spread.clamp(min=0)
    return found if x.ndim == 2 else found.squeeze()


def corrcoef(input: Any) -> Tensor:
    """The correlations (V, V), from -1 to 1, of variables in rows, (V, N), or of one variable (N,).

    >>> import fastnn as fnn
    >>> fnn.corrcoef(fnn.tensor([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]]))
    Tensor([[ 1., -1.],
            [-1.,  1.]])
    """
    c = cov(input)
    if not c.ndim:
        return c / c
    deviations = c.diagonal().sqrt()
    return (c / deviations.unsqueeze(1) / deviations).clamp(-1, 1)


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
