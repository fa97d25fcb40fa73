"""fastnn.sklearn beside scikit-learn's own networks: the same steps from the same draws, and what only these can do."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, LabelError, NonFiniteError, ShapeError
from fastnn.sklearn import CNNClassifier, MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PIXELS, DIGITS = load_digits(return_X_y=True)
PIXELS, DIGITS = PIXELS[:600] / 16, DIGITS[:600]
TABLE, VALUES = load_diabetes(return_X_y=True)
TABLE = StandardScaler().fit_transform(TABLE)
VALUES = (VALUES - VALUES.mean()) / VALUES.std()

STOCHASTIC = "a weight is no second draw: batches are made of samples, so weighted ones and repeated ones differ"
ROUNDING = "float32: a sample's last bit depends on how many are predicted at once"
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": STOCHASTIC,
    "check_sample_weight_equivalence_on_sparse_data": STOCHASTIC,
    "check_methods_subset_invariance": ROUNDING,
}


@parametrize_with_checks(
    [MLPClassifier(learning_rate_init=0.01, max_iter=40), MLPRegressor(learning_rate_init=0.01, max_iter=40)],
    expected_failed_checks=lambda _: EXPECTED_FAILURES,
)
def test_what_scikit_learn_asks_of_estimators(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.long
@parametrize_with_checks(
    [CNNClassifier(image_shape=(1, -1), max_iter=10)], expected_failed_checks=lambda _: EXPECTED_FAILURES
)
def test_what_scikit_learn_asks_of_estimators_of_pictures(estimator: Any, check: Any) -> None:
    check(estimator)


SETTINGS: list[dict[str, Any]] = [
    {},
    {"solver": "sgd", "learning_rate_init": 0.1},
    {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling", "power_t": 0.2, "momentum": 0.5},
    {"solver": "sgd", "learning_rate_init": 0.3, "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 2},
    {"solver": "sgd", "momentum": 0.0, "shuffle": False, "batch_size": 50, "alpha": 1.0},
    {"hidden_layer_sizes": (20, 10), "activation": "tanh", "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3},
    {"hidden_layer_sizes": 12, "activation": "logistic", "early_stopping": True, "validation_fraction": 0.2},
    {"hidden_layer_sizes": (), "activation": "identity", "tol": 0.1, "n_iter_no_change": 3},
]


def alike(own: Any, theirs: Any, by: float = 2e-3) -> None:
    """Weights and the whole course, from the same draws."""
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(own, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(a, b, atol=by)
    assert own.n_iter_ == theirs.n_iter_
    assert own.t_ == theirs.t_
    for name in ("n_layers_", "n_outputs_", "out_activation_"):
        assert getattr(own, name) == getattr(theirs, name)
    np.testing.assert_allclose(own.loss_curve_, theirs.loss_curve_, rtol=by)
    for name in ("best_loss_", "validation_scores_", "best_validation_score_"):
        expected = getattr(theirs, name)
        assert (getattr(own, name) is None) == (expected is None)
        if expected is not None:
            np.testing.assert_allclose(getattr(own, name), expected, rtol=by)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_a_classifier_takes_scikit_learns_steps(options: dict[str, Any]) -> None:
    options = {"max_iter": 12, "random_state": 3, "alpha": 0.0, **options}
    X = PIXELS[:, PIXELS.std(axis=0) > 0]
    own, theirs = MLPClassifier(**options).fit(X, DIGITS), neural_network.MLPClassifier(**options).fit(X, DIGITS)
    alike(own, theirs)
    np.testing.assert_allclose(own.predict_proba(X), theirs.predict_proba(X), atol=2e-3)
    np.testing.assert_allclose(own.predict_log_proba(X), np.log(own.predict_proba(X)))


@pytest.mark.parametrize("options", [{"loss": "poisson"}, {"solver": "sgd"}, {"early_stopping": True}], ids=str)
def test_a_regressor_takes_scikit_learns_steps(options: dict[str, Any]) -> None:
    y = VALUES**2 if "loss" in options else VALUES
    options = {"max_iter": 12, "random_state": 3, "alpha": 0.0, **options}
    own, theirs = MLPRegressor(**options).fit(TABLE, y), neural_network.MLPRegressor(**options).fit(TABLE, y)
    if "loss" in options:  # of which fastnn leaves out what does not depend on the network
        own.loss_curve_ = own.loss_curve_ + np.mean(theirs.loss_curve_) - np.mean(own.loss_curve_)
        own.best_loss_ = min(own.loss_curve_)
    alike(own, theirs)
    np.testing.assert_allclose(own.predict(TABLE), theirs.predict(TABLE), atol=5e-3)
    assert own.score(TABLE, y) == pytest.approx(theirs.score(TABLE, y), abs=1e-3)


def test_two_classes_and_their_names() -> None:
    y = np.where(DIGITS > 4, "large", "small")
    options: dict[str, Any] = {"max_iter": 10, "random_state": 0, "alpha": 0.0, "solver": "sgd"}
    own, theirs = MLPClassifier(**options).fit(PIXELS, y), neural_network.MLPClassifier(**options).fit(PIXELS, y)
    alike(own, theirs)
    assert own.classes_.tolist() == ["large", "small"]
    np.testing.assert_allclose(own.predict_proba(PIXELS), theirs.predict_proba(PIXELS), atol=1e-3)
    np.testing.assert_allclose(own.predict_log_proba(PIXELS), theirs.predict_log_proba(PIXELS), atol=5e-3)
    assert (own.predict(PIXELS) == theirs.predict(PIXELS)).mean() > 0.99


def test_several_labels_at_once() -> None:
    X, y = make_multilabel_classification(300, 10, n_classes=4, random_state=0)
    options: dict[str, Any] = {"max_iter": 15, "random_state": 0, "alpha": 0.0, "solver": "sgd"}
    own, theirs = MLPClassifier(**options).fit(X, y), neural_network.MLPClassifier(**options).fit(X, y)
    alike(own, theirs)
    assert own.predict(X).shape == (300, 4)
    np.testing.assert_allclose(own.predict_proba(X), theirs.predict_proba(X), atol=2e-3)
    np.testing.assert_allclose(own.predict_log_proba(X), np.log(theirs.predict_proba(X)), atol=2e-2)


def test_several_values_at_once() -> None:
    y = np.stack([VALUES, -2 * VALUES, VALUES**2], axis=1)
    options: dict[str, Any] = {"max_iter": 10, "random_state": 0, "alpha": 0.0}
    own, theirs = MLPRegressor(**options).fit(TABLE, y), neural_network.MLPRegressor(**options).fit(TABLE, y)
    np.testing.assert_allclose(own.coefs_[0], theirs.coefs_[0], atol=2e-3)
    np.testing.assert_allclose(own.predict(TABLE), theirs.predict(TABLE), atol=1e-2)
    assert own.loss_ == pytest.approx(3 * theirs.loss_, rel=1e-3)  # the sum over the values, not their mean


@pytest.mark.parametrize("own", [MLPClassifier, MLPRegressor])
def test_lbfgs_ends_where_scikit_learns_does(own: Any) -> None:
    X, y = (PIXELS, DIGITS) if own is MLPClassifier else (TABLE, VALUES)
    options: dict[str, Any] = {"solver": "lbfgs", "alpha": 10.0, "tol": 1e-5, "hidden_layer_sizes": (), "max_iter": 500}
    found = own(random_state=0, **options).fit(X, y)
    theirs = getattr(neural_network, own.__name__)(random_state=1, **options).fit(X, y)
    assert found.loss_ == pytest.approx(theirs.loss_, rel=1e-4)
    np.testing.assert_allclose(found.coefs_[0], theirs.coefs_[0], atol=0.02)
    assert 1 < found.n_iter_ < 500
    assert found.model_[0].weight.dtype == np.float32


def test_sample_weights_are_repetitions_to_lbfgs() -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 3, len(PIXELS))
    options: dict[str, Any] = {"solver": "lbfgs", "hidden_layer_sizes": (), "alpha": 0.0, "tol": 1e-3}
    weighed = MLPClassifier(random_state=0, **options).fit(PIXELS, DIGITS, sample_weight=weights)
    repeated = MLPClassifier(random_state=0, **options).fit(
        np.repeat(PIXELS, weights, axis=0), np.repeat(DIGITS, weights)
    )
    np.testing.assert_allclose(weighed.predict_proba(PIXELS), repeated.predict_proba(PIXELS), atol=1e-3)


@pytest.mark.parametrize("class_weight", ["balanced", {"small": 5}], ids=str)
def test_class_weights_are_sample_weights(class_weight: Any) -> None:
    y = np.where(DIGITS > 7, "large", "small")
    mine = np.linspace(0.5, 1.5, len(y))
    both = mine * compute_sample_weight(class_weight, y)
    options: dict[str, Any] = {"max_iter": 5, "random_state": 0}
    own = MLPClassifier(class_weight=class_weight, **options).fit(PIXELS, y, sample_weight=mine)
    assert (own.coefs_[0] == MLPClassifier(**options).fit(PIXELS, y, sample_weight=both).coefs_[0]).all()
    plain = MLPClassifier(**options).fit(PIXELS, y)
    assert abs(own.coefs_[0] - plain.coefs_[0]).max() > 1e-3


def test_parts_go_on_where_the_last_one_ended_also_out_of_a_pickle() -> None:
    options: dict[str, Any] = {"random_state": 0, "alpha": 0.0}
    X = PIXELS[:, PIXELS.std(axis=0) > 0]
    own, theirs = MLPClassifier(**options), neural_network.MLPClassifier(**options)
    for part in range(6):
        rows = slice(100 * part, 100 * part + 100)
        own.partial_fit(X[rows], DIGITS[rows], classes=range(10))
        theirs.partial_fit(X[rows], DIGITS[rows], classes=range(10))
        own = pickle.loads(pickle.dumps(own))
    alike(own, theirs)


def test_parts_of_a_regression() -> None:
    options: dict[str, Any] = {"random_state": 0, "alpha": 0.0, "solver": "sgd", "learning_rate": "invscaling"}
    own, theirs = MLPRegressor(**options), neural_network.MLPRegressor(**options)
    for rows in (slice(0, 200), slice(200, None)):
        own.partial_fit(TABLE[rows], VALUES[rows], sample_weight=np.ones(len(VALUES[rows])))
        theirs.partial_fit(TABLE[rows], VALUES[rows])
    alike(own, theirs)


def test_warm_start_goes_on_and_its_absence_does_not() -> None:
    warm = MLPClassifier(max_iter=3, warm_start=True, random_state=0).fit(PIXELS, DIGITS)
    first, model = warm.loss_, warm.model_
    assert warm.fit(PIXELS, DIGITS).loss_ < first
    assert warm.model_ is model
    assert len(warm.loss_curve_) == 6
    assert warm.set_params(warm_start=False).fit(PIXELS, DIGITS).loss_ == first


def test_in_a_pipeline_cloned_and_on_a_frame() -> None:
    import pandas as pd

    frame = pd.DataFrame(TABLE, columns=list("abcdefghij"))
    model = make_pipeline(StandardScaler(), MLPRegressor((50,), learning_rate_init=0.01, max_iter=60, random_state=0))
    model.set_output(transform="pandas")
    assert cross_val_score(clone(model), frame, VALUES, cv=3).mean() > 0.35
    assert model.fit(frame, VALUES)[-1].feature_names_in_.tolist() == list("abcdefghij")


def test_sparse_samples_are_those_that_they_stand_for() -> None:
    options: dict[str, Any] = {"max_iter": 3, "random_state": 0}
    dense, sparse = (MLPClassifier(**options).fit(X, DIGITS) for X in (PIXELS, csr_matrix(PIXELS)))
    assert (dense.predict_proba(PIXELS) == sparse.predict_proba(csr_matrix(PIXELS))).all()


def test_the_model_is_fastnns_own() -> None:
    own = MLPClassifier(max_iter=3, random_state=0).fit(PIXELS, DIGITS)
    X = PIXELS.astype(np.float32)
    np.testing.assert_allclose(fnn.predict_proba(own.model_, X), own.predict_proba(X), atol=1e-6)
    own.coefs_[1][...] = 0  # views
    own.intercepts_[1][...] = np.arange(10)
    assert set(own.predict(PIXELS)) == {9}


def test_a_training_that_is_cut_short_says_so() -> None:
    with pytest.warns(ConvergenceWarning, match="max_iter=2 reached"):
        MLPClassifier(max_iter=2).fit(PIXELS, DIGITS)
    with pytest.warns(UserWarning, match="batch_size=1000 is more than the 600 samples"):
        MLPClassifier(max_iter=2, batch_size=1000).fit(PIXELS, DIGITS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLPClassifier(max_iter=30, tol=1.0, n_iter_no_change=2).fit(PIXELS, DIGITS)


# ---- pictures --------------------------------------------------------------------------------------------------------

PICTURES = PIXELS.reshape(-1, 8, 8)


@pytest.fixture
def quick() -> CNNClassifier:
    return CNNClassifier(max_iter=6, random_state=0, learning_rate_init=0.003)


def test_pictures_of_every_form(quick: CNNClassifier) -> None:
    names = np.array(list("abcdefghij"))[DIGITS]
    flat = quick.fit(PIXELS, names).predict_proba(PIXELS)
    assert quick.score(PIXELS, names) > 0.85
    assert quick.image_shape_ == (1, 8, 8)
    for X in (PICTURES, PICTURES[:, np.newaxis], PICTURES.tolist()):
        assert (clone(quick).fit(X, names).predict_proba(X) == flat).all()
    shaped = clone(quick).set_params(image_shape=(2, 4, -1)).fit(PIXELS, names)
    assert shaped.image_shape_ == (2, 4, 8)
    assert (pickle.loads(pickle.dumps(shaped)).predict(PIXELS) == shaped.predict(PIXELS)).all()


def narrow(image_shape: Any, classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(image_shape[0], 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, classes))


@pytest.mark.parametrize("model", ["linear", narrow, narrow((1, 8, 8), 10)], ids=["recipe", "function", "module"])
def test_networks_of_ones_own(quick: CNNClassifier, model: Any) -> None:
    own = quick.set_params(model=model, batch_size=599)  # which leaves one sample over
    before = fnn.random.get_state()
    first = clone(own).fit(PICTURES, DIGITS).predict_proba(PICTURES)
    assert fnn.random.get_state() == before
    assert (clone(own).fit(PICTURES, DIGITS).predict_proba(PICTURES) == first).all()
    if isinstance(model, nn.Module):
        assert own.fit(PICTURES, DIGITS).model_ is not own.model


def test_early_stopping_and_parts_of_pictures(quick: CNNClassifier) -> None:
    stopped = clone(quick).set_params(early_stopping=True, max_iter=30, n_iter_no_change=2, tol=0.02)
    stopped.fit(PICTURES, DIGITS)
    assert len(stopped.validation_scores_) == stopped.n_iter_ < 30
    assert max(stopped.validation_scores_) == stopped.best_validation_score_ > 0.8
    for _ in range(3):
        quick.partial_fit(PICTURES, DIGITS, classes=range(12))
    assert quick.predict_proba(PICTURES).shape == (600, 12)
    assert quick.score(PICTURES, DIGITS) > 0.4


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"solver": "newton"}, "solver to be one of adam, sgd, lbfgs, got 'newton'"),
        ({"activation": "gelu"}, "activation to be one of relu, tanh, logistic, identity, got 'gelu'"),
        ({"learning_rate": "cosine"}, "learning_rate to be one of constant, invscaling, adaptive, got 'cosine'"),
        ({"hidden_layer_sizes": (10, 0)}, "hidden_layer_sizes to be a positive integer, got 0"),
        ({"batch_size": "all"}, "batch_size to be \"auto\" or a positive integer, got 'all'"),
        ({"max_iter": 0}, "max_iter to be a positive integer, got 0"),
        ({"alpha": -1}, "alpha of at least 0, got -1"),
        ({"learning_rate_init": 0}, "learning_rate_init above 0, got 0"),
        ({"validation_fraction": 1.0}, "validation_fraction .*got 1.0"),
        ({"early_stopping": True, "validation_fraction": 0.001}, "2 samples held out for early stopping, got 1"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        MLPClassifier(**options).fit(PIXELS, DIGITS)


def test_calls_that_make_no_sense() -> None:
    known = MLPClassifier(max_iter=1, warm_start=True, random_state=0).fit(PIXELS, DIGITS)
    with pytest.raises(LabelError, match="the classes of the training before"):
        known.fit(PIXELS[:9], DIGITS[:9])
    with pytest.raises(LabelError, match=r"among the classes .*got \[77\]"):
        known.partial_fit(PIXELS[:9], [77] * 9)
    with pytest.raises(LabelError, match=r"classes=.* as at first"):
        known.partial_fit(PIXELS[:9], DIGITS[:9], classes=[1, 2])
    with pytest.raises(ArgumentError, match="expected classes=, all there will be"):
        MLPClassifier().partial_fit(PIXELS, DIGITS)
    with pytest.raises(ArgumentError, match="early_stopping=False"):
        MLPClassifier(early_stopping=True).partial_fit(PIXELS, DIGITS, classes=range(10))
    with pytest.raises(ArgumentError, match='without "balanced"'):
        MLPClassifier(class_weight="balanced").partial_fit(PIXELS, DIGITS, classes=range(10))
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")
    with pytest.raises(LabelError, match='at least 0 for loss="poisson"'):
        MLPRegressor(loss="poisson").fit(TABLE, VALUES)
    regressor = MLPRegressor().partial_fit(TABLE, VALUES)
    with pytest.raises(ArgumentError, match="1 values a sample as at first, got 2"):
        regressor.partial_fit(TABLE, np.stack([VALUES, VALUES], axis=1))
    with pytest.raises(NonFiniteError):
        MLPRegressor(solver="sgd", learning_rate_init=1e6).fit(TABLE * 1e6, VALUES)


@pytest.mark.parametrize(
    ("options", "X", "said"),
    [
        ({}, PIXELS[:, :60], r"flat ones with their image_shape.*got \(600, 60\)"),
        ({"image_shape": (9, 9)}, PIXELS, r"got \(600, 64\) and image_shape=\(9, 9\)"),
        ({"image_shape": (64,)}, PIXELS, r"image_shape \(H, W\) or \(C, H, W\), got \(64,\)"),
        ({"model": "lenet"}, PIXELS, "did you mean 'lenet5'"),
        ({"model": "fast"}, PIXELS, "fast: expected images"),
    ],
)
def test_pictures_that_fit_no_network(options: dict[str, Any], X: Any, said: str) -> None:
    with pytest.raises((ArgumentError, ShapeError), match=said):
        CNNClassifier(**options).fit(X, DIGITS)


def test_other_pictures_than_in_the_training(quick: CNNClassifier) -> None:
    quick.set_params(max_iter=1).fit(PICTURES, DIGITS)
    with pytest.raises(ShapeError, match=r"expected images \(1, 8, 8\) as in the training, got \(1, 8, 7\)"):
        quick.predict(PICTURES[:, :, :7])
    with pytest.raises(LabelError, match="at least two classes, got 1 class"):
        quick.fit(PICTURES, np.zeros(600))


def test_without_scikit_learn_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['sklearn'] = None\nimport fastnn\n"
        "try: import fastnn.sklearn\nexcept fastnn.errors.MissingExtraError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == 'scikit-learn is needed for this and is not installed: pip install "fastnn-cpu[sklearn]"\n'
