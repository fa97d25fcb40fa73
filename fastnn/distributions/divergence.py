"""The Kullback-Leibler divergence of the pairs that have a formula."""

from __future__ import annotations

import math

from fastnn.errors import ArgumentError
from fastnn.ops.joining import where
from fastnn.ops.loss import log1p_exp
from fastnn.tensors import Tensor

from .base import Distribution, Independent, sum_last
from .continuous import Exponential, Laplace, Normal, Uniform
from .discrete import Bernoulli, Categorical, Poisson

__all__ = ["kl_divergence"]


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p ‖ q) = the mean of log p(x) - log q(x) over p, one for each of the batch.

    Of two distributions of one kind: Normal, Categorical, Bernoulli, Laplace, Exponential, Poisson, Uniform, or
    Independent of these. Raises ArgumentError for other pairs.

    >>> from fastnn.distributions import Normal, kl_divergence
    >>> kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0)).item()
    0.5
    """
    if isinstance(p, Independent) and isinstance(q, Independent) and p.event_shape == q.event_shape:
        return sum_last(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)
    if isinstance(p, Normal) and isinstance(q, Normal):
        ratio, away = p.scale / q.scale, (p.loc - q.loc) / q.scale
        square = ratio * ratio
        return 0.5 * (square + away * away - 1 - square.log())
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return (p.probs * (p.logits - q.logits)).sum(-1)
    if isinstance(p, Bernoulli) and isinstance(q, Bernoulli):
        return p.probs * (p.logits - q.logits) - log1p_exp(p.logits) + log1p_exp(q.logits)
    if isinstance(p, Laplace) and isinstance(q, Laplace):
        ratio, away = p.scale / q.scale, (p.loc - q.loc).abs()
        return -ratio.log() + away / q.scale + ratio * (-away / p.scale).exp() - 1
    if isinstance(p, Exponential) and isinstance(q, Exponential):
        ratio = q.rate / p.rate
        return ratio - ratio.log() - 1
    if isinstance(p, Poisson) and isinstance(q, Poisson):
        return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)
    if isinstance(p, Uniform) and isinstance(q, Uniform):
        outside = where(p.low < q.low, math.inf, where(p.high > q.high, math.inf, 0.0))
        return outside.astype(p.low.dtype) + (q.high - q.low).log() - (p.high - p.low).log()
    raise ArgumentError(f"kl_divergence: expected two distributions of one known kind, got {p!r} and {q!r}")
