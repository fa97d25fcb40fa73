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

    def forward(self, *inputs: Any) -> Tensor:
        result: Tensor = getattr(ops, self.function)(*inputs, *(getattr(self, name) for name in self.options))
        return result

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)}" for name in self.options)
