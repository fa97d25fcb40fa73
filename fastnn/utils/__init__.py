"""PyTorch's place of data loaders: `fastnn.utils.data`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastnn.habits import no_such_name

if TYPE_CHECKING:
    from fastnn.utils import data

__all__ = ["data"]


def __getattr__(name: str) -> Any:
    if name == "data":
        return import_module("fastnn.utils.data")
    raise no_such_name("fastnn.utils", name)
