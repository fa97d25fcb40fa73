"""Distributions of real numbers whose samples are a formula of uniform or normal ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn import ops
from fastnn.errors import ArgumentError
from fastnn.ops.common import floating
from fastnn.ops.draws import rand_like, randn_like
from fastnn.ops.joining import where
from fastnn.tensors import Tensor

from . import constraints
from .base import Distribution, like, parameters, shape_of
from .constraints import Constraints

__all__ = ["Cauchy", "Exponential", "Gumbel", "HalfCauchy", "HalfNormal", "Laplace", "LogNormal", "Normal", "Uniform"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_EULER = 0.57721566490153286


class _LocScale(Distribution):
    """What distributions of `loc` and `scale` share."""

    arg_constraints: ClassVar[Constraints] = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = parameters(type(self).__name__, loc, scale)
        super().__init__(self.loc.shape, (), validate_args)

    def _away(self, value: Any, method: str = "log_prob") -> Tensor:
        return (self._value(value, method) - self.loc) / self.scale

    def _draw(self, sample_shape: Sequence[int], function: Any = rand_like) -> Tensor:
        drawn: Tensor = function(like(self.loc, shape_of(sample_shape, self.batch_shape)))
        return drawn


class Normal(_LocScale):
    """The normal distribution of mean `loc` and standard deviation `scale`.

    >>> from fastnn.distributions import Normal
    >>> Normal(0.0, 1.0).log_prob(0.0).item()  # -log(2π)/2
    -0.918938...
    """

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.loc + self.scale * self._draw(sample_shape, randn_like)

    def log_prob(self, value: Any) -> Tensor:
        z = self._away(value)
        return -(z * z) / 2 - self.scale.log() - _HALF_LOG_2PI

    def cdf(self, value: Any) -> Tensor:
        return 0.5 * (1 + (self._away(value, "cdf") / math.sqrt(2)).erf())

    def icdf(self, value: Any) -> Tensor:
        return self.loc + self.scale * math.sqrt(2) * ops.erfinv(2 * _share(value) - 1)

    def entropy(self) -> Tensor:
        return self.scale.log() + (0.5 + _HALF_LOG_2PI)

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        return self.scale * self.scale

    @property
    def stddev(self) -> Tensor:
        return self.scale


class LogNormal(_LocScale):
    """exp of a normal variable of mean `loc` and standard deviation `scale`."""

    support = constraints.positive

    @property
    def base_dist(self) -> Normal:
        """The normal distribution of the logarithm."""
        return Normal(self.loc, self.scale, validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape).exp()

    def log_prob(self, value: Any) -> Tensor:
        logarithm = self._value(value).astype(self.loc.dtype).log()
        return self.base_dist.log_prob(logarithm) - logarithm

    def cdf(self, value: Any) -> Tensor:
        return self.base_dist.cdf(self._value(value, "cdf").astype(self.loc.dtype).log())

    def icdf(self, value: Any) -> Tensor:
        return self.base_dist.icdf(value).exp()

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() + self.loc

    @property
    def mean(self) -> Tensor:
        return (self.loc + self.scale * self.scale / 2).exp()

    @property
    def mode(self) -> Tensor:
        return (self.loc - self.scale * self.scale).exp()

    @property
    def variance(self) -> Tensor:
        square = self.scale * self.scale
        return square.expm1() * (2 * self.loc + square).exp()


class Laplace(_LocScale):
    """exp(-|x - loc| / scale) / (2·scale)."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = self._draw(sample_shape) - 0.5
        sign = where(u < 0, -1.0, 1.0)
        return self.loc - self.scale * sign * (1 - 2 * u.abs()).clamp(min=float(np.finfo(u.dtype).tiny)).log()

    def log_prob(self, value: Any) -> Tensor:
        return -(2 * self.scale).log() - (self._value(value) - self.loc).abs() / self.scale

    def cdf(self, value: Any) -> Tensor:
        z = self._away(value, "cdf")
        return 0.5 - 0.5 * z.sign() * (-z.abs()).expm1()

    def icdf(self, value: Any) -> Tensor:
        away = _share(value) - 0.5
        return self.loc - self.scale * away.sign() * (-2 * away.abs()).log1p()

    def entropy(self) -> Tensor:
        return 1 + (2 * self.scale).log()

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale * self.scale


class Cauchy(_LocScale):
    """1 / (π·scale·(1 + ((x - loc) / scale)²)); it has neither mean nor variance, which are NaN and infinite."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.loc + self.scale * ((self._draw(sample_shape) - 0.5) * math.pi).tan()

    def log_prob(self, value: Any) -> Tensor:
        z = self._away(value)
        return -(z * z).log1p() - self.scale.log() - math.log(math.pi)

    def cdf(self, value: Any) -> Tensor:
        return self._away(value, "cdf").atan() / math.pi + 0.5

    def icdf(self, value: Any) -> Tensor:
        return ((_share(value) - 0.5) * math.pi).tan() * self.scale + self.loc

    def entropy(self) -> Tensor:
        return self.scale.log() + math.log(4 * math.pi)

    @property
    def mean(self) -> Tensor:
        return Tensor(np.full(self.batch_shape, math.nan, self.loc.dtype))

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return Tensor(np.full(self.batch_shape, math.inf, self.loc.dtype))


class Gumbel(_LocScale):
    """exp(-z - exp(-z)) / scale with z = (x - loc) / scale: the distribution of maxima."""

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = self._draw(sample_shape)
        return self.loc - self.scale * (-u.clamp(min=float(np.finfo(u.dtype).tiny)).log()).log()

    def log_prob(self, value: Any) -> Tensor:
        z = self._away(value)
        return -z - (-z).exp() - self.scale.log()

    def cdf(self, value: Any) -> Tensor:
        return (-(-self._away(value, "cdf")).exp()).exp()

    def icdf(self, value: Any) -> Tensor:
        return self.loc - self.scale * (-_share(value).log()).log()

    def entropy(self) -> Tensor:
        return self.scale.log() + (1 + _EULER)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * _EULER

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return self.scale * self.scale * (math.pi**2 / 6)


class _Half(Distribution):
    """|x| of a distribution `_of` around 0 with this scale."""

    arg_constraints: ClassVar[Constraints] = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _of: type[_LocScale]

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        (self.scale,) = parameters(type(self).__name__, scale)
        super().__init__(self.scale.shape, (), validate_args)

    @property
    def base_dist(self) -> Any:
        """The distribution of which this is the absolute value."""
        return self._of(0.0, self.scale, validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape).abs()

    def log_prob(self, value: Any) -> Tensor:
        x = self._value(value)
        return where(x < 0, -math.inf, self.base_dist.log_prob(x) + math.log(2))

    def cdf(self, value: Any) -> Tensor:
        return 2 * self.base_dist.cdf(self._value(value, "cdf")) - 1

    def icdf(self, value: Any) -> Tensor:
        return self.base_dist.icdf((_share(value) + 1) / 2)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() - math.log(2)

    @property
    def mode(self) -> Tensor:
        return Tensor(np.zeros(self.batch_shape, self.scale.dtype))


class HalfNormal(_Half):
    """|x| of normal x with mean 0 and standard deviation `scale`."""

    _of = Normal

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Tensor:
        return self.scale * self.scale * (1 - 2 / math.pi)


class HalfCauchy(_Half):
    """|x| of Cauchy's distribution around 0; mean and variance are infinite."""

    _of = Cauchy

    @property
    def mean(self) -> Tensor:
        return Tensor(np.full(self.batch_shape, math.inf, self.scale.dtype))

    variance = mean


class Exponential(Distribution):
    """rate · exp(-rate·x), x of at least 0."""

    arg_constraints: ClassVar[Constraints] = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = parameters("Exponential", rate)
        super().__init__(self.rate.shape, (), validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = rand_like(like(self.rate, shape_of(sample_shape, self.batch_shape)))
        return -(1 - u).log() / self.rate

    def log_prob(self, value: Any) -> Tensor:
        return self.rate.log() - self.rate * self._value(value)

    def cdf(self, value: Any) -> Tensor:
        return -(-self.rate * self._value(value, "cdf")).expm1()

    def icdf(self, value: Any) -> Tensor:
        return -(-_share(value)).log1p() / self.rate

    def entropy(self) -> Tensor:
        return 1 - self.rate.log()

    @property
    def mean(self) -> Tensor:
        return 1 / self.rate

    @property
    def mode(self) -> Tensor:
        return Tensor(np.zeros(self.batch_shape, self.rate.dtype))

    @property
    def variance(self) -> Tensor:
        return 1 / (self.rate * self.rate)


class Uniform(Distribution):
    """Equally likely from `low` on and below `high`."""

    arg_constraints: ClassVar[Constraints] = {"low": constraints.real, "high": constraints.real}
    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = parameters("Uniform", low, high)
        super().__init__(self.low.shape, (), validate_args)
        if self._checks() and not np.all(widths := self.high._data > self.low._data):
            low, high = (x._data[~widths].flat[0] for x in (self.low, self.high))
            raise ArgumentError(f"Uniform: expected high above low, got low={low:g} and high={high:g}")

    @property
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = rand_like(like(self.low, shape_of(sample_shape, self.batch_shape)))
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Any) -> Tensor:
        x = self._value(value).astype(self.low.dtype)
        inside = where(x >= self.low, where(x < self.high, 0.0, -math.inf), -math.inf)
        return inside.astype(self.low.dtype) - (self.high - self.low).log()

    def cdf(self, value: Any) -> Tensor:
        return ((self._value(value, "cdf") - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Tensor:
        return _share(value) * (self.high - self.low) + self.low

    def entropy(self) -> Tensor:
        return (self.high - self.low).log()

    @property
    def mean(self) -> Tensor:
        return (self.low + self.high) / 2

    @property
    def mode(self) -> Tensor:
        return Tensor(np.full(self.batch_shape, math.nan, self.low.dtype))

    @property
    def variance(self) -> Tensor:
        width = self.high - self.low
        return width * width / 12


def _share(value: Any) -> Tensor:
    """A probability, for icdf."""
    return floating(value)
