"""Distributions beside PyTorch's: log_prob, entropy, moments, divergences and gradients; samples by moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plan_networks import NATIVE

import fastnn as fnn
from fastnn import distributions as D
from fastnn import nn
from fastnn.errors import ArgumentError, ShapeError

RNG = np.random.default_rng(4)
LOC, SCALE = RNG.normal(size=(3, 4)), RNG.uniform(0.5, 2, (3, 4))
SHARES, LOGITS = RNG.uniform(0.1, 0.9, (3, 4)), RNG.normal(size=(3, 4))
TRIL = np.tril(RNG.normal(size=(4, 4))) + 3 * np.eye(4)
VALUES, CLASSES = RNG.normal(size=(5, 3, 4)), RNG.integers(0, 4, (5, 3))

CASES: dict[str, tuple[str, dict[str, Any], np.ndarray]] = {
    "normal": ("Normal", {"loc": LOC, "scale": SCALE}, VALUES),
    "log-normal": ("LogNormal", {"loc": LOC, "scale": SCALE}, np.exp(VALUES)),
    "laplace": ("Laplace", {"loc": LOC, "scale": SCALE}, VALUES),
    "exponential": ("Exponential", {"rate": SCALE}, np.abs(VALUES)),
    "uniform": ("Uniform", {"low": LOC - 3, "high": LOC + SCALE + 3}, LOC + 0.1),
    "bernoulli": ("Bernoulli", {"probs": SHARES}, (VALUES > 0).astype(float)),
    "bernoulli-logits": ("Bernoulli", {"logits": LOGITS}, (VALUES > 0).astype(float)),
    "categorical": ("Categorical", {"probs": SHARES}, CLASSES),
    "categorical-logits": ("Categorical", {"logits": LOGITS}, CLASSES),
    "one-hot": ("OneHotCategorical", {"logits": LOGITS}, np.eye(4)[CLASSES]),
    "poisson": ("Poisson", {"rate": SCALE}, RNG.poisson(2.0, (5, 3, 4)).astype(float)),
    "multivariate": ("MultivariateNormal", {"loc": LOC, "scale_tril": TRIL}, VALUES),
}


def _both(name: str) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    torch = pytest.importorskip("torch")
    kind, given, _ = CASES[name]
    ours = {key: fnn.Tensor(x.copy(), True) for key, x in given.items()}
    theirs = {key: torch.tensor(x, requires_grad=True) for key, x in given.items()}
    return getattr(D, kind)(**ours), getattr(torch.distributions, kind)(**theirs), ours, theirs


def _compare(mine: Any, torchs: Any, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    np.testing.assert_allclose(mine.detach().numpy(), torchs.detach().numpy(), rtol=1e-10, atol=1e-12)
    if not torchs.requires_grad:
        return
    for p in ours.values():
        p.grad = None
    for p in theirs.values():
        p.grad = None
    mine.sum().backward()
    torchs.sum().backward()
    for key, p in ours.items():
        if theirs[key].grad is not None:
            expected = theirs[key].grad.numpy()
            expected = np.tril(expected) if key == "scale_tril" else expected
            found = np.zeros(p.shape) if p.grad is None else np.asarray(p.grad)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11, err_msg=key)


@pytest.mark.parametrize("name", CASES)
def test_formulas_and_gradients_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    value = CASES[name][2]
    mine, torchs, _, _ = _both(name)
    assert (mine.batch_shape, mine.event_shape) == (tuple(torchs.batch_shape), tuple(torchs.event_shape))
    calls = ["log_prob"]
    calls += [] if name == "poisson" else ["entropy"]
    calls += [] if name.startswith("categorical") else ["mean", "variance", "stddev"]
    for call in calls:
        mine, torchs, ours, theirs = _both(name)
        if call == "log_prob":
            _compare(mine.log_prob(value), torchs.log_prob(torch.tensor(value)), ours, theirs)
        else:
            a, b = getattr(mine, call), getattr(torchs, call)
            _compare(a() if callable(a) else a, b() if callable(b) else b, ours, theirs)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("one-hot", "multivariate", "log-normal")])
def test_divergences_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    kind, given, _ = CASES[name]
    other = {
        key: x * 0.9 if key in ("scale", "rate", "probs", "logits") else x - (key == "low") for key, x in given.items()
    }
    mine, torchs, ours, theirs = _both(name)
    q = getattr(D, kind)(**{key: fnn.Tensor(x) for key, x in other.items()})
    expected = torch.distributions.kl_divergence(
        torchs, getattr(torch.distributions, kind)(**{key: torch.tensor(x) for key, x in other.items()})
    )
    _compare(D.kl_divergence(mine, q), expected, ours, theirs)


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith("categorical")])
def test_samples_have_the_moments(name: str) -> None:
    fnn.manual_seed(0)
    kind, given, _ = CASES[name]
    d = getattr(D, kind)(**given)
    drawn = d.sample((4000,)).numpy().astype(np.float64)
    assert drawn.shape == (4000, *d.batch_shape, *d.event_shape)
    spread = d.stddev.numpy()
    np.testing.assert_allclose(drawn.mean(0), d.mean.numpy(), atol=5 * spread.max() / np.sqrt(4000))
    if name != "log-normal":
        np.testing.assert_allclose(drawn.std(0), spread, rtol=0.15)


def test_categorical_samples() -> None:
    """Classes in proportion to their probabilities; never one without any."""
    fnn.manual_seed(0)
    drawn = D.Categorical([[0.0, 1.0, 3.0], [1.0, 0.0, 0.0]]).sample((4000,))
    assert drawn.dtype == np.int64
    assert drawn.shape == (4000, 2)
    assert (drawn.numpy()[:, 1] == 0).all()
    assert (drawn.numpy()[:, 0] == 0).sum() == 0
    assert (drawn.numpy()[:, 0] == 2).mean() == pytest.approx(0.75, abs=0.03)


def test_gradients_flow_through_rsample_alone() -> None:
    fnn.manual_seed(0)
    loc, scale = fnn.Tensor(np.zeros(3), True), fnn.Tensor(np.ones(3), True)
    d = D.Normal(loc, scale)
    x = d.rsample()
    x.sum().backward()
    np.testing.assert_allclose(np.asarray(loc.grad), 1)
    np.testing.assert_allclose(np.asarray(scale.grad), x.detach().numpy())
    assert not d.sample().requires_grad
    with pytest.raises(ArgumentError, match="no rsample"):
        D.Bernoulli(0.5).rsample()


def test_independent_by_hand() -> None:
    d = D.Independent(D.Normal(np.zeros((2, 3)), 1.0), 1)
    assert (d.batch_shape, d.event_shape) == ((2,), (3,))
    np.testing.assert_allclose(d.log_prob(np.zeros((2, 3))).numpy(), -1.5 * np.log(2 * np.pi))
    np.testing.assert_allclose(d.entropy().numpy(), 1.5 * (1 + np.log(2 * np.pi)))
    np.testing.assert_allclose(D.kl_divergence(d, D.Independent(D.Normal(np.ones((2, 3)), 1.0), 1)).numpy(), 1.5)


@pytest.mark.skipif(not NATIVE, reason="compiled operators need the native kernels")
def test_a_policy_in_a_compiled_step() -> None:
    """log_prob and entropy of a Categorical, rsample of a Normal: eager and compiled are the same, without Python."""

    def policy(outputs: Any, actions: Any) -> Any:
        d = D.Categorical(logits=outputs)
        return -(d.log_prob(actions).mean()) - 0.01 * d.entropy().mean()

    x, actions = RNG.normal(size=(6, 3)).astype(np.float32), np.array([0, 1, 3, 3, 2, 0])
    fnn.manual_seed(1)
    model = nn.Linear(3, 4)
    step = fnn.compile(model, policy)
    value = step(x, actions)
    grad = np.array(model.weight.grad)
    model.zero_grad()
    loss = policy(model(x), actions)
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-5)
    np.testing.assert_allclose(grad, np.asarray(model.weight.grad), rtol=1e-4, atol=1e-6)
    assert "Python" not in step.describe()

    def draws(outputs: Any, _: Any) -> Any:
        return (D.Normal(outputs, 0.5).rsample() ** 2).mean()

    drawn = fnn.compile(model, draws)
    assert drawn(x, actions) != drawn(x, actions)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: D.Normal(0.0, -1.0), ArgumentError, "scale above 0, got -1"),
        (lambda: D.Normal(np.zeros(2), np.ones(3)), ShapeError, "that broadcast"),
        (lambda: D.Bernoulli(1.5), ArgumentError, "at most 1, got 1.5"),
        (lambda: D.Categorical(), ArgumentError, "got neither"),
        (lambda: D.Categorical([1.0], [1.0]), ArgumentError, "got both"),
        (lambda: D.MultivariateNormal(np.zeros(2)), ArgumentError, "covariance_matrix or scale_tril"),
        (lambda: D.MultivariateNormal(np.zeros(2), np.eye(3)), ShapeError, r"one matrix \(D, D\)"),
        (lambda: D.kl_divergence(D.Normal(0.0, 1.0), D.Bernoulli(0.5)), ArgumentError, "one known kind"),
        (lambda: D.Independent(D.Normal(0.0, 1.0), 1), ShapeError, "at most 0 dimensions"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
