"""Invertible functions, which make one distribution of another: their inverses and how they stretch space."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.arrays import numbers
from fastnn.checks import entries, shown, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.activations import sigmoid, softplus
from fastnn.ops.common import floating, tensor_of
from fastnn.ops.loss import log1p_exp
from fastnn.tensors import Tensor

from .base import sum_last

__all__ = [
    "AbsTransform",
    "AffineTransform",
    "ComposeTransform",
    "ExpTransform",
    "IndependentTransform",
    "PowerTransform",
    "SigmoidTransform",
    "SoftplusTransform",
    "TanhTransform",
    "Transform",
    "identity_transform",
]


class Transform:
    """A function y = t(x) with its inverse `t.inv` and `t.log_abs_det_jacobian(x, y)`, log |dy/dx|.

    With `cache_size` 1 the last pair (x, y) is kept: the inverse of that very y is that very x, without the rounding of
    computing it (TanhTransform near ±1 needs it). `event_dim` is the number of last dimensions that are one value. A
    subclass defines `_call`, `_inverse` and `log_abs_det_jacobian`.
    """

    bijective = True
    sign: Any = 1  # of the slope

    def __init__(self, cache_size: int = 0) -> None:
        self._cache_size = whole(type(self).__name__, "cache_size", cache_size, 0, 1, "cache_size 0 or 1")
        self._pair: tuple[Any, Any] = (None, None)  # x and y

    event_dim = 0

    def with_cache(self, cache_size: int = 1) -> Transform:
        """The same transform with another cache."""
        new = copy.copy(self)
        new._cache_size, new._pair = cache_size, (None, None)
        return new

    @property
    def inv(self) -> Transform:
        """The inverse."""
        return _Inverse(self)

    def __call__(self, x: Any) -> Tensor:
        if self._pair[0] is x and x is not None:
            return self._pair[1]
        y = self._call(floating(x))
        if self._cache_size:
            self._pair = (x, y)
        return y

    def _back(self, y: Any) -> Tensor:
        if self._pair[1] is y and y is not None:
            return self._pair[0]
        x = self._inverse(floating(y))
        if self._cache_size:
            self._pair = (x, y)
        return x

    def _call(self, x: Tensor) -> Tensor:
        raise ArgumentError(f"{type(self).__name__} is defined by _call(x), which it lacks")

    def _inverse(self, y: Tensor) -> Tensor:
        raise ArgumentError(f"{type(self).__name__} has no inverse")

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """log |dy/dx|, one for each value."""
        raise ArgumentError(f"{type(self).__name__} has no log_abs_det_jacobian")

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of y for x of this shape."""
        return _broadcast(shape)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of x for y of this shape."""
        return _broadcast(shape)

    def __eq__(self, other: Any) -> bool:
        return type(self) is type(other) and self._told() == other._told()

    __hash__ = object.__hash__

    def _told(self) -> tuple[Any, ...]:
        """What two equal transforms have in common."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class _Inverse(Transform):
    """The inverse of a transform."""

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        self._of, self.bijective, self.sign, self.event_dim = (
            transform, transform.bijective, transform.sign, transform.event_dim
        )  # fmt: skip

    @property
    def inv(self) -> Transform:
        return self._of

    def __call__(self, x: Any) -> Tensor:
        return self._of._back(x)

    def _back(self, y: Any) -> Tensor:
        return self._of(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        return -self._of.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self._of.inverse_shape(shape)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self._of.forward_shape(shape)

    def _told(self) -> tuple[Any, ...]:
        return (type(self._of), self._of._told())


class ExpTransform(Transform):
    """y = exp(x)."""

    def _call(self, x: Tensor) -> Tensor:
        return x.exp()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.log()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        return tensor_of(x)


class PowerTransform(Transform):
    """y = x to the power of `exponent`, of positive x."""

    def __init__(self, exponent: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.exponent = floating(exponent)
        self.sign = self.exponent.sign()

    def _call(self, x: Tensor) -> Tensor:
        return x**self.exponent

    def _inverse(self, y: Tensor) -> Tensor:
        return y ** (1 / self.exponent)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        return (self.exponent * y / x).abs().log()

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return _broadcast(shape, self.exponent.shape)

    inverse_shape = forward_shape

    def _told(self) -> tuple[Any, ...]:
        return (self.exponent.tolist(),)


class SigmoidTransform(Transform):
    """y = 1/(1 + exp(-x))."""

    def _call(self, x: Tensor) -> Tensor:
        return sigmoid(x)

    def _inverse(self, y: Tensor) -> Tensor:
        inside = y.clamp(float(np.finfo(y.dtype).tiny), 1 - float(np.finfo(y.dtype).eps))
        return inside.log() - (-inside).log1p()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        x = floating(x)
        return -log1p_exp(-x) - log1p_exp(x)


class SoftplusTransform(Transform):
    """y = log(1 + exp(x))."""

    def _call(self, x: Tensor) -> Tensor:
        return softplus(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return (-(-y).expm1()).log() + y

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        return -log1p_exp(-floating(x))


class TanhTransform(Transform):
    """y = tanh(x), which policies of continuous actions end with; use cache_size=1, or a log_prob without the inverse:
    atanh near ±1 is rounded.
    """

    def _call(self, x: Tensor) -> Tensor:
        return x.tanh()

    def _inverse(self, y: Tensor) -> Tensor:
        return y.atanh()

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        """log(1 - tanh²(x)) without cancellation."""
        x = floating(x)
        return 2 * (math.log(2) - x - log1p_exp(-2 * x))


class AbsTransform(Transform):
    """y = |x|, whose inverse is taken to be y itself."""

    bijective = False

    def _call(self, x: Tensor) -> Tensor:
        return x.abs()

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class AffineTransform(Transform):
    """y = loc + scale·x, numbers or tensors; the last `event_dim` dimensions are one value.

    >>> from fastnn.distributions import AffineTransform
    >>> AffineTransform(1.0, 2.0).inv([5.0]).tolist()
    [2.0]
    """

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.loc, self.scale = loc, scale
        self.event_dim = whole("AffineTransform", "event_dim", event_dim, 0)
        for name, value in (("loc", loc), ("scale", scale)):
            numbers(f"AffineTransform: {name}", value)
        self.sign = scale.sign() if isinstance(scale, Tensor) else np.sign(scale)

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + self.scale * x

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        x = floating(x)
        return sum_last(x * 0 + tensor_of(self.scale).astype(x.dtype).abs().log(), self.event_dim)

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return _broadcast(shape, np.shape(self.loc), np.shape(self.scale))

    inverse_shape = forward_shape

    def _told(self) -> tuple[Any, ...]:
        return tuple(tensor_of(x).tolist() for x in (self.loc, self.scale))


class IndependentTransform(Transform):
    """A transform of which the last `reinterpreted_batch_ndims` dimensions are one value, too."""

    def __init__(self, base_transform: Transform, reinterpreted_batch_ndims: int, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        if not isinstance(base_transform, Transform):
            raise ArgumentError(f"IndependentTransform: expected a transform, got {shown(base_transform)}")
        dims = whole("IndependentTransform", "reinterpreted_batch_ndims", reinterpreted_batch_ndims, 0)
        self.base_transform, self.reinterpreted_batch_ndims = base_transform, dims
        self.bijective, self.sign = base_transform.bijective, base_transform.sign
        self.event_dim = base_transform.event_dim + dims

    def _call(self, x: Tensor) -> Tensor:
        return self.base_transform(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.base_transform._back(y)

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        return sum_last(self.base_transform.log_abs_det_jacobian(x, y), self.reinterpreted_batch_ndims)

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.base_transform.forward_shape(shape)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.base_transform.inverse_shape(shape)

    def _told(self) -> tuple[Any, ...]:
        return (type(self.base_transform), self.base_transform._told(), self.reinterpreted_batch_ndims)


class ComposeTransform(Transform):
    """Several transforms, the first of `parts` first."""

    def __init__(self, parts: Sequence[Transform], cache_size: int = 0) -> None:
        super().__init__(cache_size)
        parts = entries("ComposeTransform", "parts", parts)
        if not all(isinstance(part, Transform) for part in parts):
            raise ArgumentError(f"ComposeTransform: expected a list of transforms, got {parts!r}")
        self.parts = [part.with_cache(cache_size) if cache_size else part for part in parts]
        self.bijective = all(part.bijective for part in self.parts)
        self.event_dim = max((part.event_dim for part in self.parts), default=0)
        for part in self.parts:
            self.sign = self.sign * part.sign

    def with_cache(self, cache_size: int = 1) -> Transform:
        return ComposeTransform(self.parts, cache_size)

    def _call(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part._back(y)
        return y

    def log_abs_det_jacobian(self, x: Any, y: Any) -> Tensor:
        if not self.parts:
            return floating(x) * 0
        found, x = [], floating(x)
        for i, part in enumerate(self.parts):
            after = part(x) if i + 1 < len(self.parts) else y
            found.append(sum_last(part.log_abs_det_jacobian(x, after), self.event_dim - part.event_dim))
            x = after
        return sum(found[1:], found[0])

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        for part in self.parts:
            shape = part.forward_shape(shape)
        return _broadcast(shape)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        for part in reversed(self.parts):
            shape = part.inverse_shape(shape)
        return _broadcast(shape)

    def _told(self) -> tuple[Any, ...]:
        return tuple((type(part), part._told()) for part in self.parts)


def _broadcast(shape: Any, *others: tuple[int, ...]) -> tuple[int, ...]:
    sizes = tuple(whole("Transform", "sizes", size, 0) for size in entries("Transform", "shape", shape))
    try:
        return np.broadcast_shapes(sizes, *others)
    except ValueError:
        raise ShapeError(f"Transform: expected a shape that broadcasts with {others}, got {sizes}") from None


identity_transform = ComposeTransform([])
