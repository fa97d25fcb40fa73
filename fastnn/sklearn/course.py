"""The course of a training as scikit-learn's stochastic solvers take it: its order, its rate, when it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.utils import shuffle

from fastnn.data import Batches
from fastnn.train.callbacks import Callback, Training

__all__ = ["Course", "Orders"]

LEAST_RATE = 1e-6  # below which "adaptive" ends


class Orders(Batches):
    """Batches in the orders that scikit-learn draws from a RandomState, each from the one before."""

    def __init__(self, X: Any, y: Any, batch_size: int, state: np.random.RandomState | None) -> None:
        super().__init__(X, y, batch_size, shuffle=state is not None, seed=0)
        self._state = state
        self._last: dict[str, Any] = {
            "epoch": -1,
            "order": np.arange(self.count),
        }  # shared with copies, which draw no second time

    def order(self, epoch: int) -> np.ndarray:
        if self._state is not None and epoch > self._last["epoch"]:
            self._last.update(epoch=epoch, order=shuffle(self._last["order"], random_state=self._state))
        found: np.ndarray = self._last["order"]
        return found


class Course(Callback):
    """Notes losses and scores on the estimator, changes the rate after each epoch, and ends the training.

    Args:
        estimator: whose attributes are written: loss_, loss_curve_, n_iter_, t_, best_loss_ and so on.
        scale: by what scikit-learn's loss is fastnn's.
        score: of the model as it is, on data held out; None: the training loss decides.

    Attributes:
        converged: whether the training ended before its last epoch was due.
    """

    def __init__(self, estimator: Any, scale: float, score: Callable[[], float] | None) -> None:
        self._estimator, self._scale, self._score, self.converged = estimator, scale, score, False
        self._weights: dict[str, np.ndarray] = {}

    def on_train_begin(self, training: Training) -> None:
        self._correct(training)

    def on_batch_end(self, training: Training) -> None:
        self._estimator._steps += 1
        self._correct(training)

    def _correct(self, training: Training) -> None:
        """Let ε be scikit-learn's, which is added to the root of Adam's second moment before that is corrected."""
        estimator = self._estimator
        if estimator.solver == "adam":
            corrected = math.sqrt(1 - estimator.beta_2 ** (estimator._steps + 1))
            training.optimizer.param_groups[0]["eps"] = estimator.epsilon / self._scale / corrected

    def on_epoch_end(self, training: Training) -> None:
        estimator, record = self._estimator, training.history[-1]
        estimator.n_iter_ += 1
        estimator.t_ += training.images
        estimator.loss_ = self._scale * (record.train_loss + (record.penalty or 0.0))
        estimator.loss_curve_.append(estimator.loss_)
        if self._score is None:
            improved = self._improves(-estimator.loss_, -estimator.best_loss_)
            estimator.best_loss_ = min(estimator.loss_, estimator.best_loss_)
        else:
            value, best = self._score(), estimator.best_validation_score_
            estimator.validation_scores_.append(value)
            improved = self._improves(value, best)
            if value > best:
                estimator.best_validation_score_ = value
                self._weights = {name: np.array(array) for name, array in training.model.state_dict().items()}
        estimator._waited = 0 if improved else estimator._waited + 1
        self._go_on(training)

    def _improves(self, value: float, best: float) -> bool:
        return not value < best + self._estimator.tol

    def _go_on(self, training: Training) -> None:
        """The rate of the next epoch; or none, where there was nothing to gain for long."""
        estimator, rate = self._estimator, training.optimizer.param_groups[0]["lr"]
        schedule = estimator.learning_rate if estimator.solver == "sgd" else "constant"
        if schedule == "invscaling":
            first = estimator.learning_rate_init * self._scale
            _change_rate(training.optimizer, first / (estimator.t_ + 1) ** estimator.power_t)
        if estimator._waited <= estimator.n_iter_no_change:
            return
        if schedule == "adaptive" and rate > LEAST_RATE * self._scale:
            _change_rate(training.optimizer, rate / 5)
            estimator._waited = 0
            return
        what = "training loss" if self._score is None else "validation score"
        training.stop(f"the {what} has not improved by {estimator.tol:g} for {estimator.n_iter_no_change} epochs")

    def on_train_end(self, training: Training) -> None:
        self.converged = bool(training.stopped)
        if self._weights:
            training.model.load_state_dict(self._weights)


def _change_rate(optimizer: Any, rate: float) -> None:
    """Of the next steps alone: scikit-learn's momentum keeps the rates that its steps were made with."""
    (group,) = optimizer.param_groups
    for state in optimizer.state.values():
        if "momentum_buffer" in state:
            state["momentum_buffer"] *= group["lr"] / rate
    group["lr"] = rate
