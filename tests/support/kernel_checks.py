"""How the kernel tests call a kernel, fence its arrays in, and compare what it wrote."""

from __future__ import annotations

import math
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from op_cases import KERNELS, arguments
from op_description import Arguments, Array, Kernel

from fastnn.backends import reference

EPS = float(np.finfo(np.float32).eps)

# Elements on either side of a fenced array. An odd number: the array is aligned to its elements, and to nothing more.
FENCE = 37


class Fenced:
    """An array in the middle of a buffer. What lies outside must not be written, nor, being NaN, matter."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, fill: float) -> None:
        self.buffer = np.full(math.prod(shape) + 2 * FENCE, fill, dtype)
        self.array = self.buffer[FENCE : len(self.buffer) - FENCE].reshape(shape)
        self.before = self.buffer.tobytes()

    @classmethod
    def copy(cls, array: Array) -> Fenced:
        """A fenced input."""
        fenced = cls(array.shape, array.dtype, np.nan if array.dtype.kind == "f" else -12345)
        fenced.array[...] = array
        fenced.before = fenced.buffer.tobytes()
        return fenced

    @classmethod
    def output(cls, like: Array, dtype: Any) -> Fenced:
        """A fenced output, full of values that are not the result."""
        return cls(like.shape, dtype, 12345 if like.dtype.kind == "i" else np.nan)

    def assert_fence_intact(self) -> None:
        before, after = np.frombuffer(self.before, np.uint8), self.buffer.view(np.uint8)
        edge = FENCE * self.buffer.itemsize
        assert np.array_equal(before[:edge], after[:edge]), "written before the start of an array"
        assert np.array_equal(before[-edge:], after[-edge:]), "written past the end of an array"

    def assert_unchanged(self) -> None:
        assert self.buffer.tobytes() == self.before, "an input was written to"


def outputs(result: Any) -> tuple[Array, ...]:
    return result if isinstance(result, tuple) else (result,)


def evaluate(module: ModuleType, kernel: Kernel, a: Arguments, **keywords: Any) -> tuple[Array, ...]:
    """What the kernel returns, or writes to copies of its arguments."""
    if not kernel.written:
        return outputs(getattr(module, kernel.name)(**a, **keywords))
    a = {name: value.copy() if name in kernel.written and value is not None else value for name, value in a.items()}
    assert getattr(module, kernel.name)(**a, **keywords) is None
    return tuple(a[name] for name in kernel.written if a[name] is not None)


def evaluate_fenced(
    module: ModuleType, kernel: Kernel, a: Arguments, expected: tuple[Array, ...], **keywords: Any
) -> tuple[Array, ...]:
    """The same through `out=`, every array fenced in; fails where a kernel writes what it should not."""
    fenced = {name: Fenced.copy(value) for name, value in a.items() if isinstance(value, np.ndarray)}
    a = {**a, **{name: value.array for name, value in fenced.items()}}
    written = [fenced.pop(name) for name in kernel.written if name in fenced]
    if kernel.written:
        assert getattr(module, kernel.name)(**a, **keywords) is None
    else:
        dtype = next(value.array.dtype for value in fenced.values() if value.array.dtype.kind == "f")
        written = [Fenced.output(e, e.dtype if e.dtype.kind == "i" else dtype) for e in expected]
        out = tuple(f.array for f in written)
        result = outputs(getattr(module, kernel.name)(**a, out=out if len(out) > 1 else out[0], **keywords))
        assert all(r is o for r, o in zip(result, out, strict=True)), "out= was not returned"
    for f in written:
        f.assert_fence_intact()
    for f in fenced.values():
        f.assert_unchanged()
    return tuple(f.array for f in written)


@cache
def expected_results(name: str, case: int) -> tuple[Array, ...]:
    """Reference in float64 on the float32 values of a case."""
    kernel = KERNELS[name]
    return evaluate(reference, kernel, arguments(kernel, kernel.cases[case], np.float64))


def assert_close(got: tuple[Array, ...], expected: tuple[Array, ...], kernel: Kernel, a: Arguments) -> None:
    """Integers are the same; floats are within 4 eps sqrt(K) of the largest, or of what their sums are made of."""
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert g.shape == e.shape
        if e.dtype.kind == "i":
            assert g.dtype == e.dtype
            np.testing.assert_array_equal(g, e)
            continue
        assert g.dtype == np.float32
        if e.size:
            scale = max(kernel.size(a), float(np.nanmax(np.abs(e), initial=0)))
            bound = 4 * EPS * math.sqrt(max(kernel.terms(a), 1)) * scale
            np.testing.assert_allclose(g, e, rtol=0, atol=bound)


def assert_same_bits(got: tuple[Array, ...], expected: tuple[Array, ...], what: str) -> None:
    for g, e in zip(got, expected, strict=True):
        assert g.tobytes() == e.tobytes(), f"{what}: differs by up to {np.max(np.abs(g - e))}"


def algorithms(kernel: Kernel, module: ModuleType, expected: tuple[Array, ...], a: Arguments) -> list[dict[str, str]]:
    """Keyword arguments to try. The reference's direct convolution is for small ones: it loops in Python."""
    positions = max(expected[0].size, *(value.size for value in a.values() if isinstance(value, np.ndarray)))
    tried = [name for name in kernel.algorithms if not (module is reference and name == "direct" and positions > 3000)]
    return [{"algorithm": name} for name in tried] or [{}]
