"""PyTorch's torch.multiprocessing: Python's own multiprocessing. Tensors are copied to other
processes; what `share_memory` has moved, and nothing else, processes forked from this one share."""

from __future__ import annotations

import multiprocessing
from typing import Any

from fastnn.habits import no_such_name

__all__ = ["get_all_sharing_strategies", "get_sharing_strategy", "set_sharing_strategy"]


def set_sharing_strategy(new_strategy: str) -> None:
    """Nothing: there is one strategy."""


def get_sharing_strategy() -> str:
    """Returns "file_system", PyTorch's name of one."""
    return "file_system"


def get_all_sharing_strategies() -> set[str]:
    """Returns a set of the one strategy there is."""
    return {get_sharing_strategy()}


def __getattr__(name: str) -> Any:
    try:
        return getattr(multiprocessing, name)
    except AttributeError:
        raise no_such_name("fastnn.multiprocessing", name) from None
