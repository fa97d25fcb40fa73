"""PyTorch's torch.accelerator: there is none."""

from __future__ import annotations

from typing import Any

from fastnn.cuda import device_count, is_available, synchronize
from fastnn.habits import no_such_name

__all__ = ["current_accelerator", "device_count", "is_available", "synchronize"]


def current_accelerator(check_available: bool = False) -> None:
    """None."""


def __getattr__(name: str) -> Any:
    raise no_such_name(__name__, name)
