"""Weights of classes, filters and feature maps: the arrays, the pictures, and Sobel's filters against SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, recipes
from fastnn.errors import ArgumentError, ShapeError
from fastnn.insight import class_weights, feature_maps, filters


def test_class_weights_are_the_rows_of_the_matrix() -> None:
    model = recipes.linear((3, 4, 4), classes=2)
    weight = model[2].weight.data
    weights = class_weights(model, classes=("cat", "dog"))
    np.testing.assert_array_equal(weights.images, weight.reshape(2, 3, 4, 4))
    assert not np.shares_memory(weights.images, weight)
    assert weights.titles == ("cat", "dog")
    assert len(weights) == 2
    assert class_weights(model, (1, 6, 8)).images.shape == (2, 1, 6, 8)
    assert class_weights(model).titles == ("0", "1")


def test_class_weights_on_one_scale() -> None:
    pytest.importorskip("matplotlib")
    model = recipes.linear((1, 2, 2), classes=2)
    model[2].weight.data[...] = [[1, -2, 0, 0.5], [0, 0, 1, 1]]
    figure = class_weights(model).plot()
    first, second, _bar = figure.axes
    np.testing.assert_array_equal(first.images[0].get_array(), [[1, -2], [0, 0.5]])
    assert first.images[0].get_clim() == second.images[0].get_clim() == (-2, 2)
    assert [axes.get_title() for axes in (first, second)] == ["0", "1"]
    model[2].weight.data[...] = 0
    assert class_weights(model).plot().axes[0].images[0].get_clim() == (-1, 1)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (lambda: recipes.mlp(), {}, ArgumentError, "an nn.Linear, got 2 layers"),
        (lambda: nn.Conv2d(1, 2, 3), {}, ArgumentError, "an nn.Linear, got 1 layers"),
        (lambda: nn.Linear(24, 2), {}, ShapeError, r"an image_shape \(C, H, W\) of 24 pixels, got None"),
        (lambda: nn.Linear(24, 2), {"image_shape": (1, 5, 5)}, ShapeError, r"24 pixels, got \(1, 5, 5\)"),
        (lambda: nn.Linear(25, 2), {"classes": ("one",)}, ArgumentError, "expected 2 names of classes, got 1"),
    ],
)
def test_class_weights_of_what_has_none(model: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        class_weights(model(), **options)


def test_what_a_notebook_shows() -> None:
    pytest.importorskip("matplotlib")
    model = recipes.cnn()
    image = np.zeros((1, 28, 28), np.uint8)
    for found, words in (
        (filters(model), "Weights(32 filters 1×3×3 of layer 1: images (32, 1, 3, 3), "),
        (class_weights(recipes.linear()), "Weights(Weights of each class"),
        (
            feature_maps(model, image),
            "maps             shape   least  largest\ninput          1×28×28       0        0\n",
        ),
    ):
        assert repr(found).startswith(words)
        assert "array(" not in repr(found)
        shown = found._repr_html_()
        assert shown.startswith("<pre>")
        assert '<img src="data:image/png;base64,' in shown


def test_filters_of_the_first_convolution_and_of_a_named_one() -> None:
    pytest.importorskip("matplotlib")
    model = recipes.cnn((3, 28, 28))
    np.testing.assert_array_equal(filters(model).images, model[1].weight.data)
    np.testing.assert_array_equal(filters(model, "3").images, model[3].weight.data)
    figure = filters(model).plot()
    shown = [axes for axes in figure.axes if axes.get_visible()]
    largest = np.abs(model[1].weight.data).max()
    for axes, weight in zip(shown, model[1].weight.data, strict=True):  # in colour: gray is 0
        colours = np.asarray(axes.images[0].get_array(), np.float64)
        np.testing.assert_allclose(colours, 0.5 + weight.transpose(1, 2, 0) / (2 * largest), atol=1e-6)
    for axes, weight in zip(filters(model, "3").plot().axes, model[3].weight.data, strict=False):
        np.testing.assert_array_equal(axes.images[0].get_array(), weight.mean(axis=0))
    assert figure._suptitle.get_text() == "32 filters 3×3×3 of layer 1"
    with pytest.raises(ArgumentError, match=r"an nn\.Conv2d, got one with none"):
        filters(recipes.linear())
    with pytest.raises(ArgumentError, match=r"an nn\.Conv2d named '2', got one with 1, 3"):
        filters(model, "2")


class Functional(nn.Module):
    """Two operators in a forward of its own; the result is no image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x: Any) -> Any:
        return self.conv(x).relu().mean((2, 3))


def test_feature_maps_are_what_the_layers_give(rng: np.random.Generator) -> None:
    pytest.importorskip("matplotlib")
    model = nn.Sequential(nn.Normalize(0.5, 0.25), nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten())
    image = rng.integers(0, 255, (1, 6, 6), np.uint8)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    maps = feature_maps(model, image)
    assert maps.names == ("input", "0 normalize", "1 conv2d", "2 batch_norm", "3 relu")
    assert model.training
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_allclose(maps["input"], image / 255, rtol=1e-6)
    model.eval()
    for i in range(4):
        np.testing.assert_allclose(maps[str(i)], model[: i + 1](image[np.newaxis]).data[0], rtol=1e-5, atol=1e-6)
    figure = maps.plot(most=2)
    rows = np.array(figure.axes).reshape(5, 2)
    assert [row[0].get_ylabel().split("\n")[0] for row in rows] == list(maps.names)
    np.testing.assert_array_equal(rows[4, 1].images[0].get_array(), maps["3 relu"][1])
    assert not rows[0, 1].get_visible()


def test_feature_maps_are_seen_under_no_grad_too(rng: np.random.Generator) -> None:
    model, image = recipes.fast(), rng.random((1, 28, 28), dtype=np.float32)
    expected = feature_maps(model, image)
    with fnn.no_grad():
        maps = feature_maps(model, image)
        assert not (fnn.Tensor([1.0], requires_grad=True) * 2).requires_grad  # it holds again
    assert maps.names == expected.names
    assert len(maps) == 8


def test_feature_maps_of_a_models_own_forward(rng: np.random.Generator) -> None:
    model = Functional().requires_grad_(False)  # frozen: seen all the same
    maps = feature_maps(model, rng.normal(size=(1, 1, 5, 5)).astype(np.float32))
    assert maps.names == ("input", "conv conv2d", "relu")
    assert maps["relu"].shape == (2, 3, 3)
    with pytest.raises(ArgumentError, match=r"expected one of input, conv conv2d, relu, got '7'"):
        maps["7"]
    with pytest.raises(ShapeError, match=r"one image \(C, H, W\), got \(2, 1, 5, 5\)"):
        feature_maps(model, np.zeros((2, 1, 5, 5), np.float32))
