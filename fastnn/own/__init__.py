"""Operators that users write as formulas: `elementwise`."""

from .operator import elementwise

__all__ = ["elementwise"]
