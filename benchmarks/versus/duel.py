"""Timing contenders in turns, and what came of it.

In every round each contender runs one block, so that a slow minute of the machine is everybody's; ratios are taken
within rounds, and their median is what counts. After two rounds only those go on who may still be the best.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from .fleet import Contender, Fleet, WorkerError
from .peak import Peak
from .workloads import Work

GAP_SECONDS, MOST_GAPS, ASLEEP = 0.03, 10, 0.02  # a thread pool that spins has time to fall asleep, below so many CPUs
TRIAL_ROUNDS = 2
STILL_IN = 1.3  # times the best of the library
WAY_BEHIND = 2.0  # times the best of all libraries
ALWAYS_IN = ("fastnn", "torch", "onnxruntime")  # whose best is always known: there are targets against them
APART = 1e-3  # how far first results may lie apart, of the largest


@dataclass
class Series:
    """One contender's blocks."""

    contender: Contender
    blocks: list[float] = field(default_factory=list)  # median seconds of an iteration, round by round
    least: list[float] = field(default_factory=list)  # likewise, of the fastest iteration
    idle: list[float] = field(default_factory=list)  # CPUs used while others were timed

    @property
    def seconds(self) -> float:
        return statistics.median(self.blocks)


@dataclass
class Duel:
    work: Work
    series: dict[Contender, Series]
    peaks: list[float | None]  # GFLOP/s, read at the beginning of each round
    failures: dict[str, str]
    first_seconds: dict[Contender, float] = field(default_factory=dict)  # of the very first iteration

    def of(self, peer: str, accept: Callable[[Contender], bool] = lambda contender: True) -> list[Series]:
        """The series of a library that ran to the end, best first."""
        rounds = len(self.peaks)
        own = [s for c, s in self.series.items() if c.peer == peer and accept(c) and len(s.blocks) == rounds]
        return sorted(own, key=lambda series: series.seconds)

    def shares_of_peak(self, series: Series, flops: float) -> list[float]:
        """By how much of the FMA peak of its round each block did so many operations an iteration."""
        pairs = zip(series.blocks, self.peaks, strict=True)
        return [flops / seconds / (peak * 1e9) for seconds, peak in pairs if peak]


def ratio(slower: Series, faster: Series) -> float:
    """How many times longer the first takes: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(slower.blocks, faster.blocks, strict=True))


def fight(
    fleet: Fleet, peak: Peak, work: Work, contenders: Sequence[Contender], rounds: int, block_seconds: float
) -> Duel:
    """Time the work by all that can do it."""
    failures: dict[str, str] = {}
    firsts: dict[Contender, list[float]] = {}
    first_seconds: dict[Contender, float] = {}
    for contender in contenders:
        try:
            firsts[contender], first_seconds[contender] = fleet.prepare(contender, work)
        except WorkerError as error:
            failures[str(contender)] = str(error)
    if work.kind != "matmul":
        for contender, problem in _disagreements(firsts).items():
            failures[str(contender)] = problem
            del firsts[contender]
    duel = Duel(work, {contender: Series(contender) for contender in firsts}, [], failures, first_seconds)
    remaining = list(firsts)
    for number in range(rounds):
        if number == TRIAL_ROUNDS:
            remaining = _still_in(duel, remaining)
        duel.peaks.append(peak.sample())
        for contender in list(remaining):
            try:
                times, idle = fleet.block(contender, block_seconds)
            except WorkerError as error:
                failures[str(contender)] = str(error)
                remaining.remove(contender)
                continue
            duel.series[contender].blocks.append(statistics.median(times))
            duel.series[contender].least.append(min(times))
            duel.series[contender].idle.append(idle)
            _let_sleep(fleet, contender)
    fleet.drop()
    return duel


def _let_sleep(fleet: Fleet, contender: Contender) -> None:
    for _ in range(MOST_GAPS):
        time.sleep(GAP_SECONDS)
        if fleet.rest(contender) < ASLEEP:
            break


def _disagreements(firsts: dict[Contender, list[float]]) -> dict[Contender, str]:
    """Everybody has the same images and weights, so first losses and logits must be the same."""
    if not firsts:
        return {}
    reference, expected = next(iter(firsts.items()))
    bound = APART * max(map(abs, expected))
    return {
        contender: f"first result {_short(got)} where {reference} has {_short(expected)}: not the same work"
        for contender, got in firsts.items()
        if len(got) != len(expected) or any(abs(a - b) > bound for a, b in zip(got, expected, strict=True))
    }


def _short(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.4g}" for number in list(numbers)[:3])


def _still_in(duel: Duel, running: list[Contender]) -> list[Contender]:
    """All of fastnn's modes, the best ones of some, and those of others that are near the best of all."""
    seconds = {contender: duel.series[contender].seconds for contender in running}
    remaining = []
    for contender, own in seconds.items():
        rivals = [c for c in seconds if c.peer != "fastnn" and _kind(c) == _kind(contender)]
        of_its_library = [seconds[c] for c in rivals if c.peer == contender.peer]
        near = contender.peer in ALWAYS_IN or own <= WAY_BEHIND * min(seconds[c] for c in rivals)
        if contender.peer == "fastnn" or (near and own <= STILL_IN * min(of_its_library)):
            remaining.append(contender)
    return remaining


def _kind(contender: Contender) -> tuple[bool, int]:
    """Apart from each other: torch.compile and the rest, numbers of threads."""
    return contender.mode.startswith("compile"), contender.threads
