"""Kernels of single entries, along a dimension and of a table's rows, on every backend, against loops in Python."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from targets import Target

from fastnn import backends
from fastnn.errors import ShapeError

RNG = np.random.default_rng(7)
SHAPES = [((1,), 0), ((300,), 0), ((5, 33), 1), ((64, 3), 0), ((3, 70, 5), 1), ((2, 3, 17), 2), ((0, 4), 1)]


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def on_threads(call: Callable[[], Any]) -> np.ndarray:
    """What it gives, which is the same bits on one, two and three threads."""
    found = []
    for threads in (1, 2, 3):
        backends.set_num_threads(threads)
        found.append(np.asarray(call()))
    assert all(each.tobytes() == found[0].tobytes() for each in found)
    return found[0]


@pytest.mark.parametrize(
    ("name", "formula"),
    [("atan", math.atan), ("erf", math.erf), ("exp", math.exp), ("exp2", lambda x: 2.0**x), ("expm1", math.expm1),
     ("tan", math.tan),
     ("log1p", lambda x: math.log1p(x) if x > -1 else -math.inf if x == -1 else math.nan)],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(), (1,), (19,), (7, 12001), (3, 0)])
def test_functions(target: Target, name: str, formula: Callable[[float], float], shape: tuple[int, ...]) -> None:
    x = (3 * RNG.normal(size=shape)).astype(np.float32)
    with np.errstate(all="ignore"):
        y = on_threads(lambda: target.kernels.function_forward(name, x))
    expected = np.array([formula(float(v)) for v in x.reshape(-1)]).reshape(shape)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(
    ("name", "formula"), [("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("div", np.divide)]
)
@pytest.mark.parametrize("shape", [(), (19,), (7, 12001), (3, 0)])
def test_arithmetic(target: Target, name: str, formula: np.ufunc, shape: tuple[int, ...]) -> None:
    """The bits of NumPy's."""
    a, b = normal(*shape), normal(*shape)
    y = on_threads(lambda: target.kernels.function_forward(name, a, b))
    assert y.shape == shape
    assert y.tobytes() == formula(a, b).tobytes()


def columns(x: np.ndarray, dim: int) -> np.ndarray:
    """A view of x with the dimension first, and all others as one."""
    return np.moveaxis(x, dim, 0).reshape(x.shape[dim], -1)


@pytest.mark.parametrize(("shape", "dim"), SHAPES)
@pytest.mark.parametrize("reverse", [False, True])
def test_running_sums(target: Target, shape: tuple[int, ...], dim: int, reverse: bool) -> None:
    x = normal(*shape)
    y = columns(on_threads(lambda: target.kernels.cumsum(x, dim, reverse=reverse)), dim)
    rows = columns(x.astype(np.float64), dim)
    for k in range(len(rows)):
        terms = rows[k:] if reverse else rows[: k + 1]
        np.testing.assert_allclose(y[k], terms.sum(0), rtol=0, atol=1e-5 * math.sqrt(len(terms)))


@pytest.mark.parametrize(("shape", "dim"), SHAPES)
@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_products(target: Target, shape: tuple[int, ...], dim: int, zeros: int) -> None:
    x = np.exp(normal(*shape) / 8) * np.where(normal(*shape) < 0, -1, 1).astype(np.float32)
    columns(x, dim)[:zeros, :1] = 0
    y = on_threads(lambda: target.kernels.prod_forward(x, dim))
    grad = normal(*y.shape)
    grad_x = columns(on_threads(lambda: target.kernels.prod_backward_input(grad, x, y, dim)), dim)
    rows = columns(x.astype(np.float64), dim)
    np.testing.assert_allclose(y.reshape(-1), rows.prod(0), rtol=2e-5)
    for k in range(len(rows)):
        others = np.delete(rows, k, 0).prod(0)
        np.testing.assert_allclose(grad_x[k], grad.reshape(-1) * others, rtol=4e-5)


def test_a_product_below_the_smallest_number_has_a_gradient(target: Target) -> None:
    x = np.array([[1e-30, 1e-30, 1e20]], np.float32)
    y = target.kernels.prod_forward(x, 1)
    grad_x = target.kernels.prod_backward_input(np.ones(1, np.float32), x, np.zeros_like(y), 1)
    np.testing.assert_allclose(grad_x, [[1e-10, 1e-10, 0]], rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize(("rows", "size", "count"), [(1, 1, 1), (4, 7, 7), (3, 100, 5), (65, 300, 3), (2, 1000, 64)])
@pytest.mark.parametrize("smallest", [False, True])
def test_the_first_in_order(target: Target, rows: int, size: int, count: int, smallest: bool) -> None:
    """With ties, infinities, both zeros and NaN, of which the last is larger than all."""
    x = RNG.choice(np.array([0.0, -0.0, 1, -1, 2.5, np.inf, -np.inf, np.nan], np.float32), (rows, size))
    x[: rows // 2] = normal(rows // 2, size)
    places = on_threads(lambda: target.kernels.topk(x, count, smallest))
    assert places.dtype == np.int64

    def rank(v: float) -> tuple[bool, float]:
        return (math.isnan(v), 0 if math.isnan(v) else v)

    for row, found in zip(x.tolist(), places.tolist(), strict=True):
        order = sorted(range(size), key=lambda i, row=row: rank(row[i]), reverse=not smallest)  # stable either way
        assert found == order[:count]


@pytest.mark.parametrize(("terms", "width", "rows", "left_out"), [(1, 1, 1, -1), (50, 7, 9, 3), (700, 64, 300, -1),
                                                                  (40_000, 3, 2, -1), (0, 5, 4, -1)])  # fmt: skip
def test_rows_of_a_table(target: Target, terms: int, width: int, rows: int, left_out: int) -> None:
    grad, index = normal(terms, width) + 2, RNG.integers(0, rows, terms)
    found = on_threads(lambda: target.kernels.embedding_backward_weight(grad, index, rows, left_out))
    expected = np.zeros((rows, width))
    for i, place in enumerate(index):
        expected[place] += grad[i]
    if left_out >= 0:
        expected[left_out] = 0
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 4, 5), (3, 5, 2)), ((2, 1, 4, 40), (3, 40, 33)), ((7, 5), (9, 2, 5, 1)), ((2, 3, 0), (2, 0, 4)),
     ((0, 3, 2), (0, 2, 1)), ((64, 20, 16), (64, 16, 20))],
)  # fmt: skip
def test_products_of_many_matrices(target: Target, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """As they lie, and transposed."""
    x, y = normal(*a), normal(*b)
    expected = np.einsum("...ij,...jk->...ik", x.astype(np.float64), y.astype(np.float64))
    for left, right, turned in ((x, y, False), (y.swapaxes(-1, -2), x.swapaxes(-1, -2), True)):
        found = on_threads(lambda left=left, right=right: target.kernels.stacked_matmul(left, right))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found.swapaxes(-1, -2) if turned else found, expected, rtol=0, atol=2e-5)


def test_the_binding_refuses(target: Target) -> None:
    if target.backend != "native":
        pytest.skip("looks at the binding itself")
    from fastnn._kernels import operate

    x, y = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    locked = y.copy()
    locked.flags.writeable = False
    for written, given in ((locked, x), (y[:1], x), (y, x[:, ::2]), (y.astype(np.float64), x)):
        with pytest.raises(ShapeError):
            operate("cumsum", (written, given), (2, 3, 1, 0))
    assert not operate("take_rows_backward", (y, x, np.array([0, 2])), (2, 3, 2, -1))


@pytest.mark.parametrize(("scale", "grad"), [(1e35, 1e5), (1e-35, 1e-12)])
@pytest.mark.parametrize("inner", [1, 3])
def test_a_products_gradient_leaves_no_range_on_its_way(target: Target, scale: float, grad: float, inner: int) -> None:
    x = np.ones((1, 2, inner), np.float32)
    x[:, 0] = scale
    grads = np.full((1, inner), grad, np.float32)
    y = target.kernels.prod_forward(x, 1)
    with np.errstate(over="ignore"):  # of the other one's
        grad_x = target.kernels.prod_backward_input(grads, x, y, 1)
    np.testing.assert_allclose(grad_x[:, 0], grads, rtol=1e-6)


@pytest.mark.parametrize("smallest", [False, True])
def test_extremes_and_their_places(target: Target, smallest: bool) -> None:
    """The first of equal ones, and of numbers that are none: as NumPy's."""
    if target.backend != "native":
        pytest.skip("only plans, and so only the compiled kernels, have it")
    from fastnn._kernels import operate

    pick = np.argmin if smallest else np.argmax
    sizes = [(2, size, inner) for size in (1, 2, 7, 8, 15, 16, 17, 33, 64, 100) for inner in (1, 3, 8, 37)]
    for outer, size, inner in [*sizes, (300, 257, 1)]:
        x = RNG.integers(-6, 7, (outer, size, inner)).astype(np.float32)  # with ties
        x[RNG.random(x.shape) < 0.3 / size] = np.nan
        x[RNG.random(x.shape) < 0.1] = np.inf if size % 2 else -np.inf
        x[x == 0] *= np.where(RNG.random((x == 0).sum()) < 0.5, -1, 1)
        y, where = np.empty((outer, inner), np.float32), np.empty((outer, inner), np.int64)

        def call(x: Any = x, y: Any = y, where: Any = where) -> np.ndarray:
            operate("extremum", (y, where, x), (*x.shape, int(smallest)), written=2)
            return where

        np.testing.assert_array_equal(on_threads(call), pick(x, axis=1), err_msg=str(x.shape))
        np.testing.assert_array_equal(y, np.take_along_axis(x, pick(x, axis=1)[:, None], 1)[:, 0])
