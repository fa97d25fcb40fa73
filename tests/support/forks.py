"""A program that forks while a thread of its own trains."""

# argv: how many forks. A child that hangs is killed by its alarm, and said to have hung.
FORKS = """
import os, signal, sys, threading, time
import numpy as np
import fastnn as fnn
from fastnn import nn, optim

fnn.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                      nn.Dropout(0.1), nn.Linear(8 * 25, 10))
optimizer = optim.Adam(model.parameters(), lr=1e-3)
step = fnn.compile(model, nn.CrossEntropyLoss(), optimizer)
fixed = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 100, 10))
predict = fnn.compile(fixed)
rng = np.random.default_rng(0)
x, y = rng.random((64, 1, 12, 12), np.float32), rng.integers(0, 10, 64)
wanted = {n: predict(x[:n]) for n in (3, 64)}
step.run_epoch(x, y, batch_size=32, progress=False)
fnn.fit(model, (x, y), epochs=1)  # all is imported: Python lets a child hang that imports what a thread was importing
stop = threading.Event()

def train():
    turn = 0
    while not stop.is_set():
        n = 5 + turn * 7 % 59  # more shapes than are kept: plans are made all the time
        step(x[:n], y[:n])
        predict(x[:n])
        fnn.random.next_stream()
        if turn % 5 == 0:
            step.run_epoch(x[:20], y[:20], batch_size=10, progress=False)
        turn += 1

def same_plans():
    return np.array_equal(predict(x[:3]), wanted[3]) and np.isfinite(step(x[:9], y[:9]))

def own_plans():
    own = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.01))
    return np.array_equal(fnn.compile(fixed)(x), wanted[64]) and np.isfinite(own(x, y))

def epochs():
    return np.isfinite(step.run_epoch(x, y, batch_size=16, progress=False))

def operators():
    fnn.manual_seed(1)
    return np.isfinite(nn.CrossEntropyLoss()(model(x), y).item())

def fits():
    return len(fnn.fit(model, (x, y), epochs=1, batch_size=32)) == 1

works = same_plans, own_plans, epochs, operators, fits
thread = threading.Thread(target=train, daemon=True)
thread.start()
failed = []
for turn in range(int(sys.argv[1])):
    work = works[turn % len(works)]
    time.sleep(0.001 * (turn % 7))
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        code = 3
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if status:
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        failed.append((work.__name__, "hung" if hung else status))
stop.set()
thread.join(60)
sys.exit(repr(failed) if failed or thread.is_alive() or not np.array_equal(predict(x), wanted[64]) else 0)
"""
