"""What a checkpoint keeps comes back as it was, of any type; what it cannot keep is said before anything is trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnn as fnn
from fastnn import nn, optim
from fastnn.errors import ArgumentError
from fastnn.train import Callback, Checkpoint, EarlyStopping, StopOnStep, Training
from fastnn.train.packing import pack, unpack

DATA = np.zeros((8, 4), np.float32), np.arange(8) % 2
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
STATES = st.recursive(
    SCALARS | st.integers(-(2**31), 2**31 - 1).map(lambda n: np.array([n], np.int32)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=3)
        | st.sets(st.integers() | st.text(), max_size=3)
        | st.frozensets(st.integers(), max_size=3)
    ),
    max_leaves=10,
)


def same(a: Any, b: Any) -> bool:
    """Equal in value and type, NaN to NaN, in the same order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            same(k, j) and same(v, w) for (k, v), (j, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))


def through_json(state: Any) -> Any:
    """As through a file: JSON that any program reads."""
    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(pack(state, arrays, "state"), allow_nan=False)
    return unpack(json.loads(text), arrays)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(STATES)
def test_any_state_comes_back(state: Any) -> None:
    assert same(through_json(state), state)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int64(3), 3), (np.uint8(200), 200), (np.uint64(2**64 - 1), 2**64 - 1), (np.bool_(True), True),
        (np.float32(0.1), 0.10000000149011612), (np.float64(0.1), 0.1), (np.float16(0.5), 0.5), (np.str_("a"), "a"),
        (np.float32("inf"), math.inf), (np.longdouble(2), 2.0), ({np.int64(1): np.int32(2)}, {1: 2}),
    ],
)  # fmt: skip
def test_numpy_s_scalars_come_back_as_python_s(value: Any, expected: Any) -> None:
    assert same(through_json(value), expected)


def test_keys_that_look_alike_keep_their_own_arrays() -> None:
    state = {
        1: np.zeros(2),
        "1": np.ones(2),
        "1'": np.full(2, 2.0),
        "a.b": np.full(1, 3.0),
        "a": {"b": np.full(1, 4.0)},
    }
    assert same(through_json(state), state)


class Keeps(Callback):
    def __init__(self, state: Any) -> None:
        self.state, self.batches = state, 0

    def on_batch_end(self, training: Training) -> None:
        self.batches += 1

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


def fit(folder: Path, *callbacks: Callback, epochs: int = 1, **options: Any) -> nn.Linear:
    fnn.manual_seed(1)
    model = nn.Linear(4, 2)
    keep = Checkpoint(folder, resume=True)
    fnn.fit(model, DATA, epochs=epochs, batch_size=4, callbacks=[*callbacks, keep], verbose=False, **options)
    return model


def endless() -> list[Any]:
    state: list[Any] = []
    state.append(state)
    return state


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"best": object()}, r"callbacks\.Keeps\.0\.best: .*object of type object"),
        ({"a": [1, {"b": 1j}]}, r"callbacks\.Keeps\.0\.a\.1\.b: .*complex"),
        ({"a": np.array([{}])}, r"Keeps\.0\.a: .*array of object"),
        ({"a": np.zeros(2, complex)}, r"Keeps\.0\.a: .*array of complex128"),
        ({"a": np.datetime64("2020-01-01")}, r"Keeps\.0\.a: .*datetime64"),
        ({"a": b"bytes"}, r"Keeps\.0\.a: .*bytes"),
        ({"a": fnn.Tensor([1.0])}, r"Keeps\.0\.a: .*Tensor: keep its \.data"),
        ({"a": {object(): 1}}, r"Keeps\.0\.a: .*object"),
        ({"a": Path("x")}, r"Keeps\.0\.a: .*Path"),
        ({"a": endless()}, r"Keeps\.0: .*holds itself"),
        ({"a": np.ma.masked_array([1.0, 2.0], [0, 1])}, r"Keeps\.0\.a"),
    ],
)
def test_what_cannot_be_kept_is_said_before_the_first_update(tmp_path: Path, state: Any, where: str) -> None:
    callback = Keeps(state)
    with pytest.raises(ArgumentError, match=where):
        fit(tmp_path, callback)
    assert callback.batches == 0
    assert not (tmp_path / "checkpoint.safetensors").exists()


def test_a_state_that_is_made_later_is_no_fault(tmp_path: Path) -> None:
    class Late(Callback):
        def on_epoch_end(self, training: Training) -> None:
            self.seen = training.epoch

        def state_dict(self) -> dict[str, Any]:
            return {"seen": self.seen}

    fit(tmp_path, Late())
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_callbacks_get_their_state_back(tmp_path: Path) -> None:
    state = {"n": np.int64(3), 7: (np.float32(0.5), {"x", "y"}), "a": [np.arange(3), None], "inf": math.inf}
    fit(tmp_path, Keeps(state))
    resumed = Keeps(None)
    fit(tmp_path, resumed, epochs=2)
    assert same(resumed.state, {"n": 3, 7: (0.5, {"x", "y"}), "a": [np.arange(3), None], "inf": math.inf})


def note_of(folder: Path) -> Any:
    def not_json(word: str) -> None:
        raise AssertionError(word)

    note = fnn.weights.load_note(folder / "checkpoint.safetensors")
    return json.loads(note or "", parse_constant=not_json)


def test_a_checkpoint_s_note_is_json_that_every_program_reads(tmp_path: Path) -> None:
    """With a stopping rule that has seen no update yet, and keeps infinity."""
    stop, early = StopOnStep(np.float32(1e-9)), EarlyStopping("train_loss", patience=np.int64(9))
    fit(tmp_path, stop, early, optimizer=None, seed=np.uint8(3))
    note = note_of(tmp_path)
    assert note["order"] == {"seed": 3, "epoch": 1}


def test_numpy_s_numbers_in_groups_and_batches_give_the_bits_of_python_s(tmp_path: Path) -> None:
    def run(folder: Path, kind: Any, whole: Any, epochs: int) -> bytes:
        fnn.manual_seed(whole(1))
        model = nn.Linear(whole(4), whole(2))
        optimizer = optim.Adam(model.parameters(), lr=kind(0.5), betas=(kind(0.875), kind(0.75)))
        optimizer.param_groups[0]["lr"] = kind(0.25)  # as users write it
        batches = fnn.data.Batches(*DATA, whole(3), shuffle=True, seed=whole(2))
        batches.epoch = whole(0)
        keep = Checkpoint(folder, resume=True, every=whole(1))
        fnn.fit(model, batches, optimizer=optimizer, epochs=whole(epochs), callbacks=[keep], verbose=False)
        return model.weight.data.tobytes()

    wanted = run(tmp_path / "python", float, int, 2)
    for kind, whole in ((np.float32, np.int64), (np.float64, np.uint8), (np.float16, np.int32)):
        folder = tmp_path / kind.__name__
        run(folder, kind, whole, 1)
        assert run(folder, kind, whole, 2) == wanted
        note_of(folder)
