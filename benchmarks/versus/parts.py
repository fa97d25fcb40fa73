"""The parts of a run that time works in turns: steps, inferences, the machine's peak, threads, ablation.

Each is a function of the bench and of how to report progress; it adds rows to the tables and raw numbers for JSON.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from .duel import Duel, Series, fight, ratio
from .fleet import PEERS, Contender
from .settings import Bench, contenders, has_target
from .table import Row, at_least, time_of
from .workloads import (
    ABLATED,
    DENSE_TIME_TARGET,
    DENSE_TIME_WORK,
    EAGER_TARGETS,
    INFERENCE_BATCHES,
    INFERENCE_TARGETS,
    MATMUL,
    MATMUL_TARGETS,
    MODELS,
    SCALING_TARGETS,
    TARGETS,
    Work,
    works,
)

Progress = Callable[[str], None]  # told what comes next

STEPS, EAGER, INFERENCE = "Training steps", "Operator by operator", "Inference"
PEAK, THREADS, ABLATION = "Against the machine", "Threads", "What each idea gave"


def step_works(bench: Bench) -> list[Work]:
    return list(works("step", bench.settings.workloads, bench.settings.batches))


def inference_works(bench: Bench) -> list[Work]:
    batches = tuple(batch for batch in INFERENCE_BATCHES if batch in bench.settings.batches)
    return list(works("inference", bench.settings.workloads, batches))


def steps(bench: Bench, progress: Progress) -> None:
    for work in step_works(bench):
        progress(str(work))
        duel = run(bench, work, contenders(bench.settings, work, MODELS.get(work.model)))
        add(bench, STEPS, compare(bench, duel, "compiled", TARGETS.get(work)))
        add(bench, EAGER, compare(bench, duel, "eager", EAGER_TARGETS.get(work), _is_eager))
        if work == DENSE_TIME_WORK:
            add(bench, PEAK, _dense_time(duel, "compiled" if bench.settings.compiled else "eager"))


def _is_eager(contender: Contender) -> bool:
    """Whether it runs operator by operator, as fastnn does without compile."""
    return contender.peer == "torch" and contender.mode != "compile"


def inference(bench: Bench, progress: Progress) -> None:
    """Of a model that no longer changes, as the peers' are, and of one whose parameters are read anew in each call."""
    modes = ["frozen", "compiled"] if bench.settings.compiled else ["eager"]
    for work in inference_works(bench):
        progress(str(work))
        duel = run(bench, work, contenders(bench.settings, work, MODELS.get(work.model)))
        target = INFERENCE_TARGETS.get(work) if "onnxruntime" in bench.settings.peers else None
        aimed = target is not None and bool(duel.of("onnxruntime"))
        for mode in modes:
            row = compare(bench, duel, mode, None if mode == "compiled" else target, _is_onnx if aimed else anyone)
            if row is not None and mode == "compiled":
                row.work += ", live parameters"
            add(bench, INFERENCE, row)
        if aimed and any(duel.of(peer) for peer in bench.settings.peers if peer != "onnxruntime"):
            add(bench, INFERENCE, compare(bench, duel, modes[0], None, lambda c: c.peer != "onnxruntime"))


def _is_onnx(contender: Contender) -> bool:
    return contender.peer == "onnxruntime"


def anyone(contender: Contender) -> bool:
    return True


def matmul(bench: Bench, progress: Progress) -> None:
    work = Work("matmul")
    progress(str(work))
    duel = run(bench, work, contenders(bench.settings, work, MODELS.get(work.model)))
    add(bench, EAGER, compare(bench, duel, "eager", None))
    own, shares = ours(duel, "eager"), []
    if own is not None:
        shares = duel.shares_of_peak(own, 2.0 * MATMUL**3)
    if not shares:
        return
    share, target = statistics.median(shares), MATMUL_TARGETS.get(bench.settings.isa)
    row = Row(f"{work}, share of the FMA peak", f"{100 * share:.0f} %")
    if target is not None:
        row.target, row.met = f"≥ {100 * target:.0f} %", share >= target
    add(bench, PEAK, row)


def _dense_time(duel: Duel, mode: str) -> Row | None:
    """The step against its dense arithmetic at the peak that was read between the blocks."""
    own = ours(duel, mode)
    shares = duel.shares_of_peak(own, MODELS[duel.work.model].step_flops * duel.work.batch) if own is not None else []
    if not shares:
        return None
    value = statistics.median(1 / share for share in shares)
    name = f"{duel.work}, time against dense arithmetic at the FMA peak"
    return Row(name, f"{value:.2f}", target=f"≤ {DENSE_TIME_TARGET:g}", met=value <= DENSE_TIME_TARGET)


def threads(bench: Bench, progress: Progress) -> None:
    """One thread against all, fastnn and, beside it, PyTorch."""
    settings = bench.settings
    if settings.threads == 1:
        return
    mode = "compiled" if settings.compiled else "eager"
    for work, target in SCALING_TARGETS.items():
        progress(f"{work} on 1 and {settings.threads} threads")
        modes = [("fastnn", mode)] + [("torch", "channels_last")] * ("torch" in settings.peers)
        everybody = [Contender(peer, mode, count) for peer, mode in modes for count in (1, settings.threads)]
        duel = run(bench, work, everybody, "threads")
        for peer, _ in modes:
            one = duel.of(peer, lambda c: c.threads == 1)
            all_of_them = duel.of(peer, lambda c: c.threads > 1)
            if one and all_of_them:
                gain = ratio(one[0], all_of_them[0])
                name = f"{work}, 1 → {settings.threads} threads{'' if peer == 'fastnn' else f', {PEERS[peer]}'}"
                row = Row(name, f"{time_of(one[0].seconds)} → {time_of(all_of_them[0].seconds)}", ratio=gain)
                add(bench, THREADS, at_least(row, target if peer == "fastnn" and settings.threads == 2 else None))


def ablation(bench: Bench, progress: Progress) -> None:
    """The compiled steps again, each time without one of the fusions."""
    gave: dict[str, dict[str, float]] = {}
    for work in ABLATED:
        if work.model not in bench.settings.workloads or not bench.settings.fusions:
            continue
        progress(f"{work} without one idea at a time")
        modes = ["compiled", *(f"compiled without {name}" for name in bench.settings.fusions)]
        duel = run(bench, work, [Contender("fastnn", mode, bench.settings.threads) for mode in modes], "ablation")
        whole = ours(duel, "compiled")
        for name in bench.settings.fusions:
            series = ours(duel, f"compiled without {name}")
            if whole is not None and series is not None:
                gave.setdefault(name, {})[str(work)] = ratio(series, whole)
    if gave:
        bench.raw["ablation ratios"] = gave


# ---- helpers ---------------------------------------------------------------------------------------------------------


def run(bench: Bench, work: Work, everybody: list[Contender], part: str = "works") -> Duel:
    """Time a work; failures and raw numbers go into the bench."""
    settings = bench.settings
    rounds = settings.rounds if has_target(work) else settings.other_rounds
    duel = fight(bench.fleet, bench.peak, work, everybody, rounds, settings.block_seconds)
    for name, failure in duel.failures.items():
        bench.failed(name, failure, work)
    bench.raw.setdefault(part, []).append(_raw(duel))
    return duel


def _raw(duel: Duel) -> dict[str, Any]:
    series = [
        {
            **dataclasses.asdict(contender),
            "median_seconds": own.seconds,
            "block_medians": own.blocks,
            "block_minima": own.least,
            "idle_cpus": own.idle,
            "first_seconds": duel.first_seconds[contender],
        }
        for contender, own in duel.series.items()
        if own.blocks
    ]
    return {"work": str(duel.work), "peak_gflops": duel.peaks, "series": series}


def ours(duel: Duel, mode: str) -> Series | None:
    found = duel.of("fastnn", lambda contender: contender.mode == mode)
    return found[0] if found else None


def compare(
    bench: Bench, duel: Duel, mode: str, target: float | None, accept: Callable[[Contender], bool] = anyone
) -> Row | None:
    """fastnn in one mode against the best series of those accepted."""
    own = ours(duel, mode)
    if own is None:
        return None
    others = best(duel, bench.settings.peers, accept)
    row = Row(str(duel.work), time_of(own.seconds))
    if others is not None:
        row.peer, row.theirs, row.ratio = str(others.contender), time_of(others.seconds), ratio(others, own)
    return at_least(row, target)


def best(duel: Duel, peers: Iterable[str], accept: Callable[[Contender], bool]) -> Series | None:
    found = [series for peer in peers for series in duel.of(peer, accept)]
    return min(found, key=lambda series: series.seconds, default=None)


def add(bench: Bench, title: str, row: Row | None) -> None:
    if row is not None:
        bench.rows.setdefault(title, []).append(row)
