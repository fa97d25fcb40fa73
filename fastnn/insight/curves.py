"""Learning curves, confusion matrices and the worst mistakes, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.checks import is_whole
from fastnn.console import shown
from fastnn.errors import ArgumentError
from fastnn.insight import plots
from fastnn.nn import Module
from fastnn.ops import log_softmax
from fastnn.tape import Array
from fastnn.tensors import Tensor
from fastnn.train.evaluate import as_dataset, predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.train import History

__all__ = ["Mistakes", "confusion_matrix", "learning_curves", "worst_mistakes"]

MOST_CLASSES_WITH_NUMBERS = 20


def learning_curves(history: History, acceptable: float | None = None, test: float | None = None) -> Figure:
    """Loss and accuracy by epoch, training and validation; a ring marks the lowest validation loss.

    `acceptable` (an error) is drawn as a line of accuracy, `test` (an error) as a diamond at the end.
    """
    drawing = plots.figure(9, 3.6)
    for axes, quantity in zip(drawing.subplots(1, 2), ("loss", "accuracy"), strict=True):
        plots.styled(axes, quantity, "epoch")
        for part, name, colour in (("train", "training", plots.BLUE), ("val", "validation", plots.ORANGE)):
            points = [(r.epoch, getattr(r, f"{part}_{quantity}")) for r in history]
            points = [point for point in points if point[1] is not None]
            if not points:
                continue
            axes.plot(*zip(*points, strict=True), "o-", markersize=3.5, color=colour, label=name)
            if (part, quantity) == ("val", "loss"):
                lowest = min(points, key=lambda point: point[1])
                axes.scatter(*lowest, s=90, facecolors="none", edgecolors=colour, label="lowest")
        if quantity == "accuracy" and axes.lines:
            end = history[-1].epoch
            if acceptable is not None:
                axes.hlines(1 - acceptable, 1, end, colors=plots.GRAY, linestyles="dotted", label="acceptable")
            if test is not None:
                axes.scatter(end, 1 - test, marker="D", s=40, color=plots.RED, label="test", zorder=3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:
            axes.legend(fontsize=8)
    return drawing


def confusion_matrix(confusion: Array | Sequence[Sequence[int]], classes: Sequence[str] = ()) -> Figure:
    """`Evaluation.confusion` (K, K), or lists like it, as a picture: row = true class, column = found. Right ones gray,
    mistakes orange by their share of the row, so that a few mistakes among many right ones are seen.

    >>> import numpy as np
    >>> len(confusion_matrix(np.array([[3, 0], [1, 4]]), ("cat", "dog")).axes)
    1
    """
    confusion = np.asarray(confusion)
    count = len(confusion) if confusion.ndim else 0
    if confusion.shape != (count, count):
        raise ArgumentError(f"confusion_matrix: expected a matrix (K, K), got {confusion.shape}")
    names = [plots.label(name) for name in classes] or [str(i) for i in range(count)]
    mistakes = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(mistakes, 0)
    shades = np.where(np.eye(count, dtype=bool), np.nan, mistakes)
    side = min(8.0, 1.6 + 0.42 * count)
    drawing = plots.figure(side + 0.4, side)
    axes = drawing.subplots()
    colours = _orange()
    axes.imshow(shades, cmap=colours, vmin=0, vmax=max(1e-9, float(mistakes.max())))
    if count <= MOST_CLASSES_WITH_NUMBERS:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=8)
    total, right = int(confusion.sum()), int(np.trace(confusion))
    axes.set_title(f"{total - right:,} of {total:,} images taken for another class", loc="left", fontsize=10)
    axes.set(xlabel="taken for", ylabel="true class", xticks=range(count), yticks=range(count))
    axes.set_xticklabels(names, fontsize=8, rotation=0 if max(map(len, names)) < 4 else 60)
    axes.set_yticklabels(names, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return drawing


def _orange() -> Any:
    """From white to orange; gray where there is no number."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("mistakes", ["#ffffff", "#fbd9a0", plots.ORANGE])
    return colours.with_extremes(bad="#e4e4e4")


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What `worst_mistakes` found, the worst first.

    Attributes:
        indices: (n,) places in the data set.
        images: (n, C, H, W), on the scale 0 .. 1.
        labels, found: (n,) true classes, and those that the model took them for.
        probabilities: (n,) what the model gave the class that it found; true_probabilities: what the true one.
        classes: their names.
    """

    indices: Array
    images: Array
    labels: Array
    found: Array
    probabilities: Array
    true_probabilities: Array
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        rows = zip(self.indices, self.labels, self.found, self.probabilities, strict=True)
        return "\n".join(
            f"image {i}: {shown(self.classes[label])} taken for {shown(self.classes[found])} ({100 * share:.1f} %)"
            for i, label, found, share in rows
        )

    def plot(self) -> Figure:
        """The images, each with its true class, the class found, and how sure the model was."""
        if not len(self):
            drawing = plots.figure(3, 0.6)
            plots.heading(drawing, "no mistakes")
            return drawing
        titles = [
            f"{self.classes[label]} → {self.classes[found]}, {100 * share:.0f} %"
            for label, found, share in zip(self.labels, self.found, self.probabilities, strict=True)
        ]
        widest = max(map(len, titles))
        drawing = plots.tiles(self.images, titles=titles, size=max(1.3, 0.075 * widest))
        plots.heading(drawing, "Worst mistakes: true → found, and how sure")
        return drawing


def worst_mistakes(model: Module, data: Any, count: int = 20) -> Mistakes:
    """The images that the model takes for another class, those first whose true class it gives the least probability.

    Args:
        model: maps images (N, C, H, W) to logits (N, K); used in eval mode, its mode is put back.
        data: as for `evaluate`: a name (its test part), a `Dataset`, or ``(images, labels)`` with integer labels.
        count: at most so many.

    Raises ArgumentError for labels that are no classes, and a count below 0.

    >>> import fastnn as fnn
    >>> fnn.manual_seed(0)
    >>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
    >>> len(fnn.insight.worst_mistakes(model, "digits", count=8))
    8
    """
    if not is_whole(count, 0):
        raise ArgumentError(f"worst_mistakes: expected a whole number of mistakes, 0 or more, got count={count!r}")
    dataset = as_dataset(data, "test")
    if dataset.labels.ndim != 1 or dataset.labels.dtype.kind not in "iu" or dataset.images.ndim != 4:
        raise ArgumentError(f"worst_mistakes: expected images (N, C, H, W) with integer labels, got {dataset!r}")
    logits = predictor(model, compile=True)(dataset.images)
    logarithms = log_softmax(Tensor(logits), 1).numpy()
    found = logits.argmax(axis=1)
    of_truth = logarithms[np.arange(len(found)), dataset.labels]
    wrong = np.nonzero(found != dataset.labels)[0]
    worst = wrong[np.argsort(of_truth[wrong], kind="stable")][:count]
    images = dataset.images[worst]
    return Mistakes(
        worst,
        images.astype(np.float32) / 255 if images.dtype == np.uint8 else images,
        dataset.labels[worst],
        found[worst],
        np.exp(logarithms[worst, found[worst]]),
        np.exp(of_truth[worst]),
        dataset.classes,
    )
