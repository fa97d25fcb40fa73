"""Distributions of what is above a bound, with powers in their tails: Weibull and Pareto."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from fastnn.ops.common import floating
from fastnn.ops.draws import rand_like
from fastnn.ops.gamma import lgamma
from fastnn.ops.joining import where
from fastnn.tensors import Tensor

from . import constraints
from .base import Distribution, like, parameters, shape_of
from .constraints import Constraints

__all__ = ["Pareto", "Weibull"]

_EULER = 0.57721566490153286


class Weibull(Distribution):
    """k/λ · (x/λ)^(k-1) · exp(-(x/λ)^k), x above 0, for λ = `scale` and k = `concentration` (Weibull 1951).

    >>> from fastnn.distributions import Weibull
    >>> Weibull(1.0, 1.0).log_prob(2.0).item()  # the exponential distribution
    -2.0
    """

    arg_constraints: ClassVar[Constraints] = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = parameters("Weibull", scale, concentration)
        super().__init__(self.scale.shape, (), validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = rand_like(like(self.scale, shape_of(sample_shape, self.batch_shape)))
        return self.icdf(u)

    def log_prob(self, value: Any) -> Tensor:
        k, log_x = self.concentration, (self._value(value) / self.scale).log()
        return (k / self.scale).log() + (k - 1) * log_x - (k * log_x).exp()

    def cdf(self, value: Any) -> Tensor:
        return -(-((self._value(value, "cdf") / self.scale) ** self.concentration)).expm1()

    def icdf(self, value: Any) -> Tensor:
        return self.scale * (-(-floating(value)).log1p()) ** (1 / self.concentration)

    def entropy(self) -> Tensor:
        return _EULER * (1 - 1 / self.concentration) + (self.scale / self.concentration).log() + 1

    def _moment(self, power: int) -> Tensor:
        return self.scale**power * lgamma(1 + power / self.concentration).exp()

    @property
    def mean(self) -> Tensor:
        return self._moment(1)

    @property
    def mode(self) -> Tensor:
        k = where(self.concentration > 1, self.concentration, 1.0)
        return self.scale * ((k - 1) / k) ** (1 / k)

    @property
    def variance(self) -> Tensor:
        mean = self.mean
        return self._moment(2) - mean * mean


class Pareto(Distribution):
    """α · scale^α / x^(α+1), x of at least `scale`, for α = `alpha` (Pareto 1896). The mean is infinite for α up to 1,
    the variance up to 2.

    >>> from fastnn.distributions import Pareto
    >>> Pareto(1.0, 3.0).mean.item()
    1.5
    """

    arg_constraints: ClassVar[Constraints] = {"scale": constraints.positive, "alpha": constraints.positive}
    has_rsample = True

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = parameters("Pareto", scale, alpha)
        super().__init__(self.scale.shape, (), validate_args)

    @property
    def support(self) -> Any:
        return constraints.greater_than_eq(self.scale)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.icdf(rand_like(like(self.scale, shape_of(sample_shape, self.batch_shape))))

    def log_prob(self, value: Any) -> Tensor:
        return self.alpha.log() + self.alpha * self.scale.log() - (self.alpha + 1) * self._value(value).log()

    def cdf(self, value: Any) -> Tensor:
        return 1 - (self.scale / self._value(value, "cdf")) ** self.alpha

    def icdf(self, value: Any) -> Tensor:
        return self.scale * (-(-floating(value)).log1p() / self.alpha).exp()

    def entropy(self) -> Tensor:
        return (self.scale / self.alpha).log() + 1 + 1 / self.alpha

    @property
    def mean(self) -> Tensor:
        alpha = where(self.alpha > 1, self.alpha, 2.0)
        return where(self.alpha > 1, alpha * self.scale / (alpha - 1), math.inf)

    @property
    def mode(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        alpha = where(self.alpha > 2, self.alpha, 3.0)
        finite = self.scale * self.scale * alpha / ((alpha - 1) * (alpha - 1) * (alpha - 2))
        return where(self.alpha > 2, finite, math.inf)
