"""Random tensors: new numbers at every call, compiled or not, from the streams that `fnn.manual_seed` starts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastnn import random
from fastnn.errors import ArgumentError, DTypeError
from fastnn.habits import check_options
from fastnn.tensor import Array, Context, Function, Tensor


class RandnLike(Function):
    """Standard normal numbers in x's shape. Attribute: dtype."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array, *, dtype: np.dtype[Any]) -> Array:
        return random.next_generator().standard_normal(x.shape, dtype)


class RandLike(Function):
    """Numbers from [0, 1) in x's shape. Attribute: dtype."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array, *, dtype: np.dtype[Any]) -> Array:
        return random.next_generator().random(x.shape, dtype)


class Bernoulli(Function):
    """1 with the probabilities that x holds, else 0."""

    differentiable = False

    @staticmethod
    def forward(ctx: Context, x: Array) -> Array:
        if not ((x >= 0) & (x <= 1)).all():
            wrong = x[~((x >= 0) & (x <= 1))][0]
            raise ArgumentError(f"bernoulli: expected probabilities from 0 to 1, got {wrong}")
        return (random.next_generator().random(x.shape, x.dtype) < x).astype(x.dtype)


def randn_like(
    input: Any,
    *,
    dtype: DTypeLike | None = None,
    layout: None = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: None = None,
) -> Tensor:
    """Standard normal numbers in the shape of `input`, of its type or `dtype` (float32 or float64); no gradient.

    Every call takes new numbers, in a compiled model, too; `fnn.manual_seed` starts them afresh, for any number of
    threads. Raises DTypeError for integers.

    >>> import fastnn as fnn
    >>> mean, std = fnn.Tensor([0.0, 5.0]), fnn.Tensor([1.0, 0.1])
    >>> (mean + std * fnn.randn_like(std)).shape  # a variational autoencoder's draw
    (2,)
    """
    check_options("randn_like", layout=layout, device=device, requires_grad=requires_grad, memory_format=memory_format)
    x = input if isinstance(input, Tensor) else Tensor(input)
    return RandnLike.apply(x, dtype=_dtype("randn_like", x, dtype))


def rand_like(
    input: Any,
    *,
    dtype: DTypeLike | None = None,
    layout: None = None,
    device: Any = None,
    requires_grad: bool = False,
    memory_format: None = None,
) -> Tensor:
    """Numbers from [0, 1), all equally likely, in the shape of `input`; everything else as for `randn_like`.

    >>> import fastnn as fnn
    >>> drawn = fnn.rand_like(fnn.Tensor([[0.0, 0.0]]))
    >>> drawn.shape, bool((drawn >= 0).all() and (drawn < 1).all())
    ((1, 2), True)
    """
    check_options("rand_like", layout=layout, device=device, requires_grad=requires_grad, memory_format=memory_format)
    x = input if isinstance(input, Tensor) else Tensor(input)
    return RandLike.apply(x, dtype=_dtype("rand_like", x, dtype))


def bernoulli(input: Any, *, generator: None = None, out: None = None) -> Tensor:
    """1 with the probability that `input` holds in that place, else 0, in its shape and type; no gradient.

    Every call takes new numbers, as `randn_like` does. Raises ArgumentError for entries that are not from 0 to 1,
    DTypeError for integers.

    >>> import fastnn as fnn
    >>> fnn.bernoulli(fnn.Tensor([0.0, 1.0]))
    Tensor([0., 1.])
    """
    check_options("bernoulli", generator=generator, out=out)
    x = input if isinstance(input, Tensor) else Tensor(input)
    _dtype("bernoulli", x, None)
    return Bernoulli.apply(x)


def _dtype(name: str, x: Tensor, dtype: DTypeLike | None) -> np.dtype[Any]:
    wanted = x.dtype if dtype is None else np.dtype(dtype)
    if wanted not in (np.float32, np.float64):
        raise DTypeError(f"{name}: expected float32 or float64, got {wanted}: pass a float tensor")
    return wanted
