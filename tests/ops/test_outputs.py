"""``out=``: the result is written where the caller says, as in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, DTypeError, GraphError, ShapeError

A = np.random.default_rng(0).normal(size=(3, 4))
B = np.random.default_rng(1).normal(size=(3, 4))

CALLS: dict[str, Any] = {
    "add": lambda f, a, b, **out: f.add(a, b, alpha=2, **out),
    "matmul": lambda f, a, b, **out: f.matmul(a, b.T, **out),
    "cat": lambda f, a, b, **out: f.cat((a, b), dim=-1, **out),
    "where": lambda f, a, b, **out: f.where(a > b, a, b, **out),
    "clamp": lambda f, a, b, **out: f.clamp(a, min=0, **out),
    "sum": lambda f, a, b, **out: f.sum(a, -1, **out),
    "argmax": lambda f, a, b, **out: f.argmax(a, 1, **out),
    "eq": lambda f, a, b, **out: f.eq(a, a, **out),
    "cumsum": lambda f, a, b, **out: f.cumsum(a, 1, **out),
    "arange": lambda f, a, b, **out: f.arange(3, **out),
    "linspace": lambda f, a, b, **out: f.linspace(0, 1, 5, **out),
    "ones": lambda f, a, b, **out: f.ones(2, 2, **out),
    "linalg.inv": lambda f, a, b, **out: f.linalg.inv(a[:, :3], **out),
    "special.expit": lambda f, a, b, **out: f.special.expit(a, **out),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("like", ["empty", "float64", "view"])
def test_as_pytorch_writes_it(name: str, like: str) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for f, tensor in ((torch, torch.tensor), (fnn, fnn.tensor)):
        a, b = tensor(A), tensor(B)
        plain = CALLS[name](f, a, b)
        if like == "view":
            whole = f.zeros(2, *plain.shape, dtype=plain.dtype)
            out = whole[1]
        else:
            whole = out = f.empty(
                0 if like == "empty" else tuple(plain.shape), dtype=plain.dtype if name == "argmax" else f.float64
            )
        assert CALLS[name](f, a, b, out=out) is out
        found.append((out.numpy(), whole.numpy()))
    for mine, torchs in zip(found[1], found[0], strict=True):
        assert mine.dtype == torchs.dtype
        np.testing.assert_allclose(mine, torchs, rtol=1e-12)


@pytest.mark.parametrize("call", [lambda f, x, o: f.max(x, 1, out=o), lambda f, x, o: f.sort(x, 0, True, out=o),
                                  lambda f, x, o: f.topk(x, 2, out=o)])  # fmt: skip
def test_several_results(call: Any) -> None:
    torch = pytest.importorskip("torch")
    found = []
    for f in (torch, fnn):
        out = (f.empty(0, dtype=f.float64), f.empty(0, dtype=f.int64))
        result = call(f, f.tensor(A), out)
        assert (result.values is out[0], result.indices is out[1]) == (True, True)
        found.append([part.numpy() for part in result])
    for mine, torchs in zip(found[1], found[0], strict=True):
        np.testing.assert_array_equal(mine, torchs)


def test_another_shape_is_taken_with_a_warning() -> None:
    out = fnn.zeros(2)
    with pytest.warns(UserWarning, match=r"add: out was resized, from shape \(2,\) to the result's, \(3, 4\)") as said:
        fnn.add(fnn.tensor(A), fnn.tensor(B), out=out)
    assert said[0].filename == __file__
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.numpy(), A + B, rtol=1e-6)


def test_input_and_output_may_be_one() -> None:
    x = fnn.tensor(A)
    fnn.matmul(x, x.T @ x, out=x)
    np.testing.assert_allclose(x.numpy(), A @ A.T @ A, rtol=1e-12)
    p = nn.Parameter(np.ones(3))
    p.grad = np.ones(3)
    memory = p.numpy()
    fnn.add(p.data, p.grad, alpha=-0.5, out=p.data)
    with fnn.no_grad():
        fnn.mul(p, 4, out=p)
    assert p.tolist() == [2, 2, 2]
    assert p.numpy() is memory


def test_backward_notices_the_write() -> None:
    x, c = fnn.ones(2, requires_grad=True), fnn.ones(2)
    y = x * c
    fnn.add(c, 1, out=c)
    with pytest.raises(GraphError, match="modified in place"):
        y.sum().backward()


def test_what_does_not_go() -> None:
    x, leaf = fnn.ones(3), fnn.ones(3, requires_grad=True)
    for a, out in ((leaf, fnn.empty(3)), (x, leaf)):
        with pytest.raises(GraphError, match=r"add: out= has no gradient, .* under fnn.no_grad\(\)"):
            fnn.add(a, 1, out=out)
    with pytest.raises(DTypeError, match="add: expected out to hold float32, got int64"):
        fnn.add(x, 1, out=fnn.ones(3, dtype=fnn.int64))
    with pytest.raises(ArgumentError, match="max: expected out to be 2 tensors, got Tensor"):
        fnn.max(x, 0, out=fnn.empty(0))
    with pytest.raises(ArgumentError, match="add: expected out to be a tensor, got int"):
        fnn.add(x, 1, out=3)
    with pytest.raises(ShapeError, match=r"add: expected out to have the shape \(3,\), got \(2,\)"):
        fnn.add(x, 1, out=nn.Parameter(np.ones(2)).data)
    with pytest.raises(TypeError, match="out"):
        fnn.flatten(x, out=x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        y = self.linear(x)
        both = fnn.empty(3, 2)
        fnn.mul(y, 2, out=both)
        return both + y


def test_in_compiled_predictions() -> None:
    model, x = Twice(), A.astype(np.float32)
    np.testing.assert_allclose(fnn.compile(model)(x), 3 * model.linear(x).numpy(), rtol=1e-6)
