"""Data set, model, optimiser and schedule that go together: what `fastnn train` runs.

The models are functions of the images' shape and the number of classes; each begins with `nn.Normalize`, so that it
takes uint8 images as they come. A `Recipe` adds the numbers to train one with. Two are made for an end: `fast` gets
MNIST to 99 % in the least time, `best` gets it as far as three minutes on two cores allow.
"""

from .algorithms import ALGORITHMS, FULL
from .deep import mobile, resnet
from .recipe import AUTO, MODELS, Recipe, augmentation, choose, recipe, recipe_of
from .run import Run, load_run
from .small import best, cnn, fast, lenet5, linear, mlp

__all__ = [
    "ALGORITHMS",
    "AUTO",
    "FULL",
    "MODELS",
    "Recipe",
    "Run",
    "augmentation",
    "best",
    "choose",
    "cnn",
    "fast",
    "lenet5",
    "linear",
    "load_run",
    "mlp",
    "mobile",
    "recipe",
    "recipe_of",
    "resnet",
]
