"""PyTorch's place of the export to ONNX, ``import fastnn.onnx``: what `fastnn.interop.onnx` has."""

from fastnn.interop.onnx import Exported, OnnxModel, export, load

__all__ = ["Exported", "OnnxModel", "export", "load"]
