"""The base of layers that apply one function of fastnn.ops."""

from __future__ import annotations

from typing import Any

from fastnn import ops
from fastnn.nn.module import Module
from fastnn.tensors import Tensor


class Applied(Module):
    """A function of fastnn.ops, by its name, with the options that its __init__ keeps."""

    function: str
    options: tuple[str, ...] = ()
    inplace = False

    def forward(self, *inputs: Any) -> Tensor:
        function, options = getattr(ops, self.function), [getattr(self, name) for name in self.options]
        result: Tensor = function(*inputs, *options, **({"inplace": True} if self.inplace else {}))
        return result

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in (*self.options, *["inplace"] * self.inplace))
