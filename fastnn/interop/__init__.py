"""Models for programs without fastnn, and from them; from PyTorch and back."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastnn.interop.c import Exported, export_c
from fastnn.interop.torch import FromTorch, from_torch, load_pt, save_pt, to_torch

if TYPE_CHECKING:
    from fastnn.interop import onnx

__all__ = ["Exported", "FromTorch", "export_c", "from_torch", "load_pt", "onnx", "save_pt", "to_torch"]


def __getattr__(name: str) -> Any:
    if name == "onnx":
        return import_module("fastnn.interop.onnx")
    raise AttributeError(f"module 'fastnn.interop' has no attribute {name!r}")
