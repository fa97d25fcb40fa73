"""Fails when a kernel or a training step has become slower: ``python -m benchmarks.guard``.

Times every kernel, the steps of cnn, lenet5 and mlp, and steps and single inputs of some networks of the zoo
(versus/zoo.py), in turns with vectorised NumPy doing the same, in one process and on one thread, so that neighbours on
the machine slow both. The ratio of the least times is compared with the one in
recorded_ratios.json, where ``--record`` has written it, by instruction set and CPU: below 0.7 of it is a failure, when
three more and longer tries have not changed it. On a CPU without a record, below half of the least of the others',
those with its instruction set before all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORD = HERE / "recorded_ratios.json"
KNOWN_CPU, OTHER_CPU = 0.7, 0.5  # of the recorded ratio, at least
ROUNDS, TRIES, GROWTH = 5, 3, 3  # each further try takes so many times as many rounds
RECORDED_PASSES = 5  # over all cases; the least ratio of each is recorded
BLOCK_SECONDS = 5e-3  # that short calls are repeated for
STEP_BATCHES = {"cnn": 16, "lenet5": 64, "mlp": 128}
ZOO_BATCHES = {"residual": 4, "separable": 2, "strided-leaky": 16, "lenet-tanh": 32, "policy": 64}

Call = Callable[[], Any]
Records = dict[str, dict[str, dict[str, float]]]  # ISA, CPU, case: how many times NumPy's time is fastnn's


@dataclass(frozen=True)
class Case:
    """The same work by fastnn and by NumPy; both are made anew when they are asked for."""

    name: str
    make: Callable[[], tuple[Call, Call]]


# ---- judging ---------------------------------------------------------------------------------------------------------


def bound(records: Records, isa: str, cpu: str, case: str) -> float | None:
    """The least ratio that is no failure; None where nothing is recorded."""
    by_cpu = records.get(isa, {})
    if case in by_cpu.get(cpu, {}):
        return KNOWN_CPU * by_cpu[cpu][case]
    others = [ratios[case] for ratios in by_cpu.values() if case in ratios]
    if by_cpu and not others:  # the case is newer than the last record for this instruction set
        others = [ratios[case] for of_isa in records.values() for ratios in of_isa.values() if case in ratios]
    return OTHER_CPU * min(others) if others else None


def measure(case: Case, rounds: int) -> float:
    """The ratio, by new arrays: where they happen to lie in memory matters."""
    ours, numpys = case.make()
    ours()
    numpys()
    return ratio(ours, numpys, rounds)


def slower(bounds: Mapping[Case, float], walk: Callable[[list[Case]], Iterable[Case]] = iter) -> dict[Case, float]:
    """The cases that stay below their bounds, with the best ratio each has reached.

    Those below are measured again when all others have been, with more rounds each time.
    """
    best: dict[Case, float] = {}
    remaining, rounds = list(bounds), ROUNDS
    for _ in range(1 + TRIES):
        for case in walk(remaining):
            best[case] = max(measure(case, rounds), best.get(case, 0))
        remaining = [case for case in remaining if best[case] < bounds[case]]
        rounds *= GROWTH
    return {case: best[case] for case in remaining}


def ratio(ours: Call, numpys: Call, rounds: int) -> float:
    """Least time of NumPy over least time of fastnn, in turns; a short call is repeated within a turn."""
    repeats = {call: max(1, int(BLOCK_SECONDS / max(_seconds(call, 1), 1e-7))) for call in (ours, numpys)}
    times: dict[Call, list[float]] = {ours: [], numpys: []}
    for _ in range(rounds):
        for call, own in times.items():
            own.append(_seconds(call, repeats[call]))
    return min(times[numpys]) / min(times[ours])


def _seconds(call: Call, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


# ---- what is measured ------------------------------------------------------------------------------------------------


def cases() -> Iterator[Case]:
    """Every kernel, by all cases of its benchmarks; then the steps, and the networks of the zoo."""
    from op_cases import KERNELS, case_id

    for kernel in KERNELS.values():
        for case in map(_smaller, kernel.benchmarks):
            yield Case(f"{kernel.name} {case_id(case)}", partial(_kernel, kernel, case))
    import fastnn as fnn

    for model, batch in STEP_BATCHES.items():
        for mode in ("eager", "compiled") if hasattr(fnn, "compile") else ("eager",):
            yield Case(f"{model} step, {mode}, batch {batch}", partial(_steps, model, batch, mode))
    for name, batch in ZOO_BATCHES.items():
        yield Case(f"zoo {name} step, compiled, batch {batch}", partial(_zoo_steps, name, batch))
        yield Case(f"zoo {name} inference, frozen, one input", partial(_zoo_inferences, name))


def _kernel(kernel: Any, case: Mapping[str, Any]) -> tuple[Call, Call]:
    from competitors import prepare
    from op_cases import arguments

    given = arguments(kernel, case)
    return prepare("native", kernel, given).call, prepare("numpy", kernel, given).call


def _smaller(case: Mapping[str, Any]) -> dict[str, Any]:
    """With fewer images or rows, where NumPy would take a second."""
    if case.get("N", 0) >= 128 and "H" in case:
        return {**case, "N": 8}
    if case.get("M", 0) > 4096:
        return {**case, "M": 4096}
    return dict(case)


def _steps(model: str, batch: int, mode: str) -> tuple[Call, Call]:
    return _step(model, batch, mode), _step(model, batch, "numpy")


def _step(model: str, batch: int, mode: str) -> Call:
    import fastnn as fnn
    from fastnn import nn, optim, recipes

    digits = fnn.data.load("digits")
    fnn.manual_seed(0)
    layers = recipes.recipe(model, digits).build(digits)
    optimizer = optim.SGD(layers.parameters(), lr=0.001, momentum=0.9)
    return _step_of(layers, nn.CrossEntropyLoss(), optimizer, digits.images[:batch], digits.labels[:batch], mode)


def _zoo_steps(name: str, batch: int) -> tuple[Call, Call]:
    return _zoo_step(name, batch, "compiled"), _zoo_step(name, batch, "numpy")


def _zoo_step(name: str, batch: int, mode: str) -> Call:
    import numpy as np

    from .versus import fastnn_model

    network, model = _zoo_network(name)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *network.shape), np.float32)
    optimizer = fastnn_model.optimizer_of(network, model)
    targets = rng.integers(network.outputs, size=batch)
    return _step_of(model, fastnn_model.loss_of(network), optimizer, x, targets, mode)


def _zoo_inferences(name: str) -> tuple[Call, Call]:
    import numpy as np

    import fastnn as fnn

    network, model = _zoo_network(name)
    predict: Any = fnn.compile(model.eval(), frozen=True)
    x = np.random.default_rng(0).standard_normal((1, *network.shape), np.float32)

    def by_numpy() -> None:
        with _on_the_reference(), fnn.no_grad():
            model(x)

    return lambda: predict(x), by_numpy


def _zoo_network(name: str) -> tuple[Any, Any]:
    """A network of the zoo and fastnn's model of it."""
    import fastnn as fnn

    from .versus.fastnn_model import build
    from .versus.zoo import ZOO

    fnn.manual_seed(0)
    return ZOO[name].network, build(ZOO[name].network)


def _step_of(model: Any, loss_fn: Any, optimizer: Any, x: Any, y: Any, mode: str) -> Call:
    """The step compiled, operator by operator ("eager"), or so by the reference ("numpy")."""
    import fastnn as fnn

    if mode == "compiled":
        step: Any = fnn.compile(model, loss_fn, optimizer)
        return lambda: step(x, y)

    def by_operators() -> None:
        loss = loss_fn(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    if mode == "eager":
        return by_operators

    def by_numpy() -> None:
        with _on_the_reference():
            by_operators()

    return by_numpy


@contextmanager
def _on_the_reference() -> Iterator[None]:
    """Several backends in one process, where users have FASTNN_BACKEND."""
    from fastnn import backends

    kept = backends._choice
    backends._choice = lambda: ("reference", "guard")  # type: ignore[assignment]
    try:
        yield
    finally:
        backends._choice = kept


# ---- the program -----------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guard", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write the ratios instead, the least of five of each")
    parser.add_argument("-k", metavar="TEXT", default="", help="only what has this in its name")
    arguments = parser.parse_args()
    for pool in ("FASTNN", "OMP", "OPENBLAS", "MKL", "NUMBA"):  # before NumPy is imported
        os.environ[f"{pool}_NUM_THREADS"] = "1"
    sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "support")]
    from tqdm import tqdm

    from fastnn import backends

    isa, cpu = backends.describe()["isa"], cpu_name()
    if isa is None:
        print("fastnn runs without its compiled kernels here: nothing to guard", file=sys.stderr)
        return 2
    chosen = [case for case in cases() if arguments.k in case.name]
    records: Records = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if arguments.record:
        own = records.setdefault(isa, {}).setdefault(cpu, {})
        if not arguments.k:
            own.clear()  # of cases that are no more
        for case in chosen:  # what is faster now may rise
            own.pop(case.name, None)
        for case in tqdm(chosen * RECORDED_PASSES, unit="case", leave=False):
            own[case.name] = float(f"{min(measure(case, ROUNDS), own.get(case.name, math.inf)):.3g}")
        RECORD.write_text(json.dumps(records, indent=1, sort_keys=True) + "\n")
        print(f"recorded {len(chosen)} ratios for {isa} on {cpu} in {RECORD.name}")
        return 0
    bounds = {case: bound(records, isa, cpu, case.name) for case in chosen}
    known = {case: least for case, least in bounds.items() if least is not None}
    slow = slower(known, lambda cases: tqdm(cases, unit="case", leave=False))
    unknown = [case.name for case in chosen if case not in known]
    if unknown:
        print(f"nothing recorded for {isa}: {', '.join(unknown)}; python -m benchmarks.guard --record", file=sys.stderr)
    for case, best in slow.items():
        print(f"{case.name}: {best:.3g} times as fast as NumPy, expected at least {known[case]:.3g}", file=sys.stderr)
    compared = "on this CPU" if cpu in records.get(isa, {}) else "on other CPUs"
    print(f"{len(known) - len(slow)} of {len(chosen)} are as fast as recorded {compared} ({isa}, {cpu})")
    return 1 if slow or unknown else 0


def cpu_name() -> str:
    """The make of the processor, as one that has the same kernels' speed: vendor, family, model."""
    info = Path("/proc/cpuinfo")
    read: dict[str, str] = {}
    if info.exists():
        for line in info.read_text().split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            read[name.strip()] = value.strip()
    if "cpu family" in read:
        return f"{read['vendor_id']} family {read['cpu family']} model {read['model']}"
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
