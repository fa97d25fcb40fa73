"""Pictures say what they show: colours that can be told apart, true losses, whole titles, axes and units."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import landscape
from fastnn.insight import plots, viewer
from fastnn.insight.curves import confusion_matrix, learning_curves, worst_mistakes
from fastnn.insight.residuals import Residuals
from fastnn.train import EpochRecord, History

pytest.importorskip("matplotlib")

# How the colour-blind see linear sRGB: Machado, Oliveira and Fernandes 2009, severity 1, and everybody else.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def lab(colour: str, sight: str) -> np.ndarray:
    """CIELAB, D65, of a colour as it is seen."""
    share = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    scaled = to_xyz @ seen / [0.9505, 1, 1.089]
    root = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("sight", list(SIGHT))
def test_paths_are_told_apart_from_one_another_and_from_the_surface(sight: str) -> None:
    paths = [lab(colour, sight) for colour in plots.PATHS]
    for one, other in itertools.combinations(paths, 2):
        assert np.linalg.norm(one - other) > 12
    for path, (_, surface) in itertools.product(paths, plots.SURFACE):
        assert np.linalg.norm(path - lab(surface, sight)) > 15


def check_looks(figure: Any) -> None:
    """All that is drawn lies within the figure, to a pixel, and its smallest letters are 6.5 pixels large where it is
    480 wide, half of a page's column."""
    from matplotlib.text import Text

    figure.draw_without_rendering()
    drawn, whole = figure.get_tightbbox().extents, figure.bbox_inches.extents
    assert (drawn[:2] > -0.01).all()
    assert (drawn[2:] < whole[2:] + 0.01).all()
    sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    assert min(sizes) / 72 * 480 / figure.get_figwidth() >= 6.5


def test_optimisers_have_their_rates_their_losses_and_a_moment_at_which_all_are_seen() -> None:
    result = fnn.compare_optimizers("ravine")
    figure = landscape.picture(result)
    _, contours, _, losses = figure.axes
    legend = [text.get_text() for text in losses.get_legend().get_texts()]
    assert legend[0] == "SGD, lr 0.0195: 0.36"
    along, across = 81 / 2 * (1 - 0.0195) ** 240, 100 * 2.5**2 / 2 * (1 - 1.95) ** 240
    assert along + across == pytest.approx(0.36, abs=0.005)
    assert len(legend) == 7
    assert losses.get_yscale() == "log"
    assert (losses.get_xlabel(), figure._suptitle.get_text()) == (
        "step",
        "Optimisers on a quadratic ravine: the first 14 of 120 steps",
    )
    ways = {line.get_label(): line for line in contours.lines if not line.get_label().startswith("_")}
    ends = [np.array(line.get_data())[:, -1] for line in ways.values()]
    for one, other in itertools.combinations(ends, 2):
        assert np.hypot(*(one - other) / [15, 6.4]) > 0.05  # of the window's sides
    assert len(ways["SGD"].get_xdata()) == 15
    assert len(losses.lines[0].get_xdata()) == 121
    check_looks(figure)


def test_a_plane_that_holds_part_of_the_variance_says_so(tmp_path: Path) -> None:
    t = np.linspace(0, 1, 3)
    axes = landscape.Axis("t", t, "PC 1", 0.5), landscape.Axis("s", t, "PC 2", 0.25)
    ways = [
        landscape.Trajectory(name, t, np.stack([t, t], 1), np.array(losses), np.array([3.0, 1, 0]), lr=lr)
        for name, losses, lr in (
            ("SGD", [9.0, 3, 0.25], 0.1),
            ("lr 0.2", [9.0, 3, 0.5], 0.2),
            ("kept", [9.0, 1, 1], None),
        )
    ]
    result = landscape.Landscape(1 + np.zeros((3, 3)), axes, paths=tuple(ways), contours=True, moment=0.5)
    result.save(tmp_path / "one.npz")
    again = landscape.load(tmp_path / "one.npz")
    assert ([path.lr for path in again.paths], again.contours, again.moment) == ([0.1, 0.2, None], True, 0.5)
    figure = landscape.picture(again)
    legend = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert legend == ["SGD, lr 0.1: 0.25", "lr 0.2: 0.5", "kept: 1"]
    assert "holds 75.0 % of the paths’ variance" in figure._supxlabel.get_text().replace("\n", " ")
    assert "holds 75.0 % of the paths’ variance" in viewer.page(again).partition("<style>")[2]
    check_looks(figure)


@pytest.mark.parametrize(
    ("count", "name"),
    [(2, "cat"), (3, "a name that is much longer than its cell, $5"), (10, "7")],
)
def test_a_confusion_matrix_is_never_cut(count: int, name: str) -> None:
    matrix = np.full((count, count), 3) + 2000 * np.eye(count, dtype=int)
    figure = confusion_matrix(matrix, [name] * count)
    check_looks(figure)
    assert figure._suptitle.get_window_extent().x1 < figure.bbox.x1


def history(**columns: list[float]) -> History:
    count = len(columns["train_loss"])
    kept = {name: columns.get(name, [None] * count) for name in ("train_accuracy", "val_loss", "val_accuracy")}
    rows = zip(columns["train_loss"], *kept.values(), strict=True)
    return History(EpochRecord(i + 1, *row, 0.1, 1.0, 100.0) for i, row in enumerate(rows))


def test_curves_have_percent_decades_and_no_empty_panel() -> None:
    figure = learning_curves(history(train_loss=[2.0, 0.1, 0.01], train_accuracy=[0.5, 0.96, 0.975]))
    loss, accuracy = figure.axes
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")
    figure.draw_without_rendering()
    words = [label.get_text() for label in accuracy.get_yticklabels()]
    assert "60 %" in words
    (loss,) = learning_curves(history(train_loss=[2.0, 1.5], val_loss=[2.0, 1.9])).axes
    assert loss.get_yscale() == "linear"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == [
        "training",
        "validation",
        "lowest validation loss",
    ]
    plain = history(train_loss=[2, 1], val_loss=[2, 1])
    records = [dataclasses.replace(record, metrics={"mae": 3.0 - i, "r2": i}) for i, record in enumerate(plain)]
    _, mae, r2 = learning_curves(History(records)).axes
    assert [(axes.get_title(loc="left"), axes.lines[0].get_ydata().tolist()) for axes in (mae, r2)] == [
        ("mae", [3, 2]),
        ("r2", [0, 1]),
    ]
    (loss,) = fnn.diagnose(history(train_loss=[20.0, 2.5, 2.4])).plot().axes  # a twentieth of the first is small
    assert loss.collections[0].get_segments()[0].tolist() == [[1, 1], [3, 1]]


def test_mistakes_name_their_files(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for place, value in (("dark/a.png", 0), ("dark/sub/b.png", 250), ("light/c.png", 200), ("light/d.png", 40)):
        for part in ("train", "test"):
            path = tmp_path / part / place
            path.parent.mkdir(parents=True, exist_ok=True)
            image.fromarray(np.full((4, 4), value, np.uint8)).save(path)
    test = fnn.data.load(str(tmp_path), split="test")
    assert test.files == ("test/dark/a.png", "test/dark/sub/b.png", "test/light/c.png", "test/light/d.png")
    assert test.subset(np.array([3, 0])).files == ("test/light/d.png", "test/dark/a.png")
    linear = fnn.nn.Linear(16, 2)
    linear.weight.data[...] = [[0] * 16, [1] * 16]
    linear.bias.data[...] = [8.0, 0.0]  # light from a mean of 0.5 on
    mistakes = worst_mistakes(fnn.nn.Sequential(fnn.nn.Flatten(), linear), test)
    assert sorted(mistakes.files) == ["test/dark/sub/b.png", "test/light/d.png"]
    assert repr(mistakes).splitlines()[0].startswith("image 1, test/dark/sub/b.png: dark taken for light (")
    figure = mistakes.plot()
    assert figure.axes[0].get_title().splitlines()[1:] == ["image 1", "test/dark/sub/b.png"]
    check_looks(figure)
    with pytest.raises(fnn.errors.ShapeError, match="one file for each of 1 images, got 2"):
        fnn.data.Dataset(np.zeros((1, 1, 2, 2), np.uint8), [0], files=("a", "b"))


def test_a_regression_is_drawn_as_values() -> None:
    x = np.array([[0.0], [1], [2], [3]], np.float32)
    line = fnn.nn.Linear(1, 1)
    line.weight.data[...], line.bias.data[...] = 2, 1
    found = fnn.insight.residuals(line, (x, np.array([1.0, 3, 5, 9], np.float32)))
    assert found.predictions.tolist() == [[1], [3], [5], [7]]
    assert repr(found) == "Residuals(4 samples: RMSE 1, MAE 0.5, R² 0.886)"  # 1 - 4 / 35
    figure = found.plot()
    against, rest = figure.axes
    assert against.collections[0].get_offsets().tolist() == [[1, 1], [3, 3], [5, 5], [9, 7]]
    assert rest.collections[0].get_offsets().tolist() == [[1, 0], [3, 0], [5, 0], [7, -2]]
    assert (against.get_xlabel(), against.get_ylabel()) == ("true value", "predicted value")
    assert (rest.get_xlabel(), rest.get_ylabel()) == ("predicted value", "predicted − true")
    assert "RMSE 1" in figure._suptitle.get_text()
    check_looks(figure)
    both = fnn.nn.Linear(1, 2)
    assert len(fnn.insight.residuals(both, (x, np.ones((4, 2), np.float32))).plot().axes) == 4
    for wrong in ((x, [0, 1, 0, 1]), (x, np.ones((4, 3), np.float32))):
        with pytest.raises(fnn.errors.ArgumentError, match="residuals: expected"):
            fnn.insight.residuals(line, wrong)


def network() -> fnn.nn.Sequential:
    fnn.manual_seed(0)
    return fnn.nn.Sequential(
        fnn.nn.Conv2d(1, 12, 3), fnn.nn.ReLU(), fnn.nn.MaxPool2d(2), fnn.nn.Flatten(), fnn.nn.Linear(108, 3)
    )


def test_maps_of_a_layer_are_on_one_scale_which_is_said(rng: np.random.Generator) -> None:
    maps = fnn.insight.feature_maps(network(), rng.random((1, 8, 8), dtype=np.float32))
    figure = maps.plot()
    rows = np.array(figure.axes).reshape(4, 10)
    assert rows[1, 0].get_ylabel().splitlines()[:2] == ["0 conv2d", "12×6×6, first 10"]
    for row, values in zip(rows, maps.maps, strict=True):
        low, high = row[0].get_ylabel().splitlines()[2].split(" … ")
        assert (float(low), float(high)) == (
            pytest.approx(values.min(), rel=0.06),
            pytest.approx(values.max(), rel=0.06),
        )
        for axes in row:
            assert not axes.get_visible() or axes.images[0].get_clim() == (values.min(), values.max())
    check_looks(figure)


def test_pictures_are_legible_at_half_width(rng: np.random.Generator) -> None:
    model, images = network(), rng.random((6, 1, 8, 8), dtype=np.float32)
    report = fnn.signal_report(model, images, [0, 1, 2, 0, 1, 2])
    curves = history(train_loss=[2.0, 1.0], train_accuracy=[0.5, 0.9], val_loss=[2.0, 1.5], val_accuracy=[0.4, 0.5])
    figures = [
        report.plot(), fnn.insight.filters(model).plot(), learning_curves(curves), fnn.diagnose(curves).plot(),
    ]  # fmt: skip
    for figure in figures:
        check_looks(figure)
    share = figures[0].axes[1]
    assert [label.get_text() for label in share.get_xticklabels()][-1] == "100 %"
    assert figures[1].axes[-1].get_ylabel() == "weight"


def test_long_names_of_classes_can_be_told_apart() -> None:
    names = [f"a rather long name of class {i}" for i in range(3)]
    (axes, *_) = confusion_matrix(np.eye(3, dtype=int), names).axes
    assert [text.get_text() for text in axes.get_yticklabels()][:3] == [f"a rather l…f class {i}" for i in range(3)]


def test_residuals_of_values_over_decades_have_logarithmic_axes() -> None:
    values = np.geomspace(1e-3, 1e3, 20)[:, None]
    for predictions, scale in ((1.1 * values, "log"), (values - 1, "linear")):
        against, rest = Residuals(values, predictions).plot().axes
        assert (against.get_xscale(), against.get_yscale(), rest.get_xscale()) == (scale,) * 3


def test_residuals_of_several_outputs_are_told_one_by_one() -> None:
    targets = np.array([[1.0, 1e6], [2.0, 2e6], [3.0, 3e6]])
    found = Residuals(targets, targets + np.array([[0.5, 0], [-0.5, 0], [0.5, 0]]))
    assert repr(found).split("\n") == [
        "Residuals(3 samples, 2 outputs)",
        "  output 0: RMSE 0.5, MAE 0.5, R² 0.625",  # 1 - 0.75 / 2
        "  output 1: RMSE 0, MAE 0, R² 1",
    ]
    assert [axes.get_title("left") for axes in found.plot().axes[1::2]] == [
        "output 0: residuals, R² 0.625",
        "output 1: residuals, R² 1",
    ]
    assert "<img " in found._repr_html_()
    many = Residuals(np.eye(30), np.eye(30))
    assert repr(many).endswith("  output 19: RMSE 0, MAE 0, R² 1\n  ... 10 more")


def test_a_notebook_shows_the_worst_mistakes_as_pictures() -> None:
    images = np.zeros((2, 1, 4, 4), np.uint8)
    model = fnn.nn.Sequential(fnn.nn.Flatten(), fnn.nn.Linear(16, 2))
    model[1].bias.data[...] = [1, 0]
    mistakes = worst_mistakes(model, fnn.data.Dataset(images, [0, 1], ("cat", "dog")))
    assert repr(mistakes) == "image 1: dog taken for cat (73.1 %)"  # e / (1 + e)
    assert "<img " in mistakes._repr_html_()
    none = worst_mistakes(model, fnn.data.Dataset(images, [0, 0], ("cat", "dog")))
    assert repr(none) == "no mistakes"


def test_an_evaluation_brings_the_names_of_its_classes() -> None:
    x = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    model = fnn.nn.Linear(2, 2)
    result = fnn.evaluate(model, x, np.where(x[:, 0] > 0, "yes", "no"))
    own, given = confusion_matrix(result), confusion_matrix(result.confusion, ("no", "yes"))
    assert [t.get_text() for t in own.axes[0].get_yticklabels()] == [
        t.get_text() for t in given.axes[0].get_yticklabels()
    ]
    values = fnn.evaluate(fnn.nn.Linear(2, 1), x, x[:, 0])
    with pytest.raises(fnn.errors.ArgumentError, match="expected an evaluation of classes, got Evaluation"):
        confusion_matrix(values)


def test_residuals_take_samples_and_targets_one_after_the_other() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    model = fnn.nn.Linear(2, 1)
    pairs = fnn.insight.residuals(model, (x, x[:, 0])), fnn.insight.residuals(model, x, x[:, 0])
    np.testing.assert_array_equal(pairs[0].predictions, pairs[1].predictions)
    np.testing.assert_array_equal(pairs[1].targets[:, 0], [0, 2, 4])


@pytest.mark.parametrize("loss", ["bce_with_logits", "bce"])
def test_the_worst_mistakes_of_a_table_and_of_one_output_for_two_classes(loss: str) -> None:
    """By hand: logits -1, 0.5, 2, -3 for no, yes, no, yes: rows 2 and 3 are wrong, by σ(2) = 0.881 and σ(3) = 0.953."""
    x = np.array([[-1.0], [0.5], [2.0], [-3.0]])
    model = fnn.nn.Sequential(fnn.nn.Linear(1, 1), *[fnn.nn.Sigmoid()] * (loss == "bce"))
    fnn.fit(
        model, x, np.array(["no", "yes", "no", "yes"]), loss=fnn.nn.BCELoss() if loss == "bce" else None, verbose=False
    )
    model[0].weight.data[...], model[0].bias.data[...] = 1, 0
    found = worst_mistakes(model, (x, np.array(["no", "yes", "no", "yes"])))
    assert repr(found).split("\n") == ["row 3: yes taken for no (95.3 %)", "row 2: no taken for yes (88.1 %)"]
    assert found._repr_html_() == f"<pre>{found!r}</pre>"
    with pytest.raises(
        fnn.errors.ArgumentError, match=r"plot: expected mistakes on images \(n, C, H, W\), got samples"
    ):
        found.plot()
