"""PyTorch's place of averaged weights: ``from fastnn.optim.swa_utils import AveragedModel``."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastnn.habits import no_such_name


def __getattr__(name: str) -> Any:
    averaging = import_module("fastnn.nn.averaging")  # modules stand above optimisers
    if name not in averaging.__all__:
        raise no_such_name("fastnn.optim.swa_utils", name)
    return getattr(averaging, name)
