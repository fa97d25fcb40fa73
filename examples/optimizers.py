"""Optimisers side by side, from one start: in a ravine, and on the loss of a network.

    python examples/optimizers.py [--out FOLDER] [--full]

What to see in the ravine, 100 times as steep across as along: plain descent (SGD) goes from side to side and hardly
forward, so that its loss is still 0.4 after 120 steps (paths are drawn up to step 14, where all are seen); momentum
gathers speed and runs past the minimum, but ends at 6e-5; Nesterov's look-ahead swings less, and ends at 6e-6. Adam,
RMSprop, Rprop and Adagrad give each coordinate a step of its own; Adagrad's only ever shrinks. On the network, which is
not convex, they go different ways to different ends: the plane is the one in which their ways differ most. Also writes
optimizers_ravine.html: a page to turn about, on which the paths can be played.
"""

from __future__ import annotations

from pathlib import Path

from _shared import run, save

import fastnn as fnn


def main(out: Path, full: bool = False, points: int = 25) -> dict[str, fnn.landscape.Landscape]:
    """Draws the pictures; gives surfaces and paths."""
    fnn.manual_seed(0)
    digits = fnn.data.load("mnist" if full else "digits")
    model = fnn.recipes.fast((1, 28, 28), 10, *digits.statistics())
    results = {
        "ravine": fnn.compare_optimizers("ravine"),
        "network": fnn.compare_optimizers(model, digits, points=points, images=200, progress=False),
    }
    for name, result in results.items():
        for path in result.paths:
            print(f"{name:8} {path.name:9} loss {path.losses[0]:7.3f} → {path.losses[-1]:.2g}")
        save(fnn.landscape.picture(result), out / f"optimizers_{name}.png")
    fnn.landscape.view(results["ravine"], out / "optimizers_ravine.html", show=False)
    return results


if __name__ == "__main__":
    run(main, __doc__)
