"""Learning curves, confusion matrices and the worst mistakes, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arrays import numbers
from fastnn.checks import is_whole, number
from fastnn.checks import shown as shown_as
from fastnn.console import shown
from fastnn.data import Dataset
from fastnn.data.about import about
from fastnn.errors import ArgumentError
from fastnn.insight import plots
from fastnn.nn import Module
from fastnn.nn.module import expect_module
from fastnn.ops import log_softmax
from fastnn.tables import html_text
from fastnn.tape import Array
from fastnn.tensors import Tensor
from fastnn.train.evaluate import Evaluation, as_dataset, predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fastnn.train import History

__all__ = ["Mistakes", "confusion_matrix", "learning_curves", "worst_mistakes"]

MOST_CLASSES_WITH_NUMBERS = 20
PARTS = {"train": ("training", plots.BLUE), "val": ("validation", plots.ORANGE)}


def learning_curves(history: History, acceptable: float | None = None, test: float | None = None) -> Figure:
    """Loss, accuracy where there is one, and metrics, by epoch; a ring marks the lowest validation loss.

    `acceptable` (an error, or a loss where there is no accuracy) is drawn as a line, `test` (likewise) as a diamond at
    the end. Losses that span decades have a logarithmic axis.
    """
    from fastnn.train import History

    if not isinstance(history, History) or not len(history):
        raise ArgumentError(f"learning_curves: expected a history of one epoch or more, got {shown_as(history)}")
    for name, value in (("acceptable", acceptable), ("test", test)):
        if value is not None:
            number("learning_curves", name, value)
    quantities = [
        q for q in ("loss", "accuracy") if any(getattr(r, f"{p}_{q}") is not None for r in history for p in PARTS)
    ]
    metrics = dict.fromkeys(name for record in history for name in record.metrics)
    count = len(quantities) + len(metrics) or 1
    drawing = plots.figure(5.4 if count == 1 else 3.9 * min(count, 3), 3.2 * -(-count // 3))
    panels = drawing.subplots(-(-count // 3), min(count, 3), squeeze=False).ravel()
    for axes, name in zip(panels[len(quantities) :], metrics, strict=False):
        plots.styled(axes, plots.label(name.replace("_", " ")), "epoch")
        points = [(r.epoch, r.metrics[name]) for r in history if name in r.metrics]
        axes.plot(*zip(*points, strict=True), "o-", markersize=3.5, color=PARTS["val"][1], label=PARTS["val"][0])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=9)
    for axes in panels[count:]:
        axes.remove()
    for axes, quantity in zip(panels, quantities, strict=False):
        plots.styled(axes, quantity, "epoch")
        for part, (name, colour) in PARTS.items():
            points = [(r.epoch, getattr(r, f"{part}_{quantity}")) for r in history]
            points = [point for point in points if point[1] is not None]
            if not points:
                continue
            axes.plot(*zip(*points, strict=True), "o-", markersize=3.5, color=colour, label=name)
            if (part, quantity) == ("val", "loss"):
                lowest = min(points, key=lambda point: point[1])
                axes.scatter(*lowest, s=90, facecolors="none", edgecolors=colour, label="lowest validation loss")
        if quantity == "accuracy":
            plots.percent(axes.yaxis)
        else:
            plots.scaled(axes, [line.get_ydata() for line in axes.lines])
        if quantity == quantities[-1]:
            end = history[-1].epoch
            if acceptable is not None:
                level = 1 - acceptable if quantity == "accuracy" else acceptable
                axes.hlines(level, 1, end, colors=plots.GRAY, linestyles="dotted", label="acceptable")
            if test is not None:
                level = 1 - test if quantity == "accuracy" else test
                axes.scatter(end, level, marker="D", s=40, color=plots.RED, label="test", zorder=3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend(fontsize=9)
    return drawing


def confusion_matrix(confusion: Evaluation | Array | Sequence[Sequence[int]], classes: Sequence[str] = ()) -> Figure:
    """An `Evaluation`, with its classes' names, or a matrix (K, K), as a picture: row = true class, column = found.

    Colours say which share of the true class a cell is, of mistakes in orange, of right ones in blue, on a scale on
    which 1 % is seen. Beside each row is its recall, the share of the class that is found; below each column its
    precision, the share of what is taken for the class that is right.

    Raises ArgumentError for anything but a square matrix, and for the evaluation of a regression.

    >>> import numpy as np
    >>> len(confusion_matrix(np.array([[3, 0], [1, 4]]), ("cat", "dog")).axes)  # the matrix, and the colours' scale
    2
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm

    if isinstance(confusion, Evaluation):
        if confusion.confusion is None:
            raise ArgumentError(f"confusion_matrix: expected an evaluation of classes, got {confusion!r}")
        classes = tuple(classes) or confusion.classes
        confusion = confusion.confusion
    confusion = numbers("confusion_matrix", confusion)
    count = len(confusion) if confusion.ndim else 0
    if confusion.shape != (count, count):
        raise ArgumentError(f"confusion_matrix: expected a matrix (K, K), got {confusion.shape}")
    # Cut in the middle: long names mostly differ in how they begin or in how they end.
    cut = [name if len(name) <= 20 else f"{name[:10]}…{name[-9:]}" for name in classes]
    names = [plots.label(name) for name in cut] or [*map(str, range(count))]
    longest = max(map(len, names), default=0)
    flat = longest < 4 and count > 4  # names below the matrix need not be turned
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    right = np.eye(count, dtype=bool)
    side = min(9.0, max(1.6, 0.52 * (count + 1)))
    drawing = plots.figure(side + 1.8 + 0.08 * max(longest, 9), side + 0.9 + 0.06 * max(longest, 6) * (not flat))
    drawing.set_layout_engine("compressed")  # made for panels of square cells
    axes = drawing.subplots()
    norm = PowerNorm(0.5, 0, 1)
    maps = [LinearSegmentedColormap.from_list("shares", ["#ffffff", color]) for color in (plots.ORANGE, plots.BLUE)]
    for cells, colours in zip((~right, right), maps, strict=True):
        axes.imshow(np.ma.masked_array(shares, ~cells), cmap=colours, norm=norm)
    if count <= MOST_CLASSES_WITH_NUMBERS:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            dark = row == column and shares[row, column] > 0.4
            colour = "white" if dark else "black"
            axes.text(column, row, str(confusion[row, column]), ha="center", va="center", fontsize=9, color=colour)
        for i in range(count):
            axes.text(count + 0.1, i, _share(confusion[i, i], confusion[i].sum()), ha="center", va="center", fontsize=9)
            precision = _share(confusion[i, i], confusion[:, i].sum())
            axes.text(i, count + 0.1, precision, ha="center", va="center", fontsize=9)
        axes.set(xlim=(-0.5, count + 0.6), ylim=(count + 0.6, -0.5))
        names = [*names, "recall"]
    every = 1 + int(count * 0.19 / side)  # as many names as there is room for
    places = [i + 0.1 * (i == count) for i in range(len(names))][::every]
    axes.set(xlabel="taken for", ylabel="true class", xticks=places, yticks=places)
    turned: dict[str, Any] = {} if flat else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticklabels(names[::every], fontsize=9, **turned)
    axes.set_yticklabels([*names[:count], "precision"][: len(names)][::every], fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = drawing.colorbar(ScalarMappable(norm, maps[0]), ax=axes, aspect=18, ticks=[0, 0.01, 0.1, 0.5, 1])
    bar.set_label("mistakes, share\nof the true class", fontsize=9)
    bar.ax.tick_params(labelsize=9)
    plots.percent(bar.ax.yaxis)
    total, wrong = int(confusion.sum()), int(confusion.sum() - np.trace(confusion))
    plots.heading(drawing, f"{wrong:,} of {total:,} taken for another class ({_share(wrong, total)})")
    return drawing


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3g}\N{NO-BREAK SPACE}%" if whole else "–"


@dataclass(frozen=True, eq=False)
class Mistakes:
    """What `worst_mistakes` found, the worst first.

    Attributes:
        indices: (n,) places in the data set, the rows of a table.
        files: (n,) names of the images' files; empty if they come from none.
        images: (n, C, H, W), on the scale 0 .. 1; other samples (n, ...) as they are.
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
    files: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    def __repr__(self) -> str:
        rows = zip(self.names, self.labels, self.found, self.probabilities, strict=True)
        return (
            "no mistakes"
            if not len(self)
            else "\n".join(
                f"{name}: {shown(self.classes[label])} taken for {shown(self.classes[found])} ({100 * share:.1f} %)"
                for name, label, found, share in rows
            )
        )

    def _repr_html_(self) -> str:
        return plots.html(repr(self), self.plot) if self.images.ndim == 4 else html_text(repr(self))

    @property
    def names(self) -> list[str]:
        """Of each image its place in the data set, and its file."""
        files = self.files or ("",) * len(self)
        kind = {4: "image", 2: "row"}.get(self.images.ndim, "sample")
        return [f"{kind} {i}{f', {shown(file)}' if file else ''}" for i, file in zip(self.indices, files, strict=True)]

    def plot(self) -> Figure:
        """The images, each with its true class, the class found, how sure the model was, its place and its file.

        Raises ArgumentError for samples that are no images.
        """
        if self.images.ndim != 4:
            raise ArgumentError(f"plot: expected mistakes on images (n, C, H, W), got samples {self.images.shape}")
        if not len(self):
            drawing = plots.figure(3, 0.6)
            plots.heading(drawing, "no mistakes")
            return drawing
        titles = [
            "\n".join(
                (f"{shown(self.classes[label])} → {shown(self.classes[found])}, {100 * share:.0f} %", *_lines(name))
            )
            for label, found, share, name in zip(self.labels, self.found, self.probabilities, self.names, strict=True)
        ]
        widest = max(len(line) for title in titles for line in title.split("\n"))
        drawing = plots.tiles(
            self.images, titles=titles, size=max(1.3, 0.08 * widest), columns=max(2, int(70 / max(widest, 14)))
        )
        plots.heading(drawing, "Worst mistakes, the least probable truth first: true → found, and how sure of that")
        return drawing


def _lines(name: str, most: int = 24) -> list[str]:
    """ "image 5" and "cat/5.png", the end of a long one."""
    return [part if len(part) <= most else f"…{part[1 - most :]}" for part in name.split(", ", 1)]


def worst_mistakes(model: Module, data: Any, count: int = 20) -> Mistakes:
    """The samples that the model takes for another class, those first whose true class it gives the least probability.

    Args:
        model: maps images (N, C, H, W), or other samples (N, ...), to logits (N, K), or to one output for two classes;
            used in eval mode, its mode is put back.
        data: as for `evaluate`: a name (its test part), a `Dataset`, or ``(X, y)`` with labels of classes.
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
    model = expect_module("worst_mistakes", model)
    dataset = as_dataset(data, "test", about(model))
    if not isinstance(dataset, Dataset) or dataset.labels.ndim != 1 or dataset.labels.dtype.kind not in "iu":
        raise ArgumentError(f"worst_mistakes: expected samples (N, ...) with integer labels (N,), got {dataset!r}")
    logits = predictor(model, compile=True)(dataset.images)
    if logits.size == len(logits):  # of one output for two classes, the logit of yes beside that of no, 0
        yes = logits.reshape(-1, 1)
        known = about(model)
        if known is not None and known.loss == "BCELoss":
            limits = np.finfo(yes.dtype)
            yes = np.clip(yes, limits.tiny, 1 - limits.epsneg)  # a sigmoid in single precision may come to 0 or 1
            yes = np.log(yes) - np.log1p(-yes)
        logits = np.concatenate([np.zeros_like(yes), yes], axis=1)
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
        tuple(dataset.files[i] for i in worst) if dataset.files else (),
    )
