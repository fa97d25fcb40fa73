"""What distributions share; and several of them as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.arrays import check_size
from fastnn.checks import entries, is_whole, shown, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import floating
from fastnn.tape import no_grad, tracer
from fastnn.tensors import Tensor

__all__ = ["Distribution", "Independent", "checked", "expanded", "like", "parameters", "shape_of", "sum_last"]


class Distribution:
    """Base of distributions. `batch_shape` is that of independent ones, `event_shape` that of one sample.

    A subclass defines `log_prob`, and what of rsample, sample, mean, variance and entropy there is.
    """

    has_rsample = False

    def __init__(self, batch_shape: Sequence[int] = (), event_shape: Sequence[int] = ()) -> None:
        self.batch_shape = tuple(entries(type(self).__name__, "batch_shape", batch_shape))
        self.event_shape = tuple(entries(type(self).__name__, "event_shape", event_shape))

    def _lacks(self, name: str) -> ArgumentError:
        return ArgumentError(f"{type(self).__name__} has no {name}")

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Samples of shape sample_shape + batch_shape + event_shape, through which gradients flow to the parameters."""
        raise self._lacks("rsample: its samples have no gradient; use .sample() and .log_prob()")

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """The same, off the tape."""
        with no_grad():
            return self.rsample(sample_shape).detach()

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the probability, or of its density, of `value`: one for each of the batch."""
        raise self._lacks("log_prob")

    def entropy(self) -> Tensor:
        """One for each of the batch."""
        raise self._lacks("entropy")

    @property
    def mean(self) -> Tensor:
        raise self._lacks("mean")

    @property
    def variance(self) -> Tensor:
        raise self._lacks("variance")

    @property
    def stddev(self) -> Tensor:
        """The square root of the variance."""
        return self.variance.sqrt()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape={self.batch_shape}, event_shape={self.event_shape})"


class Independent(Distribution):
    """A distribution whose last `reinterpreted_batch_ndims` dimensions of the batch are one sample's.

    >>> from fastnn.distributions import Independent, Normal
    >>> Independent(Normal([0.0, 0.0], [1.0, 1.0]), 1).log_prob([0.0, 0.0]).item()  # -log(2π)
    -1.837877...
    """

    def __init__(
        self, base_distribution: Distribution, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        base, count = base_distribution, whole("Independent", "dimensions", reinterpreted_batch_ndims, 0)
        if not isinstance(base, Distribution):
            raise ArgumentError(f"Independent: expected a distribution, got {shown(base)}")
        if not 0 <= count <= len(base.batch_shape):
            raise ShapeError(f"Independent: expected at most {len(base.batch_shape)} dimensions, got {count}")
        self.base_dist, self.reinterpreted_batch_ndims, self.has_rsample = base, count, base.has_rsample
        place = len(base.batch_shape) - count
        super().__init__(base.batch_shape[:place], base.batch_shape[place:] + base.event_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def log_prob(self, value: Any) -> Tensor:
        return sum_last(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Tensor:
        return sum_last(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance


def parameters(name: str, *given: Any) -> tuple[Tensor, ...]:
    """Parameters as tensors of one floating type and one shape."""
    tensors = [x if isinstance(x, Tensor) else None for x in given]
    first = next((x for x in tensors if x is not None and x.dtype.kind == "f"), None)
    found = [floating(x if first is None or isinstance(x, Tensor) else Tensor(x).astype(first.dtype)) for x in given]
    found = [x.astype(np.result_type(*(y.dtype for y in found))) for x in found]
    try:
        shape = np.broadcast_shapes(*(x.shape for x in found))
    except ValueError:
        raise ShapeError(f"{name}: expected parameters that broadcast, got {[x.shape for x in found]}") from None
    return tuple(expanded(x, shape) for x in found)


def expanded(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """x broadcast to the shape."""
    return x if x.shape == shape else x + np.zeros(shape, x.dtype)


def shape_of(sample_shape: Any, *rest: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of samples: a number, or a tuple or list of them, and what follows."""
    sizes = (sample_shape,) if is_whole(sample_shape) else entries("sample", "sample_shape", sample_shape)
    shape = sum(rest, tuple(whole("sample", "sample_shape", size, 0) for size in sizes))
    check_size("sample", shape)
    return shape


def like(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros of that shape in the type of x, for `randn_like` and its kin."""
    return Tensor(np.broadcast_to(np.zeros((), x.dtype), shape))


def sum_last(x: Tensor, count: int) -> Tensor:
    """x summed over its last dimensions."""
    return x.sum(tuple(range(-count, 0))) if count else x


def checked(name: str, what: str, x: Tensor, holds: Any) -> None:
    """ArgumentError unless all values are as they must be; in a plan there are none to look at."""
    if tracer() is None and not np.all(holds(x.data)):
        raise ArgumentError(f"{name}: expected {what}, got {x.data[~holds(x.data)].flat[0]:g}")
