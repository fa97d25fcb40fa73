"""Random numbers from one seed: a NumPy generator for initialisers and shuffles, counted streams for dropout."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import locks
from fastnn.checks import flag, shown, whole
from fastnn.errors import ArgumentError

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = [
    "fork_rng", "generator", "get_state", "initial_seed", "manual_seed", "next_generator", "next_stream", "peek",
    "put_back", "seed", "seeded", "set_state",
]  # fmt: skip

_OF_STREAMS = 0x9E3779B97F4A7C15


class _Source:
    """Random numbers from one seed; the generator is made on first use, because importing numpy.random costs 10 ms."""

    def __init__(self, seed: int) -> None:
        self.lock = locks.lock()
        self.seed = seed
        self.streams = 0  # numbers of streams handed out since the seed was set
        self.generator: Generator | None = None


_of_process = _Source(int.from_bytes(os.urandom(8), "little"))
_of_thread = threading.local()  # its `source`, within `seeded`


def _current() -> _Source:
    """Where the calling thread's random numbers come from."""
    return getattr(_of_thread, "source", _of_process)


@contextlib.contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """A context in which the calling thread's random numbers come from `seed`, whatever other threads draw meanwhile.

    Afterwards all goes on from there, as after `manual_seed`. Nothing is done about None.
    """
    if seed is None:
        yield
        return
    outer = _current()
    _of_thread.source = own = _Source(0)
    is_seeded = False
    try:
        manual_seed(seed)
        is_seeded = True
        yield
    finally:
        if outer is _of_process:
            del _of_thread.source
        else:
            _of_thread.source = outer
        if is_seeded:
            with outer.lock:
                outer.seed, outer.streams, outer.generator = own.seed, own.streams, own.generator


def manual_seed(seed: int) -> None:
    """Start all of fastnn's random numbers afresh from `seed`, an integer from 0 to 2^64 - 1.

    Without it every process begins with a seed from the operating system. Raises ArgumentError for other seeds.

    >>> import fastnn as fnn
    >>> fnn.manual_seed(0)
    >>> first = fnn.nn.Linear(3, 2).weight.numpy().copy()
    >>> fnn.manual_seed(0)
    >>> bool((fnn.nn.Linear(3, 2).weight.numpy() == first).all())
    True
    """
    seed = whole("manual_seed", "seed", seed, 0, 2**64 - 1, "an integer from 0 to 2**64 - 1")
    source = _current()
    with source.lock:
        source.seed, source.streams, source.generator = seed, 0, None


def seed() -> int:
    """Start all random numbers afresh from a seed of the operating system's; returns it."""
    manual_seed(int.from_bytes(os.urandom(8), "little"))
    return _current().seed


def initial_seed() -> int:
    """The seed that random numbers were started from."""
    return _current().seed


def generator() -> Generator:
    """The NumPy generator (Philox) that initialisers and shuffles draw from; any thread may."""
    source = _current()
    with source.lock:
        if source.generator is None:
            source.generator = _shared(np.random.Philox(source.seed))
        return source.generator


def peek() -> dict[str, Any] | None:
    """The state of generator(), for `put_back`; None where it was not asked for since the seed was set."""
    source = _current()
    with source.lock:
        return None if source.generator is None else dict(source.generator.bit_generator.state)


def put_back(state: dict[str, Any] | None) -> None:
    """Let generator() go on from where it was when `peek` was called."""
    source = _current()
    with source.lock:
        if state is None:
            source.generator = None
            return
        try:
            generator().bit_generator.state = state
        except (LookupError, TypeError, ValueError) as error:
            raise ArgumentError(f"put_back: expected what peek() returned, got {shown(state)}") from error


def next_stream() -> tuple[int, int]:
    """(seed, stream) for one draw by dropout, randn_like and others; every call of next_stream gives another stream."""
    source = _current()
    with source.lock:
        source.streams += 1
        return source.seed, source.streams - 1


def next_generator() -> Generator:
    """A NumPy generator for one draw: what it gives depends on the seed and on the number of streams before it alone.

    Its key's upper half keeps it apart from generator() and from the kernels' Philox, which have the seed as theirs.
    """
    seed, stream = next_stream()
    return np.random.Generator(np.random.Philox(key=seed | _OF_STREAMS << 64, counter=stream << 128))


def get_state() -> dict[str, Any]:
    """All there is to know to go on with the same random numbers later, as plain values (it may be written as JSON)."""
    source = _current()
    with source.lock:
        philox = generator().bit_generator.state
        numbers = {name: [int(word) for word in philox["state"][name]] for name in ("counter", "key")}
        return {
            "seed": source.seed,
            "streams": source.streams,
            "philox": {
                "bit_generator": "Philox",
                "state": numbers,
                "buffer": [int(word) for word in philox["buffer"]],
                "buffer_pos": int(philox["buffer_pos"]),
                "has_uint32": int(philox["has_uint32"]),
                "uinteger": int(philox["uinteger"]),
            },
        }


def set_state(state: dict[str, Any]) -> None:
    """Go on from where get_state() was called.

    >>> import fastnn as fnn
    >>> state = fnn.random.get_state()
    >>> first = fnn.random.generator().random()
    >>> fnn.random.set_state(state)
    >>> fnn.random.generator().random() == first
    True
    """
    try:
        philox = state["philox"]
        words = {name: _words(philox["state"][name], count) for name, count in (("counter", 4), ("key", 2))}
        numbers = {
            "buffer_pos": whole("", "buffer_pos", philox["buffer_pos"], 0, 4),  # NumPy would read at any place
            "has_uint32": whole("", "has_uint32", philox["has_uint32"], 0, 1),
            "uinteger": whole("", "uinteger", philox["uinteger"], 0, 2**32 - 1),
        }
        fresh = _shared(np.random.Philox())
        fresh.bit_generator.state = {
            "bit_generator": "Philox", "state": words, "buffer": _words(philox["buffer"], 4), **numbers,
        }  # fmt: skip
        seed = whole("", "seed", state["seed"], 0, 2**64 - 1)
        streams = whole("", "streams", state["streams"], 0, 2**63)
    except (LookupError, TypeError, ValueError) as error:
        raise ArgumentError(f"set_state: expected what get_state() returned, got {shown(state)}") from error
    source = _current()
    with source.lock:
        source.seed, source.streams, source.generator = seed, streams, fresh


def _shared(philox: np.random.Philox) -> Generator:
    """A generator that threads share: it has a lock of NumPy's, which one of them may hold when another one forks."""
    locks.free_in_children(philox.lock)
    return np.random.Generator(philox)


def _words(values: Any, count: int) -> np.ndarray[Any, Any]:
    """So many unsigned words of 64 bits; raises ValueError or TypeError for anything else."""
    words = [whole("", "word", value, 0, 2**64 - 1) for value in values]
    if len(words) != count:
        raise ValueError(f"expected {count} words, got {len(words)}")
    return np.array(words, np.uint64)


@contextlib.contextmanager
def fork_rng(devices: Any = None, enabled: bool = True, device_type: str = "cpu") -> Iterator[None]:
    """A context after which random numbers go on as if none had been drawn in it, nor a seed been set; `enabled` False:
    one without effect.

    >>> import fastnn as fnn
    >>> with fnn.random.fork_rng():
    ...     first = fnn.rand(2)
    >>> fnn.equal(fnn.rand(2), first)
    True
    """
    before = get_state() if flag("fork_rng", "enabled", enabled) else None
    try:
        yield
    finally:
        if before is not None:
            set_state(before)
