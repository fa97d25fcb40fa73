"""autograd.Function, whose methods see tensors, written as PyTorch's programs write it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, optim
from fastnn.autograd.function import InplaceFunction, once_differentiable
from fastnn.errors import ArgumentError, GraphError, ShapeError
from fastnn.recording import tracer

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
    with pytest.raises(GraphError, match="mark_dirty"):
        Dirty.apply(x)
    assert fnn.autograd.Variable(x) is x
    assert fnn.autograd.Variable(np.ones(2), requires_grad=True).requires_grad


def test_backward_may_give_more_nones_than_there_were_inputs() -> None:
    """Those of options left out, as quantisers write it: forward(ctx, x, bits=2, inplace=False)."""

    class Quantised(InplaceFunction):
        beyond: Any = None

        @staticmethod
        def forward(ctx: Any, x: Any, bits: int = 2, inplace: bool = False) -> Any:
            ctx.inplace = inplace
            return x.clone().mul_(2**bits - 1).round_().div_(2**bits - 1)

        @classmethod
        def backward(cls, ctx: Any, g: Any) -> Any:
            return g * 5, None, cls.beyond

    x = fnn.Tensor([0.3, 0.9], requires_grad=True)
    y = Quantised.apply(x, 2)
    y.sum().backward()
    assert y.tolist() == pytest.approx([1 / 3, 1])
    assert x.grad.tolist() == [5, 5]
    Quantised.beyond = fnn.ones(2)
    with pytest.raises(GraphError, match="expected 2 gradients, one per input, got 3"):
        Quantised.apply(x, 2).sum().backward()


# ---- several outputs -------------------------------------------------------------------------------------------------


def of_several(package: Any) -> dict[str, Any]:
    class SinCos(package.autograd.Function):
        """Keeps its outputs, which backward reads."""

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            s, c = x.sin(), x.cos()
            ctx.save_for_backward(s, c)
            return s, c

        @staticmethod
        def backward(ctx: Any, grad_s: Any, grad_c: Any) -> Any:
            s, c = ctx.saved_tensors
            return grad_s * c - grad_c * s

    class Scaled(package.autograd.Function):
        """Two inputs, outputs of other shapes and types, one of them without a gradient; the newer form."""

        @staticmethod
        def forward(x: Any, w: Any) -> Any:
            y = x * w
            return y, y.sum(0), (y > 0).sum(0), y > 0, y * 1

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            ctx.mark_non_differentiable(*output[2:])
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx: Any, grad_y: Any, grad_sum: Any, grad_count: Any, grad_mask: Any, grad_copy: Any) -> Any:
            x, w = ctx.saved_tensors
            assert not grad_copy.any()
            grad = grad_y + grad_sum
            grad_w = (grad * x).sum(0) if ctx.needs_input_grad[1] else None
            return grad * w if ctx.needs_input_grad[0] else None, grad_w

    class Seen(package.autograd.Function):
        """Says which gradients came."""

        came: Any = None

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.set_materialize_grads(False)
            return x * 1, x * 2, (x > 0).sum()

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            Seen.came = [g is not None for g in grads]
            return sum(g * factor for g, factor in zip(grads, (1, 2), strict=False) if g is not None)

    return {"SinCos": SinCos, "Scaled": Scaled, "Seen": Seen}


def test_several_outputs_like_pytorch() -> None:
    torch = pytest.importorskip("torch")
    x, w = RNG.normal(size=(4, 3)), RNG.normal(size=3)
    found = []
    for package, leaf in (
        (fnn, lambda a: fnn.Tensor(a, requires_grad=True)),
        (torch, lambda a: torch.tensor(a, requires_grad=True)),
    ):
        made, (a, b) = of_several(package), (leaf(x), leaf(w))
        y, total, count, mask, copied = made["Scaled"].apply(a, b)
        assert [t.requires_grad for t in (y, total, count, mask, copied)] == [True, True, False, False, False]
        s, c = made["SinCos"].apply(y * copied)
        loss = (s * total).sum() + (c * c * count).sum() + (y * mask).sum()
        slopes = package.autograd.grad(loss, [a, b], create_graph=True)
        second = package.autograd.grad((slopes[0] ** 2).sum() + (slopes[1] ** 2).sum(), [a, b], retain_graph=True)
        loss.backward()
        alone = package.autograd.grad(made["Scaled"].apply(a, b)[1].sum(), b)
        results = [y, total, count, mask, copied, s, c, *slopes, *second, *alone]
        found.append([*(np.asarray(t.detach()) for t in results), np.asarray(a.grad), np.asarray(b.grad)])
    for ours, theirs in zip(*found, strict=True):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        np.testing.assert_allclose(ours, theirs, 1e-10, 1e-12)


def test_which_gradients_came() -> None:
    """None for outputs that nothing was computed from, as in PyTorch, and for those only: not for a gradient of 0."""
    torch = pytest.importorskip("torch")
    for package in (fnn, torch):
        seen = of_several(package)["Seen"]
        for picked, expected in (
            ((0,), [True, False, False]), ((1,), [False, True, False]), ((0, 1), [True, True, False])
        ):  # fmt: skip
            x = package.ones(2, dtype=package.float64).requires_grad_()
            outputs = seen.apply(x)
            sum((outputs[i] * (0 if i == 0 else 3)).sum() for i in picked).backward()
            assert seen.came == expected
            assert np.asarray(x.grad).tolist() == [6.0 * (1 in picked)] * 2


def test_their_second_derivatives() -> None:
    made = of_several(fnn)
    given = np.array([[0.5, -1.0, 0.3]])
    assert fnn.gradcheck(lambda x: fnn.cat(made["SinCos"].apply(x)), given)
    assert fnn.gradgradcheck(lambda x: fnn.cat(made["SinCos"].apply(x)), given)
    x = fnn.Tensor(given, requires_grad=True)
    s, c = made["SinCos"].apply(x)
    s.mul_(2)  # an output of its own: neither the other one nor what was kept is changed
    (s + c).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * np.cos(given) - np.sin(given))


class Several(nn.Module):
    """Its forward takes a gradient itself, so that a plan has second derivatives of SinCos."""

    def __init__(self, second: bool) -> None:
        super().__init__()
        fnn.manual_seed(3)
        self.second, self.linear, self.weight = second, nn.Linear(3, 3), nn.Parameter(np.float32([1, -2, 3]))
        self.made = of_several(fnn)

    def forward(self, x: Any) -> Any:
        y, total, count, mask, _ = self.made["Scaled"].apply(self.linear(x), self.weight)
        s, c = self.made["SinCos"].apply(y)
        if self.second:
            (c,) = fnn.autograd.grad((s * c).sum(), y, create_graph=True)
        return s * total + c * count.float() + fnn.where(mask, y, 0)


@pytest.mark.parametrize("second", [False, True])
def test_several_outputs_in_a_compiled_plan(second: bool) -> None:
    x, y = np.float32(RNG.normal(size=(4, 3))), np.float32(RNG.normal(size=(4, 3)))
    eager, planned = Several(second), Several(second)
    if not second:  # a plan for inference records nothing that a gradient could be taken of
        np.testing.assert_allclose(fnn.compile(planned)(x), eager(fnn.Tensor(x)).detach().numpy(), 1e-5, 1e-6)
    opts = [optim.SGD(model.parameters(), lr=0.001) for model in (eager, planned)]
    step = fnn.compile(planned, nn.MSELoss(), opts[1])
    for _ in range(3):
        opts[0].zero_grad()
        loss = nn.MSELoss()(eager(fnn.Tensor(x)), fnn.Tensor(y))
        loss.backward()
        opts[0].step()
        assert step(x, y) == pytest.approx(loss.item(), rel=1e-5)
    for mine, other in zip(planned.parameters(), eager.parameters(), strict=True):
        np.testing.assert_allclose(mine.data, other.data, 1e-4, 1e-5)


def test_edges_of_several_outputs() -> None:
    class Odd(fnn.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any, returned: Any) -> Any:
            return returned(x)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return sum(g for g in grads if g is not None), None

    x = fnn.Tensor([1.0, 2.0], requires_grad=True)
    alone = Odd.apply(x, lambda x: (x,))
    assert isinstance(alone, tuple)
    assert alone[0].tolist() == [1, 2]
    first, nothing, listed = Odd.apply(x, lambda x: [x * 1, None, x.double()])
    assert nothing is None
    assert (first.dtype, listed.dtype) == (np.float32, np.float64)
    (first.sum() + listed.sum()).backward()
    assert x.grad.tolist() == [2, 2]
    assert Odd.apply(x, lambda x: ()) == ()
    assert Odd.apply(x, lambda x: (x, 2**53))[1].item() == 2**53
    with pytest.raises(ArgumentError, match=r"Odd: expected whole numbers up to 2\*\*53"):
        Odd.apply(x, lambda x: (x, 2**53 + 1))

    class Changing(nn.Module):
        def forward(self, x: Any) -> Any:
            return Odd.apply(x, lambda x: (x if tracer() is None else x[1:], x))[1]

    predict = fnn.compile(Changing())
    with pytest.raises(ShapeError, match="Odd: expected forward to return as many tensors in every run"):
        predict(np.float32([[3], [2]]))


def test_backward_asks_for_gradients_of_the_leaves_it_saved() -> None:
    """As the adjoint method for differential equations does, through a model that holds them."""

    def gradients(package: Any) -> list[Any]:
        model = package.nn.Linear(2, 2)
        with package.no_grad():
            model.weight.copy_(package.tensor([[0.5, -1.0], [2.0, 0.25]]))

        class Adjoint(package.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any, *parameters: Any) -> Any:
                ctx.save_for_backward(x, *parameters)
                ctx.first = parameters[0]
                return model(x).tanh()

            @staticmethod
            def backward(ctx: Any, grad: Any) -> Any:
                x, *parameters = ctx.saved_tensors
                assert ctx.first is parameters[0] is model.weight
                with package.enable_grad():
                    x = x.detach().requires_grad_(True)
                    return package.autograd.grad(model(x).tanh(), (x, *parameters), grad, allow_unused=True)

        x = package.tensor([[1.0, 2.0]], requires_grad=True)
        Adjoint.apply(x, *model.parameters()).sum().backward()
        found = [x.grad.tolist(), model.weight.grad.tolist()]
        model.zero_grad()
        model(x).tanh().sum().backward()
        assert model.weight.grad.tolist() == found[1]
        return found

    fnn.manual_seed(0)
    assert np.abs(np.array(gradients(fnn)[1])).min() > 0
    torch = pytest.importorskip("torch")
    gradients(torch)


def test_leaves_that_forward_does_not_save_may_change_before_backward() -> None:
    class Double(fnn.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            return grad * 2

    x = fnn.tensor([1.0, 2.0], requires_grad=True)
    loss = Double.apply(x).sum()
    with fnn.no_grad():
        x.mul_(3)
    loss.backward()
    assert x.grad.tolist() == [2, 2]
