"""A data set in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.console import shown
from fastnn.errors import ArgumentError, DTypeError, LabelError, ShapeError

from .frames import as_labels, as_samples, check_missing, check_rows
from .samples_html import samples_html
from .split import stratified_split

MOST_CLASSES = 1_000_000


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Dataset:
    """Images and their labels, with the names of the classes.

    Args:
        images: (N, C, H, W) uint8 for every data set that fastnn reads; arrays of your own may have any shape (N, ...)
            and may be floating. Converted with ``np.asarray``, never copied without need. A data frame becomes (N, F).
        labels: (N,) integers, kept as int64; (N,) names of classes, which become integers; (N,) or (N, K) floating
            targets are kept as they are; (N, K) integers are one-hot labels and become float32.
        classes: one name a class. Left out, they are the labels' own names, sorted (of a categorical series in its
            order), or else "0", "1", ... up to the largest label; no names for floating (N,) targets.
        name: what the data set is called in messages and results.
        files: where the images come from, one name an image; empty if they come from none.

    `columns` are the names of a data frame's columns, empty without one. `named` says whether the labels are names of
    classes, as they were given, such as "0" and "1", which `fnn.predict` then gives back.

    uint8 images, (N, H, W) or (N, C, H, W), are pixels: they are divided by 255 before a model sees them, by
    ``nn.Normalize`` or else by ``fnn.fit`` and ``fnn.evaluate``. uint8 samples (N, F) are a table's numbers, which
    these two leave as they are. Samples (N, F) may be integers of any type, such as the numbers of words, and booleans.

    Raises:
        ShapeError: images and labels of different number. DTypeError: images that are neither uint8 nor floating, or
        masked.
        LabelError: labels outside 0 .. K - 1, names that are not among `classes`, or labels of a shape that is none of
        the above. DataError: missing values in a table (N, F), or columns that are no numbers, by their names.

    >>> Dataset([[1.0, 2.0], [3.0, 4.0]], ["no", "yes"]).classes
    ('no', 'yes')
    >>> Dataset(np.zeros((3, 1, 4, 4), np.uint8), [0, 2, 1], name="three")
    Dataset(three: images (3, 1, 4, 4) uint8, labels (3,) int64, 3 classes)
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    name: str
    columns: tuple[str, ...]
    files: tuple[str, ...]
    named: bool

    def __init__(
        self,
        images: Any,
        labels: Any,
        classes: Sequence[str] = (),
        name: str = "arrays",
        *,
        columns: Sequence[str] = (),
        files: Sequence[str] = (),
        named: bool = False,
    ) -> None:
        check_rows(images, labels)
        images, names = as_samples(images, columns)
        labels, found = as_labels(labels, classes)
        classes = tuple(classes) or found
        if images.ndim < 2:
            raise ShapeError(
                f"expected images (N, C, H, W) or other samples (N, ...), got an array of shape {images.shape}"
            )
        if images.dtype != np.uint8 and images.dtype.kind not in ("f" if images.ndim > 2 else "fiub"):
            hint = ""
            if images.dtype.kind in "iu":
                hint = ": write .astype(np.uint8) for pixels from 0 to 255, .astype(np.float32) for other numbers"
            raise DTypeError(f"expected uint8 or floating images, got {images.dtype}{hint}")
        check_missing(images, names or columns)
        labels = _checked_labels(labels)
        if len(labels) != len(images):
            raise ShapeError(f"expected one label for each of {len(images)} samples, got {len(labels)} labels")
        if files and len(files) != len(images):
            raise ShapeError(f"expected one file for each of {len(images)} images, got {len(files)} files")
        number = labels.shape[1] if labels.ndim == 2 else 0
        if labels.dtype == np.int64 and len(labels):
            number = int(labels.max()) + 1
            if number > MOST_CLASSES:
                raise LabelError(
                    f"expected labels of at most {MOST_CLASSES:,} classes, from 0 on, got {number - 1}: for values, "
                    "pass floating targets"
                )
            if labels.min() < 0 or (classes and number > len(classes)):
                limit = f"0 to {len(classes) - 1}" if classes else "0 and above"
                hint = "" if classes else ": other numbers are names of classes as text, np.asarray(y).astype(str)"
                raise LabelError(f"expected labels {limit}, got labels from {labels.min()} to {labels.max()}{hint}")
        for field, value in {
            "images": images,
            "labels": labels,
            "classes": classes or tuple(str(label) for label in range(number)),
            "name": name,
            "columns": names or tuple(columns),
            "files": tuple(files),
            "named": named or bool(found),
        }.items():
            object.__setattr__(self, field, value)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.images)

    def __repr__(self) -> str:
        samples = (
            "images" if self.images.ndim > 3 or (self.images.ndim == 3 and self.images.dtype == np.uint8) else "samples"
        )
        return (
            f"Dataset({shown(self.name)}: {samples} {self.images.shape} {self.images.dtype}, "
            f"labels {self.labels.shape} {self.labels.dtype}, {len(self.classes)} classes)"
        )

    def _repr_html_(self) -> str:
        """The first samples of each class, in turn."""
        return samples_html(self)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W)."""
        return self.images.shape[1:]

    def subset(self, indices: np.ndarray | slice) -> Dataset:
        """The images at ``indices`` (an index array, a mask or a slice), with all classes.

        >>> from fastnn.data import load
        >>> len(load("digits").subset(slice(100)))
        100
        """
        chosen = np.arange(len(self))
        try:
            chosen = np.atleast_1d(chosen[indices])
        except (IndexError, TypeError, ValueError) as error:
            raise ArgumentError(
                f"subset: expected indices of {len(self)} images, a mask or a slice ({error})"
            ) from None
        if chosen.ndim != 1:
            raise ShapeError(f"subset: expected a list of indices, got shape {chosen.shape}")
        files = np.array(self.files)[indices].tolist() if self.files else ()
        return self.like(self.images[indices], self.labels[indices], files)

    def like(self, images: np.ndarray, labels: np.ndarray, files: Sequence[str] = ()) -> Dataset:
        """A data set of other samples with the same classes, name and columns."""
        return Dataset(images, labels, self.classes, self.name, columns=self.columns, files=files, named=self.named)

    def split(self, held: float | int, seed: int = 0) -> tuple[Dataset, Dataset]:
        """``(rest, held out)``, stratified by class; see :func:`stratified_split` for the arguments and errors.

        >>> from fastnn.data import load
        >>> [len(part) for part in load("digits").split(0.2)]
        [1150, 287]
        """
        rest, chosen = stratified_split(self.labels, held, seed)
        return self.subset(rest), self.subset(chosen)

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel, for ``nn.Normalize(*train.statistics())``: take them from training
        data alone.

        uint8 images count as divided by 255, as ``nn.Normalize`` divides them, whatever their shape; floating ones as
        they are. The deviation is the biased one. A channel whose numbers differ by no more than rounding gets 1, so
        that nothing is divided by almost zero. Images that are not (N, C, H, W) are taken as one channel.

        >>> images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
        >>> Dataset(images, [0, 1]).statistics()
        ((0.5,), (0.5,))
        """
        channels = np.moveaxis(self.images, 1, 0) if self.images.ndim == 4 else self.images[np.newaxis]
        if self.images.size == 0:
            raise ShapeError(f"expected at least one image to take statistics of, got images {self.images.shape}")
        pairs = [mean_std(channel) for channel in channels]
        return tuple(mean for mean, _ in pairs), tuple(std for _, std in pairs)


def _checked_labels(labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind in "iub":
        if labels.ndim == 1:
            return labels.astype(np.int64, copy=False)
        if labels.ndim == 2 and labels.shape[1] > 1:
            return labels.astype(np.float32)
    elif labels.dtype.kind == "f" and labels.ndim in (1, 2):
        return labels
    hint = ""
    if labels.dtype.kind in "iub" and labels.ndim == 2:
        hint = ": write .astype(np.float32) for the targets of nn.BCEWithLogitsLoss() or of a regression"
    raise LabelError(
        "expected integer labels (N,), one-hot or soft labels (N, K), or targets (N,), "
        f"got {labels.dtype} {labels.shape}{hint}"
    )


def mean_std(values: np.ndarray) -> tuple[float, float]:
    """Returns mean and biased standard deviation, uint8 divided by 255; 1 where all numbers are the same."""
    if values.dtype != np.uint8:
        return _of_floats(values)
    # From the histogram: exact whole-number sums, the same on every machine. By blocks, since bincount makes int64 of
    # what it counts.
    blocks = (values[start : start + 1024].reshape(-1) for start in range(0, len(values), 1024))
    counts = np.sum([_histogram(block) for block in blocks], axis=0).tolist()
    total = sum(counts)
    first = sum(n * value for value, n in enumerate(counts))
    second = sum(n * value * value for value, n in enumerate(counts))
    return first / total / 255, (total * second - first * first) ** 0.5 / total / 255 or 1.0


def _of_floats(values: np.ndarray) -> tuple[float, float]:
    """In double precision and two passes, from the first value on, and on a scale on which no square overflows."""
    largest = max(abs(float(values.min())), abs(float(values.max())))
    if largest == 0 or not math.isfinite(largest):
        return float(values.mean(dtype=np.float64)), 1.0 if largest == 0 else math.nan
    unit = math.ldexp(1.0, math.frexp(largest)[1] - 1)  # a power of two: dividing by it is exact
    origin = float(values.flat[0]) / unit
    many = max(1, 8 * len(values) // values.size)  # blocks at a time: they stay in cache
    starts = range(0, len(values), 1024 * many)

    def mean_of(terms: Callable[[np.ndarray], np.ndarray]) -> float:
        blocks = (values[i : i + 1024 * many].astype(np.float64) / unit - origin for i in starts)
        return math.fsum(total for block in blocks for total in _sums_of_1024(terms(block))) / values.size

    mean = mean_of(lambda block: block)
    std = math.sqrt(mean_of(lambda block: np.square(block - mean)))
    rounding = float(np.finfo(values.dtype).eps) * largest / unit
    return (origin + mean) * unit, std * unit if std > rounding else 1.0


def _sums_of_1024(terms: np.ndarray) -> list[float]:
    """The sums of 1024 rows each: of all that are whole at once, and of what is left."""
    whole = len(terms) // 1024 * 1024
    sums: list[float] = terms[:whole].reshape(-1, 1024 * (terms.size // len(terms))).sum(axis=1).tolist()
    return sums if whole == len(terms) else [*sums, float(terms[whole:].sum())]


def _histogram(values: np.ndarray) -> np.ndarray:
    """How often each byte occurs. Pairs are counted, which takes half the time, and then taken apart."""
    even = len(values) // 2 * 2
    pairs = np.bincount(values[:even].view(np.uint16), minlength=1 << 16).reshape(256, 256)
    counts = pairs.sum(axis=0) + pairs.sum(axis=1)
    counts[values[even:]] += 1
    return counts
