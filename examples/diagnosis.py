"""Under- and overfitting, and how to tell: three trainings on the digits, each diagnosed.

    python examples/diagnosis.py [--out FOLDER] [--full]

* A linear classifier of digits that are moved about: it underfits, for no weights fit all places.
* A large network and a hundred images: it overfits, for it can learn them by heart.
* A small convolutional network and all images: good.

Prints what `fnn.diagnose` says, and draws the learning curves of each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from _shared import run, save

import fastnn as fnn
from fastnn import optim, recipes
from fastnn.data import Dataset
from fastnn.insight import Diagnosis


def moved(data: Dataset, by: int = 6) -> Dataset:
    """Every image somewhere else, up to `by` pixels away."""
    rng = np.random.default_rng(0)
    images = [np.roll(image, tuple(rng.integers(-by, by + 1, 2)), (1, 2)) for image in data.images]
    return Dataset(np.array(images), data.labels, data.classes, data.name)


def diagnosed(model: str, train: Any, val: Any, epochs: int) -> Diagnosis:
    fnn.manual_seed(0)
    network = recipes.MODELS[model](mean=0.22, std=0.32)
    optimizer = optim.Adam(network.parameters(), lr=2e-3)
    history = fnn.fit(network, train, val, optimizer=optimizer, epochs=epochs, batch_size=32, seed=0, verbose=False)
    return fnn.diagnose(history)


def main(out: Path, full: bool = False) -> dict[str, Diagnosis]:
    digits = fnn.data.load("mnist" if full else "digits")
    rest, held = digits.split(0.2)
    few = rest.split(100)[1]
    diagnoses = {
        "linear": diagnosed("linear", moved(digits), 0.2, epochs=15),
        "mlp": diagnosed("mlp", few, held, epochs=30),
        "convolutions": diagnosed("fast", digits, 0.2, epochs=10),
    }
    for name, diagnosis in diagnoses.items():
        print(f"{name}\n{diagnosis}\n")
        save(diagnosis.plot(), out / f"diagnosis_{name}.png")
    return diagnoses


if __name__ == "__main__":
    run(main, __doc__)
