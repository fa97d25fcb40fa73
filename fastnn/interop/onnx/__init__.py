"""Models from and to ONNX files.

load       a file as a trainable module: the public function
file       protocol buffers as nodes and arrays, checked
prepare    what is learned, names, constants computed beforehand, dense layers
patterns   layers that are written as several operators
run        one node on values
operators  what each of ONNX's operators is here
"""

from fastnn.interop.onnx.load import OnnxModel, load

__all__ = ["OnnxModel", "load"]
