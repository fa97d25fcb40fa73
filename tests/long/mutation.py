"""The tests notice changed code: of 600 mutants, 97 % are killed.

They are 300 of the kernels and 300 of the Python core. A mutant is the source with one small change: an operator, a
bound, a stride, a constant, a call left out. It is killed where a test fails, crashes or hangs on it. `survivors.txt`
holds those that no test can tell from the original, each with the reason.

    python -m tests.long mutation
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from mutants_c import mutants as kernel_mutants
from mutants_python import mutants as python_mutants
from mutation_trials import ROOT, TESTS, try_kernels, try_python, try_softmax

IN_CI = 0.004
EACH = 300
LEAST = 0.97
SEED = 1
UNUSED = ("naive.h", "skeleton.h")  # the first runs under FASTNN_REGION=naive alone, the second is to be copied
FEW = {"random.py": ["tests/test_random.py"]}  # of a short run, with the kernels of softmax: all in seconds


def explained() -> set[tuple[str, str]]:
    """(file, change) of the mutants that compute the same."""
    lines = Path(__file__).with_name("survivors.txt").read_text().splitlines()
    return {tuple(line.split("\t")[:2]) for line in lines if line and not line.startswith("#")}  # type: ignore[misc]


def drawn(files: list[Path], mutants: Any, count: int, seed: int) -> list[Any]:
    every = [mutant for file in sorted(files) for mutant in mutants(ROOT, file.relative_to(ROOT).as_posix())]
    return random.Random(seed).sample(every, count)


def measure(share: float = 1.0, seed: int = SEED) -> str:
    """The share of killed mutants; standard error names each with the test that notices it."""
    count, whole = max(1, round(EACH * share)), share > 0.05
    workers = len(os.sched_getaffinity(0)) if whole else 1
    tests = TESTS if whole else FEW
    folders = [ROOT / "fastnn" / name for name in tests]
    core = [file for folder in folders for file in ([folder] if folder.is_file() else folder.rglob("*.py"))]
    kernels = [
        file
        for file in (ROOT / "kernels").rglob("*.h")
        if (file.name not in UNUSED if whole else file.name == "softmax.h")
    ]
    tried = try_python(drawn(core, python_mutants, count, seed), workers, tests, pass_first=whole)
    chosen = drawn(kernels, kernel_mutants, count, seed)
    tried += try_kernels(chosen, workers) if whole else try_softmax(chosen)
    same = explained()
    counted = [each for each in tried if (each[0].file, f"{each[0].before}  ->  {each[0].after}") not in same]
    survivors = [str(mutant) for mutant, found in counted if not found]
    killed = len(counted) - len(survivors)
    assert killed >= LEAST * len(counted), f"seed {seed}: no test notices\n" + "\n".join(survivors)
    return f"{killed} of {len(counted)} mutants killed ({killed / len(counted):.1%})"
