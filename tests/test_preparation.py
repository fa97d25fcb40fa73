"""A picture is prepared alike by training, evaluate, predict, `fastnn predict` and the demo."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn.cli import main
from fastnn.data.prepare import Preparation
from fastnn.insight.demo import DemoServer

Image = pytest.importorskip("PIL.Image")
CLASSES = ("disc", "frame", "plus")
EACH = 60


def shape(kind: str, generator: Any, height: int, width: int) -> np.ndarray:
    """A light shape, anywhere and of any size, on a dark and noisy ground: (H, W) uint8."""
    radius = generator.uniform(0.15, 0.35) * height
    y0, x0 = generator.uniform(radius, height - radius), generator.uniform(radius, width - radius)
    y, x = np.abs(np.arange(height)[:, None] - y0), np.abs(np.arange(width) - x0)
    far = np.maximum(y, x)
    drawn = {
        "disc": y**2 + x**2 < radius**2,
        "frame": (far < radius) & (far > 0.6 * radius),
        "plus": (np.minimum(y, x) < 0.25 * radius) & (far < radius),
    }[kind]
    return np.uint8(generator.integers(0, 90, (height, width)) + 150 * drawn)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ and test/, 60 pictures of each of three classes in each, of several sizes."""
    generator, root = np.random.default_rng(0), tmp_path_factory.mktemp("shapes")
    for part in ("train", "test"):
        for kind in CLASSES:
            (root / part / kind).mkdir(parents=True)
            for n in range(EACH):
                height, width = ((24, 24), (30, 36), (16, 16))[n % 3]
                Image.fromarray(shape(kind, generator, height, width)).save(root / part / kind / f"{n:02}.png")
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    command = ["train", str(folder), "--model", "fast", "--size", "16", "--epochs", "20", "--out", str(run)]
    assert main(command) == 0
    return run


def test_180_files_get_the_same_classes_on_every_way(
    folder: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = fnn.load_run(run)
    files = sorted((folder / "test").glob("*/*.png"))
    truth = np.array([file.parent.name for file in files])
    assert len(files) == 3 * EACH

    assert main(["eval", str(run), "--json", str(tmp_path / "eval.json")]) == 0
    accuracy = json.loads((tmp_path / "eval.json").read_text())["test_accuracy"]
    assert 0.5 < accuracy < 1  # so that differences would be seen

    test = fnn.data.load(folder, split="test", size=(16, 16))
    assert fnn.evaluate(loaded.model, test).accuracy == accuracy
    assert fnn.evaluate(loaded.model, folder).accuracy == accuracy
    assert main(["eval", str(run), str(folder), "--json", str(tmp_path / "eval.json")]) == 0
    assert json.loads((tmp_path / "eval.json").read_text())["test_accuracy"] == accuracy
    found = {"predict": loaded.predict([str(file) for file in files])}
    fnn.save(loaded.model, tmp_path / "m.fnn")
    found["predict of a saved model"] = fnn.load(tmp_path / "m.fnn").predict(files)
    found["predict of arrays"] = loaded.model.predict(test.images)
    found["predict of Pillow's"] = fnn.predict(loaded.model, [Image.open(file) for file in files])
    found["one by one"] = np.array([loaded.predict(file) for file in files])

    assert main(["predict", str(run), *map(str, files), "--json", str(tmp_path / "p.json")]) == 0
    assert "[resized from 30×36]" in capsys.readouterr().out
    said = json.loads((tmp_path / "p.json").read_text())
    found["fastnn predict"] = np.array([said[str(file)]["class"] for file in files])

    prepared = Preparation.of_run(loaded.config)
    with DemoServer(loaded.model, title="", prepared=prepared, classes=CLASSES, crop=False) as server:
        answers = [server.answer(file) for file in files]
    found["demo"] = np.array([CLASSES[int(np.argmax(answer["probabilities"]))] for answer in answers])

    assert {way: float((classes == truth).mean()) for way, classes in found.items()} == dict.fromkeys(found, accuracy)


def test_cropping_is_asked_for(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small shape in a corner, on white: as it is, or cut out, inverted and centred."""
    file = folder / "corner.png"
    paper = np.full((64, 64), 255, np.uint8)
    paper[4:12, 4:12] = 0
    Image.fromarray(paper).save(file)
    prepared = Preparation.of_run(fnn.load_run(run).config)
    assert prepared(file)[0, 0, -1] == 255
    cropped, changes = prepared.described(file, crop=True)
    assert changes == "scaled from 64×64, inverted"
    assert cropped[0, 7:9, 7:9].min() == 255
    assert cropped[0, -1, -1] == 0
    assert main(["predict", str(run), str(file), "--crop"]) == 0
    assert "[scaled from 64×64, inverted]" in capsys.readouterr().out


@pytest.mark.parametrize("light", [True, False])
def test_a_drawing_is_dark_on_light_where_the_training_images_are(run: Path, light: bool) -> None:
    """The page begins with such a ground, and what is drawn is not inverted."""
    drawing = np.zeros((160, 160), np.uint8)
    drawing[80:, :] = 255
    prepared = Preparation((1, 16, 16), light_on_dark=light)
    model = fnn.load_run(run).model
    with DemoServer(model, title="", prepared=prepared, classes=CLASSES, crop=False) as server:
        assert server.describe()["light_on_dark"] is light
        seen = base64.b64decode(server.answer(drawing)["image"])
    assert (seen[0], seen[-1]) == (0, 255)


def test_the_settings_are_kept_with_the_run_and_the_model(run: Path, folder: Path, tmp_path: Path) -> None:
    loaded = fnn.load_run(run)
    about = fnn.train.about(loaded.model)
    assert about is not None
    assert (about.classes, about.samples, about.data) == (CLASSES, 3 * EACH, str(folder))
    assert about.picture is not None
    assert about.picture.shape == (1, 16, 16)
    assert about.picture.light_on_dark
    fnn.save(loaded.model, tmp_path / "m.fnn")
    assert fnn.train.about(fnn.load(tmp_path / "m.fnn")) == about
    model, config, history = loaded  # as a tuple, too
    assert (model, config["dataset"], len(history)) == (loaded.model, str(folder), 20)
    assert repr(loaded).startswith("Run(fast trained on ")
    assert loaded.predict(folder / "test" / "disc" / "00.png") in CLASSES
    assert loaded.predict_proba(folder / "test" / "disc" / "00.png").shape == (3,)
