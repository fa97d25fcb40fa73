"""A watch for NaN in backward, which names the operator that made it."""

from __future__ import annotations

from fastnn.errors import ArgumentError
from fastnn.recording import state

__all__ = ["detect_anomaly", "is_anomaly_enabled", "set_detect_anomaly"]


class set_detect_anomaly:
    """Look for NaN in every gradient of the calling thread from now on, or no more; as a context, until its end.

    NonFiniteError names the operator, and the layer in whose forward it ran. Backward is slower meanwhile. Without
    `check_nan` nothing is looked for.

    >>> import fastnn as fnn
    >>> x = fnn.Tensor([0.0], requires_grad=True)
    >>> with fnn.autograd.set_detect_anomaly(True):
    ...     (x * float("nan")).sum().backward()
    Traceback (most recent call last):
        ...
    fastnn.errors.NonFiniteError: backward: Mul gave NaN as gradient of input 0
    """

    def __init__(self, mode: bool, check_nan: bool = True) -> None:
        if not isinstance(mode, bool):
            raise ArgumentError(f"{type(self).__name__}: expected True or False, got {mode!r}")
        self._before = state.anomaly
        state.anomaly = mode and check_nan

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        state.anomaly = self._before


class detect_anomaly(set_detect_anomaly):
    """`set_detect_anomaly(True)`, as a context."""

    def __init__(self, check_nan: bool = True) -> None:
        super().__init__(True, check_nan)


def is_anomaly_enabled() -> bool:
    """Whether the calling thread looks for NaN in backward."""
    return state.anomaly
