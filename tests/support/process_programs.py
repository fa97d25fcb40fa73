"""Programs that fork, start threads and end while others compute: for tests of processes, short and long."""

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

# argv: how many threads are started, one after the other, while two others train models of their own.
STARTS = """
import sys, threading
import numpy as np
import fastnn as fnn
from fastnn import nn, optim

fnn.manual_seed(0)
fixed = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 100, 10)).eval()
x, y = np.random.default_rng(0).random((64, 1, 12, 12), np.float32), np.arange(64) % 10
predict = fnn.compile(fixed)
wanted, few = predict(x), predict(x[:5])
stop, failed = threading.Event(), []

def guarded(work):
    def run():
        try:
            work()
        except BaseException as error:
            failed.append(repr(error))
    return run

@guarded
def train():
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 100, 10))
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.01))
    losses = [step(x, y)]
    while not stop.is_set():
        losses.append(step(x, y))
    assert np.isfinite(losses).all()

@guarded
def compute():
    assert np.array_equal(predict(x), wanted), "another prediction, by the plan that all share"
    assert np.array_equal(fnn.compile(fixed)(x[:5]), few), "another prediction, by its own plan"
    own = fnn.tensor(x[:3], requires_grad=True)
    fixed(own).sum().backward()
    assert np.isfinite(own.grad).all()

trainers = [threading.Thread(target=train) for _ in range(2)]
for thread in trainers:
    thread.start()
for _ in range(int(sys.argv[1])):
    thread = threading.Thread(target=compute)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "a thread hangs"
stop.set()
for thread in trainers:
    thread.join(60)
sys.exit(repr(failed[:3]) if failed else 0)
"""

# argv: seconds. Ends then, while daemon threads are inside kernels.
ENDS = """
import sys, threading, time
import numpy as np
import fastnn as fnn
from fastnn import nn, optim

x, y = np.random.default_rng(0).random((256, 784), np.float32), np.arange(256) % 10

def train():
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
    step = fnn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.01))
    while True:
        step(x, y)

for _ in range(3):
    threading.Thread(target=train, daemon=True).start()
time.sleep(float(sys.argv[1]))
"""

# For a file, argv: how many. Processes of each start method, an event loop's threads and a handler of signals compute the same.
METHODS = """
import asyncio, multiprocessing, signal, sys
import numpy as np
import fastnn as fnn
from fastnn import nn

X = np.linspace(0, 1, 64 * 784, dtype=np.float32).reshape(64, 784)

def predictor():
    fnn.manual_seed(0)
    return fnn.compile(nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 10)))

def outputs(_=None):
    return predictor()(X)

async def at_once(count):
    predict = predictor()
    return await asyncio.gather(*(asyncio.to_thread(predict, X) for _ in range(count)))

if __name__ == "__main__":
    wanted, count = outputs(), int(sys.argv[1])
    for method in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context(method).Pool(2) as pool:
            for found in pool.map(outputs, range(count)):
                assert np.array_equal(found, wanted), method
    for found in asyncio.run(at_once(20 * count)):
        assert np.array_equal(found, wanted), "asyncio"
    seen = []
    signal.signal(signal.SIGUSR1, lambda *_: seen.append(outputs()))
    for _ in range(5 * count):
        signal.raise_signal(signal.SIGUSR1)
        outputs()
    assert len(seen) == 5 * count and all(np.array_equal(found, wanted) for found in seen), "a handler of signals"
"""

# In a second interpreter of this process, fastnn works, or its import is refused in words.
SUBINTERPRETER = """
import sys
import fastnn
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
try:
    import numpy as np
    import fastnn as fnn
    assert fnn.compile(fnn.nn.Linear(3, 2))(np.ones((4, 3), np.float32)).shape == (4, 2)
except ImportError as error:
    assert "interpreter" in str(error), error
'''
made = interpreters.create()
error = interpreters.run_string(made, code)
interpreters.destroy(made)
sys.exit(0 if error is None else str(error))
"""
