"""`fastnn train`: optimisers, penalties, stopping rules, the learning rate that is looked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import optim, recipes
from fastnn.cli import main

LINEAR = ("train", "--model", "linear", "--no-augment")
KINDS = {
    "gd": optim.GradientDescent, "sgd": optim.SGD, "momentum": optim.SGD, "nesterov": optim.SGD, "rprop": optim.Rprop,
    "adagrad": optim.Adagrad, "rmsprop": optim.RMSprop, "adam": optim.Adam, "adamw": optim.AdamW,
}  # fmt: skip


def result_of(path: Path, *arguments: str) -> dict[str, Any]:
    assert main([*LINEAR, *arguments, "--json", str(path)]) == 0
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("name", recipes.ALGORITHMS)
def test_every_optimizer(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its own numbers, it learns; the recipe makes an optimiser of that class with them, and says so."""
    whole = name in ("gd", "rprop")
    result = result_of(tmp_path / "r.json", "--optimizer", name, "--epochs", "25" if whole else "1")
    assert result["test_accuracy"] > 0.8
    recipe = recipes.Recipe(**result["recipe"])
    assert recipe.algorithm == name
    assert recipe.batch_size == (1437 if whole else 16)
    model = recipe.build(fnn.data.load("digits"))
    group = recipe.optimizer(model).param_groups[0]
    assert type(recipe.optimizer(model)) is KINDS[name]
    assert {"lr": recipe.lr, "l1": 0, "l2": 0}.items() <= group.items()
    if "momentum" in group and name != "rmsprop":
        assert (group["momentum"], group["nesterov"]) == (0 if name == "sgd" else 0.9, name == "nesterov")
    assert f"learning rate {recipe.lr:g}" in capsys.readouterr().out


def test_penalties_are_used_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without = result_of(tmp_path / "r.json", "--epochs", "1")
    options = ("--epochs", "1", "--l1", "1e-3", "--l2", "0.01", "--penalize-bias")
    found = result_of(tmp_path / "r.json", *options, "--out", str(tmp_path / "run"))
    assert without["penalty"] is None
    assert found["penalty"] > 0
    model, _, history = fnn.load_run(tmp_path / "run")
    assert history[0].penalty == found["penalty"]
    recipe = recipes.Recipe(**found["recipe"])
    assert (recipe.l1, recipe.l2, recipe.penalize_bias) == (1e-3, 0.01, True)
    assert 0 < recipe.optimizer(model).penalty() < 10
    assert "penalty 0.001 Σ|w| + 0.01 Σw² with biases" in capsys.readouterr().out


def test_gradient_descent_descends_in_every_epoch_until_it_stops(tmp_path: Path) -> None:
    options = ("--optimizer", "gd", "--lr", "30", "--l2", "0.01", "--stop-on-step", "0.1", "--out")
    result = result_of(tmp_path / "r.json", *options, str(tmp_path / "run"))
    history = fnn.load_run(tmp_path / "run")[2]
    values = np.add(history["train_loss"], history["penalty"])
    assert (np.diff(values) < 0).all()
    assert 3 < result["epochs"] < 100


def test_full_batches(tmp_path: Path) -> None:
    """One update an epoch, kept as that number of images; --resume knows the word."""
    run = ("--batch-size", "full", "--out", str(tmp_path / "run"))
    assert result_of(tmp_path / "r.json", *run, "--epochs", "1")["recipe"]["batch_size"] == 1437
    assert result_of(tmp_path / "r.json", *run, "--epochs", "2", "--resume")["epochs"] == 2


def test_early_stopping_keeps_the_best_weights_also_of_a_resumed_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    options = ("--lr", "0.3", "--val", "0.2", "--early-stopping", "2", "--epochs", "40", "--out", run)
    first = result_of(tmp_path / "r.json", *options)
    assert first["epochs"] < 40
    assert "stopped in epoch" in capsys.readouterr().out
    model, _, history = fnn.load_run(run)
    best = int(np.argmin(history["val_loss"]))
    assert best == len(history) - 3
    assert fnn.evaluate(model, "digits").accuracy == first["test_accuracy"]
    kept = (tmp_path / "run" / "weights.safetensors").read_bytes()
    assert main(["train", "--out", run, "--resume"]) == 0
    assert f"stopped in epoch {first['epochs']}: val_loss has not improved" in capsys.readouterr().out
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == kept
    assert main(["train", "--out", run, "--resume", "--early-stopping", "9"]) == 2
    assert "was started with --early-stopping 2, got 9" in capsys.readouterr().err


def test_a_plateau_stops(tmp_path: Path) -> None:
    assert result_of(tmp_path / "r.json", "--lr", "1", "--stop-on-plateau", "1", "--epochs", "40")["epochs"] < 40


def test_the_learning_rate_that_is_found_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The run is that of the same rate given by hand."""
    found = result_of(tmp_path / "r.json", "--lr", "find", "--epochs", "1", "--out", str(tmp_path / "a"))
    rate = found["recipe"]["lr"]
    out = capsys.readouterr().out
    assert out.startswith(f"rate     {rate:g}, found by ")
    assert 1e-4 < rate < 0.5
    result_of(tmp_path / "r.json", "--lr", str(rate), "--epochs", "1", "--out", str(tmp_path / "b"))
    first, second = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "ab")
    assert first == second
    again = result_of(tmp_path / "r.json", "--lr", "find", "--epochs", "2", "--out", str(tmp_path / "a"), "--resume")
    assert again["recipe"]["lr"] == rate


def test_options_that_a_resumed_run_was_not_started_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ("--out", str(tmp_path / "run"))
    result_of(tmp_path / "r.json", "--epochs", "1", *run)
    for options, message in (
        (("--stop-on-plateau", "2"), "was started without --stop-on-plateau, got 2"),
        (("--augment",), "was started with --no-augment, got --augment"),
        (("--lr", "0.5"), "was started with --lr 0.02, got 0.5"),
    ):
        assert main(["train", *options, *run, "--resume"]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--early-stopping", "3"], "--early-stopping needs --val SHARE"),
        (["--optimizer", "gd", "--batch-size", "16"], "expected one batch of all samples for GradientDescent"),
        (["--optimizer", "rprop", "--lr", "find"], "expected an optimiser whose steps follow its lr, got Rprop"),
    ],
)
def test_nonsense_is_exit_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*LINEAR, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "finds"], "expected a number above 0, or find, got 'finds'"),
        (["--batch-size", "ful"], "expected a whole number of at least 1, or full, got 'ful'"),
    ],
)
def test_words_that_are_nearly_right(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*LINEAR, *arguments])
    assert message in capsys.readouterr().err


def test_unknown_algorithms() -> None:
    with pytest.raises(fnn.errors.ArgumentError, match=r"expected an algorithm among gd, sgd, .*, got 'lbfgs'"):
        recipes.recipe("linear", fnn.data.load("digits"), algorithm="lbfgs")
