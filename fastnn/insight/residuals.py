"""What a regression is wrong by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import metrics
from fastnn.data.about import about
from fastnn.errors import ArgumentError
from fastnn.insight import plots
from fastnn.nn import Module
from fastnn.tape import Array
from fastnn.train.evaluate import as_dataset, predictor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Residuals", "residuals"]

DECADES = 1000  # from the smallest true value to the largest: then axes are logarithmic, if nothing is below zero
MOST_OUTPUTS_DRAWN = 6
MOST_OUTPUTS_TOLD = 20


@dataclass(frozen=True, eq=False)
class Residuals:
    """What `residuals` found.

    Attributes:
        targets: (N, K), the true values.
        predictions: (N, K), the model's.
    """

    targets: Array
    predictions: Array

    def __len__(self) -> int:
        return len(self.targets)

    def __repr__(self) -> str:
        outputs = self.targets.shape[1]
        if outputs == 1:
            return f"Residuals({len(self)} samples: {self._measures(0)})"
        lines = [f"  output {i}: {self._measures(i)}" for i in range(min(outputs, MOST_OUTPUTS_TOLD))]
        more = [f"  ... {outputs - len(lines)} more"] if outputs > len(lines) else []
        return "\n".join([f"Residuals({len(self)} samples, {outputs} outputs)", *lines, *more])

    def _repr_html_(self) -> str:
        return plots.html(repr(self), self.plot)

    def _measures(self, output: int) -> str:
        pair = self.targets[:, output], self.predictions[:, output]
        return f"RMSE {metrics.rmse(*pair):.3g}, MAE {metrics.mae(*pair):.3g}, R² {metrics.r2(*pair):.3g}"

    def plot(self) -> Figure:
        """Each output's predictions against the true values, and its residuals by prediction; a row an output.

        Right predictions lie on the dashed lines; a bend or a funnel of the residuals says what the model misses.
        """
        count = min(self.targets.shape[1], MOST_OUTPUTS_DRAWN)
        drawing = plots.figure(7.5, 0.6 + 2.9 * count)
        several = self.targets.shape[1] > 1
        for i, (against, rest) in enumerate(drawing.subplots(count, 2, squeeze=False)):
            true, found = self.targets[:, i], self.predictions[:, i]
            ends = [min(true.min(), found.min()), max(true.max(), found.max())]
            name = f"output {i}: " if several else ""
            plots.styled(against, f"{name}predicted against true", "true value", "predicted value")
            of_one = f", R² {metrics.r2(true, found):.3g}" if several else ""
            plots.styled(rest, f"{name}residuals{of_one}", "predicted value", "predicted − true")
            style: dict[str, Any] = {"s": 12, "color": plots.BLUE, "alpha": max(0.15, min(0.7, 100 / len(self)))}
            against.scatter(true, found, **style)
            against.plot(ends, ends, color=plots.RED, linestyle="--", linewidth=1.2, label="as it should be")
            if min(ends) > 0 and max(true) > DECADES * min(true):
                against.set(xscale="log", yscale="log")
                rest.set_xscale("log")
            else:
                against.set_aspect("equal", adjustable="datalim")
                for axis in (against, rest):
                    axis.ticklabel_format(scilimits=(-3, 4))
            against.legend(fontsize=9)
            rest.scatter(found, found - true, **style)
            rest.axhline(0, color=plots.RED, linestyle="--", linewidth=1.2)
        left_out = self.targets.shape[1] - count
        more = f"; {left_out} more outputs" if left_out else ""
        measures = "each output by itself" if several else self._measures(0)
        plots.heading(drawing, f"{len(self):,} samples: {measures}{more}")
        return drawing


def residuals(model: Module, data: Any, y: Any = None) -> Residuals:
    """The predictions of a regression beside the true values.

    Args:
        model: maps samples (N, ...) to values (N, K), or (N,); used in eval mode, its mode is put back.
        data: as for `evaluate`: a `Dataset`, ``(X, y)``, or X with y after it, of floating targets (N, K), or (N,).
        y: the targets of X.

    Raises ArgumentError for targets that are classes, or outputs of another shape.

    >>> import numpy as np, fastnn as fnn
    >>> fnn.manual_seed(0)
    >>> x = np.linspace(0, 1, 8, dtype=np.float32)[:, None]
    >>> residuals(fnn.nn.Linear(1, 1), (x, 2 * x)).predictions.shape
    (8, 1)
    """
    dataset = as_dataset(data if y is None else (data, y), "test", about(model))
    targets = dataset.labels
    if not isinstance(targets, np.ndarray) or targets.dtype.kind != "f" or not len(targets):
        raise ArgumentError(f"residuals: expected samples with floating targets (N,) or (N, K), got {dataset!r}")
    outputs = predictor(model, compile=True)(dataset.images)
    found = np.asarray(outputs, np.float64).reshape(len(targets), -1)
    true = targets.astype(np.float64).reshape(len(targets), -1)
    if found.shape != true.shape:
        raise ArgumentError(f"residuals: expected outputs of the targets' shape {true.shape}, got {outputs.shape}")
    return Residuals(true, found)
