"""Arithmetic on tensors: NumPy's values, float32 kept, gradients against finite differences, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, DTypeError, ShapeError

A = np.array([[0.5, -1.5, 2.0], [1.25, 0.75, -0.5]])
B = np.array([[1.5, 2.5, -0.5]])
POSITIVE = np.array([[0.5, 1.5, 2.0], [1.25, 0.75, 3.0]])

BINARY: dict[str, tuple[Callable[[Any, Any], Any], np.ndarray]] = {
    "add": (lambda a, b: a + b, A),
    "sub": (lambda a, b: a - b, A),
    "mul": (lambda a, b: a * b, A),
    "div": (lambda a, b: a / b, A),
    "pow": (lambda a, b: a**b, POSITIVE),
}
OTHERS = [B, np.array(2.5), A[:, :1], np.stack([A, A + 1])]  # broadcast to A's shape, or A to theirs
UNARY: dict[str, tuple[Callable[[fnn.Tensor], fnn.Tensor], Callable[[np.ndarray], Any], np.ndarray]] = {
    "neg": (lambda x: -x, np.negative, A),
    "abs": (abs, np.abs, A),
    "exp": (lambda x: x.exp(), np.exp, A),
    "log": (lambda x: x.log(), np.log, POSITIVE),
    "sqrt": (lambda x: x.sqrt(), np.sqrt, POSITIVE),
    "square": (lambda x: x**2, np.square, A),
    "reciprocal": (lambda x: x**-1, np.reciprocal, A),
    "power": (lambda x: 2.0**x, np.exp2, A),
    "sum": (lambda x: x.sum(), np.sum, A),
    "sum-0": (lambda x: x.sum(0), lambda x: x.sum(0), A),
    "sum-keep": (lambda x: x.sum(-1, keepdim=True), lambda x: x.sum(-1, keepdims=True), A),
    "sum-both": (lambda x: x.sum((0, 1)), np.sum, A),
    "mean": (lambda x: x.mean(), np.mean, A),
    "mean-1": (lambda x: x.mean(1), lambda x: x.mean(1), A),
    "max": (lambda x: x.max(), np.max, A),
    "max-1": (lambda x: x.max(1)[0], lambda x: x.max(1), A),
    "max-keep": (lambda x: x.max(0, keepdim=True)[0], lambda x: x.max(0, keepdims=True), A),
    "min": (lambda x: x.min(), np.min, A),
    "min-1": (lambda x: x.min(1)[0], lambda x: x.min(1), A),
    "min-keep": (lambda x: x.min(0, keepdim=True)[0], lambda x: x.min(0, keepdims=True), A),
    "clamp": (lambda x: x.clamp(-1, 1.3), lambda x: x.clip(-1, 1.3), A),
    "clamp-min": (lambda x: x.clamp(min=0), lambda x: x.clip(0), A),
    "pow": (lambda x: x.pow(3), lambda x: x**3, A),
    "var": (lambda x: x.var(), lambda x: x.var(ddof=1), A),
    "var-1": (lambda x: x.var(1, correction=0, keepdim=True), lambda x: x.var(1, keepdims=True), A),
    "std-0": (lambda x: x.std(0), lambda x: x.std(0, ddof=1), A),
    "squeeze": (lambda x: x.reshape(1, 6, 1).squeeze(), np.ravel, A),
    "squeeze-0": (lambda x: x.reshape(1, 6, 1).squeeze(0), lambda x: x.reshape(6, 1), A),
    "squeeze-none": (lambda x: x.squeeze(0), lambda x: x, A),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda x: x[:, None], A),
    "unsqueeze-last": (lambda x: x.unsqueeze(-1), lambda x: x[..., None], A),
    "t": (lambda x: x.t(), np.transpose, A),
    "reshape": (lambda x: x.reshape(3, 2), lambda x: x.reshape(3, 2), A),
    "reshape-rest": (lambda x: x.reshape((-1,)), np.ravel, A),
    "view": (lambda x: x.view(1, 6, -1), lambda x: x.reshape(1, 6, 1), A),
    "flatten": (lambda x: x.flatten(), np.ravel, A),
    "transpose": (lambda x: x.transpose(0, 1), np.transpose, A),
    "T": (lambda x: x.T, np.transpose, A),
    "permute": (lambda x: x.reshape(1, 2, 3).permute(2, 0, 1), lambda x: x.reshape(1, 2, 3).transpose(2, 0, 1), A),
    "row": (lambda x: x[1], lambda x: x[1], A),
    "entry": (lambda x: x[0, -1], lambda x: x[0, -1], A),
    "slice": (lambda x: x[:, ::2], lambda x: x[:, ::2], A),
    "new-axis": (lambda x: x[None, ..., 0], lambda x: x[None, ..., 0], A),
    "repeated": (lambda x: x[[0, 0, 1]], lambda x: x[[0, 0, 1]], A),
    "pairs": (lambda x: x[fnn.Tensor([0, 1]), fnn.Tensor([2, 2])], lambda x: x[[0, 1], [2, 2]], A),
    "mask": (lambda x: x[x > 0], lambda x: x[x > 0], A),
    "matmul": (lambda x: x @ A.T, lambda x: x @ A.T, A),
    "matmul-left": (lambda x: A.T @ x, lambda x: A.T @ x, A),
    "matmul-vector": (lambda x: x @ B[0], lambda x: x @ B[0], A),
    "vector-matmul": (lambda x: np.array([1.0, -2.0]) @ x, lambda x: np.array([1.0, -2.0]) @ x, A),
    "dot": (lambda x: x[0] @ x[1], lambda x: x[0] @ x[1], A),
    "sigmoid": (lambda x: x.sigmoid(), lambda x: 1 / (1 + np.exp(-x)), A),
    "tanh": (lambda x: x.tanh(), np.tanh, A),
    "relu": (lambda x: x.relu(), lambda x: np.maximum(x, 0), A),
    "softmax-0": (lambda x: x.softmax(0), lambda x: np.exp(x) / np.exp(x).sum(0), A),
    "log-softmax": (lambda x: x.log_softmax(), lambda x: x - np.log(np.exp(x).sum(1, keepdims=True)), A),
}


@pytest.mark.parametrize("other", range(len(OTHERS)))
@pytest.mark.parametrize("name", BINARY)
def test_binary(name: str, other: int) -> None:
    """Tensor with tensor, with array from either side, with broadcasting; values and gradients of both."""
    operator, a = BINARY[name]
    b = OTHERS[other]
    for left, right in ((a, b), (np.abs(b) if name == "pow" else b, a)):
        expected = operator(left, right)
        np.testing.assert_allclose(operator(fnn.Tensor(left), fnn.Tensor(right)).numpy(), expected, rtol=1e-15)
        np.testing.assert_allclose(operator(left, fnn.Tensor(right)).numpy(), expected, rtol=1e-15)
        np.testing.assert_allclose(operator(fnn.Tensor(left), right).numpy(), expected, rtol=1e-15)
        assert fnn.gradcheck(operator, (left, right), per_entry=True)


@pytest.mark.parametrize(
    ("left", "right"),
    [((4, 2, 3), (4, 3, 5)), ((4, 2, 3), (3, 5)), ((2, 3), (4, 3, 5)), ((5, 1, 2, 3), (4, 3, 2)), ((3,), (4, 3, 2)),
     ((4, 2, 3), (3,)), ((0, 2, 3), (3, 2))],
)  # fmt: skip
def test_matmul_of_stacks(left: tuple[int, ...], right: tuple[int, ...], rng: np.random.Generator) -> None:
    """NumPy's values, float32 kept, gradients summed over what was broadcast."""
    a, b = rng.normal(size=left), rng.normal(size=right)
    product = fnn.Tensor(a) @ fnn.Tensor(b)
    np.testing.assert_allclose(product.numpy(), a @ b, rtol=1e-13)
    single = fnn.Tensor(a.astype(np.float32)) @ b.astype(np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.numpy(), a @ b, rtol=1e-4, atol=1e-5)
    assert fnn.gradcheck(lambda x, y: x @ y, (a, b))


@pytest.mark.parametrize("name", BINARY)
def test_binary_in_float32_stays_float32(name: str) -> None:
    """Python and NumPy numbers, and arrays of other types, take the tensor's type; so do gradients."""
    operator, a = BINARY[name]
    x = fnn.Tensor(a.astype(np.float32), requires_grad=True)
    for other in (2, 2.5, np.float64(2.5), np.int64(2), np.full(3, 2.5), np.arange(1, 4), [1.0, 2.0, 3.0]):
        for result in (operator(x, other), operator(np.abs(other) if name == "pow" else other, x)):
            assert result.dtype == np.float32
            result.sum().backward()
            assert x.grad is not None
            assert x.grad.dtype == np.float32


@pytest.mark.parametrize("name", UNARY)
def test_unary(name: str) -> None:
    """Values against NumPy, gradients against finite differences, float32 kept."""
    operator, in_numpy, a = UNARY[name]
    np.testing.assert_allclose(operator(fnn.Tensor(a)).numpy(), in_numpy(a), rtol=1e-14)
    assert fnn.gradcheck(operator, a, per_entry=True)
    single = operator(fnn.Tensor(a.astype(np.float32), requires_grad=True))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.numpy(), in_numpy(a), rtol=1e-5)


def test_mixed_precision_goes_up_and_gradients_come_back() -> None:
    x, y = fnn.Tensor(A.astype(np.float32), requires_grad=True), fnn.Tensor(A, requires_grad=True)
    z = x * y
    assert z.dtype == np.float64
    z.sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(x.grad, A.astype(np.float32))


def test_integers() -> None:
    x = fnn.Tensor([1, 2, 3])
    assert (x + 1).dtype == np.int64
    assert (x * 2).sum().item() == 12
    assert (x / 2).tolist() == [0.5, 1.0, 1.5]
    assert (x**0.5).dtype == (x * 0.5).dtype == x.mean().dtype == np.float32
    assert (x + fnn.Tensor([1.0])).dtype == np.float32
    image = fnn.Tensor(np.array([250, 3], np.uint8))
    assert (image - 1).dtype == np.uint8
    assert (image + x[:2]).tolist() == [251, 5]
    assert (image / 255).dtype == np.float32
    assert ((x > 1) * 2).tolist() == [0, 2, 2]


def test_powers_of_integers_are_integers() -> None:
    """As PyTorch's: 3 ** 20 has more digits than float32."""
    x, counts = fnn.Tensor(np.array([3, -2, 0])), fnn.Tensor(np.array([1, 3, 0], np.int8))
    for found, expected in (
        (x**20, [3**20, 2**20, 0]),
        (x**counts, [3, -8, 1]),
        (2**counts, [2, 8, 1]),
        (fnn.compile(Squared())(x), [9, 4, 0]),
    ):
        assert found.dtype.kind == "i"
        assert found.tolist() == expected
    assert (x**2.0).dtype == (2.5**x).dtype == np.float32
    assert (fnn.Tensor([2.0]) ** -1).item() == 0.5
    for power in (lambda: x**-1, lambda: 2**x, lambda: fnn.pow(counts, x)):
        with pytest.raises(ArgumentError, match=r"x\.float\(\) \*\*"):
            power()


class Squared(nn.Module):
    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        return x**2


def test_comparisons_are_tensors_of_booleans() -> None:
    x = fnn.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    for compared, expected in (
        (x < 2, [True, False, False]),
        (x <= 2, [True, True, False]),
        (x > 2, [False, False, True]),
        (x >= 2, [False, True, True]),
        (x == 2, [False, True, False]),
        (x != fnn.Tensor([1.0, 2.0, 4.0]), [False, False, True]),
    ):
        assert compared.tolist() == expected
        assert not compared.requires_grad
    assert (x > 2).any()
    assert not (x > 2).all()


def test_slopes_at_the_edges() -> None:
    """At 0, x ** 0 has slope 0, x ** 1 slope 1, and 0 ** b does not change with b; equal maxima share."""
    x = fnn.Tensor([0.0, 0.0], requires_grad=True)
    (x ** np.array([0.0, 1.0])).sum().backward()
    assert x.grad == pytest.approx([0.0, 1.0])
    b = fnn.Tensor([2.0], requires_grad=True)
    (0.0**b).backward()
    assert b.grad == pytest.approx([0.0])
    y = fnn.Tensor([3.0, 3.0], requires_grad=True)
    y.max().backward()
    assert y.grad == pytest.approx([0.5, 0.5])


def test_iteration_ends() -> None:
    rows = list(fnn.Tensor(A, requires_grad=True))
    assert [row.tolist() for row in rows] == A.tolist()
    assert rows[0].requires_grad
    with pytest.raises(TypeError):
        list(fnn.Tensor(1.0))


def test_matmul_of_empty_batches() -> None:
    x, w = fnn.Tensor(np.zeros((0, 3), np.float32)), fnn.Tensor(np.ones((3, 2), np.float32), requires_grad=True)
    (x @ w).sum().backward()
    assert w.grad is not None
    assert not w.grad.any()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda x: x + np.zeros(4), ShapeError, r"add: expected shapes that broadcast, got \(2, 3\) and \(4,\)"),
        (lambda x: np.zeros(4) * x, ShapeError, r"mul: expected shapes that broadcast, got \(4,\) and \(2, 3\)"),
        (lambda x: x + "one", DTypeError, "expected numbers, got str"),
        (lambda x: x * 1j, DTypeError, "expected numbers, got complex"),
        (lambda x: x @ x, ShapeError, r"\(2, 3\)"),
        (lambda x: x @ np.zeros((2, 2, 3)), ShapeError, r"matmul: .* got \(2, 3\) and \(2, 2, 3\)"),
        (lambda x: x.reshape(2, 1, 3) @ np.zeros((3, 3, 2)), ShapeError, "matmul: expected .* that broadcast"),
        (lambda x: x @ 2.0, ShapeError, "vectors or matrices"),
        (lambda x: x.sum(2), ShapeError, "sum: expected a dimension from -2 to 1, got 2"),
        (lambda x: x.reshape(4, 2), ShapeError, r"reshape: expected a shape for 6 entries .*, got \(4, 2\)"),
        (lambda x: x.reshape(-1, -1), ShapeError, "reshape"),
        (lambda x: x.reshape(-1, 4), ShapeError, "reshape"),
        (lambda x: x.flatten(1, 0), ShapeError, "start_dim <= end_dim"),
        (lambda x: x.transpose(0, 2), ShapeError, "transpose"),
        (lambda x: x.permute(0, 0), ShapeError, "permute: expected an order of 2 dimensions"),
        (lambda x: x.softmax(2), ShapeError, "softmax"),
        (lambda x: x[:0].max(), ShapeError, "max: expected at least one entry"),
        (lambda x: x[:0].argmax(), ShapeError, "argmax: expected at least one entry"),
        (lambda x: x[2], ShapeError, r"index: .* \(input is \(2, 3\)\)"),
    ],
)
def test_errors(wrong: Callable[[fnn.Tensor], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        wrong(fnn.Tensor(A))
