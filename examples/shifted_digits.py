"""Dense and convolutional networks of equal size, on digits that stand elsewhere than those they were trained on.

    python examples/shifted_digits.py [--out FOLDER] [--full]

Both have some 14,000 parameters and see the same digits, half as large and all in the middle; the test digits are
moved by up to seven pixels, left, right, up and down. What to see: as long as nothing moves both are good. The dense
network has learned what each pixel means, and is lost after three pixels. The convolutions look for the same patterns
everywhere, and the mean over all places forgets where they were. By two, four and six pixels hardly an answer changes;
by odd numbers a little is lost, for pooling cuts the image into squares of two by two; with MNIST (--full) next to
nothing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import nn, optim
from fastnn.data import Dataset
from fastnn.insight import plots

SHIFTS = range(8)


def dense(std: float) -> nn.Sequential:
    return nn.Sequential(nn.Normalize(0.0, std), nn.Flatten(), nn.Linear(784, 18), nn.ReLU(), nn.Linear(18, 10))


def convolutional(std: float) -> nn.Sequential:
    """What is padded is 0, as the background is: no edge tells where a digit stands."""
    return nn.Sequential(
        nn.Normalize(0.0, std),
        nn.Conv2d(1, 16, 3, padding=2), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(16, 32, 3, padding=2), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=2), nn.ReLU(),
        nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def half_as_large(data: Dataset) -> Dataset:
    """28×28 images at half their size in the middle of empty ones."""
    small = data.images.reshape(-1, 1, 14, 2, 14, 2).mean((3, 5)).astype(np.uint8)
    return Dataset(np.pad(small, ((0, 0), (0, 0), (7, 7), (7, 7))), data.labels, data.classes, data.name)


def moved(data: Dataset, by: int) -> list[Dataset]:
    """The data set four times: moved left, up, right and down by so many pixels."""
    places = [(sign * by, axis) for sign in (-1, 1) for axis in (2, 3)]
    return [Dataset(np.roll(data.images, shift, axis), data.labels) for shift, axis in places]


def main(out: Path, full: bool = False, epochs: int | None = None) -> dict[str, list[float]]:
    """Draws the picture; gives each network's accuracy by shift."""
    name = "mnist" if full else "digits"
    epochs = epochs or (2 if full else 12)
    train, test = (half_as_large(fnn.data.load(name, split=split)) for split in ("train", "test"))
    figure = plots.figure(7.5, 3.2)
    pictures, curve = figure.subfigures(1, 2, width_ratios=(1, 1.7))
    plots.styled(curve.subplots(), "test images", "moved by … pixels", "accuracy")
    plots.percent(curve.axes[0].yaxis)
    accuracies = {}
    for kind, build, colour in (("dense", dense, plots.ORANGE), ("convolutional", convolutional, plots.BLUE)):
        fnn.manual_seed(0)
        model = build(train.statistics()[1][0])
        optimizer = optim.Adam(model.parameters())
        cycle = optim.lr_scheduler.OneCycleLR(optimizer, 0.02, epochs=epochs, steps_per_epoch=-(-len(train) // 32))
        fnn.fit(model, train, optimizer=optimizer, scheduler=cycle, epochs=epochs, batch_size=32, seed=0, verbose=False)
        accuracies[kind] = [
            float(np.mean([fnn.evaluate(model, data).accuracy for data in moved(test, by)])) for by in SHIFTS
        ]
        label = f"{kind}, {sum(p.numel() for p in model.parameters()):,} parameters"
        curve.axes[0].plot(SHIFTS, accuracies[kind], "o-", color=colour, label=label)
        print(f"{label}: " + ", ".join(f"{accuracy:.1%}" for accuracy in accuracies[kind]))
    curve.axes[0].set_ylim(0, 1)
    curve.axes[0].legend(fontsize=9)
    for axes, by in zip(pictures.subplots(2, 2).flat, (0, 2, 4, 7), strict=True):
        plots.picture(axes, moved(test, by)[-1].images[3], title=f"moved by {by}")
    save(figure, out / "shifted_digits.png")
    return accuracies


if __name__ == "__main__":
    run(main, __doc__)
