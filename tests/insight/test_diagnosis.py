"""Diagnosis: made histories of every kind, three real trainings, curves, confusion, mistakes, and the command."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import recipes
from fastnn.cli import main
from fastnn.data import Dataset
from fastnn.errors import ArgumentError
from fastnn.insight import confusion_matrix, diagnose, worst_mistakes
from fastnn.train import EpochRecord, Evaluation, History

Epoch = tuple[float, float | None, float | None, float | None]  # losses and errors: training, then validation


def made(*epochs: Epoch) -> History:
    def accuracy(error: float | None) -> float | None:
        return None if error is None else 1 - error

    return History(
        EpochRecord(i, loss, accuracy(error), val_loss, accuracy(val_error), 0.1, 1.0, 100.0)
        for i, (loss, error, val_loss, val_error) in enumerate(epochs, 1)
    )


def flat(loss: float, error: float, val_loss: float | None, val_error: float | None) -> History:
    """Four epochs that end without a trend."""
    return made(
        (2.3, 0.9, 2.3 if val_loss else None, 0.9 if val_loss else None), *3 * [(loss, error, val_loss, val_error)]
    )


def measured(error: float, count: int = 10_000) -> Evaluation:
    return Evaluation(0.5, 1 - error, None, count)


def guessed(error: float) -> Evaluation:
    """Of ten equally frequent classes."""
    return Evaluation(2.3, 1 - error, np.full((10, 10), 100), 10_000)


# ---- made histories --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "test", "verdict"),
    [
        (flat(0.9, 0.30, 1.0, 0.33), None, "underfits"),
        (flat(0.9, 0.30, None, None), None, "underfits"),
        (flat(0.9, 0.30, 1.5, 0.45), None, "underfits"),  # first things first
        (flat(0.2, 0.06, 2.0, 0.45), None, "overfits"),  # most of the error is not the training images'
        (flat(0.01, 0.0, 0.6, 0.20), None, "overfits"),
        (flat(0.01, 0.0, 0.6, 0.20), measured(0.2), "overfits"),
        (flat(0.01, 0.0, None, None), measured(0.2), "overfits"),
        (flat(0.15, 0.045, 0.2, 0.06), None, "underfits"),  # a gap of 1.5 %: the training error leaves no room
        (flat(0.05, 0.01, 0.06, 0.02), measured(0.30), "differs"),
        (flat(0.05, 0.01, 0.06, 0.02), measured(0.09, 30), "good"),  # 7 % more is no more than noise of 30 images
        (flat(0.05, 0.01, 0.06, 0.02), measured(0.03), "good"),
        (flat(0.05, 0.01, 0.06, 0.02), None, "good"),
        (flat(0.05, 0.01, None, None), measured(0.02), "good"),
        (flat(0.05, 0.01, None, None), None, "unwatched"),
        (made((2.0, 0.7, 1.9, 0.6), (1.5, 0.5, 1.4, 0.4), (1.1, 0.35, 1.0, 0.3)), None, "unfinished"),
        (made((2.0, 0.7, None, None), (1.5, 0.5, None, None)), None, "unfinished"),
        (made((2.31, 0.9, 2.31, 0.9), (2.31, 0.9, 2.3, 0.9), (2.3, 0.9, 2.3, 0.9)), None, "stuck"),
        (made((2.31, 0.89, None, None)), guessed(0.9), "stuck"),  # the classes are known from the test
        (made((2.31, 0.9, 2.3, 0.9), (2.2, 0.87, 2.2, 0.87), (2.19, 0.83, 2.1, 0.81)), guessed(0.8), "unfinished"),
        (flat(1.4, 0.52, None, None), guessed(0.5), "underfits"),  # better than nine wrong in ten
        (made((0.9, 0.3, None, None), (0.9, 0.3, None, None)), None, "underfits"),  # all learned in the first epoch
        (made((2.0, 0.7, 1.9, 0.6)), None, "unfinished"),  # one epoch shows no trend
        (made((2.0, 0.7, 1.9, 0.6), (1.9, 0.7, 1.8, 0.6), (1.8, 0.7, 1.7, 0.6)), None, "underfits"),  # errors stand
        (made((0.1, 0.03, 0.1, 0.03), (0.05, 0.015, 0.05, 0.02)), None, "good"),  # still falling, but good
        (made((0.5, 0.2, 0.5, 0.2), (math.nan, 0.9, 0.5, 0.9)), None, "diverged"),
        (made((0.5, 0.2, 0.5, 0.2), (0.4, 0.1, math.inf, 0.9)), None, "diverged"),
        (made((0.5, 0.2, 0.5, 0.2), (0.3, 0.1, 0.3, 0.1), (2.4, 0.9, 2.4, 0.9)), None, "diverged"),
        (made((900.0, 0.9, 3.0, 0.9), (2.4, 0.9, 2.4, 0.9), (2.3, 0.9, 2.3, 0.9)), None, "diverged"),
        (made((30.0, 0.5, 2.0, 0.2), (0.1, 0.02, 0.1, 0.02)), None, "good"),  # a bad start alone is none
    ],
)  # fmt: skip
def test_every_verdict(history: History, test: Evaluation | None, verdict: str) -> None:
    diagnosis = diagnose(history, test=test)
    assert diagnosis.verdict == verdict, diagnosis
    text = repr(diagnosis).splitlines()
    assert text[0].startswith(f"{verdict}: ")
    assert len(diagnosis.remedies) == sum(line.startswith("  - ") for line in text)
    assert bool(diagnosis.remedies) == (verdict != "good")


def test_the_numbers_it_judged_by() -> None:
    diagnosis = diagnose(made((2.0, 0.5, 2.0, 0.6), (0.5, 0.02, 1.0, 0.3), (0.1, 0.01, 1.1, 0.3)), test=measured(0.32))
    numbers = {name: value for name, value in diagnosis.numbers.items() if "trend" not in name}
    assert numbers == pytest.approx({"train": 0.01, "val": 0.3, "test": 0.32, "acceptable": 0.05})
    assert diagnosis.numbers["trend"] == pytest.approx(math.sqrt(1.1 / 2.0) - 1)  # of three points: the ends'
    assert diagnosis.numbers["error_trend"] == pytest.approx(math.sqrt(0.3 / 0.6) - 1)
    assert diagnosis.reasons[0] == (
        "error: training 1.0 %, validation 30.0 %, test 32.0 %; up to 5.0 % counts as small"
    )


def test_the_epoch_to_stop_at_is_named() -> None:
    losses = (0.9, 0.5, 0.6, 0.8, 1.0, 1.2)
    reasons = diagnose(made(*((0.1, 0.0, loss, 0.2) for loss in losses))).reasons
    assert reasons[-1] == "the validation loss was lowest in epoch 2: 0.5, and was 1.2 at the end"


def test_measurements_afterwards_count_instead() -> None:
    """Dropout and augmentation make the history's training error large."""
    history = flat(0.9, 0.30, 0.1, 0.03)
    assert diagnose(history).verdict == "underfits"
    assert diagnose(history, train=measured(0.02)).verdict == "good"
    assert diagnose(history, train=measured(0.02), val=measured(0.2)).verdict == "overfits"


def test_what_counts_as_small_is_the_users() -> None:
    history = flat(0.9, 0.12, 1.0, 0.13)
    assert diagnose(history).verdict == "underfits"
    assert diagnose(history, acceptable=0.15).verdict == "good"


def test_without_classes_losses_are_judged() -> None:
    """By default, a twentieth of the first epoch's training loss counts as small."""

    def losses(*pairs: tuple[float, float]) -> History:
        return made(*((train, None, val, None) for train, val in pairs))

    assert diagnose(losses((10, 10), (6, 6), (6, 6), (6, 6))).verdict == "underfits"
    assert diagnose(losses((10, 10), (0.1, 3), (0.1, 3), (0.1, 3))).verdict == "overfits"
    assert diagnose(losses((10, 10), (0.1, 0.2), (0.1, 0.2))).verdict == "good"
    assert diagnose(losses((10, 10), (0.1, 3), (0.1, 3), (0.1, 3)), acceptable=4).verdict == "good"
    assert "loss: training 6, validation 6; up to 0.5" in repr(diagnose(losses((10, 10), (6, 6), (6, 6), (6, 6))))


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ArgumentError, match="at least one epoch"):
        diagnose(History())
    for history in (None, fixed_model(np.eye(2))):
        with pytest.raises(ArgumentError, match="History that fit returned, got"):
            diagnose(history)  # type: ignore[arg-type]
    history = flat(0.1, 0.1, None, None)
    with pytest.raises(ArgumentError, match=r"what evaluate measured, got test=0\.9"):
        diagnose(history, test=0.9)  # type: ignore[arg-type]
    for acceptable in (0, 2.0, "a"):
        with pytest.raises(ArgumentError, match=f"above 0 and below 1, got {acceptable!r}"):
            diagnose(history, acceptable=acceptable)  # type: ignore[arg-type]


def test_as_good_as_guessing_is_by_the_shares_of_the_classes() -> None:
    """Of three classes with 80, 10 and 10 images the best guess is wrong for 20 %: no third of the model's merit."""
    confusion = np.array([[80, 0, 0], [10, 0, 0], [10, 0, 0]])
    history = made(*[(0.65, 0.2, None, None)] * 3)
    diagnosis = diagnose(history, train=Evaluation(0.64, 0.8, confusion, 100))
    assert diagnosis.verdict == "stuck"
    assert diagnosis.reasons[1] == (  # -0.8 ln 0.8 - 0.2 ln 0.1 = 0.639
        "guessing among these 3 classes has an error of 20.0 % and a loss of 0.639; the model's loss on the training "
        "samples is 0.64"
    )
    assert "learning rate" in diagnosis.remedies[0]
    assert diagnose(history, train=Evaluation(0.5, 0.8, confusion, 100)).verdict == "underfits"


def test_without_classes_a_loss_that_never_fell_is_stuck() -> None:
    assert diagnose(made(*[(4.0, None, 4.0, None)] * 4)).verdict == "stuck"
    assert diagnose(made((4.0, None, 4.0, None), *[(3.0, None, 3.0, None)] * 3)).verdict == "underfits"


# ---- real trainings --------------------------------------------------------------------------------------------------


def images_of(name: str) -> Dataset:
    if name == "mnist":
        folder = os.environ.get("FASTNN_DATA_DIR")
        if not folder or not (Path(folder) / "mnist").is_dir():
            pytest.skip("needs MNIST in FASTNN_DATA_DIR")
        return fnn.data.load("mnist").split(4000)[1]
    return fnn.data.load(name)


def shifted(data: Dataset, by: int) -> Dataset:
    """Every image somewhere else, within `by` pixels."""
    rng = np.random.default_rng(0)
    images = [np.roll(image, tuple(rng.integers(-by, by + 1, 2)), (1, 2)) for image in data.images]
    return Dataset(np.array(images), data.labels, data.classes)


def train(model: str, data: Any, val: Any, epochs: int) -> History:
    fnn.manual_seed(0)
    network = recipes.MODELS[model]((1, 28, 28), 10, 0.2, 0.3)
    optimizer = fnn.optim.Adam(network.parameters(), lr=2e-3)
    return fnn.fit(network, data, val, optimizer=optimizer, epochs=epochs, batch_size=32, seed=0, verbose=False)


@pytest.mark.long
@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_three_trainings(name: str) -> None:
    data = images_of(name)
    assert diagnose(train("linear", shifted(data, 6), 0.2, 12)).verdict == "underfits"
    rest, held = data.split(0.2)
    few = rest.split(200 if name == "mnist" else 100)[1]
    assert diagnose(train("mlp", few, held, 30)).verdict == "overfits"
    assert diagnose(train("fast", data, 0.2, 8)).verdict == "good"


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_curves_show_the_history() -> None:
    pytest.importorskip("matplotlib")
    history = flat(0.01, 0.0, 0.6, 0.20)
    figure = diagnose(history, test=measured(0.25)).plot()
    loss, accuracy = figure.axes
    assert list(loss.lines[1].get_ydata()) == history["val_loss"]
    assert list(accuracy.lines[0].get_ydata()) == history["train_accuracy"]
    lowest, acceptable, test = loss.collections[0], *accuracy.collections
    assert lowest.get_offsets().tolist() == [[2, 0.6]]
    assert acceptable.get_segments()[0].tolist() == [[1, 0.95], [4, 0.95]]
    assert test.get_offsets().tolist() == [[4, 0.75]]
    assert figure._suptitle.get_text().startswith("the model overfits")


def test_the_confusion_matrix_shows_every_mistake() -> None:
    pytest.importorskip("matplotlib")
    confusion = np.array([[90, 10, 0], [1, 9, 0], [0, 0, 0]])
    figure = confusion_matrix(confusion, ("cat", "dog", "none"))
    axes, bar = figure.axes
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {
        ((0, 0), "90"), ((1, 0), "10"), ((0, 1), "1"), ((1, 1), "9"),
        ((3.1, 0), "90\N{NO-BREAK SPACE}%"), ((3.1, 1), "90\N{NO-BREAK SPACE}%"), ((3.1, 2), "–"),  # recall
        ((0, 3.1), "98.9\N{NO-BREAK SPACE}%"), ((1, 3.1), "47.4\N{NO-BREAK SPACE}%"), ((2, 3.1), "–"),  # precision
    }  # fmt: skip
    mistakes, right = (image.get_array() for image in axes.images)
    assert np.ma.getmaskarray(mistakes).tolist() == np.eye(3, dtype=bool).tolist()
    assert mistakes[0, 1] == mistakes[1, 0] == 0.1
    assert right[0, 0] == right[1, 1] == 0.9
    assert [image.get_clim() for image in axes.images] == [(0, 1), (0, 1)]
    assert bar.get_ylabel() == "mistakes, share\nof the true class"
    assert figure._suptitle.get_text().replace("\n", " ") == "11 of 110 taken for another class (10\N{NO-BREAK SPACE}%)"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "none", "precision"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "none", "recall"]
    with pytest.raises(ArgumentError, match=r"expected a matrix \(K, K\), got \(2, 3\)"):
        confusion_matrix(confusion[:2])
    with pytest.raises(ArgumentError, match=r"expected a matrix \(K, K\), got \(\)"):
        confusion_matrix(np.array(3))
    assert [text.get_text() for text in confusion_matrix([[1, 2], [3, 4]]).axes[0].texts[:4]] == ["1", "2", "3", "4"]


def fixed_model(logits: Iterable[Iterable[float]]) -> fnn.nn.Module:
    """Its input, one-hot images (N, 1, 1, n), chooses a row of the logits."""
    rows = np.array(list(logits), np.float32)
    linear = fnn.nn.Linear(*rows.shape, bias=False)
    linear.weight.data[...] = rows.T
    return fnn.nn.Sequential(fnn.nn.Flatten(), linear)


def test_mistakes_are_sorted_by_what_the_truth_was_given() -> None:
    """Softmax of (ln 8, ln 1, ln 1) is (0.8, 0.1, 0.1), and so on: of four images, two are mistakes."""
    pytest.importorskip("matplotlib")
    shares = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.05, 0.05, 0.9], [0.1, 0.7, 0.2]])
    data = Dataset(np.eye(4, dtype=np.float32).reshape(4, 1, 1, 4), [0, 1, 0, 1], ("cat", "dog", "cow"))
    mistakes = worst_mistakes(fixed_model(np.log(shares)), data)
    assert mistakes.indices.tolist() == [2, 1]
    assert mistakes.labels.tolist() == [0, 1]
    assert mistakes.found.tolist() == [2, 0]
    np.testing.assert_allclose(mistakes.probabilities, [0.9, 0.6], rtol=1e-5)
    np.testing.assert_allclose(mistakes.true_probabilities, [0.05, 0.3], rtol=1e-5)
    np.testing.assert_array_equal(mistakes.images, data.images[[2, 1]])
    assert repr(mistakes).splitlines()[0] == "image 2: cat taken for cow (90.0 %)"
    assert len(worst_mistakes(fixed_model(np.log(shares)), data, count=1)) == 1
    figure = mistakes.plot()
    assert [axes.get_title() for axes in figure.axes] == ["cat → cow, 90 %\nimage 2", "dog → cat, 60 %\nimage 1"]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), data.images[2, 0])
    right = worst_mistakes(fixed_model(np.log(shares)), data.subset(slice(1)))
    assert len(right) == 0
    assert "no mistakes" in right.plot()._suptitle.get_text()


def test_mistakes_need_classes() -> None:
    for count in (-1, 2.5, True):
        with pytest.raises(ArgumentError, match=f"0 or more, got count={count}"):
            worst_mistakes(fixed_model(np.eye(4)), "digits", count=count)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="integer labels"):
        worst_mistakes(fixed_model(np.eye(4)), (np.zeros((2, 1, 1, 4), np.float32), np.array([0.5, 1.5])))


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model of the digits after one epoch of two: with images to watch by."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--model", "linear", "--epochs", "2", "--val", "0.1", "--out", str(folder)]) == 0
    return folder


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["diagnose", str(run), "--json", str(tmp_path / "d.json"), "--out", str(tmp_path / "pictures")]) == 0
    out = capsys.readouterr().out
    result = json.loads((tmp_path / "d.json").read_text())
    model, _, history = fnn.load_run(run)
    rest, held = fnn.data.load("digits").split(0.1, seed=0)
    expected = diagnose(
        history, train=fnn.evaluate(model, rest), val=fnn.evaluate(model, held), test=fnn.evaluate(model, "digits")
    )
    assert out.startswith(repr(expected))
    assert (result["verdict"], result["errors"]) == (expected.verdict, expected.numbers)
    for name in ("learning_curves.png", "confusion.png", "mistakes.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")
    assert main(["diagnose", str(run), "--acceptable", "0.9"]) == 0
    assert capsys.readouterr().out.startswith("good: ")
    assert (run / "diagnosis" / "mistakes.png").exists()


def test_a_run_that_stopped_early_is_not_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    run = tmp_path / "run"
    assert main(["train", "--model", "linear", "--epochs", "5", "--val", "0.5", "--out", str(run)]) == 0
    lines = [
        {"epoch": i, "train_loss": 0.01, "train_accuracy": 1.0, "val_loss": 0.9, "val_accuracy": 0.7, "lr": 0.1,
         "seconds": 1.0, "images_per_second": 1.0}
        for i in (1, 2, 3)
    ]  # fmt: skip
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "early_stopping": 5}))
    capsys.readouterr()
    assert main(["diagnose", str(run), "--acceptable", "0.03"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("overfits: ")
    assert "weight decay" in told
    assert "EarlyStopping" not in told


def test_the_command_notices_first_that_pictures_have_no_place(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("fastnn.cli.diagnose.evaluate", lambda *_: pytest.fail("it worked first"))
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        assert main(["diagnose", str(run), "--out", str(tmp_path / out)]) == 3
        assert f"--out: expected a folder that can be written, got {tmp_path / out}" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["diagnose", str(run), "--out", str(tmp_path / "out")]) == 1
    assert 'pip install "fastnn-cpu[plot]"' in capsys.readouterr().err


def test_the_command_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", str(tmp_path)]) == 3
    assert "made by fastnn train --out" in capsys.readouterr().err


def test_an_error_of_nearly_nothing_has_no_trend_of_its_own() -> None:
    """One sample of 500 more or less is half of the error; 28 % an epoch is nothing to act on."""
    history = made(*[(0.4, 0.004, None, None), (0.39, 0.0, None, None)] * 6)
    assert abs(diagnose(history, test=measured(0.3)).numbers["error_trend"] or 0) < 1e-12


def test_few_test_samples_are_said_with_what_they_leave_open() -> None:
    """Agresti and Coull's interval, of 2 wrong among 37: (2 + 2) / 41 ± 2 √(p (1 - p) / 41)."""
    history = flat(0.01, 0.0, None, None)
    doubt = "37 test samples are few: on more, the error may well be 0.5 % or 19.0 %"
    assert doubt in diagnose(history, test=measured(2 / 37, 37)).reasons
    assert not any("are few" in reason for reason in diagnose(history, test=measured(2 / 37)).reasons)


def test_a_training_that_batch_norm_lags_behind_is_not_finished() -> None:
    """After three epochs of `mobile` on 122 pictures: better and better in training mode, guessing in eval mode."""
    history = made((1.13, 0.70, 1.10, 0.68), (1.07, 0.54, 1.10, 0.68), (1.00, 0.45, 1.08, 0.68))
    guessing = Evaluation(1.09, 1 - 0.66, np.full((3, 3), 100), 900)
    found = diagnose(history, train=guessing, val=guessing, test=guessing)
    assert found.verdict == "unfinished"
    assert "error is 66.0 % in eval mode, but was 45.0 % in training mode" in found.reasons[-1]
    # Where the loss does not fall any more, or eval mode is no worse than chance has it, that is no excuse.
    rest = made((1.0, 0.45, 1.08, 0.68), (1.0, 0.45, 1.08, 0.68), (1.00, 0.45, 1.08, 0.68))
    assert diagnose(rest, train=guessing, val=guessing, test=guessing).verdict == "stuck"
    level = made((1.13, 0.70, 1.10, 0.68), (1.11, 0.68, 1.10, 0.68), (1.08, 0.64, 1.10, 0.68))
    assert diagnose(level, train=guessing, val=guessing, test=guessing).verdict == "stuck"


def test_of_a_run_its_history_is_asked_for() -> None:
    run = recipes.Run(recipes.linear(), {}, flat(0.9, 0.30, 1.0, 0.33))
    with pytest.raises(ArgumentError, match=r"expected the History that fit returned, got Run: pass its \.history"):
        diagnose(run)
    with pytest.raises(
        ArgumentError, match=r"got History at 2: it has a \.save\(file\) of its own; of a run, save run\.model"
    ):
        fnn.save(run, os.devnull)
