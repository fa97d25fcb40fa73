"""The one device, as a value: programs that pick a device get the CPU."""

from __future__ import annotations

from typing import Any

from fastnn.errors import ArgumentError, BackendError, DTypeError

__all__ = ["CPU", "cpu_only", "device", "no_half", "no_such_device"]


class device(str):
    """The CPU, as a value: prints as "cpu" and equals "cpu". BackendError for any other device, by name or number.

    >>> import fastnn as fnn
    >>> here = fnn.device("cuda" if fnn.cuda.is_available() else "cpu")
    >>> here, here.type, here == "cpu", fnn.zeros(2, device=here).device == here
    (device(type='cpu'), 'cpu', True, True)
    """

    __slots__ = ()

    def __new__(cls, type: Any = "cpu", index: int | None = None) -> device:
        cpu_only("fnn.device", type)
        return super().__new__(cls, "cpu")

    @property
    def type(self) -> str:
        return "cpu"

    @property
    def index(self) -> None:  # type: ignore[override]
        """None, as PyTorch has it for the one CPU; no method of text."""
        return None

    def __repr__(self) -> str:
        return "device(type='cpu')"


def cpu_only(where: str, wanted: Any) -> None:
    """BackendError for a device that is not the CPU, ArgumentError for what is none."""
    if wanted is None or (isinstance(wanted, str) and str(wanted) in ("cpu", "cpu:0")):
        return
    name = str(wanted)
    if isinstance(wanted, int) or name.partition(":")[0] in ("cuda", "mps", "xpu", "gpu", "hpu", "meta", "xla"):
        raise BackendError(
            f"{where}: fastnn runs on the CPU and has no device {wanted!r}: "
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
