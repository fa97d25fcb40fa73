"""sharpness against Hessians that are known: of linear regression by hand, of networks by dense second derivatives."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.autograd.functional import hessian
from fastnn.errors import ArgumentError
from fastnn.insight import sharpness

RNG = np.random.default_rng(3)


def regression() -> tuple[nn.Module, tuple[np.ndarray, np.ndarray], np.ndarray]:
    """A linear model, its data, and the eigenvalues of 2/N·XᵀX, X with a column of ones, ascending."""
    x, y = RNG.normal(size=(50, 6)) * np.arange(1, 7), RNG.normal(size=(50, 1))
    whole = np.hstack([x, np.ones((50, 1))])
    return nn.Linear(6, 1).double(), (x, y), np.linalg.eigvalsh(2 / 50 * whole.T @ whole)


def test_linear_regression() -> None:
    """As many steps as parameters: every eigenvalue, and the trace but for rounding."""
    model, data, expected = regression()
    before = model.weight.data.copy()
    found = sharpness(model, data, loss=nn.MSELoss(), top=7, steps=7, vectors=3, batch_size=20)
    np.testing.assert_allclose(found.eigenvalues, expected[::-1], 1e-10)
    assert found.smallest == pytest.approx(expected[0], 1e-10)
    assert (found.errors <= 1e-8).all()
    t, density = found.density(20001)
    assert (density[:-1] * np.diff(t)).sum() == pytest.approx(1, abs=1e-5)
    exact = nn.MSELoss()(model(data[0]), data[1]).item()
    assert found.loss == pytest.approx(exact, 1e-12)
    assert model.weight.grad is None
    np.testing.assert_array_equal(model.weight.data, before)
    assert "largest eigenvalues" in repr(found)


def test_the_loss_is_that_of_the_training_or_follows_from_the_targets() -> None:
    """Targets (N,) go with outputs (N, 1)."""
    model, (x, y), expected = regression()
    for targets in (y, y[:, 0]):
        assert sharpness(model, (x, targets), top=1, steps=7).eigenvalues[0] == pytest.approx(expected[-1], 1e-10)
    fnn.fit(model, x, y, loss=nn.HuberLoss(delta=1e6), verbose=False)  # 1e6 (|r| - 5e5) far away, r²/2 near 0
    found = sharpness(model, (x, y[:, 0]), top=1, steps=7)
    assert found.eigenvalues[0] == pytest.approx(expected[-1] / 2, 1e-10)
    line = fnn.landscape.line(model, (x, y[:, 0]), points=3, progress=False)
    assert line.losses[1] == pytest.approx(fnn.evaluate(model, x, y[:, 0]).loss)
    report = fnn.signal_report(model, x, y[:, 0])
    assert report.loss == pytest.approx(fnn.evaluate(model, x, y[:, 0]).loss)


def test_a_network() -> None:
    """Against the dense Hessian: smooth activations, batch norm in eval mode, cross-entropy."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3)).double()
    x, y = RNG.normal(size=(30, 3)), RNG.integers(0, 3, 30)
    model.eval()
    parameters = list(model.parameters())
    sizes = [p.numel() for p in parameters]

    def loss(flat: fnn.Tensor) -> fnn.Tensor:
        parts, start = {}, 0
        for (name, p), size in zip(model.named_parameters(), sizes, strict=True):
            parts[name] = flat[start : start + size].reshape(p.shape)
            start += size
        return nn.CrossEntropyLoss()(fnn.func.functional_call(model, parts, x), y)

    dense = hessian(loss, fnn.Tensor(np.concatenate([p.data.ravel() for p in parameters]))).numpy()
    np.testing.assert_allclose(dense, dense.T, atol=1e-14)
    exact = np.linalg.eigvalsh(dense)
    found = sharpness(model, (x, y), top=3, steps=25, vectors=4, batch_size=11)
    np.testing.assert_allclose(found.eigenvalues, exact[::-1][:3], rtol=1e-6)
    assert found.smallest == pytest.approx(exact[0], abs=1e-6)
    assert abs(found.trace - dense.trace()) < 4 * found.trace_error + 1e-9
    assert model[1].training is False
    in_float = sharpness(model.float(), (x.astype(np.float32), y), top=3, steps=25, vectors=1)
    np.testing.assert_allclose(in_float.eigenvalues, exact[::-1][:3], rtol=1e-4)
    assert np.isnan(in_float.trace_error)


def test_the_trace_is_that_of_random_vectors() -> None:
    """For ±1 vectors vᵀHv of a diagonal Hessian is its trace, exactly: 2·mean(x²) for one weight an entry."""
    model, data, expected = regression()
    found = sharpness(model, data, loss=nn.MSELoss(), vectors=200, steps=3)
    assert abs(found.trace - expected.sum()) < 4 * found.trace_error
    assert found.trace_error < 0.1 * expected.sum()


def test_graphs_that_are_not_kept_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, _ = regression()
    kept = sharpness(model, data, loss=nn.MSELoss(), batch_size=20)
    monkeypatch.setattr("fastnn.insight.hessian.MOST_KEPT", 0)
    again = sharpness(model, data, loss=nn.MSELoss(), batch_size=20)
    np.testing.assert_array_equal(kept.nodes, again.nodes)


def test_picture() -> None:
    pytest.importorskip("matplotlib")
    model, data, _ = regression()
    drawing = sharpness(model, data, loss=nn.MSELoss()).plot()
    assert drawing.axes[0].get_yscale() == "log"


def test_what_it_refuses() -> None:
    model, data, _ = regression()
    with pytest.raises(ArgumentError, match="parameters to learn"):
        sharpness(nn.Sequential(nn.Flatten()), data)
    with pytest.raises(ArgumentError, match="expected a model"):
        sharpness(lambda x: x, data)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="steps"):
        sharpness(model, data, steps=0)
    with pytest.raises(ArgumentError, match="one number"):
        sharpness(model, data, loss=nn.MSELoss(reduction="none"))
