"""Weights in and out: any array comes back, equal states give equal files, no interruption or damage goes unnoticed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import fastnn as fnn
from fastnn import weights
from fastnn.errors import ArgumentError, DataError, DTypeError

ARRAYS = {
    "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "every second": np.arange(10, dtype=np.float64)[::2],
    "backwards": np.arange(4, dtype=np.int32)[::-1],
    "big-endian": np.arange(3, dtype=">f4"),
    "broadcast": np.broadcast_to(np.float32(7), (2, 2)),
    "scalar": np.array(5, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "bytes": np.arange(256, dtype=np.uint8),
    "truths": np.array([True, False]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_any_strides_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    array = ARRAYS[name]
    weights.save({name: array}, tmp_path / "w.safetensors")
    (found,) = weights.load(tmp_path / "w.safetensors").values()
    np.testing.assert_array_equal(found, array)
    assert found.shape == array.shape
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.flags.writeable


def test_a_model_comes_back_bit_for_bit(tmp_path: Path) -> None:
    def model() -> fnn.nn.Sequential:
        return fnn.nn.Sequential(fnn.nn.Conv2d(1, 2, 3), fnn.nn.BatchNorm2d(2), fnn.nn.Flatten(), fnn.nn.Linear(8, 3))

    one, other = model(), model()
    one[1].running_mean[...] = [1, 2]
    weights.save(one, tmp_path / "w.safetensors")
    other.load_state_dict(weights.load(tmp_path / "w.safetensors"))
    for name, array in one.state_dict().items():
        assert array.tobytes() == other.state_dict()[name].tobytes(), name


def test_equal_states_give_equal_files_with_at_most_one_metadata_key(tmp_path: Path) -> None:
    for name in "ab":
        weights.save(dict(ARRAYS), tmp_path / name, note="made for a test")
    content = (tmp_path / "a").read_bytes()
    assert content == (tmp_path / "b").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert header["__metadata__"] == {"fastnn": "made for a test"}
    assert weights.load_with_note(tmp_path / "a")[1] == "made for a test"
    weights.save(dict(ARRAYS), tmp_path / "c")
    assert weights.load_with_note(tmp_path / "c")[1] is None


def test_the_safetensors_library_reads_our_files(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    weights.save({"transposed": ARRAYS["transposed"]}, tmp_path / "w.safetensors")
    np.testing.assert_array_equal(load_file(tmp_path / "w.safetensors")["transposed"], ARRAYS["transposed"])


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_an_interrupted_save_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "w.safetensors"
    weights.save({"a": np.zeros(3)}, path)
    before = path.read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, interrupt)
    with pytest.raises(KeyboardInterrupt):
        weights.save({"a": np.ones(3)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    weights.save({"a": np.ones(3)}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    np.testing.assert_array_equal(weights.load(tmp_path / "file")["a"], np.ones(3))


def test_a_new_file_has_the_permissions_that_open_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    weights.write_atomically(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_damaged_files_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights.save({"a": np.arange(3.0)}, path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:20], whole[:-1], whole + b"x", b"\xff" * 64, b"PK\x03\x04" + whole):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"whole safetensors file.*w\.safetensors"):
            weights.load(path)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not there"):
        weights.load(tmp_path / "none")
    with pytest.raises(DataError, match="is a folder"):
        weights.load(tmp_path)


def test_what_cannot_be_saved_is_said(tmp_path: Path) -> None:
    with pytest.raises(DTypeError, match="complex128"):
        weights.save({"a": np.zeros(2, complex)}, tmp_path / "w")
    with pytest.raises(ArgumentError, match="got list"):
        weights.save([np.zeros(2)], tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_folder_that_is_not_there_is_named_as_the_user_named_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^cannot write none/w\.safetensors: there is no folder ") as caught:
        weights.save(ARRAYS, "none/w.safetensors")
    assert ".tmp" not in str(caught.value)
