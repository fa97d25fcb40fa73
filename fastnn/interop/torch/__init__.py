"""Models and weights from PyTorch, and back.

values    tensors as arrays and back; files that torch.save wrote
layers    the layers that both libraries have
computed  weights that are normed, orthogonal or pruned
steps     a forward of one's own, traced by torch.fx
sizes     what sizes a trace has, for an example
program   FromTorch, the module that runs what was traced
read      from_torch
write     to_torch
graph     graphs of torch.fx, of steps and of fastnn's traces
operators PyTorch's expression of each of fastnn's operators
"""

from fastnn.interop.torch.program import FromTorch
from fastnn.interop.torch.read import from_torch
from fastnn.interop.torch.values import load_pt
from fastnn.interop.torch.write import save_pt, to_torch

__all__ = ["FromTorch", "from_torch", "load_pt", "save_pt", "to_torch"]
