"""What only the Numba backend has: two compilations of each kernel, a cache on disk, Numba's own threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kernel_checks import algorithms, assert_close, assert_same_bits, evaluate, expected_results
from op_cases import KERNELS, arguments
from op_description import Kernel

numba = pytest.importorskip("numba")

from fastnn.backends import jit  # noqa: E402
from fastnn.backends.jit import compile, dense  # noqa: E402

PACKAGE = Path(__file__).parents[2] / "fastnn"

# Prints how many kernels came from the cache and how many were compiled.
PROGRAM = """
import numpy as np
from fastnn.backends import jit
from fastnn.backends.jit import activations
assert jit.relu_forward(np.array([-1, 2], np.float32)).tolist() == [0, 2]
stats = activations._relu._serial.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""
FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"


@pytest.fixture
def threads() -> Iterator[int]:
    """The most there are."""
    yield numba.config.NUMBA_NUM_THREADS
    jit.set_num_threads(numba.config.NUMBA_NUM_THREADS)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a copy of the package's Python files."""
    shutil.copytree(PACKAGE, tmp_path / "fastnn", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return tmp_path


def run(program: str, folder: Path, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment = {**inherited, "PYTHONPATH": str(folder), "FASTNN_BACKEND": "jit", **environment}
    done = subprocess.run(
        [sys.executable, "-B", "-c", program], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())
def test_on_all_threads_whatever_the_work(kernel: Kernel, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small arrays run a compilation of their own, without threads; here they run the other one as well."""
    monkeypatch.setattr(compile, "PARALLEL_FROM_NS", -1)
    for index, case in enumerate(kernel.cases):
        a, expected = arguments(kernel, case), expected_results(kernel.name, index)
        for keywords in algorithms(kernel, jit, expected, a):
            jit.set_num_threads(threads)
            got = evaluate(jit, kernel, a, **keywords)
            assert_close(got, expected, kernel, a)
            jit.set_num_threads(1)
            assert_same_bits(evaluate(jit, kernel, a, **keywords), got, "1 thread")


def test_more_threads_than_numba_has(threads: int) -> None:
    jit.set_num_threads(1)
    assert jit.get_num_threads() == 1
    jit.set_num_threads(10**6)
    assert jit.get_num_threads() == threads
    a = np.ones((300, 300), np.float32)
    assert jit.matmul(a, a).min() == 300
    assert numba.get_num_threads() == threads


def test_work_decides_which_compilation_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    for variant in ("_serial", "_parallel"):
        monkeypatch.setattr(dense._matmul_rows, variant, lambda *_, variant=variant: ran.append(variant))
    for size in (4, 400):
        jit.matmul(np.ones((size, size), np.float32), np.ones((size, size), np.float32))
    assert ran == ["_serial", "_parallel"]


def test_importing_compiles_nothing(installed: Path) -> None:
    program = """
from numba.core.event import install_recorder
with install_recorder("numba:compile") as recorder:
    from fastnn.backends import jit
print(len(recorder.buffer))
"""
    assert run(program, installed) == "0\n"


def test_cache_is_used_and_notices_a_change_in_what_kernels_share(installed: Path) -> None:
    cache = str(installed / "cache")
    assert run(PROGRAM, installed, NUMBA_CACHE_DIR=cache) == "0 1\n"
    assert run(PROGRAM, installed, NUMBA_CACHE_DIR=cache) == "1 0\n"
    with open(installed / "fastnn/backends/jit/tiles.py", "a") as file:
        file.write("# changed\n")
    assert run(PROGRAM, installed, NUMBA_CACHE_DIR=cache) == "0 1\n"


def test_kernels_share_only_what_the_cache_knows_of() -> None:
    """A function that is compiled into a kernel of another file has to be in a file that the fingerprint covers."""
    known = {f"fastnn.backends.jit.{Path(file).stem}" for file in compile._SHARED}
    modules = [module for name, module in sys.modules.items() if name.startswith("fastnn.backends.jit.")]
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, numba.core.dispatcher.Dispatcher):
                assert value.py_func.__module__ in known | {module.__name__}, f"{module.__name__}.{name}"


@pytest.mark.parametrize("variable", ["NUMBA_CACHE_DIR", "HOME"])
def test_works_where_no_folder_can_be_written(installed: Path, variable: str) -> None:
    """A file where each of the folders would be, which stops even root."""
    file = installed / "file"
    file.touch()
    (installed / "fastnn/backends/jit/__pycache__").touch()
    nowhere = {"HOME": str(file), "XDG_CACHE_HOME": str(file / "cache")}
    if variable == "NUMBA_CACHE_DIR":
        nowhere["NUMBA_CACHE_DIR"] = str(file / "numba")
    assert run(PROGRAM, installed, **nowhere) == "0 1\n"
    assert not list(installed.rglob("*.nb[ci]"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits on files are Unix's")
def test_works_on_a_full_disk(installed: Path) -> None:
    assert run(FULL_DISK + PROGRAM, installed, NUMBA_CACHE_DIR=str(installed / "cache")) == "0 1\n"
