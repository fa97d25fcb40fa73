"""Data sets out of picture files: the part that is wanted, in one size and one number of channels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.console import shown
from fastnn.errors import DataError

from .dataset import Dataset
from .picture import Head, channels_first, read_head, read_picture
from .prepare import fitted
from .split import stratified_split

__all__ = ["Part", "Pictures", "few", "in_order", "in_words", "unequal"]

LARGEST = 64  # pixels of the longer side where pictures get a size that is not their own
MOST_ALIKE = 256 * 256  # pixels of pictures of one size, which keep it
TEST_SHARE = 0.2
UNEQUAL = 10  # times as many samples: from there on the share of right answers says little of the small class


@dataclass
class Part:
    """Files of one part of a data set.

    Attributes:
        files: each with its label: the name of its class, or a number.
        left: what is not used, by the reason.
    """

    files: list[tuple[Path, Any]] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)

    def leave(self, why: str, name: str) -> None:
        self.left.setdefault(why, []).append(name)


@dataclass
class Pictures:
    """Picture files and their labels, before any is read.

    Attributes:
        name: what the data set is called.
        where: what names it, for messages.
        root: the folder from which on files are named in messages.
        parts: by "train", "val" and "test"; one "train" alone is divided, one "all" is whatever part is wanted.
        named: whether the user named each file, so that none may be left out.
        hint: what to do where all files are of one class.
    """

    name: str
    where: str
    root: Path
    parts: dict[str, Part]
    named: bool = False
    hint: str = ""

    def read(
        self, split: str, size: tuple[int, int] | None, gray: bool | None, classes: Sequence[str] | None
    ) -> Dataset:
        """One part, uint8 (N, C, H, W).

        Args:
            split: "train", "val", "test", or "all" for all of them.
            size: (H, W); None for that of the training pictures; where they differ, or are more than 256×256, for
                their median, at most 64.
            gray: None for gray if no picture of any part is in colour.
            classes: the names that labels may be, in order; None for those of the training pictures.

        Raises DataError for pictures of one class alone, of a class that is not known, and without such a part.
        """
        learned = self.parts.get("train") or self.parts["all"]
        by_name = isinstance(learned.files[0][1], str)
        known = self._classes(learned) if by_name and classes is None else tuple(classes or ())
        part = self._part(split)
        labels = [label for _, label in part.files]
        if by_name:
            if unknown := sorted(set(labels) - set(known)):
                raise DataError(
                    f"{self.where}: expected only pictures of the classes {few(known)}, found {few(unknown)}"
                )
            numbers = {name: number for number, name in enumerate(known)}
            labels = [numbers[label] for label in labels]
        size, gray = self._shape(learned, size, gray, telling=split in ("train", "all"))
        images = np.empty((len(labels), 1 if gray else 3, *size), np.uint8)
        read: list[int] = []
        for number, (file, _) in enumerate(part.files):
            try:
                picture = read_picture(file)
            except DataError:
                if self.named or (number == len(labels) - 1 and not read):
                    raise
                part.leave("images that cannot be read", self._named(file))
                continue
            if picture.several:
                part.leave("files with several pictures, of which the first is taken", self._named(file))
            images[number] = channels_first(fitted(picture.pixels, size, gray), gray)
            read.append(number)
        self._tell(part)
        if len(read) < len(labels):
            images, labels = images[read], [labels[number] for number in read]
        names = [self._named(part.files[number][0]) for number in read]
        return Dataset(images, np.array(labels), known, self.name, files=names)

    def _part(self, split: str) -> Part:
        parts = self.parts
        if split == "all":
            return _joined(parts.values())
        if "all" in parts:
            return parts["all"]
        if len(parts) > 1:
            if split == "test" and "test" not in parts:
                warnings.warn(f"{shown(self.where)}: there is no part test: val is taken for it", stacklevel=4)
                split = "val"
            if split not in parts:
                raise DataError(f"{self.where}: expected a part {split}, found {' and '.join(parts)}")
            return parts[split]
        if split == "val":
            raise DataError(f"{self.where}: expected a part val, found none")
        whole = parts["train"]
        count = len(whole.files)
        if not round(TEST_SHARE * count):
            raise DataError(
                f"{self.where}: expected images enough to keep {TEST_SHARE:.0%} of them for the test, at least 3, or "
                f"parts train and test, found {count}"
            )
        labels = np.array([label for _, label in whole.files])
        if labels.dtype.kind == "U":
            labels = np.unique(labels, return_inverse=True)[1]
        chosen = stratified_split(labels, TEST_SHARE)[split == "test"]
        # The training part alone names the files that were left out, so that this is said once.
        return Part([whole.files[number] for number in chosen], whole.left if split == "train" else {})

    def _classes(self, part: Part) -> tuple[str, ...]:
        found = in_order({label for _, label in part.files})
        if len(found) < 2:
            raise DataError(
                f"{self.where}: expected pictures of two classes or more, found only {few(found)}{self.hint}"
            )
        return found

    def _shape(
        self, learned: Part, size: tuple[int, int] | None, gray: bool | None, telling: bool
    ) -> tuple[tuple[int, int], bool]:
        """The size and whether gray, as given or else as the files are; `telling` says a size that was chosen here."""
        heads: list[Head] = []
        if size is None:
            heads = [head for head in map(_head, learned.files) if head is not None]
            if not heads:
                read_head(learned.files[0][0])  # says why
            sizes = np.array([(head.height, head.width) for head in heads])
            size = tuple(sizes[0].tolist())
            if (sizes != sizes[0]).any() or size[0] * size[1] > MOST_ALIKE:
                size = _typical(sizes)
                if telling:
                    smallest, largest = (sizes[find(sizes.prod(axis=1))] for find in (np.argmin, np.argmax))
                    warnings.warn(
                        f"{shown(self.where)}: pictures of {_by(smallest)} to {_by(largest)} pixels are all resized to "
                        f"{_by(size)}, their median{' within 64 pixels' if LARGEST in size else ''}: size=(H, W) or "
                        "--size HxW chooses another",
                        stacklevel=4,
                    )
        if gray is None:
            others = (part.files for part in self.parts.values() if not (heads and part is learned))
            rest = (head for files in others for head in map(_head, files) if head is not None)
            gray = not (any(head.colour for head in heads) or any(head.colour for head in rest))
        return size, gray

    def _named(self, file: Path) -> str:
        return (file.relative_to(self.root) if self.root in file.parents else file).as_posix()

    def _tell(self, part: Part) -> None:
        if part.left:
            told = "; ".join(f"{why} ({len(names)}: {few(names)})" for why, names in part.left.items())
            warnings.warn(f"{shown(self.where)}: not everything is used: {told}", stacklevel=4)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names of classes in alphabetical order, or in that of the numbers that all of them are.

    >>> in_order({"10", "9"}), in_order({"10", "9", "nine"})
    (('9', '10'), ('10', '9', 'nine'))
    """
    names = sorted(names)
    return tuple(sorted(names, key=int) if all(name.isascii() and name.isdecimal() for name in names) else names)


def _joined(parts: Iterable[Part]) -> Part:
    whole = Part()
    for part in parts:
        whole.files += part.files
        for why, names in part.left.items():
            for name in names:
                whole.leave(why, name)
    return whole


def _head(entry: tuple[Path, Any]) -> Head | None:
    """None for what is no image, which is said where it is read."""
    try:
        return read_head(entry[0])
    except DataError:
        return None


def _typical(sizes: np.ndarray) -> tuple[int, int]:
    """The median height and width of sizes (N, 2), scaled down where the longer is above 64."""
    median = np.median(sizes, axis=0)
    height, width = np.rint(np.maximum(median * min(1, LARGEST / median.max()), 1)).astype(int).tolist()
    return height, width


def _by(size: Sequence[int] | np.ndarray) -> str:
    return "×".join(str(int(side)) for side in size)


def in_words(classes: Sequence[str]) -> str:
    """How many classes there are, and which, unless their names are their numbers.

    >>> in_words(("cat", "dog")), in_words(("0", "1", "2"))
    ('2 classes: cat, dog', '3 classes')
    """
    numbered = tuple(classes) == tuple(map(str, range(len(classes))))
    return f"{len(classes):,} classes{'' if numbered else f': {few(classes)}'}"


def unequal(counts: Sequence[int], classes: Sequence[str]) -> str:
    """What to know of classes of very different sizes: the smallest and the largest; nothing of others.

    >>> unequal([5, 395], ("rare", "usual")), unequal([40, 60], ("cat", "dog"))
    ('from 5 samples (rare) to 395 (usual)', '')
    """
    least, most = (pick(range(len(counts)), key=counts.__getitem__) for pick in (min, max))
    if counts[most] < UNEQUAL * max(counts[least], 1):
        return ""
    return f"from {counts[least]:,} samples ({shown(classes[least])}) to {counts[most]:,} ({shown(classes[most])})"


def few(names: Sequence[str]) -> str:
    """The first three names."""
    return ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "")
