"""Distributions of transformed samples; the relaxed ones, through whose samples gradients flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn.checks import entries
from fastnn.errors import ArgumentError
from fastnn.ops.common import floating
from fastnn.ops.draws import rand_like
from fastnn.ops.loss import log1p_exp
from fastnn.tape import no_grad
from fastnn.tensors import Tensor

from . import constraints
from .base import Distribution, Independent, OfShares, like, of_one_type, shape_of, sum_last
from .constraints import Constraints
from .discrete import of_classes, of_events
from .transforms import ComposeTransform, SigmoidTransform, Transform

__all__ = ["LogitRelaxedBernoulli", "RelaxedBernoulli", "RelaxedOneHotCategorical", "TransformedDistribution"]


class TransformedDistribution(Distribution):
    """The distribution of t(x) for x of `base_distribution` and one transform t, or several, the first one first.

    log_prob(y) is that of x = t⁻¹(y) minus log |dy/dx|.

    >>> from fastnn.distributions import Normal, TanhTransform, TransformedDistribution
    >>> squashed = TransformedDistribution(Normal([0.0], [1.0]), TanhTransform(cache_size=1))
    >>> action = squashed.rsample()
    >>> squashed.log_prob(action).shape
    (1,)
    """

    def __init__(
        self,
        base_distribution: Distribution,
        transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(base_distribution, Distribution):
            got = type(base_distribution).__name__
            raise ArgumentError(f"TransformedDistribution: expected a distribution, got {got}")
        alone = isinstance(transforms, Transform)
        parts: list[Any] = [transforms] if alone else entries("TransformedDistribution", "transforms", transforms)
        if not all(isinstance(part, Transform) for part in parts):
            raise ArgumentError(f"TransformedDistribution: expected a transform or a list of them, got {transforms!r}")
        self.transforms, whole = parts, ComposeTransform(parts)
        base, events = base_distribution, len(base_distribution.event_shape)
        before = base.batch_shape + base.event_shape
        after = whole.forward_shape(before)
        if (wide := whole.inverse_shape(after)) != before:  # by parameters of the transforms
            base = base.expand(wide[: len(wide) - events])
        if whole.event_dim > events:
            base = Independent(base, whole.event_dim - events)
        self.base_dist, self.has_rsample = base, base.has_rsample
        place = len(after) - max(whole.event_dim, events)
        super().__init__(after[:place], after[place:], validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> TransformedDistribution:
        base = self.base_dist.expand(batch_shape)
        return TransformedDistribution(base, self.transforms, self._validate_args)

    def _transformed(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._transformed(self.base_dist.rsample(sample_shape))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            return self._transformed(self.base_dist.sample(sample_shape))

    def log_prob(self, value: Any) -> Tensor:
        y: Any = self._value(value)
        events, stretched = len(self.event_shape), []
        for transform in reversed(self.transforms):
            x = transform.inv(y)
            stretched.append(sum_last(transform.log_abs_det_jacobian(x, y), events - transform.event_dim))
            y = x
        found = sum_last(self.base_dist.log_prob(y), events - len(self.base_dist.event_shape))
        for each in stretched:
            found = found - each
        return found

    def _monotone(self, method: str) -> Any:
        signs = [transform.sign for transform in self.transforms if transform.bijective]
        if len(signs) < len(self.transforms):
            raise self._lacks(f"{method}: one of its transforms is not one-to-one")
        return math.prod(signs)

    def cdf(self, value: Any) -> Tensor:
        sign, y = self._monotone("cdf"), self._value(value, "cdf")
        for transform in reversed(self.transforms):
            y = transform.inv(y)
        return sign * (self.base_dist.cdf(y) - 0.5) + 0.5

    def icdf(self, value: Any) -> Tensor:
        return self._transformed(self.base_dist.icdf(self._monotone("icdf") * (floating(value) - 0.5) + 0.5))


class LogitRelaxedBernoulli(OfShares):
    """The logit of RelaxedBernoulli, which keeps its digits near 0 and 1."""

    arg_constraints: ClassVar[Constraints] = {"logits": constraints.real, "probs": constraints.unit_interval}
    support = constraints.real
    has_rsample = True

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self.probs, self.logits = of_events(type(self).__name__, probs, logits)
        self.temperature = of_one_type(temperature, self.logits)[0]
        super().__init__(self.logits.shape, (), validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = rand_like(like(self.logits, shape_of(sample_shape, self.batch_shape)))
        u = u.clamp(float(np.finfo(u.dtype).eps), 1 - float(np.finfo(u.dtype).eps))
        return (u.log() - (-u).log1p() + self.logits) / self.temperature

    def log_prob(self, value: Any) -> Tensor:
        away = self.logits - self._value(value) * self.temperature
        return self.temperature.log() + away - 2 * log1p_exp(away)


class RelaxedBernoulli(TransformedDistribution):
    """Numbers from 0 to 1, nearer to 0 or 1 the lower the `temperature`, with probabilities like Bernoulli's, and with
    gradients (Maddison, Mnih and Teh 2017, arXiv:1611.00712).
    """

    support = constraints.unit_interval

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        base = LogitRelaxedBernoulli(temperature, probs, logits, validate_args)
        super().__init__(base, SigmoidTransform(), validate_args)
        self.temperature, self.probs, self.logits = base.temperature, base.probs, base.logits


class RelaxedOneHotCategorical(OfShares):
    """Shares of K classes, nearer to a one-hot vector the lower the `temperature`, with gradients: Gumbel-softmax
    (Jang et al. 2017, arXiv:1611.01144), the Concrete distribution (Maddison et al. 2017, arXiv:1611.00712).

    >>> import fastnn as fnn
    >>> fnn.distributions.RelaxedOneHotCategorical(0.5, logits=[0.0, 1.0]).rsample((3,)).sum(-1).round(decimals=4)
    Tensor([1., 1., 1.])
    """

    arg_constraints: ClassVar[Constraints] = {
        "logits": constraints.real_vector, "probs": constraints.independent(constraints.nonnegative, 1)
    }  # fmt: skip
    support = constraints.simplex
    has_rsample = True

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self.probs, self.logits = of_classes("RelaxedOneHotCategorical", probs, logits)
        self.temperature = of_one_type(temperature, self.logits)[0]
        super().__init__(self.logits.shape[:-1], self.logits.shape[-1:], validate_args)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        u = rand_like(like(self.logits, shape_of(sample_shape, self.batch_shape, self.event_shape)))
        noise = -(-u.clamp(float(np.finfo(u.dtype).tiny), 1 - float(np.finfo(u.dtype).eps)).log()).log()
        soft: Tensor = ((self.logits + noise) / self.temperature).softmax(-1)
        return soft

    def log_prob(self, value: Any) -> Tensor:
        """Equation 22 of Maddison et al."""
        logs, classes = self._value(value).log(), self.event_shape[0]
        score = self.logits - logs * self.temperature
        score = score - score.logsumexp(-1, True)
        return (score - logs).sum(-1) + (math.lgamma(classes) + (classes - 1) * self.temperature.log())
