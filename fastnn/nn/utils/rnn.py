"""PyTorch's torch.nn.utils.rnn: sequences of several lengths in one batch, padded or packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastnn import ops
from fastnn.checks import choice, entries, flag, number, whole
from fastnn.errors import ArgumentError, DTypeError, ShapeError
from fastnn.habits import no_such_name
from fastnn.ops.common import tensor_of
from fastnn.tensors import Array, Tensor

__all__ = [
    "PackedSequence",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class PackedSequence(NamedTuple):
    """Sequences without padding, the longest first: all their first entries, then all their second ones, and so on.

    `data` (entries, ...); `batch_sizes` (T,), how many sequences go on at each time; `sorted_indices` (B,), which
    sequence stands where, and `unsorted_indices`, where each stands; None if they were in order. Recurrent layers take
    it and return their outputs as one.
    """

    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None = None
    unsorted_indices: Tensor | None = None

    @property
    def lengths(self) -> Array:
        """(B,), the longest first."""
        sizes = self.batch_sizes.numpy()
        return (np.arange(sizes[0])[:, None] < sizes).sum(1)


def pad_sequence(
    sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Tensors (L, ...) of several lengths as one, (T, B, ...) or with `batch_first` (B, T, ...).

    >>> from fastnn.nn.utils.rnn import pad_sequence
    >>> import fastnn as fnn
    >>> pad_sequence([fnn.ones(3), fnn.ones(1)], batch_first=True)
    Tensor([[1., 1., 1.],
            [1., 0., 0.]])
    """
    padding_side = choice("pad_sequence", "padding_side", padding_side, ("right", "left"))
    tensors = [tensor_of(x) for x in entries("pad_sequence", "sequences", sequences)]
    if not tensors or len({x.shape[1:] for x in tensors}) > 1 or any(x.ndim == 0 for x in tensors):
        raise ShapeError(
            "pad_sequence: expected sequences (L, ...) that differ in their length alone, got shapes "
            f"{[tuple(x.shape) for x in tensors]}"
        )
    longest = max(map(len, tensors))
    rest = (0, 0) * (tensors[0].ndim - 1)
    ends = [(longest - len(x), 0) if padding_side == "left" else (0, longest - len(x)) for x in tensors]
    padded = [ops.pad(x, (*rest, *end), value=padding_value) for x, end in zip(tensors, ends, strict=True)]
    return ops.stack(padded, 0 if flag("pad_sequence", "batch_first", batch_first) else 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Tensor]:
    """The sequences (L, ...) of a padded batch."""
    rows = tensor_of(padded_sequences)
    rows = rows if flag("unpad_sequence", "batch_first", batch_first) else rows.transpose(0, 1)
    given = entries("unpad_sequence", "lengths", lengths)
    sizes = [whole("unpad_sequence", "a length", each, 0) for each in given]
    if len(sizes) != len(rows):
        raise ShapeError(f"unpad_sequence: expected {len(rows)} lengths, got {len(sizes)}")
    return [row[:size] for row, size in zip(rows, sizes, strict=True)]


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Tensors (L, ...) of several lengths, packed."""
    return pack_padded_sequence(pad_sequence(sequences), [len(x) for x in sequences], enforce_sorted=enforce_sorted)


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """A padded batch (T, B, ...), with `batch_first` (B, T, ...), without what lies behind its sequences' lengths.

    Raises ShapeError for lengths that do not fit, or that are not in order, the longest first, under `enforce_sorted`.
    """
    x = tensor_of(input)
    x = x.transpose(0, 1) if flag("pack_padded_sequence", "batch_first", batch_first) else x
    enforce_sorted = flag("pack_padded_sequence", "enforce_sorted", enforce_sorted)
    sizes = tensor_of(lengths).numpy()
    if sizes.dtype.kind not in "iu":
        raise DTypeError(f"pack_padded_sequence: expected whole numbers as lengths, got {sizes.dtype}")
    if sizes.shape != x.shape[1:2] or sizes.size == 0 or sizes.min() < 1 or sizes.max() > len(x):
        raise ShapeError(
            f"pack_padded_sequence: expected {x.shape[1:2]} lengths from 1 to {len(x)}, got {sizes.tolist()}"
        )
    order = np.argsort(-sizes, kind="stable")
    if enforce_sorted and (order != np.arange(len(sizes))).any():
        raise ShapeError(
            f"pack_padded_sequence: expected the longest sequence first, got lengths {sizes.tolist()}: pass "
            "enforce_sorted=False"
        )
    going = np.arange(sizes.max())[:, None] < sizes[order]  # (T, B)
    time, place = np.nonzero(going)
    places = (None, None) if enforce_sorted else (Tensor(order), Tensor(np.argsort(order)))
    return PackedSequence(x[time, order[place]], Tensor(going.sum(1)), *places)


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The padded batch again, and the lengths, in the order from before packing."""
    if not isinstance(sequence, PackedSequence):
        raise ArgumentError(f"pad_packed_sequence: expected a PackedSequence, got {type(sequence).__name__}")
    data, lengths, longest = sequence.data, sequence.lengths, len(sequence.batch_sizes)
    padding_value = number("pad_packed_sequence", "padding_value", padding_value, finite=False)
    least = f"total_length of at least {longest}, the longest sequence's"
    times = longest if total_length is None else whole("pad_packed_sequence", "", total_length, longest, expected=least)
    going = np.arange(times)[:, None] < lengths
    index = np.full(going.shape, len(data))  # where each entry lies in data; the padding behind it
    index[going] = np.arange(len(data))
    if sequence.unsorted_indices is not None:
        order = sequence.unsorted_indices.numpy()
        index, lengths = index[:, order], lengths[order]
    padding = Tensor(np.full((1, *data.shape[1:]), padding_value, data.dtype))
    padded = ops.cat([data, padding])[index]
    batch_first = flag("pad_packed_sequence", "batch_first", batch_first)
    return padded.transpose(0, 1) if batch_first else padded, Tensor(lengths)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences (L, ...) from before packing."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))


def __getattr__(name: str) -> Any:
    raise no_such_name("fastnn.nn.utils.rnn", name)
