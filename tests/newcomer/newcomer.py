"""What a newcomer does, with the README and `--help` alone: pictures in folders, two tables, signals.

    python tests/newcomer/newcomer.py            all four, in a folder that is removed afterwards

Each part asserts its results. tests/newcomer/test_newcomer.py runs them one by one, and newcomer.ipynb in Jupyter.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import fastnn as fnn
from fastnn import nn

PICTURES = 60  # of each shape


def draw_shapes(folder: Path, count: int = PICTURES, size: int = 32) -> None:
    """Discs, squares and triangles, each of one colour, on light backgrounds: a folder for each."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(0)
    for kind in ("disc", "square", "triangle"):
        (folder / kind).mkdir(parents=True)
        for i in range(count):
            light, dark = (tuple(map(int, rng.integers(*bounds, 3))) for bounds in ((200, 256), (0, 160)))
            image = Image.new("RGB", (size, size), light)
            r = rng.uniform(0.15, 0.35) * size
            x, y = rng.uniform(r, size - r, 2)
            pen = ImageDraw.Draw(image)
            if kind == "disc":
                pen.ellipse((x - r, y - r, x + r, y + r), fill=dark)
            elif kind == "square":
                pen.rectangle((x - r, y - r, x + r, y + r), fill=dark)
            else:
                pen.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=dark)
            image.save(folder / kind / f"{i:02}.png")


def fastnn(*arguments: object) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "fastnn", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pictures(room: Path) -> None:
    """From a folder to a trained, measured and saved model, by the command and then in Python."""
    shapes, run = room / "shapes", room / "run"
    draw_shapes(shapes)
    said = fastnn("train", shapes, "--out", run)
    assert "test accuracy" in said, said
    assert f"kept in {run}" in said, said

    measured = fastnn("eval", run, "--png", room / "confusion.png")
    assert float(measured.split("accuracy")[1].split("%")[0]) >= 95, measured
    assert (room / "confusion.png").stat().st_size > 10_000
    files = sorted((shapes / "square").glob("*.png"))[:10]
    assert fastnn("predict", run, *files).count("square") >= 9

    model = fnn.load_run(run).model
    found = [model.predict(str(file)) for file in files]
    assert found.count("square") >= 9
    fnn.save(model, room / "shapes.fnn")
    assert [fnn.load(room / "shapes.fnn").predict(str(file)) for file in files] == found


def regression(room: Path) -> None:
    """A data frame and numbers to predict: a recipe, and a network of one's own."""
    from sklearn.datasets import load_diabetes
    from sklearn.model_selection import train_test_split

    X, Xt, y, yt = train_test_split(*load_diabetes(return_X_y=True, as_frame=True), random_state=0)
    run = fnn.recipes.train(X, y, verbose=False)
    assert fnn.metrics.r2(yt, run.predict(Xt)) > 0.3  # least squares: 0.36

    fnn.manual_seed(0)
    model = nn.Sequential(nn.Normalize.of(X), nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 1))
    history = fnn.fit(model, X, y, val=0.2, loss="mse", metrics=["mae"], epochs=50, batch_size=16, verbose=False)
    assert history[-1].val_loss < history[0].val_loss / 2
    assert model.predict(Xt).shape == (len(yt),)


def classification(room: Path) -> None:
    """A data frame and names of classes."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    data = load_breast_cancer(as_frame=True)
    names = data.target_names[data.target]
    X, Xt, y, yt = train_test_split(data.data, names, random_state=0)
    run = fnn.recipes.train(X, y, verbose=False)
    assert set(run.predict(Xt)) == {"benign", "malignant"}
    assert np.mean(run.predict(Xt) == yt) > 0.93
    assert fnn.evaluate(run.model, Xt, yt).accuracy > 0.93


def series(room: Path) -> None:
    """Signals of three forms, noisy and shifted: one-dimensional convolutions."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    phase = rng.uniform(0, 1, (300, 1)) + np.linspace(0, 4, 100) * rng.uniform(0.8, 1.2, (300, 1))
    forms = [np.sin(2 * np.pi * phase), np.sign(np.sin(2 * np.pi * phase)), 2 * (phase % 1) - 1]
    signals = np.choose(labels[:, None], forms) + 0.3 * rng.standard_normal((300, 100))
    signals = signals[:, None].astype(np.float32)  # (N, C, L)
    run = fnn.recipes.train(signals[:240], labels[:240], epochs=10, verbose=False)
    assert run.config["model"] == "cnn1d"
    assert np.mean(run.predict(signals[240:]) == labels[240:]) >= 0.95


PARTS = {part.__name__: part for part in (pictures, regression, classification, series)}


if __name__ == "__main__":
    for name, part in PARTS.items():
        with tempfile.TemporaryDirectory() as room:
            part(Path(room))
        print(f"{name}: as expected")
