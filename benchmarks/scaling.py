"""How far each recipe scales over several ranks, computed from what is measured here.

    mpiexec -n 2 python -m benchmarks.scaling            # steps, latency and bandwidth, and what follows from them
    mpiexec -n 2 python -m benchmarks.scaling --check    # the formula against trainings with injected delays
    mpiexec -n 2 python -m benchmarks.scaling --train cnn     # trainings of one rank and of all, in turns

A step of N ranks takes step(B/N) + exchange(N): the gradients of a share, with the update, and

    exchange(N) = 2 · (N - 1) · (latency + bytes / (N · bandwidth)),

since each rank sends N - 1 pieces of bytes / N, adds what it gets, and sends N - 1 pieces of the mean. On one machine
they lie in common memory, and the exchange that is measured makes the optimiser's step, too. Step times are
the fastest of some, measured on all ranks at once, at the batch and at its half, and taken to be linear in the share.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import fastnn as fnn
from fastnn import distributed, recipes
from fastnn.data import Dataset
from fastnn.train import team
from fastnn.train.sharded import exchange_of
from fastnn.train.steps import make_step

RECIPES = ("linear", "mlp", "lenet5", "cnn", "fast")
RANKS = (2, 4, 8, 16)
BATCH = 128
REPEATS = 25


class Network(NamedTuple):
    """What connects the ranks: seconds a message, and bytes a second of each rank."""

    name: str
    latency: float
    bandwidth: float

    def exchange(self, size: float, ranks: int) -> float:
        """Seconds for gradients of so many bytes.

        >>> Network("", 1.0, 10.0).exchange(40.0, 4)
        12.0
        """
        return 2 * (ranks - 1) * (self.latency + size / (ranks * self.bandwidth))


TYPICAL = (Network("10 Gbit/s Ethernet", 30e-6, 1.1e9), Network("1 Gbit/s Ethernet", 50e-6, 0.11e9))


class Steps(NamedTuple):
    """A recipe's step on one rank: seconds at the batch, at half of it, and its gradients' bytes."""

    name: str
    whole: float
    half: float
    size: int

    def at(self, share: float) -> float:
        """Seconds for a share of so many samples.

        >>> Steps("", 3.0, 2.0, 0).at(BATCH / 4)
        1.5
        """
        fixed = max(0.0, 2 * self.half - self.whole)  # below 0 by noise, or by what the cache holds of a half
        return fixed + (self.whole - fixed) * share / BATCH

    def speedup(self, network: Network, ranks: int) -> float:
        """How much faster so many ranks are than one."""
        return self.whole / (self.at(BATCH / ranks) + network.exchange(self.size, ranks))


def best(work: Callable[[], Any]) -> float:
    """The least of the seconds that `work`, begun on all ranks together, takes on the slowest."""
    world, seconds = distributed.world(), []
    for _ in range(REPEATS):
        world.comm.Barrier()
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return float(np.min(np.max(world.together(lambda: seconds), axis=0)))


def steps_of(name: str) -> Steps:
    data = samples()
    recipe = recipes.recipe(name, data, batch_size=BATCH)
    model = recipe.build(data)
    step = make_step(model, recipe.loss(), recipe.optimizer(model), True)
    seconds = [best(lambda n=n: step(data.images[:n], data.labels[:n])) for n in (BATCH, BATCH // 2)]  # type: ignore[misc]
    return Steps(name, *seconds, sum(p.data.nbytes for p in model.parameters()))


def samples() -> Dataset:
    draw = np.random.default_rng(0)
    return Dataset(draw.integers(0, 256, (10_000, 1, 28, 28), np.uint8), draw.integers(0, 10, 10_000), name="random")


def network_here() -> Network:
    """Latency and bandwidth by exchanges of two sizes."""
    world, seconds, sizes = distributed.world(), [], (1000, 1_000_000)
    for count in sizes:
        parameter = fnn.nn.Parameter(np.zeros(count, np.float32))
        exchange = exchange_of(world, [parameter], fnn.optim.SGD([parameter], lr=0.1, momentum=0.9), True)
        grad = np.ones(count, np.float32) if (placed := exchange.place(parameter)) is None else placed
        seconds.append(best(lambda exchange=exchange, p=parameter, grad=grad: exchange([(p, grad)], 1.0, 0.0)))  # type: ignore[misc]
        exchange.close()
    n = world.size
    bandwidth = (sizes[1] - sizes[0]) * 4 * 2 * (n - 1) / n / (seconds[1] - seconds[0])
    return Network(f"this machine, {n} ranks", seconds[0] / (2 * (n - 1)), bandwidth)


def delayed(network: Network) -> Callable[..., Any]:
    """`exchange_of`, with exchanges that take as much more time as this network would."""

    def made(*args: Any) -> Any:
        exchange = exchange_of(*args)

        class Delayed(type(exchange)):  # type: ignore[misc]
            def __call__(self, gradients: Any, *told: Any, **options: Any) -> tuple[float, int]:
                size = sum(grad.nbytes for _, grad in gradients)
                time.sleep(network.exchange(size, distributed.size()))
                found: tuple[float, int] = super().__call__(gradients, *told, **options)
                return found

        exchange.__class__ = Delayed
        return exchange

    return made


class Clock(fnn.train.Callback):
    """When each step was done."""

    only_shows = True

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_batch_end(self, training: fnn.train.Training) -> None:
        self.times.append(time.perf_counter())


def check(here: Network) -> None:
    """Print what a step of trainings takes beside what the formula says, without and with injected delays."""
    data, without = samples().subset(slice(0, 20 * BATCH)), 0.0
    rows = ["| recipe | network | measured, ms a step | computed |", "|---|---|---|---|"]
    for name in ("linear", "mlp"):
        steps = steps_of(name)
        for network in (here, *TYPICAL):
            if network is not here:
                team.exchange_of = delayed(network)  # type: ignore[assignment]
            recipe = recipes.recipe(name, data, batch_size=BATCH)
            model = recipe.build(data)
            clock = Clock()
            fnn.fit(
                model, (data.images, data.labels), loss=recipe.loss(), optimizer=recipe.optimizer(model), epochs=3,
                batch_size=BATCH, distributed=True, verbose=False, callbacks=[clock],
            )  # fmt: skip
            measured = min(np.diff(clock.times), default=0.0)
            ranks = distributed.size()
            if network is here:
                computed, without = steps.at(BATCH / ranks) + here.exchange(steps.size, ranks), measured
            else:
                computed = without + network.exchange(steps.size, ranks)
            rows.append(f"| {name} | {network.name} | {1e3 * measured:.1f} | {1e3 * computed:.1f} |")
        team.exchange_of = exchange_of
    say("\n".join(rows))


def train(name: str) -> None:
    """Print what a step takes of rank 0 by itself and of all ranks, in trainings by turns: least and median."""
    data, world = samples().subset(slice(0, 100 * 64)), distributed.world()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for together in 6 * (False, True):
        world.meet()  # where the others sleep while rank 0 is by itself
        if together or world.rank == 0:
            recipe = recipes.recipe(name, data, batch_size=64)
            model, clock = recipe.build(data), Clock()
            fnn.fit(
                model, (data.images, data.labels), loss=recipe.loss(), optimizer=recipe.optimizer(model), batch_size=64,
                distributed=together, verbose=False, callbacks=[clock],
            )  # fmt: skip
            seconds[together] += np.diff(clock.times)[2:].tolist()
    if world.rank == 0:
        for what, pick in (("least", np.min), ("median", np.median)):
            alone, shared = (1e3 * float(pick(seconds[together])) for together in (False, True))
            say(
                f"{name}, {what} ms a step: one rank {alone:.2f}, {world.size} ranks {shared:.2f}: {alone / shared:.2f}"
            )


def say(text: str) -> None:
    if distributed.rank() == 0:
        print(text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="How far each recipe scales over several ranks.")
    parser.add_argument("--check", action="store_true", help="compare the formula with injected delays")
    parser.add_argument("--train", metavar="RECIPE", help="measure trainings of one rank and of all")
    parser.add_argument("--threads", type=int, default=1, help="of each rank; default 1")
    arguments = parser.parse_args()
    fnn.set_num_threads(arguments.threads)
    if distributed.size() == 1:
        parser.error("start it by mpiexec -n 2 python -m benchmarks.scaling")
    if arguments.train:
        train(arguments.train)
        return
    here = network_here()
    say(f"{here.name}: latency {1e6 * here.latency:.0f} µs, bandwidth {here.bandwidth / 1e9:.2f} GB/s\n")
    if arguments.check:
        check(here)
        return
    networks = (here, *TYPICAL)
    say(f"| recipe, batches of {BATCH} | gradients, MB | step, ms | of half a batch, ms | network | "
        + " | ".join(f"{n} ranks" for n in RANKS) + " |")  # fmt: skip
    say("|---|---|---|---|---|" + "---|" * len(RANKS))
    for name in RECIPES:
        steps = steps_of(name)
        for network in networks:
            speedups = " | ".join(f"{steps.speedup(network, ranks):.2f}" for ranks in RANKS)
            own = f"{name} | {steps.size / 1e6:.2f} | {1e3 * steps.whole:.1f} | {1e3 * steps.half:.1f}"
            say(f"| {own if network is here else ' | | |'} | {network.name} | {speedups} |")


if __name__ == "__main__":
    main()
