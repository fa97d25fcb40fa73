"""``python -m benchmarks.sklearn_mlp``: fastnn.sklearn beside scikit-learn: epochs of MNIST, and a search.

The network of scikit-learn's defaults, 100 hidden units and batches of 200, and one of 512 units, from the same draws,
on pixels as NumPy divides them, in float64, in which scikit-learn then computes, and fastnn in float32. The two
alternate, and the median of the ratios counts. Then a search over 16 settings on one worker and on two, each a
process with one thread, which alternate, too; the two are started beforehand.
"""

from __future__ import annotations

import argparse
import time
import warnings

import joblib
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier as Theirs

import fastnn as fnn
from fastnn.sklearn import MLPClassifier

GRID = {"alpha": [1e-4, 1e-2], "learning_rate_init": [0.0005, 0.001, 0.002, 0.004], "beta_1": [0.8, 0.9]}


def pixels(split: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, 784) from 0 to 1, and labels."""
    dataset = fnn.data.load("mnist", split=split)
    return dataset.images.reshape(len(dataset), -1) / 255, dataset.labels


def epochs(units: int, rounds: int, count: int) -> None:
    """Seconds of an epoch of each, and the accuracies after `count` epochs."""
    (X, y), test = pixels("train"), pixels("test")
    times, scores = [], []
    for seed in range(rounds):
        for kind in (MLPClassifier, Theirs):
            start = time.perf_counter()
            model = kind((units,), max_iter=count, random_state=seed).fit(X, y)
            times.append((time.perf_counter() - start) / count)
            scores.append(model.score(*test))
    (own, other), (right, expected) = (np.reshape(each, (-1, 2)).T for each in (times, scores))
    print(
        f"MNIST, {units} units, an epoch: fastnn {np.median(own):.3f} s, scikit-learn {np.median(other):.3f} s: "
        f"{np.median(other / own):.1f}x; accuracy after {count} epochs {100 * np.mean(right):.2f} % and "
        f"{100 * np.mean(expected):.2f} %"
    )


def search(rounds: int) -> None:
    """Seconds of a grid search over 16 settings by one worker and by two."""
    X, y = pixels("train")
    X, y = X[:10_000], y[:10_000]

    def seconds(workers: int) -> float:
        with joblib.parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
            start = time.perf_counter()
            GridSearchCV(MLPClassifier(max_iter=5, random_state=0), GRID, cv=2, refit=False).fit(X, y)
            return time.perf_counter() - start

    fnn.set_num_threads(1)  # of this process, which is the one worker
    seconds(2)  # starts the others
    times = np.array([[seconds(1), seconds(2)] for _ in range(rounds)])
    alone, together = np.median(times, axis=0)
    print(f"16 settings: one worker {alone:.1f} s, two {together:.1f} s: {np.median(times[:, 0] / times[:, 1]):.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")  # that a training has not converged
    for units in (100, 512):
        epochs(units, chosen.rounds, chosen.epochs)
    search(chosen.rounds)


if __name__ == "__main__":
    main()
