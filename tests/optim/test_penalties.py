"""Penalties, in every optimiser: against PyTorch with the term written out, eagerly and in compiled steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import plan_networks as networks
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError

LOSS = nn.CrossEntropyLoss()
KINDS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.02},
    "Rprop": {"lr": 0.001},
    "Adagrad": {"lr": 0.01},
    "RMSprop": {"lr": 0.001, "eps": 1e-5, "weight_decay": 0.02},
    "Adam": {"lr": 0.005, "eps": 1e-5, "weight_decay": 0.02},
    "AdamW": {"lr": 0.005, "eps": 1e-5, "weight_decay": 0.02},
}


def value_of(l1: float, l2: float, *arrays: np.ndarray) -> float:
    return sum(float(l1 * np.abs(a).sum() + l2 * np.square(a).sum()) for a in arrays)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_eager_steps_are_torchs_with_the_term_written_out(kind: str, bias: bool) -> None:
    """Two groups with penalties of their own; an entry at 0, where the gradient of l1 is 0."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    values = [rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(2, 4)), rng.normal(size=2)]
    values[0][0, 0] = 0.0
    own = [nn.Parameter(fnn.Tensor(v.copy())) for v in values]
    other = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    first, second = (0.03, 0.05), (0.0, 0.2)
    opt = getattr(optim, kind)(
        [{"params": own[:2], "l1": first[0]}, {"params": own[2:], "l2": second[1]}],
        l2=first[1], penalize_bias=bias, **KINDS[kind],
    )  # fmt: skip
    twin = getattr(torch.optim, kind)(other, **KINDS[kind])
    for step in range(20):
        counted = slice(None, None, None if bias else 2)
        expected = value_of(*first, *[p.data for p in own[:2][counted]])
        expected += value_of(*second, *[p.data for p in own[2:][counted]])
        assert opt.penalty() == pytest.approx(expected, rel=1e-12)
        for p in own:
            p.grad = np.cos(p.data + step)
        twin.zero_grad()
        loss = sum(torch.sin(q + step).sum() for q in other)
        for q, (l1, l2) in zip(other, (first, first, second, second), strict=True):
            if bias or q.ndim > 1:
                loss = loss + l1 * q.abs().sum() + l2 * (q * q).sum()
        loss.backward()
        opt.step()
        twin.step()
    for p, q in zip(own, other, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("disable", [(), ("update",)], ids=["in backward", "after backward"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_steps_are_those_of_the_loop_in_float64(kind: str, bias: bool, disable: tuple[str, ...]) -> None:
    """Within the bounds of the same optimisers without penalties; also where the penalty changes between steps."""
    model, exact, start = networks.mlp(), networks.mlp().double(), networks.mlp()
    options = {"l1": 0.01, "l2": 0.02, "penalize_bias": bias, **KINDS[kind]}
    optimizer, optimizer_exact = (getattr(optim, kind)(m.parameters(), **options) for m in (model, exact))
    step = fnn.compile(model, LOSS, optimizer, disable=disable)
    for i in range(6):
        for opt in (optimizer, optimizer_exact):
            opt.param_groups[0]["l1"] = (0.01, 0.01, 0.05, 0.0, 0.0, 0.02)[i]
            opt.param_groups[0]["penalize_bias"] = bias != (i == 4)
        x, y = networks.batch_for(networks.mlp, 16, i)
        loss = LOSS(exact(networks.wide(x)), y)
        loss.backward()
        optimizer_exact.step()
        optimizer_exact.zero_grad()
        assert step(x, y) == pytest.approx(loss.item(), rel=1e-4)  # the data's loss alone
    assert optimizer.penalty() == pytest.approx(optimizer_exact.penalty(), rel=1e-4)
    bound = 2e-4 if kind == "SGD" else 2e-3
    for (name, p), q, before in zip(model.named_parameters(), exact.parameters(), start.parameters(), strict=True):
        moved = float(np.abs(q.data - before.data).max())
        assert float(np.abs(p.data - q.data).max()) <= bound * moved, name


def test_penalties_are_added_once_an_update() -> None:
    """Whatever the number of batches collected for it; what is clipped is the data's gradient."""
    x, y = networks.batch_for(networks.mlp, 16)
    found = []
    for options in ({}, {"accumulate": 3}, {"clip_norm": 1e9}):
        model = networks.mlp()
        step = fnn.compile(model, LOSS, optim.SGD(model.parameters(), lr=0.1, l2=0.5), **options)
        for _ in range(options.get("accumulate", 1)):
            step(x, y)
        found.append(np.concatenate([p.data.reshape(-1) for p in model.parameters()]))
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    np.testing.assert_allclose(found[2], found[0], atol=1e-6)


def test_ridge_is_the_closed_form() -> None:
    """min mean (y - Xw)² + l2 ‖w‖²: w = (XᵀX / n + l2 I)⁻¹ Xᵀy / n, without penalty on the bias."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    y = x @ [[1.0], [-2.0], [0.5]] + 3
    model = nn.Linear(3, 1).double()
    opt = optim.SGD(model.parameters(), lr=0.2, l2=0.3)
    for _ in range(500):
        opt.zero_grad()
        nn.MSELoss()(model(x), y).backward()
        opt.step()
    centred, target = x - x.mean(axis=0), y - y.mean()
    w = np.linalg.solve(centred.T @ centred / 50 + 0.3 * np.eye(3), centred.T @ target / 50)
    np.testing.assert_allclose(model.weight.data, w.T, rtol=1e-9)
    assert model.bias is not None
    np.testing.assert_allclose(model.bias.data, y.mean() - x.mean(axis=0) @ w, rtol=1e-9)


class Look(fnn.train.Callback):
    """The penalty of a linear model before each update, by the formula."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_epoch_begin(self, training: fnn.train.Training) -> None:
        self.look(training)

    def on_batch_end(self, training: fnn.train.Training) -> None:
        if training.batch < len(training.batches):
            self.look(training)

    def look(self, training: fnn.train.Training) -> None:
        self.seen.append(value_of(0.01, 0.1, training.model[0].weight.data.astype(np.float64)))


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize(("batch_size", "shares"), [("full", [1.0]), (8, [8 / 12, 4 / 12])])
def test_fit_reports_it_apart_from_the_loss(
    batch_size: Any, shares: list[float], compile: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before each update, as the loss; both against the formulas, in full-batch mode and as means over batches."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)).astype(np.float32), np.arange(12) % 3
    model, look = nn.Sequential(nn.Linear(5, 3)), Look()
    logits = x @ model[0].weight.data.T + model[0].bias.data
    loss = float(np.mean(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), y]))
    history = fnn.fit(
        model, (x, y), batch_size=batch_size, epochs=2, callbacks=[look], compile=compile,
        optimizer=optim.SGD(model.parameters(), lr=0.5, l1=0.01, l2=0.1),
    )  # fmt: skip
    for epoch, penalties in enumerate(np.reshape(look.seen, (2, len(shares)))):
        assert history[epoch].penalty == pytest.approx(np.dot(shares, penalties), rel=1e-5)
    if batch_size == "full":
        assert history[0].train_loss == pytest.approx(loss, rel=1e-5)
    _, *shown = capsys.readouterr().out.splitlines()  # the first line is the loss that was chosen
    assert "penalty" in shown[0]
    assert f"{history[0].penalty:.4f}" in shown[1]


def test_penalty_of_none() -> None:
    w = nn.Parameter(np.ones((2, 2), np.float32))
    opt = optim.SGD([w], lr=0.1)
    assert opt.penalty() is None
    opt.param_groups[0]["l2"] = 0.5
    assert opt.penalty() == 2.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w, b: optim.SGD([w], l1=-1), "SGD: expected l1 of at least 0, got -1"),
        (lambda w, b: optim.Adam([b], l2=0.1), "Adam: expected penalize_bias=True with l1 or l2"),
        (lambda w, b: optim.SGD([{"params": [w]}, {"params": [b], "l1": 0.1}]), "expected penalize_bias=True"),
    ],
)
def test_what_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make(nn.Parameter(np.ones((2, 2), np.float32)), nn.Parameter(np.ones(2, np.float32)))


def test_a_group_of_biases_may_go_without() -> None:
    w, b = nn.Parameter(np.ones((2, 2), np.float32)), nn.Parameter(np.ones(2, np.float32))
    assert optim.SGD([{"params": [b]}, {"params": [w]}], l2=0.5).penalty() == 2.0
