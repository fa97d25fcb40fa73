"""Forks, threads, signal handlers, the interpreter's exit and other interpreters work, or are refused in words.

Each program computes on two threads of the kernels' while it forks, starts threads, gets signals or ends, and compares
what it gets, bit for bit, with what it got in peace.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

IN_CI = 0.01

COMMON = """
import asyncio, atexit, concurrent.futures, multiprocessing, os, signal, sys, threading, time
import numpy as np
import fastnn as fnn
from fastnn import nn

times = int(sys.argv[1])
x = np.random.default_rng(0).random((64, 1, 12, 12), np.float32)
y = np.arange(64) % 10

def network():
    fnn.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                         nn.Linear(200, 10))

def trained(model, steps=3):  # compiled
    step = fnn.compile(model, nn.CrossEntropyLoss(), fnn.optim.Adam(model.parameters(), lr=0.01))
    losses = [step(x, y) for _ in range(steps)]
    return np.array(losses).tobytes() + b"".join(array.tobytes() for array in model.state_dict().values())

def eager(model):
    nn.CrossEntropyLoss()(model(x), y).backward()
    return b"".join(p.grad.tobytes() for p in model.parameters())

predict = fnn.compile(network())
expected = predict(x).tobytes()
"""

# Threads are started, one after another, while three others compute all the time; each has a model of its own.
STARTS = """
models = [network() for _ in range(4)]  # seeds are the process's: threads do not draw
wanted = trained(network()), eager(network())
stop, wrong = threading.Event(), []

def computes(model):
    own = fnn.compile(model)
    own_expected = own(x).tobytes()
    while not stop.is_set():
        if own(x).tobytes() != own_expected or predict(x).tobytes() != expected:
            wrong.append("a thread that runs all the time")

others = [threading.Thread(target=computes, args=(model.eval(),)) for model in models[1:]]
for other in others:
    other.start()
state = {name: array.copy() for name, array in network().state_dict().items()}

def started(turn):
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                          nn.Linear(200, 10))
    model.load_state_dict(state)
    if (eager(model) if turn % 2 else trained(model)) != wanted[turn % 2] or predict(x).tobytes() != expected:
        wrong.append(f"thread {turn}")

for turn in range(times):
    thread = threading.Thread(target=started, args=(turn,))
    thread.start()
    thread.join(120)
    assert not thread.is_alive(), f"thread {turn} hangs"
stop.set()
for other in others:
    other.join(120)
assert not wrong, wrong[:3]
deadline = time.monotonic() + 10  # a thread that join() has seen end is still the system's for a moment
while (threads := len(os.listdir("/proc/self/task"))) > 2 and time.monotonic() < deadline:
    time.sleep(0.01)
assert threads <= 2, f"{threads} threads are left"
"""

# The same training, with a handler that computes every few hundred microseconds.
SIGNALS = """
wanted = trained(network(), 5), eager(network())
seen, inner, doubled = [], fnn.compile(network()), (fnn.Tensor(x) * 2).sum().item()

within = threading.Lock()

def handler(*_):
    if not within.acquire(blocking=False):  # a signal while its handler runs
        return
    if len(seen) % 3:
        seen.append(inner(x).tobytes() == expected)
    else:
        seen.append((fnn.Tensor(x) * 2).sum().item() == doubled)
    within.release()

models = [network() for _ in range(2 * times)]
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.003)
for turn, model in enumerate(models):
    found = eager(model) if turn % 2 else trained(model, 5)
    assert found == wanted[turn % 2], f"training {turn} differs where a signal handler computes, too"
signal.setitimer(signal.ITIMER_REAL, 0)
assert seen and all(seen), f"{seen.count(False)} of {len(seen)} handlers have got something else"
"""

ASYNCIO = """
async def main():
    loop = asyncio.get_running_loop()
    jobs = [asyncio.to_thread(predict, x) for _ in range(times)]
    async def beside():
        for _ in range(times):
            assert predict(x).tobytes() == expected
            await asyncio.sleep(0)
    *found, _ = await asyncio.gather(*jobs, beside())
    assert all(each.tobytes() == expected for each in found)

asyncio.run(main())
"""

# Processes of the standard library; what they run has to be a module's.
WORKERS = """
def work(turn):
    model = network()
    return trained(model) if turn % 2 else predict(x).tobytes()

if __name__ == "__main__":
    wanted = expected, trained(network())
    for method in ("spawn", "forkserver", "fork"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found = pool.map(work, range(max(2, times)))
        assert all(each == wanted[turn % 2] for turn, each in enumerate(found)), method
"""

# The interpreter ends while daemons, others' threads and a function of atexit compute.
EXIT = """
def forever():
    while True:
        predict(x)
        eager(network())

def last():
    assert predict(x).tobytes() == expected
    print("computed at the end")

atexit.register(last)
for _ in range(2):
    threading.Thread(target=forever, daemon=True).start()
threading.Thread(target=lambda: [predict(x) for _ in range(50)]).start()
time.sleep(0.01 * (times % 5))
"""

INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = "try: import fastnn; print('imported')" + chr(10) + "except ImportError as error: print('refused:', error)"
other = interpreters.create()
interpreters.run_string(other, code)
interpreters.destroy(other)
assert predict(x).tobytes() == expected
"""


def _run(program: str, times: int, what: str, file: bool = False) -> str:
    environment = {**os.environ, "FASTNN_NUM_THREADS": "2"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.py")
        path.write_text(program)
        done = subprocess.run(
            [sys.executable, *([str(path)] if file else ["-c", program]), str(times)],
            env=environment, capture_output=True, text=True, timeout=3000, check=False,
        )  # fmt: skip
    assert done.returncode == 0, f"{what}: {done.returncode} {done.stderr}"
    return done.stdout + done.stderr


def measure(share: float = 1.0) -> str:
    from forks import FORKS

    forks, starts, exits = (max(1, round(share * number)) for number in (1000, 1000, 50))
    _run(FORKS, forks, "forks")
    _run(COMMON + STARTS, starts, "starts of threads")
    _run(COMMON + SIGNALS, max(2, starts // 10), "signal handlers")
    _run(COMMON + ASYNCIO, starts, "asyncio")
    _run(COMMON + WORKERS, starts // 25, "processes of multiprocessing", file=True)
    for turn in range(exits):
        said = _run(COMMON + EXIT, turn, "the interpreter's exit")
        assert said == "computed at the end\n", said
    said = _run(COMMON + INTERPRETERS, 1, "another interpreter")
    assert "imported" in said or "refused: " in said, said
    return (
        f"{forks} forks, {starts} starts of threads and {exits} ends of the interpreter while others compute: all right"
    )
