"""Distributions of classes and counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fastnn import ops
from fastnn.checks import flag, whole
from fastnn.errors import ArgumentError
from fastnn.ops.arithmetic import Compare
from fastnn.ops.draws import Binomial as DrawBinomial
from fastnn.ops.draws import Poisson as DrawPoisson
from fastnn.ops.draws import rand_like
from fastnn.ops.gamma import lgamma
from fastnn.ops.joining import where
from fastnn.ops.loss import log1p_exp
from fastnn.tape import no_grad, tracer
from fastnn.tensors import Tensor

from . import constraints
from .base import Distribution, OfShares, check_within, expanded, like, parameters, shape_of
from .constraints import Constraints
from .gamma import Gamma, xlogy

__all__ = [
    "Bernoulli",
    "Binomial",
    "Categorical",
    "Geometric",
    "Multinomial",
    "NegativeBinomial",
    "OneHotCategorical",
    "OneHotCategoricalStraightThrough",
    "Poisson",
    "of_classes",
    "of_events",
]


def _either(name: str, probs: Any, logits: Any) -> Tensor:
    if (probs is None) == (logits is None):
        raise ArgumentError(f"{name}: expected probs or logits, got {'neither' if probs is None else 'both'}")
    return parameters(name, logits if probs is None else probs)[0]


def of_classes(name: str, probs: Any, logits: Any) -> tuple[Tensor, Tensor]:
    """Probabilities (..., K) that sum to 1, and their logarithms, from either."""
    given = _either(name, probs, logits)
    if not given.ndim:
        raise ArgumentError(
            f"{name}: expected {'logits' if probs is None else 'probs'} of shape (..., K), got a number"
        )
    if probs is None:
        logs = ops.log_softmax(given, -1)
        return logs.exp(), logs
    shares = given / given.sum(-1, True)
    smallest = float(np.finfo(given.dtype).eps)
    return shares, shares.clamp(smallest, 1 - smallest).log()  # as in PyTorch


def of_events(name: str, probs: Any, logits: Any) -> tuple[Tensor, Tensor]:
    """Probabilities of events that come about or do not, and their logits, from either."""
    given = _either(name, probs, logits)
    if probs is None:
        return ops.sigmoid(given), given
    smallest = float(np.finfo(given.dtype).eps)
    inner = given.clamp(smallest, 1 - smallest)  # as in PyTorch
    return given, inner.log() - (1 - inner).log()


class Categorical(OfShares):
    """One of K classes: `probs` (..., K), whose sum is made 1, or `logits`, of any scale; samples are int64.

    >>> from fastnn.distributions import Categorical
    >>> Categorical(probs=[0.25, 0.75]).log_prob(1).exp().item()
    0.75
    """

    arg_constraints: ClassVar[Constraints] = {
        "logits": constraints.real_vector, "probs": constraints.independent(constraints.nonnegative, 1)
    }  # fmt: skip
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self.probs, self.logits = of_classes(type(self).__name__, probs, logits)
        super().__init__(self.logits.shape[:-1], (), validate_args)

    @property
    def _classes(self) -> int:
        return self.logits.shape[-1]

    @property
    def support(self) -> Any:
        return constraints.integer_interval(0, self._classes - 1)

    def _hot(self, classes: Tensor) -> Tensor:
        """Where each class is the one."""
        numbers = np.arange(self._classes, dtype=np.float32)
        return Compare.apply(classes.float().unsqueeze(-1), numbers, ufunc=np.equal)

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
        classes = self._value(value)
        if tracer() is None:  # without validate_args, too: no logit is that of another number
            check_within(f"{type(self).__name__}.log_prob", "value", self.support, classes)
        return where(self._hot(classes), self.logits, 0.0).sum(-1)

    def entropy(self) -> Tensor:
        return -(self.probs * self.logits.clamp(min=float(np.finfo(self.logits.dtype).min))).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self._enumerated(np.arange(self._classes), expand)

    @property
    def mean(self) -> Tensor:
        """NaN: numbers of classes have none, as in PyTorch."""
        return Tensor(np.full(self.batch_shape, math.nan, self.logits.dtype))

    variance = mean

    @property
    def mode(self) -> Tensor:
        """The most likely class."""
        return self.probs.argmax(-1)


class OneHotCategorical(Categorical):
    """Categorical whose samples are one-hot vectors."""

    support = constraints.one_hot

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(probs, logits, validate_args)
        self.event_shape = (self._classes,)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._hot(super().sample(sample_shape)).astype(self.logits.dtype)

    def log_prob(self, value: Any) -> Tensor:
        return (self._value(value).astype(self.logits.dtype) * self.logits).sum(-1)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        hot = np.eye(self._classes, dtype=self.logits.dtype).reshape(-1, *(1,) * len(self.batch_shape), self._classes)
        shape = (self._classes, *self.batch_shape, self._classes)
        return Tensor(np.broadcast_to(hot, shape).copy() if flag("enumerate_support", "expand", expand) else hot)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return self._hot(self.probs.argmax(-1)).astype(self.logits.dtype)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """OneHotCategorical with rsample: one-hot vectors whose gradient is that of `probs` (Bengio, Léonard and Courville
    2013, arXiv:1308.3432).
    """

    has_rsample = True

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.sample(sample_shape) + (self.probs - self.probs.detach())


class Bernoulli(OfShares):
    """1 with probability `probs`, or σ(`logits`), else 0; samples are floats."""

    arg_constraints: ClassVar[Constraints] = {"logits": constraints.real, "probs": constraints.unit_interval}
    support = constraints.boolean
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self.probs, self.logits = of_events("Bernoulli", probs, logits)
        super().__init__(self.logits.shape, (), validate_args)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            return ops.bernoulli(expanded(self.probs.detach(), shape_of(sample_shape, self.batch_shape)))

    def log_prob(self, value: Any) -> Tensor:
        return self._value(value) * self.logits - log1p_exp(self.logits)

    def entropy(self) -> Tensor:
        return log1p_exp(self.logits) - self.probs * self.logits

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self._enumerated(np.arange(2, dtype=self.logits.dtype), expand)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        """1 where that is more likely, 0 where it is less, NaN where both are the same."""
        mode = (self.probs >= 0.5).astype(self.probs.dtype)
        return where(self.probs == 0.5, math.nan, mode)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)


class Geometric(OfShares):
    """How often an event of probability `probs`, or σ(`logits`), fails to come about before it does."""

    arg_constraints: ClassVar[Constraints] = {"logits": constraints.real, "probs": constraints.unit_interval}
    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self.probs, self.logits = of_events("Geometric", probs, logits)
        super().__init__(self.logits.shape, (), validate_args)
        if self._checks() and not np.all(self.probs._data > 0):
            raise ArgumentError("Geometric: expected probs above 0, got 0")

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """⌊log u / log(1 - p)⌋."""
        with no_grad():
            probs = self.probs.detach()
            u = rand_like(like(probs, shape_of(sample_shape, self.batch_shape)))
            return (u.clamp(min=float(np.finfo(u.dtype).tiny)).log() / (-probs).log1p()).floor()

    def log_prob(self, value: Any) -> Tensor:
        x = self._value(value).astype(self.probs.dtype)
        return xlogy(x, 1 - self.probs) + self.probs.log()

    def entropy(self) -> Tensor:
        return (log1p_exp(self.logits) - self.probs * self.logits) / self.probs

    @property
    def mean(self) -> Tensor:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Tensor:
        return Tensor(np.zeros(self.batch_shape, self.probs.dtype))

    @property
    def variance(self) -> Tensor:
        return (1 / self.probs - 1) / self.probs


class Binomial(OfShares):
    """How many of `total_count` events come about, each with probability `probs` or σ(`logits`)."""

    arg_constraints: ClassVar[Constraints] = {
        "total_count": constraints.nonnegative_integer, "logits": constraints.real, "probs": constraints.unit_interval
    }  # fmt: skip
    has_enumerate_support = True

    def __init__(
        self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        shares, logs = of_events("Binomial", probs, logits)
        self.total_count, self.probs, self.logits = parameters("Binomial", total_count, shares, logs)
        super().__init__(self.logits.shape, (), validate_args)

    @property
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        shape = shape_of(sample_shape, self.batch_shape)
        with no_grad():
            return DrawBinomial.apply(*(expanded(x.detach(), shape) for x in (self.total_count, self.probs)))

    def log_prob(self, value: Any) -> Tensor:
        k, n = self._value(value).astype(self.logits.dtype), self.total_count
        ways = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
        return ways + k * self.logits - n * log1p_exp(self.logits)

    def entropy(self) -> Tensor:
        """By summation over all counts, which needs one total_count for the whole batch."""
        logs = self.log_prob(self.enumerate_support(False))
        return -(logs.exp() * logs).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        counts = self.total_count.detach().numpy()
        if counts.size and counts.min() != counts.max():
            raise ArgumentError(
                "Binomial: expected one total_count for the whole batch, to name all counts, got several"
            )
        return self._enumerated(np.arange(1 + int(counts.max()), dtype=self.logits.dtype), expand)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ops.minimum(((self.total_count + 1) * self.probs).floor(), self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)


class NegativeBinomial(OfShares):
    """How many events of probability `probs`, or σ(`logits`), come about before `total_count` of them, which need not
    be a whole number, fail to.

    >>> from fastnn.distributions import NegativeBinomial
    >>> NegativeBinomial(1.0, probs=0.5).log_prob(1.0).exp().item()
    0.25
    """

    arg_constraints: ClassVar[Constraints] = {
        "total_count": constraints.nonnegative, "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }  # fmt: skip
    support = constraints.nonnegative_integer

    def __init__(
        self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        shares, logs = of_events("NegativeBinomial", probs, logits)
        self.total_count, self.probs, self.logits = parameters("NegativeBinomial", total_count, shares, logs)
        super().__init__(self.logits.shape, (), validate_args)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Poisson counts of gamma rates."""
        with no_grad():
            rates = Gamma(self.total_count, (-self.logits).exp(), validate_args=False).sample(sample_shape)
            return DrawPoisson.apply(rates)

    def log_prob(self, value: Any) -> Tensor:
        k, n = self._value(value).astype(self.logits.dtype), self.total_count
        ways = where(n + k == 0, 0.0, lgamma(n + k) - lgamma(k + 1) - lgamma(n))
        return ways - n * log1p_exp(self.logits) - k * log1p_exp(-self.logits)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0)

    @property
    def variance(self) -> Tensor:
        return self.mean / ops.sigmoid(-self.logits)


class Multinomial(OfShares):
    """How often each of K classes comes in `total_count` draws, by `probs` (..., K), whose sum is made 1, or `logits`.

    `total_count` is one number, as in PyTorch.
    """

    arg_constraints: ClassVar[Constraints] = Categorical.arg_constraints

    def __init__(
        self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        self.total_count = whole("Multinomial", "total_count", total_count, 0)
        self.probs, self.logits = of_classes("Multinomial", probs, logits)
        super().__init__(self.logits.shape[:-1], self.logits.shape[-1:], validate_args)

    @property
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        one = OneHotCategorical(logits=self.logits.detach(), validate_args=False)
        return one.sample((self.total_count, *shape_of(sample_shape))).sum(0)

    def log_prob(self, value: Any) -> Tensor:
        x = self._value(value).astype(self.logits.dtype)
        ways = lgamma(x.sum(-1) + 1) - lgamma(x + 1).sum(-1)
        return ways + where(x == 0, 0.0, self.logits * x).sum(-1)

    def entropy(self) -> Tensor:
        """n·H(classes) - log n! + Σ E[log xᵢ!], xᵢ binomial."""
        n = self.total_count
        counts = np.arange(1, n + 1, dtype=self.logits.dtype).reshape(-1, *(1,) * self.logits.ndim)
        of_each = Binomial(n, probs=self.probs, validate_args=False).log_prob(counts).exp()
        factorials = (of_each * lgamma(Tensor(counts + 1))).sum((0, -1))
        return -n * (self.probs * self.logits).sum(-1) - math.lgamma(n + 1) + factorials

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)


class Poisson(Distribution):
    """Counts with the mean `rate`."""

    arg_constraints: ClassVar[Constraints] = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = parameters("Poisson", rate)
        super().__init__(self.rate.shape, (), validate_args)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with no_grad():
            return DrawPoisson.apply(expanded(self.rate.detach(), shape_of(sample_shape, self.batch_shape)))

    def log_prob(self, value: Any) -> Tensor:
        x = self._value(value).astype(self.rate.dtype)
        return xlogy(x, self.rate) - self.rate - lgamma(x + 1)

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    @property
    def variance(self) -> Tensor:
        return self.rate
