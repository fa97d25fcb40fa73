"""The closing table: for each group native's time, and how many times longer the others took.

By the least times, but for jit, where it was timed in turns with native: there by the pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

OTHERS = ("naive", "numpy", "jit", "torch", "torch channels_last")

# What the project promises: (what, kernels, start of the case, slower competitor, faster one, at least).
PROMISES = [
    ("the CNN's convolutions", "conv2d", ("N1-C1-H28-W28-O32", "N1-C32"), "naive", "native", 100),
    ("the CNN's convolutions", "conv2d", ("N128-C1-H28-W28-O32", "N128-C32"), "numpy", "native", 3),
    ("matmul 1024^3", "matmul", ("M1024-N1024-K1024",), "numpy", "native", 1),
    ("softmax-cross-entropy", "softmax_cross_entropy", ("",), "numpy", "native", 3),
    ("every kernel", "", ("",), "jit", "native", 0.95),
    ("all convolutions", "conv2d", ("",), "naive", "jit", 5),
]


def lines(benchmarks: Iterable[Any]) -> Iterator[str]:
    """Of finished benchmarks: nothing where native was not among them, or nothing was timed."""
    groups: dict[str, dict[str, Any]] = {}
    for benchmark in benchmarks:
        if benchmark and not benchmark.has_error:
            groups.setdefault(benchmark.group, {})[benchmark.name] = benchmark
    times = {
        group: {name: _least_time(run, runs["native"]) for name, run in runs.items()}
        for group, runs in groups.items()
        if "native" in runs and len(runs) > 1
    }
    if not times:
        return
    width = max(map(len, times))
    yield ""
    yield "How many times native's time the others take"
    yield f"{'':{width}}  native ms   GFLOP/s   GB/s  " + "".join(f"{name.split()[-1]:>10.9}" for name in OTHERS)
    for group, seconds in times.items():
        info, own = groups[group]["native"].extra_info, seconds["native"]
        speeds = f"{info['GFLOP/s']:9.1f}{info['GB/s']:7.1f}" if "GFLOP/s" in info else " " * 16
        ratios = (f"{seconds[name] / own:10.2f}" if name in seconds else " " * 10 for name in OTHERS)
        yield f"{group:{width}}{own * 1e3:11.3f} {speeds}  {''.join(ratios)}"
    yield ""
    yield from _promises(times)


def _least_time(run: Any, native: Any) -> float:
    if "times native" in run.extra_info:
        return run.extra_info["times native"] * native.stats.min
    return run.stats.min


def _promises(times: dict[str, dict[str, float]]) -> Iterator[str]:
    of_kernels = {group: seconds for group, seconds in times.items() if not group.startswith("training")}
    for what, kernels, cases, slower, faster, least in PROMISES:
        ratios = {}
        for group, seconds in of_kernels.items():
            kernel, _, case = group.partition(" ")
            if kernel.startswith(kernels) and case.startswith(cases) and {slower, faster} <= seconds.keys():
                ratios[group] = seconds[slower] / seconds[faster]
        if ratios:
            worst = min(ratios, key=ratios.__getitem__)
            verdict = "met" if ratios[worst] >= least else "NOT MET"
            yield f"{faster} over {slower}, {what}: {ratios[worst]:.2f}x ({worst}); at least {least}x {verdict}"
