"""PyTorch's question after Apple's GPU: there is none."""

from fastnn.cuda import is_available

__all__ = ["is_available", "is_built"]

is_built = is_available
