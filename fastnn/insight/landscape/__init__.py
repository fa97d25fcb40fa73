"""The loss around a model: along a line, over a plane, and where the optimiser went on it.

    w(t) = w* + t·d        w(t, s) = w* + t·d + s·p

`line` and `plane` measure the loss there, `trajectory` where a training's path lies in such a plane; `view` and
`picture` show the result, `load` reads what `Landscape.save` wrote. Directions are described at `plane`.

>>> import fastnn as fnn
>>> model = fnn.nn.Sequential(fnn.nn.Normalize(0.3, 0.4), fnn.nn.Flatten(), fnn.nn.Linear(784, 10))
>>> result = fnn.landscape.plane(model, "digits", points=3, progress=False)
>>> result.losses.shape, bool(result.losses[1, 1] == fnn.evaluate(model, "digits").loss)
((3, 3), True)
"""

from .measure import line, plane, sample, trajectory
from .picture import picture
from .result import Axis, Landscape, Trajectory, load
from .view import view

__all__ = [
    "Axis",
    "Landscape",
    "Trajectory",
    "line",
    "load",
    "picture",
    "plane",
    "sample",
    "trajectory",
    "view",
]
