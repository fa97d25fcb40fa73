"""The activation functions, each beside its gradient, as the tape computes it.

    python examples/activations.py [--out FOLDER]

What to see: a sigmoid's gradient is at most 1/4, tanh's at most 1, and both vanish on either side; ReLU's is 0 or 1;
LeakyReLU and ELU leave some on the left; GELU and SiLU are smooth, and fall before they rise.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import nn
from fastnn.insight import plots

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "ReLU": nn.ReLU,
    "LeakyReLU (0.1)": lambda: nn.LeakyReLU(0.1),
    "ELU": nn.ELU,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
}


def curves(make: Callable[[], nn.Module], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values, and gradients by backward(): each output depends on its own input alone, so one pass gives all."""
    given = fnn.Tensor(x, requires_grad=True)
    y = make()(given)
    y.sum().backward()
    return y.data, given.grad


def main(out: Path) -> Any:
    """Draws the picture; gives the figure."""
    x = np.linspace(-4, 4, 400)
    figure = plots.figure(7.5, 4.2)
    *panels, last = figure.subplots(2, 4, sharex=True, sharey=True).flat
    for axes, (name, make) in zip(panels, ACTIVATIONS.items(), strict=True):
        y, slope = curves(make, x)
        plots.styled(axes, name).plot(x, y, color=plots.BLUE, label="f(x)")
        axes.plot(x, slope, color=plots.RED, linestyle="--", label=f"f′(x) ≤ {slope.max():.3g}")
        axes.legend(fontsize=9, handlelength=1.2, loc="upper left", borderaxespad=0.2)
        axes.set(xticks=[-4, -2, 0, 2, 4], ylim=(-1.4, 4.6))
    for axes in panels[3:]:
        axes.set_xlabel("x")
        axes.tick_params(labelbottom=True)
    last.remove()
    save(figure, out / "activations.png")
    return figure


if __name__ == "__main__":
    run(main, __doc__)
