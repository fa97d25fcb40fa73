"""Seeded orders and stratified splits: the same numbers on every machine and for every version of NumPy."""

from __future__ import annotations

import numpy as np

from fastnn.arrays import as_array
from fastnn.checks import number, whole
from fastnn.errors import ArgumentError, ShapeError

SPLIT, SHUFFLE, AUGMENT = range(3)  # what random numbers are for; each purpose has its own stream of a seed


def philox(seed: int, purpose: int, *counter: int) -> np.random.Philox:
    """Counter-based generator: the same (seed, purpose, counter) gives the same numbers, whatever was drawn before.

    ``counter`` has up to three entries (epoch, batch); the lowest counter word is the generator's own.

    >>> int(philox(0, SPLIT).random_raw()) == int(philox(0, SHUFFLE).random_raw())
    False
    """
    seed = check_seed(seed)
    words = np.zeros(4, np.uint64)
    words[1 : 1 + len(counter)] = counter
    return np.random.Philox(key=np.array([seed, purpose], np.uint64), counter=words)


def check_seed(seed: int) -> int:
    """The seed as Python's int. Raises ArgumentError unless it is one."""
    return whole("", "seed", seed, 0, 2**64 - 1, "a whole seed from 0 to 2**64 - 1")


def check_size(where: str, size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) as Python's ints. Raises ArgumentError unless it is that."""
    try:
        height, width = size
    except (TypeError, ValueError):
        raise ArgumentError(f"{where}: expected size=(H, W), got {size!r}") from None
    return whole(where, "H", height, 1), whole(where, "W", width, 1)


def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of ``n`` images in one epoch: int64 (n,).

    Indices are sorted by one random 64-bit word each. NumPy keeps a bit generator's words the same for ever, which it
    does not promise of ``Generator.permutation``.

    >>> permutation(5, seed=1, epoch=0), permutation(5, seed=1, epoch=1)
    (array([0, 3, 4, 2, 1]), array([2, 3, 4, 1, 0]))
    """
    return order_of(philox(seed, SHUFFLE, epoch).random_raw(n))


def order_of(words: np.ndarray) -> np.ndarray:
    """The indices that sort random words, equal ones in their order: int64 (n,), for uint64 (n,).

    NumPy sorts values several times as fast as indices, so each index is sorted in the lowest bits of its word.

    >>> order_of(np.array([7, 1 << 63, 6, 7], np.uint64))
    array([2, 0, 3, 1])
    """
    low = np.uint64((1 << len(words).bit_length()) - 1)
    both = np.sort((words & ~low) | np.arange(len(words), dtype=np.uint64))
    if ((both[1:] ^ both[:-1]) <= low).any():  # words that differ in the lowest bits alone
        return np.argsort(words, kind="stable")
    return (both & low).view(np.int64)


def stratified_split(labels: np.ndarray, held: float | int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Indices of two parts of a data set in which every class has its share.

    Args:
        labels: (N,) integer labels; any other labels (soft, regression) are split without regard to their values.
        held: how many to hold out: a fraction between 0 and 1, or a whole number from 1 to N - 1.
        seed: the same seed gives the same split.

    Returns:
        ``(rest, held)``, both int64 and sorted. Shares are rounded by largest remainder, so that the sizes add up
        exactly.

    Raises:
        ArgumentError: ``held`` leaves one of the parts empty.

    >>> rest, held = stratified_split(np.array([0, 0, 0, 0, 1, 1, 1, 1]), 0.5)
    >>> [int((np.array([0, 0, 0, 0, 1, 1, 1, 1])[part] == 1).sum()) for part in (rest, held)]
    [2, 2]
    """
    labels = as_array(labels)
    if not labels.ndim:
        raise ShapeError("stratified_split: expected labels (N,), got one alone")
    n = len(labels)
    expected = f"a fraction between 0 and 1 or a number from 1 to {n - 1} of {n} samples"
    held = number("", "held", held, 0, n, expected=expected)
    count = round(held * n) if isinstance(held, float) else held
    if not 0 < count < n or (isinstance(held, float) and not 0 < held < 1):
        rounded = f", which is {count} of them" if isinstance(held, float) and 0 < held < 1 else ""
        raise ArgumentError(f"expected {expected}, got {held}{rounded}")
    by_class = labels.ndim == 1 and labels.dtype.kind in "iu"
    _, strata, sizes = np.unique(labels if by_class else np.zeros(n, np.int64), return_inverse=True, return_counts=True)
    quotas = sizes * count  # in units of 1/n image, so that no rounding error decides
    shares = quotas // n
    largest = np.argsort(-(quotas % n), kind="stable")
    shares[largest[: count - shares.sum()]] += 1
    keys = philox(seed, SPLIT).random_raw(n)
    order = np.lexsort((keys, strata))  # class by class, in random order within each
    rank = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.zeros(n, bool)
    chosen[order] = rank < np.repeat(shares, sizes)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)
