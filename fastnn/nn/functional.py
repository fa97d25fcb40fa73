"""PyTorch's functional interface: ``import fastnn.nn.functional as F``. Its names stand in fastnn/ops/names.py."""

from typing import TYPE_CHECKING, Any

from fastnn.habits import no_such_name
from fastnn.ops.names import find, having

if TYPE_CHECKING:
    from fastnn.ops import *  # noqa: F403

__all__ = having("F")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise no_such_name("fastnn.nn.functional", name)
    globals()[name] = value = find(name)
    return value


def __dir__() -> list[str]:
    return __all__
