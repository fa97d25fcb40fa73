"""The recipes' models against their description, and runs out of their folders."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, recipes
from fastnn.cli import main
from fastnn.data import Dataset
from fastnn.errors import ArgumentError, DataError

SHAPES = {  # name: shapes of the weights for images 1×28×28 and 10 classes, as issue and lectures give them
    "cnn": [(32, 1, 3, 3), (64, 32, 3, 3), (128, 64 * 12 * 12), (10, 128)],
    "lenet5": [(6, 1, 5, 5), (16, 6, 5, 5), (120, 16 * 5 * 5), (84, 120), (10, 84)],
    "mlp": [(1000, 784), (10, 1000)],
    "linear": [(10, 784)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_models_are_what_they_are_said_to_be(name: str) -> None:
    model = recipes.MODELS[name](mean=0.1, std=0.3)
    weights = [a.shape for n, a in model.state_dict().items() if n.endswith("weight")]
    assert weights == SHAPES[name]
    assert isinstance(model[0], nn.Normalize)
    assert sum(isinstance(layer, nn.ReLU) for layer in model) == len(weights) - 1


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 13, 17)], ids=str)
def test_models_fit_the_images_and_classes(name: str, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    train = Dataset(images, [0, 4])
    model = recipes.recipe(name, train).build(train)
    assert model(images).shape == (2, 5)
    mean, std = train.statistics()
    np.testing.assert_allclose(model[0].mean, mean, rtol=1e-6)
    np.testing.assert_allclose(model[0].std, std, rtol=1e-6)


@pytest.mark.parametrize(("name", "side"), [("cnn", 6), ("lenet5", 12)])
def test_images_too_small_for_a_model_are_refused(name: str, side: int) -> None:
    recipes.MODELS[name]((1, side, side))(np.zeros((1, 1, side, side), np.uint8))
    with pytest.raises(ArgumentError, match=f"at least {side}x{side}"):
        recipes.MODELS[name]((1, side, side - 1))


def test_the_learning_rate_falls_as_documented() -> None:
    recipe = recipes.Recipe("linear", epochs=3, batch_size=4, lr=0.5, patience=2)
    optimizer = recipe.optimizer(recipes.linear((1, 2, 2), 2))
    schedule = recipe.scheduler(optimizer)
    rates = []
    for _ in range(3):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert rates == pytest.approx([0.5, 0.5 / 1.5**2, 0.5 / 4])


def test_changes_to_a_recipe_and_unknown_models() -> None:
    train = fnn.data.load("digits")
    assert recipes.recipe("mlp", train, lr=0.7).lr == 0.7
    with pytest.raises(ArgumentError, match="'resnet'"):
        recipes.recipe("resnet", train)


def test_digits_are_learnt() -> None:
    train, test = fnn.data.load("digits"), fnn.data.load("digits", split="test")
    fnn.manual_seed(0)
    recipe = recipes.recipe("linear", train)
    model = recipe.build(train)
    optimizer = recipe.optimizer(model)
    scheduler = recipe.scheduler(optimizer)
    batches = fnn.data.Batches(train.images, train.labels, recipe.batch_size, shuffle=True, seed=0)
    fnn.fit(model, batches, optimizer=optimizer, scheduler=scheduler, epochs=4, verbose=False)
    assert fnn.evaluate(model, test).accuracy > 0.9


def test_a_run_comes_back(tmp_path: Path) -> None:
    assert main(["train", "--model", "linear", "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    model, config, history = fnn.load_run(tmp_path / "run")
    assert not model.training
    assert (config["model"], config["dataset"], len(history)) == ("linear", "digits", 1)
    assert config["classes"] == list("0123456789")
    kept = fnn.weights.load(tmp_path / "run" / "weights.safetensors")
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, kept[name])


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="folder of a run"):
        fnn.load_run(tmp_path)
    assert main(["train", "--model", "linear", "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    for damage, message in (
        ({**config, "model": "mlp"}, "config and weights of one run"),
        ({**config, "model": "resnet"}, "config and weights of one run"),
        ({"model": "linear"}, "without dataset"),
        ([], "without dataset"),
    ):
        (tmp_path / "run" / "config.json").write_text(json.dumps(damage))
        with pytest.raises(DataError, match=message):
            fnn.load_run(tmp_path / "run")


def test_a_run_without_an_epoch_or_made_in_python_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match="no such folder"):
        fnn.load_run(tmp_path / "none")
    run = tmp_path / "run"
    assert main(["train", "--model", "linear", "--epochs", "1", "--out", str(run)]) == 0
    kept = (run / "config.json").read_text()
    (run / "config.json").unlink()
    with pytest.raises(DataError, match=r"train\.Checkpoint .* says nothing of how the model was made"):
        fnn.load_run(run)
    (run / "weights.safetensors").unlink()
    (run / "config.json").write_text(kept)
    capsys.readouterr()
    for command in (["eval", str(run)], ["predict", "x.npy", "--run", str(run)]):
        assert main(command) == 3
        assert "has not finished an epoch" in capsys.readouterr().err


@pytest.mark.skipif(not os.environ.get("FASTNN_DATA_DIR"), reason="MNIST is in FASTNN_DATA_DIR")
def test_a_linear_model_learns_mnist() -> None:
    train = fnn.data.load("mnist").subset(slice(6000))
    fnn.manual_seed(0)
    recipe = recipes.recipe("linear", train)
    model = recipe.build(train)
    fnn.fit(model, train, optimizer=recipe.optimizer(model), epochs=2, verbose=False)
    assert fnn.evaluate(model, "mnist").accuracy > 0.83
