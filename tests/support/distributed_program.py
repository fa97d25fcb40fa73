"""Trainings that tests/train/test_train_distributed.py runs on one rank and, by mpiexec, on several.

python distributed_program.py OUT [--distributed]: writes OUT.RANK.json and OUT.RANK.npz.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import distributed, nn, optim, train
from fastnn.plan.steady import Unsteady
from fastnn.train import steps, team

DATA = fnn.data.load("digits")
SAID: dict[str, Any] = {}
ARRAYS: dict[str, np.ndarray] = {}
SHARED = "--distributed" in sys.argv
RANK = distributed.rank() if SHARED else 0
EXCHANGES: list[str] = SAID.setdefault("exchanges", [])


def exchange_of(*args: Any, make: Any = team.exchange_of) -> Any:
    """Called by fit; notes which kind was made."""
    exchange = make(*args)
    EXCHANGES.append(type(exchange).__name__)
    return exchange


team.exchange_of = exchange_of


def network(*inside: nn.Module, seed: int = 0) -> nn.Sequential:
    fnn.manual_seed(seed if RANK == 0 else 100 + seed)  # all ranks begin as rank 0 does
    layers = [nn.Normalize(0.3, 0.4), nn.Flatten(), nn.Linear(784, 32), *inside, nn.ReLU(), nn.Linear(32, 10)]
    return nn.Sequential(*layers)


def states(optimizer: optim.Optimizer) -> np.ndarray:
    """All arrays that an optimiser keeps, one after another."""
    every = [value for state in optimizer.state.values() for _, value in sorted(state.items())]
    return np.concatenate([np.ravel(value) for value in every])


def fitted(name: str, model: nn.Module, data: Any = None, **options: Any) -> fnn.History:
    data = DATA.subset(slice(0, 330)) if data is None else data
    history = fnn.fit(model, data, verbose=False, seed=3, distributed=SHARED, **options)
    ARRAYS[name] = np.concatenate([p.numpy().ravel() for p in model.parameters()])
    SAID[name] = [[record.train_loss, record.train_accuracy, record.val_loss] for record in history]
    return history


def equal_paths() -> None:
    """What does not depend on the number of ranks: 33 samples in a batch are uneven shares, the last batch is short."""
    model = network()
    rates = optim.AdamW(model.parameters(), lr=0.002, l2=1e-4)
    if SHARED:
        distributed.world().on_one_machine = False
    fitted("adam", model, optimizer=rates, batch_size=33, epochs=10, val=0.25)  # 248 samples: 8 steps an epoch
    if SHARED:
        distributed.world().on_one_machine = True
    model = network()
    adam = optim.Adam(model.parameters(), lr=0.002)
    plan = optim.lr_scheduler.OneCycleLR(adam, max_lr=0.01, total_steps=100)
    options: Any = {"batch_size": 33, "epochs": 10, "scheduler": plan}
    own = [p._data for p in model.parameters()]
    fitted("steps", model, optimizer=adam, **options)  # 100 steps
    ARRAYS["steps, state"] = states(adam)
    SAID["steps, own memory"] = all(p._data is array for p, array in zip(model.parameters(), own, strict=True))
    model = network()
    sgd = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    fitted("eager", model, optimizer=sgd, batch_size=47, epochs=2, compile=False, class_weight={3: 5.0})
    model = network()
    rates = optim.SGD(model.parameters(), lr=0.001)
    fitted("sum", model, optimizer=rates, batch_size=47, epochs=2, loss=nn.CrossEntropyLoss(reduction="sum"))
    weighted = nn.CrossEntropyLoss(weight=np.arange(1, 11, dtype=np.float32), ignore_index=3)
    fitted("ignored", network(), epochs=2, batch_size=47, loss=weighted)
    model = network()
    fitted("descent", model, optimizer=optim.GradientDescent(model.parameters()), batch_size="full", epochs=4)
    for name, compiled in (("part", True), ("part, eager", False)):  # the optimiser has some of the parameters alone
        model = network()
        fitted(name, model, optimizer=optim.SGD(model[4].parameters(), lr=0.1), batch_size=33, compile=compiled)
    model = network()
    rates = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
    planned = steps.CompiledStep.__call__
    steps.CompiledStep.__call__ = without_plan  # type: ignore[method-assign]
    with warnings.catch_warnings(action="ignore"):
        fitted("unplanned", model, optimizer=rates, batch_size=33, epochs=2)
    steps.CompiledStep.__call__ = planned  # type: ignore[method-assign]
    found = fnn.evaluate(model, DATA.subset(slice(0, 301)), metrics=["f1"], distributed=SHARED)
    SAID["evaluation"] = [found.loss, found.accuracy, found.metrics["f1"]]
    ARRAYS["confusion"] = found.confusion if found.confusion is not None else np.zeros(0)
    model = network()
    fitted("tiny", model, (DATA.images[:5], DATA.labels[:5]), batch_size=4, epochs=3)  # the last batch is one sample


def without_plan(step: Any, x: Any, y: Any, planned: Any = steps.CompiledStep.__call__) -> float:
    """A compiled step that goes on operator by operator: the first rank after two steps, the others after four."""
    if step._made == (4 if RANK else 2):
        step._go_on_without_plan(Unsteady("a test says so"))
        step._made += 1
    return float(planned(step, x, y))


def own_numbers() -> None:
    """What is each rank's own: statistics, dropout, augmentation."""
    for name in ("random", "random again"):
        model = network(nn.BatchNorm1d(32), nn.Dropout(0.3))
        data = DATA.subset(slice(0, 130))
        moves = fnn.data.Augment(shift=2)
        batches = fnn.data.Batches(data.images, data.labels, 32, shuffle=True, seed=1, augment=moves)
        drawn: list[float] = []
        loss = nn.CrossEntropyLoss()
        model[4].register_forward_hook(lambda module, args, out, to=drawn: to.append(float(out.detach().numpy().sum())))
        fitted(name, model, batches, loss=loss, epochs=2, compile=False)
        ARRAYS[f"{name}, statistics"] = np.concatenate([model[3].running_mean, model[3].running_var])
        SAID[f"{name}, drawn"] = drawn


def callbacks() -> None:
    """They run on rank 0, and stop all."""

    class Stop(train.Callback):
        calls = 0

        def on_batch_end(self, training: train.Training) -> None:
            self.calls += 1
            training.optimizer.param_groups[0]["lr"] *= 0.9
            if training.epoch == 2 and training.batch == 2:
                ARRAYS["callback, state"] = states(training.optimizer)
                training.stop("enough")

    model, stop = network(), Stop()
    history = fitted("callback", model, batch_size=64, epochs=5, callbacks=[stop])
    SAID["callback"] = [stop.calls, len(history)]


def failures() -> None:
    """What one rank meets in a step is raised on all."""

    def own_loss(outputs: Any, targets: Any) -> Any:
        if RANK == 1 or not SHARED:
            raise ValueError("fails on one rank")
        return nn.CrossEntropyLoss()(outputs, targets)

    cases: dict[str, Any] = {"error": ((DATA.images[:64], DATA.labels[:64]), own_loss)}
    samples = np.ones((8, 784), np.float32)
    samples[-1, 5] = np.nan  # in the last share
    cases["not finite"] = (fnn.data.Batches(samples, DATA.labels[:8], 8), None)
    cases["not finite, compiled"] = cases["not finite"]
    if SHARED:
        count = 64 + RANK
        cases["other data"] = ((DATA.images[:count], DATA.labels[:count]), None)
    for name, (data, loss) in cases.items():
        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        fnn.manual_seed(5)
        nn.init.normal_(model[1].weight)
        before = model[1].weight.numpy().copy()
        try:
            fitted(name, model, data, loss=loss, compile=name == "not finite, compiled")
            SAID[name] = "nothing was raised"
        except Exception as error:
            SAID[name] = f"{type(error).__name__}: {error}"
            SAID[f"{name}, as before"] = bool((model[1].weight.numpy() == before).all())


if __name__ == "__main__":
    equal_paths()
    own_numbers()
    callbacks()
    failures()
    with open(f"{sys.argv[1]}.{RANK}.json", "w") as stream:
        json.dump(SAID, stream)
    np.savez(f"{sys.argv[1]}.{RANK}.npz", **ARRAYS)
