"""scikit-learn's multilayer perceptrons."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from fastnn import nn
from fastnn.checks import whole
from fastnn.errors import ArgumentError, LabelError

from .base import Classifier, Network, is_stochastic

__all__ = ["MLPClassifier", "MLPRegressor"]

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "logistic": nn.Sigmoid, "identity": nn.Identity}


@dataclass(eq=False, repr=False)
class _MLP(Network):
    """Dense layers, their first weights scikit-learn's: those of Glorot and Bengio 2010, by the same draws."""

    hidden_layer_sizes: Any = (100,)
    activation: str = "relu"

    @property
    def _number(self) -> int:
        raise NotImplementedError

    def _network(self, X: np.ndarray, state: np.random.RandomState) -> nn.Module:
        sizes = [X.shape[1], *self._hidden(), self._number]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            bound = math.sqrt((2 if self.activation == "logistic" else 6) / (inputs + outputs))
            layer: Any = nn.Linear(inputs, outputs)
            layer.weight.data[...] = state.uniform(-bound, bound, (inputs, outputs)).T
            layer.bias.data[...] = state.uniform(-bound, bound, outputs)
            layers += [layer, ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers[:-1])

    def _hidden(self) -> list[int]:
        given = self.hidden_layer_sizes
        sizes = list(given) if hasattr(given, "__iter__") else [given]
        return [whole(self._name, "hidden_layer_sizes", size, 1) for size in sizes]

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._hidden()

    @property
    def coefs_(self) -> list[np.ndarray]:
        """The layers' weights (inputs, outputs), float32; views of the model's own."""
        return [layer.weight.data.T for layer in self._layers()]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """The layers' biases (outputs,), float32; views of the model's own."""
        return [layer.bias.data for layer in self._layers()]

    @property
    def n_layers_(self) -> int:
        """Layers, inputs and outputs among them."""
        return len(self._layers()) + 1

    @property
    def n_outputs_(self) -> int:
        """Outputs."""
        return int(self._layers()[-1].out_features)

    def _layers(self) -> list[Any]:
        return [layer for layer in self.model_.modules() if isinstance(layer, nn.Linear)]


@dataclass(eq=False, repr=False)
class MLPClassifier(Classifier, _MLP):
    """scikit-learn's `MLPClassifier`: the same arguments, defaults, first weights and steps, in float32 and faster.

    Args:
        hidden_layer_sizes: units of each hidden layer.
        activation: "relu", "tanh", "logistic" or "identity".
        solver: "adam", "sgd" or "lbfgs".
        class_weight: {class: weight} or "balanced", which scikit-learn's does not have.

    All others are scikit-learn's; docs/howto/sklearn.md lists where one means something else.

    Attributes:
        classes_: (K,). model_: the network, an ``nn.Sequential`` of fastnn's, to be saved, frozen or exported.
        coefs_, intercepts_, loss_, loss_curve_, best_loss_, n_iter_, t_, n_layers_, n_outputs_, out_activation_,
        n_features_in_, feature_names_in_, validation_scores_, best_validation_score_: as scikit-learn's.

    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MLPClassifier(learning_rate_init=0.01, random_state=0))
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    def _is_logits(self) -> bool:
        return self._several or len(self.classes_) < 3

    @property
    def out_activation_(self) -> str:
        """What makes probabilities of the outputs."""
        return "logistic" if self._is_logits() else "softmax"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


@dataclass(eq=False, repr=False)
class MLPRegressor(RegressorMixin, _MLP):
    """scikit-learn's `MLPRegressor`: the same arguments, defaults, first weights and steps, in float32 and faster.

    Args as of `MLPClassifier`, without class_weight, and
        loss: "squared_error", or "poisson" for targets of at least 0, which are predicted through exp.

    Targets may be several, (N, K). Attributes as of `MLPClassifier`, without classes_.

    >>> X = np.linspace(-1, 1, 60)[:, np.newaxis]
    >>> model = MLPRegressor((20,), solver="lbfgs", random_state=0).fit(X, X[:, 0] ** 2)
    >>> model.score(X, X[:, 0] ** 2) > 0.99
    True
    """

    _: KW_ONLY
    loss: str = "squared_error"

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train; from new weights, unless `warm_start` says otherwise.

        Args:
            X: (N, F) samples, an array, a data frame or a sparse matrix.
            y: (N,) or (N, K) values.
            sample_weight: (N,) what the samples count, at least 0.

        Returns the estimator. Raises ArgumentError for parameters that make no sense, ValueError for data that
        scikit-learn does not take, NonFiniteError where the loss becomes infinite.
        """
        return self._regress(X, y, sample_weight, incremental=False)

    @available_if(is_stochastic)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch on these samples, going on from what has been learnt. Args, result and errors as of `fit`."""
        return self._regress(X, y, sample_weight, incremental=True)

    def _regress(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Any:
        self._check_parameters()
        begins = self._begins(incremental)
        X, y = self._samples(X, y, reset=begins)
        y = y.toarray() if issparse(y) else y
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        y = np.asarray(y, np.float64 if self.solver == "lbfgs" else np.float32)
        if self.loss == "poisson" and y.min() < 0:
            raise LabelError(f'{self._name}: expected values of at least 0 for loss="poisson", got {y.min():g}')
        if begins:
            self._flat, self._wanted = y.ndim == 1, 1 if y.ndim == 1 else y.shape[1]
        y = y[:, np.newaxis] if y.ndim == 1 else y
        if y.shape[1] != self._wanted:
            found = y.shape[1]
            raise ArgumentError(f"{self._name}: expected {self._wanted} values a sample as at first, got {found}")
        return self._learn(X, y, sample_weight, incremental)

    @property
    def _number(self) -> int:
        return self._wanted

    def _loss(self) -> tuple[Any, float]:
        if self.loss == "poisson":
            return nn.PoissonNLLLoss(), float(self._wanted)
        return nn.MSELoss(), self._wanted / 2

    def _values(self, outputs: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.exp(outputs) if self.loss == "poisson" else outputs
        return found[:, 0] if self._flat else found

    def _judge(self, outputs: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None) -> float:
        return float(r2_score(y, self._values(outputs), sample_weight=sample_weight))

    def _stratify(self, y: np.ndarray) -> None:
        return None

    def predict(self, X: Any) -> np.ndarray:
        """The values of samples X (N, F): (N,) or (N, K) as `fit` was given them, float64."""
        return self._values(self._outputs(X))

    @property
    def out_activation_(self) -> str:
        """What makes values of the outputs."""
        return "exp" if self.loss == "poisson" else "identity"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
