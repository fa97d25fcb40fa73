"""`import fastnn` is light: it loads nothing that it may not need, and adds little to NumPy's own import."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn import backends

ROOT = Path(__file__).parent.parent
HEAVY = {"scipy", "numba", "matplotlib", "plotly", "torch", "onnx", "sklearn", "mpi4py", "PIL"}
LATE = {"safetensors", "tqdm", "pooch", "requests", "urllib3", "json", "zipfile", "pathlib", "dataclasses"}
MOST_MILLISECONDS = 60

LOADED = "import sys, fastnn; print(*{name.partition('.')[0] for name in sys.modules})"
SECONDS = """
import time, numpy
start = time.process_time(); import fastnn; print(time.process_time() - start)
"""


def python(program: str, **environment: str) -> str:
    """What a new process of this Python prints, with this environment added."""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.skipif(backends.name() != "native", reason="the other backends are made of other packages")
def test_loads_nothing_heavy() -> None:
    loaded = set(python(LOADED).split())
    assert {"fastnn", "numpy"} <= loaded
    assert loaded & HEAVY == set()
    by_numpy = set(python(LOADED.replace("fastnn", "numpy")).split())
    assert (loaded - by_numpy) & LATE == set(), "to be imported where it is used"


def test_jit_is_loaded_only_when_it_is_used() -> None:
    """The Numba backend costs its half second where it runs, not where fastnn is imported."""
    assert "numba" not in python(LOADED, FASTNN_BACKEND="reference").split()


def test_adds_little_to_the_import_of_numpy() -> None:
    """The median of five quick runs, in CPU time; where others use the caches, of the quickest five of many."""
    seconds: list[float] = []
    for _ in range(25):
        seconds.append(float(python(SECONDS, PYTHONDONTWRITEBYTECODE="")))  # as installed: compiled once, then read
        median = statistics.median(sorted(seconds)[:5])
        if len(seconds) >= 5 and median * 1000 < MOST_MILLISECONDS:
            return
    pytest.fail(f"import fastnn takes {median * 1000:.0f} ms beside NumPy's own, expected {MOST_MILLISECONDS}")
