"""A model as one C99 file: weights, plain loops, `void predict(const float *x, float *y)`.

export    the public function
fold      batch norms into the weights before them, and the model run operator by operator
quantize  weights of eight bits, calibrated on data
lower     each operator's rule, as for compiled plans, taken down as C statements
kernels   the loops of convolutions, products and the like, and formulas of one entry
memory    which buffers share memory
source    the file's text
"""

from fastnn.interop.c.export import Exported, export_c

__all__ = ["Exported", "export_c"]
