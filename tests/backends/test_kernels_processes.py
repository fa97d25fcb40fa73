"""What needs a process of its own: the environment variables, fork, and several threads calling kernels at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from targets import Target, targets

# The backend named on the command line, a product large enough for two threads, and what it gives on them.
PRODUCT = """
import os, sys, threading, time
import numpy as np
from fastnn import backends

kernels = backends.get(sys.argv[1])
backends.set_num_threads(2)
rng = np.random.default_rng(0)
a, b = rng.standard_normal((300, 400), np.float32), rng.standard_normal((400, 350), np.float32)
expected = kernels.matmul(a, b).tobytes()

def right(times):
    return all(kernels.matmul(a, b).tobytes() == expected for _ in range(times))
"""

FORK = """
child = os.fork()
if child == 0:
    os._exit(0 if right(5) else 1)
deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.01)
else:
    os.kill(child, 9)
    sys.exit("the child hangs")
sys.exit(0 if status == 0 and right(5) else "wrong result, or the child died")
"""

THREADS = """
results = []
threads = [threading.Thread(target=lambda: results.append(right(40))) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(0 if results == [True] * 4 else f"wrong results: {results}")
"""

THREADED = pytest.mark.parametrize("backend", sorted({t.backend for t in targets()} - {"reference"}))


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@THREADED
def test_a_forked_child_computes(backend: str) -> None:
    """The threads of the pool are not in the child; it starts its own."""
    done = run(PRODUCT + FORK, backend)
    assert done.returncode == 0, done.stderr


@THREADED
def test_several_python_threads_at_once(backend: str) -> None:
    done = run(PRODUCT + THREADS, backend)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", [t for t in targets() if t.isa], ids=str)
def test_environment_chooses_the_instruction_set(target: Target) -> None:
    code = "from fastnn import backends; print(backends.get('native').isa())"
    assert run(code, FASTNN_ISA=str(target.isa)).stdout.split() == [target.isa]


@pytest.mark.skipif(not any(t.isa for t in targets()), reason="the extension is not built")
def test_unknown_instruction_set() -> None:
    done = run("from fastnn import backends; backends.get('native')", FASTNN_ISA="mmx")
    assert done.returncode == 1
    assert "expected FASTNN_ISA to be one of baseline" in done.stderr
    assert "got 'mmx'" in done.stderr


@pytest.mark.parametrize("name", sorted({t.backend for t in targets()}))
def test_environment_chooses_the_backend(name: str) -> None:
    code = (
        "import numpy as np; from fastnn import backends;"
        "print(backends.name(), backends.kernels(np.dtype('f4')).__name__, backends.kernels(np.dtype('f8')).__name__)"
    )
    expected = [name, f"fastnn.backends.{name}", "fastnn.backends.reference"]
    assert run(code, FASTNN_BACKEND=name).stdout.split() == expected


def test_unknown_backend() -> None:
    done = run("from fastnn import backends; backends.name()", FASTNN_BACKEND="cuda")
    assert done.returncode == 1
    assert "expected FASTNN_BACKEND to be one of native, jit, reference, got 'cuda'" in done.stderr


def test_number_of_threads_from_the_environment() -> None:
    code = "from fastnn import backends; print(backends.get_num_threads())"
    assert run(code, FASTNN_NUM_THREADS="3").stdout.split() == ["3"]
    done = run(code, FASTNN_NUM_THREADS="many")
    assert done.returncode == 1
    assert "expected FASTNN_NUM_THREADS to be a positive integer, got 'many'" in done.stderr
