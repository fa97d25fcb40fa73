"""The one device, as a value: programs that pick a device get the CPU."""

from __future__ import annotations

from typing import Any

from fastnn.errors import ArgumentError, BackendError

__all__ = ["CPU", "cpu_only", "device"]


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
