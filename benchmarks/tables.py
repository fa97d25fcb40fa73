"""``python -m benchmarks.tables``: tables, by the recipe with its defaults, beside scikit-learn's neural network.

Scores of the two on a quarter that neither saw, over five splits; then the time of an epoch on 20,000 rows of 8 columns
(California housing's size), by networks of the same hidden layer and batches of the same size, with the same optimiser.
The two alternate, and the median of the ratios counts.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn

SEEDS, ROUNDS, EPOCHS, BATCH = 5, 5, 10, 200


def scores(name: str) -> tuple[float, float, float]:
    """Mean R² or accuracy of fastnn's recipe, of scikit-learn's defaults, and of these on standardised columns."""
    from sklearn import datasets, model_selection, neural_network, pipeline, preprocessing

    values = name == "diabetes"
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    peer = neural_network.MLPRegressor if values else neural_network.MLPClassifier
    found = []
    for seed in range(SEEDS):
        train, test, y_train, y_test = model_selection.train_test_split(X, y, random_state=seed)
        run = fnn.recipes.train(train, y_train.astype(float) if values else y_train, seed=seed, verbose=False)
        measure: Any = fnn.metrics.r2 if values else fnn.metrics.accuracy
        plain = peer(random_state=seed)
        scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), peer(random_state=seed))
        others = [model.fit(train, y_train).score(test, y_test) for model in (plain, scaled)]
        found.append((measure(y_test, run.predict(test)), *others))
    own, default, standardised = np.mean(found, axis=0).tolist()
    return own, default, standardised


def epoch_times() -> np.ndarray:
    """(ROUNDS, 2): seconds of one epoch of fastnn's and of scikit-learn's."""
    from sklearn.neural_network import MLPRegressor

    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 8))
    y = X @ rng.standard_normal(8) + np.sin(3 * X[:, 0])

    def own() -> None:
        model = nn.Sequential(nn.Normalize.of(X), nn.Linear(8, 100), nn.ReLU(), nn.Linear(100, 1))
        fnn.fit(model, X, y, epochs=EPOCHS, batch_size=BATCH, verbose=False)

    def other() -> None:
        MLPRegressor(batch_size=BATCH, max_iter=EPOCHS, n_iter_no_change=EPOCHS).fit(X, y)

    times = []
    for _ in range(ROUNDS):
        for work in (own, other):
            start = time.perf_counter()
            work()
            times.append((time.perf_counter() - start) / EPOCHS)
    return np.reshape(times, (ROUNDS, 2))


def main() -> None:
    warnings.simplefilter("ignore")  # that an optimisation has not converged
    print("                     fastnn's recipe   scikit-learn's defaults   on standardised columns")
    for name, measure in (("diabetes", "R²"), ("breast_cancer", "accuracy")):
        print("{:<14}{:<10}{:>12.3f}{:>26.3f}{:>26.3f}".format(name, measure, *scores(name)))
    times = epoch_times()
    own, other = np.median(times, axis=0)
    ratio = np.median(times[:, 1] / times[:, 0])
    print(f"20,000 rows, an epoch: fastnn {1e3 * own:.1f} ms, scikit-learn {1e3 * other:.1f} ms: {ratio:.1f}x")


if __name__ == "__main__":
    main()
