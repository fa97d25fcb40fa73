"""Every kernel of the interface, native and jit, beside NumPy and PyTorch.

Each competitor's result is compared with vectorised NumPy's before it is timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from competitors import OTHER_NUMBERS, Group, groups, inputs_and_results, prepare
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
    benchmark.extra_info.update(kernel=kernel.name, competitor=competitor)
    if benchmark.stats:
        seconds = benchmark.stats.stats.min
        benchmark.extra_info["GFLOP/s"] = kernel.flops(a) / seconds / 1e9
        benchmark.extra_info["GB/s"] = bytes_moved(a, expected) / seconds / 1e9
