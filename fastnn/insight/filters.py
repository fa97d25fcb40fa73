"""What a network has learned, as pictures: weights of classes, filters, and feature maps of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arrays import as_array
from fastnn.checks import entries, text
from fastnn.console import shown
from fastnn.errors import ArgumentError, ShapeError
from fastnn.insight import plots
from fastnn.insight.graph import operator_name
from fastnn.insight.signals import on_the_tape
from fastnn.nn import Conv2d, Linear, Module
from fastnn.nn.modes import mode
from fastnn.nn.module import expect_module
from fastnn.tables import aligned
from fastnn.tape import Array, computed, enable_grad
from fastnn.tensors import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FeatureMaps", "Weights", "class_weights", "feature_maps", "filters"]

SHOWN_OF_A_LAYER = 10


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights as images.

    Attributes:
        images: (n, C, h, w), a copy.
        titles: what stands above each.
        heading: what they are.
    """

    images: Array
    titles: tuple[str, ...]
    heading: str

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Weights({self.heading}: images {self.images.shape}, {self.images.min():.3g} … {self.images.max():.3g})"

    def _repr_html_(self) -> str:
        return plots.html(repr(self), self.plot)

    def plot(self) -> Figure:
        """All on one scale: blue below 0, white at 0, red above; of several input channels the mean. Weights of three
        channels in colour: gray is 0."""
        small = max(self.images.shape[2:]) <= 11
        drawing = plots.tiles(self.images, titles=self.titles, signed="weight", size=0.75 if small else 1.3)
        plots.heading(drawing, self.heading)
        return drawing


def class_weights(
    model: Module, image_shape: Sequence[int] | None = None, classes: Sequence[str] | None = None
) -> Weights:
    """The weights of each class of a linear classifier, as images: what speaks for the class, and what against it.

    Args:
        model: one with a single layer that has weights, an `nn.Linear` over all pixels (`recipes.linear`).
        image_shape: (C, H, W); by default the square, of one channel or three, that has so many pixels.
        classes: their names; by default 0, 1, ...

    Raises ArgumentError for another model, ShapeError for another number of pixels.

    >>> import fastnn as fnn
    >>> class_weights(fnn.recipes.linear()).images.shape
    (10, 1, 28, 28)
    """
    expect_module("class_weights", model)
    layers = [m for m in model.modules() if isinstance(m, (Linear, Conv2d))]
    if len(layers) != 1 or not isinstance(layers[0], Linear):
        raise ArgumentError(
            f"class_weights: expected a model with one layer of weights, an nn.Linear, got {len(layers)} layers: "
            "filters(model) and feature_maps(model, x) are for others"
        )
    weight = layers[0].weight.numpy()
    given = None if image_shape is None else entries("class_weights", "image_shape", image_shape)
    shape = _square(weight.shape[1]) if given is None else tuple(given)
    if shape is None or len(shape) != 3 or math.prod(shape) != weight.shape[1]:
        raise ShapeError(
            f"class_weights: expected an image_shape (C, H, W) of {weight.shape[1]} pixels, got {image_shape}"
        )
    names = (
        tuple(map(str, range(len(weight)))) if classes is None else tuple(entries("class_weights", "classes", classes))
    )
    if len(names) != len(weight):
        raise ArgumentError(f"class_weights: expected {len(weight)} names of classes, got {len(names)}")
    return Weights(weight.reshape(-1, *shape).copy(), names, "Weights of each class: red speaks for it, blue against")


def _square(pixels: int) -> tuple[int, int, int] | None:
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if channels * side * side == pixels:
            return channels, side, side
    return None


def filters(model: Module, layer: str | None = None) -> Weights:
    """The filters of a convolution: those of the first one, whose inputs are pixels, or of the `layer` of that name.

    Raises ArgumentError where there is no such convolution.

    >>> import fastnn as fnn
    >>> filters(fnn.recipes.cnn()).images.shape
    (32, 1, 3, 3)
    """
    expect_module("filters", model)
    found = {name: m for name, m in model.named_modules() if isinstance(m, Conv2d)}
    name = next(iter(found), None) if layer is None else text("filters", "layer", layer)
    if name is None or name not in found:
        wanted = "" if layer is None else f" named {layer!r}"
        got = ", ".join(found) or "none"
        raise ArgumentError(f"filters: expected a model with an nn.Conv2d{wanted}, got one with {got}")
    weight = found[name].weight.numpy()
    size = "×".join(map(str, weight.shape[1:]))
    return Weights(weight.copy(), (), f"{len(weight)} filters {size}{f' of layer {name}' if name else ''}")


@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """An image on its way through a network.

    Attributes:
        names: of the layers, with their operators, such as "1 conv2d"; "input" first.
        maps: one array (C, H, W) for each.
    """

    names: tuple[str, ...]
    maps: tuple[Array, ...]

    def __len__(self) -> int:
        return len(self.maps)

    def __repr__(self) -> str:
        rows = [("maps", "shape", "least", "largest")]
        rows += [
            (shown(name), "×".join(map(str, array.shape)), f"{array.min():.3g}", f"{array.max():.3g}")
            for name, array in zip(self.names, self.maps, strict=True)
        ]
        return aligned(rows, left=1)

    def _repr_html_(self) -> str:
        return plots.html(repr(self), self.plot)

    def __getitem__(self, name: str) -> Array:
        """The maps of a layer: "1 conv2d", or "1" for the last of its operators."""
        for known, array in reversed(list(zip(self.names, self.maps, strict=True))):
            if name in (known, known.split()[0]):
                return array
        raise ArgumentError(f"feature_maps: expected one of {', '.join(self.names)}, got {name!r}")

    def plot(self, most: int = SHOWN_OF_A_LAYER) -> Figure:
        """A row for each layer, with its first `most` channels, from the layer's least value (black) to its largest."""
        rows = len(self)
        columns = min(most, max(array.shape[0] for array in self.maps))
        drawing = plots.figure(1.9 + 0.6 * columns, 0.6 + 0.62 * rows)
        plots.heading(drawing, "Feature maps: black is a layer's least value, white its largest")
        grid = drawing.subplots(rows, columns, squeeze=False)
        for line, name, array in zip(grid, self.names, self.maps, strict=True):
            images = [array] if name == "input" else [channel[np.newaxis] for channel in array[:columns]]
            for axes, image in zip(line, images, strict=False):
                plots.picture(axes, image).set_clim(array.min(), array.max())
            for axes in line[len(images) :]:
                axes.set_visible(False)
            size = "×".join(map(str, array.shape))
            if len(array) > len(images) > 1:
                size += f", first {len(images)}"
            words = f"{plots.label(name)}\n{size}\n{array.min():.2g} … {array.max():.2g}"
            line[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=9)
        return drawing


def feature_maps(model: Module, x: Any) -> FeatureMaps:
    """What each layer makes of one image, as far as it is images: convolutions, activations, pooling.

    Args:
        model: used in eval mode; its mode is put back.
        x: (C, H, W) or (1, C, H, W), uint8 or floating, as the model takes it.

    Raises ShapeError for anything but one image.

    >>> import fastnn as fnn
    >>> image = fnn.data.load("digits").images[0]
    >>> feature_maps(fnn.recipes.fast(), image).names
    ('input', '0 normalize', '1 conv2d', '2 relu', '3 max_pool2d', '4 conv2d', '5 relu', '6 max_pool2d')
    """
    maps = [(name, array) for name, array in layer_outputs(model, x) if array.ndim == 3]
    return FeatureMaps(tuple(name for name, _ in maps), tuple(array for _, array in maps))


def layer_outputs(model: Module, x: Any) -> list[tuple[str, Array]]:
    """The input and what each layer makes of one image: maps (C, H, W), or values (n,) behind dense layers.

    Args, errors and names are those of `feature_maps`.
    """
    expect_module("feature_maps", model)
    image = x.numpy() if isinstance(x, Tensor) else as_array(x)
    given = on_the_tape(model, image[np.newaxis] if image.ndim == 3 else image)
    if given.ndim != 4 or given.shape[0] != 1:
        raise ShapeError(f"feature_maps: expected one image (C, H, W), got {given.shape}")
    with mode(model, training=False), enable_grad():  # what is not on the tape is not seen
        output = model(given)
    names = {id(module): name for name, module in model.named_modules()}
    found = [("input", given.numpy()[0].copy())]
    for tensor, node in computed(output):
        if tensor.ndim in (2, 4) and id(node.module) in names:
            found.append((f"{names[id(node.module)]} {operator_name(node)}".strip(), tensor.numpy()[0].copy()))
    return found
