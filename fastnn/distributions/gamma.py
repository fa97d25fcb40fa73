"""Distributions whose samples are made of gamma variables; gradients flow through these to all parameters (implicit
reparametrisation: Figurnov et al. 2018, arXiv:1805.08498), once: create_graph=True raises GraphError there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn.errors import ShapeError
from fastnn.ops.draws import randn_like
from fastnn.ops.gamma import StandardDirichlet, StandardGamma, digamma, lgamma
from fastnn.ops.joining import stack, where
from fastnn.tensors import Tensor

from . import constraints
from .base import Distribution, expanded, like, parameters, shape_of
from .constraints import Constraints

__all__ = ["Beta", "Chi2", "Dirichlet", "Gamma", "StudentT", "xlogy"]


def xlogy(x: Any, y: Any) -> Tensor:
    """x·log(y), and 0 where both are 0."""
    return x * where(x == 0, where(y == 0, 1.0, y), y).log()


class Gamma(Distribution):
    """rateᵃ · xᵃ⁻¹ · exp(-rate·x) / Γ(a), x above 0, with a = `concentration`.

    >>> from fastnn.distributions import Gamma
    >>> Gamma(1.0, 2.0).log_prob(0.0).exp().item()  # for a = 1 it is Exponential
    2.0
    """

    arg_constraints: ClassVar[Constraints] = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = parameters(type(self).__name__, concentration, rate)
        super().__init__(self.concentration.shape, (), validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = shape_of(sample_shape, self.batch_shape)
        return StandardGamma.apply(expanded(self.concentration, shape)) / self.rate

    def log_prob(self, value: Any) -> Tensor:
        a, x = self.concentration, self._value(value).astype(self.rate.dtype)
        return a * self.rate.log() + xlogy(a - 1, x) - self.rate * x - lgamma(a)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - self.rate.log() + lgamma(a) + (1 - a) * digamma(a)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        return (self.concentration - 1).clamp(min=0) / self.rate

    @property
    def variance(self) -> Tensor:
        return self.concentration / (self.rate * self.rate)


class Chi2(Gamma):
    """The sum of the squares of `df` standard normal variables: Gamma(df/2, 1/2)."""

    arg_constraints: ClassVar[Constraints] = {"df": constraints.positive, **Gamma.arg_constraints}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        (self.df,) = parameters("Chi2", df)
        super().__init__(0.5 * self.df, 0.5, validate_args)


class Beta(Distribution):
    """xᵃ⁻¹ · (1 - x)ᵇ⁻¹ · Γ(a + b) / (Γ(a)·Γ(b)), x from 0 to 1, with a and b = `concentration1` and
    `concentration0`, PyTorch's names.
    """

    arg_constraints: ClassVar[Constraints] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        self.concentration1, self.concentration0 = parameters("Beta", concentration1, concentration0)
        super().__init__(self.concentration1.shape, (), validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = shape_of(sample_shape, self.batch_shape)
        both = stack([expanded(x, shape) for x in (self.concentration1, self.concentration0)], -1)
        return StandardDirichlet.apply(both)[..., 0]

    def log_prob(self, value: Any) -> Tensor:
        x, a, b = self._value(value).astype(self.concentration1.dtype), self.concentration1, self.concentration0
        return xlogy(a - 1, x) + xlogy(b - 1, 1 - x) + lgamma(a + b) - lgamma(a) - lgamma(b)

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        normal = lgamma(a) + lgamma(b) - lgamma(a + b)
        return normal - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (a + b - 2) * digamma(a + b)

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Tensor:
        """(a - 1)/(a + b - 2); 0 or 1 where one of a and b is at most 1, and NaN where both are below 1."""
        a, b = self.concentration1 - 1, self.concentration0 - 1
        inside = a.clamp(min=0) / (a.clamp(min=0) + b.clamp(min=0))
        return where(a < 0, where(b < 0, math.nan, inside), inside)

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total * total * (total + 1))


class Dirichlet(Distribution):
    """Shares (..., K) with the sum 1, of density ∝ Π xᵢ^(aᵢ - 1), with a = `concentration` (..., K)."""

    arg_constraints: ClassVar[Constraints] = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        (self.concentration,) = parameters("Dirichlet", concentration)
        if not self.concentration.ndim:
            raise ShapeError("Dirichlet: expected concentration of shape (..., K), got a number")
        super().__init__(self.concentration.shape[:-1], self.concentration.shape[-1:], validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = shape_of(sample_shape, self.batch_shape, self.event_shape)
        return StandardDirichlet.apply(expanded(self.concentration, shape))

    def log_prob(self, value: Any) -> Tensor:
        x, a = self._value(value).astype(self.concentration.dtype), self.concentration
        return xlogy(a - 1, x).sum(-1) + lgamma(a.sum(-1)) - lgamma(a).sum(-1)

    def entropy(self) -> Tensor:
        a, total = self.concentration, self.concentration.sum(-1)
        normal = lgamma(a).sum(-1) - lgamma(total)
        return normal - (self.event_shape[0] - total) * digamma(total) - ((a - 1) * digamma(a)).sum(-1)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self) -> Tensor:
        """Shares of a - 1, of those above 0; where none is, 1 for the largest a."""
        above = (self.concentration - 1).clamp(min=0)
        total = above.sum(-1, True)
        top = np.eye(self.event_shape[0], dtype=above.dtype)[self.concentration.detach().argmax(-1).numpy()]
        none = (self.concentration.detach() < 1).all(-1, True)
        return where(none, top, above / total)

    @property
    def variance(self) -> Tensor:
        total = self.concentration.sum(-1, True)
        return self.concentration * (total - self.concentration) / (total * total * (total + 1))


class StudentT(Distribution):
    """Student's t with `df` degrees of freedom, moved to `loc` and stretched by `scale`."""

    arg_constraints: ClassVar[Constraints] = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = parameters("StudentT", df, loc, scale)
        super().__init__(self.df.shape, (), validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """A normal variable over the root of a mean of df squares (Gosset 1908)."""
        shape = shape_of(sample_shape, self.batch_shape)
        mean_square = StandardGamma.apply(expanded(self.df / 2, shape)) * 2 / self.df
        return self.loc + self.scale * randn_like(like(self.df, shape)) * mean_square.rsqrt()

    def log_prob(self, value: Any) -> Tensor:
        z, half = (self._value(value) - self.loc) / self.scale, self.df / 2
        normal = self.scale.log() + 0.5 * (self.df.log() + math.log(math.pi)) + lgamma(half) - lgamma(half + 0.5)
        return -(half + 0.5) * (z * z / self.df).log1p() - normal

    def entropy(self) -> Tensor:
        half = self.df / 2
        log_beta = lgamma(half) + 0.5 * math.log(math.pi) - lgamma(half + 0.5)
        return self.scale.log() + (half + 0.5) * (digamma(half + 0.5) - digamma(half)) + 0.5 * self.df.log() + log_beta

    @property
    def mean(self) -> Tensor:
        """loc, and NaN where df is at most 1."""
        return where(self.df <= 1, math.nan, self.loc)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        """scale²·df/(df - 2); infinite from there down, and NaN where df is at most 1."""
        found = self.scale * self.scale * self.df / (self.df - 2)
        return where(self.df > 2, found, where(self.df > 1, math.inf, math.nan).astype(self.df.dtype))
