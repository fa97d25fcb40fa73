"""GradientDescent: Armijo's condition by hand, and descent that is guaranteed: eagerly, in fit, with penalties."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, NonFiniteError

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
Y = (np.arange(40) % 3).astype(np.int64)


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(fnn.Tensor(np.array(values)))


def closure_of(w: nn.Parameter, opt: optim.Optimizer, function: Any) -> Any:
    def closure() -> Any:
        opt.zero_grad()
        loss = function(w)
        loss.backward()
        return loss

    return closure


def network() -> nn.Sequential:
    fnn.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


# ---- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("c", "lr", "alpha", "w"),
    [
        (1e-4, 0.5, 1.0, 0.0),  # to the minimum at once
        (1e-4, 1.0, 0.5, 0.0),  # 3 - 6 = -3 gives the same value: not a decrease
        (0.4, 1.0, 0.5, 0.0),  # 9 - 0 is at least 0.4 · 0.5 · 36
        (0.6, 1.0, 0.25, 1.5),  # 9 - 0 is not 0.6 · 0.5 · 36 = 10.8; 9 - 2.25 is 0.6 · 0.25 · 36 = 5.4
    ],
)
def test_armijo_by_hand(c: float, lr: float, alpha: float, w: float) -> None:
    """R = w² at w = 3, with the gradient 6."""
    p = parameter(3.0)
    opt = optim.GradientDescent([p], lr=lr, c=c)
    assert opt.alpha is None
    assert opt.step(closure_of(p, opt, lambda w: (w * w).sum())).item() == 9
    assert (opt.alpha, p.item()) == (alpha, w)
    assert opt.trials == {1.0: 1, 0.5: 2, 0.25: 3}[alpha]


def test_contraction_and_groups() -> None:
    """R = a² + 8 b² at (1, 1), rates 0.5 and 2, ρ = 0.25: the trials are (0, -31), (0.75, -7), (0.9375, -1)."""
    a, b = parameter(1.0), parameter(1.0)
    opt = optim.GradientDescent([{"params": [a]}, {"params": [b], "lr": 2.0}], lr=0.5, contraction=0.25)

    def closure() -> Any:
        opt.zero_grad()
        loss = (a * a).sum() + 8 * (b * b).sum()
        loss.backward()
        return loss

    opt.step(closure)
    assert (opt.alpha, a.item(), b.item()) == (1 / 16, 0.9375, -1.0)


def test_at_the_minimum_nothing_moves_and_it_says_so() -> None:
    p = parameter(0.0, 0.0)
    opt = optim.GradientDescent([p])
    opt.step(closure_of(p, opt, lambda w: (w * w).sum()))
    assert (opt.alpha, opt.trials) == (0.0, 0)


def test_where_nothing_descends_the_parameters_stay_bit_for_bit() -> None:
    """The closure's gradient points the wrong way, by mistake."""
    p = parameter(0.1, -0.7, 1e-30)
    before = p.data.tobytes()
    opt = optim.GradientDescent([p], max_trials=10)

    def closure() -> float:
        p.grad = -2 * p.data
        return float(np.square(p.data).sum())

    opt.step(closure)
    assert (opt.alpha, opt.trials) == (0.0, 10)
    assert p.data.tobytes() == before


def test_trials_that_leave_the_domain_are_too_long() -> None:
    """-ln w at 0.1 with rate 1 is fine; w - ln w at 2 with rate 10 goes to -3: NaN, or an error of the closure's."""
    for raises in (False, True):
        p = parameter(2.0)
        opt = optim.GradientDescent([p], lr=10.0)

        def closure(p: nn.Parameter = p, raises: bool = raises) -> float:
            with np.errstate(invalid="ignore"):
                value = float((p.data - np.log(p.data))[0])
            if raises and not np.isfinite(value):
                raise NonFiniteError("the loss became nan")
            p.grad = 1 - 1 / p.data
            return value

        opt.step(closure)
        assert opt.alpha == 0.25  # 2 - 2.5 and 2 - 5 are below 0, 2 - 1.25 is above
        assert p.item() == 0.75


def test_an_error_at_a_trial_puts_the_parameters_back() -> None:
    p = parameter(3.0)
    opt = optim.GradientDescent([p])
    calls = itertools.count()

    def closure() -> float:
        if next(calls):
            raise RuntimeError("out of luck")
        p.grad = np.array([6.0])
        return 9.0

    with pytest.raises(RuntimeError):
        opt.step(closure)
    assert p.item() == 3.0


def test_lasso_keeps_zeros_and_descends_to_the_closed_form() -> None:
    """min ½‖w - a‖² + l1 ‖w‖₁: soft thresholding, from a start on the kink."""
    a = np.array([[2.0, -0.3, 0.05, -3.0]])
    p = nn.Parameter(fnn.Tensor(np.array([[0.0, 0.0, 0.0, 1.0]])))
    opt = optim.GradientDescent([p], lr=1.0, l1=0.5)
    values = []
    for _ in range(60):
        loss = opt.step(closure_of(p, opt, lambda w: 0.5 * ((w - a) * (w - a)).sum()))
        values.append(loss.item() + 0.5 * float(np.abs(p.data).sum()))
    np.testing.assert_allclose(p.data, np.sign(a) * np.maximum(np.abs(a) - 0.5, 0), atol=1e-6)
    assert p.data[0, 1] == p.data[0, 2] == 0


@pytest.mark.parametrize("options", [{}, {"l1": 0.01, "l2": 0.02}, {"lr": 1000.0}], ids=str)
def test_every_step_descends_until_none_can(options: dict[str, Any]) -> None:
    """A quadratic of condition 1000, in float64, followed until rounding ends it; R is computed by NumPy."""
    h = np.diag(np.geomspace(1e-3, 1, 5))
    p = nn.Parameter(fnn.Tensor(np.full((1, 5), 2.0)))
    opt = optim.GradientDescent([p], **{"lr": 4.0, **options})
    values = []
    for _ in range(400):
        opt.step(closure_of(p, opt, lambda w: 0.5 * (w @ h * w).sum()))
        w = p.data
        penalty = options.get("l1", 0) * np.abs(w).sum() + options.get("l2", 0) * np.square(w).sum()
        values.append(float(0.5 * (w @ h @ w.T).item() + penalty))
        if opt.alpha == 0:
            break
    moved = values if opt.alpha else values[:-1]
    assert all(b < a for a, b in itertools.pairwise(moved))
    assert len(moved) > 5


# ---- in fit ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("options", [{}, {"l1": 0.003, "l2": 0.01}], ids=str)
def test_fit_descends_in_every_epoch(compile: bool, options: dict[str, float]) -> None:
    model = network()
    optimizer = optim.GradientDescent(model.parameters(), lr=64.0, **options)
    history = fnn.fit(model, (X, Y), optimizer=optimizer, batch_size="full", epochs=40, verbose=False, compile=compile)
    values = [record.train_loss + (record.penalty or 0) for record in history]
    assert all(b < a for a, b in itertools.pairwise(values))
    assert values[-1] < 0.9 * values[0]
    assert optimizer.trials > 1, "this rate was never too large: the test could not fail"


def test_fit_compiled_and_eager_take_the_same_steps() -> None:
    found = []
    for compile in (False, True):
        model = network()
        optimizer = optim.GradientDescent(model.parameters(), lr=8.0)
        history = fnn.fit(
            model, (X, Y), optimizer=optimizer, batch_size="full", epochs=5, verbose=False, compile=compile
        )
        found.append(history["train_loss"])
        assert all(p.grad is None for p in model.parameters())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)


def test_fit_ends_where_no_step_descends() -> None:
    """And says so; the last epoch, which left the model as it was, is recorded."""
    model = nn.Sequential(nn.Linear(6, 1))
    target = X @ np.ones((6, 1), np.float32)
    history = fnn.fit(
        model, (X, target), loss=nn.MSELoss(), optimizer=optim.GradientDescent(model.parameters()),
        batch_size="full", epochs=3000, verbose=False,
    )  # fmt: skip
    assert len(history) < 3000
    assert history[-1].train_loss < 1e-6


@pytest.mark.parametrize("compile", [False, True])
def test_trials_leave_the_statistics_of_batch_norm_alone(compile: bool) -> None:
    """One batch an epoch, at the point where the step begins; accuracies are that point's, too."""
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, momentum=1.0), nn.Linear(5, 3))
    before = copy.deepcopy(model).double()
    optimizer = optim.GradientDescent(model.parameters(), lr=100.0)
    history = fnn.fit(model, (X, Y), optimizer=optimizer, batch_size="full", epochs=1, verbose=False, compile=compile)
    assert optimizer.trials > 1
    outputs = before(X.astype(np.float64)).data
    assert model[1].num_batches_tracked == 1
    np.testing.assert_allclose(model[1].running_mean, before[1].running_mean, rtol=1e-5, atol=1e-6)
    assert history[0].train_accuracy == np.mean(outputs.argmax(axis=1) == Y)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: optim.GradientDescent(p, c=1.0), "expected c between 0 and 1, got 1.0"),
        (lambda p: optim.GradientDescent(p, contraction=0), "expected contraction between 0 and 1, got 0"),
        (lambda p: optim.GradientDescent(p, max_trials=0), "expected max_trials of at least 1, got 0"),
        (lambda p: optim.GradientDescent(p).step(), "expected a closure that computes the loss, got none"),
    ],
)
def test_arguments_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        make([parameter(1.0)])


def test_what_would_break_the_guarantee() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5))
    optimizer = optim.GradientDescent(model.parameters())
    with pytest.raises(ArgumentError, match="expected one batch of all samples for GradientDescent, got 3 batches"):
        fnn.fit(model, (X, Y), optimizer=optimizer, batch_size=16, verbose=False)
    with pytest.raises(ArgumentError, match="expected a model that gives the same loss for the same parameters"):
        fnn.fit(model, (X, Y), optimizer=optimizer, batch_size="full", verbose=False)
    with pytest.raises(ArgumentError, match="got GradientDescent, which looks at the loss of each trial"):
        fnn.compile(model, nn.CrossEntropyLoss(), optimizer)
