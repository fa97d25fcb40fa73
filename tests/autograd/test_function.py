"""autograd.Function, whose methods see tensors, written as PyTorch's programs write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.autograd.function import once_differentiable
from fastnn.errors import ArgumentError, GraphError

RNG = np.random.default_rng(2)


def functions(package: Any) -> dict[str, Any]:
    class ReLU(package.autograd.Function):
        @staticmethod
        def forward(ctx: Any, input: Any) -> Any:
            ctx.save_for_backward(input)
            return input.clamp(min=0)

        @staticmethod
        def backward(ctx: Any, grad_output: Any) -> Any:
            (input,) = ctx.saved_tensors
            grad_input = grad_output.clone()
            grad_input[input < 0] = 0
            return grad_input

    class Scaled(package.autograd.Function):
        """A number among the inputs, and a parameter that may not need a gradient."""

        @staticmethod
        def forward(ctx: Any, x: Any, w: Any, factor: float) -> Any:
            ctx.save_for_backward(x, w)
            ctx.factor = factor
            return x * w * factor

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x, w = ctx.saved_tensors
            assert ctx.needs_input_grad[2] is False
            grad_w = (g * x * ctx.factor).sum(0) if ctx.needs_input_grad[1] else None
            return g * w * ctx.factor, grad_w, None

    class Exp(package.autograd.Function):
        """The newer form; keeps the output."""

        @staticmethod
        def forward(x: Any) -> Any:
            return x.exp()

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.set_materialize_grads(False)
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (y,) = ctx.saved_tensors
            return g * y

    return {"ReLU": ReLU, "Scaled": Scaled, "Exp": Exp}


def test_like_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x, w = RNG.normal(size=(4, 3)), RNG.normal(size=3)
    found = []
    for package, leaf in (
        (fnn, lambda a: fnn.Tensor(a, requires_grad=True)),
        (torch, lambda a: torch.tensor(a, requires_grad=True)),
    ):
        made, (a, b) = functions(package), (leaf(x), leaf(w))
        y = made["Exp"].apply(made["Scaled"].apply(made["ReLU"].apply(a), b, 2.0))
        (y * y).sum().backward()
        z = made["Exp"].apply(made["Scaled"].apply(a, b, 0.5)).sum()
        slopes = package.autograd.grad(z, [a, b], create_graph=True)
        again = package.autograd.grad((slopes[0] ** 2).sum() + (slopes[1] ** 2).sum(), [a, b])
        found.append([np.asarray(t.detach() if hasattr(t, "detach") else t) for t in (a.grad, b.grad, *slopes, *again)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, 1e-10)


def test_by_hand_and_in_a_compiled_plan() -> None:
    made = functions(fnn)
    x = fnn.Tensor([[-1.0, 2.0]], requires_grad=True)
    y = made["Scaled"].apply(made["ReLU"].apply(x), fnn.Tensor([3.0, 5.0]), 2.0)
    assert y.tolist() == [[0, 20]]
    y.sum().backward()
    assert x.grad.tolist() == [[0, 10]]
    assert fnn.gradgradcheck(made["Exp"].apply, np.array([0.5, -1.0]))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            return made["ReLU"].apply(self.linear(x))

    model, given = Model(), np.array([[1.0, -1.0], [0.5, 2.0]], np.float32)
    np.testing.assert_allclose(fnn.compile(model)(given), model(given).detach().numpy(), 1e-6)


def test_what_marks_do() -> None:
    class Rounded(fnn.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = x * 2
            ctx.mark_non_differentiable(y)
            return y

    class Once(fnn.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    class Two(fnn.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x, x

    class Dirty(fnn.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.mark_dirty(x)
            return x

    x = fnn.Tensor([1.0], requires_grad=True)
    assert not Rounded.apply(x).requires_grad
    Once.apply(x).sum().backward()
    assert x.grad.tolist() == [2]
    with pytest.raises(GraphError, match="once_differentiable"):
        Once.apply(x).sum().backward(create_graph=True)
    with pytest.raises(ArgumentError, match="return one tensor, got 2"):
        Two.apply(x)
    with pytest.raises(GraphError, match="mark_dirty"):
        Dirty.apply(x)
    assert fnn.autograd.Variable(x) is x
    assert fnn.autograd.Variable(np.ones(2), requires_grad=True).requires_grad
