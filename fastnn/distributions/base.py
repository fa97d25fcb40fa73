"""What distributions share; and several of them as one."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn.arrays import check_size, numbers
from fastnn.checks import entries, flag, is_whole, shown, whole
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import floating, loss_target
from fastnn.tape import no_grad, tracer
from fastnn.tensors import Tensor

from . import constraints
from .constraints import Constraint, Constraints

__all__ = [
    "Distribution",
    "Independent",
    "OfShares",
    "expanded",
    "like",
    "of_one_type",
    "parameters",
    "shape_of",
    "sum_last",
]


class Distribution:
    """Base of distributions. `batch_shape` is that of independent ones, `event_shape` that of one sample.

    A subclass defines `log_prob`, and what of rsample, sample, mean, variance, entropy, mode, cdf and icdf there is;
    `arg_constraints` (of its tensors, by their names) and `support` (of samples). Where `validate_args` is not False,
    parameters and the values of log_prob and cdf are checked, outside of compiled steps: ArgumentError for what the
    constraints exclude, ShapeError for shapes that do not fit.
    """

    has_rsample = False
    has_enumerate_support = False
    arg_constraints: ClassVar[Constraints] = {}
    _validate_args = True

    def __init__(
        self, batch_shape: Sequence[int] = (), event_shape: Sequence[int] = (), validate_args: bool | None = None
    ) -> None:
        self.batch_shape = tuple(entries(type(self).__name__, "batch_shape", batch_shape))
        self.event_shape = tuple(entries(type(self).__name__, "event_shape", event_shape))
        if validate_args is not None:
            self._validate_args = flag(type(self).__name__, "validate_args", validate_args)
        for name, constraint in self.arg_constraints.items() if self._checks() else ():
            if isinstance(value := vars(self).get(name), Tensor):
                check_within(type(self).__name__, name, constraint, value)

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made from now on check parameters and values where `validate_args` is None."""
        Distribution._validate_args = flag("set_default_validate_args", "value", value)

    def _checks(self) -> bool:
        return self._validate_args and tracer() is None  # a plan has no values to look at

    def _value(self, value: Any, method: str = "log_prob") -> Tensor:
        """A value of a sample as a tensor, checked."""
        x = loss_target(method, value, "value")
        if self._checks():
            where, shape = f"{type(self).__name__}.{method}", self.batch_shape + self.event_shape
            if x.shape != shape and not _fits(x.shape, shape, self.event_shape):
                sizes = ", ".join(map(str, ("...", *shape)))
                raise ShapeError(f"{where}: expected a value of shape ({sizes}), got {x.shape}")
            if (support := self.support) is not None:
                check_within(where, "value", support, x)
        return x

    def _extended_shape(self, sample_shape: Sequence[int] = ()) -> tuple[int, ...]:
        """The shape of samples, which a subclass's rsample asks for: sample_shape + batch_shape + event_shape."""
        return shape_of(sample_shape, self.batch_shape, self.event_shape)

    def _lacks(self, name: str) -> ArgumentError:
        return ArgumentError(f"{type(self).__name__} has no {name}")

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Any:
        """The same distribution for a larger batch; nothing is computed anew."""
        new, shape = copy.copy(self), shape_of(batch_shape)
        new.batch_shape = shape
        for name, constraint in self.arg_constraints.items():
            if isinstance(value := vars(self).get(name), Tensor):
                events = value.shape[value.ndim - constraint.event_dim :]
                setattr(new, name, expanded(value, shape + events))
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Samples of shape sample_shape + batch_shape + event_shape, through which gradients flow to the parameters."""
        raise self._lacks("rsample: its samples have no gradient; use .sample() and .log_prob()")

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """The same, off the tape."""
        with no_grad():
            return self.rsample(sample_shape).detach()

    def sample_n(self, n: int) -> Tensor:
        """n samples."""
        return self.sample((n,))

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the probability, or of its density, of `value`: one for each of the batch."""
        raise self._lacks("log_prob")

    def cdf(self, value: Any) -> Tensor:
        """The probability of no more than `value`."""
        raise self._lacks("cdf")

    def icdf(self, value: Any) -> Tensor:
        """The quantile: the number that samples do not exceed with the probability `value`."""
        raise self._lacks("icdf")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """All values of a sample, along a new first dimension; the same for each of the batch, as wide as it with
        `expand`.
        """
        raise self._lacks("enumerate_support")

    def _enumerated(self, values: Any, expand: bool) -> Tensor:
        column = values.reshape(-1, *(1,) * len(self.batch_shape))
        if not flag("enumerate_support", "expand", expand):
            return Tensor(column)
        return Tensor(np.broadcast_to(column, (len(values), *self.batch_shape)).copy())

    def entropy(self) -> Tensor:
        """One for each of the batch."""
        raise self._lacks("entropy")

    def perplexity(self) -> Tensor:
        """exp(entropy)."""
        return self.entropy().exp()

    @property
    def support(self) -> Any:
        """The constraint on samples; None where nothing is checked."""
        return None

    @property
    def mean(self) -> Tensor:
        """The expectation."""
        raise self._lacks("mean")

    @property
    def mode(self) -> Tensor:
        """The most likely value."""
        raise self._lacks("mode")

    @property
    def variance(self) -> Tensor:
        """The expectation of the square of the distance from the mean."""
        raise self._lacks("variance")

    @property
    def stddev(self) -> Tensor:
        """The square root of the variance."""
        return self.variance.sqrt()

    def __repr__(self) -> str:
        """The parameters: a number itself, of others the shape."""
        found = {name: vars(self)[name] for name in self.arg_constraints if isinstance(vars(self).get(name), Tensor)}
        shown = [f"{name}: {x if x.numel() == 1 else x.shape}" for name, x in found.items()]
        shapes = [f"batch_shape={self.batch_shape}", f"event_shape={self.event_shape}"]
        return f"{type(self).__name__}({', '.join(shown or shapes)})"


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
        super().__init__(base.batch_shape[:place], base.batch_shape[place:] + base.event_shape, validate_args)

    @property
    def support(self) -> Any:
        base = self.base_dist.support
        return None if base is None else constraints.independent(base, self.reinterpreted_batch_ndims)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Independent:
        shape, count = shape_of(batch_shape), self.reinterpreted_batch_ndims
        base = self.base_dist.expand(shape + self.event_shape[:count])
        return Independent(base, count, self._validate_args)

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
    def mode(self) -> Tensor:
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def __repr__(self) -> str:
        return f"Independent({self.base_dist!r}, {self.reinterpreted_batch_ndims})"


class Held:
    """An attribute of each instance that `super().logits` finds, too, as it does in PyTorch."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        try:
            return self if instance is None else vars(instance)[self.name]
        except KeyError:
            raise AttributeError(f"{type(instance).__name__} has no {self.name} yet") from None


class OfShares(Distribution):
    """A distribution of probabilities, which are kept with their logits."""

    probs, logits = Held(), Held()

    @property
    def param_shape(self) -> tuple[int, ...]:
        return tuple(self.probs.shape)


def check_within(where: str, what: str, constraint: Constraint, x: Tensor) -> None:
    allowed = constraint.holds(x._data)
    if not allowed.all():
        wrong = x._data[~np.broadcast_to(allowed, x.shape[: x.ndim - constraint.event_dim])]
        shown = f"{wrong.flat[0]:g}" if not constraint.event_dim else np.array2string(wrong[0], precision=4)
        raise ArgumentError(f"{where}: expected {what} {constraint.words}, got {shown}")


def _fits(given: tuple[int, ...], shape: tuple[int, ...], event: tuple[int, ...]) -> bool:
    """Whether values of a shape broadcast with samples, whole events among them."""
    try:
        np.broadcast_shapes(given, shape)
    except ValueError:
        return False
    return given[max(0, len(given) - len(event)) :] == event


def parameters(name: str, *given: Any) -> tuple[Tensor, ...]:
    """Parameters as tensors of one floating type and one shape."""
    found = of_one_type(*given)
    try:
        shape = np.broadcast_shapes(*(x.shape for x in found))
    except ValueError:
        raise ShapeError(f"{name}: expected parameters that broadcast, got {[x.shape for x in found]}") from None
    return tuple(expanded(x, shape) for x in found)


def of_one_type(*given: Any) -> list[Tensor]:
    """Parameters as tensors of one floating type: that of the tensors among them."""
    tensors = [x if isinstance(x, Tensor) else None for x in given]
    first = next((x for x in tensors if x is not None and x.dtype.kind == "f"), None)
    found = [
        floating(x if first is None or isinstance(x, Tensor) else numbers("distribution", x).astype(first.dtype))
        for x in given
    ]
    return [x.astype(np.result_type(*(y.dtype for y in found))) for x in found]


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
