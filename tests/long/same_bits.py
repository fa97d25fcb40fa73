"""The same seed gives the same bits for every number of threads, on one instruction set.

Every recipe's model, and random networks, are trained some steps, eagerly and compiled, on each number of threads, in
three runs: one SHA-256 of losses, weights, the optimiser's state and outputs.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import plan_networks as networks

import fastnn as fnn
from fastnn import backends, nn
from fastnn.recipes.recipe import MODELS

IN_CI = 0.01
THREADS, FEW = (1, 2, 3, 5, 8), (1, 3)
RUNS, STEPS = 3, 3


def digest(make: Callable[[], nn.Module], x: Any, y: Any, compiled: bool) -> str:
    fnn.manual_seed(3)
    model = make()
    optimizer, loss_fn = fnn.optim.AdamW(model.parameters(), lr=1e-3), nn.CrossEntropyLoss()
    said = hashlib.sha256()
    step = fnn.compile(model, loss_fn, optimizer) if compiled else None
    for _ in range(STEPS):
        if step is not None:
            loss = step(x, y)
        else:
            optimizer.zero_grad()
            total = loss_fn(model(fnn.tensor(x)), fnn.tensor(y))
            total.backward()
            optimizer.step()
            loss = total.item()
        said.update(repr(loss).encode())
    model.eval()
    arrays = [
        *model.state_dict().values(),
        fnn.compile(model)(x) if compiled else model(fnn.tensor(x)).detach().numpy(),
    ]
    arrays += [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
    for array in arrays:
        said.update(np.ascontiguousarray(array).tobytes())
    return said.hexdigest()


def random_case(seed: int) -> tuple[str, Callable[[], nn.Module], Any, Any]:
    rng = np.random.default_rng(seed)
    batch = int(rng.choice([3, 17, 32, 65]))
    layers, shape, uint8 = networks.random_plan_network(rng, batch)
    x = rng.integers(0, 256, shape, np.uint8) if uint8 else rng.standard_normal(shape).astype(np.float32)
    y = rng.integers(0, networks.CLASSES, batch)
    return f"random network {seed}", lambda: nn.Sequential(*(getattr(nn, name)(**kw) for name, kw in layers)), x, y


def recipe_case(name: str) -> tuple[str, Callable[[], nn.Module], Any, Any]:
    rng = np.random.default_rng(0)
    shape = {"tabular": (30,), "cnn1d": (2, 64)}.get(name, (1, 28, 28))
    images = len(shape) == 3
    x = rng.integers(0, 256, (64, *shape), np.uint8) if images else rng.standard_normal((64, *shape)).astype(np.float32)
    return f"recipe {name}", lambda: MODELS[name](shape, 10, (0.3,), (0.4,)), x, rng.integers(0, 10, 64)


def check(case: tuple[str, Callable[[], nn.Module], Any, Any], threads: tuple[int, ...], runs: int) -> int:
    """The number of trainings compared."""
    name, make, x, y = case
    made = 0
    for compiled in (False, True):
        wanted = ""
        for count in threads:
            backends.set_num_threads(count)
            for run in range(runs):
                found = digest(make, x, y, compiled)
                made += 1
                wanted = wanted or found
                how = "compiled" if compiled else "eager"
                assert found == wanted, f"{name}, {how}: {count} threads, run {run}: other bits than on {threads[0]}"
    gc.collect()
    return made


def measure(share: float = 1.0) -> str:
    before = backends.get_num_threads()
    full = share == 1
    names = list(MODELS) if full else ["lenet5", "tabular"]
    cases = [recipe_case(name) for name in names]
    cases += [random_case(seed) for seed in range(max(2, round(200 * share)))]
    try:
        made = sum(check(case, THREADS if full else FEW, RUNS if full else 1) for case in cases)
    finally:
        backends.set_num_threads(before)
    threads = ", ".join(map(str, THREADS if full else FEW))
    counts = f"{len(names)} recipes and {len(cases) - len(names)} random networks, {made} trainings"
    return f"{counts}: equal bits on {threads} threads ({backends.describe()['isa']})"
