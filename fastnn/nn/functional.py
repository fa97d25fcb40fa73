"""PyTorch's name for fastnn.ops: ``import fastnn.nn.functional as F``."""

from fastnn.ops import *  # noqa: F403
from fastnn.ops import __all__ as __all__
