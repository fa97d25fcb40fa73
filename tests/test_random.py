"""Seeds: the same seed gives the same numbers, states can be kept and gone back to."""

from __future__ import annotations

import json
import threading
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError


def numbers() -> list[float]:
    """Some of everything that is random: weights, a normal, dropout."""
    layer = nn.Linear(5, 4)
    dropped = nn.Dropout(0.5)(np.ones(50, np.float32))
    return [*layer.weight.data.ravel(), fnn.random.generator().normal(), *dropped.tolist()]


def test_the_same_seed_gives_the_same_numbers() -> None:
    fnn.manual_seed(5)
    first = numbers()
    second = numbers()
    fnn.manual_seed(5)
    assert numbers() == first
    assert second != first
    fnn.manual_seed(6)
    assert numbers() != first


def test_streams_are_counted() -> None:
    fnn.manual_seed(2**64 - 1)
    assert [fnn.random.next_stream() for _ in range(2)] == [(2**64 - 1, 0), (2**64 - 1, 1)]


def test_state_goes_through_json() -> None:
    fnn.manual_seed(7)
    fnn.random.generator().integers(0, 10, 3, dtype=np.uint32)  # half a word is left over
    state = json.loads(json.dumps(fnn.random.get_state()))
    first = numbers()
    fnn.manual_seed(8)
    fnn.random.set_state(state)
    assert numbers() == first


def test_streams_of_many_threads_differ() -> None:
    seen: list[Any] = []

    def draw() -> None:
        for _ in range(200):
            seen.append(fnn.random.next_stream())

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == 800


@pytest.mark.parametrize("seed", [-1, 2**64, 1.5, "1", True, None])
def test_seeds_that_are_refused(seed: Any) -> None:
    with pytest.raises(ArgumentError, match=r"an integer from 0 to 2\*\*64 - 1, got"):
        fnn.manual_seed(seed)


def test_states_that_are_refused() -> None:
    for state in ({}, {"philox": 1}, {**fnn.random.get_state(), "seed": "x"}):
        with pytest.raises(ArgumentError, match="expected what get_state"):
            fnn.random.set_state(state)
