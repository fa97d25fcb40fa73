"""PyTorch's place of the export to ONNX, ``import fastnn.onnx``: `fastnn.interop.onnx`."""

import sys

from fastnn.interop import onnx

sys.modules[__name__] = onnx
