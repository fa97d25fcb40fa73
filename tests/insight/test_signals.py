"""Signal reports: means, spreads, saturation, dead units and gradients by hand and by the definition; recording."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, MissingExtraError
from fastnn.insight import SignalRecorder, SignalReport


def layer(report: SignalReport, name: str) -> Any:
    return next(signal for signal in report if signal.name == name)


def test_a_network_by_hand() -> None:
    """Two rows through W = [[1], [-2]], ReLU, a second weight of 3; loss = mean of (y - t)².

    x = (1, 2): Wx = (1, -2), (2, -4): ReLU (1, 0), (2, 0): the second unit is dead. y = 3, 6; y - t = 1, -1.
    Gradients: of y (2·1/2, -2/2) = (1, -1); of ReLU (3, 3), (-3, -3); of Wx (3, 0), (-3, 0); of the second weight
    1·1 - 1·2 = -1 and 0; of W 3·1 - 3·2 = -3 and 0; of x 3·1 + 0, -3.
    """
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    model[0].weight.data[...] = [[1], [-2]]
    model[2].weight.data[...] = 3
    report = fnn.signal_report(model, np.array([[1.0], [2.0]]), np.array([[2.0], [7.0]], np.float32), nn.MSELoss())
    assert [signal.name for signal in report] == ["input", "0 linear", "1 relu", "2 linear"]
    assert report.loss == 1
    assert report["mean"] == [1.5, -0.75, 0.75, 4.5]
    assert report["std"] == pytest.approx([0.5, np.std([1, -2, 2, -4]), np.std([1, 0, 2, 0]), 1.5])
    assert report["dead"] == [None, None, 0.5, None]
    assert report["saturated"] == [None] * 4
    assert report["gradient"] == pytest.approx([math.sqrt(18), math.sqrt(18), 6, math.sqrt(2)])
    assert report["parameter_gradient"] == [None, pytest.approx(3), None, pytest.approx(1)]


def test_saturation_is_a_slope_below_a_twentieth_of_the_steepest() -> None:
    """sigmoid'(x)/sigmoid'(0) = sech²(x/2) < 0.05 where |x| > 2 arcosh(√20) = 4.357; for tanh where |x| > 2.178."""
    edge = math.acosh(math.sqrt(20))
    x = np.array([[0.0, edge - 0.01, edge + 0.01, -edge - 0.01]], np.float32)
    scale = nn.Linear(4, 4, bias=False)
    for activation, factor in ((nn.Tanh(), 1), (nn.Sigmoid(), 2)):
        scale.weight.data[...] = factor * np.eye(4)
        report = fnn.signal_report(nn.Sequential(scale, activation), x, np.array([0]))
        assert report[-1].saturated == 0.5
        assert report[-1].dead is None


def test_dead_channels_of_images(rng: np.random.Generator) -> None:
    """A channel that is positive at one place of one image lives."""
    x = -np.ones((3, 4, 5, 5), np.float32)
    x[2, 1, 3, 3] = 1
    report = fnn.signal_report(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(100, 2)), x, np.array([0, 1, 0]))
    assert layer(report, "0 relu").dead == 0.75


def test_gradients_agree_with_backward(rng: np.random.Generator) -> None:
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 4))
    x, y = rng.normal(size=(5, 1, 6, 6)).astype(np.float32), np.array([0, 1, 2, 3, 0])
    report = fnn.signal_report(model, x, y)
    nn.CrossEntropyLoss()(model(x), y).backward()
    for name in ("0 conv2d", "1 batch_norm_training", "4 linear"):
        module = model[int(name[0])]
        expected = math.hypot(np.linalg.norm(module.weight.grad), np.linalg.norm(module.bias.grad))
        assert layer(report, name).parameter_gradient == pytest.approx(expected, rel=1e-5)
        assert layer(report, name).shape[0] == 5


def test_signals_are_seen_under_no_grad_too(rng: np.random.Generator) -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), rng.normal(size=(5, 3))
    expected = repr(fnn.signal_report(model, x, np.arange(5) % 4))
    with fnn.no_grad():
        assert repr(fnn.signal_report(model, x, np.arange(5) % 4)) == expected


def test_the_model_is_left_as_it_was(rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Normalize(0.5, 0.5), nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    model[2].weight.grad = np.ones((8, 16), np.float32)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = fnn.random.get_state()
    report = fnn.signal_report(model, rng.integers(0, 255, (4, 1, 4, 4), np.uint8), np.zeros(4, int))
    assert fnn.random.get_state() == state
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert (model[2].weight.grad == 1).all()
    assert model.training
    assert layer(report, "4 dropout").std > layer(report, "3 batch_norm_training").std  # what is kept is doubled


def test_uint8_is_put_on_scale_and_normalisation_is_seen() -> None:
    images = np.full((2, 1, 2, 2), 51, np.uint8)
    report = fnn.signal_report(nn.Sequential(nn.Normalize(0.1, 0.5), nn.Flatten(), nn.Linear(4, 2)), images, [0, 1])
    assert report["mean"][:2] == pytest.approx([0.2, 0.2])  # 51/255, and (0.2 - 0.1) / 0.5


def test_what_a_models_own_forward_computes_is_seen() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 4)

        def forward(self, x: Any) -> Any:
            return self.first(x).relu() * 2

    report = fnn.signal_report(Net(), np.ones((2, 3)), np.array([0, 1]))
    assert [signal.name for signal in report] == ["input", "first linear", "relu", "×"]
    assert layer(report, "relu").dead is not None


def test_the_table(rng: np.random.Generator) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid())
    lines = repr(fnn.signal_report(model, rng.normal(size=(2, 3)), np.array([0, 1]))).splitlines()
    assert lines[0].split() == ["layer", "shape", "mean", "std", "saturated", "gradient", "of", "parameters"]
    assert [line.split()[0] for line in lines[1:]] == ["input", "0", "1"]
    assert "0.0 %" in lines[3]


def test_bad_input_is_refused() -> None:
    model = nn.Linear(3, 4)
    with pytest.raises(ArgumentError, match="expected a model"):
        fnn.signal_report(lambda x: x, np.ones((2, 3)), [0, 1])  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"a loss of one number, got shape \(2,\)"):
        fnn.signal_report(model, np.ones((2, 3)), [0, 1], nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(ArgumentError, match=r"a loss such as nn.CrossEntropyLoss\(\), got"):
        fnn.signal_report(model, np.ones((2, 3)), [0, 1], "ce")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match=r"one image or more, got shape \(0, 3\)"):
        fnn.signal_report(model, np.ones((0, 3)), [])
    with pytest.raises(ArgumentError, match="depends on the model's outputs"):
        fnn.signal_report(model, np.ones((2, 3)), [0, 1], lambda outputs, y: fnn.Tensor([1.0]))
    report = fnn.signal_report(model, np.ones((2, 3)), [0, 1])
    with pytest.raises(ArgumentError, match=r"expected one of layer, .* got 'loss'"):
        report["loss"]
    with pytest.raises(ArgumentError, match=r"fit\(..., callbacks=\[it\]\)"):
        SignalRecorder(np.ones((2, 3)), [0, 1]).plot()


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_the_plot_shows_the_numbers(rng: np.random.Generator) -> None:
    pytest.importorskip("matplotlib")
    model = nn.Sequential(nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    report = fnn.signal_report(model, rng.normal(size=(20, 3)), rng.integers(0, 2, 20))
    signal, share, gradient, of_parameters = report.plot().axes
    assert [label.get_text() for label in signal.get_yticklabels()] == [layer.name for layer in report]
    assert list(signal.lines[0].get_xdata()) == report["mean"]
    assert [patch.get_width() for patch in share.patches] == [report[2].saturated, report[4].dead]
    assert list(gradient.lines[0].get_xdata()) == report["gradient"]
    assert list(of_parameters.lines[0].get_xdata()) == [report[i].parameter_gradient for i in (1, 3, 5)]
    assert list(of_parameters.lines[0].get_ydata()) == [1, 3, 5]


def test_a_training_recorded() -> None:
    """The reports are those of the model as it was then; compiled steps come to the same as without recording."""
    pytest.importorskip("matplotlib")
    digits = fnn.data.load("digits", split="test").subset(slice(64))

    def trained(*callbacks: Any) -> nn.Sequential:
        fnn.manual_seed(0)
        model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.ReLU(),
                              nn.Dropout(0.2), nn.Linear(8, 10))  # fmt: skip
        fnn.fit(model, digits, epochs=3, seed=0, verbose=False, callbacks=callbacks)
        return model.train()

    recorder = SignalRecorder(digits.images, digits.labels)
    model, other = trained(recorder), trained()
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])
    assert list(recorder.reports) == [0, 1, 2, 3]
    now = fnn.signal_report(model, digits.images, digits.labels)
    assert recorder.reports[3]["std"][:3] == pytest.approx(now["std"][:3])
    assert recorder.reports[0]["std"] != recorder.reports[3]["std"]
    spread, share, gradient, of_parameters = recorder.plot().axes
    assert [len(axes.lines) for axes in (spread, share, gradient, of_parameters)] == [7, 1, 7, 3]
    third = [recorder.reports[epoch][2].std for epoch in range(4)]
    assert list(spread.lines[2].get_ydata()) == third


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"fastnn-cpu\[plot\]"):
        fnn.signal_report(nn.Linear(3, 4), np.ones((2, 3)), [0, 1]).plot()


def test_a_data_frame_and_names_of_classes_are_taken_as_in_the_training() -> None:
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    frame = pandas.DataFrame({"a": x[:, 0], "b": x[:, 1]})
    names = np.where(x[:, 0] > 0, "yes", "no")
    run = fnn.recipes.train(frame, names, epochs=1, verbose=False)
    yes = x[:, 0] > 0  # of a batch of one class the name alone says which
    found = fnn.signal_report(run.model, frame.assign(c=0.0)[["c", "b", "a"]][yes], names[yes])
    assert found.loss == fnn.signal_report(run.model, x[yes], np.ones(yes.sum(), int)).loss
