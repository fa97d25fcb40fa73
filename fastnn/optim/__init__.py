"""Optimisers, simplest first: each keeps a state per parameter and calls one kernel per parameter and step.

They see parameters (anything with `.data`, a live ndarray, and `.grad`, an ndarray or None), not layers. Formulas and
the order of rounding are PyTorch's. θ are the parameters, g the gradient, γ the learning rate, λ the weight decay.
All take penalties, too: `l1=`, `l2=` and `penalize_bias=`, see `Optimizer`.
"""

from __future__ import annotations

import sys
from typing import Any

from fastnn.habits import no_such_name

from . import lr_scheduler, moments, swa_utils
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .descent import GradientDescent
from .lbfgs import LBFGS
from .moments import ASGD, Adadelta, Adamax, NAdam, RAdam
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .rprop import Rprop
from .sgd import SGD

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "GradientDescent",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
    "swa_utils",
]

# Where PyTorch has them: ``from fastnn.optim.adamw import AdamW``.
adadelta = adamax = asgd = nadam = radam = moments
adamw = sys.modules[f"{__name__}.adam"]
sys.modules |= {f"{__name__}.{_place}": moments for _place in ("adadelta", "adamax", "asgd", "nadam", "radam")}
sys.modules[f"{__name__}.adamw"] = adamw


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.optim", name)


def __dir__() -> list[str]:
    return __all__
