"""Whole numbers stay whole, of a type that holds them, and say it where there is no answer; as PyTorch's do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError

torch = pytest.importorskip("torch")
BIG = np.array([2**24 + 1, -(2**40) - 3, 7, -1, 2**53 + 1])


def same(call: Any) -> None:
    found, expected = call(fnn, fnn.tensor), call(torch, torch.tensor)
    assert str(found.dtype) == str(expected.dtype).removeprefix("torch.")
    np.testing.assert_array_equal(found.numpy(), expected.numpy())


@pytest.mark.parametrize("divisor", [1, 2, -3])
@pytest.mark.parametrize("mode", ["floor", "trunc"])
def test_quotients_are_exact(mode: str, divisor: int) -> None:
    """They went by way of float32: 16,777,217 // 1 was 16,777,216."""
    same(lambda lib, t: lib.div(t(BIG), divisor, rounding_mode=mode))
    same(lambda lib, t: t(BIG) // t(np.array([divisor])))


def test_quotients_within_plans_hold_53_bits() -> None:
    class Halved(nn.Module):
        def forward(self, x: Any) -> Any:
            return (x + 0).long() // 2

    x = np.array([[2**24 + 2, -7, 9]], np.float64)
    np.testing.assert_array_equal(fnn.compile(Halved())(x), x.astype(np.int64) // 2)
    big = BIG[:4][np.newaxis]

    class Alone(nn.Module):
        def forward(self, x: Any) -> Any:
            return x // 2

    np.testing.assert_array_equal(fnn.compile(Alone())(big), big // 2)


@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
def test_nothing_is_divided_by_zero(name: str) -> None:
    """It was the most negative number, or 0."""
    for other in (0, fnn.tensor([1, 0])):
        with pytest.raises(ArgumentError, match="other than 0"):
            getattr(fnn, name)(fnn.tensor([5, 6]), other)
    assert np.isinf(fnn.floor_divide(fnn.tensor([5.0]), 0).item())


def test_products_of_matrices_are_exact() -> None:
    """They were float32, which holds 24 bits."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-(2**20), 2**20, (3, 4)), rng.integers(-(2**20), 2**20, (4, 2))
    same(lambda lib, t: t(a) @ t(b))
    same(lambda lib, t: lib.matmul(t(a), t(b[:, 0])))
    same(lambda lib, t: lib.bmm(t(a[np.newaxis]), t(b[np.newaxis])))
    same(lambda lib, t: lib.dot(t(a[0]), t(b[:, 0])))


def test_sums_of_unsigned_numbers_go_below_zero() -> None:
    """They were uint64, and one less than nothing 18,446,744,073,709,551,615."""
    pixels = np.array([[1, 2], [200, 200]], np.uint8)
    same(lambda lib, t: t(pixels).sum() - 500)
    same(lambda lib, t: t(pixels).sum(0))
    assert (fnn.tensor(pixels).sum() - 500).item() == -97


def test_a_tensor_without_dimensions_does_not_widen_another() -> None:
    vector, whole = np.ones(2, np.float32), np.ones(2, np.int32)
    same(lambda lib, t: t(vector) * t(np.float64(2)))
    same(lambda lib, t: t(np.float64(2)) - t(vector))
    same(lambda lib, t: t(whole) + t(np.int64(3)))
    same(lambda lib, t: t(whole) * t(np.float64(0.5)))
    same(lambda lib, t: t(np.ones(1, np.float64)) * t(vector))


def test_clamping_and_joining() -> None:
    same(lambda lib, t: t(np.array([1, 5])).clamp(max=2.5))
    same(lambda lib, t: t(np.array([1, 5])).clamp(2, 4))
    same(lambda lib, t: lib.cat([t(np.zeros(0, np.float32)), t(np.ones((2, 3), np.float32))]))  # as a list is begun
    same(lambda lib, t: lib.cat([t(np.zeros(0, np.float32)), t(np.zeros(0, np.float32))]))


def written_by(x: Any, value: Any) -> list[Any]:
    """What writes a number into a tensor's type, each to be called."""
    lib: Any = torch if isinstance(x, torch.Tensor) else fnn
    vector = lib.tensor([1])

    def at(key: Any) -> Any:
        y = x.clone()
        y[key] = value
        return y

    return [
        lambda: at(0), lambda: at(slice(2)), lambda: at(x > 1), lambda: at([0, 1]), lambda: x.clone().fill_(value),
        lambda: x.masked_fill(x > 1, value), lambda: x.index_fill(0, vector, value),
        lambda: x.scatter(0, vector, value),
        lambda: lib.full((2,), value, dtype=x.dtype), lambda: lib.full_like(x, value), lambda: x.new_full((2,), value),
        lambda: lib.tensor([[value]], dtype=x.dtype), lambda: x.new_tensor([value]),
        lambda: lib.nn.functional.pad(x, (1, 0), value=value),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["int64", "int32", "uint8", "int8"])
def test_what_an_integer_type_does_not_hold_is_not_written(kind: str) -> None:
    """NaN became the most negative number, 300 in uint8 44, without a word."""
    x = np.array([1, 2, 3], kind)
    for value in (np.nan, np.inf, 1e30, 300, 2**40, 2.7, -1.7, -1):
        for ours, theirs in zip(written_by(fnn.tensor(x), value), written_by(torch.tensor(x), value), strict=True):
            try:
                expected = theirs()
            except RuntimeError:
                if kind != "uint8" or value != -1:  # pad's -1, which PyTorch takes for a float
                    with pytest.raises(ArgumentError):
                        ours()
            else:
                np.testing.assert_array_equal(ours().numpy(), expected.numpy())
    with pytest.raises(ArgumentError, match=r"where: expected a number that uint8 holds, got 300"):
        fnn.where(fnn.tensor([True]), fnn.tensor(np.array([1], np.uint8)), 300)


def test_fractions_are_cut_off_before_a_number_is_judged() -> None:
    assert fnn.tensor([-0.5, 255.9], dtype=fnn.uint8).tolist() == [0, 255]
    with pytest.raises(ArgumentError, match="uint8 holds, got 256"):
        fnn.tensor([0, 256], dtype=fnn.uint8)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i4", "i8", "?"])
def test_the_opposite_of_all_bits(dtype: str) -> None:
    same(lambda lib, t: ~t(np.array([0, 1, 1, 0]).astype(dtype)))
    same(lambda lib, t: lib.bitwise_not(t(np.array([7, 255]).astype("u1"))))


@pytest.mark.parametrize("x", [np.arange(3.0), np.ones((2, 3)), np.float64(2)])
@pytest.mark.parametrize("key", [True, False, np.True_, np.array(False)])
def test_a_single_truth_is_a_dimension(x: Any, key: Any) -> None:
    """And not the index 0 or 1, which it was for vectors."""
    same(lambda lib, t: t(x)[t(key) if isinstance(key, np.ndarray) else bool(key)])
    own, other = fnn.tensor(x).requires_grad_(), torch.tensor(x, requires_grad=True)
    for t in (own, other):
        (t[bool(key)] * 3).sum().backward()
    np.testing.assert_array_equal(own.grad, other.grad.numpy())


def test_between_truths() -> None:
    """As numbers: NumPy's booleans know no minus."""
    found = fnn.lerp(fnn.tensor([True, False]), fnn.tensor([True, True]), 0.25)
    np.testing.assert_array_equal(found.numpy(), [1, 0.25])
