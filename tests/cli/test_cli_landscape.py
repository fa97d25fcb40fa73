"""`fastnn landscape` and `fastnn compare-optimizers`: what they write, and the numbers in it."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import landscape
from fastnn.cli import main
from fastnn.insight import viewer

LINEAR = ("train", "--model", "linear", "--epochs", "1", "--batch-size", "100")
SMALL = ("--points", "5", "--images", "200")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two runs with paths, one without, one of another model."""
    folder = tmp_path_factory.mktemp("runs")
    path = {"a": ("--record-path",), "b": ("--record-path", "--seed", "1"), "plain": ("--val", "0.2")}
    for name, options in path.items():
        assert main([*LINEAR, "--out", str(folder / name), *options]) == 0
    assert main([*LINEAR, "--out", str(folder / "other"), "--model", "mlp"]) == 0
    return {name: str(folder / name) for name in (*path, "other")}


def numbers(html: str) -> Any:
    """What the page's script is given."""
    (text,) = re.findall(r'<script id="numbers" type="application/json">(.*?)</script>', html, re.DOTALL)
    return json.loads(text)


def test_a_run_with_a_path(runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {name: str(tmp_path / f"out.{name}") for name in ("html", "png", "json")}
    outputs = [word for name, file in files.items() for word in (f"--{name}", file)]
    assert main(["landscape", runs["a"], *SMALL, *outputs, "--save", str(tmp_path / "l.npz")]) == 0
    assert "Loss of linear on digits: 5×5 points" in capsys.readouterr().out
    result = json.loads(Path(files["json"]).read_text())
    model, _, history = fnn.load_run(runs["a"])
    part = landscape.sample(fnn.data.load("digits", split="train"), 200)
    assert result["centre"] == fnn.evaluate(model, part).loss
    assert result["axes"][0]["label"].startswith("t · PC 1 (")
    assert len(result["paths"]["a"]["times"]) == len(history.path) == 6
    kept = landscape.load(tmp_path / "l.npz")
    np.testing.assert_allclose(result["losses"], kept.losses, rtol=1e-6)
    assert Path(files["png"]).read_bytes().startswith(b"\x89PNG")
    page = numbers(Path(files["html"]).read_text())
    assert page["losses"] == result["losses"]
    assert page["grid"] == [axis["values"] for axis in result["axes"]]


def test_several_runs_on_one_surface(runs: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "l.npz"
    assert main(["landscape", runs["a"], runs["b"], *SMALL, "--save", str(path)]) == 0
    result = landscape.load(path)
    assert [way.name for way in result.paths] == ["a", "b"]
    assert result.explained is not None
    for way in result.paths:
        assert np.isfinite(result.heights(way.coordinates)).all()
    # Without paths it is the plane through the weights: the second run lies at t = 1.
    assert main(["landscape", runs["plain"], runs["b"], *SMALL, "--directions", "filter", "--save", str(path)]) == 0
    Path(runs["b"], "path").rename(tmp_path / "path")
    assert main(["landscape", runs["plain"], runs["b"], *SMALL, "--save", str(path)]) == 0
    (tmp_path / "path").rename(Path(runs["b"], "path"))
    here, there = landscape.load(path).paths
    np.testing.assert_allclose([here.coordinates[0], there.coordinates[0]], [[0, 0], [1, 0]], atol=1e-6)


def test_runs_on_other_data_are_refused_and_other_normalisation_is_told(
    runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(runs["b"], changed)
    kept = json.loads((changed / "config.json").read_text())
    for key, value in (("dataset", "mnist"), ("image_shape", [1, 14, 56]), ("classes", list("abcdefghij"))):
        (changed / "config.json").write_text(json.dumps({**kept, key: value}))
        assert main(["landscape", runs["a"], str(changed), *SMALL]) == 2
        message = capsys.readouterr().err
        assert "runs on one data set" in message
        assert str(changed) in message
    (changed / "config.json").write_text(json.dumps({**kept, "std": [0.5]}))
    assert main(["landscape", runs["a"], str(changed), *SMALL]) == 2
    assert "add --html FILE" in capsys.readouterr().err
    assert main(["landscape", runs["a"], str(changed), *SMALL, "--png", str(tmp_path / "l.pdf")]) == 0
    assert (tmp_path / "l.pdf").read_bytes().startswith(b"%PDF")
    out = capsys.readouterr().out
    assert f"note: {changed} normalises by" in out
    assert "std [0.5]" in out
    assert main(["landscape", runs["a"], runs["b"], *SMALL, "--save", str(tmp_path / "l.npz")]) == 0
    out = capsys.readouterr().out
    assert "note:" not in out


def test_a_run_whose_images_have_changed_is_refused(
    runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(runs["plain"], changed)
    config = json.loads((changed / "config.json").read_text())
    (changed / "config.json").write_text(json.dumps({**config, "image_shape": [1, 14, 56]}))
    for command in (["landscape", "--png", str(tmp_path / "l.png")], ["diagnose"], ["eval"]):
        assert main([*command, str(changed)]) == 3
        assert "expected images (1, 14, 56) of 10 classes, as the run has them" in capsys.readouterr().err


def test_a_run_without_a_path_is_seen_along_random_directions(runs: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "l.npz"
    assert main(["landscape", runs["plain"], *SMALL, "--save", str(path), "--extent", "0.5"]) == 0
    result = landscape.load(path)
    assert (result.paths, result.axes[0].name) == ((), "filter-normalised direction")
    assert result.axes[0].values[[0, -1]].tolist() == [-0.5, 0.5]
    assert main(["landscape", runs["plain"], "--line", "--points", "3", "--part", "test", "--save", str(path)]) == 0
    line = landscape.load(path)
    assert line.losses.shape == (3,)
    model = fnn.load_run(runs["plain"])[0]
    assert line.centre == line.losses[1] == fnn.evaluate(model, "digits").loss


def test_optimisers_on_a_surface_and_on_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = tmp_path / "c.html"
    command = ("compare-optimizers", "--surface", "rosenbrock", "--steps", "40")
    assert main([*command, "--html", str(html), "--png", str(tmp_path / "c.png")]) == 0
    page = numbers(html.read_text())
    assert [path["name"] for path in page["paths"]] == [path.name for path in fnn.compare_optimizers("ravine").paths]
    assert page["time"] == "step"
    path = tmp_path / "n.npz"
    command = ("compare-optimizers", "--model", "linear", "--epochs", "1", *SMALL, "--save", str(path))
    assert main(command) == 0
    assert len(landscape.load(path).paths) == 7
    assert "Optimisers of linear on digits" in capsys.readouterr().out


def test_what_makes_no_sense_is_refused_before_the_work(
    runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(code: int, words: str, *command: str) -> None:
        assert main(command) == code
        assert words in capsys.readouterr().err

    refused(3, "--html: there is no such folder", "landscape", runs["a"], "--html", str(tmp_path / "no" / "l.html"))
    refused(3, "the folder of a run", "landscape", str(tmp_path))
    refused(1, "expected a path with", "landscape", runs["a"], runs["other"], *SMALL, "--png", str(tmp_path / "l.png"))
    refused(2, "nowhere to draw: add --html FILE", "compare-optimizers")
    refused(
        2, "--png: expected a file name that ends in .png", "landscape", runs["a"], "--png", str(tmp_path / "l.gif")
    )
    refused(2, "different runs", "landscape", runs["a"], runs["a"])
    refused(2, "different runs", "landscape", runs["a"], runs["a"] + "/")
    refused(2, "RecordPath", "landscape", runs["plain"], "--directions", "pca", "--png", str(tmp_path / "l.png"))
    refused(2, "--epochs: expected with --model", "compare-optimizers", "--epochs", "3")
    refused(2, "--steps: expected with a surface", "compare-optimizers", "--model", "linear", "--steps", "3")
    for module, option in (("plotly.offline", "--html"), ("matplotlib.figure", "--png")):
        monkeypatch.setitem(sys.modules, module, None)
        refused(1, 'pip install "fastnn-cpu[plot]"', "landscape", runs["a"], option, str(tmp_path / "out"))


# ---- what is drawn --------------------------------------------------------------------------------------------------


def small(**changes: Any) -> landscape.Landscape:
    """A tilted plane z = 1 + t + 10 s, and a path across it."""
    t, s = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0])
    way = landscape.Trajectory(
        "run <1>",
        np.arange(3.0),
        np.array([[0, 0], [1, 0.5], [3, 1.0]]),
        np.array([5.0, 4.0, 3.0]),
        np.array([1.0, 2, 0]),
    )
    words: dict[str, Any] = {"paths": (way,), "title": "</script><b>&", "centre": 1.0, **changes}
    axes = landscape.Axis("t", t, "PC 1", 0.75), landscape.Axis("s", s, "PC 2", 0.125)
    return landscape.Landscape(1 + t + 10 * s[:, None], axes, **words)


def test_the_page_holds_grid_and_path_and_escapes_names() -> None:
    html = viewer.page(small())
    page = numbers(html)
    assert page["losses"] == [[1, 2, 3], [11, 12, 13]]
    assert page["labels"] == ["t · PC 1 (75.0 % of variance)", "s · PC 2 (12.5 % of variance)"]
    (path,) = page["paths"]
    assert path["name"] == "run <1>"
    assert path["points"]["height"] == [1, 7, None]  # the last one lies outside
    assert path["points"]["log_height"][0] == 0
    assert path["points"]["distances"] == [1, 2, 0]
    assert path["line"]["times"][::12] == [0, 1, 2]
    half = path["line"]["times"].index(0.5)
    assert [path["line"]["places"][i][half] for i in (0, 1)] == [0.5, 0.25]
    assert path["line"]["height"][half] == 1 + 0.5 + 2.5
    assert "<h1>&lt;/script&gt;&lt;b&gt;&amp;</h1>" in html
    assert html.count("</script>") == 3
    packed = html.partition('<script id="plotly" type="text/plain">')[2].partition("</script>")[0]
    assert gzip.decompress(b64decode(packed)).count(b"plotly.js v") == 1
    assert len(html) < 3_000_000  # a notebook holds it for each landscape


def test_the_page_forbids_itself_every_request() -> None:
    head = viewer.page(small()).partition("<style>")[0]
    assert "default-src 'none'" in head
    assert "http" not in head.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("losses", "floor", "log"),
    [
        ([[1.0, 2], [3, 4]], 1.0, False),
        ([[0.0, 0.01], [3, np.inf]], 0.01, True),
        ([[-1.0, 0], [3, 4]], None, False),
        ([[np.nan, np.nan], [np.nan, np.inf]], None, False),
    ],
)
def test_the_log_scale_is_offered_where_it_can_be(losses: list[list[float]], floor: float | None, log: bool) -> None:
    axes = tuple(landscape.Axis(symbol, np.array([0.0, 1.0])) for symbol in "ts")
    result = landscape.Landscape(np.array(losses), axes)
    page = numbers(viewer.page(result))
    assert (page["floor"], page["log"]) == (floor, log)
    landscape.picture(result)


def test_the_picture_shows_surface_contours_and_path(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    solid, flat, scale, losses = landscape.picture(small(title="one"), tmp_path / "p.png", log=False).axes
    assert losses.lines[0].get_ydata().tolist() == [5, 4, 3]
    (line, *_) = [line for line in flat.lines if line.get_label() == "run <1>"]
    np.testing.assert_array_equal(np.stack(line.get_data(), axis=1), [[0, 0], [1, 0.5], [3, 1]])
    assert (flat.get_xlabel(), flat.get_ylabel(), scale.get_ylabel()) == (
        "t · PC 1 (75.0 % of variance)",
        "s · PC 2 (12.5 % of variance)",
        "loss",
    )
    (heights,) = [line.get_data_3d()[2] for line in solid.lines]
    np.testing.assert_allclose(heights[[0, 12]], [1, 7])
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    axes = (landscape.Axis("t", np.array([-1.0, 0, 1])),)
    (curve,) = landscape.picture(landscape.Landscape(np.array([3.0, 1, 2]), axes)).axes
    assert curve.lines[0].get_ydata().tolist() == [3, 1, 2]


@pytest.mark.parametrize("log", [False, True])
def test_a_path_lies_on_the_curve_of_a_line(log: bool) -> None:
    """Its own losses, off the line, would be a spike upwards at nearly one t."""
    pytest.importorskip("matplotlib")
    places = np.array([[-1.0], [0.5], [2.0]])
    way = landscape.Trajectory("run", np.arange(3.0), places, np.array([50.0, 20, 1]), np.ones(3))
    axes = (landscape.Axis("t", np.array([-1.0, 0, 1])),)
    curve, losses = landscape.picture(landscape.Landscape(np.array([3.0, 1, 4]), axes, paths=(way,)), log=log).axes
    assert losses.lines[0].get_ydata().tolist() == [50, 20, 1]
    middle = 2.0 if log else 2.5  # half the way from 1 to 4
    np.testing.assert_allclose(curve.lines[1].get_ydata(), [3, middle, np.nan])


def test_view_writes_the_page_and_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    path = landscape.view(small())
    try:
        assert path.read_text() == viewer.page(small())
        assert opened == [path.as_uri()]
    finally:
        path.unlink()
    assert landscape.view(small(), tmp_path / "v.html", show=False) == tmp_path / "v.html"
    assert len(opened) == 1
