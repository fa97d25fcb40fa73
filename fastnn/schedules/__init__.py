"""Learning-rate schedules, by PyTorch's names; users find them as `optim.lr_scheduler`.

A schedule sets `group["lr"]` of each of the optimiser's groups: once when it is made (t = 0) and again at every
`step()`, by a formula of the step t and the rate lr₀ that you set last. What an earlier schedule made of that rate does
not count: each group remembers, as "initial_lr" and "scheduled_lr", the rate that you set and the one that a schedule
set last.

A rate that you change while a schedule runs counts, too: from then on, all rates of the schedule are multiplied by the
ratio of the new rate to the scheduled one. (Where the scheduled rate is 0 there is no ratio: the next step overwrites.)
"""

from __future__ import annotations

from .base import LRScheduler
from .combined import SWALR, ChainedScheduler, SequentialLR
from .cycles import CosineAnnealingWarmRestarts, CyclicLR, OneCycleLR
from .formulas import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from .plateau import ReduceLROnPlateau

__all__ = [
    "SWALR",
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "CyclicLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]
