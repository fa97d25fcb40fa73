"""Seeing and checking what happens in training."""

from fastnn.insight.gradients import GradientError, gradcheck, numeric_gradient

__all__ = ["GradientError", "gradcheck", "numeric_gradient"]
