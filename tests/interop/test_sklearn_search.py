"""Searches over parameters on several workers: the same result as on one, and no more threads than there are CPUs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import joblib
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

import fastnn as fnn
from fastnn.sklearn import CNNClassifier, MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X, Y = X[:300] / 16, Y[:300]


def searched() -> Any:
    estimator = MLPClassifier((20,), max_iter=5, random_state=0)
    grid = {"learning_rate_init": [0.001, 0.01], "solver": ["adam", "sgd", "lbfgs"]}
    return GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(X, Y)


@pytest.fixture(scope="module")
def alone() -> list[float]:
    scores: list[float] = searched().cv_results_["mean_test_score"].tolist()
    return scores


@contextmanager
def dask() -> Iterator[None]:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster), joblib.parallel_config("dask"):
        yield


@contextmanager
def loky() -> Iterator[None]:
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        yield


@pytest.mark.parametrize("workers", [loky, pytest.param(dask, marks=pytest.mark.long)])
def test_processes_find_the_same_with_a_thread_each(
    workers: Any, alone: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTNN_NUM_THREADS", raising=False)
    with workers():
        assert joblib.Parallel()(joblib.delayed(fnn.get_num_threads)() for _ in range(4)) == [1] * 4
        found = searched()
    assert found.cv_results_["mean_test_score"].tolist() == alone
    assert found.best_estimator_.score(X, Y) > 0.6


def test_threads_find_the_same(alone: list[float]) -> None:
    with joblib.parallel_config("threading", n_jobs=4):
        assert searched().cv_results_["mean_test_score"].tolist() == alone


def test_threads_do_not_disturb_each_others_first_weights() -> None:
    def score(seed: int) -> float:
        return float(CNNClassifier(max_iter=1, random_state=seed).fit(X, Y).loss_)

    expected = [score(seed) for seed in range(6)]
    assert joblib.Parallel(4, backend="threading")(joblib.delayed(score)(seed) for seed in range(6)) == expected
