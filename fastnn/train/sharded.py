"""Updates shared out among the ranks of one machine: parameters in common memory, of which each rank steps a piece.

The parameters lie in memory that all ranks read and write, end to end, and so do each rank's gradients. In a step every
rank writes its gradients; when all have, each sums a piece of them over the ranks, in their order, and makes the
optimiser's step of this piece; when all have, the next step begins. Nothing is sent and nothing copied, and each number
is updated once on the machine instead of once a rank (the ZeRO optimiser's first two stages: Rajbhandari et al. 2020).
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn import backends, versions
from fastnn.distributed import Mean, World
from fastnn.errors import GraphError
from fastnn.optim import Optimizer
from fastnn.plan.memory import overlap
from fastnn.plan.update import Updates
from fastnn.tensors import Array, Tensor

__all__ = ["Sharded", "exchange_of"]

_LINE = 16  # float32 in a cache line: where parameters and pieces begin
_TOLD = Mean.TOLD * 8  # bytes of what a rank tells the others
_NOTHING = np.zeros(0, np.float32)


class Cut(NamedTuple):
    """A part of a parameter that lies in one rank's piece: where in the parameter, and where in the whole."""

    rank: int
    part: slice
    place: slice


class _Work(NamedTuple):
    """A rank's part of a step, for gradients of the same parameters."""

    updates: Updates
    program: Any  # fastnn._kernels.Program: the updates of this rank's piece
    reached: int  # tells which parameters they are
    written: versions.Writer


class Sharded:
    """The step of `optimizer` by the weighted means of gradients over the ranks of one machine; see `Mean`.

    While it is open the parameters are views of the common memory. The optimiser's state is each rank's own, and of it
    only what belongs to the rank's piece is kept up to date, until `complete`.

    Attributes:
        seconds: spent in exchanges so far, waiting for slower ranks included.
    """

    updates = True

    def __init__(self, world: World, params: Sequence[Tensor], optimizer: Any, memory: mmap.mmap) -> None:
        self._world, self._optimizer, self.seconds = world, optimizer, 0.0
        starts, total, piece = _laid_out(params, world.size)
        rows = np.frombuffer(memory, np.uint8).reshape(-1)
        told, rest = rows[: world.size * 64], rows[world.size * 64 :].view(np.float32)
        self._every = [told[64 * r :][:_TOLD].view(np.float64) for r in range(world.size)]
        self._told = self._every[world.rank]
        self._flat = [rest[r * total : (r + 1) * total] for r in range(world.size)]  # each rank's gradients
        self._factors = np.zeros(world.size, np.float32)
        self._before: list[tuple[Tensor, Array]] = []  # the parameters' own memory
        self._shared: dict[int, Array] = {}  # parameters, by id
        self._grads: dict[int, Array] = {}
        self._cuts: dict[int, list[Cut]] = {}
        self._numbers: dict[int, int] = {}
        self._works: dict[tuple[int, ...], _Work] = {}
        self._is_complete = True
        common = rest[world.size * total :]
        for number, (p, start) in enumerate(zip(params, starts, strict=True)):
            where = slice(start, start + p._data.size)
            self._numbers[id(p)] = number
            self._grads[id(p)] = self._flat[world.rank][where].reshape(p.shape)
            self._cuts[id(p)] = [
                Cut(r, slice(a - start, b - start), slice(a, b))
                for r in range(world.size)
                if (a := max(start, r * piece)) < (b := min(where.stop, (r + 1) * piece))
            ]
            self._before.append((p, p._data))
            self._shared[id(p)] = shared = common[where].reshape(p.shape)
            if world.rank == 0:
                shared[...] = p._data
            p._data = shared
        world.meet()

    @staticmethod
    def suits(world: World, params: Sequence[Tensor], optimizer: Any) -> bool:
        """Whether kernels step all of this, on one machine, and nothing lies in another's memory."""
        arrays = [p._data for p in params]
        return (
            world.on_one_machine
            and backends.name() == "native"
            and isinstance(optimizer, Optimizer)
            and Updates.known(optimizer)
            and all(array.dtype == np.float32 and array.flags.carray for array in arrays)
            and not overlap(arrays, [])
        )

    def place(self, p: Tensor) -> Array | None:
        """The array that a step writes this parameter's gradient to."""
        return self._grads.get(id(p))

    def __call__(
        self, gradients: Sequence[tuple[Any, Array]], weight: float, loss: float, signal: int = 0, summed: bool = False
    ) -> tuple[float, int]:
        """The mean loss and the signal that any rank has got; the parameters have made their step then.

        Raises what another rank has failed with, by `fail`; GraphError where the ranks' gradients are of different
        parameters.
        """
        start = time.perf_counter()
        for p, grad in gradients:
            if grad is not self._grads[id(p)]:
                self._grads[id(p)][...] = grad
        work = self._prepared([p for p, _ in gradients])
        self._told[:] = weight, loss * weight, work.reached, 0, signal
        self._meet()
        weights, losses, reached, _, signals = zip(*(told.tolist() for told in self._every), strict=True)
        if len(set(reached)) > 1:
            raise GraphError("expected gradients of the same parameters on all ranks, got those of different ones")
        total = 1.0 if summed else sum(weights)
        self._factors[:] = [weight / total for weight in weights]
        self._is_complete = False
        summing = time.perf_counter()
        try:
            work.program.run(_NOTHING, None)
        except BaseException as error:  # others are about to go on with what this rank has not written
            self._world.abort(error)
            raise
        waiting = time.perf_counter()
        self._world.meet()
        work.updates.after_step()
        work.written.wrote()
        self.seconds += time.perf_counter() - waiting + summing - start
        return sum(losses) / total, int(max(signals))

    def _prepared(self, params: list[Tensor]) -> _Work:
        """The work of a step in which gradients have come to these parameters."""
        for p in params:
            if p._data is not self._shared[id(p)]:  # somebody has set .data
                self._shared[id(p)][...] = p._data
                p._data = self._shared[id(p)]
        key = tuple(map(id, params))
        found = self._works.get(key)
        if found is None or not found.updates.stand():
            found = self._works[key] = self._made(params)
        found.updates.before_step()
        return found

    def _made(self, params: list[Tensor]) -> _Work:
        from fastnn._kernels import Program, UpdateStage

        updates, program = Updates(self._optimizer, params), Program()
        for p in params:
            states = updates.states(p)
            for cut in self._cuts[id(p)]:
                if cut.rank == self._world.rank:
                    own = [None if state is None else state.reshape(-1)[cut.part] for state in states]
                    shares = [flat[cut.place] for flat in self._flat]
                    param = p._data.reshape(-1)[cut.part]
                    program.add(UpdateStage(param, shares, own, updates.numbers(p), self._factors))
        reached = zlib.crc32(bytes(self._numbers[id(p)] % 256 for p in params))
        return _Work(updates, program, reached, versions.Writer(p._data for p in params))

    def complete(self) -> None:
        """Bring the optimiser's whole state up to date; all ranks do so. It goes through the memory of gradients."""
        if self._is_complete:
            return
        states = [(self._optimizer.state.get(p, {}), self._cuts[id(p)]) for p, _ in self._before]
        for name in dict.fromkeys(name for state, _ in states for name in state):
            arrays = [(state.get(name), cuts) for state, cuts in states]
            held = [(array.reshape(-1), cut) for array, cuts in arrays if isinstance(array, np.ndarray) for cut in cuts]
            for array, cut in held:
                if cut.rank == self._world.rank:
                    self._flat[cut.rank][cut.place] = array[cut.part]
            self._world.meet()
            for array, cut in held:
                if cut.rank != self._world.rank:
                    array[cut.part] = self._flat[cut.rank][cut.place]
            self._world.meet()
        self._is_complete = True

    def fail(self, error: BaseException) -> None:
        """Take part in the exchange that other ranks are in with an exception, which is raised on all."""
        self._told[:] = 0, 0, 0, 1, 0
        self._meet(error)

    def close(self) -> None:
        """Give the parameters their own memory back, and the optimiser its state; all ranks do so."""
        self.complete()
        for p, own in self._before:
            own[...] = p._data
            p._data = own
        self._world.meet()

    def _meet(self, error: BaseException | None = None) -> None:
        """Wait until all ranks have written their gradients, or say why they cannot."""
        self._world.meet()
        if any(told[3] for told in self._every):
            self._world.raise_first(error)


def exchange_of(world: World, params: Sequence[Tensor], optimizer: Any, compiled: bool) -> Mean | Sharded:
    """How these ranks make a step: in common memory where they are on one machine, and the step is a compiled one."""
    if all(world.together(lambda: compiled and Sharded.suits(world, params, optimizer))):
        memory = _common_memory(world, world.size * 64 + (world.size + 1) * _laid_out(params, world.size)[1] * 4)
        if memory is not None:
            return Sharded(world, params, optimizer, memory)
    return Mean(world, params)


def _laid_out(params: Sequence[Tensor], ranks: int) -> tuple[list[int], int, int]:
    """Where each parameter begins, end to end; how many numbers there are; and how many make a rank's piece."""
    starts, end = [], 0
    for p in params:
        starts.append(end)
        end += -(-p._data.size // _LINE) * _LINE
    return starts, end, -(-end // (ranks * _LINE)) * _LINE


def _common_memory(world: World, size: int) -> mmap.mmap | None:
    """So many bytes that all ranks of this machine read and write, zero at first; None where there is no room.

    They live as long as somebody uses them, in a file without a name: whatever ends the processes, nothing stays.
    """

    def made() -> str | None:
        where = "/dev/shm"
        number, path = tempfile.mkstemp(prefix="fastnn", dir=where if os.path.isdir(where) else None)
        try:
            if hasattr(os, "posix_fallocate"):  # else writing where there is no room would end the process
                os.posix_fallocate(number, 0, size)
            else:
                os.truncate(number, size)
        except OSError:
            os.unlink(path)
            return None
        finally:
            os.close(number)
        return path

    path = world.from_first(made)
    if path is None:
        return None
    found: list[mmap.mmap] = []

    def open_it() -> None:
        with open(path, "r+b") as file:
            found.append(mmap.mmap(file.fileno(), size))

    try:
        world.together(open_it)
        return found[0]
    finally:
        if world.rank == 0:
            os.unlink(path)
