"""Operators that eager code computes in one go, against the operators that plans compose them of, and theory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.ops import elementwise, products
from fastnn.ops.attention import composed_attention
from fastnn.ops.keys import FROM_FRONT
from fastnn.ops.nonlinear import composed_selu
from fastnn.ops.places import picked_along

RNG = np.random.default_rng(11)
DIMS = [None, (0,), (1,), (0, 2), (2,), (0, 1, 2)]


def both(call: Callable[..., Any], composed: Callable[..., Any], *arrays: np.ndarray, weigh: bool = True) -> list[Any]:
    """Values and gradients of the two; with `weigh` gradients that are no single number."""
    found = []
    for function in (call, composed):
        inputs = [fnn.tensor(x, requires_grad=True) for x in arrays]
        y = function(*inputs)
        weights = np.cos(np.arange(y.numel(), dtype=y.dtype)).reshape(y.shape) if weigh else np.ones(y.shape, y.dtype)
        (y * fnn.from_numpy(weights) if weigh else y).sum().backward()
        found.append((y._data, [x.grad for x in inputs]))
    return found


def alike(found: list[Any], rtol: float) -> None:
    (y, grads), (expected, slopes) = found
    assert y.tobytes() == expected.tobytes()
    for grad, slope in zip(grads, slopes, strict=True):
        assert grad.dtype == slope.dtype
        assert grad.flags.carray
        np.testing.assert_allclose(grad, slope, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_norms_and_sums_of_exponentials(dim: Any, keepdim: bool, dtype: Any) -> None:
    x = RNG.normal(size=(4, 5, 6)).astype(dtype)
    x[1, :, 2] = x[2] = 0
    options = {"dim": dim, "keepdim": keepdim}
    for weigh in (False, True):
        for call, composed in (
            (lambda x: x.norm(**options), lambda x: products.composed_norm(x, **options)),
            (lambda x: x.logsumexp(**options), lambda x: products.composed_logsumexp(x, **options)),
        ):
            alike(both(call, composed, x, weigh=weigh), 1e-6 if dtype == np.float32 else 1e-14)


def test_a_softmax_is_the_gradient_of_logsumexp() -> None:
    x = fnn.tensor(RNG.normal(size=(3, 7)) * 300, requires_grad=True)
    x.logsumexp(1).sum().backward()
    shares = np.exp(x._data - x._data.max(1, keepdims=True))
    np.testing.assert_allclose(x.grad, shares / shares.sum(1, keepdims=True), rtol=1e-12)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_infinities() -> None:
    x = np.array([[1, math.inf, 2], [-math.inf, -math.inf, -math.inf], [0, -math.inf, 0], [math.nan, 1, math.inf]])
    found = fnn.tensor(x).logsumexp(1).numpy()
    np.testing.assert_allclose(found, [math.inf, -math.inf, math.log(2), math.nan])
    np.testing.assert_allclose(fnn.tensor(x).norm(dim=1).numpy(), [math.inf, math.inf, math.inf, math.nan])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weigh", [False, True])
def test_lerp(dtype: Any, weigh: bool) -> None:
    a, b = (RNG.normal(size=(4, 5)).astype(dtype) for _ in range(2))
    found = both(
        lambda a, b: fnn.lerp(a, b, 0.3), lambda a, b: elementwise.composed_lerp(a, b, weight=0.3), a, b, weigh=weigh
    )
    assert found[0][0].dtype == dtype
    alike(found, 0)
    x = fnn.tensor(a, requires_grad=True)
    fnn.lerp(x, x, 0.3).sum().backward()
    np.testing.assert_allclose(x.grad, np.ones((4, 5)), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weigh", [False, True])
def test_gathering(dtype: Any, weigh: bool) -> None:
    for shape, dim in (((3, 4, 5), 2), ((6,), 0), ((4, 5), -1)):
        x = RNG.normal(size=shape).astype(dtype)
        for index in (
            RNG.integers(0, shape[-1], (*shape[:-1], 9)),
            RNG.integers(0, shape[-1], (*shape[:-1], 2), np.int32),
        ):
            given = fnn.from_numpy(index)
            found = both(
                lambda x, given=given, dim=dim: x.gather(dim, given),
                lambda x, given=given, dim=dim: picked_along("gather", x, dim, given, FROM_FRONT),
                x, weigh=weigh,
            )  # fmt: skip
            np.testing.assert_array_equal(found[0][0], np.take_along_axis(x, index, -1))
            alike(found, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weigh", [False, True])
def test_selu(dtype: Any, weigh: bool) -> None:
    x = np.concatenate([RNG.normal(size=20), [0, -100, 100]]).astype(dtype)
    alike(both(nn.functional.selu, composed_selu, x, weigh=weigh), 1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}])
@pytest.mark.parametrize("weigh", [False, True])
def test_attention(dtype: Any, options: dict[str, Any], weigh: bool) -> None:
    shapes = (2, 3, 7, 4), (2, 3, 5, 4), (2, 3, 5, 6)
    arrays = [RNG.normal(size=shape).astype(dtype) for shape in shapes]
    given = {"is_causal": False, "scale": 1 / math.sqrt(4)} | options
    found = both(
        lambda *x: nn.functional.scaled_dot_product_attention(*x, **options),
        lambda *x: composed_attention(*x, **given),
        *arrays, weigh=weigh,
    )  # fmt: skip
    alike(found, 1e-6 if dtype == np.float32 else 1e-14)


def test_attention_to_itself_and_of_some() -> None:
    x = fnn.tensor(RNG.normal(size=(5, 4)), requires_grad=True)
    still = fnn.tensor(RNG.normal(size=(5, 4)))
    for given in ((x, x, x), (x, still, still), (still, x, still), (still, still, x)):
        assert fnn.gradcheck(lambda y, given=given: nn.functional.scaled_dot_product_attention(
            *(y if each is x else each for each in given)), x._data)  # fmt: skip
        assert fnn.autograd.gradgradcheck(lambda y, given=given: nn.functional.scaled_dot_product_attention(
            *(y if each is x else each for each in given), is_causal=True), x._data)  # fmt: skip
    assert still.grad is None


def test_their_gradients_have_gradients() -> None:
    a, b = RNG.normal(size=(2, 3, 4))
    assert fnn.autograd.gradgradcheck(lambda x: x.norm(dim=1), a)
    assert fnn.autograd.gradgradcheck(lambda x: x.logsumexp(1), a)
    assert fnn.autograd.gradgradcheck(lambda x: x.gather(1, fnn.tensor([[0, 2, 2], [1, 1, 1], [3, 0, 0]])), a)
    assert fnn.autograd.gradgradcheck(nn.functional.selu, a)
    assert fnn.autograd.gradgradcheck(lambda x, y: fnn.lerp(x * x, y, 0.3), (a, b))


@pytest.mark.parametrize("dim", [None, (0,), (1,), (2,), (-1,), (0, 2), (-3, 1), (0, 1, 2)])
@pytest.mark.parametrize("keepdim", [False, True])
def test_a_sum_repeats_its_gradient(dim: Any, keepdim: bool) -> None:
    for shape in ((2, 3, 4), (2, 1, 4), (1, 3, 1), (0, 3, 4)):
        x = fnn.tensor(RNG.normal(size=shape), requires_grad=True)
        y = fnn.ops.shaping.Sum.apply(x, dim=dim, keepdim=keepdim)
        for given in (RNG.normal(size=y.shape), np.array(RNG.normal(size=y.shape), order="F")):
            x.grad = None
            y.backward(given, retain_graph=True)
            kept = np.asarray(given).reshape(np.sum(x._data, dim, keepdims=True).shape)
            np.testing.assert_array_equal(x.grad, np.broadcast_to(kept, shape))
            assert x.grad.flags.carray


def test_what_is_broadcast_gets_the_sum_of_a_repeated_gradient() -> None:
    for shape in ((4,), (3, 1), (1, 1), (2, 1, 4), (1, 3, 4), ()):
        x = fnn.tensor(RNG.normal(size=(2, 3, 4)), requires_grad=True)
        y = fnn.tensor(RNG.normal(size=shape), requires_grad=True)
        for weights in (np.ones((2, 3, 4)), np.arange(2.0)[:, None, None], RNG.normal(size=(2, 3, 4))):
            y.grad = None
            (x + y).backward(np.broadcast_to(weights, (2, 3, 4)))
            expected = np.array(np.broadcast_to(weights, (2, 3, 4))).sum(tuple(range(3 - len(shape))))
            expected = expected.sum(tuple(d for d, size in enumerate(shape) if size == 1), keepdims=True)
            np.testing.assert_allclose(y.grad, expected, rtol=1e-14)


def test_a_gradient_of_one_number_stays_one() -> None:
    """Products, quotients, differences and signs of a sum's gradient are computed once."""
    x, y = (fnn.tensor(RNG.normal(size=(3, 4)), requires_grad=True) for _ in range(2))
    ((-(x - y) * 2.0) / 4.0).sum().backward()
    for tensor, slope in ((x, -0.5), (y, 0.5)):
        np.testing.assert_array_equal(tensor.grad, np.full((3, 4), slope))
        assert tensor.grad.flags.writeable
    assert not np.shares_memory(x.grad, y.grad)
    x.grad[...] = 7
    np.testing.assert_array_equal(y.grad, np.full((3, 4), 0.5))
