"""Data sets in memory, and batches of them.

A :class:`Dataset` holds images (N, C, H, W) and labels (N,). :func:`load` makes one from a name (``SOURCES`` lists
them), a folder of images by class, a list of image files, or a pair of arrays. :class:`Batches` walks over images and
labels in a seeded order. :func:`fetch` downloads a data set ahead of time, :func:`verify` says whether its files are
what they should be.

>>> import fastnn as fnn
>>> train = fnn.data.load("digits")              # split="test" gives the 360 images kept for the test
>>> train
Dataset(digits: images (1437, 1, 28, 28) uint8, labels (1437,) int64, 10 classes)
>>> rest, held = train.split(0.1, seed=0)        # stratified: each class gives its tenth
>>> len(rest), len(held)
(1293, 144)
>>> mean, std = rest.statistics()                # per channel, of pixels divided by 255: for nn.Normalize
>>> batches = fnn.data.Batches(rest.images, rest.labels, batch_size=128, shuffle=True, seed=0)
>>> len(batches)
11
>>> x, y = next(iter(batches))
>>> x.shape, x.dtype.name, y.shape, y.dtype.name
((128, 1, 28, 28), 'uint8', (128,), 'int64')
"""

from .augment import Augment
from .batches import Batches
from .dataset import Dataset
from .download import fetch
from .folder import read_image
from .idx import read_idx
from .loading import load
from .local import FileReport, verify
from .sources import SOURCES, Source
from .split import stratified_split

__all__ = [
    "SOURCES",
    "Augment",
    "Batches",
    "Dataset",
    "FileReport",
    "Source",
    "fetch",
    "load",
    "read_idx",
    "read_image",
    "stratified_split",
    "verify",
]
