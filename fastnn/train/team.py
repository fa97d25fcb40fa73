"""How several processes make one training: each takes its share of every batch, and all make the same update.

Callbacks run on rank 0 alone, and what they do to the training is told to the others. Whatever decides how a training
goes on, such as a signal or an exception, is told in the exchange of gradients, so that all ranks leave it together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastnn import random, versions
from fastnn.data.batches import Share
from fastnn.distributed import Mean, World, world
from fastnn.errors import ArgumentError
from fastnn.interrupts import Interrupts
from fastnn.nn import Module
from fastnn.plan.fewest import fewest_in_training
from fastnn.plan.step import NOTHING_TO_TRAIN
from fastnn.plan.stepping import Reduce

from .callbacks import Callback, Training
from .conditions import fingerprint
from .sharded import Sharded, exchange_of

__all__ = ["Alone", "Team", "team_of"]

_APART = 0x9E3779B97F4A7C15  # between the seeds of two ranks: 2^64 / golden ratio


class Alone:
    """One process, with nobody to tell anything."""

    rank, size = 0, 1
    share: Share | None = None
    summed = False  # whether the loss is a sum, not a mean
    weight = 1.0  # of the present share, in the mean over the ranks
    communication: float | None = None  # the part of the last epoch's seconds that exchanges took

    @property
    def reduce(self) -> Reduce | None:
        """How the processes that share a batch meet in a step."""
        return None

    def callbacks(self, callbacks: Sequence[Callback]) -> Sequence[Callback]:
        """Those that run in this process."""
        return callbacks

    def whole_job(self) -> Any:
        """Context in which all ranks fail together or the job ends."""
        return contextlib.nullcontext()

    def in_step(self) -> Any:
        """Context whose exceptions, where other ranks have none, are followed by `give_up`."""
        return contextlib.nullcontext()

    def guarded(self, step: Any) -> Any:
        """The step, such that what it raises in one process is raised in all."""
        return step

    def give_up(self, error: BaseException) -> None:
        """End the job where the other ranks are not in step."""

    def first(self, work: Callable[[], Any]) -> Any:
        """What `work`, which rank 0 alone does, returns or raises."""
        return work()

    def call(self, callbacks: Sequence[Callback], moment: str, training: Training) -> None:
        """Call the callbacks at one of their moments."""
        for callback in callbacks:
            getattr(callback, moment)(training)

    def images(self, training: Training) -> int:
        """Samples done in the epoch."""
        return training.images

    def begin(self, training: Training, interrupts: Interrupts, samples: Callable[[], Any]) -> None:
        """Before the first epoch, when callbacks have restored what they restore."""

    def end(self, training: Training) -> None:
        """After the callbacks' last moment."""

    def same(self, value: Any) -> Any:
        """Rank 0's value."""
        return value

    def collect(self, value: Any) -> list[Any]:
        """Every rank's value."""
        return [value]

    def part_of(self, number: int) -> slice:
        """Which of so many samples this process measures."""
        return slice(0, number)

    def together(self, work: Callable[[], Any]) -> Any:
        """What `work` returns; its exceptions are raised in all processes."""
        return work()

    def settle(self, training: Training) -> None:
        """At the end of an epoch's updates: buffers, such as running statistics, become the same."""


class Team(Alone):
    """The ranks of an MPI job that train together."""

    def __init__(self, world: World) -> None:
        self.world, self.rank, self.size = world, world.rank, world.size
        self.share: Share = Share(self.rank, self.size)
        self._exchange: Mean | Sharded | None = None
        self._held: set[int] = set()  # ids of the optimiser's parameters
        self._interrupts = Interrupts()
        self._each_batch = False  # whether callbacks that run after each batch may change how it goes on
        self._in_step = True  # whether the other ranks still do what this one does
        self._seconds = 0.0

    def callbacks(self, callbacks: Sequence[Callback]) -> Sequence[Callback]:
        return callbacks if self.rank == 0 else []

    def whole_job(self) -> Any:
        return self.world.in_step()

    @contextlib.contextmanager
    def in_step(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._in_step = not self.world.alone_in(error)
            raise

    def give_up(self, error: BaseException) -> None:
        if not self._in_step:
            self.world.abort(error)

    def first(self, work: Callable[[], Any]) -> Any:
        if not self._in_step:
            return work()
        self._complete()
        return self.world.from_first(work)

    # ---- a step --------------------------------------------------------------------------------------------------

    @property
    def reduce(self) -> Reduce:
        return self

    @property
    def updates(self) -> bool:
        """Whether an exchange makes the optimiser's step, too."""
        return self._exchange is not None and self._exchange.updates

    def place(self, p: Any) -> Any:
        """The array that a step writes this parameter's gradient to, or None for any."""
        return None if self._exchange is None else self._exchange.place(p)

    def __call__(self, gradients: Sequence[tuple[Any, Any]], loss: float) -> float:
        """Makes the means over the ranks of gradients, in place, or the step by them; returns the mean loss."""
        assert self._exchange is not None
        interrupts, gradients = self._interrupts, [pair for pair in gradients if id(pair[0]) in self._held]
        loss, signal = self._exchange(gradients, self.weight, loss, interrupts.caught or 0, summed=self.summed)
        if signal:
            interrupts.caught, interrupts.patient = signal, False
        return loss

    def guarded(self, step: Any) -> Any:
        return _Guarded(step, self)

    def fail(self, error: BaseException) -> None:
        """Tell the ranks that wait in `reduce`."""
        if self._exchange is not None and not getattr(error, "_all_ranks", False):
            self._exchange.fail(error)

    def _complete(self) -> None:
        if self._exchange is not None:
            self._exchange.complete()

    # ---- what becomes of a training ------------------------------------------------------------------------------

    def call(self, callbacks: Sequence[Callback], moment: str, training: Training) -> None:
        def work() -> Any:
            super(Team, self).call(callbacks, moment, training)
            return training.stopped, [{**group, "params": []} for group in training.optimizer.param_groups]

        if moment == "on_batch_end" and not self._each_batch:
            super().call(callbacks, moment, training)
            return
        self._complete()
        training.stopped, groups = self.world.from_first(work)
        for group, options in zip(training.optimizer.param_groups, groups, strict=True):
            group.update({**options, "params": group["params"]})

    def images(self, training: Training) -> int:
        batches, whole = training.batches, training.batch * training.batches.batch_size
        return whole if batches.drop_last or training.batch < len(batches) else batches.count

    def begin(self, training: Training, interrupts: Interrupts, samples: Callable[[], Any]) -> None:
        batches, scheduler = training.batches, training.scheduler
        data = self.world.together(lambda: (batches.count, fingerprint(batches.images, batches.labels)))
        if len(set(data)) > 1:
            counts = ", ".join(str(count) for count, _ in data)
            raise ArgumentError(
                "fit: expected the same training data on all ranks, which take their shares themselves, got "
                f"{counts} samples on ranks 0 to {self.size - 1}" + (", not the same" if len(set(counts)) == 1 else "")
            )
        self._follow(training)
        state = self.world.from_first(
            lambda: (
                training.optimizer.state_dict(),
                None if scheduler is None else scheduler.state_dict(),
                (batches.seed, batches.epoch, training.epoch, training.history, training.stopped),
                any(
                    type(callback).on_batch_end is not Callback.on_batch_end and not callback.only_shows
                    for callback in training.callbacks
                ),
            )
        )
        if self.rank:
            training.optimizer.load_state_dict(state[0])
            if scheduler is not None:
                scheduler.load_state_dict(state[1])
            batches.seed, batches.epoch, training.epoch, training.history, training.stopped = state[2]
        self._each_batch = state[3]
        seed = random.get_state()
        random.set_state({**seed, "seed": (seed["seed"] + self.rank * _APART) % 2**64})
        self.share.fewest = fewest_in_training(training.model, samples)
        params = [p for group in training.optimizer.param_groups for p in group["params"] if p.requires_grad]
        if not params:
            raise ArgumentError(NOTHING_TO_TRAIN)
        self._held = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
        compiled = training.compile and isinstance(training.model, Module)
        self._exchange = exchange_of(self.world, params, training.optimizer, compiled)
        self._interrupts, interrupts.patient = interrupts, True

    def settle(self, training: Training) -> None:
        """Buffers become their means over the ranks: running statistics follow each rank's own shares until then."""
        for buffer in _buffers(training.model):
            every = np.stack(self.world.comm.allgather(buffer))
            if buffer.dtype.kind == "f" and (every != every[0]).any():
                buffer[...] = every.mean(axis=0, dtype=np.float64)
                versions.wrote(buffer)
        if self._exchange is not None:
            self._exchange.complete()
            self.communication = (self._exchange.seconds - self._seconds) / max(training.seconds, 1e-9)
            self._seconds = self._exchange.seconds

    def end(self, training: Training) -> None:
        if not self._in_step:
            return
        if self._exchange is not None:
            self._exchange.close()
            self._exchange = None
        self._follow(training)
        training.history = self.same(training.history)
        self._interrupts.caught = max(self.collect(self._interrupts.caught or 0)) or None

    def _follow(self, training: Training) -> None:
        """Take rank 0's model and random numbers."""
        arrays = [*(p.data for p in training.model.parameters()), *_buffers(training.model)]
        for array, first in zip(arrays, self.same(arrays), strict=True):
            array[...] = first
        versions.wrote(*arrays)
        random.set_state(self.same(random.get_state()))

    # ---- numbers -------------------------------------------------------------------------------------------------

    def same(self, value: Any) -> Any:
        return self.world.from_first(lambda: value)

    def collect(self, value: Any) -> list[Any]:
        return self.world.together(lambda: value)

    def part_of(self, number: int) -> slice:
        share = Share(self.rank, self.size, fewest=2)
        part = share.of(0, number)
        return slice(part.start, part.start) if share.again else part

    def together(self, work: Callable[[], Any]) -> Any:
        mine: list[Any] = []
        self.world.together(lambda: mine.append(work()))
        return mine[0]


class _Guarded:
    """A step whose exceptions are told to the ranks that wait for its gradients."""

    def __init__(self, step: Any, team: Team) -> None:
        self._step, self._team = step, team
        self.prepare = step.prepare

    @property
    def outputs(self) -> Any:
        return self._step.outputs

    def __call__(self, x: Any, y: Any) -> float:
        try:
            return float(self._step(x, y))
        except BaseException as error:
            self._team.fail(error)
            raise


def team_of(distributed: bool) -> Alone:
    """All ranks, where that is asked for and there are several."""
    if not distributed:
        return Alone()
    found = world()
    return Team(found) if found.size > 1 else Alone()


def _buffers(model: Any) -> list[Any]:
    return list(model.buffers()) if isinstance(model, Module) else []
