"""PyTorch's place of the learning-rate schedules: ``from fastnn.optim.lr_scheduler import StepLR``."""

from fastnn.schedules import *  # noqa: F403
from fastnn.schedules import __all__ as __all__
