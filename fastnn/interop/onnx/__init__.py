"""Models from and to ONNX files.

load       a file as a trainable module
"""

from fastnn.interop.onnx.load import OnnxModel, load

__all__ = ["OnnxModel", "load"]
