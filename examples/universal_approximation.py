"""Universal approximation: one hidden layer of K sigmoids comes as near to a curve as one likes, if K is large enough.

    python examples/universal_approximation.py [--out FOLDER]

f(x) = β₀ + Σ βₖ σ(wₖ₀ + wₖ₁x) (Cybenko 1989), fitted by nonlinear least squares: full-batch Rprop on the squared error.
What to see: with few units there are few bends, with 32 the fit is drawn over by the curve; the error falls with K.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import nn, optim
from fastnn.insight import plots

UNITS = (1, 2, 4, 8, 16, 32)


def target(x: np.ndarray) -> np.ndarray:
    return np.sin(2 * np.pi * x) + 0.4 * np.sin(7 * np.pi * x) * x


def fitted(units: int, x: np.ndarray, y: np.ndarray, epochs: int) -> nn.Sequential:
    fnn.manual_seed(1)
    model = nn.Sequential(nn.Linear(1, units), nn.Sigmoid(), nn.Linear(units, 1))
    slope = model[0].weight.data
    slope *= 20  # each unit bends within the interval, at a place of its own
    model[0].bias.data[...] = -slope[:, 0] * np.linspace(-1, 1, units + 2)[1:-1]
    optimizer = optim.Rprop(model.parameters(), lr=0.01)
    fnn.fit(
        model, (x, y), loss=nn.MSELoss(), optimizer=optimizer, epochs=epochs, batch_size="full", seed=0, verbose=False
    )
    return model


def main(out: Path, epochs: int = 1000) -> dict[int, float]:
    """Draws the picture; gives the mean squared error by K."""
    x = np.linspace(-1, 1, 200, dtype=np.float32)[:, np.newaxis]
    y = target(x)
    errors = {}
    figure = plots.figure(7.8, 4.4)
    panels = figure.subplots(2, 4, width_ratios=(1, 1, 1, 1.15))
    for axes, units in zip(panels[:, :3].flat, UNITS, strict=True):
        fit = fitted(units, x, y, epochs)(x).numpy()
        errors[units] = float(np.mean((fit - y) ** 2))
        plots.styled(axes, f"K = {units}", "x")
        axes.plot(x, y, color=plots.GRAY, linewidth=3, alpha=0.5, label="the curve")
        axes.plot(x, fit, color=plots.BLUE, label="K sigmoids")
        axes.set_ylim(-1.6, 1.6)
        print(f"K = {units:2}: mean squared error {errors[units]:.2e}")
    for axes in panels[:, 0]:
        axes.set_ylabel("f(x)")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=9)
    for axes in panels[:, 3]:
        axes.remove()
    by_units = plots.styled(figure.add_subplot(panels[0, 3].get_gridspec()[:, 3]), "mean squared error", "K, units")
    by_units.loglog(list(errors), list(errors.values()), "o-", color=plots.BLUE)
    by_units.set_xticks(UNITS, UNITS, minor=False)
    by_units.minorticks_off()
    save(figure, out / "universal_approximation.png")
    return errors


if __name__ == "__main__":
    run(main, __doc__)
