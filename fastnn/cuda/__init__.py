"""What programs ask of GPUs before they go on without: there are none. Seeds and caches are taken and ignored."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fastnn.habits import no_such_name

__all__ = ["device_count", "empty_cache", "is_available", "manual_seed", "manual_seed_all", "synchronize"]


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Nothing: fnn.manual_seed starts all random numbers."""


manual_seed_all = manual_seed


def empty_cache() -> None:
    """Nothing."""


def synchronize(device: Any = None) -> None:
    """Nothing: results are there when a call returns."""


def __getattr__(name: str) -> Any:
    if name == "amp":
        return import_module("fastnn.cuda.amp")
    raise no_such_name(__name__, name)
