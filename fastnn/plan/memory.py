"""The arrays of a plan: its own, one for each value and gradient of native stages, those of the model, and copies."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.arrays import LINE, PAGE, aligned
from fastnn.nn import Module
from fastnn.ops.norms import Running
from fastnn.tensors import Array, Tensor

if TYPE_CHECKING:
    from fastnn.plan.trace import Graph

__all__ = ["Arena", "Buffers", "Kept", "Watch", "memory_of", "overlap", "read_by", "statistics"]


class Arena:
    """Arrays that live as long as the plan; none begins where another one's page does.

    Memory that is released is handed out again to those who ask for it: what they write there, they write after its
    earlier user has been read for the last time in a run.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._blocks: dict[int, Array] = {}  # by memory_of() an array in them
        self._free: list[Array] = []

    def array(self, shape: tuple[int, ...], dtype: Any = np.float32, *, again: bool = False) -> Array:
        """Aligned to a cache line, its content undefined; with `again`, in released memory where some suits."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        block = self._released(size) if again else None
        if block is None:
            block = aligned((size,), np.uint8)
            self.bytes += size
            self._blocks[memory_of(block)] = block
        return block[:size].view(dtype).reshape(shape)

    def memories(self) -> set[int]:
        """All its memory, by memory_of."""
        return set(self._blocks)

    def _released(self, size: int) -> Array | None:
        """The smallest released block that holds so many bytes and not twice as many."""
        fitting = [block for block in self._free if size <= block.size <= max(2 * size, PAGE)]
        if not fitting:
            return None
        best = min(fitting, key=len)
        self._free = [block for block in self._free if block is not best]
        return best

    def release(self, memory: int) -> None:
        """Let others have the memory (see memory_of) from here on; what is not the arena's stays as it is."""
        block = self._blocks.get(memory)
        if block is not None and all(block is not other for other in self._free):
            self._free.append(block)


def memory_of(array: Array) -> int:
    """What tells whether arrays share memory: the id of the array that owns it."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return id(array)


class _Watch:
    """fastnn._kernels.Watch, where the package was installed without its extension."""

    def __init__(self, pairs: Iterable[tuple[Tensor | None, Array]]) -> None:
        self._seen = [(tensor, array, _facts(array)) for tensor, array in pairs]

    def stands(self) -> bool:
        return all(
            (tensor is None or tensor._data is array) and _facts(array) == facts for tensor, array, facts in self._seen
        )


def _facts(array: Array) -> tuple[Any, ...]:
    return array.ctypes.data, array.shape, array.dtype, array.flags.num


if TYPE_CHECKING:
    Watch = _Watch
else:
    try:
        from fastnn._kernels import Watch
    except ImportError:
        Watch = _Watch


def read_by(graph: Graph) -> list[tuple[Tensor | None, Array]]:
    """Every array that exists and that an operator reads, each with the tensor whose data it is, or None."""
    found: list[tuple[Tensor | None, Array]] = [
        (v.tensor, v.tensor._data) for v in graph.leaves if v.tensor is not None
    ]
    return found + [(None, x) for op in graph.operators for x in op.inputs if isinstance(x, np.ndarray)]


def statistics(graph: Graph) -> list[Array]:
    """The arrays that batch norms let follow their batches; those of a layer that is used twice come once."""
    found = {}
    for op in graph.operators:
        running = op.attributes.get("running")
        if isinstance(running, Running):
            arrays = [array for array in (running.mean, running.var, running.batches) if array is not None]
            found[tuple(map(id, arrays))] = arrays
    return [array for arrays in found.values() for array in arrays]


def overlap(written: Iterable[Array], read: Iterable[Array]) -> bool:
    """Whether an array that is written may share memory with another one, written or read."""
    spans = [(*_span(array), True) for array in written if array.size]
    spans += [(*_span(array), False) for array in read if array.size]
    end_of_written = end_of_any = 0
    for begin, end, is_written in sorted(spans):
        if begin < (end_of_any if is_written else end_of_written):
            return True
        end_of_any = max(end_of_any, end)
        if is_written:
            end_of_written = max(end_of_written, end)
    return False


def _span(array: Array) -> tuple[int, int]:
    """The first address of an array, and the one behind its last."""
    reach = [(n - 1) * stride for n, stride in zip(array.shape, array.strides, strict=True)]
    data = array.__array_interface__["data"][0]
    below = sum(step for step in reach if step < 0)
    return data + below, data + sum(reach) - below + array.itemsize


class Kept:
    """Copies of arrays that a step writes to before it is known whether it succeeds.

    They lie in one block, which huge pages hold: where there are many small ones, new pages take longer than copying.
    """

    def __init__(self, arrays: Iterable[Array]) -> None:
        self._pairs: list[tuple[Array, Array]] = []
        arrays = list(arrays)
        sizes = [-(-array.nbytes // LINE) * LINE for array in arrays]  # each begins at a cache line
        block = aligned((sum(sizes),), np.uint8)
        for array, size in zip(arrays, sizes, strict=True):
            own, block = block[: array.nbytes], block[size:]
            copy = array.copy() if array.dtype.hasobject else own.view(array.dtype).reshape(array.shape)
            self._pairs.append((array, copy))
        self.keep()

    def keep(self) -> None:
        """Copy the arrays as they are now."""
        for array, copy in self._pairs:
            copy[...] = array

    def put_back(self) -> None:
        """Make the arrays again what they were at the last `keep`."""
        for array, copy in self._pairs:
            array[...] = copy


class Buffers:
    """A model's buffers, kept before a forward pass that may fail after it has written to them, or set others."""

    def __init__(self, model: Any) -> None:
        self._modules = list(model.modules()) if isinstance(model, Module) else []
        self._places: list[tuple[Module, str, Any]] = []
        self._kept = Kept(())
        self._seen = -1  # Module.changes when the buffers were looked up: that takes longer than to copy them

    def keep(self) -> None:
        """Copy them as they are now."""
        if self._seen == Module.changes:
            self._kept.keep()
            return
        self._places = [
            (module, name, getattr(module, name)) for module in self._modules for name in module._buffer_names
        ]
        arrays = [value._data if isinstance(value, Tensor) else value for _, _, value in self._places]
        self._kept = Kept(array for array in arrays if isinstance(array, np.ndarray))
        self._seen = Module.changes

    def put_back(self) -> None:
        """Make them again what they were at the last `keep`."""
        self._kept.put_back()
        for module, name, value in self._places:
            if getattr(module, name) is not value:
                setattr(module, name, value)
