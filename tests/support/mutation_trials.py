"""Tries mutants against the tests.

Of the Python core in a copy of the tree, of the kernels in one build that has them all.
"""

from __future__ import annotations

import os
import platform
import queue
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mutants_c
import mutants_python

ROOT = Path(__file__).parents[2]
NOT_COPIED = shutil.ignore_patterns(
    ".git", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".benchmarks"
)
SECONDS_IN_C = 60
SECONDS = 600  # a mutant that the tests take longer for hangs: it is noticed
# Which tests are tried on a mutant of a folder, those that find most of them first; a module's own doctests come
# before them.
TESTS = {
    "autograd": ["tests/autograd", "tests/ops", "tests/nn"],
    "data": ["tests/data", "tests/cli", "tests/test_preparation.py"],
    "nn": ["tests/nn", "tests/ops", "tests/test_weights.py", "tests/test_against_torch_networks.py"],
    "ops": [
        "tests/ops",
        "tests/autograd",
        "tests/nn",
        "tests/plan/test_plan_operators.py",
        "tests/test_against_torch_networks.py",
    ],
    "optim": ["tests/optim", "tests/test_against_torch_training.py", "tests/plan/test_plan_steps.py", "tests/train"],
    "plan": ["tests/plan", "tests/train", "tests/ops", "tests/nn"],
    "schedules": ["tests/optim", "tests/train"],
    "train": ["tests/train", "tests/test_recipes.py", "tests/cli", "tests/test_files_writing.py"],
}
KERNEL_TESTS = ["tests/backends", "tests/plan", "tests/ops", "tests/nn", "tests/optim"]
ONE_TABLE = "not jit and not native-baseline and not reference]"  # every instruction set's is the mutated one's
PART = """
#include "base/simd.h"
#include "ops/softmax.h"
#include "common.h"
#include "operators.h"
int main(void) {
    const struct kernels k = {.softmax_forward = softmax_forward, .softmax_backward_input = softmax_backward_input,
        .log_softmax_forward = log_softmax_forward, .log_softmax_backward_input = log_softmax_backward_input};
    check_softmax(&k);
    return failures > 0;
}
"""
ISA = "neon" if platform.machine() in ("aarch64", "arm64") else "avx2"
OPTIONS = ["-fPIC", "-fvisibility=hidden", *(["-mavx2", "-mfma"] if ISA == "avx2" else [])]


def environment(tree: Path, **more: str) -> dict[str, str]:
    paths = os.pathsep.join([str(tree), str(tree / "tests/support")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **more}


def fails(tree: Path, tests: Sequence[str], **more: str) -> str:
    """The first of ``tests`` that does not pass in ``tree``, in words; empty where all do."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        *tests,
    ]
    with tempfile.TemporaryFile("w+") as said:
        run = subprocess.Popen(
            command,
            cwd=tree,
            env=environment(tree, **more),
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = run.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return "takes too long"
        finally:
            stop(run)
        said.seek(0)
        lines = said.read().splitlines()
    named = [line for line in lines if line.startswith(("FAILED", "ERROR"))] or lines[-1:]
    return "" if code == 0 else named[0] if named else f"ends with {code}"


def stop(run: subprocess.Popen[Any]) -> None:
    """Ends a process and those that it started; no harm where they have ended."""
    with suppress(ProcessLookupError):
        os.killpg(run.pid, 9)
    run.wait()


@contextmanager
def copies(count: int) -> Iterator[queue.Queue[Path]]:
    """``count`` copies of the tree, each for one trial at a time."""
    with tempfile.TemporaryDirectory(prefix="fastnn-mutants-") as room:
        free: queue.Queue[Path] = queue.Queue()
        for i in range(count):
            free.put(Path(shutil.copytree(ROOT, Path(room, str(i)), ignore=NOT_COPIED)))
        yield free


def tried(trial: Callable[[Any], str], mutants: Sequence[Any], workers: int) -> list[tuple[Any, str]]:
    """Each mutant with what noticed it, and a line of that on standard error."""

    def one(mutant: Any) -> tuple[Any, str]:
        found = trial(mutant)
        print(f"{'killed  ' if found else 'SURVIVED'} {mutant}  [{found}]", file=sys.stderr, flush=True)
        return mutant, found

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, mutants))


def try_python(
    mutants: Sequence[mutants_python.Mutant], workers: int, tests: dict[str, list[str]], pass_first: bool
) -> list[tuple[Any, str]]:
    """What notices each mutant of the Python core. `pass_first`: whether to see the tests pass without one."""
    with copies(workers) as free:
        tree = free.get()
        for folder in sorted({Path(mutant.file).parts[1] for mutant in mutants}) if pass_first else ():
            assert not (found := fails(tree, tests[folder])), f"without a mutant: {found}"
        free.put(tree)

        def trial(mutant: mutants_python.Mutant) -> str:
            tree = free.get()
            place = tree / mutant.file
            whole = place.read_text()
            place.write_text(mutant.source)
            try:
                own = [mutant.file] if ">>> " in whole else []
                return fails(tree, [*own, *tests[Path(mutant.file).parts[1]]])
            finally:
                place.write_text(whole)
                free.put(tree)

        return tried(trial, mutants, workers)


def build(chosen: dict[int, mutants_c.Mutant], room: Path) -> dict[int, mutants_c.Mutant]:
    """Builds the checks in C (``room``/check) and the extension with all ``chosen`` mutants,
    but for those that do not compile.

    Every instruction set's table is that of the one which is compiled.
    """
    import numpy

    shutil.copytree(ROOT / "kernels", room / "kernels")
    chosen = mutants_c.compiled(ROOT, chosen, f"kernels/isa_{ISA}.c", room, ["-O1", *OPTIONS])
    shutil.copytree(ROOT / "kernels", room / "kernels", dirs_exist_ok=True)  # the other units are compiled as they are
    others = ["kernels/base/memory.c", "kernels/base/stopping.c", "kernels/base/threads.c", "kernels/plan/program.c"]
    gcc = [*mutants_c.COMPILE, "-O1", *OPTIONS, "-Ikernels"]
    checks = str(ROOT / "tests/kernels_c/check.c")
    subprocess.run([*gcc, f"-DISA={ISA}", checks, "unit.o", *others, "-o", "check", "-lm"], cwd=room, check=True)
    names = {"avx2": ["baseline", "avx512"], "neon": ["baseline"]}[ISA]
    stubs = [f"void fastnn_fill_{name}(struct kernels *t) {{ fastnn_fill_{ISA}(t); }}\n" for name in names]
    (room / "stubs.c").write_text('#include "table.h"\n' + "".join(stubs))
    subprocess.run(
        [sys.executable, "-m", "cython", "-3", "kernels/_kernels.pyx", "-o", "_kernels.c"], cwd=room, check=True
    )
    made = room / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    includes = [
        f"-I{sysconfig.get_path('include')}",
        f"-I{numpy.get_include()}",
        "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION",
    ]
    units = ["_kernels.c", "stubs.c", "unit.o", "kernels/dispatch.c", *others]
    subprocess.run([*gcc, *includes, "-shared", *units, "-o", str(made), "-lm"], cwd=room, check=True)
    return chosen


def checked(program: Path, number: int) -> str:
    """What the checks in C say of a mutant."""
    environment = {**os.environ, "FASTNN_MUTANT": str(number)}
    try:
        run = subprocess.run([program], env=environment, capture_output=True, timeout=SECONDS_IN_C)
    except subprocess.TimeoutExpired:
        return "the checks in C take too long"
    return f"the checks in C end with {run.returncode}" if run.returncode else ""


def numbered(trial: Callable[[int], str], chosen: dict[int, mutants_c.Mutant], workers: int) -> list[tuple[Any, str]]:
    assert not (found := trial(-1)), f"without a mutant: {found}"
    numbers = {str(mutant): number for number, mutant in chosen.items()}
    return tried(lambda mutant: trial(numbers[str(mutant)]), list(chosen.values()), workers)


def try_kernels(mutants: Sequence[mutants_c.Mutant], workers: int) -> list[tuple[Any, str]]:
    """What notices each mutant of the kernels that compiles.

    The checks in C, else the Python tests on a build with it.
    """
    with tempfile.TemporaryDirectory(prefix="fastnn-kernels-") as made, copies(workers) as free:
        room = Path(made)
        chosen = build(dict(enumerate(mutants)), room)
        for tree in list(free.queue):
            for old in (tree / "fastnn").glob("_kernels*.so"):
                old.unlink()
            shutil.copy(next(room.glob("_kernels.*.so")), tree / "fastnn")

        def trial(number: int) -> str:
            if found := checked(room / "check", number):
                return found
            tree = free.get()
            try:
                return fails(tree, [*KERNEL_TESTS, "-k", ONE_TABLE], FASTNN_ISA=ISA, FASTNN_MUTANT=str(number))
            finally:
                free.put(tree)

        return numbered(trial, chosen, workers)


def try_softmax(mutants: Sequence[mutants_c.Mutant]) -> list[tuple[Any, str]]:
    """The same for mutants of `kernels/ops/softmax.h` alone, by the checks in C of that, which compile in a second."""
    with tempfile.TemporaryDirectory(prefix="fastnn-softmax-") as made:
        room = Path(made)
        shutil.copytree(ROOT / "kernels", room / "kernels")
        (room / "part.c").write_text(PART)
        lanes = "-DVL=8" if ISA == "avx2" else "-DVL=4"
        chosen = mutants_c.compiled(
            ROOT, dict(enumerate(mutants)), "part.c", room, ["-O0", lanes, *OPTIONS, f"-I{ROOT / 'tests/kernels_c'}"]
        )
        shared = [f"kernels/base/{name}.c" for name in ("memory", "stopping", "threads")]
        command = [*mutants_c.COMPILE, "-Ikernels", "unit.o", *shared, "-o", "check", "-lm"]
        subprocess.run(command, cwd=room, check=True)
        return numbered(lambda number: checked(room / "check", number), chosen, 1)
