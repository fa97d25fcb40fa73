"""PyTorch's place of the initialisers: ``from fastnn.nn.init import xavier_uniform_``."""

from typing import Any

from fastnn import init
from fastnn.init import *  # noqa: F403
from fastnn.init import __all__ as __all__
from fastnn.init import left_out as left_out


def __getattr__(name: str) -> Any:
    return getattr(init, name)  # older names, and those with an underscore at the start
