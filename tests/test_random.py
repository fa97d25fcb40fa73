"""Seeds: the same seed gives the same numbers, states can be kept and gone back to."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError
from fastnn.random import seeded


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


def test_trainings_from_seeds_in_threads_draw_apart() -> None:
    """They drew from one generator: the second fit(seed=0) began the first one's numbers afresh in its midst."""
    x, y = np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32), np.arange(32) % 2

    def trained(seed: int = 0) -> tuple[bytes, bytes]:
        model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 2))
        for p in model.parameters():
            p.data[...] = np.linspace(-1, 1, p.data.size).reshape(p.shape)
        fnn.fit(model, (x, y), epochs=4, batch_size=4, seed=seed, optimizer="sgd", verbose=False)
        return model[0].weight.data.tobytes(), fnn.randn(2).numpy().tobytes()

    expected = [trained(seed)[0] for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert [weight for weight, _ in pool.map(trained, range(4))] == expected
    first = trained()
    assert trained() == first  # what is drawn afterwards goes on from the seed
    fnn.manual_seed(0)
    with seeded(1):
        inside = fnn.randn(2).numpy().copy()
    after = fnn.randn(2).numpy().copy()
    fnn.manual_seed(1)
    np.testing.assert_array_equal(np.stack([fnn.randn(2).numpy(), fnn.randn(2).numpy()]), np.stack([inside, after]))


def test_a_seed_that_is_refused_changes_nothing() -> None:
    fnn.manual_seed(5)
    with pytest.raises(ArgumentError, match="integer from 0"):
        fnn.fit(nn.Linear(2, 2), (np.ones((4, 2), np.float32), np.arange(4) % 2), seed=-1, verbose=False)
    assert fnn.initial_seed() == 5


def test_what_is_drawn_in_a_fork_leaves_the_numbers_after_it() -> None:
    fnn.manual_seed(3)
    expected = fnn.rand(3).tolist(), fnn.initial_seed()
    fnn.manual_seed(3)
    with fnn.random.fork_rng():
        fnn.manual_seed(8)
        fnn.rand(5)
    assert (fnn.rand(3).tolist(), fnn.initial_seed()) == expected
    fnn.manual_seed(3)
    with fnn.random.fork_rng(enabled=False):
        assert fnn.rand(3).tolist() == expected[0]
    assert fnn.rand(3).tolist() != expected[0]
