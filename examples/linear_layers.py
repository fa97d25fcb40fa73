"""Linear layers one after another are one linear layer; a single ReLU between them changes that.

    python examples/linear_layers.py [--out FOLDER]

First W₃(W₂(W₁x + b₁) + b₂) + b₃ is compared with W̃x + b̃, where W̃ = W₃W₂W₁: they differ by rounding alone. Then three
linear layers learn to tell a disc from the bow around it, without and with a ReLU. What to see: without, the boundary
is a straight line, whatever is between; with one ReLU it goes around the disc.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import nn, optim
from fastnn.insight import plots


def collapse(layers: list[nn.Linear]) -> tuple[np.ndarray, np.ndarray]:
    """The one weight and the one bias that linear layers, the first one first, come to."""
    weight, bias = np.eye(layers[0].in_features), np.zeros(layers[0].in_features)
    for layer in layers:
        weight, bias = layer.weight.data @ weight, layer.weight.data @ bias + layer.bias.data
    return weight, bias


def disc_and_bow(count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 2) and their classes: 0 within the radius 1, 1 between 1.4 and 2.4, on half a ring."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    radius = rng.uniform(0, 1, count) + 1.4 * labels
    angle = rng.uniform(0, 2 * np.pi, count) * np.where(labels, 0.55, 1)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32), labels


def main(out: Path) -> dict[str, float]:
    """Draws the picture; gives how far the two differ, and the accuracy of both networks."""
    fnn.manual_seed(0)
    three = nn.Sequential(nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(16, 2))
    relu = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 2))
    points, labels = disc_and_bow()
    figure = plots.figure(7.5, 3.4)
    grid = np.stack(np.meshgrid(np.linspace(-2.6, 2.6, 150), np.linspace(-2.6, 2.6, 150)), -1).astype(np.float32)
    results = {}
    for axes, (name, model) in zip(
        figure.subplots(1, 2), {"three linear layers": three, "… and one ReLU": relu}.items(), strict=True
    ):
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        fnn.fit(model, (points, labels), optimizer=optimizer, epochs=40, batch_size=32, seed=0, verbose=False)
        results[name] = fnn.evaluate(model, (points, labels)).accuracy
        bow = nn.Softmax(1)(model(grid.reshape(-1, 2))).numpy()[:, 1].reshape(150, 150)
        plots.styled(axes, f"{name}: {100 * results[name]:.1f} % right", "x₁", "x₂")
        shades = axes.contourf(*np.moveaxis(grid, -1, 0), bow, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.5)
        axes.contour(*np.moveaxis(grid, -1, 0), bow, levels=[0.5], colors="black", linewidths=1.5)
        for label, (what, colour) in enumerate({"disc": plots.BLUE, "bow": plots.RED}.items()):
            axes.scatter(*points[labels == label].T, s=5, color=colour, label=what)
        axes.legend(fontsize=9, loc="lower left", markerscale=2)
        axes.set_aspect("equal")
    bar = figure.colorbar(shades, ax=figure.axes, shrink=0.8, label="probability of the bow")
    plots.percent(bar.ax.yaxis)
    weight, bias = collapse(list(three))
    results["difference"] = float(np.abs(three(points).numpy() - (points @ weight.T + bias)).max())
    print(f"W₃W₂W₁ = {weight.round(3).tolist()}: its outputs differ from the layers' by {results['difference']:.1e}")
    for name in ("three linear layers", "… and one ReLU"):
        print(f"{name}: {results[name]:.1%} right")
    save(figure, out / "linear_layers.png")
    return results


if __name__ == "__main__":
    run(main, __doc__)
