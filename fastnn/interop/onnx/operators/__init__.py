"""ONNX's operators, each a function of the node (`Call`) and its inputs that calls fastnn's operators.

registry    the table of them, and what a function sees of its node
elements    arithmetic, comparisons and functions of single entries
shaping     shapes, parts and copies of tensors
picking     entries by their places
reductions  sums, extrema and orders along dimensions
dense       products and convolutions
pools       windows and whole planes
norms       normalisations
resizing    other sizes, and channels as places
recurrent   RNN, GRU and LSTM
losses      losses that stand in the graph
classic     what scikit-learn's converters write: the domain ai.onnx.ml

Values that do not depend on the model's input are arrays, all others tensors.
"""

from fastnn.interop.onnx.operators import (
    classic,
    dense,
    elements,
    losses,
    norms,
    picking,
    pools,
    recurrent,
    reductions,
    resizing,
    shaping,
)
from fastnn.interop.onnx.operators.registry import OPERATORS, Call

__all__ = [
    "OPERATORS", "Call", "classic", "dense", "elements", "losses", "norms", "picking", "pools", "recurrent",
    "reductions", "resizing", "shaping",
]  # fmt: skip
