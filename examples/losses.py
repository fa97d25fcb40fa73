"""The losses and their gradients, as the tape computes them and as the lecture derives them.

    python examples/losses.py [--out FOLDER]

Cross-entropy's gradient with respect to the logits is softmax − y, that of the binary one with a sigmoid σ(z) − y, that
of the squared error 2(ŷ − y). What to see: cross-entropy pulls hardest where the answer is most wrong; the squared
error of a sigmoid, dashed, does not pull there at all. With logits of ±10,000 the formulas as they stand overflow; the
losses that take logits stay exact.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import nn
from fastnn.insight import plots


def with_gradient(loss: nn.Module, x: np.ndarray, target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Losses of each row, and their gradients: a row's loss depends on that row alone, so one pass gives all."""
    given = fnn.Tensor(x, requires_grad=True)
    values = loss(given, target)
    values.sum().backward()
    return values.numpy(), given.grad


def main(out: Path) -> dict[str, float]:
    """Draws the picture; gives the greatest differences from the formulas, and losses of ±10,000."""
    z = np.linspace(-6, 6, 121)
    results = {}
    figure = plots.figure(7.5, 3.4)
    multi, binary, squared = figure.subplots(1, 3)

    logits = np.stack([z, np.zeros(121), np.full(121, 1.0)], 1)  # the first of three classes is the true one
    value, gradient = with_gradient(nn.CrossEntropyLoss(reduction="none"), logits, np.zeros(121, int))
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - [1, 0, 0]
    results["softmax − y"] = float(np.abs(gradient - expected).max())
    curves(multi, "cross-entropy, 3 classes", "logit of the true class", z, value, gradient[:, 0], expected[:, 0])

    value, gradient = with_gradient(nn.BCEWithLogitsLoss(reduction="none"), z, np.ones(121))
    sigmoid = 1 / (1 + np.exp(-z))
    results["σ(z) − y"] = float(np.abs(gradient - (sigmoid - 1)).max())
    curves(binary, "binary, y = 1", "logit z", z, value, gradient, sigmoid - 1)

    value, gradient = with_gradient(nn.MSELoss(reduction="none"), z, np.ones(121))
    results["2(ŷ − y)"] = float(np.abs(gradient - 2 * (z - 1)).max())
    curves(squared, "squared error, y = 1", "ŷ", z, value, gradient, 2 * (z - 1))
    squared.set_ylim(-15, 45)
    binary.plot(z, 2 * (sigmoid - 1) * sigmoid * (1 - sigmoid), "--", color=plots.GRAY, label="… of (σ(z) − y)²")
    for axes in figure.axes:
        axes.legend(fontsize=9, handlelength=1.2, borderaxespad=0.2)
    for axes in (multi, binary):
        axes.set_ylim(top=10)  # room for the legend

    for name, difference in results.items():
        print(f"gradient against {name}: differs by at most {difference:.1e}")
    with np.errstate(all="ignore"):
        naive = -np.log(np.exp(1e4) / (np.exp(1e4) + np.exp(-1e4)))
    stable = nn.CrossEntropyLoss(reduction="none")([[1e4, -1e4], [1e4, -1e4]], [0, 1]).numpy()
    results["right by 20,000"], results["wrong by 20,000"] = map(float, stable)
    print(f"cross-entropy of logits (10⁴, −10⁴): {stable[0]} for the first class, {stable[1]} for the second")
    print(f"the first as the formula stands: {naive}")
    save(figure, out / "losses.png")
    return results


def curves(axes: Any, title: str, x: str, at: np.ndarray, value: np.ndarray, slope: np.ndarray, formula: Any) -> None:
    plots.styled(axes, title, x)
    axes.plot(at, value, color=plots.BLUE, label="loss")
    axes.plot(at, slope, color=plots.RED, label="gradient")
    axes.plot(at[::10], formula[::10], "o", color=plots.RED, markersize=4, fillstyle="none", label="its formula")


if __name__ == "__main__":
    run(main, __doc__)
