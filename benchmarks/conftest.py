"""How the benchmarks run and report: compact tables, thread pools of one size, and at the end who was how much faster.

A competitor with a thread pool of its own slows its neighbour while the pool spins: every benchmark waits until the
others' have gone to sleep. For ratios that are to be relied on, let nothing else run.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

THREADS = os.environ.get("FASTNN_NUM_THREADS") or str(len(os.sched_getaffinity(0)))
for pool in ("OPENBLAS", "MKL", "OMP", "NUMBA"):  # read when NumPy, PyTorch and Numba are first imported
    os.environ.setdefault(f"{pool}_NUM_THREADS", THREADS)

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "tests" / "support")]

# Doctests are looked for by importing: PyTorch may not be there, and programs import each other as `benchmarks.…`.
collect_ignore_glob = ["torch_*.py", "versus", "c_export.py", "families.py", "operators.py", "rl.py", "tables.py"]

SECONDS_TO_FALL_ASLEEP = 0.05
# pytest-benchmark's own defaults, and what stands in their place here unless the command line says otherwise.
OPTIONS: dict[str, tuple[Any, Any]] = {
    "benchmark_columns": (None, ["min", "median", "ops"]),
    "benchmark_max_time": ("1.0", "0.2"),
    "benchmark_min_rounds": (5, 3),
    "benchmark_sort": ("min", "min"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    for name, (default, ours) in OPTIONS.items():
        if getattr(config.option, name) == default:
            setattr(config.option, name, ours)


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("benchmark_disable"):
        time.sleep(SECONDS_TO_FALL_ASLEEP)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    from report import lines

    for line in lines(config._benchmarksession.benchmarks):  # type: ignore[attr-defined]
        terminalreporter.write_line(line)
