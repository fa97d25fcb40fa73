"""PyTorch's place of data loaders, `fastnn.utils.data`, and of checkpoints, `fastnn.utils.checkpoint`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastnn.habits import no_such_name

if TYPE_CHECKING:
    from fastnn.utils import checkpoint, data

__all__ = ["checkpoint", "data"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return import_module(f"fastnn.utils.{name}")
    raise no_such_name("fastnn.utils", name)
