"""The Kullback-Leibler divergence of the pairs that have a formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from fastnn.errors import ArgumentError
from fastnn.ops.gamma import digamma, lgamma
from fastnn.ops.joining import where
from fastnn.ops.loss import log1p_exp
from fastnn.tensors import Tensor

from .base import Distribution, Independent, sum_last
from .continuous import Exponential, HalfNormal, Laplace, LogNormal, Normal, Uniform
from .discrete import Bernoulli, Binomial, Categorical, Geometric, Poisson
from .gamma import Beta, Dirichlet, Gamma
from .multivariate import MultivariateNormal, log_det, solved
from .transformed import TransformedDistribution

__all__ = ["kl_divergence", "register_kl"]

_FORMULAS: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {}
_Formula = Callable[[Any, Any], Tensor]


def register_kl(type_p: type[Distribution], type_q: type[Distribution]) -> Callable[[_Formula], _Formula]:
    """Decorator: a function of p and q gives kl_divergence(p, q) for distributions of these types and of those derived
    from them. Raises ArgumentError for what is no type of distribution.

    >>> from fastnn.distributions import Cauchy, kl_divergence, register_kl
    >>> @register_kl(Cauchy, Cauchy)  # Chyzak and Nielsen 2019, arXiv:1905.10965
    ... def _(p, q):
    ...     away = p.loc - q.loc
    ...     return (((p.scale + q.scale) ** 2 + away * away) / (4 * p.scale * q.scale)).log()
    >>> kl_divergence(Cauchy(0.0, 1.0), Cauchy(0.0, 1.0)).item()
    0.0
    """
    for kind in (type_p, type_q):
        if not (isinstance(kind, type) and issubclass(kind, Distribution)):
            raise ArgumentError(f"register_kl: expected types of distributions, got {kind!r}")

    def enter(formula: _Formula) -> _Formula:
        _FORMULAS[type_p, type_q] = formula
        return formula

    return enter


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p ‖ q) = the mean of log p(x) - log q(x) over p, one for each of the batch.

    Of two distributions of one kind: Normal, LogNormal, HalfNormal, MultivariateNormal, Laplace, Exponential, Gamma,
    Beta, Dirichlet, Uniform, Categorical, Bernoulli, Binomial, Geometric, Poisson, TransformedDistribution with equal
    transforms, or Independent of these; and what `register_kl` has added. Raises ArgumentError for other pairs.

    >>> from fastnn.distributions import Normal, kl_divergence
    >>> kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0)).item()
    0.5
    """
    for of_p in type(p).__mro__:  # the nearest one of p's types, and for that the nearest one of q's
        for of_q in type(q).__mro__:
            if (formula := _FORMULAS.get((of_p, of_q))) is not None:
                return formula(p, q)
    raise _unknown(p, q)


def _unknown(p: Distribution, q: Distribution) -> ArgumentError:
    return ArgumentError(f"kl_divergence: expected two distributions of one known kind, got {p!r} and {q!r}")


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise _unknown(p, q)
    return sum_last(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Tensor:
    """That of what was transformed, because the transforms are one-to-one."""
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise _unknown(p, q)
    return sum_last(kl_divergence(p.base_dist, q.base_dist), len(p.event_shape) - len(p.base_dist.event_shape))


@register_kl(Normal, Normal)
@register_kl(LogNormal, LogNormal)
def _normal(p: Any, q: Any) -> Tensor:
    ratio, away = p.scale / q.scale, (p.loc - q.loc) / q.scale
    square = ratio * ratio
    return 0.5 * (square + away * away - 1 - square.log())


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Tensor:
    square = (p.scale / q.scale) ** 2
    return 0.5 * (square - 1 - square.log())


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate(p: Any, q: Any) -> Tensor:
    if p.event_shape != q.event_shape:
        raise _unknown(p, q)
    spread = solved(q.scale_tril, p.scale_tril)
    away = solved(q.scale_tril, (q.loc - p.loc).unsqueeze(-1))
    squares = (spread * spread).sum((-2, -1)) + (away * away).sum((-2, -1))
    return log_det(q.scale_tril) - log_det(p.scale_tril) + 0.5 * (squares - p.event_shape[0])


@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Tensor:
    each = where(q.probs == 0, math.inf, p.probs * (p.logits - q.logits))
    return where(p.probs == 0, 0.0, each).sum(-1)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Tensor:
    """Infinite where q rules out what p does not."""
    found = p.probs * (p.logits - q.logits) - log1p_exp(p.logits) + log1p_exp(q.logits)
    lost = ((q.probs == 0) & (p.probs > 0)) | ((q.probs == 1) & (p.probs < 1))
    return where(lost, math.inf, found)


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Tensor:
    """Of as many events; infinite where p has more."""
    found = p.total_count * _bernoulli(p, q)
    if (p.total_count < q.total_count).any():
        raise _unknown(p, q)
    return where(p.total_count > q.total_count, math.inf, found)


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Tensor:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Tensor:
    ratio, away = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + away / q.scale + ratio * (-away / p.scale).exp() - 1


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Tensor:
    ratio = q.rate / p.rate
    return ratio - ratio.log() - 1


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Tensor:
    a, b = p.concentration, q.concentration
    return b * (p.rate / q.rate).log() + lgamma(b) - lgamma(a) + (a - b) * digamma(a) + (q.rate - p.rate) * a / p.rate


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Tensor:
    a, b, c, d = p.concentration1, p.concentration0, q.concentration1, q.concentration0
    normal = lgamma(c) + lgamma(d) + lgamma(a + b) - lgamma(c + d) - lgamma(a) - lgamma(b)
    return normal + (a - c) * digamma(a) + (b - d) * digamma(b) + (c + d - a - b) * digamma(a + b)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Tensor:
    a, b = p.concentration, q.concentration
    total = a.sum(-1, True)
    normal = lgamma(total[..., 0]) - lgamma(b.sum(-1)) + (lgamma(b) - lgamma(a)).sum(-1)
    return normal + ((a - b) * (digamma(a) - digamma(total))).sum(-1)


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Tensor:
    return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Tensor:
    outside = where(p.low < q.low, math.inf, where(p.high > q.high, math.inf, 0.0))
    return outside.astype(p.low.dtype) + (q.high - q.low).log() - (p.high - p.low).log()
