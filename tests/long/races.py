"""The kernels' threads do not race.

The pool of threads without Python (tests/kernels_c/pool.c) under ThreadSanitizer, and under the sanitizers of addresses
and of undefined behaviour; at full length also the kernels of every instruction set of this CPU, with one thread and
with three.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

IN_CI = 0.05

ROOT = Path(__file__).parents[2]
ROUNDS = 4000
# A fixed layout of addresses: ThreadSanitizer does not know what newer kernels of Linux draw.
FIXED = ["setarch", "-R"] if shutil.which("setarch") else []


def _run(what: str, *command: object, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=3600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{what}: {' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def pool(rounds: int, sanitizers: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "pool")
        sources = ["tests/kernels_c/pool.c", *sorted((ROOT / "kernels/base").glob("*.c"))]
        options = ["-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Ikernels", "-pthread", "-fno-sanitize-recover=all"]
        compiler = os.environ.get("CC", "gcc")
        _run("compiling", compiler, f"-fsanitize={sanitizers}", *options, *sources, "-o", program)
        _run(f"the pool of threads, sanitizers {sanitizers}", *FIXED, program, rounds)


def measure(share: float = 1.0) -> str:
    rounds = round(share * ROUNDS)
    for sanitizers in ("thread", "address,undefined"):
        pool(rounds, sanitizers)
    found = [f"{rounds} rounds of 3 callers of the pool"]
    if share >= 1:
        from fastnn import _kernels

        for isa in _kernels.isas():
            under = " ".join(FIXED)
            last = _run(f"kernels of {isa}", ".ci/kernels", isa, SANITIZE="thread", OPTIMIZE="-O1", UNDER=under)
            found.append(last.splitlines()[-1].replace(",", " and"))
    return f"no race in {', '.join(found)}"
