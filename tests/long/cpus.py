"""No more threads than the processors that are granted, also where that changes, and idle ones cost nothing.

A child trains while affinity and the quotas of control groups (files made up here, of both versions) change at random:
the kernels' threads that work are counted by their processor time, of which none may use a millisecond after the work.
"""

from __future__ import annotations

import os
import subprocess
import sys

IN_CI = 0.05
SEED = 20261128

# argv: rounds, seed. Prints "OK", the number of changes and the most time in microseconds that an idle thread took.
PROGRAM = """
import os, pathlib, random, sys, tempfile, time
granted = os.sched_getaffinity(0)
os.sched_setaffinity(0, {min(granted)})
import numpy as np
import fastnn as fnn
from fastnn import backends
from fastnn.backends import threads

def spent():  # seconds of the processor by thread: clocks of others' threads as pthread_getcpuclockid makes them
    return {int(t): time.clock_gettime((~int(t) << 3) | 6) for t in os.listdir("/proc/self/task")}

a = np.ones((300, 300), np.float32)
model = fnn.nn.Linear(300, 300)
predict = fnn.compile(model)
step = fnn.compile(model, fnn.nn.MSELoss(), fnn.optim.SGD(model.parameters(), lr=1e-6))

def eager():
    fnn.nn.MSELoss()(model(a), a).backward()

ways = [lambda: predict(a), lambda: step(a, a), eager]
idle = 0.0

def check(wanted, way, what):
    global idle
    way()  # it counts the processors, and wakes or ends threads
    before = spent()
    for _ in range(12):
        way()
    after = spent()
    worked = sum(after[t] - before.get(t, 0) > 5e-4 for t in after)  # less is the end of a wait that was broken off
    time.sleep(0.02)
    while True:
        rest = spent()
        time.sleep(0.01)
        if rest == {**spent(), os.getpid(): rest[os.getpid()]}:
            break
    idle = max([idle, *(rest[t] - after[t] for t in rest if t != os.getpid() and t in after)])
    assert backends.get_num_threads() == wanted, f"{what}: {backends.get_num_threads()} threads, expected {wanted}"
    assert worked <= wanted, f"{what}: {worked} threads worked, {wanted} processors were granted"
    return worked

folder = pathlib.Path(tempfile.mkdtemp())
(folder / "a" / "b").mkdir(parents=True)
(folder / "cpu,cpuacct" / "a" / "b").mkdir(parents=True)
membership = folder / "membership"
threads._quota.__defaults__ = str(folder), str(membership)
rng = random.Random(int(sys.argv[2]))
check(1, ways[0], "one processor when it started")
os.sched_setaffinity(0, granted)
time.sleep(1.01)  # it may not look for a second
most = max(check(len(granted), ways[1], "all processors") for _ in range(5))
assert most > 1 or len(granted) == 1, "no thread but one has worked: this test could not fail"

for turn in range(int(sys.argv[1])):
    cpus = rng.randint(1, len(granted))
    os.sched_setaffinity(0, set(rng.sample(sorted(granted), cpus)))
    version, place = rng.choice([1, 2]), rng.choice(["", "a", "a/b"])
    quota = rng.choice([None, "nonsense", 0.3, 0.5, 1, 2, 3, 1.25])
    group = rng.choice(["0::/a/b\\n", "3:cpuset:/\\n0::/a/b\\n"]) if version == 2 else "4:cpu,cpuacct:/a/b\\n"
    membership.write_text(group)
    period = rng.choice([1000, 50000, 100000])
    for old in (*folder.rglob("cpu.*"),):
        old.unlink()
    value = quota if isinstance(quota, str) else "max" if quota is None else str(round(quota * period))
    if version == 2:
        (folder / place / "cpu.max").write_text(f"{value} {period}\\n")
    else:
        (folder / "cpu,cpuacct" / place / "cpu.cfs_quota_us").write_text(value.replace("max", "-1"))
        (folder / "cpu,cpuacct" / place / "cpu.cfs_period_us").write_text(str(period))
    wanted = min(cpus, max(1, round(quota))) if isinstance(quota, (int, float)) else cpus
    backends._counted = 0.0  # a second has passed
    check(wanted, rng.choice(ways), f"change {turn}: {cpus} processors, quota {quota} of version {version} in /{place}")
print("OK", int(sys.argv[1]) + 2, round(1e6 * idle))
"""


def measure(share: float = 1.0) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(round(200 * share)), str(SEED)],
        env={**environment, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"seed {SEED}: {done.stderr}"
    _, changes, idle = done.stdout.split()
    assert int(idle) < 1000, f"an idle thread took {idle} µs of its processor after the work"
    return f"{changes} changes, never more threads at work than granted; an idle one takes {idle} µs after the work"
