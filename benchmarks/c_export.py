"""How long models take that `fnn.interop.export_c` has written, beside ``fnn.compile(model, frozen=True)``.

``python -m benchmarks.c_export``: one image at a time, one thread, microseconds; needs gcc.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import fastnn as fnn

MODELS = {"mlp": (1, 28, 28), "lenet5": (1, 28, 28), "fast": (1, 28, 28), "cnn": (1, 28, 28)}
MODELS |= {"resnet": (3, 32, 32), "mobile": (3, 32, 32)}
FLAGS = (["-O2"], ["-O3", "-march=native"])


def microseconds(call: Callable[[], object]) -> float:
    """The best of twenty rounds of at least ten milliseconds."""
    call()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.01:
        call()
        count += 1
    best = np.inf
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(count):
            call()
        best = min(best, (time.perf_counter() - start) / count)
    return 1e6 * best


def main() -> None:
    fnn.set_num_threads(1)
    print(f"{'model':8}{'frozen':>8}" + "".join(f"{' '.join(['gcc', *flags]):>24}" for flags in FLAGS))
    for name, shape in MODELS.items():
        model = fnn.recipes.MODELS[name](shape, 10).eval()
        x, y = np.random.default_rng(0).random((1, *shape), np.float32), np.empty(10, np.float32)
        frozen = fnn.compile(model, frozen=True)
        times = [microseconds(lambda frozen=frozen, x=x: frozen(x))]
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "model.c"
            fnn.interop.export_c(model, source, shape)
            for i, flags in enumerate(FLAGS):
                library = source.with_name(f"{i}.so")
                command = ["gcc", "-std=c99", *flags, "-shared", "-fPIC", "-o", library, source, "-lm"]
                subprocess.run(command, check=True)
                predict, pointers = ctypes.CDLL(str(library)).predict, [ctypes.c_void_p(a.ctypes.data) for a in (x, y)]
                times.append(microseconds(lambda predict=predict, pointers=pointers: predict(*pointers)))
        print(f"{name:8}{times[0]:8.1f}" + "".join(f"{t:24.1f}" for t in times[1:]), flush=True)


if __name__ == "__main__":
    main()
