"""autograd.grad and backward(create_graph=True), and programs that use them, by hand and against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn, ops
from fastnn.autograd import formulas, second
from fastnn.errors import ArgumentError, GraphError, NonFiniteError, ShapeError

RNG = np.random.default_rng(0)


def leaf(*values: float) -> fnn.Tensor:
    return fnn.Tensor(np.array(values), requires_grad=True)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_derivatives_of_any_order() -> None:
    """x⁴ at 2: 32, 48, 48, 24, 0."""
    x = leaf(2.0)
    y, found = (x**4).sum(), []
    for _ in range(5):
        (y,) = fnn.autograd.grad(y.sum(), x, create_graph=True)
        found.append(y.item())
    assert found == [32, 48, 48, 24, 0]


def test_gradients_of_computed_tensors_and_of_several_outputs() -> None:
    x = leaf(1.0, 2.0)
    h = x * 3
    a, b = (h * h).sum(), h.sum()
    of_h, of_x = fnn.autograd.grad([a, b], [h, x], retain_graph=True)
    assert of_h.tolist() == [7, 13]
    assert of_x.tolist() == [21, 39]
    assert x.grad is None
    (weighted,) = fnn.autograd.grad(h, x, grad_outputs=[np.array([1.0, 10.0])], retain_graph=True)
    assert weighted.tolist() == [3, 30]
    assert not weighted.requires_grad


def test_only_what_is_needed_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of an input does not compute those of parameters."""
    seen: list[tuple[bool, ...]] = []
    right = ops.dense.Linear.backward

    def backward(ctx: Any, grad: Any) -> Any:
        seen.append(ctx.needs_input_grad)
        return right(ctx, grad)

    monkeypatch.setattr(ops.dense.Linear, "backward", staticmethod(backward))
    x = fnn.Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    fnn.autograd.grad(nn.Linear(3, 1)(x).sum(), x)
    assert seen == [(True, False, False)]


def test_the_graph_is_freed_unless_it_is_kept() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    fnn.autograd.grad(y, x, create_graph=True)
    fnn.autograd.grad(y, x)
    with pytest.raises(GraphError, match="freed by an earlier backward"):
        fnn.autograd.grad(y, x)


LASTING: dict[str, Any] = {
    "cast": lambda x: x.double().float(),
    "view": lambda x: x.view(2, 2).t()[:, 1:],
    "joined": lambda x: fnn.cat([x, x.flip(0)]),
    "sums": lambda x: 1 - (x + x).sum(),
    "repeated": lambda x: x.expand(3, 4).cumsum(0),
}


@pytest.mark.parametrize("name", LASTING)
def test_what_keeps_no_arrays_serves_several_backwards(name: str) -> None:
    """x = torch.tensor(..., requires_grad=True).float() once, a loss of it in every iteration: as in PyTorch."""
    torch = pytest.importorskip("torch")
    given = np.arange(1, 5, dtype=np.float32)
    x, twin = fnn.Tensor(given, requires_grad=True), torch.tensor(given, requires_grad=True)
    y = LASTING[name](x)
    other = {"joined": lambda x: torch.cat([x, x.flip(0)])}.get(name, LASTING[name])(twin)
    for _ in range(2):
        (y * y).sum().backward()
        (other * other).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, twin.grad.numpy(), rtol=1e-6)
    (slope,) = fnn.autograd.grad((y * y).sum(), x)
    (expected,) = torch.autograd.grad((other * other).sum(), twin)
    np.testing.assert_allclose(slope.numpy(), expected.numpy(), rtol=1e-6)


@pytest.mark.parametrize("function", [lambda x: x * 2, lambda x: x.exp(), lambda x: x.view(2, 2) @ x.view(2, 2)])
def test_what_keeps_arrays_serves_one(function: Any) -> None:
    x = leaf(1.0, 2.0, 3.0, 4.0)
    y = function(x).reshape(-1) + 1
    y.sum().backward()
    with pytest.raises(GraphError, match="freed by an earlier backward"):
        y.sum().backward()


def test_unused_inputs() -> None:
    x, other = leaf(1.0), leaf(2.0, 3.0)
    y = (x * x).sum()
    with pytest.raises(GraphError, match="do not depend on input 1"):
        fnn.autograd.grad(y, [x, other], retain_graph=True)
    assert fnn.autograd.grad(y, [x, other], retain_graph=True, allow_unused=True)[1] is None
    assert fnn.autograd.grad(y, [x, other], materialize_grads=True)[1].tolist() == [0, 0]


def test_what_grad_refuses() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(GraphError, match="expected a scalar"):
        fnn.autograd.grad(x * 2, x)
    with pytest.raises(ShapeError, match="gradient of shape"):
        fnn.autograd.grad(x * 2, x, np.ones(3))
    with pytest.raises(GraphError, match="requires no gradient"):
        fnn.autograd.grad(x.detach().sum(), x)
    with pytest.raises(GraphError, match="inputs that require"):
        fnn.autograd.grad(x.sum(), x.detach())
    with pytest.raises(ArgumentError, match="a gradient for each"):
        fnn.autograd.grad([x.sum(), x.sum()], x, [None])
    with pytest.raises(ArgumentError, match="is_grads_batched"):
        fnn.autograd.grad(x.sum(), x, is_grads_batched=True)


def test_backward_into_chosen_inputs() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x * w).sum().backward(inputs=[w])
    assert x.grad is None
    assert w.grad.tolist() == [1, 2]


def test_backward_on_the_tape() -> None:
    """`.grad` is a tensor, adds up, and serves an optimiser."""
    x = leaf(1.0, 2.0)
    ((x**3).sum()).backward(create_graph=True)
    assert isinstance(x.grad, fnn.Tensor)
    first = x.grad
    x.grad = None
    first.sum().backward()
    assert x.grad.tolist() == [6, 12]
    ((x**3).sum()).backward(create_graph=True)
    assert x.grad.tolist() == [9, 24]
    (x * 1).sum().backward()
    assert x.grad.tolist() == [10, 25]
    fnn.optim.SGD([x], lr=1.0).step()
    assert x.data.tolist() == [-9, -23]


def test_parts_of_a_freed_graph_that_lead_nowhere_wanted() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    h = w * 2
    h.sum().backward()
    y = (x * h.detach()).sum() + h.sum()
    assert fnn.autograd.grad(y, x)[0].tolist() == [6, 8]


# ---- a user's own ----------------------------------------------------------------------------------------------------


class Cube(fnn.Function):
    """Written for arrays; arithmetic alone."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        (x,) = ctx.saved_tensors
        return grad * 3 * x**2


class Exponential(fnn.Function):
    """Keeps its output, in an attribute, and calls NumPy in backward."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.y = np.exp(x)
        return ctx.y

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return np.where(ctx.y > 0, grad * np.sqrt(ctx.y) * np.sqrt(ctx.y), 0)


def own(forward: Callable[..., Any], backward: Callable[..., Any]) -> type[fnn.Function]:
    return type("Own", (fnn.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def test_a_function_of_arrays_has_second_derivatives() -> None:
    assert fnn.gradgradcheck(Cube.apply, np.array([1.0, -2.0]))
    assert fnn.gradgradcheck(Exponential.apply, np.array([1.0, -2.0]))
    assert fnn.gradgradcheck(Exponential.apply, np.array(0.5))


def test_what_cannot_be_differentiated_says_so() -> None:
    def square(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    def keeps_more(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(2 * x)
        return x * x

    cases = [
        (own(keeps_more, lambda ctx, grad: grad * ctx.saved_tensors[0]), "neither an input nor the output"),
        (own(square, lambda ctx, grad: grad * 2 * np.asarray(ctx.saved_tensors[0])), "would cut a tensor"),
        (own(square, lambda ctx, grad: np.cumsum(grad * ctx.saved_tensors[0])), "np.cumsum"),
        (own(square, lambda ctx, grad: ctx.kernels.no_such(grad)), "no_such"),
    ]
    for function, reason in cases:
        with pytest.raises(GraphError, match=f"(?s)the gradient of Own cannot be differentiated.*{reason}"):
            function.apply(leaf(1.0, 2.0)).sum().backward(create_graph=True)


def test_a_value_that_was_changed_in_place() -> None:
    x = leaf(1.0, 2.0)
    loss = ops.mse_loss(x, np.zeros(2))
    with fnn.no_grad():
        x += 1
    with pytest.raises(GraphError, match="modified in place"):
        fnn.autograd.grad(loss, x, create_graph=True)


def test_a_wrong_formula_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.array([0.3, -1.0, 0.7])
    assert fnn.gradgradcheck(ops.tanh, x)
    right = formulas.Kernels.tanh_backward_input
    monkeypatch.setattr(
        formulas.Kernels, "tanh_backward_input", staticmethod(lambda grad, y: right(grad, y) + 0.01 * y)
    )
    with pytest.raises(fnn.insight.GradientError):
        fnn.gradgradcheck(ops.tanh, x)
    known = second.FORMULAS[ops.loss.MSE]
    monkeypatch.setitem(second.FORMULAS, ops.loss.MSE, lambda op, grad: (1.01 * known(op, grad)[0], None))
    with pytest.raises(fnn.insight.GradientError):
        fnn.gradgradcheck(lambda x: ops.mse_loss(x, np.zeros(3)), x)


def test_nan_is_traced_to_its_operator() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    model[0].weight.data[...] = 0
    x = fnn.Tensor(np.ones((1, 2), np.float32))
    with np.errstate(all="ignore"), fnn.autograd.detect_anomaly():
        assert fnn.autograd.is_anomaly_enabled()
        with pytest.raises(NonFiniteError, match="Sqrt gave NaN"):
            ((model(x) * 0).sqrt() * 0).sum().backward()
        with pytest.raises(NonFiniteError, match="Sqrt gave NaN"):
            ((model(x) * 0).sqrt() * 0).sum().backward(create_graph=True)
    assert not fnn.autograd.is_anomaly_enabled()


# ---- against PyTorch -------------------------------------------------------------------------------------------------


def both(program: Callable[..., Any], *arrays: Any) -> None:
    """The program's results under both packages, for float64 leaves of these values."""
    torch = pytest.importorskip("torch")
    ours = program(fnn, ops, fnn.autograd.grad, *(fnn.Tensor(a, requires_grad=True) for a in arrays))
    theirs = program(
        torch, torch.nn.functional, torch.autograd.grad, *(torch.tensor(a, requires_grad=True) for a in arrays)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(
            np.asarray(one.detach() if isinstance(one, fnn.Tensor) else one), other.detach().numpy(), 1e-10, 1e-10
        )


def pinn(package: ModuleType, F: Any, grad: Any, x: Any, w1: Any, b1: Any, w2: Any) -> list[Any]:
    """Burgers' equation: u_t + u·u_x = 0.01 u_xx, on a net of two layers."""
    u = F.linear(F.linear(x, w1, b1).tanh(), w2)
    (of_x,) = grad(u.sum(), x, create_graph=True)
    u_t, u_x = of_x[:, 1:], of_x[:, :1]
    (second_,) = grad(u_x.sum(), x, create_graph=True)
    residual = u_t + u * u_x - 0.01 * second_[:, :1]
    loss = (residual * residual).mean()
    loss.backward()
    return [loss, u_x, second_, w1.grad, b1.grad, w2.grad, x.grad]


def test_pinn() -> None:
    both(pinn, RNG.normal(size=(7, 2)), RNG.normal(size=(5, 2)), RNG.normal(size=5), RNG.normal(size=(1, 5)))


@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "silu", "gelu", "sigmoid", "relu"])
def test_gradient_penalty(activation: str) -> None:
    """WGAN-GP on strided convolutions with each activation."""

    def program(package: Any, F: Any, grad: Any, x: Any, w: Any, b: Any, last: Any) -> list[Any]:
        h = getattr(F, activation)(F.conv2d(x, w, b, (2, 1), (1, 0), (1, 2)))
        h = F.avg_pool2d(F.max_pool2d(h, 2, 1), 2)
        out = h.flatten(1) @ last
        (g,) = grad(out, x, grad_outputs=[out.detach() * 0 + 1], create_graph=True)
        penalty = ((g.flatten(1).pow(2).sum(1).sqrt() - 1) ** 2).mean()
        (penalty * 10 - out.mean()).backward()
        return [penalty, w.grad, b.grad, last.grad, x.grad] if activation != "relu" else [penalty, w.grad, last.grad]

    shapes = (2, 3, 8, 9), (4, 3, 3, 2), (4,)
    both(program, *(RNG.normal(size=shape) for shape in shapes), RNG.normal(size=(4 * 1 * 3, 1)))


def test_hessians_of_networks_with_batch_norm_and_losses() -> None:
    """Hessian-vector products of a whole network."""

    def program(package: Any, F: Any, grad: Any, x: Any, w: Any, g: Any, b: Any, v: Any) -> list[Any]:
        h = F.batch_norm(x, None, None, g, b, True)
        logits = F.linear(F.softmax(h, -1) + h.exp() / 5, w)
        labels = np.array([0, 2, 1, 1, 0])
        loss = F.cross_entropy(logits, labels if package is fnn else package.tensor(labels), label_smoothing=0.1)
        loss = loss + F.binary_cross_entropy_with_logits(logits[:, 0], logits.detach()[:, 1] * 0 + 0.3)
        slopes = grad(loss, [x, w, g, b], create_graph=True)
        return list(grad((slopes[0] * v).sum() + (slopes[1] ** 2).sum(), [x, w, g, b, v]))

    shapes = (5, 4), (3, 4), (4,), (4,), (5, 4)
    both(program, *(RNG.normal(size=shape) for shape in shapes))


def test_joining_and_choosing() -> None:
    def program(package: Any, F: Any, grad: Any, a: Any, b: Any) -> list[Any]:
        y = package.cat([a, b * b], 1)[[0, 2, 2]] ** 3
        y = package.where(y > 0, y, y * 0.5).clamp(-3, 3).permute(1, 0).reshape(-1)
        y = package.stack([y, y.exp()]).max(0)[0] * abs(y).sqrt()
        slopes = grad(y.sum(), [a, b], create_graph=True)
        return list(grad(sum((s * s).sum() for s in slopes), [a, b]))

    both(program, RNG.normal(size=(3, 2)), RNG.normal(size=(3, 4)))


def test_third_derivatives_of_convolutions() -> None:
    def program(package: Any, F: Any, grad: Any, x: Any, w: Any) -> list[Any]:
        y = (F.conv2d(x, w, None, 2, 1, groups=2) ** 2).mean()
        for _ in range(2):
            gx, gw = grad(y, [x, w], create_graph=True)
            y = (gx * gx).sum() + (gw**3).sum()
        return [y, *grad(y, [x, w])]

    both(program, RNG.normal(size=(2, 4, 5, 5)) / 4, RNG.normal(size=(6, 2, 3, 3)) / 4)


@pytest.mark.parametrize("kind", ["ReLU", "LeakyReLU", "ReLU6", "Softplus", "Identity"])
def test_penalties_leave_zeros_where_pytorch_does(kind: str) -> None:
    """The bias before a slope that is constant but for jumps has the gradient 0, with which Adam goes on; what a
    penalty on gradients does not depend on at all has none."""
    net = nn.Sequential(nn.Linear(3, 4), getattr(nn, kind)(), nn.Linear(4, 1))
    x = fnn.Tensor(RNG.normal(size=(5, 3)).astype(np.float32), requires_grad=True)

    def penalty() -> fnn.Tensor:
        return fnn.autograd.grad(net(x).sum(), x, create_graph=True)[0].pow(2).sum()

    penalty().backward()
    bias = net[0].bias.grad
    assert net[2].bias.grad is None
    if kind == "Identity":
        assert bias is None
    else:
        assert (np.abs(bias).max() > 0) == (kind == "Softplus")
        (again,) = fnn.autograd.grad(penalty(), net[0].bias)
        np.testing.assert_allclose(again.numpy(), bias, rtol=1e-5)
        before = bias.copy()
        handle = net[0].weight.register_hook(lambda g: g)  # by the engine that hooks need
        penalty().backward()
        handle.remove()
        np.testing.assert_allclose(net[0].bias.grad, 2 * before, rtol=1e-5)
