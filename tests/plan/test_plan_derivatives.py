"""Models and losses that take gradients themselves, compiled: the same as eager, and native where there are kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from operator_cases import interpreted

import fastnn as fnn
from fastnn import nn, optim
from fastnn.autograd import grad
from fastnn.errors import GraphError

RNG = np.random.default_rng(4)


class Residual(nn.Module):
    """Burgers' equation, u_t + u·u_x = 0.01·u_xx, for a net of two inputs."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 12), activation, nn.Linear(12, 12), activation, nn.Linear(12, 1))

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        x = x.clone().requires_grad_(True)
        u = self.net(x)
        (of_x,) = grad(u, x, grad_outputs=u.detach() * 0 + 1, create_graph=True)
        (second,) = grad(of_x[:, 0].sum(), x, create_graph=True)
        return of_x[:, 1:] + u * of_x[:, :1] - 0.01 * second[:, :1]


class Penalty(nn.Module):
    """The gradient penalty of a critic, and the critic."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.critic = nn.Sequential(*layers)

    def forward(self, x: fnn.Tensor) -> fnn.Tensor:
        x.requires_grad_(True)
        out = self.critic(x)
        (g,) = grad(out.sum(), x, create_graph=True)
        norms = (g.reshape(len(g), -1).pow(2).sum(1) + 1e-6).sqrt()
        return (out.sum(1) + 10 * (norms - 1) ** 2).reshape(-1, 1)


def dense(activation: nn.Module) -> Callable[[], nn.Module]:
    return lambda: Residual(activation)


def critic(*between: nn.Module) -> nn.Module:
    layers = (nn.Conv2d(2, 4, 3, (2, 1), 1), *between, nn.Conv2d(4, 4, 3, groups=2), nn.LeakyReLU(0.2), nn.Flatten())
    return Penalty(*layers, nn.Linear(4 * 2 * 5, 1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "pinn, tanh": (dense(nn.Tanh()), (9, 2)),
    "pinn, sigmoid": (dense(nn.Sigmoid()), (9, 2)),
    "pinn, silu": (dense(nn.SiLU()), (9, 2)),
    "penalty, relu": (lambda: critic(nn.ReLU()), (3, 2, 8, 7)),
    "penalty, elu": (lambda: critic(nn.ELU(), nn.BatchNorm2d(4).eval()), (3, 2, 8, 7)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_are_those_of_eager(name: str) -> None:
    make, shape = NETWORKS[name]
    x, y = RNG.normal(size=shape).astype(np.float32), np.zeros((shape[0], 1), np.float32)
    found = []
    for compiled in (False, True):
        fnn.manual_seed(1)
        model, loss_fn = make(), nn.MSELoss()
        optimizer = optim.Adam(model.parameters(), lr=1e-3)
        step, losses = fnn.compile(model, loss_fn, optimizer), []
        for _ in range(5):
            if compiled:
                losses.append(step(x, y))
                continue
            optimizer.zero_grad()
            loss = loss_fn(model(fnn.Tensor(x)), fnn.Tensor(y))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        if compiled:
            assert interpreted(step) == []
        found.append([np.array(losses), *(p.data for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-6)


def test_predictions_of_what_takes_a_gradient() -> None:
    class Slope(Residual):
        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            with fnn.enable_grad():
                return super().forward(x).detach()

    model, x = Slope(nn.Tanh()), RNG.normal(size=(5, 2)).astype(np.float32)
    np.testing.assert_allclose(fnn.compile(model)(x), model(x).numpy(), 1e-5, 1e-6)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), nn.MaxPool2d(2)], ids=str)
def test_what_is_known_in_a_run_alone_is_refused(layer: nn.Module) -> None:
    """What was dropped, and where maxima are: a plan cannot take it from the trace."""
    model = Penalty(nn.Conv2d(2, 4, 3), layer, nn.Flatten(), nn.Tanh())
    with pytest.raises(GraphError, match=r"while a plan is made|neither an input nor the output"):
        fnn.compile(model, nn.MSELoss())(np.ones((3, 2, 8, 8), np.float32), np.ones((3, 1), np.float32))


def test_a_function_of_ones_own() -> None:
    """Its second derivative is traced, too; by what it keeps."""

    class Cube(fnn.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 3 * ctx.saved_tensors[0] ** 2

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(np.ones(3))

        def forward(self, x: fnn.Tensor) -> fnn.Tensor:
            (g,) = grad(Cube.apply(self.w * x).sum(), self.w, create_graph=True)
            return g * x

    model, x = Model(), np.array([[1.0, 2.0, 3.0]], np.float32)
    step = fnn.compile(model, nn.MSELoss())
    assert step(x, 0 * x) == pytest.approx((model(x).detach().numpy() ** 2).mean(), 1e-6)
    compiled = model.w.grad.copy()
    model.zero_grad()
    nn.MSELoss()(model(x), 0 * x).backward()
    np.testing.assert_allclose(compiled, model.w.grad, 1e-5)


def cubed(z: Any) -> Any:
    return (z**3).sum()


def asked(x: Any, **options: Any) -> Any:
    z = x.detach().requires_grad_()
    return fnn.autograd.grad(cubed(z), z, **options)[0]


WITHIN: dict[str, Callable[[Any], Any]] = {
    "func.grad": lambda x: fnn.func.grad(cubed)(x),
    "func.vjp": lambda x: fnn.func.vjp(lambda z: z**3, x)[1](x)[0],
    "func.jacrev": lambda x: fnn.func.jacrev(lambda z: (z**3).sum(0))(x).sum(0),
    "func.jvp": lambda x: fnn.func.jvp(lambda z: z**3, (x,), (x,))[1],
    "func.hvp": lambda x: fnn.func.hvp(cubed, x, x),
    "autograd.grad": asked,
    "autograd.grad, kept": lambda x: asked(x, retain_graph=True),
    "autograd.grad, on the tape": lambda x: asked(x, create_graph=True),
}


@pytest.mark.parametrize("kind", WITHIN)
def test_derivatives_within_forward(kind: str) -> None:
    """Those that are not on the tape themselves ended in a ValueError about values to unpack."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: Any) -> Any:
            h = self.layer(x)
            return h + WITHIN[kind](x)[:, :3] * WITHIN[kind](h)

    x, y = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32), np.arange(5) % 3
    fnn.manual_seed(0)
    model = Model()
    loss = nn.CrossEntropyLoss()(model(x), y)
    loss.backward()
    expected = [p.grad.copy() for p in model.parameters()]
    model.zero_grad()
    assert fnn.compile(model, nn.CrossEntropyLoss())(x, y) == pytest.approx(loss.item(), rel=1e-5)
    for p, gradient in zip(model.parameters(), expected, strict=True):
        np.testing.assert_allclose(p.grad, gradient, rtol=1e-4, atol=1e-5)
