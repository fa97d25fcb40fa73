"""Distributions with a density."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.common import loss_target
from fastnn.ops.draws import rand_like, randn_like
from fastnn.ops.joining import where
from fastnn.tensors import Tensor

from .base import Distribution, checked, like, parameters, shape_of

__all__ = ["Exponential", "Laplace", "LogNormal", "MultivariateNormal", "Normal", "Uniform"]


class Normal(Distribution):
    """The normal distribution of mean `loc` and standard deviation `scale`.

    >>> from fastnn.distributions import Normal
    >>> Normal(0.0, 1.0).log_prob(0.0).item()  # -log(2π)/2
    -0.918938...
    """

    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = parameters(type(self).__name__, loc, scale)
        checked(type(self).__name__, "scale above 0", self.scale, lambda x: x > 0)
        super().__init__(self.loc.shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.loc + self.scale * randn_like(like(self.loc, shape_of(sample_shape, self.batch_shape)))

    def log_prob(self, value: Any) -> Tensor:
        z = (loss_target("log_prob", value, "value") - self.loc) / self.scale
        return -(z * z) / 2 - self.scale.log() - 0.5 * math.log(2 * math.pi)

    def cdf(self, value: Any) -> Tensor:
        """The probability of no more than `value`."""
        return 0.5 * (1 + ((loss_target("cdf", value, "value") - self.loc) / (self.scale * math.sqrt(2))).erf())

    def entropy(self) -> Tensor:
        return self.scale.log() + 0.5 * (1 + math.log(2 * math.pi))

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


class LogNormal(Distribution):
    """exp of a normal variable."""

    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.base_dist = Normal(loc, scale)
        self.loc, self.scale = self.base_dist.loc, self.base_dist.scale
        super().__init__(self.loc.shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape).exp()

    def log_prob(self, value: Any) -> Tensor:
        logarithm = loss_target("log_prob", value, "value").astype(self.loc.dtype).log()
        return self.base_dist.log_prob(logarithm) - logarithm

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() + self.loc

    @property
    def mean(self) -> Tensor:
        return (self.loc + self.scale * self.scale / 2).exp()

    @property
    def variance(self) -> Tensor:
        square = self.scale * self.scale
        return (square.exp() - 1) * (2 * self.loc + square).exp()


class Laplace(Distribution):
    """exp(-|x - loc| / scale) / (2·scale)."""

    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = parameters("Laplace", loc, scale)
        checked("Laplace", "scale above 0", self.scale, lambda x: x > 0)
        super().__init__(self.loc.shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = rand_like(like(self.loc, shape_of(sample_shape, self.batch_shape))) - 0.5
        sign = where(u < 0, -1.0, 1.0)
        return self.loc - self.scale * sign * (1 - 2 * u.abs()).clamp(min=float(np.finfo(u.dtype).tiny)).log()

    def log_prob(self, value: Any) -> Tensor:
        away = (loss_target("log_prob", value, "value") - self.loc).abs()
        return -(2 * self.scale).log() - away / self.scale

    def entropy(self) -> Tensor:
        return 1 + (2 * self.scale).log()

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale * self.scale


class Exponential(Distribution):
    """rate · exp(-rate·x), x of at least 0."""

    has_rsample = True

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = parameters("Exponential", rate)
        checked("Exponential", "rate above 0", self.rate, lambda x: x > 0)
        super().__init__(self.rate.shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = rand_like(like(self.rate, shape_of(sample_shape, self.batch_shape)))
        return -(1 - u).log() / self.rate

    def log_prob(self, value: Any) -> Tensor:
        return self.rate.log() - self.rate * loss_target("log_prob", value, "value")

    def entropy(self) -> Tensor:
        return 1 - self.rate.log()

    @property
    def mean(self) -> Tensor:
        return 1 / self.rate

    @property
    def variance(self) -> Tensor:
        return 1 / (self.rate * self.rate)


class Uniform(Distribution):
    """Equally likely from `low` on and below `high`."""

    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = parameters("Uniform", low, high)
        checked("Uniform", "high above low, a width above 0", self.high - self.low, lambda x: x > 0)
        super().__init__(self.low.shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = rand_like(like(self.low, shape_of(sample_shape, self.batch_shape)))
        return self.low + u * (self.high - self.low)

    def log_prob(self, value: Any) -> Tensor:
        x = loss_target("log_prob", value, "value").astype(self.low.dtype)
        inside = where(x >= self.low, where(x < self.high, 0.0, -math.inf), -math.inf)
        return inside.astype(self.low.dtype) - (self.high - self.low).log()

    def entropy(self) -> Tensor:
        return (self.high - self.low).log()

    @property
    def mean(self) -> Tensor:
        return (self.low + self.high) / 2

    @property
    def variance(self) -> Tensor:
        width = self.high - self.low
        return width * width / 12


class MultivariateNormal(Distribution):
    """Normal vectors of mean `loc` (..., D), from `scale_tril`, or a `covariance_matrix` that needs no gradient.

    The covariance is L·Lᵀ, L = `scale_tril` (D, D), lower triangular.
    """

    has_rsample = True

    def __init__(
        self,
        loc: Any,
        covariance_matrix: Any = None,
        precision_matrix: None = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        (self.loc,) = parameters("MultivariateNormal", loc)
        size = self.loc.shape[-1] if self.loc.ndim else 0
        if precision_matrix is not None or (covariance_matrix is None) == (scale_tril is None):
            raise ArgumentError("MultivariateNormal: expected covariance_matrix or scale_tril")
        if scale_tril is None:
            covariance = loss_target("MultivariateNormal", covariance_matrix, "covariance_matrix")
            if covariance.requires_grad:
                raise ArgumentError("MultivariateNormal: no gradient flows into covariance_matrix: pass scale_tril")
            if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
                raise ShapeError(f"MultivariateNormal: expected a square covariance_matrix, got {covariance.shape}")
            try:
                scale_tril = np.linalg.cholesky(covariance.data)
            except np.linalg.LinAlgError:
                raise ArgumentError("MultivariateNormal: expected a positive definite covariance_matrix") from None
        self.scale_tril = loss_target("MultivariateNormal", scale_tril, "scale_tril").astype(self.loc.dtype)
        if not size or self.scale_tril.shape != (size, size):
            raise ShapeError(
                f"MultivariateNormal: expected loc (..., D) and one matrix (D, D), got {self.loc.shape} and "
                f"{self.scale_tril.shape}"
            )
        super().__init__(self.loc.shape[:-1], (size,))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        draws = randn_like(like(self.loc, shape_of(sample_shape, self.batch_shape, self.event_shape)))
        return self.loc + (self.scale_tril * draws.unsqueeze(-2)).sum(-1)

    def log_prob(self, value: Any) -> Tensor:
        away = loss_target("log_prob", value, "value") - self.loc
        solved: list[Tensor] = []  # z of L·z = away, by forward substitution
        for i in range(self.event_shape[0]):
            rest = away[..., i]
            for j, z in enumerate(solved):
                rest = rest - self.scale_tril[i, j] * z
            solved.append(rest / self.scale_tril[i, i])
        squares = solved[0] * solved[0]
        for z in solved[1:]:
            squares = squares + z * z
        return -0.5 * (squares + self.event_shape[0] * math.log(2 * math.pi)) - self._half_log_det()

    def _half_log_det(self) -> Tensor:
        return (self.scale_tril * np.eye(self.event_shape[0], dtype=self.loc.dtype)).sum(1).log().sum()

    def entropy(self) -> Tensor:
        plain = 0.5 * self.event_shape[0] * (1 + math.log(2 * math.pi)) + self._half_log_det()
        return plain + np.zeros(self.batch_shape, self.loc.dtype)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale_tril * self.scale_tril).sum(1) + np.zeros(self.loc.shape, self.loc.dtype)
