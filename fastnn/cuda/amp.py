"""PyTorch's older place of mixed precision for GPUs, of which there are none: switched off. See `fnn.amp`."""

from __future__ import annotations

from typing import Any

from fastnn import amp
from fastnn.habits import no_such_name

__all__ = ["GradScaler", "autocast"]


class autocast(amp.autocast):
    """``fnn.autocast("cuda", ...)``.

    >>> import fastnn as fnn
    >>> with fnn.cuda.amp.autocast():
    ...     fnn.zeros(2).dtype
    dtype('float32')
    """

    def __init__(self, enabled: bool = True, dtype: Any = None, cache_enabled: bool = True) -> None:
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """``fnn.amp.GradScaler("cuda", ...)``."""

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.cuda.amp", name)
