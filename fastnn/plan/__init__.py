"""The plan: a model, traced once, fused, and run in a few native calls a step.

trace      the graph of operators, written down without computing
reach      what else the model's code can read: attributes, closures, globals, random generators
structure  whether all that is still what it was
steady     traced twice: whether every call does the same
fuse       operators become stages: a chain of convolutions, a dense layer, the loss
native     stages as the kernels take them
execute    the stages of one shape, run forward and backward
stepping   and what follows: the optimiser's step (update), clipping, accumulation
step       what compile() returns: executions by shape
"""

from fastnn.plan.compile import compile
from fastnn.plan.fuse import FUSIONS

__all__ = ["FUSIONS", "compile"]
