"""`fastnn eval`, `predict`, `summary`, `export`, `data` and `info`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import fastnn as fnn
from fastnn.cli import main
from fastnn.data.prepare import Preparation


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model of the digits, trained for three epochs."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    code = main(["train", "--model", "linear", "--epochs", "3", "--no-augment", "--val", "0.1", "--out", str(folder)])
    assert code == 0
    return folder


def test_eval_measures_what_the_library_measures(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(run), "--json", str(tmp_path / "e.json")]) == 0
    out = capsys.readouterr().out
    expected = fnn.evaluate(fnn.load_run(run)[0], "digits")
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["test_accuracy"] == expected.accuracy
    assert result["confusion"] == expected.confusion.tolist()
    assert f"accuracy {100 * expected.accuracy:.2f} %" in out
    shown = [int(n) for n in out.splitlines()[2].split()]  # the row of class 0, which is always found at least once
    assert shown[0] == 0
    assert sum(shown[1:]) == expected.confusion[0].sum()


def test_eval_draws_the_confusion_matrix(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert main(["eval", str(run), "--png", str(tmp_path / "e.pdf")]) == 0
    assert (tmp_path / "e.pdf").read_bytes().startswith(b"%PDF")
    assert main(["eval", str(run), "--png", str(tmp_path / "e.gif")]) == 2
    assert "--png: expected a file name that ends in .png" in capsys.readouterr().err


def test_eval_refuses_other_images(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("PIL.Image")
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(5):
            image.fromarray(np.full((6, 6), 9, np.uint8)).save(tmp_path / label / f"{i}.png")
    assert main(["eval", str(run), str(tmp_path)]) == 3
    assert "expected only pictures of the classes 0, 1, 2, ..., found a, b" in capsys.readouterr().err


def test_predict_names_the_classes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = fnn.data.load("digits", split="test")
    model = fnn.load_run(run)[0]
    paths = []
    for i in range(3):
        paths.append(str(tmp_path / f"{i}.npy"))
        np.save(paths[-1], test.images[i, 0] if i else test.images[i])
    assert main(["predict", str(run), *paths, "--json", str(tmp_path / "p.json")]) == 0
    out = capsys.readouterr().out.splitlines()
    results = json.loads((tmp_path / "p.json").read_text())
    for i, path in enumerate(paths):
        logits = model(test.images[i : i + 1]).data[0].astype(np.float64)
        probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        best = int(logits.argmax())
        assert out[i].startswith(f"{path}: {best} ({100 * probabilities[best]:.1f} %), ")
        assert results[path]["class"] == str(best)
        np.testing.assert_allclose(list(results[path]["probabilities"].values()), probabilities, atol=1e-6)


def test_predict_takes_dark_drawings_on_light_paper(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A large, off-centre, inverted drawing of a test image is mostly taken for what the test image is taken for.

    Mostly, because the digits are not centred by their mass, and a linear model minds a pixel's shift.
    """
    image = pytest.importorskip("PIL.Image")
    test = fnn.data.load("digits", split="test")
    model = fnn.load_run(run)[0]
    found = model(test.images).data.argmax(axis=1)
    agree = 0
    for i in range(12):
        paper = np.full((300, 400), 240, np.uint8)
        paper[20:132, 250:362] = 240 - np.kron(test.images[i, 0], np.ones((4, 4))) * (200 / 255)
        image.fromarray(paper).convert("RGB").save(tmp_path / f"{i}.jpg", quality=95)
        assert main(["predict", str(run), str(tmp_path / f"{i}.jpg"), "--top", "1", "--crop"]) == 0
        line = capsys.readouterr().out
        assert line.rstrip().endswith("[scaled from 300×400, inverted]")
        agree += int(re.search(r": (\d) \(", line)[1]) == found[i]
    assert agree >= 7  # by chance: one or two
    assert main(["predict", str(run), str(tmp_path / "0.jpg")]) == 0
    assert capsys.readouterr().out.rstrip().endswith("[resized from 300×400; --crop cuts out a drawing]")


def test_predict_refuses_what_is_no_image(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.png").write_text("no image")
    np.save(tmp_path / "many.npy", np.zeros((4, 1, 28, 28), np.uint8))
    np.save(tmp_path / "large.npy", np.full((28, 28), 300.0))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    for name in ("none.png", "none.npy", "text.png", "many.npy", "large.npy", "objects.npy"):
        assert main(["predict", str(run), str(tmp_path / name)]) == 3, name
        error = capsys.readouterr().err
        assert name in error
        assert "expected" in error


def test_images_are_centred_by_their_mass(tmp_path: Path) -> None:
    drawing = np.zeros((50, 80), np.uint8)
    drawing[5:25, 10:20] = 255  # 20 high, 10 wide
    np.save(tmp_path / "d.npy", drawing)
    image, changes = Preparation((1, 28, 28), fill=20 / 28).described(tmp_path / "d.npy", crop=True)
    expected = np.zeros((1, 28, 28), np.uint8)
    expected[0, 4:24, 9:19] = 255
    np.testing.assert_array_equal(image, expected)
    assert changes == "scaled from 50×80"
    image, changes = Preparation((1, 50, 80), fill=0.5).described(tmp_path / "d.npy", crop=True)
    np.testing.assert_array_equal(image[0], drawing)
    assert changes == ""
    np.save(tmp_path / "blank.npy", np.full((9, 9), 200, np.uint8))
    image, changes = Preparation((1, 28, 28), fill=0.5).described(tmp_path / "blank.npy", crop=True)
    assert not image.any()
    assert changes == "nothing is drawn on it"


def test_summary_counts_as_by_hand(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.json"
    assert main(["summary", "--model", "cnn", "--data", "mnist", "--json", str(path)]) == 0
    result = json.loads(path.read_text())
    macs = 26 * 26 * 32 * 9 + 24 * 24 * 64 * 32 * 9 + 9216 * 128 + 128 * 10
    parameters = 32 * 10 + 64 * (32 * 9 + 1) + 128 * 9217 + 10 * 129
    assert (result["macs"], result["parameters"]) == (macs, parameters)
    assert result["layers"][5]["output"] == [64, 12, 12]
    out = capsys.readouterr().out
    assert f"{parameters:,}" in out
    assert len({len(line) for line in out.splitlines()[1:]}) == 1
    assert main(["summary", "--data", "cifar10", "--model", "lenet5"]) == 0
    assert "3×32×32" in capsys.readouterr().out
    assert main(["summary", str(run), "--json", str(path)]) == 0
    assert json.loads(path.read_text())["parameters"] == 7850


def test_export_says_what_the_file_takes(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, report = tmp_path / "model.c", tmp_path / "report.json"
    assert main(["export", str(run), str(path), "--name", "digit", "--int8", "--json", str(report)]) == 0
    result = json.loads(report.read_text())
    weights = 784 * 10 + 4 * (10 + 10)  # of eight bits, with a scale and a bias for each class
    assert result["constants"] == weights
    assert "void digit(const float *x, float *y)" in path.read_text()
    assert f"accuracy {100 * result['int8']['after']:.2f} %" in capsys.readouterr().out
    assert abs(result["int8"]["after"] - fnn.evaluate(fnn.load_run(run).model, "digits").accuracy) < 0.01
    assert main(["export", str(run), str(tmp_path / "model.onnx"), "--int8"]) == 2
    assert main(["export", str(run), str(tmp_path / "model.pt")]) == 2


def test_export_as_onnx(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, report = tmp_path / "model.onnx", tmp_path / "report.json"
    assert main(["export", str(run), str(path), "--uint8", "--json", str(report)]) == 0
    assert "input (N, 1, 28, 28) -> output (N, 10)" in capsys.readouterr().out
    assert json.loads(report.read_text())["parameters"] >= 7850
    data = fnn.data.load("digits", split="test")
    logits = onnxruntime.InferenceSession(path).run(None, {"input": data.images})[0]
    accuracy = float((logits.argmax(1) == data.labels).mean())
    assert accuracy == pytest.approx(fnn.evaluate(fnn.load_run(run).model, data).accuracy, abs=1e-3)


def test_summary_of_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(tmp_path)]) == 3
    assert "folder of a run" in capsys.readouterr().err


def test_data_list_fetch_and_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FASTNN_DATA_DIR", raising=False)
    assert main(["data", "list"]) == 0
    assert {"digits", "mnist", "fashion-mnist", "cifar10"} <= set(capsys.readouterr().out.split())
    assert main(["data", "fetch", "digits"]) == 0
    assert main(["data", "verify", "digits"]) == 0
    assert "ok" in capsys.readouterr().out
    assert main(["data", "verify", "mnist", "--data-dir", str(tmp_path)]) == 3
    assert main(["data", "verify", "mnist", "--data-dir", str(tmp_path / "none")]) == 3


def test_info_says_what_was_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json", str(tmp_path / "i.json")]) == 0
    result = json.loads((tmp_path / "i.json").read_text())
    described = fnn.backends.describe()
    assert {name: result[name] for name in described} == described
    out = capsys.readouterr().out
    assert f"{described['backend']}: {described['backend_why']}" in out
    assert f"{described['threads']}: {described['threads_why']}" in out
    fnn.show_config()
    assert capsys.readouterr().out == out


def test_predict_passes_over_what_is_damaged_in_a_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = pytest.importorskip("PIL.Image")
    for i in range(3):
        image.fromarray(np.full((28, 28), 9 * i, np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    with pytest.warns(UserWarning, match=r"not everything is used: images that cannot be read \(1: .*1\.png\)"):
        assert main(["predict", str(run), str(tmp_path), "--json", str(tmp_path / "p.json")]) == 0
    assert list(json.loads((tmp_path / "p.json").read_text())) == [str(tmp_path / name) for name in ("0.png", "2.png")]
    assert len(capsys.readouterr().out.splitlines()) == 2
    named = [str(tmp_path / name) for name in ("none.png", "0.png", "1.png", "2.png")]
    assert main(["predict", str(run), *named, "--json", str(tmp_path / "p.json")]) == 3  # named: an error, at the end
    assert list(json.loads((tmp_path / "p.json").read_text())) == [named[1], named[3]]
    said = capsys.readouterr()
    assert [line.partition(": ")[0] for line in said.out.splitlines()] == [named[1], named[3]]
    first, second = said.err.splitlines()
    assert first == f"fastnn: {named[0]}: expected an image, found: No such file or directory"
    assert second.startswith(f"fastnn: {named[2]}: expected an image, found: ")


def test_what_is_left_out_of_a_folder_is_told_once(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    image = pytest.importorskip("PIL.Image")
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(5):
            image.fromarray(np.full((6, 6), 9, np.uint8)).save(tmp_path / label / f"{i}.png")
    (tmp_path / "a" / "notes.txt").touch()
    for split in ("train", "test"):
        fnn.data.load(tmp_path, split=split)
    assert [str(said.message).partition(": ")[2] for said in recwarn] == [
        "not everything is used: files that are no images by their names (1: notes.txt)"
    ]


def test_too_little_memory_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("Unable to allocate 28.7 GiB")

    monkeypatch.setattr("fastnn.cli.train._run", fail)
    assert main(["train"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "fastnn: there is not enough memory: smaller batches or images take less (Unable to allocate 28.7 GiB)"
    ]


def test_a_size_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("abc", "0", "32x", "3x4x5"):
        with pytest.raises(SystemExit):
            main(["train", "--size", text])
        assert "expected H or HxW, as 32 or 32x48, got" in capsys.readouterr().err
