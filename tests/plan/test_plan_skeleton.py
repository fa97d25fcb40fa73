"""kernels/plan/skeleton.h, the stage that newcomers copy: it compiles without a warning, and computes what it says."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc")


@pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")
def test_the_skeleton_of_a_stage_runs(tmp_path: Path) -> None:
    source, library = tmp_path / "skeleton.c", tmp_path / "skeleton.so"
    source.write_text(
        '#define VL 4\n#include "plan/skeleton.h"\n'
        "int run(int64_t N, int64_t C, const float *x, const float *scale, float *y) {\n"
        "    const struct skeleton s = {N, C, x, scale, y};\n"
        "    struct program program = {0};\n"
        "    return skeleton_forward(&s, &program);\n}\n"
    )
    base = [str(ROOT / "kernels" / "base" / name) for name in ("threads.c", "stopping.c", "memory.c")]
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-shared", "-fPIC", "-pthread"]
    folders = [f"-I{ROOT / 'kernels'}"]
    subprocess.run([str(COMPILER), *flags, *folders, str(source), *base, "-lm", "-o", str(library)], check=True)
    rng = np.random.default_rng(0)
    x, scale = rng.standard_normal((37, 11)).astype(np.float32), rng.standard_normal(11).astype(np.float32)
    y = np.zeros_like(x)
    addresses = [ctypes.c_void_p(array.ctypes.data) for array in (x, scale, y)]
    assert ctypes.CDLL(str(library)).run(ctypes.c_int64(37), ctypes.c_int64(11), *addresses) == 0
    np.testing.assert_array_equal(y, x * scale)
