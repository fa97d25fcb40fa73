"""Pictures that are named one by one: CSV files and other lists, and paths with labels in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import data, nn
from fastnn.cli import main
from fastnn.errors import ArgumentError, DataError, LabelError, ShapeError

pd = pytest.importorskip("pandas")
Image = pytest.importorskip("PIL.Image", reason="needs Pillow")

CLASSES = {"dark": range(10), "light": range(200, 210)}
FILES = {f"{name} ones/{value}.png": name for name, values in CLASSES.items() for value in values}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten images of each class, of one gray each."""
    for file in FILES:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4), int(Path(file).stem), np.uint8)).save(tmp_path / file)
    return tmp_path


def seen(dataset: data.Dataset) -> dict[int, str]:
    """Classes by the images' gray."""
    return {
        int(image.max()): dataset.classes[label] for image, label in zip(dataset.images, dataset.labels, strict=True)
    }


WHOLE = {int(Path(file).stem): name for file, name in FILES.items()}
LISTS = {
    "labels.csv": "path,label\n" + "".join(f"{file},{name}\n" for file, name in FILES.items()),
    "without.CSV": "".join(f"{file},{name}\n" for file, name in FILES.items()),
    "mark.csv": "\ufeffID;Image;Class\r\n" + "".join(f"7;{file};{name}\r\n" for file, name in FILES.items()),
    "turned.csv": "who,what\n" + "".join(f'{name}, "{file}"\n\n' for file, name in FILES.items()),
    "tabs.tsv": "label\tfilename\n" + "".join(f"{name}\t./{file}\n" for file, name in FILES.items()),
    "windows.csv": "".join(f'"{file}",{name}\n' for file, name in FILES.items()).replace("/", "\\"),
    "blanks.txt": "".join(f"{file} {name}\n" for file, name in FILES.items()),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_every_manner(folder: Path, name: str) -> None:
    (folder / name).write_bytes(LISTS[name].encode())
    assert seen(data.load(folder / name, split="all")) == WHOLE
    parts = [data.load(str(folder / name), split=split) for split in ("train", "test")]
    assert [np.bincount(part.labels).tolist() for part in parts] == [[8, 8], [2, 2]]
    assert {**seen(parts[0]), **seen(parts[1])} == WHOLE
    assert parts[0].name == name


def test_a_column_names_the_parts(folder: Path) -> None:
    rows = [f"{file},{name},{('train', 'Val', 'TEST')[n % 3]}" for n, (file, name) in enumerate(FILES.items())]
    (folder / "x.csv").write_text("\n".join(["file,label,split", *rows]))
    for first, split in enumerate(("train", "val", "test")):
        assert seen(data.load(folder / "x.csv", split=split)) == dict(list(WHOLE.items())[first::3])


def test_numbers_as_labels(folder: Path) -> None:
    (folder / "whole.csv").write_text("".join(f"{file},{9 + i // 10}\n" for i, file in enumerate(FILES)))
    whole = data.load(folder / "whole.csv", split="all")
    assert (whole.classes, np.bincount(whole.labels).tolist()) == (("9", "10"), [10, 10])
    (folder / "real.csv").write_text("".join(f"{file},{value / 2}\n" for file, value in zip(FILES, WHOLE, strict=True)))
    real = data.load(folder / "real.csv", split="all")
    assert real.classes == ()
    np.testing.assert_array_equal(real.labels * 2, real.images.max(axis=(1, 2, 3)))
    test = data.load(folder / "real.csv", split="test").labels
    assert test.min() < 50 < test.max()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"", "expected rows of an image's file and its label, found none"),
        ("x.csv", b"path,label\n", "expected rows of an image's file and its label, found none"),
        ("x.csv", b"path,label\na.png,\n", "line 2: expected an image's file and its label, found 'a.png, '"),
        ("x.csv", b"a.png,cat\na.png\n", "line 2: expected an image's file"),
        ("x.csv", b"path,label\na.png,1\nb.png,1\n", r"2 of 2 files are not there, the first is a\.png of line 2"),
        ("x.csv", b"a,b,c\n1,2,3\n", "expected a column with images' files and one with labels, .* found a, b, c"),
        ("x.csv", b"path,label,split\nx.csv,1,holdout\n", "line 2: expected train, val or test, found 'holdout'"),
        ("x.csv", b"path,label,split\nx.csv,1,test\n", "expected rows of the part train, found only test"),
        ("x.csv", b"path,label\n\xff\xfe.png,1", "a list of files and labels .* in UTF-8"),
        ("x.zip", b"PK", r"or a list of files and labels \(\.csv, \.tsv, \.txt, \.lst\), got the file "),
    ],
)
def test_what_is_no_list_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path / name)


def test_what_a_list_names_is_not_left_out(folder: Path) -> None:
    (folder / "labels.csv").write_text(LISTS["labels.csv"])
    (folder / "dark ones" / "3.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"3\.png: expected an image, found"):
        data.load(folder / "labels.csv", split="all")
    with pytest.raises(DataError, match=r"3\.png: expected an image, found"):
        data.load(([folder / "dark ones" / "3.png"], [0]))


def test_paths_and_labels(folder: Path) -> None:
    paths, names = [folder / file for file in FILES], list(FILES.values())
    frame = pd.DataFrame({"path": list(map(str, paths)), "label": names}, index=range(5, 25))
    kinds: list[tuple[Any, Any]] = [(paths, names), (tuple(map(str, paths)), tuple(names)), (paths, np.array(names))]
    kinds += [(frame["path"], frame["label"])]
    for pair in kinds:
        for split in ("train", "test"):
            assert seen(data.load(pair, split=split)) == WHOLE
    numbered = data.load((np.array(list(map(str, paths))), [1] * 20), size=(2, 3), gray=False)
    assert (numbered.images.shape, numbered.labels.tolist(), numbered.classes) == ((20, 3, 2, 3), [1] * 20, ("0", "1"))
    named = data.load((paths, names), classes=["light", "none", "dark"])
    assert named.labels.tolist() == [2] * 10 + [0] * 10
    with pytest.raises(DataError, match="expected only pictures of the classes light, found dark"):
        data.load((paths, names), classes=["light"])
    with pytest.raises(ShapeError, match="expected one label for each of 20 files, got 3 labels"):
        data.load((paths, names[:3]))
    with pytest.raises(LabelError, match="expected labels 0 to 0"):
        data.load((paths, [1] * 20), classes=["light"])
    with pytest.raises(ArgumentError, match="classes are for image files"):
        data.load("digits", classes=["light"])


def model() -> nn.Module:
    """Light images are of class 1."""
    linear = nn.Linear(16, 2)
    linear.weight.data[:], linear.bias.data[:] = [[-1.0] * 16, [1.0] * 16], [16 * 0.4, -16 * 0.4]
    return nn.Sequential(nn.Flatten(), linear)


def test_fit_evaluate_and_predict_take_files(folder: Path) -> None:
    """What is measured: the test part of what a model was trained on, and all of another folder or list."""
    paths, names = [folder / file for file in FILES], list(FILES.values())
    (folder / "labels.csv").write_text(LISTS["labels.csv"])
    net = model()
    history = fnn.fit(net, (tuple(paths), names), val=(paths[5:15], names[5:15]), optimizer="sgd", verbose=False)
    assert history[-1].val_accuracy == 1
    assert fnn.predict(net, [paths[0], paths[-1]]).tolist() == ["dark", "light"]
    assert fnn.evaluate(net, folder / "labels.csv").count == 20
    assert fnn.evaluate(net, (paths[:3], names[:3])).accuracy == 1  # of one class alone
    for n in range(3):  # of another size, and one class less, with the number that the other had
        (folder / "more" / "light").mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 180, np.uint8)).save(folder / "more" / "light" / f"{n}.png")
    result = fnn.evaluate(net, folder / "more")
    assert (result.count, result.accuracy) == (3, 1)
    fnn.fit(net, folder / "labels.csv", val=folder / "more", verbose=False)
    assert fnn.evaluate(net, folder / "labels.csv").count == 4


def test_the_command_trains_on_a_list_and_watches_val(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "labels.csv").write_text(LISTS["labels.csv"])
    options = ["--model", "linear", "--epochs", "1", "--no-augment"]
    assert main(["train", str(folder / "labels.csv"), *options, "--out", str(folder / "run")]) == 0
    assert "labels.csv: 16 training images 1×4×4, 4 test images" in capsys.readouterr().out
    assert main(["eval", str(folder / "run")]) == 0
    assert main(["predict", str(folder / "run"), str(folder / "dark ones")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert any("4 test images" in line for line in printed)
    assert [line.split(": ")[0] for line in printed[-10:]] == [str(folder / f"dark ones/{n}.png") for n in range(10)]
    for part, chosen in (("train", slice(6)), ("val", slice(6, 8)), ("test", slice(8, 9))):
        for name, values in CLASSES.items():
            (folder / "parts" / part / name).mkdir(parents=True)
            for value in list(values)[chosen]:
                (folder / f"{name} ones" / f"{value}.png").rename(folder / "parts" / part / name / f"{value}.png")
    assert main(["train", str(folder / "parts"), *options, "--early-stopping", "1"]) == 0
    assert "parts: 12 training images 1×4×4, 4 to watch by, 2 test images" in capsys.readouterr().out
    assert main(["train", str(folder / "parts"), *options, "--val", "0.5"]) == 0
    assert "parts: 6 training images 1×4×4, 6 to watch by, 2 test images" in capsys.readouterr().out
    assert main(["eval", str(folder / "run"), str(folder / "parts" / "train")]) == 0
