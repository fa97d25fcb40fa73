"""Losses that cannot be right for the data, and trainings with nothing to train: told before anything is updated."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, FastnnError, LabelError
from fastnn.tensors import Tensor
from fastnn.train import evaluate, fit

RNG = np.random.default_rng(0)
N, FEATURES = 12, 4
X = RNG.standard_normal((N, FEATURES)).astype(np.float32)
VALUES = (10 * RNG.standard_normal(N)).astype(np.float32)  # of a regression
CLASSES = RNG.integers(0, 3, N)
ONE_HOT = np.eye(3, dtype=np.float32)[CLASSES]
SEVERAL = (RNG.random((N, 3)) < 0.5).astype(np.float32)  # several classes at once
compiled = pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "eager"])

CROSS = nn.CrossEntropyLoss()

# outputs, targets, loss, the error, and what it says to pass
WRONG: dict[str, tuple[int, np.ndarray, Any, type[FastnnError], str]] = {
    "regression (N, 1)": (1, VALUES[:, None], CROSS, ArgumentError, r"loss=nn\.MSELoss\(\)"),
    "regression (N,)": (1, VALUES, CROSS, LabelError, r"loss=nn\.MSELoss\(\)"),
    "regression (N,), three outputs": (3, VALUES, None, LabelError, "give the model one output"),
    "regression (N, 3)": (3, RNG.standard_normal((N, 3)), CROSS, LabelError, r"loss=nn\.MSELoss\(\)"),
    "classes as floats": (3, CLASSES.astype(np.float32), None, LabelError, r"labels\.astype\(int\)"),
    "classes as floats, given": (3, CLASSES.astype(float), nn.CrossEntropyLoss(), LabelError, r"labels\.astype\(int\)"),
    "a single class": (1, np.zeros(N, int), None, ArgumentError, "two outputs"),
    "several classes at once": (3, SEVERAL, CROSS, LabelError, r"nn\.BCEWithLogitsLoss\(\)"),
    "negative probabilities": (3, ONE_HOT * 3 - 2 / 3, CROSS, LabelError, "at least 0"),
    "half of a distribution": (3, ONE_HOT / 2, CROSS, LabelError, r"sum of 0\.5 in row 0"),
    "bytes for bits": (3, ONE_HOT * 255, nn.BCEWithLogitsLoss(), LabelError, "from 0 to 1"),
    "signs for bits": (1, np.sign(VALUES)[:, None], nn.BCEWithLogitsLoss(), LabelError, "from 0 to 1"),
    "classes for bits": (3, CLASSES, nn.BCEWithLogitsLoss(), LabelError, r"nn\.CrossEntropyLoss\(\)"),
    "logits for logarithms": (3, CLASSES, nn.NLLLoss(), ArgumentError, r"nn\.LogSoftmax\(\)"),
    "classes for numbers": (3, CLASSES, nn.MSELoss(), FastnnError, "CrossEntropyLoss"),
    "(N,) for (N, 1) in a loss of one's own": (
        1, VALUES, lambda outputs, y: ((outputs - y) ** 2).mean(), ArgumentError, r"targets\[:, np\.newaxis\]"
    ),
}  # fmt: skip


def model_of(outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(FEATURES, 5), nn.BatchNorm1d(5), nn.Linear(5, outputs))


@compiled
@pytest.mark.parametrize("name", WRONG)
def test_fit_says_what_to_pass_before_the_first_update(name: str, compiled: bool) -> None:
    outputs, targets, loss, error, message = WRONG[name]
    model = model_of(outputs)
    before = {key: value.copy() for key, value in model.state_dict().items()}
    with pytest.raises(error, match=message):
        fit(model, (X, targets), loss=loss, batch_size=4, verbose=False, compile=compiled)
    assert all(np.array_equal(before[key], value) for key, value in model.state_dict().items())


@compiled
@pytest.mark.parametrize("name", WRONG)
def test_evaluate_says_it_too(name: str, compiled: bool) -> None:
    outputs, targets, loss, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        evaluate(model_of(outputs), (X, targets), loss=loss, compile=compiled)


RIGHT: dict[str, tuple[int, np.ndarray, Any]] = {
    "labels": (3, CLASSES, None),
    "labels of more outputs than classes": (7, CLASSES, None),
    "small integers": (3, CLASSES.astype(np.uint8), None),
    "one-hot": (3, ONE_HOT, None),
    "one-hot integers": (3, ONE_HOT.astype(int), None),
    "soft": (3, 0.9 * ONE_HOT + 0.1 / 3, None),
    "soft, float64": (3, np.exp(X[:, :3]) / np.exp(X[:, :3].astype(float)).sum(1, keepdims=True), None),
    "one class among three": (3, np.ones(N, int), None),
    "bits": (3, SEVERAL, nn.BCEWithLogitsLoss()),
    "bits by themselves": (3, SEVERAL, None),
    "values by themselves": (1, VALUES, None),
    "shares": (1, RNG.random((N, 1)).astype(np.float32), nn.BCEWithLogitsLoss()),
    "regression": (1, VALUES[:, None], nn.MSELoss()),
    "regression of three": (3, ONE_HOT * 100, nn.MSELoss()),
    "own loss": (1, VALUES[:, None], lambda outputs, targets: ((outputs - targets) ** 2).mean()),
    "own loss of a column": (1, VALUES, lambda outputs, targets: ((outputs[:, 0] - targets) ** 2).mean()),
    "own loss of classes": (3, CLASSES, lambda outputs, targets: nn.CrossEntropyLoss()(outputs, targets)),
}


@compiled
@pytest.mark.parametrize("name", RIGHT)
def test_what_can_be_right_is_trained_and_measured(name: str, compiled: bool) -> None:
    outputs, targets, loss = RIGHT[name]
    model = model_of(outputs)
    fit(model, (X, targets), loss=loss, batch_size=4, verbose=False, compile=compiled)
    assert np.isfinite(evaluate(model, (X, targets), loss=loss, compile=compiled).loss)


def test_logarithms_of_probabilities_are_taken() -> None:
    model = nn.Sequential(model_of(3), nn.LogSoftmax(dim=1))
    fit(model, (X, CLASSES), loss=nn.NLLLoss(), batch_size=4, verbose=False)
    assert np.isfinite(evaluate(model, (X, CLASSES), loss=nn.NLLLoss()).loss)


# ---- nothing to train ----------------------------------------------------------------------------------------------


class CutOff(nn.Module):
    """Its outputs have values and no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, 3)

    def forward(self, x: Any) -> Tensor:
        return self.linear(x).detach() + 0


class HalfReached(nn.Module):
    """`unused` is held, and never used."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.linear = nn.Linear(FEATURES, 3), nn.Linear(FEATURES, 3)

    def forward(self, x: Any) -> Tensor:
        return self.linear(x)


def frozen() -> nn.Module:
    return model_of(3).requires_grad_(False)


def head_frozen() -> nn.Module:
    model = model_of(3)
    model[2].requires_grad_(False)
    return model


def sgd(parameters: Any) -> optim.Optimizer:
    return optim.SGD(parameters, lr=0.1)


NOTHING: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Any], Any]] = {
    "frozen": (frozen, lambda m: None, None),
    "frozen, with an optimiser": (frozen, lambda m: sgd(m.parameters()), None),
    "what the optimiser holds is frozen": (head_frozen, lambda m: sgd(m[2].parameters()), None),
    "cut off": (CutOff, lambda m: sgd(m.parameters()), None),
    "what the optimiser holds is not used": (HalfReached, lambda m: sgd(m.unused.parameters()), None),
    "the loss is cut off": (
        lambda: model_of(3), lambda m: sgd(m.parameters()), lambda o, y: nn.CrossEntropyLoss()(o.detach(), y)
    ),
    "backtracking, cut off": (CutOff, lambda m: optim.GradientDescent(m.parameters()), None),
    "backtracking, frozen": (frozen, lambda m: optim.GradientDescent(m.parameters()), None),
}  # fmt: skip


@compiled
@pytest.mark.parametrize("name", NOTHING)
def test_nothing_to_train_is_said_before_the_first_epoch(name: str, compiled: bool) -> None:
    make, optimizer_of, loss = NOTHING[name]
    model = make()
    before = {key: value.copy() for key, value in model.state_dict().items()}
    with pytest.raises(ArgumentError, match=r"frozen|reaches none|holds none"):
        fit(
            model, (X, CLASSES), loss=loss, optimizer=optimizer_of(model), batch_size="full", verbose=False,
            compile=compiled,
        )  # fmt: skip
    assert all(np.array_equal(before[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", [name for name in NOTHING if not name.startswith("backtracking")])
def test_compile_says_it_too(name: str) -> None:
    make, optimizer_of, loss = NOTHING[name]
    model = make()
    step = fnn.compile(model, loss or nn.CrossEntropyLoss(), optimizer_of(model) or sgd(model.parameters()))
    with pytest.raises(ArgumentError, match=r"frozen|holds none"):
        step(X, CLASSES)


@compiled
def test_a_part_that_is_frozen_or_not_reached_is_fine(compiled: bool) -> None:
    for make in (head_frozen, HalfReached):
        model = make()
        history = fit(model, (X, CLASSES), epochs=2, batch_size="full", verbose=False, compile=compiled)
        assert history[1].train_loss < history[0].train_loss


def test_losses_and_optimisers_by_name() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0], [0.5]], np.float32)).astype(np.float32)

    def trained(loss: Any, make: Any) -> list[float]:
        fnn.manual_seed(0)
        model = nn.Linear(3, 1)
        fnn.fit(model, (x, y), loss=loss, optimizer=make(model), epochs=3, batch_size=8, verbose=False)
        return [fnn.evaluate(model, (x, y), loss=loss).loss, *model.weight.data.ravel().tolist()]

    assert trained("mse", lambda _: "sgd") == trained(
        nn.MSELoss(), lambda model: optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    )
    assert trained("mae", lambda _: "adam") == trained(nn.L1Loss(), lambda model: optim.Adam(model.parameters()))
    for options, message in (
        ({"loss": "msee"}, "expected loss to be one of .*: did you mean 'mse'"),
        ({"loss": "mse", "optimizer": "adem"}, "expected optimizer to be one of .*: did you mean 'adam"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fnn.fit(nn.Linear(3, 1), (x, y), verbose=False, **options)
    with pytest.raises(ArgumentError, match="evaluate: expected loss to be one of"):
        fnn.evaluate(nn.Linear(3, 1), (x, y), loss="hubert")


@pytest.mark.parametrize(("size", "said"), [(1.0, ""), (250.0, ""), (2e5, "2e+05"), (3e-6, "3e-06")])
def test_targets_far_from_one_are_said_to_be(size: float, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3))
    fit(nn.Linear(3, 1), x, np.where(np.arange(20) % 2, size, -size), verbose="epoch")
    first = capsys.readouterr().out.splitlines()[0]
    assert first.partition("targets")[2].partition("divide y by ")[2] == said


@pytest.mark.parametrize(
    ("y", "metric", "said"), [(VALUES, "f1", "of values .* mae, mse"), (CLASSES, "r2", "of classes")]
)
def test_a_metric_of_something_else_is_refused(y: np.ndarray, metric: str, said: str) -> None:
    model = nn.Linear(FEATURES, 1 if y is VALUES else 3)
    with pytest.raises(ArgumentError, match=f"fit: expected a metric {said}"):
        fit(model, X, y, val=0.5, metrics=[metric], verbose=False)
    with pytest.raises(ArgumentError, match=f"evaluate: expected a metric {said}"):
        evaluate(model, X, y, metrics=[metric])
    assert evaluate(model, X, y, metrics=["mae" if y is VALUES else "f1"]).metrics


def test_a_cycle_that_is_too_short_is_refused_before_anything_is_trained() -> None:
    model = nn.Linear(FEATURES, 3)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    cycle = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2)
    before = model.weight.data.copy()
    with pytest.raises(ArgumentError, match=r"OneCycleLR\(total_steps=6\), since it counts batches, .* 3 in each of 2"):
        fit(model, X, CLASSES, optimizer=optimizer, scheduler=cycle, epochs=2, batch_size=4, verbose=False)
    np.testing.assert_array_equal(model.weight.data, before)
    cycle = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=6)
    for _ in range(2):  # one after the other
        fit(model, X, CLASSES, optimizer=optimizer, scheduler=cycle, epochs=1, batch_size=4, verbose=False)


@compiled
def test_lists_of_classes_are_integers_for_the_loss_that_takes_them(compiled: bool) -> None:
    x = np.eye(4, dtype=np.float32)
    y = np.array([[0, -1, 0], [2, 1, -1], [1, -1, 2], [0, 1, 2]])
    model = nn.Sequential(nn.Linear(4, 3))
    torch = pytest.importorskip("torch")
    logits = torch.tensor(np.array(model(x).detach()))
    expected = torch.nn.functional.multilabel_margin_loss(logits, torch.tensor(y)).item()
    assert fnn.evaluate(model, (x, y), loss=nn.MultiLabelMarginLoss()).loss == pytest.approx(expected, rel=1e-6)
    history = fnn.fit(model, (x, y), loss=nn.MultiLabelMarginLoss(), compile=compiled, verbose=False)
    assert history["train_loss"] == [pytest.approx(expected, rel=1e-6)]


@pytest.mark.parametrize(
    ("last", "outputs", "loss", "said"),
    [
        (nn.Sigmoid(), 1, None, "ends in Sigmoid: leave nn.Sigmoid out, or pass loss=nn.BCELoss()"),
        (nn.Sequential(nn.Sigmoid()), 1, "bce_with_logits", "ends in Sigmoid"),
    ],
)
def test_a_model_that_ends_in_what_the_loss_does(last: Any, outputs: int, loss: Any, said: str) -> None:
    """A sigmoid's outputs are above 0, so that as logits they are all a yes."""
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    model = nn.Sequential(nn.Linear(3, outputs), last)
    for call in (fnn.fit, fnn.evaluate):
        with pytest.raises(ArgumentError, match=re.escape(said)):
            call(model, x, y, loss=loss)


@pytest.mark.parametrize("loss", [None, nn.CrossEntropyLoss()])
def test_a_softmax_before_cross_entropy_is_told(loss: Any) -> None:
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    model = nn.Sequential(nn.Linear(3, 2), nn.Softmax(1))
    for call in (fnn.fit, fnn.evaluate):
        with pytest.warns(UserWarning, match="ends in Softmax: leave nn.Softmax out: predict_proba gives the prob"):
            call(model, x, (x[:, 0] > 0).astype(int), loss=loss)


def test_probabilities_of_a_softmax_are_its_outputs() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    model = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1))
    np.testing.assert_array_equal(fnn.predict_proba(model, x), fnn.compile(model)(x))
    np.testing.assert_allclose(fnn.predict_proba(model[:1], x), fnn.predict_proba(model, x), rtol=1e-5)
