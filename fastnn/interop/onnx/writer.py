"""What an ONNX graph is written with: nodes, initializers, and sizes that are known when the model runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.interop.onnx.batch import COUNTS, Affine, Fixed, Size, Symbol, same
from fastnn.tensors import Array

__all__ = ["FIRST", "LAST", "Inexpressible", "Writer", "identity"]

LAST, FIRST = np.iinfo(np.int64).max, np.iinfo(np.int64).min  # as ends of slices: up to the end, and to the beginning


class Inexpressible(Exception):
    """Why an operator has no form in ONNX."""


def identity(array: Array) -> tuple[Any, ...]:
    """What two arrays have in common that are the same entries in the same order."""
    return array.ctypes.data, array.shape, array.strides, array.dtype


class Writer:
    """Nodes and initializers. Arrays are known by their names; ``writer("Add", a, b)`` is a node, by its output.

    `names` are those of parameters and buffers, by `identity` of their arrays; `scope` is the module in whose
    forward the next nodes stand.
    """

    def __init__(self, names: dict[Any, str]) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy = helper, numpy_helper
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.scope = ""
        self.count = ""  # the input whose first dimension is N
        self._names, self._taken = names, set(names.values())
        self._symbols: dict[int, str] = {}
        self._constants: dict[tuple[Any, ...], str] = {}

    # ---- nodes -------------------------------------------------------------------------------------------------------

    def __call__(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """The name of a new node's output, or the names; an absent input is ""."""
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        for name, value in attributes.items():
            if any(isinstance(each, Affine) for each in (value if isinstance(value, (tuple, list)) else (value,))):
                raise Inexpressible(f"{name} depends on the number of samples; give it, batch=")
        name = self.unique(f"{self.scope}.{kind}" if self.scope else kind)
        made = [name if k == 0 else self.unique(f"{name}.{k}") for k in range(outputs)]
        self.nodes.append(self._helper.make_node(kind, inputs, made, name=name, **attributes))
        return made[0] if outputs == 1 else made

    def unique(self, name: str) -> str:
        """The name, with a number if it is taken."""
        found, number = name, 0
        while found in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found)
        return found

    def type_of(self, dtype: Any) -> int:
        """ONNX's number of a type."""
        return int(self._helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def cast(self, x: str, dtype: Any) -> str:
        return str(self("Cast", x, to=self.type_of(dtype)))

    # ---- symbols -----------------------------------------------------------------------------------------------------

    def bind(self, symbol: Symbol, name: str) -> None:
        """That array is known by this name."""
        self._symbols[id(symbol)] = name

    def name_of(self, symbol: Symbol) -> str:
        """That of an array that was bound, or of a constant."""
        if id(symbol) not in self._symbols:
            array = symbol.array
            name = self._grown(symbol.constants, symbol.shape) if array is None else self.constant(array)
            self._symbols[id(symbol)] = name
        return self._symbols[id(symbol)]

    def constant(self, value: Any, dtype: Any = None, name: str = "") -> str:
        """An initializer: a parameter or buffer by its own name."""
        if isinstance(value, Affine):
            return self.cast(self("Squeeze", self.sizes([value])), np.int64 if dtype is None else dtype)
        array = np.asarray(value, dtype)
        own = self._own(array)
        if own is None:
            key = (array.dtype, array.shape, array.tobytes(), name)
            if key not in self._constants:
                self._constants[key] = self.unique(name or "constant")
            own = self._constants[key]
        if own not in self.initializers:
            self.initializers[own] = self._numpy.from_array(np.asarray(array, order="C"), own)
        return own

    def derived(self, symbol: Symbol, what: str, function: Callable[[Array], Array]) -> str | None:
        """An initializer made of a constant, named after it; None of what is none."""
        array = symbol.array
        return (
            None if array is None else self.constant(function(array), name=f"{self._own(array) or 'constant'}.{what}")
        )

    def _own(self, array: Array) -> str | None:
        """The name of a parameter or a buffer."""
        return self._names.get(identity(array))

    # ---- sizes -------------------------------------------------------------------------------------------------------

    def sizes(self, sizes: Sequence[Size]) -> str:
        """A vector of int64."""
        if not any(isinstance(size, Affine) for size in sizes):
            return self.constant(np.array(sizes, np.int64))
        parts: list[str] = []
        known: list[int] = []
        for size in sizes:
            if isinstance(size, Affine):
                parts += [self.constant(np.array(known, np.int64))] if known else []
                parts.append(self._size(size))
                known = []
            else:
                known.append(size)
        parts += [self.constant(np.array(known, np.int64))] if known else []
        return parts[0] if len(parts) == 1 else str(self("Concat", *parts, axis=0))

    def _size(self, size: Affine) -> str:
        key = ("size", size)
        if key not in self._constants:
            scope, self.scope = self.scope, ""
            if size == Affine(1, 0):
                found = self("Shape", self.count, start=0, end=1)
            else:
                found = self._size(Affine(1, 0))
                found = found if size.factor == 1 else self("Mul", found, self.constant(np.array([size.factor])))
                found = found if not size.offset else self("Add", found, self.constant(np.array([size.offset])))
            self._constants[key], self.scope = found, scope
        return self._constants[key]

    def reshaped(self, x: str, shape: Sequence[Size]) -> str:
        """x in another shape, of whose sizes at most one depends on N unless it must."""
        grows = [d for d, size in enumerate(shape) if isinstance(size, Affine)]
        if len(grows) == 1:
            shape = [-1 if d in grows else size for d, size in enumerate(shape)]
        return str(self("Reshape", x, self.sizes(shape), **({"allowzero": 1} if 0 in shape else {})))

    def expanded(self, x: str, before: Sequence[Size], shape: Sequence[Size]) -> str:
        """x, which is `before`, stretched to a shape."""
        same = dict(enumerate(reversed(before)))
        wanted = [1 if same.get(d) == size else size for d, size in enumerate(reversed(shape))]
        return str(self("Expand", x, self.sizes(wanted[::-1])))

    def places(self, shape: Sequence[Size]) -> str:
        """0, 1, 2, ... in that shape, int64."""
        if not any(isinstance(size, Affine) for size in shape):
            numbers = [size for size in shape if not isinstance(size, Affine)]
            return self.constant(np.arange(math.prod(numbers)).reshape(numbers))
        count = self("ReduceProd", self.sizes(shape), keepdims=0)
        steps = self("Range", self.constant(np.int64(0)), count, self.constant(np.int64(1)))
        return self.reshaped(steps, shape)

    # ---- constants that depend on N ----------------------------------------------------------------------------------

    def _grown(self, arrays: Sequence[Array], shape: Sequence[Size]) -> str:
        """What forward makes of the number of samples: repeated rows, steps, identities, and what grows with N."""
        if len(shape) == 2 and all(same(array, np.eye(len(array))) for array in arrays):
            rows, columns = (self.reshaped(self.places(shape[:1]), way) for way in ((-1, 1), (1, -1)))
            return self.cast(self("Equal", rows, columns), arrays[0].dtype)
        for d, size in enumerate(shape):
            if not isinstance(size, Affine):
                continue
            firsts = [array.take([0], d) for array in arrays]
            before = [1 if k == d else each for k, each in enumerate(shape)]
            if all((array == first).all() for array, first in zip(arrays, firsts, strict=True)):
                return self.expanded(self._grown(firsts, before), before, shape)
            if arrays[0].dtype.kind == "b":
                break
            steps = [array.take([1], d) - first for array, first in zip(arrays, firsts, strict=True)]
            ways = [np.arange(a.shape[d]).reshape(-1, *(1,) * (a.ndim - 1 - d)).astype(a.dtype) for a in arrays]
            if all((a == f + s * way).all() for a, f, s, way in zip(arrays, firsts, steps, ways, strict=True)):
                dtype = arrays[0].dtype
                way = self.cast(self.reshaped(self.places([size]), [size, *(1,) * (len(shape) - 1 - d)]), dtype)
                return str(self("Add", self._grown(firsts, before), self("Mul", way, self._grown(steps, before))))
            break
        else:
            return self._moving(arrays)
        raise Fixed(f"a constant of shape ({', '.join(map(str, shape))}) differs with the number of samples")

    def _moving(self, arrays: Sequence[Array]) -> str:
        """base + slope · N, or its reciprocal."""
        first = arrays[0]
        if all((array == first).all() for array in arrays):
            return self.constant(first)
        if first.dtype.kind != "b":
            for turned in (False, True) if first.dtype.kind == "f" and all(a.all() for a in arrays) else (False,):
                a, b, *_ = given = [1 / array.astype(np.float64) if turned else array for array in arrays]
                slope = b - a
                base = a - slope * COUNTS[0]
                if all(np.allclose(base + slope * n, each, 1e-6, 0) for n, each in zip(COUNTS, given, strict=True)):
                    n = self.cast(self("Squeeze", self.sizes([Affine(1, 0)])), first.dtype)
                    grown = self("Mul", n, self.constant(slope.round(12).astype(first.dtype)))
                    grown = self("Add", grown, self.constant(base.round(12).astype(first.dtype)))
                    return str(self("Reciprocal", grown) if turned else grown)
        raise Fixed("a number differs with the number of samples")
