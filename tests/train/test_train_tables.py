"""Tables from their arrays to predictions: what fit chooses, remembers, weighs and measures."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.data import Batches, Dataset
from fastnn.errors import ArgumentError, DataError, FastnnError

RNG = np.random.default_rng(0)
N = 60
X = RNG.normal(size=(N, 3))  # float64, as data frames are
VALUES = X @ np.array([1.0, -2.0, 0.5]) + 3
BITS = (X[:, 0] + X[:, 1] > 0).astype(int)
LABELS = np.digitize(X[:, 0], [-0.5, 0.5])
NAMES = np.array(["low", "middle", "high"])[LABELS]
compiled = pytest.mark.parametrize("compile", [True, False], ids=["compiled", "eager"])


def linear(outputs: int = 1) -> nn.Linear:
    fnn.manual_seed(0)
    return nn.Linear(3, outputs)


def outputs_of(model: Any, x: Any = X) -> np.ndarray:
    """By NumPy in float64."""
    found: np.ndarray = x @ model.weight.data.T.astype(np.float64) + model.bias.data
    return found


def losses_of_classes(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), labels]


def losses_of_bits(z: np.ndarray, bits: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.where(bits == 1, z[:, 0], -z[:, 0])))


# ---- ways to give data -----------------------------------------------------------------------------------------------


def test_x_and_y_may_come_one_after_the_other() -> None:
    ways: list[tuple[Any, ...]] = [(X, VALUES), ((X, VALUES),), (X.tolist(), VALUES.tolist()), (Dataset(X, VALUES),)]
    found = []
    for way in ways:
        model = linear()
        history = fnn.fit(model, *way, val=0.2, epochs=2, seed=0, verbose=False)
        found.append((history["val_loss"], fnn.evaluate(model, *way).loss))
    assert all(each == found[0] for each in found)
    held = (X[:9], VALUES[:9])
    losses = [
        fnn.fit(linear(), *arguments, seed=0, verbose=False)["val_loss"]
        for arguments in (((X, VALUES), held), (X, VALUES, held), (Dataset(X, VALUES), Dataset(*held)))
    ]
    assert losses[0] == losses[1] == losses[2]
    with pytest.raises(ArgumentError, match="expected no targets beside Dataset"):
        fnn.fit(linear(), Dataset(X, VALUES), VALUES)
    with pytest.raises(ArgumentError, match="expected targets after the samples, got float"):
        fnn.fit(linear(), (X, VALUES), 0.1, val=0.2)


@compiled
@pytest.mark.parametrize("kind", [np.float16, np.float64, np.int64, np.uint8, bool])
def test_tables_of_any_type_are_the_same_numbers(kind: Any, compile: bool) -> None:
    table = (np.abs(10 * X) % 2 if kind is bool else np.abs(10 * X)).astype(kind)
    found = []
    for x in (table, table.astype(np.float32)):
        model = nn.Sequential(nn.Normalize.of(table), linear())
        fnn.fit(model, x, VALUES, epochs=2, seed=0, verbose=False, compile=compile)
        found.append([model.predict(x, compile=compile), fnn.evaluate(model, x, VALUES, compile=compile).loss])
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    assert found[0][0].dtype == np.float32


def test_names_of_classes_come_back(tmp_path: Path) -> None:
    """Also of data in which some class does not occur, and from a file."""
    model = linear(3)
    fnn.fit(model, X, NAMES, val=(X[:9], NAMES[:9]), epochs=2, verbose=False)
    order = np.array(["high", "low", "middle"])  # sorted
    fnn.save(model, tmp_path / "m.fnn")
    for each in (model, fnn.load(tmp_path / "m.fnn")):
        np.testing.assert_array_equal(each.predict(X), order[outputs_of(model).argmax(axis=1)])
    two = NAMES != "high"
    right = order[outputs_of(model).argmax(axis=1)] == NAMES
    for data in ((X[two], NAMES[two]), Dataset(X[two], NAMES[two]), Batches(X[two], NAMES[two])):
        found = fnn.evaluate(model, data)
        assert found.accuracy == pytest.approx(right[two].mean())
        assert found.confusion is not None
        assert found.confusion.sum(axis=1).tolist() == [0, *(np.sum(name == NAMES) for name in order[1:])]
    with pytest.raises(FastnnError, match="expected labels among 'high', 'low', 'middle', got 'huge'"):
        fnn.evaluate(model, X[:1], ["huge"])


@pytest.mark.parametrize("given", ["arrays", "dataset", "batches", "recipe"])
def test_names_that_are_digits_stay_names(given: str, tmp_path: Path) -> None:
    """As scikit-learn's copy of MNIST has them; numbers stay numbers."""
    names = LABELS.astype(str).astype(object)
    model = linear(3)
    if given == "recipe":
        model = fnn.recipes.train(X, names, model="tabular", epochs=1, verbose=False).model
    else:
        data = {"arrays": (X, names), "dataset": Dataset(X, names), "batches": Batches(X, names)}[given]
        fnn.fit(model, data, **({} if given == "batches" else {"val": 0.2}), verbose=False)
    fnn.save(model, tmp_path / "m.fnn")
    for each in (model, fnn.load(tmp_path / "m.fnn")):
        found = each.predict(X)
        assert set(found.tolist()) <= {"0", "1", "2"}
        assert float((found == names).mean()) == fnn.evaluate(each, X, names).accuracy
    fnn.fit(model, X, LABELS, verbose=False)
    assert model.predict(X).dtype == np.int64


def test_a_frames_columns_are_found_by_name() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = linear()
    fnn.fit(model, frame, pandas.Series(VALUES), verbose=False)
    np.testing.assert_allclose(model.predict(frame[["c", "a", "b"]].assign(d="?")), outputs_of(model)[:, 0], rtol=1e-4)
    with pytest.raises(DataError, match="expected the columns of the training, got none of the name 'b'"):
        model.predict(frame.drop(columns="b"))
    with pytest.raises(DataError, match="got 1 in column c, the first in row 0"):
        fnn.evaluate(model, frame.mask(frame == X[0, 2]), VALUES)
    with pytest.raises(DataError, match="got 3 in column 0, 3 in column 1, 3 in column 2, the first in row 2"):
        model.predict(np.full((5, 3), [[1.0]] * 2 + [[np.nan]] * 3))


# ---- the loss that follows from targets and outputs ------------------------------------------------------------------

BCE, CROSS, MSE = "BCEWithLogitsLoss", "CrossEntropyLoss", "MSELoss"
DEFAULTS: dict[str, tuple[Any, int, str]] = {
    "values": (VALUES, 1, MSE),
    "values (N, 1)": (VALUES[:, None], 1, MSE),
    "values (N, 3)": (X, 3, MSE),
    "labels": (LABELS, 3, CROSS),
    "names": (NAMES, 3, CROSS),
    "bits, two outputs": (BITS, 2, CROSS),
    "bits, one output": (BITS, 1, BCE),
    "truth values": (BITS == 1, 1, BCE),
    "floating bits": (BITS.astype(float), 1, BCE),
    "floating bits (N, 1)": (BITS.astype(np.float32)[:, None], 1, BCE),
    "two names, one output": (np.array(["no", "yes"])[BITS], 1, BCE),
    "one-hot": (np.eye(3)[LABELS], 3, CROSS),
    "several at once": ((X > 0).astype(np.float32), 3, BCE),
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_loss_follows_from_the_targets(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    targets, outputs, loss = DEFAULTS[name]
    model = linear(outputs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fnn.fit(model, X, targets)
        assert capsys.readouterr().out.startswith(f"loss: {loss}, for ")
        remembered = fnn.evaluate(model, X, targets).loss
        del vars(model)["_about"]
        assert (
            fnn.evaluate(model, X, targets).loss == remembered == fnn.evaluate(model, X, targets, loss=_of(loss)).loss
        )
        fnn.fit(linear(outputs), X, targets, loss=_of(loss))
    assert not capsys.readouterr().out.startswith("loss")


def _of(name: str) -> Any:
    return getattr(nn, name)()


@compiled
def test_binary_models_have_accuracy_and_confusions(compile: bool) -> None:
    """By the sign of logits, and by 1/2 for probabilities."""
    for last, loss in ((nn.Identity(), nn.BCEWithLogitsLoss()), (nn.Sigmoid(), nn.BCELoss())):
        for targets in (BITS, BITS.astype(np.float32), BITS.astype(np.float32)[:, None], np.array(["n", "y"])[BITS]):
            layer = linear()
            model = nn.Sequential(layer, last)
            history = fnn.fit(model, X, targets, val=(X, targets), loss=loss, verbose=False, compile=compile)
            found, said = fnn.evaluate(model, X, targets, compile=compile), outputs_of(layer)[:, 0] > 0
            assert found.accuracy == history[0].val_accuracy == pytest.approx((said == BITS).mean())
            assert found.confusion is not None
            assert found.confusion.tolist() == [
                [np.sum(~said & (BITS == 0)), np.sum(said & (BITS == 0))],
                [np.sum(~said & (BITS == 1)), np.sum(said & (BITS == 1))],
            ]
            predicted = model.predict(X)
            expected = np.array(["n", "y"])[said.astype(int)] if targets.dtype.kind == "U" else said.astype(int)
            np.testing.assert_array_equal(predicted, expected.reshape(targets.shape))


@compiled
@pytest.mark.parametrize("loss", ["mse", "mae", "huber", nn.SmoothL1Loss(), nn.BCEWithLogitsLoss(), None])
def test_targets_of_n_go_with_one_output(loss: Any, compile: bool) -> None:
    """The same training as by targets (N, 1), without a warning; predictions then are (N,), too."""
    targets = BITS.astype(np.float32) if isinstance(loss, nn.BCEWithLogitsLoss) else VALUES
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in (targets, targets[:, None]):
            model = linear()
            history = fnn.fit(
                model, X, y, val=0.2, loss=loss, epochs=2, batch_size=7, seed=0, verbose=False, compile=compile
            )
            found.append((history["train_loss"], history["val_loss"], fnn.evaluate(model, X, y, compile=compile).loss))
            assert model.predict(X).shape == y.shape
    assert found[0] == found[1]
    flat = nn.Sequential(linear(), nn.Flatten(0))
    fnn.fit(flat, X, targets[:, None], loss=loss, epochs=2, batch_size=7, seed=0, verbose=False, compile=compile)


def test_evaluate_uses_the_loss_of_the_training(tmp_path: Path) -> None:
    """With its options, also in a file; not label smoothing, which is there for the training."""
    model = linear()
    fnn.fit(model, X, VALUES, loss=nn.HuberLoss(delta=0.25), verbose=False)
    away = np.abs(outputs_of(model)[:, 0] - VALUES)
    huber = np.where(away < 0.25, away**2 / 2, 0.25 * (away - 0.125)).mean()
    fnn.save(model, tmp_path / "m.fnn")
    for each in (model, fnn.load(tmp_path / "m.fnn")):
        assert fnn.evaluate(each, X, VALUES).loss == pytest.approx(huber, rel=1e-5)
    assert fnn.evaluate(model, X, VALUES, loss="mae").loss == pytest.approx(away.mean(), rel=1e-5)
    model = linear(3)
    fnn.fit(model, X, LABELS, loss=nn.CrossEntropyLoss(label_smoothing=0.3), verbose=False)
    plain = losses_of_classes(outputs_of(model), LABELS).mean()
    assert fnn.evaluate(model, X, LABELS).loss == pytest.approx(plain, rel=1e-5)


# ---- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_by_name_and_by_function(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def largest(targets: Any, outputs: Any) -> float:
        return float(np.abs(targets - outputs[:, 0]).max())

    model = linear()
    metrics = ["mae", "r2", largest]
    history = fnn.fit(model, X[10:], VALUES[10:], val=(X[:10], VALUES[:10]), epochs=2, metrics=metrics)
    away = VALUES[:10] - outputs_of(model, X[:10])[:, 0]
    by_hand = {
        "mae": float(np.abs(away).mean()),
        "r2": float(1 - (away**2).sum() / ((VALUES[:10] - VALUES[:10].mean()) ** 2).sum()),
        "largest": float(np.abs(away).max()),
    }
    assert history[-1].metrics == pytest.approx(by_hand, rel=1e-4)
    found = fnn.evaluate(model, X[:10], VALUES[:10], metrics=metrics, batch_size=3)
    assert found.metrics == pytest.approx(by_hand, rel=1e-4)
    assert f", mae {by_hand['mae']:.4f}, r2 " in repr(found)
    assert "10 samples" in repr(found)
    assert history["val_mae"][-1] == history[-1].metrics["mae"]
    assert "val loss    val mae     val r2  val largest" in capsys.readouterr().out
    for name in ("h.csv", "h.jsonl"):
        history.save(tmp_path / name)
        assert fnn.train.History.load(tmp_path / name) == history
    with pytest.raises(ArgumentError, match=r"among accuracy, .*, got 'rmsee': did you mean 'rmse'"):
        fnn.evaluate(model, X, VALUES, metrics=["rmsee"])
    with pytest.raises(ArgumentError, match="expected validation data to measure metrics on"):
        fnn.fit(model, X, VALUES, metrics=["mae"])


def test_functions_without_a_name_of_their_own_are_numbered() -> None:
    two = [lambda targets, outputs: 1.0, lambda targets, outputs: 2.0]
    assert fnn.evaluate(linear(), X, VALUES, metrics=two).metrics == {"<lambda>": 1.0, "<lambda> 2": 2.0}


def test_probabilities_of_two_classes_have_a_column_each() -> None:
    for last, loss in ((nn.Sigmoid(), nn.BCELoss()), (nn.Identity(), nn.BCEWithLogitsLoss())):
        model = nn.Sequential(linear(), last)
        fnn.fit(model, X, BITS, loss=loss, verbose=False)
        found, yes = model.predict_proba(X), 1 / (1 + np.exp(-outputs_of(model[0])[:, 0]))
        np.testing.assert_allclose(found, np.stack([1 - yes, yes], axis=1), atol=1e-6)


def test_metrics_are_watched_by() -> None:
    """Errors shall fall, shares rise: by the best epoch, found in the history."""
    stop = fnn.train.EarlyStopping("val_mae", patience=2)
    history = fnn.fit(
        linear(), X, VALUES, val=0.3, metrics=["mae", "r2"], epochs=60, optimizer="sgd", batch_size=8, seed=0,
        verbose=False, callbacks=[stop],
    )  # fmt: skip
    assert stop.best_epoch == 1 + int(np.argmin(history["val_mae"])) > 1
    assert [fnn.train.EarlyStopping(f"val_{name}").mode for name in ("rmse", "r2", "f1")] == ["min", "max", "max"]
    history = fnn.fit(linear(3), X, LABELS, val=0.3, metrics="accuracy", verbose=False)
    assert (history[0].metrics, history[0].val_accuracy is None) == ({}, False)


def test_metrics_of_classes() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    model = linear(3)
    found = fnn.evaluate(model, X, LABELS, metrics=["accuracy", "f1", "top_k_accuracy", "balanced_accuracy"]).metrics
    said = outputs_of(model).argmax(axis=1)
    assert found["f1"] == pytest.approx(sklearn.f1_score(LABELS, said, average="macro"))
    assert found["balanced_accuracy"] == pytest.approx(sklearn.balanced_accuracy_score(LABELS, said))
    binary = nn.Sequential(linear(), nn.Sigmoid())
    result = fnn.evaluate(binary, X, BITS, loss=nn.BCELoss(), metrics=["roc_auc", "f1", "accuracy"])
    scores = outputs_of(binary[0])[:, 0]
    assert result.metrics["roc_auc"] == pytest.approx(sklearn.roc_auc_score(BITS, scores))
    assert result.metrics["f1"] == pytest.approx(sklearn.f1_score(BITS, scores > 0, average="macro"))
    assert result.metrics["accuracy"] == result.accuracy


# ---- weights ---------------------------------------------------------------------------------------------------------

WEIGHTS = RNG.random(N) * (RNG.random(N) > 0.2)  # some are 0
BALANCED = N / (3 * np.bincount(LABELS))


@compiled
@pytest.mark.parametrize("of_class", [None, {0: 3.0, 2: 0.5}, "balanced"], ids=str)
@pytest.mark.parametrize("of_sample", [None, WEIGHTS], ids=["alike", "weighed"])
def test_the_loss_is_the_weighted_mean(of_class: Any, of_sample: Any, compile: bool) -> None:
    """sum(w · loss) / sum(w) of a batch, whose gradient is in the update, of an epoch, and of an evaluation."""
    by_class = np.array([3, 1, 0.5]) if isinstance(of_class, dict) else BALANCED if of_class else np.ones(3)
    w = by_class[LABELS] * (1 if of_sample is None else of_sample)
    model, twin = linear(3), linear(3)
    batches = Batches(X, LABELS, 16, shuffle=True, seed=3)
    weights = {"class_weight": of_class, "sample_weight": of_sample}
    history = fnn.fit(
        model, batches, val=(X, LABELS), optimizer=optim.SGD(model.parameters(), lr=0.5), verbose=False,
        compile=compile, **weights,
    )  # fmt: skip
    order, total = batches.order(0), 0.0
    weight, bias = twin.weight.data.astype(np.float64), twin.bias.data.astype(np.float64)
    for start in range(0, N, 16):
        chosen = order[start : start + 16]
        z, y, own = X[chosen] @ weight.T + bias, LABELS[chosen], w[chosen]
        total += own @ losses_of_classes(z, y)
        slope = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) - np.eye(3)[y]
        slope *= (own / own.sum())[:, None]
        weight, bias = weight - 0.5 * slope.T @ X[chosen], bias - 0.5 * slope.sum(axis=0)
    assert history[0].train_loss == pytest.approx(total / w.sum(), rel=1e-4)
    np.testing.assert_allclose(model.weight.data, weight, rtol=1e-3, atol=1e-5)
    losses = losses_of_classes(outputs_of(model), LABELS)
    found = fnn.evaluate(model, X, LABELS, batch_size=13, compile=compile, **weights)
    assert found.loss == pytest.approx((w * losses).sum() / w.sum(), rel=1e-4)
    assert found.accuracy == pytest.approx((outputs_of(model).argmax(axis=1) == LABELS).mean())
    assert history[0].val_loss == pytest.approx(np.average(losses, weights=by_class[LABELS]), rel=1e-4)


@compiled
def test_weights_of_values_and_bits(compile: bool) -> None:
    model = linear()
    away = outputs_of(model)[:, 0] - VALUES
    for loss, each in (("mse", away**2), ("mae", np.abs(away))):
        found = fnn.evaluate(model, X, VALUES, loss=loss, sample_weight=WEIGHTS, compile=compile).loss
        assert found == pytest.approx(np.average(each, weights=WEIGHTS), rel=1e-5)
    history = fnn.fit(model, X, BITS, sample_weight=WEIGHTS, class_weight={1: 4}, batch_size="full", verbose=False)
    start = losses_of_bits(outputs_of(linear()), BITS)
    assert history[0].train_loss == pytest.approx(np.average(start, weights=WEIGHTS * (1 + 3 * BITS)), rel=1e-4)


def test_weights_follow_the_split_and_names() -> None:
    """A sample of weight 0 that is held out counts in the validation as little as in the training."""
    y = VALUES.copy()
    y[WEIGHTS == 0] = 1e6
    history = fnn.fit(linear(), X, y, val=0.5, sample_weight=WEIGHTS, verbose=False)
    assert history[0].val_loss < 100
    assert history[0].train_loss < 100
    by_name, by_number = (
        fnn.fit(linear(3), X, NAMES, val=0.2, class_weight=given, seed=0, verbose=False)["val_loss"]
        for given in ({"high": 5}, {0: 5})
    )
    assert by_name == by_number
    few = LABELS < 2  # a class that the validation data lack
    history = fnn.fit(linear(3), X, LABELS, val=(X[few], LABELS[few]), class_weight={0: 5, 2: 3}, verbose=False)
    assert np.isfinite(history[0].val_loss)


def test_class_weights_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    model = linear(3)
    found = fnn.evaluate(model, X, LABELS, class_weight={0: 3.0, 2: 0.5}).loss
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64))
    assert found == pytest.approx(loss(torch.tensor(outputs_of(model)), torch.tensor(LABELS)).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weight": {7: 1.0}}, "expected class_weight of the classes 0, 1, 2, got 7"),
        ({"class_weight": {0: -1.0}}, "class_weight of at least 0, got -1.0 for 0"),
        ({"class_weight": "even"}, "or \"balanced\", got 'even'"),
        ({"sample_weight": np.ones(3)}, r"expected sample_weight \(60,\)"),
        ({"sample_weight": np.zeros(N)}, "not all 0"),
        ({"class_weight": "balanced", "loss": nn.CrossEntropyLoss(weight=np.ones(3))}, "no weights of their own"),
        ({"class_weight": "balanced", "loss": lambda o, y: nn.CrossEntropyLoss()(o, y)}, "got function"),
    ],
)
def test_weights_that_are_none_are_refused(options: dict[str, Any], message: str) -> None:
    for work in (fnn.fit, fnn.evaluate):
        with pytest.raises(ArgumentError, match=message):
            work(linear(3), X, LABELS, **options)  # type: ignore[operator]
    with pytest.raises(ArgumentError, match="class_weight is for class labels"):
        fnn.evaluate(linear(), X, VALUES, class_weight="balanced")


# ---- beside scikit-learn ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::UserWarning")  # that it has not converged
def test_as_good_as_scikit_learns_network_in_five_lines() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    x, y = datasets.load_diabetes(return_X_y=True)
    a, b, c, d = x[:330], x[330:], y[:330], y[330:]
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Normalize.of(a), nn.Linear(10, 100), nn.ReLU(), nn.Linear(100, 1))
    fnn.fit(model, a, c, epochs=200, seed=0, verbose=False)
    ours, theirs = fnn.evaluate(model, b, d, metrics="r2").metrics["r2"], MLPRegressor(random_state=0).fit(a, c)
    assert ours > theirs.score(b, d) - 0.02

    x, y = datasets.load_breast_cancer(return_X_y=True)
    a, b, c, d = x[:420], x[420:], y[:420], y[420:]
    fnn.manual_seed(0)
    model = nn.Sequential(nn.Normalize.of(a), nn.Linear(30, 100), nn.ReLU(), nn.Linear(100, 2))
    fnn.fit(model, a, c, epochs=50, seed=0, verbose=False)
    scaled = nn.Normalize.of(a)
    judge = MLPClassifier(random_state=0).fit(scaled(a).data, c)
    accuracy = fnn.evaluate(model, b, d).accuracy
    assert accuracy is not None
    assert accuracy > judge.score(scaled(b).data, d) - 0.02


def test_an_evaluation_names_the_classes_of_its_confusion_matrix() -> None:
    rows = np.eye(3, dtype=np.float32).repeat(2, axis=0)
    data = fnn.data.Dataset(rows, ["ham", "ham", "spam", "spam", "spam", "spam"])
    for outputs, shown in ((2, True), (4, False)):  # more outputs than classes are numbered
        found = fnn.evaluate(nn.Linear(3, outputs), data)
        assert found.classes == ("ham", "spam")
        assert ("spam" in found._repr_html_()) == shown
    assert fnn.evaluate(nn.Linear(3, 1), rows, rows[:, :1] + 0.5).classes == ()


def test_weights_are_checked_for_length() -> None:
    x, y = np.eye(3, dtype=np.float32).repeat(20, axis=0), np.repeat([0, 1, 2], 20)
    for wrong in ([1.0, 5.0], np.ones(9), [1.0, -1.0, 1.0]):
        with pytest.raises(fnn.errors.ArgumentError, match="3 numbers of at least 0"):
            fnn.fit(nn.Linear(3, 3), x, y, class_weight=wrong, verbose=False)
    assert np.isfinite(fnn.evaluate(nn.Linear(3, 3), x, y, class_weight=[1, 2, 3]).loss)
    with pytest.raises(fnn.errors.ArgumentError, match=r"sample_weight \(60,\)"):
        fnn.fit(nn.Linear(3, 3), x, y, val=0.2, sample_weight=np.ones(48), verbose=False)


def test_classes_that_only_overlap_are_refused() -> None:
    x = np.eye(2, dtype=np.float32)
    model = nn.Linear(2, 2)
    fnn.fit(model, fnn.data.Dataset(x, [0, 1], ("cat", "dog")), verbose=False)
    with pytest.raises(fnn.errors.LabelError, match="ape"):
        fnn.evaluate(model, fnn.data.Dataset(x, [0, 1], ("ape", "cat")))
