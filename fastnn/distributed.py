"""Processes that train one model together, over MPI: who they are, and how they exchange arrays.

``mpiexec -n 4 python program.py`` starts four *ranks*, each with this program. All of them run all of it;
`fit` and `evaluate` with ``distributed=True`` share out the work within.

The sum over the ranks is made in their order, by whoever owns a piece of it: pieces are exchanged (Alltoall), added,
and handed to all (Allgather), as the reduce-scatter and the all-gather of a ring are (Thakur, Rabenseifner and Gropp
2005). So it has the same bits on all ranks and in every run, which MPI's own Allreduce does not promise.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np

from fastnn import backends, console, versions
from fastnn.errors import BackendError, FastnnError, GraphError, needs
from fastnn.habits import no_such_name
from fastnn.tensors import Array

__all__ = ["is_available", "is_initialized", "rank", "size"]

T = TypeVar("T")

SPIN = 1e-4  # seconds in which a rank that waits keeps its core; each pause after that takes some tens of microseconds
PATIENCE = 2.0  # seconds in which ranks that fail by the same mistake are expected to do so
_JOB_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")  # what launchers tell each process


def rank() -> int:
    """The number of this process among those that mpiexec has started, from 0; 0 without mpiexec.

    Raises MissingExtraError without mpi4py, BackendError without an MPI library, or with another one than mpiexec's.

    >>> import fastnn as fnn
    >>> fnn.distributed.rank()
    0
    """
    return world().rank


def size() -> int:
    """How many processes mpiexec has started; 1 without mpiexec. Raises what `rank` does.

    >>> import fastnn as fnn
    >>> fnn.distributed.size()
    1
    """
    return world().size


def is_available() -> bool:
    """False: there are no process groups as PyTorch's, and programs that ask go on in one process."""
    return False


def is_initialized() -> bool:
    """False: there are no process groups as PyTorch's."""
    return False


@functools.cache
def world() -> World:
    """All processes of this job; the first call starts MPI, and shares out the cores of each machine.

    From then on an exception that nobody catches ends the whole job, not this process alone.
    """
    try:
        with needs("mpi4py", "mpi"):
            import mpi4py

            mpi4py.rc.thread_level = "funneled"  # threads of the kernels do not call MPI
            from mpi4py import MPI
    except RuntimeError as error:
        raise BackendError(
            f"mpi4py has found no MPI library ({error}): pip install mpich, or load the site's MPI first"
        ) from error
    found = World(MPI.COMM_WORLD)
    told = max((int(os.environ.get(name) or 1) for name in _JOB_SIZES), default=1)
    if told > found.size == 1:
        raise BackendError(
            f"expected {told} ranks, as mpiexec has started, got one: mpiexec and the library that mpi4py uses "
            f"({MPI.Get_library_version().split(',')[0].splitlines()[0]}) are of different MPIs"
        )
    if found.size > 1:
        share_cores(found.node)
        before = sys.excepthook

        def end_all(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if found.alone_in(error):
                found.abort(error)
            before(kind, error, trace)

        sys.excepthook = end_all
    return found


class World:
    """The ranks of a job.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        on_one_machine: whether all are on one.
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.rank, self.size = comm, int(comm.Get_rank()), int(comm.Get_size())
        self.node = comm.Split_type(_shared())  # the ranks on this machine
        self.on_one_machine = self.node.Get_size() == self.size
        self._aside = comm.Dup()  # for those that fail, while others wait in an exchange

    def from_first(self, work: Callable[[], T]) -> T:
        """What `work` returns on rank 0, which alone does it, on all ranks; what it raises is raised on all."""
        found: Any = None
        if self.rank == 0:
            found = _outcome(work)
        found = self.comm.bcast(found) if self.size > 1 else found
        return _result(found)

    def together(self, work: Callable[[], T]) -> list[T]:
        """What `work` returns on each rank, in their order, on all; the first rank's exception is raised on all."""
        if self.size == 1:
            return [work()]
        return [_result(found) for found in self.comm.allgather(_outcome(work))]

    def meet(self) -> None:
        """Wait until all ranks have come here, and what they wrote before can be seen.

        One that waits for long sleeps in between: on a busy machine another process takes its core then, and not that
        of the rank which everybody waits for.
        """
        request, end = self.comm.Ibarrier(), time.perf_counter() + SPIN
        while not request.Test():
            if time.perf_counter() > end:
                time.sleep(1e-5)

    def raise_first(self, error: BaseException | None) -> None:
        """Raise the exception of the first rank that has one, on all."""
        for found in self.comm.allgather(None if error is None else _sendable(error)):
            if found is not None:
                found._all_ranks = True
                raise found

    @contextlib.contextmanager
    def in_step(self) -> Iterator[None]:
        """Context in which ranks fail together or not at all: an exception on some of them ends the whole job."""
        try:
            yield
        except BaseException as error:
            if self.alone_in(error):
                self.abort(error)
            raise

    def alone_in(self, error: BaseException) -> bool:
        """Whether other ranks have not failed as this one has, within two seconds; asked once for each exception."""
        known = getattr(error, "_all_ranks", None)
        if self.size == 1 or known is not None:
            return known is False
        request, end = self._aside.Ibarrier(), time.monotonic() + PATIENCE
        while not request.Test():
            if time.monotonic() > end:
                error._all_ranks = False  # type: ignore[attr-defined]
                return True
            time.sleep(0.01)
        error._all_ranks = True  # type: ignore[attr-defined]
        return False

    def abort(self, error: BaseException) -> None:
        """Say on standard error why, and end all processes of the job."""
        text = "" if isinstance(error, FastnnError) else "".join(traceback.format_exception(error))
        why = f"{type(error).__name__}: {error}".rstrip(": ")
        with contextlib.suppress(OSError, ValueError, AttributeError):
            said = f"{text}fastnn: rank {self.rank} of {self.size} has failed, which ends the job: {why}\n"
            console.write(said, sys.__stderr__)
        self.comm.Abort(1)


class Mean:
    """Weighted means of the gradients of `params` over the ranks, Σ wᵣgᵣ / Σ wᵣ, in place and in one exchange.

    All of them lie in one flat array, (size, words + piece): a row goes to the rank that adds this piece, with what the
    sender has to tell in front. Ranks that have something to tell instead of gradients are heard in the same exchange.
    Ranks on one machine read one another's rows where they lie, in shared memory; elsewhere they are sent.

    Attributes:
        seconds: spent in exchanges so far, waiting for slower ranks included.
    """

    updates = False  # the optimiser has yet to step by the means
    TOLD = 5  # numbers, float64: weight, loss times weight, which parameters, failure, signal
    MOST_SHARED = 32 << 20  # bytes of memory that all ranks together share: containers have little
    BLOCK = 1 << 14  # numbers added at a time, so that they stay in the cache

    def __init__(self, world: World, params: Sequence[Any]) -> None:
        self._world, self.seconds = world, 0.0
        dtype = np.result_type(*(p.dtype for p in params))
        words, ranks = self.TOLD * 8 // dtype.itemsize, range(world.size)
        sizes = [p._data.size for p in params]
        piece = -(-sum(sizes) // (2 * world.size)) * 2  # even: rows begin where a float64 may
        self._rows = self._lay_out((world.size, words + piece), (piece,), dtype)
        self._told = self._out[:, :words].view(np.float64)
        self._heard = [row[:words].view(np.float64) for row in self._in]
        self._numbers = [row[words:] for row in self._in]
        self._places: dict[int, tuple[int, list[tuple[slice, Array, Array]]]] = {}
        end = 0
        for number, (p, count) in enumerate(zip(params, sizes, strict=True)):
            start, end = end, end + count
            cuts = [(r, max(start, r * piece), min(end, (r + 1) * piece)) for r in ranks]
            self._places[id(p)] = number, [
                (slice(a - start, b - start), self._out[r, words:][a - r * piece : b - r * piece],
                 self._all[r][a - r * piece : b - r * piece])
                for r, a, b in cuts if a < b
            ]  # fmt: skip

    def _lay_out(self, rows: tuple[int, int], piece: tuple[int], dtype: np.dtype[Any]) -> Any:
        """The rows that go out, those that come in, and the pieces of the mean; returns what holds shared memory."""
        world, size = self._world, (math.prod(rows) + piece[0]) * dtype.itemsize
        if world.on_one_machine and world.size * size <= self.MOST_SHARED:
            from mpi4py import MPI

            window = MPI.Win.Allocate_shared(-(-size // 64) * 64, 1, comm=world.comm)
            window.Lock_all()
            memory: list[Any] = [window.Shared_query(r)[0] for r in range(world.size)]
            every = [np.frombuffer(part, dtype, size // dtype.itemsize) for part in memory]
            cut = math.prod(rows)
            self._out = every[world.rank][:cut].reshape(rows)
            self._in = [other[:cut].reshape(rows)[world.rank] for other in every]
            self._all = [other[cut:] for other in every]
            self._own = self._all[world.rank]
            self._out[...] = 0
            world.comm.Barrier()
            return window
        self._out, self._own = np.zeros(rows, dtype), np.zeros(piece, dtype)
        self._in, self._all = list(np.zeros(rows, dtype)), list(np.zeros((world.size, *piece), dtype))
        return None

    def __call__(
        self, gradients: Sequence[tuple[Any, Array]], weight: float, loss: float, signal: int = 0, summed: bool = False
    ) -> tuple[float, int]:
        """The mean loss and the signal that any rank has got; gradients [(parameter, array)] are means then, too.
        With `summed` it is sums, Σ wᵣgᵣ, not means.

        Raises what another rank has failed with, by `fail`; GraphError where the ranks' gradients are of different
        parameters.
        """
        start = time.perf_counter()
        places = [self._places[id(p)] for p, _ in gradients]
        if len(places) < len(self._places):
            self._out[...] = 0
        for (_, grad), (_, parts) in zip(gradients, places, strict=True):
            flat = grad.reshape(-1)
            for part, row, _ in parts:
                np.multiply(flat[part], flat.dtype.type(weight), out=row)
        self._told[:] = weight, loss * weight, zlib.crc32(bytes(number % 256 for number, _ in places)), 0, signal
        self._exchange()
        weights, losses, reached, _, signals = zip(*(told.tolist() for told in self._heard), strict=True)
        if len(set(reached)) > 1:
            raise GraphError("expected gradients of the same parameters on all ranks, got those of different ones")
        total = 1.0 if summed else sum(weights)
        self._add(1 / total)
        for (_, grad), (_, parts) in zip(gradients, places, strict=True):
            flat = grad.reshape(-1)
            for part, _, mean in parts:
                flat[part] = mean
            if not np.may_share_memory(flat, grad):  # it has gaps
                grad[...] = flat.reshape(grad.shape)
        versions.wrote(*(grad for _, grad in gradients))
        self.seconds += time.perf_counter() - start
        return sum(losses) / total, int(max(signals))

    def place(self, p: Any) -> Array | None:
        """The array that a step writes this parameter's gradient to, or None for any."""
        return None

    def complete(self) -> None:
        """Bring the optimiser's whole state up to date, which it is."""

    def fail(self, error: BaseException) -> None:
        """Take part in the exchange that other ranks are in with an exception, which is raised on all."""
        self._told[:] = 0, 0, 0, 1, 0
        self._exchange(error)

    def close(self) -> None:
        """Give shared memory back; all ranks do so, and use this no more."""
        if self._rows is not None:
            self._rows.Unlock_all()
            self._rows.Free()

    def _exchange(self, error: BaseException | None = None) -> None:
        if self._rows is None:
            self._world.comm.Alltoall(self._out, self._in[0].base)
        else:
            self._meet()
        if any(told[3] for told in self._heard):
            self._world.raise_first(error)

    def _add(self, factor: float) -> None:
        """This rank's piece: the sum over the ranks, in their order, times `factor`; then all have all pieces."""
        own, scale = self._own, self._own.dtype.type(factor)
        for start in range(0, len(own), self.BLOCK):
            block = slice(start, start + self.BLOCK)
            to = own[block]
            np.copyto(to, self._numbers[0][block])
            for other in self._numbers[1:]:
                to += other[block]
            to *= scale
        if self._rows is None:
            self._world.comm.Allgather(own, self._all[0].base)
        else:
            self._meet()

    def _meet(self) -> None:
        """Wait until all ranks have written, and their writes can be seen."""
        self._rows.Sync()
        self._world.meet()
        self._rows.Sync()


def share_cores(node: Any) -> None:
    """Let the ranks of a machine share its cores: each has its own, and as many threads, unless the user has said how
    many, or the launcher has bound them already."""
    try:
        cores = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        cores = list(range(os.cpu_count() or 1))
    if any(other != cores for other in node.allgather(cores)):  # by the launcher
        return
    place, count = node.Get_rank(), node.Get_size()
    mine = cores[place * len(cores) // count : (place + 1) * len(cores) // count]
    chosen = backends.describe()
    if count > 1 and chosen["threads_why"] not in ("FASTNN_NUM_THREADS", "set_num_threads"):
        backends.set_num_threads(max(1, min(len(mine), chosen["threads"] // count)))
    if mine and backends.get_num_threads() <= len(mine) and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, mine)


def _shared() -> int:
    from mpi4py import MPI

    return int(MPI.COMM_TYPE_SHARED)


def _outcome(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except BaseException as error:
        return None, _sendable(error)


def _result(outcome: tuple[Any, BaseException | None]) -> Any:
    found, error = outcome
    if error is not None:
        error._all_ranks = True  # type: ignore[attr-defined]
        raise error
    return found


def _sendable(error: BaseException) -> BaseException:
    """An exception that other processes can read."""
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.distributed", name)
