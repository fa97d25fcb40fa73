"""The loss around a trained network: along lines, and over a plane, with the way that its training took.

    python examples/landscapes.py [--out FOLDER] [--full]

Two networks are trained from different random numbers. What to see: along a random direction w* + t·d the loss rises
on both sides of t = 0, where it is exactly that of the network; on the straight line to the other network, which is as
good, there is a ridge between them: the problem is not convex. Over the plane of the way's two principal components the
training comes down into a valley. Also writes landscapes.html: the plane to turn about, with values under the pointer.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import optim
from fastnn.insight import plots


def main(
    out: Path, full: bool = False, epochs: int | None = None, points: int = 25
) -> dict[str, fnn.landscape.Landscape]:
    """Draws the pictures; gives both lines and the plane."""
    digits, epochs = fnn.data.load("mnist" if full else "digits"), epochs or (2 if full else 8)
    models, paths = [], []
    for seed in (0, 1):
        fnn.manual_seed(seed)
        models.append(fnn.recipes.fast((1, 28, 28), 10, *digits.statistics()))
        record = fnn.train.RecordPath()
        optimizer = optim.SGD(models[-1].parameters(), lr=0.05, momentum=0.9)
        fnn.fit(models[-1], digits, optimizer=optimizer, epochs=epochs, callbacks=[record], verbose=False)
        paths.append(record.path)
    trained, other = models
    results = {
        "random": fnn.landscape.line(trained, digits, images=500, progress=False),
        "other": fnn.landscape.line(trained, digits, other, extent=(-0.25, 1.25), images=500, progress=False),
        "plane": fnn.landscape.plane(trained, digits, path=paths[0], points=points, images=500, progress=False),
    }
    figure = plots.figure(7.5, 3.2)
    for axes, name, title in zip(
        figure.subplots(1, 2, sharey=True),
        ("random", "other"),
        ("along a random direction", "towards another network"),
        strict=True,
    ):
        result = results[name]
        plots.styled(axes, title, "t", "loss").semilogy(result.axes[0].values, result.losses, color=plots.BLUE)
        axes.plot(0, result.centre, "o", color=plots.RED, label="the trained network")
        if name == "other":
            at = np.argmin(np.abs(result.axes[0].values - 1))
            axes.plot(1, result.losses[at], "D", color=plots.GREEN, label="the other one")
        axes.legend(fontsize=9, loc="upper center")
        print(f"{title}: from {result.centre:.3f} at t = 0 to at most {result.losses.max():.3f}")
    save(figure, out / "landscapes_lines.png")
    save(fnn.landscape.picture(results["plane"]), out / "landscapes_plane.png")
    fnn.landscape.view(results["plane"], out / "landscapes.html", show=False)
    return results


if __name__ == "__main__":
    run(main, __doc__)
