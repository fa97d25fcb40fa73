"""Models from and to ONNX files.

export     a model as a file: the public function
batch      a graph for any number of samples, of traces with several
writer     nodes, initializers, and sizes known when the model runs
forms      how each operator of fastnn is written

load       a file as a trainable module: the public function
file       protocol buffers as nodes and arrays, checked
prepare    what is learned, names, constants computed beforehand, dense layers
patterns   layers that are written as several operators
run        one node on values
operators  what each of ONNX's operators is here
"""

from fastnn.interop.onnx.export import Exported, export
from fastnn.interop.onnx.load import OnnxModel, load

__all__ = ["Exported", "OnnxModel", "export", "load"]
