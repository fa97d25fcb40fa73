"""Sums over millions of terms keep six digits, in every backend: as they come out in double precision.

Equal terms are the hardest: each addition rounds the same way.
"""

from __future__ import annotations

import numpy as np
import pytest
from targets import Target

import fastnn as fnn
from fastnn import nn, optim
from fastnn.backends.sums import total

MANY = 1_000_000
TERM = np.float32(0.1)
EXACT = float(TERM)
BOUND = 1e-6


def close(got: np.ndarray, expected: np.ndarray | float, scale: float | None = None, bound: float = BOUND) -> None:
    """Within BOUND of the sum of the terms' sizes, by default the result's own."""
    error = np.max(np.abs(np.asarray(got, np.float64) - expected))
    assert error <= bound * (np.max(np.abs(expected)) if scale is None else scale), f"{got}, expected {expected}"


def tenths(*shape: int) -> np.ndarray:
    return np.full(shape, TERM, np.float32)


# ---- sums in NumPy ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((MANY, 3), 0), ((MANY, 3), None), ((3, MANY), 1), ((2, MANY // 2, 3), 1), ((MANY // 4, 2, 2), (0, 1)),
        ((1000, 3, 31, 33), (0, 2, 3)), ((1000, 3, 31, 33), (1, 2)), ((1 << 20,), 0), ((129, 1), 0),
    ],
)  # fmt: skip
def test_total_along_any_axes(shape: tuple[int, ...], axis: int | tuple[int, ...] | None) -> None:
    x = tenths(*shape)
    axes = tuple(range(len(shape))) if axis is None else (axis,) if isinstance(axis, int) else axis
    count = int(np.prod([shape[a] for a in axes]))
    for keepdims in (False, True):
        got = total(x, axis, keepdims)
        assert got.dtype == np.float32
        assert got.shape == np.add.reduce(np.broadcast_to(np.float32(0), shape), axis, keepdims=keepdims).shape
        close(got, EXACT * count)


def test_total_of_arrays_that_lie_otherwise_in_memory() -> None:
    column = tenths(MANY)
    for x, axis in (
        (tenths(3, MANY).T, 0),
        (tenths(MANY, 4)[:, ::2], None),
        (tenths(MANY, 4)[::-1, 1:3], (0,)),
        (np.broadcast_to(column[:, None], (MANY, 3)), 0),
        (np.broadcast_to(TERM, (MANY, 2)), (0, 1)),
    ):
        count = x.size if axis in (None, (0, 1)) else MANY
        close(total(x, axis), EXACT * count)


def test_total_of_other_types_is_numpys() -> None:
    assert total(np.arange(1000), 0) == 499500
    assert total(np.ones((1000, 2)), 0).dtype == np.float64
    assert np.isnan(total(np.array([[np.nan]] * 1000, np.float32), 0))
    assert np.isinf(total(np.array([[np.inf]] * 1000, np.float32), 0))


def test_tensor_reductions() -> None:
    t = fnn.Tensor(tenths(MANY, 2))
    for got, expected in (
        (t.sum(0), EXACT * MANY),
        (t.mean(0), EXACT),
        (t.mean(), EXACT),
        (t.sum((0, 1)), 2 * EXACT * MANY),
    ):
        close(got.numpy(), expected)
    noisy = (100 + np.random.default_rng(0).standard_normal((MANY, 2))).astype(np.float32)
    close(fnn.Tensor(noisy).var(0).numpy(), noisy.astype(np.float64).var(0, ddof=1))


def test_gradients_of_what_is_broadcast() -> None:
    for shape in ((3,), (1, 3), (1, 1), ()):
        b = fnn.Tensor(np.ones(shape, np.float32), requires_grad=True)
        (fnn.Tensor(tenths(MANY, 3)) * b).sum().backward()
        close(b.grad, EXACT * MANY * (3 if b.numel() == 1 else 1))


def test_losses() -> None:
    x, zero = tenths(MANY, 2), np.zeros((MANY, 2), np.float32)
    close(nn.MSELoss()(x, zero).item(), float(TERM * TERM))
    close(nn.MSELoss(reduction="sum")(x, zero).item(), float(TERM * TERM) * 2 * MANY)
    close(nn.BCEWithLogitsLoss()(x, zero).item(), np.log1p(np.exp(EXACT)))
    close(nn.CrossEntropyLoss()(zero, np.zeros(MANY, int)).item(), np.log(2))


def test_penalty_and_clipping() -> None:
    weight = nn.Parameter(tenths(MANY, 2))
    close(optim.SGD([weight], lr=1, l1=1.0).penalty(), 2 * EXACT * MANY)
    close(optim.SGD([weight], lr=1, l2=1.0).penalty(), 2 * EXACT**2 * MANY)


# ---- kernels of every backend and instruction set --------------------------------------------------------------------


def test_products_over_a_long_inner_dimension(target: Target) -> None:
    k = target.kernels
    for m, n in ((1, 1), (2, 40), (3, 1), (5, 7)):
        for depth in (200, 1000, 20_000, 300_000)[2 if target.backend == "reference" else 0 :]:  # 1000: as BLAS does it
            a, b = tenths(m, depth), np.ones((depth, n), np.float32)
            close(k.matmul(a, b), EXACT * depth)
            close(k.matmul(a, np.ascontiguousarray(b.T), transpose_b=True), EXACT * depth)
            close(k.linear_forward(a, np.ascontiguousarray(b.T), np.ones(n, np.float32)), EXACT * depth + 1)
            for gradient in k.linear_backward_weight(tenths(depth, m), b):
                close(gradient, EXACT * depth)


@pytest.mark.parametrize(
    ("n", "c", "o", "size", "kernel", "stride", "groups"),
    [
        (30_000, 1, 2, 4, 3, 1, 1), (3_000, 16, 16, 8, 3, 1, 1), (20_000, 4, 4, 3, 2, 1, 2), (4_000, 4, 8, 9, 3, 2, 1),
        (1, 3, 5, 512, 3, 1, 1), (2, 16, 16, 256, 3, 1, 1), (1, 4, 4, 512, 1, 1, 1), (20_000, 32, 16, 3, 3, 1, 1),
    ],
)  # fmt: skip
def test_convolutions_parameters(
    target: Target, n: int, c: int, o: int, size: int, kernel: int, stride: int, groups: int
) -> None:
    out = (size - kernel) // stride + 1
    grad, x = tenths(n, o, out, out), np.ones((n, c, size, size), np.float32)
    for algorithm in ("auto", "im2col"):
        if target.backend == "reference" and algorithm != "auto":
            continue
        for gradient in target.kernels.conv2d_backward_weight(
            grad, x, (kernel, kernel), (stride, stride), groups=groups, algorithm=algorithm
        ):
            close(gradient, EXACT * n * out * out)


def test_batch_norm(target: Target) -> None:
    k = target.kernels
    for shape in ((MANY, 2), (MANY // 64, 2, 8, 8), (2, 2, 700, 700)):
        m = int(np.prod(shape)) // 2
        x = np.moveaxis((100 + np.arange(2 * m) % 2).astype(np.float32).reshape(2, shape[0], *shape[2:]), 0, 1)
        mean, var = k.batch_norm_statistics(np.ascontiguousarray(x))
        close(mean, 100.5)
        close(var, 0.25)
        grad_weight, grad_bias = k.batch_norm_backward_weight(tenths(*shape), x + 0.5, mean, var, 0.0)
        close(grad_bias, EXACT * m)
        close(grad_weight, EXACT * m)


def test_softmax_over_long_rows(target: Target) -> None:
    k = target.kernels
    zeros = np.zeros((2, MANY), np.float32)
    close(k.softmax_forward(zeros), 1 / MANY)
    close(k.log_softmax_forward(zeros), -np.log(MANY))
    close(k.log_softmax_backward_input(tenths(2, MANY), zeros - np.float32(np.log(MANY))), 0, EXACT)
    close(k.softmax_cross_entropy(zeros, np.array([0, 1]))[0], np.log(MANY))
    soft = np.full((2, MANY), 1 / MANY, np.float32)
    close(k.softmax_cross_entropy(zeros, soft)[0], np.log(MANY) * float(soft[0, 0]) * MANY)
    close(k.softmax_cross_entropy(zeros, np.array([0, 1]), 0.5)[0], np.log(MANY))


@pytest.mark.long
def test_averages_over_large_windows(target: Target) -> None:
    k = target.kernels
    close(k.global_avg_pool2d_forward(tenths(1, 2, 1500, 1500)), EXACT)
    x = tenths(1, 2, 400, 400)
    for window, stride in (((400, 400), (400, 400)), ((300, 200), (100, 50)), ((130, 3), (1, 3))):
        close(k.avg_pool2d_forward(x, window, stride), EXACT)
    grad = np.ones((1, 1, 200, 200), np.float32)  # the pixel in the middle is in all windows
    close(k.avg_pool2d_backward_input(grad, (399, 399), (200, 200), (1, 1))[0, 0, 199, 199], 1.0)


def test_norm_of_a_long_gradient() -> None:
    kernels = pytest.importorskip("fastnn._kernels")
    close(kernels.sum_of_squares(tenths(MANY)), EXACT**2 * MANY)
