"""Models as ONNX files, which other programs read and run.

export         the public function
batch          a graph for any number of samples, of traces with several
writer         nodes, initializers, and sizes known when the model runs
operators_out  how each operator is written
places_out     those that move entries
losses_out     losses
"""

from fastnn.interop.onnx.export import Exported, export

__all__ = ["Exported", "export"]
