"""An allocation that fails is a `MemoryError`, and leaves weights, statistics and the optimiser's state as they were.

So for compiled steps and predictions, and eager `optimizer.step()` of the optimisers with kernels: the next one gives
the bits that the failed one would have given. NumPy says SystemError where its own iterators find no memory.
"""

from __future__ import annotations

import json

import allocations

IN_CI = 0.003

LIMIT = 300  # MB

# argv: which share of each case's allocations is to fail, the largest limit of address space in MB, how many limits.
PROGRAM = """
import hashlib, json, resource, sys
import numpy as np
import fastnn as fnn
from fastnn import nn, optim

share, most, limits = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
LOSS = nn.CrossEntropyLoss()

def dense():
    return nn.Sequential(nn.Flatten(), nn.Linear(196, 64), nn.ReLU(), nn.Linear(64, 10))

def chain():
    first = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2))
    return nn.Sequential(first, nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 49, 32),
                         nn.Linear(32, 10))

def wide():
    first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return nn.Sequential(first, nn.Linear(16 * 49, 600), nn.Tanh(), nn.LayerNorm(600), nn.Linear(600, 10))

OPTIMIZERS = {
    "Adam": lambda p: optim.Adam(p, lr=0.01), "SGD": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, l2=1e-3),
    "RMSprop": lambda p: optim.RMSprop(p, lr=1e-3, maximize=True),
}

class Case:
    def __init__(self, make, kind, optimizer, batch):
        fnn.release_memory()
        fnn.manual_seed(0)
        self.model, self.kind = make(), kind
        self.optimizer = OPTIMIZERS[optimizer](self.model.parameters())
        self.x = np.random.default_rng(1).standard_normal((batch, 1, 14, 14)).astype(np.float32)
        self.y = np.arange(batch) % 10
        options = {"clip": {"clip_norm": 1.0}, "accumulate": {"accumulate": 2}}.get(kind, {})
        self.step = fnn.compile(self.model, LOSS, self.optimizer, **options)
        self.predict = fnn.compile(self.model)

    def prepare(self):
        if self.kind == "eager":
            self.optimizer.zero_grad()
            LOSS(self.model(fnn.tensor(self.x)), fnn.tensor(self.y)).backward()
        if self.kind == "predict":
            self.optimizer.zero_grad()

    def run(self):
        if self.kind == "eager":
            self.optimizer.step()
        elif self.kind == "predict":
            self.predict(self.x)
        else:
            self.step(self.x, self.y)

    def state(self):
        said = hashlib.sha256()
        for array in self.model.state_dict().values():
            said.update(np.asarray(array).tobytes())
        for state in self.optimizer.state_dict()["state"].values():
            for name in sorted(state):
                said.update(name.encode() + np.asarray(state[name]).tobytes())
        return said.hexdigest()

def attempt(case, what, before, after):
    try:
        case.run()
        failed = False
    except MemoryError:
        failed = True
    except SystemError as error:  # NumPy's own
        assert "without" in str(error) and "exception" in str(error), error
        failed = True
    finally:
        seen()
    if failed and case.kind != "accumulate":  # a group that fails is dropped, which is documented
        assert case.state() == before, f"{what}: failed, and left another state"
        if case.kind != "eager" and not case.draws:
            case.run()
            assert case.state() == after, f"{what}: the next step gave another state"
    elif not failed:
        assert case.state() == after, f"{what}: no error, and another state"
    return failed

count = failures = 0
for make in (dense, chain, wide):
    for kind in ("step", "clip", "accumulate", "eager", "predict"):
        for optimizer in OPTIMIZERS:
            for warm in (0, 1):
                def begin():
                    case = Case(make, kind, optimizer, 16)
                    case.draws = make is chain and kind in ("step", "clip")
                    for _ in range(warm):
                        case.prepare(), case.run()
                    case.prepare()
                    return case
                begin().run()  # all is imported
                case = begin()
                before = case.state()
                watch(0)
                case.run()
                total, after = seen(), case.state()
                chosen = [n for n in range(1, total + 1) if share == 1 or rng.random() < share]
                for n in chosen:
                    for onwards in (False, True):
                        what = f"{make.__name__}, {kind}, {optimizer}, {warm} steps before, allocation {n} of {total}"
                        what += " and all later ones" * onwards
                        case = begin()
                        assert case.state() == before, what
                        watch(n, onwards)
                        failures += attempt(case, what, before, after)
                        count += 1

# The limit that `ulimit -v` sets, from nothing to what a large batch needs.
for megabytes in range(0, most, max(1, most // max(1, limits))) if limits else ():
    case = Case(wide, "step", "Adam", 3000)
    case.draws = False
    before = case.state()
    with open("/proc/self/statm") as file:
        now = int(file.read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (now + megabytes * 1_000_000, resource.RLIM_INFINITY))
    try:
        case.run()
    except MemoryError:
        failures += 1
        assert case.state() == before, f"{megabytes} MB: another state"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    count += 1
print(json.dumps([count, failures]))
"""


def measure(share: float = 1.0) -> str:
    limits = round(60 * share)
    count, failures = json.loads(allocations.run(PROGRAM, share, LIMIT, limits).splitlines()[-1])
    assert failures, "no allocation failed"
    return f"{count} failing allocations and limits of address space, {failures} MemoryErrors, every state intact"
