"""PyTorch's place of data loaders, `fastnn.utils.data`, of checkpoints, and of the writer for TensorBoard."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastnn import hub
from fastnn.habits import no_such_name

if TYPE_CHECKING:
    from fastnn.utils import checkpoint, data, tensorboard

__all__ = ["checkpoint", "data", "tensorboard"]

# Where PyTorch had it before torch.hub: ``import fastnn.utils.model_zoo as model_zoo``.
model_zoo = sys.modules[f"{__name__}.model_zoo"] = hub


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"fastnn.utils.{name}")
    raise no_such_name("fastnn.utils", name)
