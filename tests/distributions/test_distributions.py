"""Distributions beside PyTorch's: log_prob, entropy, moments, divergences and gradients; samples by moments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plan_networks import NATIVE

import fastnn as fnn
from fastnn import distributions as D
from fastnn import nn
from fastnn.errors import ArgumentError, GraphError, ShapeError

RNG = np.random.default_rng(4)
LOC, SCALE = RNG.normal(size=(3, 4)), RNG.uniform(0.5, 2, (3, 4))
SHARES, LOGITS = RNG.uniform(0.1, 0.9, (3, 4)), RNG.normal(size=(3, 4))
TRIL = np.tril(RNG.normal(size=(4, 4))) + 3 * np.eye(4)
ROOT = np.random.default_rng(5).normal(size=(3, 4, 4))
COVARIANCE = ROOT @ ROOT.transpose(0, 2, 1) + 0.5 * np.eye(4)
UNIT = np.random.default_rng(5).uniform(0.05, 0.95, (5, 3, 4))
COUNTS = np.random.default_rng(5).integers(0, 7, (5, 3, 4)).astype(float)
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
    "cauchy": ("Cauchy", {"loc": LOC, "scale": SCALE}, VALUES),
    "gumbel": ("Gumbel", {"loc": LOC, "scale": SCALE}, VALUES),
    "weibull": ("Weibull", {"scale": SCALE, "concentration": SCALE + 1}, np.abs(VALUES)),
    "pareto": ("Pareto", {"scale": SHARES, "alpha": SCALE + 2}, np.abs(VALUES) + 1),
    "negative-binomial": ("NegativeBinomial", {"total_count": SCALE * 3, "probs": SHARES}, COUNTS),
    "negative-binomial-logits": ("NegativeBinomial", {"total_count": SCALE * 3, "logits": LOGITS}, COUNTS),
    "half-normal": ("HalfNormal", {"scale": SCALE}, np.abs(VALUES)),
    "half-cauchy": ("HalfCauchy", {"scale": SCALE}, np.abs(VALUES)),
    "student": ("StudentT", {"df": SCALE * 3, "loc": LOC, "scale": SCALE}, VALUES),
    "gamma": ("Gamma", {"concentration": SCALE, "rate": SHARES}, np.abs(VALUES)),
    "chi2": ("Chi2", {"df": SCALE}, np.abs(VALUES)),
    "beta": ("Beta", {"concentration1": SCALE, "concentration0": SHARES * 3}, UNIT),
    "dirichlet": ("Dirichlet", {"concentration": SCALE}, UNIT / UNIT.sum(-1, keepdims=True)),
    "geometric": ("Geometric", {"probs": SHARES}, COUNTS),
    "geometric-logits": ("Geometric", {"logits": LOGITS}, COUNTS),
    "binomial": ("Binomial", {"probs": SHARES, "total_count": 6}, COUNTS),
    "binomial-logits": ("Binomial", {"logits": LOGITS, "total_count": 6}, COUNTS),
    "multinomial": ("Multinomial", {"probs": SHARES, "total_count": 6}, np.broadcast_to([2.0, 0, 1, 3], (3, 4))),
    "straight-through": ("OneHotCategoricalStraightThrough", {"probs": SHARES}, np.eye(4)[CLASSES]),
    "relaxed-bernoulli": ("RelaxedBernoulli", {"temperature": 0.7, "probs": SHARES}, UNIT),
    "relaxed-one-hot": (
        "RelaxedOneHotCategorical",
        {"temperature": 0.7, "logits": LOGITS},
        UNIT / UNIT.sum(-1, keepdims=True),
    ),
    "covariance": ("MultivariateNormal", {"loc": LOC, "covariance_matrix": COVARIANCE}, VALUES),
    "precision": ("MultivariateNormal", {"loc": LOC[0], "precision_matrix": COVARIANCE}, VALUES),
    "multivariate": ("MultivariateNormal", {"loc": LOC, "scale_tril": TRIL}, VALUES),
}


NO_ENTROPY = {
    "poisson",
    "multinomial",
    "negative-binomial",
    "negative-binomial-logits",
    "relaxed-bernoulli",
    "relaxed-one-hot",
}
NO_MOMENTS = {"relaxed-bernoulli", "relaxed-one-hot"}
HEAVY = {"cauchy", "half-cauchy", "student", "pareto"}  # without, or with few, moments
CONTINUOUS = {  # with a cdf of PyTorch's
    "normal", "log-normal", "laplace", "exponential", "uniform", "cauchy", "gumbel", "half-normal", "half-cauchy",
    "weibull", "pareto",
}  # fmt: skip


def _made(name: str, factor: float = 1.0) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """The distribution of a case and PyTorch's, and their tensors; numbers are given to both as they are."""
    torch = pytest.importorskip("torch")
    kind, given, _ = CASES[name]
    numbers = {key: x for key, x in given.items() if not isinstance(x, np.ndarray)}
    arrays = {key: x * factor for key, x in given.items() if isinstance(x, np.ndarray)}
    ours = {key: fnn.Tensor(x.copy(), True) for key, x in arrays.items()}
    theirs = {key: torch.tensor(x, requires_grad=True) for key, x in arrays.items()}
    theirs_numbers = {k: torch.tensor(v, dtype=torch.float64) if k == "temperature" else v for k, v in numbers.items()}
    made = getattr(torch.distributions, kind)(**theirs, **theirs_numbers)
    return getattr(D, kind)(**ours, **numbers), made, ours, theirs


def _compare(mine: Any, torchs: Any, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    np.testing.assert_allclose(mine.detach().numpy(), torchs.detach().numpy(), rtol=1e-10, atol=1e-12)
    if not torchs.requires_grad:
        return
    for p in ours.values():
        p.grad = None
    for p in theirs.values():
        p.grad = None
    mine.sum().backward(retain_graph=True)
    torchs.sum().backward(retain_graph=True)
    for key, p in ours.items():
        if theirs[key].grad is not None:
            expected = theirs[key].grad.numpy()
            found = np.zeros(p.shape) if p.grad is None else np.asarray(p.grad)
            if key == "scale_tril":
                expected, found = np.tril(expected), np.tril(found)
            elif key.endswith("matrix"):  # of a symmetric one, entries above and below share a slope
                expected, found = (x + x.swapaxes(-1, -2) for x in (expected, found))
            np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("name", CASES)
def test_formulas_and_gradients_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    value = np.array(CASES[name][2])
    mine, torchs, ours, theirs = _made(name)
    assert (mine.batch_shape, mine.event_shape) == (tuple(torchs.batch_shape), tuple(torchs.event_shape))
    calls = [] if name in NO_ENTROPY else ["entropy"]
    calls += [] if name in NO_MOMENTS else ["mean", "variance", "stddev"]
    if name.startswith("categorical"):
        calls = ["entropy", "mode"]
    elif name not in NO_MOMENTS | {"multinomial", "uniform"}:
        calls.append("mode")
    _compare(mine.log_prob(value), torchs.log_prob(torch.tensor(value)), ours, theirs)
    for call in calls:
        a, b = getattr(mine, call), getattr(torchs, call)
        _compare(a() if callable(a) else a, b() if callable(b) else b, ours, theirs)


@pytest.mark.parametrize("name", sorted(CONTINUOUS))
def test_cdf_and_icdf_are_torchs_and_inverse(name: str) -> None:
    torch = pytest.importorskip("torch")
    value = np.array(CASES[name][2])
    mine, torchs, ours, theirs = _made(name)
    _compare(mine.cdf(value), torchs.cdf(torch.tensor(value)), ours, theirs)
    shares = np.linspace(0.01, 0.99, 12).reshape(3, 4)
    _compare(mine.icdf(shares), torchs.icdf(torch.tensor(shares)), ours, theirs)
    np.testing.assert_allclose(mine.cdf(mine.icdf(shares)).detach().numpy(), shares, rtol=1e-9)


def test_log_prob_is_differentiable_by_the_value() -> None:
    torch = pytest.importorskip("torch")
    for name in ("normal", "gamma", "beta", "dirichlet", "student", "relaxed-bernoulli", "relaxed-one-hot"):
        mine, torchs, _, _ = _made(name)
        x, t = fnn.tensor(CASES[name][2], requires_grad=True), torch.tensor(CASES[name][2], requires_grad=True)
        mine.log_prob(x).sum().backward()
        torchs.log_prob(t).sum().backward()
        np.testing.assert_allclose(np.asarray(x.grad), t.grad.numpy(), rtol=1e-9, atol=1e-10, err_msg=name)


KL = [
    "normal", "laplace", "exponential", "bernoulli", "bernoulli-logits", "categorical", "categorical-logits", "one-hot",
    "poisson", "log-normal", "half-normal", "gamma", "beta", "dirichlet", "geometric", "binomial", "multivariate",
    "covariance",
]  # fmt: skip


@pytest.mark.parametrize("name", KL)
def test_divergences_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch")
    mine, torchs, ours, theirs = _made(name)
    q, torchs_q, _, _ = _made(name, 0.9)
    _compare(D.kl_divergence(mine, q), torch.distributions.kl_divergence(torchs, torchs_q), ours, theirs)
    _compare(D.kl_divergence(q, mine), torch.distributions.kl_divergence(torchs_q, torchs), ours, theirs)


def test_divergences_at_the_edge() -> None:
    """0·log 0 is 0; what q excludes and p does not costs all; Uniform within a wider one, by hand."""
    p, q = D.Categorical([0.0, 1.0]), D.Categorical([0.5, 0.5])
    assert D.kl_divergence(p, q).item() == pytest.approx(np.log(2), rel=1e-6)
    assert D.kl_divergence(q, p).item() == np.inf
    assert D.kl_divergence(D.Uniform(0.0, 1.0), D.Uniform(-1.0, 3.0)).item() == pytest.approx(np.log(4))
    assert D.kl_divergence(D.Uniform(-1.0, 3.0), D.Uniform(0.0, 1.0)).item() == np.inf
    tanh = [D.AffineTransform(1.0, 2.0), D.TanhTransform()]
    squashed = [D.TransformedDistribution(D.Normal(loc, 1.0), tanh) for loc in (0.0, 1.0)]
    assert D.kl_divergence(*squashed).item() == pytest.approx(0.5)


@pytest.mark.parametrize("name", [n for n in CASES if not n.startswith("categorical") and n not in HEAVY | NO_MOMENTS])
def test_samples_have_the_moments(name: str) -> None:
    fnn.manual_seed(0)
    kind, given, _ = CASES[name]
    d = getattr(D, kind)(**given)
    drawn = d.sample((4000,)).numpy().astype(np.float64)
    assert drawn.shape == (4000, *d.batch_shape, *d.event_shape)
    spread = d.stddev.numpy()
    np.testing.assert_allclose(drawn.mean(0), d.mean.numpy(), atol=5 * spread.max() / np.sqrt(4000))
    if name != "log-normal":
        np.testing.assert_allclose(drawn.std(0), spread, rtol=0.2)


def _distance(drawn: np.ndarray, cdf: Any) -> float:
    """Kolmogorov and Smirnov's statistic, times √n: above 1.95 once in a thousand times."""
    x = np.sort(drawn.ravel())
    shares = np.asarray(cdf(x))
    n = len(x)
    return float(np.sqrt(n) * max((np.arange(1, n + 1) / n - shares).max(), (shares - np.arange(n) / n).max()))


@pytest.mark.parametrize("name", sorted(CONTINUOUS))
def test_samples_follow_the_cdf(name: str) -> None:
    fnn.manual_seed(3)
    kind, given, _ = CASES[name]
    one = {key: float(x[0, 0]) for key, x in given.items()}
    d = getattr(D, kind)(**one)
    assert _distance(d.sample((4000,)).numpy(), lambda x: d.cdf(x).numpy()) < 1.95


def test_von_mises() -> None:
    """By SciPy, since PyTorch's Bessel functions are polynomials good to 1e-7; it has the shapes and the slopes."""
    stats, torch = pytest.importorskip("scipy.stats"), pytest.importorskip("torch")
    loc, k = np.array([0.5, -2.0, 3.0, 1.0, 0.0]), np.array([1e-3, 1.0, 49.0, 51.0, 1e4])
    x = np.array([[0.1], [3.0]])
    mine = D.VonMises(a := fnn.tensor(loc, requires_grad=True), b := fnn.tensor(k, requires_grad=True))
    theirs = torch.distributions.VonMises(
        c := torch.tensor(loc, requires_grad=True), d := torch.tensor(k, requires_grad=True)
    )
    np.testing.assert_allclose(mine.log_prob(x).detach(), stats.vonmises.logpdf(x, k, loc), rtol=1e-12, atol=1e-12)
    ive = pytest.importorskip("scipy.special").ive
    np.testing.assert_allclose(mine.variance.detach(), 1 - ive(1, k) / ive(0, k), rtol=1e-10)
    mine.log_prob(x).sum().backward()
    theirs.log_prob(torch.tensor(x)).sum().backward()
    np.testing.assert_allclose(a.grad, c.grad, rtol=1e-10)
    np.testing.assert_allclose(b.grad, d.grad, atol=2e-6)
    assert D.VonMises(np.float32(0), np.float32(2e5)).log_prob(0.0).isfinite().item()
    fnn.manual_seed(5)
    drawn = D.VonMises(2.5, 1.3).sample((4000,)).numpy()
    assert np.abs(drawn).max() <= np.pi + 1e-6
    assert _distance((drawn - 2.5 + np.pi) % (2 * np.pi) - np.pi, lambda x: stats.vonmises.cdf(x, 1.3)) < 1.95


def test_samples_of_gamma_beta_and_student_follow_theirs() -> None:
    """Erlang's cdf, that of whole-numbered Beta by binomial sums, of small ones by powers, of t with 2 degrees."""
    fnn.manual_seed(4)
    drawn = D.Gamma(np.float64(3), np.float64(2)).sample((4000,)).numpy()
    assert _distance(drawn, lambda x: 1 - np.exp(-2 * x) * (1 + 2 * x + (2 * x) ** 2 / 2)) < 1.95
    assert _distance(D.Beta(np.float64(2), np.float64(2)).sample((4000,)).numpy(), lambda x: x**2 * (3 - 2 * x)) < 1.95
    assert _distance(D.Beta(np.float64(0.05), np.float64(1)).sample((4000,)).numpy(), lambda x: x**0.05) < 1.95
    drawn = D.StudentT(np.float64(2)).sample((4000,)).numpy()
    assert _distance(drawn, lambda x: 0.5 + x / (2 * np.sqrt(2 + x * x))) < 1.95
    first = D.Dirichlet(np.ones(3)).sample((4000,)).numpy()[:, 0]
    assert _distance(first, lambda x: 1 - (1 - x) ** 2) < 1.95


def test_the_same_seed_gives_the_same_samples() -> None:
    for d in (
        D.Gamma(2.0, 1.0),
        D.Poisson(3.0),
        D.Binomial(5, 0.5),
        D.Dirichlet([1.0, 2.0]),
        D.Multinomial(4, [1.0, 1.0]),
    ):
        fnn.manual_seed(9)
        first, second = d.sample((8,)).numpy(), d.sample((8,)).numpy()
        fnn.manual_seed(9)
        assert (d.sample((8,)).numpy() == first).all()
        assert (first != second).any()


def test_gradients_through_gamma_draws() -> None:
    """d(z)/d(α) by differences of the cumulative probability P, -(∂P/∂α)/p(z), and of E[log z]."""
    torch = pytest.importorskip("torch")
    fnn.manual_seed(2)
    for alpha in (0.05, 0.7, 1.0, 3.0, 40.0, 900.0, 3e4):
        a = fnn.tensor(np.full(200, alpha), requires_grad=True)
        z = D.Gamma(a, 1.0).rsample()
        z.sum().backward()
        t, x, h = torch.tensor(alpha).double(), torch.tensor(z.detach().numpy()), 1e-4 * min(alpha, 1)
        density = torch.distributions.Gamma(t, 1.0).log_prob(x).exp()
        change = (torch.special.gammainc(t + h, x) - torch.special.gammainc(t - h, x)) / (2 * h)
        expected = (-change / density).numpy()
        likely = np.abs(x.numpy() - alpha) < 3 * np.sqrt(alpha)  # in the tails differences are rounded
        np.testing.assert_allclose(np.asarray(a.grad)[likely], expected[likely], rtol=2e-6, err_msg=str(alpha))
    a = fnn.tensor(np.full((20000, 3), [0.3, 1.0, 5.0]), requires_grad=True)
    D.Gamma(a, 2.0).rsample().log().sum().backward()  # E[log z] = ψ(α) - log(rate)
    np.testing.assert_allclose(np.asarray(a.grad).mean(0), fnn.digamma(a + 1e-5).detach().numpy()[0] * 1e5
                               - fnn.digamma(a).detach().numpy()[0] * 1e5, rtol=0.05)  # fmt: skip


def test_second_derivatives_through_gamma_draws_are_refused() -> None:
    for d in (D.Gamma, D.Beta):
        a = fnn.tensor(2.0, requires_grad=True)
        with pytest.raises(GraphError, match="cannot be differentiated"):
            fnn.autograd.grad(d(a, 1.0).rsample(), a, create_graph=True)


def test_gradients_through_dirichlet_and_beta_draws() -> None:
    """Of means, which have formulas, and of E[log x] = ψ(a) - ψ(a + b)."""
    fnn.manual_seed(2)
    a = fnn.tensor([0.4, 1.0, 3.0], dtype=fnn.float64, requires_grad=True)
    weights = np.array([1.0, -2.0, 0.5])
    (D.Dirichlet(a).rsample((20000,)) * weights).sum(-1).mean().backward()
    b = fnn.tensor(a.detach().numpy(), requires_grad=True)
    (D.Dirichlet(b).mean * weights).sum().backward()
    np.testing.assert_allclose(np.asarray(a.grad), np.asarray(b.grad), atol=0.02)
    c, d = (fnn.tensor(x, dtype=fnn.float64, requires_grad=True) for x in (2.0, 0.8))
    D.Beta(c, d).rsample((20000,)).log().mean().backward()
    e, f = (fnn.tensor(x.detach().numpy(), requires_grad=True) for x in (c, d))
    (fnn.digamma(e) - fnn.digamma(e + f)).backward()
    assert float(c.grad) == pytest.approx(float(e.grad), abs=0.02)
    assert float(d.grad) == pytest.approx(float(f.grad), abs=0.02)


def test_expanding() -> None:
    for name in CASES:
        mine, torchs, _, _ = _made(name)
        wide, theirs = mine.expand((2, *mine.batch_shape)), torchs.expand((2, *torchs.batch_shape))
        assert (wide.batch_shape, wide.event_shape) == (tuple(theirs.batch_shape), tuple(theirs.event_shape)), name
        fnn.manual_seed(0)
        assert wide.sample((3,)).shape == (3, *wide.batch_shape, *wide.event_shape), name
        value = np.array(CASES[name][2])
        value = value[0] if value.ndim > len(mine.batch_shape + mine.event_shape) else value
        assert wide.log_prob(value).shape == wide.batch_shape, name


def test_enumerating() -> None:
    assert D.Categorical([1.0, 1.0, 1.0]).enumerate_support().tolist() == [0, 1, 2]
    assert D.Bernoulli([0.1, 0.2]).enumerate_support().tolist() == [[0, 0], [1, 1]]
    assert D.OneHotCategorical([1.0, 1.0]).enumerate_support().tolist() == [[1, 0], [0, 1]]
    assert D.Binomial(2, [0.5, 0.5]).enumerate_support(False).tolist() == [[0], [1], [2]]


def test_the_entropy_of_multinomial_by_enumeration() -> None:
    """PyTorch's own is rounded to float32."""
    d = D.Multinomial(3, np.array([0.2, 0.3, 0.5]))
    values = np.array([(i, j, 3 - i - j) for i in range(4) for j in range(4 - i)], float)
    logs = d.log_prob(values).numpy()
    assert np.exp(logs).sum() == pytest.approx(1, rel=1e-12)
    assert d.entropy().item() == pytest.approx(-(np.exp(logs) * logs).sum(), rel=1e-12)


def test_a_mixture_is_torchs() -> None:
    torch = pytest.importorskip("torch")
    T = torch.distributions
    of = {"ours": (D, fnn.tensor), "theirs": (T, torch.tensor)}
    made = {
        who: (
            P.MixtureSameFamily(P.Categorical(logits=t(LOGITS)), P.Normal(t(LOC), t(SCALE))),
            P.MixtureSameFamily(P.Categorical(t(SHARES[0])), P.Independent(P.Normal(t(LOC.T), t(SCALE.T)), 1)),
        )
        for who, (P, t) in of.items()
    }
    for ours, theirs, value in zip(made["ours"], made["theirs"], (VALUES[:, :, 0], VALUES[:, 0, :3]), strict=True):
        x = torch.tensor(np.ascontiguousarray(value))
        np.testing.assert_allclose(ours.log_prob(value).numpy(), theirs.log_prob(x).numpy(), rtol=1e-10)
        np.testing.assert_allclose(ours.mean.numpy(), theirs.mean.numpy(), rtol=1e-10)
        np.testing.assert_allclose(ours.variance.numpy(), theirs.variance.numpy(), rtol=1e-10)
        assert ours.sample((6,)).shape == tuple(theirs.sample((6,)).shape)
    ours, theirs = made["ours"][0], made["theirs"][0]
    np.testing.assert_allclose(ours.cdf(VALUES[0, :, 0]).numpy(), theirs.cdf(torch.tensor(VALUES[0, :, 0])).numpy())
    fnn.manual_seed(1)
    one = D.MixtureSameFamily(D.Categorical([0.3, 0.7]), D.Normal([-2.0, 1.0], [0.5, 1.0]))
    assert _distance(one.sample((4000,)).numpy(), lambda x: one.cdf(x).numpy()) < 1.95


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
        (lambda: D.MultivariateNormal(np.zeros(2)), ArgumentError, "and scale_tril, got none"),
        (lambda: D.MultivariateNormal(np.zeros(2), np.eye(3)), ShapeError, r"covariance_matrix \(\.\.\., D, D\)"),
        (lambda: D.MultivariateNormal(np.zeros(2), -np.eye(2)), ArgumentError, "positive definite"),
        (lambda: D.Uniform(1.0, 0.0), ArgumentError, "high above low, got low=1"),
        (lambda: D.Normal(np.nan, 1.0), ArgumentError, "loc without NaN"),
        (lambda: D.Binomial(3, 0.5).log_prob(4.0), ArgumentError, "whole number from 0 to 3, got 4"),
        (lambda: D.Gamma(1.0, 1.0).log_prob(-1.0), ArgumentError, "value of at least 0, got -1"),
        (lambda: D.Dirichlet([1.0, 1.0]).log_prob([0.5, 0.6]), ArgumentError, "sum 1"),
        (lambda: D.Dirichlet([1.0, 1.0]).log_prob([1.0]), ShapeError, r"\(\.\.\., 2\), got \(1,\)"),
        (lambda: D.Gamma(1.0, 1.0).cdf(1.0), ArgumentError, "has no cdf"),
        (lambda: D.Binomial([1, 2], 0.5).entropy(), ArgumentError, "one total_count"),
        (lambda: D.MixtureSameFamily(D.Categorical([1.0, 1.0]), D.Normal([0.0], 1.0)), ArgumentError, "as many"),
        (lambda: D.TransformedDistribution(D.Normal(0.0, 1.0), [abs]), ArgumentError, "a transform or a list"),
        (lambda: D.register_kl(int, D.Normal), ArgumentError, "types of distributions"),
        (lambda: fnn.poisson(fnn.tensor(-1.0)), ArgumentError, "means from 0 to 2"),
        (lambda: D.kl_divergence(D.Normal(0.0, 1.0), D.Bernoulli(0.5)), ArgumentError, "one known kind"),
        (lambda: D.Independent(D.Normal(0.0, 1.0), 1), ShapeError, "at most 0 dimensions"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_validation_can_be_left_out() -> None:
    assert np.isnan(D.Normal(np.nan, 1.0, validate_args=False).log_prob(0.0).numpy())
    D.Distribution.set_default_validate_args(False)
    try:
        assert D.Uniform(0.0, 1.0).log_prob(2.0).item() == -np.inf
    finally:
        D.Distribution.set_default_validate_args(True)
    with pytest.raises(ArgumentError, match="from 0 to 1, got 2"):
        D.Uniform(0.0, 1.0).log_prob(2.0)


def test_distributions_show_their_parameters() -> None:
    normal = D.Normal(fnn.zeros(2), 1.0)
    assert repr(normal) == "Normal(loc: (2,), scale: (2,))"
    assert repr(D.Independent(normal, 1)) == "Independent(Normal(loc: (2,), scale: (2,)), 1)"
    assert repr(D.Uniform(0.0, 2.0)) == "Uniform(low: 0.0, high: 2.0)"
    for name in ("covariance_matrix", "precision_matrix", "scale_tril"):
        vectors = D.MultivariateNormal(fnn.zeros(2), **{name: fnn.eye(2)})
        assert repr(vectors) == f"MultivariateNormal(loc: (2,), {name}: (2, 2))"


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        (0.5, 0.0, np.inf),
        (0.5, 1.0, np.inf),
        (0.0, 0.0, 0.0),
        (1.0, 1.0, 0.0),
        (0.0, 1.0, np.inf),
        (0.0, 0.5, np.log(2)),
    ],
)
def test_what_the_other_rules_out_is_infinitely_far(p: float, q: float, expected: float) -> None:
    """By the definition, Σ p log(p / q): the clamped logits of 0 and 1 gave 7.3."""
    found = D.kl_divergence(D.Bernoulli(p), D.Bernoulli(q)).item()
    assert found == pytest.approx(expected, abs=1e-5)
    assert D.kl_divergence(D.Binomial(3, p), D.Binomial(3, q)).item() == pytest.approx(3 * expected, abs=1e-5)


@pytest.mark.parametrize("value", [2, -1, 0.5, float("nan")])
def test_no_class_has_such_a_number(value: float) -> None:
    """Nor without validation: the logarithm was 0, that of certainty."""
    with pytest.raises(ArgumentError, match="expected value as a whole number from 0 to 1"):
        D.Categorical(fnn.tensor([0.2, 0.8]), validate_args=False).log_prob(fnn.tensor(value))
