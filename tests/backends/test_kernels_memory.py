"""Large arrays that operators return lie in memory that is used again: never while anybody can see it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastnn as fnn

kernels = pytest.importorskip("fastnn._kernels")

FLOAT32 = np.dtype(np.float32)
LARGE = (600, 1000)  # 2.4 MB


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(), (0,), (3,), (5, 0, 2), LARGE, (2, 3, 100_000), (1 << 21,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_an_array_as_any_other(shape: tuple[int, ...], dtype: type) -> None:
    array = kernels.empty(shape, np.dtype(dtype))
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.carray
    array[...] = 7
    assert (array == 7).all()
    assert array.nbytes < 1 << 20 or address(array) % 64 == 0


# In a process of its own, whose memory no other test has used.
PLACES = """
import numpy as np
from fastnn._kernels import empty

def take(*shape):
    array = empty(shape, np.dtype(np.float32))
    return array, array.__array_interface__["data"][0]

first, place = take(1023, 1025)
assert take(1023, 1025)[1] != place, "in use"
view = first[5:7].T
del first
assert take(1023, 1025)[1] != place, "in use by a view"
del view
assert take(1023, 1025)[1] == place, "used again"
assert take(1000, 1000)[1] == place, "a little smaller"
assert take(500, 1000)[1] != place, "less than half"
assert take(1024, 1025)[1] != place, "larger"
"""


def test_the_next_array_lies_where_one_was_that_nobody_holds() -> None:
    run = subprocess.run([sys.executable, "-c", PLACES], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_what_is_kept_is_not_written_to() -> None:
    rng = np.random.default_rng(0)
    x = [fnn.Tensor(rng.standard_normal((64, 8, 30, 30))) for _ in range(6)]
    kept = [fnn.ops.relu(one) for one in x]
    for one, y in zip(x, kept, strict=True):
        np.testing.assert_array_equal(y.data, np.maximum(one.data, 0))


def juggle(seed: int) -> None:
    """Takes and drops arrays of many sizes, each full of a number of its own."""
    rng = np.random.default_rng(seed)
    held: dict[int, np.ndarray] = {}
    for number in range(300):
        array = kernels.empty((int(rng.integers(30_000, 900_000)),), FLOAT32)
        array.fill(1000 * seed + number)
        held[number] = array
        while len(held) > 12:
            old = int(rng.choice(list(held)))
            assert (held.pop(old) == 1000 * seed + old).all()


def test_no_two_arrays_share_memory() -> None:
    juggle(1)


def test_nor_do_those_of_several_threads() -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(juggle, range(2, 6)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_nobody_wants_goes_back_to_the_system() -> None:
    def resident() -> int:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    kernels.empty((1 << 25,), FLOAT32).fill(1)  # 128 MiB
    before = resident()
    for _ in range(600):
        kernels.empty((1 << 17,), FLOAT32)
    assert before - resident() > 100 << 20


def test_more_than_there_is() -> None:
    with pytest.raises(MemoryError):
        kernels.empty((1 << 30, 1 << 17), FLOAT32)
