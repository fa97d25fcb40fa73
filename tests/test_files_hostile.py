"""Files that are not what they seem: one typed error each, at once and within bounds, whoever wrote them."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn as fnn
from fastnn import formats, weights
from fastnn.cli import main
from fastnn.data import read_idx
from fastnn.data.local import read_archive
from fastnn.data.prepare import Preparation
from fastnn.data.sources import SOURCES
from fastnn.errors import ArgumentError, DataError
from fastnn.train import Checkpoint, History, ParameterPath

READERS: dict[str, Callable[[Path], Any]] = {
    "weights.safetensors": weights.load,
    "note.safetensors": weights.load_note,
    "model.fnn": lambda path: load_model(path),
    "images-idx3-ubyte": read_idx,
    "images-idx3-ubyte.gz": read_idx,
    "landscape.npz": fnn.landscape.load,
    "image.npy": lambda path: Preparation((1, 28, 28))(path),
    "history.jsonl": History.load,
    "history.csv": History.load,
    "archive.tar.gz": lambda path: read_archive(path, SOURCES["cifar10"].files),
}


def load_model(path: Path) -> None:
    try:
        fnn.load(path)
    except ArgumentError as error:
        assert "which is not fastnn's" in str(error)  # noqa: PT017  # a changed name may be a class of the user's


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "run"
    command = ["train", "--model", "linear", "--epochs", "1", "--no-augment", "--record-path", "--out", str(folder)]
    assert main(command) == 0
    return folder


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def places(tmp_path: Path, name: str) -> Iterator[Path]:
    """Paths of that name, or to what is no file at all."""
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / name)
    yield tmp_path / "pipe" / name
    (tmp_path / "folder" / name).mkdir(parents=True)
    yield tmp_path / "folder" / name
    for kind, target in (("zero", "/dev/zero"), ("loop", name), ("nothing", "nowhere"), ("tty", "/dev/tty")):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).symlink_to(target)
        yield tmp_path / kind / name
    yield tmp_path / "null\0byte" / name


@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    for path in places(tmp_path, name):
        with pytest.raises(DataError):
            READERS[name](path)


def test_sockets_and_what_may_not_be_read_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets have to be short
    for name, read in READERS.items():
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
            with pytest.raises(DataError, match="socket"):
                read(Path(name))
        os.unlink(name)


@pytest.mark.parametrize("name", ["config.json", "history.jsonl", "weights.safetensors", "checkpoint.safetensors"])
def test_pipes_among_the_files_of_a_run(copied: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (copied / name).unlink()
    os.mkfifo(copied / name)
    np.save(copied / "image.npy", np.zeros((28, 28), np.uint8))
    commands = [["train", "--resume", "--epochs", "2", "--out", str(copied)]]
    if name != "checkpoint.safetensors":
        commands = [["eval", str(copied)], ["predict", str(copied), str(copied / "image.npy")]]
    for command in commands:
        check_exit_3(command, capsys)


def check_exit_3(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(command) == 3, command
    error = capsys.readouterr().err
    assert error.startswith("fastnn: ")
    assert len(error.splitlines()) == 1, error
    return error


def idx(*shape: int, kind: int = 8, ndim: int | None = None) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape) if ndim is None else ndim, *shape)


def test_arrays_of_numpy_s_own_making_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    for array in (
        np.arange(6.0).reshape(2, 3), np.arange(6, dtype=">i4").reshape(2, 3, order="F"), np.array(3), np.zeros((0, 3)),
        np.asfortranarray(np.arange(6).reshape(2, 3)), np.array(["a", "bcd"]), np.array([True, False]),
    ):  # fmt: skip
        np.save(tmp_path / "a.npy", array)
        np.savez(tmp_path / "a.npz", one=array, two=array)
        np.savez_compressed(tmp_path / "b.npz", one=array)
        found = [formats.read_npy(tmp_path / "a.npy"), *formats.read_npz(tmp_path / "a.npz").values()]
        for read in (*found, formats.read_npz(tmp_path / "b.npz")["one"]):
            np.testing.assert_array_equal(read, array)
            assert (read.dtype, read.shape) == (array.dtype, array.shape)
            assert read.flags.writeable


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=st.sampled_from(sorted(READERS)), place=st.floats(0, 1), new=st.binary(max_size=9), cut=st.integers(0, 9))
def test_any_change_of_a_file_gives_its_content_or_a_typed_error(
    run: Path, tmp_path_factory: pytest.TempPathFactory, file: str, place: float, new: bytes, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("changed")
    whole = originals(run, file)
    start = int(place**3 * len(whole))  # more often in the header
    (folder / file).write_bytes(whole[:start] + new + whole[start + cut :])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        with contextlib.suppress(DataError):
            READERS[file](folder / file)


def originals(run: Path, file: str) -> bytes:
    if file.startswith("images"):
        content = idx(2, 3, 3) + bytes(18)
        return gzip.compress(content, mtime=0) if file.endswith(".gz") else content
    if file == "landscape.npz":
        fnn.compare_optimizers("ravine", steps=2).save(run.parent / file)
        return (run.parent / file).read_bytes()
    if file == "image.npy":
        np.save(run.parent / file, np.zeros((28, 28), np.uint8))
        return (run.parent / file).read_bytes()
    if file == "model.fnn":
        fnn.save(fnn.nn.Sequential(fnn.nn.Conv2d(1, 2, 3), fnn.nn.BatchNorm2d(2)), run.parent / file)
        return (run.parent / file).read_bytes()
    if file == "archive.tar.gz":
        return gzip.compress(bytes(1024), mtime=0)
    return (run / file.replace("note", "checkpoint")).read_bytes()


def test_states_on_a_path_that_are_damaged(copied: Path) -> None:
    path = ParameterPath.load(copied)
    first = sorted((copied / "path").iterdir())[0]
    first.write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="whole safetensors file"):
        path[0]


def test_notes_that_were_tampered_with(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = copied / "checkpoint.safetensors"
    arrays, note = weights.load_with_note(checkpoint)

    def changed(*keys: Any, value: Any) -> str:
        state = json.loads(note or "")
        inner = state
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        return json.dumps(state)

    notes = [
        "", "null", "[]", "{", "[" * 100_000, '{"model": 1e999}', "\0",
        changed("model", value=3), changed("model", value={"array": "none"}), changed("model", value={"pairs": [1]}),
        changed("optimizer", value={"pairs": []}), changed("scheduler", value=[]), changed("random", value={}),
        changed("random", "seed", value=-1), changed("random", "philox", "buffer_pos", value=-1_000_000),
        changed("random", "philox", "buffer", value=[1]), changed("random", "streams", value="x"),
        changed("order", "seed", value="x"), changed("order", "epoch", value=-1), changed("order", value=None),
        changed("history", value=3), changed("history", value=[[]]), changed("history", 0, "epoch", value="x"),
        changed("history", 0, "train_loss", value=[1]), changed("callbacks", value=3),
        changed("scheduler", "pairs", 1, 1, value="x"), changed("scheduler", "pairs", 0, 1, value=["x"]),
    ]  # fmt: skip
    for each in notes:
        weights.save(arrays, checkpoint, note=each)
        check_exit_3(["train", "--resume", "--epochs", "2", "--out", str(copied)], capsys)
    weights.save(arrays, checkpoint, note=note)
    assert main(["train", "--resume", "--epochs", "2", "--out", str(copied)]) == 0


def test_options_of_an_optimiser_that_were_tampered_with(tmp_path: Path) -> None:
    data = np.zeros((8, 4), np.float32), np.arange(8) % 2

    def fit(epochs: int) -> None:
        fnn.fit(fnn.nn.Linear(4, 2), data, epochs=epochs, callbacks=[Checkpoint(tmp_path, resume=True)], verbose=False)

    fit(1)
    arrays, note = weights.load_with_note(tmp_path / "checkpoint.safetensors")
    for old, new in (
        ('["lr", 0.001]', '["lr", "fast"]'), ('["lr", 0.001]', '["lr", NaN]'),
        ('["eps", 1e-08]', '["eps", null]'), ('["step", 1]', '["step", -5]'), ('["step", 1]', '["step", "x"]'),
        ('"pairs": [[0,', '"pairs": [[99,'), ('{"array": "optimizer.state.0.exp_avg"}', '"x"'),
    ):  # fmt: skip
        assert old in (note or "")
        weights.save(arrays, tmp_path / "checkpoint.safetensors", note=(note or "").replace(old, new))
        with pytest.raises(DataError, match="not written by this training"):
            fit(2)


def mutations(config: dict[str, Any]) -> Iterator[str]:
    """Texts of a config that was tampered with; whatever stands in one, nothing of it may come to pass."""
    whole = json.dumps(config)
    yield from ("", "null", "3", "[]", "{", whole[:-1], whole + "x", "\0" + whole, "[" * 200_000, '{"a":' * 200_000)
    yield whole.replace('"seed": 0', '"seed": 0, "seed": 1')
    for wrong in ("NaN", "1e999", "-Infinity", "9" * 100_000, "[" * 5000 + "]" * 5000):
        yield whole.replace('"seed": 0', f'"seed": {wrong}')
    for key in (
        "dataset",
        "model",
        "seed",
        "val",
        "recipe",
        "images",
        "image_shape",
        "classes",
        "mean",
        "std",
        "extent",
    ):
        yield json.dumps({name: value for name, value in config.items() if name != key})
        for wrong in ({}, [], [[]], "x" * 5000, "\0", -1, 1e300, True, ["x", None], [1e300], 10**30):
            if not (key == "recipe" and wrong == {}):
                yield json.dumps({**config, key: wrong})
    for shape in ([1, 65536, 65536], [65536, 65536, 65536], [2**40, 1, 1], [1, 28, 28, 28], [1.0, 28, 28], [3, 28, 28]):
        for model in ("linear", "mlp", "cnn", "best"):
            yield json.dumps({**config, "image_shape": shape, "model": model})
    yield json.dumps({**config, "classes": ["x"] * 100_000})
    yield json.dumps({**config, "mean": [0.1, 0.2], "std": [0.1, 0.2]})


def test_configs_that_were_tampered_with(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = copied / "config.json"
    config = json.loads(path.read_text())
    for text in mutations(config):
        path.write_text(text)
        with pytest.raises(DataError):
            fnn.load_run(copied)
    path.write_bytes(b"\xff\xfe{}")
    check_exit_3(["eval", str(copied)], capsys)
    os.truncate(path, 1 << 30)
    check_exit_3(["eval", str(copied)], capsys)
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(config).encode())  # as Windows' editor writes it
    assert main(["eval", str(copied)]) == 0


def test_weights_of_another_size_are_refused_before_they_are_read(copied: Path) -> None:
    size = 1 << 33
    header = json.dumps({"2.weight": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}).encode()
    path = copied / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + 4 * size)  # a file with a hole: more than any memory holds
    with pytest.raises(DataError, match="config and weights of one run"):
        fnn.load_run(copied)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": "x"}, {"epochs": -1}, {"batch_size": 0}, {"lr": -1}, {"lr": [1]}, {"algorithm": "x"}, {"model": "x"},
        {"patience": 0}, {"rise": 2}, {"unknown": 1}, {"momentum": None}, {"l1": "1"},
    ],
)  # fmt: skip
def test_recipes_that_were_tampered_with(
    copied: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "recipe": {**config["recipe"], **changes}}))
    check_exit_3(["train", "--resume", "--out", str(copied)], capsys)


def test_landscapes_whose_parts_do_not_fit(tmp_path: Path) -> None:
    fnn.compare_optimizers("ravine", steps=2).save(tmp_path / "whole.npz")
    arrays = formats.read_npz(tmp_path / "whole.npz")
    words = json.loads(str(arrays["words"][()]))
    for name, array in (
        ("losses", np.zeros(3)), ("axis0", np.zeros((2, 2))), ("path0_times", np.zeros(1)), ("losses", np.array("x")),
        ("path1_coordinates", np.zeros(7)), ("words", np.array(3)), ("words", np.array("{")),
        *(("words", np.array(json.dumps({**words, key: value}))) for key in words for value in ({"a": 1}, [3], "x", 2.5)
          if not (key in ("title", "time") and value == "x")
          and not (key in ("centre", "lowest", "moment") and value == 2.5)
          and not (key == "about" and isinstance(value, dict))),
    ):  # fmt: skip
        np.savez(tmp_path / "changed.npz", **{**arrays, name: array})
        with pytest.raises(DataError, match="expected a landscape that was saved"):
            fnn.landscape.load(tmp_path / "changed.npz")
    assert fnn.landscape.load(tmp_path / "whole.npz").losses.shape == arrays["losses"].shape
