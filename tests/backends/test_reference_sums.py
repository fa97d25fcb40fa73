"""Reference against loops over single numbers: products, convolution, pooling, batch norm."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from op_cases import KERNELS, arguments
from op_description import Arguments, Array, case_id

from fastnn.backends import reference


def small_cases(name: str, most: int = 4000) -> list[object]:
    """Cases of a kernel that a Python loop is fast enough for."""
    kernel = KERNELS[name]
    return [
        pytest.param(arguments(kernel, case, np.float64), id=case_id(case))
        for case in kernel.cases
        if kernel.flops(arguments(kernel, case)) < 2 * most
    ]


def close(got: Array, expected: Array) -> None:
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * max(1, np.max(np.abs(expected), initial=0)))


# ---- products --------------------------------------------------------------------------------------------------------


def test_matmul_by_hand() -> None:
    a, b = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([[1.0, -1.0], [0.5, 2.0], [-2.0, 0.0]])
    expected = [[-4.0, 3.0], [-5.5, 6.0]]
    np.testing.assert_array_equal(reference.matmul(a, b), expected)
    np.testing.assert_array_equal(reference.matmul(a.T, b, transpose_a=True), expected)
    np.testing.assert_array_equal(reference.matmul(a, b.T, transpose_b=True), expected)
    np.testing.assert_array_equal(reference.matmul(a.T, b.T, transpose_a=True, transpose_b=True), expected)


@pytest.mark.parametrize("a", small_cases("matmul"))
def test_matmul(a: Arguments) -> None:
    left = a["a"].T if a["transpose_a"] else a["a"]
    right = a["b"].T if a["transpose_b"] else a["b"]
    expected = np.zeros((left.shape[0], right.shape[1]))
    for m, n, k in product(*map(range, (*expected.shape, left.shape[1]))):
        expected[m, n] += left[m, k] * right[k, n]
    close(reference.matmul(**a), expected)


@pytest.mark.parametrize("a", small_cases("linear_forward"))
def test_linear(a: Arguments) -> None:
    x, weight, bias = a["x"], a["weight"], a["bias"]
    expected = np.zeros((len(x), len(weight)))
    for n, o in np.ndindex(expected.shape):
        expected[n, o] = (0 if bias is None else bias[o]) + sum(x[n, i] * weight[o, i] for i in range(x.shape[1]))
    close(reference.linear_forward(**a), expected)


# ---- convolution -----------------------------------------------------------------------------------------------------


def naive_convolution(
    x: Array, weight: Array, bias: Array | None,
    stride: tuple[int, int] = (1, 1), padding: tuple[int, int] = (0, 0), dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
) -> Array:  # fmt: skip
    """One output is one sum over the window, pixels outside the image left out."""
    (n_images, _, height, width), (filters, per_group, kh, kw) = x.shape, weight.shape
    oh = (height + 2 * padding[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (width + 2 * padding[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((n_images, filters, oh, ow))
    for n, o, i, j in np.ndindex(y.shape):
        total = 0.0 if bias is None else bias[o]
        group = o * groups // filters
        for c, u, v in np.ndindex(per_group, kh, kw):
            h = i * stride[0] + u * dilation[0] - padding[0]
            w = j * stride[1] + v * dilation[1] - padding[1]
            if 0 <= h < height and 0 <= w < width:
                total += weight[o, c, u, v] * x[n, group * per_group + c, h, w]
        y[n, o, i, j] = total
    return y


def test_convolution_by_hand() -> None:
    x = np.arange(1.0, 10).reshape(1, 1, 3, 3)
    weight = np.array([[[[1.0, 0.0], [0.0, -1.0]]], [[[0.0, 2.0], [1.0, 0.0]]]])
    bias = np.array([0.5, -1.0])
    expected = [[[[-3.5, -3.5], [-3.5, -3.5]], [[7, 10], [16, 19]]]]
    for algorithm in ("auto", "im2col", "direct"):
        np.testing.assert_array_equal(reference.conv2d_forward(x, weight, bias, algorithm=algorithm), expected)


@pytest.mark.parametrize("algorithm", ["direct", "im2col"])
@pytest.mark.parametrize("a", small_cases("conv2d_forward", 120_000))
def test_convolution(a: Arguments, algorithm: str) -> None:
    close(reference.conv2d_forward(**a, algorithm=algorithm), naive_convolution(**a))


# ---- pooling ---------------------------------------------------------------------------------------------------------


def windows(size: int, outputs: int, kernel: int, stride: int, padding: int) -> list[range]:
    """The pixels of each window along one axis, those outside the image left out."""
    starts = [i * stride - padding for i in range(outputs)]
    return [range(max(start, 0), min(start + kernel, size)) for start in starts]


@pytest.mark.parametrize("a", small_cases("max_pool2d_forward"))
def test_max_pool(a: Arguments) -> None:
    x = a["x"]
    y, argmax = reference.max_pool2d_forward(**a)
    grids = [
        windows(x.shape[2 + d], y.shape[2 + d], a["kernel_size"][d], a["stride"][d], a.get("padding", (0, 0))[d])
        for d in (0, 1)
    ]
    for n, c, i, j in np.ndindex(y.shape):
        values = [(x[n, c, u, v], -(u * x.shape[3] + v)) for u, v in product(grids[0][i], grids[1][j])]
        best, place = max(values)
        assert y[n, c, i, j] == best
        assert argmax[n, c, i, j] == -place


def test_max_pool_gradients_of_overlapping_windows_add() -> None:
    x = np.array([[[[0.0, 1.0, 5.0, 1.0, 0.0]]]])
    _, argmax = reference.max_pool2d_forward(x, (1, 3), (1, 1))
    grad = reference.max_pool2d_backward_input(np.array([[[[1.0, 10.0, 100.0]]]]), argmax, (1, 5))
    np.testing.assert_array_equal(grad, [[[[0, 0, 111, 0, 0]]]])


@pytest.mark.parametrize("a", small_cases("avg_pool2d_forward"))
def test_avg_pool(a: Arguments) -> None:
    x = a["x"]
    y = reference.avg_pool2d_forward(**a)
    grids = [
        windows(x.shape[2 + d], y.shape[2 + d], a["kernel_size"][d], a["stride"][d], a.get("padding", (0, 0))[d])
        for d in (0, 1)
    ]
    expected = np.zeros(y.shape)
    for n, c, i, j in np.ndindex(y.shape):
        values = [x[n, c, u, v] for u, v in product(grids[0][i], grids[1][j])]
        expected[n, c, i, j] = sum(values) / (
            math.prod(a["kernel_size"]) if a.get("count_include_pad", True) else len(values)
        )
    close(y, expected)


def test_global_avg_pool_by_hand() -> None:
    x = np.array([[[[1.0, 2.0], [3.0, 6.0]], [[0.0, 0.0], [0.0, 1.0]]]])
    np.testing.assert_array_equal(reference.global_avg_pool2d_forward(x), [[[[3.0]], [[0.25]]]])
    grad = reference.global_avg_pool2d_backward_input(np.array([[[[4.0]], [[8.0]]]]), (2, 2))
    np.testing.assert_array_equal(grad, [[np.ones((2, 2)), 2 * np.ones((2, 2))]])


# ---- batch norm ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", small_cases("batch_norm_statistics"))
def test_statistics(a: Arguments) -> None:
    x = a["x"]
    mean, var = reference.batch_norm_statistics(x)
    for c in range(x.shape[1]):
        values = [float(value) for value in x[:, c].ravel()]
        m = math.fsum(values) / len(values)
        np.testing.assert_allclose(mean[c], m, rtol=1e-13)
        np.testing.assert_allclose(var[c], math.fsum((v - m) ** 2 for v in values) / len(values), rtol=1e-12)


@pytest.mark.parametrize("a", small_cases("batch_norm_forward"))
def test_batch_norm(a: Arguments) -> None:
    x, weight, bias = a["x"], a["weight"], a["bias"]
    expected = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        c = place[1]
        normalised = (x[place] - a["mean"][c]) / math.sqrt(a["var"][c] + a["eps"])
        expected[place] = normalised * (1 if weight is None else weight[c]) + (0 if bias is None else bias[c])
    close(reference.batch_norm_forward(**a), expected)
