"""PyTorch's place of the learning-rate schedules: ``from fastnn.optim.lr_scheduler import StepLR``."""

from fastnn.schedules import *  # noqa: F403
from fastnn.schedules import LRScheduler
from fastnn.schedules import __all__ as __all__

_LRScheduler = LRScheduler  # PyTorch's older name, which schedules of one's own inherit from
