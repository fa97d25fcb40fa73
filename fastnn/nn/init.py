"""PyTorch's place of the initialisers: ``from fastnn.nn.init import xavier_uniform_``."""

from fastnn.init import *  # noqa: F403
from fastnn.init import __all__ as __all__
from fastnn.init import left_out as left_out
