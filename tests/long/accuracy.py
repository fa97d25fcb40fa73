"""A recipe's accuracy is within its published band for every seed.

Five seeds of each recipe on the digits of the package, and of `fast` on MNIST where that is found. `BANDS` is the
table "Accuracy of the recipes" in docs/PERFORMANCE.md: the accuracy on the test images that each seed must reach at
least, and the accuracy after which the time is taken.
"""

from __future__ import annotations

import os
import re
import statistics
import time
from pathlib import Path
from typing import Any

import fastnn as fnn
from fastnn import data, recipes

IN_CI = 0.02
SEEDS = 5
PAGE = Path(__file__).parents[2] / "docs" / "PERFORMANCE.md"
ROW = re.compile(r"^\| `(\w+)` \| (digits|mnist) \| ([\d.]+) % \| ([\d.]+) %", re.MULTILINE)


def bands() -> dict[tuple[str, str], tuple[float, float]]:
    """(model, data) -> (the least accuracy of a seed, the accuracy for which the time is taken), as published."""
    text = PAGE.read_text()
    return {(model, of): (float(least) / 100, float(goal) / 100) for model, of, least, goal in ROW.findall(text)}


class Watch(fnn.train.Callback):
    """Takes the time at which the test images are classified to `goal`, without that of looking."""

    def __init__(self, test: data.Dataset, goal: float) -> None:
        self.test, self.goal, self.start, self.looking = test, goal, time.perf_counter(), 0.0
        self.reached: float | None = None
        self.accuracy = 0.0

    def on_epoch_end(self, state: Any) -> None:
        now = time.perf_counter()
        self.accuracy = float(fnn.evaluate(state.model, self.test).accuracy)
        if self.reached is None and self.accuracy >= self.goal:
            self.reached = now - self.start - self.looking
        self.looking += time.perf_counter() - now


def one(model: str, of: str, seed: int, goal: float, **changes: Any) -> Watch:
    train, test = (data.load(of, split=half) for half in ("train", "test"))
    watch = Watch(test, goal)
    recipes.train(train, model=model, seed=seed, callbacks=[watch], verbose=False, **changes)
    return watch


def measure(share: float = 1.0) -> str:
    """The lowest accuracy and the median time of each recipe. In short, one seed of the quickest one."""
    found, published = [], bands()
    assert published, f"no table of accuracies in {PAGE.name}"
    seeds = range(max(1, round(SEEDS * share)))
    for (model, of), (least, goal) in published.items():
        if share < 0.1 and (model, of) != ("fast", "digits"):
            continue
        if of != "digits" and "FASTNN_DATA_DIR" not in os.environ:  # nothing is downloaded here
            continue
        runs = [one(model, of, seed, goal) for seed in seeds]
        for seed, run in zip(seeds, runs, strict=True):
            assert run.accuracy >= least, (
                f"{model} on {of}, seed {seed}: {run.accuracy:.2%}, published at least {least:.2%}"
            )
        times = [run.reached for run in runs if run.reached is not None]
        seconds = f"{statistics.median(times):.2f} s" if 2 * len(times) > len(runs) else "not reached"
        found.append(f"{model} on {of} {min(run.accuracy for run in runs):.2%} ({goal:.0%} in {seconds})")
    return "; ".join(found)
