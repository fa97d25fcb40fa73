"""Memory does not grow with steps, batch sizes and models, and `fnn.release_memory()` gives back what is kept.

What is kept is bounded by what was in use at once: a thousand batch sizes leave what the largest of them leave.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

IN_CI = 0.002
# MB that may be added; and that malloc may keep of what was freed between blocks in use, where arrays of other sizes or
# models come and go (TRIM_BYTES of base/memory.c): it goes with release_memory(), or once so much has been freed.
MOST, TRIMMED = 5.0, 16.0

# argv: the kind, how many. Prints the resident MB: before, after the warm-up, at the end, after release_memory().
PROGRAM = """
import gc, json, sys
import numpy as np
import fastnn as fnn
from fastnn import nn, optim

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

kind, count = sys.argv[1], int(sys.argv[2])
rng, loss_fn = np.random.default_rng(0), nn.CrossEntropyLoss()
fnn.manual_seed(0)

def network():
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1),
                          nn.Flatten(), nn.Linear(8 * 49, 10))
    return model, optim.Adam(model.parameters(), lr=1e-3)

x, y = rng.random((1000, 1, 14, 14), np.float32), rng.integers(0, 10, 1000)
model, optimizer = network()
compiled = fnn.compile(model, loss_fn, optimizer)

def eager(n):
    optimizer.zero_grad()
    loss_fn(model(fnn.tensor(x[:n])), fnn.tensor(y[:n])).backward()
    optimizer.step()

def of_a_new_model():
    model, optimizer = network()
    fnn.compile(model, loss_fn, optimizer)(x[:4], y[:4])

def step(n):
    compiled(x[:n], y[:n])

sizes = [1 + i * 1000 // max(count, 1) for i in range(count)]
step(2), eager(2), of_a_new_model(), fnn.release_memory()
seen = [resident()]
if kind.endswith("sizes"):
    work = eager if kind == "eager sizes" else step
    for n in range(991, 1001):
        work(n)
    seen.append(resident())
    for n in sizes:
        work(n)
elif kind == "models":
    for i in range(count + 20):
        if i == 20:
            seen.append(resident())
        of_a_new_model()
else:
    for i in range(count + 100):
        if i == 100:
            seen.append(resident())
        (eager if kind == "eager steps" else step)(8)
seen.append(resident())
fnn.release_memory()
seen.append(resident())
print(json.dumps(seen))
"""


def measured(kind: str, count: int) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind, str(count)], env={**os.environ, "FASTNN_NUM_THREADS": "2"},
        capture_output=True, text=True, timeout=3600, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    seen: list[float] = json.loads(done.stdout)
    return seen


def measure(share: float = 1.0) -> str:
    said = []
    for kind, full in (
        ("compiled steps", 50_000),
        ("eager steps", 20_000),
        ("compiled sizes", 1000),
        ("eager sizes", 1000),
        ("models", 2000),
    ):
        count = max(10, round(full * share))
        before, warm, end, released = measured(kind, count)
        seen = (
            f"{kind}: {count}, {before:.1f} MB before, {warm:.1f} warm, {end:.1f} at the end, {released:.1f} released"
        )
        assert end <= warm + MOST + (0 if "steps" in kind else TRIMMED), seen
        assert released <= before + 2 * MOST, seen
        said.append(f"{count:,} {kind} {end - warm:+.1f} MB")
    return "; ".join(said)
