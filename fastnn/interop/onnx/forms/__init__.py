"""How each operator of fastnn is written as nodes of ONNX.

registry    the table of forms
elements    what is computed entry by entry, types, random numbers
layers      convolutions, pools, products, norms, recurrent layers
reductions  sums, extrema and truth over dimensions
places      what moves entries: reshaping, indexing, writing at places, sorting
losses      losses, for models that return them
own         operators that fnn.elementwise made
"""

from fastnn.interop.onnx.forms import elements, layers, losses, own, places, reductions
from fastnn.interop.onnx.forms.registry import FORMS, is_random

__all__ = ["FORMS", "elements", "is_random", "layers", "losses", "own", "places", "reductions"]
