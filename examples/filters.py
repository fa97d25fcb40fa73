"""What networks learn to look for: weights of the classes, filters, and an image on its way through the layers.

    python examples/filters.py [--out FOLDER] [--full]

Trains a linear classifier and a small convolutional network on the digits, and draws class_weights.png, filters.png and
feature_maps.png. Weight decay takes away what the training does not put there: the noise of the initial weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _shared import run, save

import fastnn as fnn
from fastnn import nn, optim, recipes
from fastnn.insight import class_weights, feature_maps, filters


def main(out: Path, full: bool = False, epochs: int | None = None) -> dict[str, Any]:
    """Draws the pictures; gives the figures."""
    digits, epochs = fnn.data.load("mnist" if full else "digits"), epochs or (2 if full else 15)
    fnn.manual_seed(0)
    linear = recipes.linear(mean=0.22, std=0.32)
    train(linear, digits, epochs)
    network = nn.Sequential(
        nn.Normalize(0.22, 0.32), nn.Conv2d(1, 12, 7), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    train(network, digits, epochs)
    figures = {
        "class_weights.png": class_weights(linear).plot(),
        "filters.png": filters(network).plot(),
        "feature_maps.png": feature_maps(network, digits.images[5]).plot(),
    }
    for name, figure in figures.items():
        save(figure, out / name)
    return figures


def train(model: nn.Module, digits: fnn.data.Dataset, epochs: int) -> None:
    optimizer = optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=0.02)
    fnn.fit(model, digits, optimizer=optimizer, epochs=epochs, batch_size=32, seed=0, verbose=False)


if __name__ == "__main__":
    run(main, __doc__)
