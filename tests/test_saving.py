"""fnn.save and fnn.load: what goes in comes out; hostile files are a DataError."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError, DataError, DTypeError

VALUES: list[Any] = [
    None, True, 3, -(2**70), 0.1, float("inf"), float("-inf"), "text ä", "", [], {}, (), [1, [2, (3,)]],
    {"a": 1, 2: "b", None: [None], True: 0.5, 1.5: ()}, OrderedDict(b=1, a=2), (1, (2.5, None), {"x": [True]}),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_come_back(value: Any, tmp_path: Path) -> None:
    fnn.save(value, tmp_path / "value.pt")
    found = fnn.load(tmp_path / "value.pt", map_location="cpu", weights_only=True)
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int32, np.uint8, np.bool_])
def test_arrays_and_tensors_come_back(dtype: Any, tmp_path: Path) -> None:
    """Of any strides and shapes; those that occur twice are one again."""
    array = np.arange(12).reshape(3, 4).astype(dtype)
    value = {
        "t": fnn.Tensor(array),
        "a": [array.T, array[::2, 1], np.asarray(array[1, 1])],
        "again": array,
        "x/y": array,
    }
    value |= {"x": {"y": array[:0]}}
    fnn.save(value, str(tmp_path / "value"))
    found = fnn.load(str(tmp_path / "value"))
    assert isinstance(found["t"], fnn.Tensor)
    assert not found["t"].requires_grad
    for mine, theirs in zip(
        [found["t"].numpy(), *found["a"], found["again"], found["x/y"], found["x"]["y"]],
        [array, array.T, array[::2, 1], array[1, 1], array, array, array[:0]],
        strict=True,
    ):
        assert mine.dtype == dtype
        np.testing.assert_array_equal(mine, theirs)
    assert found["again"] is found["x/y"]
    assert np.isnan(_through(float("nan"), tmp_path))
    assert _through(np.float64(2.5), tmp_path) == 2.5


def _through(value: Any, folder: Path) -> Any:
    fnn.save(value, folder / "x.pth")
    return fnn.load(folder / "x.pth")


def test_a_run_goes_on_from_its_file(tmp_path: Path) -> None:
    """Model, optimiser, schedule and epoch in one file; the next steps are the same."""

    def make() -> tuple[Any, Any, Any]:
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        opt = optim.Adam(model.parameters(), lr=0.01, amsgrad=True)
        return model, opt, optim.lr_scheduler.StepLR(opt, 2, 0.5)

    def train(model: Any, opt: Any, schedule: Any) -> None:
        x = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
        for _ in range(3):
            opt.zero_grad()
            (model(x) ** 2).sum().backward()
            opt.step()
            schedule.step()

    model, opt, schedule = make()
    train(model, opt, schedule)
    parts = {"model": model.state_dict(), "optimizer": opt.state_dict(), "schedule": schedule.state_dict(), "epoch": 3}
    fnn.save(parts, tmp_path / "run.pt")
    run = fnn.load(tmp_path / "run.pt")
    other, resumed, further = make()
    other.load_state_dict(run["model"])
    resumed.load_state_dict(run["optimizer"])
    further.load_state_dict(run["schedule"])
    train(model, opt, schedule)
    train(other, resumed, further)
    assert run["epoch"] == 3
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, other.state_dict()[name])


def test_a_state_dict_is_an_ordinary_file(tmp_path: Path) -> None:
    """Its names are the model's, for every other reader of safetensors; and other files are read, too."""
    model = nn.Linear(3, 2)
    fnn.save(model.state_dict(), tmp_path / "model.pt")
    assert list(fnn.weights.load(tmp_path / "model.pt")) == ["bias", "weight"]
    fnn.weights.save(model, tmp_path / "other.safetensors", note="mine")
    np.testing.assert_array_equal(fnn.load(tmp_path / "other.safetensors")["weight"], model.weight.data)


def _within() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"o": optim.SGD([nn.Parameter([1.0])])}, ArgumentError, r"got SGD at o: save its \.state_dict\(\)"),
        ({"f": [print]}, ArgumentError, "got builtin_function_or_method at f/0"),
        ({(1, 2): 3}, ArgumentError, r"keys that are text or numbers, got \(1, 2\)"),
        (_within(), ArgumentError, "one within itself"),
        ({"s": {1, 2}}, ArgumentError, "got set at s"),
        (np.array(["a"]), DTypeError, "arrays of numbers"),
        (np.zeros(2, complex), DTypeError, "arrays of numbers, got complex128"),
    ],
    ids=repr,
)
def test_what_cannot_be_saved(value: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    fnn.save(1, tmp_path / "x.pt")
    with pytest.raises(error, match=message):
        fnn.save(value, tmp_path / "x.pt")
    assert fnn.load(tmp_path / "x.pt") == 1  # what was there stays
    with pytest.raises(ArgumentError, match="expected a path or an open file"):
        fnn.save(1, None)  # type: ignore[arg-type]


HOSTILE: list[Any] = [
    {"value": {"array": "b"}}, {"value": {"array": ["a"]}}, {"value": {"tensor": "b"}}, {"value": {"list": 3}}, {},
    {"value": {"dict": [[1]]}}, {"value": {"dict": [[{}, 1]]}}, {"value": {"float": "1"}}, {"value": {"what": []}},
    {"value": {"list": [], "dict": []}}, {"value": {}}, {"value": [1]}, {"value": {"dict": {"a": 1}}},
    {"value": {"dict": [["a", {"array": None}]]}}, {"value": {"tensor": {}}}, {"value": {"float": []}},
]  # fmt: skip


@pytest.mark.parametrize("described", HOSTILE, ids=repr)
def test_hostile_descriptions(described: Any, tmp_path: Path) -> None:
    note = json.dumps({"format": "containers 1", **described})
    fnn.weights.save({"a": np.zeros(3)}, tmp_path / "x.pt", note=note)
    with pytest.raises(DataError, match="whose description is wrong"):
        fnn.load(tmp_path / "x.pt")


@pytest.mark.parametrize("rest", ["", '"value":', '"value": ' + "[" * 100000, '"value": ' + '{"list":' * 5000, "]"])
def test_hostile_notes(rest: str, tmp_path: Path) -> None:
    fnn.weights.save({"a": np.zeros(3)}, tmp_path / "x.pt", note='{"format": "containers 1", ' + rest)
    with pytest.raises(DataError, match="whose description is wrong"):
        fnn.load(tmp_path / "x.pt")


def test_deep_descriptions(tmp_path: Path) -> None:
    value: Any = 1
    for _ in range(100):
        value = {"list": [value]}
    fnn.weights.save({"a": np.zeros(3)}, tmp_path / "x.pt", note=json.dumps({"format": "containers 1", "value": value}))
    with pytest.raises(DataError, match="levels"):
        fnn.load(tmp_path / "x.pt")


@pytest.mark.parametrize("format", ["containers 2", "containers 0", "containers x", "containers 1.5"])
def test_other_formats(format: str, tmp_path: Path) -> None:
    fnn.weights.save(
        {"a": np.zeros(3)}, tmp_path / "x.pt", note=json.dumps({"format": format, "value": {"array": "a"}})
    )
    newer = format == "containers 2"
    with pytest.raises(DataError, match="written by a newer fastnn" if newer else "its format is"):
        fnn.load(tmp_path / "x.pt")


def test_a_layer_that_nothing_has_used_yet_comes_back_in_another_process(tmp_path: Path) -> None:
    """Files of layers are imported when one of their names is used."""
    fnn.save(nn.ChannelShuffle(2), tmp_path / "m.fnn")
    program = "import sys, fastnn; print(type(fastnn.load(sys.argv[1])).__name__)"
    command = [sys.executable, "-c", program, str(tmp_path / "m.fnn")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "ChannelShuffle\n"


def test_layers_with_parametrizations_are_refused(tmp_path: Path) -> None:
    """As PyTorch does: their class is made by the process that parametrizes."""
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(ArgumentError, match=r"without parametrizations, got ParametrizedLinear: save .* \.state_dict"):
        fnn.save(model, tmp_path / "m.fnn")
    nn.utils.parametrize.remove_parametrizations(model[0], "weight")
    fnn.save(model, tmp_path / "m.fnn")
    np.testing.assert_array_equal(fnn.load(tmp_path / "m.fnn")[0].weight.data, model[0].weight.data)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"\x80\x02pickle")
    for path in (tmp_path / "x.pt", tmp_path / "gone.pt", tmp_path):
        with pytest.raises(DataError):
            fnn.load(path)


def test_open_files_are_written_and_read(tmp_path: Path) -> None:
    state = {"w": fnn.ones(2), "epoch": 3}
    with open(tmp_path / "state.pt", "wb") as file:
        fnn.save(state, file)
    assert fnn.load(tmp_path / "state.pt")["epoch"] == 3
    with open(tmp_path / "state.pt", "rb") as file:
        assert fnn.load(file, map_location="cpu", weights_only=True)["w"].tolist() == [1, 1]
    stream = io.BytesIO()
    stream.write(b"before")
    fnn.save(nn.Linear(2, 1), stream)
    stream.seek(len(b"before"))
    assert isinstance(fnn.load(stream), nn.Linear)
    with pytest.raises(DataError, match="expected a whole safetensors file"):
        fnn.load(io.BytesIO(b"nothing"))
    with open(tmp_path / "text", "w") as text, pytest.raises(ArgumentError, match=r'save: .* mode "wb"'):
        fnn.save(state, text)
    with open(tmp_path / "text") as text, pytest.raises(ArgumentError, match=r'load: .* mode "rb"'):
        fnn.load(text)


class Doubled(nn.Linear):
    def forward(self, x: Any) -> Any:
        return 2 * super().forward(x)


def test_classes_of_the_programs_own_are_found_where_the_file_is_trusted(tmp_path: Path) -> None:
    """As PyTorch does with weights_only=False, but that nothing is imported on a file's word."""
    model = nn.Sequential(Doubled(2, 1))
    fnn.save(model, tmp_path / "whole.pth")
    for kwargs in ({}, {"weights_only": True}):
        with pytest.raises(ArgumentError, match=r"classes=\[Doubled\]"):
            fnn.load(tmp_path / "whole.pth", **kwargs)
    found = fnn.load(tmp_path / "whole.pth", weights_only=False)
    assert type(found[0]) is Doubled
    with open(tmp_path / "whole.pth", "rb") as file:
        found = fnn.load(file, weights_only=False)
    np.testing.assert_array_equal(found(fnn.ones(1, 2)).detach(), model(fnn.ones(1, 2)).detach())


def test_a_class_that_is_not_there_is_not_found_either(tmp_path: Path) -> None:
    class Passing(nn.Module):
        pass

    Passing.__qualname__ = "Passing"
    fnn.save(Passing(), tmp_path / "whole.pth")
    Passing.__qualname__ = "Other"
    with pytest.raises(ArgumentError, match="Passing"):
        fnn.load(tmp_path / "whole.pth", weights_only=False)


def test_what_older_pickles_call_buffers() -> None:
    """The names of buffers were an attribute `_buffers` once; tensors had no marks."""
    state = nn.BatchNorm1d(3).__getstate__()
    own = dict(state)
    own["_buffers"] = own.pop("_buffer_names")
    layer = object.__new__(nn.BatchNorm1d)
    layer.__setstate__(own)
    assert list(layer.state_dict()) == list(nn.BatchNorm1d(3).state_dict())
    tensor = object.__new__(fnn.Tensor)
    tensor.__setstate__((np.ones(2, np.float32), None, True))
    assert tensor.requires_grad
    assert tensor.tolist() == [1, 1]


def test_a_compiled_model_is_saved_as_the_model(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    fnn.save({"model": fnn.compile(model)}, tmp_path / "m.fnn")
    again = fnn.load(tmp_path / "m.fnn")["model"]
    assert type(again) is nn.Sequential
    np.testing.assert_array_equal(again[0].weight.data, model[0].weight.data)
