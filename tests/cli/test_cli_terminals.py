"""Commands and trainings without a terminal, on terminals of few characters, and with names that would command one."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import console, nn
from fastnn.cli import main
from fastnn.cli.runs import confusion_table
from fastnn.tables import aligned

Image = pytest.importorskip("PIL.Image", reason="needs Pillow")
# Bytes that are no UTF-8, a terminal's command, line ends, a change of direction, Matplotlib's formulas, letters.
NAMES = [
    b"caf\xe9",
    b"a\x1b[2Jb",
    b"new\nline",
    b"tab\there",
    "\u202egp".encode(),
    b"$x^ $a_b$",
    "猫".encode(),
    b"<b>&",
]
SHOWN = [r"caf\xe9", r"a\x1b[2Jb", r"new\nline", r"tab\there", r"\u202egp", "$x^ $a_b$", "猫", "<b>&"]


class Bare:
    """What programs put in the place of a stream, with the least that print needs."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


class Gone(io.StringIO):
    """A terminal that has hung up."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def isatty(self) -> bool:
        return True


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


def of_encoding(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")


STREAMS: dict[str, Callable[[], Any]] = {
    "none": lambda: None, "bare": Bare, "gone": Gone, "closed": closed, "an object": object,
    "ascii": lambda: of_encoding("ascii"), "latin-1": lambda: of_encoding("latin-1"),
    "cp437": lambda: of_encoding("cp437"), "utf-16": lambda: of_encoding("utf-16"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, its own name and its classes as odd as file systems allow."""
    folder = os.fsencode(tmp_path_factory.mktemp("pictures")) + b"/dots\xff\x1b[1m"
    rng = np.random.default_rng(0)
    for i, name in enumerate(NAMES):
        try:
            os.makedirs(folder + b"/" + name)
        except OSError:
            pytest.skip("this file system has no such names")
        for n in range(5):
            pixels = np.clip(rng.normal(30 * i, 10, (12, 12)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(os.fsdecode(folder + b"/" + name + b"/%d.png" % n))
    return Path(os.fsdecode(folder))


@pytest.fixture(scope="module")
def run(pictures: Path) -> Path:
    folder = pictures.parent / os.fsdecode(b"run\xfe\n")
    arguments = ["train", str(pictures), "--model", "linear", "--epochs", "4", "--lr", "0.001", "--out", str(folder)]
    assert main(arguments) == 0
    return folder


def commands(pictures: Path, run: Path, out: Path) -> list[list[str]]:
    image = str(pictures / os.fsdecode(NAMES[0]) / "0.png")
    return [
        ["train", str(pictures), "--model", "linear", "--epochs", "1", "--json", str(out / "train.json")],
        ["eval", str(run), "--json", str(out / "eval.json")],
        ["predict", str(run), image, "--top", "8", "--json", str(out / "predict.json")],
        ["summary", str(run), "--json", str(out / "summary.json")],
        ["export", str(run), str(out / "model.c"), "--json", str(out / "export.json")],
        ["info"],
        ["data", "list"],
    ]


@pytest.mark.parametrize("kind", STREAMS)
def test_everything_runs_on_every_stream(
    kind: str, pictures: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, errors = STREAMS[kind](), STREAMS[kind]()
    monkeypatch.setattr(sys, "stdout", output)  # here, since pytest has streams of its own until the test begins
    monkeypatch.setattr(sys, "stderr", errors)
    for arguments in commands(pictures, run, tmp_path):
        assert main(arguments) == 0, arguments
    assert main(["eval", str(tmp_path / os.fsdecode(b"\xff\n\x1b[2J"))]) == 3
    for arguments, code in ((["train", "--help"], 0), (["train", "--b\x1b[2Jg\udcff"], 2)):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == code
    fnn.show_config()
    x, y = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32), np.arange(64) % 2
    model = nn.Linear(4, 2)
    fnn.fit(model, (x, y), val=0.25, epochs=2, batch_size=16)
    step = fnn.compile(model, nn.CrossEntropyLoss())
    step.run_epoch(x, y, None, 16, progress=True)
    fnn.landscape.line(model, (x, y), points=3, progress=True)
    fnn.compare_optimizers(model, (x, y), epochs=1, points=3, progress=True)
    for stream in (output, errors):
        if isinstance(stream, io.TextIOWrapper):
            assert isinstance(stream.buffer, io.BytesIO)
            text = stream.buffer.getvalue().decode(stream.encoding)
            assert "fastnn" in text
            assert all(character.isprintable() or character == "\n" for character in text)


def test_names_are_shown_escaped_and_kept_as_they_are(
    pictures: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in commands(pictures, run, tmp_path):
        assert main(arguments) == 0
    said = "".join(capsys.readouterr())
    assert all(c.isprintable() or c == "\n" for c in said)
    assert r"data     dots\xff\x1b[1m: " in said
    for name in SHOWN:
        assert f"{name} (" in said, "of predict"
        assert any(line.split(" ", 1)[-1].startswith(name) for line in said.splitlines()), "of the table of eval"
    probabilities = next(iter(json.loads((tmp_path / "predict.json").read_bytes()).values()))["probabilities"]
    classes = [os.fsdecode(name) for name in sorted(NAMES, key=os.fsdecode)]
    assert list(probabilities) == classes
    assert fnn.load_run(run)[1]["classes"] == classes
    assert all(c.isprintable() for c in repr(fnn.data.load(pictures)))


def test_errors_are_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["eval", str(tmp_path / "no\nsuch\x1b[2J")],
        ["predict", str(run), str(tmp_path / "no\nsuch.png")],
        ["train", str(tmp_path / "no\nsuch")],
    ):
        assert main(arguments) == 3
        assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_pictures_and_pages_survive_the_names(
    pictures: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("plotly")
    out = os.fsdecode(os.fsencode(tmp_path) + b"/o\xff")
    assert main(["diagnose", str(run), "--out", out]) == 0
    assert main(["landscape", str(run), "--points", "3", "--html", f"{out}.html", "--png", f"{out}.png"]) == 0
    page = Path(f"{out}.html").read_bytes().decode()
    assert r"Loss of linear on dots\xff\x1b[1m" in page
    assert sorted(os.listdir(out)) == ["confusion.png", "learning_curves.png", "mistakes.png"]
    assert all(c.isprintable() or c == "\n" for c in "".join(capsys.readouterr()))


@pytest.mark.parametrize("redirect", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_a_process_without_streams_trains(redirect: str, tmp_path: Path) -> None:
    if not Path("/bin/sh").exists():
        pytest.skip("needs a shell")
    arguments = "train digits --model linear --epochs 1 --json done.json"
    command = f'"{sys.executable}" -m fastnn {arguments} {redirect}'
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env=environment, capture_output=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, b"")
    assert json.loads((tmp_path / "done.json").read_text())["epochs"] == 1


@pytest.mark.parametrize("command", ["info", "train --help"])
def test_a_reader_who_has_had_enough_ends_a_command_quietly(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = [sys.executable, "-m", "fastnn", *command.split()]
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_full_disk_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "fastnn", "info"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (3, "fastnn: no space left on device\n")


@pytest.mark.parametrize("columns", ["1", "7", "30"])
def test_help_fits_any_width(columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for command in ("train", "predict", "landscape", "demo"):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
    assert "--threads" in capsys.readouterr().out


@pytest.mark.parametrize("code", [0, 0x1B, 0x0D, 0x7F, 0x9B, 0x2028, 0x200F, 0x2066, 0xDC80, 0xD834])
def test_whatever_is_no_letter_is_escaped(code: int) -> None:
    text = console.shown(f"a{chr(code)}b")
    assert text.isprintable()
    assert text.isascii()
    assert text.startswith("a\\")
    assert text.endswith("b")


def test_a_warning_of_a_command_is_one_plain_line(pictures: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = pictures / os.fsdecode(NAMES[0]) / os.fsdecode(b"notes\xff\x1b")
    odd.write_text("x")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fastnn", "train", str(pictures), "--model", "linear", "--epochs", "1"],
            capture_output=True,
            text=True,
        )
    finally:
        odd.unlink()
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("fastnn: ")
    assert line.endswith(r"not everything is used: files that are no images by their names (1: notes\xff\x1b)")


def test_only_the_console_prints() -> None:
    """Whatever else wrote to a stream would fail on some of them."""
    package = Path(fnn.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        if path.name == "console.py":
            continue
        with tokenize.open(path) as source:
            names = [token.string for token in tokenize.generate_tokens(source.readline) if token.type == tokenize.NAME]
        found += [(path.name, name) for name in names if name in ("print", "isatty", "tqdm")]
    assert found == []


def test_tables_line_up_where_characters_are_wide() -> None:
    """By the columns that a terminal gives each character, as wcwidth counts them: 猫 two, a joined accent none."""
    confusion = np.array([[3, 0, 1], [0, 12, 0], [1, 0, 5]])
    assert confusion_table(confusion, ("猫", "cafe\u0301", "dog")).split("\n") == [
        "         0   1   2",
        "0 猫     3       1",
        "1 cafe\u0301      12",
        "2 dog    1       5",
    ]
    assert aligned([("class", "n"), ("方形", "1")], left=1) == "class  n\n方形   1"
