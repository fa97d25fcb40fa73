"""What arrays a kernel takes and gives: strides, read-only inputs, dtypes, NaN, `out=`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from kernel_checks import Fenced, assert_close, assert_same_bits, evaluate, expected_results, outputs
from op_cases import KERNELS, arguments
from op_description import Arguments, Array, Case, Kernel, as_dtype
from targets import Target

from fastnn import backends
from fastnn.backends import reference
from fastnn.backends.checks import dtype_of_all, in_place
from fastnn.errors import DTypeError, ShapeError

BY_KERNEL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS.keys())


def medium_case(kernel: Kernel) -> tuple[int, Case]:
    """The first whose largest array has 30 elements or more."""
    for index, case in enumerate(kernel.cases):
        if max(value.size for _, value in arrays(arguments(kernel, case))) >= 30:
            return index, case
    raise AssertionError(f"{kernel.name} has small cases only")


def arrays(a: Arguments) -> Iterator[tuple[str, Array]]:
    return ((name, value) for name, value in a.items() if isinstance(value, np.ndarray))


def floats(kernel: Kernel, a: Arguments) -> list[str]:
    return [name for name, value in arrays(a) if value.dtype.kind == "f"]


def has_two_outputs(kernel: Kernel) -> bool:
    return "tuple" in inspect.signature(getattr(reference, kernel.name)).return_annotation


# ---- layouts ---------------------------------------------------------------------------------------------------------


def spaced(x: Array) -> Array:
    """Every second element of the last axis of a larger array, whose others are NaN."""
    room = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), np.nan if x.dtype.kind == "f" else -1).astype(x.dtype)
    room[..., 1::2] = x
    return room[..., 1::2]


def reversed_axes(x: Array) -> Array:
    """Fortran order; of a matrix, the transpose of a contiguous one."""
    return np.asfortranarray(x)


def backwards(x: Array) -> Array:
    """Negative strides."""
    return np.flip(np.flip(x).copy())


def channels_last(x: Array) -> Array:
    return np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1) if x.ndim > 1 else x


def unaligned(x: Array) -> Array:
    """Starts one byte after a multiple of the element size."""
    room = np.zeros(x.nbytes + 1, np.uint8)
    y = room[1:].view(x.dtype).reshape(x.shape)
    y[...] = x
    return y


def padded_rows(x: Array) -> Array:
    """The inner part of a larger array: rows do not follow each other."""
    room = np.full([n + 3 for n in x.shape], np.nan if x.dtype.kind == "f" else -1).astype(x.dtype)
    inner = room[tuple(slice(1, n + 1) for n in x.shape)]
    inner[...] = x
    return inner


LAYOUTS = [spaced, reversed_axes, backwards, channels_last, unaligned, padded_rows]


@pytest.mark.parametrize("layout", LAYOUTS)
@BY_KERNEL
def test_any_strides_of_read_only_inputs(target: Target, kernel: Kernel, layout: Callable[[Array], Array]) -> None:
    index, case = medium_case(kernel)
    a = arguments(kernel, case)
    for name, value in arrays(a):
        if name not in kernel.written:
            a[name] = layout(value)
            np.testing.assert_array_equal(a[name], value)
            a[name].flags.writeable = False
    assert_close(evaluate(target.kernels, kernel, a), expected_results(kernel.name, index), kernel, a)


@BY_KERNEL
def test_broadcast_inputs(target: Target, kernel: Kernel) -> None:
    """Strides of 0: what the gradient of a sum is."""
    _, case = medium_case(kernel)
    a = arguments(kernel, case)
    for name, value in arrays(a):
        if name not in kernel.written and value.dtype.kind == "f":
            a[name] = np.broadcast_to(np.abs(value.reshape(-1)[0]), value.shape)
    expected = evaluate(reference, kernel, {name: as_dtype(value, np.float64) for name, value in a.items()})
    assert_close(evaluate(target.kernels, kernel, a), expected, kernel, a)


# ---- out= ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [k for k in KERNELS.values() if k.first_may_be_out], ids=lambda k: k.name)
def test_out_may_be_the_first_argument(target: Target, kernel: Kernel) -> None:
    for case in kernel.cases:
        a = arguments(kernel, case)
        expected = evaluate(target.kernels, kernel, a)
        first = next(iter(a))
        fenced = Fenced.copy(a[first])
        assert getattr(target.kernels, kernel.name)(**{**a, first: fenced.array}, out=fenced.array) is fenced.array
        fenced.assert_fence_intact()
        assert_same_bits((fenced.array,), expected, "in place")


WITH_OUT = pytest.mark.parametrize("kernel", [k for k in KERNELS.values() if not k.written], ids=lambda k: k.name)


@WITH_OUT
def test_bad_out_is_refused(target: Target, kernel: Kernel) -> None:
    a = arguments(kernel, medium_case(kernel)[1])
    function = getattr(target.kernels, kernel.name)
    results = outputs(function(**a))
    good = [r.copy() for r in results]
    for position, result in enumerate(results):
        read_only = result.copy()
        read_only.flags.writeable = False
        spread = np.empty((*result.shape[:-1], 2 * result.shape[-1]), result.dtype)[..., ::2]
        for bad, error in [
            (np.empty((*result.shape[:-1], result.shape[-1] + 1), result.dtype), ShapeError),
            (np.empty((1, *result.shape), result.dtype), ShapeError),
            (read_only, ShapeError),
            (spread, ShapeError),
            (unaligned(result), ShapeError),
            (result.astype(np.float64 if result.dtype.kind == "f" else np.int64), DTypeError),
            (result.tolist(), DTypeError),
        ]:
            out = tuple(bad if i == position else g for i, g in enumerate(good))
            with pytest.raises(error, match="expected out "):
                function(**a, out=out if len(out) > 1 else bad)
    if len(results) > 1:
        with pytest.raises(ShapeError, match="expected out to be a tuple of two"):
            function(**a, out=good[0])


@pytest.mark.parametrize("kernel", [k for k in KERNELS.values() if has_two_outputs(k)], ids=lambda k: k.name)
def test_one_of_two_outs(target: Target, kernel: Kernel) -> None:
    a = arguments(kernel, medium_case(kernel)[1])
    function = getattr(target.kernels, kernel.name)
    expected = outputs(function(**a))
    for position in range(2):
        given = [np.empty_like(e) if i == position else None for i, e in enumerate(expected)]
        result = function(**a, out=tuple(given))
        assert result[position] is given[position]
        assert_same_bits(result, expected, "one of out")


@pytest.mark.parametrize("kernel", [k for k in KERNELS.values() if k.written], ids=lambda k: k.name)
def test_updates_refuse_what_they_cannot_write(target: Target, kernel: Kernel) -> None:
    cases = [case for case in kernel.cases if case["shape"] == (5, 7)]
    case = next((case for case in cases if "momentum" in case), cases[0])  # with every array that can be there
    for name in kernel.written:
        for spoil in (spaced, reversed_axes, unaligned):
            a = arguments(kernel, case)
            a[name] = spoil(a[name])
            with pytest.raises(ShapeError, match="expected param and state to be C-contiguous, aligned and writable"):
                getattr(target.kernels, kernel.name)(**a)
        a = arguments(kernel, case)
        a[name].flags.writeable = False
        with pytest.raises(ShapeError, match="expected param and state to be C-contiguous, aligned and writable"):
            getattr(target.kernels, kernel.name)(**a)


# ---- dtypes ----------------------------------------------------------------------------------------------------------


@BY_KERNEL
def test_wrong_dtypes_are_refused(target: Target, kernel: Kernel) -> None:
    """One float64 among float32, integers, half precision, swapped bytes, lists; all float64 except by reference."""
    a = arguments(kernel, medium_case(kernel)[1])
    names = floats(kernel, a)
    function = getattr(target.kernels, kernel.name)
    spoilers: list[Callable[[Array], object]] = [
        lambda x: x.astype(np.int32),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(">f4"),
        lambda x: x.tolist(),
    ]
    if len(names) > 1:
        spoilers.append(lambda x: x.astype(np.float64))
    for name in names:
        for spoil in spoilers:
            with pytest.raises(DTypeError, match=r"expected .*float32.*, got "):
                function(**{**a, name: spoil(a[name])})
    if target.backend != "reference":
        with pytest.raises(DTypeError, match="expected NumPy arrays, all float32, got float64"):
            function(**{name: as_dtype(value, np.float64) for name, value in a.items()})


# ---- NaN -------------------------------------------------------------------------------------------------------------


@BY_KERNEL
def test_nan_reaches_what_it_should_and_no_more(target: Target, kernel: Kernel) -> None:
    _, case = medium_case(kernel)
    for name in floats(kernel, arguments(kernel, case)):
        a = arguments(kernel, case)
        a[name].reshape(-1)[a[name].size // 3] = np.nan
        expected = evaluate(reference, kernel, {key: as_dtype(value, np.float64) for key, value in a.items()})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of the float32 reference
            got = evaluate(target.kernels, kernel, a)
        for g, e in zip(got, expected, strict=True):
            np.testing.assert_array_equal(np.isnan(g), np.isnan(e), err_msg=f"NaN put into {name}")
        assert_close(got, expected, kernel, arguments(kernel, case))


X = np.zeros((2, 3), np.float32)
LONGER = np.zeros(28, np.uint8)


@pytest.mark.skipif(backends.name() != "native", reason="asks the extension")
@pytest.mark.parametrize(
    ("other", "type_of_all", "written"),
    [
        (np.ones((2, 3), np.float32), np.float32, True),
        (np.ones((3, 2), np.float32), np.float32, False),
        (np.ones(6, np.float32), np.float32, False),
        (np.ones((3, 2), np.float32).T, np.float32, False),
        (np.broadcast_to(X[0], (2, 3)), np.float32, False),  # read-only
        (LONGER[1:25].view(np.float32).reshape(2, 3), np.float32, False),  # not aligned
        (np.ones((2, 3)), None, False),
        (np.ones((2, 3), ">f4"), None, False),
        ([[1.0] * 3] * 2, None, False),
        (None, np.float32, False),
    ],
)
def test_one_look_at_all_arrays(other: Any, type_of_all: Any, written: bool) -> None:
    """Optimisers and shapes.py skip their full checks only for arrays that pass this one."""
    assert dtype_of_all((X, other)) == dtype_of_all((other, X)) == type_of_all
    assert in_place(X, other) is in_place(other, X) is written
