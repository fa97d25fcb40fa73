"""Models for programs without fastnn, and from them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any
"""Models for programs without fastnn, and from PyTorch and back."""

from fastnn.interop.c import Exported, export_c
from fastnn.interop.torch import FromTorch, from_torch, load_pt, save_pt, to_torch

if TYPE_CHECKING:
    from fastnn.interop import onnx

__all__ = ["Exported", "export_c", "onnx"]


def __getattr__(name: str) -> Any:
    if name == "onnx":
        return import_module("fastnn.interop.onnx")
    raise AttributeError(f"module 'fastnn.interop' has no attribute {name!r}")
__all__ = ["Exported", "FromTorch", "export_c", "from_torch", "load_pt", "save_pt", "to_torch"]
