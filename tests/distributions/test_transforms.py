"""Transforms and what they make of distributions: beside PyTorch's, inverses, caches, and the samples' distribution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plan_networks import NATIVE

import fastnn as fnn
from fastnn import distributions as D
from fastnn import nn
from fastnn.errors import ArgumentError

RNG = np.random.default_rng(8)
X, POSITIVE = RNG.normal(size=(5, 3)), RNG.uniform(0.1, 3, (5, 3))
LOC, SCALE = RNG.normal(size=3), RNG.uniform(0.5, 2, 3)

TRANSFORMS: dict[str, Any] = {  # made of a package's distributions and its tensors
    "exp": lambda P, t: P.ExpTransform(),
    "power": lambda P, t: P.PowerTransform(t(np.array(1.5))),
    "sigmoid": lambda P, t: P.SigmoidTransform(),
    "softplus": lambda P, t: P.SoftplusTransform(),
    "tanh": lambda P, t: P.TanhTransform(),
    "affine": lambda P, t: P.AffineTransform(t(LOC), t(-SCALE)),
    "affine-vectors": lambda P, t: P.AffineTransform(t(LOC), t(SCALE), event_dim=1),
    "affine-numbers": lambda P, t: P.AffineTransform(1.0, 2.0),
    "independent": lambda P, t: P.IndependentTransform(P.TanhTransform(), 1),
    "composed": lambda P, t: P.ComposeTransform([P.AffineTransform(t(LOC), t(SCALE)), P.TanhTransform()]),
    "vectors-then-tanh": lambda P, t: P.ComposeTransform(
        [P.AffineTransform(t(LOC), t(SCALE), event_dim=1), P.SigmoidTransform()]
    ),
    "inverse": lambda P, t: P.ComposeTransform([P.ExpTransform(), P.SigmoidTransform().inv.inv]),
}


def _theirs() -> tuple[Any, Any]:
    torch = pytest.importorskip("torch")
    return torch.distributions, torch.tensor


@pytest.mark.parametrize("name", TRANSFORMS)
def test_values_inverses_and_slopes_are_torchs(name: str) -> None:
    P, tensor = _theirs()
    ours, theirs = TRANSFORMS[name](D, fnn.tensor), TRANSFORMS[name](P, tensor)
    x = POSITIVE if name == "power" else X
    y, expected = ours(x), theirs(tensor(x))
    np.testing.assert_allclose(y.numpy(), expected.numpy(), rtol=1e-12)
    np.testing.assert_allclose(ours.inv(y).numpy(), x, rtol=1e-9)
    slope, of_theirs = ours.log_abs_det_jacobian(x, y), theirs.log_abs_det_jacobian(tensor(x), expected)
    np.testing.assert_allclose(slope.numpy(), of_theirs.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours.inv.log_abs_det_jacobian(y, x).numpy(), -slope.numpy())
    assert ours == TRANSFORMS[name](D, fnn.tensor)
    assert ours != D.AbsTransform()
    assert ours.inv.inv is ours


@pytest.mark.parametrize("name", [n for n in TRANSFORMS if n != "power"])
def test_transformed_distributions_are_torchs(name: str) -> None:
    P, tensor = _theirs()
    made = [
        P_.TransformedDistribution(P_.Normal(t(np.zeros(3)), t(np.ones(3))), TRANSFORMS[name](P_, t))
        for P_, t in ((D, fnn.tensor), (P, tensor))
    ]
    ours, theirs = made
    assert (ours.batch_shape, ours.event_shape) == (tuple(theirs.batch_shape), tuple(theirs.event_shape))
    fnn.manual_seed(0)
    y = ours.sample((4,)).numpy()
    np.testing.assert_allclose(ours.log_prob(y).numpy(), theirs.log_prob(tensor(y)).numpy(), rtol=1e-9, atol=1e-9)
    assert ours.expand((2, *ours.batch_shape)).sample().shape == (2, 3)
    if not ours.event_shape:
        np.testing.assert_allclose(ours.cdf(y).numpy(), theirs.cdf(tensor(y)).numpy(), rtol=1e-8)
        shares = np.array([0.1, 0.5, 0.9])
        np.testing.assert_allclose(ours.icdf(shares).numpy(), theirs.icdf(tensor(shares)).numpy(), rtol=1e-9)


def test_parameters_of_a_transform_widen_the_batch() -> None:
    d = D.TransformedDistribution(D.Normal(0.0, 1.0), D.AffineTransform(np.zeros(3), np.ones(3)))
    assert d.batch_shape == (3,)
    fnn.manual_seed(0)
    assert len(set(d.sample().tolist())) == 3  # three draws, not one


def test_the_cache_spares_the_inverse() -> None:
    """At tanh(20), which is 1 in floating point, the inverse is infinite; what was transformed is 20."""
    x = fnn.tensor([20.0])
    plain, cached = D.TanhTransform(), D.TanhTransform(cache_size=1)
    with np.errstate(divide="ignore"):
        assert np.isinf(plain.inv(plain(x)).numpy()).all()
        assert np.isinf(D.TanhTransform(cache_size=1).with_cache(0).inv(plain(x)).numpy()).all()
    y = cached(x)
    assert cached.inv(y) is x
    assert cached(x) is y
    fnn.manual_seed(0)
    d = D.TransformedDistribution(D.Normal([0.0], [30.0]), [D.TanhTransform(cache_size=1)])
    for draw in (d.rsample, d.sample):
        action = draw((50,))
        assert np.isfinite(d.log_prob(action).detach().numpy()).all()
    with pytest.raises(ArgumentError, match="cache_size 0 or 1"):
        D.TanhTransform(cache_size=2)


def test_a_squashed_policy_by_hand() -> None:
    """SAC's correction: log π(a) = log N(u) - Σ log(1 - tanh²(u)), and its gradient (Haarnoja et al. 2018, C)."""
    loc = fnn.tensor([0.3, -1.0], dtype=fnn.float64, requires_grad=True)
    normal = D.Normal(loc, 0.5)
    d = D.Independent(D.TransformedDistribution(normal, D.TanhTransform(cache_size=1)), 1)
    fnn.manual_seed(0)
    action = d.rsample()
    found = d.log_prob(action)
    u = np.arctanh(action.detach().numpy())
    z = (u - loc.detach().numpy()) / 0.5
    by_hand = (-0.5 * z**2 - np.log(0.5) - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(u) ** 2)).sum()
    assert found.item() == pytest.approx(by_hand, rel=1e-10)
    found.backward()
    np.testing.assert_allclose(np.asarray(loc.grad), 2 * np.tanh(u), rtol=1e-9)  # z stays, u moves with loc


@pytest.mark.skipif(not NATIVE, reason="compiled operators need the native kernels")
def test_policies_in_compiled_steps() -> None:
    """log_prob of a squashed Normal, a Beta and a mixture: eager and compiled are the same; draws are new each time."""
    x, actions = RNG.normal(size=(6, 3)).astype(np.float32), RNG.uniform(0.1, 0.9, (6, 2)).astype(np.float32)
    fnn.manual_seed(1)
    model = nn.Linear(3, 4)

    def squashed(outputs: Any, actions: Any) -> Any:
        base = D.Normal(outputs[:, :2], outputs[:, 2:].exp())
        return -D.TransformedDistribution(base, D.TanhTransform()).log_prob(actions).mean()

    def beta(outputs: Any, actions: Any) -> Any:
        a = outputs.exp() + 1
        d = D.Beta(a[:, :2], a[:, 2:])
        return -d.log_prob(actions).mean() - 0.01 * d.entropy().mean()

    def mixture(outputs: Any, actions: Any) -> Any:
        d = D.MixtureSameFamily(D.Categorical(logits=outputs[:, :2]), D.Normal(outputs[:, 2:], 1.0))
        return -d.log_prob(actions[:, 0]).mean()

    def multivariate(outputs: Any, actions: Any) -> Any:
        return -D.MultivariateNormal(outputs[:, :2], scale_tril=[[1.0, 0.0], [0.5, 2.0]]).log_prob(actions).mean()

    for loss_of in (squashed, beta, mixture, multivariate):
        model.zero_grad()
        value = fnn.compile(model, loss_of)(x, actions)
        grad = np.array(model.weight.grad)
        model.zero_grad()
        loss = loss_of(model(x), actions)
        loss.backward()
        assert value == pytest.approx(loss.item(), rel=1e-5)
        np.testing.assert_allclose(grad, np.asarray(model.weight.grad), rtol=1e-4, atol=1e-5)

    def draws(outputs: Any, _: Any) -> Any:
        a = outputs.exp()
        return D.Gamma(a, 1.0).rsample().mean() + D.RelaxedOneHotCategorical(0.5, logits=a).rsample()[:, 0].mean()

    drawn = fnn.compile(model, draws)
    assert drawn(x, actions) != drawn(x, actions)
    assert np.isfinite(model.weight.grad).all()
