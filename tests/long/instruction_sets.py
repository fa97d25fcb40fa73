"""A CPU without AVX2 runs the baseline, every instruction set agrees within its bound, and a missing one is said.

Kernels of every instruction set of this CPU are compared with float64; then an emulator (qemu-user, where there is
one) stands in for CPUs that have less: on each, training has the same bits as here by that instruction set.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys

IN_CI = 0.01
SEED = 20261128

# What fastnn chooses on models of CPUs; the first is tried in CI.
CPUS = {
    "Nehalem": "baseline", "Haswell": "avx2", "SandyBridge": "baseline", "Haswell,-fma": "baseline",
    "Haswell,-avx2": "baseline", "Haswell,-xsave": "baseline", "Opteron_G5": "baseline", "EPYC": "avx2",
    "Skylake-Client": "avx2",
}  # fmt: skip

# Prints the instruction set, what is said of those that are missing, and the bits of a training.
PROGRAM = """
import hashlib, os
import numpy as np
from fastnn import backends
for name in ("avx512", "mmx"):
    before = os.environ.get("FASTNN_ISA")
    os.environ["FASTNN_ISA"] = name
    try:
        backends.get("native")
    except backends.BackendError as error:
        print("refused", error)
    finally:
        os.environ.pop("FASTNN_ISA") if before is None else os.environ.update(FASTNN_ISA=before)
    backends._modules.clear()
import fastnn as fnn
from fastnn import nn
fnn.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                      nn.Linear(36, 7), nn.Tanh(), nn.Linear(7, 3))
x, y = np.arange(4 * 64, dtype=np.float32).reshape(4, 1, 8, 8) * 37 % 101 / 50 - 1, np.arange(4) % 3
step = fnn.compile(model, nn.CrossEntropyLoss(), fnn.optim.Adam(model.parameters(), lr=0.01))
losses = [step(x, y) for _ in range(3)]
bits = np.array(losses).tobytes() + b"".join(array.tobytes() for array in model.state_dict().values())
print(backends.get("native").isa(), hashlib.sha256(bits).hexdigest())
"""


def _run(*command: str, **environment: str) -> list[str]:
    clean = {k: v for k, v in os.environ.items() if k != "FASTNN_ISA"}
    done = subprocess.run(
        [*command, sys.executable, "-c", PROGRAM],
        env={**clean, **environment}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(command)} {environment}: {done.stderr}"
    return done.stdout.splitlines()


def emulated(share: float) -> str:
    emulator = shutil.which("qemu-x86_64")
    if emulator is None or os.uname().machine != "x86_64":
        return "no CPU emulated: qemu-x86_64 is not here"
    tried = list(CPUS)[: max(1, round(share * len(CPUS)))]
    here = {isa: _run(FASTNN_ISA=isa)[-1] for isa in {CPUS[cpu] for cpu in tried}}
    for cpu in tried:
        lines = _run(emulator, "-cpu", cpu)
        assert lines[-1] == here[CPUS[cpu]], f"on {cpu}: {lines[-1]}, here {here[CPUS[cpu]]}"
        known = "baseline, avx2" if CPUS[cpu] == "avx2" else "baseline"
        said = [f"refused expected FASTNN_ISA to be one of {known}, got {name!r}" for name in ("avx512", "mmx")]
        assert lines[:-1] == said, f"on {cpu}: {lines[:-1]}"
    return f"{len(tried)} emulated CPUs run what they have, with the bits of this one"


def kernels(share: float) -> str:
    from kernel_checks import algorithms, assert_close, evaluate, expected_results
    from op_cases import KERNELS, arguments

    from fastnn import backends

    native = backends.get("native")
    cases = [(kernel, index) for kernel in KERNELS.values() for index in range(len(kernel.cases))]
    chosen = random.Random(SEED).sample(cases, max(1, round(share * len(cases))))
    before = native.isa()
    try:
        for isa in native.isas():
            native.set_isa(isa)
            for kernel, index in chosen:
                a, expected = arguments(kernel, kernel.cases[index]), expected_results(kernel.name, index)
                for keywords in algorithms(kernel, native, expected, a):
                    try:
                        assert_close(evaluate(native, kernel, a, **keywords), expected, kernel, a)
                    except AssertionError as error:
                        raise AssertionError(f"{isa}, {kernel.name}, case {index}, {keywords}: {error}") from None
    finally:
        native.set_isa(before)
    return f"{len(chosen)} cases of kernels within their bounds by {', '.join(native.isas())}"


def measure(share: float = 1.0) -> str:
    return f"{kernels(share)}; {emulated(share)}"
