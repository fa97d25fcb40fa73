"""Every example runs, draws what it says, and shows what its docstring promises; with few epochs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import backends

pytest.importorskip("matplotlib")
pytest.importorskip("plotly")
EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("[a-z]*.py"))


@pytest.fixture(autouse=True)
def _beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python examples/NAME.py` has it: what they share is found."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


def example(name: str) -> Any:
    return importlib.import_module(name)


def drawn(folder: Path) -> set[str]:
    """The pictures in a folder, each looked at: a palette, no larger than the README can bear."""
    from PIL import Image

    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            assert image.mode == "P"
            assert image.width > 300
        assert path.stat().st_size < 60_000
    return {path.name for path in folder.iterdir()}


def test_each_is_tested_here_and_says_how_it_is_run() -> None:
    assert len(NAMES) >= 15
    tests = Path(__file__).read_text()
    for name in NAMES:
        assert f'example("{name}")' in tests
        text = (EXAMPLES / f"{name}.py").read_text()
        full = " [--full]" if "full: bool" in text else ""
        assert f"    python examples/{name}.py [--out FOLDER]{full}\n" in text


def test_from_the_command_line(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "losses.py", "--out", tmp_path / "new" / "folder"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "20000.0 for the second" in output
    assert drawn(tmp_path / "new" / "folder") == {"losses.png"}
    wrong = subprocess.run(
        [sys.executable, EXAMPLES / "losses.py", "--full"], capture_output=True, text=True, timeout=60
    )
    assert wrong.returncode == 2


def test_mnist_by_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is none, a sentence, and no digits in its place."""
    monkeypatch.setenv("FASTNN_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["shifted_digits.py", "--full", "--out", str(tmp_path)])
    shifted = example("shifted_digits")
    with pytest.raises(SystemExit, match=r"shifted_digits\.py: mnist is not in the data folder"):
        importlib.import_module("_shared").run(shifted.main, shifted.__doc__)


def test_linear_layers_are_one_and_a_relu_is_not(tmp_path: Path) -> None:
    results = example("linear_layers").main(tmp_path)
    assert results["difference"] < 1e-5
    assert results["three linear layers"] < 0.85
    assert results["… and one ReLU"] > 0.98
    assert drawn(tmp_path) == {"linear_layers.png"}


def test_the_collapse_is_the_product(rng: np.random.Generator) -> None:
    layers = [fnn.nn.Linear(3, 4), fnn.nn.Linear(4, 2)]
    weight, bias = example("linear_layers").collapse(layers)
    first, second = layers
    np.testing.assert_allclose(weight, second.weight.data @ first.weight.data, rtol=1e-6)
    np.testing.assert_allclose(bias, second.weight.data @ first.bias.data + second.bias.data, rtol=1e-6)


@pytest.mark.long
@pytest.mark.skipif(backends.name() != "native", reason="a minute of convolutions on the other backends")
def test_convolutions_bear_shifts(tmp_path: Path) -> None:
    shifted = example("shifted_digits")
    accuracies = shifted.main(tmp_path, epochs=5)
    dense, convolutional = accuracies["dense"], accuracies["convolutional"]
    assert dense[0] > 0.85
    assert dense[4] < 0.4
    assert convolutional[0] > 0.6
    for by in (2, 4, 6):
        assert convolutional[by] == pytest.approx(convolutional[0], abs=0.03)
    assert min(convolutional) > 3 * max(dense[3:])
    digits = shifted.half_as_large(fnn.data.load("digits"))
    for by in shifted.SHIFTS:  # nothing goes over an edge
        assert all((data.images.sum((2, 3)) == digits.images.sum((2, 3))).all() for data in shifted.moved(digits, by))
    assert drawn(tmp_path) == {"shifted_digits.png"}


@pytest.mark.long
def test_more_units_come_nearer_to_the_curve(tmp_path: Path) -> None:
    errors = list(example("universal_approximation").main(tmp_path, epochs=300).values())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.02 * errors[0]
    assert drawn(tmp_path) == {"universal_approximation.png"}


def test_losses_have_the_gradients_of_the_lecture(tmp_path: Path) -> None:
    results = example("losses").main(tmp_path)
    assert max(results[name] for name in ("softmax − y", "σ(z) − y", "2(ŷ − y)")) < 1e-14
    assert (results["right by 20,000"], results["wrong by 20,000"]) == (0.0, 20_000.0)
    assert drawn(tmp_path) == {"losses.png"}


def test_finite_differences_have_their_orders(tmp_path: Path) -> None:
    errors = example("gradient_check").main(tmp_path)
    one_sided, central = errors["one-sided"], errors["central"]
    assert one_sided[1] / one_sided[3] == pytest.approx(1e2, rel=0.1)  # from ε = 1e-2 to 1e-4
    assert central[0] / central[2] == pytest.approx(1e4, rel=0.1)
    assert min(central) < 1e-10 < 1e-9 < min(one_sided) < 1e-7
    assert central[-1] > 1e5 * min(central)
    assert drawn(tmp_path) == {"gradient_check.png"}


def test_normalised_inputs_and_batch_norm_train_better(tmp_path: Path) -> None:
    losses = example("normalisation").main(tmp_path, rates=(0.03, 0.3, 1.0))
    best = {name: min(values) for name, values in losses.items()}
    assert best["… and batch norm"] < best["centred and scaled"] < best["0 … 1"] < best["0 … 255"] == np.inf
    assert max(losses["… and batch norm"]) < 1
    assert drawn(tmp_path) == {"normalisation.png"}


@pytest.mark.long
def test_regularisation_holds_the_validation_loss_down(tmp_path: Path) -> None:
    results = example("regularisation").main(tmp_path, epochs=40)
    (plain, _), *others = results.values()
    assert plain[-1].val_loss > 1.15 * min(plain["val_loss"])
    for history, _ in others:
        assert min(history["val_loss"][-3:]) < 0.95 * plain[-1].val_loss
        assert history[-1].train_loss > 1.5 * plain[-1].train_loss
    small = {kind: np.mean(weights < 1e-3) for kind, (_, weights) in results.items()}
    assert small["l1 = 0.002"] > 0.6
    assert small["none"] < 0.1
    assert drawn(tmp_path) == {"regularisation.png"}


@pytest.mark.long
def test_optimisers_go_different_ways(tmp_path: Path) -> None:
    results = example("optimizers").main(tmp_path, points=5)
    ravine = {path.name: path.coordinates for path in results["ravine"].paths}
    across = {name: np.count_nonzero(np.diff(np.sign(way[:20, 1].round(1)))) for name, way in ravine.items()}
    assert across["SGD"] == 19  # from side to side at every step
    assert max(count for name, count in across.items() if name != "SGD") < 10
    assert ravine["momentum"][:, 0].max() > 0.5 > -0.5 > ravine["SGD"][-1, 0]  # past the minimum; not there yet
    losses = {path.name: path.losses[-1] for path in results["ravine"].paths}
    assert losses["SGD"] > losses["momentum"] > losses["Nesterov"]
    ends = [tuple(path.coordinates[-1].round(2)) for path in results["network"].paths]
    assert len(set(ends)) == len(ends) == 7
    assert drawn(tmp_path) == {"optimizers_ravine.png", "optimizers_network.png", "optimizers_ravine.html"}


@pytest.mark.long
def test_landscapes_of_two_solutions(tmp_path: Path) -> None:
    results = example("landscapes").main(tmp_path, points=7)
    random, other = results["random"], results["other"]
    assert random.losses[25] == random.centre < 0.3 * min(random.losses[0], random.losses[-1])
    t = other.axes[0].values
    ends = other.losses[np.isclose(t, 0, atol=0.02) | np.isclose(t, 1, atol=0.02)].max()
    assert other.losses[(t > 0.3) & (t < 0.7)].max() > 4 * ends  # between two valleys a ridge
    way = results["plane"].paths[0]
    assert way.losses[-1] < 0.1 * way.losses[0]
    assert drawn(tmp_path) == {"landscapes_lines.png", "landscapes_plane.png", "landscapes.html"}


@pytest.mark.long
def test_gradients_vanish_where_the_lecture_says(tmp_path: Path) -> None:
    vanishing = example("vanishing_gradients")
    results = vanishing.main(tmp_path, epochs=2)
    first = {key: vanishing.gradients(report)[0] for key, (report, _) in results.items()}
    last = {key: vanishing.gradients(report)[-1] for key, (report, _) in results.items()}
    for initialisation in ("naive", "Xavier", "Kaiming"):
        assert first["sigmoid", initialisation] < 1e-8 * last["sigmoid", initialisation]
        assert results["sigmoid", initialisation][1][-1].train_loss > 2.29  # ln 10 = 2.30: nothing learned
    assert first["ReLU", "naive"] < 1e-20 * last["ReLU", "naive"]
    assert 0.1 < first["ReLU", "Kaiming"] / last["ReLU", "Kaiming"] < 100
    assert results["ReLU", "Kaiming"][1][-1].train_loss < 1.5
    spread = vanishing.spreads(results["ReLU", "Xavier"][0])
    assert len(spread) == 20
    assert spread[-1] / spread[0] == pytest.approx(2 ** (-19 / 2), rel=0.9)  # √2 in each layer
    assert drawn(tmp_path) == {"vanishing_gradients.png"}


@pytest.mark.long
def test_activations_beside_their_gradients(tmp_path: Path) -> None:
    figure = example("activations").main(tmp_path)
    assert len(figure.axes) == 7
    for axes in figure.axes:
        (x, y), (_, slope) = (line.get_data() for line in axes.lines)
        smooth = np.abs(x) > 0.02  # away from kinks
        np.testing.assert_allclose(slope[smooth], np.gradient(y, x)[smooth], atol=0.02)
    sigmoid = figure.axes[0].lines[0]
    np.testing.assert_allclose(sigmoid.get_ydata(), 1 / (1 + np.exp(-sigmoid.get_xdata())), rtol=1e-12)


def test_sobel_agrees_with_scipy(tmp_path: Path, rng: np.random.Generator) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    sobel = example("sobel")
    images = rng.random((3, 1, 28, 20)).astype(np.float32)
    edges = sobel.sobel()(images).numpy()
    for image, (across, down) in zip(images[:, 0].astype(np.float64), edges, strict=True):
        np.testing.assert_allclose(across, ndimage.sobel(image, axis=1, mode="constant"), atol=1e-5)
        np.testing.assert_allclose(down, ndimage.sobel(image, axis=0, mode="constant"), atol=1e-5)
    figure = sobel.main(tmp_path)
    shown = figure.axes[6].images[0].get_array()
    image = fnn.data.load("digits").images[0, 0] / 255
    np.testing.assert_allclose(shown, ndimage.sobel(image, axis=1, mode="constant"), atol=1e-5)


@pytest.mark.long
def test_filters_are_drawn(tmp_path: Path) -> None:
    figures = example("filters").main(tmp_path, epochs=1)
    assert drawn(tmp_path) == set(figures) == {"class_weights.png", "filters.png", "feature_maps.png"}


def test_the_lectures_function_is_drawn(tmp_path: Path) -> None:
    graphs = example("computational_graph").main(tmp_path)
    e = np.exp(2.0 * 0.5 - 0.25)
    assert graphs["function.svg"]["w1"].gradient == pytest.approx(0.5 * e)
    assert graphs["network.svg"]["0.weight"].group == "0"
    for name, graph in graphs.items():
        assert (tmp_path / name).read_text() == graph.svg()


@pytest.mark.long
def test_three_diagnoses(tmp_path: Path) -> None:
    diagnoses = example("diagnosis").main(tmp_path)
    verdicts = {name: diagnosis.verdict for name, diagnosis in diagnoses.items()}
    assert verdicts == {"linear": "underfits", "mlp": "overfits", "convolutions": "good"}
    assert drawn(tmp_path) == {f"diagnosis_{name}.png" for name in verdicts}


@pytest.mark.long
def test_a_model_of_pytorchs_comes_back(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    results = example("torch_model").main(tmp_path, epochs=4)
    assert results["difference"] < 1e-4
    assert min(results["accuracy"].values()) > 0.8
    assert all(theirs > mine for theirs, mine in results["seconds"].values())
    assert drawn(tmp_path) == {"torch_model.png"}
