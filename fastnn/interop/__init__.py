"""Models for programs without fastnn."""

from fastnn.interop import onnx
from fastnn.interop.c import Exported, export_c

__all__ = ["Exported", "export_c", "onnx"]
