"""Distributions of classes and counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import ops, random
from fastnn.errors import ArgumentError, ShapeError
from fastnn.ops.arithmetic import Compare
from fastnn.ops.common import loss_target
from fastnn.ops.draws import rand_like
from fastnn.ops.joining import where
from fastnn.ops.loss import log1p_exp
from fastnn.tape import no_grad
from fastnn.tensors import Tensor

from .base import Distribution, checked, expanded, like, parameters, shape_of

__all__ = ["Bernoulli", "Categorical", "OneHotCategorical", "Poisson"]


def _either(name: str, probs: Any, logits: Any) -> tuple[Tensor | None, Tensor | None]:
    if (probs is None) == (logits is None):
        raise ArgumentError(f"{name}: expected probs or logits, got {'neither' if probs is None else 'both'}")
    if logits is not None:
        return None, parameters(name, logits)[0]
    (found,) = parameters(name, probs)
    checked(name, "probabilities of at least 0", found, lambda x: x >= 0)
    return found, None


class Categorical(Distribution):
    """One of K classes: `probs` (..., K), whose sum is made 1, or `logits`, of any scale; samples are int64.

    >>> from fastnn.distributions import Categorical
    >>> Categorical(probs=[0.25, 0.75]).log_prob(1).exp().item()
    0.75
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        given, logits = _either(type(self).__name__, probs, logits)
        if not (logits if given is None else given).ndim:
            raise ShapeError(f"{type(self).__name__}: expected a number for each class (..., K), got one alone")
        if given is not None:
            self.probs = given / given.sum(-1, True)
            smallest = float(np.finfo(given.dtype).eps)
            self.logits = self.probs.clamp(smallest, 1 - smallest).log()  # as in PyTorch
        else:
            assert logits is not None
            self.logits = ops.log_softmax(logits, -1)
            self.probs = self.logits.exp()
        self._classes = self.logits.shape[-1]
        super().__init__(self.logits.shape[:-1])

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Class numbers, by the Gumbel-max trick: argmax(logits - log(-log u))."""
        shape = shape_of(sample_shape, self.batch_shape)
        with no_grad():
            logits = self.logits.detach()
            least = float(np.finfo(logits.dtype).tiny)
            u = rand_like(like(logits, (*shape, self._classes))).clamp(min=least)
            logits = where(self.probs.detach() > 0, logits, -math.inf)
            return (logits - (-(u.log())).clamp(min=least).log()).argmax(-1)

    def log_prob(self, value: Any) -> Tensor:
        classes = loss_target("log_prob", value, "value").float()
        numbers = np.arange(self._classes, dtype=np.float32)
        chosen = Compare.apply(classes.unsqueeze(-1), numbers, ufunc=np.equal)
        return where(chosen, self.logits, 0.0).sum(-1)

    def entropy(self) -> Tensor:
        return -(self.probs * self.logits.clamp(min=float(np.finfo(self.logits.dtype).min))).sum(-1)

    @property
    def mode(self) -> Tensor:
        """The most likely class."""
        return self.probs.argmax(-1)


class OneHotCategorical(Categorical):
    """Categorical whose samples are one-hot vectors."""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(probs, logits)
        self.event_shape = (self._classes,)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        classes = super().sample(sample_shape).float().unsqueeze(-1)
        hot = Compare.apply(classes, np.arange(self._classes, dtype=np.float32), ufunc=np.equal)
        return hot.astype(self.logits.dtype)

    def log_prob(self, value: Any) -> Tensor:
        return (loss_target("log_prob", value, "value").astype(self.logits.dtype) * self.logits).sum(-1)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)


class Bernoulli(Distribution):
    """1 with probability `probs`, or σ(`logits`), else 0; samples are floats."""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        given, logits = _either("Bernoulli", probs, logits)
        if given is not None:
            checked("Bernoulli", "probabilities of at most 1", given, lambda x: x <= 1)
            eps = float(np.finfo(given.dtype).eps)
            inner = given.clamp(eps, 1 - eps)  # as in PyTorch
            self.probs, self.logits = given, inner.log() - (1 - inner).log()
        else:
            assert logits is not None
            self.probs, self.logits = ops.sigmoid(logits), logits
        super().__init__(self.logits.shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            return ops.bernoulli(expanded(self.probs.detach(), shape_of(sample_shape, self.batch_shape)))

    def log_prob(self, value: Any) -> Tensor:
        return loss_target("log_prob", value, "value") * self.logits - log1p_exp(
            expanded(self.logits, self.batch_shape)
        )

    def entropy(self) -> Tensor:
        return log1p_exp(self.logits) - self.probs * self.logits

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)


class Poisson(Distribution):
    """Counts with the mean `rate`; log_prob is of counts up to 2^24, sampling is eager."""

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = parameters("Poisson", rate)
        checked("Poisson", "rate of at least 0", self.rate, lambda x: x >= 0)
        super().__init__(self.rate.shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        drawn = random.next_generator().poisson(self.rate.detach().data, shape_of(sample_shape, self.batch_shape))
        return Tensor(drawn.astype(self.rate.dtype))

    def log_prob(self, value: Any) -> Tensor:
        counts = np.asarray(loss_target("log_prob", value, "value").detach().data, np.float64)
        if not (counts >= 0).all():
            raise ArgumentError("Poisson.log_prob: expected counts of at least 0")
        factorials = np.vectorize(math.lgamma, otypes=[np.float64])(counts + 1).astype(self.rate.dtype)
        return counts.astype(self.rate.dtype) * self.rate.log() - self.rate - factorials

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def variance(self) -> Tensor:
        return self.rate
