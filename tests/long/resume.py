"""A resumed training is exact, also from within an epoch: no bit differs from that of one that never stopped.

Trainings of every optimiser, with every schedule, with dropout, batch norm, augmentation and the recipes' models, are
left at random batches: what their folder holds just then, as after a kill, is gone on with by objects made anew. All
that the checkpoint keeps is compared with that of the training that was left alone.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn import nn, optim, recipes, weights
from fastnn.data import Augment, Batches, Dataset
from fastnn.optim import lr_scheduler as schedules
from fastnn.train import Callback, Checkpoint, EarlyStopping, ResumeWarning, StopOnPlateau, Training, fit

IN_CI = 0.1
SEED, EPOCHS, KILLS = 14, 4, 3
RNG = np.random.default_rng(0)
DATA = Dataset(RNG.integers(0, 256, (40, 1, 28, 28), dtype=np.uint8), np.arange(40) % 10)

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    name: getattr(optim, name)
    for name in optim.__all__
    if isinstance(getattr(optim, name), type) and name not in ("Optimizer", "SGD")
}
OPTIMIZERS["SGD"] = lambda p: optim.SGD(p, lr=0.1)
OPTIMIZERS["momentum"] = lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
OPTIMIZERS["amsgrad"] = lambda p: optim.Adam(p, amsgrad=True, weight_decay=1e-3)
OPTIMIZERS["two groups"] = lambda p: optim.AdamW([{"params": (ps := list(p))[:2], "lr": 0.1}, {"params": ps[2:]}])
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "none": lambda o: None,
    "StepLR": lambda o: schedules.StepLR(o, 1, gamma=0.5),
    "MultiStepLR": lambda o: schedules.MultiStepLR(o, [1, 3]),
    "CosineAnnealingLR": lambda o: schedules.CosineAnnealingLR(o, EPOCHS),
    "CosineAnnealingWarmRestarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 2),
    "ExponentialLR": lambda o: schedules.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: schedules.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    "ReduceLROnPlateau": lambda o: schedules.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, 0.1, total_iters=2), schedules.ExponentialLR(o, 0.9)], [2]
    ),
    "ChainedScheduler": lambda o: schedules.ChainedScheduler(
        [schedules.ConstantLR(o, 0.5, 2), schedules.PolynomialLR(o, 4)]
    ),
    "OneCycleLR": lambda o: schedules.OneCycleLR(o, max_lr=0.05, total_steps=EPOCHS * 5),
    "CyclicLR": lambda o: schedules.CyclicLR(o, 0.01, 0.1, 2, cycle_momentum=False),
    "SWALR": lambda o: optim.swa_utils.SWALR(o, 0.05, 2),
}


class Leave(Callback):
    """Copies the run's folder after some batches, counted over all epochs, as a kill would leave it."""

    def __init__(self, folder: Path, after: list[int]) -> None:
        self.folder, self.after = folder, after

    def on_batch_end(self, training: Training) -> None:
        done = (training.epoch - 1) * len(training.batches) + training.batch
        if done in self.after:
            shutil.copytree(self.folder, self.folder.with_name(f"{self.folder.name}-{done}"))


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Normalize(0.5, 0.3), nn.Conv2d(1, 3, 5, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout2d(0.2), nn.Flatten(),
        nn.Linear(192, 12), nn.BatchNorm1d(12), nn.Tanh(), nn.Dropout(0.3), nn.Linear(12, 10),
    )  # fmt: skip


Start = Callable[[Path, tuple[Callback, ...]], None]


def start(optimizer: str, schedule: str, compile: bool, left: str) -> Start:
    """As a process does that begins anew: the seed, a fresh model and all that goes with it, then the checkpoint."""

    def run(folder: Path, more: tuple[Callback, ...]) -> None:
        fnn.manual_seed(5)
        made = OPTIMIZERS[optimizer]
        closure = getattr(made, "needs_closure", False)
        model = network()
        if closure:
            model[4].p = model[9].p = 0.0
        augment = None if closure else Augment(rotate=10, shift=2)
        batches = Batches.of(DATA, 40 if closure else 9, shuffle=True, seed=3, augment=augment)
        opt = made(model.parameters())
        keep = [
            EarlyStopping("train_loss", 9),
            StopOnPlateau(9),
            Checkpoint(folder, resume=True, every=1 + (left == "2")),
        ]
        fit(
            model, batches, DATA, optimizer=opt, scheduler=SCHEDULES[schedule](opt), epochs=EPOCHS, verbose=False,
            callbacks=[*keep, *more], compile=compile,
        )  # fmt: skip

    return run


def of_recipe(name: str, compile: bool) -> Start:
    def run(folder: Path, more: tuple[Callback, ...]) -> None:
        recipes.train(
            DATA, model=name, seed=4, epochs=EPOCHS, batch_size=9, verbose=False, compile=compile,
            callbacks=[Checkpoint(folder, resume=True), *more],
        )  # fmt: skip

    return run


def trainings() -> Iterator[tuple[str, Start]]:
    plain = [name for name in SCHEDULES if name != "OneCycleLR"]
    for number, optimizer in enumerate(OPTIMIZERS):
        yield f"{optimizer}, compiled", start(optimizer, plain[number % 2], True, "1")
        yield f"{optimizer}, eager", start(optimizer, "none", False, "2")
    for schedule in SCHEDULES:
        yield schedule, start("momentum", schedule, True, "1")
    for model in recipes.MODELS:
        if model not in ("tabular", "cnn1d"):
            yield f"recipe {model}", of_recipe(model, True)


def state(folder: Path) -> tuple[dict[str, bytes], Any]:
    """All that a checkpoint keeps but the time that the epochs took."""
    arrays, note = weights.load_with_note(folder / "checkpoint.safetensors")
    kept = json.loads(note or "")
    for row in kept["history"]:
        row["seconds"] = row["images_per_second"] = 0
    return {name: array.tobytes() for name, array in arrays.items()}, kept


def measure(share: float = 1.0) -> str:
    rng = random.Random(SEED)
    every = list(trainings())
    chosen = every[:: max(1, round(1 / share))]
    resumed = 0
    for number, (name, run) in enumerate(chosen):
        with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
            warnings.simplefilter("error", ResumeWarning)
            folder = Path(place) / "run"
            batches = 1 if "LBFGS" in name or "GradientDescent" in name else 5
            after = rng.sample(range(1, EPOCHS * batches), KILLS if share >= 1 else 1)
            run(folder, (Leave(folder, after),))
            arrays, note = state(folder)
            for done in after:
                left = folder.with_name(f"run-{done}")
                run(left, (Leave(left, []),))
                others, other = state(left)
                told = f"{name}, left after batch {done} (number {number}, seed {SEED})"
                differ = [key for key in {*arrays, *others} if arrays.get(key) != others.get(key)]
                assert not differ, f"{told}: other bits in {sorted(differ)}"
                differ = [key for key in {*note, *other} if note.get(key) != other.get(key)]
                assert not differ, f"{told}: {[(key, note.get(key), other.get(key)) for key in differ]}"
                whole = [(place / "weights.safetensors").read_bytes() for place in (folder, left)]
                assert whole[0] == whole[1], f"{told}: other weights"
                resumed += 1
    return f"{resumed} resumptions of {len(chosen)} trainings, no bit differs"
