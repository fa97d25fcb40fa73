"""What the estimators share: scikit-learn's parameters, and a training by `fnn.fit` that follows them."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import issparse
from scipy.special import expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn import nn, optim
from fastnn.checks import number, whole
from fastnn.errors import ArgumentError, LabelError
from fastnn.train.evaluate import evaluate
from fastnn.train.fit import fit
from fastnn.train.predict import outputs_of

from .course import Course, Orders

__all__ = ["Classifier", "Network", "is_stochastic"]

CHOICES = {
    "solver": ("adam", "sgd", "lbfgs"),
    "learning_rate": ("constant", "invscaling", "adaptive"),
    "activation": ("relu", "tanh", "logistic", "identity"),
    "loss": ("squared_error", "poisson"),
}
AUTO = 200  # samples in a batch
TOGETHER = 1024  # samples at a time in predictions
PAIRS = 10  # that L-BFGS keeps


def is_stochastic(estimator: Any) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is for the solvers adam and sgd, not for lbfgs")
    return True


@dataclass(eq=False, repr=False)
class Network(BaseEstimator):
    """A network as an estimator. Subclasses say how data are read, what the network is made of, and how it is judged.

    Written by a training: model_, n_iter_, t_, loss_, loss_curve_, best_loss_, validation_scores_,
    best_validation_score_.
    """

    _: KW_ONLY
    solver: str = "adam"
    alpha: float = 0.0001
    batch_size: int | str = "auto"
    learning_rate: str = "constant"
    learning_rate_init: float = 0.001
    power_t: float = 0.5
    max_iter: int = 200
    shuffle: bool = True
    random_state: Any = None
    tol: float = 1e-4
    verbose: bool | int = False
    warm_start: bool = False
    momentum: float = 0.9
    nesterovs_momentum: bool = True
    early_stopping: bool = False
    validation_fraction: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    n_iter_no_change: float = 10
    max_fun: int = 15000

    @abstractmethod
    def _network(self, X: np.ndarray, state: np.random.RandomState) -> nn.Module:
        """The network with its first weights, for samples like X."""

    @abstractmethod
    def _loss(self) -> tuple[Any, float]:
        """One of fastnn's losses, and by what scikit-learn's is that."""

    @abstractmethod
    def _judge(self, outputs: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
        """The score of outputs for targets y, both as the network has them."""

    @abstractmethod
    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        """What the samples held out are stratified by."""

    def _samples(self, X: Any, y: Any = "no_validation", *, reset: bool = False) -> Any:
        """X as float32 (N, F), or the pair of that and y; scikit-learn's checks of both."""
        options: Any = {"accept_sparse": "csr", "dtype": (np.float64, np.float32), "reset": reset}
        if isinstance(y, str):
            return _dense(validate_data(self, X, **options))
        X, y = validate_data(self, X, y, multi_output=True, **options)
        return _dense(X), y

    def _outputs(self, X: Any) -> np.ndarray:
        """(N, K) float64: what the network makes of samples."""
        check_is_fitted(self)
        return _outputs(self.model_, self._samples(X))

    def _learn(self, X: np.ndarray, y: np.ndarray, sample_weight: Any, incremental: bool) -> Any:
        """Train on samples and targets as the network takes them; one epoch if `incremental`."""
        state = check_random_state(self.random_state)
        held = None
        if self._begins(incremental):
            self.model_: nn.Module = self._network(X, state)
            self.t_, self._waited = 0, 0
            self.loss_curve_: list[float] = []
            self.best_loss_ = None if self.early_stopping else math.inf
            self.validation_scores_: list[float] | None = [] if self.early_stopping else None
            self.best_validation_score_ = -math.inf if self.early_stopping else None
            self.__dict__.pop("_optimizer", None)
        if self.solver == "lbfgs":
            return self._descend(X, y, sample_weight)
        loss, scale = self._loss()
        if self.early_stopping:
            if incremental:
                raise ArgumentError(f"{self._name}.partial_fit: expected early_stopping=False, got True: use fit")
            parts = [X, y] if sample_weight is None else [X, y, sample_weight]
            split = train_test_split(
                *parts, random_state=state, test_size=self.validation_fraction, stratify=self._stratify(y)
            )
            (X, y, *rest), held = split[::2], split[1::2]
            sample_weight = rest[0] if rest else None
            if len(held[0]) < 2:
                raise ArgumentError(
                    f"{self._name}: expected at least 2 samples held out for early stopping, got {len(held[0])}: raise "
                    "validation_fraction"
                )
        batches = Orders(X, y, self._batch(len(X)), state if self.shuffle else None)
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer, self._steps = self._solver(batches.batch_size, scale), 0
        course = Course(self, scale, None if held is None else partial(self._score_held, *held))
        self.n_iter_ = 0
        fit(
            self.model_, batches, sample_weight=sample_weight, loss=loss, optimizer=self._optimizer,
            epochs=1 if incremental else self.max_iter, callbacks=[course], verbose=self.verbose,
        )  # fmt: skip
        if not incremental and not course.converged:
            self._warn_of_the_end()
        return self

    def _score_held(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
        return self._judge(_outputs(self.model_, X), y, sample_weight)

    def _descend(self, X: np.ndarray, y: np.ndarray, sample_weight: Any) -> Any:
        """L-BFGS on all samples at once, in float64: its line search needs differences that float32 does not show."""
        loss, scale = self._loss()
        self.model_.double()
        try:
            optimizer = self._solver(len(X), scale)
            data, verbose = Orders(X, y, len(X), None), self.verbose
            options: Any = {"loss": loss, "sample_weight": sample_weight, "compile": False}
            fit(self.model_, data, optimizer=optimizer, epochs=1, verbose=verbose, **options)
            self.n_iter_ = optimizer.state_dict()["memory"]["n_iter"]
            self.loss_ = scale * (evaluate(self.model_, data, **options).loss + (optimizer.penalty() or 0.0))
        finally:
            self.model_.float()
        if self.n_iter_ >= self.max_iter:
            self._warn_of_the_end()
        return self

    def _solver(self, batch: int, scale: float) -> optim.Optimizer:
        """The optimiser that makes scikit-learn's steps, whose gradients are `scale` times fastnn's."""
        parameters, l2 = self.model_.parameters(), self.alpha / (2 * batch * scale)
        if self.solver == "adam":
            betas, eps = (self.beta_1, self.beta_2), self.epsilon / scale
            return optim.Adam(parameters, lr=self.learning_rate_init, betas=betas, eps=eps, l2=l2)
        if self.solver == "sgd":
            nesterov = self.nesterovs_momentum and self.momentum > 0
            rate = self.learning_rate_init * scale
            return optim.SGD(parameters, lr=rate, momentum=self.momentum, nesterov=nesterov, l2=l2)
        return optim.LBFGS(
            parameters, max_iter=self.max_iter, max_eval=self.max_fun, tolerance_grad=self.tol / scale,
            history_size=PAIRS, line_search_fn="strong_wolfe", l2=l2,
        )  # fmt: skip

    def _batch(self, count: int) -> int:
        size = min(AUTO, count) if self.batch_size == "auto" else int(self.batch_size)
        if size > count:
            warnings.warn(
                f"{self._name}: batch_size={size} is more than the {count} samples: all are one batch", stacklevel=4
            )
        return min(size, count)

    def _begins(self, incremental: bool) -> bool:
        """Whether a training forgets the one before."""
        return not hasattr(self, "model_") or not (self.warm_start or incremental)

    def _warn_of_the_end(self) -> None:
        warnings.warn(
            f"{self._name}: max_iter={self.max_iter} reached before the training converged: raise max_iter or tol",
            ConvergenceWarning,
            stacklevel=4,
        )

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _check_parameters(self) -> None:
        """ArgumentError for values that make no sense; the optimiser and `fit` judge the rest."""
        for name, values in CHOICES.items():
            if hasattr(self, name) and getattr(self, name) not in values:
                given = getattr(self, name)
                raise ArgumentError(f"{self._name}: expected {name} to be one of {', '.join(values)}, got {given!r}")
        for name in ("max_iter", "max_fun"):
            whole(self._name, name, getattr(self, name), 1)
        if self.batch_size != "auto":
            expected = 'batch_size to be "auto" or a positive integer'
            whole(self._name, "batch_size", self.batch_size, 1, expected=expected)
        for name in ("alpha", "tol", "power_t"):
            number(self._name, name, getattr(self, name), 0)
        for name in ("learning_rate_init", "epsilon"):
            number(self._name, name, getattr(self, name), above=0)
        number(self._name, "n_iter_no_change", self.n_iter_no_change, 1, finite=False)
        number(self._name, "validation_fraction", self.validation_fraction, 0, below=1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@dataclass(eq=False, repr=False)
class Classifier(ClassifierMixin, Network):
    """What the classifiers share: classes_, and classes or probabilities from outputs.

    Two classes may be one output, a logit; several labels at once, where a classifier has that, are one each.
    """

    _: KW_ONLY
    class_weight: Any = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train; from new weights, unless `warm_start` says otherwise.

        Args:
            X: (N, F) samples, an array, a data frame or a sparse matrix.
            y: (N,) classes, of any type.
            sample_weight: (N,) what the samples count, at least 0.

        Returns the estimator. Raises ArgumentError for parameters that make no sense, ValueError for data that
        scikit-learn does not take, NonFiniteError where the loss becomes infinite.
        """
        self._check_parameters()
        begins = self._begins(incremental=False)
        X, y = self._samples(X, y, reset=begins)
        y = self._read(y)
        if begins:
            self._several, self.classes_ = y.ndim == 2, np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)
        elif y.ndim == 1 and not np.array_equal(np.unique(y), self.classes_):
            raise LabelError(
                f"{self._name}: expected the classes of the training before, {self.classes_}, since warm_start=True, "
                f"got {np.unique(y)}"
            )
        return self._learn(X, self._targets(y), self._weights(y, sample_weight), incremental=False)

    @available_if(is_stochastic)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
        """One epoch on these samples, going on from what has been learnt.

        Args as of `fit`, and `classes`: all that there will be, needed in the first call. Returns the estimator; raises
        what `fit` does, and LabelError for others than those.
        """
        self._check_parameters()
        if self.class_weight == "balanced":
            raise ArgumentError(
                f'{self._name}.partial_fit: expected class_weight without "balanced", which takes all samples: pass '
                "sklearn.utils.class_weight.compute_class_weight's of all your data"
            )
        begins = not hasattr(self, "model_")
        if begins and classes is None:
            raise ArgumentError(f"{self._name}.partial_fit: expected classes=, all there will be, in the first call")
        X, y = self._samples(X, y, reset=begins)
        y = self._read(y)
        if begins:
            self._several, self.classes_ = y.ndim == 2, np.unique(classes)
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise LabelError(f"{self._name}.partial_fit: expected classes={self.classes_} as at first, got {classes}")
        return self._learn(X, self._targets(y), self._weights(y, sample_weight), incremental=True)

    def _read(self, y: Any) -> np.ndarray:
        """(N,) classes; (N, K) zeros and ones for several labels at once."""
        y = y.toarray() if issparse(y) else y
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        check_classification_targets(y)
        if y.ndim == 2 and not (type_of_target(y) == "multilabel-indicator" and self._takes_several()):
            raise LabelError(f"{self._name}: expected one class for each sample, y (N,), got y {y.shape}")
        return np.asarray(y)

    def _takes_several(self) -> bool:
        return bool(self.__sklearn_tags__().classifier_tags.multi_label)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """int64 (N,) numbers of classes; float32 (N, 1) or (N, K) where outputs are logits."""
        if self._several:
            if y.ndim != 2 or y.shape[1] != len(self.classes_):
                raise LabelError(f"{self._name}: expected y (N, {len(self.classes_)}) of 0 and 1, got {y.shape}")
            return y.astype(np.float32)
        unknown = np.setdiff1d(y, self.classes_)
        if y.ndim == 2 or len(unknown):
            raise LabelError(f"{self._name}: expected y among the classes {self.classes_}, got {unknown[:5]}")
        numbers = np.searchsorted(self.classes_, y)
        if self._is_logits():
            return numbers[:, np.newaxis].astype(np.float32)
        if len(self.classes_) < 2:
            raise LabelError(f"{self._name}: expected at least two classes, got 1 class, {self.classes_[0]}")
        return numbers.astype(np.int64)

    def _weights(self, y: np.ndarray, sample_weight: Any) -> Any:
        """(N,) what samples count, by themselves and by their class."""
        if self.class_weight is None:
            return sample_weight
        weights: np.ndarray = compute_sample_weight(self.class_weight, y)
        return weights if sample_weight is None else weights * np.asarray(sample_weight)

    def _is_logits(self) -> bool:
        """Whether each output is the logit of yes."""
        return self._several

    def _loss(self) -> tuple[Any, float]:
        return (nn.BCEWithLogitsLoss(), float(self._number)) if self._is_logits() else (nn.CrossEntropyLoss(), 1.0)

    @property
    def _number(self) -> int:
        """Outputs."""
        return 1 if self._is_logits() and not self._several else len(self.classes_)

    def _decide(self, outputs: np.ndarray) -> np.ndarray:
        """(N,) numbers of classes; (N, K) zeros and ones for several labels."""
        if self._several:
            return (outputs > 0).astype(int)
        if self._is_logits():
            return np.minimum(outputs[:, 0] > 0, len(self.classes_) - 1).astype(int)
        return outputs.argmax(axis=1)

    def _judge(self, outputs: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
        one = y.ndim == 2 and not self._several
        return float(accuracy_score(y[:, 0] if one else y, self._decide(outputs), sample_weight=sample_weight))

    def _stratify(self, y: np.ndarray) -> np.ndarray | None:
        return y if self._number == 1 else None

    def predict(self, X: Any) -> np.ndarray:
        """The classes (N,) of samples X (N, F), of the type that `fit` was given; of several labels (N, K) 0 and 1."""
        found = self._decide(self._outputs(X))
        return found if self._several else self.classes_[found]

    def predict_proba(self, X: Any) -> np.ndarray:
        """The classes' probabilities (N, K), float64, in the order of `classes_`; of several labels each one's own."""
        outputs = self._outputs(X)
        if self._several:
            found: np.ndarray = expit(outputs)
            return found
        found = softmax(self._logits(outputs), axis=1)
        return found

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithms of `predict_proba`, finite where that is 0 by rounding."""
        outputs = self._outputs(X)
        found: np.ndarray = -np.logaddexp(0, -outputs) if self._several else log_softmax(self._logits(outputs), axis=1)
        return found

    def _logits(self, outputs: np.ndarray) -> np.ndarray:
        """(N, K) whose softmax the probabilities are."""
        return np.hstack([np.zeros_like(outputs), outputs])[:, -len(self.classes_) :] if self._is_logits() else outputs


def _outputs(model: nn.Module, X: np.ndarray) -> np.ndarray:
    """Outputs of all samples, by a compiled plan where there are enough of them to make up for its making."""
    found = outputs_of("predict", model, X, TOGETHER, compile=len(X) > TOGETHER)[0]
    return np.asarray(found, np.float64)


def _dense(X: Any) -> np.ndarray:
    return np.ascontiguousarray(X.toarray() if issparse(X) else X, np.float32)
