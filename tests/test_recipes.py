"""The recipes' models against their description, and runs out of their folders."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import config, nn, recipes
from fastnn.cli import main
from fastnn.data import Dataset
from fastnn.errors import ArgumentError, DataError, LabelError

SHAPES = {  # name: shapes of the weights for images 1×28×28 and 10 classes, as issue and lectures give them
    "cnn": [(32, 1, 3, 3), (64, 32, 3, 3), (128, 64 * 12 * 12), (10, 128)],
    "lenet5": [(6, 1, 5, 5), (16, 6, 5, 5), (120, 16 * 5 * 5), (84, 120), (10, 84)],
    "mlp": [(1000, 784), (10, 1000)],
    "linear": [(10, 784)],
    "fast": [(8, 1, 3, 3), (16, 8, 3, 3), (128, 16 * 5 * 5), (10, 128)],
    "best": [(32, 1, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (128, 64 * 4 * 4), (10, 128)],
}


@pytest.mark.parametrize("name", SHAPES)
def test_models_are_what_they_are_said_to_be(name: str) -> None:
    model = recipes.MODELS[name](mean=0.1, std=0.3)
    weights = [a.shape for n, a in model.state_dict().items() if n.endswith("weight") and a.ndim > 1]
    assert weights == SHAPES[name]
    assert isinstance(model[0], nn.Normalize)
    assert sum(isinstance(layer, nn.ReLU) for layer in model) == len(weights) - 1


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 16, 21)], ids=str)
def test_models_fit_the_images_and_classes(name: str, shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8)
    train = Dataset(images, [0, 4])
    model = recipes.recipe(name, train).build(train)
    assert model(images).shape == (2, 5)
    mean, std = train.statistics()
    np.testing.assert_allclose(model[0].mean, mean, rtol=1e-6)
    np.testing.assert_allclose(model[0].std, std, rtol=1e-6)


@pytest.mark.parametrize("name", ["resnet", "mobile"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20)], ids=str)
def test_deep_models_take_images_of_any_size(name: str, shape: tuple[int, int, int]) -> None:
    train = Dataset(np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8), [0, 4])
    model = recipes.recipe(name, train).build(train)
    assert isinstance(model[0], nn.Normalize)
    assert model(train.images).shape == (2, 5)


def test_resnet_is_the_network_of_the_paper() -> None:
    model = recipes.resnet((3, 32, 32), 10)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convolutions) + 1 == 20  # and the dense layer
    # He et al. 2015, table 6: 0.27 million parameters. Counted by hand: 19 convolutions of 3x3, two of 1x1 on the way
    # past, a scale and a shift for each of their filters, the dense layer.
    in_blocks = 9 * (3 * 16 + 6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64) + 16 * 32 + 32 * 64
    filters = 7 * 16 + 6 * 32 + 6 * 64 + 32 + 64
    assert sum(p.data.size for p in model.parameters()) == in_blocks + 2 * filters + 64 * 10 + 10


@pytest.mark.parametrize(
    ("shape", "count", "model"),
    [((1, 28, 28), 4, "cnn"), ((1, 28, 28), 10_000, "cnn"), ((3, 32, 32), 4, "mobile"), ((3, 8, 8), 10_000, "resnet"),
     ((1, 64, 64), 4, "mobile"), ((3, 4, 9), 4, "mlp")],
)  # fmt: skip
def test_auto_is_the_model_that_suits_the_images(shape: tuple[int, int, int], count: int, model: str) -> None:
    train = Dataset(np.zeros((count, *shape), np.uint8), np.arange(count) % 3)
    recipe = recipes.recipe("auto", train)
    assert recipe.model == recipes.choose(train) == model
    assert recipe.build(train)(train.images[:2]).shape == (2, 3)


def test_auto_learns_shapes_in_colour_from_few_pictures() -> None:
    images, labels = coloured_shapes(72)
    train, test = Dataset(images[:144], labels[:144]), Dataset(images[144:], labels[144:])
    assert fnn.evaluate(learn("auto", train), test).accuracy >= 0.95


def coloured_shapes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` discs, squares and plus signs each, of one colour on a light background: (N, 3, 24, 24)."""
    draw = np.random.default_rng(0)
    images, y, x = np.zeros((3 * count, 3, 24, 24), np.uint8), *np.mgrid[:24, :24]
    labels = np.arange(3 * count) % 3
    for image, label in zip(images, labels, strict=True):
        r = draw.uniform(4, 8)
        v, u = (abs(each - draw.uniform(r, 23 - r)) for each in (y, x))
        inside = [u**2 + v**2 < r**2, np.maximum(u, v) < r, (np.maximum(u, v) < r) & (np.minimum(u, v) < r / 3)][label]
        colours = draw.integers(0, 160, 3), draw.integers(200, 256, 3)
        image[:] = np.where(inside, *(colour[:, None, None] for colour in colours))
    return images, labels


@pytest.mark.parametrize(("name", "side"), [("cnn", 6), ("lenet5", 12), ("fast", 10), ("best", 16)])
def test_images_too_small_for_a_model_are_refused(name: str, side: int) -> None:
    recipes.MODELS[name]((1, side, side))(np.zeros((1, 1, side, side), np.uint8))
    with pytest.raises(ArgumentError, match=f"at least {side}x{side}"):
        recipes.MODELS[name]((1, side, side - 1))


def rates(recipe: recipes.Recipe, steps: int, batches: int) -> list[float]:
    """The learning rates of so many steps of the recipe's schedule."""
    optimizer = recipe.optimizer(recipes.linear((1, 2, 2), 2))
    schedule = recipe.scheduler(optimizer, batches)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return seen


def test_the_learning_rate_falls_as_documented() -> None:
    recipe = recipes.Recipe("linear", epochs=3, batch_size=4, lr=0.5, patience=2)
    assert rates(recipe, 3, batches=7) == pytest.approx([0.5, 0.5 / 1.5**2, 0.5 / 4])


def test_one_cycle_rises_and_falls_to_nothing_at_the_last_batch() -> None:
    recipe = recipes.Recipe("linear", epochs=3, batch_size=4, lr=0.5, rise=0.25)
    seen = np.array(rates(recipe, 12, batches=4))
    assert seen[0] == pytest.approx(0.05)
    assert seen.argmax() == 2
    assert seen[2] == pytest.approx(0.5)
    np.testing.assert_allclose(np.diff(seen[:3]), 0.225)
    np.testing.assert_allclose(np.diff(seen[2:]), -0.5 / 9, rtol=1e-4)
    assert 0 < seen[-1] < 1e-4
    assert "up to 0.5 in the first 25 %" in str(recipe)


def test_a_recipe_smooths_the_labels_and_moves_the_images_that_it_says() -> None:
    train = fnn.data.load("digits")
    fast, best, cnn = (recipes.recipe(name, train) for name in ("fast", "best", "cnn"))
    assert fast.loss().label_smoothing == best.loss().label_smoothing == 0.1
    assert cnn.loss().label_smoothing == 0
    assert "labels smoothed by 0.1" in str(fast)
    assert fast.augmentation("mnist") is None
    moved, more = cnn.augmentation("mnist"), best.augmentation("mnist")
    assert moved is not None
    assert more is not None
    assert more.scale > moved.scale == 0
    assert not moved.flip
    assert recipes.augmentation("cifar10").flip


def test_changes_to_a_recipe_and_unknown_models() -> None:
    train = fnn.data.load("digits")
    assert recipes.recipe("mlp", train, lr=0.7).lr == 0.7
    with pytest.raises(ArgumentError, match="'alexnet'"):
        recipes.recipe("alexnet", train)


def learn(
    name: str, train: Dataset, seed: int = 0, callbacks: tuple[fnn.train.Callback, ...] = (), **changes: Any
) -> nn.Sequential:
    """A model trained by its recipe."""
    return recipes.train(train, model=name, seed=seed, callbacks=callbacks, verbose=False, **changes).model


@pytest.mark.parametrize(
    ("name", "changes", "least"), [("linear", {"epochs": 4}, 0.9), ("fast", {}, 0.96), ("best", {"epochs": 2}, 0.9)]
)
def test_digits_are_learnt(name: str, changes: dict[str, Any], least: float) -> None:
    if name != "linear" and config.configuration()["backend"] != "native":
        pytest.skip("quick on the native kernels alone")
    model = learn(name, fnn.data.load("digits"), **changes)
    assert fnn.evaluate(model, "digits").accuracy > least


class StopAfter(fnn.train.Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, training: fnn.train.Training) -> None:
        if training.epoch == self.epoch:
            training.stop("enough")


@pytest.mark.parametrize("name", ["cnn", "fast", "best"])
def test_a_recipe_that_was_stopped_goes_on_as_if_it_had_not_been(name: str, tmp_path: Path) -> None:
    digits = fnn.data.load("digits").subset(slice(100))
    straight = learn(name, digits, epochs=3, augment=True)
    learn(name, digits, epochs=3, augment=True, callbacks=(fnn.train.Checkpoint(tmp_path), StopAfter(2)))
    resumed = learn(name, digits, epochs=3, augment=True, callbacks=(fnn.train.Checkpoint(tmp_path, resume=True),))
    for (key, one), other in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=key)


def test_a_cycle_made_longer_says_what_it_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["train", "--model", "fast", "--epochs", "1", "--batch-size", "300", "--out", str(tmp_path / "run")]
    assert main(start) == 0
    assert "planned" not in capsys.readouterr().out
    assert main(["train", "--out", str(tmp_path / "run"), "--resume", "--epochs", "2"]) == 0
    said = capsys.readouterr().out
    assert "planned for 1 epoch: it goes on where that of 2 would be by now" in said
    history = fnn.load_run(tmp_path / "run")[2]
    assert [record.lr < 0.01 for record in history] == [True, True]
    assert main(["train", "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert "planned" not in capsys.readouterr().out


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
    for command in (["eval", str(run)], ["predict", str(run), "x.npy"]):
        assert main(command) == 3
        assert "has not finished an epoch" in capsys.readouterr().err


needs_mnist = pytest.mark.skipif(not os.environ.get("FASTNN_DATA_DIR"), reason="MNIST is in FASTNN_DATA_DIR")


@needs_mnist
def test_a_linear_model_learns_mnist() -> None:
    train = fnn.data.load("mnist").subset(slice(6000))
    fnn.manual_seed(0)
    recipe = recipes.recipe("linear", train)
    model = recipe.build(train)
    fnn.fit(model, train, optimizer=recipe.optimizer(model), epochs=2, verbose=False)
    assert fnn.evaluate(model, "mnist").accuracy > 0.83


@pytest.mark.long
@needs_mnist
def test_fast_is_good_at_mnist() -> None:
    if config.configuration()["backend"] != "native":
        pytest.skip("quick on the native kernels alone")
    assert fnn.evaluate(learn("fast", fnn.data.load("mnist")), "mnist").accuracy > 0.988


def test_train_takes_columns_by_name_and_whole_numbers() -> None:
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"rooms": rng.integers(1, 9, 300), "year": rng.integers(1900, 2020, 300)})
    price = 1000.0 * frame["rooms"] + 2.0 * frame["year"]
    run = recipes.train(frame, price, epochs=20, verbose=False)
    assert np.abs(run.predict(frame) - price).mean() < 0.1 * price.std()
    np.testing.assert_array_equal(run.predict(frame[["year", "rooms"]]), run.predict(frame))


def test_a_regression_of_several_targets_of_any_size() -> None:
    x = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    y = x[:, :2] * [1.0, 1000.0] + [0.0, 5000.0]
    run = recipes.train(x, y, epochs=30, verbose=False)
    assert run.predict(x).shape == (300, 2)
    assert (np.abs(run.predict(x) - y).mean(axis=0) < 0.5 * y.std(axis=0)).all()
    bits = recipes.recipe("auto", Dataset(x, np.eye(2, dtype=np.int64)[np.arange(300) % 2]))
    assert not bits.values  # rows with one 1 are classes


def test_a_regression_on_pictures_learns_where_something_is() -> None:
    rng = np.random.default_rng(0)
    place = rng.integers(1, 11, 200)
    pictures = rng.integers(0, 50, (200, 1, 12, 12)).astype(np.uint8)
    pictures[np.arange(200), 0, :, place] = 255
    run = recipes.train(pictures, 10.0 * place, epochs=10, verbose=False)
    assert not recipes.Recipe(**run.config["recipe"]).augment  # which would move it
    assert np.abs(run.predict(pictures) - 10 * place).mean() < 10


@pytest.mark.parametrize("model", ["mlp", "linear"])
def test_models_without_places_take_tables(model: str) -> None:
    x = np.random.default_rng(0).standard_normal((60, 3))
    run = recipes.train(x, (x[:, 0] > 0).astype(int), model=model, epochs=5, verbose=False)
    assert run.predict(x).shape == (60,)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_targets_of_any_size_are_learned_alike(unit: float) -> None:
    x = np.random.default_rng(0).normal(size=(200, 3))
    for scale in (1.0, unit):
        y = (2 * x[:, 0] - x[:, 1]) * scale
        found = recipes.train(x, y, epochs=10, verbose=False).predict(x)
        assert fnn.metrics.r2(y, found) > 0.9, scale


def test_a_regression_without_all_targets_is_refused_as_such() -> None:
    with pytest.raises(DataError, match="expected a label for every sample, got 1 missing, the first in row 0"):
        recipes.train(np.ones((20, 2)), np.r_[np.nan, np.linspace(0, 1, 19)], verbose=False)


def test_a_recipe_says_what_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    run = recipes.train(x, np.where(x[:, 0] > 0, "up", "down"), val=0.25, epochs=1, metrics=["f1"], verbose="epoch")
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "model: tabular, which suits such samples, for 2 classes: down, up"
    assert second.startswith("recipe: 1 epoch, batches of 16, AdamW")
    assert 0 <= run.history[-1].metrics["f1"] <= 1
    reached = f"1 epoch, validation accuracy {100 * run.history[-1].val_accuracy:.2f} %; "
    assert reached in repr(run)
    assert run._repr_html_().count("<table>") == 1
    recipes.train(x, x[:, :2], epochs=1, model="tabular", verbose="epoch")
    assert capsys.readouterr().out.startswith("model: tabular, for a regression of 2 values\n")
    recipes.train(x, x[:, 0], epochs=1, verbose=False)
    assert capsys.readouterr().out == ""


def test_labels_that_look_like_something_else_are_said() -> None:
    x = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(LabelError, match="two classes or more, got only a"):
        recipes.train(x, ["a"] * 40, verbose=False)
    prices = np.arange(40) * 5 + 100
    with pytest.warns(UserWarning, match=r"classes, of which there are 296, from 0 to 295, but only 40 have") as said:
        recipes.train(x, prices, epochs=1, verbose=False)
    for remedy, of_values in zip(str(said[0].message).split("pass ")[1].split(", "), (True, False), strict=True):
        y = eval(remedy.split(" if")[0], {"np": np, "y": prices})
        assert recipes.train(x, y, epochs=1, verbose=False).model.predict(x).dtype.kind == ("f" if of_values else "U")


def test_what_belongs_to_fit_is_said_to() -> None:
    x = np.ones((8, 2))
    with pytest.raises(ArgumentError, match=r"got sample_weight: it is an argument of fnn\.fit"):
        recipes.train(x, [0, 1] * 4, sample_weight=x[:, 0])
    with pytest.raises(ArgumentError, match="got epoch: did you mean 'epochs'"):
        recipes.train(x, [0, 1] * 4, epoch=3)


def test_signals_with_channels_last_are_noticed() -> None:
    x = np.random.default_rng(0).normal(size=(20, 30, 2))
    with pytest.warns(UserWarning, match=r"30 channels and 2 times: .* x\.transpose\(0, 2, 1\)"):
        recipes.train(x, np.arange(20) % 2, epochs=1, verbose=False)
    recipes.train(x.transpose(0, 2, 1), np.arange(20) % 2, epochs=1, verbose=False)


def test_a_run_and_a_file_are_not_taken_for_one_another(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is for fnn\.load_run"):
        fnn.load(tmp_path)
    fnn.save(nn.Linear(2, 2), tmp_path / "m.fnn")
    with pytest.raises(DataError, match=r"a file, which is for fnn\.load"):
        fnn.load_run(tmp_path / "m.fnn")


def test_classes_of_very_different_sizes_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.where(np.arange(40) < 3, "rare", "usual")
    hint = 'classes: from 3 samples (rare) to 37 (usual); class_weight="balanced" lets each count the same\n'
    recipes.train(x, y, epochs=1)
    assert hint in capsys.readouterr().out
    recipes.train(x, y, epochs=1, class_weight="balanced")
    assert hint not in capsys.readouterr().out


def test_a_target_far_from_all_others_is_named(recwarn: pytest.WarningsRecorder) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), rng.standard_t(2, size=(200, 2))
    recipes.train(x, y, epochs=1, verbose=False)
    recipes.train(x, np.exp(2 * rng.normal(size=200)), epochs=1, verbose=False)
    assert not recwarn.list  # heavy tails, but all of one kind
    y[7, 1] = -1e7
    with pytest.warns(
        UserWarning, match=r"the target -1e\+07 in row 7 is far from all others, half of which lie between"
    ):
        recipes.train(x, y, epochs=1, verbose=False)


def test_a_misspelt_model_brings_another_to_mind() -> None:
    with pytest.raises(ArgumentError, match="got 'tabula': did you mean 'tabular'"):
        recipes.train(np.ones((4, 2)), [0, 1, 0, 1], model="tabula", verbose=False)
