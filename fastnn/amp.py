"""PyTorch's mixed precision, of which a CPU that computes in float32 needs nothing: what is off there is off here.

PyTorch on a machine without a GPU switches ``autocast("cuda")`` and ``GradScaler()`` off with a warning; here they are
off without one. What would compute in half precision, ``autocast("cpu")``, is refused.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from typing import Any

from fastnn.checks import flag, shown
from fastnn.errors import ArgumentError
from fastnn.habits import no_such_name

__all__ = ["GradScaler", "autocast", "is_autocast_available"]


class autocast(ContextDecorator):
    """Context, or decorator, in which nothing is cast. ArgumentError where PyTorch would compute in half precision.

    Args:
        device_type: a GPU's, for which it is off, there being none; "cpu" needs ``enabled=False``.
        dtype, cache_enabled: taken and ignored.

    >>> import fastnn as fnn
    >>> with fnn.autocast("cuda"):
    ...     fnn.zeros(2).dtype
    dtype('float32')
    """

    def __init__(
        self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        _refuse_cpu("autocast", device_type, enabled, "nothing is cast to half precision")

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: Any) -> None:
        pass


def is_autocast_available(device_type: str) -> bool:
    """False: there is no half precision to cast to."""
    return False


class GradScaler:
    """PyTorch's scaler of losses that is switched off: float32 holds gradients as they are. It steps the optimiser.

    ArgumentError for one that is switched on for the CPU; for a GPU, of which there is none, it is off, as in PyTorch.

    >>> import fastnn as fnn
    >>> from fastnn import nn, optim
    >>> layer, scaler = nn.Linear(2, 1), fnn.amp.GradScaler()
    >>> optimizer = optim.SGD(layer.parameters(), lr=0.1)
    >>> scaler.scale(layer([[1.0, 2.0]]).sum()).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> scaler.is_enabled(), scaler.get_scale()
    (False, 1.0)
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        _refuse_cpu("GradScaler", device, enabled, "in which no gradient has to be scaled")

    def scale(self, outputs: Any) -> Any:
        """The loss itself."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Nothing."""

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """The optimiser's own step. ArgumentError for what is no optimiser."""
        if not hasattr(optimizer, "step"):
            raise ArgumentError(f"GradScaler.step: expected an optimizer, got {shown(optimizer)}")
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Nothing."""

    def get_scale(self) -> float:
        """1."""
        return 1.0

    def is_enabled(self) -> bool:
        """False."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state_dict: Any) -> None:
        """Nothing."""


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.amp", name)


def _refuse_cpu(where: str, device: Any, enabled: Any, why: str) -> None:
    if flag(where, "enabled", enabled) and str(device).partition(":")[0] == "cpu":
        raise ArgumentError(
            f"{where}: expected enabled=False on the CPU: fastnn computes in float32 and float64, {why}"
        )
