"""The one device, as a value: programs that pick a device get the CPU."""

from __future__ import annotations

from typing import Any

from fastnn.errors import ArgumentError, BackendError, DTypeError

__all__ = ["CPU", "cpu_only", "device", "no_half", "no_such_device"]


_OTHERS = ("cuda", "mps", "xpu", "gpu", "hpu", "meta", "xla")


class device(str):
    """A device as a value, that prints as its name and equals it. Others than the CPU may be named, as by programs that
    compare with them; where tensors or models are to go there, that is a BackendError.

    >>> import fastnn as fnn
    >>> here = fnn.device("cuda" if fnn.cuda.is_available() else "cpu")
    >>> here, here.type, here == "cpu", fnn.zeros(2, device=here).device == here
    (device(type='cpu'), 'cpu', True, True)
    """

    __slots__ = ()

    def __new__(cls, type: Any = "cpu", index: int | None = None) -> device:
        name = f"cuda:{type}" if isinstance(type, int) else str(type) if index is None else f"{type}:{index}"
        kind, _, number = name.partition(":")
        if kind not in ("cpu", *_OTHERS) or not (number.isdecimal() if ":" in name else not number):
            raise ArgumentError(f"fnn.device: expected 'cpu', or another device's name to compare with, got {type!r}")
        return super().__new__(cls, "cpu" if kind == "cpu" else name)

    @property
    def type(self) -> str:
        return str(self).partition(":")[0]

    @property
    def index(self) -> int | None:  # type: ignore[override]
        """The number behind the name, None for the one CPU; no method of text."""
        return int(str(self).partition(":")[2]) if ":" in self else None

    def __repr__(self) -> str:
        number = "" if self.index is None else f", index={self.index}"
        return f"device(type={self.type!r}{number})"


def cpu_only(where: str, wanted: Any) -> None:
    """BackendError for a device that is not the CPU, ArgumentError for what is none."""
    if wanted is None or (isinstance(wanted, str) and str(wanted) in ("cpu", "cpu:0")):
        return
    name = str(wanted)
    if isinstance(wanted, int) or name.partition(":")[0] in _OTHERS:
        raise BackendError(
            f"{where}: fastnn runs on the CPU and has no device {name!r}: "
            'fnn.device("cuda" if fnn.cuda.is_available() else "cpu") picks it'
        )
    raise ArgumentError(f"{where}: expected the device 'cpu', got {wanted!r}")


CPU = device("cpu")


def no_such_device(device: object, habit: str) -> BackendError:
    """Raises the error for a request for a GPU."""
    return BackendError(f"fastnn runs on the CPU and has no device {str(device)!r}: leave out {habit}")


def no_half() -> DTypeError:
    """Raises the error for a request for 16-bit numbers."""
    return DTypeError("fastnn computes in float32 and float64, not in float16: leave out .half()")
