"""PyTorch's functional interface: ``import fastnn.nn.functional as F``. Its names stand in fastnn/ops/names.py."""

from typing import TYPE_CHECKING, Any

from fastnn.habits import no_such_name
from fastnn.ops.names import having, in_place, method

if TYPE_CHECKING:
    from fastnn.ops import *  # noqa: F403

_NAMES = having("F")
if not TYPE_CHECKING:
    __all__ = _NAMES


def __getattr__(name: str) -> Any:
    if name not in _NAMES and name not in in_place("F"):
        raise no_such_name("fastnn.nn.functional", name)
    globals()[name] = value = method(name)
    return value


def __dir__() -> list[str]:
    return _NAMES
