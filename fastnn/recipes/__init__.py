"""Data set, model, optimiser and schedule that go together: what `fastnn train` runs.

`train` does all of it in one call. The models are functions of the samples' shape and the number of classes; each
begins with `nn.Normalize`, so that it takes uint8 images, or the columns of a table, as they come. A `Recipe` adds the
numbers to train one with. Two are made for an end: `fast` gets MNIST to 99 % in the least time, `best` gets it as far
as three minutes on two cores allow. `choose` takes the one that suits the data.
"""

from .algorithms import ALGORITHMS, FULL
from .deep import mobile, resnet
from .recipe import AUTO, MODELS, Recipe, augmentation, choose, recipe, recipe_of
from .rows import cnn1d, tabular
from .run import Run, load_run
from .small import best, cnn, fast, lenet5, linear, mlp
from .speed import Measure, Speed, measure_speed
from .training import train

__all__ = [
    "ALGORITHMS",
    "AUTO",
    "FULL",
    "MODELS",
    "Measure",
    "Recipe",
    "Run",
    "Speed",
    "augmentation",
    "best",
    "choose",
    "cnn",
    "cnn1d",
    "fast",
    "lenet5",
    "linear",
    "load_run",
    "measure_speed",
    "mlp",
    "mobile",
    "recipe",
    "recipe_of",
    "resnet",
    "tabular",
    "train",
]
