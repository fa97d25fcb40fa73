"""A distribution of one's own, as repositories have it: broadcast_all, _extended_shape, register_kl."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar

import numpy as np
import pytest

import fastnn as fnn
import fastnn.distributions.utils  # a place of PyTorch's


def truncated(lib: Any) -> Any:
    class TruncatedNormal(lib.distributions.Distribution):
        arg_constraints: ClassVar[Any] = {
            "a": lib.distributions.constraints.real,
            "b": lib.distributions.constraints.real,
        }
        has_rsample = True

        def __init__(self, a: Any, b: Any, validate_args: Any = None) -> None:
            self.a, self.b = lib.distributions.utils.broadcast_all(a, b)
            super().__init__(self.a.size(), validate_args=validate_args)
            self.low, self.high = (0.5 * (1 + (x / math.sqrt(2)).erf()) for x in (self.a, self.b))

        def log_prob(self, value: Any) -> Any:
            return -0.5 * math.log(2 * math.pi) - (self.high - self.low).log() - value**2 * 0.5

        def rsample(self, sample_shape: Any = ()) -> Any:
            share = lib.full(self._extended_shape(sample_shape), 0.25)
            return math.sqrt(2) * (2 * (self.low + share * (self.high - self.low)) - 1).erfinv()

    lib.distributions.kl.register_kl(TruncatedNormal, lib.distributions.Normal)(lambda p, q: -p.log_prob(q.loc))
    return TruncatedNormal


def test_samples_and_gradients_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    found = []
    for lib in (fnn, torch):
        a = lib.tensor([[-1.0], [0.5]], requires_grad=True)
        d = truncated(lib)(a, lib.tensor([1.0, 2.0]))
        sample = d.rsample((3,))
        kl = lib.distributions.kl_divergence(d, lib.distributions.Normal(0.0, 1.0))
        (d.log_prob(sample).sum() + kl.sum()).backward()
        found.append([sample.detach().numpy(), a.grad, d.sample().numpy()])
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("binary", [False, True])
def test_probabilities_and_logits_are_pytorchs(binary: bool) -> None:
    theirs = pytest.importorskip("torch.distributions.utils")
    import torch

    mine, p = fnn.distributions.utils, np.array([0.0, 0.25, 0.75, 1.0])
    for name in ("probs_to_logits", "logits_to_probs"):
        expected = getattr(theirs, name)(torch.tensor(p), binary).numpy()
        np.testing.assert_allclose(getattr(mine, name)(fnn.tensor(p), binary).numpy(), expected, rtol=1e-12)
    np.testing.assert_array_equal(mine.clamp_probs(fnn.tensor(p)).numpy(), theirs.clamp_probs(torch.tensor(p)).numpy())


@pytest.mark.parametrize("name", ["Categorical", "OneHotCategorical", "Bernoulli", "Binomial", "Multinomial"])
def test_super_finds_probabilities_and_logits(name: str) -> None:
    """As DreamerV3's OneHotDist asks for them."""
    torch = pytest.importorskip("torch")
    found = []
    for lib in (fnn, torch):

        class Own(getattr(lib.distributions, name)):  # type: ignore[misc]
            def doubled(self) -> Any:
                return super().logits * 2, super().probs * 2

        d = Own(logits=lib.tensor([0.5, -1.0]))
        found.append([*(x.numpy() for x in (*d.doubled(), *copy.deepcopy(d).doubled())), d.param_shape])
    for mine, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
