"""The examples about graphs, gradients, activations, diagnosis and filters run, and show what they say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn

pytest.importorskip("matplotlib")
EXAMPLES = Path(__file__).parent.parent / "examples"


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_gradients_vanish_where_the_lecture_says(tmp_path: Path) -> None:
    vanishing = example("vanishing_gradients")
    results = vanishing.main(str(tmp_path / "v.png"), epochs=2)
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
    assert (tmp_path / "v.png").read_bytes().startswith(b"\x89PNG")


def test_activations_beside_their_gradients(tmp_path: Path) -> None:
    figure = example("activations").main(str(tmp_path / "a.png"))
    values, gradients = figure.axes[:7], figure.axes[7:]
    for value, gradient in zip(values, gradients, strict=True):
        x, y = value.lines[0].get_data()
        _, slope = gradient.lines[0].get_data()
        smooth = np.abs(x) > 0.02  # away from kinks
        np.testing.assert_allclose(slope[smooth], np.gradient(y, x)[smooth], atol=0.02)
    sigmoid = values[0].lines[0]
    np.testing.assert_allclose(sigmoid.get_ydata(), 1 / (1 + np.exp(-sigmoid.get_xdata())), rtol=1e-12)


def test_sobel_agrees_with_scipy(tmp_path: Path, rng: np.random.Generator) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    sobel = example("sobel")
    images = rng.random((3, 1, 28, 20)).astype(np.float32)
    edges = sobel.sobel()(images).numpy()
    for image, (across, down) in zip(images[:, 0].astype(np.float64), edges, strict=True):
        np.testing.assert_allclose(across, ndimage.sobel(image, axis=1, mode="constant"), atol=1e-5)
        np.testing.assert_allclose(down, ndimage.sobel(image, axis=0, mode="constant"), atol=1e-5)
    figure = sobel.main(str(tmp_path / "s.png"))
    shown = figure.axes[6].images[0].get_array()
    image = fnn.data.load("digits").images[0, 0] / 255
    np.testing.assert_allclose(shown, ndimage.sobel(image, axis=1, mode="constant"), atol=1e-5)


def test_filters_are_drawn(tmp_path: Path) -> None:
    figures = example("filters").main(str(tmp_path), epochs=1)
    for name in figures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_lectures_function_is_drawn(tmp_path: Path) -> None:
    graphs = example("computational_graph").main(str(tmp_path))
    e = np.exp(2.0 * 0.5 - 0.25)
    assert graphs["function.svg"]["w1"].gradient == pytest.approx(0.5 * e)
    assert graphs["network.svg"]["0.weight"].group == "0"
    for name, graph in graphs.items():
        assert (tmp_path / name).read_text() == graph.svg()


def test_three_diagnoses(tmp_path: Path) -> None:
    diagnoses = example("diagnosis").main(str(tmp_path))
    verdicts = {name: diagnosis.verdict for name, diagnosis in diagnoses.items()}
    assert verdicts == {"linear": "underfits", "mlp": "overfits", "convolutions": "good"}
    assert len(list(tmp_path.glob("*.png"))) == 3
