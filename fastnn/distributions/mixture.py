"""Mixtures of distributions of one kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.errors import ArgumentError
from fastnn.ops.joining import where
from fastnn.tape import no_grad
from fastnn.tensors import Tensor

from .base import Distribution, shape_of

__all__ = ["MixtureSameFamily"]


class MixtureSameFamily(Distribution):
    """One of K distributions of a kind, by the weights of a Categorical: `mixture_distribution` of batch shape B, and
    `component_distribution` of batch shape (*B, K).

    >>> from fastnn.distributions import Categorical, MixtureSameFamily, Normal
    >>> MixtureSameFamily(Categorical([0.5, 0.5]), Normal([-1.0, 1.0], [1.0, 1.0])).mean.item()
    0.0
    """

    def __init__(
        self, mixture_distribution: Any, component_distribution: Distribution, validate_args: bool | None = None
    ) -> None:
        mixture, components = mixture_distribution, component_distribution
        name = type(self).__name__
        known = hasattr(mixture, "logits") and isinstance(components, Distribution)
        if not known or mixture.event_shape or not components.batch_shape:
            raise ArgumentError(
                f"{name}: expected a Categorical and a distribution of batch shape (..., K), got {mixture!r} and "
                f"{components!r}"
            )
        if mixture.logits.shape[-1] != components.batch_shape[-1]:
            raise ArgumentError(
                f"{name}: expected as many components as weights, got {components.batch_shape[-1]} and "
                f"{mixture.logits.shape[-1]}"
            )
        self.mixture_distribution, self.component_distribution = mixture, components
        super().__init__(components.batch_shape[:-1], components.event_shape, validate_args)

    @property
    def support(self) -> Any:
        return self.component_distribution.support

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> MixtureSameFamily:
        shape = shape_of(batch_shape)
        components = self.component_distribution.expand((*shape, self.component_distribution.batch_shape[-1]))
        return MixtureSameFamily(self.mixture_distribution.expand(shape), components, self._validate_args)

    def _each(self, value: Any, method: str) -> Tensor:
        return self._value(value, method).unsqueeze(-1 - len(self.event_shape))

    def _weighed(self, x: Tensor) -> Tensor:
        """The mean over the components of x (..., K, *event_shape)."""
        events = len(self.event_shape)
        weights = self.mixture_distribution.probs
        return (weights.reshape(*weights.shape, *(1,) * events) * x).sum(-1 - events)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            chosen = self.mixture_distribution._hot(self.mixture_distribution.sample(sample_shape))
            events = len(self.event_shape)
            drawn = self.component_distribution.sample(sample_shape)
            return where(chosen.reshape(*chosen.shape, *(1,) * events), drawn, 0.0).sum(-1 - events)

    def log_prob(self, value: Any) -> Tensor:
        weights = self.mixture_distribution.logits
        return (self.component_distribution.log_prob(self._each(value, "log_prob")) + weights).logsumexp(-1)

    def cdf(self, value: Any) -> Tensor:
        return (self.component_distribution.cdf(self._each(value, "cdf")) * self.mixture_distribution.probs).sum(-1)

    @property
    def mean(self) -> Tensor:
        return self._weighed(self.component_distribution.mean)

    @property
    def variance(self) -> Tensor:
        """The mean of the variances and the variance of the means."""
        away = self.component_distribution.mean - self.mean.unsqueeze(-1 - len(self.event_shape))
        return self._weighed(self.component_distribution.variance) + self._weighed(away * away)
