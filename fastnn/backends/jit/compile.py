"""How every kernel of this backend is compiled, decided in one place: options, threads, the cache on disk.

A kernel is written once, its parallel loop as `prange`, and compiled up to twice, each when first needed: on all
threads, and on the calling one for work so small that waking the others would take longer.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba

from fastnn import locks
from fastnn.backends.shapes import Array

# An elementwise loop goes by pieces of this many elements. Pieces, like all that is summed piecewise, are cut by the
# data alone, so that no bit depends on the number of threads.
CHUNK = 4096

# Waking numba's threads takes some 20 microseconds, more on a busy machine.
PARALLEL_FROM_NS = 60_000

# How many threads parallel loops run on; numba's own setting is one for each Python thread.
threads: int = numba.config.NUMBA_NUM_THREADS

_OPTIONS = {"error_model": "numpy"}
# What says `prange` runs in parallel, and nothing else is rewritten: that would cost only compile time.
_PARALLEL = {
    "comprehension": False, "prange": True, "numpy": False, "inplace_binop": False, "reduction": False,
    "setitem": False, "stencil": False, "fusion": False,
}  # fmt: skip

# Of fastmath, only what keeps NaN and infinities as they are: a*b + c in one rounding; and, where a sum is to be
# vectorised, its terms in any order.
FUSED = {"contract"}
REORDERED = {"contract", "reassoc"}
EXACT: set[str] = set()

# Numba's OpenMP layer aborts after a fork, and spins against other libraries' threads. Its own pool, "workqueue", does
# not; in return it aborts the process if two Python threads use it at once, so here they take turns.
if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
    numba.config.THREADING_LAYER_PRIORITY = ["tbb", "workqueue", "omp"]
_turn = locks.lock()


def _cache_is_writable() -> bool:
    """Whether numba finds a folder for compiled code: NUMBA_CACHE_DIR, beside this file, or the user's cache."""
    try:
        numba.njit(cache=True)(_cache_is_writable)
    except RuntimeError:  # "no locator available"
        return False
    return True


_CACHE = _cache_is_writable()

# Numba recompiles a function whose own file has changed, but does not see what it takes from another one. Kernels
# take only from their own file and from these, whose contents are part of the name under which they are cached.
_SHARED = ("compile.py", "tiles.py")
_FINGERPRINT = hashlib.sha256(b"".join(Path(__file__).with_name(file).read_bytes() for file in _SHARED)).hexdigest()[:8]


class Kernel:
    """A compiled function with a parallel loop. Called with an estimate of the work, then the function's arguments."""

    def __init__(self, function: FunctionType, fastmath: set[str]) -> None:
        # The dictionary is a copy because numba empties it.
        self._parallel = self._compile(function, "parallel", fastmath=fastmath, parallel=dict(_PARALLEL))
        self._serial = self._compile(function, "serial", fastmath=fastmath)

    def __call__(self, nanoseconds: float, *arguments: Any) -> None:
        """Run on all threads if one of them would take longer than it takes to wake the others.

        The choice is by the work and not by the number of threads: the two may differ in the order of sums.
        """
        run = self._in_turn if nanoseconds > PARALLEL_FROM_NS else self._serial
        try:
            run(*arguments)
        except OSError:  # compiled, but the disk is too full to keep it: that is for the next process to notice
            run(*arguments)

    def _in_turn(self, *arguments: Any) -> None:
        with _turn:
            numba.set_num_threads(threads)
            self._parallel(*arguments)

    @staticmethod
    def _compile(function: FunctionType, variant: str, **options: Any) -> Callable[..., None]:
        copy = FunctionType(function.__code__, function.__globals__, function.__name__)
        copy.__qualname__ = f"{function.__qualname__}-{variant}-{_FINGERPRINT}"
        return numba.njit(cache=_CACHE, **_OPTIONS, **options)(copy)


def kernel(fastmath: set[str] = FUSED) -> Callable[[Any], Kernel]:
    """Decorator: a function with one `prange` loop, compiled when first called."""
    return lambda function: Kernel(function, fastmath)


def inner(fastmath: set[str] = FUSED) -> Callable[[Any], Any]:
    """Decorator: a function that kernels of the same file call; compiled into them."""
    return numba.njit(fastmath=fastmath, **_OPTIONS)


@inner()
def pieces(size: int) -> int:
    """How many pieces of CHUNK elements cover `size`."""
    return (size + CHUNK - 1) // CHUNK


@inner()
def piece(x: Array, index: int) -> Array:
    """The elements of x (size,) in the piece of that number."""
    return x[index * CHUNK : min(x.size, (index + 1) * CHUNK)]


def contiguous(x: Array) -> Array:
    """x, or a copy, as the kernels are compiled to take it: C-contiguous, aligned, and of the type "writable"."""
    return x if x.flags.carray else x.copy()


def flat(x: Array) -> Array:
    """The elements of x in C order, (x.size,): a view if x is contiguous."""
    return contiguous(x).reshape(-1)
