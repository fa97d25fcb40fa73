"""Memory that is kept to be used again, and state that a failure must not leave half changed."""

from __future__ import annotations

import copy
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import allocations
import numpy as np
import pytest

import fastnn as fnn
from fastnn import backends, nn, optim, versions
from fastnn.arrays import aligned
from fastnn.errors import ShapeError


class Releasing(fnn.Function):
    """The identity, by a user's code that gives memory back while a plan runs."""

    @staticmethod
    def forward(ctx: Any, x: np.ndarray) -> np.ndarray:
        fnn.release_memory()
        return x

    @staticmethod
    def backward(ctx: Any, grad: np.ndarray) -> np.ndarray:
        fnn.release_memory()
        return grad


class Release(nn.Module):
    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return Releasing.apply(x)


def images() -> nn.Module:
    norm = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1))
    return nn.Sequential(nn.Unflatten(1, (1, 6, 6)), norm, nn.Flatten(), nn.Linear(16, 5))


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(36, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 5))


def users_own() -> nn.Module:
    return nn.Sequential(nn.Linear(36, 8), Release(), nn.Linear(8, 5))


X, Y = np.random.default_rng(0).standard_normal((8, 36)).astype(np.float32), np.arange(8) % 5


@pytest.mark.parametrize("make", [images, dense])
def test_the_arrays_of_a_plan_are_freed_at_once(make: Callable[[], nn.Module]) -> None:
    """And not when Python looks for cycles, which may be many plans later."""
    model = make()
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    predict = fnn.compile(model)
    gc.disable()
    try:
        step(X, Y), predict(X)
        executions = [step._last, *predict._executions.values()]
        arenas = [weakref.ref(execution.arena) for execution in executions]
        del executions
        fnn.release_memory()
        assert [arena() for arena in arenas] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("make", [images, dense, users_own])
def test_results_are_the_same_after_a_release(make: Callable[[], nn.Module]) -> None:
    """Also by a step whose own code releases memory, while its plan is in use."""

    def losses(release: bool) -> list[float]:
        fnn.manual_seed(0)
        model = make()
        step = fnn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=0.1), accumulate=2)
        found = []
        for _ in range(5):
            found.append(step(X, Y))
            if release:
                fnn.release_memory()
        return found

    assert losses(True) == losses(False)


def test_notes_of_writes_go_with_their_arrays() -> None:
    """They were kept, some 150 bytes for each array at an address of its own: without end, where models come and go."""
    gc.collect()
    before = len(versions._writes)
    models = [dense() for _ in range(20)]
    assert len(versions._writes) == before + 20 * 4  # the Linear layers'
    del models
    gc.collect()
    assert len(versions._writes) <= before


@pytest.mark.parametrize("name", ["SGD", "Adam", "NAdam"])
def test_a_gradient_of_a_wrong_shape_leaves_every_parameter(name: str) -> None:
    first, second = nn.Parameter(np.ones(3, np.float32)), nn.Parameter(np.ones((2, 3), np.float32))
    first.grad = np.ones(3, np.float32)
    second._grad = np.ones((3, 2), np.float32)  # as of an array that was reshaped in place
    optimizer = getattr(optim, name)([first, second], lr=0.1)
    with pytest.raises(ShapeError, match=r"expected \.grad of shape"):
        optimizer.step()
    assert np.array_equal(first.data, [1, 1, 1])
    assert not optimizer.state_dict()["state"]


def test_batch_norm_that_fails_leaves_its_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise MemoryError

    layer = nn.BatchNorm1d(36)
    monkeypatch.setattr(backends.kernels(np.dtype(np.float32)), "batch_norm_forward", fails)
    with pytest.raises(MemoryError):
        layer(fnn.tensor(X))
    kept = layer.state_dict()
    assert np.array_equal(kept["running_mean"], np.zeros(36))
    assert np.array_equal(kept["running_var"], np.ones(36))
    assert kept["num_batches_tracked"] == 0


# Prints which allocations may fail in a model's first prediction without a word.
FIRST_PREDICTION = """
import numpy as np
import fastnn as fnn
from fastnn import nn

x = np.ones((16, 1, 14, 14), np.float32)

def new():
    fnn.release_memory()
    return fnn.compile(nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU()))

new()(x)
predict = new()
watch(0)
predict(x)
without_a_word = []
for number in range(1, seen() + 1):
    predict = new()
    watch(number)
    try:
        predict(x)
        without_a_word.append(number)
    except MemoryError:
        pass
    finally:
        seen()
print(without_a_word)
"""


@pytest.mark.skipif(sys.platform != "linux" or backends.name() != "native", reason="replaces glibc's malloc")
def test_every_allocation_that_fails_in_a_first_prediction_says_so() -> None:
    """Where the plan of a region's inference found no memory, its state was given too little, and written beyond."""
    assert allocations.run(FIRST_PREDICTION) == "[]\n"


# ---- where arrays begin ----------------------------------------------------------------------------------------------


def begins_a_line(array: np.ndarray) -> bool:
    return array.ctypes.data % 64 == 0


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5,), (37, 41), (300, 1000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, bool])
def test_aligned_arrays(shape: tuple[int, ...], dtype: type) -> None:
    array = aligned(shape, dtype)
    assert array.shape == shape
    assert array.dtype == dtype
    assert array.flags.carray
    assert begins_a_line(array) or not array.size
    array.fill(1)
    assert array.sum() == array.size


def test_arrays_of_pages_begin_in_different_sets_of_the_cache() -> None:
    assert len({aligned((1024,), np.float32).ctypes.data % 4096 for _ in range(30)}) > 10


def test_arrays_that_no_kernel_reads() -> None:
    """Objects, of which undefined content would be a crash; and sizes that NumPy knows an error for."""
    assert aligned((3,), object).tolist() == [None] * 3
    for dtype in ("U3", ">f4", "m8[s]", "c8", [("a", "f4")]):
        assert aligned((3,), dtype).dtype == np.dtype(dtype)
    for shape in ((2**40, 2**40), (-1,), (-1, -2), (-1, 0)):
        with pytest.raises(ValueError, match=r"dimension|too big"):
            aligned(shape, np.float32)
    with pytest.raises(MemoryError):
        aligned((2**50,), np.float32)


def test_copies_of_models_begin_at_a_cache_line() -> None:
    """A transformer's layers are copies of the first. Parameters that are tied stay so."""
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 2, 20), 3)
    tied = nn.Sequential(nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 7))
    tied[1].weight, tied[2].weight = tied[0].weight, nn.Parameter(tied[0].weight)  # the object, the array
    twin, average = copy.deepcopy(tied), optim.swa_utils.AveragedModel(model)
    assert all(begins_a_line(p.data) for m in (model, twin, average) for p in m.parameters())
    twin[0].weight.data[...] = 3
    assert twin[1].weight is twin[0].weight
    assert (twin[2].weight.data == 3).all()
    assert not (tied[0].weight.data == 3).any()


def test_parameters_and_state_begin_at_a_cache_line(tmp_path: Any) -> None:
    """Twice as fast to read as across two: also where they come from files and from other types."""
    for make in (images, dense):
        model = make()
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        fnn.compile(model, nn.CrossEntropyLoss(), optimizer)(X, Y)
        fnn.save(model, tmp_path / "model.fnn")
        loaded = fnn.load(tmp_path / "model.fnn")
        twice = make()
        twice.load_state_dict(model.state_dict(), assign=True)
        again = optim.Adam(twice.parameters(), lr=0.1)
        again.load_state_dict(optimizer.state_dict())
        moments = [s[name] for o in (optimizer, again) for s in o.state.values() for name in ("exp_avg", "exp_avg_sq")]
        weights = [p.data for m in (model, loaded, twice, make().double().float()) for p in m.parameters()]
        assert all(map(begins_a_line, [*moments, *weights]))


@pytest.mark.skipif(sys.platform != "linux" or backends.name() != "native", reason="counts pages by Linux's numbers")
@pytest.mark.parametrize(("channels", "batch"), [(6, 32), (16, 128)])
def test_steps_of_one_size_take_no_new_memory(channels: int, batch: int) -> None:
    """New pages are faults and zeros: with too tight a bound on what is kept they took a third of an eager step."""
    import resource

    conv = nn.Sequential(nn.Conv2d(1, channels, 3), nn.ReLU(), nn.MaxPool2d(2))
    more = nn.Sequential(nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.MaxPool2d(2))
    model = nn.Sequential(conv, more, nn.Flatten(), nn.Linear(800, 10))
    optimizer, loss_fn = optim.Adam(model.parameters(), lr=1e-3), nn.CrossEntropyLoss()
    x, y = np.random.default_rng(0).random((batch, 1, 28, 28), np.float32), np.arange(batch) % 10

    def steps(count: int) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(count):
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    steps(25)
    assert min(steps(5) for _ in range(3)) < 50  # pages; one array of a step has a hundred and more
