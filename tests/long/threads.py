"""Affinity and the control group's quota decide the number of threads, also where they change between epochs, and idle
threads cost no processor time after 1 ms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

IN_CI = 0.1

# argv: a folder that stands for /sys/fs/cgroup, the file that stands for /proc/self/cgroup, and JSON: how many CPUs
# before each epoch, and the content of files in the folder then. Prints the threads that ran in each epoch.
COUNTS = """
import json, os, sys
import numpy as np
from fastnn.backends import threads
threads._quota.__defaults__ = tuple(sys.argv[1:3])
import fastnn as fnn
from fastnn import nn, optim
available = sorted(os.sched_getaffinity(0))
x, y = np.random.default_rng(0).random((256, 784), np.float32), np.arange(256) % 10
model = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 10))
step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
seen = []
for cpus, files in json.loads(sys.argv[3]):
    os.sched_setaffinity(0, available[:cpus])
    for name, content in files.items():
        with open(os.path.join(sys.argv[1], name), "w") as file:
            file.write(content)
    step.run_epoch(x, y, None, 64, progress=False)
    seen.append([fnn.get_num_threads(), len(os.listdir("/proc/self/task"))])
print(json.dumps(seen))
"""

# argv: how many pauses. Prints the largest share of a pause, from 1 ms after work on, that the process computed.
IDLE = """
import sys, time
import numpy as np
from fastnn import backends
backends.set_num_threads(4)
kernels = backends.get("native")
a = np.ones((400, 400), np.float32)
seen = []
for _ in range(int(sys.argv[1])):
    for _ in range(20):
        kernels.matmul(a, a)
    time.sleep(0.001)
    before = time.process_time()
    time.sleep(0.05)
    seen.append((time.process_time() - before) / 0.05)
print(sorted(seen)[len(seen) // 2], max(seen))
"""


def run(code: str, *arguments: object) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    return done.stdout


def measure(share: float = 1.0) -> str:
    cpus = len(os.sched_getaffinity(0))
    v1 = {f"cpu,cpuacct/a/cpu.cfs_{name}_us": value for name, value in (("quota", "100000"), ("period", "100000"))}
    unlimited = {**v1, "cpu,cpuacct/a/cpu.cfs_quota_us": "-1"}
    cases = [
        ("0::/a\n", [(1, {}, 1), (cpus, {}, cpus), (1, {}, 1)]),
        ("0::/a\n", [(cpus, {"a/cpu.max": "100000 100000"}, 1), (cpus, {"a/cpu.max": "max 100000"}, cpus)]),
        ("4:cpu,cpuacct:/a\n", [(cpus, unlimited, cpus), (cpus, v1, 1)]),
    ]
    for membership, epochs in cases:
        with tempfile.TemporaryDirectory() as folder:
            for group in ("a", "cpu,cpuacct/a"):
                (Path(folder) / group).mkdir(parents=True)
            own = Path(folder) / "membership"
            own.write_text(membership)
            said = json.loads(run(COUNTS, folder, own, json.dumps([(n, files) for n, files, _ in epochs])))
            wanted = [[n, n] for _, _, n in epochs]
            assert said == wanted, f"{membership!r}: {epochs}: expected threads {wanted}, got {said}"
    usual, most = map(float, run(IDLE, max(5, round(100 * share))).split())
    assert usual < 0.01, f"idle threads computed for {usual:.1%} of the time"
    return f"{sum(len(epochs) for _, epochs in cases)} epochs with the threads granted; idle: {usual:.2%} of one CPU"
