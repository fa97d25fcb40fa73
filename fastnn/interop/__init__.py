"""Models for programs without fastnn, and from PyTorch and back."""

from fastnn.interop.c import Exported, export_c
from fastnn.interop.torch import FromTorch, from_torch, load_pt, save_pt, to_torch

__all__ = ["Exported", "FromTorch", "export_c", "from_torch", "load_pt", "save_pt", "to_torch"]
