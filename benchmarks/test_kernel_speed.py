"""Every kernel of the interface, native and jit, beside NumPy and PyTorch.

Each competitor's result is compared with vectorised NumPy's before it is timed. Native and jit, which are close on some
kernels, are timed in turns once more: on a machine that others use too, only the ratio of neighbouring runs is good.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from competitors import INSTALLED, OTHER_NUMBERS, Group, groups, inputs_and_results, prepare
from op_description import bytes_moved

RUNS = [
    pytest.param(group, name, id=f"{str(group).replace(' ', '-')}-{name}")
    for group in groups()
    for name in group.competitors()
]
NAIVE_ROUNDS = 2


@pytest.mark.parametrize(("group", "competitor"), RUNS)
def test_kernel(benchmark: Any, group: Group, competitor: str) -> None:
    kernel = group.kernel
    a, expected = inputs_and_results(group)
    run = prepare(competitor, kernel, a)
    if (competitor, kernel.name) not in OTHER_NUMBERS:
        for got, right in zip(run.results(), expected, strict=True):
            np.testing.assert_allclose(got, right, rtol=0, atol=1e-4 * max(np.abs(right).max(), 1))
    benchmark.group, benchmark.name = str(group), competitor
    if competitor == "naive":
        benchmark.pedantic(run.call, rounds=NAIVE_ROUNDS)
    else:
        benchmark(run.call)
    if benchmark.stats:
        seconds = benchmark.stats.stats.min
        benchmark.extra_info["GFLOP/s"] = kernel.flops(a) / seconds / 1e9
        benchmark.extra_info["GB/s"] = bytes_moved(a, expected) / seconds / 1e9
        if competitor == "jit" and INSTALLED["native"]:
            native = prepare("native", kernel, a)
            benchmark.extra_info["times native"] = ratio_in_turns(native.call, run.call)


def ratio_in_turns(first: Callable[[], Any], second: Callable[[], Any]) -> float:
    """How many times longer the second takes: the median over pairs of runs, each of a millisecond or one call."""

    def seconds(call: Callable[[], Any], calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return time.perf_counter() - start

    calls = max(1, int(1e-3 / min(seconds(first, 1) for _ in range(3))))
    ratios: list[float] = []
    started = time.perf_counter()
    while len(ratios) < 5 or (time.perf_counter() - started < 0.2 and len(ratios) < 51):
        own = seconds(first, calls)
        ratios.append(seconds(second, calls) / own)
    return statistics.median(ratios)
