"""The FMA peak of this machine in this minute: peak.c, built by the C compiler that is found here."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

SOURCE = Path(__file__).with_name("peak.c")
# Of each instruction set: floats in a vector, sums in registers, compiler options.
BUILDS = {
    "avx512": (16, 24, ("-mavx512f", "-mavx512vl", "-mfma", "-mprefer-vector-width=512")),
    "avx2": (8, 12, ("-mavx2", "-mfma")),
    "neon": (4, 24, ()),
}
MACHINES = {"x86_64": ("avx512", "avx2"), "AMD64": ("avx512", "avx2"), "aarch64": ("neon",), "arm64": ("neon",)}
SECONDS = 0.015


class Peak:
    """`sample()` gives GFLOP/s of so many threads, None where there is no compiler or another CPU."""

    def __init__(self, folder: Path, isa: str, threads: int) -> None:
        self.threads = threads
        self.samples: list[float] = []
        self._function = _build(folder, isa) if isa in MACHINES.get(platform.machine(), ()) else None

    def sample(self, seconds: float = SECONDS) -> float | None:
        if self._function is None:
            return None
        gflops = self._function(self.threads, seconds) / 1e9
        self.samples.append(gflops)
        return gflops


def _build(folder: Path, isa: str) -> ctypes._FuncPointer | None:
    compiler = _compiler()
    if compiler is None:
        return None
    width, chains, options = BUILDS[isa]
    library = folder / f"peak-{isa}.so"
    command = [*compiler, "-O3", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread", *options]
    command += [f"-DVL={width}", f"-DCHAINS={chains}", str(SOURCE), "-o", str(library)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    function = ctypes.CDLL(str(library)).peak
    function.restype, function.argtypes = ctypes.c_double, (ctypes.c_int, ctypes.c_double)
    return function


def _compiler() -> Sequence[str] | None:
    configured = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "").split()
    for command in (configured, ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command[:1]
    return None
