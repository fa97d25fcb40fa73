"""How signals and gradients come through a network: what each layer makes of them, now and over a training."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from fastnn import random
from fastnn.checks import is_whole, place
from fastnn.data.about import about
from fastnn.data.frames import as_labels, as_samples, is_frame
from fastnn.errors import ArgumentError
from fastnn.insight import plots
from fastnn.insight.graph import operator_name
from fastnn.nn import Module
from fastnn.ops.norms import on_scale
from fastnn.tables import aligned, filled, html_table
from fastnn.tape import Array, computed, enable_grad, gradients
from fastnn.tensors import Tensor
from fastnn.train import Callback, Training
from fastnn.train.checks import check_loss
from fastnn.train.evaluate import are_pixels, loss_for
from fastnn.train.targets import as_targets

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LayerSignal", "SignalRecorder", "SignalReport", "on_the_tape", "signal_report"]

SATURATED = 0.05  # of the steepest slope: what is flatter counts as saturated
UNCHANGED = ("reshape", "permute", "index", "cast")  # they only move entries


@dataclass(frozen=True)
class LayerSignal:
    """One operator of the network, in the order of computation.

    Attributes:
        layer: the module that ran it, by its name in the model; "input" for what goes in; "" for the model itself.
        operator: "linear", "relu", ...; empty for the input.
        shape: of its output, the batch first.
        mean, std: of all entries of its output.
        saturated: for sigmoid and tanh the share of entries whose slope is below 5 % of the steepest; otherwise None.
        dead: for ReLU the share of units (features, or channels of images) that are 0 throughout the batch, or None.
        gradient: Euclidean norm of the loss's gradient with respect to the output.
        parameter_gradient: norm of the gradient of the parameters that it takes; None without any that are learned.
    """

    layer: str
    operator: str
    shape: tuple[int, ...]
    mean: float
    std: float
    saturated: float | None
    dead: float | None
    gradient: float
    parameter_gradient: float | None

    @property
    def name(self) -> str:
        return f"{self.layer} {self.operator}".strip()


class SignalReport:
    """What `signal_report` gives: the layers in order (a sequence of `LayerSignal`), and the loss. Its repr is a table.

    `report["std"]` gives a column.
    """

    def __init__(self, layers: list[LayerSignal], loss: float) -> None:
        self.layers, self.loss = layers, loss

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[LayerSignal]:
        return iter(self.layers)

    @overload
    def __getitem__(self, key: int) -> LayerSignal: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    def __getitem__(self, key: int | str) -> Any:
        """A layer by its place, or a column by its name, such as "std"."""
        if is_whole(key):
            return self.layers[place("SignalReport", key, len(self))]
        if not isinstance(key, str) or key not in LayerSignal.__dataclass_fields__:
            raise ArgumentError(f"expected one of {', '.join(LayerSignal.__dataclass_fields__)}, got {key!r}")
        return [getattr(layer, key) for layer in self.layers]

    def __repr__(self) -> str:
        return aligned(self._rows(), left=2)

    def _repr_html_(self) -> str:
        return html_table(self._rows(), f"loss {self.loss:.4g}", left=2)

    def _rows(self) -> list[tuple[str, ...]]:
        rows = [("layer", "", "shape", "mean", "std", "saturated", "dead", "gradient", "of parameters")]
        for s in self.layers:
            shape = "×".join(map(str, s.shape[1:])) or "1"
            of_parameters = "" if s.parameter_gradient is None else f"{s.parameter_gradient:.2e}"
            numbers = (f"{s.mean:.3g}", f"{s.std:.3g}", _share(s.saturated), _share(s.dead), f"{s.gradient:.2e}")
            rows.append((s.layer, s.operator, shape, *numbers, of_parameters))
        return filled(rows)

    def plot(self) -> Figure:
        """Mean and spread, share saturated or dead, norms of both gradients, layer by layer from top to bottom."""
        drawing = plots.figure(7.5, 0.6 + 2 * max(1.8, 0.7 + 0.2 * len(self.layers)))
        plots.heading(drawing, f"Signals through the network (loss {self.loss:.3g})")
        signal, share, gradient, of_parameters = drawing.subplots(2, 2, sharey=True).flat
        places = range(len(self.layers))
        plots.styled(signal, "mean ± std")
        signal.errorbar(self["mean"], places, xerr=self["std"], fmt="o", markersize=4, color=plots.BLUE, capsize=2)
        plots.styled(share, "saturated or dead")
        for column, colour, kinds in (("saturated", plots.ORANGE, "sigmoid, tanh"), ("dead", plots.GRAY, "ReLU")):
            found = [(i, value) for i, value in enumerate(self[column]) if value is not None]
            if found:
                bars = share.barh(*zip(*found, strict=True), color=colour, height=0.6, label=f"{column} ({kinds})")
                share.bar_label(bars, [_share(value) for _, value in found], padding=2, fontsize=9)  # 0 has no bar
        share.set(xlim=(0, 1.25), xticks=[0, 0.5, 1])
        plots.percent(share.xaxis)
        if share.patches:
            share.legend(fontsize=9)
        for axes, column, title in (
            (gradient, "gradient", "‖gradient of the output‖"),
            (of_parameters, "parameter_gradient", "‖gradient of the parameters‖"),
        ):
            plots.styled(axes, title)
            found = [(value, i) for i, value in enumerate(self[column]) if value is not None]
            axes.plot(*zip(*found, strict=True), "o-", markersize=4, color=plots.RED) if found else None
            plots.scaled(axes, [[value for value, _ in found]], "x")
        signal.set_yticks(places, [layer.name for layer in self.layers])
        signal.set_ylim(len(self.layers) - 0.4, -0.6)  # the input at the top
        return drawing


def signal_report(model: Module, x: Any, y: Any, loss_fn: Callable[..., Any] | None = None) -> SignalReport:
    """Send one batch through a model, forward and backward, and measure every layer.

    The model is used in the mode that it is in (in training mode batch norm takes the batch's statistics), and left as
    it is: parameters, `.grad`, running statistics and random numbers.

    Args:
        model: any module; what its forward computes is seen operator by operator.
        x: (N, ...) a batch, as the model takes it, or a data frame; pixels are put on the scale 0 .. 1, as in `fit`.
        y: its labels, which may be the classes' names, or targets.
        loss_fn: maps (outputs, y) to one number; by default that of `evaluate`.

    Raises ArgumentError for a loss of more than one number, an empty batch and the like, and what the model raises.

    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 10))
    >>> digits = fnn.data.load("digits", raw=True)
    >>> report = fnn.signal_report(model, digits.images[:100], digits.labels[:100])
    >>> [layer.name for layer in report]
    ['input', '1 linear', '2 sigmoid', '3 linear']
    """
    if not isinstance(model, Module):
        raise ArgumentError(f"signal_report: expected a model (nn.Module), got {type(model).__name__}")
    check_loss("signal_report", loss_fn)
    known = about(model)
    given = on_the_tape(model, as_samples(x, () if known is None else known.columns)[0] if is_frame(x) else x)
    if not given.ndim or not len(given):
        raise ArgumentError(f"signal_report: expected a batch of one image or more, got shape {given.shape}")
    with _left_as_it_is(model), enable_grad():
        outputs = model(given)
        if loss_fn is None:
            y, _ = as_labels(y, () if known is None else known.classes)
            loss_fn = loss_for(model, given.numpy(), y)
            y = as_targets(y, outputs.numpy(), loss_fn)(y)
        loss = loss_fn(outputs, y)
    if loss.numel() != 1:
        raise ArgumentError(f"signal_report: expected a loss of one number, got shape {loss.shape}")
    if loss.node is None:
        raise ArgumentError("signal_report: expected a loss that depends on the model's outputs, got a constant")
    of_nodes, of_leaves = gradients(loss.node, np.ones(loss.shape, loss.dtype))
    names = {id(module): name for name, module in model.named_modules()}
    layers = [_signal("input", "", given.numpy(), of_leaves.get(id(given)), None)]
    for tensor, node in computed(loss):
        operator = operator_name(node)
        if id(node.module) not in names or operator in UNCHANGED:  # the loss's own, or nothing new
            continue
        learned = [of_leaves[id(p)] for p in node.inputs if id(p) in of_leaves and p is not given]
        gradient = of_nodes.get(node.number)
        layers.append(_signal(names[id(node.module)], operator, tensor.numpy(), gradient, learned or None))
    return SignalReport(layers, float(loss.item()))


def on_the_tape(model: Module, x: Any) -> Tensor:
    """A batch as floats that ask for a gradient: then every operator on them is recorded, also without parameters.

    Pixels are put on the scale 0 .. 1, as the model's `nn.Normalize` or `fit` would do.
    """
    array = Tensor(x).numpy()
    if are_pixels(model, array):
        array = on_scale(array, np.dtype(np.float32))
    return Tensor(array if array.dtype.kind == "f" else array.astype(np.float32), requires_grad=True)


@contextmanager
def _left_as_it_is(model: Module) -> Iterator[None]:
    """Afterwards running statistics and random numbers are what they were."""
    before = [(buffer, buffer.copy()) for buffer in model.buffers()]
    state = copy.deepcopy(random.get_state())
    try:
        yield
    finally:
        random.set_state(state)
        for buffer, values in before:
            buffer[...] = values


def _signal(
    layer: str, operator: str, output: Array, gradient: Array | None, learned: list[Array] | None
) -> LayerSignal:
    saturated = dead = None
    if operator == "sigmoid":
        saturated = float(np.mean(4 * output * (1 - output) < SATURATED))
    elif operator == "tanh":
        saturated = float(np.mean(1 - output**2 < SATURATED))
    elif operator == "relu":
        dead = float(np.mean(~output.any(axis=tuple(d for d in range(output.ndim) if d != 1))))
    return LayerSignal(
        layer,
        operator,
        output.shape,
        float(output.mean(dtype=np.float64)),
        float(output.std(dtype=np.float64)),
        saturated,
        dead,
        0.0 if gradient is None else _norm(gradient),
        None if learned is None else float(np.sqrt(sum(_norm(g) ** 2 for g in learned))),
    )


class SignalRecorder(Callback):
    """A callback that makes a `signal_report` before the first epoch and after each, and draws them over the epochs.

    Args:
        x, y: the batch that it looks at, always the same.
        loss_fn: as for `signal_report`.

    Attributes:
        reports: by epoch; 0 is before the first one.

    >>> import fastnn as fnn
    >>> from fastnn import nn
    >>> model = nn.Sequential(nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 10))
    >>> digits = fnn.data.load("digits")
    >>> signals = fnn.insight.SignalRecorder(digits.images[:64], digits.labels[:64])
    >>> _ = fnn.fit(model, digits, epochs=2, callbacks=[signals], verbose=False)
    >>> list(signals.reports)
    [0, 1, 2]
    """

    def __init__(self, x: Any, y: Any, loss_fn: Callable[..., Any] | None = None) -> None:
        self.x, self.y, self.loss_fn = x, y, loss_fn
        self.reports: dict[int, SignalReport] = {}

    def on_train_begin(self, training: Training) -> None:
        self._look(training, len(training.history))

    def on_epoch_end(self, training: Training) -> None:
        self._look(training, training.epoch)

    def _look(self, training: Training, epoch: int) -> None:
        self.reports[epoch] = signal_report(training.model, self.x, self.y, self.loss_fn)

    def plot(self) -> Figure:
        """Spread, share saturated or dead, norms of both gradients: a curve a layer, over the epochs."""
        if not self.reports:
            raise ArgumentError("SignalRecorder: expected a training that it was given to: fit(..., callbacks=[it])")
        layers = next(iter(self.reports.values())).layers
        colours = plots.by_depth(len(layers))
        drawing = plots.figure(9, 5.6)
        plots.heading(drawing, "Signals over the training, layer by layer")
        panels = drawing.subplots(2, 2, sharex=True)
        for axes, (title, columns, logarithmic) in zip(
            panels.flat,
            (
                ("std of the output", ("std",), True),
                ("saturated (sigmoid, tanh) or dead (ReLU)", ("saturated", "dead"), False),
                ("‖gradient of the output‖", ("gradient",), True),
                ("‖gradient of the parameters‖", ("parameter_gradient",), True),
            ),
            strict=True,
        ):
            plots.styled(axes, title)
            for i, (layer, colour) in enumerate(zip(layers, colours, strict=True)):
                column = next((c for c in columns if getattr(layer, c) is not None), None)
                if column is not None:
                    values = [getattr(report.layers[i], column) for report in self.reports.values()]
                    axes.plot(list(self.reports), values, "-", color=colour, label=layer.name, linewidth=1.3)
            if logarithmic:
                plots.scaled(axes, [line.get_ydata() for line in axes.lines])
            else:
                axes.set_ylim(-0.03, 1.03)
                plots.percent(axes.yaxis)
        for axes in panels[1]:
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
        handles, labels = panels[0, 0].get_legend_handles_labels()
        drawing.legend(handles, labels, loc="outside right upper", fontsize=9, ncols=1 + len(layers) // 31)
        return drawing


def _norm(array: Array) -> float:
    return float(np.linalg.norm(array.astype(np.float64, copy=False)))


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"
